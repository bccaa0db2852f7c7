"""Which frames a sequence head reads at once: windows of fixed length over the frames of a video."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.errors import DataError
from mien.train.settings.features import WindowSettings

__all__ = ["windows"]


def windows(
    table: pd.DataFrame, settings: WindowSettings, *, overlap: bool = False
) -> NDArray[np.int64]:
    """Cut the videos of a label table into windows.

    The last window of a recording ends with it, so every row is in a window at least. A recording
    shorter than a window is one window of its own, and so is a row without a video.

    Args:
        table: A label table.
        settings: Length of a window, and which gaps end a recording.
        overlap: Windows begin every half length (length // 2) rather than every length.

    Returns:
        Row numbers (W, length) for each window, in order of `frame` within `video`; -1 is padding.

    Raises:
        DataError: A row has a video and no frame number, or a video has a frame twice.

    >>> clip = pd.DataFrame({"video": "a", "frame": [0, 1, 2, 3, 4, 9]})
    >>> windows(clip, WindowSettings(length=3)).tolist()
    [[0, 1, 2], [2, 3, 4], [5, -1, -1]]
    """
    order, starts = _recordings(table, settings.gap)
    length = settings.length
    stride = length // 2 if overlap else length
    frames = np.diff(starts, append=len(order))
    last_start = np.maximum(frames - length, 0)
    # Rounded up: the last window ends with the recording, also where strides do not fit.
    count = -(-last_start // stride) + 1

    # All windows of all recordings at once, without a loop over recordings.
    recording = np.repeat(np.arange(len(starts)), count)
    number = np.arange(len(recording)) - np.repeat(np.cumsum(count) - count, count)
    first = np.minimum(number * stride, last_start[recording])
    position = first[:, None] + np.arange(length)
    inside = position < frames[recording, None]
    rows = order[np.where(inside, starts[recording, None] + position, 0)]
    return np.asarray(np.where(inside, rows, -1), np.int64)


def _recordings(table: pd.DataFrame, gap: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All rows (N,), recording by recording in order of frames, and where each recording starts."""
    video, names = pd.factorize(table["video"])
    frame = np.where(video < 0, 0.0, pd.to_numeric(table["frame"]).to_numpy(np.float64))
    missing = np.isnan(frame)
    if missing.any():
        name = names[video[missing.argmax()]]
        raise DataError(
            f"video {name!r}: {missing.sum()} rows have no frame number, "
            "and windows need their order"
        )
    # A row without a video becomes a video of its own.
    single = np.flatnonzero(video < 0)
    video[single] = len(names) + np.arange(len(single))

    order = np.lexsort((frame, video))
    same_video = np.diff(video[order]) == 0
    step = np.diff(frame[order])
    repeated = same_video & (step == 0)
    if repeated.any():
        row = order[int(repeated.argmax())]
        raise DataError(
            f"video {names[video[row]]!r}: frame {frame[row]:g} comes twice; "
            "give each face a video of its own"
        )
    begins = np.concatenate([[True], ~same_video | (step > gap)])
    return order, np.flatnonzero(begins)
