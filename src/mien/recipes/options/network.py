"""A bundle as the network of a recipe: what it reads, and the weights that training goes on from.

A bundle's ONNX file cannot be trained. The weights behind it can: those published beside it, which
`mien bundles pull NAME --weights` fetches, or those of the run that a recipe's step exported.
"""

from pathlib import Path
from typing import Any

from mien.bundles.card import AffectCard
from mien.bundles.store import Bundle, open_bundle
from mien.errors import BundleError, DataError, UnknownNameError
from mien.recipes.steps.runs import exported_run
from mien.train.networks.checkpoints.fitting import first_that_fits
from mien.train.runs.folder import RunFolder
from mien.zoo.index import entries, entry
from mien.zoo.install import kept

__all__ = ["bundle_words"]


def bundle_words(name: str, where: str, known: str) -> dict[str, Any]:
    """Say by a bundle what a recipe's networks read and start from.

    Args:
        name: Name or folder of the bundle.
        where: The recipe and its option, for messages.
        known: What else the option may be, for messages.

    Returns:
        ``extractor``, ``backbone``, ``start``, ``size``, and ``pixels`` whose size is ``${size}``.

    Raises:
        DataError: It is no bundle that training can go on from.
        BundleError: It, or the weights behind it, is not on this machine.
    """
    published = entries()
    try:
        bundle = open_bundle(name)
    except UnknownNameError as error:
        raise DataError(f"{where} is {name}; {known}; {error}") from error
    except BundleError as error:
        if name not in published:
            raise
        raise BundleError(f"{where}: {_pull(name)}") from error
    card = bundle.card
    if not isinstance(card, AffectCard):
        raise DataError(f"{where}: {name} {card.purpose}; name a bundle that reads affect")
    if card.name in published or card.name in kept():
        backbone, start = _published(card, where)
    else:
        backbone, start = _of_run(bundle, where)
    pixels = card.pixels.model_dump(mode="json")
    return {
        "extractor": name,
        "backbone": backbone,
        "start": start,
        "size": pixels["size"],
        "pixels": {**pixels, "size": "${size}"},
    }


def _pull(name: str) -> str:
    return f"{name} is not whole on this machine; get it with: mien bundles pull {name} --weights"


def _published(card: AffectCard, where: str) -> tuple[str, str]:
    """Backbone and name of the weights that were published beside a bundle."""
    # The entry of a bundle that the user described is kept beside its weights.
    architectures = entry(card.name).architectures
    try:
        backbone = first_that_fits(
            architectures, Path(card.name), card.pixels.channels, card.pixels.size
        )
    except (BundleError, DataError) as error:
        raise BundleError(f"{where}: {_pull(card.name)} ({error})") from error
    return backbone, card.name


def _of_run(bundle: Bundle, where: str) -> tuple[str, str]:
    """Backbone and weights of the run that a recipe's step made a bundle of."""
    folder = exported_run(bundle.folder)
    if folder is None:
        raise DataError(
            f"{where}: no weights to train on from are known for {bundle.folder}; name a bundle "
            "with published weights (mien bundles list), or the folder bundle in a step of kind "
            "export, where that step left it"
        )
    run = RunFolder(folder)
    return run.settings.network.backbone, str(run.folder / "best.pt")
