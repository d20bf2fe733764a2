"""Integer genomes in bulk: canonical form, first population, decoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.encoding import decode, encode
from ofa_tvm.space.search_space import NUM_STAGES, SearchSpace

Genomes = NDArray[np.int64]


def canonical(space: SearchSpace, genomes: Genomes) -> Genomes:
    """Genomes of shape (n, genes) with the genes of skipped blocks 0, so that equal subnets have equal genomes."""
    deepest = space.depths[-1]
    depths = np.array(space.depths)[genomes[:, 1 : 1 + NUM_STAGES]]
    active = np.arange(deepest) < depths[:, :, None]
    mask = active.reshape(len(genomes), NUM_STAGES * deepest)
    head = np.ones((len(genomes), 1 + NUM_STAGES), dtype=bool)
    return np.where(np.hstack([head, mask, mask]), genomes, 0)


def first_population(space: SearchSpace, size: int, seed: int) -> Genomes:
    """Smallest and largest subnet at each resolution, then random ones, shape (size, genes).

    The extremes anchor both ends of the front; without them evolution reaches these corners late.
    At most half of the population is taken by them.
    """
    rng = np.random.default_rng(seed)
    extremes = [make(resolution) for resolution in space.resolutions for make in (space.smallest, space.largest)]
    # Outermost resolutions first, for spaces with more of them than there is room for.
    ordered = [extremes[0], extremes[-1], *extremes[1:-1]][: size // 2]
    drawn = ordered + [space.sample(rng) for _ in range(size - len(ordered))]
    return np.array([encode(space, architecture) for architecture in drawn])


def decode_all(space: SearchSpace, genomes: Genomes) -> list[Architecture]:
    """The architectures of genomes of shape (n, genes)."""
    return [decode(space, genome) for genome in genomes]
