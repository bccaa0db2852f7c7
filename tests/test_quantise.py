"""A network in 8 bits answers the same on every processor and engine, and its scores have no steps."""

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from mien import demo
from mien.bundles.engines import available, open_engine
from mien.bundles.store import AFFECT, bundles, load, load_detector, read_bundle
from mien.errors import BundleError
from mien.faces.prepare import prepare
from mien.train.builtin.requantise import in_float, restore_weights, restored_heads
from mien.train.networks.face_resnet import FaceResNet
from mien.train.onnx.exact_layers import MAX_WEIGHT
from mien.train.onnx.export import export
from mien.train.onnx.portability import portability_issues

FACES = np.random.default_rng(3)
SIDE = 30  # halved twice it is odd, so that windows of pooling are cut off at the edge


def noise(count: int, channels: int = 1) -> np.ndarray:
    """Soft pictures (N, C, S, S), each another."""
    small = FACES.normal(0, 0.25, (count, channels, 5, 5)).astype(np.float32)
    soft = np.empty((count, channels, SIDE, SIDE), np.float32)
    for picture, planes in zip(soft, small, strict=True):
        for channel, plane in enumerate(planes):
            picture[channel] = cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return soft


class Net(nn.Module):
    """Convolutions, a way around, pooling at odd sides, padding, and two heads."""

    def __init__(self, act: nn.Module, *, gate: bool = False, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 5, 2, 2), nn.BatchNorm2d(8), act)
        self.one = nn.Conv2d(8, 8, 3, 1, 1, groups=groups)
        self.two = nn.Conv2d(8, 16, 3, 2, 1)
        self.three = nn.Conv2d(16, 16, 3, 1, 1)
        self.act, self.gate = act, gate
        self.heads = nn.ModuleList([nn.Linear(16, 8), nn.Linear(16, 2)])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.stem(x)
        x = self.act(x + self.one(x))
        around = functional.pad(functional.avg_pool2d(x, 2, 2, ceil_mode=True), (0, 0, 0, 0, 0, 8))
        y = self.act(self.two(x))
        if self.gate:
            y = y * torch.sigmoid(y.mean(dim=(2, 3), keepdim=True))
        pooled = functional.max_pool2d(self.act(around + self.three(y)), 2).mean(dim=(2, 3))
        return tuple(head(pooled) for head in self.heads)


WHOLE = {"relu": Net(nn.ReLU()), "relu6": Net(nn.ReLU6()), "depthwise": Net(nn.ReLU(), groups=8)}
FLOAT = {
    "swish": Net(nn.SiLU()),
    "prelu": Net(nn.PReLU()),
    "gelu": Net(nn.GELU()),
    "gate": Net(nn.ReLU(), gate=True),
}
NETS = WHOLE | FLOAT


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each network in float32 and in 8 bits, as bytes."""
    folder, made = tmp_path_factory.mktemp("nets"), {}
    for name, net in NETS.items():
        path = folder / f"{name}.onnx"
        arguments = (net.eval(), path, torch.from_numpy(noise(4)), ["expr", "va"], {0: "batch"})
        export(*arguments)
        plain = path.read_bytes()
        export(*arguments, calibration=noise(60))
        made[name] = plain, path.read_bytes()
    return made


def run(network: bytes, engine: str, batch: np.ndarray) -> np.ndarray:
    return np.concatenate(open_engine(network, engine).run(batch, 2), axis=1)


def plainly(network: bytes, batch: np.ndarray) -> np.ndarray:
    """What the file says, layer by layer in float32: nothing fused, no 8-bit kernel."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    return np.concatenate(session.run(None, {session.get_inputs()[0].name: batch})[:2], axis=1)


def rounded(network: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(network).graph.node} & {
        "QuantizeLinear",
        "DequantizeLinear",
    }


@pytest.mark.parametrize("name", NETS)
def test_every_engine_computes_what_the_file_says(files, name):
    network, batch = files[name][1], noise(40)
    expected = plainly(network, batch)
    for engine in available():
        np.testing.assert_allclose(run(network, engine, batch), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NETS)
def test_eight_bits_are_close_to_float_and_have_no_steps(files, name):
    plain, network = files[name]
    batch = noise(400)
    ours, floats = run(network, "onnxruntime", batch), run(plain, "onnxruntime", batch)
    assert np.abs(ours - floats).max() < 0.15 * np.ptp(floats, axis=0).max()
    assert np.corrcoef(ours[:, 8], floats[:, 8])[0, 1] > 0.99
    assert len(np.unique(ours[:, 8])) > 390


@pytest.mark.parametrize("name", NETS)
def test_what_is_exported_has_no_portability_issues_and_whole_numbers_where_they_are_exact(
    files, name
):
    assert portability_issues(onnx.load_from_string(files[name][1])) == []
    assert bool(rounded(files[name][1])) == (name in WHOLE)


def test_large_weights_are_kept_in_eight_bits_where_numbers_are_not_whole(tmp_path):
    net = nn.Sequential(
        nn.Conv2d(1, 64, 3),
        nn.SiLU(),
        nn.Conv2d(64, 64, 3),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 8),
    )
    path, example = tmp_path / "net.onnx", torch.from_numpy(noise(3))
    change = export(net.eval(), path, example, ["expr"], {0: "batch"}, calibration=noise(8))
    assert 0 < change < 0.01
    assert path.stat().st_size < 1.25 * sum(weight.numel() for weight in net.parameters()) + 3000
    assert not rounded(path.read_bytes())


@pytest.mark.parametrize("name", sorted(bundles()))
def test_no_bundle_that_comes_with_mien_has_portability_issues(name):
    assert portability_issues(onnx.load_from_string(read_bundle(name)[1])) == []


@pytest.mark.parametrize("name", [AFFECT, "mien-xs"])
def test_pairs_of_products_stay_within_sixteen_bits(name):
    """The bare formula: AVX2 adds two products of an unsigned and a signed number in 16 bits."""
    graph = onnx.load_from_string(read_bundle(name)[1]).graph
    weights = []
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1:
            weights.append(numpy_helper.to_array(tensor))
    assert len(weights) > 10
    for weight in weights:
        assert 2 * 255 * np.abs(weight.astype(int)).max() <= np.iinfo(np.int16).max


def by_onnxruntime(path, folder):
    """The same network as ONNX Runtime's quantiser makes it by itself."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    class Reader:
        parts = iter(np.array_split(noise(60), 3))

        def get_next(self):
            part = next(self.parts, None)
            return None if part is None else {"image": part}

    quantize_static(
        str(path), str(folder / "theirs.onnx"), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return onnx.load(folder / "theirs.onnx")


def test_issues_are_seen_in_what_another_quantiser_makes_and_its_weights_can_be_taken_back(
    files, tmp_path
):
    (tmp_path / "plain.onnx").write_bytes(files["relu"][0])
    theirs = by_onnxruntime(tmp_path / "plain.onnx", tmp_path)
    issues = "\n".join(portability_issues(theirs))
    for sign in (
        f"weights beyond {MAX_WEIGHT}",
        "not a power of two",
        "zero point",
        "means count padding",
        "rounded after Gemm",
    ):
        assert sign in issues
    batch = noise(20)
    again = run(in_float(theirs).SerializeToString(), "onnxruntime", batch)
    floats = run(files["relu"][0], "onnxruntime", batch)
    np.testing.assert_allclose(again, floats, atol=0.02 * np.ptp(floats))


def test_training_can_go_on_from_the_8_bits_of_a_bundle():
    _, network = read_bundle("mien-xs")
    model = onnx.load_from_string(network)
    net = FaceResNet(1, small=True)
    restore_weights(model, net)
    shape = (6, 1, 80, 80)
    crops = FACES.normal(0, 0.25, shape).astype(np.float32)
    session = onnxruntime.InferenceSession(in_float(model).SerializeToString())
    (expected,) = session.run(["features"], {session.get_inputs()[0].name: crops})
    with torch.no_grad():
        np.testing.assert_allclose(net.eval()(torch.tensor(crops)), expected, atol=1e-4)
    heads = restored_heads(model)
    names = [output.name for output in model.graph.output]
    for number, name in enumerate(("expr", "va", "au")):
        assert names.index(name) == number
        (scores,) = session.run([name], {session.get_inputs()[0].name: crops})
        expected_scores = expected @ heads[f"heads.{number}.weight"].numpy().T
        expected_scores += heads[f"heads.{number}.bias"].numpy()
        np.testing.assert_allclose(scores, expected_scores, atol=1e-3)
    with pytest.raises(BundleError, match="27 are expected; name a version of mien-s"):
        restore_weights(model, FaceResNet(1))


def spoil(model, kind):
    """One thing wrong in a network that had no issues."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if kind == "pool" and node.op_type == "AveragePool":
            for attribute in node.attribute:
                if attribute.name == "count_include_pad":
                    attribute.i = 1
            return
        if kind == "integer" and node.op_type == "Conv":
            node.op_type = "ConvInteger"
            return
        if node.op_type == "QuantizeLinear" and kind in ("step", "zero"):
            name = node.input[1 if kind == "step" else 2]
            value = numpy_helper.to_array(constants[name])
            wrong = value * 1.1 if kind == "step" else value | 1
            wrong = np.asarray(wrong, value.dtype)
            constants[name].CopyFrom(numpy_helper.from_array(wrong, name))
            return
        if node.op_type == "DequantizeLinear" and node.input[0] in constants and kind == "weight":
            value = numpy_helper.to_array(constants[node.input[0]]).copy()
            value.flat[0] = -MAX_WEIGHT - 1
            constants[node.input[0]].CopyFrom(numpy_helper.from_array(value, node.input[0]))
            return


@pytest.mark.parametrize(
    ("kind", "sign"),
    [
        ("pool", "count padding"),
        ("integer", "8-bit products differently"),
        ("step", "not a power"),
        ("zero", "not even"),
        ("weight", f"beyond {MAX_WEIGHT}"),
    ],
)
def test_each_issue_is_reported(files, kind, sign):
    model = onnx.load_from_string(files["relu"][1])
    spoil(model, kind)
    assert any(sign in line for line in portability_issues(model))


def test_scores_of_the_embedded_bundles_have_no_steps():
    """A face whose light changes little by little: nearly every picture another valence and another AU12."""
    portrait = demo.portrait()
    (face, *_) = load_detector().find(portrait)
    for name in (AFFECT, "mien-xs"):
        model = load(name)
        crop = prepare(portrait, face, model.card.pixels).astype(np.float32)
        lights = [
            np.clip(crop * (0.8 + 0.003 * i), 0, 255).round().astype(np.uint8) for i in range(150)
        ]
        scores = model.score_prepared(lights)
        assert len(np.unique(scores["va"][:, 0])) > 140
        assert len(np.unique(scores["au"][:, model.tasks[2].names.index("AU12")])) > 140
