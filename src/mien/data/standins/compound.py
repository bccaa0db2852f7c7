"""A stand-in for C-EXPR-DB: short films without labels, and the list of their frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.drawn.acting import EXPRESSIONS
from mien.data.standins.faces import Faces, check_enough
from mien.data.standins.order import LABELS, Order, Work, folder, write_lines
from mien.data.standins.pictures import alter, cut_out, noise_of
from mien.data.standins.states import Space, SyntheticClip, films, shares_of
from mien.files import wrap_os_errors
from mien.tasks import COMPOUNDS, TASKS, Floats

__all__ = ["c_expr_db"]

Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]
Image = NDArray[np.uint8]

_COUNTS: Final = (14445, 24915, 10780, 10637, 10535, 10112, 8878)
_HEADER: Final = "image_location," + ",".join(name.title() for name in TASKS["ce.abaw7"].names)
_WIDE, _HIGH, _RATE = 320, 240, 30
# Share of frames without a face.
_EMPTY: Final = 0.13
# Frames in a stretch in which nobody is seen.
_STRETCH: Final = 12
# Share of both parts in a face that shows a compound by itself.
_MIXED: Final = 0.3
# Labels to rest at, of each compound.
_TARGETS: Final = 60
# Side of the cut-out that a head is taken from, px.
_SIDE: Final = 170
_AROUND: Final = 0.68


@dataclass(frozen=True, slots=True)
class _Job:
    """A film to write.

    path: the file. frames: how many. seed: of all chance. people: how many are seen in its second
    half.
    """

    path: Path
    frames: int
    seed: tuple[int, ...]
    people: int


def c_expr_db(order: Order) -> list[Work]:
    """C-EXPR-DB: films in ``videos/`` and their list ``CER.txt``.

    The list of every fifth film has one row more than the film has frames; every fourteenth film
    has one frame more than rows.

    Args:
        order: What to make.

    Returns:
        The films to be made. Lists are written at once; the codes of the rows are in
        ``standin-labels/CER.txt``.
    """
    faces, rows = order.faces["test"], order.rows["test"]
    parts, pools = _targets(order.rng(1), faces)
    length = float(np.clip(rows / 6, 50, 467))
    hold = min(100, length / 2)
    shares = shares_of(_COUNTS)
    clips = films(order.rng(2), rows, shares, pools, parts, hold=hold, length=length)
    _write_lists(order.root, clips)
    space = Space(faces.expr, faces.va, faces.units)
    place = folder(order.root / "videos")
    work: list[Work] = []
    for i, film in enumerate(clips):
        frames = len(film) - (i % 5 == 1) + (i % 14 == 3)
        people = 2 if i % 4 == 2 else 1
        job = _Job(place / f"{i + 1:02d}.mp4", frames, (order.seed, 3, i), people)
        work.append((frames, partial(_write_film, faces, space, film, job)))
    return work


def _write_lists(root: Path, clips: Sequence[SyntheticClip]) -> None:
    """The list of frames, and the same with their codes."""
    listed = [_HEADER]
    answers = [_HEADER]
    for i, film in enumerate(clips, 1):
        for n, code in enumerate(film.plan.tolist(), 1):
            name = f"{i:02d}/{n:05d}.jpg"
            listed.append(f"{name},")
            answers.append(f"{name},{code}")
    write_lines(root / "CER.txt", listed)
    write_lines(root / LABELS / "CER.txt", answers)


def _targets(rng: np.random.Generator, faces: Faces) -> tuple[list[Floats], list[Ints]]:
    """Labels that a film may rest at, `parts` (N, K), and which of them show each compound.

    They are those of faces that show both parts, or, where there are too few, the mean of one face
    for each part.
    """
    labels = [faces.expr, faces.va, faces.units]
    chosen: list[list[Floats]] = []
    for pair in COMPOUNDS.values():
        shares = faces.expr[:, [EXPRESSIONS.index(name) for name in pair]]
        mixed = np.flatnonzero(shares.min(axis=1) >= _MIXED)
        if len(mixed) >= _TARGETS // 10:
            chosen.append([part[rng.choice(mixed, _TARGETS)] for part in labels])
            continue
        strong = [np.flatnonzero(column >= 0.5) for column in shares.T]
        check_enough(pair, strong)
        first, second = (rng.choice(pool, _TARGETS) for pool in strong)
        chosen.append([(part[first] + part[second]) / 2 for part in labels])
    parts = [np.concatenate(columns) for columns in zip(*chosen, strict=True)]
    pools = np.split(np.arange(len(COMPOUNDS) * _TARGETS), len(COMPOUNDS))
    return parts, pools


def _write_film(faces: Faces, space: Space, film: SyntheticClip, job: _Job) -> None:
    """Write one film; `film` says which faces its rows show."""
    rng = np.random.default_rng(job.seed)
    shown = [space.stand_ins(film, rng) for _ in range(job.people)]
    empty = _empty(rng, job.frames)
    scene, grain = _scene(rng), noise_of(rng)
    paths = [_head_path(rng, job.frames, k, job.people) for k in range(job.people)]
    heads: dict[int, Image] = {}
    with wrap_os_errors(job.path), av.open(str(job.path), "w", format="mp4") as container:
        # One thread, so that the same pictures make the same file.
        options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        stream = container.add_stream("libx264", rate=_RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = _WIDE, _HIGH, "yuv420p"
        stream.time_base = Fraction(1, _RATE)
        for i in range(job.frames):
            picture = scene.copy()
            for k in range(_people_seen(job, i, empty)):
                # A film may have one frame more than rows.
                face = int(shown[k][min(i, len(film) - 1)])
                if face not in heads:
                    heads[face] = cut_out(faces.images[face], faces.points[face], _SIDE, _AROUND)
                _put(picture, alter(heads[face], _SIDE, rng, grain), paths[k][i])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _people_seen(job: _Job, frame: int, empty: Mask) -> int:
    if empty[frame]:
        return 0
    # The second person comes in after the first half.
    return job.people if frame >= job.frames // 2 else 1


def _empty(rng: np.random.Generator, frames: int) -> Mask:
    """Which frames show nobody: some stretches of twelve, none of them in the first quarter."""
    stretches = -(-frames // _STRETCH)
    first = -(-stretches // 4)
    count = min(max(round(_EMPTY * stretches), 1), stretches - first)
    chosen = rng.choice(np.arange(first, stretches), count, replace=False)
    return np.asarray(np.isin(np.arange(frames) // _STRETCH, chosen))


def _scene(rng: np.random.Generator) -> Image:
    """A room out of focus, RGB (240, 320, 3)."""
    wall = rng.uniform(60, 180) + rng.uniform(-15, 15, 3)
    light = rng.uniform(-35, 35, (6, 8, 1))
    tint = rng.uniform(-8, 8, (6, 8, 3))
    spots = (wall + light + tint).astype(np.float32)
    scene = cv2.resize(spots, (_WIDE, _HIGH), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(scene, 0, 255).astype(np.uint8))


def _head_path(rng: np.random.Generator, frames: int, k: int, people: int) -> Floats:
    """Where the head of person k is (frames, 3): x and y of its middle and its width, px."""
    periods = rng.uniform(150, 500, 3)
    phases = rng.uniform(0, 2 * np.pi, 3)
    turn = 2 * np.pi * np.arange(frames)[:, None] / periods + phases
    width = 165 if people == 1 else 135
    middle = (_WIDE * (2 * k + 1) / (2 * people), _HIGH / 2, width)
    return np.asarray(middle + np.sin(turn) * (_WIDE / 8 / people, 12, 12))


def _put(picture: Image, head: Image, place: Floats) -> None:
    """Lay a head over the picture, with soft edges."""
    x, y, width = place
    scale = width / _SIDE
    matrix = np.array([[scale, 0, x - width / 2], [0, scale, y - width / 2]])
    size = (_WIDE, _HIGH)
    moved = cv2.warpAffine(
        head, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    share = cv2.warpAffine(_SOFT, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    picture[:] = (picture + share * (moved.astype(np.float32) - picture)).astype(np.uint8)


def _soft_ellipse() -> NDArray[np.float32]:
    """1 inside, 0 outside, and a ramp between."""
    v, u = np.mgrid[:_SIDE, :_SIDE] / _SIDE - 0.5
    return np.asarray(np.clip((1 - np.hypot(u / 0.46, v / 0.5)) / 0.12, 0, 1), np.float32)


_SOFT: Final = _soft_ellipse()
