"""Heads on cached features as bundles: joined onto the network they learned from, they answer as the cache and the formulas say."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import mien
from mien.bundles.card import write_card
from mien.bundles.engines import available, open_engine
from mien.bundles.store import AFFECT, load, open_bundle
from mien.data.registry import Drawn, load_set
from mien.errors import DataError
from mien.evaluation.judge import judge
from mien.evaluation.predict import evaluate_bundle
from mien.faces.prepare import normalise
from mien.recipes.steps.base import StepContext
from mien.recipes.steps.compound import Export
from mien.recipes.steps.runs import keep_runs
from mien.tasks import TASKS
from mien.train.bundle.make import make_bundle
from mien.train.bundle.pack import sha256_of
from mien.train.evaluate_models import judge_models
from mien.train.inputs.feature_cache import FeatureCache, build
from mien.train.loop import fit
from mien.train.onnx.export import export
from mien.train.onnx.merge_heads import merge_heads
from mien.train.onnx.portability import portability_issues
from mien.train.open_model import open_model
from mien.train.runs.folder import RunFolder
from mien.train.settings.features import FeatureSettings
from mien.train.settings.network import HeadSettings, NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

pytestmark = pytest.mark.usefixtures("one_thread")

EXPR, VA = TASKS["expr.abaw8"], TASKS["va"]
DATA = Drawn(set="drawn", count=160, seed=3, size=48)
WIDTH, RAW = 256, 26
COLUMNS = {
    "features": slice(0, WIDTH),
    "raw": slice(WIDTH, WIDTH + RAW),
    "both": slice(0, WIDTH + RAW),
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return load_set(DATA, (EXPR, VA))


@pytest.fixture(scope="module")
def cache(table, tmp_path_factory) -> FeatureCache:
    return build(
        load(AFFECT, "onnxruntime"), table, tmp_path_factory.mktemp("cache"), root=Path.cwd()
    )


def settings_of(cache: Path, parts="both", bundle=AFFECT, name="on-features") -> Settings:
    heads = {"expr": HeadSettings(kind="hidden", width=20), "va": HeadSettings(squash=True)}
    return Settings(
        name=name, data=(DATA,), tasks=(VA.key, EXPR.key),
        features=FeatureSettings(bundle=str(bundle), cache=cache, images=Path.cwd(), parts=parts),
        network=NetworkSettings(backbone="features", heads=heads),
        optim=OptimSettings(optimiser="adam", lr=0.01), fit=FitSettings(epochs=2, batch=32, find_points=False, accelerator="cpu"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(cache, tmp_path_factory) -> dict[str, RunFolder]:
    """By what of the cache their heads read."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        parts: fit(settings_of(cache.folder.parent, parts), folder / parts) for parts in COLUMNS
    }


@pytest.fixture(scope="module")
def made(runs, tmp_path_factory) -> Path:
    return make_bundle(runs["both"], tmp_path_factory.mktemp("made") / "bundle", features=True)


@pytest.fixture(scope="module")
def val(table) -> pd.DataFrame:
    return table[table["split"] == "val"].reset_index(drop=True)


def by_hand(run: RunFolder, read) -> dict[str, np.ndarray]:
    """Raw output of the heads of `settings_of`, written out."""
    saved = run.load("best.pt")
    assert saved is not None
    weight = {name: tensor.double().numpy() for name, tensor in saved["net"].items()}
    hidden = np.maximum(read @ weight["heads.1.0.weight"].T + weight["heads.1.0.bias"], 0)
    return {
        "va": np.tanh(read @ weight["heads.0.weight"].T + weight["heads.0.bias"]),
        "expr": hidden @ weight["heads.1.2.weight"].T + weight["heads.1.2.bias"],
    }


def faces(table: pd.DataFrame, count: int) -> np.ndarray:
    model = load(AFFECT, "onnxruntime")
    crops = model.prepare(
        list(table["image"][:count]), np.stack(table["points"][:count]).reshape(-1, 5, 2)
    )
    return normalise(np.stack(crops), model.card.pixels)


@pytest.mark.parametrize("parts", COLUMNS)
def test_the_joined_network_is_the_cache_and_the_formulas(runs, cache, val, parts):
    rows = cache.rows(val)[:20]
    expected = by_hand(
        runs[parts], np.asarray(cache.features_and_raw, np.float64)[rows, COLUMNS[parts]]
    )
    batch = faces(val, 20)
    for features in (False, True):
        engine = open_engine(merge_heads(runs[parts], features=features), "onnxruntime")
        for size in (1, 7, 20):
            found = engine.run(batch[:size])
            assert len(found) == 2 + features
            np.testing.assert_allclose(found[0], expected["va"][:size], atol=1e-4)
            np.testing.assert_allclose(found[1], expected["expr"][:size], atol=1e-4)
            if features:
                np.testing.assert_allclose(found[2], cache.features[rows[:size]], atol=1e-4)


@pytest.mark.parametrize("parts", COLUMNS)
def test_the_bundles_weights_stay_as_they_are(runs, parts):
    below, whole = (
        onnx.load_from_string(open_bundle(AFFECT).network()),
        onnx.load_from_string(merge_heads(runs[parts], half=True)),
    )
    before = {one.name: one for one in below.graph.initializer}
    kept = {
        one.name.removeprefix("extractor."): one
        for one in whole.graph.initializer
        if one.name.startswith("extractor.")
    }
    for name, one in kept.items():
        assert one.data_type == before[name].data_type
        np.testing.assert_array_equal(
            numpy_helper.to_array(one), numpy_helper.to_array(before[name])
        )
    kinds = [
        Counter(
            node.op_type for node in model.graph.node if node.op_type in ("Conv", "QuantizeLinear")
        )
        for model in (below, whole)
    ]
    assert kinds[0] == kinds[1]
    assert kinds[0]["Conv"] == 27
    # The weights and biases of mien-s's three heads are left out where nobody reads them, and nothing else is.
    assert len(before) - len(kept) == 6 * (parts == "features")
    large = [
        one
        for one in whole.graph.initializer
        if not one.name.startswith("extractor.") and np.prod(one.dims) >= 256
    ]
    assert large
    assert all(one.data_type == onnx.TensorProto.FLOAT16 for one in large)
    assert [one.name for one in whole.graph.input] == ["image"]
    assert [one.name for one in whole.graph.output] == ["va", "expr"]


def test_the_bundle_reads_pictures(made, val, photo):
    model, below = mien.load(made, "onnxruntime"), load(AFFECT, "onnxruntime")
    crops, points = list(val["image"][:9]), np.stack(val["points"][:9]).reshape(-1, 5, 2)
    assert model.tasks == (VA, EXPR)
    np.testing.assert_allclose(
        model.features(crops, points), below.features(crops, points), atol=1e-4
    )
    found = mien.analyze(photo, bundle=made).table
    assert len(found) == 1
    assert found["expr_other"].between(0, 1).all()
    answers = [evaluate_bundle(mien.load(made, engine), val).scores for engine in available()]
    for family in answers[0]:
        assert np.ptp([one[family] for one in answers], axis=0).max() <= model.card.tolerance


def test_heads_leave_the_bundle_s_whole_numbers_exact(made):
    network = onnx.load(made / "model.onnx")
    assert any(node.op_type == "QuantizeLinear" for node in network.graph.node)
    assert portability_issues(network) == []


def test_the_card_speaks_of_both_parts(made, runs, val):
    card, below = open_bundle(made).card, open_bundle(AFFECT).card
    assert card.pixels == below.pixels
    assert card.features == below.features == WIDTH
    assert {"drawn faces", "drawn faces, validation split"} < {
        terms.data for terms in card.trained_on
    }
    assert set(below.trained_on) < set(card.trained_on)
    assert AFFECT in card.made.recipe
    assert "--features" in card.made.recipe
    assert below.made.recipe in card.made.recipe
    assert below.made.cost in card.made.cost
    assert below.licence in card.licence
    assert set(below.not_for) <= set(card.not_for)
    assert {f"{AFFECT}: {limit}" for limit in below.limits} < set(card.limits)
    assert any(below.sha256[:12] in limit for limit in card.limits)
    assert f"heads on {AFFECT}" in card.summary
    model = mien.load(made, "onnxruntime")
    result = {
        one.family: one for one in judge(model.tasks, evaluate_bundle(model, val).scores, val).tasks
    }
    told = {score.metric: score.value for score in card.scores}
    assert told["expr macro-F1"] == pytest.approx(
        result["expr"].measures["macro_f1"].value, abs=1e-4
    )
    assert told["va mean CCC"] == pytest.approx(result["va"].measures["mean_ccc"].value, abs=1e-4)


def test_a_run_is_judged_as_it_was_while_it_learned(runs, cache, val):
    [found], about = judge_models([runs["features"].folder], runs["features"].settings)
    raw = by_hand(runs["features"], np.asarray(cache.features, np.float64)[cache.rows(val)])
    expected = judge(
        (VA, EXPR), {"va": VA.decode(raw["va"]), "expr": EXPR.decode(raw["expr"])}, val
    )
    assert about.run == "on-features"
    for mine, theirs in zip(found.tasks, expected.tasks, strict=True):
        for name, one in theirs.measures.items():
            assert mine.measures[name].value == pytest.approx(one.value, abs=2e-3), name


def test_eight_bits_are_the_bundles_own_matter(runs, tmp_path):
    with pytest.raises(DataError, match="mien-s, which keeps its own precision"):
        make_bundle(runs["both"], tmp_path / "out", bits=8)
    assert not list(tmp_path.iterdir())


class _Plain(nn.Module):
    """Features of a whole crop, and no head at all."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(14 * 14, 40), nn.ReLU())

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.body(images),)


def write_plain(folder: Path, seed: int) -> Path:
    folder.mkdir(exist_ok=True)
    export(
        _Plain(seed), folder / "model.onnx", torch.randn(3, 1, 112, 112), ["features"], {0: "batch"}
    )
    facts = {
        "name": "plain",
        "tasks": (),
        "scores": (),
        "temperature": {},
        "presence": None,
        "uncertain_below": None,
        "features": 40,
        "sha256": sha256_of(folder / "model.onnx"),
    }
    write_card(open_bundle(AFFECT).card.model_copy(update=facts), folder / "card.json")
    return folder


def test_a_bundle_that_is_gone_or_another_by_now_is_told(table, val, tmp_path):
    bundle = write_plain(tmp_path / "plain", 1)
    cache = build(load(bundle, "onnxruntime"), table, tmp_path / "cache", root=Path.cwd())
    run = fit(settings_of(tmp_path / "cache", "both", bundle), tmp_path / "run")
    expected = by_hand(run, np.asarray(cache.features, np.float64)[cache.rows(val)[:9]])
    found = open_engine(merge_heads(run), "onnxruntime").run(faces(val, 9))
    np.testing.assert_allclose(found[1], expected["expr"], atol=1e-4)
    write_plain(bundle, 2)
    for use in (lambda: make_bundle(run, tmp_path / "out"), lambda: open_model(run.folder)):
        with pytest.raises(DataError, match="has none of that bundle as it is now"):
            use()
    shutil.rmtree(bundle)
    with pytest.raises(DataError, match=r"its heads read cached features of .*plain"):
        open_model(run.folder)


def test_heads_on_a_joined_bundle_are_joined_again(made, table, val, tmp_path):
    cache = build(load(made, "onnxruntime"), table, tmp_path / "cache", root=Path.cwd())
    run = fit(settings_of(tmp_path / "cache", "both", made, "twice"), tmp_path / "run")
    expected = by_hand(run, np.asarray(cache.features_and_raw, np.float64)[cache.rows(val)[:9]])
    found = open_engine(merge_heads(run), "onnxruntime").run(faces(val, 9))
    np.testing.assert_allclose(found[0], expected["va"], atol=1e-4)
    np.testing.assert_allclose(found[1], expected["expr"], atol=1e-4)


def test_a_recipe_exports_one_run_of_heads(runs, tmp_path):
    earlier = {name: tmp_path / name for name in ("cached", "six", "two")}
    for name, run in {"a": "raw", "b": "both"}.items():
        shutil.copytree(runs[run].folder, earlier["six"] / name)
        shutil.copytree(runs[run].folder, earlier["two"] / name)
    keep_runs(earlier["six"], {4: [earlier["six"] / "a"], 5: [earlier["six"] / "b"]})
    keep_runs(earlier["two"], {4: [earlier["two"] / "a", earlier["two"] / "b"]})

    def place(of: str) -> StepContext:
        (tmp_path / f"of-{of}").mkdir()
        return StepContext("out", tmp_path / f"of-{of}", earlier, {}, {}, (4, 5))

    Export(do="export", of="six").run(place("six"))
    card = json.loads((tmp_path / "of-six" / "bundle" / "card.json").read_text())
    assert [spec["key"] for spec in card["tasks"]] == ["va", "expr.abaw8"]
    whole = (tmp_path / "of-six" / "bundle" / "model.onnx").read_bytes()
    assert whole == merge_heads(runs["raw"], features=True, half=True)
    with pytest.raises(DataError, match="out: the step two trains 2 networks"):
        Export(do="export", of="two").run(place("two"))
    with pytest.raises(DataError, match="out: the step cached trains no network"):
        Export(do="export", of="cached").run(place("cached"))
