"""The command line: parse, call one public function, print.

Exit codes:

- 0: all done;
- 1: something failed or was damaged, or the standard output could not be written (a reader who
  left, as ``head`` does, is no failure);
- 2: wrong usage;
- 3: nothing failed, and some of the work is left to another run;
- 130: stopped by Ctrl-C, 143 by SIGTERM: 128 and the number of the signal.
"""

from typing import Annotated, Final

import typer

import mien
from mien.cli import app as pages
from mien.cli import bundles as zoo
from mien.cli import data, live, recipe, run, study, submit, tables, train
from mien.cli.terminal import Group, out

__all__ = ["app"]

_NOTICE: Final = (
    "mien works on this machine alone: no network unless you say `bundles pull`, or name an "
    "address (such as s3://) or a stream; no telemetry, no picture of a face left behind unless "
    "you ask for one. Tell people when you read their faces. In the EU, inferring emotions at "
    "work or in education is forbidden (AI Act, Article 5(1)(f))."
)

app = typer.Typer(
    cls=Group,
    help=f"Read affect from faces: expressions, valence and arousal, action units.\n\n{_NOTICE}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_sets = typer.Typer(
    help="Data sets: stand-ins to rehearse with, rendered heads, super-resolution.",
    no_args_is_help=True,
)
studies = typer.Typer(
    help="Studies: from films of people to the tables of a paper.", no_args_is_help=True
)
submissions = typer.Typer(help="Submissions to challenges.", no_args_is_help=True)
bundles = typer.Typer(
    help="Networks: those that come with mien, those that can be pulled, and their cards.",
    no_args_is_help=True,
)


def _version(requested: bool) -> None:
    if requested:
        out.print(f"mien {mien.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# Help lists commands in the order in which they are added.
for _command in (
    run.analyze,
    run.plan,
    run.status,
    live.live,
    pages.app,
    pages.serve,
    tables.convert,
    tables.report,
    tables.score,
    run.demo,
    run.doctor,
    train.train,
    train.evaluate,
    train.export,
    train.features,
    recipe.reproduce,
):
    app.command()(_command)
app.add_typer(studies, name="study")
for _step in (
    study.demo,
    study.init,
    study.run,
    study.rows,
    study.baseline,
    study.segments,
    study.summaries,
    study.epochs,
    study.resample,
    study.groups,
    study.contrasts,
    study.synchrony,
):
    studies.command()(_step)
app.add_typer(bundles, name="bundles")
bundles.command("list")(zoo.bundles_list)
for _bundled in (zoo.show, zoo.pull, zoo.verify, zoo.add, zoo.remove, zoo.pack):
    bundles.command()(_bundled)
app.add_typer(data_sets, name="data")
data_sets.command("standin")(data.standin)
data_sets.command("render")(data.render)
data_sets.command("superres")(data.superres)
app.add_typer(submissions, name="submit")
submissions.command("write")(submit.write)
submissions.command("check")(submit.check)
submissions.command("score")(submit.score)
submissions.command("formats")(submit.formats)
