"""One table into the files of other programs: all of them, or none."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from mien.errors import OutputError, TableError, UnknownNameError
from mien.exports.annotations import boris_bytes, elan_bytes, mne_bytes, textgrid_bytes
from mien.exports.bids import DERIVATIVE, Entities, bids_files
from mien.exports.recording import Recording
from mien.exports.statistics import write_statistics
from mien.exports.study_folder import with_participants
from mien.exports.workbook import workbook_bytes
from mien.files import AtomicFile, Transaction, wrap_os_errors
from mien.outputs.columns import Column
from mien.outputs.dictionary import dictionary_bytes
from mien.outputs.read import EMBEDDED
from mien.outputs.tables import (
    FOREIGN,
    FORMATS,
    GROUP,
    described_schema,
    schema_of,
    table_format,
    table_path,
)
from mien.outputs.writers.fields import FieldTable
from mien.outputs.writers.openface import OpenFaceIntensities

__all__ = ["TARGETS", "Export", "convert", "export_paths", "export_to"]

# Facts of a dictionary about the files that were written with it, not about the numbers.
_OF_FILES: Final = ("tables", "files", "formats", "overlay", "columns", "statuses")

_BYTES: Final[Mapping[str, tuple[str, Callable[[Recording, Path], bytes]]]] = {
    "eaf": ("eaf", elan_bytes),
    "textgrid": ("TextGrid", textgrid_bytes),
    "boris": ("boris.xlsx", boris_bytes),
    "mne": ("annotations.txt", mne_bytes),
    "xlsx": ("xlsx", lambda recording, _: workbook_bytes(recording)),
}
# Formats that say whose each thing is.
_OF_PEOPLE: Final = ("eaf", "textgrid", "boris", "mne", "bids")
_STATISTICS: Final = ("sav", "dta")
TARGETS: Final = (*FORMATS, *FOREIGN, *_BYTES, *_STATISTICS, "bids")
"""What a table can be converted to."""


@dataclass(frozen=True, slots=True)
class Export:
    """How a table is converted.

    Attributes:
        to: Names of `TARGETS`.
        folder: Where the files go; None for the table's own folder.
        subject: BIDS: label of the subject; None for that of the table's path.
        task: BIDS: label of the task; None for that of the table's path.
        intensities: OpenFace: activations on its scale of intensities besides (``_r``, 0 to 5).
        overwrite: Whether files that are there already are replaced.
        data_set: BIDS: root of the data set; None for `folder`.
    """

    to: tuple[str, ...]
    folder: Path | None = None
    subject: str | None = None
    task: str | None = None
    intensities: bool = False
    overwrite: bool = False
    data_set: Path | None = None


def convert(
    table: str | Path,
    to: str | Iterable[str],
    out: str | Path | None = None,
    *,
    subject: str | None = None,
    task: str | None = None,
    intensities: bool = False,
    overwrite: bool = False,
    edits: bool = True,
) -> list[Path]:
    """Write a table that mien made in the formats of other programs.

    All files appear together, or none does.

    Args:
        table: The ``.csv``, ``.parquet`` or ``.jsonl`` file; its data dictionary beside it.
        to: One or more of `TARGETS`.
        out: Folder for the files, made if missing; None for the table's own.
        subject: BIDS: label of the subject; None for that of the table's path (``sub-01``).
        task: BIDS: label of the task; None for that of the table's path (``task-rest``).
        intensities: OpenFace: activations on its scale of intensities besides (``_r``, 0 to 5).
        overwrite: Whether files that are there already are replaced.
        edits: Whether edits beside the table apply; see `mien.study.edits.apply.apply_edits`.

    Returns:
        The files.

    Raises:
        UnknownNameError: There is no such target, or the table's suffix is no table's.
        TableError: The table cannot be read, or the format cannot hold it.
        StudyError: The edits are damaged, or about another table.
        OutputError: A file is there already, or cannot be written.
        ValueError: BIDS needs labels that were not given, or nothing is asked for.
        MissingExtraError: An optional library is missing.

    Examples:
        >>> import tempfile
        >>> import mien
        >>> from mien.demo import portrait
        >>> folder = Path(tempfile.mkdtemp())
        >>> table = mien.analyze(portrait()).save(folder / "eileen.csv")
        >>> [path.name for path in convert(table, "fex")]
        ['eileen.fex.csv', 'eileen.fex.dictionary.json']
    """
    names = (to,) if isinstance(to, str) else tuple(dict.fromkeys(to))
    if not names:
        raise ValueError(f"name at least one format: {', '.join(TARGETS)}")
    for name in names:
        if name not in TARGETS:
            raise UnknownNameError("format", name, TARGETS)
    folder = None if out is None else Path(out)
    export = Export(names, folder, subject, task, intensities, overwrite)
    # Labels are known to be wrong before a long table is read.
    if "bids" in names:
        Entities.of(Path(table), subject, task)
    recording = Recording.open(Path(table), edits=edits)
    with _no_empty_folder(folder or recording.path.parent), Transaction() as files:
        export_to(recording, export, files)
        files.commit()
    return files.paths


def export_paths(table: Path, names: Iterable[str]) -> list[Path]:
    """The files beside a table that it is converted to.

    Args:
        table: The table.
        names: Of `TARGETS`; those of BIDS, which lie elsewhere, are left out.

    Returns:
        Their paths.
    """
    paths = []
    for name in names:
        if name in _BYTES:
            paths.append(table.with_name(f"{table.stem}.{_BYTES[name][0]}"))
        elif name in _STATISTICS:
            paths.append(table.with_name(f"{table.stem}.{name}"))
        elif name != "bids":
            paths.append(table_path(table.with_name(table.stem), name))
    return paths


def export_to(recording: Recording, export: Export, files: Transaction) -> None:
    """Write a recording in the formats of other programs.

    Args:
        recording: The table of one film.
        export: How it is converted.
        files: The transaction with which the files appear.

    Raises:
        TableError: A format cannot hold it.
        OutputError: A file is there already, or cannot be written.
        ValueError: BIDS needs labels that were not given.
        MissingExtraError: An optional library is missing.
    """
    is_of_people = bool(set(export.to) & set(_OF_PEOPLE))
    named = with_participants(recording) if is_of_people else recording
    run = _Run(recording, named, export, files)
    for name in export.to:
        run.write(name)


@contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove a folder that was made for files which then could not be written."""
    was_there = folder.exists()
    try:
        yield
    except BaseException:
        if not was_there and folder.exists():
            for made in (*sorted(folder.rglob("*"), reverse=True), folder):
                # Whatever holds a file stays.
                with suppress(OSError):
                    made.rmdir()
        raise


@dataclass(frozen=True, slots=True)
class _Run:
    """One table on its way into files; `named` has the participants of its study."""

    recording: Recording
    named: Recording
    export: Export
    files: Transaction

    def write(self, name: str) -> None:
        """Write one format."""
        stem = (self.export.folder or self.recording.path.parent) / self.recording.stem
        if name in FORMATS and "edits" in self.recording.dictionary:
            self._refuse_beside(stem)
        if name == "bids":
            self._write_bids()
        elif name in _BYTES:
            suffix, make = _BYTES[name]
            source = self.named if name in _OF_PEOPLE else self.recording
            path = stem.with_name(f"{stem.name}.{suffix}")
            content = make(source, path)
            file = self._add(path)
            with wrap_os_errors(path):
                file.part.write_bytes(content)
        elif name in _STATISTICS:
            self._write_statistics(stem.with_name(f"{stem.name}.{name}"), name)
        elif name == "parquet":
            self._write_parquet(table_path(stem, name))
        else:
            self._write_rows(table_path(stem, name), name)

    def _refuse_beside(self, stem: Path) -> None:
        """Refuse an edited table beside its own, with which it would share dictionary and edits."""
        if stem.parent.resolve() == self.recording.path.resolve().parent:
            raise OutputError(
                f"{self.recording.path}: has edits, so it would be another table with its name; "
                "name another folder (--out), or leave the edits out (--without-edits)"
            )

    def _write_statistics(self, path: Path, name: str) -> None:
        file = self._add(path)
        try:
            with wrap_os_errors(path):
                write_statistics(self.recording, file, name)
        except TableError:
            # Others may be written all the same.
            self.files.leave_out(file)
            raise

    def _add(self, path: Path) -> AtomicFile:
        """Begin a file, which must not be there, nor be one that the table was written with."""
        if path in self.files.paths:
            raise OutputError(f"{path}: two formats would both write it; convert to one at a time")
        if os.path.lexists(path):
            self._refuse_to_replace(path)
        with wrap_os_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        return self.files.add(path)

    def _refuse_to_replace(self, path: Path) -> None:
        recorded = self.recording.dictionary.get("tables")
        names = set(recorded) if isinstance(recorded, dict) else set()
        is_beside = path.resolve().parent == self.recording.path.resolve().parent
        if is_beside and path.name in {*names, self.recording.path.name}:
            raise OutputError(
                f"{path}: is the table itself, or was written with it; name another folder (--out)"
            )
        if not self.export.overwrite:
            raise OutputError(
                f"{path}: is there already, and may hold somebody's work; move it away, "
                "name another folder (--out), or give --overwrite"
            )

    def _write_rows(self, path: Path, name: str) -> None:
        """A format that takes batches of rows, and the dictionary of what it holds."""
        kind = table_format(name)
        if name == "openface" and self.export.intensities:
            kind = OpenFaceIntensities
        columns: tuple[Column, ...] = self.recording.columns
        file = self._add(path)
        with wrap_os_errors(path), file.part.open("wb") as output:
            writer = kind(output, columns)
            for batch in self._arrow().to_batches(GROUP):
                writer.write(batch)
            writer.close()
        if issubclass(kind, FieldTable):
            fields = kind.fields({column.name: column for column in columns})
            columns = tuple(field.column for field in fields)
        self._write_dictionary(path, columns)

    def _write_dictionary(self, path: Path, columns: tuple[Column, ...]) -> None:
        beside = path.with_suffix(".dictionary.json")
        # Two formats of the same columns share one, with the table's own where it is.
        original = self.recording.path.with_suffix(".dictionary.json")
        if beside in self.files.paths or beside.resolve() == original.resolve():
            return
        file = self._add(beside)
        with wrap_os_errors(beside):
            file.part.write_bytes(dictionary_bytes(columns, self._facts()))

    def _write_parquet(self, path: Path) -> None:
        """Parquet that carries its dictionary, so that it is complete by itself."""
        from pyarrow.parquet import write_table

        columns = self.recording.columns
        schema = described_schema(columns)
        embedded = json.loads(dictionary_bytes(columns, self._facts()))
        metadata = {**(schema.metadata or {}), EMBEDDED: json.dumps(embedded)}
        file = self._add(path)
        with wrap_os_errors(path):
            write_table(self._arrow().cast(schema.with_metadata(metadata)), file.part)

    def _write_bids(self) -> None:
        export = self.export
        entities = Entities.of(self.recording.path, export.subject, export.task)
        data_set = export.data_set or export.folder or self.recording.path.parent
        root = data_set / DERIVATIVE
        for path, content in bids_files(self.named, entities).items():
            # Every recording writes the same files about the data set.
            if len(path.parts) == 1 and (root / path).is_file():
                continue
            file = self._add(root / path)
            with wrap_os_errors(file.path):
                file.part.write_bytes(content)

    def _arrow(self) -> pa.Table:
        schema = schema_of(self.recording.columns)
        return pa.Table.from_pandas(self.recording.table, schema, preserve_index=False)

    def _facts(self) -> dict[str, Any]:
        """The dictionary without what is about its files."""
        facts = dict(self.recording.dictionary)
        for key in _OF_FILES:
            facts.pop(key, None)
        return facts
