"""Weights that others published, in today's networks: from what `mien bundles pull --weights` left to a file that training starts from."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mien.bundles.store import bundles, read_bundle
from mien.errors import BundleError
from mien.train.networks.network import MultiTaskNet
from mien.train.networks.transplant import parity, save, transplant
from mien.zoo.fetch import writing
from mien.zoo.index import Affect, Entry, entry
from mien.zoo.install import Note, locked, quiet, weights
from mien.zoo.pickles import read_pt, tensors

__all__ = ["start_file"]

_SIZE = 112  # of crops, for architectures that ask; weights alone say nothing of it


def start_file(name: str | Path, note: Note = quiet) -> Path:
    """Make the safetensors of an entry of the index and return the file: for `start` of a network's settings.

    The published file is verified again and read without running anything in it; every tensor finds its place, and where the bundle is here
    its network must give the same numbers (`mien.train.networks.transplant.parity`). A file that holds all that already stays untouched.
    name: as for `mien.zoo.pull`, which fetches the weights; note: called with a line worth knowing.
    Raises UnknownNameError, BundleError, OutputError.
    """
    known = entry(name)
    source = weights(name)
    net = _lifted(known, source)
    given = known.network
    if isinstance(given, Affect) and known.name in bundles():
        parity(net, read_bundle(known.name)[1], given.pixels.size)
    target = source.with_suffix(".safetensors")
    if not _holds(target, net):
        with locked(known.name, note), writing(target):
            save(net, target)
    return target


def _holds(target: Path, net: MultiTaskNet) -> bool:
    """Whether the file is there and has just the network's tensors."""
    try:
        found = load_file(target)
    except (OSError, SafetensorError):
        return False
    wanted = net.state_dict()
    return found.keys() == wanted.keys() and all(
        tensor.dtype == found[name].dtype and torch.equal(tensor, found[name])
        for name, tensor in wanted.items()
    )


def _lifted(known: Entry, source: Path) -> MultiTaskNet:
    """The network of the first architecture that all tensors fit."""
    found = tensors(read_pt(source))
    given = known.network if isinstance(known.network, Affect) else None
    tasks = [(output.task, output.columns) for output in given.outputs] if given else []
    refused: list[str] = []
    for architecture in known.architectures:
        try:
            return transplant(found, architecture, tasks, given.pixels.size if given else _SIZE)
        except BundleError as error:
            refused.append(str(error))
    raise BundleError(
        f"{known.name}: {refused[0] if refused else 'the index knows no architecture for these weights'}"
    )
