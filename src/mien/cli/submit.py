"""Commands for submissions: check one against the official list, list the formats."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.terminal import err, handle_errors, out

__all__ = ["check", "formats"]


def check(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The submission: a file, or the folder of a file per video."
        ),
    ],
    listed: Annotated[
        Path,
        typer.Option(
            "--list", metavar="OFFICIAL", help="The challenge's own list of the rows it asks for."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="See mien submit formats; told by the header if left out.",
        ),
    ] = None,
) -> None:
    """Find what is wrong with a submission before the challenge does."""
    from mien.data.frame_lists import read_list
    from mien.data.submissions.check import check as defects_of
    from mien.data.submissions.check import guess
    from mien.data.submissions.formats import format_named

    with handle_errors():
        form = format_named(name or guess(file))
        official = read_list(listed)
        defects = defects_of(file, form.name, official)
        if not defects:
            out.print(f"{file}: {len(official)} rows, no defect ({form.name})", markup=False)
            return
        for defect in defects:
            for example in defect.examples:
                out.print(f"{defect.kind}: {example}", markup=False)
            if more := defect.count - len(defect.examples):
                out.print(f"{defect.kind}: and {more} more", markup=False)
        told = ", ".join(f"{defect.kind} {defect.count}" for defect in defects)
        err.print(
            f"mien: {file} is not a sound {form.name} submission: {told}", style="red", markup=False
        )
        raise typer.Exit(1)


def formats() -> None:
    """List the formats: what a row answers, and the header."""
    from mien.data.submissions.formats import FORMATS, answers

    for one in FORMATS.values():
        home = (
            ""
            if one.folder is None
            else f"; a file per video, {one.folder + '/' if one.folder else ''}<video>.txt"
        )
        out.print(f"{one.name:14}{one.challenge:14}{answers(one)}{home}", markup=False)
        out.print(
            f"{'':28}{one.header or 'no header'}{f'; {one.note}' if one.note else ''}", markup=False
        )
