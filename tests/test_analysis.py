"""From pixels to readings, end to end, on a real face."""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mien
from mien.bundles.engines import available
from mien.bundles.store import bundles
from mien.errors import LabelMismatchError, UnknownNameError
from mien.records import Status
from mien.sources import open_source

SCORES = ["expr_", "valence", "arousal", "AU", "ce_"]


@pytest.fixture(scope="module")
def read(clip):
    """The table of the film; not to be changed."""
    return mien.analyze(clip).table


def score_columns(table: pd.DataFrame) -> list[str]:
    return [
        name
        for name in table
        if any(name.startswith(part) for part in SCORES) and not name.endswith("_raw")
    ]


def test_a_smile_is_read_as_one(face):
    table = mien.analyze(face).table
    assert table["status"].tolist() == ["ok"]
    row = table.iloc[0]
    assert row["expression"] == "happiness"
    assert row["valence"] > 0.3
    assert row["AU12"] > 0.3
    # The face of this 512x512 portrait is about 110 px wide around (225, 120).
    assert abs(row["box_x"] + row["box_w"] / 2 - 225) < 25
    assert abs(row["box_y"] + row["box_h"] / 2 - 120) < 35


def test_every_frame_has_a_row_and_time_is_the_containers(read):
    assert read["frame"].drop_duplicates().tolist() == list(range(150))
    np.testing.assert_allclose(
        read.groupby("frame")["time_s"].first(), np.arange(150) / 25, atol=1e-3
    )


def test_a_blank_never_looks_like_a_calm_face(read):
    blank = read[read["status"] == Status.no_face]
    assert 40 <= len(blank) <= 60  # the camera looks away around 62 % of the film
    assert blank[[*score_columns(read), "confidence", "expression", "face"]].isna().all(axis=None)
    assert read[read["status"] == Status.ok][score_columns(read)].notna().all(axis=None)


def test_scores_keep_their_ranges(clip):
    table = mien.analyze(clip, compounds=True).table
    read = table[table["status"] == Status.ok]
    for name in score_columns(table):
        low = -1 if name in ("valence", "arousal") else 0
        assert read[name].between(low, 1).all(), name
    shares = read[[name for name in table if name.startswith("expr_")]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    p, q = read["expr_happiness"], read["expr_surprise"]
    np.testing.assert_allclose(read["ce_happily_surprised"], 2 / (1 / p + 1 / q), atol=1e-6)


def test_the_same_input_gives_the_same_numbers(read, clip):
    pd.testing.assert_frame_equal(read, mien.analyze(clip).table)


@pytest.fixture(scope="module")
def reference(clip):
    return mien.analyze(clip, engine="onnxruntime").table


@pytest.mark.parametrize("engine", available())
def test_engines_agree_from_end_to_end(reference, clip, engine):
    table = mien.analyze(clip, engine=engine).table
    assert table["status"].tolist() == reference["status"].tolist()
    np.testing.assert_allclose(
        table[score_columns(table)],
        reference[score_columns(table)],
        atol=mien.load().card.tolerance,
    )


def test_stream_is_lazy_and_agrees_with_the_table(read, clip):
    stream = mien.analyze(clip, stream=True)
    first = next(stream)
    assert (first.frame, first.status) == (0, Status.ok)
    stream.close()
    valence = [
        reading.scores["va"][0] for reading in mien.analyze(clip, stream=True) if reading.face
    ]
    np.testing.assert_allclose(read["valence"].dropna(), valence, atol=1e-6)


def test_leaving_a_stream_early_stops_its_threads(clip):
    import threading

    before = threading.active_count()
    stream = mien.analyze(clip, stream=True)
    next(stream)
    stream.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() == before


def test_smoothing_keeps_the_raw_columns_and_calms_the_rest(read, clip):
    table = mien.analyze(clip, smoothing=0.5).table
    both = table[table["status"] == Status.ok].merge(
        read, on=["frame", "face"], suffixes=("", "_plain")
    )
    np.testing.assert_allclose(both["valence_raw"], both["valence_plain"], atol=1e-6)
    first = table[table["face"] == 0]
    sound = first["status"] == Status.ok
    # Not from a reading that is smoothed to a doubtful one, which is not.
    steps = first[["valence", "valence_raw"]].diff()[sound & sound.shift(fill_value=False)]
    calmer = steps.abs().mean()
    assert calmer["valence"] < 0.7 * calmer["valence_raw"]
    assert list(table).index("valence_raw") > list(table).index("AU45")
    pd.testing.assert_series_equal(table["AU45"], table["AU45_raw"], check_names=False)
    assert not np.allclose(table["AU12"].dropna(), table["AU12_raw"].dropna(), atol=1e-3)


def test_compound_expressions_are_read_when_asked_for_and_need_both_members(face):
    assert not [name for name in mien.analyze(face).table if name.startswith("ce_")]
    table = mien.analyze(face, compounds=True).table
    assert sum(name.startswith("ce_") for name in table) == 7
    assert table.loc[0, "expr_happiness"] > 0.9
    assert table.loc[0, "ce_happily_surprised"] < 0.05


def test_compound_expressions_that_the_bundle_does_not_allow_are_refused(tmp_path):
    other = tmp_path / "own"
    shutil.copytree(bundles()["mien-s"], other)
    card = json.loads((other / "card.json").read_text())
    names = ["worry" if name == "fear" else name for name in card["tasks"][0]["names"]]
    card["tasks"][0] |= {"key": "expr.own8", "names": names}
    (other / "card.json").write_text(json.dumps(card))
    with pytest.raises(
        LabelMismatchError,
        match=r"compound expressions need scores of fear, surprise.*leave compounds out",
    ):
        mien.analyze(np.zeros((64, 64, 3), np.uint8), bundle=other, compounds=True)


def test_blinks_of_a_real_clip_survive_smoothing(shared):
    table = mien.analyze(shared / "media" / "one_face_640x360.mp4", smoothing=0.7, every=0.08).table
    assert (table["AU45"] - table["AU45_raw"]).abs().max() == 0
    smoothed = mien.Smoothing.of_width(0.7)
    table = mien.analyze(
        shared / "media" / "one_face_640x360.mp4", smoothing=replace(smoothed, keep=()), every=0.08
    ).table
    assert (table["AU45"] - table["AU45_raw"]).abs().max() > 0.2


def test_a_number_for_smoothing_is_its_full_width_at_half_maximum():
    smoothing = mien.Options(smoothing=0.15).smoothing
    assert smoothing.fwhm_s == pytest.approx(0.15)
    assert smoothing.weights(np.array([0.075])) == pytest.approx(0.5)


def test_the_dictionary_says_what_its_scores_were_learned_from(face, tmp_path):
    path = mien.analyze(face).save(tmp_path / "a.csv")
    page = json.loads(path.with_suffix(".dictionary.json").read_text())
    told, card = page["bundle"], mien.load("mien-s").card
    tasks = {column["name"]: column["task"] for column in page["columns"]}
    assert "Russell & Mehrabian" in told["learned_from"][tasks["valence"]]
    assert told["learned_from"] == {spec.key: spec.supervised_by for spec in card.tasks}
    assert (
        told["never_right"]["contempt"]
        == "F1 0 on 24 faces, validation split of FER+; intervals over face"
    )
    assert "neutral" not in told["never_right"]
    assert told["limits"] == list(card.limits)
    assert "means of the probabilities" in page["columns"][[*tasks].index("expression")]["meaning"]


def test_a_column_to_keep_that_is_not_there_is_named(face):
    with pytest.raises(UnknownNameError, match="no score column named 'AU54'; did you mean AU45"):
        mien.analyze(face, smoothing=mien.Smoothing(0.1, keep=("AU54",)))


def test_too_wide_a_smoothing_is_a_note_and_no_failure(clip, tmp_path):
    narrow, wide = (
        mien.analyze(clip, smoothing=width_s).save(tmp_path / f"{width_s}.csv")
        for width_s in (0.15, 0.3)
    )
    notes = [
        json.loads(path.with_suffix(".dictionary.json").read_text())["notes"]
        for path in (narrow, wide)
    ]
    assert notes[0] == []
    (note,) = notes[1]
    assert "AU25" in note
    assert "AU45" not in note  # which is not smoothed


def test_smoothing_that_reaches_no_other_frame_is_a_note(clip, tmp_path):
    for every, expected in (
        (0.1, []),
        (
            0.5,
            ["smoothing is 0.15 s wide at half maximum, less than the 0.5 s from frame to frame"],
        ),
    ):
        path = mien.analyze(clip, smoothing=0.15, every=every).save(tmp_path / f"{every}.csv")
        notes = json.loads(path.with_suffix(".dictionary.json").read_text())["notes"]
        assert [note.partition(", and")[0] for note in notes] == expected


def test_every_reads_one_frame_per_span(clip):
    table = mien.analyze(clip, every=0.5).table
    assert table["frame"].drop_duplicates().tolist() == [
        0,
        13,
        25,
        38,
        50,
        63,
        75,
        88,
        100,
        113,
        125,
        138,
    ]


def two_faces(face):
    small = face[::2, ::2]
    return np.hstack([face, np.vstack([small, small * 0])])


@pytest.mark.parametrize(("choice", "count"), [("all", 2), ("largest", 1), (1, 1), (2, 2), (5, 2)])
def test_faces_can_be_chosen(face, choice, count):
    table = mien.analyze(two_faces(face), faces=choice).table
    assert len(table) == count
    assert table["box_w"].max() > 80  # the larger one is always among them


def test_another_network_may_find_the_faces(face, tmp_path):
    other = tmp_path / "shy"
    shutil.copytree(bundles()["mien-face"], other)
    card = json.loads((other / "card.json").read_text())
    card["name"], card["search"]["keep"] = "shy", 0.999  # never sure enough
    (other / "card.json").write_text(json.dumps(card))
    assert mien.analyze(face).table["status"].tolist() == ["ok"]
    assert mien.analyze(face, detector=other).table["status"].tolist() == ["no_face"]
    analysis = mien.analyze(face, detector=other)
    shutil.rmtree(other)
    analysis.save(tmp_path / "table.csv")
    facts = json.loads((tmp_path / "table.dictionary.json").read_text())
    assert facts["faces"]["name"] == "shy"
    assert facts["options"]["detector"] == str(other)


@pytest.mark.parametrize(
    "options", [{"faces": 0}, {"faces": "some"}, {"every": -1}, {"smoothing": -0.1}]
)
def test_wrong_options_are_refused(face, options):
    with pytest.raises(
        ValueError, match=next(iter(options)) if "smoothing" not in options else "seconds"
    ):
        mien.analyze(face, **options)


def test_an_unknown_option_is_an_error(face):
    with pytest.raises(TypeError, match="colour"):
        mien.analyze(face, colour="red")


def test_arrays_and_files_give_the_same_rows(read, clip):
    frames = [(frame.time_s, frame.pixels) for frame in open_source(clip).frames()]
    from_arrays = mien.analyze(frames).table
    pd.testing.assert_frame_equal(from_arrays.drop(columns="source"), read.drop(columns="source"))


def test_frame_and_save_agree(clip, tmp_path):
    analysis = mien.analyze(clip)
    path = analysis.save(tmp_path / "out.csv")
    saved, table = pd.read_csv(path), analysis.table
    assert len(saved) == len(table)
    np.testing.assert_allclose(saved["arousal"], table["arousal"], atol=1e-5)
    assert (tmp_path / "out.dictionary.json").exists()


def test_real_clip_keeps_one_face_throughout(shared):
    table = mien.analyze(shared / "media" / "one_face_640x360.mp4", every=0.2).table
    assert table["status"].isin([Status.ok, Status.doubtful]).all()
    assert table["face"].nunique() == 1


def test_real_group_photo_is_all_found(shared):
    table = mien.analyze(shared / "media" / "multi_face.jpg").table
    assert len(table) >= 4
