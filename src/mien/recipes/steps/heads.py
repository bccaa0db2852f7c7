"""The step that trains heads on cached features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, cast

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from typing_extensions import override

from mien.data.mixing import Mixing
from mien.data.registry import Set, load_set
from mien.recipes.steps.base import DATA, STEP, Step, StepContext
from mien.recipes.steps.features import Features
from mien.recipes.steps.runs import (
    GENERATION,
    ChangeSettings,
    Quiet,
    SeedScores,
    keep_runs,
    mixture,
    runs_of,
    unchanged,
)
from mien.tasks import Floats, Task, task
from mien.temporal.external import report_fit
from mien.train.loop import fit
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import inputs_of, network_of, raw_scores
from mien.train.settings.head_run import HeadRun, family_of

__all__ = ["Heads"]


class Heads(Step):
    """Train heads on cached features, and score split val, and test if there is one.

    Attributes:
        features: The step that cached them.
        data: Key of the labels, of the same pictures.
        mix: What is done to their labels first, see `mien.data.mixing`.
        teachers: Earlier steps of this kind with as many `runs`, each of which teaches its
            counterpart, seed by seed.
        runs: Networks; each is trained once per seed.
    """

    do: Literal["heads"]
    features: Annotated[str, STEP]
    data: Annotated[str, DATA]
    mix: Mixing | None = None
    teachers: Annotated[tuple[str, ...], STEP] = ()
    runs: Annotated[tuple[HeadRun, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_task_once(self) -> Self:
        families: list[str] = []
        for run in self.runs:
            families += map(family_of, run.tasks)
        # Scores are kept by family, so a second one would replace the first.
        if len(set(families)) < len(families):
            raise ValueError(f"runs: one family is learned twice: {', '.join(families)}")
        return self

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        if not isinstance(earlier[self.features], Features):
            raise ValueError(
                f"features: {self.features} caches no features; name a step of kind features"
            )
        for name in self.teachers:
            step = earlier[name]
            if not isinstance(step, Heads) or step.learned != self.learned:
                raise ValueError(
                    f"teachers: {name} trains no heads of the same tasks, run by run; "
                    "name a step of kind heads"
                )

    @override
    def check_data(self, name: str, steps: Mapping[str, Step], data: Mapping[str, Set]) -> None:
        """Refuse external features that are not of these films."""
        if not any(run.external for run in self.runs):
            return
        table = load_set(data[self.data], ())
        for run in self.runs:
            report_fit(list(map(Path, run.external)), table, run.hold)

    @property
    def learned(self) -> list[tuple[str, ...]]:
        """Keys of the tasks of each run."""
        return [run.tasks for run in self.runs]

    def age(self, steps: Mapping[str, Step]) -> int:
        """Count the generations of teachers before this step.

        Args:
            steps: Settings of all steps, by name.

        Returns:
            Their number; 0 without teachers.
        """
        ages = [0]
        # Each generation has seeds of its own, or a student would start as its teacher did.
        for name in self.teachers:
            ages.append(1 + cast(Heads, steps[name]).age(steps))
        return max(ages)

    @override
    def run(self, context: StepContext) -> None:
        scores = SeedScores(self.judged_table(context))
        runs: dict[int, list[Path]] = {}
        for seed in context.seeds:
            runs[seed] = self.train_seed(context, seed)
            for split, rows in scores.rows.items():
                scores.add(split, self.score_runs(context, runs[seed], rows, split))
        keep_runs(context.folder, runs)
        scores.save(context, self.learned_tasks)

    @property
    def learned_tasks(self) -> list[Task]:
        """What all networks learn, in output order."""
        tasks: list[Task] = []
        for keys in self.learned:
            tasks += map(task, keys)
        return tasks

    def judged_table(self, context: StepContext) -> pd.DataFrame:
        """Load the label table of the faces that are scored.

        Args:
            context: Of this step, or of one that repeats it.

        Returns:
            The table, with all splits.
        """
        return load_set(context.set(self.data), self.learned_tasks)

    def train_seed(
        self, context: StepContext, seed: int, change: ChangeSettings = unchanged
    ) -> list[Path]:
        """Train all networks with one seed.

        Args:
            context: Where to train; of this step, or of one that repeats it.
            seed: One of the recipe's.
            change: Changes the settings of each run.

        Returns:
            A run for each network.
        """
        return [self._train(context, number, seed, change) for number in range(len(self.runs))]

    def score_runs(
        self, context: StepContext, runs: Sequence[Path], rows: pd.DataFrame, split: str
    ) -> dict[str, Floats]:
        """Score faces with the networks of one seed.

        Args:
            context: Of the step that asks.
            runs: From `train_seed`; of several sets of networks, the scores are averaged.
            rows: Of a label table, N of them.
            split: Their split.

        Returns:
            Scores (N, K) by family.
        """
        by_family: dict[str, list[Floats]] = {}
        for number, run in enumerate(runs):
            scores = self._score(number % len(self.runs), RunFolder(run), rows)
            for family, values in scores.items():
                by_family.setdefault(family, []).append(values)
        return {family: np.mean(values, axis=0) for family, values in by_family.items()}

    def _train(self, context: StepContext, number: int, seed: int, change: ChangeSettings) -> Path:
        """Train one of the networks with one seed."""
        head_run = self.runs[number]
        source = cast(Features, context.steps[self.features])
        teachers = [runs_of(context, name, seed)[number] for name in self.teachers]
        data = mixture([context.set(self.data)], self.mix)
        run_seed = seed + GENERATION * self.age(context.steps)
        settings = head_run.settings(
            # Names of runs have hyphens, those of steps underscores.
            name=context.name.replace("_", "-"),
            data=data,
            features=source.settings(context, self.features, seed),
            seed=run_seed,
            teachers=teachers,
        )
        folder = f"run-{number}-{head_run.families}-seed-{seed}"
        progress = Quiet(context, f"{head_run.families}, seed {seed}")
        return fit(change(settings, folder), context.folder / folder, progress).folder

    def _score(self, number: int, run: RunFolder, rows: pd.DataFrame) -> dict[str, Floats]:
        """Scores (N, K) of some rows, by family."""
        tasks = list(map(task, self.runs[number].tasks))
        inputs = inputs_of(rows, tasks, run.settings)
        raw, _ = raw_scores(network_of(run), inputs, batch=4096, workers=0)
        scores = {}
        for learned in tasks:
            family = learned.family
            scores[family] = learned.decode(raw[family])
        return scores
