"""The state of an interrupted training: network, optimizer and position, as safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ofa_tvm.errors import InvalidCheckpointError
from ofa_tvm.files import write_atomic
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training.memory_layout import channels_last

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps for each parameter


class TrainingState:
    """Saves and loads what a training run needs to go on."""

    def __init__(self, folder: Path, space: SearchSpace) -> None:
        self._state = folder / "state.safetensors"
        self._teacher = folder / "teacher.safetensors"
        self._space = space

    def position(self) -> tuple[int, int]:
        """Phase and step of the saved state; 0, 0 if there is none.

        Raises
        ------
        InvalidCheckpointError
            The file is damaged, or of another search space.
        """
        if not self._state.exists():
            return 0, 0
        _, position = self._read(self._state)
        return position["phase"], position["step"]

    def save(self, supernet: Supernet, optimizer: torch.optim.Optimizer, phase: int, step: int) -> None:
        """Save the state before step `step` of phase number `phase`."""
        tensors = {f"model.{name}": tensor for name, tensor in supernet.state_dict().items()}
        for name, parameter in supernet.named_parameters():
            for moment, tensor in optimizer.state.get(parameter, {}).items():
                tensors[f"{moment}.{name}"] = tensor
        self._write(self._state, tensors, {"phase": phase, "step": step})

    def load(self, supernet: Supernet, optimizer: torch.optim.Optimizer) -> tuple[int, int]:
        """Load the saved state, if there is one, and return its phase and step (else 0, 0).

        Raises
        ------
        InvalidCheckpointError
            The file is damaged, or of another search space.
        """
        if not self._state.exists():
            return 0, 0
        tensors, position = self._read(self._state)
        supernet.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        for name, parameter in supernet.named_parameters():
            for moment in _MOMENTS:
                if (tensor := tensors.get(f"{moment}.{name}")) is not None:
                    optimizer.state[parameter][moment] = tensor
        return position["phase"], position["step"]

    def save_teacher(self, supernet: Supernet) -> None:
        """Keep the network as the teacher of the later phases."""
        self._write(self._teacher, {f"model.{n}": t for n, t in supernet.state_dict().items()}, {})

    def load_teacher(self) -> Supernet:
        """The teacher, without gradients, in training mode: it normalises by each batch's own statistics.

        Raises
        ------
        InvalidCheckpointError
            The file is missing or damaged.
        """
        tensors, _ = self._read(self._teacher)
        teacher = channels_last(Supernet(self._space))
        teacher.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors.items()})
        return teacher.train().requires_grad_(False)

    def _write(self, path: Path, tensors: dict[str, torch.Tensor], position: dict[str, int]) -> None:
        header = {"space": json.dumps(self._space.to_dict()), "position": json.dumps(position)}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_atomic(path, safetensors.torch.save(contiguous, header))

    def _read(self, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            space = SearchSpace.from_dict(json.loads(header["space"]))
            position: dict[str, int] = json.loads(header["position"])
        except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
            raise InvalidCheckpointError(
                f"{path}: not a training state ({error}); remove the folder to start again"
            ) from error
        if space != self._space:
            raise InvalidCheckpointError(f"{path}: a training of another search space; name another folder with --out")
        return tensors, position
