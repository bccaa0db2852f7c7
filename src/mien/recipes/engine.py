"""The engine: runs the steps of a recipe in order, each in a folder of its own, and none twice.

A step's folder is named by a hash of what its result depends on: its settings, the steps and data
it reads, bundles, seeds, and the version of the numbers. A step is therefore skipped if nothing of
that has changed, a killed step continues where it can, and going back to earlier settings costs
nothing.
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

_DONE: Final = "done.json"
"""Says that the step in whose folder it is has been completed, and how long it took."""
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
        # Every step that predicts something writes this file.
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
        DataError: The recipe has no such key, a key is missing (the message says where people get
            the data, and which rows need them), or nothing is at a path.
    """
    for key in given:
        if key not in recipe.data:
            known = ", ".join(recipe.data)
            raise DataError(f"--data {key}: this recipe has no such data; it needs {known}")
    # All that is missing is named at once.
    missing = [key for key in recipe.needed_data() if key not in given]
    if missing:
        raise DataError(_missing_data(recipe, missing))
    specs = {}
    for key, path in given.items():
        requirement = recipe.data[key]
        if not path.exists():
            raise DataError(f"--data {key}={path}: nothing is there; {requirement.get}")
        # Absolute, since settings of runs keep the path.
        specs[key] = requirement.at(path.absolute())
        _check_labels(key, specs[key])
    return specs


def _check_labels(key: str, spec: Set) -> None:
    """Raises DataError if a data set's file of labels, which some kinds have, does not exist."""
    labels = getattr(spec, "labels", None)
    if labels is not None and not labels.is_file():
        raise DataError(f"{key}: {labels}: no such file of labels; give its path, or omit labels")


def _missing_data(recipe: Recipe, missing: list[str]) -> str:
    """What to give, where to get it, and which rows of the table need it."""
    options = []
    reasons = []
    for key in missing:
        options.append(f"--data {key}=FOLDER")
        requirement = recipe.data[key]
        loss = _without(recipe, key)
        reasons.append(f"{key} ({requirement.set}): {requirement.get}; {loss}")
    listed = " ".join(options)
    return f"give {listed}, or --standin to rehearse. {'; '.join(reasons)}"


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
    keys = _keys(recipe, data)
    folders: dict[str, Path] = {}
    for name in recipe.steps:
        folders[name] = out / "steps" / f"{name}-{keys[name][:12]}"
    done = {name: _seconds_of_done(folder) for name, folder in folders.items()}
    # Whatever is refused, is refused before the first step, which may take days.
    for name, step in recipe.steps.items():
        if done[name] is None:
            step.check_data(name, recipe.steps, data)
    note_once = _without_repeats(note)
    seconds: dict[str, float] = {}
    earlier: dict[str, Path] = {}
    for number, (name, step) in enumerate(recipe.steps.items(), 1):
        title = f"step {number} of {len(recipe.steps)}, {name}"
        earlier_seconds = done[name]
        if earlier_seconds is None:
            # A copy, to which later steps are not added.
            context = StepContext(
                name,
                folders[name],
                dict(earlier),
                recipe.steps,
                data,
                recipe.seeds,
                note_once,
                progress,
            )
            seconds[name] = _run_step(step, context)
            note(f"{title}: {seconds[name]:.0f} s")
        else:
            seconds[name] = earlier_seconds
            note(f"{title}: done before")
        earlier[name] = folders[name]
    return Finished(folders, seconds)


def _keys(recipe: Recipe, data: Mapping[str, Set]) -> dict[str, str]:
    """By step, the hash of all that its result depends on."""
    # Scanning the folders of a data set takes long, and many steps read the same one.
    fingerprint = cache(_fingerprint)
    keys: dict[str, str] = {}
    for name, step in recipe.steps.items():
        needs = [keys[other] for other in step.references(STEP)]
        fingerprints = []
        for key in step.references(DATA):
            fingerprints.append(fingerprint(step.relevant_settings(data[key])))
        keys[name] = _key(step, needs, fingerprints, recipe.seeds)
    return keys


def _seconds_of_done(folder: Path) -> float | None:
    """What a step took, by its folder; None unless it is done."""
    path = folder / _DONE
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    return float(facts["seconds"])


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
    # The next attempt continues, so the time of this one counts.
    except KeyboardInterrupt:
        atomic_write(folder / _SPENT, str(round(time.monotonic() - began, 1)).encode())
        raise
    seconds = time.monotonic() - began
    facts = {"seconds": round(seconds, 1), "step": json.loads(step.model_dump_json())}
    # Written last: a step whose folder holds this file is complete.
    atomic_write(folder / _DONE, json.dumps(facts, indent=2).encode())
    return seconds


def _seconds_spent(folder: Path) -> float:
    path = folder / _SPENT
    if not path.is_file():
        return 0.0
    return float(path.read_text(encoding="utf-8"))


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
    # By content: a folder of a bundle may be replaced by another.
    bundles = [open_bundle(name).card.sha256 for name in step.references(BUNDLE)]
    settings = step.model_dump(mode="json")
    facts: list[Any] = [RESULTS_VERSION, settings, bundles, needs, data, seeds]
    # Sorted, so that the order of fields in the code has no influence.
    content = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _fingerprint(spec: Set) -> str:
    """Hash of a data set's settings, and of path, size and time of every file in its folders."""
    digest = hashlib.sha256(spec.model_dump_json().encode())
    roots = places(spec)
    for root in dict.fromkeys(roots):
        # A folder inside another of the set's folders is read with that one.
        if set(root.parents) & set(roots):
            continue
        try:
            for path, status in _files(root):
                # Paths cannot hold a zero byte, so no two lists of files have the same text.
                line = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
        except FileNotFoundError:
            continue  # the loader will say what is missing
        except OSError as error:
            raise DataError(
                f"{root}: cannot be read ({error}); check the folder and your permissions"
            ) from error
    return digest.hexdigest()


def _files(path: Path | str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file at a path, or below it, always in the same order."""
    if os.path.isfile(path):
        yield str(path), os.stat(path)
        return
    # Scanning a folder is faster than asking for every file, and data sets have millions.
    with os.scandir(path) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _files(entry.path)
        else:
            yield entry.path, entry.stat()
