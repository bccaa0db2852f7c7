"""Quantise a bundle again whose float weights are lost: its 8-bit weights are rounded once more.

    python -m mien.train.builtin.requantise BUNDLE --data SETTINGS.yaml --out OUT

SETTINGS.yaml is as for `mien evaluate`. Ranges of activations are measured on its training faces.
Whether their extremes are clipped is chosen on its validation faces, which all scores of the new
card are measured on too.

The embedded `mien-s` and `mien-xs` were made so. Before, they overflowed on processors without
VNNI, and ONNX Runtime and OpenVINO rounded them differently.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
import pandas as pd
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mien.bundles.card import AffectCard
from mien.bundles.engines import open_engine
from mien.bundles.store import Model, read_bundle
from mien.data.images import read_picture
from mien.errors import BundleError
from mien.evaluation.measures import headlines
from mien.evaluation.predict import five_points
from mien.faces.prepare import normalise
from mien.files import replace_folder, wrap_os_errors
from mien.progress import silent
from mien.train.builtin.mien_s import MEAN
from mien.train.bundle.make import CALIBRATION, check_output_folder
from mien.train.bundle.measure import Measured, Measurer, tolerance
from mien.train.bundle.pack import code_version, sha256_of, write_bundle_files
from mien.train.networks.face_resnet import FaceResNet
from mien.train.onnx.graphs import constants_of, rename_inputs, rename_tensors, replace_nodes
from mien.train.onnx.quantise import quantise_model
from mien.train.open_model import ENGINE
from mien.train.runs.tables import load_tables
from mien.train.settings.training import Settings, read_settings

__all__ = ["in_float", "prepared_faces", "requantise", "restore_weights", "restored_heads"]

Array = NDArray[Any]

_ROUNDING: Final = ("QuantizeLinear", "DequantizeLinear")


def in_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take the rounding to 8 bits out of a network.

    Args:
        model: A network of pairs of QuantizeLinear and DequantizeLinear; it is not changed.

    Returns:
        The network in float32, its constants with the values that their 8 bits stand for.
    """
    restored = onnx.ModelProto()
    restored.CopyFrom(model)
    graph = restored.graph
    constants = constants_of(graph)
    # New names of tensors: those of what was rounded, and of constants.
    names: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        output = node.output[0]
        if node.op_type in _ROUNDING and node.input[0] not in constants:
            source = node.input[0]
            names[output] = names.get(source, source)
        elif node.op_type == "DequantizeLinear":
            # Without the ending that mien's own quantiser gave it, and will give it again.
            names[output] = output.removesuffix(".held")
            numbers, scale, zero_point = (constants[name] for name in node.input)
            value = _dequantised(numbers, scale, zero_point)
            graph.initializer.append(numpy_helper.from_array(value, names[output]))
        else:
            nodes += _float_layer(node, names)
    _keep_output_names(graph, nodes, names)
    replace_nodes(graph, nodes)
    # Shapes and types of tensors that are gone.
    del graph.value_info[:]
    onnx.checker.check_model(restored)
    return restored


def restored_heads(model: onnx.ModelProto) -> dict[str, torch.Tensor]:
    """The weights of a bundle's heads.

    Args:
        model: The network of a bundle in 8 bits, as mien makes it.

    Returns:
        Tensors under the names of `mien.train.networks.network.MultiTaskNet`.
    """
    plain = in_float(model)
    constants = constants_of(plain.graph)
    outputs = [output.name for output in plain.graph.output]
    heads = {}
    for node in plain.graph.node:
        if node.op_type == "Gemm":
            weight, bias = (torch.tensor(constants[name]) for name in node.input[1:])
            number = outputs.index(node.output[0])
            heads[f"heads.{number}.weight"] = weight
            heads[f"heads.{number}.bias"] = bias
    return heads


@torch.no_grad()
def restore_weights(model: onnx.ModelProto, net: FaceResNet) -> None:
    """Fill a network with the weights of a bundle, for training to go on.

    Its norms are folded into scales and shifts: call `FaceResNet.unfold_norms` before training.

    Args:
        model: The network of a bundle in 8 bits, as mien makes it.
        net: The same network; changed in place.

    Raises:
        BundleError: The bundle's network is another one.
    """
    plain = in_float(model)
    constants = constants_of(plain.graph)
    convolutions = [node for node in plain.graph.node if node.op_type == "Conv"]
    layers = list(net.layers())
    if len(convolutions) != len(layers):
        raise BundleError(
            f"it has {len(convolutions)} convolutions where {len(layers)} are expected; "
            "name a version of mien-s or mien-xs"
        )
    for node, (conv, norm) in zip(convolutions, layers, strict=True):
        weight, bias = (torch.tensor(constants[name]) for name in node.input[1:])
        if weight.shape != conv.weight.shape:
            raise BundleError(f"{node.name}: has another shape than {tuple(conv.weight.shape)}")
        conv.weight.copy_(weight)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.copy_(bias)


def _float_layer(node: onnx.NodeProto, names: dict[str, str]) -> list[onnx.NodeProto]:
    """A layer on tensors without rounding.

    ONNX Runtime's quantiser leaves out a ReLU whose rounding clips at 0 anyway. It is put back, and
    recognised by the name of its output, which the layer before it has taken over.
    """
    layer = onnx.NodeProto()
    layer.CopyFrom(node)
    rename_inputs(layer, names)
    output = node.output[0]
    if node.op_type not in ("Conv", "Add") or "Relu" not in output:
        return [layer]
    layer.output[0] = f"{output}.sum"
    return [layer, helper.make_node("Relu", [layer.output[0]], [output])]


def _dequantised(numbers: Array, scale: Array, zero_point: Array) -> Array:
    """Float32 values of 8-bit numbers, with one scale for all or one per row."""
    shape = (-1, *[1] * (numbers.ndim - 1)) if scale.ndim else ()
    offset = zero_point.astype(np.float32).reshape(shape)
    values = (numbers.astype(np.float32) - offset) * scale.reshape(shape)
    return np.asarray(values.astype(np.float32))


def _keep_output_names(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], names: dict[str, str]
) -> None:
    """Let layers compute the graph's outputs under the names that rounding gave them."""
    former = {}
    for output in graph.output:
        if output.name in names:
            former[names[output.name]] = output.name
    rename_tensors(nodes, former)


def requantise(
    bundle: str | Path,
    settings: Settings,
    out: Path,
    recipe: str,
    note: Callable[[str], None],
    *,
    mean: tuple[float, ...] | None = None,
) -> Path:
    """Make a bundle of 8 bits from another, measured anew.

    Args:
        bundle: A bundle in 8 bits that reads affect, as ONNX Runtime's quantiser or mien made it.
        settings: Name the data; the tasks are the bundle's own.
        out: Folder of the new bundle; one that holds a bundle already is replaced.
        recipe: The command, for the card.
        note: Called with a line about every step.
        mean: Mean of the pixels; None takes that of the card.

    Returns:
        The folder.

    Raises:
        BundleError: The bundle does not read affect.
        OutputError: `out` holds something else, or cannot be written.
    """
    source, network = read_bundle(bundle)
    card = source.card
    if not isinstance(card, AffectCard):
        raise BundleError(f"{card.name} reads no affect; name a bundle that does")
    check_output_folder(out)
    draft = _draft(card, mean)
    plain = in_float(onnx.load_from_string(network))
    with replace_folder(out) as folder, TemporaryDirectory() as spare_name:
        spare = Path(spare_name)
        # The settings name the data alone; labels are those that the bundle predicts.
        task_keys = tuple(task.key for task in draft.tasks)
        of_bundle = settings.model_copy(update={"tasks": task_keys})
        tables, tasks, _ = load_tables(of_bundle, spare, note)
        calibration = prepared_faces(Model(draft, open_engine(network, ENGINE)), tables["train"])
        measurer = Measurer(tasks, tables["val"], settings.fit.skip_unreadable, note, silent)
        path = folder / "model.onnx"
        measured = _quantise_best(plain, calibration, path, measurer, draft)
        plain_path = spare / "plain.onnx"
        onnx.save(plain, plain_path)
        before = measurer.measure(plain_path, draft)
        scores = [
            *measurer.scores(measured),
            *measurer.scores_before_quantisation(before, measured),
            *measurer.scores_by_corruption(measured),
        ]
        new_card = _card(card, draft, path, measured, recipe)
        with wrap_os_errors(out):
            write_bundle_files(new_card.model_copy(update={"scores": tuple(scores)}), folder)
    return out


def _draft(card: AffectCard, mean: tuple[float, ...] | None) -> AffectCard:
    """The card to measure with: no temperatures, since new ones are fitted."""
    pixels = card.pixels
    if mean is not None:
        pixels = pixels.model_copy(update={"mean": mean})
    return card.model_copy(update={"pixels": pixels, "temperature": {}})


def _quantise_best(
    plain: onnx.ModelProto,
    calibration: NDArray[np.float32],
    path: Path,
    measurer: Measurer,
    draft: AffectCard,
) -> Measured:
    """Write the better of two networks, with clipped ranges of activations and with whole ones."""
    candidates = {}
    with TemporaryDirectory() as folder:
        candidate_path = Path(folder) / "model.onnx"
        for clip in (True, False):
            onnx.save(quantise_model(plain, calibration, clip=clip), candidate_path)
            measured = measurer.measure(candidate_path, draft)
            candidates[clip] = (candidate_path.read_bytes(), measured)
    merits = {}
    for clip, (_, measured) in candidates.items():
        merits[clip] = _merit(measured, measurer.note)
    clip = max(merits, key=lambda clips: merits[clips])
    measurer.note(f"ranges of activations: {'their ends cut off' if clip else 'whole'}")
    network, best = candidates[clip]
    path.write_bytes(network)
    return best


def _merit(measured: Measured, note: Callable[[str], None]) -> float:
    """Mean of a network's headlines over its tasks and data sets, to choose between two."""
    values = []
    for evaluation in measured.evaluations.values():
        for result in evaluation.tasks:
            for name in headlines(result.kind, result.graded):
                values.append(result.measures[name].value)
    note(f"headlines: {', '.join(f'{value:.4f}' for value in values)}")
    return float(np.mean(values))


def prepared_faces(model: Model, table: pd.DataFrame) -> NDArray[np.float32]:
    """Crop faces that are evenly spread over a label table.

    Args:
        model: Says how its network reads them.
        table: A label table.

    Returns:
        At most 300 crops as the network reads them (n, C, S, S).
    """
    positions = np.linspace(0, len(table) - 1, min(CALIBRATION, len(table))).astype(int)
    rows = table.iloc[np.unique(positions)]
    crops = []
    # One by one, since faces with and without points cannot be in one batch.
    for number, (image, cell) in enumerate(zip(rows["image"], rows["points"], strict=True)):
        points = five_points(cell, number)
        batch = None if points is None else points[None]
        crops += model.prepare([read_picture(image)], batch)
    return normalise(crops, model.card.pixels)


def _card(
    old: AffectCard, draft: AffectCard, path: Path, measured: Measured, recipe: str
) -> AffectCard:
    """The old card with what is new of the network, without its scores."""
    largest_difference, unmeasured = tolerance(
        path.read_bytes(), measured.model.card, measured.scored
    )
    limits = [*old.limits, *measured.limits, *unmeasured]
    limits.append(
        "its weights were rounded twice: they are those of the network with sha256 "
        f"{old.sha256[:12]}, whose float weights are not kept"
    )
    # Without a second engine there is nothing to say of their agreement.
    if not unmeasured:
        limits.append(
            f"ONNX Runtime and OpenVINO differ by at most {largest_difference:g} in any score of "
            f"{len(measured.scored.table)} faces"
        )
    # The old size ends the old summary.
    summary = old.summary.rpartition(" The network takes ")[0] or old.summary
    making = {
        "recipe": f"{old.made.recipe}; then {recipe}",
        "commit": f"{old.made.commit}, then {code_version()}",
    }
    temperatures = {family: round(value, 4) for family, value in measured.temperatures.items()}
    changes = {
        "sha256": sha256_of(path),
        "summary": f"{summary} The network takes {path.stat().st_size / 1e6:.2f} MB.",
        "tolerance": largest_difference,
        "temperature": temperatures,
        "limits": tuple(dict.fromkeys(limits)),
        "made": old.made.model_copy(update=making),
    }
    return draft.model_copy(update=changes)


def main() -> None:
    """Read the command line, quantise, and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", help="how it was made, for the card; by default this command")
    args = parser.parse_args()
    name = Path(args.bundle).name
    command = f"python -m mien.train.builtin.requantise {name} --data SETTINGS.yaml --out OUT"
    folder = requantise(
        args.bundle,
        read_settings(args.data),
        args.out,
        args.recipe or command,
        lambda line: print(line, flush=True),
        mean=MEAN,
    )
    print(folder)


if __name__ == "__main__":
    main()
