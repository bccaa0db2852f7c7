"""Compound expressions of videos from the expression scores of faces (HSEmotion at ABAW7).

    faces ─▶ compounds of each ─▶ a row per frame ─▶ rows of the official list ─▶ smoothed

Most stages can be done in several ways, which `mien.recipes.compounds.variants` compares.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.bundles.plan import Aggregation, Basis
from mien.errors import DataError, UnknownNameError
from mien.evaluation.nested_tuning import COMPOUND_COUNTS
from mien.systems.compounds import AGGREGATIONS, fill_and_smooth, zero_shot_compounds
from mien.tasks import TASKS, Floats, Mean

__all__ = [
    "compound_labels",
    "expression_scores",
    "face_compounds",
    "frame_compounds",
    "listed_compounds",
    "smoothed_compounds",
]

_COMPOUNDS: Final = TASKS["ce.abaw7"]


# Faces


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
        faces: As of `mien.recipes.compounds.faces_in_videos.read_faces` (N rows).
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
            `mien.recipes.compounds.faces_in_videos.read_faces`.
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
    smoothed[has_face] = fill_and_smooth(
        scores[has_face], video[has_face], frame[has_face], window, sigma
    )
    return smoothed


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
