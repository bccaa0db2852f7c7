"""Compound expressions of videos from the expression scores of their faces (HSEmotion at ABAW7), and which way of it to choose.

faces ─▶ compounds of each ─▶ one row a frame ─▶ rows of the official list, gaps filled ─▶ smoothed ─▶ the highest of seven
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mien.errors import DataError, LabelMismatchError, UnknownNameError
from mien.evaluation.nested_tuning import COMPOUND_COUNTS, kl_to
from mien.metrics import macro_f1
from mien.progress import ItemProgress
from mien.tasks import MEANS, TASKS, Floats, Kind, Mean, compound_scores
from mien.temporal.rows import fill_rows, smooth_rows

__all__ = [
    "AGGREGATIONS", "BASES", "SMOOTHINGS", "Aggregation", "Basis", "Variant", "best_variant", "compound_labels",
    "expression_scores", "face_compounds", "frame_compounds", "listed_compounds", "supervised_compounds", "variant_scores", "variants", "zero_shot_compounds",
]  # fmt: skip

Basis = Literal["all", "basic"]
Aggregation = Literal["max", "largest", "mean"]
BASES: Final[tuple[Basis, ...]] = get_args(Basis)
AGGREGATIONS: Final[tuple[Aggregation, ...]] = get_args(Aggregation)
SMOOTHINGS: Final[tuple[tuple[int, float | None], ...]] = (
    (0, None), (10, None), (50, None), (100, None), (50, 100.0), (50, 1000.0), (50, 10000.0),
)  # fmt: skip
"""The paper's: frames to each side, and sigma as in `smooth_rows`."""

_COMPOUNDS: Final = TASKS["ce.abaw7"]
_BASIC: Final = TASKS["expr.lsd6"]
_SUM_SLACK: Final = 1e-3


# a face


def zero_shot_compounds(
    probabilities: Floats, names: tuple[str, ...], mean: Mean = "arithmetic", basis: Basis = "all"
) -> Floats:
    """Compound scores (N, 7), in the order of ``ce.abaw7``, of faces whose expressions a network for single expressions has read.

    probabilities: (N, K), 0..1, in the order of `names`. mean: see `mien.tasks.compound_scores`.
    basis: ``all`` takes them as they are, as the paper does; ``basic`` makes the six that compounds are made of sum to 1 first, so that
        a face that looks mostly neutral or contemptuous counts as much as another; where the six have nothing at all, all scores are 0.
    Raises LabelMismatchError where one of the six is not among `names`, DataError for values outside 0..1 (raw output is not decoded here).
    """
    values = _checked(probabilities, names)
    if basis == "basic":
        values, names = values[:, _BASIC.column_index(names)], _BASIC.names
        total = values.sum(axis=1, keepdims=True)
        values = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    elif basis != "all":
        raise UnknownNameError("basis", basis, BASES)
    return compound_scores(values, names, mean)


def supervised_compounds(
    probabilities: Floats, names: tuple[str, ...], kind: Kind, mean: Mean = "arithmetic"
) -> Floats:
    """Compound scores (N, 7) from a head that was trained on the six basic expressions only, straight from its probabilities.

    The paper's own code scatters the six over eight slots, zeros in the others, and takes a softmax of that, though they are probabilities
    already: it flattens them, and gives a share to classes that the head does not know. Here they are decoded once, by `Task.decode`.
    probabilities: (N, 6), 0..1, in the order of `names`. kind: ``one_of`` (softmax: rows sum to 1) or ``any_of`` (sigmoids).
    Raises LabelMismatchError where `names` are not the six, DataError for values outside 0..1 and for ``one_of`` rows that do not sum to 1.

    >>> supervised_compounds(np.array([[0, 0, 0.1, 0.6, 0, 0.3]]), TASKS["expr.lsd6"].names, "one_of").round(2).tolist()
    [[0.2, 0.45, 0.15, 0.15, 0.15, 0.05, 0.0]]
    """
    if sorted(names) != sorted(_BASIC.names):
        raise LabelMismatchError(
            f"supervised compounds come from {', '.join(_BASIC.names)} and nothing else; got {', '.join(names)}"
        )
    values = _checked(probabilities, names)
    if kind == "one_of":
        off = np.abs(values.sum(axis=1) - 1) > _SUM_SLACK
        if off.any():
            found = values.sum(axis=1)[off.argmax()]
            raise DataError(
                f"{off.sum()} of {len(values)} rows do not sum to 1, one to {found:.3f}; decode the six outputs once, on their own"
            )
    elif kind != "any_of":
        raise UnknownNameError("kind", kind, ("one_of", "any_of"))
    return compound_scores(values, names, mean)


def _checked(probabilities: Floats, names: tuple[str, ...]) -> NDArray[np.float64]:
    values = np.asarray(probabilities, np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(
            f"probabilities must be (N, {len(names)}) for {', '.join(names)}, got {values.shape}"
        )
    wrong = ~((values >= 0) & (values <= 1 + _SUM_SLACK)).all(axis=1)
    if wrong.any():
        raise DataError(
            f"{wrong.sum()} of {len(values)} rows are not probabilities within 0..1; decode raw output with Task.decode first"
        )
    return values


def expression_scores(table: pd.DataFrame) -> tuple[Floats, tuple[str, ...]]:
    """Take the expression scores out of a table of faces.

    Args:
        table: N rows with columns ``expr_<name>``. Columns ``expr_<name>_raw``, which a smoothed table
            has beside them, are left out.

    Returns:
        Scores (N, K), and the names of the K expressions.

    >>> table = pd.DataFrame({"expr_fear": [0.25], "expr_fear_raw": [0.5], "valence": [0.0]})
    >>> expression_scores(table)[1]
    ('fear',)
    """
    columns = []
    for name in map(str, table.columns):
        if name.startswith("expr_") and not name.endswith("_raw"):
            columns.append(name)
    names = tuple(name.removeprefix("expr_") for name in columns)
    return table[columns].to_numpy(np.float64), names


def face_compounds(faces: pd.DataFrame, mean: Mean = "arithmetic", basis: Basis = "all") -> Floats:
    """`zero_shot_compounds` (N, 7) of the rows of `read_faces`, from its columns ``expr_<name>``; raises as that does."""
    scores, names = expression_scores(faces)
    return zero_shot_compounds(scores, names, mean, basis)


# a frame


def frame_compounds(
    faces: pd.DataFrame, scores: Floats, aggregation: Aggregation = "max"
) -> pd.DataFrame:
    """One row for each frame that has a face: video, frame and the columns of ``ce.abaw7``, in order of video and frame.

    faces: N rows with video, frame and face, such as `read_faces` gives; scores: (N, 7) of them.
    aggregation: ``max`` and ``mean`` go over all faces of the frame, compound by compound; ``largest`` takes face 0.
    """
    columns = list(_COMPOUNDS.columns)
    table = pd.DataFrame(np.asarray(scores, np.float64), columns=columns)
    table.insert(0, "video", faces["video"].astype(str).to_numpy())
    table.insert(1, "frame", faces["frame"].to_numpy(np.int64))
    order = np.lexsort(
        (faces["face"].to_numpy(), table["frame"], pd.factorize(table["video"], sort=True)[0])
    )
    frames = table.iloc[order].groupby(["video", "frame"], sort=False)[columns]
    if aggregation == "max":
        return frames.max().reset_index()
    if aggregation == "mean":
        return frames.mean().reset_index()
    if aggregation == "largest":
        return frames.first().reset_index()
    raise UnknownNameError("aggregation", aggregation, AGGREGATIONS)


# the official list


def listed_compounds(
    frames: pd.DataFrame, listed: pd.DataFrame, note: Callable[[str], None] | None = None
) -> Floats:
    """Scores (N, 7) of the N rows of an official list, in its order; a row of NaN has no face in its frame.

    frames: as `frame_compounds` gives them. listed: columns video and frame, such as `mien.data.frame_lists.read_list` gives; a frame
        that it does not hold is left out, and one that only it holds (lists are longer than some videos by a frame) is NaN.
    note: told how many rows have no face, which videos have none at all, and how many frames were left out.
    Raises DataError where no row of the list has a face.
    """
    rows = pd.DataFrame(
        {
            "video": listed["video"].astype(str).to_numpy(),
            "frame": listed["frame"].to_numpy(np.int64),
        }
    )
    found = rows.merge(frames, on=["video", "frame"], how="left", validate="many_to_one")
    scores = found[list(_COMPOUNDS.columns)].to_numpy(np.float64)
    blank = np.isnan(scores).all(axis=1)
    if blank.all():
        theirs, ours = (
            ", ".join(map(repr, table["video"].unique()[:3])) or "none" for table in (rows, frames)
        )
        raise DataError(
            f"no frame of the list has a face; the list names the videos {theirs}, and faces were read in {ours}"
        )
    if note:
        seen = rows["video"][~blank].unique()
        if blank.any():
            note(f"{blank.sum()} of {len(rows)} listed frames have no face")
        if faceless := sorted(set(rows["video"]) - set(seen)):
            note(f"no face in any listed frame of {len(faceless)} videos: {', '.join(faceless)}")
        if surplus := len(frames) - len(rows[~blank].drop_duplicates()):
            note(f"{surplus} frames with a face are not on the list and were left out")
    return scores


def smoothed_compounds(
    scores: Floats, listed: pd.DataFrame, window: int, sigma: float | None
) -> Floats:
    """Scores (N, 7) of `listed_compounds`, filled and smoothed; NaN in a video without a face."""
    measured = np.isfinite(scores[:, 0])
    video, frame = pd.factorize(listed["video"].astype(str))[0], listed["frame"].to_numpy(np.int64)
    has = np.bincount(video, measured)[video] > 0
    found, measured, video, frame = scores[has], measured[has], video[has], frame[has]

    def mean(values: Floats) -> Floats:
        return smooth_rows(values, video, frame, window=window, sigma=sigma, unit="frames")

    filled = fill_rows(found, video, frame)
    if sigma is None:
        filled = mean(filled)
    else:
        # The paper's Gaussian goes over frames that have a face only, and leaves what was filled where there is none in reach.
        sums, weight = mean(np.nan_to_num(found)), mean(measured.astype(np.float64)[:, None])
        np.divide(sums, weight, out=filled, where=weight > 0)
    smoothed = np.full_like(scores, np.nan)
    smoothed[has] = filled
    return smoothed


def compound_labels(scores: Floats) -> NDArray[np.int64]:
    """The highest of the seven (N,), by its number in ``ce.abaw7``.

    A row of NaN, which lies in a video without a single face, gets the compound that is the most frequent in `COMPOUND_COUNTS`: a list
    must be answered in full, and nothing but the frequencies is known of it.
    """
    highest = np.nan_to_num(scores).argmax(axis=1)
    return np.where(np.isnan(scores).any(axis=1), np.argmax(COMPOUND_COUNTS), highest).astype(
        np.int64
    )


# which way


@dataclass(frozen=True, slots=True)
class Variant:
    """One way from faces to compounds; window and sigma as in `smooth_rows`, in frames. A Gaussian goes over frames with a face only."""

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
    """Scores (N, 7) of the N rows of an official list; NaN in a video without a face. Raises as `listed_compounds` and `face_compounds`."""
    frames = frame_compounds(
        faces, face_compounds(faces, variant.mean, variant.basis), variant.aggregation
    )
    return smoothed_compounds(
        listed_compounds(frames, listed, note), listed, variant.window, variant.sigma
    )


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
    """Every variant, the best first, with ``kl`` and, where there are labels, ``f1``; the other columns are the fields of `Variant`.

    kl: `kl_to` of its labels from `COMPOUND_COUNTS`, >= 0, infinite where a compound is never chosen; the lowest is the best. It needs no
        labels, and looks at frequencies only: the paper chose by it, and two models of like KL may agree on few frames.
    f1: macro-F1, 0..1, over the seven, against labels (N,) of the listed rows, NaN = not annotated. With labels the highest f1 is the best.
    progress: called with variants done and all. Raises as `variant_scores` does.
    """
    rows: list[dict[str, object]] = []
    count = len(means) * len(bases) * len(aggregations) * len(smoothings)
    for mean, basis in product(means, bases):
        scores = face_compounds(faces, mean, basis)
        for aggregation in aggregations:
            on_list = listed_compounds(frame_compounds(faces, scores, aggregation), listed)
            for window, sigma in smoothings:
                chosen = compound_labels(smoothed_compounds(on_list, listed, window, sigma))
                row: dict[str, object] = {
                    "mean": mean,
                    "basis": basis,
                    "aggregation": aggregation,
                    "window": window,
                    "sigma": sigma,
                }
                row["kl"] = kl_to(COMPOUND_COUNTS, chosen)
                if labels is not None:
                    row["f1"] = macro_f1(chosen, labels, range(len(_COMPOUNDS.names)))
                rows.append(row)
                if progress:
                    progress(len(rows), count)
    table = pd.DataFrame(rows).astype({"sigma": np.float64})
    by, up = ("kl", True) if labels is None else ("f1", False)
    return table.sort_values(by, ascending=up, kind="stable", ignore_index=True)


def best_variant(table: pd.DataFrame) -> Variant:
    """The variant of the first row of `variants`."""
    row = table.iloc[0]
    sigma = None if pd.isna(row["sigma"]) else float(row["sigma"])
    return Variant(
        cast(Mean, row["mean"]),
        cast(Basis, row["basis"]),
        cast(Aggregation, row["aggregation"]),
        int(row["window"]),
        sigma,
    )
