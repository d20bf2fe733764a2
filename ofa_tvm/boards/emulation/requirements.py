"""What the host must have for emulated boards."""

from __future__ import annotations

import os
import platform
import shutil

from ofa_tvm.boards.emulation.arm64 import REGISTRATION, has_binfmt_misc, is_registered
from ofa_tvm.boards.emulation.host import environment, is_arm64, run
from ofa_tvm.errors import EmulationError

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
    absent = {package for program, package in PACKAGES.items() if _needed(program) and _is_absent(program)}
    if _needed("qemu-aarch64-static") and not (REGISTRATION.exists() or is_registered()):
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


def _needed(program: str) -> bool:
    return not (program.startswith("qemu-") and is_arm64())


def _is_absent(program: str) -> bool:
    return shutil.which(program, path=environment()["PATH"]) is None


def _refused_by_kernel() -> list[str]:
    """What even root may not do here, as in most containers."""
    refused = []
    try:
        run(["unshare", "--mount", "--pid", "--uts", "--net", "--fork", "true"], TRIAL_LIMIT_S)
    except EmulationError as error:
        refused.append(f"the permission to make namespaces ({error})")
    if not is_arm64() and not has_binfmt_misc():
        refused.append("binfmt_misc in the kernel")
    return refused
