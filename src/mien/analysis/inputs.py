"""What was handed to `analyze`, as single inputs that are opened one at a time."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import SourceError
from mien.sources import Source, expand
from mien.sources.live import LiveArrays
from mien.sources.stored import is_open_file

__all__ = ["Image", "Input", "Item", "Names", "items_of"]

Image = NDArray[np.uint8]
Input = str | Path | bytes | bytearray | memoryview | IO[bytes] | Image | Source | Iterable[Any]
"""A path, folder, pattern or ``camera:N``, bytes or an open binary file, a picture, an open source, or an iterable."""
Names = str | Sequence[str]


class Opener(Protocol):
    """Opens an input."""

    def __call__(self, item: object, *, name: str | None = None) -> Source:
        """The open source; raises SourceError where it cannot be read."""


@dataclass(slots=True)
class Item:
    """One input.

    Attributes:
        what: What is opened when its turn comes.
        opener: What opens it, as `open_source` does.
        path: The path it was given as; None where it was given as data.
        name: What rows call it; None for its own name.
        source: It, once opened.
    """

    what: Any
    opener: Opener
    path: str | None = None
    name: str | None = None
    source: Source | None = None

    @property
    def label(self) -> str:
        """What it is called, as far as that is known before it is opened."""
        return (
            self.name
            or self.path
            or (self.source.name if self.source else type(self.what).__name__)
        )

    def open(self) -> Source:
        """The open source; raises SourceError where it cannot be read."""
        if self.source is not None:
            return self.source
        if not isinstance(self.what, Source):
            return self.opener(self.what, name=self.name)
        if self.name is not None:
            self.what.name = self.name
        return self.what


def items_of(
    given: Input,
    opener: Opener,
    *,
    name: Names | None = None,
    photos: bool = False,
    live: bool = False,
) -> Iterable[Item]:
    """Single inputs, in order; what was given alone is opened at once, so that what is wrong with it is said at once.

    Args:
        given: Anything that `mien.analyze` takes.
        opener: What opens an input, as `open_source` does.
        name: What rows call it, where it has no path; with `photos` one name each, or what the numbered names begin with.
        photos: Each item of `given` is a photo of its own, not a frame of a film.
        live: `given` makes its pictures while it is read.

    Returns:
        An iterable of `Item`; it has a length where that is known.

    Raises:
        SourceError: What was given is not there or cannot be read.
        ValueError: `name`, `photos` and `live` do not go with it, or with each other.
    """
    if photos and live:
        raise ValueError("photos=True and live=True exclude each other: photos have no time")
    _check_names(name)
    if isinstance(given, str | Path):
        given = [given]
    if (
        isinstance(given, list | tuple)
        and given
        and all(isinstance(one, str | Path) for one in given)
    ):
        return _paths(given, opener, name, live)
    if photos and not _is_one(given):
        return _Photos(given, opener, name)
    if name is not None and not isinstance(name, str):
        raise ValueError("several names go with photos=True; give one name")
    if live:
        return [_live(given, opener, name)]
    item = Item(given if isinstance(given, Source) else _reread_refused(given), opener, name=name)
    item.source = item.open()
    return [item]


def _check_names(names: object) -> None:
    if names is None:
        return
    for each in [names] if isinstance(names, str) or not isinstance(names, Iterable) else names:
        if not (isinstance(each, str) and each):
            raise ValueError(f"name must be a text that is not empty, got {each!r}")


def _paths(
    given: Sequence[str | Path], opener: Opener, name: Names | None, live: bool
) -> list[Item]:
    paths = expand(given)
    if name is not None:
        raise ValueError(
            f"name is for arrays, bytes and open files; {paths[0]} keeps its path as its name"
        )
    if live and not all(path.startswith("camera:") for path in paths):
        raise ValueError(
            f"live=True is for cameras and for pictures that are made while they are read; {paths[0]} is a recording"
        )
    items = [Item(path, opener, path) for path in paths]
    if len(items) == 1:
        items[0].source = items[0].open()
    return items


def _live(given: Any, opener: Opener, name: str | None) -> Item:
    if _is_one(given) or not isinstance(given, Iterable):
        raise ValueError(
            f"live=True is for an iterable of pictures that are made while they are read, got {type(given).__name__}"
        )
    source = opener(LiveArrays(_reread_refused(given), name or "live"))
    return Item(source, opener, source=source)


def _is_one(given: object) -> bool:
    """Whether it is one input by itself: the bytes of a file, an open file, or a picture."""
    return (
        isinstance(given, bytes | bytearray | memoryview)
        or hasattr(given, "read")
        or (isinstance(given, np.ndarray) and given.ndim != 4)
    )


class _Photos:
    """Photos, each opened when its turn comes; those of an iterator never lie in memory together."""

    def __init__(self, given: Any, opener: Opener, names: Names | None) -> None:
        if not isinstance(given, Iterable):
            raise ValueError(
                f"photos=True is for a list or another iterable of photos, got {type(given).__name__}"
            )
        if (
            names is not None
            and not isinstance(names, str)
            and (not isinstance(given, Sized) or len(names) != len(given))
        ):
            raise ValueError(
                f"name holds {len(names)} names; give one for each photo, or one for all"
            )
        self._given, self._opener, self._names = _reread_refused(given), opener, names

    def __iter__(self) -> Iterator[Item]:
        names = (
            iter(self._names)
            if self._names is not None and not isinstance(self._names, str)
            else None
        )
        for number, what in enumerate(self._given):
            if isinstance(what, str | Path):
                yield from (Item(path, self._opener, path) for path in expand([what]))
                continue
            yield Item(
                what,
                self._opener,
                name=next(names) if names else f"{self._names or 'photo'} {number}",
            )


def _reread_refused(given: Any) -> Any:
    """The same; an iterator in a form that says so when it is asked a second time, when nothing is left in it."""
    if is_open_file(given) or not isinstance(given, Iterator):
        return given
    return _Once(given)


class _Once:
    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator, self._times = iterator, count()

    def __iter__(self) -> Iterator[Any]:
        if next(self._times):
            raise SourceError(
                "arrays: an iterator can be read only once; give a list, or keep what the first reading gave"
            )
        return self._iterator
