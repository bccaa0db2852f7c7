"""Put on the card of a network what is decided once it is trained: thresholds, and its version.

    python -m mien.train.bundle.finish BUNDLE [--data FOLDER] [--version N]

BUNDLE is the folder of `mien-s`, `mien-xs` or a network of the same action units, whose card and
README are written again; with the version alone, of any network that comes with mien. FOLDER is as
for `mien.train.builtin.mien_s`.

An action unit is present where the landmarker that taught it gives 0.5 or more above the level of
calm faces (`mien.data.blendshapes.above_rest`). The threshold of the network is that of the highest
F1 on the validation faces of FER+ and the portraits, from which it did not learn. The F1 on the
card is cross-fitted: thresholds chosen on one half of the people are measured on the other. A unit
with few present faces, or a low F1, gets no threshold.

Below which probability an expression is not named is chosen as by
`mien.train.bundle.label_threshold`, on the validation faces of FER+.
"""

import argparse
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from mien.bundles.card import AffectCard, AnyCard
from mien.bundles.card_parts import Score
from mien.bundles.store import load, open_any
from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.label_table import labels
from mien.data.registry import FerPlus, Portraits
from mien.data.sets.ferplus import EXPR
from mien.errors import DataError
from mien.evaluation.nested_tuning import thresholds_for
from mien.evaluation.predict import evaluate_bundle
from mien.metrics import f1
from mien.tasks import Floats
from mien.train.bundle.label_threshold import (
    choose_threshold,
    chosen_on,
    named_labels,
    with_threshold,
)
from mien.train.bundle.pack import score_with_interval, write_bundle_files
from mien.train.settings.training import Settings

__all__ = ["Presence", "choose_presence", "finish", "held_out_faces"]

PRESENT: Final = 0.5
"""The teacher's activation, above that of calm faces, from which an action unit is present."""
LEAST_PRESENT: Final = 50
"""Faces that must show a unit, and faces that must not, for it to get a threshold."""
LEAST_F1: Final = 0.5
"""Cross-fitted F1 below which a unit gets none."""
GRID: Final = tuple(float(step) / 20 for step in range(2, 19))
"""Thresholds to choose from: 0.1 to 0.9."""
METRIC: Final = "presence F1"
DATA: Final = (
    "validation faces of FER+ and the portraits, present where the landmarker gives 0.5 or more "
    "above the level of calm faces"
)
LIMIT: Final = "an action unit counts as present from a threshold (`presence`)"
"""Beginning of the card's line on it."""


class Presence(NamedTuple):
    """Thresholds of action units, and how well they do.

    Attributes:
        thresholds: By unit; without those that could not be chosen.
        scores: Their cross-fitted F1.
        without: Units without a threshold.
    """

    thresholds: dict[str, float]
    scores: tuple[Score, ...]
    without: tuple[str, ...]


def held_out_faces(data: Path) -> pd.DataFrame:
    """Load the faces that thresholds are chosen on.

    Args:
        data: Folder with the tables of FER+ and the portraits.

    Returns:
        A label table: the validation splits of both, as far as the landmarker found the face.

    Raises:
        DataError: A table is missing or damaged.
    """
    parts = []
    for source in (FerPlus(set="ferplus", folder=data), Portraits(set="portraits", folder=data)):
        table, _ = source.load((AU_BLENDSHAPES,))
        parts.append(table[table["split"] == "val"])
    faces = pd.concat(parts, ignore_index=True)
    is_labelled = ~np.isnan(labels(faces, AU_BLENDSHAPES)).any(axis=1)
    return faces.iloc[np.flatnonzero(is_labelled)].reset_index(drop=True)


def choose_presence(scores: Floats, taught: Floats, people: Floats) -> Presence:
    """Choose from which activation each action unit counts as present.

    Args:
        scores: The network's activations (N, 16), in the order of `AU_BLENDSHAPES`, 0..1.
        taught: The teacher's (N, 16).
        people: Number of the person of each face (N,).

    Returns:
        The thresholds.
    """
    present = (taught >= PRESENT).astype(np.float64)
    half = people.astype(int) % 2
    # Of each half of the people, the thresholds that the other half chose.
    halves = [thresholds_for(scores[half != part], present[half != part], GRID) for part in (0, 1)]
    decided = (scores >= np.stack(halves)[half]).astype(np.float64)
    final = thresholds_for(scores, present, GRID)
    thresholds: dict[str, float] = {}
    measured: list[Score] = []
    for unit, name in enumerate(AU_BLENDSHAPES.names):
        count = present[:, unit].sum()
        is_known = LEAST_PRESENT <= count <= len(present) - LEAST_PRESENT
        if not is_known or f1(decided[:, unit], present[:, unit]) < LEAST_F1:
            continue
        thresholds[name] = float(final[unit])
        columns = (decided[:, unit], present[:, unit])
        measured += score_with_interval(f"{METRIC} {name}", f1, *columns, data=DATA, groups=people)
    without = tuple(name for name in AU_BLENDSHAPES.names if name not in thresholds)
    return Presence(thresholds, tuple(measured), without)


def _with_presence(folder: Path, card: AffectCard, data: Path) -> AffectCard:
    """The card with thresholds chosen for its network, in place of former ones."""
    if AU_BLENDSHAPES not in [spec.task for spec in card.tasks]:
        raise DataError(f"{folder}: does not read {AU_BLENDSHAPES.key}; leave --data out")
    faces = held_out_faces(data)
    scored = evaluate_bundle(load(folder), faces, (AU_BLENDSHAPES,))
    # FER+ does not say who is who: each of its faces is a person.
    alone = pd.Series(faces.index.astype(str), index=faces.index)
    people, _ = pd.factorize(faces["subject"].where(faces["subject"].notna(), alone))
    presence = choose_presence(
        scored.scores["au"], labels(scored.table, AU_BLENDSHAPES), people.astype(np.float64)
    )
    limit = (
        f"{LIMIT}, that of the highest F1 on {len(faces)} {DATA}; nobody coded these faces by FACS"
    )
    if presence.without:
        limit += f"; {', '.join(presence.without)} are present too seldom, or too unsurely, for one"
    scores = [score for score in card.scores if not score.metric.startswith(METRIC)]
    limits = [line for line in card.limits if not line.startswith(LIMIT)]
    changes = {
        "presence": presence.thresholds,
        "scores": (*scores, *presence.scores),
        "limits": (*limits, limit),
    }
    return card.model_copy(update=changes)


def _with_label_threshold(folder: Path, card: AffectCard, data: Path) -> AffectCard:
    """The card with the probability below which its network leaves the expression open."""
    sets = (FerPlus(set="ferplus", folder=data),)
    settings = Settings(name=card.name, data=sets, tasks=(EXPR.key,))
    probability, is_right = named_labels(load(folder), settings)
    chosen = choose_threshold(probability, is_right)
    return with_threshold(card, chosen, probability, is_right, chosen_on(settings))


def finish(folder: Path, data: Path | None = None, version: int | None = None) -> AnyCard:
    """Write the card and README of a bundle again, with thresholds, a version, or both.

    Args:
        folder: The bundle's folder; its network stays as it is.
        data: Folder with the tables of FER+ and the portraits; None leaves thresholds as they are.
        version: Which network of its name it is, from 1; None leaves the version as it is.

    Returns:
        The new card.

    Raises:
        DataError: The bundle reads other action units, or a table is missing or damaged.
        BundleError: The bundle is damaged.
    """
    card: AnyCard = open_any(folder).card
    if data is not None:
        if not isinstance(card, AffectCard):
            raise DataError(f"{folder}: reads no action units; leave --data out")
        card = _with_label_threshold(folder, _with_presence(folder, card, data), data)
    if version is not None:
        card = card.model_copy(update={"version": version})
    # Copies are not checked, and a wrong card must not be written.
    card = type(card).model_validate(card.model_dump())
    write_bundle_files(card, folder)
    return card


def main() -> None:
    """Read the command line, and write the card again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--version", type=int)
    args = parser.parse_args()
    card = finish(args.bundle, args.data, args.version)
    print(card.name, card.version, getattr(card, "presence", None))


if __name__ == "__main__":
    main()
