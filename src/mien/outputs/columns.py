"""The columns of the output table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import pyarrow as pa

from mien.errors import LabelMismatchError, UnknownNameError
from mien.faces.landmarks import COUNT, MEASURES
from mien.tasks import COMPOUND_SCORES, COMPOUNDS, Task
from mien.temporal.one_euro import OneEuro
from mien.temporal.readings import Smoothing
from mien.temporal.widths import width_notes

__all__ = [
    "ARROW",
    "MEASURED",
    "UNCERTAIN",
    "Column",
    "Dtype",
    "column_notes",
    "columns",
    "landmark_columns",
    "point_columns",
]

UNCERTAIN: Final = "uncertain"
"""The label of a face whose expression is left open."""

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
        corrected: Whether it holds scores minus what is normal for the person.
        uncertain_below: Of a column of labels: the probability below which they are `UNCERTAIN`, as
            they are on doubtful rows; None where they never are.
        fwhm_s: Width of the smoothing over time, full width at half maximum in s; None where the
            values were not smoothed.
        present_from: Activation from which an action unit is present, as the bundle's card says;
            None where it says nothing.
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
    uncertain_below: float | None = None
    present_from: float | None = None
    corrected: bool = False


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

_POINTS: Final = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
MEASURED: Final = (
    Column("face_size", "float32", "Distance between the eyes in the frame.", "pixels", 0),
    Column(
        "sharpness",
        "float32",
        "Sharpness of the face: the variance of its Laplacian, divided by that of its luma. "
        "Falls with blur and for small faces; press photos have about 0.5; noise counts as sharp.",
        "score",
        0,
        1,
    ),
    Column("light", "float32", "Mean luma of the face: 0 is black, 1 is white.", "luma", 0, 1),
)
_ANGLES: Final = {
    "yaw": "How far the face is turned to the side; positive: towards the right of the picture.",
    "pitch": "How far the face is turned up; negative: down.",
    "roll": "How far the head is tilted in the frame; positive: clockwise.",
}
_GAZE: Final = {
    "x": "How far the eyes look to the right of the picture; negative: to the left.",
    "y": "How far the eyes look up; negative: down.",
}
_NO_ANGLE: Final = (
    "As the head sees it, from straight ahead to the side; no angle in degrees. "
    "Missing where both eyes are covered."
)
_MEASURES: Final = {
    "eye_opening_left": (
        "How far the left eye (of the picture) is open: its aspect ratio, (d(37,41) + d(38,40)) / "
        "(2 d(36,39)), with d(a,b) the distance between landmarks a and b in the picture."
    ),
    "eye_opening_right": (
        "How far the right eye (of the picture) is open: its aspect ratio, (d(43,47) + d(44,46)) / "
        "(2 d(42,45))."
    ),
    "mouth_opening": (
        "How far the lips are apart, by the span of the eyes: (d(61,67) + d(62,66) + d(63,65)) / "
        "(3 d(36,45))."
    ),
    "mouth_width": (
        "How wide the mouth is, by the span of the eyes: d(48,54) / d(36,45). "
        "A turned head changes it."
    ),
}
_PERSON: Final = Column(
    "person",
    "Int64",
    "The same number for all faces of one person in one source, from 0 in order of first "
    "appearance; empty where it could not be told. Another source numbers its people anew.",
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


_CHANCE: Final = (
    "Chance that the reading is that of an undisturbed picture of the face: the same expression, "
    "and a valence within 0.3. Such readings may be wrong, too."
)
_Maker = Callable[[Task], list[Column]]


def columns(
    tasks: Sequence[Task],
    smoothing: Smoothing | OneEuro | None = None,
    *,
    quality: Sequence[Task] | None = None,
    points: bool = False,
    landmarks: bool = False,
    uncertain_below: float | None = None,
    people: bool = False,
    presence: Mapping[str, float] | None = None,
) -> tuple[Column, ...]:
    """The columns of a table with these tasks, in table order.

    Args:
        tasks: The tasks of the readings, in any order.
        smoothing: How the scores were smoothed. The score columns then hold smoothed scores, except
            those that it keeps, and come once more unsmoothed with the suffix ``_raw``.
        quality: The tasks of a bundle that judges readings, in any order; None where none does.
        points: Whether the five points of each face have columns.
        landmarks: Whether its 68 points have, and what is measured between them.
        uncertain_below: As of `Column`; None also where no action unit is left out.
        people: With the column `person`.
        presence: Activations from which action units are present, by name, as the card gives them.

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
    face = list(_PLAIN)
    if people:
        place = [column.name for column in face].index("face") + 1
        face.insert(place, _PERSON)
    if quality is not None:
        face += _family_columns(quality, _QUALITY) + list(MEASURED)
    if points:
        face += point_columns()
    sees_covers = any(task.family == "occlusion" for task in quality or ())
    if landmarks:
        face += landmark_columns(covered=uncertain_below is not None and sees_covers)
    scores = _family_columns(tasks, _FAMILIES)
    if presence:
        scores = [replace(column, present_from=presence.get(column.name)) for column in scores]
    if uncertain_below is not None:
        scores = [_abstaining(column, uncertain_below, sees_covers) for column in scores]
    if not smoothing:
        return (*face, *scores)
    # Both: smoothing cannot be undone, and some analyses want the scores as they were.
    smooth = [_smoothed(column, smoothing) for column in scores]
    raw = [_unsmoothed(column) for column in scores]
    return (*face, *smooth, *raw)


def _family_columns(tasks: Sequence[Task], makers: Mapping[str, _Maker]) -> list[Column]:
    """The columns of some tasks, in the order of `makers`."""
    by_family: dict[str, Task] = {}
    for task in tasks:
        # A bundle of a later version may have a task that is not known here.
        if task.family not in makers:
            raise UnknownNameError("task family", task.family, makers)
        by_family[task.family] = task
    if len(by_family) < len(tasks):
        keys = ", ".join(task.key for task in tasks)
        raise LabelMismatchError(f"one task per family fits in a table, got {keys}; leave one out")
    scores: list[Column] = []
    for family, make in makers.items():
        if family in by_family:
            scores += make(by_family[family])
    return scores


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


def _smoothed(column: Column, smoothing: Smoothing | OneEuro) -> Column:
    if column.name in smoothing.keep:
        return replace(column, meaning=f"{column.meaning} Not smoothed.")
    if isinstance(smoothing, OneEuro):
        how = (
            f"Smoothed over time by a one-euro filter (cutoff {smoothing.cutoff_hz:g} Hz, beta "
            f"{smoothing.beta:g}), except in doubtful rows."
        )
        return replace(column, meaning=f"{column.meaning} {how}")
    width_s = round(smoothing.fwhm_s, 4)
    how = f"Smoothed over time, {width_s:g} s wide at half maximum, except in doubtful rows."
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


def _occlusion_columns(task: Task) -> list[Column]:
    def meaning_of(name: str) -> str:
        side = " (of the picture)" if name.endswith("_eye") else ""
        return f"How far something covers the {name.replace('_', ' ')}{side}."

    mean = "How far something covers the face: the mean of its five regions."
    total = Column("occlusion", "float32", mean, "share", task.low, task.high, task)
    return [total, *_score_columns(task, "share", meaning_of)]


def point_columns() -> list[Column]:
    """The columns of the five points of a face.

    Returns:
        x and y of each point, in the order of `Face.points`.
    """
    columns = []
    for name in _POINTS:
        words = name.replace("nose", "tip of the nose").replace("mouth", "corner of the mouth")
        words = words.replace("_", " ")
        side = "" if name == "nose" else " (of the picture)"
        for axis in "xy":
            meaning = f"{axis} of the {words}{side} in the upright frame, in square pixels."
            columns.append(Column(f"{name}_{axis}", "float32", meaning, "pixels"))
    return columns


def landmark_columns(*, covered: bool = False) -> list[Column]:
    """The columns of the 68 points of a face.

    Args:
        covered: Points that something covers are missing; the columns say so.

    Returns:
        What is measured between the points, then x and y of each.
    """
    missing = " Missing where something covers it." * covered
    columns = []
    for name in MEASURES:
        columns.append(Column(name, "float32", f"{_MEASURES[name]}{missing}", "ratio", 0))
    for number in range(COUNT):
        for axis in "xy":
            meaning = f"{axis} of point {number} of the 68 of iBUG (300-W, counted from 0)"
            meaning = f"{meaning} in the upright frame, in square pixels.{missing}"
            columns.append(Column(f"landmark_{number}_{axis}", "float32", meaning, "pixels"))
    return columns


def _abstaining(column: Column, uncertain_below: float, sees_covers: bool) -> Column:
    """A column of which something may be left out; says what."""
    if column.dtype == "str":
        low = f", and where no probability reaches {uncertain_below:g}" if uncertain_below else ""
        meaning = f"{column.meaning} It is {UNCERTAIN} in doubtful rows{low}."
        return replace(column, meaning=meaning, uncertain_below=uncertain_below)
    if sees_covers and column.task is not None and column.task.family == "au":
        return replace(column, meaning=f"{column.meaning} Missing where its region is covered.")
    return column


# What makes each family's columns; the order is the table's.
_FAMILIES: Final[dict[str, _Maker]] = {
    "expr": _expression_columns,
    "va": lambda task: _score_columns(task, "score", _DIMENSIONS.__getitem__),
    "au": lambda task: _score_columns(task, "activation", _unit_meaning),
    "ce": _compound_columns,
    "emi": lambda task: _score_columns(task, "score", _intensity_meaning),
    "ah": lambda task: _score_columns(task, "probability", _hesitance_meaning),
}
_QUALITY: Final[dict[str, _Maker]] = {
    "quality": lambda task: _score_columns(task, "probability", lambda _: _CHANCE),
    "occlusion": _occlusion_columns,
    "pose": lambda task: _score_columns(task, "degrees", _ANGLES.__getitem__),
    "gaze": lambda task: _score_columns(task, "share", lambda name: f"{_GAZE[name]} {_NO_ANGLE}"),
}
