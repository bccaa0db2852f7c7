"""The readings of one film on their way through a system: faces over time, then frames."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np

from mien.records import Reading, Status
from mien.sources.interval import FrameInterval
from mien.systems.film import FilmCompounds, FrameFaces
from mien.systems.recording import Recording
from mien.systems.signals import split_signals
from mien.tasks import Floats
from mien.temporal.tracks import TICK_S, Recent, in_time_order, remember, track_of

__all__ = ["compounds_of_frames", "faces_over_time"]

# A face unseen for longer, s, begins a new recording when it is seen again.
_LONGEST_GAP_S: Final = 2.0


@dataclass
class _Waiting:
    """A reading, and whether it has the system's scores."""

    reading: Reading
    done: bool = False


class _Track:
    """The recording of one face, and the readings that wait for their scores."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._waiting: deque[_Waiting] = deque()

    def add(self, slot: _Waiting, number: int) -> None:
        """Take the next reading of the face."""
        self._waiting.append(slot)
        scores, numbers = split_signals(slot.reading.scores)
        self._answer(self._recording.add(number, scores, numbers))

    def close(self) -> None:
        """End the recording: all readings get their scores."""
        self._answer(self._recording.close())

    def _answer(self, answers: Iterable[dict[str, Floats]]) -> None:
        for scores in answers:
            slot = self._waiting.popleft()
            slot.reading = replace(slot.reading, scores=scores)
            slot.done = True


def faces_over_time(
    readings: Iterable[Reading], new_recording: Callable[[], Recording]
) -> Iterator[Reading]:
    """Go from what networks say of single faces to the scores of each face over time.

    Each face is a recording of its own, from when it is seen to when it is lost. So is each
    doubtful reading, for what is read in it must not reach the frames around it.

    Args:
        readings: Of one source, ordered by frame, with signals as scores.
        new_recording: Makes the recording of one more face.

    Yields:
        The readings in the same order, with scores by task family.

    Raises:
        SourceError: Time runs backwards.
        BundleError: A network gives NaN or infinity.
    """
    tracks: Recent[_Track] = OrderedDict()
    waiting: deque[_Waiting] = deque()
    interval = FrameInterval()
    number, latest = -1, -1
    for reading in in_time_order(readings):
        interval.add(reading.time_s)
        if reading.frame != latest:
            # Counted, not taken from the file: frames that were left out on purpose are no gap.
            number, latest = number + 1, reading.frame
        _close_lost(tracks, reading.time_s - interval.longest_gap_s(_LONGEST_GAP_S))
        slot = _Waiting(reading)
        waiting.append(slot)
        _add_to_track(tracks, slot, number, new_recording)
        # One reading whose future is not known yet holds back all that come after it.
        while waiting and waiting[0].done:
            yield waiting.popleft().reading
    for _, track in tracks.values():
        track.close()
    for slot in waiting:
        yield slot.reading


def _add_to_track(
    tracks: Recent[_Track], slot: _Waiting, number: int, new_recording: Callable[[], Recording]
) -> None:
    """Give a reading to its face's recording; one without a face is done at once."""
    reading = slot.reading
    if not reading.scores:
        slot.done = True
        return
    track_number = track_of(reading)
    # Its other frames are not known, or must not see this one.
    if track_number is None or reading.status is Status.doubtful:
        track = _Track(new_recording())
        track.add(slot, number)
        track.close()
        return
    _, track = tracks.get(track_number) or (0.0, _Track(new_recording()))
    track.add(slot, number)
    remember(tracks, track_number, reading.time_s, track)


def _close_lost(tracks: Recent[_Track], before_s: float) -> None:
    """End the recordings of faces last seen before a time."""
    while tracks:
        # The longest unseen face comes first.
        number, (last_seen_s, track) = next(iter(tracks.items()))
        if last_seen_s >= before_s - TICK_S:
            return
        track.close()
        del tracks[number]


def compounds_of_frames(
    readings: Iterable[Reading], new_film: Callable[[], FilmCompounds]
) -> Iterator[Reading]:
    """Go from the expressions of faces to the compounds of frames.

    Args:
        readings: Of one source, ordered by frame, with expressions among their scores.
        new_film: Makes what takes the frames of a film.

    Yields:
        The readings in the same order; all faces of a frame have its compounds, but doubtful ones
        have those of their own expressions alone.
    """
    film = new_film()
    waiting: deque[list[Reading]] = deque()
    for number, (_, group) in enumerate(groupby(readings, lambda reading: reading.frame)):
        frame = [_alone(row, new_film()) if _is_doubtful(row) else row for row in group]
        waiting.append(frame)
        sure = [row for row in frame if not _is_doubtful(row)]
        for compounds in film.add(_faces_of(sure, number)):
            yield from _with_compounds(waiting.popleft(), compounds)
    for compounds in film.close():
        yield from _with_compounds(waiting.popleft(), compounds)


def _is_doubtful(reading: Reading) -> bool:
    return reading.status is Status.doubtful


def _alone(reading: Reading, film: FilmCompounds) -> Reading:
    """A reading with the compounds of a film that has no other."""
    answers = film.add(_faces_of([reading], 0)) + film.close()
    [alone] = _with_compounds([reading], answers[0])
    return alone


def _faces_of(readings: Sequence[Reading], number: int) -> FrameFaces:
    """The faces of one frame."""
    expressions = []
    areas = []
    for reading in readings:
        if reading.scores and reading.face:
            expressions.append(reading.scores["expr"])
            areas.append(reading.face.box[2] * reading.face.box[3])
    if not areas:
        return FrameFaces(number)
    return FrameFaces(number, np.stack(expressions), np.array(areas))


def _with_compounds(readings: Sequence[Reading], compounds: Floats | None) -> Iterator[Reading]:
    for reading in readings:
        if "expr" in reading.scores and compounds is not None:
            yield replace(reading, scores={"ce": compounds})
        else:
            yield reading
