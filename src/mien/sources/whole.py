"""Is a file whole? Containers state how long their parts are; a part that reaches beyond the end of the file was cut off.

That is exact where lengths in seconds are estimates, and it holds for live recordings, which state no length at all.
FFmpeg passes over parts that it does not understand without a word; here they are damage.
"""

import os
from collections.abc import Iterator
from enum import StrEnum
from typing import BinaryIO, Final

import numpy as np

__all__ = ["Flaw", "flaw_of", "is_joint"]

_SEGMENT: Final = 0x18538067
_CLUSTER: Final = 0x1F43B675
_IN_SEGMENT: Final = frozenset(
    {
        0x114D9B74,
        0x1549A966,
        0x1654AE6B,
        0x1C53BB6B,
        0x1043A770,
        0x1941A469,
        0x1254C367,
        0x1A45DFA3,
        0xBF,
        0xEC,
    }
)
_IN_CLUSTER: Final = frozenset({0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0xAF, 0x5854})
_UNKNOWN: Final = -1
_SERVICES: Final = 0x11  # a table that may stand before that of the programs
_NEAR: Final = 1 << 20  # bytes in which all parts of a recording have surely come
_TABLES: Final = 6  # packets of tables at the beginning of a recording, at most
_SYNC: Final = 0x47
_AT_ONCE: Final = 1 << 16  # transport packets looked at together
_PACKETS: Final = (
    (188, 0),
    (192, 4),
    (204, 0),
)  # size of a transport packet, and where its first byte is 0x47


class Flaw(StrEnum):
    """What is wrong with the structure of a file."""

    cut_off = "the file was cut off"
    damaged = "the file is damaged"


def flaw_of(file: BinaryIO, container: str) -> Flaw | None:
    """What is wrong with the structure of a file; None where nothing is, or where this module does not know the format.

    container: FFmpeg's name of the format.
    """
    walks = {
        "matroska,webm": _matroska, "avi": _riff, "mov,mp4,m4a,3gp,3g2,mj2": _boxes, "flv": _flv, "ogg": _ogg,
        "mpegts": _transport,
    }  # fmt: skip
    if container not in walks:
        return None
    size = file.seek(0, os.SEEK_END)
    last = 0
    for end in walks[container](file, size):
        if end == _UNKNOWN:
            return Flaw.damaged
        last = max(last, end)
    return Flaw.cut_off if last > size else None


def _matroska(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the elements of a Matroska file end, those within clusters too; `_UNKNOWN` at one that has no place there."""
    at = 0
    while at < size:
        file.seek(at)
        data = file.read(12)
        head = _element(data)
        if head is None:  # the file ends within an element's head; or rubbish
            yield size + 1 if len(data) < 12 and data[0] else _UNKNOWN
            return
        name, length, body = head
        if name in (_SEGMENT, _CLUSTER):
            if length != _UNKNOWN:
                yield at + body + length
            at += body  # what is in it comes one after the other; one of unknown length ends where the next begins
        elif length != _UNKNOWN and name in _IN_SEGMENT | _IN_CLUSTER:
            at += body + length
            yield at
        else:
            yield _UNKNOWN
            return


def _element(data: bytes) -> tuple[int, int, int] | None:
    """Identifier, length of the body, and length of the head of the element that begins so; None where its head is not whole."""
    wide = 9 - data[0].bit_length()
    if wide > 4 or len(data) <= wide or not data[wide]:
        return None
    long = 9 - data[wide].bit_length()
    if len(data) < wide + long:
        return None
    most = (1 << 7 * long) - 1
    length = int.from_bytes(data[wide : wide + long], "big") & most
    return int.from_bytes(data[:wide], "big"), _UNKNOWN if length == most else length, wide + long


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
    """Where the tags of a Flash file end; `_UNKNOWN` at one that has no place there."""
    file.seek(0)
    at = int.from_bytes(file.read(9)[5:9], "big") + 4
    while at < size:
        file.seek(at)
        head = file.read(4)
        if len(head) == 4 and head[0] & 0x1F not in (8, 9, 18):
            yield _UNKNOWN
            return
        at += 11 + int.from_bytes(head[1:4], "big") + 4
        yield at if len(head) == 4 else size + 1


def _ogg(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the pages of an Ogg file end; `_UNKNOWN` where none begins."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(27)
        if not head.startswith(b"OggS"[: len(head)]):
            yield _UNKNOWN
            return
        lengths = file.read(head[26]) if len(head) == 27 else b""
        whole = len(head) == 27 and len(lengths) == head[26]
        at = at + 27 + len(lengths) + sum(lengths) if whole else size + 1
        yield at


def _transport(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the last packet of a transport stream ends; `_UNKNOWN` where a packet is none, or is marked as damaged."""
    for length, offset in _PACKETS:
        if all(_byte(file, number * length + offset) == b"\x47" for number in range(4)):
            break
    else:
        return
    file.seek(0)
    while chunk := file.read(length * _AT_ONCE):
        packets = np.frombuffer(chunk, np.uint8)[: len(chunk) // length * length].reshape(
            -1, length
        )
        if (packets[:, offset] != _SYNC).any() or (packets[:, offset + 1] & 0x80).any():
            yield _UNKNOWN
            return
    yield -(-size // length) * length


def is_joint(file: BinaryIO, at: int) -> bool:
    """Whether another transport stream was joined on just before the packet at this place.

    A recording begins with its tables and counts the packets of all its parts anew. Where packets were lost, the break
    hardly ever lies just before a table, and in several parts at once.
    """
    length = next(
        (
            size
            for size, _ in _PACKETS
            if all(_byte(file, at + n * size) == b"\x47" for n in range(3))
        ),
        None,
    )
    if length is None:
        return False
    start = max(at % length, at - _NEAR // length * length)
    file.seek(start)
    data = file.read(at - start + _NEAR)
    heads = [data[place : place + 4] for place in range(0, len(data) - 3, length)]
    numbers = [
        (int.from_bytes(head[1:3], "big") & 0x1FFF, head[3]) if head[0] == _SYNC else (_UNKNOWN, 0)
        for head in heads
    ]
    key = (at - start) // length
    table = max((number for number in range(key) if numbers[number][0] == 0), default=0)
    if not table or key - table > _TABLES:
        return False
    first = table - (numbers[table - 1][0] == _SERVICES)
    last, new = (_counts(part) for part in (numbers[:first], numbers[first:][::-1]))
    return sum(new[part] != (last[part] + 1) % 16 for part in last.keys() & new.keys()) >= 2


def _counts(packets: list[tuple[int, int]]) -> dict[int, int]:
    """The count of the last packet of each part, of those that hold something: others are not counted."""
    return {part: flags & 0x0F for part, flags in packets if flags & 0x10}


def _byte(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(1)
