"""Jobs: what a device is asked to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ofa_tvm.space.workload import Workload

Float32Array = npt.NDArray[np.float32]


class RunsKernels(Protocol):
    """What a proof needs of a device (`ofa_tvm.measurement.device.Device`)."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        """Outputs of the kernel, for its inputs."""


Proof = Callable[[RunsKernels], object]
"""Raises a NumericalMismatchError on a device that computes wrong numbers."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Another function of a job's library, which calls the kernel once for each of several copies of its weights.

    Attributes
    ----------
    copies
        Weights it takes, one behind the other, as the second argument in the place of the kernel's.
    """

    function: str
    copies: int


@dataclass(frozen=True, slots=True)
class KernelJob:
    """One function of a compiled library, on float32 tensors filled at random.

    Attributes
    ----------
    library
        Shared library for the device. Many jobs may share one; it is uploaded once a session.
    shapes
        Of all arguments in order, inputs first, outputs last.
    workload
        What the function computes.
    outputs
        How many of the arguments are outputs.
    rotation
        What is timed in the function's place, if anything: a sample is still the time of one run of the kernel.
    proof
        To be given by a device before it is timed there, if any; where it isn't, the job has failed.
    """

    library: Path
    function: str
    shapes: tuple[tuple[int, ...], ...]
    workload: Workload
    outputs: int = 1
    rotation: Rotation | None = None
    proof: Proof | None = field(default=None, compare=False, repr=False)

    @property
    def label(self) -> str:
        """Short name for messages."""
        return f"kernel {self.function} ({self.workload.key})"


@dataclass(frozen=True, slots=True)
class SubnetJob:
    """A whole subnet: a Relax executable with its weights inside and the entry point ``main``.

    Attributes
    ----------
    input_shape
        (N, C, H, W), float32.
    workloads
        Of its kernels, in order.
    """

    library: Path
    input_shape: tuple[int, ...]
    workloads: tuple[Workload, ...]

    @property
    def label(self) -> str:
        """Short name for messages."""
        return f"subnet {self.library.name}"


Job = KernelJob | SubnetJob
