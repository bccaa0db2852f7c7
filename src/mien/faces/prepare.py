"""The one crop-and-resize: from a face in a frame to the pixels a network eats.

Training, running, phone and browser all come through here, so a network never sees two preprocessings.
`Pixels` (on every card) says what to do; this module is its only reader.
"""

from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mien.records import Face
from mien.tasks import Floats

__all__ = ["Pixels", "crop_matrix", "normalise", "prepare", "prepare_crop", "similarity", "warp"]

Image = NDArray[np.uint8]
Place = Annotated[float, Field(ge=-10, le=10)]
Point = tuple[Place, Place]
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class Pixels(BaseModel):
    """What a network eats.

    size: side of the square crop, px.
    colour: channels of the network's input; ``grey`` is one channel, ITU-R BT.601 luma.
    alignment: ``similarity5`` turns, scales and shifts the five points onto `template`;
        ``box`` takes the square around the face box, widened by `margin`, without turning.
    template: where the five points go, in fractions of the crop (0..1); order as in `Face`.
    margin: added on each side of the box, in fractions of its longer side.
    mean, std: one number per channel, in units of 0..255: input = (value - mean) / std.
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
    """Least-squares rotation, scale and shift (2, 3) that takes `source` (K, 2) to `target` (K, 2).

    As complex numbers w = a z + b, the solution is a plain linear regression (Umeyama 1991, without reflection).

    >>> similarity(np.array([[0., 0.], [1., 0.]]), np.array([[1., 1.], [1., 3.]])).round(6).tolist()
    [[0.0, -2.0, 1.0], [2.0, 0.0, 1.0]]
    """
    z = source[:, 0] + 1j * source[:, 1]
    w = target[:, 0] + 1j * target[:, 1]
    centred = z - z.mean()
    spread = float((abs(centred) ** 2).sum())
    a = (centred.conj() * (w - w.mean())).sum() / spread if spread else 1.0 + 0j
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def crop_matrix(face: Face, pixels: Pixels) -> Floats:
    """Affine map (2, 3) from frame pixels to crop pixels; pixel centres lie at whole numbers."""
    if pixels.template is not None:
        return similarity(face.points, np.array(pixels.template) * pixels.size - 0.5)
    x, y, w, h = face.box
    side = max(w, h) * (1 + 2 * pixels.margin)
    scale = pixels.size / max(side, 1e-6)
    return np.array([
        [scale, 0, pixels.size / 2 - 0.5 - scale * (x + w / 2 - 0.5)],
        [0, scale, pixels.size / 2 - 0.5 - scale * (y + h / 2 - 0.5)],
    ])  # fmt: skip


def warp(image: Image, matrix: Floats, pixels: Pixels) -> Image:
    """Apply `matrix` to an RGB `image` (H, W, 3); returns the RGB crop (size, size, 3).

    OpenCV's affine warp only samples, so a face that shrinks to less than half is first averaged down (`area`).
    Beyond the frame the nearest edge pixel goes on.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if pixels.resize == "area" and scale < 0.5:
        image, matrix = _shrink(image, matrix, pixels.size, int(1 / scale))
    return np.asarray(
        cv2.warpAffine(
            image,
            matrix,
            (pixels.size, pixels.size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        dtype=np.uint8,
    )


def _shrink(image: Image, matrix: Floats, size: int, factor: int) -> tuple[Image, Floats]:
    """Average `factor` x `factor` blocks of the part that the crop covers; the matrix follows."""
    corners = np.array([[-1, size, -1, size], [-1, -1, size, size], [1, 1, 1, 1]], dtype=float)
    x, y = cv2.invertAffineTransform(matrix) @ corners
    height, width = image.shape[:2]
    x0, y0 = (int(np.clip(np.floor(v.min()), 0, n - 1)) for v, n in ((x, width), (y, height)))
    x1, y1 = (
        int(np.clip(np.ceil(v.max()) + 1, low + 1, n))
        for v, low, n in ((x, x0, width), (y, y0, height))
    )
    (x1, cols), (y1, rows) = _whole(x0, x1, width, factor), _whole(y0, y1, height, factor)
    small = cv2.resize(image[y0:y1, x0:x1], (cols, rows), interpolation=cv2.INTER_AREA)
    step_x, step_y = (x1 - x0) / cols, (y1 - y0) / rows
    back = np.array(
        [[step_x, 0, x0 + step_x / 2 - 0.5], [0, step_y, y0 + step_y / 2 - 0.5], [0, 0, 1]]
    )
    return np.asarray(small, dtype=np.uint8), matrix @ back


def _whole(start: int, stop: int, limit: int, factor: int) -> tuple[int, int]:
    """The end of a span moved so that it holds whole blocks, within `limit`, and their number: OpenCV averages those much faster."""
    count = -((start - stop) // factor)
    if start + count * factor > limit:
        count -= 1
    return (start + count * factor, count) if count else (stop, 1)


def prepare(image: Image, face: Face, pixels: Pixels) -> Image:
    """The crop of `face`: RGB uint8 (size, size, 3) from an RGB `image` (H, W, 3)."""
    return warp(image, crop_matrix(face, pixels), pixels)


def prepare_crop(image: Image, pixels: Pixels) -> Image:
    """The crop of a picture that already is one face: squashed to (size, size, 3), nothing cut off."""
    height, width = image.shape[:2]
    if pixels.resize == "area" and (height > pixels.size) != (width > pixels.size):
        # OpenCV averages only where both sides shrink, so the one that does goes first.
        image = np.asarray(
            cv2.resize(
                image,
                (min(width, pixels.size), min(height, pixels.size)),
                interpolation=cv2.INTER_AREA,
            ),
            np.uint8,
        )
    shrinks = pixels.resize == "area" and min(image.shape[:2]) > pixels.size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(
        cv2.resize(image, (pixels.size, pixels.size), interpolation=how), dtype=np.uint8
    )


def normalise(crops: list[Image] | Image, pixels: Pixels) -> NDArray[np.float32]:
    """RGB uint8 crops (N, size, size, 3) to network input (N, channels, size, size), float32."""
    batch = np.asarray(crops, dtype=np.uint8)
    if pixels.colour == "grey":
        values = (batch @ _LUMA)[..., None]
    else:
        values = (batch if pixels.colour == "rgb" else batch[..., ::-1]).astype(np.float32)
    scaled = (values - np.array(pixels.mean, np.float32)) / np.array(pixels.std, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)
