"""How scores fare when pictures get worse: the same faces blurred, noisy, tiny or half covered.

Severity is in units of the face, so that a face of 48 px and one of 256 px suffer alike. The unit
is the *side* of the face's square: 2.6 times the larger of the distance between the eyes and that
from the eyes to the mouth, about as a tight crop frames a face; without points the whole picture is
the face and its shorter side the unit. Every condition gives the same result each time.
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
from mien.progress import ItemProgress
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
_GREY: Final = (127, 127, 127)  # covers half a face
_QUALITY: Final = 30  # of the JPEG
# The square's centre lies this far above the mean of the five points, in sides.
_RAISED: Final = 0.08
# OpenCV draws polygons at sixteenths of a pixel.
_SHIFT: Final = 4


class Square(NamedTuple):
    """The square of a face.

    Attributes:
        centre: (x, y) in pixels.
        side: In pixels.
        right: Unit vector (x, y) to the face's image-right.
        down: Unit vector (x, y) to its chin.
    """

    centre: Floats
    side: float
    right: Floats
    down: Floats


def square_of(image: Image, points: Floats | None) -> Square:
    """The square of a face.

    Args:
        image: RGB uint8 (H, W, 3).
        points: Five points (5, 2) in pixels, or None.

    Returns:
        The square by the points; of the whole picture without them, or where they lie on one spot.
    """
    if points is None:
        return _whole_picture(image)
    eyes = points[:2].mean(axis=0)
    mouth = points[3:].mean(axis=0)
    between_eyes = points[1] - points[0]
    side = 2.6 * float(max(np.linalg.norm(between_eyes), np.linalg.norm(mouth - eyes)))
    # Both directions say how the head is rolled; the longer one says it with less error, and a face
    # turned away keeps one of them.
    right = between_eyes + np.array([mouth[1] - eyes[1], eyes[0] - mouth[0]])
    length = float(np.linalg.norm(right))
    if side < 1 or length < 1e-6:
        return _whole_picture(image)
    right = right / length
    down = np.array([-right[1], right[0]])
    return Square(points.mean(axis=0) - _RAISED * side * down, side, right, down)


def _whole_picture(image: Image) -> Square:
    height, width = image.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    side = float(min(height, width))
    return Square(centre, side, right=np.array([1.0, 0.0]), down=np.array([0.0, 1.0]))


def _resize(image: Image | Floats, width: int, height: int) -> NDArray[np.float32]:
    """Resized without aliasing, float32 (height, width, 3)."""
    shrinks = width < image.shape[1]
    # Only averaging over areas keeps fine texture from turning into false patterns.
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image.astype(np.float32), (width, height), interpolation=method)
    return np.asarray(resized, np.float32)


def _resize_like(image: Image | Floats, model: Image) -> NDArray[np.float32]:
    return _resize(image, model.shape[1], model.shape[0])


def _scaled_size(image: Image, factor: float) -> tuple[int, int]:
    """Width and height of a picture scaled by `factor`, at least one pixel."""
    return max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))


def _to_uint8(values: Floats) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _blur(image: Image, square: Square) -> Image:
    blurred = cv2.GaussianBlur(image, (0, 0), BLUR * square.side, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.uint8)


def _noise(image: Image, square: Square) -> Image:
    # Grains grow with the face, so that a large picture is as hard to read as a small one.
    width, height = _scaled_size(image, GRAINS / square.side)
    # Seeded by the picture: the same picture gets the same noise, others get other noise.
    rng = np.random.default_rng(zlib.crc32(image.tobytes()))
    grains = rng.normal(0, NOISE, (height, width, 3))
    return _to_uint8(image + _resize_like(grains, image))


def _jpeg30(image: Image, square: Square) -> Image:
    """Add the artefacts that JPEG leaves at the size of a small face."""
    # JPEG works on blocks of 8 px: at the picture's own size a large face would hardly suffer.
    small = _to_uint8(_resize(image, *_scaled_size(image, JPEG_SIDE / square.side)))
    done, code = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise DataError(
            f"a picture of {small.shape[1]}x{small.shape[0]} px cannot be written as JPEG; "
            "leave it out"
        )
    artefacts = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR_RGB), np.float32) - small
    return _to_uint8(image + _resize_like(artefacts, image))


def _grey(image: Image, _: Square) -> Image:
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB), np.uint8)


def _tiny(image: Image, square: Square) -> Image:
    # A face that is smaller already would be sharpened, not worsened.
    if square.side <= TINY:
        return image
    small = _to_uint8(_resize(image, *_scaled_size(image, TINY / square.side)))
    return _to_uint8(_resize_like(small, image))


def _covered(image: Image, square: Square, towards: tuple[int, int]) -> Image:
    """Half of the square, on the side of `towards` (right, down), painted grey."""
    # In the face's own directions: half of a rolled face is not half of the picture.
    axis = towards[0] * square.right + towards[1] * square.down
    across = np.array([-axis[1], axis[0]])
    half = square.side / 2
    corners = []
    for out, sideways in ((0, -1), (0, 1), (1, 1), (1, -1)):
        corners.append(square.centre + out * half * axis + sideways * half * across)
    polygon = np.rint(np.array(corners) * 2**_SHIFT).astype(np.int32)
    covered = image.copy()
    cv2.fillConvexPoly(covered, polygon, _GREY, shift=_SHIFT)
    return covered


def _rotation(square: Square, degrees: float) -> Floats:
    """Affine map (2, 3) that turns a picture clockwise, as seen, about the centre of the face."""
    centre = (float(square.centre[0]), float(square.centre[1]))
    return np.asarray(cv2.getRotationMatrix2D(centre, -degrees, 1.0))


def _warp(image: Image, matrix: Floats, width: int, height: int) -> Image:
    """The picture under an affine map; beyond its edges the nearest edge pixels go on."""
    warped = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8)


def _rolled(image: Image, square: Square, degrees: float) -> Image:
    return _warp(image, _rotation(square, degrees), image.shape[1], image.shape[0])


def _cut(image: Image, square: Square) -> Image:
    """The upright square about the face, as a face detector would cut it."""
    side = max(2, round(square.side))
    x, y = (side - 1) / 2 - square.centre
    return _warp(image, np.array([[1, 0, x], [0, 1, y]]), side, side)


def _unchanged(image: Image, _: Square) -> Image:
    return image


@dataclass(frozen=True, slots=True)
class Condition:
    """One way in which pictures get worse.

    Attributes:
        name: Its name.
        meaning: What is done, in words for people.
        change: (picture, square of its face) -> picture of the same size.
        roll: Degrees clockwise by which the picture, and its points with it, are turned.
        whole: The points are not known: the upright square about the face is cut out and read
            without alignment.
    """

    name: str
    meaning: str
    change: Callable[[Image, Square], Image] = _unchanged
    roll: float = 0.0
    whole: bool = False


def _rolls() -> list[Condition]:
    conditions = []
    for degrees in (-ROLL, ROLL):
        turn = partial(_rolled, degrees=degrees)
        direction = "clockwise" if degrees > 0 else "anticlockwise"
        text = f"turned {ROLL:g} degrees {direction} about the face"
        aligned, square = f"{text}, points turned along", f"{text}, read as a square without points"
        conditions.append(Condition(f"roll{degrees:+g}", aligned, turn, degrees))
        conditions.append(Condition(f"roll{degrees:+g} whole", square, turn, degrees, whole=True))
    return conditions


def _halves() -> list[Condition]:
    directions = {"left": (-1, 0), "right": (1, 0), "upper": (0, -1), "lower": (0, 1)}
    conditions = []
    for name, towards in directions.items():
        meaning = f"the {name} half of the face, as seen, painted grey"
        change = partial(_covered, towards=towards)
        conditions.append(Condition(f"no {name} half", meaning, change))
    return conditions


_ALL: Final = (
    Condition("clean", "the picture as it is"),
    Condition(
        "clean whole",
        "a square about the face, read without points: "
        "what the other whole conditions compare with",
        whole=True,
    ),
    Condition("blur", f"Gaussian blur, standard deviation {BLUR:g} of the face's side", _blur),
    Condition(
        "noise",
        f"Gaussian noise, standard deviation {NOISE:g} of 255, {GRAINS} grains along the face's "
        "side",
        _noise,
    ),
    Condition(
        "jpeg30",
        f"the artefacts of JPEG at quality {_QUALITY} on a face of {JPEG_SIDE} px",
        _jpeg30,
    ),
    Condition("grey", "luma in place of colour", _grey),
    Condition("tiny", f"the face shrunk to {TINY} px and enlarged again", _tiny),
    *_rolls(),
    *_halves(),
)
CONDITIONS: Final = MappingProxyType({condition.name: condition for condition in _ALL})
"""Every condition by name; ``clean`` first."""


def apply(
    condition: Condition, image: Image, points: Floats | None = None
) -> tuple[Image, Floats | None]:
    """A picture under a condition.

    Args:
        condition: What is done to it.
        image: RGB uint8 (H, W, 3); never changed.
        points: Five points (5, 2) in pixels, or None.

    Returns:
        The picture and its points (5, 2), or None where they are not known.

    Raises:
        ValueError: For another kind of picture.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"picture must be RGB uint8 (H, W, 3), got {image.dtype} {image.shape}")
    square = square_of(image, points)
    changed = condition.change(np.ascontiguousarray(image), square)
    if condition.whole:
        return (changed if points is None else _cut(changed, square)), None
    # The points turn with the picture, as a detector would find them.
    if condition.roll and points is not None:
        rotation = _rotation(square, condition.roll)
        points = points @ rotation[:, :2].T + rotation[:, 2]
    return changed, points


def robustness(
    score: Score,
    table: pd.DataFrame,
    tasks: Sequence[Task],
    conditions: Sequence[str] = tuple(CONDITIONS),
    *,
    rounds: int = 1000,
    progress: ItemProgress | None = None,
) -> dict[str, dict[str, Measure]]:
    """Headline measures with 95 % intervals under every condition.

    Each picture is read once, and a batch is held at a time.

    Args:
        score: Takes pictures and all their points (N, 5, 2) or None, gives scores by family;
            `Model.score` is one.
        table: A label table.
        tasks: The tasks to judge.
        conditions: Names in `CONDITIONS`.
        rounds: Bootstrap draws.
        progress: Called with the number of faces done and of all.

    Returns:
        By condition, then by measure (``expr.accuracy``, …).

    Raises:
        DataError: For a picture that cannot be read, or a table without labels.
        UnknownNameError: For a condition.
    """
    for name in conditions:
        if name not in CONDITIONS:
            raise UnknownNameError("condition", name, CONDITIONS)
    batches: dict[str, list[dict[str, Floats]]] = {}
    for start in range(0, len(table), BATCH):
        # All conditions of a batch at once: reading pictures costs more than changing them.
        pictures, points = _read_batch(table, start)
        for name in conditions:
            batches.setdefault(name, []).append(
                _score_under(CONDITIONS[name], score, pictures, points)
            )
        if progress:
            progress(min(start + BATCH, len(table)), len(table))
    results = {}
    for name in conditions:
        evaluation = judge(tasks, _joined(batches.get(name, ())), table, rounds=rounds)
        measures = {}
        for result in evaluation.tasks:
            for key in headlines(result.kind, result.graded):
                measures[f"{result.family}.{key}"] = result.measures[key]
        results[name] = measures
    return results


def _read_batch(table: pd.DataFrame, start: int) -> tuple[list[Image], list[Floats | None]]:
    """Pictures and points of the rows from `start` on."""
    rows = table.iloc[start : start + BATCH]
    pictures = [read_picture(cell) for cell in rows["image"]]
    points: list[Floats | None] = [None] * len(rows)
    if "points" in rows:
        points = [five_points(cell, row) for row, cell in enumerate(rows["points"], start)]
    return pictures, points


def _score_under(
    condition: Condition,
    score: Score,
    pictures: Sequence[Image],
    points: Sequence[Floats | None],
) -> dict[str, Floats]:
    """Scores by family of pictures under a condition."""
    changed = []
    changed_points = []
    for image, five in zip(pictures, points, strict=True):
        worse, moved = apply(condition, image, five)
        changed.append(worse)
        changed_points.append(moved)
    return score_pictures(score, changed, changed_points)


def _joined(batches: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Scores by family of all batches."""
    parts: dict[str, list[Floats]] = {}
    for batch in batches:
        for family, scores in batch.items():
            parts.setdefault(family, []).append(scores)
    return {family: np.concatenate(scores) for family, scores in parts.items()}


def robustness_markdown(results: Mapping[str, Mapping[str, Measure]]) -> str:
    """A table of conditions by measures.

    Args:
        results: As from `robustness`.

    Returns:
        Markdown; in brackets the change from clean, and for whole conditions from clean whole.
    """
    names: dict[str, None] = {}
    for measures in results.values():
        names |= dict.fromkeys(measures)
    lines = ["| condition | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for condition, measures in results.items():
        # The two clean rows are what the others are compared with, and show no change.
        is_base = condition.startswith("clean")
        base = results.get("clean whole" if CONDITIONS[condition].whole else "clean", {})
        cells = []
        for name in names:
            cells.append(_cell(measures.get(name), None if is_base else base.get(name)))
        lines.append(f"| {condition} | " + " | ".join(cells) + " |")
    lines.append("")
    for condition in results:
        lines.append(f"- {condition}: {CONDITIONS[condition].meaning}")
    lines.append("")
    return "\n".join(lines)


def _cell(measure: Measure | None, base: Measure | None) -> str:
    """A value, and its change from the base where there is one."""
    if measure is None or np.isnan(measure.value):
        return "–"
    if base is None or np.isnan(base.value):
        return f"{measure.value:.3f}"
    return f"{measure.value:.3f} ({measure.value - base.value:+.3f})"
