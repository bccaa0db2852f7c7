"""How good scores are over a label table: measures with intervals, protocols, groups of people.

Nothing here imports torch: a bundle and a label table are enough.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mien.data.label_table import labels
from mien.errors import DataError, UnknownNameError
from mien.evaluation.group_sums import GroupSums
from mien.evaluation.labelled import (
    OF_TERM,
    LabelledScores,
    Thresholds,
    column_of,
    group_numbers,
)
from mien.evaluation.measures import MEASURES, headlines
from mien.evaluation.predict import Scored, evaluate_bundle
from mien.evaluation.results import (
    CELLS,
    FEW,
    Bin,
    Evaluation,
    Gap,
    Measure,
    Part,
    TaskResult,
    mean_over_runs,
)
from mien.metrics import NAN
from mien.protocols import PROTOCOLS, protocol_named
from mien.tasks import Floats, Task

__all__ = [
    "OF_TERM",
    "Evaluation",
    "Scored",
    "evaluate_bundle",
    "headline",
    "judge",
    "mean_over_runs",
]

_MOST_GROUPS: Final = 50


def judge(
    tasks: Sequence[Task],
    scores: Mapping[str, Floats],
    table: pd.DataFrame,
    *,
    groups: str = "auto",
    protocols: Sequence[str] = (),
    thresholds: Thresholds | None = None,
    by: str | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Every measure of scores over a label table, with 95 % bootstrap intervals.

    A ``one_of`` face counts for the class with its largest share. Tasks without labels are left
    out, and the notes say so.

    Args:
        tasks: The tasks to judge.
        scores: By task family, decoded, (N, K) in the table's order.
        table: The label table, N rows.
        groups: What the intervals draw again: ``auto`` takes a face's video, else its subject, else
            the face itself; ``face``; or a column of the table.
        protocols: Names as of `mien.protocols.protocol_named`; expressions are matched by name.
        thresholds: By family, from which score a unit is on (0.5).
        by: A column that says which group of people a face belongs to.
        rounds: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        The evaluation.

    Raises:
        DataError: When nothing is labelled, or scores and table do not fit.
        UnknownNameError: For a protocol that does not exist.
        LabelMismatchError: For a protocol whose classes the task does not have.
    """
    # Faces of one video are alike: drawing faces would give intervals that are far too narrow.
    number, over = group_numbers(table, groups)
    data = LabelledScores(tuple(tasks), scores, table, number, thresholds or {}, rounds, seed)
    sums = {task.key: data.group_sums(task) for task in tasks}
    _need_labels(sums)
    notes = _notes(sums, over)
    results = []
    for task_sums in sums.values():
        if task_sums is not None:
            results.append(_result(data, task_sums))
    parts: tuple[Part, ...] = ()
    gaps: dict[str, Gap] = {}
    if by:
        parts, gaps, notes_of_groups = _by_people(data, by, sums)
        notes += notes_of_groups
    scores_of_protocols = {}
    for protocol in protocols:
        # Asked for by edition or by year, a protocol is reported under one name.
        key = protocol_named(protocol).name
        scores_of_protocols[key] = data.protocol(key)
    return Evaluation(
        faces=len(table),
        intervals_over=over,
        rounds=rounds,
        seed=seed,
        tasks=tuple(results),
        by=by,
        parts=parts,
        gaps=gaps,
        protocols=scores_of_protocols,
        notes=tuple(notes),
    )


def headline(
    tasks: Sequence[Task], scores: Mapping[str, Floats], table: pd.DataFrame, watch: str = "mean"
) -> float:
    """The one number that training watches; higher is better.

    Args:
        tasks: The tasks to judge.
        scores: As for `judge`.
        table: As for `judge`.
        watch: ``mean`` over the labelled tasks of macro-F1, mean F1 or mean r, and mean CCC;
            ``<family>.<measure>`` such as ``expr.accuracy`` or ``va.ccc_valence``; or the name of a
            protocol.

    Returns:
        The value; NaN where it is undefined.

    Raises:
        UnknownNameError: For a measure that cannot be watched.
        DataError: As `judge` does, and where what is watched has no label.
    """
    everyone = np.zeros(len(table), np.intp)
    # No intervals are needed, so there is one group of faces and no draw.
    data = LabelledScores(tuple(tasks), scores, table, everyone, {}, rounds=0, seed=0)
    if watch.startswith("abaw"):
        return data.protocol(watch).value
    sums = {task.family: data.group_sums(task) for task in tasks}
    _need_labels(sums)
    # A misspelt measure and one without labels need different advice.
    family = watch.partition(".")[0]
    if family in sums and sums[family] is None:
        raise DataError(
            f"{watch} cannot be watched: the label table has no label for {family}; "
            "watch another measure or give its labels"
        )
    known: dict[str, float] = {}
    main = []
    for task_sums in sums.values():
        if task_sums is not None:
            values = data.measured(task_sums)
            main_measure = headlines(task_sums.task.kind, task_sums.graded)[-1]
            main.append(values["", main_measure].value)
            known |= _watchable(task_sums.task.family, values)
    # A task whose measure is undefined makes the mean NaN rather than silently drop out.
    if watch == "mean":
        return sum(main) / len(main)
    if watch not in known:
        raise UnknownNameError("measure to watch", watch, {"mean", *known, *PROTOCOLS})
    return known[watch]


def _watchable(family: str, values: Mapping[tuple[str, str], Measure]) -> dict[str, float]:
    """Values by ``<family>.<measure>[_<name>]``, of measures whose higher value is better."""
    known = {}
    for (name, key), measure in values.items():
        if MEASURES[key].higher_is_better:
            suffix = f"_{name}" if name else ""
            known[f"{family}.{key}{suffix}"] = measure.value
    return known


def _need_labels(sums: Mapping[str, GroupSums | None]) -> None:
    if not any(sums.values()):
        keys = ", ".join(sums) or "any task"
        raise DataError(f"the label table has no label for {keys}; give a split that is annotated")


def _notes(sums: Mapping[str, GroupSums | None], over: str) -> list[str]:
    """What a reader must know about labels and intervals."""
    notes = []
    for key, task_sums in sums.items():
        if task_sums is None:
            notes.append(f"{key}: the table has no labels for it")
    for task_sums in sums.values():
        if task_sums is not None:
            notes += _absent_classes(task_sums, f"{task_sums.task.key}:")
    if over.endswith("face"):
        notes.append(
            "intervals draw single faces again where no video or subject is known; "
            "several faces of one person make them too narrow"
        )
    return notes


def _absent_classes(sums: GroupSums, where: str) -> list[str]:
    """A note on the classes that no face shows, as they lower macro-F1."""
    names = sums.task.names
    # With units and columns an absent one counts for nothing: their means leave it out.
    absent = [name for name, count in zip(names, sums.counts, strict=True) if not count]
    if sums.task.kind != "one_of" or not absent:
        return []
    return [
        f"{where} no face shows {', '.join(absent)}, which adds 0 to macro-F1, "
        f"whose divisor stays {len(names)}"
    ]


def _result(data: LabelledScores, sums: GroupSums) -> TaskResult:
    """Everything that is reported about one task."""
    task = sums.task
    whole: dict[str, Measure] = {}
    # Names without a measure are listed too, so that every report has the same rows.
    by_name: dict[str, dict[str, Measure]] = {}
    for name in task.names:
        by_name[name] = {}
    for (name, key), measure in data.measured(sums).items():
        if name:
            by_name[name][key] = measure
        else:
            whole[key] = measure
    diagrams: dict[str, Any] = {}
    if task.kind == "one_of":
        diagrams = _class_diagrams(sums)
    elif task.kind == "scalar":
        diagrams["density"] = _density(task, data.scores[task.family], data.table)
    return TaskResult(
        task=task.key,
        kind=task.kind,
        names=task.names,
        low=task.low,
        high=task.high,
        graded=sums.graded,
        faces=sums.faces,
        groups=int(sums.has_labels.sum()),
        measures=whole,
        by_name=by_name,
        **diagrams,
    )


def _class_diagrams(sums: GroupSums) -> dict[str, Any]:
    """The confusion matrix and the reliability diagram of a ``one_of`` task."""
    k = len(sums.task.names)
    totals = sums.parts.sum(axis=0)
    confusion = totals[: k * k].astype(int).reshape(k, k).tolist()
    bins = []
    for faces, confidence, right in zip(*np.split(totals[k * k :], 3), strict=True):
        mean_confidence = confidence / faces if faces else NAN
        accuracy = right / faces if faces else NAN
        bins.append(Bin(faces=int(faces), confidence=mean_confidence, accuracy=accuracy))
    return {"confusion": confusion, "reliability": bins}


def _density(task: Task, pred: Floats, table: pd.DataFrame) -> dict[str, list[list[int]]]:
    """Faces by true and predicted value, for every column that is annotated at all."""
    target = labels(table.reindex(columns=list(task.columns)), task)
    # Equal steps over the task's range, so that pictures of different runs can be compared.
    edges = np.linspace(task.low, task.high, CELLS + 1)
    density = {}
    for i, name in enumerate(task.names):
        annotated = ~np.isnan(target[:, i])
        if annotated.any():
            true, predicted = target[annotated, i], pred[annotated, i]
            counts = np.histogram2d(true, predicted, bins=(edges, edges))[0]
            density[name] = counts.astype(int).tolist()
    return density


def _by_people(
    data: LabelledScores, by: str, whole: Mapping[str, GroupSums | None]
) -> tuple[tuple[Part, ...], dict[str, Gap], list[str]]:
    """Headline measures of every value of column `by`, the gaps between them, and notes."""
    column = column_of(data.table, by)
    known = column.notna().to_numpy()
    # Values of any type are named by their text, so that 1 and "1" are one group.
    text = column.astype(str).to_numpy()
    names = sorted(set(text[known]))
    # A column of numbers or file names would make a group of every face.
    if not 1 <= len(names) <= _MOST_GROUPS:
        raise DataError(
            f"column {by!r} makes {len(names)} groups of faces, 1 to {_MOST_GROUPS} can be "
            "compared; put its values into classes"
        )
    notes = []
    if not known.all():
        notes.append(f"{by}: {int((~known).sum())} faces have no value and stand in no group")
    parts = []
    for name in names:
        group = data.subset(known & (text == name))
        values, notes_of_group = _group_measures(group, whole, f"{by} {name}:")
        parts.append(Part(name=name, measures=values))
        notes += notes_of_group
    return tuple(parts), _gaps(parts), notes


def _group_measures(
    group: LabelledScores, whole: Mapping[str, GroupSums | None], where: str
) -> tuple[dict[str, Measure], list[str]]:
    """Headline measures of one group of people, and notes on it."""
    values: dict[str, Measure] = {}
    notes = []
    for task, everyone in zip(group.tasks, whole.values(), strict=True):
        if everyone is None:
            continue
        # Whether labels are grades is a fact of the whole table, not of one group.
        sums = group.group_sums(task, graded=everyone.graded)
        if sums is None:
            continue
        measured = group.measured(sums)
        for key in headlines(task.kind, sums.graded):
            values[f"{task.family}.{key}"] = measured["", key]
        notes += _absent_classes(sums, where)
    return values, notes


def _gaps(parts: Sequence[Part]) -> dict[str, Gap]:
    """Best and worst group by measure, where at least two groups are large enough."""
    by_measure: dict[str, list[tuple[float, str]]] = {}
    for part in parts:
        for name, measure in part.measures.items():
            values = by_measure.setdefault(name, [])
            # A small group is best or worst by chance.
            if measure.faces >= FEW and not np.isnan(measure.value):
                values.append((measure.value, part.name))
    gaps = {}
    for name, values in by_measure.items():
        if len(values) > 1:
            best, worst = max(values), min(values)
            gaps[name] = Gap(best=best[1], worst=worst[1], difference=best[0] - worst[0])
    return gaps
