"""Reports as HTML: each page is one file that needs no network, and opens anywhere."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np

import mien
from mien.errors import MissingExtraError, TableError
from mien.exports.recording import Recording
from mien.files import atomic_write
from mien.report.methods import methods
from mien.report.packing import page_data
from mien.report.people import Person, expressions_of, people_of, units_of
from mien.report.pictures import affect_path, sparkline
from mien.report.tables import tables_below
from mien.report.thumbnails import thumbnails

__all__ = ["Written", "report"]

# Expressions with colours of their own in style.css.
_COLOURED: Final = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
)  # fmt: skip
_STUDY: Final = "report.html"
_MISSING: Final = "–"


@dataclass
class Written:
    """What `report` did.

    Attributes:
        pages: The pages, that of the study last.
        left_out: Tables without a page, and why, one line each.
    """

    pages: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def report(
    path: str | Path,
    *,
    pictures: bool = False,
    progress: Callable[[Path], None] | None = None,
) -> Written:
    """Write a page for each recording beside its table, and one for all of them.

    Args:
        path: A folder that `mien analyze` wrote into, or one table.
        pictures: Whether pages show a picture of each face, which takes reading the films again.
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
    _environment()
    tables = tables_below(path)
    written = Written()
    rows: list[dict[str, Any]] = []
    dictionaries = []
    for table in tables:
        try:
            recording = Recording.open(table)
            recording.film("a report")
        except TableError as error:
            # Photos among films are no reason to stop; a damaged table is named.
            written.left_out.append(str(error))
            continue
        people, left_out = people_of(recording)
        page = table.with_name(f"{table.stem}.report.html")
        _write(page, "recording.html", _recording(recording, people, left_out, page, pictures))
        written.pages.append(page)
        dictionaries.append(recording.dictionary)
        if path.is_dir():
            rows += _study_rows(recording, people, os.path.relpath(page, path))
        if progress:
            progress(page)
    if not written.pages:
        raise TableError(written.left_out[0])
    if path.is_dir():
        page = path / _STUDY
        _write(page, "study.html", _study(path, written, rows, methods(dictionaries)))
        written.pages.append(page)
        if progress:
            progress(page)
    return written


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
    environment.filters["words"] = _words
    return environment


def _write(path: Path, template: str, content: Mapping[str, Any]) -> None:
    environment = _environment()
    loader = environment.loader
    # Style and script are mien's own and no templates.
    style, _, _ = loader.get_source(environment, "style.css")
    script, _, _ = loader.get_source(environment, "timeline.js")
    from markupsafe import Markup

    text = environment.get_template(template).render(
        version=mien.__version__,
        made=time.strftime("%Y-%m-%d"),
        style=Markup(style),  # noqa: S704  # mien's own file
        script=Markup(script),  # noqa: S704  # mien's own file
        **content,
    )
    atomic_write(path, text.encode())


def _colour(name: str) -> str:
    return f"var(--{name if name in _COLOURED else 'other'})"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _recording(
    recording: Recording, people: list[Person], left_out: int, page: Path, pictures: bool
) -> dict[str, Any]:
    """What the page of a recording shows."""
    dictionary = recording.dictionary
    film = _film_of(dictionary)
    images: Mapping[int, str] = {}
    if pictures:
        images = thumbnails(recording, film or Path(recording.sources[0]), people)
    bundle = dictionary.get("bundle")
    timeline = recording.film("a report")
    facts = [
        _fact("recorded", _duration(timeline.end_s - float(timeline.times[0]))),
        _fact("frames read", f"{len(timeline.times):,}"),
        _fact("faces", str(len(recording.faces))),
        _fact("frames per second", f"{1 / timeline.step_s:.1f}" if timeline.step_s else _MISSING),
    ]
    affect = [name for name in ("valence", "arousal") if name in recording.table]
    return {
        "title": recording.stem,
        "subtitle": recording.sources[0],
        "problems": _texts(dictionary, "problems") + _texts(dictionary, "notes"),
        "facts": facts,
        "video": _address(film, page) if film and film.is_file() else "",
        "affect": affect,
        "expressions": expressions_of(recording.table),
        "units": units_of(recording.table),
        "people": [_person(person, images.get(person.face, "")) for person in people],
        "left_out": left_out,
        "summary": _summary(people),
        "methods": methods([dictionary]),
        "limits": _texts(bundle, "limits"),
        "data": page_data(people) if people else {},
    }


def _film_of(dictionary: Mapping[str, Any]) -> Path | None:
    entries = dictionary.get("sources")
    path = entries[0].get("path") if isinstance(entries, list) and entries else None
    return Path(path) if isinstance(path, str) else None


def _address(film: Path, page: Path) -> str:
    """The film relative to the page, so that both can be moved together."""
    try:
        relative = os.path.relpath(film, page.absolute().parent)
    except ValueError:
        # On Windows another drive has no relative path.
        return film.absolute().as_uri()
    return quote(Path(relative).as_posix())


def _fact(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def _texts(content: object, key: str) -> list[str]:
    """Lines of a dictionary, which anyone may have edited."""
    lines = content.get(key) if isinstance(content, Mapping) else None
    return list(map(str, lines)) if isinstance(lines, list) else []


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def _person(person: Person, picture: str) -> dict[str, Any]:
    shares = []
    for name, share in person.shares().items():
        if not np.isnan(share):
            width = f"{100 * share:.1f}"
            shares.append({"name": name, "width": width, "text": f"{100 * share:.1f} %"})
    mean = None
    path = affect_path(person)
    if path:
        valence, arousal = person.moments("valence")[0], person.moments("arousal")[0]
        mean = {"x": f"{100 * valence:.1f}", "y": f"{-100 * arousal:.1f}"}
    return {
        "name": person.name,
        "picture": picture,
        "usable": f"{person.usable_s:.1f} of {person.recorded_s:.1f} s usable",
        "path": path,
        "mean": mean,
        "shares": shares,
    }


def _summary(people: Iterable[Person]) -> dict[str, list[Any]]:
    """The table of numbers per face."""
    names = ["face", "seen, s", "usable, s", "valence", "arousal", "likeliest expression"]
    names += ["smiles / min", "blinks / min", "not usable, s"]
    rows = []
    for person in people:
        shares = person.shares()
        best = max(shares, key=lambda name: shares[name]) if shares else ""
        is_known = bool(best) and not np.isnan(shares[best])
        rows.append(
            [
                person.name,
                f"{person.seen_s:.1f}",
                f"{person.usable_s:.1f}",
                _moments(person, "valence"),
                _moments(person, "arousal"),
                f"{_words(best)}, {100 * shares[best]:.0f} %" if is_known else _MISSING,
                _rate(person, "smile", "AU12"),
                _rate(person, "blink", "AU45"),
                ", ".join(f"{_words(name)} {lost:.1f}" for name, lost in person.lost().items()),
            ]
        )
    return {"names": names, "rows": rows}


def _moments(person: Person, column: str) -> str:
    if column not in person.rows:
        return _MISSING
    mean, deviation = person.moments(column)
    if np.isnan(mean):
        return _MISSING
    return f"{mean:.2f} ± {deviation:.2f}".replace("-", "−")


def _rate(person: Person, name: str, column: str) -> str:
    """Segments per minute; unknown where the table lacks the column that shows them."""
    rate = person.per_minute(name)
    if column not in person.rows or np.isnan(rate):
        return _MISSING
    return f"{rate:.1f}"


def _study_rows(recording: Recording, people: list[Person], link: str) -> list[dict[str, Any]]:
    """A row for each face of a recording; the recording is named in the first."""
    rows = []
    address = quote(Path(link).as_posix())
    for number, person in enumerate(people):
        shares = person.shares()
        known = {name: share for name, share in shares.items() if not np.isnan(share)}
        words = [f"{_words(name)} {100 * value:.0f} %" for name, value in known.items()]
        used = f"{100 * person.usable_s / person.recorded_s:.0f} %" if person.recorded_s else ""
        row: dict[str, Any] = {
            "recording": recording.stem,
            "link": "" if number else address,
            "face": person.face,
            "seconds": f"{person.recorded_s:.1f}",
            "usable": used,
            "line": sparkline(person, "valence") if "valence" in person.rows else [],
            "valence": _moments(person, "valence"),
            "arousal": _moments(person, "arousal"),
            "smiles": _rate(person, "smile", "AU12"),
            "title": ", ".join(words),
            "usable_s": person.usable_s,
            "recorded_s": person.recorded_s,
        }
        row["shares"] = [
            {"name": name, "width": f"{100 * share:.1f}"} for name, share in known.items()
        ]
        rows.append(row)
    if not people:
        empty = dict.fromkeys(("face", "usable", "valence", "arousal", "smiles"), _MISSING)
        lists: dict[str, Any] = {"line": [], "shares": [], "title": "", "seconds": _MISSING}
        rows.append({"recording": recording.stem, "link": address, **empty, **lists})
    return rows


def _study(
    path: Path, written: Written, rows: list[dict[str, Any]], texts: list[str]
) -> dict[str, Any]:
    """What the page of a study shows."""
    usable = sum(row.get("usable_s", 0.0) for row in rows)
    recorded = sum(row.get("recorded_s", 0.0) for row in rows)
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(share["name"] for share in row["shares"])
    faces = sum(1 for row in rows if row["face"] != _MISSING)
    facts = [
        _fact("recordings", str(len(written.pages))),
        _fact("faces", str(faces)),
        _fact("usable, all faces together", _duration(usable)),
        _fact(
            "of the time recorded of them",
            f"{100 * usable / recorded:.0f} %" if recorded else _MISSING,
        ),
    ]
    return {
        "title": f"Report on {path.resolve().name}",
        "subtitle": str(path.resolve()),
        "problems": written.left_out,
        "facts": facts,
        "expressions": list(names),
        "rows": rows,
        "tables": [],
        "methods": texts,
    }
