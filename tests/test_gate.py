"""Nothing that a bundle brings is opened or run before it has passed the one gate."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import hostile
import numpy as np
import onnx
import pytest
from hostile import bundle, card, multiply, network
from onnx import TensorProto, helper
from typer.testing import CliRunner

from mien import demo
from mien.bundles import gate, graph
from mien.bundles.engines import available
from mien.bundles.gate import inspect, interruptible
from mien.bundles.store import AFFECT, FACES, bundles, load, load_detector, open_bundle, read_bundle
from mien.cli import app
from mien.errors import BundleError, DataError, MienError
from mien.zoo import add, verify

UNIX = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have names")
WAYS = {"load": load, "detector": load_detector, "read": read_bundle, "add": add, "verify": verify}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def one(operation: str, **facts: object) -> onnx.ModelProto:
    return network([helper.make_node(operation, ["image"], ["y"], **facts)])


def sound() -> onnx.ModelProto:
    return one("Identity")


def test_a_sound_network_passes_every_way(tmp_path):
    folder = bundle(tmp_path / "b", sound().SerializeToString())
    assert load(folder).score([np.full((112, 112, 3), 200, np.uint8)])["va"].shape == (1, 2)
    assert add(folder) == ["hostile"]
    assert verify("hostile") == "hostile"


# kinds and sizes of files


def replaced(folder: Path, name: str, kind: str) -> Path:
    """Something else in the place of a bundle's file."""
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.path.relpath(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as target:
            target.truncate(40_000_000_000)
    elif kind == "round":
        path.symlink_to(path)
    else:
        path.symlink_to(kind)
    return folder


@UNIX
@pytest.mark.parametrize(
    "kind", ["pipe", "socket", "folder", "sparse", "round", "/dev/zero", "/dev/tty", "/nowhere"]
)
@pytest.mark.parametrize("name", ["card.json", "model.onnx"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_file_or_too_large_is_refused_by_name_and_never_read(
    way, name, kind, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # sockets have short names only
    folder = replaced(bundle(tmp_path / "b", sound().SerializeToString()), name, kind)
    with pytest.raises(BundleError, match=name) as caught:
        WAYS[way](folder)
    assert str(caught.value).isprintable()


@UNIX
def test_a_link_to_a_file_is_followed(tmp_path):
    folder = bundle(tmp_path / "b", sound().SerializeToString())
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert load(linked).card.name == "hostile"


def test_the_sizes_that_files_may_have():
    assert gate.MOST_BYTES == {"card.json": 4 << 20, "README.md": 4 << 20, "model.onnx": 1 << 30}


# graphs


def loop() -> onnx.ModelProto:
    state = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("on", "still")]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("v", "w")]
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Sin", ["v"], ["w"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), state[0], value[0]],
        [state[1], value[1]],
    )
    node = helper.make_node("Loop", ["turns", "yes", "image"], ["y"], body=body)
    return network([node], {"turns": np.array(10**9), "yes": np.array(True)})


def nested(depth: int = 200) -> onnx.ModelProto:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["y"])],
        "leaf",
        [],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    for _ in range(depth):
        node = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph(
            [node], "branch", [], [helper.make_tensor_value_info("y", 1, None)]
        )
        if len(inner.SerializeToString()) > 100_000:
            break
    return network(
        [helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)],
        {"yes": np.array(True)},
    )


def elsewhere() -> onnx.ModelProto:
    model = network(
        [helper.make_node("Mul", ["image", "c"], ["y"])], {"c": np.zeros(1, np.float32)}
    )
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return model


def chain(count: int) -> onnx.ModelProto:
    names = ["image", *(f"y{i}" for i in range(count))]
    return network([helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)], ends=names[-1])


def hollow() -> onnx.ModelProto:
    """An array of 2^40 numbers and no bytes."""
    model = network([helper.make_node("Mul", ["image", "c"], ["y"])])
    model.graph.initializer.append(
        TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1 << 20, 1 << 20])
    )
    return model


def recurrent() -> onnx.ModelProto:
    arrays = {
        "sides": np.array([2**21, 1, 1]),
        "w": np.ones((1, 400, 1), np.float32),
        "r": np.ones((1, 400, 100), np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["all", "three"], ["x0"]),
        helper.make_node("Expand", ["x0", "sides"], ["x"]),
        helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=100),
    ]
    return network(
        [helper.make_node("ReduceMean", ["image"], ["all"]), *nodes],
        {**arrays, "three": np.array([1, 1, 1])},
    )


def einsum() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Expand", ["thin", "sides"], ["x"]),
        helper.make_node("Einsum", ["x", "x", "x"], ["y"], equation="ij,kl,mn->im"),
    ]
    return network(nodes, {"thin": np.ones((200, 1), np.float32), "sides": np.array([200, 200])})


def pooled() -> onnx.ModelProto:
    pads = [100, 100, 100, 100]
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[201, 201], pads=pads)
    return network(
        [helper.make_node("Tile", ["image", "many"], ["x"]), node],
        {"many": np.array([1, 120, 1, 1])},
    )


HOSTILE = {
    "a loop of 10^9": (loop, "functions, branches or loops"),
    "branches in branches": (nested, "functions, branches or loops"),
    "weights elsewhere": (elsewhere, "reads other files"),
    "20,000 operations": (lambda: chain(20_000), "has 20005 operations"),
    "3e12 operations": (
        lambda: multiply(1, 15_000),
        "asks for more than 5e[+]10 multiply-accumulates",
    ),
    "many products": (lambda: multiply(3), "asks for more than 5e[+]10"),
    "numbers without bytes": (hollow, "more numbers than it has room for"),
    "many steps": (recurrent, "asks for more than 5e[+]10"),
    "all with all": (einsum, "asks for more than 5e[+]10"),
    "a wide window": (pooled, "asks for more than 5e[+]10"),
    "another maker's operation": (
        lambda: one("Gelu", domain="com.microsoft"),
        "beyond the standard",
    ),
    "work that is not known": (lambda: one("Det"), "uses Det, whose amount of work is not known"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("way", ["load", "add", "verify"])
def test_a_hostile_network_is_refused_before_an_engine_sees_it(way, kind, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("an engine was given the network")

    monkeypatch.setattr("mien.bundles.store.open_engine", refuse)
    make, why = HOSTILE[kind]
    folder = bundle(tmp_path / "b", make().SerializeToString())
    with pytest.raises(BundleError, match=f"hostile: the network .*{why}"):
        WAYS[way](folder)


def test_weights_elsewhere_are_not_read_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "weights.bin").write_bytes(np.ones(1, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    folder = bundle(tmp_path / "b", elsewhere().SerializeToString())
    (folder / "weights.bin").write_bytes(np.ones(1, np.float32).tobytes())
    for engine in available():
        with pytest.raises(BundleError, match="reads other files"):
            load(folder, engine)


@pytest.mark.parametrize("name", [AFFECT, FACES])
def test_what_comes_with_mien_passes_and_asks_for_little(name):
    found = open_bundle(name)
    need = inspect(found.card, found.network())
    assert 1e6 < need.work < 5e9
    assert need.numbers < graph.MOST_NUMBERS / 4


def test_the_work_of_a_convolution_is_what_its_formula_says():
    """16 filters of 3x3 on one channel, then 8 of 5x5 in 4 groups of 4, strided.

    The rest of the network counts what it passes on.
    """
    arrays = {"w": np.ones((16, 1, 3, 3), np.float32), "v": np.ones((8, 4, 5, 5), np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "v"], ["y"], kernel_shape=[5, 5], strides=[2, 2], group=4),
    ]
    content = network(nodes, arrays).SerializeToString()
    need = inspect(
        gate.AffectCard.model_validate_json(json.dumps(card(content)), strict=True), content
    )
    assert (
        0 <= need.work - (112 * 112 * 16 * 9 + 54 * 54 * 8 * 4 * 25) < 112 * 112 + 54 * 54 * 8 + 100
    )


def test_a_bundle_is_inspected_once_for_all_its_loads(tmp_path, monkeypatch):
    folder = bundle(tmp_path / "b", sound().SerializeToString())
    load(folder)
    monkeypatch.setattr(graph, "checked", None)
    load(folder)
    other = bundle(tmp_path / "c", multiply(1, 8).SerializeToString())
    with pytest.raises(TypeError):
        load(other)


# being told to end


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_while_a_library_is_at_work(number):
    code = """
        import ctypes, sys
        from mien.bundles.gate import interruptible
        import typer
        from mien.cli.terminal import handle_errors
        try:
            with handle_errors():
                print("at work", flush=True)
                # As a library that does not return.
                interruptible(lambda: ctypes.CDLL(None).sleep(60))
        except typer.Exit as end:
            sys.exit(end.exit_code)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        time.sleep(0.2)
        run.send_signal(number)
        began = time.monotonic()
        _, told = run.communicate(timeout=30)
    assert time.monotonic() - began < 10  # on a busy machine
    assert run.returncode == 128 + number
    assert "mien: stopped" in told
    assert "Traceback" not in told


def test_what_is_waited_for_gives_its_result_and_its_error():
    assert interruptible(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)


# numbers that are none


def logarithm() -> onnx.ModelProto:
    """The logarithm of a mean: finite for grey and brighter pictures, NaN for darker ones."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["m"], axes=[1, 2, 3]),
        helper.make_node("Add", ["m", "c"], ["n"]),
        helper.make_node("Log", ["n"], ["y"]),
    ]
    return network(nodes, {"c": np.array([0.3], np.float32)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("engine", available())
def test_nan_and_infinity_are_found_out_on_loading(engine, value, tmp_path):
    folder = bundle(
        tmp_path / "b",
        network(
            [helper.make_node("Add", ["image", "c"], ["y"])], {"c": np.array([value], np.float32)}
        ).SerializeToString(),
    )
    with pytest.raises(BundleError, match="b: the network gives NaN or infinity"):
        load(folder, engine)
    with pytest.raises(BundleError, match="hostile: the network gives NaN or infinity"):
        add(folder)


def test_nan_while_scoring_names_the_bundle(tmp_path):
    model = load(bundle(tmp_path / "b", logarithm().SerializeToString()))
    assert np.isfinite(model.score([np.full((112, 112, 3), 255, np.uint8)])["va"]).all()
    for dark in (1, 70):
        with pytest.raises(
            BundleError,
            match="hostile: the network gives NaN or infinity, which are no scores; do not use it",
        ):
            model.score(
                [
                    *[np.full((112, 112, 3), 255, np.uint8)] * (dark - 1),
                    np.zeros((112, 112, 3), np.uint8),
                ]
            )


def test_a_job_whose_scores_are_no_numbers_fails_in_one_line(photo, tmp_path):
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["m"]),
        helper.make_node("Sub", ["c", "m"], ["n"]),
        helper.make_node("Log", ["n"], ["y"]),
    ]
    folder = bundle(
        tmp_path / "b", network(nodes, {"c": np.array([0.1], np.float32)}).SerializeToString()
    )
    result = CliRunner().invoke(
        app, ["analyze", str(photo), "--out", str(tmp_path / "out"), "--bundle", str(folder)]
    )
    assert result.exit_code == 1
    [line] = [line for line in result.output.splitlines() if "NaN" in line]
    assert "hostile: the network gives NaN or infinity" in line
    assert not [*(tmp_path / "out").glob("*.csv")]


def test_a_detector_that_gives_nan_is_found_out(tmp_path):
    source = bundles()[FACES]
    model = onnx.load_model(source / "model.onnx")
    [output] = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["before" if name == output.name else name for name in node.output]
    nodes = [
        helper.make_node("ReduceMax", [model.graph.input[0].name], ["brightest"], keepdims=0),
        helper.make_node("Neg", ["brightest"], ["darkest"]),
        helper.make_node("Add", ["darkest", "thirty"], ["left"]),
        helper.make_node("Log", ["left"], ["log"]),
        helper.make_node("Mul", ["log", "zero"], ["nothing"]),
        helper.make_node("Add", ["before", "nothing"], [output.name]),
    ]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(v, np.float32), n)
        for n, v in (("thirty", 30.0), ("zero", 0.0))
    )
    content = model.SerializeToString()
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content)
    facts = json.loads((source / "card.json").read_text(encoding="utf-8"))
    facts.update(name="hostile", sha256=hostile.hashlib.sha256(content).hexdigest())
    (folder / "card.json").write_text(json.dumps(facts))
    detector = load_detector(folder)
    with pytest.raises(BundleError, match="hostile: the network gives NaN or infinity"):
        detector.find(demo.portrait())


# cards


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('"name": "hostile"', "name: given twice"),
        ('"seed": 1, "made": {"seed": 2}', "made: given twice"),
        ('"licence": "mine", "licence": "yours"', "licence: given twice"),
    ],
)
def test_a_key_that_comes_twice_is_refused(text, why, tmp_path):
    folder = bundle(tmp_path / "b", sound().SerializeToString(), lambda c: c.update(licence="a"))
    path = folder / "card.json"
    path.write_text(
        "{"
        + text.replace('"seed": 1, "made": {"seed": 2}', '"made": {}')
        + ","
        + path.read_text().lstrip("{")
    )
    with pytest.raises(BundleError, match=rf"card\.json: {why}; keep one"):
        load(folder)


def test_a_key_that_comes_twice_in_an_entry_or_deep_in_a_card_is_refused(tmp_path):
    known = Path(gate.__file__).parent / "known"
    entry = sorted(known.glob("*.json"))[0].read_text(encoding="utf-8")
    (tmp_path / "mine.json").write_text(
        '{"summary": "other",' + entry.lstrip("{"), encoding="utf-8"
    )
    from mien.zoo import entry as read_entry

    with pytest.raises(BundleError, match=r"mine\.json: .*summary: given twice"):
        read_entry(tmp_path / "mine.json")
    folder = bundle(tmp_path / "b", sound().SerializeToString())
    path = folder / "card.json"
    path.write_text(
        path.read_text().replace('"kind": "scalar"', '"kind": "scalar", "kind": "scalar"')
    )
    with pytest.raises(BundleError, match=r"card\.json: kind: given twice"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: c.update(temperature={"va": 1e-300}), r"temperature\.va"),
        (lambda c: c.update(temperature={"va": 1e300}), r"temperature\.va"),
        (lambda c: c.update(tolerance=1e-300), "tolerance"),
        (lambda c: c.update(features=10**9), "features"),
        (lambda c: c["pixels"].update(std=[1e-300]), r"pixels\.std"),
        (lambda c: c["pixels"].update(mean=[1e300]), r"pixels\.mean"),
        (lambda c: c["pixels"].update(template=[[1e300, 0]] * 5), r"pixels\.template"),
        (lambda c: c["scores"][0].update(value=1e300), r"scores\.0\.value"),
        (lambda c: c["scores"][0].update(faces=-1), r"scores\.0\.faces"),
        (lambda c: c["made"].update(seed=10**400), r"made\.seed"),
        (lambda c: c.update(name="a" * 300), "name"),
        (lambda c: c.update(limits=[[[]]]), r"limits\.0"),
    ],
)
def test_numbers_of_a_card_are_sane(change, key, tmp_path):
    folder = bundle(tmp_path / "b", sound().SerializeToString(), change)
    with pytest.raises(BundleError, match=rf"card\.json: {key}") as caught:
        load(folder)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("deep", [2_000, 1_000_000])
def test_a_card_that_is_nested_without_end_is_refused(deep, opening, tmp_path):
    folder = bundle(tmp_path / "b", sound().SerializeToString())
    (folder / "card.json").write_text((opening * deep)[: 4 << 20])
    with pytest.raises(BundleError, match=r"card\.json"):
        load(folder)


# where bundles lie


@pytest.mark.parametrize(
    "place", ["~nosuchuser_/x", "/" + "a" * 300, "/dev/null/x", "{t}/" + "b" * 5000]
)
def test_what_comes_with_mien_needs_no_home(place, tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_HOME", place.format(t=tmp_path))
    assert {AFFECT, FACES} <= set(bundles())
    assert load(AFFECT).card.name == AFFECT
    with pytest.raises(MienError):
        load("nothing-of-that-name")
    with pytest.raises(MienError):
        add(bundle(tmp_path / "b", sound().SerializeToString()))


def test_a_home_of_nobody_is_told():
    from mien.documents import at_home

    with pytest.raises(
        DataError, match="MIEN_HOME: ~nosuchuser_/x: no home folder of that user is known"
    ):
        at_home("~nosuchuser_/x", "MIEN_HOME")
