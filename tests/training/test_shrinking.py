from __future__ import annotations

import dataclasses
import itertools
import json
import shutil

import pytest
import safetensors
import safetensors.torch
import torch

from ofa_tvm.errors import InvalidCheckpointError, OutputError, StageError
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training import shrinking
from ofa_tvm.training.optimisation import training_loss
from ofa_tvm.training.phases import progressive_shrinking
from ofa_tvm.training.shrinking import ProgressiveShrinking

SCALE = 0.001
STEPS = 10


class StoppedError(Exception):
    """What an interruption raises in these tests."""


@pytest.fixture(scope="module")
def trainer(space):
    def make(folder, **changes):
        options = {"space": space, "phases": progressive_shrinking(space, SCALE), "save_every": 1, **changes}
        return ProgressiveShrinking(folder=folder, **options)

    return make


@pytest.fixture(scope="module")
def finished(trainer, tmp_path_factory):
    """An uninterrupted run: its folder, supernet and reports; not to be changed."""
    folder, reports = tmp_path_factory.mktemp("finished"), []
    supernet = trainer(folder, report=reports.append, log_every=4).run()
    return folder, supernet, reports


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished run's folder."""
    return shutil.copytree(finished[0], tmp_path / "copy")


@pytest.fixture(scope="module")
def interrupted(trainer, tmp_path_factory):
    """A run that a teacher has begun to teach: its folder; not to be changed."""
    folder = tmp_path_factory.mktemp("interrupted")
    interrupt(trainer(folder), 6)
    return folder


@pytest.fixture
def folder_at_step_5(interrupted, tmp_path):
    """A copy of the interrupted run's folder."""
    return shutil.copytree(interrupted, tmp_path / "copy")


def interrupt(trainer, step):
    """Run until the given step has been done, but not saved."""

    def report(_progress):
        nonlocal step
        step -= 1
        if step == 0:
            raise StoppedError

    trainer.report = report
    with pytest.raises(StoppedError):
        trainer.run()


def assert_same_weights(actual, expected):
    for name, tensor in expected.state_dict().items():
        assert torch.equal(actual.state_dict()[name], tensor), name


def rewrite(path, header=None, drop=None):
    """Change the header or leave out a tensor of a safetensors file."""
    with safetensors.safe_open(path, framework="pt") as file:
        old_header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != drop}  # noqa: SIM118
    safetensors.torch.save_file(tensors, path, old_header if header is None else header(old_header))


def test_a_run_trains_every_weight_in_every_phase_and_ends(finished, space):
    folder, supernet, reports = finished
    assert [report.phase for report in reports] == (
        ["base"] * 4 + ["kernel"] * 2 + ["depth-1", "depth-2", "width-1", "width-2"]
    )
    assert len(reports) == STEPS
    assert not supernet.training
    torch.manual_seed(0)
    initial = dict(Supernet(space).named_parameters())
    for name, parameter in supernet.named_parameters():
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, initial[name]), name
    assert sorted(path.name for path in folder.iterdir()) == [
        "log.jsonl",
        "state.safetensors",
        "teacher.safetensors",
    ]
    line = json.loads((folder / "log.jsonl").read_text().splitlines()[0])
    assert (line["phase"], line["step"], line["steps"]) == ("base", 4, 4)


def test_the_teacher_is_the_net_after_the_base_phase(finished, trainer, tmp_path):
    base = progressive_shrinking(finished[1].space, SCALE)[:1]
    trained = trainer(tmp_path, phases=base).run()
    taught = safetensors.torch.load_file(finished[0] / "teacher.safetensors")
    for name, tensor in trained.state_dict().items():
        assert torch.equal(taught[f"model.{name}"], tensor), name


@pytest.mark.parametrize("step", [1, 5, 9])
def test_an_interrupted_run_ends_with_the_very_same_weights(finished, trainer, tmp_path, step):
    interrupt(trainer(tmp_path), step)
    resumed = trainer(tmp_path)
    assert resumed.finished_steps() == step - 1
    reports = []
    resumed.report = reports.append
    assert_same_weights(resumed.run(), finished[1])
    assert len(reports) == STEPS - step + 1


def test_two_interruptions(finished, trainer, tmp_path):
    interrupt(trainer(tmp_path), 3)
    interrupt(trainer(tmp_path), 8)
    assert trainer(tmp_path).finished_steps() == 9
    assert_same_weights(trainer(tmp_path).run(), finished[1])


def test_a_finished_run_is_not_trained_again(finished, trainer, folder):
    again = trainer(folder)
    assert again.finished_steps() == STEPS
    reports = []
    again.report = reports.append
    assert_same_weights(again.run(), finished[1])
    assert not reports


def test_seeds_differ(finished, trainer, tmp_path):
    reports = []
    one_step = trainer(tmp_path, seed=1, phases=progressive_shrinking(finished[1].space, 1e-9)[:1])
    one_step.report = reports.append
    one_step.run()
    assert reports[0].loss != finished[2][0].loss


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a state" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: rewrite(path, lambda header: {}),
        lambda path: rewrite(path, lambda header: {**header, "space": "{"}),
        lambda path: rewrite(path, lambda header: {**header, "position": '{"epoch": 1}'}),
        lambda path: rewrite(path, drop="model.first_conv.conv.weight"),
    ],
)
@pytest.mark.parametrize("name", ["state", "teacher"])
def test_a_damaged_file(trainer, folder_at_step_5, name, damage):
    damage(folder_at_step_5 / f"{name}.safetensors")
    with pytest.raises(
        InvalidCheckpointError, match=f"{name}.safetensors: not a training state .*start again"
    ) as caught:
        trainer(folder_at_step_5).run()
    assert "\n" not in str(caught.value)


def test_a_missing_teacher(trainer, folder_at_step_5):
    (folder_at_step_5 / "teacher.safetensors").unlink()
    with pytest.raises(InvalidCheckpointError, match=r"teacher.safetensors: not a training state"):
        trainer(folder_at_step_5).run()


def test_a_state_that_is_not_finite(trainer, folder_at_step_5):
    path = folder_at_step_5 / "state.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = safetensors.torch.load_file(path)
    tensors["exp_avg.classifier.linear.bias"][0] = float("nan")
    safetensors.torch.save_file(tensors, path, header)
    with pytest.raises(InvalidCheckpointError, match=r"exp_avg\.classifier\.linear\.bias holds NaN"):
        trainer(folder_at_step_5).run()


def test_a_training_that_diverges_ends_before_its_weights_are_spoilt(trainer, tmp_path, monkeypatch):
    steps = itertools.count()

    def diverging(logits, labels, soft_labels):
        loss = training_loss(logits, labels, soft_labels)
        return loss * float("nan") if next(steps) == 2 else loss

    monkeypatch.setattr(shrinking, "training_loss", diverging)
    with pytest.raises(StageError, match=r"diverged at step 3 of phase base: the loss is nan.*--out"):
        trainer(tmp_path).run()
    assert trainer(tmp_path).finished_steps() == 2
    for name, tensor in safetensors.torch.load_file(tmp_path / "state.safetensors").items():
        assert tensor.isfinite().all(), name


def test_another_search_space(trainer, folder, space):
    other = SearchSpace(0.5, space.num_classes, space.resolutions)
    with pytest.raises(InvalidCheckpointError, match="another search space; name another folder with --out"):
        trainer(folder, space=other).finished_steps()


def test_another_seed_or_schedule(trainer, folder, space):
    with pytest.raises(InvalidCheckpointError, match=r'"seed": 0.*not .*"seed": 1.*name another folder'):
        trainer(folder, seed=1).run()
    with pytest.raises(InvalidCheckpointError, match=r'"base": 4.*not .*"base": 8.*name another folder'):
        trainer(folder, phases=progressive_shrinking(space, 2 * SCALE)).run()


def test_states_that_do_not_name_their_run_are_trusted(trainer, folder):
    path = folder / "state.safetensors"
    rewrite(path, lambda header: {name: value for name, value in header.items() if name != "run"})
    assert trainer(folder).finished_steps() == STEPS


def test_a_folder_that_cannot_be_written(trainer, tmp_path, space):
    (tmp_path / "file").touch()
    one_step = tuple(dataclasses.replace(phase, steps=1) for phase in progressive_shrinking(space)[:1])
    with pytest.raises(OutputError, match="file"):
        trainer(tmp_path / "file", phases=one_step).run()
