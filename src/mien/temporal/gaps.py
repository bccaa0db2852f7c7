"""Filling the short gaps of tracks, on the readings of one source.

A generator, in memory bounded by a stretch of time. Time is in seconds, and state is kept per
track. To smooth as well, fill first.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from mien.records import Face, Reading, Status
from mien.sources.interval import FrameInterval
from mien.tasks import Floats
from mien.temporal.tracks import Recent, forget, in_time_order, remember, track_of

__all__ = ["fill_gaps"]


@dataclass(slots=True)
class _FrameRows:
    """All rows of one frame."""

    frame: int
    time_s: float
    rows: list[Reading]

    def fill(self, before: Reading, after: Reading) -> None:
        """Add the row of a face that was seen before and after, but not here."""
        row = _between(before, after, self.rows[0])
        # Rows without a face say that there is none, which is no longer true.
        seen = [other for other in self.rows if other.face is not None]
        self.rows = [*seen, row]

    def ordered(self) -> list[Reading]:
        """The rows in the order of their tracks, those without one last."""
        return sorted(self.rows, key=_track_order)


def _track_order(row: Reading) -> tuple[bool, int]:
    track = track_of(row)
    return (track is None, track or 0)


def fill_gaps(readings: Iterable[Reading], longest_s: float) -> Iterator[Reading]:
    """Give a track that vanishes and is back soon a row in the frames between.

    The new rows have the status ``gap`` and the track's number; box, points and scores are
    interpolated linearly in time, from the last sight to the next (scores: the tasks both have; NaN
    where one is; none where one of the readings is doubtful); confidence is the lower of the two.
    Such a row replaces a ``no_face`` or ``unreadable`` row: ``gap`` says as plainly that nothing
    was measured there. Frames that nothing fills keep their rows.

    Args:
        readings: Of one source, ordered by frame.
        longest_s: The longest gap to fill, > 0, s. Where frames are far apart,
            `sources.interval.GAP_FRAMES` times their recent interval counts, if that is more.

    Returns:
        An iterator over the readings; within a frame in the order of their tracks, those without
        one last. A frame is held back until the next one begins, and longer, up to `longest_s`,
        only while a track is missing.

    Raises:
        ValueError: `longest_s` is not positive.
        SourceError: Time runs backwards; raised when it is met.

    Examples:
        >>> import numpy as np
        >>> def seen(frame, x):
        ...     face = Face((x, 0.0, 9.0, 9.0), np.zeros((5, 2)), 1.0, track=1)
        ...     scores = {"va": np.array([x])}
        ...     return Reading("a", frame, frame / 10, Status.ok, face, scores, {})
        >>> unseen = Reading("a", 1, 0.1, Status.no_face, None, {}, {})
        >>> filled = fill_gaps([seen(0, 0.0), unseen, seen(2, 0.5)], 0.5)
        >>> [(str(r.status), r.face.box[0], r.scores["va"].tolist()) for r in filled]
        [('ok', 0.0, [0.0]), ('gap', 0.25, [0.25]), ('ok', 0.5, [0.5])]
    """
    # Checked here, not when the first reading is asked for.
    if not longest_s > 0:
        raise ValueError(
            f"longest_s must be positive, got {longest_s}; "
            "leave gap filling out to keep the rows as they are"
        )
    return _fill_gaps(readings, longest_s)


def _fill_gaps(readings: Iterable[Reading], longest_s: float) -> Iterator[Reading]:
    tracks: Recent[Reading] = OrderedDict()
    waiting: deque[_FrameRows] = deque()
    interval = FrameInterval()
    for frame, group in groupby(in_time_order(readings), key=lambda reading: reading.frame):
        rows = list(group)
        time_s = rows[0].time_s
        interval.add(time_s)
        forget(tracks, time_s - interval.longest_gap_s(longest_s))
        for row in rows:
            _bridge(tracks, waiting, row)
        waiting.append(_FrameRows(frame, time_s, rows))
        while waiting and not _may_return(tracks, waiting[0].frame):
            yield from waiting.popleft().ordered()
    for held_back in waiting:
        yield from held_back.ordered()


def _bridge(tracks: Recent[Reading], waiting: Iterable[_FrameRows], row: Reading) -> None:
    """Where this row's track is back, fill the waiting frames since it was last seen."""
    track = track_of(row)
    if track is None:
        return
    if track in tracks:
        _, before = tracks[track]
        for held_back in waiting:
            if before.frame < held_back.frame:
                held_back.fill(before, row)
    remember(tracks, track, row.time_s, row)


def _may_return(tracks: Recent[Reading], frame: int) -> bool:
    """Whether a track last seen before that frame is remembered, so that its return fills it."""
    if not tracks:
        return False
    _, longest_unseen = next(iter(tracks.values()))
    return longest_unseen.frame < frame


def _between(before: Reading, after: Reading, row: Reading) -> Reading:
    """The reading at the frame and time of `row`, interpolated between two of one track."""
    assert before.face is not None
    assert after.face is not None
    span_s = after.time_s - before.time_s
    share = (row.time_s - before.time_s) / span_s if span_s else 0.0
    face = _face_between(before.face, after.face, share)
    scores: dict[str, Floats] = {}
    raw: dict[str, Floats] = {}
    # What lies between a doubtful reading and another is doubtful, but would not be marked so.
    if Status.doubtful not in (before.status, after.status):
        scores = _blend(before.scores, after.scores, share)
        raw = _blend(before.raw, after.raw, share)
    # `row` may be another face's, so nothing of it but its place in time is kept.
    return Reading(row.source, row.frame, row.time_s, Status.gap, face, scores, raw)


def _face_between(before: Face, after: Face, share: float) -> Face:
    sides = []
    for start, end in zip(before.box, after.box, strict=True):
        sides.append(float(start + share * (end - start)))
    x, y, width, height = sides
    points = before.points + share * (after.points - before.points)
    # Not seen at all, it is no surer than the less sure of the two.
    confidence = min(before.confidence, after.confidence)
    return Face((x, y, width, height), points, confidence, after.track)


def _blend(
    before: Mapping[str, Floats], after: Mapping[str, Floats], share: float
) -> dict[str, Floats]:
    """Scores on the straight line between two readings, of the tasks that both have."""
    blended: dict[str, Floats] = {}
    for family, start in before.items():
        if family in after:
            blended[family] = start + share * (after[family] - start)
    return blended
