"""What a recipe may hold: data, steps, the rows of its table, and the paper's claims."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from mien.data.registry import Set
from mien.errors import DataError, UnknownNameError
from mien.protocols import protocol_named
from mien.recipes.options.weights import give_weights
from mien.recipes.options.words import words_of
from mien.recipes.steps import AnyStep
from mien.recipes.steps.base import DATA, STEP, StepName
from mien.recipes.tree import HELP, change, filled, opened

__all__ = [
    "Claim",
    "DataRequirement",
    "Difference",
    "Expectation",
    "Ratio",
    "Recipe",
    "Row",
    "read_recipe",
]

_PATH_KEYS: Final = {
    "ferplus": "folder",
    "portraits": "folder",
    "rendered": "folder",
    "file": "path",
}
"""The setting that holds a data set's path, by its kind; `root` for all others."""
_READING: Final = ("train", "heads", "features", "score")
"""Kinds of steps whose networks read faces."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataRequirement(_Strict):
    """Data that a recipe needs; people give the path.

    Attributes:
        set: A kind of `mien.data.registry.Set`.
        get: Where people get it.
        options: Its other settings.
    """

    set: str
    get: str
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        # Options are checked by the settings of that kind, with any path.
        try:
            self.at(Path())
        except ValidationError as error:
            raise ValueError(_first(error)) from error
        return self

    def at(self, path: Path) -> Set:
        """Return the data set at a path.

        Args:
            path: Where it is.

        Returns:
            Its settings.

        Raises:
            ValidationError: It has no such options.
        """
        path_key = _PATH_KEYS.get(self.set, "root")
        settings = {"set": self.set, path_key: str(path), **self.options}
        spec: Set = TypeAdapter(Set).validate_python(settings)
        return spec


class Row(_Strict):
    """A row of the final table.

    Attributes:
        name: For people.
        of: The step whose predictions are scored.
        paper: The paper's numbers, by measure; `score` is the protocol's.
        networks: Steps whose networks read a face for it, for the table of costs.
    """

    name: str
    of: str
    paper: dict[str, float] = {}
    networks: tuple[str, ...] = ()


class Difference(_Strict):
    """Two rows compared on the same faces, with an interval.

    Attributes:
        name: For people.
        of: A row.
        to: The row that is subtracted from it.
    """

    name: str
    of: str
    to: str


class Claim(_Strict):
    """A number of the paper that a row is compared with.

    Attributes:
        name: For people.
        row: Its name.
        paper: The number.
        within: How far below it still counts.
        measure: As in `Row.paper`.
    """

    name: str
    row: str
    paper: float
    within: Annotated[float, Field(gt=0, le=1e6)]
    measure: str = "score"
    tuned: bool = False
    """Whether the paper tuned and scored on the same rows; then the in-sample score is compared."""


class Ratio(Claim):
    """A relative claim of the paper: a measure of `row` over that of `to`.

    Attributes:
        to: A row.
        at_most: Whether the paper says "up to" its number.
    """

    to: str
    at_most: bool = False


class Expectation(_Strict):
    """What the paper used, without which its claims cannot be judged.

    Attributes:
        bundles: By option, the names of bundles with the paper's networks.
        faces: Labelled faces of split val, as the paper's own list has them.
        within: By which share their number may differ, since pictures that come twice count once.
    """

    bundles: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    faces: Annotated[int, Field(ge=1)] | None = None
    within: Annotated[float, Field(ge=0, lt=1)] = 0.01


class Recipe(_Strict):
    """A paper's system.

    Attributes:
        name: Of the recipe.
        title: What it is about, one line.
        paper: Whose system it is.
        data: What it needs, by key.
        options: What ``${word}`` stands for in the rest, by word, so that one `--set` reaches all
            occurrences.
        choices: By option and value, further words for ``${word}`` that the value stands for; they
            outweigh options that nobody asked for.
        from_bundle: By an option of `choices` that may name a bundle as well, further words beside
            those of `mien.recipes.options.network.bundle_words`.
        small: Changes with which two cores can rehearse it, as `read_recipe` takes them.
        protocol: A name as of `mien.protocols.protocol_named`.
        seeds: What is trained, is trained once for each.
        steps: By name, in order.
        rows: Of the table.
        differences: Between rows.
        claims: Of the paper.
        ratios: Its relative claims.
        expects: What the claims are about.
        departures: What differs from the paper, and why.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    paper: str
    data: Annotated[dict[str, DataRequirement], Field(min_length=1)]
    options: dict[str, Any] = {}
    choices: dict[str, dict[str, dict[str, Any]]] = {}
    from_bundle: dict[str, dict[str, Any]] = {}
    small: dict[str, Any] = {}
    protocol: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    steps: Annotated[dict[StepName, AnyStep], Field(min_length=1)]
    rows: tuple[Row, ...] = ()
    differences: tuple[Difference, ...] = ()
    claims: tuple[Claim, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    expects: Expectation = Expectation()
    departures: tuple[str, ...] = ()

    @field_validator("protocol")
    @classmethod
    def _protocol_is_known(cls, name: str) -> str:
        # By edition or by year, a recipe's report says the same.
        try:
            return protocol_named(name).name
        except UnknownNameError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for option in self.expects.bundles:
            if option not in self.options:
                raise ValueError(f"expects.bundles: {option} is no option of this recipe")
        self._check_steps()
        self._check_rows()
        return self

    def _check_steps(self) -> None:
        """Steps depend on earlier steps and known data only, and on what those can give."""
        before: list[str] = []
        for name, step in self.steps.items():
            where = f"steps.{name}"
            # Steps run in order, so a step cannot depend on a later one, or on itself.
            _check_names(where, step.references(STEP), before, STEP)
            _check_names(where, step.references(DATA), self.data, DATA)
            if step.needs_val:
                self._check_scored(where, step.references(STEP))
            try:
                step.check(self.steps)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            before.append(name)

    def _check_scored(self, where: str, names: Iterable[str]) -> None:
        """Refuse steps that learned the faces that they would be scored on."""
        for name in names:
            if not self.steps[name].scores_val:
                raise ValueError(
                    f"{where}: {name} learned split val, so that it has no score there; name the "
                    "step that it repeats"
                )

    def _check_rows(self) -> None:
        """Rows name steps; differences and claims name rows."""
        rows = [row.name for row in self.rows]
        # Others have no network whose cost could be measured.
        reading = [name for name, step in self.steps.items() if step.do in _READING]
        for row in self.rows:
            _check_names("rows", [row.of], self.steps, "a step")
            self._check_scored("rows", [row.of])
            _check_names("rows", row.networks, reading, "a step whose networks read faces")
        for pair in self.differences:
            _check_names("differences", [pair.of, pair.to], rows, "a row")
        for claim in self.claims:
            _check_names("claims", [claim.row], rows, "a row")
        for ratio in self.ratios:
            _check_names("claims", [ratio.row, ratio.to], rows, "a row")

    def behind(self, step: str) -> set[str]:
        """Return a step with all that it depends on, directly or not.

        Args:
            step: Its name.

        Returns:
            Names of steps.
        """
        reached: set[str] = set()
        pending = [step]
        while pending:
            name = pending.pop()
            # Several steps may depend on the same one.
            if name not in reached:
                reached.add(name)
                pending += self.steps[name].references(STEP)
        return reached

    def needed_data(self) -> list[str]:
        """List the data sets that steps read.

        Returns:
            Keys of `data`, in its order.
        """
        keys: set[str] = set()
        for step in self.steps.values():
            keys.update(step.references(DATA))
        return [key for key in self.data if key in keys]

    def rows_on(self, data: str) -> list[str]:
        """Return the rows that need a data set.

        Args:
            data: Its key.

        Returns:
            Names of rows.
        """
        names = []
        for row in self.rows:
            needed: set[str] = set()
            for step in self.behind(row.of):
                needed.update(self.steps[step].references(DATA))
            if data in needed:
                names.append(row.name)
        return names


def _check_names(where: str, names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raises ValueError for a name that is not known."""
    known = list(known)
    for name in names:
        if name not in known:
            # The first step has none before it.
            listed = ", ".join(known) or "none"
            raise ValueError(f"{where}: {name!r} is not {what}; there are {listed}")


def read_recipe(
    name: str | Path, changes: Mapping[str, Any] | None = None, *, small: bool = False
) -> Recipe:
    """Read a recipe, by name or from a YAML file.

    Args:
        name: Of a recipe that comes with mien, or a YAML file.
        changes: By dotted key, such as ``steps.heads.runs.0.fit.epochs``, or by the name of an
            option.
        small: First make the changes that the recipe itself names for a rehearsal.

    Returns:
        The recipe.

    Raises:
        UnknownNameError: There is no such recipe.
        DataError: Something in it is wrong; the message names the file and the key.
    """
    content = opened(name)
    options = content.get("options", {})
    if not isinstance(options, dict):
        raise DataError(f"{name}: options: give words and what they stand for; {HELP}")
    rehearsal = content.get("small", {}) if small else {}
    if not isinstance(rehearsal, dict) or (small and not rehearsal):
        raise DataError(
            f"{name}: there is no smaller version of it; omit --small, or change its options "
            "by --set"
        )
    # What is asked for now comes after the recipe's own changes, and outweighs them.
    for key, value in {**rehearsal, **(changes or {})}.items():
        if key in options:
            change(content, f"options.{key}", value, str(name))
        elif "." in key or key in Recipe.model_fields:
            change(content, key, value, str(name))
        else:
            raise DataError(_unknown_option(name, key, options))
    # Filled in last, since changes may name options.
    words = words_of(content, changes or (), str(name))
    content["options"] = {option: words[option] for option in options}
    complete = filled(content, words, str(name))
    give_weights(complete, str(name))
    try:
        return Recipe.model_validate(complete)
    except ValidationError as error:
        raise DataError(f"{name}: {_first(error)}; {HELP}") from error


def _unknown_option(name: str | Path, key: str, options: Mapping[str, Any]) -> str:
    near = get_close_matches(key, options, n=1)
    known = ", ".join(options) or "none"
    hint = f"did you mean {near[0]}?" if near else f"its options are {known}"
    show = f"`mien reproduce {name} --show` prints every key"
    return f"{name}: {key} is no option of it; {hint} ({show})"


def _first(error: ValidationError) -> str:
    """Where the first mistake is, and what it is, in one line."""
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    if location[:1] == ["steps"]:
        del location[2:3]  # pydantic names the kind of step, which is no key of the file
    where = ".".join(location)
    # One line, without pydantic's prefix for errors of our own validators.
    message = re.sub(r"\s+", " ", first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
