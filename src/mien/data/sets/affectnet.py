"""AffectNet (Mollahosseini, Hasani & Mahoor 2017), in the two layouts it was distributed in.

- Files for each picture: ``train_set/`` and ``val_set/`` hold ``images/<id>.jpg`` and
  ``annotations/<id>_exp.npy``, ``_val.npy``, ``_aro.npy`` and, in the official release,
  ``_lnd.npy``.
- CSV: ``training.csv`` (with a header) and ``validation.csv`` (without one in the official
  release), in `root` or in ``Manually_Annotated_file_lists/``, with the pictures below
  ``Manually_Annotated_Images/``.

For pictures in a folder for each class, use the set ``folder``.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray
from typing_extensions import override

from mien.data.annotation_codes import Labels, Where, lines, one_hot
from mien.data.frame_lists import read_text
from mien.data.label_table import Split, table_of
from mien.data.presence import attach_notes, list_names, without_missing
from mien.data.spec import BY_AGREEMENT, DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import TASKS, Task

__all__ = ["AFFECTNET_TASKS", "AffectNet", "five_of_68", "load_affectnet"]

AFFECTNET_TASKS: Final = (TASKS["expr.affectnet8"], TASKS["va"])

_NATIVE: Final = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)
# Expression codes: 8 none of these, 9 uncertain, 10 no face.
_NO_FACE: Final = 10
_NO_VA: Final = -2.0
_FOLDERS: Final[dict[Split, str]] = {"train": "train_set", "val": "val_set"}
_LISTS: Final[dict[Split, str]] = {"train": "training.csv", "val": "validation.csv"}
_LISTED_IN: Final = "Manually_Annotated_file_lists"
_IMAGES: Final = "Manually_Annotated_Images"
_COLUMNS: Final = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
_LANDMARKS: Final = 68
# Rows whose landmarks are split as text at a time; more would need much memory.
_CHUNK: Final = 20_000


def load_affectnet(root: Path) -> pd.DataFrame:
    """Load the label table of AffectNet.

    Args:
        root: Holds ``train_set`` and ``val_set``, or ``training.csv`` and ``validation.csv``.

    Returns:
        Labels of `AFFECTNET_TASKS`, in the splits train and val, with five points from the 68
        landmarks. Expressions 8 to 10 and valence or arousal of -2 are NaN; pictures with neither
        label are left out, which ``attrs["notes"]`` counts.

    Raises:
        DataError: `root` holds neither layout or both, files are damaged, labels are out of range,
            or pictures are missing.
    """
    root = Path(root)
    lists_folder = _lists_folder(root)
    parts = []
    if lists_folder is None:
        images = root
        for split, name in _FOLDERS.items():
            parts.append(_read_folder(root, name).assign(split=split))
    else:
        images = root / _IMAGES
        for split, name in _LISTS.items():
            parts.append(_read_csv(lists_folder / name).assign(split=split))
    table = pd.concat(parts, ignore_index=True)
    expr, va = AFFECTNET_TASKS
    unlabelled = table[[*expr.columns, *va.columns]].isna().all(axis=1)
    notes = []
    if unlabelled.any():
        notes.append(
            f"{unlabelled.sum()} pictures have no expression (none, uncertain, no face) and no "
            "valence and were left out"
        )
    table = table[~unlabelled].reset_index(drop=True)
    return attach_notes(without_missing(table, images, "error", notes), notes)


def _lists_folder(root: Path) -> Path | None:
    """The folder of the CSV lists; None where `root` has files for each picture instead."""
    lists_folder = None
    for folder in (root, root / _LISTED_IN):
        if all((folder / name).is_file() for name in _LISTS.values()):
            lists_folder = folder
            break
    has_folders = all((root / name).is_dir() for name in _FOLDERS.values())
    if has_folders == (lists_folder is not None):
        problem = "holds both layouts; give the folder of one" if lists_folder else "holds neither"
        folders, lists = " and ".join(_FOLDERS.values()), " and ".join(_LISTS.values())
        raise DataError(f"{root}: {problem}: {folders}, or {lists}")
    return lists_folder


def _label_table(
    images: Sequence[str] | pd.Series,
    codes: Labels,
    va: Labels,
    points: list[Any] | None,
    where: Where,
) -> pd.DataFrame:
    """The label table of AffectNet's own codes (N,) and valence and arousal (N, 2)."""
    unknown = ~np.isin(codes, range(_NO_FACE + 1))
    _refuse(unknown, where, "its expression is not 0 to 10")
    unrated = (va == _NO_VA).any(axis=1)
    outside = ~unrated & ~(np.abs(va) <= 1).all(axis=1)
    _refuse(outside, where, "its valence or arousal is neither within -1..1 nor -2 (none)")
    expr, va_task = AFFECTNET_TASKS
    codes = np.where(codes < len(_NATIVE), codes, np.float32(np.nan))
    order = [_NATIVE.index(name) for name in expr.names]
    va = np.where(unrated[:, None], np.float32(np.nan), va)
    return table_of(images, {"points": points}, {expr: one_hot(codes, order), va_task: va})


def _refuse(wrong: NDArray[np.bool_], where: Where, problem: str) -> None:
    """Raise DataError for the first of the rows (N,) that are wrong."""
    if wrong.any():
        raise DataError(
            f"{where(int(wrong.argmax()))}: {problem} ({wrong.sum()} such); take the original file"
        )


def five_of_68(landmarks: Labels) -> Labels:
    """Reduce 68 landmarks to five points.

    Args:
        landmarks: Landmarks (N, 68, 2) in the order of iBUG 300-W, px.

    Returns:
        Points (N, 10), x and y in turn: eyes (means of six), nose tip, mouth corners; those on the
        image's left come first.
    """
    left_eye = landmarks[:, 36:42].mean(axis=1)
    right_eye = landmarks[:, 42:48].mean(axis=1)
    nose, left_corner, right_corner = landmarks[:, 30], landmarks[:, 48], landmarks[:, 54]
    points = np.stack([left_eye, right_eye, nose, left_corner, right_corner], axis=1)
    return points.reshape(-1, 10)


def _read_folder(root: Path, name: str) -> pd.DataFrame:
    """The label table of a split with annotation files for each picture."""
    folder = root / name / "annotations"
    files = set(list_names(folder))
    ids = sorted(name.removesuffix("_exp.npy") for name in files if name.endswith("_exp.npy"))
    if not ids:
        raise DataError(f"{folder}: holds no <id>_exp.npy; unpack the annotations there")
    for kind in ("val", "aro"):
        missing = [picture for picture in ids if f"{picture}_{kind}.npy" not in files]
        if missing:
            raise DataError(
                f"{folder}: {len(missing)} of {len(ids)} pictures have no _{kind}.npy, the first "
                f"is {missing[0]}; unpack it again"
            )
    columns = {}
    for kind in ("exp", "val", "aro"):
        names = [f"{picture}_{kind}.npy" for picture in ids]
        columns[kind] = _read_arrays(folder, names, 1)[:, 0]
    va = np.stack([columns["val"], columns["aro"]], axis=1)
    points = _read_points(folder, ids, files)
    images = [f"{name}/images/{picture}.jpg" for picture in ids]
    return _label_table(images, columns["exp"], va, points, lambda row: f"{folder}: {ids[row]}")


def _read_points(folder: Path, ids: list[str], files: set[str]) -> list[Any]:
    """Five points of each picture; None where it has no file of landmarks."""
    points: list[Any] = [None] * len(ids)
    rows = [row for row, picture in enumerate(ids) if f"{picture}_lnd.npy" in files]
    if not rows:
        return points
    names = [f"{ids[row]}_lnd.npy" for row in rows]
    landmarks = _read_arrays(folder, names, 2 * _LANDMARKS).reshape(-1, _LANDMARKS, 2)
    for row, five in zip(rows, five_of_68(landmarks), strict=True):
        points[row] = five
    return points


def _read_arrays(folder: Path, names: list[str], width: int) -> Labels:
    """Read N files in NumPy's format into numbers (N, `width`).

    Each file holds `width` numbers, or text that spells them. Files with the same header are
    decoded together: one by one would take minutes.
    """
    contents = [(folder / name).read_bytes() for name in names]
    # Magic string and version take 8 bytes, the length of the header 2 (NumPy format 1.0).
    sizes = [10 + int.from_bytes(content[8:10], "little") for content in contents]
    headers = [content[:size] for content, size in zip(contents, sizes, strict=True)]
    groups, distinct = pd.factorize(pd.Series(headers, dtype=object))
    values = np.empty((len(names), width), np.float32)
    for group, header in enumerate(distinct):
        rows = np.flatnonzero(groups == group)
        bodies = b"".join(contents[row][sizes[row] :] for row in rows)
        try:
            values[rows] = _decode(header, bodies, len(rows), width)
        except ValueError as error:
            plural = "s" if width > 1 else ""
            raise DataError(
                f"{folder / names[int(rows[0])]}: not {width} number{plural} as NumPy writes them "
                f"({error}); unpack it again"
            ) from error
    return values


def _decode(header: bytes, bodies: bytes, count: int, width: int) -> Labels:
    """Numbers (`count`, `width`) of joined files with one header; ValueError if it does not fit."""
    stream = BytesIO(header)
    version = np.lib.format.read_magic(stream)
    shape, _, kind = np.lib.format.read_array_header_1_0(stream)
    # Arrays of objects would have to be unpickled, which runs code out of the file.
    supported = version == (1, 0) and not kind.hasobject
    complete = int(np.prod(shape)) == width and len(bodies) == count * width * kind.itemsize
    if not (supported and complete):
        raise ValueError(f"shape {shape}, type {kind}")
    return np.frombuffer(bodies, kind).reshape(count, width).astype(np.float32)


def _read_csv(path: Path) -> pd.DataFrame:
    """The label table of one list."""
    text = read_text(path).rstrip()
    first, _, rest = text.partition("\n")
    fields = [name.strip().lower() for name in first.split(",")]
    expected = [name.lower() for name in _COLUMNS]
    has_header = fields[0] == expected[0]
    if has_header and fields != expected:
        raise DataError(
            f"{path}: line 1 is {first.strip()[:80]!r}, not {','.join(_COLUMNS)!r}; take the "
            "original file"
        )
    columns = _parse_csv(path, rest if has_header else text)
    where = lines(path, 2 if has_header else 1)
    points = _parse_points(columns["facial_landmarks"].combine_chunks(), where)
    images = columns["subDirectory_filePath"].to_pandas()
    codes = columns["expression"].to_numpy()
    va = np.stack([columns["valence"].to_numpy(), columns["arousal"].to_numpy()], axis=1)
    return _label_table(images, codes, va, points, where)


def _parse_csv(path: Path, rows: str) -> "pa.Table":
    """The columns that are used, of rows without a header."""
    types: dict[str, pa.DataType] = {
        "subDirectory_filePath": pa.large_string(),
        "facial_landmarks": pa.large_string(),
        "expression": pa.float32(),
        "valence": pa.float32(),
        "arousal": pa.float32(),
    }
    reading = pa.csv.ReadOptions(column_names=_COLUMNS, use_threads=False)
    parsing = pa.csv.ParseOptions(ignore_empty_lines=False)
    converting = pa.csv.ConvertOptions(include_columns=list(types), column_types=types)
    try:
        return pa.csv.read_csv(pa.BufferReader(rows.encode()), reading, parsing, converting)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: {reason}; take the original file") from error


def _parse_points(texts: "pa.Array", where: Where) -> list[Any]:
    """Five points of landmarks written ``x;y;x;y…``; None where the cell is empty."""
    points: list[Any] = [None] * len(texts)
    for start in range(0, len(texts), _CHUNK):
        chunk = texts.slice(start, _CHUNK)
        fields = pc.split_pattern(chunk, ";")
        counts = pc.fill_null(pc.list_value_length(fields), 0).to_numpy(zero_copy_only=False)
        empty = pc.fill_null(pc.equal(chunk, ""), True).to_numpy(zero_copy_only=False)
        wrong = ~empty & (counts != 2 * _LANDMARKS)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{where(start + row)}: {counts[row]} numbers of landmarks, not "
                f"{2 * _LANDMARKS}; take the original file"
            )
        try:
            numbers = pc.cast(fields.filter(pa.array(~empty)).flatten(), pa.float32()).to_numpy()
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{where(start)} or below: a landmark is no number ({error}); take the original "
                "file"
            ) from error
        rows = np.flatnonzero(~empty).tolist()
        landmarks = numbers.reshape(-1, _LANDMARKS, 2)
        for row, five in zip(rows, five_of_68(landmarks), strict=True):
            points[start + row] = five
    return points


class AffectNet(DataSet):
    """AffectNet; has ``expr.affectnet8`` and ``va``; splits train and val. See
    `mien.data.sets.affectnet`."""

    info: ClassVar = DataSetInfo(
        name="AffectNet",
        title=None,
        terms=BY_AGREEMENT,
        supervision=dict.fromkeys(("expr", "va"), "one annotator of AffectNet for most pictures"),
        tasks=("expr.affectnet8", "va"),
        source="AffectNet from its authors, under a signed agreement",
        paper="Mollahosseini, Hasani & Mahoor 2017, AffectNet: a database for facial expression, "
        "valence, and arousal computing in the wild",
    )

    set: Literal["affectnet"]
    root: Place
    """Holds train_set and val_set, or training.csv and validation.csv."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        return load_affectnet(self.root), AFFECTNET_TASKS
