"""A bundle's scores over a label table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.bundles.store import Model
from mien.data.images import read_picture
from mien.errors import DataError, LabelMismatchError
from mien.tasks import Floats, Task

__all__ = ["BATCH", "Image", "Score", "Scored", "evaluate_bundle", "five_points", "score_pictures"]

Image = NDArray[np.uint8]
Score = Callable[[list[Image], Floats | None], Mapping[str, Floats]]
"""Takes pictures and all their points (N, 5, 2), or None; gives scores by family. `Model.score` is one."""
BATCH: Final = 64
"""Pictures that are held at a time."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores by family of the faces that could be read, their rows of the label table, and what a reader must know."""

    scores: dict[str, Floats]
    table: pd.DataFrame
    notes: tuple[str, ...]


def evaluate_bundle(
    model: Model,
    table: pd.DataFrame,
    tasks: Sequence[Task] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    skip_unreadable: bool = False,
) -> Scored:
    """Scores of a bundle over a label table, a batch of pictures at a time.

    A face with points is aligned by them, the others are read whole. tasks: the label sets wanted, matched to the bundle's by name (the
    bundle's own); of a ``one_of`` task the chosen classes' scores are made to sum to 1 again. progress: called with faces done and all.
    A picture that cannot be read raises DataError naming it; with `skip_unreadable` it is left out, counted and named in the notes.
    Raises LabelMismatchError where the bundle lacks a name, DataError for an empty table or one without a readable picture.
    """
    wanted = [(task, _source_of(task, model)) for task in (tasks or model.tasks)]
    if "image" not in table:
        raise DataError(
            f"the label table has no column image; it has {', '.join(map(str, table.columns))}"
        )
    images = table["image"].tolist()
    cells = table["points"].tolist() if "points" in table else [None] * len(images)
    kept: list[int] = []
    lost: list[str] = []
    aligned = 0
    batches: list[dict[str, Floats]] = []
    for start in range(0, len(images), BATCH):
        pictures, points = [], []
        for i in range(start, min(start + BATCH, len(images))):
            try:
                pictures.append(read_picture(images[i]))
            except DataError as error:
                if not skip_unreadable:
                    raise DataError(f"row {i} of the label table: {error}") from error
                lost.append(images[i] if isinstance(images[i], str) else f"row {i}")
                continue
            points.append(five_points(cells[i], i))
            kept.append(i)
        if pictures:
            batches.append(score_pictures(model.score, pictures, points))
        aligned += sum(five is not None for five in points)
        if progress:
            progress(min(start + BATCH, len(images)), len(images))
    if not kept:
        raise DataError(
            f"none of the {len(table)} pictures of the label table could be read; check the folder the paths start from"
        )
    scores = {
        task.family: _renamed(task, own, np.concatenate([one[own.family] for one in batches]))
        for task, own in wanted
    }
    return Scored(
        scores, table.iloc[kept], tuple(_reading_notes(len(table), len(kept), aligned, lost))
    )


def _reading_notes(rows: int, kept: int, aligned: int, lost: Sequence[str]) -> list[str]:
    notes = [
        f"{aligned} faces were aligned by five points, {kept - aligned} read as whole pictures"
    ]
    if lost:
        more = f", and {len(lost) - 20} more" if len(lost) > 20 else ""
        notes.append(
            f"{len(lost)} of {rows} pictures could not be read and were left out: {', '.join(lost[:20])}{more}"
        )
    return notes


def _source_of(task: Task, model: Model) -> Task:
    """The bundle's task that holds the names of `task`."""
    own = next((one for one in model.tasks if one.family == task.family), None)
    if own is None:
        raise LabelMismatchError(
            f"{model.card.name} does not predict {task.family}; it predicts {', '.join(t.key for t in model.tasks)}"
        )
    task.column_index(own.names)
    return own


def _renamed(task: Task, own: Task, scores: Floats) -> Floats:
    if task == own:
        return scores
    chosen = scores[:, task.column_index(own.names)]
    return (
        chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1e-12)
        if task.kind == "one_of"
        else chosen
    )


def five_points(cell: Any, row: int) -> Floats | None:
    """A points cell of a label table as (5, 2) in image pixels; None where it is empty.

    Raises DataError for anything but 10 finite numbers.
    """
    if cell is None or (np.ndim(cell) == 0 and pd.isna(cell)):
        return None
    points = np.asarray(cell, np.float64)
    if points.size != 10 or not np.isfinite(points).all():
        raise DataError(
            f"row {row} of the label table: points must be 10 finite numbers or None, got {points.size}; mend the adapter"
        )
    return points.reshape(5, 2)


def score_pictures(
    score: Score, pictures: Sequence[Image], points: Sequence[Floats | None]
) -> dict[str, Floats]:
    """Scores by family of pictures of which some have points (5, 2) and others have none, in their order."""
    found: dict[str, Floats] = {}
    for has in (True, False):
        rows = [i for i, five in enumerate(points) if (five is not None) == has]
        if rows:
            some = score(
                [pictures[i] for i in rows],
                np.array([points[i] for i in rows], np.float64) if has else None,
            )
            for family, values in some.items():
                found.setdefault(family, np.zeros((len(pictures), values.shape[1]), values.dtype))[
                    rows
                ] = values
    return found
