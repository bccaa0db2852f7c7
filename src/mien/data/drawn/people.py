"""Invented people, and how pictures of them are taken: everything of a portrayal that is chance."""

from dataclasses import replace
from typing import Final

import numpy as np

from mien.data.drawn.portrayal import Colour, Person, Shot

__all__ = ["drawn_person", "drawn_shot"]

_SKIN: Final = (
    (246, 214, 192),
    (232, 188, 156),
    (208, 156, 118),
    (158, 108, 78),
    (104, 70, 52),
)
_HAIR: Final = ((30, 24, 22), (62, 42, 30), (112, 72, 42), (190, 150, 92), (150, 146, 142))
_IRIS: Final = ((62, 40, 24), (104, 78, 46), (96, 122, 84), (92, 130, 160))
# Mean and largest difference from it.
_LENGTHS: Final = {
    "width": (0.75, 0.05),
    "jaw": (0.8, 0.07),
    "chin": (1.15, 0.05),
    "eye_x": (0.345, 0.02),
    "eye_w": (0.165, 0.012),
    "eye_h": (0.087, 0.006),
    "brow_y": (-0.25, 0.02),
    "brow_t": (0.066, 0.022),
    "nose_w": (0.16, 0.03),
    "nose_y": (0.46, 0.03),
    "mouth_w": (0.27, 0.025),
    "mouth_y": (0.76, 0.02),
    "lip": (0.058, 0.014),
    "lip_red": (0.55, 0.2),
}
# Chances of bald, short, full and long hair; a beard goes with bald or short.
_STYLES: Final = (0.05, 0.35, 0.3, 0.3)
_STYLES_WITH_BEARD: Final = (0.3, 0.7)


def drawn_person(rng: np.random.Generator) -> Person:
    """A random person.

    Args:
        rng: Where the chance comes from.

    Returns:
        A made-up person.
    """
    # Pictures follow from the order of the draws, so it must stay: the iris comes after `n`.
    skin = _shade(rng, _SKIN)
    hair = _shade(rng, _HAIR)
    bearded = rng.random() < 0.2
    n = rng.uniform(-1, 1, 14)
    lengths = {}
    for draw, (name, (mean, spread)) in zip(n, _LENGTHS.items(), strict=True):
        lengths[name] = mean + spread * draw
    iris = _shade(rng, _IRIS)
    age = float(rng.beta(1, 2.5))
    beard = float(rng.uniform(0.2, 0.65)) if bearded else 0.0
    styles = _STYLES_WITH_BEARD if bearded else _STYLES
    style = int(rng.choice(len(styles), p=styles))
    glasses = bool(rng.random() < 0.15)
    return Person(
        skin=skin,
        hair=hair,
        iris=iris,
        **lengths,
        age=age,
        beard=beard,
        style=style,
        glasses=glasses,
    )


def drawn_shot(rng: np.random.Generator) -> Shot:
    """A random way of taking a picture.

    Args:
        rng: Where the chance comes from.

    Returns:
        A shot: mostly frontal, half of them noisy, half compressed, some blurred or occluded.
    """
    # As in `drawn_person`, the order of the draws must stay.
    chance = rng.random(6)
    turn = rng.normal(size=3)
    n = rng.uniform(-1, 1, 9)
    back = (_any_colour(rng), _any_colour(rng))
    noise = float(rng.uniform(2, 9)) if chance[0] < 0.5 else 0.0
    blur = float(rng.uniform(0.003, 0.011)) if chance[1] < 0.25 else 0.0
    jpeg = int(rng.integers(40, 95)) if chance[2] < 0.5 else 0
    patch = _patch(rng) if chance[3] < 0.06 else None
    seed = int(rng.integers(2**31))
    # Faces further turned than this would hide an eye.
    yaw, pitch, roll = np.clip((9, 5, 5) * turn, (-25, -14, -15), (25, 14, 15)).tolist()
    shot = Shot(yaw, pitch, roll, back=back, noise=noise, blur=blur, jpeg=jpeg, patch=patch)
    placed = replace(shot, scale=0.98 + 0.07 * n[0], x=0.03 * n[1], y=0.02 * n[2], seed=seed)
    light = (0.5 * n[3], 0.25 * n[4])
    gaze = (0.6 * n[7], 0.5 * n[8])
    return replace(placed, light=light, gain=0.95 + 0.25 * n[5], warmth=1 + 0.1 * n[6], gaze=gaze)


def _shade(rng: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    """A colour between two neighbours of a palette."""
    position = rng.uniform(0, len(palette) - 1)
    # At the very end of the palette there is no neighbour to the right.
    k = min(int(position), len(palette) - 2)
    share = position - k
    channels = []
    for low, high in zip(palette[k], palette[k + 1], strict=True):
        channels.append(low + share * (high - low))
    red, green, blue = channels
    return red, green, blue


def _any_colour(rng: np.random.Generator) -> Colour:
    """A colour without much saturation."""
    red, green, blue = rng.uniform(30, 225) + rng.uniform(-30, 30, 3)
    return float(red), float(green), float(blue)


def _patch(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """What covers a part of the face: left, top, width and height in shares of the picture."""
    width, height = rng.uniform(0.1, 0.35, 2)
    left = float(rng.uniform(0, 1 - width))
    top = float(rng.uniform(0, 1 - height))
    return left, top, float(width), float(height)
