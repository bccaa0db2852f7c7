"""Animated pictures (GIF, WebP, AVIF, APNG) are films with times of their own."""

import os
from typing import BinaryIO, Final

from PIL import Image

from mien.errors import SourceError
from mien.sources.base import Kind, Source, TimedReads, one_line, out_of_memory, refuse_huge
from mien.sources.still.checksums import png_damage
from mien.sources.still.decoder import opened_picture, rgb
from mien.sources.stored import Stored, open_stored

__all__ = ["Animation", "is_animated"]

_FORMATS: Final = frozenset({"AVIF", "GIF", "PNG", "WEBP"})
_LEAST_MS: Final = 10.0
_DEFAULT_MS: Final = 100.0  # what browsers show a frame for that asks for `_LEAST_MS` or less


def is_animated(image: Image.Image) -> bool:
    """Whether an open picture is a film. A second picture that a camera adds to a JPEG does not make one."""
    if image.format not in _FORMATS:
        return False
    try:
        return bool(getattr(image, "is_animated", False)) and _count(image) > 1
    except Exception:  # damaged; `Animation` tells how far it can be read
        return True


class Animation(Source):
    """An animated picture. Frames are what a browser shows, after disposal and blending, over mid-grey.

    A frame's time is the sum of the durations before it; one of 10 ms or less counts 100 ms, as in browsers.
    """

    kind: Kind = "video"

    def __init__(self, name: str, stored: Stored, image: Image.Image) -> None:
        super().__init__(name)
        self._stored = stored
        refuse_huge(name, *image.size)
        self.size = image.size
        try:
            self.frame_hint = _count(image)
        except Exception:  # damaged further on: how many frames there are shows when they are read
            self.frame_hint = None
        try:
            image.load()
        except MemoryError as error:
            raise out_of_memory(name) from error
        except Exception as error:
            raise SourceError(
                f"{name}: its first frame cannot be decoded ({one_line(error)}); copy or export it again"
            ) from error
        self.length_s = (self.frame_hint or 0) * _duration_s(image) or None
        if image.format == "PNG":
            self._damage += png_damage(stored)
        rate = self.frame_hint / self.length_s if self.frame_hint and self.length_s else None
        self.media = {
            "width": image.width, "height": image.height, "frame_width": image.width, "frame_height": image.height,
            "codec": str(image.format).lower(), "frame_rate": rate, "duration_s": self.length_s, "interlaced": False,
        }  # fmt: skip

    def _timed_reads(self) -> TimedReads:
        with opened_picture(self.name, self._stored) as image:
            if image is None:
                raise SourceError(
                    f"{self.name}: is no picture when read again; leave the file alone while it is analysed"
                )
            first = int(
                getattr(image, "default_image", False)
            )  # shown where animations are not; no part of the film
            number, time_s = first, 0.0
            while True:
                try:
                    image.seek(number)
                    image.load()
                except EOFError:
                    break
                except MemoryError as error:
                    raise out_of_memory(self.name) from error
                except Exception as error:
                    self._problems.append(
                        f"ends early: frame {number - first + 1} cannot be decoded ({one_line(error)})"
                    )
                    return
                yield time_s, lambda: rgb(image)
                time_s += _duration_s(image)
                number += 1
            self._problems += self._cut(image, number)

    def _cut(self, image: Image.Image, count: int) -> list[str]:
        """Whether the file ends before it says so."""
        promised = getattr(image, "n_frames", count)
        if promised > count:
            return [f"ends early: {count} of {promised} frames"]
        if image.format == "GIF" and not _has_trailer(self._stored):
            return [f"ends early, after {count} frames: what follows is damaged or missing"]
        return []


def _count(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1)) - int(getattr(image, "default_image", False))


def _duration_s(image: Image.Image) -> float:
    duration = float(image.info.get("duration") or 0)
    return (duration if duration > _LEAST_MS else _DEFAULT_MS) / 1000


def _has_trailer(stored: Stored) -> bool:
    """Whether the blocks of a GIF follow one another up to its trailer; bytes that some programs add after it do not count."""
    with open_stored(stored) as file:
        _skip_colours(file, file.read(13)[10:11])
        while (kind := file.read(1)) in (b"\x21", b"\x2c", b"\0"):
            if kind == b"\0":  # between blocks: decoders pass over it
                continue
            if kind == b"\x2c":
                _skip_colours(file, file.read(9)[8:9])
            file.seek(1, os.SEEK_CUR)  # label of an extension, or size of the codes
            while length := file.read(1)[:1].strip(b"\0"):
                file.seek(length[0], os.SEEK_CUR)
        return kind == b"\x3b"


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)
