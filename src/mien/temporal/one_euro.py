"""The one-euro filter: smoothing over time that gives way where scores move fast.

Casiez, Roussel & Vogel (2012), "1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems": a score at rest is smoothed much, and one that moves is followed at once. Made
for live use: it looks back only.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite, tau

import numpy as np

from mien.records import Reading, Status
from mien.sources.interval import FrameInterval
from mien.tasks import Floats, Task
from mien.temporal.tracks import Recent, forget, in_time_order, remember, track_of

__all__ = ["OneEuro", "one_euro"]


@dataclass(frozen=True, slots=True)
class OneEuro:
    """How fast scores are followed.

    To tune it, as the paper says: with `beta` 0, lower `cutoff_hz` until a face at rest is steady;
    then raise `beta` until a moving one lags no more.

    Attributes:
        cutoff_hz: Cutoff frequency of a score at rest, Hz, > 0.
        beta: How much the cutoff rises with speed, Hz per (score per second), >= 0.
        speed_cutoff_hz: Cutoff frequency of the speed itself, Hz, > 0.
        longest_gap_s: > 0; a track unseen for longer starts over, as of `Smoothing`.
        keep: Columns that are not smoothed.

    Raises:
        ValueError: A value makes no sense.
    """

    cutoff_hz: float = 1.0
    beta: float = 1.0
    speed_cutoff_hz: float = 1.0
    longest_gap_s: float = 0.5
    keep: tuple[str, ...] = ("AU45",)

    def __post_init__(self) -> None:
        for name in ("cutoff_hz", "speed_cutoff_hz", "longest_gap_s"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if not (isfinite(self.beta) and self.beta >= 0):
            raise ValueError(f"beta must be 0 or more, got {self.beta}")
        if isinstance(self.keep, str) or not all(isinstance(name, str) for name in self.keep):
            raise ValueError(f'keep must be names of columns, such as ("AU45",), got {self.keep!r}')
        object.__setattr__(self, "keep", tuple(self.keep))


class _Track:
    """The state of one track: by task family, smoothed scores (K,) and speeds (K,) per second."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.scores: dict[str, Floats] = {}
        self.speeds: dict[str, Floats] = {}


def _alpha(cutoff_hz: Floats | float, step_s: float) -> Floats:
    """The weight of a new value: 1 / (1 + 1 / (2 pi cutoff step)), equations 5 and 6."""
    turned = tau * np.asarray(cutoff_hz, np.float64) * step_s
    return np.asarray(turned / (1 + turned))


def one_euro(
    readings: Iterable[Reading], smoothing: OneEuro, tasks: Sequence[Task]
) -> Iterator[Reading]:
    """Smooth every track's scores; the originals move to `raw`.

    Exclusive probabilities share the highest cutoff among them, so that they still add up to 1. A
    missing score stays missing and changes nothing, nor does a doubtful reading, which keeps its
    scores. Readings without scores or track pass through unchanged.

    Args:
        readings: Of one source, ordered by frame.
        smoothing: How to smooth.
        tasks: The tasks of the scores.

    Yields:
        Each reading at once.

    Raises:
        SourceError: Time runs backwards.
    """
    tracks: Recent[_Track] = OrderedDict()
    interval = FrameInterval()
    for reading in in_time_order(readings):
        interval.add(reading.time_s)
        forget(tracks, reading.time_s - interval.longest_gap_s(smoothing.longest_gap_s))
        track = track_of(reading)
        if not reading.scores or track is None:
            yield reading
            continue
        if reading.status is Status.doubtful:
            yield replace(reading, raw=reading.raw or reading.scores)
            continue
        state = tracks[track][1] if track in tracks else _Track()
        scores = dict(reading.scores)
        for task in tasks:
            if task.family in scores:
                scores[task.family] = _step(state, task, reading, smoothing)
        state.time_s = reading.time_s
        remember(tracks, track, reading.time_s, state)
        yield replace(reading, scores=scores, raw=reading.raw or reading.scores)


def _step(state: _Track, task: Task, reading: Reading, smoothing: OneEuro) -> Floats:
    """Smooth the scores (K,) of a task, and keep them and their speeds."""
    family = task.family
    new = np.asarray(reading.scores[family], np.float64)
    if family not in state.scores:
        state.scores[family] = new
        state.speeds[family] = np.zeros_like(new)
        return new.copy()
    step_s = max(reading.time_s - state.time_s, 1e-6)
    before = state.scores[family]
    missing = np.isnan(new)
    # A score that was missing until now begins at once.
    change = np.where(missing | np.isnan(before), 0.0, new - before)
    weight = _alpha(smoothing.speed_cutoff_hz, step_s)
    speeds = weight * change / step_s + (1 - weight) * state.speeds[family]
    cutoffs = smoothing.cutoff_hz + smoothing.beta * np.abs(speeds)
    if task.kind == "one_of":
        cutoffs = np.full_like(cutoffs, cutoffs.max())
    smoothed = np.where(np.isnan(before), new, before + _alpha(cutoffs, step_s) * change)
    state.scores[family] = np.where(missing, before, smoothed)
    state.speeds[family] = speeds
    result = np.where(missing, np.nan, smoothed)
    for index, name in enumerate(task.columns):
        if name in smoothing.keep:
            result[index] = new[index]
    return result
