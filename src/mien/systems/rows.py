"""The rows of a table on their way through a system: the videos one after the other."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from mien.systems.film import FilmCompounds, FrameFaces
from mien.systems.recording import Recording
from mien.systems.signals import split_signals
from mien.tasks import TASKS, Floats
from mien.temporal.rows import Codes, group_codes

__all__ = ["compounds_of_rows", "rows_over_time"]


def rows_over_time(
    signals: Mapping[str, Floats],
    video: ArrayLike,
    frame: ArrayLike,
    new_recording: Callable[[], Recording],
) -> dict[str, Floats]:
    """Go from what networks say of the faces of a table to their scores over time.

    Args:
        signals: What networks say, (N, …) each.
        video: Names or numbers of the videos, (N,).
        frame: Frame numbers, whole, from 0, (N,).
        new_recording: Makes the recording of one more video.

    Returns:
        Scores (N, K) by task family, in the order of the table.

    Raises:
        DataError: The arrays do not fit together.
        BundleError: A network gives NaN or infinity.
    """
    frames = np.asarray(frame, np.int64)
    code, _ = group_codes(video, len(frames))
    order = np.lexsort((frames, code))
    # Where the video of a row is another than that of the row before.
    begins = np.diff(code[order], prepend=-1) != 0
    answers: list[dict[str, Floats]] = []
    recording = new_recording()
    for row, is_first in zip(order, begins, strict=True):
        if is_first:
            answers += recording.close()
            recording = new_recording()
        scores, numbers = split_signals({key: values[row] for key, values in signals.items()})
        answers += recording.add(int(frames[row]), scores, numbers)
    answers += recording.close()
    by_family = {}
    for family in answers[0] if answers else ():
        values = np.stack([answer[family] for answer in answers])
        # Back to the order of the table.
        by_family[family] = values[np.argsort(order)]
    return by_family


def compounds_of_rows(
    expressions: Floats, video: ArrayLike, frame: ArrayLike, new_film: Callable[[], FilmCompounds]
) -> Floats:
    """Go from the expressions of a table's faces to the compounds of their frames.

    Args:
        expressions: Scores (N, K).
        video: Names or numbers of the videos, (N,).
        frame: Frame numbers, whole, from 0, (N,). Several rows of a frame are several faces, the
            first of them the largest.
        new_film: Makes what takes the frames of one more video.

    Returns:
        Scores (N, 7); all rows of a frame have the same.

    Raises:
        DataError: The arrays do not fit together.
    """
    frames = np.asarray(frame, np.int64)
    code, _ = group_codes(video, len(frames))
    compounds = np.empty((len(frames), len(TASKS["ce.abaw7"].names)))
    for number in np.unique(code):
        rows = np.flatnonzero(code == number)
        compounds[rows] = _of_video(expressions[rows], frames[rows], new_film())
    return compounds


def _of_video(expressions: Floats, frames: Codes, film: FilmCompounds) -> Floats:
    """The same for the rows of one video."""
    first, last = int(frames.min()), int(frames.max())
    answers: list[Floats | None] = []
    for number in range(first, last + 1):
        faces = np.flatnonzero(frames == number)
        # Falling areas: the first row is the largest.
        areas = -np.arange(len(faces), dtype=np.float64)
        answers += film.add(FrameFaces(number, expressions[faces], areas))
    answers += film.close()
    compounds = np.empty((len(frames), len(TASKS["ce.abaw7"].names)))
    for row, number in enumerate(frames):
        compounds[row] = answers[int(number) - first]
    return compounds
