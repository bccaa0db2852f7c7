"""Steps that use networks: cache features, train heads on them, train networks, and ask either for scores."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import override

from mien.bundles.store import load
from mien.data.abaw.sets import Lsd
from mien.data.sets import Set, load_set
from mien.errors import DataError
from mien.faces.prepare import Pixels
from mien.recipes.predicted import Predicted, part_of
from mien.recipes.steps.base import BUNDLE, DATA, STEP, Place, Step
from mien.recipes.steps.files import PICTURES
from mien.tasks import Floats, Task, task
from mien.train.cache import FeatureCache, build
from mien.train.cached import Cached, FeatureSettings
from mien.train.evaluate import evaluate_bundle
from mien.train.features import root_of
from mien.train.fit import Progress, fit
from mien.train.frozen import freeze_bundle
from mien.train.heads import HeadSettings
from mien.train.models import ENGINE, open_model
from mien.train.networks import NetworkSettings
from mien.train.objective import LossSettings
from mien.train.optim import OptimSettings
from mien.train.settings import FitSettings, Settings
from mien.train.trained import network_of, raw_scores

__all__ = ["Features", "HeadRun", "Heads", "Score", "Train"]

_SPLITS: Final = ("val", "test")
_FROZEN: Final = "frozen"
"""Where in its folder the step puts a bundle that it makes itself."""


class Features(Step):
    """Compute what a bundle, or a frozen network, says of every picture of a data set, once.

    data: its key. bundle: a name or folder; it must expose its features. network, pixels: where none is named, a backbone as it starts.
    """

    do: Literal["features"]
    data: Annotated[str, DATA]
    bundle: Annotated[str | None, BUNDLE] = None
    network: NetworkSettings | None = None
    pixels: Pixels | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.bundle is None and (self.network is None or self.pixels is None):
            raise ValueError("name a bundle, or give network and pixels")
        return self

    @override
    def run(self, place: Place) -> None:
        spec = place.set(self.data)
        table = load_set(spec, ())
        for line in table.attrs.get("notes", ()):
            place.note(line)
        if self.bundle is None:
            assert self.network is not None and self.pixels is not None  # noqa: PT018
            freeze_bundle(self.network, self.pixels, place.folder / _FROZEN, self.network.backbone)
        model = load(self.source(place.folder), ENGINE, os.cpu_count() or 1)
        build(model, table, place.folder, root=root_of((spec,)), batch=256, progress=place.ahead("pictures"))

    def source(self, folder: Path) -> str:
        """The bundle: as named, or made in the step's own folder."""
        return self.bundle or str(folder / _FROZEN)

    def settings(self, place: Place, name: str, parts: Literal["features", "raw", "both"]) -> FeatureSettings:
        """How heads of a later step find this cache. name: what this step is called."""
        home = place.earlier[name]
        return FeatureSettings(bundle=self.source(home), cache=home, images=root_of((place.set(self.data),)), parts=parts)


class HeadRun(BaseModel):
    """One network of heads on cached features.

    tasks: what it learns, together. parts: what of the cache it reads. heads, losses: by task family. optim, fit: as in mien train.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    parts: Literal["features", "raw", "both"] = "both"
    heads: dict[str, HeadSettings] = {}
    losses: dict[str, LossSettings] = {}
    optim: OptimSettings = OptimSettings()
    fit: FitSettings = FitSettings()

    def settings(self, name: str, data: Set, features: FeatureSettings, seed: int) -> Settings:
        """As mien train reads them."""
        return Settings(
            name=name, data=(data,), tasks=self.tasks, features=features, network=NetworkSettings(backbone="features", heads=self.heads),
            losses=self.losses, optim=self.optim, fit=self.fit.model_copy(update={"seed": seed, "find_points": False}),
        )  # fmt: skip


class Heads(Step):
    """Train heads on cached features, a network for each of `runs` and each seed, and score split val, and test where there is one.

    features: the step that cached them. data: the key of the labels; of the same pictures.
    """

    do: Literal["heads"]
    features: Annotated[str, STEP]
    data: Annotated[str, DATA]
    runs: Annotated[tuple[HeadRun, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_task_once(self) -> Self:
        keys = [key.partition(".")[0] for run in self.runs for key in run.tasks]
        if len(set(keys)) < len(keys):
            raise ValueError(f"runs: one family is learned twice: {', '.join(keys)}")
        return self

    @override
    def run(self, place: Place) -> None:
        tasks = [task(key) for run in self.runs for key in run.tasks]
        spec = place.set(self.data)
        table = load_set(spec, tasks)
        cache = _cache_of(place, self.features)
        found: dict[str, dict[str, list[Floats]]] = {split: {} for split in _present(table)}
        for number, run in enumerate(self.runs):
            for seed in place.seeds:
                families = "+".join(key.partition(".")[0] for key in run.tasks)
                settings = run.settings(place.name.replace("_", "-"), spec, cache.settings(place, self.features, run.parts), seed)
                folder = fit(settings, place.folder / f"run-{number}-{families}-seed-{seed}", _Quiet(place, f"{families}, seed {seed}"))
                net = network_of(folder)
                assert settings.features is not None
                for split, values in found.items():
                    rows = Cached(_split(table, split), settings.named_tasks(), settings.features)
                    raw, _ = raw_scores(net, rows, batch=4096, workers=0)
                    for each in settings.named_tasks():
                        values.setdefault(each.family, []).append(each.decode(raw[each.family]))
        parts = {split: part_of(_split(table, split), _stacked(values), tasks) for split, values in found.items()}
        Predicted(tuple(tasks), parts).save(place.folder)


class Train(Step):
    """Train a network on pictures, once for each seed, and score split val, and test where there is one.

    data: keys of the data sets. tasks: what it learns. after: an earlier step of this kind whose best weights it starts from.
    super_resolved: an earlier step whose pictures stand in for the training pictures of the one data set of kind lsd.
    settings: the rest, as mien train reads it (network, losses, augment, optim, fit, pixels, …).
    """

    do: Literal["train"]
    data: Annotated[tuple[str, ...], Field(min_length=1), DATA]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    after: Annotated[str | None, STEP] = None
    super_resolved: Annotated[str | None, STEP] = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _settings_are_known(self) -> Self:
        if strange := set(self.settings) & {"name", "data", "tasks"}:
            raise ValueError(f"settings: {', '.join(sorted(strange))} is said by the step itself; leave it out")
        self.resolved([{"set": "drawn", "count": 2, "seed": 0, "size": 16}], "check", 0, None)
        return self

    def resolved(self, data: Sequence[Any], name: str, seed: int, start: Path | None) -> Settings:
        """As mien train reads them."""
        network = {**self.settings.get("network", {}), **({} if start is None else {"start": start})}
        fitting = {"find_points": False, **self.settings.get("fit", {}), "seed": seed}
        return Settings.model_validate(
            {**self.settings, "name": name, "data": data, "tasks": self.tasks, "network": network, "fit": fitting}
        )

    @override
    def run(self, place: Place) -> None:
        tasks = [task(key) for key in self.tasks]
        data = [self._spec(place, key) for key in self.data]
        table = pd.concat([load_set(spec, tasks) for spec in data], ignore_index=True)
        found: dict[str, dict[str, list[Floats]]] = {split: {} for split in _present(table)}
        for seed in place.seeds:
            start = None if self.after is None else place.earlier[self.after] / f"seed-{seed}" / "best.pt"
            settings = self.resolved(data, place.name.replace("_", "-"), seed, start)
            run = fit(settings, place.folder / f"seed-{seed}", _Quiet(place, f"seed {seed}"))
            for split, values in found.items():
                scored = evaluate_bundle(open_model(run.folder), _split(table, split), tasks, progress=place.ahead(f"scores {split}"))
                for family, scores in scored.scores.items():
                    values.setdefault(family, []).append(scores)
        parts = {split: part_of(_split(table, split), _stacked(values), tasks) for split, values in found.items()}
        Predicted(tuple(tasks), parts).save(place.folder)

    def _spec(self, place: Place, key: str) -> Set:
        spec = place.set(key)
        if self.super_resolved is None:
            return spec
        if not isinstance(spec, Lsd):
            raise DataError(f"{place.name}: super_resolved pictures stand in for those of a data set of kind lsd, not {spec.set}")
        return spec.model_copy(update={"train": place.earlier[self.super_resolved] / PICTURES})


class Score(Step):
    """What a bundle says of split val, and test where there is one, without any training here.

    data: key. bundle: name or folder. tasks: label sets asked for, matched to the bundle's by name. instead: names of ours for which the
    bundle's name on the right stands in (HSEmotion lets contempt stand in for other). features: a step that has cached them; without,
    the pictures are read.
    """

    do: Literal["score"]
    data: Annotated[str, DATA]
    bundle: Annotated[str, BUNDLE]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    instead: dict[str, str] = Field(default_factory=dict)
    features: Annotated[str | None, STEP] = None

    @override
    def run(self, place: Place) -> None:
        tasks = [task(key) for key in self.tasks]
        table = load_set(place.set(self.data), tasks)
        parts = {}
        for split in _present(table):
            rows = _split(table, split)
            own = self._own(place, rows, split)
            parts[split] = part_of(rows, {each.family: self._renamed(each, own)[None, None] for each in tasks}, tasks)
        Predicted(tuple(tasks), parts).save(place.folder)

    def _own(self, place: Place, rows: pd.DataFrame, split: str) -> dict[Task, Floats]:
        """The bundle's scores by its own tasks."""
        model = load(self.bundle, ENGINE)
        if self.features is None:
            scored = evaluate_bundle(model, rows, progress=place.ahead(f"scores {split}"))
            return {each: scored.scores[each.family] for each in model.tasks}
        cache = FeatureCache(place.earlier[self.features], model.card, root=root_of((place.set(self.data),)))
        kept = cache.rows(rows)
        return {
            each: each.decode(np.asarray(cache.raw[each.family][kept]) / model.card.temperature.get(each.family, 1.0))
            for each in model.tasks
        }

    def _renamed(self, wanted: Task, own: dict[Task, Floats]) -> Floats:
        source = next((each for each in own if each.family == wanted.family), None)
        if source is None:
            raise DataError(f"{self.bundle} does not predict {wanted.family}; it predicts {', '.join(each.key for each in own)}")
        like = Task(wanted.key, tuple(self.instead.get(name, name) for name in wanted.names), wanted.kind, wanted.low, wanted.high)
        scores = own[source][:, like.take_from(source.names)]
        return scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12) if wanted.kind == "one_of" else scores


def _cache_of(place: Place, name: str) -> Features:
    step = place.steps[name]
    if not isinstance(step, Features):
        raise DataError(f"{place.name}: the step {name} caches no features; name one that does")
    return step


class _Quiet(Progress):
    """A run's steps on the recipe's bar."""

    def __init__(self, place: Place, what: str) -> None:
        self._ahead, self._steps = place.ahead(what), 0

    def begin(self, steps: int, done: int, facts: dict[str, Any]) -> None:
        self._steps = steps

    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        self._ahead(done, self._steps)


def _present(table: pd.DataFrame) -> list[str]:
    return [split for split in _SPLITS if (table["split"] == split).any()]


def _split(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table[table["split"] == split].reset_index(drop=True)


def _stacked(values: dict[str, list[Floats]]) -> dict[str, Floats]:
    """By family (S, 1, N, K)."""
    return {family: np.stack(seeds)[:, None] for family, seeds in values.items()}
