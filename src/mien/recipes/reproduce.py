"""A paper's system from data to its final table, in one call."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from filelock import FileLock, Timeout

from mien.data.registry import Set, places
from mien.data.standins.make import KINDS, is_standin, make_standin
from mien.errors import DataError
from mien.files import atomic_write, replace_folder, wrap_os_errors
from mien.progress import Progress, silent
from mien.recipes.engine import Finished, find_data, run_steps
from mien.recipes.plot import draw
from mien.recipes.report import Report, markdown, plain, report
from mien.recipes.schema import Recipe, read_recipe
from mien.recipes.steps.data_files import SUBMISSION, Submit
from mien.recipes.steps.runs import EXPORTED
from mien.recipes.steps.systems.make import MakeSystem
from mien.recipes.submissions import submission_name

__all__ = ["reproduce", "shown", "write_report"]

_LOCK: Final = ".lock"
"""The file in the folder of a run that one process at a time holds."""
_STANDINS: Final = "standin"
"""The folder, in that of a run, of stand-ins that were made for it."""


def reproduce(
    name: str | Path,
    data: Mapping[str, Path],
    out: Path,
    *,
    changes: Mapping[str, Any] | None = None,
    small: bool = False,
    standin: bool = False,
    faces: Path | None = None,
    size: int | None = None,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Report:
    """Run a recipe, or what of it is not done yet, and write its report.

    Args:
        name: Of a recipe that comes with mien, or a YAML file.
        data: Paths of the data sets, by the recipe's keys.
        out: The folder of the run.
        changes: See `mien.recipes.schema.read_recipe`.
        small: The same.
        standin: Make stand-ins for the keys that are not given.
        faces: As for `mien.data.standins.make.make_standin`.
        size: The same.
        note: Called with every line worth knowing.
        progress: Called with what is being done, how much of it is done, and how much there is.

    Returns:
        The report, which is also in `out`.

    Raises:
        ValueError: `faces` or `size` without `standin`.
        MienError: As the parts do. What was done until then is kept.
    """
    recipe = read_recipe(name, changes, small=small)
    if not standin and (faces is not None or size is not None):
        raise ValueError(
            "faces and size say what stand-ins are made of; give standin (--standin) as well"
        )
    with _alone_in(out, note):
        paths = dict(data)
        if standin:
            options = _StandinOptions(faces, size)
            missing = [key for key in recipe.needed_data() if key not in data]
            _check_standins(recipe, missing)
            for key in missing:
                paths[key] = out / _STANDINS / key
                _prepare_standin(recipe.data[key].set, paths[key], options, note, progress)
        specs = find_data(recipe, paths)
        finished = run_steps(recipe, specs, out, note=note, progress=progress)
        return _report(recipe, finished, specs, out, note)


@contextmanager
def _alone_in(out: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Let one run at a time work in a folder: recipes share steps, and one makes them."""
    with wrap_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / _LOCK)
        # Tried once without waiting, so that whoever must wait learns of it.
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note(f"{out}: another run is at work in this folder; waiting for it to end")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _report(
    recipe: Recipe,
    finished: Finished,
    specs: Mapping[str, Set],
    out: Path,
    note: Callable[[str], None],
) -> Report:
    """Write the report, and what a user takes from the run: submissions and systems."""
    # For people: reports hold no paths.
    descriptions = {key: _description(spec) for key, spec in specs.items()}
    generated = any(map(_is_generated, specs.values()))
    results = report(recipe, finished, descriptions, standin=generated)
    written = [*write_report(results, out), *_copy_submissions(recipe, finished, out)]
    written += _copy_systems(recipe, finished, out)
    for path in written:
        note(str(path))
    return results


@dataclass(frozen=True)
class _StandinOptions:
    """What `mien.data.standins.make.make_standin` may be asked for."""

    faces: Path | None
    size: int | None


def _check_standins(recipe: Recipe, keys: Sequence[str]) -> None:
    """Raises DataError for data of a kind that there is no stand-in of."""
    for key in keys:
        requirement = recipe.data[key]
        if requirement.set not in KINDS:
            raise DataError(
                f"{key}: there is no stand-in of kind {requirement.set}; give --data {key}=FOLDER; "
                f"{requirement.get}"
            )


def _prepare_standin(
    kind: str,
    folder: Path,
    options: _StandinOptions,
    note: Callable[[str], None],
    progress: Progress,
) -> None:
    """Make a stand-in, unless an earlier call has made the same."""
    if not is_standin(folder):
        note(f"{folder.name}: making a stand-in of kind {kind}")
        _make(kind, folder, options, progress)
    elif not _matches(folder, kind, options):
        raise DataError(
            f"{folder}: the stand-in there was made of other faces or size; "
            "delete it, or choose another --out"
        )


def _make(kind: str, folder: Path, options: _StandinOptions, progress: Progress) -> None:
    with wrap_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    make_standin(
        kind,
        folder,
        faces=options.faces,
        size=options.size,
        progress=progress,
    )


def _matches(folder: Path, kind: str, options: _StandinOptions) -> bool:
    """Whether a stand-in was made with the same options, as far as they are given."""
    # Its README records them, for people and for this.
    readme = (folder / "README.txt").read_text(encoding="utf-8", errors="replace")
    rows = ""
    if options.size is not None:
        counts = KINDS[kind].counts(options.size)
        rows = ", ".join(f"{count} {split}" for split, count in counts.items())
    source = "" if options.faces is None else f"real faces of {options.faces} ("
    return f"Rows: {rows}" in readme and f"Made from: {source}" in readme


def _copy_submissions(recipe: Recipe, finished: Finished, out: Path) -> list[Path]:
    """Copies of all submissions in one place: ``submissions/<recipe>-<step>-<seed>.txt``."""
    copies = []
    for name, step in recipe.steps.items():
        if not isinstance(step, Submit):
            continue
        for path in sorted(finished.folders[name].glob(SUBMISSION.format("*"))):
            # Named again for people who collect submissions of several recipes.
            seed = path.stem.rpartition("-")[2]
            file_name = f"{submission_name(recipe.name, name)}-{seed}.txt"
            copy = out / "submissions" / file_name
            with wrap_os_errors(copy):
                copy.parent.mkdir(exist_ok=True)
            atomic_write(copy, path.read_bytes())
            copies.append(copy)
    return copies


def _copy_systems(recipe: Recipe, finished: Finished, out: Path) -> list[Path]:
    """Copies of all systems in one place, ``bundles/<name>``, to be named as `--bundle`."""
    copies = []
    for name, step in recipe.steps.items():
        if not isinstance(step, MakeSystem):
            continue
        source = finished.folders[name] / EXPORTED
        copy = out / "bundles" / step.name
        # The card holds the hashes of all other files.
        card = copy / "card.json"
        if not card.is_file() or card.read_bytes() != (source / "card.json").read_bytes():
            with replace_folder(copy) as new, wrap_os_errors(copy):
                shutil.copytree(source, new, dirs_exist_ok=True)
        copies.append(copy)
    return copies


def _is_generated(spec: Set) -> bool:
    # A recipe that asks for rendered heads means just these.
    return spec.set == "drawn" or any(map(is_standin, places(spec)))


def _description(spec: Set) -> str:
    """A data set for people: its kind, and its folder's name or that it is a stand-in."""
    folders = places(spec)
    if not folders:
        return spec.set
    source = "stand-in" if _is_generated(spec) else folders[0].name
    return f"{spec.set} ({source})"


def shown(
    name: str | Path, changes: Mapping[str, Any] | None = None, *, small: bool = False
) -> str:
    """Write a recipe as YAML, every default spelled out.

    Args:
        name: See `mien.recipes.schema.read_recipe`.
        changes: The same.
        small: The same.

    Returns:
        YAML.

    Raises:
        MienError: As `mien.recipes.schema.read_recipe` does.
    """
    recipe = read_recipe(name, changes, small=small)
    content = recipe.model_dump(mode="json")
    # In the order of the schema, which is that of a recipe's file.
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)


def write_report(results: Report, folder: Path) -> tuple[Path, ...]:
    """Write a report as Markdown, JSON and a picture.

    Args:
        results: The report.
        folder: Gets ``<recipe>.md``, ``.json`` and ``.png``.

    Returns:
        Their paths.

    Raises:
        OutputError: They cannot be written.
    """
    text = folder / f"{results.recipe}.md"
    data = folder / f"{results.recipe}.json"
    picture = folder / f"{results.recipe}.png"
    atomic_write(text, markdown(results).encode())
    content = json.dumps(plain(asdict(results)), indent=2)
    atomic_write(data, f"{content}\n".encode())
    draw(results, picture)
    return text, data, picture
