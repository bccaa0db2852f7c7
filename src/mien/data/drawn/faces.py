"""Drawn faces: label tables of any size whose every label is known, because the picture was drawn from it.

Expressions are prototypes of action units after EMFACS (Friesen & Ekman 1983), of some strength, with a few stray units on
top; ``other`` is a set of units that is no prototype. All labels follow from what is drawn in the end:

- ``au.abaw12``: 1 where the activation reaches `PRESENT`, else 0; ``au.blendshapes``: the activations, 0..1;
- ``va``: `valence_arousal`, a smooth function of the units and of how wide awake the eyes are;
- ``expr.*``: one-hot. Faces only play expressions of the task; in films, moments without one are neutral, or not annotated
  where the task has no neutral.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.drawn.geometry import UNITS, Colour, Person, Portrayal, Shot, five_points
from mien.data.drawn.painter import draw
from mien.errors import DataError
from mien.tasks import TASKS, Floats, Task

__all__ = [
    "EXPRESSIONS",
    "PRESENT",
    "PROTOTYPES",
    "drawn_person",
    "drawn_video",
    "load_drawn",
    "load_drawn_videos",
    "portray",
    "valence_arousal",
]

PRESENT: Final = 0.3
"""The activation from which a unit counts as present."""

PROTOTYPES: Final[dict[str, dict[str, float]]] = {
    "neutral": {},
    "anger": {"AU04": 1.0, "AU05": 0.5, "AU07": 0.6, "AU23": 0.9, "AU24": 0.4},
    "contempt": {"AU12": 0.75, "AU14": 1.0},  # on one side
    "disgust": {"AU09": 1.0, "AU10": 0.9, "AU17": 0.4},
    "fear": {"AU01": 0.9, "AU02": 0.4, "AU04": 0.6, "AU05": 0.9, "AU20": 0.9, "AU25": 0.5},
    "happiness": {"AU06": 0.8, "AU12": 1.0, "AU25": 0.5},
    "sadness": {"AU01": 0.9, "AU04": 0.6, "AU15": 1.0, "AU17": 0.5},
    "surprise": {"AU01": 0.9, "AU02": 0.9, "AU05": 0.8, "AU25": 0.8, "AU26": 0.9},
}
"""Expression -> share of its strength that each unit gets."""

EXPRESSIONS: Final = (*PROTOTYPES, "other")
_DEFAULT: Final = (TASKS["expr.abaw8"], TASKS["va"], TASKS["au.abaw12"])
_NOISE: Final = UNITS[:-1]  # all but the blink

_VALENCE: Final = {
    "AU01": -0.2, "AU02": 0.3, "AU04": -0.5, "AU06": 0.5, "AU09": -0.7, "AU10": -0.4, "AU12": 1.3, "AU14": -0.8, "AU15": -0.9,
    "AU17": -0.3, "AU20": -0.5, "AU23": -0.3, "AU24": -0.3, "AU26": 0.3,
}  # fmt: skip
_AROUSAL: Final = {
    "AU01": -0.3, "AU02": 0.4, "AU04": 0.4, "AU05": 0.9, "AU07": 0.4, "AU09": 0.4, "AU10": 0.3, "AU12": 0.35, "AU15": -0.6, "AU17": -0.2,
    "AU20": 0.4, "AU23": 0.4, "AU25": 0.2, "AU26": 0.5, "AU45": -0.7,
}  # fmt: skip


def valence_arousal(units: Floats, alert: Floats) -> Floats:
    """Valence and arousal (N, 2), -1..1, of activations (N, 21) in the order of `UNITS` and of `alert` (N,), -1..1.

    A weighted sum of the units goes through tanh; arousal starts at -0.35 and gains 0.4 x `alert`.

    >>> smile = np.array([[1.0 if name in ("AU06", "AU12") else 0.0 for name in UNITS]])
    >>> valence_arousal(smile, np.zeros(1)).round(2).tolist()
    [[0.95, 0.0]]
    """
    weights = np.array([[row.get(name, 0.0) for row in (_VALENCE, _AROUSAL)] for name in UNITS])
    return np.asarray(
        np.tanh(units @ weights + np.stack([np.zeros_like(alert), 0.4 * alert - 0.35], axis=1))
    )


def _settle(units: Floats) -> Floats:
    """Activations (N, 21) that can go together: some units part the lips, and opposites weaken each other; smooth in all of them."""
    u = dict(zip(UNITS, np.clip(units, 0, 1).T, strict=True))
    u["AU25"] = np.max([u["AU25"], u["AU26"], 0.7 * u["AU16"], 0.5 * u["AU10"]], axis=0)
    for weaker, stronger in (
        ("AU24", "AU25"),
        ("AU28", "AU25"),
        ("AU18", "AU20"),
        ("AU23", "AU26"),
        ("AU05", "AU45"),
        ("AU07", "AU05"),
    ):
        u[weaker] = u[weaker] * (1 - u[stronger] * (0.5 if weaker == "AU07" else 1.0))
    return np.stack([u[name] for name in UNITS], axis=1)


def _vector(units: dict[str, float]) -> Floats:
    return np.array([units.get(name, 0.0) for name in UNITS])


def _play(rng: np.random.Generator, expression: str) -> Floats:
    """Activations (21,) of an expression at full strength."""
    if expression != "other":
        return _vector(PROTOTYPES[expression])
    while True:
        chosen = set(rng.choice(_NOISE, 3, replace=False).tolist())
        if all(len(chosen & set(prototype)) < 2 for prototype in PROTOTYPES.values()):
            return _vector({name: rng.uniform(0.6, 1.0) for name in sorted(chosen)})


def _lean(rng: np.random.Generator, expression: str) -> float:
    side = 1.0 if rng.random() < 0.5 else -1.0
    return side * (rng.uniform(0.85, 1.0) if expression == "contempt" else rng.uniform(0.0, 0.2))


def _shade(rng: np.random.Generator, *palette: Colour) -> Colour:
    """A colour between two neighbours of a palette."""
    at = rng.uniform(0, len(palette) - 1)
    k = min(int(at), len(palette) - 2)
    r, g, b = (x + (at - k) * (y - x) for x, y in zip(palette[k], palette[k + 1], strict=True))
    return r, g, b


def drawn_person(rng: np.random.Generator) -> Person:
    """Someone who was never born."""
    skin = _shade(
        rng, (246, 214, 192), (232, 188, 156), (208, 156, 118), (158, 108, 78), (104, 70, 52)
    )
    hair = _shade(rng, (30, 24, 22), (62, 42, 30), (112, 72, 42), (190, 150, 92), (150, 146, 142))
    bearded = rng.random() < 0.2
    n = rng.uniform(-1, 1, 14)
    return Person(
        skin=skin, hair=hair, iris=_shade(rng, (62, 40, 24), (104, 78, 46), (96, 122, 84), (92, 130, 160)),
        width=0.75 + 0.05 * n[0], jaw=0.8 + 0.07 * n[1], chin=1.15 + 0.05 * n[2],
        eye_x=0.345 + 0.02 * n[3], eye_w=0.165 + 0.012 * n[4], eye_h=0.087 + 0.006 * n[5],
        brow_y=-0.25 + 0.02 * n[6], brow_t=0.066 + 0.022 * n[7], nose_w=0.16 + 0.03 * n[8], nose_y=0.46 + 0.03 * n[9],
        mouth_w=0.27 + 0.025 * n[10], mouth_y=0.76 + 0.02 * n[11], lip=0.058 + 0.014 * n[12], lip_red=0.55 + 0.2 * n[13],
        age=float(rng.beta(1, 2.5)), beard=float(rng.uniform(0.2, 0.65)) if bearded else 0.0,
        style=int(rng.choice(2 if bearded else 4, p=[0.3, 0.7] if bearded else [0.05, 0.35, 0.3, 0.3])),
        glasses=bool(rng.random() < 0.15),
    )  # fmt: skip


def _shot(rng: np.random.Generator) -> Shot:
    some = rng.random(6)
    turn, place = rng.normal(size=3), rng.uniform(-1, 1, 9)
    return Shot(
        yaw=float(np.clip(9 * turn[0], -25, 25)), pitch=float(np.clip(5 * turn[1], -14, 14)), roll=float(np.clip(5 * turn[2], -15, 15)),
        scale=0.98 + 0.07 * place[0], x=0.03 * place[1], y=0.02 * place[2],
        light=(0.5 * place[3], 0.25 * place[4]), gain=0.95 + 0.25 * place[5], warmth=1 + 0.1 * place[6],
        back=(_any_colour(rng), _any_colour(rng)), gaze=(0.6 * place[7], 0.5 * place[8]),
        noise=float(rng.uniform(2, 9)) if some[0] < 0.5 else 0.0, blur=float(rng.uniform(0.003, 0.011)) if some[1] < 0.25 else 0.0,
        jpeg=int(rng.integers(40, 95)) if some[2] < 0.5 else 0, patch=_patch(rng) if some[3] < 0.06 else None,
        seed=int(rng.integers(2**31)),
    )  # fmt: skip


def _any_colour(rng: np.random.Generator) -> Colour:
    r, g, b = rng.uniform(30, 225) + rng.uniform(-30, 30, 3)
    return float(r), float(g), float(b)


def _patch(rng: np.random.Generator) -> tuple[float, float, float, float]:
    wide, high = rng.uniform(0.1, 0.35, 2)
    return (
        float(rng.uniform(0, 1 - wide)),
        float(rng.uniform(0, 1 - high)),
        float(wide),
        float(high),
    )


def portray(rng: np.random.Generator, person: Person, expression: str) -> Portrayal:
    """One picture of `person`, who plays one of `EXPRESSIONS`."""
    units = _play(rng, expression) * rng.uniform(0.5, 1.0)
    stray = rng.choice(len(_NOISE), rng.integers(0, 4), replace=False)
    units[stray] = np.maximum(units[stray], rng.uniform(0.1, 0.5, len(stray)))
    if rng.random() < 0.06:
        units[-1] = rng.uniform(0.5, 1.0)
    settled = tuple(_settle(units[None])[0].tolist())
    return Portrayal(
        person, _shot(rng), settled, float(rng.uniform(-1, 1)), _lean(rng, expression), expression
    )


def _smooth(x: Floats) -> Floats:
    """0 below 0, 1 above 1, and a smooth step between."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))


def _bump(t: Floats, start: float, rise: float, hold: float, fall: float) -> Floats:
    return np.asarray(
        _smooth((t - start) / rise) * _smooth((start + rise + hold + fall - t) / fall)
    )


def _sway(rng: np.random.Generator, t: Floats, size: float) -> Floats:
    """A slow movement around 0 (F,): two sines of at most 0.4 Hz."""
    f, phase = rng.uniform(0.08, 0.4, 2), rng.uniform(0, 2 * np.pi, 2)
    return np.asarray(size * np.sin(2 * np.pi * f * t[:, None] + phase) @ (0.6, 0.4))


def _acted(
    rng: np.random.Generator, t: Floats, expressions: Sequence[str]
) -> tuple[Floats, Floats, list[str]]:
    """Activations (F, 21), lean (F,) and expression per instant: one expression after the other, stray units, blinks."""
    units, lean, names = (
        np.zeros((len(t), len(UNITS))),
        np.zeros(len(t)),
        np.full(len(t), "neutral", dtype=object),
    )
    played, at = [name for name in expressions if name != "neutral"], rng.uniform(0.0, 0.6)
    while played and at < t[-1]:
        name, (rise, hold, fall) = (
            str(played[rng.integers(len(played))]),
            rng.uniform((0.4, 0.6, 0.5), (0.8, 2.2, 1.0)),
        )
        level = rng.uniform(0.55, 1.0) * _bump(t, at, rise, hold, fall)
        units += level[:, None] * _play(rng, name)
        lean += _lean(rng, name) * level
        names[level >= PRESENT] = name
        at += rise + hold + fall + rng.uniform(0.2, 1.2)
    for _ in range(rng.poisson(0.5 * t[-1])):
        rise, hold, fall = rng.uniform(0.4, 1.0, 3)
        units[:, rng.integers(len(_NOISE))] += rng.uniform(0.1, 0.6) * _bump(
            t, rng.uniform(-1, t[-1]), rise, hold, fall
        )
    at = rng.uniform(0.5, 4)
    while at < t[-1]:
        units[:, -1] += _bump(t, at, 0.12, 0.04, 0.16)
        at += rng.uniform(2, 5)
    return _settle(units), lean, names.tolist()


def drawn_video(
    frames: int,
    seed: int | Sequence[int],
    fps: float = 25.0,
    expressions: Sequence[str] = EXPRESSIONS,
) -> Iterator[Portrayal]:
    """The portrayals of a film of one person, in order; expressions come and go within tenths of a second, the head sways.

    A moment is neutral while its expression's strength is below `PRESENT`. Raises DataError for less than one frame or frame rate 0.
    """
    if frames < 1 or fps <= 0:
        raise DataError(
            f"a drawn video of {frames} frames at {fps:g} frames/s; ask for at least one frame and a rate above 0"
        )
    rng = np.random.default_rng(seed)
    person, shot, t = drawn_person(rng), replace(_shot(rng), patch=None), np.arange(frames) / fps
    units, lean, names = _acted(rng, t, expressions)
    yaw, pitch, roll, x, y, alert, side, up = (
        _sway(rng, t, size) for size in (10, 5, 4, 0.02, 0.015, 0.9, 0.5, 0.4)
    )
    for i in range(frames):
        moved = replace(
            shot, yaw=shot.yaw / 2 + yaw[i], pitch=shot.pitch / 2 + pitch[i], roll=shot.roll / 2 + roll[i], x=shot.x + x[i],
            y=shot.y + y[i], gaze=(float(side[i]), float(up[i])), seed=shot.seed + i,
        )  # fmt: skip
        yield Portrayal(
            person, moved, tuple(units[i].tolist()), float(alert[i]), float(lean[i]), names[i]
        )


def _check_tasks(tasks: Sequence[Task]) -> None:
    """Raises DataError for a task that cannot be drawn and for two that share a column."""
    columns: list[str] = []
    for one in tasks:
        names = {"expr": EXPRESSIONS, "va": TASKS["va"].names, "au": UNITS}.get(one.family, ())
        if missing := [name for name in one.names if name not in names]:
            raise DataError(
                f"drawn faces cannot show {', '.join(missing)} of {one.key}; choose expr.*, va or au.* tasks"
            )
        if shared := set(columns) & set(one.columns):
            raise DataError(
                f"{one.key} shares the column {min(shared)} with another task of the table; ask for them in tables of their own"
            )
        columns += one.columns


def _expressions(tasks: Sequence[Task]) -> tuple[str, ...]:
    return next((one.names for one in tasks if one.family == "expr"), EXPRESSIONS)


def _labels(portrayals: list[Portrayal], tasks: Sequence[Task]) -> dict[str, Floats]:
    units = np.array([p.units for p in portrayals]).reshape(-1, len(UNITS))
    columns: dict[str, Floats] = {}
    for one in tasks:
        if one.family == "va":
            values = valence_arousal(units, np.array([p.alert for p in portrayals]))
        elif one.family == "au":
            shown = units[:, one.column_index(UNITS)]
            values = (
                shown if one.key == AU_BLENDSHAPES.key else (shown >= PRESENT).astype(np.float64)
            )
        else:
            played = np.array([p.expression for p in portrayals], dtype=object)
            values = (played[:, None] == np.array(one.names, dtype=object)).astype(np.float64)
            values[values.sum(axis=1) == 0] = np.nan
        columns |= dict(zip(one.columns, values.T, strict=True))
    return columns


def _table(
    portrayals: list[Portrayal], size: int, tasks: Sequence[Task], facts: dict[str, Any]
) -> pd.DataFrame:
    table = {
        "image": [draw(p, size) for p in portrayals],
        **facts,
        # Pixel centres lie at whole numbers.
        "points": [(five_points(p) * size - 0.5).ravel().tolist() for p in portrayals],
        **_labels(portrayals, tasks),
    }
    return pd.DataFrame(table)


def _check(seed: int, size: int, **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise DataError(f"{name} is {value}; ask for at least 1 of drawn data")
    if seed < 0 or size < 16:
        raise DataError(
            f"drawn faces of seed {seed} and size {size}; the seed must be 0 or more and the size at least 16 pixels"
        )


def _parts(count: int, split: str | None) -> list[tuple[str, int]]:
    """Splits and how many of `count` each gets."""
    parts = (
        [(split, count)]
        if split is not None
        else [("train", count - count // 5), ("val", count // 5)]
    )
    return [(name, share) for name, share in parts if share]


def _key(seed: int, split: str) -> tuple[int, int]:
    """Seed of everything in a split: splits must not share anybody."""
    return seed, zlib.crc32(split.encode())


def _stills(faces: int, split: str, seed: int, size: int, tasks: Sequence[Task]) -> pd.DataFrame:
    key, expressions, subjects = _key(seed, split), _expressions(tasks), max(round(faces / 20), 1)
    people = [drawn_person(np.random.default_rng((*key, 0, k))) for k in range(subjects)]
    rounds = range(-(-faces // len(expressions)))
    order = np.concatenate(
        [np.random.default_rng((*key, 1, k)).permutation(len(expressions)) for k in rounds]
    )
    played = [
        portray(np.random.default_rng((*key, 2, i)), people[i % subjects], expressions[order[i]])
        for i in range(faces)
    ]
    who = [f"{split}-{seed}-{i % subjects}" for i in range(faces)]
    return _table(
        played, size, tasks, {"video": None, "frame": np.nan, "subject": who, "split": split}
    )


def load_drawn(
    count: int,
    seed: int = 0,
    split: str | None = None,
    size: int = 64,
    tasks: Sequence[Task] = _DEFAULT,
) -> pd.DataFrame:
    """The label table of `count` drawn faces: RGB uint8 (size, size, 3), about 20 of every subject, all expressions equally often.

    split: every row's split. None gives four fifths ``train`` and one fifth ``val``. With one seed, two splits share no subject.
    tasks: of the families ``expr``, ``va`` and ``au``.
    Raises DataError for tasks that cannot be drawn or share columns, and for sizes and counts that make no sense.
    """
    _check(seed, size, count=count)
    _check_tasks(tasks)
    return pd.concat(
        [_stills(faces, name, seed, size, tasks) for name, faces in _parts(count, split)],
        ignore_index=True,
    )


def load_drawn_videos(
    videos: int,
    frames: int,
    *,
    seed: int = 0,
    size: int = 64,
    tasks: Sequence[Task] = _DEFAULT,
    split: str | None = None,
) -> pd.DataFrame:
    """The label table of drawn films, one subject each, `frames` rows each (25 frames/s); otherwise as `load_drawn`."""
    _check(seed, size, videos=videos, frames=frames)
    _check_tasks(tasks)
    parts = []
    for name, films in _parts(videos, split):
        for k in range(films):
            film = f"{name}-{seed}-film{k}"
            facts = {
                "video": film,
                "frame": np.arange(frames, dtype=np.float64),
                "subject": film,
                "split": name,
            }
            played = drawn_video(frames, (*_key(seed, name), 3, k), expressions=_expressions(tasks))
            parts.append(_table(list(played), size, tasks, facts))
    return pd.concat(parts, ignore_index=True)
