"""The YAML of a recipe before it is validated: read with what it includes, changed, filled in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mien.documents.yaml import parse_yaml, read_yaml, take_schema
from mien.errors import DataError, UnknownNameError
from mien.recipes.names import LIBRARY, recipes

__all__ = ["HELP", "change", "filled", "opened"]

HELP: Final = "see docs/howto/recipes.md"
"""Where people read more, at the end of messages."""


def opened(name: str | Path, _including: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read the YAML of a recipe with what it includes, before options are filled in.

    Args:
        name: See `read_recipe`.

    Returns:
        Its content.

    Raises:
        MienError: As `read_recipe` does.
    """
    content = _parsed(name)
    if not isinstance(content, dict):
        raise DataError(f"{name}: no recipe in it; {HELP}")
    recipe: dict[str, Any] = _unshared(take_schema(content, "recipe", str(name)))
    included = recipe.pop("include", [])
    if not isinstance(included, list) or not all(isinstance(other, str) for other in included):
        raise DataError(f"{name}: include: give a list of recipes; {HELP}")
    chain = (*_including, str(name))
    for other in included:
        if other in chain:
            raise DataError(f"{name}: include: {other} includes itself; leave it out")
        content = opened(other, chain)
        # Nothing is validated yet: what should be a list or a mapping may be anything.
        try:
            recipe = _appended(content, recipe)
        except TypeError as error:
            raise DataError(
                f"{name}: include: {other} does not go with it ({error}); {HELP}"
            ) from error
    return recipe


def _parsed(name: str | Path) -> Any:
    # A recipe's name has no suffix.
    file = Path(name)
    if file.suffix in (".yaml", ".yml"):
        then = (
            "give a YAML file, such as `mien reproduce NAME --show` prints, or a NAME: one of "
            f"{', '.join(recipes())}; {HELP}"
        )
        return read_yaml(file, then)
    if str(name) not in recipes():
        raise UnknownNameError("recipe", str(name), recipes())
    text = (LIBRARY / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_yaml(text, str(name), HELP)


def _unshared(tree: Any) -> Any:
    """A copy without YAML's aliases (``&``, ``*``), so that a change of one leaves the others."""
    if isinstance(tree, dict):
        return {key: _unshared(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_unshared(value) for value in tree]
    # Numbers and texts cannot be changed in place.
    return tree


def _appended(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The second recipe after the steps, rows, ratios and departures of the first."""
    # Its other settings, such as name and protocol, are those of the second.
    both = dict(second)
    for key in ("data", "options", "choices", "from_bundle", "small", "steps"):
        both[key] = {**first.get(key, {}), **second.get(key, {})}
    for key in ("rows", "differences", "claims", "ratios", "departures"):
        both[key] = [*first.get(key, ()), *second.get(key, ())]
    return both


def change(content: Any, key: str, value: Any, where: str) -> None:
    """Set a dotted key in the content of a recipe.

    Args:
        content: The content; changed in place.
        key: Such as ``steps.heads.runs.0.fit.epochs``.
        value: Its new value.
        where: Name of the recipe, for messages.

    Raises:
        DataError: There is no such key.
    """
    *path, last = key.split(".")
    parent: Any = content
    for part in path:
        if _is_index(parent, part):
            parent = parent[int(part)]
        elif isinstance(parent, dict):
            parent = parent.get(part)
        else:
            parent = None
    if _is_index(parent, last):
        parent[int(last)] = value
    # A key that is not written in the recipe may be one with a default.
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        show = f"`mien reproduce {where} --show` prints every key"
        raise DataError(f"{where}: there is no {key} to set; {show}")


def _is_index(content: Any, part: str) -> bool:
    # Lists are changed in place of an item; nothing is appended.
    return isinstance(content, list) and part.isdecimal() and int(part) < len(content)


def filled(tree: Any, options: Mapping[str, Any], where: str) -> Any:
    """Replace every ``${word}``.

    Args:
        tree: The content of a recipe, or a part of it.
        options: What words stand for.
        where: Name of the recipe, for messages.

    Returns:
        A filled copy.

    Raises:
        DataError: A word stands for nothing.
    """
    if isinstance(tree, dict):
        return {key: filled(value, options, where) for key, value in tree.items()}
    if isinstance(tree, list):
        return [filled(value, options, where) for value in tree]
    # The whole text is replaced, so that an option can be a number or a list.
    match = re.fullmatch(r"\$\{(\w+)\}", tree) if isinstance(tree, str) else None
    if match is None:
        return tree
    word = match[1]
    if word not in options:
        known = ", ".join(options) or "none"
        raise DataError(f"{where}: {tree} is no option; there are {known}")
    return options[word]
