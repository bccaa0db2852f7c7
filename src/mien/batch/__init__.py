"""Many inputs to many files: names, what is done already, what failed. One bad input never stops the others.

A video becomes a table of its own, and so do the photos of a folder. The data dictionary is written last, so its presence
says that the tables beside it are whole; a later run with the same inputs and options skips them. Any number of runs may
work on one folder at once: each table is written by one of them.
"""

from collections.abc import Sequence
from pathlib import Path

from mien.analysis.reader import Options, Reader
from mien.batch.jobs import Work
from mien.batch.names import Job, Plan, Taken, plan
from mien.batch.outcome import Outcome, Progress
from mien.batch.record import refuse_first_layout, write_record
from mien.claims import sweep
from mien.errors import UnknownNameError
from mien.files import wrap_os_errors
from mien.outputs.tables import FORMATS

__all__ = ["Job", "Outcome", "Plan", "Progress", "plan", "run"]


def run(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    options: Options | None = None,
    formats: Sequence[str] = ("csv",),
    overlay: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Analyse all inputs and write tables, dictionaries and, if asked for, overlays into the folder `out`.

    Jobs that an earlier run finished with the same input and options are skipped; jobs that another run is at are left to
    it, looked at once more at the end, and then have state ``left``. An input that cannot be read is an outcome with state
    ``failed``, not an exception. ``mien-run.json`` in `out` says what became of all.
    Raises OutputError when `out` cannot be written at all or holds tables of the first layout, UnknownNameError for a
    format, and what `Reader` raises.
    """
    if not formats:
        raise ValueError(f"formats must name at least one of {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise UnknownNameError("format", name, FORMATS)
    reader, folder = Reader(options or Options()), Path(out)
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    todo = plan(inputs, folder)
    refuse_first_layout(folder, todo.jobs)
    for place in {folder, *((folder / job.name).parent for job in todo.jobs)}:
        sweep(place)
    originals = frozenset(Path(path).resolve() for job in todo.jobs for path in job.inputs)
    taken = Taken(folder)
    for job in todo.jobs:
        taken.give(job.name, job.source)
    work = Work(
        reader,
        folder,
        tuple(dict.fromkeys(formats)),
        overlay,
        progress or Progress(),
        originals,
        taken,
    )
    work.progress.plan(todo)
    outcomes = [Outcome(Job(name, ()), "failed", problems=[line]) for name, line in todo.failures]
    for outcome in outcomes:
        work.progress.end(outcome)
    try:
        _do_all(work, todo.jobs, outcomes)
    finally:
        work.leave_no_empty_folder()
        write_record(folder, inputs, outcomes, todo)
    return outcomes


def _do_all(work: Work, jobs: Sequence[Job], outcomes: list[Outcome]) -> None:
    """All jobs in order, then once more those that another run was at."""
    for number, job in enumerate(jobs, 1):
        work.progress.begin(job, number, len(jobs))
        outcomes.append(work.do(job))
        work.progress.end(outcomes[-1])
    for place, outcome in enumerate(outcomes):
        if outcome.state == "left":
            work.progress.begin(outcome.job, place + 1, len(outcomes))
            outcomes[place] = work.do(outcome.job)
            work.progress.end(outcomes[place])
