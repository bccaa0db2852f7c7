"""What training steps share: where their runs are, their progress, and the splits they score."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from typing_extensions import override

from mien.data.mixing import Mixing
from mien.data.registry import CombinedDataset, Set
from mien.errors import DataError
from mien.files import atomic_write
from mien.recipes.predictions import Predicted, part_of
from mien.recipes.steps.base import StepContext
from mien.tasks import Floats, Task
from mien.train.loop import Progress

__all__ = [
    "EXPORTED",
    "GENERATION",
    "Quiet",
    "Runs",
    "keep_runs",
    "mixture",
    "present",
    "rows_in",
    "runs_of",
    "save_scores",
]

EXPORTED: Final = "bundle"
"""The folder, in a step's own, of the bundle that it exports."""
GENERATION: Final = 100_000
"""Between the seeds of a teacher and its student, so that they do not start from the same weights."""

_RUNS: Final = "runs.json"
_SPLITS: Final = ("val", "test")

Runs = Mapping[int, Sequence[Path]]
"""By seed, the run folders whose networks answer for it."""


def keep_runs(folder: Path, runs: Runs) -> None:
    """Record which runs in a step's folder answer for which seed.

    Args:
        folder: Of the step.
        runs: Inside that folder.

    Raises:
        OutputError: It cannot be written.
    """
    names = {}
    for seed, paths in runs.items():
        names[seed] = [path.relative_to(folder).as_posix() for path in paths]
    atomic_write(folder / _RUNS, json.dumps(names, indent=2).encode())


def runs_of(context: StepContext, step: str, seed: int) -> list[Path]:
    """Return the runs of an earlier step that answer for a seed.

    Args:
        context: Of the step that asks.
        step: The earlier step's name.
        seed: One of the recipe's.

    Returns:
        Run folders.

    Raises:
        DataError: That step trains nothing.
    """
    home = context.earlier[step]
    if not (home / _RUNS).is_file():
        raise DataError(
            f"{context.name}: the step {step} trains no network; name one of kind train or heads"
        )
    names = json.loads((home / _RUNS).read_text(encoding="utf-8"))[str(seed)]
    return [home / name for name in names]


def mixture(specs: Sequence[Set], mix: Mixing | None) -> list[Set]:
    """Combine data sets.

    Args:
        specs: The data sets.
        mix: How they become one.

    Returns:
        One data set, or the given ones if there is no `mix`.
    """
    if mix is None:
        return list(specs)
    settings = {"set": "mix", "of": tuple(specs), **mix.model_dump()}
    return [CombinedDataset.model_validate(settings)]


def present(table: pd.DataFrame) -> list[str]:
    """Return which of the splits val and test have rows.

    Args:
        table: A label table.

    Returns:
        Their names.
    """
    return [split for split in _SPLITS if (table["split"] == split).any()]


def rows_in(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of a split.

    Args:
        table: A label table.
        split: Its name.

    Returns:
        The rows, numbered from 0.
    """
    return table[table["split"] == split].reset_index(drop=True)


def save_scores(
    context: StepContext,
    table: pd.DataFrame,
    tasks: Sequence[Task],
    scores: Mapping[str, Mapping[str, Sequence[Floats]]],
) -> None:
    """Save what a step predicts.

    Args:
        context: Of the step.
        table: The label table whose rows were scored.
        tasks: What was predicted.
        scores: By split and task family, for each seed the scores (N, K) of that split's rows.

    Raises:
        OutputError: They cannot be written.
    """
    parts = {}
    for split, by_family in scores.items():
        # The second axis holds versions of tuning; nothing was tuned here.
        values = {family: np.stack(seeds)[:, None] for family, seeds in by_family.items()}
        parts[split] = part_of(rows_in(table, split), values, tasks)
    Predicted(tuple(tasks), parts).save(context.folder)


class Quiet(Progress):
    """Shows a run's steps on the recipe's progress bar, and its notes among the recipe's notes."""

    def __init__(self, context: StepContext, what: str) -> None:
        self._report = context.ahead(what)
        self._steps = 0
        self._note = context.note

    @override
    def begin(self, steps: int, done: int, facts: dict[str, Any]) -> None:
        self._steps = steps

    @override
    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        self._report(done, self._steps)

    @override
    def note(self, line: str) -> None:
        self._note(line)
