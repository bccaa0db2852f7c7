"""Which way up: faces that are really turned, and films that were recorded sideways or upside down.

A network that has learned upright faces also finds some that are upside down, with eyes where the mouth is. What it
then reads from them is wrong. The same face seen after a turn is surer, and its points lie the other way round.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.detect import Box, Detector
from mien.records import Face
from mien.tasks import Floats

__all__ = ["TurnSampler", "upright_only"]

Image = NDArray[np.uint8]

SURE: Final = 0.9
"""A face this sure is not looked at again: of 68 portraits that were found upside down none had more than .84, in sharp film .88."""
CONTRADICTS: Final = 60.0
"""Two views of a face whose directions from mouth to eyes differ by more degrees than this cannot both be right."""
SAMPLES: Final = 8
"""Frames that are searched in all directions, at most."""
SPACING_S: Final = 0.5
_TURNS: Final = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


def upright_only(detector: Detector, image: Image, faces: Sequence[Face]) -> list[Face]:
    """Those of the faces found in an RGB frame (H, W, 3) that are not rather seen when the frame is turned.

    A face leaning to one side is kept: turned or not, it is found with the same points. Where it is not, each view is set
    straight by its own points, and the surer one is believed.
    """
    unsure = [number for number, face in enumerate(faces) if face.confidence < SURE]
    if not unsure:
        return list(faces)
    height, width = image.shape[:2]
    false: set[int] = set()
    for degrees, how in _TURNS.items():
        boxes = [_turned_box(faces[number].box, degrees, width, height) for number in unsure]
        turned = cast(Image, cv2.rotate(image, how))
        for number, other in zip(unsure, detector.follow(turned, boxes), strict=True):
            face = faces[number]
            if other is None or other.confidence <= face.confidence:
                continue
            apart = abs((_lean(other.points) - degrees - _lean(face.points) + 180) % 360 - 180)
            if apart > CONTRADICTS and _straightened(detector, turned, other) > _straightened(
                detector, image, face
            ):
                false.add(number)
    return [face for number, face in enumerate(faces) if number not in false]


def _straightened(detector: Detector, image: Image, face: Face) -> float:
    """How sure the face is when the frame is turned until its points stand upright."""
    x, y, w, h = face.box
    matrix = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), _lean(face.points), 1.0)
    upright = cast(
        Image, cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    )
    again = detector.follow(upright, [face.box])[0]
    return max(face.confidence, again.confidence if again is not None else 0.0)


def _lean(points: Floats) -> float:
    """Degrees clockwise from straight up of the direction from mouth to eyes.

    >>> _lean(np.array([[0, 0], [2, 0], [1, 1], [0, 2], [2, 2]])), _lean(np.array([[2, 0], [2, 2], [1, 1], [0, 0], [0, 2]]))
    (0.0, 90.0)
    """
    right, down = points[:2].mean(axis=0) - points[3:].mean(axis=0)
    return float(np.degrees(np.arctan2(right, -down))) + 0.0


def _turned_box(box: Box, degrees: int, width: int, height: int) -> Box:
    """A box of a frame of that size, where it lies after the frame was turned clockwise.

    >>> _turned_box((0, 0, 10, 20), 90, 100, 50)
    (30, 0, 20, 10)
    """
    x, y, w, h = box
    return {
        90: (height - y - h, x, h, w),
        180: (width - x - w, height - y - h, w, h),
        270: (y, width - x - w, h, w),
    }[degrees]


class TurnSampler:
    """Looks at some frames from the start of a film, and says by how much it must be turned.

    votes: by degrees clockwise, in how many of the sampled frames a face is seen after that turn alone; 0 is upright.
    """

    def __init__(self, detector: Detector) -> None:
        self.votes: Counter[int] = Counter()
        self._detector = detector
        self._left = SAMPLES
        self._next_s = -np.inf
        self._wait_s = SPACING_S

    @property
    def done(self) -> bool:
        """Whether enough was seen."""
        return self._left <= 0

    def add(self, image: Image, time_s: float, upright: bool) -> None:
        """Take a frame, RGB uint8 (H, W, 3), into account, unless it comes too soon after the last.

        upright: whether a face is known to be in it as it is; else it is searched in all directions.
        """
        if self.done or time_s < self._next_s:
            return
        turn = 0 if upright else self._search(image)
        if turn is not None:
            self.votes[turn] += 1
        else:
            self._wait_s *= 2  # nobody is there yet: look again later, and ever less often
        self._next_s = time_s + self._wait_s
        self._left -= 1

    def _search(self, image: Image) -> int | None:
        """The turn after which the surest face is seen; None where there is none in any direction."""
        best, turn = 0.0, None
        for degrees, how in _TURNS.items():
            turned = cast(Image, cv2.rotate(image, how))
            faces = self._detector.find(turned)[:1]
            again = [
                face
                for face in self._detector.follow(turned, [face.box for face in faces])
                if face is not None
            ]
            for face in upright_only(self._detector, turned, again):
                if face.confidence > max(best, self._detector.least):
                    best, turn = face.confidence, degrees
        return turn

    @property
    def turn(self) -> int:
        """Degrees by which to turn the film clockwise: what most of the sampled frames with a face need, else 0."""
        if not self.votes:
            return 0
        degrees, count = self.votes.most_common(1)[0]
        return degrees if 2 * count > self.votes.total() else 0
