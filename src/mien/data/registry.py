"""All data sets: their settings as a recipe or settings file gives them, and their label tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
import pandas as pd
from pydantic import Field

from mien.data.drawn.data_set import Drawn
from mien.data.label_table import COLUMNS, in_split, remap_labels, split_by
from mien.data.mixing import Mixing, mix
from mien.data.rendered.data_set import Rendered
from mien.data.sets.afewva import AfewVa
from mien.data.sets.affectnet import AffectNet
from mien.data.sets.affwild2 import AffWild2
from mien.data.sets.c_expr_db import CExprDb
from mien.data.sets.class_folders import Folder
from mien.data.sets.expw import ExpW
from mien.data.sets.ferplus import FerPlus
from mien.data.sets.label_file import File
from mien.data.sets.lsd import Lsd
from mien.data.sets.portraits import Portraits
from mien.data.sets.rafdb import RafDb
from mien.data.sets.s_affwild2 import SAffWild2
from mien.data.sets.vggface2 import VggFace2
from mien.data.spec import Cut, DataSet, Place
from mien.documents import at_home
from mien.errors import DataError
from mien.extensions.entry_points import DATASETS, extensions
from mien.extensions.settings import Extensible
from mien.tasks import TASKS, Task

__all__ = [
    "DATA_SETS",
    "EXTENSIBLE",
    "CombinedDataset",
    "Cut",
    "Drawn",
    "FerPlus",
    "File",
    "Folder",
    "OneSet",
    "Portraits",
    "Rendered",
    "Set",
    "load_set",
    "places",
    "set_name",
    "starting_from",
    "unmixed",
]

# The one list of data sets; all else follows from it. A type rather than a tuple of classes, so
# that type checkers know it as well. Its order is that of `mien train --show`.
OneSet = (
    FerPlus
    | Portraits
    | Folder
    | File
    | Drawn
    | Rendered
    | SAffWild2
    | AffWild2
    | Lsd
    | CExprDb
    | AffectNet
    | RafDb
    | ExpW
    | AfewVa
    | VggFace2
)

DATA_SETS: Final[dict[str, type[DataSet]]] = {
    get_args(kind.model_fields["set"].annotation)[0]: kind for kind in get_args(OneSet)
}
"""Every data set by the name that settings and recipes give it under ``set``."""

EXTENSIBLE: Final = Extensible("set", DATASETS, DataSet)  # type: ignore[type-abstract]
"""Lets settings name data sets of other distributions as well."""


class CombinedDataset(Mixing):
    """Several sets as one: joined, thinned, capped; has the tasks of all. See
    `mien.data.mixing`."""

    set: Literal["mix"]
    of: Annotated[
        tuple[Annotated[OneSet, Field(discriminator="set"), EXTENSIBLE], ...],
        Field(strict=False, min_length=1),
    ]
    """The sets. Where their labels contradict, those of the first stay."""

    @property
    def official_splits(self) -> bool:
        """Whether the splits of one of its sets are a challenge's, and stay as they are."""
        return not self.strict and any(spec.official_splits for spec in self.of)


AnySet = OneSet | CombinedDataset
Set = Annotated[AnySet, Field(discriminator="set"), EXTENSIBLE]


def set_name(spec: AnySet) -> str:
    """Name a data set as people do: by its own name, or by that of its folder or file.

    Args:
        spec: The settings of a data set or a mix.

    Returns:
        The name; of a mix, the names of its sets with a plus sign between.

    >>> set_name(File(set="file", path="faces/labels.csv"))
    'labels.csv'
    """
    if isinstance(spec, CombinedDataset):
        return " + ".join(dict.fromkeys(map(set_name, spec.of)))
    return spec.info.name or places(spec)[0].resolve().name


def places(spec: AnySet) -> tuple[Path, ...]:
    """List the folders and files of a data set.

    Args:
        spec: The settings of a data set or a mix.

    Returns:
        The folder or file of the data set first, then the folder of its pictures and the file of
        its labels where these are others. Of a mix, those of all its sets; empty for drawn faces.
    """
    paths: list[Path] = []
    if isinstance(spec, CombinedDataset):
        for member in spec.of:
            paths.extend(places(member))
        return tuple(paths)
    settings = dict(spec)
    for key, value in settings.items():
        # A path as text is one within the root, such as the challenges' `images`.
        if key == "images" and isinstance(value, str):
            paths.append(settings["root"] / value)
        elif isinstance(value, Path):
            paths.append(value)
    return tuple(paths)


def unmixed(specs: Iterable[AnySet]) -> tuple[OneSet, ...]:
    """Take mixes apart.

    Args:
        specs: Settings of data sets and mixes.

    Returns:
        The data sets, those of a mix in its place.
    """
    sets: list[OneSet] = []
    for spec in specs:
        sets.extend(spec.of if isinstance(spec, CombinedDataset) else [spec])
    return tuple(sets)


def starting_from(base: Path, spec: object, where: str = "data") -> object:
    """Let the relative paths of a set, as a YAML file gives it, start from a folder.

    Args:
        base: The folder of the YAML file.
        spec: The settings before they are validated.
        where: What error messages begin with: the key of these settings.

    Returns:
        The settings with absolute paths. What is no data set stays as it is: its validation
        says what is wrong.

    Raises:
        DataError: A path is in the home folder of somebody who has none.
    """
    if not isinstance(spec, dict):
        return spec
    if spec.get("set") == "mix" and isinstance(spec.get("of"), list):
        members = [
            starting_from(base, member, f"{where}.of.{i}") for i, member in enumerate(spec["of"])
        ]
        return {**spec, "of": members}
    kind = _kind_of(str(spec.get("set")))
    resolved = dict(spec)
    for key in _path_keys(kind) if kind is not None else ():
        if isinstance(spec.get(key), str):
            resolved[key] = str((base / at_home(spec[key], f"{where}.{key}")).absolute())
    return resolved


def _kind_of(name: str) -> type[DataSet] | None:
    """The data set of a name: mien's own, or an extension's."""
    kind = DATA_SETS.get(name)
    extension = extensions(DATASETS).get(name)
    if kind is None and extension is not None:
        kind = EXTENSIBLE.kind(extension)
    return kind


def _path_keys(kind: type[DataSet]) -> list[str]:
    """The keys of a data set that hold paths; a folder within its root is text, and none of
    them."""
    keys = []
    for key, field in kind.model_fields.items():
        if field.annotation is Path or Place in get_args(field.annotation):
            keys.append(key)
    return keys


def load_set(spec: AnySet, tasks: Sequence[Task]) -> pd.DataFrame:
    """Load the label table of a data set or a mix.

    Expressions in another label set than the one asked for are matched by name
    (`mien.data.label_table.remap_labels`). The activations of FER+ and the portraits come from a
    face landmarker and serve ``au.blendshapes`` only: they are no codes of FACS. Pictures and
    ranges are not checked: `mien.data.label_checks.check` does that.

    Args:
        spec: The settings of the data set.
        tasks: The tasks whose columns the table gets. A task that the set does not have is NaN
            throughout.

    Returns:
        The columns of `COLUMNS` and of `tasks`, every row in a split. ``attrs["notes"]`` is a list
        of lines on what had to be left out.

    Raises:
        DataError: As the loaders do; or two tasks share a column; or rows have no split.
    """
    _refuse_shared_columns(tasks)
    if isinstance(spec, CombinedDataset):
        return _load_mix(spec, tasks)
    name = set_name(spec)
    table, available = spec.load(tasks)
    notes = [f"{name}: {line}" for line in table.attrs.get("notes", ())]
    settings = dict(spec)
    if "split" in settings:
        paths = places(spec)
        where = str(paths[0]) if paths else name
        table = _split(table, settings["split"], where)
    for task in tasks:
        table, lost = _with_task(table, available, task)
        if lost:
            notes.append(
                f"{name}: {lost} faces show what {task.key} has no name for and lost their "
                "expression"
            )
    columns = [*COLUMNS]
    for task in tasks:
        columns.extend(task.columns)
    table = table[columns]
    table.attrs["notes"] = notes
    return table


def _load_mix(spec: CombinedDataset, tasks: Sequence[Task]) -> pd.DataFrame:
    """The label table of a mix."""
    # What expressions must agree with is loaded even where it is not asked for.
    extra: list[Task] = []
    if spec.consistent and "va" not in {task.family for task in tasks}:
        extra.append(TASKS["va"])
    table = mix([load_set(member, [*tasks, *extra]) for member in spec.of], spec, tasks)
    return table.drop(columns=[name for task in extra for name in task.columns])


def _refuse_shared_columns(tasks: Sequence[Task]) -> None:
    owners: dict[str, Task] = {}
    shared: dict[str, str] = {}
    for task in tasks:
        for column in task.columns:
            if column in owners:
                shared[column] = f"{owners[column].key} and {task.key}"
            owners[column] = task
    if shared:
        column = min(shared)
        raise DataError(f"{shared[column]} share the column {column}; ask for one of them")


def _split(table: pd.DataFrame, split: Any, where: str) -> pd.DataFrame:
    """The rows in the splits that the settings of a set say."""
    unsplit = table["split"].isna()
    if isinstance(split, Cut):
        if not unsplit.all():
            raise DataError(
                f"{where}: {(~unsplit).sum()} rows have a split already; leave `split` out, or "
                "name one split to take"
            )
        return split_by(table, split.by, split.shares, split.seed)
    if split is None and unsplit.any():
        raise DataError(
            f"{where}: {unsplit.sum()} of {len(table)} rows have no split; give `split`: a name, "
            "or by, shares and seed"
        )
    return in_split(table, split, where)


def _with_task(
    table: pd.DataFrame, available: Sequence[Task], task: Task
) -> tuple[pd.DataFrame, int]:
    """The table with the columns of a task, and how many rows lost a label that it has no class
    for."""
    if task in available:
        return table, 0
    for source in available:
        if source.kind == task.kind == "one_of" and source.family == task.family:
            remapped = remap_labels(table, source, task)
            before = table[source.columns[0]].notna().sum()
            after = remapped[task.columns[0]].notna().sum()
            return remapped, int(before - after)
    return table.assign(**dict.fromkeys(task.columns, np.float32(np.nan))), 0
