from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_tvm.errors import InvalidArchitectureError, UsageError
from ofa_tvm.space.architecture import Architecture, Block

STAGES = ((Block(3, 3), Block(5, 4)),) * 5


@pytest.mark.parametrize(("kernel_size", "expand_ratio", "named"), [(9, 3, "kernel size 9"), (3, 5, "expand ratio 5")])
def test_choices_no_supernet_offers(kernel_size, expand_ratio, named):
    with pytest.raises(InvalidArchitectureError, match=f"{named}: choose from"):
        Block(kernel_size, expand_ratio)


@pytest.mark.parametrize("value", ["3", 3.0, True, None])
def test_choices_are_integers(value):
    with pytest.raises(InvalidArchitectureError):
        Block(value, 3)
    with pytest.raises(InvalidArchitectureError):
        Block(3, value)


@pytest.mark.parametrize("resolution", [0, -32, 30, 32.0, "32", True])
def test_resolutions(resolution):
    with pytest.raises(InvalidArchitectureError, match="resolution"):
        Architecture(resolution, STAGES)


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_depths(depth):
    with pytest.raises(InvalidArchitectureError, match=f"depth {depth}"):
        Architecture(32, ((Block(3, 3),) * depth, *STAGES[1:]))


def test_no_stages():
    with pytest.raises(InvalidArchitectureError, match="stage"):
        Architecture(32, ())


def test_errors_are_the_users_and_value_errors():
    assert issubclass(InvalidArchitectureError, UsageError)
    assert issubclass(InvalidArchitectureError, ValueError)


@given(st.data())
def test_json_round_trip(architectures, data):
    architecture = data.draw(architectures)
    back = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
    assert back == architecture
    assert hash(back) == hash(architecture)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("resolution"),
        lambda content: content.pop("stages"),
        lambda content: content.update(width=1),
        lambda content: content["stages"][0][0].update(stride=2),
        lambda content: content["stages"][0][0].pop("kernel_size"),
        lambda content: content["stages"][0][0].update(kernel_size=9),
        lambda content: content["stages"].__setitem__(0, 7),
        lambda content: content.update(stages=None),
    ],
)
def test_damaged_json_is_refused(change):
    content = Architecture(32, STAGES).to_dict()
    change(content)
    with pytest.raises(InvalidArchitectureError):
        Architecture.from_dict(content)


def test_frozen():
    with pytest.raises(AttributeError):
        Architecture(32, STAGES).resolution = 64


def test_text():
    assert str(Architecture(32, STAGES)) == "r32 d2,2,2,2,2 " + " ".join(["k3e3-k5e4"] * 5)
