"""The records that say everything about a drawn face: who it is, what it does, how it was taken.

Lengths on the face are in face units: the origin lies between the eyes, x to the image's right, y
down, z toward the viewer; the eyes are about 0.7 apart and the chin about 1.2 below them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNITS", "VIEW", "Activations", "Colour", "Person", "Points", "Portrayal", "Shot"]

Points = NDArray[np.float64]
Colour = tuple[float, float, float]
"""RGB, 0..255."""
Activations = Mapping[str, float]
"""Action unit -> activation 0..1."""

_NUMBERS: Final = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 20, 23, 24, 25, 26, 28, 45)
UNITS: Final = tuple(f"AU{number:02d}" for number in _NUMBERS)
"""The action units that can be drawn.

They are those of ``au.abaw12`` and ``au.blendshapes``, the lid raiser, the nose wrinkler and the
dimpler. Each moves what it moves in a real face (Ekman, Friesen & Hager 2002).
"""

VIEW: Final = 2.5
"""Face units across a picture at scale 1."""

# Units of the mouth's corners, which may be stronger on one side.
_SIDED: Final = ("AU10", "AU12", "AU14", "AU15")


@dataclass(frozen=True, slots=True)
class Person:
    """What stays the same in all pictures of one subject.

    Attributes:
        skin: Colour of the skin.
        hair: Colour of hair, brows and beard.
        iris: Colour of the irises.
        width: Half the face's width.
        jaw: Its width at the jaw, as a share of `width`.
        chin: y of the chin.
        eye_x: Half the distance of the eyes.
        eye_w: Half an eye's width.
        eye_h: Height of an eye's opening above the middle.
        brow_y: y of the brows.
        brow_t: Thickness of the brows.
        nose_w: Half the width of the nose's base.
        nose_y: y of the nose's base.
        mouth_w: Half the width of the mouth.
        mouth_y: y of the mouth.
        lip: Thickness of the upper lip.
        lip_red: How red the lips are, 0..1.
        age: Depth of standing lines, 0..1.
        beard: Density of the beard, 0..1; 0 is none.
        style: Hair: 0 bald, 1 short, 2 full, 3 long.
        glasses: Whether glasses are worn.
    """

    skin: Colour
    hair: Colour
    iris: Colour
    width: float
    jaw: float
    chin: float
    eye_x: float
    eye_w: float
    eye_h: float
    brow_y: float
    brow_t: float
    nose_w: float
    nose_y: float
    mouth_w: float
    mouth_y: float
    lip: float
    lip_red: float
    age: float
    beard: float
    style: int
    glasses: bool


@dataclass(frozen=True, slots=True)
class Shot:
    """How one picture was taken; the defaults are a clean frontal one.

    Attributes:
        yaw: Degrees; above 0 the nose points to the image's right.
        pitch: Degrees; above 0 the nose is lifted.
        roll: Degrees clockwise.
        scale: 1 shows 2.5 face units across.
        x: Shift to the right, share of the picture's side.
        y: Shift down, share of the picture's side.
        light: (x, y) slope of the light over the face.
        gain: Strength of the light.
        warmth: Gain of red over blue.
        back: Colours at the top and the foot of the background.
        gaze: (x, y) of the irises, -1..1.
        noise: Standard deviation in 0..255.
        blur: Standard deviation, share of the picture's side.
        jpeg: Quality; 0 leaves compression out.
        patch: An occluding box (left, top, width, height, shares of the side), or None.
        seed: Of the noise.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    x: float = 0.0
    y: float = 0.0
    light: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.0
    warmth: float = 1.0
    back: tuple[Colour, Colour] = ((150.0, 160.0, 170.0), (110.0, 120.0, 130.0))
    gaze: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0
    blur: float = 0.0
    jpeg: int = 0
    patch: tuple[float, float, float, float] | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Portrayal:
    """Everything that is drawn in one picture.

    Attributes:
        person: Who it is.
        shot: How the picture was taken.
        units: Activations 0..1 in the order of `UNITS`.
        alert: -1..1, from drowsy (lids low, pupils small) to wide awake (lids high, pupils large).
        lean: -1..1; the share by which the units of the mouth corners are missing on one side
            (above 0: on the image's left).
        expression: Name of the expression that is played.
    """

    person: Person
    shot: Shot
    units: tuple[float, ...]
    alert: float = 0.0
    lean: float = 0.0
    expression: str = "neutral"

    def activations(self, side: int = 0) -> dict[str, float]:
        """Activations by name.

        Args:
            side: 0 takes them as they are; -1 (image-left) or 1 (image-right) gives those of one
                side of the face, with `lean` taken into account.

        Returns:
            Unit -> activation 0..1.
        """
        share = min(1.0, 1.0 + side * self.lean)
        activations = dict(zip(UNITS, self.units, strict=True))
        for name in _SIDED:
            activations[name] = activations[name] * share
        return activations
