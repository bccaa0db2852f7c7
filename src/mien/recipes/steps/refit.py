"""Steps that train again on more recordings: on all of them, or fold by fold.

Entrants of challenges train once more on the validation split before they submit, or train on folds
of all recordings and average. Neither changes what was chosen before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from mien.bundles.card_parts import TaskCard
from mien.bundles.plan import Plan, PlanStep, ScoreStep
from mien.data.registry import Set, load_set
from mien.errors import DataError
from mien.recipes.predictions import Part, Predicted
from mien.recipes.steps.base import STEP, Step, StepContext
from mien.recipes.steps.chosen_plan import CHANGES, choices_of, inputs_of_change, planned
from mien.recipes.steps.features import Score
from mien.recipes.steps.heads import Heads
from mien.recipes.steps.runs import ChangeSettings, SeedScores, keep_runs, rows_in, runs_in
from mien.recipes.steps.training import Train
from mien.systems.apply import Scores, apply_plan
from mien.tasks import Floats
from mien.train.runs.folder import RunFolder
from mien.train.runs.tables import fold_numbers
from mien.train.settings.training import FitSettings, FoldSettings, Settings

__all__ = ["DEPLOYED", "Folds", "Refit", "deployed", "home_of", "leaves_of"]

Epochs = Annotated[int, Field(ge=1, le=100_000)]

DEPLOYED: Final = "deployed"
"""The part of a step's predictions that holds what its networks, as they would be used, say of the
faces of split val. Networks that learned some of them are not judged by it."""


class Refit(Step):
    """Train everything that a step's scores come from once more, on splits train and val.

    Each network learns for a fixed number of epochs: as many as its counterpart was kept after, or
    a given number. Thresholds, weights, kernels and biases stay as they were chosen, and so do
    features, teachers and starting weights. There is a score for split test only: nothing is left
    to validate.

    Attributes:
        of: A step of kind train, heads or score, or one that changes scores of such steps.
        networks: An earlier step of this kind that has trained the same networks; they are used and
            nothing is trained.
        epochs: Epochs of every network, or by the family of its first task. A network that is not
            named learns as long as its counterpart.
    """

    scores_val: ClassVar[bool] = False

    # Of an earlier refit, the networks are wanted and not their scores.
    needs_val: ClassVar[bool] = False

    do: Literal["refit"]
    of: Annotated[str, STEP]
    networks: Annotated[str | None, STEP] = None
    epochs: Epochs | dict[str, Epochs] = Field(default_factory=dict)

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        leaves = leaves_of(self.of, earlier)
        if self.networks is not None and self.epochs:
            raise ValueError(f"epochs: {self.networks} has trained the networks; leave it out")
        if self.networks is not None:
            source = earlier[self.networks]
            trained = leaves_of(source.of, earlier) if isinstance(source, Refit) else []
            if missing := set(leaves) - set(trained):
                raise ValueError(
                    f"networks: {self.networks} trained no {', '.join(sorted(missing))} again; "
                    "name a step of kind refit that did, or leave it out"
                )
        for name in leaves:
            if not isinstance(earlier[name], Train | Heads | Score):
                raise ValueError(
                    f"of: {name} trains no network that could be trained again; name steps of kind "
                    "train or heads, or what changes their scores"
                )
        if all(isinstance(earlier[name], Score) for name in leaves):
            raise ValueError(f"of: nothing behind {self.of} is trained; name a step that trains")
        if isinstance(self.epochs, int):
            return
        known: set[str] = set()
        for name in leaves:
            known |= _first_families(earlier[name])
        unknown = sorted(set(self.epochs) - known)
        if unknown:
            raise ValueError(
                f"epochs: {', '.join(unknown)} is the first task of no network; those are "
                f"{', '.join(sorted(known))}"
            )

    @override
    def run(self, context: StepContext) -> None:
        before = context.predicted(self.of)
        splits = {DEPLOYED: before.parts["val"]}
        if "test" in before.parts:
            splits["test"] = before.parts["test"]
        answers: dict[str, list[dict[str, Floats]]] = {split: [] for split in splits}
        trained: dict[str, dict[int, list[Path]]] = {}
        for number in range(len(context.seeds)):
            given = self._leaf_scores(context, number, list(splits), trained)
            plan = plan_of(context, self.of, number)
            for split, part in splits.items():
                frames = part.table["video"], part.table["frame"]
                answers[split].append(apply_plan(plan, self.of, given[split], *frames))
        for name, runs in trained.items():
            keep_runs(context.folder / name, runs)
        parts = {split: _stacked(splits[split], answers[split]) for split in splits}
        Predicted(before.tasks, parts).save(context.folder)
        context.note(f"{context.name}: learned splits train and val; nothing is validated")

    def _leaf_scores(
        self,
        context: StepContext,
        number: int,
        splits: Sequence[str],
        trained: dict[str, dict[int, list[Path]]],
    ) -> dict[str, dict[str, Scores]]:
        """By split and step, what the networks of one seed say after they were trained again.

        Adds their runs, by step and seed, to `trained`.
        """
        seed = context.seeds[number]
        given: dict[str, dict[str, Scores]] = {split: {} for split in splits}
        for name in leaves_of(self.of, context.steps):
            step = context.steps[name]
            if isinstance(step, Score):
                for split in splits:
                    part = context.predicted(name).parts["val" if split == DEPLOYED else split]
                    given[split][name] = _of_seed(part, number)
                continue
            assert isinstance(step, Train | Heads)
            again = repeating(context, name, name)
            if self.networks is None:
                runs = step.train_seed(again, seed, _for_refit(context.earlier[name], self.epochs))
            else:
                runs = runs_in(context.earlier[self.networks] / name, seed)
            table = step.judged_table(again)
            for split in splits:
                rows = rows_in(table, "val" if split == DEPLOYED else split)
                given[split][name] = step.score_runs(again, runs, rows, split)
            if self.networks is None:
                trained.setdefault(name, {})[seed] = runs
        return given


class Folds(Step):
    """Train a step's networks on folds of the recordings of splits train and val, and average them.

    Each face of split val is scored by the networks that did not learn its recording, so that the
    score can be compared with that of the step itself. Split test gets the mean over all folds. A
    network learns for as many epochs as its counterpart was kept after.

    Attributes:
        of: A step of kind train or heads that learns from one data set.
        count: How many folds.
    """

    do: Literal["folds"]
    of: Annotated[str, STEP]
    count: Annotated[int, Field(ge=2, le=100)] = 5

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        step = earlier[self.of]
        if not isinstance(step, Train | Heads):
            raise ValueError(f"of: {self.of} trains no network; name a step of kind train or heads")
        has_one = isinstance(step, Heads) or (len(step.data) == 1 and step.judge is None)
        if not has_one or step.mix is not None:
            raise ValueError(
                f"of: {self.of} learns from a mixture; folds are made of one data set as it is"
            )

    @override
    def check_data(self, name: str, steps: Mapping[str, Step], data: Mapping[str, Set]) -> None:
        """Refuse more folds than there are recordings."""
        step = cast(Train | Heads, steps[self.of])
        key = step.data if isinstance(step, Heads) else step.data[0]
        try:
            fold_numbers(load_set(data[key], step.learned_tasks), self.count, step.learned_tasks)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error

    @override
    def run(self, context: StepContext) -> None:
        step = cast(Train | Heads, context.steps[self.of])
        table = step.judged_table(context)
        table = table.assign(in_fold=fold_numbers(table, self.count, step.learned_tasks))
        scores = SeedScores(table)
        deployed_scores: list[dict[str, Floats]] = []
        runs: dict[int, list[Path]] = {}
        for seed in context.seeds:
            runs[seed], by_fold = self._train_folds(context, seed, scores.rows)
            for split, rows in scores.rows.items():
                mean = _mean_of(by_fold[split])
                if split == "val":
                    deployed_scores.append(mean)
                    mean = _out_of_fold(by_fold[split], rows["in_fold"].to_numpy())
                scores.add(split, mean)
        keep_runs(context.folder, runs)
        scores.save(context, step.learned_tasks)
        saved = Predicted.load(context.folder)
        part = _stacked(saved.parts["val"], deployed_scores)
        Predicted(saved.tasks, {**saved.parts, DEPLOYED: part}).save(context.folder)

    def _train_folds(
        self, context: StepContext, seed: int, rows: Mapping[str, pd.DataFrame]
    ) -> tuple[list[Path], dict[str, list[Mapping[str, Floats]]]]:
        """The runs of one seed, fold after fold, and by split what each fold's networks say."""
        step = cast(Train | Heads, context.steps[self.of])
        runs: list[Path] = []
        by_fold: dict[str, list[Mapping[str, Floats]]] = {split: [] for split in rows}
        for fold in range(self.count):
            again = repeating(context, self.of, f"fold-{fold}")
            change = _for_fold(context.earlier[self.of], self.count, fold)
            trained = step.train_seed(again, seed, change)
            runs += trained
            for split, faces in rows.items():
                by_fold[split].append(step.score_runs(again, trained, faces, split))
        return runs, by_fold


def home_of(context: StepContext, name: str) -> Path:
    """Return where a refit's networks are, in a folder for each step that was trained again.

    Args:
        context: Of a later step.
        name: Of the step of kind refit.

    Returns:
        The folder.
    """
    step = context.steps[name]
    assert isinstance(step, Refit)
    return context.earlier[step.networks or name]


def leaves_of(name: str, steps: Mapping[str, Step]) -> list[str]:
    """List the steps that a step's scores come from, before anything changed them.

    Args:
        name: Of a step.
        steps: Settings of all steps, by name.

    Returns:
        Names of steps, each once.
    """
    step = steps[name]
    if not isinstance(step, CHANGES):
        return [name]
    leaves: list[str] = []
    for other in inputs_of_change(step):
        leaves += leaves_of(other, steps)
    return list(dict.fromkeys(leaves))


def plan_of(context: StepContext, name: str, seed: int) -> Plan:
    """Make the plan that leads from the scores of networks to those of a step.

    Args:
        context: Of a later step.
        name: Of a step.
        seed: Number of the recipe's seed, from 0.

    Returns:
        The plan; the scores of its steps of kind score are to be given.
    """
    plan: dict[str, PlanStep] = {}
    _extend(plan, context, name, seed)
    return plan


def _extend(plan: dict[str, PlanStep], context: StepContext, name: str, seed: int) -> None:
    """Add a step and those before it to a plan, unless it has them."""
    if name in plan:
        return
    step = context.steps[name]
    if isinstance(step, CHANGES):
        for other in inputs_of_change(step):
            _extend(plan, context, other, seed)
        plan[name] = planned(step, choices_of(context, name, seed), plan)
        return
    tasks = []
    for task in context.predicted(name).tasks:
        tasks.append(
            TaskCard(
                key=task.key,
                names=task.names,
                kind=task.kind,
                low=task.low,
                high=task.high,
                supervised_by="not stated",
            )
        )
    # No member is run here, so there is none to name.
    plan[name] = ScoreStep.model_construct(do="score", member="", tasks=tuple(tasks), columns={})


def deployed(context: StepContext, name: str) -> Part | None:
    """Say what a step gives for split val with its networks as a system would use them.

    Args:
        context: Of a later step.
        name: Of the step.

    Returns:
        Split val with the scores of the first seed (1, 1, N, K); None where they are the step's
        own. They differ behind folds, where a step scores each face with the networks that did not
        learn it, and for a refit, which has no scores of its own.
    """
    predicted = context.predicted(name)
    if DEPLOYED in predicted.parts:
        return predicted.parts[DEPLOYED]
    leaves = leaves_of(name, context.steps)
    if not any(isinstance(context.steps[leaf], Folds) for leaf in leaves):
        return None
    given: dict[str, Scores] = {}
    for leaf in leaves:
        of_leaf = context.predicted(leaf)
        given[leaf] = _of_seed(of_leaf.parts.get(DEPLOYED, of_leaf.parts["val"]), 0)
    part = predicted.parts["val"]
    plan = plan_of(context, name, 0)
    answer = apply_plan(plan, name, given, part.table["video"], part.table["frame"])
    return _stacked(part, [answer])


def repeating(context: StepContext, name: str, folder: str) -> StepContext:
    """Make the context in which an earlier step is repeated inside a later one's folder.

    Args:
        context: Of the later step.
        name: Of the earlier step.
        folder: In the later step's own.

    Returns:
        The context, under the earlier step's name.
    """
    return replace(context, name=name, folder=context.folder / folder)


def _first_families(step: Step) -> set[str]:
    """The family of the first task of each network that a step trains."""
    networks: Sequence[tuple[str, ...]] = ()
    if isinstance(step, Heads):
        networks = step.learned
    elif isinstance(step, Train):
        networks = [step.tasks]
    return {_first_family(keys) for keys in networks}


def _first_family(keys: Sequence[object]) -> str:
    return str(keys[0]).partition(".")[0]


def _for_refit(before: Path, epochs: int | Mapping[str, int]) -> ChangeSettings:
    """Learn splits train and val, for given epochs or as many as a step in that folder kept."""

    def change(settings: Settings, folder: str) -> Settings:
        given = epochs if isinstance(epochs, int) else epochs.get(_first_family(settings.tasks))
        fit = _without_choice(settings.fit, before / folder, given)
        return _checked(settings, {"refit": True, "fit": fit})

    return change


def _for_fold(before: Path, count: int, held_out: int) -> ChangeSettings:
    """Learn all folds but one, for as many epochs as a step in that folder kept."""

    def change(settings: Settings, folder: str) -> Settings:
        # The epoch that is best on the fold that judges it would flatter it.
        fit = _without_choice(settings.fit, before / folder, None)
        folds = FoldSettings(count=count, held_out=held_out)
        return _checked(settings, {"folds": folds, "fit": fit})

    return change


def _without_choice(fit: FitSettings, counterpart: Path, given: int | None) -> FitSettings:
    """Settings under which the last of a fixed number of epochs is kept."""
    epochs = fit.epochs if given is None else given
    if given is None and fit.keep == "best":
        best = RunFolder(counterpart).facts.get("best_epoch", -1)
        if best < 0:
            raise DataError(
                f"{counterpart}: no epoch of it was best, so there is no number of epochs to learn "
                "for; give epochs, or keep: last"
            )
        epochs = best + 1
    return fit.model_copy(update={"epochs": epochs, "patience": 0, "keep": "last"})


def _checked(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """Changed settings, validated as a whole."""
    return Settings.model_validate({**dict(settings), **changes})


def _of_seed(part: Part, number: int) -> dict[str, Floats]:
    """Scores (N, K) by family, with all choices made on all of split val."""
    scores = {}
    for family, values in part.values.items():
        scores[family] = np.asarray(values[min(number, len(values) - 1)][0])
    return scores


def _mean_of(scores: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """The mean of several networks' scores (N, K) by family."""
    mean = {}
    for family in scores[0]:
        mean[family] = np.mean([values[family] for values in scores], axis=0)
    return mean


def _out_of_fold(
    by_fold: Sequence[Mapping[str, Floats]], fold: NDArray[np.intp]
) -> dict[str, Floats]:
    """Each face with the scores of the networks that did not learn its fold."""
    rows = np.arange(len(fold))
    chosen = {}
    for family in by_fold[0]:
        stacked = np.stack([values[family] for values in by_fold])
        chosen[family] = stacked[fold, rows]
    return chosen


def _stacked(part: Part, seeds: Sequence[Mapping[str, Floats]]) -> Part:
    """The part with scores (S, 1, N, K), from scores (N, K) of each seed."""
    values = {}
    for family in seeds[0]:
        values[family] = np.stack([scores[family] for scores in seeds])[:, None]
    return part.with_values(values)
