"""Who is rendered: age, sex, ancestry, shape of the face, colours, hair; drawn from a seed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.data.rendered.mesh.head import HeadMesh

__all__ = ["HAIR_STYLES", "Colour", "Person", "random_person"]

Colour = tuple[float, float, float]
"""RGB, 0..255 in sRGB."""

HAIR_STYLES: Final = ("bald", "short", "full", "bob", "long", "cap")
_STYLE_SHARES: Final = {
    "female": (0.01, 0.1, 0.17, 0.27, 0.4, 0.05),
    "male": (0.13, 0.5, 0.22, 0.04, 0.03, 0.08),
}
# From light to dark.
_SKINS: Final = (
    (240, 208, 189),
    (229, 187, 160),
    (210, 163, 129),
    (179, 128, 94),
    (134, 90, 64),
    (92, 60, 44),
    (62, 41, 33),
)
_HAIRS: Final = (
    (24, 19, 17),
    (46, 32, 24),
    (78, 52, 35),
    (120, 82, 50),
    (168, 126, 78),
    (214, 180, 128),
)
_RED: Final = (132, 62, 32)
_GREY: Final = (176, 173, 168)
_IRISES: Final = ((52, 32, 20), (84, 54, 30), (112, 88, 50), (96, 116, 92), (88, 120, 150))
# By ancestry: darkness of the skin from and to, 0..1.
_DARKNESS: Final = ((0.5, 1.0), (0.15, 0.5), (0.0, 0.4))
# How strong details are; ends such as a square head are far from the mean.
_SPREAD: Final = 0.32
_UNLIKE_SIDES: Final = 0.07


@dataclass(frozen=True, slots=True)
class Person:
    """What stays the same in all pictures of one subject.

    Attributes:
        male: 0 is female, 1 male.
        years: Of age.
        weight: 0 is thin, 1 heavy.
        ancestry: Shares of African, Asian and Caucasian ancestry, summing to 1.
        details: How much there is of each of `HeadMesh.details`, -1..1.
        darkness: Of the skin, 0..1.
        skin: Its colour.
        hair: Colour of hair, brows and beard.
        iris: Colour of the irises.
        cloth: Colour of clothes and cap.
        style: One of `HAIR_STYLES`.
        fringe: How far hair hangs into the forehead, 0..1.
        lids: How far the lids hang at rest, as a share of a blink.
        beard: Density of the beard, 0..1; 0 is none.
        lipstick: Redness of painted lips, 0..1; 0 is none.
        seed: Of what is painted.
    """

    male: float
    years: float
    weight: float
    ancestry: tuple[float, float, float]
    details: NDArray[np.float64]
    darkness: float
    skin: Colour
    hair: Colour
    iris: Colour
    cloth: Colour
    style: str
    fringe: float
    lids: float
    beard: float
    lipstick: float
    seed: int


def random_person(rng: np.random.Generator, mesh: HeadMesh) -> Person:
    """Make somebody up.

    Args:
        rng: Where the chance comes from.
        mesh: The head, which knows how faces can differ.

    Returns:
        A person of 6 to 85 years.
    """
    is_male = bool(rng.random() < 0.5)
    # Some look less like their sex than others.
    unlike = abs(float(rng.normal(0, 0.15)))
    male = 1 - unlike if is_male else unlike
    years = float(6 + 79 * rng.beta(1.6, 2.4))
    ancestry = rng.dirichlet((0.35, 0.35, 0.35))
    darkness = _darkness(rng, ancestry)
    bearded = is_male and years > 15 and rng.random() < 0.4
    beard = float(rng.uniform(0.15, 1)) if bearded else 0.0
    painted = not is_male and rng.random() < 0.35
    lipstick = float(rng.uniform(0.3, 1)) if painted else 0.0
    shares = _STYLE_SHARES["male" if is_male else "female"]
    style = HAIR_STYLES[int(rng.choice(len(HAIR_STYLES), p=shares))]
    hair = _hair(rng, darkness, years)
    iris = _mixed(_IRISES, float(np.clip(rng.beta(1, 1.6) - darkness, 0, 1)))
    cloth = _colour(np.clip(rng.uniform(10, 230) + rng.uniform(-45, 45, 3), 0, 255))
    weight = float(np.clip(rng.normal(0.5, 0.2), 0, 1))
    african, asian, caucasian = ancestry.tolist()
    fringe = float(rng.beta(1, 1.5))
    lids = float(rng.uniform(0, 0.3))
    details = _details(rng, mesh)
    skin = _mixed(_SKINS, darkness)
    seed = int(rng.integers(2**62))
    return Person(
        male=male,
        years=years,
        weight=weight,
        ancestry=(african, asian, caucasian),
        details=details,
        darkness=darkness,
        skin=skin,
        hair=hair,
        iris=iris,
        cloth=cloth,
        style=style,
        fringe=fringe,
        lids=lids,
        beard=beard,
        lipstick=lipstick,
        seed=seed,
    )


def _darkness(rng: np.random.Generator, ancestry: NDArray[np.float64]) -> float:
    low, high = np.array(_DARKNESS).T
    place = rng.random()
    return float(ancestry @ (low + place * (high - low)))


def _details(rng: np.random.Generator, mesh: HeadMesh) -> NDArray[np.float64]:
    """How much there is of each detail; left and right are nearly alike."""
    amounts: dict[str, float] = {}
    values = []
    for detail in mesh.details:
        side, _, name = detail.name.partition("-")
        mirrored = side in ("l", "r")
        key = name if mirrored else detail.name
        if key not in amounts:
            spread = _SPREAD * (0.4 if "ear" in key else 1)
            amounts[key] = float(np.clip(rng.normal(0, spread), -1, 1))
        value = amounts[key]
        if mirrored:
            value += float(rng.normal(0, _UNLIKE_SIDES))
        values.append(value)
    return np.array(values)


def _hair(rng: np.random.Generator, darkness: float, years: float) -> Colour:
    """Dark hair goes with dark skin; grey comes with age."""
    lightness = float(rng.beta(1, 1.3)) * max(1 - 2.5 * darkness, 0)
    natural = np.array(_mixed(_HAIRS, lightness))
    if darkness < 0.25 and rng.random() < 0.08:
        natural = np.array(_RED)
    grey = float(np.clip((years - rng.normal(52, 9)) / 20, 0, 1))
    return _colour(natural + grey * (np.array(_GREY) - natural))


def _mixed(palette: tuple[Colour, ...], place: float) -> Colour:
    """A colour between two neighbours of a palette; place: 0..1."""
    colours = np.array(palette)
    at = place * (len(palette) - 1)
    channels = [np.interp(at, np.arange(len(palette)), colours[:, k]) for k in range(3)]
    return _colour(np.array(channels))


def _colour(channels: NDArray[np.floating]) -> Colour:
    return float(channels[0]), float(channels[1]), float(channels[2])
