"""Encodings of architectures: integer genomes for the search, one-hot features for the predictors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.space.architecture import Architecture, Block
from ofa_tvm.space.search_space import NUM_STAGES, SearchSpace


def genome_bounds(space: SearchSpace) -> NDArray[np.int64]:
    """Number of choices of each gene, shape (genes,).

    The genes are indices into the space's choices: the resolution; the depth of each stage; the
    kernel size of each block at full depth; the expand ratio of each block at full depth.
    """
    blocks = NUM_STAGES * space.depths[-1]
    return np.array(
        [len(space.resolutions)]
        + [len(space.depths)] * NUM_STAGES
        + [len(space.kernel_sizes)] * blocks
        + [len(space.expand_ratios)] * blocks,
        dtype=np.int64,
    )


def encode(space: SearchSpace, architecture: Architecture) -> NDArray[np.int64]:
    """The genome of an architecture, shape (genes,); genes of skipped blocks are 0.

    Raises
    ------
    InvalidArchitectureError
        The architecture is not of this space.
    """
    space.check(architecture)
    deepest = space.depths[-1]
    kernel_genes = np.zeros((NUM_STAGES, deepest), dtype=np.int64)
    ratio_genes = np.zeros((NUM_STAGES, deepest), dtype=np.int64)
    for stage_index, stage in enumerate(architecture.stages):
        for block_index, block in enumerate(stage):
            kernel_genes[stage_index, block_index] = space.kernel_sizes.index(block.kernel_size)
            ratio_genes[stage_index, block_index] = space.expand_ratios.index(block.expand_ratio)
    head = [space.resolutions.index(architecture.resolution), *map(space.depths.index, architecture.depths)]
    return np.concatenate([np.array(head, dtype=np.int64), kernel_genes.ravel(), ratio_genes.ravel()])


def decode(space: SearchSpace, genome: NDArray[np.int64]) -> Architecture:
    """The architecture of a genome of shape (genes,); genes of skipped blocks have no effect."""
    deepest = space.depths[-1]
    depths = [space.depths[gene] for gene in genome[1 : 1 + NUM_STAGES]]
    kernel_genes, ratio_genes = genome[1 + NUM_STAGES :].reshape(2, NUM_STAGES, deepest)
    stages = tuple(
        tuple(
            Block(space.kernel_sizes[kernel_genes[stage, block]], space.expand_ratios[ratio_genes[stage, block]])
            for block in range(depth)
        )
        for stage, depth in enumerate(depths)
    )
    return Architecture(space.resolutions[genome[0]], stages)


def one_hot(space: SearchSpace, architectures: Sequence[Architecture]) -> NDArray[np.float32]:
    """One-hot features, shape (architectures, features) float32.

    Kernel size and expand ratio of each block at full depth, zeros where the block is skipped, then
    the resolution: the features of the paper's accuracy predictor.
    """
    deepest = space.depths[-1]
    rows = []
    for architecture in architectures:
        genome = encode(space, architecture)
        active = np.zeros((NUM_STAGES, deepest), dtype=bool)
        for stage, depth in enumerate(architecture.depths):
            active[stage, :depth] = True
        kernel_genes, ratio_genes = genome[1 + NUM_STAGES :].reshape(2, -1)
        mask = active.ravel()[:, None]
        rows.append(
            np.concatenate(
                [
                    (np.eye(len(space.kernel_sizes))[kernel_genes] * mask).ravel(),
                    (np.eye(len(space.expand_ratios))[ratio_genes] * mask).ravel(),
                    np.eye(len(space.resolutions))[genome[0]],
                ]
            )
        )
    return np.array(rows, dtype=np.float32)
