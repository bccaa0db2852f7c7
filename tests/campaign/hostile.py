"""Bundles, settings, recipes and names that somebody made to do harm, or that went wrong on their way."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from campaign.verdicts import Verdict, environment, mien, refused, run
from mien.bundles.store import embedded
from mien.demo import portrait

LIMIT_S: Final = 90.0

# bundles -----------------------------------------------------------------------------------------------------------


def _model(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], outputs: Mapping[str, int]
) -> bytes:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 80, 80])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in outputs.items()
    ]
    graph = helper.make_graph(nodes, "g", [image], ends, constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()


def _like_the_card(outputs: Mapping[str, int], value: float) -> bytes:
    """A network with the outputs of a card, all of one value."""
    nodes, constants = (
        [helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0)],
        [],
    )
    nodes.append(helper.make_node("Unsqueeze", ["mean", "one"], ["column"]))
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    for name, width in outputs.items():
        constants.append(
            numpy_helper.from_array(np.full((1, width), value, np.float32), f"{name}_value")
        )
        nodes.append(helper.make_node("Add", ["column", f"{name}_value"], [name]))
    return _model(nodes, constants, outputs)


def _chain(outputs: Mapping[str, int], length: int) -> bytes:
    """So many nodes one after another."""
    model = onnx.load_from_string(_like_the_card(outputs, 0.0))
    before = "image"
    for number in range(length):
        model.graph.node.insert(number, helper.make_node("Abs", [before], [f"abs{number}"]))
        before = f"abs{number}"
    next(node for node in model.graph.node if node.op_type == "ReduceMean").input[0] = before
    return model.SerializeToString()


def _endless(outputs: Mapping[str, int]) -> bytes:
    """A loop of a thousand million rounds."""
    model = onnx.load_from_string(_like_the_card(outputs, 0.0))
    ends = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c_in", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x_in", TensorProto.FLOAT, None),
    ]  # fmt: skip
    outs = [
        helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None),
    ]
    steps = [
        helper.make_node("Identity", ["c_in"], ["c_out"]),
        helper.make_node("Sin", ["x_in"], ["x_out"]),
    ]
    body = helper.make_graph(steps, "body", ends, outs)
    model.graph.initializer.extend([
        numpy_helper.from_array(np.array(10**9, np.int64), "rounds"), numpy_helper.from_array(np.array(True), "go"),
    ])  # fmt: skip
    model.graph.node.insert(
        0, helper.make_node("Loop", ["rounds", "go", "image"], ["looped"], body=body)
    )
    next(node for node in model.graph.node if node.op_type == "ReduceMean").input[0] = "looped"
    return model.SerializeToString()


def _huge_work(outputs: Mapping[str, int]) -> bytes:
    """Products of matrices that would take hours."""
    model = onnx.load_from_string(_like_the_card(outputs, 0.0))
    shape = numpy_helper.from_array(np.array([20_000, 20_000], np.int64), "big_shape")
    model.graph.initializer.append(shape)
    zero = numpy_helper.from_array(np.zeros(1, np.float32))
    model.graph.node.insert(
        0, helper.make_node("ConstantOfShape", ["big_shape"], ["big"], value=zero)
    )
    model.graph.node.insert(1, helper.make_node("MatMul", ["big", "big"], ["product"]))
    model.graph.node.insert(2, helper.make_node("ReduceMean", ["product"], ["number"], keepdims=0))
    model.graph.node.insert(3, helper.make_node("Add", ["image", "number"], ["more"]))
    next(node for node in model.graph.node if list(node.output) == ["mean"]).input[0] = "more"
    return model.SerializeToString()


def _outside(outputs: Mapping[str, int]) -> bytes:
    """Weights that lie in another file, named by a path."""
    model = onnx.load_from_string(_like_the_card(outputs, 0.0))
    tensor = model.graph.initializer[-1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (
        ("location", "../../../../etc/passwd"),
        ("offset", "0"),
        ("length", str(4 * tensor.dims[-1])),
    ):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(40 << 30)


def _card(**changes: Any) -> Callable[[dict[str, Any]], str]:
    return lambda card: json.dumps(card | changes)


def _doubled(card: dict[str, Any]) -> str:
    return json.dumps(card)[:-1] + ', "name": "mien-xs"}'


def _temperature(value: object) -> Callable[[dict[str, Any]], str]:
    return lambda card: json.dumps(
        card | {"temperature": dict.fromkeys(card["temperature"], value)}
    )


NETWORKS: Final[Mapping[str, Callable[[Mapping[str, int]], bytes]]] = {
    "not a number": lambda outputs: _like_the_card(outputs, float("nan")),
    "infinity": lambda outputs: _like_the_card(outputs, float("inf")),
    "a loop of 10^9": _endless,
    "20,000 nodes": lambda outputs: _chain(outputs, 20_000),
    "8 x 10^12 products": _huge_work,
    "weights in another file": _outside,
    "empty": lambda outputs: b"",
    "noise": lambda outputs: random.Random(0).randbytes(5000),  # noqa: S311
    "a picture": lambda outputs: b"\x89PNG\r\n\x1a\n" + bytes(100),
}
CARDS: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {
    "a name twice": _doubled,
    "a temperature of 1e-300": _temperature(1e-300),
    "a temperature of text": _temperature("hot"),
    "a name that is a path": _card(name="../../x"),
    "a name that commands the terminal": _card(name="\x1b]0;owned\x07"),
    "a list 5,000 deep": lambda card: "[" * 5000 + "]" * 5000,
    "90 MB": lambda card: json.dumps(card | {"summary": "x" * 90_000_000}),
    "text": lambda card: "card",
    "a version to come": _card(card=99),
    "an unknown key": _card(colour="red"),
    "a crop of a million pixels": lambda card: json.dumps(
        card | {"pixels": card["pixels"] | {"size": 10**6}}
    ),
    "a number of 5,000 digits": lambda card: json.dumps(card).replace(
        '"card": 1', '"card": ' + "9" * 5000, 1
    ),
}


def _bundle(at: Path) -> tuple[Path, dict[str, Any], dict[str, int]]:
    """A copy of an embedded bundle, what its card says, and the widths of its outputs."""
    shutil.copytree(embedded()["mien-xs"], at)
    card = json.loads((at / "card.json").read_text())
    outputs = {task["key"].partition(".")[0]: len(task["names"]) for task in card["tasks"]}
    return at, card, outputs | ({"features": card["features"]} if card.get("features") else {})


def _with_network(at: Path, content: bytes) -> None:
    import hashlib

    card = json.loads((at / "card.json").read_text())
    (at / "model.onnx").write_bytes(content)
    (at / "card.json").write_text(
        json.dumps(card | {"sha256": hashlib.sha256(content).hexdigest()})
    )


def _bundle_cases(folder: Path) -> Iterator[tuple[str, Path]]:
    for name, make in NETWORKS.items():
        at, _, outputs = _bundle(folder / name.replace(" ", "-").replace("^", ""))
        _with_network(at, make(outputs))
        yield f"network: {name}", at
    for name, change in CARDS.items():
        at, card, _ = _bundle(folder / f"card-{name.replace(' ', '-').replace(',', '')}")
        (at / "card.json").write_text(change(card))
        yield f"card: {name}", at
    special = {
        "network: a pipe": lambda at: ((at / "model.onnx").unlink(), os.mkfifo(at / "model.onnx")),
        "network: a sparse file of 40 GB": lambda at: _sparse(at / "model.onnx"),
        "network: another than the card's": lambda at: (at / "model.onnx").write_bytes(b"x" * 1000),
        "card: a pipe": lambda at: ((at / "card.json").unlink(), os.mkfifo(at / "card.json")),
        "card: a link to /dev/zero": lambda at: (
            (at / "card.json").unlink(),
            (at / "card.json").symlink_to("/dev/zero"),
        ),
        "card: a folder": lambda at: ((at / "card.json").unlink(), (at / "card.json").mkdir()),
        "card: absent": lambda at: (at / "card.json").unlink(),
    }
    for name, spoil in special.items():
        at, _, _ = _bundle(folder / name.replace(" ", "-").replace(":", ""))
        spoil(at)
        yield name, at


def bundles(folder: Path) -> Iterator[Verdict]:
    """Each is named to ``analyze --bundle`` and given to ``bundles add``, with each engine that is here."""
    photo = folder / "photo.jpg"
    Image.fromarray(portrait()).save(photo)
    for number, (name, at) in enumerate(_bundle_cases(folder / "bundles")):
        out = folder / f"out-{number}"
        for engine in ("onnxruntime", "openvino"):
            command = mien("analyze", photo, "--bundle", at, "--engine", engine, "--out", out)
            verdict = refused(f"{name}, analyze with {engine}", *run(command, LIMIT_S))
            if (
                verdict.kind == "right"
                and out.is_dir()
                and [path for path in out.rglob("*") if path.suffix == ".csv"]
            ):
                verdict = Verdict(verdict.case, "leftover", "a table of a bundle that was refused")
            yield verdict
        home = environment(MIEN_HOME=str(folder / f"home-{number}"))
        yield refused(f"{name}, bundles add", *run(mien("bundles", "add", at), LIMIT_S, home))


# settings and recipes ----------------------------------------------------------------------------------------------

_GOOD: Final = """
name: tiny
data: [{set: drawn, count: 60, seed: 0, size: 48}]
tasks: [va]
pixels: {size: 32, colour: grey, alignment: box, mean: [127.0], std: [128.0]}
network: {backbone: test_efficientnet}
optim: {lr: 0.003}
fit: {epochs: 1, batch: 16, accelerator: cpu, workers: 0}
"""


def _bomb(rounds: int = 30) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, rounds)]
    return "\n".join(lines) + "\n"


SETTINGS: Final[Mapping[str, str]] = {
    "a key twice": _GOOD + "name: other\n",
    "a key twice, below": _GOOD.replace("{lr: 0.003}", "{lr: 0.003, lr: 0.004}"),
    "a list 2,000 deep": _GOOD.replace("[va]", "[" * 2000 + "]" * 2000),
    "a bomb of aliases": _bomb() + _GOOD.replace("[va]", "*a29"),
    "a bomb of aliases in the data": _bomb(9)
    + _GOOD.replace("[{set: drawn, count: 60, seed: 0, size: 48}]", "*a8"),
    "a list in itself": _GOOD.replace("[va]", "&a [*a]"),
    "nobody's home": _GOOD.replace(
        "[{set: drawn, count: 60, seed: 0, size: 48}]",
        "[{set: folder, root: ~nobodyhere/x, split: train}]",
    ),
    "a date": _GOOD.replace("epochs: 1", "epochs: 2020-01-01"),
    "sixties": _GOOD.replace("epochs: 1", "epochs: 1:30"),
    "a number of 5,000 digits": _GOOD.replace("epochs: 1", "epochs: " + "9" * 5000),
    "NUL": _GOOD.replace("name: tiny", 'name: "ti\\0ny"'),
    "a batch of 10^12": _GOOD.replace("batch: 16", "batch: 1000000000000"),
    "100,000 workers": _GOOD.replace("workers: 0", "workers: 100000"),
    "no epochs": _GOOD.replace("epochs: 1", "epochs: -1"),
    "not a number": _GOOD.replace("lr: 0.003", "lr: .nan"),
    "infinity": _GOOD.replace("lr: 0.003", "lr: .inf"),
    "an unknown key": _GOOD.replace("optim:", "optimm:"),
    "a key that commands the terminal": _GOOD + '"\\e]0;owned\\a": 1\n',
    "an object of Python": _GOOD.replace("[va]", "!!python/object/apply:os.system ['echo owned']"),
    "no mapping": "- a\n- b\n",
    "empty": "",
    "no text": "\x00\x01\x02",
    "an open bracket": _GOOD.replace("[va]", "[va"),
    "tabs": _GOOD.replace("optim: {lr: 0.003}", "optim:\n\tlr: 0.003"),
    "a crop of a million pixels": _GOOD.replace("size: 32", "size: 1000000"),
}


def settings(folder: Path) -> Iterator[Verdict]:
    """Each as settings of ``train``, and as a recipe of ``reproduce``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, text) in enumerate(SETTINGS.items()):
        path = folder / f"{number}.yaml"
        path.write_text(text)
        verdict = refused(
            f"settings: {name}",
            *(answer := run(mien("train", path, "--out", folder / f"run-{number}"), LIMIT_S)),
        )
        if verdict.kind == "right" and path.name not in answer[1]:
            verdict = Verdict(verdict.case, "wrong", f"the file is not named: {answer[1][-200:]}")
        yield verdict
        yield refused(f"recipe: {name}", *run(mien("reproduce", path, "--show"), LIMIT_S))


# names -------------------------------------------------------------------------------------------------------------

NAMES: Final[Mapping[str, str]] = {
    "terminal title": "\x1b]0;owned\x07.jpg",
    "newline": "a\nmien: all is well.jpg",
    "formula": "=cmd|calc.jpg",
    "at": "@SUM(A1).jpg",
    "plus": "+1.jpg",
    "minus": "-2.jpg",
    "tab": "\tx.jpg",
    "right to left": "\u202egpj.exe.jpg",
    "240 bytes": "録" * 78 + ".jpg",
    "241 bytes": "a" * 237 + ".jpg",
    "250 bytes": "a" * 246 + ".jpg",
    "not UTF-8": os.fsdecode(b"\xff\xfe.jpg"),
    "quote": 'a"b.jpg',
    "comma": "a,b.jpg",
    "percent": "100%s%n.jpg",
    "colon": "a:b.jpg",
    "dots": "...jpg",
    "markup": "[red]x[bold].jpg",
    "space": " .jpg",
    "con": "con.jpg",
}


def names(folder: Path) -> Iterator[Verdict]:
    """A folder with a picture of each name, read alone and with all others, on consoles of several encodings."""
    whole = folder / "all"
    whole.mkdir(parents=True)
    face = Image.fromarray(portrait()).resize((128, 128))
    for number, (case, name) in enumerate(NAMES.items()):
        alone = folder / f"alone-{number}"
        alone.mkdir()
        for where in (alone, whole):
            with open(os.path.join(where, name), "wb") as file:
                face.save(file, "JPEG")
        for encoding in ("utf-8", "cp1252", "ascii"):
            env = environment(PYTHONIOENCODING=encoding)
            code, said = run(
                mien("analyze", alone, "--out", folder / f"out-{number}-{encoding}"), LIMIT_S, env
            )
            yield _read_or_told(f"{case}, console {encoding}", code, said)
    code, said = run(mien("analyze", whole, "--out", folder / "out-all"), 2 * LIMIT_S)
    verdict = _read_or_told("all names together", code, said)
    tables = list((folder / "out-all").rglob("*.csv"))
    if (
        verdict.kind == "right"
        and sum(len(table.read_bytes().splitlines()) - 1 for table in tables) < len(NAMES) - 3
    ):
        verdict = Verdict(verdict.case, "lost", "rows of some pictures are not there")
    yield verdict


def _read_or_told(case: str, code: int | None, said: str) -> Verdict:
    verdict = refused(case, code, said, codes=(0, 1), lines=40)
    if verdict.kind == "right" and "\x1b]0" in said:
        return Verdict(case, "wrong", "a file's name commands the terminal")
    return verdict
