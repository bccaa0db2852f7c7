"""Choose the probability below which a bundle leaves the expression's label open.

    python -m mien.train.bundle.label_threshold BUNDLE --data SETTINGS.yaml [--precision 0.9]
        [--write]

SETTINGS: as for `mien evaluate`; its validation faces are read. A higher threshold names fewer
faces, and is right about more of those that it names. The lowest threshold is chosen at which
`--precision` of the named faces are right; the rest is printed to choose otherwise. `--write` puts
it on the bundle's card as `uncertain_below`, with what it costs. Scores are not changed by it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.bundles.card import AffectCard
from mien.bundles.card_parts import Score
from mien.bundles.model import Model
from mien.bundles.store import load, open_bundle
from mien.data.label_table import labels
from mien.data.registry import set_name
from mien.errors import DataError, LabelMismatchError
from mien.evaluation.predict import evaluate_bundle
from mien.tasks import Floats
from mien.train.bundle.pack import score_with_interval, write_bundle_files
from mien.train.open_model import table_for
from mien.train.settings.training import Settings, read_settings

__all__ = [
    "choose_threshold",
    "chosen_on",
    "coverage_and_precision",
    "named_labels",
    "with_threshold",
]

PRECISION: Final = 0.9
"""Share of the named faces that shall be right."""
_THRESHOLDS: Final = np.arange(1, 100) / 100
# A share of fewer faces says little.
_LEAST_FACES: Final = 50
_COVERAGE: Final = "share of faces whose expression is named"
_PRECISION: Final = "share of the named expressions that are right"


def coverage_and_precision(
    probability: ArrayLike, is_right: ArrayLike, threshold: float
) -> tuple[float, float]:
    """What a threshold costs and gives.

    Args:
        probability: Of the likeliest expression (N,), 0..1.
        is_right: Whether that expression is the label (N,).
        threshold: Faces of a lower probability get no label.

    Returns:
        The share of faces that get a label, and the share of those whose label is right; NaN
        without any.

    >>> coverage_and_precision([0.3, 0.6, 0.9], [False, False, True], 0.5)
    (0.6666666666666666, 0.5)
    """
    is_named = np.asarray(probability) >= threshold
    precision = np.asarray(is_right)[is_named].mean() if is_named.any() else np.nan
    return float(is_named.mean()), float(precision)


def choose_threshold(
    probability: ArrayLike, is_right: ArrayLike, precision: float = PRECISION
) -> float:
    """Choose the lowest threshold at which the named faces are right often enough.

    Args:
        probability: Of the likeliest expression (N,), 0..1.
        is_right: Whether that expression is the label (N,).
        precision: Share of the named faces that shall be right, 0..1.

    Returns:
        The threshold, in hundredths.

    Raises:
        DataError: All labels together are right that often, or those of no threshold are.
    """
    surest = np.asarray(probability)
    right = np.asarray(is_right, bool)
    if right.mean() >= precision:
        raise DataError(
            f"{right.mean():.3f} of all labels are right, which is {precision:g} or more: no "
            "threshold is needed; ask for a higher precision"
        )
    best = 0.0
    for threshold in _THRESHOLDS.tolist():
        _, reached = coverage_and_precision(surest, right, threshold)
        if (surest >= threshold).sum() < _LEAST_FACES:
            break
        if reached >= precision:
            return float(threshold)
        best = max(best, reached)
    raise DataError(
        f"no threshold makes {precision:g} of the labels right, {best:.3f} at most; "
        "ask for a lower precision"
    )


def named_labels(model: Model, settings: Settings) -> tuple[Floats, NDArray[np.bool_]]:
    """Read the validation faces of some settings.

    Args:
        model: A bundle that reads expressions.
        settings: Settings whose data has expressions.

    Returns:
        The probability of the likeliest expression of each labelled face (N,), and whether that
        expression is the label, the one with most votes.

    Raises:
        LabelMismatchError: The bundle reads no expressions.
        DataError: The data cannot be read, or no face is labelled.
    """
    expressions = [task for task in model.tasks if task.family == "expr"]
    if not expressions:
        raise LabelMismatchError(
            f"{model.card.name} reads no expressions, whose labels a threshold is for; "
            "name another bundle"
        )
    table = table_for(settings, expressions, model.card.pixels, "val")
    scored = evaluate_bundle(model, table)
    shares = labels(scored.table, expressions[0])
    is_labelled = ~np.isnan(shares).any(axis=1)
    if not is_labelled.any():
        raise DataError(f"{settings.name}: no validation face has an expression; name other data")
    scores = scored.scores["expr"][is_labelled]
    is_right = scores.argmax(axis=1) == shares[is_labelled].argmax(axis=1)
    return scores.max(axis=1), is_right


def with_threshold(
    card: AffectCard, threshold: float, probability: Floats, is_right: NDArray[np.bool_], data: str
) -> AffectCard:
    """Put a threshold on a card, with what it costs and gives.

    Args:
        card: The card.
        threshold: Faces of a lower probability get no label.
        probability: Of the likeliest expression of N validation faces, (N,).
        is_right: Whether that expression is the label (N,).
        data: What the card says of these faces.

    Returns:
        The card with `uncertain_below`; scores of an earlier threshold are replaced.
    """
    is_named = probability >= threshold
    scores: Sequence[Score] = [
        score for score in card.scores if score.metric not in (_COVERAGE, _PRECISION)
    ]
    added = score_with_interval(_COVERAGE, _share, is_named, data=data)
    added += score_with_interval(_PRECISION, _share, is_right[is_named], data=data)
    changes = {"scores": (*scores, *added), "uncertain_below": threshold}
    return card.model_copy(update=changes)


def chosen_on(settings: Settings) -> str:
    """Name the faces that chose a threshold, as a card does.

    Args:
        settings: Settings whose validation faces were read.

    Returns:
        The data sets and their split.
    """
    sets = ", ".join(set_name(spec) for spec in settings.data)
    return f"{sets}, validation split, which chose the threshold"


def _share(values: NDArray[np.bool_]) -> float:
    return float(np.mean(values))


def main() -> None:
    """Read the command line, print the trade-off, and write the card where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="name or folder")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--precision", type=float, default=PRECISION)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    settings = read_settings(args.data)
    probability, is_right = named_labels(load(args.bundle), settings)
    print("threshold  faces named  of these right")
    for threshold in (0.0, *_THRESHOLDS[24::5].tolist()):
        coverage, precision = coverage_and_precision(probability, is_right, threshold)
        print(f"{threshold:9.2f}  {coverage:11.3f}  {precision:14.3f}")
    chosen = choose_threshold(probability, is_right, args.precision)
    coverage, precision = coverage_and_precision(probability, is_right, chosen)
    print(f"chosen: {chosen:g}, {coverage:.3f} named, {precision:.3f} of these right")
    if not args.write:
        return
    bundle = open_bundle(args.bundle)
    assert isinstance(bundle.card, AffectCard)
    card = with_threshold(bundle.card, chosen, probability, is_right, chosen_on(settings))
    write_bundle_files(card, bundle.folder)


if __name__ == "__main__":
    main()
