"""Class biases, refits and folds: what they learn from, how they are scored, and the systems made of them."""

import numpy as np
import pandas as pd
import pytest
import yaml
from small_standins import cut

from mien.bundles.store import open_any
from mien.data.label_table import table_of
from mien.data.registry import SAffWild2
from mien.data.standins.make import make_standin
from mien.errors import DataError, MienError
from mien.metrics import macro_f1
from mien.recipes.predictions import Predicted
from mien.recipes.report import markdown
from mien.recipes.reproduce import reproduce
from mien.recipes.schema import Recipe
from mien.recipes.steps.postprocess import biases_for
from mien.recipes.steps.refit import DEPLOYED
from mien.systems.ensemble import add_bias
from mien.tasks import TASKS
from mien.train.runs.folder import RunFolder
from mien.train.runs.tables import fold_numbers, load_tables

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]
RECIPE = """
name: again
title: Trained again
paper: "Nobody (2000), Nothing"
data:
  faces: {set: s-aff-wild2, get: "from nobody"}
protocol: abaw2022.mtl
seeds: [0]
steps:
  features: {do: features, data: faces, bundle: mien-xs}
  heads:
    do: heads
    features: features
    data: faces
    runs:
      - {tasks: [va, expr.abaw8], fit: {epochs: 3, batch: 16}}
      - {tasks: [au.abaw12], fit: {epochs: 2, batch: 16, keep: last}}
  smooth: {do: smooth, of: heads, kernels: {va: {window: 2}, expr: {window: 2}}}
  biased: {do: class_bias, of: smooth}
  decided: {do: threshold, of: biased}
  refit: {do: refit, of: decided}
  folds: {do: folds, of: heads, count: 4}
  folds_biased: {do: class_bias, of: folds}
  folds_decided: {do: threshold, of: folds_biased}
  export: {do: system, of: decided, name: again-biased}
  export_refit: {do: system, of: refit, name: again-refit}
  export_folds: {do: system, of: folds_decided, name: again-folds}
  sent: {do: submit, of: refit, data: faces, format: abaw2022.mtl, lists: [MTL_Challenge_test_set_release.txt]}
  sent_folds: {do: submit, of: folds_decided, data: faces, format: abaw2022.mtl, lists: [MTL_Challenge_test_set_release.txt]}
rows:
  - {name: heads, of: heads}
  - {name: decided, of: decided}
  - {name: folds, of: folds_decided}
"""


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = make_standin("s-aff-wild2", tmp_path_factory.mktemp("data") / "faces", size=600)
    cut(root)
    return root


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    """A finished run: its folder, and the folder of each step."""
    home = tmp_path_factory.mktemp("again")
    path = home / "again.yaml"
    path.write_text(RECIPE)
    report = reproduce(path, {"faces": faces}, home / "RUN")
    steps = {}
    for name in Recipe.model_validate(yaml.safe_load(RECIPE)).steps:
        [steps[name]] = [
            folder
            for folder in (home / "RUN" / "steps").iterdir()
            if folder.name.rpartition("-")[0] == name
        ]
    return home / "RUN", steps, report


def change(text):
    return yaml.safe_load(text)


def test_biases_raise_macro_f1_of_shifted_probabilities_and_leave_fair_ones():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 3000)
    logits = rng.normal(0, 1, (3000, 3)) + 1.5 * np.eye(3)[classes]
    fair = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shifted = add_bias(fair, [1.5, 0.0, -1.5])
    bias = biases_for(shifted, classes)
    # What was shifted is shifted back; only differences count.
    assert np.abs((bias - bias[1]) - [-1.5, 0, 1.5]).max() <= 0.5

    def score(probabilities):
        return macro_f1(probabilities.argmax(axis=1), classes, range(3))

    assert score(add_bias(shifted, bias)) > score(shifted) + 0.1
    assert score(add_bias(fair, biases_for(fair, classes))) >= score(fair)
    assert add_bias(shifted, bias).sum(axis=1) == pytest.approx(1)
    with pytest.raises(DataError, match="K numbers"):
        add_bias(fair, [0.0, 1.0])


def test_folds_never_cut_a_recording_and_leave_the_test_split_alone(faces):
    table = SAffWild2(set="s-aff-wild2", root=faces).load(())[0]
    table = table.assign(split=table["split"].fillna("train"))
    numbers = fold_numbers(table, 3, [])
    assert ((numbers < 0) == (table["split"] == "test")).all()
    pooled = table[numbers >= 0].assign(fold=numbers[numbers >= 0])
    assert pooled.groupby(pooled["subject"].fillna(pooled["video"]))["fold"].nunique().max() == 1
    assert set(pooled["fold"]) == {0, 1, 2}
    with pytest.raises(DataError, match="use fewer folds"):
        fold_numbers(table, 10_000, [])


def test_every_class_can_be_learned_whichever_fold_is_held_out():
    task = TASKS["expr.abaw8"]
    # Of twelve recordings the first two show fear, and one alone surprise.
    videos = np.repeat([f"v{number}" for number in range(12)], 10)
    shares = np.zeros((120, 8))
    shares[:, 0] = 1
    for row in (0, 10):
        shares[row] = np.eye(8)[task.names.index("fear")]
    about = {"video": videos, "frame": np.tile(np.arange(10), 12)}
    table = table_of([f"{row}.jpg" for row in range(120)], about, {task: shares}, "train")
    numbers = fold_numbers(table, 2, [task])
    assert numbers[0] != numbers[10]
    shares[20] = np.eye(8)[task.names.index("surprise")]
    table = table_of([f"{row}.jpg" for row in range(120)], about, {task: shares}, "train")
    with pytest.raises(DataError, match="too few of them show surprise"):
        fold_numbers(table, 2, [task])


def test_a_refit_learns_both_splits_for_the_epochs_that_were_kept(run, faces):
    _, steps, _ = run
    for before in sorted(steps["heads"].glob("run-*")):
        old, new = RunFolder(before), RunFolder(steps["refit"] / "heads" / before.name)
        kept_last = old.settings.fit.keep == "last"
        epochs = old.settings.fit.epochs if kept_last else old.facts["best_epoch"] + 1
        assert new.settings.fit.epochs == epochs
        assert new.settings.refit
        assert new.settings.fit.keep == "last"
        tables, _, _ = load_tables(new.settings, new.folder, lambda line: None)
        split, _, _ = load_tables(old.settings, old.folder, lambda line: None)
        assert tables["val"].empty
        assert set(split["val"]["image"]) <= set(tables["train"]["image"])
        # Nothing was validated, so nothing is told as if it had been.
        assert pd.read_csv(new.folder / "curve.csv")["score"].isna().all()
        assert new.load("best.pt")["epoch"] == epochs - 1
    parts = Predicted.load(steps["refit"]).parts
    assert set(parts) == {DEPLOYED, "test"}


def test_folds_score_each_recording_with_networks_that_did_not_learn_it(run, faces):
    _, steps, _ = run
    predicted = Predicted.load(steps["folds"])
    table = SAffWild2(set="s-aff-wild2", root=faces).load(())[0]
    validated = {}
    for fold in range(4):
        folder = next((steps["folds"] / f"fold-{fold}").glob("run-0-*-seed-0"))
        tables, _, _ = load_tables(
            RunFolder(folder).settings, RunFolder(folder).folder, lambda line: None
        )
        validated[fold] = set(tables["val"]["image"])
        assert not validated[fold] & set(tables["train"]["image"])
    pooled = set(table[table["split"].isin(["train", "val"])]["image"])
    assert set.union(*validated.values()) == pooled
    assert sum(map(len, validated.values())) == len(pooled)
    single, mean = predicted.parts["val"].values["va"], predicted.parts[DEPLOYED].values["va"]
    assert single.shape == mean.shape
    assert np.abs(single - mean).max() > 1e-4


@pytest.mark.parametrize("name", ["again-biased", "again-refit", "again-folds"])
def test_systems_are_made_and_say_what_they_were_measured_on(run, name):
    out, _, _ = run
    card = open_any(out / "bundles" / name).card
    data = {score.data for score in card.scores}
    assert all("learned split val too" in text for text in data) == (name == "again-refit")
    if name == "again-folds":
        assert {step.do for step in card.steps.values()} == {
            "heads",
            "blend",
            "class_bias",
            "threshold",
        }
        assert card.steps["folds"].of == ("folds_0", "folds_1", "folds_2", "folds_3")


def test_submissions_of_all_of_them_lie_in_one_folder(run):
    out, _, report = run
    names = {path.name for path in (out / "submissions").iterdir()}
    assert len(names) == 2
    assert {name.split("-")[1] for name in names} == {"sent", "sent_folds"}
    assert {row.name for row in report.rows} == {"heads", "decided", "folds"}


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("refit: {do: refit, of: features}", "features trains no network"),
        ("again: {do: refit, of: heads, epochs: 0}", "greater than or equal to 1"),
        (
            "again: {do: refit, of: heads, epochs: {expr: 2}}",
            "expr is the first task of no network",
        ),
        ("folds: {do: folds, of: smooth, count: 2}", "smooth trains no network"),
        ("folds: {do: folds, of: heads, count: 1}", "greater than or equal to 2"),
        ("biased: {do: class_bias, of: heads, values: [0, 1]}", "8 classes need as many values"),
        (
            "more: {do: refit, of: smooth, networks: refit, epochs: 2}",
            "refit has trained the networks",
        ),
        ("more: {do: refit, of: heads, networks: heads}", "heads trained no heads again"),
        ("folds: {do: folds, of: heads, count: 90}", "90 folds need at least 90"),
        ("more: {do: smooth, of: refit, kernels: {va: {window: 2}}}", "refit learned split val"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(faces, tmp_path, step, says):
    content = change(RECIPE)
    keep = ["features", "heads", "smooth", "biased", "decided", "refit"]
    content["steps"] = {name: content["steps"][name] for name in keep}
    content["steps"].update(change(step))
    content["rows"] = content["rows"][:2]
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(MienError, match=says) as caught:
        reproduce(path, {"faces": faces}, tmp_path / "RUN")
    assert "\n" not in str(caught.value)


def test_rows_cannot_be_of_a_refit(tmp_path, faces):
    content = change(RECIPE)
    content["rows"].append({"name": "refit", "of": "refit"})
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(MienError, match="refit learned split val"):
        reproduce(path, {"faces": faces}, tmp_path / "RUN")


def test_epochs_of_a_refit_are_given_by_task_and_folds_choose_none(run, faces, tmp_path):
    out, steps, _ = run
    content = change(RECIPE)
    keep = ["features", "heads"]
    content["steps"] = {name: content["steps"][name] for name in keep}
    content["steps"]["short"] = {"do": "refit", "of": "heads", "epochs": {"va": 4}}
    content["rows"] = content["rows"][:1]
    recipe = tmp_path / "short.yaml"
    recipe.write_text(yaml.safe_dump(content, sort_keys=False))
    reproduce(recipe, {"faces": faces}, out)
    [folder] = (out / "steps").glob("short-*")
    epochs = {}
    for path in folder.glob("heads/*/settings.yaml"):
        settings = RunFolder(path.parent).settings
        epochs[settings.tasks[0]] = settings.fit.epochs
    assert epochs == {"va": 4, "au.abaw12": 2}
    # An epoch chosen on the fold that judges it would flatter the out-of-fold score.
    for path in steps["folds"].glob("fold-*/*/settings.yaml"):
        assert RunFolder(path.parent).settings.fit.keep == "last"


def test_the_report_lists_submissions_and_no_score_of_a_refit(run):
    out, _, report = run
    scores = {sent.name: (sent.files, sent.score) for sent in report.submissions}
    assert scores == {
        "again-sent": (1, "none: it learned split val"),
        "again-sent_folds": (1, "row: folds"),
    }
    for name in scores:
        assert (out / "submissions" / f"{name}-0.txt").is_file()
        assert f"| `{name}-*.txt` | 1 |" in markdown(report)


def test_the_list_of_another_challenge_is_refused_before_the_first_step(tmp_path, faces):
    content = change(RECIPE)
    content["steps"]["sent"]["lists"] = ["clips.txt"]
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    (faces / "clips.txt").write_text("Filename,Admiration\n00001,0\n")
    with pytest.raises(MienError, match=r"sent: .*'00001' is no frame such as"):
        reproduce(path, {"faces": faces}, tmp_path / "RUN")
    assert not list((tmp_path / "RUN" / "steps").glob("features-*/done.json"))
