"""Which recipes come with mien, read from their files alone: no extra is needed to list them."""

import json
import re
from importlib.resources import files
from typing import Final

from mien.errors import UnknownNameError

__all__ = ["LIBRARY", "recipes", "title_of"]

LIBRARY: Final = files("mien.recipes") / "library"
"""The folder of recipes, one YAML file each."""


def recipes() -> tuple[str, ...]:
    """List the recipes that come with mien.

    Returns:
        Their names, sorted.
    """
    names = []
    for path in LIBRARY.iterdir():
        # A package may be read from an archive, whose paths have a name only.
        if path.name.endswith(".yaml"):
            names.append(path.name.removesuffix(".yaml"))
    return tuple(sorted(names))


def title_of(name: str) -> str:
    """Return what a recipe that comes with mien is about.

    Args:
        name: Of the recipe.

    Returns:
        Its title, one line.

    Raises:
        UnknownNameError: There is no such recipe.

    >>> title_of("hse-abaw4-mtl")
    "MT-EmotiEffNet's multi-task system: frozen features, separate heads, tuned thresholds"
    """
    if name not in recipes():
        raise UnknownNameError("recipe", name, recipes())
    content = (LIBRARY / f"{name}.yaml").read_text(encoding="utf-8")
    # YAML is parsed only with an extra, and the title is a JSON string on a line of its own.
    quoted = re.search(r'^title: (".*")$', content, re.MULTILINE)
    assert quoted, name  # a test reads all of them
    return str(json.loads(quoted[1]))
