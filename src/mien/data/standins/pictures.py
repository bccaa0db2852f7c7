"""The pictures of stand-ins: faces cut out alike, and altered a little so that a face that comes again is not the same picture."""

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

_FRAMED: Final = np.array(
    FERPLUS_TEMPLATE
)  # pictures without points are taken to be framed like this
_MARGIN: Final = 6  # pixels beyond each edge of a crop, for shifts and turns
_SQUARE: Final = 1.1


@dataclass(frozen=True, slots=True)
class Job:
    """Pictures to write: `paths[i]` shows face `faces[i]`; all alterations follow from `seed`.

    size: of the pictures, px. zoom: below 1 shows more around the face. coarse: they look generated and small.
    lamp: how much light and colours of this job differ from others, as those of a film do.
    """

    paths: Sequence[Path]
    faces: NDArray[np.intp]
    seed: tuple[int, ...]
    size: int = 112
    zoom: float = 0.92
    coarse: bool = False
    lamp: float = 0.15


def framing(size: int, zoom: float) -> Floats:
    """Where the five points (5, 2) of a face lie in a crop of that size, px."""
    return np.asarray((0.5 + (_FRAMED - 0.5) * zoom) * size - 0.5)


def cut_out(cell: object, points: Floats, size: int, zoom: float) -> Image:
    """The face of a table's cell, RGB (size, size, 3), its five points (10,) brought to `framing`.

    Without points (NaN) a square picture is taken to be framed like FER+; raises DataError for another one.
    """
    picture = read_picture(cell)
    height, width = picture.shape[:2]
    if np.isnan(points).any():
        if max(height, width) > _SQUARE * min(height, width):
            raise DataError(
                f"a face of the table without points is {width}x{height}; give its points, or a square picture of the face alone"
            )
        points = (_FRAMED * (width, height) - 0.5).ravel()
    pixels = Pixels(size=size, colour="rgb", alignment="box", mean=(0.0,) * 3, std=(1.0,) * 3)
    matrix = similarity(points.reshape(5, 2), framing(size, zoom))
    return _faded(warp(picture, matrix, pixels), picture.shape[:2], matrix)


def _faded(crop: Image, shape: tuple[int, ...], matrix: Floats) -> Image:
    """The crop, out of focus where it goes beyond the picture: drawn-out edge pixels look like beards."""
    size = len(crop)
    corners = np.array(
        [[-0.5, -0.5, size - 0.5, size - 0.5], [-0.5, size - 0.5, -0.5, size - 0.5], [1, 1, 1, 1]]
    )
    x, y = cv2.invertAffineTransform(matrix) @ corners
    if min(x.min(), y.min()) >= -0.5 and x.max() <= shape[1] - 0.5 and y.max() <= shape[0] - 0.5:
        return crop
    seen = cv2.warpAffine(
        np.ones(shape, np.float32), matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(0,)
    )
    seen = cv2.erode(
        seen,
        np.ones((3, 3), np.uint8),
        iterations=max(size // 24, 1),
        borderType=cv2.BORDER_REPLICATE,
    )
    share = cv2.GaussianBlur(seen, (0, 0), 0.02 * size)[..., None]
    few = cv2.resize(crop, (5, 5), interpolation=cv2.INTER_AREA)
    soft = cv2.resize(few, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray((share * crop + (1 - share) * soft).astype(np.uint8))


def placed(points: Floats, size: int, zoom: float) -> Floats:
    """Where `cut_out` puts the five points (10,), as (5, 2) in pixels of its crop."""
    target = framing(size, zoom)
    if np.isnan(points).any():
        return target
    turn = similarity(points.reshape(5, 2), target)
    return np.asarray(points.reshape(5, 2) @ turn[:, :2].T + turn[:, 2])


def noise_of(rng: np.random.Generator) -> NDArray[np.int16]:
    """Grain (256, 256, 1) of standard deviation 16, to cut windows from."""
    return np.asarray(rng.normal(0, 16, (256, 256, 1)).astype(np.int16))


def alter(crop: Image, size: int, rng: np.random.Generator, grain: NDArray[np.int16]) -> Image:
    """A crop of `size` px from a larger one: turned by a few degrees, moved, lit and grained a little differently every time."""
    turn, grow, dx, dy = rng.normal(size=4)
    middle = (crop.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D(
        (middle, middle), 2.0 * turn, 1 + 0.02 * float(np.clip(grow, -2, 2))
    )
    matrix[:, 2] += (size - 1) / 2 - middle + 0.012 * size * np.clip((dx, dy), -2, 2)
    out = cv2.warpAffine(
        crop, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return relight(np.asarray(out, np.uint8), rng, grain)


def relight(picture: Image, rng: np.random.Generator, grain: NDArray[np.int16]) -> Image:
    """A square picture of less than 256 px, lit and grained a little differently every time."""
    gain, lift = rng.normal(size=2)
    size = len(picture)
    y, x = rng.integers(len(grain) - size, size=2)
    speck = grain[y : y + size, x : x + size] >> int(rng.integers(2, 5))
    lit = picture * np.float32(1 + 0.06 * gain) + np.float32(5 * lift)
    return np.asarray(np.clip(lit + speck, 0, 255).astype(np.uint8))


def degrade(crop: Image, rng: np.random.Generator) -> Image:
    """The look of generated faces: few pixels blown up, smeared skin, halos at edges."""
    size, small = len(crop), int(rng.integers(24, 41))
    out = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    out = cv2.bilateralFilter(out, 5, float(rng.uniform(15, 40)), 3)
    big = cv2.resize(out, (size, size), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(big, (0, 0), 0.03 * size)
    return np.asarray(cv2.addWeighted(big, 1.5, soft, -0.5, 0), np.uint8)


def write_jpeg(path: Path, picture: Image, quality: int) -> None:
    """Write RGB as JPEG; raises OutputError."""
    _write(path, picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def write_png(path: Path, picture: Image) -> None:
    """Write RGB as PNG; raises OutputError."""
    _write(path, picture, ".png", [])


def _write(path: Path, picture: Image, kind: str, how: list[int]) -> None:
    done, data = cv2.imencode(kind, picture[..., ::-1], how)
    assert done
    with wrap_os_errors(path):
        path.write_bytes(data.tobytes())


def paint(faces: Faces, job: Job) -> int:
    """Write the pictures of a job; returns how many."""
    rng = np.random.default_rng(job.seed)
    grain = noise_of(rng)
    light = np.exp(job.lamp * (rng.normal() + 0.25 * rng.normal(size=3))).astype(np.float32)
    gap = round(_MARGIN * job.size / 112)
    crops: dict[int, Image] = {}
    for path, face in zip(job.paths, job.faces.tolist(), strict=True):
        if face not in crops:
            side = job.size + 2 * gap
            whole = cut_out(
                faces.images[face], faces.points[face], side, job.zoom * job.size / side
            )
            crops[face] = np.clip(whole * light, 0, 255).astype(np.uint8)
        picture = alter(crops[face], job.size, rng, grain)
        if job.coarse:
            picture = degrade(picture, rng)
        write_jpeg(path, picture, int(rng.integers(30, 61) if job.coarse else rng.integers(60, 96)))
    return len(job.paths)
