"""Search spaces: which architectures a supernet was trained for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ofa_tvm.errors import InvalidArchitectureError
from ofa_tvm.space.architecture import DEPTHS, EXPAND_RATIOS, KERNEL_SIZES, Architecture, Block

NUM_STAGES = 5


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The Once-for-All MobileNetV3 space at one width and one number of classes.

    Five stages of depth 2, 3 or 4; each block has a kernel size of 3, 5 or 7 and an expand ratio
    of 3, 4 or 6 (Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient
    Deployment", section 3). A supernet in training may narrow the choices.

    Attributes
    ----------
    width_multiplier
        Scales all channel counts of the fixed skeleton.
    resolutions
        Input height and width in pixels, ascending.
    """

    width_multiplier: float
    num_classes: int
    resolutions: tuple[int, ...]
    depths: tuple[int, ...] = DEPTHS
    kernel_sizes: tuple[int, ...] = KERNEL_SIZES
    expand_ratios: tuple[int, ...] = EXPAND_RATIOS

    def __post_init__(self) -> None:
        if not (math.isfinite(self.width_multiplier) and self.width_multiplier > 0 and self.num_classes >= 2):
            raise InvalidArchitectureError(
                f"width multiplier {self.width_multiplier} and {self.num_classes} classes: "
                "use a positive multiplier and at least 2 classes"
            )
        for name in ("resolutions", "depths", "kernel_sizes", "expand_ratios"):
            choices = getattr(self, name)
            if not choices or list(choices) != sorted(set(choices)):
                raise InvalidArchitectureError(f"{name} {choices}: list each choice once, ascending")
        for resolution in self.resolutions:
            for depth in self.depths:
                for kernel_size in self.kernel_sizes:
                    for expand_ratio in self.expand_ratios:
                        self.uniform(resolution, depth, kernel_size, expand_ratio)

    def uniform(self, resolution: int, depth: int, kernel_size: int, expand_ratio: int) -> Architecture:
        """The architecture that makes the same choice everywhere."""
        return Architecture(resolution, ((Block(kernel_size, expand_ratio),) * depth,) * NUM_STAGES)

    def smallest(self, resolution: int | None = None) -> Architecture:
        """The architecture with the least of everything; at `resolution` pixels, if given."""
        return self.uniform(
            resolution or self.resolutions[0], self.depths[0], self.kernel_sizes[0], self.expand_ratios[0]
        )

    def largest(self, resolution: int | None = None) -> Architecture:
        """The architecture with the most of everything; at `resolution` pixels, if given."""
        return self.uniform(
            resolution or self.resolutions[-1], self.depths[-1], self.kernel_sizes[-1], self.expand_ratios[-1]
        )

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw every choice uniformly and independently, as in training."""
        stages = []
        for _ in range(NUM_STAGES):
            depth = int(rng.choice(self.depths))
            stages.append(
                tuple(
                    Block(int(rng.choice(self.kernel_sizes)), int(rng.choice(self.expand_ratios))) for _ in range(depth)
                )
            )
        return Architecture(int(rng.choice(self.resolutions)), tuple(stages))

    @property
    def size(self) -> int:
        """Number of different architectures."""
        blocks = len(self.kernel_sizes) * len(self.expand_ratios)
        stages: int = sum(blocks**depth for depth in self.depths) ** NUM_STAGES
        return len(self.resolutions) * stages

    def sample_distinct(self, count: int, seed: int, first: Iterable[Architecture] = ()) -> list[Architecture]:
        """Different architectures: those of `first`, then random ones; always the same for a seed.

        Raises
        ------
        InvalidArchitectureError
            The space has fewer than `count`.
        """
        if count > self.size:
            raise InvalidArchitectureError(f"{count} subnets: this space has only {self.size}; ask for fewer")
        rng = np.random.default_rng(seed)
        chosen = dict.fromkeys(first)
        while len(chosen) < count:
            chosen[self.sample(rng)] = None
        return list(chosen)[:count]

    def check(self, architecture: Architecture) -> None:
        """Make sure that an architecture belongs to this space.

        Raises
        ------
        InvalidArchitectureError
            It does not; the message names the first choice that is outside.
        """
        if len(architecture.stages) != NUM_STAGES:
            raise InvalidArchitectureError(f"{len(architecture.stages)} stages: this space has {NUM_STAGES}")
        for name, value, choices in (
            ("resolution", architecture.resolution, self.resolutions),
            *(("depth", depth, self.depths) for depth in architecture.depths),
            *(("kernel size", b.kernel_size, self.kernel_sizes) for stage in architecture.stages for b in stage),
            *(("expand ratio", b.expand_ratio, self.expand_ratios) for stage in architecture.stages for b in stage),
        ):
            if value not in choices:
                raise InvalidArchitectureError(f"{name} {value}: this space offers {', '.join(map(str, choices))}")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "family": "mobilenet_v3",
            "width_multiplier": self.width_multiplier,
            "num_classes": self.num_classes,
            "resolutions": list(self.resolutions),
            "depths": list(self.depths),
            "kernel_sizes": list(self.kernel_sizes),
            "expand_ratios": list(self.expand_ratios),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SearchSpace:
        """Read what `to_dict` wrote.

        Raises
        ------
        InvalidArchitectureError
            The content is not a search space, or one of another family.
        """
        fields = dict(content)
        if (family := fields.pop("family", None)) != "mobilenet_v3":
            raise InvalidArchitectureError(f"search space family {family!r}: known is 'mobilenet_v3'")
        try:
            for name in ("resolutions", "depths", "kernel_sizes", "expand_ratios"):
                fields[name] = tuple(int(choice) for choice in fields[name])
            return cls(**fields)
        except InvalidArchitectureError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidArchitectureError(f"not a search space: {error}") from error
