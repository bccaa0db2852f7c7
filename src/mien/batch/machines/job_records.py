"""The record of each job of a plan, in the output folder: what became of it, where, and when."""

import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from mien.batch.inputs import Job
from mien.batch.outcome import Outcome
from mien.batch.stores.store import Store
from mien.batch.target import dictionary_path
from mien.errors import MienError, OutputError
from mien.outputs.recorded import read_dictionary

__all__ = ["RECORDS", "JobRecord", "read_job_record", "write_job_record"]

RECORDS: Final = "mien-jobs"
"""The folder of the records, in the output folder."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What became of a job.

    Attributes:
        name: The name of its table.
        source: The absolute path of its input.
        state: ``done`` or ``failed``.
        rows: Rows of its table by status.
        seconds: Time it took, s.
        problems: One line on each damage or failure.
        host: The machine that did it.
        attempt: How often it was tried, with this time.
        sha256: The SHA-256 of each of its tables, by file name.
        ended: When it ended, with the machine's offset from UTC.
    """

    name: str
    source: str
    state: str
    rows: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    problems: tuple[str, ...] = ()
    host: str = ""
    attempt: int = 1
    sha256: Mapping[str, str] = field(default_factory=dict)
    ended: str = ""

    @classmethod
    def from_json(cls, page: Any) -> Self | None:
        """Read a record's content.

        Args:
            page: What its file holds.

        Returns:
            The record; None where it is malformed.
        """
        try:
            values = {key: page[key] for key in cls.__slots__}
            record = cls(**values | {"problems": tuple(map(str, values["problems"]))})
            sum(record.rows.values())
            ok = isinstance(record.attempt, int) and isinstance(record.seconds, int | float)
        except (KeyError, TypeError, AttributeError):
            return None
        return record if ok and record.state in ("done", "failed") else None


def write_job_record(store: Store, outcome: Outcome) -> None:
    """Record what became of a job; one that is left to another process is recorded there.

    Where the record cannot be written, as on a full disk, that is one of the outcome's problems,
    and the job counts as waiting until a later run finds its table.

    Args:
        store: The output folder.
        outcome: What became of the job.
    """
    if outcome.state == "left":
        return
    try:
        before = read_job_record(store, outcome.job)
    except OutputError:
        # Writing it says why.
        before = None
    was_done = before is not None and before.state == "done"
    if outcome.state == "skipped" and was_done:
        return
    record = _record_of(store.folder, outcome, attempt=1 if before is None else before.attempt + 1)
    content = (json.dumps(asdict(record), indent=2) + "\n").encode()
    try:
        store.write(_name_of(outcome.job), content)
    except OutputError as error:
        # A job that failed has its line already, and mostly for the same reason.
        if outcome.state != "failed":
            outcome.problems.append(str(error))


def _record_of(folder: Path, outcome: Outcome, attempt: int) -> JobRecord:
    page = _page_of(folder, outcome)
    hashes: dict[str, str] = {}
    for name, facts in page.get("tables", {}).items():
        hashes[name] = facts["sha256"]
    job = outcome.job
    state = "failed" if outcome.state == "failed" else "done"
    seconds, ended = round(outcome.seconds, 3), time.strftime("%Y-%m-%d %H:%M:%S%z")
    return JobRecord(
        name=job.name,
        source=job.source,
        state=state,
        rows=page.get("rows", {}),
        seconds=seconds,
        problems=tuple(outcome.problems),
        host=socket.gethostname(),
        attempt=attempt,
        sha256=hashes,
        ended=ended,
    )


def _page_of(folder: Path, outcome: Outcome) -> Mapping[str, Any]:
    """The dictionary of the job's table; empty where the job failed."""
    if outcome.state == "failed":
        return {}
    with suppress(MienError):
        recorded = read_dictionary(dictionary_path(folder / outcome.job.name))
        return {} if recorded is None else recorded.page
    return {}


def read_job_record(store: Store, job: Job) -> JobRecord | None:
    """Read the record of a job.

    Args:
        store: The output folder.
        job: The job.

    Returns:
        Its record; None where there is none yet, or it is malformed.

    Raises:
        OutputError: It cannot be read, as where the network dropped.
    """
    try:
        return JobRecord.from_json(json.loads(store.read(_name_of(job)) or b""))
    except (ValueError, RecursionError):
        return None


def _name_of(job: Job) -> str:
    # By input: a job may be given another name when another run is quicker.
    return f"{RECORDS}/{job.key}.json"
