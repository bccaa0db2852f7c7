"""Reports as HTML: each page is one file that needs no network, and opens anywhere."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import mien
from mien.errors import MissingExtraError, StudyError, TableError
from mien.exports.recording import Recording
from mien.exports.study_folder import StudyFolder
from mien.files import atomic_write
from mien.report.content import film_of, recording_content, study_content, study_rows, words
from mien.report.people import Person, people_of
from mien.report.tables import tables_below
from mien.report.thumbnails import thumbnails
from mien.study.edits.beside import edits_note

__all__ = ["Written", "report"]

# Expressions with colours of their own in style.css.
_COLOURED: Final = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
)  # fmt: skip
_STUDY: Final = "report.html"


@dataclass
class Written:
    """What `report` did.

    Attributes:
        pages: The pages, that of the study last.
        left_out: Tables without a page, and why, one line each.
        edits: A line on each table that was edited by hand.
    """

    pages: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    edits: list[str] = field(default_factory=list)


def report(
    path: str | Path,
    *,
    pictures: bool = False,
    edits: bool = True,
    progress: Callable[[Path], None] | None = None,
) -> Written:
    """Write a page for each recording beside its table, and one for all of them.

    Args:
        path: A folder that `mien analyze` wrote into, or one table.
        pictures: Whether pages show a picture of each face, which takes reading the films again.
        edits: Whether edits beside tables apply; see `mien.study.edits.apply.apply_edits`.
        progress: Called with each page that was written.

    Returns:
        The pages. Photos have no page, because they have no time.

    Raises:
        TableError: There is no table of a film.
        MissingExtraError: jinja2 or scipy is not installed.
        OutputError: A page cannot be written.
        SourceError: Pictures are asked for, and a film is missing.
    """
    path = Path(path)
    # Without jinja2 nothing is read in vain.
    _environment()
    study = StudyFolder.open(path) if path.is_dir() else None
    written = Written()
    rows: list[dict[str, Any]] = []
    dictionaries = []
    for table in tables_below(path):
        try:
            recording = Recording.open(table, edits=edits)
            recording.film("a report")
            recording = study.named(recording) if study else recording.numbered()
            people, left_out = people_of(recording)
        except (TableError, StudyError) as error:
            # Photos among films are no reason to stop; a damaged table is named.
            written.left_out.append(str(error))
            continue
        page = table.with_name(f"{table.stem}.report.html")
        faces = _pictures(recording, people) if pictures else {}
        known_as = study if recording.participants else None
        content = recording_content(
            recording, people, left_out, page, pictures=faces, study=known_as
        )
        _write(page, "recording.html", content, written, progress)
        dictionaries.append(recording.dictionary)
        written.edits += filter(None, [edits_note(table, recording.table)])
        if path.is_dir():
            rows += study_rows(recording, people, os.path.relpath(page, path))
    if not written.pages:
        raise TableError(written.left_out[0])
    if path.is_dir():
        count = len(written.pages)
        content = study_content(path, count, rows, written.left_out, dictionaries, study=study)
        _write(path / _STUDY, "study.html", content, written, progress)
    return written


def _pictures(recording: Recording, people: list[Person]) -> dict[int, str]:
    film = film_of(recording.dictionary) or Path(recording.sources[0])
    return thumbnails(recording, film, people)


@cache
def _environment() -> Any:
    """The templates; whatever a table holds is escaped."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("report", "writing reports") from error
    environment = Environment(
        loader=PackageLoader("mien.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["colour"] = _colour
    environment.filters["words"] = words
    return environment


def _write(
    path: Path,
    template: str,
    content: Mapping[str, Any],
    written: Written,
    progress: Callable[[Path], None] | None,
) -> None:
    from markupsafe import Markup

    environment = _environment()
    # Style and script are mien's own, and no templates.
    style, _, _ = environment.loader.get_source(environment, "style.css")
    script, _, _ = environment.loader.get_source(environment, "timeline.js")
    text = environment.get_template(template).render(
        version=mien.__version__,
        made=time.strftime("%Y-%m-%d"),
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        **content,
    )
    atomic_write(path, text.encode())
    written.pages.append(path)
    if progress:
        progress(path)


def _colour(name: str) -> str:
    return f"var(--{name if name in _COLOURED else 'other'})"
