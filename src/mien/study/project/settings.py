"""The study file, `study.yaml`: which recordings, who is in them, and what to do with them."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mien.documents.yaml import read_yaml, take_schema
from mien.errors import StudyError
from mien.study.episodes.epochs import Epochs
from mien.study.episodes.segments import Segments
from mien.study.episodes.signals import HZ, Count, Signal
from mien.study.rows.baseline import Baseline
from mien.study.rows.usable import Usable
from mien.study.statistics.summaries import Summaries
from mien.study.statistics.synchrony import Synchrony
from mien.study.strict import StrictSettings, checked, first_problem
from mien.text import printable

__all__ = [
    "Contrasts",
    "Events",
    "Groups",
    "Recordings",
    "StudyPeople",
    "StudySettings",
    "read_study",
]

_THEN: Final = "correct the study file"


class Recordings(StrictSettings):
    """Where the recordings are: films, which are read first, or tables that mien wrote.

    Attributes:
        pattern: Path below the study file's folder with ``{participant}``, ``{condition}``,
            ``{session}`` and any other ``{word}``, and ``*`` for what does not matter.
        list: A CSV file with the columns ``file`` (below its folder), ``participant``,
            ``condition``, ``session`` and any other.
        exclude: Files to leave out, as ``pattern`` finds them; ``*`` stands for anything.
    """

    pattern: str | None = None
    list: str | None = None
    exclude: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_either(self) -> "Recordings":
        if (self.pattern is None) == (self.list is None):
            raise ValueError("give either pattern or list")
        return self


class StudyPeople(StrictSettings):
    """How to tell who a face is; see `mien.study.rows.people.People`.

    Attributes:
        faces: The rule.
        seats: Of ``seats``: participants from left to right, with the words of the pattern, such as
            ``{pair}-left``.
        map: Of ``map``: a CSV file with the columns ``recording``, ``face``, ``participant``; of
            ``person``, with ``person`` in place of ``face``. Numbers of people are those of one
            film: without a map, everybody of every film is a participant of their own.
    """

    faces: Literal["one", "largest", "seats", "map", "person"] = "one"
    seats: tuple[str, ...] = ()
    map: str | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "StudyPeople":
        if bool(self.seats) != (self.faces == "seats"):
            raise ValueError("seats and `faces: seats` belong together; give both or none")
        if self.faces == "map" and not self.map:
            raise ValueError("map: name a CSV file of face numbers, or choose another faces")
        if self.map and self.faces not in ("map", "person"):
            raise ValueError("map: belongs to `faces: map` or `faces: person`; choose one of them")
        return self


class Events(StrictSettings):
    """Where events are, if not in tables: a tier of ELAN files, or signals in the films themselves.

    Attributes:
        file: A file for all recordings, or a pattern with the words of the recordings' pattern.
        tier: The tier of ELAN files.
        signal: What marks an event in a film: a ``beep`` or a ``flash``.
        hz: Frequency of a beep, Hz; 1000 without it.
        count: How many signals each film must have, or ``any``; 1 without it.
    """

    file: str | None = None
    tier: str | None = None
    signal: Signal | None = None
    hz: Annotated[float, Field(ge=100, le=7000)] | None = None
    count: Annotated[int, Field(ge=1)] | Literal["any"] | None = None

    @model_validator(mode="after")
    def _is_either(self) -> "Events":
        if (self.file is None) == (self.signal is None):
            raise ValueError("give either file or signal")
        if self.file is None and self.tier is not None:
            raise ValueError("tier: belongs to a file; leave it out of signals")
        if self.signal is None and self.count is not None:
            raise ValueError("count: belongs to a signal; leave it out of files")
        if self.signal != "beep" and self.hz is not None:
            raise ValueError("hz: belongs to `signal: beep`; leave it out")
        return self

    @property
    def tone_hz(self) -> float:
        """Frequency of a beep, Hz."""
        return HZ if self.hz is None else self.hz

    @property
    def expected(self) -> Count:
        """How many signals each film must have."""
        return 1 if self.count is None else self.count


class Groups(StrictSettings):
    """Means over people.

    Attributes:
        by: Columns that tell groups apart, also those of the table of participants.
    """

    by: Annotated[tuple[str, ...], Field(min_length=1)] = ("condition", "session")


class Contrasts(StrictSettings):
    """Differences between conditions, within people.

    Attributes:
        pairs: Pairs of conditions; the second minus the first.
        measures: Columns of the summaries; without any, all means, shares, rates and latencies.
    """

    pairs: Annotated[tuple[tuple[str, str], ...], Field(min_length=1)]
    measures: tuple[str, ...] = ()


class StudySettings(StrictSettings):
    """A study.

    Attributes:
        name: What it is called.
        recordings: Where the recordings are.
        people: How to tell who a face is.
        participants: A TSV or CSV file about the participants, ``participant_id`` first.
        events: A TSV or CSV file of events for all recordings, or a pattern with the words of
            the recordings' pattern; else an `Events`.
        analyze: Options of `mien analyze` for films.
        edits: Whether edits beside tables (``.edits.json``) apply.
        usable: What counts as usable.
        baseline: What is taken off the scores; without it, nothing.
        segments: What counts as shown.
        summaries: What summaries hold.
        epochs: Where epochs around events begin and end.
        groups: Means over people.
        contrasts: Differences between conditions; without it, none.
        synchrony: Synchrony of the people of a recording; without it, none.
    """

    name: str = "study"
    recordings: Recordings
    people: StudyPeople = StudyPeople()
    participants: str | None = None
    events: str | Events | None = None
    analyze: dict[str, Any] = Field(default_factory=dict)
    edits: bool = True
    usable: Usable = Usable()
    baseline: Baseline | None = None
    segments: Segments = Segments()
    summaries: Summaries = Summaries()
    epochs: Epochs | None = None
    groups: Groups = Groups()
    contrasts: Contrasts | None = None
    synchrony: Synchrony | None = None

    @field_validator("events", mode="before")
    @classmethod
    def _events_of_keys(cls, events: object) -> object:
        # Here, since the message on a union would be of whichever kind comes first.
        return checked(Events, **events) if isinstance(events, dict) else events

    @model_validator(mode="after")
    def _epochs_have_events(self) -> "StudySettings":
        if self.epochs is not None and self.events is None:
            raise ValueError("epochs: need events; say where they are, or leave epochs out")
        finds_signals = isinstance(self.events, Events) and self.events.signal is not None
        if finds_signals and self.epochs is not None and self.epochs.clock != "start":
            raise ValueError("epochs.clock: signals have times from the start; leave clock out")
        return self


def read_study(path: str | Path) -> StudySettings:
    """Read a study file.

    Args:
        path: The file; ``study: 1`` in it says the version of its form.

    Returns:
        The settings.

    Raises:
        DataError: It cannot be read, or is no YAML.
        StudyError: A key is unknown or missing, or a value makes no sense; the message names it.
    """
    path = Path(path)
    content = read_yaml(path, _THEN)
    if not isinstance(content, dict):
        raise StudyError(f"{path}: is no list of settings; begin with `mien study init`")
    content = take_schema(content, "study", str(path))
    try:
        return StudySettings.model_validate(content)
    except ValidationError as error:
        raise StudyError(printable(f"{path}: {first_problem(error)}; {_THEN}")) from error
