"""Have the kernel hand arm64 programs to QEMU."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ofa_tvm.boards.emulation.host import is_arm64, run
from ofa_tvm.errors import EmulationError
from ofa_tvm.reporting import Say

BINFMT_MISC = Path("/proc/sys/fs/binfmt_misc")
REGISTRATION = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
"""Comes with Debian's QEMU. Its flags open the emulator once and for all, so that a chroot needs no copy of it."""
FILESYSTEMS = Path("/proc/filesystems")
HANDLER = REGISTRATION.stem

COMMAND_LIMIT_S = 10.0


def enable_arm64(say: Say) -> None:
    """Have the kernel run arm64 programs with QEMU, if it does not yet; this stays until the host's next start.

    Raises
    ------
    EmulationError
        The kernel refuses.
    """
    if is_arm64():
        return
    if not (BINFMT_MISC / "register").exists():
        try:
            run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT_MISC)], COMMAND_LIMIT_S)
        except EmulationError:
            if not (BINFMT_MISC / "register").exists():  # else another start was quicker
                raise
    if not (BINFMT_MISC / HANDLER).exists():
        say("letting the kernel run arm64 programs with QEMU (binfmt_misc; stays until this machine's next start)")
        try:
            (BINFMT_MISC / "register").write_text(REGISTRATION.read_text())
        except FileExistsError:  # registered by another start at the same moment
            pass
        except OSError as error:
            raise EmulationError(f"the kernel refuses {REGISTRATION}: {error.strerror}; use a real board") from error
    if not is_registered():
        raise EmulationError(
            f"binfmt_misc has {HANDLER}, but not enabled with flag F, so a board could not use it; "
            f"as root: echo -1 > {BINFMT_MISC / HANDLER}, and try again"
        )


def is_registered() -> bool:
    """Whether the kernel has the handler, and a chroot can use it without a copy of QEMU."""
    try:
        state = (BINFMT_MISC / HANDLER).read_text()
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in state.splitlines() if line.startswith("flags:")), "")
    return "F" in flags and state.startswith("enabled")


def has_binfmt_misc() -> bool:
    """Whether the kernel can be told what to do with programs of other machines."""
    if "binfmt_misc" in FILESYSTEMS.read_text():
        return True
    with contextlib.suppress(EmulationError):
        run(["modprobe", "binfmt_misc"], COMMAND_LIMIT_S)
    return "binfmt_misc" in FILESYSTEMS.read_text()
