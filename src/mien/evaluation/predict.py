"""A bundle's scores over a label table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.bundles.store import Model
from mien.data.images import read_picture
from mien.errors import DataError, LabelMismatchError
from mien.progress import ItemProgress
from mien.systems.system import System
from mien.tasks import Floats, Task

__all__ = ["BATCH", "Image", "Score", "Scored", "evaluate_bundle", "five_points", "score_pictures"]

Image = NDArray[np.uint8]
Score = Callable[[list[Image], Floats | None], Mapping[str, Floats]]
"""Takes pictures and their points (N, 5, 2), or None; gives scores by family. See `Model.score`."""
BATCH: Final = 64
"""Pictures that are held at a time."""
_NAMED: Final = 20  # unreadable pictures that a note names


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of the faces that could be read.

    Attributes:
        scores: (N, K) by task family.
        table: Rows of the label table, in the order of the scores.
        notes: What a reader must know.
    """

    scores: dict[str, Floats]
    table: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Reading:
    """The pictures of a label table that were read so far, and those that could not be."""

    rows: list[int] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    aligned: int = 0


def evaluate_bundle(
    model: Model | System,
    table: pd.DataFrame,
    tasks: Sequence[Task] | None = None,
    *,
    progress: ItemProgress | None = None,
    skip_unreadable: bool = False,
) -> Scored:
    """Score every face of a label table, a batch of pictures at a time.

    A system reads the rows of a video in the order of their frames, each row without a video or
    a frame number by itself. A face with points is aligned by them, the others are read as whole
    pictures.

    Args:
        model: The bundle, or a system of several networks.
        table: A label table with the column `image`, and `points` where they are known.
        tasks: The label sets of the scores, matched to the bundle's by name; None takes the
            bundle's own. Of a ``one_of`` task the chosen classes' scores are made to sum to 1
            again.
        progress: Called with the number of faces done and of all.
        skip_unreadable: Leave out pictures that cannot be read, and name them in the notes.

    Returns:
        The scores with the rows of the table that they belong to.

    Raises:
        LabelMismatchError: Where the bundle lacks a name.
        DataError: For a picture that cannot be read, an empty table, or one without a readable
            picture.
    """
    # Before any picture is read: a name that the bundle lacks should not cost an hour.
    pairs = [(task, _source_of(task, model)) for task in (tasks or model.tasks)]
    if "image" not in table:
        columns = ", ".join(map(str, table.columns))
        raise DataError(f"the label table has no column image; it has {columns}")
    score = model.signals if isinstance(model, System) else model.score
    reading = _Reading()
    batches: list[dict[str, Floats]] = []
    for start in range(0, len(table), BATCH):
        pictures, points = _read_batch(table, start, reading, skip_unreadable)
        if pictures:
            batches.append(score_pictures(score, pictures, points))
        if progress:
            progress(min(start + BATCH, len(table)), len(table))
    if not reading.rows:
        raise DataError(
            f"none of the {len(table)} pictures of the label table could be read; "
            "check the folder the paths start from"
        )
    notes = _reading_notes(len(table), reading)
    outputs = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    if isinstance(model, System):
        video, frame, single = _videos(table.iloc[reading.rows])
        outputs = model.finish(outputs, video, frame)
        notes += _temporal_notes(model, video, single)
    scores = {}
    for task, source in pairs:
        scores[task.family] = _scores_of(task, source, outputs[source.family])
    return Scored(scores, table.iloc[reading.rows], tuple(notes))


def five_points(cell: Any, row: int) -> Floats | None:
    """The five points of a label table's cell.

    Args:
        cell: A cell of the column `points`.
        row: The cell's row, for the error message.

    Returns:
        (5, 2) in image pixels; None for an empty cell.

    Raises:
        DataError: For anything but 10 finite numbers.
    """
    # Tables read from files hold NaN where the adapter wrote None.
    if cell is None or (np.ndim(cell) == 0 and pd.isna(cell)):
        return None
    points = np.asarray(cell, np.float64)
    if points.size != 10 or not np.isfinite(points).all():
        raise DataError(
            f"row {row} of the label table: points must be 10 finite numbers or None, "
            f"got {points.size}; correct them"
        )
    return points.reshape(5, 2)


def score_pictures(
    score: Score, pictures: Sequence[Image], points: Sequence[Floats | None]
) -> dict[str, Floats]:
    """Score pictures of which some have points and others have none.

    Args:
        score: Scores pictures that all have points, or all have none.
        pictures: RGB uint8 (H, W, 3), N of them.
        points: (5, 2) in image pixels, or None, for every picture.

    Returns:
        Scores (N, K) by task family, in the order of the pictures.
    """
    # A batch is aligned as a whole or not at all, so the two kinds are scored apart.
    scores: dict[str, Floats] = {}
    for with_points in (True, False):
        rows = [i for i, five in enumerate(points) if (five is not None) == with_points]
        if not rows:
            continue
        stacked = np.array([points[i] for i in rows], np.float64) if with_points else None
        for family, values in score([pictures[i] for i in rows], stacked).items():
            if family not in scores:
                scores[family] = np.zeros((len(pictures), values.shape[1]), values.dtype)
            scores[family][rows] = values
    return scores


def _read_batch(
    table: pd.DataFrame, start: int, reading: _Reading, skip_unreadable: bool
) -> tuple[list[Image], list[Floats | None]]:
    """Pictures and points of the readable rows from `start` on, counted in `reading`."""
    rows = table.iloc[start : start + BATCH]
    cells = rows["points"].tolist() if "points" in table else [None] * len(rows)
    pictures: list[Image] = []
    points: list[Floats | None] = []
    # Counted from the table's start, as the reader of a message counts.
    for row, (image, cell) in enumerate(zip(rows["image"].tolist(), cells, strict=True), start):
        try:
            pictures.append(read_picture(image))
        except DataError as error:
            if not skip_unreadable:
                raise DataError(f"row {row} of the label table: {error}") from error
            # Encoded pictures have no name of their own.
            reading.unreadable.append(image if isinstance(image, str) else f"row {row}")
            continue
        points.append(five_points(cell, row))
        reading.rows.append(row)
    reading.aligned += sum(five is not None for five in points)
    return pictures, points


def _reading_notes(rows: int, reading: _Reading) -> list[str]:
    whole = len(reading.rows) - reading.aligned
    notes = [f"{reading.aligned} faces were aligned by five points, {whole} read as whole pictures"]
    # Every name would fill pages when a folder is missing.
    lost = reading.unreadable
    if lost:
        more = f", and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        named = ", ".join(lost[:_NAMED])
        count = f"{len(lost)} of {rows} pictures"
        notes.append(f"{count} could not be read and were left out: {named}{more}")
    return notes


def _videos(
    table: pd.DataFrame,
) -> tuple[NDArray[np.object_], NDArray[np.int64], NDArray[np.bool_]]:
    """The video (N,) and the frame number (N,) of each row, and which rows have none of both."""
    # Numbers stand for rows without a video: no name is one.
    videos = np.arange(len(table)).astype(object)
    if "video" not in table:
        return videos, np.zeros(len(table), np.int64), np.ones(len(table), np.bool_)
    frame = pd.to_numeric(table["frame"]).to_numpy(np.float64)
    single = table["video"].isna().to_numpy() | np.isnan(frame)
    videos[~single] = table["video"].to_numpy(object)[~single]
    return videos, np.where(single, 0, frame).astype(np.int64), single


def _temporal_notes(
    system: System, video: NDArray[np.object_], single: NDArray[np.bool_]
) -> list[str]:
    """What the steps of a system that look at more than one frame have read."""
    steps = ", ".join(system.temporal_steps)
    if not steps:
        return []
    notes = []
    count = len(set(video[~single]))
    if count:
        notes.append(
            f"{system.card.name} read {np.sum(~single)} faces of {count} recordings in the order "
            f"of their frames ({steps})"
        )
    if single.any():
        notes.append(
            f"{single.sum()} faces are of no recording: {system.card.name} read each by itself, "
            f"without what its steps over time ({steps}) make of neighbouring frames"
        )
    return notes


def _source_of(task: Task, model: Model | System) -> Task:
    """The bundle's task that holds the names of `task`."""
    for source in model.tasks:
        if source.family == task.family:
            task.column_index(source.names)  # raises where a name is missing
            return source
    predicted = ", ".join(source.key for source in model.tasks)
    raise LabelMismatchError(
        f"{model.card.name} does not predict {task.family}; it predicts {predicted}"
    )


def _scores_of(task: Task, source: Task, scores: Floats) -> Floats:
    """The columns of `task` out of scores (N, K) of `source`."""
    if task == source:
        return scores
    chosen = scores[:, task.column_index(source.names)]
    if task.kind != "one_of":
        return chosen
    # Probabilities of fewer classes; the floor keeps a row that has none of them at 0.
    totals = np.maximum(chosen.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(chosen / totals)
