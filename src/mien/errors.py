"""Every error this library raises on purpose.

MienError
├── SourceError          a picture, video, folder or camera cannot be read
├── UnknownNameError     no such bundle, task, engine or format; names the nearest
├── LabelMismatchError   two label orders cannot be reconciled
├── BundleError          a bundle is incomplete, altered, or its card is wrong
├── DataError            a labelled data set is not what its adapter expects
├── OutputError          a result cannot be written
└── MissingExtraError    an optional install is needed: says which

Each message is one line that says what is wrong, where, and the next step.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BundleError",
    "DataError",
    "LabelMismatchError",
    "MienError",
    "MissingExtraError",
    "OutputError",
    "SourceError",
    "UnknownNameError",
]


class MienError(Exception):
    """Base of all the errors above: ``except MienError`` catches what was foreseen, and only that."""


class SourceError(MienError):
    """A picture, video, folder or camera cannot be read."""


class UnknownNameError(MienError):
    """No such bundle, task, engine or format.

    >>> str(UnknownNameError("bundle", "mien-z", ["mien-s", "mien-face"]))
    "no bundle named 'mien-z'; did you mean mien-s?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=1) or names
        super().__init__(f"no {kind} named {name!r}; did you mean {' or '.join(near)}?")


class LabelMismatchError(MienError):
    """Two label orders cannot be reconciled."""


class BundleError(MienError):
    """A bundle is incomplete, altered, or its card is wrong."""


class DataError(MienError):
    """A labelled data set is not what its adapter expects."""


class OutputError(MienError):
    """A result cannot be written."""


class MissingExtraError(MienError):
    """An optional install is needed.

    >>> str(MissingExtraError("openvino", "the openvino engine"))
    'the openvino engine needs an optional part; install it with: pip install "mien[openvino]"'
    """

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f'{what} needs an optional part; install it with: pip install "mien[{extra}]"')
