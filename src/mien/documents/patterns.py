"""Regular expressions that others wrote, taken only where no text keeps them busy for long."""

import re
import warnings
from re import _constants, _parser  # type: ignore[attr-defined]  # Python shows no other way what an expression is made of
from typing import Any, Final

from mien.errors import DataError

__all__ = ["bounded_pattern"]

_LONGEST: Final = 200  # letters of an expression
_MANY: Final = 64  # what a repeat without end counts for: letters of a long name
_MOST_WAYS: Final = _MANY**4
_REPEATS: Final = {
    getattr(_constants, name) for name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
}


def bounded_pattern(text: str, where: str) -> re.Pattern[str]:
    """The compiled regular expression, where few enough ways lead through it that matching a file's name ends soon.

    Repeats within repeats, such as ``(a+)+``, and more than four repeats without end are refused.

    Args:
        text: The expression, as in Python's `re`.
        where: What messages begin with, such as the key.

    Raises:
        DataError: It is no regular expression, too long, or a name could be matched in too many ways.
    """
    shown = repr(text if len(text) <= _MANY else f"{text[:_MANY]}…")
    if len(text) > _LONGEST:
        raise DataError(
            f"{where}: a regular expression of {len(text)} letters; write one of at most {_LONGEST}"
        )
    try:
        with warnings.catch_warnings(
            action="ignore", category=FutureWarning
        ):  # of what later versions of Python may read otherwise
            ways, pattern = _ways(_parser.parse(text)), re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise DataError(
            f"{where}: {shown} is no regular expression ({error}); correct it"
        ) from error
    if ways > _MOST_WAYS:
        raise DataError(
            f"{where}: {shown} repeats what repeats, or has more than four repeats without end; write a simpler one"
        )
    return pattern


def _ways(parts: Any) -> int:
    """In how many ways a text of `_MANY` letters can be tried against an expression, at most; counted no further than needed."""
    ways = 1
    for operation, value in parts:
        ways *= _ways_of(operation, value)
        if ways > _MOST_WAYS:
            return ways
    return ways


def _ways_of(operation: Any, value: Any) -> int:
    if operation in _REPEATS:
        least, most, inner = value
        once, most = _ways(inner), min(int(most), _MANY)
        most = max(most, min(int(least), _MANY))
        return int((most - min(int(least), most) + 1) * once**most)
    if operation is _constants.BRANCH:
        return sum(map(_ways, value[1]))
    # Groups, looks around and conditions hold expressions, as one of the things that they are made of.
    inside = value if isinstance(value, tuple | list) else (value,)
    ways = 1
    for part in inside:
        if isinstance(part, _parser.SubPattern):
            ways *= _ways(part)
    return ways
