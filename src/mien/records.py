"""What travels between the rooms: a frame, a face in it, and a reading of that face."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.tasks import Floats

__all__ = ["STATUSES", "Face", "Frame", "Quality", "Reading", "Status"]


class Status(StrEnum):
    """Why a row looks as it does (`STATUSES`)."""

    ok = "ok"
    doubtful = "doubtful"
    no_face = "no_face"
    unreadable = "unreadable"
    gap = "gap"


STATUSES: Final[dict[Status, str]] = {
    Status.ok: "A face was found and scored.",
    Status.doubtful: (
        "A face was found and scored, but its picture is so poor, covered or turned that the "
        "scores are doubtful."
    ),
    Status.no_face: "The frame was read and no face was found in it; the row has no scores.",
    Status.unreadable: "The frame is in the file but could not be decoded; the row has no scores.",
    Status.gap: (
        "The face was lost for a moment; its box and scores are interpolated between its "
        "neighbours in time. Where one of them is doubtful, the row has no scores."
    ),
}
"""What each status means, in words for people."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture with a time.

    Attributes:
        pixels: RGB uint8 (H, W, 3), turned upright; None where the frame could not be decoded.
        time_s: Presentation time from the container, seconds; 0 for a still picture.
        index: Counts the frames of a source from 0, unreadable ones included.
        source: The path or name it came from.
    """

    pixels: NDArray[np.uint8] | None
    time_s: float
    index: int
    source: str

    def __repr__(self) -> str:
        pixels = None if self.pixels is None else self.pixels.shape
        position = f"time_s={self.time_s:g}, index={self.index}"
        return f"Frame(pixels={pixels}, {position}, source={self.source!r})"


@dataclass(frozen=True, slots=True)
class Face:
    """A box and five points, in pixels of the frame (origin top left, y down).

    Attributes:
        box: x, y of the top left corner, width, height; may reach beyond the frame.
        points: (5, 2) x, y of image-left eye, image-right eye, nose tip, image-left and image-right
            mouth corner.
        confidence: The detector's confidence, 0..1.
        track: The same number for the same face through time; None until tracked.
    """

    box: tuple[float, float, float, float]
    points: Floats
    confidence: float
    track: int | None = None

    def __repr__(self) -> str:
        x, y, w, h = self.box
        box = f"{x:.1f}, {y:.1f}, {w:.1f}, {h:.1f}"
        points = np.shape(self.points)
        confidence = f"{self.confidence:.2f}"
        return f"Face(box=({box}), points={points}, confidence={confidence}, track={self.track})"


@dataclass(frozen=True, slots=True)
class Quality:
    """How far the reading of a face can be trusted, judged by its picture.

    Attributes:
        face_size: Distance between the eyes, pixels of the frame.
        sharpness: 0..1, see `mien.faces.sharpness`.
        light: Mean luma of the face, 0 (black) to 1 (white).
        scores: Task family -> (K,) in the order of that task's names: ``quality``, ``occlusion``
            and ``pose`` (degrees, roll as in the frame), as far as the quality bundle gives them.
    """

    face_size: float
    sharpness: float
    light: float
    scores: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Reading:
    """One face's scores at one instant, or the fact that there are none.

    Attributes:
        source: The path or name the frame came from.
        frame: The frame's index in it, from 0.
        time_s: The frame's presentation time, seconds.
        status: Why the reading looks as it does.
        face: The face; None where the status is ``no_face`` or ``unreadable``.
        scores: Task family -> (K,), in the order of that task's names; empty without a face.
        raw: The scores before smoothing; empty where nothing was smoothed.
        quality: How far the scores can be trusted, never smoothed; None where there are none, on
            ``gap`` rows, and where no quality bundle is used.
        corrected: The scores minus what is normal for the person, as `mien.live` measures it; empty
            where no baseline is asked for.
        landmarks: x and y of 68 points of the face (68, 2), px of the frame, in the order of
            `mien.faces.landmarks`; NaN where something covers them. None where they are not asked
            for, on ``gap`` rows and without a face.
        remaining: How many more readings of the same frame follow, rows of gaps not counted.
    """

    source: str
    frame: int
    time_s: float
    status: Status
    face: Face | None
    scores: Mapping[str, Floats]
    raw: Mapping[str, Floats]
    quality: Quality | None = None
    corrected: Mapping[str, Floats] = field(default_factory=dict)
    remaining: int = 0
    landmarks: Floats | None = None

    def __repr__(self) -> str:
        shown = [f"{family!r}: {_few(values)}" for family, values in self.scores.items()]
        scores = ", ".join(shown)
        smoothed = ", smoothed" if self.raw else ""
        position = f"{self.source!r}, frame={self.frame}, time_s={self.time_s:g}"
        status = f"status={self.status.value}, face={self.face}"
        return f"Reading({position}, {status}, scores={{{scores}}}{smoothed})"


def _few(values: Floats) -> str:
    """Scores to two decimals; of more than eight the first three and how many there are."""
    # Sets of expressions fit on a line; action units and features do not.
    is_short = len(values) <= 8
    shown = [f"{value:.2f}" for value in (values if is_short else values[:3])]
    if not is_short:
        shown.append(f"… {len(values)}")
    return f"[{', '.join(shown)}]"
