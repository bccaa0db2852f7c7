"""Pictures with many faces, made on the fly from portraits: faces of any size, turned, blurred, cut off, or none at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.sets.ferplus import read_table
from mien.tasks import Floats

__all__ = ["SCENES", "Portrait", "Stock", "compose", "scenes", "stock"]

SCENES: Final = (
    "brick", "cat", "clock", "coffee", "coins", "grass", "gravel", "horse", "hubble_deep_field", "immunohistochemistry", "moon", "page",
    "retina", "rocket", "text",
)  # fmt: skip
"""Pictures in scikit-image's wheel, free to use, that show no human face."""

Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Portrait:
    """A grey photo (H, W) and the box x, y, w, h of its most prominent face, px."""

    image: Grey
    box: tuple[float, float, float, float]


def scenes() -> list[Grey]:
    """The pictures of `SCENES` in grey: places to hide faces in, and to find none."""
    from skimage import data
    from skimage.color import rgb2gray
    from skimage.util import img_as_ubyte

    pictures = [getattr(data, name)() for name in SCENES]
    return [
        img_as_ubyte(rgb2gray(picture[..., :3]) if picture.ndim == 3 else picture)
        for picture in pictures
    ]


@dataclass(frozen=True, slots=True)
class Stock:
    """What composites are made of."""

    portraits: Sequence[Portrait]
    scenes: Sequence[Grey]


def stock(folder: Path, split: str) -> Stock:
    """What composites are made of: the portraits of a split, and scenes without faces."""
    return Stock(portraits(folder, split), scenes())


def portraits(folder: Path, split: str) -> list[Portrait]:
    """The portraits of a split in grey, each with YuNet's strongest face."""
    table = read_table(folder / "portraits.parquet", ["split", "image", "faces"])
    table = table[table["split"] == split]
    found = []
    for data, faces in zip(table["image"], table["faces"], strict=True):
        best = max(faces, key=lambda face: face[14], default=None)
        if best is not None and best[14] >= 0.6:
            image = np.asarray(
                cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8
            )
            found.append(Portrait(image, (best[0], best[1], best[2], best[3])))
    return found


def compose(
    stock: Stock,
    side: int,
    sizes: tuple[float, float],
    rng: np.random.Generator,
    tidy: bool = False,
) -> Grey:
    """A grey picture (side, side) with up to 9 faces whose widths are log-uniform in `sizes`, px.

    Untidy, faces are turned, cover each other, leave the picture or are missing, and light and camera degrade it all;
    tidy, there is at least one, all are upright, whole and side by side.
    """
    canvas = _background(stock, side, rng)
    if tidy:
        return _side_by_side(canvas, stock.portraits, sizes, rng)
    for _ in range(
        int(rng.choice([0, 1, 2, 3, 4, 6, 9], p=[0.08, 0.32, 0.2, 0.14, 0.1, 0.1, 0.06]))
    ):
        _paste(canvas, stock.portraits[int(rng.integers(len(stock.portraits)))], sizes, rng)
    return _camera(canvas, rng)


def _side_by_side(
    canvas: Grey,
    portraits: Sequence[Portrait],
    sizes: tuple[float, float],
    rng: np.random.Generator,
) -> Grey:
    taken = np.zeros(canvas.shape, bool)
    for _ in range(int(rng.integers(2, 10))):
        piece, scale = _piece(portraits[int(rng.integers(len(portraits)))], sizes, rng)
        piece = np.asarray(
            cv2.resize(piece, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), np.uint8
        )
        height, width = piece.shape
        if height > canvas.shape[0] or width > canvas.shape[1]:
            continue
        for _ in range(8):
            top, left = (
                rng.integers(canvas.shape[0] - height + 1),
                rng.integers(canvas.shape[1] - width + 1),
            )
            spot = np.s_[top : top + height, left : left + width]
            if not taken[spot].any():
                canvas[spot], taken[spot] = piece, True
                break
    return canvas


def _background(stock: Stock, side: int, rng: np.random.Generator) -> Grey:
    kind = rng.random()
    if kind < 0.1:
        return np.full((side, side), rng.integers(256), np.uint8)
    if kind < 0.25:
        rough = rng.integers(0, 256, (rng.integers(2, 24), rng.integers(2, 24)), dtype=np.uint8)
        return np.asarray(cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    if kind < 0.7:
        image = stock.scenes[int(rng.integers(len(stock.scenes)))]
        height, width = image.shape
        part = int(min(height, width) * np.exp(rng.uniform(np.log(0.2), 0)))
        top, left = rng.integers(height - part + 1), rng.integers(width - part + 1)
    else:
        # A corner of a portrait, enlarged: clothes and walls, rarely a whole face. Whatever face is left, the teacher labels.
        image = stock.portraits[int(rng.integers(len(stock.portraits)))].image
        height, width = image.shape
        part = int(min(height, width) * rng.uniform(0.25, 0.5))
        top, left = rng.choice([0, height - part]), rng.choice([0, width - part])
    return np.asarray(
        cv2.resize(
            image[top : top + part, left : left + part][:: rng.choice([-1, 1])], (side, side)
        ),
        np.uint8,
    )


def _piece(
    portrait: Portrait, sizes: tuple[float, float], rng: np.random.Generator
) -> tuple[Grey, float]:
    """A part of a portrait around its face, averaged down where it must shrink much, and the scale that is left to apply."""
    x, y, w, h = portrait.box
    reach = rng.uniform(0.1, 1.5, 4) * (w, h, w, h)
    height, width = portrait.image.shape
    x0, y0 = int(max(x - reach[0], 0)), int(max(y - reach[1], 0))
    piece = portrait.image[
        y0 : int(min(y + h + reach[3], height)), x0 : int(min(x + w + reach[2], width))
    ]
    scale = float(np.exp(rng.uniform(*np.log(sizes))) / max(w, 1))
    if scale >= 0.6 or min(piece.shape) * scale < 4:
        return piece, scale
    return np.asarray(
        cv2.resize(piece, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    ), 1.0


def _paste(
    canvas: Grey, portrait: Portrait, sizes: tuple[float, float], rng: np.random.Generator
) -> None:
    """Draw a piece of the portrait onto the canvas, anywhere, perhaps turned, even partly outside."""
    piece, scale = _piece(portrait, sizes, rng)
    turn = np.deg2rad(rng.normal(0, 18) if rng.random() < 0.4 else 0.0)
    matrix = _placed(piece.shape, scale, turn, canvas.shape, rng)
    cv2.warpAffine(
        piece, matrix, canvas.shape[::-1], canvas, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT
    )


def _placed(
    piece: tuple[int, ...],
    scale: float,
    turn: float,
    canvas: tuple[int, ...],
    rng: np.random.Generator,
) -> Floats:
    mirror = rng.choice([-1.0, 1.0])
    a, b = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[a * mirror, -b], [b * mirror, a]])
    middle = np.array([piece[1], piece[0]]) / 2
    target = rng.uniform(0.05, 0.95, 2) * (canvas[1], canvas[0])
    return np.column_stack([linear, target - linear @ middle])


def _camera(image: Grey, rng: np.random.Generator) -> Grey:
    if rng.random() < 0.25:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.5)), np.uint8)
    value = (
        (image.astype(np.float32) - 127.5) * rng.uniform(0.5, 1.3) + 127.5 + rng.uniform(-40, 40)
    )
    if rng.random() < 0.3:
        value += rng.normal(0, rng.uniform(2, 15), image.shape)
    image = np.clip(value, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))])[
            1
        ]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return image
