"""Scores and labels side by side: checks that they fit, groups of faces, measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.label_table import labels
from mien.errors import DataError, LabelMismatchError
from mien.evaluation.group_sums import (
    GroupSums,
    Key,
    Numbers,
    group_sums,
    interval,
    measures,
    resampled,
)
from mien.evaluation.results import Measure
from mien.protocols import Term, protocol_named
from mien.tasks import TASKS, Floats, Task

__all__ = ["OF_TERM", "LabelledScores", "Thresholds", "column_of", "group_numbers"]

_SLACK: Final = 1e-4  # what rounding may add to the ends of a range


def _keys_of_terms() -> dict[str, Key]:
    keys = {
        "macro_f1": ("", "macro_f1"),
        "accuracy": ("", "accuracy"),
        "au_f1": ("", "mean_f1"),
    }
    for name in TASKS["va"].names:
        keys[f"ccc_{name}"] = (name, "ccc")
    for task in ("emi.abaw5", "emi.abaw6"):
        for name in TASKS[task].names:
            keys[f"pearson_{name}"] = (name, "r")
    return keys


OF_TERM: Final = _keys_of_terms()
"""The measure that each term of a protocol is, by the term's name in `mien.protocols.PROTOCOLS`."""

Thresholds = Mapping[str, float | Sequence[float]]
"""By task family: from which score a unit is on, one number or one per unit."""


@dataclass(frozen=True, slots=True)
class LabelledScores:
    """Scores and a label table side by side.

    Attributes:
        tasks: The tasks that are judged.
        scores: (N, K) by task family, decoded.
        table: The label table, N rows.
        number: (N,) group of each face, 0..G-1.
        thresholds: By family; 0.5 where none is given.
        rounds: Bootstrap draws of groups.
        seed: Seed of the draws.
    """

    tasks: tuple[Task, ...]
    scores: Mapping[str, Floats]
    table: pd.DataFrame
    number: Numbers
    thresholds: Thresholds
    rounds: int
    seed: int

    def subset(self, rows: NDArray[np.bool_]) -> "LabelledScores":
        """The same of some faces.

        Args:
            rows: (N,) which faces to keep.

        Returns:
            A copy with these faces, whose groups are numbered anew.
        """
        scores = {family: values[rows] for family, values in self.scores.items()}
        # Groups of which no face is kept must not be drawn.
        number = pd.factorize(self.number[rows])[0]
        return replace(self, scores=scores, table=self.table[rows], number=number)

    def group_sums(
        self, task: Task, like: Task | None = None, graded: bool | None = None
    ) -> GroupSums | None:
        """Sums of one task by group.

        Args:
            task: The task of scores and labels.
            like: A label set with a part of the task's names, to judge it as.
            graded: As of `mien.evaluation.group_sums.group_sums`.

        Returns:
            The sums; None where nothing is annotated.

        Raises:
            DataError: Where scores and label table do not fit.
            LabelMismatchError: Where `like` has a name that the task lacks.
        """
        target = _target(task, self.table)
        if target is None:
            return None
        pred = _prediction(task, self.scores, target)
        threshold = self.thresholds.get(task.family, 0.5)
        if like is None or like == task:
            return group_sums(task, pred, target, self.number, threshold=threshold, graded=graded)
        index = like.column_index(task.names)
        if task.kind == "one_of":
            # A face that shows a class which `like` does not have is not annotated for it.
            target[~np.isin(target.argmax(axis=1), index)] = np.nan
        pred, target = pred[:, index], target[:, index]
        if np.isnan(target).all():
            return None
        if np.ndim(threshold) > 0:
            threshold = np.asarray(threshold)[index].tolist()
        return group_sums(like, pred, target, self.number, threshold=threshold, graded=graded)

    def measured(self, sums: GroupSums) -> dict[Key, Measure]:
        """Every measure of a task with its interval.

        Args:
            sums: Sums of one task, as from `group_sums`.

        Returns:
            The measures by name and measure.
        """
        # Groups without a label would only thin out the draws.
        parts = sums.parts[sums.has_labels]
        values = measures(sums, parts.sum(axis=0)[None])
        draws = measures(sums, resampled(parts, self.rounds, self.seed))
        faces = dict(zip(sums.task.names, sums.counts.tolist(), strict=True))
        faces[""] = sums.faces
        return {key: _measure(values[key], draws[key], faces[key[0]]) for key in values}

    def protocol(self, name: str) -> Measure:
        """A challenge's score with its interval.

        Args:
            name: Name of the protocol, as of `mien.protocols.protocol_named`.

        Returns:
            The weighted sum of the protocol's terms; its faces are those of the largest task.

        Raises:
            UnknownNameError: For a name that is no protocol.
            DataError: Where a task of the protocol was not scored or is not labelled.
            LabelMismatchError: Where a task lacks a class of the protocol.
        """
        terms = protocol_named(name).terms
        tasks: dict[str, GroupSums] = {}
        for term in terms:
            if term.task not in tasks:
                tasks[term.task] = self._for_protocol(name, TASKS[term.task])
        # One draw of groups must serve all terms, so the tasks' sums stand side by side.
        has_labels = np.zeros(len(next(iter(tasks.values())).has_labels), np.bool_)
        for sums in tasks.values():
            has_labels |= sums.has_labels
        parts = np.hstack([sums.parts[has_labels] for sums in tasks.values()])
        value = _protocol_score(terms, tasks, parts.sum(axis=0)[None])
        draws = _protocol_score(terms, tasks, resampled(parts, self.rounds, self.seed))
        return _measure(value, draws, max(sums.faces for sums in tasks.values()))

    def _for_protocol(self, name: str, protocol_task: Task) -> GroupSums:
        task = _task_of_family(self.tasks, protocol_task.family)
        if task is None:
            keys = ", ".join(task.key for task in self.tasks)
            raise DataError(f"protocol {name} needs the task {protocol_task.key}; here are {keys}")
        try:
            sums = self.group_sums(task, like=protocol_task)
        except LabelMismatchError as error:
            raise LabelMismatchError(
                f"protocol {name} does not fit {task.key}: {error}; leave the protocol out"
            ) from error
        # Scoring the rest alone would give a figure that looks like the challenge's and is not.
        if sums is None:
            raise DataError(
                f"protocol {name} needs labels of {protocol_task.key}; the table has none, "
                "leave the protocol out"
            )
        if sums.graded:
            raise DataError(
                f"protocol {name} counts {protocol_task.key} as on or off; "
                "the table's labels lie in between, leave the protocol out"
            )
        return sums


def column_of(table: pd.DataFrame, name: str) -> "pd.Series[str]":
    """A column of a label table.

    Args:
        table: The label table.
        name: Name of the column.

    Returns:
        The column.

    Raises:
        DataError: Where the table has no such column.
    """
    if name not in table:
        columns = ", ".join(map(str, table.columns))
        raise DataError(f"the label table has no column {name!r}; it has {columns}")
    return table[name]


def group_numbers(table: pd.DataFrame, groups: str) -> tuple[Numbers, str]:
    """The group of each face, over which intervals are drawn.

    Args:
        table: A label table of N faces.
        groups: ``auto`` takes a face's video, else its subject, else the face itself; ``face``
            takes every face alone; any other name is a column, and where it is empty the face
            itself.

    Returns:
        Group numbers (N,) from 0, and what the groups are, in words.

    Raises:
        DataError: Where the table has no such column.
    """
    if groups == "auto":
        # Faces of one video are alike in more than the person, so the video comes first.
        columns = [name for name in ("video", "subject") if name in table]
    else:
        columns = [] if groups == "face" else [groups]
    number = np.full(len(table), -1)
    used = []
    for column in columns:
        # An empty cell has the code -1, and is left to the next column.
        codes = pd.factorize(column_of(table, column))[0]
        free = (number < 0) & (codes >= 0)
        if free.any():
            number[free] = codes[free] + number.max() + 1
            used.append(column)
    alone = number < 0
    if alone.any():
        number[alone] = np.arange(alone.sum()) + number.max() + 1
        used.append("face")
    return pd.factorize(number)[0], ", else ".join(used)


def _task_of_family(tasks: Sequence[Task], family: str) -> Task | None:
    for task in tasks:
        if task.family == family:
            return task
    return None


def _protocol_score(terms: Sequence[Term], tasks: Mapping[str, GroupSums], sums: Floats) -> Floats:
    """The weighted sum of terms (R,) from the tasks' sums side by side (R, S)."""
    by_task = {}
    start = 0
    for key, task_sums in tasks.items():
        end = start + task_sums.parts.shape[1]
        by_task[key] = measures(task_sums, sums[:, start:end])
        start = end
    score = np.zeros(len(sums))
    for term in terms:
        score += term.weight * by_task[term.task][OF_TERM[term.name]]
    return score


def _measure(value: Floats, draws: Floats, faces: int) -> Measure:
    low, high = interval(draws)
    return Measure(value=float(value[0]), low=low, high=high, faces=int(faces))


def _target(task: Task, table: pd.DataFrame) -> Floats | None:
    """Labels (N, K) float64; None where nothing is annotated.

    A row of a ``one_of`` task is annotated as a whole or NaN.
    """
    # Some units may be unlabelled as a whole; a class that is missing would change the others.
    missing = [column for column in task.columns if column not in table]
    if len(missing) == len(task.columns):
        return None
    if missing and task.kind == "one_of":
        raise DataError(
            f"{task.key}: the label table lacks {', '.join(missing)}; "
            "judge it as a task with the table's own classes"
        )
    target = labels(table.reindex(columns=list(task.columns)), task).astype(np.float64)
    if _out_of_range(task, target):
        raise DataError(
            f"{task.key}: labels reach outside {task.low:g}..{task.high:g}; correct the data set's "
            "adapter, which must turn its codes into NaN"
        )
    if task.kind == "one_of":
        target[np.isnan(target).any(axis=1) | (target.sum(axis=1) == 0)] = np.nan
    return None if np.isnan(target).all() else target


def _prediction(task: Task, scores: Mapping[str, Floats], target: Floats) -> Floats:
    """Scores (N, K) of a task; raises DataError when they do not fit the table."""
    if task.family not in scores:
        families = ", ".join(scores) or "nothing"
        raise DataError(f"no scores for {task.key}; the scores hold {families}")
    pred = np.asarray(scores[task.family])
    # Broadcasting would compare scores with the labels of other faces.
    if pred.shape != target.shape:
        raise DataError(
            f"{task.key}: scores are {pred.shape}, the label table asks for {target.shape}; "
            "score the same table, in its order"
        )
    # A score is needed only where there is a label to compare it with.
    used = pred[~np.isnan(target)]
    missing = int(np.isnan(used).sum())
    if missing:
        raise DataError(
            f"{task.key}: {missing} scores of annotated faces are NaN; "
            "leave those rows out of both, and say so"
        )
    if _out_of_range(task, used):
        raise DataError(
            f"{task.key}: scores reach outside {task.low:g}..{task.high:g}; "
            "decode raw output with Task.decode first"
        )
    return pred


def _out_of_range(task: Task, values: Floats) -> bool:
    return bool(((values < task.low - _SLACK) | (values > task.high + _SLACK)).any())
