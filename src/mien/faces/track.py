"""Find faces and follow each through time: the same number for the same face, a new one after a cut.

Between full searches, a known face is only looked for near where it was, which is both faster and steadier than searching
every frame. A full search runs at the first frame, after a cut, whenever a face is lost or none is in view, and every
`SEARCH_S` in any case, so a person who walks in is noticed at the first frame after that time, at the latest.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.faces.detect import Box, Detector
from mien.faces.orientation import upright_only
from mien.records import Face
from mien.tasks import Floats

__all__ = ["Tracker", "overlap"]

SEARCH_S: Final = 0.5
"""Time between full searches, seconds."""
GAP_S: Final = 0.5
"""A face that comes back within this time keeps its number, seconds."""
STILL: Final = 0.8
"""A face whose box still shares this much with the place it was looked for (IoU) is looked for there again."""
CUT: Final = 24.0
"""Mean absolute change of sampled pixels (0..255) from one frame to the next, camera motion aside, that counts as a cut."""
PAN: Final = 4
"""How far the camera may swing from one frame to the next, in 24ths of the frame's shorter side."""


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (x, y, w, h).

    >>> round(overlap((0, 0, 2, 2), (1, 0, 2, 2)), 3)
    0.333
    """
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (a[2] * a[3] + b[2] * b[3] - both)


@dataclass(frozen=True, slots=True)
class _Track:
    face: Face
    seen_s: float
    speed: tuple[float, float]  # of the box's corner, px a second
    window: Box  # where it was looked for last

    def box_at(self, time_s: float) -> Box:
        """Where the box should be by now; motion is believed for a tenth of a second."""
        ahead = min(time_s - self.seen_s, 0.1)
        x, y, w, h = self.face.box
        return x + self.speed[0] * ahead, y + self.speed[1] * ahead, w, h

    def window_at(self, time_s: float) -> Box:
        """Where to look for it now. A face that keeps still is looked for in the very same pixels, so its points do not tremble."""
        box = self.box_at(time_s)
        return self.window if overlap(box, self.window) >= STILL else box

    def moved(self, face: Face, time_s: float) -> "_Track":
        passed = max(time_s - self.seen_s, 1e-3)
        new = ((face.box[i] - self.face.box[i]) / passed for i in (0, 1))
        speed = tuple(0.5 * old + 0.5 * now for old, now in zip(self.speed, new, strict=True))
        return _Track(replace(face, track=self.face.track), time_s, (speed[0], speed[1]), self.window_at(time_s))


class Tracker:
    """Faces of one source, frame by frame. `detector` does the looking; the tracker only remembers.

    interval_s: the time between frames where frames are left out on purpose, 0 otherwise.
    turned_away: how often a face was left out because it is seen better when the frame is turned.
    """

    def __init__(self, detector: Detector, interval_s: float = 0.0) -> None:
        self._detector = detector
        self._gap_s = max(GAP_S, 1.5 * interval_s)
        self.turned_away = 0
        self._tracks: list[_Track] = []
        self._next = 0
        self._searched_s = -np.inf
        self._thumb: Floats | None = None

    def forget(self) -> None:
        """What comes next is another picture: no face goes on, and no number is given again."""
        self._tracks, self._searched_s, self._thumb = [], -np.inf, None

    def update(self, image: NDArray[np.uint8], time_s: float) -> list[Face]:
        """All faces in view in an RGB frame (H, W, 3) at `time_s`, each with its track number, oldest first.

        Times must not decrease.
        """
        if self._is_cut(image):
            self._tracks = []
        self._tracks = [track for track in self._tracks if time_s - track.seen_s <= self._gap_s]
        followed = self._follow(image, time_s)
        lost = len(followed) < len(self._tracks)
        if lost or not self._tracks or time_s - self._searched_s >= SEARCH_S:
            self._searched_s = time_s
            followed |= self._search(image, time_s, followed)
        self._tracks = [followed.get(_number(track), track) for track in self._tracks]
        self._tracks += [track for number, track in followed.items() if number >= self._next]
        self._next = max([self._next, *(number + 1 for number in followed)])
        return [track.face for _, track in sorted(followed.items())]

    def _follow(self, image: NDArray[np.uint8], time_s: float) -> dict[int, _Track]:
        boxes = [track.box_at(time_s) for track in self._tracks]
        faces = self._detector.follow(image, [track.window_at(time_s) for track in self._tracks])
        # What does not touch the place where the face should be is a neighbour at the window's edge.
        seen = [(t, box, face) for t, box, face in zip(self._tracks, boxes, faces, strict=True) if face and overlap(box, face.box) >= 0.1]
        kept: dict[int, _Track] = {}
        # Two tracks on one face: the one that expected it there keeps it, the older one if both did.
        for track, _, face in sorted(seen, key=lambda one: -overlap(one[1], one[2].box)):
            if all(overlap(face.box, other.face.box) < 0.5 for other in kept.values()):
                kept[_number(track)] = track.moved(face, time_s)
        return kept

    def _search(self, image: NDArray[np.uint8], time_s: float, followed: dict[int, _Track]) -> dict[int, _Track]:
        """Faces that no track follows: they take up a lost track near them, or begin a new one."""
        known = [track.face.box for track in followed.values()]
        found = [face for face in self._detector.find(image) if all(overlap(face.box, box) < 0.3 for box in known)]
        new: dict[int, _Track] = {}
        lost = [track for track in self._tracks if _number(track) not in followed]
        number = self._next
        for face in self._confirmed(image, found):
            near = max(lost, key=lambda track: overlap(face.box, track.box_at(time_s)), default=None)
            if near is not None and overlap(face.box, near.box_at(time_s)) >= 0.2:
                lost = [track for track in lost if track is not near]
                new[_number(near)] = near.moved(face, time_s)
            else:
                new[number] = _Track(replace(face, track=number), time_s, (0.0, 0.0), face.box)
                number += 1
        return new

    def _confirmed(self, image: NDArray[np.uint8], found: list[Face]) -> list[Face]:
        """Those that a second look from near by finds as well, as it finds them: fewer false faces, and one scale for all boxes."""
        kept: list[Face] = []
        for first, face in zip(found, self._detector.follow(image, [one.box for one in found]), strict=True):
            if face is None or face.confidence < self._detector.least:
                continue
            if overlap(first.box, face.box) >= 0.3 and all(overlap(face.box, one.box) < 0.5 for one in kept):
                kept.append(face)
        upright = upright_only(self._detector, image, kept)
        self.turned_away += len(kept) - len(upright)
        return upright

    def _is_cut(self, image: NDArray[np.uint8]) -> bool:
        step = max(min(image.shape[:2]) // 24, 1)
        thumb = image[step // 2 :: step, step // 2 :: step].astype(np.float32)
        before, self._thumb = self._thumb, thumb
        if before is None:
            return False
        if before.shape != thumb.shape:
            return True
        return float(np.abs(thumb - before).mean()) > CUT and _least_change(before, thumb) > CUT


def _least_change(before: Floats, after: Floats) -> float:
    """Mean absolute change of two thumbnails (H, W, 3) under the best of all shifts by up to `PAN` cells: a pan is no cut."""
    rows, cols = before.shape[:2]
    reach = min(PAN, rows - 1, cols - 1)
    steps = range(-reach, reach + 1)

    def change(down: int, right: int) -> float:
        old = before[max(down, 0) : rows + min(down, 0), max(right, 0) : cols + min(right, 0)]
        new = after[max(-down, 0) : rows + min(-down, 0), max(-right, 0) : cols + min(-right, 0)]
        return float(np.abs(new - old).mean())

    return min(change(down, right) for down in steps for right in steps)


def _number(track: _Track) -> int:
    assert track.face.track is not None
    return track.face.track
