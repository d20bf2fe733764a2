"""Emulated variants: a board's target for an emulation of it, whose times mean nothing."""

from __future__ import annotations

from ofa_tvm.errors import UsageError
from ofa_tvm.targets.schema import MeasurementProtocol, Target

EMULATED_SUFFIX = "-emulated"

_TIMEOUT_S = 60.0


def emulated_variant(target: Target) -> Target:
    """The target of an emulated board of this kind; the target itself if it is one.

    Compiles for the same CPU. Its own name and device key keep its records apart from the board's, and the board's
    SSH address is left out. Measuring is short and tolerates drift: emulated times wander and rank nothing.

    Raises
    ------
    UsageError
        Only 64-bit Arm boards behind a tracker can be emulated.
    """
    if target.name.endswith(EMULATED_SUFFIX):
        return target
    if not _is_arm_board(target):
        raise UsageError(
            f"target {target.name!r} has no emulated variant: only targets with device.kind rpc, tvm_target.kind llvm "
            f"and an aarch64 mtriple have one; use --target arm_cpu{EMULATED_SUFFIX}"
        )
    name = f"{target.name}{EMULATED_SUFFIX}"
    protocol = MeasurementProtocol(
        warmup_runs=1,
        repeats=3,
        min_repeat_ms=1.0,
        cooldown_ms=0.0,
        max_drift=1000.0,  # no board is set aside for times that mean nothing
        timeout_s=max(_TIMEOUT_S, target.measurement.timeout_s),
    )
    changes = {
        "name": name,
        "description": f"Emulated, so its times mean nothing: {target.description}",
        "emulated": True,
        "device": target.device.model_copy(update={"key": name, "ssh": None}),
        "measurement": protocol,
        "sources": {key: value for key, value in target.sources.items() if not key.startswith("measurement.")},
    }
    return target.model_copy(update=changes)


def _is_arm_board(target: Target) -> bool:
    if target.device.kind != "rpc" or target.tvm_target == "host" or target.tvm_target.get("kind") != "llvm":
        return False
    return str(target.tvm_target.get("mtriple", "")).partition("-")[0] in ("aarch64", "arm64")
