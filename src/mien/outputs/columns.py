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

Dtype = Literal["str", "int64", "Int64", "float32", "float64"]
ARROW: Final[dict[Dtype, pa.DataType]] = {
    "str": pa.string(),
    "int64": pa.int64(),
    "Int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table: what the data dictionary says, and where its scores come from.

    dtype: pandas' own name for it; capital ``Int64`` may be missing, and ``str`` stands for pandas' default type of text.
    low, high: the range of the values; None where open or not a number.
    task: the task whose scores it holds, or whose highest score it names; None for columns without scores.
    raw: the scores before smoothing.
    fwhm_s: how wide, in seconds at half maximum, the values were smoothed over time; None where they were not.
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
_SHARES: Final = "For shares of time take means of the probabilities instead: rare expressions are seldom the highest."
_DIMENSIONS: Final = {
    "valence": "How pleasant the expressed affect is, from -1 (most unpleasant) to 1 (most pleasant).",
    "arousal": "How active the expressed affect is, from -1 (calm, drowsy) to 1 (excited, tense).",
}


def columns(tasks: Sequence[Task], smoothing: Smoothing | None = None) -> tuple[Column, ...]:
    """The columns of a table with these tasks, in table order, whatever the order of the tasks.

    smoothing: the score columns hold scores smoothed so, but for those it keeps, and follow once more unsmoothed with the suffix ``_raw``.
    Raises LabelMismatchError for two tasks of one family and UnknownNameError for a family without columns.

    >>> from mien.tasks import TASKS
    >>> [column.name for column in columns([TASKS["va"]], Smoothing(0.1))][-5:]
    ['confidence', 'valence', 'arousal', 'valence_raw', 'arousal_raw']
    """
    if unknown := [t.family for t in tasks if t.family not in _FAMILIES]:
        raise UnknownNameError("task family", unknown[0], _FAMILIES)
    if len({t.family for t in tasks}) < len(tasks):
        raise LabelMismatchError(
            f"one task per family fits in a table, got {', '.join(t.key for t in tasks)}; leave one out"
        )
    by_family = {t.family: t for t in tasks}
    scores = [
        column
        for family, make in _FAMILIES.items()
        if family in by_family
        for column in make(by_family[family])
    ]
    if not smoothing:
        return (*_PLAIN, *scores)
    smooth = (_smoothed(column, smoothing) for column in scores)
    raw = (
        replace(c, name=f"{c.name}_raw", meaning=f"{c.meaning} Before smoothing.", raw=True)
        for c in scores
    )
    return (*_PLAIN, *smooth, *raw)


def column_notes(columns: Sequence[Column], every_s: float) -> list[str]:
    """What a reader of these columns should know at once, a line each: for now, whether they are smoothed too much or hardly.

    every_s: as `width_notes` takes it.
    """
    return width_notes(
        ((column.name, column.fwhm_s) for column in columns if column.fwhm_s is not None), every_s
    )


def _smoothed(column: Column, smoothing: Smoothing) -> Column:
    if column.name in smoothing.keep:
        return replace(column, meaning=f"{column.meaning} Not smoothed.")
    width_s = round(smoothing.fwhm_s, 4)
    return replace(
        column,
        meaning=f"{column.meaning} Smoothed over time, {width_s:g} s wide at half maximum.",
        fwhm_s=width_s,
    )


def _expression_columns(task: Task) -> list[Column]:
    best = Column(
        "expression", "str", f"The expression with the highest probability. {_SHARES}", task=task
    )
    total = f"the {len(task.names)} expressions of a face sum to 1."
    return [
        best,
        *_score_columns(task, "probability", lambda name: f"Probability of {name}; {total}"),
    ]


def _compound_columns(task: Task) -> list[Column]:
    if task != COMPOUND_SCORES:
        total = f"the {len(task.names)} compound expressions of a face sum to 1."
        return _score_columns(
            task, "probability", lambda name: f"Probability of {name.replace('_', ' ')}; {total}"
        )

    def meaning(name: str) -> str:
        members = " and ".join(COMPOUNDS[name])
        return f"How far the face shows both {members}: the harmonic mean of their probabilities. No probability: at most .5."

    return _score_columns(task, "score", meaning)


def _unit_columns(task: Task) -> list[Column]:
    def meaning(name: str) -> str:
        action = f" ({_ACTIONS[name]})" if name in _ACTIONS else ""
        return f"Activation of action unit {name.removeprefix('AU').lstrip('0')}{action}; not a FACS intensity (A to E)."

    return _score_columns(task, "activation", meaning)


def _score_columns(task: Task, unit: str, meaning: Callable[[str], str]) -> list[Column]:
    named = zip(task.columns, task.names, strict=True)
    return [
        Column(column, "float32", meaning(name), unit, task.low, task.high, task)
        for column, name in named
    ]


# Family -> its columns; the order is the table's.
_FAMILIES: Final[dict[str, Callable[[Task], list[Column]]]] = {
    "expr": _expression_columns,
    "va": lambda task: _score_columns(task, "score", _DIMENSIONS.__getitem__),
    "au": _unit_columns,
    "ce": _compound_columns,
    "emi": lambda task: _score_columns(
        task, "score", lambda name: f"Intensity of {name.replace('_', ' ')} in a clip, from 0 to 1."
    ),
    "ah": lambda task: _score_columns(
        task, "probability", lambda name: "Probability that the person is ambivalent or hesitant."
    ),
}


def batch_of(readings: Sequence[Reading], columns: Sequence[Column]) -> pa.RecordBatch:
    """Readings as one record batch, a row each; what is missing or not finite is null.

    Raises LabelMismatchError when a reading holds more or fewer scores than its task has names.
    """
    arrays: dict[str, pa.Array] = _plain_arrays(readings)
    for task, raw in dict.fromkeys((c.task, c.raw) for c in columns if c.task):
        names = [c.name for c in columns if c.task is task and c.raw == raw and c.dtype != "str"]
        scores = _scores([r.raw if raw else r.scores for r in readings], task)
        arrays |= zip(names, map(_floats, scores.T.copy()), strict=True)
        if task.family == "expr":
            arrays["expression_raw" if raw else "expression"] = _highest(scores, task.names)
    fields = [pa.field(c.name, ARROW[c.dtype]) for c in columns]
    return pa.record_batch([arrays[c.name] for c in columns], schema=pa.schema(fields))


def _plain_arrays(readings: Sequence[Reading]) -> dict[str, pa.Array]:
    faces = [r.face for r in readings]
    nowhere = (np.nan,) * 4
    boxes = np.array([nowhere if face is None else face.box for face in faces], np.float32).reshape(
        -1, 4
    )
    confidence = np.array(
        [np.nan if face is None else face.confidence for face in faces], np.float32
    )
    return {
        "source": pa.array([_utf8(r.source) for r in readings], pa.string()),
        "frame": pa.array([r.frame for r in readings], pa.int64()),
        "time_s": pa.array([r.time_s for r in readings], pa.float64()),
        "status": pa.array([r.status.value for r in readings], pa.string()),
        "face": pa.array([None if face is None else face.track for face in faces], pa.int64()),
        **dict(
            zip(("box_x", "box_y", "box_w", "box_h"), map(_floats, boxes.T.copy()), strict=True)
        ),
        "confidence": _floats(confidence),
    }


@lru_cache(maxsize=256)
def _utf8(name: str) -> str:
    """A file name that can be written; on some systems names need not be text."""
    return name.encode("utf-8", "replace").decode()


def _scores(found: Sequence[Mapping[str, Floats]], task: Task) -> Floats:
    """Scores (N, K) of a task, NaN where a reading has none."""
    width = len(task.names)
    none = np.full(width, np.nan, np.float32)
    rows = [scores.get(task.family, none) for scores in found]
    if wrong := [len(row) for row in rows if len(row) != width]:
        raise LabelMismatchError(
            f"{task.key} has {width} names, a reading holds {wrong[0]} scores; use the tasks of its bundle"
        )
    return np.array(rows, np.float32).reshape(-1, width)


def _floats(values: Floats) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))


def _highest(scores: Floats, names: tuple[str, ...]) -> pa.Array:
    """The name of the highest score of each row (N, K); null where one is missing."""
    return pa.array(
        np.array(names, object)[scores.argmax(axis=1)],
        pa.string(),
        mask=np.isnan(scores).any(axis=1),
    )
