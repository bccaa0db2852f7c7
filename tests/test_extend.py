"""Extensions by entry points: the how-to's distribution works, and what is wrong with one is told in one line."""

import re
import sys
import tomllib

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from PIL import Image
from typer.testing import CliRunner

from mien.cli import app
from mien.data.registry import starting_from
from mien.data.submissions.formats import format_named
from mien.doctor import examine
from mien.errors import DataError, ExtensionError, UnknownNameError
from mien.outputs.columns import columns
from mien.outputs.tables import TableWriter, table_format
from mien.recipes.engine import find_data
from mien.recipes.reproduce import reproduce
from mien.recipes.schema import read_recipe
from mien.recipes.steps.keys import step_keys
from mien.tasks import TASKS
from mien.train.settings.template import template

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]
PAGE = (ROOT / "docs" / "howto" / "extend.md").read_text(encoding="utf-8")
# A file's name stands before its block.
BLOCKS = dict(re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))
TINY = {"backbone": "test_resnet", "size": 32, "epochs": 1, "seeds": [0]}


def install(folder, name, version, groups):
    """A distribution's metadata, as pip writes them."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def install_page(folder, version="1.0"):
    """The distribution of the how-to."""
    project = tomllib.loads(BLOCKS["pyproject.toml"])["project"]
    install(folder, project["name"], version, project["entry-points"])
    for name, text in BLOCKS.items():
        if name.endswith(".py"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    (folder / "ours.yaml").write_text(BLOCKS["ours.yaml"], encoding="utf-8")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the search path; what is imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("ourlab", "broken"):
            del sys.modules[name]


@pytest.fixture
def faces(tmp_path):
    """Pictures whose grey is their expression, in ten recordings."""
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(80):
        expression = int(rng.integers(8))
        grey = (28 * expression + rng.integers(0, 40, (32, 32))).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
        split = "train" if number < 40 else "val"
        rows.append(
            (f"{number}.png", f"r{number // 4}", split, TASKS["expr.abaw8"].names[expression])
        )
    table = pd.DataFrame(rows, columns=["image", "recording", "split", "expression"])
    table.to_csv(folder / "labels.csv", index=False)
    validation = (table["recording"] + "/" + table["image"])[table["split"] == "val"]
    (folder / "list.txt").write_text("\n".join(validation) + "\n")
    return folder


def test_the_recipe_of_the_how_to_runs(site, faces, tmp_path):
    install_page(site)
    out = tmp_path / "run"
    changes = {**TINY, "steps.submission.split": "val"}
    report = reproduce(site / "ours.yaml", {"faces": faces}, out, changes=changes)
    assert {row.name for row in report.rows} >= {"network", "with a bias"}
    (chosen,) = out.glob("steps/bias-*/chosen.json")
    ((bias,),) = [yaml.safe_load(chosen.read_text())["expr"]]
    assert len(bias) == 8
    assert set(bias) <= {-1.0, -0.5, 0.0, 0.5, 1.0}
    (submission,) = out.glob("submissions/*.txt")
    lines = submission.read_text(encoding="utf-8").split()
    assert (lines[0], len(lines)) == ("picture,label", 41)


def test_the_bias_of_the_how_to_is_that_of_logits(site):
    install_page(site)
    from ourlab.steps import best_bias, with_bias

    rng = np.random.default_rng(0)
    logits, bias = rng.normal(size=(50, 8)), rng.normal(size=8)

    def softmax(values):
        return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)

    assert with_bias(bias, softmax(logits)) == pytest.approx(softmax(logits + bias))
    # Classes that a known bias has hidden are found again.
    target = np.eye(8)[softmax(logits).argmax(axis=1)]
    shifted = softmax(logits - np.array([1.0, 0, 0, 0, 0, 0, 0, -0.5]))
    chosen = best_bias(shifted, target, (-1.0, -0.5, 0.0, 0.5, 1.0))
    right = with_bias(chosen, shifted).argmax(axis=1) == target.argmax(axis=1)
    assert right.mean() > (shifted.argmax(axis=1) == target.argmax(axis=1)).mean()


def test_the_loss_of_the_how_to_without_focus_is_cross_entropy(site):
    install_page(site)
    import torch
    from ourlab.losses import Focal

    raw = torch.tensor([[1.0, -0.5], [0.2, 0.4], [3.0, 0.0]])
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0], [float("nan"), float("nan")]])
    cost = Focal(kind="ourlab-focal", gamma=0).cost(raw, target, TASKS["expr.abaw8"])
    expected = torch.nn.functional.cross_entropy(raw[:2], target[:2], reduction="sum") / 3
    assert cost.item() == pytest.approx(expected.item())


def test_what_is_built_in_is_listed_with_what_is_not(site):
    install_page(site)
    shown = template()
    for words in (
        "set: ourlab-faces",
        "kind: gelu",
        "kind: ourlab-focal",
        "(of ourlab-affect 1.0)",
    ):
        assert words in shown
    formats = CliRunner().invoke(app, ["submit", "formats"])
    assert "ourlab.expr" in formats.output
    states = {finding.what: finding.state for finding in examine()}
    assert states["mien.steps: logit_bias"] == "ourlab-affect 1.0"
    with pytest.raises(UnknownNameError, match="did you mean tsv"):
        table_format("tsvv")


def test_writers_of_the_how_to_write(site, tmp_path):
    install_page(site)
    assert format_named("ourlab.expr").fields[0].high == 7
    with TableWriter(tmp_path / "table", ["tsv"], columns(())) as writer:
        writer.write([])
    header = (tmp_path / "table.tsv").read_text(encoding="utf-8")
    assert header.split() == [column.name for column in columns(())]


def test_paths_of_a_data_set_start_from_the_settings_file(site, tmp_path):
    install_page(site)
    spec = starting_from(tmp_path, {"set": "ourlab-faces", "root": "faces"})
    assert spec["root"] == str(tmp_path / "faces")


def test_keys_of_steps_hold_the_version(tmp_path, monkeypatch, faces):
    keys = []
    for version in ("1.0", "1.1"):
        folder = tmp_path / version
        with monkeypatch.context() as patch:
            install_page(folder, version)
            patch.syspath_prepend(folder)
            recipe = read_recipe(folder / "ours.yaml", TINY)
            data = find_data(recipe, {"faces": faces})
            keys.append(step_keys(recipe.steps, data, recipe.seeds))
        for name in [name for name in sys.modules if name.startswith("ourlab")]:
            del sys.modules[name]
    assert all(keys[0][name] != keys[1][name] for name in keys[0])


def test_keys_without_extensions_stay(site):
    recipe = read_recipe("hse-abaw7-mtl", {"seeds": [0]})
    steps = {name: step for name, step in recipe.steps.items() if step.do == "smooth"}
    before = step_keys(steps, {}, recipe.seeds)
    install_page(site)
    sys.path.append("")  # what is installed is looked up again
    try:
        assert step_keys(steps, {}, recipe.seeds) == before
    finally:
        sys.path.remove("")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps.bias.biasses": [0.0]}, "steps.bias.biasses: Extra inputs are not permitted"),
        ({"steps.bias.biases": []}, "steps.bias.biases: Tuple should have at least 1 item"),
        ({"steps.bias.of": "nothing"}, "steps.bias: 'nothing' is not an earlier step"),
        ({"steps.bias.do": "logit_bais"}, "steps.bias: do must be one of .*threshold.*logit_bias"),
        ({"data.faces.options": {"track": "va"}}, "track: Extra inputs are not permitted"),
        ({"steps.network.settings.losses.expr.gama": 1}, "gama.*Extra inputs"),
        ({"steps.network.settings.network.heads.expr.depth": 1}, "depth.*Extra inputs"),
        ({"steps.network.tasks": ["va"]}, "expr"),
        ({"steps.submission.format": "ourlab.va"}, "no submission format named 'ourlab.va'"),
    ],
)
def test_mistakes_in_settings_are_told_with_their_place(site, changes, message):
    install_page(site)
    with pytest.raises(DataError, match=message) as caught:
        read_recipe(site / "ours.yaml", {**TINY, **changes})
    assert "\n" not in str(caught.value)


BROKEN = {
    "absent": ("missing_module:Step", "cannot be imported .ModuleNotFoundError"),
    "failing": ("broken:Nothing", "cannot be imported .RuntimeError: no licence"),
    "wrong": ("collections:OrderedDict", "is no complete subclass of mien.recipes.steps.base.Step"),
    "renamed": ("mien.recipes.steps.postprocess:Smooth", "must have the field do: Literal"),
    "smooth": ("mien.recipes.steps.postprocess:Smooth", "has a name that mien itself uses"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_an_extension_is_told_in_one_line(site, name):
    entry, message = BROKEN[name]
    install(site, "other-lab", "0.3", {"mien.steps": {name: entry}})
    (site / "broken.py").write_text("raise RuntimeError('no\\nlicence')\n")
    with pytest.raises(ExtensionError, match=message) as caught:
        read_recipe("hse-abaw7-mtl", {"steps.other": {"do": name, "of": "unknown"}})
    line = str(caught.value)
    assert line.startswith(f"other-lab 0.3: the entry point {name} = {entry} (mien.steps)")
    assert line.endswith("pip uninstall other-lab")
    assert "\n" not in line


def test_what_settings_do_not_name_is_not_imported(site):
    install(site, "other-lab", "0.3", {"mien.steps": {"failing": "broken:Nothing"}})
    (site / "broken.py").write_text("raise RuntimeError\n")
    assert read_recipe("hse-abaw7-mtl").steps
    broken = [finding for finding in examine() if finding.ok is False]
    assert ["other-lab 0.3" in finding.state for finding in broken] == [True]


def test_two_distributions_with_one_name_are_refused(site):
    install_page(site)
    install(site, "other-lab", "0.3", {"mien.steps": {"logit_bias": "ourlab.steps:LogitBias"}})
    with pytest.raises(ExtensionError, match=r"has a name that .* uses as well"):
        read_recipe("hse-abaw7-mtl")
