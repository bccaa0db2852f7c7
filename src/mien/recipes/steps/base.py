"""What every step of a recipe is: settings that know what they need, and a way to fill a folder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from mien.data.registry import Set
from mien.errors import DataError
from mien.progress import ItemProgress, Progress, named, silent
from mien.recipes.predictions import Predicted

__all__ = ["BUNDLE", "DATA", "STEP", "Step", "StepContext"]

STEP: Final = "an earlier step"
DATA: Final = "a key of data"
BUNDLE: Final = "a bundle"
"""Marks of a step's fields."""


@dataclass(frozen=True)
class StepContext:
    """Where a step works and what it may look at.

    folder: its own; what it leaves there is its result. earlier, steps: folders and settings of the recipe's steps, by name. data: by key.
    """

    name: str
    folder: Path
    earlier: Mapping[str, Path]
    steps: Mapping[str, "Step"]
    data: Mapping[str, Set]
    seeds: tuple[int, ...] = (0,)
    note: Callable[[str], None] = field(default=lambda line: None)
    progress: Progress = silent

    def set(self, key: str) -> Set:
        """The data of that key."""
        return self.data[key]

    def predicted(self, step: str) -> Predicted:
        """What an earlier step predicted; raises DataError where it predicts nothing."""
        if not (self.earlier[step] / "tasks.json").is_file():
            raise DataError(f"{self.name}: the step {step} predicts nothing; name one that does")
        return Predicted.load(self.earlier[step])

    def ahead(self, what: str) -> ItemProgress:
        """Progress of one piece of work under its name."""
        return named(self.progress, f"{self.name}: {what}")


class Step(BaseModel, ABC):
    """Settings of a step. Fields marked `STEP`, `DATA` or `BUNDLE` name what its result depends on: one name, several, or None."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def references(self, mark: str) -> tuple[str, ...]:
        """The names in the fields that bear a mark, in order."""
        found: list[str] = []
        for name, about in type(self).model_fields.items():
            if mark in about.metadata:
                value = getattr(self, name)
                found += [value] if isinstance(value, str) else value or ()
        return tuple(found)

    def relevant_settings(self, spec: Set) -> Set:
        """The part of a data set's settings that its result depends on; all of it, where a step says nothing else."""
        return spec

    def check(self, earlier: Mapping[str, "Step"]) -> None:
        """Raises ValueError where the steps before it, by name, cannot give what it needs; found out before anything runs."""

    @abstractmethod
    def run(self, place: StepContext) -> None:
        """Fill its folder; stopped half-way, the same call goes on. Raises MienError."""
