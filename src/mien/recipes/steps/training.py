"""The step that trains networks on pictures: alone or with teachers, once or over generations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, cast

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from typing_extensions import override

from mien.data.mixing import Mixing
from mien.data.registry import Set, load_set
from mien.data.sets.lsd import Lsd
from mien.errors import DataError
from mien.evaluation.judge import evaluate_bundle
from mien.recipes.steps.base import DATA, STEP, Step, StepContext
from mien.recipes.steps.data_files import PICTURES
from mien.recipes.steps.identity import Identify, start_from
from mien.recipes.steps.runs import (
    GENERATION,
    ChangeSettings,
    Quiet,
    SeedScores,
    keep_runs,
    mixture,
    run_settings,
    runs_of,
    unchanged,
)
from mien.tasks import Floats, Task, task
from mien.train.loop import fit
from mien.train.networks.checkpoints.fitting import check_whole
from mien.train.networks.encoders.contract import fill_pixels
from mien.train.open_model import open_model
from mien.train.settings.training import Settings

__all__ = ["Train"]

_STUDENT: Final = 1_000
"""Between the seeds of students of one seed; no recipe has so many seeds."""


class Train(Step):
    """Train a network on pictures, once per seed, and score split val, and test if there is one.

    Attributes:
        data: Keys of the data sets.
        mix: How they become one, see `mien.data.mixing`; without it, their rows are concatenated.
        judge: Key of the data set whose faces are scored; without it, those of all sets.
        tasks: What it learns.
        after: An earlier step of this kind, or of kind identify, whose weights the backbone starts
            from.
        pictures: An earlier step whose pictures replace the training pictures of a set of kind lsd.
        teachers: Earlier steps of this kind that teach it, each seed by its own; the settings say
            how (`losses.*.distill`).
        generations: Each is taught by the one before, the first by `teachers`.
        students: How many are trained per generation; their scores are averaged.
        once: Train with the first seed only; what it learns serves all seeds.
        settings: The rest, as mien train reads it (network, losses, augment, optim, fit, pixels and
            so on).
    """

    do: Literal["train"]
    data: Annotated[tuple[str, ...], Field(min_length=1), DATA]
    mix: Mixing | None = None
    judge: Annotated[str | None, DATA] = None
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    after: Annotated[str | None, STEP] = None
    pictures: Annotated[str | None, STEP] = None
    teachers: Annotated[tuple[str, ...], STEP] = ()
    generations: Annotated[int, Field(ge=1, le=100)] = 1
    students: Annotated[int, Field(ge=1, le=100)] = 1
    once: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _settings_are_known(self) -> Self:
        if self.generations > 1 and not self.teachers:
            raise ValueError(
                "generations: only a network that was taught can teach the next one in the same "
                "way; name teachers, or leave it out"
            )
        self.provisional_settings()
        return self

    def provisional_settings(self) -> Settings:
        """Return the settings of a run, with stand-ins for what is known only when it runs.

        Returns:
            The settings.
        """
        start = None if self.after is None else Path("best.pt")
        teachers = list(map(Path, self.teachers))
        drawn = {"set": "drawn", "count": 2, "seed": 0, "size": 16}
        return self._settings_for([drawn], "check", 0, start, teachers)

    def _settings_for(
        self,
        data: Sequence[Any],
        name: str,
        seed: int,
        start: Path | None,
        teachers: Sequence[Path],
    ) -> Settings:
        """The settings of one run, as mien train reads them."""
        return run_settings(
            self.settings, name, data, tasks=self.tasks, seed=seed, start=start, teachers=teachers
        )

    @override
    def run(self, context: StepContext) -> None:
        tasks = self.learned_tasks
        scores = SeedScores(self.judged_table(context))
        seeds = context.seeds[:1] if self.once else context.seeds
        runs: dict[int, list[Path]] = {}
        for seed in seeds:
            runs[seed] = self.train_seed(context, seed)
            for split, rows in scores.rows.items():
                scores.add(split, self.score_runs(context, runs[seed], rows, split))
        if self.once:
            runs = dict.fromkeys(context.seeds, runs[context.seeds[0]])
        keep_runs(context.folder, runs)
        scores.save(context, tasks)

    @property
    def learned_tasks(self) -> list[Task]:
        """What it learns, in output order."""
        return [task(key) for key in self.tasks]

    def judged_table(self, context: StepContext) -> pd.DataFrame:
        """Load the label table of the faces that are scored.

        Args:
            context: Of this step, or of one that repeats it.

        Returns:
            The table, with all splits.
        """
        judged = self._mixture(context) if self.judge is None else [context.set(self.judge)]
        tables = [load_set(spec, self.learned_tasks) for spec in judged]
        return pd.concat(tables, ignore_index=True)

    def _mixture(self, context: StepContext) -> list[Set]:
        """The data sets that it learns from."""
        return mixture([self._spec(context, key) for key in self.data], self.mix)

    def score_runs(
        self, context: StepContext, runs: Sequence[Path], rows: pd.DataFrame, split: str
    ) -> dict[str, Floats]:
        """Score faces with the networks of one seed.

        Args:
            context: Of the step that asks.
            runs: From `train_seed`; their scores are averaged.
            rows: Of a label table, N of them.
            split: Their split, for the progress bar.

        Returns:
            Scores (N, K) by family.
        """
        return _score(context, runs, rows, self.learned_tasks, split)

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        for name in self._sources():
            is_start = name == self.after and name not in self.teachers
            if not isinstance(earlier[name], Train | Identify if is_start else Train):
                raise ValueError(f"{name} trains no network on pictures; name a step of kind train")
        # Outputs are distilled task by task.
        for name in self.teachers:
            tasks = cast(Train, earlier[name]).tasks
            if tasks != self.tasks:
                theirs, ours = ", ".join(tasks), ", ".join(self.tasks)
                raise ValueError(
                    f"teachers: {name} learns {theirs}, and this step {ours}; they must be the same"
                )
        start = None if self.after is None else earlier[self.after]
        if isinstance(start, Train) and start.students > 1:
            raise ValueError(
                f"after: {self.after} has {start.students} students, and a network starts from "
                "one; give it one"
            )

    def _sources(self) -> tuple[str, ...]:
        """The steps that this one's networks learn or start from."""
        if self.after is None:
            return self.teachers
        return (*self.teachers, self.after)

    def _ancestors(self, steps: Mapping[str, Step]) -> list[str]:
        """The same with the steps that those learn or start from, and so on; each once."""
        names = list(self._sources())
        # The list grows while it is walked.
        for name in names:
            step = steps[name]
            # All that a step of kind identify refers to are steps that its network starts from.
            sources = step._sources() if isinstance(step, Train) else step.references(STEP)
            names += [source for source in sources if source not in names]
        return names

    def age(self, steps: Mapping[str, Step]) -> int:
        """Count the generations of teachers before the first one here.

        Args:
            steps: Settings of all steps, by name.

        Returns:
            Their number; 0 without teachers.
        """
        ages = [0]
        # Each generation has seeds of its own, or a student would start as its teacher did.
        for name in self.teachers:
            teacher = cast(Train, steps[name])
            ages.append(teacher.age(steps) + teacher.generations)
        return max(ages)

    def train_seed(
        self, context: StepContext, seed: int, change: ChangeSettings = unchanged
    ) -> list[Path]:
        """Train all generations of one seed.

        Args:
            context: Where to train; of this step, or of one that repeats it.
            seed: One of the recipe's.
            change: Changes the settings of each run.

        Returns:
            The runs of the last generation.
        """
        data = self._mixture(context)
        age = self.age(context.steps)
        start = None
        if self.after is not None:
            start = start_from(context, self.after, seed)
        teachers: list[Path] = []
        for teacher in self.teachers:
            teachers += runs_of(context, teacher, seed)
        # Names of runs have hyphens, those of steps underscores.
        run_name = context.name.replace("_", "-")
        # A single run per seed needs no number of its own.
        is_single = self.generations * self.students == 1
        for generation in range(self.generations):
            runs = []
            for student in range(self.students):
                number = generation * self.students + student
                name = f"seed-{seed}" if is_single else f"seed-{seed}-{number}"
                # No two networks of a recipe start from the same weights.
                run_seed = seed + GENERATION * (age + generation) + _STUDENT * student
                settings = self._settings_for(data, run_name, run_seed, start, teachers)
                progress = Quiet(context, name.replace("-", " ", 1))
                run = fit(change(settings, name), context.folder / name, progress)
                runs.append(run.folder)
            # This generation teaches the next.
            teachers = runs
        return teachers

    @override
    def check_data(self, name: str, steps: Mapping[str, Step], data: Mapping[str, Set]) -> None:
        """Refuse starting weights that do not fit, or were trained on pictures scored here.

        The latter is refused of teachers as well.
        """
        if self.after is None:
            settings = self.provisional_settings()
            if isinstance(settings.network.start, Path):
                _check_start(name, settings)
        ancestors = self._ancestors(steps)
        if not ancestors:
            return
        tasks = [task(key) for key in self.tasks]
        keys = self.data if self.judge is None else (self.judge,)
        table = pd.concat([load_set(data[key], tasks) for key in keys], ignore_index=True)
        columns = [column for scored_task in tasks for column in scored_task.columns]
        # Rows of a test list without labels score nothing, so they are no reason to refuse.
        labelled = table[columns].notna().any(axis=1)
        scored = _paths(table[(table["split"] != "train") & labelled])
        for ancestor in ancestors:
            earlier = steps[ancestor]
            # Of a step of kind train, the set that is judged is not learned from.
            keys = earlier.data if isinstance(earlier, Train) else earlier.references(DATA)
            for key in keys:
                rows = load_set(data[key], ())
                seen = scored & _paths(rows[rows["split"] == "train"])
                if seen:
                    raise DataError(
                        f"{name}: the step {ancestor} was trained on {len(seen)} pictures that "
                        "are scored here; split them"
                    )

    def _spec(self, context: StepContext, key: str) -> Set:
        """The settings of a data set, with pictures of an earlier step if that is asked for."""
        spec = context.set(key)
        if self.pictures is None:
            return spec
        if not isinstance(spec, Lsd):
            raise DataError(
                f"{context.name}: only pictures of a data set of kind lsd can be replaced, "
                f"not of {spec.set}"
            )
        return spec.model_copy(update={"train": context.earlier[self.pictures] / PICTURES})


def _check_start(name: str, settings: Settings) -> None:
    """Raises DataError where a file, or published weights, do not fill the backbone."""
    pixels = fill_pixels(settings).filled_pixels
    try:
        check_whole(settings.network, pixels.channels, pixels.size)
    except DataError as error:
        raise DataError(f"{name}: start: {error}") from error


def _paths(table: pd.DataFrame) -> set[str]:
    """Paths of a label table's pictures; pixels in the table have none."""
    return {image for image in table["image"] if isinstance(image, str)}


def _score(
    context: StepContext,
    runs: Sequence[Path],
    rows: pd.DataFrame,
    tasks: Sequence[Task],
    split: str,
) -> dict[str, Floats]:
    """Scores (N, K) of some rows by family, averaged over runs."""
    progress = context.ahead(f"scores {split}")
    by_family: dict[str, list[Floats]] = {learned.family: [] for learned in tasks}
    for run in runs:
        scores = evaluate_bundle(open_model(run), rows, tasks, progress=progress).scores
        for family, of_runs in by_family.items():
            of_runs.append(scores[family])
    return {family: np.mean(of_runs, axis=0) for family, of_runs in by_family.items()}
