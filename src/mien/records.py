"""What travels between the rooms: a frame, a face in it, and a reading of that face."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.tasks import Floats

__all__ = ["STATUSES", "Face", "Frame", "Reading", "Status"]


class Status(StrEnum):
    """Why a row looks as it does (`STATUSES`); only `ok` and `gap` rows carry scores."""

    ok = "ok"
    no_face = "no_face"
    unreadable = "unreadable"
    gap = "gap"


STATUSES: Final[dict[Status, str]] = {
    Status.ok: "A face was found and scored.",
    Status.no_face: "The frame was read and no face was found in it; the row has no scores.",
    Status.unreadable: "The frame is in the file but could not be decoded; the row has no scores.",
    Status.gap: "The face was lost for a moment; its box and scores are interpolated between its neighbours in time.",
}
"""What each status means, in words for people."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture with a time.

    pixels: RGB uint8 (H, W, 3), turned upright; None where the frame could not be decoded.
    time_s: presentation time from the container, seconds; 0 for a still picture.
    index: counts the frames of a source from 0, unreadable ones included.
    source: the path or name it came from.
    """

    pixels: NDArray[np.uint8] | None
    time_s: float
    index: int
    source: str

    def __repr__(self) -> str:
        pixels = None if self.pixels is None else self.pixels.shape
        return f"Frame(pixels={pixels}, time_s={self.time_s:g}, index={self.index}, source={self.source!r})"


@dataclass(frozen=True, slots=True)
class Face:
    """A box and five points, in pixels of the frame (origin top left, y down).

    box: x, y of the top left corner, width, height; may reach beyond the frame.
    points: (5, 2) x, y of image-left eye, image-right eye, nose tip, image-left and image-right mouth corner.
    confidence: 0..1.
    track: the same number for the same face through time; None until tracked.
    """

    box: tuple[float, float, float, float]
    points: Floats
    confidence: float
    track: int | None = None

    def __repr__(self) -> str:
        box = ", ".join(f"{value:.1f}" for value in self.box)
        return f"Face(box=({box}), points={np.shape(self.points)}, confidence={self.confidence:.2f}, track={self.track})"


@dataclass(frozen=True, slots=True)
class Reading:
    """One face's scores at one instant, or the fact that there are none.

    source, frame, time_s: as in `Frame`.
    face: None where the status is ``no_face`` or ``unreadable``.
    scores: task family -> (K,), in the order of that task's names; empty without a face.
    raw: the scores before smoothing; empty where nothing was smoothed.
    """

    source: str
    frame: int
    time_s: float
    status: Status
    face: Face | None
    scores: Mapping[str, Floats]
    raw: Mapping[str, Floats]

    def __repr__(self) -> str:
        scores = ", ".join(f"{family!r}: {_few(values)}" for family, values in self.scores.items())
        smoothed = ", smoothed" if self.raw else ""
        return (
            f"Reading({self.source!r}, frame={self.frame}, time_s={self.time_s:g}, status={self.status.value}, face={self.face}, "
            f"scores={{{scores}}}{smoothed})"
        )


def _few(values: Floats) -> str:
    """Scores to two decimals; of many the first three and how many there are."""
    shown = [f"{value:.2f}" for value in (values if len(values) <= 8 else values[:3])]
    return f"[{', '.join(shown)}{f', … {len(values)}' if len(values) > 8 else ''}]"
