"""Which pixels a published encoder reads, as timm's data config says."""

import timm

from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.errors import DataError
from mien.faces.prepare import Pixels
from mien.train.networks.backbones import check_name
from mien.train.settings.training import Settings

__all__ = ["fill_pixels"]


def fill_pixels(settings: Settings) -> Settings:
    """Fill in the crops that `pixels: timm` stands for.

    Size, mean and standard deviation are those that the weights of the backbone's tag were trained
    with; without a tag, those of the tag that timm takes by default. Nothing is downloaded.

    Args:
        settings: Settings of a run.

    Returns:
        The settings with all numbers of `pixels`; the same where they have them.

    Raises:
        DataError: timm has no data config of the backbone.
        UnknownNameError: No backbone has that name.
    """
    if isinstance(settings.pixels, Pixels):
        return settings
    name = settings.network.backbone
    check_name(name)
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if config is None:
        raise DataError(
            f"{settings.name}: pixels: timm has no data config of {name}; give size, mean and std"
        )
    pixels = Pixels(
        size=config.input_size[-1],
        colour="rgb",
        alignment="similarity5",
        template=FERPLUS_TEMPLATE,
        mean=_of_bytes(config.mean),
        std=_of_bytes(config.std),
    )
    return settings.model_copy(update={"pixels": pixels})


def _of_bytes(shares: tuple[float, ...]) -> tuple[float, ...]:
    """Numbers for pixels of 0..1 as numbers for pixels of 0..255."""
    # More digits than the authors gave would be rounding errors.
    return tuple(round(255 * share, 4) for share in shares)
