"""Which core an emulated board has: QEMU's model of it, and what ``/proc/cpuinfo`` says."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.boards.emulation.host import is_arm64
from ofa_tvm.errors import EmulationError
from ofa_tvm.files import shipped_folder
from ofa_tvm.reporting import Say
from ofa_tvm.targets import Target

DEFAULT_CORE = "cortex-a72"
NEWEST_CORE = "cortex-a78ae"
ANY_CORE = "max,sve=off"
"""Every instruction QEMU knows but SVE, which none of the boards has; for cores that QEMU has no model of."""
LIST_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Processor:
    """The core of an emulated board.

    Attributes
    ----------
    core
        LLVM's name of the core that the board shows itself as.
    qemu_model
        For ``QEMU_CPU``: decides which instructions run, and which end a program with SIGILL.
    cpuinfo
        The text file that stands in for ``/proc/cpuinfo``.
    """

    core: str
    qemu_model: str
    cpuinfo: Path


def processor_of(target: Target, say: Say) -> Processor:
    """The processor that comes nearest to the target's ``mcpu``; says so where it is another one.

    Raises
    ------
    EmulationError
        The target is none for 64-bit Arm.
    """
    wanted = _core_name(target)
    core = wanted if _cpuinfo(wanted).is_file() else NEWEST_CORE
    if core != wanted:
        say(f"no emulated core {wanted}: the board shows itself as {core}")
    model = core
    if not is_arm64() and core not in _qemu_models():
        model = ANY_CORE
        say(f"QEMU has no model of {core}: the board runs every instruction that QEMU knows (but SVE)")
    return Processor(core, model, _cpuinfo(core))


def _core_name(target: Target) -> str:
    spec = target.tvm_target
    triple = spec.get("mtriple", "") if isinstance(spec, dict) else ""
    if not triple.startswith(("aarch64", "arm64")):
        raise EmulationError(
            f"target {target.name} is not for 64-bit Arm ({triple or 'no mtriple'}), and no other board is emulated; "
            "use rasp4 or arm_cpu"
        )
    core = spec.get("mcpu", "generic") if isinstance(spec, dict) else "generic"
    return DEFAULT_CORE if core == "generic" else core


def _cpuinfo(core: str) -> Path:
    return shipped_folder("rpc") / "emulated" / "cpuinfo" / core


def _qemu_models() -> set[str]:
    # Exits with 1 after printing the list, in the versions that Debian has.
    listing = subprocess.run(
        ["qemu-aarch64-static", "-cpu", "help"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIST_LIMIT_S,
        check=False,
    )
    return set(listing.stdout.decode(errors="replace").split())
