"""Whether starting weights fill a backbone, asked before anything is trained."""

from pathlib import Path

from mien.errors import DataError, UnknownNameError
from mien.train.networks.backbones import backbone
from mien.train.networks.starting_weights import load_start
from mien.train.settings.network import NetworkSettings

__all__ = ["check_whole", "first_that_fits"]

_LISTED = 3
"""Number of tensors that an error message lists."""
# A network computes with all its tensors but these.
_COUNTER = ".num_batches_tracked"
_TRUNK = "trunk."


def check_whole(network: NetworkSettings, channels: int, size: int) -> None:
    """Check that starting weights fill all of a backbone.

    What stands on a trunk, as in smm, starts at random where the file holds the trunk alone.

    Args:
        network: What it is made of; `start` is a file, or the name of published weights.
        channels: Of the crops: 3 for colour, 1 for grey.
        size: Side of the crops in px.

    Raises:
        DataError: The weights do not fit, or some of the backbone's are not in the file.
        BundleError: Published weights are not on this machine.
    """
    assert isinstance(network.start, Path)
    try:
        net = backbone(network.backbone, channels, size, slim=network.slim)
        report = load_start(net, network.start)
    except (ValueError, UnknownNameError) as error:
        raise DataError(str(error)) from error
    only_trunk = all(name.startswith(_TRUNK) for name in report.loaded)
    missing = []
    for name in report.fresh:
        is_above = only_trunk and not name.startswith(_TRUNK)
        if not name.endswith(_COUNTER) and not is_above:
            missing.append(name)
    if missing:
        listed = ", ".join(missing[:_LISTED])
        raise DataError(
            f"{network.start}: holds {len(report.loaded)} tensors of {network.backbone} and lacks "
            f"{len(missing)}, among them {listed}; give weights of the whole network"
        )


def first_that_fits(architectures: tuple[str, ...], start: Path, channels: int, size: int) -> str:
    """Find the backbone that weights fill, where their makers name more than one.

    Args:
        architectures: Names of backbones.
        start: As of `check_whole`.
        channels: The same.
        size: The same.

    Returns:
        The first that the weights fill.

    Raises:
        DataError: They fill none; the message is about the first.
        BundleError: As `check_whole`.
    """
    reasons = []
    for name in architectures:
        try:
            check_whole(NetworkSettings(backbone=name, start=start), channels, size)
        except DataError as error:
            reasons.append(str(error))
        else:
            return name
    raise DataError(reasons[0])
