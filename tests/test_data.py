"""Adapters end in one label table; the codes and orders of a source end in its adapter."""

import cv2
import numpy as np
import pandas as pd
import pytest

from mien.data.blendshapes import AU_BLENDSHAPES, AU_SHAPES, SHAPES, activations
from mien.data.sets.ferplus import EXPR, VA_OF_EXPRESSION, load_ferplus, va_of
from mien.data.sets.portraits import load_portraits
from mien.errors import DataError
from mien.tasks import TASKS

LABELS = [*EXPR.columns, *TASKS["va"].columns, *AU_BLENDSHAPES.columns]


def write_ferplus(folder, votes, split="train"):
    image = cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes()
    shapes = [np.zeros(52), None][: len(votes)] + [None] * max(len(votes) - 2, 0)
    pd.DataFrame({
        "name": [f"{i}.png" for i in range(len(votes))], "image": image, "votes": votes, "blendshapes": shapes,
        "points": [np.zeros(10)] + [None] * (len(votes) - 1),
    }).to_parquet(folder / f"ferplus-{split}.parquet")  # fmt: skip


def test_votes_become_shares_and_noise_is_dropped(tmp_path):
    write_ferplus(tmp_path, [
        [4, 0, 0, 1, 3, 2, 0, 0, 0, 0],  # the single vote for sadness is noise
        [0, 10, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0, 9, 0],  # unknown
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 10],  # not a face
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],  # nothing but noise
    ])  # fmt: skip
    table = load_ferplus(tmp_path, "train")
    assert len(table) == 2
    shares = table[list(EXPR.columns)].to_numpy()
    np.testing.assert_allclose(shares[0], [4 / 9, 0, 0, 0, 3 / 9, 2 / 9, 0, 0])
    np.testing.assert_allclose(
        table.loc[1, ["valence", "arousal"]].astype(float), VA_OF_EXPRESSION["happiness"]
    )
    assert table.loc[0, list(AU_BLENDSHAPES.columns)].notna().all()
    assert table.loc[1, list(AU_BLENDSHAPES.columns)].isna().all()


def test_derived_valence_and_arousal_stay_in_range_and_contempt_alone_is_unknown():
    rng = np.random.default_rng(0)
    va = va_of(rng.dirichlet(np.ones(8), 200))
    assert np.abs(va).max() <= 1
    only_contempt = np.eye(8)[[EXPR.names.index("contempt")]]
    assert np.isnan(va_of(only_contempt)).all()


def test_portraits_keep_subjects_apart_and_map_spellings(tmp_path):
    pd.DataFrame({
        "subject": ["a", "b", "c"], "split": ["train", "train", "val"], "image": [b"", b"", b""],
        "label": ["sad", "nonsense", "anger"], "points": [None] * 3, "blendshapes": [np.full(52, 255), None, None],
    }).to_parquet(tmp_path / "portraits.parquet")  # fmt: skip
    train = load_portraits(tmp_path, "train")
    assert train["subject"].tolist() == ["a", "b"]
    assert train.loc[0, "expr_sadness"] == 1
    assert train.loc[1, list(EXPR.columns)].isna().all()
    assert train.loc[0, list(AU_BLENDSHAPES.columns)].eq(1).all()


def official(folder, *, pixels=None, usage=None):
    """FER2013's file and FER+'s, three pictures long."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 48, 48))
    uses = ["Training", "PublicTest", "PrivateTest"]
    lines = [" ".join(map(str, picture.ravel())) for picture in pictures]
    pd.DataFrame({"emotion": 0, "pixels": pixels or lines, "Usage": uses}).to_csv(
        folder / "fer2013.csv", index=False
    )
    names = [
        "neutral",
        "happiness",
        "surprise",
        "sadness",
        "anger",
        "disgust",
        "fear",
        "contempt",
        "unknown",
        "NF",
    ]
    votes = [[0, 6, 1, 0, 0, 0, 0, 3, 0, 0], [0, 0, 0, 0, 0, 0, 8, 0, 2, 0], [10, *[0] * 9]]
    given = pd.DataFrame(votes, columns=names).assign(
        Usage=usage or uses, **{"Image name": [f"fer{i:07d}.png" for i in range(3)]}
    )
    given[["Usage", "Image name", *names]].to_csv(folder / "fer2013new.csv", index=False)
    return pictures


def test_ferplus_as_its_authors_give_it(tmp_path):
    pictures = official(tmp_path)
    for split, row, shares in (
        ("train", 0, {"happiness": 2 / 3, "contempt": 1 / 3}),
        ("valid", 1, {"fear": 1.0}),
    ):
        table = load_ferplus(tmp_path, split)
        assert len(table) == 1
        assert (
            cv2.imdecode(np.frombuffer(table["image"].iloc[0], np.uint8), cv2.IMREAD_GRAYSCALE)
            == pictures[row]
        ).all()
        found = table[list(EXPR.columns)].iloc[0].to_dict()
        assert {
            name.removeprefix("expr_"): value for name, value in found.items() if value
        } == pytest.approx(shares)
        assert table["points"].isna().all()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"usage": ["PublicTest", "Training", "PrivateTest"]}, "in another order"),
        ({"pixels": ["1 2 3"] * 3}, "row 0: not 2304 grey values"),
        ({"pixels": [" ".join(["300"] * 2304)] * 3}, "row 0: not 2304 grey values"),
    ],
)
def test_ferplus_files_that_do_not_belong_together(tmp_path, how, words):
    official(tmp_path, **how)
    with pytest.raises(DataError, match=words):
        load_ferplus(tmp_path, "train")
    (tmp_path / "fer2013.csv").unlink()
    with pytest.raises(
        DataError, match=r"put FER2013's fer2013.csv and FER\+'s fer2013new.csv into one folder"
    ):
        load_ferplus(tmp_path, "train")


@pytest.mark.parametrize(
    "load",
    [lambda folder: load_ferplus(folder, "train"), lambda folder: load_portraits(folder, "train")],
)
def test_a_missing_or_foreign_file_is_named(load, tmp_path):
    with pytest.raises(DataError, match=r"no such file"):
        load(tmp_path)
    for name in ("ferplus-train.parquet", "portraits.parquet"):
        pd.DataFrame({"else": [1]}).to_parquet(tmp_path / name)
    with pytest.raises(DataError, match="expected a Parquet file with the columns"):
        load(tmp_path)


@pytest.mark.parametrize("au", AU_SHAPES)
def test_each_action_unit_follows_its_shapes_and_no_other(au):
    mine = {name for group in AU_SHAPES[au] for name in group}
    column = AU_BLENDSHAPES.names.index(au)
    shapes = np.zeros((2, 52), np.uint8)
    shapes[0, [SHAPES.index(name) for name in mine]] = 255
    shapes[1, [i for i, name in enumerate(SHAPES) if name not in mine]] = 255
    np.testing.assert_allclose(activations(shapes)[:, column], [1, 0])


def test_calm_faces_have_no_activation(shared):
    table = load_portraits(shared / "data", "train")
    calm = table[table[EXPR.columns[EXPR.names.index("neutral")]] == 1]
    assert (calm[list(AU_BLENDSHAPES.columns)].median() <= 0.1 + 1e-6).all()


def test_real_tables_hold_their_promises(shared):
    for table in (load_ferplus(shared / "data", "valid"), load_portraits(shared / "data", "val")):
        assert len(table) > 1000
        labels = table[LABELS]
        assert not ((labels < -1) | (labels > 1)).any(axis=None)
        shares = table[list(EXPR.columns)].dropna()
        np.testing.assert_allclose(shares.sum(axis=1), 1)
    train, val = (
        set(load_portraits(shared / "data", split)["subject"]) for split in ("train", "val")
    )
    assert not train & val


def test_kept_action_units_vary_in_the_teacher(shared):
    for table in (load_ferplus(shared / "data", "train"), load_portraits(shared / "data", "train")):
        assert (table[list(AU_BLENDSHAPES.columns)].std() >= 0.05).all()
