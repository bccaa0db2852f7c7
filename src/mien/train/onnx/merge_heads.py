"""Heads trained on a bundle's cached features, merged with that bundle's network into one file.

The bundle's layers keep their weights, so an 8-bit network stays one. Layers that the heads do not
need, such as the bundle's own heads, are left out.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose
from onnx.utils import Extractor
from torch import Tensor, nn

from mien.bundles.card import AffectCard
from mien.bundles.engines import open_engine
from mien.bundles.store import read_bundle
from mien.errors import BundleError, DataError, MienError
from mien.train.inputs.feature_cache import cache_folder
from mien.train.networks.network import MultiTaskNet
from mien.train.onnx.export import PARITY, halve, largest_difference, trace
from mien.train.onnx.graphs import input_name, rename_inputs
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of
from mien.train.settings.features import FeatureSettings

__all__ = ["export_merged", "extractor_of", "merge_heads"]

Floats32 = NDArray[np.float32]

# Before all names of the bundle's layers, so that none is also a name in the heads.
_PREFIX: Final = "extractor."


def extractor_of(run: RunFolder) -> AffectCard:
    """Find the bundle whose features the heads of a run read.

    Args:
        run: A run on cached features.

    Returns:
        The card of that bundle.

    Raises:
        DataError: The bundle is missing or is not the one whose features were cached; or the heads
            read windows of frames or external features, which no bundle can hold.
    """
    settings = _feature_settings(run)
    if settings.window is not None:
        raise DataError(
            f"{run.folder}: its heads read windows of {settings.window.length} frames and a "
            "bundle reads single faces, so this run cannot become one; its scores are in "
            "curve.csv, and mien.train.runs.inference.raw_scores gives its output for cached "
            "features"
        )
    if settings.external:
        raise DataError(
            f"{run.folder}: its heads read external features ({settings.external[0].name}) and a "
            "bundle reads faces alone, so this run cannot become one; a recipe's step `do: system` "
            "makes a system of such heads"
        )
    reads = f"{run.folder}: its heads read cached features of {settings.bundle}"
    try:
        card = settings.card()
    except MienError as error:
        raise DataError(f"{reads}: {error}") from error
    if not cache_folder(card, settings.cache).is_dir():
        raise DataError(
            f"{reads}, and {settings.cache} has none of that bundle as it is now; put back the "
            "bundle that was cached, or run mien features and train the heads again"
        )
    return card


def _feature_settings(run: RunFolder) -> FeatureSettings:
    settings = run.settings.features
    assert settings is not None
    return settings


def merge_heads(run: RunFolder, *, features: bool = False, half: bool = False) -> bytes:
    """Merge the best heads of a run with the network that makes their features.

    Args:
        run: A run on cached features.
        features: The merged network gives the bundle's features (N, D) as its last output.
        half: Store the heads' large weights in half precision.

    Returns:
        An ONNX file that takes crops (N, C, S, S) and gives raw output (N, K) per task family.

    Raises:
        DataError: As `extractor_of` and `network_of`.
        BundleError: The bundle is damaged, or heads cannot be merged with its network.
    """
    card = extractor_of(run)
    settings = _feature_settings(run)
    net = network_of(run)
    extractor = onnx.load_from_string(read_bundle(settings.bundle)[1])
    inputs = _head_inputs(extractor, card, settings, features)
    # Without features among what the heads read, they are an input only to be an output again.
    passed_through = features and settings.parts == "raw"
    heads = _Heads(net, features, int(passed_through), settings.within)
    outputs = [task.family for task in net.tasks]
    if features:
        outputs.append("features")
    try:
        head_model = _traced(heads, list(inputs.values()), outputs, extractor)
        if half:
            halve(head_model)
        merged = _merged(extractor, list(inputs), head_model)
    except (ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).partition("\n")[0]
        raise BundleError(
            f"{settings.bundle}: heads cannot be merged with its network: {reason}; train on "
            "features of a bundle that mien made"
        ) from error
    return cast(bytes, merged.SerializeToString())


def _head_inputs(
    extractor: onnx.ModelProto, card: AffectCard, settings: FeatureSettings, features: bool
) -> dict[str, int]:
    """Names and widths of the bundle's outputs that go into the heads, features first."""
    widths = {}
    for output, width in zip(extractor.graph.output, card.widths, strict=True):
        widths[output.name] = width
    # A bundle gives its features last; the cache has them first, and so has what heads read.
    feature_name, feature_width = widths.popitem()
    read = {}
    if settings.parts != "raw" or features:
        read[feature_name] = feature_width
    if settings.parts != "features":
        read |= widths
    return read


class _Heads(nn.Module):
    """The heads as a network of a bundle's outputs, which it concatenates as the cache does."""

    def __init__(
        self, net: MultiTaskNet, features: bool, unread: int, within: tuple[int, int] | None
    ) -> None:
        """Wrap the heads of a network.

        Args:
            net: The network of a run on cached features.
            features: Give the first input as the last output.
            unread: How many of the first inputs the heads do not read: 0 or 1.
            within: First and end column of those that the heads read; None for all.
        """
        super().__init__()
        self.heads = net.exported()
        self.features = features
        self.unread = unread
        self.within = within

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Raw output (N, K) per task from outputs (N, D) of the bundle, features first."""
        columns = torch.cat(inputs[self.unread :], dim=1)
        if self.within is not None:
            columns = columns[:, slice(*self.within)]
        raw: tuple[Tensor, ...] = self.heads(columns)
        return (*raw, inputs[0]) if self.features else raw


def _traced(
    heads: nn.Module, widths: list[int], outputs: list[str], extractor: onnx.ModelProto
) -> onnx.ModelProto:
    """The heads in ONNX, in float32 and in the ONNX versions of the extractor.

    Two graphs of different versions cannot be merged.
    """
    inputs = []
    examples = []
    for number, width in enumerate(widths):
        inputs.append(f"read.{number}")
        examples.append(torch.randn(2, width, generator=torch.Generator().manual_seed(0)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "heads.onnx"
        trace(
            heads.eval(),
            path,
            tuple(examples),
            inputs=inputs,
            outputs=outputs,
            free={0: "batch"},
            opset=_opset(extractor),
        )
        model = onnx.load(path)
    model.ir_version = extractor.ir_version
    return model


def _opset(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators in a network; other domains have their own."""
    [version] = {item.version for item in model.opset_import if item.domain in ("", "ai.onnx")}
    return int(version)


def _merged(extractor: onnx.ModelProto, read: list[str], heads: onnx.ModelProto) -> onnx.ModelProto:
    """One network of both; the extractor's outputs `read` become the inputs of the heads."""
    image = input_name(extractor.graph)
    # Takes only the layers that lead to what the heads read.
    part = compose.add_prefix(Extractor(extractor).extract_model([image], read), _PREFIX)
    connections = []
    for name, tensor in zip(read, heads.graph.input, strict=True):
        connections.append((_PREFIX + name, tensor.name))
    merged = compose.merge_models(part, heads, connections, producer_name="mien", name="joined")
    # The merged model lists the versions of both parts, the same ones twice.
    del merged.opset_import[:]
    merged.opset_import.extend(part.opset_import)
    merged.graph.input[0].name = "image"
    for node in merged.graph.node:
        rename_inputs(node, {_PREFIX + image: "image"})
    onnx.checker.check_model(merged, full_check=True)
    return merged


def export_merged(run: RunFolder, path: Path, faces: Tensor, features: bool) -> float:
    """Write the merged network of a run, its heads in half precision.

    Args:
        run: A run on cached features.
        path: Where the file is written.
        faces: Crops (N, C, S, S), normalised as the bundle's card says, to compare outputs on.
        features: The merged network gives the bundle's features as its last output.

    Returns:
        The largest change of raw output on `faces` from half precision.

    Raises:
        DataError: As `merge_heads`.
        BundleError: As `merge_heads`.
        ValueError: In float32, the merged network differs from its two parts by more than `PARITY`.
    """
    families = [spec.task.family for spec in run.tasks]
    outputs = [*families, "features"] if features else families
    path.write_bytes(merge_heads(run, features=features))
    expected = _separate_outputs(run, faces, features)
    difference = largest_difference(path, faces, expected, outputs)
    if difference > PARITY:
        raise ValueError(
            f"{path}: the merged network differs from its two parts by {difference:.2g}, "
            f"more than {PARITY:g}"
        )
    path.write_bytes(merge_heads(run, features=features, half=True))
    return largest_difference(path, faces, expected[: len(families)], families)


def _separate_outputs(run: RunFolder, faces: Tensor, features: bool) -> list[Floats32]:
    """Raw output of the heads in torch, run on the bundle's own outputs."""
    settings = _feature_settings(run)
    network = read_bundle(settings.bundle)[1]
    *raw, bundle_features = open_engine(network, "onnxruntime").run(faces.numpy())
    # Columns in the order of the cache: features first, then raw output.
    columns = np.concatenate([bundle_features, *raw], axis=1)
    read = torch.from_numpy(columns[:, settings.columns()])
    with torch.no_grad():
        heads = network_of(run).exported()(read)
    outputs = [output.numpy() for output in heads]
    return [*outputs, bundle_features] if features else outputs
