"""The phases of progressive shrinking: what becomes elastic when, how long, how fast."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ofa_tvm.space.search_space import SearchSpace


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of training.

    Attributes
    ----------
    space
        The part of the full space that subnets are drawn from.
    steps
        Optimiser steps.
    learning_rate
        At the start; falls to 0 along a cosine.
    subnets_per_step
        Subnets whose gradients are summed in a step.
    kept_ratios
        If given, channels are sorted at the start, keeping the order of that many trained ratios.
    """

    name: str
    space: SearchSpace
    steps: int
    learning_rate: float
    subnets_per_step: int = 1
    kept_ratios: int | None = None

    def difficulty(self, step: int) -> float:
        """How hard the images of a step are: in the base phase it rises to 1 over the first 40%."""
        return 1.0 if self.distils else min(1.0, step / (0.4 * self.steps))

    @property
    def distils(self) -> bool:
        """Whether the largest net, as it was after the base phase, teaches."""
        return self.name != "base"


def progressive_shrinking(space: SearchSpace, scale: float = 1.0) -> tuple[Phase, ...]:
    """The phases of the paper (section 3.3) and their order: full, kernel, depth (2), width (2).

    The official schedule (180 epochs for the full net, 120, 25 and 120, 25 and 120 for the phases)
    is for ImageNet on 32 GPUs; here the steps are chosen so that `scale` 1 takes about an hour on
    one CPU core for the small network that comes with the package.
    """
    full = dataclasses.replace(
        space, depths=space.depths[-1:], kernel_sizes=space.kernel_sizes[-1:], expand_ratios=space.expand_ratios[-1:]
    )
    kernel = dataclasses.replace(full, kernel_sizes=space.kernel_sizes)
    depth_1 = dataclasses.replace(kernel, depths=space.depths[-2:])
    depth_2 = dataclasses.replace(kernel, depths=space.depths)
    width_1 = dataclasses.replace(depth_2, expand_ratios=space.expand_ratios[-2:])
    return (
        Phase("base", full, _steps(4000, scale), 0.002),
        Phase("kernel", kernel, _steps(1800, scale), 0.001),
        Phase("depth-1", depth_1, _steps(500, scale), 0.0005, subnets_per_step=2),
        Phase("depth-2", depth_2, _steps(1200, scale), 0.001, subnets_per_step=2),
        Phase("width-1", width_1, _steps(400, scale), 0.0005, subnets_per_step=4, kept_ratios=0),
        Phase("width-2", space, _steps(1400, scale), 0.001, subnets_per_step=4, kept_ratios=1),
    )


def _steps(steps: int, scale: float) -> int:
    return max(1, round(steps * scale))
