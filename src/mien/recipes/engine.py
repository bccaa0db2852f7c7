"""The engine: runs the steps of a recipe in order, each in a folder of its own, and none twice.

A step's folder is named by a hash of what its result depends on: its settings, the steps and data it
reads, bundles, seeds, and the version of the numbers. A step is therefore skipped if nothing of that
has changed, a killed step continues where it can, and going back to earlier settings costs nothing.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from mien._version import RESULTS_VERSION
from mien.bundles.store import open_bundle
from mien.data.registry import Set, places
from mien.errors import DataError
from mien.files import atomic_write, wrap_os_errors
from mien.progress import Progress, silent
from mien.recipes.predictions import Predicted
from mien.recipes.schema import Recipe
from mien.recipes.steps.base import BUNDLE, DATA, STEP, Step, StepContext

__all__ = ["Finished", "find_data", "run_steps"]

_SPENT: Final = "spent.txt"
"""Seconds that an interrupted step has taken so far."""


@dataclass(frozen=True)
class Finished:
    """All steps of a recipe, done.

    Attributes:
        folders: By the step's name.
        seconds: What each step took when it ran.
    """

    folders: Mapping[str, Path]
    seconds: Mapping[str, float]

    def predicted(self, step: str) -> Predicted:
        """Load what a step predicted.

        Args:
            step: Its name.

        Returns:
            Its predictions.

        Raises:
            DataError: It predicts nothing.
        """
        if not (self.folders[step] / "tasks.json").is_file():
            raise DataError(f"rows: the step {step} predicts nothing; name one that does")
        return Predicted.load(self.folders[step])


def find_data(recipe: Recipe, given: Mapping[str, Path]) -> dict[str, Set]:
    """Find the data sets of a recipe.

    Args:
        recipe: Whose data are needed.
        given: Paths by the recipe's keys.

    Returns:
        The settings of each data set, by key.

    Raises:
        DataError: The recipe has no such key, a key is missing (the message says where people get the
            data, and which rows need them), or nothing is at a path.
    """
    needed = recipe.data
    for key in given:
        if key not in needed:
            known = ", ".join(needed)
            raise DataError(f"--data {key}: this recipe has no such data; it needs {known}")
    missing = [key for key in needed if key not in given]
    if missing:
        raise DataError(_missing_data(recipe, missing))
    for key, path in given.items():
        if not path.exists():
            raise DataError(f"--data {key}={path}: nothing is there; {needed[key].get}")
    specs = {key: needed[key].at(path.absolute()) for key, path in given.items()}
    for key, spec in specs.items():
        labels = getattr(spec, "labels", None)
        if labels is not None and not labels.is_file():
            raise DataError(
                f"{key}: {labels}: no such file of labels; give its path, or omit labels"
            )
    return specs


def _missing_data(recipe: Recipe, missing: list[str]) -> str:
    """What to give, where to get it, and which rows of the table need it."""
    options = " ".join(f"--data {key}=FOLDER" for key in missing)
    reasons = []
    for key in missing:
        requirement = recipe.data[key]
        reasons.append(f"{key} ({requirement.set}): {requirement.get}; {_without(recipe, key)}")
    return f"give {options}, or --standin to rehearse. {'; '.join(reasons)}"


def _without(recipe: Recipe, key: str) -> str:
    """What is lost without a data set."""
    rows = recipe.rows_on(key)
    if len(rows) == len(recipe.rows):
        return "no row of the table can be computed without it"
    names = ", ".join(rows)
    return f"these rows need it: {names}, unless --set removes it from their steps' `data`"


def run_steps(
    recipe: Recipe,
    data: Mapping[str, Set],
    out: Path,
    *,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Finished:
    """Run the steps that are not done yet.

    Args:
        recipe: Whose steps are run.
        data: Data sets by the recipe's keys, see `find_data`.
        out: The folder of the run; each step gets a folder in ``out/steps``.
        note: Called with every line worth knowing.
        progress: Called with what is being done, how much of it is done, and how much there is.

    Returns:
        The folders of all steps.

    Raises:
        MienError: A step failed. What was done until then is kept.
    """
    out = out.absolute()  # training runs remember where their features are
    fingerprint = cache(_fingerprint)
    note_once = _without_repeats(note)
    folders: dict[str, Path] = {}
    keys: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for number, (name, step) in enumerate(recipe.steps.items(), 1):
        needs = [keys[other] for other in step.references(STEP)]
        relevant = [step.relevant_settings(data[key]) for key in step.references(DATA)]
        keys[name] = _key(step, needs, list(map(fingerprint, relevant)), recipe.seeds)
        folder = out / "steps" / f"{name}-{keys[name][:12]}"
        earlier = {other: folders[other] for other in recipe.steps if other in folders}
        folders[name] = folder
        title = f"step {number} of {len(recipe.steps)}, {name}"
        done = folder / "done.json"
        if done.is_file():
            seconds[name] = float(json.loads(done.read_text(encoding="utf-8"))["seconds"])
            note(f"{title}: done before")
            continue
        context = StepContext(
            name, folder, earlier, recipe.steps, data, recipe.seeds, note_once, progress
        )
        seconds[name] = _run_step(step, context)
        note(f"{title}: {seconds[name]:.0f} s")
    return Finished(folders, seconds)


def _run_step(step: Step, context: StepContext) -> float:
    """Run one step and record that it is done; the seconds it took, over all its attempts."""
    folder = context.folder
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic() - _seconds_spent(folder)
    try:
        step.run(context)
    except DataError as error:
        raise DataError(f"step {context.name}: {error}") from error
    except KeyboardInterrupt:
        atomic_write(folder / _SPENT, str(round(time.monotonic() - began, 1)).encode())
        raise
    seconds = time.monotonic() - began
    facts = {"seconds": round(seconds, 1), "step": json.loads(step.model_dump_json())}
    # Written last: a step whose folder holds this file is complete.
    atomic_write(folder / "done.json", json.dumps(facts, indent=2).encode())
    return seconds


def _seconds_spent(folder: Path) -> float:
    path = folder / _SPENT
    return float(path.read_text(encoding="utf-8")) if path.is_file() else 0.0


def _without_repeats(note: Callable[[str], None]) -> Callable[[str], None]:
    """Notes without repetition: every seed and step that reads the same data notes the same."""
    noted: set[str] = set()

    def note_once(line: str) -> None:
        if line not in noted:
            noted.add(line)
            note(line)

    return note_once


def _key(step: Step, needs: list[str], data: list[str], seeds: tuple[int, ...]) -> str:
    """Hash of all that a step's result depends on."""
    bundles = [open_bundle(name).card.sha256 for name in step.references(BUNDLE)]
    settings = step.model_dump(mode="json")
    facts: list[Any] = [RESULTS_VERSION, settings, bundles, needs, data, seeds]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _fingerprint(spec: Set) -> str:
    """Hash of a data set's settings, and of the path, size and time of every file in its folders."""
    digest = hashlib.sha256(spec.model_dump_json().encode())
    roots = places(spec)
    for root in dict.fromkeys(roots):
        # A folder inside another of the set's folders is read with that one.
        if set(root.parents) & set(roots):
            continue
        try:
            for path, status in _files(root):
                line = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
        except FileNotFoundError:
            continue  # the loader will say what is missing
        except OSError as error:
            raise DataError(
                f"{root}: cannot be read ({error}); check the folder and your permissions"
            ) from error
    return digest.hexdigest()


def _files(place: Path | str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file at a place, in one order."""
    if os.path.isfile(place):
        yield str(place), os.stat(place)
        return
    with os.scandir(place) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _files(entry.path)
        else:
            yield entry.path, entry.stat()
