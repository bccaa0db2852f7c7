"""Costs against formulas by hand, and against the textbook formula of each layer."""

import json
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper
from torch import nn
from torch.overrides import TorchFunctionMode

from mien.bundles.store import bundles, open_bundle
from mien.data.standins import make_standin
from mien.errors import BundleError, DataError
from mien.recipes.report import markdown
from mien.recipes.reproduce import reproduce
from mien.recipes.schema import read_recipe
from mien.tasks import TASKS
from mien.train.cost import (
    Network,
    _FullWindows,
    costs,
    macs,
    network_of_bundle,
    network_of_run,
    traced,
)
from mien.train.networks.network import build
from mien.train.onnx.export import export, halve
from mien.train.runs.folder import RunFolder
from mien.train.settings.network import HeadSettings, NetworkSettings

# Fabric warns of few data workers and of processes it did not start; neither is news here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")
THREE = [TASKS[key] for key in ("va", "expr.abaw8", "au.abaw12")]


class LayerFormulas(TorchFunctionMode):
    """Multiply-accumulates of one forward pass, layer by layer, from the shapes of tensors.

    The formulas are the textbook's. What torch counts for itself is no reference: it depends on the
    kernel that torch picks for this processor, which for attention differs between releases.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("conv1d", "conv2d"):
            weight = args[1]
            self.macs += out.numel() * prod(weight.shape[1:])  # inputs per group x kernel
        elif name == "linear":
            self.macs += out.numel() * args[1].shape[1]
        elif name == "scaled_dot_product_attention":
            query, key, value = args[:3]
            pairs = prod(query.shape[:-1]) * key.shape[-2]
            self.macs += pairs * (query.shape[-1] + value.shape[-1])
        elif name in ("matmul", "__matmul__", "bmm"):
            self.macs += out.numel() * args[0].shape[-1]
        elif name == "einsum":
            assert args[0] == "nkd,kd->nk"  # the one that mien's heads use: one weight per number
            self.macs += args[1].numel()
        return out


def counted_by_formula(net: nn.Module, *shape: int) -> int:
    with LayerFormulas() as formulas, torch.no_grad():
        net.eval()(torch.zeros(1, *shape))
    return formulas.macs


@pytest.fixture(scope="module")
def plain():
    """3 colours at 16 px; convolutions with stride, with groups and transposed; a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, groups=4),
        nn.ConvTranspose2d(16, 6, 2, stride=2, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


BY_HAND = 8 * 8 * 8 * (3 * 9) + 16 * 8 * 8 * (2 * 9) + 16 * 8 * 8 * (3 * 4) + 6 * 5
PARAMETERS = (8 * 27 + 8) + 16 + (16 * 18 + 16) + (16 * 12 + 6) + (30 + 5)


def test_a_small_network_by_hand(plain):
    network = traced(plain, (3, 16, 16))
    assert network.parameters == PARAMETERS
    assert macs(network) == BY_HAND


def test_weights_made_small_count_as_before(plain, tmp_path):
    model = onnx.load_from_string(traced(plain, (3, 16, 16)).onnx)
    halve(model)
    assert macs(Network(model.SerializeToString(), (3, 16, 16), 0)) == BY_HAND
    faces = np.random.default_rng(0).standard_normal((60, 3, 16, 16)).astype(np.float32)
    net = nn.Sequential(*plain[:4], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    export(
        net,
        tmp_path / "q.onnx",
        torch.from_numpy(faces[:4]),
        ["expr"],
        {0: "batch"},
        calibration=faces,
    )
    content = (tmp_path / "q.onnx").read_bytes()
    assert b"DequantizeLinear" in content
    assert (
        macs(Network(content, (3, 16, 16), 0))
        == 8 * 8 * 8 * (3 * 9) + 16 * 8 * 8 * (2 * 9) + 16 * 5
    )


def test_recurrent_heads_by_hand():
    heads = {"va": HeadSettings(kind="sequence", width=7)}
    net = build(NetworkSettings(backbone="features", heads=heads), [TASKS["va"]], 10, 1)
    network = traced(_FullWindows(net), (6, 10))
    assert network.faces == 6
    one_way = 3 * 7 * (10 + 7)  # three gates, each from the input and from the state
    assert macs(network) == 2 * one_way + 14 * 2
    assert network.parameters == 2 * (one_way + 2 * 3 * 7) + 14 * 2 + 2


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        ("smm-small", 112, 1),
        ("smm", 299, 3),
        ("mobilefacenet", 112, 1),
        ("efficientnet_lite0", 64, 3),
        ("vit_tiny_patch16_224", 64, 1),
    ],
)
def test_every_layer_by_its_formula(name, size, channels):
    net = build(NetworkSettings(backbone=name), THREE, channels, size)
    network = traced(net.exported(), (channels, size, size))
    if name == "smm":
        assert network.parameters == 11_367_947
    assert network.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert macs(network) == counted_by_formula(net, channels, size, size)


def test_einsum_and_what_cannot_be_counted():
    def network(node) -> Network:
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in ("image", "out")
        ]
        weights = onnx.numpy_helper.from_array(np.ones((4, 5), np.float32), "w")
        graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
        return Network(
            helper.make_model(
                graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
            ).SerializeToString(),
            (3, 4),
            20,
        )

    assert (
        macs(network(helper.make_node("Einsum", ["image", "w"], ["out"], equation="nab,bc->nac")))
        == 3 * 4 * 5
    )
    with pytest.raises(BundleError, match="the operator MatMulInteger is not known"):
        macs(network(helper.make_node("MatMulInteger", ["image", "w"], ["out"])))
    with pytest.raises(BundleError, match="the operator FusedConv is not known"):
        macs(
            network(helper.make_node("FusedConv", ["image", "w"], ["out"], domain="com.microsoft"))
        )


def test_bundles():
    network = network_of_bundle("mien-s")
    graph = onnx.load(str(bundles()["mien-s"] / "model.onnx")).graph
    quantised = any(node.op_type == "DequantizeLinear" for node in graph.node)
    total = 0
    for tensor in graph.initializer:
        # In 8 bits a tensor with one axis may be scales.
        if len(tensor.dims) > 1 or (not quantised and len(tensor.dims) == 1):
            total += prod(tensor.dims)
    assert 0 < total <= network.parameters <= 1.05 * total
    assert macs(network) > 10 * network.parameters
    with pytest.raises(BundleError, match="finds faces"):
        network_of_bundle("mien-face")
    assert open_bundle("mien-s").card.name == "mien-s"


def test_times_are_of_one_face(plain):
    """A network that is ten times another takes longer; both are asked in turn."""
    wide = nn.Sequential(*[nn.Conv2d(16 if i else 3, 16, 3, padding=1) for i in range(12)])
    measured = costs({"plain": traced(plain, (3, 32, 32)), "wide": traced(wide, (3, 32, 32))})
    assert measured["wide"].macs > 10 * measured["plain"].macs
    assert measured["wide"].milliseconds > measured["plain"].milliseconds > 0
    assert measured["plain"].parameters == PARAMETERS


RECIPE = """
name: priced
title: What a face costs
paper: "Nobody (2000), Nothing"
data:
  faces: {set: lsd, get: "from nobody"}
protocol: abaw2022.lsd
seeds: [0, 1]
steps:
  features: {do: features, data: faces, bundle: mien-s}
  heads:
    do: heads
    features: features
    data: faces
    runs:
      - {tasks: [expr.lsd6], parts: features, fit: {epochs: 1, batch: 32, keep: last}}
  even: {do: balance, data: faces, most: 12}
  net:
    do: train
    data: [faces]
    tasks: [expr.lsd6]
    pictures: even
    settings:
      pixels: {size: 32, colour: grey, alignment: box, mean: [115.0], std: [256.0]}
      network: {backbone: mobilefacenet}
      fit: {epochs: 1, batch: 32, keep: last, workers: 0}
  both: {do: blend, of: [heads, net], weights: {expr: 0.5}}
rows:
  - {name: "heads on features", of: heads, networks: [features, heads]}
  - {name: "free of charge", of: net}
  - {name: all, of: both, networks: [features, heads, net]}
"""


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    out = tmp_path_factory.mktemp("priced")
    (out / "priced.yaml").write_text(RECIPE)
    lsd = make_standin("lsd", out / "lsd", size=60)
    return out / "out", reproduce(out / "priced.yaml", {"faces": lsd}, out / "out")


def test_a_row_costs_what_its_networks_cost_and_its_steps_took(priced):
    out, report = priced
    home = {path.name.rpartition("-")[0]: path for path in (out / "steps").iterdir()}
    extractor = network_of_bundle("mien-s")
    heads = network_of_run(RunFolder(next(home["heads"].glob("run-0-*-seed-0"))))
    net = network_of_run(RunFolder(home["net"] / "seed-0"))
    width = heads.shape[0]
    assert (heads.parameters, macs(heads)) == (6 * width + 6, 6 * width)
    plain = build(NetworkSettings(backbone="mobilefacenet"), [TASKS["expr.lsd6"]], 1, 32)
    assert net.parameters == sum(parameter.numel() for parameter in plain.parameters())
    assert macs(net) == counted_by_formula(plain, 1, 32, 32)
    first, second = report.costs
    assert (first.name, second.name) == ("heads on features", "all")
    assert first.parameters == extractor.parameters + heads.parameters
    assert first.macs == macs(extractor) + macs(heads)
    assert second.parameters == first.parameters + net.parameters
    assert second.macs == first.macs + macs(net)
    assert second.milliseconds > first.milliseconds > 0
    took = report.seconds
    assert first.seconds == pytest.approx(took["features"] + took["heads"])
    assert second.seconds == pytest.approx(sum(took.values())), "each once"


def test_the_report_has_a_table_of_costs(priced):
    out, report = priced
    text = (out / "priced.md").read_text()
    assert text == markdown(report)
    section = text.partition("## Cost of a face")[2].partition("## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip() for row in rows] == ["heads on features", "all"]
    assert [float(row[1]) for row in rows] == [
        round(cost.parameters / 1e6, 3) for cost in report.costs
    ]
    written = json.loads((out / "priced.json").read_text())["costs"]
    assert [(cost["name"], cost["macs"]) for cost in written] == [
        (cost.name, cost.macs) for cost in report.costs
    ]


def test_without_networks_there_is_no_section(priced, tmp_path):
    out, _ = priced
    content = yaml.safe_load(RECIPE)
    for row in content["rows"]:
        row.pop("networks", None)
    (tmp_path / "free.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    report = reproduce(tmp_path / "free.yaml", {"faces": out.parent / "lsd"}, out)
    assert report.costs == ()
    assert "Cost of a face" not in markdown(report)


@pytest.mark.parametrize(
    ("name", "message"),
    [("nets", "'nets' is not a step whose networks read faces"), ("both", "'both' is not a step")],
)
def test_a_row_names_steps_whose_networks_read_faces(tmp_path: Path, name, message):
    (tmp_path / "wrong.yaml").write_text(
        RECIPE.replace("networks: [features, heads]", f"networks: [{name}]")
    )
    with pytest.raises(DataError, match=message):
        read_recipe(tmp_path / "wrong.yaml")
