"""Exports that are written together with a table, by `mien.batch.run`."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from mien.errors import MissingExtraError, OutputError, TableError, UnknownNameError
from mien.exports.bids import DERIVATIVE, Entities
from mien.exports.convert import TARGETS, Export, export_paths, export_to
from mien.exports.recording import Recording
from mien.extensions.entry_points import WRITERS, extensions
from mien.files import Transaction
from mien.outputs.read import read_rows
from mien.outputs.tables import FOREIGN, FORMATS

__all__ = ["Exports"]

# The library without which a format cannot be written.
_LIBRARIES: Final = {
    "eaf": "pympi",
    "textgrid": "scipy",
    "mne": "scipy",
    "bids": "scipy",
    "boris": "openpyxl",
    "xlsx": "openpyxl",
    "sav": "pyreadstat",
    "dta": "pyreadstat",
}


@dataclass(frozen=True, slots=True)
class Exports:
    """Writes a new table in the formats of other programs, too.

    Attributes:
        to: Names of `mien.exports.convert.TARGETS` that need a whole table.
        data_set: BIDS: root of the data set.
    """

    to: tuple[str, ...]
    data_set: Path

    @classmethod
    def split(cls, formats: Iterable[str], out: Path) -> "tuple[tuple[str, ...], Exports | None]":
        """Part the formats of tables from those that need a whole table.

        Args:
            formats: Names of formats of tables, and of `mien.exports.convert.TARGETS`.
            out: The output folder of a run.

        Returns:
            The former, ``csv`` if there is none, and the exports.

        Raises:
            UnknownNameError: There is no such format.
            MissingExtraError: The library of a format is not installed.
        """
        names = tuple(dict.fromkeys(formats))
        for name in names:
            if name not in TARGETS and name not in extensions(WRITERS, TARGETS):
                raise UnknownNameError("format", name, TARGETS)
        whole = [name for name in TARGETS if name not in FORMATS and name not in FOREIGN]
        to = tuple(name for name in names if name in whole)
        for name in to:
            if name in _LIBRARIES and find_spec(_LIBRARIES[name]) is None:
                raise MissingExtraError("exports", f"writing {name}")
        if not to:
            return names, None
        formats = tuple(name for name in names if name not in to)
        # What is converted must be a table that can be read.
        if not set(formats) & set(FORMATS):
            formats = (*formats, "csv")
        return formats, cls(to, out)

    def paths(self, table: Path) -> list[Path]:
        """Say what will be written, before anything is read.

        Args:
            table: Path of the table.

        Returns:
            The files; of those of BIDS the events, which each recording has for itself.

        Raises:
            OutputError: BIDS cannot name the table.
        """
        paths = export_paths(table, self.to)
        if "bids" in self.to:
            try:
                entities = Entities.of(table, None, None)
            except ValueError as error:
                raise OutputError(
                    f"{table.stem}: its path has no sub-LABEL or task-LABEL, by which BIDS names "
                    "it; leave bids out, and convert the table (mien convert --to bids --subject)"
                ) from error
            paths.append(self.data_set / DERIVATIVE / entities.events)
        return paths

    def write(
        self, table: Path, part: Path, dictionary: dict[str, Any], files: Transaction
    ) -> list[str]:
        """Write the files, replacing those of an earlier run.

        Args:
            table: Path that the table will have.
            part: The file that it is in now.
            dictionary: Its data dictionary.
            files: The transaction with which all files appear.

        Returns:
            A line on each format that cannot hold the table.

        Raises:
            OutputError: A file cannot be written.
        """
        rows = read_rows(part, table.suffix.removeprefix("."), dictionary)
        recording = Recording.of(table, rows)
        left_out = []
        for name in self.to:
            export = Export((name,), overwrite=True, data_set=self.data_set)
            try:
                export_to(recording, export, files)
            except TableError as error:
                # A film may have nobody in it, and photos have no times; the table stays.
                left_out.append(f"not written as {name}: {error}")
        return left_out
