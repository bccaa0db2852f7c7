"""The feature cache: a bundle's features of the pictures of a label table, computed once.

Every bundle, with its pixels and alignment, has a folder of its own (`cache_folder`), so that
numbers of two networks never mix. It holds:

``rows.npy``       (M, D + K) float32: features, then raw outputs in task order. Half precision
                   would halve the file, but change raw outputs in the third digit, and heads must
                   learn from exactly what the bundle gives.
``index.parquet``  which picture row i is: its name, a hash of the points it was aligned by, the
                   size and time of change of its file.
``about.json``     what the folder's name stands for, for people.

Rows reach the disk before the index that names them, and the index is replaced in one step. A
build that is killed at any point leaves a cache that is complete up to its last commit; the next
build drops what lies behind it and continues from there. No pixels are kept.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
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
from mien.data.stored_pictures import Cells
from mien.errors import DataError, OutputError
from mien.files import AtomicFile, atomic_write, wrap_os_errors
from mien.progress import ItemProgress
from mien.train.inputs.picture_keys import (
    Fingerprint,
    file_fingerprint,
    find_rows,
    first_rows,
    picture_keys,
    picture_names,
)

__all__ = ["BATCH", "Compute", "FeatureCache", "build", "cache_folder"]

Floats32 = NDArray[np.float32]
Image = NDArray[np.uint8]
Compute = Callable[[Sequence[int]], tuple[list[int], Floats32]]
"""Takes row numbers of a label table; gives those that could be read, and their features and raw
outputs (N, D + K)."""

BATCH: Final = 64
"""Pictures that go through the network together."""

_ALIGNMENT: Final = "by the table's five points where it has them, else the whole picture"
# A kill costs at most so many rows.
_COMMIT_ROWS: Final = 8192
_SCHEMA: Final = pa.schema(
    [
        ("image", pa.string()),
        ("points", pa.uint64()),
        ("size", pa.int64()),
        ("changed_ns", pa.int64()),
    ]
)


class FeatureCache:
    """Features and raw outputs of a bundle, kept by `build`.

    Arrays are memory-mapped: only what is looked at is read from the disk. Rows of pictures that
    have changed stay in the file and lose their name, so take rows by number, from `rows`.

    Numbers are what the engine gave; engines differ by up to the card's `tolerance`, so let one
    engine build a cache.

    Args:
        folder: The folder given to `build`.
        card: Card of the bundle.
        root: Folder that paths of pictures are taken relative to.
        skipped: Pictures that `build` could not read and was allowed to skip.

    Raises:
        DataError: Nothing was built there, or the index is damaged.
        BundleError: The bundle exposes no features.
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
        self.folder = cache_folder(card, folder)
        self.root = root
        self.skipped = tuple(skipped)
        path = self.folder / "rows.npy"
        width = sum(card.widths)
        offset = len(_npy_header(0, width))
        if not path.is_file() or path.stat().st_size < offset:
            raise DataError(
                f"{self.folder}: nothing of {card.name} is cached here; call build() first"
            )
        self._index, _ = _read_index(self.folder, card)
        # A build that was killed may have left rows behind the last that is named.
        shape = (len(self._index), width)
        self.features_and_raw = np.memmap(path, "<f4", "r", offset=offset, shape=shape)
        boundaries = np.cumsum(_column_widths(card))[:-1]
        self.features, *raw = np.split(self.features_and_raw, boundaries, axis=1)
        families = [spec.task.family for spec in card.tasks]
        self.raw = dict(zip(families, raw, strict=True))

    def rows(self, table: pd.DataFrame) -> NDArray[np.int64]:
        """Find the cached row of every picture.

        Files are not looked at: it is `build` that notices when one has changed.

        Args:
            table: A label table; of its columns, `image` and, where it has any, `points` count.

        Returns:
            Row numbers (N,).

        Raises:
            DataError: A picture is not cached; names the first, and says how many are not.
        """
        rows = self._find(table)
        missing = rows < 0
        if missing.any():
            first = table["image"].iloc[[int(missing.argmax())]]
            name = picture_names(first, self.root)[0].as_py()
            raise DataError(
                f"{self.folder}: {name} is not cached; {missing.sum()} of {len(table)} pictures "
                "are not. Call build() with this table"
            )
        return rows

    def has(self, table: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell which pictures are cached, where unreadable ones may have been skipped.

        Args:
            table: A label table, as for `rows`.

        Returns:
            Whether each picture is cached (N,).
        """
        return self._find(table) >= 0

    def _find(self, table: pd.DataFrame) -> NDArray[np.int64]:
        """Row number of every picture (N,), -1 where it is not cached."""
        return find_rows(picture_keys(table, self.root), self._index)


def cache_folder(card: AffectCard, folder: Path) -> Path:
    """Name the folder for what a bundle gives with its pixels and alignment.

    Args:
        card: Card of the bundle.
        folder: The folder given to `build`.

    Returns:
        A folder inside it.

    Raises:
        BundleError: The bundle exposes no features.
    """
    # Whatever changes the numbers changes the hash, and so the folder.
    digest = hashlib.sha256(_about(card)).hexdigest()
    return folder / f"{card.name}-{digest[:16]}"


def build(
    model: Model,
    table: pd.DataFrame,
    folder: Path,
    *,
    root: Path,
    batch: int = BATCH,
    progress: ItemProgress | None = None,
    skip_unreadable: bool = False,
    compute: Compute | None = None,
) -> FeatureCache:
    """Compute what is not cached yet of the pictures of a label table, and return the cache.

    A picture is known by its path relative to `root`, or by the hash of its content where the
    table itself holds it, and by the points it is aligned by; one that comes twice is computed
    once. A file whose size or time of change differs from before is computed again.

    Args:
        model: A bundle that exposes features.
        table: A label table; of its columns, `image` and, where it has any, `points` count.
        folder: Folder of the caches of all bundles; made if missing.
        root: Folder that all pictures lie in.
        batch: Pictures that go through the network together.
        progress: Called with pictures done and pictures to do.
        skip_unreadable: Leave out what cannot be read; `FeatureCache.skipped` names it.
        compute: Gives the numbers of the pictures in place of the network.

    Returns:
        The cache.

    Raises:
        BundleError: The bundle exposes no features.
        DataError: A picture cannot be read or lies outside `root`; it is named. What was computed
            until then is kept.
        OutputError: The disk is full, or another build writes here. What was computed until then
            is kept.
    """
    keys = picture_keys(table, root)
    compute = compute or _network(model, table, keys, skip_unreadable)
    skipped: list[str] = []
    with _open_writer(cache_folder(model.card, folder), model.card) as writer:
        pending = writer.pending(keys, Cells(table["image"]))
        for start in range(0, len(pending), batch):
            fingerprints = dict(pending[start : start + batch])
            rows, values = compute(list(fingerprints))
            if rows:
                writer.append(values, keys.take(rows), [fingerprints[row] for row in rows])
            for row in sorted(fingerprints.keys() - set(rows)):
                skipped.append(keys["image"][row].as_py())
            if progress:
                progress(start + len(fingerprints), len(pending))
    return FeatureCache(folder, model.card, root=root, skipped=skipped)


def _network(model: Model, table: pd.DataFrame, keys: pa.Table, skip_unreadable: bool) -> Compute:
    """What the network gives for rows of a label table."""

    def compute(rows: Sequence[int]) -> tuple[list[int], Floats32]:
        crops: list[Image] = []
        readable: list[int] = []
        for row in rows:
            # A hash of 0 stands for no points.
            has_points = keys["points"][row].as_py() != 0
            try:
                # Cropped at once: a batch of large photos would not fit into memory.
                crops += _crop(model, table.iloc[row], has_points)
            except DataError as error:
                if not skip_unreadable:
                    raise DataError(f"row {row} of the table: {error}") from error
                continue
            readable.append(row)
        if not crops:
            return [], np.empty((0, 0), np.float32)
        features, raw = model.features_and_raw(crops)
        return readable, np.concatenate([features, *raw.values()], axis=1)

    return compute


def _crop(model: Model, row: "pd.Series[Any]", has_points: bool) -> list[Image]:
    """The crop of one row of a label table, as the bundle reads it."""
    points = np.reshape(row["points"], (1, 5, 2)) if has_points else None
    return model.prepare([read_picture(row["image"])], points)


def _column_widths(card: AffectCard) -> list[int]:
    """Widths of the columns of ``rows.npy``: features, then raw outputs by task."""
    # The network gives its features last, the cache keeps them first.
    return [card.exposed(), *card.widths[:-1]]


def _about(card: AffectCard) -> bytes:
    """Content of ``about.json``; its hash names the folder, so every byte counts."""
    names = ["features", *(spec.key for spec in card.tasks)]
    facts = {
        "bundle": card.name,
        "sha256": card.sha256,
        "pixels": card.pixels.model_dump(),
        "alignment": _ALIGNMENT,
        "columns": dict(zip(names, _column_widths(card), strict=True)),
    }
    return json.dumps(facts, indent=2).encode()


def _npy_header(count: int, width: int) -> bytes:
    """The header of an .npy file of (count, width) float32."""
    # numpy pads headers, so the length does not depend on `count` and rows need not move.
    header = BytesIO()
    fields = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def _read_index(folder: Path, card: AffectCard) -> tuple[pa.Table, bool]:
    """The index as far as ``rows.npy`` has rows for it, and whether it went further."""
    path = folder / "index.parquet"
    width = sum(card.widths)
    if not path.exists():
        return _SCHEMA.empty_table(), False
    try:
        with pq.ParquetFile(path) as file:
            index = file.read()
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: damaged ({reason}); delete {folder} and build again") from error
    size = (folder / "rows.npy").stat().st_size - len(_npy_header(0, width))
    rows = max(size, 0) // (4 * width)
    return index.slice(0, rows), rows < len(index)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep other builds out of a folder."""
    with ExitStack() as stack:
        try:
            # SQLite's lock works on every system, and ends with the process that holds it.
            lock = stack.enter_context(
                closing(sqlite3.connect(folder / "lock", timeout=0, isolation_level=None))
            )
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise OutputError(
                f"{folder}: cannot be written ({error}); wait for the other build, "
                "or choose another folder"
            ) from error
        yield


@contextmanager
def _open_writer(folder: Path, card: AffectCard) -> Iterator["_Writer"]:
    """A writer that has the folder to itself and commits at the end, also after an error."""
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder), closing(_Writer(folder, card)) as writer:
        try:
            yield writer
        except BaseException:
            # The first error is the cause, and must not be hidden by a second.
            with suppress(OutputError):
                writer.commit()
            raise
        writer.commit()


class _Writer:
    """Appends rows to a cache; rows that are not committed are as good as not written."""

    def __init__(self, folder: Path, card: AffectCard) -> None:
        self._folder = folder
        self._width = sum(card.widths)
        self._path = folder / "rows.npy"
        self._new: list[pa.Table] = []
        atomic_write(folder / "about.json", _about(card))
        with wrap_os_errors(self._path):
            self._path.touch()
            self._index, self._is_changed = _read_index(folder, card)
            self._file = self._path.open("r+b", buffering=0)
            self._write_header()
        # An index that names lost rows would give their names to the next ones.
        self.commit()

    def pending(self, keys: pa.Table, images: Sequence[Any]) -> list[tuple[int, Fingerprint]]:
        """List the pictures to compute: those not cached, and those whose file has changed.

        The old row of a changed picture loses its name.

        Args:
            keys: As `picture_keys` makes them.
            images: The column `image` of the same table.

        Returns:
            Row of the table and file fingerprint of each, in order of first occurrence.
        """
        firsts = first_rows(keys)
        fingerprints = np.zeros((len(firsts), 2), np.int64)
        for i, row in enumerate(firsts):
            fingerprints[i] = file_fingerprint(images[int(row)])

        cached_rows = find_rows(keys.take(firsts), self._index)
        is_cached = cached_rows >= 0
        # A file of the same size and time is taken to be the same.
        before = self._fingerprints()[cached_rows[is_cached]]
        is_changed = np.zeros(len(firsts), bool)
        is_changed[is_cached] = (before != fingerprints[is_cached]).any(axis=1)
        self._forget(cached_rows[is_changed])

        pending = []
        for number in np.flatnonzero(~is_cached | is_changed):
            size, changed_ns = fingerprints[number]
            pending.append((int(firsts[number]), (int(size), int(changed_ns))))
        return pending

    def _fingerprints(self) -> NDArray[np.int64]:
        """File fingerprints (M, 2) of all committed rows."""
        columns = [self._index["size"].to_numpy(), self._index["changed_ns"].to_numpy()]
        return np.stack(columns, axis=1)

    def _forget(self, rows: NDArray[np.int64]) -> None:
        """Take the name from rows, so that no picture is found there any more."""
        if not rows.size:
            return
        is_stale = np.zeros(len(self._index), bool)
        is_stale[rows] = True
        nothing = pa.scalar(None, pa.string())
        names = pc.if_else(pa.array(is_stale), nothing, self._index["image"])
        self._index = self._index.set_column(0, _SCHEMA.field("image"), names)
        self._is_changed = True

    def append(self, rows: Floats32, keys: pa.Table, fingerprints: list[Fingerprint]) -> None:
        """Write rows behind the last.

        Args:
            rows: Features and raw outputs (N, D + K).
            keys: Their keys, as `picture_keys` makes them.
            fingerprints: Of their files.

        Raises:
            OutputError: The file cannot be written.
        """
        sizes, times = zip(*fingerprints, strict=True)
        data = np.ascontiguousarray(rows, "<f4").tobytes()
        with wrap_os_errors(self._path):
            self._write(self._end(), data)
        names = keys["image"].cast(pa.string())
        columns = [names, keys["points"], sizes, times]
        self._new.append(pa.table(columns, schema=_SCHEMA))
        if self._new_count() >= _COMMIT_ROWS:
            self.commit()

    def commit(self) -> None:
        """Bring rows to the disk, then the index that names them.

        Raises:
            OutputError: A file cannot be written.
        """
        if not self._new and not self._is_changed:
            return
        with wrap_os_errors(self._path):
            self._write_header()
        new = pa.concat_tables([_SCHEMA.empty_table(), *self._new]).combine_chunks()
        index = pa.concat_tables([self._index, new])
        path = self._folder / "index.parquet"
        with AtomicFile(path) as part, wrap_os_errors(path):
            pq.write_table(index, part)
        self._index = index
        self._new = []
        self._is_changed = False

    def close(self) -> None:
        self._file.close()

    def _new_count(self) -> int:
        """Rows that are not committed."""
        return sum(len(table) for table in self._new)

    def _row_count(self) -> int:
        return len(self._index) + self._new_count()

    def _end(self) -> int:
        """Position in the file behind the last row, bytes."""
        row_bytes = 4 * self._width
        return len(_npy_header(0, self._width)) + row_bytes * self._row_count()

    def _write_header(self) -> None:
        """Cut the file behind the last complete row, count the rows in its header, and flush it."""
        self._file.truncate(self._end())
        header = _npy_header(self._row_count(), self._width)
        self._write(0, header)
        # The index must not reach the disk before the rows that it names.
        os.fsync(self._file.fileno())

    def _write(self, position: int, data: bytes) -> None:
        self._file.seek(position)
        rest = memoryview(data)
        # A disk that fills up takes a part first and refuses only the next.
        while rest:
            written = self._file.write(rest)
            rest = rest[written:]
