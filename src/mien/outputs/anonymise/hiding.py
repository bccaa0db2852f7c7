"""Hides the faces of a picture: blurred, or under a drawn face that shows what was read."""

from collections.abc import Sequence
from typing import Final, Literal, cast, get_args

import numpy as np

from mien.errors import UnknownNameError
from mien.outputs.anonymise.blur import blur
from mien.outputs.anonymise.drawn_face import draw_face
from mien.outputs.anonymise.regions import HiddenFace, region_of
from mien.outputs.canvas import Canvas, Colour, Pixels
from mien.outputs.painter import colour_of
from mien.records import Status
from mien.tasks import Task

__all__ = ["Anonymise", "check_anonymise", "hide"]

Anonymise = Literal["blur", "drawn"]
"""How faces are hidden."""

# Of faces whose scores are doubtful or interpolated.
_UNSURE: Final[Colour] = (170, 176, 186)


def check_anonymise(value: str | None) -> Anonymise | None:
    """Check how faces are to be hidden.

    Args:
        value: What was asked for; None for no hiding.

    Returns:
        The same.

    Raises:
        UnknownNameError: There is no such way.
    """
    if value is not None and value not in get_args(Anonymise):
        raise UnknownNameError("way to anonymise", str(value), get_args(Anonymise))
    return cast(Anonymise | None, value)


def hide(
    picture: Pixels, faces: Sequence[HiddenFace], anonymise: Anonymise, tasks: Sequence[Task]
) -> None:
    """Hide faces.

    Args:
        picture: RGB uint8 (H, W, 3), drawn on in place.
        faces: The faces, in pixels of the picture.
        anonymise: ``blur`` leaves a few mean colours of each region; ``drawn`` leaves none, and
            draws a face where one was found.
        tasks: The tasks of the readings, for drawn faces.
    """
    height, width = picture.shape[:2]
    for face in faces:
        region = picture[region_of(face, width, height)]
        if anonymise == "blur":
            blur(region, (1 + 2 * face.margin) * max(face.box.w, face.box.h))
        elif region.size:
            region[:] = _colour_around(region)
    if anonymise == "blur":
        return
    # After all regions, so that none of them covers a neighbour's face.
    canvas = Canvas(picture)
    for face in faces:
        if face.reading is not None and face.reading.face is not None:
            is_sure = face.reading.status is Status.ok
            colour = colour_of(face.reading.face.track) if is_sure else _UNSURE
            draw_face(canvas, face.reading, tasks, colour)


def _colour_around(region: Pixels) -> Pixels:
    """The mean colour (3,) of a region's outermost pixels, which lie beside the face."""
    edges = [region[0], region[-1], region[:, 0], region[:, -1]]
    return np.asarray(np.concatenate(edges).mean(axis=0).round(), np.uint8)
