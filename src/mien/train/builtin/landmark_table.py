"""A table of faces with 68 points: what `mien-landmarks` learns from.

The points are those of another network, which sees each face upright, in several crops and
mirrored, and so more steadily than in one. Crops of training faces move as errors of the detector
move them; what changes light and covers faces is drawn while training. Faces to measure on are
damaged (`mien.data.drawn.damage`), found and cut out as in use. The points move with the faces, and
lie where they lay on the undamaged face.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.bundles.store import FACES, load_detector
from mien.data.drawn.damage import KINDS, Shown, damage, intact
from mien.data.drawn.occluders import REGIONS
from mien.data.images import read_picture
from mien.data.label_table import Split
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.faces.detect import Detector
from mien.faces.landmarks import COUNT, MIRRORED, eye_span
from mien.faces.prepare import crop_matrix, similarity, warp
from mien.files import AtomicFile
from mien.processes import end_with_parent
from mien.records import Face
from mien.tasks import TASKS, Floats
from mien.train.builtin.quality_table import (
    PIXELS,
    followed,
    mirrored,
    nearest_face,
    open_teacher,
    png,
)
from mien.train.inputs.augment import Jitter

__all__ = ["LandmarkTeacher", "make_table"]

Image = NDArray[np.uint8]

# Of each training face: its crops, and how many of them with a wrong aspect ratio.
_CROPS: Final = 6
_SQUEEZED: Final = 1
# Of each other face, beside that as it is: damaged in one way, and in two ways at once.
_ONE_KIND: Final = 3
_TWO_KINDS: Final = 1
# How far crops of training faces move, beyond the error of the points.
_JITTER: Final = Jitter(turn=8.0, grow=0.08, shift=0.03, flip=0.0)
# Mean error of the points that are found, in distances between the eyes, from which another face,
# or the face upside down, was found.
_MISSED: Final = 0.35
# The same of the teacher's eyes and mouth, by the outer corners of the eyes: there it failed.
_FAILED: Final = 0.12
# Rows that one task of a worker makes faces of.
_FACES_AT_ONCE: Final = 200


class _View(NamedTuple):
    """A picture of a face, by which kinds it is damaged, and the map (2, 3) that cuts it out."""

    shown: Shown
    kinds: tuple[str, ...]
    matrix: Floats


class LandmarkTeacher:
    """A network that gives 68 points of grey crops of 64 px, in fractions of the crop.

    Args:
        path: Its ONNX file.
    """

    _SIZE: Final = 64
    # Squares of a face that stands as in `FERPLUS_TEMPLATE`: their sides, and the height of their
    # middles. Chosen out of sides of .8 to 1.45 and heights of .45 to .6 on training portraits,
    # where the points of a face and of its mirror image agree best.
    _SIDES: Final = (0.85, 1.05)
    _HEIGHTS: Final = (0.54, 0.62)
    # Averaged down to a crop that was cut out at this many times its size.
    _FINER: Final = 4

    def __init__(self, path: Path) -> None:
        self._session = open_teacher(path)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image: Image, five: Floats) -> Floats:
        """Find the points of a face.

        Args:
            image: RGB uint8 (H, W, 3).
            five: Its five points (5, 2), px.

        Returns:
            Points (68, 2), px: the mean over its crops.
        """
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        upright = np.vstack([similarity(five, np.array(FERPLUS_TEMPLATE)), [0, 0, 1]])
        answers = []
        for side, height in product(self._SIDES, self._HEIGHTS):
            corner = np.array([0.5, height]) - side / 2
            for points in self._crop_points(grey, upright, side, corner):
                answers.append(points * side + corner)
        back = np.linalg.inv(upright)
        points = np.mean(answers, axis=0)
        return np.asarray(points @ back[:2, :2].T + back[:2, 2])

    def _crop_points(
        self, grey: Image, upright: Floats, side: float, corner: Floats
    ) -> Iterator[Floats]:
        """Points (68, 2) in fractions of a crop, and those by its mirror image."""
        size = self._SIZE * self._FINER
        scale = size / side
        # Pixel centres lie at whole numbers.
        to_crop = np.column_stack([np.eye(2) * scale, -scale * corner - 0.5])
        fine = cv2.warpAffine(
            grey, to_crop @ upright, (size, size), borderMode=cv2.BORDER_REPLICATE
        )
        crop = cv2.resize(fine, (self._SIZE, self._SIZE), interpolation=cv2.INTER_AREA)
        yield self._points(crop)
        turned = self._points(np.ascontiguousarray(crop[:, ::-1]))
        yield turned[list(MIRRORED)] * (-1, 1) + (1, 0)

    def _points(self, crop: NDArray[Any]) -> Floats:
        batch = (crop[None, None] / 256).astype(np.float32)
        [points] = self._session.run(None, {self._input: batch})
        return np.asarray(points, float).reshape(COUNT, 2)


def make_table(
    faces: Path,
    split: Split,
    out: Path,
    *,
    teacher: Path,
    count: int | None = None,
    workers: int = 2,
) -> pd.DataFrame:
    """Make the table, or read it where it was made before.

    Args:
        faces: Parquet file with `image`, `points`, `subject` and `split`.
        split: The split whose faces are taken. Those of ``train`` come mirrored by chance.
        out: The Parquet file.
        teacher: ONNX file of a `LandmarkTeacher`.
        count: Number of faces, evenly spread; None for all.
        workers: Processes.

    Returns:
        Columns `image` (PNG of the crop, `PIXELS`), `row` (of the face in its file), `subject`,
        `split`, `kind` (joined by +), `occlusion_left_eye` …, and in fractions of the crop the
        points as of ``landmarks.ibug68`` and `five`, the given five points. Faces on which the
        teacher fails are left out.
    """
    if out.is_file():
        return pd.read_parquet(out)
    table = pd.read_parquet(faces, columns=["image", "points", "subject", "split"])
    table = table[(table["split"] == split) & table["points"].notna()]
    if count is not None:
        rows = np.linspace(0, len(table) - 1, min(count, len(table))).astype(int)
        table = table.iloc[np.unique(rows)]
    parts = []
    for start in range(0, len(table), _FACES_AT_ONCE):
        parts.append(table.iloc[start : start + _FACES_AT_ONCE])
    make = partial(_make_part, teacher=teacher)
    # Started afresh: a forked process would wait for threads that were not copied.
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        made = pd.concat(pool.map(make, parts), ignore_index=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(out) as temporary:
        made.to_parquet(temporary)
    return made


def _make_part(part: pd.DataFrame, teacher: Path) -> pd.DataFrame:
    """The rows of some faces."""
    # The other process needs the other core.
    cv2.setNumThreads(1)
    detector = load_detector(FACES)
    teach = LandmarkTeacher(teacher)
    rows: list[dict[str, Any]] = []
    for index, row in part.iterrows():
        rng = np.random.default_rng((68, int(str(index))))
        image = read_picture(row["image"])
        five = np.asarray(row["points"], float).reshape(5, 2)
        points = teach(image, five)
        if _teacher_error(points, five) > _FAILED:
            continue
        trains = row["split"] == "train"
        if trains and rng.random() < 0.5:
            points = points[list(MIRRORED)] * (-1, 1) + (image.shape[1] - 1, 0)
            image, five = mirrored(image, five)
        clean = intact(image, five)
        views = _training_views(clean, rng) if trains else _damaged_views(detector, clean, rng)
        about = {"row": index, "subject": row["subject"], "split": row["split"]}
        rows.extend(about | made for made in _rows(views, clean, points))
    return pd.DataFrame(rows)


def _teacher_error(points: Floats, five: Floats) -> float:
    """How far eyes and mouth corners lie from those that are known, by the span of the eyes."""
    eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
    seen = np.stack([*eyes, points[48], points[54]])
    error = np.linalg.norm(seen - five[[0, 1, 3, 4]], axis=1).mean()
    return float(error / max(float(eye_span(points)), 1e-6))


def _rows(views: Iterable[_View], clean: Shown, points: Floats) -> Iterator[dict[str, Any]]:
    """The rows of one face, given where its points lie in the picture as it is."""
    columns = TASKS["landmarks.ibug68"].columns
    for view in views:
        # All damage that moves points is affine, and five points tell which map it was.
        five = np.column_stack([clean.points, np.ones(5)])
        moved = np.linalg.lstsq(five, view.shown.points, rcond=None)[0]
        places = _in_crop(np.column_stack([points, np.ones(COUNT)]) @ moved, view.matrix)
        row: dict[str, Any] = {
            "image": png(warp(view.shown.image, view.matrix, PIXELS)),
            "kind": "+".join(view.kinds),
            "five": _in_crop(view.shown.points, view.matrix).ravel(),
        }
        for name in REGIONS:
            row[f"occlusion_{name}"] = view.shown.covered[name]
        yield row | dict(zip(columns, places.ravel().astype(np.float32), strict=True))


def _training_views(clean: Shown, rng: np.random.Generator) -> Iterator[_View]:
    """A face as errors of its points, and of the picture's aspect ratio, show it."""
    for number in range(_CROPS):
        kinds = ("squeeze",) if number < _SQUEEZED else ()
        shown = damage(clean, kinds, rng)
        matrix = crop_matrix(followed(shown, rng), PIXELS)
        moved = _JITTER.draw(rng, PIXELS.size) @ np.vstack([matrix, [0, 0, 1]])
        yield _View(shown, kinds, moved[:2])


def _damaged_views(detector: Detector, clean: Shown, rng: np.random.Generator) -> Iterator[_View]:
    """A face as it is found in its picture as it is, and damaged."""
    chosen: list[tuple[str, ...]] = [()]
    chosen += [(str(kind),) for kind in rng.choice(list(KINDS), _ONE_KIND, replace=False)]
    for _ in range(_TWO_KINDS):
        chosen.append(tuple(map(str, rng.choice(list(KINDS), 2, replace=False))))
    for kinds in chosen:
        shown = damage(clean, kinds, rng)
        yield _View(shown, kinds, crop_matrix(_found(detector, shown, rng), PIXELS))


def _found(detector: Detector, shown: Shown, rng: np.random.Generator) -> Face:
    """The face as it is found; where it is not, by its true points with an error."""
    unit = max(float(np.hypot(*(shown.points[1] - shown.points[0]))), 4.0)
    face = nearest_face(detector.find(shown.image), shown.points.mean(axis=0), unit)
    if face is None:
        return followed(shown, rng)
    error = np.linalg.norm(face.points - shown.points, axis=1).mean()
    return followed(shown, rng) if error > _MISSED * unit else face


def _in_crop(points: Floats, matrix: Floats) -> Floats:
    """Points (N, 2) of a picture in fractions of the crop that a map (2, 3) cuts out."""
    pixels = points @ matrix[:, :2].T + matrix[:, 2]
    # Pixel centres lie at whole numbers.
    return np.asarray((pixels + 0.5) / PIXELS.size)
