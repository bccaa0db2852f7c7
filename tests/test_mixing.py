"""Label tables mixed into one: what stays is reckoned row by row, by plain loops."""

import json
import math
from collections import Counter, defaultdict

import cv2
import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from mien.data.joining import join
from mien.data.label_checks import check
from mien.data.label_table import COLUMNS, labels, table_of
from mien.data.mixing import (
    Mixing,
    cap_per_class,
    drop_inconsistent,
    drop_labels,
    mix,
    subsample_in_time,
)
from mien.data.registry import Set, load_set, places, set_name, starting_from, unmixed
from mien.errors import DataError
from mien.tasks import TASKS

SPEC = TypeAdapter(Set)
EXPR, VA, AU = TASKS["expr.abaw7"], TASKS["va"], TASKS["au.abaw12"]
NEUTRAL, HAPPY, SAD = (EXPR.names.index(name) for name in ("neutral", "happiness", "sadness"))
ABAW2 = {"neutral": 10, "happiness": 2, "sadness": 2}


def shares(codes):
    """One-hot rows of class codes; NaN where the code is -1."""
    codes = np.asarray(codes)
    found = np.eye(len(EXPR.names), dtype=np.float32)[np.maximum(codes, 0)]
    found[codes < 0] = np.nan
    return found


def table(codes, va=None, images="f", split="train", **about):
    """A label table of class codes and, where given, of valence and arousal."""
    count = len(codes)
    va = (
        np.full((count, 2), np.nan, np.float32)
        if va is None
        else np.asarray(va, np.float32).reshape(-1, 2)
    )
    names = [f"{images}{i}.jpg" for i in range(count)] if isinstance(images, str) else images
    return table_of(names, about, {EXPR: shares(codes), VA: va}, split)


def some(seed, count=600, videos=5, lone=40):
    """Rows of videos in no order, some without a video, some without labels, a fifth of the videos in val; and the codes."""
    rng = np.random.default_rng(seed)
    codes = rng.choice([-1, *range(7)], count, p=[0.1, 0.4, 0.05, 0.05, 0.05, 0.15, 0.15, 0.05])
    va = np.where(rng.random((count, 1)) < 0.3, np.nan, rng.uniform(-1, 1, (count, 2)))
    video = np.array([f"v{k}" for k in rng.integers(videos, size=count)], object)
    video[rng.choice(count, lone, replace=False)] = None
    found = table(
        codes,
        va,
        video=video,
        frame=rng.permutation(count),
        split=np.where(video == "v0", "val", "train"),
    )
    return found.assign(split=np.where(video == "v0", "val", "train")), codes


def strided(found, wanted):
    """Index of the rows that stay, by walking through each video in time; wanted: from a row to its class and stride, or None."""
    stay, seen = set(found.index), defaultdict(int)
    for i in sorted(found.index, key=lambda i: found["frame"][i]):
        asked = wanted(i)
        if asked is None or pd.isna(found["video"][i]) or found["split"][i] != "train":
            continue
        name, stride = asked
        if seen[found["video"][i], name] % stride:
            stay.discard(i)
        seen[found["video"][i], name] += 1
    return stay


# --- thinning --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_thinned_in_the_order_of_time(seed):
    found, codes = some(seed)
    before = found.copy(deep=True)
    left = subsample_in_time(found, EXPR, ABAW2)

    def wanted(i):
        return (EXPR.names[codes[i]], ABAW2.get(EXPR.names[codes[i]], 1)) if codes[i] >= 0 else None

    assert set(left.index) == strided(found, wanted)
    assert left.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(found, before)
    counts = (
        found.assign(code=codes)[lambda t: (t["split"] == "train") & t["video"].notna()]
        .groupby(["code", "video"])
        .size()
    )
    lone = found.assign(code=codes)[lambda t: t["video"].isna()].groupby("code").size()
    for name, stride in ABAW2.items():
        k = EXPR.names.index(name)
        expected = sum(math.ceil(n / stride) for n in counts[k]) + lone.get(k, 0)
        assert int(left.loc[left["split"] == "train", f"expr_{name}"].sum()) == expected
        assert f"{name} {expected}" in left.attrs["notes"][-1]
    assert left.attrs["notes"][-1].startswith(
        "expr.abaw7, thinned in time (neutral 10, happiness 2, sadness 2): "
    )
    assert (left["split"] == "val").sum() == (found["split"] == "val").sum()


def test_every_fifth_rated_row():
    found, _ = some(4)
    rated = found["valence"].notna()
    left = subsample_in_time(found, VA, {"every": 5})
    assert set(left.index) == strided(found, lambda i: ("", 5) if rated[i] else None)
    assert subsample_in_time(found, VA, {"every": 1}).equals(found)
    some_expr = subsample_in_time(found, EXPR, {"every": 5})
    assert len(some_expr) < len(found)


def test_soft_labels_count_as_their_largest_share():
    soft = table([0] * 6, video="v", frame=range(6))
    soft[list(EXPR.columns)] = np.float32([0.4, 0.3, 0.3, 0, 0, 0, 0])
    assert subsample_in_time(soft, EXPR, {"neutral": 3}).index.tolist() == [0, 3]


@pytest.mark.parametrize(("task", "strides", "said"), [
    (EXPR, {"calm": 2}, "calm"), (EXPR, {}, "strides are"), (EXPR, {"neutral": 0}, "strides are"), (VA, {"valence": 2}, "no classes"),
    (EXPR, {"every": 2, "neutral": 3}, "leave out neutral"), (AU, {"every": 2}, "no column AU01"),
])  # fmt: skip
def test_strides_that_are_none_are_told(task, strides, said):
    with pytest.raises(DataError, match=said):
        subsample_in_time(table([0, 1]), task, strides)


# --- caps, filters, fewer labels -------------------------------------------------------------------------------------------


def test_a_cap_holds_for_each_class_of_training():
    found, codes = some(5)
    left = cap_per_class(found, EXPR, 25, seed=3)
    training = (found["split"] == "train").to_numpy()
    now = Counter(codes[[i for i in left.index if training[i]]].tolist())
    for code, count in Counter(codes[training].tolist()).items():
        assert now[code] == (count if code < 0 else min(count, 25))
    assert (left["split"] == "val").sum() == (~training).sum()
    assert left.index.is_monotonic_increasing
    assert cap_per_class(found, EXPR, 25, seed=3).index.equals(left.index)
    assert not cap_per_class(found, EXPR, 25, seed=4).index.equals(left.index)
    assert cap_per_class(found, EXPR, 10_000, seed=0).equals(found)
    with pytest.raises(DataError, match="va has no classes"):
        cap_per_class(found, VA, 3, seed=0)
    with pytest.raises(DataError, match="0 rows of a class"):
        cap_per_class(found, EXPR, 0, seed=0)


def test_a_cap_takes_all_rows_alike():
    found = table([HAPPY] * 40)
    taken = Counter(i for seed in range(300) for i in cap_per_class(found, EXPR, 10, seed).index)
    assert min(taken.values()) > 40
    assert max(taken.values()) < 115
    assert sum(taken.values()) == 3000


def test_expressions_against_valence_and_arousal_lose_their_label():
    rows = [
        (HAPPY, -0.01, 0.5, True), (HAPPY, 0.0, 0.9, False), (HAPPY, 0.3, -0.5, False), (HAPPY, np.nan, np.nan, False),
        (SAD, 0.01, 0.0, True), (SAD, 0.0, 0.0, False), (SAD, -0.4, 0.9, False),
        (NEUTRAL, 0.3, 0.4, False), (NEUTRAL, 0.31, 0.4, True), (NEUTRAL, -0.6, 0.0, True), (NEUTRAL, 0.0, 0.2, False),
        (EXPR.names.index("anger"), 0.9, 0.9, False), (-1, -0.9, 0.9, False),
    ]  # fmt: skip
    found = table([row[0] for row in rows], [row[1:3] for row in rows])
    left = drop_inconsistent(found)
    gone = found["expr_fear"].notna() & left["expr_fear"].isna()
    assert gone.tolist() == [row[3] for row in rows]
    np.testing.assert_array_equal(left[list(VA.columns)], found[list(VA.columns)])
    assert "happiness 1, sadness 1, neutral 2;" in left.attrs["notes"][-1]
    assert drop_inconsistent(found.assign(split="val"))[list(EXPR.columns)].equals(
        found[list(EXPR.columns)]
    )
    with pytest.raises(DataError, match="ask for both tasks"):
        drop_inconsistent(found.drop(columns="valence"))


@pytest.mark.parametrize("task", [EXPR, VA])
def test_a_share_of_the_labels_goes_and_all_rows_stay(task):
    found, _ = some(6)
    left = drop_labels(found, task, 0.4, seed=1)
    assert left.index.equals(found.index)
    had, has = (~np.isnan(labels(each, task)).any(axis=1) for each in (found, left))
    training = (found["split"] == "train").to_numpy()
    assert (had & ~has).sum() == round(0.4 * (had & training).sum())
    assert not (had & ~has & ~training).any()
    others = [name for name in found if name not in task.columns]
    pd.testing.assert_frame_equal(left[others], found[others])
    np.testing.assert_array_equal(labels(left, task)[has], labels(found, task)[has])
    assert drop_labels(found, task, 0.4, seed=1).equals(left)
    assert not drop_labels(found, task, 0.4, seed=2).equals(left)
    for share in (0, 1, -0.1):
        with pytest.raises(DataError, match="between 0 and 1"):
            drop_labels(found, task, share, seed=1)


# --- joining ---------------------------------------------------------------------------------------------------------------


def joined_by_hand(tables):
    """Video and frame, or image -> labels, the first that is given."""
    found = {}
    for each in tables:
        for row in each.to_dict("records"):
            key = row["image"] if pd.isna(row["video"]) else (row["video"], row["frame"])
            kept = found.setdefault(key, dict.fromkeys((*EXPR.columns, *VA.columns), np.nan))
            for name in kept:
                kept[name] = row[name] if np.isnan(kept[name]) else kept[name]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_tables_are_joined_on_video_and_frame_or_on_the_image(seed):
    rng = np.random.default_rng(seed)
    whole = some(seed, 300)[0]
    whole["split"] = "train"
    parts = []
    for k in range(3):
        rows = np.sort(rng.choice(300, 150, replace=False))
        part = whole.iloc[rows].reset_index(drop=True)
        part.loc[rng.random(150) < 0.5, list(EXPR.columns if k % 2 else VA.columns)] = np.nan
        parts.append(
            part.assign(image=part["image"].where(part["video"].isna(), f"{k}/" + part["image"]))
        )
    found = join(parts)
    expected = joined_by_hand(parts)
    keys = [
        row["image"] if pd.isna(row["video"]) else (row["video"], row["frame"])
        for row in found.to_dict("records")
    ]
    assert keys == list(expected)
    np.testing.assert_array_equal(
        found[[*EXPR.columns, *VA.columns]], [list(each.values()) for each in expected.values()]
    )
    assert found.attrs["notes"] == [f"joined 450 rows of 3 sets to {len(expected)} faces"]
    assert list(found.columns) == list(whole.columns)


def test_labels_that_contradict_are_told_and_the_first_stay():
    first = table([HAPPY, SAD, -1], [(0.5, 0.5), (np.nan, np.nan), (0.1, 0.1)])
    other = table([SAD, SAD, NEUTRAL], [(0.5, 0.4), (0.2, 0.2), (0.1, 0.1)])
    found = join([first, other])
    assert labels(found, EXPR).argmax(axis=1).tolist() == [HAPPY, SAD, NEUTRAL]
    np.testing.assert_allclose(labels(found, VA), [(0.5, 0.5), (0.2, 0.2), (0.1, 0.1)])
    assert found.attrs["notes"][-1].endswith("expr_happiness 1, expr_sadness 1, arousal 1")


def test_columns_that_one_table_lacks_are_empty_there():
    first, second = (
        table([HAPPY, SAD])[[*COLUMNS, *EXPR.columns]],
        table([0, 0], [(0.5, 0.5), (0.1, 0.2)])[[*COLUMNS, *VA.columns]],
    )
    both = join([first, second.iloc[1:]])
    assert len(both) == 2
    assert both["valence"].isna().tolist() == [True, False]
    with pytest.raises(DataError, match="expr_other and another has not"):
        join([first, first.assign(expr_other=np.float32(0))])
    for wrong, said in (
        ([], "no tables"),
        ([first.assign(split=None)], "2 of 2 rows have no split"),
    ):
        with pytest.raises(DataError, match=said):
            join(wrong)


def test_faces_of_one_picture_stay_apart():
    points = [np.arange(10.0), np.arange(10.0) + 50]
    crowd = table(
        [HAPPY, SAD, NEUTRAL],
        images=["crowd.jpg", "crowd.jpg", "lone.jpg"],
        points=[*points, points[0]],
    )
    rated = table(
        [-1, -1, -1],
        [(0.1, 0), (0.2, 0), (0.3, 0)],
        images=["crowd.jpg", "crowd.jpg", "lone.jpg"],
        points=[points[1], points[0], None],
    )
    found = join([crowd, rated])
    assert labels(found, EXPR).argmax(axis=1).tolist() == [HAPPY, SAD, NEUTRAL]
    np.testing.assert_allclose(found["valence"], [0.2, 0.1, 0.3])
    assert (found["points"][2] == points[0]).all()
    assert len(join([crowd])) == 3


def test_pictures_that_come_twice_in_one_table_are_two_rows():
    """As in FER+, where the same picture comes twice, with other labels."""
    twice = table([HAPPY, SAD, NEUTRAL], images=[b"one", b"one", b"two"])
    assert labels(join([twice]), EXPR).argmax(axis=1).tolist() == [HAPPY, SAD, NEUTRAL]
    arrays = [np.full((2, 2, 3), k, np.uint8) for k in (1, 1, 2)]
    found = join(
        [table([HAPPY, SAD, NEUTRAL], images=arrays), table([-1], [(0.5, 0.5)], images=arrays[2:])]
    )
    assert found["valence"].isna().tolist() == [True, True, False]


def test_a_picture_without_a_video_is_found_by_its_image():
    dense = table([HAPPY, SAD], images="v/", video="v", frame=[1, 2])
    extra = table([-1, -1], [(0.5, 0.5), (0.1, 0.1)], images=["v/1.jpg", "w.jpg"])
    found = join([dense, extra])
    assert found["image"].tolist() == ["v/0.jpg", "v/1.jpg", "w.jpg"]
    np.testing.assert_allclose(found["valence"], [np.nan, 0.5, 0.1])
    np.testing.assert_array_equal(join([extra, dense])["frame"], [2, np.nan, 1])


def test_what_judges_anywhere_trains_nowhere():
    one = table(
        [HAPPY] * 6,
        images="a/",
        video=["p", "p", "q", "q", "r", "s_left"],
        frame=[1, 2] * 3,
        subject=[*"ppqqr", "s"],
    )
    about = {
        "video": ["p", "p", "t", "s_right"],
        "frame": [2, 3, 1, 1],
        "subject": ["p", "p", "t", "s"],
    }
    two = table([-1] * 4, [(0.1, 0.1)] * 4, images="b/", split="val", **about)
    kept = join([one, two])
    assert kept.groupby("video")["split"].nunique().max() == 1
    assert kept.groupby("subject")["split"].nunique().max() == 2, "official splits share some"
    found = join([one, two], strict=True)
    assert found.groupby("video")["split"].nunique().max() == 1
    assert found.groupby("subject")["split"].nunique().max() == 1
    assert Counter(found["split"]) == {"train": 3, "val": 4}
    assert found.loc[found["split"] == "val", "expr_fear"].isna().all(), (
        "a training label of a judged frame is left out"
    )
    assert (
        found.attrs["notes"][0]
        == "3 rows were left out: their face, video or subject is in a split that judges"
    )
    images = join(
        [
            table([0] * 3),
            table([1], images="f", split="test"),
            table([2, 2], images="f", split="val"),
        ]
    )
    assert images["split"].tolist() == ["train", "test", "val"]
    assert set(images["image"]) == {"f0.jpg", "f1.jpg", "f2.jpg"}


def test_rows_without_names_are_no_family():
    """Rows without a video or a subject do not count as one video."""
    found = join([table([0] * 3), table([1] * 2, images="g", split="val")])
    assert Counter(found["split"]) == {"train": 3, "val": 2}


# --- the mix ---------------------------------------------------------------------------------------------------------------


def test_a_row_stays_that_one_task_keeps():
    found, codes = some(7)
    how = Mixing(thin={"expr": ABAW2, "va": {"every": 5}})
    rated = found["valence"].notna()
    by_expr = strided(
        found, lambda i: (codes[i], ABAW2.get(EXPR.names[codes[i]], 1)) if codes[i] >= 0 else None
    )
    by_va = strided(found, lambda i: ("", 5) if rated[i] else None)
    has_expr, has_va = ({i for i in found.index if own[i]} for own in (codes >= 0, rated))
    stay = sorted((by_expr & has_expr) | (by_va & has_va) | (set(found.index) - has_expr - has_va))
    mixed = mix([found], how, [EXPR, VA])
    assert mixed["image"].tolist() == found["image"][stay].tolist()
    names = [*EXPR.columns, *VA.columns]
    np.testing.assert_array_equal(mixed[names], found.loc[stay, names])
    assert mixed.index.equals(pd.RangeIndex(len(stay)))
    training = (mixed["split"] == "train").sum()
    assert (
        f"{training} of {(found['split'] == 'train').sum()} training rows are kept by one of expr.abaw7, va, or have no label of any"
        in mixed.attrs["notes"]
    )

    apart = mix([found], how.model_copy(update={"shared": False}), [EXPR, VA])
    assert apart["image"].tolist() == mixed["image"].tolist()
    for names, own in ((EXPR.columns, by_expr), (VA.columns, by_va)):
        there = found.loc[stay, list(names)].to_numpy(copy=True)
        there[[i not in own for i in stay]] = np.nan
        np.testing.assert_array_equal(apart[list(names)], there)


def test_thinning_one_task_takes_whole_rows():
    found, _ = some(8)
    left = mix([found], Mixing(thin={"expr": ABAW2}), [EXPR, VA])
    pd.testing.assert_frame_equal(
        left, subsample_in_time(found, EXPR, ABAW2).reset_index(drop=True)
    )
    both = mix([found], Mixing(thin={"expr": ABAW2}, cap={"expr": 12}, seed=3), [EXPR, VA])
    assert both[lambda t: t["split"] == "train"][list(EXPR.columns)].sum().max() == 12


def test_the_parts_come_in_order_and_all_is_told():
    found, _ = some(9)
    how = Mixing(
        consistent=True, thin={"expr": {"neutral": 3}}, drop={"expr": 0.5, "au": 0.1}, seed=2
    )
    mixed = mix([found.iloc[:300], found.iloc[300:]], how, [EXPR, VA])
    expected = drop_labels(
        subsample_in_time(drop_inconsistent(found), EXPR, {"neutral": 3}), EXPR, 0.5, seed=2
    ).reset_index(drop=True)
    pd.testing.assert_frame_equal(mixed, expected)
    notes = mixed.attrs["notes"]
    assert [note.split(" ")[0] for note in notes] == [
        "joined",
        "expressions",
        "expr.abaw7,",
        "expr.abaw7:",
        "au:",
    ]
    assert "not learned here" in notes[-1]
    assert mix([found], Mixing(), [EXPR, VA]).equals(found)


@pytest.mark.parametrize(("given", "said"), [
    ({"thin": {"expr": {}}}, "at least 1"), ({"thin": {"exprs": {"neutral": 2}}}, "did you mean expr"), ({"cap": {"expr": 0}}, "greater"),
    ({"drop": {"expr": 1.0}}, "less than 1"), ({"drop": {"expr": 0}}, "greater"), ({"thin": {"expr": {"neutral": 1.5}}}, "integer"),
    ({"thinn": {}}, "[Ee]xtra"),
])  # fmt: skip
def test_settings_that_are_none_are_told(given, said):
    with pytest.raises(ValidationError, match=said):
        Mixing.model_validate(given)


# --- as a set --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def unified(tmp_path):
    """Aff-Wild2 with two tracks that split one video differently, ExpW and AFEW-VA, all tiny; and settings that mix them."""
    rng = np.random.default_rng(0)
    header = {
        "EXPR_Set": "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise",
        "VA_Set": "valence,arousal",
    }
    tracks = {
        ("EXPR_Set", "Train_Set"): ["both", "expr_only", "torn"], ("EXPR_Set", "Validation_Set"): ["judged"],
        ("VA_Set", "Train_Set"): ["both", "va_only"], ("VA_Set", "Validation_Set"): ["judged", "torn"],
    }  # fmt: skip
    for (track, split), videos in tracks.items():
        for video in videos:
            lines = [
                str(k % 7)
                if track == "EXPR_Set"
                else "{:.2f},{:.2f}".format(*rng.uniform(-1, 1, 2))
                for k in range(40)
            ]
            folder = tmp_path / "aff" / "annotations" / track / split
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{video}.txt").write_text("\n".join([header[track], *lines, ""]))
            crops = tmp_path / "aff" / "cropped_aligned" / video
            crops.mkdir(parents=True, exist_ok=True)
            for k in range(40):
                (crops / f"{k + 1:05d}.jpg").write_bytes(b"")
    (tmp_path / "expw" / "image" / "origin").mkdir(parents=True)
    (tmp_path / "expw" / "image" / "origin" / "a.jpg").write_bytes(b"")
    (tmp_path / "expw" / "label.lst").write_text(
        "".join(f"a.jpg {k} 1 {9 * k} {9 * k + 9} 10 50 {k}\n" for k in range(7))
    )
    clip = tmp_path / "afew" / "01" / "001"
    clip.mkdir(parents=True)
    frames = {
        f"{k:05d}": {
            "landmarks": rng.uniform(0, 90, (68, 2)).tolist(),
            "valence": k - 5,
            "arousal": 5 - k,
        }
        for k in range(11)
    }
    for name in frames:
        (clip / f"{name}.png").write_bytes(b"")
    (clip / "001.json").write_text(json.dumps({"frames": frames}))
    dense = {"set": "aff-wild2", "root": str(tmp_path / "aff"), "classes": 7}
    return {
        "set": "mix", "of": [
            {**dense, "track": "expr"}, {**dense, "track": "va"}, {"set": "expw", "root": str(tmp_path / "expw")},
            {"set": "afew-va", "root": str(tmp_path / "afew")},
        ],
    }  # fmt: skip


def test_sets_become_one_set(unified, tmp_path):
    given = SPEC.validate_python(unified)
    found = load_set(given, [EXPR, VA])
    rows = found.groupby("video", dropna=False).agg(
        rows=("split", "size"),
        split=("split", "unique"),
        expr=("expr_fear", "count"),
        va=("valence", "count"),
    )
    told = {
        str(video): (row["rows"], *row["split"], row["expr"], row["va"])
        for video, row in rows.iterrows()
    }
    assert told == {
        "both": (40, "train", 40, 40), "expr_only": (40, "train", 40, 0), "va_only": (40, "train", 0, 40), "judged": (40, "val", 40, 40),
        "torn": (40, "val", 0, 40), "01_001": (11, "train", 0, 11), "nan": (7, "train", 7, 0),
    }  # fmt: skip
    notes = check(found, [EXPR, VA], "t")
    assert not [note for note in notes if "two splits" in note]
    assert found.attrs["notes"][-2:] == [
        "40 rows were left out: their face or video is in a split that judges", "joined 298 rows of 4 sets to 218 faces",
    ]  # fmt: skip
    dense = SPEC.validate_python({**unified["of"][0], "track": ["expr", "va"]})
    apart = load_set(dense, [EXPR, VA]).sort_values("image", ignore_index=True)
    ours = found[found["video"].isin(apart["video"].unique())].sort_values(
        "image", ignore_index=True
    )
    pd.testing.assert_frame_equal(
        ours, apart, check_dtype=False
    )  # the dense loader joins its own tracks
    names = [*("aff", "aff/cropped_aligned") * 2, "expw", "expw/image/origin", "afew"]
    assert places(given) == tuple(tmp_path / name for name in names)
    assert set_name(given) == "Aff-Wild2 + ExpW + AFEW-VA"
    assert unmixed([given, given.of[2]]) == (*given.of, given.of[2])
    assert SPEC.validate_json(SPEC.dump_json(given)) == given


def test_the_mixture_of_abaw2(unified):
    """Neutral 10, happiness 2, sadness 2 of Aff-Wild2 and all of ExpW; every 5th rated row."""
    given = SPEC.validate_python(
        {**unified, "thin": {"expr": ABAW2, "va": {"every": 5}}, "shared": False}
    )
    found = load_set(given, [EXPR, VA])
    training = found[found["split"] == "train"]
    per_video = Counter(EXPR.names[k % 7] for k in range(40))
    expected = {
        name: 2 * math.ceil(per_video[name] / ABAW2.get(name, 1)) + 1 for name in EXPR.names
    }
    assert training[list(EXPR.columns)].sum().astype(int).tolist() == list(expected.values())
    assert training["valence"].notna().sum() == 2 * math.ceil(40 / 5) + math.ceil(11 / 5)
    assert (found["split"] == "val").sum() == 80
    assert load_set(given, []).shape[0] == 218, "a feature cache wants all pictures"
    only = load_set(given, [VA])
    assert any("expr: not learned here" in note for note in only.attrs["notes"])


def test_what_expressions_must_agree_with_is_loaded_unasked(unified):
    given = SPEC.validate_python({**unified, "consistent": True})
    alone, both = load_set(given, [EXPR]), load_set(given, [EXPR, VA])
    assert list(alone.columns) == [*COLUMNS, *EXPR.columns]
    assert alone["expr_fear"].notna().tolist() == both["expr_fear"].notna().tolist()
    assert (
        both["expr_fear"].notna().sum()
        < load_set(SPEC.validate_python(unified), [EXPR])["expr_fear"].notna().sum()
    )


def test_settings_of_a_mix_are_strict(unified, tmp_path):
    with pytest.raises(ValidationError, match="at least 1"):
        SPEC.validate_python({"set": "mix", "of": []})
    with pytest.raises(ValidationError, match="tag 'mix'"):
        SPEC.validate_python({"set": "mix", "of": [unified]})
    with pytest.raises(ValidationError, match=r"[Ee]xtra"):
        SPEC.validate_python({**unified, "root": "x"})
    relative = {**unified, "of": [{"set": "expw", "root": "expw"}, 3]}
    assert starting_from(tmp_path, relative)["of"] == [
        {"set": "expw", "root": str(tmp_path / "expw")},
        3,
    ]


def test_a_run_takes_a_mix_and_its_card_names_every_set(tmp_path):
    from mien.train.bundle.provenance import data_terms, supervision, synthetic_kinds
    from mien.train.runs.tables import load_tables
    from mien.train.settings.training import read_settings

    drawn = load_set(
        SPEC.validate_python({"set": "drawn", "count": 60, "seed": 0, "size": 32}), [EXPR, VA]
    )
    rows = []
    for i, row in drawn.iterrows():
        cv2.imwrite(str(tmp_path / f"{i}.png"), row["image"][..., ::-1])
        rows.append(
            {
                "image": f"{i}.png",
                "split": row["split"],
                "subject": row["subject"],
                **row[[*EXPR.columns, *VA.columns]],
            }
        )
    pd.DataFrame(rows)[["image", "split", "subject", *EXPR.columns]].to_csv(
        tmp_path / "expr.csv", index=False
    )
    pd.DataFrame(rows)[["image", "split", "subject", *VA.columns]].to_csv(
        tmp_path / "va.csv", index=False
    )
    (tmp_path / "expw").mkdir()
    (tmp_path / "run.yaml").write_text("""
name: tiny
tasks: [expr.abaw7, va]
data:
- set: mix
  of: [{set: file, path: expr.csv}, {set: file, path: va.csv}]
  drop: {expr: 0.25}
fit: {find_points: false}
""")
    settings = read_settings(tmp_path / "run.yaml")
    notes = []
    splits, tasks, _ = load_tables(settings, tmp_path, notes.append)
    assert sum(map(len, splits.values())) == 60
    assert all(part["valence"].notna().all() for part in splits.values())
    training = (drawn["split"] == "train").sum()
    assert splits["train"]["expr_fear"].notna().sum() == training - round(0.25 * training)
    assert any("joined 120 rows of 2 sets to 60 faces" in note for note in notes)
    assert {
        terms.data for terms in data_terms(settings, tasks) if terms.used_for == "training"
    } >= {
        "expr.csv",
        "va.csv",
    }
    assert synthetic_kinds(settings) == ()
    web = SPEC.validate_python(
        {"set": "mix", "of": [{"set": "expw", "root": str(tmp_path / "expw")}]}
    )
    more = settings.model_copy(update={"data": (web,)})
    assert supervision(more, EXPR) == "annotators of ExpW"
    assert data_terms(more, tasks)[0].data == "ExpW (pictures from the web)"


def test_the_kinds_of_faces_that_are_nobody_s_are_known():
    from mien.train.bundle.provenance import synthetic_kinds
    from mien.train.settings.training import Settings

    drawn = {"set": "drawn", "count": 60, "seed": 0, "size": 32}
    rendered = {"set": "rendered", "count": 60, "seed": 0, "size": 32}
    people = {"set": "expw", "root": "expw"}
    cases = [
        ([drawn], ("drawn",)),
        ([rendered], ("rendered",)),
        ([rendered, drawn], ("drawn", "rendered")),
        ([rendered, people], ()),
    ]
    for sets, kinds in cases:
        data = tuple(SPEC.validate_python(part) for part in sets)
        settings = Settings(name="some", data=data, tasks=("expr.abaw7",))
        assert synthetic_kinds(settings) == kinds
