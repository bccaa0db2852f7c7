"""Which frames a head over time reads at once: windows of fixed length over a video."""

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
    recording, first = _window_starts(frames, length, stride)
    # Positions are counted from the recording's first frame.
    position = first[:, None] + np.arange(length)
    is_frame = position < frames[recording, None]
    # Padding points at row 0 for now, so that it can be looked up like the rest.
    place = np.where(is_frame, starts[recording, None] + position, 0)
    return np.asarray(np.where(is_frame, order[place], -1), np.int64)


def _window_starts(
    frames: NDArray[np.intp], length: int, stride: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The recording of each window (W,), and its first frame in it, for recordings of `frames`."""
    last_start = np.maximum(frames - length, 0)
    # Rounded up: the last window ends with the recording, also where strides do not fit.
    count = -(-last_start // stride) + 1
    # All windows of all recordings at once, without a loop over recordings.
    recording = np.repeat(np.arange(len(frames)), count)
    windows_before = np.cumsum(count) - count
    number = np.arange(len(recording)) - windows_before[recording]
    return recording, np.minimum(number * stride, last_start[recording])


def _recordings(table: pd.DataFrame, gap: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All rows (N,), recording by recording in order of frames, and where each recording starts."""
    video, names = pd.factorize(table["video"])
    frame = pd.to_numeric(table["frame"]).to_numpy(np.float64)
    # A row without a video needs no number: it becomes a video of its own.
    frame = np.where(video < 0, 0.0, frame)
    missing = np.isnan(frame)
    if missing.any():
        name = names[video[missing.argmax()]]
        raise DataError(
            f"video {name!r}: {missing.sum()} rows have no frame number, "
            "and windows need their order"
        )
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
