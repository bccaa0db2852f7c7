"""From packets to pictures: every frame of a stream accounted for, the lost and the damaged ones too."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mien.sources.integrity import Flaw
from mien.sources.video.clock import frame_step_s, jump_s

__all__ = ["AnyPacket", "PacketLedger", "Stamped", "pictures"]

AnyPacket: TypeAlias = "Packet[Any]"  # generic for the type checker only
Watch = Callable[[int, AnyPacket, VideoStream], None]

_ONE_PICTURE_A_PACKET: Final = frozenset({"av1", "h264", "hevc", "libdav1d", "mjpeg"})
_LENGTH_FROM_ZERO: Final = frozenset(
    {"asf", "flv", "matroska,webm", "nut"}
)  # their stated length is where the clock ends
_SLACK_S: Final = 0.25  # how far a whole file's length may differ from its last packet's end: writers round and estimate
_AHEAD: Final = 2  # packets read ahead of the decoder
_UNKNOWN: Final = -1  # in place of a packet's number


class Stamped(NamedTuple):
    """A frame before its pixels are wanted. picture: None where it was lost or is damaged; packet: its packet's number."""

    stamp: int | None
    picture: VideoFrame | None
    packet: int | None = None


class _Owed(NamedTuple):
    """A packet that still owes a picture, in order of presentation. epoch: counts how often the clock was set back."""

    epoch: int
    stamp: int
    packet: int


class PacketLedger:
    """Which packets still owe a picture, so that a frame lost in decoding becomes a row and not a gap.

    A packet passed over by later pictures was lost where a decoding error or a damaged packet was seen near it. In a
    codec that puts exactly one picture in each packet it was lost in any case. Elsewhere (hidden reference frames of
    VP8, field pairs, frames a coder left out) a packet without a picture is in order, and nothing is said.

    is_joint: whether another recording begins at a place in the file, in bytes.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        is_joint: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._container, self._stream, self._is_joint = container, stream, is_joint
        # AVI has no presentation times: FFmpeg's guess is wrong where frames are reordered, the decoder's order is right.
        self.by_decoding = container.format.name == "avi"
        self.certain = stream.codec_context.name in _ONE_PICTURE_A_PACKET and not self.by_decoding
        self.note: str | None = None
        self.stopped: str | None = None
        self.spoiled: set[int] = set()
        self.first_key: _Owed | None = None
        self._jump_s = jump_s(stream)
        self._owed: list[_Owed] = []  # a heap
        self._sent: dict[int, _Owed] = {}  # by number, until the picture is there or given up
        self._newest: _Owed | None = None
        self._hurt_until: _Owed | None = None
        self._epoch = 0
        self._last_dts: int | None = None
        self._packets, self._end_s = 0, -math.inf

    @property
    def started(self) -> bool:
        """Whether a packet with a time was seen."""
        return self._newest is not None

    def seen(self, packet: AnyPacket) -> None:
        """Note how far in time the file reaches, whatever the packet holds."""
        if (
            at := packet.pts if packet.pts is not None else packet.dts
        ) is not None and packet.time_base:
            self._end_s = max(self._end_s, float((at + (packet.duration or 0)) * packet.time_base))

    def read(self, packet: AnyPacket) -> int:
        """Take a packet of the stream into the books, in order of decoding. Returns its number, which its picture will bring along.

        It travels as the duration, which decoders copy and do not look at. (What PyAV offers for this, `opaque`, takes Python's
        lock in the decoder's threads, which some decoders wait for while they hold it.)
        """
        number = self._packets
        packet.duration = number + 1
        self._packets += 1
        stamp = self._stamp(packet)
        self.certain = self.certain and packet.pts is not None
        if self._begins_another(packet, number):
            # At a joint the packets' counters jump, which the demuxer takes for damage of what lies just before it.
            self.spoiled -= set(range(number - _AHEAD, number))
        if packet.is_corrupt:
            self.spoiled.add(number)
        if stamp is None or packet.is_discard:
            return number
        owed = _Owed(self._epoch, stamp, number)
        self._sent[number] = owed
        heappush(self._owed, owed)
        if packet.is_keyframe and self.first_key is None:
            self.first_key = owed
        return number

    def sent(self, number: int) -> None:
        """The packet goes to the decoder, or is kept from it for good."""
        owed = self._sent.get(number)
        if owed is not None:
            self._newest = owed if self._newest is None else max(self._newest, owed)
        if number in self.spoiled:
            self.failed()

    def failed(self) -> None:
        """The decoder gave up on one of the packets sent so far."""
        self._hurt_until = self._newest

    def delivered(self, picture: VideoFrame) -> tuple[int | None, int, list[_Owed]]:
        """Time stamp and packet number of a picture, and the packets before it that will give none any more."""
        stamp, number = self._stamp(picture), self._number_of(picture)
        owed = self._sent.get(number)
        if owed is None or (owed.stamp != stamp and not self.by_decoding):
            number = _UNKNOWN  # a decoder that does not copy it, or a picture shown twice
        self._sent.pop(number, None)
        if stamp is not None and (self.by_decoding or number == _UNKNOWN):
            owed = _Owed(
                self._epoch, stamp, _UNKNOWN
            )  # frames leave the decoder in order, whatever their packets were
        return stamp, number, [] if owed is None else self.lost_before(owed)

    def lost_before(self, end: _Owed | None) -> list[_Owed]:
        """Packets before `end` (all, if None) that owe a picture and will give none, as far as that is damage."""
        passed: list[_Owed] = []
        while self._owed and (end is None or self._owed[0][:2] <= end[:2]):
            owed = heappop(self._owed)
            mine = end is not None and owed[:2] == end[:2] and end.packet == _UNKNOWN
            if self._sent.pop(owed.packet, None) is not None and not mine:
                passed.append(owed)
        lost = (
            passed
            if self.certain or self._hurt_until is not None
            else [each for each in passed if each.packet in self.spoiled]
        )
        if end is not None and self._hurt_until is not None and end[:2] > self._hurt_until[:2]:
            self._hurt_until = None
        return lost

    def early_end(self, flaw: Flaw | None) -> str | None:
        """Say that the file stops before what its header promises; trimmed files (edit lists) do not count.

        flaw: what is wrong with its structure.
        """
        cut_off = flaw is Flaw.cut_off
        promised_s, slack_s = self._promised()
        short = promised_s - self._end_s > slack_s
        count, by_index = (
            self._stream.frames,
            self._container.format.name == "avi",
        )  # whose clock counts dropped frames as well
        short = short and not by_index
        if count > self._packets and (short or cut_off):
            return f"ends early: {self._packets} of {count} frames"
        if cut_off or (short and not count):
            of = f" of {promised_s:.1f} s" if short else f", where {Flaw.cut_off}"
            return f"ends early: at {max(self._end_s, 0):.1f} s{of}"
        if self.stopped:
            return f"cannot be read beyond {max(self._end_s, 0):.1f} s ({self.stopped})"
        listed = len(self._stream.index_entries) if by_index else 0
        if listed > self._packets:
            return f"only {self._packets} of the {listed} frames in its index are there"
        return "parts of the file are damaged, and frames in them may be missing" if flaw else None

    def _promised(self) -> tuple[float, float]:
        """When the file should end by its header, and how much sooner it may end without being cut off, seconds."""
        stream, container = self._stream, self._container
        name = container.format.name
        if name in _LENGTH_FROM_ZERO:
            return (container.duration or 0) / av.time_base, _SLACK_S
        if stream.duration and stream.time_base and stream.start_time is not None:
            return float(
                (stream.start_time + stream.duration) * stream.time_base
            ), 1.5 * frame_step_s(stream)
        return ((container.start_time or 0) + (container.duration or 0)) / av.time_base, _SLACK_S

    @staticmethod
    def _number_of(picture: VideoFrame) -> int:
        return picture.duration - 1

    def _stamp(self, item: "AnyPacket | VideoFrame") -> int | None:
        """Presentation time, else decoding time, in the stream's units."""
        return item.dts if item.pts is None or self.by_decoding else item.pts

    def _begins_another(self, packet: AnyPacket, number: int) -> bool:
        """Whether another recording was joined on here: decoding times fall, or the file shows it."""
        last, now = self._last_dts, packet.dts
        self._last_dts = last if now is None else now
        set_back = (
            last is not None
            and now is not None
            and float((last - now) * packet.time_base) > self._jump_s
        )
        self._epoch += set_back
        doubtful = (
            packet.is_keyframe
            and packet.pos is not None
            and not self.spoiled.isdisjoint(range(number - _AHEAD, number))
        )
        return set_back or (doubtful and packet.pos is not None and self._is_joint(packet.pos))


def pictures(
    container: InputContainer, stream: VideoStream, ledger: PacketLedger, watch: Watch | None = None
) -> Generator[Stamped, None, None]:
    """Every frame in order of presentation; what leans on packets before the first one in the file is left out.

    watch: called after the decoder has taken a packet, with its number, itself and the stream.
    """
    frames = _decoded(container, stream, ledger, watch)
    waiting: list[Stamped] = []  # no picture yet: lost or damaged, or cut off
    for frame in frames:
        if frame.picture is not None:
            kept = [each for each in waiting if not _leans_on_nothing(each, waiting, ledger)]
            if left := len(waiting) - len(kept):
                ledger.note = f"begins with a cut; frames left out because they lean on what was cut off: {left}"
            yield from kept
            yield frame
            break
        waiting.append(frame)
    else:
        yield from waiting
    yield from frames


def _leans_on_nothing(frame: Stamped, waiting: list[Stamped], ledger: PacketLedger) -> bool:
    """Whether a frame before the first good picture had its references cut off with an earlier part of the recording."""
    first = ledger.first_key
    if first is None or frame.packet is None or frame.stamp is None:
        return False
    if first.packet in {each.packet for each in waiting}:  # the key frame itself is damaged
        return frame.packet < first.packet
    return (frame.stamp < first.stamp) if frame.packet > first.packet else True


def _decoded(
    container: InputContainer, stream: VideoStream, ledger: PacketLedger, watch: Watch | None
) -> Generator[Stamped, None, None]:
    context = stream.codec_context
    for number, packet in _packets(container, stream, ledger):
        try:
            decoded = context.decode(packet)
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            ledger.failed()
            if not ledger.started:
                yield Stamped(None, None)
            continue
        if watch is not None and packet is not None:
            watch(number, packet, stream)
        for picture in decoded:
            if picture.interlaced_frame:
                ledger.certain = False  # each field may have been a packet of its own
            stamp, origin, lost = ledger.delivered(picture)
            yield from (Stamped(each.stamp, None, each.packet) for each in lost)
            whole = not picture.is_corrupt and origin not in ledger.spoiled
            yield Stamped(stamp, picture if whole else None, origin)
    yield from (Stamped(each.stamp, None, each.packet) for each in ledger.lost_before(None))


def _packets(
    container: InputContainer, stream: VideoStream, ledger: PacketLedger
) -> "Iterator[tuple[int, AnyPacket | None]]":
    """The packets of the stream and their numbers, then None to empty the decoder. An error in the file ends it, as it does in FFmpeg."""
    ahead: deque[tuple[int, AnyPacket]] = deque()
    try:
        for packet in container.demux():  # all streams: sound tells how far the file reaches
            if not packet.size:
                continue
            ledger.seen(packet)
            if packet.stream_index != stream.index:
                continue
            ahead.append((ledger.read(packet), packet))
            if len(ahead) > _AHEAD:
                ledger.sent(ahead[0][0])
                yield ahead.popleft()
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        ledger.stopped = error.strerror
        ledger.failed()
    while ahead:
        number, packet = ahead.popleft()
        ledger.sent(number)
        if ahead or number not in ledger.spoiled:
            yield (
                number,
                packet,
            )  # a torn last packet is kept from the decoder: it would take good pictures with it
    yield _UNKNOWN, None
