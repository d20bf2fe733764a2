"""Images of characters: distorted, blurred, coloured, cluttered and noisy, drawn from a seed.

An image is a function of its stream's seed and its number, and is rendered straight at any
resolution: no files, no download, no end of training images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ofa_tvm.cpuinfo import usable_cpus
from ofa_tvm.supernet.threads import one_torch_thread
from ofa_tvm.training.glyphs import CLASS_NAMES, glyph_atlas

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
BLOCK = 64  # images drawn together
_DISTRACTORS = 3
_PARAMETERS = 9  # of one glyph: class, font, blur, rotation, size, aspect, shear, x, y
_EXTRAS = 13  # of one image: three colours, background gradient, noise


@dataclass(frozen=True)
class CharacterImages:
    """The stream of images of one seed and branch. Different streams are independent.

    Attributes
    ----------
    seed
        Below 2**32 where there is no branch: a larger one would run into a later block of a smaller one.
    difficulty
        1 is what accuracy is measured on. Towards 0, distortion, blur, clutter and noise fade and
        the contrast grows: nets learn the hard images only after easy ones.
    branch
        Keeps a seed's streams of one purpose apart from those of another (`streams`); empty for images that
        accuracy is measured and statistics are computed on.
    """

    seed: int
    difficulty: float = 1.0
    branch: tuple[int, ...] = ()

    def block(self, index: int, resolution: int) -> tuple[Tensor, Tensor]:
        """The `BLOCK` images from number ``index * BLOCK`` on, and their labels.

        Returns
        -------
        images
            uint8 RGB, shape (BLOCK, 3, resolution, resolution).
        labels
            int64 indices into `glyphs.CLASS_NAMES`, shape (BLOCK,).
        """
        rng = np.random.default_rng(self.entropy(index))
        drawn = rng.random((BLOCK, (1 + _DISTRACTORS) * _PARAMETERS + _EXTRAS))
        noise = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        return _render(drawn, resolution, self.difficulty, noise)

    def entropy(self, index: int) -> np.random.SeedSequence:
        """What all that is random in a block is drawn from.

        With a branch, numpy fills the seed up to four words and puts branch and number behind them. Without one there
        are at most four, so that no seed of a branch, however large, gives the block of a seed without branch.
        """
        if self.branch:
            return np.random.SeedSequence(self.seed, spawn_key=(*self.branch, index))
        return np.random.SeedSequence([self.seed, index])


def normalise(images: Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Tensor:
    """uint8 images (N, 3, R, R) to float32 with a mean and a standard deviation a colour, channels last in memory."""
    scaled = images.to(torch.float32).div_(255)
    normalised = (scaled - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    return normalised.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class ImageSet:
    """A fixed set of images at one resolution: uint8 (N, 3, R, R), and int64 labels (N,)."""

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @classmethod
    def render(
        cls,
        seed: int,
        count: int,
        resolution: int,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ) -> ImageSet:
        """The first `count` images of a stream, normalised in batches by `mean` and `std`."""
        stream = CharacterImages(seed)
        # PyTorch computes without Python's lock, so threads draw side by side, each alone: if PyTorch shared the work
        # of each among several, these would wait for each other, and spin.
        with one_torch_thread(), ThreadPoolExecutor(usable_cpus()) as threads:
            blocks = threads.map(stream.block, range(-(-count // BLOCK)), itertools.repeat(resolution))
            images, labels = zip(*blocks, strict=True)
        return cls(torch.cat(images)[:count], torch.cat(labels)[:count], mean, std)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (size, 3, R, R) and their labels, in order; the last batch may be smaller."""
        for start in range(0, len(self.labels), size):
            batch = normalise(self.images[start : start + size], self.mean, self.std)
            yield batch, self.labels[start : start + size]


def _render(
    drawn: NDArray[np.float64], resolution: int, difficulty: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    count = len(drawn)
    glyphs = torch.from_numpy(drawn[:, :-_EXTRAS]).view(count, 1 + _DISTRACTORS, _PARAMETERS)
    extras = torch.from_numpy(drawn[:, -_EXTRAS:]).float()
    labels = (glyphs[:, 0, 0] * len(CLASS_NAMES)).long()
    masks = _place(glyphs, resolution, difficulty)
    images = _composite(masks, extras, resolution, difficulty)
    noise = torch.randn(images.shape, generator=generator)
    images += noise * (difficulty * (0.02 + 0.16 * extras[:, 12] ** 2)).view(-1, 1, 1, 1)
    return images.clamp_(0, 1).mul_(255).round_().to(torch.uint8), labels


def _place(glyphs: Tensor, resolution: int, difficulty: float) -> Tensor:
    """Masks of affinely placed glyphs: (N, layers, 9) uniform numbers to (N, layers, R, R) float32.

    Layer 0 is the character to read, near the centre; the others lie around it and may touch it.
    """
    count, layers, _ = glyphs.shape
    atlas = glyph_atlas()
    blurs, classes, fonts = atlas.shape[:3]
    letter, font, blur = ((glyphs[..., k] * n).long() for k, n in enumerate((classes, fonts, difficulty * blurs)))
    signed = (2 * glyphs[..., 3:] - 1).float()
    rotation, aspect, shear = (difficulty * signed[..., k] * most for k, most in ((0, 0.45), (2, 0.25), (3, 0.35)))
    size = 0.52 + 0.22 * signed[..., 1]
    shift = 0.22 * difficulty * signed[..., 4:6]
    angle = np.pi * signed[:, 1:, 4]
    ring = 0.62 + 0.28 * signed[:, 1:, 5].abs()
    shift[:, 1:] = torch.stack([angle.cos(), angle.sin()], -1) * ring[..., None]
    size[:, 1:] *= 0.85
    inverse_x, inverse_y = torch.exp(-aspect) / size, torch.exp(aspect) / size
    cos, sin = rotation.cos(), rotation.sin()
    # Maps a point of the image to one of the glyph, both in [-1, 1]: shift, rotation, shear, size.
    matrix = torch.stack(
        [
            torch.stack([inverse_x * (cos + shear * -sin), inverse_x * (sin + shear * cos)], -1),
            torch.stack([inverse_y * -sin, inverse_y * cos], -1),
        ],
        -2,
    )
    offset = -(matrix @ shift[..., None])
    theta = torch.cat([matrix, offset], -1).view(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(theta, [count * layers, 1, resolution, resolution], align_corners=False)
    chosen = atlas[blur, letter, font].view(count * layers, 1, *atlas.shape[-2:])
    masks = torch.nn.functional.grid_sample(chosen, grid, align_corners=False)
    return masks.view(count, layers, resolution, resolution)


def _composite(masks: Tensor, extras: Tensor, resolution: int, difficulty: float) -> Tensor:
    """Colour the masks over a shaded background: (N, 3, R, R) float32, nominally in [0, 1]."""
    background, ink, clutter = (extras[:, k : k + 3].view(-1, 3, 1, 1) for k in (0, 3, 6))
    # Ink differs from the background by at least 0.25 in brightness, or it could not be read.
    direction = torch.where(background.mean(1, keepdim=True) > 0.5, -1.0, 1.0)
    contrast = 0.65 - 0.4 * difficulty * extras[:, 9].view(-1, 1, 1, 1)
    ink = (background.mean(1, keepdim=True) + direction * contrast + 0.25 * (ink - 0.5)).clamp(0, 1)
    line = torch.linspace(-1, 1, resolution)
    slope_x, slope_y = (0.3 * (extras[:, k].view(-1, 1, 1, 1) - 0.5) for k in (10, 11))
    images = 0.15 + 0.7 * background + slope_x * line + slope_y * line.view(-1, 1)
    for layer in range(1, masks.shape[1]):
        images = torch.lerp(images, clutter.expand_as(images), 0.8 * difficulty * masks[:, layer : layer + 1])
    return torch.lerp(images, ink.expand_as(images), masks[:, :1])
