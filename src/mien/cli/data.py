"""Commands on data: `mien data standin`."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.bars import Bar
from mien.cli.terminal import handle_errors, out

__all__ = ["standin"]


def standin(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="s-aff-wild2, aff-wild2, lsd, c-expr-db, affectnet, raf-db, ferplus, expw or afew-va.",
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
    faces: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Real labelled faces: a CSV or Parquet table, or YAML with a list data. Without: drawn.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same files.")] = 0,
) -> None:
    """Make a stand-in: generated data in the layout of a real data set, to rehearse recipes on. It is no real data."""
    with handle_errors("nothing half-made is left"):
        from mien.data.standins import KINDS, make_standin

        count = (
            KINDS[kind].real
            if size == "real" and kind in KINDS
            else None
            if size in (None, "real")
            else _whole(str(size))
        )
        with closing(Bar()) as bar:
            made = make_standin(kind, folder, size=count, faces=faces, seed=seed, progress=bar)
        out.print(f"{made}: a stand-in for {KINDS[kind].name}; it is no real data", markup=False)


def _whole(size: str) -> int:
    try:
        return int(size)
    except ValueError:
        raise ValueError(f"--size {size}: give a whole number, or real") from None
