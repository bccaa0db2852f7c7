"""The argument of `analyze`, split into single inputs that are opened one at a time."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mien.errors import SourceError
from mien.sources import Source, expand
from mien.sources.live import LiveArrays
from mien.sources.stored import is_open_file

__all__ = ["Image", "Input", "Item", "Names", "items_of"]

Image = NDArray[np.uint8]
Input = str | Path | bytes | bytearray | memoryview | IO[bytes] | Image | Source | Iterable[Any]
"""What `analyze` reads: a path, folder, pattern or ``camera:N``, the bytes of a file, an open
binary file, a picture, an open source, or an iterable of these."""
Names = str | Sequence[str]
"""One name for everything, or one for each photo."""


class Opener(Protocol):
    """Opens an input."""

    def __call__(self, item: object, *, name: str | None = None) -> Source:
        """Open an input.

        Args:
            item: What to open.
            name: What to call it in the rows.

        Returns:
            The open source.

        Raises:
            SourceError: It cannot be read.
        """


@dataclass(slots=True)
class Item:
    """One input.

    Attributes:
        what: What is opened when its turn comes.
        opener: The function that opens it, such as `open_source`.
        path: The path it was given as; None where it was given as data.
        name: Its name in the rows; None for the name that the source gives itself.
        source: The open source, where it has been opened already.
    """

    what: Any
    opener: Opener
    path: str | None = None
    name: str | None = None
    source: Source | None = None

    @property
    def label(self) -> str:
        """Its name, as far as that is known before it is opened."""
        if self.name or self.path:
            return self.name or self.path or ""
        if self.source:
            return self.source.name
        return type(self.what).__name__

    def open(self) -> Source:
        """Open the input, unless it is open already.

        Returns:
            The open source.

        Raises:
            SourceError: It cannot be read.
        """
        if self.source is not None:
            return self.source
        if not isinstance(self.what, Source):
            return self.opener(self.what, name=self.name)
        # An open source has a name of its own already, which the caller's overrides.
        if self.name is not None:
            self.what.name = self.name
        return self.what


def items_of(
    source: Input,
    opener: Opener,
    *,
    name: Names | None = None,
    photos: bool = False,
    live: bool = False,
) -> Iterable[Item]:
    """Split what was given into single inputs, in order.

    A single input is opened at once, so that its errors are raised by the call that names it.

    Args:
        source: Anything that `mien.analyze` takes.
        opener: The function that opens an input, such as `open_source`.
        name: The name in the rows of an input that has no path; with `photos` one name per photo,
            or what the numbered names begin with.
        photos: Each item of `source` is a photo of its own, not a frame of a video.
        live: `source` makes its pictures while it is read.

    Returns:
        An iterable of `Item`; it has a length where that is known.

    Raises:
        SourceError: The source does not exist or cannot be read.
        ValueError: `name`, `photos` or `live` does not fit the source, or the others.
    """
    if photos and live:
        raise ValueError("photos=True and live=True exclude each other: photos have no time")
    _check_names(name)
    if isinstance(source, str | Path):
        source = [source]
    if _is_list_of_paths(source):
        return _paths(source, opener, name, live)
    if photos and not _is_single(source):
        return _Photos(source, opener, name)
    if name is not None and not isinstance(name, str):
        raise ValueError("several names go with photos=True; give one name")
    if live:
        return [_live(source, opener, name)]
    what = source if isinstance(source, Source) else _read_once(source)
    item = Item(what, opener, name=name)
    item.source = item.open()
    return [item]


def _check_names(name: object) -> None:
    if name is None:
        return
    # Anything may come from the caller, also a number or a list of numbers.
    several = isinstance(name, Iterable) and not isinstance(name, str)
    for value in name if several else [name]:  # type: ignore[attr-defined]
        if not (isinstance(value, str) and value):
            raise ValueError(f"name must be a text that is not empty, got {value!r}")


def _is_list_of_paths(source: object) -> TypeGuard[Sequence[str | Path]]:
    if not isinstance(source, list | tuple) or not source:
        return False
    return all(isinstance(item, str | Path) for item in source)


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
            "live=True is for cameras and for pictures that are made while they are read; "
            f"{paths[0]} is a recording"
        )
    items = [Item(path, opener, path) for path in paths]
    # Of several paths each is opened when its turn comes: a folder may hold thousands.
    if len(items) == 1:
        items[0].source = items[0].open()
    return items


def _live(given: Any, opener: Opener, name: str | None) -> Item:
    if _is_single(given) or not isinstance(given, Iterable):
        raise ValueError(
            "live=True is for an iterable of pictures that are made while they are read, "
            f"got {type(given).__name__}"
        )
    # Through the opener all the same, which turns the pictures where the options ask for it.
    source = opener(LiveArrays(_read_once(given), name or "live"))
    return Item(source, opener, source=source)


def _is_single(given: object) -> bool:
    """Whether it is one input by itself: the bytes of a file, an open file, or a picture."""
    if isinstance(given, bytes | bytearray | memoryview) or hasattr(given, "read"):
        return True
    # An array of four dimensions is a stack of frames, (N, H, W, 3).
    return isinstance(given, np.ndarray) and given.ndim != 4


class _Photos:
    """Photos, each opened when its turn comes; those of an iterator are never all in memory."""

    def __init__(self, given: Any, opener: Opener, names: Names | None) -> None:
        if not isinstance(given, Iterable):
            raise ValueError(
                "photos=True is for a list or another iterable of photos, "
                f"got {type(given).__name__}"
            )
        self._photos = _read_once(given)
        self._opener = opener
        self._prefix = names if isinstance(names, str) else "photo"
        self._names = None if names is None or isinstance(names, str) else names
        if self._names is not None:
            _check_one_name_each(self._names, given)

    def __iter__(self) -> Iterator[Item]:
        names = None if self._names is None else iter(self._names)
        for number, photo in enumerate(self._photos):
            if isinstance(photo, str | Path):
                for path in expand([photo]):
                    yield Item(path, self._opener, path)
                continue
            # Paths keep their path as their name and use up none of the names.
            name = f"{self._prefix} {number}" if names is None else next(names)
            yield Item(photo, self._opener, name=name)


def _check_one_name_each(names: Sequence[str], photos: object) -> None:
    # The number of an iterator's photos is not known before they have been read.
    if not isinstance(photos, Sized) or len(names) != len(photos):
        raise ValueError(f"name holds {len(names)} names; give one for each photo, or one for all")


def _read_once(given: Any) -> Any:
    """The same object; an iterator is wrapped so that reading it a second time is an error.

    Nothing is left in an iterator by then, which would look like a source without frames.
    """
    if is_open_file(given) or not isinstance(given, Iterator):
        return given
    return _OneTime(given)


class _OneTime:
    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._was_read = False

    def __iter__(self) -> Iterator[Any]:
        if self._was_read:
            raise SourceError(
                "arrays: an iterator can be read only once; give a list, or keep the results of "
                "the first reading"
            )
        self._was_read = True
        return self._iterator
