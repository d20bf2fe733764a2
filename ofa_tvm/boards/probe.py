"""What a board is and has, asked in one round trip, and which runtime fits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import BoardSetUpError

Runtime = Literal["python", "native"]

PROBE_LIMIT_S = 60.0
MACHINES = ("aarch64", "x86_64")
OLDEST_GLIBC = {"python": (2, 28), "native": (2, 27)}
OLDEST_PYTHON = (3, 10)
NEEDED_MIB = {"python": 250, "native": 40}
HOME = ".local/share/ofa_tvm"

_PROBE = f"""
echo "machine=$(uname -m)"
echo "bits=$(getconf LONG_BIT 2>/dev/null || echo $(($(od -An -j 4 -N 1 -t d1 /bin/sh) * 32)))"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null ||
    for file in /lib/*/libc.so.6 /lib*/libc.so.6; do [ -x "$file" ] && "$file"; done 2>/dev/null)
echo "glibc=$(echo "$libc" | sed -nE 's/.*(glibc|version) ([0-9]+[.][0-9]+).*/\\2/p' | head -n 1)"
echo "libstdcxx=$(ls -d /usr/lib*/libstdc++.so.6 /usr/lib/*/libstdc++.so.6 2>/dev/null | head -n 1)"
echo "python=$(python3 -c 'import sys, venv, zipfile, ctypes; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
echo "free=$(df -Pk "$HOME" 2>/dev/null | tail -n 1 | sed 's/  */ /g' | cut -d ' ' -f 4)"
echo "home=$HOME"
echo "emulated=$([ -e /etc/ofa_tvm-emulated ] && echo yes)"
cd "$HOME/{HOME}" 2>/dev/null || exit 0
for marker in */complete; do [ -e "$marker" ] && echo "complete=${{marker%/complete}}"; done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a board is and has.

    Attributes
    ----------
    python
        Version of a python3 that can make virtual environments, else None.
    complete
        Names of the runtimes that are installed as a whole, below `folder`.
    """

    machine: str
    bits: str
    glibc: tuple[int, int] | None
    libstdcxx: bool
    python: tuple[int, int] | None
    free_mib: int
    folder: str
    emulated: bool
    complete: frozenset[str]


def probe(connection: SshConnection) -> Probe:
    """Ask the board.

    Raises
    ------
    BoardUnreachableError
        It does not answer.
    BoardSetUpError
        Its answer makes no sense.
    """
    result = connection.run(_PROBE, PROBE_LIMIT_S)
    pairs = [line.partition("=")[::2] for line in result.stdout.splitlines() if "=" in line]
    facts = dict(pairs)
    if result.code != 0 or not facts.get("machine") or not facts.get("home", "").startswith("/"):
        raise BoardSetUpError(
            f"{connection.address} does not run shell commands as Linux does ({result.reason});"
            f" try: {connection.address.ssh_command} uname -a"
        )
    return Probe(
        machine=facts["machine"],
        bits=facts.get("bits", ""),
        glibc=_version(facts.get("glibc", "")),
        libstdcxx=bool(facts.get("libstdcxx")),
        python=_version(facts.get("python", "")),
        free_mib=int(facts["free"]) >> 10 if facts.get("free", "").isdigit() else 0,
        folder=f"{facts['home']}/{HOME}",
        emulated=facts.get("emulated") == "yes",
        complete=frozenset(name for key, name in pairs if key == "complete"),
    )


def choose_runtime(found: Probe, wanted: Runtime | Literal["auto"], name: str) -> Runtime:
    """The runtime to install: Python where it is new enough, else the native one, unless the user wants another.

    Raises
    ------
    BoardSetUpError
        The board can't run what is wanted, or anything.
    """
    if found.machine not in MACHINES or found.bits == "32":
        bits = f" with a {found.bits}-bit system" if found.bits == "32" else ""
        raise BoardSetUpError(
            f"{name} is {found.machine}{bits}, for which there is no TVM runtime; supported are 64-bit Linux systems on"
            f" {' and '.join(MACHINES)}: install a 64-bit system there"
        )
    if found.glibc is None or found.glibc < OLDEST_GLIBC["native"]:
        has = "no GNU C library (musl?)" if found.glibc is None else f"glibc {_text(found.glibc)}"
        raise BoardSetUpError(
            f"{name} has {has}; the TVM runtime needs glibc {_text(OLDEST_GLIBC['native'])} or newer, as in Debian 10"
            " or Ubuntu 18.04"
        )
    if not found.libstdcxx:
        raise BoardSetUpError(f"{name} has no C++ library; install it there: sudo apt-get install libstdc++6")
    lacks = _lacks_for_python(found)
    if wanted == "python" and lacks:
        raise BoardSetUpError(f"{name} {lacks}; add --runtime native: the native server needs no Python")
    return "native" if wanted == "native" or lacks else "python"


def _lacks_for_python(found: Probe) -> str | None:
    if found.python is None or found.python < OLDEST_PYTHON:
        has = "no python3 with venv" if found.python is None else f"Python {_text(found.python)}"
        return f"has {has}, and TVM needs Python {_text(OLDEST_PYTHON)} or newer"
    if found.glibc is not None and found.glibc < OLDEST_GLIBC["python"]:
        return f"has glibc {_text(found.glibc)}, and Python packages need {_text(OLDEST_GLIBC['python'])} or newer"
    return None


def require_space(found: Probe, runtime: Runtime, name: str) -> None:
    """Refuse to begin what would fill the disk.

    Raises
    ------
    BoardSetUpError
        There is too little left.
    """
    if found.free_mib < NEEDED_MIB[runtime]:
        raise BoardSetUpError(
            f"{name} has {found.free_mib} MiB free for {found.folder}, and the {runtime} runtime needs"
            f" {NEEDED_MIB[runtime]} MiB; free some space there"
        )


def _version(text: str) -> tuple[int, int] | None:
    parts = text.strip().split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) >= 2 and parts[0].isdigit() and parts[1].isdigit() else None


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
