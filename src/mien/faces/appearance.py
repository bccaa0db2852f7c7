"""Whether a face's appearance at different times may show the same person.

An `Appearance` is a small aligned patch of luma. It lives in memory for as long as its track does
and is never written. It does not identify people: it tells the change that a cut makes to the
picture of a face from the change that motion, expression, light, blur or a hand makes. Most limits
were set on the portraits' training part; the limit on a face's surroundings, and three of the
tracker's, after a look at the validation part, so the figures of `bench/tracks.py` are a little too
good.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.prepare import Pixels, crop_matrix, warp
from mien.records import Face
from mien.tasks import Floats

__all__ = ["MATCH", "Appearance", "Gallery"]

Image = NDArray[np.uint8]
Patch = NDArray[np.float32]
Line = tuple[tuple[float, float], ...]

MATCH: Final = 0.0
"""From this likeness on, two appearances may be one person's."""
SURE_MATCH: Final = 0.05
"""From this likeness on, the faces alone decide; below it their surroundings must agree."""
SIDE: Final = 24
"""Side of the patch of the face, px."""
WIDE_SIDE: Final = 16
"""Side of the patch of the head with hair, shoulders and what is behind it, px."""
WIDE_ZOOM: Final = 0.4
"""Size of the face in a wide patch, relative to its size in a near one."""
BLOCK: Final = 6
"""Side of the blocks that are compared one by one, px of a patch."""
FLAT: Final = 4.0
"""A patch with a smaller standard deviation (0..255) shows nothing to compare."""
SHIFT: Final = 2
"""How far the points of a face may jump from one frame to the next, px of a patch."""
NEAR_PX: Final = 5.0
"""A face whose points moved no farther than this, px of a patch, is in the same place."""
MAX_WARP: Final = 0.3
"""The largest change of shape (entries of the affine map) taken for the same head, turned."""

# The correlation at which each comparison alone comes to `MATCH`.
SHIFTED_LIMIT: Final = 0.81
WARPED_LIMIT: Final = 0.93
BLOCKS_LIMIT: Final = 0.88
VISIBLE_BLOCKS: Final = 5
"""So many of the 16 blocks must agree where a hand may cover the rest."""
NOISE: Final = 30.0
"""Variance that a coder and a sensor alone may make, per pixel (0..255)."""

WIDE_LIMIT: Final = ((0.2, 0.82), (1.0, 0.72))
"""From this correlation of wide patches on, the surroundings of two faces agree: (seconds between
them, correlation)."""
SLACK: Final = ((0.2, 0.02), (1.0, 0.12))
"""How far below `MATCH` two faces may be where their surroundings agree: (seconds between them,
likeness), linear in between. Faces change more in longer times."""
GALLERY_SIZE: Final = 5
"""Appearances kept of one face besides the last: it may turn away, or be hidden, and come back."""
GALLERY_STEP_S: Final = 0.3
"""Least time between appearances that are kept, seconds."""

_NO_MATCH: Final = -1e-3
_EVERYWHERE: Final = np.ones((SIDE, SIDE), np.uint8)


def _patch_pixels(size: int, zoom: float) -> Pixels:
    """How a patch is cut: points on a fixed template, shrunk towards its middle by `zoom`."""
    template = np.array([[0.32, 0.38], [0.68, 0.38], [0.5, 0.61], [0.35, 0.77], [0.65, 0.77]])
    middle = np.array([0.5, 0.57])
    points = ((template - middle) * zoom + middle).tolist()
    return Pixels(
        size=size, colour="grey", alignment="similarity5", template=points, mean=(0.0,), std=(1.0,)
    )


_NEAR: Final = _patch_pixels(SIDE, 1.0)
_WIDE: Final = _patch_pixels(WIDE_SIDE, WIDE_ZOOM)


class Appearance:
    """What one face looks like in one frame. Call `release_frame` before keeping it.

    Attributes:
        time_s: Time of the frame, seconds.
        matrix: The map (2, 3) from the frame to `patch`.
        patch: Luma (SIDE, SIDE), 0..255, of the aligned face.
    """

    __slots__ = ("_face", "_image", "_wide", "matrix", "patch", "time_s")

    def __init__(self, image: Image, face: Face, time_s: float) -> None:
        self.time_s = time_s
        self.matrix = crop_matrix(face, _NEAR)
        self.patch = _luma_patch(image, self.matrix, _NEAR)
        self._image: Image | None = image
        self._face = face
        self._wide: Patch | None = None

    @property
    def wide(self) -> Patch:
        """Luma (WIDE_SIDE, WIDE_SIDE), 0..255, of the head and its surroundings."""
        # Cut only when it is asked for: most comparisons are settled by the near patch.
        if self._wide is None:
            self._wide = _luma_patch(self._frame(), crop_matrix(self._face, _WIDE), _WIDE)
        return self._wide

    @property
    def is_flat(self) -> bool:
        """Whether the patch has too little contrast to be compared."""
        _, deviation = cv2.meanStdDev(self.patch)
        return float(deviation[0, 0]) < FLAT

    @property
    def is_cut_off(self) -> bool:
        """Whether the face reaches beyond the frame."""
        height, width = self._frame().shape[:2]
        x, y, w, h = self._face.box
        return x < 0 or y < 0 or x + w > width or y + h > height

    def is_near(self, matrix: Floats) -> bool:
        """Whether a patch cut by another map would still show this face, though not well aligned.

        Args:
            matrix: Map (2, 3) from the frame to a patch.

        Returns:
            Whether the two maps take the face's points to places at most `NEAR_PX` apart, on
            average.
        """
        linear = matrix[:, :2] - self.matrix[:, :2]
        shifts = self._face.points @ linear.T + matrix[:, 2] - self.matrix[:, 2]
        return bool(np.hypot(*shifts.T).mean() <= NEAR_PX)

    def cut_at(self, matrix: Floats) -> Patch:
        """Cut the same frame where a face was before.

        Args:
            matrix: Map (2, 3) from the frame to a patch.

        Returns:
            Luma (SIDE, SIDE), 0..255.
        """
        return _luma_patch(self._frame(), matrix, _NEAR)

    def release_frame(self) -> None:
        """Drop the frame, so that keeping this object does not keep the frame alive."""
        self._image = None

    def _frame(self) -> Image:
        assert self._image is not None, "the frame of this appearance was released"
        return self._image


@dataclass(frozen=True, slots=True)
class Gallery:
    """What is remembered of one face, all without the frames.

    Attributes:
        last: Its latest appearance.
        kept: A few earlier ones, oldest first, at least `GALLERY_STEP_S` apart.
    """

    last: Appearance
    kept: tuple[Appearance, ...]

    @classmethod
    def of(cls, appearance: Appearance) -> "Gallery":
        """Begin the gallery of a face seen for the first time.

        Args:
            appearance: The face; its frame is released.

        Returns:
            A gallery that holds this appearance alone.
        """
        return cls(appearance, (_without_frame(appearance),))

    def add(self, appearance: Appearance) -> "Gallery":
        """The gallery after the face was seen once more.

        Args:
            appearance: The face; its frame is released.

        Returns:
            A new gallery.
        """
        kept = self.kept
        if appearance.time_s - kept[-1].time_s >= GALLERY_STEP_S:
            kept = (*kept, _without_frame(appearance))[-GALLERY_SIZE:]
        appearance.release_frame()
        return Gallery(appearance, kept)

    def likeness(self, appearance: Appearance) -> float:
        """How much a face resembles this one.

        The last appearance decides where it agrees, else the best of the kept ones; where both are
        unsure, the surroundings of the face must agree as well. Where a face is too flat to
        compare, nothing speaks against it.

        Args:
            appearance: The face; its frame must not have been released.

        Returns:
            From `MATCH` on, nothing speaks against its being the same person.
        """
        if appearance.is_flat or self.last.is_flat:
            return MATCH
        best = self._best_likeness(appearance)
        if best >= SURE_MATCH:
            return best
        # The surroundings of a face at the edge are not in the frame and cannot be asked for.
        if best >= MATCH and appearance.is_cut_off:
            return best
        elapsed_s = appearance.time_s - self.last.time_s
        is_close = best >= -_interpolated(SLACK, elapsed_s)
        if is_close and self._surroundings_agree(appearance, elapsed_s):
            return max(best, MATCH)
        return min(best, _NO_MATCH)

    def _best_likeness(self, appearance: Appearance) -> float:
        """The best likeness to the last and the kept faces alone; stops at a sure match."""
        best = compare(self.last, appearance)
        for earlier in reversed(self.kept):
            if best >= SURE_MATCH:
                return best
            if earlier is not self.last:
                best = max(best, compare(earlier, appearance))
        return best

    def _surroundings_agree(self, appearance: Appearance, elapsed_s: float) -> bool:
        best = max(_shifted_correlation(earlier.wide, appearance.wide) for earlier in self.kept)
        return best >= _interpolated(WIDE_LIMIT, elapsed_s)


def _without_frame(appearance: Appearance) -> Appearance:
    """The same object, with its wide patch cut and its frame released."""
    _ = appearance.wide
    appearance.release_frame()
    return appearance


def compare(before: Appearance, now: Appearance) -> float:
    """Likeness of two appearances of the face alone.

    The cheapest comparison comes first, the others are made only where it fails:

    - the patches, one shifted by up to `SHIFT` pixels;
    - the frame cut where the face was before, if it is still near: immune to a jump of its points;
    - the blocks that agree best: a hand covers a part of a face, and the rest is as it was;
    - the patches after the best affine map between them: a head that turned.

    Args:
        before: The earlier appearance.
        now: The later one; its frame must not have been released.

    Returns:
        The largest amount by which a correlation exceeds its limit, -1.9 to .2.
    """
    best = _shifted_correlation(before.patch, now.patch) - SHIFTED_LIMIT
    if best >= SURE_MATCH:
        return best
    patches = [now.patch]
    if now.is_near(before.matrix):
        same_place = now.cut_at(before.matrix)
        patches.append(same_place)
        best = max(best, _shifted_correlation(before.patch, same_place) - SHIFTED_LIMIT)
    for patch in patches:
        best = max(best, _block_correlation(before.patch, patch) - BLOCKS_LIMIT)
        best = max(best, _warped_correlation(before.patch, patch) - WARPED_LIMIT)
    return best


def _interpolated(line: Line, elapsed_s: float) -> float:
    """The value of a line given by (seconds, value) points; constant beyond its ends."""
    seconds, values = zip(*line, strict=True)
    return float(np.interp(elapsed_s, seconds, values))


def _luma_patch(image: Image, matrix: Floats, pixels: Pixels) -> Patch:
    crop = warp(image, matrix, pixels, halve=True)
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.float32)


def _shifted_correlation(a: Patch, b: Patch) -> float:
    """The best correlation of the middle of `a` with any part of `b` of its size."""
    middle = a[SHIFT:-SHIFT, SHIFT:-SHIFT]
    return float(cv2.matchTemplate(b, middle, cv2.TM_CCOEFF_NORMED).max())


def _warped_correlation(a: Patch, b: Patch) -> float:
    """Correlation after the affine map that maximises it (Evangelidis & Psarakis 2008), else -1."""
    start = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 1e-3)
    try:
        value, matrix = cv2.findTransformECC(a, b, start, cv2.MOTION_AFFINE, stop, _EVERYWHERE, 3)
    except cv2.error:
        # It does not converge: the two have nothing in common.
        return -1.0
    if float(np.abs(matrix[:, :2] - np.eye(2)).max()) > MAX_WARP:
        return -1.0
    return float(value)


def _block_correlation(a: Patch, b: Patch) -> float:
    """Mean correlation of the `VISIBLE_BLOCKS` blocks that agree best."""
    first = _centred_blocks(a)
    second = _centred_blocks(b)
    # Added to both energies, so that blocks without contrast do not count as agreeing.
    noise = NOISE * BLOCK * BLOCK
    first_energy = np.square(first).sum(axis=1) + noise
    second_energy = np.square(second).sum(axis=1) + noise
    correlations = (first * second).sum(axis=1) / np.sqrt(first_energy * second_energy)
    return float(np.sort(correlations)[-VISIBLE_BLOCKS:].mean())


def _centred_blocks(patch: Patch) -> Patch:
    """The patch's blocks (16, BLOCK * BLOCK), each less its mean."""
    count = SIDE // BLOCK
    grid = patch.reshape(count, BLOCK, count, BLOCK).swapaxes(1, 2)
    blocks = grid.reshape(count * count, BLOCK * BLOCK)
    return np.asarray(blocks - blocks.mean(axis=1, keepdims=True), np.float32)
