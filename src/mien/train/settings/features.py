"""Which cached features heads read, and in which windows."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mien.bundles.card import AffectCard
from mien.bundles.store import open_bundle
from mien.errors import BundleError, DataError

__all__ = ["FeatureSettings", "WindowSettings"]


class WindowSettings(BaseModel):
    """How videos are cut into windows.

    In training they overlap by half; in evaluation one follows the other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    length: Annotated[int, Field(ge=2, le=10_000)] = 32
    """frames of a window"""
    gap: Annotated[int, Field(ge=1, le=10_000)] = 1
    """frame numbers farther apart than this begin a new recording; with 1 no frame is missing inside
    a window"""


Place = Annotated[Path, Field(strict=False)]  # text in YAML and JSON


class FeatureSettings(BaseModel):
    """Which cache a run reads, and what of it.

    Pictures and their points decide the row, so both must be as when it was built.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    bundle: str
    """whose features: a bundle's name or folder"""
    cache: Place
    """the folder that mien features wrote"""
    images: Place = Path()
    """folder that paths of pictures in the cache are relative to; the settings file's own folder where
    it names none"""
    parts: Literal["features", "raw", "both"] = "both"
    """what heads read: the features (D), the bundle's raw outputs in task order (K), or one after the
    other (D + K)"""
    within: Annotated[tuple[int, int] | None, Field(strict=False)] = None
    """of these, only the columns from the first number up to, not including, the second, such as one
    head's hidden layer out of several"""
    window: WindowSettings | None = None
    """heads of kind sequence read windows of frames; other heads read single faces"""

    @model_validator(mode="after")
    def _some_columns_are_left(self) -> Self:
        if self.within is not None and not 0 <= self.within[0] < self.within[1]:
            raise ValueError(
                "within: give the first column, from 0, and the one behind the last, "
                "such as [0, 128]"
            )
        return self

    def card(self) -> AffectCard:
        """Read the card of the bundle that made the features.

        Returns:
            The card.

        Raises:
            UnknownNameError: There is no bundle of that name.
            BundleError: The bundle cannot be used, or exposes no features.
        """
        card = open_bundle(self.bundle).card
        if not isinstance(card, AffectCard):
            raise BundleError(
                f"{card.name} finds faces and has no features; name a bundle that reads affect"
            )
        card.exposed()
        return card

    def columns(self) -> slice:
        """Say which columns of `FeatureCache.features_and_raw` heads read.

        Returns:
            The columns.

        Raises:
            UnknownNameError: As `card`.
            BundleError: As `card`.
            DataError: `within` reaches beyond them.
        """
        card = self.card()
        # Features come first, raw outputs behind them.
        features, everything = card.exposed(), sum(card.widths)
        first = features if self.parts == "raw" else 0
        end = features if self.parts == "features" else everything
        if self.within is None:
            return slice(first, end)
        if self.within[1] > end - first:
            raise DataError(
                f"features.within: {self.within[0]} to {self.within[1]} reaches beyond the "
                f"{end - first} numbers that parts: {self.parts} has of {card.name}"
            )
        return slice(first + self.within[0], first + self.within[1])

    @property
    def width(self) -> int:
        """How many numbers per face heads read; raises as `columns`."""
        columns = self.columns()
        return int(columns.stop - columns.start)
