"""Rendered digits: 28x28 images of digits drawn from the fonts that come with matplotlib, for use without a download.

It does not stand in for MNIST: its losses and accuracies say nothing about MNIST's. Equal seeds give equal images with
equal versions of matplotlib (the fonts) and Pillow (the drawing).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 28          # pixels
HEIGHT = 20        # pixels of a digit before it is scaled, as in MNIST
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
    "cmr10", "cmb10", "cmss10", "cmtt10",
)
# Ranges of the random distortions, each drawn uniformly.
SCALE = (0.75, 1.15)
ROTATION = (math.radians(-15), math.radians(15))
SHIFT = (-3, 3)    # pixels, along each axis
INK = (0.5, 1.0)   # brightness of the strokes
NOISE = 0.1        # standard deviation of the Gaussian noise


def render(count: int, seed: int, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``count`` random digits: the part 'train' or 'test' of the data set with this seed.

    Returns images, uint8 of shape (count, 28, 28), white on black, and labels, int32 of shape (count,).
    """
    random = np.random.RandomState([seed, ("train", "test").index(part)])
    labels = random.randint(10, size=count)
    fonts = random.randint(len(FONTS), size=count)
    scales, angles = random.uniform(*SCALE, count), random.uniform(*ROTATION, count)
    shifts, ink = random.uniform(*SHIFT, (count, 2)), random.uniform(*INK, (count, 1, 1))
    images = np.empty((count, SIZE, SIZE), np.float64)
    for i in range(count):
        transform = _affine(scales[i], angles[i], shifts[i])
        glyph = _glyph(FONTS[fonts[i]], labels[i])
        images[i] = glyph.transform((SIZE, SIZE), Image.Transform.AFFINE, transform, Image.Resampling.BILINEAR)
    images = images / 255 * ink + random.normal(0, NOISE, images.shape)
    return np.rint(255 * images.clip(0, 1)).astype(np.uint8), labels.astype(np.int32)


@lru_cache(maxsize=None)
def _glyph(font: str, digit: int) -> Image.Image:
    """A digit, HEIGHT pixels high, in the middle of an image."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    left, top, right, bottom = ImageFont.truetype(str(path), 10 * HEIGHT).getbbox(str(digit))
    face = ImageFont.truetype(str(path), round(10 * HEIGHT * HEIGHT / (bottom - top)))
    left, top, right, bottom = face.getbbox(str(digit))
    image = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(image).text(((SIZE - left - right) / 2, (SIZE - top - bottom) / 2), str(digit), fill=255, font=face)
    return image


def _affine(scale: float, angle: float, shift: np.ndarray) -> tuple[float, ...]:
    """Pillow's six numbers for a scale, rotation and shift about the centre: they map result pixels to the source."""
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    centre = np.array([SIZE / 2, SIZE / 2])
    offset = centre - inverse @ (centre + shift)
    return (*inverse[0], offset[0], *inverse[1], offset[1])
