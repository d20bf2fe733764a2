"""Glyphs of characters, drawn from the fonts that matplotlib ships."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

# The balanced split of EMNIST: lower-case letters that look like their capitals are left out.
CLASS_NAMES = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
FONTS = (
    *(f"DejaVuSans{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}.ttf" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")),
    *(f"cm{style}10.ttf" for style in ("r", "b", "ss", "tt", "ti")),
)
GLYPH_SIZE = 64
_MARGIN = 6
_BLUR_SIGMAS = (0.0, 1.0, 2.0, 3.2)


@cache
def glyph_atlas() -> Tensor:
    """Coverage masks of all glyphs, float32 in [0, 1], shape (blurs, classes, fonts, GLYPH_SIZE, GLYPH_SIZE).

    Each glyph's larger side fills the square but for a margin.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    masks = np.stack(
        [
            np.stack([_draw(character, ImageFont.truetype(str(folder / font), 96)) for font in FONTS])
            for character in CLASS_NAMES
        ]
    )
    sharp = torch.from_numpy(masks.astype(np.float32) / 255)
    return torch.stack([_blur(sharp, sigma) for sigma in _BLUR_SIGMAS])


def _draw(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    left, top, right, bottom = font.getbbox(character)
    glyph = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(glyph).text((-left, -top), character, fill=255, font=font)
    room = GLYPH_SIZE - 2 * _MARGIN
    scale = room / max(glyph.size)
    glyph = glyph.resize(
        (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale))), Image.Resampling.LANCZOS
    )
    square = Image.new("L", (GLYPH_SIZE, GLYPH_SIZE))
    square.paste(glyph, ((GLYPH_SIZE - glyph.width) // 2, (GLYPH_SIZE - glyph.height) // 2))
    return np.asarray(square)


def _blur(masks: Tensor, sigma: float) -> Tensor:
    if sigma == 0:
        return masks
    offsets = torch.arange(-10.0, 11.0)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), 0)
    flat = masks.view(-1, 1, GLYPH_SIZE, GLYPH_SIZE)
    flat = torch.nn.functional.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, 10))
    return torch.nn.functional.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(10, 0)).view_as(masks)
