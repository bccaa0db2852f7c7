"""Events: tables that say what happened when, in the columns of BIDS, or a tier of an ELAN file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mien.errors import StudyError
from mien.study.episodes.elan import read_elan
from mien.study.rows.layout import KEYS

__all__ = ["events_of", "read_events"]

_SEPARATORS: Final[Mapping[str, str]] = {".tsv": "\t", ".csv": ","}
_NEXT: Final = "give a table with the columns onset, duration, trial_type, in seconds"


def read_events(path: str | Path, tier: str | None = None) -> pd.DataFrame:
    """Read events from a TSV or CSV file, or from a tier of an ELAN file.

    Args:
        path: The file; ``onset`` and ``duration`` in seconds, ``trial_type``, and any of
            ``participant`` (or ``participant_id``, with or without ``sub-``), ``condition``,
            ``session``, ``recording`` where the file is about several. Missing values are ``n/a``
            or empty. Without ``trial_type`` all events are of type ``event``. Or an ELAN file,
            ``.eaf``, whose annotations are events of the type that their text says.
        tier: The tier of an ELAN file; None for tables.

    Returns:
        The events in the order of the file: ``onset``, ``duration``, ``trial_type``, then the other
        columns.

    Raises:
        StudyError: The file cannot be read, has no ``onset``, or one that is no number; no such
            tier.
        MissingExtraError: It is an ELAN file, and pympi is not installed.
    """
    path = Path(path)
    if (path.suffix.lower() == ".eaf") != (tier is not None):
        raise StudyError(
            f"{path}: a tier is named for ELAN files, and only for these; "
            "say which one, as in events: {file: film.eaf, tier: stimuli}, or leave it out"
        )
    if tier is not None:
        return read_elan(path, tier)
    events = _read_table(path).rename(columns={"participant_id": "participant"})
    if "onset" not in events:
        raise StudyError(f"{path}: has no column onset; {_NEXT}")
    if "duration" not in events:
        events["duration"] = np.nan
    for name in ("onset", "duration"):
        events[name] = _seconds(events[name], name, path)
    if events["onset"].isna().any():
        row = int(np.flatnonzero(events["onset"].isna())[0]) + 2
        raise StudyError(f"{path}, line {row}: the event has no onset; add it, or drop the line")
    if "trial_type" not in events:
        events["trial_type"] = "event"
    events["trial_type"] = events["trial_type"].fillna("n/a")
    if "participant" in events:
        events["participant"] = events["participant"].str.removeprefix("sub-")
    first = ["onset", "duration", "trial_type"]
    return events[[*first, *(name for name in events if name not in first)]]


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix.lower() not in _SEPARATORS:
        raise StudyError(f"{path}: events come as .tsv or .csv; {_NEXT}")
    try:
        return pd.read_csv(
            path,
            sep=_SEPARATORS[path.suffix.lower()],
            dtype=str,
            keep_default_na=False,
            na_values=["", "n/a"],
            encoding="utf-8-sig",
        )
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0]
        raise StudyError(f"{path}: cannot be read ({reason}); {_NEXT}") from error


def _seconds(column: "pd.Series[str]", name: str, path: Path) -> "pd.Series[float]":
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = column.notna() & ~np.isfinite(numbers.fillna(np.inf))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise StudyError(
            f"{path}, line {row + 2}: {name} is {column.iloc[row]!r}, no number of seconds; "
            "correct it, or write n/a"
        )
    return numbers


def events_of(events: pd.DataFrame, keys: Mapping[str, str]) -> pd.DataFrame:
    """The events of a participant in a recording, by onset.

    Args:
        events: Events, perhaps of several participants and recordings.
        keys: The keys by name.

    Returns:
        Those events whose columns named as keys, as far as there are any, have the same values.
    """
    matching = np.ones(len(events), bool)
    for name in key_columns(events):
        matching &= (events[name] == keys[name]).to_numpy(bool, na_value=False)
    return events[matching].sort_values("onset", kind="stable")


def key_columns(columns: Iterable[object]) -> list[str]:
    """Keys among the columns of events.

    Args:
        columns: Names of columns.

    Returns:
        Those that say whose events they are.
    """
    present = set(columns)
    return [name for name in KEYS if name in present]
