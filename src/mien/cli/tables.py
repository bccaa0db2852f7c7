"""Commands on tables: `mien convert`, `mien report`, and `mien score`."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.terminal import err, handle_errors, out

__all__ = ["convert", "report", "score"]

_WithoutEdits = Annotated[
    bool,
    typer.Option(
        "--without-edits",
        help="As the tables were written, without the edits beside them (.edits.json).",
    ),
]


def convert(
    tables: Annotated[
        list[Path],
        typer.Argument(metavar="TABLE", help="Tables that mien wrote: .csv, .parquet or .jsonl."),
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMATS",
            help=(
                "Comma-separated: openface, fex, bids, eaf, textgrid, boris, mne, xlsx, sav, dta, "
                "parquet, csv, csv:de, jsonl."
            ),
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the files; else beside the table."),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="bids: the subject; else as sub-LABEL in the path."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="bids: the task; else as task-LABEL in the path."),
    ] = None,
    intensities: Annotated[
        bool,
        typer.Option(
            "--intensities",
            help="openface: also activations as _r on its scale from 0 to 5; no FACS intensities.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there already.")
    ] = False,
    without_edits: _WithoutEdits = False,
) -> None:
    """Convert tables for other programs: annotation, statistics, neuroscience.

    Each table's files appear together, or none of them does.
    """
    with handle_errors("no table is half converted"):
        from mien.exports.convert import convert as convert_table

        names = list(filter(None, map(str.strip, to.split(","))))
        # BIDS names files by subject and task, and not by the table.
        if names == ["bids"]:
            _refuse_same_entities(tables, subject, task)
        else:
            _refuse_same_names(tables, folder)
        for table in tables:
            files = convert_table(
                table,
                names,
                folder,
                subject=subject,
                task=task,
                intensities=intensities,
                overwrite=overwrite,
                edits=not without_edits,
            )
            if not without_edits:
                _note_edits(table)
            out.print(f"{table}: {', '.join(map(str, files))}", markup=False)


def report(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="A folder that `mien analyze` wrote into, or a table in it."
        ),
    ],
    pictures: Annotated[
        bool,
        typer.Option(
            "--thumbnails", help="Also show a picture of each face; reads the films again."
        ),
    ] = False,
    without_edits: _WithoutEdits = False,
) -> None:
    """Write a page per recording beside its table, and report.html for all of them.

    A page is one file that needs no network: timelines, shares, a summary, and a paragraph on
    methods to cite. It holds no picture of a face unless you ask for one.
    """
    with handle_errors("finished pages are kept"):
        from mien.report.pages import report as write_pages

        written = write_pages(
            path,
            pictures=pictures,
            edits=not without_edits,
            progress=lambda page: out.print(str(page), markup=False),
        )
        for line in written.edits:
            err.print(f"mien: note: {line}", style="yellow", markup=False)
        for line in written.left_out:
            err.print(f"mien: note: no page: {line}", style="yellow", markup=False)


def score(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            help="A Parquet file with the column image (encoded pictures, or paths) and, to align "
            "the faces, points.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The Parquet file of the scores.")
    ],
    bundle: Annotated[
        str, typer.Option(metavar="NAME", help="Name or folder of a bundle that reads affect.")
    ] = "mien-s",
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="The engine, as for mien analyze.")
    ] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="On a Ray cluster: its address, auto, or local."),
    ] = None,
) -> None:
    """Score faces that are cut out already: one picture per row of a table.

    The scores have the same rows in the same order, with the table's other columns. The table may
    be larger than memory. Example: mien score crops.parquet --out scores.parquet
    """
    with handle_errors("no scores are written"):
        from mien.cli.bars import Bar
        from mien.evaluation.crop_scores import score_crops
        from mien.progress import named

        with closing(Bar()) as bar:
            counts = score_crops(
                table, output, bundle, engine=engine, ray=ray, progress=named(bar, table.name)
            )
        unreadable = f", {counts.unreadable} of them unreadable" if counts.unreadable else ""
        out.print(f"{output}: {counts.rows} rows{unreadable}", markup=False)


def _note_edits(table: Path) -> None:
    """Say in a line that a table was edited by hand, and how."""
    from mien.study.edits.beside import edits_note, edits_path, read_edited_table

    if edits_path(table).exists():
        note = edits_note(table, read_edited_table(table))
        if note:
            err.print(f"mien: note: {note}", style="yellow", markup=False)


def _refuse_same_entities(tables: list[Path], subject: str | None, task: str | None) -> None:
    """Refuse tables that would be the same recording in BIDS."""
    from mien.exports.bids import Entities

    known: dict[Entities, Path] = {}
    for table in tables:
        entities = Entities.of(table, subject, task)
        other = known.setdefault(entities, table)
        if other is not table:
            raise ValueError(
                f"{other} and {table}: would both be {entities.name()}; "
                "convert them in a command each, with other --subject or --task"
            )


def _refuse_same_names(tables: list[Path], folder: Path | None) -> None:
    """Refuse tables that would be converted to the same files."""
    paths = [table if folder is None else folder / table.name for table in tables]
    stems = [path.with_suffix("") for path in paths]
    for stem in stems:
        if stems.count(stem) > 1:
            raise ValueError(
                f"two tables are called {stem.name}, and their files would be too; "
                "convert them one by one into folders of their own"
            )
