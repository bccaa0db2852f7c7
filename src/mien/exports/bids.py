"""BIDS derivatives: scores as evenly sampled physiological recordings, stretches as events."""

import gzip
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import mien
from mien.errors import TableError
from mien.exports.intervals import intervals
from mien.exports.recording import Recording, Timeline
from mien.outputs.columns import Column
from mien.tasks import Floats

__all__ = ["DERIVATIVE", "Entities", "bids_files", "resampled"]

DERIVATIVE: Final = Path("derivatives") / "mien"
"""Where the files lie below the root of a data set."""

# Neighbouring frames further apart than this many usual steps have nothing known between them.
_LONGEST_STEP: Final = 2.5
# Share of a step within which a sample counts as lying on its frame.
_ON_FRAME: Final = 1e-3
_LABEL: Final = re.compile(r"[0-9a-zA-Z]+")


@dataclass(frozen=True, slots=True)
class Entities:
    """What BIDS names a recording by.

    Attributes:
        subject: The label after ``sub-``: letters and digits.
        session: The label after ``ses-``; empty where there is none.
        task: The label after ``task-``.
    """

    subject: str
    session: str
    task: str

    @classmethod
    def of(cls, path: Path, subject: str | None, task: str | None) -> "Entities":
        """Take what was given, and else what the path says, as ``sub-01`` in it does.

        Args:
            path: The table.
            subject: The subject's label; None for that of the path.
            task: The task's label; None for that of the path.

        Returns:
            The entities.

        Raises:
            ValueError: A label is missing, or has other characters than letters and digits.
        """
        text = path.absolute().as_posix()
        session = _label_in(text, "ses")
        subject = subject or _label_in(text, "sub")
        task = task or _label_in(text, "task")
        for option, label in (("subject", subject), ("task", task)):
            if not _LABEL.fullmatch(label):
                given = f"not {label!r}" if label else "and the table's path names none"
                raise ValueError(
                    f"{path}: BIDS needs a {option}, letters and digits, {given}; give --{option}"
                )
        return cls(subject, session, task)

    def name(self, *parts: str) -> str:
        """A file's name.

        Args:
            *parts: What follows the task, such as ``desc-affect`` and ``events.tsv``.

        Returns:
            The entities and parts in order.
        """
        session = [f"ses-{self.session}"] if self.session else []
        return "_".join([f"sub-{self.subject}", *session, f"task-{self.task}", *parts])

    @property
    def folder(self) -> Path:
        """Where the files lie below the derivative's root."""
        session = f"ses-{self.session}" if self.session else "."
        return Path(f"sub-{self.subject}") / session / "beh"

    @property
    def events(self) -> Path:
        """The table of events below the derivative's root."""
        return self.folder / f"{self.name('desc-affect', 'events')}.tsv"


def _label_in(text: str, entity: str) -> str:
    labels = re.findall(rf"(?:^|[/_]){entity}-([0-9a-zA-Z]+)", text)
    return labels[-1] if labels else ""


def bids_files(recording: Recording, entities: Entities) -> dict[Path, bytes]:
    """The files of one film in the derivative ``mien``.

    The names hold ``desc-affect``, which no raw file may have. Physiological recordings must be
    evenly sampled, so scores are interpolated between neighbouring frames at the mean rate.

    Args:
        recording: The table of one film.
        entities: What BIDS names it by.

    Returns:
        The content of the files by their path below ``derivatives/mien``.

    Raises:
        TableError: The table is not that of one film, or has no faces.
    """
    timeline = recording.film("BIDS")
    if not recording.people:
        raise TableError(f"{recording.path}: has no faces; there is nothing to put into BIDS")
    files = {Path(name): content for name, content in _about().items()}
    folder = entities.folder
    columns = [column for column in recording.columns if column.dtype.startswith("float")]
    columns = [column for column in columns if column.name != "time_s"]
    for number in recording.people:
        rate, values = resampled(recording, number, columns, timeline)
        part = f"recording-{recording.who}{number}"
        name = entities.name(part, "desc-affect", "physio")
        table = gzip.compress(_tsv(values), mtime=0)
        files[folder / f"{name}.tsv.gz"] = table
        files[folder / f"{name}.json"] = _json(_sidecar(recording, columns, rate, timeline))
    files[entities.events] = _events(recording)
    files[entities.events.with_suffix(".json")] = _json(_EVENTS)
    return files


def resampled(
    recording: Recording, number: int, columns: list[Column], timeline: Timeline
) -> tuple[float, Floats]:
    """Scores of a person at even times, from the film's first frame to its last one.

    Args:
        recording: The table of one film.
        number: One of `Recording.people`.
        columns: Which columns to sample.
        timeline: The frames of the film.

    Returns:
        Samples per second, and the samples (N, columns): linear between neighbouring frames that
        both show the person, else NaN.
    """
    times = timeline.times
    steps = np.diff(times)
    # Clocks in whole milliseconds alternate: their median would be off, their mean is not.
    usual = steps[np.abs(steps - timeline.step_s) < timeline.step_s / 2]
    step_s = float(usual.mean())
    count = round(float(times[-1] - times[0]) / step_s) + 1
    samples = np.minimum(times[0] + step_s * np.arange(count), times[-1])
    rows = recording.rows_of(number).drop_duplicates("time_s")
    dense = np.full((len(times), len(columns)), np.nan)
    names = [column.name for column in columns]
    dense[timeline.positions(rows)] = rows[names].to_numpy(np.float64)
    left = np.clip(np.searchsorted(times, samples, "right") - 1, 0, len(times) - 2)
    between = times[left + 1] - times[left]
    weight = ((samples - times[left]) / between)[:, None]
    values = dense[left] * (1 - weight) + dense[left + 1] * weight
    values[between > _LONGEST_STEP * step_s] = np.nan
    # On a frame, its value alone counts: the other one may be missing.
    nearness = _ON_FRAME * step_s / between[:, None]
    values = np.where(weight < nearness, dense[left], values)
    values = np.where(weight > 1 - nearness, dense[left + 1], values)
    return 1 / step_s, values


def _tsv(values: Floats) -> bytes:
    """Rows of tabbed values, without a header as BIDS wants continuous recordings."""
    lines = []
    for row in values.tolist():
        cells = ["n/a" if math.isnan(value) else f"{value:.5f}" for value in row]
        lines.append("\t".join(cells) + "\n")
    return "".join(lines).encode()


def _events(recording: Recording) -> bytes:
    lines = ["onset\tduration\ttrial_type\twho\ttier\n"]
    stretches = sorted(intervals(recording, "BIDS"), key=lambda stretch: stretch.start_s)
    for stretch in stretches:
        cells = [f"{stretch.start_s:.6f}", f"{stretch.duration_s:.6f}", stretch.label]
        lines.append("\t".join([*cells, stretch.who or "n/a", stretch.tier]) + "\n")
    return "".join(lines).encode()


def _sidecar(
    recording: Recording, columns: list[Column], rate: float, timeline: Timeline
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "SamplingFrequency": rate,
        "StartTime": float(timeline.times[0]),
        "Columns": [column.name for column in columns],
        "PhysioType": "generic",
        "Description": "Scores of one face or person, evenly sampled by interpolation.",
    }
    for column in columns:
        entry = {"Description": column.meaning}
        # Scores have no unit that BIDS knows.
        if column.unit == "pixels":
            entry["Units"] = "pixels"
        facts[column.name] = entry
    dictionary = recording.dictionary
    made_with = {key: dictionary[key] for key in _MADE_WITH if key in dictionary}
    return facts | {"MadeWith": made_with}


def _about() -> dict[str, bytes]:
    """The files at the root, the same for all recordings."""
    description = {
        "Name": "Facial affect read by mien",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mien", "Version": mien.__version__}],
    }
    return {
        "dataset_description.json": _json(description),
        "README": _README.encode(),
        # The validator knows no derived physiological recordings, and takes their names for wrong
        # raw ones.
        ".bidsignore": b"*_physio.*\n",
    }


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


_README: Final = """Facial affect read by mien from films.

Per face or person, physio files hold scores that are evenly sampled by interpolation, and events
files hold segments and time that cannot be used. The .json files beside them say what each column
means, and with which networks and options the scores were made.
"""
# Of the data dictionary: what made the numbers, without the paths of anybody's files.
_MADE_WITH: Final = ("mien", "bundle", "faces", "options")
_EVENTS: Final = {
    "Description": "Segments of scores, and time that cannot be used.",
    "trial_type": {
        "Description": (
            "What is shown: an expression, an action unit, smile or blink; or why time cannot be "
            "used."
        )
    },
    "who": {"Description": "The person or face; n/a for what holds for the whole frame."},
    "tier": {"Description": "The same, or unusable."},
}
