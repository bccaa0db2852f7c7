"""What is wrong with a submission: each kind of defect once, with its count and first examples.

Whole columns are looked at at once: a million rows take a few seconds.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mien.data.submissions.formats import (
    Field,
    Format,
    all_formats,
    format_named,
    video_lengths,
)
from mien.errors import DataError

__all__ = ["EXAMPLES", "KINDS", "Defect", "check", "guess"]

EXAMPLES: Final = 5
"""How many examples of a kind are kept."""

KINDS: Final = (
    "layout",
    "missing file",
    "surplus file",
    "encoding",
    "byte-order mark",
    "line ends",
    "header",
    "blank line",
    "field count",
    "trailing comma",
    "empty field",
    "NaN",
    "no number",
    "no whole number",
    "out of range",
    "no sum of 1",
    "missing row",
    "surplus row",
    "doubled row",
    "reordered row",
)
"""Every kind of defect, in the order in which they are reported."""

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[+-]?(nan|inf|infinity|null|none|n/a|na)", re.IGNORECASE)
# Bytes of a first line that are read.
_LONGEST_HEADER: Final = 10_000

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Defect:
    """One kind of defect in a submission.

    Attributes:
        kind: One of `KINDS`.
        count: How often it was found.
        examples: The first of them, at most `EXAMPLES`, a line each.
    """

    kind: str
    count: int
    examples: tuple[str, ...]


def check(path: Path, name: str, official: pd.DataFrame) -> list[Defect]:
    """Find every kind of defect of a submission.

    A line with the wrong number of fields still answers the row that it names. In a file per video
    rows have no names, so a row that is missing, doubled or in another place shows only in the
    number of lines.

    Args:
        path: The file or, for a format with a file per video, the folder.
        name: As for `format_named`.
        official: `image`, `video`, `frame` of the official list, from
            `mien.data.frame_lists.read_list`.

    Returns:
        The defects in the order of `KINDS`; empty where there is none.

    Raises:
        UnknownNameError: For the format.
        DataError: Where there is nothing at `path`, or the list does not suit the format.
    """
    form, path = format_named(name), Path(path)
    defects = _Defects()
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; give the submission's own path")
    if official.empty:
        raise DataError(f"{name}: the official list names no row; give the list of the challenge")
    if form.folder is not None:
        _check_folder(form, path, video_lengths(official), defects)
    elif path.is_dir():
        defects.add("layout", [f"{path} is a folder; {name} is one file"], 1)
    else:
        rows = _check_lines(form, _content(path), defects, official["image"])
        if rows is not None:
            _check_names(rows, official["image"], defects)
    return defects.report()


def guess(path: Path) -> str:
    """The format of a submission, by its layout and first line.

    Args:
        path: The submission.

    Returns:
        The format's name; of equal formats the first year's.

    Raises:
        DataError: Where no format has this first line (a file without a header cannot be told), or
            two different ones do.
    """
    path = Path(path)
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        what = "the file is empty" if path.exists() else "there is no such file or folder"
        raise DataError(f"{path}: {what}; give the submission's own path")
    fits = []
    # A format without a header would fit every file.
    forms = all_formats()
    for form in forms.values():
        if form.header and _first_line(form, path) == form.header:
            fits.append(form)
    if not fits:
        raise DataError(
            f"{path}: its first line is no header of a known format; "
            f"name the format by --format, one of {', '.join(forms)}"
        )
    if len({form.rules for form in fits}) > 1:
        names = " or ".join(form.name for form in fits)
        raise DataError(f"{path}: could be {names}; name the format")
    return fits[0].name


class _Defects:
    """Defects while they are gathered.

    Attributes:
        counts: By kind.
        examples: By kind.
        where: What to say before a line number.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        self.where = ""

    def add(self, kind: str, examples: Iterable[str], count: int) -> None:
        """Count defects of a kind; examples are read no further than needed."""
        if not count:
            return
        self.counts[kind] = self.counts.get(kind, 0) + count
        kept = self.examples.setdefault(kind, [])
        # zip asks the range first, so no example is drawn in vain.
        for _, text in zip(range(EXAMPLES - len(kept)), examples, strict=False):
            kept.append(self.where + text)

    def add_lines(self, kind: str, lines: Numbers) -> None:
        """Count lines whose number says it all."""
        self.add(kind, (f"line {line}" for line in lines), len(lines))

    def report(self) -> list[Defect]:
        """One per kind, in the order of `KINDS`."""
        defects = []
        for kind in KINDS:
            if kind in self.counts:
                defects.append(Defect(kind, self.counts[kind], tuple(self.examples[kind])))
        return defects


@dataclass(frozen=True, slots=True)
class _Rows:
    """The answered rows of a file: line numbers from 1, and the first field of each line."""

    line: Numbers
    names: "pa.Array"


def _first_line(form: Format, path: Path) -> str:
    """The first line of a submission, read as that format; "" where its layout is another."""
    if form.folder is not None:
        if not path.is_dir():
            return ""
        files = sorted((path / form.folder).glob("*.txt"))
        path = files[0] if files else path
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        line = file.readline(_LONGEST_HEADER)
    return line.decode("utf-8-sig", "replace").rstrip("\r\n")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error


def _check_folder(form: Format, path: Path, lengths: dict[str, int], defects: _Defects) -> None:
    """Check the files of a format with one per video; lengths: lines of each video."""
    home = path / (form.folder or "")
    if not home.is_dir():
        text = f"{home} is no folder; {form.name} is a folder of files <video>.txt"
        defects.add("layout", [text], 1)
        return
    files = {entry.name: entry for entry in home.iterdir()}
    expected = {f"{video}.txt": count for video, count in lengths.items()}
    missing = [name for name in expected if name not in files or not files[name].is_file()]
    surplus = sorted(files.keys() - expected.keys())
    defects.add("missing file", missing, len(missing))
    texts = (f"{name} is no video of the list with .txt" for name in surplus)
    defects.add("surplus file", texts, len(surplus))
    for name, count in expected.items():
        if name in missing:
            continue
        defects.where = f"{name}, "
        rows = _check_lines(form, _content(files[name]), defects, None)
        if rows is not None:
            lines = len(rows.line)
            kind = "surplus row" if lines > count else "missing row"
            text = f"{lines} lines of answers, expected {count}"
            defects.add(kind, [text], abs(lines - count))
    defects.where = ""


def _check_lines(
    form: Format, content: bytes, defects: _Defects, listed: pd.Series | None
) -> _Rows | None:
    """Look at every line on its own; None where the file is no text.

    listed: the official names; None where rows have no name.
    """
    text = _decoded(content, defects)
    if text is None:
        return None
    lines = _lines(text, defects)
    number = np.arange(1, len(lines) + 1, dtype=np.int64)
    if _takes_header(form, lines, defects, listed):
        lines, number = lines.slice(1), number[1:]
    # Blank lines are counted and then left out, so that the rows around them are still compared.
    blank = _numpy(pc.equal(pc.utf8_trim_whitespace(lines), ""))
    defects.add_lines("blank line", number[blank])
    lines, number = lines.filter(pa.array(~blank)), number[~blank]
    # The name is a field of its own, before the values.
    named = listed is not None
    right = _check_field_counts(lines, number, len(form.fields) + named, defects)
    fields = pc.split_pattern(lines.filter(pa.array(right)), ",").combine_chunks()
    _check_values(form, fields, number[right], int(named), defects)
    if form.chances:
        _check_sums(fields, number[right], int(named), defects)
    return _Rows(number, pc.replace_substring_regex(lines, r"(?s),.*", ""))


def _check_sums(fields: Any, number: Numbers, first: int, defects: _Defects) -> None:
    """Chances of no and of yes that do not sum to exactly 1; what is no number was named before."""
    for row, line in enumerate(number.tolist()):
        no, yes = fields[row].as_py()[first : first + 2]
        if not (_NUMBER.fullmatch(no) and _NUMBER.fullmatch(yes)):
            continue
        if float(no) + float(yes) != 1.0:
            defects.add("no sum of 1", [f"line {line}: {no} and {yes}"], 1)


def _check_field_counts(
    lines: "pa.ChunkedArray", number: Numbers, width: int, defects: _Defects
) -> Mask:
    """Which lines have `width` fields, a trailing comma overlooked."""
    fields = _numpy(pc.count_substring(lines, ",")) + 1
    trailing = (fields == width + 1) & _numpy(pc.ends_with(lines, ","))
    defects.add_lines("trailing comma", number[trailing])
    wrong = (fields != width) & ~trailing

    def examples() -> Iterator[str]:
        for row in np.flatnonzero(wrong):
            count = int(fields[row])
            plural = "" if count == 1 else "s"
            yield f"line {number[row]}: {count} field{plural}, expected {width}"

    defects.add("field count", examples(), int(wrong.sum()))
    return np.asarray(~wrong)


def _numpy(values: Any) -> NDArray[Any]:
    """An Arrow array as numpy; only single arrays may need a copy."""
    if isinstance(values, pa.Array):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    return np.asarray(values.to_numpy())


def _decoded(content: bytes, defects: _Defects) -> str | None:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        defects.add("encoding", ["UTF-16, expected UTF-8"], 1)
        return None
    if content.startswith(codecs.BOM_UTF8):
        defects.add("byte-order mark", ["three bytes before the first line"], 1)
        content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        defects.add("encoding", [f"line {line}: byte {error.start} is not UTF-8"], 1)
        return None


def _lines(text: str, defects: _Defects) -> "pa.ChunkedArray":
    """The lines without their ends; a newline after the last line begins no other."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if "\r" in text:
        numbers = [number for number, line in enumerate(lines, 1) if line.endswith("\r")]
        texts = (f"line {number} ends in CR LF, expected LF" for number in numbers)
        defects.add("line ends", texts, len(numbers))
        lines = [line.removesuffix("\r") for line in lines]
    return pa.chunked_array([pa.array(lines, pa.large_string())])


def _takes_header(
    form: Format, lines: "pa.ChunkedArray", defects: _Defects, listed: pd.Series | None
) -> bool:
    """Whether the first line is a header, right or wrong, and no row."""
    first = lines[0].as_py() if len(lines) else ""
    # The header of another format is told as such: the usual slip is the wrong year.
    known = [other.name for other in all_formats().values() if other.header == first]
    if first == form.header or not (form.header or known):
        return bool(form.header) and len(lines) > 0
    is_row = _is_row(first, listed)
    source = ""
    if known:
        source = f", that of {known[0]}"
    elif is_row:
        source = ", a row"
    expected = form.header or "a row, no header"
    defects.add("header", [f"line 1: expected {expected}; found {first!r}{source}"], 1)
    return not is_row


def _is_row(line: str, listed: pd.Series | None) -> bool:
    """Whether a line answers a row: by its name, or where rows have none by its numbers."""
    fields = line.split(",")
    if listed is not None:
        return bool((listed == fields[0]).any())
    return all(map(_NUMBER.fullmatch, fields))


def _check_values(
    form: Format, fields: "pa.ListArray", line: Numbers, skip: int, defects: _Defects
) -> None:
    """Check every field; skip: fields before the first value."""
    starts = np.asarray(fields.offsets.to_numpy())[:-1]
    for position, field in enumerate(form.fields, skip):
        column = fields.values.take(pa.array(starts + position)).dictionary_encode()
        _check_column(field, column, line, defects)


def _check_column(
    field: Field, column: "pa.DictionaryArray", line: Numbers, defects: _Defects
) -> None:
    # Each different text is looked at once, however often it comes.
    texts = column.dictionary.to_pylist()
    verdicts = [_verdict(field, text) for text in texts] or [""]
    kinds = np.array(verdicts, object)[np.asarray(column.indices.to_numpy())]
    for kind in set(kinds.tolist()) - {""}:
        rows = np.flatnonzero(kinds == kind)
        defects.add(kind, _value_examples(field, kind, column, line, rows), len(rows))


def _value_examples(
    field: Field, kind: str, column: "pa.DictionaryArray", line: Numbers, rows: NDArray[np.intp]
) -> Iterator[str]:
    allowed = ""
    if kind in ("out of range", "no whole number"):
        allowed = f", allowed {field.low:g} to {field.high:g}"
    for row in rows:
        yield f"line {line[row]}: {field.name} is {column[int(row)].as_py()!r}{allowed}"


def _verdict(field: Field, text: str) -> str:
    """The kind of defect of a field's text, "" for none.

    A blank around a number is a defect: not every reader strips it.
    """
    if not text.strip():
        return "empty field"
    if _NOT_FINITE.fullmatch(text.strip()):
        return "NaN"
    if not _NUMBER.fullmatch(text):
        return "no number"
    if not field.low <= float(text) <= field.high:
        return "out of range"
    if field.whole and not re.fullmatch("[0-9]", text):
        return "no whole number"
    return ""


def _check_names(rows: _Rows, official: pd.Series, defects: _Defects) -> None:
    """Compare the named rows with the list's. A name that the list has twice must come twice."""
    names = rows.names.to_pandas()
    expected, unique = pd.factorize(official)
    answered = pd.Index(unique).get_indexer(names)
    if np.array_equal(answered, expected):
        return
    # A row whose name is not in the list has the code -1.
    known = answered >= 0
    again = known & _too_often(answered, known, expected)
    times_answered = np.bincount(answered[known], minlength=len(unique))
    missing = _occurrence(expected) >= times_answered[expected]
    surplus = [f"{_row_text(rows, names, i)} is not listed" for i in _first_rows(~known)]
    doubled = [f"{_row_text(rows, names, i)} was answered before" for i in _first_rows(again)]
    absent = [f"{official.iloc[i]}, row {i + 1} of the list" for i in _first_rows(missing)]
    defects.add("surplus row", surplus, int((~known).sum()))
    defects.add("doubled row", doubled, int(again.sum()))
    defects.add("missing row", absent, int(missing.sum()))
    # What is neither surplus nor missing must stand in the list's order.
    kept, order = np.flatnonzero(known & ~again), expected[~missing]
    moved = answered[kept] != order
    reordered = []
    for i in _first_rows(moved):
        reordered.append(f"{_row_text(rows, names, kept[i])}, expected {unique[order[i]]}")
    defects.add("reordered row", reordered, int(moved.sum()))


def _first_rows(mask: Mask) -> list[int]:
    """The first rows of a mask, as many as examples are kept."""
    return [int(row) for row in np.flatnonzero(mask)[:EXAMPLES]]


def _row_text(rows: _Rows, names: pd.Series, i: int) -> str:
    """Line and name of an answered row, for messages."""
    return f"line {rows.line[i]}: {names.iloc[i]}"


def _too_often(answered: NDArray[Any], known: Mask, expected: NDArray[Any]) -> Mask:
    """Which rows answer a name more often than the list has it."""
    times_expected = np.bincount(expected)
    seen_before = np.zeros(len(answered), np.int64)
    seen_before[known] = _occurrence(answered[known])
    return np.asarray(seen_before >= times_expected[answered])


def _occurrence(codes: Any) -> Numbers:
    """For each entry, how often its value came before."""
    values = pd.Series(codes)
    return np.asarray(values.groupby(values).cumcount(), np.int64)
