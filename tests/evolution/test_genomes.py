from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.evolution.genomes import canonical, decode_all, first_population
from ofa_tvm.space.encoding import encode, genome_bounds
from ofa_tvm.space.search_space import SearchSpace

SPACE = SearchSpace(0.5, 36, (32, 48, 64))


def test_canonical_genomes_are_those_that_encode_gives():
    rng = np.random.default_rng(0)
    bounds = genome_bounds(SPACE)
    genomes = rng.integers(0, bounds, size=(200, len(bounds)))
    found = canonical(SPACE, genomes)
    np.testing.assert_array_equal(found, [encode(SPACE, a) for a in decode_all(SPACE, genomes)])
    np.testing.assert_array_equal(found, canonical(SPACE, found))


@pytest.mark.parametrize("space", [SPACE, SearchSpace(0.5, 36, tuple(range(32, 65, 4))), SearchSpace(1.0, 10, (32,))])
@pytest.mark.parametrize("size", [4, 100])
def test_first_population_holds_the_extremes(space, size):
    genomes = first_population(space, size, seed=0)
    assert len(genomes) == size
    architectures = decode_all(space, genomes)
    assert {space.smallest(), space.largest()} <= set(architectures)
    assert (genomes < genome_bounds(space)).all()
    assert len(set(architectures)) == size
