"""Kernels for 64-bit Arm without such a CPU: instructions executed in an emulator, cycles from LLVM's model of a core.

What is compiled is linked with a small C program and run under ``qemu-aarch64-static``, whose log says how often each
instruction was executed. ``llvm-mca`` gives the cycles of each stretch of straight code repeated for ever, with all
data in the first-level cache. Neither knows caches, mispredicted branches, or how one stretch overlaps with the next.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine_code import Stretch
from tvm_ffi import libinfo

from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.errors import CompileError
from ofa_tvm.space.workload import Workload

LLVM_MCA = "llvm-mca-14"
OBJDUMP = "aarch64-linux-gnu-objdump"
QEMU = "qemu-aarch64-static"
LIMIT_S = 120
REPEATS = 200

_RUN_KERNEL = Path(__file__).parents[1] / "tests" / "targets" / "run_kernel.c"
_BRANCH = re.compile(r"(?:b|b\.\w+|cbn?z|tbn?z)\t")
_LEAVES = re.compile(r"(?:bl|blr|br|ret)(?:\t|$)")
_PEAK = Stretch(tuple(f"fmla\tv{number}.4s, v30.4s, v31.s[0]" for number in range(30)))

Code = dict[int, str]


@dataclass(frozen=True, slots=True)
class Analysis:
    """A kernel as compiled, in the model of a core.

    Attributes
    ----------
    hottest
        The straight code with the most of the kernel's multiply-adds: the body of its inner loop.
    hottest_cycles
        Of that code once.
    multiply_adds, cycles
        Of the whole kernel; multiply-adds of four values.
    spills
        Accesses to the stack in the whole kernel.
    """

    hottest: Stretch
    hottest_cycles: float
    multiply_adds: int
    cycles: float
    spills: int


class CoreModel:
    """LLVM's model of a core, by the name LLVM knows it by.

    Attributes
    ----------
    peak
        Multiply-adds of four values that the model can do in a cycle.

    Raises
    ------
    CompileError
        LLVM has no such core, or is not installed.
    """

    def __init__(self, core: str) -> None:
        self.core = core
        (cycles,) = self.cycles([_PEAK])
        self.peak = round(_PEAK.multiply_adds / cycles, 2)

    def cycles(self, stretches: Iterable[Stretch]) -> list[float]:
        """Cycles of each stretch of code when it is repeated.

        Raises
        ------
        CompileError
            The model can't be asked, or doesn't know an instruction.
        """
        lines: list[str] = []
        for stretch in stretches:
            lines += ["# LLVM-MCA-BEGIN", *map(_anonymous, stretch.instructions), "# LLVM-MCA-END"]
        options = ["-mtriple=aarch64-linux-gnu", f"-mcpu={self.core}", f"-iterations={REPEATS}"]
        views = ["-instruction-info=false", "-resource-pressure=false"]
        output = _run([LLVM_MCA, *options, *views], "\n".join(lines) + "\n")
        return [int(total) / REPEATS for total in re.findall(r"^Total Cycles:\s+(\d+)$", output, re.MULTILINE)]

    def analyse(self, objects: KernelObjects, workload: Workload, parameters: Parameters) -> Analysis:
        """Compile a kernel, run it once under emulation, and add up what the model says.

        Raises
        ------
        CompileError
            One of the programs this takes is missing or fails.
        """
        with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as folder:
            program, arguments = _build(objects, workload, parameters, Path(folder))
            code = _disassemble(program, f"{workload.key}_compute_")
            executed = _executed(program, arguments, code)
        stretches = [Stretch(tuple(code[address] for address in block)) for block in _blocks(code)]
        counts = [executed[block[0]] for block in _blocks(code)]
        cycles = self.cycles(stretches)
        hottest = max(range(len(counts)), key=lambda i: (counts[i] * stretches[i].multiply_adds, counts[i] * cycles[i]))
        return Analysis(
            hottest=stretches[hottest],
            hottest_cycles=cycles[hottest],
            multiply_adds=sum(c * stretch.multiply_adds for c, stretch in zip(counts, stretches, strict=True)),
            cycles=sum(c * each for c, each in zip(counts, cycles, strict=True)),
            spills=sum(c * stretch.spills for c, stretch in zip(counts, stretches, strict=True)),
        )


def _build(objects: KernelObjects, workload: Workload, parameters: Parameters, folder: Path) -> tuple[Path, list[str]]:
    """A program that runs the kernel, and its arguments: files of ones with their shapes."""
    program, kernel = folder / "run_kernel", folder / "kernel.o"
    kernel.write_bytes(objects.get([workload], lambda _workload: parameters)[workload.key])
    includes = [f"-I{libinfo.find_include_path()}", f"-I{libinfo.find_dlpack_include_path()}"]
    source = ["-static", "-O1", f"-DKERNEL=__tvm_ffi_{workload.key}", "-x", "c", str(_RUN_KERNEL), "-x", "none"]
    _run(["aarch64-linux-gnu-g++", *includes, *source, str(kernel), "-o", str(program)])
    arguments = []
    for name, shape in TEMPLATES[workload.kind].argument_shapes(workload, objects.machine).items():
        np.ones(shape, np.float32).tofile(folder / name)
        arguments.append(f"{folder / name}:{','.join(map(str, shape))}")
    return program, arguments


def _disassemble(program: Path, symbol: str) -> Code:
    """Instructions of a function by their address."""
    lines = _run([OBJDUMP, "-d", "--no-show-raw-insn", f"--disassemble={symbol}", str(program)]).splitlines()
    found = (re.match(r"\s*([0-9a-f]+):\t([^/<]*)", line) for line in lines)
    return {int(line[1], 16): line[2].strip() for line in found if line}


def _executed(program: Path, arguments: list[str], code: Code) -> Counter[int]:
    """How often each instruction was executed.

    The emulator logs the addresses of each stretch it translates, and then each time it runs one by its first address.
    """
    options = ["-d", "in_asm,exec,nochain", "-dfilter", f"{min(code):#x}..{max(code):#x}", "-D", "/dev/stdout"]
    stretches: dict[int, list[int]] = {}
    runs: Counter[int] = Counter()
    first = 0
    for line in _run([QEMU, *options, str(program), *arguments]).splitlines():
        if line.startswith("Trace"):
            runs[int(line.split("/")[1], 16)] += 1
        elif line.startswith("IN:"):
            first = 0
        elif line.startswith("0x"):
            address = int(line.partition(":")[0], 16)
            first = first or address
            if first == address:
                stretches[first] = []
            stretches[first].append(address)
    executed: Counter[int] = Counter()
    for first, count in runs.items():
        executed.update(dict.fromkeys(stretches[first], count))
    return executed


def _blocks(code: Code) -> list[list[int]]:
    """Addresses of straight code: entered at the first one only, left behind the last one only."""
    entered = {_destination(text) for text in code.values() if _BRANCH.match(text)}
    result: list[list[int]] = [[]]
    for address, text in sorted(code.items()):
        if address in entered:
            result.append([])
        if _LEAVES.match(text):
            result.append([])
        else:
            result[-1].append(address)
        if _BRANCH.match(text):
            result.append([])
    return [block for block in result if block]


def _destination(text: str) -> int:
    return int(re.split(r"[\s,]+", text)[-1], 16)


def _anonymous(text: str) -> str:
    """Without the place a branch goes to, which the model does not need."""
    return "b.ne\t.Lsomewhere" if _BRANCH.match(text) else text


def _run(command: list[str], text: str = "") -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    except FileNotFoundError as error:
        raise CompileError(f"{command[0]} is not installed; scripts/setup.sh --boards installs it") from error
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"{command[0]} took more than {LIMIT_S} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or error.stderr.splitlines()
        raise CompileError(f"{command[0]} failed: {(lines or ['without a word'])[0]}") from error
    return done.stdout
