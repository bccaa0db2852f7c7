"""Teachers that learned by bins or on features, what they add to the loss, and a student without a label of its own."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy.special import rel_entr, softmax
from test_windows import BLOCKS, VA, make_place, settings_of, table_of

from mien.bundles.store import load
from mien.data.registry import Drawn
from mien.errors import DataError
from mien.faces.prepare import Pixels
from mien.metrics import ccc
from mien.tasks import TASKS
from mien.train.distillation import mean_raw, teacher_of
from mien.train.inputs.crops import CropDataset
from mien.train.loop import Progress, fit, network_of
from mien.train.objective.losses import Bins
from mien.train.objective.objective import Objective
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import inputs_of, raw_scores
from mien.train.runs.tables import load_tables
from mien.train.settings.features import WindowSettings
from mien.train.settings.losses import Distill, LossSettings
from mien.train.settings.network import HeadSettings, NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

pytestmark = pytest.mark.usefixtures("one_thread")

EXPR = TASKS["expr.abaw8"]
BINNED = {"va": LossSettings(kind="bins")}
CPU = torch.device("cpu")
TEMPLATE = ((0.32, 0.38), (0.68, 0.38), (0.5, 0.61), (0.35, 0.77), (0.65, 0.77))
FACES = Pixels(
    size=32, colour="grey", alignment="similarity5", mean=(127.0,), std=(128.0,), template=TEMPLATE
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return make_place(tmp_path_factory.mktemp("distil"), train=[30] * 12 + [7], val=[33] * 4 + [5])


def on_pictures(data=None, **parts) -> Settings:
    """A tiny network on drawn faces."""
    fitting = {
        "epochs": 1,
        "batch": 16,
        "workers": 0,
        "find_points": False,
        "accelerator": "cpu",
        **parts.pop("fit", {}),
    }
    head = parts.pop("heads", {})
    return Settings(
        **{
            "name": "faces", "data": (data or Drawn(set="drawn", count=60, seed=0, size=48),), "tasks": (VA.key,), "pixels": FACES,
            "network": NetworkSettings(backbone="test_efficientnet", heads=head), "optim": OptimSettings(lr=0.003),
            "fit": FitSettings(**fitting), **parts,
        }
    )  # fmt: skip


def taught_by(*teachers: Path, weight=0.4, kind=None, **parts) -> dict:
    return {
        "teachers": teachers,
        "losses": {"va": LossSettings(kind=kind, distill=Distill(weight=weight, **parts))},
    }


@pytest.fixture(scope="module")
def of_windows(place, tmp_path_factory):
    return fit(
        settings_of(place, fit={"epochs": 10}), tmp_path_factory.mktemp("teacher") / "windows"
    )


@pytest.fixture(scope="module")
def of_features(place, tmp_path_factory):
    return fit(
        settings_of(place, window=None, fit={"epochs": 3, "batch": 64}),
        tmp_path_factory.mktemp("teacher") / "features",
    )


@pytest.fixture(scope="module")
def of_pictures(tmp_path_factory):
    return fit(on_pictures(), tmp_path_factory.mktemp("teacher") / "pictures")


@pytest.fixture(scope="module")
def by_bins(tmp_path_factory):
    settings = on_pictures(heads={"va": HeadSettings(bins=20)}, losses=BINNED)
    folder = tmp_path_factory.mktemp("binned")
    return [
        fit(
            settings.model_copy(update={"fit": settings.fit.model_copy(update={"seed": seed})}),
            folder / str(seed),
        )
        for seed in (0, 1)
    ]


def refuses(settings: Settings, out: Path, *said: str) -> None:
    with pytest.raises(DataError) as caught:
        fit(settings, out)
    assert "\n" not in str(caught.value)
    for words in said:
        assert words in str(caught.value)


def asked(settings: Settings, out: Path):
    """The teachers of a student, and its training table."""
    run = RunFolder(out, settings)
    tables, tasks, _ = load_tables(settings, out, print)
    return teacher_of(settings, run, tasks, tables["train"], CPU), tables["train"]


# teachers by bins


@pytest.mark.parametrize("see", ["crop", "picture"])
def test_probabilities_of_bins_are_averaged(by_bins, tmp_path, see):
    student = on_pictures(
        heads={"va": HeadSettings(bins=20)},
        teachers_see=see,
        **taught_by(*(run.folder for run in by_bins), kind="bins", temperature=1.5),
    )
    ask, table = asked(student, tmp_path)
    images = torch.stack([image for image, _, _ in CropDataset(table, [VA], FACES)])
    with torch.no_grad():
        views = np.stack(
            [network_of(run)(one)[0].numpy() for run in by_bins for one in (images, images.flip(3))]
        )
    expected = softmax(views.reshape(4, len(table), 2, 20), axis=3).mean(axis=0)
    rows = [5, 0, 11]
    [said] = ask(images[rows], rows)
    assert said.shape == (3, 40)
    np.testing.assert_allclose(said.reshape(3, 2, 20).exp(), expected[rows], atol=1e-5)
    fit(student, tmp_path / "student")


def test_mean_raw_of_sequences_is_that_of_their_rows():
    raw = torch.randn(3, 4, 5, 8)
    for task, bins in ((EXPR, None), (TASKS["au.abaw12"], None), (VA, Bins(count=4))):
        torch.testing.assert_close(
            mean_raw(task, raw, bins).flatten(0, 1), mean_raw(task, raw.flatten(1, 2), bins)
        )


def test_bins_that_differ_name_both(by_bins, of_pictures, place, tmp_path):
    teacher = by_bins[0].folder
    plain = on_pictures(**taught_by(teacher))
    refuses(
        plain,
        tmp_path / "a",
        str(teacher),
        "learned va by bins (20), the student faces without bins",
        "losses.va",
    )
    head = {"va": HeadSettings(bins=20)}
    binned = on_pictures(heads=head, **taught_by(of_pictures.folder, kind="bins"))
    refuses(
        binned,
        tmp_path / "b",
        str(of_pictures.folder),
        "learned va without bins, the student faces by bins (20)",
    )
    legacy = {"va": LossSettings(kind="bins", legacy=True, distill=Distill())}
    old = on_pictures(
        heads={"va": HeadSettings(bins=20, legacy=True)}, teachers=(teacher,), losses=legacy
    )
    refuses(old, tmp_path / "c", "by bins (20), the student faces by bins (20, legacy)")
    bundle = on_pictures(
        heads=head, teachers_see="picture", **taught_by(place / "bundle", kind="bins")
    )
    refuses(bundle, tmp_path / "d", "a bundle gives va as numbers", "name a run")


# teachers on features


@pytest.mark.parametrize("window", [None, 12])
def test_teachers_on_features_see_the_very_batch(place, of_windows, of_features, tmp_path, window):
    teacher = of_windows if window else of_features
    student = settings_of(
        place,
        window=window,
        **taught_by(teacher.folder, weight=1.0),
        fit={"epochs": 15, "batch": 16 if window else 64},
    )
    ask, table = asked(student, tmp_path)
    keys = [4, 0, 9]
    values = inputs_of(table, [VA], student, overlap=True).__getitems__(keys)[0]
    with torch.no_grad():
        torch.testing.assert_close(ask(values, keys)[0], network_of(teacher)(values)[0])
    run = fit(student, tmp_path / "student")
    val = table_of(place, "val")
    ours, theirs = (
        raw_scores(network_of(one), inputs_of(val, [VA], student), workers=0)[0]["va"]
        for one in (run, teacher)
    )
    assert np.abs(ours - theirs).mean() < 0.5 * np.abs(theirs - theirs.mean(axis=0)).mean()
    assert not (run.folder / "taught.pt").exists()


def test_teachers_on_other_features_or_on_none_are_refused(
    place, of_windows, of_features, of_pictures, tmp_path
):
    for number, (change, said) in enumerate(
        [
            (
                {"window": 12, "features": {"window": WindowSettings(length=12, gap=2)}},
                "window differ",
            ),
            ({"window": 8}, "window differ"),
            ({"window": 12, "features": {"within": (0, 8)}}, "within differ"),
            (
                {"window": 12, "features": {"parts": "both", "cache": place / "other"}},
                "cache, parts differ",
            ),
            ({"window": None, "fit": {"batch": 64}}, "window differ"),
        ]
    ):
        ask = settings_of(place, **change, **taught_by(of_windows.folder))
        with pytest.raises(DataError, match=said) as caught:
            teacher_of(
                ask, RunFolder(tmp_path / str(number), ask), (VA,), table_of(place, "train"), CPU
            )
        assert str(of_windows.folder) in str(caught.value)
    images = settings_of(
        place, features={"images": place / "bundle"}, **taught_by(of_windows.folder)
    )
    assert (
        teacher_of(
            images, RunFolder(tmp_path / "images", images), (VA,), table_of(place, "train"), CPU
        )
        is not None
    )
    windows, features = taught_by(of_windows.folder), taught_by(of_features.folder)
    for number, parts in enumerate((windows, features, {**features, "teachers_see": "picture"})):
        instead = (
            "name the bundle that mien export makes of it" if number else "name a run on pictures"
        )
        refuses(
            on_pictures(**parts),
            tmp_path / f"p{number}",
            f"this teacher reads cached features, not pictures; {instead}",
        )
    pictures = taught_by(of_pictures.folder)
    refuses(
        settings_of(place, **pictures),
        tmp_path / "w",
        "reads pictures, the student cached features; name a run on the same features",
    )
    single = settings_of(place, window=None, **pictures, fit={"batch": 64})
    refuses(
        single,
        tmp_path / "s",
        "reads pictures, the student cached features; let `teachers_see` be picture, or name a run",
    )
    own = settings_of(place, window=None, teachers_see="picture", **features, fit={"batch": 64})
    refuses(own, tmp_path / "o", "reads cached features, not pictures; let `teachers_see` be crop")
    refuses(
        settings_of(place, **taught_by(place / "bundle")),
        tmp_path / "b",
        "a bundle sees whole pictures only, not the student's input; name a run",
    )


def test_pictures_still_teach_single_features(place, of_pictures, tmp_path):
    """A run on pictures and a bundle, each asked once about every picture and its mirror image."""
    student = settings_of(
        place,
        window=None,
        teachers_see="picture",
        **taught_by(of_pictures.folder, place / "bundle"),
        fit={"epochs": 1, "batch": 64},
    )
    ask, table = asked(student, tmp_path)
    images = torch.stack([image for image, _, _ in CropDataset(table, [VA], FACES)])
    model = load(place / "bundle", "onnxruntime")
    crops = [cv2.imread(path, cv2.IMREAD_COLOR_RGB) for path in table["image"]]
    with torch.no_grad():
        views = [network_of(of_pictures)(one)[0].numpy() for one in (images, images.flip(3))]
    views += [
        model.score(crops)["va"],
        model.score([np.ascontiguousarray(crop[:, ::-1]) for crop in crops])["va"],
    ]
    rows = [17, 3]
    np.testing.assert_allclose(
        ask(torch.zeros(2, BLOCKS), rows)[0], np.mean(views, axis=0)[rows], atol=1e-4
    )
    fit(student, tmp_path)


def test_teachers_of_other_tasks_are_named_with_theirs(place, of_windows, tmp_path):
    table = pd.read_parquet(place / "labels.parquet").assign(
        **dict.fromkeys(EXPR.columns, 1 / len(EXPR.names))
    )
    table.to_parquet(place / "both.parquet")
    network = NetworkSettings(
        backbone="features",
        heads=dict.fromkeys(("va", "expr"), HeadSettings(kind="sequence", width=4)),
    )
    settings = settings_of(
        place,
        file="both.parquet",
        tasks=(VA.key, EXPR.key),
        network=network,
        **taught_by(of_windows.folder),
    )
    refuses(
        settings, tmp_path, str(of_windows.folder), "trained on va; the student's tasks are others"
    )


# what a teacher adds to the loss


class Hear(Progress):
    def __init__(self) -> None:
        self.costs = []

    def step(self, done, loss, rate, score):
        self.costs.append(loss)


def first_cost(settings: Settings, out: Path) -> tuple[float, RunFolder]:
    """The loss of the one step of a run that learns next to nothing from it."""
    heard = Hear()
    run = fit(settings, out, heard)
    assert len(heard.costs) == 1
    return heard.costs[0], run


def one_batch(place: Path, task, target: np.ndarray, seen: np.ndarray) -> None:
    """64 training frames with these labels, all of them and only those seen; files of both, and val."""
    first, val = table_of(place, "train").iloc[:64], table_of(place, "val")
    both = {"whole": target, "few": np.where(seen[:, None], target, np.nan)}
    tables = {
        name: first.assign(**dict(zip(task.columns, values.T, strict=True)))
        for name, values in both.items()
    }
    val = val.assign(
        **dict(zip(task.columns, np.resize(target, (len(val), target.shape[1])).T, strict=True))
    )
    for name, table in tables.items():
        pd.concat([table, val]).drop(columns=["points"]).to_parquet(place / f"{name}.parquet")


def taught_step(
    place: Path, out: Path, task, head: HeadSettings, loss: LossSettings
) -> tuple[float, np.ndarray, np.ndarray]:
    """Cost of the one step of a student on the frames of `one_batch`, and what teacher and student say of them, raw."""
    network = NetworkSettings(backbone="features", heads={task.family: head})
    common = {
        "window": None,
        "tasks": (task.key,),
        "network": network,
        "fit": {"epochs": 1, "batch": 64},
    }
    alone = {task.family: loss.model_copy(update={"distill": None})}
    teacher = fit(settings_of(place, file="whole.parquet", **common, losses=alone), out / "teacher")
    student = settings_of(
        place, file="few.parquet", **common, losses={task.family: loss}, teachers=(teacher.folder,),
        optim=OptimSettings(optimiser="adam", lr=1e-12),
    )  # fmt: skip
    cost, run = first_cost(student, out / "student")
    whole = pd.read_parquet(place / "whole.parquet").iloc[:64]
    read = inputs_of(whole.assign(points=None), [task], student)
    with torch.no_grad():
        theirs, ours = (
            network_of(one)(read.__getitems__(range(64))[0])[0].double().numpy()
            for one in (teacher, run)
        )
    return cost, theirs, ours


def divergence(theirs: np.ndarray, ours: np.ndarray, heat: float) -> np.ndarray:
    return rel_entr(softmax(theirs / heat, axis=-1), softmax(ours / heat, axis=-1)).sum(axis=-1)


@pytest.mark.parametrize(("labelled", "squared"), [("all", True), ("all", False), ("none", True)])
def test_labels_and_teacher_share_the_loss_of_a_run(place, tmp_path, labelled, squared):
    """Expressions of one batch of 64: (1 - w) labels + w teacher where labelled, the teacher alone elsewhere."""
    classes = np.eye(8)[np.r_[np.arange(8), np.random.default_rng(3).integers(0, 8, 56)]]
    seen = np.full(64, labelled == "all")
    one_batch(place, EXPR, classes, seen)
    loss = LossSettings(distill=Distill(weight=0.4, temperature=1.5, squared=squared))
    cost, theirs, ours = taught_step(place, tmp_path, EXPR, HeadSettings(), loss)
    kd = divergence(theirs, ours, 1.5) * (2.25 if squared else 1)
    ce = -np.log((softmax(ours, axis=1) * classes).sum(axis=1))
    assert cost == pytest.approx(np.where(seen, 0.6 * ce + 0.4 * kd, kd).mean(), rel=1e-4)


@pytest.mark.parametrize("squared", [True, False])
def test_one_labelled_frame_of_64_weighs_one_of_64(place, tmp_path, squared):
    """Bins of both columns; concordance of one frame says nothing and costs nothing."""
    va = np.random.default_rng(4).uniform(-1, 1, (64, 2)).astype(np.float32)
    seen = np.arange(64) == 5
    one_batch(place, VA, va, seen)
    loss = LossSettings(kind="bins", distill=Distill(weight=0.4, temperature=1.5, squared=squared))
    cost, theirs, ours = (
        np.asarray(one) for one in taught_step(place, tmp_path, VA, HeadSettings(bins=20), loss)
    )
    kd = divergence(theirs.reshape(64, 2, 20), ours.reshape(64, 2, 20), 1.5) * (
        2.25 if squared else 1
    )
    number = np.floor((va + 1) / 0.1).astype(int)
    ce = -np.log(
        np.take_along_axis(softmax(ours.reshape(64, 2, 20), axis=2), number[..., None], axis=2)
    )[..., 0]
    assert np.isfinite(cost)
    assert cost == pytest.approx(np.where(seen[:, None], 0.6 * ce + 0.4 * kd, kd).mean(), rel=1e-4)


def test_a_square_without_effect_is_refused():
    with pytest.raises(ValidationError, match="squared: a temperature of 1"):
        Distill(squared=False)


# a student without a label


def without_va(place: Path) -> Path:
    """The same faces, whose training split has no valence and arousal."""
    table = pd.read_parquet(place / "labels.parquet")
    table.loc[table["split"] == "train", list(VA.columns)] = np.nan
    table.to_parquet(place / "bare.parquet")
    return Path("bare.parquet")


def test_a_student_without_a_label_learns_from_the_teacher(place, of_windows, tmp_path):
    student = settings_of(
        place, file=without_va(place), **taught_by(of_windows.folder), fit={"epochs": 25}
    )
    run = fit(student, tmp_path / "run")
    val = table_of(place, "val")
    raw, _ = raw_scores(network_of(run), inputs_of(val, [VA], student), workers=0)
    said, _ = raw_scores(network_of(of_windows), inputs_of(val, [VA], student), workers=0)
    for column, name in enumerate(VA.names):
        assert ccc(raw["va"][:, column], said["va"][:, column]) > 0.7
        assert ccc(raw["va"][:, column], val[name].to_numpy()) > 0.3
    assert run.facts["weights"]["va"]["variance"] == pytest.approx([4 / 12, 4 / 12])


def test_a_student_by_bins_without_a_label_learns_from_the_teacher(place, tmp_path):
    head = {"head": HeadSettings(kind="sequence", width=16, bins=20)}
    teacher = fit(
        settings_of(place, **head, losses=BINNED, fit={"epochs": 10}), tmp_path / "teacher"
    )
    student = settings_of(
        place,
        file=without_va(place),
        **head,
        **taught_by(teacher.folder, kind="bins", temperature=1.5),
        fit={"epochs": 10},
    )
    run = fit(student, tmp_path / "run")
    val = table_of(place, "val")
    raw, _ = raw_scores(network_of(run), inputs_of(val, [VA], student), workers=0)
    said, _ = raw_scores(network_of(teacher), inputs_of(val, [VA], student), workers=0)
    assert min(ccc(raw["va"][:, i], said["va"][:, i]) for i in range(2)) > 0.5


def test_without_a_teacher_a_task_without_labels_is_refused(place, tmp_path):
    table = pd.read_parquet(place / without_va(place)).assign(
        **dict.fromkeys(EXPR.columns, 1 / len(EXPR.names))
    )
    table.to_parquet(place / "both.parquet")
    network = NetworkSettings(
        backbone="features",
        heads=dict.fromkeys(("va", "expr"), HeadSettings(kind="sequence", width=4)),
    )
    settings = settings_of(place, file="both.parquet", tasks=(VA.key, EXPR.key), network=network)
    refuses(
        settings,
        tmp_path / "run",
        "va: no label for valence, arousal in the training split; leave the task out, or add data",
    )


def test_what_has_to_be_counted_in_labels_needs_some():
    nothing = np.full((5, 8), np.nan)
    with pytest.raises(DataError, match="has no face, so it has no weight"):
        Objective.from_labels(
            [EXPR], {"expr": LossSettings(classes="max", distill=Distill())}, {"expr": nothing}
        )
    with pytest.raises(DataError, match="valence does not vary in these labels"):
        Objective.from_labels([VA], {"va": LossSettings(kind="mse")}, {"va": nothing[:, :2]})
