"""VGGFace2 (Cao et al. 2018): pictures of 9,131 people, a folder for each.

``train/`` and ``test/`` hold the folders of people (``n000002/0001_01.jpg``), no person in both; or
they lie in the root, where somebody has put all people together. Everybody is a class of
``identity.vggface2``, and a share of each person's pictures is held out as split val, since a
network that tells people apart can only be judged on people that it knows.

The eyes, nose and mouth corners are read where the official files lie in ``bb_landmark/`` or in the
root: ``loose_landmark_train.csv`` and ``loose_landmark_test.csv``.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from typing_extensions import override

from mien.data.label_table import table_of
from mien.data.presence import attach_notes, pictures
from mien.data.spec import DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import Floats, Task

__all__ = ["LANDMARKS", "VggFace2", "load_vggface2"]

LANDMARKS: Final = ("loose_landmark_train.csv", "loose_landmark_test.csv")
"""Files of five points per picture, x and y in turn: eyes, nose tip, mouth corners."""

_PARTS: Final = ("train", "test")
_LANDMARKS_IN: Final = "bb_landmark"
_NAME: Final = "NAME_ID"


def load_vggface2(root: Path, held_out: float, seed: int) -> tuple[pd.DataFrame, Task]:
    """Load the label table of VGGFace2.

    Args:
        root: Holds ``train`` and ``test``, one of them, or the folders of people.
        held_out: Share of each person's pictures in split val, 0..1; at least one picture of
            everybody who has two.
        seed: The same seed holds out the same pictures.

    Returns:
        The label table, with the number of the person in the column ``identity``, in the splits
        train and val; and the task, whose names are the folders'.

    Raises:
        DataError: There are no two people, one of them has no picture or comes twice, or a file of
            landmarks is damaged.
    """
    folders = _people(root)
    images: list[str] = []
    names: list[str] = []
    numbers = []
    splits = []
    for number, folder in enumerate(folders):
        of_person = pictures(folder)
        images += [f"{folder}/{name}" for name in of_person]
        names += [f"{folder.name}/{Path(name).stem}" for name in of_person]
        numbers.append(np.full(len(of_person), number, np.float32))
        splits.append(_splits(len(of_person), held_out, np.random.default_rng((seed, number))))
    points, notes = _points(root, names)
    about = {"split": np.concatenate(splits), "points": points}
    # Not `subject`: the same people are in both splits, which nothing else may do.
    table = table_of(images, about, {_task(folders): np.concatenate(numbers)[:, None]})
    return attach_notes(table, notes), _task(folders)


def _task(folders: Sequence[Path]) -> Task:
    names = tuple(folder.name for folder in folders)
    return Task("identity.vggface2", names, "one_of", numbered=True)


def _people(root: Path) -> list[Path]:
    """The folders of people, by name."""
    parts = [root / name for name in _PARTS if (root / name).is_dir()]
    folders: list[Path] = []
    for part in parts or [root]:
        folders += _subfolders(part)
    folders.sort(key=lambda folder: folder.name)
    names = [folder.name for folder in folders]
    if len(names) < 2:
        raise DataError(
            f"{root}: holds no folders of people; expected train/ and test/ with a folder for each "
            "person, or these folders themselves"
        )
    for before, name in pairwise(names):
        if before == name:
            raise DataError(f"{root}: {name} is in train and in test; keep one of the two")
    return folders


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as listing:
            names = [entry.name for entry in listing if entry.is_dir()]
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}; give the folder of VGGFace2") from error
    visible = [name for name in names if not name.startswith(".") and name != _LANDMARKS_IN]
    return [folder / name for name in visible]


def _splits(count: int, held_out: float, rng: np.random.Generator) -> np.ndarray:
    """Splits (N,) of one person's pictures, at random; one picture alone is trained on."""
    held = min(max(round(held_out * count), 1), count - 1)
    splits = np.full(count, "train", object)
    splits[rng.permutation(count)[:held]] = "val"
    return splits


def _points(root: Path, names: Sequence[str]) -> tuple[list[Floats | None], list[str]]:
    """Five points (10,) of each picture, None without, and notes."""
    files = []
    for name in LANDMARKS:
        files += [path for path in (root / _LANDMARKS_IN / name, root / name) if path.is_file()][:1]
    points: list[Floats | None] = [None] * len(names)
    if not files:
        note = (
            f"no {_LANDMARKS_IN}/{LANDMARKS[0]}, so faces are not aligned: pictures are taken to "
            "be framed as they should be"
        )
        return points, [note]
    table = pd.concat([_read_landmarks(path) for path in files])
    rows = table.index.get_indexer(pd.Index(names))
    values = table.to_numpy(np.float32)
    for i in np.flatnonzero(rows >= 0):
        points[i] = values[rows[i]]
    missing = int((rows < 0).sum())
    notes = [f"{missing} pictures have no landmarks, so their faces are not aligned"]
    return points, notes if missing else []


def _read_landmarks(path: Path) -> pd.DataFrame:
    """Ten numbers by picture, ``n000002/0001_01``."""
    try:
        # Set as the index afterwards: pandas fails at a missing one in ways of its own.
        table = pd.read_csv(path, dtype={_NAME: str}).set_index(_NAME).astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: {reason}; take the original file") from error
    if table.shape[1] != 10 or table.index.duplicated().any() or table.isna().to_numpy().any():
        raise DataError(
            f"{path}: expected {_NAME} and ten numbers for each picture, and each picture once; "
            "take the original file"
        )
    return table


class VggFace2(DataSet):
    """VGGFace2; has ``identity.vggface2``, its people; splits train and val, by pictures. See
    `mien.data.sets.vggface2`."""

    info: ClassVar = DataSetInfo(
        name="VGGFace2",
        title=None,
        terms="photos of public figures found on the web; research data",
        supervision={"identity": "the folders of VGGFace2, one for each person"},
        # People have no place among the tasks that networks are used for.
        tasks=(),
        source="VGGFace2, which its authors no longer give out: a copy obtained under its terms",
        paper="Cao, Shen, Xie, Parkhi & Zisserman 2018, VGGFace2: a dataset for recognising faces "
        "across pose and age",
    )

    set: Literal["vggface2"]
    root: Place
    """Holds train and test, or the folders of people themselves."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each person's pictures in split val."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """The same seed holds out the same pictures."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        table, people = load_vggface2(self.root, self.held_out, self.seed)
        return table, (people,)

    def people(self) -> Task:
        """Name the people.

        Returns:
            A numbered task whose names are those of their folders.

        Raises:
            DataError: There are no two people.
        """
        return _task(_people(self.root))
