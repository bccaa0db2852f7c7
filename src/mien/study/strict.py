"""Settings of a study's steps: checked when they are made, and never changed."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["StrictSettings", "checked", "first_problem"]


class StrictSettings(BaseModel):
    """Refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=StrictSettings)


def checked(kind: type[S], **values: object) -> S:
    """Make settings, with one line on what is wrong with them.

    Args:
        kind: The settings.
        values: Their values.

    Returns:
        The settings.

    Raises:
        ValueError: A value makes no sense.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with settings, and where.

    Args:
        error: What pydantic says.

    Returns:
        One line, beginning with the key.
    """
    problem: Mapping[str, Any] = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{where}: there is no such key"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
