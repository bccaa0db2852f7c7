"""HEIC and HEIF pictures, known by content. They are read with pillow-heif, an optional part."""

from importlib.util import find_spec
from typing import Final

import av
from av.error import InvalidDataError
from PIL import Image

from mien.errors import SourceError
from mien.sources.base import one_line, out_of_memory
from mien.sources.stored import Stored, open_stored

__all__ = ["heif_damage", "is_heif", "now_readable", "open_heif"]

_PICTURES: Final = frozenset({b"avci", b"heic", b"heim", b"heis", b"heix", b"mif1", b"mif2"})
_BURSTS: Final = frozenset({b"avcs", b"hevc", b"hevm", b"hevs", b"hevx", b"msf1"})
_AVIF: Final = frozenset({b"avif", b"avis"})


_NEEDED: Final = 'needs an optional part; install it with: pip install "mien[heic]"'


def now_readable(problem: str) -> bool:
    """Whether a problem of an earlier run was that pillow-heif was missing, and it no longer is."""
    return _NEEDED in problem and find_spec("pillow_heif") is not None


def is_heif(start: bytes) -> bool:
    """Whether a file that begins so is a HEIF picture; FFmpeg would take it for a film and show one tile of it."""
    size, kind, major = int.from_bytes(start[:4], "big"), start[4:8], start[8:12]
    others = {start[at : at + 4] for at in range(16, min(size, len(start)), 4)}
    return kind == b"ftyp" and major in _PICTURES | _BURSTS and not _AVIF & others


def open_heif(name: str, stored: Stored, start: bytes) -> tuple[Image.Image, list[str]]:
    """The main picture, all of its tiles put together and turned upright, not yet decoded; and notes on the rest.

    Raises SourceError where pillow-heif is not installed or cannot read it.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise SourceError(
            f"{name}: is a HEIC picture, which {_NEEDED}, or save it as JPEG"
        ) from error
    try:
        with open_stored(stored) as file:
            heif = pillow_heif.open_heif(file, convert_hdr_to_8bit=True)
        picture: Image.Image = heif[heif.primary_index].to_pillow()
    except MemoryError as error:
        raise out_of_memory(name) from error
    except Exception as error:  # decoders of damaged pictures raise almost anything
        raise SourceError(
            f"{name}: this HEIC picture cannot be decoded ({one_line(error)}); copy or export it again"
        ) from error
    picture.format = "HEIF"
    burst = start[8:12] in _BURSTS or len(heif) > 1
    return picture, ["holds several pictures; its main one was read"] if burst else []


def heif_damage(stored: Stored) -> str | None:
    """What FFmpeg finds damaged in the tiles of a HEIC picture; libheif hides it."""
    place = stored if isinstance(stored, str) else open_stored(stored)
    try:
        container = av.open(place, "r", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError, ValueError):  # a kind of HEIF that it does not know
        return None
    with container:
        for stream in container.streams.video:
            stream.codec_context.options = {"err_detect": "explode+crccheck+bitstream"}
        try:
            for packet in container.demux():
                if packet.size and packet.stream.type == "video":
                    packet.decode()
        except InvalidDataError:
            return "damaged picture data (codes that no HEVC picture holds)"
        except (av.FFmpegError, ValueError):
            return None
    return None
