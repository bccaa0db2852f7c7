"""Every error this library raises on purpose.

MienError
├── SourceError          a picture, video, folder or camera cannot be read
├── UnknownNameError     no such bundle, task, engine or format; names the nearest
│   └── UnknownOptionError   no such option; also a TypeError
├── LabelMismatchError   two label orders cannot be reconciled
├── BundleError          a bundle is incomplete, altered, or its card is wrong
├── ExtensionError       what another distribution brings cannot be used
├── DataError            a labelled data set is not what its adapter expects
├── StudyError           a study's tables, events or settings do not fit together
├── OutputError          a result cannot be written
├── TableError           a table that mien wrote cannot be read back
└── MissingExtraError    an optional install is needed: says which

Each message is one line that says what is wrong, where, and the next step.
"""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches

__all__ = [
    "BundleError",
    "DataError",
    "ExtensionError",
    "LabelMismatchError",
    "MienError",
    "MissingExtraError",
    "OutputError",
    "SourceError",
    "StudyError",
    "TableError",
    "UnknownNameError",
    "UnknownOptionError",
]


class MienError(Exception):
    """Base of all the errors above: ``except MienError`` catches what was foreseen, and only that.

    All of them can be copied and sent between processes, whatever their constructors take.
    """

    def __reduce__(self) -> tuple[Callable[..., "MienError"], tuple[object, ...]]:
        """Rebuild the error from its finished message.

        Python's default passes that message to the constructor, which may take other arguments.

        Returns:
            A function and its arguments, as pickle expects them.
        """
        return _restored, (type(self), self.args, vars(self))


def _restored(
    kind: type[MienError], args: tuple[object, ...], attributes: Mapping[str, object]
) -> MienError:
    # Not through the constructor: the message is finished.
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class SourceError(MienError):
    """A picture, video, folder or camera cannot be read."""


class UnknownNameError(MienError):
    """No such bundle, task, engine or format.

    >>> str(UnknownNameError("bundle", "mien-z", ["mien-s", "mien-face"]))
    "no bundle named 'mien-z'; did you mean mien-s?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], why: str = "") -> None:
        """Suggest the nearest name, or all of them where none is near.

        Args:
            kind: What was looked for, such as ``"bundle"``.
            name: The unknown name.
            known: All names of that kind.
            why: Why it is not one of them, where that is known.
        """
        names = sorted(known)
        suggestions = " or ".join(get_close_matches(name, names, n=1) or names)
        reason = f" ({why})" if why else ""
        super().__init__(f"no {kind} named {name!r}{reason}; did you mean {suggestions}?")


class UnknownOptionError(UnknownNameError, TypeError):
    """No such option, or one that does not go with this call.

    >>> str(UnknownOptionError("option", "smothing", ["bundle", "smoothing"]))
    "no option named 'smothing'; did you mean smoothing?"
    """


class LabelMismatchError(MienError):
    """Two label orders cannot be reconciled."""


class BundleError(MienError):
    """A bundle is incomplete, altered, or its card is wrong."""


class ExtensionError(MienError):
    """What another distribution brings cannot be imported, or is not what it must be."""


class DataError(MienError):
    """A labelled data set is not what its adapter expects."""


class StudyError(MienError):
    """A study's tables, events or settings do not fit together."""


class OutputError(MienError):
    """A result cannot be written."""


class TableError(MienError):
    """A table that mien wrote, or its data dictionary, cannot be read back."""


class MissingExtraError(MienError):
    """An optional install is needed.

    >>> str(MissingExtraError("openvino", "the openvino engine"))
    'the openvino engine needs an optional part; install it with: pip install "mien[openvino]"'
    """

    def __init__(self, extra: str, what: str) -> None:
        """Say how to install it.

        Args:
            extra: The name of the extra, as pip knows it.
            what: What needs it.
        """
        super().__init__(
            f'{what} needs an optional part; install it with: pip install "mien[{extra}]"'
        )
