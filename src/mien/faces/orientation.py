"""Which way up: faces that are really upside down, and films recorded sideways or upside down.

A network trained on upright faces also finds some that are upside down, with eyes where the mouth
is, and whatever is then read from them is wrong. Seen after a turn of the frame, the same face has
a higher score and its points lie the other way round.
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
"""Faces with this score are not checked: of 68 portraits found upside down none scored above .84,
in sharp film none above .88."""
CONTRADICTION_DEG: Final = 60.0
"""Two views of a face whose directions from mouth to eyes differ by more cannot both be right."""
SAMPLES: Final = 8
"""Frames that are searched in all directions, at most."""
SPACING_S: Final = 0.5
"""Time between two sampled frames, seconds, as long as faces are seen."""
_TURNS: Final = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


def upright_only(detector: Detector, image: Image, faces: Sequence[Face]) -> list[Face]:
    """Leave out faces that are better seen when the frame is turned.

    A face leaning to one side is kept: turned or not, it is found with the same points. Where the
    points differ, each view is straightened by its own points, and the one that scores higher is
    believed.

    Args:
        detector: Looks at the turned frames.
        image: RGB uint8 (H, W, 3).
        faces: Faces found in it.

    Returns:
        The faces that are right as they are, in the same order.
    """
    unsure = [number for number, face in enumerate(faces) if face.confidence < SURE]
    if not unsure:
        return list(faces)
    height, width = image.shape[:2]
    wrong: set[int] = set()
    for degrees in _TURNS:
        turned = _rotate(image, degrees)
        boxes = [_turned_box(faces[number].box, degrees, width, height) for number in unsure]
        for number, view in zip(unsure, detector.follow(turned, boxes), strict=True):
            face = faces[number]
            if view is None or not _contradicts(view, degrees, face):
                continue
            turned_score = _straightened_score(detector, turned, view)
            if turned_score > _straightened_score(detector, image, face):
                wrong.add(number)
    return [face for number, face in enumerate(faces) if number not in wrong]


def _contradicts(view: Face, degrees: int, face: Face) -> bool:
    """Whether a face has a higher score in the frame turned by `degrees`, and other points."""
    if view.confidence <= face.confidence:
        return False
    difference = _lean_deg(view.points) - degrees - _lean_deg(face.points)
    # Wrapped to -180..180 degrees.
    return abs((difference + 180) % 360 - 180) > CONTRADICTION_DEG


def _straightened_score(detector: Detector, image: Image, face: Face) -> float:
    """The face's score when the frame is turned until its points stand upright."""
    x, y, w, h = face.box
    matrix = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), _lean_deg(face.points), 1.0)
    size = image.shape[1::-1]
    upright = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    view = detector.follow(cast(Image, upright), [face.box])[0]
    if view is None:
        return face.confidence
    return max(face.confidence, view.confidence)


def _lean_deg(points: Floats) -> float:
    """Direction from mouth to eyes of points (5, 2), degrees clockwise from straight up.

    >>> _lean_deg(np.array([[0, 0], [2, 0], [1, 1], [0, 2], [2, 2]]))
    0.0
    >>> _lean_deg(np.array([[2, 0], [2, 2], [1, 1], [0, 0], [0, 2]]))
    90.0
    """
    eyes = points[:2].mean(axis=0)
    mouth = points[3:].mean(axis=0)
    right, down = eyes - mouth
    # Adding zero turns -0.0 into 0.0.
    return float(np.degrees(np.arctan2(right, -down))) + 0.0


def _rotate(image: Image, degrees: int) -> Image:
    """The frame turned clockwise by 90, 180 or 270 degrees."""
    return cast(Image, cv2.rotate(image, _TURNS[degrees]))


def _turned_box(box: Box, degrees: int, width: int, height: int) -> Box:
    """Where a box of a frame of that size lies after the frame was turned clockwise.

    >>> _turned_box((0, 0, 10, 20), 90, 100, 50)
    (30, 0, 20, 10)
    """
    x, y, w, h = box
    if degrees == 90:
        return (height - y - h, x, h, w)
    if degrees == 180:
        return (width - x - w, height - y - h, w, h)
    return (y, width - x - w, h, w)


class TurnSampler:
    """Searches some frames from the start of a film in all directions, to see if it is turned.

    Attributes:
        votes: By degrees clockwise, in how many sampled frames a face is seen after that turn
            alone; 0 is upright.
    """

    def __init__(self, detector: Detector) -> None:
        self.votes: Counter[int] = Counter()
        self._detector = detector
        self._samples_left = SAMPLES
        self._next_s = -np.inf
        self._wait_s = SPACING_S

    @property
    def done(self) -> bool:
        """Whether enough frames were sampled."""
        return self._samples_left <= 0

    def add(self, image: Image, time_s: float, upright: bool) -> None:
        """Sample a frame, unless it comes too soon after the last sample.

        Args:
            image: RGB uint8 (H, W, 3).
            time_s: Time of the frame, seconds.
            upright: Whether a face is known to be seen in it as it is; if so it is not searched.
        """
        if self.done or time_s < self._next_s:
            return
        turn = 0 if upright else self._best_turn(image)
        if turn is not None:
            self.votes[turn] += 1
        else:
            # Nobody is there yet: look again later, and ever less often.
            self._wait_s *= 2
        self._next_s = time_s + self._wait_s
        self._samples_left -= 1

    def _best_turn(self, image: Image) -> int | None:
        """The turn after which the face of the highest score is seen; None where there is none."""
        best_score = self._detector.least
        best_turn = None
        for degrees in _TURNS:
            for face in self._upright_faces(_rotate(image, degrees)):
                if face.confidence > best_score:
                    best_score = face.confidence
                    best_turn = degrees
        return best_turn

    def _upright_faces(self, image: Image) -> list[Face]:
        """The surest face of a frame, if a second look confirms it and it is upright."""
        boxes = [face.box for face in self._detector.find(image)[:1]]
        confirmed = [face for face in self._detector.follow(image, boxes) if face is not None]
        return upright_only(self._detector, image, confirmed)

    @property
    def turn(self) -> int:
        """Clockwise turn that most of the frames with a face need; 0 without a majority."""
        if not self.votes:
            return 0
        degrees, count = self.votes.most_common(1)[0]
        return degrees if 2 * count > self.votes.total() else 0
