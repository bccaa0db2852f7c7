"""What a drawn face looks like: the records that say all of it, and the outlines that follow from them.

Lengths on the face are in face units: the origin lies between the eyes, x to the image's right, y down, z toward the viewer;
the eyes are about 0.7 apart and the chin about 1.2 below them. Every unit in `UNITS` moves what the action unit of that
number moves in a real face (Ekman, Friesen & Hager 2002): brows, lids, nose, lips, jaw, and the creases beside them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "UNITS",
    "VIEW",
    "Colour",
    "Crease",
    "Outlines",
    "Person",
    "Points",
    "Portrayal",
    "Shot",
    "five_points",
    "outlines",
]

Points = NDArray[np.float64]
Colour = tuple[float, float, float]
Row = list[tuple[float, float]]
Units = dict[str, float]
Crease = tuple[float, float, Points]

UNITS: Final = tuple(
    f"AU{n:02d}"
    for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 20, 23, 24, 25, 26, 28, 45)
)
"""The action units that can be drawn: those of ``au.abaw12`` and ``au.blendshapes``, the lid raiser, the nose wrinkler and the dimpler."""

VIEW: Final = 2.5
"""Face units across a picture at scale 1."""

_SIDED: Final = ("AU10", "AU12", "AU14", "AU15")


@dataclass(frozen=True, slots=True)
class Person:
    """What stays the same in all pictures of one subject. Lengths in face units, colours RGB 0..255, shares 0..1.

    skin, hair, iris: colours. width: half the face's width. jaw: its width at the jaw, as a share of `width`. chin: y of the chin.
    eye_x: half the distance of the eyes. eye_w, eye_h: half an eye's width, height of its opening above the middle.
    brow_y, brow_t: height and thickness of the brows. nose_w, nose_y: half width and y of the nose's base.
    mouth_w, mouth_y, lip: half width and y of the mouth, thickness of the upper lip. lip_red: how red the lips are.
    age: depth of standing lines. beard: its density. style: 0 bald, 1 short, 2 full, 3 long hair. glasses: worn or not.
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

    yaw, pitch, roll: degrees; yaw turns the nose to the image's right, pitch lifts it, roll turns clockwise.
    scale: 1 shows 2.5 face units across. x, y: shift in shares of the picture's side.
    light: (x, y) slope of the light over the face, gain: its strength, warmth: gain of red over blue.
    back: colours at the top and the foot of the background. gaze: (x, y) of the irises, -1..1.
    noise: standard deviation in 0..255. blur: standard deviation in shares of the side. jpeg: quality, 0 leaves it out.
    patch: an occluding box (left, top, width, height, shares of the side) or None. seed: of the noise.
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

    units: activations 0..1 in the order of `UNITS`.
    alert: -1..1, from drowsy (lids low, pupils small) to wide awake (lids high, pupils large).
    lean: -1..1; the share by which the units of the mouth corners are missing on one side (above 0: on the image's left).
    expression: the name of the expression that is played.
    """

    person: Person
    shot: Shot
    units: tuple[float, ...]
    alert: float = 0.0
    lean: float = 0.0
    expression: str = "neutral"

    def of(self, side: int = 0) -> Units:
        """Activations by name; on one side of the face (-1 image-left, 1 image-right) with `lean` taken into account."""
        share = min(1.0, 1.0 + side * self.lean)
        return {
            name: v * share if name in _SIDED else v
            for name, v in zip(UNITS, self.units, strict=True)
        }


def _basis(samples: int) -> Points:
    """Catmull-Rom curve through five points as a matrix (samples, 5); the ends go straight on."""
    t = np.linspace(0, 4, samples)
    i = np.minimum(t.astype(int), 3)
    f = (t - i)[:, None]
    weights = 0.5 * np.hstack(
        [-f + 2 * f**2 - f**3, 2 - 5 * f**2 + 3 * f**3, f + 4 * f**2 - 3 * f**3, f**3 - f**2]
    )
    ends = np.zeros((7, 5))
    ends[1:6] = np.eye(5)
    ends[0, :2], ends[6, 3:] = (2, -1), (-1, 2)
    return np.asarray(np.einsum("sk,skj->sj", weights, ends[i[:, None] + np.arange(4)]))


_CURVE: Final = _basis(17)
_T: Final = np.linspace(0, 1, 7)[:, None]
_ARC: Final = np.hstack([(1 - _T) * (1 - 2 * _T), 4 * _T * (1 - _T), _T * (2 * _T - 1)])
_TURN: Final = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_RING: Final = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_HALF: Final = (
    "brow_top",
    "brow_low",
    "lid_top",
    "lid_low",
    "outline",
    "skull",
    "hair",
    "back",
    "fringe",
    "beard",
)


def _brow(u: Units, p: Person) -> tuple[Row, Row]:
    wide = p.eye_x / 0.36
    top, low = [], []
    for x, y, a1, a2, a4, knit, t in zip(
        (0.11, 0.23, 0.36, 0.49, 0.61), (0.0, -0.03, -0.05, -0.04, 0.02), (0.15, 0.12, 0.05, 0.01, 0.0), (0.0, 0.02, 0.1, 0.15, 0.13),
        (0.1, 0.09, 0.07, 0.045, 0.02), (0.06, 0.045, 0.025, 0.01, 0.0), (0.7, 1.0, 0.9, 0.65, 0.15), strict=True,
    ):  # fmt: skip
        up = y - a1 * u["AU01"] - a2 * u["AU02"] + a4 * u["AU04"] + 0.3 * a4 * u["AU09"]
        at, half = x * wide - knit * u["AU04"], p.brow_t * t / 2
        top.append((at, p.brow_y + up - half))
        low.append((at, p.brow_y + up + half))
    return top, low


def _lids(u: Units, p: Person, alert: float) -> tuple[Row, Row]:
    shut = u["AU45"]
    high = p.eye_h * max(
        1 + 0.35 * alert + 0.75 * u["AU05"] - 0.35 * u["AU07"] - 0.1 * u["AU04"] - 0.12 * u["AU06"],
        0.15,
    )
    deep = (
        p.eye_h
        * max(0.68 - 0.5 * u["AU07"] - 0.35 * u["AU06"] + 0.1 * alert, 0.05)
        * (1 - 0.25 * shut)
    )
    top, low = [], []
    for x, a, b, tilt in (
        (-1, 0, 0, 0.012),
        (-0.5, 0.82, 0.7, 0.006),
        (0, 1, 1, 0),
        (0.5, 0.84, 0.88, -0.006),
        (1, 0, 0, -0.012),
    ):
        under = deep * b + tilt
        at = p.eye_x + x * p.eye_w
        low.append((at, under))
        top.append((at, (tilt - high * a) * (1 - shut) + under * shut))
    return top, low


def _half(u: Units, p: Person, alert: float) -> list[Row]:
    """Curves of five points on the side with x above 0, in the order of `_HALF`."""
    chin = p.chin + 0.2 * u["AU26"] - 0.015 * u["AU17"]
    w, j = p.width, p.width * p.jaw
    outline = [
        (w * 0.96, -0.35),
        (w, 0.12),
        (0.35 * w + 0.63 * j, p.mouth_y - 0.1),
        (0.62 * j, chin - 0.17),
        (0.0, chin),
    ]
    fringe = [
        (0.0, -0.8),
        (0.45 * w, -0.78),
        (0.8 * w, -0.62),
        (0.95 * w, -0.35),
        (w * 0.98, -0.08),
    ]
    hair = [(0.0, -1.22), (0.6 * w, -1.16), (w * 1.02, -0.85), (w * 1.14, -0.4), (w * 1.04, -0.08)]
    beard = [
        (w * 0.99, 0.1),
        (w * 0.9, 0.35),
        (0.62 * w, 0.62),
        (0.4 * w, p.mouth_y - 0.16),
        (0.0, p.nose_y + 0.08),
    ]
    skull = [
        (0.0, -1.1),
        (0.55 * w, -1.04),
        (0.87 * w, -0.82),
        (0.98 * w, -0.58),
        (w * 0.96, -0.35),
    ]
    foot = 1.5 if p.style == 3 else 0.62
    back = [
        (w * 0.9, -0.95),
        (w * 1.18, -0.5),
        (w * 1.26, 0.0),
        (w * 1.3, foot / 2),
        (w * 1.12, foot),
    ]
    return [*_brow(u, p), *_lids(u, p, alert), outline, skull, hair, back, fringe, beard]


def _mouth(left: Units, right: Units, p: Person) -> list[Row]:
    """Upper lip's edge, the opening's upper and lower edge, and the lower lip's edge, image-left to image-right."""
    u = {name: (left[name] + right[name]) / 2 for name in UNITS}
    ends = []
    for side, one in ((-1, left), (1, right)):
        x = (
            p.mouth_w
            + 0.11 * one["AU12"]
            + 0.13 * one["AU20"]
            + 0.04 * one["AU14"]
            - 0.04 * one["AU26"] * one["AU25"]
        )
        x *= 1 - 0.42 * one["AU18"] - 0.2 * one["AU23"] - 0.05 * one["AU24"]
        y = (
            -0.11 * one["AU12"]
            + 0.1 * one["AU15"]
            - 0.015 * one["AU10"]
            + 0.025 * one["AU20"]
            + 0.04 * one["AU26"]
            + 0.015 * one["AU17"]
        )
        ends.append((side * x, p.mouth_y + y))
    (x0, y0), (x1, y1) = ends
    thin = (
        1
        - 0.5 * u["AU23"]
        - 0.55 * u["AU24"]
        - 0.3 * u["AU20"]
        - 0.2 * u["AU12"]
        + 0.55 * u["AU18"]
    )
    thin = max(thin, 0.3) * (1 - 0.92 * u["AU28"])
    above, below = (
        p.lip * thin * (1 + 0.25 * u["AU10"]),
        1.3 * p.lip * thin * (1 + 0.3 * u["AU16"] - 0.2 * u["AU17"]),
    )
    middle = (
        p.mouth_y
        - 0.055 * u["AU17"]
        + 0.012 * u["AU12"]
        + 0.02 * u["AU28"]
        + 0.025 * u["AU26"]
        - 0.012 * u["AU15"]
    )
    up = middle - 0.035 * u["AU25"] - 0.055 * u["AU10"]
    down = (
        middle
        + u["AU25"] * (0.05 + 0.2 * u["AU26"])
        + 0.055 * u["AU16"]
        - 0.025 * u["AU10"] * (1 - u["AU25"])
    )
    arch = 0.012 * (1 - u["AU28"])

    def edge(centre: float, lift: float, full: float) -> Row:
        """From corner to corner through `centre`; `full`: how much of the way the quarter points have gone; `lift` raises them."""
        quarters = [(0.5 * x + 0.0, y + (centre - y) * full - lift) for x, y in ends]
        return [(x0, y0), quarters[0], ((x0 + x1) / 2, centre), quarters[1], (x1, y1)]

    return [
        edge(up - above, 0.35 * above + arch, 0.82),
        edge(up, 0.0, 0.8),
        edge(down, 0.0, 0.82),
        edge(down + below + 0.02 * u["AU26"], 0.0, 0.84),
    ]


def _creases(u: Units, p: Person) -> list[tuple[float, float, Row]]:
    """Folds on the side with x above 0: depth (below 0 lightens), width in face units, and an arc's three points."""
    old, e, my, mw, ny, nw = p.age, p.eye_x, p.mouth_y, p.mouth_w, p.nose_y, p.nose_w
    cx = mw + 0.11 * u["AU12"] + 0.13 * u["AU20"] - 0.1 * u["AU18"]
    cy = my - 0.11 * u["AU12"] + 0.1 * u["AU15"]
    outer = e + p.eye_w
    wing = nw + 0.03 * u["AU09"] + 0.015 * u["AU10"]
    lift = 0.05 * u["AU09"] + 0.03 * u["AU10"]
    raised = -0.1 * u["AU02"]
    fold = min(
        0.1 + 0.3 * old + 0.4 * u["AU12"] + 0.42 * u["AU10"] + 0.3 * u["AU09"] + 0.12 * u["AU20"],
        0.6,
    )
    rows = [
        (
            0.35,
            0.025,
            [
                (wing - 0.02, ny - 0.1 - lift),
                (wing + 0.015, ny - 0.04 - lift),
                (wing - 0.045, ny + 0.005 - lift),
            ],
        ),
        (
            0.55,
            0.035,
            [
                (0.3 * wing, ny + 0.005 - lift),
                (0.48 * wing, ny - 0.012 - lift),
                (0.68 * wing, ny - lift),
            ],
        ),
        (
            fold,
            0.028,
            [
                (wing + 0.03, ny - 0.09 - 1.5 * lift),
                ((wing + cx) / 2 + 0.075, (ny + cy) / 2 - 0.04),
                (cx + 0.075, cy + 0.03),
            ],
        ),
        (
            0.12 + 0.2 * old + 0.3 * u["AU07"],
            0.02,
            [(e - 0.12, 0.07), (e, 0.115 - 0.015 * u["AU07"]), (e + 0.13, 0.06)],
        ),
        (0.5 * u["AU06"], 0.028, [(e - 0.17, 0.15), (e + 0.02, 0.2), (e + 0.22, 0.11)]),
        (0.45 * u["AU09"], 0.028, [(0.05, -0.1), (0.1, 0.0), (0.16, 0.13)]),
        (0.42 * u["AU09"], 0.024, [(0.0, 0.06), (0.06, 0.05), (0.11, 0.1)]),
        (0.42 * u["AU09"], 0.024, [(0.0, 0.16), (0.06, 0.15), (0.12, 0.21)]),
        (0.5 * u["AU04"] + 0.1 * old, 0.026, [(0.05, -0.36), (0.04, -0.28), (0.055, -0.17)]),
        (
            0.5 * u["AU15"],
            0.03,
            [(cx + 0.02, cy - 0.01), (cx + 0.05, cy + 0.06), (cx + 0.03, cy + 0.14)],
        ),
        (0.6 * u["AU14"], 0.035, [(cx + 0.03, cy - 0.07), (cx + 0.07, cy), (cx + 0.03, cy + 0.07)]),
        (
            0.45 * u["AU20"],
            0.025,
            [(cx + 0.04, cy - 0.1), (cx + 0.07, cy + 0.02), (cx + 0.03, cy + 0.15)],
        ),
        (
            0.4 * u["AU20"],
            0.025,
            [(cx + 0.1, cy - 0.08), (cx + 0.13, cy + 0.01), (cx + 0.09, cy + 0.11)],
        ),
    ]
    for k in range(3):  # crow's feet, then the forehead over the outer brow
        depth, a = 0.5 * u["AU06"] + 0.25 * old, 0.055 * (k - 1)
        rows.append(
            (
                depth,
                0.018,
                [
                    (outer + 0.025, 0.3 * a + 0.01),
                    (outer + 0.08, 0.8 * a + 0.01),
                    (outer + 0.14, 1.7 * a + 0.02),
                ],
            )
        )
        y = p.brow_y - 0.13 - 0.09 * k + raised
        rows.append(
            (
                0.42 * u["AU02"] * (1 - 0.2 * k),
                0.024,
                [(0.22, y), (0.38, y - 0.035), (0.56, y + 0.02)],
            )
        )
    return [row for row in rows if abs(row[0]) > 0.03]


def _centre_creases(u: Units, p: Person) -> list[tuple[float, float, Row]]:
    """Folds that cross the middle of the face; as `_creases`."""
    my, chin = p.mouth_y, p.chin + 0.2 * u["AU26"]
    low = my + 1.3 * p.lip + 0.2 * u["AU26"] * u["AU25"]
    rows = [
        (
            0.14 + 0.32 * u["AU17"],
            0.03,
            [(-0.13, low + 0.08), (0.0, low + 0.055 - 0.035 * u["AU17"]), (0.13, low + 0.08)],
        )
    ]
    for k in range(3):
        y = p.brow_y - 0.15 - 0.09 * k - 0.07 * u["AU01"]
        rows.append(
            (
                0.45 * u["AU01"] + 0.14 * p.age,
                0.024,
                [(-0.2, y), (0.0, y - 0.02 + 0.03 * u["AU01"]), (0.2, y)],
            )
        )
    for k, x in enumerate((-0.09, -0.03, 0.03, 0.09)):
        bump = chin - 0.14 + 0.035 * (k % 2)
        rows.append(
            (0.4 * u["AU17"], 0.022, [(x - 0.02, bump), (x, bump - 0.02), (x + 0.02, bump)])
        )
        tight = 0.32 * u["AU23"] + 0.3 * u["AU18"]
        rows.append(
            (
                tight,
                0.016,
                [
                    (1.3 * x, my - p.lip - 0.13),
                    (1.2 * x, my - p.lip - 0.08),
                    (x, my - p.lip - 0.025),
                ],
            )
        )
        rows.append(
            (
                tight,
                0.016,
                [
                    (1.3 * x, my + p.lip + 0.11),
                    (1.2 * x, my + p.lip + 0.07),
                    (x, my + p.lip + 0.03),
                ],
            )
        )
    for depth, y in ((-0.1, -0.08), (-0.12, 0.09), (0.4, 0.155), (0.3, -0.14)):
        rows.append((depth * u["AU24"], 0.05, [(-0.2, my + y), (0.0, my + y), (0.2, my + y)]))
    for depth, y in ((0.4, -0.06), (0.42, 0.065), (-0.1, -0.12), (-0.1, 0.13)):
        rows.append(
            (depth * u["AU28"], 0.045, [(-0.22, my + 0.4 * y), (0.0, my + y), (0.22, my + 0.4 * y)])
        )
    return [row for row in rows if abs(row[0]) > 0.03]


@dataclass(frozen=True, slots=True)
class Outlines:
    """Where everything lies in the picture, in shares of its side (0..1; x right, y down).

    curves: name -> (n, 2). Names that end in ``0`` are on the image's left, in ``1`` on its right.
    creases: depth (share of light lost; below 0 gained), width in face units, (7, 2).
    blobs: soft shades (K, 5): light gained, x, y, radius x, radius y; roughly level with the picture.
    """

    curves: dict[str, Points]
    creases: list[Crease]
    blobs: Points


def project(xy: Points, shot: Shot) -> Points:
    """Face units (..., 2) to shares of the picture's side: the head's round front is turned and seen from far away."""
    x, y = xy[..., 0], xy[..., 1]
    nose = 0.28 * np.exp(-((x / 0.16) ** 2) - ((y - 0.42) / 0.2) ** 2)
    z = 0.5 - 0.75 * x * x - 0.15 * (y - 0.2) ** 2 + nose - 0.3
    yaw, pitch, roll = np.deg2rad((shot.yaw, shot.pitch, shot.roll))
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    y = (y - 0.13) * np.cos(pitch) - z * np.sin(pitch)
    c, s = np.cos(roll), np.sin(roll)
    k = shot.scale / VIEW
    return np.stack(
        [0.5 + shot.x + k * (c * x - s * y), 0.5 + shot.y + k * (s * x + c * y)], axis=-1
    )


def _eye(top: Points, low: Points, p: Portrayal, side: int) -> dict[str, Points]:
    """Iris, pupil and glint (n, 2), cut off by the lids `top` and `low` (17, 2), on the side with x above 0."""
    centre = np.array(
        [p.person.eye_x + side * 0.05 * p.shot.gaze[0], -0.012 + 0.02 * p.shot.gaze[1]]
    )
    found = {"iris": centre + 0.078 * _RING, "pupil": centre + (0.036 + 0.016 * p.alert) * _RING}
    found["glint"] = centre + (-0.025 * side, -0.028) + 0.018 * _RING
    for ring in found.values():
        ring[:, 1] = np.clip(
            ring[:, 1],
            np.interp(ring[:, 0], top[:, 0], top[:, 1]),
            np.interp(ring[:, 0], low[:, 0], low[:, 1]),
        )
    return found


def _blobs(u: Units, p: Person) -> list[tuple[float, float, float, float, float]]:
    """Soft shades on a level face: light gained, x, y, radius x, radius y (face units)."""
    ny, my, e = p.nose_y, p.mouth_y, p.eye_x
    cheek = 0.07 * u["AU12"] + 0.09 * u["AU06"]
    rows = [
        (0.1, 0.0, 0.3, 0.05, 0.22), (0.08, 0.0, ny - 0.06, 0.06, 0.05), (-0.16, 0.0, ny + 0.06, 0.12, 0.05),
        (-0.1, 0.0, my + 1.3 * p.lip + 0.07, 0.14, 0.04), (0.06, 0.0, p.chin - 0.14, 0.14, 0.09), (0.07, 0.0, -0.5, 0.4, 0.2),
        (-0.22 * u["AU04"], 0.0, -0.22, 0.09, 0.1), (-0.16 * u["AU09"], 0.0, 0.08, 0.12, 0.1),
        (0.1 * u["AU17"], 0.0, p.chin - 0.12, 0.12, 0.06),
    ]  # fmt: skip
    for x in (-1, 1):
        rows += [
            (-0.12, x * (e - 0.1), -0.1, 0.12, 0.09), (-0.1, x * (e + 0.12), -0.06, 0.12, 0.08), (-0.12, x * 0.12, 0.25, 0.05, 0.2),
            (0.05 + cheek, x * 0.42, 0.36 - 0.06 * u["AU06"], 0.16, 0.11), (-0.2, x * p.width, 0.25, 0.14, 0.5),
            (-0.14, x * 0.62 * p.width, p.chin - 0.12, 0.2, 0.16), (-0.1 * u["AU06"], x * (e + 0.04), 0.18, 0.2, 0.03),
        ]  # fmt: skip
    return rows


def outlines(p: Portrayal) -> Outlines:
    """All outlines of a portrayal, projected."""
    who, both = p.person, p.of()
    curves: dict[str, Points] = {}
    arcs: list[tuple[float, float, Points]] = []
    for k, side in enumerate((-1, 1)):
        u = p.of(side)
        half = dict(zip(_HALF, _CURVE @ np.array(_half(u, who, p.alert)), strict=True))
        half |= _eye(half["lid_top"], half["lid_low"], p, side)
        half["rim"] = (
            np.array([who.eye_x + 0.02, 0.05])
            + np.array([0.24, 0.19]) * np.sign(_RING) * np.abs(_RING) ** 0.75
        )
        half["ear"] = np.array([who.width * 1.0, 0.18]) + np.array([0.09, 0.19]) * _RING
        flip = np.array([side, 1.0])
        curves |= {f"{name}{k}": line * flip for name, line in half.items()}
        arcs += [
            (depth, width, _ARC @ np.array(row) * flip) for depth, width, row in _creases(u, who)
        ]
    lips = _CURVE @ np.array(_mouth(p.of(-1), p.of(1), who))
    lips[2, :, 1] = np.maximum(lips[2, :, 1], lips[1, :, 1])
    curves |= dict(zip(("lip_top", "lip_up", "lip_down", "lip_low"), lips, strict=True))
    arcs += [
        (depth, width, _ARC @ np.array(row)) for depth, width, row in _centre_creases(both, who)
    ]
    blobs = np.array(_blobs(both, who))
    curves["neck"] = np.array(
        [
            (-0.42, 0.7),
            (-0.44, 1.35),
            (-1.1, 1.7),
            (-1.1, 2.2),
            (1.1, 2.2),
            (1.1, 1.7),
            (0.44, 1.35),
            (0.42, 0.7),
        ]
    )
    sizes = [len(line) for line in curves.values()]
    flat = project(
        np.concatenate([*curves.values(), *(arc for *_, arc in arcs), blobs[:, 1:3]]), p.shot
    )
    split = np.split(flat, np.cumsum(sizes + [7] * len(arcs)))
    return Outlines(
        dict(zip(curves, split, strict=False)),
        [
            (depth, width, line)
            for (depth, width, _), line in zip(arcs, split[len(curves) :], strict=False)
        ],
        np.column_stack([blobs[:, 0], split[-1], blobs[:, 3:] * (p.shot.scale / VIEW)]),
    )


def five_points(p: Portrayal) -> Points:
    """The five points (5, 2) of `mien.records.Face`, in shares of the picture's side."""
    who = p.person
    lips = _mouth(p.of(-1), p.of(1), who)
    nose = (0.0, who.nose_y - 0.07)
    return project(
        np.array([(-who.eye_x, 0.0), (who.eye_x, 0.0), nose, lips[0][0], lips[0][4]]), p.shot
    )
