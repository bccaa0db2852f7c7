"""Still pictures through Pillow: single ones, and the pages of a TIFF."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
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
    reader_of,
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
"""Width x height above which a still picture is refused. Above `MAX_PIXELS` it is read at half its
width and height."""

# Grey behind transparency: the middle, so neither dark nor light hair gets an outline.
_BACKDROP: Final = 128
_EXIF_TURNS: Final = {
    2: Turn(flip_columns=True),
    3: Turn(flip_columns=True, flip_rows=True),
    4: Turn(flip_rows=True),
    5: Turn(swap=True),
    6: Turn(swap=True, flip_columns=True),
    7: Turn(swap=True, flip_columns=True, flip_rows=True),
    8: Turn(swap=True, flip_rows=True),
}
# Of TIFF: the tag NewSubfileType, and its flag for a reduced copy.
_PAGE_KIND = 254
_REDUCED = 1
_DEGREES: Final = {turn: degrees for degrees, turn in CLOCKWISE.items()}
_ORIENTATION = 0x0112
_EXIF_PART = 0x8769
_TAKEN = 0x9003
_CHANGED = 0x0132
# Bytes by which a HEIF file is recognised.
_HEAD: Final = 64


@dataclass(slots=True)
class Still:
    """One decoded picture.

    Attributes:
        pixels: Upright RGB uint8 (H, W, 3).
        damage: What was damaged, one line each.
        notes: Harmless facts about how it was read, one line each.
        media: Facts for the data dictionary.
    """

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
        self.length_s = 0.0
        self.frame_hint = 1
        height, width = still.pixels.shape[:2]
        self.size = (width, height)
        self.media = still.media
        self._damage = still.damage
        for line in still.notes:
            self.note(line)

    def _timed_reads(self) -> TimedReads:
        yield 0.0, reader_of(self._pixels)


class Pages(Source):
    """The pages of a TIFF: separate pictures, all at time 0.

    `Frame.index` counts the pages; reduced copies of a page do not count.
    """

    kind: Kind = "image"

    def __init__(self, name: str, stored: Stored, numbers: list[int]) -> None:
        super().__init__(name)
        self._stored = stored
        self._numbers = numbers
        self.length_s = 0.0
        self.frame_hint = len(numbers)
        self.media = {"codec": "tiff", "pages": len(numbers)}

    def _timed_reads(self) -> TimedReads:
        with opened_picture(self.name, self._stored) as image:
            if image is None:
                raise SourceError(
                    f"{self.name}: is no picture when read again; "
                    "leave the file alone while it is analysed"
                )
            for page, number in enumerate(self._numbers):
                yield 0.0, partial(self._page, image, page, number)

    def _page(self, image: Image.Image, page: int, number: int) -> Pixels | None:
        """Decode one page; `number` counts the reduced copies too."""
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
    """Read a picture file, the first picture where it holds several.

    Args:
        name: What errors call it.
        stored: The file.

    Returns:
        Upright RGB uint8 (H, W, 3); None if it is no picture.

    Raises:
        SourceError: It is a picture and cannot be decoded.
    """
    with opened_picture(name, stored) as image:
        return None if image is None else decode(name, image, stored).pixels


@contextmanager
def opened_picture(name: str, stored: Stored) -> Iterator[Image.Image | None]:
    """Open a picture file by its content.

    Args:
        name: What errors call it.
        stored: The file.

    Yields:
        The picture, its pixels not yet decoded; None if no decoder of pictures knows it.

    Raises:
        SourceError: It cannot be opened.
    """
    try:
        start = head(stored, _HEAD)
    except OSError as error:
        raise SourceError(
            f"{name}: cannot be opened ({error.strerror}); check the path and its permissions"
        ) from error
    with warnings.catch_warnings():
        # What is wrong is reported as damage; the rest is harmless.
        warnings.simplefilter("ignore")
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
    """What `Image.open` does, for pictures above Pillow's own limit too.

    Ours is checked before any pixel is decoded.
    """
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        return Image.open(file, formats=known)  # type: ignore[arg-type]
    except Image.DecompressionBombError:
        start = file.seek(0) or file.read(16)  # type: ignore[attr-defined]
        for name in known:
            factory, accepts = Image.OPEN[name]
            if accepts is not None and accepts(start) is True:
                file.seek(0)  # type: ignore[attr-defined]
                return factory(file, "")  # type: ignore[arg-type]
        raise


def decode(name: str, image: Image.Image, stored: Stored) -> Still:
    """Decode the current picture of an open file.

    Args:
        name: What errors call it.
        image: The open picture, at the page to be decoded.
        stored: The same file.

    Returns:
        The picture, upright, with its damage.

    Raises:
        SourceError: It is too large, or cannot be decoded.
    """
    width, height = image.size
    if width * height > MAX_STORED_PIXELS:
        raise _too_large(name, width, height)
    shrink = 2 if width * height > MAX_PIXELS else 1
    still = Still(np.empty((0, 0, 3), np.uint8), notes=list(image.info.get("notes", [])))
    try:
        pixels = _pixels(image, stored, shrink, still.damage)
        # Read only now: Pillow turns some formats itself while it decodes, and then says so.
        turn = _EXIF_TURNS.get(_exif_orientation(image), Turn())
        still.pixels = apply_turn(pixels, turn)
        if turn == Turn() and _is_exif_damaged(image):
            still.notes.append(
                "its EXIF block is damaged: how the camera was held is not known, "
                "and the picture was taken as upright"
            )
    except MemoryError as error:
        raise out_of_memory(name) from error
    except Exception as error:
        # Decoders of damaged pictures raise almost anything.
        raise _undecodable(name, error) from error
    _describe(still, image, (width, height), turn)
    if shrink > 1:
        rows, columns = still.pixels.shape[:2]
        still.media["scale"] = 1 / shrink
        still.notes.append(
            f"{width} x {height} pixels, read at half size: "
            f"boxes and points are in pixels of {columns} x {rows}"
        )
    return still


def _describe(still: Still, image: Image.Image, size: tuple[int, int], turn: Turn) -> None:
    """Fill in the facts for the data dictionary; `size` is width and height as stored."""
    is_mirrored = turn not in _DEGREES
    # Of a mirrored picture the rotation is what remains once it is flipped back.
    rotation = turn._replace(flip_columns=not turn.flip_columns) if is_mirrored else turn
    still.media = {
        "width": size[0],
        "height": size[1],
        "rotation": _DEGREES.get(rotation, 0),
        "mirrored": is_mirrored,
    }
    still.media |= {
        "codec": str(image.format).lower(),
        "frame_width": still.pixels.shape[1],
        "frame_height": still.pixels.shape[0],
        "created": _exif_time(image),
    }


def _too_large(name: str, width: int, height: int) -> SourceError:
    millions = MAX_STORED_PIXELS / 1e6
    return SourceError(
        f"{name}: {width} x {height} pixels is more than the {millions:g} megapixels allowed; "
        "make it smaller"
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
    size = (-(-image.width // shrink), -(-image.height // shrink))
    is_cmyk = image.mode == "CMYK"
    pixels, line = decode_jpeg(data, "CMYK" if is_cmyk else "RGB", size)
    if line is None and not is_cmyk and not image.info.get("progressive"):
        line = jpeg_damage(data)
    if line:
        damage.append(line)
    if not is_cmyk:
        return pixels
    # Pillow knows the ways in which inks are stored; libjpeg was asked for the damage alone.
    return rgb(image.reduce(shrink) if shrink > 1 else image)


def _halved(image: Image.Image) -> Image.Image:
    """Half as wide and high, each pixel the mean of four."""
    # Modes that cannot be averaged, such as numbers of a palette.
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode == "PA" or (image.mode == "P" and image.has_transparency_data):
        image = image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    elif image.mode.startswith("I;16"):
        image = image.convert("I")
    return image.reduce(2)


def _damage(image: Image.Image, stored: Stored) -> list[str]:
    """Damage that the decoder does not report; raises ValueError where the file is cut off."""
    if image.format == "PNG":
        return png_damage(stored)
    if image.format == "TIFF":
        return tiff_damage(image, stored)
    if image.format in ("AVIF", "HEIF") and boxes_cut_off(stored):
        raise ValueError("the file is cut off")
    line = heif_damage(stored) if image.format == "HEIF" else None
    return [line] if line else []


def page_numbers(image: Image.Image) -> list[int]:
    """List the pages of a TIFF.

    Args:
        image: An open picture.

    Returns:
        Numbers of the pages, without reduced copies of a page; [0] for every other picture.
    """
    if image.format != "TIFF" or getattr(image, "n_frames", 1) < 2:
        return [0]
    pages: list[int] = []
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        kind = int(image.tag_v2.get(_PAGE_KIND, 0))  # type: ignore[attr-defined]
        if not kind & _REDUCED:
            pages.append(number)
    image.seek(0)
    return pages or [0]


def _is_exif_damaged(image: Image.Image) -> bool:
    """Whether damage to an EXIF block hides how the camera was held."""
    block = image.info.get("exif")
    # AVIF and HEIF store the orientation elsewhere.
    if not block or image.format in ("AVIF", "HEIF"):
        return False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            # Parsed anew: the picture's own copy hides that it was cut short.
            exif = Image.Exif()
            exif.load(block)
            return bool(caught) and _ORIENTATION not in exif
        except Exception:
            return True


def _exif_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # A damaged EXIF block must not cost the picture.
        return 1


def _exif_time(image: Image.Image) -> str | None:
    """When the photo was taken, as the camera wrote it."""
    try:
        exif = image.getexif()
        time = exif.get_ifd(_EXIF_PART).get(_TAKEN) or exif.get(_CHANGED)
    except Exception:
        # A damaged EXIF block must not cost the picture.
        return None
    if not isinstance(time, str):
        return None
    return time.strip("\0 ") or None


def rgb(image: Image.Image) -> Pixels:
    """Convert a picture of any mode: 16 bits are scaled to 8, transparency is laid over mid-grey.

    Args:
        image: A decoded picture.

    Returns:
        RGB uint8 (H, W, 3).

    Raises:
        ValueError: Its pixels are floating-point numbers, which have no agreed range.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return np.repeat(((wide + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        backdrop = Image.new("RGBA", image.size, (_BACKDROP, _BACKDROP, _BACKDROP, 255))
        image = Image.alpha_composite(backdrop, image.convert("RGBA"))
    return np.array(image.convert("RGB"))
