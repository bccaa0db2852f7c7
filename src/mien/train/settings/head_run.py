"""The settings of one network of heads on cached features, as recipes give them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from mien.data.registry import Set
from mien.train.settings.extended import AnyLoss
from mien.train.settings.features import FeatureSettings, WindowSettings
from mien.train.settings.network import AnyHead, NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

__all__ = ["HeadRun", "family_of"]


class HeadRun(BaseModel):
    """One network of heads on cached features.

    Attributes:
        tasks: What it learns, together.
        parts: What of the cache it reads, see `FeatureSettings`.
        within: The same.
        window: The same.
        external: The same; Parquet files.
        hold: The same.
        heads: By task family.
        losses: By task family.
        optim: As in mien train.
        fit: As in mien train.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    parts: Literal["features", "raw", "both"] = "both"
    within: tuple[int, int] | None = None
    window: WindowSettings | None = None
    external: tuple[str, ...] = ()
    hold: Annotated[int, Field(ge=0, le=10_000)] = 0
    heads: dict[str, AnyHead] = {}
    losses: dict[str, AnyLoss] = {}
    optim: OptimSettings = OptimSettings()
    fit: FitSettings = FitSettings()

    @model_validator(mode="after")
    def _something_is_held(self) -> Self:
        if self.hold and not self.external:
            raise ValueError("hold: only external features are held; leave it out")
        return self

    def settings(
        self,
        name: str,
        data: Sequence[Set],
        features: FeatureSettings,
        seed: int,
        teachers: Sequence[Path],
    ) -> Settings:
        """Return the settings as mien train reads them.

        Args:
            name: Of the run.
            data: Whose labels it learns.
            features: The cache.
            seed: Of the run.
            teachers: Runs that teach it.

        Returns:
            The settings.
        """
        selection = {
            "parts": self.parts,
            "within": self.within,
            "window": self.window,
            # A run may be read from another folder than it was trained from.
            "external": tuple(map(Path, map(os.path.abspath, self.external))),
            "hold": self.hold,
        }
        # Features are cached by picture and points, so the points must be those of the table.
        fitting = self.fit.model_copy(update={"seed": seed, "find_points": False})
        return Settings(
            name=name,
            data=tuple(data),
            tasks=self.tasks,
            features=features.model_copy(update=selection),
            network=NetworkSettings(backbone="features", heads=self.heads),
            losses=self.losses,
            optim=self.optim,
            teachers=tuple(teachers),
            fit=fitting,
        )

    @property
    def families(self) -> str:
        """What it learns, for people."""
        return "+".join(map(family_of, self.tasks))


def family_of(key: str) -> str:
    """Tell the family of a task.

    Args:
        key: Its key.

    Returns:
        The family.

    >>> family_of("expr.abaw8")
    'expr'
    """
    return key.partition(".")[0]
