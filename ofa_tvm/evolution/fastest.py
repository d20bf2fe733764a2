"""The fastest subnet of a space by a predictor, in a moment and without a search."""

from __future__ import annotations

import numpy as np

from ofa_tvm.evolution.genomes import Genomes, canonical, decode_all
from ofa_tvm.predictors.protocol import Predictor
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.encoding import encode, genome_bounds
from ofa_tvm.space.search_space import SearchSpace


def fastest(space: SearchSpace, latency: Predictor) -> tuple[Architecture, float]:
    """The subnet of the least predicted latency, and that latency in milliseconds.

    From the smallest subnet of each resolution the fastest, then choice by choice, until no other choice is faster.
    """
    starts = [space.smallest(resolution) for resolution in space.resolutions]
    latencies_ms = latency.predict(starts)
    best = int(np.argmin(latencies_ms))
    found, found_ms = starts[best], float(latencies_ms[best])
    while True:
        neighbours = decode_all(space, _neighbours(space, encode(space, found)))
        latencies_ms = latency.predict(neighbours)
        best = int(np.argmin(latencies_ms))
        if not latencies_ms[best] < found_ms:
            return found, found_ms
        found, found_ms = neighbours[best], float(latencies_ms[best])


def _neighbours(space: SearchSpace, genome: np.ndarray) -> Genomes:
    """Itself, and all that differ from it in one gene, shape (neighbours, genes)."""
    changed = [
        np.where(np.arange(len(genome)) == gene, value, genome)
        for gene, choices in enumerate(genome_bounds(space))
        for value in range(choices)
    ]
    return np.unique(canonical(space, np.array(changed)), axis=0)
