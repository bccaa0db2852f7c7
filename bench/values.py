"""Which values may be read how: forms of compound expressions, shares of time, classes that are never called, what smoothing leaves.

    python bench/values.py --ferplus FOLDER [--clip CLIP.mp4] [--bundle mien-s] [--out bench/results/values.json]

FOLDER holds FER+ (see `mien.data.sets.ferplus`); its validation split is read. CLIP: a film of a face that blinks.

*Compounds.* No data set at hand labels compound expressions, so faces stand in on which people disagreed: one is a
positive of a compound where at least .3 of its votes went to each of the two members. For each form: average precision, area
under the ROC curve, and F1 at the threshold that is best on the other half of the faces, each a mean over the compounds with at
least five positives, with 95 % intervals over faces. A form must also be low where a face is plain: the largest score of all faces
on which one member has a probability above .95, as a share of the form's scale. *Chosen* is the form of the highest average
precision among those that stay below a quarter of their scale there; the others' differences to it are in pairs.

*Shares.* How large a share of the faces shows each expression: by the votes, by the mean probability, by the label. The error
is half the sum of absolute differences to the votes over 200 draws of 300 faces.

*Smoothing.* For each column with at least four events in the clip (rises above both sides by .15): how much of the median
event's height is left, by the full width at half maximum of a Gaussian.
"""

import argparse
import json
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import find_peaks, peak_widths
from sklearn.metrics import average_precision_score, roc_auc_score

import mien
from mien.bundles.store import load
from mien.data.label_table import labels
from mien.data.sets.ferplus import EXPR, load_ferplus
from mien.evaluation.predict import evaluate_bundle
from mien.files import atomic_write
from mien.metrics import bootstrap
from mien.tasks import COMPOUNDS, Floats, compound_scores
from mien.temporal.readings import Smoothing

PAIRS = [(EXPR.names.index(one), EXPR.names.index(other)) for one, other in COMPOUNDS.values()]
POSITIVE, PLAIN, LOW, FEWEST = 0.3, 0.95, 0.25, 5
WIDTHS_S = (0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.7)
RISE, EVENTS = 0.15, 4
Form = Callable[[Floats], Floats]


def members(shares: Floats) -> tuple[Floats, Floats]:
    """Probabilities (N, 7) of the first and of the second member of each compound."""
    return shares[:, [pair[0] for pair in PAIRS]], shares[:, [pair[1] for pair in PAIRS]]


def strongest_other(shares: Floats) -> Floats:
    """The highest probability (N, 7) of an expression that is no member."""
    others = [np.delete(shares, pair, axis=1).max(axis=1) for pair in PAIRS]
    return np.stack(others, axis=1)


def among_pairs(shares: Floats) -> Floats:
    """The product of both members as a share of the products of all 28 pairs of expressions."""
    first, second = members(shares)
    return (
        first
        * second
        / sum(shares[:, i] * shares[:, k] for i, k in combinations(range(shares.shape[1]), 2))[
            :, None
        ]
    )


def ratio(shares: Floats) -> Floats:
    """The weaker member over the stronger."""
    first, second = members(shares)
    return np.minimum(first, second) / np.maximum(first, second)


# Form -> its scores (N, 7) and the largest of them there can be.
FORMS: dict[str, tuple[Form, float]] = {
    "arithmetic mean (the papers')": (lambda shares: compound_scores(shares, EXPR.names), 0.5),
    "geometric mean": (lambda shares: compound_scores(shares, EXPR.names, "geometric"), 0.5),
    "harmonic mean (product over sum)": (
        lambda shares: compound_scores(shares, EXPR.names, "harmonic"),
        0.5,
    ),
    "minimum": (lambda shares: np.minimum(*members(shares)), 0.5),
    "minimum over maximum": (ratio, 1.0),
    "minimum over maximum, times the sum": (
        lambda shares: ratio(shares) * sum(members(shares)),
        1.0,
    ),
    "product among all pairs": (among_pairs, 1.0),
    "minimum above the strongest other": (
        lambda s: np.maximum(np.minimum(*members(s)) - strongest_other(s), 0),
        0.5,
    ),
}


def mean_precision(scores: Floats, truth: Floats) -> float:
    """Average precision, mean over the columns (N, K) with a positive."""
    return float(
        np.mean(
            [
                average_precision_score(t, s)
                for s, t in zip(scores.T, truth.T, strict=True)
                if t.any()
            ]
        )
    )


def mean_area(scores: Floats, truth: Floats) -> float:
    """Area under the ROC curve, mean over the columns."""
    return float(
        np.mean([roc_auc_score(t, s) for s, t in zip(scores.T, truth.T, strict=True) if t.any()])
    )


def best_threshold(scores: Floats, truth: Floats) -> float:
    """The threshold (N,) -> calls from it on, whose F1 is highest."""
    order = np.argsort(-scores)
    called = np.arange(1, len(scores) + 1)
    f1 = 2 * np.cumsum(truth[order]) / (called + truth.sum())
    f1[:-1][scores[order][:-1] == scores[order][1:]] = -1  # equal scores are called together
    return float(scores[order][f1.argmax()])


def mean_f1(scores: Floats, truth: Floats) -> float:
    """F1 where each half of the faces has the threshold that is best on the other half, mean over the columns."""
    half = np.arange(len(scores)) % 2 == 0
    each = []
    for column, target in zip(scores.T, truth.T, strict=True):
        called = np.zeros(len(column), bool)
        for rows in (half, ~half):
            if target[~rows].any():
                called[rows] = column[rows] >= best_threshold(column[~rows], target[~rows])
        each.append(2 * (called & target).sum() / max(called.sum() + target.sum(), 1))
    return float(np.mean(each))


def compounds(shares: Floats, votes: Floats) -> dict[str, Any]:
    """Every form's scores against faces whose votes are split between the two members."""
    first, second = members(votes)
    truth = (first >= POSITIVE) & (second >= POSITIVE)
    enough = truth.sum(axis=0) >= FEWEST
    plain = np.stack([shares[:, list(pair)].max(axis=1) > PLAIN for pair in PAIRS], axis=1)
    happy = shares[:, EXPR.names.index("happiness")] > PLAIN
    faces = np.arange(len(votes))
    forms = {name: form(shares) for name, (form, _) in FORMS.items()}
    highest = {name: float(scores[plain].max()) / FORMS[name][1] for name, scores in forms.items()}
    fit = [name for name in forms if highest[name] < LOW]
    chosen = max(fit, key=lambda name: mean_precision(forms[name][:, enough], truth[:, enough]))
    result: dict[str, Any] = {
        "positives": dict(zip(COMPOUNDS, truth.sum(axis=0).tolist(), strict=True)),
        "forms": {},
    }
    for name, scores in forms.items():
        kept, target = scores[:, enough], truth[:, enough]
        entry: dict[str, Any] = {}
        for measure, metric in (
            ("average precision", mean_precision),
            ("area under ROC", mean_area),
            ("F1", mean_f1),
        ):
            low, high = bootstrap(metric, kept, target, groups=faces, rounds=200)
            entry[measure] = [round(value, 3) for value in (metric(kept, target), low, high)]
        difference = differing(kept, forms[chosen][:, enough], target)
        entry["average precision minus the chosen form's"] = [
            round(value, 3) for value in difference
        ]
        entry["highest on plain faces, share of the scale"] = round(highest[name], 3)
        entry["mean of happily_surprised on plainly happy faces"] = round(
            float(scores[happy, 1].mean()), 4
        )
        result["forms"][name] = entry
    return result | {"plainly happy faces": int(happy.sum()), "chosen": chosen}


def differing(scores: Floats, reference: Floats, truth: Floats) -> tuple[float, float, float]:
    """How much higher the average precision is than the reference's, in pairs, with its interval."""

    def apart(one: Floats, other: Floats, target: Floats) -> float:
        return mean_precision(one, target) - mean_precision(other, target)

    interval = bootstrap(apart, scores, reference, truth, groups=np.arange(len(truth)), rounds=200)
    return apart(scores, reference, truth), *interval


def shares_of_faces(shares: Floats, votes: Floats) -> dict[str, Any]:
    """The share of each expression by votes, mean probabilities and labels."""
    called = np.eye(len(EXPR.names))[shares.argmax(axis=1)]
    rng, errors = np.random.default_rng(0), {"mean probabilities": [], "labels": []}
    for _ in range(200):
        rows = rng.choice(len(votes), 300, replace=False)
        for name, values in (("mean probabilities", shares), ("labels", called)):
            errors[name].append(
                np.abs(values[rows].mean(axis=0) - votes[rows].mean(axis=0)).sum() / 2
            )
    each = {"votes": votes, "mean probabilities": shares, "labels": called}
    return {
        "faces": len(votes),
        "share": {
            name: dict(zip(EXPR.names, values.mean(axis=0).round(4).tolist(), strict=True))
            for name, values in each.items()
        },
        "largest share by votes": dict(
            zip(EXPR.names, np.bincount(votes.argmax(axis=1), minlength=8).tolist(), strict=True)
        ),
        "called": dict(zip(EXPR.names, called.sum(axis=0).astype(int).tolist(), strict=True)),
        "error of shares, percent of faces": {
            name: [
                round(100 * float(value), 1)
                for value in (np.mean(values), *np.quantile(values, [0.025, 0.975]))
            ]
            for name, values in errors.items()
        },
    }


def smoothing(table: pd.DataFrame) -> dict[str, Any]:
    """What is left of events of the one face in a film."""
    times = table["time_s"].to_numpy()
    step_s = float(np.median(np.diff(times)))
    result: dict[str, Any] = {}
    for name in [*(column for column in table if column.startswith("AU")), "valence", "arousal"]:
        values = table[name].to_numpy(float)
        peaks, about = find_peaks(values, prominence=RISE)
        if len(peaks) < EVENTS:
            continue
        left = {}
        for width_s in WIDTHS_S:
            kernel = Smoothing(width_s / np.sqrt(8 * np.log(2)))
            distance = times[:, None] - times
            weights = np.where(np.abs(distance) <= kernel.reach_s, kernel.weights(distance), 0)
            smooth = weights @ values / weights.sum(axis=1)
            base = values[peaks] - about["prominences"]
            tops = np.array([smooth[max(peak - 3, 0) : peak + 4].max() for peak in peaks])
            left[f"{width_s:g} s"] = round(
                float(np.median((tops - base) / (values[peaks] - base))), 2
            )
        width_s = float(np.median(peak_widths(values, peaks, 0.5)[0])) * step_s
        result[name] = {
            "events": len(peaks),
            "median width at half height, s": round(width_s, 3),
            "height left": left,
        }
    return result


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ferplus", type=Path, required=True)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--bundle", default="mien-s")
    parser.add_argument(
        "--also",
        nargs="*",
        default=["mien-xs"],
        help="bundles of which only the shares are measured",
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = load_ferplus(given.ferplus, "valid")
    votes = labels(table, EXPR).astype(float)
    scores, cards = {}, {}
    for name in (given.bundle, *given.also):
        model = load(name, "onnxruntime")
        scores[name], cards[name] = (
            evaluate_bundle(model, table, [EXPR]).scores["expr"].astype(float),
            model.card,
        )
    result = {
        "bundles": {name: card.sha256 for name, card in cards.items()},
        "compounds": compounds(scores[given.bundle], votes),
        "shares": {name: shares_of_faces(shares, votes) for name, shares in scores.items()},
    }
    if given.clip:
        result["smoothing"] = smoothing(
            mien.analyze(given.clip, bundle=given.bundle, engine="onnxruntime").table
        )
    # Short lists of numbers on one line.
    text = (
        re.sub(
            r"\[\s+([^\[\]{}]*?)\s+\]",
            lambda match: f"[{' '.join(match[1].split())}]",
            json.dumps(result, indent=1),
        )
        + "\n"
    )
    print(text)
    if given.out:
        atomic_write(given.out, text.encode())


if __name__ == "__main__":
    main()
