"""Colour jitter: brightness, contrast, saturation and hue of a crop, changed at random."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.train.settings.augmentation import ColourSettings

__all__ = ["jitter_colour", "shift_hue"]

Image = NDArray[np.uint8]
# ITU-R BT.601, as Pillow and torchvision weigh colours.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# OpenCV counts hue in steps of two degrees, so that it fits a byte.
_HUES = 180


def jitter_colour(image: Image, settings: ColourSettings, rng: np.random.Generator) -> Image:
    """Change the colours of a crop, each in its turn, in a random order.

    Args:
        image: RGB uint8 (H, W, 3).
        settings: How far each may change.
        rng: Source of random numbers.

    Returns:
        The changed picture, RGB uint8 (H, W, 3).
    """
    # The order matters: contrast after brightness is not brightness after contrast.
    for change in rng.permutation(["brightness", "contrast", "saturation", "hue"]):
        spread = float(getattr(settings, change))
        # Drawn even where it is 0, so that one change more or less leaves the others alone.
        amount = float(rng.uniform(-spread, spread))
        if not spread:
            continue
        if change == "hue":
            image = shift_hue(image, amount)
        else:
            image = _blend(image, _reference(image, change), 1 + amount)
    return image


def _reference(image: Image, change: str) -> NDArray[np.float32] | float:
    """What a picture is blended with: black, its mean grey, or each pixel's grey."""
    if change == "brightness":
        return 0.0
    grey = image.astype(np.float32) @ _LUMA
    if change == "contrast":
        return float(grey.mean())
    return np.asarray(grey[:, :, None], np.float32)


def _blend(image: Image, reference: NDArray[np.float32] | float, factor: float) -> Image:
    """The picture at factor 1, the reference at 0, and beyond the picture above 1."""
    value = reference + factor * (image.astype(np.float32) - reference)
    return np.asarray(np.clip(value, 0, 255), np.uint8)


def shift_hue(image: Image, turn: float) -> Image:
    """Turn all colours on the colour circle; greys stay as they are.

    Args:
        image: RGB uint8 (H, W, 3).
        turn: Fraction of the circle, -0.5 to 0.5.

    Returns:
        The changed picture, RGB uint8 (H, W, 3).

    >>> shift_hue(np.array([[[200, 0, 0], [90, 90, 90]]], np.uint8), 1 / 3).tolist()
    [[[0, 200, 0], [90, 90, 90]]]
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hues = hsv[:, :, 0].astype(np.int64)
    hsv[:, :, 0] = (hues + round(turn * _HUES)) % _HUES
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
