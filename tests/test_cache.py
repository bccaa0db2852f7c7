"""Features of a bundle, and the cache of them: right numbers, each once, and nothing lost whenever it is stopped."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mien.bundles.card import AffectCard, write_card
from mien.bundles.card_parts import TaskCard
from mien.bundles.engines import available, open_engine
from mien.bundles.readme import readme
from mien.bundles.store import AFFECT, Model, load, open_bundle
from mien.errors import BundleError, DataError, OutputError
from mien.faces.prepare import Pixels, prepare
from mien.records import Face
from mien.tasks import TASKS
from mien.train.bundle.pack import sha256_of
from mien.train.inputs import feature_cache as cache_module
from mien.train.inputs.feature_cache import FeatureCache, build, cache_folder
from mien.train.onnx.export import export

HEADS = (TASKS["expr.affectnet8"], TASKS["va"])
FAMILIES = ["expr", "va"]
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 61.0, 62.0)
TEMPLATE = ((0.32, 0.38), (0.68, 0.38), (0.5, 0.6), (0.35, 0.77), (0.65, 0.77))
PIXELS = Pixels(
    size=32, colour="rgb", alignment="similarity5", template=TEMPLATE, mean=MEAN, std=STD
)
EACH_ENGINE = pytest.mark.parametrize("engine", available())


class Tiny(nn.Module):
    """A network that gives (raw..., features), or raw alone."""

    def __init__(self, *, exposes: bool = True) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.exposes = exposes
        self.body = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2), nn.ReLU(), nn.Conv2d(24, 24, 3, 2), nn.ReLU()
        )
        self.heads = nn.ModuleList(nn.Linear(24, len(task.names)) for task in HEADS)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images).mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled = self.features(images)
        raw = tuple(head(pooled) for head in self.heads)
        return (*raw, pooled) if self.exposes else raw


def bundle(
    folder: Path,
    *,
    exposes: bool = True,
    eight_bits: bool = False,
    pixels: Pixels = PIXELS,
    **said: object,
) -> Path:
    """A bundle of `Tiny`, made as training makes one."""
    folder.mkdir()
    calibration = eaten(noise(60)).numpy() if eight_bits else None
    names = [*FAMILIES, "features"] if exposes else FAMILIES
    export(
        Tiny(exposes=exposes),
        folder / "model.onnx",
        eaten(noise(4)),
        names,
        {0: "batch", 2: "height", 3: "width"},
        calibration=calibration,
    )
    tasks = [
        TaskCard(
            key=t.key, names=t.names, kind=t.kind, low=t.low, high=t.high, supervised_by="nobody"
        )
        for t in HEADS
    ]
    facts = {
        "name": "tiny",
        "tasks": tuple(tasks),
        "pixels": pixels,
        "temperature": {},
        "presence": None,
        "uncertain_below": None,
        "features": 24 if exposes else None,
    } | said
    write_card(
        open_bundle(AFFECT).card.model_copy(
            update=facts | {"sha256": sha256_of(folder / "model.onnx")}
        ),
        folder / "card.json",
    )
    return folder


def noise(count: int, size: int = 32) -> list[np.ndarray]:
    """Crops of soft colours, each another."""
    random = np.random.default_rng(8)
    return [
        cv2.resize(random.integers(0, 256, (4, 4, 3), np.uint8), (size, size)) for _ in range(count)
    ]


def eaten(crops: list[np.ndarray]) -> torch.Tensor:
    """What the network eats, by the plain formula."""
    return torch.from_numpy(
        ((np.stack(crops).astype(np.float32) - np.float32(MEAN)) / np.float32(STD)).transpose(
            0, 3, 1, 2
        )
    )


def by_torch(crops: list[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        return [out.numpy() for out in Tiny().eval()(eaten(crops))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("bundles")
    return {
        "with": bundle(top / "with"),
        "without": bundle(top / "without", exposes=False),
        "with, 8 bits": bundle(top / "with8", eight_bits=True),
        "without, 8 bits": bundle(top / "without8", exposes=False, eight_bits=True),
    }


@pytest.fixture(scope="module")
def model(folders) -> Model:
    return load(folders["with"], "onnxruntime")


# a bundle that exposes features


@EACH_ENGINE
def test_features_and_raw_are_torch_s_own(folders, engine):
    crops = noise(70)
    *raw, features = by_torch(crops)
    running = load(folders["with"], engine)
    found, answered = running.features_and_raw(crops)
    assert found.shape == (70, 24)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, features, atol=2e-3)
    for family, values in zip(FAMILIES, raw, strict=True):
        np.testing.assert_allclose(answered[family], values, atol=2e-3)
    np.testing.assert_array_equal(running.features(crops), found)


@EACH_ENGINE
@pytest.mark.parametrize("bits", ["", ", 8 bits"])
def test_scores_are_the_same_with_and_without_features_in_the_network(folders, engine, bits):
    crops = noise(9)
    exposing, plain = (load(folders[name + bits], engine) for name in ("with", "without"))
    scores = plain.score(crops)
    for family, values in exposing.score(crops).items():
        np.testing.assert_allclose(values, scores[family], atol=1e-6)
    assert list(scores) == FAMILIES


@EACH_ENGINE
def test_scoring_asks_for_the_tasks_outputs_only(folders, engine):
    running = open_engine((folders["with"] / "model.onnx").read_bytes(), engine)
    batch = eaten(noise(3)).numpy()
    everything, some = running.run(batch), running.run(batch, 2)
    assert [out.shape for out in everything] == [(3, 8), (3, 2), (3, 24)]
    assert len(some) == 2
    assert all(np.array_equal(a, b) for a, b in zip(some, everything, strict=False))


@EACH_ENGINE
def test_features_in_eight_bits_are_close(folders, engine):
    crops = noise(20)
    features = by_torch(crops)[-1]
    found = load(folders["with, 8 bits"], engine).features(crops)
    assert np.corrcoef(found.ravel(), features.ravel())[0, 1] > 0.99
    assert np.abs(found - features).max() < 0.1 * features.max()


def test_raw_decodes_to_the_scores(folders, tmp_path):
    crops = noise(5)
    warm = load(bundle(tmp_path / "warm", temperature={"expr": 2.0}), "onnxruntime")
    raw = warm.features_and_raw(crops)[1]
    odds = np.exp(raw["expr"].astype(float) / 2)
    np.testing.assert_allclose(
        warm.score(crops)["expr"], odds / odds.sum(axis=1, keepdims=True), atol=1e-5
    )
    np.testing.assert_array_equal(
        raw["expr"], load(folders["with"], "onnxruntime").features_and_raw(crops)[1]["expr"]
    )


def test_no_crops_give_no_features_of_the_right_width(model):
    features, raw = model.features_and_raw([])
    assert features.shape == (0, 24)
    assert [values.shape for values in raw.values()] == [(0, 8), (0, 2)]


def test_a_bundle_without_features_says_so(folders, tmp_path):
    closed = load(folders["without"], "onnxruntime")
    with pytest.raises(
        BundleError, match="exposes no features; use a bundle whose card has `features`"
    ):
        closed.features(noise(1))
    with pytest.raises(BundleError, match="exposes no features"):
        build(closed, pd.DataFrame({"image": noise(1)}), tmp_path / "cache", root=tmp_path)
    with pytest.raises(BundleError, match="exposes no features"):
        FeatureCache(tmp_path, closed.card, root=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("said", [{"features": None}, {"features": 23}])
def test_a_card_that_is_wrong_about_features_is_found_out_on_loading(said, tmp_path):
    with pytest.raises(BundleError, match="the network gives"):
        load(bundle(tmp_path / "wrong", **said), "onnxruntime")


def test_the_readme_tells_of_features_where_there_are_any(folders):
    assert "24 numbers a face" in readme(open_bundle(folders["with"]).card)
    assert "features" not in readme(open_bundle(folders["without"]).card)


def test_features_come_last_or_not_at_all(tmp_path):
    with pytest.raises(ValueError, match="features must be the last output"):
        export(
            Tiny(), tmp_path / "x.onnx", eaten(noise(2)), ["features", "expr", "va"], {0: "batch"}
        )


# the cache


@cache
def png(i: int) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(noise(40, 40)[i], cv2.COLOR_RGB2BGR))[1].tobytes()


@pytest.fixture
def root(tmp_path) -> Path:
    """Twelve pictures in two folders."""
    for i in range(12):
        path = tmp_path / "faces" / f"v{i % 2}" / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    return tmp_path / "faces"


def table_of(root: Path) -> pd.DataFrame:
    return pd.DataFrame({"image": [str(path) for path in sorted(root.rglob("*.png"))]})


def expected(model: Model, table: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The bundle's own answers for whole pictures, read without the cache's help."""
    return model.features_and_raw(
        [cv2.imread(path, cv2.IMREAD_COLOR_RGB) for path in table["image"]]
    )


def assert_right(found: FeatureCache, model: Model, table: pd.DataFrame) -> None:
    features, raw = expected(model, table)
    rows = found.rows(table)
    np.testing.assert_allclose(found.features[rows], features, atol=1e-5)
    for family, values in raw.items():
        np.testing.assert_allclose(found.raw[family][rows], values, atol=1e-5)
    np.testing.assert_allclose(
        found.features_and_raw[rows], np.concatenate([features, *raw.values()], axis=1), atol=1e-5
    )


class Counted:
    """Counts the crops that a bundle is asked to read."""

    def __init__(self, model: Model) -> None:
        self.model, self.crops, self.card = model, 0, model.card
        self.prepare = model.prepare

    def features_and_raw(self, crops):
        self.crops += len(crops)
        return self.model.features_and_raw(crops)


def test_the_cache_gives_what_the_bundle_gives_in_any_order(model, root, tmp_path):
    table = table_of(root)
    seen = []
    found = build(
        model,
        table,
        tmp_path / "cache",
        root=root,
        batch=5,
        progress=lambda *step: seen.append(step),
    )
    assert seen == [(5, 12), (10, 12), (12, 12)]
    assert_right(found, model, table)
    mixed = table.sample(frac=1, random_state=0)
    assert_right(found, model, mixed)
    assert_right(FeatureCache(tmp_path / "cache", model.card, root=root), model, mixed.iloc[:3])
    assert found.features.shape == (12, 24)
    assert found.skipped == ()


def test_what_is_there_is_not_computed_again_and_new_pictures_join(model, root, tmp_path):
    counted, table = Counted(model), table_of(root)
    build(counted, table.iloc[:7], tmp_path / "cache", root=root)
    assert counted.crops == 7
    build(counted, table, tmp_path / "cache", root=root)
    assert counted.crops == 12
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.parquet")}
    found = build(counted, table.iloc[3:9], tmp_path / "cache", root=root)
    assert counted.crops == 12
    assert {
        path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.parquet")
    } == before
    assert_right(found, model, table)


def test_pictures_are_kept_once_however_often_and_in_whatever_form_they_come(model, root, tmp_path):
    counted = Counted(model)
    array = noise(1, 40)[0]
    images = [
        png(0),
        png(1),
        array,
        png(0),
        array.copy(),
        str(root / "v0" / "00000.png"),
        str(root / "v0" / "00000.png"),
    ]
    table = pd.DataFrame({"image": images}, index=[5, 5, 1, 0, 2, 9, 8])
    found = build(counted, table, tmp_path / "cache", root=root)
    assert counted.crops == 4
    assert found.rows(table).tolist() == [0, 1, 2, 0, 2, 3, 3]
    assert_right(
        found,
        model,
        pd.DataFrame(
            {"image": [str(root / "v0" / "00000.png"), str(root / "v1" / "00001.png")]}
        ).iloc[:1],
    )
    np.testing.assert_array_equal(
        found.features[0], found.features[3]
    )  # the same picture, from bytes and from its file


def test_paths_are_relative_to_the_root(model, root, tmp_path, monkeypatch):
    found = build(model, table_of(root), tmp_path / "cache", root=root)
    shutil.move(root, tmp_path / "moved")
    moved = FeatureCache(tmp_path / "cache", model.card, root=tmp_path / "moved")
    np.testing.assert_array_equal(
        moved.rows(table_of(tmp_path / "moved")),
        found.rows(table_of(tmp_path / "moved").replace("moved", "faces", regex=True)),
    )
    monkeypatch.chdir(tmp_path)
    near = pd.DataFrame(
        {
            "image": [
                "moved/v0/00000.png",
                str(tmp_path / "moved" / "v1" / ".." / "v1" / "00001.png"),
            ]
        }
    )
    assert FeatureCache(tmp_path / "cache", model.card, root=Path("moved")).has(near).all()
    with pytest.raises(DataError, match=r"elsewhere\.png: not in .*moved.*as root"):
        moved.rows(pd.DataFrame({"image": [str(tmp_path / "elsewhere.png")]}))


def test_points_align_a_picture_and_tell_rows_apart(model, root, tmp_path):
    path = str(root / "v0" / "00000.png")
    one, other = (np.array(TEMPLATE).ravel() * side for side in (40, 30))
    table = pd.DataFrame(
        {"image": [path, path, path, path], "points": [one, None, list(other), one.copy()]}
    )
    found = build(model, table, tmp_path / "cache", root=root)
    rows = found.rows(table)
    assert len(set(rows.tolist())) == 3
    assert rows[0] == rows[3]
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    for i, five in ((0, one), (2, other)):
        crop = prepare(image, Face((0, 0, 40, 40), five.reshape(5, 2), 1.0), PIXELS)
        np.testing.assert_allclose(found.features[rows[i]], by_torch([crop])[-1][0], atol=2e-3)
    np.testing.assert_allclose(
        found.features[rows[1]], expected(model, table.iloc[:1])[0][0], atol=1e-5
    )


@pytest.mark.parametrize("points", [[1.0] * 9, np.full(10, np.nan), "points"])
def test_points_that_are_none_are_refused(model, root, tmp_path, points):
    table = table_of(root).iloc[:2].assign(points=pd.Series([None, points], dtype=object))
    with pytest.raises(DataError, match="points: not ten finite numbers"):
        build(model, table, tmp_path / "cache", root=root)


def test_a_changed_picture_is_computed_again_and_its_old_row_is_never_found(model, root, tmp_path):
    counted, table = Counted(model), table_of(root)
    old = build(counted, table, tmp_path / "cache", root=root).features[:].copy()
    path = Path(table["image"][4])
    path.write_bytes(png(30))
    os.utime(path, ns=(1, 1))
    found = build(counted, table, tmp_path / "cache", root=root)
    assert counted.crops == 13
    assert_right(found, model, table)
    assert found.rows(table)[4] == 12
    assert np.abs(found.features[12] - old[4]).max() > 1e-3
    path.write_bytes(b"broken")
    broken = build(counted, table, tmp_path / "cache", root=root, skip_unreadable=True)
    assert broken.has(table).tolist() == [i != 4 for i in range(12)]


@pytest.mark.parametrize("change", [{"size": 24}, {"mean": (1.0, 1.0, 1.0)}, {"resize": "linear"}])
def test_other_pixels_have_a_place_of_their_own(model, root, tmp_path, change):
    table, folder = table_of(root), tmp_path / "cache"
    build(model, table, folder, root=root)
    pixels = Pixels(**(PIXELS.model_dump() | change))
    other = load(bundle(tmp_path / "other", pixels=pixels), "onnxruntime")
    assert other.card.sha256 == model.card.sha256
    with pytest.raises(DataError, match=r"nothing of tiny is cached here; call build\(\) first"):
        FeatureCache(folder, other.card, root=root)
    assert_right(build(other, table, folder, root=root), other, table)
    assert_right(FeatureCache(folder, model.card, root=root), model, table)


def test_another_network_has_a_place_of_its_own(model, folders, tmp_path):
    other = open_bundle(folders["with, 8 bits"]).card
    assert isinstance(other, AffectCard)
    assert cache_folder(other, tmp_path) != cache_folder(model.card, tmp_path)
    assert cache_folder(model.card.model_copy(update={"summary": "x"}), tmp_path) == cache_folder(
        model.card, tmp_path
    )


def test_what_is_not_cached_is_named_and_counted(model, root, tmp_path):
    table = table_of(root)
    found = build(model, table.iloc[:10], tmp_path / "cache", root=root)
    with pytest.raises(
        DataError, match=r"v1/00009\.png is not cached; 2 of 12 pictures are not\. Call build\(\)"
    ):
        found.rows(table)
    assert found.has(table).sum() == 10
    with pytest.raises(DataError, match="nan is no picture"):
        found.rows(pd.DataFrame({"image": pd.Series([table["image"][0], None])}))


def test_a_picture_that_cannot_be_read_is_named_or_skipped(model, root, tmp_path):
    table = table_of(root)
    Path(table["image"][2]).write_bytes(png(2)[:60])
    Path(table["image"][9]).unlink()
    with pytest.raises(DataError, match=r"row 2 of the table: .*00004\.png"):
        build(model, table, tmp_path / "cache", root=root, batch=2)
    assert FeatureCache(tmp_path / "cache", model.card, root=root).has(table).sum() == 2
    found = build(model, table, tmp_path / "cache", root=root, skip_unreadable=True)
    assert found.skipped == ("v0/00004.png", "v1/00007.png")
    assert_right(found, model, table[found.has(table)])
    assert found.has(table).sum() == 10


def test_an_empty_table_gives_an_empty_cache(model, root, tmp_path):
    found = build(model, table_of(root).iloc[:0], tmp_path / "cache", root=root)
    assert found.features.shape == (0, 24)
    assert found.rows(table_of(root).iloc[:0]).shape == (0,)


# stopped in the middle


@pytest.mark.parametrize("commit", [3, 4, 100])
def test_killed_after_any_batch_the_next_build_goes_on(model, root, tmp_path, commit, monkeypatch):
    """What lies on the disk after a batch is what a killed process leaves."""
    monkeypatch.setattr(cache_module, "_COMMIT_ROWS", commit)
    table, left = table_of(root), []

    def keep(done: int, _: int) -> None:
        left.append((done, shutil.copytree(tmp_path / "cache", tmp_path / f"left{done}")))

    build(model, table, tmp_path / "cache", root=root, batch=2, progress=keep)
    for done, folder in left:
        counted = Counted(model)
        kept = int(FeatureCache(folder, model.card, root=root).has(table).sum())
        assert done - commit - 2 < kept <= done
        found = build(counted, table, folder, root=root)
        assert counted.crops == 12 - kept
        assert_right(found, model, table)
        assert len(found.features) == 12


@pytest.mark.parametrize("cut", [0, 1, 127, 128, 128 + 34 * 4 * 5 + 7, 128 + 34 * 4 * 12 - 1])
def test_a_cut_file_costs_what_was_cut_off_and_no_more(model, root, tmp_path, cut):
    table = table_of(root)
    os.truncate(build(model, table, tmp_path / "cache", root=root).folder / "rows.npy", cut)
    counted = Counted(model)
    assert_right(build(counted, table, tmp_path / "cache", root=root), model, table)
    assert counted.crops == 12 - max(cut - 128, 0) // (34 * 4)


def test_rows_that_are_lost_are_never_taken_for_those_that_come_next(model, root, tmp_path):
    table = table_of(root)
    os.truncate(
        build(model, table, tmp_path / "cache", root=root).folder / "rows.npy", 128 + 34 * 4 * 5
    )
    killed = tmp_path / "killed"
    others = table.iloc[::-1]

    def keep(done: int, _: int) -> None:
        if done == 4:
            shutil.copytree(tmp_path / "cache", killed)

    build(model, others, tmp_path / "cache", root=root, batch=2, progress=keep)
    left = FeatureCache(killed, model.card, root=root)
    assert_right(left, model, table[left.has(table)])
    assert_right(build(model, table, killed, root=root), model, table)


@pytest.mark.parametrize("name", ["rows.npy", "index.parquet"])
def test_a_lost_file_is_made_again(model, root, tmp_path, name):
    table = table_of(root)
    (build(model, table, tmp_path / "cache", root=root).folder / name).unlink()
    assert_right(build(model, table, tmp_path / "cache", root=root), model, table)


def test_a_tail_without_an_index_is_dropped(model, root, tmp_path):
    table = table_of(root)
    found = build(model, table.iloc[:5], tmp_path / "cache", root=root)
    with (found.folder / "rows.npy").open("ab") as file:
        file.write(b"\xff" * 1000)
    assert FeatureCache(tmp_path / "cache", model.card, root=root).features.shape == (5, 24)
    assert_right(build(model, table, tmp_path / "cache", root=root), model, table)
    assert (found.folder / "rows.npy").stat().st_size == 128 + 12 * 34 * 4


def test_an_error_on_the_way_loses_nothing(model, root, tmp_path):
    def stop(done: int, _: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(model, table_of(root), tmp_path / "cache", root=root, batch=4, progress=stop)
    counted = Counted(model)
    assert_right(
        build(counted, table_of(root), tmp_path / "cache", root=root), model, table_of(root)
    )
    assert counted.crops == 4


def test_a_damaged_index_is_one_clear_line(model, root, tmp_path):
    place = build(model, table_of(root), tmp_path / "cache", root=root).folder
    (place / "index.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(
        DataError, match=r"index\.parquet: damaged .*delete .* and build again"
    ) as caught:
        FeatureCache(tmp_path / "cache", model.card, root=root)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_clear_line_and_keeps_what_was_done(model, folders, root, tmp_path):
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))

    noisy = np.random.default_rng(0).integers(0, 256, (150, 8, 8, 3), np.uint8)
    np.save(tmp_path / "noisy.npy", noisy)
    code = (
        "import sys, numpy as np, pandas as pd\nfrom pathlib import Path\n"
        "from mien.bundles.store import load\nfrom mien.train.inputs.feature_cache import build\n"
        "assert 'torch' not in sys.modules\n"
        "table = pd.DataFrame({'image': list(np.load(sys.argv[2]))})\n"
        "build(load(Path(sys.argv[1]), 'onnxruntime'), table, Path(sys.argv[3]), root=Path('.'), batch=10)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(folders["with"]),
        str(tmp_path / "noisy.npy"),
        str(tmp_path / "cache"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=small_files
    )
    assert "OutputError" in done.stderr.splitlines()[-1]
    assert "rows.npy: cannot be written (File too large)" in done.stderr
    table = pd.DataFrame({"image": list(noisy)})
    kept = FeatureCache(tmp_path / "cache", model.card, root=root)
    assert kept.has(table).sum() == (16_000 - 128) // (34 * 4) // 10 * 10
    counted = Counted(model)
    build(counted, table, tmp_path / "cache", root=root)
    assert counted.crops == 150 - len(kept.features)


def test_two_builds_in_one_place_do_not_mix(model, root, tmp_path):
    def again(*_: int) -> None:
        build(model, table_of(root), tmp_path / "cache", root=root)

    with pytest.raises(OutputError, match="wait for the other build"):
        build(model, table_of(root), tmp_path / "cache", root=root, progress=again)
    assert_right(build(model, table_of(root), tmp_path / "cache", root=root), model, table_of(root))


def test_a_folder_that_cannot_be_written_is_one_clear_line(model, root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        build(model, table_of(root), tmp_path / "file", root=root)
    (cache_folder(model.card, tmp_path / "cache") / "lock").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written"):
        build(model, table_of(root), tmp_path / "cache", root=root)


# what lies on the disk


def test_arrays_are_mapped_and_plain_numpy_reads_them(model, root, tmp_path):
    found = build(model, table_of(root), tmp_path / "cache", root=root)
    for array in (found.features_and_raw, found.features, *found.raw.values()):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    plain = np.load(found.folder / "rows.npy", allow_pickle=False)
    np.testing.assert_array_equal(plain, found.features_and_raw)


def test_a_large_cache_is_opened_without_being_read(model, root, tmp_path):
    found = build(model, table_of(root), tmp_path / "cache", root=root)
    count = 1_000_000  # rows of 34 numbers, 136 MB that no disk holds: the file is a hole
    index, _ = cache_module._read_index(found.folder, model.card)
    big = index.take(np.zeros(count, np.int64))
    cache_module.pq.write_table(big, found.folder / "index.parquet")
    os.truncate(found.folder / "rows.npy", 128 + count * 34 * 4)
    del found, big
    before = mapped()
    opened = FeatureCache(tmp_path / "cache", model.card, root=root)
    assert opened.features.shape == (count, 24)
    assert opened.features[count - 1].sum() == 0
    assert mapped() - before < 20_000


def mapped() -> int:
    """Kilobytes of mapped files that are in memory."""
    return int(
        next(
            line
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("RssFile")
        ).split()[1]
    )


def test_no_pixels_are_kept(model, root, tmp_path):
    table = pd.DataFrame({"image": [png(0), noise(2, 40)[1], str(root / "v0" / "00002.png")]})
    place = build(model, table, tmp_path / "cache", root=root).folder
    assert sorted(path.name for path in place.iterdir()) == [
        "about.json",
        "index.parquet",
        "lock",
        "rows.npy",
    ]
    kept = b"".join(path.read_bytes() for path in place.iterdir())
    crops = [crop.tobytes() for crop in model.prepare(noise(3, 40))]
    for content in (png(0), noise(2, 40)[1].tobytes(), png(2), *crops):
        assert all(content[i : i + 48] not in kept for i in range(0, len(content) - 48, 16))
    assert (place / "rows.npy").stat().st_size == 128 + 3 * 34 * 4
    assert (place / "lock").stat().st_size == 0
    assert json.loads((place / "about.json").read_bytes())["sha256"] == model.card.sha256
