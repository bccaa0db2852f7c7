"""The parts of a system as files: networks of runs as members, heads on features as networks."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import torch
from torch import Tensor, nn

from mien.bundles.card import AffectCard
from mien.bundles.card_parts import NOT_FOR, Score, TaskCard
from mien.bundles.plan import External, Head, Window
from mien.bundles.store import read_bundle
from mien.errors import BundleError
from mien.files import wrap_os_errors
from mien.temporal.external import external_columns
from mien.train.bundle.pack import sha256_of, write_bundle_files
from mien.train.bundle.provenance import data_terms, making, supervision
from mien.train.networks.network import MultiTaskNet
from mien.train.networks.temporal.base import TemporalHead
from mien.train.onnx.export import PARITY, largest_difference, trace
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import input_shape, network_of
from mien.train.settings.training import pixels_of

__all__ = ["card_hash", "copy_member", "task_cards", "write_head", "write_member"]

# Largest difference between engines that members in float32 have, as of features alone.
_TOLERANCE: Final = 0.001
# Windows that a head over time is traced with, and checked with too: any number of any length.
_TRACED: Final = (1, 5)
_CHECKED: Final = (3, 40)


def task_cards(run: RunFolder) -> tuple[TaskCard, ...]:
    """Say what a run predicts, and where its labels come from.

    Args:
        run: The run.

    Returns:
        Its tasks, in output order.
    """
    cards = []
    for spec in run.tasks:
        source = supervision(run.settings, spec.task) or "not stated"
        cards.append(TaskCard(**spec.model_dump(), supervised_by=source))
    return tuple(cards)


def card_hash(folder: Path) -> str:
    """Hash the card of a member.

    Args:
        folder: The member's folder.

    Returns:
        SHA-256 of its ``card.json``, in hexadecimal.
    """
    return hashlib.sha256((folder / "card.json").read_bytes()).hexdigest()


def copy_member(name: str | Path, folder: Path) -> AffectCard:
    """Copy a bundle, verified, to be a member of a system.

    Args:
        name: Its name or folder.
        folder: The member's folder, which does not exist yet.

    Returns:
        Its card.

    Raises:
        BundleError: The bundle is damaged, or finds faces.
        UnknownNameError: There is no such bundle.
        OutputError: It cannot be written.
    """
    bundle, network = read_bundle(name)
    if not isinstance(bundle.card, AffectCard):
        raise BundleError(
            f"{bundle.card.name} {bundle.card.purpose}; a system's members read affect"
        )
    with wrap_os_errors(folder):
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(network)
        # Byte by byte, since other cards hold its hash.
        shutil.copyfile(bundle.folder / "card.json", folder / "card.json")
    return bundle.card


def write_member(run: RunFolder, folder: Path, scores: Sequence[Score]) -> AffectCard:
    """Write the network of a run on pictures, in float32, to be a member of a system.

    Args:
        run: The run.
        folder: The member's folder, which does not exist yet.
        scores: What was measured of it.

    Returns:
        Its card.

    Raises:
        BundleError: The exported network does not answer as torch does.
        OutputError: It cannot be written.
    """
    settings = run.settings
    # Any faces will do: they only show that the export computes the same.
    channels, size = input_shape(settings)
    generator = torch.Generator().manual_seed(0)
    faces = torch.rand(4, channels, size, size, generator=generator) - 0.5
    families = [spec.task.family for spec in run.tasks]
    network = folder / "model.onnx"
    with wrap_os_errors(folder):
        folder.mkdir(parents=True)
        _write_network(network_of(run).exported(), network, faces, families, {0: "batch"})
    tasks = task_cards(run)
    keys = ", ".join(spec.key for spec in tasks)
    body = f"one network ({settings.network.backbone})"
    summary = f"{keys} of a face, from {body}; a member of a system."
    limits = ("its weights are kept in float32, as the system needs them",)
    trained_on = data_terms(settings, tuple(spec.task for spec in tasks))
    pixels = pixels_of(settings)
    licence = settings.card.licence
    made = making(run, 32, features=False)
    hash_of_network = sha256_of(network)
    card = AffectCard(
        card=1,
        name=settings.name,
        summary=summary,
        sha256=hash_of_network,
        licence=licence,
        trained_on=trained_on,
        scores=tuple(scores),
        limits=limits,
        not_for=NOT_FOR,
        made=made,
        reads="crops",
        pixels=pixels,
        tasks=tasks,
        tolerance=_TOLERANCE,
        temperature={},
    )
    with wrap_os_errors(folder):
        write_bundle_files(card, folder)
    return card


def write_head(run: RunFolder, path: Path) -> Head:
    """Write the network of a run on cached features, in float32.

    Args:
        run: The run.
        path: The file; its folder exists.

    Returns:
        What the plan of a system says of it.

    Raises:
        BundleError: The exported network does not answer as torch does.
        OutputError: It cannot be written.
    """
    features = run.settings.features
    assert features is not None
    # A head may read a part of the columns of its cache.
    columns = features.columns()
    net = network_of(run)
    generator = torch.Generator().manual_seed(0)
    families = [spec.task.family for spec in run.tasks]
    external = []
    for file in features.external:
        external.append(External(columns=external_columns(file), hold=features.hold))
    window = None
    with wrap_os_errors(path):
        if features.window is None:
            example = torch.randn(4, features.width, generator=generator)
            _write_network(net.exported(), path, example, families, {0: "batch"})
        else:
            window = Window(length=features.window.length, gap=features.window.gap)
            heads = _UnpaddedHeads(net)
            example = torch.randn(*_TRACED, features.width, generator=generator)
            free = {0: "batch", 1: "frames"}
            _write_network(heads, path, example, families, free)
            other = torch.randn(*_CHECKED, features.width, generator=generator)
            _check_parity(heads, path, other, families)
    return Head(
        sha256=sha256_of(path),
        first=columns.start,
        end=columns.stop,
        tasks=task_cards(run),
        window=window,
        external=tuple(external),
    )


class _UnpaddedHeads(nn.Module):
    """Heads over windows that hold no padding, so that windows of any length can be read.

    Args:
        net: A network of heads over windows on features.
    """

    def __init__(self, net: MultiTaskNet) -> None:
        super().__init__()
        self.heads = nn.ModuleList()
        for module in net.heads:
            head = cast(TemporalHead, module)
            self.heads.append(head.exportable())
            if head.bins is not None:
                # Worked out and kept now, so that it is a constant of the traced graph.
                _ = head.bins.support

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Windows (N, T, D) to numbers (N, T, K) of each head, in their unit."""
        outputs = []
        for module in self.heads:
            head = cast(TemporalHead, module)
            raw = head.unpadded(features)
            outputs.append(raw if head.bins is None else head.bins.decode(raw))
        return tuple(outputs)


def _write_network(
    net: nn.Module, path: Path, example: Tensor, outputs: list[str], free: dict[int, str]
) -> None:
    """Write a network as ONNX in float32; raises BundleError where it answers otherwise."""
    net = net.eval().to(memory_format=torch.contiguous_format)
    trace(net, path, (example,), inputs=["numbers"], outputs=outputs, free=free)
    _check_parity(net, path, example, outputs)


def _check_parity(net: nn.Module, path: Path, example: Tensor, outputs: list[str]) -> None:
    """Raises BundleError where a file answers otherwise than torch."""
    with torch.no_grad():
        expected = [output.numpy() for output in net(example)]
    difference = largest_difference(path, example, expected, outputs)
    if difference > PARITY:
        raise BundleError(
            f"{path}: the exported network differs from torch by {difference:.2g}, more than "
            f"{PARITY:g}; it cannot be a part of a system"
        )
