"""The engine: runs the steps of a recipe in order, each in a folder of its own, and none twice.

A step's folder is named by a hash of what its result depends on (`mien.recipes.steps.keys`). A
step is therefore skipped if nothing of that has changed, a killed step continues where it can, and
going back to earlier settings costs nothing. Steps of one hash share a folder: one of them runs.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mien.data.registry import Set
from mien.errors import DataError
from mien.files import atomic_write, wrap_os_errors
from mien.progress import Progress, silent
from mien.recipes.predictions import Predicted
from mien.recipes.schema import Recipe
from mien.recipes.steps.base import Step, StepContext
from mien.recipes.steps.keys import places_behind, step_keys
from mien.recipes.steps.runs import move_runs

__all__ = ["Finished", "find_data", "run_steps"]

_DONE: Final = "done.json"
"""Says that the step in whose folder it is has been completed, and how long it took."""
_SPENT: Final = "spent.txt"
"""Seconds that an interrupted step has taken so far."""
_PLACES: Final = "places.json"
"""Where the folder of the run, and all that the step reads, lay when it was last asked for."""


@dataclass(frozen=True)
class Finished:
    """All steps of a recipe, done.

    Attributes:
        folders: By the step's name.
        seconds: What each step took when it ran; without those that share another's result.
    """

    folders: Mapping[str, Path]
    seconds: Mapping[str, float]

    def seconds_of(self, steps: Iterable[str]) -> float:
        """Sum up what some steps took.

        Args:
            steps: Their names.

        Returns:
            Seconds; a result that several of them share counts once.
        """
        by_folder = {self.folders[name]: seconds for name, seconds in self.seconds.items()}
        folders = {self.folders[name] for name in steps}
        return sum(by_folder[folder] for folder in folders)

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
    keys = step_keys(recipe.steps, data, recipe.seeds)
    folders = _find_folders(out / "steps", keys)
    done: dict[str, float | None] = {}
    places: dict[str, list[str]] = {}
    for name, folder in folders.items():
        done[name] = _seconds_of_done(folder)
        places[name] = [str(out), *places_behind(name, recipe.steps, data, keys)]
        _follow_moves(folder, places[name])
    _note_former_steps(recipe, out / "steps", note)
    # Whatever is refused, is refused before the first step, which may take days.
    for name, step in recipe.steps.items():
        if done[name] is None:
            step.check_data(name, recipe.steps, data)
    note_once = _without_repeats(note)
    seconds: dict[str, float] = {}
    earlier: dict[str, Path] = {}
    first_of: dict[str, str] = {}
    for number, (name, step) in enumerate(recipe.steps.items(), 1):
        title = f"step {number} of {len(recipe.steps)}, {name}"
        first = first_of.setdefault(keys[name], name)
        earlier_seconds = done[name]
        if first != name:
            note(f"{title}: the same as {first}, whose result it shares")
        elif earlier_seconds is None:
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
            seconds[name] = _run_step(step, context, places[name])
            note(f"{title}: {seconds[name]:.0f} s")
        else:
            seconds[name] = earlier_seconds
            note(f"{title}: done before")
        earlier[name] = folders[name]
    return Finished(folders, seconds)


def _find_folders(steps: Path, keys: Mapping[str, str]) -> dict[str, Path]:
    """By step, its folder: of steps of one key the first one's, or that of another recipe's."""
    by_key: dict[str, Path] = {}
    for name, key in keys.items():
        if key in by_key:
            continue
        by_key[key] = steps / f"{name}-{key[:12]}"
        # Another recipe in the same folder may have computed the same under another name.
        for marker in sorted(steps.glob(f"*-{key[:12]}/{_DONE}")):
            by_key[key] = marker.parent
    return {name: by_key[key] for name, key in keys.items()}


def _follow_moves(folder: Path, places: list[str]) -> None:
    """Let what a step has made so far name the present places of what it reads."""
    path = folder / _PLACES
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        moves = dict(zip(before, places, strict=True))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); delete {folder} to run it again") from error
    if before != places:
        move_runs(folder, moves)
        # Written last: if this is interrupted, it begins again.
        atomic_write(path, json.dumps(places, indent=2).encode())


def _note_former_steps(recipe: Recipe, steps: Path, note: Callable[[str], None]) -> None:
    """Say which finished steps had their names from an earlier version, and are not used."""
    former: list[str] = []
    for name in recipe.steps:
        for marker in sorted(steps.glob(f"{name}-*/{_DONE}")):
            if not (marker.parent / _PLACES).is_file():
                former.append(marker.parent.name)
    if former:
        note(
            f"{steps}: {', '.join(former)}: of an earlier version of mien, which named steps in "
            "another way; they run again, and these folders can be deleted"
        )


def _seconds_of_done(folder: Path) -> float | None:
    """What a step took, by its folder; None unless it is done."""
    path = folder / _DONE
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    return float(facts["seconds"])


def _run_step(step: Step, context: StepContext, places: list[str]) -> float:
    """Run one step and record that it is done; the seconds it took, over all its attempts."""
    folder = context.folder
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # Written first: whatever is there of the step knows where it was made.
    atomic_write(folder / _PLACES, json.dumps(places, indent=2).encode())
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
