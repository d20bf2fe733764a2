"""Workloads: what one fused kernel of a subnet computes, by shape alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ofa_tvm.errors import InvalidArchitectureError

Kind = Literal["conv", "pointwise", "depthwise", "pool", "scale"]
Activation = Literal["none", "relu", "relu6", "h_swish", "h_sigmoid"]


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """One fused kernel on float32, batch 1: an operator with its bias, activation and residual add.

    Attributes
    ----------
    kind
        ``conv``: dense convolution (the first layer). ``pointwise``: 1x1 convolution; with height and
        width 1 also the products of squeeze-and-excite, the head and the classifier. ``depthwise``.
        ``pool``: mean over height and width. ``scale``: product with one factor a channel.
    in_channels, out_channels
        Logical channels, before any padding to the vector width.
    height, width
        Of the input, in pixels, without padding. Convolutions pad by ``kernel_size // 2``.
    activation
        Applied after the bias. ``h_swish`` is ``x * relu6(x + 3) / 6``, ``h_sigmoid`` ``relu6(x + 3) / 6``.
    residual
        Whether a tensor of the output's shape is added last.
    scaled
        ``pointwise``: whether the input is first multiplied by one factor a channel, the ``scale`` of
        squeeze-and-excite taken into the projection.
    pooled
        ``depthwise``: whether the kernel also gives the mean of its output over height and width, the ``pool`` of
        squeeze-and-excite taken in.
    """

    kind: Kind
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel_size: int = 1
    stride: int = 1
    activation: Activation = "none"
    residual: bool = False
    scaled: bool = False
    pooled: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.activation not in get_args(Activation):
            raise InvalidArchitectureError(f"unknown kind or activation in {self}")
        sizes = (self.in_channels, self.out_channels, self.height, self.width, self.kernel_size, self.stride)
        if min(sizes) < 1 or self.kernel_size % 2 == 0:
            raise InvalidArchitectureError(f"sizes must be positive and kernel sizes odd in {self}")
        if self.kind in ("depthwise", "pool", "scale") and self.in_channels != self.out_channels:
            raise InvalidArchitectureError(f"a {self.kind} keeps the number of channels: {self}")
        if (self.scaled and self.kind != "pointwise") or (self.pooled and self.kind != "depthwise"):
            raise InvalidArchitectureError(f"only a pointwise can be scaled, only a depthwise pooled: {self}")

    @property
    def output_height(self) -> int:
        """Of the output, in pixels."""
        return 1 if self.kind == "pool" else (self.height - 1) // self.stride + 1

    @property
    def output_width(self) -> int:
        """Of the output, in pixels."""
        return 1 if self.kind == "pool" else (self.width - 1) // self.stride + 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates; one an element for ``pool`` and ``scale``, none where these are taken in."""
        if self.kind in ("pool", "scale"):
            return self.in_channels * self.height * self.width
        per_output = self.kernel_size**2 * (1 if self.kind == "depthwise" else self.in_channels)
        return per_output * self.out_channels * self.output_height * self.output_width

    @property
    def traffic_bytes(self) -> int:
        """Bytes of float32 inputs, weights and outputs, each counted once."""
        inputs = self.in_channels * self.height * self.width
        outputs = self.out_channels * self.output_height * self.output_width
        weights = {
            "conv": self.in_channels * self.out_channels * self.kernel_size**2 + self.out_channels,
            "pointwise": self.in_channels * self.out_channels + self.out_channels,
            "depthwise": self.out_channels * (self.kernel_size**2 + 1),
            "pool": 0,
            "scale": self.out_channels,
        }[self.kind]
        vectors = self.in_channels * self.scaled + self.out_channels * self.pooled
        return 4 * (inputs + weights + vectors + outputs * (2 if self.residual else 1))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `Workload(**d)` is the way back."""
        return asdict(self)

    @property
    def key(self) -> str:
        """Short readable identity, fit for a file name: ``pointwise_40x160_22x22_k1s1_relu``."""
        tail = "".join(f"_{name}" for name in ("residual", "scaled", "pooled") if getattr(self, name))
        return (
            f"{self.kind}_{self.in_channels}x{self.out_channels}_{self.height}x{self.width}"
            f"_k{self.kernel_size}s{self.stride}_{self.activation}{tail}"
        )
