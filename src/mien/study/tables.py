"""The tables of a study as files: what each of their columns means, writing, and reading back."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, cast, get_args

import pyarrow as pa

import mien
from mien.errors import OutputError
from mien.files import Transaction, wrap_os_errors
from mien.outputs.columns import Column, Dtype
from mien.outputs.dictionary import EDITION
from mien.outputs.tables import GROUP, schema_of, table_format
from mien.records import STATUSES
from mien.study.rows.usable import REASONS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["StudyTable", "describe", "save"]

Entry = dict[str, Any]

_KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "participant": ("The person, by the name the study gives them.", ""),
    "condition": ("The condition of the recording; empty if the study has none.", ""),
    "session": ("The session of the recording; empty if the study has none.", ""),
    "recording": ("The recording, by its file's name without suffix.", ""),
}
_ROWS: Final[Mapping[str, tuple[str, str]]] = {
    "time_from_start_s": ("Time from the first frame of the recording.", "seconds"),
    "unix_time_s": (
        "Time since 1970 (UTC), by the creation time that the film states, if it does.",
        "seconds",
    ),
    "duration_s": ("How long it lasts; of a frame: until the next one.", "seconds"),
    "usable": ("Whether the row is usable by the study's rule.", ""),
    "unusable_because": ("Why the row, or time, is not usable; see reasons.", ""),
    "trial": ("Number of the event in its recording, from 1, by onset.", "count"),
    "trial_type": ("What kind of event it is.", ""),
    "event_onset_s": ("When the event begins, from the start of the recording.", "seconds"),
    "event_duration_s": ("How long the event lasts.", "seconds"),
    "time_from_onset_s": ("Time from the onset of the event.", "seconds"),
}
_SEGMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "kind": ("What it is: action_unit, expression, score, blink, smile or code.", ""),
    "name": (
        "The column that shows it; blink and smile for these; of a code, code_ and its text.",
        "",
    ),
    "onset_s": ("When it begins, by the container's clock.", "seconds"),
    "apex_s": ("When the score is highest, by the container's clock.", "seconds"),
    "offset_s": ("When it ends, by the container's clock.", "seconds"),
    "onset_from_start_s": ("When it begins, from the start of the recording.", "seconds"),
    "peak": ("The highest score in it.", "score"),
    "mean": ("Mean over the time of it, or over people.", "score"),
    "area": ("Integral of the score over the time of it.", "score seconds"),
    "confidence": ("How sure the detector is that this is a face.", "score"),
    "cut_off": ("Whether it touches a stretch that is not usable, so may be longer.", ""),
}
_STATISTICS: Final[Mapping[str, tuple[str, str]]] = {
    "recordings": ("How many recordings.", "count"),
    "seconds": ("Time recorded.", "seconds"),
    "usable_s": ("Usable time.", "seconds"),
    "usable_share": ("Usable time as a share of the time recorded.", "share"),
    "measure": ("A column of the summaries.", ""),
    "people": ("How many people.", "count"),
    "sd": ("Standard deviation over people, of a sample.", ""),
    "low": ("Lower end of the 95 % interval, by bootstrap over people.", ""),
    "high": ("Upper end of the 95 % interval, by bootstrap over people.", ""),
    "condition_a": ("The condition that is compared with.", ""),
    "condition_b": ("The condition that is compared.", ""),
    "mean_a": ("Mean over people in condition a.", ""),
    "mean_b": ("Mean over people in condition b.", ""),
    "difference": ("Mean over people of b minus a.", ""),
    "effect_size": ("The difference over its standard deviation (d_z; surrogates: z).", ""),
    "participant_a": ("The first person.", ""),
    "participant_b": ("The second person.", ""),
    "column": ("The score whose synchrony is measured.", ""),
    "windows": ("How many windows.", "count"),
    "synchrony": ("Mean absolute Fisher z of the correlations, over windows and lags.", ""),
    "surrogate_mean": ("The same for windows of different times, on average.", ""),
    "surrogate_sd": ("Its standard deviation over surrogates.", ""),
    "p": ("Share of surrogates as synchronous as the pair, itself counted.", "probability"),
    "correlation": ("Mean correlation over windows at the lag where it is strongest.", ""),
    "lag_s": ("That lag; positive if person b follows person a.", "seconds"),
}
_KNOWN: Final = {**_KEYS, **_ROWS, **_SEGMENTS, **_STATISTICS}
_REASON = "|".join(REASONS)
# Meanings of what is computed from a column; {0} is that column.
_DERIVED: Final[Mapping[str, tuple[str, str]]] = {
    r"(.+)_corrected": ("{0} minus the person's baseline.", ""),
    r"(.+)_z": ("{0} minus the person's baseline, over the baseline's deviation.", "deviations"),
    r"(.+)_change": ("{0} minus its mean before the onset of the event.", ""),
    r"(.+_(?:mean|share|per_min))_low": ("Lower end of the 95 % interval of {0}.", ""),
    r"(.+_(?:mean|share|per_min))_high": ("Upper end of the 95 % interval of {0}.", ""),
    r"(.+)_mean": ("Mean of {0} over usable time.", ""),
    r"(.+)_sd": ("Standard deviation of {0} over usable time.", ""),
    r"(.+)_q(\d\d)": ("{1} % quantile of {0} over usable time.", ""),
    r"(expr_.+)_label_share": ("Share of usable time in which {0} is the highest.", "share"),
    r"(expr_.+)_share": ("Share of usable time by mean probability of {0}.", "share"),
    r"(.+)_count": ("How often there is a segment of {0}.", "count"),
    r"(.+)_per_min": ("Segments of {0} per minute of usable time.", "per minute"),
    r"(.+)_segment_s": ("Mean length of a segment of {0}.", "seconds"),
    r"(.+)_present_share": ("Share of usable time in segments of {0}.", "share"),
    r"(.+)_latency_s": ("Time until the first {0}, from the start or the onset.", "seconds"),
    rf"({_REASON})_s": ("Time that is not usable because of {0}.", "seconds"),
}


def describe(name: str, sources: Mapping[str, Entry]) -> Entry:
    """Say what a column of a study means.

    Args:
        name: The column's name.
        sources: Entries of the dictionary of the tables the study was made from, by name.

    Returns:
        An entry of a data dictionary, without its type.
    """
    if name in sources:
        return dict(sources[name])
    if name in _KNOWN:
        meaning, unit = _KNOWN[name]
        return _entry(name, meaning, unit)
    for pattern, (form, unit) in _DERIVED.items():
        match = re.fullmatch(pattern, name)
        if match is not None:
            return _entry(name, form.format(*match.groups()), unit or _unit(match[1], sources))
    return _entry(name, "As in the table of participants, or of events.", "")


def _entry(name: str, meaning: str, unit: str) -> Entry:
    return {"name": name, "unit": unit or None, "range": None, "meaning": meaning}


def _unit(name: str, sources: Mapping[str, Entry]) -> str:
    return str(describe(name, sources)["unit"] or "")


class StudyTable:
    """Writes data frames one after another into one table with its dictionary beside it.

    The format is that of the suffix: ``.parquet``, ``.csv`` or ``.jsonl``. Both files appear when
    the transaction is committed.

    Args:
        path: The table.
        kind: What it is: ``rows``, ``segments``, ``summaries`` and so on.
        files: The transaction.
        facts: What the dictionary says besides of where the numbers came from; may be added to
            while the table is open.

    Attributes:
        path: The table.
        sha256: Its hash, once it is closed.

    Raises:
        OutputError: It cannot be written; any method may raise it.
        UnknownNameError: The suffix is none of these.
    """

    def __init__(
        self, path: Path, kind: str, files: Transaction, facts: Mapping[str, object]
    ) -> None:
        self.path = path
        self.sha256 = ""
        self._kind = kind
        self._files = files
        self._facts = facts
        self._format_of = table_format(path.suffix.removeprefix("."))
        self._format: Any = None
        self._entries: list[Entry] = []
        self._columns: tuple[Column, ...] = ()
        self._rows = 0
        self._part = files.add(path).part
        with wrap_os_errors(path):
            self._file: BinaryIO = self._part.open("wb")

    def __enter__(self) -> Self:
        return self

    def write(self, frame: "pd.DataFrame") -> None:
        """Write the next rows.

        Args:
            frame: The rows; all frames of a table have the same columns.

        Raises:
            OutputError: They have others than those before.
        """
        # pandas would copy the dictionary with every column that is looked at.
        plain = frame.copy(deep=False)
        plain.attrs = {}
        if self._format is None:
            self._begin(plain, frame.attrs.get("dictionary", {}))
        names = [column.name for column in self._columns]
        if list(plain.columns) != names:
            different = sorted(set(names) ^ set(plain.columns))
            raise OutputError(
                f"{self.path}: some {self._kind} have the column {', '.join(different[:3])} and "
                "others have not; read all films with one bundle and the same options"
            )
        schema = schema_of(self._columns)
        table = pa.Table.from_pandas(plain, schema, preserve_index=False)
        self._rows += table.num_rows
        with wrap_os_errors(self.path):
            for batch in table.to_batches(max_chunksize=GROUP):
                self._format.write(batch)

    def _begin(self, frame: "pd.DataFrame", dictionary: Mapping[str, Any]) -> None:
        sources = {entry["name"]: entry for entry in dictionary.get("columns", ())}
        columns = []
        for name in map(str, frame.columns):
            dtype = _dtype(frame[name])
            entry = describe(name, sources)
            self._entries.append({"name": name, "dtype": dtype, **_without(entry, "dtype")})
            unit = str(entry["unit"] or "")
            columns.append(Column(name, dtype, entry["meaning"], unit))
        self._columns = tuple(columns)
        with wrap_os_errors(self.path):
            self._format = self._format_of(self._file, self._columns)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._format is not None:
                with wrap_os_errors(self.path):
                    self._format.close()
        finally:
            # Closed again after an error, so that nothing is tried when it is collected.
            with suppress(Exception):
                if kind is not None and self._format is not None:
                    self._format.close()
            self._file.close()
        if kind is None:
            self._add_dictionary()

    def _add_dictionary(self) -> None:
        with wrap_os_errors(self.path), self._part.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = self._part.stat().st_size
        facts = {"rows": self._rows, "bytes": size, "sha256": self.sha256}
        statuses = {status.value: meaning for status, meaning in STATUSES.items()}
        content = {
            "dictionary": EDITION,
            "mien": mien.__version__,
            "table": self._kind,
            **self._facts,
            "tables": {self.path.name: facts},
            "columns": self._entries,
            "statuses": statuses,
            "reasons": dict(REASONS),
        }
        # NaN is no JSON, though Python would write it.
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        self._files.write(self.path.with_suffix(".dictionary.json"), text.encode())


def _without(entry: Entry, name: str) -> Entry:
    return {key: value for key, value in entry.items() if key not in (name, "name")}


def _dtype(values: "pd.Series[Any]") -> Dtype:
    """The type of a column as data dictionaries name it."""
    name = str(values.dtype)
    for dtype in get_args(Dtype):
        if name == dtype:
            return cast(Dtype, dtype)
    return "str"


def save(
    frame: "pd.DataFrame", path: str | Path, kind: str, facts: Mapping[str, object] | None = None
) -> Path:
    """Write a table of a study with its dictionary, both or neither.

    `mien.read_table` reads it back.

    Args:
        frame: The table; what its ``.attrs`` hold goes into the dictionary.
        path: The file; its suffix says the format: ``.parquet``, ``.csv`` or ``.jsonl``.
        kind: What it is: ``rows``, ``segments``, ``summaries`` and so on.
        facts: What the dictionary says besides.

    Returns:
        The path.

    Raises:
        OutputError: It cannot be written.
        UnknownNameError: The suffix is none of these.
    """
    path = Path(path)
    kept = _origin(frame.attrs)
    with Transaction() as files:
        with StudyTable(path, kind, files, {**kept, **(facts or {})}) as table:
            table.write(frame)
        files.commit()
    return path


def _origin(attrs: Mapping[Any, Any]) -> dict[str, object]:
    """What a dictionary says of where the numbers of a table came from."""
    dictionary = attrs.get("dictionary", {})
    kept = {name: dictionary[name] for name in _ORIGIN if name in dictionary}
    kept |= {str(name): value for name, value in attrs.items() if name != "dictionary"}
    return kept


# Facts of a dictionary that hold of what is computed from its table, too. Not the sources: their
# paths name folders of the person who read the films.
_ORIGIN: Final = (
    "bundle",
    "faces",
    "quality",
    "options",
    "baseline",
    "segments",
    "epochs",
    "summaries",
)
