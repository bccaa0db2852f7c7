"""Stand-ins for sets of single pictures: the synthetic faces of ABAW4, AffectNet and RAF-DB."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.data.label_table import table_of
from mien.data.standins.affwild import EXPR_COUNTS
from mien.data.standins.faces import Faces
from mien.data.standins.order import Order, Work, folder, write_labels, write_lines
from mien.data.standins.pictures import Job, cut_out, noise_of, paint, placed, relight, write_jpeg
from mien.data.standins.states import settled, shares_of
from mien.tasks import TASKS, Floats

__all__ = ["affectnet", "drawn_lots", "landmarks_of", "lsd", "raf_db"]

Ints = NDArray[np.intp]

_BATCH: Final = 256  # pictures in a piece of work

_LSD: Final = TASKS["expr.lsd6"]
_LSD_TRAIN: Final = (18286, 15150, 10923, 73285, 144631, 14976)
# The real shares of the validation and test faces are not published; those of the same classes in Aff-Wild2 stand in for them.
_LSD_REAL: Final = tuple(
    EXPR_COUNTS["val"][TASKS["expr.abaw8"].names.index(name)] for name in _LSD.names
)

_RAF_CODES: Final = (
    "surprise",
    "fear",
    "disgust",
    "happiness",
    "sadness",
    "anger",
    "neutral",
)  # 1 to 7
_RAF_COUNTS: Final = {
    "train": (1290, 281, 717, 4772, 1982, 705, 2524),
    "test": (329, 74, 160, 1185, 478, 162, 680),
}

_AFFECTNET: Final = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)  # 0 to 7
_AFFECTNET_TRAIN: Final = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
_NO_EXPRESSION: Final = (8, 9, 10)  # none, uncertain, no face
_EXTRA: Final = 0.08
_NO_VA: Final = -2.0
_HEADER: Final = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
_ZOOM: Final = 0.72


def drawn_lots(
    rng: np.random.Generator, faces: Faces, names: Sequence[str], counts: Ints
) -> tuple[Ints, Ints]:
    """Class and face of every row, in random order; a face comes again only when all of its class have come."""
    chosen = [
        _in_turn(rng, pool, int(count))
        for pool, count in zip(faces.showing(names), counts, strict=True)
    ]
    order = rng.permutation(int(counts.sum()))
    return np.repeat(np.arange(len(names)), counts)[order], np.concatenate(chosen)[order]


def _in_turn(rng: np.random.Generator, pool: Ints, count: int) -> Ints:
    return np.concatenate([rng.permutation(pool) for _ in range(-(-count // len(pool)))])[:count]


def _jobs(faces: Faces, paths: list[Path], chosen: Ints, like: Job) -> list[Work]:
    """Work for all of `paths`; `like` says how they look, and its seed is where theirs come from."""
    cuts = range(0, len(paths), _BATCH)
    jobs = [
        replace(
            like, paths=paths[k : k + _BATCH], faces=chosen[k : k + _BATCH], seed=(*like.seed, k)
        )
        for k in cuts
    ]
    return [(len(job.paths), partial(paint, faces, job)) for job in jobs]


def lsd(order: Order) -> list[Work]:
    """Class folders and the test list; the test's answers are in ``standin-labels/test.csv``."""
    places = {
        "train": "training_set_synthetic_images",
        "val": "validation_set_real_images",
        "test": "lsd_test_data",
    }
    work: list[Work] = []
    for s, (split, faces) in enumerate(order.faces.items()):
        counts = settled(
            order.rows[split], shares_of(_LSD_TRAIN if split == "train" else _LSD_REAL), 3
        )
        classes, chosen = drawn_lots(order.rng(1, s), faces, _LSD.names, counts)
        root = folder(order.root / places[split])
        if split == "test":
            names = [f"{i}.jpg" for i in range(len(classes))]
            write_lines(
                order.root / "LSD_Challenge_test_set_release.txt", ["image,expression", *names]
            )
            truth = table_of(names, {}, {_LSD: np.eye(len(_LSD.names))[classes]})
            write_labels(order.root, "test", truth[["image", *_LSD.columns]])
            paths = [root / name for name in names]
        else:
            folders = [
                folder(root / {"anger": "ANGRER"}.get(name, name.upper())) for name in _LSD.names
            ]
            paths = [folders[k] / f"{i}.jpg" for i, k in enumerate(classes.tolist())]
        look = Job([], np.empty(0, np.intp), (order.seed, 2, s), coarse=split == "train", lamp=0.0)
        work += _jobs(faces, paths, chosen, look)
    return work


def raf_db(order: Order) -> list[Work]:
    """``EmoLabel/list_patition_label.txt`` (codes 1 to 7) and the aligned pictures of 100 px."""
    lines: list[str] = []
    work: list[Work] = []
    root = folder(order.root / "Image" / "aligned")
    for s, (split, faces) in enumerate(order.faces.items()):
        counts = settled(order.rows[split], shares_of(_RAF_COUNTS[split]), 3)
        classes, chosen = drawn_lots(order.rng(1, s), faces, _RAF_CODES, counts)
        names = [f"{split}_{i + 1:05d}" for i in range(len(classes))]
        lines += [f"{name}.jpg {k + 1}" for name, k in zip(names, classes.tolist(), strict=True)]
        look = Job([], np.empty(0, np.intp), (order.seed, 2, s), size=100, lamp=0.0)
        work += _jobs(faces, [root / f"{name}_aligned.jpg" for name in names], chosen, look)
    write_lines(order.root / "EmoLabel" / "list_patition_label.txt", lines)
    return work


def affectnet(order: Order) -> list[Work]:
    """``training.csv`` and ``validation.csv`` (the latter without a header), and pictures with the face in a box.

    Beside the rows of the eight expressions stand, in training, a few without: codes 8 to 10, valence and arousal -2.
    """
    work: list[Work] = []
    for s, (split, faces) in enumerate(order.faces.items()):
        rng, count = order.rng(1, s), order.rows[split]
        counts = settled(count, shares_of(_AFFECTNET_TRAIN if split == "train" else (1,) * 8), 3)
        classes, chosen = drawn_lots(rng, faces, _AFFECTNET, counts)
        extra = round(count * _EXTRA) if split == "train" else 0
        order_of = rng.permutation(count + extra)
        classes = np.concatenate([classes, rng.choice(_NO_EXPRESSION, extra)])[order_of]
        chosen = np.concatenate([chosen, rng.integers(len(faces), size=extra)])[order_of]
        names = [f"{rng.integers(1, 1300)}/{rng.bytes(24).hex()}.jpg" for _ in range(len(classes))]
        sizes = rng.integers(120, 241, len(classes))
        rows = list(zip(names, sizes.tolist(), classes.tolist(), chosen.tolist(), strict=True))
        lines = [_line(faces, *row) for row in rows]
        write_lines(
            order.root / f"{'training' if split == 'train' else 'validation'}.csv",
            [*([_HEADER] if split == "train" else []), *lines],
        )
        root = order.root / "Manually_Annotated_Images"
        for k in range(0, len(rows), _BATCH):
            part = rows[k : k + _BATCH]
            work.append((len(part), partial(_portraits, faces, root, part, (order.seed, 2, s, k))))
    return work


def _portraits(
    faces: Faces, root: Path, rows: list[tuple[str, int, int, int]], seed: tuple[int, ...]
) -> None:
    """Pictures of rows of path, size, code and face."""
    rng = np.random.default_rng(seed)
    grain = noise_of(rng)
    for name, size, code, face in rows:
        picture = cut_out(faces.images[face], faces.points[face], size, _ZOOM)
        if code == _NO_EXPRESSION[-1]:  # nobody is seen
            picture = np.roll(picture[::-1], size // 2, axis=(0, 1))
        folder((root / name).parent)
        write_jpeg(root / name, relight(picture, rng, grain), int(rng.integers(70, 96)))


def _line(faces: Faces, name: str, size: int, code: int, face: int) -> str:
    """A row of AffectNet: path, box, 68 landmarks, expression, valence, arousal."""
    edge, side = round((1 - _ZOOM) / 2 * size), round(_ZOOM * size)
    marks = ";".join(
        f"{value:.2f}" for value in landmarks_of(placed(faces.points[face], size, _ZOOM)).ravel()
    )
    v, a = faces.va[face] if code < _NO_EXPRESSION[0] else (_NO_VA, _NO_VA)
    return f"{name},{edge},{edge},{side},{side},{marks},{code},{v:.6g},{a:.6g}"


def landmarks_of(points: Floats) -> Floats:
    """The usual 68 landmarks (68, 2) of five points (5, 2): eyes, nose tip and mouth corners as given, the rest of a plain face."""
    left, right, nose, low_left, low_right = points
    unit = float(np.linalg.norm(right - left))
    x, y = (right - left) / unit, np.array([-(right - left)[1], (right - left)[0]]) / unit
    eyes, mouth = (left + right) / 2, (low_left + low_right) / 2

    def arc(middle: Floats, wide: float, high: float, way: tuple[int, int], count: int) -> Floats:
        t = np.radians(np.linspace(*way, count))
        return np.asarray(
            middle + unit * (wide * np.cos(t)[:, None] * x - high * np.sin(t)[:, None] * y)
        )

    jaw = arc(eyes + 0.2 * unit * y, 1.15, 1.55, (180, 360), 17)
    brows = [arc(eye - 0.2 * unit * y, 0.32, 0.12, (160, 20), 5) for eye in (left, right)]
    bridge = eyes + np.linspace(0.1, 1, 4)[:, None] * (nose - eyes)
    base = arc(nose + 0.08 * unit * y, 0.2, 0.08, (180, 360), 5)
    rims = [arc(eye, 0.17, 0.08, (180, -120), 6) for eye in (left, right)]
    half = float(np.linalg.norm(low_right - low_left)) / 2 / unit
    outer, inner = (
        arc(mouth, half, 0.2, (180, -150), 12),
        arc(mouth, 0.8 * half, 0.06, (180, -135), 8),
    )
    outer[0], outer[6] = low_left, low_right
    return np.concatenate([jaw, *brows, bridge, base, *rims, outer, inner])
