"""Action-unit activations from the 52 blend shapes of a face landmarker (ARKit names).

Blend shapes are not FACS codes. The map below pairs each AU with the shapes that move the same skin
(Ekman, Friesen & Hager 2002 for the AUs; the ARKit face-anchor reference for the shapes), takes the
mean of left and right, and leaves out every AU whose activation varies with a standard deviation
below 0.05 over the training faces of either FER+ or the portraits: AU5, AU6, AU9, AU14, AU22 and
AU23 have no support in the teacher.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.tasks import Floats, Task

__all__ = [
    "AU_BLENDSHAPES",
    "AU_SHAPES",
    "RESTING",
    "SHAPES",
    "above_rest",
    "activations",
    "gaze",
]

SHAPES: Final[tuple[str, ...]] = (
    "_neutral",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeLookDownLeft",
    "eyeLookDownRight",
    "eyeLookInLeft",
    "eyeLookInRight",
    "eyeLookOutLeft",
    "eyeLookOutRight",
    "eyeLookUpLeft",
    "eyeLookUpRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "noseSneerLeft",
    "noseSneerRight",
)

# AU -> groups of shapes: mean within a group, maximum over the groups.
AU_SHAPES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "AU01": (("browInnerUp",),),
    "AU02": (("browOuterUpLeft", "browOuterUpRight"),),
    "AU04": (("browDownLeft", "browDownRight"),),
    "AU07": (("eyeSquintLeft", "eyeSquintRight"),),
    "AU10": (("mouthUpperUpLeft", "mouthUpperUpRight"),),
    "AU12": (("mouthSmileLeft", "mouthSmileRight"),),
    "AU15": (("mouthFrownLeft", "mouthFrownRight"),),
    "AU16": (("mouthLowerDownLeft", "mouthLowerDownRight"),),
    "AU17": (("mouthShrugLower",),),
    "AU18": (("mouthPucker",),),
    "AU20": (("mouthStretchLeft", "mouthStretchRight"),),
    "AU24": (("mouthPressLeft", "mouthPressRight"),),
    # Lips part with the jaw, or with either lip alone.
    "AU25": (
        ("jawOpen",),
        ("mouthLowerDownLeft", "mouthLowerDownRight"),
        ("mouthUpperUpLeft", "mouthUpperUpRight"),
    ),
    "AU26": (("jawOpen",),),
    "AU28": (("mouthRollLower", "mouthRollUpper"),),
    "AU45": (("eyeBlinkLeft", "eyeBlinkRight"),),
}

RESTING: Final = {"AU07": 0.38, "AU45": 0.11}
"""What the landmarker answers for calm faces, where that is more than a tenth: medians of the 4,943
training portraits that are labelled neutral."""

AU_BLENDSHAPES: Final = Task("au.blendshapes", tuple(AU_SHAPES), "any_of")


def activations(shapes: NDArray[np.uint8]) -> Floats:
    """Turn blend shapes into activations of action units.

    Args:
        shapes: Blend shapes (N, 52) in the order of `SHAPES`, as round(255 x activation).

    Returns:
        Activations (N, 16) in the order of `AU_SHAPES`, 0..1.

    >>> shapes = np.zeros((1, 52), np.uint8); shapes[0, SHAPES.index("jawOpen")] = 255
    >>> dict(zip(AU_BLENDSHAPES.names, activations(shapes)[0]))["AU26"].item()
    1.0
    """
    unit = shapes / 255.0
    columns = []
    for groups in AU_SHAPES.values():
        means = []
        for group in groups:
            indices = [SHAPES.index(name) for name in group]
            means.append(unit[:, indices].mean(axis=1))
        columns.append(np.max(means, axis=0))
    return np.stack(columns, axis=1)


def above_rest(activations: Floats) -> Floats:
    """Take away what the landmarker answers for calm faces, so that 0 is a face at rest.

    Args:
        activations: As `activations` gives them (N, 16).

    Returns:
        (activation - resting level) / (1 - resting level), not below 0.

    >>> calm = np.full((1, 16), 0.38)
    >>> dict(zip(AU_BLENDSHAPES.names, above_rest(calm)[0].round(2).tolist()))["AU07"]
    0.0
    """
    levels = np.array([RESTING.get(name, 0.0) for name in AU_SHAPES])
    above: Floats = np.maximum((activations - levels) / (1 - levels), 0)
    return above


def gaze(shapes: NDArray[np.uint8]) -> tuple[float, float]:
    """Turn blend shapes into the direction of gaze, relative to the head.

    Args:
        shapes: Blend shapes (52,) in the order of `SHAPES`, as round(255 x activation).

    Returns:
        How far the eyes look to the right of the picture and up, -1..1, means of both eyes.

    >>> shapes = np.zeros(52, np.uint8); shapes[SHAPES.index("eyeLookOutLeft")] = 255
    >>> gaze(shapes)
    (0.5, 0.0)
    """
    unit = dict(zip(SHAPES, (shapes / 255.0).tolist(), strict=True))
    # The left eye is the person's, at the right of the picture.
    left = unit["eyeLookOutLeft"] - unit["eyeLookInLeft"]
    right = unit["eyeLookInRight"] - unit["eyeLookOutRight"]
    up = unit["eyeLookUpLeft"] + unit["eyeLookUpRight"]
    down = unit["eyeLookDownLeft"] + unit["eyeLookDownRight"]
    return (left + right) / 2, (up - down) / 2
