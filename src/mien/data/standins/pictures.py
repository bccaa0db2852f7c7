"""The pictures of stand-ins: faces cut out alike, and altered a little every time.

A face that comes again is then not the same picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.images import read_picture
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.data.standins.faces import Faces
from mien.errors import DataError
from mien.faces.prepare import Pixels, similarity, warp
from mien.files import wrap_os_errors
from mien.tasks import Floats

__all__ = [
    "Job",
    "alter",
    "cut_out",
    "degrade",
    "framing",
    "noise_of",
    "paint",
    "placed",
    "relight",
    "write_jpeg",
    "write_png",
]

Image = NDArray[np.uint8]
Grain = NDArray[np.int16]

# How pictures without points are taken to be framed.
_FRAMED: Final = np.array(FERPLUS_TEMPLATE)
# Pixels beyond each edge of a crop of 112 px, for shifts and turns.
_MARGIN: Final = 6
# Sides' ratio up to which a picture counts as square.
_SQUARE: Final = 1.1


@dataclass(frozen=True, slots=True)
class Job:
    """Pictures to write.

    Attributes:
        paths: The files.
        faces: (N,) number of the face that each shows.
        seed: All alterations follow from it.
        size: Of the pictures, px.
        zoom: Below 1 shows more around the face.
        coarse: They look generated and small.
        lamp: How much light and colours of this job differ from others, as those of a film do.
    """

    paths: Sequence[Path]
    faces: NDArray[np.intp]
    seed: tuple[int, ...]
    size: int = 112
    zoom: float = 0.92
    coarse: bool = False
    lamp: float = 0.15


def framing(size: int, zoom: float) -> Floats:
    """Where the five points of a face lie in a crop.

    Args:
        size: Side of the crop, px.
        zoom: Below 1 shows more around the face.

    Returns:
        (5, 2) in pixels.
    """
    return np.asarray((0.5 + (_FRAMED - 0.5) * zoom) * size - 0.5)


def cut_out(cell: object, points: Floats, size: int, zoom: float) -> Image:
    """Cut a face out of its picture, its points brought to `framing`.

    Args:
        cell: A cell of the column `image` of a label table.
        points: Five points (10,) in pixels; without them (NaN) a square picture is taken to be
            framed like FER+.
        size: Side of the crop, px.
        zoom: As for `framing`.

    Returns:
        RGB (size, size, 3).

    Raises:
        DataError: For a picture without points that is not square.
    """
    picture = read_picture(cell)
    height, width = picture.shape[:2]
    if np.isnan(points).any():
        if max(height, width) > _SQUARE * min(height, width):
            raise DataError(
                f"a face of the table without points is {width}x{height}; give its points, "
                "or a square picture of the face alone"
            )
        points = (_FRAMED * (width, height) - 0.5).ravel()
    pixels = Pixels(size=size, colour="rgb", alignment="box", mean=(0.0,) * 3, std=(1.0,) * 3)
    matrix = similarity(points.reshape(5, 2), framing(size, zoom))
    return _faded(warp(picture, matrix, pixels), picture.shape[:2], matrix)


def _faded(crop: Image, shape: tuple[int, ...], matrix: Floats) -> Image:
    """The crop, out of focus beyond the picture: drawn-out edge pixels look like beards."""
    size = len(crop)
    if _lies_within(size, shape, matrix):
        return crop
    inside = np.ones(shape, np.float32)
    seen = cv2.warpAffine(inside, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(0,))
    # Keep the soft edge of the mask within the picture.
    kernel = np.ones((3, 3), np.uint8)
    steps = max(size // 24, 1)
    seen = cv2.erode(seen, kernel, iterations=steps, borderType=cv2.BORDER_REPLICATE)
    share = cv2.GaussianBlur(seen, (0, 0), 0.02 * size)[..., None]
    tiny = cv2.resize(crop, (5, 5), interpolation=cv2.INTER_AREA)
    soft = cv2.resize(tiny, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray((share * crop + (1 - share) * soft).astype(np.uint8))


def _lies_within(size: int, shape: tuple[int, ...], matrix: Floats) -> bool:
    """Whether a crop shows nothing beyond the picture."""
    low, high = -0.5, size - 0.5
    corners = np.array([[low, low, high, high], [low, high, low, high], [1, 1, 1, 1]])
    x, y = cv2.invertAffineTransform(matrix) @ corners
    starts_inside = min(x.min(), y.min()) >= -0.5
    return bool(starts_inside and x.max() <= shape[1] - 0.5 and y.max() <= shape[0] - 0.5)


def placed(points: Floats, size: int, zoom: float) -> Floats:
    """Where `cut_out` puts the five points.

    Args:
        points: (10,) in pixels of the picture, or NaN.
        size: As for `cut_out`.
        zoom: As for `cut_out`.

    Returns:
        (5, 2) in pixels of the crop.
    """
    target = framing(size, zoom)
    if np.isnan(points).any():
        return target
    turn = similarity(points.reshape(5, 2), target)
    return np.asarray(points.reshape(5, 2) @ turn[:, :2].T + turn[:, 2])


def noise_of(rng: np.random.Generator) -> Grain:
    """Grain to cut windows from, which is faster than drawing it for every picture.

    Args:
        rng: Where the chance comes from.

    Returns:
        (256, 256, 1) of standard deviation 16.
    """
    return np.asarray(rng.normal(0, 16, (256, 256, 1)).astype(np.int16))


def alter(crop: Image, size: int, rng: np.random.Generator, grain: Grain) -> Image:
    """A smaller crop, turned by a few degrees, moved, lit and grained differently every time.

    Args:
        crop: RGB, at least `size` px.
        size: Side of the result, px.
        rng: Where the chance comes from.
        grain: As from `noise_of`.

    Returns:
        RGB (size, size, 3).
    """
    turn, grow, dx, dy = rng.normal(size=4)
    middle = (crop.shape[0] - 1) / 2
    scale = 1 + 0.02 * float(np.clip(grow, -2, 2))
    matrix = cv2.getRotationMatrix2D((middle, middle), 2.0 * turn, scale)
    matrix[:, 2] += (size - 1) / 2 - middle + 0.012 * size * np.clip((dx, dy), -2, 2)
    altered = cv2.warpAffine(
        crop, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return relight(np.asarray(altered, np.uint8), rng, grain)


def relight(picture: Image, rng: np.random.Generator, grain: Grain) -> Image:
    """A picture, lit and grained a little differently every time.

    Args:
        picture: RGB, square, less than 256 px.
        rng: Where the chance comes from.
        grain: As from `noise_of`.

    Returns:
        RGB of the same size.
    """
    gain, lift = rng.normal(size=2)
    size = len(picture)
    y, x = rng.integers(len(grain) - size, size=2)
    speck = grain[y : y + size, x : x + size] >> int(rng.integers(2, 5))
    lit = picture * np.float32(1 + 0.06 * gain) + np.float32(5 * lift)
    return np.asarray(np.clip(lit + speck, 0, 255).astype(np.uint8))


def degrade(crop: Image, rng: np.random.Generator) -> Image:
    """The look of generated faces: few pixels blown up, smeared skin, halos at edges.

    Args:
        crop: RGB, square.
        rng: Where the chance comes from.

    Returns:
        RGB of the same size.
    """
    size = len(crop)
    small = int(rng.integers(24, 41))
    few = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    smeared = cv2.bilateralFilter(few, 5, float(rng.uniform(15, 40)), 3)
    large = cv2.resize(smeared, (size, size), interpolation=cv2.INTER_CUBIC)
    # Sharpening a blown-up picture leaves halos.
    soft = cv2.GaussianBlur(large, (0, 0), 0.03 * size)
    return np.asarray(cv2.addWeighted(large, 1.5, soft, -0.5, 0), np.uint8)


def write_jpeg(path: Path, picture: Image, quality: int) -> None:
    """Write a picture as JPEG.

    Args:
        path: The file.
        picture: RGB.
        quality: 1..100.

    Raises:
        OutputError: Where it cannot be written.
    """
    _write(path, picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def write_png(path: Path, picture: Image) -> None:
    """Write a picture as PNG.

    Args:
        path: The file.
        picture: RGB.

    Raises:
        OutputError: Where it cannot be written.
    """
    _write(path, picture, ".png", [])


def _write(path: Path, picture: Image, suffix: str, options: list[int]) -> None:
    done, data = cv2.imencode(suffix, picture[..., ::-1], options)
    assert done
    with wrap_os_errors(path):
        path.write_bytes(data.tobytes())


def paint(faces: Faces, job: Job) -> int:
    """Write the pictures of a job.

    Args:
        faces: What the numbers of the job mean.
        job: What to write.

    Returns:
        How many pictures were written.

    Raises:
        OutputError: Where one cannot be written.
    """
    rng = np.random.default_rng(job.seed)
    grain = noise_of(rng)
    # Brightness common to all colours, and a slight tint.
    light = np.exp(job.lamp * (rng.normal() + 0.25 * rng.normal(size=3))).astype(np.float32)
    crops: dict[int, Image] = {}
    for path, face in zip(job.paths, job.faces.tolist(), strict=True):
        # A face may come many times in a job; it is cut out once.
        if face not in crops:
            crops[face] = _lit_crop(faces, face, job, light)
        picture = alter(crops[face], job.size, rng, grain)
        if job.coarse:
            picture = degrade(picture, rng)
        low, high = (30, 61) if job.coarse else (60, 96)
        write_jpeg(path, picture, int(rng.integers(low, high)))
    return len(job.paths)


def _lit_crop(faces: Faces, face: int, job: Job, light: NDArray[np.float32]) -> Image:
    """A face with a margin for shifts and turns, in the light of the job."""
    side = job.size + 2 * round(_MARGIN * job.size / 112)
    crop = cut_out(faces.images[face], faces.points[face], side, job.zoom * job.size / side)
    return np.asarray(np.clip(crop * light, 0, 255).astype(np.uint8))
