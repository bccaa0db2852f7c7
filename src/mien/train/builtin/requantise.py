"""Make a bundle of 8 bits again from one whose float weights are gone: its 8-bit weights, rounded anew by `mien.train.onnx.quantise`.

    python -m mien.train.builtin.requantise BUNDLE --data SETTINGS.yaml --out OUT

SETTINGS.yaml as for `mien evaluate`; ranges of activations are measured on its training faces. Whether their ends are cut off is
chosen on its validation faces, on which all scores of the new card are measured too.
The embedded `mien-s` and `mien-xs` were made so: until then they overflowed on processors without VNNI, and ONNX Runtime and OpenVINO
read them differently.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
import pandas as pd
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
from mien.train.onnx.quantise import quantise_model
from mien.train.open_model import ENGINE
from mien.train.runs.tables import load_tables
from mien.train.settings.training import Settings, read_settings

__all__ = ["in_float", "requantise"]

Array = NDArray[Any]

_ROUNDING: Final = ("QuantizeLinear", "DequantizeLinear")


def in_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """A network of roundings to 8 bits and back without them: constants as they were held, activations in float32.

    The quantiser of ONNX Runtime leaves out a ReLU whose rounding cuts off at 0 anyway; it is put back, by the name of its output.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    graph = new.graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    names: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        if node.op_type in _ROUNDING and node.input[0] not in constants:
            names[node.output[0]] = names.get(node.input[0], node.input[0])
        elif node.op_type == "DequantizeLinear":
            # Without the ending that mien's own quantiser gives, which it would give again.
            name = names[node.output[0]] = node.output[0].removesuffix(".held")
            graph.initializer.append(
                numpy_helper.from_array(_value(*(constants[one] for one in node.input)), name)
            )
        else:
            kept = onnx.NodeProto()
            kept.CopyFrom(node)
            kept.input[:] = [names.get(name, name) for name in node.input]
            nodes.append(kept)
            if node.op_type in ("Conv", "Add") and "Relu" in node.output[0]:
                kept.output[0] = f"{node.output[0]}.sum"
                nodes.append(helper.make_node("Relu", [kept.output[0]], [node.output[0]]))
    _name_outputs(graph, nodes, names)
    read = {name for node in nodes for name in node.input}
    kept_constants = [one for one in graph.initializer if one.name in read]
    for field, values in (
        (graph.node, nodes),
        (graph.initializer, kept_constants),
        (graph.value_info, []),
    ):
        del field[:]
        field.extend(values)
    onnx.checker.check_model(new)
    return new


def _value(numbers: Array, scale: Array, zero: Array) -> Array:
    shape = (-1, *[1] * (numbers.ndim - 1)) if scale.ndim else ()
    return (
        (numbers.astype(np.float32) - zero.astype(np.float32).reshape(shape)) * scale.reshape(shape)
    ).astype(np.float32)


def _name_outputs(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], names: dict[str, str]
) -> None:
    """Give what comes out its own name again where only a rounding gave it that."""
    asked = {names[one.name]: one.name for one in graph.output if one.name in names}
    for node in nodes:
        node.input[:] = [asked.get(name, name) for name in node.input]
        node.output[:] = [asked.get(name, name) for name in node.output]


def requantise(
    bundle: str | Path,
    settings: Settings,
    out: Path,
    recipe: str,
    note: Callable[[str], None],
    *,
    mean: tuple[float, ...] | None = None,
) -> Path:
    """Make the folder `out` from `bundle`, measured on the faces of `settings`; returns it.

    Args:
        bundle: a bundle in 8 bits that reads affect, as ONNX Runtime's quantiser or mien made it.
        settings: name the data; its tasks are the bundle's own.
        out: a folder that is absent or holds a bundle, which is replaced.
        recipe: the command, for the card.
        note: called with a line on every step.
        mean: of the pixels, where it shall be another than on the card.

    Raises:
        BundleError: for a bundle that reads no affect. OutputError: where `out` holds something else or cannot be written.
    """
    found, network = read_bundle(bundle)
    if not isinstance(found.card, AffectCard):
        raise BundleError(f"{found.card.name} reads no affect; name a bundle that does")
    check_output_folder(out)
    pixels = (
        found.card.pixels if mean is None else found.card.pixels.model_copy(update={"mean": mean})
    )
    draft = found.card.model_copy(update={"pixels": pixels, "temperature": {}})
    plain = in_float(onnx.load_from_string(network))
    with replace_folder(out) as folder, TemporaryDirectory() as spare:
        tables, tasks, _ = load_tables(
            settings.model_copy(update={"tasks": tuple(t.key for t in draft.tasks)}),
            Path(spare),
            note,
        )
        path, before = folder / "model.onnx", Path(spare) / "plain.onnx"
        onnx.save(plain, before)
        eaten = _eaten(Model(draft, open_engine(network, ENGINE)), tables["train"])
        measurer = Measurer(tasks, tables["val"], settings.fit.skip_unreadable, note, silent)
        tried = {
            cut: _tried(
                measurer, quantise_model(plain, eaten, clip=cut), Path(spare) / f"{cut}.onnx", draft
            )
            for cut in (True, False)
        }
        cut = max(tried, key=lambda one: _merit(tried[one], note))
        note(f"ranges of activations: {'their ends cut off' if cut else 'whole'}")
        path.write_bytes((Path(spare) / f"{cut}.onnx").read_bytes())
        measured = tried[cut]
        scores = [
            *measurer.scores(measured),
            *measurer.scores_before_quantisation(measurer.measure(before, draft), measured),
            *measurer.scores_by_corruption(measured),
        ]
        card = _card(found.card, draft, path, measured, recipe)
        with wrap_os_errors(out):
            write_bundle_files(card.model_copy(update={"scores": tuple(scores)}), folder)
    return out


def _tried(measurer: Measurer, model: onnx.ModelProto, path: Path, draft: AffectCard) -> Measured:
    onnx.save(model, path)
    return measurer.measure(path, draft)


def _merit(measured: Measured, note: Callable[[str], None]) -> float:
    """The mean of a network's headlines over its tasks and data sets, for choosing between two."""
    values = [
        result.measures[name].value
        for evaluation in measured.evaluations.values()
        for result in evaluation.tasks
        for name in headlines(result.kind, result.graded)
    ]
    note(f"headlines: {', '.join(f'{value:.4f}' for value in values)}")
    return float(np.mean(values))


def _eaten(model: Model, table: pd.DataFrame) -> NDArray[np.float32]:
    """Faces evenly spread over a label table, as the network reads them (n, C, S, S)."""
    rows = table.iloc[
        np.unique(np.linspace(0, len(table) - 1, min(CALIBRATION, len(table))).astype(int))
    ]
    crops = []
    for number, (image, points) in enumerate(zip(rows["image"], rows["points"], strict=True)):
        five = five_points(points, number)
        crops += model.prepare([read_picture(image)], None if five is None else five[None])
    return normalise(crops, model.card.pixels)


def _card(
    old: AffectCard, draft: AffectCard, path: Path, measured: Measured, recipe: str
) -> AffectCard:
    between, unmeasured = tolerance(path.read_bytes(), measured.model.card, measured.scored)
    again = f"its weights were rounded twice: they are those of the network with sha256 {old.sha256[:12]}, whose float weights are not kept"
    faces = len(measured.scored.table)
    agreed = (
        []
        if unmeasured
        else [
            f"ONNX Runtime and OpenVINO differ by at most {between:g} in any score of {faces} faces"
        ]
    )
    old_size = old.summary.rpartition(" The network takes ")[0] or old.summary
    made = old.made.model_copy(
        update={
            "recipe": f"{old.made.recipe}; then {recipe}",
            "commit": f"{old.made.commit}, then {code_version()}",
        }
    )
    return draft.model_copy(
        update={
            "sha256": sha256_of(path),
            "summary": f"{old_size} The network takes {path.stat().st_size / 1e6:.2f} MB.",
            "tolerance": between,
            "temperature": {key: round(heat, 4) for key, heat in measured.temperatures.items()},
            "limits": tuple(
                dict.fromkeys((*old.limits, *measured.limits, *unmeasured, again, *agreed))
            ),
            "made": made,
        }
    )


def main() -> None:
    """Parse, make, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--recipe", help="what the card shall say of how it was made; left out: this command"
    )
    args = parser.parse_args()
    command = (
        args.recipe
        or f"python -m mien.train.builtin.requantise {Path(args.bundle).name} --data SETTINGS.yaml --out OUT"
    )
    print(
        requantise(
            args.bundle,
            read_settings(args.data),
            args.out,
            command,
            lambda line: print(line, flush=True),
            mean=MEAN,
        )
    )


if __name__ == "__main__":
    main()
