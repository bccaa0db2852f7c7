"""Drawn faces: label tables whose every label is known, because the picture was drawn from it.

All labels follow from what is drawn in the end:

- ``au.abaw12``: 1 where the activation reaches `PRESENT`, else 0; ``au.blendshapes``: the
  activations, 0..1;
- ``va``: `valence_arousal`, a smooth function of the units and of how wide awake the eyes are;
- ``expr.*``: one-hot. Faces only play expressions of the task; in films, moments without one are
  neutral, or not annotated where the task has no neutral.
"""

import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.drawn.acting import (
    EXPRESSIONS,
    PRESENT,
    drawn_video,
    portray,
    valence_arousal,
)
from mien.data.drawn.geometry import five_points
from mien.data.drawn.painter import draw
from mien.data.drawn.people import drawn_person
from mien.data.drawn.portrayal import UNITS, Portrayal
from mien.errors import DataError
from mien.tasks import TASKS, Floats, Task

__all__ = ["load_drawn", "load_drawn_videos"]

_DEFAULT: Final = (TASKS["expr.abaw8"], TASKS["va"], TASKS["au.abaw12"])
_FACES_OF_SUBJECT: Final = 20
_DRAWABLE: Final = {"expr": EXPRESSIONS, "va": TASKS["va"].names, "au": UNITS}


def load_drawn(
    count: int,
    seed: int = 0,
    split: str | None = None,
    size: int = 64,
    tasks: Sequence[Task] = _DEFAULT,
) -> pd.DataFrame:
    """The label table of drawn faces, about 20 of every subject, all expressions equally often.

    Args:
        count: Number of faces.
        seed: With one seed, two splits share no subject.
        split: Every row's split; None gives four fifths ``train`` and one fifth ``val``.
        size: Side of the pictures in pixels.
        tasks: Of the families ``expr``, ``va`` and ``au``.

    Returns:
        A label table with pictures, RGB uint8 (size, size, 3).

    Raises:
        DataError: For tasks that cannot be drawn or share columns, and for sizes and counts that
            make no sense.
    """
    _check(seed, size, count=count)
    _check_tasks(tasks)
    parts = []
    for name, faces in _split_counts(count, split):
        parts.append(_stills(faces, name, seed, size, tasks))
    return pd.concat(parts, ignore_index=True)


def load_drawn_videos(
    videos: int,
    frames: int,
    *,
    seed: int = 0,
    size: int = 64,
    tasks: Sequence[Task] = _DEFAULT,
    split: str | None = None,
) -> pd.DataFrame:
    """The label table of drawn films, one subject each.

    Args:
        videos: Number of films.
        frames: Rows of each film, 25 a second.
        seed: As for `load_drawn`.
        size: Side of the pictures in pixels.
        tasks: Of the families ``expr``, ``va`` and ``au``.
        split: As for `load_drawn`, over films.

    Returns:
        A label table with pictures, RGB uint8 (size, size, 3).

    Raises:
        DataError: As `load_drawn` does.
    """
    _check(seed, size, videos=videos, frames=frames)
    _check_tasks(tasks)
    expressions = _expressions(tasks)
    parts = []
    for name, films in _split_counts(videos, split):
        for k in range(films):
            film = f"{name}-{seed}-film{k}"
            numbers = np.arange(frames, dtype=np.float64)
            facts = {"video": film, "frame": numbers, "subject": film, "split": name}
            key = (*_split_seed(seed, name), 3, k)
            played = list(drawn_video(frames, key, expressions=expressions))
            parts.append(_table(played, size, tasks, facts))
    return pd.concat(parts, ignore_index=True)


def _stills(faces: int, split: str, seed: int, size: int, tasks: Sequence[Task]) -> pd.DataFrame:
    """The label table of one split's single pictures."""
    key = _split_seed(seed, split)
    expressions = _expressions(tasks)
    subjects = max(round(faces / _FACES_OF_SUBJECT), 1)
    people = [drawn_person(np.random.default_rng((*key, 0, k))) for k in range(subjects)]
    # Each round plays every expression once, in an order of its own.
    order: list[int] = []
    for k in range(-(-faces // len(expressions))):
        rng = np.random.default_rng((*key, 1, k))
        order += rng.permutation(len(expressions)).tolist()
    played = []
    names = []
    for i in range(faces):
        subject = i % subjects
        rng = np.random.default_rng((*key, 2, i))
        played.append(portray(rng, people[subject], expressions[order[i]]))
        names.append(f"{split}-{seed}-{subject}")
    facts = {"video": None, "frame": np.nan, "subject": names, "split": split}
    return _table(played, size, tasks, facts)


def _table(
    portrayals: Sequence[Portrayal], size: int, tasks: Sequence[Task], facts: dict[str, Any]
) -> pd.DataFrame:
    """The label table of portrayals; facts: its columns that are no picture, points or label."""
    images = []
    points = []
    for portrayal in portrayals:
        images.append(draw(portrayal, size))
        # Pixel centres lie at whole numbers.
        points.append((five_points(portrayal) * size - 0.5).ravel().tolist())
    columns = {"image": images, **facts, "points": points, **_labels(portrayals, tasks)}
    return pd.DataFrame(columns)


def _labels(portrayals: Sequence[Portrayal], tasks: Sequence[Task]) -> dict[str, Floats]:
    """Label columns (N,) of all tasks."""
    columns: dict[str, Floats] = {}
    for task in tasks:
        values = _task_labels(portrayals, task)
        columns |= dict(zip(task.columns, values.T, strict=True))
    return columns


def _task_labels(portrayals: Sequence[Portrayal], task: Task) -> Floats:
    """Labels (N, K) of one task."""
    units = np.array([portrayal.units for portrayal in portrayals]).reshape(-1, len(UNITS))
    if task.family == "va":
        return valence_arousal(units, np.array([portrayal.alert for portrayal in portrayals]))
    if task.family == "au":
        shown = units[:, task.column_index(UNITS)]
        if task.key == AU_BLENDSHAPES.key:
            return np.asarray(shown)
        return np.asarray(shown >= PRESENT, np.float64)
    played = np.array([portrayal.expression for portrayal in portrayals], dtype=object)
    names = np.array(task.names, dtype=object)
    values: Floats = (played[:, None] == names).astype(np.float64)
    # A neutral moment of a film, where the task has no neutral.
    values[values.sum(axis=1) == 0] = np.nan
    return values


def _check_tasks(tasks: Sequence[Task]) -> None:
    """Raises DataError for a task that cannot be drawn and for two that share a column."""
    columns: list[str] = []
    for task in tasks:
        drawable = _DRAWABLE.get(task.family, ())
        missing = [name for name in task.names if name not in drawable]
        if missing:
            raise DataError(
                f"drawn faces cannot show {', '.join(missing)} of {task.key}; "
                "choose expr.*, va or au.* tasks"
            )
        shared = set(columns) & set(task.columns)
        if shared:
            raise DataError(
                f"{task.key} shares the column {min(shared)} with another task of the table; "
                "ask for them in tables of their own"
            )
        columns += task.columns


def _check(seed: int, size: int, **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise DataError(f"{name} is {value}; ask for at least 1 of drawn data")
    if seed < 0 or size < 16:
        raise DataError(
            f"drawn faces of seed {seed} and size {size}; "
            "the seed must be 0 or more and the size at least 16 pixels"
        )


def _expressions(tasks: Sequence[Task]) -> tuple[str, ...]:
    """What is played: the expressions of the first such task."""
    for task in tasks:
        if task.family == "expr":
            return task.names
    return EXPRESSIONS


def _split_counts(count: int, split: str | None) -> list[tuple[str, int]]:
    """Splits and how many of `count` each gets."""
    if split is not None:
        return [(split, count)]
    counts = [("train", count - count // 5), ("val", count // 5)]
    return [(name, share) for name, share in counts if share]


def _split_seed(seed: int, split: str) -> tuple[int, int]:
    """Seed of everything in a split: splits must not share anybody."""
    return seed, zlib.crc32(split.encode())
