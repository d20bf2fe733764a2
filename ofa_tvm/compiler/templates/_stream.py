"""Weights asked for ahead of their use.

In a network a kernel finds its data in the second-level cache, where the kernel before left it, but its weights
further away: all weights together are many times larger than that cache. The processor's own prefetching follows them
too late, as each of them is read once in a long while; so a kernel asks for the weights of its next tile while it
computes the current one. A kernel's last tile asks for what follows its weights in memory: those of the next kernel,
if they lie in the order of execution.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.tirx import Buffer

from ofa_tvm.compiler.templates._emit import prefetch
from ofa_tvm.compiler.templates._loops import Index, each, unrolled

LINE_ELEMENTS = 16
"""Of 64 bytes, as almost all processors have them."""
MAX_UNROLLED = 16


@dataclass(frozen=True, slots=True)
class Stream:
    """Vectors of weights to be asked for, evenly over the steps of a tile's loops.

    Attributes
    ----------
    first, count
        Vectors of `weights` that the next tile reads, counted from the start.
    steps, substeps
        Steps that the tile takes, and into how many each of them is divided where it would ask for many at once.
    """

    weights: Buffer
    first: Index
    count: int
    steps: int
    substeps: int = 1

    def ask(self, step: Index, substep: Index | None = None) -> None:
        """Ask for some: once a step, or once a substep if there is enough for each of them; never both."""
        if self.count == 0:
            return
        lanes = int(self.weights.shape[-1])
        lines = -(-self.count * lanes // LINE_ELEMENTS)
        divided = lines >= self.steps * self.substeps > self.steps
        if divided == (substep is None):
            return
        turn, turns = step, self.steps
        if substep is not None:
            turn, turns = step * self.substeps + substep, self.steps * self.substeps
        count = -(-lines // turns)
        for number in range(count) if count <= MAX_UNROLLED else each(count):
            prefetch(self.weights, self.first * lanes + (turn * count + number) * LINE_ELEMENTS)


def ask_for_rows(image: Buffer, first: Index, count: int) -> None:
    """Ask for `count` rows of each plane of an image ``(1, C, H, W)`` from the row `first` on."""
    _, planes, height, width = (int(size) for size in image.shape)
    for plane in each(planes):
        for number in unrolled(0, -(-count * width // LINE_ELEMENTS)):
            prefetch(image, (plane * height + first) * width + number * LINE_ELEMENTS)
