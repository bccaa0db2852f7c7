"""The training loop: it learns, goes on after any kill to the same weights, on one process or several, and says what is wrong."""

import errno
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from sklearn.metrics import f1_score

from mien.data.drawn.faces import load_drawn
from mien.data.label_table import labels
from mien.data.registry import Portraits, load_set
from mien.errors import DataError, MienError, OutputError
from mien.metrics import ccc
from mien.tasks import TASKS
from mien.train import loop
from mien.train.distillation import teacher_of
from mien.train.inputs.crops import AugmentedCropDataset, CropDataset
from mien.train.loop import Progress, fit
from mien.train.networks.network import build
from mien.train.optim import Average, make_optimiser
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of, raw_scores
from mien.train.runs.start import build_network
from mien.train.runs.state import TrainingState
from mien.train.runs.tables import load_tables
from mien.train.settings.network import OWN
from mien.train.settings.training import Settings

TASK_KEYS = ("expr.abaw7", "va", "au.abaw12")
TEMPLATE = [[0.29, 0.33], [0.71, 0.33], [0.5, 0.61], [0.335, 0.79], [0.665, 0.79]]  # brows to chin
# Fabric warns of few data workers and of processes it did not start; neither is news here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]


def drawn(count=60, **more):
    return {"set": "drawn", "count": count, "seed": 3, "size": 32, **more}


def make(*data, size=32, **parts) -> Settings:
    """Settings of a run of a second or less."""
    fits = {
        "epochs": 2,
        "batch": 8,
        "workers": 0,
        "accelerator": "cpu",
        "find_points": False,
        **parts.pop("fit", {}),
    }
    augment = {"degrade": 0.0, "erase": 0.0, **parts.pop("augment", {})}
    pixels = {
        "size": size,
        "colour": "grey",
        "alignment": "similarity5",
        "template": TEMPLATE,
        "mean": [127.0],
        "std": [64.0],
    }
    usual = {
        "name": "tiny", "data": data or [drawn()], "tasks": TASK_KEYS, "pixels": pixels, "network": {"backbone": "test_resnet"},
        "optim": {"lr": 2e-3}, "augment": augment, "fit": fits,
    }  # fmt: skip
    return Settings.model_validate(usual | parts)


def table_file(folder: Path, table: pd.DataFrame, **more) -> dict:
    """A table of pictures as a label file; points in one column."""
    table.to_parquet(folder / "labels.parquet")
    return {"set": "file", "path": folder / "labels.parquet", **more}


def coded(count=80, tasks=TASK_KEYS, **more) -> pd.DataFrame:
    """Drawn faces as encoded pictures."""
    table = load_drawn(count, size=32, tasks=[TASKS[key] for key in tasks], **more)
    return table.assign(
        image=[cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in table["image"]]
    )


class Stop(Progress):
    """Breaks off as Ctrl-C does, after so many steps or epochs, and hears the notes."""

    def __init__(self, steps=0, epochs=0):
        self.steps, self.epochs, self.notes, self.done = steps, epochs, [], []

    def step(self, done, loss, rate, score):
        self.done.append(done)
        if done == self.steps:
            raise KeyboardInterrupt

    def epoch(self, row):
        if row["epoch"] + 1 == self.epochs:
            raise KeyboardInterrupt

    def note(self, line):
        self.notes.append(line)


def tensors(tree, at=""):
    """All tensors and numbers of a checkpoint by their place in it, but the seconds it took."""
    if isinstance(tree, dict | list):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {
            k: v
            for key, value in pairs
            if key != "seconds"
            for k, v in tensors(value, f"{at}/{key}").items()
        }
    return {at: tree}


def same(one: Path, other: Path) -> None:
    """Both runs ended with the same weights, averages, moments and random state, to the last bit."""
    for name in ("last.pt", "best.pt"):
        left, right = (
            tensors(torch.load(folder / name, weights_only=True)) for folder in (one, other)
        )
        assert left.keys() == right.keys()
        for place, value in left.items():
            equal = (
                torch.equal(value, right[place])
                if isinstance(value, torch.Tensor)
                else value == right[place]
            )
            assert equal, f"{name}: {place}"
    curves = [pd.read_csv(folder / "curve.csv").drop(columns="seconds") for folder in (one, other)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def refuses(settings, out, *parts, kind=DataError) -> None:
    """One clear line that holds all of `parts`."""
    with pytest.raises(kind) as caught:
        fit(settings, out)
    line = str(caught.value)
    assert "\n" not in line, line
    for part in parts:
        assert part in line, line


# It learns, and what it leaves is whole and true.


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    settings = make(
        drawn(1000, size=64), size=40, optim={"lr": 3e-3, "warmup": 0.1, "average": 0.95}, fit={"epochs": 6, "batch": 32},
        losses={"au": {"weight": 4.0, "positives": True}}, augment={"turn": 5, "grow": 0.05, "shift": 0.02},
    )  # fmt: skip
    return settings, fit(settings, tmp_path_factory.mktemp("learned") / "run")


@pytest.fixture(scope="module")
def scores(learned):
    """By an independent road: weights of best.pt, sklearn's F1; and the F1 that units get from one who always says yes."""
    settings, run = learned
    tables, tasks, _ = load_tables(settings, run.folder, print)
    val = tables["val"]
    raw, fine = raw_scores(network_of(run), CropDataset(val, tasks, settings.pixels), workers=0)
    assert fine.all()
    truth, found = (
        {t.family: labels(val, t) for t in tasks},
        {t.family: t.decode(raw[t.family]) for t in tasks},
    )
    expr = f1_score(truth["expr"].argmax(1), found["expr"].argmax(1), average="macro")
    au = np.mean([f1_score(t, p) for t, p in zip(truth["au"].T, found["au"].T >= 0.5, strict=True)])
    va = np.mean([ccc(found["va"][:, i], truth["va"][:, i]) for i in range(2)])
    return {
        "expr": expr,
        "va": va,
        "au": au,
        "always": np.mean([f1_score(t, np.ones(len(t))) for t in truth["au"].T]),
    }


def test_learns_faces_of_people_it_never_saw(scores):
    assert scores["expr"] > 0.4  # chance: 1/7
    assert scores["va"] > 0.5  # chance: 0
    assert scores["au"] > scores["always"] + 0.15


def test_the_run_folder_is_whole_and_true(learned, scores):
    settings, run = learned
    files = {path.name for path in run.folder.iterdir() if path.is_file()}
    assert files == {"settings.yaml", "run.json", "curve.csv", "best.pt", "last.pt"}
    assert run.settings == settings
    curve = pd.read_csv(run.folder / "curve.csv")
    best = int(curve["score"].idxmax())
    assert curve["epoch"].tolist() == list(range(6))
    assert curve["seconds"].is_monotonic_increasing
    np.testing.assert_allclose(curve["score"], curve[["expr", "va", "au"]].mean(axis=1), atol=1e-9)
    for family in ("expr", "va", "au"):
        assert curve[family][best] == pytest.approx(scores[family], abs=1e-6)
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts["rows"] == {"train": 800, "val": 200}
    assert facts["best_epoch"] == best
    assert facts["seed"] == 0
    assert facts["processes"] == 1
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert [task["key"] for task in facts["tasks"]] == list(TASK_KEYS)
    assert {"started", "finished", "device", "notes"} <= set(facts)
    assert facts["seconds"] == pytest.approx(curve["seconds"].iloc[-1], abs=1)
    assert run.load("best.pt")["epoch"] == best


def test_weights_noted_are_those_of_the_labels(tmp_path):
    settings = make(
        losses={"expr": {"classes": "max"}, "au": {"positives": True}}, fit={"epochs": 1}
    )
    weights = fit(settings, tmp_path).facts["weights"]
    train = load_set(settings.data[0], [TASKS["expr.abaw7"], TASKS["au.abaw12"]]).query(
        "split == 'train'"
    )
    counts = labels(train, TASKS["expr.abaw7"]).sum(axis=0)
    np.testing.assert_allclose(weights["expr"]["classes"], counts.max() / counts, rtol=1e-6)
    units = labels(train, TASKS["au.abaw12"])
    np.testing.assert_allclose(
        weights["au"]["positives"],
        [len(units) / 2 / (1 - units).sum(0), len(units) / 2 / units.sum(0)],
        rtol=1e-6,
    )


def test_the_time_of_a_run_is_counted_once(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    real = loop.headline
    monkeypatch.setattr(
        loop, "headline", lambda *args: (now.__setitem__(0, now[0] + 5), real(*args))[1]
    )
    run = fit(make(tasks=["va"], fit={"epochs": 3}), tmp_path)
    assert (
        run.facts["seconds"] == now[0] == 3 * 2 * 5
    )  # judged: the watched score and one family, each epoch


# Killed and started again.


RICH = {
    "network": {"backbone": "test_resnet", "dropout": 0.3}, "optim": {"lr": 2e-3, "sam": 0.05, "average": 0.9, "warmup": 0.2, "clip": 5.0},
    "augment": {"mixup": 0.4, "erase": 0.2, "degrade": 1.0},
}  # fmt: skip


def rich(**fits) -> Settings:
    """48 faces to train on: six steps an epoch, two epochs; all that keeps state or draws at random is on."""
    return make(**RICH, fit={"balance": "class", **fits})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return fit(rich(), tmp_path_factory.mktemp("unbroken")).folder


@pytest.mark.parametrize(
    ("step", "before", "after"), [(1, 0, 0), (3, 1, 0), (6, 0, 1), (7, 0, 0), (12, 1, 1)]
)
def test_interrupted_after_a_step(tmp_path, unbroken, step, before, after):
    """First, middle and last step of an epoch, and the first and last of the next; the number of loaders may change."""
    with pytest.raises(KeyboardInterrupt):
        fit(rich(workers=before), tmp_path, Stop(steps=step))
    assert RunFolder(tmp_path).load("last.pt")["step"] == step
    again = Stop()
    fit(rich(workers=after), tmp_path, again)
    assert again.done == list(range(step + 1, 13))
    same(tmp_path, unbroken)


def test_interrupted_twice_and_after_an_epoch(tmp_path, unbroken):
    for stop in (Stop(steps=2), Stop(epochs=1), Stop(steps=8)):
        with pytest.raises(KeyboardInterrupt):
            fit(rich(), tmp_path, stop)
    fit(rich(), tmp_path)
    same(tmp_path, unbroken)


@pytest.mark.parametrize("calls", [3, 9])
def test_interrupted_amid_a_step_saves_nothing_half(tmp_path, unbroken, calls, monkeypatch):
    update, made = Average.update, []

    def broken(self, net):
        update(self, net)
        made.append(1)
        if len(made) == calls:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Average, "update", broken)
        with pytest.raises(KeyboardInterrupt):
            fit(rich(), tmp_path)
    saved = RunFolder(tmp_path).load("last.pt")
    assert saved is None if calls == 3 else saved["step"] == 6
    fit(rich(), tmp_path)
    same(tmp_path, unbroken)


def test_going_on_from_an_older_checkpoint(tmp_path, unbroken):
    class Keep(Progress):
        def epoch(self, row):
            if row["epoch"] == 0:
                shutil.copy(tmp_path / "last.pt", tmp_path / "old.pt")

    fit(rich(), tmp_path, Keep())
    (tmp_path / "old.pt").replace(tmp_path / "last.pt")
    fit(rich(), tmp_path)
    same(tmp_path, unbroken)


def run_script(script: Path, *args, launcher=()) -> subprocess.CompletedProcess:
    """A script in a process of its own, one thread, with no way to the internet that it would need."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
    }
    command = [sys.executable, *launcher, str(script), *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, check=False
    )


def test_killed_outright(tmp_path, unbroken):
    """SIGKILL in the middle of writing a checkpoint: its half file lies there, and the one before is whole."""
    out, script = tmp_path / "run", tmp_path / "killed.py"
    (tmp_path / "settings.json").write_text(rich(save_minutes=1e-9).model_dump_json())
    script.write_text(
        "import os, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from mien.train.loop import fit\n"
        "from mien.train.settings.training import Settings\n"
        "save = torch.save\n"
        "def half(state, path):\n"
        "    save(state, path)\n"
        "    if state.get('step') == 9:\n"
        "        os.truncate(path, 1000)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.save = half\n"
        "torch.set_num_threads(1)\n"
        "fit(Settings.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))\n"
    )
    done = run_script(script, tmp_path / "settings.json", out)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert next(out.glob(".last.pt.*.part")).stat().st_size == 1000
    assert RunFolder(out).load("last.pt")["step"] == 8
    fit(rich(save_minutes=5.0), out)
    same(out, unbroken)


@pytest.mark.parametrize("kind", ["crop", "picture"])
def test_interrupted_with_a_teacher(tmp_path, unbroken, kind):
    """Teachers draw weights before they load theirs, and remembered ones do not: dropout must not notice."""
    parts = {
        "network": {"backbone": "test_resnet", "dropout": 0.3},
        "losses": {"va": {"distill": {"weight": 0.5}}},
        "teachers": [unbroken],
    }
    settings = make(**parts, teachers_see=kind)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(settings, whole)
    with pytest.raises(KeyboardInterrupt):
        fit(settings, broken, Stop(steps=4))
    if kind == "picture":  # killed between what the teachers said and the first checkpoint
        early = tmp_path / "early"
        early.mkdir()
        shutil.copy(broken / "taught.pt", early)
        fit(settings, early)
        same(early, whole)
    fit(settings, broken)
    same(broken, whole)


def test_a_resumed_run_shows_each_epoch_once(tmp_path):
    """In curve.csv and to TensorBoard, also where the state to resume from is older than what was shown."""

    class Keep(Progress):
        def epoch(self, row):
            if row["epoch"] == 0:
                shutil.copy(tmp_path / "last.pt", tmp_path / "old.pt")

    settings = make(tasks=["va"], fit={"epochs": 3})
    fit(settings, tmp_path, Keep())
    (tmp_path / "old.pt").replace(tmp_path / "last.pt")
    fit(settings, tmp_path)
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert set(curve) == {"epoch", "loss", "score", "va", "seconds", "step"}
    assert curve["epoch"].tolist() == [0, 1, 2]
    assert curve["step"].tolist() == [6, 12, 18]
    assert [row["loss"] for row in RunFolder(tmp_path).load("last.pt")["rows"]] == curve[
        "loss"
    ].tolist()
    pytest.importorskip("tensorboard", reason="the rest needs TensorBoard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(tmp_path / "events")).Reload()
    assert set(shown.Tags()["scalars"]) == set(curve) - {"step"}
    for name in ("epoch", "score"):
        points = shown.Scalars(name)
        assert [point.step for point in points] == curve["step"].tolist()
        np.testing.assert_allclose([point.value for point in points], curve[name], rtol=1e-6)


def test_a_curve_that_cannot_be_written_is_one_clear_line(tmp_path):
    class Block(Progress):
        def step(self, done, loss, rate, score):
            (tmp_path / "curve.csv").mkdir(exist_ok=True)

    with pytest.raises(OutputError, match=r"curve\.csv: cannot be written \(.*\); ") as caught:
        fit(make(tasks=["va"]), tmp_path, Block())
    assert "\n" not in str(caught.value)
    (tmp_path / "curve.csv").rmdir()
    fit(make(tasks=["va"]), tmp_path)
    assert pd.read_csv(tmp_path / "curve.csv")["epoch"].tolist() == [0, 1]


def test_a_finished_run_stays_as_it_is(tmp_path, unbroken):
    shutil.copytree(unbroken, tmp_path / "copy")
    again = Stop()
    fit(rich(), tmp_path / "copy", again)
    assert not again.done
    same(tmp_path / "copy", unbroken)


def test_other_settings_are_refused_by_name(tmp_path, unbroken):
    before = {path: path.read_bytes() for path in unbroken.rglob("*.*") if path.is_file()}
    refuses(rich(epochs=3), unbroken, "fit.epochs was 2, now 3", "--out")
    other = {**RICH, "optim": {**RICH["optim"], "lr": 1e-4}}
    refuses(make(**other, fit={"balance": "class"}), unbroken, "optim.lr was 0.002, now 0.0001")
    assert {path: path.read_bytes() for path in unbroken.rglob("*.*") if path.is_file()} == before


def test_other_data_are_refused(tmp_path):
    table = coded(tasks=["va"])
    settings = make(table_file(tmp_path, table), tasks=["va"], fit={"epochs": 1})
    fit(settings, tmp_path / "run")
    table_file(tmp_path, table.drop(index=5))
    refuses(settings, tmp_path / "run", "'train': 64", "'train': 63")


# Several processes as one.

DRIVER = """
import sys
import warnings
from pathlib import Path
import atexit
import torch
from mien.train.loop import fit
from mien.train.settings.training import Settings

torch.set_num_threads(1)
warnings.simplefilter("error", FutureWarning)


@atexit.register  # registered first, so it runs last: the group must have been left by then
def check_group_left():
    print("in a group" if torch.distributed.is_initialized() else "left the group", flush=True)


for name in sys.argv[2:]:
    folder = Path(sys.argv[1], name)
    fit(Settings.model_validate_json(Path(sys.argv[1], name + ".json").read_text()), folder)
"""


def two_processes(tmp_path, **settings):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    for name, one in settings.items():
        (tmp_path / f"{name}.json").write_text(one.model_dump_json())
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    launcher = (
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--master-addr=127.0.0.1",
        f"--master-port={port}",
    )
    done = run_script(script, tmp_path, *settings, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    # A process that ends inside its group may abort: gloo's threads call into an ending Python.
    assert done.stdout.count("left the group") == 2


def test_two_processes_learn_what_one_does(tmp_path, unbroken):
    """Batch norm over the whole batch, concordance over the whole batch; with SAM, averages, a teacher, frozen epochs.

    Plain SGD at a rate that does not blow rounding up: weights and statistics within 1e-5, scores within 1e-3. AdamW divides by the
    gradient's own size, so rounding in a gradient near 0 becomes a whole step: losses within 1 %.
    """
    sgd = {"optimiser": "sgd", "lr": 0.005, "sam": 0.02, "average": 0.9, "clip": 1.0}
    cases = {
        "plain": make(optim=sgd),
        "frozen": make(
            optim=sgd,
            teachers=[unbroken],
            teachers_see="picture",
            losses={"va": {"distill": {"weight": 0.5}}},
            fit={"frozen_epochs": 1},
        ),
        "adam": make(),
    }
    two_processes(tmp_path, **cases)
    for name, settings in cases.items():
        alone = fit(settings, tmp_path / f"{name}-alone")
        both = RunFolder(tmp_path / name)
        assert (both.facts["processes"], alone.facts["processes"]) == (2, 1)
        ours, theirs = (
            pd.read_csv(both.folder / "curve.csv"),
            pd.read_csv(alone.folder / "curve.csv"),
        )
        np.testing.assert_allclose(
            ours["loss"], theirs["loss"], rtol=1e-2 if name == "adam" else 1e-5
        )
        if name != "adam":
            for family in ("score", "expr", "va", "au"):
                np.testing.assert_allclose(ours[family], theirs[family], atol=1e-3)
            one, two = (tensors(run.load("last.pt")) for run in (alone, both))
            assert one.keys() == two.keys()
            for place in one:
                if place.startswith(("/net", "/average")):
                    torch.testing.assert_close(
                        two[place].float(), one[place].float(), rtol=1e-4, atol=1e-5
                    )


def test_a_batch_that_cannot_be_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr("mien.train.loop.Fabric.world_size", property(lambda self: 2))
    refuses(
        make(fit={"batch": 15}),
        tmp_path / "run",
        "fit.batch: 15 faces cannot be shared out to 2 processes",
    )


# Teachers.


def spread(run: RunFolder, settings: Settings, split="val") -> dict[str, np.ndarray]:
    """What a run says of the faces of `settings`."""
    tables, tasks, _ = load_tables(settings, run.folder, print)
    raw, _ = raw_scores(
        network_of(run), CropDataset(tables[split], tasks, run.settings.pixels), workers=0
    )
    return {task.family: task.decode(raw[task.family]) for task in tasks}


@pytest.mark.parametrize("see", ["crop", "picture"])
def test_distillation_moves_the_student_to_the_teacher(tmp_path, learned, see):
    """All of the cost is the teacher's here: where the student ends is nearer to it than to the labels."""
    _, teacher = learned
    alone = {"distill": {"weight": 1.0}}
    settings = make(
        drawn(100), size=40 if see == "crop" else 32, teachers=[teacher.folder], teachers_see=see, optim={"lr": 3e-3},
        losses={"expr": alone, "va": alone, "au": alone}, fit={"epochs": 12}, augment={"turn": 0, "grow": 0, "shift": 0},
    )  # fmt: skip
    run = fit(settings, tmp_path / "student")
    theirs, ours = spread(teacher, settings, "train"), spread(run, settings, "train")
    for family in ("expr", "va", "au"):
        start = theirs[family].mean(axis=0)  # as near as one can be without looking
        assert (
            np.abs(ours[family] - theirs[family]).mean()
            < 0.8 * np.abs(start - theirs[family]).mean()
        ), family
    assert (run.folder / "taught.pt").exists() == (see == "picture")


def test_what_teachers_say_is_the_mean_of_both_mirror_images(tmp_path, learned):
    _, teacher = learned
    settings = make(
        drawn(40),
        teachers=[teacher.folder, teacher.folder],
        teachers_see="picture",
        losses={"au": {"distill": {}}},
    )
    run = RunFolder(tmp_path, settings)
    tables, tasks, _ = load_tables(settings, tmp_path, print)
    ask = teacher_of(settings, run, tasks, tables["train"], torch.device("cpu"))
    images = torch.stack(
        [image for image, _, _ in CropDataset(tables["train"], tasks, teacher.settings.pixels)]
    )
    with torch.no_grad():
        views = [network_of(teacher)(one) for one in (images, images.flip(3))]
    said = ask(images[[3, 1]], [3, 1])
    expected = [torch.stack([view[i] for view in views])[:, [3, 1]] for i in range(3)]
    torch.testing.assert_close(
        said[0].softmax(1), expected[0].softmax(2).mean(0), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(said[1], expected[1].mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        said[2].sigmoid(), expected[2].sigmoid().mean(0), atol=1e-5, rtol=1e-4
    )


def test_teachers_that_do_not_fit(tmp_path, unbroken):
    student = {"losses": {"va": {"distill": {}}}, "teachers": [unbroken]}
    refuses(
        make(tasks=["va"], **student),
        tmp_path / "a",
        str(unbroken),
        "trained on expr.abaw7, va, au.abaw12",
    )
    refuses(make(size=40, **student), tmp_path / "b", "reads other crops", "teachers_see")
    refuses(
        make(**{**student, "teachers": [tmp_path / "no"]}),
        tmp_path / "c",
        str(tmp_path / "no"),
        kind=MienError,
    )
    binned = make(
        tasks=["va"],
        network={"backbone": "test_resnet", "heads": {"va": {"bins": 20}}},
        losses={"va": {"kind": "bins"}},
    )
    fit(binned, tmp_path / "binned")
    refuses(
        make(tasks=["va"], losses=student["losses"], teachers=[tmp_path / "binned"]),
        tmp_path / "d",
        "by bins",
    )


# What the settings ask for, happens.


def test_frozen_epochs_leave_the_backbone_alone(tmp_path):
    settings = make(
        optim={"lr": 1e-2, "average": 0.9, "weight_decay": 0.1, "sam": 0.05},
        fit={"frozen_epochs": 2, "epochs": 3},
    )
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path, Stop(epochs=2))
    torch.manual_seed(settings.fit.seed)
    start = build(settings.network, settings.named_tasks(), 1, 32).state_dict()

    def moved(name: str) -> set[str]:
        saved = {
            k.removeprefix("net."): v for k, v in RunFolder(tmp_path).load("last.pt")[name].items()
        }
        return {
            place.split(".")[0]
            for place, value in start.items()
            if not torch.equal(value, saved[place])
        }

    assert moved("net") == {"heads"}
    assert moved("average") == {"heads"}
    fit(settings, tmp_path)
    assert moved("net") == {"heads", "backbone"}


def test_patience(tmp_path):
    """hust-ant-and-distillation §7.8: patience 6, best after the first epoch, flat from then on: the seventh is the last."""
    heard = Stop()
    still = make(
        tasks=["va"],
        optim={"lr": 1e-30},
        fit={"epochs": 12, "frozen_epochs": 12, "patience": 6, "batch": 48},
    )
    run = fit(still, tmp_path, heard)
    curve = pd.read_csv(run.folder / "curve.csv")
    assert curve["score"].nunique() == 1
    assert len(curve) == 7
    assert run.facts["best_epoch"] == 0
    assert heard.notes[-1].startswith("stopped after epoch 6")
    again = Stop()
    fit(still, tmp_path, again)
    assert not again.done


def test_the_last_epoch_is_kept_where_that_is_asked_for(tmp_path):
    """Of equal scores the first epoch has the best; keep says last, and then nothing is chosen on split val."""
    still = {"tasks": ["va"], "optim": {"lr": 1e-30}}
    fits = {"epochs": 3, "frozen_epochs": 3, "batch": 48}
    runs = {
        keep: fit(make(**still, fit={**fits, "keep": keep}), tmp_path / keep)
        for keep in ("best", "last")
    }
    assert [runs[keep].facts["best_epoch"] for keep in ("best", "last")] == [0, 2]
    moving = {"epochs": 3, "keep": "last"}
    run, broken = fit(make(fit=moving), tmp_path / "moving"), tmp_path / "broken"
    for one in (runs["last"], run):
        best, last = (one.load(name) for name in ("best.pt", "last.pt"))
        assert best["epoch"] == 2
        assert best["score"] == pd.read_csv(one.folder / "curve.csv")["score"].iloc[-1]
        assert all(torch.equal(best["net"][name], value) for name, value in last["net"].items())
    with pytest.raises(KeyboardInterrupt):
        fit(make(fit=moving), broken, Stop(epochs=2))
    fit(make(fit=moving), broken)
    same(broken, run.folder)
    with pytest.raises(ValueError, match="keep says last"):
        make(fit={"keep": "last", "patience": 2})


def test_watch_decides_what_is_best(tmp_path):
    run = fit(make(fit={"epochs": 3, "watch": "va.ccc_arousal"}), tmp_path)
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert run.facts["best_epoch"] == curve["score"].idxmax()
    tables, tasks, _ = load_tables(run.settings, tmp_path, print)
    raw, _ = raw_scores(
        network_of(run), CropDataset(tables["val"], tasks, run.settings.pixels), workers=0
    )
    assert curve["score"].max() == pytest.approx(
        ccc(raw["va"][:, 1], tables["val"]["arousal"]), abs=1e-6
    )


def test_bins(tmp_path):
    heads = {"va": {"bins": 20}}
    run = fit(
        make(network={"backbone": "test_resnet", "heads": heads}, losses={"va": {"kind": "bins"}}),
        tmp_path / "a",
    )
    assert np.abs(spread(run, run.settings)["va"]).max() <= 1
    refuses(
        make(losses={"va": {"kind": "bins"}}),
        tmp_path / "b",
        "losses.va needs a head with bins: 20",
        "network.heads.va",
    )
    refuses(
        make(network={"backbone": "test_resnet", "heads": heads}),
        tmp_path / "c",
        "losses.va needs a head with no bins",
    )
    refuses(make(losses={"expr": {"kind": "ccc"}}), tmp_path / "d", "expr is a one_of task")


@pytest.mark.parametrize("kind", ["focal", "logit_adjusted"])
def test_losses_against_imbalance(tmp_path, kind):
    run = fit(make(losses={"expr": {"kind": kind}, "au": {"kind": kind}}), tmp_path)
    loss = pd.read_csv(run.folder / "curve.csv")["loss"]
    assert loss.iloc[-1] < loss.iloc[0]


def test_adjusted_networks_start_at_the_means_of_what_is_learned():
    """With the priors on top, the answer is the frequencies; so the network itself says nothing yet."""
    settings = make(losses={"expr": {"kind": "logit_adjusted"}, "au": {"kind": "logit_adjusted"}})
    tasks = [TASKS[key] for key in TASK_KEYS]
    truth = {task.family: labels(coded(), task) for task in tasks}
    net, objective = build_network(settings, tasks, truth)
    expr, _, au = net.heads
    means = np.nanmean(truth["expr"], axis=0)
    shares = (expr.last.bias + objective.log_priors(tasks[0])).softmax(dim=0)
    np.testing.assert_allclose(shares.detach(), means, atol=0.01)
    np.testing.assert_allclose(au.last.bias.detach(), 0, atol=1e-4)


def test_every_balance(tmp_path):
    ends = {}
    for balance in ("none", "class", "va", "both"):
        fit(make(drawn(60), fit={"balance": balance, "epochs": 1}), tmp_path / balance)
        ends[balance] = (
            RunFolder(tmp_path / balance).load("last.pt")["net"]["heads.0.weight"].numpy().tobytes()
        )
    assert len(set(ends.values())) == 4
    refuses(
        make(tasks=["expr.abaw7"], fit={"balance": "va"}), tmp_path / "x", "fit.balance: va needs"
    )


def test_a_face_drawn_twice_in_an_epoch_is_shaken_otherwise(tmp_path, monkeypatch):
    asked, item = [], AugmentedCropDataset.__getitem__
    monkeypatch.setattr(
        AugmentedCropDataset,
        "__getitem__",
        lambda self, key: (asked.append(key), item(self, key))[1],
    )
    fit(make(tasks=["expr.abaw7"], fit={"balance": "class"}), tmp_path)
    first = [row for _, row in asked[:48]]
    assert len(set(first)) < len(first) == 48
    assert len(set(asked)) == len(asked) == 96


@pytest.mark.parametrize("name", [*OWN, "test_efficientnet"])
def test_every_family_of_networks_learns_a_step(tmp_path, name):
    size = 75 if name == "smm" else 48 if name.startswith("mobilefacenet") else 32
    data, fits = [drawn(16, split="train"), drawn(5, split="val")], {"epochs": 1, "batch": 16}
    run = fit(make(*data, size=size, tasks=["va"], fit=fits, network={"backbone": name}), tmp_path)
    assert run.load("last.pt")["step"] == 1
    assert all(torch.isfinite(value).all() for value in network_of(run).state_dict().values())


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_precision(tmp_path, precision):
    curve = pd.read_csv(
        fit(make(fit={"precision": precision, "epochs": 1}), tmp_path).folder / "curve.csv"
    )
    assert np.isfinite(curve.to_numpy()).all()


def test_precision_that_the_device_lacks_is_refused(tmp_path, monkeypatch):
    refuses(
        make(fit={"precision": "16-mixed"}),
        tmp_path,
        "fit.precision: cpu here does not compute in 16-mixed; use bf16-mixed or 32-true",
    )
    assert not (tmp_path / "settings.yaml").exists()


def test_the_scale_of_half_precision_goes_into_a_checkpoint(tmp_path):
    """Gradients that overflow halve it; a run that forgot it would take other steps."""
    settings = make()
    tasks = [TASKS[key] for key in TASK_KEYS]
    states = []
    for _ in range(2):
        net = build(settings.network, tasks, 1, 32)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        precision = MixedPrecision("16-mixed", "cpu", scaler)
        states.append(TrainingState(net, None, make_optimiser(net, settings.optim), precision))
    first, second = states
    first.precision.backward(
        sum(raw.sum() for raw in first.net(torch.randn(2, 1, 32, 32))) * 1e38, None
    )
    before = [parameter.clone() for parameter in first.net.parameters()]
    first.precision.optimizer_step(first.optimiser)
    assert all(map(torch.equal, before, first.net.parameters()))
    second.restore(first.to_checkpoint(), tmp_path)
    assert second.precision.scaler.get_scale() == 2.0**9


# Bad input: one line, and nothing is lost.


def test_labels_that_cannot_be_learned(tmp_path):
    table = coded()
    for column, value, said in (
        ("valence", 3.0, "column valence is 3 in row 7"),
        ("split", "train", "no face is in split val"),
        ("split", "dev", "no split is named dev"),
    ):
        wrong = table.copy()
        if column == "split":
            wrong["split"], wrong["subject"] = value, None
        else:
            wrong.loc[7, column] = value
        refuses(make(table_file(tmp_path, wrong)), tmp_path / "run", said)
    fearless = table[(table["split"] == "val") | (table["expr_fear"] == 0)]
    refuses(
        make(table_file(tmp_path, fearless)), tmp_path / "run", "no face in split train shows fear"
    )
    bare = table.assign(**dict.fromkeys(TASKS["au.abaw12"].columns, np.nan))
    refuses(
        make(table_file(tmp_path, bare)),
        tmp_path / "run",
        "au.abaw12: no label for AU01",
        "leave the task out",
    )
    assert not (tmp_path / "run" / "last.pt").exists()


def test_pictures_that_are_not_there(tmp_path):
    table = coded().assign(image=[f"faces/{i}.png" for i in range(80)])
    refuses(
        make(table_file(tmp_path, table)),
        tmp_path / "run",
        "80 of 80 pictures are not there",
        "faces/0.png",
    )


def on_disk(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    names = [f"{i}.png" for i in range(len(table))]
    for name, image in zip(names, table["image"], strict=True):
        (folder / name).write_bytes(image)
    return table.assign(image=names)


@pytest.mark.parametrize(("split", "workers"), [("train", 1), ("train", 0), ("val", 1)])
def test_one_damaged_picture_among_many(tmp_path, split, workers):
    table = on_disk(tmp_path, coded(90))
    row = int(np.flatnonzero(table["split"] == split)[3])
    (tmp_path / f"{row}.png").write_bytes(b"not a picture")
    data = table_file(tmp_path, table)
    refuses(make(data, fit={"workers": workers}), tmp_path / "run", str(tmp_path / f"{row}.png"))
    heard = Stop()
    mixing = {"mixup": 0.5} if split == "train" else {}
    run = fit(
        make(data, fit={"workers": workers, "skip_unreadable": True, "epochs": 1}, augment=mixing),
        tmp_path / "skip",
        heard,
    )
    assert run.facts[f"unreadable_{split}"] == {"count": 1, "first": [str(tmp_path / f"{row}.png")]}
    assert [f"1 pictures of split {split} could not be read" in line for line in heard.notes].count(
        True
    ) == 1
    assert np.isfinite(pd.read_csv(run.folder / "curve.csv")["score"]).all()


def bare(tmp_path) -> dict:
    """80 faces to train on: 10 with both labels, 4 with their expression alone, 66 with none."""
    table = coded(100, tasks=["expr.abaw7", "va"])
    train = np.flatnonzero(table["split"] == "train")
    table.loc[train[10:], ["valence", "arousal"]] = np.nan
    table.loc[train[14:], list(TASKS["expr.abaw7"].columns)] = np.nan
    return table_file(tmp_path, table)


def test_training_rows_without_any_label_are_left_out_and_counted(tmp_path):
    heard = Stop()
    run = fit(
        make(bare(tmp_path), tasks=["expr.abaw7", "va"], fit={"batch": 4, "epochs": 1}),
        tmp_path / "run",
        heard,
    )
    assert run.facts["rows"] == {"train": 14, "val": 20}
    line = "66 training pictures have no label of expr.abaw7, va and were left out"
    assert line in heard.notes
    assert line in run.facts["notes"]
    assert len(heard.done) == 3  # 14 faces in batches of 4, of which the last is not whole
    alone = fit(make(bare(tmp_path), tasks=["va"], fit={"batch": 4, "epochs": 1}), tmp_path / "va")
    assert alone.facts["rows"] == {"train": 10, "val": 20}


def test_a_teacher_has_something_to_say_of_rows_without_a_label(tmp_path):
    teacher = fit(make(tasks=["va"], fit={"epochs": 1}), tmp_path / "teacher").folder
    parts = {"losses": {"va": {"distill": {"weight": 0.5}}}, "teachers": [teacher], "tasks": ["va"]}
    run = fit(make(bare(tmp_path), **parts, fit={"epochs": 1}), tmp_path / "run")
    assert run.facts["rows"] == {"train": 80, "val": 20}


def test_batches_without_a_label_of_one_task(tmp_path):
    """10 faces with valence and arousal lie in at most 10 of 20 batches; the other task's label keeps the rows."""
    table = coded(100, tasks=["expr.abaw7", "va"])
    table.loc[np.flatnonzero(table["split"] == "train")[10:], ["valence", "arousal"]] = np.nan
    losses = []

    class Hear(Progress):
        def step(self, done, loss, rate, score):
            losses.append(loss * ((done - 1) % 20 + 1))

    idle = {"expr": {"weight": 1e-12}}
    settings = make(
        table_file(tmp_path, table),
        tasks=["expr.abaw7", "va"],
        losses=idle,
        fit={"batch": 4, "epochs": 1},
    )
    run = fit(settings, tmp_path / "run", Hear())
    costs = np.diff([0, *losses])
    assert np.isfinite(costs).all()
    assert np.sum(np.abs(costs) < 1e-9) >= 10
    assert all(torch.isfinite(value).all() for value in run.load("last.pt")["net"].values())


def test_constant_targets(tmp_path):
    table = coded(tasks=["va"]).assign(valence=0.25, arousal=-0.5)
    run = fit(make(table_file(tmp_path, table), tasks=["va"]), tmp_path / "run")
    curve = pd.read_csv(run.folder / "curve.csv")
    assert np.isfinite(curve.to_numpy()).all()
    np.testing.assert_allclose(spread(run, run.settings)["va"].mean(axis=0), [0.25, -0.5], atol=0.2)
    refuses(
        make(run.settings.data[0].model_dump(), tasks=["va"], losses={"va": {"kind": "mse"}}),
        tmp_path / "mse",
        "does not vary",
    )


def test_damaged_and_foreign_checkpoints(tmp_path, unbroken):
    shutil.copytree(unbroken, tmp_path / "run")
    last = tmp_path / "run" / "last.pt"
    last.write_bytes(last.read_bytes()[:5000])
    refuses(rich(), tmp_path / "run", str(last), "damaged", "delete it")
    for other in (
        make(network={"backbone": "test_efficientnet"}, fit={"epochs": 1}),
        make(fit={"epochs": 1}),
    ):
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        fit(other, tmp_path / "other")
        shutil.copy(tmp_path / "other" / "last.pt", last)
        refuses(rich(), tmp_path / "run", str(last), "another run", "delete it")
    last.unlink()
    fit(rich(), tmp_path / "run")
    same(tmp_path / "run", unbroken)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, unbroken, monkeypatch):
    """Once as the system says it when a file is brought to the disk, once with a limit that the writer itself runs into."""

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    class Fill(Progress):
        def step(self, done, loss, rate, score):
            if done == 8:
                monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(
        OutputError, match=r"the disk may be full.*the previous one is kept"
    ) as caught:
        fit(rich(), tmp_path, Fill())
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert RunFolder(tmp_path).load("last.pt")["step"] == 6
    assert not list(tmp_path.glob(".*.part"))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Limit(Progress):
        def step(self, done, loss, rate, score):
            if done == 10:
                resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))

    try:
        with pytest.raises(OutputError, match=r"cannot be written") as caught:
            fit(rich(), tmp_path, Limit())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert RunFolder(tmp_path).load("last.pt")["step"] == 6
    assert not list(tmp_path.glob(".*.part"))
    fit(rich(), tmp_path)
    same(tmp_path, unbroken)


def test_a_loss_that_is_no_number(tmp_path):
    wild = make(optim={"optimiser": "sgd", "lr": 1e30}, fit={"save_minutes": 1e-9})
    refuses(wild, tmp_path, "the loss is", "at step", "lower optim.lr")
    net = RunFolder(tmp_path).load("last.pt")["net"]
    assert all(torch.isfinite(value).all() for value in net.values())


# Pictures that come without points.


@pytest.fixture(scope="module")
def classes(face, tmp_path_factory):
    """Two classes of cut-outs of one portrait, bright and dark, with three pictures that show nobody."""
    root, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    places = {}
    for name, gain in (("bright", 1.0), ("dark", 0.6)):
        (root / name).mkdir()
        for i in range(12):
            x, y = rng.integers(100, 150), rng.integers(0, 50)
            image = (face[y : y + 240, x : x + 240] * gain).astype(np.uint8)
            places[str(root / name / f"{i:02}.png")] = (x, y)
            if i < 3 and name == "dark":
                image = np.full((240, 240, 3), 20 * i, np.uint8)
                del places[str(root / name / f"{i:02}.png")]
            cv2.imwrite(str(root / name / f"{i:02}.png"), image[..., ::-1])
    return root, places


def test_points_are_found_and_remembered(tmp_path, classes, face):
    root, places = classes
    data = {
        "set": "folder",
        "root": root,
        "split": {"by": None, "shares": {"train": 0.7, "val": 0.3}, "seed": 0},
    }
    settings = make(data, tasks=[], fit={"find_points": True, "batch": 4, "epochs": 1})
    heard = Stop()
    fit(settings, tmp_path, heard)
    assert (
        "faces found in 21 of 24 pictures that came without points; the others are read whole"
        in heard.notes
    )
    found = pd.read_parquet(tmp_path / "points.parquet").set_index("image")["points"]
    assert {name for name, five in found.items() if five is not None} == set(places)
    eyes = np.array(
        [found[name].reshape(5, 2)[:2].mean(axis=0) + at for name, at in places.items()]
    )
    assert np.ptp(eyes, axis=0).max() < 8  # one and the same face, wherever it was cut out
    tables, tasks, _ = load_tables(settings, tmp_path, heard.note)
    assert sum("looking for" in line for line in heard.notes) == 1
    table = pd.concat(tables.values(), ignore_index=True)
    crops = CropDataset(table, tasks, settings.pixels)
    for row in np.flatnonzero(table["points"].isna()):
        level = 20 * int(Path(table["image"][row]).stem)
        np.testing.assert_allclose(crops.crop(row, None), level, atol=1)
    level = RunFolder(tmp_path).tasks[0]
    assert level.names == ("bright", "dark")


def test_points_of_other_pictures_are_not_taken(tmp_path, classes):
    root, _ = classes
    data = {"set": "folder", "root": tmp_path / "some", "split": "train"}
    heard = Stop()
    for kept in ("0[0-4].png", "0[5-9].png"):
        for name in ("bright", "dark"):
            shutil.rmtree(tmp_path / "some" / name, ignore_errors=True)
            (tmp_path / "some" / name).mkdir(parents=True)
            for path in sorted((root / name).glob(kept)):
                shutil.copy(path, tmp_path / "some" / name)
        with pytest.raises(DataError, match="no face is in split val"):
            load_tables(make(data, tasks=[], fit={"find_points": True}), tmp_path, heard.note)
    assert sum("looking for" in line for line in heard.notes) == 2
    (tmp_path / "points.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"points\.parquet: damaged .*delete it"):
        load_tables(make(data, tasks=[], fit={"find_points": True}), tmp_path, heard.note)


def test_relative_paths_of_a_caller_are_kept_as_what_they_mean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces = Portraits(set="portraits", folder=Path("faces"))
    settings = Settings(name="small", data=(faces,), tasks=("va",))
    for _ in range(2):
        run = RunFolder(Path("runs/first"), settings)
    assert run.settings.data[0].folder == tmp_path / "faces"
