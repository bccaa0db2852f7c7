"""Settings whose kinds other distributions add to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from inspect import isabstract, isclass
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from mien.extensions.entry_points import Extension, extensions

__all__ = ["Extensible"]

K = TypeVar("K", bound=BaseModel)


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

    def kinds(self) -> dict[Extension, type[K]]:
        """Import all extensions of the group.

        Returns:
            Their settings.

        Raises:
            ExtensionError: One of them cannot be used.
        """
        kinds = {}
        for extension in extensions(self.group).values():
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
