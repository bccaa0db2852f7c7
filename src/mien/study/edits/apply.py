"""Edits applied to the table of a film."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from mien.errors import StudyError
from mien.study.edits.operations import CODE_SEPARATOR, TOLERANCE_S, Edits, Merge, inside
from mien.tasks import Floats

__all__ = ["apply_edits", "edits_of", "mark_spans", "tracks_after"]

_PERSON: Final = "Who it is, by the name that was given by hand; missing where none was."
_EXCLUDED: Final = "1 where the time was excluded by hand, else 0."
_CODE: Final = f"What was coded by hand; several codes are parted by {CODE_SEPARATOR.strip()!r}."


def tracks_after(table: pd.DataFrame, edits: Edits) -> Floats:
    """Number the faces of a table as they are after merges and splits.

    Args:
        table: The table of one film, as it was written.
        edits: The edits.

    Returns:
        Numbers (N,); NaN without a face.
    """
    tracks: Floats = table["face"].astype("float64").to_numpy(np.float64, na_value=np.nan).copy()
    from_start = _from_start(table)
    for step in edits.steps:
        chosen = tracks == step.track
        if not isinstance(step, Merge):
            chosen &= from_start >= step.at - TOLERANCE_S
        tracks[chosen] = np.nan if step.into is None else step.into
    return tracks


def apply_edits(table: pd.DataFrame, edits: Edits) -> pd.DataFrame:
    """Apply edits to the table of a film.

    Args:
        table: The table as `mien.read_table` gives it.
        edits: The edits.

    Returns:
        A table in which ``face`` is numbered after merges and splits. With names, ``person`` holds
        them as text: of the track itself, or where it has none, of another track of the same
        recognized person. With excluded spans and codes there are the columns ``excluded`` (0 or 1)
        and ``code``. ``.attrs["dictionary"]`` describes all that, and holds the edits.

    Raises:
        StudyError: The table is not that of one film.
    """
    if edits.is_empty:
        return table
    check_one_film(table)
    edited = table.copy(deep=False)
    edited.attrs = {}
    tracks = tracks_after(table, edits)
    edited["face"] = pd.Series(tracks, index=edited.index).astype("Int64")
    meanings: dict[str, tuple[str, str]] = {}
    if edits.names:
        names = _people(edited, tracks, edits.names)
        if "person" in edited:
            edited["person"] = names
        else:
            edited.insert(list(edited.columns).index("face") + 1, "person", names)
        meanings["person"] = ("str", _PERSON)
    edited = mark_spans(edited, edits, _from_start(table), tracks)
    if edits.excluded:
        meanings["excluded"] = ("int64", _EXCLUDED)
    if edits.codes:
        meanings["code"] = ("str", _CODE)
    dictionary = dict(table.attrs.get("dictionary", {}))
    if "columns" in dictionary:
        dictionary["columns"] = _entries(dictionary["columns"], list(edited.columns), meanings)
    dictionary["edits"] = edits.to_json()
    edited.attrs = {**table.attrs, "dictionary": dictionary}
    return edited


def edits_of(attrs: Mapping[Any, Any]) -> Edits:
    """The edits that were applied to a table.

    Args:
        attrs: Its ``.attrs``.

    Returns:
        The edits; empty where none were applied.
    """
    return Edits.model_validate(attrs.get("dictionary", {}).get("edits") or {})


def mark_spans(
    table: pd.DataFrame, edits: Edits, from_start_s: Floats, tracks: Floats
) -> pd.DataFrame:
    """Mark excluded and coded rows.

    Args:
        table: Any rows of a film.
        edits: The edits.
        from_start_s: Times of the rows, from the film's first frame, seconds (N,).
        tracks: Their tracks, NaN without a face (N,).

    Returns:
        The rows with the columns ``excluded`` and ``code``, where the edits have such spans.
    """
    marked = table.copy(deep=False)
    if edits.excluded:
        excluded = np.zeros(len(table), np.int64)
        for exclusion in edits.excluded:
            excluded[inside(exclusion, from_start_s, tracks)] = 1
        marked["excluded"] = excluded
    if edits.codes:
        texts = np.full(len(table), "", object)
        # By their texts, so that the order in which they were given makes no difference.
        for code in sorted({coding.code for coding in edits.codes}):
            holds = np.zeros(len(table), bool)
            for coding in edits.codes:
                if coding.code == code:
                    holds |= inside(coding, from_start_s, tracks)
            before = texts[holds]
            texts[holds] = np.where(before == "", code, before + CODE_SEPARATOR + code)
        marked["code"] = _texts(texts, marked.index)
    return marked


def check_one_film(table: pd.DataFrame) -> None:
    """Refuse tables whose tracks mean nothing beyond one input.

    Args:
        table: The table.

    Raises:
        StudyError: It holds several inputs.
    """
    count = table["source"].nunique()
    if count > 1:
        raise StudyError(
            f"edits: the table holds {count} inputs, and edits are of one film; "
            "read each film to a table of its own"
        )


def _from_start(table: pd.DataFrame) -> Floats:
    times = table["time_s"].to_numpy(np.float64)
    return times - times.min() if len(times) else times


def _people(table: pd.DataFrame, tracks: Floats, names: Mapping[int, str]) -> "pd.Series[Any]":
    """The name of each row's track, or of the recognized person that the track belongs to."""
    named = pd.Series(tracks, index=table.index).map(names).astype(object)
    if "person" in table and pd.api.types.is_integer_dtype(table["person"]):
        known = named.groupby(table["person"])
        # Of two names for one recognized person, neither says who the rest is.
        alone = known.first()[known.nunique() == 1].astype(object)
        named = named.fillna(table["person"].astype("float64").map(alone))
    return _texts(named.fillna("").to_numpy(object), table.index)


def _texts(texts: Any, index: pd.Index) -> "pd.Series[Any]":
    """Texts of the type that tables have, missing where empty."""
    series = pd.Series(texts, index=index, dtype=pd.Series(["text"]).dtype)
    return series.mask(series == "")


def _entries(
    entries: list[Any], names: list[str], meanings: Mapping[str, tuple[str, str]]
) -> list[Any]:
    """The entries of the dictionary, with those of columns that are new or mean something else."""
    known = {entry["name"]: entry for entry in entries}
    result = []
    for name in names:
        if name in meanings:
            dtype, meaning = meanings[name]
            limits = [0, 1] if name == "excluded" else None
            entry = {"name": name, "dtype": dtype, "unit": None, "range": limits}
            result.append({**entry, "meaning": meaning})
        elif name in known:
            result.append(known[name])
    return result
