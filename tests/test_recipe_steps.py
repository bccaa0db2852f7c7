"""What each kind of step does, against a formula of its own; and proof that a chain of choices does not flatter itself."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import TypeAdapter
from scipy.special import softmax
from sklearn.metrics import f1_score

import mien
from mien.data.drawn.faces import load_drawn
from mien.data.label_table import labels
from mien.data.registry import File
from mien.errors import DataError, LabelMismatchError, UnknownNameError
from mien.metrics import ccc
from mien.recipes.evaluate_steps import evaluate_step
from mien.recipes.predictions import Predicted, part_of
from mien.recipes.steps import AnyStep
from mien.recipes.steps.base import StepContext
from mien.tasks import TASKS
from mien.train.inputs.feature_cache import FeatureCache
from mien.train.runs.folder import RunFolder

# Fabric warns of few data workers and of processes it did not start; neither is news here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")
KEYS = ("va", "expr.abaw8", "au.abaw12")
SEEDS = ((0, 1), (0,))
GRID = [round(0.1 * i, 1) for i in range(1, 10)]


def truths(rows: int, recordings: int, seed: int, split: str) -> pd.DataFrame:
    """A label table of which a fifth has no label; rows of a recording are not in the order of their frames."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "image": [f"/x/{i:04d}.jpg" for i in range(rows)],
            "video": [f"v{i % recordings}" for i in range(rows)],
        }
    )
    table = table.assign(frame=rng.permutation(rows) * 3, subject=None, split=split)
    made = {
        "va": rng.uniform(-1, 1, (rows, 2)),
        "expr.abaw8": np.eye(8)[rng.integers(8, size=rows)],
    }
    for key, values in {**made, "au.abaw12": (rng.random((rows, 12)) < 0.4).astype(float)}.items():
        values[rng.random(rows) < 0.2] = np.nan
        table[list(TASKS[key].columns)] = values
    return table


def predicted(
    seed: int,
    *,
    signal: float = 0.4,
    seeds: int = 2,
    rows: int = 200,
    recordings: int = 10,
    test: bool = True,
) -> Predicted:
    rng = np.random.default_rng(seed)
    tasks, parts = [TASKS[key] for key in KEYS], {}
    for split in ("val", "test") if test else ("val",):
        table = truths(rows, recordings, 7, split)
        values = {}
        for task in tasks:
            own = np.nan_to_num(labels(table, task))
            noisy = signal * own + rng.normal(0, 0.3, (seeds, *own.shape))
            values[task.family] = np.stack([task.decode(one) for one in noisy])[:, None]
        parts[split] = part_of(table, values, tasks)
    return Predicted(tuple(tasks), parts)


class Ran:
    """A step run on predictions; what came of it."""

    def __init__(self, folder, settings: dict, **given: Predicted) -> None:
        for name, one in given.items():
            (folder / name).mkdir(exist_ok=True, parents=True)
            one.save(folder / name)
        self.notes: list[str] = []
        own = folder / "own"
        own.mkdir(exist_ok=True)
        step = TypeAdapter(AnyStep).validate_python(settings)
        step.run(
            StepContext(
                "own",
                own,
                {name: folder / name for name in given},
                {},
                {},
                (0, 1),
                self.notes.append,
            )
        )
        self.found = Predicted.load(own)
        self.chosen = json.loads((own / "chosen.json").read_text())

    def __call__(self, family: str, split: str = "val"):
        return self.found.parts[split].values[family]


def of(given: Predicted, family: str, split: str = "val"):
    return given.parts[split].values[family].astype(np.float32).astype(float)


def close(one, other) -> None:
    np.testing.assert_allclose(one, other, atol=2e-6)


def windowed(values, table, window, sigma=None, unit="rows"):
    """One row at a time."""
    out = np.empty_like(values)
    for _, own in table.groupby("video"):
        rows = own.index[np.argsort(own["frame"].to_numpy())]
        when = own["frame"][rows].to_numpy()
        for i, row in enumerate(rows):
            near = (
                np.abs(np.arange(len(rows)) - i) <= window
                if unit == "rows"
                else np.abs(when - when[i]) <= window
            )
            weights = near * (1 if sigma is None else np.exp(-((when - when[i]) ** 2) / sigma))
            out[row] = weights @ values[rows] / weights.sum()
    return out


# After the networks


@pytest.mark.parametrize(
    "kernel", [{"window": 2}, {"window": 3, "sigma": 400.0}, {"window": 40, "unit": "frames"}]
)
def test_smooth(tmp_path, kernel):
    given = predicted(0)
    ran = Ran(tmp_path, {"do": "smooth", "of": "a", "kernels": {"va": kernel}}, a=given)
    for split in ("val", "test"):
        for seed in (0, 1):
            close(
                ran("va", split)[seed, 0],
                windowed(of(given, "va", split)[seed, 0], given.parts[split].table, **kernel),
            )
        assert (ran("expr", split) == given.parts[split].values["expr"].astype(np.float32)).all()
    assert ran("va").shape[1] == 1  # nothing was chosen


def test_smooth_chooses_the_kernel_of_the_highest_ccc(tmp_path):
    given = predicted(0)
    kernels = [{"window": 1}, {"window": 4}, {"window": 0}]
    ran = Ran(tmp_path, {"do": "smooth", "of": "a", "kernels": {"va": kernels}}, a=given)
    part, truth = (
        given.parts["val"],
        given.parts["val"].table[["valence", "arousal"]].to_numpy(float),
    )
    for seed in (0, 1):
        several = [windowed(of(given, "va")[seed, 0], part.table, **kernel) for kernel in kernels]
        for version in range(6):
            seen = part.fold != version - 1
            figures = [
                np.mean([ccc(one[seen, i], truth[seen, i]) for i in (0, 1)]) for one in several
            ]
            close(ran("va")[seed, version], several[int(np.argmax(figures))])
        best = ran.chosen["va"][seed]
        test = windowed(of(given, "va", "test")[seed, 0], given.parts["test"].table, best["window"])
        close(ran("va", "test")[seed, 0], test)


def test_blend(tmp_path):
    a, b, c = (predicted(seed) for seed in (0, 1, 2))
    ran = Ran(
        tmp_path,
        {"do": "blend", "of": ["a", "b"], "weights": {"va": 0.7, "expr": [3, 1]}},
        a=a,
        b=b,
    )
    for split in ("val", "test"):
        close(ran("va", split), 0.7 * of(a, "va", split) + 0.3 * of(b, "va", split))
        close(ran("expr", split), 0.75 * of(a, "expr", split) + 0.25 * of(b, "expr", split))
        close(ran("au", split), of(a, "au", split))
    three = Ran(
        tmp_path,
        {"do": "blend", "of": ["a", "b", "c"], "weights": {"va": [1, 1, 2]}},
        a=a,
        b=b,
        c=c,
    )
    close(three("va"), (of(a, "va") + of(b, "va") + 2 * of(c, "va")) / 4)
    logits = Ran(
        tmp_path,
        {"do": "blend", "of": ["a", "b"], "weights": {"expr": 0.6}, "logits": True},
        a=a,
        b=b,
    )
    close(
        logits("expr"), softmax(0.6 * np.log(of(a, "expr")) + 0.4 * np.log(of(b, "expr")), axis=-1)
    )


def test_a_part_of_one_seed_serves_all(tmp_path):
    a, b = predicted(0), predicted(1, seeds=1)
    ran = Ran(tmp_path, {"do": "blend", "of": ["a", "b"], "weights": {"va": 0.5}}, a=a, b=b)
    close(ran("va"), (of(a, "va") + of(b, "va")) / 2)
    close(ran("va", "test"), (of(a, "va", "test") + of(b, "va", "test")) / 2)
    alone = Ran(tmp_path, {"do": "blend", "of": ["b", "a"], "weights": {"va": 0.5}}, a=a, b=b)
    close(alone("va"), ran("va"))


def test_blend_chooses_the_share_of_the_highest_f1(tmp_path):
    a, b = predicted(0, seeds=1), predicted(1, seeds=1)
    ran = Ran(tmp_path, {"do": "blend", "of": ["a", "b"], "weights": {"expr": "tune"}}, a=a, b=b)
    truth = a.parts["val"].table[list(TASKS["expr.abaw8"].columns)].to_numpy(float)
    known = ~np.isnan(truth).any(axis=1)

    def figure(share: float) -> float:
        own = share * of(a, "expr")[0, 0] + (1 - share) * of(b, "expr")[0, 0]
        return f1_score(
            truth[known].argmax(1),
            own[known].argmax(1),
            labels=range(8),
            average="macro",
            zero_division=0,
        )

    assert figure(ran.chosen["expr"][0][0]) == pytest.approx(
        max(figure(0.1 * i) for i in range(11))
    )


def test_threshold(tmp_path):
    given = predicted(0)
    fixed = [0.05 * (i + 1) for i in range(12)]
    ran = Ran(tmp_path, {"do": "threshold", "of": "a", "values": fixed}, a=given)
    for split in ("val", "test"):
        assert (ran("au", split) == (of(given, "au", split) >= fixed)).all()
    tuned = Ran(tmp_path, {"do": "threshold", "of": "a"}, a=given)
    part, truth = (
        given.parts["val"],
        given.parts["val"].table[list(TASKS["au.abaw12"].columns)].to_numpy(float),
    )
    known = ~np.isnan(truth).any(axis=1)
    assert tuned("au").shape == (2, 6, 200, 12)
    for version in range(6):
        rows = known & (part.fold != version - 1)
        for unit in range(12):
            own = of(given, "au")[1, 0, :, unit]
            best = max(
                f1_score(truth[rows, unit], own[rows] >= limit, zero_division=0) for limit in GRID
            )
            assert f1_score(
                truth[rows, unit], tuned("au")[1, version, rows, unit], zero_division=0
            ) == pytest.approx(best)
    limits = np.array(tuned.chosen["au"][1])
    assert (tuned("au", "test")[1, 0] == (of(given, "au", "test")[1, 0] >= limits)).all()


def test_override(tmp_path):
    a, b = predicted(0), predicted(1, signal=3.0)
    ran = Ran(
        tmp_path,
        {"do": "override", "of": "a", "by": "b", "threshold": 0.4, "without": ["other"]},
        a=a,
        b=b,
    )
    taken = 0
    for row, (own, by) in enumerate(zip(of(a, "expr")[0, 0], of(b, "expr")[0, 0], strict=True)):
        sure = by[:7].max() > 0.4
        taken += sure
        close(ran("expr")[0, 0, row], np.append(by[:7], 0) if sure else own)
    assert 0 < taken < 200
    chosen = Ran(
        tmp_path, {"do": "override", "of": "a", "by": "b", "threshold": [0.3, 0.6, 0.99]}, a=a, b=b
    )
    assert set(chosen.chosen["expr"]) == {0.3}  # the other one knows far better
    assert chosen("expr").shape[1] == 6


def test_look_less(tmp_path):
    given = predicted(0)
    every = Ran(tmp_path, {"do": "look_less", "of": "a", "strides": [1]}, a=given)
    close(every("expr"), np.broadcast_to(of(given, "expr"), every("expr").shape))
    assert "100.0 % of the frames" in every.notes[0]
    sure = predicted(1, signal=50.0)  # always right, and sure of it
    few = Ran(tmp_path, {"do": "look_less", "of": "a", "strides": [5, 1], "alpha": 1.0}, a=sure)
    share = float(few.notes[0].split(": ")[1].split(" %")[0])
    assert 20 <= share < 80
    table = sure.parts["val"].table
    for _, own in table.groupby("video"):
        first = own.index[np.argsort(own["frame"].to_numpy())[::5]]
        close(few("expr")[0, 0, first], of(sure, "expr")[0, 0, first])


REFUSED = {
    "family": ({"do": "smooth", "of": "a", "kernels": {"ce": {"window": 1}}}, "own: kernels.ce: nothing predicts ce, only va, expr, au"),
    "weights": ({"do": "blend", "of": ["a", "b"], "weights": {"va": [1, 2, 3]}}, "own: 2 steps are blended; give as many weights"),
    "logits": ({"do": "blend", "of": ["a", "b"], "weights": {"va": 0.5}, "logits": True}, "own: va has no logits"),
    "limits": ({"do": "threshold", "of": "a", "values": [0.5]}, "own: 12 units need as many values, got 1"),
    "faces": ({"do": "blend", "of": ["a", "c"], "weights": {"va": 0.5}}, "own: its inputs are about other faces of split"),
    "one recording": ({"do": "threshold", "of": "d"}, "au.abaw12: split val shows one recording alone"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_done(tmp_path, kind):
    settings, line = REFUSED[kind]
    given = {
        "a": predicted(0),
        "b": predicted(1),
        "c": predicted(0, rows=180),
        "d": predicted(0, recordings=1),
    }
    with pytest.raises(DataError) as caught:
        Ran(tmp_path, settings, **given)
    assert str(caught.value).startswith(line)


def test_one_recording_can_be_smoothed_and_decided(tmp_path):
    given = predicted(0, recordings=1)
    assert (
        Ran(tmp_path, {"do": "smooth", "of": "a", "kernels": {"va": {"window": 1}}}, a=given)(
            "va"
        ).shape[1]
        == 1
    )
    assert (
        Ran(tmp_path, {"do": "threshold", "of": "a", "values": [0.5] * 12}, a=given)("au").shape[1]
        == 1
    )


# Honest


def chain(folder, a: Predicted, b: Predicted) -> Predicted:
    """Blend, smooth and decide, everything chosen."""
    mixed = Ran(
        folder / "1",
        {"do": "blend", "of": ["a", "b"], "weights": {"au": "tune", "expr": "tune"}},
        a=a,
        b=b,
    ).found
    kernels = {"au": [{"window": 0}, {"window": 2}], "expr": [{"window": 0}, {"window": 3}]}
    smooth = Ran(folder / "2", {"do": "smooth", "of": "m", "kernels": kernels}, m=mixed).found
    return Ran(folder / "3", {"do": "threshold", "of": "s"}, s=smooth).found


@pytest.mark.parametrize("fold", [0, 3])
def test_the_labels_of_a_fold_have_no_say_in_its_own_nested_scores(tmp_path, fold):
    a, b = predicted(0, test=False), predicted(1, test=False)
    for name in ("before", "after"):
        for number in "123":
            (tmp_path / name / number).mkdir(parents=True)
    before = chain(tmp_path / "before", a, b)
    rows = a.parts["val"].fold == fold
    for one in (a, b):
        table = one.parts["val"].table
        units = list(TASKS["au.abaw12"].columns)
        table.loc[rows, units] = 1 - table.loc[rows, units]
        classes = list(TASKS["expr.abaw8"].columns)
        table.loc[rows, classes] = np.roll(table.loc[rows, classes].to_numpy(), 1, axis=1)
    after = chain(tmp_path / "after", a, b)
    for family in ("au", "expr"):
        old, new = (one.parts["val"].values[family] for one in (before, after))
        assert old.shape[1] == 6
        assert (old[:, 1 + fold] == new[:, 1 + fold]).all()
    assert (before.parts["val"].values["au"] != after.parts["val"].values["au"]).any()


def test_on_random_scores_nested_does_not_flatter(tmp_path):
    """Scores without any signal: what is tuned and told on the same rows looks better than the best fixed setting, nested does not."""
    a, b = (predicted(seed, signal=0.0, seeds=8, test=False) for seed in (3, 4))
    tuned = evaluate_step(Ran(tmp_path, {"do": "threshold", "of": "a"}, a=a).found, "abaw2022.mtl")
    # At random F1 only rises with the share of faces said to show a unit, so the lowest threshold is the best there is.
    fixed = evaluate_step(
        Ran(tmp_path, {"do": "threshold", "of": "a", "values": [0.1] * 12}, a=a).found,
        "abaw2022.mtl",
    )
    assert tuned.same["au"].mean > fixed.nested["au"].mean + 0.001
    assert tuned.nested["au"].mean <= fixed.nested["au"].mean
    mixed = evaluate_step(
        Ran(
            tmp_path, {"do": "blend", "of": ["a", "b"], "weights": {"expr": "tune"}}, a=a, b=b
        ).found,
        "abaw2022.mtl",
    )
    alone = evaluate_step(a, "abaw2022.mtl")
    assert mixed.same["expr"].mean > alone.nested["expr"].mean + 0.01
    assert mixed.nested["expr"].mean < alone.nested["expr"].mean + 0.005


# Networks


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A file of drawn faces in five videos, three splits."""
    folder = tmp_path_factory.mktemp("faces")
    table = load_drawn(150, seed=1, size=64, tasks=[TASKS[key] for key in KEYS])
    table["image"] = [
        cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in table["image"]
    ]
    split = np.repeat(["train", "val", "test"], [90, 40, 20])
    about = {
        "video": [f"{s}{i % 4}" for i, s in enumerate(split)],
        "frame": range(150),
        "subject": None,
        "split": split,
    }
    table.assign(**about).to_parquet(folder / "labels.parquet")
    return File(set="file", path=folder / "labels.parquet"), pd.read_parquet(
        folder / "labels.parquet"
    )


def run(name: str, folder, data, settings: dict, steps=None):
    """Run a step on the data `faces`, after the steps in the same folder; gives all of them."""
    step = TypeAdapter(AnyStep).validate_python(settings)
    steps = {**(steps or {}), name: step}
    (folder / name).mkdir()
    earlier = {one: folder / one for one in steps if one != name}
    step.run(
        StepContext(name, folder / name, earlier, steps, {"faces": data}, SEEDS[step.do == "train"])
    )
    return steps


@pytest.fixture(scope="module")
def cached(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cached")
    return folder, run(
        "features", folder, faces[0], {"do": "features", "data": "faces", "bundle": "mien-s"}
    )


def opened(table):
    """The bundle itself, and the pictures of a table with their points."""
    model = mien.load("mien-s", engine="onnxruntime")
    pictures = [decode(image) for image in table["image"]]
    return model, pictures, np.array([np.reshape(five, (5, 2)) for five in table["points"]])


def decode(image: bytes):
    return cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()


def test_features_and_score_are_what_the_bundle_says(cached, faces, tmp_path):
    folder, steps = cached
    data, table = faces
    model, pictures, points = opened(table)
    features, raw = model.features_and_raw(pictures, points)
    cache = FeatureCache(folder / "features", model.card, root=data.path.parent)
    rows = cache.rows(table)
    np.testing.assert_allclose(cache.features[rows], features, atol=1e-4)
    for family, values in raw.items():
        np.testing.assert_allclose(cache.raw[family][rows], values, atol=1e-4)
    val = (table["split"] == "val").to_numpy()
    wanted = {
        "do": "score",
        "data": "faces",
        "bundle": "mien-s",
        "tasks": ["expr.abaw8", "va"],
        "instead": {"other": "contempt"},
    }
    (tmp_path / "features").symlink_to(folder / "features")
    for name, more in (("read", {}), ("kept", {"features": "features"})):
        run(name, tmp_path, data, {**wanted, **more}, steps)
        part = Predicted.load(tmp_path / name).parts["val"]
        own = model.score(
            [one for one, here in zip(pictures, val, strict=True) if here], points[val]
        )
        theirs = model.tasks[[each.family for each in model.tasks].index("expr")].names
        pick = [
            theirs.index({"other": "contempt"}.get(one, one)) for one in TASKS["expr.abaw8"].names
        ]
        expected = own["expr"][:, pick] / own["expr"][:, pick].sum(axis=1, keepdims=True)
        np.testing.assert_allclose(part.values["expr"][0, 0], expected, atol=1e-4)
        np.testing.assert_allclose(part.values["va"][0, 0], own["va"], atol=1e-4)
        np.testing.assert_array_equal(
            part.table["valence"], table["valence"][val].to_numpy(np.float32)
        )


def test_heads_are_a_line_through_what_is_cached(cached, faces, tmp_path):
    folder, steps = cached
    data, table = faces
    (tmp_path / "features").symlink_to(folder / "features")
    fits = {"epochs": 2, "batch": 16, "keep": "last", "workers": 0}
    runs = [
        {"tasks": ["va", "au.abaw12"], "fit": fits},
        {"tasks": ["expr.abaw8"], "parts": "raw", "fit": fits},
    ]
    run(
        "heads",
        tmp_path,
        data,
        {"do": "heads", "features": "features", "data": "faces", "runs": runs},
        steps,
    )
    found = Predicted.load(tmp_path / "heads")
    assert [each.key for each in found.tasks] == ["va", "au.abaw12", "expr.abaw8"]
    cache = FeatureCache(folder / "features", mien.load("mien-s").card, root=data.path.parent)
    for split in ("val", "test"):
        rows = cache.rows(table[table["split"] == split])
        for number, (families, columns) in enumerate(
            {("va", "au"): slice(None), ("expr",): slice(cache.features.shape[1], None)}.items()
        ):
            inputs = np.asarray(cache.features_and_raw)[rows][:, columns]
            for seed in (0, 1):
                net = RunFolder(
                    tmp_path / "heads" / f"run-{number}-{'+'.join(families)}-seed-{seed}"
                ).load("best.pt")["net"]
                weights = [
                    name for name in net if name.startswith("heads.") and net[name].ndim == 2
                ]
                assert len(weights) == len(families)
                for family, name in zip(families, weights, strict=True):
                    raw = inputs @ net[name].numpy().T + net[name.replace("weight", "bias")].numpy()
                    decoded = {
                        "va": np.clip(raw, -1, 1),
                        "au": 1 / (1 + np.exp(-raw)),
                        "expr": softmax(raw, axis=1),
                    }[family]
                    np.testing.assert_allclose(
                        found.parts[split].values[family][seed, 0], decoded, atol=1e-4
                    )
    one, other = found.parts["val"].values["va"][:, 0]
    assert not np.allclose(one, other)  # seeds differ


def test_train_goes_on_from_an_earlier_step(faces, tmp_path):
    pixels = {"size": 32, "colour": "grey", "alignment": "box", "mean": [127.0], "std": [128.0]}
    settings = {
        "pixels": pixels,
        "network": {"backbone": "test_resnet"},
        "fit": {"epochs": 1, "batch": 16, "keep": "last", "workers": 0},
    }
    still = {**settings, "optim": {"optimiser": "sgd", "lr": 1e-12}}
    steps = run(
        "first",
        tmp_path,
        faces[0],
        {"do": "train", "data": ["faces"], "tasks": ["va"], "settings": settings},
    )
    run(
        "then",
        tmp_path,
        faces[0],
        {"do": "train", "data": ["faces"], "tasks": ["va"], "after": "first", "settings": still},
        steps,
    )
    first, then = (
        RunFolder(tmp_path / name / "seed-0").load("best.pt")["net"] for name in ("first", "then")
    )
    kernels = [name for name in first if name.startswith("backbone.") and first[name].ndim == 4]
    assert kernels
    assert all(torch.allclose(first[name], then[name], atol=1e-9) for name in kernels)
    part = Predicted.load(tmp_path / "first").parts["val"]
    assert part.values["va"].shape == (1, 1, 40, 2)
    assert sorted(Predicted.load(tmp_path / "first").parts) == ["test", "val"]


def test_steps_on_the_wrong_kind(faces, cached, tmp_path):
    with pytest.raises(DataError, match="of kind lsd, not file"):
        run("sharp", tmp_path, faces[0], {"do": "super_resolve", "data": "faces"})
    with pytest.raises(LabelMismatchError, match="other"):
        run(
            "said",
            tmp_path,
            faces[0],
            {"do": "score", "data": "faces", "bundle": "mien-s", "tasks": ["expr.abaw8"]},
        )


@pytest.mark.parametrize(
    ("key", "protocol"),
    [("emi.abaw6", "abaw2024.emi"), ("emi.abaw6", "abaw2025.emi"), ("emi.abaw5", "abaw2023.eri")],
)
def test_intensities_are_judged_by_their_own_protocol(key, protocol):
    task, rng = TASKS[key], np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "image": "",
            "video": [f"v{i}" for i in range(60)],
            "frame": 0,
            "subject": None,
            "split": "val",
        }
    )
    truth = rng.random((60, len(task.names)))
    table[list(task.columns)] = truth
    guess = np.clip(truth + rng.normal(0, 0.2, truth.shape), 0, 1)
    step = Predicted((task,), {"val": part_of(table, {task.family: guess[None, None]}, [task])})
    told = evaluate_step(step, protocol).same
    one_by_one = [np.corrcoef(guess[:, i], truth[:, i])[0, 1] for i in range(len(task.names))]
    assert [told[name].mean for name in task.names] == pytest.approx(one_by_one, abs=1e-6)
    assert told["score"].mean == pytest.approx(np.mean(one_by_one), abs=1e-6)


def test_every_task_can_be_judged_and_an_unknown_protocol_names_the_nearest():
    for task in TASKS.values():
        table = pd.DataFrame(
            {
                "image": "",
                "video": ["a", "b", "c", "d"],
                "frame": 0,
                "subject": None,
                "split": "val",
            }
        )
        values = (
            np.eye(4, len(task.names))
            if task.kind != "one_of"
            else np.eye(len(task.names))[[0, 1, 0, 1]]
        )
        # Added one by one, the columns of the largest tasks would be many.
        table = table.join(pd.DataFrame(values, columns=list(task.columns)))
        part = part_of(table, {task.family: values[None, None]}, [task])
        assert evaluate_step(Predicted((task,), {"val": part}), "abaw2024.mtl").same
    with pytest.raises(UnknownNameError, match="did you mean abaw2024"):
        evaluate_step(predicted(0), "abaw2024.emii")
