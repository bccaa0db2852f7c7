"""Compare a system with the step it was made of, on the first recordings of split val."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mien.data.registry import Set, load_set
from mien.errors import BundleError
from mien.evaluation.predict import evaluate_bundle
from mien.recipes.compounds.compound import expression_scores
from mien.recipes.steps.base import Step, StepContext
from mien.recipes.steps.compound import (
    ChooseCompounds,
    Compounds,
    SupervisedCompounds,
    read_face_table,
)
from mien.recipes.steps.postprocess import ClassBias, Override, Smooth, Threshold
from mien.recipes.steps.refit import deployed
from mien.recipes.steps.runs import rows_in
from mien.systems.opening import load
from mien.systems.system import System
from mien.train.open_model import ENGINE

__all__ = ["Compared", "compare"]

_TOLERANCE: Final = 1e-4
"""How far a system's scores may be from the step's, for the same pictures."""
_CHECKED: Final = 256
"""Rows of split val, in whole recordings, on which the two are compared."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What was compared.

    Attributes:
        difference: The largest of any score. Decisions about units are compared as decisions.
        table: Label table of the faces; None where faces of videos were read before.
    """

    difference: float
    table: pd.DataFrame | None = None


def compare(
    context: StepContext,
    name: str,
    folder: Path,
    data: Sequence[Set],
    features: Sequence[Path],
) -> Compared:
    """Compare a system with the step it was made of.

    Args:
        context: Of the step that makes the system.
        name: The step whose scores the system gives.
        folder: Of the system.
        data: The data sets on which that step was measured.
        features: Files of the external features that it read.

    Returns:
        How far they differ.

    Raises:
        BundleError: The two differ.
    """
    system = load(folder, ENGINE)
    assert isinstance(system, System)
    system = system.with_features(features)
    step = context.steps[name]
    if isinstance(step, Compounds | SupervisedCompounds | ChooseCompounds):
        return Compared(_compare_frames(context, name, step, system))
    predicted = context.predicted(name)
    tables = [load_set(spec, predicted.tasks) for spec in data]
    rows = rows_in(pd.concat(tables, ignore_index=True), "val")
    # Of folds and refits, what a system gives was computed as it computes it itself.
    as_used = deployed(context, name)
    part = predicted.parts["val"] if as_used is None else as_used
    decides = as_used is None and _is_decided(context.steps, name)
    recordings = part.table["recording"]
    # Whole recordings, since steps over time reach beyond a face.
    first = recordings.iloc[:_CHECKED].unique()
    checked = np.flatnonzero(recordings.isin(first))
    table = rows.iloc[checked].reset_index(drop=True)
    scores = evaluate_bundle(system, table).scores
    worst = 0.0
    for task in predicted.tasks:
        expected = np.asarray(part.values[task.family][0, 0])[checked]
        actual = scores[task.family]
        if decides and task.family == "au":
            actual = (actual >= 0.5).astype(np.float64)
        worst = max(worst, float(np.abs(actual - expected).max()))
    _check_difference(context, name, worst)
    return Compared(worst, table)


def _check_difference(context: StepContext, name: str, worst: float) -> None:
    """Raises BundleError for a difference that rounding does not explain."""
    if worst > _TOLERANCE:
        raise BundleError(
            f"{context.name}: the system differs from the step {name} by {worst:.2g}, more than "
            f"{_TOLERANCE:g}; it is not made"
        )


def _compare_frames(
    context: StepContext,
    name: str,
    step: Compounds | SupervisedCompounds | ChooseCompounds,
    system: System,
) -> float:
    """The same for compounds, from the faces that were read in the videos.

    Frames beside the faces of a video are filled in lists and not in tables, so that only frames
    farther from both ends than the window reaches are compared.
    """
    faces = read_face_table(context, step.of)
    expressions, names = expression_scores(faces)
    # The table has a column for each expression, the system a task with an order.
    [task] = [task for task in system.face_tasks if task.family == "expr"]
    ordered = expressions[:, task.column_index(names)]
    scores = system.finish_expressions(ordered, faces["video"], faces["frame"])
    part = context.predicted(name).parts["val"]
    # All faces of a frame have the scores of the frame.
    answers = _numbered_frames(faces, "row").drop_duplicates(["video", "frame"])
    both = _numbered_frames(part.table, "listed").merge(answers, on=["video", "frame"])
    inner = _inner(both, getattr(system.card.steps[system.card.answer], "window", 0))
    if inner.empty:
        return 0.0
    expected = np.asarray(part.values["ce"][0, 0])[inner["listed"]]
    worst = float(np.abs(scores[inner["row"]] - expected).max())
    _check_difference(context, name, worst)
    return worst


def _inner(rows: pd.DataFrame, reach: int) -> pd.DataFrame:
    """Rows so many frames away from the first and the last row of their videos, or more."""
    ends = rows.groupby("video")["frame"].agg(["min", "max"])
    first = rows["video"].map(ends["min"]) + reach
    last = rows["video"].map(ends["max"]) - reach
    is_inner = (rows["frame"] >= first) & (rows["frame"] <= last)
    return rows[is_inner]


def _numbered_frames(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Video and frame of each row of a table, and the number of the row in a column."""
    frames = table[["video", "frame"]].astype({"video": str})
    return frames.assign(**{column: np.arange(len(table))})


def _is_decided(steps: Mapping[str, Step], name: str) -> bool:
    """Whether a step's scores of units are decisions, 0 or 1."""
    step = steps[name]
    if isinstance(step, Threshold):
        return True
    return isinstance(step, Smooth | Override | ClassBias) and _is_decided(steps, step.of)
