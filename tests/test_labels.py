"""Label tables from folders and files: what is read, what is refused and how it is said, how labels are counted, split and moved."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.images import read_picture
from mien.data.label_checks import check
from mien.data.label_table import (
    COLUMNS,
    class_weights,
    in_split,
    labels,
    positive_weights,
    remap_labels,
    split_by,
    split_names,
    table_of,
)
from mien.data.registry import Set, load_set
from mien.data.sets.class_folders import load_folder
from mien.data.sets.ferplus import EXPR
from mien.data.sets.label_file import Codes, load_file
from mien.errors import DataError, LabelMismatchError, UnknownNameError
from mien.tasks import TASKS, Task

VA, AU, ABAW8, ABAW7, LSD6 = (
    TASKS[key] for key in ("va", "au.abaw12", "expr.abaw8", "expr.abaw7", "expr.lsd6")
)
NAN = float("nan")
SPEC = TypeAdapter(Set)


def png(shape=(4, 6, 3), value=9):
    out = io.BytesIO()
    Image.fromarray(np.full(shape, value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def one_hot(classes, task):
    shares = np.full((len(classes), len(task.names)), np.nan)
    for row, name in enumerate(classes):
        if name is not None:
            shares[row] = np.eye(len(task.names))[task.names.index(name)]
    return shares


@pytest.fixture
def table():
    """Six faces for each of LSD's classes: four to learn from, one to choose by, one to test on."""
    names = np.repeat(LSD6.names, 6)
    images = [bytes([i]) for i in range(len(names))]
    va = np.tile([[0.5, -0.25]], (len(names), 1))
    made = table_of(
        images,
        {"subject": [f"s{i}" for i in range(len(names))]},
        {LSD6: one_hot(names, LSD6), VA: va},
    )
    made["split"] = ["train", "train", "train", "train", "val", "test"] * 6
    return made


# --- check ---------------------------------------------------------------------------------------------------------


def test_a_sound_table_passes_without_notes(table):
    assert check(table, [LSD6, VA], "here") == []
    assert list(table.columns[:6]) == list(COLUMNS)
    assert labels(table, VA).dtype == np.float32


def put(column, row, value):
    def spoil(table):
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return spoil


def points(value):
    def spoil(table):
        table["points"] = [value] + [None] * (len(table) - 1)
        return table

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.drop(columns="valence"), "here: no column valence; the columns are image, "),
        (lambda t: t.drop(columns=["image", "split"]), "no column image, split"),
        (lambda t: t[:0], "no rows"),
        (
            put("valence", 3, -5.0),
            r"column valence is -5 in row 3 \(1 bytes\), outside -1 to 1; 1 labels are",
        ),
        (put("arousal", 7, float("inf")), "column arousal is inf in row 7"),
        (put("valence", 2, "high"), "column valence of the label table holds more than numbers"),
        (
            put("expr_fear", 0, 0.5),
            r"shares of expr.lsd6 sum to 1.5, not 1, in row 0 \(1 bytes\) and 0 more rows",
        ),
        (put("expr_fear", 0, NAN), "shares of expr.lsd6 sum to nan"),
        (put("expr_fear", 1, -1.0), "column expr_fear is -1 in row 1"),
        (
            put("split", 4, "valid"),
            "rows like row 4 .* the split 'valid'; splits are train, val, test",
        ),
        (put("split", 4, None), "row 4 .* have no split"),
        (
            put("subject", 5, "s0"),
            "subject 's0' lies in test and train; keep each subject in one split",
        ),
        (
            lambda t: t.assign(video=["v"] * 18 + ["w"] * 18),
            r"video 'v' lies in test and train and val \(1 more do\)",
        ),
        (put("image", 2, 3.5), "the image of row 2 is 3.5; give a path"),
        (
            put("image", 2, "/nowhere/a.png"),
            "1 of 1 pictures are not there, the first is /nowhere/a.png",
        ),
        (points([1.0] * 9), r"the points of row 0 \(1 bytes\) are not ten numbers"),
        (points([1.0] * 9 + [NAN]), "are not ten numbers"),
        (points("0123456789"), "are not ten numbers"),
        (points(list("0123456789")), "are not ten numbers"),
    ],
)
def test_each_defect_is_named(table, spoil, said):
    with pytest.raises(DataError, match=said) as error:
        check(spoil(table), [LSD6, VA], "here")
    assert str(error.value).startswith("here: ")
    assert "\n" not in str(error.value)


def test_a_class_nobody_shows_is_refused_for_learning_and_noted_elsewhere(table):
    fear = table["expr_fear"] == 1
    assert check(table[~(fear & (table["split"] == "val"))], [LSD6], "here") == [
        "expr.lsd6: no face in split val shows fear"
    ]
    with pytest.raises(DataError, match=r"expr\.lsd6: no face in split train shows fear"):
        check(table[~(fear & (table["split"] == "train"))], [LSD6], "here")
    assert check(table[table["split"] == "test"], [LSD6], "here") == []


def test_action_units_need_a_positive_and_unlabelled_ones_are_noted(table):
    units = np.full((len(table), 12), np.nan)
    units[:, 0], units[:, 1] = 1, 0
    given = table.assign(**dict(zip(AU.columns, units.T, strict=True)))
    with pytest.raises(DataError, match=r"au\.abaw12: no face in split train shows AU02"):
        check(given, [AU], "here")
    given["AU02"] = 0.5
    notes = check(given, [AU], "here")
    assert notes == [
        f"au.abaw12: no label of {', '.join(AU.names[2:])} in split {split}"
        for split in ("train", "val", "test")
    ]
    assert (
        check(given.assign(valence=np.nan, arousal=np.nan), [VA], "here")[0]
        == "va: no label in split train"
    )


def test_rounded_and_soft_shares_pass(table):
    shares = np.full((len(table), 6), 0.167)
    assert (
        check(table.assign(**dict(zip(LSD6.columns, shares.T, strict=True))), [LSD6], "here") == []
    )


@pytest.mark.parametrize("as_array", [False, True])
def test_repeated_pictures_are_counted_also_across_splits(table, as_array):
    images = (
        [np.full((2, 2, 3), i, np.uint8) for i in range(len(table))]
        if as_array
        else list(table["image"])
    )
    images[1] = images[0]  # both train
    images[4] = images[0]  # val
    assert check(table.assign(image=pd.Series(images, dtype=object)), [LSD6], "here") == [
        "2 rows repeat a picture of another row; pictures in two splits: 1"
    ]


def test_paths_are_looked_up(table, tmp_path, monkeypatch):
    for i in range(len(table)):
        (tmp_path / f"{i}.png").touch()
    assert (
        check(
            table.assign(image=[str(tmp_path / f"{i}.png") for i in range(len(table))]),
            [LSD6],
            "here",
        )
        == []
    )
    monkeypatch.chdir(tmp_path)
    assert check(table.assign(image=[f"{i}.png" for i in range(len(table))]), [LSD6], "here") == []
    (tmp_path / "7.png").unlink()
    (tmp_path / "9.png").unlink()
    with pytest.raises(DataError, match=r"2 of 36 pictures are not there, the first is 7\.png"):
        check(table.assign(image=[f"{i}.png" for i in range(len(table))]), [LSD6], "here")


# --- splits --------------------------------------------------------------------------------------------------------


def people(sizes):
    subject = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    return table_of([b""] * len(subject), {"subject": subject}, {})


@pytest.mark.parametrize("seed", range(20))
def test_whole_subjects_fill_splits_by_their_shares(seed):
    table = people(np.random.default_rng(seed).integers(1, 9, 200))
    split = split_by(table, "subject", {"train": 0.7, "val": 0.2, "test": 0.1}, seed)
    assert (split.groupby("subject")["split"].nunique() == 1).all()
    found = split["split"].value_counts(normalize=True)
    for name, share in {"train": 0.7, "val": 0.2, "test": 0.1}.items():
        assert abs(found[name] - share) <= 8 / len(table)  # at most one subject at either end
    shuffled = table.sample(frac=1, random_state=seed)
    again = split_by(shuffled, "subject", {"train": 0.7, "val": 0.2, "test": 0.1}, seed)
    pd.testing.assert_series_equal(split["split"], again["split"].sort_index())
    assert not split["split"].equals(
        split_by(table, "subject", {"train": 0.7, "val": 0.2, "test": 0.1}, seed + 1)["split"]
    )


@pytest.mark.parametrize("seed", range(50))
def test_no_split_is_empty_even_with_one_giant(seed):
    split = split_by(
        people([1000, 1, 1]), "subject", {"train": 0.98, "val": 0.01, "test": 0.01}, seed
    )
    assert (split.groupby("subject")["split"].nunique() == 1).all()
    assert set(split["split"]) == {"train", "val", "test"}


def test_rows_without_a_subject_stand_alone():
    table = people([50, 50])
    table.loc[10:, "subject"] = None
    split = split_by(table, "subject", {"train": 0.5, "val": 0.5}, 0)["split"]
    assert split[:10].nunique() == 1
    assert abs((split == "train").sum() - 50) <= 5
    single = split_by(people([100]), None, {"train": 0.9, "val": 0.1}, 0)["split"]
    assert single.value_counts().to_dict() == {"train": 90, "val": 10}


@pytest.mark.parametrize(
    ("by", "shares", "said"),
    [
        ("subject", {"train": 0.5, "val": 0.4}, "must sum to 1|all must sum"),
        ("subject", {"train": 1.2, "val": -0.2}, "above 0"),
        ("subject", {"train": NAN, "val": 0.5}, "above 0"),
        ("subject", {}, "shares are {}"),
        ("subject", {"train": 0.5, "valid": 0.5}, "no split named 'valid'; did you mean val"),
        ("video", {"train": 0.5, "val": 0.5}, "no row has a video"),
        ("person", {"train": 0.5, "val": 0.5}, "no way to split named 'person'"),
        ("subject", {"train": 0.5, "val": 0.3, "test": 0.2}, "2 subjects cannot fill 3 splits"),
    ],
)
def test_splits_that_cannot_be_are_refused(by, shares, said):
    with pytest.raises(DataError, match=said):
        split_by(people([5, 5]), by, shares, 0)


def test_split_names_are_ours():
    assert split_names(pd.Series(["Train", "valid", "val", "test", None]), "x").tolist() == [
        "train",
        "val",
        "val",
        "test",
        None,
    ]
    with pytest.raises(DataError, match=r"x: no split is named dev \(2 rows\)"):
        split_names(pd.Series(["dev", "train", "dev"]), "x")


def test_one_split_is_taken_or_given(table):
    assert in_split(table, None, "x") is table
    assert set(in_split(table, "val", "x")["split"]) == {"val"}
    assert set(in_split(table.assign(split=None), "val", "x")["split"]) == {"val"}
    with pytest.raises(
        DataError, match=r"x: no row is in split test; there are train \(24 rows\), val \(6 rows\)"
    ):
        in_split(table[table["split"] != "test"], "test", "x")
    with pytest.raises(DataError, match="no split named 'valid'"):
        in_split(table, "valid", "x")


# --- weights: counts and weights that the papers' systems print -----------------------------------------------------

COUNTS = [
    (
        "max",
        [23976, 4555, 3168, 3122, 18135, 7609, 5228, 24852],
        [1.0365, 5.4560, 7.8447, 7.9603, 1.3704, 3.2661, 4.7536, 1.0],
    ),
    (
        "max",
        [24882, 3750, 3803, 6378, 134415, 74874, 25459, 14090],
        [5.402, 35.844, 35.344, 21.075, 1.0, 1.795, 5.280, 9.540],
    ),
    (
        "mean",
        [18286, 15150, 10923, 73285, 144631, 14976],
        [2.527, 3.050, 4.230, 0.6305, 0.3195, 3.086],
    ),
]


@pytest.mark.parametrize(("rule", "counts", "weights"), COUNTS)
def test_class_weights_of_the_papers(rule, counts, weights):
    shares = np.eye(len(counts), dtype=np.float32)[np.repeat(np.arange(len(counts)), counts)]
    shares = np.concatenate([shares, np.full((100, len(counts)), np.nan, np.float32)])
    np.testing.assert_allclose(class_weights(shares, rule), weights, atol=6e-4)


def test_balancing_lsd_to_its_largest_class_gives_the_published_total():
    counts = np.array(COUNTS[2][1])
    weights = class_weights(np.eye(6)[np.repeat(np.arange(6), counts)], "max")
    assert round((weights * counts).sum()) == 867_786


def test_soft_counts_are_sums_of_shares():
    shares = np.random.default_rng(0).dirichlet([1, 2, 5], 1000)
    by_hand = [sum(row[k] for row in shares) for k in range(3)]
    np.testing.assert_allclose(
        class_weights(shares, "max"), [max(by_hand) / count for count in by_hand]
    )
    np.testing.assert_allclose(
        class_weights(shares, "mean"), [1000 / 3 / count for count in by_hand]
    )


AU_POSITIVES = [18713, 8745, 20342, 30605, 41337, 38286, 26783, 2460, 2980, 5003, 70584, 10756]


def test_positive_weights_of_the_papers():
    n = 103_316
    target = (np.arange(n)[:, None] < AU_POSITIVES).astype(np.float32)
    absent, present = positive_weights(
        np.concatenate([target, np.full((500, 12), np.nan, np.float32)])
    )
    np.testing.assert_allclose(
        present,
        [2.761, 5.907, 2.539, 1.688, 1.250, 1.349, 1.929, 20.999, 17.335, 10.325, 0.732, 4.803],
        atol=6e-4,
    )
    # The other paper gives present / absent, as one weight.
    ratio = [4.521, 10.814, 4.079, 2.376, 1.499, 1.699, 2.858, 40.998, 33.670, 19.651, 0.464, 8.605]
    np.testing.assert_allclose(present / absent, ratio, atol=6e-4)


def test_rows_annotated_in_part_count_where_they_are():
    weights = positive_weights([[1, NAN], [0, NAN], [0, 1], [0, 0]])
    np.testing.assert_allclose(weights, [[4 / 6, 1], [2, 1]])


def test_a_class_or_unit_without_a_face_has_no_weight():
    with pytest.raises(DataError, match=r"class 1 of 3 \(from 0\) has no face"):
        class_weights([[1, 0, 0], [0, 0, 1]], "mean")
    with pytest.raises(DataError, match="class 0 of 2"):
        class_weights(np.full((3, 2), np.nan), "max")
    with pytest.raises(UnknownNameError, match="no rule of class weights named 'median'"):
        class_weights([[1, 1]], "median")
    with pytest.raises(DataError, match=r"column 1 of 2 \(from 0\) is never present in 2 labels"):
        positive_weights([[1, 0], [0, 0]])
    with pytest.raises(DataError, match=r"column 0 of 2 .* is never absent in 2 labels"):
        positive_weights([[1, 0], [1, 1]])
    with pytest.raises(DataError, match="never absent in 0 labels"):
        positive_weights(np.full((3, 1), np.nan))


# --- from one label set to another -----------------------------------------------------------------------------------


def expr(names, key="expr.theirs"):
    return Task(key, tuple(names.split()), "one_of")


@pytest.mark.parametrize(
    ("theirs", "target", "index"),
    [  # position = their class number, value = class number in the target, None where it has no such class
        ("neutral happiness sadness surprise fear disgust anger", ABAW7, [0, 4, 5, 6, 3, 2, 1]),
        ("anger disgust fear happiness sadness surprise neutral", ABAW7, [1, 2, 3, 4, 5, 6, 0]),
        (
            "anger contempt disgust fear happiness neutral sadness surprise",
            ABAW8,
            [1, None, 2, 3, 4, 0, 5, 6],
        ),
        (
            "anger contempt disgust fear happiness neutral sadness surprise",
            LSD6,
            [0, None, 1, 2, 3, None, 4, 5],
        ),
    ],
)
def test_label_sets_are_matched_by_name_as_the_papers_remap_them(theirs, target, index):
    source = expr(theirs)
    table = table_of([b""] * len(index), {}, {source: np.eye(len(index))})
    moved = labels(remap_labels(table, source, target), target)
    for row, to in zip(moved, index, strict=True):
        np.testing.assert_array_equal(
            row, np.full(len(target.names), NAN) if to is None else np.eye(len(target.names))[to]
        )


def test_shares_in_a_lacking_class_cost_the_row_and_nothing_is_renormalised():
    source = expr("neutral contempt anger")
    table = table_of(
        [b""] * 4,
        {},
        {
            source: np.array([[0.5, 0, 0.5], [0.5, 0.1, 0.4], [1, 0, 0], [NAN] * 3]),
            VA: np.full((4, 2), 0.1),
        },
    )
    moved = remap_labels(table, source, ABAW7)
    assert labels(moved, ABAW7)[0].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0]
    assert np.isnan(labels(moved, ABAW7)).all(axis=1).tolist() == [False, True, False, True]
    assert "expr_contempt" not in moved
    np.testing.assert_allclose(labels(moved, VA), 0.1)


def test_units_that_the_source_lacks_are_not_annotated():
    table = table_of([b""], {}, {AU_BLENDSHAPES: np.full((1, 16), 0.25)})
    moved = labels(remap_labels(table, AU_BLENDSHAPES, AU), AU)[0]
    for name, value in zip(AU.names, moved, strict=True):
        assert value == 0.25 if name in AU_BLENDSHAPES.names else np.isnan(value)


def test_what_cannot_be_reconciled_is_refused(table):
    for target in (VA, AU, TASKS["ce.abaw7"], expr("joy rage")):
        with pytest.raises(LabelMismatchError, match=f"expr.lsd6 cannot become {target.key}"):
            remap_labels(table, LSD6, target)
    with pytest.raises(LabelMismatchError, match="range"):
        remap_labels(table, VA, Task("va.afew", ("valence", "arousal"), "scalar", -10, 10))
    with pytest.raises(DataError, match=r"no column expr_neutral, which expr\.abaw7 needs"):
        remap_labels(table, ABAW7, LSD6)


# --- folders ---------------------------------------------------------------------------------------------------------


def fill(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(png())


def test_folders_of_classes_in_splits(tmp_path):
    fill(
        tmp_path,
        "train/Anger/a_1.png",
        "train/FEAR/b_1.JPG",
        "valid/anger/c_1.webp",
        "Test/fear/d_1.bmp",
        "Test/fear/.hidden",
    )
    table, task = load_folder(tmp_path, LSD6, subject=r"^(.)_")
    assert task is LSD6
    assert sorted(zip(table["split"], table["subject"], table["image"].map(lambda p: p[-9:]), strict=True)) == [
        ("test", "d", "r/d_1.bmp"), ("train", "a", "r/a_1.png"), ("train", "b", "R/b_1.JPG"), ("val", "c", "/c_1.webp"),
    ]  # fmt: skip
    np.testing.assert_array_equal(labels(table, LSD6).sum(axis=0), [2, 0, 2, 0, 0, 0])
    assert len(load_folder(tmp_path, LSD6, split="val")[0]) == 1
    assert list(table.columns) == [*COLUMNS, *LSD6.columns]


def test_a_task_is_made_from_folder_names(tmp_path):
    fill(tmp_path / "mine", "Sleepy/1.png", "awake/2.png", "awake/3.png")
    table, task = load_folder(tmp_path / "mine")
    assert task == Task("expr.mine", ("awake", "sleepy"), "one_of")
    assert table["split"].isna().all()
    assert table["expr_awake"].tolist() == [0, 1, 1]
    assert set(load_folder(tmp_path / "mine", split="test")[0]["split"]) == {"test"}


def test_a_folder_named_as_a_task_of_mien_has_its_labels(tmp_path):
    fill(tmp_path / "lsd6", *(f"{name}/1.png" for name in LSD6.names))
    assert load_folder(tmp_path / "lsd6")[1] == LSD6
    fill(tmp_path / "ferplus8", "sleepy/1.png", "awake/2.png")
    with pytest.raises(
        DataError,
        match=r"ferplus8: expr\.ferplus8 is a task of mien with labels of its own; name it in the settings",
    ):
        load_folder(tmp_path / "ferplus8")


@pytest.mark.parametrize(
    ("paths", "kwargs", "said"),
    [
        (
            ["ANGRER/1.png"],
            {"task": LSD6},
            "ANGRER: no class of expr.lsd6 named 'angrer'; did you mean anger",
        ),
        (["anger/1.png"], {}, "'anger' is its only class"),
        (["anger/1.png", "readme/notes.txt"], {}, "notes.txt: not a picture"),
        (["anger/deeper/1.png"], {}, "deeper: not a picture"),
        (["1.png"], {}, "1.png: a picture outside the class folders"),
        (["train/1.png", "train/anger/1.png"], {}, "outside the class folders"),
        (["train/anger/1.png", "fear/1.png"], {}, "fear lies beside the splits train"),
        (
            ["val/anger/1.png", "valid/anger/1.png"],
            {"task": LSD6},
            "val and valid are the same split",
        ),
        (["notes.txt"], {}, "holds no folders"),
        (["anger/1.png"], {"task": VA}, "a one_of task, which va is not"),
        (["anger/1.png"], {"task": LSD6, "subject": "("}, "no regular expression"),
        (["anger/1.png"], {"task": LSD6, "subject": "x"}, "has no group"),
        (
            ["anger/1.png", "anger/p2.png"],
            {"task": LSD6, "subject": "^p(.)"},
            r"1\.png: no subject in this name by .* \(1 such\)",
        ),
        (["train/anger/1.png"], {"task": LSD6, "split": "test"}, "no row is in split test"),
        (["train/anger/1.png"], {"task": LSD6, "split": "dev"}, "no split named 'dev'"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, paths, kwargs, said):
    fill(tmp_path, *paths)
    with pytest.raises(DataError, match=said) as error:
        load_folder(tmp_path, **kwargs)
    assert "\n" not in str(error.value)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        load_folder(tmp_path / "gone")
    with pytest.raises(DataError, match="holds no folders"):
        load_folder(tmp_path)
    fill(tmp_path, "fear/1.png")
    (tmp_path / "anger").mkdir()
    with pytest.raises(DataError, match="anger: this class folder is empty"):
        load_folder(tmp_path, LSD6)


# --- files -----------------------------------------------------------------------------------------------------------

THEIRS = pd.DataFrame({
    "name": ["a/1.jpg", "a/2.jpg", "/abs/3.jpg", "b/4.jpg"], "clip": ["007", "007", "8", ""], "no": [1, 2, 3, 4], "V": [-5, 0.5, -0.25, 1],
    "arousal": [-5, 0.125, NAN, -1], "emo": [0, 6, -1, 4], "AU1": [1, 0, -1, 1], "part": ["train", "Valid", "test", "train"],
    **{f"p{i}": [1.0 * i, 2 * i, 3 * i, NAN] for i in range(10)},
})  # fmt: skip
MAP = {
    "image": "name", "video": "clip", "frame": "no", "valence": "V", "AU01": "AU1", "split": "part", "points": [f"p{i}" for i in range(10)],
}  # fmt: skip
CODES = {"expr.abaw7": Codes(column="emo", values={0: "neutral", 6: "anger", "4": "fear"})}


def save(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_a_file_of_any_kind_gives_the_same_table(tmp_path, name):
    path = save(THEIRS, tmp_path / name)
    table = load_file(
        path, [ABAW7, VA, AU], MAP, CODES, images=tmp_path / "faces", missing=(-5, -1.0)
    )
    assert list(table.columns) == [*COLUMNS, *ABAW7.columns, *VA.columns, *AU.columns]
    assert table["image"].tolist() == [
        str(tmp_path / "faces/a/1.jpg"),
        str(tmp_path / "faces/a/2.jpg"),
        "/abs/3.jpg",
        str(tmp_path / "faces/b/4.jpg"),
    ]
    assert table["video"].tolist() == ["007", "007", "8", None]
    assert table["frame"].tolist() == [1, 2, 3, 4]
    assert table["split"].tolist() == ["train", "val", "test", "train"]
    np.testing.assert_array_equal(
        labels(table, ABAW7), one_hot(["neutral", "anger", None, "fear"], ABAW7)
    )
    # -1 is a missing code, so the last arousal goes with it: codes hold for all label columns.
    np.testing.assert_array_equal(
        labels(table, VA), [[NAN, NAN], [0.5, 0.125], [-0.25, NAN], [1, NAN]]
    )
    np.testing.assert_array_equal(table["AU01"], [1, 0, NAN, 1])
    assert table["AU02"].isna().all()
    np.testing.assert_array_equal(table["points"][1], 2.0 * np.arange(10))
    assert table["points"][3] is None


def test_parquet_may_hold_pictures_points_and_our_own_names(tmp_path):
    source = pd.DataFrame(
        {
            "image": [png(), png()],
            "subject": [1.0, NAN],
            "points": [np.arange(10.0), None],
            "valence": [0, 1],
            "arousal": [1, 0],
        }
    )
    table = load_file(save(source.set_index("subject", drop=False), tmp_path / "t.parquet"), [VA])
    assert read_picture(table["image"][0]).shape == (4, 6, 3)
    assert table["subject"].tolist() == ["1", None]
    assert len(table["points"][0]) == 10
    assert table["points"][1] is None
    assert table["split"].isna().all()


def test_codes_may_be_words_and_missing_words_too(tmp_path):
    path = save(
        pd.DataFrame({"image": list("abc"), "e": ["Happy", "none", ""]}), tmp_path / "t.csv"
    )
    codes = {"expr.lsd6": Codes(column="e", values={"Happy": "happiness"})}
    shares = labels(load_file(path, [LSD6], {}, codes, missing=("none",)), LSD6)
    np.testing.assert_array_equal(shares, one_hot(["happiness", None, None], LSD6))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_names_of_the_task_need_no_codes(tmp_path, name):
    cells = ["happiness", " Neutral ", "FEAR", "-5", "", "glad", "Other"]
    path = save(pd.DataFrame({"image": list("abcdefg"), "e": cells}), tmp_path / name)
    # A code's own entry comes before the name that it looks like.
    codes = {"expr.abaw8": Codes(column="e", values={"glad": "happiness", "Other": "disgust"})}
    classes = ["happiness", "neutral", "fear", None, None, "happiness", "disgust"]
    shares = labels(load_file(path, [ABAW8], {}, codes, missing=(-5,)), ABAW8)
    np.testing.assert_array_equal(shares, one_hot(classes, ABAW8))
    codes = {"expr.abaw8": Codes(column="e")}
    with pytest.raises(DataError, match=r"without a name: glad \(1 rows\); map .* of expr.abaw8"):
        load_file(path, [ABAW8], {}, codes, missing=(-5,))
    # A name of another label set is none of this one's.
    codes = {"expr.lsd6": Codes(column="e", values={"glad": "happiness"})}
    with pytest.raises(DataError, match=r"name: Neutral \(1 rows\), Other \(1 rows\); map"):
        load_file(path, [LSD6], {}, codes, missing=(-5,))


def test_spaces_after_commas_and_a_byte_order_mark_are_no_part_of_names(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfimage, valence , arousal\na.jpg, 0.5, 0.25\n")
    assert labels(load_file(tmp_path / "t.csv", [VA]), VA).tolist() == [[0.5, 0.25]]


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"columns": {**MAP, "valence": "valance"}}, "no column named 'valance'; did you mean"),
        ({"columns": {}}, "no column named 'image'"),
        (
            {"columns": {**MAP, "valense": "V"}},
            "no column of ours named 'valense'; did you mean valence",
        ),
        (
            {"columns": {**MAP, "valence": ["V", "arousal"]}},
            "valence has 2 names; give one name, or ten for points",
        ),
        ({"columns": {**MAP, "points": ["p1", "p2"]}}, "points has 2 names"),
        ({"columns": {**MAP, "valence": "name"}}, "conversion error|more than numbers"),
        (
            {"columns": {**MAP, "expr_fear": "V"}, "classes": {}},
            "has no column expr_neutral, .* of expr.abaw7",
        ),
        (
            {"classes": {"expr.abaw7": Codes(column="emotion", values={0: "neutral"})}},
            "no column named 'emotion'; did you mean emo",
        ),
        (
            {"classes": {"expr.abaw7": Codes(column="emo", values={0: "happy"})}},
            "no class of expr.abaw7 named 'happy'",
        ),
        (
            {"classes": {"expr.abaw7": Codes(column="emo", values={0: "neutral"})}},
            r"'?emo'? holds codes without a name: 6 \(1 rows\), 4 \(1 rows\)",
        ),
        (
            {"classes": {"expr.abaw8": Codes(column="emo", values={0: "neutral"})}},
            "no task named 'expr.abaw8'; did you mean expr.abaw7",
        ),
        ({"classes": {"va": Codes(column="emo", values={0: "valence"})}}, "va is not one_of"),
    ],
)
def test_a_map_that_does_not_fit_the_file(tmp_path, kwargs, said):
    given = {"columns": MAP, "classes": CODES, "missing": (-5, -1)} | kwargs
    with pytest.raises(DataError, match=said) as error:
        load_file(save(THEIRS, tmp_path / "t.csv"), [ABAW7, VA], **given)
    assert str(error.value).startswith(f"{tmp_path / 't.csv'}: ")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"", "the file is empty"),
        ("t.csv", b"image,valence,arousal\na.jpg,0.5,0.5,1,1\n", "Expected 3 columns, got 5"),
        ("t.csv", b"image,valence,arousal\na.jpg,high,0.5\n", "invalid value 'high'"),
        ("t.csv", b"image,valence,valence\na.jpg,0,0\n", "two columns are named 'valence'"),
        ("t.csv", b"image,valence,arousal\n\xff.jpg,0,0\n", "'utf-8' codec|invalid UTF8"),
        ("t.csv", b"\xff\xfei\x00", "cannot be read"),
        ("t.csv", b"image,age\na.jpg,3\n", "holds no label of va"),
        (
            "t.csv",
            b"image,valence,arousal,split\na.jpg,0,0,dev\n",
            r"no split is named dev \(1 rows\)",
        ),
        ("t.parquet", b"PAR1 not really", "cannot be read"),
        ("t.xlsx", b"", "ends in .csv, .tsv, .tab or .parquet"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        load_file(tmp_path / name, [VA])
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        load_file(tmp_path / "gone.csv", [VA])


# --- pictures --------------------------------------------------------------------------------------------------------


def test_pictures_come_upright_in_rgb_from_path_bytes_and_array(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    for cell in (str(tmp_path / "turned.png"), (tmp_path / "turned.png").read_bytes()):
        np.testing.assert_array_equal(read_picture(cell), np.rot90(pixels, -1))
    assert read_picture(pixels) is pixels


def test_grey_wide_and_see_through_pictures(tmp_path):
    Image.fromarray(np.full((3, 3), 7, np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((3, 3), 257 * 7, np.uint16)).save(tmp_path / "wide.png")
    Image.fromarray(np.full((3, 3, 4), (7, 7, 7, 255), np.uint8)).save(tmp_path / "alpha.png")
    for name in ("grey", "wide", "alpha"):
        np.testing.assert_array_equal(
            read_picture(str(tmp_path / f"{name}.png")), np.full((3, 3, 3), 7)
        )


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (b"no picture", "a picture of 10 bytes: not a picture"),
        (png((60, 60, 3))[:-40], r"a picture of \d+ bytes: this picture cannot be decoded"),
        ("/nowhere/a.png", "/nowhere/a.png: no such file"),
        (np.zeros((4, 4), np.uint8), r"expected RGB uint8 \(H, W, 3\), got uint8 \(4, 4\)"),
        (np.zeros((4, 4, 3)), "got float64"),
        (None, "got NoneType"),
    ],
)
def test_pictures_that_cannot_be_read(cell, said):
    with pytest.raises(DataError, match=said):
        read_picture(cell)


def test_a_file_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"a\.png: not a picture that can be read"):
        read_picture(str(tmp_path / "a.png"))


# --- sets ------------------------------------------------------------------------------------------------------------


def test_a_folder_as_a_set_is_split_by_its_settings(tmp_path):
    fill(
        tmp_path,
        *(
            f"{name}/{person}_{i}.png"
            for name in LSD6.names
            for person in "abcdefgh"
            for i in range(2)
        ),
    )
    cut = {"by": "subject", "shares": {"train": 0.75, "val": 0.25}, "seed": 1}
    spec = SPEC.validate_json(
        json.dumps({"set": "folder", "root": str(tmp_path), "subject": "^(.)_", "split": cut}),
        strict=True,
    )
    table = load_set(spec, [LSD6, VA])
    assert list(table.columns) == [*COLUMNS, *LSD6.columns, *VA.columns]
    assert table["valence"].isna().all()
    assert check(table, [LSD6, VA], "set") == [
        "va: no label in split train",
        "va: no label in split val",
    ]
    assert table.groupby("split")["subject"].nunique().to_dict() == {"train": 6, "val": 2}
    plain = {"set": "folder", "root": str(tmp_path)}
    assert set(load_set(SPEC.validate_python({**plain, "split": "test"}), [LSD6])["split"]) == {
        "test"
    }
    with pytest.raises(DataError, match="96 of 96 rows have no split; give `split`"):
        load_set(SPEC.validate_python(plain), [LSD6])
    with pytest.raises(DataError, match="asked for are none; name it by `task`"):
        load_set(SPEC.validate_python(plain), [VA])
    moved = load_set(
        SPEC.validate_python({**plain, "split": "train", "task": "expr.lsd6"}), [ABAW8]
    )
    np.testing.assert_array_equal(labels(moved, ABAW8).sum(axis=0), [0, 16, 16, 16, 16, 16, 16, 0])


def test_a_file_as_a_set_moves_its_codes_to_the_label_set_asked_for(tmp_path):
    path = save(THEIRS, tmp_path / "t.csv")
    given = {
        "set": "file", "path": str(path), "columns": MAP, "missing": [-5, -1],
        "classes": {"expr.affectnet8": {"column": "emo", "values": {0: "neutral", 6: "contempt", 4: "fear"}}},
    }  # fmt: skip
    table = load_set(SPEC.validate_python(given), [ABAW8, VA, AU])
    np.testing.assert_array_equal(
        labels(table, ABAW8), one_hot(["neutral", None, None, "fear"], ABAW8)
    )
    assert table["split"].tolist() == ["train", "val", "test", "train"]
    assert len(load_set(SPEC.validate_python({**given, "split": "train"}), [VA])) == 2
    cut = {"by": "video", "shares": {"train": 0.5, "val": 0.5}, "seed": 0}
    with pytest.raises(DataError, match="4 rows have a split already"):
        load_set(SPEC.validate_python({**given, "split": cut}), [VA])
    with pytest.raises(DataError, match=r"expr\.abaw8 and expr\.abaw7 share the column expr_anger"):
        load_set(SPEC.validate_python(given), [ABAW8, ABAW7])
    with pytest.raises(UnknownNameError, match=r"no task named 'expr\.affectnet9'"):
        load_set(
            SPEC.validate_python(
                {**given, "classes": {"expr.affectnet9": given["classes"]["expr.affectnet8"]}}
            ),
            [ABAW8],
        )


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"set": "imagenet"}, "set"),
        ({"folder": "x"}, "discriminator"),
        ({"set": "ferplus"}, "folder"),
        ({"set": "ferplus", "folder": "x", "take": 3}, "take"),
        ({"set": "folder", "root": 3}, "root"),
        ({"set": "folder", "root": "x", "split": "valid"}, "split"),
        (
            {
                "set": "folder",
                "root": "x",
                "split": {"by": "person", "shares": {"train": 1.0}, "seed": 0},
            },
            "by",
        ),
        (
            {
                "set": "folder",
                "root": "x",
                "split": {"by": None, "shares": {"train": -1.0}, "seed": 0},
            },
            "shares",
        ),
        ({"set": "file", "path": "x", "columns": {"points": ["a", "b"]}}, "points"),
        (
            {
                "set": "file",
                "path": "x",
                "classes": {"expr.abaw7": {"column": "e", "values": {0: 1}}},
            },
            "values",
        ),
        ({"set": "file", "path": "x", "missing": [None]}, "missing"),
        ({"set": "drawn", "count": 0, "seed": 0, "size": 64}, "count"),
        ({"set": "drawn", "count": "9", "seed": 0, "size": 64}, "count"),
    ],
)
def test_settings_are_strict(given, key):
    with pytest.raises(ValidationError, match=re.escape(key)):
        SPEC.validate_python(given)


def test_settings_are_frozen():
    spec = SPEC.validate_python({"set": "ferplus", "folder": "x"})
    with pytest.raises(ValidationError, match="frozen"):
        spec.folder = "y"


def test_drawn_faces_as_a_set():
    spec = SPEC.validate_python({"set": "drawn", "count": 100, "seed": 3, "size": 32})
    table = load_set(spec, [ABAW7, VA, TASKS["ce.abaw7"]])
    assert table["split"].value_counts().to_dict() == {"train": 80, "val": 20}
    assert table[list(TASKS["ce.abaw7"].columns)].isna().all(axis=None)
    assert "ce.abaw7: no label in split train" in check(
        table, [ABAW7, VA, TASKS["ce.abaw7"]], "drawn"
    )
    assert read_picture(table["image"][0]).shape == (32, 32, 3)
    assert set(load_set(spec.model_copy(update={"split": "test", "count": 3}), [VA])["split"]) == {
        "test"
    }


@pytest.mark.parametrize("name", ["ferplus", "portraits"])
def test_real_sets_hold_their_promises(shared, name):
    tasks = [EXPR, TASKS["va"], AU_BLENDSHAPES]
    table = load_set(SPEC.validate_python({"set": name, "folder": str(shared / "data")}), tasks)
    assert set(table["split"]) == {"train", "val"}
    train, val = (set(table["image"][table["split"] == split]) for split in ("train", "val"))
    repeats = len(table) - len(train | val)
    said = f"{repeats} rows repeat a picture of another row; pictures in two splits: {len(train & val)}"
    assert check(table, tasks, name) == ([said] if repeats else [])
    whole = labels(table, EXPR)
    moved = labels(
        load_set(SPEC.validate_python({"set": name, "folder": str(shared / "data")}), [ABAW7, AU]),
        ABAW7,
    )
    # By hand: a row keeps its labels where it has some and nobody saw contempt.
    np.testing.assert_array_equal(
        ~np.isnan(moved[:, 0]), whole[:, EXPR.names.index("contempt")] == 0
    )
    pixels = read_picture(table["image"].iloc[0])
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


def test_real_pictures_in_folders_and_in_a_file_agree(shared, tmp_path):
    """The same faces written out as class folders and as a CSV come back with the labels that their own adapter gives."""
    table = load_set(
        SPEC.validate_python({"set": "portraits", "folder": str(shared / "data")}), [EXPR]
    )
    table = (
        table[table["expr_anger"].eq(1) | table["expr_disgust"].eq(1)]
        .groupby("split")
        .head(20)
        .reset_index(drop=True)
    )
    names = np.array(EXPR.names)[labels(table, EXPR).argmax(axis=1)]
    rows = []
    for i, (image, split, name) in enumerate(
        zip(table["image"], table["split"], names, strict=True)
    ):
        path = tmp_path / split / name / f"{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
        rows.append(
            {
                "file": path.relative_to(tmp_path).as_posix(),
                "image": i,
                "emotion": name,
                "split": split,
            }
        )
    save(pd.DataFrame(rows), tmp_path / "labels.csv")
    folder = load_set(
        SPEC.validate_python({"set": "folder", "root": str(tmp_path)}), [EXPR]
    ).sort_values("image", key=lambda p: p.str[-7:])
    codes = {"expr.ferplus8": {"column": "emotion", "values": {name: name for name in EXPR.names}}}
    given = {
        "set": "file",
        "path": str(tmp_path / "labels.csv"),
        "columns": {"image": "file"},
        "classes": codes,
    }
    for loaded in (folder, load_set(SPEC.validate_python(given), [EXPR])):
        np.testing.assert_array_equal(labels(loaded, EXPR), labels(table, EXPR))
        assert loaded["split"].tolist() == table["split"].tolist()
        np.testing.assert_array_equal(
            read_picture(loaded["image"].iloc[3]), read_picture(table["image"][3])
        )
