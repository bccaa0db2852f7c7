"""Smoothing over time, on the readings of one source.

`smooth` is a generator over the readings of one source, ordered by frame, in memory bounded by a
stretch of time. Time is in seconds, so 25 and 60 frames a second agree, and so does a variable
rate. State is kept per track; nothing is mixed between tracks or across a gap longer than asked
for. Doubtful readings count in no average, and keep their own scores. Readings without a track pass
through unchanged. To fill gaps as well (`mien.temporal.gaps`), fill first and smooth then.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite, log, sqrt
from typing import Final, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from mien.records import Reading, Status
from mien.sources.interval import FrameInterval
from mien.tasks import Floats, Task
from mien.temporal.tracks import TICK_S, Recent, forget, in_time_order, remember, track_of

__all__ = ["Kernel", "Smoothing", "smooth"]

Kernel = Literal["gaussian", "box", "exponential"]
Times = NDArray[np.float64]
# Where each kernel is cut off, in multiples of `Smoothing.seconds`.
_REACH: Final[Mapping[str, float]] = {"gaussian": 3.0, "box": 1.0, "exponential": 5.0}
# How wide each kernel is at half of its maximum, in multiples of `Smoothing.seconds`.
_FULL_WIDTH: Final[Mapping[str, float]] = {
    "gaussian": sqrt(8 * log(2)),
    "box": 2.0,
    "exponential": 2 * log(2),
}
# Samples that a new window has room for.
_LEAST_ROOM: Final = 64


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How scores are averaged over time.

    Weights depend on the distance in time dt and are divided by their sum (Nadaraya & Watson 1964).
    `fwhm_s` is the width in the measure that all kernels share; `of_width` makes one from it.

    Attributes:
        seconds: Scale s of the kernel, > 0; see `kernel`.
        kernel: ``gaussian``: weights ``exp(-dt²/2s²)``, s the standard deviation, cut at 3 s;
            ``box``: weights 1, s the half width; ``exponential``: weights ``exp(-|dt|/s)``, s the
            time constant, cut at 5 s.
        causal: Use the past only and hold nothing back, for live use; otherwise past and future
            alike.
        longest_gap_s: > 0; a track unseen for longer starts over, and nothing is averaged across.
            Where frames are far apart it is `sources.interval.GAP_FRAMES` times their own recent
            interval, if that is more.
        keep: Columns that are not smoothed. A blink, AU45, lasts about as long as the narrowest
            useful kernel.

    Raises:
        ValueError: A value makes no sense.

    Examples:
        >>> Smoothing(-1.0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: seconds must be a positive number, got -1.0; leave smoothing out ...
    """

    seconds: float
    kernel: Kernel = "gaussian"
    causal: bool = False
    longest_gap_s: float = 0.5
    keep: tuple[str, ...] = ("AU45",)

    def __post_init__(self) -> None:
        if not (isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(
                f"seconds must be a positive number, got {self.seconds}; "
                "leave smoothing out to keep the scores as they are"
            )
        if not self.longest_gap_s > 0:
            raise ValueError(f"longest_gap_s must be positive, got {self.longest_gap_s}")
        kernels = get_args(Kernel)
        if self.kernel not in kernels:
            raise ValueError(f"kernel must be one of {', '.join(kernels)}, got {self.kernel!r}")
        # A text is a sequence of texts too.
        if isinstance(self.keep, str) or not all(isinstance(name, str) for name in self.keep):
            raise ValueError(f'keep must be names of columns, such as ("AU45",), got {self.keep!r}')
        object.__setattr__(self, "keep", tuple(self.keep))

    def __repr__(self) -> str:
        values = []
        for field in fields(self):
            values.append(f"{field.name}={getattr(self, field.name)!r}")
        # The width too, which the scale of a kernel does not show.
        return f"Smoothing({', '.join(values)}; {self.fwhm_s:.3g} s wide at half maximum)"

    @classmethod
    def of_width(cls, fwhm_s: float, kernel: Kernel = "gaussian", causal: bool = False) -> Self:
        """A smoothing by its full width at half maximum.

        Args:
            fwhm_s: The width, s, > 0.
            kernel: Its kernel.
            causal: Use the past only.

        Returns:
            The smoothing, with defaults for the rest.

        Raises:
            ValueError: A value makes no sense.

        Examples:
            >>> round(Smoothing.of_width(0.15).seconds, 4)
            0.0637
            >>> Smoothing.of_width(0.15, causal=True).fwhm_s
            0.15
        """
        if not (isfinite(fwhm_s) and fwhm_s > 0):
            raise ValueError(
                f"the width of a smoothing must be a positive number of seconds, got {fwhm_s}; "
                "leave it out to keep scores as they are"
            )
        share = 0.5 if causal else 1.0
        # An unknown kernel is refused by the constructor.
        return cls(fwhm_s / (share * _FULL_WIDTH.get(kernel, 1.0)), kernel, causal)

    @property
    def fwhm_s(self) -> float:
        """Full width at half maximum, s; a causal kernel has only its past half.

        >>> round(Smoothing(0.1).fwhm_s, 4), Smoothing(0.1, "box").fwhm_s
        (0.2355, 0.2)
        >>> Smoothing(0.1, "box", causal=True).fwhm_s
        0.1
        """
        return self.seconds * _FULL_WIDTH[self.kernel] * (0.5 if self.causal else 1.0)

    @property
    def reach_s(self) -> float:
        """Samples farther away than this, s, have no weight.

        Unless causal, it is also how long a reading is held back.

        >>> Smoothing(0.25).reach_s, Smoothing(0.25, "box").reach_s
        (0.75, 0.25)
        """
        return self.seconds * _REACH[self.kernel]

    def weights(self, dt: Times) -> Times:
        """The kernel at some distances, not yet divided by its sum.

        Args:
            dt: Distances in time, (N,), s, all within `reach_s`.

        Returns:
            The weights (N,), 0..1.

        Examples:
            >>> Smoothing(2.0, "exponential").weights(np.array([0.0, -2.0])).round(3).tolist()
            [1.0, 0.368]
        """
        if self.kernel == "box":
            return np.ones_like(dt)
        # In multiples of the kernel's scale.
        scaled = dt / self.seconds
        if self.kernel == "gaussian":
            return np.exp(-0.5 * scaled * scaled)
        return np.exp(-np.abs(scaled))


class _Window:
    """The recent samples of one track without a break; it grows at the end and is trimmed in front.

    Args:
        scores: The scores of the first sample, which say what all have.

    Attributes:
        times: Times of the samples, s.
        values: Their scores, all tasks side by side.
        start: The first row that is still within reach.
        current: The next row to be smoothed.
        has_missing: Whether any sample so far had a missing score.
        end: The row after the last sample; rows [current, end) wait for their future.
    """

    __slots__ = ("current", "end", "has_missing", "keys", "slices", "start", "times", "values")

    def __init__(self, scores: Mapping[str, Floats]) -> None:
        self.keys = tuple(scores)
        self.slices: list[slice] = []
        width = 0
        for values in scores.values():
            end = width + len(values)
            self.slices.append(slice(width, end))
            width = end
        self.start = self.current = self.end = 0
        self.has_missing = False
        self.times: Times = np.empty(_LEAST_ROOM)
        self.values: Times = np.empty((_LEAST_ROOM, width))

    def add(self, reading: Reading) -> None:
        """Append the scores of a reading."""
        if self.end == len(self.times):
            self._make_room()
        if not self._has_same_tasks(reading.scores):
            raise ValueError(
                f"{reading.source}, frame {reading.frame}: a track cannot change its tasks; "
                "smooth the readings of one bundle at a time"
            )
        self.times[self.end] = reading.time_s
        scores = [reading.scores[key] for key in self.keys]
        np.concatenate(scores, out=self.values[self.end])
        self.has_missing |= bool(np.isnan(self.values[self.end]).any())
        self.end += 1

    def _has_same_tasks(self, scores: Mapping[str, Floats]) -> bool:
        if scores.keys() != set(self.keys):
            return False
        for key, part in zip(self.keys, self.slices, strict=True):
            width = part.stop - part.start
            if len(scores[key]) != width:
                return False
        return True

    def _make_room(self) -> None:
        """Drop what is out of reach, and double the room for the rest."""
        count = self.end - self.start
        room = max(_LEAST_ROOM, 2 * count)
        times = np.empty(room)
        values = np.empty((room, self.values.shape[1]))
        times[:count] = self.times[self.start : self.end]
        values[:count] = self.values[self.start : self.end]
        self.times = times
        self.values = values
        self.current -= self.start
        self.start = 0
        self.end = count

    def next(self, smoothing: Smoothing) -> dict[str, Floats]:
        """Scores of the current row, averaged over the rows within reach, and step on."""
        time_s = self.times[self.current]
        reach = smoothing.reach_s + TICK_S
        times = self.times[self.start : self.end]
        low, high = self.start + times.searchsorted((time_s - reach, time_s + reach))
        weights = smoothing.weights(self.times[low:high] - time_s)
        current = self.values[self.current]
        # Averaging the differences from the row itself leaves a constant exactly as it was.
        differences = self.values[low:high] - current
        if self.has_missing:
            mean = current + _mean_of_present(weights, differences)
        else:
            mean = current + weights @ differences / weights.sum()
        # The next row is later, so what is out of reach now stays so.
        self.start = low
        self.current += 1
        return {key: mean[part] for key, part in zip(self.keys, self.slices, strict=True)}


def _mean_of_present(weights: Times, values: Times) -> Times:
    """Weighted mean (K,) of the samples (N, K) that are not NaN; NaN where all are."""
    present = ~np.isnan(values)
    total = weights @ np.where(present, values, 0.0)
    share = weights @ present
    return np.asarray(np.divide(total, share, out=np.full(len(total), np.nan), where=share > 0))


def smooth(
    readings: Iterable[Reading], smoothing: Smoothing, tasks: Sequence[Task] = ()
) -> Iterator[Reading]:
    """Average every track's scores over time; the originals move to `raw`.

    Scores keep their unit and range (float64): probabilities still add up to 1. A missing score
    (NaN) stays missing, and counts in no average. Nor does a doubtful reading, which keeps its
    scores; it is as if its face were not seen. Readings without scores or track pass through
    unchanged.

    Args:
        readings: Of one source, ordered by frame.
        smoothing: How to average.
        tasks: The tasks of the scores, which tell where the columns are that `Smoothing.keep`
            names; without tasks all are smoothed.

    Yields:
        The readings in the same order, each as soon as the stream is more than `Smoothing.reach_s`
        past it, or at once where causal.

    Raises:
        SourceError: Time runs backwards.
        ValueError: A track's tasks change.

    Examples:
        >>> from mien.records import Face, Status
        >>> face = Face((0, 0, 9, 9), np.zeros((5, 2)), 1.0, track=1)
        >>> clip = []
        >>> for i, valence in enumerate([0.0, 1.0, 0.0]):
        ...     scores = {"va": np.array([valence])}
        ...     clip.append(Reading("a", i, i / 10, Status.ok, face, scores, {}))
        >>> [r.scores["va"].round(3).tolist() for r in smooth(clip, Smoothing(0.1, "box"))]
        [[0.5], [0.333], [0.5]]
    """
    tracks: Recent[_Window] = OrderedDict()
    waiting: deque[tuple[Reading, _Window | None]] = deque()
    hold_s = smoothing.reach_s + TICK_S
    kept = _kept_indices(smoothing, tasks)
    interval = FrameInterval()
    for reading in in_time_order(readings):
        interval.add(reading.time_s)
        forget(tracks, reading.time_s - interval.longest_gap_s(smoothing.longest_gap_s))
        waiting.append((reading, _add_to_window(tracks, reading)))
        while waiting and (smoothing.causal or waiting[0][0].time_s + hold_s < reading.time_s):
            yield _smoothed(*waiting.popleft(), smoothing, kept)
    while waiting:
        yield _smoothed(*waiting.popleft(), smoothing, kept)


def _kept_indices(smoothing: Smoothing, tasks: Sequence[Task]) -> dict[str, list[int]]:
    """Task family -> indices of the scores that stay as they are; families without are left out."""
    kept: dict[str, list[int]] = {}
    for task in tasks:
        for index, name in enumerate(task.columns):
            if name in smoothing.keep:
                kept.setdefault(task.family, []).append(index)
    return kept


def _add_to_window(tracks: Recent[_Window], reading: Reading) -> _Window | None:
    """Add a reading to its track's window, or to a new one; None if there is nothing to smooth."""
    track = track_of(reading)
    if not reading.scores or track is None or reading.status is Status.doubtful:
        return None
    # A track that was unseen for too long has been forgotten, and starts over.
    window = tracks[track][1] if track in tracks else _Window(reading.scores)
    window.add(reading)
    remember(tracks, track, reading.time_s, window)
    return window


def _smoothed(
    reading: Reading, window: _Window | None, smoothing: Smoothing, kept: Mapping[str, list[int]]
) -> Reading:
    if window is None:
        # A doubtful reading has originals, too, which are its scores.
        is_doubtful = reading.status is Status.doubtful
        return replace(reading, raw=reading.raw or reading.scores) if is_doubtful else reading
    scores = window.next(smoothing)
    for family, indices in kept.items():
        if family in scores:
            scores[family][indices] = reading.scores[family][indices]
    # What was smoothed before keeps its first originals.
    return replace(reading, scores=scores, raw=reading.raw or reading.scores)
