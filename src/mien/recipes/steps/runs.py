"""What training steps share: where their runs are, their progress, and the splits they score."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
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
from mien.train.settings.training import Settings, read_settings, write_settings

__all__ = [
    "EXPORTED",
    "GENERATION",
    "SET_BY_STEPS",
    "ChangeSettings",
    "Quiet",
    "Runs",
    "SeedScores",
    "exported_run",
    "keep_exported_run",
    "keep_runs",
    "mixture",
    "move_runs",
    "rows_in",
    "run_settings",
    "runs_in",
    "runs_of",
    "unchanged",
]

EXPORTED: Final = "bundle"
"""The folder, in a step's own, of the bundle that it exports."""
GENERATION: Final = 100_000
"""Between the seeds of teacher and student, so that they do not start from the same weights."""

SET_BY_STEPS: Final = {"name", "data", "tasks", "teachers"}
"""Settings of mien train that follow from a step's own."""

_RUNS: Final = "runs.json"
_EXPORTED_RUN: Final = "run.txt"
"""Says, beside the bundle, which run it was made of, since a bundle cannot be trained on."""
_SPLITS: Final = ("val", "test")

Runs = Mapping[int, Sequence[Path]]
"""By seed, the run folders whose networks answer for it."""
ChangeSettings = Callable[[Settings, str], Settings]
"""Changes the settings of a run, given the name of its folder in the step's own."""


def unchanged(settings: Settings, folder: str) -> Settings:
    """Leave the settings of a run as they are, where a step trains for itself.

    Args:
        settings: Of the run.
        folder: Name of its folder in the step's own.

    Returns:
        The same settings.
    """
    return settings


def keep_runs(folder: Path, runs: Runs) -> None:
    """Record which runs in a step's folder answer for which seed.

    Args:
        folder: Of the step.
        runs: Inside that folder.

    Raises:
        OutputError: It cannot be written.
    """
    # Relative paths, so that the folder of a recipe can be moved.
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
    # Every step that trains writes this file, even for a single run.
    if not (home / _RUNS).is_file():
        raise DataError(
            f"{context.name}: the step {step} trains no network; name one of kind train or heads"
        )
    return runs_in(home, seed)


def runs_in(folder: Path, seed: int) -> list[Path]:
    """Return the runs that `keep_runs` recorded in a folder.

    Args:
        folder: The folder.
        seed: One of the recipe's.

    Returns:
        Run folders that answer for the seed.
    """
    by_seed = json.loads((folder / _RUNS).read_text(encoding="utf-8"))
    return [folder / name for name in by_seed[str(seed)]]


def move_runs(folder: Path, moves: Mapping[str, str]) -> None:
    """Let the runs in a step's folder name the new places of what they were made from.

    Args:
        folder: Of the step.
        moves: Former paths, each with the present one.

    Raises:
        DataError: The settings of a run are damaged.
        OutputError: They cannot be written.
    """
    for path in sorted(folder.rglob("settings.yaml")):
        settings = read_settings(path).model_dump(mode="json")
        moved = Settings.model_validate(_moved(settings, moves))
        atomic_write(path, write_settings(moved).encode())


def _moved(settings: Any, moves: Mapping[str, str]) -> Any:
    """Settings with every path at its new place."""
    if isinstance(settings, dict):
        return {key: _moved(value, moves) for key, value in settings.items()}
    if isinstance(settings, list):
        return [_moved(value, moves) for value in settings]
    if not isinstance(settings, str):
        return settings
    # The longest one, since data may lie in the folder of the run.
    for before in sorted(moves, key=len, reverse=True):
        if settings == before or settings.startswith(before + os.sep):
            return moves[before] + settings[len(before) :]
    return settings


def keep_exported_run(folder: Path, run: Path) -> None:
    """Record which run the bundle in a step's folder was made of.

    Args:
        folder: Of the step.
        run: The run's folder.

    Raises:
        OutputError: It cannot be written.
    """
    # Relative, as in `keep_runs`.
    relative = Path(os.path.relpath(run, folder)).as_posix()
    atomic_write(folder / _EXPORTED_RUN, f"{relative}\n".encode())


def exported_run(bundle: Path) -> Path | None:
    """Find the run that a step's bundle was made of.

    Args:
        bundle: The bundle's folder, where the step left it.

    Returns:
        The run's folder; None for any other bundle, or where the run is gone.
    """
    try:
        run = bundle.parent / (bundle.parent / _EXPORTED_RUN).read_text(encoding="utf-8").strip()
    # Beside a bundle that lies elsewhere there may be anything of that name, or nothing.
    except (OSError, ValueError):
        return None
    run = Path(os.path.abspath(run))
    return run if (run / "best.pt").is_file() else None


def run_settings(
    given: Mapping[str, Any],
    name: str,
    data: Sequence[Any],
    *,
    tasks: Sequence[str] = (),
    seed: int,
    start: Path | None,
    teachers: Sequence[Path] = (),
) -> Settings:
    """Make the settings of a run on pictures, as mien train reads them.

    Args:
        given: What the recipe says; none of `SET_BY_STEPS`.
        name: Of the run.
        data: Data sets, or their settings.
        tasks: Keys; none where the data set names what there is to learn.
        seed: Of the run.
        start: Weights that the backbone starts from; None leaves what `given` says.
        teachers: Runs that teach it.

    Returns:
        The settings.

    Raises:
        ValueError: `given` holds what the step itself says.
        ValueError: They do not go together.
    """
    doubled = set(given) & SET_BY_STEPS
    if doubled:
        keys = ", ".join(sorted(doubled))
        raise ValueError(f"settings: the step itself says {keys}; leave it out")
    network = dict(given.get("network", {}))
    if start is not None:
        network["start"] = start
    if Path(str(network.get("start"))).suffix:
        # A resumed run compares paths, and would take this one to be within its own folder.
        network["start"] = os.path.abspath(network["start"])
    # Pictures are read as the data set has them, unless the settings ask for points.
    fitting = {"find_points": False, **given.get("fit", {}), "seed": seed}
    content = {
        **given,
        "name": name,
        "data": data,
        "tasks": tasks,
        "network": network,
        "fit": fitting,
        "teachers": tuple(teachers),
    }
    return Settings.model_validate(content)


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


def rows_in(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of a split.

    Args:
        table: A label table.
        split: Its name.

    Returns:
        The rows, numbered from 0.
    """
    return table[table["split"] == split].reset_index(drop=True)


class SeedScores:
    """Collects the scores of a step seed by seed, for the splits val and test that have rows.

    Attributes:
        rows: Rows of the label table by split, numbered from 0.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        """Start without scores.

        Args:
            table: The label table whose rows are scored.
        """
        self.rows: dict[str, pd.DataFrame] = {}
        # A set may have no split test, or a challenge keep it.
        for split in _SPLITS:
            rows = rows_in(table, split)
            if len(rows):
                self.rows[split] = rows
        # By split and family, in order of the seeds.
        self._scores: dict[str, dict[str, list[Floats]]] = {}
        for split in self.rows:
            self._scores[split] = {}

    def add(self, split: str, scores: Mapping[str, Floats]) -> None:
        """Add the scores of one more seed.

        Args:
            split: Whose rows were scored.
            scores: Of these rows (N, K), by task family; families may be added one by one.
        """
        by_family = self._scores[split]
        for family, values in scores.items():
            by_family.setdefault(family, []).append(values)

    def save(self, context: StepContext, tasks: Sequence[Task]) -> None:
        """Save what the step predicts.

        Args:
            context: Of the step.
            tasks: All that were added.

        Raises:
            OutputError: They cannot be written.
        """
        parts = {}
        for split, by_family in self._scores.items():
            values = {}
            for family, seeds in by_family.items():
                # The second axis holds versions of tuning; nothing was tuned here.
                values[family] = np.stack(seeds)[:, None]
            parts[split] = part_of(self.rows[split], values, tasks)
        Predicted(tuple(tasks), parts).save(context.folder)


class Quiet(Progress):
    """Shows a run's steps on the recipe's progress bar, and its notes among the recipe's notes."""

    def __init__(self, context: StepContext, what: str) -> None:
        """Name the run for the progress bar.

        Args:
            context: Of the step that trains.
            what: The run, for people.
        """
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
