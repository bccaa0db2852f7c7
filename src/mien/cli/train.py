"""Commands that train, evaluate, export and cache features.

What they need is imported when one of them runs, not before: torch takes seconds.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from mien.cli.run import chosen_shard
from mien.cli.terminal import err, handle_errors, out
from mien.errors import MissingExtraError
from mien.progress import leads_group

__all__ = ["evaluate", "export", "features", "needs_extra", "train"]

Settings = Annotated[
    Path | None,
    typer.Argument(
        metavar="SETTINGS", help="A YAML file; mien train --show prints one to start from."
    ),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="SETTINGS",
        help="A YAML file as for mien train; its data and tasks are used.",
    ),
]
Skip = Annotated[
    bool,
    typer.Option(
        "--skip-unreadable",
        help="Leave out pictures that cannot be read; they are counted and named.",
    ),
]


@contextmanager
def needs_extra(command: str, extra: str = "train") -> Iterator[None]:
    """Name the optional install that an import inside lacks.

    Args:
        command: What needs it, for the message.
        extra: The extra that brings the modules imported inside.

    Yields:
        Nothing.

    Raises:
        MissingExtraError: A module of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # A module of mien's own that is missing is a fault, not an extra.
        if (error.name or "").partition(".")[0] == "mien":
            raise
        raise MissingExtraError(extra, f"{command} ({error.name})") from error


def train(
    settings: Settings = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="RUN", help="Folder of the run; made if missing."),
    ] = None,
    show: Annotated[
        bool,
        typer.Option(
            "--show",
            help="Print the settings with every default, or a file to start from, and exit.",
        ),
    ] = False,
) -> None:
    """Train a network on labelled faces.

    Started again with the same settings and folder, a stopped run resumes.
    """
    with handle_errors(f"the run is kept; to resume: mien train {settings} --out {folder}"):
        if not show and (settings is None or folder is None):
            raise ValueError(
                "give a settings file and --out RUN; mien train --show prints a file to start from"
            )
        with needs_extra("mien train"):
            from mien.cli.bars.training import TrainingBar
            from mien.train.loop import fit
            from mien.train.networks.encoders.contract import fill_pixels
            from mien.train.settings.template import template
            from mien.train.settings.training import read_settings, write_settings
        if show:
            text = template()
            if settings is not None:
                text = write_settings(fill_pixels(read_settings(settings)))
            out.print(text, markup=False, end="")
            return
        assert settings is not None and folder is not None  # noqa: PT018
        with closing(TrainingBar()) as bar:
            run = fit(read_settings(settings), folder, bar)
        if not leads_group():
            return
        best = f"best after epoch {run.facts['best_epoch']}"
        cost = f"{run.facts['seconds']} s of training"
        out.print(f"{run.folder}: finished; {best}; {cost}", markup=False)


def evaluate(
    bundles: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE|RUN", help="Names or folders; several are one set-up's seeds."
        ),
    ],
    data: Data,
    split: Annotated[str, typer.Option(metavar="train|val|test", help="Which faces.")] = "val",
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Also compare the groups of people that this column names."
        ),
    ] = None,
    protocols: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="Also a challenge's formula: abaw2024.mtl, or by edition abaw7.mtl.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder for the report: Markdown, JSON, pictures."
        ),
    ] = None,
    skip: Skip = False,
) -> None:
    """Measure how good scores are: every measure with a 95 % interval, as Markdown."""
    with handle_errors("no report was written"):
        with needs_extra("mien evaluate", "evaluate"):
            from mien.cli.bars import Bar
            from mien.evaluation.report import markdown
            from mien.train.evaluate_models import judge_models, write_judged
            from mien.train.settings.training import read_settings
        with closing(Bar()) as bar:
            evaluation, about = judge_models(
                bundles,
                read_settings(data),
                split=split,
                by=by,
                protocols=protocols or (),
                skip_unreadable=skip,
                note=_note,
                progress=bar,
            )
        # The report alone goes to stdout, so that it can be piped.
        out.print(markdown(evaluation, about), markup=False, end="")
        if folder is not None:
            paths = write_judged(evaluation, about, folder)
            _note(", ".join(str(path) for path in paths))


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that mien train wrote.")],
    folder: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder of the bundle; a bundle in it is replaced.",
        ),
    ],
    bits: Annotated[
        int,
        typer.Option(
            metavar="8|16", help="8: half the size of 16, faster where it can, a little less sure."
        ),
    ] = 16,
    features: Annotated[
        bool, typer.Option("--features", help="The network gives its features as well.")
    ] = False,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Also measure it on blurred, noisy, tiny, ... pictures."),
    ] = False,
) -> None:
    """Make a bundle of a finished run: network, card and README.

    Its scores are measured on the run's validation split.
    """
    with handle_errors("no bundle was written"):
        if bits not in (8, 16):
            raise ValueError(f"--bits must be 8 or 16, got {bits}")
        with needs_extra("mien export"):
            from mien.cli.bars import Bar
            from mien.train.bundle.make import make_bundle
            from mien.train.runs.folder import RunFolder
        # Typer takes no Literal of numbers, so it was checked above.
        width = cast(Literal[8, 16], bits)
        with closing(Bar()) as bar:
            make_bundle(
                RunFolder(run),
                folder,
                bits=width,
                features=features,
                robustness=robustness,
                note=bar.note,
                progress=bar,
            )


def features(
    bundle: Annotated[
        str,
        typer.Argument(metavar="BUNDLE", help="Name or folder of a bundle that exposes features."),
    ],
    data: Data,
    folder: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder of the cache; what is in it is not computed again.",
        ),
    ],
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Compute one of N parts, such as 3/8; in a Slurm array, by default the task's "
            "own. When all are there, the same command without it joins them.",
        ),
    ] = None,
    skip: Skip = False,
) -> None:
    """Compute features and raw outputs of every picture once, to train heads on.

    They are kept on disk.
    """
    with handle_errors("what was computed is kept; the same command resumes"):
        part = chosen_shard(shard)
        # All of it is no part.
        part = None if part == (1, 1) else part
        with needs_extra("mien features"):
            from mien.cli.bars import Bar
            from mien.train.features import cache_features
            from mien.train.settings.training import read_settings
        with closing(Bar()) as bar:
            cache, faces = cache_features(
                bundle,
                read_settings(data),
                folder,
                shard=part,
                skip_unreadable=skip,
                note=_note,
                progress=bar,
            )
        if part is not None:
            out.print(f"part {part[0]} of {part[1]}: features of {faces} faces", markup=False)
            return
        out.print(
            f"{cache.folder}: {cache.features.shape[1]} features of {faces} faces", markup=False
        )
        setting = f"{{bundle: {bundle}, cache: {folder}, images: {cache.root}}}"
        out.print(f"to train heads on them: features: {setting}", markup=False)
        if cache.skipped:
            # Only the first ones by name: there may be thousands.
            skipped = ", ".join(cache.skipped[:20])
            _note(f"{len(cache.skipped)} pictures could not be read and were left out: {skipped}")


def _note(line: str) -> None:
    """Print on stderr what is no result."""
    err.print(line, markup=False)
