"""Heads that learned from a bundle's cached features, joined onto that bundle's network: the whole reads pictures.

The bundle's part stays as it is, weight by weight, so 8-bit stays 8-bit; what no head reads of it, such as its own heads, is left out.
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
from mien.train.onnx.export import PARITY, halve, trace, worst
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of
from mien.train.settings.features import FeatureSettings

__all__ = ["export_joined", "extractor_of", "join"]

Floats32 = NDArray[np.float32]

_BELOW: Final = "extractor."
"""What all names of the bundle's part begin with, so that no name comes twice."""


def extractor_of(run: RunFolder) -> AffectCard:
    """The card of the bundle whose features the heads of a run read.

    Raises DataError for a bundle that is not there any more, or is another than the one whose features were cached; and for heads that
    read windows, which no bundle can hold.
    """
    settings = _features(run)
    if settings.window is not None:
        raise DataError(
            f"{run.folder}: its heads read windows of {settings.window.length} frames, and a bundle reads single faces, so none can be made"
            " of it; curve.csv in it has its scores, and mien.train.runs.inference.raw_scores what it says of cached features"
        )
    told = f"{run.folder}: its heads read cached features of {settings.bundle}"
    try:
        card = settings.card()
    except MienError as error:
        raise DataError(f"{told}: {error}") from error
    if not cache_folder(card, settings.cache).is_dir():
        raise DataError(
            f"{told}, and {settings.cache} has none of that bundle as it is now; put back the bundle that was cached, or run mien features"
            " and train the heads again"
        )
    return card


def _features(run: RunFolder) -> FeatureSettings:
    settings = run.settings.features
    assert settings is not None
    return settings


def join(run: RunFolder, *, features: bool = False, half: bool = False) -> bytes:
    """The best network of a run on cached features as ONNX: crops in; out comes raw (N, K) by family, and last the features if asked for.

    features: the bundle's (N, D), as its card has them. half: the heads' large weights are kept in half precision.
    Raises DataError as `extractor_of` and `network_of`, BundleError for a bundle that is damaged or whose network cannot be built upon.
    """
    card = extractor_of(run)
    settings, net = _features(run), network_of(run)
    below = onnx.load_from_string(read_bundle(settings.bundle)[1])
    *raw, own = zip((one.name for one in below.graph.output), card.widths, strict=True)
    read = [own] * (settings.parts != "raw" or features) + raw * (settings.parts != "features")
    heads = _Heads(
        net, features, unread=int(features and settings.parts == "raw"), within=settings.within
    )
    outputs = [task.family for task in net.tasks] + ["features"] * features
    try:
        above = _traced(heads, [width for _, width in read], outputs, below)
        if half:
            halve(above)
        return cast(bytes, _merged(below, [name for name, _ in read], above).SerializeToString())
    except (ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        why = str(error).partition("\n")[0]
        raise BundleError(
            f"{settings.bundle}: its network cannot be built upon: {why}; train on features of a bundle that mien made"
        ) from error


class _Heads(nn.Module):
    """From a bundle's outputs, features before raw, to the heads' raw output, and with `features` the features once more.

    unread: 1 where features come in only to go out. within: the columns of what is read that heads read, where not all.
    """

    def __init__(
        self, net: MultiTaskNet, features: bool, unread: int, within: tuple[int, int] | None
    ) -> None:
        super().__init__()
        self.heads = net.exported()
        self.features = features
        self.unread = unread
        self.within = within

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        read = torch.cat(given[self.unread :], dim=1)
        raw: tuple[Tensor, ...] = self.heads(
            read if self.within is None else read[:, slice(*self.within)]
        )
        return (*raw, given[0]) if self.features else raw


def _traced(
    heads: nn.Module, widths: list[int], outputs: list[str], below: onnx.ModelProto
) -> onnx.ModelProto:
    """The heads in ONNX, in float32 and in the versions of the network below, without which the two cannot be one file."""
    [opset] = {one.version for one in below.opset_import if one.domain in ("", "ai.onnx")}
    examples = tuple(
        torch.randn(2, width, generator=torch.Generator().manual_seed(0)) for width in widths
    )
    inputs = [f"read.{number}" for number in range(len(widths))]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "heads.onnx"
        trace(
            heads.eval(),
            path,
            examples,
            inputs=inputs,
            outputs=outputs,
            free={0: "batch"},
            opset=opset,
        )
        model = onnx.load(path)
    model.ir_version = below.ir_version
    return model


def _merged(below: onnx.ModelProto, read: list[str], above: onnx.ModelProto) -> onnx.ModelProto:
    """One network: what gives the outputs `read` of the one below, and all of the one above, which takes them in that order."""
    [image] = (one.name for one in below.graph.input)
    part = compose.add_prefix(Extractor(below).extract_model([image], read), _BELOW)
    pairs = [(_BELOW + name, one.name) for name, one in zip(read, above.graph.input, strict=True)]
    whole = compose.merge_models(part, above, pairs, producer_name="mien", name="joined")
    del whole.opset_import[:]  # each part's stand there, the heads' a second time
    whole.opset_import.extend(part.opset_import)
    whole.graph.input[0].name = "image"
    for node in whole.graph.node:
        node.input[:] = ["image" if name == _BELOW + image else name for name in node.input]
    onnx.checker.check_model(whole, full_check=True)
    return whole


def export_joined(run: RunFolder, path: Path, faces: Tensor, features: bool) -> float:
    """Write the joined network to `path`, heads in half precision; returns what that changes of raw output on `faces` at most.

    faces: (N, C, S, S), normalised as the bundle's card says.
    Raises as `join`; ValueError too when, before that, its answers to `faces` differ from what the heads in torch make of the bundle's own
    outputs by more than `PARITY`.
    """
    outputs = [spec.task.family for spec in run.tasks] + ["features"] * features
    path.write_bytes(join(run, features=features))
    expected = _expected(run, faces, features)
    if (off := worst(path, faces, expected, outputs)) > PARITY:
        raise ValueError(
            f"{path}: the joined network differs from its two parts by {off:.2g}, more than {PARITY:g}"
        )
    path.write_bytes(join(run, features=features, half=True))
    raw = len(run.tasks)
    return worst(path, faces, expected[:raw], outputs[:raw])


def _expected(run: RunFolder, faces: Tensor, features: bool) -> list[Floats32]:
    """What the heads in torch make of the bundle's outputs, laid out as in the cache."""
    settings = _features(run)
    *raw, own = open_engine(read_bundle(settings.bundle)[1], "onnxruntime").run(faces.numpy())
    read = torch.from_numpy(np.concatenate([own, *raw], axis=1)[:, settings.columns()])
    with torch.no_grad():
        found = [one.numpy() for one in network_of(run).exported()(read)]
    return [*found, own] if features else found
