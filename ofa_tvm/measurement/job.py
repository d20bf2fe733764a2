"""Jobs: what a device is asked to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.space.workload import Workload


@dataclass(frozen=True, slots=True)
class KernelJob:
    """One function of a compiled library, on float32 tensors filled at random.

    Attributes
    ----------
    library
        Shared library for the device. Many jobs may share one; it is uploaded once a session.
    shapes
        Of all arguments in order, inputs first, the output last.
    workload
        What the function computes.
    """

    library: Path
    function: str
    shapes: tuple[tuple[int, ...], ...]
    workload: Workload

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
