"""A study that is being run: its file, what that file names, and whether it all fits together."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mien
from mien.documents import at_home
from mien.errors import StudyError
from mien.study.edits.apply import edits_of
from mien.study.edits.beside import ReadTable, edits_note, edits_path, read_edited_table
from mien.study.episodes.codes import CODES
from mien.study.episodes.epochs import Epochs, check_overlap
from mien.study.episodes.events import events_of, read_events
from mien.study.episodes.signals import read_signals
from mien.study.project.cast import Cast, read_cast, read_participants
from mien.study.project.films import Films, check_alike, dictionary_of, scores_of
from mien.study.project.names import check_names
from mien.study.project.recordings import Recording, filled, find_recordings, is_film
from mien.study.project.settings import Events, Recordings, StudySettings
from mien.study.rows.people import People, participant_rows
from mien.study.statistics.summaries import CELL

__all__ = ["Study", "joined"]


class Study:
    """A study that is being run.

    What can be told before films are read, which takes long, is checked at once.

    Args:
        path: The study file.
        settings: Its content.

    Attributes:
        settings: Its content.
        recordings: Its recordings.
        by_name: The recordings by name.
        events: Events by name of the recording.
        participants: What is known of participants; None if nothing is.
        tables: The table of each recording, once `read` was called.
        edits: A line on the edits of each table that has some, once `read` was called.

    Raises:
        StudyError: What the file names is missing, or does not fit together.
    """

    def __init__(self, path: Path, settings: StudySettings) -> None:
        self.settings = settings
        self.root = path.parent
        self.recordings = find_recordings(settings.recordings, self.root)
        self.references = self._find_references()
        self.by_name = {recording.name: recording for recording in self.recordings}
        self.tables: dict[str, Path] = {}
        self.edits: list[str] = []
        self._codes: set[str] = set()
        self._has_names = False
        self.events = self._read_events()
        self.participants = self._read_participants()
        self._cast: Cast | None = None
        # Only their tables name the people that were recognized.
        if settings.people.faces != "person" or settings.people.map:
            self._take_cast(read_cast(self.recordings, settings.people, self.root))

    @property
    def cast(self) -> Cast:
        """Who is in which recording; where people were recognized, once `read` was called."""
        assert self._cast is not None
        return self._cast

    def _find_references(self) -> list[Recording]:
        baseline = self.settings.baseline
        if baseline is None or baseline.file is None:
            return []
        return find_recordings(Recordings(pattern=baseline.file), self.root, "baseline.file")

    def _read_participants(self) -> pd.DataFrame | None:
        if self.settings.participants is None:
            return None
        return read_participants(self.root / at_home(self.settings.participants), CELL[1:])

    def _read_events(self) -> dict[str, pd.DataFrame]:
        """Events by recording."""
        source = self.settings.events
        if isinstance(source, str):
            source = Events(file=source)
        if source is None:
            return {}
        if source.file is None:
            return self._read_signals(source)
        pattern, tier = source.file, source.tier
        if "{" not in pattern:
            events = read_events(self.root / at_home(pattern), tier)
            return dict.fromkeys(self.by_name, events)
        by_recording = {}
        for recording in self.recordings:
            path = self.root / at_home(filled(pattern, recording.words, "events"))
            if path.is_file():
                by_recording[recording.name] = read_events(path, tier)
        if not by_recording:
            raise StudyError(f"events: no file matches {pattern} for any recording; correct it")
        return by_recording

    def _read_signals(self, source: Events) -> dict[str, pd.DataFrame]:
        """Events by recording, found in the films."""
        assert source.signal is not None
        events = {}
        for recording in self.recordings:
            path = recording.path
            if not is_film(path):
                raise StudyError(
                    f"events.signal: {path} is a table, and signals are found in films; "
                    "name the films, or a file of events"
                )
            events[recording.name] = read_signals(
                path, source.signal, source.tone_hz, source.expected
            )
        return events

    def _take_cast(self, cast: Cast) -> None:
        """Check that everybody has what the settings ask for."""
        self._cast = cast
        recordings_of = cast.recordings_of()
        baseline = self.settings.baseline
        if baseline is not None and baseline.condition is not None:
            for participant, names in recordings_of.items():
                conditions = {self.by_name[name].keys("")["condition"] for name in names}
                if baseline.condition not in conditions:
                    raise StudyError(
                        f"baseline.condition: participant {participant} has no recording of "
                        f"{baseline.condition}, only of {', '.join(sorted(conditions))}; "
                        "add it, or choose another baseline"
                    )
        if self.settings.synchrony is not None and max(map(len, cast.participants.values())) < 2:
            raise StudyError("synchrony: no recording has two participants; leave it out")
        self._check_events(recordings_of)
        self._check_conditions()

    def _check_events(self, recordings_of: Mapping[str, list[str]]) -> None:
        if not self.events:
            return
        without = []
        for participant, names in recordings_of.items():
            if not any(self.has_events(participant, name) for name in names):
                without.append(participant)
        if without:
            raise StudyError(
                f"events: there are none of participants {', '.join(without)}; "
                "add them, check the names, or leave these recordings out (recordings.exclude)"
            )
        for events in self.events.values():
            named = set(events["participant"].dropna()) if "participant" in events else set()
            unknown = sorted(named - set(recordings_of))
            if unknown:
                raise StudyError(
                    f"events: name participant {unknown[0]}, of whom there is no recording; "
                    "add it, check the name, or drop the lines"
                )
        self._check_epochs(recordings_of)

    def _check_epochs(self, recordings_of: Mapping[str, list[str]]) -> None:
        settings = self.settings.epochs or Epochs()
        kinds = dict.fromkeys(
            kind for events in self.events.values() for kind in events["trial_type"]
        )
        for kind in settings.trial_types:
            if kind not in kinds:
                raise StudyError(
                    f"epochs.trial_types: there are no events of type {kind}; "
                    f"there are {', '.join(map(str, kinds))}"
                )
        for participant, names in recordings_of.items():
            for name in names:
                keys = self.by_name[name].keys(participant)
                if name in self.events:
                    theirs = events_of(self.events[name], keys)
                    if settings.trial_types:
                        theirs = theirs[theirs["trial_type"].isin(settings.trial_types)]
                    check_overlap(theirs["onset"].to_numpy(np.float64), keys, settings)

    def has_events(self, participant: str, name: str) -> bool:
        """Whether a participant has events in a recording.

        Args:
            participant: The participant.
            name: The recording's name.

        Returns:
            False also where there is no file of events.
        """
        events = self.events.get(name)
        if events is None:
            return False
        keys = self.by_name[name].keys(participant)
        return bool(len(events_of(events, keys)))

    def _check_conditions(self) -> None:
        contrasts = self.settings.contrasts
        conditions = {recording.keys("")["condition"] for recording in self.recordings}
        for pair in contrasts.pairs if contrasts else ():
            for condition in pair:
                if condition not in conditions:
                    raise StudyError(
                        f"contrasts.pairs: there is no condition {condition}; "
                        f"there is {', '.join(sorted(conditions))}"
                    )

    def read(self, films: Films, out: Path) -> None:
        """Read the films, and check that all tables can be compared.

        Args:
            films: Reads the films.
            out: The output folder.

        Raises:
            StudyError: A film cannot be read, tables differ in how they were made, or will not
                have a column that the study file names.
        """
        scores = scores_of(self.recordings, self.settings.analyze)
        check_names(self.settings, scores, self.participants)
        everything = [*self.recordings, *self.references]
        self.tables = films.read(everything, self.root, out / "tables", self.settings.analyze)
        check_alike(self.tables)
        self._read_edits()
        if self._cast is None:
            people = self.settings.people
            cast = read_cast(self.recordings, people, self.root, self.tables, self._read_table)
            self._take_cast(cast)

    @property
    def _read_table(self) -> ReadTable:
        return read_edited_table if self.settings.edits else mien.read_table

    def _read_edits(self) -> None:
        """What is edited anywhere, as all rows of a study have the same columns."""
        for path in self.tables.values() if self.settings.edits else ():
            if not edits_path(path).exists():
                continue
            table = read_edited_table(path)
            edits = edits_of(table.attrs)
            self._codes |= {coding.code for coding in edits.codes}
            self._has_names |= bool(edits.names)
            self.edits += filter(None, [edits_note(path, table)])

    def _rows(self, recording: Recording, participant: str, people: People) -> pd.DataFrame:
        table = self._read_table(self.tables[recording.name])
        keys = recording.keys(participant)
        rows = participant_rows(table, keys, people, self.settings.usable)
        if self._has_names:
            # Names in one table, numbers or nothing in another: the participant says it all.
            rows = rows.drop(columns="person", errors="ignore")
        if self._codes:
            code = rows.pop("code") if "code" in rows else None
            rows["code"] = pd.Series(code, rows.index, pd.Series(["text"]).dtype)
            rows.attrs[CODES] = sorted(self._codes)
        return rows

    def rows_of(self, recording: Recording, participant: str) -> pd.DataFrame:
        """The rows of a participant in a recording, before any baseline.

        Args:
            recording: The recording.
            participant: The participant.

        Returns:
            The rows.
        """
        return self._rows(recording, participant, self.cast.people[recording.name])

    def reference_of(self, participant: str) -> pd.DataFrame | None:
        """The rows of a participant's baseline in recordings beside the study's.

        Args:
            participant: The participant.

        Returns:
            The rows; None if the baseline is in the study's own recordings.

        Raises:
            StudyError: There is none of this participant.
        """
        if not self.references:
            return None
        people = self.settings.people
        cast = read_cast(self.references, people, self.root, self.tables, self._read_table)
        parts = []
        for recording in self.references:
            if participant in cast.participants[recording.name]:
                parts.append(self._rows(recording, participant, cast.people[recording.name]))
        if not parts:
            raise StudyError(
                f"baseline.file: no file of participant {participant} matches "
                f"{self.settings.baseline.file if self.settings.baseline else ''}; add it"
            )
        return joined(parts)

    def facts(self) -> dict[str, Any]:
        """What dictionaries of all tables say of where they come from.

        Returns:
            The settings, and what the films were read with.
        """
        first = next(iter(self.tables.values()))
        content = json.loads(dictionary_of(first).read_bytes())
        facts = {name: content[name] for name in ("bundle", "faces", "options") if name in content}
        return {"study": self.settings.model_dump(mode="json"), **facts}

    def fingerprint(self) -> str:
        """Hash all that the result depends on.

        Returns:
            The hash, in hexadecimal.
        """
        digest = hashlib.sha256(mien.__version__.encode())
        digest.update(self.settings.model_dump_json().encode())
        for recording in [*self.recordings, *self.references]:
            digest.update(json.dumps([recording.name, dict(recording.words)]).encode())
            # It holds the hash of its table.
            digest.update(dictionary_of(self.tables[recording.name]).read_bytes())
            edits = edits_path(self.tables[recording.name])
            if self.settings.edits and edits.exists():
                digest.update(edits.read_bytes())
        for name in sorted(self.events):
            digest.update(self.events[name].to_csv().encode())
        if self.participants is not None:
            digest.update(self.participants.to_csv().encode())
        digest.update(repr(sorted(self.cast.people.items())).encode())
        return digest.hexdigest()


def joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Put tables of the same columns one below the other.

    Args:
        parts: The tables, at least one.

    Returns:
        One table, with what the first one's ``.attrs`` hold.

    Raises:
        StudyError: Their columns differ.
    """
    attrs = parts[0].attrs
    for part in parts:
        different = sorted(set(part.columns) ^ set(parts[0].columns))
        if different:
            raise StudyError(
                f"{part['recording'].iloc[0]} and {parts[0]['recording'].iloc[0]}: only one of "
                f"them has the column {different[0]}; read both films with the same options"
            )
        part.attrs = {}
    result = pd.concat(parts, ignore_index=True)
    result.attrs = attrs
    return result
