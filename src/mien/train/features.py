"""The feature cache of a settings file's data."""

import os
from collections.abc import Callable
from pathlib import Path

from mien.bundles.store import load
from mien.data.registry import Set, places
from mien.errors import OutputError
from mien.progress import Progress, silent
from mien.train.inputs.feature_cache import FeatureCache, build
from mien.train.open_model import ENGINE, table_for
from mien.train.settings.training import Settings

__all__ = ["cache_features", "root_of"]


def cache_features(
    bundle: str | Path,
    settings: Settings,
    folder: Path,
    *,
    skip_unreadable: bool = False,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> tuple[FeatureCache, int]:
    """The cache in `folder` with every picture of the data of `settings`, all splits, computed where it is not there yet; and how many.

    Pictures are named from ``features.images`` on where the settings have it, else from the folder that they all lie below.
    Raises as `mien.load`, `table_for` and `build` do.
    """
    model = load(bundle, ENGINE)
    model.card.exposed()
    table = table_for(settings, settings.named_tasks() or model.tasks, model.card.pixels, note=note)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; choose another folder with --out")

    def ahead(done: int, total: int) -> None:
        progress("features", done, total)

    root = root_of(settings.data) if settings.features is None else settings.features.images
    cache = build(model, table, folder, root=root, progress=ahead, skip_unreadable=skip_unreadable)
    return cache, int(cache.has(table).sum())


def root_of(sets: tuple[Set, ...]) -> Path:
    """The folder that all pictures of some data sets lie below."""
    found = [
        os.path.abspath(place.parent if place.is_file() else place)
        for spec in sets
        for place in places(spec)
    ]
    return Path(os.path.commonpath(found)) if found else Path.cwd()
