"""Published weights as files that training starts from: the step after `mien bundles pull`."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mien.bundles.store import bundles, read_bundle
from mien.errors import BundleError
from mien.train.networks.checkpoints.transplant import parity, save, transplant
from mien.train.networks.network import MultiTaskNet
from mien.zoo.fetch import writing
from mien.zoo.index import Affect, Entry, entry
from mien.zoo.install import Note, locked, quiet, weights
from mien.zoo.pickles import read_pt, tensors

__all__ = ["start_file"]

_DEFAULT_SIZE = 112
"""Side of the crops in px for architectures that depend on it, where the index names no network."""


def start_file(name: str | Path, note: Note = quiet) -> Path:
    """Write an entry's weights as safetensors, for `start` of a network's settings.

    The published file is verified again and read without running anything in it. Every tensor must
    fit, and where the bundle is installed too, its network must give the same numbers (`parity` of
    `mien.train.networks.checkpoints.transplant`). A file that already holds all that is left alone.

    Args:
        name: As for `mien.zoo.pull`, which fetches the weights.
        note: Called with a line worth knowing.

    Returns:
        The safetensors file, beside the published one.

    Raises:
        UnknownNameError: The index has no such entry.
        BundleError: The weights are not installed, do not fit, or differ from the bundle.
        OutputError: The file cannot be written.
    """
    index_entry = entry(name)
    source = weights(name)
    net = _transplanted(index_entry, source)
    network = index_entry.network
    if isinstance(network, Affect) and index_entry.name in bundles():
        _, onnx = read_bundle(index_entry.name)
        parity(net, onnx, network.pixels.size)
    target = source.with_suffix(".safetensors")
    if not _holds(target, net):
        with locked(index_entry.name, note), writing(target):
            save(net, target)
    return target


def _holds(target: Path, net: MultiTaskNet) -> bool:
    """Whether the file exists and has exactly the network's tensors."""
    try:
        saved = load_file(target)
    except (OSError, SafetensorError):
        return False
    state = net.state_dict()
    if saved.keys() != state.keys():
        return False
    for name, tensor in state.items():
        if saved[name].dtype != tensor.dtype or not torch.equal(saved[name], tensor):
            return False
    return True


def _transplanted(index_entry: Entry, source: Path) -> MultiTaskNet:
    """The network of the first architecture that all tensors fit."""
    published = tensors(read_pt(source))
    tasks, size = [], _DEFAULT_SIZE
    if isinstance(index_entry.network, Affect):
        size = index_entry.network.pixels.size
        for output in index_entry.network.outputs:
            tasks.append((output.task, output.columns))
    reasons: list[str] = []
    for architecture in index_entry.architectures:
        try:
            return transplant(published, architecture, tasks, size)
        except BundleError as error:
            reasons.append(str(error))
    if not reasons:
        reasons = ["the index knows no architecture for these weights"]
    raise BundleError(f"{index_entry.name}: {reasons[0]}")
