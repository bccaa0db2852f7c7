"""The step that trains networks on pictures: one set or a mixture, by itself or taught by earlier steps, once or over generations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

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

_STUDENT = 1_000  # between the seeds of students of one seed; no recipe has so many seeds


class Train(Step):
    """Train a network on pictures, once for each seed, and score split val, and test where there is one.

    data: keys of the data sets. mix: how they become one, see `mien.data.mixing`; without, their rows are put one after the other.
    judge: key of the data set whose faces are scored; without, those of all sets.
    tasks: what it learns. after: an earlier step of this kind whose weights the backbone starts from.
    pictures: an earlier step whose pictures stand in for the training pictures of the one data set of kind lsd.
    teachers: earlier steps of this kind that teach it, each seed by its own; the settings say how (`losses.*.distill`).
    generations: of so many, each is taught by the one before, the first by `teachers`. students: so many a generation, averaged.
    once: train with the first seed only; what it learns serves all seeds.
    settings: the rest, as mien train reads it (network, losses, augment, optim, fit, pixels, …).
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
        if strange := set(self.settings) & {"name", "data", "tasks", "teachers"}:
            raise ValueError(
                f"settings: {', '.join(sorted(strange))} is said by the step itself; leave it out"
            )
        if self.generations > 1 and not self.teachers:
            raise ValueError(
                "generations: only what is taught can teach the next one the same way; name teachers, or leave it out"
            )
        start = None if self.after is None else Path("best.pt")
        self._resolved(
            [{"set": "drawn", "count": 2, "seed": 0, "size": 16}],
            "check",
            0,
            start,
            [Path(one) for one in self.teachers],
        )
        return self

    def _resolved(
        self,
        data: Sequence[Any],
        name: str,
        seed: int,
        start: Path | None,
        teachers: Sequence[Path],
    ) -> Settings:
        """As mien train reads them."""
        network = {
            **self.settings.get("network", {}),
            **({} if start is None else {"start": start}),
        }
        fitting = {"find_points": False, **self.settings.get("fit", {}), "seed": seed}
        said = {
            "name": name,
            "data": data,
            "tasks": self.tasks,
            "network": network,
            "fit": fitting,
            "teachers": tuple(teachers),
        }
        return Settings.model_validate({**self.settings, **said})

    @override
    def run(self, place: StepContext) -> None:
        tasks = [task(key) for key in self.tasks]
        data = self._data(place)
        judged = data if self.judge is None else [place.set(self.judge)]
        table = pd.concat([load_set(spec, tasks) for spec in judged], ignore_index=True)
        self._unseen(place, table)
        found: dict[str, dict[str, list[Floats]]] = {split: {} for split in present(table)}
        runs: dict[int, list[Path]] = {}
        for seed in place.seeds[:1] if self.once else place.seeds:
            runs[seed] = self._trained(place, data, seed)
            for split, values in found.items():
                for family, scores in _scores(
                    place, runs[seed], rows_in(table, split), tasks, split
                ).items():
                    values.setdefault(family, []).append(scores)
        keep_runs(
            place.folder, dict.fromkeys(place.seeds, runs[place.seeds[0]]) if self.once else runs
        )
        save_scores(place, table, tasks, found)

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        for name in (*self.teachers, *([self.after] if self.after else ())):
            if not isinstance(earlier[name], Train):
                raise ValueError(f"{name} trains no network on pictures; name a step of kind train")
        for name in self.teachers:
            tasks = cast(Train, earlier[name]).tasks
            if tasks != self.tasks:
                raise ValueError(
                    f"teachers: {name} learns {', '.join(tasks)}, and this step {', '.join(self.tasks)}; the same are needed"
                )
        if self.after is not None and (students := cast(Train, earlier[self.after]).students) > 1:
            raise ValueError(
                f"after: {self.after} has {students} students, and one network starts from one; give it one"
            )

    def age(self, steps: Mapping[str, Step]) -> int:
        """How many generations of teachers came before the first here."""
        above = [cast(Train, steps[name]) for name in self.teachers]
        return max((one.age(steps) + one.generations for one in above), default=0)

    def _trained(self, place: StepContext, data: Sequence[Set], seed: int) -> list[Path]:
        """The runs of the last generation."""
        age = self.age(place.steps)
        start = None if self.after is None else runs_of(place, self.after, seed)[0] / "best.pt"
        teachers = [run for one in self.teachers for run in runs_of(place, one, seed)]
        for generation in range(self.generations):
            runs = []
            for student in range(self.students):
                number = generation * self.students + student
                name = f"seed-{seed}" + (
                    f"-{number}" if self.generations * self.students > 1 else ""
                )
                own = seed + GENERATION * (age + generation) + _STUDENT * student
                settings = self._resolved(data, place.name.replace("_", "-"), own, start, teachers)
                runs.append(
                    fit(
                        settings, place.folder / name, Quiet(place, name.replace("-", " ", 1))
                    ).folder
                )
            teachers = runs
        return teachers

    def _unseen(self, place: StepContext, table: pd.DataFrame) -> None:
        """Raises DataError where teachers, or what the network starts from, have trained on pictures that are judged here."""
        judged = {
            image
            for image in table.loc[table["split"] != "train", "image"]
            if isinstance(image, str)
        }
        left = [*self.teachers, *([self.after] if self.after else ())]
        for name in left:
            step = place.steps[name]
            assert isinstance(step, Train)
            left += [
                one for one in (*step.teachers, step.after) if one is not None and one not in left
            ]
            for key in step.data:
                own = load_set(place.set(key), ())
                if seen := judged & set(
                    own.loc[
                        (own["split"] == "train") & own["image"].map(lambda x: isinstance(x, str)),
                        "image",
                    ]
                ):
                    raise DataError(
                        f"{place.name}: the step {name} has trained on {len(seen)} pictures that are judged here; split them"
                    )

    def _data(self, place: StepContext) -> list[Set]:
        return mixture([self._spec(place, key) for key in self.data], self.mix)

    def _spec(self, place: StepContext, key: str) -> Set:
        spec = place.set(key)
        if self.pictures is None:
            return spec
        if not isinstance(spec, Lsd):
            raise DataError(
                f"{place.name}: other pictures stand in for those of a data set of kind lsd, not {spec.set}"
            )
        return spec.model_copy(update={"train": place.earlier[self.pictures] / PICTURES})


def _scores(
    place: StepContext, runs: Sequence[Path], rows: pd.DataFrame, tasks: Sequence[Task], split: str
) -> dict[str, Floats]:
    """The mean of what runs say of some rows, by family (N, K)."""
    each = [
        evaluate_bundle(
            open_model(run), rows, tasks, progress=place.ahead(f"scores {split}")
        ).scores
        for run in runs
    ]
    return {one.family: np.mean([scores[one.family] for scores in each], axis=0) for one in tasks}
