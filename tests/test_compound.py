"""Compound expressions from videos: every face is read once, every formula is the paper's, and the official list is answered row by row."""

import os
import shutil
from fractions import Fraction
from functools import cache
from itertools import pairwise

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score

import mien
from mien.analysis.reader import Options, Reader
from mien.errors import (
    BundleError,
    DataError,
    LabelMismatchError,
    OutputError,
    SourceError,
    UnknownNameError,
)
from mien.evaluation.nested_tuning import COMPOUND_COUNTS
from mien.outputs.tables import frame_of
from mien.recipes.compounds import faces_in_videos
from mien.recipes.compounds.compound import (
    compound_labels,
    expression_scores,
    face_compounds,
    frame_compounds,
    listed_compounds,
)
from mien.recipes.compounds.faces_in_videos import read_faces
from mien.recipes.compounds.variants import Variant, best_variant, variant_scores, variants
from mien.sources import open_source
from mien.systems.compounds import AGGREGATIONS, BASES, supervised_compounds, zero_shot_compounds
from mien.tasks import COMPOUNDS, MEANS, TASKS, compound_scores

HSE8, BASIC = TASKS["expr.affectnet8"].names, TASKS["expr.lsd6"].names
# Places in the alphabetical eight, as the paper's tables have them.
PAIRS = [(3, 7), (4, 7), (6, 7), (2, 7), (0, 7), (6, 3), (6, 0)]
CE = list(TASKS["ce.abaw7"].columns)


def shares(rows, names=HSE8, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(len(names), 0.7), size=rows)


# -- a face ----------------------------------------------------------------------------------------------------------


FORMULAS = {
    "arithmetic": lambda a, b: 0.5 * a + 0.5 * b,
    "geometric": lambda a, b: np.exp((np.log(a) + np.log(b)) / 2),
    "harmonic": lambda a, b: 1 / ((1 / a + 1 / b) / 2),
}


@pytest.mark.parametrize("mean", MEANS)
def test_each_compound_is_a_mean_of_its_two_parts(mean):
    eight = shares(50)
    expected = np.stack([FORMULAS[mean](eight[:, a], eight[:, b]) for a, b in PAIRS], axis=1)
    np.testing.assert_allclose(zero_shot_compounds(eight, HSE8, mean), expected, rtol=1e-12)


@pytest.mark.parametrize("mean", MEANS)
def test_names_decide_not_places(mean):
    eight = shares(20)
    order = np.random.default_rng(1).permutation(8)
    shuffled = tuple(HSE8[i] for i in order)
    np.testing.assert_array_equal(
        zero_shot_compounds(eight[:, order], shuffled, mean), zero_shot_compounds(eight, HSE8, mean)
    )


@pytest.mark.parametrize(
    ("mean", "one_part"), [("arithmetic", 0.5), ("geometric", 0), ("harmonic", 0)]
)
def test_one_part_alone(mean, one_part):
    only = compound_scores(np.array([[0, 0, 0, 0, 1, 0, 0, 0]], np.float32), HSE8, mean)
    np.testing.assert_array_equal(only, [[0, one_part, 0, 0, 0, 0, 0]])
    assert only.dtype == np.float32


def test_the_basic_six_can_be_taken_alone():
    logits = np.random.default_rng(2).normal(size=(30, 8))
    odds = np.exp(logits)
    six = np.delete(odds, [1, 5], axis=1)  # contempt, neutral
    alone = six / six.sum(axis=1, keepdims=True)
    found = zero_shot_compounds(odds / odds.sum(axis=1, keepdims=True), HSE8, basis="basic")
    places = [[p - (p > 1) - (p > 5) for p in pair] for pair in PAIRS]
    np.testing.assert_allclose(
        found, np.stack([(alone[:, a] + alone[:, b]) / 2 for a, b in places], axis=1), rtol=1e-12
    )
    neutral = np.eye(8)[[HSE8.index("neutral")]]
    assert zero_shot_compounds(neutral, HSE8, basis="basic").tolist() == [[0.0] * 7]


def test_supervised_scores_are_decoded_once():
    raw = np.random.default_rng(3).normal(size=(40, 6)) * 3
    places = [[BASIC.index(part) for part in pair] for pair in COMPOUNDS.values()]
    softmax = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    sigmoid = 1 / (1 + np.exp(-raw))
    for kind, once in (("one_of", softmax), ("any_of", sigmoid)):
        for mean in MEANS:
            expected = np.stack([FORMULAS[mean](once[:, a], once[:, b]) for a, b in places], axis=1)
            np.testing.assert_allclose(
                supervised_compounds(once, BASIC, kind, mean), expected, rtol=1e-9
            )
    twice = np.zeros((40, 8))
    twice[:, [HSE8.index(name) for name in BASIC]] = softmax
    twice = np.exp(twice) / np.exp(twice).sum(axis=1, keepdims=True)
    with pytest.raises(DataError, match="40 of 40 rows do not sum to 1"):
        supervised_compounds(twice[:, [HSE8.index(name) for name in BASIC]], BASIC, "one_of")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: zero_shot_compounds(shares(2), HSE8, "cubic"),
            UnknownNameError,
            "no mean named 'cubic'",
        ),
        (
            lambda: zero_shot_compounds(shares(2), HSE8, basis="some"),
            UnknownNameError,
            "no basis named 'some'",
        ),
        (lambda: zero_shot_compounds(shares(2, BASIC[1:]), BASIC[1:]), LabelMismatchError, "anger"),
        (lambda: zero_shot_compounds(shares(2) - 0.5, HSE8), DataError, "Task.decode"),
        (lambda: zero_shot_compounds(shares(2) * np.nan, HSE8), DataError, "Task.decode"),
        (lambda: zero_shot_compounds(shares(2)[:, :7], HSE8), DataError, r"must be \(N, 8\)"),
        (
            lambda: supervised_compounds(shares(2), HSE8, "one_of"),
            LabelMismatchError,
            "nothing else",
        ),
        (
            lambda: supervised_compounds(shares(2, BASIC), BASIC, "scalar"),
            UnknownNameError,
            "no kind named 'scalar'",
        ),
    ],
)
def test_what_is_no_probability_of_the_right_classes_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


# -- a frame ---------------------------------------------------------------------------------------------------------


def faces_of(frames, seed=0, names=HSE8):
    """A table as `read_faces` gives it: frames = {video: {frame: number of faces}}."""
    rows = [
        (video, frame, k)
        for video, each in frames.items()
        for frame, count in each.items()
        for k in range(count)
    ]
    table = pd.DataFrame(rows, columns=["video", "frame", "face"])
    return table.assign(
        **dict(
            zip([f"expr_{name}" for name in names], shares(len(rows), names, seed).T, strict=True)
        )
    )


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_faces_of_a_frame_become_one_row(aggregation):
    faces = faces_of({"02": {7: 3, 9: 1}, "01": {1: 2}}).sample(frac=1, random_state=0)
    scores = face_compounds(faces)
    table = frame_compounds(faces, scores, aggregation)
    assert table[["video", "frame"]].to_numpy().tolist() == [["01", 1], ["02", 7], ["02", 9]]
    for i, (video, frame) in enumerate([("01", 1), ("02", 7), ("02", 9)]):
        here = ((faces["video"] == video) & (faces["frame"] == frame)).to_numpy()
        mine, number = scores[here], faces["face"].to_numpy()[here]
        expected = {
            "max": mine.max(axis=0),
            "mean": mine.mean(axis=0),
            "largest": mine[number == 0][0],
        }[aggregation]
        np.testing.assert_allclose(table.loc[i, CE].to_numpy(float), expected, rtol=1e-12)


def test_an_unknown_aggregation_names_the_known():
    faces = faces_of({"01": {1: 1}})
    with pytest.raises(UnknownNameError, match="no aggregation named 'first'"):
        frame_compounds(faces, face_compounds(faces), "first")


# -- the official list -----------------------------------------------------------------------------------------------


def listed(**frames):
    """frames = {video: last frame of the list}."""
    rows = [
        (f"{video}/{n:05}.jpg", video, n)
        for video, last in frames.items()
        for n in range(1, last + 1)
    ]
    return pd.DataFrame(rows, columns=["image", "video", "frame"])


def test_a_list_that_is_one_frame_off_is_answered_row_by_row():
    faces = faces_of(
        {"long": dict.fromkeys((1, 2, 3, 4), 1), "short": dict.fromkeys((1, 2, 3, 4), 1)}
    )
    lines = listed(long=5, short=3).iloc[::-1].reset_index(drop=True)
    told = []
    variant_scores(faces, lines, Variant(), told.append)
    scores = variant_scores(faces, lines, Variant())
    assert told == [
        "1 of 8 listed frames have no face",
        "1 frames with a face are not on the list and were left out",
    ]
    own = {
        (video, frame): row
        for video, frame, row in zip(
            faces["video"], faces["frame"], face_compounds(faces), strict=True
        )
    }
    own["long", 5] = own["long", 4]  # held
    expected = [
        own[video, frame] for video, frame in zip(lines["video"], lines["frame"], strict=True)
    ]
    assert scores.shape == (8, 7)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_gaps_are_filled_on_the_straight_line_and_held_at_the_ends():
    faces = faces_of({"01": {3: 1, 7: 1}})
    scores, lines = face_compounds(faces), listed(**{"01": 9})
    found = variant_scores(faces, lines, Variant())
    expected = np.stack(
        [np.interp(np.arange(1, 10), [3, 7], scores[:, k]) for k in range(7)], axis=1
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_smoothing_is_a_box_over_filled_frames_or_a_gaussian_over_measured_ones():
    seen = [1, 2, 3, 6, 7, 20, 21, 23]
    faces = faces_of({"01": dict.fromkeys(seen, 1), "02": {2: 1}})
    scores, lines = face_compounds(faces)[: len(seen)], listed(**{"01": 24, "02": 3})
    times = np.arange(1, 25)
    filled = np.stack([np.interp(times, seen, scores[:, k]) for k in range(7)], axis=1)
    box = variant_scores(faces, lines, Variant(window=3))
    bell = variant_scores(faces, lines, Variant(window=4, sigma=5.0))
    for i, t in enumerate(times):
        np.testing.assert_allclose(box[i], filled[abs(times - t) <= 3].mean(axis=0), rtol=1e-9)
        near = [
            (np.exp(-((t - s) ** 2) / 5.0), row)
            for s, row in zip(seen, scores, strict=True)
            if abs(t - s) <= 4
        ]
        mean = sum(w * row for w, row in near) / sum(w for w, _ in near) if near else filled[i]
        np.testing.assert_allclose(bell[i], mean, rtol=1e-9)
    assert (
        13 in times[[not any(abs(t - s) <= 4 for s in seen) for t in times]]
    )  # the case without a measured frame in reach was there


def test_a_video_without_a_face_is_named_and_gets_the_most_frequent_compound():
    faces, lines, told = faces_of({"01": {1: 1, 2: 1}}), listed(**{"01": 2, "02": 3}), []
    frames = frame_compounds(faces, face_compounds(faces))
    assert np.isnan(listed_compounds(frames, lines, told.append)[2:]).all()
    assert told == [
        "3 of 5 listed frames have no face",
        "no face in any listed frame of 1 videos: 02",
    ]
    for variant in (Variant(), Variant(window=2), Variant(window=2, sigma=3.0)):
        scores = variant_scores(faces, lines, variant)
        assert np.isnan(scores[2:]).all()
        assert not np.isnan(scores[:2]).any()
        assert compound_labels(scores).tolist() == [*scores[:2].argmax(axis=1), 1, 1, 1]
    assert TASKS["ce.abaw7"].names[1] == "happily_surprised"


def test_a_list_of_other_videos_is_refused():
    faces = faces_of({"01": {1: 1}})
    with pytest.raises(
        DataError, match="the list names the videos 'a', and faces were read in '01'"
    ):
        variant_scores(faces, listed(a=2), Variant())


def test_rows_that_come_twice_are_answered_twice():
    faces, lines = faces_of({"01": {1: 1, 2: 1}}), listed(**{"01": 2})
    twice = pd.concat([lines, lines], ignore_index=True)
    scores = variant_scores(faces, twice, Variant())
    np.testing.assert_array_equal(scores[:2], scores[2:])


# -- which way -------------------------------------------------------------------------------------------------------


def many(videos=6, frames=40):
    rng = np.random.default_rng(5)
    seen = {
        f"{v:02}": {n: int(rng.integers(1, 3)) for n in range(1, frames + 1) if rng.random() < 0.8}
        for v in range(videos)
    }
    return faces_of(seen), listed(**dict.fromkeys(seen, frames))


def test_variants_are_ordered_by_their_divergence_from_the_published_frequencies():
    faces, lines = many()
    done = []
    table = variants(
        faces,
        lines,
        smoothings=[(0, None), (2, None), (2, 3.0)],
        progress=lambda *at: done.append(at),
    )
    assert (
        len(table)
        == len(MEANS) * len(BASES) * len(AGGREGATIONS) * 3
        == len(table.drop_duplicates(["mean", "basis", "aggregation", "window", "sigma"]))
    )
    assert done == [(n, len(table)) for n in range(1, len(table) + 1)]
    assert "f1" not in table
    assert all(a <= b for a, b in pairwise(table["kl"]))
    p = np.array(COMPOUND_COUNTS) / sum(COMPOUND_COUNTS)
    assert p.round(3).tolist() == [0.160, 0.276, 0.119, 0.118, 0.117, 0.112, 0.098]
    for i in (0, 20, len(table) - 1):
        chosen = compound_labels(variant_scores(faces, lines, best_variant(table.iloc[i:])))
        q = np.array([(chosen == k).mean() for k in range(7)])
        expected = np.sum(p * np.log(p / q)) if q.all() else np.inf
        assert table["kl"][i] == pytest.approx(expected)


def test_with_labels_the_best_is_the_one_with_the_highest_f1():
    faces, lines = many()
    truth = compound_labels(
        variant_scores(faces, lines, Variant("geometric", "basic", "mean", 2))
    ).astype(float)
    truth[::9] = np.nan
    table = variants(faces, lines, smoothings=[(0, None), (2, None)], labels=truth)
    best = best_variant(table)
    assert (best.basis, best.aggregation, best.window, best.sigma) == ("basic", "mean", 2, None)
    assert table["f1"][0] == 1
    chosen = compound_labels(variant_scores(faces, lines, best_variant(table.iloc[7:])))
    seen = ~np.isnan(truth)
    assert table["f1"][7] == pytest.approx(
        f1_score(truth[seen], chosen[seen], average="macro", labels=range(7), zero_division=0)
    )


# -- videos ----------------------------------------------------------------------------------------------------------


def write_video(path, pictures):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "15"})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for n, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module", autouse=True)
def one_reader():
    """The networks are loaded once for this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faces_in_videos._Reader, "of", cache(faces_in_videos._Reader.of))
        yield


@pytest.fixture(scope="module")
def scene(face):
    """Pictures (256, 512, 3) by what is in them; the small face is to the left."""
    large, grey = face[:256, 96:352], np.full((256, 256, 3), 90, np.uint8)
    small = grey.copy()
    small[64:192, 64:192] = large[::2, ::2]
    return {
        "two": np.hstack([small, large]),
        "large": np.hstack([grey, large]),
        "none": np.hstack([grey, grey]),
    }


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    """Two videos, one of which shows nobody, and a broken one."""
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "01.mp4", [scene[what] for what in ("two", "two", "none", "large", "large")])
    write_video(root / "02.mp4", [scene["none"]] * 3)
    (root / "03.mp4").write_bytes((root / "01.mp4").read_bytes()[:600])
    (root / "readme.txt").write_text("no video")
    return root


@pytest.fixture(scope="module")
def read(folder, tmp_path_factory):
    """What is read of them, where it is kept, and what is told."""
    out, told = tmp_path_factory.mktemp("faces"), []
    return read_faces(folder, out, "mien-s", note=told.append), out, told


def test_every_face_of_every_frame_is_read_as_in_a_picture_of_its_own(folder, read):
    table = read[0]
    assert table[["video", "frame", "face"]].to_numpy().tolist() == [
        ["01", f, k] for f, k in ((1, 0), (1, 1), (2, 0), (2, 1), (4, 0), (5, 0))
    ]
    reader = Reader(Options())
    for frame in open_source(folder / "01.mp4").frames():
        other = frame_of(list(reader.read(open_source(frame.pixels))), reader.columns()).dropna(
            subset="face"
        )
        other = other.assign(area=other["box_w"] * other["box_h"]).sort_values(
            "area", ascending=False
        )
        mine = table[table["frame"] == frame.index + 1]
        assert len(mine) == len(other)
        names = [name for name in table if name not in ("video", "frame", "face")]
        np.testing.assert_allclose(mine[names], other[names].to_numpy(), atol=1e-4)
    assert list(table.columns[8:16]) == list(TASKS["expr.ferplus8"].columns)
    assert list(table.columns[16:]) == ["valence", "arousal"]
    np.testing.assert_allclose(table.iloc[:, 8:16].sum(axis=1), 1, atol=1e-5)


def test_the_largest_face_comes_first(read):
    first = read[0][read[0]["frame"] == 1]
    assert (first["box_w"] * first["box_h"]).is_monotonic_decreasing
    assert (
        first["box_x"].iloc[0] > 256 > first["box_x"].iloc[1]
    )  # the small one, to the left, is the second


def test_a_damaged_video_and_one_without_a_face_are_named(folder, read):
    assert len(read[2]) == 2
    assert read[2][0] == f"video 02: {folder / '02.mp4'}: no face in any of its frames"
    assert read[2][1].startswith(f"video 03: {folder / '03.mp4'}: ")


def test_only_tables_are_left_on_disk(read):
    (place,) = read[1].iterdir()
    assert place.name.startswith("mien-s-")
    assert sorted(path.name for path in place.iterdir()) == ["01.parquet", "02.parquet"]


def count_reads(monkeypatch):
    opened = []

    def counting(path):
        opened.append(os.path.basename(path))
        return open_source(path)

    monkeypatch.setattr(faces_in_videos, "open_source", counting)
    return opened


def test_what_is_there_is_not_read_again(folder, read, tmp_path, monkeypatch):
    videos, out, told = tmp_path / "videos", tmp_path / "out", []
    shutil.copytree(folder, videos)
    shutil.copytree(read[1], out)
    opened, done = count_reads(monkeypatch), []
    (place,) = out.iterdir()
    (place / "01.parquet").unlink()
    again = read_faces(
        videos, out, "mien-s", note=told.append, progress=lambda *at: done.append(at)
    )
    pd.testing.assert_frame_equal(again, read[0])
    assert opened == ["01.mp4", "03.mp4"]  # a broken one is tried every time
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert told[0] == f"video 02: {videos / '02.mp4'}: no face in any of its frames"  # remembered
    (place / "01.parquet").write_bytes(b"PAR1 torn")
    os.utime(videos / "02.mp4", ns=(1, 1))
    opened.clear()
    pd.testing.assert_frame_equal(read_faces(videos, out, "mien-s"), read[0])
    assert opened == ["01.mp4", "02.mp4", "03.mp4"]


def test_a_killed_run_goes_on(folder, read, tmp_path, monkeypatch):
    calls = []

    def stop(done, total):
        calls.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_faces(folder, tmp_path, "mien-s", progress=stop)
    (place,) = tmp_path.iterdir()
    assert [path.name for path in place.iterdir()] == ["01.parquet"]
    opened = count_reads(monkeypatch)
    pd.testing.assert_frame_equal(read_faces(folder, tmp_path, "mien-s"), read[0])
    assert opened == ["02.mp4", "03.mp4"]


def test_extracted_frames_say_what_the_video_says(folder, read, tmp_path):
    frames = tmp_path / "frames" / "01"
    frames.mkdir(parents=True)
    for frame in open_source(folder / "01.mp4").frames():
        Image.fromarray(frame.pixels).save(frames / f"{frame.index + 1:04}.png")
    table = read_faces(tmp_path / "frames", tmp_path / "out", "mien-s")
    pd.testing.assert_frame_equal(table, read[0])
    (frames / "0002.png").write_bytes(b"no picture")
    (frames / "0005.png").unlink()
    told = []
    table = read_faces(tmp_path / "frames", tmp_path / "out", "mien-s", note=told.append)
    pd.testing.assert_frame_equal(
        table, read[0][read[0]["frame"].isin([1, 3, 4])].reset_index(drop=True)
    )
    assert len(told) == 1
    assert "0002.png" in told[0]
    assert "1 of 4 frames could not be decoded" in told[0]


def test_faces_that_are_cut_out_are_read_whole(face, tmp_path):
    pictures = {
        (1, 0): face[60:190, 160:290],
        (1, 1): face[50:200, 150:300],
        (12, 0): face[60:190, 160:290, ::-1],
    }
    for (frame, k), picture in pictures.items():
        path = tmp_path / "faces" / "01" / f"{frame:04}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(picture)).save(path)
    table = read_faces({"one": tmp_path / "faces" / "01"}, tmp_path / "out", "mien-s")
    assert table[["video", "frame", "face", "box_w"]].to_numpy().tolist() == [
        ["one", 1, 0, 150],
        ["one", 1, 1, 130],
        ["one", 12, 0, 130],
    ]
    assert table[["box_x", "box_y", "confidence"]].isna().all(axis=None)
    crops = [np.ascontiguousarray(pictures[key]) for key in ((1, 1), (1, 0), (12, 0))]
    np.testing.assert_allclose(
        table[list(TASKS["expr.ferplus8"].columns)], mien.load().score(crops)["expr"], atol=1e-6
    )
    assert len(frame_compounds(table, face_compounds(table))) == 2
    (tmp_path / "faces" / "01" / "0012" / "0.png").write_bytes(b"no picture")
    told = []
    assert (
        len(
            read_faces(
                {"one": tmp_path / "faces" / "01"}, tmp_path / "out", "mien-s", note=told.append
            )
        )
        == 2
    )
    assert "1 of 3 pictures cannot be read" in told[0]


def test_bad_input_is_one_clear_line(folder, tmp_path):
    def refused(videos, error, match, bundle="mien-s"):
        with pytest.raises(error, match=match):
            read_faces(videos, tmp_path / "out", bundle)

    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, DataError, "holds no video and no folder")
    refused(tmp_path / "nowhere", DataError, "No such file or directory; give a folder of videos")
    refused({}, DataError, "holds no video")
    refused({"a/b": folder / "01.mp4"}, DataError, "'a/b' cannot name a video")
    refused(
        {"gone": folder / "99.mp4"},
        SourceError,
        "none of the 1 videos can be read.*99.mp4: No such file",
    )
    refused({"03": folder / "03.mp4"}, SourceError, "none of the 1 videos can be read")
    refused({"e": empty}, SourceError, "no picture in this folder")
    refused(folder, UnknownNameError, "no bundle named 'mien-z'", "mien-z")
    refused(folder, BundleError, "cannot read affect", "mien-face")
    (empty / "01").mkdir()
    (empty / "01.mp4").touch()
    refused(empty, DataError, "two videos named 01")
    (empty / "01.mp4").unlink()
    (empty / "01" / "first.png").touch()
    refused(empty, SourceError, "first.png: its name is no number")
    (empty / "01" / "first.png").rename(empty / "01" / "1.png")
    (empty / "01" / "0001.png").touch()
    refused(empty, SourceError, "two of one number")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another"):
        read_faces(folder, tmp_path / "file", "mien-s")


def test_from_videos_to_the_answered_list(folder, read):
    lines = listed(**{"01": 6, "02": 3, "03": 2})
    scores = variant_scores(read[0], lines, Variant(window=1))
    chosen = compound_labels(scores)
    assert chosen.shape == (11,)
    assert set(chosen[:6]) == {1}  # a smile
    assert chosen[6:].tolist() == [1] * 5


def test_unsmoothed_columns_of_a_smoothed_table_are_left_out():
    scores = {"expr_happiness": [0.25], "expr_surprise": [0.75]}
    table = pd.DataFrame({**scores, "expr_happiness_raw": [0.9], "valence": [0.5]})
    values, names = expression_scores(table)
    assert names == ("happiness", "surprise")
    assert values.tolist() == [[0.25, 0.75]]
