"""Paints a drawn face: one frozen record in, one picture out, always the same one.

Everything is painted at twice the size and averaged down. Skin is shaded by multiplying with two
layers: a soft one (light, cheeks, sockets) and a fine one (creases). RGB throughout.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.drawn.geometry import Crease, Outlines, outlines
from mien.data.drawn.portrayal import VIEW, Colour, Points, Portrayal, Shot

__all__ = ["draw"]

Image = NDArray[np.uint8]
Curves = Mapping[str, Points]
# OpenCV takes sixteenths of a pixel.
_SHIFT: Final = 4
_FINE: Final = 2
# Soft shades are painted this many times smaller: they need few pixels.
_COARSE: Final = 4
_TEETH: Final = (238.0, 234.0, 222.0)
_MOUTH: Final = (74.0, 24.0, 28.0)
_TONGUE: Final = (178.0, 84.0, 88.0)
_WHITE: Final = (236.0, 233.0, 228.0)
_GLINT: Final = (250.0, 250.0, 250.0)
_DARK: Final = (22.0, 18.0, 18.0)
_LIP_RED: Final = (186.0, 62.0, 72.0)
_LIP_SHINE: Final = (255.0, 235.0, 230.0)
_FRAME: Final = (40.0, 36.0, 40.0)
# Light that has gone through skin is red, so its shades lose less red.
_WARM: Final = np.clip(128 * (np.arange(256) / 128) ** 0.7, 0, 255).astype(np.uint8)


def draw(portrayal: Portrayal, size: int) -> Image:
    """Paint a portrayal.

    Args:
        portrayal: What is drawn.
        size: Side of the picture in pixels.

    Returns:
        RGB uint8 (size, size, 3).

    Raises:
        ValueError: When `size` is below 16.
    """
    if size < 16:
        raise ValueError(f"size is {size}; a drawn face needs at least 16 pixels")
    shape = outlines(portrayal)
    brush = _Brush(_background(portrayal.shot, size * _FINE), portrayal.shot.scale)
    _head(brush, portrayal, shape.curves)
    _shade(brush, portrayal.shot, shape)
    _mouth(brush, portrayal, shape.curves)
    for side in "01":
        _eye(brush, portrayal, shape.curves, side)
    _front(brush, portrayal, shape.curves)
    picture = cv2.resize(brush.picture, (size, size), interpolation=cv2.INTER_AREA)
    return _camera(np.asarray(picture, np.uint8), portrayal.shot)


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """A colour between two others.

    Args:
        colour: RGB, 0..255.
        other: RGB, 0..255.
        share: Of the other colour, 0..1.

    Returns:
        RGB, 0..255.
    """
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(colour, other, strict=True))
    return red, green, blue


class _Brush:
    """Paints smooth shapes, given in shares of the side, into a square picture."""

    def __init__(self, picture: Image, scale: float) -> None:
        self.picture = picture
        self.side = len(picture)
        self.unit = self.side * scale / VIEW  # pixels in a face unit

    def fixed(self, points: Points) -> NDArray[np.int32]:
        """Points in OpenCV's fixed-point pixels, in which whole numbers are pixel centres."""
        scaled = points * (self.side * 2**_SHIFT) - 2 ** (_SHIFT - 1)
        return np.asarray(scaled.astype(np.int32))

    def fill(self, colour: Colour, *paths: Points) -> None:
        """One shape: the paths, end to end."""
        outline = paths[0] if len(paths) == 1 else np.concatenate(paths)
        cv2.fillPoly(self.picture, [self.fixed(outline)], colour, cv2.LINE_AA, _SHIFT)

    def stroke(self, colour: Colour, width: float, *paths: Points, closed: bool = False) -> None:
        """Lines of one width (face units)."""
        lines = [self.fixed(path) for path in paths]
        pixels = max(round(width * self.unit), 1)
        cv2.polylines(self.picture, lines, closed, colour, pixels, cv2.LINE_AA, _SHIFT)


def _background(shot: Shot, side: int) -> Image:
    share = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    top = np.array(shot.back[0], np.float32)
    foot = np.array(shot.back[1], np.float32)
    rows = (top + (foot - top) * share).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(rows, (side, side, 3)))


def _head(brush: _Brush, portrayal: Portrayal, curves: Curves) -> None:
    """Hair behind, neck, ears, the face's skin, and the beard on it."""
    person = portrayal.person
    # Full and long hair is seen behind the face.
    if person.style >= 2:
        behind = mix(person.hair, _DARK, 0.3)
        brush.fill(behind, curves["back0"][::-1], curves["back1"])
    brush.fill(mix(person.skin, _DARK, 0.22), curves["neck"])
    for side in "01":
        brush.fill(mix(person.skin, _DARK, 0.1), curves["ear" + side])
    left, right = curves["outline0"], curves["outline1"]
    brush.fill(person.skin, left, right[::-1], curves["skull1"][::-1], curves["skull0"])
    if person.beard > 0:
        tone = mix(person.skin, person.hair, person.beard)
        # The lower half of the outline, from the cheeks to the chin.
        brush.fill(tone, curves["beard0"], curves["beard1"][::-1], right[8:], left[:7:-1])


def _shade(brush: _Brush, shot: Shot, shape: Outlines) -> None:
    """Multiply what was painted with the soft and the fine layer, in which 128 means 1."""
    soft = (np.clip(_soft_light(brush.side // _COARSE, shot, shape), 0, 1.99) * 128).astype(
        np.uint8
    )
    layer = cv2.resize(soft, (brush.side, brush.side), interpolation=cv2.INTER_LINEAR)
    lids = [shape.curves["lid_top0"], shape.curves["lid_top1"]]
    layer = cv2.multiply(layer, _creases(brush, shape.creases, lids), scale=1 / 128)
    warm = cv2.merge([cv2.LUT(layer, _WARM), layer, layer])
    cv2.multiply(brush.picture, warm, dst=brush.picture, scale=1 / 128)


def _soft_light(side: int, shot: Shot, shape: Outlines) -> NDArray[np.float32]:
    """Light on a smooth face (side, side), 1 where nothing is gained or lost."""
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    gain, x, y, width, height = shape.blobs.astype(np.float32).T[..., None]
    # A blob is a Gaussian in x times one in y, so all of them are one matrix product.
    down = gain * np.exp(-(((at - y) / height) ** 2))
    across = np.exp(-(((at - x) / width) ** 2))
    soft = down.T @ across
    soft += 1 + shot.light[0] * (at[None, :] - 0.5) + shot.light[1] * (at[:, None] - 0.5)
    return np.asarray(soft)


def _creases(brush: _Brush, creases: Sequence[Crease], lids: Sequence[Points]) -> Image:
    """The fine layer (side, side): 128 where no light is lost."""
    blank = np.full((brush.side, brush.side), 128, np.uint8)
    fine = _Brush(blank, brush.unit * VIEW / brush.side)
    # The fold of the upper lid is in every face.
    up = np.array([0.0, 0.045 * brush.unit / brush.side])
    fine.stroke((96, 96, 96), 0.02, *(lid[2:-1] - up for lid in lids))
    for depth, width, path in creases:
        # A stroke is at least a pixel wide, so one that should be thinner is painted fainter.
        pixels = width * fine.unit
        value = 128 * (1 - depth * min(pixels, 1.0))
        fine.stroke((value, value, value), width, path)
    sigma = max(0.012 * fine.unit, 0.4)
    return np.asarray(cv2.GaussianBlur(fine.picture, (0, 0), sigma), np.uint8)


def _mouth(brush: _Brush, portrayal: Portrayal, curves: Curves) -> None:
    """Lips, and what is seen between them."""
    person, units = portrayal.person, portrayal.activations()
    red = mix(mix(person.skin, _LIP_RED, person.lip_red), _DARK, 0.06)
    upper, lower, low = curves["lip_up"], curves["lip_down"], curves["lip_low"]
    brush.fill(mix(red, _DARK, 0.1), curves["lip_top"], upper[::-1])
    brush.fill(red, lower, low[::-1])
    shine_top = (0.62 * lower + 0.38 * low)[5:12]
    shine_foot = (0.3 * lower + 0.7 * low)[11:4:-1]
    brush.fill(mix(red, _LIP_SHINE, 0.22), shine_top, shine_foot)
    gap = float(np.linalg.norm(lower[8] - upper[8])) * brush.side / brush.unit
    if gap > 0.012:
        _open_mouth(brush, upper, lower, gap, units["AU16"])
    line = mix(_MOUTH, person.skin, 0.25)
    brush.stroke(line, 0.014 + 0.016 * max(units["AU24"], units["AU28"]), upper)


def _open_mouth(brush: _Brush, upper: Points, lower: Points, gap: float, depressor: float) -> None:
    """Tongue and teeth.

    gap: height of the opening, face units. depressor: activation of AU16, which bares lower teeth.
    """
    brush.fill(_MOUTH, upper, lower[::-1])
    if gap > 0.13:
        tongue = (0.42 * upper + 0.58 * lower)[5:12]
        brush.fill(_TONGUE, tongue, lower[11:4:-1])
    # Teeth have one height in face units, whatever the opening.
    share = min(0.075 / gap, 0.75)
    brush.fill(_TEETH, upper[2:15], (upper + share * (lower - upper))[14:1:-1])
    if depressor > 0.2:
        share = min(0.055 * depressor / gap, 0.4)
        brush.fill(_TEETH, lower[3:14], (lower + share * (upper - lower))[13:2:-1])


def _eye(brush: _Brush, portrayal: Portrayal, curves: Curves, side: str) -> None:
    top, low = curves["lid_top" + side], curves["lid_low" + side]
    skin = portrayal.person.skin
    brush.fill(_WHITE, top, low[::-1])
    brush.fill(portrayal.person.iris, curves["iris" + side])
    brush.fill(_DARK, curves["pupil" + side])
    brush.fill(_GLINT, curves["glint" + side])
    brush.stroke(mix(skin, _DARK, 0.45), 0.012, low)
    # Lashes make the upper edge darker and thicker.
    brush.stroke(mix(skin, _DARK, 0.85), 0.028, top)


def _front(brush: _Brush, portrayal: Portrayal, curves: Curves) -> None:
    """Brows, hair and glasses."""
    person = portrayal.person
    for side in "01":
        brow = mix(person.hair, _DARK, 0.25)
        brush.fill(brow, curves["brow_top" + side], curves["brow_low" + side][::-1])
    if person.style:
        edge = (curves["fringe1"][::-1], curves["fringe0"])
        brush.fill(person.hair, curves["hair0"][::-1], curves["hair1"], *edge)
    if person.glasses:
        rims = (curves["rim0"], curves["rim1"])
        brush.stroke(_FRAME, 0.028, *rims, closed=True)
        bridge = np.stack([rims[0][10], rims[1][10]])
        brush.stroke(_FRAME, 0.028, bridge)


def _camera(picture: Image, shot: Shot) -> Image:
    """Light, something in front, blur, noise and JPEG."""
    size = len(picture)
    gains = [shot.gain * shot.warmth, shot.gain, shot.gain / shot.warmth]
    value = picture * np.array(gains, np.float32)
    if shot.patch is not None:
        left, top, width, height = (round(share * size) for share in shot.patch)
        value[top : top + height, left : left + width] = shot.back[0]
    if shot.blur > 0:
        value = np.asarray(cv2.GaussianBlur(value, (0, 0), shot.blur * size))
    if shot.noise > 0:
        rng = np.random.default_rng(shot.seed)
        value = value + shot.noise * rng.standard_normal(value.shape, np.float32)
    taken = np.clip(value, 0, 255).astype(np.uint8)
    return _compressed(taken, shot.jpeg) if shot.jpeg else taken


def _compressed(picture: Image, quality: int) -> Image:
    """The picture after JPEG. OpenCV's order of colours is BGR."""
    _, code = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])
