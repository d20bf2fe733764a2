"""Packed layouts against their definition, element by element."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.compiler import layout


@pytest.mark.parametrize(("channels", "lanes"), [(3, 4), (16, 16), (24, 16), (40, 8)])
def test_activations_go_there_and_back(channels: int, lanes: int) -> None:
    activation = np.random.default_rng(0).standard_normal((1, channels, 3, 5)).astype(np.float32)
    packed = layout.pack_activation(activation, lanes)
    assert packed.shape == (layout.blocks(channels, lanes), 3, 5, lanes)
    assert packed[(channels - 1) // lanes, 2, 4, (channels - 1) % lanes] == activation[0, -1, 2, 4]
    np.testing.assert_array_equal(layout.unpack_activation(packed, channels), activation)


def test_padding_is_zero() -> None:
    ones = np.ones((5, 3, 3, 3), np.float32)
    assert layout.pack_conv_weight(ones, 4).sum() == ones.sum()
    assert layout.pack_pointwise_weight(ones[:, :, 0, 0], 4).sum() == 15
    assert layout.pack_depthwise_weight(ones[:, :1], 4).sum() == 45
    assert layout.pack_bias(np.ones(5), 4).tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


def test_weights_stand_where_the_kernels_look() -> None:
    weight = np.arange(6 * 5 * 3 * 3, dtype=np.float32).reshape(6, 5, 3, 3)
    assert layout.pack_conv_weight(weight, 4).shape == (2, 5, 3, 3, 4)
    assert layout.pack_conv_weight(weight, 4)[1, 3, 2, 0, 1] == weight[5, 3, 2, 0]
    pointwise = layout.pack_pointwise_weight(weight[:, :, :1, :1], 4)
    assert pointwise.shape == (2, 8, 4)
    assert pointwise[1, 3, 1] == weight[5, 3, 0, 0]
    depthwise = layout.pack_depthwise_weight(weight[:, :1], 4)
    assert depthwise.shape == (2, 3, 3, 4)
    assert depthwise[1, 2, 0, 1] == weight[5, 0, 2, 0]


def test_packed_arrays_are_contiguous_float32() -> None:
    packed = layout.pack_pointwise_weight(np.ones((8, 8)), 4)
    assert packed.dtype == np.float32
    assert packed.flags.c_contiguous
