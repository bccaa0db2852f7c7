"""From packets to frames: every frame accounted for, the lost and the damaged ones too."""

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
# The length that these formats state is where the clock ends, not how long it runs.
_LENGTH_FROM_ZERO: Final = frozenset({"asf", "flv", "matroska,webm", "nut"})
# How far a complete file's length may differ from its last packet's end: writers round.
_SLACK_S: Final = 0.25
# Packets read ahead of the decoder.
_AHEAD: Final = 2
# In place of a packet's number.
_UNKNOWN: Final = -1


class Stamped(NamedTuple):
    """A frame before its pixels are converted.

    Attributes:
        stamp: Its timestamp in the stream's units, if it has one.
        picture: What was decoded; None if it was lost or is damaged.
        packet: Number of its packet.
    """

    stamp: int | None
    picture: VideoFrame | None
    packet: int | None = None


class _Owed(NamedTuple):
    """A packet that still owes a picture, in order of presentation.

    Attributes:
        epoch: How often the clock was set back before it.
        stamp: Its timestamp in the stream's units.
        packet: Its number.
    """

    epoch: int
    stamp: int
    packet: int


class PacketLedger:
    """Which packets still owe a picture, so that a lost frame becomes a row and not a gap.

    A packet passed over by later pictures was lost if a decoding error or a damaged packet was seen
    near it. In a codec with exactly one picture per packet it was lost in any case. Elsewhere
    (hidden reference frames of VP8, field pairs, frames an encoder left out) a packet without a
    picture is in order, and nothing is reported.

    Attributes:
        by_decoding: Whether decoding times are used, as there are no presentation times.
        certain: Whether every packet holds exactly one picture.
        note: What was peculiar, one line, or None.
        stopped: FFmpeg's reason for ending early, or None.
        spoiled: Numbers of damaged packets.
        first_key: The first key frame.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        is_joint: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """Begin an empty ledger.

        Args:
            container: The open file.
            stream: The stream that is read.
            is_joint: Whether another recording begins at a position in the file, bytes.
        """
        self._container = container
        self._stream = stream
        self._is_joint = is_joint
        # AVI has no presentation times: FFmpeg's guess is wrong where frames are reordered, while
        # the decoder's order is right.
        self.by_decoding = container.format.name == "avi"
        self.certain = stream.codec_context.name in _ONE_PICTURE_A_PACKET and not self.by_decoding
        self.note: str | None = None
        self.stopped: str | None = None
        self.spoiled: set[int] = set()
        self.first_key: _Owed | None = None
        self._jump_s = jump_s(stream)
        # A heap.
        self._owed: list[_Owed] = []
        # By number, until the picture is there or given up.
        self._sent: dict[int, _Owed] = {}
        self._newest: _Owed | None = None
        self._hurt_until: _Owed | None = None
        self._epoch = 0
        self._last_dts: int | None = None
        self._packets = 0
        self._end_s = -math.inf

    @property
    def started(self) -> bool:
        """Whether a packet with a time was seen."""
        return self._newest is not None

    def seen(self, packet: AnyPacket) -> None:
        """Note how far in time the file reaches, whatever the packet holds.

        Args:
            packet: A packet of any stream.
        """
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and packet.time_base:
            end = stamp + (packet.duration or 0)
            self._end_s = max(self._end_s, float(end * packet.time_base))

    def read(self, packet: AnyPacket) -> int:
        """Enter a packet of the stream, in order of decoding.

        The number travels to the picture as the duration, which decoders copy and do not look at.
        (PyAV's own way, `opaque`, takes Python's lock in the decoder's threads, which some
        decoders wait for while they hold it.)

        Args:
            packet: The packet.

        Returns:
            Its number, which its picture will bring along.
        """
        number = self._packets
        packet.duration = number + 1
        self._packets += 1
        stamp = self._stamp(packet)
        self.certain = self.certain and packet.pts is not None
        if self._begins_another(packet, number):
            # At a joint the packets' counters jump, which the demuxer takes for damage to what lies
            # just before it.
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
        """Note that a packet goes to the decoder, or is kept from it for good.

        Args:
            number: The packet's number.
        """
        owed = self._sent.get(number)
        if owed is not None:
            self._newest = owed if self._newest is None else max(self._newest, owed)
        if number in self.spoiled:
            self.failed()

    def failed(self) -> None:
        """Note that the decoder gave up on one of the packets sent so far."""
        self._hurt_until = self._newest

    def delivered(self, picture: VideoFrame) -> tuple[int | None, int, list[_Owed]]:
        """Enter a picture that the decoder delivered.

        Args:
            picture: The picture.

        Returns:
            Its timestamp, its packet's number, and the packets before it whose pictures are lost.
        """
        stamp = self._stamp(picture)
        number = self._number_of(picture)
        owed = self._sent.get(number)
        # A decoder that does not copy the number, or a picture shown twice.
        if owed is None or (owed.stamp != stamp and not self.by_decoding):
            number = _UNKNOWN
        self._sent.pop(number, None)
        if stamp is not None and (self.by_decoding or number == _UNKNOWN):
            # Frames leave the decoder in order, whatever their packets were.
            owed = _Owed(self._epoch, stamp, _UNKNOWN)
        lost = [] if owed is None else self.lost_before(owed)
        return stamp, number, lost

    def lost_before(self, end: _Owed | None) -> list[_Owed]:
        """Settle the packets that owe a picture and will give none any more.

        Args:
            end: Those before this one; None for all.

        Returns:
            The packets whose pictures are lost by damage.
        """
        passed: list[_Owed] = []
        while self._owed and (end is None or self._owed[0][:2] <= end[:2]):
            owed = heappop(self._owed)
            mine = end is not None and owed[:2] == end[:2] and end.packet == _UNKNOWN
            if self._sent.pop(owed.packet, None) is not None and not mine:
                passed.append(owed)
        lost = passed
        if not self.certain and self._hurt_until is None:
            lost = [owed for owed in passed if owed.packet in self.spoiled]
        if end is not None and self._hurt_until is not None and end[:2] > self._hurt_until[:2]:
            self._hurt_until = None
        return lost

    def early_end(self, flaw: Flaw | None) -> str | None:
        """Whether the file ends before its header says; trimmed files (edit lists) do not count.

        Args:
            flaw: What is wrong with the file's structure.

        Returns:
            One line, or None.
        """
        cut_off = flaw is Flaw.cut_off
        promised_s, slack_s = self._promised()
        count = self._stream.frames
        # AVI's clock counts dropped frames as well; its index is what can be relied on.
        by_index = self._container.format.name == "avi"
        short = promised_s - self._end_s > slack_s and not by_index
        end_s = max(self._end_s, 0)
        if count > self._packets and (short or cut_off):
            return f"ends early: {self._packets} of {count} frames"
        if cut_off or (short and not count):
            detail = f" of {promised_s:.1f} s" if short else f", where {Flaw.cut_off}"
            return f"ends early: at {end_s:.1f} s{detail}"
        if self.stopped:
            return f"cannot be read beyond {end_s:.1f} s ({self.stopped})"
        listed = len(self._stream.index_entries) if by_index else 0
        if listed > self._packets:
            return f"only {self._packets} of the {listed} frames in its index are there"
        return "parts of the file are damaged, and frames in them may be missing" if flaw else None

    def _promised(self) -> tuple[float, float]:
        """When the file should end by its header, and how much sooner it may end, seconds."""
        stream = self._stream
        container = self._container
        if container.format.name in _LENGTH_FROM_ZERO:
            return (container.duration or 0) / av.time_base, _SLACK_S
        if stream.duration and stream.time_base and stream.start_time is not None:
            end = stream.start_time + stream.duration
            return float(end * stream.time_base), 1.5 * frame_step_s(stream)
        return ((container.start_time or 0) + (container.duration or 0)) / av.time_base, _SLACK_S

    @staticmethod
    def _number_of(picture: VideoFrame) -> int:
        return picture.duration - 1

    def _stamp(self, item: "AnyPacket | VideoFrame") -> int | None:
        """Presentation time, else decoding time, in the stream's units."""
        return item.dts if item.pts is None or self.by_decoding else item.pts

    def _begins_another(self, packet: AnyPacket, number: int) -> bool:
        """Whether another recording begins here: decoding times fall, or the file shows it."""
        last = self._last_dts
        now = packet.dts
        if now is not None:
            self._last_dts = now
        step_back_s = 0.0
        if last is not None and now is not None:
            step_back_s = float((last - now) * packet.time_base)
        if step_back_s > self._jump_s:
            self._epoch += 1
            return True
        if not packet.is_keyframe or packet.pos is None:
            return False
        # The file is looked into only where there seems to be damage.
        if self.spoiled.isdisjoint(range(number - _AHEAD, number)):
            return False
        return self._is_joint(packet.pos)


def pictures(
    container: InputContainer, stream: VideoStream, ledger: PacketLedger, watch: Watch | None = None
) -> Generator[Stamped, None, None]:
    """Decode a stream.

    Frames that depend on packets before the first one in the file are left out.

    Args:
        container: The open file.
        stream: The stream to read.
        ledger: Keeps account of its packets.
        watch: Called after the decoder has taken a packet, with its number, itself and the stream.

    Yields:
        Every frame in order of presentation.
    """
    frames = _decoded(container, stream, ledger, watch)
    # Frames without a picture before the first good one: lost or damaged, or cut off.
    waiting: list[Stamped] = []
    for frame in frames:
        if frame.picture is not None:
            kept = [item for item in waiting if not _lacks_reference(item, waiting, ledger)]
            left_out = len(waiting) - len(kept)
            if left_out:
                ledger.note = (
                    "begins with a cut; "
                    f"frames left out because they lean on what was cut off: {left_out}"
                )
            yield from kept
            yield frame
            break
        waiting.append(frame)
    else:
        yield from waiting
    yield from frames


def _lacks_reference(frame: Stamped, waiting: list[Stamped], ledger: PacketLedger) -> bool:
    """Whether a frame before the first good one refers to a part that was cut off."""
    first = ledger.first_key
    if first is None or frame.packet is None or frame.stamp is None:
        return False
    # The key frame itself is damaged.
    if first.packet in {item.packet for item in waiting}:
        return frame.packet < first.packet
    return frame.packet <= first.packet or frame.stamp < first.stamp


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
            # Each field may have been a packet of its own.
            if picture.interlaced_frame:
                ledger.certain = False
            stamp, origin, lost = ledger.delivered(picture)
            for owed in lost:
                yield Stamped(owed.stamp, None, owed.packet)
            is_good = not picture.is_corrupt and origin not in ledger.spoiled
            yield Stamped(stamp, picture if is_good else None, origin)
    for owed in ledger.lost_before(None):
        yield Stamped(owed.stamp, None, owed.packet)


def _packets(
    container: InputContainer, stream: VideoStream, ledger: PacketLedger
) -> "Iterator[tuple[int, AnyPacket | None]]":
    """The packets of the stream and their numbers, then None to empty the decoder.

    An error in the file ends it, as it does in FFmpeg.
    """
    ahead: deque[tuple[int, AnyPacket]] = deque()
    try:
        # All streams: sound shows how far the file reaches.
        for packet in container.demux():
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
        # A torn last packet is kept from the decoder: it would take good pictures with it.
        if ahead or number not in ledger.spoiled:
            yield number, packet
    yield _UNKNOWN, None
