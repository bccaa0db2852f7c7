"""Steps that use networks as they are: cache what they say, train heads on it, and ask for scores."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self, cast

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import override

from mien.bundles.store import load
from mien.data.mixing import Mixing
from mien.data.registry import Set, load_set
from mien.errors import DataError
from mien.evaluation.judge import evaluate_bundle
from mien.faces.prepare import Pixels
from mien.recipes.predictions import Predicted, part_of
from mien.recipes.steps.base import BUNDLE, DATA, STEP, Step, StepContext
from mien.recipes.steps.runs import (
    EXPORTED,
    GENERATION,
    Quiet,
    keep_runs,
    mixture,
    present,
    rows_in,
    runs_of,
    save_scores,
)
from mien.recipes.steps.training import Train
from mien.tasks import Floats, Task, task
from mien.train.bundle.feature_extractor import freeze_bundle, freeze_run
from mien.train.features import root_of
from mien.train.inputs.feature_cache import FeatureCache, build
from mien.train.loop import fit
from mien.train.open_model import ENGINE
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import inputs_of, network_of, raw_scores
from mien.train.settings.features import FeatureSettings, WindowSettings
from mien.train.settings.losses import LossSettings
from mien.train.settings.network import HeadSettings, NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

__all__ = ["Features", "HeadRun", "Heads", "Score"]

_FROZEN: Final = "frozen"
"""Where in its folder the step puts a bundle that it makes itself."""


class Features(Step):
    """Compute what a network says of every picture of a data set, once; which network, one of these says:

    data: its key. bundle: a name or folder, which must expose its features. exported: a step that made a bundle. of: a step of kind train;
    each seed's own network, features alone. hidden: in their place what the heads' last layers read, one head after the other (the unified
    model of ABAW2). network, pixels: where none of these is named, a backbone as it starts.
    """

    do: Literal["features"]
    data: Annotated[str, DATA]
    bundle: Annotated[str | None, BUNDLE] = None
    exported: Annotated[str | None, STEP] = None
    network: NetworkSettings | None = None
    pixels: Pixels | None = None
    of: Annotated[str | None, STEP] = None
    hidden: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = [one for one in (self.bundle, self.exported, self.of) if one is not None]
        if len(named) > 1 or (not named and (self.network is None or self.pixels is None)):
            raise ValueError("name one of bundle, exported and of, or give network and pixels")
        if self.hidden and self.of is None:
            raise ValueError(
                "hidden: only of a step that trains heads; name it by `of`, or leave hidden out"
            )
        return self

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        if self.of is None:
            return
        step = earlier[self.of]
        if not isinstance(step, Train):
            raise ValueError(
                f"of: {self.of} trains no network on pictures; name a step of kind train"
            )
        if step.students > 1:
            raise ValueError(
                f"of: {self.of} has {step.students} students, and features are those of one; give it one"
            )

    @override
    def run(self, place: StepContext) -> None:
        spec = place.set(self.data)
        table = load_set(spec, ())
        for line in table.attrs.get("notes", ()):
            place.note(line)
        for seed in place.seeds if self.of else place.seeds[:1]:
            home = self.home(place.folder, seed)
            model = load(self._made(place, home, seed), ENGINE, os.cpu_count() or 1)
            told = f"pictures, seed {seed}" if self.of else "pictures"
            build(model, table, home, root=root_of((spec,)), batch=256, progress=place.ahead(told))

    def home(self, folder: Path, seed: int) -> Path:
        """Where the features lie that serve a seed."""
        return folder / f"seed-{seed}" if self.of else folder

    def _made(self, place: StepContext, home: Path, seed: int) -> str:
        """The bundle that reads the pictures, made first where it is to be made here."""
        if self.of is not None:
            [run] = runs_of(place, self.of, seed)
            freeze_run(RunFolder(run), home / _FROZEN, hidden=self.hidden)
        elif self.bundle is None and self.exported is None:
            assert self.network is not None and self.pixels is not None  # noqa: PT018
            freeze_bundle(self.network, self.pixels, home / _FROZEN, self.network.backbone)
        return self.source(place, home)

    def source(self, place: StepContext, home: Path) -> str:
        """The bundle: as named, of a step, or made here."""
        exported = None if self.exported is None else str(place.earlier[self.exported] / EXPORTED)
        return self.bundle or exported or str(home / _FROZEN)

    def settings(self, place: StepContext, name: str, seed: int) -> FeatureSettings:
        """How heads of a later step find this cache. name: what this step is called."""
        home = self.home(place.earlier[name], seed)
        return FeatureSettings(
            bundle=self.source(place, home), cache=home, images=root_of((place.set(self.data),))
        )


class HeadRun(BaseModel):
    """One network of heads on cached features.

    tasks: what it learns, together. parts, within, window: what of the cache it reads, see `FeatureSettings`. heads, losses: by task
    family. optim, fit: as in mien train.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    parts: Literal["features", "raw", "both"] = "both"
    within: tuple[int, int] | None = None
    window: WindowSettings | None = None
    heads: dict[str, HeadSettings] = {}
    losses: dict[str, LossSettings] = {}
    optim: OptimSettings = OptimSettings()
    fit: FitSettings = FitSettings()

    def settings(
        self,
        name: str,
        data: Sequence[Set],
        features: FeatureSettings,
        seed: int,
        teachers: Sequence[Path],
    ) -> Settings:
        """As mien train reads them."""
        read = features.model_copy(
            update={"parts": self.parts, "within": self.within, "window": self.window}
        )
        return Settings(
            name=name, data=tuple(data), tasks=self.tasks, features=read, network=NetworkSettings(backbone="features", heads=self.heads),
            losses=self.losses, optim=self.optim, teachers=tuple(teachers),
            fit=self.fit.model_copy(update={"seed": seed, "find_points": False}),
        )  # fmt: skip

    @property
    def families(self) -> str:
        """What it learns, for people."""
        return "+".join(key.partition(".")[0] for key in self.tasks)


class Heads(Step):
    """Train heads on cached features, a network for each of `runs` and each seed, and score split val, and test where there is one.

    features: the step that cached them. data: the key of the labels; of the same pictures. mix: what is done to their labels first, see
    `mien.data.mixing`. teachers: earlier steps of this kind with as many `runs`, each of which teaches its like, seed by seed.
    """

    do: Literal["heads"]
    features: Annotated[str, STEP]
    data: Annotated[str, DATA]
    mix: Mixing | None = None
    teachers: Annotated[tuple[str, ...], STEP] = ()
    runs: Annotated[tuple[HeadRun, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_task_once(self) -> Self:
        keys = [key.partition(".")[0] for run in self.runs for key in run.tasks]
        if len(set(keys)) < len(keys):
            raise ValueError(f"runs: one family is learned twice: {', '.join(keys)}")
        return self

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        if not isinstance(earlier[self.features], Features):
            raise ValueError(
                f"features: {self.features} caches no features; name a step of kind features"
            )
        for name in self.teachers:
            step = earlier[name]
            if not isinstance(step, Heads) or [run.tasks for run in step.runs] != [
                run.tasks for run in self.runs
            ]:
                raise ValueError(
                    f"teachers: {name} trains no heads of the same tasks, run by run; name a step of kind heads"
                )

    def age(self, steps: Mapping[str, Step]) -> int:
        """How many generations of teachers came before."""
        return max((1 + cast(Heads, steps[name]).age(steps) for name in self.teachers), default=0)

    @override
    def run(self, place: StepContext) -> None:
        tasks = [task(key) for run in self.runs for key in run.tasks]
        table = load_set(place.set(self.data), tasks)
        found: dict[str, dict[str, list[Floats]]] = {split: {} for split in present(table)}
        runs: dict[int, list[Path]] = {}
        for seed in place.seeds:
            for number, run in enumerate(self.runs):
                folder = self._trained(place, number, seed)
                runs.setdefault(seed, []).append(folder.folder)
                net, named = network_of(folder), [task(key) for key in run.tasks]
                for split, values in found.items():
                    raw, _ = raw_scores(
                        net,
                        inputs_of(rows_in(table, split), named, folder.settings),
                        batch=4096,
                        workers=0,
                    )
                    for each in named:
                        values.setdefault(each.family, []).append(each.decode(raw[each.family]))
        keep_runs(place.folder, runs)
        save_scores(place, table, tasks, found)

    def _trained(self, place: StepContext, number: int, seed: int) -> RunFolder:
        run, source = self.runs[number], cast(Features, place.steps[self.features])
        teachers = [runs_of(place, name, seed)[number] for name in self.teachers]
        settings = run.settings(
            place.name.replace("_", "-"), mixture([place.set(self.data)], self.mix), source.settings(place, self.features, seed),
            seed + GENERATION * self.age(place.steps), teachers,
        )  # fmt: skip
        return fit(
            settings,
            place.folder / f"run-{number}-{run.families}-seed-{seed}",
            Quiet(place, f"{run.families}, seed {seed}"),
        )


class Score(Step):
    """What a bundle says of split val, and test where there is one, without any training here.

    data: key. bundle: name or folder; or exported: a step that made one. tasks: label sets asked for, matched to the bundle's by name.
    instead: names of ours for which the bundle's name on the right stands in (HSEmotion lets contempt stand in for other). features: a
    step that has cached them; without, the pictures are read.
    """

    do: Literal["score"]
    data: Annotated[str, DATA]
    bundle: Annotated[str | None, BUNDLE] = None
    exported: Annotated[str | None, STEP] = None
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    instead: dict[str, str] = Field(default_factory=dict)
    features: Annotated[str | None, STEP] = None

    @model_validator(mode="after")
    def _one_bundle(self) -> Self:
        if (self.bundle is None) == (self.exported is None):
            raise ValueError("name either bundle or exported")
        return self

    @override
    def run(self, place: StepContext) -> None:
        tasks = [task(key) for key in self.tasks]
        table = load_set(place.set(self.data), tasks)
        parts = {}
        for split in present(table):
            rows = rows_in(table, split)
            own = self._own(place, rows, split)
            parts[split] = part_of(
                rows, {each.family: self._renamed(each, own)[None, None] for each in tasks}, tasks
            )
        Predicted(tuple(tasks), parts).save(place.folder)

    def _own(self, place: StepContext, rows: pd.DataFrame, split: str) -> dict[Task, Floats]:
        """The bundle's scores by its own tasks."""
        model = load(self.bundle or str(place.earlier[cast(str, self.exported)] / EXPORTED), ENGINE)
        if self.features is None:
            scored = evaluate_bundle(model, rows, progress=place.ahead(f"scores {split}"))
            return {each: scored.scores[each.family] for each in model.tasks}
        cache = FeatureCache(
            place.earlier[self.features], model.card, root=root_of((place.set(self.data),))
        )
        kept = cache.rows(rows)
        return {
            each: each.decode(
                np.asarray(cache.raw[each.family][kept])
                / model.card.temperature.get(each.family, 1.0)
            )
            for each in model.tasks
        }

    def _renamed(self, wanted: Task, own: dict[Task, Floats]) -> Floats:
        source = next((each for each in own if each.family == wanted.family), None)
        if source is None:
            raise DataError(
                f"{self.bundle or self.exported} does not predict {wanted.family}; it predicts {', '.join(each.key for each in own)}"
            )
        like = Task(
            wanted.key,
            tuple(self.instead.get(name, name) for name in wanted.names),
            wanted.kind,
            wanted.low,
            wanted.high,
        )
        scores = own[source][:, like.column_index(source.names)]
        return (
            scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)
            if wanted.kind == "one_of"
            else scores
        )
