"""What a run writes, and where: the facts that all of its jobs share."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mien
from mien.analysis.reader import Reader
from mien.batch.inputs import OVERLAY_SUFFIXES, Job
from mien.batch.names import portable
from mien.files import wrap_os_errors
from mien.outputs.anonymise.hiding import Anonymise
from mien.outputs.columns import Column
from mien.outputs.dictionary import EDITION
from mien.outputs.recorded import Recorded

__all__ = ["Target", "dictionary_path"]


@dataclass(frozen=True, slots=True)
class Target:
    """The output of a run.

    Attributes:
        reader: What reads the inputs.
        folder: The output folder.
        formats: The formats of each table.
        overlay: Whether overlays are drawn as well.
        anonymise: How overlays hide faces; None shows them.
        made: Folders that this run made.
    """

    reader: Reader
    folder: Path
    formats: tuple[str, ...]
    overlay: bool
    anonymise: Anonymise | None = None
    made: set[Path] = field(default_factory=set)

    def facts(self) -> dict[str, Any]:
        """What decides the numbers and files besides the inputs.

        Returns:
            The facts as a data dictionary records them.
        """
        # One entry for both, so that an overlay that shows faces is never taken for one that does
        # not, whichever version wrote its dictionary.
        overlay = self.anonymise or self.overlay
        facts = self.reader.facts() | {"formats": list(self.formats), "overlay": overlay}
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
        return record.is_whole(stem.parent, self.formats, stem.name)

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
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        with wrap_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.made.update(missing)

    def remove_empty_folders(self) -> None:
        """Remove the folders that this run made and put nothing in."""
        # So that their parents may be empty in turn.
        deepest_first = sorted(self.made, key=lambda path: len(path.parts), reverse=True)
        for folder in deepest_first:
            # Folders that are not empty are refused.
            with suppress(OSError):
                folder.rmdir()


def dictionary_path(stem: Path) -> Path:
    """The path of the data dictionary beside a table.

    Args:
        stem: The path of the table without suffix.

    Returns:
        The path of the dictionary.
    """
    return stem.with_name(f"{stem.name}.dictionary.json")
