"""Steps that use networks as they are: cache their features, and score."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal, Self, cast

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from typing_extensions import override

from mien.bundles.store import Model, load
from mien.data.registry import load_set
from mien.errors import DataError
from mien.evaluation.judge import evaluate_bundle
from mien.faces.prepare import Pixels
from mien.recipes.steps.base import BUNDLE, DATA, STEP, Step, StepContext
from mien.recipes.steps.runs import (
    EXPORTED,
    SeedScores,
    runs_of,
)
from mien.recipes.steps.training import Train
from mien.tasks import Floats, Task, task
from mien.train.bundle.feature_extractor import freeze_bundle, freeze_run
from mien.train.features import root_of
from mien.train.inputs.feature_cache import FeatureCache, build
from mien.train.open_model import ENGINE
from mien.train.runs.folder import RunFolder
from mien.train.settings.features import FeatureSettings
from mien.train.settings.network import NetworkSettings

__all__ = ["Features", "Score"]

_FROZEN: Final = "frozen"
"""The folder, in the step's own, of a bundle that the step makes itself."""


class Features(Step):
    """Compute a network's features of every picture of a data set, once.

    One of `bundle`, `exported`, `of`, or `network` with `pixels` says which network.

    Attributes:
        data: Key of the data set.
        bundle: A name or folder; it must expose its features.
        exported: A step that made a bundle.
        of: A step of kind train; each seed's own network, features alone.
        hidden: Instead of features, what the heads' last layers read, one head after the other (the
            unified model of ABAW2). Only with `of`.
        network: A backbone as it starts.
        pixels: What that backbone sees.
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
        names = (self.bundle, self.exported, self.of)
        named = len(names) - names.count(None)
        has_network = self.network is not None and self.pixels is not None
        if named > 1 or (named == 0 and not has_network):
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
        # Students are averaged by their scores; their features have nothing in common.
        if step.students > 1:
            raise ValueError(
                f"of: {self.of} has {step.students} students, and features are those of one; "
                "give it one"
            )

    @override
    def run(self, context: StepContext) -> None:
        spec = context.set(self.data)
        table = load_set(spec, ())
        for line in table.attrs.get("notes", ()):
            context.note(line)
        root = root_of((spec,))
        # Only the networks of a step of kind train differ between seeds.
        seeds = context.seeds if self.of else context.seeds[:1]
        for seed in seeds:
            home = self.home(context.folder, seed)
            source = self._make_source(context, home, seed)
            model = load(source, ENGINE, os.cpu_count() or 1)
            progress = context.ahead(f"pictures, seed {seed}" if self.of else "pictures")
            build(model, table, home, root=root, batch=256, progress=progress)

    def home(self, folder: Path, seed: int) -> Path:
        """Return where the features of a seed are.

        Args:
            folder: Of this step.
            seed: One of the recipe's.

        Returns:
            A folder; the same for all seeds unless each has its own network.
        """
        if self.of is None:
            return folder
        return folder / f"seed-{seed}"

    def _make_source(self, context: StepContext, home: Path, seed: int) -> str:
        """The bundle that reads the pictures, made first if it is to be made here."""
        # A step of kind train has one run per seed here; `check` has seen to it.
        if self.of is not None:
            [run] = runs_of(context, self.of, seed)
            freeze_run(RunFolder(run), home / _FROZEN, hidden=self.hidden)
        elif self.bundle is None and self.exported is None:
            network = cast(NetworkSettings, self.network)
            freeze_bundle(network, cast(Pixels, self.pixels), home / _FROZEN, network.backbone)
        return self.source(context, home)

    def source(self, context: StepContext, home: Path) -> str:
        """Return the bundle whose features these are.

        Args:
            context: Of any step after this one, or of this one.
            home: See `home`.

        Returns:
            Its name or folder.
        """
        # A bundle that the step made itself lies beside the features.
        if self.bundle is not None:
            return self.bundle
        if self.exported is not None:
            return str(context.earlier[self.exported] / EXPORTED)
        return str(home / _FROZEN)

    def settings(self, context: StepContext, name: str, seed: int) -> FeatureSettings:
        """Return how heads of a later step find this cache.

        Args:
            context: Of the later step.
            name: Of this step.
            seed: One of the recipe's.

        Returns:
            The settings.
        """
        home = self.home(context.earlier[name], seed)
        images = root_of((context.set(self.data),))
        return FeatureSettings(bundle=self.source(context, home), cache=home, images=images)


class Score(Step):
    """Score split val, and test if there is one, with a bundle, without any training.

    Attributes:
        data: Key of the data set.
        bundle: A name or folder; or `exported`.
        exported: A step that made a bundle.
        tasks: Label sets asked for, matched to the bundle's by name.
        instead: Names of ours, each with the bundle's name that replaces it (HSEmotion lets
            contempt stand for other).
        features: A step that has cached the bundle's outputs; without it, pictures are read.
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
        # Both or neither.
        if (self.bundle is None) == (self.exported is None):
            raise ValueError("name either bundle or exported")
        return self

    @override
    def run(self, context: StepContext) -> None:
        tasks = list(map(task, self.tasks))
        scores = SeedScores(load_set(context.set(self.data), tasks))
        for split, rows in scores.rows.items():
            by_task = self._bundle_scores(context, rows, split)
            renamed = {}
            for requested, source in self.sources(list(by_task)):
                renamed[requested.family] = self._renamed(requested, source, by_task[source])
            scores.add(split, renamed)
        scores.save(context, tasks)

    def _bundle_scores(
        self, context: StepContext, rows: pd.DataFrame, split: str
    ) -> dict[Task, Floats]:
        """The bundle's scores (N, K) by its own tasks."""
        model = load(self._bundle(context), ENGINE)
        if self.features is not None:
            return self._cached_scores(context, model, self.features, rows)
        progress = context.ahead(f"scores {split}")
        # By task, since the order of names is needed as well.
        by_family = evaluate_bundle(model, rows, progress=progress).scores
        scores: dict[Task, Floats] = {}
        for predicted in model.tasks:
            family = predicted.family
            scores[predicted] = by_family[family]
        return scores

    def _bundle(self, context: StepContext) -> str:
        if self.bundle is not None:
            return self.bundle
        return str(context.earlier[cast(str, self.exported)] / EXPORTED)

    def _cached_scores(
        self, context: StepContext, model: Model, step: str, rows: pd.DataFrame
    ) -> dict[Task, Floats]:
        """The same from what an earlier step has cached."""
        root = root_of((context.set(self.data),))
        cache = FeatureCache(context.earlier[step], model.card, root=root)
        cached_rows = cache.rows(rows)
        scores: dict[Task, Floats] = {}
        for predicted in model.tasks:
            # The cache holds what the network outputs, before it is calibrated and decoded.
            temperature = model.card.temperature.get(predicted.family, 1.0)
            raw = np.asarray(cache.raw[predicted.family][cached_rows])
            scores[predicted] = predicted.decode(raw / temperature)
        return scores

    def renamed(self, requested: Task) -> Task:
        """Return a requested task under the bundle's names.

        Args:
            requested: One of `tasks`.

        Returns:
            The task with the names that `instead` gives.
        """
        names = tuple(self.instead.get(name, name) for name in requested.names)
        return replace(requested, names=names)

    def sources(self, predicted: Sequence[Task]) -> list[tuple[Task, Task]]:
        """Find the bundle's task for each requested one.

        Args:
            predicted: The bundle's tasks.

        Returns:
            Pairs of a requested task and the bundle's task of its family.

        Raises:
            DataError: The bundle predicts nothing of a family.
        """
        by_family = {candidate.family: candidate for candidate in predicted}
        pairs = []
        for requested in map(task, self.tasks):
            if requested.family not in by_family:
                known = ", ".join(candidate.key for candidate in predicted)
                bundle = self.bundle or self.exported
                raise DataError(
                    f"{bundle} does not predict {requested.family}; it predicts {known}"
                )
            pairs.append((requested, by_family[requested.family]))
        return pairs

    def _renamed(self, requested: Task, source: Task, scores: Floats) -> Floats:
        """Scores (N, K) of the bundle's task in the order of the requested one."""
        selected = scores[:, self.renamed(requested).column_index(source.names)]
        if requested.kind != "one_of":
            return selected
        # Without the classes that were not requested, the others sum to 1 again.
        return np.asarray(selected / np.maximum(selected.sum(axis=1, keepdims=True), 1e-12))
