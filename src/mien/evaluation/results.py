"""What an evaluation holds: measures with intervals, by task, class and group of people. It writes itself to JSON and back."""

from collections.abc import Sequence
from typing import Annotated, Final

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict

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
    "repeated",
]

FEW: Final = 30
"""A group of people with fewer faces is marked, and left out of gaps."""
CELLS: Final = 40
"""Cells on a side of the table of true against predicted values of a scalar column."""

Number = Annotated[float, BeforeValidator(lambda value: NAN if value is None else value)]
"""A float whose NaN, which means undefined, is written to JSON as null and read back."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measure(_Strict):
    """A measured number, its 95 % bootstrap interval, and the annotated faces it rests on (of a class: the faces of that class)."""

    value: Number
    low: Number
    high: Number
    faces: int


class Bin(_Strict):
    """One bin of the reliability diagram: its faces, their mean top probability, and the share that was right."""

    faces: int
    confidence: Number
    accuracy: Number


class TaskResult(_Strict):
    """One task's measures.

    graded: an ``any_of`` task with labels between 0 and 1, judged by correlation. groups: how many the intervals were drawn over.
    measures: of the whole task. each: of every class, unit or column by name.
    confusion: (K, K) faces, true class by row. reliability: bins (0, 1/15], (1/15, 2/15], ….
    density: of a scalar column, (40, 40) faces, true value by row, predicted by column, both in equal steps from low to high.
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
    each: dict[str, dict[str, Measure]]
    confusion: tuple[tuple[int, ...], ...] = ()
    reliability: tuple[Bin, ...] = ()
    density: dict[str, tuple[tuple[int, ...], ...]] = {}

    @property
    def family(self) -> str:
        """As of `Task`."""
        return self.task.partition(".")[0]


class Part(_Strict):
    """The headline measures (``expr.accuracy``, …) of the faces of one group of people."""

    name: str
    measures: dict[str, Measure]


class Gap(_Strict):
    """How far the best and the worst group of at least 30 faces lie apart. Chance alone makes it larger than 0."""

    best: str
    worst: str
    difference: float


class Evaluation(_Strict):
    """What `judge` found. intervals_over: what was drawn again, such as ``video`` or ``subject, else face``."""

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
        """Names of the measures by which groups of people are compared, in the order of the tasks; empty without `by`."""
        names = [
            f"{result.family}.{measure}"
            for result in self.tasks
            for measure in headlines(result.kind, result.graded)
        ]
        return tuple(names) if self.by else ()


def repeated(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) over runs that differ in their seed: columns task, name, measure, mean, sd, runs.

    runs: in how many the measure is defined; sd is NaN with fewer than two.
    Raises DataError without a run, or where runs judged other tasks.
    """
    if (
        not evaluations
        or len({tuple(result.task for result in one.tasks) for one in evaluations}) > 1
    ):
        raise DataError(
            "runs can be put together when each judged the same tasks, and there must be one at least; give evaluations of one set-up"
        )
    rows = [
        (owner, name, measure, one.value)
        for run in evaluations
        for owner, named in [
            *((r.task, {"": r.measures, **r.each}) for r in run.tasks),
            ("protocol", {"": run.protocols}),
        ]
        for name, table in named.items()
        for measure, one in table.items()
    ]
    keys = ["task", "name", "measure"]
    grouped = pd.DataFrame(rows, columns=[*keys, "value"]).groupby(keys, sort=False)["value"]
    return grouped.agg(mean="mean", sd="std", runs="count").reset_index()
