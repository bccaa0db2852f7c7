"""Parts of a feature cache, each made by a process of its own, on any machine.

A part is a feature cache of some of the pictures, in a folder within the cache that it belongs to
(``parts-8/3``), with ``part.json``, which says what it was made of and holds the checksums of its
files. Parts end where batches do, so that the network sees each picture in the same company as in
one process, and the joined cache is the same to the last bit.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from mien.bundles.card import AffectCard
from mien.bundles.store import Model
from mien.data.stored_pictures import Cells
from mien.errors import DataError
from mien.files import atomic_write, wrap_os_errors
from mien.progress import ItemProgress
from mien.train.inputs.feature_cache import BATCH, FeatureCache, Floats32, build, cache_folder
from mien.train.inputs.picture_keys import (
    file_fingerprint,
    find_rows,
    first_rows,
    lookup_keys,
    picture_keys,
)

__all__ = ["Complete", "Shard", "build_part", "join_parts", "parts_of"]

Shard = tuple[int, int]
"""Which part, from 1, and how many there are."""
Complete = Callable[[pd.DataFrame, Path], pd.DataFrame]
"""Gives a label table the points that it lacks; those that it finds are kept in the file."""

_RECORD: Final = "part.json"
_POINTS: Final = "points.parquet"


def parts_of(card: AffectCard, folder: Path) -> int:
    """Tell of how many parts a cache is being made.

    Args:
        card: Card of the bundle.
        folder: Folder of the caches of all bundles.

    Returns:
        How many; 0 where there is no part.

    Raises:
        DataError: Parts of two divisions are there.
    """
    place = cache_folder(card, folder)
    counts = sorted(int(path.name.partition("-")[2]) for path in place.glob("parts-*"))
    if len(counts) > 1:
        raise DataError(
            f"{place}: has parts of {counts[0]} and of {counts[1]}; delete the folder "
            f"parts-{counts[0]} or parts-{counts[1]}"
        )
    return counts[0] if counts else 0


@dataclass(frozen=True)
class _Part:
    """One part of a cache, made or not."""

    folder: Path
    shard: Shard
    # Its rows of the label table, with the points that these have of their own.
    table: pd.DataFrame
    pictures: str

    def record(self) -> dict[str, Any]:
        """What its record says; nothing where there is none that can be read."""
        try:
            return dict(json.loads((self.folder / _RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def problem(self) -> str | None:
        """What keeps the part from being used; None where it is complete and sound."""
        record = self.record()
        if "files" not in record:
            return "is not finished" if self.folder.is_dir() else "is missing"
        if record["pictures"] != self.pictures:
            return "was made of other pictures"
        for name, checksum in record["files"].items():
            if _checksum(self.folder / name) != checksum:
                return f"is damaged ({self.folder / name})"
        return None


def _parts(
    card: AffectCard,
    table: pd.DataFrame,
    folder: Path,
    root: Path,
    shards: Iterable[Shard],
) -> Iterator[_Part]:
    """Some parts of the cache of a label table's pictures."""
    keys = picture_keys(table, root)
    rows = first_rows(keys)
    batches = -(-len(rows) // BATCH)
    # Each part takes a look at all of its files.
    for number, count in shards:
        begin, end = (BATCH * (batches * edge // count) for edge in (number - 1, number))
        mine = rows[begin:end]
        place = cache_folder(card, folder) / f"parts-{count}" / str(number)
        part = table.iloc[mine].reset_index(drop=True)
        yield _Part(place, (number, count), part, _digest(keys.take(mine), part))


def _digest(keys: pa.Table, table: pd.DataFrame) -> str:
    """A hash of which pictures a part has, in order, and of the state of their files."""
    digest = hashlib.sha256()
    for key, image in zip(lookup_keys(keys), Cells(table["image"]), strict=True):
        digest.update(f"{key} {file_fingerprint(image)}\n".encode())
    return digest.hexdigest()


def _checksum(path: Path) -> str | None:
    """The SHA-256 of a file; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def build_part(
    model: Model,
    table: pd.DataFrame,
    folder: Path,
    shard: Shard,
    *,
    root: Path,
    complete: Complete,
    progress: ItemProgress | None = None,
    skip_unreadable: bool = False,
) -> FeatureCache:
    """Compute one part of the cache of a label table's pictures, or the rest of it.

    Args:
        model: A bundle that exposes features.
        table: The whole label table.
        folder: Folder of the caches of all bundles, which all processes share.
        shard: Which part, from 1, and how many there are.
        root: Folder that all pictures lie in.
        complete: Finds the points that pictures lack.
        progress: Called with pictures done and pictures to do.
        skip_unreadable: Leave out what cannot be read.

    Returns:
        The part.

    Raises:
        ValueError: There is no such part.
        BundleError: The bundle exposes no features.
        DataError: As of `build`.
        OutputError: As of `build`.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise ValueError(f"--shard must be from 1/{count} to {count}/{count}, got {number}")
    [part] = _parts(model.card, table, folder, root, [shard])
    # What an earlier run left of other pictures is of no use.
    if part.folder.is_dir() and part.record().get("pictures") != part.pictures:
        with wrap_os_errors(part.folder):
            shutil.rmtree(part.folder)
    with wrap_os_errors(part.folder):
        part.folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"pictures": part.pictures}
    atomic_write(part.folder / _RECORD, json.dumps(facts).encode())
    cache = build(
        model,
        complete(part.table, part.folder / _POINTS),
        part.folder,
        root=root,
        progress=progress,
        skip_unreadable=skip_unreadable,
    )
    names = [path.relative_to(part.folder) for path in cache.folder.iterdir()]
    files = [str(name) for name in names if name.name in ("rows.npy", "index.parquet")]
    if (part.folder / _POINTS).is_file():
        files.append(_POINTS)
    facts["files"] = {name: _checksum(part.folder / name) for name in sorted(files)}
    atomic_write(part.folder / _RECORD, json.dumps(facts, indent=2).encode())
    return cache


def join_parts(
    model: Model,
    table: pd.DataFrame,
    folder: Path,
    *,
    root: Path,
    complete: Complete,
    progress: ItemProgress | None = None,
    skip_unreadable: bool = False,
) -> tuple[FeatureCache, pd.DataFrame]:
    """Join the parts of a cache, and delete them.

    Args:
        model: The bundle.
        table: The whole label table.
        folder: Folder of the caches of all bundles.
        root: Folder that all pictures lie in.
        complete: As it was for the parts; it finds the points that they kept.
        progress: Called with pictures done and pictures to do.
        skip_unreadable: Leave out what the parts could not read.

    Returns:
        The cache, and the label table with the points that were found.

    Raises:
        DataError: A part is missing, not finished, damaged, or made of other pictures; it is named.
        OutputError: The cache cannot be written.
    """
    count = parts_of(model.card, folder)
    shards = [(number, count) for number in range(1, count + 1)]
    parts = list(_parts(model.card, table, folder, root, shards))
    _refuse_problems(parts)
    tables = [complete(part.table, part.folder / _POINTS) for part in parts]
    caches = [FeatureCache(part.folder, model.card, root=root) for part in parts]
    table = _with_points(table, pd.concat(tables, ignore_index=True), root)
    numbers = _Numbers(caches, tables, picture_keys(table, root), skip_unreadable)
    cache = build(
        model,
        table,
        folder,
        root=root,
        progress=progress,
        skip_unreadable=skip_unreadable,
        compute=numbers,
    )
    place = cache_folder(model.card, folder) / f"parts-{count}"
    with wrap_os_errors(place):
        shutil.rmtree(place)
    return cache, table


def _refuse_problems(parts: Sequence[_Part]) -> None:
    """Raises DataError where parts cannot be used; names them."""
    problems = []
    for part in parts:
        problem = part.problem()
        if problem is not None:
            problems.append((part, problem))
    if not problems:
        return
    first, reason = problems[0]
    number, count = first.shard
    others = ", ".join(str(part.shard[0]) for part, _ in problems[1:])
    more = f" (not usable either: {others})" if others else ""
    raise DataError(
        f"{first.folder.parent}: part {number} of {count} {reason}{more}; run the same command "
        f"with --shard {number}/{count}, or delete {first.folder.parent} to do without parts"
    )


def _with_points(table: pd.DataFrame, completed: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The label table with the points of the parts' tables, which have each picture once."""
    if "points" not in table:
        return table
    # Found by the points that a row has of its own, since that is how the parts were cut.
    keys = picture_keys(table, root)
    rows = find_rows(keys, keys.take(first_rows(keys)))
    points = completed["points"].iloc[rows].to_list()
    return table.assign(points=pd.Series(points, index=table.index, dtype=object))


class _Numbers:
    """What the parts hold of the rows of a label table; a `Compute`."""

    def __init__(
        self,
        caches: Sequence[FeatureCache],
        tables: Sequence[pd.DataFrame],
        keys: pa.Table,
        skip_unreadable: bool,
    ) -> None:
        self._caches = caches
        self._keys = keys
        self._skip_unreadable = skip_unreadable
        parts: list[NDArray[np.int64]] = []
        cached: list[NDArray[np.int64]] = []
        for number, (cache, part) in enumerate(zip(caches, tables, strict=True)):
            known = cache.has(part)
            rows = np.full(len(part), -1)
            rows[known] = cache.rows(part[known])
            cached.append(rows)
            parts.append(np.full(len(part), number))
        # By row of the label table, which part has it, and in which row: -1 where it has none.
        place = find_rows(keys, picture_keys(pd.concat(tables), caches[0].root))
        self._part = np.concatenate(parts)[place]
        self._row = np.concatenate(cached)[place]

    def __call__(self, rows: Sequence[int]) -> tuple[list[int], Floats32]:
        readable = [row for row in rows if self._row[row] >= 0]
        if len(readable) < len(rows) and not self._skip_unreadable:
            lost = next(row for row in rows if self._row[row] < 0)
            raise DataError(
                f"{self._keys['image'][lost].as_py()}: could not be read when its part was made; "
                "replace it and make the part again, or give --skip-unreadable"
            )
        width = self._caches[0].features_and_raw.shape[1]
        values = np.empty((len(readable), width), np.float32)
        for number in np.unique(self._part[readable]):
            mine = self._part[readable] == number
            values[mine] = self._caches[number].features_and_raw[self._row[readable][mine]]
        return readable, values
