"""The scores on the card of a system, measured as those of other bundles."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from mien.bundles.card_parts import Score
from mien.evaluation.nested_tuning import nested
from mien.metrics import accuracy, ccc, macro_f1, mean_au_f1
from mien.recipes.predictions import Part, Predicted
from mien.tasks import Floats, Task
from mien.train.bundle.pack import score_with_interval

__all__ = ["averaged", "card_scores"]


def averaged(scores: Sequence[Score]) -> list[Score]:
    """Mark scores as those of the average of several members, for the card of each.

    Args:
        scores: Of the average.

    Returns:
        The same, with a remark on the data.
    """
    renamed = []
    for score in scores:
        data = f"{score.data}; the average with the other members of its kind"
        renamed.append(score.model_copy(update={"data": data}))
    return renamed


def card_scores(predicted: Predicted, where: str) -> tuple[Score, ...]:
    """Measure a step's predictions on split val, with the first seed, for a card.

    Args:
        predicted: What the step predicts.
        where: The data, for people.

    Returns:
        Measures of all tasks that are annotated, with intervals over recordings.
    """
    part = predicted.parts["val"]
    groups = part.table["recording"].to_numpy()
    # Faces of one recording are alike, so recordings are drawn if there are several.
    if len(set(groups)) < 2:
        where = f"{where}; one recording alone, so that its intervals draw single frames"
        groups = np.arange(len(groups))
    scores: list[Score] = []
    for task in predicted.tasks:
        truth = part.truth(task)
        is_labelled = ~np.isnan(truth).all(axis=1)
        if is_labelled.any():
            measure = partial(score_with_interval, data=where, groups=groups[is_labelled])
            pred = _nested(part, task)[is_labelled]
            scores += _measures_of(task, measure, truth[is_labelled], pred)
    return tuple(scores)


def _measures_of(
    task: Task, measure: Callable[..., Sequence[Score]], target: Floats, pred: Floats
) -> list[Score]:
    """The measures of one task, from its labelled rows (N, K)."""
    scores: list[Score] = []
    if task.kind == "one_of":
        truth = target.argmax(axis=1)
        decided = pred.argmax(axis=1)
        f1 = partial(_macro_f1, classes=len(task.names))
        scores += measure(f"{task.key} macro-F1", f1, truth, decided)
        scores += measure(f"{task.key} accuracy", _accuracy, truth, decided)
    elif task.kind == "any_of":
        scores += measure(f"{task.key} mean F1", _mean_f1, target, pred)
    else:
        for column, name in enumerate(task.names):
            scores += measure(f"{name} CCC", _ccc, target[:, column], pred[:, column])
    return scores


def _nested(part: Part, task: Task) -> Floats:
    """Scores (N, K) of the first seed, each recording with what was chosen on the others."""
    values = part.values[task.family][0]
    # Nothing was chosen if there is one version.
    if len(values) == 1:
        return np.asarray(values[0])
    return nested(values, part.fold)


def _macro_f1(truth: Floats, pred: Floats, classes: int) -> float:
    return macro_f1(pred, truth, range(classes))


def _accuracy(truth: Floats, pred: Floats) -> float:
    return accuracy(pred, truth)


def _mean_f1(truth: Floats, pred: Floats) -> float:
    return mean_au_f1(pred >= 0.5, truth)


def _ccc(truth: Floats, pred: Floats) -> float:
    return ccc(pred, truth)
