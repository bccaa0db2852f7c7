"""Commands that read faces, try that on a portrait, and check the installation."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import typer

from mien import batch
from mien.analysis.options import Choice, Options
from mien.batch.many import Bars
from mien.bundles.store import AFFECT, FACES, QUALITY
from mien.cli.terminal import err, fail, handle_errors, out
from mien.demo import film
from mien.doctor import examine
from mien.faces.people import Count
from mien.outputs.anonymise.hiding import check_anonymise
from mien.progress import STOP_REQUESTED, bar_for
from mien.records import Status
from mien.sources import summarize

__all__ = ["ReadingBar", "analyze", "demo", "doctor", "faces_of"]

LEFT: Final = 3
"""Exit code where nothing failed and another run is still writing some of the tables."""
# States of a job in words, in the order of the closing line.
_STATES: Final = {
    "done": "done",
    "skipped": "skipped",
    "left": "left to another run",
    "failed": "failed",
}


def analyze(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Photos, videos, folders, patterns, or camera:0."),
    ],
    folder: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Folder for tables and overlays; made if missing."
        ),
    ],
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="Table formats, comma-separated: csv, parquet, jsonl, csv:de, openface, fex.",
        ),
    ] = "csv",
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay", help="Also draw what was read: a video (with sound) or a picture."
        ),
    ] = False,
    anonymise: Annotated[
        str | None,
        typer.Option(
            metavar="blur|drawn",
            help=(
                "Hide all faces that were found in overlays, blurred or under a drawn face that "
                "shows what was read."
            ),
        ),
    ] = None,
    smoothing: Annotated[
        float,
        typer.Option(
            "--smooth",
            metavar="SECONDS",
            help=(
                "Gaussian smoothing per face, by its full width at half maximum; "
                "at most 0.15 keeps short events; AU45 stays as it is."
            ),
        ),
    ] = 0.0,
    faces: Annotated[
        str, typer.Option(metavar="largest|all|N", help="Which faces of each frame to read.")
    ] = "all",
    every: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Read one frame per so many seconds; 0 reads all."),
    ] = 0.0,
    compounds: Annotated[
        bool,
        typer.Option(
            "--compounds", help="Also score compound expressions, e.g. happily surprised."
        ),
    ] = False,
    bundle: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="The network that reads affect.")
    ] = AFFECT,
    detector: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="The network that finds faces.")
    ] = FACES,
    stream: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Which video stream to read where a file holds several, from 0."
        ),
    ] = None,
    rotate: Annotated[
        str,
        typer.Option(
            metavar="auto|0|90|180|270",
            help="Turn pictures clockwise; by default mien only says when film seems turned.",
        ),
    ] = "check",
    min_face: Annotated[
        int | None,
        typer.Option(
            "--min-face",
            metavar="PX",
            help=(
                "Look closer, for faces from PX px wide; by default about 5% of the frame's longer "
                "side, at most 96. Half the width costs four times as much per search."
            ),
        ),
    ] = None,
    features: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE.parquet",
            help="External features of the films, for a system that learned from such.",
        ),
    ] = [],  # noqa: B006
    quality: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH|none",
            help="The network that says how far readings can be trusted; none leaves it out.",
        ),
    ] = QUALITY,
    no_abstain: Annotated[
        bool,
        typer.Option(
            "--no-abstain",
            help="Keep the labels of doubtful rows, and action units of covered regions.",
        ),
    ] = False,
    points: Annotated[
        bool, typer.Option("--points", help="Also write the five points of each face.")
    ] = False,
    people: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help=(
                "Number the people of each film across cuts: how many there are, or auto. Computes "
                "biometric data, in memory alone; docs/howto/people.md says what the law asks."
            ),
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="auto|onnxruntime|openvino",
            help="What runs the network that reads affect; auto: onnxruntime.",
        ),
    ] = "auto",
) -> None:
    """Read faces: one row per face per frame, in a table.

    Each video gets a table of its own, and so do the photos of a folder; a data dictionary
    beside it says what the columns mean. What an earlier run finished is skipped, and what another
    run is writing is left to it.
    """
    with handle_errors():
        # Options check themselves, and name the nearest of what they know.
        turn = int(rotate) if rotate.isdecimal() else rotate
        options = Options(
            bundle=bundle,
            detector=detector,
            engine=engine,
            faces=faces_of(faces),
            every=every,
            video_stream=stream,
            min_face=min_face,
            rotate=turn,  # type: ignore[arg-type]
            smoothing=smoothing,
            compounds=compounds,
            features=features,
            quality=quality,
            abstain=not no_abstain,
            points=points,
            people=_people(people),
        )
        names = list(filter(None, map(str.strip, formats.split(","))))
        with closing(ReadingBar()) as bar:
            outcomes = batch.run(
                inputs,
                folder,
                options=options,
                formats=names,
                overlay=overlay,
                anonymise=check_anonymise(anonymise),
                progress=bar,
            )
    _summary(outcomes, summarize(bar.left_out))


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


def faces_of(text: str) -> Choice:
    """Read the value of ``--faces``.

    Args:
        text: What the user gave.

    Returns:
        What `Options.faces` takes.

    Raises:
        ValueError: It is neither a known word nor a number.
    """
    if text in ("all", "largest"):
        return text  # type: ignore[return-value]
    if not text.isdecimal():
        raise ValueError(f"--faces must be largest, all or a number from 1 up, got {text!r}")
    return int(text)


def _people(text: str | None) -> Count | None:
    """The value of ``--people``."""
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    if not text.isdecimal():
        raise ValueError(f"--people must be auto or a number from 1 up, got {text!r}")
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
