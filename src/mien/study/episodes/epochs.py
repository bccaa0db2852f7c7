"""Epochs: stretches of rows around events, on a clock that begins with each event."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from mien.errors import StudyError
from mien.study.episodes.events import events_of, key_columns
from mien.study.rows.layout import KEYS, label, score_columns, streams, without_attributes
from mien.study.rows.weighted import weighted_mean
from mien.study.strict import StrictSettings
from mien.tasks import Floats

__all__ = ["Epochs", "check_overlap", "cut_epochs", "epoch_segments"]


class Epochs(StrictSettings):
    """Where epochs begin and end.

    Attributes:
        before_s: How long before the onset an epoch begins, s.
        after_s: How long after the onset it ends, s.
        baseline: First and last second, from the onset, whose mean is taken off each score, such as
            ``[-0.5, 0]``; without it, scores stay as they are.
        trial_types: The events that have epochs; without any, all.
        overlap: Whether epochs may overlap: rows then come once for each.
        clock: What onsets are counted from: ``start`` of the recording, or the ``container``'s own
            zero.
    """

    before_s: Annotated[float, Field(ge=0)] = 0.5
    after_s: Annotated[float, Field(gt=0)] = 2.0
    baseline: tuple[float, float] | None = None
    trial_types: tuple[str, ...] = ()
    overlap: bool = False
    clock: Literal["start", "container"] = "start"

    @model_validator(mode="after")
    def _baseline_is_inside(self) -> "Epochs":
        if self.baseline is None:
            return self
        first, last = self.baseline
        if not -self.before_s <= first < last <= self.after_s:
            raise ValueError(
                f"baseline: {first} to {last} s is not within the epoch, "
                f"{-self.before_s} to {self.after_s} s; widen the epoch or move the baseline"
            )
        return self


def cut_epochs(
    rows: pd.DataFrame, events: pd.DataFrame, settings: Epochs | None = None
) -> pd.DataFrame:
    """Cut the rows around events.

    Args:
        rows: Rows of a study.
        events: Events, as `mien.study.episodes.events.read_events` gives them. Recordings without
            events have no epochs; participants have some.
        settings: Where epochs begin and end; None for the defaults.

    Returns:
        The rows of all epochs: the keys, ``trial`` (from 1, by onset in the recording),
        ``trial_type``, ``event_onset_s`` (from the start of the recording), ``event_duration_s``,
        the events' other columns, ``time_from_onset_s``, the columns of the rows, and
        ``<score>_change`` if there is a baseline: missing if none of it is usable.

    Raises:
        StudyError: A participant has no events, an event lies outside its recording, or epochs
            overlap.
    """
    settings = settings or Epochs()
    table = without_attributes(rows)
    if settings.trial_types:
        events = events[events["trial_type"].isin(settings.trial_types)]
    parts = []
    without = dict.fromkeys(table["participant"].unique())
    for keys, part in streams(table):
        for epoch in _epochs(part, events_of(events, keys), keys, settings):
            parts.append(epoch)
            without.pop(keys["participant"], None)
    if without:
        what = " of these types" if settings.trial_types else ""
        raise StudyError(
            f"participants {', '.join(map(str, without))}: there are no events{what} of theirs; "
            "add them, check the names, or leave these participants out"
        )
    result = pd.concat(parts, ignore_index=True)
    extra = [name for name in _described(events) if name not in ("onset", "duration")]
    names = [*KEYS, "trial", *extra, "event_onset_s", "event_duration_s", "time_from_onset_s"]
    # Also where all are missing, so that epochs of all participants have the same types.
    text = pd.Series(["text"]).dtype
    result = result.astype(dict.fromkeys(extra, text))
    rest = [name for name in result if name not in names]
    result = result[[*names, *rest]]
    facts = {**settings.model_dump(mode="json"), "columns": [*extra, *names[-3:-1]]}
    result.attrs = {**rows.attrs, "epochs": facts}
    return result


def _described(events: pd.DataFrame) -> list[str]:
    """The columns of events that say something of them, not whose they are."""
    keys = key_columns(events)
    return [str(name) for name in events if name not in keys]


def _epochs(
    part: pd.DataFrame, events: pd.DataFrame, keys: Mapping[str, str], settings: Epochs
) -> Iterator[pd.DataFrame]:
    """The epochs of a participant in a recording."""
    from_start = part["time_from_start_s"].to_numpy(np.float64)
    onsets = events["onset"].to_numpy(np.float64)
    if settings.clock == "container" and len(part):
        onsets = onsets - (part["time_s"].iloc[0] - from_start[0])
    _check_onsets(onsets, part, keys, settings)
    described = _described(events)
    for number, onset in enumerate(onsets):
        time = from_start - onset
        inside = (time >= -settings.before_s) & (time < settings.after_s)
        epoch = part[inside].copy()
        event = events.iloc[number]
        epoch["trial"] = number + 1
        for name in described:
            if name not in ("onset", "duration"):
                epoch[name] = event[name]
        epoch["event_onset_s"] = onset
        epoch["event_duration_s"] = float(event["duration"])
        epoch["time_from_onset_s"] = time[inside]
        yield _with_changes(epoch, settings)


def _check_onsets(
    onsets: Floats, part: pd.DataFrame, keys: Mapping[str, str], settings: Epochs
) -> None:
    end = float((part["time_from_start_s"] + part["duration_s"]).max())
    outside = onsets[(onsets < 0) | (onsets >= end)]
    if len(outside):
        raise StudyError(
            f"{label(dict(keys))}: an event at {outside[0]:g} s lies outside the recording, "
            f"which has {end:g} s; check the events' clock (epochs.clock) and file"
        )
    check_overlap(onsets, keys, settings)


def check_overlap(onsets: Floats, keys: Mapping[str, str], settings: Epochs) -> None:
    """Check that epochs do not overlap, unless they may.

    Args:
        onsets: Onsets of the events of a participant in a recording (N,), s, in order.
        keys: The keys by name, for the message.
        settings: Where epochs begin and end.

    Raises:
        StudyError: Two of them overlap.
    """
    room = settings.before_s + settings.after_s
    close = np.flatnonzero(np.diff(onsets) < room - 1e-9)
    if len(close) and not settings.overlap:
        first, second = onsets[close[0] : close[0] + 2]
        raise StudyError(
            f"{label(dict(keys))}: the epochs of the events at {first:g} and {second:g} s overlap; "
            "shorten before_s or after_s, choose trial_types, or set epochs.overlap"
        )


def _with_changes(epoch: pd.DataFrame, settings: Epochs) -> pd.DataFrame:
    """The epoch with its scores minus those of its baseline."""
    if settings.baseline is None:
        return epoch
    first, last = settings.baseline
    time = epoch["time_from_onset_s"]
    inside = epoch["usable"] & (time >= first) & (time < last)
    weights = epoch.loc[inside, "duration_s"]
    # What a person's baseline took off makes no difference to a change.
    columns = [name for name in score_columns(epoch.columns) if not name.endswith("_corrected")]
    scores = epoch[columns].to_numpy(np.float64)
    means = [weighted_mean(values, weights) for values in scores[inside.to_numpy()].T]
    names = [f"{column}_change" for column in columns]
    # All at once: pandas copies a table that many columns are added to one by one.
    changes = pd.DataFrame((scores - means).astype(np.float32), epoch.index, names)
    return pd.concat([epoch, changes], axis=1)


def epoch_segments(segments: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The segments that begin in an epoch, from the onset of its event on.

    Args:
        segments: Segments of the rows that the epochs were cut from.
        epochs: The epochs.

    Returns:
        The segments with ``trial`` and ``time_from_onset_s``; once for each epoch they begin in.
    """
    by = [*KEYS, "trial"]
    plain = without_attributes(epochs)
    trials = plain[[*by, "event_onset_s"]].copy()
    trials["end_s"] = plain["time_from_onset_s"] + plain["duration_s"]
    spans = (
        trials.groupby(by, sort=False).agg({"event_onset_s": "first", "end_s": "max"}).reset_index()
    )
    joined = without_attributes(segments).merge(spans, on=list(KEYS))
    joined["time_from_onset_s"] = joined["onset_from_start_s"] - joined["event_onset_s"]
    inside = (joined["time_from_onset_s"] >= 0) & (joined["time_from_onset_s"] < joined["end_s"])
    result = joined[inside].drop(columns=["event_onset_s", "end_s"]).reset_index(drop=True)
    result.attrs = segments.attrs
    return result
