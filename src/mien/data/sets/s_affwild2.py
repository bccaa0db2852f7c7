"""s-Aff-Wild2, the data of the multi-task challenges of ABAW3, ABAW4 and ABAW7.

`root` holds ``training_set_annotations.txt`` and ``validation_set_annotations.txt`` (or ABAW3's
``train_set.txt`` and ``validation_set.txt``), a test list where there is one
(`mien.data.frame_lists.MTL_LISTS`), and the pictures. A header of five names,
``image,valence,arousal,expression,aus``, stands above rows of 16 fields; the header that some
rewrite to 16 names is taken as well.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from typing_extensions import override

from mien.data.annotation_codes import AU_NAMES, Labels, coordinates, expressions, lines, units
from mien.data.frame_lists import MTL_LISTS, mtl_test_list, named_frames, read_text
from mien.data.label_table import table_of
from mien.data.presence import Missing, attach_notes, recordings, shared_recordings, without_missing
from mien.data.spec import BY_AGREEMENT, DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import TASKS, Task

__all__ = ["MTL_TASKS", "SAffWild2", "load_s_aff_wild2"]

MTL_TASKS: Final = (TASKS["va"], TASKS["expr.abaw8"], TASKS["au.abaw12"])

_FILES: Final = {
    "train": ("training_set_annotations.txt", "train_set.txt"),
    "val": ("validation_set_annotations.txt", "validation_set.txt"),
}
_HEAD: Final = ("image", "valence", "arousal", "expression")
_FIELDS: Final = (*_HEAD, *AU_NAMES)
_HEADERS: Final = {(*_HEAD, "aus"), _FIELDS, ("image_path", *_FIELDS[1:])}
_COLUMNS: Final = [name for task in MTL_TASKS for name in task.columns]


def load_s_aff_wild2(
    root: Path,
    images: str = "cropped_aligned",
    missing: Missing = "error",
    *,
    strict: bool = False,
) -> pd.DataFrame:
    """Load the label table of s-Aff-Wild2.

    Args:
        root: The folder that holds the annotation files.
        images: Folder of the pictures ``<video>/<00001>.jpg``, within `root` or an absolute path.
        missing: What becomes of listed pictures that are not there.
        strict: Leave out training rows of a recording that is in validation as well.

    Returns:
        Labels of `MTL_TASKS`, in the splits train, val and, where its list is there, test (without
        labels). `video` is the picture's folder, `subject` the recording: its name without
        ``_left`` or ``_right``. A picture that comes twice is one row; where its labels differ,
        the first stays, and it is in validation where both splits have it. Splits are the official
        ones, in which a few recordings are in both. Rows without any label stay, as neighbours in
        time. ``attrs["notes"]`` counts all that.

    Raises:
        DataError: Files are absent, damaged, or of another challenge.
    """
    root = Path(root)
    notes: list[str] = []
    parts = [_read(_file(root, split)).assign(split=split) for split in _FILES]
    if any((root / name).is_file() for name in MTL_LISTS):
        unlabelled = dict.fromkeys(_COLUMNS, np.float32(np.nan))
        parts.append(mtl_test_list(root).assign(split="test", **unlabelled))
    table = pd.concat(parts, ignore_index=True)
    table["subject"] = recordings(table["video"].to_numpy(object))
    table = _once(shared_recordings(table, notes, strict=strict), notes)
    table = without_missing(table, root / images, missing, notes)
    annotated = table["split"] != "test"
    bare = int(table.loc[annotated, _COLUMNS].isna().all(axis=1).sum())
    if bare:
        notes.append(f"{bare} training and validation rows have no label")
    about = {name: table[name] for name in ("video", "frame", "subject", "split")}
    labels = {task: table[list(task.columns)].to_numpy() for task in MTL_TASKS}
    return attach_notes(table_of(table["image"], about, labels), notes)


def _file(root: Path, split: str) -> Path:
    """The annotation file of a split."""
    for name in _FILES[split]:
        if (root / name).is_file():
            return root / name
    # The folder of the other form of these data is the likeliest mistake.
    dense = any(root.glob("*_Set")) or any(root.glob("*_Challenge"))
    step = "give the folder that holds the annotation files"
    if dense:
        step = "this looks like dense Aff-Wild2, whose set is aff-wild2"
    raise DataError(f"{root}: holds no {' or '.join(_FILES[split])}; {step}")


def _read(path: Path) -> pd.DataFrame:
    """`image`, `video`, `frame` and labels of one annotation file."""
    text = read_text(path).rstrip()
    header, _, body = text.partition("\n")
    if tuple(name.strip().lower() for name in header.split(",")) not in _HEADERS:
        raise DataError(
            f"{path}: line 1 is {header.strip()[:80]!r}, not "
            "'image,valence,arousal,expression,aus'; give the annotations of the multi-task "
            "challenge (ABAW3, ABAW4 or ABAW7)"
        )
    if not body.strip():
        raise DataError(f"{path}: no rows below the header; take the original file")
    where = lines(path)
    names, values = _parsed(body, path)
    table = named_frames(names)
    wrong = ((table["video"] == "") | (table["frame"] < 0)).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{where(row)}: {table['image'][row]!r} is not <video>/<number>.jpg; "
            "take the original file"
        )
    va = coordinates(values[:, :2], where)
    shares = expressions(values[:, 2], 8, where)
    aus = units(values[:, 3:], where)
    labels = np.concatenate((va, shares, aus), axis=1)
    return table.assign(**dict(zip(_COLUMNS, labels.T, strict=True)))


def _parsed(body: str, path: Path) -> tuple["pa.Array", Labels]:
    """Names (N,) and the 15 numbers (N, 15) of rows of 16 fields."""
    types = {name: pa.float32() for name in _FIELDS[1:]} | {"image": pa.large_string()}
    try:
        fields = pa.csv.read_csv(
            pa.BufferReader(body.encode()),
            read_options=pa.csv.ReadOptions(column_names=_FIELDS),
            parse_options=pa.csv.ParseOptions(ignore_empty_lines=False, quote_char=False),
            convert_options=pa.csv.ConvertOptions(column_types=types),
        )
    except pa.ArrowInvalid as error:
        raise _damage(body, path) from error
    values = np.stack([fields[name].to_numpy() for name in _FIELDS[1:]], axis=1)
    # An empty field is read as NaN.
    if np.isnan(values).any():
        raise _damage(body, path)
    return fields["image"].combine_chunks(), values


def _damage(body: str, path: Path) -> DataError:
    """What is wrong with the first row that is not a name and 15 numbers."""
    rows = body.splitlines()
    for number, row in enumerate(rows, start=2):
        fields = row.split(",")
        if len(fields) != len(_FIELDS):
            # A short last line is what a broken download leaves.
            cut = "the file is cut off; " if number == len(rows) + 1 else ""
            return DataError(
                f"{path}: line {number} has {len(fields)} of 16 fields; {cut}take the original file"
            )
        numbers = pd.to_numeric(pd.Series(fields[1:]), errors="coerce")
        if numbers.isna().any():
            column = 1 + int(numbers.isna().to_numpy().argmax())
            return DataError(
                f"{path}: line {number}: {_FIELDS[column]} is {fields[column]!r}, no number; "
                "take the original file"
            )
    return DataError(f"{path}: not rows of 16 comma fields; take the original file")


def _once(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The first row of every picture in each split; what validates is not trained on."""
    validated = table["image"][table["split"] == "val"]
    doubled = (table["split"] == "train") & table["image"].isin(validated)
    if doubled.any():
        notes.append(
            f"{doubled.sum()} training pictures are in validation as well and were left out"
        )
        table = table[~doubled].reset_index(drop=True)
    # A picture that is in the list of test rows too is answered there, whatever else it is.
    key = table["split"] + "/" + table["image"]
    repeated = key.duplicated().to_numpy()
    if not repeated.any():
        return table
    # Codes count pictures in the order of their first rows, which are those not repeated.
    codes = pd.factorize(key)[0]
    first = np.flatnonzero(~repeated)[codes[repeated]]
    values = table[_COLUMNS].to_numpy(np.float32)
    same = np.isclose(values[repeated], values[first], rtol=0, atol=0, equal_nan=True)
    differ = int((~same).any(axis=1).sum())
    notes.append(
        f"{repeated.sum()} rows repeat a picture and were left out; {differ} of them differ from "
        "its first row, which stays"
    )
    return table[~repeated].reset_index(drop=True)


class SAffWild2(DataSet):
    """s-Aff-Wild2; has ``va``, ``expr.abaw8`` and ``au.abaw12``; splits train, val, test. See
    `mien.data.sets.s_affwild2`."""

    info: ClassVar = DataSetInfo(
        name="s-Aff-Wild2",
        title="s-Aff-Wild2 (frames of Aff-Wild2; multi-task challenge of ABAW)",
        terms=BY_AGREEMENT,
        supervision=dict.fromkeys(("expr", "va", "au"), "annotators of Aff-Wild2, frame by frame"),
        tasks=("va", "expr.abaw8", "au.abaw12"),
        source="s-Aff-Wild2 from the ABAW organisers, under a signed agreement",
        paper="Kollias 2022, ABAW: valence-arousal estimation, expression recognition, action unit "
        "detection & multi-task learning challenges",
    )

    set: Literal["s-aff-wild2"]
    root: Place
    """Holds the annotation files."""
    images: str = "cropped_aligned"
    """Folder of the pictures, within the root or an absolute path."""
    missing: Missing = "error"
    """What becomes of listed pictures that are not there: ``error`` or ``drop``."""
    strict: bool = False
    """Leave training rows of a recording out where it is in validation as well; the official
    splits keep them."""

    @property
    @override
    def official_splits(self) -> bool:
        return not self.strict

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        return load_s_aff_wild2(self.root, self.images, self.missing, strict=self.strict), MTL_TASKS
