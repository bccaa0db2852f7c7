"""Steps of recipes are known by what they compute from, wherever it lies and however fast it is."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from small_standins import LISTS, cut

from mien.data.standins.make import make_standin
from mien.errors import DataError
from mien.recipes.reproduce import reproduce

# Fabric warns of few data workers; that is no news here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]
FIT = {"epochs": 2, "batch": 16, "keep": "last", "workers": 0}
SETTINGS = {
    "pixels": {"size": 32, "colour": "grey", "alignment": "box", "mean": [127.0], "std": [128.0]},
    "network": {"backbone": "test_resnet"},
    "fit": FIT,
}
TRAIN = {"do": "train", "data": ["faces"], "tasks": ["va"], "settings": SETTINGS}
HEADS = {"do": "heads", "data": "faces", "runs": [{"tasks": ["va"], "fit": FIT}]}
STEPS = {
    "net": TRAIN,
    "features": {"do": "features", "data": "faces", "of": "net"},
    "heads": {**HEADS, "features": "features"},
    "exported": {"do": "export", "of": "heads"},
}


def recipe(folder: Path, steps: dict) -> Path:
    """A recipe of these steps, with a table of all that predict something."""
    content = {
        "name": "keys",
        "title": "Steps",
        "paper": "Nobody (2000), Nothing",
        "data": {"faces": {"set": "s-aff-wild2", "get": "from nobody"}},
        "protocol": "abaw2022.mtl",
        "steps": steps,
        "rows": [
            {"name": name, "of": name, "networks": [name]}
            for name, step in steps.items()
            if step["do"] in ("train", "heads")
        ],
    }
    path = folder / "keys.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


class Run:
    """One run of a recipe: what it noted, and which steps ran."""

    def __init__(self, folder, steps, data, out, **options):
        self.notes: list[str] = []
        self.report = reproduce(
            recipe(folder, steps), {"faces": data}, out, note=self.notes.append, **options
        )

    @property
    def ran(self) -> list[str]:
        lines = [line for line in self.notes if line.startswith("step ") and line.endswith(" s")]
        return [line.split(", ")[1].split(":")[0] for line in lines]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = make_standin("s-aff-wild2", tmp_path_factory.mktemp("data") / "faces", size=300)
    cut(root)
    return root


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The folder of a run of all steps but the last."""
    folder = tmp_path_factory.mktemp("whole")
    steps = {name: step for name, step in STEPS.items() if name != "exported"}
    assert Run(folder, steps, data, folder / "run").ran == list(steps)
    return folder / "run"


def weights(out: Path) -> dict:
    [path] = (out / "steps").glob("net-*/seed-0/best.pt")
    return torch.load(path, weights_only=True)["net"]


def test_moved_data_and_a_moved_run_leave_finished_steps_as_they_are(data, whole, tmp_path):
    out = tmp_path / "renamed run"
    shutil.copytree(whole, out)
    # Without its times of change, as most programs copy.
    moved = shutil.copytree(data, tmp_path / "elsewhere" / "lists", copy_function=shutil.copyfile)
    (moved / ".DS_Store").write_text("left by a file manager")
    # What the finished steps left must not be found in its former place.
    hidden = whole.rename(whole.with_name("hidden"))
    try:
        steps = json.loads(json.dumps(STEPS))
        for fit in (steps["net"]["settings"]["fit"], steps["heads"]["runs"][0]["fit"]):
            fit.update(workers=2, save_minutes=1.0, accelerator="cpu")
        run = Run(tmp_path, steps, moved, out)
    finally:
        hidden.rename(whole)
    assert run.ran == ["exported"], run.notes
    assert (next((out / "steps").glob("exported-*")) / "bundle" / "model.onnx").is_file()
    again = Run(tmp_path, steps, moved, out)
    assert again.ran == []
    assert repr(again.report.rows) == repr(run.report.rows)


def test_a_training_that_was_stopped_resumes_where_it_was_moved(data, whole, tmp_path):
    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("net: seed") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, {"net": TRAIN}, data, tmp_path / "run", progress=stop)
    moved = shutil.copytree(data, tmp_path / "elsewhere")
    out = (tmp_path / "run").rename(tmp_path / "there")
    fit = {**FIT, "workers": 1}
    steps = {"net": {**TRAIN, "settings": {**SETTINGS, "fit": fit}}}
    assert Run(tmp_path, steps, moved, out).ran == ["net"]
    assert len(list((out / "steps").iterdir())) == 1
    resumed, expected = weights(out), weights(whole)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def changed_label(root: Path) -> None:
    """Another label in as many letters."""
    path = root / LISTS["val"]
    header, row, *rest = path.read_text().splitlines()
    cells = row.split(",")
    cells[3] = "1" if cells[3] == "0" else "0"
    path.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")


def changed_picture(root: Path) -> None:
    picture = next((root / "cropped_aligned").glob("*/*.jpg"))
    Image.new("RGB", (112, 112), "red").save(picture)


def added_picture(root: Path) -> None:
    path = root / "cropped_aligned" / "more"
    path.mkdir()
    Image.new("RGB", (112, 112), "red").save(path / "00001.jpg")


@pytest.mark.parametrize("change", [changed_label, changed_picture, added_picture])
def test_other_content_runs_again_and_another_time_does_not(data, change, tmp_path):
    root = shutil.copytree(data, tmp_path / "faces")
    steps = {"features": {"do": "features", "data": "faces", "bundle": "mien-s"}}
    out = tmp_path / "run"
    assert Run(tmp_path, steps, root, out).ran == ["features"]
    os.utime(root / LISTS["val"], (1, 1))
    assert Run(tmp_path, steps, root, out).ran == []
    change(root)
    assert Run(tmp_path, steps, root, out).ran == ["features"]
    assert Run(tmp_path, steps, root, out).ran == []


def test_starting_weights_are_known_by_content(data, whole, tmp_path):
    start = tmp_path / "start.pt"
    torch.save(weights(whole), start)

    def ran(path: Path) -> list[str]:
        network = {"backbone": "test_resnet", "start": str(path)}
        settings = {**SETTINGS, "network": network, "fit": {**FIT, "epochs": 1}}
        steps = {"net": {**TRAIN, "settings": settings}}
        return Run(tmp_path, steps, data, tmp_path / "run").ran

    assert ran(start) == ["net"]
    moved = start.rename(tmp_path / "moved.pt")
    assert ran(moved) == []
    torch.save({name: value * 1.5 for name, value in weights(whole).items()}, moved)
    assert ran(moved) == ["net"]


def test_steps_of_one_hash_run_once_and_the_second_says_so(data, whole, tmp_path):
    twins = {
        "net": TRAIN,
        "twin": {**TRAIN, "settings": {**SETTINGS, "fit": {**FIT, "workers": 1}}},
        "other": {**TRAIN, "settings": {**SETTINGS, "fit": {**FIT, "epochs": 1}}},
        "features": {"do": "features", "data": "faces", "of": "net"},
        "twin_features": {"do": "features", "data": "faces", "of": "twin"},
        "heads": {**HEADS, "features": "twin_features"},
    }
    out = shutil.copytree(whole, tmp_path / "run")
    for name in ("net", "features", "heads"):
        shutil.rmtree(next((out / "steps").glob(f"{name}-*")))
    run = Run(tmp_path, twins, data, out)
    assert run.ran == ["net", "other", "features", "heads"]
    assert "step 2 of 6, twin: the same as net, whose result it shares" in run.notes
    assert len(list((out / "steps").iterdir())) == 4
    rows = {row.name: repr(row.measures) for row in run.report.rows}
    assert rows["twin"] == rows["net"] != rows["other"]
    # A result that two steps share was computed once, and counts once.
    assert "twin" not in run.report.seconds
    costs = {cost.name: cost.seconds for cost in run.report.costs}
    spent = run.report.seconds
    assert costs["twin"] == costs["net"] == spent["net"]
    assert costs["heads"] == pytest.approx(spent["net"] + spent["features"] + spent["heads"])


def test_another_recipe_in_the_folder_uses_what_is_there(data, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    renamed = {
        "backbone": TRAIN,
        "cached": {"do": "features", "data": "faces", "of": "backbone"},
        "va": {**HEADS, "features": "cached"},
        "shorter": {
            **HEADS,
            "features": "cached",
            "runs": [{"tasks": ["va"], "fit": {**FIT, "epochs": 1}}],
        },
    }
    assert Run(tmp_path, renamed, data, out).ran == ["shorter"]


def test_steps_of_earlier_versions_are_named_and_run_again(data, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    [heads] = (out / "steps").glob("heads-*")
    (heads / "places.json").unlink()
    former = heads.rename(heads.with_name("heads-0123456789ab"))
    run = Run(tmp_path, {name: STEPS[name] for name in ("net", "features", "heads")}, data, out)
    assert run.ran == ["heads"]
    [line] = [line for line in run.notes if "earlier version" in line]
    assert former.name in line
    assert "can be deleted" in line


@pytest.mark.parametrize("content", ["{", "3", '["a"]'])
def test_a_damaged_record_of_places_is_named(data, whole, tmp_path, content):
    out = shutil.copytree(whole, tmp_path / "run")
    [path] = (out / "steps").glob("net-*/places.json")
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"net-.*places\.json: damaged .* delete ") as error:
        Run(tmp_path, {"net": TRAIN}, data, out)
    assert "\n" not in str(error.value)
