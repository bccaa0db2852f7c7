"""Commands on studies: `mien study init`, `run`, and each step by itself."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mien.cli.run import ReadingBar
from mien.cli.terminal import err, handle_errors, out

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "baseline",
    "contrasts",
    "demo",
    "epochs",
    "groups",
    "init",
    "resample",
    "rows",
    "run",
    "segments",
    "summaries",
    "synchrony",
]

_Table = Annotated[
    Path, typer.Argument(metavar="TABLE", help="A table of the step before: parquet, csv or jsonl.")
]
_Out = Annotated[
    Path,
    typer.Option("--out", metavar="FILE", help="The table to write, by its suffix."),
]
_Settings = Annotated[
    Path | None,
    typer.Option(
        "--study", metavar="STUDY.yaml", help="Take the settings of this step from a study file."
    ),
]
_NOTHING_LEFT: Final = "nothing half-written is left, and films that were read are kept"


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the films and study.yaml go.")
    ],
) -> None:
    """Draw the films of a small study whose truth is known, to try studies on.

    Five drawn people, at rest and while they hear jokes. truth.csv says when each of them smiles,
    wears a mask or sits in the dark.
    """
    with handle_errors():
        from mien.demo.study import draw_study

        path = draw_study(folder, say=_say)
        out.print(f"{path}: run it with `mien study run`", markup=False)


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of the films or tables.")
    ],
) -> None:
    """Write a first study.yaml from the films or tables in a folder.

    Edit it, then run it.
    """
    with handle_errors():
        _check_installed()
        from mien.study.project.begin import begin_study

        for path in begin_study(folder):
            out.print(str(path), markup=False)


def run(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the tables; made if missing.")
    ],
) -> None:
    """Read a study's films, and write its tables: rows, segments, summaries and so on.

    Films that an earlier run read are kept. The tables appear together at the end.
    """
    with handle_errors(_NOTHING_LEFT):
        _check_installed()
        from mien.study.project.films import Films
        from mien.study.project.run import run_study

        with closing(ReadingBar()) as bar:
            result = run_study(study, folder, Films(bar), _say)
        for note in result.notes:
            err.print(f"note: {note}", style="yellow", markup=False)
        names = ", ".join(path.name for path in result.files)
        state = "done before" if result.is_old else "done"
        out.print(f"{state}: {folder}: {names}", markup=False)


def rows(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="The table of a film.")],
    path: _Out,
    participant: Annotated[str, typer.Option(help="Whose rows to make.")],
    condition: Annotated[str, typer.Option(help="The condition of the film.")] = "",
    session: Annotated[str, typer.Option(help="The session of the film.")] = "",
    faces: Annotated[
        str,
        typer.Option(
            metavar="one|largest|person|N",
            help="Which face is the participant's: a number, or a column person.",
        ),
    ] = "one",
    study: _Settings = None,
) -> None:
    """Make rows: the participant in every frame, how long it stands, and whether it is usable."""
    with handle_errors():
        _check_installed()
        from mien.study.edits.beside import edits_note, read_edited_table
        from mien.study.rows.people import People, participant_rows
        from mien.study.rows.usable import usable_line
        from mien.study.strict import checked

        number = {int(faces): participant} if faces.isdecimal() else {}
        people = checked(People, faces="map" if number else faces, map=number)
        keys = {"participant": participant, "condition": condition, "session": session}
        keys["recording"] = table.stem
        film = read_edited_table(table)
        note = edits_note(table, film)
        if note:
            err.print(f"note: {note}", style="yellow", markup=False)
        made = participant_rows(film, keys, people, _settings_of(study, "usable"))
        _save(made, path, "rows")
        out.print(usable_line(made))


def baseline(
    table: _Table,
    path: _Out,
    span: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="FROM TO", help="Seconds of each recording that are the baseline."),
    ] = None,
    condition: Annotated[
        str | None, typer.Option(help="The condition that is the baseline.")
    ] = None,
    quantile: Annotated[
        float | None, typer.Option(help="Share of the time that action units are lower.")
    ] = None,
    z: Annotated[
        bool, typer.Option("--z", help="Divide by the baseline's robust deviation, too.")
    ] = False,
    study: _Settings = None,
) -> None:
    """Take what is normal for each person off their scores."""
    with handle_errors():
        _check_installed()
        from mien.study.rows.baseline import Baseline, correct_baseline
        from mien.study.strict import checked

        settings = _settings_of(study, "baseline")
        if settings is None:
            given: dict[str, object] = {"span": span, "condition": condition, "quantile": quantile}
            kinds = [name for name, value in given.items() if value is not None]
            if len(kinds) != 1:
                raise ValueError("give one of --span, --condition, --quantile or --study")
            method = "z" if z else "subtract"
            settings = checked(Baseline, of=kinds[0], method=method, **given)
        _step(table, path, "rows", lambda rows: correct_baseline(rows, settings))


def segments(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Rows, or rows off baseline.")],
    path: _Out,
    study: _Settings = None,
) -> None:
    """Find segments of expressions and action units, smiles and blinks in rows."""
    with handle_errors():
        _check_installed()
        from mien.study.episodes.segments import find_segments

        settings = _settings_of(study, "segments")
        _step(table, path, "segments", lambda rows: find_segments(rows, settings))


def summaries(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Rows, or epochs.")],
    path: _Out,
    segments: Annotated[
        Path, typer.Option("--segments", metavar="TABLE", help="The segments of the same rows.")
    ],
    study: _Settings = None,
) -> None:
    """Summarize rows and their segments: one row per participant, condition and session.

    Of epochs, one row per event.
    """
    with handle_errors():
        _check_installed()
        import mien
        from mien.study.statistics.summaries import summarize, summarize_epochs

        settings = _settings_of(study, "summaries")
        events = mien.read_table(segments)
        # So that what was looked for and never seen has a count of 0.
        events.attrs["segments"] = events.attrs["dictionary"].get("segments", {})

        def summary(rows: "pd.DataFrame") -> "pd.DataFrame":
            if "trial" in rows:
                rows.attrs["epochs"] = rows.attrs["dictionary"].get("epochs", {})
                return summarize_epochs(rows, events, settings)
            return summarize(rows, events, settings)

        _step(table, path, "summaries", summary)


def epochs(
    table: _Table,
    events: Annotated[
        Path,
        typer.Argument(
            metavar="EVENTS", help="TSV or CSV: onset, duration, trial_type; or ELAN's .eaf."
        ),
    ],
    path: _Out,
    study: _Settings = None,
    tier: Annotated[
        str | None, typer.Option(metavar="NAME", help="The tier of an ELAN file.")
    ] = None,
) -> None:
    """Cut rows around events."""
    with handle_errors():
        _check_installed()
        from mien.study.episodes.epochs import cut_epochs
        from mien.study.episodes.events import read_events

        settings = _settings_of(study, "epochs")
        known = read_events(events, tier)
        _step(table, path, "epochs", lambda rows: cut_epochs(rows, known, settings))


def resample(
    table: _Table,
    path: _Out,
    rate: Annotated[float, typer.Option(metavar="HZ", help="Samples per second.")],
) -> None:
    """Bring scores to a fixed rate, with an anti-aliasing filter."""
    with handle_errors():
        _check_installed()
        from mien.study.rows.resample import resample as resampled

        _step(table, path, "resampled", lambda rows: resampled(rows, rate))


def groups(
    table: _Table,
    path: _Out,
    by: Annotated[
        str, typer.Option(metavar="COLUMNS", help="What tells groups apart, comma-separated.")
    ] = "condition,session",
    study: _Settings = None,
) -> None:
    """Means over people with intervals, from summaries."""
    with handle_errors():
        _check_installed()
        from mien.study.statistics.contrasts import group_means

        settings = _settings_of(study, "summaries")
        columns = list(filter(None, map(str.strip, by.split(","))))
        _step(table, path, "groups", lambda made: group_means(made, columns, settings))


def contrasts(
    table: _Table,
    path: _Out,
    pairs: Annotated[
        list[str],
        typer.Option("--pair", metavar="A,B", help="Conditions; b minus a. May be repeated."),
    ],
    study: _Settings = None,
) -> None:
    """Compare conditions within people, from summaries."""
    with handle_errors():
        _check_installed()
        from mien.study.statistics.contrasts import contrast

        settings = _settings_of(study, "summaries")
        given = [_pair(text) for text in pairs]
        _step(table, path, "contrasts", lambda made: contrast(made, given, settings=settings))


def synchrony(
    first: _Table,
    second: Annotated[Path, typer.Argument(metavar="TABLE", help="The rows of the other person.")],
    path: _Out,
    study: _Settings = None,
) -> None:
    """Measure the synchrony of two people on one clock, from the rows of each."""
    with handle_errors():
        _check_installed()
        import mien
        from mien.study.statistics.synchrony import measure_synchrony

        settings = _settings_of(study, "synchrony")
        other = mien.read_table(second)
        _step(first, path, "synchrony", lambda rows: measure_synchrony(rows, other, settings))


def _pair(text: str) -> tuple[str, str]:
    a, comma, b = text.partition(",")
    if not (a and comma and b):
        raise ValueError(f"--pair takes two conditions with a comma between, got {text!r}")
    return a, b


def _check_installed() -> None:
    from importlib.util import find_spec

    from mien.errors import MissingExtraError

    if find_spec("scipy") is None or find_spec("yaml") is None:
        raise MissingExtraError("study", "mien study")


def _settings_of(study: Path | None, key: str) -> Any:
    """The settings of a step in a study file; None for the defaults."""
    if study is None:
        return None
    from mien.study.project.settings import read_study

    return getattr(read_study(study), key)


def _step(
    table: Path, path: Path, kind: str, step: "Callable[[pd.DataFrame], pd.DataFrame]"
) -> None:
    """Read a table, take a step, and write its result."""
    import mien

    _save(step(mien.read_table(table)), path, kind)


def _save(frame: "pd.DataFrame", path: Path, kind: str) -> None:
    from mien.study.tables import save

    save(frame, path, kind)
    out.print(f"{path}: {len(frame)} rows", markup=False)


def _say(line: str) -> None:
    out.print(line, markup=False)
