"""What all sources of frames share: the contract, the limits, time sampling, and rotation."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Final, Literal, NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import SourceError
from mien.records import Frame
from mien.sources.stored import Stored

__all__ = [
    "CLOCKWISE",
    "MAX_PIXELS",
    "TICK_S",
    "Kind",
    "PixelReader",
    "Pixels",
    "Source",
    "TimedReads",
    "Turn",
    "apply_turn",
    "one_line",
    "out_of_memory",
    "reader_of",
    "refuse_huge",
]

Pixels = NDArray[np.uint8]
Kind = Literal["image", "video", "camera", "arrays"]
PixelReader = Callable[[], Pixels | None]
TimedReads = Generator[tuple[float, PixelReader | None], None, None]
"""Every frame as its time in seconds and what reads its pixels; None for an unreadable one."""

MAX_PIXELS: Final = 100_000_000
"""Width x height above which a picture is refused, before any of it is decoded."""
TICK_S: Final = 1e-4
"""Time put between two frames that claim the same time, seconds."""
ROUNDING_S: Final = 1e-6
"""How much too early a frame may be for the interval it is due at, seconds: times are rounded."""


class Turn(NamedTuple):
    """How stored pixels become upright: first swap rows and columns, then flip."""

    swap: bool = False
    flip_columns: bool = False
    flip_rows: bool = False


CLOCKWISE: Final = {
    0: Turn(),
    90: Turn(swap=True, flip_columns=True),
    180: Turn(flip_columns=True, flip_rows=True),
    270: Turn(swap=True, flip_rows=True),
}
"""Turns by degrees clockwise."""


class Source(ABC):
    """One open input.

    Attributes:
        kind: What it is.
        live: Whether frames are made while they are read, so that the next one does not exist yet.
        newest: Whether a live source is read in a thread of its own, in which only the newest frame
            waits: those that come while another is read are left out.
        dropped: Frames that were left out in that way so far.
        started_s: What ``time.monotonic()`` showed at time 0 of a live source; None before its
            first frame.
        tap: Takes every frame once it has been handed over, in the thread that reads the source;
            None for nothing.
        name: The path as given, ``camera:N``, ``array`` or ``arrays``; every frame carries it.
        length_s: Length that the container claims, seconds, for progress only; None if unknown.
        frame_hint: Number of frames that the container claims, for progress only; None if unknown.
        size: Width and height of the upright frames in pixels, as far as known at opening; frames
            may differ.
        rotate: Degrees by which `turn` has turned the frames.
        media: Facts about the input that fit in JSON (stored size, pixel aspect, codec and so on;
            see the page on columns), filled at opening.
        notes: Harmless facts about how the input was read, one line each; they do not put the
            numbers in doubt.
        reopen: Opens the same content once more, to read it beside this source; None if it can be
            read only once.
        sound: The file whose sound belongs to the frames; None if there is none.
        people: Person by face, once it has been read with the option `people`; empty otherwise.
    """

    kind: Kind
    live = False
    newest = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.dropped = 0
        self.started_s: float | None = None
        self.tap: Callable[[Frame], None] | None = None
        self._is_played = False
        self.length_s: float | None = None
        self.frame_hint: int | None = None
        self.size: tuple[int, int] | None = None
        self.rotate = 0
        self.media: dict[str, object] = {}
        self.notes: list[str] = []
        self.reopen: Callable[[], Source] | None = None
        self.sound: Stored | None = None
        self.people: dict[int, int] = {}
        # Damage seen at opening stays; problems are those of the latest iteration.
        self._damage: list[str] = []
        self._problems: list[str] = []

    @property
    def problem(self) -> str | None:
        """Damage that did not stop the reading, in one line; complete after iteration."""
        return "; ".join([*self._damage, *self._problems]) or None

    def note(self, line: str) -> None:
        """Keep a harmless fact about how the input is read; the same one only once.

        Args:
            line: The fact, in one line.
        """
        if line not in self.notes:
            self.notes.append(line)

    def turn(self, degrees: int) -> None:
        """Turn all frames clockwise, on top of what the file itself asks for.

        Args:
            degrees: 0, 90, 180 or 270.
        """
        if (degrees - self.rotate) % 180 and self.size:
            width, height = self.size
            self.size = (height, width)
            if "frame_width" in self.media:
                self.media |= {"frame_width": height, "frame_height": width}
        self.rotate = degrees
        self.media["turned"] = degrees

    def play(self) -> None:
        """Read a recording as if it were filmed now: no frame before it is due by the clock."""
        self.live = self.newest = self._is_played = True

    def _wait_until_due(self, time_s: float) -> None:
        """Wait until a recording that is played comes to this time; at its first frame, start."""
        if self.started_s is None:
            self.started_s = time.monotonic() - time_s
        time.sleep(max(self.started_s + time_s - time.monotonic(), 0.0))

    def frames(self, every_s: float = 0.0) -> Generator[Frame, None, None]:
        """Read the frames in order; may be called again, except for iterators that end once.

        Times rise strictly, except where `kind` is ``image``: its frames are separate pictures, all
        at 0 and all read.

        Args:
            every_s: Read only the first frame at or after each multiple of so many seconds since
                the first frame; 0 reads all. `Frame.index` counts the skipped frames too, which are
                not converted to RGB.

        Yields:
            Upright frames, RGB uint8 (H, W, 3); pixels are None if a frame is there but cannot be
            decoded.

        Raises:
            SourceError: Not one frame is readable. Damage after the first frame is in `problem`.
        """
        self._problems = []
        sampler = _Sampler(0.0 if self.kind == "image" else every_s)
        total = 0
        unreadable = 0
        with closing(self._guarded_reads()) as reads:
            for index, (time_s, read) in enumerate(reads):
                total += 1
                if self._is_played:
                    self._wait_until_due(time_s)
                if sampler.takes(time_s):
                    pixels = self._read_pixels(read)
                    unreadable += pixels is None
                    frame = Frame(pixels, time_s, index, self.name)
                    yield frame
                    # After it has been handed over, so that it is not read any later.
                    if self.tap is not None:
                        self.tap(frame)
                else:
                    unreadable += read is None
        self._judge(total, unreadable)

    def _judge(self, total: int, unreadable: int) -> None:
        """Raise where no frame was readable, and keep how many were not."""
        if not total and self.kind == "arrays":
            raise SourceError(f"{self.name}: there are no pictures in it; give one at least")
        if not total and self.kind == "camera":
            raise SourceError(
                f"{self.name}: gives no picture; check that no other program uses it, and its cable"
            )
        if unreadable == total:
            raise SourceError(
                f"{self.name}: not one of its {total} frames can be read; "
                "check that it plays elsewhere"
            )
        if unreadable:
            self._problems.append(f"{unreadable} of {total} frames could not be decoded")

    def _guarded_reads(self) -> TimedReads:
        try:
            yield from self._timed_reads()
        except MemoryError as error:
            raise out_of_memory(self.name) from error

    def _read_pixels(self, read: PixelReader | None) -> Pixels | None:
        """The pixels of a frame, turned by `rotate`."""
        if read is None:
            return None
        try:
            pixels = read()
            if pixels is None or not self.rotate:
                return pixels
            return apply_turn(pixels, CLOCKWISE[self.rotate])
        except MemoryError as error:
            raise out_of_memory(self.name) from error

    @abstractmethod
    def _timed_reads(self) -> TimedReads:
        """Every frame as its time in seconds and what reads its pixels; None if unreadable."""


class _Sampler:
    """Takes the first of the rising times at or after each multiple of an interval; 0 takes all."""

    def __init__(self, every_s: float) -> None:
        if not (every_s >= 0 and math.isfinite(every_s)):
            raise SourceError(f"every_s is {every_s}; give 0 or a number of seconds")
        self._every_s = every_s
        self._first_s: float | None = None
        self._last_step = -1

    def takes(self, time_s: float) -> bool:
        if not self._every_s:
            return True
        if self._first_s is None:
            self._first_s = time_s
        step = math.floor((time_s - self._first_s + ROUNDING_S) / self._every_s)
        if step <= self._last_step:
            return False
        self._last_step = step
        return True


def reader_of(pixels: Pixels) -> PixelReader:
    """Wrap pixels that are already there as what reads them.

    Args:
        pixels: RGB uint8 (H, W, 3).

    Returns:
        A function without arguments that returns them.
    """
    return lambda: pixels


def out_of_memory(name: str) -> SourceError:
    """Make the error for an input that needs more memory than there is: it is not damaged.

    Args:
        name: Name of the source.

    Returns:
        The error, to be raised.
    """
    return SourceError(
        f"{name}: there is not enough memory to read it; close other programs, "
        "or read it on a machine with more"
    )


def one_line(error: Exception) -> str:
    """Put a decoder's message on one line.

    Args:
        error: What it raised.

    Returns:
        Its text without line breaks, or the error's type if it has no text.
    """
    return " ".join(str(error).split()) or type(error).__name__


def refuse_huge(name: str, width: int, height: int) -> None:
    """Refuse a picture of more than `MAX_PIXELS`.

    Args:
        name: Name of the source.
        width: Its width, px.
        height: Its height, px.

    Raises:
        SourceError: It is too large.
    """
    if width * height > MAX_PIXELS:
        millions = MAX_PIXELS / 1e6
        raise SourceError(
            f"{name}: {width} x {height} pixels is more than the {millions:g} megapixels allowed; "
            "make it smaller"
        )


def apply_turn(pixels: Pixels, turn: Turn) -> Pixels:
    """Turn pixels upright.

    Args:
        pixels: (H, W, 3) as stored.
        turn: How they become upright.

    Returns:
        (H, W, 3); (W, H, 3) where rows and columns are swapped.

    >>> row = np.array([[[1, 1, 1], [2, 2, 2]]], np.uint8)
    >>> apply_turn(row, Turn(swap=True, flip_rows=True))[:, 0, 0].tolist()
    [2, 1]
    """
    if turn.swap:
        pixels = cast(Pixels, cv2.transpose(pixels))
    if turn.flip_columns and turn.flip_rows:
        return cast(Pixels, cv2.flip(pixels, -1))
    if turn.flip_columns:
        return cast(Pixels, cv2.flip(pixels, 1))
    if turn.flip_rows:
        return cast(Pixels, cv2.flip(pixels, 0))
    return pixels
