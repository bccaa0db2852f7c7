"""Who the faces of a film are, where a study says so."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from mien.errors import TableError
from mien.exports.recording import Recording
from mien.sources.inputs import natural_key

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["with_participants"]

_RECORD: Final = "study.json"


def with_participants(recording: Recording) -> Recording:
    """Name the faces of a film as the study does that it was read for.

    `mien study run` leaves the tables of films below its output folder, and rows that say which
    face of which frame is whose.

    Args:
        recording: The table of one film.

    Returns:
        The recording with the study's participants as its people; other faces are nobody's. As it
        was where no study lists the table, or shows none of its participants in it.

    Raises:
        TableError: The study's record or rows are damaged.
    """
    for folder in recording.path.resolve().parents:
        name = _name_in(folder, recording.path)
        if name is not None:
            return _named(recording, _faces_of(folder / "rows.parquet", name))
    return recording


def _name_in(folder: Path, table: Path) -> str | None:
    """The name of a table in the study of a folder; None where no study of it lists the table."""
    record = folder / _RECORD
    if not record.is_file():
        return None
    try:
        tables = json.loads(record.read_bytes())["tables"].items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TableError(
            f"{record}: is no record of a study that this mien knows; run the study again"
        ) from error
    for name, path in tables:
        if (folder / str(path)).resolve() == table.resolve():
            return str(name)
    return None


def _faces_of(path: Path, name: str) -> "pd.DataFrame":
    """Participant, frame and face of each row of a recording that shows somebody."""
    from pyarrow.parquet import read_table as read_parquet

    columns = ["participant", "frame", "face"]
    try:
        table = read_parquet(path, columns=columns, filters=[("recording", "=", name)])
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path}: cannot be read; run the study again") from error
    rows: pd.DataFrame = table.to_pandas().dropna(subset="face")
    # A study may take one face for two people; a file has to choose.
    return rows.drop_duplicates(["frame", "face"])


def _named(recording: Recording, faces: "pd.DataFrame") -> Recording:
    names = sorted(map(str, faces["participant"].unique()), key=natural_key)
    if not names:
        return recording
    plain = recording.table[["frame", "face"]].astype("Int64")
    whose = plain.merge(
        faces.astype({"frame": "Int64", "face": "Int64"}), "left", ["frame", "face"]
    )
    numbers = whose["participant"].map({name: number for number, name in enumerate(names)})
    table = recording.table.assign(person=numbers.astype("Int64").to_numpy())
    table["person"] = table["person"].astype("Int64")
    return replace(recording, table=table, names=dict(enumerate(names)))
