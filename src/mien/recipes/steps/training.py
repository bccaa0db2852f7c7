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
from mien.recipes.steps.runs import (
    GENERATION,
    Quiet,
    keep_runs,
    mixture,
    present,
    rows_in,
    runs_of,
    save_scores,
)
from mien.tasks import Floats, Task, task
from mien.train.loop import fit
from mien.train.open_model import open_model
from mien.train.settings.training import Settings

__all__ = ["Train"]

_STUDENT: Final = 1_000
"""Between the seeds of students of one seed; no recipe has so many seeds."""
_SAID_BY_THE_STEP: Final = {"name", "data", "tasks", "teachers"}


class Train(Step):
    """Train a network on pictures, once per seed, and score split val, and test if there is one.

    Attributes:
        data: Keys of the data sets.
        mix: How they become one, see `mien.data.mixing`; without it, their rows are concatenated.
        judge: Key of the data set whose faces are scored; without it, those of all sets.
        tasks: What it learns.
        after: An earlier step of this kind whose weights the backbone starts from.
        pictures: An earlier step whose pictures replace the training pictures of a set of kind lsd.
        teachers: Earlier steps of this kind that teach it, each seed by its own; the settings say how
            (`losses.*.distill`).
        generations: Each is taught by the one before, the first by `teachers`.
        students: How many are trained per generation; their scores are averaged.
        once: Train with the first seed only; what it learns serves all seeds.
        settings: The rest, as mien train reads it (network, losses, augment, optim, fit, pixels, …).
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
        doubled = set(self.settings) & _SAID_BY_THE_STEP
        if doubled:
            keys = ", ".join(sorted(doubled))
            raise ValueError(f"settings: the step itself says {keys}; leave it out")
        if self.generations > 1 and not self.teachers:
            raise ValueError(
                "generations: only a network that was taught can teach the next one in the same way; "
                "name teachers, or leave it out"
            )
        # Settings are checked now, with stand-ins for what is known only when the step runs.
        start = None if self.after is None else Path("best.pt")
        data = [{"set": "drawn", "count": 2, "seed": 0, "size": 16}]
        self._settings_for(data, "check", 0, start, list(map(Path, self.teachers)))
        return self

    def _settings_for(
        self,
        data: Sequence[Any],
        name: str,
        seed: int,
        start: Path | None,
        teachers: Sequence[Path],
    ) -> Settings:
        """The settings of one run, as mien train reads them."""
        network = dict(self.settings.get("network", {}))
        if start is not None:
            network["start"] = start
        fitting = {"find_points": False, **self.settings.get("fit", {}), "seed": seed}
        return Settings.model_validate(
            {
                **self.settings,
                "name": name,
                "data": data,
                "tasks": self.tasks,
                "network": network,
                "fit": fitting,
                "teachers": tuple(teachers),
            }
        )

    @override
    def run(self, context: StepContext) -> None:
        tasks = [task(key) for key in self.tasks]
        data = mixture([self._spec(context, key) for key in self.data], self.mix)
        judged = data if self.judge is None else [context.set(self.judge)]
        table = pd.concat([load_set(spec, tasks) for spec in judged], ignore_index=True)
        self._check_unseen(context, table)
        scores: dict[str, dict[str, list[Floats]]] = {split: {} for split in present(table)}
        runs: dict[int, list[Path]] = {}
        for seed in context.seeds[:1] if self.once else context.seeds:
            runs[seed] = self._train(context, data, seed)
            for split, by_family in scores.items():
                rows = rows_in(table, split)
                for family, values in _score(context, runs[seed], rows, tasks, split).items():
                    by_family.setdefault(family, []).append(values)
        if self.once:
            runs = dict.fromkeys(context.seeds, runs[context.seeds[0]])
        keep_runs(context.folder, runs)
        save_scores(context, table, tasks, scores)

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        for name in self._sources():
            if not isinstance(earlier[name], Train):
                raise ValueError(f"{name} trains no network on pictures; name a step of kind train")
        for name in self.teachers:
            tasks = cast(Train, earlier[name]).tasks
            if tasks != self.tasks:
                theirs, ours = ", ".join(tasks), ", ".join(self.tasks)
                raise ValueError(
                    f"teachers: {name} learns {theirs}, and this step {ours}; they must be the same"
                )
        if self.after is not None:
            students = cast(Train, earlier[self.after]).students
            if students > 1:
                raise ValueError(
                    f"after: {self.after} has {students} students, and a network starts from one; "
                    "give it one"
                )

    def _sources(self) -> tuple[str, ...]:
        """The steps that this one's networks learn or start from."""
        return self.teachers if self.after is None else (*self.teachers, self.after)

    def age(self, steps: Mapping[str, Step]) -> int:
        """Count the generations of teachers before the first one here.

        Args:
            steps: Settings of all steps, by name.

        Returns:
            Their number; 0 without teachers.
        """
        ages = [0]
        for name in self.teachers:
            teacher = cast(Train, steps[name])
            ages.append(teacher.age(steps) + teacher.generations)
        return max(ages)

    def _train(self, context: StepContext, data: Sequence[Set], seed: int) -> list[Path]:
        """Train all generations of one seed; the runs of the last one."""
        age = self.age(context.steps)
        start = None if self.after is None else runs_of(context, self.after, seed)[0] / "best.pt"
        teachers: list[Path] = []
        for teacher in self.teachers:
            teachers += runs_of(context, teacher, seed)
        several = self.generations * self.students > 1
        for generation in range(self.generations):
            runs = []
            for student in range(self.students):
                number = generation * self.students + student
                name = f"seed-{seed}-{number}" if several else f"seed-{seed}"
                run_seed = seed + GENERATION * (age + generation) + _STUDENT * student
                settings = self._settings_for(
                    data, context.name.replace("_", "-"), run_seed, start, teachers
                )
                progress = Quiet(context, name.replace("-", " ", 1))
                runs.append(fit(settings, context.folder / name, progress).folder)
            teachers = runs
        return teachers

    def _check_unseen(self, context: StepContext, table: pd.DataFrame) -> None:
        """Raises DataError if teachers, or the starting weights, were trained on scored pictures."""
        scored = _paths(table[table["split"] != "train"])
        left = list(self._sources())
        # `left` grows while it is walked: teachers have teachers.
        for name in left:
            step = cast(Train, context.steps[name])
            left += [source for source in step._sources() if source not in left]
            for key in step.data:
                rows = load_set(context.set(key), ())
                seen = scored & _paths(rows[rows["split"] == "train"])
                if seen:
                    raise DataError(
                        f"{context.name}: the step {name} was trained on {len(seen)} pictures that "
                        "are scored here; split them"
                    )

    def _spec(self, context: StepContext, key: str) -> Set:
        spec = context.set(key)
        if self.pictures is None:
            return spec
        if not isinstance(spec, Lsd):
            raise DataError(
                f"{context.name}: only pictures of a data set of kind lsd can be replaced, "
                f"not of {spec.set}"
            )
        return spec.model_copy(update={"train": context.earlier[self.pictures] / PICTURES})


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
    scores = []
    for run in runs:
        scores.append(evaluate_bundle(open_model(run), rows, tasks, progress=progress).scores)
    means = {}
    for learned in tasks:
        means[learned.family] = np.mean([of_run[learned.family] for of_run in scores], axis=0)
    return means
