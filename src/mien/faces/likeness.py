"""Whether looks at a face, at different times, may show the same person.

A look is a small aligned patch of luma. It lives in memory for as long as its track does and is never written. It does
not know people: it tells the change of a face's picture that a cut makes from the change that motion, expression,
light, blur or a hand makes. Most limits were set on the portraits' training part; the one on what is around a face, and
three of the tracker's, after a look at the validation part, so the figures of `bench/tracks.py` are a little too good.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.prepare import Pixels, crop_matrix, warp
from mien.records import Face
from mien.tasks import Floats

__all__ = ["ALIKE", "Look", "Memory"]

Image = NDArray[np.uint8]
Patch = NDArray[np.float32]

ALIKE: Final = 0.0
"""From this likeness on, two looks may be one person's."""
SURE: Final = 0.05
"""From this on, the faces alone say so; below it what is around them must agree."""
SIDE: Final = 24
"""Side of a look at the face, px."""
WIDE_SIDE: Final = 16
"""Side of a look at the head with hair, shoulders and what is behind it, px."""
WIDE_ZOOM: Final = 0.4
"""The size of the face in a wide look, relative to its size in a near one."""
BLOCK: Final = 6
"""Side of the parts that are compared one by one, px of a look."""
FLAT: Final = 4.0
"""A patch with a smaller standard deviation (0..255) shows nothing to compare."""
SHIFT: Final = 2
"""How far the points of a face may jump from one look to the next, px of a look."""
NEAR_PX: Final = 5.0
"""A face whose points are no farther than this from where they were, px of a look, is in the same place."""
FARTHEST_WARP: Final = 0.3
"""The largest change of shape (entries of the affine map) that is taken for the same head, turned."""

# Where one comparison alone comes to `ALIKE`.
SHIFTED_LIMIT: Final = 0.81
WARPED_LIMIT: Final = 0.93
PARTS_LIMIT: Final = 0.88
PARTS: Final = 5
"""So many of the 16 blocks must agree where a hand may cover the rest."""

WIDE_LIMIT: Final = ((0.2, 0.82), (1.0, 0.72))
"""From this correlation of wide looks on, what is around two faces agrees: (seconds between looks, correlation)."""
SLACK: Final = ((0.2, 0.02), (1.0, 0.12))
"""How far below `ALIKE` two faces may be where what is around them agrees: (seconds between looks, likeness), straight in
between. Faces change more in longer times."""
MEMORY: Final = 5
"""Looks kept of one face besides the last: a face may turn away, or vanish behind a hand, and come back."""
MEMORY_S: Final = 0.3
"""Time between looks that are kept, seconds."""


def _pixels(size: int, zoom: float) -> Pixels:
    """How a look is cut: points on a fixed template, shrunk towards its middle by `zoom`."""
    template = np.array([[0.32, 0.38], [0.68, 0.38], [0.5, 0.61], [0.35, 0.77], [0.65, 0.77]])
    middle = np.array([0.5, 0.57])
    points = ((template - middle) * zoom + middle).tolist()
    return Pixels(
        size=size, colour="grey", alignment="similarity5", template=points, mean=(0.0,), std=(1.0,)
    )


_UNLIKE: Final = -1e-3
_EVERYWHERE: Final = np.ones((SIDE, SIDE), np.uint8)

_NEAR: Final = _pixels(SIDE, 1.0)
_WIDE: Final = _pixels(WIDE_SIDE, WIDE_ZOOM)


class Look:
    """One face in one frame, as far as it is compared. Let go of the frame with `forget_frame` before keeping it.

    patch: luma (SIDE, SIDE), 0..255, of the aligned face; matrix: the map (2, 3) from the frame that cut it.
    """

    __slots__ = ("_face", "_image", "_wide", "matrix", "patch", "time_s")

    def __init__(self, image: Image, face: Face, time_s: float) -> None:
        self.time_s = time_s
        self.matrix = crop_matrix(face, _NEAR)
        self.patch = _luma(image, self.matrix, _NEAR)
        self._image: Image | None = image
        self._face = face
        self._wide: Patch | None = None

    @property
    def wide(self) -> Patch:
        """Luma (WIDE_SIDE, WIDE_SIDE), 0..255, of the head and what is around it."""
        if self._wide is None:
            self._wide = _luma(self._frame(), crop_matrix(self._face, _WIDE), _WIDE)
        return self._wide

    @property
    def is_flat(self) -> bool:
        """Whether there is nothing in it to compare."""
        return bool(self.patch.std() < FLAT)

    @property
    def is_cut_off(self) -> bool:
        """Whether the face reaches beyond the frame."""
        height, width = self._frame().shape[:2]
        x, y, w, h = self._face.box
        return x < 0 or y < 0 or x + w > width or y + h > height

    def is_near(self, matrix: Floats) -> bool:
        """Whether a look cut by `matrix` would still show this face, though not well aligned."""
        off = (
            self._face.points @ (matrix[:, :2] - self.matrix[:, :2]).T
            + matrix[:, 2]
            - self.matrix[:, 2]
        )
        return bool(np.hypot(*off.T).mean() <= NEAR_PX)

    def cut_at(self, matrix: Floats) -> Patch:
        """The same frame, cut where a face was before."""
        return _luma(self._frame(), matrix, _NEAR)

    def forget_frame(self) -> None:
        """Drop the frame, so that a look that is kept does not keep it alive."""
        self._image = None

    def _frame(self) -> Image:
        assert self._image is not None, "the frame of this look was let go"
        return self._image


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one face: its last look and a few earlier ones, all without their frames."""

    last: Look
    kept: tuple[Look, ...]

    @classmethod
    def of(cls, look: Look) -> "Memory":
        """The memory of a face seen for the first time."""
        _ = look.wide
        look.forget_frame()
        return cls(look, (look,))

    def with_look(self, look: Look) -> "Memory":
        """The memory after one more look."""
        kept = self.kept
        if look.time_s - kept[-1].time_s >= MEMORY_S:
            _ = look.wide
            kept = (*kept, look)[-MEMORY:]
        look.forget_frame()
        return Memory(look, kept)

    def likeness(self, look: Look) -> float:
        """How much a new look resembles this face: from `ALIKE` up nothing speaks against it being the same person.

        The last look decides where it agrees, else the best of the kept ones, where both are unsure with what is around
        the face. Where a face is too flat to compare, nothing speaks against it.
        """
        if look.is_flat or self.last.is_flat:
            return ALIKE
        best = compare(self.last, look)
        for earlier in reversed(self.kept):
            if best >= SURE:
                return best
            if earlier is not self.last:
                best = max(best, compare(earlier, look))
        if best >= SURE:
            return best
        passed_s = look.time_s - self.last.time_s
        if best >= ALIKE and look.is_cut_off:
            return best  # what is around it is not in the frame
        near = best >= -_at(SLACK, passed_s)
        if near and max(_shifted(earlier.wide, look.wide) for earlier in self.kept) >= _at(
            WIDE_LIMIT, passed_s
        ):
            return max(best, ALIKE)
        return min(best, _UNLIKE)


def compare(before: Look, now: Look) -> float:
    """Likeness of two looks at the face alone, -1.9 to .2.

    The cheapest comparison comes first, the others are made only where it fails:

    - the patches, one shifted by up to `SHIFT` pixels;
    - the frame cut where the face was before, if it is still there: what a jump of its points cannot change;
    - the blocks that agree best: a hand covers a part of a face, and the rest is as it was;
    - the patches after the best affine map between them: a head that turned.
    """
    best = _shifted(before.patch, now.patch) - SHIFTED_LIMIT
    if best >= SURE:
        return best
    patches = [now.patch]
    if now.is_near(before.matrix):
        patches.append(now.cut_at(before.matrix))
        best = max(best, _shifted(before.patch, patches[1]) - SHIFTED_LIMIT)
    for patch in patches:
        best = max(best, _parts(before.patch, patch) - PARTS_LIMIT)
        best = max(best, _warped(before.patch, patch) - WARPED_LIMIT)
    return best


def _at(line: tuple[tuple[float, float], ...], passed_s: float) -> float:
    seconds, values = zip(*line, strict=True)
    return float(np.interp(passed_s, seconds, values))


def _luma(image: Image, matrix: Floats, pixels: Pixels) -> Patch:
    return np.asarray(cv2.cvtColor(warp(image, matrix, pixels), cv2.COLOR_RGB2GRAY), np.float32)


def _shifted(a: Patch, b: Patch) -> float:
    """The best correlation of the middle of `a` with any part of `b` of its size."""
    middle = a[SHIFT:-SHIFT, SHIFT:-SHIFT]
    return float(cv2.matchTemplate(b, middle, cv2.TM_CCOEFF_NORMED).max())


def _warped(a: Patch, b: Patch) -> float:
    """Correlation after the affine map that makes it largest (Evangelidis & Psarakis 2008); -1 where there is none."""
    matrix = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 1e-3)
    try:
        value, found = cv2.findTransformECC(a, b, matrix, cv2.MOTION_AFFINE, stop, _EVERYWHERE, 3)
    except cv2.error:  # it does not converge: the two have nothing in common
        return -1.0
    if float(np.abs(found[:, :2] - np.eye(2)).max()) > FARTHEST_WARP:
        return -1.0
    return float(value)


def _parts(a: Patch, b: Patch) -> float:
    """Mean correlation of the `PARTS` blocks that agree best; blocks without contrast do not count as agreeing."""
    first, second = _blocks(a), _blocks(b)
    noise = 30.0 * BLOCK * BLOCK  # what a coder and a sensor alone may make of a block
    norms = (np.square(first).sum(axis=1) + noise) * (np.square(second).sum(axis=1) + noise)
    agreement = (first * second).sum(axis=1) / np.sqrt(norms)
    return float(np.sort(agreement)[-PARTS:].mean())


def _blocks(patch: Patch) -> Patch:
    """The patch's blocks (16, BLOCK * BLOCK), each less its mean."""
    count = SIDE // BLOCK
    blocks = (
        patch.reshape(count, BLOCK, count, BLOCK)
        .swapaxes(1, 2)
        .reshape(count * count, BLOCK * BLOCK)
    )
    return np.asarray(blocks - blocks.mean(axis=1, keepdims=True), np.float32)
