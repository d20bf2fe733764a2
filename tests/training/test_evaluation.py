from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from ofa_tvm.errors import InvalidArchitectureError, InvalidRecordError, NumericalMismatchError
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.calibration import calibrate
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.training.characters import CharacterImages, normalise
from ofa_tvm.training.evaluation import Evaluator
from ofa_tvm.training.records import AccuracyRecord, append_accuracy_record, read_accuracy_records

IMAGES, CALIBRATION_IMAGES = 300, 90


@pytest.fixture(scope="module")
def evaluator(untrained):
    return Evaluator(untrained, CALIBRATION_IMAGES, IMAGES)


@pytest.fixture
def record(space):
    return AccuracyRecord(space.smallest(), 0.25, IMAGES, CALIBRATION_IMAGES, "a" * 64)


def rendered(seed, count, resolution):
    blocks = [CharacterImages(seed).block(index, resolution) for index in range(5)]
    images, labels = (torch.cat(parts)[:count] for parts in zip(*blocks, strict=True))
    return normalise(images), labels


@torch.no_grad()
def test_accuracy_is_that_of_a_direct_computation(evaluator, untrained, space):
    architecture = space.smallest(36)
    subnet = load_supernet(untrained).extract(architecture)
    calibrate(subnet, [rendered(11, CALIBRATION_IMAGES, 36)[0]])
    images, labels = rendered(12, IMAGES, 36)
    hits = sum(int(subnet(image[None])[0].argmax()) == int(label) for image, label in zip(images, labels, strict=True))
    record = evaluator.accuracy(architecture)
    assert record.accuracy == pytest.approx(hits / IMAGES, abs=1.5 / IMAGES)  # a tie may fall either way
    assert 0 < record.accuracy < 1
    assert record == AccuracyRecord(
        architecture, record.accuracy, IMAGES, CALIBRATION_IMAGES, untrained.metadata.weights_sha256
    )


def test_accuracy_does_not_depend_on_what_was_measured_before(evaluator, untrained, space):
    before = evaluator.accuracy(space.smallest())
    evaluator.accuracy(space.largest())
    assert evaluator.accuracy(space.smallest()) == before
    assert Evaluator(untrained, CALIBRATION_IMAGES, IMAGES).accuracy(space.smallest()) == before


def test_a_given_subnet_is_measured_as_it_is(evaluator, space):
    constant = evaluator.calibrated(space.smallest())
    torch.nn.init.zeros_(constant.classifier.weight)
    torch.nn.init.constant_(constant.classifier.bias, 0.0)
    constant.classifier.bias.data[7] = 1.0
    share = (evaluator.held_out(32).labels == 7).float().mean().item()
    assert evaluator.accuracy(space.smallest(), constant).accuracy == pytest.approx(share)


def test_an_architecture_of_another_space(evaluator):
    with pytest.raises(InvalidArchitectureError, match="resolution 64"):
        evaluator.accuracy(SearchSpace(0.25, 47, (64,)).smallest())


def test_records_round_trip(record, tmp_path):
    path = tmp_path / "accuracy.jsonl"
    assert read_accuracy_records(path, record.weights_sha256) == []
    append_accuracy_record(path, record)
    append_accuracy_record(path, record)
    assert read_accuracy_records(path, record.weights_sha256) == [record, record]


@pytest.mark.parametrize("accuracy", [0.0, 1.0, 0, 1])
def test_the_ends_of_the_scale_are_accuracies(record, tmp_path, accuracy):
    path = tmp_path / "accuracy.jsonl"
    extreme = dataclasses.replace(record, accuracy=accuracy)
    append_accuracy_record(path, extreme)
    assert read_accuracy_records(path, record.weights_sha256) == [extreme]


def test_the_field_at_fault_is_named(record, tmp_path):
    path = tmp_path / "accuracy.jsonl"
    append_accuracy_record(path, dataclasses.replace(record, accuracy=float("nan")))
    with pytest.raises(InvalidRecordError, match=r"line 1: accuracy: NaN is no number"):
        read_accuracy_records(path, record.weights_sha256)


def test_logits_that_are_no_numbers_are_no_accuracy(evaluator, space):
    with pytest.raises(NumericalMismatchError, match="NaN or infinite"):
        evaluator.accuracy(space.smallest(), lambda images: torch.full((len(images), 47), float("nan")))


def test_images_are_normalised_as_the_supernet_says(untrained):
    metadata = untrained.metadata.model_copy(update={"mean": (0.0, 0.5, 1.0), "std": (1.0, 0.5, 0.25)})
    evaluator = Evaluator(dataclasses.replace(untrained, metadata=metadata), CALIBRATION_IMAGES, IMAGES)
    pixels = evaluator.held_out(32).images[:1] / 255
    expected = torch.stack([pixels[:, 0], (pixels[:, 1] - 0.5) / 0.5, (pixels[:, 2] - 1.0) / 0.25], 1)
    torch.testing.assert_close(evaluator.sample(32), expected)


def test_records_of_other_weights_are_left_out(record, tmp_path):
    path = tmp_path / "accuracy.jsonl"
    append_accuracy_record(path, record)
    assert read_accuracy_records(path, "b" * 64) == []


def test_a_torn_last_line_is_left_out(record, tmp_path):
    path = tmp_path / "accuracy.jsonl"
    append_accuracy_record(path, record)
    with path.open("a") as stream:
        stream.write('{"architecture": {"reso')
    assert read_accuracy_records(path, record.weights_sha256) == [record]
    append_accuracy_record(path, record)
    assert read_accuracy_records(path, record.weights_sha256) == [record, record]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "{",
        lambda content: "[1]",
        lambda content: "{}",
        lambda content: json.dumps({**content, "accuracy": 1.5}),
        lambda content: json.dumps({**content, "accuracy": -0.1}),
        lambda content: json.dumps({**content, "accuracy": float("nan")}),
        lambda content: json.dumps({**content, "accuracy": True}),
        lambda content: json.dumps({**content, "images": float("nan")}),
        lambda content: json.dumps({**content, "images": 0}),
        lambda content: json.dumps({**content, "calibration_images": "many"}),
        lambda content: json.dumps({**content, "weights_sha256": None}),
        lambda content: json.dumps({**content, "accuracy": "high"}),
        lambda content: json.dumps({**content, "accuraccy": 0.5}),
        lambda content: json.dumps({**content, "architecture": {"resolution": 33, "stages": []}}),
        lambda content: json.dumps({**content, "architecture": None}),
    ],
)
def test_a_damaged_line(record, tmp_path, damage):
    path = tmp_path / "accuracy.jsonl"
    append_accuracy_record(path, record)
    with path.open("a") as stream:
        stream.write(damage(record.to_dict()) + "\n")
    append_accuracy_record(path, record)
    with pytest.raises(InvalidRecordError, match=r"accuracy.jsonl, line 2: (not a|\w+: NaN is no number)"):
        read_accuracy_records(path, record.weights_sha256)
