"""The picture: background, exposure, and what cameras and web sites do to it."""

from io import BytesIO
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from mien.data.rendered.look.chart import noise
from mien.data.rendered.look.skin import linear
from mien.data.rendered.render import Rendering

__all__ = ["background", "decode", "degrade", "develop", "encode"]

Picture = NDArray[np.uint8]
Image = NDArray[np.float32]

# Amount of light above which brighter is compressed, so that highlights keep a shape.
_SHOULDER: Final = 0.6


def background(rng: np.random.Generator, size: int) -> Image:
    """Make a background: a gradient, with things that are out of focus.

    Args:
        rng: Where the chance comes from.
        size: Height and width, px.

    Returns:
        Amounts of light (H, W, 3), linear.
    """
    ends = linear(np.clip(rng.uniform(15, 240, (2, 1)) + rng.uniform(-35, 35, (2, 3)), 0, 255))
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, 2 * np.pi)
    slope = 0.5 + (columns - 0.5) * np.cos(angle) + (rows - 0.5) * np.sin(angle)
    image = ends[0] + np.clip(slope, 0, 1)[:, :, None] * (ends[1] - ends[0])
    for _ in range(int(rng.integers(0, 7))):
        colour = linear(rng.uniform(10, 245) + rng.uniform(-30, 30, 3).clip(-10, 10))
        low, high = np.sort(rng.uniform(-0.2, 1.2, (2, 2)), axis=0) * size
        first, last = np.rint(low).astype(int).tolist(), np.rint(high).astype(int).tolist()
        cv2.rectangle(image, first, last, colour.tolist(), -1)
    clutter = noise(rng, size, size, (size / 12, size / 12))[:, :, None]
    image = image * np.clip(1 + rng.uniform(0, 0.3) * clutter, 0.1, 2)
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.005, 0.05) * size)
    return np.asarray(np.clip(blurred, 0, 1), np.float32)


def develop(rendering: Rendering, behind: Image) -> Picture:
    """Put a head before its background, and turn light into a picture.

    Args:
        rendering: The head.
        behind: The background (H, W, 3), linear.

    Returns:
        RGB uint8 (H, W, 3).
    """
    light = rendering.light + (1 - rendering.cover[:, :, None]) * behind
    excess = np.maximum(light - _SHOULDER, 0) / (1 - _SHOULDER)
    light = np.minimum(light, _SHOULDER) + (1 - _SHOULDER) * (1 - np.exp(-excess))
    light = np.clip(light, 0, 1)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(coded * 255), np.uint8)


def degrade(image: Picture, rng: np.random.Generator) -> Picture:
    """Do what cameras and web sites do: blur, few pixels, noise, contrast, compression.

    Args:
        image: RGB uint8 (H, W, 3).
        rng: Where the chance comes from.

    Returns:
        A changed copy; the face stays where it is.
    """
    size = image.shape[0]
    chance = rng.random(5)
    values = image.astype(np.float32)
    if chance[0] < 0.35:
        few = max(int(size * rng.uniform(0.22, 0.8)), 16)
        small = cv2.resize(values, (few, few), interpolation=cv2.INTER_AREA)
        values = np.asarray(cv2.resize(small, (size, size)), np.float32)
    elif chance[1] < 0.3:
        blurred = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.002, 0.008) * size)
        values = np.asarray(blurred, np.float32)
    if chance[2] < 0.5:
        grey = values.mean(axis=2, keepdims=True)
        values = grey + rng.uniform(0.35, 1.15) * (values - grey)
        values = 128 + rng.uniform(0.75, 1.2) * (values - 128) + rng.uniform(-18, 18)
    if chance[3] < 0.6:
        values += rng.uniform(1, 8) * rng.standard_normal(values.shape, np.float32)
    picture = np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
    if chance[4] < 0.5:
        picture = decode(encode(picture, int(rng.integers(30, 92))))
    return picture


def encode(image: Picture, quality: int) -> bytes:
    """Write a picture as JPEG.

    Args:
        image: RGB uint8 (H, W, 3).
        quality: 1..100.

    Returns:
        The file's content.
    """
    content = BytesIO()
    Pillow.fromarray(image).save(content, "JPEG", quality=quality)
    return content.getvalue()


def decode(content: bytes) -> Picture:
    """Read a JPEG that `encode` wrote.

    Args:
        content: The file's content.

    Returns:
        RGB uint8 (H, W, 3).
    """
    with Pillow.open(BytesIO(content)) as picture:
        return np.array(picture, np.uint8)
