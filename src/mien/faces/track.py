"""Find faces and follow each through time: the same number for the same face, a new one for another face.

Between full searches, a known face is only looked for near where it was, which is both faster and steadier than searching
every frame. A full search runs at the first frame, after a cut, whenever a face is lost, another is in its place or none
is in view, and every `SEARCH_S` in any case, so a person who walks in is noticed at the first frame after that time, at
the latest. `mien.faces.lookback` then finds the frames before, where a source is no live one.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.faces.detect import Box, Detector
from mien.faces.likeness import ALIKE, Look, Memory
from mien.faces.orientation import upright_only
from mien.records import Face
from mien.sources.interval import FrameInterval
from mien.tasks import Floats

__all__ = ["Newcomer", "Tracker", "overlap"]

SEARCH_S: Final = 0.5
"""Time between full searches, seconds."""
GAP_S: Final = 0.5
"""A face that comes back within this time keeps its number, seconds; longer where frames are far apart."""
NEAR: Final = 0.2
"""A lost face is expected where a found one shares this much (IoU) with its place."""
ROAM: Final = 1.0
"""It may have gone on from there by so many of its widths a second."""
ELSEWHERE: Final = 0.05
"""How alike (`Memory.likeness`) a face that is found anywhere else must be to be taken for a lost one."""
CERTAIN: Final = 0.17
"""From this likeness on, nobody asks whether a face in its place is another's: real film gives more from frame to frame."""
RATHER: Final = 0.03
"""A face is another's that it resembles more by so much."""
PLACE: Final = 0.03
"""What a place that is wholly shared (IoU 1) counts for, in units of likeness, where faces compete for a number."""
UNMOVED: Final = 0.5
"""After a cut a face goes on only where it shares this much (IoU) with its old place and is as alike as `ELSEWHERE` asks:
then what changed was the light."""
TOUCH: Final = 0.1
"""What shares less with the place where a face should be (IoU) is another face, or none."""
STILL: Final = 0.8
"""A face whose box still shares this much with the place it was looked for (IoU) is looked for there again."""
CUT: Final = 24.0
"""Mean absolute change of sampled pixels (0..255) from one frame to the next, camera motion aside, that counts as a cut."""
CUT_S: Final = 0.25
"""Longest time between two frames, seconds, in which such a change is no motion."""
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
    memory: Memory
    replaced: bool = (
        False  # lost to another face in its place, which is no reason to look for it at every frame
    )

    @classmethod
    def begin(cls, face: Face, look: Look) -> "_Track":
        return cls(face, look.time_s, (0.0, 0.0), face.box, Memory.of(look))

    @property
    def number(self) -> int:
        assert self.face.track is not None
        return self.face.track

    def box_at(self, time_s: float) -> Box:
        """Where the box should be by now; motion is believed for a tenth of a second."""
        ahead = min(time_s - self.seen_s, 0.1)
        x, y, w, h = self.face.box
        return x + self.speed[0] * ahead, y + self.speed[1] * ahead, w, h

    def window_at(self, time_s: float) -> Box:
        """Where to look for it now. A face that keeps still is looked for in the very same pixels, so its points do not tremble."""
        box = self.box_at(time_s)
        return self.window if overlap(box, self.window) >= STILL else box

    def expects(self, face: Face, time_s: float) -> bool:
        """Whether the face is where this one may have gone in the time since it was seen."""
        box = self.box_at(time_s)
        if overlap(box, face.box) >= NEAR:
            return True
        away = np.hypot(
            box[0] + box[2] / 2 - face.box[0] - face.box[2] / 2,
            box[1] + box[3] / 2 - face.box[1] - face.box[3] / 2,
        )
        return bool(away <= ROAM * box[2] * (time_s - self.seen_s))

    def moved(self, face: Face, look: Look) -> "_Track":
        time_s = look.time_s
        passed = max(time_s - self.seen_s, 1e-3)
        new = ((face.box[i] - self.face.box[i]) / passed for i in (0, 1))
        speed = tuple(0.5 * old + 0.5 * now for old, now in zip(self.speed, new, strict=True))
        face = replace(face, track=self.number)
        return _Track(
            face, time_s, (speed[0], speed[1]), self.window_at(time_s), self.memory.with_look(look)
        )

    def jumped(self, face: Face, look: Look) -> "_Track":
        """The track after a change of place that says nothing about speed, such as that of tiles in a gallery."""
        return _Track(
            replace(face, track=self.number),
            look.time_s,
            (0.0, 0.0),
            face.box,
            self.memory.with_look(look),
        )


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A face that a search found and no track knew, with what it looked like then."""

    face: Face
    memory: Memory


class Tracker:
    """Faces of one source, frame by frame. `detector` does the looking; the tracker only remembers.

    searched: whether the last frame was searched as a whole.
    newcomers: the faces that this search found beside known ones: they may have been in view before.
    turned_away: how often a face was left out because it is seen better when the frame is turned.
    """

    def __init__(self, detector: Detector) -> None:
        self.searched = False
        self.newcomers: list[Newcomer] = []
        self._detector = detector
        self.turned_away = 0
        self._interval = FrameInterval()
        self._tracks: list[_Track] = []
        self._next = 0
        self._frame_s = -np.inf
        self._searched_s = -np.inf
        self._thumb: Floats | None = None

    def forget(self) -> None:
        """What comes next is another picture: no face goes on, and no number is given again."""
        self._tracks, self._thumb = [], None
        self._frame_s = self._searched_s = -np.inf
        self._interval = FrameInterval()

    def update(self, image: NDArray[np.uint8], time_s: float, search: bool = False) -> list[Face]:
        """All faces in view in an RGB frame (H, W, 3) at `time_s`, each with its track number, lowest first.

        Faces that are found together are numbered from left to right. Times must not decrease.
        search: search the whole frame, whether it is due or not.
        """
        # Between frames far apart a picture may change as much by motion; then each face speaks for itself.
        cut = self._is_cut(image) and time_s - self._frame_s <= CUT_S
        self._interval.add(time_s)
        gap_s = self._interval.longest_gap_s(GAP_S)
        # In view until the frame before: however long the source paused since, no frame was without this face.
        self._tracks = [
            track
            for track in self._tracks
            if track.seen_s >= self._frame_s or time_s - track.seen_s <= gap_s
        ]
        self._frame_s = time_s
        followed = self._follow(image, time_s, cut)
        if cut:
            self._tracks = [track for track in self._tracks if track.number in followed]
        alone = not self._tracks
        self.searched = search or alone or cut or self._is_due(time_s, followed)
        self.newcomers = []
        if self.searched:
            self._searched_s = time_s
            followed |= self._search(image, time_s, followed)
        self._tracks = [followed.get(track.number, track) for track in self._tracks]
        new = [track for number, track in followed.items() if number >= self._next]
        if not (cut or alone):
            self.newcomers = [Newcomer(track.face, track.memory) for track in new]
        self._tracks += new
        self._next = max([self._next, *(number + 1 for number in followed)])
        return [track.face for _, track in sorted(followed.items())]

    def before(self, image: NDArray[np.uint8], time_s: float, later: Newcomer) -> Newcomer | None:
        """The same face in an earlier frame than `later`, near the place it has there; None where it is not to be seen."""
        (face,) = self._detector.follow(image, [later.face.box])
        if face is None or overlap(face.box, later.face.box) < TOUCH:
            return None
        look = Look(image, face, time_s)
        if later.memory.likeness(look) < ALIKE:
            return None
        return Newcomer(replace(face, track=later.face.track), Memory.of(look))

    def _is_due(self, time_s: float, followed: dict[int, _Track]) -> bool:
        lost = any(track.number not in followed and not track.replaced for track in self._tracks)
        return lost or time_s - self._searched_s >= SEARCH_S

    def _follow(self, image: NDArray[np.uint8], time_s: float, cut: bool) -> dict[int, _Track]:
        sought = [track for track in self._tracks if not track.replaced]
        faces = self._detector.follow(image, [track.window_at(time_s) for track in sought])
        claims: list[tuple[float, _Track, Face, Look]] = []
        least_shared, least_alike = (UNMOVED, ELSEWHERE) if cut else (TOUCH, ALIKE)
        for track, face in zip(sought, faces, strict=True):
            # What does not touch the place where the face should be is a neighbour at the window's edge.
            if face is None or (shared := overlap(track.box_at(time_s), face.box)) < least_shared:
                continue
            look = Look(image, face, time_s)
            alike = track.memory.likeness(look)
            if alike >= least_alike and not self._is_rather_another(track, look, alike):
                claims.append((alike + PLACE * shared, track, face, look))
        kept: dict[int, _Track] = {}
        # Two tracks on one face: the one that it resembles where it was expected keeps it.
        for _, track, face, look in sorted(claims, key=lambda claim: -claim[0]):
            if all(overlap(face.box, other.face.box) < 0.5 for other in kept.values()):
                kept[track.number] = track.moved(face, look)
        return kept

    def _is_rather_another(self, track: _Track, look: Look, alike: float) -> bool:
        """Whether a face that might be this track's resembles another track far more: two have changed places."""
        if alike >= CERTAIN:
            return False
        return any(
            other.memory.likeness(look) >= alike + RATHER
            for other in self._tracks
            if other is not track
        )

    def _search(
        self, image: NDArray[np.uint8], time_s: float, followed: dict[int, _Track]
    ) -> dict[int, _Track]:
        """Faces that no track follows: they take up a lost track that they resemble, or begin a new one."""
        known = [track.face.box for track in followed.values()]
        found = [
            face
            for face in self._detector.find(image)
            if all(overlap(face.box, box) < 0.3 for box in known)
        ]
        unknown = [(face, Look(image, face, time_s)) for face in self._confirmed(image, found)]
        lost = [track for track in self._tracks if track.number not in followed]
        taken = self._recognised(lost, unknown, time_s)
        number = self._next
        new: dict[int, _Track] = {}
        for face, look in sorted(unknown, key=lambda pair: pair[0].box[0] + pair[0].box[2] / 2):
            track = taken.get(id(look))
            if track is None:
                new[number] = _Track.begin(replace(face, track=number), look)
                number += 1
            else:
                here = track.expects(face, time_s)
                new[track.number] = track.moved(face, look) if here else track.jumped(face, look)
        self._mark_replaced(lost, new)
        return new

    @staticmethod
    def _recognised(
        lost: list[_Track], unknown: list[tuple[Face, Look]], time_s: float
    ) -> dict[int, _Track]:
        """Lost tracks by the `id` of the look that each is recognised in; the best pairs first, each face and track once."""
        pairs: list[tuple[float, _Track, Look]] = []
        for track in lost:
            for face, look in unknown:
                alike = track.memory.likeness(look)
                if alike >= (ALIKE if track.expects(face, time_s) else ELSEWHERE):
                    pairs.append(
                        (alike + PLACE * overlap(track.box_at(time_s), face.box), track, look)
                    )
        taken: dict[int, _Track] = {}
        for _, track, look in sorted(pairs, key=lambda pair: -pair[0]):
            if id(look) not in taken and track not in taken.values():
                taken[id(look)] = track
        return taken

    def _mark_replaced(self, lost: list[_Track], new: dict[int, _Track]) -> None:
        """Note which lost tracks have another face in their place now."""
        for track in lost:
            if any(
                number != track.number and overlap(track.face.box, other.face.box) >= NEAR
                for number, other in new.items()
            ):
                at = self._tracks.index(track)
                self._tracks[at] = replace(track, replaced=True)

    def _confirmed(self, image: NDArray[np.uint8], found: list[Face]) -> list[Face]:
        """Those that a second look from near by finds as well, as it finds them: fewer false faces, and one scale for all boxes."""
        kept: list[Face] = []
        for first, face in zip(
            found, self._detector.follow(image, [one.box for one in found]), strict=True
        ):
            if face is None or face.confidence < self._detector.least:
                continue
            if overlap(first.box, face.box) >= 0.3 and all(
                overlap(face.box, one.box) < 0.5 for one in kept
            ):
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
            self._tracks = []  # places in the two frames cannot be compared
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
