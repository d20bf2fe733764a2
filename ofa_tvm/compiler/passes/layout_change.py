"""Kernels that move a tensor into the packed layout and out of it."""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx

from ofa_tvm.compiler.layout import blocks


def packed_shape(logical: tuple[int, ...], lanes: int) -> tuple[int, int, int, int]:
    """``(1, C, H, W)`` or ``(1, C)`` as it is packed: ``(ceil(C / v), H, W, v)``."""
    height, width = logical[2:] if len(logical) == 4 else (1, 1)
    return (blocks(logical[1], lanes), height, width, lanes)


def pack_kernel(logical: tuple[int, ...], lanes: int) -> tirx.PrimFunc:
    """Plain to packed, with zeros in the lanes beyond the last channel."""
    plain = te.placeholder(_sizes(logical), "float32", "plain")
    channels = logical[1]

    def value(block: tirx.Expr, y: tirx.Expr, x: tirx.Expr, lane: tirx.Expr) -> tirx.Expr:
        channel = block * lanes + lane
        element = plain(0, channel, y, x) if len(logical) == 4 else plain(0, channel)
        return element if channels % lanes == 0 else tirx.if_then_else(channel < channels, element, 0.0)

    return _kernel(plain, packed_shape(logical, lanes), value, "packed")


def unpack_kernel(logical: tuple[int, ...], lanes: int) -> tirx.PrimFunc:
    """Packed to plain."""
    packed = te.placeholder(_sizes(packed_shape(logical, lanes)), "float32", "packed")

    def value(_batch: tirx.Expr, channel: tirx.Expr, *pixel: tirx.Expr) -> tirx.Expr:
        return packed(channel // lanes, *(pixel or (0, 0)), channel % lanes)

    return _kernel(packed, logical, value, "plain")


def _kernel(source: te.Tensor, sizes: tuple[int, ...], value: Callable[..., tirx.Expr], name: str) -> tirx.PrimFunc:
    return te.create_prim_func([source, te.compute(_sizes(sizes), value, name=name)])


def _sizes(shape: tuple[int, ...]) -> list[tirx.IntImm]:
    """As Relax has them, which compares their types when it fuses functions."""
    return [tirx.IntImm("int64", size) for size in shape]
