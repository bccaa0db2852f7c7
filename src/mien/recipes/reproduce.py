"""A paper's system from data to its final table, in one call."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import yaml

from mien.data.registry import Set, places
from mien.data.standins.make import KINDS, is_standin, make_standin
from mien.errors import DataError
from mien.files import atomic_write, wrap_os_errors
from mien.progress import Progress, silent
from mien.recipes.engine import Finished, find_data, run_steps
from mien.recipes.plot import draw
from mien.recipes.report import Report, markdown, plain, report
from mien.recipes.schema import Recipe, read_recipe
from mien.recipes.steps.data_files import SUBMISSION, Submit

__all__ = ["reproduce", "shown", "write_report"]

_STANDINS: Final = "standin"
"""Where in the folder of a run the stand-ins lie that were made for it."""


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
    """Run a recipe, or what of it is not done yet, and write its report into `out`.

    name: of a recipe that comes with mien, or a YAML file. changes, small: see `read_recipe`. data: where they lie, by the recipe's keys.
    standin: make stand-ins for the keys that are not given. faces, size: as for `mien.data.standins.make.make_standin`.
    note: called with every line worth knowing. progress: with what, done and all.
    Raises UnknownNameError, DataError, OutputError, MissingExtraError, as the parts do; what was done until then is kept.
    """
    recipe = read_recipe(name, changes, small=small)
    if not standin and (faces is not None or size is not None):
        raise ValueError(
            "faces and size say what stand-ins are made of; give standin (--standin) as well"
        )
    given = dict(data)
    if standin:
        for key in [key for key in recipe.data if key not in data]:
            given[key] = out / _STANDINS / key
            if not is_standin(given[key]):
                note(f"{key}: making a stand-in of kind {recipe.data[key].set}")
                _make(recipe.data[key].set, given[key], faces=faces, size=size, progress=progress)
            elif not _as_asked(given[key], recipe.data[key].set, faces, size):
                raise DataError(
                    f"{given[key]}: the stand-in there was made of other faces or size; delete it, or choose another --out"
                )
    sets = find_data(recipe, given)
    finished = run_steps(recipe, sets, out, note=note, progress=progress)
    used = {key: _told(spec) for key, spec in sets.items()}
    found = report(recipe, finished, used, standin=any(_generated(spec) for spec in sets.values()))
    for path in (*write_report(found, out), *_submissions(recipe, finished, out)):
        note(str(path))
    return found


def _submissions(recipe: Recipe, finished: Finished, out: Path) -> list[Path]:
    """Copies of what can be sent in, in one place: ``submissions/<recipe>-<step>-<seed>.txt``."""
    made = []
    for name, step in recipe.steps.items():
        for path in (
            sorted(finished.folders[name].glob(SUBMISSION.format("*")))
            if isinstance(step, Submit)
            else ()
        ):
            made.append(
                out / "submissions" / f"{recipe.name}-{name}-{path.stem.rpartition('-')[2]}.txt"
            )
            with wrap_os_errors(made[-1]):
                made[-1].parent.mkdir(exist_ok=True)
            atomic_write(made[-1], path.read_bytes())
    return made


def _make(kind: str, place: Path, **how: Any) -> None:
    if kind not in KINDS:
        raise DataError(
            f"{place.name}: there is no stand-in of kind {kind}; give --data {place.name}=FOLDER"
        )
    with wrap_os_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    make_standin(kind, place, **how)


def _as_asked(place: Path, kind: str, faces: Path | None, size: int | None) -> bool:
    """Whether a stand-in that lies there is of those faces and that size, where they are given."""
    told = (place / "README.txt").read_text(encoding="utf-8", errors="replace")
    rows = (
        ""
        if size is None
        else ", ".join(f"{count} {split}" for split, count in KINDS[kind].counts(size).items())
    )
    return (
        f"Rows: {rows}" in told
        and f"Made from: {'' if faces is None else f'real faces of {faces} ('}" in told
    )


def _generated(spec: Set) -> bool:
    return spec.set == "drawn" or any(is_standin(place) for place in places(spec))


def _told(spec: Set) -> str:
    return (
        ", ".join(
            f"{spec.set} ({'stand-in' if _generated(spec) else place.name})"
            for place in places(spec)[:1]
        )
        or spec.set
    )


def shown(
    name: str | Path, changes: Mapping[str, Any] | None = None, *, small: bool = False
) -> str:
    """A recipe as YAML, every default spelled out; raises as `read_recipe`."""
    return yaml.safe_dump(
        read_recipe(name, changes, small=small).model_dump(mode="json"),
        sort_keys=False,
        allow_unicode=True,
        width=140,
    )


def write_report(found: Report, folder: Path) -> tuple[Path, ...]:
    """Write ``<recipe>.md``, ``.json`` and ``.png`` into a folder; returns their paths. Raises OutputError."""
    paths = tuple(folder / f"{found.recipe}.{suffix}" for suffix in ("md", "json", "png"))
    atomic_write(paths[0], markdown(found).encode())
    atomic_write(paths[1], (json.dumps(plain(asdict(found)), indent=2) + "\n").encode())
    draw(found, paths[2])
    return paths
