"""Commands that read faces, try that on a portrait, and check the installation."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from mien import batch
from mien.analysis.options import Options
from mien.batch.machines.shards import shard_of
from mien.batch.many import Bars
from mien.batch.target import Exporter
from mien.cli.reading import Reading, refuse_reading_options, takes_reading_options
from mien.cli.terminal import err, fail, handle_errors, out
from mien.demo import film
from mien.doctor import examine
from mien.outputs.tables import FOREIGN, FORMATS
from mien.progress import STOP_REQUESTED, bar_for
from mien.records import Status
from mien.sources import summarize

__all__ = ["ReadingBar", "analyze", "chosen_shard", "demo", "doctor", "plan", "status"]

LEFT: Final = 3
"""Exit code where nothing failed and another run is still writing some of the tables."""
# States of a job in words, in the order of the closing line.
_STATES: Final = {
    "done": "done",
    "skipped": "skipped",
    "left": "left to another run",
    "failed": "failed",
}


@takes_reading_options
def analyze(
    context: typer.Context,
    reading: Callable[[], Reading],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Photos, videos, folders, patterns, also as addresses (s3://…), or camera:0.",
        ),
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder for tables and overlays, or its address (s3://…); made if missing.",
        ),
    ] = None,
    jobs: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="How many inputs to read at once, each in a process; auto: one per core.",
        ),
    ] = "1",
    plan_path: Annotated[
        str | None,
        typer.Option(
            "--plan",
            metavar="PLAN",
            help="Do what `mien plan` has planned, in place of INPUT, --out and such options.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Do one of N parts of the plan; in a Slurm array, by default the task's own.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Also try jobs of the plan again that failed before."),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|auto|local",
            help="Do the plan on a Ray cluster; auto: the one this machine belongs to.",
        ),
    ] = None,
) -> None:
    """Read faces: one row per face per frame, in a table.

    Each video gets a table of its own, and so do the photos of a folder; a data dictionary
    beside it says what the columns mean. What an earlier run finished is skipped, and what another
    run is writing is left to it.
    """
    with handle_errors(), closing(ReadingBar()) as bar:
        if plan_path is not None:
            if inputs or folder:
                raise ValueError("--plan has its inputs and its folder; leave INPUT and --out out")
            refuse_reading_options(context, "the plan says how to read; run `mien plan` with it")
            outcomes = batch.run_plan(
                plan_path,
                shard=chosen_shard(shard),
                retry_failed=retry_failed,
                progress=bar,
                jobs=_jobs(jobs),
                ray=ray,
            )
        else:
            if not inputs or folder is None:
                raise ValueError("give INPUT and --out, or a plan with --plan")
            if shard or retry_failed or ray:
                raise ValueError("--shard, --retry-failed and --ray go with --plan")
            asked = reading()
            formats, exporter = _formats(asked.formats, folder)
            outcomes = batch.run(
                inputs,
                folder,
                options=asked.options,
                formats=formats,
                overlay=asked.overlay,
                anonymise=asked.anonymise,
                progress=bar,
                jobs=_jobs(jobs),
                exporter=exporter,
            )
    _summary(outcomes, summarize(bar.left_out))


@takes_reading_options
def plan(
    reading: Callable[[], Reading],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Photos, videos, folders or patterns, also as addresses."
        ),
    ],
    folder: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder for the plan and, later, the tables, or its address (s3://…).",
        ),
    ],
) -> None:
    """Plan a run for many machines, which `mien analyze --plan` then does.

    Writes DIR/mien-plan.parquet: each job with its inputs, their sizes and the name of its table,
    and the options and bundles that every machine must use.
    """
    with handle_errors():
        asked = reading()
        formats, exporter = _formats(asked.formats, folder)
        if exporter is not None:
            raise ValueError(
                f"--format {','.join(exporter.to)}: is not written by plans; leave it out, and run "
                "`mien convert` on the tables"
            )
        written, planned = batch.write_plan(
            inputs,
            folder,
            options=asked.options,
            formats=formats,
            overlay=asked.overlay,
            anonymise=asked.anonymise,
        )
    left_out = summarize(Counter(planned.left_out))
    more = f"; not read: {left_out}" if left_out else ""
    size = sum(written.sizes) / 1e9
    out.print(
        f"{written.path}: {_counted(len(written.jobs), 'job')}, {size:.3g} GB{more}", markup=False
    )
    for _, problem in planned.failures:
        err.print(f"mien: {problem}", style="red", markup=False)
    if planned.failures:
        raise typer.Exit(1)


def status(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="The plan, or the folder that holds it, also at an address."
        ),
    ],
) -> None:
    """Say how far a plan is, from any machine and at any time.

    Exit code 0 when all is done, 1 when something failed, 3 while jobs are running or waiting.
    """
    with handle_errors():
        so_far = batch.plan_status(folder)
    states = ("done", "failed", "running", "waiting")
    counts = [f"{so_far.counts[state]} {state}" for state in states if so_far.counts[state]]
    rows = [f"{count} {name}" for name, count in so_far.rows.items() if count]
    lines = [f"jobs: {', '.join(counts) or 'none'}", f"rows: {', '.join(rows) or 'none'}"]
    lines.append(f"time: {so_far.seconds:.0f} s on {_counted(len(so_far.hosts), 'machine')}")
    lines += [f"running: {name} ({holder})" for name, holder in so_far.running.items()]
    for name, holder in so_far.silent.items():
        lines.append(f"no sign of life: {name} ({holder}); the next run takes it over")
    for line in lines:
        out.print(line, markup=False)
    for record in so_far.failed:
        tries = "" if record.attempt == 1 else f", attempt {record.attempt}"
        reason = record.problems[0] if record.problems else "no reason was recorded"
        text = f"failed: {record.name} (on {record.host}{tries}): {reason}"
        err.print(text, style="red", markup=False)
    if so_far.counts["running"] + so_far.counts["waiting"]:
        raise typer.Exit(LEFT)
    if so_far.failed:
        raise typer.Exit(1)


def _formats(names: Sequence[str], folder: str) -> tuple[Sequence[str], Exporter | None]:
    """The formats of tables, and what writes other programs' formats beside them."""
    if set(names) <= {*FORMATS, *FOREIGN}:
        return names, None
    # It needs pandas, which takes a while to load.
    from mien.exports.beside import Exports

    return Exports.split(names, Path(folder))


def demo(
    folder: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Folder for the clip, its table and its overlay."
        ),
    ] = Path("demo"),
) -> None:
    """Try it on a real face.

    Films a public-domain portrait with a moving camera, analyses the clip, and leaves a table and
    an annotated video.
    """
    with handle_errors():
        clip = film(folder / "clip.mp4")
        with closing(ReadingBar()) as bar:
            outcomes = batch.run(
                [clip], folder, options=Options(smoothing=0.15), overlay=True, progress=bar
            )
    _summary(outcomes)


def doctor() -> None:
    """Show what is used here and what is missing.

    Versions, engines, bundles and their hashes, codecs, cores.
    """
    marks = {True: "[green]ok[/]", None: "[dim]--[/]", False: "[red]!![/]"}
    broken = 0
    for finding in examine():
        broken += finding.ok is False
        # In two parts, since the mark is markup and what was found is not.
        out.print(f"{marks[finding.ok]}  {finding.what:<24}", end="")
        out.print(finding.state, markup=False)
    if broken:
        parts = "1 part is" if broken == 1 else f"{broken} parts are"
        raise fail(f"{parts} broken; see the lines marked !!", 1)


def chosen_shard(text: str | None) -> tuple[int, int] | None:
    """Read ``--shard``, or say which part a Slurm array's task has.

    Args:
        text: The option's value; None where it is not given.

    Returns:
        Which part, from 1, and how many there are; None for all.

    Raises:
        ValueError: The text is no part, or the array skips some.
    """
    shard = shard_of(text)
    if shard is not None and text is None:
        line = f"mien: note: part {shard[0]} of {shard[1]}, by SLURM_ARRAY_TASK_ID"
        err.print(line, style="yellow", markup=False)
    return shard


def _jobs(text: str) -> int | Literal["auto"]:
    """The value of ``--jobs``."""
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise ValueError(f"--jobs must be auto or a number from 1 up, got {text!r}")
    return int(text)


class ReadingBar(Bars):
    """A bar on stderr while an input is read, and a line on stdout when it is done."""

    def __init__(self) -> None:
        super().__init__(bar_for(err))
        self._noted: set[str] = set()
        self.left_out: Counter[str] = Counter()

    def plan(self, todo: batch.Plan) -> None:
        """Remember what folders held besides inputs.

        Args:
            todo: The jobs of the run.
        """
        self.left_out = Counter(todo.left_out)

    def advance(self, frames: int, share: float | None) -> None:
        """Move the bar.

        Args:
            frames: Frames read so far.
            share: The share of the input that is done, 0..1, where it is known.

        Raises:
            KeyboardInterrupt: When the process has been told to end.
        """
        if STOP_REQUESTED.is_set():
            raise KeyboardInterrupt
        super().advance(frames, share)

    def end(self, outcome: batch.Outcome) -> None:
        """Print what became of an input, its notes and its problems.

        Args:
            outcome: What became of it.
        """
        super().end(outcome)
        if outcome.state == "done":
            out.print(f"{outcome.job.name}: {_description(outcome)}", markup=False)
        elif outcome.state == "skipped":
            out.print(f"{outcome.job.name}: done before, left as it is", markup=False)
        elif outcome.state == "left":
            out.print(f"{outcome.left_to}", markup=False)
        # The same note often holds for every input; once is enough.
        for note in outcome.notes:
            if note not in self._noted:
                err.print(f"mien: note: {note}", style="yellow", markup=False)
                self._noted.add(note)
        for problem in outcome.problems:
            err.print(f"mien: {problem}", style="red", markup=False)


def _description(outcome: batch.Outcome) -> str:
    """What a job gave, in one line."""
    rows = outcome.rows
    parts = [_counted(outcome.frames, "frame"), _counted(len(outcome.tracks), "face")]
    if outcome.people:
        parts.append("1 person" if outcome.people == 1 else f"{outcome.people} people")
    if rows[Status.no_face]:
        parts.append(f"{rows[Status.no_face]} without a face")
    if rows[Status.doubtful]:
        parts.append(f"{_counted(rows[Status.doubtful], 'row')} doubtful")
    if rows[Status.unreadable]:
        parts.append(f"{rows[Status.unreadable]} unreadable")
    files = ", ".join(str(path) for path in outcome.files)
    return f"{', '.join(parts)}; {outcome.seconds:.1f} s; {files}"


def _counted(count: int, noun: str) -> str:
    """A number and its noun, with an s where it is not one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _summary(outcomes: list[batch.Outcome], left_out: str = "") -> None:
    """Print the closing line, and exit with the code that goes with it.

    Args:
        outcomes: What became of the jobs.
        left_out: What folders held besides inputs, in words.

    Raises:
        typer.Exit: Where something failed, was damaged, or is left to another run.
    """
    count: Counter[str] = Counter(outcome.state for outcome in outcomes)
    counts = [f"{count[state]} {words}" for state, words in _STATES.items() if count[state]]
    damaged = 0
    for outcome in outcomes:
        # A failed one has problems, too, and is counted as failed.
        if outcome.state != "failed" and outcome.problems:
            damaged += 1
    line = ", ".join(counts)
    if damaged:
        line += f"; {damaged} of those read with problems, see above"
    if left_out:
        line += f"; not read: {left_out}"
    out.print(line, markup=False)
    # Named again at the end, where a long run's earlier lines are out of sight.
    for outcome in outcomes:
        if outcome.state == "failed":
            err.print(f"failed: {outcome.job.name}", style="red", markup=False)
    if count["failed"] or damaged:
        raise typer.Exit(1)
    if count["left"]:
        raise typer.Exit(LEFT)
