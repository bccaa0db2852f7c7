"""Text as a cell of a CSV file: quoted where it must be, and never a formula.

Spreadsheets run what begins with ``=``, ``+``, ``-`` or ``@`` (also in full width), or with a tab
or line break, wherever they think a cell begins: at its start and, in countries whose spreadsheets
split at ``;`` or a tab, after one of those. An apostrophe in front makes it text. What begins with
an apostrophe gets another, so that taking one away gives back every text exactly.
"""

import re
from functools import lru_cache
from typing import Final

__all__ = ["harmless", "quoted", "restored"]

# Where a cell may begin. The same before and after escaping, because an apostrophe is none of
# these characters.
_CELL_START: Final = r"(?:\A|(?<=[;\t\r\n]))"
_RISKY: Final = re.compile(_CELL_START + r"(?=\s*['=+\-@＝＋－＠]|[\t\r\n])")
_ESCAPED: Final = re.compile(_CELL_START + "'")


def harmless(text: str) -> str:
    """Put an apostrophe wherever a spreadsheet would begin a formula.

    Args:
        text: Any text.

    Returns:
        The text as it stands in a cell, not yet quoted.

    Examples:
        >>> harmless("=1+1"), harmless("a-b.mp4"), harmless("a;@b"), harmless("'tis")
        ("'=1+1", 'a-b.mp4', "a;'@b", "''tis")
    """
    return _RISKY.sub("'", text)


def restored(text: str) -> str:
    """Undo `harmless`.

    Args:
        text: The text of a cell, without quotes.

    Returns:
        What `harmless` was given.

    Examples:
        >>> restored(harmless("=1;'x")), restored("plain")
        ("=1;'x", 'plain')
    """
    return _ESCAPED.sub("", text)


# Sources and statuses come once per row, and there are few of them.
@lru_cache(maxsize=256)
def quoted(text: str) -> str:
    """Make a text a CSV cell: harmless, and in quotes where they are needed.

    Args:
        text: Any text.

    Returns:
        The cell; in quotes where it is empty or holds what would end a cell.

    Examples:
        >>> quoted("plain"), quoted('a "b", c'), quoted("=1,2")
        ('plain', '"a ""b"", c"', '"\\'=1,2"')
    """
    cell = harmless(text)
    # An empty cell without quotes would be a missing value.
    if cell and not re.search(r'[",;\t\r\n]|\A\s|\s\Z', cell):
        return cell
    return '"' + cell.replace('"', '""') + '"'
