"""Features of the frames of films that another program computed: of their sound, their text, …

They come as Parquet, one row a frame: `video`, `frame`, and a column for each number. A column
`time_s` may be there for people and is not read. What is read is plain numbers and names, checked.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from mien.errors import DataError

__all__ = ["ExternalFeatures", "external_columns", "report_fit"]

Floats32 = NDArray[np.float32]
Codes = NDArray[np.int64]

_NO_FEATURES: Final = ("video", "frame", "time_s")
_LONGEST_OFF: Final = 0.1
"""Share of a film by which its features may be shorter or longer: sound ends a little early, and
tables leave out frames at the end. Frames counted at 25 a second instead of 30 are off by more."""
_LAST_FRAME: Final = 2**31 - 1
_FILM: Final = 2**33
"""Between the keys of the same frame of two films: farther than frames of one can be apart."""


def external_columns(path: Path) -> tuple[str, ...]:
    """Read which numbers a file has for each frame.

    Args:
        path: A Parquet file.

    Returns:
        Names of the columns, in their order.

    Raises:
        DataError: The file cannot be read, or its columns are not those of features.
    """
    with _opened(path) as file:
        schema = file.schema_arrow
    _check_key(path, schema, "video", "text", _is_text)
    _check_key(path, schema, "frame", "whole numbers", pa.types.is_integer)
    columns: list[str] = []
    for field in schema:
        # pandas keeps the labels of rows that were sorted or chosen under such names.
        if field.name in _NO_FEATURES or field.name.startswith("__index_level_"):
            continue
        if field.name in columns:
            raise DataError(f"{path}: the column {field.name} is there twice; rename one of them")
        if not _is_number(field.type):
            raise DataError(
                f"{path}: the column {field.name} holds {field.type}, not numbers; give each "
                "number of a vector a column of its own, and leave out what is none"
            )
        columns.append(field.name)
    if not columns:
        raise DataError(
            f"{path}: has no column of numbers beside video and frame; add the features"
        )
    return tuple(columns)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The Parquet file, open; raises DataError where it cannot be read."""
    # Slow to import, and most analyses need none of it.
    from pyarrow.parquet import ParquetFile

    if not path.is_file():
        raise DataError(f"{path}: no such file; give the Parquet file of external features")
    try:
        with ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: cannot be read as Parquet ({reason}); write it again") from error


def _check_key(
    path: Path, schema: pa.Schema, name: str, kind: str, fits: Callable[[pa.DataType], bool]
) -> None:
    """Raises DataError where the column `video` or `frame` is not there, or is no such."""
    if schema.names.count(name) != 1 or not fits(schema.field(name).type):
        raise DataError(
            f"{path}: features need a column {name} of {kind}; write one row a frame with video, "
            "frame, and a column for each number"
        )


def _is_text(kind: pa.DataType) -> bool:
    # pandas writes names that come often as a dictionary.
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


class ExternalFeatures:
    """The external features of one file, looked up by film and frame.

    Args:
        path: A Parquet file.

    Attributes:
        path: The same.
        columns: Names of its D numbers.

    Raises:
        DataError: The file cannot be read, or a row of it makes no sense; says which.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = external_columns(path)
        with _opened(path) as file:
            table = file.read(columns=["video", "frame", *self.columns])
        self._check_rows(table)
        videos = table["video"].cast(pa.string()).combine_chunks().dictionary_encode()
        names = videos.dictionary.to_pylist()
        # The number of each film, by its name.
        self._films = dict(zip(names, range(len(names)), strict=True))
        keys = _key(videos.indices.to_numpy(), table["frame"].to_numpy())
        order = np.argsort(keys)
        self._keys = keys[order]
        self._check_once(names)
        self._values = self._in_order(table, order)

    def _check_rows(self, table: pa.Table) -> None:
        """Raises DataError for rows that are of no frame."""
        if not len(table):
            raise DataError(f"{self.path}: has no rows; write one row a frame")
        for name in ("video", "frame"):
            missing = table[name].null_count
            if missing:
                raise DataError(
                    f"{self.path}: {missing} of {len(table)} rows have no {name}; "
                    "name the frame of every row"
                )
        frames = table["frame"].to_numpy()
        if frames.min() < 0 or frames.max() > _LAST_FRAME:
            raise DataError(
                f"{self.path}: frames go from {frames.min()} to {frames.max()}; number the frames "
                "as the films' pictures are numbered"
            )

    def _check_once(self, names: Sequence[str]) -> None:
        """Raises DataError where a frame has several rows."""
        repeated = self._keys[1:][np.diff(self._keys) == 0]
        if repeated.size:
            film, frame = divmod(int(repeated[0]), _FILM)
            raise DataError(
                f"{self.path}: {names[film]!r}: frame {frame} comes twice "
                f"({repeated.size} rows do); keep one row a frame"
            )

    def _in_order(self, table: pa.Table, order: Codes) -> Floats32:
        """The features (M, D) in this order of rows; raises DataError where one is no number."""
        values = np.empty((len(order), len(self.columns)), np.float32)
        for number, name in enumerate(self.columns):
            # What is too large for float32 becomes infinite, and is refused as such.
            with np.errstate(over="ignore"):
                values[:, number] = table[name].to_numpy()[order]
            broken = int((~np.isfinite(values[:, number])).sum())
            if broken:
                raise DataError(
                    f"{self.path}: {name}: {broken} of {len(order)} rows hold NaN or infinity; "
                    "leave out the rows of frames that have no features"
                )
        return values

    def aligned(self, video: ArrayLike, frame: ArrayLike, hold: int) -> Floats32:
        """Take the features of some frames.

        Args:
            video: Names of films, (N,).
            frame: Frame numbers, (N,).
            hold: A frame without a row reads that of the nearest earlier frame of its film, at
                most so many frames before it.

        Returns:
            (N, D + 1): the features, and whether there are any, 0 or 1; without any, zeros.
        """
        row, age = self._rows(video, frame)
        has_any = age <= hold
        features = np.zeros((len(row), len(self.columns) + 1), np.float32)
        features[has_any, :-1] = self._values[row[has_any]]
        features[has_any, -1] = 1
        return features

    def _rows(self, video: ArrayLike, frame: ArrayLike) -> tuple[Codes, Codes]:
        """The row of each frame or of the nearest earlier one (N,), and how many frames earlier."""
        code, names = pd.factorize(np.asarray(video, object))
        # Films that have no features, and rows without a film, have the number -1.
        numbers = [self._films.get(name, -1) for name in names]
        film = np.array([*numbers, -1])[code]
        number = pd.Series(frame).fillna(-1).to_numpy(np.int64)
        key = _key(film, number)
        row = np.searchsorted(self._keys, key, side="right") - 1
        # Rows of another film lie farther away than any film is long.
        age = key - self._keys[row]
        age[(row < 0) | (film < 0) | (number < 0)] = _FILM
        return row, age

    def check_film(self, film: str) -> None:
        """Check that there are features of a film.

        Args:
            film: Its name.

        Raises:
            DataError: There are none.
        """
        if film not in self._films:
            raise DataError(
                f"{self.path}: has no features of {film!r}; its films are named "
                f"{_some(list(self._films))}; add this one"
            )

    def fit_of(self, video: ArrayLike, frame: ArrayLike, hold: int) -> str:
        """Say how the features fit the frames of a table.

        Args:
            video: As for `aligned`.
            frame: The same.
            hold: The same.

        Returns:
            What was matched, what was not, and what nobody asked for, in one line.

        Raises:
            DataError: No frame has features, or films are of another length.
        """
        row, age = self._rows(video, frame)
        has_any = age <= hold
        ends = pd.DataFrame({"video": video, "frame": frame}).groupby("video")["frame"].max()
        if not has_any.any():
            raise DataError(
                f"{self.path}: has features of none of the {len(row)} frames; its films are named "
                f"{_some(list(self._films))}, those of the data {_some(list(ends.index))}; "
                "name them alike"
            )
        covered = ends[ends.index.isin(list(self._films))]
        self._check_lengths(covered, hold)
        matched = int((age == 0).sum())
        held = int(has_any.sum()) - matched
        without = len(row) - matched - held
        silent = len(ends) - len(covered)
        unused = len(self._keys) - len(np.unique(row[has_any]))
        frames = (
            f"of {len(row)} frames, {matched} have external features, {held} hold those of an "
            f"earlier one, {without} have none"
        )
        films = f"{silent} of {len(ends)} films have none at all"
        rest = f"{unused} of {len(self._keys)} rows are of other frames"
        return f"{self.path.name}: {frames}; {films}; {rest}"

    def _check_lengths(self, ends: pd.Series, hold: int) -> None:
        """Raises DataError where films end at other frames than their features."""
        last = ends.to_numpy(np.float64)
        film = ends.index.map(self._films).to_numpy(np.int64)
        # The last row of each film comes before the first of the next one.
        rows = np.searchsorted(self._keys, _key(film + 1, 0)) - 1
        features_last = self._keys[rows] - _key(film, 0)
        slack = np.maximum(hold, _LONGEST_OFF * last)
        is_short = features_last < last - slack
        worst = int(is_short.argmax())
        # A table may end early in some films, so only most of them tell.
        is_long = np.median(features_last - last - slack) > 0
        if is_long and not is_short.any():
            worst = int(np.argmax(features_last - last))
        elif not is_short.any():
            return
        raise DataError(
            f"{self.path}: features of another length than the film: those of "
            f"{ends.index[worst]!r} end at frame {features_last[worst]}, the film at "
            f"{last[worst]:g}; compute them at the films' frame rate, over the whole film"
        )


def report_fit(paths: Sequence[Path], table: pd.DataFrame, hold: int) -> list[str]:
    """Say how external features fit the frames of a label table, before anything is trained.

    Args:
        paths: Parquet files.
        table: A label table.
        hold: As for `ExternalFeatures.aligned`.

    Returns:
        A line for each file.

    Raises:
        DataError: A file cannot be used, or does not fit.
    """
    lines = []
    for path in paths:
        features = ExternalFeatures(path)
        lines.append(features.fit_of(table["video"], table["frame"], hold))
    return lines


def _key(film: ArrayLike, frame: ArrayLike) -> Codes:
    """One number for a film and a frame, in the order of films, then of frames."""
    return np.asarray(film, np.int64) * _FILM + np.asarray(frame, np.int64)


def _some(names: Sequence[Any]) -> str:
    """At most three of some names, for a message."""
    return ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")
