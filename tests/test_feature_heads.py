"""Heads on cached features: the right rows, the optimum that other software finds, and the same run after a kill."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from torch import nn

from mien.bundles.card import write_card
from mien.bundles.card_parts import TaskCard
from mien.bundles.store import AFFECT, FACES, Model, load, open_bundle
from mien.data.drawn.faces import load_drawn
from mien.data.label_table import labels
from mien.data.registry import File
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.errors import BundleError, DataError
from mien.faces.prepare import Pixels
from mien.tasks import TASKS, Task
from mien.train.bundle.pack import sha256_of
from mien.train.inputs.feature_cache import build
from mien.train.inputs.feature_dataset import FeatureDataset
from mien.train.loop import Progress, fit, network_of
from mien.train.networks.heads import make_head
from mien.train.networks.network import MultiTaskNet, start_at_means
from mien.train.objective.squash import Squash
from mien.train.onnx.export import export
from mien.train.runs.inference import inputs_of
from mien.train.settings.augmentation import AugmentSettings
from mien.train.settings.features import FeatureSettings
from mien.train.settings.losses import LossSettings
from mien.train.settings.network import HeadSettings, NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings, read_settings, write_settings

pytestmark = pytest.mark.usefixtures("one_thread")

EXPR, VA, AU = TASKS["expr.abaw8"], TASKS["va"], TASKS["au.abaw12"]
GIVES = (TASKS["expr.affectnet8"], VA)
TRAIN, VAL = 768, 240
SIDE, WIDTH = 24, 160


class Tiny(nn.Module):
    """Random features of a whole picture, and random heads on them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Linear(SIDE * SIDE, WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, len(task.names)) for task in GIVES)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = torch.relu(self.body(images.flatten(1)))
        return (*(head(features) for head in self.heads), features)


def make_bundle(folder: Path, seed: int) -> Path:
    folder.mkdir()
    export(
        Tiny(seed),
        folder / "model.onnx",
        torch.randn(3, 1, SIDE, SIDE),
        ["expr", "va", "features"],
        {0: "batch"},
    )
    tasks = tuple(
        TaskCard(
            key=t.key, names=t.names, kind=t.kind, low=t.low, high=t.high, supervised_by="nobody"
        )
        for t in GIVES
    )
    pixels = Pixels(
        size=SIDE,
        colour="grey",
        alignment="similarity5",
        template=FERPLUS_TEMPLATE,
        mean=(127.0,),
        std=(64.0,),
    )
    facts = {
        "name": "tiny",
        "tasks": tasks,
        "pixels": pixels,
        "temperature": {},
        "presence": None,
        "uncertain_below": None,
        "features": WIDTH,
    }
    write_card(
        open_bundle(AFFECT).card.model_copy(
            update=facts | {"sha256": sha256_of(folder / "model.onnx")}
        ),
        folder / "card.json",
    )
    return folder


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """Drawn faces as pictures and a label file, two bundles, and a cache of the first."""
    folder = tmp_path_factory.mktemp("heads")
    (folder / "faces").mkdir()
    parts = [
        load_drawn(count, seed=1, split=split, size=40, tasks=(EXPR, VA, AU))
        for split, count in (("train", TRAIN), ("val", VAL))
    ]
    table = pd.concat(parts, ignore_index=True)
    paths = [f"faces/{i:04d}.png" for i in range(len(table))]
    for name, image in zip(paths, table["image"], strict=True):
        cv2.imwrite(str(folder / name), image[..., ::-1])
    table.assign(image=paths).to_parquet(folder / "labels.parquet")
    bundle, _ = make_bundle(folder / "bundle", 3), make_bundle(folder / "other", 4)
    build(load(bundle, "onnxruntime"), table_of(folder), folder / "cache", root=folder)
    return folder


def table_of(place: Path) -> pd.DataFrame:
    table = pd.read_parquet(place / "labels.parquet")
    return table.assign(image=[str(place / name) for name in table["image"]])


def answers(model: Model, table: pd.DataFrame):
    """Features and raw outputs, without the cache."""
    crops = [cv2.imread(path, cv2.IMREAD_COLOR_RGB) for path in table["image"]]
    return model.features_and_raw(crops, np.stack(table["points"]).reshape(-1, 5, 2))


@pytest.fixture(scope="session")
def model(place) -> Model:
    return load(place / "bundle", "onnxruntime")


def settings_of(
    place: Path,
    tasks=(EXPR,),
    parts="both",
    *,
    heads=None,
    optim=None,
    cache="cache",
    bundle="bundle",
    **fit_settings,
):
    return Settings(
        name="heads",
        data=(File(set="file", path=place / "labels.parquet"),),
        tasks=tuple(task.key for task in tasks),
        features=FeatureSettings(
            bundle=str(place / bundle), cache=place / cache, images=place, parts=parts
        ),
        network=NetworkSettings(backbone="features", heads=heads or {}),
        optim=optim or OptimSettings(optimiser="adam", lr=0.01),
        fit=FitSettings(
            **{"epochs": 3, "batch": 64, "find_points": False, "accelerator": "cpu", **fit_settings}
        ),
    )


def curve(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "curve.csv")


# what heads read


def test_rows_are_what_the_network_says_of_the_pictures(place, model):
    table = table_of(place).sample(frac=1, random_state=0)
    features, raw = answers(model, table[:50])
    both = np.concatenate([features, raw["expr"], raw["va"]], axis=1)
    for parts, expected in (("features", features), ("raw", both[:, WIDTH:]), ("both", both)):
        cached = inputs_of(table, (EXPR, AU), settings_of(place, (EXPR, AU), parts))
        assert isinstance(cached, FeatureDataset)
        keys = [3, 1, 49, 3]
        values, target, readable = cached.__getitems__([(7, key) for key in keys])
        np.testing.assert_allclose(values, expected[keys], atol=1e-5)
        np.testing.assert_array_equal(
            target, np.concatenate([labels(table, EXPR), labels(table, AU)], axis=1)[keys]
        )
        assert readable == [True] * 4
        torch.testing.assert_close(cached[49][0], values[2:3])
        torch.testing.assert_close(cached.__getitems__(keys)[0], values)


def test_heads_of_three_tasks_learn_far_more_than_chance(place, tmp_path):
    heads = {
        "expr": HeadSettings(),
        "va": HeadSettings(squash=True),
        "au": HeadSettings(kind="hidden"),
    }
    settings = settings_of(
        place,
        (EXPR, VA, AU),
        heads=heads,
        optim=OptimSettings(optimiser="adam", lr=0.02, weight_decay=0.005),
        epochs=12,
    )
    run = fit(
        settings.model_copy(update={"losses": {"au": LossSettings(positives=True)}}),
        tmp_path / "run",
    )
    found = curve(run.folder)
    val = table_of(place).query("split == 'val'")
    share = labels(val, AU).mean(axis=0)
    always = np.mean(
        2 * share / (1 + share)
    )  # F1 of one who says that every unit is there, the best that chance can do
    assert found["expr"].max() > 3 / len(EXPR.names)
    assert found["va"].max() > 0.4
    assert found["au"].max() > always + 0.05
    assert found["loss"].iloc[-1] < 0.7 * found["loss"].iloc[0]
    assert not list(run.folder.glob("points.parquet"))


def test_a_linear_head_with_coupled_decay_ends_where_logistic_regression_does(
    place, model, tmp_path
):
    decay = 0.01
    optim = OptimSettings(optimiser="adam", lr=0.02, weight_decay=decay)
    run = fit(settings_of(place, optim=optim, epochs=40, batch=96), tmp_path / "run")
    net = network_of(run, "last.pt")
    train = table_of(place).query("split == 'train'")
    features, raw = answers(model, train)
    x, y = np.concatenate([features, *raw.values()], axis=1), labels(train, EXPR).argmax(axis=1)

    def cost(weight, bias) -> float:
        logits = x @ weight.T + bias
        own = (
            np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
            + logits.max(axis=1)
            - logits[np.arange(len(y)), y]
        )
        return float(own.mean() + decay / 2 * (weight**2).sum())

    best = LogisticRegression(C=1 / (decay * len(y)), max_iter=2000, tol=1e-6).fit(x, y)
    least = cost(best.coef_, best.intercept_)
    ours = cost(net.heads[0].weight.detach().numpy(), net.heads[0].bias.detach().numpy())
    assert least * (1 - 1e-5) <= ours < 1.01 * least
    with torch.no_grad():
        agree = (net(torch.from_numpy(x))[0].argmax(dim=1).numpy() == best.predict(x)).mean()
    assert agree > 0.95


def test_workers_are_not_asked(place):
    assert settings_of(place, workers=3).readers == 0


# killed and gone on


class Stop(Progress):
    def __init__(self, at: int, error: type[BaseException]) -> None:
        self.at, self.error = at, error

    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        if done == self.at:
            raise self.error


@pytest.mark.parametrize(
    ("at", "error"), [(17, KeyboardInterrupt), (17, RuntimeError), (24, KeyboardInterrupt)]
)
def test_a_stopped_run_goes_on_to_the_same_weights(place, tmp_path, at, error):
    heads = {
        "expr": HeadSettings(kind="hidden", width=16, dropout=0.3),
        "va": HeadSettings(squash=True),
    }
    settings = settings_of(place, (EXPR, VA), heads=heads)
    whole = fit(settings, tmp_path / "whole")
    with pytest.raises(error):
        fit(settings, tmp_path / "parts", Stop(at, error))
    parts = fit(settings, tmp_path / "parts")
    one, other = (run.load("last.pt") for run in (whole, parts))
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one["net"], other["net"], rtol=0, atol=0)
    assert (
        curve(whole.folder)
        .drop(columns="seconds")
        .equals(curve(parts.folder).drop(columns="seconds"))
    )


# what does not fit


def test_pictures_that_are_not_cached_are_named_or_left_out(place, model, tmp_path):
    table = table_of(place)
    build(model, table.drop(index=[5, 6, TRAIN + 3]), tmp_path / "part", root=place)
    settings = settings_of(place, cache=tmp_path / "part")
    with pytest.raises(
        DataError,
        match=r"faces/0005\.png is not cached; 2 of 768 pictures are not.*points count as well",
    ):
        fit(settings, tmp_path / "run")
    run = fit(
        settings_of(place, cache=tmp_path / "part", skip_unreadable=True, batch=TRAIN, epochs=1),
        tmp_path / "skipping",
    )
    for split, names in (("train", ["0005.png", "0006.png"]), ("val", [f"{TRAIN + 3:04d}.png"])):
        told = run.facts[f"unreadable_{split}"]
        assert told["count"] == len(names)
        assert [Path(name).name for name in told["first"]] == names
    cached = FeatureDataset(table, [EXPR], settings.features, skip_unreadable=True)
    values, target, readable = cached.__getitems__([4, 5])
    assert readable == [True, False]
    assert values[1].abs().max() == 0
    assert target[1].isnan().all()
    assert values[0].abs().max() > 0


def test_other_points_are_other_rows(place, tmp_path):
    table = table_of(place)
    table["points"] = [five + 1 for five in table["points"]]
    with pytest.raises(DataError, match=r"is not cached.*fit\.find_points"):
        inputs_of(table, [EXPR], settings_of(place))


def test_a_cache_of_another_bundle_is_refused(place, tmp_path):
    with pytest.raises(DataError, match=r"nothing of tiny is cached here; call build\(\) first"):
        fit(settings_of(place, bundle="other"), tmp_path / "run")


def test_bundles_without_features_are_refused(place):
    with pytest.raises(BundleError, match="finds faces"):
        FeatureSettings(bundle=FACES, cache=place).card()
    without = open_bundle(place / "bundle").card.model_copy(update={"features": None})
    (place / "without").mkdir()
    write_card(without, place / "without" / "card.json")
    with pytest.raises(BundleError, match="exposes no features"):
        _ = FeatureSettings(bundle=str(place / "without"), cache=place).width


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": NetworkSettings()}, "network.backbone: the name features"),
        ({"features": None}, "network.backbone: the name features"),
        ({"augment": AugmentSettings(mixup=0.2)}, "augment: of no effect"),
        (
            {"pixels": Pixels(size=32, colour="grey", alignment="box", mean=(0.0,), std=(1.0,))},
            "pixels: of no effect",
        ),
        ({"fit": FitSettings(frozen_epochs=1)}, "no backbone to freeze"),
    ],
)
def test_settings_without_effect_are_refused(place, change, said):
    plain = settings_of(place)
    with pytest.raises(ValidationError, match=said):
        Settings(**{name: getattr(plain, name) for name in Settings.model_fields} | change)


@pytest.mark.parametrize("also", [{"slim": True}, {"start": Path("weights.pt")}])
def test_a_backbone_that_is_none_has_no_options(also):
    with pytest.raises(ValidationError, match="features has no weights"):
        NetworkSettings(backbone="features", **also)


def test_paths_of_a_settings_file_start_from_its_folder(place, tmp_path):
    path = place / "heads.yaml"
    path.write_text(
        "name: heads\ntasks: [expr.abaw8]\ndata:\n- {set: file, path: labels.parquet}\nfeatures: {bundle: bundle, cache: cache}\n"
        "network: {backbone: features}\nfit: {epochs: 1, find_points: false, accelerator: cpu}\n"
    )
    settings = read_settings(path)
    assert settings.features == FeatureSettings(
        bundle=str(place / "bundle"), cache=place / "cache", images=place
    )
    run = fit(settings, tmp_path / "run")
    assert run.settings == settings
    path.write_text(write_settings(settings).replace(str(place / "bundle"), AFFECT))
    assert read_settings(path).features.bundle == AFFECT


# the tanh


def test_a_squashed_head_stays_in_range_and_starts_at_the_mean():
    task = Task("va.wide", ("valence",), "scalar", 0.0, 10.0)
    for kind in ("linear", "hidden"):
        net = MultiTaskNet(
            NetworkSettings(
                backbone="features", heads={"va": HeadSettings(kind=kind, squash=True)}
            ),
            [task],
            4,
        )
        start_at_means(net, [np.full((6, 1), 7.0, np.float32)])
        torch.testing.assert_close(
            net(torch.zeros(1, 4))[0], torch.tensor([[7.0]]), atol=0.2, rtol=0
        )
        net.heads[0].last.weight.data.fill_(100.0)
        out = net(torch.randn(50, 4))[0]
        assert out.min() >= 0
        assert out.max() <= 10
    head = make_head(HeadSettings(squash=True), 4, VA)
    x = torch.randn(5, 4)
    torch.testing.assert_close(head(x), torch.tanh(x @ head.weight.T + head.bias))


def test_squash_and_its_inverse():
    squash = Squash(-1.0, 3.0)
    numbers = torch.tensor([-0.9, 0.0, 1.0, 2.5])
    torch.testing.assert_close(squash(squash.inverse(numbers)), numbers)
    assert squash.inverse(torch.tensor([-1.0, 3.0])).isfinite().all()


def test_only_plain_numbers_are_squashed():
    with pytest.raises(ValidationError, match="squash: bins keep"):
        HeadSettings(squash=True, bins=20)
    with pytest.raises(ValueError, match=r"expr\.abaw8 is one_of"):
        make_head(HeadSettings(squash=True), 4, EXPR)
