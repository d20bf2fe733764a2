"""Whatever is wrong with the input: the exit code of its kind, one line, nothing half-written, nothing left running."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess

import pytest

from ofa_tvm.supernet.checkpoint import load_supernet, save_supernet
from ofa_tvm.supernet.metadata import SupernetDescription, find_supernet

TARGET = """\
description: The null device under another name
emulated: true
tvm_target: host
device: {kind: 'null', key: 'null'}
"""


@pytest.fixture
def deploy(commands, supernet, null_runs):
    """Deploy on null, from a copy of the profile in ``runs``; the options given win."""
    shutil.copytree(null_runs, commands.folder / "runs")

    def call(prefix=(), **options):
        every = {"target": "null", "supernet": supernet, "runs": "runs", "latency": 9, "tune-minutes": 0, **options}
        line = [part for name, value in every.items() for part in (f"--{name}", value)]
        return commands.run("deploy", *line, prefix=prefix)

    yield call
    assert not list(commands.folder.glob("runs/null/scratch/deployed*"))
    assert not list(commands.folder.glob("**/.*"))  # temporary names of what is written atomically


@pytest.fixture
def copied(supernet, commands):
    """A copy of the supernet to damage."""
    return shutil.copytree(supernet, commands.folder / "copied")


def test_an_unknown_target(deploy):
    deploy(target="rasp5").fails(2, "no target 'rasp5', did you mean 'rasp4'?", "local, null, rasp3, rasp4")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("device: {kind: 'null'", "line 1: not YAML"),
        ("a list\n", "a target is a mapping"),
        ("", "a target is a mapping"),
        ("\0", "not YAML"),
        (f"{TARGET}thread: 2\n", "unknown key 'thread', did you mean 'threads'?"),
        (f"{TARGET}threads: 0\n", "threads"),
        (f"{TARGET}threads: many\n", "threads"),
        (f"{TARGET}measurement: {{repeat: 3}}\n", "unknown key 'measurement.repeat', did you mean 'repeats'?"),
        (TARGET.replace("kind: 'null'", "kind: usb"), "device.kind"),
        (f"{TARGET}threads: 3\ncpu: {{cores: 2}}\n", "threads: 3 is more than the 2 of cpu.cores"),
        (TARGET.replace("emulated: true\n", "").replace("description", "# "), "missing key 'description'"),
    ],
)
def test_a_target_file_that_is_none(deploy, commands, text, fragment):
    (commands.folder / "mine.yaml").write_text(text)
    deploy(target="mine.yaml").fails(2, "mine.yaml", fragment)


def test_a_target_file_that_is_missing_or_a_directory(deploy, commands):
    (commands.folder / "folder.yaml").mkdir()
    for name in ("missing.yaml", "folder.yaml"):
        deploy(target=name).fails(2, f"no target file {name}", "known targets:")


def test_a_target_file_of_ones_own(commands, supernet):
    (commands.folder / "mine.yaml").write_text(TARGET)
    options = ("--target", "mine.yaml", "--supernet", supernet, "--resolutions", 24, "--subnets", 10, "--json")
    result = commands.succeed("profile", *options).result
    assert result["target"] == "mine"
    assert (commands.folder / "runs/mine/records.jsonl").exists()


@pytest.mark.parametrize("latency", ["-1", "0,1", "30 parsecs"])
def test_a_budget_that_is_none(deploy, latency):
    deploy(latency=latency).fails(
        2, f"'--latency': {latency!r} is no latency", "70us", "python -m ofa_tvm.deploy --help"
    )


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"tune-minutes": -1}, "'--tune-minutes'"),
        ({"tune-minutes": "nan"}, "'--tune-minutes'"),
        ({"max-attempts": 0}, "'--max-attempts'"),
        ({"seed": -1}, "'--seed'"),
        ({"latecy": 3}, "No such option: --latecy"),
    ],
)
def test_an_option_that_is_none(deploy, options, fragment):
    deploy(**options).fails(2, fragment)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (("--resolutions", "25"), "25 is not in this space; there are 24, 32"),
        (("--resolutions", "24;32"), "give numbers with commas between"),
        (("--subnets", 3), "'--subnets'"),
        (("--subnets", 10**9), "--subnets"),
    ],
)
def test_a_profile_that_cannot_be_made(commands, supernet, options, fragment):
    run = commands.run("profile", "--target", "null", "--supernet", supernet, *options)
    run.fails(2, fragment)
    assert not (commands.folder / "runs").exists()


def test_a_supernet_that_is_missing(deploy, commands):
    (commands.folder / "empty").mkdir()
    for name in ("nowhere", "empty", "/dev/null"):
        deploy(supernet=name).fails(2, f"no supernet '{name}'")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"format": 1', '"format": 99'),
        lambda text: text.replace("mobilenet_v3", "mobilenet_v9"),
        lambda text: text.replace('"name"', '"nom"'),
        lambda text: text.replace('"resolutions": [', '"resolutions": [-8,'),
    ],
    ids=["torn", "list", "newer", "family", "key", "resolution"],
)
def test_a_supernet_whose_metadata_is_damaged(deploy, copied, damage):
    path = copied / "supernet.json"
    path.write_text(damage(path.read_text()))
    deploy(supernet=copied).fails(2, "copied/supernet.json")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("name", "../../x", "name: '../../x' is no name: use at most 100 letters"),
        ("std", [0.25, 0, 0.25], "std.1: Input should be"),
        ("std", [0.25, float("nan"), 0.25], "std.1: Input should be a finite number"),
    ],
)
def test_a_supernet_that_would_do_harm_later(deploy, copied, commands, key, value, named):
    path = copied / "supernet.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    before = sorted(commands.folder.parent.iterdir())
    deploy(supernet=copied).fails(2, "copied/supernet.json", named)
    assert sorted(commands.folder.parent.iterdir()) == before
    assert not (commands.folder / "x").exists()


def test_weights_in_place_of_those_the_accuracy_predictor_was_trained_for(deploy, copied):
    path = copied / "supernet.json"
    content = json.loads(path.read_text())
    network = load_supernet(find_supernet(str(copied)))
    network.classifier.linear.bias.data.add_(1)
    save_supernet(copied, network, description_of(copied))
    assert json.loads(path.read_text())["weights_sha256"] != content["weights_sha256"]
    deploy(supernet=copied).fails(
        2, "copied/accuracy_predictor", "other weights", "python -m ofa_tvm.accuracy --supernet"
    )


def description_of(folder):
    metadata = find_supernet(str(folder)).metadata
    return SupernetDescription(**{name: getattr(metadata, name) for name in SupernetDescription.model_fields})


@pytest.mark.parametrize("damage", [lambda data: data[:-9], None], ids=["torn", "missing"])
def test_a_supernet_whose_weights_are_damaged(deploy, copied, damage):
    path = copied / "weights.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(damage(content))
    deploy(supernet=copied).fails(2, "copied/weights.safetensors", "copy the supernet again")


@pytest.mark.parametrize("name", ["metadata.json", "weights.safetensors"])
def test_an_accuracy_predictor_that_is_damaged(deploy, copied, name):
    path = copied / "accuracy_predictor" / name
    path.write_bytes(path.read_bytes()[:-20])
    deploy(supernet=copied).fails(2, f"accuracy_predictor/{name}", "python -m ofa_tvm.accuracy")


def test_a_supernet_without_accuracy_predictor(deploy, copied):
    shutil.rmtree(copied / "accuracy_predictor")
    deploy(supernet=copied).fails(2, "accuracy_predictor", "python -m ofa_tvm.accuracy")


@pytest.mark.parametrize("name", ["metadata.json", "booster.json"])
def test_a_latency_predictor_that_is_damaged(deploy, commands, name):
    path = commands.folder / "runs/null/scratch/latency_predictor" / name
    path.write_bytes(path.read_bytes()[:-20])
    deploy().fails(2, f"latency_predictor/{name}", "python -m ofa_tvm.profile")


@pytest.mark.parametrize("line", [b"{", b'{"record": "kernel"}', b"\xff\xfe"])
def test_a_record_damaged_before_the_last_line_is_named_and_kept(deploy, commands, supernet, line):
    path = commands.folder / "runs/null/records.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]))
    before = path.read_bytes()
    profile = commands.run("profile", "--target", "null", "--supernet", supernet, "--runs", "runs")
    profile.fails(2, "records.jsonl, line 3:", "remove the line or the file")
    assert path.read_bytes() == before


def test_a_torn_last_record_is_measured_again(commands, supernet, null_runs, records):
    runs = shutil.copytree(null_runs, commands.folder / "runs")
    path = runs / "null/records.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    commands.succeed("profile", "--target", "null", "--supernet", supernet, "--runs", runs, "--subnets", 12)
    assert records(runs) == records(null_runs)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [(b"not an image", "is no image"), (b"\x89PNG\r\n\x1a\n", "is no image"), (None, "no image")],
)
def test_an_image_that_is_none(commands, bundle, content, fragment):
    if content:
        (commands.folder / "photo.png").write_bytes(content)
    commands.run("bundle", "run", bundle, "photo.png").fails(2, "photo.png", fragment)


def test_a_bundle_that_is_none(commands, supernet):
    (commands.folder / "empty").mkdir()
    commands.run("bundle", "verify", "empty").fails(2, "empty")
    commands.run("bundle", "show", supernet).fails(2, str(supernet))
    commands.run("bundle", "run", "nowhere", "photo.png").fails(2, "nowhere")


def test_an_output_directory_that_is_taken(deploy, commands):
    (commands.folder / "file").write_text("mine")
    (commands.folder / "full").mkdir()
    (commands.folder / "full/letter.txt").write_text("mine")
    deploy(out="file").fails(2, "file is a file", "--out")
    deploy(out="full").fails(2, "full is not empty and no bundle", "--out")
    deploy(out="file/below").fails(2, "file/below", "--out")
    assert (commands.folder / "file").read_text() == (commands.folder / "full/letter.txt").read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of a given size in KiB, or a read-only one; for root only."""
    with contextlib.ExitStack() as stack:

        def mount(options):
            folder = tmp_path / "disk"
            folder.mkdir()
            line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
            if os.getuid() or subprocess.run(line, capture_output=True).returncode:
                pytest.skip("needs the right to mount a file system")
            stack.callback(subprocess.run, ["umount", "--lazy", folder], check=True)
            return folder

        yield mount


def test_an_output_directory_that_cannot_be_written_is_noticed_before_the_work(deploy, small_disk):
    disk = small_disk("ro")
    run = deploy(out=disk / "bundle")
    run.fails(2, "cannot write", "Read-only file system", "--out")
    assert "search:" not in run.stderr


def test_an_output_directory_where_no_bundle_can_be_run_is_noticed_before_the_work(deploy, small_disk):
    run = deploy(out=small_disk("noexec") / "bundle")
    run.fails(2, "is mounted noexec", "--out")
    assert "search:" not in run.stderr


def test_a_runs_folder_that_can_not_be_written_is_noticed_before_the_work(commands, supernet, null_runs, small_disk):
    disk = small_disk("size=20m")
    shutil.copytree(null_runs, disk / "runs")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    options = ("--target", "null", "--supernet", supernet, "--runs", disk / "runs", "--out", "bundle")
    run = commands.run("deploy", *options, "--latency", 1)
    run.fails(2, "cannot write", "Read-only file system")
    assert "search:" not in run.stderr
    searched = commands.run("search", *options[:-2])
    assert searched.code == 0, "who may only read a profile may search"
    assert "not kept: cannot write" in searched.stderr


@pytest.mark.slow
def test_a_full_output_disk_leaves_no_part_of_a_bundle(deploy, small_disk):
    disk = small_disk("size=100k")
    deploy(out=disk / "bundle").fails(2, "cannot write", "No space left on device", "--out")
    assert list(disk.iterdir()) == []


def test_records_on_a_full_disk_end_with_a_whole_line(commands, supernet):
    """A limit on the size of files, as a full disk would be met while measuring."""
    limit = ("bash", "-c", 'ulimit -f 64; exec "$@"', "limited")
    run = commands.run("profile", "--target", "null", "--supernet", supernet, prefix=limit)
    run.fails(2, "cannot write runs/null/records.jsonl", "File too large")
    lines = (commands.folder / "runs/null/records.jsonl").read_text().splitlines(keepends=True)
    assert lines
    assert all(line.endswith("\n") and json.loads(line)["record"] == "kernel" for line in lines)


def test_a_records_folder_that_cannot_be_written(commands, supernet, small_disk):
    run = commands.run("profile", "--target", "null", "--supernet", supernet, "--runs", small_disk("ro"))
    run.fails(2, "cannot write", "Read-only file system")


STRANGER = 12345
AS_STRANGER = (
    *("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),  # Python may lie in root's home
    *("env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", "-u", "OFA_TVM_STATE"),
)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs to become another user")
def test_a_user_without_name_and_home_is_served_like_any_other(commands, supernet, null_runs):
    shutil.copytree(null_runs, commands.folder / "runs")
    (commands.folder / "tmp").mkdir()
    for path in (commands.folder, *commands.folder.rglob("*")):
        os.chown(path, STRANGER, STRANGER)
    options = ("--target", "null", "--supernet", supernet, "--runs", "runs")
    for verb, more in (("profile", "--dry-run"), ("search", "--json")):
        run = commands.run(verb, *options, more, prefix=AS_STRANGER, TMPDIR=str(commands.folder / "tmp"))
        assert run.code == 0, run.stderr
        assert "WARNING" not in run.stderr
    run = commands.run("devices", "setup", "rasp4", "--ssh", "pi@127.0.0.1:1", "--no-start", prefix=AS_STRANGER)
    run.fails(2, "cannot write /nonexistent/.local/state/ofa_tvm", "Permission denied; allow it", "OFA_TVM_STATE")


def test_a_device_without_tracker_is_told_how_to_start_one(commands, supernet):
    options = ("--target", "arm_cpu", "--supernet", supernet, "--resolutions", 24, "--subnets", 10)
    for given in ({}, {"OFA_TVM_TRACKER": "127.0.0.1:1"}):
        run = commands.run("profile", *options, **given)
        run.fails(3, "no RPC tracker answers at 127.0.0.1", "scripts/start_rpc_tracker.sh")
    commands.run("profile", *options, "--tracker", "nonsense").fails(2, "'nonsense' is not HOST:PORT")
