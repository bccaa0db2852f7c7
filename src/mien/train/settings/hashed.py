"""Settings that gain keys without changing the hashes of what was computed before they had them."""

from typing import Any, ClassVar, Final

from pydantic import (
    BaseModel,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

__all__ = ["HASHED", "Hashed"]

HASHED: Final = "hashed"
"""Context of `BaseModel.model_dump` in which new keys with their defaults are left out."""


class Hashed(BaseModel):
    """Settings whose newer keys count in hashes only where they are not at their defaults.

    Finished recipe steps are found by a hash of their settings. A key that is added with a default
    under which everything is computed as before must not run them all again.

    Attributes:
        unhashed_defaults: Names of such keys.
    """

    unhashed_defaults: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _write(
        self, write: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        if info.context != HASHED:
            return written
        for name in self.unhashed_defaults:
            field = type(self).model_fields[name]
            if getattr(self, name) == field.get_default(call_default_factory=True):
                written.pop(name, None)
        return written
