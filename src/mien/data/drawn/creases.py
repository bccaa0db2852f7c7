"""The folds and soft shades of a drawn face, by which most action units can be seen at all.

A fold is a stroke along an arc through three points that takes away light. Folds whose depth is
near 0 are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from mien.data.drawn.features import Line, Weights, weighted
from mien.data.drawn.portrayal import Activations, Person

__all__ = ["Blob", "Fold", "blobs", "centre_folds", "side_folds"]

Offsets = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

# Depth from which a fold is drawn.
_VISIBLE: Final = 0.03


class Fold(NamedTuple):
    """A fold.

    Attributes:
        depth: Share of light that it takes; below 0 it gives light.
        width: In face units.
        arc: Three points.
    """

    depth: float
    width: float
    arc: Line


class Blob(NamedTuple):
    """A soft shade on a level face, lengths in face units.

    Attributes:
        gain: Light gained; below 0 lost.
        x, y: Its middle.
        width, height: Its radii.
    """

    gain: float
    x: float
    y: float
    width: float
    height: float


class _Rule(NamedTuple):
    """How deep a fold is, and where it lies from an anchor.

    Attributes:
        depth: What each unit, and ``age``, adds at its full strength.
        width: In face units.
        offsets: Three points from the anchor.
    """

    depth: Weights
    width: float
    offsets: Offsets


# From the eye's middle.
_BELOW_EYE: Final = (_Rule({"AU06": 0.5}, 0.028, ((-0.17, 0.15), (0.02, 0.2), (0.22, 0.11))),)
# From the middle between the eyes.
_AT_NOSE: Final = (
    _Rule({"AU09": 0.45}, 0.028, ((0.05, -0.1), (0.1, 0.0), (0.16, 0.13))),
    _Rule({"AU09": 0.42}, 0.024, ((0.0, 0.06), (0.06, 0.05), (0.11, 0.1))),
    _Rule({"AU09": 0.42}, 0.024, ((0.0, 0.16), (0.06, 0.15), (0.12, 0.21))),
    _Rule({"AU04": 0.5, "age": 0.1}, 0.026, ((0.05, -0.36), (0.04, -0.28), (0.055, -0.17))),
)
# From the corner of the mouth.
_AT_CORNER: Final = (
    _Rule({"AU15": 0.5}, 0.03, ((0.02, -0.01), (0.05, 0.06), (0.03, 0.14))),
    _Rule({"AU14": 0.6}, 0.035, ((0.03, -0.07), (0.07, 0.0), (0.03, 0.07))),
    _Rule({"AU20": 0.45}, 0.025, ((0.04, -0.1), (0.07, 0.02), (0.03, 0.15))),
    _Rule({"AU20": 0.4}, 0.025, ((0.1, -0.08), (0.13, 0.01), (0.09, 0.11))),
)
_CORNER_X: Final = {"AU12": 0.11, "AU20": 0.13, "AU18": -0.1}
_CORNER_Y: Final = {"AU12": -0.11, "AU15": 0.1}
_NASOLABIAL: Final = {"age": 0.3, "AU12": 0.4, "AU10": 0.42, "AU09": 0.3, "AU20": 0.12}
# Depth at full strength and y from the mouth of the folds above and below it.
_PRESSED: Final = ((-0.1, -0.08), (-0.12, 0.09), (0.4, 0.155), (0.3, -0.14))
_ROLLED_IN: Final = ((0.4, -0.06), (0.42, 0.065), (-0.1, -0.12), (-0.1, 0.13))


def side_folds(units: Activations, person: Person) -> list[Fold]:
    """Folds on one side of the face.

    Args:
        units: Activations on that side.
        person: Whose face it is.

    Returns:
        The visible folds with x above 0, in the order in which they are painted.
    """
    strengths = {**units, "age": person.age}
    # Where the corner of the mouth is pulled to.
    corner = (
        weighted(units, _CORNER_X, start=person.mouth_w),
        weighted(units, _CORNER_Y, start=person.mouth_y),
    )
    folds = _nose_folds(units, person)
    folds.append(_nasolabial_fold(strengths, person, corner))
    folds.append(_lower_lid_fold(strengths, person))
    folds += _at(_BELOW_EYE, strengths, (person.eye_x, 0.0))
    folds += _at(_AT_NOSE, strengths, (0.0, 0.0))
    folds += _at(_AT_CORNER, strengths, corner)
    for k in range(3):
        folds.append(_crows_foot(strengths, person, k))
        folds.append(_outer_brow_line(units, person, k))
    return _visible(folds)


def centre_folds(units: Activations, person: Person) -> list[Fold]:
    """Folds that cross the middle of the face.

    Args:
        units: Activations, those of both sides.
        person: Whose face it is.

    Returns:
        The visible folds, in the order in which they are painted.
    """
    mouth = person.mouth_y
    folds = [_chin_fold(units, person)]
    folds += [_forehead_line(units, person, k) for k in range(3)]
    for k, x in enumerate((-0.09, -0.03, 0.03, 0.09)):
        folds.append(_chin_dimple(units, person, x, k))
        folds += _puckers(units, person, x)
    for depth, y in _PRESSED:
        height = mouth + y
        arc = [(-0.2, height), (0.0, height), (0.2, height)]
        folds.append(Fold(depth * units["AU24"], 0.05, arc))
    for depth, y in _ROLLED_IN:
        arc = [(-0.22, mouth + 0.4 * y), (0.0, mouth + y), (0.22, mouth + 0.4 * y)]
        folds.append(Fold(depth * units["AU28"], 0.045, arc))
    return _visible(folds)


def blobs(units: Activations, person: Person) -> list[Blob]:
    """Soft shades of the whole face.

    Args:
        units: Activations, those of both sides.
        person: Whose face it is.

    Returns:
        The shades; one whose unit is at rest gains nothing.
    """
    nose, chin = person.nose_y, person.chin
    below_lips = person.mouth_y + 1.3 * person.lip + 0.07
    # Shades add up in this order; another one would change the last bit of pixels.
    shades = [Blob(0.1, 0.0, 0.3, 0.05, 0.22)]
    shades.append(Blob(0.08, 0.0, nose - 0.06, 0.06, 0.05))
    shades.append(Blob(-0.16, 0.0, nose + 0.06, 0.12, 0.05))
    shades.append(Blob(-0.1, 0.0, below_lips, 0.14, 0.04))
    shades.append(Blob(0.06, 0.0, chin - 0.14, 0.14, 0.09))
    shades.append(Blob(0.07, 0.0, -0.5, 0.4, 0.2))
    shades.append(Blob(-0.22 * units["AU04"], 0.0, -0.22, 0.09, 0.1))
    shades.append(Blob(-0.16 * units["AU09"], 0.0, 0.08, 0.12, 0.1))
    shades.append(Blob(0.1 * units["AU17"], 0.0, chin - 0.12, 0.12, 0.06))
    for side in (-1, 1):
        shades += _side_blobs(units, person, side)
    return shades


def _side_blobs(units: Activations, person: Person, side: int) -> list[Blob]:
    """Sockets, cheek, temple and jaw of one side."""
    eye, raised = person.eye_x, units["AU06"]
    cheek = 0.07 * units["AU12"] + 0.09 * raised
    jaw_y = person.chin - 0.12
    inner_socket = Blob(-0.12, side * (eye - 0.1), -0.1, 0.12, 0.09)
    outer_socket = Blob(-0.1, side * (eye + 0.12), -0.06, 0.12, 0.08)
    nose_side = Blob(-0.12, side * 0.12, 0.25, 0.05, 0.2)
    cheekbone = Blob(0.05 + cheek, side * 0.42, 0.36 - 0.06 * raised, 0.16, 0.11)
    temple = Blob(-0.2, side * person.width, 0.25, 0.14, 0.5)
    jaw = Blob(-0.14, side * 0.62 * person.width, jaw_y, 0.2, 0.16)
    eye_bag = Blob(-0.1 * raised, side * (eye + 0.04), 0.18, 0.2, 0.03)
    return [inner_socket, outer_socket, nose_side, cheekbone, temple, jaw, eye_bag]


def _at(
    rules: Sequence[_Rule], strengths: Mapping[str, float], anchor: tuple[float, float]
) -> list[Fold]:
    """The folds of a table, laid from an anchor."""
    folds = []
    for rule in rules:
        arc = [(anchor[0] + x, anchor[1] + y) for x, y in rule.offsets]
        folds.append(Fold(weighted(strengths, rule.depth), rule.width, arc))
    return folds


def _visible(folds: Iterable[Fold]) -> list[Fold]:
    return [fold for fold in folds if abs(fold.depth) > _VISIBLE]


def _wing(units: Activations, person: Person) -> float:
    """x of the nose's wing."""
    return person.nose_w + 0.03 * units["AU09"] + 0.015 * units["AU10"]


def _nose_lift(units: Activations) -> float:
    """How far the base of the nose is drawn up."""
    return 0.05 * units["AU09"] + 0.03 * units["AU10"]


def _nose_folds(units: Activations, person: Person) -> list[Fold]:
    """The wing of the nose and the nostril."""
    wing, base, lift = _wing(units, person), person.nose_y, _nose_lift(units)
    upper = (wing - 0.02, base - 0.1 - lift)
    outer = (wing + 0.015, base - 0.04 - lift)
    lower = (wing - 0.045, base + 0.005 - lift)
    inner_end = (0.3 * wing, base + 0.005 - lift)
    top = (0.48 * wing, base - 0.012 - lift)
    outer_end = (0.68 * wing, base - lift)
    return [
        Fold(0.35, 0.025, [upper, outer, lower]),
        Fold(0.55, 0.035, [inner_end, top, outer_end]),
    ]


def _nasolabial_fold(
    strengths: Mapping[str, float], person: Person, corner: tuple[float, float]
) -> Fold:
    """From the wing of the nose to the corner of the mouth."""
    x, y = corner
    wing, base = _wing(strengths, person), person.nose_y
    top = (wing + 0.03, base - 0.09 - 1.5 * _nose_lift(strengths))
    middle = ((wing + x) / 2 + 0.075, (base + y) / 2 - 0.04)
    bottom = (x + 0.075, y + 0.03)
    depth = min(weighted(strengths, _NASOLABIAL, start=0.1), 0.6)
    return Fold(depth, 0.028, [top, middle, bottom])


def _lower_lid_fold(strengths: Mapping[str, float], person: Person) -> Fold:
    eye = person.eye_x
    depth = weighted(strengths, {"age": 0.2, "AU07": 0.3}, start=0.12)
    middle = (eye, 0.115 - 0.015 * strengths["AU07"])
    return Fold(depth, 0.02, [(eye - 0.12, 0.07), middle, (eye + 0.13, 0.06)])


def _crows_foot(strengths: Mapping[str, float], person: Person, k: int) -> Fold:
    """One of three lines that spread from the outer corner of the eye."""
    corner = person.eye_x + person.eye_w
    slope = 0.055 * (k - 1)
    arc = [
        (corner + 0.025, 0.3 * slope + 0.01),
        (corner + 0.08, 0.8 * slope + 0.01),
        (corner + 0.14, 1.7 * slope + 0.02),
    ]
    return Fold(weighted(strengths, {"AU06": 0.5, "age": 0.25}), 0.018, arc)


def _outer_brow_line(units: Activations, person: Person, k: int) -> Fold:
    """One of three lines of the forehead over the outer brow."""
    y = person.brow_y - 0.13 - 0.09 * k - 0.1 * units["AU02"]
    depth = 0.42 * units["AU02"] * (1 - 0.2 * k)
    return Fold(depth, 0.024, [(0.22, y), (0.38, y - 0.035), (0.56, y + 0.02)])


def _chin_fold(units: Activations, person: Person) -> Fold:
    """Between the lower lip and the chin."""
    lip = person.mouth_y + 1.3 * person.lip + 0.2 * units["AU26"] * units["AU25"]
    middle = (0.0, lip + 0.055 - 0.035 * units["AU17"])
    depth = 0.14 + 0.32 * units["AU17"]
    return Fold(depth, 0.03, [(-0.13, lip + 0.08), middle, (0.13, lip + 0.08)])


def _forehead_line(units: Activations, person: Person, k: int) -> Fold:
    """One of three lines across the middle of the forehead."""
    y = person.brow_y - 0.15 - 0.09 * k - 0.07 * units["AU01"]
    depth = 0.45 * units["AU01"] + 0.14 * person.age
    return Fold(depth, 0.024, [(-0.2, y), (0.0, y - 0.02 + 0.03 * units["AU01"]), (0.2, y)])


def _chin_dimple(units: Activations, person: Person, x: float, k: int) -> Fold:
    chin = person.chin + 0.2 * units["AU26"]
    y = chin - 0.14 + 0.035 * (k % 2)
    return Fold(0.4 * units["AU17"], 0.022, [(x - 0.02, y), (x, y - 0.02), (x + 0.02, y)])


def _puckers(units: Activations, person: Person, x: float) -> list[Fold]:
    """Lines above and below tight or puckered lips."""
    depth = 0.32 * units["AU23"] + 0.3 * units["AU18"]
    upper = person.mouth_y - person.lip
    lower = person.mouth_y + person.lip
    above = [(1.3 * x, upper - 0.13), (1.2 * x, upper - 0.08), (x, upper - 0.025)]
    below = [(1.3 * x, lower + 0.11), (1.2 * x, lower + 0.07), (x, lower + 0.03)]
    return [Fold(depth, 0.016, above), Fold(depth, 0.016, below)]
