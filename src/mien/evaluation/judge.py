"""How good scores are over a label table: every measure with a 95 % interval, the challenges' protocols, and groups of people.

Nothing here imports torch: a bundle and a label table are enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.label_table import labels
from mien.errors import DataError, LabelMismatchError, UnknownNameError
from mien.evaluation.group_sums import (
    GroupSums,
    Key,
    Numbers,
    group_sums,
    interval,
    measures,
    resampled,
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
    repeated,
)
from mien.metrics import NAN, PROTOCOLS
from mien.tasks import TASKS, Floats, Task

__all__ = ["OF_TERM", "Evaluation", "Scored", "evaluate_bundle", "headline", "judge", "repeated"]

_MOST_GROUPS: Final = 50
_SLACK: Final = 1e-4  # what rounding may add to the ends of a range
OF_TERM: Final[dict[str, Key]] = {
    "macro_f1": ("", "macro_f1"),
    "accuracy": ("", "accuracy"),
    "au_f1": ("", "mean_f1"),
    **{f"ccc_{name}": (name, "ccc") for name in TASKS["va"].names},
    **{
        f"pearson_{name}": (name, "r")
        for key in ("emi.abaw5", "emi.abaw6")
        for name in TASKS[key].names
    },
}

Thresholds = Mapping[str, float | Sequence[float]]


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Scores and a label table side by side, every face with the number of its group, and how to draw the groups again."""

    tasks: tuple[Task, ...]
    scores: Mapping[str, Floats]
    table: pd.DataFrame
    number: Numbers
    thresholds: Thresholds
    rounds: int
    seed: int

    def only(self, rows: NDArray[np.bool_]) -> "_Labelled":
        """The same of some faces."""
        scores = {family: values[rows] for family, values in self.scores.items()}
        number = pd.factorize(self.number[rows])[0]
        return _Labelled(
            self.tasks, scores, self.table[rows], number, self.thresholds, self.rounds, self.seed
        )

    def group_sums(
        self, task: Task, like: Task | None = None, graded: bool | None = None
    ) -> GroupSums | None:
        """Sums of one task, read as the label set of `like` if given; None where nothing is annotated. graded: as of `group_sums`."""
        target = _target(task, self.table)
        if target is None:
            return None
        pred, threshold = (
            _prediction(task, self.scores, target),
            self.thresholds.get(task.family, 0.5),
        )
        if like is None or like == task:
            return group_sums(task, pred, target, self.number, threshold=threshold, graded=graded)
        index = like.column_index(task.names)
        if task.kind == "one_of":
            target[~np.isin(target.argmax(axis=1), index)] = (
                np.nan
            )  # the face shows a class that the set does not have
        target = target[:, index]
        if np.isnan(target).all():
            return None
        chosen = threshold if np.ndim(threshold) == 0 else np.asarray(threshold)[index].tolist()
        return group_sums(
            like, pred[:, index], target, self.number, threshold=chosen, graded=graded
        )

    def measured(self, found: GroupSums) -> dict[Key, Measure]:
        """Every measure of a task with its interval."""
        parts = found.parts[found.has_labels]
        values = measures(found, parts.sum(axis=0)[None])
        draws = measures(found, resampled(parts, self.rounds, self.seed))
        counts = {
            "": found.faces,
            **dict(zip(found.task.names, found.counts.tolist(), strict=True)),
        }
        return {key: _measure(values[key], draws[key], counts[key[0]]) for key in values}

    def protocol(self, name: str) -> Measure:
        """A challenge's formula; one draw of groups serves all its terms."""
        if name not in PROTOCOLS:
            raise UnknownNameError("protocol", name, PROTOCOLS)
        terms = PROTOCOLS[name].terms
        found = {
            key: self._for_protocol(name, TASKS[key])
            for key in dict.fromkeys(term.task for term in terms)
        }
        held = np.any([one.has_labels for one in found.values()], axis=0)
        parts = np.hstack([one.parts[held] for one in found.values()])
        ends = np.cumsum([one.parts.shape[1] for one in found.values()])[:-1]

        def formula(sums: Floats) -> Floats:
            by_task = {
                key: measures(one, part)
                for (key, one), part in zip(
                    found.items(), np.split(sums, ends, axis=1), strict=True
                )
            }
            return np.asarray(
                sum(term.weight * by_task[term.task][OF_TERM[term.name]] for term in terms)
            )

        draws = formula(resampled(parts, self.rounds, self.seed))
        return _measure(
            formula(parts.sum(axis=0)[None]), draws, max(one.faces for one in found.values())
        )

    def _for_protocol(self, name: str, wanted: Task) -> GroupSums:
        own = next((task for task in self.tasks if task.family == wanted.family), None)
        if own is None:
            raise DataError(
                f"protocol {name} needs the task {wanted.key}; here are {', '.join(task.key for task in self.tasks)}"
            )
        try:
            found = self.group_sums(own, like=wanted)
        except LabelMismatchError as error:
            raise LabelMismatchError(
                f"protocol {name} does not fit {own.key}: {error}; leave the protocol out"
            ) from error
        if found is None:
            raise DataError(
                f"protocol {name} needs labels of {wanted.key}; the table has none, leave the protocol out"
            )
        if found.graded:
            raise DataError(
                f"protocol {name} counts {wanted.key} as on or off; the table's labels lie in between, leave the protocol out"
            )
        return found


def _measure(value: Floats, draws: Floats, faces: int) -> Measure:
    low, high = interval(draws)
    return Measure(value=float(value[0]), low=low, high=high, faces=int(faces))


def _target(task: Task, table: pd.DataFrame) -> Floats | None:
    """Labels (N, K) float64, a ``one_of`` row whole or NaN; None where nothing is annotated. Raises DataError for labels out of range."""
    missing = [column for column in task.columns if column not in table]
    if len(missing) == len(task.columns):
        return None
    if missing and task.kind == "one_of":
        raise DataError(
            f"{task.key}: the label table lacks {', '.join(missing)}; judge it as a task with the table's own classes"
        )
    target = labels(table.reindex(columns=list(task.columns)), task).astype(np.float64)
    if ((target < task.low - _SLACK) | (target > task.high + _SLACK)).any():
        raise DataError(
            f"{task.key}: labels reach outside {task.low:g}..{task.high:g}; mend the data set's adapter, codes end there"
        )
    if task.kind == "one_of":
        target[np.isnan(target).any(axis=1) | (target.sum(axis=1) == 0)] = np.nan
    return None if np.isnan(target).all() else target


def _prediction(task: Task, scores: Mapping[str, Floats], target: Floats) -> Floats:
    """Scores (N, K) of a task; raises DataError when they do not fit the table."""
    if task.family not in scores:
        raise DataError(
            f"no scores for {task.key}; the scores hold {', '.join(scores) or 'nothing'}"
        )
    pred = np.asarray(scores[task.family])
    if pred.shape != target.shape:
        raise DataError(
            f"{task.key}: scores are {pred.shape}, the label table asks for {target.shape}; score the same table, in its order"
        )
    used = pred[~np.isnan(target)]
    if np.isnan(used).any():
        raise DataError(
            f"{task.key}: {int(np.isnan(used).sum())} scores of annotated faces are NaN; leave those rows out of both, and say so"
        )
    if ((used < task.low - _SLACK) | (used > task.high + _SLACK)).any():
        raise DataError(
            f"{task.key}: scores reach outside {task.low:g}..{task.high:g}; decode raw output with Task.decode first"
        )
    return pred


def _column(table: pd.DataFrame, name: str) -> "pd.Series[str]":
    if name not in table:
        raise DataError(
            f"the label table has no column {name!r}; it has {', '.join(map(str, table.columns))}"
        )
    return table[name]


def _grouped(table: pd.DataFrame, groups: str) -> tuple[Numbers, str]:
    """The number of each face's group, and what the groups are: a column, and the face itself where that is empty."""
    columns = ("video", "subject") if groups == "auto" else () if groups == "face" else (groups,)
    number, used = np.full(len(table), -1), []
    for column in columns:
        if groups == "auto" and column not in table:
            continue
        codes = pd.factorize(_column(table, column))[0]
        free = (number < 0) & (codes >= 0)
        if free.any():
            number[free] = codes[free] + number.max() + 1
            used.append(column)
    if (number < 0).any():
        number[number < 0] = np.arange((number < 0).sum()) + number.max() + 1
        used.append("face")
    return pd.factorize(number)[0], ", else ".join(used)


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

    scores: by task family, decoded, (N, K) in the table's order. groups: what the intervals draw again: ``auto`` takes a face's video,
    else its subject, else the face itself; ``face``; or a column of the table. protocols: names in `PROTOCOLS`; expressions are matched by
    name. thresholds: by family, from which score a unit is on (0.5). by: a column that says which group of people a face belongs to.
    A ``one_of`` face counts for the class with its largest share. Tasks without labels are left out, and the notes say so.
    Raises DataError when nothing is labelled or scores and table do not fit, UnknownNameError, and LabelMismatchError for a protocol whose
    classes the task does not have.
    """
    number, over = _grouped(table, groups)
    data = _Labelled(tuple(tasks), scores, table, number, thresholds or {}, rounds, seed)
    found = {task.key: data.group_sums(task) for task in tasks}
    _need_labels(found)
    notes = [f"{key}: the table has no labels for it" for key, one in found.items() if one is None]
    notes += [
        note
        for one in found.values()
        if one is not None
        for note in _absent(one, f"{one.task.key}:")
    ]
    if over.endswith("face"):
        notes.append(
            "intervals draw single faces again where no video or subject is known; several faces of one person make them too narrow"
        )
    results = tuple(_result(data, one) for one in found.values() if one is not None)
    parts, gaps, more = _by_people(data, by, found) if by else ((), {}, [])
    return Evaluation(
        faces=len(table), intervals_over=over, rounds=rounds, seed=seed, tasks=results, by=by, parts=parts, gaps=gaps,
        protocols={name: data.protocol(name) for name in protocols}, notes=tuple(notes + more),
    )  # fmt: skip


def _need_labels(found: Mapping[str, GroupSums | None]) -> None:
    if not any(found.values()):
        raise DataError(
            f"the label table has no label for {', '.join(found) or 'any task'}; give a split that is annotated"
        )


def _result(data: _Labelled, found: GroupSums) -> TaskResult:
    task, measured, k = found.task, data.measured(found), len(found.task.names)
    sums, extra = found.parts.sum(axis=0), {}
    if task.kind == "one_of":
        faces, confidence, right = np.split(sums[k * k :], 3)
        bins = [
            (int(n), c / n if n else NAN, r / n if n else NAN)
            for n, c, r in zip(faces, confidence, right, strict=True)
        ]
        extra["confusion"] = sums[: k * k].astype(int).reshape(k, k).tolist()
        extra["reliability"] = [Bin(faces=n, confidence=c, accuracy=r) for n, c, r in bins]
    if task.kind == "scalar":
        extra["density"] = _density(task, data.scores[task.family], data.table)
    return TaskResult(
        task=task.key, kind=task.kind, names=task.names, low=task.low, high=task.high, graded=found.graded, faces=found.faces,
        groups=int(found.has_labels.sum()), measures={name: one for (owner, name), one in measured.items() if not owner},
        each={name: {measure: one for (owner, measure), one in measured.items() if owner == name} for name in task.names}, **extra,
    )  # fmt: skip


def _density(task: Task, pred: Floats, table: pd.DataFrame) -> dict[str, list[list[int]]]:
    target = labels(table.reindex(columns=list(task.columns)), task)
    edges = np.linspace(task.low, task.high, CELLS + 1)
    return {
        name: np.histogram2d(target[seen, i], pred[seen, i], bins=(edges, edges))[0]
        .astype(int)
        .tolist()
        for i, name in enumerate(task.names)
        if (seen := ~np.isnan(target[:, i])).any()
    }


def _by_people(
    data: _Labelled, by: str, whole: Mapping[str, GroupSums | None]
) -> tuple[tuple[Part, ...], dict[str, Gap], list[str]]:
    """Headline measures of every value of column `by`, the gaps between them, and what a reader must know."""
    column = _column(data.table, by)
    given = column.notna().to_numpy()
    text = column.astype(str).to_numpy()
    names = sorted(set(text[given]))
    if not 1 <= len(names) <= _MOST_GROUPS:
        raise DataError(
            f"column {by!r} makes {len(names)} groups of faces, 1 to {_MOST_GROUPS} can be compared; put its values into classes"
        )
    notes = (
        [f"{by}: {int((~given).sum())} faces have no value and stand in no group"]
        if not given.all()
        else []
    )
    parts = []
    for name in names:
        some = data.only(given & (text == name))
        row: dict[str, Measure] = {}
        for task, everybody in zip(data.tasks, whole.values(), strict=True):
            if (
                everybody is None
                or (found := some.group_sums(task, graded=everybody.graded)) is None
            ):
                continue
            measured = some.measured(found)
            row |= {
                f"{task.family}.{m}": measured["", m] for m in headlines(task.kind, found.graded)
            }
            notes += _absent(found, f"{by} {name}:")
        parts.append(Part(name=name, measures=row))
    return tuple(parts), _gaps(parts), notes


def _absent(found: GroupSums, where: str) -> list[str]:
    absent = [name for name, count in zip(found.task.names, found.counts, strict=True) if not count]
    if found.task.kind != "one_of" or not absent:
        return []
    return [
        f"{where} no face shows {', '.join(absent)}, which adds 0 to macro-F1, whose divisor stays {len(found.task.names)}"
    ]


def _gaps(parts: Sequence[Part]) -> dict[str, Gap]:
    gaps = {}
    for name in dict.fromkeys(name for part in parts for name in part.measures):
        sure = [
            (one.value, part.name)
            for part in parts
            if (one := part.measures.get(name)) and one.faces >= FEW and one.value == one.value
        ]
        if len(sure) > 1:
            gaps[name] = Gap(
                best=max(sure)[1], worst=min(sure)[1], difference=max(sure)[0] - min(sure)[0]
            )
    return gaps


def headline(
    tasks: Sequence[Task], scores: Mapping[str, Floats], table: pd.DataFrame, watch: str = "mean"
) -> float:
    """The one number that training watches; higher is better, NaN = undefined.

    watch: ``mean`` over the labelled tasks of macro-F1, mean F1 or mean r, and mean CCC; ``<family>.<measure>`` such as ``expr.accuracy``
    or ``va.ccc_valence``; or the name of a protocol. scores: as for `judge`. Raises as `judge` does; DataError too where what is watched
    has no label.
    """
    data = _Labelled(tuple(tasks), scores, table, np.zeros(len(table), np.intp), {}, 0, 0)
    if watch in PROTOCOLS:
        return data.protocol(watch).value
    found = {task.family: data.group_sums(task) for task in tasks}
    _need_labels(found)
    family = watch.partition(".")[0]
    if family in found and found[family] is None:
        raise DataError(
            f"{watch} cannot be watched: the label table has no label for {family}; watch another measure or give its labels"
        )
    known: dict[str, float] = {}
    main = []
    for one_family, one in found.items():
        if one is not None:
            values = data.measured(one)
            main.append(values["", headlines(one.task.kind, one.graded)[-1]].value)
            known |= {
                f"{one_family}.{m}{'_' * bool(name)}{name}": v.value
                for (name, m), v in values.items()
                if MEASURES[m].higher_is_better
            }
    if watch == "mean":
        return sum(main) / len(main)
    if watch not in known:
        raise UnknownNameError("measure to watch", watch, {"mean", *known, *PROTOCOLS})
    return known[watch]
