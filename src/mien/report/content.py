"""What pages show, as text and numbers ready to be put into templates."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np

from mien.exports.recording import Recording
from mien.exports.study_folder import StudyFolder
from mien.report.methods import methods
from mien.report.packing import page_data
from mien.report.people import Person, expressions_of, units_of
from mien.report.pictures import affect_path, sparkline
from mien.report.study_tables import study_tables

__all__ = ["film_of", "recording_content", "study_content", "study_rows", "words"]

Content = dict[str, Any]

_MISSING: Final = "–"
_SUMMARY: Final = (
    "who", "seen, s", "usable, s", "valence", "arousal", "likeliest expression",
    "smiles / min", "blinks / min", "not usable, s",
)  # fmt: skip


def words(name: str) -> str:
    """A name as people write it.

    Args:
        name: Such as ``no_face``.

    Returns:
        Such as ``no face``.
    """
    return name.replace("_", " ")


def film_of(dictionary: Mapping[str, Any]) -> Path | None:
    """The film of a table.

    Args:
        dictionary: Its data dictionary.

    Returns:
        The path; None where it records none. The file need not be there any more.
    """
    entries = dictionary.get("sources")
    path = entries[0].get("path") if isinstance(entries, list) and entries else None
    return Path(path) if isinstance(path, str) else None


def recording_content(
    recording: Recording,
    people: list[Person],
    left_out: int,
    page: Path,
    *,
    pictures: Mapping[int, str],
    study: StudyFolder | None,
) -> Content:
    """What the page of a recording shows.

    Args:
        recording: The table of one film.
        people: Its people.
        left_out: How many more it has.
        page: Where the page will lie; the film is linked relative to it.
        pictures: Pictures of people by number, as data URLs; may be empty.
        study: The study whose participants they are; None where they are not.

    Returns:
        Values for ``recording.html``.
    """
    dictionary = recording.dictionary
    table = recording.table
    film = film_of(dictionary)
    content: Content = {"title": recording.stem, "subtitle": recording.sources[0]}
    content["problems"] = _texts(dictionary, "problems") + _texts(dictionary, "notes")
    content["limits"] = _texts(dictionary.get("bundle"), "limits")
    who = recording.who
    content["facts"] = _recording_facts(recording, who, len(people) + left_out)
    content["video"] = _address(film, page) if film and film.is_file() else ""
    content["affect"] = [name for name in ("valence", "arousal") if name in table]
    content["expressions"] = expressions_of(table)
    content["units"] = units_of(table)
    content["who"] = who
    content["people"] = [_person(person, pictures.get(person.number, "")) for person in people]
    content["left_out"] = left_out
    content["summary"] = {"names": _SUMMARY, "rows": list(map(_summary_row, people))}
    content["methods"] = _methods([dictionary], study)
    events = study.events(recording) if study else []
    content["data"] = page_data(people, events) if people else {}
    return content


def _methods(dictionaries: Iterable[Mapping[str, Any]], study: StudyFolder | None) -> list[str]:
    if study is None:
        return methods(dictionaries)
    return methods(dictionaries, study.usable, study.segments)


def _recording_facts(recording: Recording, who: str, count: int) -> list[dict[str, str]]:
    timeline = recording.film("a report")
    rate = f"{1 / timeline.step_s:.1f}" if timeline.step_s else _MISSING
    several = {"face": "faces", "person": "people"}
    counted = who if count == 1 else several[who]
    seconds = timeline.end_s - float(timeline.times[0])
    facts = [_fact("recorded", _duration(seconds))]
    facts.append(_fact("frames read", f"{len(timeline.times):,}"))
    facts.append(_fact(counted, str(count)))
    facts.append(_fact("frames per second", rate))
    return facts


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


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _person(person: Person, picture: str) -> Content:
    content: Content = {"name": person.name, "picture": picture}
    content["usable"] = f"{person.usable_s:.1f} of {person.recorded_s:.1f} s usable"
    content["path"] = affect_path(person)
    content["mean"] = None
    if content["path"]:
        valence = person.moments("valence")[0]
        arousal = person.moments("arousal")[0]
        content["mean"] = {"x": f"{100 * valence:.1f}", "y": f"{-100 * arousal:.1f}"}
    content["shares"] = _shares(person)
    return content


def _shares(person: Person) -> list[dict[str, str]]:
    """Shares of expressions that are known, with the width of their bars in percent."""
    shares = []
    for name, share in person.shares().items():
        if not np.isnan(share):
            width = f"{100 * share:.1f}"
            shares.append({"name": name, "width": width, "text": _percent(share, 1)})
    return shares


def _summary_row(person: Person) -> list[str]:
    """The numbers of a person, in the order of `_SUMMARY`."""
    shares = person.shares()
    likeliest = _MISSING
    if shares and not np.isnan(max(shares.values())):
        best = max(shares, key=lambda name: shares[name])
        likeliest = f"{words(best)}, {_percent(shares[best])}"
    lost = [f"{words(name)} {seconds:.1f}" for name, seconds in person.lost().items()]
    times = [f"{person.seen_s:.1f}", f"{person.usable_s:.1f}"]
    affect = [_moments(person, "valence"), _moments(person, "arousal")]
    rates = [_rate(person, "smile", "AU12"), _rate(person, "blink", "AU45")]
    return [person.name, *times, *affect, likeliest, *rates, ", ".join(lost)]


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


def study_rows(recording: Recording, people: list[Person], page: str) -> list[Content]:
    """The rows of a recording in the table of a study: one per person.

    Args:
        recording: The table of one film.
        people: Its people.
        page: Its page, relative to that of the study.

    Returns:
        Rows for ``study.html``; the first one links the page. A film without people has one too.
    """
    link: Content = {"recording": recording.stem, "link": quote(Path(page).as_posix())}
    rows = [_study_row(person) for person in people]
    if not rows:
        rows.append(dict.fromkeys(("who", "seconds", "usable", *_NUMBERS), _MISSING))
        rows[0] |= {"line": [], "shares": [], "title": "", "usable_s": 0.0, "recorded_s": 0.0}
    rows[0] |= link
    for row in rows[1:]:
        row["link"] = ""
    return rows


_NUMBERS: Final = ("valence", "arousal", "smiles")


def _study_row(person: Person) -> Content:
    row: Content = {"who": person.name, "seconds": f"{person.recorded_s:.1f}"}
    row["usable_s"] = person.usable_s
    row["recorded_s"] = person.recorded_s
    row["usable"] = _percent(person.usable_s / person.recorded_s) if person.recorded_s else ""
    row["line"] = sparkline(person, "valence") if "valence" in person.rows else []
    row["valence"] = _moments(person, "valence")
    row["arousal"] = _moments(person, "arousal")
    row["smiles"] = _rate(person, "smile", "AU12")
    row["shares"] = _shares(person)
    row["title"] = ", ".join(f"{words(share['name'])} {share['text']}" for share in row["shares"])
    return row


def study_content(
    folder: Path,
    recordings: int,
    rows: list[Content],
    left_out: list[str],
    dictionaries: Iterable[Mapping[str, Any]],
    *,
    study: StudyFolder | None,
) -> Content:
    """What the page of a study shows.

    Args:
        folder: The folder of its tables.
        recordings: How many recordings have pages.
        rows: Those of `study_rows`.
        left_out: Tables without a page, and why.
        dictionaries: The data dictionaries of the tables.
        study: The study that was run in the folder; None where none was.

    Returns:
        Values for ``study.html``.

    Raises:
        TableError: A table of the study is damaged.
    """
    usable = sum(row["usable_s"] for row in rows)
    recorded = sum(row["recorded_s"] for row in rows)
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(share["name"] for share in row["shares"])
    name = folder.resolve().name if study is None else study.title
    content: Content = {"title": f"Report on {name}"}
    content["problems"] = left_out
    people = [row["who"] for row in rows if row["recorded_s"] > 0]
    facts = [_fact("recordings", str(recordings))]
    # Only a study knows who comes in several recordings.
    if study is None:
        content["who"] = "face or person"
        facts.append(_fact("faces or people", str(len(people))))
    else:
        content["who"] = "participant"
        count = len(set(people))
        facts.append(_fact("participant" if count == 1 else "participants", str(count)))
    facts.append(_fact("usable, all together", _duration(usable)))
    share = _percent(usable / recorded) if recorded else _MISSING
    facts.append(_fact("of their recorded time", share))
    content["facts"] = facts
    content["expressions"] = list(names)
    content["rows"] = rows
    content["tables"] = study_tables(folder)
    content["methods"] = _methods(dictionaries, study)
    return content
