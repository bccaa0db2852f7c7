"""How faces are changed at random while training."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["AugmentSettings", "RandAugmentSettings"]


Share = Annotated[float, Field(ge=0, le=1)]


class RandAugmentSettings(BaseModel):
    """RandAugment (Cubuk et al. 2020), see `mien.train.inputs.randaugment`, of the aligned crop, before light, camera and erasing.

    ops: changes one after another. magnitude: how strong, of 30.
    chance: per face; or ``rare``, which is 1 - count of its class / count of the most frequent class (`rarity`). Together with
        ``fit.balance: class`` that shows changed faces as often as if each class had been filled up with changed copies beforehand, as
        HUST-ANT did at ABAW4 (there of whole pictures, each copy once and for all; here anew every time). Needs exactly one one_of task.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    ops: Annotated[int, Field(ge=1, le=100)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    chance: Annotated[float, Field(gt=0, le=1)] | Literal["rare"] = 1.0


class AugmentSettings(BaseModel):
    """How faces are changed while training.

    turn: degrees to either side. grow: log scale. shift: fractions of the crop. flip: chance of a mirror image.
    whole: chance that the points of a picture that is framed like a crop are left unused, as if no face had been found in it.
    light: chance that light, contrast and, rarely, noise change alone.
    degrade: chance that light and camera make the picture worse (see `degrade`).
    erase: chance of a patch of noise over part of the face (random erasing, Zhong et al. 2020).
    mixup: alpha of the Beta distribution that two faces are mixed by (Zhang et al. 2018); 0 mixes none.
    beside: every mixed face comes with the real one beside it (MixAugment, Psaroudakis & Kollias 2022): a step has twice ``fit.batch``
        faces, and its loss is the mean over them all, so half the mixed faces' and half the real ones' wherever rows cost each for itself.
    randaugment: None for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    turn: Annotated[float, Field(ge=0, le=180)] = 15.0
    grow: Annotated[float, Field(ge=0, le=1)] = 0.15
    shift: Share = 0.06
    flip: Share = 0.5
    whole: Share = 0.0
    light: Share = 0.0
    degrade: Share = 1.0
    erase: Share = 0.25
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    beside: bool = False
    randaugment: RandAugmentSettings | None = None

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Self:
        if self.beside and not self.mixup:
            raise ValueError(
                "beside: without mixup there is no mixed face to stand beside; set mixup as well, or leave it out"
            )
        return self
