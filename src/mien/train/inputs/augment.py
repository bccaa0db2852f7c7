"""Random changes to faces while training: where the crop lies, and what light and camera did to it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.tasks import Floats

__all__ = ["Jitter", "degrade", "erase", "rarity", "relight"]

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Jitter:
    """How far a crop may move. turn: degrees; grow: log scale; shift: fractions of the crop; flip: chance."""

    turn: float = 15.0
    grow: float = 0.15
    shift: float = 0.06
    flip: float = 0.5

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """An affine map (3, 3) from crop pixels to crop pixels."""
        turn = np.deg2rad(rng.uniform(-self.turn, self.turn))
        scale = np.exp(rng.uniform(-self.grow, self.grow))
        mirror = -1.0 if rng.random() < self.flip else 1.0
        a, b = scale * np.cos(turn), scale * np.sin(turn)
        linear = np.array([[a * mirror, -b], [b * mirror, a]])
        middle = np.full(2, (size - 1) / 2)
        offset = middle - linear @ middle + rng.uniform(-self.shift, self.shift, 2) * size
        return np.vstack([np.column_stack([linear, offset]), [0, 0, 1]])


def rarity(shares: Floats) -> Floats:
    """Share (N,) of changed copies among the faces of each row's class, once copies have made all classes as frequent as the first.

    That is 1 - count of the class / count of the most frequent one, expected over soft class shares (N, K), and 0 for rows with a NaN.

    >>> rarity(np.array([[1, 0], [1, 0], [1, 0], [0, 1.0]])).round(3).tolist()
    [0.0, 0.0, 0.0, 0.667]
    """
    seen, chances = ~np.isnan(shares).any(axis=1), np.zeros(len(shares))
    if seen.any():
        counts = shares[seen].sum(axis=0, dtype=np.float64)
        chances[seen] = shares[seen] @ (1 - counts / counts.max())
    return chances


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """Light, blur, low resolution, noise and JPEG, each by chance. RGB uint8 (H, W, 3)."""
    size = image.shape[0]
    if rng.random() < 0.25:
        small = int(size * rng.uniform(0.25, 0.7))
        tiny = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(tiny, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < 0.15:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0)), np.uint8)
    if rng.random() < 0.15:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 90))])[
            1
        ]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return relight(image, rng)


def relight(image: Image, rng: np.random.Generator) -> Image:
    """Contrast, light, and in one of five pictures noise. RGB uint8 (H, W, 3)."""
    gain, lift = rng.uniform(0.7, 1.35), rng.uniform(-25, 25)
    value = (image - 127.5) * gain + 127.5 + lift
    if rng.random() < 0.2:
        value = value + rng.normal(0, rng.uniform(2, 14), image.shape)
    return np.asarray(np.clip(value, 0, 255), np.uint8)


def erase(image: Image, rng: np.random.Generator) -> Image:
    """Cover a rectangle, an eighth to a half of the side each way, with noise. RGB uint8 (H, W, 3)."""
    image = image.copy()
    size = image.shape[0]
    height, width = rng.integers(size // 8, size // 2, 2)
    top, left = rng.integers(0, size - height), rng.integers(0, size - width)
    image[top : top + height, left : left + width] = rng.integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    return image
