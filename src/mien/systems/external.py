"""The external features of films for the heads of a system."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.bundles.plan import External
from mien.errors import DataError

__all__ = ["FilmFeatures", "film_name"]


def film_name(source: str) -> str:
    """Say by which name external features know a film.

    Args:
        source: The film's name or path.

    Returns:
        The name without folders and suffix.

    >>> film_name("films/video45_1.mp4")
    'video45_1'
    """
    return Path(source).stem


class FilmFeatures:
    """External features by film and frame, from as many files as a system needs.

    Args:
        system: Its name, for messages.
        needed: What its heads read.
        paths: Parquet files.

    Raises:
        DataError: A file cannot be read, is not one that the system reads, or is missing.
    """

    def __init__(self, system: str, needed: Sequence[External], paths: Sequence[Path]) -> None:
        # Not at the top: it brings pandas, which most analyses do not need and is slow to import.
        from mien.temporal.external import ExternalFeatures

        self._holds = {part.columns: part.hold for part in needed}
        self._files: dict[tuple[str, ...], ExternalFeatures] = {}
        for path in paths:
            features = ExternalFeatures(path)
            if features.columns not in self._holds:
                raise DataError(
                    f"{path}: has the columns {_range(features.columns)}, which {system} does not "
                    f"read; it reads {_all(needed)}"
                )
            self._files[features.columns] = features
        for columns in self._holds:
            if columns not in self._files:
                raise DataError(
                    f"{system}: learned from external features and needs them of every film, with "
                    f"the columns {_range(columns)}; compute them as for training, and give the "
                    "file with --features or Options(features=…)"
                )

    def fit_of(self, source: str, frames: int | None) -> list[str]:
        """Say how the features fit a film.

        Args:
            source: The film's name or path.
            frames: How many frames it has; None where that is not known.

        Returns:
            A line for each file; none where the length is not known.

        Raises:
            DataError: The features are not of this film.
        """
        film = film_name(source)
        lines = []
        for columns, features in self._files.items():
            features.check_film(film)
            if frames is not None:
                hold = self._holds[columns]
                lines.append(features.fit_of([film] * frames, np.arange(frames), hold))
        return lines

    def aligned(
        self, external: Sequence[External], video: ArrayLike, frame: ArrayLike
    ) -> list[NDArray[np.float32]]:
        """Take the features of some frames.

        Args:
            external: Which.
            video: Names of films, (N,).
            frame: Frame numbers, (N,).

        Returns:
            For each, (N, D + 1), see `mien.temporal.external.ExternalFeatures.aligned`.
        """
        parts = []
        for part in external:
            parts.append(self._files[part.columns].aligned(video, frame, part.hold))
        return parts


def _all(needed: Sequence[External]) -> str:
    ranges = [_range(part.columns) for part in needed]
    return " and ".join(ranges) if ranges else "none"


def _range(columns: Sequence[str]) -> str:
    """Names of columns in few words."""
    if len(columns) < 3:
        return ", ".join(columns)
    return f"{columns[0]} to {columns[-1]} ({len(columns)})"
