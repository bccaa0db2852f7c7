"""Data sets of the ABAW challenges, in tiny copies of their layouts, with their traps; counts are reckoned from what was written."""

import codecs
import re

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from mien.data.frame_lists import mtl_test_list, read_list
from mien.data.label_checks import absent, check
from mien.data.label_table import COLUMNS, labels
from mien.data.registry import Set, load_set, places, set_name
from mien.data.sets.affectnet import five_of_68
from mien.data.sets.c_expr_db import listed_frames
from mien.errors import DataError
from mien.tasks import COMPOUNDS, TASKS

SPEC = TypeAdapter(Set)
VA, AU = TASKS["va"], TASKS["au.abaw12"]
ABAW8, ABAW7, LSD6, AFFECT8 = (
    TASKS[f"expr.{key}"] for key in ("abaw8", "abaw7", "lsd6", "affectnet8")
)
CE = TASKS["ce.abaw7"]
MTL = (VA, ABAW8, AU)
MTL_HEADER = "image,valence,arousal,expression,aus"
EIGHT = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
UNITS = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
NO_AU = ",".join(["-1"] * 12)


def spec(**given):
    return SPEC.validate_python(given)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def write(path, *lines, end="\n", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join(lines) + end).encode(encoding))


def mtl_row(image, va=(-5.0, -5.0), expr=-1, aus=NO_AU):
    return f"{image},{va[0]},{va[1]},{expr},{aus}"


def some_mtl(rng, videos, count):
    """Rows of every kind of annotation: all eight classes, units both ways, and what lacks."""
    rows = []
    for video in videos:
        for k in range(1, count + 1):
            va = (
                tuple(rng.uniform(-1, 1, 2).round(4))
                if rng.random() < 0.7
                else (-5.0, rng.choice([-5.0, 0.5]))
            )
            aus = ",".join(map(str, rng.integers(0, 2, 12))) if rng.random() < 0.7 else NO_AU
            rows.append(mtl_row(f"{video}/{3 * k:05d}.jpg", va, k % 9 - 1, aus))
    return rows


@pytest.fixture
def mtl(tmp_path):
    """s-Aff-Wild2 with rows of every kind; rows by split."""
    rng = np.random.default_rng(3)
    rows = {
        "train": some_mtl(rng, ["video1_left", "video1_right", "10-60-1280x720"], 12),
        "val": some_mtl(rng, ["video2"], 15),
    }
    write(tmp_path / "training_set_annotations.txt", MTL_HEADER, *rows["train"])
    write(tmp_path / "validation_set_annotations.txt", MTL_HEADER, *rows["val"])
    touch(
        tmp_path / "cropped_aligned", *(row.split(",")[0] for part in rows.values() for row in part)
    )
    return tmp_path, rows


# --- lists -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lines", "expected"), [
    ([MTL_HEADER, "video45_1/00001.jpg,", "video45_1/00001.jpg,"], [("video45_1/00001.jpg", "video45_1", 1)] * 2),
    (["image_location," + EIGHT, "14-30-1920x1080/00007.jpg,0"], [("14-30-1920x1080/00007.jpg", "14-30-1920x1080", 7)]),
    (["image,expression", "0.jpg", "12.jpg"], [("0.jpg", "", 0), ("12.jpg", "", 12)]),
    (["a/1/v 1.mp4/frame-0.jpg", "a/1/v 1.mp4/frame-10.jpg"], [(f"a/1/v 1.mp4/frame-{k}.jpg", "a/1/v 1.mp4", k) for k in (0, 10)]),
    (["Filename,Admiration,Joy", "00031,", "00002,"], [("00031", "00031", -1), ("00002", "00002", -1)]),
    (["video3", "10-60-1280x720_right"], [(name, name, -1) for name in ("video3", "10-60-1280x720_right")]),
])  # fmt: skip
@pytest.mark.parametrize(
    ("end", "encoding"), [("\n", "utf-8"), ("\r\n", "utf-8"), ("\n", "utf-8-sig")]
)
def test_lists_keep_their_order_and_doubled_rows(tmp_path, lines, expected, end, encoding):
    write(tmp_path / "list.txt", *lines, end=end, encoding=encoding)
    table = read_list(tmp_path / "list.txt")
    assert list(table.columns) == ["image", "video", "frame"]
    assert table["frame"].dtype == np.int64
    assert list(table.itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize(("content", "said"), [
    (b"", "is empty"), (b"image,aus\n", "nothing below its header"), (b"image,aus\nv/1.jpg,\n,,\n", "line 3 names no picture"),
    (codecs.BOM_UTF16_LE + "image\n".encode("utf-16-le"), "UTF-16"),
    ("image\n".encode("utf-16-be"), "UTF-16"), (b"image\n\xe9.jpg", "not UTF-8"),
])  # fmt: skip
def test_what_is_no_list_is_told(tmp_path, content, said):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        read_list(tmp_path / "list.txt")
    assert "list.txt" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_multi_task_list_is_found_and_told_from_others(tmp_path):
    with pytest.raises(DataError, match=r"MTL.txt"):
        mtl_test_list(tmp_path)
    write(tmp_path / "MTL.txt", MTL_HEADER, "v/00002.jpg,", "v/00001.jpg,")
    assert mtl_test_list(tmp_path)["frame"].tolist() == [2, 1]
    write(tmp_path / "lsd.txt", "image,expression", "0.jpg")
    with pytest.raises(DataError, match=r"1 rows like '0.jpg'"):
        mtl_test_list(tmp_path / "lsd.txt")
    with pytest.raises(DataError, match="No such file"):
        mtl_test_list(tmp_path / "gone.txt")


# --- s-Aff-Wild2 -----------------------------------------------------------------------------------------------------------


def by_hand(rows):
    """(image -> 22 labels) by plain reading of every field."""
    found = {}
    for row in rows:
        image, v, a, expr, *aus = row.split(",")
        va = [float(v), float(a)]
        shares = [float(k == int(expr)) for k in range(8)]
        found[image] = [
            *(va if min(va) > -5 else [np.nan] * 2), *(shares if int(expr) >= 0 else [np.nan] * 8),
            *(np.nan if au == "-1" else float(au) for au in aus),
        ]  # fmt: skip
    return found


def test_multi_task_labels_equal_a_plain_reading(mtl):
    root, rows = mtl
    given = spec(set="s-aff-wild2", root=str(root))
    table = load_set(given, MTL)
    assert list(table.columns) == [*COLUMNS, *(name for task in MTL for name in task.columns)]
    for split, part in table.groupby("split"):
        expected = by_hand(rows[split])
        names = [image.removeprefix(f"{root}/cropped_aligned/") for image in part["image"]]
        assert names == list(expected)
        np.testing.assert_allclose(
            np.hstack([labels(part, task) for task in MTL]), list(expected.values()), rtol=1e-6
        )
        assert [
            f"{video}/{frame:05d}.jpg"
            for video, frame in zip(part["video"], part["frame"], strict=True)
        ] == names
    assert set(table["subject"]) == {"video1", "10-60-1280x720", "video2"}
    assert not any("split" in line for line in check(table, MTL, "s-Aff-Wild2"))
    assert set_name(given) == "s-Aff-Wild2"
    assert places(given) == (root, root / "cropped_aligned")


def test_seven_classes_lose_other_and_say_so(mtl):
    root, rows = mtl
    table = load_set(spec(set="s-aff-wild2", root=str(root)), [ABAW7])
    written = [int(row.split(",")[3]) for part in rows.values() for row in part]
    assert table[list(ABAW7.columns)].notna().all(axis=1).sum() == sum(
        0 <= code < 7 for code in written
    )
    assert [
        f"{written.count(7)} faces" in line for line in table.attrs["notes"] if "expr.abaw7" in line
    ] == [True]


def test_units_are_masked_one_by_one(mtl):
    root, _ = mtl
    aus = "1,-1,0," + ",".join(["-1"] * 9)
    write(
        root / "validation_set_annotations.txt",
        MTL_HEADER,
        mtl_row("video2/00003.jpg", aus=aus),
        mtl_row("video2/00006.jpg"),
    )
    table = load_set(spec(set="s-aff-wild2", root=str(root)), MTL).query("split == 'val'")
    np.testing.assert_array_equal(labels(table, AU)[0], [1, np.nan, 0, *[np.nan] * 9])
    assert len(table) == 2


def test_rows_that_come_twice_are_one_row(mtl):
    root, rows = mtl
    same, other = rows["train"][0], rows["train"][1]
    changed = ",".join(
        [*other.split(",")[:3], "0" if other.split(",")[3] != "0" else "1", *other.split(",")[4:]]
    )
    write(root / "train_set.txt", "not read")
    write(root / "training_set_annotations.txt", MTL_HEADER, *rows["train"], same, changed, changed)
    table = load_set(spec(set="s-aff-wild2", root=str(root)), MTL)
    assert len(table) == len(rows["train"]) + len(rows["val"])
    np.testing.assert_allclose(labels(table, ABAW8)[1], by_hand([other])[other.split(",")[0]][2:10])
    assert any(
        "3 rows repeat a picture and were left out; 2 of them differ" in line
        for line in table.attrs["notes"]
    )


def test_official_splits_stay_and_strict_parts_recordings(mtl):
    root, rows = mtl
    write(
        root / "validation_set_annotations.txt",
        MTL_HEADER,
        *rows["val"],
        mtl_row("video1_right/00099.jpg", expr=0),
    )
    touch(root / "cropped_aligned", "video1_right/00099.jpg")
    official = load_set(spec(set="s-aff-wild2", root=str(root)), [VA])
    train = official[official["split"] == "train"]
    assert {"video1_left", "video1_right"} <= set(train["video"])
    counted = "24 training rows of 1 recordings that are in validation as well"
    stay = f"s-Aff-Wild2: {counted} stay, as in the official split"
    assert stay in official.attrs["notes"]
    table = load_set(spec(set="s-aff-wild2", root=str(root), strict=True), [VA])
    train = table[table["split"] == "train"]
    assert set(train["video"]) == {"10-60-1280x720"}
    assert f"s-Aff-Wild2: {counted} were left out, as strict asks" in table.attrs["notes"]
    assert not set(train["subject"]) & set(table[table["split"] == "val"]["subject"])


def test_a_test_list_changes_nothing_in_training(mtl):
    """Not even where it lists a recording, or the very pictures, that are trained on."""
    root, _ = mtl
    settings = spec(set="s-aff-wild2", root=str(root))
    before = load_set(settings, MTL)
    trained = before[before["split"] == "train"].reset_index(drop=True)
    names = [f"{row.video}/{int(row.frame):05d}.jpg," for row in trained.head(3).itertuples()]
    write(root / "MTL.txt", MTL_HEADER, *names)
    after = load_set(settings, MTL)
    pd.testing.assert_frame_equal(after[after["split"] == "train"].reset_index(drop=True), trained)
    assert (after["split"] == "test").sum() == 3


@pytest.mark.parametrize("name", ["MTL_Challenge_test_set_release.txt", "MTL.txt"])
def test_test_rows_have_no_labels(mtl, name):
    root, _ = mtl
    write(root / name, MTL_HEADER, "video9/00001.jpg,", "video9/00002.jpg,", "video9/00001.jpg,")
    with pytest.raises(
        DataError, match=r"2 of \d+ listed pictures are not there, the first is video9/00001.jpg"
    ):
        load_set(spec(set="s-aff-wild2", root=str(root)), MTL)
    touch(root / "cropped_aligned", "video9/00001.jpg", "video9/00002.jpg")
    table = load_set(spec(set="s-aff-wild2", root=str(root)), MTL)
    test = table[table["split"] == "test"]
    assert test["frame"].tolist() == [1, 2]
    assert all(np.isnan(labels(test, task)).all() for task in MTL)
    check(table, MTL, "here")


@pytest.mark.parametrize(
    ("end", "encoding"), [("\r\n", "utf-8"), ("\n", "utf-8-sig"), ("\r\n", "utf-8-sig")]
)
def test_line_ends_and_marks_change_nothing(mtl, end, encoding):
    root, rows = mtl
    before = load_set(spec(set="s-aff-wild2", root=str(root)), MTL)
    for split, name in (
        ("train", "train_set.txt"),
        ("val", "validation_set.txt"),
    ):  # the names of ABAW3
        write(root / name, MTL_HEADER, *rows[split], "", "", end=end, encoding=encoding)
    (root / "training_set_annotations.txt").unlink()
    (root / "validation_set_annotations.txt").unlink()
    pd.testing.assert_frame_equal(load_set(spec(set="s-aff-wild2", root=str(root)), MTL), before)


GOOD = mtl_row("video1/00001.jpg", (0.1, 0.2), 3, ",".join(["0"] * 12))


@pytest.mark.parametrize(("lines", "said"), [
    ([MTL_HEADER, GOOD, GOOD[:-4]], "line 3 has 14 of 16 fields; the file is cut off"),
    ([MTL_HEADER, GOOD[:-4], GOOD], "line 2 has 14 of 16 fields; take"),
    ([MTL_HEADER, GOOD, "", GOOD], "line 3 has 1 of 16 fields"),
    ([MTL_HEADER, GOOD, GOOD.replace("0.2", "x")], "line 3: arousal is 'x'"),
    ([MTL_HEADER, GOOD, GOOD.replace("0.2", "")], "line 3: arousal is ''"),
    ([MTL_HEADER, GOOD, GOOD.replace("0.2", "nan")], "line 3: arousal is 'nan'"),
    ([MTL_HEADER, GOOD, GOOD.replace("0.2", "1.5")], "line 3: valence or arousal is 1.5"),
    ([MTL_HEADER, GOOD, GOOD.replace("0.2,3", "-2,3")], "line 3: valence or arousal is -2"),
    ([MTL_HEADER, GOOD, GOOD.replace("0.2,3", "0.2,8")], "line 3: expression 8 is neither 0 to 7"),
    ([MTL_HEADER, GOOD, GOOD.replace("0.2,3", "0.2,2.5")], "line 3: expression 2.5"),
    ([MTL_HEADER, GOOD, GOOD[:-1] + "3"], "line 3: an action unit is 3"),
    ([MTL_HEADER, GOOD, GOOD.replace("video1/", "")], "line 3: '00001.jpg' is not <video>/<number>.jpg"),
    ([MTL_HEADER], "no rows below the header"),
    ([GOOD, GOOD], "line 1 is 'video1/00001.jpg"),
    (["valence,arousal", "0.1,0.2"], "line 1 is 'valence,arousal', not"),
])  # fmt: skip
def test_damaged_and_foreign_annotation_files_are_told(mtl, lines, said):
    root, _ = mtl
    write(root / "training_set_annotations.txt", *lines)
    with pytest.raises(DataError, match=re.escape(said)) as error:
        load_set(spec(set="s-aff-wild2", root=str(root)), MTL)
    assert str(root / "training_set_annotations.txt") in str(error.value)
    assert "\n" not in str(error.value)


def test_other_folders_and_encodings_are_told(mtl, tmp_path_factory):
    root, rows = mtl
    write(root / "training_set_annotations.txt", MTL_HEADER, *rows["train"], encoding="utf-16")
    with pytest.raises(DataError, match="UTF-16"):
        load_set(spec(set="s-aff-wild2", root=str(root)), MTL)
    dense = tmp_path_factory.mktemp("dense")
    (dense / "VA_Estimation_Challenge").mkdir()
    with pytest.raises(DataError, match="set is aff-wild2"):
        load_set(spec(set="s-aff-wild2", root=str(dense)), MTL)
    with pytest.raises(
        DataError, match=r"holds no training_set_annotations.txt or train_set.txt; give the folder"
    ):
        load_set(spec(set="s-aff-wild2", root=str(dense / "gone")), MTL)


def test_lost_pictures_are_refused_or_left_out(mtl):
    root, rows = mtl
    lost = rows["train"][4].split(",")[0]
    (root / "cropped_aligned" / lost).unlink()
    with pytest.raises(
        DataError,
        match=f"1 of {len(rows['train']) + len(rows['val'])} listed pictures are not there, the first is {lost}",
    ):
        load_set(spec(set="s-aff-wild2", root=str(root)), MTL)
    table = load_set(spec(set="s-aff-wild2", root=str(root), missing="drop"), MTL)
    assert len(table) == len(rows["train"]) + len(rows["val"]) - 1
    assert any("1 of" in line and lost in line for line in table.attrs["notes"])
    with pytest.raises(DataError, match="name their folder by `images`"):
        load_set(spec(set="s-aff-wild2", root=str(root), missing="drop", images="cropped"), MTL)
    (root / "cropped_aligned").rename(root / "cropped")
    assert len(
        load_set(spec(set="s-aff-wild2", root=str(root), missing="drop", images="cropped"), MTL)
    ) == len(table)
    assert len(
        load_set(
            spec(set="s-aff-wild2", root=str(root), missing="drop", images=str(root / "cropped")),
            MTL,
        )
    ) == len(table)


# --- dense Aff-Wild2 -------------------------------------------------------------------------------------------------------


def dense_file(root, track, split, video, lines):
    folder = {
        "va": "VA_Estimation_Challenge",
        "expr": "EXPR_Classification_Challenge",
        "au": "AU_Detection_Challenge",
    }[track]
    header = {"va": "valence,arousal", "expr": EIGHT, "au": UNITS}[track]
    write(root / folder / split / f"{video}.txt", header, *lines)


@pytest.fixture
def dense(tmp_path):
    """Three tracks over five videos; frames 3 of every video have no crop."""
    rng = np.random.default_rng(5)
    notes = tmp_path / "Third ABAW Annotations"
    truth = {}
    for track, videos in {"va": "abde", "expr": "acd", "au": "be"}.items():
        for video in videos:
            split = "Validation_Set" if video in "de" else "Train_Set"
            count = 20
            made = {
                "va": rng.uniform(-1, 1, (count, 2)).round(3),
                "expr": (np.arange(count) % 8)[:, None],
                "au": rng.integers(0, 2, (count, 12)),
            }
            values = made[track].astype(float)
            values[5] = -5 if track == "va" else -1
            text = [
                ",".join(f"{x:.3f}" if track == "va" else str(int(x)) for x in row)
                for row in values
            ]
            dense_file(notes, track, split, video, text)
            truth[track, video] = values
    for video in "abcde":
        touch(
            tmp_path / "cropped_aligned", *(f"{video}/{k:05d}.jpg" for k in range(1, 21) if k != 3)
        )
    return tmp_path, truth


def test_dense_tracks_are_joined_on_video_and_frame(dense):
    root, truth = dense
    table = load_set(spec(set="aff-wild2", root=str(root), tracks=["va", "expr", "au"]), MTL)
    assert len(table) == 5 * 19
    for task, track in zip(MTL, ("va", "expr", "au"), strict=True):
        for row, got in zip(table.itertuples(), labels(table, task), strict=True):
            values = truth.get((track, row.video))
            if values is None or row.frame == 6:
                assert np.isnan(got).all()
                continue
            line = values[int(row.frame) - 1]
            np.testing.assert_allclose(
                got, np.eye(8)[int(line[0])] if track == "expr" else line, rtol=1e-6
            )
    assert table["image"].iloc[2] == f"{root}/cropped_aligned/a/00004.jpg"
    assert set(table.loc[table["video"].isin(["d", "e"]), "split"]) == {"val"}
    assert any("5 of 100 annotated frames have no picture" in line for line in table.attrs["notes"])
    check(table, MTL, "Aff-Wild2")


def test_one_track_by_either_word(dense):
    root, _ = dense
    one, other = (
        spec(set="aff-wild2", root=str(root), **word)
        for word in ({"track": "va"}, {"tracks": ["va"]})
    )
    assert one == other
    pd.testing.assert_frame_equal(load_set(one, [VA]), load_set(other, [VA]))
    assert set(load_set(one, [VA])["video"]) == set("abde")
    with pytest.raises(ValidationError, match="twice"):
        spec(set="aff-wild2", root=str(root), tracks=["va", "va"])
    with pytest.raises(ValidationError):
        spec(set="aff-wild2", root=str(root), tracks=["va"], track="au")
    with pytest.raises(ValidationError):
        spec(set="aff-wild2", root=str(root))


def test_a_video_is_in_one_split_and_films_as_official(dense):
    root, _ = dense
    notes = root / "Third ABAW Annotations"
    dense_file(notes, "au", "Train_Set", "a", [",".join(["1"] * 12)] * 20)
    (notes / "EXPR_Classification_Challenge/Train_Set/c.txt").rename(
        notes / "EXPR_Classification_Challenge/Train_Set/d_left.txt"
    )
    (notes / "VA_Estimation_Challenge/Validation_Set/d.txt").unlink()
    (notes / "AU_Detection_Challenge/Train_Set/b.txt").rename(
        notes / "AU_Detection_Challenge/Validation_Set/b.txt"
    )
    (root / "cropped_aligned" / "c").rename(root / "cropped_aligned" / "d_left")
    settings = {"set": "aff-wild2", "root": str(root), "tracks": ["va", "expr", "au"]}
    official = load_set(spec(**settings), MTL)
    assert {"a", "d_left"} <= set(official.loc[official["split"] == "train", "video"])
    table = load_set(spec(**settings, strict=True), MTL)
    assert set(table.loc[table["split"] == "train", "video"]) == {"a"}
    for loaded in (official, table):
        b = loaded[loaded["video"] == "b"]
        assert set(b["split"]) == {"val"}
        assert b[list(VA.columns)].isna().all(axis=None)
        assert b[list(AU.columns)].notna().any(axis=None)
    check(table, [VA], "Aff-Wild2")
    check(official, [VA], "Aff-Wild2", official=np.ones(len(official), bool))
    with pytest.raises(DataError, match="subject 'd' lies in train and val"):
        check(official, [VA], "Aff-Wild2")
    where = "show another face of a film that is in validation; they"
    assert (
        f"Aff-Wild2: expr: 1 training videos (20 lines) {where} were left out, as strict asks"
        in table.attrs["notes"]
    )
    assert (
        f"Aff-Wild2: expr: 1 training videos (20 lines) {where} stay, as in the official split"
        in official.attrs["notes"]
    )
    same = (
        "Aff-Wild2: va: 1 training videos (20 lines) were left out: another track validates on them"
    )
    assert same in table.attrs["notes"]
    assert same in official.attrs["notes"]


def test_counts_that_are_off_by_one_are_tolerated(dense):
    root, _ = dense
    touch(root / "cropped_aligned", "a/00021.jpg")
    (root / "cropped_aligned/b/00020.jpg").unlink()
    table = load_set(spec(set="aff-wild2", root=str(root), tracks=["va"]), [VA])
    assert len(table) == 4 * 19 - 1
    notes = " ".join(table.attrs["notes"])
    assert "1 videos have one picture more" in notes
    assert "1 videos have one annotation line more" in notes
    touch(root / "cropped_aligned", "a/00022.jpg")
    with pytest.raises(
        DataError, match=r"pictures go on to 00022.jpg, but this video has 20 annotation lines"
    ):
        load_set(spec(set="aff-wild2", root=str(root), tracks=["va"]), [VA])


def test_a_video_without_pictures_is_counted_and_no_picture_at_all_is_refused(dense):
    root, _ = dense
    (root / "cropped_aligned/a").rename(root / "elsewhere")
    table = load_set(spec(set="aff-wild2", root=str(root), tracks=["va"]), [VA])
    assert "1 videos have annotations but no picture" in " ".join(table.attrs["notes"])
    with pytest.raises(DataError, match="none of 80 annotated frames"):
        load_set(spec(set="aff-wild2", root=str(root), tracks=["va"], images="cropped"), [VA])


def test_seven_and_eight_classes_are_not_mixed_up(dense):
    root, _ = dense
    with pytest.raises(DataError, match="set `classes: 8`"):
        load_set(spec(set="aff-wild2", root=str(root), track="expr", classes=7), [ABAW7])
    for path in (root / "Third ABAW Annotations/EXPR_Classification_Challenge").rglob("*.txt"):
        path.write_text(path.read_text().replace(",Other", ""))
    with pytest.raises(DataError, match="set `classes: 7`"):
        load_set(spec(set="aff-wild2", root=str(root), track="expr"), [ABAW7])
    with pytest.raises(
        DataError, match=r"line 9: expression 7 is the 'other' .* data of another year"
    ):
        load_set(spec(set="aff-wild2", root=str(root), track="expr", classes=7), [ABAW7])
    for path in (root / "Third ABAW Annotations/EXPR_Classification_Challenge").rglob("*.txt"):
        path.write_text(path.read_text().replace("\n7\n", "\n-1\n"))
    table = load_set(spec(set="aff-wild2", root=str(root), track="expr", classes=7), [ABAW7])
    assert table[list(ABAW7.columns)].notna().all(axis=1).sum() == 3 * (19 - 1 - 2)
    assert not any("expr.abaw7" in line for line in table.attrs["notes"])


@pytest.mark.parametrize(
    "names",
    [
        ("annotations/VA_Set", "Training_Set"),
        ("VA_Set", "train_set"),
        ("a/b/VA_Estimation_Challenge", "Train_Set"),
    ],
)
def test_track_folders_are_found_where_releases_put_them(tmp_path, names):
    folder, train = names
    write(tmp_path / folder / train / "x.txt", "valence,arousal", "0.5,0.5")
    write(
        tmp_path / folder / "Validation_Set" / "y_right.txt",
        "valence,arousal",
        "0.25,-0.5",
        "-5,-5",
        end="\r\n",
    )
    touch(tmp_path / "cropped_aligned", "x/00001.jpg", "y_right/00001.jpg", "y_right/00002.jpg")
    table = load_set(spec(set="aff-wild2", root=str(tmp_path), track="va"), [VA])
    assert list(zip(table["video"], table["frame"], table["split"], table["subject"], strict=True)) == [
        ("x", 1, "train", "x"), ("y_right", 1, "val", "y"), ("y_right", 2, "val", "y"),
    ]  # fmt: skip
    write(
        tmp_path / folder / ".." / "VA_Estimation_Challenge_" / "Train_Set" / "x.txt",
        "valence,arousal",
        "0.5,0.5",
    )
    (tmp_path / folder / ".." / "VA_Estimation_Challenge_").rename(
        tmp_path
        / folder
        / ".."
        / ("VA_SET" if "Challenge" in folder else "VA_Estimation_Challenge")
    )
    with pytest.raises(DataError, match="give the folder of one year"):
        load_set(spec(set="aff-wild2", root=str(tmp_path), track="va"), [VA])


@pytest.mark.parametrize(("lines", "said"), [
    (["valence,arousal", "0.1,0.2", "0.1"], "line 3 is '0.1', not 2 numbers"),
    (["valence,arousal", "0.1,0.2", "", "0.1,0.2"], "line 3 is ''"),
    (["valence,arousal", "0.1,0.2", "0.1,1.2"], "line 3: valence or arousal is 1.2"), (["0.1,0.2", "0.1,0.2"], "line 1 is '0.1,0.2'"),
    (["valence,arousal", "0.1,b"], "line 2 is '0.1,b'"), ([EIGHT, "1"], "line 1 is 'Neutral"), ([], "the file is empty"),
])  # fmt: skip
def test_damaged_dense_files_are_told(dense, lines, said):
    root, _ = dense
    path = root / "Third ABAW Annotations/VA_Estimation_Challenge/Train_Set/a.txt"
    write(path, *lines)
    with pytest.raises(DataError, match=re.escape(said)) as error:
        load_set(spec(set="aff-wild2", root=str(root), track="va"), [VA])
    assert str(path) in str(error.value)


def test_absent_tracks_are_told(dense, mtl):
    root, _ = dense
    with pytest.raises(DataError, match="no such folder"):
        load_set(spec(set="aff-wild2", root=str(root / "gone"), track="va"), [VA])
    with pytest.raises(DataError, match="no folder au_set or"):
        load_set(spec(set="aff-wild2", root=str(root / "cropped_aligned"), track="au"), [AU])
    extra = root / "Third ABAW Annotations/VA_Estimation_Challenge/Validation_Set/a.txt"
    write(extra, "valence,arousal", "0.1,0.2")
    with pytest.raises(DataError, match="the video lies in"):
        load_set(spec(set="aff-wild2", root=str(root), track="va"), [VA])


# --- learning from synthetic data ------------------------------------------------------------------------------------------

CLASSES = {
    "ANGRER": "anger",
    "disgust": "disgust",
    "Fear": "fear",
    "HAPPINESS": "happiness",
    "SADNESS": "sadness",
    "SURPRISE": "surprise",
}


@pytest.fixture
def lsd(tmp_path):
    for i, name in enumerate(CLASSES):
        touch(
            tmp_path / "training_set_synthetic_images" / name, *(f"{k}.jpg" for k in range(i + 2))
        )
        touch(
            tmp_path / "validation_set_real_images" / name.upper().replace("ANGRER", "ANGER"),
            *(f"{k}.jpg" for k in range(3)),
            ".DS_Store",
        )
    touch(tmp_path / "lsd_test_data", *(f"{k}.jpg" for k in range(4)))
    return tmp_path


def test_synthetic_classes_by_any_spelling(lsd):
    table = load_set(spec(set="lsd", root=str(lsd)), [LSD6])
    counts = table[list(LSD6.columns)].groupby(table["split"]).sum()
    assert counts.loc["train"].tolist() == [i + 2 for i in range(6)]
    assert counts.loc["val"].tolist() == [3] * 6
    assert all(CLASSES.get(image.split("/")[-2], image.split("/")[-2].lower()) == name[5:] for name in LSD6.columns
               for image in table.loc[table[name] == 1, "image"])  # fmt: skip
    assert any("was left out, as its list" in line for line in table.attrs["notes"])
    check(table, [LSD6], "LSD")
    write(lsd / "LSD_Challenge_test_set_release.txt", "image,expression", "3.jpg", "0.jpg", "3.jpg")
    table = load_set(spec(set="lsd", root=str(lsd)), [LSD6])
    assert [image.split("/")[-1] for image in table.query("split == 'test'")["image"]] == [
        "3.jpg",
        "0.jpg",
    ]
    assert table.query("split == 'test'")[list(LSD6.columns)].isna().all(axis=None)
    check(table, [LSD6], "LSD")
    (lsd / "lsd_test_data/3.jpg").unlink()
    with pytest.raises(
        DataError, match=r"1 of 2 listed pictures are not there, the first is 3.jpg"
    ):
        load_set(spec(set="lsd", root=str(lsd)), [LSD6])


def test_larger_training_pictures_stand_in(lsd, tmp_path_factory):
    large = tmp_path_factory.mktemp("large")
    for i, name in enumerate(CLASSES):
        touch(large / name, *(f"{k}.png" if k % 2 else f"{k}_out.jpg" for k in range(i + 2)))
    given = spec(set="lsd", root=str(lsd), train=str(large))
    table = load_set(given, [LSD6])
    train = table[table["split"] == "train"]
    assert len(train) == sum(i + 2 for i in range(6))
    assert train["image"].str.startswith(str(large)).all()
    assert large in places(given)
    touch(large / "Fear", "77.png")
    with pytest.raises(
        DataError, match=r"has 1 pictures that are not of .* in fear, the first is 77"
    ):
        load_set(given, [LSD6])
    (large / "Fear/77.png").unlink()
    touch(large / "Fear", "0.png")
    with pytest.raises(DataError, match="has 1 pictures twice"):
        load_set(given, [LSD6])
    (large / "Fear/0.png").unlink()
    (large / "Fear/1.png").unlink()
    with pytest.raises(DataError, match="lacks 1 pictures of"):
        load_set(given, [LSD6])


def test_other_layouts_than_lsd_are_told(lsd):
    touch(lsd / "validation_set_real_images", "NEUTRAL/1.jpg")
    with pytest.raises(DataError, match="NEUTRAL"):
        load_set(spec(set="lsd", root=str(lsd)), [LSD6])
    (lsd / "validation_set_real_images/NEUTRAL").rename(lsd / "gone")
    touch(lsd / "validation_set_real_images", "angere/1.jpg")
    with pytest.raises(DataError, match="a second folder of anger"):
        load_set(spec(set="lsd", root=str(lsd)), [LSD6])
    (lsd / "validation_set_real_images/angere").rename(lsd / "gone too")
    (lsd / "validation_set_real_images/FEAR").rename(lsd / "fear")
    with pytest.raises(DataError, match="no folder of fear"):
        load_set(spec(set="lsd", root=str(lsd)), [LSD6])
    with pytest.raises(DataError, match="no such folder"):
        load_set(spec(set="lsd", root=str(lsd / "gone")), [LSD6])
    (lsd / "validation_set_real_images/FEAR").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        load_set(spec(set="lsd", root=str(lsd)), [LSD6])


# --- C-EXPR-DB -------------------------------------------------------------------------------------------------------------

CE_HEADER = "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,Angrily_Surprised,Sadly_Fearful,Sadly_Angry"


@pytest.fixture
def ce(tmp_path):
    write(
        tmp_path / "CER.txt",
        CE_HEADER,
        *(f"{video}/{k:05d}.jpg," for video in ("01", "02") for k in range(1, 8)),
        "02/00007.jpg,",
    )
    write(tmp_path / "readme.txt", "not a list")
    touch(
        tmp_path / "cropped_aligned",
        *(f"01/{k:04d}.png" for k in range(1, 8)),
        *(f"02/{k:05d}.jpg" for k in range(1, 6)),
        "02/notes.db",
    )
    return tmp_path


def test_compound_frames_in_order_and_what_has_a_picture(ce):
    assert listed_frames(ce)["image"].tolist() == [
        *(f"{video}/{k:05d}.jpg" for video in ("01", "02") for k in range(1, 8)),
        "02/00007.jpg",
    ]
    table = load_set(spec(set="c-expr-db", root=str(ce)), [CE])
    assert table["image"].tolist() == [*(f"{ce}/cropped_aligned/01/{k:04d}.png" for k in range(1, 8)),
                                       *(f"{ce}/cropped_aligned/02/{k:05d}.jpg" for k in range(1, 6))]  # fmt: skip
    assert set(table["split"]) == {"test"}
    assert table[list(CE.columns)].isna().all(axis=None)
    assert any("2 of 14 listed frames have no picture" in line for line in table.attrs["notes"])
    check(table, [CE], "C-EXPR-DB")


def test_ones_own_compound_labels(ce):
    write(
        ce / "mine.csv",
        CE_HEADER,
        *(f"{video}/{k:05d}.jpg,{k - 1}" for video in ("01", "02") for k in range(1, 5)),
        "01/00005.jpg,-1",
        "02/00007.jpg,6",
    )
    cut = {"by": "video", "shares": {"train": 0.5, "val": 0.5}, "seed": 0}
    table = load_set(
        spec(set="c-expr-db", root=str(ce), labels=str(ce / "mine.csv"), split=cut), [CE]
    )
    given = table.dropna(subset=list(CE.columns))
    assert given["frame"].tolist() == [1, 2, 3, 4] * 2
    assert [list(COMPOUNDS)[k] for k in labels(given, CE).argmax(axis=1)] == list(COMPOUNDS)[:4] * 2
    assert table.groupby("video")["split"].nunique().max() == 1
    for line, said in (
        ("01/00001.jpg,7", "line 1 is not"),
        ("01/00001.jpg", "line 1 is not"),
        ("03/00001.jpg,1", "not in the list"),
    ):
        write(ce / "mine.csv", line)
        with pytest.raises(DataError, match=said):
            load_set(spec(set="c-expr-db", root=str(ce), labels=str(ce / "mine.csv")), [CE])
    write(ce / "mine.csv", "01/00001.jpg,1", "01/00001.jpg,2")
    with pytest.raises(DataError, match="comes twice"):
        load_set(spec(set="c-expr-db", root=str(ce), labels=str(ce / "mine.csv")), [CE])


def test_compound_folders_that_are_not(ce):
    with pytest.raises(DataError, match="extract the frames"):
        load_set(spec(set="c-expr-db", root=str(ce), images="frames"), [CE])
    touch(ce / "cropped_aligned", "01/00001.jpg")
    with pytest.raises(DataError, match="second picture of that frame"):
        load_set(spec(set="c-expr-db", root=str(ce)), [CE])
    write(ce / "copy.txt", CE_HEADER, "01/00001.jpg,")
    with pytest.raises(DataError, match="are both lists"):
        listed_frames(ce)
    with pytest.raises(DataError, match=r"no \.txt is the list"):
        listed_frames(ce / "cropped_aligned")


# --- AffectNet -------------------------------------------------------------------------------------------------------------

NATIVE = ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"]


def landmarks(k):
    return np.random.default_rng(k).uniform(0, 224, (68, 2)).round(2)


@pytest.mark.parametrize("text", [False, True])
def test_affectnet_files(tmp_path, text):
    rows = [(code, -2.0 if code > 8 else 0.1 * code, -0.25) for code in range(11)]
    for split, offset in (("train_set", 0), ("val_set", 50)):
        for k, row in enumerate(rows):
            touch(tmp_path / split / "images", f"{offset + k}.jpg")
            (tmp_path / split / "annotations").mkdir(exist_ok=True)
            for kind, value in zip(("exp", "val", "aro"), row, strict=True):
                np.save(
                    tmp_path / split / "annotations" / f"{offset + k}_{kind}.npy",
                    str(value) if text else value,
                )
            if k % 2 == 0:
                np.save(
                    tmp_path / split / "annotations" / f"{offset + k}_lnd.npy", landmarks(k).ravel()
                )
    table = load_set(spec(set="affectnet", root=str(tmp_path)), [AFFECT8, VA])
    assert table["split"].value_counts().to_dict() == {"train": 9, "val": 9}
    assert any("4 pictures have no expression" in line for line in table.attrs["notes"])
    for row in range(len(table)):
        name = table["image"].iloc[row]
        code = int(name.split("/")[-1][:-4]) % 50
        shares = labels(table.iloc[[row]], AFFECT8)[0]
        assert (
            np.isnan(shares).all() if code == 8 else AFFECT8.names[shares.argmax()] == NATIVE[code]
        )
        np.testing.assert_allclose(labels(table.iloc[[row]], VA)[0], [0.1 * code, -0.25], rtol=1e-6)
        points = table["points"].iloc[row]
        assert (points is None) == (code % 2 == 1)
        if points is not None:
            at = landmarks(code)
            expected = [at[36:42].mean(axis=0), at[42:48].mean(axis=0), at[30], at[48], at[54]]
            np.testing.assert_allclose(points, np.ravel(expected), rtol=1e-5)
    check(table, [VA], "AffectNet")


def test_damaged_affectnet_files_are_told(tmp_path):
    for split in ("train_set", "val_set"):
        touch(tmp_path / split / "images", "1.jpg")
        (tmp_path / split / "annotations").mkdir()
        for kind in ("exp", "val", "aro"):
            np.save(tmp_path / split / "annotations" / f"1_{kind}.npy", 0.5 if kind != "exp" else 1)
    given, folder = spec(set="affectnet", root=str(tmp_path)), tmp_path / "train_set/annotations"
    assert len(load_set(given, [VA])) == 2
    for value, said in (
        (np.zeros(3), "shape"),
        (np.array("one"), "could not convert"),
        (np.array([None]), "type object"),
    ):
        np.save(folder / "1_val.npy", value, allow_pickle=True)
        with pytest.raises(DataError, match=said):
            load_set(given, [VA])
    (folder / "1_val.npy").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"1_val.npy: not 1 number as NumPy"):
        load_set(given, [VA])
    np.save(folder / "1_val.npy", 1.5)
    with pytest.raises(DataError, match="1: its valence or arousal"):
        load_set(given, [VA])
    (folder / "1_val.npy").unlink()
    with pytest.raises(DataError, match=r"1 of 1 pictures have no _val.npy"):
        load_set(given, [VA])
    np.save(folder / "1_val.npy", 0.5)
    (tmp_path / "val_set/images/1.jpg").unlink()
    with pytest.raises(DataError, match=r"the first is val_set/images/1.jpg"):
        load_set(given, [VA])
    write(tmp_path / "training.csv", "x")
    write(tmp_path / "validation.csv", "x")
    with pytest.raises(DataError, match="holds both"):
        load_set(given, [VA])
    with pytest.raises(DataError, match="holds neither"):
        load_set(spec(set="affectnet", root=str(folder)), [VA])


CSV_HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


def affectnet_row(k, code, va=(0.5, -0.5), points=True):
    written = ";".join(f"{x:.2f}" for x in landmarks(k).ravel()) if points else ""
    return f"{k % 3}/{k}.JPG,10,11,100,101,{written},{code},{va[0]},{va[1]}"


@pytest.mark.parametrize(
    ("below", "headed"), [("", False), ("Manually_Annotated_file_lists", True)]
)
def test_affectnet_csv_with_and_without_a_header(tmp_path, below, headed):
    rows = [affectnet_row(k, k, (-2, -2) if k > 7 else (0.5, -0.5), k != 4) for k in range(11)]
    write(tmp_path / below / "training.csv", CSV_HEADER, *rows)
    write(
        tmp_path / below / "validation.csv",
        *[CSV_HEADER][: int(headed)],
        *(affectnet_row(20 + k, k) for k in range(8)),
    )
    touch(
        tmp_path / "Manually_Annotated_Images",
        *(f"{k % 3}/{k}.JPG" for k in [*range(8), *range(20, 28)]),
    )
    table = load_set(spec(set="affectnet", root=str(tmp_path)), [AFFECT8, VA])
    assert table["split"].tolist() == ["train"] * 8 + ["val"] * 8
    assert [AFFECT8.names[k] for k in labels(table, AFFECT8).argmax(axis=1)] == NATIVE * 2
    assert table["points"].isna().tolist() == [k == 4 for k in range(16)]
    at = landmarks(1)
    np.testing.assert_allclose(
        table["points"].iloc[1],
        np.ravel([at[36:42].mean(0), at[42:48].mean(0), at[30], at[48], at[54]]),
        rtol=1e-5,
    )
    check(table, [AFFECT8, VA], "AffectNet")
    abaw = load_set(spec(set="affectnet", root=str(tmp_path)), [ABAW7])
    assert [ABAW7.names[k] for k in labels(abaw, ABAW7)[:7].argmax(axis=1)] == NATIVE[:7]
    assert any(
        "2 faces show what expr.abaw7 has no name for" in line for line in abaw.attrs["notes"]
    )


@pytest.mark.parametrize(("line", "said"), [
    (affectnet_row(1, 11), "line 2: its expression is not 0 to 10"), (affectnet_row(1, 1, (0.5, 3)), "line 2: its valence"),
    (affectnet_row(1, 1).replace(";", ";;", 1), "line 2: 137 numbers"), (affectnet_row(1, "x"), "invalid value 'x'"),
    (affectnet_row(1, 1) + ",5", "Expected 9 columns"), (affectnet_row(1, 1, ("", 0)), "line 2: its valence"),
])  # fmt: skip
def test_damaged_affectnet_csv_is_told(tmp_path, line, said):
    write(tmp_path / "training.csv", CSV_HEADER, line)
    write(tmp_path / "validation.csv", affectnet_row(2, 2))
    touch(tmp_path / "Manually_Annotated_Images", "1/1.JPG", "2/2.JPG")
    with pytest.raises(DataError, match=re.escape(said)) as error:
        load_set(spec(set="affectnet", root=str(tmp_path)), [AFFECT8])
    assert str(tmp_path / "training.csv") in str(error.value)


def test_the_image_left_comes_first():
    """A face in the layout of 300-W: jaw 0-16, brows, nose 27-35, eyes 36-47 from left to right, mouth 48-67."""
    points = np.zeros((1, 68, 2), np.float32)
    points[0, 36:42], points[0, 42:48], points[0, 30], points[0, 48], points[0, 54] = (
        (30, 40),
        (70, 40),
        (50, 60),
        (35, 80),
        (65, 80),
    )
    assert five_of_68(points).tolist() == [[30, 40, 70, 40, 50, 60, 35, 80, 65, 80]]


# --- RAF-DB ----------------------------------------------------------------------------------------------------------------

RAF = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]


@pytest.mark.parametrize(
    "name", ["EmoLabel/list_patition_label.txt", "basic/EmoLabel/list_partition_label.txt"]
)
def test_raf_db(tmp_path, name):
    rows = [f"train_{k:05d}.jpg {k % 7 + 1}" for k in range(1, 36)] + [
        f"test_{k:04d}.jpg {k % 7 + 1}" for k in range(1, 15)
    ]
    write(tmp_path / name, *rows)
    base = (tmp_path / name).parents[1] / "Image/aligned"
    touch(base, *(row.split(".")[0] + "_aligned.jpg" for row in rows))
    table = load_set(spec(set="raf-db", root=str(tmp_path)), [ABAW7])
    assert [ABAW7.names[k] for k in labels(table, ABAW7).argmax(axis=1)] == [
        RAF[int(row.split()[1]) - 1] for row in rows
    ]
    assert table["split"].tolist() == ["train"] * 35 + ["test"] * 14
    check(table, [ABAW7], "RAF-DB")
    cut = load_set(spec(set="raf-db", root=str(tmp_path), val_share=0.2, seed=1), [ABAW7])
    assert cut["split"].value_counts().to_dict() == {"train": 28, "val": 7, "test": 14}
    assert set(cut["image"]) == set(table["image"])
    pd.testing.assert_frame_equal(
        cut, load_set(spec(set="raf-db", root=str(tmp_path), val_share=0.2, seed=1), [ABAW7])
    )
    assert not cut.equals(
        load_set(spec(set="raf-db", root=str(tmp_path), val_share=0.2, seed=2), [ABAW7])
    )
    for line, said in (
        ("train_00001.jpg 8", "line 36 is"),
        ("val_00001.jpg 1", "line 36 is"),
        ("train_00099.jpg 1", "train_00099_aligned.jpg"),
    ):
        write(tmp_path / name, *rows[:35], line)
        with pytest.raises(DataError, match=said):
            load_set(spec(set="raf-db", root=str(tmp_path)), [ABAW7])
    with pytest.raises(DataError, match="holds no EmoLabel"):
        load_set(spec(set="raf-db", root=str(base)), [ABAW7])


# --- settings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [
    ("s-aff-wild2", "s-Aff-Wild2"), ("aff-wild2", "Aff-Wild2"), ("lsd", "LSD"),
    ("c-expr-db", "C-EXPR-DB"), ("affectnet", "AffectNet"), ("raf-db", "RAF-DB"),
])  # fmt: skip
def test_settings_are_strict_named_and_come_back_as_written(tmp_path, kind, name):
    given = spec(set=kind, root=str(tmp_path), **({"track": "va"} if kind == "aff-wild2" else {}))
    assert set_name(given) == name
    assert places(given)[0] == tmp_path
    assert SPEC.validate_json(SPEC.dump_json(given)) == given
    with pytest.raises(ValidationError, match=r"[Ee]xtra inputs"):
        spec(set=kind, root=str(tmp_path), track="va", rooot="x")
    with pytest.raises(ValidationError):
        spec(set=kind)


def test_tasks_that_a_set_lacks_are_empty(mtl):
    root, _ = mtl
    table = load_set(spec(set="s-aff-wild2", root=str(root)), [VA, CE])
    assert table[list(CE.columns)].isna().all(axis=None)


@pytest.mark.parametrize("kind", ["str", "object"])
def test_folders_are_listed_as_if_every_file_was_asked_for(tmp_path, monkeypatch, kind):
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/c/1.jpg", "3.jpg")
    (tmp_path / "a/4.jpg").mkdir()
    (tmp_path / "b").joinpath(b"\xff.jpg".decode("utf-8", "surrogateescape")).touch()
    monkeypatch.chdir(tmp_path)
    names = [
        "a/1.jpg",
        "a/3.jpg",
        "3.jpg",
        "4.jpg",
        "b/c/1.jpg",
        "b/1.jpg",
        "gone/1.jpg",
        "a/1.jpg",
        "./a/2.jpg",
        f"{tmp_path}/a/2.jpg",
    ]
    assert absent(pd.Series(names, dtype=kind)).tolist() == [
        not (tmp_path / name).exists() for name in names
    ]
    assert absent(pd.Series([], dtype=kind)).tolist() == []
