"""Events that a recording marks itself: beeps in its sound, flashes in its picture."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mien.errors import StudyError
from mien.sources import open_source
from mien.sources.sound import SoundPiece, read_sound
from mien.tasks import Floats

__all__ = ["HZ", "Count", "Signal", "find_beeps", "find_flashes", "read_signals"]

Signal = Literal["beep", "flash"]
Count = int | Literal["any"]
HZ: Final = 1000.0
"""Frequency of a beep if none is given, Hz."""

# Sound is looked at through windows of this length, so often, s.
_WINDOW_S: Final = 0.02
_HOP_S: Final = 0.005
# A beep lasts at least so long, s.
_LEAST_BEEP_S: Final = 0.04
# Share of a window's energy that is a tone of the frequency: 1 of a pure tone, about 0 of noise.
_LEAST_SHARE: Final = 0.5
# Its amplitude: in full scales, and in multiples of the median of the recording.
_LEAST_AMPLITUDE: Final = 0.001
_ABOVE_BACKGROUND: Final = 3.0
# Signals of which one begins so soon after another ended are one: an echo, or a flicker, s.
_JOIN_S: Final = 0.25

# Mean luma of a picture rises by so much, 0..255, and by so many deviations of its usual changes.
_LEAST_RISE: Final = 8.0
_DEVIATIONS: Final = 10.0
# A flash ends so soon, s: what stays bright is a cut, or a lamp.
_LONGEST_FLASH_S: Final = 1.0
# Of every so many pixels along each side one is looked at.
_STEP: Final = 4
_LUMA: Final = np.array([0.299, 0.587, 0.114])


class _Levels(NamedTuple):
    """What windows of the sound hold of a tone.

    Attributes:
        time_s: The middle of each window by the container's clock (N,), s.
        amplitude: Amplitude of the tone (N,), in full scales.
        share: Share of the energy that is the tone (N,), 0..1.
    """

    time_s: Floats
    amplitude: Floats
    share: Floats


def find_beeps(path: Path, hz: float = HZ) -> Floats:
    """Find beeps in the sound of a recording.

    A beep is a tone of at least 40 ms that holds most of the energy, and is three times as loud as
    the recording usually is at its frequency. Its onset is where half of its amplitude is reached,
    with an error of a few milliseconds.

    Args:
        path: The recording.
        hz: Frequency of the tone, Hz.

    Returns:
        Onset and end of each (N, 2), s by the container's clock.

    Raises:
        SourceError: It has no sound, or cannot be read.
    """
    parts = list(_levels(read_sound(path), hz))
    if not parts:
        return np.empty((0, 2))
    levels = _Levels(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    loud = max(_LEAST_AMPLITUDE, _ABOVE_BACKGROUND * float(np.median(levels.amplitude)))
    is_tone = (levels.share >= _LEAST_SHARE) & (levels.amplitude >= loud)
    beeps = []
    for start, stop in _runs(is_tone):
        if (stop - start) * _HOP_S >= _LEAST_BEEP_S:
            beeps.append(_edges(levels, start, stop))
    return _joined(np.array(beeps).reshape(-1, 2))


def _levels(sound: Iterator[SoundPiece], hz: float) -> Iterator[_Levels]:
    """The levels of a tone in stretches of sound without a gap."""
    waiting = np.empty(0, np.float32)
    start_s = 0.0
    for piece in sound:
        # Whole samples, so that windows of all stretches are one length.
        length, hop = round(_WINDOW_S * piece.rate), round(_HOP_S * piece.rate)
        if abs(piece.time_s - start_s - len(waiting) / piece.rate) > _HOP_S:
            waiting, start_s = waiting[:0], piece.time_s
        waiting = np.concatenate([waiting, piece.samples])
        if len(waiting) < length:
            continue
        windows = sliding_window_view(waiting, length)[::hop]
        times = start_s + (np.arange(len(windows)) * hop + length / 2) / piece.rate
        yield _tone(times, windows, hz / piece.rate)
        used = len(windows) * hop
        waiting, start_s = waiting[used:], start_s + used / piece.rate


def _tone(times: Floats, windows: NDArray[np.float32], cycles: float) -> _Levels:
    """The levels of a tone of so many cycles per sample in windows (N, length)."""
    length = windows.shape[1]
    hann = np.hanning(length)
    wave = hann * np.exp(-2j * np.pi * cycles * np.arange(length))
    spectrum = np.abs(windows @ wave)
    energy = np.square(windows) @ np.square(hann)
    # Of a tone of amplitude 1 the spectrum is half the window's sum, and its energy half of that of
    # the window: so both become 1.
    amplitude = 2 * spectrum / hann.sum()
    tone_energy = 0.5 * np.square(amplitude) * np.square(hann).sum()
    share = np.divide(tone_energy, energy, out=np.zeros_like(energy), where=energy > 0)
    return _Levels(times, amplitude, share)


def _runs(is_on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index, that excluded, of each stretch that is on."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_on, [False]]).astype(int)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _edges(levels: _Levels, start: int, stop: int) -> tuple[float, float]:
    """Where half of a beep's amplitude is reached, and left again, s."""
    half = float(np.median(levels.amplitude[start:stop])) / 2
    # At the edge of a tone a window holds half of it; the share may pass its limit a little later.
    reach = round(_WINDOW_S / _HOP_S)
    first = start
    while first > max(start - reach, 0) and levels.amplitude[first - 1] >= half:
        first -= 1
    while levels.amplitude[first] < half:
        first += 1
    last = stop - 1
    while levels.amplitude[last] < half:
        last -= 1
    return float(levels.time_s[first]), float(levels.time_s[last])


def find_flashes(path: Path) -> Floats:
    """Find flashes in the picture of a recording.

    The mean luma rises from one frame to the next or the one after, by at least 8 of 255 and ten
    times its usual change, and falls by half of that within a second. The onset is the time of the
    first brighter frame.

    Args:
        path: The recording.

    Returns:
        Onset and end of each (N, 2), s by the container's clock.

    Raises:
        SourceError: It cannot be read.
    """
    times, lumas = [], []
    with closing(open_source(path).frames()) as frames:
        for frame in frames:
            if frame.pixels is not None:
                times.append(frame.time_s)
                lumas.append(float(frame.pixels[::_STEP, ::_STEP].mean(axis=(0, 1)) @ _LUMA))
    return _joined(_flashes(np.array(times), np.array(lumas)))


def _flashes(times: Floats, lumas: Floats) -> Floats:
    changes = np.diff(lumas)
    if not changes.size:
        return np.empty((0, 2))
    # The median absolute deviation, as that of a normal distribution.
    usual = 1.4826 * float(np.median(np.abs(changes - np.median(changes))))
    rise = max(_LEAST_RISE, _DEVIATIONS * usual)
    flashes = []
    frame = 1
    while frame < len(lumas):
        before = lumas[frame - 1]
        # A shutter may divide the rise between two frames.
        peak = float(lumas[frame : frame + 2].max())
        end = _end_of_flash(times, lumas, frame, (before + peak) / 2)
        if peak - before < rise or changes[frame - 1] < rise / 4 or end is None:
            frame += 1
            continue
        flashes.append((times[frame], times[end]))
        frame = end + 1
    return np.array(flashes, np.float64).reshape(-1, 2)


def _end_of_flash(times: Floats, lumas: Floats, start: int, below: float) -> int | None:
    """The first frame after a flash that is darker again; None if it stays bright."""
    for frame in range(start + 1, len(lumas)):
        if times[frame] - times[start] > _LONGEST_FLASH_S:
            return None
        if lumas[frame] <= below:
            return frame
    return None


def _joined(spans: Floats) -> Floats:
    """Spans (N, 2) in order, of which those that nearly touch are one."""
    joined: list[list[float]] = []
    for start, end in spans.tolist():
        if joined and start - joined[-1][1] < _JOIN_S:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return np.array(joined, np.float64).reshape(-1, 2)


def read_signals(path: Path, signal: Signal, hz: float = HZ, count: Count = 1) -> pd.DataFrame:
    """Read the events that a recording marks itself.

    Args:
        path: The film.
        signal: What marks them.
        hz: Frequency of beeps, Hz.
        count: How many there must be; ``any`` for one at least.

    Returns:
        The events in order: ``onset`` and ``duration``, s from the first frame of the film, and
        ``trial_type``, the signal's name.

    Raises:
        StudyError: There is none, or another number of them than expected.
        SourceError: The film cannot be read, or has no sound.
    """
    spans = find_beeps(path, hz) if signal == "beep" else find_flashes(path)
    with closing(open_source(path).frames()) as frames:
        start_s = next(frames).time_s
    onsets = spans[:, 0] - start_s
    kind = f"beep of {hz:g} Hz" if signal == "beep" else "flash"
    if not len(spans):
        raise StudyError(
            f"{path}: no {kind} is found; check the recording, or write its events into a file"
        )
    if count not in ("any", len(spans)):
        times = ", ".join(f"{onset:.3f}" for onset in onsets)
        raise StudyError(
            f"{path}: {count} {kind} expected (events.count), found {len(spans)}, at {times} s; "
            "correct the count, or write the events into a file"
        )
    durations = spans[:, 1] - spans[:, 0]
    return pd.DataFrame({"onset": onsets, "duration": durations, "trial_type": signal})
