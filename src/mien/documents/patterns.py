"""Regular expressions that others wrote, taken only where no text keeps them busy for long."""

import re
import warnings

# Python has no public way to see what an expression is made of.
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

from mien.errors import DataError

__all__ = ["bounded_pattern"]

# Characters of an expression.
_LONGEST: Final = 200
# What an unbounded repeat counts for: characters of a long name.
_UNBOUNDED: Final = 64
# Four unbounded repeats in a row.
_MOST_WAYS: Final = _UNBOUNDED**4
_REPEATS: Final = {
    _constants.MAX_REPEAT,
    _constants.MIN_REPEAT,
    _constants.POSSESSIVE_REPEAT,
}


def bounded_pattern(text: str, where: str) -> re.Pattern[str]:
    """Compile a regular expression that matches a file's name in bounded time.

    Repeats within repeats, such as ``(a+)+``, and more than four unbounded repeats are refused:
    Python's matcher may try every way to split a text among them.

    Args:
        text: The expression, as in Python's `re`.
        where: What messages begin with, such as the key.

    Returns:
        The compiled expression.

    Raises:
        DataError: It is no regular expression, too long, or a name could be matched in too many
            ways.
    """
    shown = repr(text if len(text) <= _UNBOUNDED else f"{text[:_UNBOUNDED]}…")
    if len(text) > _LONGEST:
        raise DataError(
            f"{where}: a regular expression of {len(text)} letters; write one of at most {_LONGEST}"
        )
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            # Python warns of what its later versions may read otherwise.
            ways = _ways(_parser.parse(text))
            pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise DataError(
            f"{where}: {shown} is no regular expression ({error}); correct it"
        ) from error
    if ways > _MOST_WAYS:
        raise DataError(
            f"{where}: {shown} repeats what repeats, or has more than four repeats without end; "
            "write a simpler one"
        )
    return pattern


def _ways(parts: Any) -> int:
    """Upper limit of the ways to try a text of `_UNBOUNDED` characters against an expression.

    Counting ends once it is above `_MOST_WAYS`.
    """
    ways = 1
    for operation, value in parts:
        ways *= _ways_of_part(operation, value)
        if ways > _MOST_WAYS:
            return ways
    return ways


def _ways_of_part(operation: Any, value: Any) -> int:
    """The same for one part of an expression."""
    if operation in _REPEATS:
        least, most, inner = value
        return _ways_of_repeat(int(least), int(most), _ways(inner))
    # Alternatives add up, what follows one another multiplies.
    if operation is _constants.BRANCH:
        return sum(map(_ways, value[1]))
    # Groups, lookarounds and conditions hold expressions among their arguments.
    arguments = value if isinstance(value, tuple | list) else (value,)
    ways = 1
    for argument in arguments:
        if isinstance(argument, _parser.SubPattern):
            ways *= _ways(argument)
    return ways


def _ways_of_repeat(least: int, most: int, ways_of_inner: int) -> int:
    """Ways of a repeat: how often it may repeat, times the ways of each repetition."""
    least = min(least, _UNBOUNDED)
    most = max(min(most, _UNBOUNDED), least)
    return int((most - least + 1) * ways_of_inner**most)
