"""When a recording began, and how long each of its frames stands."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from mien.errors import StudyError
from mien.sources.interval import GAP_FRAMES
from mien.tasks import Floats

__all__ = ["LONGEST_S", "frame_durations", "start_of_recording"]

LONGEST_S: Final = 0.5
"""A frame stands no longer than that, s, or `GAP_FRAMES` typical intervals if that is more: the
source paused, and nobody was seen meanwhile."""


def frame_durations(time_s: ArrayLike, where: str) -> Floats:
    """How long each frame of a recording stands: until the next one.

    Means over frames that are weighted with it are means over time, whatever the frame rate, and
    also where it changes within a recording. A frame before a pause, and the last one, stand for
    the typical interval, the median.

    Args:
        time_s: Times of the frames (N,), s, in order; frames of one time share it.
        where: What messages begin with, such as the recording's name.

    Returns:
        Durations (N,), s.

    Raises:
        StudyError: Time runs backwards, is not known, or there is no second frame: of photos.

    >>> frame_durations([0.0, 0.25, 0.5, 9.0, 9.25], "a.mp4").tolist()
    [0.25, 0.25, 0.25, 0.25, 0.25]
    """
    times = np.asarray(time_s, np.float64)
    if not np.isfinite(times).all():
        number = int(np.flatnonzero(~np.isfinite(times))[0])
        raise StudyError(f"{where}: row {number} has no time; read the recording again")
    steps = np.diff(times)
    if (steps < 0).any():
        number = int(np.flatnonzero(steps < 0)[0])
        before, after = times[number : number + 2]
        raise StudyError(
            f"{where}: time runs backwards, {after:g} s after {before:g} s; "
            "sort the rows by frame, or re-encode the recording and read it again"
        )
    forward = steps[steps > 0]
    if not forward.size:
        raise StudyError(
            f"{where}: has one time only, so nothing has a duration; "
            "a study is made from films (photos need no weights: use their table as it is)"
        )
    typical = float(np.median(forward))
    longest = max(LONGEST_S, GAP_FRAMES * typical)
    return np.append(np.where(steps > longest, typical, steps), typical)


def start_of_recording(dictionary: Mapping[str, Any]) -> float:
    """When the film of a table began, by the creation time that its file states.

    Args:
        dictionary: The table's data dictionary.

    Returns:
        Seconds since 1970 (UTC); NaN where the file states no time, or one without a time zone.

    >>> start_of_recording({"media": [{"created": "1970-01-02T00:00:00.250000Z"}]})
    86400.25
    """
    media = dictionary.get("media") or [{}]
    try:
        created = datetime.fromisoformat(str(media[0].get("created")))
    except ValueError:
        return np.nan
    return created.timestamp() if created.tzinfo else np.nan
