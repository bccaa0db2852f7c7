"""From people to expressions: VGGFace2, class numbers in place of shares, heads that go on, published checkpoints, and the recipe whole."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from small_standins import cut
from zoo_forms import mobilefacenet

from mien.bundles.store import open_bundle
from mien.data.label_checks import check
from mien.data.label_table import labels
from mien.data.registry import load_set
from mien.data.sets.s_affwild2 import SAffWild2
from mien.data.sets.vggface2 import VggFace2
from mien.data.standins.make import make_standin
from mien.errors import BundleError, DataError
from mien.recipes.reproduce import reproduce
from mien.recipes.schema import read_recipe
from mien.recipes.steps.base import StepContext
from mien.tasks import TASKS, Task
from mien.train.inputs.feature_cache import FeatureCache
from mien.train.networks.backbones import backbone
from mien.train.networks.network import build
from mien.train.networks.starting_weights import load_start
from mien.train.objective.objective import Objective
from mien.train.runs.folder import RunFolder
from mien.train.runs.start import build_network
from mien.train.runs.tables import load_tables
from mien.train.settings.network import HeadSettings, NetworkSettings
from mien.train.settings.training import Settings

# Fabric warns of few data workers and of processes it did not start; neither is news here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]
THREE = Task("identity.three", ("a", "b", "c"), "one_of", numbered=True)
STEPS = ["people_head", "people", "affectnet_head", "affectnet", "export", "seven"]


# The data set


def people(root: Path, counts: dict[str, int]) -> Path:
    """Folders of people with that many pictures each."""
    for person, count in counts.items():
        (root / person).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(root / person / f"{i:04d}_01.jpg")
    return root


def vggface2(root, **more) -> VggFace2:
    return VggFace2(set="vggface2", root=root, **more)


def test_everybody_is_a_class_and_a_share_of_their_pictures_is_held_out(tmp_path):
    counts = {"train/n000002": 20, "train/n000004": 11, "test/n000001": 4, "test/n000003": 1}
    spec = vggface2(people(tmp_path, counts), held_out=0.2)
    task = spec.people()
    assert task.names == ("n000001", "n000002", "n000003", "n000004")
    table = load_set(spec, [task])
    assert list(table["identity"]) == [
        number for number, count in enumerate((4, 20, 1, 11)) for _ in range(count)
    ]
    folders = [Path(image).parent.name for image in table["image"]]
    assert [task.names[int(number)] for number in table["identity"]] == folders
    held = table[table["split"] == "val"].groupby("identity").size().to_dict()
    assert held == {0: 1, 1: 4, 3: 2}  # the one picture of n000003 is trained on
    pd.testing.assert_frame_equal(load_set(spec, [task]), table)
    other = load_set(vggface2(tmp_path, held_out=0.2, seed=1), [task])
    assert list(other["split"]) != list(table["split"])
    assert check(table, [task], "here") == []
    assert labels(table, task).shape == (36, 1)


def test_landmarks_are_those_of_the_picture(tmp_path):
    people(tmp_path / "train", {"n000001": 2, "n000002": 2})
    (tmp_path / "bb_landmark").mkdir()
    path = tmp_path / "bb_landmark" / "loose_landmark_train.csv"
    header = "NAME_ID,P1X,P1Y,P2X,P2Y,P3X,P3Y,P4X,P4Y,P5X,P5Y"
    row = '"n000002/0001_01",1,2,3,4,5,6,7,8,9,10'
    path.write_text(f"{header}\n{row}\n")
    table = load_set(vggface2(tmp_path), ())
    assert table.attrs["notes"] == [
        "VGGFace2: 3 pictures have no landmarks, so their faces are not aligned"
    ]
    [known] = np.flatnonzero(table["points"].notna())
    assert table["image"][known].endswith("n000002/0001_01.jpg")
    assert list(table["points"][known]) == list(range(1, 11))
    for wrong in (f"{header}\n{row}\n{row}\n", f"{header}\n{row[:-3]}\n", "A,B\n1,2\n", "\0"):
        path.write_text(wrong)
        with pytest.raises(DataError, match="take the original file"):
            load_set(vggface2(tmp_path), ())


def test_wrong_folders_of_people(tmp_path):
    with pytest.raises(DataError, match="nowhere: No such file or directory; give the folder of"):
        vggface2(tmp_path / "nowhere").people()
    people(tmp_path / "train", {"n000001": 1})
    with pytest.raises(DataError, match="holds no folders of people; expected train/ and test/"):
        vggface2(tmp_path).people()
    people(tmp_path / "test", {"n000001": 1})
    with pytest.raises(DataError, match="n000001 is in train and in test; keep one"):
        vggface2(tmp_path).people()
    with pytest.raises(DataError, match="is 3 in one of 1 rows, and classes are numbered 0 to 2"):
        check(table_of_numbers([0, 1, 2, 3]), [THREE], "here")


def table_of_numbers(numbers) -> pd.DataFrame:
    count = len(numbers)
    images = [np.full((4, 4, 3), i, np.uint8) for i in range(count)]
    return pd.DataFrame(
        {"image": images, "video": None, "frame": np.nan, "subject": None, "points": None}
        | {"split": ["train"] * (count - 1) + ["val"], "identity": np.array(numbers, np.float32)}
    )


# Class numbers


def test_class_numbers_cost_what_shares_cost():
    torch.manual_seed(0)
    raw, numbers = torch.randn(5, 3), torch.tensor([2.0, 0.0, torch.nan, 1.0, 1.0])
    total, _ = Objective([THREE], {}, {})([raw], [numbers[:, None]])
    known = torch.tensor([0, 1, 3, 4])
    expected = torch.nn.functional.cross_entropy(raw[known], numbers[known].long(), reduction="sum")
    # A row without a label counts as one that cost nothing.
    torch.testing.assert_close(total, expected / 5)


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"losses": {"identity": {"classes": "max"}}}, r"losses\.identity\.classes"),
        ({"augment": {"mixup": 0.2}, "fit": {"balance": "class"}}, "augment.mixup, fit.balance"),
    ],
)
def test_what_needs_shares_is_refused_of_numbers(change, keys, tmp_path):
    spec = vggface2(people(tmp_path, {"a": 2, "b": 2}))
    settings = Settings.model_validate(
        {"name": "a", "data": [spec], "network": {"backbone": "test_resnet"}, **change}
    )
    with pytest.raises(DataError, match=f"{keys}: identity.vggface2 has a number for each of its"):
        build_network(settings, [spec.people()], {"identity": np.zeros((4, 1), np.float32)})


# Checkpoints as published


def saved(path: Path, content) -> Path:
    torch.save(content, path)
    return path


def under(prefix: str, tensors) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


FORMS = {
    "a table": lambda net: net,
    "model": lambda net: {"model": net, "optimizer": {"step": 3}, "epoch": 7},
    "state_dict": lambda net: {"state_dict": under("module.", net), "arch": "resnet"},
    "model_state_dict": lambda net: {"model_state_dict": under("module.backbone.", net)},
    "a model in a model": lambda net: {"model": {"state_dict": under("_orig_mod.module.", net)}},
    "a name beside it": lambda net: {"model": "resnet", "state_dict": under("model.", net)},
    "with its last layer": lambda net: {"model": {**net, "fc.weight": torch.ones(2, 3)}},
    "as a run": lambda net: {
        "net": {**under("backbone.", net), "heads.0.weight": torch.ones(2, 3)}
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_checkpoint_is_lifted_whole(form, tmp_path):
    torch.manual_seed(0)
    source, net = backbone("test_resnet"), backbone("test_resnet")
    path = saved(tmp_path / "net.pt", FORMS[form](source.state_dict()))
    report = load_start(net, path)
    assert not report.fresh
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], tensor, rtol=0, atol=0)


def test_tensors_that_fit_nowhere_are_named(tmp_path):
    net = backbone("test_resnet")
    strays = {f"layer9.{i}.weight": torch.ones(1) for i in range(5)}
    content = {"model": under("module.", {**net.state_dict(), **strays})}
    with pytest.raises(
        ValueError,
        match=r"net.pt: these weights do not fit ResNet: layer9.0.weight, layer9.1.weight, "
        r"layer9.2.weight and 2 more fit nowhere in it; name the backbone",
    ):
        load_start(net, saved(tmp_path / "net.pt", content))
    save_file({**net.state_dict(), **strays}, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="and 2 more fit nowhere"):
        load_start(net, tmp_path / "net.safetensors")


@pytest.mark.parametrize("large", [False, True])
def test_insightfaces_mobilefacenet_gives_the_same_features(large, tmp_path):
    theirs = mobilefacenet(large=large)
    content = {"state_dict": under("module.", theirs.state_dict())}
    net = backbone("mobilefacenet-large" if large else "mobilefacenet", 3, 112).eval()
    report = load_start(net, saved(tmp_path / "net.pt", content))
    assert not [name for name in report.fresh if not name.endswith("num_batches_tracked")]
    assert {name.split(".")[0] for name in report.unused} == {"fc"}
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        expected = theirs.eval()(images)
        torch.testing.assert_close(theirs.fc(net(images)), expected, rtol=1e-4, atol=1e-4)


def test_published_weights_go_by_name():
    settings = NetworkSettings(backbone="tf_efficientnet_b0", start="faces-efficientnet-b0")
    assert settings.start == Path("faces-efficientnet-b0")
    with pytest.raises(ValidationError, match="are weights of tf_efficientnet_b0, not of ddamfn"):
        NetworkSettings(backbone="ddamfn", start="faces-efficientnet-b0")
    with pytest.raises(ValidationError, match="nor published weights, which are emotieffnet-b0"):
        NetworkSettings(backbone="ddamfn", start="nowhere")


def test_published_weights_are_pulled_first(tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    settings = NetworkSettings(backbone="tf_efficientnet_b0", start="faces-efficientnet-b0")
    with pytest.raises(BundleError, match="get them with: mien bundles pull faces-efficientnet-b0"):
        build(settings, [TASKS["va"]], 3, 32)


# Heads that go on


def test_heads_go_on_only_where_there_are_some():
    about = {"name": "a", "data": [{"set": "drawn", "count": 2, "seed": 0, "size": 16}]}
    for start in (None, "imagenet", "net.safetensors"):
        with pytest.raises(ValidationError, match="keep_heads: heads go on from a run of the same"):
            Settings.model_validate({**about, "network": {"start": start}, "keep_heads": True})


# The recipe


class Notes(list):
    """Notes of a run, as a function that hears them."""

    def __call__(self, line: str) -> None:
        self.append(line)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {
        "vggface2": make_standin("vggface2", root / "vggface2", size=80),
        "affectnet": make_standin("affectnet", root / "affectnet", size=88),
    }


TINY = {
    "workers": 0,
    "batch": 16,
    "people_epochs": 1,
    "affectnet_epochs": 1,
    "choices.network.tiny.pixels.size": 32,
}
run = partial(reproduce, "hse-pretraining", small=True)


@pytest.fixture(scope="module")
def whole(sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, run(sets, out, changes=TINY)


def step_folder(out: Path, name: str) -> Path:
    [folder] = (out / "steps").glob(f"{name}-*")
    return folder


def network(out: Path, step: str) -> dict[str, torch.Tensor]:
    return RunFolder(step_folder(out, step) / "seed-0").load("best.pt")["net"]


def same(first, second, part: str) -> bool:
    names = [name for name in first if name.startswith(part)]
    return all(torch.equal(first[name], second[name]) for name in names)


def test_the_recipe_runs_whole_and_then_has_nothing_to_do(whole, sets):
    out, report = whole
    assert [row.name for row in report.rows] == [
        "heads alone",
        "all layers",
        "seven expressions, contempt left out",
    ]
    for row in report.rows:
        assert 0 <= row.measures["expr_accuracy"][0] <= 1
    notes = Notes()
    again = run(sets, out, changes=TINY, note=notes)
    assert [line for line in notes if line.startswith("step")] == [
        f"step {i} of 6, {name}: done before" for i, name in enumerate(STEPS, 1)
    ]
    assert repr(again.rows) == repr(report.rows)


def test_each_stage_goes_on_from_the_one_before(whole, sets):
    out, _ = whole
    people_head, everybody = network(out, "people_head"), network(out, "people")
    heads, layers = network(out, "affectnet_head"), network(out, "affectnet")
    # The heads alone learn, with the backbone that knows people; then all goes on together.
    assert same(everybody, heads, "backbone.")
    assert not same(people_head, everybody, "backbone.")
    assert not same(heads, layers, "backbone.")
    # As many people as there are folders in train/ and test/.
    folders = [path for path in sets["vggface2"].glob("t*/*") if path.is_dir()]
    assert len(people_head["heads.0.weight"]) == len(folders)


def test_heads_go_on_with_their_stage(whole):
    """What the layers start from is what the heads alone have learned, heads and all."""
    out, _ = whole
    settings = RunFolder(step_folder(out, "affectnet") / "seed-0").settings
    tables, tasks, _ = load_tables(settings, out, lambda line: None)
    truth = {task.family: labels(tables["train"], task) for task in tasks}
    net, _ = build_network(settings, tasks, truth)
    before = network(out, "affectnet_head")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    other = settings.model_copy(update={"tasks": ("va",), "losses": {}})
    with pytest.raises(DataError, match=r"has heads for expr\.affectnet8, va with labels of their"):
        build_network(other, tasks[1:], truth)
    hidden = {"va": HeadSettings(kind="hidden")}
    bigger = settings.network.model_copy(update={"heads": hidden})
    with pytest.raises(DataError, match="has heads of other kinds"):
        build_network(settings.model_copy(update={"network": bigger}), tasks, truth)


def test_other_recipes_read_faces_with_its_bundle(whole, tmp_path):
    out, _ = whole
    bundle = step_folder(out, "export") / "bundle"
    recipe = read_recipe("hse-abaw7-mtl", {"extractor": str(bundle)})
    root = make_standin("s-aff-wild2", tmp_path / "faces", size=100)
    cut(root)
    data = {"affwild2": SAffWild2(set="s-aff-wild2", root=root)}
    (tmp_path / "features").mkdir()
    context = StepContext("features_a", tmp_path / "features", {}, recipe.steps, data)
    recipe.steps["features_a"].run(context)
    cache = FeatureCache(tmp_path / "features", open_bundle(bundle).card, root=root)
    table = load_set(data["affwild2"], ())
    assert len(cache.rows(table)) == len(table)


def test_face_weights_take_the_place_of_the_identity_stage(sets, tmp_path):
    face = build(NetworkSettings(backbone="test_efficientnet"), [TASKS["va"]], 3, 32)
    path = saved(
        tmp_path / "faces.pt", {"state_dict": under("module.", face.backbone.state_dict())}
    )
    changes = {**TINY, "faces": str(path)}
    assert read_recipe("hse-pretraining", changes, small=True).needed_data() == ["affectnet"]
    notes = Notes()
    out = tmp_path / "run"
    run({"affectnet": sets["affectnet"]}, out, changes=changes, note=notes)
    assert f"people: not trained, {path} takes its place" in notes
    heads = network(out, "affectnet_head")
    for name, tensor in face.backbone.state_dict().items():
        torch.testing.assert_close(heads[f"backbone.{name}"], tensor)


def test_a_choice_that_is_none(tmp_path):
    for name in ("b0", "mobilefacenet", "ddamfn", "tiny"):
        recipe = read_recipe("hse-pretraining", {"network": name})
        assert (
            recipe.steps["affectnet"]
            .settings["network"]["backbone"]
            .startswith({"b0": "tf_efficientnet_b0", "tiny": "test_"}.get(name, name))
        )
    path = tmp_path / "mine.yaml"
    for choices in ([1], {"network": 3}, {"network": {"b0": 3}}):
        path.write_text(yaml.safe_dump({"options": {"network": "b0"}, "choices": choices}))
        with pytest.raises(DataError, match=r"choices(:| are) (give options|b0)"):
            read_recipe(path)
    with pytest.raises(DataError, match="network is b1; its choices are b0, mobilefacenet, ddamfn"):
        read_recipe("hse-pretraining", {"network": "b1"})


def test_what_the_identity_step_refuses():
    more = {"do": "identify", "data": "vggface2", "after": "affectnet"}
    taught = {"losses": {"expr": {"distill": {"weight": 0.5}}}}
    train = {"do": "train", "data": ["affectnet"], "tasks": ["expr.affectnet8"]}
    for changes, message in (
        ({"steps.more": more}, "affectnet tells no people apart; name a step of kind identify"),
        (
            {"steps.more": {**train, "teachers": ["people"], "settings": taught}},
            "people trains no network on pictures; name a step of kind train",
        ),
        ({"steps.people.after": "affectnet"}, "'affectnet' is not an earlier step"),
        ({"steps.people.settings.tasks": ["va"]}, "settings: the step itself says tasks"),
        ({"faces": "faces-efficientnet-b2"}, "are weights of tf_efficientnet_b2, not of tf_eff"),
    ):
        with pytest.raises(DataError, match=message):
            read_recipe("hse-pretraining", changes)
