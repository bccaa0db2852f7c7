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
    """How far a crop may move.

    Attributes:
        turn: Largest rotation to either side, degrees.
        grow: Largest change of size to either side, natural logarithm of the scale.
        shift: Largest shift to either side, fractions of the crop.
        flip: Chance of a mirror image, 0..1.
    """

    turn: float = 15.0
    grow: float = 0.15
    shift: float = 0.06
    flip: float = 0.5

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw a random affine map.

        Args:
            rng: Source of random numbers.
            size: Side of the crop, px.

        Returns:
            The map (3, 3) from crop pixels to crop pixels.
        """
        turn = np.deg2rad(rng.uniform(-self.turn, self.turn))
        scale = np.exp(rng.uniform(-self.grow, self.grow))
        mirror = -1.0 if rng.random() < self.flip else 1.0
        a = scale * np.cos(turn)
        b = scale * np.sin(turn)
        linear = np.array([[a * mirror, -b], [b * mirror, a]])
        # The crop turns and grows about its own centre.
        centre = np.full(2, (size - 1) / 2)
        offset = centre - linear @ centre + rng.uniform(-self.shift, self.shift, 2) * size
        return np.vstack([np.column_stack([linear, offset]), [0, 0, 1]])


def rarity(shares: Floats) -> Floats:
    """Compute how often rows of each class have to be copies for all classes to be as frequent.

    Args:
        shares: Class shares (N, K), rows sum to 1; rows with a NaN are not annotated.

    Returns:
        1 - count of the class / count of the most frequent one (N,), expected over soft shares; 0
        for rows that are not annotated.

    >>> rarity(np.array([[1, 0], [1, 0], [1, 0], [0, 1.0]])).round(3).tolist()
    [0.0, 0.0, 0.0, 0.667]
    """
    annotated = ~np.isnan(shares).any(axis=1)
    chances = np.zeros(len(shares))
    if annotated.any():
        counts = shares[annotated].sum(axis=0, dtype=np.float64)
        chances[annotated] = shares[annotated] @ (1 - counts / counts.max())
    return chances


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """Apply low resolution, blur, JPEG and light, each by chance.

    Args:
        image: RGB uint8 (S, S, 3).
        rng: Source of random numbers.

    Returns:
        The changed picture, RGB uint8 (S, S, 3).
    """
    size = image.shape[0]
    if rng.random() < 0.25:
        small = int(size * rng.uniform(0.25, 0.7))
        tiny = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(tiny, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < 0.15:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0)), np.uint8)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 90))]
        _, encoded = cv2.imencode(".jpg", image, quality)
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return relight(image, rng)


def relight(image: Image, rng: np.random.Generator) -> Image:
    """Change contrast and light, and add noise in one of five pictures.

    Args:
        image: RGB uint8 (H, W, 3).
        rng: Source of random numbers.

    Returns:
        The changed picture, RGB uint8 (H, W, 3).
    """
    gain = rng.uniform(0.7, 1.35)
    lift = rng.uniform(-25, 25)
    value = (image - 127.5) * gain + 127.5 + lift
    if rng.random() < 0.2:
        value = value + rng.normal(0, rng.uniform(2, 14), image.shape)
    return np.asarray(np.clip(value, 0, 255), np.uint8)


def erase(image: Image, rng: np.random.Generator) -> Image:
    """Cover a rectangle with noise (random erasing, Zhong et al. 2020).

    Args:
        image: RGB uint8 (S, S, 3).
        rng: Source of random numbers.

    Returns:
        A changed copy; the rectangle is an eighth to a half of the side each way.
    """
    image = image.copy()
    size = image.shape[0]
    height, width = rng.integers(size // 8, size // 2, 2)
    top = rng.integers(0, size - height)
    left = rng.integers(0, size - width)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[top : top + height, left : left + width] = noise
    return image
