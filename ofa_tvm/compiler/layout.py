"""Packed layouts: numpy arrays of networks to the arrays the kernels read, and back.

A packed array keeps ``v`` channels (the machine's lanes) innermost, so that one vector register holds
one pixel of ``v`` channels. Channels beyond the logical ones are zero in packed weights and biases.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def blocks(channels: int, lanes: int) -> int:
    """How many vectors of `lanes` hold `channels` channels."""
    return -(-channels // lanes)


def pack_activation(activation: NDArray[Any], lanes: int) -> Array:
    """``(1, C, H, W)`` to ``(ceil(C / v), H, W, v)``, zero-padded."""
    return _pack_first(activation[0], lanes)


def unpack_activation(packed: NDArray[Any], channels: int) -> Array:
    """``(ceil(C / v), H, W, v)`` to ``(1, C, H, W)``."""
    count, height, width, lanes = packed.shape
    planes = packed.transpose(0, 3, 1, 2).reshape(1, count * lanes, height, width)
    return np.ascontiguousarray(planes[:, :channels], dtype=np.float32)


def pack_bias(bias: NDArray[Any], lanes: int) -> Array:
    """``(OC,)`` to ``(ceil(OC / v), v)``."""
    return _pack_first(bias, lanes)


def pack_pointwise_weight(weight: NDArray[Any], lanes: int) -> Array:
    """``(OC, IC, 1, 1)`` or ``(OC, IC)`` to ``(ceil(OC / v), ceil(IC / v) * v, v)``."""
    outputs, inputs = weight.shape[:2]
    padding = blocks(inputs, lanes) * lanes - inputs
    return _pack_first(np.pad(weight.reshape(outputs, inputs), ((0, 0), (0, padding))), lanes)


def pack_depthwise_weight(weight: NDArray[Any], lanes: int) -> Array:
    """``(C, 1, k, k)`` to ``(ceil(C / v), k, k, v)``."""
    return _pack_first(weight[:, 0], lanes)


def pack_conv_weight(weight: NDArray[Any], lanes: int) -> Array:
    """``(OC, IC, k, k)`` to ``(ceil(OC / v), IC, k, k, v)``."""
    return _pack_first(weight, lanes)


def _pack_first(array: NDArray[Any], lanes: int) -> Array:
    """Split the first axis into blocks of `lanes` and move the lanes innermost: ``(C, …)`` to ``(C / v, …, v)``."""
    channels, rest = array.shape[0], array.shape[1:]
    count = blocks(channels, lanes)
    padded = np.zeros((count * lanes, *rest), dtype=np.float32)
    padded[:channels] = array
    return np.ascontiguousarray(np.moveaxis(padded.reshape(count, lanes, *rest), 1, -1))
