"""The papers' inputs and starting weights by one option each: a bundle as the network, a folder of checkpoints, and colour jitter."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image, ImageEnhance
from safetensors.torch import save_file
from zoo_forms import network, onnx_bytes, pt_file, randomise

from mien import zoo
from mien.data.standins.make import make_standin
from mien.errors import BundleError, DataError
from mien.faces.prepare import Pixels
from mien.recipes.reproduce import reproduce
from mien.recipes.schema import read_recipe
from mien.recipes.steps.runs import exported_run, keep_exported_run
from mien.tasks import TASKS
from mien.train.inputs.colour import jitter_colour, shift_hue
from mien.train.inputs.crops import AugmentedCropDataset, CropDataset
from mien.train.networks.backbones import backbone
from mien.train.networks.checkpoints.fitting import check_whole, first_that_fits
from mien.train.networks.checkpoints.published import start_file
from mien.train.networks.starting_weights import load_start
from mien.train.settings.augmentation import AugmentSettings, ColourSettings
from mien.train.settings.network import NetworkSettings

# Fabric warns of few data workers and of processes it did not start; neither is news here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]
COMMIT = "c0ffee" + "0" * 34
IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
PAPER = {
    "turn": 0.0, "grow": 0.0, "shift": 0.0, "flip": 0.5, "degrade": 0.0, "erase": 0.0,
    "colour": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1},
}  # fmt: skip
SIZES = {"lsd": 60, "aff-wild2": 150, "affectnet": 90, "expw": 40, "afew-va": 60, "ferplus": 90}


# Colours


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)


class Fixed:
    """A generator whose draws are known: one change, all the way up."""

    def permutation(self, names):
        return names

    def uniform(self, low, high):
        return high


@pytest.mark.parametrize(
    ("change", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_each_change_is_pillows(picture, change, enhance):
    changed = jitter_colour(picture, ColourSettings(**{change: 0.3}), Fixed())
    expected = np.asarray(enhance(Image.fromarray(picture)).enhance(1.3), int)
    # Pillow rounds the grey that it blends with.
    assert np.abs(changed.astype(int) - expected).max() <= 1


def test_hue_turns_colours_and_leaves_greys(picture):
    grey = np.repeat(picture[:, :, :1], 3, axis=2)
    assert np.array_equal(shift_hue(grey, 0.2), grey)
    thirds = shift_hue(shift_hue(shift_hue(picture, 1 / 3), 1 / 3), 1 / 3)
    assert np.abs(thirds.astype(int) - picture).mean() < 3  # bytes are rounded on the way
    # The largest and smallest channel stay, as value and saturation do.
    turned = shift_hue(picture, 0.1).astype(int)
    assert np.abs(turned.max(axis=2) - picture.max(axis=2)).max() <= 1


def test_colours_are_drawn_only_where_they_are_asked_for(picture):
    table = pd.DataFrame({"image": [picture], "points": [None], "valence": 0.0, "arousal": 0.0})
    pixels = Pixels(size=16, colour="rgb", alignment="box", mean=(0.0,) * 3, std=(1.0,) * 3)
    crops = CropDataset(table, [TASKS["va"]], pixels)
    still = {"turn": 0, "grow": 0, "shift": 0, "flip": 0, "degrade": 0, "erase": 0}
    plain = AugmentedCropDataset(crops, AugmentSettings(**still), 0)[0, 0][0]
    colour = {"brightness": 0.5, "chance": 1.0}
    changed = AugmentedCropDataset(crops, AugmentSettings(**still, colour=colour), 0)[0, 0][0]
    again = AugmentedCropDataset(crops, AugmentSettings(**still, colour=colour), 0)[0, 0][0]
    assert torch.equal(changed, again)
    # Brightness is one factor for all pixels.
    ratio = (changed / plain)[(plain > 40) & (changed < 250)]
    assert 0.5 <= float(ratio.mean()) <= 1.5
    assert float(ratio.std()) < 0.02


# A bundle as the network


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory):
    """A stand-in for mt-emotieffnet-b0, pulled with its weights: the same contract, a tiny network; its home and its state."""
    root = tmp_path_factory.mktemp("zoo")
    net = network("test_efficientnet", outputs=10, size=64)
    (root / "net.onnx").write_bytes(onnx_bytes(net, 64))
    pt_file(net, root / "net.pt", whole=False)
    files = []
    for name, role in (("net.onnx", "network"), ("net.pt", "weights")):
        content = (root / name).read_bytes()
        address = f"https://example.org/{COMMIT}/{name}"
        sha256 = hashlib.sha256(content).hexdigest()
        files.append(
            {"name": name, "role": role, "url": address, "most": 1 << 26, "sha256": sha256}
        )
    known = json.loads(
        (Path(zoo.__file__).parents[1] / "bundles/known/mt-emotieffnet-b0.json").read_text()
    )
    known |= {"name": "tiny-mt", "files": files, "commit": COMMIT, "architectures": ["test_resnet", "test_efficientnet"]}  # fmt: skip
    known["network"]["pixels"]["size"] = 64
    path = root / "tiny-mt.json"
    path.write_text(json.dumps(known))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_HOME", str(root / "home"))
        zoo.pull(path, weights=True, source=root)
        start_file("tiny-mt")
        yield root / "home", net.state_dict()


@pytest.fixture(scope="module")
def standins(tmp_path_factory):
    """Folder by kind of data set, made when first asked for."""
    made = {}

    def standin(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("standins") / kind
            made[kind] = make_standin(kind, folder, size=SIZES[kind])
            # So that super-resolution takes seconds.
            for path in folder.glob("training_set_synthetic_images/*/*"):
                Image.open(path).resize((16, 16)).save(path)
        return made[kind]

    return standin


def test_a_bundle_says_what_the_network_reads_and_starts_from(tiny_bundle):
    recipe = read_recipe("hse-abaw4-lsd", {"network": "tiny-mt"})
    assert recipe.steps["zero_shot"].bundle == "tiny-mt"
    settings = recipe.steps["head"].settings
    # Of the two architectures of its entry, the one that the weights fill.
    assert settings["network"] == {"backbone": "test_efficientnet", "start": "tiny-mt"}
    assert settings["pixels"].items() >= {"size": 64, "colour": "rgb", **IMAGENET}.items()
    assert settings["augment"] == PAPER
    assert recipe.options["extractor"] == "tiny-mt"  # by which claims are judged
    assert not any("grey pictures" in departure for departure in recipe.departures)


def test_what_is_asked_for_outweighs_the_bundle(tiny_bundle):
    changes = {"network": "tiny-mt", "extractor": "mien-s", "workers": 0}
    recipe = read_recipe("hse-abaw4-lsd", changes)
    assert recipe.steps["zero_shot"].bundle == "mien-s"
    assert recipe.steps["head"].settings["network"]["start"] == "tiny-mt"
    recipe = read_recipe("distill-abaw2", {"network": "tiny-mt", "size": 48}, small=True)
    settings = recipe.steps["first"].settings
    # The rehearsal's own network gives way, its epochs do not.
    assert settings["network"] == {"backbone": "test_efficientnet", "start": "tiny-mt"}
    assert (settings["pixels"]["size"], settings["fit"]["epochs"]) == (48, 2)
    assert recipe.steps["bundle_features"].bundle == "tiny-mt"


def test_without_the_option_nothing_has_changed():
    settings = read_recipe("hse-abaw4-lsd").steps["head"].settings
    assert settings["pixels"]["colour"] == "grey"
    assert settings["network"] == {"backbone": "face-resnet", "start": "faces"}
    assert "colour" not in settings["augment"]


@pytest.mark.parametrize("name", ["hse-abaw4-lsd", "distill-abaw2"])
def test_what_is_not_at_hand_is_said_in_one_line(name, tmp_path, monkeypatch):
    pull = "network: mt-emotieffnet-b0 is not whole on this machine; get it with: mien bundles pull mt-emotieffnet-b0 --weights"
    with pytest.raises(BundleError, match=pull):
        read_recipe(name, {"network": "mt-emotieffnet-b0"})
    for wrong, message in (
        ("nowhere", r"network is nowhere; its choices are .* and bundles; no bundle named"),
        (
            "mien-s",
            "no weights to train on from are known for .*mien-s; name a bundle with publish",
        ),
        ("mien-face", "mien-face finds faces; name a bundle that reads affect"),
    ):
        with pytest.raises(DataError, match=message):
            read_recipe(name, {"network": wrong})


def test_weights_that_were_not_pulled_beside_the_bundle(tiny_bundle, tmp_path, monkeypatch):
    shutil.copytree(tiny_bundle[0], tmp_path / "home")
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    (tmp_path / "home/weights/tiny-mt/net.safetensors").unlink()
    with pytest.raises(BundleError, match="get it with: mien bundles pull tiny-mt --weights"):
        read_recipe("hse-abaw4-lsd", {"network": "tiny-mt"})


def test_a_bundle_of_a_recipes_step_leads_to_its_run(tmp_path):
    step, run = tmp_path / "steps/export-1", tmp_path / "steps/affectnet-2/seed-0"
    for folder in (step / "bundle", run):
        folder.mkdir(parents=True)
    assert exported_run(step / "bundle") is None
    keep_exported_run(step, run)
    assert exported_run(step / "bundle") is None  # the run is gone
    (run / "best.pt").touch()
    assert exported_run(step / "bundle") == run
    moved = (tmp_path / "steps").rename(tmp_path / "elsewhere")
    assert exported_run(moved / "export-1/bundle") == moved / "affectnet-2/seed-0"


def test_the_synthetic_track_runs_whole_with_a_bundle(tiny_bundle, standins, tmp_path):
    changes = {"network": "tiny-mt", "workers": 0, "seeds": [0]}
    for step in ("head", "tuned", "head_sharper", "tuned_sharper", "baseline"):
        if step in read_recipe("hse-abaw4-lsd").steps:
            changes[f"steps.{step}.settings.fit.epochs"] = 1
            changes[f"steps.{step}.settings.fit.frozen_epochs"] = int("head" in step)
    report = reproduce("hse-abaw4-lsd", {"lsd": standins("lsd")}, tmp_path, changes=changes)
    assert {row.name for row in report.rows} >= {"untouched network", "blend, super-resolved"}
    [head] = (tmp_path / "steps").glob("head-*/seed-0/best.pt")
    trained = torch.load(head, weights_only=True)["net"]
    # With all layers but the head frozen, it still is the bundle's network.
    for name, tensor in tiny_bundle[1].items():
        if name.endswith("weight") and not name.startswith("classifier"):
            torch.testing.assert_close(trained[f"backbone.{name}"], tensor)


# Torchvision's checkpoints


def torchvisions_b0() -> torch.nn.Module:
    return randomise(torchvision.models.efficientnet_b0(weights=None), 64)


def torchvisions_vit() -> torch.nn.Module:
    """As vit_b_16, but of timm's smallest widths."""
    return torchvision.models.VisionTransformer(64, 16, 12, 3, 192, 768)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(torchvisions_b0, "efficientnet_b0"), (torchvisions_vit, "vit_tiny_patch16_224")],
)
def test_torchvisions_weights_give_the_same_features(theirs, ours, tmp_path):
    torch.manual_seed(0)
    size, reference = 64, theirs()
    torch.save(reference.state_dict(), tmp_path / "net.pth")
    net = backbone(ours, 3, size).eval()
    report = load_start(net, tmp_path / "net.pth")
    assert not report.fresh
    assert {name.split(".")[0] for name in report.unused} <= {"classifier", "head"}
    for last in ("classifier", "heads"):
        if hasattr(reference, last):
            setattr(reference, last, torch.nn.Identity())
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(net(images), reference.eval()(images), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_with_a_tensor_less_is_refused(tmp_path):
    state = backbone("test_resnet").state_dict()
    state.pop("conv1.0.weight")
    save_file(state, tmp_path / "net.safetensors")
    settings = NetworkSettings(backbone="test_resnet", start=tmp_path / "net.safetensors")
    with pytest.raises(DataError, match=r"lacks 1, among them conv1\.0\.weight; give weights of"):
        check_whole(settings, 3, 32)
    with pytest.raises(DataError, match="lacks 1"):
        first_that_fits(("test_resnet", "test_efficientnet"), tmp_path / "net.safetensors", 3, 32)


# Weights of all networks


TINY = {
    "vit": "mobilenetv3_small_050", "resnet": "test_resnet", "efficientnet": "test_efficientnet", "one": "test_efficientnet",
    "googlenet": "test_vit3", "efficientnet_start": None, "one_start": None, "size": 160, "first_epochs": 1, "epochs": 1, "batch": 16,
}  # fmt: skip
NETWORKS = ("mobilenetv3_small_050", "test_resnet", "test_efficientnet", "test_vit3")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder with weights of four tiny networks, their names of no help."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for number, name in enumerate(NETWORKS):
        state = backbone(name, 3, 160).state_dict()
        torch.save({"state_dict": state}, folder / f"{number}.pth")
    return folder


def starts(recipe) -> dict[str, str | None]:
    """Where networks of steps start that follow no other."""
    begin = {}
    for step in recipe.steps.values():
        if step.do == "train" and step.after is None:
            settings = step.settings["network"]
            begin[settings["backbone"]] = settings.get("start")
    return begin


def test_a_folder_fills_every_network(checkpoints):
    recipe = read_recipe("hust-abaw4-lsd", {**TINY, "weights": str(checkpoints)})
    expected = {name: str(checkpoints / f"{i}.pth") for i, name in enumerate(NETWORKS)}
    begin = starts(recipe)
    assert begin.items() >= expected.items()
    # The baseline beside it has weights of its own.
    assert set(begin) - set(expected) == {"efficientnet_lite0"}
    mapping = {"test_resnet": str(checkpoints / "1.pth")}
    begin = starts(read_recipe("hust-abaw4-lsd", {**TINY, "weights": mapping}))
    assert begin["test_resnet"] == mapping["test_resnet"]
    assert begin["test_vit3"] is None


def test_the_multi_task_network_takes_a_file(tmp_path):
    trunk = backbone("smm-small", 3, 64).trunk.state_dict()
    torch.save(trunk, tmp_path / "trunk.pth")
    changes = {"backbone": "smm-small", "size": 64, "weights": str(tmp_path / "trunk.pth")}
    begin = starts(read_recipe("hust-abaw4-mtl", changes))
    assert begin["smm-small"] == str(tmp_path / "trunk.pth")


def test_weights_that_do_not_do(checkpoints, tmp_path):
    more = shutil.copytree(checkpoints, tmp_path / "more")
    torch.save({"a": torch.ones(2)}, more / "other.pth")
    twice = shutil.copytree(checkpoints, tmp_path / "twice")
    shutil.copy(twice / "1.pth", twice / "9.pth")
    (tmp_path / "empty").mkdir()
    wrong_file = str(checkpoints / "1.pth")
    for weights, message in (
        (tmp_path / "nowhere", "nowhere: no such file or folder; give one, or a mapping such as"),
        (tmp_path / "empty", "empty: no .pt or .pth or .safetensors or .params file is in it; "),
        (more, r"other\.pth fits none of .*test_vit3; take it out, or give a mapping"),
        (twice, r"1\.pth and .*9\.pth both fit test_resnet; keep one of them"),
        (wrong_file, "nothing fits mobilenetv3_small_050, test_efficientnet, test_vit3; add a fil"),
        ({"resnet50": wrong_file}, "resnet50 is no network of it; name efficientnet_lite0, mob"),
        ({"test_vit3": wrong_file}, "test_vit3: .*these weights do not fit VisionTransformer"),
        ({"test_vit3": "net.onnx"}, "net.onnx: give a .pt or .pth or .safetensors or .params file"),
    ):
        given = weights if isinstance(weights, dict) else str(weights)
        with pytest.raises(DataError, match=f"hust-abaw4-lsd: weights: .*{message}"):
            read_recipe("hust-abaw4-lsd", {**TINY, "weights": given})


def test_a_start_that_does_not_fit_is_refused_before_the_first_step(
    checkpoints, standins, tmp_path
):
    changes = {**TINY, "vit_start": str(checkpoints / "1.pth"), "workers": 0, "seeds": [0]}
    data = {"lsd": standins("lsd"), "affectnet": standins("affectnet")}
    with pytest.raises(
        DataError, match=r"first_vit: start: .*these weights do not fit MobileNetV3"
    ):
        reproduce("hust-abaw4-lsd", data, tmp_path, changes=changes)
    assert not list(tmp_path.glob("steps/*/*"))


def test_all_eight_networks_vote(checkpoints):
    whole = read_recipe("hust-abaw4-lsd-eight", {**TINY, "weights": str(checkpoints)})
    families = ("pair", "imagenet")
    members = [f"{family}_{name}" for family in families for name in ("vit", "resnet", "efficientnet", "googlenet")]  # fmt: skip
    assert list(whole.steps["vote_eight"].of) == members
    for name in members[4:]:
        settings = whole.steps[name].settings["network"]
        assert settings["deviation"]
        assert whole.steps[name].after is None
        assert Path(settings["start"]).parent == checkpoints
    bare = read_recipe("hust-abaw4-lsd-eight")
    with pytest.raises(DataError, match=r"start: .*vit_b_16\.pth: no such file"):
        bare.steps["imagenet_vit"].check_data("imagenet_vit", bare.steps, {})
