"""The run of a study: from its file to all of its tables, complete or not at all."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

import mien
from mien.errors import StudyError
from mien.files import Transaction, wrap_os_errors
from mien.outputs.claims import Claim, ClaimedError
from mien.progress import Progress, silent
from mien.study.episodes.epochs import Epochs, cut_epochs
from mien.study.episodes.segments import find_segments
from mien.study.project.films import Films
from mien.study.project.settings import read_study
from mien.study.project.study import Study, joined
from mien.study.rows.baseline import correct_baseline
from mien.study.rows.layout import KEYS, label, without_attributes
from mien.study.rows.usable import usable_line
from mien.study.statistics.contrasts import contrast, group_means
from mien.study.statistics.summaries import summarize, summarize_epochs
from mien.study.statistics.synchrony import measure_synchrony
from mien.study.tables import StudyTable

__all__ = ["StudyResult", "run_study", "study_claim"]

RECORD: Final = "study.json"
"""What a run leaves besides tables: what it was made from, and how much was usable."""
_EDITION: Final = 2
Say = Callable[[str], None]


@dataclass(slots=True)
class StudyResult:
    """What a run of a study gave.

    Attributes:
        folder: The output folder.
        files: The tables, in the order in which they build on one another.
        recordings: Per participant and recording: the keys, ``seconds``, ``usable_share``, and
            ``usable``, that in words.
        notes: One line on each thing to look at.
        is_old: Whether an earlier run had done it all.
    """

    folder: Path
    files: list[Path] = field(default_factory=list)
    recordings: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_old: bool = False


def study_claim(path: Path, out: Path, shown: str = "") -> Claim:
    """The right to write a study's tables into a folder; one run has it at a time.

    Args:
        path: The study file.
        out: The output folder, which must be there when the claim is entered.
        shown: What messages call the study; the output folder where nothing is given.

    Returns:
        The claim, not yet entered.
    """
    return Claim(out / "study", str(path.absolute()), shown or str(out))


def run_study(
    path: str | Path,
    out: str | Path,
    films: Films | None = None,
    say: Say | None = None,
    *,
    progress: Progress = silent,
    claim: Claim | None = None,
) -> StudyResult:
    """Run a study: read its films, and write all of its tables.

    Films that an earlier run read are not read again; if nothing has changed, nothing is done. The
    tables are ``rows``, ``segments``, ``summaries`` and ``groups``, with events ``epochs`` and
    ``epoch_summaries``, and if asked for ``contrasts`` and ``synchrony``, as Parquet, each with its
    dictionary; docs/howto/study.md lists their columns. All appear together at the end.

    Args:
        path: The study file.
        out: The output folder; made if missing. Tables of films are in its folder ``tables``.
        films: Reads the films; None for the default, without a progress bar.
        say: Hears one line on each participant in each recording.
        progress: Hears how many recordings are ``read``, and how many are ``summarised``.
        claim: That of `study_claim` where the caller has entered it; None for one of its own.

    Returns:
        The result.

    Raises:
        StudyError: The study file, or a table it names, is not what it must be; or another run
            writes into the folder.
        ClaimedError: The caller's claim was taken over meanwhile.
        DataError: The study file cannot be read.
        TableError: The table of a film is damaged.
        OutputError: Something cannot be written.
    """
    path = Path(path)
    out = Path(out)
    study = Study(path, read_study(path))
    with wrap_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with nullcontext(claim) if claim else _claimed(out, path) as held:
        study.read(films or Films(), out)
        former = _former_result(study, out)
        if former is not None:
            return former
        return _write(study, out, say or _ignore, progress, held)


def _ignore(_line: str) -> None:
    pass


@contextmanager
def _claimed(out: Path, path: Path) -> Iterator[Claim]:
    """The claim of a study, with advice for the command line where another run has it."""
    try:
        with study_claim(path, out) as claim:
            yield claim
    except ClaimedError as error:
        raise StudyError(
            f"{error}; run the study again once that is done, or choose another --out"
        ) from error


def _former_result(study: Study, out: Path) -> StudyResult | None:
    """What an earlier run gave, if nothing has changed since."""
    try:
        record = json.loads((out / RECORD).read_bytes())
        if (record["study"], record["fingerprint"]) != (_EDITION, study.fingerprint()):
            return None
        for name, expected in record["files"].items():
            with (out / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    files = [out / name for name in record["files"]]
    return StudyResult(out, files, record["recordings"], record["notes"], is_old=True)


class _Tables:
    """The tables of a study while they are written."""

    def __init__(self, out: Path, files: Transaction, stack: ExitStack) -> None:
        self._out = out
        self._files = files
        self._stack = stack
        self._tables: dict[str, StudyTable] = {}
        self.facts: dict[str, dict[str, Any]] = {}

    def write(self, kind: str, frame: pd.DataFrame, facts: Mapping[str, Any]) -> None:
        """Write the next rows of a table."""
        if kind not in self._tables:
            self.facts[kind] = dict(facts)
            path = self._out / f"{kind}.parquet"
            table = StudyTable(path, kind, self._files, self.facts[kind])
            self._tables[kind] = self._stack.enter_context(table)
        self._tables[kind].write(frame)

    def hashes(self) -> dict[str, str]:
        """The hashes of the finished tables, by name."""
        return {table.path.name: table.sha256 for table in self._tables.values()}


def _write(study: Study, out: Path, say: Say, progress: Progress, claim: Claim) -> StudyResult:
    result = StudyResult(out)
    with Transaction() as files:
        with ExitStack() as stack:
            tables = _Tables(out, files, stack)
            result.notes += _signal_lines(study) + study.edits
            summaries = _write_people(study, tables, result, say, _Counts(study, progress))
            _write_statistics(study, tables, summaries)
        # Known once the tables are closed.
        hashes = tables.hashes()
        result.files = [out / name for name in hashes]
        _add_record(study, files, result, hashes)
        # It may have been taken over while this process was asleep.
        claim.check()
        files.commit()
    return result


def _signal_lines(study: Study) -> list[str]:
    """When the signals of each film begin, to be compared with the film."""
    events = study.settings.events
    if isinstance(events, str) or events is None or events.signal is None:
        return []
    lines = []
    for name, table in study.events.items():
        onsets = ", ".join(f"{onset:.3f}" for onset in table["onset"])
        lines.append(f"{name}: {events.signal} at {onsets} s from its first frame")
    return lines


class _Counts:
    """Tells how many recordings are done, of all of their participants."""

    def __init__(self, study: Study, progress: Progress) -> None:
        participants = study.cast.participants
        people = {name: len(listed) for name, listed in participants.items() if listed}
        self._progress = progress
        self._total = len(people)
        self._left = {step: Counter(people) for step in ("read", "summarised")}
        for step in self._left:
            progress(step, 0, self._total)

    def count(self, step: str, names: list[str]) -> None:
        """Note that a step is done for a participant in some recordings."""
        left = self._left[step]
        left.subtract(names)
        self._progress(step, self._total - len(+left), self._total)


def _write_people(
    study: Study, tables: _Tables, result: StudyResult, say: Say, counts: _Counts
) -> pd.DataFrame:
    """Write all that is about single participants, one after another; gives their summaries."""
    settings = study.settings
    facts = study.facts()
    summaries = []
    for participant, names in study.cast.recordings_of().items():
        parts = []
        for name in names:
            parts.append(study.rows_of(study.by_name[name], participant))
            counts.count("read", [name])
        rows = joined(parts)
        _describe(rows, result, say)
        if settings.baseline is not None:
            reference = study.reference_of(participant)
            rows = correct_baseline(rows, settings.baseline, reference)
        tables.write("rows", rows, facts)
        _note_baseline(tables.facts["rows"], rows)
        segments = find_segments(rows, settings.segments)
        tables.write("segments", segments, facts)
        summary = summarize(rows, segments, settings.summaries)
        summaries.append(_with_facts_of_people(summary, study, result))
        tables.write("summaries", summaries[-1], facts)
        if study.events:
            _write_epochs(study, tables, rows, segments)
        counts.count("summarised", names)
    return joined(summaries)


def _note_baseline(facts: dict[str, Any], rows: pd.DataFrame) -> None:
    """Add what was measured of a participant to what the dictionary will say."""
    baseline = rows.attrs.get("baseline")
    if baseline is not None:
        measured = facts.get("baseline", {}).get("measured", [])
        facts["baseline"] = {**baseline, "measured": [*measured, *baseline["measured"]]}


def _describe(rows: pd.DataFrame, result: StudyResult, say: Say) -> None:
    """Say how much is usable in each recording."""
    for values, part in without_attributes(rows).groupby(list(KEYS), sort=False):
        keys = {name: str(value) for name, value in zip(KEYS, values, strict=True)}
        line = usable_line(part)
        seconds = float(part["duration_s"].sum())
        usable = float(part.loc[part["usable"], "duration_s"].sum())
        share = usable / seconds if seconds else 0.0
        entry = {**keys, "seconds": seconds, "usable_share": share, "usable": line}
        result.recordings.append(entry)
        if not usable:
            result.notes.append(f"{label(keys)}: {line}; it has no statistics")
        say(f"{keys['recording']}, participant {keys['participant']}: {line}")


def _with_facts_of_people(summary: pd.DataFrame, study: Study, result: StudyResult) -> pd.DataFrame:
    """Add what the table of participants says."""
    if study.participants is None:
        return summary
    known = study.participants["participant"]
    for participant in summary["participant"].unique():
        if not known.eq(participant).any():
            result.notes.append(
                f"participant {participant}: is not in the table of participants, "
                "so has empty columns of it"
            )
    joined = summary.merge(study.participants, how="left", on="participant")
    joined.attrs = summary.attrs
    return joined


def _write_epochs(
    study: Study, tables: _Tables, rows: pd.DataFrame, segments: pd.DataFrame
) -> None:
    settings = study.settings.epochs or Epochs()
    facts = study.facts()
    parts = []
    for name in dict.fromkeys(rows["recording"]):
        participant = str(rows["participant"].iloc[0])
        if study.has_events(participant, name):
            part = rows[rows["recording"] == name]
            parts.append(cut_epochs(part, study.events[name], settings))
    epochs = joined(parts)
    tables.write("epochs", epochs, facts)
    statistics = summarize_epochs(epochs, segments, study.settings.summaries)
    tables.write("epoch_summaries", statistics, facts)


def _write_statistics(study: Study, tables: _Tables, summaries: pd.DataFrame) -> None:
    """Write what is about several participants."""
    settings = study.settings
    facts = study.facts()
    groups = group_means(summaries, settings.groups.by, settings.summaries)
    tables.write("groups", groups, facts)
    if settings.contrasts is not None:
        pairs = settings.contrasts.pairs
        names = settings.contrasts.measures
        table = contrast(summaries, pairs, names, settings.summaries)
        tables.write("contrasts", table, facts)
    if settings.synchrony is not None:
        tables.write("synchrony", _synchrony(study), facts)


def _synchrony(study: Study) -> pd.DataFrame:
    parts = []
    for recording in study.recordings:
        people = study.cast.participants[recording.name]
        rows = [study.rows_of(recording, participant) for participant in people]
        for number, first in enumerate(rows):
            for second in rows[number + 1 :]:
                table = measure_synchrony(first, second, study.settings.synchrony)
                for position, key in enumerate(KEYS[1:]):
                    table.insert(position, key, recording.keys("")[key])
                parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _add_record(
    study: Study, files: Transaction, result: StudyResult, hashes: Mapping[str, str]
) -> None:
    """Add the record of the run, which vouches for the tables."""
    # Those that lie in the folder, as all films' do, so that a report knows whose they are.
    root = result.folder.resolve()
    tables = {}
    for name, path in study.tables.items():
        if path.resolve().is_relative_to(root):
            tables[name] = path.resolve().relative_to(root).as_posix()
    content = {
        "study": _EDITION,
        "mien": mien.__version__,
        "fingerprint": study.fingerprint(),
        "settings": study.settings.model_dump(mode="json"),
        "recordings": result.recordings,
        "tables": tables,
        "notes": result.notes,
        "files": hashes,
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    files.write(result.folder / RECORD, text.encode())
