"""Text from outside made safe for a terminal: the one place that does it."""

import re
from typing import Final

__all__ = ["COMMANDS", "printable"]

COMMANDS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
)
"""Characters that control a terminal, break a line or reverse the reading direction."""
# The same without tab and line feed.
_COMMANDS_BUT_LINES: Final = re.compile(COMMANDS.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def printable(text: str, *, lines: bool = False) -> str:
    r"""Escape what would control a terminal rather than be read.

    Letters of every language stay, including those joined by invisible characters.

    Args:
        text: Anything: a file's name, a key of a settings file, an error of a library.
        lines: Leave line breaks and tabs as they are, as in a page of several lines.

    Returns:
        The text, with each such character as its Python escape sequence.

    >>> printable("\x1b[2J café\n")
    '\\x1b[2J café\\n'
    """
    pattern = _COMMANDS_BUT_LINES if lines else COMMANDS
    return pattern.sub(_escaped, text)
