"""Targets: what to compile for, how to reach the device, how to measure on it; one YAML file each."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ofa_tvm.errors import InvalidTargetError, UnknownTargetError

ENTRY_POINT_GROUP = "ofa_tvm.targets"
"""An installed package offers a target by an entry point ``<name> = "package"``; the package holds ``<name>.yaml``."""

_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceAccess(_Section):
    """How to reach the device: ``local`` (a server of our own on this host), ``rpc`` (a tracker), ``null`` (none)."""

    kind: Literal["local", "rpc", "null"]
    key: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    tracker_host: str = "127.0.0.1"
    tracker_port: int = Field(default=9190, ge=1, le=65535)


class MeasurementProtocol(_Section):
    """How to measure on the device; `ofa_tvm.measurement.protocol` says what each number does.

    Attributes
    ----------
    warmup_runs
        Runs before the first sample.
    repeats
        Samples a measurement.
    min_repeat_ms
        A sample is the mean of as many runs as last this long. Short samples are the better ones on a host that
        does other things too, because most of them then fall between two interruptions.
    cooldown_ms
        Pause between two samples, for devices that throttle.
    max_drift
        Relative change of the reference kernel's time over a chunk of jobs that is still accepted.
    timeout_s
        A job that takes longer has failed.
    """

    warmup_runs: int = Field(default=3, ge=1)
    repeats: int = Field(default=25, ge=1)
    min_repeat_ms: _Milliseconds = 1.0
    cooldown_ms: _Milliseconds = 0.0
    max_drift: _Positive = 0.05
    timeout_s: _Positive = 30.0


class Target(_Section):
    """A device as data.

    Attributes
    ----------
    name
        The file's name without its suffix.
    emulated
        Latencies measured or computed there say nothing about real hardware.
    tvm_target
        ``host`` for the machine that compiles, else TVM's target as a dict.
    cross_compiler
        The C++ compiler that links libraries for the device; None for the host's own.
    threads
        Threads a kernel may use on the device.
    sources
        Where the figures in this file come from, by the name of the field.
    """

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    emulated: bool = False
    tvm_target: Literal["host"] | dict[str, Any]
    cross_compiler: str | None = None
    threads: int = Field(default=1, ge=1)
    device: DeviceAccess
    measurement: MeasurementProtocol = MeasurementProtocol()
    precisions: tuple[Literal["float32", "float16", "int8"], ...] = Field(default=("float32",), min_length=1)
    sources: dict[str, str] = Field(default_factory=dict)


def known_targets() -> list[str]:
    """Names of the targets that come with this package or with installed ones, sorted."""
    return sorted({path.stem for path in _folder().glob("*.yaml")} | set(_entry_points()))


def load_target(name_or_path: str) -> Target:
    """Load a target by its name, or from a path that ends in ``.yaml`` or ``.yml``.

    Raises
    ------
    UnknownTargetError
        No such target or file.
    InvalidTargetError
        The file is not YAML or does not fit the schema.
    """
    path = _find(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTargetError(f"{path}: cannot be read as text: {error}") from error
    return _parse(text, path)


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise UnknownTargetError(f"no target file {path}; known targets: {', '.join(known_targets())}")
        return path
    shipped = {path.stem: path for path in _folder().glob("*.yaml")}
    if name_or_path in shipped:
        return shipped[name_or_path]
    if name_or_path in (installed := _entry_points()):
        return Path(str(files(installed[name_or_path].module) / f"{name_or_path}.yaml"))
    known = known_targets()
    raise UnknownTargetError(
        f"no target {name_or_path!r}{_nearest(name_or_path, known)}; known targets: {', '.join(known)}"
    )


def _folder() -> Path:
    """The folder of targets in an installed package, or that of the repository."""
    package = Path(__file__).parent
    installed = package / "_targets"
    return installed if installed.is_dir() else package.parent / "targets"


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _parse(text: str, path: Path) -> Target:
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidTargetError(f"{path}, line {line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise InvalidTargetError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InvalidTargetError(f"{path}: a target is a mapping of keys to values; copy {_folder() / 'local.yaml'}")
    if "name" in content:
        raise InvalidTargetError(f"{path}: unknown key 'name': the file's name is the target's name; remove the key")
    try:
        return Target.model_validate({**content, "name": path.stem})
    except ValidationError as error:
        raise InvalidTargetError(f"{path}: {_explain(error)}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that takes keys as text and refuses a repeated one, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} appears twice", key.start_mark)
            seen.add(key.value)
        return {str(key): value for key, value in super().construct_mapping(node, deep=deep).items()}


def _explain(error: ValidationError) -> str:
    """The first thing wrong, in one line."""
    first = error.errors()[0]
    location = tuple(str(part) for part in first["loc"])
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest(location[-1], _keys(location[:-1]))}"
    if first["type"] == "missing":
        return f"missing key {key!r}"
    return f"{key}: {first['msg'].lower()}, not {first['input']!r}"


def _keys(section: tuple[str, ...]) -> list[str]:
    """Keys that the schema knows in a section of the file."""
    model: Any = Target
    for name in section:
        model = model.model_fields[name].annotation
    return [key for key in model.model_fields if key != "name"]


def _nearest(word: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {matches[0]!r}?" if matches else ""
