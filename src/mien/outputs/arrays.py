"""Readings turned into arrays, in the order of the table's columns.

The column `person` is known only once a film has been read, and is filled in last.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mien.errors import LabelMismatchError
from mien.faces.landmarks import COUNT, measure
from mien.outputs.columns import (
    ARROW,
    MEASURED,
    UNCERTAIN,
    Column,
    landmark_columns,
    point_columns,
)
from mien.records import Reading, Status
from mien.tasks import QUALITY_FAMILIES, Floats, Task

__all__ = ["HeldRows", "PeopleBySource", "batch_of", "fill_people"]

PeopleBySource = Mapping[str, Mapping[int, int]]
"""By the name of a source, person by face."""


def batch_of(readings: Sequence[Reading], columns: Sequence[Column]) -> pa.RecordBatch:
    """Turn readings into one Arrow record batch.

    Args:
        readings: The readings, which become a row each.
        columns: The columns of the table.

    Returns:
        The rows; what is missing or not finite is null.

    Raises:
        LabelMismatchError: A reading holds more or fewer scores than its task has names.
    """
    arrays = _plain_arrays(readings)
    names = {column.name for column in columns}
    if "person" in names:
        # Known only at the end of a film, see `fill_people`.
        arrays["person"] = pa.nulls(len(readings), pa.int64())
    if "face_size" in names:
        arrays |= _measured_arrays(readings)
    if "nose_x" in names:
        arrays |= _point_arrays(readings)
    if "landmark_0_x" in names:
        arrays |= _landmark_arrays(readings)
    # Each task once for its smoothed, its raw and its corrected columns, in table order.
    groups = dict.fromkeys((column.task, column.raw, column.corrected) for column in columns)
    for task, raw, corrected in groups:
        if task is None:
            continue
        if task.family in QUALITY_FAMILIES:
            arrays |= _judged_arrays(readings, task)
        elif corrected:
            scores = _scores([reading.corrected for reading in readings], task)
            for name, values in zip(task.columns, scores.T.copy(), strict=True):
                arrays[f"{name}_corrected"] = _floats(values)
        else:
            arrays |= _score_arrays(readings, columns, task, raw)
    fields = [pa.field(column.name, ARROW[column.dtype]) for column in columns]
    ordered = [arrays[column.name] for column in columns]
    return pa.record_batch(ordered, schema=pa.schema(fields))


def _plain_arrays(readings: Sequence[Reading]) -> dict[str, pa.Array]:
    """The columns that every table has."""
    sources = [_utf8(reading.source) for reading in readings]
    frames = [reading.frame for reading in readings]
    times = [reading.time_s for reading in readings]
    statuses = [reading.status.value for reading in readings]
    arrays = {
        "source": pa.array(sources, pa.string()),
        "frame": pa.array(frames, pa.int64()),
        "time_s": pa.array(times, pa.float64()),
        "status": pa.array(statuses, pa.string()),
    }
    return arrays | _face_arrays(readings)


def _face_arrays(readings: Sequence[Reading]) -> dict[str, pa.Array]:
    """Track, box and confidence; null where a reading has no face."""
    boxes = np.full((len(readings), 4), np.nan, np.float32)
    confidence = np.full(len(readings), np.nan, np.float32)
    tracks: list[int | None] = [None] * len(readings)
    for row, reading in enumerate(readings):
        face = reading.face
        if face is None:
            continue
        boxes[row] = face.box
        confidence[row] = face.confidence
        tracks[row] = face.track
    # Copied, because Arrow takes columns only where their values lie side by side.
    x, y, width, height = boxes.T.copy()
    return {
        "face": pa.array(tracks, pa.int64()),
        "box_x": _floats(x),
        "box_y": _floats(y),
        "box_w": _floats(width),
        "box_h": _floats(height),
        "confidence": _floats(confidence),
    }


def _measured_arrays(readings: Sequence[Reading]) -> dict[str, pa.Array]:
    """What is measured of each face; null where nothing is."""
    values = np.full((len(readings), 3), np.nan, np.float32)
    for row, reading in enumerate(readings):
        if reading.quality is not None:
            quality = reading.quality
            values[row] = (quality.face_size, quality.sharpness, quality.light)
    names = [column.name for column in MEASURED]
    return dict(zip(names, map(_floats, values.T.copy()), strict=True))


def _point_arrays(readings: Sequence[Reading]) -> dict[str, pa.Array]:
    """The five points of each face; null where a reading has no face."""
    names = [column.name for column in point_columns()]
    values = np.full((len(readings), len(names)), np.nan, np.float32)
    for row, reading in enumerate(readings):
        if reading.face is not None:
            values[row] = reading.face.points.ravel()
    return dict(zip(names, map(_floats, values.T.copy()), strict=True))


def _landmark_arrays(readings: Sequence[Reading]) -> dict[str, pa.Array]:
    """The 68 points of each face and what is measured between them; null where there are none."""
    points = np.full((len(readings), COUNT, 2), np.nan)
    for row, reading in enumerate(readings):
        if reading.landmarks is not None:
            points[row] = reading.landmarks
    values = np.concatenate([measure(points), points.reshape(len(readings), -1)], axis=1)
    names = [column.name for column in landmark_columns()]
    columns = values.T.astype(np.float32)
    return dict(zip(names, map(_floats, columns), strict=True))


def _judged_arrays(readings: Sequence[Reading], task: Task) -> dict[str, pa.Array]:
    """The columns of a task of quality."""
    judged: list[Mapping[str, Floats]] = []
    for reading in readings:
        judged.append({} if reading.quality is None else reading.quality.scores)
    scores = _scores(judged, task)
    arrays = dict(zip(task.columns, map(_floats, scores.T.copy()), strict=True))
    if task.family == "occlusion":
        arrays["occlusion"] = _floats(scores.mean(axis=1))
    return arrays


def _score_arrays(
    readings: Sequence[Reading], columns: Sequence[Column], task: Task, raw: bool
) -> dict[str, pa.Array]:
    """The columns of a task's scores, smoothed or raw."""
    by_family = [reading.raw if raw else reading.scores for reading in readings]
    scores = _scores(by_family, task)
    of_task = []
    for column in columns:
        if column.task is task and column.raw == raw and not column.corrected:
            of_task.append(column)
    names = [column.name for column in of_task if column.dtype != "str"]
    arrays = dict(zip(names, map(_floats, scores.T.copy()), strict=True))
    for column in of_task:
        if column.dtype == "str":
            is_open = _are_open(readings, scores, column.uncertain_below)
            arrays[column.name] = _labels(scores, task.names, is_open)
    return arrays


@lru_cache(maxsize=256)
def _utf8(name: str) -> str:
    """A file name that can be written; on some systems names need not be text."""
    return name.encode("utf-8", "replace").decode()


def _scores(by_family: Sequence[Mapping[str, Floats]], task: Task) -> Floats:
    """Scores (N, K) of a task, NaN where a reading has none."""
    # Frames without a face have no scores at all.
    width = len(task.names)
    missing = np.full(width, np.nan, np.float32)
    rows = [scores.get(task.family, missing) for scores in by_family]
    for row in rows:
        if len(row) != width:
            raise LabelMismatchError(
                f"{task.key} has {width} names, a reading holds {len(row)} scores; "
                "use the tasks of its bundle"
            )
    return np.array(rows, np.float32).reshape(-1, width)


def _floats(values: Floats) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))


def _are_open(
    readings: Sequence[Reading], scores: Floats, below: float | None
) -> NDArray[np.bool_]:
    """Which labels (N,) are left open: of doubtful rows, and where no score (N, K) is high."""
    if below is None:
        return np.zeros(len(scores), bool)
    doubtful = np.array([reading.status is Status.doubtful for reading in readings], bool)
    # Comparisons with NaN are False, so rows without scores stay without a label.
    return np.asarray(doubtful | (scores.max(axis=1) < below))


def _labels(scores: Floats, names: tuple[str, ...], is_open: NDArray[np.bool_]) -> pa.Array:
    """The name of the highest score of each row (N, K); null where one is missing."""
    labels = np.where(is_open, UNCERTAIN, np.array(names, object)[scores.argmax(axis=1)])
    return pa.array(labels, pa.string(), mask=np.isnan(scores).any(axis=1) & ~is_open)


def fill_people(batch: pa.RecordBatch, people: PeopleBySource) -> pa.RecordBatch:
    """Fill in the column `person`.

    Args:
        batch: Rows of a table.
        people: Persons by source and face.

    Returns:
        The rows; they are the same where they have no such column.
    """
    place = batch.schema.get_field_index("person")
    if place < 0:
        return batch
    # By the names that the rows have.
    named = {_utf8(source): persons for source, persons in people.items()}
    rows = zip(batch["source"].to_pylist(), batch["face"].to_pylist(), strict=True)
    persons = [named.get(source, {}).get(face) for source, face in rows]
    arrays = list(batch.columns)
    arrays[place] = pa.array(persons, pa.int64())
    return pa.record_batch(arrays, schema=batch.schema)


class HeldRows:
    """Rows that wait in a temporary file without a name, so that memory does not grow.

    They hold what the table will hold, and no descriptors.

    Args:
        folder: Where the file lies.
        schema: The schema of the rows.

    Raises:
        OSError: The file cannot be made; any method may raise it.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._file = cast(BinaryIO, TemporaryFile(dir=folder))  # noqa: SIM115
        self._writer: Any = pa.ipc.new_stream(self._file, schema)

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows.

        Args:
            batch: The rows.
        """
        self._writer.write_batch(batch)

    def rows(self, people: PeopleBySource) -> Iterator[pa.RecordBatch]:
        """Read all rows; none can be added after that.

        Args:
            people: Persons by source and face.

        Yields:
            The rows, in batches as they were added.
        """
        self._writer.close()
        self._file.seek(0)
        for batch in pa.ipc.open_stream(self._file):
            yield fill_people(batch, people)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
