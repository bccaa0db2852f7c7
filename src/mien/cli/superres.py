"""`mien data superres`: a folder of pictures made larger and sharper."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from mien.cli.terminal import err, handle_errors, out
from mien.data.superres import Engine, Ncnn, superresolve
from mien.errors import MissingExtraError, UnknownNameError
from mien.progress import STOP_REQUESTED

__all__ = ["superres"]


def superres(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Folder of pictures; those in its sub-folders count too."
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Folder for the results; same sub-folders, same names, .jpg."
        ),
    ],
    scale: Annotated[int, typer.Option(metavar="1|2|3|4", help="How many times larger.")] = 2,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes; if not given, what suits the engine."),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="ncnn|spandrel", help="ncnn: Real-ESRGAN x4plus on the CPU.")
    ] = "ncnn",
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For spandrel: a network, .safetensors or .pth."),
    ] = None,
    skip: Annotated[
        bool,
        typer.Option("--skip-unreadable", help="Name pictures that cannot be read, and continue."),
    ] = False,
) -> None:
    """Make the pictures of a training set larger and sharper with a super-resolution network.

    Started again, it does only what is missing or has changed.
    """
    with handle_errors("finished pictures are kept; the same command resumes"):
        chosen = _engine(engine, weights)
        facts = [f"{name} {value}" for name, value in chosen.facts().items()]
        out.print(", ".join(facts), markup=False)
        with _bar() as bar:
            task = bar.add_task("pictures", total=None)

            def show(done: int, total: int) -> None:
                if STOP_REQUESTED.is_set():
                    raise KeyboardInterrupt
                bar.update(task, completed=done, total=total)

            summary = superresolve(
                source,
                folder,
                scale=scale,
                workers=workers,
                engine=chosen,
                progress=show,
                skip_unreadable=skip,
            )
    out.print(
        f"{folder}: {summary.done} made, {summary.skipped} were there, "
        f"{len(summary.failed)} could not be read",
        markup=False,
    )
    for line in summary.failed.values():
        err.print(f"mien: {line}", style="red", markup=False)
    if summary.failed:
        raise typer.Exit(1)


def _bar() -> Progress:
    """A bar on stderr that goes away at the end; nothing in a log."""
    return Progress(
        SpinnerColumn(),
        TextColumn("pictures"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def _engine(name: str, weights: Path | None) -> Engine:
    if name not in ("ncnn", "spandrel"):
        raise UnknownNameError("engine", name, ("ncnn", "spandrel"))
    if (name == "spandrel") != (weights is not None):
        raise ValueError("--weights FILE goes with --engine spandrel, and only with it")
    if weights is None:
        return Ncnn()
    # Imported only here, as it loads torch.
    try:
        from mien.train.superres import Spandrel
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "mien":
            raise
        raise MissingExtraError("train", f"the spandrel engine ({error.name})") from error
    return Spandrel(weights)
