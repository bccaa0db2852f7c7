"""Studies of the workspace: which recordings, who and when; and what their runs gave."""

import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import mien
from mien.app.errors import ConflictError, InvalidError, NotFoundError
from mien.app.recordings.exporting import grid_of, zipped
from mien.app.recordings.models import Grid
from mien.exports.convert import TARGETS, convert
from mien.files import atomic_write, wrap_os_errors
from mien.study.rows.baseline import Baseline
from mien.study.tables import describe

__all__ = [
    "OUT",
    "Find",
    "NewStudy",
    "Plots",
    "Study",
    "StudyRecording",
    "create_study",
    "export_study",
    "list_studies",
    "read_study",
    "study_plots",
    "study_report",
    "study_summary",
    "write_study",
]

_FACTS: Final = "study.json"
OUT: Final = "out"
"""The folder of a study's tables, in its own."""
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
# Formats that say who shows what; the others hold the tables of the study.
_OF_PEOPLE: Final = ("eaf", "textgrid", "boris", "mne", "bids")
_OF_TABLES: Final = ("csv", "csv:de", "jsonl", "parquet", "xlsx", "sav", "dta")
_Text = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f]*$")]
Find = Callable[[str], Path]


class StudyRecording(BaseModel):
    """A recording of a study.

    Attributes:
        id: Of the recording.
        participant: Who it shows; empty for all whom names were given to.
        condition: Its condition.
        session: Its session.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    participant: _Text = ""
    condition: _Text = ""
    session: _Text = ""


class NewStudy(BaseModel):
    """A study to be made.

    Attributes:
        name: What it is called.
        recordings: Its recordings; all with a participant, or none.
        baseline: What is taken off the scores; None for nothing.
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[_Text, Field(min_length=1)]
    recordings: Annotated[list[StudyRecording], Field(min_length=1)]
    baseline: Baseline | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "NewStudy":
        ids = [recording.id for recording in self.recordings]
        if len(set(ids)) < len(ids):
            raise ValueError("recordings: one comes twice; name each once")
        named = {bool(recording.participant) for recording in self.recordings}
        if len(named) > 1:
            raise ValueError(
                "recordings: some have a participant and others have not; give all, or none "
                "where faces have names"
            )
        return self


class Study(NewStudy):
    """A study.

    Attributes:
        id: What it is called in addresses.
        created: When it was made, seconds since 1970.
        state: Whether it was run.
        problem: Why its last run failed; None where it did not.
        notes: What to look at, a line each.
        formats: What it can be exported to.
    """

    id: str
    created: float
    state: Literal["new", "done", "failed"] = "new"
    problem: str | None = None
    notes: list[str] = Field(default_factory=list)
    formats: list[str] = Field(default_factory=lambda: [*_OF_TABLES, *_OF_PEOPLE])


class Mean(BaseModel):
    """A mean over people with its 95 % interval; None where it is not known."""

    condition: str
    session: str
    people: int
    mean: float | None
    low: float | None
    high: float | None


class Value(BaseModel):
    """What was measured of one person."""

    participant: str
    condition: str
    session: str
    value: float | None


class Measure(BaseModel):
    """A column of the summaries, as a plot shows it."""

    name: str
    description: str
    unit: str
    means: list[Mean]
    values: list[Value]


class Plots(BaseModel):
    """Data for plots: means over people by condition, and each person's values."""

    measures: list[Measure]


def list_studies(folder: Path) -> list[Study]:
    """List the studies of a workspace.

    Args:
        folder: Its folder of studies.

    Returns:
        The studies, the newest first.
    """
    studies = []
    for path in folder.glob(f"*/{_FACTS}"):
        study = _read(path)
        if study is not None:
            studies.append(study)
    return sorted(studies, key=lambda study: (-study.created, study.name))


def read_study(folder: Path, identity: str) -> Study:
    """Find a study.

    Args:
        folder: The folder of studies.
        identity: What it is called in addresses.

    Returns:
        The study.

    Raises:
        NotFoundError: There is none.
    """
    study = None
    if _ID.fullmatch(identity):
        study = _read(folder / identity / _FACTS)
    if study is None:
        raise NotFoundError(f"there is no study {identity[:60]!r}; look at the list of studies")
    return study


def _read(path: Path) -> Study | None:
    try:
        study = Study.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    # The id becomes a path: one that the file makes up must not lead to another folder.
    return study if study.id == path.parent.name else None


def create_study(folder: Path, new: NewStudy, find: Find) -> Study:
    """Make a study, with the files that `mien study run` takes.

    Args:
        folder: The folder of studies.
        new: The study.
        find: Finds the table of a recording.

    Returns:
        The study, which was not run yet.

    Raises:
        NotFoundError: There is no such recording.
        OutputError: It cannot be written.
    """
    for recording in new.recordings:
        find(recording.id)
    slug = re.sub(r"[^a-z0-9]+", "-", new.name.lower()).strip("-")[:40] or "study"
    number = 1
    identity = slug
    while (folder / identity).exists():
        number += 1
        identity = f"{slug}-{number}"
    study = Study(**new.model_dump(), id=identity, created=time.time())
    with wrap_os_errors(folder / identity):
        (folder / identity).mkdir(parents=True)
    write_study(folder, study)
    return study


def write_study(folder: Path, study: Study) -> None:
    """Keep what is known of a study.

    Args:
        folder: The folder of studies.
        study: The study.

    Raises:
        OutputError: It cannot be written.
    """
    text = study.model_dump_json(indent=2) + "\n"
    atomic_write(folder / study.id / _FACTS, text.encode())


def _result(folder: Path, identity: str, name: str) -> Any:
    """A table of a study that was run."""
    study = read_study(folder, identity)
    path = folder / study.id / OUT / f"{name}.parquet"
    if study.state != "done" or not path.is_file():
        raise ConflictError(f"{study.name}: was not run yet; run it first")
    return mien.read_table(path)


def study_summary(folder: Path, identity: str) -> Grid:
    """The summaries of a study.

    Args:
        folder: The folder of studies.
        identity: The study.

    Returns:
        A row per person, condition and session.

    Raises:
        NotFoundError: There is no such study.
        ConflictError: It was not run.
    """
    return grid_of(_result(folder, identity, "summaries"))


def study_plots(folder: Path, identity: str) -> Plots:
    """Data for plots of a study.

    Args:
        folder: The folder of studies.
        identity: The study.

    Returns:
        Means with intervals by condition and session, and the values of each person.

    Raises:
        NotFoundError: There is no such study.
        ConflictError: It was not run.
    """
    groups = _records(_result(folder, identity, "groups"))
    people = _records(_result(folder, identity, "summaries"))
    measures: dict[str, Measure] = {}
    for row in groups:
        name = str(row["measure"])
        if name not in measures:
            entry = describe(name, {})
            unit = str(entry["unit"] or "")
            values = [_value(person, name) for person in people]
            measures[name] = Measure(
                name=name, description=entry["meaning"], unit=unit, means=[], values=values
            )
        numbers: dict[str, Any] = {key: row[key] for key in ("people", "mean", "low", "high")}
        numbers |= {key: str(row.get(key) or "") for key in ("condition", "session")}
        measures[name].means.append(Mean(**numbers))
    return Plots(measures=list(measures.values()))


def _records(table: Any) -> list[dict[str, Any]]:
    grid = grid_of(table)
    return [dict(zip(grid.columns, row, strict=True)) for row in grid.rows]


def _value(person: dict[str, Any], name: str) -> Value:
    keys = {key: str(person[key] or "") for key in ("participant", "condition", "session")}
    return Value(**keys, value=person.get(name))


def study_report(folder: Path, identity: str) -> str:
    """The page of a study.

    Args:
        folder: The folder of studies.
        identity: The study.

    Returns:
        The page, which is also in the study's folder now.

    Raises:
        NotFoundError: There is no such study.
        ConflictError: It was not run.
        MissingExtraError: jinja2 is not installed.
    """
    from mien.report.pages import report

    _result(folder, identity, "summaries")
    pages = report(folder / identity / OUT).pages
    return pages[-1].read_text(encoding="utf-8")


def export_study(folder: Path, identity: str, name: str) -> list[Path]:
    """Write a study in a format.

    Args:
        folder: The folder of studies.
        identity: The study.
        name: The format: of tables, for all tables of the study; or one that says who shows what,
            for each of its recordings.

    Returns:
        One archive of the files.

    Raises:
        NotFoundError: There is no such study.
        ConflictError: It was not run.
        InvalidError: There is no such format for studies.
        OutputError: A file cannot be written.
        MissingExtraError: An optional library is missing.
    """
    _result(folder, identity, "summaries")
    if name not in (*_OF_TABLES, *_OF_PEOPLE):
        known = ", ".join([*_OF_TABLES, *_OF_PEOPLE])
        kind = "of single recordings" if name in TARGETS else "unknown"
        raise InvalidError(f"the format {name[:20]!r} is {kind}; studies have {known}")
    home = folder / identity
    exports = home / "exports"
    label = name.replace(":", "-")
    target = exports / label
    with wrap_os_errors(target):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
    if name in _OF_TABLES:
        for table in sorted((home / OUT).glob("*.parquet")):
            convert(table, name, target)
    else:
        _export_people(home, target, name)
    return [zipped(target, exports / f"{identity}.{label}.zip")]


def _export_people(home: Path, target: Path, name: str) -> None:
    for table in _tables_of(home):
        if name == "bids":
            label = re.sub(r"[^A-Za-z0-9]", "", table.stem) or "film"
            convert(table, name, target, subject=label, task="film")
        else:
            convert(table, name, target)


def _tables_of(home: Path) -> Sequence[Path]:
    from mien.report.tables import tables_below

    return tables_below(home / OUT / "tables")
