"""The part of a plan that one machine does."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from mien.batch.inputs import Job, Plan
from mien.batch.machines.job_records import JobRecord, read_job_record
from mien.batch.machines.plan_file import read_plan
from mien.batch.machines.ray_cluster import do_on_ray
from mien.batch.outcome import Outcome, Progress
from mien.batch.spread import Run, do_all
from mien.batch.stores.remote_store import open_store
from mien.processes import process_count

__all__ = ["Shard", "run_plan", "shard_of"]

Shard = tuple[int, int]
"""Which part of a plan, from 1, and how many there are."""


def shard_of(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard | None:
    """The part of a plan that this process is to do.

    Args:
        text: As given, such as ``3/100``; None where nothing was given.
        environment: The environment's variables; in an array of Slurm jobs they say which part.

    Returns:
        The part; None for the whole plan.

    Raises:
        ValueError: The text is no part, or the array skips some.

    Examples:
        >>> shard_of("3/100")
        (3, 100)
        >>> task = {"SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_COUNT": "5"}
        >>> shard_of(None, task | {"SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_MAX": "6"})
        (5, 5)
    """
    if text is not None:
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal()):
            raise ValueError(f"--shard must be such as 3/100, got {text!r}")
        return int(number), int(count)
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    numbers = {}
    for name in ("ID", "MIN", "MAX", "COUNT"):
        numbers[name] = int(environment.get(f"SLURM_ARRAY_TASK_{name}", "-1"))
    if numbers["MAX"] - numbers["MIN"] + 1 != numbers["COUNT"]:
        raise ValueError(
            "this array of Slurm jobs skips numbers, so they name no part; give --shard, such as "
            "--shard $SLURM_ARRAY_TASK_ID/100"
        )
    return numbers["ID"] - numbers["MIN"] + 1, numbers["COUNT"]


def run_plan(
    path: str | Path,
    *,
    shard: Shard | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
    jobs: int | Literal["auto"] = 1,
    ray: str | None = None,
) -> list[Outcome]:
    """Do the jobs of a plan, or a part of them, on this machine.

    Any number of machines may do the same plan at once: each table is written by one of them. What
    is done is skipped, and what failed before is not tried again unless asked for. Each job leaves
    a record in the output folder.

    Args:
        path: The plan, or the output folder that holds it, also at an address.
        shard: Which part, from 1, and how many there are; None for all jobs.
        retry_failed: Also try jobs again that failed before.
        progress: Hears how the run is getting on.
        jobs: How many inputs are read at once, as of `run`.
        ray: The address of a Ray cluster that does the jobs in place of this machine: ``auto`` for
            the one it belongs to, ``local`` for one of its own; None for no cluster.

    Returns:
        The outcomes, in order.

    Raises:
        TableError: The plan is damaged.
        OutputError: There is no such plan, or its folder cannot be written.
        BundleError: The bundles here are not those of the plan, or cannot be used.
        UnknownNameError: There is no such bundle or engine here.
        ValueError: There is no such part, `jobs` is no such number, or is given with `ray`.
        MissingExtraError: Ray is asked for and not installed.
    """
    processes = process_count(jobs)
    if ray is not None and jobs != 1:
        raise ValueError("a Ray cluster has as many processes as cores; leave --jobs out")
    plan = read_plan(path)
    mine = list(plan.jobs) if shard is None else plan.shard(*shard)
    with open_store(plan.settings.folder) as store, store.named_errors():
        store.begin()
        run = Run(plan.settings, plan.settings.open(store), progress or Progress(), processes)
        run.target.sweep(mine)
        return _do_part(run, mine, retry_failed, ray)


def _do_part(run: Run, mine: Sequence[Job], retry_failed: bool, ray: str | None) -> list[Outcome]:
    """Do some jobs of a plan, without those that failed before unless asked for."""
    run.progress.plan(Plan(list(mine), [], {}))
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, Job] = {}
    for number, job in enumerate(mine):
        record = read_job_record(run.target.store, job)
        if record is not None and record.state == "failed" and not retry_failed:
            outcomes[number] = _failed_before(job, record)
            run.progress.end(outcomes[number])
        else:
            waiting[number] = job
    ended: dict[int, Outcome] = {}
    if ray is None:
        do_all(run, list(waiting.values()), ended)
    else:
        do_on_ray(run, list(waiting.values()), ended, ray)
    for number, outcome in zip(waiting, (ended[index] for index in sorted(ended)), strict=True):
        outcomes[number] = outcome
    return [outcomes[number] for number in sorted(outcomes)]


def _failed_before(job: Job, record: JobRecord) -> Outcome:
    reason = record.problems[0] if record.problems else job.source
    tries = "once" if record.attempt == 1 else f"{record.attempt} times"
    problem = f"{reason} (tried {tries}, last on {record.host}; --retry-failed tries again)"
    return Outcome(job, "failed", problems=[problem])
