"""How far a plan is, seen from any machine while others work on it."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from mien.batch.machines.job_records import JobRecord, read_job_record
from mien.batch.machines.plan_file import read_plan
from mien.batch.stores.remote_store import open_store
from mien.outputs.claims import ClaimState

__all__ = ["PlanStatus", "plan_status"]

# A shared file system answers each look after some time; so many are out at once.
_LOOKS: Final = 16


@dataclass(slots=True)
class PlanStatus:
    """How far a plan is.

    Attributes:
        counts: Jobs by state: ``done``, ``failed``, ``running``, ``waiting``.
        rows: Rows of the tables by status.
        seconds: Time that the jobs took, added up over all processes, s.
        failed: The records of the jobs that failed, in the order of the plan.
        running: The name of each table that is being written, and by whom.
        silent: The same where the process has shown no sign of life for too long; such jobs are
            waiting, and the next run takes them over.
        hosts: Jobs by the machine that did them.
    """

    counts: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    failed: list[JobRecord] = field(default_factory=list)
    running: dict[str, str] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    hosts: Counter[str] = field(default_factory=Counter)

    def count(self, name: str, record: JobRecord | None, claim: ClaimState | None) -> None:
        """Count a job.

        Args:
            name: The name of its table.
            record: Its record; None where it has none.
            claim: Who reads its input; None where nobody does.
        """
        if claim is not None and not claim.is_stale:
            self.counts["running"] += 1
            self.running[name] = claim.holder
        elif record is not None:
            self._count_ended(record)
        else:
            self.counts["waiting"] += 1
            if claim is not None:
                self.silent[name] = claim.holder

    def _count_ended(self, record: JobRecord) -> None:
        self.counts[record.state] += 1
        self.rows.update(record.rows)
        self.seconds += record.seconds
        self.hosts[record.host] += 1
        if record.state == "failed":
            self.failed.append(record)


def plan_status(path: str | Path) -> PlanStatus:
    """Add up how far a plan is, from the records of its jobs and the claims of running processes.

    Args:
        path: The plan, or the output folder that holds it, also at an address.

    Returns:
        How far it is.

    Raises:
        TableError: The plan is damaged.
        OutputError: There is no such plan.
    """
    plan = read_plan(path)
    status = PlanStatus()
    with open_store(plan.settings.folder) as store, ThreadPoolExecutor(_LOOKS) as pool:
        claims = store.claims()
        records = pool.map(partial(read_job_record, store), plan.jobs)
        for job, record in zip(plan.jobs, records, strict=True):
            status.count(job.name, record, claims.get(f"input-{job.key}"))
    return status
