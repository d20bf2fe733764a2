from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_tvm.errors import InvalidArchitectureError
from ofa_tvm.space.encoding import decode, encode, genome_bounds, one_hot
from ofa_tvm.space.search_space import NUM_STAGES


@given(st.data())
def test_round_trip(space, architectures, data):
    architecture = data.draw(architectures)
    genome = encode(space, architecture)
    assert decode(space, genome) == architecture
    assert genome.shape == genome_bounds(space).shape
    assert ((genome >= 0) & (genome < genome_bounds(space))).all()


@given(st.data())
def test_genes_of_skipped_blocks_have_no_effect(space, architectures, data):
    architecture = data.draw(architectures)
    genome = encode(space, architecture)
    active = np.concatenate(
        [
            np.ones(1 + NUM_STAGES, dtype=bool),
            *[np.arange(space.depths[-1]) < depth for depth in architecture.depths * 2],
        ]
    )
    assert (genome[~active] == 0).all()
    noise = np.random.default_rng(0).integers(0, genome_bounds(space))
    changed = np.where(active, genome, noise)
    assert decode(space, changed) == architecture
    assert hash(decode(space, changed)) == hash(architecture)


@given(st.data())
def test_one_hot_says_each_choice_once(space, architectures, data):
    architecture = data.draw(architectures)
    (features,) = one_hot(space, [architecture])
    blocks = sum(architecture.depths)
    positions = NUM_STAGES * space.depths[-1]
    assert features.shape == (positions * 6 + len(space.resolutions),)
    kernels, ratios, resolutions = np.split(features, [positions * 3, positions * 6])
    assert (kernels.sum(), ratios.sum(), resolutions.sum()) == (blocks, blocks, 1)
    sizes = [block.kernel_size for stage in architecture.stages for block in stage]
    assert [space.kernel_sizes[i % 3] for i in np.flatnonzero(kernels)] == sizes
    assert space.resolutions[int(resolutions.argmax())] == architecture.resolution


@given(st.data())
def test_different_architectures_have_different_features(space, architectures, data):
    first, second = data.draw(architectures), data.draw(architectures)
    features = one_hot(space, [first, second])
    assert np.array_equal(*features) == (first == second)
    assert np.array_equal(encode(space, first), encode(space, second)) == (first == second)


@pytest.mark.parametrize("function", [encode, lambda space, architecture: one_hot(space, [architecture])])
def test_foreign_architectures_are_refused(space, function):
    with pytest.raises(InvalidArchitectureError, match="resolution 32"):
        function(space, space.smallest(32))
