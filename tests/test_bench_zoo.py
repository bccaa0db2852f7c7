"""bench/zoo.py: the comparison of networks runs, and its scores are those of an independent formula."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from conftest import ROOT
from sklearn.metrics import accuracy_score, f1_score
from zoo_server import affect_network

from mien import zoo
from mien.bundles.contents import Contents
from mien.bundles.store import load
from mien.data.drawn.faces import load_drawn
from mien.errors import DataError
from mien.tasks import TASKS
from mien.zoo.convert import convert
from mien.zoo.install import place

SCRIPT = ROOT / "bench" / "zoo.py"
spec = importlib.util.spec_from_file_location("bench_zoo", SCRIPT)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
TASK = TASKS["expr.abaw7"]
SETTINGS = "name: drawn\ndata: [{{set: drawn, count: 48, seed: 1, size: 64, split: val}}]\ntasks: [{tasks}]\n"


def test_every_network_at_hand_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "mien"))
    monkeypatch.setenv("HOME", str(tmp_path))  # where packages keep their files
    model = onnx.load_from_string(affect_network(10))
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = 224
    network, card = convert(zoo.entry("mt-emotieffnet-b0"), model.SerializeToString())
    place(Contents(card, {"model.onnx": network}))
    (tmp_path / "drawn.yaml").write_text(SETTINGS.format(tasks=TASK.key))
    command = [
        sys.executable,
        str(SCRIPT),
        "--data",
        "drawn.yaml",
        "--out",
        "out/zoo.json",
        "--rounds",
        "1",
    ]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    out = tmp_path / "out"
    result = json.loads((out / "zoo.json").read_text())
    assert list(result["networks"]) == ["mien-s", "mien-xs", "mt-emotieffnet-b0"]
    assert result["classes"] == list(TASK.names)
    table = load_drawn(48, 1, "val", tasks=[TASK])
    truth = table[list(TASK.columns)].to_numpy().argmax(axis=1)
    points = np.stack([np.reshape(five, (5, 2)) for five in table["points"]])
    own = load("mien-s", "onnxruntime")
    scores = own.score(list(table["image"]), points)["expr"][
        :, TASK.column_index(own.tasks[0].names)
    ]
    guess, found = scores.argmax(axis=1), result["networks"]["mien-s"]
    assert found["accuracy"][0] == pytest.approx(accuracy_score(truth, guess), abs=1e-4)
    assert found["macro_f1"][0] == pytest.approx(
        f1_score(truth, guess, labels=range(7), average="macro", zero_division=0), abs=1e-4
    )
    for one in result["networks"].values():
        assert one["peak_mb"] > one["file_mb"] > 0
        assert all(one["threads"][n]["ms"] > 0 for n in ("1", "2"))
    assert all(found["threads"][n]["times mien-s"] == 1 for n in ("1", "2"))
    assert "| mt-emotieffnet-b0 |" in (out / "zoo.md").read_text()
    assert (out / "zoo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "tasks", "words"),
    [
        ((), "va", "no expressions among its tasks"),
        (("--bundles", "mien-z"), TASK.key, "no bundle named 'mien-z'; did you mean mien-s?"),
    ],
)
def test_bad_input_is_one_line(tmp_path, args, tasks, words):
    settings = tmp_path / "drawn.yaml"
    settings.write_text(SETTINGS.format(tasks=tasks))
    with pytest.raises(SystemExit, match=words) as caught:
        bench.main(["--data", str(settings), "--out", str(tmp_path / "out" / "zoo.json"), *args])
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_classes_that_only_some_know_are_left_out_by_name():
    table = load_drawn(64, size=32, tasks=[TASKS["expr.abaw8"]])
    common, kept, others = bench.common_classes(
        TASKS["expr.abaw8"], table, {"a": TASKS["expr.affectnet8"].names, "b": TASK.names}
    )
    assert common.names == TASK.names
    assert len(kept) + others["other"] == len(table)
    assert list(others) == ["other"]
    with pytest.raises(DataError, match="fewer than two classes"):
        bench.common_classes(TASK, table, {"a": ["neutral", "calm"]})
    np.testing.assert_allclose(
        bench.renormalised(np.array([[0.2, 0.6, 0.2]]), ["b", "c", "a"], ["a", "b"]), [[0.5, 0.5]]
    )
