from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from torch.nn import functional as F

from ofa_tvm.compiler.passes.graph import Graph, operator_name
from ofa_tvm.compiler.passes.pack import PackedModule, pack
from ofa_tvm.compiler.pipeline import SIMPLIFY, to_packed_kernels
from ofa_tvm.lowering.onnx_export import export_onnx
from ofa_tvm.lowering.relax_import import import_onnx
from ofa_tvm.space.workload import Workload

RESOLUTION = 12
Forward = Callable[[torch.Tensor], torch.Tensor]


class _Net(nn.Module):
    """A 3x3 stem, then whatever a test does with its output `(1, 8, 12, 12)` and layers of its own."""

    def __init__(self, forward: Callable[[_Net, torch.Tensor], torch.Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 8, 1, bias=False)
        self.second = nn.Conv2d(8, 8, 1)
        self.rest = forward

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.rest(self, self.stem(image))


def _packed(module: nn.Module, lanes: int = 16) -> PackedModule:
    return to_packed_kernels(import_onnx(export_onnx(module, RESOLUTION)), lanes, tvm.target.Target("llvm"))


def _packed_calls(module: nn.Module, lanes: int = 16) -> tvm.IRModule:
    """Before the calls are put into one function."""
    return pack(SIMPLIFY(import_onnx(export_onnx(module, RESOLUTION))), lanes).mod


def _names(mod: tvm.IRModule) -> list[str]:
    return [name for value in Graph(mod["main"]).bindings.values() if (name := operator_name(value))]


def _pointwise(**changes: object) -> Workload:
    return Workload(**({"kind": "pointwise", "in_channels": 8, "out_channels": 8, "height": 12, "width": 12} | changes))


STEM = Workload("conv", 3, 8, RESOLUTION, RESOLUTION, 3)


class _Block(nn.Module):
    """An inverted bottleneck with squeeze-and-excite as Once-for-All writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.expand = nn.Sequential(nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(24, 24, 5, 1, 2, groups=24, bias=False), nn.BatchNorm2d(24))
        self.reduce, self.excite = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        shortcut = self.stem(image)
        x = self.depthwise(self.expand(shortcut))
        x = x * F.relu6(x + 3.0) / 6.0
        pooled = x.mean(3, keepdim=True).mean(2, keepdim=True)
        x = x * (F.relu6(self.excite(F.relu(self.reduce(pooled))) + 3.0) / 6.0)
        x = self.project(x) + shortcut
        return self.head(x.mean(3, keepdim=True).mean(2, keepdim=True).flatten(1))


def test_a_block_becomes_its_workloads_with_one_layout_change() -> None:
    packed = _packed(_Block())
    assert packed.workloads == (
        Workload("conv", 3, 8, 12, 12, 3, 2, "h_swish"),
        Workload("pointwise", 8, 24, 6, 6, activation="relu"),
        Workload("depthwise", 24, 24, 6, 6, 5, 1, "h_swish", pooled=True),
        Workload("pointwise", 24, 8, 1, 1, activation="relu"),
        Workload("pointwise", 8, 24, 1, 1, activation="h_sigmoid"),
        Workload("pointwise", 24, 8, 6, 6, residual=True, scaled=True),
        Workload("pool", 8, 8, 6, 6),
        Workload("pointwise", 8, 10, 1, 1),
    )
    assert packed.leftovers == ()
    # The first convolution reads the image as it is; only the logits are unpacked.
    assert _names(_packed_calls(_Block())) == ["relax.call_dps_packed"] * 8 + ["relax.call_tir"]
    assert _names(packed.mod) == ["relax.call_tir"]  # of the function that makes all these calls


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("none", lambda x: x),
        ("relu", F.relu),
        ("relu", lambda x: torch.clamp(x, min=0.0)),
        ("relu6", F.relu6),
        ("relu6", lambda x: torch.clamp(x, 0.0, 6.0)),
        ("h_swish", F.hardswish),
        ("h_swish", lambda x: x * F.relu6(x + 3) / 6),
        ("h_swish", lambda x: F.relu6(3 + x) * x / 6),
        ("h_swish", lambda x: x * (F.relu6(x + 3) / 6)),
        ("h_swish", lambda x: x * F.hardsigmoid(x)),
        ("h_sigmoid", F.hardsigmoid),
        ("h_sigmoid", lambda x: F.relu6(x + 3) / 6),
    ],
)
def test_activations_are_recognised_in_each_form(activation: str, function: Forward) -> None:
    packed = _packed(_Net(lambda net, x: function(net.second(x))))
    assert packed.workloads == (STEM, _pointwise(activation=activation))
    assert packed.leftovers == ()


def test_an_activation_without_a_bias_before_it_keeps_its_own_sum() -> None:
    """The `x + 3` of h_sigmoid looks like a bias."""
    packed = _packed(_Net(lambda net, x: F.relu6(net.first(x) + 3) / 6))
    assert packed.workloads == (STEM, _pointwise(activation="h_sigmoid"))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * F.relu6(x + 2) / 6,
        lambda x: x * F.relu6(x + 3) / 5,
        lambda x: torch.clamp(x, -1.0, 6.0),
        lambda x: torch.clamp(x, min=0.5),
        lambda x: x * F.relu6(-x + 3) / 6,
    ],
)
def test_what_only_resembles_an_activation_is_left_alone(function: Forward) -> None:
    packed = _packed(_Net(lambda net, x: function(net.second(x))))
    assert packed.workloads == (STEM, _pointwise())
    assert packed.leftovers


def test_a_value_read_twice_is_not_fused_away() -> None:
    def forward(net: _Net, x: torch.Tensor) -> torch.Tensor:
        y = net.second(x)
        return F.relu(y) + y

    packed = _packed(_Net(forward))
    assert packed.workloads == (STEM, _pointwise())
    assert packed.leftovers == ("relax.nn.relu", "relax.add")


@pytest.mark.parametrize("swapped", [False, True])
def test_a_residual_is_added_after_the_activation(swapped: bool) -> None:
    def forward(net: _Net, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(net.second(x))
        return x + y if swapped else y + x

    assert _packed(_Net(forward)).workloads == (STEM, _pointwise(activation="relu", residual=True))


def test_a_sum_of_two_convolutions_is_the_residual_of_one() -> None:
    packed = _packed(_Net(lambda net, x: net.first(x) + net.second(x)))
    assert sorted(workload.residual for workload in packed.workloads) == [False, False, True]
    assert packed.leftovers == ()


def test_a_doubled_value_is_no_residual() -> None:
    def forward(net: _Net, x: torch.Tensor) -> torch.Tensor:
        y = net.second(x)
        return y + y

    packed = _packed(_Net(forward))
    assert packed.workloads == (STEM, _pointwise())
    assert packed.leftovers == ("relax.add",)


@pytest.mark.parametrize(
    "mean",
    [
        lambda x: x.mean((2, 3)),
        lambda x: x.mean((-1, -2), keepdim=True),
        lambda x: x.mean(3).mean(2),
        lambda x: x.mean(2).mean(2),
        lambda x: x.mean(2, keepdim=True).mean(3, keepdim=True),
        nn.AdaptiveAvgPool2d(1),
    ],
)
def test_means_over_height_and_width_are_pools(mean: Forward) -> None:
    packed = _packed(_Net(lambda net, x: mean(net.second(x))))
    assert packed.workloads == (STEM, _pointwise(), Workload("pool", 8, 8, 12, 12))
    assert packed.leftovers == ()


def _excite(net: _Net, x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    return net.first(x * F.relu(factors))


def test_a_scale_goes_into_the_projection_that_alone_reads_it() -> None:
    packed = _packed(_Net(lambda net, x: _excite(net, x, net.second(x.mean((2, 3), keepdim=True)))))
    pool, product = Workload("pool", 8, 8, 12, 12), _pointwise(height=1, width=1, activation="relu")
    assert packed.workloads == (STEM, pool, product, _pointwise(scaled=True))
    assert packed.leftovers == ()


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, y: net.first(y) + y,
        lambda net, y: net.layer(y),
        lambda net, y: F.relu(y),
        lambda net, y: y,
    ],
)
def test_a_scale_that_anything_else_reads_is_a_kernel(forward: Callable[[_Net, torch.Tensor], torch.Tensor]) -> None:
    def scaled(net: _Net, x: torch.Tensor) -> torch.Tensor:
        return forward(net, x * F.relu(net.second(x.mean((2, 3), keepdim=True))))

    packed = _packed(_Net(scaled, nn.Conv2d(8, 8, 3, padding=1)))
    assert Workload("scale", 8, 8, 12, 12) in packed.workloads
    assert not any(workload.scaled for workload in packed.workloads)


@pytest.mark.parametrize("read_again", [False, True])
def test_a_pool_goes_into_the_depthwise_convolution_before_it(read_again: bool) -> None:
    def forward(net: _Net, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(net.layer(x))
        means = y.mean(3, keepdim=True).mean(2, keepdim=True)
        return net.first(means) + net.first(y) if read_again else net.first(means)

    packed = _packed(_Net(forward, nn.Conv2d(8, 8, 5, padding=2, groups=8)))
    assert Workload("depthwise", 8, 8, 12, 12, 5, activation="relu", pooled=True) in packed.workloads
    assert "pool" not in [workload.kind for workload in packed.workloads]


def test_only_one_of_two_pools_goes_in() -> None:
    def forward(net: _Net, x: torch.Tensor) -> torch.Tensor:
        y = net.layer(x)
        return net.first(y.mean((2, 3), keepdim=True)) + net.second(y.mean((2, 3), keepdim=True))

    packed = _packed(_Net(forward, nn.Conv2d(8, 8, 3, padding=1, groups=8)))
    assert [workload.kind for workload in packed.workloads].count("pool") <= 1
    assert sum(workload.pooled for workload in packed.workloads) == 1


@pytest.mark.parametrize(
    "mean", [lambda x: x.mean(2), lambda x: x.mean(1), lambda x: x.mean(1).mean(1), lambda x: x.mean((1, 2, 3))]
)
def test_other_means_are_left_alone(mean: Forward) -> None:
    packed = _packed(_Net(lambda net, x: mean(net.second(x))))
    assert packed.workloads == (STEM, _pointwise())
    assert "relax.mean" in packed.leftovers


@pytest.mark.parametrize(
    ("layer", "operator"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=2), "relax.nn.conv2d"),
        (nn.Conv2d(8, 16, 3, padding=1, groups=8), "relax.nn.conv2d"),
        (nn.Conv2d(8, 8, 3), "relax.nn.conv2d"),
        (nn.Conv2d(8, 8, 3, padding=2, dilation=2), "relax.nn.conv2d"),
        (nn.Conv2d(8, 8, (1, 3), padding=(0, 1)), "relax.nn.conv2d"),
        (nn.Conv2d(8, 8, 3, stride=(1, 2), padding=1), "relax.nn.conv2d"),
        (nn.AvgPool2d(2), "relax.nn.avg_pool2d"),
    ],
)
def test_a_layer_without_a_template_is_left_to_tvm(layer: nn.Module, operator: str) -> None:
    packed = _packed(_Net(lambda net, x: net.layer(net.second(x)).mean((2, 3)), layer))
    assert packed.leftovers[0] == operator
    assert [workload.kind for workload in packed.workloads] == ["conv", "pointwise", "pool"]
    assert "relax.nn.conv2d" not in _names(packed.mod)  # legalised


def test_strided_pointwise_and_inner_dense_convolutions_are_dense_convolutions() -> None:
    layers = nn.Sequential(nn.Conv2d(8, 8, 1, stride=2), nn.Conv2d(8, 16, 3, padding=1))
    packed = _packed(_Net(lambda net, x: net.layer(x), layers))
    assert packed.workloads == (STEM, Workload("conv", 8, 8, 12, 12, 1, 2), Workload("conv", 8, 16, 6, 6, 3))


def test_simplifying_leaves_no_loops_and_no_arithmetic_on_constants() -> None:
    mod = SIMPLIFY(import_onnx(export_onnx(_Block(), RESOLUTION)))
    assert [variable.name_hint for variable in mod.get_global_vars()] == ["main"]
    assert set(_names(mod)) & {"relax.isnan", "relax.where", "relax.call_tir", "relax.permute_dims"} == set()
    reshapes = [value for value in Graph(mod["main"]).bindings.values() if operator_name(value) == "relax.reshape"]
    assert len(reshapes) == 1  # of the pooled features; those of the biases are folded


def test_padding_lanes_of_the_parameters_are_zero() -> None:
    mod = _packed_calls(_Net(lambda net, x: net.second(x)), lanes=16)
    constants = [
        argument.value.numpy()
        for value in Graph(mod["main"]).bindings.values()
        if operator_name(value) == "relax.call_dps_packed"
        for argument in value.args[1].fields
        if isinstance(argument, tvm.ir.GenericConst)
    ]
    assert [constant.shape for constant in constants] == [(1, 3, 3, 3, 16), (1, 16), (1, 16, 16), (1, 16)]
    assert all(np.all(constant[..., 8:] == 0) and np.any(constant[..., :8] != 0) for constant in constants)
