"""Settings of a data set, as a recipe or a settings file gives them, and the label table they lead to."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.label_table import COLUMNS, Split, in_split, remap_labels, split_by
from mien.data.mixing import Mixing, mix
from mien.data.sets.abaw import ABAW_NAMES, AbawSet, AfewVa, CExprDb, ExpW, load_abaw
from mien.data.sets.class_folders import load_folder
from mien.data.sets.ferplus import EXPR, load_ferplus
from mien.data.sets.label_file import Codes, load_file
from mien.data.sets.portraits import load_portraits
from mien.data.spec import Cut, Place, Spec
from mien.documents import at_home
from mien.errors import DataError
from mien.tasks import TASKS, Task, task

__all__ = [
    "CombinedDataset",
    "Cut",
    "Drawn",
    "FerPlus",
    "File",
    "Folder",
    "Portraits",
    "Set",
    "load_set",
    "places",
    "set_name",
    "starting_from",
    "unmixed",
]  # fmt: skip

_NAMED: Final = {"ferplus": "FER+", "portraits": "portraits", "drawn": "drawn faces", **ABAW_NAMES}

Names = Annotated[
    tuple[str, ...], Field(strict=False, min_length=10, max_length=10)
]  # a list in YAML and JSON


class FerPlus(Spec):
    """FER+; has ``expr.ferplus8`` (votes), ``va`` (derived from them) and ``au.blendshapes``; splits train and val."""

    set: Literal["ferplus"]
    folder: Place
    """Holds fer2013.csv and fer2013new.csv, or ferplus-train.parquet and ferplus-valid.parquet."""


class Portraits(Spec):
    """The portraits; labels as FER+; splits train and val, by subject."""

    set: Literal["portraits"]
    folder: Place
    """Holds portraits.parquet."""


class Folder(Spec):
    """Pictures in a folder for each class; see `mien.data.sets.class_folders.load_folder`."""

    set: Literal["folder"]
    root: Place
    """Holds <split>/<class>/ or <class>/."""
    task: str | None = None
    """Key of the label set that the class folders are named by; null: the ``one_of`` task that is asked for."""
    subject: str | None = None
    """Regular expression whose first group, in a file name, is the subject; null: no subjects."""
    split: Split | Cut | None = None
    """A name: only this split, or all of a root without split folders. A cut: for a root without. Null: as the folders say."""


class File(Spec):
    """A CSV, TSV or Parquet file of labels; see `mien.data.sets.label_file.load_file`."""

    set: Literal["file"]
    path: Place
    """The file; its ending says what it is."""
    columns: dict[str, str | Names] = Field(default={})
    """Our columns to theirs; what is not named goes by our own name. Points: one column or ten."""
    classes: dict[str, Codes] = Field(default={})
    """By label set (its key): the column of class codes, and their codes to our names."""
    images: Place | None = None
    """Where relative paths start from; null: the folder of the file."""
    missing: Annotated[tuple[float | str, ...], Field(strict=False)] = ()
    """Codes that mean not annotated, in label columns only."""
    split: Split | Cut | None = None
    """A name: only this split, or all of a file without splits. A cut: for a file without. Null: as the file says."""


class Drawn(Spec):
    """Drawn faces with known labels of the families ``expr``, ``va`` and ``au``; see `mien.data.drawn.faces.load_drawn`."""

    set: Literal["drawn"]
    count: Annotated[int, Field(gt=0, le=10**7)]
    """How many faces."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    """The same seed draws the same faces."""
    size: Annotated[int, Field(ge=16, le=4096)]
    """Height and width, px."""
    split: Split | None = None
    """The split all of them are in; null: four fifths train, one fifth val."""


OneSet = FerPlus | Portraits | Folder | File | Drawn | AbawSet


class CombinedDataset(Mixing):
    """Several sets as one: joined, thinned, capped; has the tasks of all. See `mien.data.mixing`."""

    set: Literal["mix"]
    of: Annotated[
        tuple[Annotated[OneSet, Field(discriminator="set")], ...], Field(strict=False, min_length=1)
    ]
    """The sets. Where their labels contradict, those of the first stay."""


AnySet = OneSet | CombinedDataset
Set = Annotated[AnySet, Field(discriminator="set")]


def set_name(spec: AnySet) -> str:
    """What people call a data set: its own name, or that of its folder or file; of a mix, the names of its sets.

    >>> set_name(File(set="file", path="faces/labels.csv"))
    'labels.csv'
    """
    if isinstance(spec, CombinedDataset):
        return " + ".join(dict.fromkeys(map(set_name, spec.of)))
    return _NAMED.get(spec.set) or next(place.resolve().name for place in places(spec))


def places(spec: AnySet) -> tuple[Path, ...]:
    """The folder or file of a data set, and the folder of its pictures where that is another; empty where it has none.

    Of a mix, those of all its sets.
    """
    if isinstance(spec, CombinedDataset):
        return tuple(place for each in spec.of for place in places(each))
    found = [
        getattr(spec, key, None) for key in ("folder", "root", "path", "images", "train", "labels")
    ]
    base = getattr(spec, "root", Path())
    return tuple(
        base / place if isinstance(place, str) else place for place in found if place is not None
    )


def unmixed(specs: Iterable[AnySet]) -> tuple[OneSet, ...]:
    """The sets, and in the place of each mix those that it is made of."""
    return tuple(
        each
        for spec in specs
        for each in (spec.of if isinstance(spec, CombinedDataset) else (spec,))
    )


def starting_from(base: Path, spec: object, where: str = "data") -> object:
    """A set as a YAML file gives it, its relative paths made to start from `base`; what is no mapping stays as it is.

    Raises DataError, which begins with `where` and the key, for a path in the home folder of somebody who has none.
    """
    if not isinstance(spec, dict):
        return spec
    if spec.get("set") == "mix" and isinstance(spec.get("of"), list):
        return {
            **spec,
            "of": [
                starting_from(base, each, f"{where}.of.{i}") for i, each in enumerate(spec["of"])
            ],
        }
    # Of the challenges' sets `images` is a folder within their root.
    keys = {
        "folder",
        "root",
        "path",
        "train",
        "labels",
        *(("images",) if spec.get("set") == "file" else ()),
    }

    def at(key: object, value: object) -> object:
        if key not in keys or not isinstance(value, str):
            return value
        return str((base / at_home(value, f"{where}.{key}")).absolute())

    return {key: at(key, value) for key, value in spec.items()}


def load_set(spec: AnySet, tasks: Sequence[Task]) -> pd.DataFrame:
    """The label table of a set: the columns of `COLUMNS` and of `tasks`, every row in a split.

    Expressions in another label set than the one asked for are matched by name (`remap_labels`); a task that the set does not have
    is NaN throughout. Activations of FER+ and the portraits come from a face landmarker and serve ``au.blendshapes`` only:
    they are no codes of FACS. Pictures and ranges are not looked at here: `mien.data.label_table.check` does that.
    What had to be left out is said in ``attrs["notes"]``, a list of lines.
    Raises DataError as the loaders do, for two tasks with a column in common, and for data without splits.
    """
    _told_apart(tasks)
    if isinstance(spec, CombinedDataset):
        return _mixed(spec, tasks)
    where, table, has = _loaded(spec, tasks)
    notes: list[str] = [f"{set_name(spec)}: {line}" for line in table.attrs.get("notes", ())]
    if isinstance(spec, Folder | File | Drawn | CExprDb | ExpW | AfewVa):
        table = _split(table, spec.split, where)
    for want in tasks:
        table, lost = _served(table, has, want)
        notes += (
            [
                f"{set_name(spec)}: {lost} faces show what {want.key} has no name for and lost their expression"
            ]
            if lost
            else []
        )
    table = table[[*COLUMNS, *(name for want in tasks for name in want.columns)]]
    table.attrs["notes"] = notes
    return table


def _mixed(spec: CombinedDataset, tasks: Sequence[Task]) -> pd.DataFrame:
    """The label table of a mix. What expressions must agree with is loaded even where it is not asked for."""
    unasked = (
        [TASKS["va"]] if spec.consistent and "va" not in {task.family for task in tasks} else []
    )
    table = mix([load_set(each, [*tasks, *unasked]) for each in spec.of], spec, tasks)
    return table.drop(columns=[name for task in unasked for name in task.columns])


def _told_apart(tasks: Sequence[Task]) -> None:
    names = [name for each in tasks for name in each.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        both = " and ".join(each.key for each in tasks if twice[0] in each.columns)
        raise DataError(f"{both} share the column {twice[0]}; ask for one of them")


def _loaded(spec: OneSet, tasks: Sequence[Task]) -> tuple[str, pd.DataFrame, Sequence[Task]]:
    """What messages call the set, its table, and the tasks it has."""
    if isinstance(spec, FerPlus):
        parts = [
            load_ferplus(spec.folder, "train"),
            load_ferplus(spec.folder, "valid").assign(split="val"),
        ]
        return (
            str(spec.folder),
            pd.concat(parts, ignore_index=True),
            (EXPR, TASKS["va"], AU_BLENDSHAPES),
        )
    if isinstance(spec, Portraits):
        parts = [load_portraits(spec.folder, split) for split in ("train", "val")]
        return (
            str(spec.folder),
            pd.concat(parts, ignore_index=True),
            (EXPR, TASKS["va"], AU_BLENDSHAPES),
        )
    if isinstance(spec, Folder):
        table, made = load_folder(spec.root, _folder_task(spec, tasks), spec.subject)
        return str(spec.root), table, (made,)
    if isinstance(spec, File):
        has = _file_tasks(spec, tasks)
        table = load_file(
            spec.path, has, spec.columns, spec.classes, images=spec.images, missing=spec.missing
        )
        return str(spec.path), table, has
    if isinstance(spec, AbawSet):
        return str(spec.root), *load_abaw(spec)
    from mien.data.drawn.faces import load_drawn

    has = [each for each in tasks if each.family in ("expr", "va", "au")]
    return (
        "drawn faces",
        load_drawn(count=spec.count, seed=spec.seed, split=spec.split, size=spec.size, tasks=has),
        has,
    )


def _folder_task(spec: Folder, tasks: Sequence[Task]) -> Task:
    if spec.task is not None:
        return _named(spec.task, tasks)
    fitting = [each for each in tasks if each.kind == "one_of"]
    if len(fitting) != 1:
        found = ", ".join(each.key for each in fitting) or "none"
        raise DataError(
            f"{spec.root}: class folders need one one_of task, but asked for are {found}; name it by `task`"
        )
    return fitting[0]


def _file_tasks(spec: File, tasks: Sequence[Task]) -> list[Task]:
    """The tasks to look for in the file: those it has codes for, and of those asked for all that these do not stand in for."""
    coded = [_named(key, tasks) for key in spec.classes]
    families = {each.family for each in coded}
    return [*coded, *(each for each in tasks if each.family not in families)]


def _named(key: str, tasks: Sequence[Task]) -> Task:
    return next((each for each in tasks if each.key == key), None) or task(key)


def _split(table: pd.DataFrame, split: Split | Cut | None, where: str) -> pd.DataFrame:
    bare = table["split"].isna()
    if isinstance(split, Cut):
        if not bare.all():
            raise DataError(
                f"{where}: {(~bare).sum()} rows have a split already; leave `split` out, or name one split to take"
            )
        return split_by(table, split.by, split.shares, split.seed)
    if split is None and bare.any():
        raise DataError(
            f"{where}: {bare.sum()} of {len(table)} rows have no split; give `split`: a name, or by, shares and seed"
        )
    return in_split(table, split, where)


def _served(table: pd.DataFrame, has: Sequence[Task], want: Task) -> tuple[pd.DataFrame, int]:
    """The table with the columns of `want`, and how many rows had a label that it has no class for."""
    if want in has:
        return table, 0
    alike = [
        each for each in has if each.kind == want.kind == "one_of" and each.family == want.family
    ]
    if alike:
        moved = remap_labels(table, alike[0], want)
        before, after = (
            frame[task.columns[0]].notna().sum()
            for frame, task in ((table, alike[0]), (moved, want))
        )
        return moved, int(before - after)
    return table.assign(**{name: np.float32(np.nan) for name in want.columns}), 0
