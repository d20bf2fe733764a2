"""Read a target file; whatever is wrong with it is one line that names the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

import yaml
from pydantic import ValidationError

from ofa_tvm.errors import InvalidTargetError
from ofa_tvm.names import nearest
from ofa_tvm.targets.emulated import EMULATED_SUFFIX
from ofa_tvm.targets.schema import Target


@dataclass(frozen=True, slots=True)
class TargetFile:
    """Where a target stands, on disk or in an installed package, and what messages call that place."""

    name: str
    place: Traversable
    label: str


def read_target(file: TargetFile) -> Target:
    """The target that a file holds.

    Raises
    ------
    InvalidTargetError
        The file can't be read, is not YAML, or does not fit the schema.
    """
    _check_name(file)
    try:
        content = yaml.load(file.place.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTargetError(f"{file.label}: cannot be read as text: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidTargetError(f"{file.label}, line {line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as a date with a month 13, or 1,000 brackets
        raise InvalidTargetError(f"{file.label}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InvalidTargetError(
            f"{file.label}: a target is a mapping of keys to values; docs/targets.md has an example"
        )
    if "name" in content:
        raise InvalidTargetError(
            f"{file.label}: unknown key 'name': the file's name is the target's name; remove the key"
        )
    try:
        target = Target.model_validate({**content, "name": file.name})
    except ValidationError as error:
        raise InvalidTargetError(f"{file.label}: {_explain(error)}") from error
    if target.device.key.endswith(EMULATED_SUFFIX):
        raise InvalidTargetError(
            f"{file.label}: device.key: keys that end in {EMULATED_SUFFIX} are those of emulated boards, "
            f"not {target.device.key!r}; give the device another key"
        )
    return target


def _check_name(file: TargetFile) -> None:
    """Folders, device keys and commands use the name, so it is plain."""
    if file.name.endswith(EMULATED_SUFFIX):
        raise InvalidTargetError(
            f"{file.label}: names that end in {EMULATED_SUFFIX} are those of emulated variants; rename the file to "
            f"{file.name.removesuffix(EMULATED_SUFFIX) or 'board'}.yaml"
        )
    if not re.fullmatch(r"\w[\w.-]*", file.name):
        raise InvalidTargetError(
            f"{file.label}: the file's name is the target's: letters, digits, '_', '-' and '.', not {file.name!r}"
        )


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that takes keys as text and refuses a repeated one, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
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
        return f"unknown key {key!r}{nearest(location[-1], _keys(location[:-1]))}"
    if first["type"] == "missing":
        return f"missing key {key!r}"
    if not key:
        return first["msg"].removeprefix("Value error, ")
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message[:1].lower()}{message[1:]}, not {first['input']!r}"


def _keys(section: tuple[str, ...]) -> list[str]:
    """Keys that the schema knows in a section of the file."""
    model: Any = Target
    for name in section:
        model = model.model_fields[name].annotation
    return [key for key in model.model_fields if key != "name"]
