"""One job with all that it takes to do it, in any process on any machine: `run_one`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mien.analysis.options import Options
from mien.analysis.reader import Reader
from mien.batch.inputs import Job
from mien.batch.jobs import Work
from mien.batch.machines.job_records import write_job_record
from mien.batch.names import NameRegistry
from mien.batch.outcome import Outcome, Progress
from mien.batch.stores.remote_store import open_store
from mien.batch.stores.store import Store
from mien.batch.target import Exporter, Target
from mien.errors import BundleError
from mien.outputs.anonymise.hiding import Anonymise
from mien.remote.address import is_address

__all__ = ["Assignment", "Settings", "do_job", "originals_in", "run_one"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What all jobs of a run share; it can be pickled.

    Attributes:
        folder: The output folder; a text where it is an address.
        options: The options of the analysis.
        formats: The formats of each table.
        overlay: Whether overlays are drawn as well.
        anonymise: How overlays hide faces; None shows them.
        facts: What decides the numbers, as `Target.facts` gives it where the run was planned.
        exporter: Writes tables in the formats of other programs, too; None where none are asked.
        originals: Inputs that lie in the output folder, which no result may replace.
        keeps_records: Whether each job leaves a record in the output folder.
    """

    folder: Path | str
    options: Options
    formats: tuple[str, ...]
    overlay: bool
    anonymise: Anonymise | None
    facts: Mapping[str, Any]
    originals: frozenset[str] = frozenset()
    keeps_records: bool = False
    exporter: Exporter | None = None

    @classmethod
    def of(cls, target: Target, jobs: Sequence[Job]) -> Self:
        """The settings of a run in this process.

        Args:
            target: What the run writes, and where.
            jobs: Its jobs.

        Returns:
            The same, to be sent to other processes.
        """
        folder = target.store.address if target.store.is_elsewhere else target.folder
        return cls(
            folder,
            target.reader.options,
            target.formats,
            target.overlay,
            target.anonymise,
            target.facts(),
            originals_in(folder, jobs),
            exporter=target.exporter,
        )

    def open(self, store: Store | None = None) -> Target:
        """Load the networks in this process.

        Args:
            store: The output folder, opened; None to open it.

        Returns:
            What the run writes, and where.

        Raises:
            BundleError: Something here would give other numbers than where the run was planned.
            UnknownNameError: There is no such bundle or engine here.
            MissingExtraError: The engine is not installed here.
        """
        target = Target(
            Reader(self.options),
            store or open_store(self.folder),
            self.formats,
            self.overlay,
            self.anonymise,
            exporter=self.exporter,
        )
        facts = target.facts()
        for key, planned in self.facts.items():
            if facts.get(key) != planned:
                raise BundleError(_difference(key, facts.get(key), planned))
        return target


def originals_in(folder: Path | str, jobs: Iterable[Job]) -> frozenset[str]:
    """The inputs that lie in the output folder, which no result may replace.

    Args:
        folder: The output folder.
        jobs: The jobs of a run.

    Returns:
        Their addresses, or their paths, resolved, because a link to an input must not be replaced
        either.
    """
    inputs = [path for job in jobs for path in job.inputs]
    if is_address(str(folder)):
        return frozenset(path for path in inputs if path.startswith(f"{folder}/"))
    root = Path(folder).resolve()
    originals: set[str] = set()
    for path in inputs:
        if not is_address(path):
            resolved = Path(path).resolve()
            is_inside = Path(os.path.abspath(path)).is_relative_to(root)
            if is_inside or resolved.is_relative_to(root):
                originals.add(str(resolved))
    return frozenset(originals)


def _difference(key: str, fact: object, planned: object) -> str:
    """One line on what differs between this machine and the one that planned."""
    here_text, planned_text = _version_of(fact), _version_of(planned)
    if here_text == planned_text:
        here_text, planned_text = "another one", "its own"
    return (
        f"{key}: this machine has {here_text}, the run was planned with {planned_text}; install "
        "the same here, or plan anew into another folder"
    )


def _version_of(fact: object) -> str:
    """A bundle by its name and hash, anything else as it is."""
    if isinstance(fact, dict) and "sha256" in fact:
        return f"{fact.get('name')} ({str(fact['sha256'])[:12]})"
    return "none" if fact is None else str(fact)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One job of a run; it can be pickled.

    Attributes:
        job: The inputs and the name of their table.
        settings: What it shares with the run's other jobs.
    """

    job: Job
    settings: Settings


def run_one(assignment: Assignment, progress: Progress | None = None) -> Outcome:
    """Do one job of a run, in any process on any machine that sees its files.

    Nothing is done twice: a job that was finished is skipped, and one that another process is
    working on is left to it. Networks stay loaded for the next call.

    Args:
        assignment: The job, from a plan or a run.
        progress: Hears how the job is getting on.

    Returns:
        What became of it; an input that cannot be read is the state ``failed``, no exception.

    Raises:
        BundleError: The bundles here are not those of the plan, or cannot be used.
        UnknownNameError: There is no such bundle or engine here.
        MissingExtraError: The engine is not installed here.
    """
    settings = assignment.settings
    with open_store(settings.folder) as store:
        return do_job(assignment.job, settings, settings.open(store), progress or Progress())


def do_job(job: Job, settings: Settings, target: Target, progress: Progress) -> Outcome:
    """Do one job with networks that are loaded already, and record it where the run keeps records.

    Args:
        job: The job.
        settings: What it shares with the run's other jobs.
        target: What the run writes, and where.
        progress: Hears how the job is getting on.

    Returns:
        What became of it.
    """
    names = NameRegistry(target.folder, look=target.store.look)
    names.reserve(job.name, job.source)
    outcome = Work(target, progress, settings.originals, names).do(job)
    if settings.keeps_records:
        write_job_record(target.store, outcome)
    return outcome
