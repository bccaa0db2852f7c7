"""Engines on other processors: each is what was asked for, or an error; nothing stands in for it."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

import mien
from mien import demo, doctor
from mien.bundles import engines
from mien.bundles.engines import PROVIDERS, choose, open_engine
from mien.bundles.store import open_bundle
from mien.cli import app
from mien.errors import BundleError, MienError, MissingExtraError
from mien.evaluation.engine_difference import compare_with_cpu

RUN = CliRunner()
ACCELERATORS = pytest.mark.parametrize("name", PROVIDERS)


@pytest.fixture(scope="module")
def network() -> bytes:
    return open_bundle("mien-xs").network()


@pytest.fixture
def one_build(monkeypatch):
    """As if a single build of ONNX Runtime were installed, whatever is here."""
    monkeypatch.setattr(engines, "onnxruntime_distributions", lambda: ["onnxruntime"])


@pytest.fixture
def provides_all(monkeypatch, one_build):
    """As if ONNX Runtime had been built for every processor."""
    every = [*PROVIDERS.values(), "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: every)


@pytest.fixture
def cuda_on_cpu(monkeypatch, provides_all):
    """The engine cuda, with the CPU's provider in place of CUDA's."""
    monkeypatch.setitem(PROVIDERS, "cuda", "CPUExecutionProvider")
    cpu = [("CPUExecutionProvider", {})]
    monkeypatch.setattr(engines, "_providers", lambda *_: cpu)


def test_each_name_stands_for_its_provider_before_the_cpu(network):
    expected = {
        "cuda": ["CUDAExecutionProvider"],
        "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
        "coreml": ["CoreMLExecutionProvider"],
        "directml": ["DmlExecutionProvider"],
        "onnxruntime": [],
    }
    for name, providers in expected.items():
        names = [provider for provider, _ in engines._providers(name, network)]
        assert names == [*providers, "CPUExecutionProvider"]


@ACCELERATORS
def test_a_provider_that_the_build_lacks_is_one_line_with_what_to_install(
    name, one_build, monkeypatch
):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MienError, match=f"{name} needs {PROVIDERS[name]}, which") as caught:
        choose(name)
    package = {"coreml": "for macOS", "directml": "install onnxruntime-directml"}
    assert package.get(name, 'install "onnxruntime-gpu[cuda,cudnn]"') in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_engine_that_the_build_has_is_chosen(provides_all):
    assert [choose(name) for name in PROVIDERS] == list(PROVIDERS)
    assert choose() == "onnxruntime"


# ONNX Runtime warns in Python as well, and goes on with the CPU.
@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here"
)
def test_a_silent_fall_back_to_the_cpu_is_an_error(network, provides_all):
    with pytest.raises(MienError, match=r"cuda was asked for.*could not start CUDA.*fell back"):
        open_engine(network, "cuda")


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers()
    or not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"),
    reason="needs a provider that starts and takes no layer, and a version that says so",
)
def test_a_provider_that_takes_no_layer_is_an_error(network, one_build, monkeypatch):
    azure = "AzureExecutionProvider"
    monkeypatch.setitem(PROVIDERS, "coreml", azure)
    with pytest.raises(MienError, match=f"{azure} takes no layer of this network"):
        open_engine(network, "coreml")


def test_what_fails_on_another_processor_is_not_laid_to_the_bundle(network, cuda_on_cpu):
    engine = open_engine(network, "cuda")
    with pytest.raises(MienError, match=r"cuda cannot run this network: .*onnxruntime") as caught:
        engine.run(np.zeros((1, 2, 3), np.float32))
    assert not isinstance(caught.value, BundleError)


def test_two_builds_of_onnx_runtime_are_refused(monkeypatch):
    monkeypatch.setattr(engines, "version", lambda _: "1.0")
    with pytest.raises(MienError, match=r"onnxruntime and onnxruntime-gpu.*both.*pip uninstall -y"):
        choose("cuda")
    # What is no other processor's is not refused.
    assert choose() == "onnxruntime"


def test_openvino_without_a_gpu_says_so(monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(engines, "_openvino_gpus", list)
    with pytest.raises(MienError, match="OpenVINO sees none here"):
        choose("openvino:GPU")
    monkeypatch.setattr(engines, "available", lambda: ["onnxruntime"])
    with pytest.raises(MissingExtraError, match=r"mien\[openvino\]"):
        choose("openvino:GPU")


def test_the_dictionary_records_the_engine(cuda_on_cpu, tmp_path):
    photo = tmp_path / "face.png"
    cv2.imwrite(str(photo), cv2.cvtColor(demo.portrait(), cv2.COLOR_RGB2BGR))
    command = ["analyze", str(photo), "--bundle", "mien-xs", "--quality", "none"]
    done = RUN.invoke(app, [*command, "--engine", "cuda", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    [path] = Path(tmp_path / "out").glob("*.json")
    assert '"engine": "cuda"' in json.dumps(json.loads(path.read_text(encoding="utf-8")))


def test_verify_prints_the_largest_difference_from_the_cpu(cuda_on_cpu):
    done = RUN.invoke(app, ["bundles", "verify", "mien-xs", "--engine", "cuda"])
    assert done.exit_code == 0, done.output
    # The same provider under another name.
    assert "scores on cuda differ by up to 0 " in " ".join(done.output.split())


def test_the_difference_is_that_of_the_scores(cuda_on_cpu, monkeypatch):
    """Scores shifted by a tenth on the engine differ by a tenth, beyond the tolerance."""
    plain = mien.load("mien-xs")

    class Shifted:
        engine = "cuda"

        def score(self, crops, points):
            return {family: values + 0.1 for family, values in plain.score(crops, points).items()}

    monkeypatch.setattr(
        "mien.evaluation.engine_difference.load",
        lambda name, engine: plain if engine == "onnxruntime" else Shifted(),
    )
    difference = compare_with_cpu("mien-xs", "cuda")
    assert difference.largest == pytest.approx(0.1)
    assert not difference.within
    done = RUN.invoke(app, ["bundles", "verify", "mien-xs", "--engine", "cuda"])
    assert done.exit_code == 1
    assert "differ by up to 0.1" in " ".join(done.output.split())


def test_verify_wants_the_bundles_that_an_engine_is_compared_on():
    assert RUN.invoke(app, ["bundles", "verify", "--engine", "openvino"]).exit_code == 2


def test_the_doctor_lists_engines_of_other_processors(provides_all):
    finding = doctor._engine()
    assert finding.ok
    assert "onnxruntime will be used" in finding.state
    assert "for other processors cuda, tensorrt, coreml, directml" in finding.state


def test_the_doctor_finds_two_builds_and_accepts_one_of_another_processor(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda _: "1.0")
    for names, ok in (
        ([], False),
        (["onnxruntime"], True),
        (["onnxruntime-gpu"], True),
        (["onnxruntime", "onnxruntime-gpu"], False),
    ):
        monkeypatch.setattr(doctor, "onnxruntime_distributions", lambda names=names: names)
        finding = doctor._onnxruntime()
        assert finding.ok is ok
        assert all(name in finding.state for name in names if name != "onnxruntime")
