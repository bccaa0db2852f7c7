"""How well a face detector agrees with its teacher.

A face of the teacher, with a score of at least 0.6, is matched where the boxes have an IoU of at
least 0.5. Recall and precision count matched faces. The point error of a matched face is the mean
distance of its five points from the teacher's, in units of the teacher's distance between the eyes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.bundles.card_parts import Score
from mien.data.sets.ferplus import read_table
from mien.faces.detect import Detector, anchor_points, decode, overlap
from mien.records import Face
from mien.tasks import Floats
from mien.train.builtin.detection.composites import compose, stock
from mien.train.builtin.teachers import Teacher
from mien.train.bundle.pack import score_with_interval

__all__ = [
    "SURE",
    "Picture",
    "agreement",
    "agreement_scores",
    "crowds",
    "held_out",
    "match",
    "recall_by_width",
    "threshold",
]

SURE: Final = 0.6
"""The teacher's score from which a face must be found."""

# Columns of the teacher's rows: x, y, w, h, five points (x, y), score.
_COLUMNS: Final = 15
_WIDTH: Final = 2
_POINTS: Final = slice(4, 14)
_SCORE: Final = 14

# IoU from which boxes are of the same face, and above which the teacher's own boxes are.
_MATCHED: Final = 0.5
_DUPLICATE: Final = 0.3

# Side of a composite, and its smallest and largest width of a face, px.
_SIDE: Final = 640
_SIZES: Final = (20.0, 400.0)

# Ends of the intervals of widths that recall is given for, px.
_WIDTH_EDGES: Final = (0, 20, 30, 50, 100, 200, 400, 10_000)

# Smallest distance between eyes that a point error is divided by, px.
_SMALLEST_DISTANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Picture:
    """The faces of one picture, as a teacher and a detector find them.

    Attributes:
        truth: The teacher's faces (M, 15): x, y, w, h, five points (x, y), score; px.
        detections: The detector's faces.
        pairs: Indices of matched faces: in `truth`, in `detections`.
    """

    truth: Floats
    detections: list[Face]
    pairs: list[tuple[int, int]]

    @property
    def errors(self) -> list[float]:
        """Point error of each matched face, in units of the distance between the eyes."""
        errors = []
        for row, index in self.pairs:
            target = self.truth[row, _POINTS].reshape(5, 2)
            distances = np.linalg.norm(self.detections[index].points - target, axis=1)
            eye_distance = np.linalg.norm(target[0] - target[1])
            errors.append(float(distances.mean() / max(eye_distance, _SMALLEST_DISTANCE)))
        return errors


def match(truth: Floats, detections: list[Face]) -> Picture:
    """Match the teacher's faces, the surest first, with detections.

    Args:
        truth: The teacher's faces (M, 15).
        detections: The detector's faces.

    Returns:
        Both, with the pairs; a face is matched with the free detection of the largest IoU.
    """
    pairs: list[tuple[int, int]] = []
    free = list(range(len(detections)))
    # A detection is matched once: a face that is found twice costs precision.
    for row in np.argsort(-truth[:, _SCORE]):
        x, y, width, height = truth[row, :4]
        overlaps = [overlap((x, y, width, height), detections[index].box) for index in free]
        if overlaps and max(overlaps) >= _MATCHED:
            best = overlaps.index(max(overlaps))
            pairs.append((int(row), free.pop(best)))
    return Picture(truth, detections, pairs)


def held_out(folder: Path, detector: Detector) -> Iterator[Picture]:
    """Detect faces in the portraits of the validation split, in colour where they have it.

    Args:
        folder: Folder with ``portraits.parquet``, which has the teacher's faces too.
        detector: The detector.

    Yields:
        The faces of each portrait.
    """
    table = read_table(folder / "portraits.parquet", ["split", "image", "faces"])
    validation = table[table["split"] == "val"]
    for encoded, faces in zip(validation["image"], validation["faces"], strict=True):
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        sure = [list(face) for face in faces if face[_SCORE] >= SURE]
        truth = np.array(sure, float).reshape(-1, _COLUMNS)
        yield match(truth, detector.find(np.asarray(image, np.uint8)))


def crowds(
    folder: Path,
    split: str,
    teacher: Teacher,
    detector: Detector,
    count: int,
    *,
    tidy: bool = True,
    seed: int = 7,
) -> Iterator[Picture]:
    """Detect faces of 20 to 400 px in composites (640, 640) of portraits.

    Args:
        folder: Folder with ``portraits.parquet``.
        split: Split whose portraits are taken.
        teacher: Finds the faces that should be found.
        detector: The detector.
        count: Number of composites.
        tidy: As in `mien.train.builtin.detection.composites.compose`.
        seed: Seed of the composites.

    Yields:
        The faces of each composite.
    """
    material = stock(folder, split)
    rng = np.random.default_rng(seed)
    anchors = anchor_points(_SIDE, _SIDE)
    for _ in range(count):
        luma = compose(material, _SIDE, _SIZES, rng, tidy)
        rows = decode(teacher(luma[None])[0], anchors, SURE)
        image: NDArray[np.uint8] = np.repeat(luma[..., None], 3, axis=2)
        yield match(_without_duplicates(rows), detector.find(image))


def _without_duplicates(rows: Floats) -> Floats:
    """The teacher's faces (M, 15), of boxes that overlap only the surest."""
    # OpenCV refuses an empty list of boxes.
    if not len(rows):
        return rows
    boxes = rows[:, :4].tolist()
    scores = rows[:, _SCORE].tolist()
    kept = cv2.dnn.NMSBoxes(boxes, scores, SURE, _DUPLICATE)
    surest: Floats = rows[np.asarray(kept, int).ravel()]
    return surest


def agreement(pictures: Iterable[Picture]) -> tuple[float, float, float]:
    """Score a detector against its teacher over all faces of some pictures.

    Args:
        pictures: The pictures.

    Returns:
        Recall and precision, 0 where there is no face to divide by; the mean point error, NaN where
        no face is matched.
    """
    pairs = 0
    expected = 0
    detected = 0
    errors = []
    for picture in pictures:
        pairs += len(picture.pairs)
        expected += len(picture.truth)
        detected += len(picture.detections)
        errors += picture.errors
    mean_error = float(np.mean(errors)) if errors else float("nan")
    return pairs / max(expected, 1), pairs / max(detected, 1), mean_error


def agreement_scores(data: str, pictures: list[Picture]) -> list[Score]:
    """Score a detector for its card, with 95 % intervals by bootstrap over the pictures.

    Args:
        data: What the card says of the pictures.
        pictures: The pictures.

    Returns:
        Recall, precision and the mean point error, where they are defined.
    """
    # The bootstrap draws rows of arrays, so the metric is a function of numbers of pictures.
    names = ("recall", "precision", "mean point error, in eye distances")
    rows = np.arange(len(pictures))
    scores = []
    for number, name in enumerate(names):
        metric = _part_of_agreement(pictures, number)
        scores += score_with_interval(name, metric, rows, data=data, rounds=200)
    return scores


def _part_of_agreement(pictures: list[Picture], number: int) -> Callable[[ArrayLike], float]:
    """One of the numbers of `agreement` as a function of the rows of pictures."""

    def part(rows: ArrayLike) -> float:
        return agreement(pictures[row] for row in np.asarray(rows, int))[number]

    return part


def threshold(pictures: Iterable[Picture]) -> float:
    """Find the confidence at which the lower of recall and precision is highest.

    Args:
        pictures: Pictures with the detections of a low threshold.

    Returns:
        The confidence, in hundredths from 0.3 to 0.8.
    """
    # Read once and matched anew at every threshold.
    candidates = list(pictures)

    def lower(least: float) -> float:
        recall, precision, _ = agreement(_above(picture, least) for picture in candidates)
        return min(recall, precision)

    return round(float(max(np.arange(0.3, 0.8, 0.01), key=lower)), 2)


def _above(picture: Picture, least: float) -> Picture:
    """The picture with the detections of at least some confidence."""
    detections = [face for face in picture.detections if face.confidence >= least]
    return match(picture.truth, detections)


def recall_by_width(pictures: Iterable[Picture]) -> dict[str, tuple[float, int]]:
    """Compute recall by the width of a face.

    Args:
        pictures: The pictures.

    Returns:
        Recall, and the number of the teacher's faces, by interval of the width of the teacher's
        box, such as ``20-30``, px; intervals without faces are left out.
    """
    widths: list[float] = []
    is_found: list[bool] = []
    for picture in pictures:
        matched = dict(picture.pairs)
        for row, face in enumerate(picture.truth):
            widths.append(face[_WIDTH])
            is_found.append(row in matched)
    intervals = np.digitize(widths, _WIDTH_EDGES)
    recalls = {}
    for number, (low, high) in enumerate(pairwise(_WIDTH_EDGES), 1):
        hits = np.asarray(is_found, bool)[intervals == number]
        if len(hits):
            recalls[f"{low}-{high}"] = (round(float(hits.mean()), 4), len(hits))
    return recalls
