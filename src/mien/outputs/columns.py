"""The columns of the output table, and readings turned into arrays in that order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from mien.errors import LabelMismatchError, UnknownNameError
from mien.records import Reading
from mien.tasks import COMPOUND_SCORES, COMPOUNDS, Floats, Task
from mien.temporal.readings import Smoothing
from mien.temporal.widths import width_notes

__all__ = ["ARROW", "Column", "Dtype", "batch_of", "column_notes", "columns"]

Dtype = Literal["str", "bool", "int64", "Int64", "float32", "float64"]
ARROW: Final[dict[Dtype, pa.DataType]] = {
    "str": pa.string(),
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "Int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table: what the data dictionary says, and where its scores come from.

    Attributes:
        name: Its name in the table.
        dtype: Its type in pandas' terms: ``Int64`` may have missing values, and ``str`` stands for
            pandas' default type of text.
        meaning: What its values mean, in a sentence or two.
        unit: Unit of the values, if any.
        low: Lowest possible value; None if there is none, or if values are not numbers.
        high: Highest possible value; None as for `low`.
        task: The task whose scores it holds, or whose highest score it names; None for others.
        raw: Whether it holds scores as they were before smoothing.
        fwhm_s: Width of the smoothing over time, full width at half maximum in s; None where the
            values were not smoothed.
    """

    name: str
    dtype: Dtype
    meaning: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    task: Task | None = None
    raw: bool = False
    fwhm_s: float | None = None


_BOX = "of the face box in the upright frame, in square pixels; may lie beyond the frame."
_PLAIN: Final = (
    Column("source", "str", "The path or name of the input."),
    Column(
        "frame",
        "int64",
        "Number of the frame in its source, from 0; unreadable and skipped frames are counted too.",
        "count",
        0,
    ),
    Column(
        "time_s",
        "float64",
        "Presentation time of the frame by the container's clock; 0 for a picture.",
        "seconds",
    ),
    Column("status", "str", "Why the row looks as it does; see statuses."),
    Column(
        "face",
        "Int64",
        "The same number for the same face through one source; another face gets another.",
    ),
    Column("box_x", "float32", f"Left edge {_BOX}", "pixels"),
    Column("box_y", "float32", f"Top edge {_BOX}", "pixels"),
    Column("box_w", "float32", f"Width {_BOX}", "pixels", 0),
    Column("box_h", "float32", f"Height {_BOX}", "pixels", 0),
    Column("confidence", "float32", "How sure the detector is that this is a face.", "score", 0, 1),
)

_ACTIONS: Final = {
    "AU01": "inner brow raiser",
    "AU02": "outer brow raiser",
    "AU04": "brow lowerer",
    "AU05": "upper lid raiser",
    "AU06": "cheek raiser",
    "AU07": "lid tightener",
    "AU09": "nose wrinkler",
    "AU10": "upper lip raiser",
    "AU12": "lip corner puller",
    "AU14": "dimpler",
    "AU15": "lip corner depressor",
    "AU16": "lower lip depressor",
    "AU17": "chin raiser",
    "AU18": "lip pucker",
    "AU20": "lip stretcher",
    "AU22": "lip funneler",
    "AU23": "lip tightener",
    "AU24": "lip pressor",
    "AU25": "lips part",
    "AU26": "jaw drop",
    "AU28": "lip suck",
    "AU43": "eyes closed",
    "AU45": "blink",
}
_SHARES: Final = (
    "For shares of time take means of the probabilities instead: "
    "rare expressions are seldom the highest."
)
_DIMENSIONS: Final = {
    "valence": (
        "How pleasant the expressed affect is, from -1 (most unpleasant) to 1 (most pleasant)."
    ),
    "arousal": "How active the expressed affect is, from -1 (calm, drowsy) to 1 (excited, tense).",
}


def columns(tasks: Sequence[Task], smoothing: Smoothing | None = None) -> tuple[Column, ...]:
    """The columns of a table with these tasks, in table order.

    Args:
        tasks: The tasks of the readings, in any order.
        smoothing: How the scores were smoothed. The score columns then hold smoothed scores, except
            those that it keeps, and come once more unsmoothed with the suffix ``_raw``.

    Returns:
        The columns; their order does not depend on the order of the tasks.

    Raises:
        LabelMismatchError: Two tasks are of one family.
        UnknownNameError: A family has no columns.

    Examples:
        >>> from mien.tasks import TASKS
        >>> [column.name for column in columns([TASKS["va"]], Smoothing(0.1))][-5:]
        ['confidence', 'valence', 'arousal', 'valence_raw', 'arousal_raw']
    """
    by_family = _by_family(tasks)
    scores: list[Column] = []
    for family, make in _FAMILIES.items():
        if family in by_family:
            scores += make(by_family[family])
    if not smoothing:
        return (*_PLAIN, *scores)
    # Both: smoothing cannot be undone, and some analyses want the scores as they were.
    smooth = [_smoothed(column, smoothing) for column in scores]
    raw = [_unsmoothed(column) for column in scores]
    return (*_PLAIN, *smooth, *raw)


def _by_family(tasks: Sequence[Task]) -> dict[str, Task]:
    by_family: dict[str, Task] = {}
    for task in tasks:
        # A bundle of a later version may have a task that is not known here.
        if task.family not in _FAMILIES:
            raise UnknownNameError("task family", task.family, _FAMILIES)
        by_family[task.family] = task
    if len(by_family) < len(tasks):
        keys = ", ".join(task.key for task in tasks)
        raise LabelMismatchError(f"one task per family fits in a table, got {keys}; leave one out")
    return by_family


def column_notes(columns: Sequence[Column], every_s: float) -> list[str]:
    """What users should know before they use these columns.

    Args:
        columns: The columns of a table.
        every_s: Time between the frames that are read, where the user chose it, s; else 0.

    Returns:
        One line per note: whether smoothing takes away what a column shows, or changes little.
    """
    widths = []
    for column in columns:
        if column.fwhm_s is not None:
            widths.append((column.name, column.fwhm_s))
    return width_notes(widths, every_s)


def _smoothed(column: Column, smoothing: Smoothing) -> Column:
    if column.name in smoothing.keep:
        return replace(column, meaning=f"{column.meaning} Not smoothed.")
    width_s = round(smoothing.fwhm_s, 4)
    how = f"Smoothed over time, {width_s:g} s wide at half maximum."
    return replace(column, meaning=f"{column.meaning} {how}", fwhm_s=width_s)


def _unsmoothed(column: Column) -> Column:
    meaning = f"{column.meaning} Before smoothing."
    return replace(column, name=f"{column.name}_raw", meaning=meaning, raw=True)


def _expression_columns(task: Task) -> list[Column]:
    meaning = f"The expression with the highest probability. {_SHARES}"
    best = Column("expression", "str", meaning, task=task)
    total = f"the {len(task.names)} expressions of a face sum to 1."

    def meaning_of(name: str) -> str:
        return f"Probability of {name}; {total}"

    return [best, *_score_columns(task, "probability", meaning_of)]


def _compound_columns(task: Task) -> list[Column]:
    # Only what mien composes from basic expressions is not a probability.
    if task == COMPOUND_SCORES:
        return _score_columns(task, "score", _composed_meaning)
    total = f"the {len(task.names)} compound expressions of a face sum to 1."

    def meaning_of(name: str) -> str:
        return f"Probability of {name.replace('_', ' ')}; {total}"

    return _score_columns(task, "probability", meaning_of)


def _composed_meaning(name: str) -> str:
    members = " and ".join(COMPOUNDS[name])
    return (
        f"How far the face shows both {members}: the harmonic mean of their probabilities. "
        "Not a probability: at most 0.5."
    )


def _unit_meaning(name: str) -> str:
    number = name.removeprefix("AU").lstrip("0")
    action = f" ({_ACTIONS[name]})" if name in _ACTIONS else ""
    return f"Activation of action unit {number}{action}; not a FACS intensity (A to E)."


def _intensity_meaning(name: str) -> str:
    return f"Intensity of {name.replace('_', ' ')} in a clip, from 0 to 1."


def _hesitance_meaning(_: str) -> str:
    return "Probability that the person is ambivalent or hesitant."


def _score_columns(task: Task, unit: str, meaning_of: Callable[[str], str]) -> list[Column]:
    """One column per score of a task."""
    columns = []
    for column, name in zip(task.columns, task.names, strict=True):
        meaning = meaning_of(name)
        scores = Column(column, "float32", meaning, unit, task.low, task.high, task)
        columns.append(scores)
    return columns


# What makes each family's columns; the order is the table's.
_FAMILIES: Final[dict[str, Callable[[Task], list[Column]]]] = {
    "expr": _expression_columns,
    "va": lambda task: _score_columns(task, "score", _DIMENSIONS.__getitem__),
    "au": lambda task: _score_columns(task, "activation", _unit_meaning),
    "ce": _compound_columns,
    "emi": lambda task: _score_columns(task, "score", _intensity_meaning),
    "ah": lambda task: _score_columns(task, "probability", _hesitance_meaning),
}


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
    # Each task once for its smoothed and once for its raw columns, in table order.
    for task, raw in dict.fromkeys((column.task, column.raw) for column in columns):
        if task is not None:
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


def _score_arrays(
    readings: Sequence[Reading], columns: Sequence[Column], task: Task, raw: bool
) -> dict[str, pa.Array]:
    """The columns of a task's scores, smoothed or raw."""
    by_family = [reading.raw if raw else reading.scores for reading in readings]
    scores = _scores(by_family, task)
    names = []
    for column in columns:
        if column.task is task and column.raw == raw and column.dtype != "str":
            names.append(column.name)
    arrays = dict(zip(names, map(_floats, scores.T.copy()), strict=True))
    if task.family == "expr":
        arrays["expression_raw" if raw else "expression"] = _highest(scores, task.names)
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


def _highest(scores: Floats, names: tuple[str, ...]) -> pa.Array:
    """The name of the highest score of each row (N, K); null where one is missing."""
    best = np.array(names, object)[scores.argmax(axis=1)]
    return pa.array(best, pa.string(), mask=np.isnan(scores).any(axis=1))
