"""Which tracks of one film show one person: descriptors of faces, in memory, until the film ends.

A descriptor is biometric data: it tells people apart as a fingerprint does. It is computed only
where a user asks for people, and stays in the memory of the one film that is being read: `People`
gives away numbers of tracks alone, and nothing of a film is left for the next.
"""

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MissingExtraError
from mien.faces.prepare import Pixels, crop_matrix, warp
from mien.records import Face
from mien.tasks import Floats

__all__ = ["Count", "Describe", "People", "check_installed", "describe"]

Image = NDArray[np.uint8]
Count = int | Literal["auto"]
"""How many people there are, or ``auto`` for as many as there seem to be."""
Describe = Callable[[Sequence[Image]], Floats]
"""Descriptors (N, D) of N crops, RGB uint8 (size, size, 3)."""

STEP_S: Final = 0.2
"""Least time between two looks at a track, seconds: neighbouring frames add nothing."""
KEPT: Final = 4
"""Crops that are described of each track: the best of all that were looked at."""
ENDED_S: Final = 2.0
"""A track that was not seen for this time is described, and its crops are dropped."""
LEAST_EYES: Final = 14.0
"""Smallest distance of the eyes, px of the frame."""
MOST_TURNED: Final = 0.06
"""Largest distance of the five points from those of a frontal face, in sides of the crop, root mean
square. Of the portraits, 99 of 100 are below 0.041, and nothing is known of faces turned more."""
MOST_TRACKS: Final = 4000
"""Tracks that are joined, those seen in most frames: memory grows with the square of their number,
to some 400 MB."""
_APART: Final = 1e9
"""Distance of two tracks that are in view at once, so that groups that hold them are never joined:
the mean over all pairs of their tracks stays above every limit."""


@dataclass(slots=True)
class _Track:
    """What is known of a track.

    Attributes:
        frames: In how many frames it was seen.
        seen_s: When it was seen last, s.
        looked_s: When it was looked at last, s.
        crops: The best crops so far with their worth, at most `KEPT`.
        descriptor: Mean of the descriptors of its crops, (D,); None before, or without any.
    """

    frames: int = 0
    seen_s: float = -np.inf
    looked_s: float = -np.inf
    crops: list[tuple[float, Image]] = field(default_factory=list)
    descriptor: Floats | None = None


class People:
    """Collects faces of the tracks of one film, and joins the tracks at its end.

    Args:
        network: Gives descriptors.
        pixels: Crops that it reads, aligned by five points.
        count: How many people there are.
        same_person: Groups of tracks whose descriptors are nearer than this, on average, are
            joined; where the number of people is known, no more of them than leave so many.
    """

    def __init__(self, network: Describe, pixels: Pixels, count: Count, same_person: float) -> None:
        self._network = network
        self._pixels = pixels
        self._count = count
        self._same_person = same_person
        # In order of first appearance.
        self._tracks: dict[int, _Track] = {}
        self._open: dict[int, _Track] = {}
        self._apart: set[tuple[int, int]] = set()

    def add(self, image: Image, time_s: float, faces: Iterable[Face]) -> None:
        """Look at the faces of the next frame.

        Args:
            image: The frame, RGB uint8 (H, W, 3).
            time_s: Its time, s.
            faces: Its faces, tracked.
        """
        numbers = []
        for face in faces:
            if face.track is None:
                continue
            numbers.append(face.track)
            track = self._tracks.setdefault(face.track, _Track())
            self._open[face.track] = track
            track.frames += 1
            track.seen_s = time_s
            if time_s - track.looked_s >= STEP_S:
                track.looked_s = time_s
                _look(track, image, face, self._pixels)
        self._apart.update(combinations(sorted(numbers), 2))
        ended = [n for n, track in self._open.items() if time_s - track.seen_s > ENDED_S]
        self._close(ended)

    def join(self) -> dict[int, int]:
        """Join the tracks, and forget everything else.

        Returns:
            Person by track; people are numbered from 0 in order of first appearance. Tracks without
            a face that is large, sharp and frontal enough are missing, and so are, where the number
            of people is known, those of others.
        """
        self._close(list(self._open))
        described = {}
        least = _least_frames(self._tracks.values())
        for number, track in self._tracks.items():
            if track.descriptor is not None and track.frames >= least:
                described[number] = track
        groups = _groups(described, self._apart, self._count, self._same_person)
        self._tracks, self._apart = {}, set()
        people: dict[int, int] = {}
        persons: dict[int, int] = {}
        for number, group in groups.items():
            people[number] = persons.setdefault(group, len(persons))
        return people

    def _close(self, numbers: Sequence[int]) -> None:
        """Describe tracks, and drop their crops."""
        for number in numbers:
            track = self._open.pop(number)
            crops = [crop for _, crop in track.crops]
            track.crops = []
            if not crops:
                continue
            descriptor = describe(self._network, crops)
            if track.descriptor is not None:
                # It was seen again after a pause: both parts count the same.
                descriptor = (track.descriptor + descriptor) / 2
            track.descriptor = descriptor


def describe(network: Describe, crops: Sequence[Image]) -> Floats:
    """Describe a person by some faces.

    Args:
        network: Gives descriptors.
        crops: One or more crops of one person, RGB uint8 (size, size, 3).

    Returns:
        The descriptor (D,).
    """
    # Also of their mirror images: the mean tells people apart better than either.
    mirrored = [np.ascontiguousarray(crop[:, ::-1]) for crop in crops]
    mean: Floats = network([*crops, *mirrored]).mean(axis=0)
    return mean


def check_installed() -> None:
    """Check that what joins tracks is installed.

    Raises:
        MissingExtraError: It is not.
    """
    if importlib.util.find_spec("scipy") is None:
        raise MissingExtraError("people", "joining the tracks of people")


def _least_frames(tracks: Iterable[_Track]) -> int:
    """In how many frames a track must be seen, so that no more than `MOST_TRACKS` are joined."""
    frames = [track.frames for track in tracks if track.descriptor is not None]
    frames.sort(reverse=True)
    # Of the tracks that are seen as often as the first one too many, none is joined.
    return frames[MOST_TRACKS] + 1 if len(frames) > MOST_TRACKS else 0


def _look(track: _Track, image: Image, face: Face, pixels: Pixels) -> None:
    """Keep a face's crop if it is one of the best of its track."""
    eyes = float(np.hypot(*(face.points[1] - face.points[0])))
    matrix = crop_matrix(face, pixels)
    turned = _turned(face, matrix, pixels)
    if eyes < LEAST_EYES or turned > MOST_TURNED:
        return
    crop = warp(image, matrix, pixels)
    worth = _sharpness(crop) * (1 - turned / MOST_TURNED)
    track.crops.append((worth, crop))
    # By worth alone: crops cannot be compared.
    track.crops.sort(key=lambda worth_and_crop: worth_and_crop[0], reverse=True)
    del track.crops[KEPT:]


def _turned(face: Face, matrix: Floats, pixels: Pixels) -> float:
    """How far the five points lie from those of a frontal face, in sides of the crop."""
    template = np.array(pixels.template) * pixels.size - 0.5
    placed = face.points @ matrix[:, :2].T + matrix[:, 2]
    squares = np.square(placed - template).sum(axis=1)
    return float(np.sqrt(squares.mean())) / pixels.size


def _sharpness(crop: Image) -> float:
    """Standard deviation of the Laplacian of a crop's luma (Pech-Pacheco et al. 2000)."""
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(luma, cv2.CV_32F).std())


def _groups(
    tracks: Mapping[int, _Track], apart: set[tuple[int, int]], count: Count, limit: float
) -> dict[int, int]:
    """The group of each track, in any numbers; average linkage (Sokal & Michener 1958).

    Args:
        tracks: Tracks that have descriptors, by number.
        apart: Pairs of tracks, lower number first, that are two people's.
        count: How many people there are.
        limit: Groups that are farther apart, on average, are not joined.
    """
    numbers = list(tracks)
    if len(numbers) < 2:
        return dict.fromkeys(numbers, 0)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist, squareform

    descriptors = np.array([track.descriptor for track in tracks.values()])
    distances = squareform(pdist(descriptors))
    position = {number: index for index, number in enumerate(numbers)}
    for pair in apart:
        if position.keys() >= set(pair):
            row, column = (position[number] for number in pair)
            distances[row, column] = distances[column, row] = _APART
    tree = linkage(squareform(distances), "average")
    if count != "auto":
        # As many joins as leave so many people, the nearest first.
        joins = max(len(numbers) - count, 0)
        limit = min(float(tree[joins - 1, 2]) if joins else 0.0, limit)
    groups = dict(zip(numbers, fcluster(tree, limit, "distance").tolist(), strict=True))
    return groups if count == "auto" else _largest(groups, tracks, count)


def _largest(groups: Mapping[int, int], tracks: Mapping[int, _Track], count: int) -> dict[int, int]:
    """The tracks of the groups that are seen in most frames."""
    frames: dict[int, int] = {}
    for number, group in groups.items():
        frames[group] = frames.get(group, 0) + tracks[number].frames
    kept = sorted(frames, key=lambda group: frames[group], reverse=True)[:count]
    return {number: group for number, group in groups.items() if group in kept}
