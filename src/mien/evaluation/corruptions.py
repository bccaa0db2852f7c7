"""How scores fare when pictures get worse: the same faces blurred, noisy, compressed, grey, tiny, turned or half covered.

Severity is in units of the face, so that a face of 48 px and one of 256 px suffer alike. The unit is the *side* of the face's square:
2.6 times the larger of the distance between the eyes and that from the eyes to the mouth, about as a tight crop frames a face; without
points the whole picture is the face and its shorter side the unit. Every condition is a plain function and gives the same result each time.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.images import read_picture
from mien.errors import DataError, UnknownNameError
from mien.evaluation.judge import judge
from mien.evaluation.measures import headlines
from mien.evaluation.predict import BATCH, Image, Score, five_points, score_pictures
from mien.evaluation.results import Measure
from mien.tasks import Floats, Task

__all__ = [
    "CONDITIONS",
    "Condition",
    "Square",
    "apply",
    "robustness",
    "robustness_markdown",
    "square_of",
]

BLUR: Final = 0.03
"""Standard deviation of the blur, in sides."""
NOISE: Final = 20.0
"""Standard deviation of the noise, in grey levels of 255."""
GRAINS: Final = 48
"""Grains of noise along a side: coarse enough that the smallest pictures in use hold them."""
JPEG_SIDE: Final = 112
"""Side, px, at which a face is compressed."""
TINY: Final = 24
"""Side, px, of a tiny face."""
ROLL: Final = 30.0
"""Roll, degrees."""
_GREY: Final = 127  # what covers half a face
_DEPTH: Final = (
    0.08  # the square's centre lies this far above the mean of the five points, in sides
)


class Square(NamedTuple):
    """The square of a face: its centre (x, y) and side in pixels, and unit vectors (x, y) to its image-right and down to its chin."""

    centre: Floats
    side: float
    right: Floats
    down: Floats


def square_of(image: Image, points: Floats | None) -> Square:
    """The square of the face with those points (5, 2); of the whole picture without, or where the points lie on one spot."""
    height, width = image.shape[:2]
    whole = Square(
        np.array([(width - 1) / 2, (height - 1) / 2]),
        float(min(height, width)),
        np.array([1.0, 0.0]),
        np.array([0.0, 1.0]),
    )
    if points is None:
        return whole
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    side = 2.6 * float(max(np.linalg.norm(points[1] - points[0]), np.linalg.norm(mouth - eyes)))
    # Both directions say how the head is rolled; the longer one says it with less error, and a face turned away keeps one of them.
    right = (points[1] - points[0]) + np.array([mouth[1] - eyes[1], eyes[0] - mouth[0]])
    length = float(np.linalg.norm(right))
    if side < 1 or length < 1e-6:
        return whole
    right = right / length
    down = np.array([-right[1], right[0]])
    return Square(points.mean(axis=0) - _DEPTH * side * down, side, right, down)


def _sized(image: Image | Floats, width: int, height: int) -> NDArray[np.float32]:
    """Resized without aliasing, float32 (height, width, 3)."""
    shrinks = width < image.shape[1]
    return np.asarray(
        cv2.resize(
            image.astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        ),
        np.float32,
    )


def _at(image: Image, factor: float) -> tuple[int, int]:
    """Width and height of a picture scaled by `factor`, at least one pixel."""
    return max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))


def _bytes(values: Floats) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _blur(image: Image, square: Square) -> Image:
    return np.asarray(
        cv2.GaussianBlur(image, (0, 0), BLUR * square.side, borderType=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def _noise(image: Image, square: Square) -> Image:
    width, height = _at(image, GRAINS / square.side)
    rng = np.random.default_rng(zlib.crc32(image.tobytes()))
    grains = rng.normal(0, NOISE, (height, width, 3))
    return _bytes(image + _sized(grains, image.shape[1], image.shape[0]))


def _jpeg30(image: Image, square: Square) -> Image:
    small = _bytes(_sized(image, *_at(image, JPEG_SIDE / square.side)))
    done, code = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    if not done:
        raise DataError(
            f"a picture of {small.shape[1]}x{small.shape[0]} px cannot be written as JPEG; leave it out"
        )
    harm = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR_RGB), np.float32) - small
    return _bytes(image + _sized(harm, image.shape[1], image.shape[0]))


def _grey(image: Image, _: Square) -> Image:
    return np.asarray(
        cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8
    )


def _tiny(image: Image, square: Square) -> Image:
    if square.side <= TINY:
        return image
    small = _bytes(_sized(image, *_at(image, TINY / square.side)))
    return _bytes(_sized(small, image.shape[1], image.shape[0]))


def _covered(image: Image, square: Square, towards: tuple[int, int]) -> Image:
    """Half of the square, on the side of `towards` (right, down), painted grey."""
    axis = towards[0] * square.right + towards[1] * square.down
    across = np.array([-axis[1], axis[0]])
    half = square.side / 2
    corners = [
        square.centre + a * half * axis + b * half * across
        for a, b in ((0, -1), (0, 1), (1, 1), (1, -1))
    ]
    out = image.copy()
    cv2.fillConvexPoly(
        out, np.rint(np.array(corners) * 16).astype(np.int32), (_GREY, _GREY, _GREY), shift=4
    )
    return out


def _turn(square: Square, degrees: float) -> Floats:
    """Affine map (2, 3) that turns a picture clockwise, as seen, about the centre of the face."""
    return np.asarray(
        cv2.getRotationMatrix2D((float(square.centre[0]), float(square.centre[1])), -degrees, 1.0)
    )


def _rolled(image: Image, square: Square, degrees: float) -> Image:
    size = (image.shape[1], image.shape[0])
    return np.asarray(
        cv2.warpAffine(image, _turn(square, degrees), size, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def _cut(image: Image, square: Square) -> Image:
    """The upright square about the face, as a box from a face finder would cut it; the nearest edge goes on beyond the picture."""
    side = max(2, round(square.side))
    shift = np.array(
        [[1, 0, (side - 1) / 2 - square.centre[0]], [0, 1, (side - 1) / 2 - square.centre[1]]]
    )
    return np.asarray(
        cv2.warpAffine(image, shift, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


@dataclass(frozen=True, slots=True)
class Condition:
    """One way in which pictures get worse.

    meaning: what is done, in words for people. change: (picture, square of its face) -> picture of the same size.
    roll: degrees clockwise by which the picture, and its points with it, are turned.
    whole: the points are not known: the upright square about the face is cut out and read without alignment.
    """

    name: str
    meaning: str
    change: Callable[[Image, Square], Image] = lambda image, _: image
    roll: float = 0.0
    whole: bool = False


def _rolls() -> list[Condition]:
    found = []
    for degrees in (-ROLL, ROLL):
        turn = partial(_rolled, degrees=degrees)
        way = "clockwise" if degrees > 0 else "anticlockwise"
        text = f"turned {ROLL:g} degrees {way} about the face"
        found.append(Condition(f"roll{degrees:+g}", f"{text}, points turned along", turn, degrees))
        found.append(
            Condition(
                f"roll{degrees:+g} whole",
                f"{text}, read as a square without points",
                turn,
                degrees,
                whole=True,
            )
        )
    return found


def _halves() -> list[Condition]:
    ways = {"left": (-1, 0), "right": (1, 0), "upper": (0, -1), "lower": (0, 1)}
    return [
        Condition(
            f"no {name} half",
            f"the {name} half of the face, as seen, painted grey",
            partial(_covered, towards=way),
        )
        for name, way in ways.items()
    ]


CONDITIONS: Final = MappingProxyType({
    condition.name: condition
    for condition in (
        Condition("clean", "the picture as it is"),
        Condition("clean whole", "a square about the face, read without points: what the other whole conditions compare with", whole=True),
        Condition("blur", f"Gaussian blur, standard deviation {BLUR:g} of the face's side", _blur),
        Condition("noise", f"Gaussian noise, standard deviation {NOISE:g} of 255, {GRAINS} grains along the face's side", _noise),
        Condition("jpeg30", f"the artefacts of JPEG at quality 30 on a face of {JPEG_SIDE} px", _jpeg30),
        Condition("grey", "luma in place of colour", _grey),
        Condition("tiny", f"the face shrunk to {TINY} px and enlarged again", _tiny),
        *_rolls(),
        *_halves(),
    )
})  # fmt: skip
"""Every condition by name; ``clean`` first."""


def apply(
    condition: Condition, image: Image, points: Floats | None = None
) -> tuple[Image, Floats | None]:
    """A picture, RGB uint8 (H, W, 3), under a condition, and its points (5, 2) in pixels, or None where they are not known.

    Raises ValueError for another kind of picture. The picture given is never changed.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"picture must be RGB uint8 (H, W, 3), got {image.dtype} {image.shape}")
    square = square_of(image, points)
    changed = condition.change(np.ascontiguousarray(image), square)
    if condition.whole:
        return (_cut(changed, square) if points is not None else changed), None
    if condition.roll and points is not None:
        points = points @ (turn := _turn(square, condition.roll))[:, :2].T + turn[:, 2]
    return changed, points


def robustness(
    score: Score,
    table: pd.DataFrame,
    tasks: Sequence[Task],
    conditions: Sequence[str] = tuple(CONDITIONS),
    *,
    rounds: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Measure]]:
    """Headline measures (``expr.accuracy``, …) with 95 % intervals under every condition.

    score: takes pictures and all their points (N, 5, 2) or None, gives scores by family; `Model.score` is one. Each picture is read
    once, and a batch is held at a time. progress: called with faces done and all. Raises DataError for a picture that cannot be read or a
    table without labels, UnknownNameError for a condition.
    """
    if strange := [name for name in conditions if name not in CONDITIONS]:
        raise UnknownNameError("condition", strange[0], CONDITIONS)
    parts: dict[str, list[dict[str, Floats]]] = {name: [] for name in conditions}
    for start in range(0, len(table), BATCH):
        rows = table.iloc[start : start + BATCH]
        pictures = [read_picture(cell) for cell in rows["image"]]
        points = (
            [five_points(cell, start + i) for i, cell in enumerate(rows["points"])]
            if "points" in rows
            else [None] * len(rows)
        )
        for name in conditions:
            made = [
                apply(CONDITIONS[name], image, five)
                for image, five in zip(pictures, points, strict=True)
            ]
            parts[name].append(
                score_pictures(score, [image for image, _ in made], [five for _, five in made])
            )
        if progress:
            progress(min(start + BATCH, len(table)), len(table))
    found = {}
    for name, batches in parts.items():
        scores = {
            family: np.concatenate([batch[family] for batch in batches])
            for family in (batches[0] if batches else {})
        }
        results = judge(tasks, scores, table, rounds=rounds).tasks
        found[name] = {
            f"{r.family}.{m}": r.measures[m] for r in results for m in headlines(r.kind, r.graded)
        }
    return found


def robustness_markdown(found: Mapping[str, Mapping[str, Measure]]) -> str:
    """A table of conditions by measures; in brackets the change from clean, and for whole conditions from clean whole."""
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    lines = ["| condition | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for condition, row in found.items():
        base = found.get("clean whole" if CONDITIONS[condition].whole else "clean", {})
        cells = [
            _cell(row.get(name), base.get(name), condition.startswith("clean")) for name in names
        ]
        lines.append(f"| {condition} | " + " | ".join(cells) + " |")
    said = [f"- {name}: {CONDITIONS[name].meaning}" for name in found]
    return "\n".join([*lines, "", *said, ""])


def _cell(one: Measure | None, base: Measure | None, is_base: bool) -> str:
    if one is None or np.isnan(one.value):
        return "–"
    if is_base or base is None or np.isnan(base.value):
        return f"{one.value:.3f}"
    return f"{one.value:.3f} ({one.value - base.value:+.3f})"
