"""Animated pictures (GIF, WebP, AVIF, APNG) are films with times of their own."""

import os
from functools import partial
from typing import BinaryIO, Final

from PIL import Image

from mien.errors import SourceError
from mien.sources.base import Kind, Source, TimedReads, one_line, out_of_memory, refuse_huge
from mien.sources.still.checksums import png_damage
from mien.sources.still.decoder import opened_picture, rgb
from mien.sources.stored import Stored, open_stored

__all__ = ["Animation", "is_animated"]

_FORMATS: Final = frozenset({"AVIF", "GIF", "PNG", "WEBP"})
_MIN_MS: Final = 10.0
# How long browsers show a frame that asks for `_MIN_MS` or less.
_DEFAULT_MS: Final = 100.0

_EXTENSION = b"\x21"
_IMAGE = b"\x2c"
_PADDING = b"\0"
_TRAILER = b"\x3b"
"""First bytes of a GIF's blocks."""


def is_animated(image: Image.Image) -> bool:
    """Whether a picture is a film.

    Args:
        image: An open picture.

    Returns:
        Whether it holds several frames. A second picture that a camera adds to a JPEG does not
        count.
    """
    if image.format not in _FORMATS:
        return False
    try:
        return bool(getattr(image, "is_animated", False)) and _frame_count(image) > 1
    except Exception:
        # Damaged; `Animation` reports how far it can be read.
        return True


class Animation(Source):
    """An animated picture. Frames are what a browser shows, over mid-grey where transparent.

    A frame's time is the sum of the durations before it; one of 10 ms or less counts 100 ms, as in
    browsers.
    """

    kind: Kind = "video"

    def __init__(self, name: str, stored: Stored, image: Image.Image) -> None:
        """Settle that its first frame can be read.

        Args:
            name: Name of the source.
            stored: The file.
            image: The same file, opened.

        Raises:
            SourceError: It is too large, or its first frame cannot be decoded.
        """
        super().__init__(name)
        self._stored = stored
        refuse_huge(name, *image.size)
        self.size = image.size
        try:
            self.frame_hint = _frame_count(image)
        except Exception:
            # Damaged further on: how many frames there are shows when they are read.
            self.frame_hint = None
        try:
            image.load()
        except MemoryError as error:
            raise out_of_memory(name) from error
        except Exception as error:
            raise SourceError(
                f"{name}: its first frame cannot be decoded ({one_line(error)}); "
                "copy or export it again"
            ) from error
        if image.format == "PNG":
            self._damage += png_damage(stored)
        # Estimated from the first frame's duration.
        self.length_s = (self.frame_hint or 0) * _duration_s(image) or None
        self._describe(image)

    def _describe(self, image: Image.Image) -> None:
        rate = None
        if self.frame_hint and self.length_s:
            rate = self.frame_hint / self.length_s
        self.media = {
            "width": image.width,
            "height": image.height,
            "frame_width": image.width,
            "frame_height": image.height,
            "codec": str(image.format).lower(),
            "frame_rate": rate,
            "duration_s": self.length_s,
            "interlaced": False,
        }

    def _timed_reads(self) -> TimedReads:
        with opened_picture(self.name, self._stored) as image:
            if image is None:
                raise SourceError(
                    f"{self.name}: is no picture when read again; "
                    "leave the file alone while it is analysed"
                )
            # An APNG may begin with a picture for programs that show no animations.
            first = int(getattr(image, "default_image", False))
            number = first
            time_s = 0.0
            while self._load(image, number, first):
                yield time_s, partial(rgb, image)
                time_s += _duration_s(image)
                number += 1

    def _load(self, image: Image.Image, number: int, first: int) -> bool:
        """Decode a frame; False where there is none, and a problem where there should be one."""
        try:
            image.seek(number)
            image.load()
        except EOFError:
            self._problems += self._early_end(image, number)
            return False
        except MemoryError as error:
            raise out_of_memory(self.name) from error
        except Exception as error:
            position = number - first + 1
            self._problems.append(
                f"ends early: frame {position} cannot be decoded ({one_line(error)})"
            )
            return False
        return True

    def _early_end(self, image: Image.Image, count: int) -> list[str]:
        """Whether the file ends before it says so."""
        promised = getattr(image, "n_frames", count)
        if promised > count:
            return [f"ends early: {count} of {promised} frames"]
        if image.format == "GIF" and not _has_trailer(self._stored):
            return [f"ends early, after {count} frames: what follows is damaged or missing"]
        return []


def _frame_count(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1)) - int(getattr(image, "default_image", False))


def _duration_s(image: Image.Image) -> float:
    duration_ms = float(image.info.get("duration") or 0)
    return (duration_ms if duration_ms > _MIN_MS else _DEFAULT_MS) / 1000


def _has_trailer(stored: Stored) -> bool:
    """Whether the blocks of a GIF follow one another up to its trailer.

    Bytes that some programs add after the trailer do not count.
    """
    with open_stored(stored) as file:
        header = file.read(13)
        _skip_colours(file, header[10:11])
        while (kind := file.read(1)) in (_EXTENSION, _IMAGE, _PADDING):
            # Decoders skip zeros between blocks.
            if kind == _PADDING:
                continue
            if kind == _IMAGE:
                descriptor = file.read(9)
                _skip_colours(file, descriptor[8:9])
            # The label of an extension, or the size of the codes.
            file.seek(1, os.SEEK_CUR)
            _skip_sub_blocks(file)
        return kind == _TRAILER


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    """Skip a table of colours, if the flags say that one follows."""
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)


def _skip_sub_blocks(file: BinaryIO) -> None:
    """Skip blocks that begin with their length, up to one of length 0 or the end of the file."""
    while True:
        length = file.read(1)
        if not length or not length[0]:
            return
        file.seek(length[0], os.SEEK_CUR)
