"""Text that others wrote, made fit for a terminal: the one place that does it."""

import re
from typing import Final

__all__ = ["COMMANDS", "printable"]

COMMANDS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
)
"""Characters that command a terminal, break a line or turn text around, rather than being read."""
_BUT_LINES: Final = re.compile(COMMANDS.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str, *, lines: bool = False) -> str:
    r"""The text, with what would command a terminal rather than be read written out.

    Letters of every language stay, those that are joined by invisible characters included.

    Args:
        text: Anything: a file's name, a key of a settings file, an error of a library.
        lines: Leave line breaks and tabs as they are, as in a page of several lines.

    >>> printable("\x1b[2J café\n")
    '\\x1b[2J café\\n'
    """
    pattern = _BUT_LINES if lines else COMMANDS
    return pattern.sub(lambda letter: letter[0].encode("unicode_escape").decode(), text)
