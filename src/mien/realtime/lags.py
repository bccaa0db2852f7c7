"""How late readings are, and how many frames were left out."""

from array import array
from dataclasses import dataclass

import numpy as np

__all__ = ["LagCounter", "LiveSummary"]


@dataclass(frozen=True, slots=True)
class LiveSummary:
    """How a live reading went; times in seconds, NaN where nothing was read.

    Attributes:
        frames: Frames that were read.
        dropped: Frames that came while others were read, and were left out.
        seconds: From the first frame to the last.
        interval_s: Mean time between two frames of the source.
        lag_p50_s: Median time from the capture of a frame to its reading.
        lag_p99_s: What 99 of 100 frames stayed below.
        lag_max_s: The longest.
    """

    frames: int
    dropped: int
    seconds: float
    interval_s: float
    lag_p50_s: float
    lag_p99_s: float
    lag_max_s: float

    def __str__(self) -> str:
        if not self.frames:
            return "no frame was read"
        noun = "frame" if self.frames == 1 else "frames"
        text = f"{self.frames} {noun} read, {self.dropped} left out"
        lags = [1000 * self.lag_p50_s, 1000 * self.lag_p99_s]
        text += f"; capture to reading {lags[0]:.0f} ms (p50), {lags[1]:.0f} ms (p99)"
        if self.interval_s > 0:
            shares = [self.lag_p50_s / self.interval_s, self.lag_p99_s / self.interval_s]
            rate = 1 / self.interval_s
            text += f", {shares[0]:.2f} and {shares[1]:.2f} frames at {rate:.1f} a second"
        return text

    def to_json(self) -> dict[str, object]:
        """For the data dictionary.

        Returns:
            A dict that JSON can hold; None where a number is not known.
        """
        facts: dict[str, object] = {"frames": self.frames, "dropped": self.dropped}
        for name in ("seconds", "interval_s", "lag_p50_s", "lag_p99_s", "lag_max_s"):
            value = float(getattr(self, name))
            facts[name] = round(value, 6) if np.isfinite(value) else None
        return facts


class LagCounter:
    """Counts frames and how late each was read; four bytes a frame."""

    def __init__(self) -> None:
        self._lags = array("f")
        self._first = (0, 0.0)
        self._last = (0, 0.0)

    def add(self, index: int, captured_s: float, read_s: float) -> None:
        """Count a frame.

        Args:
            index: Its number in the source.
            captured_s: When it was captured, seconds.
            read_s: When its reading was there, by the same clock.
        """
        if not self._lags:
            self._first = (index, captured_s)
        self._last = (index, captured_s)
        self._lags.append(read_s - captured_s)

    def summary(self, dropped: int) -> LiveSummary:
        """What was counted so far.

        Args:
            dropped: Frames that were left out.

        Returns:
            The numbers.
        """
        nan = float("nan")
        frames = len(self._lags)
        if not frames:
            return LiveSummary(0, dropped, 0.0, nan, nan, nan, nan)
        seconds = self._last[1] - self._first[1]
        # By number, so that frames that were left out count as well.
        steps = self._last[0] - self._first[0]
        p50, p99, longest = np.percentile(self._lags, [50, 99, 100])
        return LiveSummary(
            frames,
            dropped,
            seconds,
            seconds / steps if steps else nan,
            float(p50),
            float(p99),
            float(longest),
        )
