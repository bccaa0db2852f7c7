"""Stand-ins have the layout, codes and traps of the real sets, no picture crosses splits, and labels are smooth where frames are not."""

import csv
import errno
import hashlib
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import typer
from pydantic import TypeAdapter
from typer.testing import CliRunner

import mien
from mien.cli.data import standin
from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.drawn.acting import EXPRESSIONS
from mien.data.drawn.faces import load_drawn
from mien.data.label_checks import check
from mien.data.label_table import split_by
from mien.data.registry import Set, load_set
from mien.data.sets.affectnet import five_of_68
from mien.data.sets.ferplus import load_ferplus
from mien.data.standins import KINDS, make_standin
from mien.data.standins.faces import abaw_shares, faces_of, read_faces
from mien.data.standins.pictures import cut_out, framing, placed
from mien.data.standins.states import allocate, with_hysteresis
from mien.data.standins.stills import landmarks_of
from mien.errors import DataError, OutputError, UnknownNameError
from mien.metrics import ccc
from mien.tasks import TASKS

SIZES = {
    "s-aff-wild2": 480,
    "aff-wild2": 360,
    "lsd": 130,
    "c-expr-db": 260,
    "affectnet": 120,
    "raf-db": 100,
    "expw": 60,
    "afew-va": 120,
}
SIZES |= {"ferplus": 400, "vggface2": 60}
EXPR, VA, AU = TASKS["expr.abaw8"], TASKS["va"], TASKS["au.abaw12"]
HAS = {
    "s-aff-wild2": (VA, EXPR, AU), "aff-wild2": (VA, EXPR, AU), "lsd": (TASKS["expr.lsd6"],), "c-expr-db": (TASKS["ce.abaw7"],),
    "affectnet": (TASKS["expr.affectnet8"], VA), "raf-db": (TASKS["expr.abaw7"],),
    "expw": (TASKS["expr.abaw7"],), "afew-va": (VA,), "ferplus": (TASKS["expr.ferplus8"], VA, AU_BLENDSHAPES),
    # People are no task of mien: the folders name them.
    "vggface2": (),
}  # fmt: skip
MORE = {"aff-wild2": {"tracks": ["va", "expr", "au"]}, "c-expr-db": {"split": "test"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of each kind, drawn, tiny; made when first asked for."""
    root, known = tmp_path_factory.mktemp("standins"), {}

    def get(kind):
        if kind not in known:
            known[kind] = make_standin(kind, root / kind, size=SIZES[kind])
        return known[kind]

    return get


@pytest.fixture(scope="module")
def drawn_table():
    """A label table such as users bring: 180 drawn faces in the label sets of FER+, and with subjects."""
    return load_drawn(450, tasks=(TASKS["expr.ferplus8"], VA, AU_BLENDSHAPES))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def frames_in(film):
    with av.open(str(film)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def mtl_rows(root, name):
    """Image and the fifteen numbers of each row, read without the library."""
    rows = rows_of(root / name)
    assert rows[0] == ["image", "valence", "arousal", "expression", "aus"]
    assert {len(row) for row in rows[1:]} == {16}
    return [row[0] for row in rows[1:]], np.array([row[1:] for row in rows[1:]], float)


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_reads_it_back(made, kind, tmp_path):
    root, more = made(kind), dict(MORE.get(kind, {}))
    if kind == "c-expr-db":
        more |= {"images": str(tmp_path), "labels": str(root / "standin-labels" / "CER.txt")}
        for film in (root / "videos").iterdir():
            folder = tmp_path / film.stem
            folder.mkdir()
            for number in range(1, len(frames_in(film)) + 1):
                cv2.imwrite(str(folder / f"{number:05d}.jpg"), np.zeros((8, 8, 3), np.uint8))
    place = "folder" if kind == "ferplus" else "root"
    spec = TypeAdapter(Set).validate_python({"set": kind, place: str(root), **more})
    table = load_set(spec, HAS[kind])
    if kind == "c-expr-db":
        table = table.assign(split="train")  # that every compound shows is asked of training only
    notes = check(table, HAS[kind], kind)
    assert not [note for note in notes if "two splits" in note]
    assert len(table) >= 0.9 * SIZES[kind]
    for task in HAS[kind]:
        train = table.loc[table["split"] == "train", list(task.columns)]
        assert train.notna().any(axis=None)
        if task.kind == "one_of":
            assert (train.sum() > 0).all(), "every class shows"


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_that_it_is_no_real_data(made, kind):
    text = (made(kind) / "README.txt").read_text()
    assert "It is no real data" in text
    assert "Seed: 0" in text
    assert "drawn faces" in text
    assert not list(made(kind).parent.glob(".*"))


@pytest.mark.parametrize("kind", ["s-aff-wild2", "c-expr-db"])
def test_one_seed_makes_the_same_bytes_however_many_work(kind, tmp_path):
    smallest = KINDS[kind].least
    one, same = (make_standin(kind, tmp_path / str(k), size=smallest, workers=k) for k in (1, 3))
    assert digests(one) == digests(same)
    if kind == "c-expr-db":
        other = make_standin(kind, tmp_path / "other", size=smallest, seed=1)
        assert digests(one) != digests(other)


def test_s_aff_wild2_has_the_real_codes_and_traps(made):
    root = made("s-aff-wild2")
    train, values = mtl_rows(root, "training_set_annotations.txt")
    assert len(train) == 480
    va, expr, units = values[:, :2], values[:, 2], values[:, 3:]
    lacking = [(va == -5).any(axis=1), expr == -1, (units == -1).all(axis=1)]
    np.testing.assert_allclose([each.mean() for each in lacking], (0.27, 0.363, 0.274), atol=0.08)
    assert not np.all(lacking, axis=0).any()
    assert set(np.unique(units)) == {-1, 0, 1}
    assert set(expr) == {-1, *range(8)}
    assert ((np.abs(va) <= 1) | (va == -5)).all()
    assert len(set(train)) == len(train) - 3
    val, values = mtl_rows(root, "validation_set_annotations.txt")
    assert (values[:, :2] > -5).all(axis=1).mean() > 0.98, "judged rows have valence and arousal"
    assert 0 < (values[:, 2] == -1).mean() < 0.5
    assert set(values[:, 2]) == {-1, *range(8)}
    assert any(line.split("/")[0].endswith(("_left", "_right")) for line in train + val)
    lines = (root / "MTL_Challenge_test_set_release.txt").read_text().splitlines()[1:]
    assert all(line.endswith(".jpg,") for line in lines)
    assert len(lines) > len(set(lines))
    test = pd.read_csv(root / "standin-labels" / "test.csv")
    assert set(test["image"]) == {line[:-1] for line in lines}
    assert test[list(EXPR.columns)].sum(axis=1).eq(1).all()
    assert not {line.split("/")[0] for line in train} & {line.split("/")[0] for line in val + lines}
    pictures = {
        str(path.relative_to(root / "cropped_aligned"))
        for path in (root / "cropped_aligned").rglob("*.jpg")
    }
    assert pictures == {*train, *val, *test["image"]}
    assert cv2.imread(str(root / "cropped_aligned" / train[0])).shape == (112, 112, 3)


def test_dense_tracks_have_gaps_and_counts_off_by_one(made):
    root = made("aff-wild2")
    header = {
        "VA_Estimation_Challenge": 2,
        "EXPR_Classification_Challenge": 8,
        "AU_Detection_Challenge": 12,
    }
    off, gaps, codes = set(), 0, Counter()
    for track, names in header.items():
        for path in sorted((root / "annotations" / track).rglob("*.txt")):
            rows = rows_of(path)
            assert len(rows[0]) == names
            crops = sorted(
                int(crop.stem) for crop in (root / "cropped_aligned" / path.stem).iterdir()
            )
            off.add(crops[-1] - (len(rows) - 1))
            gaps += crops[-1] - len(crops)
            codes.update(
                {code for row in rows[1:] for code in row if float(code) < -1 or code == "-1"}
            )
    assert {-1, 0, 1} <= off
    assert gaps
    assert set(codes) == {"-5", "-1"}
    folders = {part.name for track in (root / "annotations").iterdir() for part in track.iterdir()}
    assert folders == {"Train_Set", "Validation_Set"}


def test_labels_are_smooth_and_frames_are_noisy(made):
    """Steps of the labels are far smaller than their spread; steps of the pictures are about as large as between any two of them."""
    root = made("aff-wild2")
    for path in (root / "annotations" / "VA_Estimation_Challenge" / "Train_Set").glob("*.txt"):
        valence = np.array([float(row[0]) for row in rows_of(path)[1:]])
        kept = valence[valence > -5]
        assert np.mean(np.abs(np.diff(kept))) < 0.25 * kept.std() + 0.005
    labels, steps, chance = 0, [], []
    for path in (root / "annotations" / "EXPR_Classification_Challenge" / "Train_Set").glob(
        "*.txt"
    ):
        codes = [int(row[0]) for row in rows_of(path)[1:]]
        labels += sum(a != b for a, b in pairwise(codes) if min(a, b) >= 0)
        crops = [
            cv2.imread(str(each), cv2.IMREAD_GRAYSCALE).astype(float)
            for each in sorted((root / "cropped_aligned" / path.stem).iterdir())
        ]
        steps += [np.abs(a - b).mean() for a, b in pairwise(crops)]
        mixed = np.random.default_rng(0).permutation(len(crops))
        chance += [np.abs(crops[a] - crops[b]).mean() for a, b in pairwise(mixed)]
    assert labels < 0.15 * len(steps)
    assert np.mean(steps) > 0.5 * np.mean(chance)


def test_no_two_rows_are_the_same_picture(made):
    found = Counter(
        path.read_bytes() for path in (made("s-aff-wild2") / "cropped_aligned").rglob("*.jpg")
    )
    assert max(found.values()) == 1


def test_synthetic_faces_are_blurred_and_uneven(made):
    root = made("lsd")
    folders = {"ANGRER", "DISGUST", "FEAR", "HAPPINESS", "SADNESS", "SURPRISE"}
    parts = [root / "training_set_synthetic_images", root / "validation_set_real_images"]
    assert all({folder.name for folder in part.iterdir()} == folders for part in parts)
    counts = {folder.name: len(list(folder.iterdir())) for folder in parts[0].iterdir()}
    assert sum(counts.values()) == 130
    assert max(counts, key=counts.get) == "SADNESS"
    fine = [
        np.mean(
            [cv2.Laplacian(cv2.imread(str(p), 0), cv2.CV_64F).var() for p in part.rglob("*.jpg")]
        )
        for part in parts
    ]
    assert fine[0] < 0.5 * fine[1]
    lines = (root / "LSD_Challenge_test_set_release.txt").read_text().splitlines()
    assert lines[:2] == ["image,expression", "0.jpg"]
    assert {path.name for path in (root / "lsd_test_data").iterdir()} == set(lines[1:])


def test_films_of_compounds_are_off_by_one_and_sometimes_empty(made):
    root = made("c-expr-db")
    listed = Counter(row[0].split("/")[0] for row in rows_of(root / "CER.txt")[1:])
    films = {path.stem: frames_in(path) for path in sorted((root / "videos").iterdir())}
    assert set(listed) == set(films)
    assert {listed[name] - len(frames) for name, frames in films.items()} == {-1, 0, 1}
    codes = rows_of(root / "standin-labels" / "CER.txt")[1:]
    assert {int(code) for _, code in codes} == set(range(7))
    assert sum(listed.values()) == len(codes) == 260
    still = [
        np.abs(a.astype(int) - b).mean() < 0.3
        for frames in films.values()
        for a, b in pairwise(frames)
    ]
    assert 0.01 < np.mean(still) < 0.4, "nobody moves where nobody is"


def test_affectnet_boxes_and_landmarks_lie_on_the_face(made):
    root = made("affectnet")
    train, val = rows_of(root / "training.csv"), rows_of(root / "validation.csv")
    assert train[0][0] == "subDirectory_filePath"
    codes = Counter(row[6] for row in val)
    assert {*codes} == {str(k) for k in range(8)}
    assert max(codes.values()) - min(codes.values()) <= 1, (
        "judged classes are as large as each other"
    )
    extra = [row for row in train[1:] if int(row[6]) > 7]
    assert extra
    assert all(row[7:] == ["-2", "-2"] for row in extra)
    for name, x, y, width, height, marks, *_ in train[1:40]:
        side = cv2.imread(str(root / "Manually_Annotated_Images" / name)).shape[0]
        points = np.array(marks.split(";"), float).reshape(68, 2)
        assert 0 <= int(x) < int(x) + int(width) <= side
        inside = (points > (int(x) - 0.1 * side, int(y) - 0.1 * side)) & (
            points < (int(x) + int(width), int(y) + 1.3 * int(height))
        )
        assert inside.mean() > 0.9


def test_landmarks_hold_the_five_points():
    five = framing(200, 0.7) + np.array([3, -2])
    np.testing.assert_allclose(
        five_of_68(landmarks_of(five)[None])[0].reshape(5, 2), five, atol=1e-9
    )


def test_cut_outs_bring_the_points_into_place():
    table = load_drawn(4, size=160)
    for image, points in zip(table["image"], table["points"], strict=True):
        crop = cut_out(image, np.array(points), 100, 0.8)
        there = placed(np.array(points), 100, 0.8)
        assert crop.shape == (100, 100, 3)
        np.testing.assert_allclose(there.mean(axis=0), framing(100, 0.8).mean(axis=0), atol=1e-6)
        assert np.abs(there - framing(100, 0.8)).max() < 8


def test_whole_numbers_keep_ratio_and_least():
    shares = np.array([0.7, 0.2, 0.1])
    counts = allocate(1003, shares, 4)
    assert counts.sum() == 1003
    np.testing.assert_allclose(counts / 1003, shares, atol=0.01)
    with pytest.raises(DataError, match="11 rows of one split cannot show 3 classes 4 times"):
        allocate(11, shares, 4)


def test_labels_do_not_flicker():
    rng = np.random.default_rng(0)
    way = np.linspace(-0.5, 0.5, 200) + rng.normal(0, 0.03, 200)
    codes = with_hysteresis(np.stack([0.5 - way / 2, 0.5 + way / 2], axis=1))
    assert np.abs(np.diff(codes)).sum() == 1
    assert np.abs(np.diff((way > 0).astype(int))).sum() > 1, "a plain argmax does"


def test_faces_of_a_table_stay_in_their_split(drawn_table):
    faces, left = faces_of(
        drawn_table.assign(image=[f"{i}.png" for i in range(450)]),
        ["train", "val", "test"],
        0,
        "table",
    )
    assert left == 0
    of = {split: {int(str(image)[:-4]) for image in part.images} for split, part in faces.items()}
    assert of["train"] == set(range(360))
    assert of["val"] | of["test"] == set(range(360, 450))
    assert not of["val"] & of["test"]
    assert 0.4 < len(of["test"]) / 90 < 0.9
    who = drawn_table["subject"]
    assert not {who[i] for i in of["val"]} & {who[i] for i in of["test"]}


def test_rules_for_what_a_table_does_not_say(drawn_table):
    faces = faces_of(drawn_table, ["train"], 0, "table")[0]["train"]
    happy, contempt = (EXPRESSIONS.index(name) for name in ("happiness", "contempt"))
    np.testing.assert_array_equal(faces.units[:, AU.names.index("AU06")], faces.expr[:, happy])
    np.testing.assert_allclose(faces.units[:, AU.names.index("AU12")], drawn_table["AU12"][:360])
    shares = abaw_shares(faces.expr)
    np.testing.assert_array_equal(shares[:, EXPR.names.index("other")], faces.expr[:, contempt])
    assert (shares.sum(axis=1) == 1).all()


def test_a_table_of_faces_makes_a_stand_in(drawn_table, tmp_path):
    out = make_standin("raf-db", tmp_path / "out", size=70, faces=drawn_table)
    assert "real faces of the label table" in (out / "README.txt").read_text()
    assert (
        len(list((out / "Image" / "aligned").iterdir()))
        == sum(KINDS["raf-db"].counts(70).values())
        == 105
    )


def test_faces_are_read_from_yaml_and_parquet(drawn_table, tmp_path):
    stored = drawn_table.assign(
        image=[cv2.imencode(".png", image)[1].tobytes() for image in drawn_table["image"]]
    )
    stored.to_parquet(tmp_path / "faces.parquet")
    (tmp_path / "faces.yaml").write_text("data:\n- {set: file, path: faces.parquet}\n")
    one, same = (read_faces(tmp_path / name) for name in ("faces.parquet", "faces.yaml"))
    assert len(one) == 450
    np.testing.assert_array_equal(one["AU12"], same["AU12"])
    (tmp_path / "bad.yaml").write_text("data:\n- {set: ferplus, root: here}\n")
    with pytest.raises(DataError, match=r"bad\.yaml: data\.0\.ferplus"):
        read_faces(tmp_path / "bad.yaml")
    (tmp_path / "none.yaml").write_text("faces: []\n")
    with pytest.raises(DataError, match="has no list `data`"):
        read_faces(tmp_path / "none.yaml")


def test_bad_orders_are_refused_in_one_line(drawn_table, tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean s-aff-wild2"):
        make_standin("s-affwild2", tmp_path / "x")
    with pytest.raises(DataError, match="the size must be at least 66"):
        make_standin("s-aff-wild2", tmp_path / "x", size=65)
    with pytest.raises(DataError, match=r"no face has all labels of au\.blendshapes"):
        make_standin("lsd", tmp_path / "x", faces=drawn_table.assign(AU12=np.nan))
    brave = drawn_table[drawn_table["expr_fear"] < 0.5]
    with pytest.raises(DataError, match="0 faces of one split show fear"):
        make_standin("lsd", tmp_path / "x", faces=brave)
    with pytest.raises(DataError, match="no face with all labels is in split val"):
        make_standin(
            "affectnet", tmp_path / "x", faces=drawn_table[drawn_table["split"] == "train"]
        )
    with pytest.raises(DataError, match="give its points"):
        cut_out(np.zeros((40, 80, 3), np.uint8), np.full(10, np.nan), 32, 1.0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(OutputError, match="exists already and is not empty"):
        make_standin("lsd", tmp_path / "full")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"No space left on device\); free some space"):
        make_standin("raf-db", tmp_path / "out", size=70)
    assert not list(tmp_path.iterdir())


def test_from_the_command_line(tmp_path):
    app = typer.Typer()
    app.command()(standin)
    runner = CliRunner()
    done = runner.invoke(app, ["raf-db", str(tmp_path / "out"), "--size", "70"])
    assert done.exit_code == 0, done.output
    assert "no real data" in done.output
    assert runner.invoke(app, ["raf-db", str(tmp_path / "out")]).exit_code == 1
    assert runner.invoke(app, ["rafdb", str(tmp_path / "two")]).exit_code == 2
    assert runner.invoke(app, ["raf-db", str(tmp_path / "two"), "--size", "many"]).exit_code == 2


@pytest.mark.parametrize("flag", ["--face-table", "--faces"])
def test_a_table_of_real_faces_from_the_command_line(flag, drawn_table, tmp_path):
    app = typer.Typer()
    app.command()(standin)
    coded = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in drawn_table["image"]]
    table = drawn_table.assign(image=coded)
    table.to_parquet(tmp_path / "faces.parquet")
    args = ["raf-db", str(tmp_path / "out"), "--size", "70", flag, str(tmp_path / "faces.parquet")]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    assert "real faces of" in (tmp_path / "out" / "README.txt").read_text()
    deprecation = "mien: --faces is deprecated; use --face-table"
    assert (deprecation in done.stderr) == (flag == "--faces")
    assert deprecation not in done.stdout


def test_smoothing_helps_on_real_faces(shared, tmp_path):
    """What the embedded network says of single crops gets nearer to the labels by a plain mean over 7 rows."""
    faces = split_by(
        load_ferplus(shared / "data", "valid"), None, {"train": 0.3, "val": 0.7}, seed=0
    )
    root = make_standin("s-aff-wild2", tmp_path / "out", size=1500, faces=faces)
    images, values = mtl_rows(root, "validation_set_annotations.txt")
    crops = [cv2.imread(str(root / "cropped_aligned" / image))[..., ::-1] for image in images]
    said = mien.load("mien-s").score(crops)["va"][:, 0]
    kernel = np.ones(7)
    smooth = np.convolve(said, kernel, "same") / np.convolve(np.ones(len(said)), kernel, "same")
    kept = values[:, 0] > -5
    one, better = (float(ccc(values[kept, 0], each[kept])) for each in (said, smooth))
    assert 0.3 < one < better - 0.01


def test_expw_boxes_hold_the_faces_whose_expressions_they_are_given(made):
    root = made("expw")
    rows = [line.split(" ") for line in (root / "label.lst").read_text().splitlines()]
    assert {len(row) for row in rows} == {8}
    faces_of_picture = Counter(row[0] for row in rows)
    assert set(faces_of_picture.values()) == {1, 2, 3}
    assert {path.name for path in (root / "image" / "origin").iterdir()} == set(faces_of_picture)
    assert [int(row[1]) for row in rows[:6]] == [
        k for n in faces_of_picture.values() for k in range(n)
    ][:6]
    counts = Counter(int(row[7]) for row in rows)
    assert set(counts) == set(range(7))
    assert counts.most_common(2)[0][0] in (3, 6), "most are happy or neutral"
    for name, group in pd.DataFrame(rows).groupby(0):
        height, width = cv2.imread(str(root / "image" / "origin" / name)).shape[:2]
        top, left, right, bottom = group[[2, 3, 4, 5]].to_numpy(int).T
        assert (
            (top >= 0)
            & (left >= 0)
            & (top < bottom)
            & (left < right)
            & (bottom <= height)
            & (right <= width)
        ).all()
        assert (right[:-1] <= left[1:]).all(), "no two share a face"


def test_film_clips_have_ratings_and_landmarks_that_follow_the_face(made):
    root = made("afew-va")
    clips = sorted(root.glob("*/*/*.json"))
    assert len(clips) > 4
    ratings, ways, actors = [], [], Counter()
    for path in clips:
        content = json.loads(path.read_text())
        assert re.fullmatch(r"(0[1-9]|1[0-2])/(\d{3})/\2\.json", path.relative_to(root).as_posix())
        assert {each.name for each in path.parent.glob("*.png")} == {
            f"{name}.png" for name in content["frames"]
        }
        actors[content["actor"]] += 1
        for name, frame in content["frames"].items():
            ratings.append((frame["valence"], frame["arousal"]))
            ways.append(np.array(frame["landmarks"])[:, 0].mean())
            assert np.shape(frame["landmarks"]) == (68, 2)
            height, width = cv2.imread(str(path.parent / f"{name}.png")).shape[:2]
            assert (
                (np.array(frame["landmarks"]) > 0)
                & (np.array(frame["landmarks"]) < (width, height))
            ).all()
    assert len(ratings) == 120
    assert set(np.ravel(ratings)) <= set(range(-10, 11))
    assert (np.std(ratings, axis=0) > 1).all()
    assert np.ptp(ways) > 30
    assert max(actors.values()) > 1, "actors come again"


def test_ferplus_votes_are_of_ten_people_and_mostly_of_what_the_face_shows(made, tmp_path):
    root = made("ferplus")
    parts = {
        split: pd.read_parquet(root / f"ferplus-{split}.parquet") for split in ("train", "valid")
    }
    assert [len(part) for part in parts.values()] == [400, 200]
    both = pd.concat(parts.values(), ignore_index=True)
    assert both["name"].tolist() == [f"fer{i:07d}.png" for i in range(600)]
    votes = np.array(both["votes"].to_list())
    assert votes.shape == (600, 10)
    assert (votes.sum(axis=1) == 10).all()
    assert (votes.max(axis=1) >= 6).all()
    said = votes.argmax(axis=1)
    counts = np.bincount(said, minlength=10)
    assert (counts >= 3).all(), "unknown and not a face too"
    assert counts[8:].sum() < 0.05 * len(both)
    assert counts.argsort()[:-3:-1].tolist() == [0, 1], "most are neutral, then happy"
    assert 0.05 < (votes[np.arange(600), said] < 10).mean() < 1, "some votes stray"
    pictures = [
        cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_UNCHANGED) for one in both["image"]
    ]
    assert {(one.shape, one.dtype.name) for one in pictures} == {((48, 48), "uint8")}
    assert {one[:8] for one in both["image"]} == {b"\x89PNG\r\n\x1a\n"}
    assert 0 < both["points"].isna().sum() < 0.15 * len(both)
    assert (both["points"].isna() == both["blendshapes"].isna()).all()
    kept = len(load_ferplus(root, "train")) + len(load_ferplus(root, "valid"))
    assert kept == (said < 8).sum(), "as its authors do, what is unknown or no face is left out"


def test_ferplus_of_a_table_keeps_its_faces_labels(drawn_table, tmp_path):
    """Of the votes a face gets, its class and its units come through the loader as they are in the table."""
    shares = list(TASKS["expr.ferplus8"].columns)
    soft = drawn_table[shares].to_numpy(np.float32) * np.float32(0.9) + np.float32(0.0125)
    drawn_table = drawn_table.assign(
        **dict(zip(shares, soft.T * np.float32(1 + 1e-6), strict=True))
    )  # as exact as float32 is
    root = make_standin("ferplus", tmp_path / "out", size=300, faces=drawn_table)
    table = load_ferplus(root, "train")
    clear = table[list(TASKS["expr.ferplus8"].columns)].to_numpy()
    assert (clear.max(axis=1) >= 0.6).all()
    smile = table["AU12"].to_numpy()
    happy = clear.argmax(axis=1) == 1
    assert np.nanmean(smile[happy]) > np.nanmean(smile[~happy]) + 0.2
    jaw = table[["AU26", "AU25"]].dropna().to_numpy()
    assert (jaw[:, 1] >= jaw[:, 0]).all(), "lips part when the jaw opens"
    points = np.array(table["points"].dropna().to_list())
    assert points.shape[1] == 10
    assert ((points > 0) & (points < 47)).all()
    assert digests(root) == digests(
        make_standin("ferplus", tmp_path / "again", size=300, faces=drawn_table, workers=1)
    )
