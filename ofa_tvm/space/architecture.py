"""Architectures: one point of a search space, the type that crosses all stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ofa_tvm.errors import InvalidArchitectureError

KERNEL_SIZES = (3, 5, 7)
EXPAND_RATIOS = (3, 4, 6)
DEPTHS = (2, 3, 4)
RESOLUTION_STEP = 4


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """The elastic choices of one inverted-residual block.

    Raises
    ------
    InvalidArchitectureError
        On creation, for a kernel size or an expand ratio that no supernet was trained for.
    """

    kernel_size: int
    expand_ratio: int

    def __post_init__(self) -> None:
        _require_choice("kernel size", self.kernel_size, KERNEL_SIZES)
        _require_choice("expand ratio", self.expand_ratio, EXPAND_RATIOS)


@dataclass(frozen=True, slots=True, order=True)
class Architecture:
    """One subnet's architecture: input resolution in pixels and the blocks of each stage.

    A stage's depth is its number of blocks; blocks that the depth skips are not part of the
    architecture, so two architectures are equal exactly if their subnets are.

    Raises
    ------
    InvalidArchitectureError
        On creation, for a depth or resolution outside what Once-for-All spaces offer.
    """

    resolution: int
    stages: tuple[tuple[Block, ...], ...]

    def __post_init__(self) -> None:
        if type(self.resolution) is not int or self.resolution <= 0 or self.resolution % RESOLUTION_STEP:
            raise InvalidArchitectureError(
                f"resolution {self.resolution!r}: use a positive multiple of {RESOLUTION_STEP} pixels"
            )
        if not self.stages:
            raise InvalidArchitectureError("an architecture needs at least one stage")
        for stage in self.stages:
            _require_choice("depth", len(stage), DEPTHS)

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        return tuple(len(stage) for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "resolution": self.resolution,
            "stages": [
                [{"kernel_size": block.kernel_size, "expand_ratio": block.expand_ratio} for block in stage]
                for stage in self.stages
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Architecture:
        """Read what `to_dict` wrote.

        Raises
        ------
        InvalidArchitectureError
            The content is not an architecture.
        """
        try:
            unknown = set(content) - {"resolution", "stages"}
            stages = tuple(tuple(Block(**block) for block in stage) for stage in content["stages"])
            resolution = content["resolution"]
        except (KeyError, TypeError) as error:
            raise InvalidArchitectureError(f"not an architecture: {error}; it needs resolution and stages") from error
        if unknown:
            raise InvalidArchitectureError(f"not an architecture: unknown key {sorted(unknown)[0]!r}")
        return cls(resolution, stages)

    def __str__(self) -> str:
        """Compact text: ``r48 d2,3,2,4,2 k3e3-k5e4 ...``, blocks joined by ``-``, stages by spaces."""
        stages = " ".join("-".join(f"k{b.kernel_size}e{b.expand_ratio}" for b in stage) for stage in self.stages)
        return f"r{self.resolution} d{','.join(map(str, self.depths))} {stages}"


def _require_choice(name: str, value: int, choices: tuple[int, ...]) -> None:
    if type(value) is not int or value not in choices:
        raise InvalidArchitectureError(f"{name} {value!r}: choose from {', '.join(map(str, choices))}")
