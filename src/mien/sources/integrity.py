"""Is a file complete? A part that reaches beyond the end of the file was cut off.

Containers state how long their parts are in bytes. That is exact where lengths in seconds are
estimates, and it holds for live recordings, which state no length at all. FFmpeg silently skips
parts that it does not understand; here they are damage.
"""

import os
from collections.abc import Iterator
from enum import StrEnum
from typing import BinaryIO, Final, NamedTuple

import numpy as np

__all__ = ["Flaw", "find_flaw", "is_joint"]

# Stands for an end where the structure is broken.
_DAMAGED: Final = -1

_UNKNOWN_LENGTH: Final = -1
_SEGMENT: Final = 0x18538067
_CLUSTER: Final = 0x1F43B675
_IN_SEGMENT: Final = frozenset(
    {
        0x1A45DFA3,  # EBML header
        0x114D9B74,  # SeekHead
        0x1549A966,  # Info
        0x1654AE6B,  # Tracks
        0x1C53BB6B,  # Cues
        0x1043A770,  # Chapters
        0x1941A469,  # Attachments
        0x1254C367,  # Tags
        0xBF,  # CRC-32
        0xEC,  # Void
    }
)
_IN_CLUSTER: Final = frozenset(
    {
        0xE7,  # Timestamp
        0xA3,  # SimpleBlock
        0xA0,  # BlockGroup
        0xA7,  # Position
        0xAB,  # PrevSize
        0xAF,  # EncryptedBlock
        0x5854,  # SilentTracks
    }
)
# The longest head of a Matroska element, bytes: 4 of identifier, 8 of length.
_ELEMENT_HEAD: Final = 12

# Kinds of a Flash file's tags: sound, picture, data.
_FLV_TAGS: Final = frozenset({8, 9, 18})

_SYNC: Final = 0x47
# Size of a transport packet, bytes, and where its sync byte is.
_TRANSPORT_PACKETS: Final = ((188, 0), (192, 4), (204, 0))
_PACKETS_AT_ONCE: Final = 1 << 16
_PROGRAM_TABLE: Final = 0x00
# Packet identifier of a table that may come before that of the programs.
_SERVICE_TABLE: Final = 0x11
_NO_PACKET: Final = -1
# Bytes within which packets of all streams of a recording have surely come.
_NEARBY: Final = 1 << 20
# Packets of tables at the beginning of a recording, at most.
_MAX_TABLES: Final = 6


class Flaw(StrEnum):
    """What is wrong with the structure of a file."""

    cut_off = "the file was cut off"
    damaged = "the file is damaged"


def find_flaw(file: BinaryIO, container: str) -> Flaw | None:
    """Check the structure of a file.

    Args:
        file: The open file.
        container: FFmpeg's name of its format.

    Returns:
        What is wrong with it; None if nothing is, or if this module does not know the format.
    """
    ends_of = {
        "matroska,webm": _matroska_ends,
        "avi": _riff_ends,
        "mov,mp4,m4a,3gp,3g2,mj2": _box_ends,
        "flv": _flv_ends,
        "ogg": _ogg_ends,
        "mpegts": _transport_ends,
    }
    if container not in ends_of:
        return None
    size = file.seek(0, os.SEEK_END)
    last = 0
    for end in ends_of[container](file, size):
        if end == _DAMAGED:
            return Flaw.damaged
        last = max(last, end)
    return Flaw.cut_off if last > size else None


def _read_at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _matroska_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the elements of a Matroska file end, also those within clusters."""
    position = 0
    while position < size:
        data = _read_at(file, position, _ELEMENT_HEAD)
        element = _parse_element(data)
        if element is None:
            # The file ends within an element's head; or this is no element at all.
            is_cut_off = len(data) < _ELEMENT_HEAD and data[0]
            yield size + 1 if is_cut_off else _DAMAGED
            return
        is_known = element.identifier in _IN_SEGMENT or element.identifier in _IN_CLUSTER
        if element.identifier in (_SEGMENT, _CLUSTER):
            if element.length != _UNKNOWN_LENGTH:
                yield position + element.head + element.length
            # Enter it: one of unknown length ends where the next begins.
            position += element.head
        elif element.length != _UNKNOWN_LENGTH and is_known:
            position += element.head + element.length
            yield position
        else:
            yield _DAMAGED
            return


class _Element(NamedTuple):
    """A Matroska element: identifier, bytes of its body, bytes of its head."""

    identifier: int
    length: int
    head: int


def _parse_element(data: bytes) -> _Element | None:
    """The element that begins so; None if its head is incomplete."""
    # The number of leading zero bits says how many bytes a number takes (EBML, RFC 8794).
    id_bytes = 9 - data[0].bit_length()
    if id_bytes > 4 or len(data) <= id_bytes or not data[id_bytes]:
        return None
    length_bytes = 9 - data[id_bytes].bit_length()
    head = id_bytes + length_bytes
    if len(data) < head:
        return None
    # A length of all ones means that it was not known when the head was written.
    mask = (1 << 7 * length_bytes) - 1
    length = int.from_bytes(data[id_bytes:head], "big") & mask
    if length == mask:
        length = _UNKNOWN_LENGTH
    return _Element(int.from_bytes(data[:id_bytes], "big"), length, head)


def _riff_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the RIFF chunks of an AVI file end; long files hold several."""
    position = 0
    while position + 8 <= size:
        head = _read_at(file, position, 8)
        length = int.from_bytes(head[4:], "little")
        # Recorders that were stopped leave lengths of 0.
        if head[:4] != b"RIFF" or not length:
            return
        position += 8 + length
        yield position
        position += length % 2


def _box_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the top boxes of an MP4 or QuickTime file end."""
    position = 0
    while position + 8 <= size:
        head = _read_at(file, position, 16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        # 0 means: to the end of the file.
        if length < 8 or not head[4:8].isascii():
            return
        position += length
        yield position


def _flv_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the tags of a Flash file end."""
    header = _read_at(file, 0, 9)
    position = int.from_bytes(header[5:9], "big") + 4
    while position < size:
        head = _read_at(file, position, 4)
        is_complete = len(head) == 4
        if is_complete and head[0] & 0x1F not in _FLV_TAGS:
            yield _DAMAGED
            return
        # 11 bytes of head, the body, and 4 bytes that repeat the length.
        position += 11 + int.from_bytes(head[1:4], "big") + 4
        yield position if is_complete else size + 1


def _ogg_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the pages of an Ogg file end."""
    position = 0
    while position < size:
        head = _read_at(file, position, 27)
        if not head.startswith(b"OggS"[: len(head)]):
            yield _DAMAGED
            return
        if len(head) < 27:
            yield size + 1
            return
        lengths = file.read(head[26])
        if len(lengths) < head[26]:
            yield size + 1
            return
        position += 27 + len(lengths) + sum(lengths)
        yield position


def _transport_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the last packet of a transport stream ends."""
    for packet_size, offset in _TRANSPORT_PACKETS:
        if _has_sync_bytes(file, offset, packet_size, 4):
            break
    else:
        return
    file.seek(0)
    while chunk := file.read(packet_size * _PACKETS_AT_ONCE):
        count = len(chunk) // packet_size
        data = np.frombuffer(chunk, np.uint8)[: count * packet_size]
        packets = data.reshape(count, packet_size)
        has_lost_sync = (packets[:, offset] != _SYNC).any()
        # The receiver of a broadcast sets this bit in packets with errors.
        is_marked = (packets[:, offset + 1] & 0x80).any()
        if has_lost_sync or is_marked:
            yield _DAMAGED
            return
    yield -(-size // packet_size) * packet_size


def _has_sync_bytes(file: BinaryIO, position: int, packet_size: int, count: int) -> bool:
    """Whether so many packets in a row begin with a sync byte."""
    for number in range(count):
        if _read_at(file, position + number * packet_size, 1) != bytes([_SYNC]):
            return False
    return True


class _TransportHead(NamedTuple):
    """Head of a transport packet: packet identifier, and the byte of flags and counter."""

    identifier: int
    flags: int


def is_joint(file: BinaryIO, position: int) -> bool:
    """Whether another transport stream was appended just before a packet.

    A recording begins with its tables and counts the packets of all its streams anew. Where packets
    were lost, the break hardly ever lies just before a table, and in several streams at once.

    Args:
        file: The open file.
        position: Where the packet begins, bytes.

    Returns:
        Whether another recording begins there.
    """
    packet_size = _packet_size_at(file, position)
    if packet_size is None:
        return False
    start = max(position % packet_size, position - _NEARBY // packet_size * packet_size)
    data = _read_at(file, start, position - start + _NEARBY)
    heads = _transport_heads(data, packet_size)
    packet = (position - start) // packet_size
    table = _last_program_table(heads[:packet])
    if not table or packet - table > _MAX_TABLES:
        return False
    first = table
    if heads[table - 1].identifier == _SERVICE_TABLE:
        first -= 1
    before = _last_counters(heads[:first])
    # From the end backwards, so that the first packet of each stream remains.
    after = _last_counters(heads[first:][::-1])
    breaks = 0
    for identifier in before.keys() & after.keys():
        breaks += after[identifier] != (before[identifier] + 1) % 16
    return breaks >= 2


def _packet_size_at(file: BinaryIO, position: int) -> int | None:
    for packet_size, _ in _TRANSPORT_PACKETS:
        if _has_sync_bytes(file, position, packet_size, 3):
            return packet_size
    return None


def _transport_heads(data: bytes, packet_size: int) -> list[_TransportHead]:
    heads: list[_TransportHead] = []
    for position in range(0, len(data) - 3, packet_size):
        if data[position] == _SYNC:
            identifier = int.from_bytes(data[position + 1 : position + 3], "big") & 0x1FFF
            heads.append(_TransportHead(identifier, data[position + 3]))
        else:
            heads.append(_TransportHead(_NO_PACKET, 0))
    return heads


def _last_program_table(heads: list[_TransportHead]) -> int:
    """Position of the last table of programs; 0 if there is none."""
    for position in reversed(range(len(heads))):
        if heads[position].identifier == _PROGRAM_TABLE:
            return position
    return 0


def _last_counters(heads: list[_TransportHead]) -> dict[int, int]:
    """Continuity counter of the last packet of each stream.

    Only packets with a payload (flag 0x10) are counted by the format.
    """
    return {head.identifier: head.flags & 0x0F for head in heads if head.flags & 0x10}
