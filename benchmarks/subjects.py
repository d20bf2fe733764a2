"""Subnets to compare, written to folders from which every system loads the same one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from systems.loaded import ARCHITECTURE, IMAGE, LOGITS, MODEL, WEIGHTS

from ofa_tvm.files import write_json
from ofa_tvm.lowering.lower import LoweredSubnet, lower
from ofa_tvm.lowering.outputs import random_image
from ofa_tvm.profiling.space_profiler import subnets_to_profile
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.named import named_space
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.calibration import calibrate
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.metadata import find_supernet
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.supernet.subnet import Subnet
from ofa_tvm.supernet.threads import one_torch_thread

IMAGENET_SPACE = named_space("mobilenet_v3_w1.0")
_CALIBRATION_IMAGES = 8


@dataclass(frozen=True)
class Subject:
    """A subnet in files.

    Attributes
    ----------
    folder
        Its files, by the names in `systems.loaded`.
    macs
        Multiply-accumulates of its kernels.
    """

    folder: Path
    space: SearchSpace
    architecture: Architecture

    @property
    def kernels(self) -> tuple[Workload, ...]:
        """Of the whole subnet, with repetition."""
        return workloads(self.space, self.architecture)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(workload.macs for workload in self.kernels)


def chosen_space(supernet: str | None) -> SearchSpace:
    """The space of `chosen_supernet`."""
    return IMAGENET_SPACE if supernet is None else find_supernet(supernet).metadata.space


def chosen_supernet(supernet: str | None, seed: int) -> Supernet:
    """The supernet of ``--supernet``; without one, MobileNetV3 of width 1.0 with random weights."""
    if supernet is not None:
        return load_supernet(find_supernet(supernet))
    torch.manual_seed(seed)
    return Supernet(IMAGENET_SPACE)


def chosen_architectures(supernet: str | None, space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Random subnets; of a supernet on disk the smallest and the largest one first."""
    return space.sample_distinct(count, seed) if supernet is None else subnets_to_profile(space, count, seed)


def write_subjects(network: Supernet, architectures: list[Architecture], root: Path, seed: int) -> list[Subject]:
    """Subnets with BN statistics of their own, over random images, so that activations are of sensible size."""
    subjects = []
    for number, architecture in enumerate(architectures):
        subnet = network.extract(architecture)
        generator = torch.Generator().manual_seed(seed)
        with one_torch_thread():
            images = torch.randn(
                _CALIBRATION_IMAGES, 3, architecture.resolution, architecture.resolution, generator=generator
            )
            calibrate(subnet, [images])
            lowered = lower(subnet, random_image(architecture.resolution, seed))
        subjects.append(write_subject(root / str(number), network.space, architecture, subnet, lowered))
    return subjects


def write_subject(
    folder: Path, space: SearchSpace, architecture: Architecture, subnet: Subnet, lowered: LoweredSubnet
) -> Subject:
    """Write what every system loads; all but our library."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(lowered.model.SerializeToString())
    safetensors.torch.save_file(subnet.state_dict(), folder / WEIGHTS)
    np.save(folder / IMAGE, lowered.sample_input)
    np.save(folder / LOGITS, lowered.sample_output)
    write_json(folder / ARCHITECTURE, {"space": space.to_dict(), "architecture": architecture.to_dict()})
    return Subject(folder, space, architecture)
