"""What `mien study run` left in a folder: its rules, and who the people of its films are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import pyarrow as pa

from mien.errors import TableError
from mien.exports.recording import Participant, Recording
from mien.sources.inputs import natural_key
from mien.study.episodes.segments import Segments
from mien.study.project.settings import StudySettings
from mien.study.rows.usable import Usable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["StudyFolder", "with_participants"]

_RECORD: Final = "study.json"
_UNNAMED: Final = StudySettings.model_fields["name"].default


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The folder of a study that was run.

    Attributes:
        path: The folder.
        title: What the study is called: the folder's name where its file gives it none.
        usable: What counts as usable in it.
        segments: What counts as a segment in it.
        names: Names of its recordings by the resolved path of their table, without suffix.
    """

    path: Path
    title: str
    usable: Usable
    segments: Segments
    names: Mapping[Path, str]

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Read the settings of a study.

        Args:
            path: A folder.

        Returns:
            The study; None where none was run there.

        Raises:
            TableError: Its record is damaged.
        """
        record = path / _RECORD
        if not (record.is_file() and (path / "rows.parquet").is_file()):
            return None
        try:
            content = json.loads(record.read_bytes())
            settings = content["settings"]
            name = str(settings.get("name", _UNNAMED))
            usable = Usable.model_validate(settings["usable"])
            segments = Segments.model_validate(settings["segments"])
            tables = content["tables"].items()
            names = {_key_of(path / str(table)): str(name) for name, table in tables}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise TableError(
                f"{record}: is no record of a study that this mien knows; run the study again"
            ) from error
        title = path.resolve().name if name == _UNNAMED else name
        return cls(path, title, usable, segments, names)

    def participants(self, recording: Recording) -> tuple[Participant, ...]:
        """The participants of a recording, as the study has them.

        Args:
            recording: The table of one film.

        Returns:
            The participants in the natural order of their names; none where the recording is not
            part of the study.

        Raises:
            TableError: The rows or segments of the study are damaged.
        """
        rows = self._of("rows", recording)
        segments = self._of("segments", recording)
        participants = []
        for name in sorted(map(str, rows["participant"].unique()), key=natural_key):
            theirs = rows[rows["participant"] == name].reset_index(drop=True)
            shown = segments[segments["participant"] == name].reset_index(drop=True)
            participants.append(Participant(name, theirs, shown))
        return tuple(participants)

    def named(self, recording: Recording) -> Recording:
        """Name the faces of a film as the study does.

        Args:
            recording: The table of one film.

        Returns:
            The recording with the study's participants as its people; other faces are nobody's.
            With its own (`Recording.numbered`) where it is not part of the study, or shows none of
            its participants.

        Raises:
            TableError: The rows or segments of the study are damaged.
        """
        import pandas as pd

        participants = self.participants(recording)
        if not participants:
            return recording.numbered()
        parts = []
        for number, participant in enumerate(participants):
            seen = participant.rows[["frame", "face"]].dropna(subset="face").astype("Int64")
            parts.append(seen.assign(person=number))
        # A study may take one face for two people; a file has to choose.
        faces = pd.concat(parts).drop_duplicates(["frame", "face"])
        plain = recording.table[["frame", "face"]].astype("Int64")
        person = plain.merge(faces, "left", ["frame", "face"])["person"]
        table = recording.table.assign(person=person.astype("Int64").array)
        return replace(recording, table=table, participants=participants)

    def events(self, recording: Recording) -> list[tuple[float, float, str]]:
        """The events around which the study cut epochs.

        Args:
            recording: The table of one film.

        Returns:
            When each begins and ends, by the container's clock in seconds, and what kind it is.

        Raises:
            TableError: The table of events is damaged.
        """
        if not (self.path / "epoch_summaries.parquet").is_file():
            return []
        start_s = float(recording.film("a report").times[0])
        # Each participant has a row for each event.
        trials = self._of("epoch_summaries", recording).drop_duplicates("trial")
        onsets = start_s + trials["event_onset_s"].to_numpy(np.float64)
        # Events may be moments.
        ends = onsets + np.nan_to_num(trials["event_duration_s"].to_numpy(np.float64))
        kinds = map(str, trials["trial_type"])
        return list(zip(onsets.tolist(), ends.tolist(), kinds, strict=True))

    def _of(self, name: str, recording: Recording) -> "pd.DataFrame":
        """The rows of one recording: those of a whole study may not fit in memory."""
        from pyarrow.parquet import read_table as read_parquet

        path = self.path / f"{name}.parquet"
        # Tables in folders may have one name, and a study names them by their folders, too.
        known_as = self.names.get(_key_of(recording.path), "")
        try:
            table = read_parquet(path, filters=[("recording", "=", known_as)])
        except (OSError, pa.ArrowException) as error:
            raise TableError(f"{path}: cannot be read; run the study again") from error
        frame: pd.DataFrame = table.to_pandas()
        return frame


def with_participants(recording: Recording) -> Recording:
    """Name the faces of a film as the study does that it was read for.

    `mien study run` leaves the tables of films below its output folder.

    Args:
        recording: The table of one film.

    Returns:
        What `StudyFolder.named` gives; what `Recording.numbered` gives where no study lists it.

    Raises:
        TableError: The study's record, rows or segments are damaged.
    """
    for folder in recording.path.resolve().parents:
        study = StudyFolder.open(folder)
        if study is not None and _key_of(recording.path) in study.names:
            return study.named(recording)
    return recording.numbered()


def _key_of(table: Path) -> Path:
    return table.resolve().with_suffix("")
