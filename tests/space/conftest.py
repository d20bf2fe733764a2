from __future__ import annotations

import pytest
from hypothesis import strategies as st

from ofa_tvm.space.architecture import Architecture, Block
from ofa_tvm.space.search_space import NUM_STAGES, SearchSpace


def architectures_of(space: SearchSpace) -> st.SearchStrategy[Architecture]:
    blocks = st.builds(Block, st.sampled_from(space.kernel_sizes), st.sampled_from(space.expand_ratios))
    stage = st.sampled_from(space.depths).flatmap(lambda depth: st.tuples(*[blocks] * depth))
    return st.builds(Architecture, st.sampled_from(space.resolutions), st.tuples(*[stage] * NUM_STAGES))


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace(1.2, 1000, (128, 160, 192, 224))


@pytest.fixture(scope="session")
def architectures(space: SearchSpace) -> st.SearchStrategy[Architecture]:
    """Strategy of the space's architectures; draw from it through `st.data()`."""
    return architectures_of(space)
