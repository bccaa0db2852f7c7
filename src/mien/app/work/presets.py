"""How a recording can be read: presets for people who do not want to choose, and their options."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from mien.analysis.options import Options
from mien.app.errors import InvalidError, NotFoundError
from mien.bundles.store import bundles
from mien.errors import UnknownNameError
from mien.temporal.one_euro import OneEuro

__all__ = ["PRESETS", "Preset", "ReadingOptions", "merged_options"]

# Bundles are named, never given as a path: a client need not be the user.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$")]


class ReadingOptions(BaseModel):
    """Options of the analysis, as in `mien analyze`; those left out keep the preset's value.

    Attributes:
        bundle: The network that reads affect, by name.
        quality: What judges readings, by name, or ``none``.
        engine: What runs the network: ``auto``, ``openvino``, ``cuda``, …
        faces: ``all``, ``largest``, or how many of the largest.
        every: Read one frame per so many seconds; 0 reads all.
        smoothing: Full width at half maximum of a Gaussian, s, or ``one-euro``; 0 for none.
        compounds: Also score compound expressions.
        rotate: Degrees to turn pictures clockwise, ``auto`` or ``check``.
        min_face: Look for faces from this width on, px.
        abstain: Leave out labels that are unsure.
        points: Also write the five points of each face.
        people: Number the people of each film across cuts: how many, or ``auto``.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    bundle: _Name | None = None
    quality: _Name | None = None
    engine: _Name | None = None
    faces: Literal["all", "largest"] | Annotated[int, Field(ge=1, le=1000)] | None = None
    every: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] | None = None
    smoothing: (
        Literal["one-euro"] | Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] | None
    ) = None
    compounds: bool | None = None
    rotate: Literal["check", "auto", 0, 90, 180, 270] | None = None
    min_face: Annotated[int, Field(ge=8, le=10000)] | None = None
    abstain: bool | None = None
    points: bool | None = None
    people: Literal["auto"] | Annotated[int, Field(ge=1, le=1000)] | None = None

    def given(self) -> dict[str, Any]:
        """The options that are set.

        Returns:
            Them by name.
        """
        return self.model_dump(exclude_none=True)

    def options(self) -> Options:
        """The options of an analysis.

        Returns:
            Them, checked and complete.

        Raises:
            InvalidError: A value makes no sense.
            NotFoundError: There is no bundle of that name here.
        """
        fields = self.given()
        if fields.get("smoothing") == "one-euro":
            fields["smoothing"] = OneEuro()
        available = bundles()
        for name in (self.bundle, self.quality):
            if name not in (None, "none", *available):
                raise NotFoundError(str(UnknownNameError("bundle", str(name), available)))
        try:
            return Options(**fields)
        except ValueError as error:
            raise InvalidError(str(error)) from error


class Preset(BaseModel):
    """Options with a name for people.

    Attributes:
        name: Its name in requests.
        title: Its name for people.
        description: When to take it.
        options: The options that differ from the defaults.
    """

    name: str
    title: str
    description: str
    options: dict[str, Any]


# The points are for the pictures in the page; they cost nothing to read.
PRESETS: Final = (
    Preset(
        name="standard",
        title="Standard",
        description="Every face in every frame. Right for most recordings.",
        options={"points": True},
    ),
    Preset(
        name="quick",
        title="Quick look",
        description="Five frames a second with the smaller network: to see what a film holds.",
        options={"points": True, "bundle": "mien-xs", "every": 0.2},
    ),
    Preset(
        name="smooth",
        title="Smoothed",
        description="As standard, with scores smoothed over 0.15 s: calmer curves for plots.",
        options={"points": True, "smoothing": 0.15},
    ),
    Preset(
        name="groups",
        title="Groups and small faces",
        description="Looks for faces from 24 pixels wide. Takes several times as long.",
        options={"points": True, "min_face": 24},
    ),
    Preset(
        name="people",
        title="People across cuts",
        description=(
            "Numbers the people of each film, also across cuts and pauses. Computes biometric "
            "data, in memory alone: ask those who are filmed."
        ),
        options={"points": True, "people": "auto"},
    ),
)


def merged_options(preset: str, options: ReadingOptions) -> ReadingOptions:
    """The options of a preset, with some of them replaced.

    Args:
        preset: The preset's name.
        options: Options that replace the preset's.

    Returns:
        All options that differ from the defaults.

    Raises:
        NotFoundError: There is no such preset.
    """
    by_name = {item.name: item for item in PRESETS}
    if preset not in by_name:
        raise NotFoundError(str(UnknownNameError("preset", preset, by_name)))
    return ReadingOptions.model_validate(by_name[preset].options | options.given())
