"""How well a face finder finds what its teacher finds.

A face counts as found when the boxes share at least half (IoU). Recall, precision and point error are against the faces the
teacher finds at score >= 0.6; point error is the mean distance of the five points in units of the teacher's eye distance.
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
from mien.faces.detect import Detector, anchor_points, decode
from mien.faces.track import overlap
from mien.records import Face
from mien.tasks import Floats
from mien.train.builtin.composites import compose, stock
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


@dataclass(frozen=True, slots=True)
class Picture:
    """What one picture came to. truth: (M, 15) the teacher's faces; found: the finder's; pairs: matching indices (truth, found)."""

    truth: Floats
    found: list[Face]
    pairs: list[tuple[int, int]]

    @property
    def errors(self) -> list[float]:
        """Point error of each matched face, in eye distances."""
        points = [(self.truth[i, 4:14].reshape(5, 2), self.found[k].points) for i, k in self.pairs]
        return [
            float(np.linalg.norm(p - t, axis=1).mean() / max(np.linalg.norm(t[0] - t[1]), 1e-6))
            for t, p in points
        ]


def match(truth: Floats, found: list[Face]) -> Picture:
    """Pair each of the teacher's faces, surest first, with the found face that shares most of its box, if at least half."""
    pairs: list[tuple[int, int]] = []
    for i in np.argsort(-truth[:, 14]):
        free = [k for k in range(len(found)) if k not in {taken for _, taken in pairs}]
        box = (truth[i, 0], truth[i, 1], truth[i, 2], truth[i, 3])
        best = max(free, key=lambda k: overlap(box, found[k].box), default=None)
        if best is not None and overlap(box, found[best].box) >= 0.5:
            pairs.append((int(i), best))
    return Picture(truth, found, pairs)


def held_out(folder: Path, detector: Detector) -> Iterator[Picture]:
    """The portraits of the ``val`` split, in colour where they have it, with the teacher's stored faces."""
    table = read_table(folder / "portraits.parquet", ["split", "image", "faces"])
    for data, faces in table.loc[table["split"] == "val", ["image", "faces"]].itertuples(
        index=False
    ):
        image = np.asarray(
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8
        )
        truth = np.array([list(face) for face in faces if face[14] >= SURE], float).reshape(-1, 15)
        yield match(truth, detector.find(image))


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
    """Composites (640, 640) of a split's portraits with faces of 20 to 400 px, several a picture; `tidy` as in `compose`."""
    made_of, rng, corners = (
        stock(folder, split),
        np.random.default_rng(seed),
        anchor_points(640, 640),
    )
    for _ in range(count):
        luma = compose(made_of, 640, (20.0, 400.0), rng, tidy)
        rows = decode(teacher(luma[None])[0], corners, SURE)
        keep = (
            cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), SURE, 0.3)
            if len(rows)
            else ()
        )
        image: NDArray[np.uint8] = np.repeat(luma[..., None], 3, axis=2)
        yield match(rows[np.asarray(keep, int).ravel()], detector.find(image))


def agreement(pictures: Iterable[Picture]) -> tuple[float, float, float]:
    """Recall, precision and mean point error over all faces of the pictures."""
    seen = list(pictures)
    pairs = sum(len(one.pairs) for one in seen)
    truth, found = sum(len(one.truth) for one in seen), sum(len(one.found) for one in seen)
    errors = [error for one in seen for error in one.errors]
    return (
        pairs / max(truth, 1),
        pairs / max(found, 1),
        float(np.mean(errors)) if errors else float("nan"),
    )


def agreement_scores(data: str, pictures: list[Picture]) -> list[Score]:
    """Recall, precision and, where any face was found, point error, with 95 % intervals by bootstrap over the pictures."""
    names = ("recall", "precision", "mean point error, in eye distances")

    def part(k: int) -> Callable[[ArrayLike], float]:
        return lambda rows: agreement(pictures[i] for i in np.asarray(rows, int))[k]

    rows = np.arange(len(pictures))
    return [
        score
        for k, name in enumerate(names)
        for score in score_with_interval(name, part(k), rows, data=data, rounds=200)
    ]


def threshold(pictures: Iterable[Picture]) -> float:
    """The confidence at which the lower of recall and precision is highest; `pictures` found with a low threshold."""
    seen = list(pictures)

    def lower(least: float) -> float:
        recall, precision, _ = agreement(
            match(one.truth, [face for face in one.found if face.confidence >= least])
            for one in seen
        )
        return min(recall, precision)

    return round(float(max(np.arange(0.3, 0.8, 0.01), key=lower)), 2)


def recall_by_width(pictures: Iterable[Picture]) -> dict[str, tuple[float, int]]:
    """Recall and number of faces by the width of the teacher's box, px."""
    sizes = [
        (one.truth[i, 2], i in dict(one.pairs)) for one in pictures for i in range(len(one.truth))
    ]
    edges = (0, 20, 30, 50, 100, 200, 400, 10_000)
    bins = {
        f"{low}-{high}": [hit for width, hit in sizes if low <= width < high]
        for low, high in pairwise(edges)
    }
    return {
        name: (round(float(np.mean(hits)), 4), len(hits)) for name, hits in bins.items() if hits
    }
