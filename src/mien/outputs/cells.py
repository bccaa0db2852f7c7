"""Text as a cell of a CSV file: quoted where it must be, and never a formula.

Spreadsheets run what begins with ``=``, ``+``, ``-`` or ``@`` (also in full width), or with a tab or line break, wherever they
think a cell begins: at its start and, in countries whose spreadsheets split at ``;`` or a tab, after one of those. An apostrophe
there makes it text. What begins with an apostrophe gets another, so that taking one away gives back every text exactly.
"""

import re
from functools import lru_cache
from typing import Final

__all__ = ["harmless", "quoted", "restored"]

# The places where a cell may begin; the same before and after, because an apostrophe is none of these letters.
_BEGINS: Final = r"(?:\A|(?<=[;\t\r\n]))"
_RISKY: Final = re.compile(_BEGINS + r"(?=\s*['=+\-@＝＋－＠]|[\t\r\n])")
_MARKED: Final = re.compile(_BEGINS + "'")


def harmless(text: str) -> str:
    """The text with an apostrophe wherever a spreadsheet would begin a formula.

    >>> harmless("=1+1"), harmless("a-b.mp4"), harmless("a;@b"), harmless("'tis")
    ("'=1+1", 'a-b.mp4', "a;'@b", "''tis")
    """
    return _RISKY.sub("'", text)


def restored(text: str) -> str:
    """What `harmless` was given.

    >>> restored(harmless("=1;'x")), restored("plain")
    ("=1;'x", 'plain')
    """
    return _MARKED.sub("", text)


@lru_cache(maxsize=256)
def quoted(text: str) -> str:
    """The text as a CSV cell: harmless, and in quotes where it is empty or holds what would end a cell.

    >>> quoted("plain"), quoted('a "b", c'), quoted("=1,2")
    ('plain', '"a ""b"", c"', '"\\'=1,2"')
    """
    cell = harmless(text)
    whole = cell and not re.search(r'[",;\t\r\n]|\A\s|\s\Z', cell)
    return cell if whole else '"' + cell.replace('"', '""') + '"'
