"""The recipe of `mien-quality` in miniature: a table of damaged faces, and what is chosen from judged readings."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from mien.bundles.card_parts import Trust
from mien.bundles.store import AFFECT, FACES, load, load_detector
from mien.data.blendshapes import SHAPES
from mien.data.drawn.damage import KINDS
from mien.data.images import read_picture
from mien.demo import portrait
from mien.train.builtin import mien_quality
from mien.train.builtin.mien_quality import auc, doubtful_below, fit_trust, quality_of
from mien.train.builtin.quality_table import PIXELS, make_table
from mien.train.settings.training import read_settings, write_settings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of portraits: one face, a little lighter or darker for each of eight people."""
    folder = tmp_path_factory.mktemp("portraits")
    face = portrait()
    surest, *_ = load_detector(FACES).find(face)
    rows = []
    for number in range(8):
        image = np.clip(face.astype(int) + number, 0, 255).astype(np.uint8)
        encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        split = "train" if number < 5 else "val"
        points = surest.points.ravel()
        shapes = np.zeros(52, np.uint8)
        # Both eyes look to the right of the picture, and one of them down.
        shapes[[SHAPES.index(name) for name in ("eyeLookOutLeft", "eyeLookInRight")]] = 102
        shapes[SHAPES.index("eyeLookDownLeft")] = 51 * (number % 2)
        row = {"image": encoded, "points": points, "subject": f"s{number}", "split": split}
        rows.append(row | {"blendshapes": shapes})
    pd.DataFrame(rows).to_parquet(folder / "portraits.parquet")
    return folder


@pytest.fixture(scope="module")
def tables(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    made = {}
    for split in ("train", "val"):
        made[split] = make_table(
            data,
            split,
            folder / f"{split}.parquet",
            # Damage changes its readings often enough that eight faces give both kinds.
            bundle="mien-s@1",
            detector=FACES,
            teacher=None,
            workers=1,
        )
    return folder, made


def test_the_table_says_what_was_done_and_how_it_was_read(tables):
    table = tables[1]["train"]
    # As it is, by one kind three times, and by two kinds.
    assert len(table) == 5 * 5
    clean = table[table["kind"] == ""]
    assert len(clean) == 5
    assert (clean["quality"] == 1).all()
    assert (clean["valence_error"] == 0).all()
    occlusion = [column for column in table if column.startswith("occlusion_")]
    assert len(occlusion) == 5
    assert (clean[occlusion] == 0).all(axis=None)
    assert set("+".join(table["kind"]).split("+")) - {""} <= set(KINDS)
    sound = (table["expression"] == table["expression_clean"]) & (table["valence_error"] <= 0.3)
    assert (sound == (table["quality"] == 1)).all()
    # Without a teacher nobody knows how heads are turned.
    assert table[["pose_yaw", "pose_pitch", "pose_roll"]].isna().all(axis=None)
    # Half of the faces are mirrored.
    assert set(table["gaze_x"].round(6)) == {-0.4, 0.4}
    assert set(table["gaze_y"].round(6)) == {-0.1, 0.0}
    for image in table["image"]:
        assert read_picture(image).shape == (PIXELS.size, PIXELS.size, 3)


def test_a_table_is_made_once(data, tables):
    folder, made = tables
    path = folder / "train.parquet"
    before = path.stat().st_mtime_ns
    again = make_table(data, "train", path, bundle=AFFECT, detector=FACES, teacher=None)
    assert path.stat().st_mtime_ns == before
    assert again.drop(columns="image").equals(made["train"].drop(columns="image"))


def test_the_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    quality = rng.random(60)
    sound = (quality + rng.normal(0, 0.3, 60) > 0.5).astype(float)
    good, bad = quality[sound == 1], quality[sound == 0]
    pairs = (good[:, None] > bad).mean()
    assert auc(quality, sound) == pytest.approx(pairs)
    assert np.isnan(auc(quality, np.ones(60)))


def test_the_threshold_spares_undamaged_faces():
    quality = np.random.default_rng(1).random(2000)
    threshold = doubtful_below(quality)
    assert (quality < threshold).mean() <= 0.05 < (quality < threshold + 0.02).mean()


def test_judgement_and_probability_together_are_weighed_as_they_were_made():
    rng = np.random.default_rng(2)
    judged, probability = rng.uniform(0.05, 0.95, (2, 40_000))
    made = Trust(offset=-0.5, network=0.7, probability=1.2)
    sound = rng.random(40_000) < made.quality(judged, probability)
    trust = fit_trust(judged, probability, sound)
    assert trust.offset == pytest.approx(made.offset, abs=0.06)
    assert trust.network == pytest.approx(made.network, abs=0.06)
    assert trust.probability == pytest.approx(made.probability, abs=0.06)
    # Of odds, by hand.
    odds = np.exp(-0.5) * (0.8 / 0.2) ** 0.7 * (0.6 / 0.4) ** 1.2
    assert made.quality([0.8], [0.6]) == pytest.approx([odds / (1 + odds)])
    assert ((made.quality([0, 1, 1], [0, 0, 1]) >= 0) & np.isfinite(made.quality([1], [1]))).all()


def test_from_tables_to_a_bundle_with_a_threshold(data, tables, tmp_path, monkeypatch):
    folder, made = tables
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    usual = mien_quality.settings

    def short(table, bundle, *, pose):
        settings = usual(table, bundle, pose=pose)
        fit = settings.fit.model_copy(update={"epochs": 1, "batch": 8, "workers": 0})
        pixels = settings.pixels.model_copy(update={"size": 48})
        network = settings.network.model_copy(update={"start": None})
        return settings.model_copy(update={"fit": fit, "pixels": pixels, "network": network})

    monkeypatch.setattr(mien_quality, "settings", short)
    bundle = mien_quality.make(data, tmp_path, mien_quality.PrintedProgress())
    model = load(bundle)
    assert [task.family for task in model.tasks] == ["quality", "occlusion", "gaze"]
    assert 0 < model.card.doubtful_below < 1
    assert model.card.trust is not None
    quality = quality_of(model, made["val"])
    assert quality.shape == (len(made["val"]),)
    assert ((quality > 0) & (quality < 1)).all()


@pytest.mark.parametrize("pose", [True, False])
def test_the_settings_of_the_whole_run_read_back(tmp_path, pose):
    path = tmp_path / "settings.yaml"
    settings = mien_quality.settings(tmp_path / "table.parquet", "mien-s", pose=pose)
    path.write_text(write_settings(settings))
    assert read_settings(path) == settings
