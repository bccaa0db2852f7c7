"""Photos of one folder, read a few at a time in several processes and put into one table."""

from dataclasses import dataclass
from typing import Final

from mien.analysis.reader import Reader
from mien.errors import SourceError
from mien.records import Reading
from mien.sources import Kind, Source
from mien.sources.base import TimedReads

__all__ = ["LOST_READER", "PhotoReadings", "Photos", "ReadPhoto", "read_photos"]

LOST_READER: Final = "the process that read it"
"""What lines say of an input whose process was killed; it is read again by the next run."""

Photos = tuple[str, ...]
"""Paths of a few photos that are read together."""


@dataclass(frozen=True, slots=True)
class PhotoReadings:
    """What another process read from a photo.

    Attributes:
        kind: What it is.
        readings: Its rows; None where it is no photo, whatever its name says.
        problem: Its damage in one line, if any; without any readings the reason.
        notes: Lines on how it was read.
        media: Its properties (`Source.media`).
        size: Width and height, px, where known.
        rotate: Degrees clockwise by which it was turned.
    """

    kind: Kind = "image"
    readings: tuple[Reading, ...] | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()
    media: tuple[tuple[str, object], ...] = ()
    size: tuple[int, int] | None = None
    rotate: int = 0


class ReadPhoto(Source):
    """A photo that has been read already.

    Args:
        name: Its path as given.
        read: What was read from it.

    Attributes:
        readings: Its rows.
    """

    def __init__(self, name: str, read: PhotoReadings) -> None:
        super().__init__(name)
        self.kind = read.kind
        self.size = read.size
        self.rotate = read.rotate
        self.media = dict(read.media)
        self.notes = list(read.notes)
        self.readings = read.readings or ()
        if read.problem:
            self._damage.append(read.problem)

    def _timed_reads(self) -> TimedReads:
        raise SourceError(f"{self.name}: its pixels are in another process; open it again")


def read_photos(paths: Photos, reader: Reader) -> list[PhotoReadings | str]:
    """Read a few photos.

    Args:
        paths: Their paths.
        reader: What reads them.

    Returns:
        What was read from each, or in one line why it cannot be read.
    """
    results: list[PhotoReadings | str] = []
    for path in paths:
        try:
            results.append(_read_photo(path, reader))
        except SourceError as error:
            results.append(str(error))
    return results


def _read_photo(path: str, reader: Reader) -> PhotoReadings:
    source = reader.open(path)
    # A film by the name of a photo may be long; who writes the table reads it.
    if source.kind != "image":
        return PhotoReadings(source.kind)
    readings = tuple(reader.read(source))
    notes = tuple(source.notes)
    media = tuple(source.media.items())
    return PhotoReadings(
        source.kind, readings, source.problem, notes, media, source.size, source.rotate
    )
