"""Learning from synthetic data (ABAW4): synthetic faces to train on, real ones to be judged by.

`root` holds ``training_set_synthetic_images/<CLASS>/`` and ``validation_set_real_images/<CLASS>/``,
and for the test ``LSD_Challenge_test_set_release.txt`` with the pictures in ``lsd_test_data/``.
Class folders are those of ``expr.lsd6`` in any case of letters; anger's is spelt ``ANGRER`` in the
official data, and by some ``ANGERE``.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
import pandas as pd
from typing_extensions import override

from mien.data.frame_lists import read_list
from mien.data.label_table import table_of
from mien.data.presence import attach_notes, list_names, pictures, without_missing
from mien.data.spec import BY_AGREEMENT, DataSet, DataSetInfo, Place
from mien.errors import DataError, UnknownNameError
from mien.tasks import TASKS, Task

__all__ = ["COPY", "LSD", "LSD_LIST", "LSD_TRAIN", "Lsd", "load_lsd"]

LSD: Final = TASKS["expr.lsd6"]
LSD_LIST: Final = "LSD_Challenge_test_set_release.txt"

LSD_TRAIN: Final = "training_set_synthetic_images"
_VAL: Final = "validation_set_real_images"
_TEST: Final = "lsd_test_data"
_SPELLINGS: Final = {"angrer": "anger", "angere": "anger"}
# What Real-ESRGAN adds to names by default.
_ENLARGED: Final = "_out"
COPY: Final = "randaugment-"
"""What the names of copies begin with that `mien.data.balance` adds to training pictures."""


def load_lsd(root: Path, train: Path | None = None) -> pd.DataFrame:
    """Load the label table of the data of learning from synthetic data.

    Args:
        root: The folder that holds the folders of synthetic and real pictures.
        train: A folder with the same class folders, whose pictures (super-resolved ones, for
            instance) stand in for the training pictures. Each has the name of the official one,
            apart from the ending and ``_out``. Where the official ones are there as well, all must
            be matched; augmented copies (`COPY`) may come on top.

    Returns:
        One-hot expressions of the task `LSD`, in the splits train, val and, where its list is
        there, test (without labels).

    Raises:
        DataError: Folders are missing or name no class, or pictures are missing.
    """
    root = Path(root)
    notes: list[str] = []
    official = root / LSD_TRAIN
    training = _classes(Path(train) if train else official)
    if train and official.is_dir():
        _match(training, _classes(official), Path(train))
    parts = [_rows(training, "train"), _rows(_classes(root / _VAL), "val")]
    if (root / LSD_LIST).is_file():
        listed = read_list(root / LSD_LIST)[["image"]].drop_duplicates(ignore_index=True)
        listed = without_missing(listed, root / _TEST, "error", notes)
        parts.append(listed.assign(split="test", **dict.fromkeys(LSD.columns, np.float32(np.nan))))
    elif (root / _TEST).is_dir():
        notes.append(f"{root / _TEST} was left out, as its list {LSD_LIST} is not there")
    rows = pd.concat(parts, ignore_index=True)
    shares = rows[list(LSD.columns)].to_numpy()
    return attach_notes(table_of(rows["image"], {"split": rows["split"]}, {LSD: shares}), notes)


def _classes(folder: Path) -> dict[str, list[str]]:
    """Paths of the pictures of each class, by our name."""
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; it must hold the class folders ANGRER, DISGUST, FEAR, "
            "HAPPINESS, SADNESS and SURPRISE"
        )
    classes: dict[str, list[str]] = {}
    for name in sorted(list_names(folder)):
        if name.startswith(".") or not (folder / name).is_dir():
            continue
        expression = _SPELLINGS.get(name.lower(), name.lower())
        if expression not in LSD.names:
            unknown = UnknownNameError(f"class of {LSD.key}", expression, LSD.names)
            raise DataError(f"{folder / name}: {unknown} Take this folder out")
        if expression in classes:
            raise DataError(f"{folder / name}: a second folder of {expression}; keep one")
        # Text, as a Path for each of 277,000 pictures takes seconds.
        start = f"{folder / name}{os.sep}"
        classes[expression] = [start + picture for picture in pictures(folder / name)]
    if lacking := [name for name in LSD.names if name not in classes]:
        raise DataError(f"{folder}: no folder of {', '.join(lacking)}; unpack the data set there")
    return classes


def _rows(classes: dict[str, list[str]], split: str) -> pd.DataFrame:
    images: list[str] = []
    codes: list[int] = []
    for name, paths in classes.items():
        images += paths
        codes += [LSD.names.index(name)] * len(paths)
    shares = np.eye(len(LSD.names), dtype=np.float32)[codes]
    columns = dict(zip(LSD.columns, shares.T, strict=True))
    return pd.DataFrame({"image": images, "split": split, **columns})


def _stems(paths: list[str]) -> pd.Series:
    return pd.Series([os.path.splitext(os.path.basename(path))[0] for path in paths])


def _match(given: dict[str, list[str]], official: dict[str, list[str]], train: Path) -> None:
    """Raise DataError unless `given` has just the pictures of `official`, each once."""
    for name in LSD.names:
        stems, expected = _stems(given[name]), _stems(official[name])
        stems = stems[~stems.str.startswith(COPY)]
        # A name that is official as it is may well end in what an enlarger adds.
        stems = stems.where(stems.isin(expected), stems.str.removesuffix(_ENLARGED))
        problems = {
            "lacks {} pictures of": expected[~expected.isin(stems)],
            "has {} pictures that are not of": stems[~stems.isin(expected)],
            "has {} pictures twice of": stems[stems.duplicated()],
        }
        for problem, names in problems.items():
            if len(names):
                raise DataError(
                    f"{train}: {problem.format(len(names))} {LSD_TRAIN} in {name}, the first is "
                    f"{names.iloc[0]}; make that folder anew from it"
                )


class Lsd(DataSet):
    """Learning from synthetic data; has ``expr.lsd6``; splits train, val, test. See
    `mien.data.sets.lsd`."""

    info: ClassVar = DataSetInfo(
        name="LSD",
        title="LSD (faces synthesised from Aff-Wild2; ABAW4)",
        terms=BY_AGREEMENT,
        supervision={
            "expr": "expressions that the faces of LSD were synthesised to show; in its real "
            "pictures, annotators of Aff-Wild2"
        },
        tasks=("expr.lsd6",),
        source="the data of ABAW4's challenge on learning from synthetic data, from its organisers "
        "under a signed agreement",
        paper="Kollias 2022, ABAW: learning from synthetic data & multi-task learning challenges",
    )

    set: Literal["lsd"]
    root: Place
    """Holds the folders of synthetic and real pictures."""
    train: Place | None = None
    """Folder of training pictures that stand in for the official ones, such as super-resolved
    ones."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        return load_lsd(self.root, self.train), (LSD,)
