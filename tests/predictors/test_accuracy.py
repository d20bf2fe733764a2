from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from ofa_tvm.errors import InvalidArchitectureError, InvalidRecordError, UsageError
from ofa_tvm.predictors import accuracy_training
from ofa_tvm.predictors.accuracy_model import AccuracyModel
from ofa_tvm.predictors.metrics import held_out_metrics
from ofa_tvm.space.encoding import one_hot


def ridge(features, targets, penalty):
    mean, center = targets.mean(), features.mean(axis=0)
    gram = (features - center).T @ (features - center) + penalty * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, (features - center).T @ (targets - mean))
    return lambda unseen: mean + (unseen - center) @ weights


def test_ranks_unseen_subnets_at_least_as_well_as_ridge(
    space, draw, accuracy_predictor, accuracy_records, true_accuracy
):
    unseen = draw(300, 99)
    truth = [true_accuracy(a) for a in unseen]
    ours = held_out_metrics(accuracy_predictor.predict(unseen), truth)
    features = one_hot(space, [a for a, _ in accuracy_records]).astype(np.float64)
    targets = np.array([accuracy for _, accuracy in accuracy_records])
    baselines = [
        held_out_metrics(ridge(features, targets, penalty)(one_hot(space, unseen)), truth)
        for penalty in (0.3, 1, 3, 10)
    ]
    assert ours.spearman > 0.95
    assert ours.spearman >= max(baseline.spearman for baseline in baselines) - 0.005
    assert ours.mae <= min(baseline.mae for baseline in baselines)


def test_summary_speaks_of_held_out_records(accuracy_predictor, accuracy_records):
    summary = accuracy_predictor.summary
    assert summary.records == len(accuracy_records)
    assert summary.held_out.count == len(accuracy_records) // 5
    assert summary.held_out.spearman > 0.9


def test_numpy_agrees_with_torch():
    generator = torch.Generator().manual_seed(0)
    widths = [7, 400, 400, 400, 1]
    weights = [torch.randn(3, a, b, generator=generator) / a**0.5 for a, b in itertools.pairwise(widths)]
    biases = [torch.randn(3, 1, b, generator=generator) * 0.1 for b in widths[1:]]
    features = torch.rand(5, 7, generator=generator)
    outputs = []
    for member in range(3):
        hidden = features
        for layer in range(4):
            hidden = torch.nn.functional.linear(hidden, weights[layer][member].T, biases[layer][member, 0])
            hidden = torch.relu(hidden) if layer < 3 else hidden
        outputs.append(hidden[:, 0])
    expected = (0.5 + torch.stack(outputs).mean(dim=0)).clamp(0, 1).numpy()
    model = AccuracyModel(0.5, tuple(w.numpy() for w in weights), tuple(b.numpy() for b in biases))
    np.testing.assert_allclose(model.predict(features.numpy()), expected, rtol=1e-5)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(accuracy_training, "_EPOCHS", 2)


def test_same_seed_same_predictor(space, draw, accuracy_records, quick):
    first, second, other = (accuracy_training.train(space, accuracy_records[:30], seed=seed) for seed in (1, 1, 2))
    unseen = draw(10, 9)
    np.testing.assert_array_equal(first.predict(unseen), second.predict(unseen))
    assert not np.array_equal(first.predict(unseen), other.predict(unseen))
    assert first.summary.records_sha256 == other.summary.records_sha256


def test_digest_ignores_the_order_of_records_and_sees_their_values(space, accuracy_records, quick):
    records = accuracy_records[:20]
    forward, backward = (accuracy_training.train(space, r) for r in (records, records[::-1]))
    assert forward.summary.records_sha256 == backward.summary.records_sha256
    changed = [(records[0][0], records[0][1] / 2), *records[1:]]
    assert accuracy_training.train(space, changed).summary.records_sha256 != forward.summary.records_sha256


def test_leaves_torch_as_it_was(space, accuracy_records, quick):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    accuracy_training.train(space, accuracy_records[:20])
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_equal_accuracies_are_learnt(space, draw, quick):
    predictor = accuracy_training.train(space, [(a, 0.75) for a in draw(20, 1)])
    np.testing.assert_allclose(predictor.predict(draw(5, 2)), 0.75, atol=0.5)


def test_too_few_records(space, accuracy_records):
    repeated = accuracy_records[:19] * 3
    with pytest.raises(UsageError, match=r"19 different subnets.*needs 20"):
        accuracy_training.train(space, repeated)


def test_an_accuracy_of_0_is_one(space, draw, quick):
    predictor = accuracy_training.train(space, [(a, 0.01 * (n % 5)) for n, a in enumerate(draw(25, 1))])
    assert np.isfinite(list(predictor.summary.held_out.to_dict().values())).all()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda model: dataclasses.replace(model, base=float("nan")), "base"),
        (lambda model: spoilt(model.weights[2], float("nan")) or model, r"layers\.2\.weight"),
        (lambda model: spoilt(model.biases[0], float("inf")) or model, r"layers\.0\.bias"),
    ],
)
def test_what_is_not_finite_is_refused_by_name(accuracy_predictor, damage, named):
    original = accuracy_predictor._model
    model = AccuracyModel(original.base, *([w.copy() for w in part] for part in (original.weights, original.biases)))
    with pytest.raises(InvalidRecordError, match=f"{named} holds NaN or infinity"):
        spoiled = damage(model)
        AccuracyModel.from_safetensors(spoiled.base, spoiled.to_safetensors())


def spoilt(values, value):
    values.flat[-1] = value


@pytest.mark.parametrize("accuracy", [-0.1, 1.2, 87.3, float("nan")])
def test_percentages_and_nonsense_are_refused(space, draw, accuracy):
    with pytest.raises(InvalidRecordError, match="fraction"):
        accuracy_training.train(space, [(a, accuracy) for a in draw(20, 1)])


def test_foreign_architectures_are_refused(space, draw):
    with pytest.raises(InvalidArchitectureError):
        accuracy_training.train(space, [(a, 0.5) for a in [*draw(20, 1), space.smallest(36)]])


def test_predicting_needs_no_torch():
    command = "import sys, ofa_tvm.predictors.accuracy; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)
