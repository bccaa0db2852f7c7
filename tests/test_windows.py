"""Sequence heads over windows of cached features: which frames they read, that padding is nothing, and that they see neighbours."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from typer.testing import CliRunner

from mien.bundles.card import write_card
from mien.bundles.card_parts import TaskCard
from mien.bundles.store import AFFECT, load, open_bundle
from mien.cli import app
from mien.data.label_table import labels
from mien.data.registry import File
from mien.errors import DataError
from mien.evaluation.predict import evaluate_bundle
from mien.faces.prepare import Pixels
from mien.metrics import ccc
from mien.tasks import TASKS
from mien.train.bundle.make import make_bundle
from mien.train.bundle.pack import sha256_of
from mien.train.inputs.feature_cache import build
from mien.train.inputs.feature_dataset import WindowDataset
from mien.train.inputs.windows import windows
from mien.train.loop import Progress, fit, network_of
from mien.train.objective.objective import Objective
from mien.train.onnx.export import export
from mien.train.open_model import open_model
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import inputs_of, raw_scores
from mien.train.settings.features import FeatureSettings, WindowSettings
from mien.train.settings.losses import LossSettings
from mien.train.settings.network import HeadSettings, NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings, read_settings, write_settings

pytestmark = pytest.mark.usefixtures("one_thread")

VA = TASKS["va"]
SIDE, BLOCKS = 16, 16
SPREAD = 9  # frames that a label is the mean of
LENGTH = 12


class Blocks(nn.Module):
    """Features: the mean grey of 16 blocks of a picture; and a head that nobody trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(BLOCKS, 2)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = nn.functional.avg_pool2d(images, 4).flatten(1)
        return 0.1 * self.head(features), features


def trajectories(split: str, lengths: list[int], seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Frames of videos whose labels are running means of noise, and the noise that is seen, (N, 16)."""
    rng = np.random.default_rng(seed)
    parts, seen = [], []
    for number, count in enumerate(lengths):
        noise = rng.normal(size=(count, BLOCKS)).clip(-2.9, 2.9)
        mean = (
            pd.DataFrame(noise[:, :2]).rolling(SPREAD, center=True, min_periods=1).mean().to_numpy()
        )
        va = (1.5 * mean).clip(-1, 1)
        parts.append(
            pd.DataFrame(
                {
                    "video": f"{split}-{number}",
                    "frame": np.arange(count),
                    "split": split,
                    "valence": va[:, 0],
                    "arousal": va[:, 1],
                }
            )
        )
        seen.append(noise)
    return pd.concat(parts, ignore_index=True), np.concatenate(seen)


def picture(seen: np.ndarray) -> np.ndarray:
    return np.kron(
        (127.5 + 43 * seen).round().astype(np.uint8).reshape(4, 4), np.ones((4, 4), np.uint8)
    )


def make_place(folder: Path, train: list[int], val: list[int]) -> Path:
    """Pictures, a label file in no order, a bundle, and a cache of it."""
    parts = [trajectories("train", train, 0), trajectories("val", val, 1)]
    table, seen = (
        pd.concat([part for part, _ in parts], ignore_index=True),
        np.concatenate([noise for _, noise in parts]),
    )
    (folder / "faces").mkdir()
    table["image"] = [f"faces/{i:04d}.png" for i in range(len(table))]
    for name, row in zip(table["image"], seen, strict=True):
        cv2.imwrite(str(folder / name), picture(row))
    table.sample(frac=1, random_state=0).to_parquet(folder / "labels.parquet")
    (folder / "bundle").mkdir()
    export(
        Blocks(),
        folder / "bundle" / "model.onnx",
        torch.randn(3, 1, SIDE, SIDE),
        ["va", "features"],
        {0: "batch"},
    )
    tasks = (
        TaskCard(
            key=VA.key,
            names=VA.names,
            kind=VA.kind,
            low=VA.low,
            high=VA.high,
            supervised_by="nobody",
        ),
    )
    pixels = Pixels(size=SIDE, colour="grey", alignment="box", mean=(127.5,), std=(43.0,))
    facts = {
        "name": "blocks",
        "tasks": tasks,
        "pixels": pixels,
        "temperature": {},
        "presence": None,
        "uncertain_below": None,
        "features": BLOCKS,
    }
    facts["sha256"] = sha256_of(folder / "bundle" / "model.onnx")
    write_card(open_bundle(AFFECT).card.model_copy(update=facts), folder / "bundle" / "card.json")
    build(load(folder / "bundle", "onnxruntime"), table_of(folder), folder / "cache", root=folder)
    return folder


def table_of(place: Path, split: str | None = None) -> pd.DataFrame:
    """As a run reads it: the paths whole, the order of the file."""
    table = pd.read_parquet(place / "labels.parquet")
    table = table.assign(
        image=[str(place / name) for name in table["image"]], points=None, subject=None
    )
    return (table if split is None else table[table["split"] == split]).reset_index(drop=True)


def settings_of(
    place: Path, *, window=LENGTH, head=None, file="labels.parquet", features=None, **parts
) -> Settings:
    reads = {
        "bundle": str(place / "bundle"),
        "cache": place / "cache",
        "images": place,
        "parts": "features",
    }
    reads |= {"window": None if window is None else WindowSettings(length=window)} | (
        features or {}
    )
    head = head or HeadSettings(
        kind="linear" if window is None else "sequence", width=None if window is None else 16
    )
    fitting = {
        "epochs": 2,
        "batch": 16,
        "find_points": False,
        "accelerator": "cpu",
        **parts.pop("fit", {}),
    }
    return Settings(
        **{
            "name": "heads", "data": (File(set="file", path=place / file),), "tasks": (VA.key,), "features": FeatureSettings(**reads),
            "network": NetworkSettings(backbone="features", heads={"va": head}),
            "optim": OptimSettings(optimiser="adam", lr=0.02), "fit": FitSettings(**fitting), **parts,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return make_place(
        tmp_path_factory.mktemp("windows"), train=[30] * 20 + [7, 12], val=[33] * 6 + [5, 12, 13]
    )


# which frames


def clip(*frames: float, video: str | None = "a") -> pd.DataFrame:
    return pd.DataFrame({"video": pd.Series([video] * len(frames), dtype=object), "frame": frames})


@pytest.mark.parametrize(
    ("count", "overlap", "expected"),
    [
        (40, True, [(0, 32), (8, 40)]), (64, True, [(0, 32), (16, 48), (32, 64)]), (33, False, [(0, 32), (1, 33)]), (20, True, [(0, 20)]),
        (20, False, [(0, 20)]), (32, True, [(0, 32)]), (33, True, [(0, 32), (1, 33)]), (64, False, [(0, 32), (32, 64)]),
    ],
)  # fmt: skip
def test_windows_of_one_video(count, overlap, expected):
    found = windows(clip(*range(count)), WindowSettings(), overlap=overlap)
    rows = [row[row >= 0] for row in found]
    assert [(row[0], row[-1] + 1) for row in rows] == expected
    assert all(len(row) == min(count, 32) and (np.diff(row) == 1).all() for row in rows)
    assert found.shape[1] == 32


def by_hand(frames: list[int], length: int, gap: int, overlap: bool) -> set[tuple[int, ...]]:
    """The windows of one video, as frame numbers: cut at gaps, step on, and end with the end."""
    recordings = [[frames[0]]]
    for before, now in pairwise(frames):
        if now - before > gap:
            recordings.append([])
        recordings[-1].append(now)
    found = set()
    for one in recordings:
        start = 0
        while start + length < len(one):
            found.add(tuple(one[start : start + length]))
            start += length // 2 if overlap else length
        found.add(tuple(one[-length:]))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_windows_hold_every_frame_whatever_the_order_of_the_table(seed):
    rng = np.random.default_rng(seed)
    length, gap, overlap = int(rng.integers(2, 12)), int(rng.integers(1, 4)), bool(rng.integers(2))
    videos = {
        f"v{i}": sorted(rng.choice(80, rng.integers(1, 60), replace=False).tolist())
        for i in range(rng.integers(1, 6))
    }
    table = pd.concat(
        [clip(*frames, video=name) for name, frames in videos.items()]
        + [clip(np.nan, np.nan, video=None)]
    )
    table = table.sample(frac=1, random_state=seed).reset_index(drop=True)
    found = windows(table, WindowSettings(length=length, gap=gap), overlap=overlap)
    assert found.shape[1] == length
    assert set(found[found >= 0]) == set(range(len(table)))
    assert (np.diff((found >= 0).astype(int), axis=1) <= 0).all()  # padding at the end only
    ours: dict[str, list[tuple[int, ...]]] = {}
    for row in found:
        part = table.iloc[row[row >= 0]]
        assert part["video"].nunique(dropna=False) == 1
        ours.setdefault(part["video"].iloc[0] or "alone", []).append(tuple(part["frame"].tolist()))
    assert len(ours.pop("alone")) == 2
    for name, frames in videos.items():
        assert len(ours[name]) == len(set(ours[name]))
        assert set(ours[name]) == by_hand(frames, length, gap, overlap)


def test_frames_without_a_place_in_time_are_refused():
    with pytest.raises(DataError, match="video 'a': 1 rows have no frame number"):
        windows(clip(0, np.nan), WindowSettings())
    with pytest.raises(DataError, match="video 'a': frame 3 comes twice"):
        windows(clip(3, 1, 3), WindowSettings())


# what heads read, and what they say


def test_a_batch_is_features_and_labels_with_nan_for_padding(place):
    table = table_of(place, "val")
    features = load(place / "bundle", "onnxruntime").features_and_raw(
        [cv2.imread(path, cv2.IMREAD_COLOR_RGB) for path in table["image"]]
    )[0]
    read = inputs_of(table, [VA], settings_of(place))
    assert isinstance(read, WindowDataset)
    for number in (0, len(read) - 1, 3):
        [values], [target], readable = read.__getitems__([(5, number)])
        rows = read.rows[number]
        count = int((rows >= 0).sum())
        assert values.shape == (LENGTH, BLOCKS)
        np.testing.assert_allclose(values[:count], features[rows[:count]], atol=1e-5)
        np.testing.assert_array_equal(target[:count], labels(table, VA)[rows[:count]])
        assert values[count:].isnan().all()
        assert target[count:].isnan().all()
        assert readable == [True]


def test_answers_come_in_the_tables_order_and_the_first_window_counts(place, tmp_path):
    settings = settings_of(place, fit={"epochs": 1})
    net = network_of(fit(settings, tmp_path / "run"))
    table = table_of(place, "val")
    raw, readable = raw_scores(net, inputs_of(table, [VA], settings), batch=4, workers=0)
    assert raw["va"].shape == (len(table), 2)
    assert readable.all()
    table["row"], head = np.arange(len(table)), net.heads[0]
    read = inputs_of(table, [VA], settings).faces
    expected = np.full((len(table), 2), np.nan)
    for _, video in table.sort_values("frame").groupby("video"):
        rows = video["row"].to_numpy()
        starts = [*range(0, max(len(rows) - LENGTH, 0), LENGTH), max(len(rows) - LENGTH, 0)]
        for start in starts:
            part = rows[start : start + LENGTH]
            with torch.no_grad():
                said = head.last(head.gru(read.__getitems__(part.tolist())[0][None])[0].relu())[
                    0
                ].numpy()
            fresh = np.isnan(expected[part]).any(axis=1)
            expected[part[fresh]] = said[fresh]
    np.testing.assert_allclose(raw["va"], expected, atol=1e-5)


def test_padding_is_no_part_of_the_loss(place, tmp_path):
    """One step over all windows costs what the objective says of their frames alone."""
    table = table_of(place, "train")
    settings = settings_of(
        place,
        optim=OptimSettings(optimiser="adam", lr=1e-12),
        losses={"va": LossSettings(kind="mse")},
    )
    read = inputs_of(table, [VA], settings, overlap=True)
    assert (read.rows < 0).any()
    costs = []

    class Hear(Progress):
        def step(self, done, loss, rate, score):
            costs.append(loss)

    run = fit(
        settings.model_copy(
            update={"fit": settings.fit.model_copy(update={"batch": len(read), "epochs": 1})}
        ),
        tmp_path / "run",
        Hear(),
    )
    rows = read.rows[read.rows >= 0]
    values, target, _ = read.__getitems__(range(len(read)))
    real = torch.from_numpy(read.rows >= 0)
    with torch.no_grad():
        said = network_of(run)(values)[0][real].numpy()
    truth = labels(table, VA)
    assert len(costs) == 1
    assert costs[0] == pytest.approx(
        (((said - truth[rows]) ** 2).mean(axis=0) / truth.var(axis=0)).mean(), rel=1e-4
    )
    objective = Objective.from_labels([VA], {}, {"va": truth})
    whole, _ = objective((torch.zeros(*target.shape),), (target,))
    assert torch.isfinite(whole)


def test_frames_that_are_not_cached_are_named_or_left_out(place, tmp_path):
    table = table_of(place)
    lost = table.query("video == 'train-3' and frame in (4, 20) or video == 'val-2' and frame == 7")
    build(
        load(place / "bundle", "onnxruntime"),
        table.drop(index=lost.index),
        tmp_path / "part",
        root=place,
    )
    with pytest.raises(DataError, match=r"is not cached; 2 of \d+ pictures are not"):
        fit(settings_of(place, features={"cache": tmp_path / "part"}), tmp_path / "run")
    settings = settings_of(
        place,
        features={"cache": tmp_path / "part"},
        fit={"skip_unreadable": True, "batch": 61, "epochs": 1},
    )
    assert len(inputs_of(table_of(place, "train"), [VA], settings, overlap=True)) >= 61
    run = fit(settings, tmp_path / "skipping")
    for split in ("train", "val"):
        assert sorted(run.facts[f"unreadable_{split}"]["first"]) == sorted(
            lost.loc[lost["split"] == split, "image"]
        )
    _, readable = raw_scores(
        network_of(run), inputs_of(table_of(place, "val"), [VA], settings), workers=0
    )
    assert (~readable).sum() == 1
    read = WindowDataset(table, [VA], settings.features, skip_unreadable=True)
    gone = int(lost.index[0])
    [number, *_], [where, *_] = np.nonzero(read.rows == gone)
    [values], [target], readable = read.__getitems__([number])
    assert readable == [False]
    assert not values[where].any()
    assert target[where].isnan().all()


# learning


def score(run: RunFolder) -> float:
    return float(pd.read_csv(run.folder / "curve.csv")["va"].max())


def test_a_sequence_head_sees_the_frames_around(place, tmp_path):
    """Labels are means over 9 frames of what is seen, so one frame correlates 1/3 with its label, and concords less still."""
    sequence = fit(settings_of(place, fit={"epochs": 25}), tmp_path / "sequence")
    frames = fit(
        settings_of(place, window=None, fit={"epochs": 25, "batch": 64}), tmp_path / "frames"
    )
    assert score(frames) < 0.4
    assert score(sequence) > 0.65
    table, settings = table_of(place, "val"), sequence.settings
    raw, _ = raw_scores(network_of(sequence), inputs_of(table, [VA], settings), workers=0)
    own = np.mean([ccc(VA.decode(raw["va"])[:, i], table[name]) for i, name in enumerate(VA.names)])
    assert own == pytest.approx(score(sequence), abs=1e-6)


class Stop(Progress):
    def __init__(self, at: int = -1) -> None:
        self.at, self.notes = at, []

    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        if done == self.at:
            raise KeyboardInterrupt

    def note(self, line: str) -> None:
        self.notes.append(line)


@pytest.mark.parametrize("bins", [None, 20])
def test_a_stopped_run_goes_on_to_the_same_weights(place, tmp_path, bins):
    head = HeadSettings(kind="sequence", width=8, bins=bins)
    losses = {"va": LossSettings(kind="bins" if bins else "ccc")}
    network = NetworkSettings(backbone="features", heads={"va": head}, dropout=0.2)
    settings = settings_of(place, network=network, losses=losses, fit={"epochs": 3, "patience": 2})
    whole = fit(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path / "parts", Stop(7))
    parts = fit(settings, tmp_path / "parts")
    one, other = (run.load("last.pt") for run in (whole, parts))
    torch.testing.assert_close(one["net"], other["net"], rtol=0, atol=0)
    assert len(pd.read_csv(parts.folder / "curve.csv")) == 3
    raw, _ = raw_scores(
        network_of(parts), inputs_of(table_of(place, "val"), [VA], settings), workers=0
    )
    assert raw["va"].shape[1] == 2


def test_short_recordings_are_padded_and_told(place, tmp_path):
    heard = Stop()
    run = fit(settings_of(place, window=50, fit={"epochs": 1}), tmp_path / "run", heard)
    line = (
        "all 22 recordings of split train are shorter than the 50 frames of a window and are padded"
    )
    assert line in heard.notes
    assert line in run.facts["notes"]
    heard = Stop()
    fit(settings_of(place, fit={"epochs": 1}), tmp_path / "other", heard)
    assert not [note for note in heard.notes if "padded" in note]


def test_single_pictures_are_windows_of_one_frame(place, tmp_path):
    table = pd.read_parquet(place / "labels.parquet").assign(video=None, frame=np.nan)
    table.to_parquet(place / "single.parquet")
    run = fit(
        settings_of(place, window=2, file="single.parquet", fit={"epochs": 1, "batch": 64}),
        tmp_path / "run",
    )
    assert np.isfinite(score(run))


# what does not fit


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": None, "head": HeadSettings(kind="sequence")}, "a sequence head reads windows; give features.window"),
        ({"head": HeadSettings(kind="hidden")}, "only heads of kind sequence, .* read windows"),
        ({"network": NetworkSettings(backbone="features")}, "only heads of kind sequence, .* read windows"),
        ({"fit": {"balance": "va"}}, "fit.balance: va draws single faces"),
        ({"teachers": (Path("t"),), "teachers_see": "picture", "losses": {"va": LossSettings(distill={})}}, "teachers of windows must"),
        ({"features": {"within": (4, 4)}}, "within: give the first column"),
        ({"features": {"window": {"length": 1}}}, "greater than or equal to 2"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(place, change, said):
    with pytest.raises(ValidationError, match=said):
        settings_of(place, **change)


def test_settings_come_back_from_their_file(place, tmp_path):
    settings = settings_of(
        place, features={"within": (2, 9), "window": WindowSettings(length=5, gap=3)}
    )
    (tmp_path / "settings.yaml").write_text(write_settings(settings))
    assert read_settings(tmp_path / "settings.yaml") == settings


def test_windows_make_no_bundle(place, tmp_path):
    run = fit(settings_of(place, fit={"epochs": 1}), tmp_path / "run")
    for make in (
        lambda: open_model(run.folder),
        lambda: make_bundle(run, tmp_path / "bundle"),
        lambda: make_bundle(run, tmp_path / "b", bits=8),
    ):
        with pytest.raises(
            DataError, match="its heads read windows of 12 frames and a bundle reads single faces"
        ):
            make()
    assert not (tmp_path / "bundle").exists()
    (tmp_path / "data.yaml").write_text(write_settings(run.settings))
    for words in (
        ["export", run.folder, "--out", tmp_path / "bundle"],
        ["evaluate", run.folder, "--data", tmp_path / "data.yaml"],
    ):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 1
        assert "Traceback" not in result.output
        assert "read windows of 12 frames" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("parts", "within"), [("features", (0, 3)), ("both", (1, 17)), ("raw", (1, 2))]
)
def test_heads_read_some_columns_alone_and_are_joined_so(place, tmp_path, parts, within):
    settings = settings_of(
        place,
        window=None,
        features={"parts": parts, "within": within},
        fit={"epochs": 1, "batch": 64},
    )
    run = fit(settings, tmp_path / "run")
    table = table_of(place, "val")
    features, raw = load(place / "bundle", "onnxruntime").features_and_raw(
        [cv2.imread(p, cv2.IMREAD_COLOR_RGB) for p in table["image"]]
    )
    columns = {
        "features": features,
        "raw": raw["va"],
        "both": np.concatenate([features, raw["va"]], axis=1),
    }[parts][:, slice(*within)]
    read = inputs_of(table, [VA], settings)
    np.testing.assert_allclose(read.__getitems__(range(len(table)))[0], columns, atol=1e-5)
    own, _ = raw_scores(network_of(run), read, workers=0)
    joined = evaluate_bundle(open_model(run.folder), table, (VA,)).scores["va"]
    np.testing.assert_allclose(joined, VA.decode(own["va"]), atol=1e-4)
    model = load(make_bundle(run, tmp_path / "made", features=True), "onnxruntime")
    crops = [cv2.imread(p, cv2.IMREAD_COLOR_RGB) for p in table["image"][:9]]
    np.testing.assert_allclose(model.features_and_raw(crops)[0], features[:9], atol=1e-4)


def test_columns_that_are_not_there_are_refused(place):
    with pytest.raises(
        DataError,
        match="within: 10 to 17 reaches beyond the 16 numbers that parts: features has of blocks",
    ):
        settings_of(place, features={"within": (10, 17)}).features.columns()
