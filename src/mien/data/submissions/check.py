"""What is wrong with a submission: each kind of defect once, with its count and the first examples.

Whole columns are looked at at once: a million rows take a few seconds.
"""

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mien.data.submissions.formats import FORMATS, Field, Format, format_named, video_lengths
from mien.errors import DataError

__all__ = ["EXAMPLES", "KINDS", "Defect", "check", "guess"]

EXAMPLES: Final = 5
"""How many examples of a kind are kept."""

KINDS: Final = (
    "layout", "missing file", "surplus file", "encoding", "byte-order mark", "line ends", "header", "blank line", "field count",
    "trailing comma", "empty field", "NaN", "no number", "no whole number", "out of range", "missing row", "surplus row", "doubled row",
    "reordered row",
)  # fmt: skip
"""Every kind of defect, in the order they are told."""

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[+-]?(nan|inf|infinity|null|none|n/a|na)", re.IGNORECASE)

Numbers = NDArray[np.int64]
Picked = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Defect:
    """One kind of defect in a submission. count: how often. examples: the first of them, at most `EXAMPLES`, a line each."""

    kind: str
    count: int
    examples: tuple[str, ...]


class _Found:
    """Defects while they are gathered; where: what to say before a line number."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        self.where = ""

    def add(self, kind: str, examples: Iterable[str], count: int) -> None:
        """Count defects of a kind; examples: read no further than needed."""
        if count:
            self.counts[kind] = self.counts.get(kind, 0) + count
            kept = self.examples.setdefault(kind, [])
            kept += [
                self.where + text
                for _, text in zip(range(EXAMPLES - len(kept)), examples, strict=False)
            ]

    def defects(self) -> list[Defect]:
        """One per kind, in the order of `KINDS`."""
        return [
            Defect(kind, self.counts[kind], tuple(self.examples[kind]))
            for kind in KINDS
            if kind in self.counts
        ]


def check(path: Path, name: str, official: pd.DataFrame) -> list[Defect]:
    """Every kind of defect of a submission; empty where there is none.

    path: the file or, for a format with a file per video, the folder. name: of a format in `FORMATS`.
    official: `image`, `video`, `frame` of the official list, from `mien.data.frame_lists.read_list`.
    A line with the wrong number of fields still answers the row that it names. In a file per video rows have no names, so a row
    that is missing, doubled or in another place shows only in the number of lines.
    Raises UnknownNameError for the format, DataError where there is nothing at `path` or the list does not suit the format.
    """
    form, path, found = format_named(name), Path(path), _Found()
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; give the submission's own path")
    if official.empty:
        raise DataError(f"{name}: the official list names no row; give the list of the challenge")
    if form.folder is not None:
        _check_folder(form, path, video_lengths(official), found)
    elif path.is_dir():
        found.add("layout", [f"{path} is a folder; {name} is one file"], 1)
    else:
        rows = _rows(form, _content(path), found, official["image"])
        if rows is not None:
            _check_names(rows, official["image"], found)
    return found.defects()


def guess(path: Path) -> str:
    """The name of the format that a submission seems to be in, told by its layout and first line; of equal formats the first year's.

    Raises DataError where no format has this first line (a file without a header cannot be told), or two different ones do.
    """
    path = Path(path)
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        raise DataError(
            f"{path}: {'the file is empty' if path.exists() else 'there is no such file or folder'}; give the submission's own path"
        )
    fits = [
        form for form in FORMATS.values() if form.header and _first_line(form, path) == form.header
    ]
    if not fits:
        raise DataError(
            f"{path}: its first line is no header of a known format; name the format by --format, one of {', '.join(FORMATS)}"
        )
    if len({form.rules for form in fits}) > 1:
        raise DataError(
            f"{path}: could be {' or '.join(form.name for form in fits)}; name the format"
        )
    return fits[0].name


def _first_line(form: Format, path: Path) -> str:
    """The first line of a submission, read as that format; "" where its layout is another."""
    if form.folder is not None:
        path = (
            next(iter(sorted((path / form.folder).glob("*.txt"))), path)
            if path.is_dir()
            else Path()
        )
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.readline(10_000).decode("utf-8-sig", "replace").rstrip("\r\n")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error


def _check_folder(form: Format, path: Path, lengths: dict[str, int], found: _Found) -> None:
    home = path / (form.folder or "")
    if not home.is_dir():
        found.add(
            "layout", [f"{home} is no folder; {form.name} is a folder of files <video>.txt"], 1
        )
        return
    files = {entry.name: entry for entry in home.iterdir()}
    wanted = {f"{video}.txt": count for video, count in lengths.items()}
    missing = [name for name in wanted if name not in files or not files[name].is_file()]
    surplus = sorted(files.keys() - wanted.keys())
    found.add("missing file", missing, len(missing))
    found.add(
        "surplus file",
        (f"{name} is no video of the list with .txt" for name in surplus),
        len(surplus),
    )
    for name in (name for name in wanted if name not in missing):
        found.where = f"{name}, "
        rows = _rows(form, _content(files[name]), found, None)
        if rows is not None:
            told, off = (
                [f"{len(rows.line)} lines of answers, expected {wanted[name]}"],
                len(rows.line) - wanted[name],
            )
            found.add("surplus row" if off > 0 else "missing row", told, abs(off))
    found.where = ""


@dataclass(frozen=True, slots=True)
class _Rows:
    """The answered rows of a file: line numbers from 1, and the first field of each line."""

    line: Numbers
    names: "pa.Array"


def _rows(form: Format, content: bytes, found: _Found, listed: pd.Series | None) -> _Rows | None:
    """Look at every line on its own; None where the file is no text. listed: the official names, None where rows have no name."""
    text = _decoded(content, found)
    if text is None:
        return None
    lines = _lines(text, found)
    number = np.arange(1, len(lines) + 1, dtype=np.int64)
    if _takes_header(form, lines, found, listed):
        lines, number = lines.slice(1), number[1:]
    blank = _numpy(pc.equal(pc.utf8_trim_whitespace(lines), ""))
    found.add("blank line", (f"line {line}" for line in number[blank]), int(blank.sum()))
    lines, number = lines.filter(pa.array(~blank)), number[~blank]
    named = listed is not None
    width = len(form.fields) + named
    fields = _numpy(pc.count_substring(lines, ",")) + 1
    bare = (fields == width + 1) & _numpy(pc.ends_with(lines, ","))
    found.add("trailing comma", (f"line {line}" for line in number[bare]), int(bare.sum()))
    wrong = (fields != width) & ~bare
    told = (
        f"line {number[at]}: {_count(int(fields[at]))}, expected {width}"
        for at in np.flatnonzero(wrong)
    )
    found.add("field count", told, int(wrong.sum()))
    _check_values(
        form,
        pc.split_pattern(lines.filter(pa.array(~wrong)), ",").combine_chunks(),
        number[~wrong],
        int(named),
        found,
    )
    return _Rows(number, pc.replace_substring_regex(lines, r"(?s),.*", ""))


def _numpy(values: Any) -> NDArray[Any]:
    return np.asarray(
        values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy()
    )


def _count(fields: int) -> str:
    return f"{fields} field{'s' * (fields != 1)}"


def _decoded(content: bytes, found: _Found) -> str | None:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        found.add("encoding", ["UTF-16, expected UTF-8"], 1)
        return None
    if content.startswith(codecs.BOM_UTF8):
        found.add("byte-order mark", ["three bytes before the first line"], 1)
        content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found.add("encoding", [f"line {line}: byte {error.start} is not UTF-8"], 1)
        return None


def _lines(text: str, found: _Found) -> "pa.ChunkedArray":
    """The lines without their ends; a newline after the last line begins no other."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if "\r" in text:
        at = [number for number, line in enumerate(lines, 1) if line.endswith("\r")]
        found.add(
            "line ends", (f"line {number} ends in CR LF, expected LF" for number in at), len(at)
        )
        lines = [line.removesuffix("\r") for line in lines]
    return pa.chunked_array([pa.array(lines, pa.large_string())])


def _takes_header(
    form: Format, lines: "pa.ChunkedArray", found: _Found, listed: pd.Series | None
) -> bool:
    """Whether the first line is a header, right or wrong, and no row."""
    first = lines[0].as_py() if len(lines) else ""
    known = [other.name for other in FORMATS.values() if other.header == first]
    if first == form.header or not (form.header or known):
        return bool(form.header) and len(lines) > 0
    row = bool(listed is not None and (listed == first.partition(",")[0]).any()) or (
        listed is None and all(map(_NUMBER.fullmatch, first.split(",")))
    )
    whose = f", that of {known[0]}" if known else ", a row" if row else ""
    found.add(
        "header",
        [f"line 1: expected {form.header or 'a row, no header'}; found {first!r}{whose}"],
        1,
    )
    return not row


def _check_values(
    form: Format, fields: "pa.ListArray", line: Numbers, skip: int, found: _Found
) -> None:
    """Judge each different text of a field once. skip: fields before the first value."""
    starts = np.asarray(fields.offsets.to_numpy())[:-1]
    for place, field in enumerate(form.fields, skip):
        column = fields.values.take(pa.array(starts + place)).dictionary_encode()
        texts = column.dictionary.to_pylist()
        verdicts = np.array([_verdict(field, text) for text in texts] or [""], object)[
            np.asarray(column.indices.to_numpy())
        ]
        for kind in set(verdicts.tolist()) - {""}:
            at = np.flatnonzero(verdicts == kind)
            told = (
                f"line {line[row]}: {field.name} is {column[int(row)].as_py()!r}{_allowed(field, kind)}"
                for row in at
            )
            found.add(kind, told, len(at))


def _allowed(field: Field, kind: str) -> str:
    return (
        f", allowed {field.low:g} to {field.high:g}"
        if kind in ("out of range", "no whole number")
        else ""
    )


def _verdict(field: Field, text: str) -> str:
    """The kind of defect of a field's text, "" for none. A blank around a number is one: not every reader strips it."""
    if not text.strip():
        return "empty field"
    if _NOT_FINITE.fullmatch(text.strip()):
        return "NaN"
    if not _NUMBER.fullmatch(text):
        return "no number"
    if not field.low <= float(text) <= field.high:
        return "out of range"
    return "no whole number" if field.whole and not re.fullmatch("[0-9]", text) else ""


def _check_names(rows: _Rows, official: pd.Series, found: _Found) -> None:
    """Compare the named rows with the list's. A name that the list has twice must come twice."""
    names = rows.names.to_pandas()
    wanted, unique = pd.factorize(official)
    got = pd.Index(unique).get_indexer(names)
    if np.array_equal(got, wanted):
        return
    known = got >= 0
    found.add("surplus row", _told(rows, names, ~known, "is not listed"), int((~known).sum()))
    asked, given = (
        np.bincount(wanted, minlength=len(unique)),
        np.bincount(got[known], minlength=len(unique)),
    )
    nth = np.zeros(len(got), np.int64)
    nth[known] = _nth(got[known])
    again = known & (nth >= asked[got])
    found.add("doubled row", _told(rows, names, again, "was answered before"), int(again.sum()))
    missing = _nth(wanted) >= given[wanted]
    told = (f"{official.iloc[at]}, row {at + 1} of the list" for at in np.flatnonzero(missing))
    found.add("missing row", told, int(missing.sum()))
    answered, expected = np.flatnonzero(known & ~again), wanted[~missing]
    moved = np.flatnonzero(got[answered] != expected)
    order = (
        f"line {rows.line[answered[at]]}: {names.iloc[answered[at]]}, expected {unique[expected[at]]}"
        for at in moved
    )
    found.add("reordered row", order, len(moved))


def _told(rows: _Rows, names: pd.Series, picked: Picked, what: str) -> Iterable[str]:
    return (f"line {rows.line[at]}: {names.iloc[at]} {what}" for at in np.flatnonzero(picked))


def _nth(codes: Sequence[int] | Numbers) -> Numbers:
    """For each entry, how often its value came before."""
    values = pd.Series(codes)
    return np.asarray(values.groupby(values).cumcount(), np.int64)
