"""The films of a study, read to tables; and whether tables can be compared."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien import batch
from mien.analysis.options import Options
from mien.analysis.reader import Reader
from mien.batch.outcome import Progress
from mien.errors import StudyError
from mien.study.project.recordings import Recording, is_film

__all__ = ["Films", "check_alike", "dictionary_of", "scores_of"]


@dataclass(frozen=True, slots=True)
class Films:
    """Reads the films of a study.

    Attributes:
        progress: Hears how reading is getting on.
    """

    progress: Progress | None = None

    def read(
        self,
        recordings: Sequence[Recording],
        root: Path,
        folder: Path,
        options: Mapping[str, Any],
    ) -> dict[str, Path]:
        """Read the films among recordings, but those that an earlier run read.

        Args:
            recordings: Films and tables.
            root: The study's folder, whose folders the tables mirror.
            folder: The folder of the films' tables.
            options: Options of the analysis, by name.

        Returns:
            The table of each recording, by its name.

        Raises:
            StudyError: A film cannot be read, or another run is reading it.
            UnknownOptionError: There is no such option.
            ValueError: An option makes no sense.
        """
        tables = {}
        films = {}
        for recording in recordings:
            if is_film(recording.path):
                films[str(recording.path)] = recording.name
            else:
                tables[recording.name] = recording.path
        if not films:
            return tables
        outcomes = batch.run(
            list(films),
            folder,
            options=Options(**options),
            formats=["parquet"],
            progress=self.progress,
            root=root,
        )
        for outcome in outcomes:
            if outcome.state == "failed":
                raise StudyError(
                    f"{outcome.problems[0]}; or leave the film out (recordings.exclude)"
                )
            if outcome.state == "left":
                raise StudyError(f"{outcome.left_to}; run the study again once it is done")
            (film,) = outcome.job.inputs
            tables[films[film]] = folder / f"{outcome.job.name}.parquet"
        return tables


def scores_of(recordings: Sequence[Recording], options: Mapping[str, Any]) -> list[str]:
    """The columns of decimal numbers that the tables of recordings have, or will have.

    Args:
        recordings: Films and tables, at least one.
        options: Options of the analysis of films, by name.

    Returns:
        The names: those of the first table, or if all are films, of what will read them.

    Raises:
        StudyError: The dictionary of the first table is missing or damaged.
        UnknownOptionError: There is no such option.
        ValueError: An option makes no sense.
    """
    for recording in recordings:
        if not is_film(recording.path):
            path = dictionary_of(recording.path)
            with _damage_explained(path):
                entries = json.loads(path.read_bytes())["columns"]
                return [entry["name"] for entry in entries if entry["dtype"].startswith("float")]
    columns = Reader(Options(**options)).columns(live=False)
    return [column.name for column in columns if column.dtype.startswith("float")]


def dictionary_of(table: Path) -> Path:
    """The dictionary beside a table.

    Args:
        table: The table.

    Returns:
        Its path.

    Raises:
        StudyError: It is not there.
    """
    path = table.with_suffix(".dictionary.json")
    if not path.is_file():
        raise StudyError(
            f"{table}: its dictionary {path.name} is not beside it; bring both, "
            "or read the film again with `mien analyze`"
        )
    return path


def check_alike(tables: Mapping[str, Path]) -> None:
    """Check that numbers of all tables can be compared: one bundle, one version, one smoothing.

    Args:
        tables: The tables by name of their recording.

    Raises:
        StudyError: Two of them differ, or a dictionary is missing or damaged.
    """
    first_name = ""
    first: dict[str, str] = {}
    for name, table in tables.items():
        made = _how_it_was_made(dictionary_of(table))
        if not first:
            first_name, first = name, made
        for what, value in made.items():
            if value != first[what]:
                raise StudyError(
                    f"{name} was read with {what} {value}, {first_name} with {first[what]}: "
                    "such numbers cannot be compared; read all films again with one "
                    "(`mien analyze`), or leave some out (recordings.exclude)"
                )


@contextmanager
def _damage_explained(dictionary: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StudyError(
            f"{dictionary}: is no data dictionary of mien's; "
            "read the film again with `mien analyze`"
        ) from error


def _how_it_was_made(path: Path) -> dict[str, str]:
    with _damage_explained(path):
        content = json.loads(path.read_bytes())
        options = content.get("options") or {}
        made = {"mien": str(content["mien"])}
        for key in ("bundle", "faces", "quality"):
            bundle = content.get(key) or {}
            made[key] = f"{bundle.get('name', 'none')} ({str(bundle.get('sha256'))[:12]})"
        smoothing = options.get("smoothing") or {}
        width = smoothing.get("fwhm_s") if isinstance(smoothing, dict) else smoothing
    made["smoothing"] = f"{width} s" if width else "none"
    if isinstance(smoothing, dict) and "beta" in smoothing:
        made["smoothing"] = f"one-euro, {smoothing['cutoff_hz']} Hz, beta {smoothing['beta']}"
    return made
