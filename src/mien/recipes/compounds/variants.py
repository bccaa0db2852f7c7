"""Ways from faces to compound expressions, compared with each other (HSEmotion at ABAW7)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Final, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mien.bundles.plan import Aggregation, Basis
from mien.evaluation.nested_tuning import COMPOUND_COUNTS, kl_to
from mien.metrics import macro_f1
from mien.progress import ItemProgress
from mien.recipes.compounds.compound import (
    compound_labels,
    face_compounds,
    frame_compounds,
    listed_compounds,
    smoothed_compounds,
)
from mien.systems.compounds import AGGREGATIONS, BASES
from mien.tasks import MEANS, TASKS, Floats, Mean

__all__ = ["SMOOTHINGS", "Variant", "best_variant", "variant_scores", "variants"]

SMOOTHINGS: Final[tuple[tuple[int, float | None], ...]] = (
    (0, None),
    (10, None),
    (50, None),
    (100, None),
    (50, 100.0),
    (50, 1000.0),
    (50, 10000.0),
)
"""The paper's: frames to each side, and sigma as in
`mien.recipes.compounds.compound.smoothed_compounds`."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way from faces to compounds.

    Attributes:
        mean: See `mien.tasks.compound_scores`.
        basis: See `mien.recipes.compounds.compound.zero_shot_compounds`.
        aggregation: See `mien.recipes.compounds.compound.frame_compounds`.
        window: See `mien.recipes.compounds.compound.smoothed_compounds`, in frames.
        sigma: The same.
    """

    mean: Mean = "arithmetic"
    basis: Basis = "all"
    aggregation: Aggregation = "max"
    window: int = 0
    sigma: float | None = None


def variant_scores(
    faces: pd.DataFrame,
    listed: pd.DataFrame,
    variant: Variant,
    note: Callable[[str], None] | None = None,
) -> Floats:
    """Score the rows of an official list in one way.

    Args:
        faces: As of `mien.recipes.compounds.faces_in_videos.read_faces`.
        listed: As for `mien.recipes.compounds.compound.listed_compounds` (N rows).
        variant: The way.
        note: As for `mien.recipes.compounds.compound.listed_compounds`.

    Returns:
        Scores (N, 7); NaN in videos without a single face.

    Raises:
        MienError: As `face_compounds` and `listed_compounds` do.
    """
    scores = face_compounds(faces, variant.mean, variant.basis)
    frames = frame_compounds(faces, scores, variant.aggregation)
    unsmoothed = listed_compounds(frames, listed, note)
    return smoothed_compounds(unsmoothed, listed, variant.window, variant.sigma)


def variants(
    faces: pd.DataFrame,
    listed: pd.DataFrame,
    *,
    means: Sequence[Mean] = MEANS,
    bases: Sequence[Basis] = BASES,
    aggregations: Sequence[Aggregation] = AGGREGATIONS,
    smoothings: Sequence[tuple[int, float | None]] = SMOOTHINGS,
    labels: ArrayLike | None = None,
    progress: ItemProgress | None = None,
) -> pd.DataFrame:
    """Compare all combinations of some settings.

    Args:
        faces: As for `variant_scores`.
        listed: As for `variant_scores` (N rows).
        means: Settings of `Variant`.
        bases: The same.
        aggregations: The same.
        smoothings: Pairs of window and sigma.
        labels: Class numbers (N,) of the listed rows; NaN means not annotated.
        progress: Called with how many variants are done, and how many there are.

    Returns:
        One row per variant, the best first: the fields of `Variant`, ``kl`` and, with labels,
        ``f1``. ``kl`` is the divergence (`mien.evaluation.nested_tuning.kl_to`) of the decided
        classes from the published frequencies, >= 0, infinite if a compound is never decided. It
        needs no labels, and the paper chose by it: the lowest is the best. But it looks at
        frequencies only, and two variants of like divergence may agree on few frames. ``f1`` is
        macro-F1, 0..1; with labels, the highest is the best.

    Raises:
        MienError: As `variant_scores` does.
    """
    rows: list[dict[str, object]] = []
    total = len(means) * len(bases) * len(aggregations) * len(smoothings)
    # What does not depend on the inner settings is computed once.
    for mean, basis in product(means, bases):
        scores = face_compounds(faces, mean, basis)
        for aggregation in aggregations:
            frames = frame_compounds(faces, scores, aggregation)
            unsmoothed = listed_compounds(frames, listed)
            for window, sigma in smoothings:
                variant = Variant(mean, basis, aggregation, window, sigma)
                smoothed = smoothed_compounds(unsmoothed, listed, window, sigma)
                decided = compound_labels(smoothed)
                rows.append(_judged(variant, decided, labels))
                if progress:
                    progress(len(rows), total)
    # Sigma is None for a box; NaN keeps the column numeric.
    table = pd.DataFrame(rows).astype({"sigma": np.float64})
    if labels is None:
        return table.sort_values("kl", kind="stable", ignore_index=True)
    return table.sort_values("f1", ascending=False, kind="stable", ignore_index=True)


def _judged(
    variant: Variant, decided: NDArray[np.int64], labels: ArrayLike | None
) -> dict[str, object]:
    """A row of `variants`."""
    row = asdict(variant)
    # Every measure is there, though one of them decides, so that people can compare.
    row["kl"] = kl_to(COMPOUND_COUNTS, decided)
    if labels is not None:
        row["f1"] = macro_f1(decided, labels, range(len(TASKS["ce.abaw7"].names)))
    return row


def best_variant(table: pd.DataFrame) -> Variant:
    """Return the variant of a table's first row.

    Args:
        table: As of `variants`.

    Returns:
        The variant.
    """
    row = table.iloc[0]
    # In a table a box has a sigma of NaN.
    sigma = None if pd.isna(row["sigma"]) else float(row["sigma"])
    return Variant(
        cast(Mean, row["mean"]),
        cast(Basis, row["basis"]),
        cast(Aggregation, row["aggregation"]),
        int(row["window"]),
        sigma,
    )
