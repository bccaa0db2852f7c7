"""What a recipe costs before it is run: by hand for one step of each kind, and what cannot be counted."""

import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.errors import DataError
from mien.recipes.plan import markdown_plan, plan
from mien.recipes.schema import read_recipe

TRAIN = {"train": 277_251, "val": 4_670}
SMALL = {"seeds": [0, 1], "backbone": "test_resnet", "start": None}


def work_of(recipe) -> dict:
    works, _ = plan(recipe)
    return {work.step: work for work in works}


def test_frozen_epochs_go_forward_and_others_three_ways():
    works = work_of(read_recipe("hse-abaw4-lsd", SMALL))
    head, tuned = works["head"], works["tuned"]
    forward = head.forward
    assert tuned.forward == forward > 0
    # Three frozen epochs with sharpness-aware steps, and evaluation after each and at the end.
    assert head.macs == 2 * forward * (TRAIN["train"] * 3 * 2 + TRAIN["val"] * 4)
    assert tuned.macs == 2 * forward * (TRAIN["train"] * 5 * 3 + TRAIN["val"] * 6)
    assert (head.pictures, head.epochs, head.networks) == (TRAIN["train"], 3, 2)


def test_teachers_and_pairs_cost_more():
    changes = {"backbone": "test_resnet", "start": None, "seeds": [0], "epochs": 1, "size": 32}
    works = work_of(read_recipe("distill-abaw2", changes))
    teacher, student = works["teacher"], works["student"]
    extra = 2 * teacher.forward * teacher.pictures
    assert student.macs - teacher.macs == pytest.approx(extra)
    tiny = {"vit": "test_resnet", "resnet": "test_resnet", "efficientnet": "test_resnet"}
    more = {"googlenet": "test_resnet", "one": "test_resnet", "size": 32, "epochs": 1}
    works = work_of(read_recipe("hust-abaw4-lsd", {**tiny, **more, "seeds": [0]}))
    pair, whole = works["pair_vit"], works["whole"]
    # The frozen copy goes forward beside the one that learns.
    assert pair.macs - whole.macs == whole.forward * (TRAIN["train"] + 2 * TRAIN["val"])


def test_hours_follow_the_stated_throughput():
    recipe = read_recipe("hse-abaw4-mtl")
    text = markdown_plan(recipe, 1e-3)
    [line] = [line for line in text.splitlines() if line.startswith("| all ")]
    [work] = plan(recipe)[0]
    hours = float(line.split("|")[-2])
    assert hours == pytest.approx(work.macs / 1e9 / 3600, abs=0.06)
    assert "an assumption (--throughput), not a measurement" in text
    assert "Not counted: baseline_features" in text
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"--throughput .*: give a number above 0"):
            markdown_plan(recipe, wrong)


def test_data_of_unknown_size_are_named(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: t\npaper: p 2000\nprotocol: abaw2024.va\n"
        "data: {faces: {set: folder, get: yours}}\n"
        "steps: {a: {do: train, data: [faces], tasks: [va]}}\n"
    )
    with pytest.raises(DataError, match="faces: the official size of folder is not known"):
        plan(read_recipe(tmp_path / "mine.yaml"))


def test_the_command_prints_the_table_and_runs_nothing(tmp_path):
    done = CliRunner().invoke(app, ["reproduce", "hse-abaw4-mtl", "--plan", "--throughput", "2"])
    assert done.exit_code == 0, done.output
    assert "| features | 0.19 | 220,368 | - | 1 |" in done.stdout
    wrong = CliRunner().invoke(app, ["reproduce", "hse-abaw4-mtl", "--plan", "--throughput", "0"])
    assert wrong.exit_code != 0
