"""Submission files: what is written, read back by plain Python, and every kind of damage, found exactly."""

import codecs
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from mien.cli import app
from mien.data.frame_lists import named_frames, read_list
from mien.data.submissions.check import EXAMPLES, KINDS, check, guess
from mien.data.submissions.formats import FORMATS, format_named, markdown, video_lengths
from mien.data.submissions.write import write
from mien.errors import DataError, OutputError, UnknownNameError
from mien.protocols import PROTOCOLS

EIGHT = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
TWELVE = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
MTL = "image,valence,arousal,expression,aus"
EMI = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
# A second time, by hand: header, fields below it without the name, a file per video.
BY_HAND = {
    "abaw2021.expr": ("Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise", 1, True),
    "abaw2021.va": ("valence,arousal", 2, True),
    "abaw2022.expr": (EIGHT, 1, True),
    "abaw2022.va": ("valence,arousal", 2, True),
    "abaw2022.au": (TWELVE, 12, True),
    "abaw2022.mtl": (MTL, 15, False),
    "abaw2022.lsd": ("image,expression", 1, False),
    **{f"abaw{year}.expr": (f"image_location,{EIGHT}", 1, False) for year in (2023, 2024, 2025)},
    **{f"abaw{year}.va": ("image_location,valence,arousal", 2, False) for year in (2023, 2024)},
    **{f"abaw{year}.au": (f"image_location,{TWELVE}", 12, False) for year in (2023, 2024)},
    "abaw2024.ce": (
        "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,Angrily_Surprised,"
        "Sadly_Fearful,Sadly_Angry", 1, False,
    ),
    "abaw2024.mtl": (MTL, 15, False),
    "abaw2024.emi": (EMI, 6, False),
    "abaw2025.emi": (EMI, 6, False),
    "abaw2025.ah": ("", 1, False),
    "abaw2026.ah": ("", 3, False),
}  # fmt: skip
DISTINCT = {form.rules: name for name, form in reversed(FORMATS.items())}.values()
every_format = pytest.mark.parametrize("name", FORMATS)


def in_a_folder(name):
    return BY_HAND[name][2]


def official(name):
    """A list in the challenge's own way of naming; two rows come twice where that can be."""
    form = FORMATS[name]
    if not form.frames:
        names = (
            [f"{i}.jpg" for i in range(9)]
            if name.endswith("lsd")
            else [f"{i:05d}" for i in range(9)]
        )
    elif name.endswith("ah"):
        names = [f"p1/1/{video}.mp4/frame-{i}.jpg" for video in "ab" for i in range(6)]
    else:
        names = [f"{video}/{i:05d}.jpg" for video in ("v1", "v2_left", "10") for i in range(1, 7)]
    return table(names if in_a_folder(name) else [*names, names[2], names[5]])


def table(names):
    return named_frames(pa.array(names))


def scored(name, listed, seed=0):
    """Random scores of every image, in another order."""
    rng = np.random.default_rng(seed)
    images = listed["image"].unique()
    made = {}
    for task in FORMATS[name].tasks:
        values = (
            rng.random((len(images), len(task.names))) * (task.high - task.low) * 1.0 + task.low
        )
        if task.kind == "one_of":
            values /= values.sum(axis=1, keepdims=True)
        made |= dict(zip(task.columns, values.T, strict=True))
    return pd.DataFrame({"image": images, **made}).sample(
        frac=1, random_state=seed, ignore_index=True
    )


def home(name, folder):
    return folder / ("sub" if in_a_folder(name) else "sub.txt")


def made(name, folder, listed=None):
    listed = official(name) if listed is None else listed
    path = home(name, folder)
    write(name, listed, scored(name, listed), path)
    return path


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A sound submission of every format, to be copied."""
    folder = tmp_path_factory.mktemp("sound")
    for name in FORMATS:
        (folder / name).mkdir()
        made(name, folder / name)
    return folder


@pytest.fixture
def fresh(sound, tmp_path):
    """Puts a sound submission of a format into the test's folder."""

    def copy(name, folder=tmp_path):
        path, source = home(name, folder), home(name, sound / name)
        return Path(
            shutil.copytree(source, path, dirs_exist_ok=True)
            if source.is_dir()
            else shutil.copy(source, path)
        )

    return copy


def one_file(name, path):
    """The file to damage."""
    return path / FORMATS[name].folder / "v1.txt" if in_a_folder(name) else path


def found(path, name, listed=None):
    return {
        defect.kind: defect.count
        for defect in check(path, name, official(name) if listed is None else listed)
    }


def numbers(name, path, listed):
    """All values of a submission (N, K), in the order of the list, read by plain Python."""
    form, rows = FORMATS[name], []
    if in_a_folder(name):
        for video in dict.fromkeys(listed["video"]):
            head, *lines = (path / form.folder / f"{video}.txt").read_text().splitlines()
            assert head == BY_HAND[name][0]
            rows += [line.split(",") for line in lines]
    else:
        lines = path.read_text().splitlines()
        if BY_HAND[name][0]:
            assert lines.pop(0) == BY_HAND[name][0]
        assert [line.split(",")[0] for line in lines] == listed["image"].tolist()
        rows = [line.split(",")[1:] for line in lines]
    assert {len(row) for row in rows} == {BY_HAND[name][1]}
    return np.array(rows, float)


def decided(name, scores, listed, threshold=0.5):
    """What the values should be where every image has scores, image by image."""
    by_image = scores.set_index("image")
    columns = []
    for task in FORMATS[name].tasks:
        values = np.array(
            [by_image.loc[image, list(task.columns)].to_numpy(float) for image in listed["image"]]
        )
        if FORMATS[name].chances:
            yes = np.round(values, 4)
            columns.append(np.hstack([np.round(1 - yes, 4), yes]))
        if task.kind == "one_of":
            columns.append(
                [[float(max(range(len(row)), key=row.__getitem__))] for row in values.tolist()]
            )
        else:
            columns.append(
                np.round(values, 6)
                if task.kind == "scalar"
                else (values >= threshold).astype(float)
            )
    return np.hstack(columns)


def test_the_table_is_the_one_written_by_hand():
    assert set(FORMATS) == set(BY_HAND)
    for name, form in FORMATS.items():
        assert (form.name, form.header, len(form.fields), form.folder is not None) == (
            name,
            *BY_HAND[name],
        )
        assert name in PROTOCOLS or name == "abaw2025.ah"
        if name in PROTOCOLS:
            assert {term.task for term in PROTOCOLS[name].terms} == set(form.keys)
        example = table([form.listed])
        assert not form.frames or (example["video"][0] and example["frame"][0] >= 0)
    assert [len(FORMATS[n].fields) + 1 for n in ("abaw2022.mtl", "abaw2024.mtl")] == [16, 16]
    with pytest.raises(
        UnknownNameError, match=r"no submission format named 'abaw2024.eri'; did you mean abaw2024"
    ):
        format_named("abaw2024.eri")


@every_format
def test_written_read_back_and_found_sound(name, tmp_path):
    listed = official(name)
    path = made(name, tmp_path, listed)
    np.testing.assert_array_equal(
        numbers(name, path, listed), decided(name, scored(name, listed), listed)
    )
    assert check(path, name, listed) == []
    leftovers = [p.name for p in tmp_path.rglob("*.part")]
    assert not leftovers
    if BY_HAND[name][0]:
        assert FORMATS[guess(path)].rules == FORMATS[name].rules
        assert guess(path) <= name
    else:
        with pytest.raises(DataError, match="no header of a known format; name the format"):
            guess(path)


@every_format
def test_what_was_not_measured_lies_on_the_line_between(name, tmp_path):
    listed = official(name)
    scores = scored(name, listed)
    if not FORMATS[name].frames:
        with pytest.raises(
            DataError, match=r"1 of 11 listed rows have no .* score, such as .*(3\.jpg|00003)"
        ):
            write(
                name,
                listed,
                scores[~scores["image"].isin([listed["image"][3]])],
                tmp_path / "sub.txt",
            )
        assert list(tmp_path.iterdir()) == []
        return
    first = listed[["image", "video", "frame"]].drop_duplicates()
    rank = first.groupby("video").cumcount()
    lost = set(first["image"][rank.isin([0, 2, 3, 5])])
    whole = first.merge(scores, on="image")
    columns = whole.columns[3:]
    for video in whole["video"].unique():
        rows = whole["video"] == video
        known = rows & ~whole["image"].isin(lost)
        for column in columns:
            line = np.interp(
                whole.loc[rows, "frame"], whole.loc[known, "frame"], whole.loc[known, column]
            )
            whole.loc[rows, column] = line
    path = tmp_path / ("sub" if in_a_folder(name) else "sub.txt")
    kept = scores[~scores["image"].isin(lost)]
    result = write(name, listed, kept, path)
    assert (result.rows, result.filled, result.unlisted) == (
        len(listed),
        int(listed["image"].isin(lost).sum()),
        (),
    )
    np.testing.assert_allclose(
        numbers(name, path, listed), decided(name, whole, listed), atol=1.01e-6
    )
    assert check(path, name, listed) == []


def test_a_gap_of_four_goes_a_quarter_a_time_the_right_way(tmp_path):
    listed = table([f"a/{i:05d}.jpg" for i in range(1, 8)])
    scores = pd.DataFrame(
        {"image": ["a/00006.jpg", "a/00002.jpg"], "valence": [1.0, 0.0], "arousal": [-1.0, 0.0]}
    )
    write("abaw2023.va", listed, scores, tmp_path / "s.txt")
    valence = [line.split(",")[1] for line in (tmp_path / "s.txt").read_text().splitlines()[1:]]
    assert valence == [
        "0.000000",
        "0.000000",
        "0.250000",
        "0.500000",
        "0.750000",
        "1.000000",
        "1.000000",
    ]


def test_values_are_clipped_and_minus_nought_is_nought(tmp_path):
    listed = table(["a/00001.jpg", "a/00002.jpg"])
    scores = pd.DataFrame(
        {"image": listed["image"], "valence": [1.7, -1e-9], "arousal": [-3.0, 0.1234567]}
    )
    write("abaw2024.va", listed, scores, tmp_path / "s.txt")
    assert (tmp_path / "s.txt").read_text().splitlines()[1:] == [
        "a/00001.jpg,1.000000,-1.000000",
        "a/00002.jpg,0.000000,0.123457",
    ]


def test_thresholds_one_or_one_per_unit(tmp_path):
    listed = official("abaw2024.au")
    scores = scored("abaw2024.au", listed)
    each = np.linspace(0.1, 0.9, 12).tolist()
    for threshold in (0.3, each):
        write("abaw2024.au", listed, scores, tmp_path / "s.txt", thresholds={"au": threshold})
        expected = decided("abaw2024.au", scores, listed, np.array(threshold))
        np.testing.assert_array_equal(numbers("abaw2024.au", tmp_path / "s.txt", listed), expected)
    with pytest.raises(
        ValueError, match=r"takes one threshold for au, or 12; got the shape \(3,\)"
    ):
        write("abaw2024.au", listed, scores, tmp_path / "s.txt", thresholds={"au": [0.1, 0.2, 0.3]})
    with pytest.raises(ValueError, match=r"abaw2024\.va has no units of the family 'au'"):
        write("abaw2024.va", listed, scores, tmp_path / "s.txt", thresholds={"au": 0.5})


def test_tasks_are_filled_each_on_its_own(tmp_path):
    listed = table([f"a/{i:05d}.jpg" for i in range(1, 4)])
    scores = scored("abaw2024.mtl", listed)
    scores = scores.sort_values("image", ignore_index=True)
    scores.loc[1, ["valence", "arousal"]] = np.nan
    result = write("abaw2024.mtl", listed, scores, tmp_path / "s.txt")
    got = numbers("abaw2024.mtl", tmp_path / "s.txt", listed)
    assert result.filled == 1
    np.testing.assert_allclose(got[1, :2], got[[0, 2], :2].mean(axis=0), atol=1.01e-6)
    assert (
        got[1, 2]
        == scores.loc[1, list(FORMATS["abaw2024.mtl"].tasks[1].columns)].to_numpy(float).argmax()
    )
    scores.loc[1, "valence"] = 0.5
    with pytest.raises(DataError, match="leave the whole row NaN"):
        write("abaw2024.mtl", listed, scores, tmp_path / "s.txt")


VA = "abaw2023.va"


def refused(tmp_path, change, match, error=DataError, name=VA):
    listed = official(name)
    scores = change(scored(name, listed))
    path = tmp_path / "s.txt"
    path.write_text("of before")
    with pytest.raises(error, match=match):
        write(name, listed, scores, path)
    assert path.read_text() == "of before"
    assert len(list(tmp_path.iterdir())) == 1


def test_scores_that_cannot_be_written_leave_the_old_file(tmp_path):
    refused(
        tmp_path,
        lambda s: s[~s["image"].str.startswith("v2")],
        r"video 'v2_left' has no measured frame of va \(1 of 3 videos\)",
    )
    refused(tmp_path, lambda s: s.drop(columns="arousal"), "needs the column arousal")
    refused(tmp_path, lambda s: s.assign(arousal=np.inf), "infinite in 18 of 18 rows")
    refused(
        tmp_path,
        lambda s: s.assign(image=s["image"].str.replace(".jpg", ".png")),
        r"18 scores are of images that are not listed, such",
    )
    refused(
        tmp_path,
        lambda s: pd.concat([s, s.head(2).assign(valence=0.123)]),
        "is scored twice, with different",
    )
    refused(
        tmp_path,
        lambda s: s.assign(image=s["image"].where(s.index > 1)),
        "2 rows of the scores name no image",
    )
    refused(
        tmp_path,
        lambda s: s.assign(AU04=1.5),
        r"au.abaw12 reach outside 0..1; .*Task.decode",
        name="abaw2023.au",
    )
    with pytest.raises(DataError, match="the official list names no row"):
        write(VA, official(VA).head(0), scored(VA, official(VA)), tmp_path / "s.txt")
    with pytest.raises(OutputError, match="create the folder first"):
        write(VA, official(VA), scored(VA, official(VA)), tmp_path / "none" / "s.txt")


def test_images_scored_twice_alike_count_once_and_unlisted_ones_are_named(tmp_path):
    listed = official(VA)
    scores = scored(VA, listed)
    more = pd.concat(
        [scores, scores.head(3), scores.head(2).assign(image=["v1/00099.jpg", "x/1.jpg"])]
    )
    result = write(VA, listed, more, tmp_path / "s.txt")
    assert (result.filled, result.unlisted) == (0, ("v1/00099.jpg", "x/1.jpg"))
    np.testing.assert_array_equal(
        numbers(VA, tmp_path / "s.txt", listed), decided(VA, scores, listed)
    )


def test_a_folder_holds_nothing_else_and_lines_are_frames(tmp_path):
    name = "abaw2022.va"
    path = made(name, tmp_path)
    made(name, tmp_path)
    (path / "notes.md").write_text("mine")
    with pytest.raises(
        OutputError, match=r"holds 'notes\.md', which is no file of this submission"
    ):
        made(name, tmp_path)
    assert found(path, name) == {"surplus file": 1}
    listed = official(name)
    for wrong in (
        listed.drop(index=3),
        listed.iloc[::-1],
        table(["v1", "v2"]),
        table(["v1/00000.jpg", "v1/00001.jpg"]),
    ):
        with pytest.raises(DataError, match="line k of a video's file must be frame k"):
            write(name, wrong, scored(name, listed), tmp_path / "other")
        with pytest.raises(DataError, match="line k"):
            check(path, name, wrong)
    mixed = listed.iloc[np.argsort(listed["frame"], kind="stable")]
    assert video_lengths(mixed) == {"v1": 6, "v2_left": 6, "10": 6}
    write(name, mixed, scored(name, listed), tmp_path / "mixed")
    for video in ("v1", "v2_left", "10"):
        assert (tmp_path / "mixed" / f"{video}.txt").read_text() == (
            path / f"{video}.txt"
        ).read_text()


def last(line, text):
    return ",".join([*line.split(",")[:-1], text])


def beyond(name):
    field = FORMATS[name].fields[-1]
    return str(int(field.high) + 1) if field.whole else "1.5"


# What is done to the lines of answers (no header), and what must be found: in a named file, in a file per video.
DAMAGES = {
    "missing": (lambda rows, name: rows[:3] + rows[4:], {"missing row": 1}, None),
    "last missing": (lambda rows, name: rows[:-1], {"missing row": 1}, None),
    "doubled": (
        lambda rows, name: [*rows[:3], rows[3], *rows[3:]],
        {"doubled row": 1},
        {"surplus row": 1},
    ),
    "doubled at the end": (
        lambda rows, name: [*rows, rows[0]],
        {"doubled row": 1},
        {"surplus row": 1},
    ),
    "thrice": (
        lambda rows, name: [*rows, rows[0], rows[0]],
        {"doubled row": 2},
        {"surplus row": 2},
    ),
    "unknown": (
        lambda rows, name: [*rows, "zz/00001.jpg" + rows[0][rows[0].index(",") :]],
        {"surplus row": 1},
        {},
    ),
    "swapped": (lambda rows, name: [rows[1], rows[0], *rows[2:]], {"reordered row": 2}, {}),
    "reversed": (lambda rows, name: rows[::-1], {"reordered row"}, {}),
    "too many fields": (lambda rows, name: [rows[0] + ",0,0", *rows[1:]], {"field count": 1}, None),
    "one field too many": (
        lambda rows, name: [rows[0] + ",0", *rows[1:]],
        {"field count": 1},
        None,
    ),
    "a field short": (
        lambda rows, name: [rows[0].rpartition(",")[0], *rows[1:]],
        {"field count": 1},
        None,
    ),
    "trailing comma": (lambda rows, name: [row + "," for row in rows], {"trailing comma"}, None),
    "empty": (lambda rows, name: [last(rows[0], ""), *rows[1:]], {"empty field": 1}, None),
    "nan": (lambda rows, name: [last(rows[0], "nan"), *rows[1:]], {"NaN": 1}, None),
    "infinite": (lambda rows, name: [last(rows[0], "-inf"), *rows[1:]], {"NaN": 1}, None),
    "beyond": (
        lambda rows, name: [last(rows[0], beyond(name)), *rows[1:]],
        {"out of range": 1},
        None,
    ),
    "below": (lambda rows, name: [last(rows[0], "-5"), *rows[1:]], {"out of range": 1}, None),
    "text": (lambda rows, name: [last(rows[0], "happy"), *rows[1:]], {"no number": 1}, None),
    "blanks": (lambda rows, name: [last(rows[0], " 0"), *rows[1:]], {"no number": 1}, None),
    "underscore": (lambda rows, name: [last(rows[0], "0_0"), *rows[1:]], {"no number": 1}, None),
    "blank line": (lambda rows, name: [rows[0], "", *rows[1:], " "], {"blank line": 2}, None),
    "nothing": (lambda rows, name: [], {"missing row"}, None),
}


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found_and_nothing_else(name, damage, fresh):
    change, expected, alone = DAMAGES[damage]
    path = fresh(name)
    file = one_file(name, path)
    head, rows = (
        ([BY_HAND[name][0]], file.read_text().splitlines()[1:])
        if BY_HAND[name][0]
        else ([], file.read_text().splitlines())
    )
    if in_a_folder(name):
        if damage == "unknown":
            return
        if BY_HAND[name][1] == 1 and damage in {"a field short", "empty"}:
            change, expected, alone = (
                (lambda rows, name: ["", *rows[1:]]),
                None,
                {"blank line": 1, "missing row": 1},
            )
        expected = expected if alone is None else alone
    elif damage == "a field short" and BY_HAND[name][1] == 1:
        expected = {"field count": 1}
    file.write_text("".join(f"{line}\n" for line in [*head, *change(rows, name)]))
    got = found(path, name)
    assert (set(got) if isinstance(expected, set) else got) == expected
    assert [*got] == sorted(got, key=KINDS.index)


@every_format
def test_classes_and_units_are_whole_numbers(name, fresh):
    if not FORMATS[name].fields[-1].whole:
        return
    for text in ("0.0", "1.", "0.5", "+1", "00", "1e0"):
        path = fresh(name)
        file = one_file(name, path)
        lines = file.read_text().splitlines()
        lines[2] = last(lines[2], text) if "," in lines[2] else text
        file.write_text("\n".join(lines))
        (defect,) = check(path, name, official(name))
        assert (defect.kind, defect.count) == ("no whole number", 1)
        assert (
            f"line 3: {FORMATS[name].fields[-1].name} is '{text}', allowed 0 to"
            in defect.examples[0]
        )


@every_format
def test_encodings_and_headers(name, fresh):
    path = fresh(name)
    file, listed = one_file(name, path), official(name)
    whole = file.read_bytes()
    count = whole.count(b"\n")
    head, _, rest = whole.partition(b"\n")
    cases = {
        codecs.BOM_UTF8 + whole: {"byte-order mark": 1},
        whole.replace(b"\n", b"\r\n"): {"line ends": count},
        whole.decode().encode("utf-16"): {"encoding": 1},
        whole + b"\xff": {"encoding": 1},
        whole[:-1]: {},
    }
    if BY_HAND[name][0]:
        cases |= {
            head.lower().replace(b",", b", ") + b"\n" + rest: {"header": 1},
            rest: {"header": 1},
        }
    else:
        cases |= {b"image_location,valence,arousal\n" + whole: {"header": 1}}
    for content, expected in cases.items():
        file.write_bytes(content)
        assert found(path, name, listed) == expected


@pytest.mark.parametrize("name", [name for name in FORMATS if in_a_folder(name)])
def test_files_and_layout_of_a_submission_per_video(name, fresh, tmp_path):
    path, folder = fresh(name), FORMATS[name].folder
    place = path / folder
    (place / "10.txt").rename(place / "10.csv")
    assert [(d.kind, d.examples) for d in check(path, name, official(name))] == [
        ("missing file", ("10.txt",)), ("surplus file", ("10.csv is no video of the list with .txt",)),
    ]  # fmt: skip
    (place / "10.csv").unlink()
    (place / "10.txt").mkdir()
    assert found(path, name) == {"missing file": 1}
    (tmp_path / "other").mkdir()
    flat = fresh(name, tmp_path / "other") / folder
    assert found(flat, name) == ({"layout": 1} if folder else {})
    assert found(flat / "v1.txt", name) == {"layout": 1}
    with pytest.raises(DataError, match="there is no such file or folder"):
        check(tmp_path / "none", name, official(name))


def test_a_file_of_another_year_or_track_is_told_apart(tmp_path):
    """Every submission checked as every format, on one list: sound exactly where the rules are the same."""
    listed = official("abaw2022.va")
    paths = {}
    for name in FORMATS:
        (tmp_path / name).mkdir()
        paths[name] = made(name, tmp_path / name, listed)
    for own in FORMATS:
        for other in FORMATS:
            same = BY_HAND[own] == BY_HAND[other] and FORMATS[own].folder == FORMATS[other].folder
            assert (found(paths[own], other, listed) == {}) == same, (own, other)
    told = check(paths["abaw2022.expr"], "abaw2022.va", listed)[0]
    assert told.examples[0].endswith(
        f"line 1: expected valence,arousal; found '{EIGHT}', that of abaw2022.expr"
    )


def test_class_seven_in_a_format_of_seven_classes(fresh):
    for name, classes in (
        ("abaw2021.expr", 7),
        ("abaw2024.ce", 7),
        ("abaw2022.lsd", 6),
        ("abaw2023.expr", 8),
    ):
        path = fresh(name)
        file = one_file(name, path)
        lines = file.read_text().splitlines()
        lines[4] = last(lines[4], "7") if "," in lines[4] else "7"
        file.write_text("\n".join(lines))
        defects = check(path, name, official(name))
        assert [d.count for d in defects] == ([] if classes == 8 else [1])
        for defect in defects:
            field = FORMATS[name].fields[0].name
            assert defect.examples[0].endswith(
                f"line 5: {field} is '7', allowed 0 to {classes - 1}"
            )


def test_several_defects_at_once_are_counted_each(tmp_path):
    name = "abaw2023.expr"
    listed = table([f"a/{i:05d}.jpg" for i in range(1, 101)])
    path = made(name, tmp_path, listed)
    head, *rows = path.read_text().splitlines()
    rows[10:20] = []  # missing 11 to 20
    rows[30], rows[31] = rows[31], rows[30]
    rows[50] += ",1"
    rows += ["zz/1.jpg,0", rows[0], rows[1]]
    for at in range(60, 67):
        rows[at] = last(rows[at], "8")
    path.write_text("\n".join([head, *rows]))
    defects = {d.kind: d for d in check(path, name, listed)}
    assert {k: d.count for k, d in defects.items()} == {
        "field count": 1, "out of range": 7, "missing row": 10, "surplus row": 1, "doubled row": 2, "reordered row": 2,
    }  # fmt: skip
    assert defects["field count"].examples == ("line 52: 3 fields, expected 2",)
    assert defects["missing row"].examples[0] == "a/00011.jpg, row 11 of the list"
    assert len(defects["out of range"].examples) == EXAMPLES
    assert defects["doubled row"].examples[1] == "line 94: a/00002.jpg was answered before"
    assert defects["reordered row"].examples[0] == "line 32: a/00042.jpg, expected a/00041.jpg"
    assert defects["surplus row"].examples == ("line 92: zz/1.jpg is not listed",)


def test_a_row_listed_twice_must_come_twice(tmp_path):
    listed = official("abaw2024.mtl")
    path = made("abaw2024.mtl", tmp_path, listed)
    lines = path.read_text().splitlines()
    assert lines[-1] == lines[6]
    path.write_text("\n".join(lines[:-2]))
    (defect,) = check(path, "abaw2024.mtl", listed)
    assert (defect.kind, defect.count) == ("missing row", 2)
    assert defect.examples == (
        "v1/00003.jpg, row 19 of the list",
        "v1/00006.jpg, row 20 of the list",
    )


def test_two_layouts_at_once_are_ambiguous(tmp_path):
    path = made("abaw2022.va", tmp_path)
    (path / "VA_Set").mkdir()
    (path / "VA_Set" / "v1.txt").write_text("valence,arousal\n")
    with pytest.raises(DataError, match=r"could be abaw2021.va or abaw2022.va; name the format"):
        guess(path)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(
            DataError, match=r"there is no such file or folder|no header of a known format"
        ):
            guess(missing)


def run(*arguments):
    return CliRunner().invoke(app, ["submit", *(str(argument) for argument in arguments)])


def test_the_command(tmp_path):
    name = "abaw2024.va"
    listed = tmp_path / "list.txt"
    listed.write_text(
        "image_location,valence,arousal\n" + "".join(f"a/{i:05d}.jpg,0\n" for i in range(1, 41))
    )
    path = made(name, tmp_path, read_list(listed))
    clean = run("check", path, "--list", listed)
    assert clean.exit_code == 0
    assert clean.stdout == f"{path}: 40 rows, no defect (abaw2023.va)\n"
    assert (
        "no defect (abaw2024.va)" in run("check", path, "--list", listed, "--format", name).stdout
    )
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *rows[8:]]))
    broken = run("check", path, "--list", listed)
    assert broken.exit_code == 1
    assert broken.stdout.splitlines() == [
        *(f"missing row: a/{i:05d}.jpg, row {i} of the list" for i in range(1, 6)), "missing row: and 3 more",
    ]  # fmt: skip
    assert "is not a sound abaw2023.va submission: missing row 8" in broken.stderr.replace("\n", "")
    assert run("check", path, "--list", listed, "--format", "abaw2024.vaa").exit_code == 2
    assert run("check", path, "--list", tmp_path / "none").exit_code == 1
    path.write_text("a/00001.jpg,0,0\n")
    assert run("check", path, "--list", listed).exit_code == 1


def test_the_formats_are_listed():
    shown = run("formats").stdout
    for name, (header, _, _) in BY_HAND.items():
        assert name in shown
        assert header in shown
    assert "no header; Frames count from 0." in shown


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "docs" / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    page = (ROOT / "docs" / "reference" / "submissions.md").read_text(encoding="utf-8")
    assert page == make.submissions_page(), "run python docs/make.py"
    assert all(line in page.splitlines() for line in markdown())
    assert all(f"`{kind}`" in page for kind in KINDS)
