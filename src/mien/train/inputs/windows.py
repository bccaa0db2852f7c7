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
    """Row numbers (W, length) of a label table for each window, in order of `frame` within `video`, and -1 after the last of fewer.

    overlap: windows begin every half length (length // 2) rather than every length. The last window of a recording ends with it, so every
    row is in a window at least. A recording shorter than a window is one window of its own, and so is a row without a video.
    Raises DataError for a row that has a video and no frame number, and for a frame that a video has twice.

    >>> clip = pd.DataFrame({"video": "a", "frame": [0, 1, 2, 3, 4, 9]})
    >>> windows(clip, WindowSettings(length=3)).tolist()
    [[0, 1, 2], [2, 3, 4], [5, -1, -1]]
    """
    order, starts = _recordings(table, settings.gap)
    length = settings.length
    stride = length // 2 if overlap else length
    frames = np.diff(starts, append=len(order))
    beyond = np.maximum(frames - length, 0)  # where the last window starts
    count = -(-beyond // stride) + 1
    which = np.repeat(np.arange(len(starts)), count)
    number = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    place = np.minimum(number * stride, beyond[which])[:, None] + np.arange(length)
    inside = place < frames[which, None]
    return np.asarray(
        np.where(inside, order[np.where(inside, starts[which, None] + place, 0)], -1), np.int64
    )


def _recordings(table: pd.DataFrame, gap: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All rows (N,), recording by recording, each in order; and where among them each recording starts."""
    video, names = pd.factorize(table["video"])
    frame = np.where(video < 0, 0.0, pd.to_numeric(table["frame"]).to_numpy(np.float64))
    if (lost := np.isnan(frame)).any():
        raise DataError(
            f"video {names[video[lost.argmax()]]!r}: {lost.sum()} rows have no frame number, and windows need their order"
        )
    alone = np.flatnonzero(video < 0)
    video[alone] = len(names) + np.arange(len(alone))
    order = np.lexsort((frame, video))
    same, step = np.diff(video[order]) == 0, np.diff(frame[order])
    if (twice := same & (step == 0)).any():
        row = order[int(twice.argmax())]
        raise DataError(
            f"video {names[video[row]]!r}: frame {frame[row]:g} comes twice; give each face a video of its own"
        )
    return order, np.flatnonzero(np.concatenate([[True], ~same | (step > gap)]))
