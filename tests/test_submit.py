"""Submissions from tables of films, and the score of any submission."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.data.frame_lists import read_list
from mien.data.submissions.check import check
from mien.data.submissions.formats import FORMATS, format_named
from mien.data.submissions.from_tables import listed_scores
from mien.data.submissions.score import score_submission
from mien.data.submissions.write import write
from mien.errors import DataError, UnknownNameError
from mien.metrics import ccc, macro_f1, mean_au_f1
from mien.protocols import PROTOCOLS

RUN = CliRunner()


def faces(form, source, frames, *, x=0.0, size=10.0, seed=0):
    """A table of one face per frame, as mien analyze writes it."""
    draw = np.random.default_rng(seed)
    table = pd.DataFrame({"source": source, "frame": frames, "box_x": x, "box_y": 0.0, "box_w": size, "box_h": size})  # fmt: skip
    for task in form.tasks:
        table[list(task.columns)] = task.decode(draw.normal(size=(len(table), len(task.names))))
    return table


def official(tmp_path, names, header="image,valence,arousal,expression,aus"):
    path = tmp_path / "list.txt"
    path.write_text("\n".join([header, *names]) + "\n")
    return read_list(path)


def test_frames_of_films_answer_listed_frames(tmp_path):
    form = FORMATS["abaw2022.mtl"]
    table = faces(form, "/films/a.mp4", range(6))
    listed = official(tmp_path, [f"a/{k:05d}.jpg" for k in (1, 3, 6)])
    found = listed_scores(form, [table], listed)
    assert found["image"].tolist() == ["a/00001.jpg", "a/00003.jpg", "a/00006.jpg"]
    np.testing.assert_array_equal(found["valence"], table["valence"].iloc[[0, 2, 5]])


def test_a_covered_face_that_lacks_units_is_named_with_the_way_out(tmp_path):
    form = FORMATS["abaw2022.mtl"]
    table = faces(form, "/films/a.mp4", range(6))
    table.loc[2:3, "AU12"] = np.nan
    listed = official(tmp_path, ["a/00001.jpg"])
    with pytest.raises(DataError, match=r"a\.mp4: 2 of 6 rows lack some .* with --no-abstain"):
        listed_scores(form, [table], listed)


def test_the_largest_face_answers_and_sides_are_kept_apart(tmp_path):
    form = FORMATS["abaw2022.mtl"]
    left = faces(form, "two.mp4", range(4), x=0, size=20, seed=1)
    right = faces(form, "two.mp4", [1, 2, 3], x=100, size=30, seed=2)
    table = pd.concat([left, right], ignore_index=True)
    names = [f"two_{side}/{k:05d}.jpg" for side in ("left", "right") for k in (1, 2, 3, 4)]
    found = listed_scores(form, [table], official(tmp_path, names)).set_index("image")
    np.testing.assert_array_equal(found.loc[names[:4], "valence"], left["valence"])
    # In the first frame only the left one is there: the right one has no score of its own.
    assert names[4] not in found.index
    np.testing.assert_array_equal(found.loc[names[5:], "valence"], right["valence"])
    both = listed_scores(form, [table], official(tmp_path, ["two/00001.jpg", "two/00002.jpg"]))
    assert both["valence"].tolist() == [left["valence"].iloc[0], right["valence"].iloc[0]]


def test_photos_answer_by_name(tmp_path):
    form = FORMATS["abaw2022.lsd"]
    tables = [faces(form, f"/test/{k}.jpg", [0], seed=k) for k in range(3)]
    listed = official(tmp_path, ["2.jpg", "0.jpg", "1.jpg"], header="image,expression")
    found = listed_scores(form, [pd.concat(tables)], listed)
    expected = [tables[k]["expr_anger"].iloc[0] for k in (2, 0, 1)]
    assert found["expr_anger"].tolist() == expected


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda table: [table.drop(columns="AU04")], "needs the column AU04"),
        (lambda table: [table.assign(source="other.mp4")], "none of the 2 listed rows"),
        (lambda table: [table, table], "a.mp4: is in two tables"),
    ],
)
def test_wrong_tables_are_named(tmp_path, break_it, message):
    form = FORMATS["abaw2022.mtl"]
    listed = official(tmp_path, ["a/00001.jpg", "a/00002.jpg"])
    with pytest.raises(DataError, match=message):
        listed_scores(form, break_it(faces(form, "a.mp4", range(2))), listed)


def test_a_film_becomes_a_submission_without_defects(tmp_path, clip):
    """A film of which some frames show nobody: every listed frame is answered."""

    out = tmp_path / "tables"
    assert RUN.invoke(app, ["analyze", str(clip), "--out", str(out)]).exit_code == 0
    names = [f"{clip.stem}/{k:05d}.jpg" for k in range(1, 151)]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(["image_location,valence,arousal", *names]) + "\n")
    [table] = out.glob("*.csv")
    target = tmp_path / "sent.txt"
    name = "abaw2024.va"
    done = RUN.invoke(
        app, ["submit", "write", str(table), "--list", str(listed), "--format", name, "--out", str(target)]
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "150 rows" in done.output
    assert "filled from neighbours" in done.output
    assert check(target, name, read_list(listed)) == []
    again = RUN.invoke(
        app, ["submit", "score", str(target), "--labels", str(target), "--protocol", name]
    )
    assert again.exit_code == 0, again.output
    assert again.output.startswith("abaw2024.va: 1.0000")


def test_scores_are_the_formulas(tmp_path):
    """Against the metrics, called directly on what was written; rows without a label count nothing."""
    form = FORMATS["abaw2022.mtl"]
    names = [f"{video}/{k:05d}.jpg" for video in "abc" for k in range(1, 31)]
    listed = official(tmp_path, names)
    tables = [faces(form, f"{video}.mp4", range(30), seed=ord(video)) for video in "abc"]
    sent = tmp_path / "sent.txt"
    write(form.name, listed, listed_scores(form, tables, listed), sent)
    draw = np.random.default_rng(0)
    va, expr = draw.uniform(-1, 1, (90, 2)).round(3), draw.integers(0, 8, 90)
    au = draw.integers(0, 2, (90, 12)).astype(float)
    va[:10], expr[5:20], au[15:40] = -5, -1, -1
    au[50, 3] = -1  # one unit alone
    lines = ["image,valence,arousal,expression,aus"]
    for i, name in enumerate(names):
        lines.append(",".join([name, *map(str, va[i]), str(expr[i]), *(f"{u:.0f}" for u in au[i])]))
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(lines) + "\n")
    found = score_submission(sent, labels, form.name)
    fields = pd.read_csv(sent, header=None, skiprows=1)
    target_va = np.where(va == -5, np.nan, va)
    target_au = np.where(au == -1, np.nan, au)
    expected = (ccc(fields[1], target_va[:, 0]) + ccc(fields[2], target_va[:, 1])) / 2
    expected += macro_f1(fields[3], np.where(expr == -1, np.nan, expr), range(8))
    expected += mean_au_f1(fields.iloc[:, 4:].to_numpy(float), target_au)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low <= found.value <= found.high or np.isclose(found.value, found.high, atol=0.2)
    assert found.rows == 90
    assert set(found.parts) == {term.name for term in PROTOCOLS[form.name].terms}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,valence,arousal,expression,aus\nx/00001.jpg,0.1,0.2,3\n", "fewer than 15 numbers"),
        ("image,valence,arousal,expression,aus\nx/00001.jpg,a,0,0" + ",0" * 12 + "\n", "not the rows of"),
        ("image,valence,arousal,expression,aus\nx/00001.jpg,0,0,0" + ",0" * 12 + "\n", "none of its rows"),
    ],
)  # fmt: skip
def test_wrong_submissions_are_named(tmp_path, content, message):
    sent, labels = tmp_path / "sent.txt", tmp_path / "labels.txt"
    sent.write_text(content)
    labels.write_text(content.split("\n")[0] + "\na/00001.jpg,0,0,0" + ",0" * 12 + "\n")
    with pytest.raises(DataError, match=message):
        score_submission(sent, labels, "abaw2022.mtl")


def test_files_per_video_are_scored_line_by_line(tmp_path):
    names = [name for name, form in FORMATS.items() if form.folder is not None]
    assert names
    form = FORMATS[next(name for name in names if name.endswith(".expr"))]
    for kind in ("sent", "labels"):
        home = tmp_path / kind / form.folder
        home.mkdir(parents=True)
        for video in ("a", "b"):
            classes = [0, 1, 2, -1] if kind == "labels" else [0, 1, 1, 4]
            (home / f"{video}.txt").write_text("\n".join([form.header, *map(str, classes)]) + "\n")
    found = score_submission(tmp_path / "sent", tmp_path / "labels", form.name)
    pred, target = [0, 1, 1] * 2, [0, 1, 2] * 2
    expected = PROTOCOLS[form.name].score({form.keys[0]: pred}, {form.keys[0]: target})
    assert found.value == pytest.approx(expected)
    assert found.rows == 6


AH = "abaw10.ah"
CLIPS = [f"Videos/8{k}/Visite_1/8{k}_Video.mp4" for k in range(6)]


def test_films_are_answered_whole_with_chances_that_sum_to_one(tmp_path):
    form = FORMATS["abaw2026.ah"]
    path = tmp_path / "list.txt"
    # The lists of BAH have a label and a transcript with commas behind each name.
    path.write_text("".join(f"{name},{k % 2},well, I, hm\n" for k, name in enumerate(CLIPS)))
    listed = read_list(path)
    assert listed["image"].tolist() == CLIPS
    tables = [faces(form, f"/films/8{k}_Video.mp4", range(5), seed=k) for k in range(6)]
    scores = listed_scores(form, tables, listed)
    unit = form.tasks[0].columns[0]
    np.testing.assert_allclose(scores[unit], [table[unit].mean() for table in tables])
    write(AH, listed, scores, tmp_path / "trial-1.txt")
    assert check(tmp_path / "trial-1.txt", AH, listed) == []
    rows = [line.split(",") for line in (tmp_path / "trial-1.txt").read_text().splitlines()]
    for (name, no, yes, decision), score, listed_name in zip(
        rows, scores[unit], CLIPS, strict=True
    ):
        assert name == listed_name
        assert float(no) + float(yes) == 1.0
        assert float(yes) == pytest.approx(score, abs=5.1e-5)
        assert decision == str(int(score >= 0.5))
    # Macro-F1 over both classes, by hand.
    truth = np.arange(6) % 2
    pred = (scores[unit] >= 0.5).to_numpy(int)
    halves = []
    for value in (0, 1):
        hits = ((truth == value) & (pred == value)).sum()
        halves.append(2 * hits / max((truth == value).sum() + (pred == value).sum(), 1))
    result = score_submission(tmp_path / "trial-1.txt", path, "abaw2026.ah")
    assert result.value == pytest.approx(np.mean(halves))
    assert (result.rows, result.unanswered) == (6, 0)
    # The short form of a row says the same.
    (tmp_path / "short.txt").write_text("".join(f"{row[0]},{row[3]}\n" for row in rows))
    assert score_submission(tmp_path / "short.txt", path, AH).value == result.value


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a.mp4,1", "a.mp4,0"], "'a.mp4' comes twice"),
        (["a.mp4,1", "b.mp4"], "line 2 has no decision 0 or 1"),
        (["a.mp4,1", "b.mp4,0.2,0.8"], "line 2 has no decision 0 or 1"),
    ],
)
def test_damaged_decisions_of_films_are_refused(tmp_path, lines, says):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=says):
        score_submission(path, path, AH)


def test_chances_that_do_not_sum_to_one_are_a_defect(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{name},0\n" for name in CLIPS[:2]))
    (tmp_path / "trial.txt").write_text(f"{CLIPS[0]},0.3,0.7,1\n{CLIPS[1]},0.3,0.6,1\n")
    (defect,) = check(tmp_path / "trial.txt", AH, read_list(path))
    assert (defect.kind, defect.count) == ("no sum of 1", 1)


def test_tracks_whose_files_could_not_be_read_are_refused_in_a_line():
    with pytest.raises(UnknownNameError, match=r"abaw10 has abaw10\.ah"):
        format_named("abaw10.expr")
    with pytest.raises(UnknownNameError):
        format_named("abaw9.va")
