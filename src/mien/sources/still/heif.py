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
    """Whether a picture that failed because pillow-heif was missing can be read by now.

    Args:
        problem: The error of an earlier run.

    Returns:
        Whether that was the reason, and pillow-heif is installed now.
    """
    return _NEEDED in problem and find_spec("pillow_heif") is not None


def is_heif(start: bytes) -> bool:
    """Whether a file is a HEIF picture; FFmpeg would take it for a film and show one tile of it.

    Args:
        start: The first bytes of the file.

    Returns:
        Whether its file type box names a HEIF brand, and none of AVIF.
    """
    size = int.from_bytes(start[:4], "big")
    kind = start[4:8]
    if kind != b"ftyp" or start[8:12] not in _PICTURES | _BURSTS:
        return False
    for position in range(16, min(size, len(start)), 4):
        if start[position : position + 4] in _AVIF:
            return False
    return True


def open_heif(name: str, stored: Stored, start: bytes) -> tuple[Image.Image, list[str]]:
    """Open the main picture, with all of its tiles put together.

    Args:
        name: Name of the source.
        stored: The file.
        start: Its first bytes.

    Returns:
        The picture, turned upright and not yet decoded, and notes on the rest of the file.

    Raises:
        SourceError: pillow-heif is not installed or cannot read it.
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
    except Exception as error:
        # Decoders of damaged pictures raise almost anything.
        raise SourceError(
            f"{name}: this HEIC picture cannot be decoded ({one_line(error)}); "
            "copy or export it again"
        ) from error
    picture.format = "HEIF"
    notes: list[str] = []
    if start[8:12] in _BURSTS or len(heif) > 1:
        notes.append("holds several pictures; its main one was read")
    return picture, notes


def heif_damage(stored: Stored) -> str | None:
    """What FFmpeg finds damaged in the tiles of a HEIC picture; libheif hides it.

    Args:
        stored: The file.

    Returns:
        One line; None if nothing is damaged, or FFmpeg does not know this kind of HEIF.
    """
    file = stored if isinstance(stored, str) else open_stored(stored)
    try:
        # A file must not make FFmpeg go to the network.
        container = av.open(file, "r", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError, ValueError):
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
