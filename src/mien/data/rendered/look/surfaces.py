"""What surfaces look like: skin, eyes, teeth and mouth, hair. All colours are linear RGB."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.data.rendered.look.chart import sample
from mien.data.rendered.look.hair import Hair
from mien.data.rendered.look.light import Lighting, diffuse, highlight
from mien.data.rendered.look.people import Person
from mien.data.rendered.look.skin import linear
from mien.data.rendered.mesh.camera import Pose, rotation
from mien.data.rendered.mesh.head import LOWER_TEETH, MOUTH, TONGUE, UPPER_TEETH

__all__ = ["eye_colour", "shade_eye", "shade_hair", "shade_inside", "shade_skin"]

Values = NDArray[np.float32]

# Angles from the middle of the iris, rad.
_IRIS: Final = 0.43
_SCLERA: Final = (222, 214, 208)
_INSIDE: Final[Mapping[int, tuple[int, int, int]]] = {
    UPPER_TEETH: (226, 214, 194),
    LOWER_TEETH: (214, 201, 180),
    TONGUE: (176, 92, 92),
    MOUTH: (128, 54, 52),
}
# How fast it gets dark in the mouth, cm.
_DARKENS: Final = 2.6


def shade_skin(
    albedo: Values,
    normals: Values,
    lighting: Lighting,
    *,
    lit: Values,
    day: Values,
    oil: Values,
) -> Values:
    """Light skin.

    Args:
        albedo: Share of the light that it gives back (N, 3).
        normals: Unit vectors (N, 3).
        lighting: All light.
        lit: How much (N,) of the first light arrives, 0..1.
        day: How much (N, 1) arrives of what comes from everywhere, 0..1.
        oil: How strongly it shines (N, 1), 0..1.

    Returns:
        Amounts of light (N, 3).
    """
    shine = 0.07 * oil * highlight(normals, lighting, lit, 14.0)
    shine += 0.05 * oil * highlight(normals, lighting, lit, 55.0)
    return albedo * diffuse(normals, lighting, lit, day) + shine * day


def eye_colour(direction: Values, gaze: tuple[float, float], person: Person) -> Values:
    """Paint eyeballs by the angle from where they look.

    Args:
        direction: Unit vectors (N, 3) from the eyeball's middle, on the head.
        gaze: Degrees to the image's right and up.
        person: Whose eyes.

    Returns:
        Share of the light that is given back (N, 3).
    """
    across, up = np.deg2rad(gaze)
    level = np.cos(up)
    axis = np.array([np.sin(across) * level, np.sin(up), np.cos(across) * level])
    angle = np.arccos(np.clip(direction @ axis, -1, 1))
    pupil = 0.13 + 0.09 * ((person.seed >> 8) % 256) / 255
    spokes = np.arctan2(direction[:, 1] - axis[1], direction[:, 0] - axis[0])
    phase = (person.seed % 997) / 997
    grain = 1 + 0.18 * np.sin(23 * spokes + 7 * phase) + 0.12 * np.sin(41 * spokes + 11 * phase)
    iris = linear(person.iris) * (grain * np.interp(angle, (pupil, _IRIS), (1.5, 0.75)))[:, None]
    # Blood vessels toward the corners.
    red = np.clip((angle - 0.5) / 0.7, 0, 1)[:, None] * np.array([0.0, 0.25, 0.25])
    white = linear(_SCLERA) * (1 - red)
    in_iris = np.clip((_IRIS - angle) / 0.035 + 0.5, 0, 1)[:, None]
    rim = 1 - 0.65 * np.exp(-(((angle - _IRIS) / 0.045) ** 2))[:, None]
    colour = (white + in_iris * (iris - white)) * rim
    in_pupil = np.clip((pupil - angle) / 0.03 + 0.5, 0, 1)[:, None]
    return np.asarray(colour * (1 - 0.97 * in_pupil), np.float32)


def shade_eye(
    albedo: Values, direction: Values, pose: Pose, lighting: Lighting, lit: Values
) -> Values:
    """Light eyeballs.

    Args:
        albedo: Share of the light that they give back (N, 3).
        direction: Unit vectors (N, 3) from the eyeball's middle, on the head.
        pose: How the head is turned.
        lighting: All light.
        lit: How much (N,) of the first light arrives, 0..1.

    Returns:
        Amounts of light (N, 3).
    """
    normals = direction @ rotation(pose).T.astype(np.float32)
    # Upper lid and lashes shade the upper part.
    lids = np.interp(direction[:, 1], (-0.5, -0.2, 0.25, 0.55), (0.75, 1.0, 0.95, 0.45))
    light = albedo * diffuse(normals, lighting, lit) * lids.astype(np.float32)[:, None]
    return np.asarray(light + 0.9 * highlight(normals, lighting, lit, 260.0), np.float32)


def shade_inside(
    parts: NDArray[np.integer],
    depth: Values,
    normals: Values,
    lighting: Lighting,
) -> Values:
    """Light teeth, tongue and mouth.

    Args:
        parts: What each point (N,) belongs to.
        depth: How far behind the lips it lies (N,), cm.
        normals: Unit vectors (N, 3).
        lighting: All light.

    Returns:
        Amounts of light (N, 3).
    """
    albedo = np.zeros((len(parts), 3), np.float32)
    for part, colour in _INSIDE.items():
        albedo[parts == part] = linear(colour)
    dark = np.exp(-np.maximum(depth, 0) / _DARKENS).astype(np.float32)
    light = albedo * diffuse(normals, lighting, dark)
    light += 0.08 * highlight(normals, lighting, dark, 40.0)
    return light * dark[:, None]


def shade_hair(
    hair: Hair, places: Values, normals: Values, lighting: Lighting, lit: Values
) -> tuple[Values, Values]:
    """Light hair.

    Args:
        hair: Whose colour and cover are looked up.
        places: Columns and rows (N, 2) in them.
        normals: Unit vectors (N, 3) to the side that is seen.
        lighting: All light.
        lit: How much (N,) of the first light arrives, 0..1.

    Returns:
        Amounts of light (N, 3) and cover (N,).
    """
    albedo = sample(hair.colour, places)
    light = albedo * diffuse(normals, lighting, lit)
    # Strands shine in a band across them: only the slope along them counts.
    along = normals * np.array([0.35, 1.0, 1.0], np.float32)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    tone = 0.35 + albedo / max(float(hair.colour.max()), 1e-3)
    shine = hair.gloss * highlight(along, lighting, lit, 18.0) * tone * 0.35
    return np.asarray(light + shine, np.float32), sample(hair.cover, places)
