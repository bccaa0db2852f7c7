"""What a card says of an exported network, measured: scores with intervals, temperatures, worse pictures, agreement of engines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mien.bundles.card import AffectCard
from mien.bundles.card_parts import Score
from mien.bundles.engines import available, open_engine
from mien.bundles.store import Model
from mien.data.label_table import labels
from mien.errors import BundleError, DataError
from mien.evaluation.calibration import cross_fitted, temperature
from mien.evaluation.corruptions import CONDITIONS, robustness
from mien.evaluation.judge import judge
from mien.evaluation.measures import class_measures, headlines, title
from mien.evaluation.predict import Scored, evaluate_bundle
from mien.evaluation.results import Evaluation, Measure, TaskResult
from mien.progress import Progress, named
from mien.tasks import Floats, Task
from mien.train.open_model import ENGINE

__all__ = ["Measured", "Measurer", "tolerance"]

"""Called with what is going on, how much of it is done, and how much there is."""

_TINY: Final = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured with one exported network."""

    model: Model
    scored: Scored
    evaluations: dict[str, Evaluation]
    """By data set: scores over a mixture would speak of no faces that anyone has."""
    heats: dict[str, float]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measurer:
    """Measures networks of the same tasks on the same validation faces.

    val: their label table, with a column `set` that names the data set of each.
    """

    tasks: tuple[Task, ...]
    val: pd.DataFrame
    skip_unreadable: bool
    note: Callable[[str], None]
    progress: Progress

    def measure(self, path: Path, card: AffectCard) -> Measured:
        """Scores with cross-fitted temperatures, judged; and the temperatures that the card will hold.

        card: what a `Model` reads of it; temperatures empty.
        """
        scored = self._scores(Model(card, open_engine(path.read_bytes(), ENGINE)))
        heats, fair, limits = _calibrated(self.tasks, scored)
        whose = scored.table["set"].to_numpy()
        masks = {str(name): whose == name for name in dict.fromkeys(whose)}
        evaluations = {
            name: judge(
                self.tasks,
                {family: values[rows] for family, values in fair.items()},
                scored.table[rows],
            )
            for name, rows in masks.items()
        }
        model = Model(
            card.model_copy(update={"temperature": heats}), open_engine(path.read_bytes(), ENGINE)
        )
        return Measured(model, scored, evaluations, heats, limits)

    def _scores(self, model: Model) -> Scored:
        def ahead(done: int, total: int) -> None:
            self.progress(f"scoring with {model.engine}", done, total)

        return evaluate_bundle(
            model, self.val, progress=ahead, skip_unreadable=self.skip_unreadable
        )

    def told(self, found: Measured) -> list[Score]:
        """Headlines, calibration, and every class, unit or column, set by set."""
        kinds = (_headlines, lambda result: _calibration(result, found.heats), _each)
        return [
            score
            for lines in kinds
            for name, evaluation in found.evaluations.items()
            for result in evaluation.tasks
            for score in _scores(
                lines(result), f"{_split(name)}; intervals over {evaluation.intervals_over}"
            )
        ]

    def before(self, plain: Measured, found: Measured) -> list[Score]:
        """The headlines before 8-bit quantisation; the difference is told."""
        scores = []
        for data, evaluation in plain.evaluations.items():
            old, new = (
                [line for result in one.tasks for line in _headlines(result)]
                for one in (evaluation, found.evaluations[data])
            )
            for (name, was), (_, now) in zip(old, new, strict=True):
                self.note(
                    f"{data}: {name}: {was.value:.4f} before 8-bit quantisation, {now.value:.4f} after"
                )
            scores += _scores(
                [(f"{name} before 8-bit quantisation", one) for name, one in old], _split(data)
            )
        return scores

    def worse(self, found: Measured) -> list[Score]:
        """The headlines under every condition of worse pictures, set by set."""
        scores = []
        for data in found.evaluations:
            table = found.scored.table[found.scored.table["set"] == data].reset_index(drop=True)
            by_condition = robustness(
                found.model.score,
                table,
                self.tasks,
                progress=named(self.progress, f"robustness on {data}"),
            )
            for condition, row in by_condition.items():
                done = f"{condition}: {CONDITIONS[condition].meaning}"
                told = _scores([(title(name), one) for name, one in row.items()], _split(data))
                scores += [score.model_copy(update={"condition": done}) for score in told]
        return scores


def tolerance(network: bytes, card: AffectCard, scored: Scored) -> tuple[float, tuple[str, ...]]:
    """The largest difference of any score between the installed engines over a table, half as much again for safety; and a limit.

    The limit says so where only one engine is installed and nothing could be compared.
    Raises BundleError for engines that disagree by more than a card can hold.
    """
    names = available()
    answered = [
        evaluate_bundle(Model(card, open_engine(network, name)), scored.table).scores
        for name in names
    ]
    apart = max(
        float(np.ptp([one[family] for one in answered], axis=0).max()) for family in answered[0]
    )
    if 1.5 * apart >= 1:
        raise BundleError(
            f"{' and '.join(names)} disagree by {apart:.2g} on this network; one of 16 bits agrees better"
        )
    limits = (
        ()
        if len(names) > 1
        else (
            f"only {names[0]} was installed when it was made; that other engines agree with it is not measured",
        )
    )
    return max(round(1.5 * apart, 3), 0.001), limits


def _calibrated(
    tasks: Sequence[Task], scored: Scored
) -> tuple[dict[str, float], dict[str, Floats], tuple[str, ...]]:
    """By family: the temperature, scores with temperatures fitted on other faces; and what could not be fitted."""
    heats: dict[str, float] = {}
    fair, limits = dict(scored.scores), []
    for task in tasks:
        target = labels(scored.table, task)
        if task.kind != "one_of" or np.isnan(target).all():
            continue
        # Softmax does not see what all classes share, so the logarithm of a probability serves as its raw output.
        raw = np.log(np.maximum(scored.scores[task.family], _TINY))
        told = np.where(np.isnan(target).any(axis=1), np.nan, target.argmax(axis=1))
        try:
            heats[task.family] = temperature(raw, told)
            fair[task.family] = cross_fitted(raw, told, _groups(scored.table))
        except DataError as error:
            heats.pop(task.family, None)
            limits.append(f"{task.family}: probabilities are not calibrated: {error}")
    return heats, fair, tuple(limits)


def _groups(table: pd.DataFrame) -> Floats:
    """The number of each face's video, else subject, else itself."""
    known = table["video"].astype(object).where(table["video"].notna(), table["subject"])
    alone = pd.Series([("alone", i) for i in range(len(table))], index=table.index, dtype=object)
    return np.asarray(pd.factorize(known.astype(object).where(known.notna(), alone))[0], np.float64)


def _headlines(result: TaskResult) -> list[tuple[str, Measure]]:
    return [
        (title(f"{result.family}.{name}"), result.measures[name])
        for name in headlines(result.kind, result.graded)
    ]


def _calibration(result: TaskResult, heats: dict[str, float]) -> list[tuple[str, Measure]]:
    how = "cross-fitted temperature" if result.family in heats else "not calibrated"
    return (
        [(f"{title(f'{result.family}.ece')} ({how})", result.measures["ece"])]
        if "ece" in result.measures
        else []
    )


def _each(result: TaskResult) -> list[tuple[str, Measure]]:
    measure = class_measures(result.kind, result.graded)[0]
    return [
        (f"{title(f'{result.family}.{measure}')} {name}", row[measure])
        for name, row in result.by_name.items()
    ]


def _scores(named: Sequence[tuple[str, Measure]], data: str) -> list[Score]:
    """Rounded for a card; what is undefined stays off."""
    return [
        Score(
            metric=name,
            value=round(one.value, 4),
            low=round(one.low, 4),
            high=round(one.high, 4),
            data=data,
            faces=one.faces,
        )
        for name, one in named
        if np.isfinite([one.value, one.low, one.high]).all()
    ]


def _split(name: str) -> str:
    return f"validation split of {name}"
