"""Recipes: read strictly, run whole, go on after any kill, judged by the protocols' formulas, and clear when the input is bad."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Queue

import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from PIL import Image
from small_standins import LISTS, cut
from typer.testing import CliRunner

from mien.bundles.store import bundles
from mien.cli import app
from mien.data.frame_lists import read_list
from mien.data.standins.make import make_standin
from mien.data.submissions.check import check
from mien.errors import DataError, MienError, OutputError, UnknownNameError
from mien.metrics import bootstrap
from mien.protocols import PROTOCOLS
from mien.recipes import engine
from mien.recipes.evaluate_steps import Estimate, evaluate_step, minus
from mien.recipes.names import recipes, title_of
from mien.recipes.predictions import Predicted, part_of
from mien.recipes.report import markdown
from mien.recipes.reproduce import reproduce, shown, write_report
from mien.recipes.schema import Recipe, read_recipe
from mien.recipes.tree import opened
from mien.tasks import TASKS

# Fabric warns of few data workers and of processes it did not start; neither is news here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]
RUN = CliRunner()
TINY = """
name: tiny
title: A recipe of seconds
paper: "Nobody (2000), Nothing"
data:
  faces: {set: s-aff-wild2, get: "from nobody, under no agreement"}
options: {epochs: 2}
protocol: abaw2022.mtl
seeds: [0, 1]
steps:
  features: {do: features, data: faces, bundle: mien-s}
  joint:
    do: heads
    features: features
    data: faces
    runs:
      - tasks: [va, expr.abaw8, au.abaw12]
        losses: {va: {kind: ccc}}
        optim: {lr: 0.01, schedule: constant}
        fit: &fit {epochs: "${epochs}", batch: 16, keep: last}
  apart:
    do: heads
    features: features
    data: faces
    runs:
      - {tasks: [va], parts: raw, fit: *fit}
      - {tasks: [expr.abaw8, au.abaw12], fit: *fit}
  mixed: {do: blend, of: [joint, apart], weights: {va: tune, expr: 0.5}}
  smooth: {do: smooth, of: mixed, kernels: {va: [{window: 1}, {window: 4}]}}
  decided: {do: threshold, of: smooth}
  sent: {do: submit, of: decided, data: faces, format: abaw2022.mtl, lists: [nowhere.txt, MTL_Challenge_test_set_release.txt]}
rows:
  - {name: joint, of: joint, paper: {score: 0.5}}
  - {name: "all of it", of: decided, paper: {score: 1.0, au: 0.4}}
differences:
  - {name: "all against joint", of: "all of it", to: joint}
claims:
  - {name: surpassed, row: joint, paper: -2.0, within: 0.1}
  - {name: missed, row: "all of it", paper: 2.9, within: 0.1, tuned: true}
ratios:
  - {name: "times joint", row: "all of it", to: joint, paper: -50, within: 1}
departures: [none]
"""

STEPS = list(yaml.safe_load(TINY)["steps"])


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    root = make_standin("s-aff-wild2", tmp_path_factory.mktemp("data") / "standin", size=500)
    cut(root)
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def whole(tiny, standin, tmp_path_factory):
    """An uninterrupted run: its folder and its report."""
    out = tmp_path_factory.mktemp("whole")
    return out, reproduce(tiny, {"faces": standin}, out)


@pytest.fixture(scope="module")
def run(tiny, standin):
    """The same recipe on the same data, in any folder."""
    return partial(reproduce, tiny, {"faces": standin})


def again(whole, to: Path, *steps: str) -> Path:
    """A copy of the run in which those steps have not been done yet."""
    shutil.copytree(whole[0], to)
    for step in steps:
        shutil.rmtree(next((to / "steps").glob(f"{step}-*")))
    return to


class Heard(list):
    """Notes of a run."""

    def ran(self) -> list[str]:
        return [
            line.split(", ")[1].split(":")[0]
            for line in self
            if re.fullmatch(r"step \d+ of \d+, \w+: \d+ s", line)
        ]

    def skipped(self) -> list[str]:
        return [line.split(", ")[1].split(":")[0] for line in self if line.endswith("done before")]


def same_numbers(one, other) -> None:
    """Two reports tell the same, but what they cost."""
    assert repr(replace(one, seconds={})) == repr(replace(other, seconds={}))


# What comes with mien


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_reads_and_names_what_exists(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe.protocol in PROTOCOLS
    assert all(len(needed.get) > 20 for needed in recipe.data.values())
    rows = [row.name for row in recipe.rows]
    assert len(set(rows)) == len(rows)
    assert {row.of for row in recipe.rows} <= set(recipe.steps)
    assert {one for pair in recipe.differences for one in (pair.of, pair.to)} <= set(rows)
    assert {claim.row for claim in recipe.claims} | {
        one for ratio in recipe.ratios for one in (ratio.row, ratio.to)
    } <= set(rows)
    assert rows
    assert recipe.departures
    assert re.search(r"\b(19|20)\d\d\b", recipe.paper)
    units = {term.task for term in PROTOCOLS[recipe.protocol].terms}
    assert all(key.rpartition(".")[0] or key in TASKS for key in units)


@pytest.mark.parametrize("name", recipes())
def test_what_is_shown_reads_back_as_the_same_recipe(name, tmp_path):
    text = shown(name)
    (tmp_path / "same.yaml").write_text(text)
    assert read_recipe(tmp_path / "same.yaml") == read_recipe(name)
    values = [str(value) for value in flat(yaml.safe_load(text))]
    assert not [
        value for value in values if value.startswith(("/", "~")) or re.match(r"[A-Z]:\\", value)
    ]
    assert "${" not in text


def flat(tree):
    if isinstance(tree, dict | list):
        return [
            leaf
            for value in (tree.values() if isinstance(tree, dict) else tree)
            for leaf in flat(value)
        ]
    return [tree]


def test_no_bundle_is_named_that_does_not_come_with_mien():
    for name in recipes():
        for step in read_recipe(name).steps.values():
            assert set(step.references("a bundle")) <= set(bundles())


# Reading


def test_a_change_reaches_one_step_alone(tiny):
    """Steps that share a part of the YAML by an alias do not share what is changed."""
    changed = read_recipe(tiny, {"steps.joint.runs.0.fit.epochs": 7})
    epochs = [run.fit.epochs for step in ("joint", "apart") for run in changed.steps[step].runs]
    assert epochs == [7, 2, 2]
    assert [
        run.fit.epochs
        for step in ("joint", "apart")
        for run in read_recipe(tiny, {"epochs": 5}).steps[step].runs
    ] == [5, 5, 5]


def test_an_included_recipe_comes_first(tmp_path):
    (tmp_path / "more.yaml").write_text(
        "name: more\ntitle: t\npaper: p 2000\ninclude: [abaw-baseline-mtl]\nprotocol: abaw2024.mtl\n"
        "steps: {thresholds: {do: threshold, of: baseline}}\nrows: [{name: tuned, of: thresholds}]\n"
    )
    base, more = read_recipe("abaw-baseline-mtl"), read_recipe(tmp_path / "more.yaml")
    assert list(more.steps) == [*base.steps, "thresholds"]
    assert more.data == base.data
    assert [row.name for row in more.rows] == [*(row.name for row in base.rows), "tuned"]
    assert more.protocol == "abaw2024.mtl"
    assert more.departures == base.departures


WRONG = {
    "unknown key": ("title: A", "titel: x\ntitle: A", ["titel"]),
    "unknown key of a step": ("parts: raw", "part: raw", ["steps.apart", "part"]),
    "unknown kind of step": ("do: submit", "do: sbmit", ["steps.sent", "sbmit"]),
    "later step": ("of: [joint, apart]", "of: [joint, decided]", ["steps.mixed", "decided", "an earlier step"]),
    "unknown data": ("data: faces, bundle", "data: facse, bundle", ["steps.features", "facse", "faces"]),
    "unknown kind of data": ("set: s-aff-wild2", "set: s-aff-wild3", ["data.faces", "s-aff-wild3"]),
    "unknown option of data": ("{set: s-aff-wild2,", "{set: s-aff-wild2, options: {mising: drop},", ["data.faces", "mising"]),
    "unknown protocol": ("protocol: abaw2022.mtl", "protocol: abaw2022.mlt", ["abaw2022.mlt", "abaw2022.mtl"]),
    "row of no step": ("of: decided, paper", "of: decide, paper", ["rows", "decide", "decided"]),
    "difference of no row": ("to: joint}\nclaims", "to: apart}\nclaims", ["differences", "apart", "a row"]),
    "claim of no row": ("row: joint, paper: -2.0", "row: jont, paper: -2.0", ["claims", "jont"]),
    "unknown option": ("${epochs}", "${epoch}", ["${epoch}", "epochs"]),
    "one family twice": ("[va, expr.abaw8, au.abaw12]", "[va, expr.abaw8, expr.abaw7]", ["steps.joint", "twice", "expr, expr"]),
    "no list of options": ("options: {epochs: 2}", "options: [2]", ["options"]),
    "no YAML": ("seeds: [0, 1]", "seeds: [0, 1", ["not YAML"]),
    "not finite": ("paper: 2.9", "paper: .inf", ["claims.1.paper"]),
    "unknown include": ("name: tiny", "include: [abaw-baselin-mtl]\nname: tiny", ["abaw-baselin-mtl", "abaw-baseline-mtl"]),
    "include that is no list": ("name: tiny", "include: abaw-baseline-mtl\nname: tiny", ["include", "list"]),
    "include that does not go with it": ("name: tiny", "include: [abaw-baseline-mtl]\ndata: 3\nname: tiny", ["include", "abaw-b"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_recipe_is_refused_in_one_line(kind, tmp_path):
    before, after, words = WRONG[kind]
    assert before in TINY
    text = TINY.replace(before, after, 1)
    if "data: 3" in text:
        text = re.sub(r"\ndata:\n.*\n", "\n", text)
    (tmp_path / "wrong.yaml").write_text(text)
    code, said = complaint("reproduce", tmp_path / "wrong.yaml", "--out", tmp_path / "out")
    assert code in (1, 2)
    for word in ["wrong.yaml", *words] if "include" not in kind else words:
        assert word in said
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_includes_itself(tmp_path):
    path = tmp_path / "round.yaml"
    path.write_text(TINY.replace("name: tiny", f"include: [{path}]\nname: tiny"))
    with pytest.raises(DataError, match="includes itself"):
        read_recipe(path)


# Whole


def test_the_papers_system_runs_whole_on_a_stand_in(standin, tmp_path):
    """The baseline first; the system that includes it then finds it done."""
    changes = {"seeds": [0, 1]}
    for step, about in opened("hse-abaw4-mtl")["steps"].items():
        for number, _ in enumerate(about.get("runs", ())):
            changes |= {
                f"steps.{step}.runs.{number}.fit.epochs": 1,
                f"steps.{step}.runs.{number}.fit.batch": 64,
            }
    base = reproduce(
        "abaw-baseline-mtl",
        {"affwild2": standin},
        tmp_path,
        changes={k: v for k, v in changes.items() if "baseline" in k or k == "seeds"},
    )
    assert [line.name for line in base.rows] == ["baseline"]
    heard = Heard()
    found = reproduce(
        "hse-abaw4-mtl", {"affwild2": standin}, tmp_path, changes=changes, note=heard.append
    )
    recipe = read_recipe("hse-abaw4-mtl")
    assert heard.skipped() == ["baseline_features", "baseline"]
    # The second expert reads the same features unless another network is named.
    assert heard.ran() == [name for name in list(recipe.steps)[2:] if name != "expert_features"]
    assert [line for line in heard if "expert_features: the same as " in line]
    assert found.rows[0] == base.rows[0]
    assert [line.name for line in found.rows if line.way == "nested"] == [
        row.name for row in recipe.rows
    ]
    tuned = ["and tuned thresholds", "and a bias for each expression"]
    assert [line.name for line in found.rows if line.way == "same"] == tuned
    for line in found.rows:
        assert line.measures["score"][0] == pytest.approx(
            sum(line.measures[key][0] for key in ("va", "expr", "au"))
        )
    assert found.standin
    assert {one.met for one in found.claims} == {None}
    assert {one.name for one in found.claims} == {
        one.name for one in (*recipe.claims, *recipe.ratios)
    }
    assert all(departure in markdown(found) for departure in recipe.departures)


def test_the_run_leaves_report_and_submissions(whole, standin):
    out, found = whole
    told = json.loads(next(out.glob("*.json")).read_text())
    assert [row["name"] for row in told["rows"]] == ["joint", "all of it", "all of it"]
    assert told["standin"] is True
    assert {claim["met"] for claim in told["claims"]} == {None}
    text = next(out.glob("*.md")).read_text()
    assert text == markdown(found)
    assert text.count("not judged") == 4  # once above the table
    assert "| yes |" not in text
    with Image.open(next(out.glob("*.png"))) as picture:
        assert picture.width == 1600
    folder = next((out / "steps").glob("sent-*"))
    files = sorted(path.name for path in folder.glob("*.txt"))
    assert files == ["submission-seed-0.txt", "submission-seed-1.txt"]
    official = read_list(standin / LISTS["test"])
    part = Predicted.load(next((out / "steps").glob("decided-*"))).parts["test"]
    for seed, name in enumerate(files):
        assert check(folder / name, "abaw2022.mtl", official) == []
        rows = [line.split(",") for line in (folder / name).read_text().splitlines()[1:]]
        assert [row[0] for row in rows] == official["image"].to_list()
        at = part.table.set_index("name").index.get_indexer([row[0] for row in rows])
        numbers = np.array([row[1:] for row in rows], float)
        np.testing.assert_allclose(numbers[:, :2], part.values["va"][seed, 0][at], atol=1e-4)
        assert (numbers[:, 2] == part.values["expr"][seed, 0][at].argmax(axis=1)).all()
        assert (numbers[:, 3:] == part.values["au"][seed, 0][at]).all()


def state(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_done_steps_are_skipped_and_nothing_of_them_is_written(whole, run):
    out, found = whole
    before, heard = state(out / "steps"), Heard()
    same_numbers(run(out, note=heard.append), found)
    assert heard.skipped() == STEPS
    assert not heard.ran()
    assert state(out / "steps") == before


def test_two_runs_in_one_folder_take_turns(whole, run, tmp_path):
    out = again(whole, tmp_path / "run")
    lines = Queue()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(out / ".lock"):
            second = pool.submit(run, out, note=lines.put)
            assert lines.get(timeout=30).endswith("in this folder; waiting for it to end")
            # It has begun nothing.
            assert not second.done()
            assert lines.empty()
        same_numbers(second.result(timeout=60), whole[1])


def test_a_changed_setting_runs_its_step_and_what_depends_on_it(whole, run, tmp_path):
    out = again(whole, tmp_path / "run")
    heard = Heard()
    run(out, changes={"steps.smooth.kernels.va": {"window": 2}}, note=heard.append)
    assert heard.ran() == ["smooth", "decided", "sent"]
    back = Heard()
    same_numbers(run(out, note=back.append), whole[1])
    assert not back.ran()
    other = Heard()
    changes = {"steps.apart.runs.0.fit.epochs": 1}
    run(out, changes=changes, note=other.append)
    assert other.ran() == ["apart", "mixed", "smooth", "decided", "sent"]
    seeds = Heard()
    with pytest.raises(KeyboardInterrupt):
        run(out, changes={"seeds": [0]}, note=seeds.append, progress=Stop("joint", 1))
    assert not set(seeds.skipped()) - {"features"}


def test_other_data_run_everything_again(standin, tiny, tmp_path):
    """A list and a picture with other content; `test_recipe_keys` has what does not."""
    data = shutil.copytree(standin, tmp_path / "data")
    small = yaml.safe_load(TINY)
    kept = {
        "steps": {key: small["steps"][key] for key in ("features",)},
        "rows": [],
        "differences": [],
        "claims": [],
        "ratios": [],
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**small, **kept}))

    def ran() -> list[str]:
        heard = Heard()
        reproduce(tmp_path / "small.yaml", {"faces": data}, tmp_path / "out", note=heard.append)
        return heard.ran()

    assert ran() == ["features"]
    assert ran() == []
    lines = (data / LISTS["val"]).read_text().splitlines(keepends=True)
    (data / LISTS["val"]).write_text("".join([lines[0], *reversed(lines[1:])]))
    assert ran() == ["features"]
    picture = next((data / "cropped_aligned").glob("*/*.jpg"))
    Image.new("RGB", (112, 112), "red").save(picture)
    assert ran() == ["features"]
    assert ran() == []


# Killed


class Stop:
    """Breaks off as Ctrl-C does, when a step has got so far."""

    def __init__(self, step: str, done: int = 1) -> None:
        self.step, self.done = step, done

    def __call__(self, what: str, done: int, total: int) -> None:
        if what.startswith(self.step) and done >= self.done:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "done"), [("joint: va+expr+au, seed 1", 3), ("apart: va, seed 0", 1)]
)
def test_interrupted_and_run_again_it_ends_with_the_same_numbers(whole, run, tmp_path, where, done):
    out = again(whole, tmp_path / "run", *STEPS[1:])
    with pytest.raises(KeyboardInterrupt):
        run(out, progress=Stop(where, done))
    assert not (next((out / "steps").glob(f"{where.partition(':')[0]}-*")) / "done.json").exists()
    same_numbers(run(out), whole[1])


def test_killed_outright_and_run_again(whole, run, tmp_path):
    out = again(whole, tmp_path / "run", *STEPS[1:])
    (tmp_path / "killed.py").write_text(
        "import os, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from mien.recipes.reproduce import reproduce\n"
        "def kill(what, done, total):\n"
        "    if what.endswith('seed 1') and done == 4:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.set_num_threads(1)\n"
        "reproduce(Path(sys.argv[1]), {'faces': Path(sys.argv[2])}, Path(sys.argv[3]), progress=kill)\n"
    )
    command = [
        sys.executable,
        str(tmp_path / "killed.py"),
        str(run.args[0]),
        str(run.args[1]["faces"]),
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    same_numbers(run(out), whole[1])


@pytest.mark.parametrize("step", ["joint", "decided"])
def test_a_full_disk_leaves_no_step_half_done(whole, run, tmp_path, step, monkeypatch):
    out = again(whole, tmp_path / "run", step)
    before = state(out)

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError) as caught:
            run(out)
    assert "\n" not in str(caught.value)
    assert "No space left" in str(caught.value) or "full" in str(caught.value)
    left = [path for path in state(out) if path not in before and path.is_file()]
    assert not [path for path in left if path.name in ("done.json", "tasks.json")]
    same_numbers(run(out), whole[1])


def test_a_full_disk_at_the_very_end_of_a_step(whole, run, tmp_path, monkeypatch):
    """All of its result is there, but not the word that it is done."""
    out, write = again(whole, tmp_path / "run", "decided"), engine.atomic_write

    def full(path, data):
        if "decided" in path.parent.name:
            raise OutputError(f"{path}: cannot be written (No space left on device)")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "atomic_write", full)
        with pytest.raises(OutputError):
            run(out)
    heard = Heard()
    same_numbers(run(out, note=heard.append), whole[1])
    assert heard.ran() == ["decided"]


DAMAGE = {
    "cut off": lambda folder: os.truncate(folder / "val.npz", 3000),
    "empty": lambda folder: os.truncate(folder / "val.npz", 0),
    "lost": lambda folder: (folder / "val.npz").unlink(),
    "labels cut off": lambda folder: os.truncate(folder / "val.parquet", 500),
    "other content": lambda folder: (folder / "val.npz").write_bytes(b"hello" * 1000),
    "no tasks": lambda folder: (folder / "tasks.json").write_text("{"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_predictions_are_named(whole, run, tmp_path, kind):
    out = again(whole, tmp_path / "run")
    folder = next((out / "steps").glob("joint-*"))
    DAMAGE[kind](folder)
    tiny, places = run.args
    code, said = complaint("reproduce", tiny, "--data", f"faces={places['faces']}", "--out", out)
    assert code == 1
    for word in (str(folder), "no complete predictions", "delete it"):
        assert word in said
    if kind == "cut off":
        shutil.rmtree(folder)
        same_numbers(run(out), whole[1])


# Judged


def predicted(seeds=3, rows=240, recordings=8, seed=0, versions=None) -> Predicted:
    """Scores with some signal of all three tasks of the multi-task track; a third of the labels is missing."""
    rng = np.random.default_rng(seed)
    tasks = [TASKS[key] for key in ("va", "expr.abaw8", "au.abaw12")]
    truth = {
        "va": rng.uniform(-1, 1, (rows, 2)),
        "expr": np.eye(8)[rng.integers(8, size=rows)],
        "au": (rng.random((rows, 12)) < 0.4).astype(float),
    }
    table = pd.DataFrame(
        {
            "image": [f"/x/{i:04d}.jpg" for i in range(rows)],
            "video": [f"v{i % recordings}" for i in range(rows)],
        }
    )
    table = table.assign(frame=np.arange(rows) // recordings, subject=None, split="val")
    scores = {}
    for task in tasks:
        own = truth[task.family]
        noisy = 0.4 * own + rng.normal(0, 0.3, (seeds, versions or 1, *own.shape))
        scores[task.family] = task.decode(noisy.reshape(-1, own.shape[1])).reshape(noisy.shape)
        own[rng.random(rows) < 0.33] = np.nan
        table[list(task.columns)] = own
    return Predicted(tuple(tasks), {"val": part_of(table, scores, tasks)})


def formula(given: Predicted, values: dict[str, np.ndarray]) -> tuple[float, dict[str, float]]:
    """A protocol's number and its terms, from scores (N, K) by family."""
    pred, target = {}, {}
    for task in given.tasks:
        truth, own = (
            given.parts["val"].table[list(task.columns)].to_numpy(float),
            values[task.family],
        )
        classes = np.where(np.isnan(truth).any(axis=1), np.nan, np.nan_to_num(truth).argmax(axis=1))
        target[task.key] = classes if task.kind == "one_of" else truth
        pred[task.key] = (
            own.argmax(axis=1)
            if task.kind == "one_of"
            else (own >= 0.5).astype(float)
            if task.kind == "any_of"
            else own
        )
    rule = PROTOCOLS["abaw2022.mtl"]
    return rule.score(pred, target), rule.parts(pred, target)


def test_judged_is_the_protocols_formula_for_each_seed():
    given = predicted()
    found = evaluate_step(given, "abaw2022.mtl")
    assert not found.tuned
    assert found.same == found.nested
    for seed in range(3):
        score, terms = formula(
            given, {family: values[seed, 0] for family, values in given.parts["val"].values.items()}
        )
        assert found.nested["score"].values[seed] == pytest.approx(score, abs=1e-9)
        assert found.nested["expr"].values[seed] == pytest.approx(terms["macro_f1"], abs=1e-9)
        assert found.nested["au"].values[seed] == pytest.approx(terms["au_f1"], abs=1e-9)
        assert found.nested["va"].values[seed] == pytest.approx(
            (terms["ccc_valence"] + terms["ccc_arousal"]) / 2, abs=1e-9
        )
    one = found.nested["score"]
    assert one.mean == pytest.approx(np.mean(one.values))
    assert one.sd == pytest.approx(np.std(one.values, ddof=1))


def test_the_interval_draws_recordings_again():
    """Against `metrics.bootstrap`, with the whole formula computed anew for every draw."""
    given = predicted(seeds=1)
    part = given.parts["val"]

    def score(rows):
        picked = replace(part, table=part.table.iloc[rows], values={})
        return formula(
            Predicted(given.tasks, {"val": picked}),
            {family: values[0, 0][rows] for family, values in part.values.items()},
        )[0]

    low, high = bootstrap(
        score, np.arange(240), groups=pd.factorize(part.table["recording"])[0], rounds=300
    )
    told = evaluate_step(given, "abaw2022.mtl").nested["score"]
    assert told.interval == pytest.approx((low, high), abs=0.03)
    assert low < told.mean < high
    # Copies of every face in the same recordings know no more than the faces alone.
    twice = pd.concat([part.table, part.table], ignore_index=True)
    double = replace(
        part,
        table=twice,
        values={family: np.concatenate([v, v], axis=2) for family, v in part.values.items()},
    )
    assert evaluate_step(Predicted(given.tasks, {"val": double}), "abaw2022.mtl").nested[
        "score"
    ].interval == pytest.approx(told.interval)


def test_nested_takes_each_recording_from_the_version_that_did_not_see_it():
    given = predicted(versions=6)
    part, found = given.parts["val"], evaluate_step(predicted(versions=6), "abaw2022.mtl")
    assert found.tuned
    for seed in range(3):
        picked = {
            f: np.stack([v[seed, 1 + fold, row] for row, fold in enumerate(part.fold)])
            for f, v in part.values.items()
        }
        assert found.nested["score"].values[seed] == pytest.approx(
            formula(given, picked)[0], abs=1e-9
        )
        first = {f: v[seed, 0] for f, v in part.values.items()}
        assert found.same["score"].values[seed] == pytest.approx(formula(given, first)[0], abs=1e-9)
    for _, own in part.table.groupby("recording"):
        assert own["fold"].nunique() == 1


def test_a_difference_is_paired():
    one, other = (
        evaluate_step(predicted(seed=seed), "abaw2022.mtl").nested["score"] for seed in (0, 0)
    )
    nothing = minus(one, other)
    assert nothing.mean == 0
    assert nothing.interval == (0, 0)
    better = Estimate(one.values + 0.25, one.draws + 0.25)
    assert minus(better, one).interval == pytest.approx((0.25, 0.25))
    assert minus(better, one).sd == pytest.approx(0, abs=1e-12)
    single = minus(Estimate(one.values[:1], one.draws), other)
    assert single.mean == pytest.approx(one.values[0] - other.mean)


# Claims


HONEST = {
    "seeds": [0], "options.epochs": 1, "steps.joint.runs.0.losses": {}, "rows": [{"name": "joint", "of": "joint"}], "differences": [],
    "claims": [
        {"name": "surpassed", "row": "joint", "paper": -2.0, "within": 0.1},
        {"name": "missed", "row": "joint", "paper": 2.9, "within": 0.1},
        {"name": "near", "row": "joint", "paper": 2.9, "within": 5},
        {"name": "tuned", "row": "joint", "paper": 2.9, "within": 0.1, "tuned": True},
    ],
    "ratios": [
        {"name": "equal", "row": "joint", "to": "joint", "paper": 1.2, "within": 0.3},
        {"name": "twice", "row": "joint", "to": "joint", "paper": 2, "within": 0.3, "at_most": True},
    ],
}  # fmt: skip


def test_claims_are_judged_by_the_numbers_where_the_data_are_not_generated(standin, tiny, tmp_path):
    data = shutil.copytree(standin, tmp_path / "data")
    (data / "README.txt").unlink()
    small = yaml.safe_load(TINY)
    small["steps"] = {key: small["steps"][key] for key in ("features", "joint")}
    small |= {key: value for key, value in HONEST.items() if "." not in key}
    small["options"]["epochs"] = 1
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    found = reproduce(tmp_path / "small.yaml", {"faces": data}, tmp_path / "out")
    assert not found.standin
    met = {one.name: one.met for one in found.claims}
    assert met == {
        "surpassed": True,
        "missed": False,
        "near": True,
        "tuned": False,
        "equal": True,
        "twice": False,
    }
    assert next(one.ours for one in found.claims if one.name == "equal") == 1
    text = next((tmp_path / "out").glob("*.md")).read_text()
    assert "not judged" not in text
    assert "stand-in" not in text
    assert re.search(r"\| surpassed \| -2 \| .* \| yes \|", text)
    assert re.search(r"\| twice \| up to 2 \| 1.0000 \| −0.3 \| no \|", text)


@pytest.mark.parametrize(
    ("expects", "why"),
    [
        ({"faces": 9}, r"not judged: \d+ labelled faces in split val, the paper's list has 9"),
        ({"bundles": {"extractor": ["theirs"]}}, "not judged: extractor is mien-s, the paper's is theirs"),
    ],
)  # fmt: skip
def test_claims_are_judged_with_the_papers_network_and_faces_alone(expects, why, standin, tmp_path):
    data = shutil.copytree(standin, tmp_path / "data")
    (data / "README.txt").unlink()
    small = yaml.safe_load(TINY)
    small["steps"] = {key: small["steps"][key] for key in ("features", "joint")}
    small |= {key: value for key, value in HONEST.items() if "." not in key}
    small["options"] |= {"epochs": 1, "extractor": "mien-s"}
    small["steps"]["features"]["bundle"] = "${extractor}"
    small["expects"] = expects
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    report = reproduce(tmp_path / "small.yaml", {"faces": data}, tmp_path / "out")
    assert not report.standin
    assert all(claim.met is None for claim in report.claims)
    text = next((tmp_path / "out").glob("*.md")).read_text()
    assert re.search(why, text)


# Pictures


@pytest.mark.parametrize("rows", [1, 14])
def test_the_picture_holds_any_number_of_rows(whole, tmp_path, rows):
    found = whole[1]
    line = replace(
        found.rows[0],
        name="separate heads, valence-arousal on scores, and a name that goes on and on",
    )
    write_report(replace(found, rows=(line,) * rows), tmp_path)
    with Image.open(next(tmp_path.glob("*.png"))) as picture:
        assert picture.width == 1600
        assert picture.height < 400 + 60 * rows


# Bad input, as people type it


def complaint(*args) -> tuple[int, str]:
    """Exit code, and the one line that says what is wrong."""
    result = RUN.invoke(app, [str(arg) for arg in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    lines = result.stderr.splitlines()
    assert len([line for line in lines if line.startswith("mien: ")]) == 1, result.stderr
    assert lines[-1].startswith("mien: "), result.stderr
    return result.exit_code, lines[-1]


TYPED = {
    "unknown recipe": (["hse-abaw4-mlt"], 2, ["hse-abaw4-mlt", "hse-abaw4-mtl"]),
    "no such file": (["nowhere.yaml"], 1, ["nowhere.yaml"]),
    "no data": (["TINY"], 1, ["--data faces=", "s-aff-wild2", "from nobody", "--standin"]),
    "unknown data": (["TINY", "--data", "face=."], 1, ["face", "faces"]),
    "nothing there": (["TINY", "--data", "faces=/no/where"], 1, ["/no/where", "from nobody"]),
    "unknown key": (["TINY", "--set", "epoch=3"], 1, ["epoch"]),
    "unknown key inside": (["TINY", "--set", "steps.joint.run.0.fit.epochs=3"], 1, ["steps.joint.run.0.fit.epochs", "--show"]),
    "unknown key at the end": (["TINY", "--set", "steps.joint.runs.0.fit.epoch=3"], 1, ["steps.joint", "epoch"]),
    "item out of range": (["TINY", "--set", "steps.joint.runs.7.fit.epochs=3"], 1, ["steps.joint.runs.7", "--show"]),
    "wrong value": (["TINY", "--set", "epochs=many"], 1, ["epochs"]),
    "no equals sign": (["TINY", "--set", "epochs"], 2, ["--set epochs", "KEY=VALUE"]),
    "set twice": (["TINY", "--set", "epochs=1", "--set", "epochs=2"], 2, ["--set epochs", "twice"]),
    "data twice": (["TINY", "--data", "faces=.", "--data", "faces=.."], 2, ["--data faces", "twice"]),
    "no YAML": (["TINY", "--set", "epochs=[1"], 2, ["--set", "not YAML"]),
    "faces without stand-in": (["TINY", "--face-table", "x.parquet"], 2, ["--standin"]),
    "two face tables": (["TINY", "--faces", "x.parquet", "--face-table", "x.parquet"], 2, ["--face-table alone"]),
    "size without stand-in": (["TINY", "--size", "50"], 2, ["--standin"]),
    "too small": (["TINY", "--standin", "--size", "3"], 1, ["size 3", "at least"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPED)
def test_bad_input_gets_one_clear_line(kind, tiny, tmp_path):
    args, expected, words = TYPED[kind]
    code, said = complaint(
        "reproduce", *(tiny if arg == "TINY" else arg for arg in args), "--out", tmp_path / "out"
    )
    assert code == expected
    for word in words:
        assert word in said


def test_without_a_folder(tiny):
    assert complaint("reproduce", tiny)[1].startswith("mien: give --out")


def broken(standin: Path, to: Path, kind: str) -> Path:
    data = shutil.copytree(standin, to)
    train, val = data / LISTS["train"], data / LISTS["val"]
    if kind == "frames that do not exist":
        val.write_text(
            val.read_text() + val.read_text().splitlines()[-1].replace(".jpg", "99.jpg") + "\n"
        )
    elif kind == "list cut off":
        train.write_text(train.read_text()[:-20])
    elif kind == "no pictures":
        shutil.rmtree(data / "cropped_aligned")
    elif kind == "ninth class":
        rows = [line.split(",") for line in train.read_text().splitlines()]
        rows[3][3] = "8"
        train.write_text("\n".join(map(",".join, rows)) + "\n")
    elif kind == "damaged picture":
        next((data / "cropped_aligned").glob("*/*.jpg")).write_bytes(b"no picture")
    else:
        train.unlink()
    return data


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("frames that do not exist", ["99.jpg"]), ("list cut off", [LISTS["train"], "line"]), ("no pictures", ["cropped_aligned"]),
        ("ninth class", [LISTS["train"], "line 4", "8"]), ("no list", [LISTS["train"]]), ("damaged picture", [".jpg"]),
    ],
)  # fmt: skip
def test_broken_data_are_named(kind, words, standin, tiny, tmp_path):
    data = broken(standin, tmp_path / "data", kind)
    code, said = complaint("reproduce", tiny, "--data", f"faces={data}", "--out", tmp_path / "out")
    assert code == 1
    for word in words:
        assert word in said
    assert not list((tmp_path / "out").rglob("done.json"))


def test_data_of_another_challenge(tiny, tmp_path):
    (tmp_path / "EXPR_Set" / "Train_Set").mkdir(parents=True)
    (tmp_path / "EXPR_Set" / "Train_Set" / "v.txt").write_text(
        "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n0\n7\n"
    )
    code, said = complaint(
        "reproduce", tiny, "--data", f"faces={tmp_path}", "--out", tmp_path / "out"
    )
    assert code == 1
    assert "aff-wild2" in said


def test_a_label_of_eight_classes_where_the_recipe_has_seven(tmp_path):
    for split in ("Train_Set", "Validation_Set"):
        (tmp_path / "d" / "EXPR_Set" / split).mkdir(parents=True)
        lines = ["Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise", "0", "7", "1"]
        (tmp_path / "d" / "EXPR_Set" / split / f"{split[0]}.txt").write_text(
            "\n".join(lines) + "\n"
        )
        (tmp_path / "d" / "cropped_aligned" / split[0]).mkdir(parents=True)
        for number in (1, 2, 3):
            Image.new("RGB", (112, 112)).save(
                tmp_path / "d" / "cropped_aligned" / split[0] / f"{number:05d}.jpg"
            )
    text = TINY.replace(
        'set: s-aff-wild2, get: "', 'set: aff-wild2, options: {tracks: [expr], classes: 7}, get: "'
    )
    (tmp_path / "seven.yaml").write_text(text)
    code, said = complaint(
        "reproduce",
        tmp_path / "seven.yaml",
        "--data",
        f"faces={tmp_path / 'd'}",
        "--out",
        tmp_path / "out",
    )
    assert code == 1
    assert "7" in said
    assert ".txt" in said


@pytest.mark.parametrize(
    ("before", "after"),
    [("of: smooth}", "of: features}"), ("{name: joint, of: joint,", "{name: joint, of: features,")],
)
def test_a_step_that_predicts_nothing(whole, standin, tmp_path, before, after):
    (tmp_path / "wrong.yaml").write_text(TINY.replace(before, after))
    out = again(whole, tmp_path / "run")
    code, said = complaint(
        "reproduce", tmp_path / "wrong.yaml", "--data", f"faces={standin}", "--out", out
    )
    assert code == 1
    assert "features predicts nothing" in said


def test_a_row_that_lacks_what_a_claim_needs(whole, standin, tmp_path):
    (tmp_path / "wrong.yaml").write_text(
        TINY.replace("paper: -2.0, within: 0.1}", "paper: -2.0, within: 0.1, measure: ce}")
    )
    out = again(whole, tmp_path / "run")
    code, said = complaint(
        "reproduce", tmp_path / "wrong.yaml", "--data", f"faces={standin}", "--out", out
    )
    assert code == 1
    assert "'surpassed'" in said
    assert "no ce" in said


def test_the_command_lists_shows_and_runs(whole, tiny, standin):
    assert [
        line.partition(":")[0] for line in RUN.invoke(app, ["reproduce"]).stdout.splitlines()
    ] == list(recipes())
    text = RUN.invoke(app, ["reproduce", str(tiny), "--show", "--set", "epochs=9"]).stdout
    assert Recipe.model_validate(yaml.safe_load(text)) == read_recipe(tiny, {"epochs": 9})
    done = RUN.invoke(
        app, ["reproduce", str(tiny), "--data", f"faces={standin}", "--out", str(whole[0])]
    )
    assert done.exit_code == 0
    assert done.stdout == next(whole[0].glob("*.md")).read_text()
    assert done.stderr.count("done before") == 7


def test_recipes_are_listed_without_any_extra():
    code = "import sys; sys.modules.update(torch=None, yaml=None); from mien.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "reproduce"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{name}: {read_recipe(name).title}" for name in recipes()]
    with pytest.raises(UnknownNameError, match="did you mean hse-abaw4-mtl"):
        title_of("hse-abaw4-mt")


def test_a_stand_in_is_made_once(tiny, tmp_path):
    """Stopped in the first step, so that only the data are made; other faces or another size than those there are refused."""
    first, second = Heard(), Heard()
    for heard in (first, second):
        with pytest.raises(KeyboardInterrupt):
            reproduce(
                tiny,
                {},
                tmp_path,
                standin=True,
                size=200,
                note=heard.append,
                progress=Stop("features"),
            )
    assert first[0].startswith("faces: making a stand-in")
    assert not [line for line in second if "making" in line]
    for asked in ({"size": 300}, {"faces": Path("other.parquet")}):
        with pytest.raises(DataError, match=r"delete it, or choose another --out"):
            reproduce(tiny, {}, tmp_path, standin=True, **asked)


def test_what_cannot_be_read_is_a_mien_error():
    with pytest.raises(UnknownNameError):
        read_recipe("nothing-like-it")
    assert issubclass(UnknownNameError, MienError)
