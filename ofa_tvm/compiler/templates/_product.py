"""The operands of a matrix product: the pixels and the weights of a tile, scaled where the workload says so.

A scale of the input's channels costs least where the outer loop stands still: a copy of what it holds fixed, scaled
once, serves the whole inner loop and brings it into the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T
from tvm.tirx import Buffer

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._emit import load, splat, splat_lane, store
from ofa_tvm.compiler.templates._loops import Index, each, unrolled
from ofa_tvm.space.workload import Workload

Image: TypeAlias = "Callable[[Index, Index, Index], Expr]"
"""The value of a channel, as its block and its lane, at a pixel of the tile; repeated in a vector."""
Matrix: TypeAlias = "Callable[[Index, Index, int], Expr]"
"""The weights of an input channel for the first so many channels of a block of the tile, as a vector."""


def image_of(buffers: dict[str, Buffer], workload: Workload, first: Index, machine: Machine) -> Image:
    """The input as it is, from the output pixel `first`."""

    def image(channel_block: Index, lane: Index, pixel: Index) -> Expr:
        position = _position(workload, first + pixel)
        return _splat(buffers["data"], channel_block, *position, lane=lane, machine=machine)

    return image


def scaled_image(buffers: dict[str, Buffer], workload: Workload, first: Index, pixels: int, machine: Machine) -> Image:
    """Emit a scaled copy of `pixels` pixels from `first` on."""
    lanes = machine.lanes
    count = blocks(workload.in_channels, lanes)
    copy = T.alloc_buffer((count, pixels, lanes), "float32", scope="local")
    for channel_block in each(count):
        for pixel in unrolled(0, pixels):
            values = load(buffers["data"], channel_block, *_position(workload, first + pixel), lanes=lanes)
            factors = load(buffers["factors"], channel_block, 0, 0, lanes=lanes)
            store(copy, values * factors, channel_block, pixel, lanes=lanes)
    return lambda channel_block, lane, pixel: _splat(copy, channel_block, pixel, lane=lane, machine=machine)


def matrix_of(buffers: dict[str, Buffer], first: Index) -> Matrix:
    """The weights as they are, from the output block `first`."""
    return lambda channel, block, channels: load(buffers["weight"], first + block, channel, lanes=channels)


def scaled_matrix(buffers: dict[str, Buffer], workload: Workload, first: Index, count: int, lanes: int) -> Matrix:
    """Emit a scaled copy of the weights of `count` output blocks from `first` on."""
    copy = T.alloc_buffer((workload.in_channels, count, lanes), "float32", scope="local")
    for channel in each(workload.in_channels):
        factor = splat(buffers["factors"][channel // lanes, 0, 0, channel % lanes], lanes)
        for block in unrolled(0, count):
            weights = load(buffers["weight"], first + block, channel, lanes=lanes)
            store(copy, weights * factor, channel, block, lanes=lanes)
    return lambda channel, block, channels: load(copy, channel, block, lanes=channels)


def _splat(buffer: Buffer, *index: Index, lane: Index, machine: Machine) -> Expr:
    return splat_lane(buffer, *index, lane=lane, lanes=machine.lanes, from_register=machine.multiplies_by_lane)


def _position(workload: Workload, pixel: Index) -> tuple[Index, Index]:
    """Row and column of the input under a pixel of the output.

    Without a stride pixels follow each other through all rows, as if the image were a single one: no division then
    stands between LLVM and the addresses.
    """
    width, stride = workload.output_width, workload.stride
    return (0, pixel) if stride == 1 else (pixel // width * stride, pixel % width * stride)
