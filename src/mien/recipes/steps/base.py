"""The base of all recipe steps: settings that know what they depend on, and a folder to fill."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from mien.data.registry import Set
from mien.errors import DataError
from mien.progress import ItemProgress, Progress, named, silent
from mien.recipes.predictions import Predicted

__all__ = ["BUNDLE", "DATA", "STEP", "Step", "StepContext", "StepName"]

# Annotations of a step's fields: what the names in the field refer to.
STEP: Final = "an earlier step"
DATA: Final = "a key of data"
BUNDLE: Final = "a bundle"
StepName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=80)]
"""Name of a step; shorter than those of a system's steps may be, which are made of it."""


@dataclass(frozen=True)
class StepContext:
    """Where a step works, and what it may read.

    Attributes:
        name: Of the step.
        folder: Its own; what it leaves there is its result.
        earlier: Folders of the steps before it, by name.
        steps: Settings of all steps, by name.
        data: Data sets, by the recipe's keys.
        seeds: What is trained, is trained once for each.
        note: Called with every line worth knowing.
        progress: Called with what is being done, how much of it is done, and how much there is.
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
        """Return the data set of a key.

        Args:
            key: One of the recipe's `data`.

        Returns:
            Its settings, with the path that was given for it.
        """
        return self.data[key]

    def predicted(self, step: str) -> Predicted:
        """Load what an earlier step predicted.

        Args:
            step: Its name.

        Returns:
            Its predictions.

        Raises:
            DataError: It predicts nothing.
        """
        # Every step that predicts something writes this file.
        if not (self.earlier[step] / "tasks.json").is_file():
            raise DataError(f"{self.name}: the step {step} predicts nothing; name one that does")
        return Predicted.load(self.earlier[step])

    def ahead(self, what: str) -> ItemProgress:
        """Report the progress of one piece of work under its name.

        Args:
            what: The piece of work, for people.

        Returns:
            A function to be called with how much is done, and how much there is.
        """
        return named(self.progress, f"{self.name}: {what}")


class Step(BaseModel, ABC):
    """Settings of a step.

    Fields annotated with `STEP`, `DATA` or `BUNDLE` name what its result depends on: one name,
    several, or None.

    Attributes:
        scores_val: Whether the step, if it predicts, predicts split val without having learned it.
        needs_val: Whether it needs that of the steps that it reads.
    """

    scores_val: ClassVar[bool] = True
    needs_val: ClassVar[bool] = True

    # A typing error in a recipe would otherwise cost a training run.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def references(self, kind: str) -> tuple[str, ...]:
        """Return what the step depends on.

        Args:
            kind: `STEP`, `DATA` or `BUNDLE`.

        Returns:
            The names in the fields with that annotation, in order.
        """
        names: list[str] = []
        for field_name, info in type(self).model_fields.items():
            # Annotations of a field are its metadata, beside its limits.
            if kind not in info.metadata:
                continue
            value = getattr(self, field_name)
            if isinstance(value, str):
                names.append(value)
            elif value is not None:
                names += value
        return tuple(names)

    def settings_by_content(self, identities: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """Return the settings with what stands behind each name in place of the name.

        Args:
            identities: By kind of reference (`STEP`, `DATA`, `BUNDLE`), what each name stands for.

        Returns:
            The settings, for JSON. A name that is not in `identities` has no effect and is None.
        """
        settings = self.model_dump(mode="json")
        for field_name, info in type(self).model_fields.items():
            for kind, by_name in identities.items():
                if kind not in info.metadata:
                    continue
                names = settings[field_name]
                if isinstance(names, list):
                    settings[field_name] = [by_name.get(name) for name in names]
                else:
                    settings[field_name] = by_name.get(names)
        return settings

    def relevant_settings(self, spec: Set) -> Set:
        """Return the part of a data set's settings that this step's result depends on.

        Args:
            spec: The data set.

        Returns:
            All of it, unless a step says otherwise.
        """
        return spec

    def check(self, earlier: Mapping[str, "Step"]) -> None:
        """Check, before anything runs, that the steps before it can give what it needs.

        Args:
            earlier: Settings of all steps, by name.

        Raises:
            ValueError: They cannot.
        """

    def check_data(self, name: str, steps: Mapping[str, "Step"], data: Mapping[str, Set]) -> None:
        """Check, before anything runs, that the data suit this step.

        Args:
            name: Of this step.
            steps: Settings of all steps, by name.
            data: Data sets, by the recipe's keys.

        Raises:
            DataError: They do not.
        """

    @abstractmethod
    def run(self, context: StepContext) -> None:
        """Fill the step's folder. If it was stopped half-way, the same call continues.

        Args:
            context: Where to work, and what may be read.

        Raises:
            MienError: As the work in it does.
        """
