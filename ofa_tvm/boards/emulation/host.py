"""What the host must have for emulated boards, and its other half: arm64 programs that the kernel hands to QEMU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ofa_tvm.errors import EmulationError

Say = Callable[[str], None]

BINFMT_MISC = Path("/proc/sys/fs/binfmt_misc")
REGISTRATION = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
"""Comes with Debian's QEMU. Its flags open the emulator once and for all, so that a chroot needs no copy of it."""
HANDLER = REGISTRATION.stem

PACKAGES = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "ip": "iproute2",
    "mount": "mount",
    "pivot_root": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "qemu-aarch64-static": "qemu-user-static",
}
"""Debian's package for each program that is used on the host."""
TRIAL_LIMIT_S = 10.0


def require_host() -> None:
    """Make sure that everything is there.

    Raises
    ------
    EmulationError
        Something is missing: one line names all of it, and what to type.
    """
    missing, advice = [], []
    if platform.system() != "Linux":
        raise EmulationError(
            f"emulated boards need Linux, not {platform.system()}; use a Linux machine or a real board"
        )
    absent = {package for program, package in PACKAGES.items() if _needed(program) and shutil.which(program) is None}
    if _needed("qemu-aarch64-static") and not REGISTRATION.exists():
        absent.add("qemu-user-static")
    if "apt" in absent:
        missing.append("a Debian with apt (its arm64 packages are the board's system)")
        advice.append("use another machine or a real board")
    elif packages := sorted(absent):
        missing.append(f"the packages {', '.join(packages)}")
        advice.append(f"sudo apt-get install {' '.join(packages)}")
    if os.geteuid() != 0:
        missing.append("root")
        advice.append("run the command again as root (sudo)")
    elif not absent:
        missing += _refused_by_kernel()
    if missing:
        steps = "; ".join(advice) or "use another machine or a real board"
        verb = "is" if len(missing) == 1 and not absent else "are"
        raise EmulationError(f"no emulated board here: {' and '.join(missing)} {verb} missing; {steps}")


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
            run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT_MISC)], TRIAL_LIMIT_S)
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
    state = (BINFMT_MISC / HANDLER).read_text()
    flags = next((line.partition(":")[2] for line in state.splitlines() if line.startswith("flags:")), "")
    if "F" not in flags or not state.startswith("enabled"):
        raise EmulationError(
            f"binfmt_misc has {HANDLER}, but not enabled with flag F, so a board could not use it; "
            f"as root: echo -1 > {BINFMT_MISC / HANDLER}, and try again"
        )


def is_arm64() -> bool:
    """Whether the host runs the board's programs itself; the board then has the host's core."""
    return platform.machine() == "aarch64"


def run(command: Sequence[str], limit_s: float, *, environment: Mapping[str, str] | None = None) -> str:
    """Run a program of the host; what it printed.

    Raises
    ------
    EmulationError
        It fails, or takes longer than `limit_s`.
    """
    shown = " ".join(command[:8])
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=limit_s,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        )
    except subprocess.TimeoutExpired as error:
        raise EmulationError(f"{shown}: no end within {limit_s:.0f} s; try again") from error
    except OSError as error:
        raise EmulationError(f"{shown}: {error.strerror}") from error
    if result.returncode != 0:
        lines = [line for line in result.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise EmulationError(f"{shown}: {lines[-1].strip() if lines else f'exit code {result.returncode}'}")
    return result.stdout.decode(errors="replace")


def _needed(program: str) -> bool:
    return not (program.startswith("qemu-") and is_arm64())


def _refused_by_kernel() -> list[str]:
    """What even root may not do here, as in most containers."""
    refused = []
    try:
        run(["unshare", "--mount", "--pid", "--uts", "--net", "--fork", "true"], TRIAL_LIMIT_S)
    except EmulationError as error:
        refused.append(f"the permission to make namespaces ({error})")
    if not is_arm64() and "binfmt_misc" not in Path("/proc/filesystems").read_text():
        refused.append("binfmt_misc in the kernel (modprobe binfmt_misc)")
    return refused
