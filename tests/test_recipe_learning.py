"""Steps that train: mixtures, teachers, generations and students, features of what was trained, heads over windows, running means."""

import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy.special import expit, softmax

from mien.bundles.card import read_card
from mien.bundles.plan import Kernel
from mien.data.drawn.faces import load_drawn
from mien.data.registry import CombinedDataset, File, load_set
from mien.errors import DataError
from mien.evaluation.judge import evaluate_bundle
from mien.recipes.predictions import Predicted
from mien.recipes.schema import read_recipe
from mien.recipes.steps import AnyStep
from mien.recipes.steps.base import StepContext
from mien.recipes.steps.runs import EXPORTED, runs_of
from mien.systems.kernels import apply_kernel
from mien.tasks import TASKS
from mien.train.inputs.crops import CropDataset
from mien.train.inputs.feature_cache import FeatureCache
from mien.train.open_model import open_model
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of

# Fabric warns of few data workers and of processes it did not start; neither is news here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")
KEYS = ("expr.abaw7", "va")
PIXELS = {"size": 32, "colour": "grey", "alignment": "box", "mean": [127.0], "std": [128.0]}
FIT = {"epochs": 1, "batch": 16, "keep": "last", "workers": 0}
HEADS = {
    "expr": {"kind": "bottleneck", "width": 6},
    "va": {"kind": "bottleneck", "width": 5, "bins": 20},
}
LEARN = {
    "pixels": PIXELS,
    "network": {"backbone": "test_resnet", "heads": HEADS},
    "losses": {"va": {"kind": "bins"}},
    "fit": FIT,
}
KD = {"weight": 0.4, "temperature": 1.5}
TAUGHT = {**LEARN, "losses": {"expr": {"distill": KD}, "va": {"kind": "bins", "distill": KD}}}
TRAIN = {"do": "train", "data": ["faces"], "tasks": KEYS, "settings": LEARN}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two files of drawn faces by key: videos in three splits, with both labels, and pictures without any video, of expressions."""
    folder = tmp_path_factory.mktemp("faces")
    found = {}
    for number, (key, splits) in enumerate({"faces": [96, 32, 16], "pictures": [48, 0, 0]}.items()):
        table = load_drawn(sum(splits), seed=number, size=48, tasks=[TASKS[one] for one in KEYS])
        table["image"] = [
            cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in table["image"]
        ]
        split = np.repeat(["train", "val", "test"], splits)
        video = [f"{one}{i % 4}" for i, one in enumerate(split)] if key == "faces" else None
        table = table.assign(
            video=video, frame=range(len(table)) if video else None, subject=None, split=split
        )
        if key == "pictures":
            table = table.assign(valence=np.nan, arousal=np.nan)
        table.to_parquet(folder / f"{key}.parquet")
        found[key] = File(set="file", path=folder / f"{key}.parquet")
    return found


class Bench:
    """Steps run one after the other in a folder."""

    def __init__(self, folder, data, seeds=(0,)) -> None:
        self.folder, self.data, self.seeds = folder, data, seeds
        self.steps, self.notes = {}, []

    def place(self, name):
        earlier = {one: self.folder / one for one in self.steps if one != name}
        return StepContext(
            name, self.folder / name, earlier, self.steps, self.data, self.seeds, self.notes.append
        )

    def __call__(self, name, settings):
        step = TypeAdapter(AnyStep).validate_python(settings)
        step.check(self.steps)
        step.check_data(name, self.steps, self.data)
        self.steps[name] = step
        (self.folder / name).mkdir(exist_ok=True)
        self.steps[name].run(self.place(name))
        return self.folder / name

    def runs(self, name, seed=0):
        return [RunFolder(path) for path in runs_of(self.place("now"), name, seed)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory, data):
    """A teacher of seed 0 and 1."""
    made = Bench(tmp_path_factory.mktemp("bench"), data, (0, 1))
    made("teacher", TRAIN)
    return made


def own(bench: Bench, folder) -> Bench:
    """Another bench that knows the steps of the first."""
    other = Bench(folder, bench.data, bench.seeds)
    other.steps = dict(bench.steps)
    for name in bench.steps:
        (folder / name).symlink_to(bench.folder / name)
    return other


# Networks


def test_each_seed_of_a_student_has_its_own_teacher(bench, tmp_path):
    here = own(bench, tmp_path)
    here("student", {**TRAIN, "teachers": ["teacher"], "settings": TAUGHT})
    for seed in (0, 1):
        [run] = here.runs("student", seed)
        assert [path.resolve() for path in run.settings.teachers] == [
            (bench.folder / "teacher" / f"seed-{seed}").resolve()
        ]
        assert run.settings.fit.seed != seed  # or it would start where its teacher did
    assert Predicted.load(tmp_path / "student").parts["val"].values["va"].shape == (2, 1, 32, 2)


def test_a_system_of_several_networks_beside_a_step_of_their_name(bench, tmp_path):
    """The first student would be called as the other step is; the export compares scores, and fails if they are mixed up."""
    here = own(bench, tmp_path)
    here.seeds = (0,)
    here("two", {**TRAIN, "students": 2})
    here("two_0", TRAIN)
    here("both", {"do": "blend", "of": ["two", "two_0"], "weights": {"va": 0.5, "expr": 0.5}})
    here("export", {"do": "system", "of": "both", "name": "both"})
    card = read_card(tmp_path / "export" / EXPORTED / "card.json")
    assert list(card.members) == ["two_0_2", "two_1", "two_0"]
    assert card.steps["two"].of == ("two_0_2", "two_1")
    # The card tells what it costs, measured when it was made.
    cost = r"MB, \d+ million operations per face; \d+\.\d ms per face on one thread of .+, \d+\.\d times"
    assert re.search(cost, card.summary)
    assert 0.001 <= card.tolerance < 0.1  # of networks in float32


def test_generations_and_students(bench, tmp_path):
    here = own(bench, tmp_path)
    here.seeds = (0,)
    here(
        "students",
        {**TRAIN, "teachers": ["teacher"], "generations": 2, "students": 2, "settings": TAUGHT},
    )
    runs = here.runs("students")
    assert [run.folder.name for run in runs] == ["seed-0-2", "seed-0-3"]
    first = [tmp_path / "students" / name for name in ("seed-0-0", "seed-0-1")]
    assert all(list(run.settings.teachers) == first for run in runs)
    assert len({run.settings.fit.seed for run in [*runs, *map(RunFolder, first)]}) == 4
    table = load_set(bench.data["faces"], [TASKS[key] for key in KEYS])
    rows = table[table["split"] == "val"].reset_index(drop=True)
    each = [
        evaluate_bundle(open_model(run.folder), rows, [TASKS["va"]]).scores["va"] for run in runs
    ]
    assert not np.allclose(*each)
    found = Predicted.load(tmp_path / "students").parts["val"].values["va"]
    np.testing.assert_allclose(found[0, 0], (each[0] + each[1]) / 2, atol=1e-6)
    with pytest.raises(ValueError, match="students has 2 students, and features are those of one"):
        here("frames", {"do": "features", "data": "faces", "of": "students"})
    with pytest.raises(ValueError, match="students has 2 students, and a network starts from one"):
        here("then", {**TRAIN, "after": "students"})
    with pytest.raises(DataError, match="trains 2 networks, and a bundle holds one"):
        here("bundle", {"do": "export", "of": "students"})


def test_a_mixture_trains_and_one_set_is_judged(bench, tmp_path):
    here = own(bench, tmp_path)
    mix = {"thin": {"va": {"every": 4}}, "drop": {"expr": 0.5}, "shared": False}
    here(
        "mixed",
        {**TRAIN, "data": ["pictures", "faces"], "judge": "faces", "mix": mix, "once": True},
    )
    [spec] = here.runs("mixed")[0].settings.data
    assert isinstance(spec, CombinedDataset)
    assert [each.path for each in spec.of] == [
        bench.data[key].path for key in ("pictures", "faces")
    ]
    table = load_set(spec, [TASKS[key] for key in KEYS])
    training = table[table["split"] == "train"]
    assert training["valence"].notna().sum() == 24
    assert training["expr_neutral"].notna().sum() == (24 + 48) // 2
    part = Predicted.load(tmp_path / "mixed").parts["val"]
    assert len(part.table) == 32
    # trained once: both seeds have the same run, and one row of values serves both
    assert [run.folder for run in here.runs("mixed", 0)] == [
        run.folder for run in here.runs("mixed", 1)
    ]
    assert part.values["expr"].shape == (1, 1, 32, 7)


def test_a_step_that_trains_nothing_can_neither_teach_nor_start(bench, tmp_path):
    here = own(bench, tmp_path)
    here("said", {"do": "score", "data": "faces", "bundle": "mien-s", "tasks": ["va"]})
    for more in ({"after": "said"}, {"teachers": ["said"], "settings": TAUGHT}):
        with pytest.raises(ValueError, match="said trains no network on pictures"):
            here("now", {**TRAIN, **more})


def test_a_teacher_of_other_tasks_is_found_before_anything_runs(tmp_path):
    steps = {
        "a": {**TRAIN, "tasks": ["va"], "settings": {}},
        "b": {**TRAIN, "teachers": ["a"], "settings": TAUGHT},
    }
    facts = {
        "name": "mine",
        "title": "t",
        "paper": "Nobody (2000)",
        "data": {"faces": {"set": "file", "get": "from nobody"}},
    }
    text = {**facts, "protocol": "abaw2022.va", "steps": steps}
    (tmp_path / "mine.yaml").write_text(json.dumps(text))
    with pytest.raises(
        DataError,
        match=r"steps.b: teachers: a learns va, and this step expr.abaw7, va; they must be the same",
    ):
        read_recipe(tmp_path / "mine.yaml")


def test_a_teacher_that_has_seen_what_is_judged_is_refused(bench, data, tmp_path):
    table = pd.read_parquet(data["faces"].path)
    paths = []
    for i, image in enumerate(table["image"]):
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(image)
    for name, split in (
        ("right", table["split"]),
        ("swapped", table["split"].map({"train": "val", "val": "train", "test": "test"})),
    ):
        table.assign(image=[str(path) for path in paths], split=split).to_parquet(
            tmp_path / f"{name}.parquet"
        )
    here = Bench(
        tmp_path,
        {key: File(set="file", path=tmp_path / f"{key}.parquet") for key in ("right", "swapped")},
    )
    here("teacher", {**TRAIN, "data": ["swapped"]})
    for more in ({"teachers": ["teacher"], "settings": TAUGHT}, {"after": "teacher"}):
        with pytest.raises(
            DataError, match="the step teacher was trained on 32 pictures that are scored here"
        ):
            here("student", {**TRAIN, "data": ["right"], **more})


REFUSED = {
    "generations": ({**TRAIN, "generations": 2}, "only a network that was taught can teach the next one"),
    "teachers unheard": ({**TRAIN, "teachers": ["x"]}, "teachers: name them exactly when a loss has `distill`"),
    "no teacher": ({**TRAIN, "settings": TAUGHT}, "teachers: name them exactly when a loss has `distill`"),
    "teachers twice": ({**TRAIN, "settings": {**LEARN, "teachers": ["x"]}}, "the step itself says teachers"),
    "mix": ({**TRAIN, "mix": {"thin": {"smile": {"every": 2}}}}, "smile"),
    "two sources": ({"do": "features", "data": "faces", "bundle": "mien-s", "of": "x"}, "name one of bundle, exported and of"),
    "no source": ({"do": "features", "data": "faces"}, "name one of bundle, exported and of"),
    "hidden": ({"do": "features", "data": "faces", "bundle": "mien-s", "hidden": True}, "only of a step that trains heads"),
    "two bundles": ({"do": "score", "data": "faces", "bundle": "mien-s", "exported": "x", "tasks": ["va"]}, "either bundle or exported"),
    "two kernels": ({"do": "smooth", "of": "x", "kernels": {"va": {"window": 3, "alpha": 2}}}, "a window, or alpha"),
    "sigma": ({"do": "smooth", "of": "x", "kernels": {"va": {"alpha": 2, "sigma": 2.0}}}, "no sigma"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_settings_that_do_not_go_together(kind):
    settings, words = REFUSED[kind]
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(AnyStep).validate_python(settings)


# Heads on what was trained


@pytest.fixture(scope="module")
def framed(bench):
    bench("frames", {"do": "features", "data": "faces", "of": "teacher", "hidden": True})
    bench("pooled", {"do": "features", "data": "faces", "of": "teacher"})
    return bench


@pytest.mark.parametrize(("step", "width"), [("frames", 6 + 5), ("pooled", 96)])
def test_features_of_a_run_are_what_its_network_computes(framed, step, width):
    table = load_set(framed.data["faces"], [TASKS[key] for key in KEYS])
    for seed in (0, 1):
        [run] = framed.runs("teacher", seed)
        net = network_of(run)
        crops = CropDataset(table, net.tasks, run.settings.pixels)
        images = torch.stack([crops[i][0] for i in range(len(table))])
        with torch.no_grad():
            pooled = net.features(images)
            hidden = torch.cat([head[:-1](pooled) for head in net.heads], dim=1)
        settings = framed.steps[step].settings(framed.place("now"), step, seed)
        cache = FeatureCache(settings.cache, settings.card(), root=settings.images)
        assert settings.width == width
        found = np.asarray(cache.features[cache.rows(table)])
        # weights are kept in half precision
        np.testing.assert_allclose(
            found, (hidden if step == "frames" else pooled).numpy(), atol=0.02
        )


def test_hidden_layers_that_are_not_there(bench, tmp_path):
    here = own(bench, tmp_path)
    here.seeds = (0,)
    here(
        "plain",
        {**TRAIN, "settings": {**LEARN, "network": {"backbone": "test_resnet"}, "losses": {}}},
    )
    with pytest.raises(DataError, match="the heads of expr, va have no hidden layer"):
        here("frames", {"do": "features", "data": "faces", "of": "plain", "hidden": True})


def recurrent(length: int, **losses) -> list[dict]:
    window = {"length": length, "gap": 100}
    fits = {"epochs": 2, "batch": 4, "keep": "last"}
    return [
        {"tasks": ["expr.abaw7"], "parts": "features", "within": [0, 6], "window": window, "fit": fits,
         "heads": {"expr": {"kind": "sequence", "width": 4}}, "losses": {"expr": losses}},
        {"tasks": ["va"], "parts": "features", "within": [6, 11], "window": window, "fit": fits,
         "heads": {"va": {"kind": "sequence", "width": 4, "bins": 20}}, "losses": {"va": {"kind": "bins", **losses}}},
    ]  # fmt: skip


def test_recurrent_heads_teach_their_like(framed, tmp_path):
    here = own(framed, tmp_path)
    heads = {"do": "heads", "features": "frames", "data": "faces"}
    here("first", {**heads, "runs": recurrent(5)})
    here("second", {**heads, "teachers": ["first"], "runs": recurrent(5, distill=KD)})
    for seed in (0, 1):
        for number, run in enumerate(here.runs("second", seed)):
            [teacher] = run.settings.teachers
            assert teacher.name == f"run-{number}-{('expr', 'va')[number]}-seed-{seed}"
            assert run.settings.features.within == [(0, 6), (6, 11)][number]
    found = Predicted.load(tmp_path / "second").parts
    assert {split: part.values["expr"].shape for split, part in found.items()} == {
        "val": (2, 1, 32, 7),
        "test": (2, 1, 16, 7),
    }
    np.testing.assert_allclose(found["val"].values["expr"].sum(axis=3), 1, atol=1e-5)
    assert np.abs(found["val"].values["va"]).max() <= 1
    with pytest.raises(ValueError, match="first trains no heads of the same tasks"):
        here("third", {**heads, "teachers": ["first"], "runs": recurrent(5, distill=KD)[:1]})


# Running means


@pytest.mark.parametrize("key", ["expr.abaw7", "au.abaw12", "va"])
def test_a_running_mean_of_scores_is_that_of_the_raw_outputs(key):
    task, rng = TASKS[key], np.random.default_rng(0)
    raw = rng.normal(0, 2, (30, len(task.names)))
    raw = np.clip(raw, -1, 1) if task.kind == "scalar" else raw
    video, frame = np.repeat(["a", "b"], 15), np.tile(rng.permutation(15), 2)
    expected = np.zeros_like(raw)
    for name in "ab":
        state = None
        for row in sorted(np.flatnonzero(video == name), key=lambda row: frame[row]):
            state = raw[row] if state is None else (7 * state + raw[row]) / 8
            expected[row] = state
    decode = {"one_of": lambda x: softmax(x, axis=1), "any_of": expit, "scalar": lambda x: x}[
        task.kind
    ]
    found = apply_kernel(Kernel(alpha=7), decode(raw), video, frame, task.kind)
    np.testing.assert_allclose(found, decode(expected), atol=1e-6)


def test_small_changes_what_the_recipe_names():
    whole, small = read_recipe("distill-abaw2"), read_recipe("distill-abaw2", small=True)
    assert (whole.options["backbone"], small.options["backbone"]) == ("resnet50", "face-resnet")
    assert (len(whole.seeds), len(small.seeds)) == (10, 3)
    assert read_recipe("distill-abaw2", {"seeds": [5]}, small=True).seeds == (5,)
    with pytest.raises(DataError, match="there is no smaller version of it"):
        read_recipe("hse-abaw4-mtl", small=True)
