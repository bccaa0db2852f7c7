"""The one crop-and-resize: from a face in a frame to a network's input.

Training, inference, phone and browser all come through here, so that a network never sees two kinds
of preprocessing. `Pixels`, part of every card, says what to do; this module is its only reader.
"""

from functools import lru_cache
from math import ceil, floor
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mien.faces.turns import quarter_turn
from mien.records import Face
from mien.tasks import Floats

__all__ = [
    "Geometry",
    "Pixels",
    "crop_matrix",
    "normalise",
    "prepare",
    "prepare_crop",
    "similarity",
    "warp",
]

Image = NDArray[np.uint8]
Coordinate = Annotated[float, Field(ge=-10, le=10)]
Point = tuple[Coordinate, Coordinate]
Geometry = tuple[int, str, tuple[Point, ...] | None, float, str]
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class Pixels(BaseModel):
    """How a face is turned into a network's input.

    Attributes:
        size: Side of the square crop, px.
        colour: Channels of the network's input; ``grey`` is one channel, ITU-R BT.601 luma.
        alignment: ``similarity5`` rotates, scales and shifts the five points onto `template`;
            ``box`` takes the square around the face box, widened by `margin`, without rotation but
            by quarter turns for faces that lie on their side or upside down.
        template: Where the five points go, in fractions of the crop (0..1); order as in `Face`.
        margin: Added on each side of the box, in fractions of its longer side.
        mean: One number per channel, in units of 0..255: input = (value - mean) / std.
        std: One number per channel, in units of 0..255.
        resize: ``area`` averages when it shrinks (no aliasing), ``linear`` samples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    size: Annotated[int, Field(ge=16, le=1024)]
    colour: Literal["rgb", "bgr", "grey"]
    alignment: Literal["similarity5", "box"]
    template: tuple[Point, Point, Point, Point, Point] | None = None
    margin: Annotated[float, Field(ge=0, le=1)] = 0.0
    mean: tuple[Annotated[float, Field(ge=-1e4, le=1e4)], ...]
    std: tuple[Annotated[float, Field(ge=1e-4, le=1e6)], ...]
    resize: Literal["area", "linear"] = "area"

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return 1 if self.colour == "grey" else 3

    @property
    def geometry(self) -> Geometry:
        """What decides the crop, whose colours are RGB still: equal ones give the same crop."""
        return self.size, self.alignment, self.template, self.margin, self.resize

    @model_validator(mode="after")
    def _one_number_per_channel(self) -> "Pixels":
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError(
                f"mean and std need {self.channels} numbers each for {self.colour}, std above 0"
            )
        return self

    @model_validator(mode="after")
    def _template_goes_with_alignment(self) -> "Pixels":
        if (self.alignment == "similarity5") != (self.template is not None):
            raise ValueError("template must be given for alignment similarity5, and only then")
        return self


def similarity(source: Floats, target: Floats) -> Floats:
    """Least-squares rotation, scale and shift that takes one set of points to another.

    As complex numbers w = a z + b, the solution is a plain linear regression (Umeyama 1991, without
    reflection).

    Args:
        source: Points (K, 2).
        target: Points (K, 2).

    Returns:
        The affine map (2, 3); a pure shift where all source points are the same.

    >>> matrix = similarity(np.array([[0., 0.], [1., 0.]]), np.array([[1., 1.], [1., 3.]]))
    >>> matrix.round(6).tolist()
    [[0.0, -2.0, 1.0], [2.0, 0.0, 1.0]]
    """
    # Plain numbers: every crop of every face comes through here, and NumPy takes longer.
    z = [complex(x, y) for x, y in source.tolist()]
    w = [complex(x, y) for x, y in target.tolist()]
    z_mean = sum(z) / len(z)
    w_mean = sum(w) / len(w)
    spread = 0.0
    covariance = 0j
    for z_point, w_point in zip(z, w, strict=True):
        centred = z_point - z_mean
        spread += abs(centred) ** 2
        covariance += centred.conjugate() * (w_point - w_mean)
    a = covariance / spread if spread else 1 + 0j
    b = w_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


@lru_cache(maxsize=64)
def _template_px(template: tuple[Point, ...], size: int) -> Floats:
    """Where the five points go, (5, 2) px of the crop. It is cached, and so read-only."""
    target = np.array(template) * size - 0.5
    target.flags.writeable = False
    return target


def crop_matrix(face: Face, pixels: Pixels) -> Floats:
    """The map that cuts a face out of its frame.

    Args:
        face: The face, in frame pixels.
        pixels: How it is cut.

    Returns:
        Affine map (2, 3) from frame pixels to crop pixels; pixel centres lie at whole numbers.
    """
    if pixels.template is not None:
        return similarity(face.points, _template_px(pixels.template, pixels.size))
    x, y, w, h = face.box
    side = max(w, h) * (1 + 2 * pixels.margin)
    scale = pixels.size / max(side, 1e-6)
    middle = pixels.size / 2 - 0.5
    shift_x = middle - scale * (x + w / 2 - 0.5)
    shift_y = middle - scale * (y + h / 2 - 0.5)
    matrix = np.array([[scale, 0, shift_x], [0, scale, shift_y]])
    quarter = quarter_turn(face.points)
    if not quarter:
        return matrix
    # The square stays where it is and is turned about its middle.
    turn = cv2.getRotationMatrix2D((middle, middle), -quarter, 1.0)
    turned: Floats = turn[:, :2] @ matrix
    turned[:, 2] += turn[:, 2]
    return turned


def warp(image: Image, matrix: Floats, pixels: Pixels, *, halve: bool = False) -> Image:
    """Cut a crop out of a frame; beyond the frame the nearest edge pixel is repeated.

    Args:
        image: RGB uint8 (H, W, 3).
        matrix: Affine map (2, 3) from frame pixels to crop pixels.
        pixels: Size of the crop, and how it is resized.
        halve: Average by two first where a face shrinks to a quarter or less: faster, but not what
            networks were trained on.

    Returns:
        RGB uint8 (size, size, 3).
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    # OpenCV's affine warp only samples: what shrinks to less than half is averaged down first.
    if pixels.resize == "area" and scale < 0.5:
        image, matrix = _shrink(image, matrix, pixels.size, int(1 / scale), halve)
    crop = cv2.warpAffine(
        image,
        matrix,
        (pixels.size, pixels.size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(crop, dtype=np.uint8)


def _shrink(
    image: Image, matrix: Floats, size: int, factor: int, halve: bool
) -> tuple[Image, Floats]:
    """Average `factor` x `factor` blocks of the part that the crop covers; the matrix follows."""
    halve = halve and factor >= 4
    if halve:
        factor -= factor % 2
    x, y = (cv2.invertAffineTransform(matrix) @ _corners(size)).tolist()
    height, width = image.shape[:2]
    left, right, cols = _block_span(x, width, factor)
    top, bottom, rows = _block_span(y, height, factor)
    part = image[top:bottom, left:right]
    if halve and min(part.shape[:2]) >= factor:
        # OpenCV averages by two many pixels at a time, by other numbers one by one.
        part = _resize(part, part.shape[1] // 2, part.shape[0] // 2, cv2.INTER_AREA)
    small = _resize(part, cols, rows, cv2.INTER_AREA)
    to_frame = _map_from_blocks((left, top), (right - left) / cols, (bottom - top) / rows)
    return small, matrix @ to_frame


def _map_from_blocks(corner: tuple[int, int], step_x: float, step_y: float) -> Floats:
    """Map (3, 3) from pixels of a picture of blocks to the frame; the steps are a block's sides."""
    left, top = corner
    # The centre of a pixel lies half a pixel from its corner, in both pictures.
    x = [step_x, 0, left + step_x / 2 - 0.5]
    y = [0, step_y, top + step_y / 2 - 0.5]
    return np.array([x, y, [0, 0, 1]])


@lru_cache(maxsize=16)
def _corners(size: int) -> Floats:
    """The corners of a crop, one pixel beyond it: rows x, y, 1."""
    return np.array([[-1, size, -1, size], [-1, -1, size, size], [1, 1, 1, 1]], dtype=float)


def _block_span(values: list[float], limit: int, factor: int) -> tuple[int, int, int]:
    """Start and end of the coordinates that occur, within 0..limit, and the number of blocks.

    The end moves so that the span holds whole blocks: OpenCV averages those much faster.
    """
    # Plain numbers: NumPy takes longer for one than for the rest of this.
    start = floor(min(max(min(values), 0), limit - 1))
    stop = ceil(min(max(max(values) + 1, start + 1), limit))
    count = -((start - stop) // factor)
    if start + count * factor > limit:
        count -= 1
    if not count:
        return start, stop, 1
    return start, start + count * factor, count


def prepare(image: Image, face: Face, pixels: Pixels) -> Image:
    """Cut a face out of a frame.

    Args:
        image: RGB uint8 (H, W, 3).
        face: The face, in frame pixels.
        pixels: How it is cut.

    Returns:
        RGB uint8 (size, size, 3).
    """
    return warp(image, crop_matrix(face, pixels), pixels)


def prepare_crop(image: Image, pixels: Pixels) -> Image:
    """Resize a picture that already is one face; its aspect is not kept, and nothing is cut off.

    Args:
        image: RGB uint8 (H, W, 3).
        pixels: Size of the crop, and how it is resized.

    Returns:
        RGB uint8 (size, size, 3).
    """
    size = pixels.size
    height, width = image.shape[:2]
    averages = pixels.resize == "area"
    # OpenCV averages only where both sides shrink, so the one that does goes first.
    if averages and (height > size) != (width > size):
        image = _resize(image, min(width, size), min(height, size), cv2.INTER_AREA)
    shrinks = min(image.shape[:2]) > size
    method = cv2.INTER_AREA if averages and shrinks else cv2.INTER_LINEAR
    return _resize(image, size, size, method)


def _resize(image: Image, width: int, height: int, method: int) -> Image:
    resized = cv2.resize(image, (width, height), interpolation=method)
    return np.asarray(resized, dtype=np.uint8)


def normalise(crops: list[Image] | Image, pixels: Pixels) -> NDArray[np.float32]:
    """Turn crops into network input.

    Args:
        crops: RGB uint8 (N, size, size, 3), or a list of (size, size, 3).
        pixels: Colour, mean and standard deviation of the input.

    Returns:
        float32 (N, channels, size, size).
    """
    batch = np.asarray(crops, dtype=np.uint8)
    # Crops are RGB; the network's own order of channels is made here and nowhere else.
    if pixels.colour == "grey":
        values = (batch @ _LUMA)[..., None]
    elif pixels.colour == "bgr":
        values = batch[..., ::-1].astype(np.float32)
    else:
        values = batch.astype(np.float32)
    mean = np.array(pixels.mean, np.float32)
    std = np.array(pixels.std, np.float32)
    scaled = (values - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)
