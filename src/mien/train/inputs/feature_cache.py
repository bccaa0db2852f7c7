"""The feature cache: what a bundle says of every picture of a label table, computed once and kept on disk.

A folder for each bundle, pixels and alignment (`place_of`), so that numbers of two networks never mix. In it:

``rows.npy``       (M, D + K) float32: features, then raw outputs in task order. Half precision would halve the file, but change raw
                   outputs in the third digit, and heads must learn from exactly what the bundle gives.
``index.parquet``  which picture row i is: its name, a mark of the points it was aligned by, the size and time of its file.
``about.json``     what the folder's name stands for, for people.

Rows reach the disk before the index that speaks of them, and the index is replaced in one step. A build that is killed at any point
leaves a cache that is whole up to its last commit; the next build drops what lies behind it and goes on. No pixels are kept.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien.bundles.card import AffectCard
from mien.bundles.store import Model
from mien.data.images import read_picture
from mien.errors import DataError, OutputError
from mien.files import AtomicFile, atomic_write, wrap_os_errors
from mien.progress import ItemProgress

__all__ = ["FeatureCache", "build", "place_of"]

Floats32 = NDArray[np.float32]
Stamp = tuple[int, int]

_ALIGNMENT: Final = "by the table's five points where it has them, else the whole picture"
_COMMIT: Final = 8192  # rows; a kill costs at most these
_NO_FILE: Final = (-1, -1)  # the stamp of a picture that the table itself holds
_SCHEMA: Final = pa.schema(
    [
        ("image", pa.string()),
        ("points", pa.uint64()),
        ("size", pa.int64()),
        ("changed_ns", pa.int64()),
    ]
)


class FeatureCache:
    """Features and raw outputs of a bundle, kept by `build`. Arrays are mapped: of the disk, only what is looked at is read.

    Rows of pictures that have changed stay in the file and lose their name, so take rows by number, from `rows`.
    Numbers are what the engine gave; engines differ by up to the card's `tolerance`, so let one engine build a cache.

    folder: the folder given to `build`. root: the folder that paths of pictures are taken relative to.
    Raises DataError when nothing was built there or the index is damaged, BundleError when the bundle exposes no features.
    """

    features_and_raw: Floats32
    """(M, D + K) float32: features, then raw outputs in task order, side by side."""
    features: Floats32
    """(M, D) float32: pooled backbone output before the heads."""
    raw: dict[str, Floats32]
    """By task family (M, K) float32, before temperature and `Task.decode`."""
    skipped: tuple[str, ...]
    """The pictures that the `build` that gave this cache could not read and was allowed to skip."""

    def __init__(
        self, folder: Path, card: AffectCard, *, root: Path, skipped: Sequence[str] = ()
    ) -> None:
        self.place = place_of(card, folder)
        self.root = root
        self.skipped = tuple(skipped)
        file, width = self.place / "rows.npy", sum(card.widths)
        start = len(_header(0, width))
        if not file.is_file() or file.stat().st_size < start:
            raise DataError(
                f"{self.place}: nothing of {card.name} is cached here; call build() first"
            )
        self._index, _ = _read_index(self.place, card)
        self.features_and_raw = np.memmap(
            file, "<f4", "r", offset=start, shape=(len(self._index), width)
        )
        self.features, *raw = np.split(self.features_and_raw, np.cumsum(_order(card))[:-1], axis=1)
        self.raw = {spec.task.family: part for spec, part in zip(card.tasks, raw, strict=True)}

    def rows(self, table: pd.DataFrame) -> NDArray[np.int64]:
        """Row number (N,) of every picture of a label table (columns `image` and, where it has any, `points`).

        Files are not looked at: it is `build` that notices when one has changed.
        Raises DataError naming the first picture that is not cached, and how many are not.
        """
        found = self._find(table)
        if (missing := found < 0).any():
            first = _names(table["image"].iloc[[int(missing.argmax())]], self.root)[0].as_py()
            raise DataError(
                f"{self.place}: {first} is not cached; {missing.sum()} of {len(table)} pictures are not. Call build() with this table"
            )
        return found

    def has(self, table: pd.DataFrame) -> NDArray[np.bool_]:
        """Whether each picture of a label table is cached, (N,); of use where unreadable ones were skipped."""
        return self._find(table) >= 0

    def _find(self, table: pd.DataFrame) -> NDArray[np.int64]:
        return _find(_keys(table, self.root), self._index)


def place_of(card: AffectCard, folder: Path) -> Path:
    """The folder inside `folder` for what this network gives with these pixels and this alignment; raises as `AffectCard.exposed`."""
    return folder / f"{card.name}-{hashlib.sha256(_about(card)).hexdigest()[:16]}"


def build(
    model: Model,
    table: pd.DataFrame,
    folder: Path,
    *,
    root: Path,
    batch: int = 64,
    progress: ItemProgress | None = None,
    skip_unreadable: bool = False,
) -> FeatureCache:
    """Compute what is not cached yet of the pictures of a label table, and return the cache.

    A picture is known by its path relative to `root`, or by the hash of its content where the table itself holds it, and by the
    points it is aligned by; what comes twice is computed once. A file whose size or time of change is another is computed again.
    batch: pictures that go through the network together. progress: called with pictures done and pictures to do.
    skip_unreadable: leave out what cannot be read; `FeatureCache.skipped` names it.

    Raises BundleError when the bundle exposes no features, DataError naming a picture that cannot be read or lies outside `root`,
    OutputError when the disk is full or another build writes here. What was computed until then is kept.
    """
    keys, images, skipped = _keys(table, root), table["image"].tolist(), []
    with _writing(place_of(model.card, folder), model.card) as writer:
        todo = writer.todo(keys, images)
        for start in range(0, len(todo), batch):
            part = todo[start : start + batch]
            crops, taken = [], []
            for i, stamp in part:
                points = (
                    np.reshape(table["points"].iloc[i], (1, 5, 2))
                    if keys["points"][i].as_py()
                    else None
                )
                try:
                    # Cut at once: a batch of large photos would not fit into memory.
                    crops += model.prepare([read_picture(images[i])], points)
                except DataError as error:
                    if not skip_unreadable:
                        raise DataError(f"row {i} of the table: {error}") from error
                    skipped.append(keys["image"][i].as_py())
                else:
                    taken.append((i, stamp))
            if crops:
                features, raw = model.features_and_raw(crops)
                writer.append(
                    np.concatenate([features, *raw.values()], axis=1),
                    keys.take([i for i, _ in taken]),
                    [s for _, s in taken],
                )
            if progress:
                progress(start + len(part), len(todo))
    return FeatureCache(folder, model.card, root=root, skipped=skipped)


# which picture is which


def _keys(table: pd.DataFrame, root: Path) -> pa.Table:
    """Name (`image`) and mark of the points (`points`, 0 where there are none) of every row."""
    return pa.table({"image": _names(table["image"], root), "points": _marks(table)})


def _names(images: "pd.Series[Any]", root: Path) -> pa.Array:
    start = os.path.join(root, "")
    if isinstance(images.dtype, pd.StringDtype):  # millions of paths: as a column, not one by one
        paths = pa.array(images, pa.large_string())
        if pc.all(pc.starts_with(paths, start), skip_nulls=False).as_py():
            return pc.utf8_slice_codeunits(paths, len(start))
    return pa.array(
        [_inside(cell, start) if isinstance(cell, str) else _hash(cell) for cell in images],
        pa.large_string(),
    )


def _inside(path: str, start: str) -> str:
    if path.startswith(start):
        return path[len(start) :]
    inside = os.path.relpath(path, start)
    if inside.split(os.sep, 1)[0] == os.pardir:
        raise DataError(
            f"{path}: not in {start}; give the folder that holds all the pictures as root"
        )
    return inside


def _hash(cell: Any) -> str:
    if isinstance(cell, np.ndarray):
        cell = f"{cell.dtype.str}{cell.shape}".encode() + cell.tobytes()
    elif not isinstance(cell, bytes):
        raise DataError(
            f"image: {cell!r} is no picture; expected a path, encoded bytes or an RGB uint8 array"
        )
    return f"sha256:{hashlib.sha256(cell).hexdigest()}"


def _marks(table: pd.DataFrame) -> NDArray[np.uint64]:
    """64 bits that tell one set of five points from another, 0 where there are none."""
    marks = np.zeros(len(table), np.uint64)
    given = table["points"].notna().to_numpy() if "points" in table else np.zeros(len(table), bool)
    if not given.any():
        return marks
    cells = table["points"][given].tolist()
    if {np.shape(cell) for cell in cells} != {(10,)} or not np.isfinite(
        points := np.concatenate(cells).reshape(-1, 10)
    ).all():
        raise DataError(
            "points: not ten finite numbers in every row that has any; give x, y of five points, or none"
        )
    mixed = np.full(len(points), 1, np.uint64)
    for column in np.ascontiguousarray(points.T, np.float64).view(np.uint64):
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    marks[given] = mixed | np.uint64(1)
    return marks


def _joined(keys: pa.Table) -> pa.Array:
    """Name and mark as one text; null where a row has lost its name."""
    text = pa.large_string()
    return pc.binary_join_element_wise(
        keys["image"].cast(text), keys["points"].cast(text), pa.scalar("#", text)
    ).combine_chunks()


def _find(keys: pa.Table, index: pa.Table) -> NDArray[np.int64]:
    """Row number in the index of each key, -1 where there is none."""
    return np.asarray(
        pc.fill_null(pc.index_in(_joined(keys), _joined(index), skip_nulls=True), -1).to_numpy(),
        np.int64,
    )


def _stamp(cell: Any) -> Stamp:
    """Size (bytes) and time of change (ns) of a picture's file."""
    if not isinstance(cell, str):
        return _NO_FILE
    try:
        status = os.stat(cell)
    except OSError:  # reading it will say what is wrong
        return _NO_FILE
    return status.st_size, status.st_mtime_ns


# files


def _order(card: AffectCard) -> list[int]:
    """Widths of the columns of ``rows.npy``: features, then raw outputs."""
    return [card.exposed(), *card.widths[:-1]]


def _about(card: AffectCard) -> bytes:
    columns = dict(zip(["features", *(spec.key for spec in card.tasks)], _order(card), strict=True))
    facts = {
        "bundle": card.name,
        "sha256": card.sha256,
        "pixels": card.pixels.model_dump(),
        "alignment": _ALIGNMENT,
        "columns": columns,
    }
    return json.dumps(facts, indent=2).encode()


def _header(count: int, width: int) -> bytes:
    """The head of an .npy file; numpy leaves room in it, so its length does not depend on `count`."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
    )
    return head.getvalue()


def _read_index(place: Path, card: AffectCard) -> tuple[pa.Table, bool]:
    """The index, as far as ``rows.npy`` has rows for it, and whether it went further."""
    path, width = place / "index.parquet", sum(card.widths)
    if not path.exists():
        return _SCHEMA.empty_table(), False
    try:
        with pq.ParquetFile(path) as file:
            index = file.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: damaged ({str(error).partition(chr(10))[0]}); delete {place} and build again"
        ) from error
    rows = max((place / "rows.npy").stat().st_size - len(_header(0, width)), 0) // (4 * width)
    return index.slice(0, rows), rows < len(index)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep other builds out. SQLite's lock works on every system, and goes when its process is killed."""
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(
                closing(sqlite3.connect(place / "lock", timeout=0, isolation_level=None))
            )
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise OutputError(
                f"{place}: cannot be written ({error}); wait for the other build, or choose another folder"
            ) from error
        yield


@contextmanager
def _writing(place: Path, card: AffectCard) -> Iterator["_Writer"]:
    with wrap_os_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    with _alone(place), closing(_Writer(place, card)) as writer:
        try:
            yield writer
        except BaseException:
            with suppress(OutputError):  # what is wrong is on its way already
                writer.commit()
            raise
        writer.commit()


class _Writer:
    """Appends rows; what is not committed is as good as not written."""

    def __init__(self, place: Path, card: AffectCard) -> None:
        self._place, self._width = place, sum(card.widths)
        self._path = place / "rows.npy"
        self._new: list[pa.Table] = []
        atomic_write(place / "about.json", _about(card))
        with wrap_os_errors(self._path):
            self._path.touch()
            self._index, self._changed = _read_index(place, card)
            self._file = self._path.open("r+b", buffering=0)
            self._write_head()
        self.commit()  # an index that names lost rows would name the next ones wrongly

    def todo(self, keys: pa.Table, images: list[Any]) -> list[tuple[int, Stamp]]:
        """Row of the table and stamp of each picture that has no row, or whose file has changed since; its old row loses the name."""
        once = np.unique(_joined(keys).dictionary_encode().indices.to_numpy(), return_index=True)[1]
        found = _find(keys.take(once), self._index)
        then = np.stack(
            [self._index["size"].to_numpy(), self._index["changed_ns"].to_numpy()], axis=1
        )
        now = np.array([_stamp(images[i]) for i in once], np.int64).reshape(-1, 2)
        old = np.flatnonzero(found >= 0)
        changed = old[(then[found[old]] != now[old]).any(axis=1)]
        gone = np.zeros(len(self._index), bool)
        gone[found[changed]] = True
        if gone.any():
            names = pc.if_else(pa.array(gone), pa.scalar(None, pa.string()), self._index["image"])
            self._index, self._changed = (
                self._index.set_column(0, _SCHEMA.field("image"), names),
                True,
            )
        left = np.sort(np.concatenate([np.flatnonzero(found < 0), changed]))
        return [(int(once[i]), (int(now[i, 0]), int(now[i, 1]))) for i in left]

    def append(self, rows: Floats32, keys: pa.Table, stamps: list[Stamp]) -> None:
        """Write rows (N, D + K) with their keys and stamps; raises OutputError."""
        sizes, times = zip(*stamps, strict=True)
        with wrap_os_errors(self._path):
            self._write(self._end(), np.ascontiguousarray(rows, "<f4").tobytes())
        self._new.append(
            pa.table(
                [keys["image"].cast(pa.string()), keys["points"], sizes, times], schema=_SCHEMA
            )
        )
        if sum(map(len, self._new)) >= _COMMIT:
            self.commit()

    def commit(self) -> None:
        """Bring rows to the disk, then the index that speaks of them; raises OutputError."""
        if not self._new and not self._changed:
            return
        with wrap_os_errors(self._path):
            self._write_head()
        index = pa.concat_tables(
            [self._index, pa.concat_tables([_SCHEMA.empty_table(), *self._new]).combine_chunks()]
        )
        path = self._place / "index.parquet"
        with AtomicFile(path) as part, wrap_os_errors(path):
            pq.write_table(index, part)
        self._index, self._new, self._changed = index, [], False

    def close(self) -> None:
        self._file.close()

    def _end(self) -> int:
        return len(_header(0, self._width)) + 4 * self._width * (
            len(self._index) + sum(map(len, self._new))
        )

    def _write_head(self) -> None:
        """Drop what lies behind the last whole row, say in the head how many there are, and wait for the disk."""
        end = self._end()
        self._file.truncate(end)
        self._write(0, _header(len(self._index) + sum(map(len, self._new)), self._width))
        os.fsync(self._file.fileno())

    def _write(self, place: int, data: bytes) -> None:
        self._file.seek(place)
        left = memoryview(data)
        while left:  # a disk that fills up takes a part first
            left = left[self._file.write(left) :]
