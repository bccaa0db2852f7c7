"""Entry points of other distributions: read from their metadata, imported when they are needed."""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from mien.errors import ExtensionError
from mien.text import printable

__all__ = [
    "DATASETS",
    "GROUPS",
    "HEADS",
    "LOSSES",
    "STEPS",
    "WRITERS",
    "Extension",
    "extensions",
    "used_extensions",
]

STEPS: Final = "mien.steps"
HEADS: Final = "mien.heads"
LOSSES: Final = "mien.losses"
DATASETS: Final = "mien.datasets"
WRITERS: Final = "mien.writers"
GROUPS: Final = (STEPS, HEADS, LOSSES, DATASETS, WRITERS)
"""The groups of entry points that are read."""
# Keys of settings whose value names an extension.
_NAMED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "do": (STEPS,),
    "kind": (HEADS, LOSSES),
    "set": (DATASETS,),
    "format": (WRITERS,),
}


@dataclass(frozen=True, slots=True)
class Extension:
    """One entry point of an installed distribution.

    Attributes:
        entry: The entry point.
        distribution: Name of the distribution that has it.
        version: Of the distribution.
    """

    entry: EntryPoint
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """The distribution and its version, such as ``mien-bias 1.0``."""
        return f"{self.distribution} {self.version}"

    def load(self) -> Any:
        """Import what the entry point names.

        Returns:
            The object.

        Raises:
            ExtensionError: It cannot be imported.
        """
        try:
            return self.entry.load()
        # Code of strangers may fail in any way, even by ending the process.
        except (Exception, SystemExit) as error:
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise self.refused(f"cannot be imported ({why})") from error

    def refused(self, why: str) -> ExtensionError:
        """Make the error for an extension that cannot be used.

        Args:
            why: What is wrong with what the entry point names.

        Returns:
            The error, which names the distribution and the entry point.
        """
        entry = f"{self.entry.name} = {self.entry.value}"
        line = (
            f"{self.origin}: the entry point {entry} ({self.entry.group}) {why}; "
            f"install a version that works, or pip uninstall {self.distribution}"
        )
        return ExtensionError(printable(" ".join(line.split())))


def extensions(group: str, built_in: Collection[str] = ()) -> Mapping[str, Extension]:
    """List what installed distributions bring, without importing any of it.

    Args:
        group: One of `GROUPS`.
        built_in: Names that mien itself has.

    Returns:
        The extensions by name, sorted.

    Raises:
        ExtensionError: Two distributions have the same name, or one has a name of mien's own.
    """
    # By the search path, which notebooks and tests extend while they run.
    listed = _installed(group, tuple(sys.path))
    by_name: dict[str, Extension] = {}
    for extension in listed:
        name = extension.entry.name
        if name in built_in:
            raise extension.refused("has a name that mien itself uses")
        if name in by_name:
            raise extension.refused(f"has a name that {by_name[name].origin} uses as well")
        by_name[name] = extension
    return by_name


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[Extension, ...]:
    """The extensions of a group; `path` is where Python looks for distributions."""
    listed = []
    for entry in entry_points(group=group):
        # Only entry points that were made by hand have no distribution.
        if entry.dist is not None:
            listed.append(Extension(entry, entry.dist.name, entry.dist.version))
    return tuple(sorted(listed, key=_order))


def _order(extension: Extension) -> tuple[str, str]:
    return extension.entry.name, extension.distribution


def used_extensions(settings: object) -> list[str]:
    """List the distributions whose extensions settings name.

    Args:
        settings: As JSON: mappings, lists and plain values.

    Returns:
        Each extension with its distribution and version, sorted; empty without extensions.
    """
    used: set[str] = set()
    pending = [settings]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        if not isinstance(part, dict):
            continue
        pending += part.values()
        for key, groups in _NAMED_BY.items():
            for group in groups:
                # A word in another section may be the same; it only adds to what is listed.
                extension = extensions(group).get(str(part.get(key)))
                if extension is not None:
                    used.add(f"{group} {extension.entry.name}: {extension.origin}")
    return sorted(used)
