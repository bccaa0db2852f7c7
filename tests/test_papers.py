"""The systems of HUST-ANT, of ABAW2's unified model, the comparisons, and heads over time, run whole on small stand-ins, and a second time without work."""

import json
import re

import cv2
import pytest
from small_standins import cut
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.data.standins.make import make_standin
from mien.demo import film
from mien.errors import DataError
from mien.recipes.reproduce import reproduce
from mien.recipes.schema import read_recipe

# Fabric warns of few data workers and of processes it did not start; neither is news here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")
RUN = CliRunner()
SIZES = {
    "s-aff-wild2": 300,
    "aff-wild2": 150,
    "lsd": 60,
    "affectnet": 90,
    "expw": 40,
    "afew-va": 60,
    "ferplus": 90,
}
TINY = {
    "hust-abaw4-mtl": {"size": 32, "epochs": 1},
    "hust-abaw4-lsd": {
        "vit": "mobilenetv3_small_050", "resnet": "test_resnet", "efficientnet": "test_efficientnet", "one": "test_efficientnet",
        "googlenet": "test_resnet", "efficientnet_start": None, "one_start": None, "size": 32, "first_epochs": 1, "epochs": 1, "batch": 16,
    },
    "distill-abaw2": {"backbone": "test_resnet", "start": None, "size": 32, "epochs": 1, "first_epochs": 1, "batch": 16, "gap": 50},
    "comparison-mtl": {"size": 32, "epochs": 1, "base_epochs": 1},
    "temporal-heads": {"length": 12, "width": 8, "epochs": 1},
    "comparison-lsd": {"size": 32, "epochs": 1, "base_epochs": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def standins(tmp_path_factory):
    """Folder by kind of data set, made when first asked for."""
    found = {}

    def standin(kind):
        if kind not in found:
            found[kind] = make_standin(
                kind, tmp_path_factory.mktemp("standins") / kind, size=SIZES[kind]
            )
            if kind == "s-aff-wild2":
                cut(found[kind])
            for path in found[kind].glob(
                "training_set_synthetic_images/*/*"
            ):  # so that super-resolution takes seconds
                cv2.imwrite(
                    str(path),
                    cv2.resize(cv2.imread(str(path)), (16, 16), interpolation=cv2.INTER_AREA),
                )
        return found[kind]

    return standin


@pytest.fixture(scope="module", params=TINY)
def paper_run(request, standins, tmp_path_factory):
    """A recipe run twice in one folder: its name, the folder, both reports and all notes."""
    name = request.param
    out = tmp_path_factory.mktemp(name)
    changes = {"seeds": [0], **TINY[name]}
    if "workers" in read_recipe(name).options:
        changes["workers"] = 0
    recipe = read_recipe(name, changes, small=bool(read_recipe(name).small))
    data = {key: standins(needed.set) for key, needed in recipe.data.items()}
    notes: list[list[str]] = [[], []]
    reports = [
        reproduce(name, data, out, changes=changes, small=bool(recipe.small), note=lines.append)
        for lines in notes
    ]
    return recipe, out, reports, notes


def test_a_recipe_runs_whole_and_the_second_time_has_nothing_to_do(paper_run):
    recipe, out, reports, notes = paper_run
    name = recipe.name
    assert [one for one in notes[0] if one.endswith(": done before")] == []
    idle = (": done before", ", whose result it shares")
    assert sum(one.endswith(idle) for one in notes[1]) == len(recipe.steps)
    first, second = (
        [(line.name, line.way, line.measures["score"][0]) for line in report.rows]
        for report in reports
    )
    assert first == second
    assert {line[0] for line in first} == {row.name for row in recipe.rows}
    assert all(0 <= score <= 3 for _, _, score in first)
    assert [one.name for one in reports[0].costs] == [
        row.name for row in recipe.rows if row.networks
    ]
    assert all(
        one.parameters > 0 and one.macs > 0 and one.milliseconds > 0 for one in reports[0].costs
    )
    text = (out / f"{name}.md").read_text(encoding="utf-8")
    assert "a stand-in: generated" in text
    assert ("| valence CCC |" in text) == (
        name == "distill-abaw2"
    )  # shown where the paper tells it
    assert all(row.name in text for row in recipe.rows)
    assert json.loads((out / f"{name}.json").read_text())["recipe"] == name
    if name == "hust-abaw4-mtl":
        by_name = {line.name: line.measures for line in reports[0].rows}
        one, other = (
            by_name["heads alone, ensemble of features"],
            by_name["heads alone, ensemble of predictions"],
        )
        assert one["score"][0] == pytest.approx(
            other["score"][0], abs=1e-6
        )  # affine heads: the two ensembles are one function


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """50 frames; as in `clip`, the camera looks away for a while."""
    return film(tmp_path_factory.mktemp("short") / "short.mp4", seconds=2.0)


def test_systems_read_a_film_and_a_submission_follows(paper_run, short, tmp_path):
    """What the pages on the papers do, in small: systems read a film, and a list is answered from the table."""
    recipe, out, _, _ = paper_run
    names = sorted(step.name for step in recipe.steps.values() if step.do == "system")
    for name in names:
        bundle = out / "bundles" / name
        tables = tmp_path / name
        done = RUN.invoke(
            app,
            ["analyze", str(short), "--bundle", str(bundle), "--out", str(tables), "--no-abstain"],
        )
        assert done.exit_code == 0, done.output
        [path] = tables.glob("*.csv")
        table = mien.read_table(path)
        scored = table[table["status"].isin(["ok", "doubtful"])]
        assert len(scored) > 50 / 3
        for task in mien.load(bundle).tasks:
            assert scored[list(task.columns)].notna().all(axis=None)
        if recipe.protocol != "abaw2022.mtl":
            continue
        frames = [f"{short.stem}/{k:05d}.jpg" for k in range(1, 51)]
        listed, sent = tmp_path / "list.txt", tmp_path / f"{name}.txt"
        listed.write_text("\n".join(["image,valence,arousal,expression,aus", *frames]))
        command = ["submit", "write", path, "--list", listed, "--format", recipe.protocol, "--out", sent]  # fmt: skip
        done = RUN.invoke(app, list(map(str, command)))
        assert done.exit_code == 0, done.output
        assert "50 rows" in done.output


def test_a_database_that_is_missing_is_named_with_where_to_get_it(standins, tmp_path):
    given = {
        "affwild2": standins("aff-wild2"),
        "ferplus": standins("ferplus"),
        "afewva": standins("afew-va"),
    }
    with pytest.raises(DataError) as caught:
        reproduce("distill-abaw2", given, tmp_path, small=True)
    told = str(caught.value)
    assert "--data expw=FOLDER --data affectnet=FOLDER" in told
    assert re.search(r"expw \(expw\): .*page", told)
    assert re.search(r"affectnet \(affectnet\): .*agreement", told)
    of_expw, of_affectnet = told.split("; affectnet (")
    assert "these rows need it: teacher, two tasks, teacher, three tasks" in of_expw
    assert "these rows need it: teacher, three tasks" in of_affectnet
    assert "heads alone" not in told  # they need neither
