"""The root file system that all emulated boards share: a minimal Debian for arm64, built once and kept in a cache."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from ofa_tvm.boards.emulation.folders import locked, remove_tree
from ofa_tvm.boards.emulation.host import run
from ofa_tvm.errors import EmulationError, OutputError
from ofa_tvm.files import directory_atomic, shipped_folder
from ofa_tvm.homes import cache_folder
from ofa_tvm.refusals import refusal
from ofa_tvm.reporting import Say

EMULATED_MARK = "etc/ofa_tvm-emulated"
"""What runs on a board knows by this file that its figures are no real ones."""

NAME = "arm64-root-"
UNFINISHED = f".{NAME}"
"""How the hidden name begins in which `directory_atomic` fills one."""
RECIPE_VERSION = 1
PACKAGES = (
    *("base-files", "base-passwd", "libc6", "libc-bin", "coreutils", "dash", "bash", "procps", "util-linux", "mount"),
    *("hostname", "sed", "grep", "findutils", "gawk", "tar", "gzip", "netbase", "iproute2", "openssh-server"),
    *("python3", "python3-venv", "libstdc++6"),
)
APT = ("apt-get", "-q", "-y")
MERGED_INTO_USR = ("bin", "sbin", "lib")
ACCOUNTS = {
    "passwd": "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n",
    "group": "",
}
NOT_COMPILED = "lib2to3|idlelib|distutils|turtle|tkinter|pydoc"
"""Parts of the library that nothing on a board imports."""
DOWNLOAD_LIMIT_S = 600.0
STEP_LIMIT_S = 120.0


def base_root(say: Say, cache: Path | None = None) -> Path:
    """The shared root file system, built if it is not in the cache yet; arm64 programs must run already.

    Of several builders at once one builds and the others wait for it; a half-built one is never used.

    Raises
    ------
    EmulationError
        It can't be built.
    """
    cache = (cache or cache_folder()).resolve()
    root = cache / f"{NAME}{_digest()}"
    if root.is_dir():
        return root
    with locked(cache, "builds the system of emulated boards", say):
        if root.is_dir():
            return root
        for leftover in cache.glob(f"{UNFINISHED}*"):  # of builders that were killed
            remove_tree(leftover, STEP_LIMIT_S)
        try:
            with directory_atomic(root) as building:
                building.chmod(0o755)  # whatever the umask: it becomes the boards' root
                _build(building, say)
        except OutputError as error:
            cause = error.__cause__
            reason = refusal(cause, cache, "XDG_CACHE_HOME") if isinstance(cause, OSError) else error
            raise EmulationError(f"cannot build the board's system in {cache}: {reason}") from error
    say(f"the board's system is complete: {root}")
    return root


def _build(root: Path, say: Say) -> None:
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f"{UNFINISHED}apt-") as folder:
        packages = _download(Path(folder), say)
        say(f"unpacking {len(packages)} packages")
        _unpack(packages, root)
    _configure(root)
    _compile(root, say)
    (root / EMULATED_MARK).write_text("This board is emulated with QEMU: its times say nothing about real hardware.\n")


def _download(folder: Path, say: Say) -> list[Path]:
    """Packages as files, with what they need; apt's state is a private one, the host's stays untouched."""
    (folder / "status").touch()
    options = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "APT::Architecture": "arm64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": 3,
    }
    configuration = folder / "apt.conf"
    lines = [f'{key} "{value}";\n' for key, value in options.items()]
    # The host's hooks are for the host's packages.
    configuration.write_text(
        '#clear APT::Architectures;\nAPT::Architectures { "arm64"; };\n#clear APT::Update;\n' + "".join(lines)
    )
    apt = [*APT, "-c", str(configuration)]
    try:
        say("reading the lists of Debian's arm64 packages")
        run([*apt, "update"], DOWNLOAD_LIMIT_S)
        say("downloading the packages (about 50 MB)")
        run([*apt, "install", "--download-only", "--no-install-recommends", *PACKAGES], DOWNLOAD_LIMIT_S)
    except EmulationError as error:
        raise EmulationError(
            f"the board's system can't be downloaded: {error}; /etc/apt/sources.list* must name a Debian archive "
            "that has arm64 and can be reached"
        ) from error
    return sorted((folder / "archives").glob("*.deb"))


def _unpack(packages: list[Path], root: Path) -> None:
    for name in MERGED_INTO_USR:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    # Dies with this process, so that a killed builder does not go on writing.
    unpacking = ["setpriv", "--pdeathsig", "KILL", "bash", str(_emulated("unpack.sh")), str(root)]
    try:
        run([*unpacking, *map(str, packages)], STEP_LIMIT_S)
    except EmulationError as error:
        raise EmulationError(f"the board's system can't be unpacked in {root.parent}: {error}") from error


def _configure(root: Path) -> None:
    """What the packages' own scripts would do, as far as a board needs it."""
    for name, addition in ACCOUNTS.items():
        master = (root / "usr/share/base-passwd" / f"{name}.master").read_text()
        (root / "etc" / name).write_text(master + addition)
    (root / "run/sshd").mkdir(mode=0o755, parents=True)
    (root / "usr/bin/awk").symlink_to("gawk")
    shutil.copyfile(_emulated("sshd_config"), root / "etc/ssh/sshd_config")
    (root / "etc/resolv.conf").write_text("")
    run(["chroot", str(root), "/sbin/ldconfig"], STEP_LIMIT_S)


def _compile(root: Path, say: Say) -> None:
    """Python's standard library to byte code, without which ``python3 -m venv`` takes half as long again.

    Byte code is the same on all machines, so this very Python does it in a second if it is of the same version.
    """
    say("compiling Python's standard library")
    library = next(root.glob("usr/lib/python3.*"))
    compiling = ["-m", "compileall", "-q", "-x", NOT_COMPILED]
    if library.name == f"python{sys.version_info.major}.{sys.version_info.minor}":
        run([sys.executable, *compiling, "-s", str(root), "-p", "/", str(library)], DOWNLOAD_LIMIT_S)
    else:
        emulated = ["chroot", str(root), "/usr/bin/python3"]
        run([*emulated, *compiling, f"/{library.relative_to(root)}"], DOWNLOAD_LIMIT_S)


def _emulated(name: str) -> Path:
    return shipped_folder("rpc") / "emulated" / name


def _digest() -> str:
    """Of all that decides what the root file system holds."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    recipe = [RECIPE_VERSION, release, PACKAGES, ACCOUNTS, NOT_COMPILED, _emulated("sshd_config").read_text()]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
