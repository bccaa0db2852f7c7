"""Random changes to faces while training: where the crop lies, and light and camera."""

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
        # Here and below, the order of the draws is part of what a seed repeats.
        turn = np.deg2rad(rng.uniform(-self.turn, self.turn))
        scale = np.exp(rng.uniform(-self.grow, self.grow))
        mirror = -1.0 if rng.random() < self.flip else 1.0
        a = scale * np.cos(turn)
        b = scale * np.sin(turn)
        # The mirror comes first, the turn after it.
        linear = np.array(
            [
                [a * mirror, -b],
                [b * mirror, a],
            ]
        )
        # The crop turns and grows about its own centre.
        centre = np.full(2, (size - 1) / 2)
        shift = rng.uniform(-self.shift, self.shift, 2) * size
        offset = centre - linear @ centre + shift
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
        known = shares[annotated]
        counts = known.sum(axis=0, dtype=np.float64)
        by_class = 1 - counts / counts.max()
        chances[annotated] = known @ by_class
    return chances


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """Apply low resolution, blur, JPEG and light, each by chance.

    Args:
        image: RGB uint8 (S, S, 3).
        rng: Source of random numbers.

    Returns:
        The changed picture, RGB uint8 (S, S, 3).
    """
    if rng.random() < 0.25:
        image = _reduce_resolution(image, rng.uniform(0.25, 0.7))
    if rng.random() < 0.15:
        # OpenCV chooses the kernel's size by the sigma.
        blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0))
        image = np.asarray(blurred, np.uint8)
    if rng.random() < 0.15:
        image = _compress(image, int(rng.integers(20, 90)))
    return relight(image, rng)


def _reduce_resolution(image: Image, share: float) -> Image:
    """A square picture reduced to a share of its side and enlarged again."""
    size = image.shape[0]
    small_size = int(size * share)
    small = cv2.resize(image, (small_size, small_size), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.uint8)


def _compress(image: Image, quality: int) -> Image:
    """A picture after JPEG of a quality 0..100."""
    # The channels keep their order: OpenCV takes them for BGR both ways.
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


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
    # Contrast changes about middle grey.
    value = (image - 127.5) * gain + 127.5 + lift
    if rng.random() < 0.2:
        sigma = rng.uniform(2, 14)
        value = value + rng.normal(0, sigma, image.shape)
    return np.asarray(np.clip(value, 0, 255), np.uint8)


def erase(image: Image, rng: np.random.Generator) -> Image:
    """Cover a rectangle with noise (random erasing, Zhong et al. 2020).

    Args:
        image: RGB uint8 (S, S, 3).
        rng: Source of random numbers.

    Returns:
        A changed copy; the rectangle is an eighth to a half of the side each way.
    """
    # The caller's picture stays as it is.
    image = image.copy()
    size = image.shape[0]
    height, width = rng.integers(size // 8, size // 2, 2)
    top = rng.integers(0, size - height)
    left = rng.integers(0, size - width)
    rows = slice(top, top + height)
    columns = slice(left, left + width)
    image[rows, columns] = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image
