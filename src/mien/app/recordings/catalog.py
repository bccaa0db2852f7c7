"""The recordings of a workspace: which there are, and what the list says of each."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from mien.app.errors import NotFoundError
from mien.app.recordings.identity import recording_id
from mien.app.recordings.models import Item
from mien.files import wrap_os_errors
from mien.report.content import film_of
from mien.report.tables import table_beside
from mien.study.edits.beside import edits_path

__all__ = ["delete_recording", "film_path", "find_table", "list_recordings", "stamp_of"]

_ENDING: Final = ".dictionary.json"
# What is removed with a table: what `mien analyze`, `mien live`, `mien convert` and `mien report`
# write beside it, and the edits.
_BESIDE: Final = (
    _ENDING,
    ".parquet",
    ".csv",
    ".jsonl",
    ".edits.json",
    ".events.tsv",
    ".overlay.mp4",
    ".overlay.jpg",
    ".report.html",
)


class Stamp(NamedTuple):
    """What shows that a file is as it was."""

    path: Path
    modified: int
    size: int
    # Two writes may have the same time, since clocks of file systems are coarse.
    inode: int = 0


def stamp_of(path: Path) -> Stamp:
    """Say how a file is.

    Args:
        path: The file.

    Returns:
        Its time and size; zeros where it is missing.
    """
    try:
        status = path.stat()
    except OSError:
        return Stamp(path, 0, 0)
    return Stamp(path, status.st_mtime_ns, status.st_size, status.st_ino)


def list_recordings(root: Path, results: Path) -> list[Item]:
    """List the recordings of a workspace.

    Args:
        root: The workspace.
        results: Its folder of tables.

    Returns:
        The recordings, the newest first. What is damaged is left out: `mien app` did not write it,
        or is writing it now.
    """
    items = []
    films = _films(results)
    recorded = _recorded_films(films)
    for table, film in films.items():
        item = _item(root, results, stamp_of(table), stamp_of(table.with_suffix(_ENDING)))
        if item is not None:
            changes = {
                "film": str(film) if film else None,
                "owns_film": table in recorded,
                "has_edits": _has_edits(table),
            }
            items.append(item.model_copy(update=changes))
    return sorted(items, key=lambda item: (-item.created, item.name))


def find_table(root: Path, results: Path, identity: str) -> Path:
    """Find the table of a recording.

    Args:
        root: The workspace.
        results: Its folder of tables.
        identity: What the recording is called in addresses.

    Returns:
        The table.

    Raises:
        NotFoundError: There is none.
    """
    for table in _tables(results):
        if recording_id(root, table) == identity:
            return table
    raise NotFoundError(
        f"there is no recording {identity[:20]!r} any more; look at the list of recordings"
    )


def _films(results: Path) -> dict[Path, Path | None]:
    """The film of each table; None where there is none."""
    return {
        table: film_path(table, _dictionary(stamp_of(table.with_suffix(_ENDING))))
        for table in _tables(results)
    }


def _recorded_films(films: Mapping[Path, Path | None]) -> dict[Path, Path]:
    """By table, the film that `mien live` recorded with it.

    Without films that were read once more, for another table: somebody chose these.
    """
    read = Counter(film.resolve() for film in films.values() if film is not None)
    recorded = {}
    for table, film in films.items():
        if film is None or read[film.resolve()] > 1:
            continue
        if film == _recorded_film(table, _dictionary(stamp_of(table.with_suffix(_ENDING)))):
            recorded[table] = film
    return recorded


def delete_recording(results: Path, table: Path) -> None:
    """Remove a table with what was written beside it, and with the film that mien recorded for it.

    A film that somebody chose stays.

    Args:
        results: The folder of tables.
        table: The table.

    Raises:
        OutputError: It cannot be removed.
    """
    film = _recorded_films(_films(results)).get(table)
    # Before its table: what is still listed can be deleted again, should this fail.
    if film is not None:
        with wrap_os_errors(film):
            film.unlink(missing_ok=True)
    # The dictionary vouches for the rest, and goes first.
    for ending in _BESIDE:
        path = table.with_name(f"{table.stem}{ending}")
        with wrap_os_errors(path):
            path.unlink(missing_ok=True)


def film_path(table: Path, dictionary: dict[str, Any]) -> Path | None:
    """The film of a table.

    Args:
        table: The table.
        dictionary: Its data dictionary.

    Returns:
        The film that was read, or that `mien live` recorded beside the table; None where there is
        none, or it is gone.
    """
    recorded = _recorded_film(table, dictionary)
    if recorded is not None:
        return recorded
    try:
        film = film_of(dictionary)
    except (AttributeError, TypeError):
        # Anyone may edit a dictionary.
        return None
    return film if film is not None and film.is_file() else None


def _recorded_film(table: Path, dictionary: Mapping[str, Any]) -> Path | None:
    """The film that `mien live` recorded beside a table, as its dictionary says; None for none."""
    film = table.with_name(f"{table.stem}.mp4")
    names = dictionary.get("files")
    if "live" not in dictionary or not isinstance(names, list) or film.name not in names:
        return None
    # A link is somebody's own doing.
    return film if film.is_file() and not film.is_symlink() else None


def _tables(results: Path) -> Iterator[Path]:
    for dictionary in sorted(results.rglob(f"*{_ENDING}")):
        if dictionary.name.startswith("."):
            continue
        stamp = stamp_of(dictionary)
        table = _table_of(stamp) if stamp.modified else None
        if table is not None and table.is_file():
            yield table


@lru_cache(maxsize=4096)
def _table_of(dictionary: Stamp) -> Path | None:
    return table_beside(dictionary.path)


@lru_cache(maxsize=256)
def _dictionary(stamp: Stamp) -> dict[str, Any]:
    try:
        content = json.loads(stamp.path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _has_edits(table: Path) -> bool:
    try:
        return bool(json.loads(edits_path(table).read_bytes())["cursor"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


@lru_cache(maxsize=4096)
def _item(root: Path, results: Path, table: Stamp, dictionary: Stamp) -> Item | None:
    """What the list says, from the few columns that it takes; None for a damaged table."""
    content = _dictionary(dictionary)
    path = table.path
    try:
        columns = _columns(path)
        rows = len(columns["frame"])
        times = columns["time_s"].to_numpy(zero_copy_only=False)
        sources = columns["source"].to_numpy(zero_copy_only=False)
        statuses = columns["status"].to_numpy(zero_copy_only=False)
        faces = columns["face"].drop_null().to_numpy(zero_copy_only=False)
    except (OSError, ValueError, LookupError, pa.ArrowException):
        return None
    is_film = len(np.unique(sources.astype(str))) == 1 and len(np.unique(times)) > 1
    read = np.isin(statuses.astype(str), ("ok", "gap", "doubtful"))
    media = content.get("media")
    facts = media[0] if isinstance(media, list) and media and isinstance(media[0], dict) else {}
    doubtful = (statuses.astype(str)[read] == "doubtful").mean() if read.any() else 0.0
    seconds = _length(times) if is_film else 0.0
    size = [_whole(facts.get(f"frame_{side}")) for side in ("width", "height")]
    kind: Literal["film", "photos"] = "film" if is_film else "photos"
    item = Item.model_construct(
        id=recording_id(root, path),
        name=path.relative_to(results).with_suffix("").as_posix(),
        film=None,
        kind=kind,
        owns_film=False,
        has_edits=False,
    )
    item.rows, item.width, item.height = rows, *size
    item.faces = len(np.unique(faces)) if is_film else len(faces)
    item.seconds = round(seconds, 3)
    item.created = table.modified / 1e9
    item.doubtful = round(float(doubtful), 4)
    return item


def _columns(path: Path) -> Any:
    names = ["frame", "time_s", "source", "status", "face"]
    if path.suffix == ".parquet":
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:
            return file.read(names)
    from mien.outputs.read import read_table

    frame = read_table(path)[names].copy()
    frame.attrs = {}
    return pa.Table.from_pandas(frame, preserve_index=False)


def _length(times: Any) -> float:
    """From the first frame to the end of the last."""
    frames = np.unique(times)
    return float(frames[-1] - frames[0] + np.median(np.diff(frames)))


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
