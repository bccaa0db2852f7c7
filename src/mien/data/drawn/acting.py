"""What drawn people play: expressions as action units, in single pictures and in films.

Expressions are prototypes of action units after EMFACS (Friesen & Ekman 1983), of some strength,
with a few stray units on top; ``other`` is a set of units that is no prototype.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from mien.data.drawn.people import drawn_person, drawn_shot
from mien.data.drawn.portrayal import UNITS, Person, Portrayal, Shot
from mien.errors import DataError
from mien.tasks import Floats

__all__ = [
    "EXPRESSIONS",
    "PRESENT",
    "PROTOTYPES",
    "drawn_video",
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
"""The expressions that can be played."""
# Units that may be added by chance: all but the blink.
_STRAY: Final = UNITS[:-1]


# Largest movement around the middle: degrees, shares of the picture, alertness, gaze.
_SWAYS: Final = {
    "yaw": 10,
    "pitch": 5,
    "roll": 4,
    "x": 0.02,
    "y": 0.015,
    "alert": 0.9,
    "gaze_x": 0.5,
    "gaze_y": 0.4,
}

_VALENCE: Final = {
    "AU01": -0.2,
    "AU02": 0.3,
    "AU04": -0.5,
    "AU06": 0.5,
    "AU09": -0.7,
    "AU10": -0.4,
    "AU12": 1.3,
    "AU14": -0.8,
    "AU15": -0.9,
    "AU17": -0.3,
    "AU20": -0.5,
    "AU23": -0.3,
    "AU24": -0.3,
    "AU26": 0.3,
}
_AROUSAL: Final = {
    "AU01": -0.3,
    "AU02": 0.4,
    "AU04": 0.4,
    "AU05": 0.9,
    "AU07": 0.4,
    "AU09": 0.4,
    "AU10": 0.3,
    "AU12": 0.35,
    "AU15": -0.6,
    "AU17": -0.2,
    "AU20": 0.4,
    "AU23": 0.4,
    "AU25": 0.2,
    "AU26": 0.5,
    "AU45": -0.7,
}
# The first unit of a pair is weakened by the second, by this share at full activation.
_OPPOSITES: Final = (
    ("AU24", "AU25", 1.0),
    ("AU28", "AU25", 1.0),
    ("AU18", "AU20", 1.0),
    ("AU23", "AU26", 1.0),
    ("AU05", "AU45", 1.0),
    ("AU07", "AU05", 0.5),
)


def valence_arousal(units: Floats, alert: Floats) -> Floats:
    """Valence and arousal of what is drawn.

    A weighted sum of the units goes through tanh; arousal starts at -0.35 and gains 0.4 x `alert`.

    Args:
        units: Activations (N, 21) in the order of `UNITS`.
        alert: (N,), -1..1.

    Returns:
        (N, 2), -1..1.

    >>> smile = np.array([[1.0 if name in ("AU06", "AU12") else 0.0 for name in UNITS]])
    >>> valence_arousal(smile, np.zeros(1)).round(2).tolist()
    [[0.95, 0.0]]
    """
    weights = np.array([(_VALENCE.get(name, 0.0), _AROUSAL.get(name, 0.0)) for name in UNITS])
    offsets = np.stack([np.zeros_like(alert), 0.4 * alert - 0.35], axis=1)
    return np.asarray(np.tanh(units @ weights + offsets))


def portray(rng: np.random.Generator, person: Person, expression: str) -> Portrayal:
    """One picture of a person who plays an expression.

    Args:
        rng: Where the chance comes from.
        person: Who it is.
        expression: One of `EXPRESSIONS`.

    Returns:
        The expression at half to full strength, with up to three stray units and now and then a
        blink.
    """
    units = _play(rng, expression) * rng.uniform(0.5, 1.0)
    stray = rng.choice(len(_STRAY), rng.integers(0, 4), replace=False)
    units[stray] = np.maximum(units[stray], rng.uniform(0.1, 0.5, len(stray)))
    if rng.random() < 0.06:
        units[-1] = rng.uniform(0.5, 1.0)
    # Arguments are drawn in this order; another one would change every picture.
    return Portrayal(
        person,
        drawn_shot(rng),
        tuple(_settle(units[None])[0].tolist()),
        float(rng.uniform(-1, 1)),
        _lean(rng, expression),
        expression,
    )


def drawn_video(
    frames: int,
    seed: int | Sequence[int],
    fps: float = 25.0,
    expressions: Sequence[str] = EXPRESSIONS,
) -> Iterator[Portrayal]:
    """The portrayals of a film of one person.

    Expressions come and go within tenths of a second, and the head sways. A moment is neutral while
    its expression's strength is below `PRESENT`.

    Args:
        frames: Number of frames.
        seed: Of everything in the film.
        fps: Frames a second.
        expressions: What may be played.

    Yields:
        The portrayal of each frame, in order.

    Raises:
        DataError: For less than one frame, or a frame rate of 0.
    """
    if frames < 1 or fps <= 0:
        raise DataError(
            f"a drawn video of {frames} frames at {fps:g} frames/s; "
            "ask for at least one frame and a rate above 0"
        )
    rng = np.random.default_rng(seed)
    person = drawn_person(rng)
    shot = replace(drawn_shot(rng), patch=None)
    t = np.arange(frames) / fps
    units, lean, names = _acted(rng, t, expressions)
    # Films follow from the order of the draws, so it must stay.
    sways = {name: _sway(rng, t, size) for name, size in _SWAYS.items()}
    for i in range(frames):
        sway = {name: values[i] for name, values in sways.items()}
        activations = tuple(units[i].tolist())
        alert = float(sway["alert"])
        yield Portrayal(person, _moved(shot, sway, i), activations, alert, float(lean[i]), names[i])


def _moved(shot: Shot, sway: Mapping[str, float], frame: int) -> Shot:
    """The shot of one frame: the head turned half as far, plus what it sways."""
    gaze = (float(sway["gaze_x"]), float(sway["gaze_y"]))
    # Each frame has noise of its own.
    moved = replace(shot, gaze=gaze, seed=shot.seed + frame)
    moved = replace(moved, x=shot.x + sway["x"], y=shot.y + sway["y"])
    yaw = shot.yaw / 2 + sway["yaw"]
    pitch = shot.pitch / 2 + sway["pitch"]
    return replace(moved, yaw=yaw, pitch=pitch, roll=shot.roll / 2 + sway["roll"])


def _settle(units: Floats) -> Floats:
    """Activations (N, 21) that can go together; smooth in all of them.

    Some units part the lips, and opposites weaken each other.
    """
    by_name = dict(zip(UNITS, np.clip(units, 0, 1).T, strict=True))
    parting = [by_name["AU25"], by_name["AU26"], 0.7 * by_name["AU16"], 0.5 * by_name["AU10"]]
    by_name["AU25"] = np.max(parting, axis=0)
    for weaker, stronger, share in _OPPOSITES:
        by_name[weaker] = by_name[weaker] * (1 - by_name[stronger] * share)
    return np.stack([by_name[name] for name in UNITS], axis=1)


def _vector(units: dict[str, float]) -> Floats:
    """Activations (21,) in the order of `UNITS`."""
    return np.array([units.get(name, 0.0) for name in UNITS])


def _play(rng: np.random.Generator, expression: str) -> Floats:
    """Activations (21,) of an expression at full strength."""
    if expression != "other":
        return _vector(PROTOTYPES[expression])
    while True:
        chosen = set(rng.choice(_STRAY, 3, replace=False).tolist())
        # Two units of one prototype would be taken for that expression.
        if all(len(chosen & set(prototype)) < 2 for prototype in PROTOTYPES.values()):
            return _vector({name: rng.uniform(0.6, 1.0) for name in sorted(chosen)})


def _lean(rng: np.random.Generator, expression: str) -> float:
    """How one-sided the mouth is: nearly wholly in contempt, slightly else."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    if expression == "contempt":
        return side * rng.uniform(0.85, 1.0)
    return side * rng.uniform(0.0, 0.2)


def _acted(
    rng: np.random.Generator, t: Floats, expressions: Sequence[str]
) -> tuple[Floats, Floats, list[str]]:
    """Activations (F, 21), lean (F,) and expression per instant.

    One expression comes after the other, with stray units and blinks on top.
    """
    units = np.zeros((len(t), len(UNITS)))
    lean = np.zeros(len(t))
    names = np.full(len(t), "neutral", dtype=object)
    playable = [name for name in expressions if name != "neutral"]
    start = rng.uniform(0.0, 0.6)
    while playable and start < t[-1]:
        name = str(playable[rng.integers(len(playable))])
        rise, hold, fall = rng.uniform((0.4, 0.6, 0.5), (0.8, 2.2, 1.0))
        level = rng.uniform(0.55, 1.0) * _bump(t, start, rise, hold, fall)
        units += level[:, None] * _play(rng, name)
        lean += _lean(rng, name) * level
        names[level >= PRESENT] = name
        start += rise + hold + fall + rng.uniform(0.2, 1.2)
    _add_stray_units(rng, t, units)
    _add_blinks(rng, t, units)
    return _settle(units), lean, names.tolist()


def _add_stray_units(rng: np.random.Generator, t: Floats, units: Floats) -> None:
    """Single units that come and go, about one in two seconds."""
    for _ in range(rng.poisson(0.5 * t[-1])):
        rise, hold, fall = rng.uniform(0.4, 1.0, 3)
        unit = rng.integers(len(_STRAY))
        strength = rng.uniform(0.1, 0.6)
        units[:, unit] += strength * _bump(t, rng.uniform(-1, t[-1]), rise, hold, fall)


def _add_blinks(rng: np.random.Generator, t: Floats, units: Floats) -> None:
    """Blinks of a third of a second, every two to five seconds."""
    start = rng.uniform(0.5, 4)
    while start < t[-1]:
        units[:, -1] += _bump(t, start, 0.12, 0.04, 0.16)
        start += rng.uniform(2, 5)


def _smooth_step(x: Floats) -> Floats:
    """0 below 0, 1 above 1, and a smooth step between."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))


def _bump(t: Floats, start: float, rise: float, hold: float, fall: float) -> Floats:
    """0, up to 1 within `rise` seconds from `start`, held, and back within `fall`."""
    end = start + rise + hold + fall
    return np.asarray(_smooth_step((t - start) / rise) * _smooth_step((end - t) / fall))


def _sway(rng: np.random.Generator, t: Floats, size: float) -> Floats:
    """A slow movement around 0 (F,): two sines of at most 0.4 Hz."""
    frequencies = rng.uniform(0.08, 0.4, 2)
    phases = rng.uniform(0, 2 * np.pi, 2)
    waves = np.sin(2 * np.pi * frequencies * t[:, None] + phases)
    return np.asarray(size * waves @ (0.6, 0.4))
