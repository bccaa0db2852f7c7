"""Track faces through time: the same number for the same face, a new one for another face.

Between full searches a known face is only looked for near where it was, which is both faster and
steadier than searching every frame. A full search runs at the first frame, after a cut, whenever a
face is lost, another is in its place or none is in view, and every `SEARCH_S` in any case, so a
person who walks in is noticed at the first frame after that time, at the latest. Every
`SEARCH_S` the search is a thorough one: large frames are searched closer, and where no face is
found, the frame is turned. `mien.faces.lookback` then finds the frames before, where the source is
not live.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.faces.appearance import MATCH, Appearance, Gallery
from mien.faces.detect import Detector, is_apart, overlap
from mien.faces.orientation import best_views
from mien.faces.turns import TURNS, quarter_turn, righting_turn
from mien.faces.window import Box
from mien.records import Face
from mien.sources.interval import FrameInterval
from mien.tasks import Floats

__all__ = ["NewFace", "Tracker"]

Image = NDArray[np.uint8]

SEARCH_S: Final = 0.5
"""Time between full searches, and between thorough ones, seconds."""
GAP_S: Final = 0.5
"""A face that comes back within this time keeps its number, seconds; longer where frames are far
apart."""

# Where a face is looked for, and what counts as the same place (IoU of two boxes).
MIN_IOU: Final = 0.1
"""What overlaps less with the place where a face should be is another face, or none."""
AFTER_CUT_IOU: Final = 0.5
"""After a cut a face keeps its track only where it overlaps this much with its old box and is as
alike as `MATCH_ELSEWHERE` asks: then what changed was the light."""
EXPECTED_IOU: Final = 0.2
"""A lost face is expected where a new one overlaps this much with its place."""
ROAM_WIDTHS_PER_S: Final = 1.0
"""It may have moved on from there by so many of its widths a second."""
STILL_IOU: Final = 0.8
"""A face whose box still overlaps this much with the window of the last search is looked for in
that same window."""
DUPLICATE_IOU: Final = 0.5
"""Boxes that overlap this much are one face."""
KNOWN_IOU: Final = 0.3
"""What a search finds is a face already followed if it overlaps this much with it."""
CONFIRMED_IOU: Final = 0.3
"""A second look must find a face that overlaps this much with the first."""
TRUSTED_MOTION_S: Final = 0.1
"""A face's motion is extrapolated for this time, seconds."""

# How alike two faces must be (`Gallery.likeness`).
MATCH_ELSEWHERE: Final = 0.05
"""A face found where it is not expected must be this alike to be taken for a lost one."""
CERTAIN_MATCH: Final = 0.17
"""From this likeness on, a face in its place is not compared with other tracks: consecutive frames
of real film score higher."""
BETTER_MATCH_BY: Final = 0.03
"""A face belongs to another track that it resembles more by so much."""
IOU_WEIGHT: Final = 0.03
"""What full overlap (IoU 1) counts for, in units of likeness, where faces compete for a number."""

CUT_CHANGE: Final = 24.0
"""Mean absolute change of sampled pixels (0..255) from one frame to the next, camera motion aside,
that counts as a cut."""
CUT_MAX_S: Final = 0.25
"""Longest time between two frames, seconds, in which such a change cannot be motion."""
THUMBNAIL_SIDE: Final = 24
"""Pixels sampled along the frame's shorter side."""
PAN_CELLS: Final = 4
"""How far the camera may pan from one frame to the next, px of the thumbnail."""


@dataclass(frozen=True, slots=True)
class _Track:
    """A face that is followed, or was lost a moment ago."""

    face: Face
    seen_s: float
    velocity: tuple[float, float]  # of the box's corner, px per second
    window: Box  # where it was looked for last
    gallery: Gallery
    # Lost to another face in its place, which is no reason to search every frame for it.
    replaced: bool = False

    @classmethod
    def begin(cls, face: Face, appearance: Appearance) -> "_Track":
        gallery = Gallery.of(appearance)
        return cls(face, appearance.time_s, (0.0, 0.0), face.box, gallery)

    @property
    def number(self) -> int:
        assert self.face.track is not None
        return self.face.track

    def box_at(self, time_s: float) -> Box:
        """Where the box should be by now."""
        elapsed_s = min(time_s - self.seen_s, TRUSTED_MOTION_S)
        x, y, w, h = self.face.box
        return x + self.velocity[0] * elapsed_s, y + self.velocity[1] * elapsed_s, w, h

    def window_at(self, time_s: float) -> Box:
        """Where to look for the face now."""
        box = self.box_at(time_s)
        # The very same pixels for a face that keeps still, so that its points do not tremble.
        if overlap(box, self.window) >= STILL_IOU:
            return self.window
        return box

    def expects(self, face: Face, time_s: float) -> bool:
        """Whether a face is where this one may have gone since it was seen."""
        box = self.box_at(time_s)
        if overlap(box, face.box) >= EXPECTED_IOU:
            return True
        right = box[0] + box[2] / 2 - face.box[0] - face.box[2] / 2
        down = box[1] + box[3] / 2 - face.box[1] - face.box[3] / 2
        reach = ROAM_WIDTHS_PER_S * box[2] * (time_s - self.seen_s)
        return bool(np.hypot(right, down) <= reach)

    def moved(self, face: Face, appearance: Appearance) -> "_Track":
        """The track after its face was seen where it may have moved to."""
        time_s = appearance.time_s
        elapsed_s = max(time_s - self.seen_s, 1e-3)
        velocity_x = self._new_velocity(face, elapsed_s, 0)
        velocity_y = self._new_velocity(face, elapsed_s, 1)
        window = self.window_at(time_s)
        gallery = self.gallery.add(appearance)
        face = replace(face, track=self.number)
        return _Track(face, time_s, (velocity_x, velocity_y), window, gallery)

    def _new_velocity(self, face: Face, elapsed_s: float, axis: int) -> float:
        """Mean of the old and the latest velocity, px per second: single boxes are noisy."""
        latest = (face.box[axis] - self.face.box[axis]) / elapsed_s
        return 0.5 * self.velocity[axis] + 0.5 * latest

    def jumped(self, face: Face, appearance: Appearance) -> "_Track":
        """The track after a change of place without motion, such as that of tiles in a gallery."""
        face = replace(face, track=self.number)
        gallery = self.gallery.add(appearance)
        return _Track(face, appearance.time_s, (0.0, 0.0), face.box, gallery)

    def resumed(self, face: Face, appearance: Appearance) -> "_Track":
        """The track after a search found its lost face again."""
        if self.expects(face, appearance.time_s):
            return self.moved(face, appearance)
        return self.jumped(face, appearance)


class _Match(NamedTuple):
    """A face that may be a track's; a higher rank is a better fit."""

    rank: float
    track: _Track
    face: Face
    appearance: Appearance


def _best_first(matches: list[_Match]) -> list[_Match]:
    """The matching cascade (Wojke, Bewley & Paulus 2017): tracks seen last choose first."""
    # A face that was hidden a moment ago must not take the place of the one that hides it.
    return sorted(matches, key=lambda match: (match.track.seen_s, match.rank), reverse=True)


@dataclass(frozen=True, slots=True)
class NewFace:
    """A face that a search found and no track knew.

    Attributes:
        face: The face, with its new number.
        gallery: What it looked like then.
    """

    face: Face
    gallery: Gallery


class Tracker:
    """Follows the faces of one source, frame by frame.

    Attributes:
        searched: Whether the last frame was searched as a whole; thoroughly, where no face is in
            view.
        new_faces: Faces that this search found beside known ones: they may have been in view
            before.

    Args:
        detector: Finds faces.
        min_face: Width of the smallest faces that thorough searches should find, px of the frame;
            None follows the frame.
    """

    def __init__(self, detector: Detector, min_face: float | None = None) -> None:
        self.searched = False
        self.new_faces: list[NewFace] = []
        self._detector = detector
        self._min_face = min_face
        self._interval = FrameInterval()
        self._tracks: list[_Track] = []
        self._next_number = 0
        self._frame_s = -np.inf
        self._searched_s = -np.inf
        self._thorough_s = -np.inf
        # Whether the last search saw what those of the frames before could not see.
        self._saw_more = False
        self._thumbnail: Floats | None = None

    def forget(self) -> None:
        """Forget all faces, since what comes next is another picture. Numbers are never reused."""
        self._tracks = []
        self._thumbnail = None
        self._frame_s = -np.inf
        self._searched_s = -np.inf
        self._thorough_s = -np.inf
        self._interval = FrameInterval()

    def update(self, image: Image, time_s: float, search: bool = False) -> list[Face]:
        """Find and follow the faces of the next frame.

        Args:
            image: RGB uint8 (H, W, 3).
            time_s: Time of the frame, seconds; must not decrease.
            search: Search the whole frame even if no search is due.

        Returns:
            All faces in view, each with its track number, lowest first. Faces found together are
            numbered from left to right.
        """
        # Frames far apart may differ as much by motion; then each face is judged by itself.
        cut = self._is_cut(image) and time_s - self._frame_s <= CUT_MAX_S
        self._interval.add(time_s)
        self._end_tracks(time_s)
        self._frame_s = time_s
        in_view = self._follow(image, time_s, cut)
        # After a cut a face that is not recognised at once is not waited for.
        if cut:
            self._tracks = [track for track in self._tracks if track.number in in_view]
        none_known = not self._tracks
        is_searched = search or none_known or cut or self._is_search_due(time_s, in_view)
        thorough = cut or time_s - self._thorough_s >= SEARCH_S
        if is_searched:
            # The next search is due `SEARCH_S` from here.
            self._searched_s = time_s
            if thorough:
                self._thorough_s = time_s
            in_view |= self._search(image, time_s, in_view, thorough)
        self.searched = is_searched and (thorough or search or bool(in_view))
        new = self._store(in_view)
        # Neither after a cut nor where the frames before were searched as well could they be in
        # any of those.
        self.new_faces = []
        if not cut and (self._saw_more or not none_known):
            self.new_faces = [NewFace(track.face, track.gallery) for track in new]
        return [in_view[number].face for number in sorted(in_view)]

    def find_earlier(self, image: Image, time_s: float, later: NewFace) -> NewFace | None:
        """Look for a new face in an earlier frame, near the place it has later.

        Args:
            image: The earlier frame, RGB uint8 (H, W, 3).
            time_s: Its time, seconds.
            later: The face, as it is found in a later frame.

        Returns:
            The same face in the earlier frame; None where it is not to be seen.
        """
        turn = righting_turn(later.face.points)
        (face,) = self._detector.follow(image, [later.face.box], [turn])
        if face is None or overlap(face.box, later.face.box) < MIN_IOU:
            return None
        appearance = Appearance(image, face, time_s)
        if later.gallery.likeness(appearance) < MATCH:
            return None
        return NewFace(replace(face, track=later.face.track), Gallery.of(appearance))

    def _end_tracks(self, time_s: float) -> None:
        """Drop the tracks of faces that have been lost for too long."""
        gap_s = self._interval.longest_gap_s(GAP_S)
        # A face seen in the frame before stays: however long the source paused since, no frame was
        # without it.
        self._tracks = [
            track
            for track in self._tracks
            if track.seen_s >= self._frame_s or time_s - track.seen_s <= gap_s
        ]

    def _store(self, in_view: dict[int, _Track]) -> list[_Track]:
        """Update the tracks that are in view; returns those that are new."""
        new = [track for number, track in in_view.items() if number >= self._next_number]
        self._tracks = [in_view.get(track.number, track) for track in self._tracks] + new
        self._next_number = max(self._next_number, max(in_view, default=-1) + 1)
        return new

    def _is_search_due(self, time_s: float, in_view: dict[int, _Track]) -> bool:
        for track in self._tracks:
            if track.number not in in_view and not track.replaced:
                return True
        return time_s - self._searched_s >= SEARCH_S

    def _follow(self, image: Image, time_s: float, cut: bool) -> dict[int, _Track]:
        """The tracks, by number, whose faces are found near where they should be."""
        sought = [track for track in self._tracks if not track.replaced]
        windows = [track.window_at(time_s) for track in sought]
        turns = [righting_turn(track.face.points) for track in sought]
        matches: list[_Match] = []
        faces = self._detector.follow(image, windows, turns)
        for track, face in zip(sought, faces, strict=True):
            match = None
            if face is not None:
                match = self._match(track, face, image, time_s, cut)
            if match is not None:
                matches.append(match)
        in_view: dict[int, _Track] = {}
        # Of two tracks on one face, the first in the cascade keeps it.
        for _, track, face, appearance in _best_first(matches):
            others = [other.face for other in in_view.values()]
            if is_apart(face, others, DUPLICATE_IOU):
                in_view[track.number] = track.moved(face, appearance)
        return in_view

    def _match(
        self, track: _Track, face: Face, image: Image, time_s: float, cut: bool
    ) -> _Match | None:
        """Whether the face found in a track's window may be the track's, and how well it fits."""
        min_iou = AFTER_CUT_IOU if cut else MIN_IOU
        min_likeness = MATCH_ELSEWHERE if cut else MATCH
        iou = overlap(track.box_at(time_s), face.box)
        # What does not touch the place where the face should be is a neighbour at the window's
        # edge.
        if iou < min_iou:
            return None
        appearance = Appearance(image, face, time_s)
        likeness = track.gallery.likeness(appearance)
        if likeness < min_likeness or self._resembles_another(track, appearance, likeness):
            return None
        return _Match(likeness + IOU_WEIGHT * iou, track, face, appearance)

    def _resembles_another(self, track: _Track, appearance: Appearance, likeness: float) -> bool:
        """Whether a face resembles another track far more than this one: two changed places."""
        if likeness >= CERTAIN_MATCH:
            return False
        # Who changes places was in view until then.
        seen_as_late = [other for other in self._tracks if other.seen_s >= track.seen_s]
        for other in seen_as_late:
            if other.gallery.likeness(appearance) >= likeness + BETTER_MATCH_BY:
                return True
        return False

    def _search(
        self, image: Image, time_s: float, in_view: dict[int, _Track], thorough: bool
    ) -> dict[int, _Track]:
        """Faces that no track follows: they resume a lost track they resemble, or begin one."""
        unknown: list[tuple[Face, Appearance]] = []
        for face in self._unknown_faces(image, in_view, thorough):
            unknown.append((face, Appearance(image, face, time_s)))
        lost = [track for track in self._tracks if track.number not in in_view]
        recognised = self._recognised(lost, unknown, time_s)
        # Left to right, so that the numbers of new faces do not depend on their scores.
        number = self._next_number
        located: dict[int, _Track] = {}
        for face, appearance in sorted(unknown, key=_centre_x):
            track = recognised.get(id(appearance))
            if track is not None:
                located[track.number] = track.resumed(face, appearance)
            else:
                located[number] = _Track.begin(replace(face, track=number), appearance)
                number += 1
        self._mark_replaced(in_view, located)
        return located

    @staticmethod
    def _recognised(
        lost: list[_Track], unknown: list[tuple[Face, Appearance]], time_s: float
    ) -> dict[int, _Track]:
        """Lost tracks by the `id` of the appearance in which each is recognised."""
        matches: list[_Match] = []
        for track, (face, appearance) in product(lost, unknown):
            likeness = track.gallery.likeness(appearance)
            min_likeness = MATCH if track.expects(face, time_s) else MATCH_ELSEWHERE
            if likeness >= min_likeness:
                iou = overlap(track.box_at(time_s), face.box)
                matches.append(_Match(likeness + IOU_WEIGHT * iou, track, face, appearance))
        # The best pairs first, each face and each track once.
        recognised: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, track, _, appearance in _best_first(matches):
            if id(appearance) not in recognised and track.number not in taken:
                recognised[id(appearance)] = track
                taken.add(track.number)
        return recognised

    def _mark_replaced(self, in_view: dict[int, _Track], located: dict[int, _Track]) -> None:
        """Note which lost tracks have another face in their place now."""
        for position, track in enumerate(self._tracks):
            if track.number in in_view:
                continue
            for number, other in located.items():
                in_its_place = overlap(track.face.box, other.face.box) >= EXPECTED_IOU
                if number != track.number and in_its_place:
                    self._tracks[position] = replace(track, replaced=True)

    def _unknown_faces(
        self, image: Image, in_view: dict[int, _Track], thorough: bool
    ) -> list[Face]:
        """The faces of a whole frame that are not followed already."""
        known = [track.face for track in in_view.values()]
        quick_scale = self._detector.quick_scale(image)
        scale = quick_scale
        if thorough:
            scale = self._detector.scale_for(image, self._min_face)
        self._saw_more = scale > quick_scale
        # Where one face lies on its side, so may others.
        turned = {quarter_turn(track.face.points) for track in self._tracks} - {0}
        faces = self._detector.find(image, scale=scale, turns=(0, *sorted(turned)))
        unknown = [face for face in faces if is_apart(face, known, KNOWN_IOU)]
        confirmed = self._confirmed(image, unknown)
        if thorough and not known and not confirmed:
            self._saw_more = True
            confirmed = self._found_turned(image, scale, quick_scale)
        return confirmed

    def _found_turned(self, image: Image, scale: float, quick_scale: float) -> list[Face]:
        """The faces of a frame that are found only when it is turned."""
        scales = [scale / 2]
        # Of a film there are other frames; a picture by itself deserves a second look.
        if not self._interval.typical_s and quick_scale > scale / 2:
            scales.append(quick_scale)
        for share in scales:
            faces = self._confirmed(image, self._detector.find(image, scale=share, turns=TURNS))
            if faces:
                return faces
        return []

    def _confirmed(self, image: Image, faces: list[Face]) -> list[Face]:
        """The faces that a closer look finds as well, as it finds them, the right way up.

        That leaves fewer false faces, and measures all boxes at one scale.
        """
        turns = [righting_turn(face.points) for face in faces]
        views = self._detector.follow(image, [face.box for face in faces], turns)
        confirmed: list[Face] = []
        for face, view in zip(faces, views, strict=True):
            if view is None or view.confidence < self._detector.least:
                continue
            agrees = overlap(face.box, view.box) >= CONFIRMED_IOU
            if agrees and is_apart(view, confirmed, DUPLICATE_IOU):
                confirmed.append(view)
        distinct: list[Face] = []
        for face in best_views(self._detector, image, confirmed):
            if is_apart(face, distinct, DUPLICATE_IOU):
                distinct.append(face)
        return distinct

    def _is_cut(self, image: Image) -> bool:
        """Whether a frame shows something else than the one before; keeps its thumbnail."""
        step = max(min(image.shape[:2]) // THUMBNAIL_SIDE, 1)
        thumbnail = image[step // 2 :: step, step // 2 :: step].astype(np.float32)
        before = self._thumbnail
        self._thumbnail = thumbnail
        if before is None:
            return False
        if before.shape != thumbnail.shape:
            # Places in frames of two sizes cannot be compared.
            self._tracks = []
            return True
        # The plain difference is cheap and settles most frames.
        if float(np.abs(thumbnail - before).mean()) <= CUT_CHANGE:
            return False
        return _change_under_pan(before, thumbnail) > CUT_CHANGE


def _centre_x(face_and_appearance: tuple[Face, Appearance]) -> float:
    face, _ = face_and_appearance
    return face.box[0] + face.box[2] / 2


def _change_under_pan(before: Floats, after: Floats) -> float:
    """Mean absolute change of two thumbnails (H, W, 3) under the best shift: a pan is no cut."""
    rows, cols = before.shape[:2]
    reach = min(PAN_CELLS, rows - 1, cols - 1)
    shifts = range(-reach, reach + 1)
    least = np.inf
    for down, right in product(shifts, shifts):
        old = before[_shifted_span(down, rows), _shifted_span(right, cols)]
        new = after[_shifted_span(-down, rows), _shifted_span(-right, cols)]
        least = min(least, float(np.abs(new - old).mean()))
    return least


def _shifted_span(shift: int, length: int) -> slice:
    """The part of one side that is still there after a shift by so many pixels."""
    return slice(max(shift, 0), length + min(shift, 0))
