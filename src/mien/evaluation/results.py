"""The result of an evaluation: measures with intervals by task, class and group of people.

All of it are pydantic models, so an evaluation writes itself to JSON and reads itself back.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mien.errors import DataError
from mien.evaluation.measures import headlines
from mien.metrics import NAN
from mien.tasks import Kind

__all__ = [
    "CELLS",
    "FEW",
    "Bin",
    "Evaluation",
    "Gap",
    "Measure",
    "Part",
    "TaskResult",
    "mean_over_runs",
]

FEW: Final = 30
"""A group of people with fewer faces is marked, and left out of gaps."""
CELLS: Final = 40
"""Cells on a side of the table of true against predicted values of a scalar column."""


def _none_as_nan(value: object) -> object:
    return NAN if value is None else value


Number = Annotated[float, BeforeValidator(_none_as_nan)]
"""A float whose NaN, which means undefined, is written to JSON as null and read back."""


class _Strict(BaseModel):
    # A key that is not known belongs to another version, and must not be dropped in silence.
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Measure(_Strict):
    """A measured value with its 95 % bootstrap interval.

    Attributes:
        value: NaN where it is undefined.
        low: Lower end of the interval; NaN without draws in which the measure is defined.
        high: Upper end, likewise.
        faces: Annotated faces that it rests on; of a class, the faces of that class.
    """

    value: Number
    low: Number
    high: Number
    faces: int


class Bin(_Strict):
    """One bin of the reliability diagram.

    Attributes:
        faces: Faces whose top probability lies in the bin.
        confidence: Their mean top probability; NaN for an empty bin.
        accuracy: The share of them that was classified correctly; NaN for an empty bin.
    """

    faces: int
    confidence: Number
    accuracy: Number


class TaskResult(_Strict):
    """The measures of one task.

    Attributes:
        task: Key of the task in `mien.tasks.TASKS`.
        names: Its classes, units or columns (K).
        low: Lowest label of the task.
        high: Highest label of the task.
        graded: An ``any_of`` task with labels between 0 and 1, judged by correlation.
        faces: Annotated faces.
        groups: Groups of faces, such as videos, that the intervals were drawn over.
        measures: Measures of the whole task, by key.
        by_name: Measures of every class, unit or column, by its name and their key; ``each`` in
            JSON.
        confusion: (K, K) faces, true class by row; empty unless the task is ``one_of``.
        reliability: Bins (0, 1/15], (1/15, 2/15], …; empty unless the task is ``one_of``.
        density: For each column of a ``scalar`` task (40, 40) faces, true value by row, predicted
            value by column, both in equal steps from `low` to `high`.
    """

    task: str
    kind: Kind
    names: tuple[str, ...]
    low: float
    high: float
    graded: bool
    faces: int
    groups: int
    measures: dict[str, Measure]
    # The name in JSON is older than the name here, and reports that were written keep it.
    by_name: dict[str, dict[str, Measure]] = Field(
        validation_alias="each", serialization_alias="each"
    )
    confusion: tuple[tuple[int, ...], ...] = ()
    reliability: tuple[Bin, ...] = ()
    density: dict[str, tuple[tuple[int, ...], ...]] = {}

    @property
    def family(self) -> str:
        """The family of the task, as of `mien.tasks.Task`."""
        return self.task.partition(".")[0]


class Part(_Strict):
    """The headline measures (``expr.accuracy``, …) of one group of people."""

    name: str
    measures: dict[str, Measure]

    @property
    def has_few_faces(self) -> bool:
        """Whether any measure rests on fewer than `FEW` faces."""
        return any(measure.faces < FEW for measure in self.measures.values())


class Gap(_Strict):
    """The difference between the best and the worst group of at least `FEW` faces.

    Chance alone makes it larger than 0.
    """

    best: str
    worst: str
    difference: float


class Evaluation(_Strict):
    """What `mien.evaluation.judge.judge` measured.

    Attributes:
        faces: Rows of the label table.
        intervals_over: What the bootstrap draws, such as ``video`` or ``subject, else face``.
        rounds: Draws of the bootstrap.
        seed: Seed of the bootstrap.
        tasks: The tasks that have labels.
        protocols: Scores of challenges, by protocol.
        by: The column that splits the faces into groups of people.
        parts: The groups of people.
        gaps: Gaps between them, by headline measure.
        notes: What a reader must know.
    """

    faces: int
    intervals_over: str
    rounds: int
    seed: int
    tasks: tuple[TaskResult, ...]
    protocols: dict[str, Measure]
    by: str | None = None
    parts: tuple[Part, ...] = ()
    gaps: dict[str, Gap] = {}
    notes: tuple[str, ...] = ()

    @property
    def compared(self) -> tuple[str, ...]:
        """Measures by which groups of people are compared, in task order; empty without `by`."""
        if not self.by:
            return ()
        names: list[str] = []
        for result in self.tasks:
            for measure in headlines(result.kind, result.graded):
                names.append(f"{result.family}.{measure}")
        return tuple(names)


def mean_over_runs(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """Mean and standard deviation of every measure over runs that differ in their seed.

    Args:
        evaluations: At least one run of one set-up.

    Returns:
        Columns task, name, measure, mean, sd (of n - 1; NaN with fewer than two runs) and runs, the
        number of runs in which the measure is defined.

    Raises:
        DataError: Without a run, or where runs judged different tasks.
    """
    # A mean over runs of which some lack a task would compare other things.
    judged: set[tuple[str, ...]] = set()
    for run in evaluations:
        judged.add(tuple(result.task for result in run.tasks))
    if len(judged) != 1:
        raise DataError(
            "runs can be put together when each judged the same tasks, and there must be at least "
            "one; give evaluations of one set-up"
        )
    rows: list[_Row] = []
    for run in evaluations:
        for result in run.tasks:
            rows += _rows(result.task, "", result.measures)
            for name, measures in result.by_name.items():
                rows += _rows(result.task, name, measures)
        rows += _rows("protocol", "", run.protocols)
    # pandas leaves NaN out, so a measure that is undefined in one run is averaged over the others.
    keys = ["task", "name", "measure"]
    table = pd.DataFrame(rows, columns=[*keys, "value"])
    values = table.groupby(keys, sort=False)["value"]
    return values.agg(mean="mean", sd="std", runs="count").reset_index()


_Row = tuple[str, str, str, float]


def _rows(task: str, name: str, measures: Mapping[str, Measure]) -> list[_Row]:
    rows: list[_Row] = []
    for key, measure in measures.items():
        rows.append((task, name, key, measure.value))
    return rows
