"""Still pictures through Pillow, and arrays from Python."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from mien.errors import SourceError
from mien.sources.base import MAX_PIXELS, Kind, Moments, Pixels, Source, Turn, refuse_huge, turned

__all__ = ["Arrays", "Picture", "checked", "read_picture"]

_FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_BACKDROP: Final = 128  # behind transparency: the middle, so neither dark nor light hair gets an outline
_EXIF_TURNS: Final = {
    2: Turn(flip_columns=True),
    3: Turn(flip_columns=True, flip_rows=True),
    4: Turn(flip_rows=True),
    5: Turn(swap=True),
    6: Turn(swap=True, flip_columns=True),
    7: Turn(swap=True, flip_columns=True, flip_rows=True),
    8: Turn(swap=True, flip_rows=True),
}


class Picture(Source):
    """A still picture, decoded when opened, so that damage shows at once."""

    kind: Kind = "image"

    def __init__(self, name: str, pixels: Pixels) -> None:
        super().__init__(name)
        self._pixels = pixels
        self.length_s, self.frame_hint, self.size = 0.0, 1, (pixels.shape[1], pixels.shape[0])

    def _moments(self) -> Moments:
        yield 0.0, lambda: self._pixels


def read_picture(name: str, path: str) -> Pixels | None:
    """Upright RGB uint8 (H, W, 3) of a picture file; None where Pillow does not know the format."""
    Image.init()
    known: list[str] = [each for each in _FORMATS if each in Image.OPEN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong is said in our own words, or harmless
        try:
            with Image.open(path, formats=known) as image:
                refuse_huge(name, *image.size)
                image.load()
                return turned(_rgb(image), _EXIF_TURNS.get(_exif_orientation(image), Turn()))
        except UnidentifiedImageError:
            return None
        except SourceError:
            raise
        except Image.DecompressionBombError as error:
            raise SourceError(f"{name}: more than the {MAX_PIXELS / 1e6:g} megapixels allowed; make it smaller") from error
        except Exception as error:  # decoders of damaged pictures raise almost anything
            raise SourceError(f"{name}: this picture cannot be decoded ({error}); copy or export it again") from error


def _exif_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block must not cost the picture
        return 1


def _rgb(image: Image.Image) -> Pixels:
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


class Arrays(Source):
    """Arrays from Python, with or without times."""

    kind: Kind = "arrays"

    def __init__(self, items: Iterable[Any]) -> None:
        super().__init__("arrays")
        self._items = items
        self.frame_hint = len(items) if isinstance(items, Sequence | np.ndarray) else None

    def _moments(self) -> Moments:
        last = -math.inf
        for index, item in enumerate(self._items):
            time_s, array = (float(index), item) if not isinstance(item, tuple) else item
            if not (time_s > last and math.isfinite(time_s)):
                raise SourceError(f"arrays: item {index} is at {time_s} s, not after the one before; sort them by time")
            last, pixels = time_s, checked(array, f"arrays: item {index}")
            yield float(time_s), lambda pixels=pixels: pixels  # type: ignore[misc]


def checked(array: object, where: str) -> Pixels:
    """The array itself if it is RGB uint8 (H, W, 3); else SourceError, naming `where`."""
    if isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size:
        refuse_huge(where, array.shape[1], array.shape[0])
        return cast(Pixels, array)
    found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
    raise SourceError(f"{where}: expected RGB uint8 (H, W, 3), got {found}; convert it first")
