"""Stand-ins for sets of single pictures: the synthetic faces of ABAW4, AffectNet and RAF-DB."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.data.label_table import table_of
from mien.data.standins.faces import Faces
from mien.data.standins.order import Order, Work, folder, write_labels, write_lines
from mien.data.standins.pictures import Job, cut_out, noise_of, paint, placed, relight, write_jpeg
from mien.data.standins.states import allocate, shares_of
from mien.data.standins.takes import EXPR_COUNTS
from mien.tasks import TASKS, Floats

__all__ = ["affectnet", "drawn_lots", "landmarks_of", "lsd", "raf_db"]

Ints = NDArray[np.intp]
Row = tuple[str, int, int, int]
"""Path, size in px, code and face of a row of AffectNet."""

# Pictures in a piece of work.
_BATCH: Final = 256
# Fewest rows of a class.
_FEWEST: Final = 3

_LSD: Final = TASKS["expr.lsd6"]
_LSD_TRAIN: Final = (18286, 15150, 10923, 73285, 144631, 14976)
# The real shares of the validation and test faces are not published; those of the same classes in
# Aff-Wild2 stand in for them.
_ABAW_NAMES: Final = TASKS["expr.abaw8"].names
_LSD_REAL: Final = tuple(EXPR_COUNTS["val"][_ABAW_NAMES.index(name)] for name in _LSD.names)
_LSD_PLACES: Final = {
    "train": "training_set_synthetic_images",
    "val": "validation_set_real_images",
    "test": "lsd_test_data",
}

# Codes 1 to 7.
_RAF_CODES: Final = (
    "surprise",
    "fear",
    "disgust",
    "happiness",
    "sadness",
    "anger",
    "neutral",
)
_RAF_COUNTS: Final = {
    "train": (1290, 281, 717, 4772, 1982, 705, 2524),
    "test": (329, 74, 160, 1185, 478, 162, 680),
}

# Codes 0 to 7.
_AFFECTNET: Final = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)
_AFFECTNET_COUNTS: Final = {
    "train": (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750),
    "val": (1,) * 8,
}
# Codes of AffectNet: none, uncertain, no face.
_NO_EXPRESSION: Final = (8, 9, 10)
_NO_FACE: Final = _NO_EXPRESSION[-1]
# Share of training rows without an expression, beside the others.
_EXTRA: Final = 0.08
_NO_VA: Final = -2.0
_HEADER: Final = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,"
    "valence,arousal"
)
_ZOOM: Final = 0.72


def drawn_lots(
    rng: np.random.Generator, faces: Faces, names: Sequence[str], counts: Ints
) -> tuple[Ints, Ints]:
    """Draw a face for every row of a set.

    Args:
        rng: Where the chance comes from.
        faces: To draw from.
        names: K expressions.
        counts: (K,) rows of each.

    Returns:
        Class and face of every row, in random order; a face comes again only when all of its class
        have come.

    Raises:
        DataError: Where too few faces show an expression.
    """
    chosen = []
    for pool, count in zip(faces.showing(names), counts, strict=True):
        chosen.append(_in_turn(rng, pool, int(count)))
    order = rng.permutation(int(counts.sum()))
    return np.repeat(np.arange(len(names)), counts)[order], np.concatenate(chosen)[order]


def lsd(order: Order) -> list[Work]:
    """The synthetic faces of ABAW4: class folders and the test list.

    Args:
        order: What to make.

    Returns:
        The pictures to be made. Lists are written at once; the test's answers are in
        ``standin-labels/test.csv``.
    """
    work: list[Work] = []
    for s, (split, faces) in enumerate(order.faces.items()):
        shares = shares_of(_LSD_TRAIN if split == "train" else _LSD_REAL)
        counts = allocate(order.rows[split], shares, _FEWEST)
        classes, chosen = drawn_lots(order.rng(1, s), faces, _LSD.names, counts)
        place = folder(order.root / _LSD_PLACES[split])
        if split == "test":
            paths = _lsd_test(order.root, place, classes)
        else:
            folders = [folder(place / _lsd_folder(name)) for name in _LSD.names]
            paths = [folders[k] / f"{i}.jpg" for i, k in enumerate(classes.tolist())]
        look = Job([], np.empty(0, np.intp), (order.seed, 2, s), coarse=split == "train", lamp=0.0)
        work += _jobs(faces, paths, chosen, look)
    return work


def raf_db(order: Order) -> list[Work]:
    """RAF-DB: ``EmoLabel/list_patition_label.txt`` (codes 1 to 7) and aligned pictures of 100 px.

    Args:
        order: What to make.

    Returns:
        The pictures to be made. The list is written at once.
    """
    lines: list[str] = []
    work: list[Work] = []
    place = folder(order.root / "Image" / "aligned")
    for s, (split, faces) in enumerate(order.faces.items()):
        counts = allocate(order.rows[split], shares_of(_RAF_COUNTS[split]), _FEWEST)
        classes, chosen = drawn_lots(order.rng(1, s), faces, _RAF_CODES, counts)
        paths = []
        for i, k in enumerate(classes.tolist(), 1):
            name = f"{split}_{i:05d}"
            lines.append(f"{name}.jpg {k + 1}")
            paths.append(place / f"{name}_aligned.jpg")
        look = Job([], np.empty(0, np.intp), (order.seed, 2, s), size=100, lamp=0.0)
        work += _jobs(faces, paths, chosen, look)
    write_lines(order.root / "EmoLabel" / "list_patition_label.txt", lines)
    return work


def affectnet(order: Order) -> list[Work]:
    """AffectNet: ``training.csv``, ``validation.csv`` (without a header), and pictures.

    Beside the rows of the eight expressions stand, in training, a few without: codes 8 to 10,
    valence and arousal -2.

    Args:
        order: What to make.

    Returns:
        The pictures to be made, with the face in a box. Lists are written at once.
    """
    place = order.root / "Manually_Annotated_Images"
    work: list[Work] = []
    for s, (split, faces) in enumerate(order.faces.items()):
        rows = _affectnet_rows(order, s, split)
        lines = [_line(faces, *row) for row in rows]
        if split == "train":
            write_lines(order.root / "training.csv", [_HEADER, *lines])
        else:
            write_lines(order.root / "validation.csv", lines)
        for k in range(0, len(rows), _BATCH):
            part = rows[k : k + _BATCH]
            call = partial(_portraits, faces, place, part, (order.seed, 2, s, k))
            work.append((len(part), call))
    return work


def landmarks_of(points: Floats) -> Floats:
    """The usual 68 landmarks of five points.

    Args:
        points: (5, 2) in pixels.

    Returns:
        (68, 2): eyes, nose tip and mouth corners as given, the rest of a plain face.
    """
    left, right, nose, low_left, low_right = points
    axes = _face_axes(left, right)
    unit, _, down = axes
    eyes = (left + right) / 2
    step = 0.2 * unit * down
    # In the order of iBUG 300-W.
    outline = _arc(axes, eyes + step, (1.15, 1.55), (180, 360), 17)
    left_brow = _arc(axes, left - step, (0.32, 0.12), (160, 20), 5)
    right_brow = _arc(axes, right - step, (0.32, 0.12), (160, 20), 5)
    bridge = eyes + np.linspace(0.1, 1, 4)[:, None] * (nose - eyes)
    nostrils = _arc(axes, nose + 0.08 * unit * down, (0.2, 0.08), (180, 360), 5)
    left_eye = _arc(axes, left, (0.17, 0.08), (180, -120), 6)
    right_eye = _arc(axes, right, (0.17, 0.08), (180, -120), 6)
    brows = [left_brow, right_brow]
    lips = _lip_landmarks(axes, low_left, low_right)
    return np.concatenate([outline, *brows, bridge, nostrils, left_eye, right_eye, *lips])


_Axes = tuple[float, Floats, Floats]
"""Distance of the eyes, and unit vectors to the face's right in the picture and to its chin."""


def _face_axes(left: Floats, right: Floats) -> _Axes:
    between = right - left
    unit = float(np.linalg.norm(between))
    return unit, between / unit, np.array([-between[1], between[0]]) / unit


def _arc(
    axes: _Axes, middle: Floats, radii: tuple[float, float], span: tuple[int, int], count: int
) -> Floats:
    """Points on an ellipse along the face's axes; radii in eye distances, span in degrees."""
    unit, across, down = axes
    t = np.radians(np.linspace(*span, count))[:, None]
    offsets = radii[0] * np.cos(t) * across - radii[1] * np.sin(t) * down
    return np.asarray(middle + unit * offsets)


def _lip_landmarks(axes: _Axes, left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """The outer and the inner edge of the lips, from corner to corner."""
    half = float(np.linalg.norm(right - left)) / 2 / axes[0]
    mouth = (left + right) / 2
    outer = _arc(axes, mouth, (half, 0.2), (180, -150), 12)
    # The ellipse is level with the eyes, the mouth need not be.
    outer[0], outer[6] = left, right
    return outer, _arc(axes, mouth, (0.8 * half, 0.06), (180, -135), 8)


def _in_turn(rng: np.random.Generator, pool: Ints, count: int) -> Ints:
    """`count` faces of a pool: all of it, in a new order every round."""
    rounds = -(-count // len(pool))
    return np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:count]


def _jobs(faces: Faces, paths: Sequence[Path], chosen: Ints, look: Job) -> list[Work]:
    """Work for all paths; `look` says how they look, and their seeds follow from its seed."""
    work: list[Work] = []
    for k in range(0, len(paths), _BATCH):
        part = slice(k, k + _BATCH)
        job = replace(look, paths=paths[part], faces=chosen[part], seed=(*look.seed, k))
        work.append((len(job.paths), partial(paint, faces, job)))
    return work


def _lsd_folder(name: str) -> str:
    # The real set's own spelling.
    return "ANGRER" if name == "anger" else name.upper()


def _lsd_test(root: Path, place: Path, classes: Ints) -> list[Path]:
    """Write the test list and its answers; returns the paths of the pictures."""
    names = [f"{i}.jpg" for i in range(len(classes))]
    write_lines(root / "LSD_Challenge_test_set_release.txt", ["image,expression", *names])
    truth = table_of(names, {}, {_LSD: np.eye(len(_LSD.names))[classes]})
    write_labels(root, "test", truth[["image", *_LSD.columns]])
    return [place / name for name in names]


def _affectnet_rows(order: Order, s: int, split: str) -> list[Row]:
    """The rows of one split, in random order."""
    faces = order.faces[split]
    rng, count = order.rng(1, s), order.rows[split]
    counts = allocate(count, shares_of(_AFFECTNET_COUNTS[split]), _FEWEST)
    classes, chosen = drawn_lots(rng, faces, _AFFECTNET, counts)
    extra = round(count * _EXTRA) if split == "train" else 0
    mixed = rng.permutation(count + extra)
    classes = np.concatenate([classes, rng.choice(_NO_EXPRESSION, extra)])[mixed]
    chosen = np.concatenate([chosen, rng.integers(len(faces), size=extra)])[mixed]
    names = []
    for _ in range(len(classes)):
        names.append(f"{rng.integers(1, 1300)}/{rng.bytes(24).hex()}.jpg")
    sizes = rng.integers(120, 241, len(classes))
    return list(zip(names, sizes.tolist(), classes.tolist(), chosen.tolist(), strict=True))


def _portraits(faces: Faces, root: Path, rows: Sequence[Row], seed: tuple[int, ...]) -> None:
    """Write the pictures of rows."""
    rng = np.random.default_rng(seed)
    grain = noise_of(rng)
    for name, size, code, face in rows:
        picture = cut_out(faces.images[face], faces.points[face], size, _ZOOM)
        if code == _NO_FACE:
            # Upside down and cut through the middle: no face is seen.
            picture = np.roll(picture[::-1], size // 2, axis=(0, 1))
        folder((root / name).parent)
        write_jpeg(root / name, relight(picture, rng, grain), int(rng.integers(70, 96)))


def _line(faces: Faces, name: str, size: int, code: int, face: int) -> str:
    """A row of AffectNet: path, box, 68 landmarks, expression, valence, arousal."""
    edge = round((1 - _ZOOM) / 2 * size)
    side = round(_ZOOM * size)
    landmarks = landmarks_of(placed(faces.points[face], size, _ZOOM))
    text = ";".join(f"{value:.2f}" for value in landmarks.ravel())
    valence, arousal = faces.va[face] if code < _NO_EXPRESSION[0] else (_NO_VA, _NO_VA)
    return f"{name},{edge},{edge},{side},{side},{text},{code},{valence:.6g},{arousal:.6g}"
