"""The state of an interrupted training: network, optimizer and position, as safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ofa_tvm.errors import InvalidCheckpointError
from ofa_tvm.files import write_atomic
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.checkpoint import first_unusable
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training.memory_layout import channels_last
from ofa_tvm.training.phases import Phase

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps for each parameter
_START_AGAIN = "remove the folder to start again"


@dataclass(frozen=True, slots=True)
class Position:
    """The next step of a run: number of the phase, and of the step in it."""

    phase: int = 0
    step: int = 0


class TrainingState:
    """Saves and loads what a training run needs to go on.

    ::

        <folder>/state.safetensors     weights, BN statistics, moments of the optimizer, position
        <folder>/teacher.safetensors   the largest net as it was after the base phase
    """

    def __init__(self, folder: Path, space: SearchSpace, phases: tuple[Phase, ...], seed: int) -> None:
        self._state = folder / "state.safetensors"
        self._teacher = folder / "teacher.safetensors"
        self._space = space
        steps = {phase.name: phase.steps for phase in phases}
        self._run = json.dumps({"seed": seed, "steps": steps})

    def position(self) -> Position:
        """Where the saved state goes on; the start if there is none.

        Raises
        ------
        InvalidCheckpointError
            The file is damaged, or of another search space, seed or schedule.
        """
        return self._read(self._state)[1] if self._state.exists() else Position()

    def save(self, supernet: Supernet, optimizer: torch.optim.Optimizer, position: Position) -> None:
        """Save the state as it is before the step at `position`.

        Raises
        ------
        OutputError
            The file can't be written.
        """
        tensors = _prefixed("model", supernet.state_dict())
        for name, parameter in supernet.named_parameters():
            for moment, tensor in optimizer.state.get(parameter, {}).items():
                tensors[f"{moment}.{name}"] = tensor
        self._write(self._state, tensors, position)

    def load(self, supernet: Supernet, optimizer: torch.optim.Optimizer) -> Position:
        """Load the saved state, if there is one, and return where it goes on.

        Raises
        ------
        InvalidCheckpointError
            The file is damaged, or of another search space, seed or schedule.
        """
        if not self._state.exists():
            return Position()
        tensors, position = self._read(self._state)
        _load_network(supernet, tensors, self._state)
        for name, parameter in supernet.named_parameters():
            for moment in _MOMENTS:
                if (tensor := tensors.get(f"{moment}.{name}")) is not None:
                    optimizer.state[parameter][moment] = tensor
        return position

    def save_teacher(self, supernet: Supernet) -> None:
        """Keep the network as the teacher of the later phases.

        Raises
        ------
        OutputError
            The file can't be written.
        """
        self._write(self._teacher, _prefixed("model", supernet.state_dict()), Position())

    def load_teacher(self) -> Supernet:
        """The teacher, without gradients, in training mode: it normalises by each batch's own statistics.

        Raises
        ------
        InvalidCheckpointError
            The file is missing or damaged, or of another search space, seed or schedule.
        """
        tensors, _ = self._read(self._teacher)
        teacher = channels_last(Supernet(self._space))
        _load_network(teacher, tensors, self._teacher)
        return teacher.train().requires_grad_(False)

    def _write(self, path: Path, tensors: dict[str, Tensor], position: Position) -> None:
        header = {
            "space": json.dumps(self._space.to_dict()),
            "run": self._run,
            "position": json.dumps({"phase": position.phase, "step": position.step}),
        }
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_atomic(path, safetensors.torch.save(contiguous, header))

    def _read(self, path: Path) -> tuple[dict[str, Tensor], Position]:
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            space = SearchSpace.from_dict(json.loads(header["space"]))
            position = Position(**json.loads(header["position"]))
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InvalidCheckpointError(f"{path}: not a training state ({error}); {_START_AGAIN}") from error
        if fault := first_unusable(tensors):
            raise InvalidCheckpointError(f"{path}: {fault}; {_START_AGAIN}")
        if space != self._space:
            raise InvalidCheckpointError(f"{path}: a training of another search space; name another folder with --out")
        if (run := header.get("run", self._run)) != self._run:  # states before this check have none
            raise InvalidCheckpointError(
                f"{path}: a training with {run}, not {self._run}; name another folder with --out, or use its options"
            )
        return tensors, position


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _load_network(supernet: Supernet, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        supernet.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InvalidCheckpointError(f"{path}: not a training state ({reason[:200]}); {_START_AGAIN}") from error
