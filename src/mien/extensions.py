"""Extensions: recipe steps, heads, losses, data sets and writers of other distributions.

A distribution names what it brings in its entry points. Names are read from its metadata; its code
is imported only when settings name one of them. `mien.extend` holds the classes to build on.
"""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract, isclass
from typing import Any, Final, Generic, TypeVar, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from mien.errors import ExtensionError
from mien.text import printable

__all__ = [
    "DATASETS",
    "GROUPS",
    "HEADS",
    "LOSSES",
    "STEPS",
    "WRITERS",
    "Extensible",
    "Extension",
    "extensions",
    "used_extensions",
]

K = TypeVar("K", bound=BaseModel)

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


@dataclass(frozen=True, slots=True)
class Extensible(Generic[K]):
    """Annotation of a field of settings that also takes the kinds of extensions.

    The annotated type is a model, or several told apart by a key, and stays the type that checkers
    see.

    Attributes:
        key: The key whose value names the kind.
        group: Of the entry points.
        base: The class that every extension of the group is a subclass of.
    """

    key: str
    group: str
    base: type[K]

    def kinds(self, built_in: Collection[str] = ()) -> dict[Extension, type[K]]:
        """Import all extensions of the group.

        Args:
            built_in: Names that mien itself has.

        Returns:
            Their settings.

        Raises:
            ExtensionError: One of them cannot be used.
        """
        kinds = {}
        for extension in extensions(self.group, built_in).values():
            kinds[extension] = self.kind(extension)
        return kinds

    def kind(self, extension: Extension) -> type[K]:
        """Import one extension, and check that it is what its group asks for.

        Args:
            extension: Of the group.

        Returns:
            Its settings.

        Raises:
            ExtensionError: It cannot be used.
        """
        kind: type[K] = extension.load()
        base = self.base
        if not (isclass(kind) and issubclass(kind, base)) or isabstract(kind):
            raise extension.refused(f"is no complete subclass of {base.__module__}.{base.__name__}")
        names = _names(kind, self.key)
        if names != [extension.entry.name]:
            raise extension.refused(
                f"must have the field {self.key}: Literal[{extension.entry.name!r}]"
            )
        # An unknown key would otherwise be ignored, and found out after days.
        if kind.model_config.get("extra") != "forbid":
            raise extension.refused("allows unknown keys; its model_config must forbid extra ones")
        return kind

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Wrap the schema of the built-in kinds."""
        built_in = _names(source, self.key)
        is_union = len(get_args(source)) > 1

        def validate(value: Any, validate_built_in: ValidatorFunctionWrapHandler) -> Any:
            name = value.get(self.key) if isinstance(value, Mapping) else None
            if isinstance(value, self.base) or not isinstance(name, str):
                return value if isinstance(value, self.base) else validate_built_in(value)
            listed = extensions(self.group, built_in)
            if name in listed:
                kind = self.kind(listed[name])
                return _union_of_one(self.key, kind, value) if is_union else kind(**value)
            if listed and name not in built_in:
                raise _unknown(self.key, [*built_in, *listed])
            return validate_built_in(value)

        # Written by the type that a value has, which may be none of the built-in ones.
        return core_schema.no_info_wrap_validator_function(
            validate, handler(source), serialization=core_schema.simple_ser_schema("any")
        )


def _union_of_one(key: str, kind: type[BaseModel], value: object) -> Any:
    """Settings of a kind, validated so that errors say where as those of built-in kinds do."""
    [name] = _names(kind, key)
    schema = core_schema.tagged_union_schema({name: kind.__pydantic_core_schema__}, key)
    return SchemaValidator(schema).validate_python(value)


def _unknown(key: str, known: Collection[str]) -> PydanticCustomError:
    return PydanticCustomError(
        "unknown_kind", "{key} must be one of {known}", {"key": key, "known": ", ".join(known)}
    )


def _names(kind: Any, key: str) -> list[str]:
    """The words that a key may have, in a model or in any of a union of models."""
    if isinstance(kind, str):
        return [kind]
    if isclass(kind) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(key)
        return [] if field is None else _names(field.annotation, key)
    names: list[str] = []
    # Of a Literal, a union, or an Annotated type.
    for part in get_args(kind):
        names += _names(part, key)
    return names
