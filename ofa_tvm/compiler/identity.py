"""What in a target decides the code that is compiled for it and how that is measured."""

from __future__ import annotations

from typing import Any

from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.measurement.identity import TargetIdentity
from ofa_tvm.targets import MeasurementProtocol, Target

_MEASURING = ("warmup_runs", "repeats", "min_repeat_ms", "cooldown_ms")
"""What of the protocol a figure depends on. `max_drift` and `timeout_s` only say which figures are refused."""


def identity_of(target: Target, toolchain: Toolchain) -> TargetIdentity:
    """The target as its records know it, with what ``host`` stands for on this computer."""
    protocol, defaults = target.measurement, MeasurementProtocol()
    settings = {
        "device.kind": target.device.kind,
        **_code(toolchain),
        **_unless("threads", target.threads, 1),
        **_unless("emulated", target.emulated, False),
        **_unless("cpu.l1d_kib", toolchain.machine.l1_bytes // 1024, 32),
        **_unless("cpu.l2_kib", target.cpu.l2_kib, None),
    }
    for name in _MEASURING:
        settings |= _unless(f"measurement.{name}", getattr(protocol, name), getattr(defaults, name))
    return TargetIdentity(target.name, settings)


def _code(toolchain: Toolchain) -> dict[str, Any]:
    """Of TVM's target what is not derived from the rest; its ``num-cores`` is the target file's ``threads``."""
    attributes = {str(name): value for name, value in toolchain.tvm_target.attrs.items()}
    given = {n: _plain(v) for n, v in attributes.items() if n != "num-cores" and not n.startswith("feature.")}
    named = {f"tvm_target.{name}": given[name] for name in sorted(given)}
    return {"tvm_target.kind": toolchain.tvm_target.kind.name, **named, "lanes": toolchain.machine.lanes}


def _unless(key: str, value: Any, default: Any) -> dict[str, Any]:
    return {} if value == default else {key: value}


def _plain(value: Any) -> Any:
    """As a JSON value: TVM has texts and lists of its own."""
    if isinstance(value, bool | int | float):
        return value
    return str(value) if isinstance(value, str) else [str(item) for item in value]
