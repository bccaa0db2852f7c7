"""ExpW and AFEW-VA, in tiny copies of their layouts, with their traps; what comes out is reckoned from what was written."""

import json

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from mien.data.label_checks import check
from mien.data.label_table import COLUMNS, labels
from mien.data.registry import Set, load_set, places, set_name
from mien.data.sets.expw import load_expw, points_in
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.errors import DataError
from mien.faces.prepare import Pixels, crop_matrix, similarity
from mien.records import Face
from mien.tasks import TASKS

SPEC = TypeAdapter(Set)
VA, ABAW7, AFFECT8 = TASKS["va"], TASKS["expr.abaw7"], TASKS["expr.affectnet8"]
CODES = (
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "neutral",
)  # ExpW's own order


def spec(**given):
    return SPEC.validate_python(given)


# --- ExpW ------------------------------------------------------------------------------------------------------------------

LINES = [
    "a crowd.jpg 0 10 20 60 50 51.5 3", "a crowd.jpg 1 12 80 120 52 40.0 6", "two.jpg 0 0 0 30 30 9.75 0",
    "two.jpg 1 5 40 70 45 80 1", "c.jpg 0 1 1 31 31 33 2", "d.jpg 0 1 1 31 31 33 4", "e.jpg 2 -4 -3 31 31 33 5",
]  # fmt: skip


@pytest.fixture
def expw(tmp_path):
    def make(lines=LINES, name="label.lst", without=()):
        for line in filter(None, lines):
            image = tmp_path / "image" / "origin" / line.rsplit(maxsplit=7)[0]
            image.parent.mkdir(parents=True, exist_ok=True)
            if image.name not in without:
                image.write_bytes(b"")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n".join([*lines, ""]))
        return spec(set="expw", root=str(tmp_path))

    return make


@pytest.mark.parametrize("name", ["label.lst", "label/label.lst"])
def test_every_face_of_a_picture_is_a_row_of_its_own(expw, name):
    given = expw(name=name)
    table = load_set(given, [ABAW7])
    assert list(table.columns) == [*COLUMNS, *ABAW7.columns]
    assert len(table) == len(LINES)
    assert [path.rpartition("/")[2] for path in table["image"]] == [
        line.rsplit(maxsplit=7)[0] for line in LINES
    ]
    shown = [ABAW7.names[k] for k in labels(table, ABAW7).argmax(axis=1)]
    assert shown == [CODES[int(line[-1])] for line in LINES]
    assert (labels(table, ABAW7).sum(axis=1) == 1).all()
    assert len({tuple(points) for points in table["points"][:2]}) == 2, (
        "faces of a picture are told apart by their points"
    )
    assert table["video"].isna().all()
    assert set(table["split"]) == {"train"}
    notes = check(table, [ABAW7], "t")
    assert notes == ["2 rows repeat a picture of another row"]


def test_codes_become_classes_as_the_spec_has_them():
    """Angry, disgust, fear, happy, sad, surprise and neutral are 1, 2, 3, 4, 5, 6 and 0 in Aff-Wild2."""
    assert [ABAW7.names.index(name) for name in CODES] == [1, 2, 3, 4, 5, 6, 0]


@pytest.mark.parametrize(
    "box", [(20.0, 10.0, 60.0, 50.0), (3.0, 8.0, 43.0, 98.0), (100.0, 0.0, 190.0, 30.0)]
)
def test_points_of_a_box_frame_its_square(box):
    """Aligned by its five points, a crop is what `alignment: box` cuts out of the same box."""
    left, top, right, bottom = box
    shared = {"size": 64, "colour": "rgb", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    by_box = Pixels(alignment="box", **shared)
    by_points = Pixels(alignment="similarity5", template=FERPLUS_TEMPLATE, **shared)
    five = points_in(np.array([box])).reshape(5, 2)
    face = Face((left, top, right - left, bottom - top), five, 1.0)
    np.testing.assert_allclose(crop_matrix(face, by_points), crop_matrix(face, by_box), atol=1e-9)
    other = np.array(FERPLUS_TEMPLATE) * 0.6 + 0.2
    wider = similarity(five, other * 64 - 0.5)
    np.testing.assert_allclose(
        np.hypot(wider[0, 0], wider[1, 0]), 0.6 * 64 / max(right - left, bottom - top)
    )


def test_unsure_doubled_and_empty_boxes_are_left_out_and_counted(expw):
    more = [
        "two.jpg 1 5 40 70 45 80 4",
        "f.jpg 0 9 9 9 30 70 4",
        "g.jpg 0 30 9 40 30 70 4",
        "h.jpg 0 3 9 40 30 1.5 4",
    ]
    given = expw([*LINES, *more])
    table = load_set(given.model_copy(update={"confidence": 10.0}), [ABAW7])
    assert len(table) == len(LINES) - 1
    two = table[table["image"].str.endswith("two.jpg")]
    assert two["expr_disgust"].tolist() == [1.0], "the first line stays"
    assert table.attrs["notes"] == [
        "ExpW: 2 of 11 faces were left out: they have a box without area",
        "ExpW: 1 of 11 faces were left out: they are listed a second time",
        "ExpW: 2 of 11 faces were left out: they have a confidence below 10",
    ]
    assert len(load_set(given, [ABAW7])) == len(LINES) + 1
    with pytest.raises(DataError, match=r"no face is left; .*have a confidence below 99"):
        load_set(given.model_copy(update={"confidence": 99.0}), [ABAW7])


@pytest.mark.parametrize(("line", "said"), [
    ("a.jpg 0 1 1 9 9 5 7", "labelled 0 to 6"), ("a.jpg 0 1 1 9 9 5 -1", "labelled 0 to 6"), ("a.jpg 0 1 1 9 9 5 2.5", "labelled 0 to 6"),
    ("a.jpg 0 1 1 9 9 5", "a picture and seven numbers"), ("a.jpg 0 x 1 9 9 5 2", "a picture and seven numbers"),
    ("a.jpg 0 nan 1 9 9 5 2", "a picture and seven numbers"), ("a.jpg", "a picture and seven numbers"),
])  # fmt: skip
def test_damaged_lists_are_told_by_line(expw, line, said):
    with pytest.raises(DataError, match=rf"label\.lst: line 3 is '{line}', not {said}"):
        load_set(expw([LINES[0], "", line]), [ABAW7])


def test_lost_pictures_of_the_web(expw, tmp_path):
    given = expw(without=("c.jpg",))
    with pytest.raises(
        DataError, match=r"1 of 7 listed pictures are not there, the first is c\.jpg"
    ):
        load_set(given, [ABAW7])
    assert len(load_set(given.model_copy(update={"missing": "drop"}), [ABAW7])) == 6
    with pytest.raises(DataError, match="7 of 7 listed pictures"):
        load_set(given.model_copy(update={"missing": "drop", "images": "elsewhere"}), [ABAW7])
    with pytest.raises(DataError, match=r"holds no label\.lst"):
        load_expw(tmp_path / "image")


def test_faces_of_a_picture_never_cross(expw):
    lines = [f"{k // 3}.jpg {k % 3} 1 1 9 9 50 {k % 7}" for k in range(90)]
    cut = {"by": "subject", "shares": {"train": 0.5, "val": 0.5}, "seed": 1}
    root = expw(lines).root
    table = load_set(spec(set="expw", root=str(root), split=cut), [ABAW7])
    assert table.groupby("image")["split"].nunique().max() == 1
    assert 30 <= (table["split"] == "val").sum() <= 60
    for by in ("video", None):
        with pytest.raises(ValidationError, match="by: subject"):
            spec(set="expw", root=str(root), split={**cut, "by": by})


def test_other_label_sets_are_matched_by_name(expw):
    table = load_set(expw(), [AFFECT8, VA])
    shown = [AFFECT8.names[k] for k in labels(table, AFFECT8).argmax(axis=1)]
    assert shown == [CODES[int(line[-1])] for line in LINES]
    assert table[list(VA.columns)].isna().all(axis=None)


def test_a_face_is_cut_out_by_its_box(tmp_path):
    """Two faces of one picture: what a network sees of each is its own box and nothing else."""
    from mien.train.inputs.crops import CropDataset

    picture = np.zeros((60, 100, 3), np.uint8)
    picture[10:50, 5:45], picture[10:50, 55:95] = (200, 0, 0), (0, 0, 200)
    (tmp_path / "image" / "origin").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "image" / "origin" / "x.png"), picture[..., ::-1])
    (tmp_path / "label.lst").write_text("x.png 0 10 5 45 50 60 3\nx.png 1 10 55 95 50 60 4\n")
    table = load_set(spec(set="expw", root=str(tmp_path)), [ABAW7])
    pixels = Pixels(
        size=32,
        colour="rgb",
        alignment="similarity5",
        template=FERPLUS_TEMPLATE,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    crops = CropDataset(table, [ABAW7], pixels)
    for i, colour in enumerate([(200, 0, 0), (0, 0, 200)]):
        assert (crops.upright(i)[1:-1, 1:-1] == colour).all()


# --- AFEW-VA ---------------------------------------------------------------------------------------------------------------


def marks(seed):
    return np.random.default_rng(seed).uniform(0, 200, (68, 2)).round(2).tolist()


def clip(root, name, ratings, **more):
    """A clip with pictures; more: what the file says beside its frames."""
    folder = root / name
    folder.mkdir(parents=True)
    frames = {}
    for k, (valence, arousal) in enumerate(ratings):
        frames[f"{k:05d}"] = {"landmarks": marks(k), "valence": valence, "arousal": arousal}
        (folder / f"{k:05d}.png").write_bytes(b"")
    (folder / f"{folder.name}.json").write_text(json.dumps({"frames": frames, **more}))
    return frames


@pytest.fixture
def afew(tmp_path):
    written = {
        "01_001": clip(tmp_path, "01/001", [(-10, 10), (-3.0, 0), (0, 7)], actor="Somebody"),
        "01_002": clip(tmp_path, "01/002", [(5, -5)] * 2, actor=""),
        "12_551": clip(tmp_path, "12/551", [(1, 2)] * 4, actor="Somebody"),
    }
    return spec(set="afew-va", root=str(tmp_path)), written


def test_ratings_are_divided_by_ten_and_videos_named(afew):
    given, written = afew
    table = load_set(given, [VA])
    expected = [
        (video, int(name), frame)
        for video, frames in written.items()
        for name, frame in frames.items()
    ]
    assert table["video"].tolist() == [video for video, _, _ in expected]
    assert table["frame"].tolist() == [number for _, number, _ in expected]
    np.testing.assert_allclose(
        labels(table, VA), [(f["valence"] / 10, f["arousal"] / 10) for *_, f in expected], atol=1e-7
    )
    assert table["image"].iloc[-1].endswith("12/551/00003.png")
    assert table["subject"].isna().tolist() == [False] * 3 + [True] * 2 + [False] * 4
    assert set(table["split"]) == {"train"}
    assert check(table, [VA], "t") == []
    assert table.attrs["notes"] == []


def test_five_points_come_from_the_landmarks_image_left_first(afew):
    given, written = afew
    points = np.array(load_set(given, [VA])["points"].tolist()).reshape(-1, 5, 2)
    for five, frame in zip(points[:3], written["01_001"].values(), strict=True):
        there = np.array(frame["landmarks"])
        expected = [
            there[36:42].mean(axis=0),
            there[42:48].mean(axis=0),
            there[30],
            there[48],
            there[54],
        ]
        np.testing.assert_allclose(five, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong", [None, [], [[1, 2]] * 67, [[1, 2, 3]] * 68, [[1, None]] * 68, "none", [[1, 2], [3]]]
)
def test_frames_without_landmarks_have_no_points(afew, wrong):
    given, _ = afew
    path = given.root / "01" / "001" / "001.json"
    content = json.loads(path.read_text())
    content["frames"]["00001"]["landmarks"] = wrong
    if wrong is None:
        del content["frames"]["00001"]["landmarks"]
    path.write_text(json.dumps(content))
    table = load_set(given, [VA])
    assert table["points"].isna().tolist() == [False, True] + [False] * 7
    assert table.attrs["notes"] == [
        "AFEW-VA: 1 of 9 frames have no 68 landmarks, so they have no points"
    ]
    check(table, [VA], "t")


def test_clips_without_a_file_are_left_out_and_counted(afew):
    given, _ = afew
    (given.root / "01" / "002" / "002.json").unlink()
    (given.root / "07" / "300").mkdir(parents=True)
    (given.root / "notes.txt").write_text("x")
    table = load_set(given, [VA])
    assert set(table["video"]) == {"01_001", "12_551"}
    assert table.attrs["notes"] == [
        "AFEW-VA: 2 of 4 clips have no .json and were left out, the first is 01_002"
    ]


@pytest.mark.parametrize(("change", "said"), [
    ({"valence": 11}, r"valence of frame 00001 is 11, no number in -10\.\.10"), ({"arousal": None}, "arousal of frame 00001 is None"),
    ({"arousal": "3"}, "arousal of frame 00001 is '3'"), ({"valence": True}, "is True"), ({"valence": float("nan")}, "is nan"),
])  # fmt: skip
def test_ratings_that_are_none_are_told(afew, change, said):
    given, _ = afew
    path = given.root / "12" / "551" / "551.json"
    content = json.loads(path.read_text())
    content["frames"]["00001"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"551\.json: the .*{said}"):
        load_set(given, [VA])


@pytest.mark.parametrize(("text", "said"), [
    ("{", "cannot be read"), ("[]", "holds no `frames`"), ('{"frames": []}', "holds no `frames`"),
    ('{"frames": {"a": {}}}', "frame 'a' is no number"), ('{"frames": {"1": 3}}', "valence of frame 1 is None"),
])  # fmt: skip
def test_damaged_clips_are_told(afew, text, said):
    given, _ = afew
    (given.root / "12" / "551" / "551.json").write_text(text)
    with pytest.raises(DataError, match=rf"551\.json: .*{said}"):
        load_set(given, [VA])


def test_lost_frames_and_other_folders(afew, tmp_path):
    given, _ = afew
    (tmp_path / "12" / "551" / "00002.png").unlink()
    with pytest.raises(
        DataError, match=r"1 of 9 listed pictures are not there, the first is 12/551/00002\.png"
    ):
        load_set(given, [VA])
    table = load_set(given.model_copy(update={"missing": "drop"}), [VA])
    assert table["frame"].tolist()[-3:] == [0, 1, 3]
    for picture in tmp_path.rglob("*.png"):
        picture.unlink()
    with pytest.raises(DataError, match="9 of 9 listed pictures"):
        load_set(given.model_copy(update={"missing": "drop"}), [VA])
    with pytest.raises(DataError, match="no clip has frames"):
        load_set(given.model_copy(update={"root": tmp_path / "gone"}), [VA])


def test_clips_may_lie_in_the_root(tmp_path):
    clip(tmp_path, "001", [(1, 1)] * 2)
    clip(tmp_path, "02/051", [(2, 2)])
    table = load_set(spec(set="afew-va", root=str(tmp_path)), [VA])
    assert table["video"].tolist() == ["001", "001", "02_051"]


def test_videos_and_actors_never_cross(afew):
    given, _ = afew
    shares = {"shares": {"train": 0.5, "val": 0.5}, "seed": 0}
    for by in ("video", "subject"):
        table = load_set(
            spec(set="afew-va", root=str(given.root), split={"by": by, **shares}), [VA]
        )
        assert set(table["split"]) == {"train", "val"}
        assert table.groupby(by)["split"].nunique().max() == 1
    with pytest.raises(ValidationError, match="by: video"):
        spec(set="afew-va", root=str(given.root), split={"by": None, **shares})


# --- both ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [("expw", "ExpW"), ("afew-va", "AFEW-VA")])
def test_settings_are_strict_named_and_come_back_as_written(tmp_path, kind, name):
    given = spec(set=kind, root=str(tmp_path), missing="drop", split="val")
    assert set_name(given) == name
    assert places(given)[0] == tmp_path
    assert SPEC.validate_json(SPEC.dump_json(given)) == given
    with pytest.raises(ValidationError, match=r"[Ee]xtra inputs"):
        spec(set=kind, root=str(tmp_path), rooot="x")
