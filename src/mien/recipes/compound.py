"""Compound expressions of videos from the expression scores of faces (HSEmotion at ABAW7).

    faces ─▶ compounds of each ─▶ a row per frame ─▶ rows of the official list ─▶ smoothed

Most stages can be done in several ways, which `mien.recipes.compound_variants` compares.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.errors import DataError, LabelMismatchError, UnknownNameError
from mien.evaluation.nested_tuning import COMPOUND_COUNTS
from mien.tasks import TASKS, Floats, Kind, Mean, compound_scores
from mien.temporal.rows import Codes, fill_rows, smooth_rows

__all__ = [
    "AGGREGATIONS",
    "BASES",
    "Aggregation",
    "Basis",
    "compound_labels",
    "expression_scores",
    "face_compounds",
    "frame_compounds",
    "listed_compounds",
    "smoothed_compounds",
    "supervised_compounds",
    "zero_shot_compounds",
]

Basis = Literal["all", "basic"]
Aggregation = Literal["max", "largest", "mean"]
BASES: Final[tuple[Basis, ...]] = get_args(Basis)
AGGREGATIONS: Final[tuple[Aggregation, ...]] = get_args(Aggregation)

_COMPOUNDS: Final = TASKS["ce.abaw7"]
_BASIC: Final = TASKS["expr.lsd6"]
_SUM_TOLERANCE: Final = 1e-3
"""How far the sum of a row of class probabilities may be from 1: scores are saved as float32."""


# Faces


def zero_shot_compounds(
    probabilities: Floats, names: tuple[str, ...], mean: Mean = "arithmetic", basis: Basis = "all"
) -> Floats:
    """Score compounds from a network for single expressions.

    Args:
        probabilities: Of N faces, (N, K), 0..1, in the order of `names`.
        names: Names of the K expressions.
        mean: See `mien.tasks.compound_scores`.
        basis: ``all`` takes the probabilities as they are, as the paper does. ``basic`` first makes
            the six that compounds consist of sum to 1, so that a face which looks mostly neutral or
            contemptuous counts as much as another; if all six are 0, so are all scores.

    Returns:
        Scores (N, 7), in the order of ``ce.abaw7``.

    Raises:
        LabelMismatchError: One of the six is not among `names`.
        DataError: Values are outside 0..1; raw output is not decoded here.
        UnknownNameError: There is no such mean or basis.
    """
    values = _checked(probabilities, names)
    if basis not in BASES:
        raise UnknownNameError("basis", basis, BASES)
    if basis == "all":
        return compound_scores(values, names, mean)
    six = values[:, _BASIC.column_index(names)]
    total = six.sum(axis=1, keepdims=True)
    shares = np.divide(six, total, out=np.zeros_like(six), where=total > 0)
    return compound_scores(shares, _BASIC.names, mean)


def supervised_compounds(
    probabilities: Floats, names: tuple[str, ...], kind: Kind, mean: Mean = "arithmetic"
) -> Floats:
    """Score compounds from a head that was trained on the six basic expressions only.

    The paper's own code scatters the six probabilities over eight slots, with zeros in the others,
    and takes a softmax of these: it flattens them, and gives a share to classes that the head does
    not know. Here outputs are decoded once, by `mien.tasks.Task.decode`.

    Args:
        probabilities: Of N faces, (N, 6), 0..1, in the order of `names`.
        names: Names of the six.
        kind: ``one_of`` (softmax: rows sum to 1) or ``any_of`` (sigmoids).
        mean: See `mien.tasks.compound_scores`.

    Returns:
        Scores (N, 7), in the order of ``ce.abaw7``.

    Raises:
        LabelMismatchError: `names` are not the six.
        DataError: Values are outside 0..1, or rows of ``one_of`` do not sum to 1.
        UnknownNameError: There is no such kind or mean.

    >>> face = np.array([[0, 0, 0.1, 0.6, 0, 0.3]])
    >>> supervised_compounds(face, TASKS["expr.lsd6"].names, "one_of").round(2).tolist()
    [[0.2, 0.45, 0.15, 0.15, 0.15, 0.05, 0.0]]
    """
    if sorted(names) != sorted(_BASIC.names):
        raise LabelMismatchError(
            f"supervised compounds come from {', '.join(_BASIC.names)} and nothing else; "
            f"got {', '.join(names)}"
        )
    values = _checked(probabilities, names)
    if kind not in ("one_of", "any_of"):
        raise UnknownNameError("kind", kind, ("one_of", "any_of"))
    if kind == "one_of":
        _check_sums(values.sum(axis=1))
    return compound_scores(values, names, mean)


def _checked(probabilities: Floats, names: tuple[str, ...]) -> NDArray[np.float64]:
    """The probabilities as float64; raises DataError if they are none, or not one per name."""
    values = np.asarray(probabilities, np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(
            f"probabilities must be (N, {len(names)}) for {', '.join(names)}, got {values.shape}"
        )
    # Comparisons with NaN are false, so NaN is refused as well.
    is_valid = ((values >= 0) & (values <= 1 + _SUM_TOLERANCE)).all(axis=1)
    if not is_valid.all():
        raise DataError(
            f"{(~is_valid).sum()} of {len(values)} rows are not probabilities within 0..1; "
            "decode raw output with Task.decode first"
        )
    return values


def _check_sums(sums: Floats) -> None:
    """Raises DataError if rows of class probabilities do not sum to 1."""
    wrong = sums[np.abs(sums - 1) > _SUM_TOLERANCE]
    if len(wrong):
        raise DataError(
            f"{len(wrong)} of {len(sums)} rows do not sum to 1, one to {wrong[0]:.3f}; "
            "decode the six outputs once, on their own"
        )


def expression_scores(table: pd.DataFrame) -> tuple[Floats, tuple[str, ...]]:
    """Take the expression scores out of a table of faces.

    Args:
        table: N rows with columns ``expr_<name>``. Columns ``expr_<name>_raw``, which a smoothed
            table has beside them, are left out.

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
    """Score compounds from the expression columns of a table of faces.

    Args:
        faces: As of `mien.recipes.faces_in_videos.read_faces` (N rows).
        mean: See `zero_shot_compounds`.
        basis: The same.

    Returns:
        Scores (N, 7), in the order of ``ce.abaw7``.

    Raises:
        MienError: As `zero_shot_compounds` does.
    """
    scores, names = expression_scores(faces)
    return zero_shot_compounds(scores, names, mean, basis)


# Frames


def frame_compounds(
    faces: pd.DataFrame, scores: Floats, aggregation: Aggregation = "max"
) -> pd.DataFrame:
    """Aggregate the faces of every frame.

    Args:
        faces: N rows with columns video, frame and face (0 is the largest of the frame), as of
            `mien.recipes.faces_in_videos.read_faces`.
        scores: Their compound scores (N, 7).
        aggregation: ``max`` and ``mean`` go over all faces of a frame, compound by compound;
            ``largest`` takes face 0.

    Returns:
        One row for each frame that has a face, in order of video and frame: video, frame, and the
        columns of ``ce.abaw7``.

    Raises:
        UnknownNameError: There is no such aggregation.
    """
    if aggregation not in AGGREGATIONS:
        raise UnknownNameError("aggregation", aggregation, AGGREGATIONS)
    columns = list(_COMPOUNDS.columns)
    table = pd.DataFrame(np.asarray(scores, np.float64), columns=columns)
    table.insert(0, "video", faces["video"].astype(str).to_numpy())
    table.insert(1, "frame", faces["frame"].to_numpy(np.int64))
    video = pd.factorize(table["video"], sort=True)[0]
    # The last key counts first. Faces are in order too, so that the first of a frame is face 0.
    order = np.lexsort((faces["face"].to_numpy(), table["frame"], video))
    frames = table.iloc[order].groupby(["video", "frame"], sort=False)[columns]
    if aggregation == "max":
        return frames.max().reset_index()
    if aggregation == "mean":
        return frames.mean().reset_index()
    return frames.first().reset_index()


# The official list


def listed_compounds(
    frames: pd.DataFrame, listed: pd.DataFrame, note: Callable[[str], None] | None = None
) -> Floats:
    """Match scores of frames to the rows of an official list.

    Args:
        frames: As `frame_compounds` returns them. Frames that are not listed are left out.
        listed: N rows with columns video and frame, such as of `mien.data.frame_lists.read_list`.
            Lists are longer than some videos by a frame.
        note: Called with how many rows have no face, which videos have none at all, and how many
            frames were left out.

    Returns:
        Scores (N, 7) in the order of the list; NaN in rows whose frame has no face.

    Raises:
        DataError: No row of the list has a face.
    """
    video = listed["video"].astype(str).to_numpy()
    rows = pd.DataFrame({"video": video, "frame": listed["frame"].to_numpy(np.int64)})
    matched = rows.merge(frames, on=["video", "frame"], how="left", validate="many_to_one")
    scores = matched[list(_COMPOUNDS.columns)].to_numpy(np.float64)
    is_missing = np.isnan(scores).all(axis=1)
    if is_missing.all():
        raise DataError(
            f"no frame of the list has a face; the list names the videos {_first_videos(rows)}, "
            f"and faces were read in {_first_videos(frames)}"
        )
    if note:
        _note_missing(rows, is_missing, len(frames), note)
    return scores


def _first_videos(table: pd.DataFrame) -> str:
    """Up to three names of videos, for a message."""
    return ", ".join(map(repr, table["video"].unique()[:3])) or "none"


def _note_missing(
    rows: pd.DataFrame,
    is_missing: NDArray[np.bool_],
    frame_count: int,
    note: Callable[[str], None],
) -> None:
    """Note what of the list has no face, and how many frames with a face are not listed."""
    with_face = rows[~is_missing]
    if is_missing.any():
        note(f"{is_missing.sum()} of {len(rows)} listed frames have no face")
    faceless = sorted(set(rows["video"]) - set(with_face["video"]))
    if faceless:
        note(f"no face in any listed frame of {len(faceless)} videos: {', '.join(faceless)}")
    # A list may name a frame twice.
    unlisted = frame_count - len(with_face.drop_duplicates())
    if unlisted:
        note(f"{unlisted} frames with a face are not on the list and were left out")


def smoothed_compounds(
    scores: Floats, listed: pd.DataFrame, window: int, sigma: float | None
) -> Floats:
    """Fill the gaps of listed scores, and smooth them within their videos.

    Args:
        scores: As `listed_compounds` returns them (N, 7).
        listed: The list they belong to (N rows).
        window: Frames to each side, see `mien.temporal.rows.smooth_rows`.
        sigma: The same. A Gaussian averages frames that have a face only.

    Returns:
        Scores (N, 7); NaN in videos without a single face.
    """
    video = pd.factorize(listed["video"].astype(str))[0]
    frame = listed["frame"].to_numpy(np.int64)
    is_measured = np.isfinite(scores[:, 0])
    # Gaps are filled from the same video alone.
    has_face = np.bincount(video, is_measured)[video] > 0
    smoothed = np.full_like(scores, np.nan)
    smoothed[has_face] = _filled_and_smoothed(
        scores[has_face], video[has_face], frame[has_face], window, sigma
    )
    return smoothed


def _filled_and_smoothed(
    scores: Floats, video: Codes, frame: Codes, window: int, sigma: float | None
) -> Floats:
    """The same for rows of videos that have a face."""
    smooth = partial(
        smooth_rows, video=video, frame=frame, window=window, sigma=sigma, unit="frames"
    )
    filled = fill_rows(scores, video, frame)
    if sigma is None:
        return smooth(filled)
    # The paper's Gaussian goes over frames that have a face only, and leaves what was filled if
    # there is none in reach.
    is_measured = np.isfinite(scores[:, 0])
    sums = smooth(np.nan_to_num(scores))
    weights = smooth(is_measured.astype(np.float64)[:, None])
    return np.divide(sums, weights, out=filled, where=weights > 0)


def compound_labels(scores: Floats) -> NDArray[np.int64]:
    """Decide the compound with the highest score.

    Args:
        scores: Of `smoothed_compounds` (N, 7). A row of NaN lies in a video without a single face;
            it gets the most frequent compound of `COMPOUND_COUNTS`, since a list must be answered
            in full, and nothing but the frequencies is known of it.

    Returns:
        Class numbers (N,) of ``ce.abaw7``.
    """
    highest = np.nan_to_num(scores).argmax(axis=1)
    is_missing = np.isnan(scores).any(axis=1)
    decided = np.where(is_missing, np.argmax(COMPOUND_COUNTS), highest)
    return decided.astype(np.int64)
