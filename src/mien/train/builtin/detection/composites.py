"""Pictures with many faces, composed of portraits while a detector trains.

Faces have any size, and may be turned, blurred or cut off; some pictures have none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.sets.ferplus import read_table
from mien.tasks import Floats

__all__ = ["SCENES", "Portrait", "Stock", "camera", "compose", "scenes", "stock", "textures"]

Grey = NDArray[np.uint8]
_Item = TypeVar("_Item")

SCENES: Final = (
    "brick",
    "cat",
    "clock",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "horse",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
)
"""Pictures in scikit-image's wheel, free to use, that show no human face."""

# Score from which YuNet's face in a portrait is trusted, and where the table has it: x, y, w, h,
# five points (x, y), score.
_TRUSTED: Final = 0.6
_SCORE: Final = 14

# Number of faces in a picture that is not tidy, and how often it is drawn.
_COUNTS: Final = (0, 1, 2, 3, 4, 6, 9)
_COUNT_SHARES: Final = (0.08, 0.32, 0.2, 0.14, 0.1, 0.1, 0.06)

# Side of a texture, px.
_TEXTURE: Final = 512
# Attempts to find a free spot for a face in a tidy picture.
_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class Portrait:
    """A photo of a person.

    Attributes:
        image: Grey (H, W).
        box: x, y, w, h of its most prominent face, px.
    """

    image: Grey
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Stock:
    """What composites are made of.

    Attributes:
        portraits: Photos of people.
        scenes: Grey pictures (H, W) without faces.
    """

    portraits: Sequence[Portrait]
    scenes: Sequence[Grey]


def scenes() -> list[Grey]:
    """Load pictures to hide faces in, and to find none in.

    Returns:
        The pictures of `SCENES`, grey (H, W).
    """
    from skimage import data
    from skimage.color import rgb2gray
    from skimage.util import img_as_ubyte

    pictures = []
    for name in SCENES:
        picture = getattr(data, name)()
        # Some have an alpha channel behind the colours.
        grey = rgb2gray(picture[..., :3]) if picture.ndim == 3 else picture
        pictures.append(img_as_ubyte(grey))
    return pictures


def textures() -> list[Grey]:
    """Draw noise and clouds, in which a detector that has seen none sees faces.

    Returns:
        Grey pictures (H, W), of grains from a pixel to a fifth of the picture.
    """
    rng = np.random.default_rng(0)
    pictures = []
    for grains in (5, 7, 9, 14, 24, 48, 100, _TEXTURE):
        for interpolation in (cv2.INTER_CUBIC, cv2.INTER_NEAREST):
            rough = rng.integers(0, 256, (grains, grains), np.uint8)
            texture = cv2.resize(rough, (_TEXTURE, _TEXTURE), interpolation=interpolation)
            pictures.append(np.asarray(texture, np.uint8))
    return pictures


def stock(folder: Path, split: str) -> Stock:
    """Load what composites are made of.

    Args:
        folder: Folder with ``portraits.parquet``.
        split: Split whose portraits are taken.

    Returns:
        The portraits of the split, and scenes and textures without faces.
    """
    return Stock(_portraits(folder, split), [*scenes(), *textures()])


def _portraits(folder: Path, split: str) -> list[Portrait]:
    """The portraits of a split in which YuNet surely found a face."""
    table = read_table(folder / "portraits.parquet", ["split", "image", "faces"])
    table = table[table["split"] == split]
    portraits = []
    for encoded, faces in zip(table["image"], table["faces"], strict=True):
        strongest = max(faces, key=lambda face: face[_SCORE], default=None)
        if strongest is None or strongest[_SCORE] < _TRUSTED:
            continue
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
        x, y, width, height = strongest[:4]
        portraits.append(Portrait(np.asarray(image, np.uint8), (x, y, width, height)))
    return portraits


def compose(
    stock: Stock,
    side: int,
    sizes: tuple[float, float],
    rng: np.random.Generator,
    tidy: bool = False,
) -> Grey:
    """Compose a picture with up to 9 faces.

    Light and camera are left to `camera`, so that a teacher can see the picture before.

    Args:
        stock: What it is made of.
        side: Width and height of the picture, px.
        sizes: Smallest and largest width of a face, px; widths are log-uniform between them.
        rng: Source of all randomness.
        tidy: At least one face, all upright, whole and side by side. Otherwise faces are turned,
            cover each other, leave the picture or are missing.

    Returns:
        A grey picture (side, side).
    """
    canvas = _background(stock, side, rng)
    if tidy:
        return _side_by_side(canvas, stock.portraits, sizes, rng)
    for _ in range(int(rng.choice(_COUNTS, p=_COUNT_SHARES))):
        _paste(canvas, _pick(stock.portraits, rng), sizes, rng)
    return canvas


def _pick(items: Sequence[_Item], rng: np.random.Generator) -> _Item:
    return items[int(rng.integers(len(items)))]


def _side_by_side(
    canvas: Grey,
    portraits: Sequence[Portrait],
    sizes: tuple[float, float],
    rng: np.random.Generator,
) -> Grey:
    """Draw upright faces where none is yet."""
    taken = np.zeros(canvas.shape, bool)
    for _ in range(int(rng.integers(2, 10))):
        piece, scale = _piece(_pick(portraits, rng), sizes, rng)
        resized = cv2.resize(piece, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        _place_in_free_spot(canvas, taken, np.asarray(resized, np.uint8), rng)
    return canvas


def _place_in_free_spot(
    canvas: Grey, taken: NDArray[np.bool_], piece: Grey, rng: np.random.Generator
) -> None:
    """Draw a piece where nothing is taken; leave it out where no attempt finds such a spot."""
    height, width = piece.shape
    rows, columns = canvas.shape
    if height > rows or width > columns:
        return
    for _ in range(_ATTEMPTS):
        top = rng.integers(rows - height + 1)
        left = rng.integers(columns - width + 1)
        spot = np.s_[top : top + height, left : left + width]
        if not taken[spot].any():
            canvas[spot] = piece
            taken[spot] = True
            return


def _background(stock: Stock, side: int, rng: np.random.Generator) -> Grey:
    """A plain grey, soft blobs, a part of a scene, or a corner of a portrait."""
    kind = rng.random()
    if kind < 0.1:
        return np.full((side, side), rng.integers(256), np.uint8)
    # A grid of a few random pixels, enlarged.
    if kind < 0.25:
        shape = (rng.integers(2, 24), rng.integers(2, 24))
        blobs = rng.integers(0, 256, shape, dtype=np.uint8)
        return np.asarray(cv2.resize(blobs, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    part = _scene_part(stock, rng) if kind < 0.7 else _portrait_corner(stock, rng)
    # Half of them upside down, so that there are twice as many.
    flipped = part[:: rng.choice([-1, 1])]
    return np.asarray(cv2.resize(flipped, (side, side)), np.uint8)


def _scene_part(stock: Stock, rng: np.random.Generator) -> Grey:
    """A square from anywhere in a scene, log-uniform in size."""
    image = _pick(stock.scenes, rng)
    height, width = image.shape
    size = int(min(height, width) * np.exp(rng.uniform(np.log(0.2), 0)))
    top = rng.integers(height - size + 1)
    left = rng.integers(width - size + 1)
    return image[top : top + size, left : left + size]


def _portrait_corner(stock: Stock, rng: np.random.Generator) -> Grey:
    """A square from a corner of a portrait: clothes and walls, rarely a whole face.

    A face that is left in it does no harm, since the teacher labels it.
    """
    image = _pick(stock.portraits, rng).image
    height, width = image.shape
    size = int(min(height, width) * rng.uniform(0.25, 0.5))
    top = rng.choice([0, height - size])
    left = rng.choice([0, width - size])
    return image[top : top + size, left : left + size]


def _piece(
    portrait: Portrait, sizes: tuple[float, float], rng: np.random.Generator
) -> tuple[Grey, float]:
    """A part of a portrait around its face, and the scale that gives the face its size.

    Where it must shrink much, the part is averaged down already and the scale is 1: interpolation
    would skip pixels.
    """
    piece = _surroundings(portrait, rng)
    face_width = portrait.box[2]
    target_width = np.exp(rng.uniform(*np.log(sizes)))
    scale = float(target_width / max(face_width, 1))
    # A few pixels cannot be averaged down any further.
    if scale >= 0.6 or min(piece.shape) * scale < 4:
        return piece, scale
    small = cv2.resize(piece, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), 1.0


def _surroundings(portrait: Portrait, rng: np.random.Generator) -> Grey:
    """A part of a portrait that reaches beyond the face's box by .1 to 1.5 of it on each side."""
    x, y, w, h = portrait.box
    left, top, right, bottom = rng.uniform(0.1, 1.5, 4) * (w, h, w, h)
    height, width = portrait.image.shape
    first_row = int(max(y - top, 0))
    end_row = int(min(y + h + bottom, height))
    first_column = int(max(x - left, 0))
    end_column = int(min(x + w + right, width))
    return portrait.image[first_row:end_row, first_column:end_column]


def _paste(
    canvas: Grey, portrait: Portrait, sizes: tuple[float, float], rng: np.random.Generator
) -> None:
    """Draw a piece of a portrait anywhere, perhaps turned, even partly outside."""
    piece, scale = _piece(portrait, sizes, rng)
    degrees = rng.normal(0, 18) if rng.random() < 0.4 else 0.0
    matrix = _placement(piece.shape, scale, np.deg2rad(degrees), canvas.shape, rng)
    size = canvas.shape[::-1]
    cv2.warpAffine(piece, matrix, size, canvas, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)


def _placement(
    piece: tuple[int, ...],
    scale: float,
    turn: float,
    canvas: tuple[int, ...],
    rng: np.random.Generator,
) -> Floats:
    """Affine matrix (2, 3) that turns a piece by radians and puts its middle on the canvas.

    Half of the pieces are mirrored. `piece` and `canvas` are shapes (H, W).
    """
    mirror = rng.choice([-1.0, 1.0])
    cosine = scale * np.cos(turn)
    sine = scale * np.sin(turn)
    linear = np.array([[cosine * mirror, -sine], [sine * mirror, cosine]])
    middle = np.array([piece[1], piece[0]]) / 2
    target = rng.uniform(0.05, 0.95, 2) * (canvas[1], canvas[0])
    return np.column_stack([linear, target - linear @ middle])


def camera(image: Grey, rng: np.random.Generator) -> Grey:
    """Apply blur, contrast, brightness, noise and JPEG artefacts, as cameras make them.

    Args:
        image: Grey (H, W).
        rng: Source of all randomness.

    Returns:
        The changed picture, grey (H, W).
    """
    if rng.random() < 0.25:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.5)), np.uint8)
    contrast = rng.uniform(0.5, 1.3)
    value = (image.astype(np.float32) - 127.5) * contrast + 127.5 + rng.uniform(-40, 40)
    if rng.random() < 0.3:
        value += rng.normal(0, rng.uniform(2, 15), image.shape)
    image = np.clip(value, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        image = _jpeg(image, int(rng.integers(15, 80)))
    return image


def _jpeg(image: Grey, quality: int) -> Grey:
    """The picture after JPEG compression."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
