"""Whether an edit makes sense of the table that it is about."""

from typing import Any

import numpy as np
import pandas as pd

from mien.errors import StudyError
from mien.study.edits.apply import check_one_film, tracks_after
from mien.study.edits.operations import (
    TOLERANCE_S,
    Code,
    Edits,
    Exclude,
    Merge,
    Name,
    Operation,
    Split,
)
from mien.tasks import Floats

__all__ = ["checked_operation"]


def checked_operation(table: pd.DataFrame, edits: Edits, operation: Operation) -> Operation:
    """Check an edit against the table and the edits before it.

    Args:
        table: The table of one film, as it was written.
        edits: The edits so far.
        operation: The edit.

    Returns:
        The operation; a split with the number of the new track, the lowest that no track ever had.

    Raises:
        StudyError: There is no such track; tracks that would be merged are seen together; a split
            leaves a part empty; or a span lies after the film.
    """
    check_one_film(table)
    tracks = tracks_after(table, edits)
    if isinstance(operation, Name | Split | Merge):
        _check_track(tracks, operation.track)
    if isinstance(operation, Merge):
        _check_track(tracks, operation.into)
        _check_apart(table, tracks, operation)
    if isinstance(operation, Split):
        return _numbered(table, tracks, edits, operation)
    if isinstance(operation, Exclude | Code):
        if operation.track is not None:
            _check_track(tracks, operation.track)
        _check_span(table, operation)
    return operation


def _check_track(tracks: Floats, track: int) -> None:
    if not (tracks == track).any():
        known = np.unique(tracks[~np.isnan(tracks)]).astype(int)
        shown = ", ".join(map(str, known[:9])) or "none"
        raise StudyError(f"edits: there is no track {track}; there are {shown}")


def _check_apart(table: pd.DataFrame, tracks: Floats, step: Merge) -> None:
    if step.track == step.into:
        raise StudyError(f"edits: track {step.track} and itself are one already; name another")
    frames = table["frame"].to_numpy()
    both = np.intersect1d(frames[tracks == step.track], frames[tracks == step.into])
    if both.size:
        times = table["time_s"].to_numpy(np.float64)
        at_s = times[frames == both[0]][0] - times.min()
        raise StudyError(
            f"edits: tracks {step.track} and {step.into} are both seen at {at_s:.2f} s, so they "
            "are two people; split one of them first"
        )


def _numbered(table: pd.DataFrame, tracks: Floats, edits: Edits, step: Split) -> Split:
    times = table["time_s"].to_numpy(np.float64)
    later = (times - times.min())[tracks == step.track] >= step.at - TOLERANCE_S
    if later.all() or not later.any():
        raise StudyError(
            f"edits: track {step.track} is all on one side of {step.at:g} s; "
            "choose a time in the middle of it"
        )
    # Numbers of undone splits may be given again, those of the table never.
    numbers: list[Any] = [table["face"].max(), *(taken.into for taken in edits.steps)]
    return step.model_copy(update={"into": 1 + max(int(number) for number in numbers)})


def _check_span(table: pd.DataFrame, span: Exclude | Code) -> None:
    times = table["time_s"].to_numpy(np.float64)
    seconds = float(times.max() - times.min()) if len(times) else 0.0
    if span.start > seconds:
        raise StudyError(
            f"edits: a span from {span.start:g} s lies after the film, which has {seconds:.2f} s"
        )
