"""Commands for submissions: write one from tables, check it, score it, list the formats."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.terminal import err, handle_errors, out

__all__ = ["check", "formats", "score", "write"]


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
        # The first few of each kind; a wrong column would give thousands.
        for defect in defects:
            for example in defect.examples:
                out.print(f"{defect.kind}: {example}", markup=False)
            more = defect.count - len(defect.examples)
            if more:
                out.print(f"{defect.kind}: and {more} more", markup=False)
        counts = ", ".join([f"{defect.kind} {defect.count}" for defect in defects])
        line = f"mien: {file} is not a sound {form.name} submission: {counts}"
        err.print(line, style="red", markup=False)
        raise typer.Exit(1)


def write(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE", help="Tables that mien analyze wrote, of all films of the list."
        ),
    ],
    listed: Annotated[
        Path,
        typer.Option(
            "--list", metavar="OFFICIAL", help="The challenge's own list of the rows it asks for."
        ),
    ],
    name: Annotated[str, typer.Option("--format", metavar="NAME", help="See mien submit formats.")],
    target: Annotated[
        Path,
        typer.Option(
            "--out", metavar="PATH", help="The file, or the folder of a file per video, to write."
        ),
    ],
) -> None:
    """Write the file that a challenge takes from tables of its films or pictures.

    A listed frame without a face is filled from its neighbours. The file is checked before the
    command ends.
    """
    from mien.data.frame_lists import read_list
    from mien.data.submissions.check import check as defects_of
    from mien.data.submissions.formats import format_named
    from mien.data.submissions.from_tables import listed_scores
    from mien.data.submissions.write import write as write_rows
    from mien.errors import OutputError
    from mien.outputs.read import read_table

    with handle_errors("nothing was written"):
        form = format_named(name)
        official = read_list(listed)
        scores = listed_scores(form, [read_table(path) for path in tables], official)
        written = write_rows(form.name, official, scores, target)
        defects = defects_of(target, form.name, official)
        if defects:
            defect = f"{defects[0].kind} {defects[0].examples[0]}"
            raise OutputError(f"{target}: {defect}; this is a defect of mien, please report it")
        filled = f", {written.filled} of them filled from neighbours" if written.filled else ""
        out.print(f"{target}: {written.rows} rows{filled}, no defect ({form.name})", markup=False)


def score(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A submission, one's own or another team's: a file or folder."
        ),
    ],
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            metavar="LABELS",
            help="The labels of the same rows, in the same layout: the challenge's annotations.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="See mien submit formats; by default the header decides.",
        ),
    ] = None,
) -> None:
    """Score a submission by the challenge's formula, with an interval over recordings."""
    from mien.data.submissions.check import guess
    from mien.data.submissions.score import score_submission

    with handle_errors():
        protocol = name or guess(file)
        result = score_submission(file, labels, protocol)
        out.print(
            f"{protocol}: {result.value:.4f} (95 % {result.low:.4f} to {result.high:.4f}), "
            f"{result.rows} labelled rows",
            markup=False,
        )
        for part, value in result.parts.items():
            out.print(f"  {part} {value:.4f}", markup=False)
        if result.unanswered:
            line = f"mien: {result.unanswered} labelled rows have no answer and were left out"
            err.print(line, style="yellow", markup=False)


def formats() -> None:
    """List the formats: what a row answers, and the header."""
    from mien.data.submissions.formats import all_formats, answers

    with handle_errors():
        forms = all_formats()
    for form in forms.values():
        layout = ""
        if form.folder is not None:
            folder = f"{form.folder}/" if form.folder else ""
            layout = f"; a file per video, {folder}<video>.txt"
        note = f"; {form.note}" if form.note else ""
        out.print(f"{form.name:14}{form.challenge:14}{answers(form)}{layout}", markup=False)
        out.print(f"{'':28}{form.header or 'no header'}{note}", markup=False)
