"""What a card says of an exported network, measured.

Scores with intervals, temperatures, scores on degraded pictures, and agreement of the engines.
"""

from collections.abc import Callable, Iterator, Sequence
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
from mien.evaluation.nested_tuning import thresholds_for
from mien.evaluation.predict import Scored, evaluate_bundle
from mien.evaluation.results import Evaluation, Measure, TaskResult
from mien.progress import Progress, named
from mien.systems.system import System
from mien.tasks import Floats, Task
from mien.train.open_model import ENGINE

__all__ = ["Measured", "Measurer", "engine_difference", "presence", "tolerance", "tolerance_of"]

# Smallest probability whose logarithm is finite in float32.
_TINY: Final = np.finfo(np.float32).tiny

# The tolerance of a card: the measured difference with a margin for faces that were not measured.
_MARGIN: Final = 1.5
_SMALLEST_TOLERANCE: Final = 0.001

_Named = list[tuple[str, Measure]]
"""Measures with the names they have on a card."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one exported network.

    Attributes:
        model: The network with the temperatures that its card will hold.
        scored: Its scores without any temperature, over the validation faces.
        evaluations: By data set, since scores over a mixture would be of faces that nobody has.
        temperatures: By task family, where they could be fitted.
        limits: What could not be measured, for the card.
    """

    model: Model
    scored: Scored
    evaluations: dict[str, Evaluation]
    temperatures: dict[str, float]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measurer:
    """Measures networks of the same tasks on the same validation faces.

    Attributes:
        tasks: The tasks of the networks, in output order.
        val: Label table of the faces; its column `set` names each one's data set.
        skip_unreadable: Leave out pictures that cannot be read.
        note: Called with a line for people.
        progress: Called with what is going on, and how much of it is done.
    """

    tasks: tuple[Task, ...]
    val: pd.DataFrame
    skip_unreadable: bool
    note: Callable[[str], None]
    progress: Progress

    def measure(self, path: Path, card: AffectCard) -> Measured:
        """Score the validation faces, and judge the scores with cross-fitted temperatures.

        Args:
            path: ONNX file of the network.
            card: What a `Model` reads of its card; temperatures are empty.

        Returns:
            The evaluation of each data set, and the temperatures for the card.

        Raises:
            DataError: A picture cannot be read and must not be skipped.
        """
        network = path.read_bytes()
        # Without temperatures, so that they can be fitted to these scores.
        scored = self._score(Model(card, open_engine(network, ENGINE)))
        temperatures, calibrated, limits = _calibrate(self.tasks, scored)
        sets = scored.table["set"].to_numpy()
        evaluations = {}
        for name in dict.fromkeys(sets):
            rows = sets == name
            scores = {}
            for family, values in calibrated.items():
                scores[family] = values[rows]
            evaluations[str(name)] = judge(self.tasks, scores, scored.table[rows])
        # Degraded pictures and engines are measured with what users will run.
        final_card = card.model_copy(update={"temperature": temperatures})
        model = Model(final_card, open_engine(network, ENGINE))
        return Measured(model, scored, evaluations, temperatures, limits)

    def _score(self, model: Model) -> Scored:
        return evaluate_bundle(
            model,
            self.val,
            progress=named(self.progress, f"scoring with {model.engine}"),
            skip_unreadable=self.skip_unreadable,
        )

    def scores(self, measured: Measured) -> list[Score]:
        """List the scores of a card: headlines, calibration, and those of each class.

        Args:
            measured: What was measured of the network.

        Returns:
            For each kind of score, those of every data set and task; undefined ones left out.
        """

        def calibration(result: TaskResult) -> _Named:
            return _calibration_error(result, result.family in measured.temperatures)

        # Kind by kind, so that the headlines of all data sets come first.
        scores: list[Score] = []
        for select in (_headlines, calibration, _class_measures):
            for name, evaluation in measured.evaluations.items():
                data = f"{_split(name)}; intervals over {evaluation.intervals_over}"
                for result in evaluation.tasks:
                    scores += _card_scores(select(result), data)
        return scores

    def scores_before_quantisation(self, plain: Measured, measured: Measured) -> list[Score]:
        """List the headlines of the network before quantisation to 8 bits, and note the change.

        Args:
            plain: What was measured before.
            measured: What was measured after.

        Returns:
            The headlines before, of every data set.
        """
        scores: list[Score] = []
        for data, evaluation in plain.evaluations.items():
            old = _all_headlines(evaluation)
            new = _all_headlines(measured.evaluations[data])
            renamed = []
            for (name, before), (_, after) in zip(old, new, strict=True):
                self.note(
                    f"{data}: {name}: {before.value:.4f} before 8-bit quantisation, "
                    f"{after.value:.4f} after"
                )
                renamed.append((f"{name} before 8-bit quantisation", before))
            scores += _card_scores(renamed, _split(data))
        return scores

    def scores_by_corruption(self, measured: Measured) -> list[Score]:
        """Measure the headlines on degraded pictures.

        Args:
            measured: What was measured of the network on the pictures as they are.

        Returns:
            The headlines of every data set under every condition.

        Raises:
            DataError: A picture cannot be read.
        """
        table = measured.scored.table
        scores: list[Score] = []
        for data in measured.evaluations:
            results = robustness(
                measured.model.score,
                table[table["set"] == data].reset_index(drop=True),
                self.tasks,
                progress=named(self.progress, f"robustness on {data}"),
            )
            for condition, measures in results.items():
                meaning = f"{condition}: {CONDITIONS[condition].meaning}"
                titled = []
                for key, measure in measures.items():
                    titled.append((title(key), measure))
                for score in _card_scores(titled, _split(data)):
                    scores.append(score.model_copy(update={"condition": meaning}))
        return scores


def tolerance(network: bytes, card: AffectCard, scored: Scored) -> tuple[float, tuple[str, ...]]:
    """Measure how far the installed engines differ on a network.

    Args:
        network: ONNX file of the network.
        card: Its card.
        scored: Faces to compare scores on.

    Returns:
        The tolerance of the card, half as much again as the largest difference of any score; and
        the limits of `engine_difference`.

    Raises:
        BundleError: The engines differ by more than a card can say.
    """

    def opened(engine: str) -> Model:
        return Model(card, open_engine(network, engine))

    difference, limits = engine_difference(opened, scored.table)
    if _MARGIN * difference >= 1:
        names = " and ".join(available())
        raise BundleError(
            f"{names} disagree by {difference:.2g} on this network; one of 16 bits agrees better"
        )
    return tolerance_of(difference), limits


def engine_difference(
    opened: Callable[[str], Model | System], table: pd.DataFrame
) -> tuple[float, tuple[str, ...]]:
    """Measure how far scores differ between the installed engines.

    Args:
        opened: Opens the model or system with the engine of a name.
        table: Label table of the faces to compare scores on.

    Returns:
        The largest difference of any score; and the limit that nothing was compared, where only
        one engine is installed.
    """
    engines = available()
    answers = [evaluate_bundle(opened(engine), table).scores for engine in engines]
    # The widest range of any single score over the engines.
    difference = 0.0
    for family in answers[0]:
        spread = np.ptp([scores[family] for scores in answers], axis=0)
        difference = max(difference, float(spread.max()))
    # One engine cannot differ from itself, and a card must not pass that off as agreement.
    limits: tuple[str, ...] = ()
    if len(engines) == 1:
        limits = (
            f"only {engines[0]} was installed when it was made; that other engines agree with it "
            "is not measured",
        )
    return difference, limits


def tolerance_of(difference: float) -> float:
    """The tolerance that a card states.

    Args:
        difference: The largest that was measured.

    Returns:
        Half as much again, for faces that were not measured, and never 0.
    """
    return max(round(_MARGIN * difference, 3), _SMALLEST_TOLERANCE)


def presence(tasks: Sequence[Task], scored: Scored) -> dict[str, float]:
    """The activation of each action unit from which it counts as present.

    Args:
        tasks: The tasks of the network.
        scored: Its scores over the validation faces.

    Returns:
        The threshold with the highest F1 on these faces, by unit; only of units that are labelled
        present or absent, and both.
    """
    thresholds: dict[str, float] = {}
    for task in tasks:
        target = labels(scored.table, task)
        # Grades, such as another network's activations, say nothing of presence.
        if task.family != "au" or not np.isin(target[~np.isnan(target)], (0, 1)).all():
            continue
        chosen = thresholds_for(scored.scores["au"], target)
        for name, threshold, unit in zip(task.names, chosen, target.T, strict=True):
            if (unit == 0).any() and (unit == 1).any():
                thresholds[name] = float(threshold)
    return thresholds


def _calibrate(
    tasks: Sequence[Task], scored: Scored
) -> tuple[dict[str, float], dict[str, Floats], tuple[str, ...]]:
    """Temperatures, scores calibrated on other faces, and what could not be calibrated."""
    temperatures: dict[str, float] = {}
    calibrated = dict(scored.scores)
    limits = []
    groups = _calibration_groups(scored.table)
    for task in tasks:
        shares = labels(scored.table, task)
        # Only probabilities of classes have a temperature, and only labels can fit one.
        if task.kind != "one_of" or np.isnan(shares).all():
            continue
        # Softmax ignores what all classes share, so log-probabilities serve as raw output.
        raw = np.log(np.maximum(scored.scores[task.family], _TINY))
        # Shares of votes become the class with most of them; unlabelled faces stay out.
        unlabelled = np.isnan(shares).any(axis=1)
        target = np.where(unlabelled, np.nan, shares.argmax(axis=1))
        try:
            fitted = temperature(raw, target)
            calibrated[task.family] = cross_fitted(raw, target, groups)
        except DataError as error:
            limits.append(f"{task.family}: probabilities are not calibrated: {error}")
        else:
            temperatures[task.family] = fitted
    return temperatures, calibrated, tuple(limits)


def _calibration_groups(table: pd.DataFrame) -> Floats:
    """Number (N,) of each face's video, else of its subject, else of the face itself.

    Faces of one person must not be on both sides of cross-fitting.
    """
    video = table["video"].astype(object)
    groups = video.where(table["video"].notna(), table["subject"]).astype(object)
    single = [("alone", row) for row in range(len(table))]
    alone = pd.Series(single, index=table.index, dtype=object)
    numbers, _ = pd.factorize(groups.where(groups.notna(), alone))
    return np.asarray(numbers, np.float64)


def _headlines(result: TaskResult) -> _Named:
    measures: _Named = []
    for name in headlines(result.kind, result.graded):
        measures.append((title(f"{result.family}.{name}"), result.measures[name]))
    return measures


def _all_headlines(evaluation: Evaluation) -> _Named:
    measures: _Named = []
    for result in evaluation.tasks:
        measures += _headlines(result)
    return measures


def _calibration_error(result: TaskResult, is_calibrated: bool) -> _Named:
    if "ece" not in result.measures:
        return []
    method = "cross-fitted temperature" if is_calibrated else "not calibrated"
    return [(f"{title(f'{result.family}.ece')} ({method})", result.measures["ece"])]


def _class_measures(result: TaskResult) -> _Named:
    """The measure that stands for each class, unit or column."""
    key = class_measures(result.kind, result.graded)[0]
    name = title(f"{result.family}.{key}")
    named_measures: _Named = []
    for part, measures in result.by_name.items():
        named_measures.append((f"{name} {part}", measures[key]))
    return named_measures


def _card_scores(measures: _Named, data: str) -> Iterator[Score]:
    """Scores rounded for a card; undefined ones are left out."""
    for name, measure in measures:
        if not np.isfinite([measure.value, measure.low, measure.high]).all():
            continue
        yield Score(
            metric=name,
            value=round(measure.value, 4),
            low=round(measure.low, 4),
            high=round(measure.high, 4),
            data=data,
            faces=measure.faces,
        )


def _split(name: str) -> str:
    return f"validation split of {name}"
