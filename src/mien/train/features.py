"""The feature cache of a settings file's data."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from mien.bundles.store import load
from mien.data.registry import Set, places
from mien.errors import OutputError
from mien.progress import Progress, named, silent
from mien.train.inputs.feature_cache import FeatureCache, build
from mien.train.inputs.feature_shards import Shard, build_part, join_parts, parts_of
from mien.train.open_model import ENGINE, complete_points, load_rows
from mien.train.settings.training import Settings

__all__ = ["cache_features", "root_of"]


def cache_features(
    bundle: str | Path,
    settings: Settings,
    folder: Path,
    *,
    shard: Shard | None = None,
    skip_unreadable: bool = False,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> tuple[FeatureCache, int]:
    """Cache the features of every picture of the data of some settings, all splits.

    Pictures are named relative to ``features.images`` where the settings have it, else to the
    folder that contains them all. Several processes may each make a part, on any machine that
    shares the folder; the call without `shard` then joins them, and the cache is the same to the
    last bit as if one process had made it.

    Args:
        bundle: Name or folder of a bundle that exposes features.
        settings: Settings whose ``data``, ``tasks`` and ``fit`` are used.
        folder: Folder of the cache; what it holds already is not computed again.
        shard: Make one part only: which, from 1, and how many there are.
        skip_unreadable: Leave out pictures that cannot be read.
        note: Called with every note for the user.
        progress: Called with what is done, how much of it is done, and how much there is.

    Returns:
        The cache, and how many pictures of the data it holds; or the part, and how many it holds.

    Raises:
        ValueError: There is no such part.
        UnknownNameError: There is no bundle of that name.
        BundleError: The bundle cannot be used, or exposes no features.
        DataError: The data, or a picture that must not be skipped, cannot be read; or a part is
            missing, damaged, or was made of other pictures.
        OutputError: The cache cannot be written.
    """
    model = load(bundle, ENGINE)
    # Refuses a bundle without features before faces are searched for, which takes long.
    model.card.exposed()
    table = load_rows(settings, settings.named_tasks() or model.tasks)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; choose another folder with --out")
    root = root_of(settings.data) if settings.features is None else settings.features.images
    report = named(progress, "features")
    complete = partial(complete_points, settings=settings, pixels=model.card.pixels, note=note)
    if shard is not None:
        part = build_part(
            model, table, folder, shard, root=root, complete=complete, progress=report,
            skip_unreadable=skip_unreadable,
        )  # fmt: skip
        return part, len(part.features)
    if parts_of(model.card, folder):
        # What is found in the parts' files was told when they were made.
        silently = partial(complete, note=lambda line: None)
        cache, table = join_parts(
            model, table, folder, root=root, complete=silently, progress=report,
            skip_unreadable=skip_unreadable,
        )  # fmt: skip
    else:
        with TemporaryDirectory() as scratch:
            table = complete(table, Path(scratch) / "points.parquet")
        cache = build(
            model, table, folder, root=root, progress=report, skip_unreadable=skip_unreadable
        )
    return cache, int(cache.has(table).sum())


def root_of(sets: tuple[Set, ...]) -> Path:
    """Find the folder that contains all pictures of some data sets.

    Args:
        sets: The data sets.

    Returns:
        The folder; the current one where the sets read no files.
    """
    folders = []
    for spec in sets:
        for path in places(spec):
            # A label file stands beside its pictures.
            folder = path.parent if path.is_file() else path
            folders.append(os.path.abspath(folder))
    if not folders:
        return Path.cwd()
    return Path(os.path.commonpath(folders))
