"""What a run writes, and where: the facts that all of its jobs share."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import mien
from mien.analysis.options import Options
from mien.analysis.reader import Reader
from mien.batch.inputs import OVERLAY_SUFFIXES, Job
from mien.batch.names import portable
from mien.batch.stores.store import Store
from mien.files import Transaction, wrap_os_errors
from mien.outputs.anonymise.hiding import Anonymise, check_anonymise
from mien.outputs.columns import Column
from mien.outputs.dictionary import EDITION
from mien.outputs.recorded import Recorded
from mien.outputs.tables import FORMATS, table_format, table_path
from mien.sources import Source

__all__ = ["Exporter", "PhotoOpener", "Target", "check_output", "dictionary_path"]


class Exporter(Protocol):
    """Writes a new table in the formats of other programs, too."""

    @property
    def to(self) -> tuple[str, ...]:
        """Names of the formats."""

    def paths(self, table: Path) -> list[Path]:
        """Say what will be written, before anything is read.

        Args:
            table: Path of the table.

        Returns:
            Files that must not be there, unless an earlier run wrote them.

        Raises:
            OutputError: The table cannot be written so.
        """

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


class PhotoOpener(Protocol):
    """Opens the photos of a folder that other processes read ahead."""

    def begin(self, paths: Sequence[str]) -> None:
        """Have photos read.

        Args:
            paths: Their paths, in the order in which they will be opened.
        """

    def open(self, path: str) -> Source:
        """Open the next photo.

        Args:
            path: Its path.

        Returns:
            The photo with its readings, or as the reader opens it.

        Raises:
            SourceError: It cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Target:
    """The output of a run.

    Attributes:
        reader: What reads the inputs.
        store: The output folder.
        formats: The formats of each table.
        overlay: Whether overlays are drawn as well.
        anonymise: How overlays hide faces; None shows them.
        photos: What opens the photos of folders; None where the reader does.
        exporter: Writes tables in the formats of other programs, too; None where none are asked.
        made: Folders that this run made.
    """

    reader: Reader
    store: Store
    formats: tuple[str, ...]
    overlay: bool
    anonymise: Anonymise | None = None
    photos: PhotoOpener | None = None
    exporter: Exporter | None = None
    made: set[Path] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        """The folder in which results are made."""
        return self.store.folder

    def facts(self) -> dict[str, Any]:
        """What decides the numbers and files besides the inputs.

        Returns:
            The facts as a data dictionary records them.
        """
        # One entry for both, so that an overlay that shows faces is never taken for one that does
        # not, whichever version wrote its dictionary.
        overlay = self.anonymise or self.overlay
        formats = [*self.formats, *(self.exporter.to if self.exporter else ())]
        facts = self.reader.facts() | {"formats": formats, "overlay": overlay}
        # Through JSON, so that they equal what is read back: tuples become lists.
        return {"dictionary": EDITION, "mien": mien.__version__, **json.loads(json.dumps(facts))}

    def is_current(self, record: Recorded, stem: Path) -> bool:
        """Whether a table was made with the facts of this run, and is complete.

        Args:
            record: The table's data dictionary.
            stem: The path of the table without suffix.

        Returns:
            True where its rows can be used as they are.
        """
        for key, value in self.facts().items():
            # Also where mien's version differs: it may read the same input in another way.
            if record.page.get(key) != value:
                return False
        return self.store.is_whole(record, stem, self.formats)

    def table(self, job: Job) -> Path:
        """The table of a job that mien reads back.

        Args:
            job: The job.

        Returns:
            Its path, in the first of the formats that can be read back.
        """
        name = next(name for name in self.formats if name in FORMATS)
        return table_path(self.folder / job.name, name)

    def columns(self, job: Job) -> tuple[Column, ...]:
        """The columns of a job's table.

        Args:
            job: The job; cameras are smoothed causally.

        Returns:
            The columns in table order.
        """
        return self.reader.columns(live=job.inputs[0].startswith("camera:"))

    def overlay_path(self, job: Job, path: str, kind: str) -> Path | None:
        """Where the overlay of an input goes.

        Args:
            job: The job.
            path: One of its inputs.
            kind: The kind of the source.

        Returns:
            A path beside the table, or for photos of a folder in a folder of the table's name; None
            where no overlays are drawn.
        """
        if not self.overlay:
            return None
        stem = self.folder / job.name
        # Whatever is neither, such as a camera, is drawn as a video.
        suffix = OVERLAY_SUFFIXES.get(kind, OVERLAY_SUFFIXES["video"])
        if job.folder is None:
            return stem.with_name(stem.name + suffix)
        file_name = portable(os.path.basename(path)) + suffix
        return stem / file_name

    def make_folder(self, folder: Path) -> None:
        """Make a folder with its parents, and note which of them were missing.

        Args:
            folder: A folder below the output folder, or itself.

        Raises:
            OutputError: It cannot be made.
        """
        # Noted before any is made.
        missing = _missing_of(folder)
        with wrap_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.made.update(missing)

    def sweep(self, jobs: Iterable[Job]) -> None:
        """Remove what runs that were killed left behind.

        Args:
            jobs: The jobs of the run.
        """
        # Tables mirror the folders of the inputs, so there may be several.
        self.store.sweep({self.folder, *((self.folder / job.name).parent for job in jobs)})

    def note_missing_folders(self, jobs: Iterable[Job]) -> None:
        """Note the folders that jobs will make, in whichever process.

        Args:
            jobs: The jobs.
        """
        for path in {(self.folder / job.name).parent for job in jobs}:
            self.made.update(_missing_of(path))

    def remove_empty_folders(self) -> None:
        """Remove the folders that this run made and put nothing in."""
        # So that their parents may be empty in turn.
        deepest_first = sorted(self.made, key=lambda path: len(path.parts), reverse=True)
        for folder in deepest_first:
            # Folders that are not empty are refused.
            with suppress(OSError):
                folder.rmdir()


def _missing_of(folder: Path) -> list[Path]:
    """Those of a folder and its parents that do not exist."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def check_output(
    formats: Sequence[str], overlay: bool, anonymise: str | None, options: Options
) -> None:
    """Check what a run is asked to write.

    Args:
        formats: The formats of each table.
        overlay: Whether overlays are drawn as well.
        anonymise: How overlays hide faces; None shows them.
        options: The options of the analysis.

    Raises:
        UnknownNameError: There is no such format or way to anonymise.
        ValueError: There is no format, or `anonymise` is set without an overlay of all faces.
    """
    if not formats:
        raise ValueError(f"formats must name at least one of {', '.join(FORMATS)}")
    for name in formats:
        table_format(name)
    if check_anonymise(anonymise) is None:
        return
    if not overlay:
        raise ValueError("anonymise hides faces in overlays; ask for an overlay, too")
    if options.faces != "all":
        raise ValueError(
            f"anonymise hides the faces that are read, and faces={options.faces!r} leaves some "
            "out; read all faces"
        )


def dictionary_path(stem: Path) -> Path:
    """The path of the data dictionary beside a table.

    Args:
        stem: The path of the table without suffix.

    Returns:
        The path of the dictionary.
    """
    return stem.with_name(f"{stem.name}.dictionary.json")
