"""A stored latency predictor brought up to date with what was measured since, by any command."""

from __future__ import annotations

from ofa_tvm.predictors.latency import LatencyPredictor
from ofa_tvm.predictors.latency_nearby import NearbyLatencies
from ofa_tvm.profiling.subnet_history import SubnetHistory
from ofa_tvm.reporting import Say


def refreshed(saved: LatencyPredictor, history: SubnetHistory, say: Say) -> LatencyPredictor:
    """The predictor as the records are now.

    It is fitted anew where there are at least as many subnets of today's kernels as it was fitted to. Where tuning
    has left fewer, its model stays, and kernels count with their latencies of now.
    """
    measured, kernels_ms = history.latencies_ms(), history.schedules.latencies_ms
    tuned = bool(kernels_ms) and kernels_ms != saved.kernel_latencies_ms
    if len(measured) > saved.subnets or (tuned and len(measured) == saved.subnets):
        say(f"the latency predictor is fitted anew, to {len(measured)} measured subnets; profile had {saved.subnets}")
        return LatencyPredictor.fit(saved.space, list(measured), list(measured.values()), kernels_ms, saved.seed)
    if tuned:
        say("kernels were measured or tuned since profile: the latency predictor takes their latencies of now")
        return saved.with_kernels(kernels_ms)
    return saved


def with_measurements(predictor: LatencyPredictor, history: SubnetHistory, max_drift: float) -> NearbyLatencies:
    """The predictor, corrected by subnets that were measured with no more drift than a measurement may have."""
    return NearbyLatencies(predictor, history.latencies_ms(max_drift))
