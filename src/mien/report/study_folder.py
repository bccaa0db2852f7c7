"""What `mien study run` left in a folder: its people and rules, and the tables of its page."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import pyarrow as pa

from mien.errors import TableError
from mien.exports.recording import Recording
from mien.outputs.read import read_table
from mien.report.people import MOST_PEOPLE, Person
from mien.study.episodes.segments import Segments
from mien.study.rows.usable import Usable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["StudyFolder", "study_tables"]

_RECORD: Final = "study.json"

# What a page shows of dozens of measures.
_MAIN: Final = re.compile(
    r"(?:valence|arousal)(?:_corrected|_z)?_mean|usable_share|(?:smile|blink)_per_min|"
    r"expr_[a-z_]+(?<!_label)(?<!_present)_share"
)
_MOST_ROWS: Final = 60
_TABLES: Final = (
    (
        "contrasts",
        "Contrasts",
        "Differences within people, b minus a, with 95 % intervals by bootstrap over people.",
    ),
    ("groups", "Groups", "Means over people, with 95 % intervals by bootstrap over people."),
    ("synchrony", "Synchrony", "Windowed lagged cross-correlation, against surrogates."),
)


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The folder of a study that was run.

    Attributes:
        path: The folder.
        usable: What counts as usable in it.
        segments: What counts as a segment in it.
        names: Names of its recordings by the resolved path of their table, without suffix.
    """

    path: Path
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
            usable = Usable.model_validate(settings["usable"])
            segments = Segments.model_validate(settings["segments"])
            tables = content["tables"].items()
            names = {_key_of(path / str(table)): str(name) for name, table in tables}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise TableError(
                f"{record}: is no record of a study that this mien knows; run the study again"
            ) from error
        return cls(path, usable, segments, names)

    def people(self, recording: Recording) -> tuple[list[Person], int] | None:
        """The participants of a recording, as the study has them.

        Args:
            recording: The table of one film.

        Returns:
            At most as many as a page shows, and how many were left out; None where the recording is
            not part of the study.

        Raises:
            TableError: The rows or segments of the study are damaged.
        """
        rows = self._of("rows", recording)
        segments = self._of("segments", recording)
        names = [str(name) for name in rows["participant"].unique()]
        people = []
        for number, name in enumerate(names[:MOST_PEOPLE]):
            theirs = rows[rows["participant"] == name].reset_index(drop=True)
            shown = segments[segments["participant"] == name]
            people.append(Person(number, name, theirs, shown))
        return (people, len(names) - len(people)) if names else None

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


def _key_of(table: Path) -> Path:
    return table.resolve().with_suffix("")


def study_tables(folder: Path) -> list[dict[str, Any]]:
    """Read what `mien study run` left in a folder.

    Args:
        folder: The folder of the study.

    Returns:
        ``title``, ``note``, ``names`` of columns and ``rows`` of each table that is there: at most
        60 rows, and where there are more, those of the main measures.

    Raises:
        TableError: A table is damaged.
    """
    tables = []
    for name, title, what in _TABLES:
        path = folder / f"{name}.parquet"
        if not path.is_file():
            continue
        table = read_table(path)
        count = len(table)
        if "measure" in table and count > _MOST_ROWS:
            table = table[table["measure"].str.fullmatch(_MAIN)]
        table = table.head(_MOST_ROWS)
        note = what
        if len(table) < count:
            note += f" Shown are {len(table)} of {count} rows; all are in {path.name}."
        if not table.empty:
            names = [str(column).replace("_", " ") for column in _filled(table)]
            rows = _cells(table[_filled(table)])
            tables.append({"title": title, "note": note, "names": names, "rows": rows})
    return tables


def _filled(table: "pd.DataFrame") -> list[str]:
    """Columns that say something: a study may have no sessions."""
    return [str(name) for name in table if not (table[name].isna() | (table[name] == "")).all()]


def _cells(table: "pd.DataFrame") -> list[list[str]]:
    rows = []
    for values in table.itertuples(index=False):
        rows.append([_cell(value) for value in values])
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.3g}".replace("-", "−")
    return str(value).replace("_", " ")
