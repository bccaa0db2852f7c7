"""AffectNet (Mollahosseini, Hasani & Mahoor 2017), in the two layouts it has been given out in.

- Files for each picture: ``train_set/`` and ``val_set/`` hold ``images/<id>.jpg`` and ``annotations/<id>_exp.npy``, ``_val.npy``,
  ``_aro.npy`` and, in the official release, ``_lnd.npy``.
- CSV: ``training.csv`` (with a header) and ``validation.csv`` (without one in the official release), in `root` or in
  ``Manually_Annotated_file_lists/``, with the pictures below ``Manually_Annotated_Images/``.

Pictures in a folder for each class are the set ``folder``'s.
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
_NO_FACE: Final = 10  # 8 none of these, 9 uncertain, 10 no face
_NO_VA: Final = -2.0
_FOLDERS: Final[dict[Split, str]] = {"train": "train_set", "val": "val_set"}
_LISTS: Final[dict[Split, str]] = {"train": "training.csv", "val": "validation.csv"}
_LISTED_IN: Final = "Manually_Annotated_file_lists"
_IMAGES: Final = "Manually_Annotated_Images"
_COLUMNS: Final = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression", "valence", "arousal",
)  # fmt: skip
_LANDMARKS: Final = 68
_CHUNK: Final = 20_000  # rows whose landmarks are text at a time


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
    root, notes = Path(root), list[str]()
    split = [(root / name).is_dir() for name in _FOLDERS.values()]
    listing = next(
        (
            place
            for place in (root, root / _LISTED_IN)
            if all((place / name).is_file() for name in _LISTS.values())
        ),
        None,
    )
    if all(split) == (listing is not None):
        said = "holds both layouts; give the folder of one" if listing else "holds neither"
        raise DataError(
            f"{root}: {said}: {' and '.join(_FOLDERS.values())}, or {' and '.join(_LISTS.values())}"
        )
    if listing is None:
        table = pd.concat(
            [_of_files(root, name).assign(split=split) for split, name in _FOLDERS.items()],
            ignore_index=True,
        )
    else:
        table = pd.concat(
            [_of_csv(listing / name).assign(split=split) for split, name in _LISTS.items()],
            ignore_index=True,
        )
    bare = table[[name for task in AFFECTNET_TASKS for name in task.columns]].isna().all(axis=1)
    notes += (
        [
            f"{bare.sum()} pictures have no expression (none, uncertain, no face) and no valence and were left out"
        ]
        if bare.any()
        else []
    )
    kept = table[~bare].reset_index(drop=True)
    return attach_notes(
        without_missing(kept, root if listing is None else root / _IMAGES, "error", notes), notes
    )


def _labelled(
    images: Sequence[str] | pd.Series,
    codes: Labels,
    va: Labels,
    points: list[Any] | None,
    where: Where,
) -> pd.DataFrame:
    """The label table of AffectNet's own codes (N,) and valence and arousal (N, 2)."""
    wrong = ~np.isin(codes, range(_NO_FACE + 1))
    none = (va == _NO_VA).any(axis=1)
    out = ~none & ~(np.abs(va) <= 1).all(axis=1)
    for bad, said in (
        (wrong, "its expression is not 0 to 10"),
        (out, "its valence or arousal is neither within -1..1 nor -2 (none)"),
    ):
        if bad.any():
            raise DataError(
                f"{where(int(bad.argmax()))}: {said} ({bad.sum()} such); take the original file"
            )
    expr, _ = AFFECTNET_TASKS
    codes = np.where(codes < len(_NATIVE), codes, np.float32(np.nan))
    shares = one_hot(codes, [_NATIVE.index(name) for name in expr.names])
    va = np.where(none[:, None], np.float32(np.nan), va)
    return table_of(
        images, {"points": points}, dict(zip(AFFECTNET_TASKS, (shares, va), strict=True))
    )


def five_of_68(landmarks: Labels) -> Labels:
    """Reduce 68 landmarks to five points.

    Args:
        landmarks: Landmarks (N, 68, 2) in the order of iBUG 300-W, px.

    Returns:
        Points (N, 10), x and y in turn: eyes (means of six), nose tip, mouth corners; those on the
        image's left come first.
    """
    eyes = [landmarks[:, start : start + 6].mean(axis=1) for start in (36, 42)]
    return np.stack([*eyes, landmarks[:, 30], landmarks[:, 48], landmarks[:, 54]], axis=1).reshape(
        -1, 10
    )


def _of_files(root: Path, name: str) -> pd.DataFrame:
    folder = root / name / "annotations"
    found = list_names(folder)
    ids = sorted(file.removesuffix("_exp.npy") for file in found if file.endswith("_exp.npy"))
    if not ids:
        raise DataError(f"{folder}: holds no <id>_exp.npy; unpack the annotations there")
    there = set(found)
    for kind in ("val", "aro"):
        if lost := [each for each in ids if f"{each}_{kind}.npy" not in there]:
            raise DataError(
                f"{folder}: {len(lost)} of {len(ids)} pictures have no _{kind}.npy, the first is {lost[0]}; unpack it again"
            )
    codes, valence, arousal = (
        _arrays(folder, [f"{each}_{kind}.npy" for each in ids], 1)[:, 0]
        for kind in ("exp", "val", "aro")
    )
    points: list[Any] = [None] * len(ids)
    placed = [row for row, each in enumerate(ids) if f"{each}_lnd.npy" in there]
    if placed:
        five = five_of_68(
            _arrays(folder, [f"{ids[row]}_lnd.npy" for row in placed], 2 * _LANDMARKS).reshape(
                -1, _LANDMARKS, 2
            )
        )
        for row, point in zip(placed, five, strict=True):
            points[row] = point
    images = [f"{name}/images/{each}.jpg" for each in ids]
    return _labelled(
        images,
        codes,
        np.stack([valence, arousal], axis=1),
        points,
        lambda row: f"{folder}: {ids[row]}",
    )


def _arrays(folder: Path, names: list[str], width: int) -> Labels:
    """Numbers (N, `width`) of N files in NumPy's format, each of a number or `width` of them, or of text that says one.

    Files that start alike are decoded together: one by one would take minutes.
    """
    contents = [(folder / name).read_bytes() for name in names]
    sizes = [10 + int.from_bytes(content[8:10], "little") for content in contents]
    groups, heads = pd.factorize(
        pd.Series(
            [content[:size] for content, size in zip(contents, sizes, strict=True)], dtype=object
        )
    )
    values = np.empty((len(names), width), np.float32)
    for group, head in enumerate(heads):
        rows = np.flatnonzero(groups == group)
        first = folder / names[int(rows[0])]
        try:
            stream = BytesIO(head)
            version = np.lib.format.read_magic(stream)
            shape, _, kind = np.lib.format.read_array_header_1_0(stream)
            bodies = b"".join(contents[row][sizes[row] :] for row in rows)
            if (
                version != (1, 0)
                or kind.hasobject
                or int(np.prod(shape)) != width
                or len(bodies) != len(rows) * width * kind.itemsize
            ):
                raise ValueError(f"shape {shape}, type {kind}")
            values[rows] = np.frombuffer(bodies, kind).reshape(len(rows), width).astype(np.float32)
        except ValueError as error:
            raise DataError(
                f"{first}: not {width} number{'s' * (width > 1)} as NumPy writes them ({error}); unpack it again"
            ) from error
    return values


def _of_csv(path: Path) -> pd.DataFrame:
    text = read_text(path).rstrip()
    first, _, rest = text.partition("\n")
    headed = first.partition(",")[0].strip().lower() == _COLUMNS[0].lower()
    if headed and tuple(name.strip().lower() for name in first.split(",")) != tuple(
        name.lower() for name in _COLUMNS
    ):
        raise DataError(
            f"{path}: line 1 is {first.strip()[:80]!r}, not {','.join(_COLUMNS)!r}; take the original file"
        )
    where = lines(path, 2 if headed else 1)
    numbers = ("expression", "valence", "arousal")
    try:
        found = pa.csv.read_csv(
            pa.BufferReader((rest if headed else text).encode()),
            read_options=pa.csv.ReadOptions(column_names=_COLUMNS, use_threads=False),
            parse_options=pa.csv.ParseOptions(ignore_empty_lines=False),
            convert_options=pa.csv.ConvertOptions(
                include_columns=[_COLUMNS[0], _COLUMNS[5], *numbers],
                column_types={
                    _COLUMNS[0]: pa.large_string(),
                    _COLUMNS[5]: pa.large_string(),
                    **dict.fromkeys(numbers, pa.float32()),
                },
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path}: {' '.join(str(error).split())[:160]}; take the original file"
        ) from error
    codes, *va = (found[name].to_numpy() for name in numbers)
    points = _points(found[_COLUMNS[5]].combine_chunks(), where)
    return _labelled(found[_COLUMNS[0]].to_pandas(), codes, np.stack(va, axis=1), points, where)


def _points(texts: "pa.Array", where: Where) -> list[Any]:
    """Five points of landmarks written ``x;y;x;y…``; None where the cell is empty."""
    points: list[Any] = [None] * len(texts)
    for start in range(0, len(texts), _CHUNK):
        parts = pc.split_pattern(texts.slice(start, _CHUNK), ";")
        counts = np.asarray(
            pc.fill_null(pc.list_value_length(parts), 0).to_numpy(zero_copy_only=False)
        )
        empty = pc.fill_null(pc.equal(texts.slice(start, _CHUNK), ""), True).to_numpy(
            zero_copy_only=False
        )
        wrong = ~empty & (counts != 2 * _LANDMARKS)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{where(start + row)}: {counts[row]} numbers of landmarks, not {2 * _LANDMARKS}; take the original file"
            )
        rows = np.flatnonzero(~empty)
        try:
            numbers = pc.cast(parts.filter(pa.array(~empty)).flatten(), pa.float32()).to_numpy()
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{where(start)} or below: a landmark is no number ({error}); take the original file"
            ) from error
        for row, five in zip(
            rows.tolist(), five_of_68(numbers.reshape(-1, _LANDMARKS, 2)), strict=True
        ):
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
