"""The engine: runs the steps of a recipe in order, each in a folder of its own, and none twice.

A step's folder is named by what its result depends on: its settings, the steps and data it reads, the seeds, and mien's version. So a step
is skipped when nothing of that has changed, a step that was killed goes on where it can, and going back to earlier settings costs nothing.
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


@dataclass(frozen=True)
class Finished:
    """All steps of a recipe, done: their folders by name, and the seconds each took when it ran."""

    folders: Mapping[str, Path]
    seconds: Mapping[str, float]

    def predicted(self, step: str) -> Predicted:
        """What a step predicted; raises DataError where it predicts nothing."""
        if not (self.folders[step] / "tasks.json").is_file():
            raise DataError(f"rows: the step {step} predicts nothing; name one that does")
        return Predicted.load(self.folders[step])


def find_data(recipe: Recipe, given: Mapping[str, Path]) -> dict[str, Set]:
    """The data sets of a recipe at the paths given for them.

    Raises DataError for a key the recipe does not know, one that is not given (it says where people get the data, and what cannot be had
    without), and a path where nothing is.
    """
    needed = recipe.data
    if strange := [key for key in given if key not in needed]:
        raise DataError(
            f"--data {strange[0]}: this recipe has no such data; it needs {', '.join(needed)}"
        )
    if lacking := [key for key in needed if key not in given]:
        told = "; ".join(
            f"{key} ({needed[key].set}): {needed[key].get}; {_without(recipe, key)}"
            for key in lacking
        )
        raise DataError(
            f"give --data {' --data '.join(f'{key}=FOLDER' for key in lacking)}, or --standin to rehearse. {told}"
        )
    for key, path in given.items():
        if not path.exists():
            raise DataError(f"--data {key}={path}: nothing is there; {needed[key].get}")
    found = {key: needed[key].at(path.absolute()) for key, path in given.items()}
    for key, spec in found.items():
        labels = getattr(spec, "labels", None)
        if labels is not None and not labels.is_file():
            raise DataError(
                f"{key}: {labels}: no such file of labels; give its path, or leave labels out"
            )
    return found


def _without(recipe: Recipe, key: str) -> str:
    """What a missing data set means for the table."""
    lost = recipe.rows_on(key)
    if len(lost) == len(recipe.rows):
        return "nothing of the table can be had without it"
    return f"without it these rows cannot be had: {', '.join(lost)}, unless it is taken out of their steps' `data` by --set"


def run_steps(
    recipe: Recipe,
    data: Mapping[str, Set],
    out: Path,
    *,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Finished:
    """Run what is not done yet. Raises MienError of the step that fails; what was done stays."""
    out = out.absolute()  # runs in it remember where their features lie
    mark = cache(_fingerprint)
    folders: dict[str, Path] = {}
    keys: dict[str, str] = {}
    seconds: dict[str, float] = {}
    said: set[str] = set()
    for number, (name, step) in enumerate(recipe.steps.items(), 1):
        keys[name] = _key(
            step,
            [keys[one] for one in step.references(STEP)],
            [mark(step.relevant_settings(data[one])) for one in step.references(DATA)],
            recipe.seeds,
        )
        folders[name] = out / "steps" / f"{name}-{keys[name][:12]}"
        done, told = folders[name] / "done.json", f"step {number} of {len(recipe.steps)}, {name}"
        if done.is_file():
            seconds[name] = float(json.loads(done.read_text(encoding="utf-8"))["seconds"])
            note(f"{told}: done before")
            continue
        with wrap_os_errors(folders[name]):
            folders[name].mkdir(parents=True, exist_ok=True)
        began = time.monotonic() - _spent(folders[name])
        before = {one: folders[one] for one in recipe.steps if one in folders and one != name}
        try:
            step.run(
                StepContext(
                    name,
                    folders[name],
                    before,
                    recipe.steps,
                    data,
                    recipe.seeds,
                    _once(note, said),
                    progress,
                )
            )
        except DataError as error:
            raise DataError(f"step {name}: {error}") from error
        except KeyboardInterrupt:
            atomic_write(folders[name] / _SPENT, str(round(time.monotonic() - began, 1)).encode())
            raise
        seconds[name] = time.monotonic() - began
        atomic_write(
            done,
            json.dumps(
                {"seconds": round(seconds[name], 1), "step": json.loads(step.model_dump_json())},
                indent=2,
            ).encode(),
        )
        note(f"{told}: {seconds[name]:.0f} s")
    return Finished(folders, seconds)


def _spent(folder: Path) -> float:
    """Seconds that a step took before it was interrupted."""
    path = folder / _SPENT
    return float(path.read_text(encoding="utf-8")) if path.is_file() else 0.0


def _once(note: Callable[[str], None], said: set[str]) -> Callable[[str], None]:
    """Notes without those that were said before: every seed and step that reads the same data notes the same of them."""

    def new(line: str) -> None:
        if line not in said:
            said.add(line)
            note(line)

    return new


def _key(step: Step, needs: list[str], reads: list[str], seeds: tuple[int, ...]) -> str:
    facts: Any = [
        RESULTS_VERSION,
        step.model_dump(mode="json"),
        [open_bundle(name).card.sha256 for name in step.references(BUNDLE)],
        needs,
        reads,
        seeds,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _fingerprint(spec: Set) -> str:
    """What tells one state of a data set from another: its settings, and the size and time of every file in its folders."""
    mark, found = hashlib.sha256(spec.model_dump_json().encode()), places(spec)
    for place in dict.fromkeys(one for one in found if not set(one.parents) & set(found)):
        try:
            for path, status in _files(place):
                mark.update(
                    f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(
                        "utf-8", "surrogateescape"
                    )
                )
        except FileNotFoundError:
            continue  # what is not there, its loader will miss
        except OSError as error:
            raise DataError(
                f"{place}: cannot be read ({error}); check the folder and your rights"
            ) from error
    return mark.hexdigest()


def _files(place: Path | str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file at a place, in one order."""
    if os.path.isfile(place):
        yield str(place), os.stat(place)
        return
    with os.scandir(place) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _files(entry.path)
        else:
            yield entry.path, entry.stat()
