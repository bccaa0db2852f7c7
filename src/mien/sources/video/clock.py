"""One clock for a recording: time stamps become seconds that never stand still or go back."""

import math
from fractions import Fraction
from typing import Final

from av.video.stream import VideoStream

from mien.sources.base import TICK_S

__all__ = ["Timestamps", "frame_rate", "frame_step_s", "jump_s"]

_JUMP_S: Final = 1.0
# Encoders reorder pictures over at most four frames; a larger step back is a jump.
_JUMP_FRAMES: Final = 4.5


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Average frame rate, as the file states it.

    Args:
        stream: A video stream.

    Returns:
        Frames per second; None if the file states none.
    """
    average = stream.average_rate
    guess = stream.guessed_rate
    # FFmpeg's average of a DV stream is its ticks per second; its guess is right.
    if guess and (not average or average > 2 * guess):
        return guess
    return average


def frame_step_s(stream: VideoStream) -> float:
    """Time from one frame to the next.

    Args:
        stream: A video stream.

    Returns:
        Seconds, as the file states them; 1/25 where it does not.
    """
    return 1 / float(frame_rate(stream) or 25)


def jump_s(stream: VideoStream) -> float:
    """The step back in time above which a clock was set back, and frames are not just reordered.

    Args:
        stream: A video stream.

    Returns:
        Seconds.
    """
    return min(_JUMP_S, _JUMP_FRAMES * frame_step_s(stream))


class Timestamps:
    """Turns timestamps of one stream into seconds, strictly rising.

    Attributes:
        note: What was peculiar about them, one line, or None.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.note: str | None = None
        self._unit_s = float(stream.time_base or 1 / 25)
        self._step_s = frame_step_s(stream)
        self._jump_s = jump_s(stream)
        self._shift_s = 0.0
        self._last_s = -math.inf

    def seconds(self, stamp: int | None) -> float:
        """Time of the next frame.

        Args:
            stamp: Its timestamp in the stream's units; None if it has none.

        Returns:
            Container time, seconds; without a timestamp one frame after the last.
        """
        next_s = self._last_s + self._step_s
        if stamp is not None:
            time_s = stamp * self._unit_s + self._shift_s
        elif math.isinf(next_s):
            # The first frame has no timestamp, so most likely none has.
            time_s = 0.0
            rate = 1 / self._step_s
            self.note = f"frames without a time in the file, placed at {rate:g} per second"
        else:
            time_s = next_s
        if self._last_s - time_s > self._jump_s:
            self._shift_s += next_s - time_s
            jump = f"the file's clock goes back at {self._last_s:.3f} s"
            self.note = f"{jump}; later times continue from there"
            time_s = next_s
        self._last_s = max(time_s, self._last_s + TICK_S)
        return self._last_s
