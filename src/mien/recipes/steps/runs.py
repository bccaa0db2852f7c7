"""What the steps that train share: where their runs lie, their progress on the recipe's bar, and the splits they are asked about."""

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
"""Where in its folder a step puts the bundle that it exports."""

GENERATION: Final = 100_000
"""Between the seeds of a teacher and its student, so that one does not start where the other did."""

_RUNS: Final = "runs.json"
_SPLITS: Final = ("val", "test")

Runs = Mapping[int, Sequence[Path]]
"""By seed, the folders of the runs that answer for it."""


def keep_runs(folder: Path, runs: Runs) -> None:
    """Remember which runs in a step's folder answer for it."""
    told = {
        seed: [path.relative_to(folder).as_posix() for path in paths]
        for seed, paths in runs.items()
    }
    atomic_write(folder / _RUNS, json.dumps(told, indent=2).encode())


def runs_of(place: StepContext, step: str, seed: int) -> list[Path]:
    """The runs of an earlier step that answer for a seed; raises DataError where it trains nothing."""
    home = place.earlier[step]
    if not (home / _RUNS).is_file():
        raise DataError(
            f"{place.name}: the step {step} trains no network; name one of kind train or heads"
        )
    return [
        home / path for path in json.loads((home / _RUNS).read_text(encoding="utf-8"))[str(seed)]
    ]


def mixture(specs: Sequence[Set], mix: Mixing | None) -> list[Set]:
    """The sets as they are, or as one."""
    return (
        list(specs)
        if mix is None
        else [
            CombinedDataset.model_validate({"set": "mix", "of": tuple(specs), **mix.model_dump()})
        ]
    )


def present(table: pd.DataFrame) -> list[str]:
    """Those of the splits val and test that a label table has rows in."""
    return [split for split in _SPLITS if (table["split"] == split).any()]


def rows_in(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of a split, numbered anew."""
    return table[table["split"] == split].reset_index(drop=True)


def save_scores(
    place: StepContext,
    table: pd.DataFrame,
    tasks: Sequence[Task],
    found: Mapping[str, Mapping[str, Sequence[Floats]]],
) -> None:
    """Save what a step predicts. found: by split and family, for each seed the scores (N, K) of that split's rows of the table."""
    parts = {
        split: part_of(
            rows_in(table, split),
            {family: np.stack(seeds)[:, None] for family, seeds in values.items()},
            tasks,
        )
        for split, values in found.items()
    }
    Predicted(tuple(tasks), parts).save(place.folder)


class Quiet(Progress):
    """A run's steps on the recipe's bar, and what it notes among the recipe's notes."""

    def __init__(self, place: StepContext, what: str) -> None:
        self._ahead, self._steps, self._note = place.ahead(what), 0, place.note

    @override
    def begin(self, steps: int, done: int, facts: dict[str, Any]) -> None:
        self._steps = steps

    @override
    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        self._ahead(done, self._steps)

    @override
    def note(self, line: str) -> None:
        self._note(line)
