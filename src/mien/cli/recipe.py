"""The command that runs a paper's system. Torch is imported only when it runs."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.cli.data import FormerFaces, face_table_of
from mien.cli.terminal import err, handle_errors, out
from mien.cli.train import needs_extra
from mien.documents import at_home
from mien.errors import DataError
from mien.recipes.names import recipes, title_of

__all__ = ["reproduce"]


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|FILE", help="A recipe, or a YAML file; without one, they are listed."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="KEY=PATH", help="Where the recipe's data is."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="RUN", help="Folder of the run; made if missing."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change an option or any dotted key."),
    ] = None,
    small: Annotated[
        bool,
        typer.Option(
            "--small",
            help="The smaller version that the recipe names for two cores; for rehearsals.",
        ),
    ] = False,
    standin: Annotated[
        bool, typer.Option("--standin", help="Generate the data that is not given, to rehearse.")
    ] = False,
    face_table: Annotated[
        Path | None,
        typer.Option(
            "--face-table",
            metavar="TABLE",
            help="Real labelled faces for the stand-ins; without it, drawn ones.",
        ),
    ] = None,
    size: Annotated[int | None, typer.Option(help="Training rows of the stand-ins.")] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the recipe with every default, and exit.")
    ] = False,
    planned: Annotated[
        bool,
        typer.Option("--plan", help="Print what its networks cost on the official data, and exit."),
    ] = False,
    throughput: Annotated[
        float, typer.Option(help="Of --plan: assumed 10^12 multiply-accumulates per second.")
    ] = 5.0,
    faces: FormerFaces = None,
) -> None:
    """Run a paper's system, and compare with what it claims.

    Run again, it does only what is missing or has changed.
    """
    with handle_errors("finished steps are kept; the same command resumes"):
        if name is None:
            for recipe in recipes():
                out.print(f"{recipe}: {title_of(recipe)}", markup=False)
            return
        if not show:
            # Loading torch takes seconds, in which nothing else would be shown.
            err.print(f"{name}: reading the recipe and its parts", markup=False)
        with needs_extra("mien reproduce"):
            from mien.cli.bars import Bar
            from mien.recipes.plan import markdown_plan
            from mien.recipes.report import markdown
            from mien.recipes.reproduce import reproduce as run
            from mien.recipes.reproduce import shown
            from mien.recipes.schema import read_recipe
        table = face_table_of(face_table, faces)
        # Only now: values are read as YAML, whose reader comes with an extra.
        changed = _pairs(changes or (), "--set")
        if show:
            out.print(shown(name, changed, small=small), markup=False, end="")
            return
        if planned:
            recipe_read = read_recipe(name, changed, small=small)
            out.print(markdown_plan(recipe_read, throughput), markup=False, end="")
            return
        if folder is None:
            raise ValueError("give --out RUN, the folder of the run; --show prints the recipe")
        roots = {}
        for key, value in _split(data or (), "--data").items():
            roots[key] = at_home(value, f"--data {key}")
        with closing(Bar()) as bar:
            comparison = run(
                name,
                roots,
                folder,
                changes=changed,
                small=small,
                standin=standin,
                faces=table,
                size=size,
                note=_note,
                progress=bar,
            )
        out.print(markdown(comparison), markup=False, end="")


def _note(line: str) -> None:
    err.print(line, markup=False)


def _split(pairs: list[str] | tuple[str, ...], option: str) -> dict[str, str]:
    """Keys and values of ``KEY=VALUE`` pairs."""
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        # The value may hold further equals signs, as paths do.
        if not (key and equals and value):
            raise ValueError(f"{option} {pair}: write KEY=VALUE")
        if key in values:
            raise ValueError(f"{option} {key}: given twice")
        values[key] = value
    return values


def _pairs(pairs: list[str] | tuple[str, ...], option: str) -> dict[str, Any]:
    """Keys and values as YAML reads them, so that 3 is a number and [0, 1] a list."""
    from mien.documents.yaml import parse_yaml

    values = {}
    try:
        for key, text in _split(pairs, option).items():
            values[key] = parse_yaml(text, f"{option} {key}", "write KEY=VALUE")
    except DataError as error:
        # On the command line it is wrong usage, not wrong data.
        raise ValueError(str(error)) from error
    return values
