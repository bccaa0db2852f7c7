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
            help="See mien submit formats; by default the header decides.",
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
            more = defect.count - len(defect.examples)
            if more:
                out.print(f"{defect.kind}: and {more} more", markup=False)
        counts = ", ".join(f"{defect.kind} {defect.count}" for defect in defects)
        line = f"mien: {file} is not a sound {form.name} submission: {counts}"
        err.print(line, style="red", markup=False)
        raise typer.Exit(1)


def formats() -> None:
    """List the formats: what a row answers, and the header."""
    from mien.data.submissions.formats import FORMATS, answers

    for form in FORMATS.values():
        layout = ""
        if form.folder is not None:
            folder = f"{form.folder}/" if form.folder else ""
            layout = f"; a file per video, {folder}<video>.txt"
        note = f"; {form.note}" if form.note else ""
        out.print(f"{form.name:14}{form.challenge:14}{answers(form)}{layout}", markup=False)
        out.print(f"{'':28}{form.header or 'no header'}{note}", markup=False)
