"""From what the search holds out to a bundle: candidates built and measured, the best one delivered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.deployment.attempt import AnyAttempt, Attempt
from ofa_tvm.deployment.candidate_builder import CandidateBuilder
from ofa_tvm.deployment.deliver import deliver
from ofa_tvm.deployment.order import Order
from ofa_tvm.deployment.prospect import Prospect
from ofa_tvm.deployment.walk import Deployment, find_deployment
from ofa_tvm.reporting import Reporter


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was delivered, to `Order.directory`."""

    order: Order
    deployment: Deployment

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        chosen, order = self.deployment.chosen, self.order
        measurement = chosen.measurement
        return {
            "target": order.target.name,
            "device": measurement.device,
            "emulated": measurement.emulated,
            "architecture": chosen.candidate.architecture.to_dict(),
            "architecture_text": str(chosen.candidate.architecture),
            "budget_ms": order.budget_ms,
            "predicted_ms": chosen.candidate.predicted_latency_ms,
            "measured_ms": measurement.median_ms,
            "spread": measurement.spread,
            "drift": measurement.drift,
            "predicted_accuracy": chosen.candidate.predicted_accuracy,
            "measured_accuracy": chosen.accuracy.accuracy,
            "accuracy_images": chosen.accuracy.images,
            "attempts": [_attempt(attempt) for attempt in self.deployment.attempts],
            "bundle": str(order.directory),
        }


def deploy(order: Order, found: Prospect, tracker: str | None, reporter: Reporter) -> Delivery:
    """Build and measure candidates on the target's devices, and write the bundle of the best that meets the budget.

    Parameters
    ----------
    tracker
        Address of the RPC tracker; None for the target's own.

    Raises
    ------
    InfeasibleBudgetError, StageError, DeviceError
        As `find_deployment`.
    UsageError
        As `open_bench` and `deliver`.
    """
    target = order.target
    with open_bench(target, order.records, tracker, reporter.say) as bench:
        builder = CandidateBuilder(found.evaluator, bench, order.budget_ms, order.tune_minutes, reporter)
        deployment = find_deployment(
            found.front, order.budget_ms, target.name, builder, order.max_attempts, found.latency_error, reporter.say
        )
        metadata, toolchain = order.supernet.metadata, bench.toolchain
        deliver(deployment.chosen, order.budget_ms, metadata, target, toolchain, order.directory, order.overwrite)
    return Delivery(order, deployment)


def _attempt(attempt: AnyAttempt) -> dict[str, Any]:
    built = attempt if isinstance(attempt, Attempt) else None
    return {
        "architecture": str(attempt.candidate.architecture),
        "predicted_ms": attempt.candidate.predicted_latency_ms,
        "measured_ms": built and built.measurement.median_ms,
        "drift": built and built.measurement.drift,
        "bound_ms": built and built.bound_ms,
        "measured_accuracy": built and built.accuracy.accuracy,
        "error": None if isinstance(attempt, Attempt) else str(attempt.error),
    }
