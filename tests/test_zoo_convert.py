"""Published networks become bundles' networks, and their .pt files weights to start training from.

They give the same numbers, or a clear error.
"""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from torch import nn
from zoo_forms import mobilefacenet, network, onnx_bytes, pt_file

from mien.bundles.engines import available, import_onnxruntime, open_engine
from mien.bundles.gate import inspect
from mien.bundles.store import open_bundle
from mien.errors import BundleError, UnknownNameError
from mien.tasks import TASKS, Task
from mien.train.networks.checkpoints.transplant import parity, save, transplant
from mien.train.networks.network import MultiTaskNet
from mien.train.settings.network import NetworkSettings
from mien.zoo.index import Output
from mien.zoo.onnx_split import split
from mien.zoo.pickles import read_pt, tensors
from mien.zoo.yunet import luma_grid

AFFECT8, VA = TASKS["expr.affectnet8"], TASKS["va"]
EIGHT = [(AFFECT8, slice(0, 8))]
TEN = [(AFFECT8, slice(0, 8)), (VA, [8, 9])]
ENGINES = available()

# Name: the network, the side of its crops, and its tasks.
FORMS = {
    "b0": (lambda: network(size=64), 64, EIGHT),
    "b0-va": (lambda: network(outputs=10, size=64), 64, TEN),
    "mobilevit": (lambda: network("mobilevit_s", 10, 64), 64, TEN),
    "mobilefacenet": (mobilefacenet, 112, TEN),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small networks gain nothing from more, and lose much where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(size: int, count: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, size, size)).astype(np.float32)


def original(content: bytes, images: np.ndarray) -> np.ndarray:
    """What the published file itself answers, one picture at a time, asked as its users ask."""
    session = import_onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": image[None]})[0] for image in images])


def outputs(content: bytes) -> dict[str, tuple[str, int]]:
    return {
        one.name: (
            one.type.tensor_type.shape.dim[0].dim_param,
            one.type.tensor_type.shape.dim[1].dim_value,
        )
        for one in onnx.load_from_string(content).graph.output
    }


# -- ONNX files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "free"),
    [
        ("b0", True),
        ("b0-va", True),
        ("b0-va", False),
        ("mobilevit", True),
        ("mobilevit", False),
        ("mobilefacenet", True),
        ("mobilefacenet", False),
    ],
)
def test_the_split_network_answers_as_the_published_one(form, free):
    make, size, tasks = FORMS[form]
    content = onnx_bytes(make(), size, free_batch=free)
    made = split(content, tasks)
    images = noise(size)
    expected = original(content, images)
    assert expected.std(axis=0).min() > 1e-3  # it does depend on the picture
    names = [task.family for task, _ in tasks]
    assert list(outputs(made)) == [*names, "features"]
    assert [axis for axis, _ in outputs(made).values()] == ["batch"] * (len(names) + 1)
    assert [one.name for one in onnx.load_from_string(made).graph.input] == ["image"]
    for engine in ENGINES if free else ["onnxruntime"]:
        *raw, features = open_engine(made, engine).run(images)
        near = 1e-5 * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(
            np.concatenate(raw, axis=1),
            expected,
            atol=near if engine == "onnxruntime" else 10 * near,
        )
        with torch.no_grad():
            net = make()
            pooled = (
                net.forward_head(net.forward_features(torch.from_numpy(images)), pre_logits=True)
                if form != "mobilefacenet"
                else None
            )
        if pooled is not None:
            np.testing.assert_allclose(
                features, pooled.numpy(), atol=1e-4 * max(1.0, float(pooled.abs().max()))
            )


def test_labels_go_by_name():
    content = onnx_bytes(network(outputs=10, size=64), 64)
    images, theirs = noise(64), (*AFFECT8.names, *VA.names)
    turned = Task("va.turned", ("arousal", "valence"), "scalar", low=-1.0)
    tasks = [
        (turned, turned.column_index(theirs)),
        (TASKS["expr.lsd6"], TASKS["expr.lsd6"].column_index(theirs)),
    ]
    va, expr, _ = open_engine(split(content, tasks), "onnxruntime").run(images)
    expected = original(content, images)
    np.testing.assert_allclose(va, expected[:, [9, 8]], atol=1e-4)
    np.testing.assert_allclose(expr, expected[:, [0, 2, 3, 4, 6, 7]], atol=1e-4)
    assert (
        np.abs(VA.decode(expected[:, 8:] * 100)).max() <= 1
    )  # the reason why the graph itself does not clip


@pytest.mark.parametrize(("opset", "keep"), [(11, True), (17, False)])
def test_older_and_newer_files(opset, keep):
    content = onnx_bytes(mobilefacenet(), 112, opset=opset, keep_inputs=keep)
    assert (len(onnx.load_from_string(content).graph.input) > 1) == keep
    made = split(content, TEN, size=112)
    assert [one.name for one in onnx.load_from_string(made).graph.input] == ["image"]
    np.testing.assert_allclose(
        np.concatenate(open_engine(made, "onnxruntime").run(noise(112))[:2], axis=1),
        original(content, noise(112)),
        atol=1e-4,
    )


def test_features_alone_and_the_same_bytes_each_time():
    content = onnx_bytes(mobilefacenet(), 112)
    assert outputs(split(content, [])) == {"features": ("batch", 512)}
    assert split(content, TEN) == split(content, TEN)


def graph(
    last: list,
    arrays: dict[str, np.ndarray],
    *,
    shape=("n", 3, 8, 8),
    out: str = "y",
    names: str = "pooled",
    **more,
) -> onnx.ModelProto:
    """A small network: mean over the pixels, then `last`."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
        helper.make_node("Flatten", ["mean"], [names], axis=1),
        *last,
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, ("n", "k"))],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", 13), *more.pop("opsets", [])],
        ir_version=8,
        **more,
    )


RNG = np.random.default_rng(3)
W, B = RNG.normal(size=(2, 3)).astype(np.float32), RNG.normal(size=2).astype(np.float32)
ONLY_VA = [(VA, [0, 1])]


@pytest.mark.parametrize(
    ("last", "arrays", "expected"),
    [
        (
            [helper.make_node("Gemm", ["pooled", "w", "b"], ["y"], transB=1)],
            {"w": W, "b": B},
            lambda x: x @ W.T + B,
        ),
        ([helper.make_node("Gemm", ["pooled", "w"], ["y"], transB=1)], {"w": W}, lambda x: x @ W.T),
        (
            [helper.make_node("Gemm", ["pooled", "w", "b"], ["y"], alpha=2.0, beta=0.5)],
            {"w": W.T.copy(), "b": B},
            lambda x: 2 * x @ W.T + B / 2,
        ),
        (
            [
                helper.make_node("MatMul", ["pooled", "w"], ["xw"]),
                helper.make_node("Add", ["b", "xw"], ["y"]),
            ],
            {"w": W.T.copy(), "b": B},
            lambda x: x @ W.T + B,
        ),
        (
            [helper.make_node("MatMul", ["pooled", "w"], ["y"])],
            {"w": W.T.copy()},
            lambda x: x @ W.T,
        ),
        (
            [
                helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W)),
                helper.make_node("Identity", ["w"], ["v"]),
                helper.make_node("Gemm", ["pooled", "v", "b"], ["y"], transB=1),
            ],
            {"b": B},
            lambda x: x @ W.T + B,
        ),
    ],
    ids=["gemm", "no-bias", "scaled", "matmul-add", "matmul", "constant"],
)
def test_a_linear_layer_in_each_of_its_forms(last, arrays, expected):
    images = noise(8)
    va, features = open_engine(
        split(graph(last, arrays).SerializeToString(), ONLY_VA), "onnxruntime"
    ).run(images)
    np.testing.assert_allclose(features, images.mean(axis=(2, 3)), atol=1e-6)
    np.testing.assert_allclose(va, expected(images.mean(axis=(2, 3))), atol=1e-5)


GEMM = [helper.make_node("Gemm", ["pooled", "w", "b"], ["y"], transB=1)]
LAST = {"w": W, "b": B}


def test_names_that_are_taken_already():
    last = [helper.make_node("Gemm", ["image", "features", "va"], ["expr"], transB=1)]
    made = split(
        graph(last, {"features": W, "va": B}, out="expr", names="image").SerializeToString(),
        ONLY_VA,
    )
    images = noise(8)
    np.testing.assert_allclose(
        open_engine(made, "onnxruntime").run(images)[0],
        images.mean(axis=(2, 3)) @ W.T + B,
        atol=1e-5,
    )


def external() -> bytes:
    model = graph(GEMM, LAST)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    return model.SerializeToString()


def external_constant() -> bytes:
    tensor = numpy_helper.from_array(W)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    return graph([node, *GEMM], {"b": B}).SerializeToString()


def two_outputs() -> bytes:
    model = graph(GEMM, LAST)
    model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ("n", 3)))
    return model.SerializeToString()


def branch() -> bytes:
    inner = helper.make_graph(
        GEMM, "then", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", "k"))]
    )
    node = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
    return graph([node], {**LAST, "yes": np.array(True)}).SerializeToString()


def custom() -> bytes:
    node = helper.make_node("Evil", ["pooled"], ["z"], domain="com.evil")
    last = helper.make_node("Gemm", ["z", "w", "b"], ["y"], transB=1)
    return graph(
        [node, last], LAST, opsets=[helper.make_opsetid("com.evil", 1)]
    ).SerializeToString()


def bytes_of(last: list, arrays: dict[str, np.ndarray], **more) -> bytes:
    return graph(last, arrays, **more).SerializeToString()


SOFT = [
    helper.make_node("Gemm", ["pooled", "w", "b"], ["z"], transB=1),
    helper.make_node("Softmax", ["z"], ["y"], axis=1),
]
REFUSED = {
    "text": (lambda: b"<html>rate limit</html>", "is no ONNX file"),
    "empty": (lambda: b"", "is no ONNX file"),
    "cut off": (lambda: bytes_of(GEMM, LAST)[:-40], "is no ONNX file"),
    "softmax": (lambda: bytes_of(SOFT, LAST), "ends in Softmax, not in a linear layer"),
    "no linear layer": (
        lambda: bytes_of([helper.make_node("Relu", ["pooled"], ["y"])], {}),
        "ends in Relu, not in a linear layer",
    ),
    "an add alone": (
        lambda: bytes_of([helper.make_node("Add", ["pooled", "b"], ["y"])], {"b": W[0]}),
        "ends in Add, not in a linear",
    ),
    "weights made": (
        lambda: bytes_of([helper.make_node("Relu", ["v"], ["w"]), *GEMM], {"v": W, "b": B}),
        "ends in Gemm, not in a linear layer",
    ),
    "several outputs": (two_outputs, "has 2 outputs"),
    "weights elsewhere": (external, "reads other files, which hold its weights"),
    "constants elsewhere": (external_constant, "reads other files, which hold its weights"),
    "custom operations": (custom, "uses operations beyond the standard ones (of com.evil)"),
    "branches": (branch, "holds functions, branches or loops"),
    "no such operation": (
        lambda: bytes_of([helper.make_node("Evil", ["pooled"], ["y"])], {}),
        "is not valid ONNX",
    ),
    "grey": (
        lambda: bytes_of(GEMM, {"w": W[:, :1].copy(), "b": B}, shape=("n", 1, 8, 8)),
        "does not read colour pictures",
    ),
    "no square": (lambda: bytes_of(GEMM, LAST, shape=("n", 3, 8, 9)), "reads pictures of 9x8 px"),
    "open size": (
        lambda: bytes_of(GEMM, LAST, shape=("n", 3, "h", "w")),
        "reads pictures of anyxany px",
    ),
    "wrong widths": (
        lambda: bytes_of(GEMM, {"w": W[:, :2].copy(), "b": B}),
        "does not take (1, 3, 8, 8)",
    ),
}
ENDINGS = (
    "only ONNX files with one output that a linear layer gives can be split",
    "do not use it",
    "get it again from where it came",
)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_network_of_another_form_is_refused_in_one_line(kind):
    make, why = REFUSED[kind]
    with pytest.raises(BundleError) as caught:
        split(make(), ONLY_VA)
    assert str(caught.value).startswith(f"the network {why}")
    assert str(caught.value).endswith(ENDINGS)
    assert "\n" not in str(caught.value)


def test_random_changes_end_in_a_clear_line_or_in_a_network():
    content, made = bytes_of(GEMM, LAST, shape=(1, 3, 8, 8)), np.random.default_rng(0)
    lines: list[str] = []
    for _ in range(150):
        changed = bytearray(content)
        for place in made.integers(len(changed), size=made.integers(1, 4)):
            changed[place] = made.integers(256)
        try:
            assert outputs(split(bytes(changed), ONLY_VA))
        except BundleError as error:
            lines.append(str(error))
    assert len(lines) > 75
    assert not [line for line in lines if "\n" in line]


# What an attacker would build: the nodes between the mean and the last layer, which has to read
# `x`, and constants.
EXPANDED = helper.make_node("Expand", ["pooled", "n"], ["x"])
HUGE = {
    "a constant": (
        [helper.make_node("ConstantOfShape", ["n"], ["x"])],
        {"n": np.array([2_000_000_000])},
    ),
    "a range": (
        [helper.make_node("Range", ["zero", "n", "one"], ["x"])],
        {"n": np.array(2**40), "zero": np.array(0), "one": np.array(1)},
    ),
    "copies": ([helper.make_node("Tile", ["pooled", "n"], ["x"])], {"n": np.array([2**20, 2**20])}),
    "a larger shape": ([EXPANDED], {"n": np.array([2**40, 3])}),
    "a shape that is worked out": (
        [helper.make_node("Mul", ["m", "m"], ["n"]), EXPANDED],
        {"m": np.array([2**20, 1])},
    ),
    "chance": ([helper.make_node("RandomNormal", [], ["x"], shape=[2**20, 2**20])], {}),
    "padding": (
        [helper.make_node("Pad", ["pooled", "n"], ["x"])],
        {"n": np.array([0, 0, 0, 2**40])},
    ),
    "twice as much, again and again": (
        [helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(40)],
        {"c0": np.zeros(2)},
    ),
    "shapes that grow": (
        [
            helper.make_node("Shape", ["pooled"], ["c0"]),
            *(helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(40)),
        ],
        {},
    ),
    "much in many steps": (
        [helper.make_node("Expand", ["pooled", "n"], [f"x{i}"]) for i in range(40)],
        {"n": np.array([2**24, 1])},
    ),
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_network_that_would_fill_the_memory_is_refused_before_it_runs(kind):
    nodes, arrays = HUGE[kind]
    with pytest.raises(
        BundleError,
        match="the network works out more than 536870912 numbers for one picture; do not use it",
    ):
        split(bytes_of([*nodes, *GEMM], {**LAST, **arrays}), ONLY_VA)


def test_a_network_whose_need_depends_on_the_picture_is_refused():
    nodes = [
        helper.make_node("NonZero", ["pooled"], ["found"]),
        helper.make_node("Shape", ["found"], ["n"]),
        EXPANDED,
    ]
    with pytest.raises(
        BundleError, match="does not say before it runs how much NonZero gives; do not use it"
    ):
        split(bytes_of([*nodes, *GEMM], LAST), ONLY_VA)


def loop() -> onnx.ModelProto:
    state = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("on", "still")]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("v", "w2")]
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Sin", ["v"], ["w2"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), state[0], value[0]],
        [state[1], value[1]],
    )
    node = helper.make_node("Loop", ["turns", "yes", "pooled"], ["y"], body=body)
    return graph([node], {"turns": np.array(2**62), "yes": np.array(True)})


def elsewhere() -> TensorProto:
    tensor = TensorProto(
        name="c", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value="secret.bin")
    return tensor


def reading_function() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=elsewhere()),
        helper.make_node("Add", ["x", "c"], ["z"]),
    ]
    model = graph([*GEMM, helper.make_node("Identity", ["y"], ["y2"])], LAST)
    model.functions.append(
        helper.make_function("", "Read", ["x"], ["z"], nodes, [helper.make_opsetid("", 13)])
    )
    return model


def reading_sparse() -> onnx.ModelProto:
    sparse = onnx.SparseTensorProto(
        values=elsewhere(), indices=numpy_helper.from_array(np.array([0, 1])), dims=[9]
    )
    return graph([helper.make_node("Constant", [], ["c"], sparse_value=sparse), *GEMM], LAST)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (loop, "functions, branches or loops"),
        (reading_function, "functions, branches or loops"),
        (reading_sparse, "reads other files"),
        (lambda: onnx.load_model_from_string(custom()), "beyond the standard ones"),
    ],
)
def test_every_way_in_looks_at_the_network_first(make, why):
    """Where a bundle is added or verified, where it is pulled, and where a face finder is."""
    ways = (
        lambda content: inspect(open_bundle("mien-s").card, content),
        luma_grid,
        lambda content: split(content, ONLY_VA),
    )
    for way in ways:
        with pytest.raises(BundleError, match=f"the network .*{why}.*; do not use it$"):
            way(make().SerializeToString())


def test_a_network_that_does_not_take_what_its_card_says():
    with pytest.raises(
        BundleError,
        match=r"mien-s: the network does not take \(1, 1, 112, 112\), or is not valid ONNX",
    ):
        inspect(open_bundle("mien-s").card, bytes_of(GEMM, LAST))
    model = graph(GEMM, LAST)
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, (1,)))
    with pytest.raises(BundleError, match="mien-s: the network has 2 inputs; do not use it"):
        inspect(open_bundle("mien-s").card, model.SerializeToString())


@pytest.mark.parametrize("name", ["mien-s", "mien-face"])
def test_what_comes_with_mien_passes(name):
    bundle = open_bundle(name)
    inspect(bundle.card, bundle.network())


def test_an_entry_of_the_index_keeps_the_order_of_labels():
    facts = {
        "key": "va",
        "kind": "scalar",
        "low": -1.0,
        "high": 1.0,
        "supervised_by": "x",
        "columns": (0, 1),
    }
    assert Output(**facts, names=VA.names).task == VA
    with pytest.raises(
        ValidationError, match="names: va has valence, arousal, not arousal, valence"
    ):
        Output(**facts, names=VA.names[::-1])


def test_the_size_is_asked_for_and_checked():
    free, fixed = (bytes_of(GEMM, LAST, shape=("n", 3, *sides)) for sides in (("h", "w"), (8, 8)))
    for content in (free, fixed):
        assert outputs(split(content, ONLY_VA, size=8)) == {
            "va": ("batch", 2),
            "features": ("batch", 3),
        }
    with pytest.raises(BundleError, match="reads pictures of 8x8 px, not 16x16"):
        split(fixed, ONLY_VA, size=16)


@pytest.mark.parametrize("columns", [[0], [0, 0], [0, 2], [-1, 0], slice(0, 1), slice(0, 9)])
def test_columns_that_do_not_fit(columns):
    good = columns == slice(0, 9)  # cut short to the two that there are
    if good:
        split(bytes_of(GEMM, LAST), [(VA, columns)])
        return
    with pytest.raises(ValueError, match="va needs 2 columns of the network's 2, got"):
        split(bytes_of(GEMM, LAST), [(VA, columns)])
    with pytest.raises(ValueError, match="one comes twice: va, va"):
        split(bytes_of(GEMM, LAST), [(VA, [0, 1]), (VA, [1, 0])])


# -- .pt files -------------------------------------------------------------------------------------

ARCHITECTURES = {
    "b0": "tf_efficientnet_b0",
    "b0-va": "tf_efficientnet_b0",
    "mobilevit": "mobilevit_s",
    "mobilefacenet": "mobilefacenet",
}


@pytest.mark.parametrize(
    ("form", "whole"),
    [("b0", True), ("b0-va", False), ("mobilevit", True), ("mobilefacenet", True)],
)
def test_a_pt_file_becomes_a_network_to_train_on(form, whole, tmp_path):
    make, size, tasks = FORMS[form]
    net = make()
    read = tensors(read_pt(pt_file(net, tmp_path / "net.pt", whole=whole)))
    lifted = transplant(read, ARCHITECTURES[form], tasks, size)
    images = torch.from_numpy(noise(size))
    with torch.no_grad():
        expected = net(images).numpy()
        outputs = torch.cat(lifted(images), dim=1).numpy()
    np.testing.assert_allclose(outputs, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))
    assert parity(lifted, split(onnx_bytes(net, size), tasks), size) < 1e-4

    save(lifted, tmp_path / "net.safetensors")
    started = MultiTaskNet(
        NetworkSettings(backbone=ARCHITECTURES[form], start=tmp_path / "net.safetensors"),
        [VA],
        3,
        size,
    ).eval()
    assert not started.started.fresh
    assert not started.started.unused
    with torch.no_grad():
        np.testing.assert_array_equal(
            started.features(images).numpy(), lifted.features(images).numpy()
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pt", "net.safetensors"]


def test_the_larger_mobilefacenet(tmp_path):
    net = mobilefacenet(large=True)
    lifted = transplant(
        tensors(read_pt(pt_file(net, tmp_path / "net.pt"))), "mobilefacenet-large", TEN
    )
    with torch.no_grad():
        images = torch.from_numpy(noise(112, 2))
        np.testing.assert_allclose(
            torch.cat(lifted(images), dim=1).numpy(), net(images).numpy(), atol=1e-4
        )


def b0() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network(size=64).state_dict().items()}


def test_weights_without_a_last_layer_start_a_backbone():
    backbone = {name: tensor for name, tensor in b0().items() if not name.startswith("classifier")}
    lifted = transplant(backbone, "tf_efficientnet_b0", [])
    assert len(lifted.heads) == 0
    np.testing.assert_array_equal(
        lifted.backbone.conv_head.weight.detach().numpy(), backbone["conv_head.weight"]
    )
    with pytest.raises(BundleError, match=r"missing: classifier.weight, classifier.bias; name the"):
        transplant(backbone, "tf_efficientnet_b0", EIGHT)
    with pytest.raises(
        BundleError, match=r"left over: classifier.weight, classifier.bias; name the"
    ):
        transplant(b0(), "tf_efficientnet_b0", [])


def test_counters_of_batch_norm_may_be_missing_and_nothing_else():
    def stands(name: str) -> bool:
        return name.startswith(("conv_stem", "blocks.3.1.se", "bn2")) and not name.endswith(
            "num_batches_tracked"
        )

    without = {
        name: tensor for name, tensor in b0().items() if not name.endswith("num_batches_tracked")
    }
    assert (
        transplant(without, "tf_efficientnet_b0", EIGHT).backbone.bn1.num_batches_tracked.item()
        == 0
    )
    for name in filter(stands, b0()):
        with pytest.raises(BundleError) as caught:
            transplant(
                {key: tensor for key, tensor in b0().items() if key != name},
                "tf_efficientnet_b0",
                EIGHT,
            )
        assert f"missing: {name}; name the architecture" in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "change", "why"),
    [
        (
            "tf_efficientnet_b0",
            {"extra.weight": np.zeros(1, np.float32)},
            "left over: extra.weight; name",
        ),
        (
            "tf_efficientnet_b0",
            {"bn1.weight": np.zeros(31, np.float32)},
            "of another shape: bn1.weight (31,) for (32,); name",
        ),
        (
            "tf_efficientnet_b0",
            {"classifier.0.bias": np.zeros(7, np.float32)},
            "of another shape: classifier.bias (7,) for (8,); name",
        ),
        (
            "tf_efficientnet_b0",
            {"classifier.0.weight": np.float32(1)},
            "of another shape: classifier.weight () for (1, 1280), ",
        ),
        (
            "tf_efficientnet_b2",
            {},
            "do not fit tf_efficientnet_b2: missing: blocks.0.1.conv_dw.weight, ",
        ),
        (
            "mobilefacenet",
            {},
            "do not fit mobilefacenet: missing: trunk.0.0.weight, trunk.0.1.weight, "
            "trunk.0.1.bias and ",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(architecture, change, why):
    with pytest.raises(BundleError) as caught:
        transplant({**b0(), **change}, architecture, EIGHT)
    assert why in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        (
            "bn1.weight",
            lambda tensor: tensor * np.float32(np.nan),
            "bn1.weight (not finite in float32); download",
        ),
        (
            "bn1.running_var",
            lambda tensor: tensor.astype(np.float64) + 1e39,
            "bn1.running_var (not finite in float32); download",
        ),
        (
            "conv_stem.weight",
            lambda tensor: tensor > 0,
            "conv_stem.weight (bool for floats); download",
        ),
        (
            "classifier.0.weight",
            lambda tensor: tensor.astype(np.int64),
            "classifier.weight (int64 for floats); download",
        ),
        (
            "bn1.num_batches_tracked",
            lambda tensor: tensor.astype(np.float32),
            "bn1.num_batches_tracked (float32 for integers); download",
        ),
    ],
)
def test_weights_that_are_no_numbers_to_train_on_from(name, change, why):
    with pytest.raises(BundleError) as caught:
        transplant({**b0(), name: change(b0()[name])}, "tf_efficientnet_b0", EIGHT)
    assert str(caught.value).startswith(f"these weights are not numbers to train on from: {why}")
    assert "\n" not in str(caught.value)


def test_other_widths_of_numbers_are_good():
    other = {
        name: tensor.astype(np.int32 if name.endswith("tracked") else np.float16)
        for name, tensor in b0().items()
    }
    lifted = transplant(other, "tf_efficientnet_b0", EIGHT)
    np.testing.assert_array_equal(
        lifted.backbone.conv_stem.weight.detach().numpy(),
        other["conv_stem.weight"].astype(np.float32),
    )


def test_two_tensors_of_one_name():
    twice = {**b0(), "classifier.weight": np.zeros((8, 1280), np.float32)}
    with pytest.raises(BundleError, match="two tensors go by one name"):
        transplant(twice, "tf_efficientnet_b0", EIGHT)


def test_unknown_architectures_and_columns():
    with pytest.raises(UnknownNameError, match="did you mean tf_efficientnet_b0"):
        transplant(b0(), "tf_efficientnet_b0_ns", EIGHT)
    with pytest.raises(
        ValueError, match=r"expr.affectnet8 needs 8 columns of the network's 8, got"
    ):
        transplant(b0(), "tf_efficientnet_b0", [(AFFECT8, range(1, 9))])


def test_another_networks_onnx_file_is_noticed():
    lifted = transplant(b0(), "tf_efficientnet_b0", EIGHT)
    content = onnx_bytes(network(size=64), 64)
    assert parity(lifted, split(content, EIGHT), 64) < 1e-4
    with pytest.raises(BundleError, match=r"differ by .*; they are not the same network"):
        parity(lifted, split(content, [(AFFECT8, [1, 0, 2, 3, 4, 5, 6, 7])]), 64)
    with pytest.raises(BundleError, match=r"widths \[8, 1280\], the ONNX file \[8, 2, 1280\]"):
        parity(lifted, split(onnx_bytes(network(outputs=10, size=64), 64), TEN), 64)


def test_a_padded_otherwise_network_is_noticed():
    """The same tensors fit efficientnet_b0, which pads and normalises in another way."""
    lifted = transplant(b0(), "efficientnet_b0", EIGHT)
    assert isinstance(lifted.backbone.conv_stem, nn.Conv2d)
    with pytest.raises(BundleError, match="differ by"):
        parity(lifted, split(onnx_bytes(network(size=64), 64), EIGHT), 64)
