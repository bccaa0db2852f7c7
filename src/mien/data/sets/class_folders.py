"""Pictures sorted into folders: ``root/<split>/<class>/<picture>`` or ``root/<class>/<picture>``.

Splits are ``train``, ``val`` (or ``valid``) and ``test``, in any case of letters. Names that start
with a dot are passed over.
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
    root = Path(root)
    if task is not None and task.kind != "one_of":
        raise DataError(
            f"{root}: class folders are labels of a one_of task, which {task.key} is not; name an "
            "expression task"
        )
    pattern = _pattern(subject)
    folders = _class_folders(root)
    pictures = [_pictures(folder) for _, folder in folders]
    if task is None:
        task = _task_of(root, folders)
    images: list[str] = []
    splits: list[str | None] = []
    classes: list[int] = []
    for (split_name, folder), paths in zip(folders, pictures, strict=True):
        images += paths
        splits += [split_name] * len(paths)
        classes += [_class_index(folder, task)] * len(paths)
    # Of type object, so that a root without splits or subjects has None and not NaN.
    about = {
        "split": pd.Series(splits, dtype=object),
        "subject": pd.Series(_subjects(images, pattern), dtype=object),
    }
    shares = np.eye(len(task.names), dtype=np.float32)[classes]
    return in_split(table_of(images, about, {task: shares}), split, str(root)), task


def _task_of(root: Path, folders: list[tuple[str | None, Path]]) -> Task:
    """A task with the names of the class folders."""
    names = tuple(sorted({folder.name.lower() for _, folder in folders}))
    if len(names) < 2:
        raise DataError(f"{root}: {names[0]!r} is its only class; give a folder for each class")
    task = Task(f"expr.{root.resolve().name}", names, "one_of")
    if TASKS.get(task.key, task) != task:
        raise DataError(
            f"{root}: {task.key} is a task of mien with labels of its own; name it in the "
            "settings, or rename the folder"
        )
    return task


def _pattern(subject: str | None) -> re.Pattern[str] | None:
    """The compiled expression of the subject, which must have a group."""
    if subject is None:
        return None
    pattern = bounded_pattern(subject, "subject")
    if not pattern.groups:
        raise DataError(
            f"subject: {subject!r} has no group; put round brackets around the part that is the "
            "subject"
        )
    return pattern


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sub-folders and files of a folder, by name."""
    folders: list[Path] = []
    files: list[Path] = []
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(Path(entry.path))
            else:
                files.append(Path(entry.path))
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror}; give a folder of class folders with pictures"
        ) from error
    return folders, files


def _class_folders(root: Path) -> list[tuple[str | None, Path]]:
    """Each class folder with its split, or None."""
    folders = _subfolders(root)
    split_folders = [folder for folder in folders if folder.name.lower() in _SPLITS]
    if not split_folders:
        return [(None, folder) for folder in folders]
    others = [folder.name for folder in folders if folder not in split_folders]
    if others:
        names = ", ".join(folder.name for folder in split_folders)
        raise DataError(
            f"{root}: {others[0]} lies beside the splits {names}; put classes inside the splits"
        )
    by_split: dict[str, Path] = {}
    for folder in split_folders:
        split = _SPLITS[folder.name.lower()]
        if split in by_split:
            raise DataError(
                f"{root}: {by_split[split].name} and {folder.name} are the same split; keep one"
            )
        by_split[split] = folder
    class_folders: list[tuple[str | None, Path]] = []
    for split, folder in by_split.items():
        class_folders += [(split, class_folder) for class_folder in _subfolders(folder)]
    return class_folders


def _subfolders(folder: Path) -> list[Path]:
    """The sub-folders, at least one; a picture beside them would otherwise be lost unnoticed."""
    folders, files = _entries(folder)
    strays = [file for file in files if file.suffix.lower() in PICTURES]
    if strays:
        raise DataError(
            f"{strays[0]}: a picture outside the class folders ({len(strays)} in this place); move "
            "it into the folder of its class"
        )
    if not folders:
        raise DataError(
            f"{folder}: holds no folders; expected one folder of pictures for each class"
        )
    return folders


def _pictures(folder: Path) -> list[str]:
    """The pictures of a class folder, which must hold nothing else."""
    folders, files = _entries(folder)
    strays = folders + [file for file in files if file.suffix.lower() not in PICTURES]
    if strays:
        raise DataError(
            f"{strays[0]}: not a picture ({len(strays)} such in this class folder); keep only "
            f"{', '.join(PICTURES)} there"
        )
    if not files:
        raise DataError(f"{folder}: this class folder is empty; put pictures there or remove it")
    return [str(file) for file in files]


def _class_index(folder: Path, task: Task) -> int:
    """The index in `Task.names` of the class that a folder is named after."""
    names = [name.lower() for name in task.names]
    name = folder.name.lower()
    if name not in names:
        unknown = UnknownNameError(f"class of {task.key}", name, task.names)
        raise DataError(f"{folder}: {unknown} Rename the folder or give another task")
    return names.index(name)


def _subjects(images: list[str], pattern: re.Pattern[str] | None) -> list[str | None]:
    """The subject of each picture, by its file name."""
    if pattern is None:
        return [None] * len(images)
    subjects: list[str | None] = []
    unmatched = []
    for image in images:
        match = pattern.search(os.path.basename(image))
        subjects.append(match[1] if match else None)
        # A group that is optional may be missing or empty in a match.
        if not subjects[-1]:
            unmatched.append(image)
    if unmatched:
        raise DataError(
            f"{unmatched[0]}: no subject in this name by {pattern.pattern!r} ({len(unmatched)} "
            "such); correct the expression"
        )
    return subjects


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
