"""Label tables mixed into one: joined, subsampled in time, capped by class, filtered.

So the teacher and student of ABAW2 learn from several data sets (after Deng, Chen & Shi 2020,
arXiv 2002.03399). Only rows in split train ever lose labels or are left out: validation and test
stay as they came. All functions keep the index of the rows that stay (only `mix` numbers them
anew), change nothing in place, and describe the result in ``attrs["notes"]``.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from mien.data.joining import join
from mien.data.label_table import labels
from mien.data.presence import attach_notes
from mien.data.spec import Spec
from mien.errors import DataError, UnknownNameError
from mien.tasks import TASKS, Task

__all__ = [
    "EVERY",
    "Mixing",
    "cap_per_class",
    "drop_inconsistent",
    "drop_labels",
    "mix",
    "subsample_in_time",
]

EVERY: Final = "every"
"""In strides: all labelled rows of a video alike, whatever they show."""

Mask = NDArray[np.bool_]

# How far from the middle of valence and arousal a neutral face may lie, and what rounding may add.
_CALM: Final = 0.5
_SLACK: Final = 1e-6
_FAMILIES: Final = tuple(dict.fromkeys(task.family for task in TASKS.values()))


class Mixing(Spec):
    """How tables become one; tasks go by their family, such as ``expr``."""

    thin: dict[str, Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(min_length=1)]] = Field(
        default={}
    )
    """By task: strides by class, such as ``{neutral: 10}``, or ``{every: 5}``; see
    `subsample_in_time`."""
    cap: dict[str, Annotated[int, Field(ge=1)]] = Field(default={})
    """By task: most training rows of a class, after thinning; see `cap_per_class`."""
    shared: bool = True
    """Whether a row that a task of `thin` or `cap` keeps has its labels of the others too; false:
    each task has only its own rows."""
    consistent: bool = False
    """Whether expressions that contradict valence and arousal are left out; see
    `drop_inconsistent`."""
    drop: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default={})
    """By task: share of its training labels that are taken away at random."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """Of `cap` and `drop`: the same seed takes the same rows."""
    strict: bool = False
    """Whether rows are left out whose subject, and not only face or video, is in a split that
    judges; official splits may share a few."""

    @field_validator("thin", "cap", "drop")
    @classmethod
    def _by_family(cls, value: dict[str, Any]) -> dict[str, Any]:
        for family in value:
            if family not in _FAMILIES:
                raise ValueError(f"{UnknownNameError('family of tasks', family, _FAMILIES)}")
        return value


def mix(tables: Sequence[pd.DataFrame], how: Mixing, tasks: Sequence[Task]) -> pd.DataFrame:
    """Make one label table of several.

    First `mien.data.joining.join`, then `drop_inconsistent`, `subsample_in_time` and
    `cap_per_class`, then `drop_labels`. Where several tasks are thinned or capped, a row stays if
    one of them has a label there and keeps it, and if none has.

    Args:
        tables: Label tables in which every row has a split.
        how: The settings. Those for a task that is not among `tasks` have no effect, and a note
            says so.
        tasks: The tasks of the tables' columns.

    Returns:
        The mixed table, with rows numbered anew, and notes on every step in ``attrs["notes"]``.

    Raises:
        DataError: As the steps do.
    """
    table = join(tables, strict=how.strict)
    by_family = {task.family: task for task in tasks}
    if how.consistent and "expr" in by_family:
        table = drop_inconsistent(table)
    chosen = [task for task in tasks if task.family in (*how.thin, *how.cap)]
    table = _selected(table, how, list({task.family: task for task in chosen}.values()))
    for i, (family, share) in enumerate(how.drop.items()):
        if family in by_family:
            table = drop_labels(table, by_family[family], share, how.seed + i)
    named = dict.fromkeys([*how.thin, *how.cap, *how.drop])
    idle = [family for family in named if family not in by_family]
    notes = []
    if idle:
        notes.append(
            f"{', '.join(idle)}: not learned here, so nothing was thinned, capped or dropped by it"
        )
    return _with_notes(table.reset_index(drop=True), table, *notes)


def _selected(table: pd.DataFrame, how: Mixing, tasks: Sequence[Task]) -> pd.DataFrame:
    """The rows that one of the tasks keeps, or that none has a label of."""
    if not tasks:
        return table
    notes: list[str] = []
    kept_by: dict[Task, Mask] = {}
    unlabelled = np.ones(len(table), bool)
    for i, task in enumerate(tasks):
        part = _with_notes(table)
        if task.family in how.thin:
            part = subsample_in_time(part, task, how.thin[task.family])
        if task.family in how.cap:
            part = cap_per_class(part, task, how.cap[task.family], how.seed + i)
        notes += part.attrs["notes"]
        labelled = _labelled(table, task)
        kept_by[task] = labelled & table.index.isin(part.index)
        unlabelled &= ~labelled
    stays = unlabelled | np.any(list(kept_by.values()), axis=0)
    selected = table[stays]
    if not how.shared:
        for task, kept in kept_by.items():
            selected = _without_labels(selected, task, ~kept[stays])
    training = table["split"] == "train"
    if len(tasks) > 1:
        keys = ", ".join(task.key for task in tasks)
        notes.append(
            f"{(stays & training).sum()} of {training.sum()} training rows are kept by one of "
            f"{keys}, or have no label of any"
        )
        notes += [f"{task.key}: {_counts(selected, task)}" for task in tasks]
    return _with_notes(selected, table, *notes)


def subsample_in_time(table: pd.DataFrame, task: Task, strides: Mapping[str, int]) -> pd.DataFrame:
    """Keep every k-th training row of a class in each video, in the order of its frames.

    The first row of a class in a video stays. Rows without a video are not in time and stay, and
    so do rows without a label of the task. ABAW2's mixture takes neutral 10, happiness 2 and
    sadness 2 of Aff-Wild2, and every 5th row for valence and arousal; it counts through all videos
    together, so that its first row of a video is any.

    Args:
        table: A label table.
        task: The task whose classes count. A row's class has its largest share.
        strides: k by class name; or ``{"every": k}`` for every k-th labelled row whatever it shows.

    Returns:
        The rows that stay.

    Raises:
        DataError: Strides are not whole numbers from 1, or the task lacks a class.
    """
    group, steps = _stride_groups(table, task, strides)
    rows = np.flatnonzero((group >= 0) & table["video"].notna() & (table["split"] == "train"))
    timed = table.iloc[rows]
    order = np.argsort(timed["frame"].to_numpy(float), kind="stable")
    keys = pd.DataFrame({"video": timed["video"].to_numpy(object), "group": group[rows]})
    position = keys.iloc[order].groupby(["video", "group"]).cumcount()
    # The index of `position` says which of `rows` each place belongs to.
    ordered = rows[position.index]
    dropped = np.zeros(len(table), bool)
    dropped[ordered] = position.to_numpy() % steps[group[ordered]] > 0
    listed = ", ".join(f"{name} {k}" for name, k in strides.items())
    return _without_rows(table, dropped, task, f"thinned in time ({listed})")


def _stride_groups(
    table: pd.DataFrame, task: Task, strides: Mapping[str, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The group of each row (N,), -1 for none, and the stride of each group."""
    if not strides or min(strides.values()) < 1:
        raise DataError(f"thin: strides are {dict(strides)}; give whole numbers from 1 on by class")
    if EVERY in strides:
        if len(strides) > 1:
            others = ", ".join(name for name in strides if name != EVERY)
            raise DataError(f"thin: {EVERY} stands for all classes; leave out {others}")
        return np.where(_labelled(table, task), 0, -1), np.array([strides[EVERY]])
    group = _classes(table, task, "thin")
    if strange := [name for name in strides if name not in task.names]:
        unknown = UnknownNameError(f"class of {task.key}", strange[0], (*task.names, EVERY))
        raise DataError(f"thin: {unknown}")
    return group, np.array([strides.get(name, 1) for name in task.names])


def cap_per_class(table: pd.DataFrame, task: Task, most: int, seed: int) -> pd.DataFrame:
    """Keep at most so many training rows of each class.

    Args:
        table: A label table. Rows without a label of the task stay.
        task: A ``one_of`` task. A row's class has its largest share.
        most: The most rows of a class.
        seed: The same seed takes the same rows.

    Returns:
        The rows that stay.

    Raises:
        DataError: The task has no classes, or `most` is below 1.
    """
    if most < 1:
        raise DataError(f"cap: {most} rows of a class; give a whole number from 1 on")
    group = np.where(table["split"] == "train", _classes(table, task, "cap"), -1)
    shuffled = np.random.default_rng(seed).permutation(len(table))
    position = pd.Series(group[shuffled]).groupby(group[shuffled]).cumcount().to_numpy()
    dropped = np.zeros(len(table), bool)
    dropped[shuffled] = (position >= most) & (group[shuffled] >= 0)
    return _without_rows(table, dropped, task, f"at most {most} of a class")


def drop_inconsistent(table: pd.DataFrame) -> pd.DataFrame:
    """Take expressions from training rows where valence and arousal contradict them.

    These are happiness with valence below 0, sadness with valence above 0, and neutral farther
    than 0.5 from the middle (Deng, Chen & Shi 2020). A row's expression has its largest share.

    Args:
        table: A label table with expressions, valence and arousal.

    Returns:
        All rows; those that contradict are without an expression, and keep their other labels.

    Raises:
        DataError: The table has no expressions, valence or arousal.
    """
    names = [str(name) for name in table if str(name).startswith("expr_")]
    if not names or not {"valence", "arousal"} <= set(table.columns):
        raise DataError(
            "consistent: needs columns of expressions, valence and arousal; ask for both tasks"
        )
    expr = Task("expr.found", tuple(name.removeprefix("expr_") for name in names), "one_of")
    shown = _classes(table, expr, "consistent")
    va = table[["valence", "arousal"]].to_numpy(float)
    wrong = {
        "happiness": va[:, 0] < 0,
        "sadness": va[:, 0] > 0,
        "neutral": np.hypot(va[:, 0], va[:, 1]) > _CALM + _SLACK,
    }
    training = (table["split"] == "train").to_numpy()
    lost = np.zeros(len(table), bool)
    counts = []
    for name, rows in wrong.items():
        if name in expr.names:
            contradicting = rows & training & (shown == expr.names.index(name))
            counts.append(f"{name} {contradicting.sum()}")
            lost |= contradicting
    remaining = _without_labels(table, expr, lost)
    note = (
        f"expressions against valence and arousal left out: {', '.join(counts)}; "
        f"training keeps {_counts(remaining, expr)}"
    )
    return _with_notes(remaining, table, note)


def drop_labels(table: pd.DataFrame, task: Task, share: float, seed: int) -> pd.DataFrame:
    """Take a share of the training labels of a task away, at random.

    Args:
        table: A label table.
        task: The task.
        share: The share of its labelled training rows, between 0 and 1.
        seed: The same seed takes the same labels.

    Returns:
        All rows, some of them without a label of the task.

    Raises:
        DataError: The share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise DataError(f"drop: the share is {share}; give one between 0 and 1")
    rows = np.flatnonzero(_labelled(table, task) & (table["split"] == "train"))
    dropped = np.zeros(len(table), bool)
    shuffled = np.random.default_rng(seed).permutation(rows)
    dropped[shuffled[: round(share * len(rows))]] = True
    remaining = _without_labels(table, task, dropped)
    note = (
        f"{task.key}: {dropped.sum()} of {len(rows)} training labels were taken away; "
        f"left: {_counts(remaining, task)}"
    )
    return _with_notes(remaining, table, note)


def _labelled(table: pd.DataFrame, task: Task) -> Mask:
    return np.asarray(~np.isnan(labels(table, task)).all(axis=1))


def _classes(table: pd.DataFrame, task: Task, where: str) -> NDArray[np.intp]:
    """The class with the largest share (N,), -1 where there is no label."""
    if task.kind != "one_of":
        raise DataError(
            f"{where}: {task.key} has no classes that exclude each other; use {EVERY} or leave it "
            "out"
        )
    shares = labels(table, task)
    return np.where(np.isnan(shares).any(axis=1), -1, np.nan_to_num(shares).argmax(axis=1))


def _without_labels(table: pd.DataFrame, task: Task, rows: Mask) -> pd.DataFrame:
    """The table without the labels of a task in some rows (N,)."""
    return table.assign(**{name: table[name].mask(rows) for name in task.columns})


def _without_rows(table: pd.DataFrame, dropped: Mask, task: Task, reason: str) -> pd.DataFrame:
    remaining = table[~dropped]
    note = (
        f"{task.key}, {reason}: {dropped.sum()} training rows were left out; "
        f"left: {_counts(remaining, task)}"
    )
    return _with_notes(remaining, table, note)


def _counts(table: pd.DataFrame, task: Task) -> str:
    """How many training rows show what."""
    training = table[table["split"] == "train"]
    if task.kind != "one_of":
        return f"{_labelled(training, task).sum()} labelled"
    # Shifted by one, as rows without a label have class -1.
    counts = np.bincount(_classes(training, task, task.key) + 1, minlength=len(task.names) + 1)[1:]
    pairs = zip(task.names, counts.tolist(), strict=True)
    return ", ".join(f"{name} {count}" for name, count in pairs)


def _with_notes(
    table: pd.DataFrame, before: pd.DataFrame | None = None, *lines: str
) -> pd.DataFrame:
    """A copy of the table with the notes of the one before it, and more."""
    notes = [] if before is None else list(before.attrs.get("notes", []))
    return attach_notes(table.copy(deep=False), [*notes, *lines])
