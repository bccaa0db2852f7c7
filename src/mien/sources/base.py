"""What every source of frames shares: the contract, the limits, the pace, and how pixels are turned upright."""

import math
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
    "Kind",
    "Pixels",
    "Source",
    "TimedReads",
    "Turn",
    "one_line",
    "out_of_memory",
    "refuse_huge",
    "turned",
]  # fmt: skip

Pixels = NDArray[np.uint8]
Kind = Literal["image", "video", "camera", "arrays"]
Read = Callable[[], Pixels | None]
TimedReads = Generator[tuple[float, Read | None], None, None]

MAX_PIXELS: Final = 100_000_000
"""Width x height above which a picture is refused, before any of it is decoded."""

TICK_S: Final = 1e-4  # what sets apart two frames that claim the same time


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
"""Turns by degrees."""


def out_of_memory(name: str) -> SourceError:
    """What to raise where an input needs more memory than there is: it is not damaged."""
    return SourceError(
        f"{name}: there is not enough memory to read it; close other programs, or read it on a machine with more"
    )


class Source(ABC):
    """One open input.

    name: the path as given, ``camera:N``, ``array`` or ``arrays``; every frame carries it.
    length_s, frame_hint: seconds and frames the container claims, for progress only; None where unknown.
    size: (width, height) of the upright frames in pixels, as far as known at opening; frames may differ.
    media: facts of the input that fit in JSON (stored size, pixel aspect, codec, …; see the columns page), filled at opening.
    rotate: degrees by which `turn` has turned the frames.
    notes: harmless facts about how the input was read, one line each; they say nothing against the numbers.
    reopen: opens the same content once more, to read it beside this source; None where it can be read only once.
    sound: the file whose sound belongs to the frames; None where they have none.
    problem: after iteration, what was damaged without stopping it, in one line; else None.
    """

    kind: Kind
    live = False
    """Whether frames are made while they are read, so that what comes next is not there yet."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.length_s: float | None = None
        self.frame_hint: int | None = None
        self.size: tuple[int, int] | None = None
        self.rotate = 0
        self.media: dict[str, object] = {}
        self.notes: list[str] = []
        self.reopen: Callable[[], Source] | None = None
        self.sound: Stored | None = None
        self._damage: list[str] = []  # seen at opening; stays
        self._problems: list[str] = []  # seen in the latest iteration

    @property
    def problem(self) -> str | None:
        """What was damaged in the input, in one line; None where nothing was. Complete after iteration."""
        return "; ".join([*self._damage, *self._problems]) or None

    def note(self, line: str) -> None:
        """Keep a harmless fact about how the input is read; the same one only once."""
        if line not in self.notes:
            self.notes.append(line)

    def turn(self, degrees: int) -> None:
        """Turn all frames clockwise by so many degrees (0, 90, 180 or 270), on top of what the file itself asks for."""
        if (degrees - self.rotate) % 180 and self.size:
            self.size = (self.size[1], self.size[0])
            if "frame_width" in self.media:
                self.media |= {"frame_width": self.size[0], "frame_height": self.size[1]}
        self.rotate = self.media["turned"] = degrees

    def frames(self, every_s: float = 0.0) -> Generator[Frame, None, None]:
        """Give the frames in order; may be called again except for one-shot iterators.

        Times rise strictly, except where `kind` is ``image``: its frames are separate pictures, all at 0 and all given.

        every_s: give only the first frame at or after each multiple of so many seconds since the first frame;
        0 gives all. `Frame.index` counts the skipped frames too, and skipped frames are not converted to RGB.
        Frames: RGB uint8 (H, W, 3), upright; pixels None where a frame is there but cannot be decoded.
        Raises SourceError when not one frame is readable; damage after the first frame ends up in `problem`.
        """
        self._problems = []
        due, total, unreadable = _pace(0.0 if self.kind == "image" else every_s), 0, 0
        with closing(self._told_of_memory()) as moments:
            for index, (time_s, read) in enumerate(moments):
                total += 1
                wanted = due(time_s)
                pixels = self._decoded(read) if wanted and read else None
                unreadable += pixels is None if wanted else read is None
                if wanted:
                    yield Frame(pixels, time_s, index, self.name)
        if not total and self.kind == "arrays":
            raise SourceError(f"{self.name}: there are no pictures in it; give one at least")
        if unreadable == total:
            raise SourceError(
                f"{self.name}: not one of its {total} frames can be read; check that it plays elsewhere"
            )
        if unreadable:
            self._problems.append(f"{unreadable} of {total} frames could not be decoded")

    def _told_of_memory(self) -> TimedReads:
        try:
            yield from self._timed_reads()
        except MemoryError as error:
            raise out_of_memory(self.name) from error

    def _decoded(self, read: Read) -> Pixels | None:
        try:
            pixels = read()
            return (
                pixels
                if pixels is None or not self.rotate
                else turned(pixels, CLOCKWISE[self.rotate])
            )
        except MemoryError as error:
            raise out_of_memory(self.name) from error

    @abstractmethod
    def _timed_reads(self) -> TimedReads:
        """Every frame as its time in seconds and what reads its pixels; None for an unreadable one."""


def _pace(every_s: float) -> Callable[[float], bool]:
    """Say of each time, in order, whether it is the first at or after the next multiple of every_s."""
    if not (every_s >= 0 and math.isfinite(every_s)):
        raise SourceError(f"every_s is {every_s}; give 0 or a number of seconds")
    state: list[float] = []  # time of the first frame, number of the last multiple taken

    def due(time_s: float) -> bool:
        if not every_s:
            return True
        if not state:
            state.extend((time_s, -1.0))
        step = math.floor(
            (time_s - state[0] + 1e-6) / every_s
        )  # a microsecond forgives rounded times
        if step <= state[1]:
            return False
        state[1] = step
        return True

    return due


def one_line(error: Exception) -> str:
    """What a decoder says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def refuse_huge(name: str, width: int, height: int) -> None:
    """Raise SourceError for a picture of more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        millions = MAX_PIXELS / 1e6
        raise SourceError(
            f"{name}: {width} x {height} pixels is more than the {millions:g} megapixels allowed; make it smaller"
        )


def turned(pixels: Pixels, turn: Turn) -> Pixels:
    """Pixels (H, W, 3) turned upright; (W, H, 3) where rows and columns are swapped.

    >>> row = np.array([[[1, 1, 1], [2, 2, 2]]], np.uint8)
    >>> turned(row, Turn(swap=True, flip_rows=True))[:, 0, 0].tolist()
    [2, 1]
    """
    if turn.swap:
        pixels = cast(Pixels, cv2.transpose(pixels))
    if turn.flip_columns or turn.flip_rows:
        pixels = cast(
            Pixels,
            cv2.flip(
                pixels, -1 if turn.flip_columns and turn.flip_rows else int(turn.flip_columns)
            ),
        )
    return pixels
