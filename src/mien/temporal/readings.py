"""Readings through time: smoothing, and filling short gaps.

Every stage is a generator over the readings of one source, ordered by frame, in memory bounded by a stretch of time.
Time is in seconds, so 25 and 60 frames a second agree, and so does a variable rate. State is kept per track; nothing
is mixed between tracks or across a gap longer than asked for. Readings without a track pass through unchanged.
To do both, fill first and smooth then.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from math import isfinite, log, sqrt
from typing import Final, Literal, Self, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from mien.errors import SourceError
from mien.records import Face, Reading, Status
from mien.sources.interval import FrameInterval
from mien.tasks import Floats, Task

__all__ = ["Kernel", "Smoothing", "fill_gaps", "smooth"]

Kernel = Literal["gaussian", "box", "exponential"]
Times = NDArray[np.float64]
T = TypeVar("T")
Recent = OrderedDict[int, tuple[float, T]]
"""Track -> (time last seen in s, what is kept for it), the longest unseen first."""

_TICK: Final = 1e-6
"""Times closer than this (s) are one time: above rounding error, below every container's clock."""
_REACH: Final[Mapping[str, float]] = {"gaussian": 3.0, "box": 1.0, "exponential": 5.0}
"""Where each kernel is cut off, in multiples of `Smoothing.seconds`."""
_FULL_WIDTH: Final[Mapping[str, float]] = {
    "gaussian": sqrt(8 * log(2)),
    "box": 2.0,
    "exponential": 2 * log(2),
}
"""How wide each kernel is at half of its maximum, in multiples of `Smoothing.seconds`."""


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How scores are averaged over time: weights by distance in time dt, divided by their own sum (Nadaraya & Watson 1964).

    seconds: > 0; what it measures depends on the kernel.
    kernel: ``gaussian`` exp(-dt²/2s²), s the standard deviation, cut at 3 s; ``box`` 1, s the half width;
        ``exponential`` exp(-|dt|/s), s the time constant, cut at 5 s.
    causal: use the past only and hold nothing back, for live use; otherwise past and future alike.
    longest_gap_s: > 0; a track unseen for longer starts anew, and nothing is averaged across. Where frames are far apart
        it is `sources.interval.GAP_FRAMES` times their own recent interval, if that is more.
    keep: columns that are not smoothed. A blink, AU45, lasts about as long as the narrowest useful kernel.

    `fwhm_s` says how wide it is in the measure that all kernels share; `of_width` makes one from it.
    Raises ValueError for other values.

    >>> Smoothing(-1.0)
    Traceback (most recent call last):
    ValueError: seconds must be a positive number, got -1.0; leave smoothing out to keep the scores as they are
    """

    seconds: float
    kernel: Kernel = "gaussian"
    causal: bool = False
    longest_gap_s: float = 0.5
    keep: tuple[str, ...] = ("AU45",)

    def __post_init__(self) -> None:
        if not (isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(
                f"seconds must be a positive number, got {self.seconds}; leave smoothing out to keep the scores as they are"
            )
        if not self.longest_gap_s > 0:
            raise ValueError(f"longest_gap_s must be positive, got {self.longest_gap_s}")
        if self.kernel not in get_args(Kernel):
            raise ValueError(
                f"kernel must be one of {', '.join(get_args(Kernel))}, got {self.kernel!r}"
            )
        if isinstance(self.keep, str) or not all(isinstance(name, str) for name in self.keep):
            raise ValueError(f'keep must be names of columns, such as ("AU45",), got {self.keep!r}')
        object.__setattr__(self, "keep", tuple(self.keep))

    def __repr__(self) -> str:
        chosen = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return f"Smoothing({chosen}; {self.fwhm_s:.3g} s wide at half maximum)"

    @classmethod
    def of_width(cls, fwhm_s: float, kernel: Kernel = "gaussian", causal: bool = False) -> Self:
        """A kernel by its full width at half maximum, seconds.

        >>> round(Smoothing.of_width(0.15).seconds, 4), Smoothing.of_width(0.15, causal=True).fwhm_s
        (0.0637, 0.15)
        """
        if not (isfinite(fwhm_s) and fwhm_s > 0):
            raise ValueError(
                f"the width of a smoothing must be a positive number of seconds, got {fwhm_s}; leave it out to keep scores as they are"
            )
        share = 0.5 if causal else 1.0
        return cls(fwhm_s / (share * _FULL_WIDTH.get(kernel, 1.0)), kernel, causal)

    @property
    def fwhm_s(self) -> float:
        """Full width at half maximum, seconds: how far apart the times are at which the weight is half of its largest.

        A causal kernel has only its past half.

        >>> round(Smoothing(0.1).fwhm_s, 4), Smoothing(0.1, "box").fwhm_s, Smoothing(0.1, "box", causal=True).fwhm_s
        (0.2355, 0.2, 0.1)
        """
        return self.seconds * _FULL_WIDTH[self.kernel] * (0.5 if self.causal else 1.0)

    @property
    def reach_s(self) -> float:
        """Samples farther away than this have no weight; unless causal, also how long a reading is held back, seconds.

        >>> Smoothing(0.25).reach_s, Smoothing(0.25, "box").reach_s
        (0.75, 0.25)
        """
        return self.seconds * _REACH[self.kernel]

    def weights(self, dt: Times) -> Times:
        """Kernel (N,), 0..1, at the distances dt (N,), seconds, all within `reach_s`; not yet divided by its sum.

        >>> Smoothing(2.0, "exponential").weights(np.array([0.0, -2.0])).round(3).tolist()
        [1.0, 0.368]
        """
        if self.kernel == "box":
            return np.ones_like(dt)
        scaled = dt / self.seconds
        return np.exp(-0.5 * scaled * scaled if self.kernel == "gaussian" else -np.abs(scaled))


class _Stretch:
    """The samples of one track without a break: a window that grows at the end and is trimmed at the front.

    Rows [start, at) are still within reach, `at` is the next one to be smoothed, [at, end) wait for their future.
    """

    __slots__ = ("at", "end", "keys", "slices", "start", "times", "values")

    def __init__(self, scores: Mapping[str, Floats]) -> None:
        self.keys = tuple(scores)
        ends = np.cumsum([len(values) for values in scores.values()]).tolist()
        self.slices = [slice(low, high) for low, high in zip([0, *ends], ends, strict=False)]
        self.start = self.at = self.end = 0
        self.times: Times = np.empty(64)
        self.values: Times = np.empty((64, ends[-1]))

    def add(self, now: Reading) -> None:
        if self.end == len(self.times):
            self._make_room()
        if now.scores.keys() != set(self.keys) or [len(now.scores[k]) for k in self.keys] != [
            s.stop - s.start for s in self.slices
        ]:
            raise ValueError(
                f"{now.source}, frame {now.frame}: a track cannot change its tasks; smooth the readings of one bundle at a time"
            )
        self.times[self.end] = now.time_s
        np.concatenate([now.scores[key] for key in self.keys], out=self.values[self.end])
        self.end += 1

    def _make_room(self) -> None:
        kept = slice(self.start, self.end)
        times, values = self.times[kept], self.values[kept]
        room = max(64, 2 * len(times))
        self.times, self.values = np.empty(room), np.empty((room, values.shape[1]))
        self.times[: len(times)], self.values[: len(times)] = times, values
        self.at, self.end, self.start = self.at - self.start, len(times), 0

    def next(self, smoothing: Smoothing) -> dict[str, Floats]:
        """Scores of the row `at`, averaged over the rows within reach, and step on."""
        now = self.times[self.at]
        reach = smoothing.reach_s + _TICK
        low, high = self.start + self.times[self.start : self.end].searchsorted(
            (now - reach, now + reach)
        )
        weights = smoothing.weights(self.times[low:high] - now)
        own = self.values[self.at]
        # Averaging the differences from its own value leaves a constant exactly as it was.
        mean = own + weights @ (self.values[low:high] - own) / weights.sum()
        self.start, self.at = low, self.at + 1
        return {key: mean[part] for key, part in zip(self.keys, self.slices, strict=True)}


def smooth(
    readings: Iterable[Reading], smoothing: Smoothing, tasks: Sequence[Task] = ()
) -> Iterator[Reading]:
    """Average every track's scores over time; the originals move to `raw`.

    readings: of one source, ordered by frame. They come out in the same order, each as soon as the stream is more than
    `Smoothing.reach_s` past it, or at once where causal. Scores keep their unit and range (float64): probabilities go on
    adding up to 1. Readings without scores or track pass through unchanged.
    tasks: what the scores mean, which tells where the columns are that `Smoothing.keep` names; without tasks all are smoothed.
    Raises SourceError where time runs backwards, ValueError where a track's tasks change.

    >>> face = Face((0, 0, 9, 9), np.zeros((5, 2)), 1.0, track=1)
    >>> clip = [Reading("a", i, i / 10, Status.ok, face, {"va": np.array([float(i == 1)])}, {}) for i in range(3)]
    >>> [(r.scores["va"].round(3).tolist(), r.raw["va"].tolist()) for r in smooth(clip, Smoothing(0.1, "box"))]
    [([0.5], [0.0]), ([0.333], [1.0]), ([0.5], [0.0])]
    """
    tracks: Recent[_Stretch] = OrderedDict()
    waiting: deque[tuple[Reading, _Stretch | None]] = deque()
    hold_s = smoothing.reach_s + _TICK
    kept = _kept(smoothing, tasks)
    interval = FrameInterval()
    for now in _in_time(readings):
        interval.add(now.time_s)
        _forget(tracks, now.time_s - interval.longest_gap_s(smoothing.longest_gap_s))
        waiting.append((now, _follow(tracks, now)))
        while waiting and (smoothing.causal or waiting[0][0].time_s + hold_s < now.time_s):
            yield _smoothed(*waiting.popleft(), smoothing, kept)
    while waiting:
        yield _smoothed(*waiting.popleft(), smoothing, kept)


def _kept(smoothing: Smoothing, tasks: Sequence[Task]) -> dict[str, list[int]]:
    """Task family -> places of the scores that stay as they are."""
    kept = {
        task.family: [i for i, name in enumerate(task.columns) if name in smoothing.keep]
        for task in tasks
    }
    return {family: places for family, places in kept.items() if places}


def _follow(tracks: Recent[_Stretch], now: Reading) -> _Stretch | None:
    """Add a reading to the stretch it belongs to, or to a new one; None where there is nothing to smooth."""
    if not now.scores or now.face is None or now.face.track is None:
        return None
    track = now.face.track
    stretch = tracks[track][1] if track in tracks else _Stretch(now.scores)
    stretch.add(now)
    _saw(tracks, track, now.time_s, stretch)
    return stretch


def _smoothed(
    now: Reading, stretch: _Stretch | None, smoothing: Smoothing, kept: Mapping[str, list[int]]
) -> Reading:
    if stretch is None:
        return now
    scores = stretch.next(smoothing)
    for family, places in kept.items():
        if family in scores:
            scores[family][places] = now.scores[family][places]
    return replace(now, scores=scores, raw=now.raw or now.scores)


def _saw(tracks: Recent[T], track: int, time_s: float, kept: T) -> None:
    tracks[track] = (time_s, kept)
    tracks.move_to_end(track)


def _forget(tracks: Recent[T], before_s: float) -> None:
    """Drop the tracks last seen before that time."""
    while tracks and next(iter(tracks.values()))[0] < before_s - _TICK:
        tracks.popitem(last=False)


def _in_time(readings: Iterable[Reading]) -> Iterator[Reading]:
    latest = -np.inf
    for now in readings:
        if now.time_s < latest:
            raise SourceError(
                f"{now.source}, frame {now.frame}: time runs backwards, {now.time_s} s after {latest} s; re-encode the video"
            )
        latest = now.time_s
        yield now


@dataclass(slots=True)
class _Instant:
    """All rows of one frame."""

    frame: int
    time_s: float
    rows: list[Reading]

    def fill(self, before: Reading, after: Reading) -> None:
        """Add the row of a face that was seen before and after, but not here."""
        row = _between(before, after, self.rows[0])
        self.rows = [r for r in self.rows if r.face is not None] + [row]

    def ordered(self) -> list[Reading]:
        return sorted(self.rows, key=lambda r: (_track(r) is None, _track(r) or 0))


def fill_gaps(readings: Iterable[Reading], longest_s: float) -> Iterator[Reading]:
    """Give a track that vanishes and is back within `longest_s` (> 0, seconds) a row in the frames between.

    Where frames are far apart, `sources.interval.GAP_FRAMES` times their recent interval counts, if that is more.
    readings: of one source, ordered by frame. The new rows have the status ``gap`` and the track's number; box, points
    and scores run straight, in time, from the last sight to the next (scores: the tasks both have); confidence is the
    lower of the two. Such a row takes the place of a ``no_face`` or ``unreadable`` row: ``gap`` says as plainly that
    nothing was measured there. Frames that nothing fills keep their rows. Within a frame rows come in the order of
    their tracks, those without one last. A frame is held back until the next one begins, and longer, up to
    `longest_s`, only while a track is missing.
    Raises ValueError for a `longest_s` that is not positive, SourceError where time runs backwards.

    >>> def seen(frame, x):
    ...     face = Face((x, 0.0, 9.0, 9.0), np.zeros((5, 2)), 1.0, track=1)
    ...     return Reading("a", frame, frame / 10, Status.ok, face, {"va": np.array([x])}, {})
    >>> clip = [seen(0, 0.0), Reading("a", 1, 0.1, Status.no_face, None, {}, {}), seen(2, 0.5)]
    >>> [(str(r.status), r.face.box[0], r.scores["va"].tolist()) for r in fill_gaps(clip, 0.5)]
    [('ok', 0.0, [0.0]), ('gap', 0.25, [0.25]), ('ok', 0.5, [0.5])]
    """
    if not longest_s > 0:
        raise ValueError(
            f"longest_s must be positive, got {longest_s}; leave gap filling out to keep the rows as they are"
        )
    return _fill_gaps(readings, longest_s)


def _fill_gaps(readings: Iterable[Reading], longest_s: float) -> Iterator[Reading]:
    tracks: Recent[Reading] = OrderedDict()
    waiting: deque[_Instant] = deque()
    interval = FrameInterval()
    for frame, group in groupby(_in_time(readings), key=lambda r: r.frame):
        rows = list(group)
        now = _Instant(frame, rows[0].time_s, rows)
        interval.add(now.time_s)
        _forget(tracks, now.time_s - interval.longest_gap_s(longest_s))
        for row in rows:
            _bridge(tracks, waiting, row)
        waiting.append(now)
        while waiting and not _may_return(tracks, waiting[0].frame):
            yield from waiting.popleft().ordered()
    for instant in waiting:
        yield from instant.ordered()


def _bridge(tracks: Recent[Reading], waiting: Iterable[_Instant], now: Reading) -> None:
    """Where this row's track is back, fill the waiting frames since it was last seen."""
    if (track := _track(now)) is None:
        return
    if track in tracks:
        before = tracks[track][1]
        for instant in waiting:
            if before.frame < instant.frame:
                instant.fill(before, now)
    _saw(tracks, track, now.time_s, now)


def _may_return(tracks: Recent[Reading], frame: int) -> bool:
    """Whether a track last seen before that frame is still remembered, so that its return would fill the frame."""
    return bool(tracks) and next(iter(tracks.values()))[1].frame < frame


def _track(row: Reading) -> int | None:
    return row.face.track if row.face else None


def _between(before: Reading, after: Reading, at: Reading) -> Reading:
    """The reading at the frame and time of `at`, on the straight line between two readings of one track."""
    assert before.face is not None
    assert after.face is not None
    span_s = after.time_s - before.time_s
    share = (at.time_s - before.time_s) / span_s if span_s else 0.0
    x, y, w, h = (
        float(a + share * (b - a)) for a, b in zip(before.face.box, after.face.box, strict=True)
    )
    points = before.face.points + share * (after.face.points - before.face.points)
    face = Face(
        (x, y, w, h), points, min(before.face.confidence, after.face.confidence), after.face.track
    )
    scores, raw = _blend(before.scores, after.scores, share), _blend(before.raw, after.raw, share)
    return replace(at, status=Status.gap, face=face, scores=scores, raw=raw)


def _blend(
    before: Mapping[str, Floats], after: Mapping[str, Floats], share: float
) -> dict[str, Floats]:
    return {key: before[key] + share * (after[key] - before[key]) for key in before if key in after}
