"""Which way up: faces that are seen better turned, and films recorded sideways or upside down.

A network trained on upright faces also finds some that are upside down, with eyes where the mouth
is, and whatever is then read from them is wrong. Seen after a turn of the frame, the same face has
a higher score and its points lie the other way round.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.faces.detect import Detector, overlap
from mien.faces.turns import lean_deg, quarter_turn
from mien.records import Face

__all__ = ["TurnSampler", "best_views"]

Image = NDArray[np.uint8]

SURE: Final = 0.9
"""Faces with this score are not checked: of 104 portraits that were found upside down none scored
above .87."""
VIEWS: Final = range(45, 360, 45)
"""Turns after which an unsure face is looked at once more, degrees clockwise."""
CONTRADICTION_DEG: Final = 10.0
"""Two views of a face whose directions from mouth to eyes differ by more cannot both be right."""
BETTER_BY: Final = 0.05
"""A turned view is believed if its score, once it is straightened, is higher by more: half a face
may look as much like a face from another side. Of 133 portraits found upside down, 130 are righted;
of 564 that are upright, most of them covered in part, two are turned."""
SAME_FACE_IOU: Final = 0.3
"""What a turned window shows is the same face if it overlaps this much with it."""
SAMPLES: Final = 8
"""Frames whose faces are looked at, at most."""
SPACING_S: Final = 0.5
"""Time between two sampled frames, seconds, as long as faces are seen."""


def best_views(detector: Detector, image: Image, faces: Sequence[Face]) -> list[Face]:
    """See each face the right way up.

    Of a face that scores high nothing is asked, and what is found with the same points after a turn
    stays as it is. Where the points differ, each view is straightened by its own points, and the
    one that scores higher is believed.

    Args:
        detector: Looks at the faces once more, turned.
        image: RGB uint8 (H, W, 3).
        faces: Faces found in it.

    Returns:
        The faces in the same order, each as it was given or as it is seen after a turn.
    """
    best = list(faces)
    unsure = [number for number, face in enumerate(faces) if face.confidence < SURE]
    boxes = [faces[number].box for number in unsure]
    for extra in VIEWS:
        turns = [(quarter_turn(faces[number].points) + extra) % 360 for number in unsure]
        for number, view in zip(unsure, detector.follow(image, boxes, turns), strict=True):
            if view is None or not _contradicts(view, faces[number]):
                continue
            turned = _straightened(detector, image, view)
            straight = _straightened(detector, image, best[number])
            margin = BETTER_BY if best[number] is faces[number] else 0.0
            if turned.confidence > straight.confidence + margin:
                best[number] = turned
    return best


def _contradicts(view: Face, face: Face) -> bool:
    """Whether a view of a face has a higher score and other points."""
    if view.confidence <= face.confidence or overlap(view.box, face.box) < SAME_FACE_IOU:
        return False
    difference = lean_deg(view.points) - lean_deg(face.points)
    # Wrapped to -180..180 degrees.
    return abs((difference + 180) % 360 - 180) > CONTRADICTION_DEG


def _straightened(detector: Detector, image: Image, face: Face) -> Face:
    """The face as it is seen when the frame is turned until its points stand upright."""
    turn = -lean_deg(face.points) % 360
    view = detector.follow(image, [face.box], [turn])[0]
    return face if view is None or view.confidence < face.confidence else view


class TurnSampler:
    """Looks at the faces of some frames from the start of a film, to see if it is turned.

    Attributes:
        votes: By degrees clockwise, in how many sampled frames the surest face stands upright after
            that turn; 0 is upright as it is.
    """

    def __init__(self) -> None:
        self.votes: Counter[int] = Counter()
        self._samples_left = SAMPLES
        self._next_s = -np.inf
        self._wait_s = SPACING_S

    @property
    def done(self) -> bool:
        """Whether enough frames were sampled."""
        return self._samples_left <= 0

    def add(self, faces: Sequence[Face], time_s: float) -> None:
        """Sample a frame, unless it comes too soon after the last sample.

        Args:
            faces: The faces found in it.
            time_s: Time of the frame, seconds.
        """
        if self.done or time_s < self._next_s:
            return
        if faces:
            surest = max(faces, key=lambda face: face.confidence)
            self.votes[quarter_turn(surest.points)] += 1
        else:
            # Nobody is there yet: look again later, and ever less often.
            self._wait_s *= 2
        self._next_s = time_s + self._wait_s
        self._samples_left -= 1

    @property
    def turn(self) -> int:
        """Clockwise turn that most of the frames with a face need; 0 without a majority."""
        if not self.votes:
            return 0
        degrees, count = self.votes.most_common(1)[0]
        return degrees if 2 * count > self.votes.total() else 0
