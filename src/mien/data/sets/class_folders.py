"""Pictures sorted into folders: ``root/<split>/<class>/<picture>`` or ``root/<class>/<picture>``.

Splits are ``train``, ``val`` (or ``valid``) and ``test``, in any case of letters. Names that start with a dot are passed over.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
import pandas as pd
from typing_extensions import override

from mien.data.images import PICTURES
from mien.data.label_table import Split, in_split, table_of
from mien.data.spec import TERMS_NOT_STATED, Cut, DataSet, DataSetInfo, Place, find_task
from mien.documents.patterns import bounded_pattern
from mien.errors import DataError, UnknownNameError
from mien.tasks import TASKS, Task

__all__ = ["Folder", "load_folder"]


_SPLITS: Final = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def load_folder(
    root: Path, task: Task | None = None, subject: str | None = None, split: Split | None = None
) -> tuple[pd.DataFrame, Task]:
    """Load the label table of class folders.

    Args:
        root: Holds ``<split>/<class>/`` or ``<class>/``.
        task: A ``one_of`` task whose names the class folders bear, in any case of letters; None
            makes one, ``expr.<name of root>``, from the folder names in small letters,
            alphabetically.
        subject: A regular expression; its first group, in a picture's file name, is the subject.
        split: Only this split; a root without split folders is taken to be all of it, and without
            `split` has none.

    Returns:
        The label table, with one-hot labels, and its task.

    Raises:
        DataError: A folder is missing, empty or no class, or named as a task of mien with other
            labels; files are no pictures; or a file name has no subject.
    """
    if task is not None and task.kind != "one_of":
        raise DataError(
            f"{root}: class folders are labels of a one_of task, which {task.key} is not; name an expression task"
        )
    pattern = _pattern(subject)
    found = {(name, folder): _pictures(folder) for name, folder in _class_folders(Path(root))}
    if task is None:
        names = tuple(sorted({folder.name.lower() for _, folder in found}))
        if len(names) < 2:
            raise DataError(f"{root}: {names[0]!r} is its only class; give a folder for each class")
        task = Task(f"expr.{Path(root).resolve().name}", names, "one_of")
        if TASKS.get(task.key, task) != task:
            raise DataError(
                f"{root}: {task.key} is a task of mien with labels of its own; name it in the settings, or rename the folder"
            )
    classes = np.repeat(
        [_index(folder, task) for _, folder in found],
        [len(pictures) for pictures in found.values()],
    )
    images = [picture for pictures in found.values() for picture in pictures]
    about = {
        "split": pd.Series(
            [name for (name, _), pictures in found.items() for _ in pictures], dtype=object
        ),
        "subject": pd.Series(_subjects(images, pattern), dtype=object),
    }
    table = table_of(images, about, {task: np.eye(len(task.names), dtype=np.float32)[classes]})
    return in_split(table, split, str(root)), task


def _pattern(subject: str | None) -> re.Pattern[str] | None:
    if subject is None:
        return None
    pattern = bounded_pattern(subject, "subject")
    if not pattern.groups:
        raise DataError(
            f"subject: {subject!r} has no group; put round brackets around the part that is the subject"
        )
    return pattern


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sub-folders and files of a folder, by name."""
    try:
        entries = sorted(
            (entry for entry in os.scandir(folder) if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror}; give a folder of class folders with pictures"
        ) from error
    return [Path(e.path) for e in entries if e.is_dir()], [
        Path(e.path) for e in entries if not e.is_dir()
    ]


def _class_folders(root: Path) -> list[tuple[str | None, Path]]:
    """Each class folder with its split, or None."""
    tops = _below(root)
    splits = [top for top in tops if top.name.lower() in _SPLITS]
    if not splits:
        return [(None, top) for top in tops]
    if others := [top.name for top in tops if top not in splits]:
        raise DataError(
            f"{root}: {others[0]} lies beside the splits {', '.join(top.name for top in splits)}; put classes inside the splits"
        )
    named: dict[str, Path] = {}
    for top in splits:
        name = _SPLITS[top.name.lower()]
        if name in named:
            raise DataError(
                f"{root}: {named[name].name} and {top.name} are the same split; keep one"
            )
        named[name] = top
    return [(name, folder) for name, top in named.items() for folder in _below(top)]


def _below(folder: Path) -> list[Path]:
    """The sub-folders, at least one; a picture beside them would be lost without a word."""
    folders, files = _entries(folder)
    if stray := [file for file in files if file.suffix.lower() in PICTURES]:
        raise DataError(
            f"{stray[0]}: a picture outside the class folders ({len(stray)} in this place); move it into the folder of its class"
        )
    if not folders:
        raise DataError(
            f"{folder}: holds no folders; expected one folder of pictures for each class"
        )
    return folders


def _pictures(folder: Path) -> list[str]:
    folders, files = _entries(folder)
    strays = [*folders, *(file for file in files if file.suffix.lower() not in PICTURES)]
    if strays:
        raise DataError(
            f"{strays[0]}: not a picture ({len(strays)} such in this class folder); keep only {', '.join(PICTURES)} there"
        )
    if not files:
        raise DataError(f"{folder}: this class folder is empty; put pictures there or remove it")
    return [str(file) for file in files]


def _index(folder: Path, task: Task) -> int:
    names = [name.lower() for name in task.names]
    name = folder.name.lower()
    if name not in names:
        raise DataError(
            f"{folder}: {UnknownNameError(f'class of {task.key}', name, task.names)} Rename the folder or give another task"
        )
    return names.index(name)


def _subjects(images: list[str], pattern: re.Pattern[str] | None) -> list[str | None]:
    if pattern is None:
        return [None] * len(images)
    matches = [pattern.search(os.path.basename(image)) for image in images]
    lost = [image for image, match in zip(images, matches, strict=True) if not (match and match[1])]
    if lost:
        raise DataError(
            f"{lost[0]}: no subject in this name by {pattern.pattern!r} ({len(lost)} such); correct the expression"
        )
    return [match[1] if match else None for match in matches]


class Folder(DataSet):
    """Pictures in a folder for each class; see `mien.data.sets.class_folders.load_folder`."""

    info: ClassVar = DataSetInfo(
        name=None,
        title=None,
        terms=TERMS_NOT_STATED,
        supervision={"*": "the class folders of {name}"},
        tasks=(),
        source="one's own pictures",
        paper=None,
    )

    set: Literal["folder"]
    root: Place
    """Holds <split>/<class>/ or <class>/."""
    task: str | None = None
    """Key of the label set that the class folders are named by; null: the ``one_of`` task that is
    asked for."""
    subject: str | None = None
    """Regular expression whose first group, in a file name, is the subject; null: no subjects."""
    split: Split | Cut | None = None
    """A name: only this split, or all of a root without split folders. A cut: for a root without.
    Null: as the folders say."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        table, task = load_folder(self.root, self._class_task(tasks), self.subject)
        return table, (task,)

    @override
    def supervision(self, task: Task) -> str | None:
        """Say where the labels of a task come from; None where its classes are not exclusive."""
        return super().supervision(task) if task.kind == "one_of" else None

    def _class_task(self, tasks: Sequence[Task]) -> Task:
        """The task that the class folders are labels of."""
        if self.task is not None:
            return find_task(self.task, tasks)
        candidates = [task for task in tasks if task.kind == "one_of"]
        if len(candidates) != 1:
            asked = ", ".join(task.key for task in candidates) or "none"
            raise DataError(
                f"{self.root}: class folders need one one_of task, but asked for are {asked}; "
                "name it by `task`"
            )
        return candidates[0]
