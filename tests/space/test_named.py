from __future__ import annotations

import pytest

from ofa_tvm.errors import UsageError
from ofa_tvm.space.named import NAMED_SPACES, chosen_resolutions, named_space


def test_the_published_spaces() -> None:
    space = named_space("mobilenet_v3_w1.2")
    assert (space.width_multiplier, space.num_classes) == (1.2, 1000)
    assert (space.resolutions[0], space.resolutions[-1], len(space.resolutions)) == (128, 224, 25)
    assert set(NAMED_SPACES) == {"mobilenet_v3_w1.0", "mobilenet_v3_w1.2"}


def test_a_wrong_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match=r"'mobilenetv3_w1.2', did you mean 'mobilenet_v3_w1.2'\? known spaces: "):
        named_space("mobilenetv3_w1.2")
    with pytest.raises(UsageError, match=r"no search space 'x'; known spaces: mobilenet_v3_w1.0, mobilenet_v3_w1.2$"):
        named_space("x")


def test_resolutions_are_the_spaces_own() -> None:
    space = named_space("mobilenet_v3_w1.0")
    assert chosen_resolutions(None, space) == space.resolutions
    assert chosen_resolutions("224,160,160", space) == (160, 224)
    with pytest.raises(UsageError, match="161 is not in this space; there are 128, 132"):
        chosen_resolutions("160,161", space)
    with pytest.raises(UsageError, match="give numbers with commas between"):
        chosen_resolutions("160 224", space)
