"""Paints a drawn face: one frozen record in, one picture out, always the same one.

Everything is painted at twice the size and averaged down. Skin is shaded by multiplying with two layers: a soft one (light,
cheeks, sockets) and a fine one (creases). RGB throughout.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.drawn.geometry import (
    VIEW,
    Colour,
    Crease,
    Outlines,
    Points,
    Portrayal,
    Shot,
    outlines,
)

__all__ = ["draw"]

Image = NDArray[np.uint8]
_SHIFT: Final = 4  # OpenCV takes sixteenths of a pixel
_FINE: Final = 2
_COARSE: Final = 4  # the soft layer needs few pixels
_TEETH: Final = (238.0, 234.0, 222.0)
_MOUTH: Final = (74.0, 24.0, 28.0)
_TONGUE: Final = (178.0, 84.0, 88.0)
_WHITE: Final = (236.0, 233.0, 228.0)
_DARK: Final = (22.0, 18.0, 18.0)
# Light that has gone through skin is red, so its shades lose less red.
_WARM: Final = np.clip(128 * (np.arange(256) / 128) ** 0.7, 0, 255).astype(np.uint8)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour."""
    a, b, c = ((1 - share) * x + share * y for x, y in zip(one, other, strict=True))
    return a, b, c


class _Brush:
    """Paints smooth shapes, given in shares of the side, into a square picture (side, side[, 3])."""

    def __init__(self, picture: Image, scale: float) -> None:
        self.picture = picture
        self.side = len(picture)
        self.unit = self.side * scale / VIEW  # pixels in a face unit

    def fixed(self, points: Points) -> NDArray[np.int32]:
        return np.asarray((points * (self.side * 2**_SHIFT) - 2 ** (_SHIFT - 1)).astype(np.int32))

    def fill(self, colour: Colour, *paths: Points) -> None:
        """One shape: the paths, end to end."""
        outline = paths[0] if len(paths) == 1 else np.concatenate(paths)
        cv2.fillPoly(self.picture, [self.fixed(outline)], colour, cv2.LINE_AA, _SHIFT)

    def stroke(self, colour: Colour, width: float, *paths: Points, closed: bool = False) -> None:
        """Lines of one width (face units)."""
        cv2.polylines(
            self.picture,
            [self.fixed(path) for path in paths],
            closed,
            colour,
            self.pixels(width),
            cv2.LINE_AA,
            _SHIFT,
        )

    def pixels(self, width: float) -> int:
        return max(round(width * self.unit), 1)


def draw(portrayal: Portrayal, size: int) -> Image:
    """The picture, RGB uint8 (size, size, 3). Raises ValueError when `size` is below 16."""
    if size < 16:
        raise ValueError(f"size is {size}; a drawn face needs at least 16 pixels")
    shape = outlines(portrayal)
    brush = _Brush(_background(portrayal.shot, size * _FINE), portrayal.shot.scale)
    _head(brush, portrayal, shape.curves)
    _shade(brush, portrayal.shot, shape)
    _mouth(brush, portrayal, shape.curves)
    for k in "01":
        _eye(brush, portrayal, shape.curves, k)
    _front(brush, portrayal, shape.curves)
    picture = cv2.resize(brush.picture, (size, size), interpolation=cv2.INTER_AREA)
    return _camera(np.asarray(picture, np.uint8), portrayal.shot)


def _background(shot: Shot, side: int) -> Image:
    share = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    top, foot = (np.array(colour, np.float32) for colour in shot.back)
    rows = (top + (foot - top) * share).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(rows, (side, side, 3)))


def _head(brush: _Brush, p: Portrayal, c: dict[str, Points]) -> None:
    """Hair behind, neck, ears, the face's skin, and the beard on it."""
    who = p.person
    if who.style >= 2:
        brush.fill(mix(who.hair, _DARK, 0.3), c["back0"][::-1], c["back1"])
    brush.fill(mix(who.skin, _DARK, 0.22), c["neck"])
    for k in "01":
        brush.fill(mix(who.skin, _DARK, 0.1), c["ear" + k])
    brush.fill(who.skin, c["outline0"], c["outline1"][::-1], c["skull1"][::-1], c["skull0"])
    if who.beard > 0:
        tone = mix(who.skin, who.hair, who.beard)
        brush.fill(tone, c["beard0"], c["beard1"][::-1], c["outline1"][8:], c["outline0"][:7:-1])


def _shade(brush: _Brush, shot: Shot, shape: Outlines) -> None:
    side = brush.side // _COARSE
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    gain, x, y, wide, high = shape.blobs.astype(np.float32).T[..., None]
    soft = (gain * np.exp(-(((at - y) / high) ** 2))).T @ np.exp(-(((at - x) / wide) ** 2))
    soft += 1 + shot.light[0] * (at[None, :] - 0.5) + shot.light[1] * (at[:, None] - 0.5)
    layer = cv2.resize(
        (np.clip(soft, 0, 1.99) * 128).astype(np.uint8),
        (brush.side, brush.side),
        interpolation=cv2.INTER_LINEAR,
    )
    fine = _creases(brush, shape.creases, [shape.curves["lid_top0"], shape.curves["lid_top1"]])
    layer = cv2.multiply(layer, fine, scale=1 / 128)
    cv2.multiply(
        brush.picture,
        cv2.merge([cv2.LUT(layer, _WARM), layer, layer]),
        dst=brush.picture,
        scale=1 / 128,
    )


def _creases(brush: _Brush, creases: list[Crease], lids: list[Points]) -> Image:
    """The fine layer (side, side): 128 where no light is lost."""
    fine = _Brush(np.full((brush.side, brush.side), 128, np.uint8), brush.unit * VIEW / brush.side)
    up = np.array([0.0, 0.045 * brush.unit / brush.side])
    fine.stroke((96, 96, 96), 0.02, *(lid[2:-1] - up for lid in lids))
    for depth, width, path in creases:
        wide = width * fine.unit
        value = 128 * (1 - depth * min(wide, 1.0))
        fine.stroke((value, value, value), width, path)
    return np.asarray(cv2.GaussianBlur(fine.picture, (0, 0), max(0.012 * fine.unit, 0.4)), np.uint8)


def _mouth(brush: _Brush, p: Portrayal, c: dict[str, Points]) -> None:
    who, u = p.person, p.of()
    red = mix(mix(who.skin, (186.0, 62.0, 72.0), who.lip_red), _DARK, 0.06)
    top, up, down, low = c["lip_top"], c["lip_up"], c["lip_down"], c["lip_low"]
    brush.fill(mix(red, _DARK, 0.1), top, up[::-1])
    brush.fill(red, down, low[::-1])
    brush.fill(
        mix(red, (255.0, 235.0, 230.0), 0.22),
        (0.62 * down + 0.38 * low)[5:12],
        (0.3 * down + 0.7 * low)[11:4:-1],
    )
    gap = float(np.linalg.norm(down[8] - up[8])) * brush.side / brush.unit
    if gap > 0.012:
        brush.fill(_MOUTH, up, down[::-1])
        if gap > 0.13:
            brush.fill(_TONGUE, (0.42 * up + 0.58 * down)[5:12], down[11:4:-1])
        share = min(0.075 / gap, 0.75)
        brush.fill(_TEETH, up[2:15], (up + share * (down - up))[14:1:-1])
        if u["AU16"] > 0.2:
            share = min(0.055 * u["AU16"] / gap, 0.4)
            brush.fill(_TEETH, down[3:14], (down + share * (up - down))[13:2:-1])
    line = mix(_MOUTH, who.skin, 0.25)
    brush.stroke(line, 0.014 + 0.016 * max(u["AU24"], u["AU28"]), up)


def _eye(brush: _Brush, p: Portrayal, c: dict[str, Points], k: str) -> None:
    top, low = c["lid_top" + k], c["lid_low" + k]
    brush.fill(_WHITE, top, low[::-1])
    brush.fill(p.person.iris, c["iris" + k])
    brush.fill(_DARK, c["pupil" + k])
    brush.fill((250.0, 250.0, 250.0), c["glint" + k])
    brush.stroke(mix(p.person.skin, _DARK, 0.45), 0.012, low)
    brush.stroke(mix(p.person.skin, _DARK, 0.85), 0.028, top)


def _front(brush: _Brush, p: Portrayal, c: dict[str, Points]) -> None:
    """Brows, hair and glasses."""
    who = p.person
    for k in "01":
        brush.fill(mix(who.hair, _DARK, 0.25), c["brow_top" + k], c["brow_low" + k][::-1])
    if who.style:
        brush.fill(who.hair, c["hair0"][::-1], c["hair1"], c["fringe1"][::-1], c["fringe0"])
    if who.glasses:
        rims = [c["rim0"], c["rim1"]]
        brush.stroke((40.0, 36.0, 40.0), 0.028, *rims, closed=True)
        brush.stroke((40.0, 36.0, 40.0), 0.028, np.stack([c["rim0"][10], c["rim1"][10]]))


def _camera(picture: Image, shot: Shot) -> Image:
    """Light, something in front, blur, noise and JPEG."""
    size = len(picture)
    value = picture * np.array(
        [shot.gain * shot.warmth, shot.gain, shot.gain / shot.warmth], np.float32
    )
    if shot.patch is not None:
        left, top, wide, high = (round(v * size) for v in shot.patch)
        value[top : top + high, left : left + wide] = shot.back[0]
    if shot.blur > 0:
        value = np.asarray(cv2.GaussianBlur(value, (0, 0), shot.blur * size))
    if shot.noise > 0:
        value = value + shot.noise * np.random.default_rng(shot.seed).standard_normal(
            value.shape, np.float32
        )
    taken = np.clip(value, 0, 255).astype(np.uint8)
    if shot.jpeg:
        coded = cv2.imencode(".jpg", taken[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, shot.jpeg])[1]
        taken = np.ascontiguousarray(
            np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
        )
    return taken
