"""What a kernel template is, and the parameters that tell its candidates apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from tvm.tirx import PrimFunc

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.errors import CompileError, InvalidRecordError
from ofa_tvm.space.workload import Workload

LoopOrder = Literal["pixels", "blocks"]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Parameters:
    """One point of a template's search space. A template ignores, at its default, what it does not vary.

    Attributes
    ----------
    tile_pixels
        Output pixels held in registers.
    tile_blocks
        Output blocks (vectors of channels) held in registers, for each of these pixels.
    partial_sums
        Independent sums an output element is split into, to hide the latency of multiply-add.
    loop_order
        The outer loop: over tiles of pixels (weights are streamed through) or over tiles of blocks
        (activations are streamed through).
    unroll_kernel
        Whether the loop over the kernel's rows is unrolled where all of them lie inside the image.
    """

    tile_pixels: int = 1
    tile_blocks: int = 1
    partial_sums: int = 1
    loop_order: LoopOrder = "blocks"
    unroll_kernel: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, without those at their default: a new parameter leaves what is recorded as it is."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Parameters:
        """The way back from `to_dict`.

        Raises
        ------
        InvalidRecordError
            A key or a value is unknown: the record is damaged or of another version.
        """
        try:
            parameters = cls(**values)
        except TypeError as error:
            raise InvalidRecordError(f"not a kernel's parameters: {dict(values)}; tune again") from error
        counts = (parameters.tile_pixels, parameters.tile_blocks, parameters.partial_sums)
        if not (
            all(type(count) is int and count >= 1 for count in counts)
            and parameters.loop_order in get_args(LoopOrder)
            and isinstance(parameters.unroll_kernel, bool)
        ):
            raise InvalidRecordError(f"not a kernel's parameters: {dict(values)}; tune again")
        return parameters


class Template(ABC):
    """A family of kernels for one kind of workload. Stateless."""

    @abstractmethod
    def candidates(self, workload: Workload, machine: Machine) -> list[Parameters]:
        """Distinct parameters worth measuring, about 20 at most, the cost model's pick first."""

    def default(self, workload: Workload, machine: Machine) -> Parameters:
        """The cost model's pick, for kernels that were never measured."""
        return self.candidates(workload, machine)[0]

    @abstractmethod
    def argument_shapes(self, workload: Workload, machine: Machine) -> dict[str, Shape]:
        """Shapes of the float32 arguments by name, in the kernel's order; the last `outputs` are written."""

    def outputs(self, workload: Workload) -> int:
        """How many arguments are outputs: a ``pooled`` kernel gives the means behind its output."""
        return 2 if workload.pooled else 1

    @abstractmethod
    def body(self, workload: Workload, parameters: Parameters, machine: Machine) -> PrimFunc:
        """The kernel without a symbol."""

    def prim_func(self, workload: Workload, parameters: Parameters, machine: Machine) -> PrimFunc:
        """The scheduled kernel: destination-passing, arguments as in `argument_shapes`.

        Every candidate of every workload of the kind gives a correct kernel; so do parameters tuned
        for another workload.

        Raises
        ------
        CompileError
            The workload asks for an epilogue the kind does not have.
        """
        if workload.kind in ("pool", "scale") and (workload.residual or workload.activation != "none"):
            raise CompileError(f"a {workload.kind} kernel has neither activation nor residual: {workload.key}")
        return self.body(workload, parameters, machine)
