"""Is a file whole? Containers state how long their parts are; a part that reaches beyond the end of the file was cut off.

That is exact where lengths in seconds are estimates, and it holds for live recordings, which state no length at all.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO, Final

__all__ = ["is_cut_off"]

_SEGMENT: Final = 0x18538067
_CLUSTER: Final = 0x1F43B675
_UNKNOWN: Final = -1


def is_cut_off(file: BinaryIO, container: str) -> bool:
    """Whether a file ends within one of its parts. container: FFmpeg's name of the format.

    Formats that this module does not know, and files whose structure is damaged before their end, are not said to be cut off.
    """
    walks = {"matroska,webm": _matroska, "avi": _riff, "mov,mp4,m4a,3gp,3g2,mj2": _boxes, "flv": _flv}
    if container not in walks:
        return False
    size = file.seek(0, os.SEEK_END)
    return any(end > size for end in walks[container](file, size))


def _matroska(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the elements of a Matroska file end; of unknown lengths, those of the elements within."""
    at = 0
    while at < size:
        head = _element(file, at)
        if head is None:  # the file ends within an element's head; or rubbish, of which nothing can be said
            file.seek(at)
            if size - at < 12 and file.read(1) != b"\0":
                yield size + 1
            return
        name, length, body = head
        if length != _UNKNOWN and name != _SEGMENT:
            yield body + length
            at = body + length
        elif name in (_SEGMENT, _CLUSTER):
            if length != _UNKNOWN:
                yield body + length
            at = body  # its elements come one after the other, and a cluster of unknown length ends where the next begins
        else:
            return


def _element(file: BinaryIO, at: int) -> tuple[int, int, int] | None:
    """Identifier, length of the body and its place, of the element at this place; None where there is no whole head."""
    file.seek(at)
    data = file.read(12)
    if not data or not data[0]:
        return None
    wide = 9 - data[0].bit_length()
    if wide > 4 or len(data) <= wide or not data[wide]:
        return None
    name = int.from_bytes(data[:wide], "big")
    long = 9 - data[wide].bit_length()
    if len(data) < wide + long:
        return None
    length = int.from_bytes(data[wide : wide + long], "big") & ((1 << 7 * long) - 1)
    return name, _UNKNOWN if length == (1 << 7 * long) - 1 else length, at + wide + long


def _riff(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the RIFF chunks of an AVI file end; long files hold several. Recorders that were stopped leave lengths of 0."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or not length:
            return
        at += 8 + length
        yield at
        at += length % 2


def _boxes(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the top boxes of an MP4 or QuickTime file end."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isascii():  # 0: to the end of the file
            return
        at += length
        yield at


def _flv(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the tags of a Flash file end."""
    file.seek(0)
    at = int.from_bytes(file.read(9)[5:9], "big") + 4
    while at < size:
        file.seek(at)
        head = file.read(4)
        if len(head) < 4:
            yield size + 1
            return
        if head[0] & 0x1F not in (8, 9, 18):
            return
        at += 11 + int.from_bytes(head[1:4], "big") + 4
        yield at
