"""Many inputs to many files: names, results of earlier runs, failures.

A video becomes a table of its own, and so do the photos of a folder. The data dictionary is written
last, so its presence says that the tables beside it are complete; a later run with the same inputs
and options skips them. Any number of runs may work on one folder at once: each table is written by
one of them. One bad input never stops the others.
"""

from collections.abc import Sequence
from pathlib import Path

from mien.analysis.reader import Options, Reader
from mien.batch.inputs import Job, Plan
from mien.batch.jobs import Work
from mien.batch.names import NameRegistry, plan
from mien.batch.outcome import Outcome, Progress
from mien.batch.record import refuse_first_layout, write_record
from mien.batch.target import Target
from mien.files import wrap_os_errors
from mien.outputs.anonymise.hiding import Anonymise, check_anonymise
from mien.outputs.claims import sweep
from mien.outputs.tables import FORMATS, table_format

__all__ = ["Job", "Outcome", "Plan", "Progress", "plan", "run"]


def run(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    options: Options | None = None,
    formats: Sequence[str] = ("csv",),
    overlay: bool = False,
    anonymise: Anonymise | None = None,
    progress: Progress | None = None,
    root: Path | None = None,
) -> list[Outcome]:
    """Analyse all inputs and write tables, dictionaries and, if asked for, overlays into a folder.

    Jobs that an earlier run finished with the same input and options are skipped. Jobs that another
    run is working on are left to it and tried once more at the end; then they have the state
    ``left``. An input that cannot be read is an outcome with the state ``failed``, not an
    exception. ``mien-run.json`` in the folder records what became of all.

    Args:
        inputs: Paths, folders, patterns, ``camera:N`` or ``-``.
        out: The output folder; made if missing.
        options: The options of the analysis; None for the defaults.
        formats: Table formats: ``csv``, ``parquet``, ``jsonl``, ``csv:de``, ``openface``, ``fex``.
        overlay: Also write each video or picture with the results drawn over it.
        anonymise: How overlays hide all faces that were found: ``blur``, or ``drawn`` for a drawn
            face that shows what was read; None shows them.
        progress: Hears how the run is getting on.
        root: A folder; tables of inputs below it mirror its folders, also of inputs that are given
            one by one.

    Returns:
        The outcomes: inputs that cannot be read at all, then the jobs in order.

    Raises:
        OutputError: The folder cannot be written at all, or holds tables of the first layout.
        UnknownNameError: There is no such format, bundle, engine or way to anonymise.
        ValueError: `formats` is empty, or `anonymise` is set without an overlay of all faces.
        BundleError: A bundle is incomplete or altered, or of another kind.
        MissingExtraError: The engine is not installed.
        LabelMismatchError: Compound expressions are asked for and cannot be computed from the
            bundle's expressions.
    """
    _check_formats(formats)
    options = options or Options()
    _check_anonymise(anonymise, overlay, options)
    reader = Reader(options)
    folder = Path(out)
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    planned = plan(inputs, folder, root)
    refuse_first_layout(folder, planned.jobs)
    _sweep_all(folder, planned.jobs)
    target = Target(reader, folder, tuple(dict.fromkeys(formats)), overlay, anonymise)
    work = _work_on(planned.jobs, target, progress or Progress())
    work.progress.plan(planned)
    outcomes = []
    for name, problem in planned.failures:
        outcomes.append(Outcome(Job(name, ()), "failed", problems=[problem]))
        work.progress.end(outcomes[-1])
    try:
        _do_all(work, planned.jobs, outcomes)
    finally:
        # Also after an interrupt: the record says that the run was stopped.
        target.remove_empty_folders()
        write_record(folder, inputs, outcomes, planned)
    return outcomes


def _check_formats(formats: Sequence[str]) -> None:
    if not formats:
        raise ValueError(f"formats must name at least one of {', '.join(FORMATS)}")
    for name in formats:
        table_format(name)


def _check_anonymise(anonymise: str | None, overlay: bool, options: Options) -> None:
    if check_anonymise(anonymise) is None:
        return
    if not overlay:
        raise ValueError("anonymise hides faces in overlays; ask for an overlay, too")
    if options.faces != "all":
        raise ValueError(
            f"anonymise hides the faces that are read, and faces={options.faces!r} leaves some "
            "out; read all faces"
        )


def _sweep_all(folder: Path, jobs: Sequence[Job]) -> None:
    """Remove what runs that were killed left behind."""
    # Tables mirror the folders of the inputs, so there may be several.
    folders = {folder}
    for job in jobs:
        folders.add((folder / job.name).parent)
    for path in folders:
        sweep(path)


def _work_on(jobs: Sequence[Job], target: Target, progress: Progress) -> Work:
    originals: set[Path] = set()
    names = NameRegistry(target.folder)
    for job in jobs:
        # Resolved, because a link to an input must not be replaced either.
        originals.update(Path(path).resolve() for path in job.inputs)
        names.reserve(job.name, job.source)
    return Work(target, progress, frozenset(originals), names)


def _do_all(work: Work, jobs: Sequence[Job], outcomes: list[Outcome]) -> None:
    """All jobs in order, then once more those that another run was working on."""
    for number, job in enumerate(jobs, 1):
        work.progress.begin(job, number, len(jobs))
        outcomes.append(work.do(job))
        work.progress.end(outcomes[-1])
    for index, outcome in enumerate(outcomes):
        if outcome.state == "left":
            work.progress.begin(outcome.job, index + 1, len(outcomes))
            outcomes[index] = work.do(outcome.job)
            work.progress.end(outcomes[index])
