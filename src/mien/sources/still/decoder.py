"""Still pictures through Pillow: single ones, and the pages of a TIFF."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from mien.errors import SourceError
from mien.sources.base import (
    CLOCKWISE,
    MAX_PIXELS,
    Kind,
    Pixels,
    Source,
    TimedReads,
    Turn,
    apply_turn,
    one_line,
    out_of_memory,
)
from mien.sources.still.checksums import boxes_cut_off, png_damage, tiff_damage
from mien.sources.still.heif import heif_damage, is_heif, open_heif
from mien.sources.still.jpeg import decode_jpeg, jpeg_damage
from mien.sources.stored import Stored, head, open_stored
from mien.sources.suffixes import FORMATS

__all__ = [
    "MAX_STORED_PIXELS",
    "Pages",
    "Picture",
    "Still",
    "decode",
    "opened_picture",
    "page_numbers",
    "read_picture",
    "rgb",
]

MAX_STORED_PIXELS: Final = 200_000_000
"""Width x height above which a still picture is refused. Above `MAX_PIXELS` it is read at half its width and height."""

_BACKDROP: Final = (
    128  # behind transparency: the middle, so neither dark nor light hair gets an outline
)
_EXIF_TURNS: Final = {
    2: Turn(flip_columns=True),
    3: Turn(flip_columns=True, flip_rows=True),
    4: Turn(flip_rows=True),
    5: Turn(swap=True),
    6: Turn(swap=True, flip_columns=True),
    7: Turn(swap=True, flip_columns=True, flip_rows=True),
    8: Turn(swap=True, flip_rows=True),
}
_DEGREES: Final = {turn: degrees for degrees, turn in CLOCKWISE.items()}
_ORIENTATION, _EXIF_PART, _TAKEN, _CHANGED = 0x0112, 0x8769, 0x9003, 0x0132
_HEAD: Final = 64  # bytes that tell a HEIF file


@dataclass(slots=True)
class Still:
    """One decoded picture: upright RGB uint8 (H, W, 3), what was damaged, harmless notes, and facts for the dictionary."""

    pixels: Pixels
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    media: dict[str, object] = field(default_factory=dict)


class Picture(Source):
    """A still picture, decoded when opened, so that damage shows at once."""

    kind: Kind = "image"

    def __init__(self, name: str, still: Still) -> None:
        super().__init__(name)
        self._pixels = still.pixels
        self.length_s, self.frame_hint, self.size = (
            0.0,
            1,
            (still.pixels.shape[1], still.pixels.shape[0]),
        )
        self.media, self._damage = still.media, still.damage
        for line in still.notes:
            self.note(line)

    def _timed_reads(self) -> TimedReads:
        yield 0.0, lambda: self._pixels


class Pages(Source):
    """The pages of a TIFF: separate pictures, all at time 0. `Frame.index` counts them; reduced copies are no pages."""

    kind: Kind = "image"

    def __init__(self, name: str, stored: Stored, numbers: list[int]) -> None:
        super().__init__(name)
        self._stored, self._numbers = stored, numbers
        self.length_s, self.frame_hint = 0.0, len(numbers)
        self.media = {"codec": "tiff", "pages": len(numbers)}

    def _timed_reads(self) -> TimedReads:
        with opened_picture(self.name, self._stored) as image:
            if image is None:
                raise SourceError(
                    f"{self.name}: is no picture when read again; leave the file alone while it is analysed"
                )
            for page, number in enumerate(self._numbers):
                yield 0.0, lambda page=page, number=number: self._page(image, page, number)  # type: ignore[misc]

    def _page(self, image: Image.Image, page: int, number: int) -> Pixels | None:
        try:
            image.seek(number)
            still = decode(self.name, image, self._stored)
        except (SourceError, EOFError):
            return None
        self._problems += [f"page {page}: {line}" for line in still.damage]
        for line in still.notes:
            self.note(f"page {page}: {line}")
        return still.pixels


def read_picture(name: str, stored: Stored) -> Pixels | None:
    """Upright RGB uint8 (H, W, 3) of a picture file, the first where it holds several; None where it is no picture.

    Raises SourceError where it is one and cannot be decoded.
    """
    with opened_picture(name, stored) as image:
        return None if image is None else decode(name, image, stored).pixels


@contextmanager
def opened_picture(name: str, stored: Stored) -> Iterator[Image.Image | None]:
    """A picture file by its content, its pixels not yet decoded; None where no decoder of pictures knows it."""
    try:
        start = head(stored, _HEAD)
    except OSError as error:
        raise SourceError(
            f"{name}: cannot be opened ({error.strerror}); check the path and its permissions"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong is said in our own words, or harmless
        if is_heif(start):
            image, notes = open_heif(name, stored, start)
            image.info["notes"] = notes
            yield image
            return
        with open_stored(stored) as file:
            try:
                image = _identified(file)
            except UnidentifiedImageError:
                yield None
                return
            except MemoryError as error:
                raise out_of_memory(name) from error
            except Exception as error:
                raise _undecodable(name, error) from error
            with image:
                yield image


def _identified(file: "object") -> Image.Image:
    """What `Image.open` does, for pictures above Pillow's own limit too: ours is checked before any pixel is decoded."""
    Image.init()
    known = [each for each in FORMATS if each in Image.OPEN]
    try:
        return Image.open(file, formats=known)  # type: ignore[arg-type]
    except Image.DecompressionBombError:
        start = file.seek(0) or file.read(16)  # type: ignore[attr-defined]
        for each in known:
            factory, accepts = Image.OPEN[each]
            if accepts is not None and accepts(start) is True:
                file.seek(0)  # type: ignore[attr-defined]
                return factory(file, "")  # type: ignore[arg-type]
        raise


def decode(name: str, image: Image.Image, stored: Stored) -> Still:
    """The current picture of an open file, upright, with what was damaged about it. Raises SourceError."""
    width, height = image.size
    if width * height > MAX_STORED_PIXELS:
        raise _too_large(name, width, height)
    shrink = 2 if width * height > MAX_PIXELS else 1
    still = Still(np.empty((0, 0, 3), np.uint8), notes=list(image.info.get("notes", [])))
    try:
        pixels = _pixels(image, stored, shrink, still.damage)
        # Asked only now: Pillow turns some formats itself while it decodes, and then says so.
        turn = _EXIF_TURNS.get(_exif_orientation(image), Turn())
        still.pixels = apply_turn(pixels, turn)
        if turn == Turn() and _is_exif_damaged(image):
            still.notes.append(
                "its EXIF block is damaged: how the camera was held is not known, and the picture was taken as upright"
            )
    except MemoryError as error:
        raise out_of_memory(name) from error
    except Exception as error:  # decoders of damaged pictures raise almost anything
        raise _undecodable(name, error) from error
    mirrored = turn not in _DEGREES
    rotation = _DEGREES.get(
        turn._replace(flip_columns=not turn.flip_columns) if mirrored else turn, 0
    )
    still.media = {
        "width": width, "height": height, "rotation": rotation, "mirrored": mirrored, "codec": str(image.format).lower(),
        "frame_width": still.pixels.shape[1], "frame_height": still.pixels.shape[0], "created": _exif_time(image),
    }  # fmt: skip
    if shrink > 1:
        rows, columns = still.pixels.shape[:2]
        still.media["scale"] = 1 / shrink
        still.notes.append(
            f"{width} x {height} pixels, read at half size: boxes and points are in pixels of {columns} x {rows}"
        )
    return still


def _too_large(name: str, width: int, height: int) -> SourceError:
    millions = MAX_STORED_PIXELS / 1e6
    return SourceError(
        f"{name}: {width} x {height} pixels is more than the {millions:g} megapixels allowed; make it smaller"
    )


def _undecodable(name: str, error: Exception) -> SourceError:
    return SourceError(
        f"{name}: this picture cannot be decoded ({one_line(error)}); copy or export it again"
    )


def _pixels(image: Image.Image, stored: Stored, shrink: int, damage: list[str]) -> Pixels:
    """RGB uint8 (H, W, 3) as stored; what the decoders find damaged is added to `damage`."""
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB", "CMYK"):
        return _jpeg_pixels(image, stored, shrink, damage)
    image.load()
    damage += _damage(image, stored)
    if shrink > 1:
        image = _halved(image)
    return rgb(image)


def _jpeg_pixels(image: Image.Image, stored: Stored, shrink: int, damage: list[str]) -> Pixels:
    with open_stored(stored) as file:
        data = file.read()
    least = (-(-image.width // shrink), -(-image.height // shrink))
    four = image.mode == "CMYK"  # Pillow knows the ways in which inks are stored
    pixels, line = decode_jpeg(data, "CMYK" if four else "RGB", least)
    if line is None and not four and not image.info.get("progressive"):
        line = jpeg_damage(data)
    if line:
        damage.append(line)
    return pixels if not four else rgb(image.reduce(shrink) if shrink > 1 else image)


def _halved(image: Image.Image) -> Image.Image:
    """Half as wide and high, each pixel the mean of four."""
    if image.mode in ("P", "1", "PA") or image.mode.startswith("I;16"):
        image = image.convert(
            {"1": "L", "P": "RGBA" if image.has_transparency_data else "RGB", "PA": "RGBA"}.get(
                image.mode, "I"
            )
        )
    return image.reduce(2)


def _damage(image: Image.Image, stored: Stored) -> list[str]:
    """What the file says against its pixels where the decoder keeps silent. Raises ValueError where it is cut off."""
    if image.format == "PNG":
        return png_damage(stored)
    if image.format == "TIFF":
        return tiff_damage(image, stored)
    if image.format in ("AVIF", "HEIF") and boxes_cut_off(stored):
        raise ValueError("the file is cut off")
    line = heif_damage(stored) if image.format == "HEIF" else None
    return [line] if line else []


def page_numbers(image: Image.Image) -> list[int]:
    """Numbers of the pages of a TIFF, reduced copies of a page left out; [0] for every other picture."""
    if image.format != "TIFF" or getattr(image, "n_frames", 1) < 2:
        return [0]
    pages: list[int] = []
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        if not int(image.tag_v2.get(254, 0)) & 1:  # type: ignore[attr-defined]
            pages.append(number)
    image.seek(0)
    return pages or [0]


def _is_exif_damaged(image: Image.Image) -> bool:
    """Whether there is an EXIF block that does not say how the camera was held because it cannot be read."""
    block = image.info.get("exif")
    if not block or image.format in ("AVIF", "HEIF"):  # which say it elsewhere
        return False
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            exif = Image.Exif()  # anew: what the picture has kept hides that it was cut short
            exif.load(block)
            return bool(told) and _ORIENTATION not in exif
        except Exception:  # of many kinds
            return True


def _exif_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block must not cost the picture
        return 1


def _exif_time(image: Image.Image) -> str | None:
    """When the photo was taken, as the camera wrote it."""
    try:
        exif = image.getexif()
        time = exif.get_ifd(_EXIF_PART).get(_TAKEN) or exif.get(_CHANGED)
    except Exception:  # a damaged EXIF block must not cost the picture
        return None
    return time.strip("\0 ") or None if isinstance(time, str) else None


def rgb(image: Image.Image) -> Pixels:
    """RGB uint8 (H, W, 3) of any mode: 16 bits scaled to 8, transparency laid over mid-grey."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return np.repeat(((wide + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        backdrop = Image.new("RGBA", image.size, (_BACKDROP, _BACKDROP, _BACKDROP, 255))
        image = Image.alpha_composite(backdrop, image.convert("RGBA"))
    return np.array(image.convert("RGB"))
