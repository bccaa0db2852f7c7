"""Many inputs to many files: names, results of earlier runs, failures.

A video becomes a table of its own, and so do the photos of a folder. The data dictionary is written
last, so its presence says that the tables beside it are complete; a later run with the same inputs
and options skips them. Any number of runs may work on one folder at once: each table is written by
one of them. One bad input never stops the others.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mien.analysis.reader import Options, Reader
from mien.batch.assignment import Assignment, Settings, run_one
from mien.batch.inputs import Job, Plan
from mien.batch.machines.plan_file import PlanFile, read_plan, write_plan
from mien.batch.machines.shards import run_plan
from mien.batch.machines.status import PlanStatus, plan_status
from mien.batch.names import plan
from mien.batch.outcome import Outcome, Progress
from mien.batch.record import refuse_first_layout, write_record
from mien.batch.spread import Run, do_all
from mien.batch.stores.remote_store import open_store
from mien.batch.target import Exporter, Target, check_output
from mien.outputs.anonymise.hiding import Anonymise
from mien.processes import process_count

__all__ = [
    "Assignment",
    "Job",
    "Outcome",
    "Plan",
    "PlanFile",
    "PlanStatus",
    "Progress",
    "plan",
    "plan_status",
    "read_plan",
    "run",
    "run_one",
    "run_plan",
    "write_plan",
]


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
    jobs: int | Literal["auto"] = 1,
    exporter: Exporter | None = None,
) -> list[Outcome]:
    """Analyse all inputs and write tables, dictionaries and, if asked for, overlays into a folder.

    Jobs that an earlier run finished with the same input and options are skipped. Jobs that another
    run is working on are left to it and tried once more at the end; then they have the state
    ``left``. An input that cannot be read is an outcome with the state ``failed``, not an
    exception. ``mien-run.json`` in the folder records what became of all.

    Args:
        inputs: Paths, folders and patterns, also as addresses that fsspec opens (``s3://…``),
            ``camera:N`` or ``-``.
        out: The output folder, or its address; made if missing.
        options: The options of the analysis; None for the defaults.
        formats: Table formats: ``csv``, ``parquet``, ``jsonl``, ``csv:de``, ``openface``, ``fex``.
        overlay: Also write each video or picture with the results drawn over it.
        anonymise: How overlays hide all faces that were found: ``blur``, or ``drawn`` for a drawn
            face that shows what was read; None shows them.
        progress: Hears how the run is getting on.
        root: A folder; tables of inputs below it mirror its folders, also of inputs that are given
            one by one.
        jobs: How many inputs are read at once, each by a process of its own; ``auto`` for one per
            processor core.
        exporter: Writes each table in the formats of other programs, too, such as
            `mien.exports.beside.Exports`.

    Returns:
        The outcomes: inputs that cannot be read at all, then the jobs in order.

    Raises:
        OutputError: The folder cannot be written at all, or holds tables of the first layout.
        UnknownNameError: There is no such format, bundle, engine or way to anonymise.
        ValueError: `formats` is empty, `jobs` is no such number, or `anonymise` is set without an
            overlay of all faces.
        BundleError: A bundle is incomplete or altered, or of another kind.
        MissingExtraError: The engine is not installed.
        LabelMismatchError: Compound expressions are asked for and cannot be computed from the
            bundle's expressions.
    """
    options = options or Options()
    check_output(formats, overlay, anonymise, options)
    processes = process_count(jobs)
    reader = Reader(options)
    chosen = tuple(dict.fromkeys(formats))
    with open_store(out) as store, store.named_errors():
        if store.is_elsewhere and exporter is not None and "bids" in exporter.to:
            raise ValueError(
                "--format bids: is written into folders on disk alone; leave it out, and run "
                "`mien convert` on the tables"
            )
        store.begin()
        planned = plan(inputs, store.folder, root, store.address)
        refuse_first_layout(store.folder, planned.jobs)
        target = Target(reader, store, chosen, overlay, anonymise, exporter=exporter)
        target.sweep(planned.jobs)
        settings = Settings.of(target, planned.jobs)
        work = Run(settings, target, progress or Progress(), processes)
        return _do(work, inputs, planned)


def _do(work: Run, inputs: Sequence[str | Path], planned: Plan) -> list[Outcome]:
    """Do the jobs of a run, and record what became of them."""
    target = work.target
    work.progress.plan(planned)
    failed = []
    for name, problem in planned.failures:
        failed.append(Outcome(Job(name, ()), "failed", problems=[problem]))
        work.progress.end(failed[-1])
    ended: dict[int, Outcome] = {}
    try:
        do_all(work, planned.jobs, ended)
    finally:
        # Also after an interrupt: the record says that the run was stopped.
        target.remove_empty_folders()
        outcomes = failed + [outcome for _, outcome in sorted(ended.items())]
        write_record(target.store, inputs, outcomes, planned)
    return outcomes
