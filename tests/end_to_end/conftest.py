"""A scratch supernet, its profile on the target null, and a way to run the commands as a user types them."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ofa_tvm.bundle.files import check_files
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.metadata import DataDescription, SupernetDescription, TrainingRecord
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training.accuracy_runs import subnets_to_measure
from ofa_tvm.training.characters import MEAN, STD
from ofa_tvm.training.glyphs import CLASS_NAMES
from ofa_tvm.training.records import CALIBRATION_IMAGES, HELD_OUT_IMAGES, AccuracyRecord, append_accuracy_record

from ..processes import await_true, lives

REPOSITORY = Path(__file__).parents[2]
Shared = Callable[[str, Callable[[Path], None]], Path]
PATIENCE_S = 840.0
MARK = "OFA_TVM_TEST_MARK"

# What a command may say on stderr beside its one line of error: its plan, its steps, its counts.
_SAID = re.compile(
    r"(profile|deploy|candidate|measured|tuned|device|copying|installing it|starting the RPC|[a-z ]+:) ?\S.*"
    r"|(the latency predictor|kernels were) .*"
    r"|\S+ (is at tracker|is stopped|is set up) .*|waiting for a device, .*|there is a device again"
    r"|.* (is set aside for|is gone;) .*"
)


@dataclass
class Run:
    """One command that is running or has ended, with a temporary directory and a mark of its own."""

    process: subprocess.Popen[str]
    temporary: Path
    mark: str
    code: int = 0
    stdout: str = ""
    stderr: str = ""
    seen: list[str] = field(default_factory=list)

    @property
    def result(self) -> Any:
        """What ``--json`` printed."""
        return json.loads(self.stdout)

    def wait_for(self, text: str) -> None:
        """Read stderr up to the line that holds `text`, or to its end."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.seen.append(line)
            if text in line:
                return

    def finish(self) -> Run:
        """Wait for the end; no process and no temporary file may be left by then."""
        self.stdout, rest = self.process.communicate(timeout=PATIENCE_S)
        self.stderr, self.code = "".join(self.seen) + rest, self.process.returncode
        return self

    def leaves_nothing(self) -> None:
        """No process of the command, and nothing in its temporary directory."""
        await_true(lambda: not self.processes(), 60, what=self.processes)  # those that were killed may be ending
        # torch's compiler keeps one cache a user there, which importing an optimiser is enough to create.
        assert [path.name for path in self.temporary.iterdir() if not path.name.startswith("torchinductor_")] == []

    def processes(self) -> list[psutil.Process]:
        """Whatever lives of what the command started, in whichever session or group."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and lives(process):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def fails(self, code: int, *fragments: str) -> str:
        """The command failed as it should: this exit code, one line that holds the fragments, nothing left."""
        lines = self.stderr.splitlines()
        assert self.code == code, self.stderr
        assert "Traceback" not in self.stderr
        said, line = lines[:-1], lines[-1]
        assert line.startswith("interrupted: " if code == 130 else "error: "), self.stderr
        assert [text for text in said if not _SAID.fullmatch(text) or text.startswith(("error", "interr"))] == []
        for fragment in fragments:
            assert fragment in line
        assert self.stdout == ""
        self.leaves_nothing()
        return line


@dataclass(frozen=True)
class Commands:
    """Runs ``python -m ofa_tvm.<verb>`` in a folder that is no repository."""

    folder: Path
    supernet: Path

    def start(self, verb: str, *options: object, prefix: tuple[str, ...] = (), **environment: str) -> Run:
        mark = uuid.uuid4().hex
        temporary = self.folder / f"tmp-{mark[:8]}"
        temporary.mkdir()
        inherited = {name: value for name, value in os.environ.items() if name != "OFA_TVM_TRACKER"}
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", f"ofa_tvm.{verb}", *map(str, options)],
            cwd=self.folder,
            env={
                **inherited,
                "PYTHONPATH": str(REPOSITORY),
                "TMPDIR": str(temporary),
                "OMP_NUM_THREADS": "1",
                MARK: mark,
                **environment,
            },
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return Run(process, temporary, mark)

    def run(self, verb: str, *options: object, prefix: tuple[str, ...] = (), **environment: str) -> Run:
        return self.start(verb, *options, prefix=prefix, **environment).finish()

    def succeed(self, verb: str, *options: object, **environment: str) -> Run:
        run = self.run(verb, *options, **environment)
        assert run.code == 0, run.stderr
        assert "Traceback" not in run.stderr
        run.leaves_nothing()
        return run


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    """Small, so that all its kernels are soon built and measured: two of each choice, in a thin net."""
    return SearchSpace(
        width_multiplier=0.25,
        num_classes=len(CLASS_NAMES),
        resolutions=(24, 32),
        depths=(2, 3),
        kernel_sizes=(3, 5),
        expand_ratios=(3, 6),
    )


@pytest.fixture(scope="session")
def supernet(space: SearchSpace, shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet of random weights, with invented accuracies that grow with the arithmetic; read only."""

    def fill(folder: Path) -> None:
        write_supernet(folder, space)
        Commands(tmp_path_factory.mktemp("accuracy"), folder).succeed("accuracy", "--supernet", folder)

    return shared("supernet", fill)


def write_supernet(path: Path, space: SearchSpace) -> None:
    import torch

    torch.manual_seed(0)
    description = SupernetDescription(
        name="scratch",
        class_names=tuple(CLASS_NAMES),
        mean=MEAN,
        std=STD,
        data=DataDescription(kind="characters", calibration_seed=1, held_out_seed=2),
        training=TrainingRecord(command="none", seed=0, batch_size=1, phases=(), finished="", versions={}),
    )
    folder = save_supernet(path, Supernet(space), description)
    for architecture in subnets_to_measure(space, 60, seed=0):
        macs = sum(workload.macs for workload in workloads(space, architecture))
        accuracy = 0.5 + 0.1 * float(np.log10(macs / 1e6))
        digest = folder.metadata.weights_sha256
        record = AccuracyRecord(architecture, accuracy, HELD_OUT_IMAGES, CALIBRATION_IMAGES, digest)
        append_accuracy_record(folder.accuracy_files(path).records, record)


@pytest.fixture
def commands(supernet: Path, tmp_path: Path) -> Iterator[Commands]:
    """Run commands in the test's folder; whatever is left of them at its end is killed."""
    yield (runner := Commands(tmp_path, supernet))
    marks = {path.name.removeprefix("tmp-") for path in runner.folder.glob("tmp-*")}
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "")[:8] in marks:
                process.send_signal(signal.SIGKILL)
        except (psutil.Error, OSError):
            continue


@pytest.fixture(scope="session")
def new_commands(supernet: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Commands]:
    """Run commands in a folder of the whole session."""
    return lambda name: Commands(tmp_path_factory.mktemp(name), supernet)


@pytest.fixture(scope="session")
def null_runs(supernet: Path, shared: Shared) -> Path:
    """The ``--runs`` folder of a profile on null: copy it and write to the copy."""

    def fill(folder: Path) -> None:
        options = ("--target", "null", "--supernet", supernet, "--subnets", 12)
        Commands(folder, supernet).succeed("profile", *options)

    return shared("profiled on null", fill) / "runs"


@pytest.fixture(scope="session")
def front_ms(supernet: Path, null_runs: Path, shared: Shared) -> list[float]:
    """Predicted latencies in milliseconds along the Pareto front on null, ascending."""

    def fill(folder: Path) -> None:
        shutil.copytree(null_runs, folder / "runs")
        run = Commands(folder, supernet).succeed("search", "--target", "null", "--supernet", supernet, "--json")
        (folder / "result.json").write_text(run.stdout)

    result = json.loads((shared("searched on null", fill) / "result.json").read_text())
    return [candidate["predicted_latency_ms"] for candidate in result["front"]]


@pytest.fixture(scope="session")
def bundle(supernet: Path, null_runs: Path, front_ms: list[float], shared: Shared) -> Path:
    """A bundle deployed on null with a generous budget; read only."""

    def fill(folder: Path) -> None:
        shutil.copytree(null_runs, folder / "runs")
        options = ("--target", "null", "--supernet", supernet, "--tune-minutes", 0)
        Commands(folder, supernet).succeed("deploy", *options, "--latency", 10 * front_ms[-1], "--out", "bundle")

    return shared("deployed on null", fill) / "bundle"


@pytest.fixture(scope="session")
def null_runs_with_kernels(bundle: Path) -> Path:
    """As `null_runs`, with the object code of the bundle's kernels, which deploying needs again."""
    return bundle.parent / "runs"


@pytest.fixture
def interrupt(commands: Commands) -> Callable[[Run, str, signal.Signals, float], None]:
    """Interrupt a deploy to ``out/bundle`` about so long after a line on stderr, and see what it leaves."""

    def call(run: Run, line: str, number: signal.Signals, delay_s: float) -> None:
        run.wait_for(line)
        time.sleep(delay_s * random.uniform(0.7, 1.3))
        run.process.send_signal(number)
        run.finish()
        if run.code == 0:  # the machine was quicker than the signal
            run.leaves_nothing()
        else:
            run.fails(130, "no file is half-written")
        out = commands.folder / "out"
        present = [path.name for path in out.iterdir()] if out.exists() else []
        assert present in ([], ["bundle"])
        if present:
            check_files(out / "bundle")

    return call


@pytest.fixture(scope="session")
def records() -> Callable[[Path], list[dict[str, Any]]]:
    """The measurements below a ``--runs`` folder, without their time stamps, in the order they were made.

    A line that a command was killed at is none.
    """

    def read(runs: Path) -> list[dict[str, Any]]:
        found = []
        for line in itertools.chain.from_iterable(
            path.read_text().rpartition("\n")[0].splitlines() for path in runs.glob("*/records.jsonl")
        ):
            record = json.loads(line)
            record["outcome"].pop("timestamp")
            found.append(record)
        return found

    return read
