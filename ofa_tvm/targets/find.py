"""Find a target: by name among those that come with this package and with installed ones, or by path."""

from __future__ import annotations

from collections import defaultdict
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path

from ofa_tvm.errors import InvalidTargetError, UnknownTargetError
from ofa_tvm.files import shipped_folder
from ofa_tvm.names import nearest
from ofa_tvm.targets.emulated import EMULATED_SUFFIX, emulated_variant
from ofa_tvm.targets.read import TargetFile, read_target
from ofa_tvm.targets.schema import Target

ENTRY_POINT_GROUP = "ofa_tvm.targets"
"""An installed package offers a target by an entry point ``<name> = "package"``; the package holds ``<name>.yaml``."""


def known_targets() -> list[str]:
    """Names of the targets that come with this package or with installed ones, sorted; no emulated variants."""
    return sorted({*_shipped(), *_installed()})


def load_target(name_or_path: str) -> Target:
    """Load a target by its name, or from a path that ends in ``.yaml`` or ``.yml``.

    The name of a board's target with ``-emulated`` after it gives that target's emulated variant.

    Raises
    ------
    UnknownTargetError
        No such target or file.
    InvalidTargetError
        The file is not YAML or does not fit the schema, or the package that offers it is broken.
    UsageError
        The target has no emulated variant.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise UnknownTargetError(f"no target file {path}; known targets: {', '.join(known_targets())}")
        return read_target(TargetFile(path.stem, path, str(path)))
    if file := _find(name_or_path):
        return read_target(file)
    board = name_or_path.removesuffix(EMULATED_SUFFIX)
    if board != name_or_path and (file := _find(board)):
        return emulated_variant(read_target(file))
    known = known_targets()
    hint = nearest(name_or_path, [*known, *(f"{name}{EMULATED_SUFFIX}" for name in known)])
    raise UnknownTargetError(f"no target {name_or_path!r}{hint}; known targets: {', '.join(known)}")


def _find(name: str) -> TargetFile | None:
    path, offers = _shipped().get(name), _installed().get(name, [])
    if len(offers) + bool(path) > 1:
        packages = " and ".join([*(["ofa_tvm"] if path else []), *map(_package, offers)])
        raise InvalidTargetError(f"target {name!r} comes from {packages}; uninstall all but one, or give a file's path")
    if path:
        return TargetFile(name, path, str(path))
    return _in_package(name, offers[0]) if offers else None


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in shipped_folder("targets").glob("*.yaml")}


def _installed() -> dict[str, list[EntryPoint]]:
    offers = defaultdict(list)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        offers[point.name].append(point)
    return dict(offers)


def _in_package(name: str, point: EntryPoint) -> TargetFile:
    package = _package(point)
    try:
        place = files(point.module) / f"{name}.yaml"
    except Exception as error:  # whatever the package's own code raises while it is imported
        raise InvalidTargetError(
            f"target {name!r} comes from package {package}, whose entry point {point.value!r} cannot be imported "
            f"({' '.join(str(error).split())}); reinstall {package} or uninstall it"
        ) from error
    if not place.is_file():
        raise InvalidTargetError(
            f"target {name!r} comes from package {package}, which lacks the file {name}.yaml in {point.module}; "
            f"reinstall {package}, or have its author ship that file"
        )
    return TargetFile(name, place, f"{place} (of package {package})")


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
