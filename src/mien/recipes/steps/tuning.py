"""What the steps after the networks share: they change the scores of tasks, by tuned choices.

A choice is made once on all labelled rows of split val (version 0, as the papers do) and once
without each fold of recordings, so that a whole chain of steps can be scored nested. Split test
gets the choice of version 0. See `mien.evaluation.nested_tuning`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel

from mien.errors import DataError
from mien.evaluation.nested_tuning import tune, versions
from mien.files import atomic_write
from mien.metrics import ccc, macro_f1, mean_au_f1
from mien.recipes.predictions import Part, Predicted
from mien.recipes.steps.base import StepContext
from mien.tasks import Floats, Task

__all__ = [
    "Apply",
    "TaskResult",
    "TaskScores",
    "change_families",
    "check_families",
    "check_recordings",
    "is_shared",
    "tune_and_apply",
]

Apply = Callable[[Any, Floats, Part], Floats]
"""(choice, scores (N, K) or (P, N, K), their part) -> scores (N, K)."""


@dataclass(frozen=True)
class TaskScores:
    """The scores of one task that a step changes.

    Attributes:
        step: Name of the step, for messages.
        task: The task.
        val: Split val, whose labels choices are made on.
        seeds: For each seed the versioned scores of split val (V, N, K), or (V, P, N, K) of P steps
            that are combined.
        test: Split test with such scores, (S, 1, N, K) or (S, 1, P, N, K); None without that split.
    """

    step: str
    task: Task
    val: Part
    seeds: list[Floats]
    test: Part | None

    def apply_to_test(self, chosen: Sequence[Any], apply: Apply) -> list[Floats]:
        """Apply each seed's choice to its scores of split test.

        Args:
            chosen: A choice for each seed.
            apply: How it changes scores.

        Returns:
            Scores (N, K) for each seed; an empty list without that split.
        """
        if self.test is None:
            return []
        before = self.test.values[self.task.family]
        after = []
        # The only version of split test is its first.
        for seed, choice in enumerate(chosen):
            after.append(apply(choice, _of_seed(before, seed)[0], self.test))
        return after


@dataclass(frozen=True)
class TaskResult:
    """What a step makes of one task.

    Attributes:
        chosen: The choice of version 0 for each seed, ready for JSON.
        val: Scores of split val (S, V, N, K).
        test: Scores of split test (N, K) for each seed; empty without that split.
    """

    chosen: list[Any]
    val: Floats
    test: list[Floats]


def change_families(
    context: StepContext,
    inputs: Sequence[Predicted],
    families: Iterable[str],
    change: Callable[[TaskScores], TaskResult],
) -> None:
    """Save a step's predictions: those of its first input with some families changed.

    Args:
        context: Of the step; its folder also gets ``chosen.json``.
        inputs: What earlier steps predict for the same faces; the scores of several are combined.
        families: The task families to change; the others stay as they are.
        change: What the step does to each of them.

    Raises:
        DataError: The inputs are about different faces, or lack a family.
        OutputError: The result cannot be written.
    """
    _check_same_faces(context.name, inputs)
    first = inputs[0]
    parts = {"val": first.parts["val"]}
    # Split test is changed only if every input has it.
    if all("test" in predicted.parts for predicted in inputs):
        parts["test"] = first.parts["test"]
    values = {split: dict(part.values) for split, part in parts.items()}
    chosen: dict[str, list[Any]] = {}
    for family in families:
        result = change(_task_scores(context.name, inputs, family, with_test="test" in parts))
        chosen[family] = result.chosen
        values["val"][family] = result.val
        if "test" in parts:
            # Split test has one version: the choice of version 0.
            values["test"][family] = np.stack(result.test)[:, None]
    changed = {split: part.with_values(values[split]) for split, part in parts.items()}
    atomic_write(context.folder / "chosen.json", json.dumps(chosen, indent=2).encode())
    Predicted(first.tasks, changed).save(context.folder)


def _task_scores(
    step: str, inputs: Sequence[Predicted], family: str, *, with_test: bool
) -> TaskScores:
    """The scores of one family, of all inputs."""
    task = inputs[0].task(family)
    val = inputs[0].parts["val"]
    folds = int(val.fold.max()) + 1
    seeds = _versioned([predicted.parts["val"].values[family] for predicted in inputs], folds)
    test = None
    if with_test:
        test = _combined([predicted.parts["test"] for predicted in inputs], family)
    return TaskScores(step, task, val, seeds, test)


def _versioned(values: Sequence[Floats], folds: int) -> list[Floats]:
    """Versioned scores (V, N, K) for each seed; several inputs are stacked, (V, P, N, K)."""
    count = max(scores.shape[1] for scores in values)
    versioned = []
    for seed in range(max(map(len, values))):
        layers = []
        for scores in values:
            layer = _of_seed(scores, seed).astype(np.float64)
            # An input in which nothing was tuned has one version, which stands for all.
            layers.append(np.broadcast_to(layer, (count, *layer.shape[1:])))
        stacked = layers[0] if len(layers) == 1 else np.stack(layers, axis=1)
        # One array for all versions, so that a later choice is computed once and not V times.
        versioned.append(versions(stacked[0], folds) if count == 1 else stacked)
    return versioned


def _combined(parts: Sequence[Part], family: str) -> Part:
    """Split test with scores (S, 1, N, K) of one family, or (S, 1, P, N, K) of P inputs."""
    if len(parts) == 1:
        return parts[0]
    values = [part.values[family] for part in parts]
    seeds = max(map(len, values))
    stacked = []
    for seed in range(seeds):
        of_inputs = [_of_seed(scores, seed) for scores in values]
        stacked.append(np.stack(of_inputs, axis=1))
    return parts[0].with_values({family: np.stack(stacked)})


def _of_seed(values: Floats, seed: int) -> Floats:
    """Scores of one seed; those of an input with fewer seeds serve all further ones."""
    last = len(values) - 1
    return np.asarray(values[min(seed, last)])


def is_shared(versioned: Floats) -> bool:
    """Return whether all versions of some scores are one array, since nothing was tuned so far.

    Args:
        versioned: Scores (V, …, N, K).

    Returns:
        True for what `mien.evaluation.nested_tuning.versions` gives.
    """
    return versioned.strides[0] == 0


def tune_and_apply(candidates: Sequence[Any], apply: Apply, scores: TaskScores) -> TaskResult:
    """Choose the best of some candidates, and apply it; a single one is applied as it is.

    Args:
        candidates: In the order of preference; of equals the first is taken.
        apply: How a candidate changes scores.
        scores: What it changes.

    Returns:
        The choices and the changed scores.

    Raises:
        DataError: There is a choice to be made, and only one recording.
    """
    if len(candidates) > 1:
        check_recordings(scores)
    chosen: list[Any] = []
    values: list[Floats] = []
    for versioned in scores.seeds:
        if len(candidates) == 1:
            [only] = candidates
            chosen.append(only)
            values.append(_apply_to_versions(only, apply, versioned, scores.val))
        else:
            best, changed = _tuned(candidates, apply, versioned, scores)
            chosen.append(best)
            values.append(changed)
    test = scores.apply_to_test(chosen, apply)
    settings = list(map(_plain, chosen))
    return TaskResult(settings, np.stack(values), test)


def _plain(choice: Any) -> Any:
    """A choice for JSON: candidates are numbers, tuples of numbers, or settings."""
    return choice.model_dump() if isinstance(choice, BaseModel) else choice


def _apply_to_versions(choice: Any, apply: Apply, versioned: Floats, part: Part) -> Floats:
    """Scores (V, N, K) after one choice for all versions; V stays 1 if nothing was tuned so far."""
    different = versioned[:1] if is_shared(versioned) else versioned
    changed = []
    for version in different:
        changed.append(apply(choice, version, part))
    return np.stack(changed)


def _tuned(
    candidates: Sequence[Any], apply: Apply, versioned: Floats, scores: TaskScores
) -> tuple[Any, Floats]:
    """The choice of version 0, and scores (V, N, K) after each version's own choice."""
    part = scores.val
    tuned = tune(
        candidates,
        lambda candidate, values: apply(candidate, values, part),
        partial(_figure, scores.task),
        versioned,
        target=part.truth(scores.task),
        fold=part.fold,
    )
    return tuned.chosen[0], tuned.values


def _figure(task: Task, scores: Floats, target: Floats) -> float:
    """What a choice for a task maximises: macro-F1 of classes, mean CCC of values, or mean F1."""
    if task.kind == "one_of":
        classes = range(len(task.names))
        return macro_f1(scores.argmax(axis=1), target.argmax(axis=1), classes)
    if task.kind == "scalar":
        # Transposed: a row for each value.
        return float(np.mean(list(map(ccc, scores.T, target.T))))
    return mean_au_f1(scores >= 0.5, target)


def check_recordings(scores: TaskScores) -> None:
    """Check that a choice can be scored on other recordings than it was made on.

    Args:
        scores: Those to choose on.

    Raises:
        DataError: Split val shows a single recording.
    """
    # Whole recordings are in one fold, so a single one leaves fold 0 alone.
    if not scores.val.fold.any():
        raise DataError(
            f"{scores.task.key}: split val shows one recording alone, so nothing can be chosen on "
            "it and scored on others; give fixed settings"
        )


def check_families(
    step: str, field: str, families: Iterable[str], inputs: Sequence[Predicted]
) -> None:
    """Check that all inputs of a step predict some task families.

    Args:
        step: Its name.
        field: The setting whose keys are those families.
        families: Such as ``expr``.
        inputs: What earlier steps predict.

    Raises:
        DataError: One of them does not.
    """
    for predicted in inputs:
        known = [task.family for task in predicted.tasks]
        for family in families:
            if family not in known:
                raise DataError(
                    f"{step}: {field}.{family}: nothing predicts {family}, only {', '.join(known)}"
                )


def _check_same_faces(step: str, inputs: Sequence[Predicted]) -> None:
    """Raises DataError if the rows of a split are different faces in two inputs."""
    for split, part in inputs[0].parts.items():
        for other in inputs[1:]:
            if split not in other.parts:
                continue
            if not other.parts[split].table["name"].equals(part.table["name"]):
                raise DataError(
                    f"{step}: its inputs are about other faces of split {split}; "
                    "combine steps on the same data"
                )
