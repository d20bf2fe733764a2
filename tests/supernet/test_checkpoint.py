from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from ofa_tvm.errors import InvalidCheckpointError, OutputError
from ofa_tvm.files import sha256
from ofa_tvm.supernet import metadata
from ofa_tvm.supernet.checkpoint import load_supernet, save_supernet
from ofa_tvm.supernet.metadata import DataDescription, SupernetDescription, TrainingRecord, find_supernet
from ofa_tvm.supernet.network import Supernet

DESCRIPTION = SupernetDescription(
    name="digits",
    class_names=tuple("0123456789"),
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    data=DataDescription(kind="characters", calibration_seed=1, held_out_seed=2),
    training=TrainingRecord(
        command="python -m ofa_tvm.train", seed=0, batch_size=64, phases=(), finished="2025-01-01", versions={}
    ),
)


@pytest.fixture
def supernet(small_space):
    supernet = Supernet(small_space)
    supernet.train()(torch.randn(2, 3, 32, 32), small_space.largest())
    return supernet.eval()


@pytest.fixture
def saved(supernet, tmp_path):
    return save_supernet(tmp_path / "digits", supernet, DESCRIPTION)


def edit(folder, **changes):
    path = folder.path / "supernet.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(name_or_path, pattern):
    with pytest.raises(InvalidCheckpointError, match=pattern) as caught:
        load_supernet(find_supernet(str(name_or_path)))
    assert "\n" not in str(caught.value)


def test_round_trip_is_bit_identical(saved, supernet):
    found = find_supernet(str(saved.path))
    assert found == saved
    assert found.metadata.space == supernet.space
    loaded = load_supernet(found)
    assert not loaded.training
    expected = {n: t for n, t in supernet.state_dict().items() if not n.endswith("num_batches_tracked")}
    for name, tensor in expected.items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_saving_leaves_only_its_files(saved):
    assert sorted(path.name for path in saved.path.iterdir()) == ["supernet.json", "weights.safetensors"]


def test_a_folder_that_cannot_be_written(supernet, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        save_supernet(tmp_path / "file", supernet, DESCRIPTION)


@pytest.mark.parametrize("place", [0, 100, 20_000, -1])
def test_a_flipped_bit(saved, place):
    content = bytearray(saved.weights.read_bytes())
    content[place] ^= 1
    saved.weights.write_bytes(content)
    refused(saved.path, "is damaged: its SHA-256 is")


def test_truncated_weights(saved):
    saved.weights.write_bytes(saved.weights.read_bytes()[:-10])
    refused(saved.path, "is damaged: its SHA-256 is")


def test_missing_weights(saved):
    saved.weights.unlink()
    refused(saved.path, "weights.safetensors is missing")


def test_a_folder_in_place_of_the_weights(saved):
    saved.weights.unlink()
    saved.weights.mkdir()
    refused(saved.path, "weights.safetensors is missing")


def test_weights_that_are_no_safetensors(saved):
    saved.weights.write_bytes(b"not weights")
    edit(saved, weights_sha256=sha256(saved.weights))
    refused(saved.path, "does not fit the search space")


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda tensors: tensors.pop("classifier.linear.bias"), r"missing \['classifier.linear.bias'\]"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), r"unexpected \['extra'\]"),
        (lambda tensors: tensors.update({"classifier.linear.bias": torch.zeros(3)}), "size mismatch for classifier"),
    ],
)
def test_weights_with_other_tensors(saved, change, pattern):
    tensors = safetensors.torch.load_file(saved.weights)
    change(tensors)
    safetensors.torch.save_file(tensors, saved.weights)
    edit(saved, weights_sha256=sha256(saved.weights))
    refused(saved.path, pattern)


def test_weights_of_another_space(saved):
    edit(saved, search_space={**saved.metadata.search_space, "width_multiplier": 0.5})
    refused(saved.path, "does not fit the search space")


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"wieghts": "x"}, "wieghts: Extra inputs"),
        ({"format": 2}, "format: Input should be 1"),
        ({"search_space": {"family": "resnet"}}, "search_space: .*family 'resnet'"),
        ({"search_space": {"family": "mobilenet_v3", "depths": 3}}, "search_space: .*not a search space"),
        ({"class_names": ["a", "b"]}, "2 class names for 10 classes"),
        ({"name": "../../x"}, r"name: '../../x' is no name"),
        ({"mean": [0.5, float("nan"), 0.5]}, r"mean\.1: Input should be a finite number"),
        ({"mean": [0.5, 0.5, float("inf")]}, r"mean\.2: Input should be a finite number"),
        ({"std": [0.25, 0, 0.25]}, r"std\.1: Input should be .*, not 0"),
        ({"std": [-0.25, 0.25, 0.25]}, r"std\.0: Input should be .*, not -0.25"),
        ({"std": [0.25, 0.25, 1e-300]}, r"std\.2: Input should be .*, not 1e-300"),
        ({"std": [float("nan")] * 3}, r"std\.0: Input should be a finite number"),
        (
            {"data": {"kind": "characters", "calibration_seed": 5, "held_out_seed": 5}},
            "data: seed 5 gives the held-out",
        ),
        ({"data": {"kind": "characters", "calibration_seed": -1, "held_out_seed": 5}}, r"data\.calibration_seed: "),
        ({"data": {"kind": "characters", "calibration_seed": 1, "held_out_seed": 2**32}}, r"data\.held_out_seed: "),
        ({"data": {"kind": "photographs", "calibration_seed": 1, "held_out_seed": 2}}, "data.kind: Input should be"),
    ],
)
def test_metadata_outside_the_schema(saved, changes, pattern):
    edit(saved, **changes)
    refused(saved.path, pattern)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width_multiplier", float("nan")),
        ("width_multiplier", float("inf")),
        ("num_classes", float("nan")),
        ("resolutions", [float("nan")]),
        ("resolutions", [float("inf")]),
        ("depths", [2, "x"]),
    ],
)
def test_a_search_space_of_no_numbers(saved, key, value):
    edit(saved, search_space={**saved.metadata.search_space, key: value})
    refused(saved.path, "search_space: ")


def test_a_learning_rate_that_is_none(saved):
    phase = {"name": "base", "steps": 1, "learning_rate": float("nan"), "subnets_per_step": 1}
    training = saved.metadata.training.model_dump(mode="json")
    edit(saved, training={**training, "phases": [phase]})
    refused(saved.path, r"training\.phases\.0\.learning_rate: Input should be a finite number")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["blocks.3.conv.depth_conv.bn.bn.weight", "classifier.linear.bias"])
def test_weights_that_are_not_finite_name_the_tensor(saved, name, value):
    tensors = safetensors.torch.load_file(saved.weights)
    tensors[name].view(-1)[-1] = value
    safetensors.torch.save_file(tensors, saved.weights)
    edit(saved, weights_sha256=sha256(saved.weights))
    refused(saved.path, f"{name} holds NaN or infinity")


def test_a_negative_variance_names_the_tensor(saved):
    tensors = safetensors.torch.load_file(saved.weights)
    tensors["first_conv.bn.running_var"][0] = -1
    safetensors.torch.save_file(tensors, saved.weights)
    edit(saved, weights_sha256=sha256(saved.weights))
    refused(saved.path, r"first_conv\.bn\.running_var holds a negative variance")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_metadata_that_are_no_json_object(saved, content):
    (saved.path / "supernet.json").write_bytes(content)
    refused(saved.path, "supernet.json: ")


def test_a_path_that_is_none(tmp_path):
    refused(tmp_path / "nowhere", "no supernet .*nowhere'; name ")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "no supernet .*file'; name ")
    refused(tmp_path, "a folder with supernet.json")


def test_shipped_names(saved, monkeypatch):
    monkeypatch.setattr(metadata, "SHIPPED_FOLDER", saved.path.parent)
    assert find_supernet("digits").metadata == saved.metadata
    refused("didgits", r"no supernet 'didgits', did you mean 'digits'\? name digits or a folder")
    refused("photographs", "no supernet 'photographs'; name digits or a folder")
    refused("../digits", "no supernet")
