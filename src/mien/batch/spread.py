"""The jobs of a run: one after another in this process, or spread over several."""

from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from mien.batch.assignment import Settings, do_job
from mien.batch.inputs import Job, has_no_file
from mien.batch.jobs import Work
from mien.batch.machines.job_records import write_job_record
from mien.batch.names import NameRegistry
from mien.batch.outcome import Outcome, Progress
from mien.batch.photo_shards import LOST_READER, PhotoReadings, Photos, ReadPhoto
from mien.batch.pool import Lost, Pool, Request
from mien.batch.target import Target
from mien.errors import SourceError
from mien.sources import Source

__all__ = ["Outcomes", "Overall", "Run", "do_all", "left_to_others", "lost_outcome"]

# Photos that a process is asked for at once: few, so that all end at the same time.
_PHOTOS: Final = 8
# A folder is read by several processes together where each of them has so many photos to read.
_WORTH: Final = 16
# Photos whose readings may wait in memory for one that takes long.
_AHEAD: Final = 2000

Outcomes = MutableMapping[int, Outcome]
"""Outcomes by the number of their job, as far as the run has come."""


@dataclass(frozen=True, slots=True)
class Run:
    """What does jobs, and who hears of them.

    Attributes:
        settings: What all jobs share.
        target: The same with networks that are loaded in this process.
        progress: Hears how the jobs are getting on.
        processes: How many jobs are read at once.
    """

    settings: Settings
    target: Target
    progress: Progress
    processes: int = 1


def do_all(run: Run, jobs: Sequence[Job], outcomes: Outcomes) -> None:
    """Do all jobs, and those that another run is working on once more at the end.

    Args:
        run: What does them.
        jobs: The jobs.
        outcomes: Is filled; what was done before an interrupt stays in it.

    Raises:
        ValueError: A camera or standard input is to be read beside others.
        OutputError: Processes cannot be started.
    """
    is_one = len(jobs) == 1 and not _is_shared(jobs[0], run.processes)
    if run.processes == 1 or is_one or not jobs:
        _one_after_another(run, jobs, outcomes)
        return
    for job in jobs:
        if has_no_file(job.inputs[0]):
            raise ValueError(
                f"{job.inputs[0]}: is read as it comes, by one process; leave --jobs out"
            )
    _Spread(run, jobs, outcomes).do_all()


def _is_shared(job: Job, processes: int) -> bool:
    """Whether several processes read a job together."""
    return job.folder is not None and len(job.inputs) >= _WORTH * processes


def _one_after_another(run: Run, jobs: Sequence[Job], outcomes: Outcomes) -> None:
    names = NameRegistry(run.target.folder, look=run.target.store.look)
    for job in jobs:
        names.reserve(job.name, job.source)
    work = Work(run.target, run.progress, run.settings.originals, names)

    def do(number: int, job: Job) -> None:
        run.progress.begin(job, number + 1, len(jobs))
        outcomes[number] = work.do(job)
        if run.settings.keeps_records:
            write_job_record(run.target.store, outcomes[number])
        run.progress.end(outcomes[number])

    for number, job in enumerate(jobs):
        do(number, job)
    for number in left_to_others(outcomes):
        do(number, outcomes[number].job)


def left_to_others(outcomes: Outcomes) -> list[int]:
    """The jobs that another run was working on.

    Args:
        outcomes: Outcomes by the number of their job.

    Returns:
        Their numbers.
    """
    return [number for number, outcome in outcomes.items() if outcome.state == "left"]


def lost_outcome(job: Job, run: Run, how: str) -> Outcome:
    """The outcome of a job whose process ended in the middle; what that left behind is removed.

    Args:
        job: The job.
        run: The run.
        how: How the process ended, in words.

    Returns:
        The outcome.
    """
    problem = f"{job.source}: {LOST_READER} {how}; run this again for it"
    outcome = Outcome(job, "failed", problems=[problem])
    run.target.sweep([job])
    if run.settings.keeps_records:
        write_job_record(run.target.store, outcome)
    return outcome


class Overall(Progress):
    """Adds up how far jobs are that are read at once.

    Args:
        progress: Hears of all of them together.
        jobs: The jobs.
    """

    def __init__(self, progress: Progress, jobs: Sequence[Job]) -> None:
        self._progress = progress
        self._sizes = {job.key: job.size for job in jobs}
        self._bytes = sum(self._sizes.values())
        self._shares: dict[str, float] = {}
        self._frames: dict[str, int] = {}
        self._frames_read = 0
        self._bytes_read = 0.0

    def heard(self, job: Job, frames: int, share: float | None) -> None:
        """One of the jobs has come this far.

        Args:
            job: The job.
            frames: Frames read so far.
            share: The share of the job's work that is done, 0..1, where it is known.
        """
        self._note(job, frames, share or 0.0)
        whole = self._bytes_read / self._bytes if self._bytes else None
        self._progress.advance(self._frames_read, whole)

    def ended(self, outcome: Outcome) -> None:
        """One of the jobs has ended.

        Args:
            outcome: What became of it.
        """
        self._note(outcome.job, outcome.frames, 1.0)
        self._progress.end(outcome)

    def _note(self, job: Job, frames: int, share: float) -> None:
        key = job.key
        self._frames_read += frames - self._frames.get(key, 0)
        self._bytes_read += (share - self._shares.get(key, 0.0)) * self._sizes.get(key, 0)
        self._frames[key] = frames
        self._shares[key] = share


class _Spread:
    """Does the jobs of a run in several processes."""

    def __init__(self, run: Run, jobs: Sequence[Job], outcomes: Outcomes) -> None:
        self._run = run
        self._jobs = jobs
        self._outcomes = outcomes
        self._overall = Overall(run.progress, jobs)
        self._numbers = {job.key: number for number, job in enumerate(jobs)}

    def do_all(self) -> None:
        shared = [job for job in self._jobs if _is_shared(job, self._run.processes)]
        single = [job for job in self._jobs if not _is_shared(job, self._run.processes)]
        count = self._run.processes if shared else min(self._run.processes, len(single))
        self._run.target.note_missing_folders(self._jobs)
        try:
            self._do_in(count, shared, single)
        except BaseException:
            # A process that was told to end may have been about to remove what it had begun.
            self._run.target.sweep(self._jobs)
            raise

    def _do_in(self, count: int, shared: Sequence[Job], single: Sequence[Job]) -> None:
        with Pool(self._run.settings, count) as pool:
            self._run.progress.together(len(self._jobs), count)
            # Folders first: at the end of each, processes wait for the last photos.
            for job in shared:
                self._do_together(job, pool)
            # The largest first, so that no long one is left for the end.
            self._do_apart(sorted(single, key=lambda job: -job.size), pool)
            left = [self._outcomes[number].job for number in left_to_others(self._outcomes)]
            self._do_apart(left, pool)

    def _do_together(self, job: Job, pool: Pool) -> None:
        """Do the job of a folder here, with photos that all processes read."""
        opener = _PhotoPool(pool, self._run.target)
        target = replace(self._run.target, photos=opener)
        progress = _Hearer(job, self._overall.heard)
        self._end(do_job(job, self._run.settings, target, progress))

    def _do_apart(self, jobs: Sequence[Job], pool: Pool) -> None:
        """Do jobs, each in one process."""
        waiting: deque[Request] = deque(jobs)
        count = len(jobs)
        while count:
            job, answer = pool.next(waiting, self._overall.heard)
            if not isinstance(job, Job):
                # Photos that were still being read when the job of their folder failed.
                continue
            if isinstance(answer, Lost):
                answer = lost_outcome(job, self._run, answer.how)
            self._end(answer)
            count -= 1

    def _end(self, outcome: Outcome) -> None:
        self._outcomes[self._numbers[outcome.job.key]] = outcome
        self._overall.ended(outcome)


class _Hearer(Progress):
    """Passes on how far one job is, with its name."""

    def __init__(self, job: Job, hear: Callable[[Job, int, float | None], None]) -> None:
        self._job = job
        self._hear = hear

    def advance(self, frames: int, share: float | None) -> None:
        """The job has come this far.

        Args:
            frames: Frames read so far.
            share: The share of the job's work that is done, 0..1, where it is known.
        """
        self._hear(self._job, frames, share)


class _PhotoPool:
    """Has the photos of a folder read by the processes of a pool; opens them in order."""

    def __init__(self, pool: Pool, target: Target) -> None:
        self._pool = pool
        self._reader = target.reader
        self._results: Iterator[PhotoReadings | str] = iter(())

    def begin(self, paths: Sequence[str]) -> None:
        """Have photos read.

        Args:
            paths: Their paths, in the order in which they will be opened.
        """
        self._results = self._in_order(paths)

    def open(self, path: str) -> Source:
        """Open the next photo.

        Args:
            path: Its path.

        Returns:
            The photo with its readings; a film that has the name of a photo is read by the caller.

        Raises:
            SourceError: It cannot be read.
        """
        result = next(self._results)
        if isinstance(result, str):
            raise SourceError(result)
        return self._reader.open(path) if result.readings is None else ReadPhoto(path, result)

    def _in_order(self, paths: Sequence[str]) -> Iterator[PhotoReadings | str]:
        remaining = iter(paths)
        waiting: deque[Request] = deque()
        results: dict[str, PhotoReadings | str] = {}
        for path in paths:
            while path not in results:
                # Two requests for each process, so that none waits for this one.
                while len(waiting) < 2 * self._pool.count and len(results) < _AHEAD:
                    shard = tuple(islice(remaining, _PHOTOS))
                    if not shard:
                        break
                    waiting.append(shard)
                request, answer = self._pool.next(waiting)
                assert isinstance(request, tuple)
                if isinstance(answer, Lost):
                    results |= self._without_one(request, answer, waiting)
                else:
                    results |= zip(request, answer, strict=True)
            yield results.pop(path)

    def _without_one(
        self, request: Photos, lost: Lost, waiting: deque[Request]
    ) -> dict[str, PhotoReadings | str]:
        """Have the photos read again, one by one, until it is known which one ends the process."""
        if len(request) == 1:
            return {request[0]: f"{request[0]}: {LOST_READER} {lost.how}"}
        waiting.extendleft((path,) for path in reversed(request))
        return {}
