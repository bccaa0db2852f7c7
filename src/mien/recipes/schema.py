"""What a recipe may say: strict YAML with the paper, the data it needs, the steps, the rows of its table, and the paper's claims."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from mien.data.registry import Set
from mien.documents.yaml import parse_yaml, read_yaml, take_schema
from mien.errors import DataError, UnknownNameError
from mien.metrics import PROTOCOLS
from mien.recipes.names import LIBRARY, recipes
from mien.recipes.steps import AnyStep
from mien.recipes.steps.base import DATA, STEP

__all__ = [
    "Claim",
    "DataRequirement",
    "Difference",
    "Ratio",
    "Recipe",
    "Row",
    "opened",
    "read_recipe",
]

_ROOTS: Final = {"ferplus": "folder", "portraits": "folder", "file": "path"}
"""Where the path of a data set goes, by its kind; `root` elsewhere."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataRequirement(_Strict):
    """Data that a recipe needs, by kind; people give the path.

    set: kind of `mien.data.registry.Set`. get: where people get it. options: its other settings.
    """

    set: str
    get: str
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        try:
            self.at(Path())
        except ValidationError as error:
            raise ValueError(_first(error)) from error
        return self

    def at(self, path: Path) -> Set:
        """The data set that lies there; raises ValidationError for options it does not have."""
        found: Set = TypeAdapter(Set).validate_python(
            {"set": self.set, _ROOTS.get(self.set, "root"): str(path), **self.options}
        )
        return found


class Row(_Strict):
    """A line of the final table: what a step predicts. paper: its numbers there, by measure; `score` is the protocol's.

    networks: steps whose networks read a face for it, for the table of costs.
    """

    name: str
    of: str
    paper: dict[str, float] = {}
    networks: tuple[str, ...] = ()


class Difference(_Strict):
    """Two steps compared on the same faces: `of` minus `to`, with an interval."""

    name: str
    of: str
    to: str


class Claim(_Strict):
    """A number of the paper that a row is held against. row: its name; measure: as in `Row.paper`; within: how far off still counts."""

    name: str
    row: str
    paper: float
    within: Annotated[float, Field(gt=0, le=1e6)]
    measure: str = "score"
    tuned: bool = False
    """Whether the paper tuned and told it on the same rows; then that number is held against it, and not the nested one."""


class Ratio(Claim):
    """A relative claim of the paper: a measure of `row` over that of `to`. at_most: the paper says up to so much, not so much."""

    to: str
    at_most: bool = False


class Recipe(_Strict):
    """A paper's system.

    options: words that ``${word}`` in the rest stands for, so that one `--set` reaches all places. protocol: of `PROTOCOLS`.
    small: changes that let two cores rehearse it, as `read_recipe` takes them.
    seeds: everything that is trained is trained once for each. include: recipes whose steps and rows come first.
    departures: what differs from the paper, and why.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    paper: str
    data: Annotated[dict[str, DataRequirement], Field(min_length=1)]
    options: dict[str, Any] = {}
    small: dict[str, Any] = {}
    protocol: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    steps: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")], AnyStep], Field(min_length=1)
    ]
    rows: tuple[Row, ...] = ()
    differences: tuple[Difference, ...] = ()
    claims: tuple[Claim, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    departures: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol: {UnknownNameError('protocol', self.protocol, PROTOCOLS)}")
        before: list[str] = []
        for name, step in self.steps.items():
            _known(f"steps.{name}", step.references(STEP), before, STEP)
            _known(f"steps.{name}", step.references(DATA), self.data, DATA)
            try:
                step.check(self.steps)
            except ValueError as error:
                raise ValueError(f"steps.{name}: {error}") from error
            before.append(name)
        _known("rows", (row.of for row in self.rows), self.steps, "a step")
        reading = [
            name
            for name, step in self.steps.items()
            if step.do in ("train", "heads", "features", "score")
        ]
        _known(
            "rows",
            (name for row in self.rows for name in row.networks),
            reading,
            "a step whose networks read faces",
        )
        _known(
            "differences",
            (one for pair in self.differences for one in (pair.of, pair.to)),
            [row.name for row in self.rows],
            "a row",
        )
        named = [
            *(claim.row for claim in self.claims),
            *(one for ratio in self.ratios for one in (ratio.row, ratio.to)),
        ]
        _known("claims", named, [row.name for row in self.rows], "a row")
        return self

    def behind(self, step: str) -> set[str]:
        """A step and all that it depends on, directly or not."""
        found: set[str] = set()
        left = [step]
        while left:
            one = left.pop()
            if one not in found:
                found.add(one)
                left += self.steps[one].references(STEP)
        return found

    def rows_on(self, data: str) -> list[str]:
        """Names of the rows that cannot be had without that data."""
        return [
            row.name
            for row in self.rows
            if any(data in self.steps[one].references(DATA) for one in self.behind(row.of))
        ]


def _known(where: str, names: Iterable[str], known: Iterable[str], what: str) -> None:
    known = list(known)
    if strange := [name for name in names if name not in known]:
        raise ValueError(
            f"{where}: {strange[0]!r} is not {what}; there are {', '.join(known) or 'none'}"
        )


def read_recipe(
    name: str | Path, changes: Mapping[str, Any] | None = None, *, small: bool = False
) -> Recipe:
    """A recipe by name, or from a YAML file.

    changes: by dotted key, such as ``steps.heads.runs.0.fit.epochs``, or by the name of an option alone. small: first those that the
    recipe itself names for a rehearsal.
    Raises UnknownNameError, or DataError naming the file and the key that is wrong.
    """
    content = opened(name)
    options = content.get("options", {})
    if not isinstance(options, dict):
        raise DataError(
            f"{name}: options: give words and what they stand for; see docs/howto/recipes.md"
        )
    own = content.get("small", {}) if small else {}
    if not isinstance(own, dict) or (small and not own):
        raise DataError(
            f"{name}: there is no smaller version of it; leave out --small, or change its options by --set"
        )
    for key, value in {**own, **(changes or {})}.items():
        if key not in options and "." not in key and key not in Recipe.model_fields:
            near = get_close_matches(key, options, n=1)
            hint = (
                f"did you mean {near[0]}?"
                if near
                else f"its options are {', '.join(options) or 'none'}"
            )
            raise DataError(
                f"{name}: {key} is no option of it; {hint} (`mien reproduce {name} --show` prints every key)"
            )
        _change(content, f"options.{key}" if key in options else key, value, str(name))
    try:
        return Recipe.model_validate(_filled(content, options, str(name)))
    except ValidationError as error:
        raise DataError(f"{name}: {_first(error)}; see docs/howto/recipes.md") from error


def _first(error: ValidationError) -> str:
    """Where the first thing wrong is, and what, in a line."""
    first = error.errors(include_url=False)[0]
    loc = [str(part) for part in first["loc"]]
    if loc[:1] == ["steps"]:
        del loc[2:3]  # the kind of step, which is no key of the file
    where = ".".join(loc)
    told = re.sub(r"\s+", " ", first["msg"]).removeprefix("Value error, ")
    return f"{where}: {told}" if where else told


def opened(name: str | Path, _inside: tuple[str, ...] = ()) -> dict[str, Any]:
    """The YAML of a recipe with what it includes, before options are filled in; raises as `read_recipe`."""
    file = Path(name)
    content: Any
    if file.suffix in (".yaml", ".yml"):
        content = read_yaml(
            file, f"give a YAML file or one of {', '.join(recipes())}; see docs/howto/recipes.md"
        )
    elif str(name) in recipes():
        content = parse_yaml(
            (LIBRARY / f"{name}.yaml").read_text(encoding="utf-8"),
            str(name),
            "see docs/howto/recipes.md",
        )
    else:
        raise UnknownNameError("recipe", str(name), recipes())
    if not isinstance(content, dict):
        raise DataError(f"{name}: no recipe in it; see docs/howto/recipes.md")
    found: dict[str, Any] = _apart(take_schema(content, "recipe", str(name)))
    included = found.pop("include", [])
    if not isinstance(included, list) or not all(isinstance(other, str) for other in included):
        raise DataError(f"{name}: include: give a list of recipes; see docs/howto/recipes.md")
    for other in included:
        if other in (*_inside, str(name)):
            raise DataError(f"{name}: include: {other} includes itself; leave it out")
        try:
            found = _joined(opened(other, (*_inside, str(name))), found)
        except TypeError as error:
            raise DataError(
                f"{name}: include: {other} does not go with it ({error}); see docs/howto/recipes.md"
            ) from error
    return found


def _apart(tree: Any) -> Any:
    """A copy in which what YAML shares by ``&`` and ``*`` is shared no more, so that changing it in one place leaves the others."""
    if isinstance(tree, dict):
        return {key: _apart(value) for key, value in tree.items()}
    return [_apart(value) for value in tree] if isinstance(tree, list) else tree


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The second recipe after the steps, rows, ratios and departures of the first."""
    both = dict(second)
    for key in ("data", "options", "small", "steps"):
        both[key] = {**first.get(key, {}), **second.get(key, {})}
    for key in ("rows", "differences", "claims", "ratios", "departures"):
        both[key] = [*first.get(key, ()), *second.get(key, ())]
    return both


def _change(content: Any, key: str, value: Any, where: str) -> None:
    *path, last = key.split(".")
    at: Any = content
    for part in path:
        at = (
            at[int(part)]
            if isinstance(at, list) and part.isdecimal() and int(part) < len(at)
            else at.get(part)
            if isinstance(at, dict)
            else None
        )
        if at is None:
            raise DataError(
                f"{where}: there is no {key} to set; `mien reproduce {where} --show` prints every key"
            )
    if isinstance(at, list) and last.isdecimal() and int(last) < len(at):
        at[int(last)] = value
    elif isinstance(at, dict):
        at[last] = value
    else:
        raise DataError(
            f"{where}: there is no {key} to set; `mien reproduce {where} --show` prints every key"
        )


def _filled(tree: Any, options: Mapping[str, Any], where: str) -> Any:
    """The tree with every ``${word}`` replaced."""
    if isinstance(tree, dict):
        return {key: _filled(value, options, where) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_filled(value, options, where) for value in tree]
    if isinstance(tree, str) and (found := re.fullmatch(r"\$\{(\w+)\}", tree)):
        if found[1] not in options:
            raise DataError(
                f"{where}: {tree} is no option; there are {', '.join(options) or 'none'}"
            )
        return options[found[1]]
    return tree
