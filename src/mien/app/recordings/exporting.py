"""A recording in the files of other programs, as a page, and in numbers."""

import re
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from mien.app.errors import NotFoundError
from mien.app.recordings.models import ExportedFile, Grid
from mien.app.recordings.opened import Opened
from mien.errors import StudyError
from mien.exports.convert import convert
from mien.exports.intervals import person_rows, segments_of
from mien.files import AtomicFile, wrap_os_errors
from mien.study.rows.layout import without_attributes

__all__ = [
    "export_recording",
    "exported_file",
    "files_of",
    "grid_of",
    "report_page",
    "summary_of",
    "zipped",
]


def export_recording(table: Path, name: str, folder: Path) -> list[Path]:
    """Write a recording in a format, with its edits.

    Args:
        table: The table.
        name: The format.
        folder: The recording's folder of exports.

    Returns:
        The files; those of BIDS, which have folders, as one archive.

    Raises:
        UnknownNameError: There is no such format.
        TableError: The format cannot hold the table.
        OutputError: A file cannot be written.
        MissingExtraError: An optional library is missing.
    """
    if name != "bids":
        return convert(table, name, folder, overwrite=True)
    label = re.sub(r"[^A-Za-z0-9]", "", table.stem) or "film"
    data_set = folder / "bids"
    convert(table, name, data_set, subject=label, task="film", overwrite=True)
    return [zipped(data_set, folder / f"{table.stem}.bids.zip")]


def zipped(folder: Path, path: Path) -> Path:
    """Put a folder into an archive.

    Args:
        folder: The folder.
        path: The archive.

    Returns:
        The archive.

    Raises:
        OutputError: It cannot be written.
    """
    with AtomicFile(path) as part, wrap_os_errors(path), ZipFile(part, "w", ZIP_DEFLATED) as file:
        for member in sorted(folder.rglob("*")):
            if member.is_file() and not member.name.startswith("."):
                file.write(member, member.relative_to(folder).as_posix())
    return path


def files_of(paths: list[Path], address: str) -> list[ExportedFile]:
    """Say where exported files are.

    Args:
        paths: The files.
        address: Where they can be had, without their names.

    Returns:
        Names, sizes and addresses.
    """
    from urllib.parse import quote

    files = []
    for path in paths:
        url = f"{address}/{quote(path.name)}"
        files.append(ExportedFile(name=path.name, size=path.stat().st_size, url=url))
    return files


def exported_file(folder: Path, name: str) -> Path:
    """Find a file that was exported.

    Args:
        folder: The folder of exports.
        name: The file's name.

    Returns:
        The file.

    Raises:
        NotFoundError: There is none of this name.
    """
    # By the names that are there, so that no name leads anywhere else.
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == name and path.is_file() and not path.is_symlink():
            return path
    raise NotFoundError(f"there is no exported file {name[:80]!r}; export the recording again")


def report_page(table: Path) -> str:
    """The report on a recording, with its edits.

    Args:
        table: The table.

    Returns:
        The page, which is also beside the table now.

    Raises:
        TableError: It is no film.
        MissingExtraError: jinja2 is not installed.
        OutputError: It cannot be written.
    """
    from mien.report.pages import report

    (page,) = report(table).pages
    return page.read_text(encoding="utf-8")


def summary_of(opened: Opened) -> Grid:
    """The summary of each person of a film, as of a study.

    Args:
        opened: The recording.

    Returns:
        A row per person; see docs/howto/study.md for the columns.

    Raises:
        StudyError: It is no film, or shows nobody.
    """
    import pandas as pd

    from mien.study.statistics.summaries import summarize

    if not opened.is_film:
        raise StudyError(f"{opened.path.stem}: summaries are of films, and photos have no time")
    recording = opened.recording.numbered()
    parts = []
    for number in recording.people:
        rows = person_rows(recording, number)
        parts.append(summarize(rows, segments_of(recording, number, rows)))
    for part in parts:
        part.attrs = {}
    if not parts:
        raise StudyError(f"{opened.path.stem}: shows nobody, so there is nothing to summarize")
    return grid_of(pd.concat(parts, ignore_index=True))


def grid_of(table: Any) -> Grid:
    """A data frame for JSON.

    Args:
        table: The data frame.

    Returns:
        Its columns and rows, None where a value is missing; numbers have seven digits.
    """
    # pandas would copy the dictionary with every column that is looked at.
    plain = without_attributes(table)
    columns = []
    for name in plain.columns:
        values = plain[name].astype(object).where(plain[name].notna(), None).tolist()
        columns.append([_plain(value) for value in values])
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Grid(columns=list(map(str, table.columns)), rows=rows)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    return value
