"""Files of SPSS (.sav) and Stata (.dta), with what the columns mean as labels."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mien.errors import MissingExtraError, TableError
from mien.exports.recording import Recording
from mien.files import AtomicFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_statistics", "write_statistics"]


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a program takes.

    Attributes:
        program: Its name, for messages.
        writer: The function of pyreadstat that writes for it.
        name: What names of variables look like.
        reserved: Words that are no names.
        ignores_case: Whether capitals make no difference between names.
        longest_name: Bytes of a name.
        longest_label: Bytes of a label.
        longest_text: Bytes of a text.
    """

    program: str
    writer: str
    name: re.Pattern[str]
    reserved: frozenset[str]
    ignores_case: bool
    longest_name: int
    longest_label: int
    longest_text: int


_SPSS_WORDS: Final = "all and by eq ge gt le lt ne not or to with"
_STATA_WORDS: Final = (
    "_all _b _coef _cons _n _pi _pred _rc _skip byte double float if in int long using with"
)
_RULES: Final[Mapping[str, _Rules]] = {
    "sav": _Rules(
        "SPSS", "write_sav", re.compile(r"[^\W\d_][\w.$#@]*(?<![._])"),
        frozenset(_SPSS_WORDS.split()), True, 64, 256, 32_767,
    ),
    "dta": _Rules(
        "Stata", "write_dta", re.compile(r"(?!str\d+$)[^\W\d]\w*"),
        frozenset(_STATA_WORDS.split()), False, 32, 80, 2_045,
    ),
}  # fmt: skip


def check_statistics(recording: Recording, kind: str) -> None:
    """Refuse names and texts that the program does not take.

    Args:
        recording: The table.
        kind: ``sav`` or ``dta``.

    Raises:
        TableError: A column's name is no variable's name there, or a text is too long.
    """
    rules = _RULES[kind]
    names_seen: dict[str, str] = {}
    for column in recording.columns:
        name = column.name
        folded = name.lower() if rules.ignores_case else name
        problem = ""
        if len(name.encode()) > rules.longest_name:
            problem = f"is longer than {rules.longest_name} bytes"
        elif not rules.name.fullmatch(name) or folded in rules.reserved:
            problem = "is no name of a variable there"
        elif folded in names_seen:
            problem = f"differs from {names_seen[folded]!r} by capitals only"
        if problem:
            raise TableError(
                f"{recording.path}: {rules.program} does not take the column {name!r}: it "
                f"{problem}; choose parquet or csv, or rename it in pandas"
            )
        names_seen[folded] = name
        if column.dtype == "str":
            _check_texts(recording, name, rules)


def _check_texts(recording: Recording, name: str, rules: _Rules) -> None:
    for text in recording.table[name].dropna().unique():
        if len(str(text).encode()) > rules.longest_text:
            raise TableError(
                f"{recording.path}: {rules.program} takes texts of {rules.longest_text:,} bytes, "
                f"and column {name!r} has a longer one; choose parquet or csv"
            )


def write_statistics(recording: Recording, file: AtomicFile, kind: str) -> None:
    """Write the table with labels of its columns; missing texts become empty ones there.

    Args:
        recording: The table.
        file: The file, at whose temporary path it is written.
        kind: ``sav`` or ``dta``.

    Raises:
        TableError: A column's name is no variable's name there, or a text is too long.
        MissingExtraError: pyreadstat is not installed.
    """
    check_statistics(recording, kind)
    rules = _RULES[kind]
    write = _writer(rules)
    labels = {}
    for column in recording.columns:
        unit = f" [{column.unit}]" if column.unit else ""
        labels[column.name] = _shortened(f"{column.meaning}{unit}", rules.longest_label)
    write(_plain(recording.table), str(file.part), column_labels=labels)


def _writer(rules: _Rules) -> Callable[..., Any]:
    try:
        import pyreadstat
    except ImportError as error:
        raise MissingExtraError("exports", f"writing {rules.program} files") from error
    write: Callable[..., Any] = getattr(pyreadstat, rules.writer)
    return write


def _plain(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with the types that pyreadstat knows."""
    plain = table.copy(deep=False)
    plain.attrs = {}
    for name in table.columns:
        if str(table[name].dtype) == "Int64":
            # Both programs hold numbers as doubles, with missing values among them.
            plain[name] = table[name].astype("float64")
        elif table[name].dtype.kind not in "iuf":
            plain[name] = table[name].astype(object).where(table[name].notna(), "")
    return plain


def _shortened(text: str, most_bytes: int) -> str:
    """As much of a text as a label takes, whole words with a mark where it was cut."""
    if len(text.encode()) <= most_bytes:
        return text
    start = text.encode()[: most_bytes - len("…".encode())].decode(errors="ignore")
    return f"{start.rpartition(' ')[0] or start}…"
