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
            help=(
                "s-aff-wild2, aff-wild2, lsd, c-expr-db, affectnet, raf-db, ferplus, expw "
                "or afew-va."
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
    faces: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help=(
                "Real labelled faces: a CSV or Parquet table, or YAML with a list data; "
                "without it, faces are drawn."
            ),
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same files.")] = 0,
) -> None:
    """Make a stand-in: generated data in the layout of a real data set, to rehearse recipes on.

    It is no real data.
    """
    with handle_errors("nothing half-made is left"):
        from mien.data.standins import KINDS, make_standin

        if size == "real":
            # An unknown kind is refused below, with the nearest name.
            count = KINDS[kind].real if kind in KINDS else None
        else:
            count = None if size is None else _whole_number(size)
        with closing(Bar()) as bar:
            root = make_standin(kind, folder, size=count, faces=faces, seed=seed, progress=bar)
        out.print(f"{root}: a stand-in for {KINDS[kind].name}; it is no real data", markup=False)


def _whole_number(size: str) -> int:
    try:
        return int(size)
    except ValueError:
        raise ValueError(f"--size {size}: give a whole number, or real") from None
