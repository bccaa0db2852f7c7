"""Keys of steps: hashes of what a result depends on, wherever that lies on the disk.

A data set is known by its settings and files, not by the folder that holds it, and an earlier step
or a bundle by its content, not by its name. Settings that change only how fast a step is have no
part in its key. So a folder that was moved makes no finished step run again, and steps that would
compute the same have the same key.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mien._version import RESULTS_VERSION
from mien.bundles.store import open_bundle
from mien.data.registry import Set, places
from mien.errors import DataError
from mien.extensions.entry_points import used_extensions
from mien.recipes.steps.base import BUNDLE, DATA, STEP, Step
from mien.train.features import root_of
from mien.train.settings.training import SPEED_KEYS

__all__ = ["places_behind", "step_keys"]

_FILES: Final = ("start", "weights", "external")
"""Settings that may name files, of weights or of features."""
# Compressed files of other content have another size, and reading millions of them takes hours.
_PICTURES: Final = "jpg jpeg png webp gif heic heif avif jp2 jxl"
_FILMS: Final = "mp4 m4v mov avi mkv webm mpg mpeg wmv flv mts m2ts ts 3gp ogv"
_SOUNDS: Final = "mp3 m4a aac ogg opus flac wav"
_ARCHIVES: Final = "zip gz tgz bz2 xz zst 7z rar tar"
_KNOWN_BY_SIZE: Final = frozenset(f"{_PICTURES} {_FILMS} {_SOUNDS} {_ARCHIVES}".split())
# What file managers leave in folders that somebody has looked at.
_LITTER: Final = frozenset({"Thumbs.db", "desktop.ini"})


def step_keys(
    steps: Mapping[str, Step], data: Mapping[str, Set], seeds: tuple[int, ...]
) -> dict[str, str]:
    """Compute the keys of all steps.

    Args:
        steps: Settings of a recipe's steps, by name.
        data: Data sets by the recipe's keys.
        seeds: Of the recipe.

    Returns:
        By step, the hash of all that its result depends on.

    Raises:
        DataError: A folder cannot be read.
        MienError: A bundle is missing or damaged.
    """
    keys: dict[str, str] = {}
    # Scanning the folders of a data set takes long, and many steps read the same one.
    known: dict[str, str] = {}
    for name, step in steps.items():
        of_data = {}
        for key in step.references(DATA):
            spec = step.relevant_settings(data[key])
            settings = spec.model_dump_json()
            if settings not in known:
                known[settings] = _fingerprint(spec)
            of_data[key] = known[settings]
        of_bundles = {bundle: _identity(bundle) for bundle in step.references(BUNDLE)}
        keys[name] = _key(step, {STEP: keys, DATA: of_data, BUNDLE: of_bundles}, seeds)
    return keys


def places_behind(
    step: str, steps: Mapping[str, Step], data: Mapping[str, Set], keys: Mapping[str, str]
) -> list[str]:
    """List the paths that a step and all steps before it read.

    Args:
        step: Its name.
        steps: Settings of all steps, by name.
        data: Data sets by the recipe's keys.
        keys: As `step_keys` computes them.

    Returns:
        Paths of data sets, bundles, weights and external features. Steps of the same key have as
        many, in the same order.
    """
    paths: list[str] = []
    seen: set[str] = set()
    pending = [step]
    while pending:
        name = pending.pop()
        # By key, since names may differ between recipes that compute the same.
        if keys[name] in seen:
            continue
        seen.add(keys[name])
        settings = steps[name]
        for key in settings.references(DATA):
            paths += map(str, places(settings.relevant_settings(data[key])))
        paths += settings.references(BUNDLE)
        paths += map(os.path.abspath, _files_named(settings.model_dump(mode="json")))
        pending += settings.references(STEP)
    return paths


def _key(step: Step, identities: Mapping[str, Mapping[str, str]], seeds: tuple[int, ...]) -> str:
    """Hash of all that a step's result depends on."""
    settings = _without_speed(step.settings_by_content(identities))
    facts: list[Any] = [RESULTS_VERSION, settings, seeds]
    # Another version of an extension may compute other numbers.
    extensions = used_extensions(settings)
    if extensions:
        facts.append(extensions)
    # Sorted, so that the order of fields in the code has no influence.
    content = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _identity(bundle: str) -> str:
    """What a bundle's numbers depend on: a folder of a bundle may be replaced by another."""
    card = open_bundle(bundle).card
    return card.model_dump_json(include={"sha256", "pixels", "temperature", "steps"})


def _without_speed(settings: Any, key: str = "") -> Any:
    """Settings without what changes only speed, and with files by their content."""
    if isinstance(settings, list):
        return [_without_speed(value, key) for value in settings]
    if isinstance(settings, dict):
        kept = {}
        for name, value in settings.items():
            if key == "fit" and name in SPEED_KEYS:
                continue
            kept[name] = _without_speed(value, name)
        # A section that held nothing else is as good as none.
        if kept.get("fit") == {}:
            del kept["fit"]
        return kept
    if key in _FILES and _is_file(settings):
        return _content(settings)
    return settings


def _files_named(settings: Any, key: str = "") -> Iterator[str]:
    """The files of weights or features that settings name."""
    if isinstance(settings, list):
        for value in settings:
            yield from _files_named(value, key)
    elif isinstance(settings, dict):
        for name, value in settings.items():
            yield from _files_named(value, name)
    elif key in _FILES and _is_file(settings):
        yield settings


def _is_file(value: object) -> bool:
    """Whether a setting names a file; published weights go by a name without suffix."""
    return isinstance(value, str) and bool(Path(value).suffix) and os.path.isfile(value)


def _fingerprint(spec: Set) -> str:
    """Hash of a data set's settings and files, with paths relative to the folder of all of it."""
    root = root_of((spec,))
    roots = places(spec)
    names = {str(path): os.path.relpath(path, root) for path in roots}
    settings = {}
    for key, value in spec.model_dump(mode="json").items():
        settings[key] = names.get(value, value) if isinstance(value, str) else value
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for line in used_extensions(settings):
        digest.update(line.encode())
    for place in dict.fromkeys(roots):
        # A folder inside another of the set's folders is read with that one.
        if set(place.parents) & set(roots):
            continue
        try:
            for path, status in _files(str(place)):
                name = names[str(place)] + path[len(str(place)) :]
                # Paths cannot hold a zero byte, so no two lists of files have the same text.
                line = f"{name}\0{status.st_size}\0{_content_of_labels(path, status)}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
        except FileNotFoundError:
            continue  # the loader will say what is missing
        except OSError as error:
            raise DataError(
                f"{place}: cannot be read ({error}); check the folder and your permissions"
            ) from error
    return digest.hexdigest()


def _content_of_labels(path: str, status: os.stat_result) -> str:
    """Hash of a file that may hold labels, whose size does not tell; empty for any other."""
    suffix = path.rpartition(".")[2].lower()
    if suffix in _KNOWN_BY_SIZE or not stat.S_ISREG(status.st_mode):
        return ""
    return _content(path)


def _content(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file at a path, or below it, always in the same order."""
    if os.path.isfile(path):
        yield path, os.stat(path)
        return
    # Scanning a folder is faster than asking for every file, and data sets have millions.
    with os.scandir(path) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _LITTER:
            continue
        if entry.is_dir():
            yield from _files(entry.path)
        elif os.path.exists(entry.path):
            # A link to nothing is no file; if it is needed, the loader says so.
            yield entry.path, entry.stat()
