from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training.optimisation import learning_rate, new_optimizer, training_loss
from ofa_tvm.training.phases import Phase


def test_loss_against_its_definition():
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    labels = rng.integers(7, size=5)
    target = np.full((5, 7), 0.1 / 7) + 0.9 * np.eye(7)[labels]
    hard = -(target * log_softmax(logits, 1)).sum(1).mean()
    soft = -(softmax(teacher, 1) * log_softmax(logits, 1)).sum(1).mean()
    tensors = torch.tensor(logits), torch.tensor(labels)
    assert training_loss(*tensors, None).item() == pytest.approx(hard)
    assert training_loss(*tensors, torch.tensor(teacher).softmax(1)).item() == pytest.approx(hard + soft)


def test_weight_decay_spares_biases_and_batch_norm(space):
    supernet = Supernet(space)
    decayed, plain = new_optimizer(supernet).param_groups
    assert decayed["weight_decay"] > 0
    assert plain["weight_decay"] == 0
    spared = {id(parameter) for parameter in plain["params"]}
    names = {name for name, parameter in supernet.named_parameters() if id(parameter) in spared}
    assert names == {name for name, _ in supernet.named_parameters() if ".bn." in name or name.endswith("bias")}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(supernet.parameters()))


def test_learning_rate_rises_then_falls_to_almost_nothing(space):
    phase = Phase("base", space, 2000, 0.01)
    rates = [learning_rate(phase, step) for step in range(phase.steps)]
    peak = rates.index(max(rates))
    assert peak == 99
    assert max(rates) == pytest.approx(0.01)
    assert all(later > earlier for earlier, later in itertools.pairwise(rates[: peak + 1]))
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[peak + 1 :]))
    assert 0 < rates[-1] < 1e-7


@pytest.mark.parametrize("steps", [1, 9, 10])
def test_learning_rate_of_short_phases(space, steps):
    phase = Phase("base", space, steps, 0.01)
    assert all(0 < learning_rate(phase, step) <= 0.01 for step in range(steps))
