"""One clock for a recording: time stamps become seconds that never stand still or go back."""

import math
from fractions import Fraction
from typing import Final

from av.video.stream import VideoStream

from mien.sources.base import TICK_S

__all__ = ["Timestamps", "frame_rate", "frame_step_s", "jump_s"]

_JUMP_S: Final = 1.0
_JUMP_FRAMES: Final = 4.5  # coders reorder pictures over at most four


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Frames a second on average, as the file states it; None where it does not.

    FFmpeg's average of a DV stream is its ticks a second; its guess is right.
    """
    average, guess = stream.average_rate, stream.guessed_rate
    return guess if guess and (not average or average > 2 * guess) else average


def frame_step_s(stream: VideoStream) -> float:
    """Seconds from one frame to the next, as the file states them; 1/25 where it does not."""
    return 1 / float(frame_rate(stream) or 25)


def jump_s(stream: VideoStream) -> float:
    """A step back larger than this, in seconds, is a clock that was set back and not a disorder of frames."""
    return min(_JUMP_S, _JUMP_FRAMES * frame_step_s(stream))


class Timestamps:
    """Turns time stamps of one stream into seconds, strictly rising. note: what was peculiar, one line, or None."""

    def __init__(self, stream: VideoStream) -> None:
        self.note: str | None = None
        self._unit_s = float(stream.time_base or 1 / 25)
        self._step_s = frame_step_s(stream)
        self._jump_s = jump_s(stream)
        self._shift_s = 0.0
        self._last_s = -math.inf

    def seconds(self, stamp: int | None) -> float:
        """Container time of the stamp; without one, a frame's length after the last."""
        if stamp is None:
            now = self._last_s + self._step_s
            if math.isinf(now):
                now, self.note = (
                    0.0,
                    f"frames without a time in the file, placed at {1 / self._step_s:g} per second",
                )
        else:
            now = stamp * self._unit_s + self._shift_s
        if self._last_s - now > self._jump_s:
            self._shift_s += self._last_s + self._step_s - now
            self.note = (
                f"the file's clock goes back at {self._last_s:.3f} s; later times go on from there"
            )
            now = self._last_s + self._step_s
        self._last_s = max(now, self._last_s + TICK_S)
        return self._last_s
