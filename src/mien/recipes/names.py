"""Which recipes come with mien, told from their files alone: no extra is needed to list them."""

import json
import re
from importlib.resources import files
from typing import Final

from mien.errors import UnknownNameError

__all__ = ["LIBRARY", "recipes", "title_of"]

LIBRARY: Final = files("mien.recipes") / "library"
"""The folder of recipes, a YAML file each."""


def recipes() -> tuple[str, ...]:
    """The names of the recipes that come with mien."""
    return tuple(
        sorted(
            path.name.removesuffix(".yaml")
            for path in LIBRARY.iterdir()
            if path.name.endswith(".yaml")
        )
    )


def title_of(name: str) -> str:
    """What a recipe that comes with mien is about, in a line. Raises UnknownNameError.

    >>> title_of("hse-abaw4-mtl")
    "MT-EmotiEffNet's multi-task system: frozen features, separate heads, tuned thresholds"
    """
    if name not in recipes():
        raise UnknownNameError("recipe", name, recipes())
    content = (LIBRARY / f"{name}.yaml").read_text(encoding="utf-8")
    quoted = re.search(r'^title: (".*")$', content, re.MULTILINE)
    assert quoted, name  # a test reads all of them
    return str(json.loads(quoted[1]))
