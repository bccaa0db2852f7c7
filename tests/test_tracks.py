"""One face keeps one number, from its first frame to its last, at any frame rate."""

import io
import itertools
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mien
from mien.bundles.store import load_detector
from mien.faces import lookback
from mien.faces.appearance import MATCH, Appearance, Gallery
from mien.faces.lookback import look_back
from mien.faces.prepare import similarity
from mien.faces.track import SEARCH_S, Tracker
from mien.records import Face, Frame
from mien.sources.interval import FrameInterval

RATE = 25
# Where the eyes, the nose and the corners of the mouth go, px from the middle of a tile.
POINTS = np.array([[-22, -24], [22, -24], [0, 5], [-18, 24], [18, 24]], float)
EMPTY = np.full((200, 240, 3), 128, np.uint8)


@cache
def detector():
    return load_detector(engine="onnxruntime")


@pytest.fixture(scope="module")
def heads(shared):
    """Heads of 12 different people on grey, (200, 240, 3), in the same place and of one size."""
    table = pd.read_parquet(
        shared / "data" / "portraits.parquet", columns=["subject", "split", "image", "points"]
    )
    table = table[(table["split"] == "val") & table["points"].notna()].groupby("subject").head(1)
    kept = []
    for row in table.sample(40, random_state=5).itertuples():
        picture = np.array(Image.open(io.BytesIO(row.image)).convert("RGB"))
        matrix = similarity(np.array(row.points, float).reshape(5, 2), np.add(POINTS, (120, 100)))
        head = cv2.warpAffine(picture, matrix, (240, 200), borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.ellipse(
            np.zeros((200, 240), np.float32), (120, 92), (60, 82), 0, 0, 360, 1.0, -1
        )[..., None]
        head = (head * mask + EMPTY * (1 - mask)).astype(np.uint8)
        if len(detector().find(head)) == 1 and len(kept) < 12:
            kept.append(head)
    assert len(kept) == 12
    return kept


def shifted(picture: np.ndarray, right: float, down: float = 0.0) -> np.ndarray:
    return cv2.warpAffine(
        picture,
        np.array([[1, 0, right], [0, 1, down]], float),
        picture.shape[1::-1],
        borderValue=(128, 128, 128),
    )


def followed(pictures, rate: float = RATE) -> list[list[Face]]:
    frames = (Frame(picture, i / rate, i, "film") for i, picture in enumerate(pictures))
    return [faces for _, faces in look_back(frames, Tracker(detector()))]


def numbers(looks) -> list[list[int | None]]:
    return [[face.track for face in faces] for faces in looks]


# A face that changes


def test_a_cut_on_one_background_gives_a_new_number(heads):
    pictures = [shifted(head, 0.4 * np.sin(i), 0.1 * i) for head in heads for i in range(6)]
    rows = numbers(followed(pictures))
    parts = [set(itertools.chain(*rows[at : at + 6])) for at in range(0, len(rows), 6)]
    assert all(len(part) == 1 for part in parts)
    assert len(set().union(*parts)) == 12


CHANGES = {
    "flash": lambda head, t: (
        np.clip(head * 1.5 + 30.0, 0, 255).astype(np.uint8) if 0.4 < t < 0.5 else head
    ),
    "dark": lambda head, t: (head * 0.5).astype(np.uint8) if t > 0.5 else head,
    "blur": lambda head, t: cv2.GaussianBlur(head, (0, 0), 2.5) if t > 0.5 else head,
    "moves": lambda head, t: shifted(head, 40 * np.sin(2 * np.pi * t)),
    "squeezed": lambda head, t: cv2.resize(head[:, 12:-12] if t > 0.5 else head, (240, 200)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_happens_to_one_face_gives_no_new_number(heads, change):
    for head in heads[:3]:
        rows = numbers(followed(change(head, i / RATE) for i in range(RATE)))
        assert {number for row in rows for number in row} == {0}


def test_tiles_that_change_places_never_change_owners(heads):
    order, owners, pictures, orders = list(range(4)), {}, [], []
    for swap in range(5):
        if swap:
            a, b = [(0, 3), (1, 2), (0, 1), (2, 3)][swap - 1]
            order[a], order[b] = order[b], order[a]
        for _ in range(6):
            pictures.append(np.hstack([heads[who] for who in order]))
            orders.append(list(order))
    for faces, now in zip(followed(pictures), orders, strict=True):
        assert len(faces) == 4
        for face in faces:
            owners.setdefault(face.track, set()).add(
                now[int((face.box[0] + face.box[2] / 2) // 240)]
            )
    assert all(len(who) == 1 for who in owners.values())


@pytest.mark.parametrize("pause", [0, 5])
def test_who_sits_down_in_another_s_place_gets_a_new_number(heads, pause):
    left = [heads[0]] * 12 + [EMPTY] * pause + [heads[1]] * 12
    looks = followed(np.hstack([one, heads[2]]) for one in left)
    first, last = (
        {face.track for face in faces if face.box[0] < 220} for faces in (looks[0], looks[-1])
    )
    assert len(first) == len(last) == 1
    assert first != last


def test_faces_found_together_are_numbered_from_left_to_right(heads):
    for order in itertools.permutations(range(3)):
        (faces,) = followed([np.hstack([heads[who] for who in order])])
        assert [face.track for face in sorted(faces, key=lambda face: face.box[0])] == [0, 1, 2]


def test_smoothing_carries_nothing_over_a_cut(heads):
    pictures = [(i / RATE, heads[0] if i < 10 else heads[1]) for i in range(20)]
    whole = mien.analyze(pictures, smoothing=0.3).table
    after = mien.analyze(pictures[10:], smoothing=0.3).table
    late = whole[whole["time_s"] >= 0.4]
    assert len(late) == len(after) == 10
    np.testing.assert_allclose(late["valence"].to_numpy(), after["valence"].to_numpy(), atol=1e-3)


def test_a_flat_face_speaks_for_nobody():
    flat = np.full((90, 90, 3), 200, np.uint8)
    face = Face((20, 20, 50, 50), POINTS / 2 + 45, 1.0)
    assert Gallery.of(Appearance(flat, face, 0.0)).likeness(Appearance(flat, face, 0.04)) == MATCH


def test_what_is_remembered_keeps_no_frame_alive(heads):
    (face,) = detector().find(heads[0])
    gallery = Gallery.of(Appearance(heads[0], face, 0.0))
    for i in range(1, 200):
        gallery = gallery.add(Appearance(heads[0], face, i / RATE))
    assert len(gallery.kept) <= 5
    assert all(seen._image is None for seen in (gallery.last, *gallery.kept))


# Few frames, and pauses


@pytest.mark.parametrize("every", [0.5, 1.0, 2.0, 5.0])
def test_one_person_is_one_number_however_few_frames_are_read(shared, every):
    table = mien.analyze(shared / "media" / "one_face_640x360.mp4", every=every).table
    assert set(table["face"]) == {0}


@pytest.mark.parametrize("name", ["one_fps.mp4", "freeze_1s_gaps.mp4"])
def test_one_person_is_one_number_at_one_frame_a_second_and_through_pauses(shared, name):
    table = mien.analyze(shared / "media" / "odd" / name, smoothing=2.0).table
    assert set(table["face"]) == {0}
    assert (table["valence"] - table["valence_raw"]).abs().max() > 0.001


def test_the_interval_is_the_typical_one():
    interval = FrameInterval()
    for time_s in (0.0, 1.0, 2.0, 3.0):
        interval.add(time_s)
    assert (interval.typical_s, interval.longest_gap_s(0.5), interval.longest_gap_s(9.0)) == (
        1.0,
        2.5,
        9.0,
    )
    for time_s in (3.1, 3.2, 3.3):
        interval.add(time_s)
    assert interval.typical_s == pytest.approx(0.1)


# Backwards


def beside(heads, there) -> list[list[Face]]:
    return followed(
        np.hstack([heads[0], heads[1] if there(i / RATE) else EMPTY])
        for i in range(round(3.2 * RATE))
    )


def test_a_face_that_returns_beside_a_known_one_has_rows_from_when_it_returns_until_it_leaves(
    heads,
):
    looks = beside(heads, lambda t: t < 0.5 or 1.6 <= t < 2.8)
    seen = [i / RATE for i, faces in enumerate(looks) if any(face.box[0] > 240 for face in faces)]
    back = [time_s for time_s in seen if time_s > 1]
    assert back[0] == pytest.approx(1.6, abs=1.01 / RATE)
    assert back[-1] == pytest.approx(2.8, abs=1.01 / RATE)
    assert all(row == sorted(set(row)) for row in numbers(looks))


def test_who_comes_in_at_the_very_end_is_found(heads):
    looks = beside(heads, lambda t: t >= 3.0)
    assert [len(faces) for faces in looks[-6:]] == [1, 2, 2, 2, 2, 2]


def test_frames_come_out_in_order_and_as_many_as_went_in(heads):
    both = np.hstack([heads[0], heads[1]])
    pictures = [None if i % 7 == 3 else both for i in range(40)]
    frames = [Frame(picture, i / RATE, i, "film") for i, picture in enumerate(pictures)]
    out = list(look_back(iter(frames), Tracker(detector())))
    assert [frame.index for frame, _ in out] == list(range(40))
    assert all(bool(faces) == (frame.pixels is not None) for frame, faces in out)


@pytest.mark.parametrize("limit", [3, 1000])
def test_no_more_frames_are_kept_than_the_limit_and_the_search_interval_allow(
    heads, monkeypatch, limit
):
    monkeypatch.setattr(lookback, "BUFFER_BYTES", limit * heads[0].nbytes)
    given = 0

    def frames():
        nonlocal given
        for i in range(60):
            given += 1
            yield Frame(heads[0], i / RATE, i, "film")

    most = max(given - taken for taken, _ in enumerate(look_back(frames(), Tracker(detector()))))
    assert most <= min(limit, SEARCH_S * RATE + 2)


def test_the_demo_s_camera_that_looks_away_makes_two_numbers(clip):
    assert mien.analyze(Path(clip)).table["face"].nunique() == 2
