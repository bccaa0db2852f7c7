"""Faces land where geometry says, are found where they are, and keep their number through time."""

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from mien import demo
from mien.bundles.store import load_detector
from mien.faces.detect import STRIDES, Detector, anchor_points, decode, overlap
from mien.faces.prepare import (
    Pixels,
    crop_matrix,
    normalise,
    prepare,
    prepare_crop,
    similarity,
    warp,
)
from mien.faces.track import GAP_S, SEARCH_S, Tracker
from mien.records import Face
from mien.sources import open_source

MEDIA = Path(__file__).resolve().parents[1].parent / "shared" / "media"
TEMPLATE = ((0.32, 0.38), (0.68, 0.38), (0.5, 0.61), (0.35, 0.77), (0.65, 0.77))
# The portrait's face as YuNet sees it (the larger, official network), px.
FACE_BOX = (178.0, 63.0, 92.0, 111.0)
FACE_POINTS = np.array(
    [[203.5, 102.8], [247.3, 103.3], [224.4, 126.4], [204.3, 141.5], [242.3, 141.9]]
)
RANDOM = np.random.default_rng(7)
RATE = 25


def pixels(**changes: Any) -> Pixels:
    facts: dict[str, Any] = {
        "size": 112,
        "colour": "rgb",
        "alignment": "box",
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
    }
    return Pixels(**(facts | changes))


ALIGNED = pixels(alignment="similarity5", template=TEMPLATE)


def face(box: tuple[float, float, float, float] = (0, 0, 1, 1), points: Any = TEMPLATE) -> Face:
    return Face(box, np.array(points, float), 1.0)


def boxed(points: Any) -> Face:
    return face((0, 0, 1, 1), points)


def blob(height: int, width: int, x: float, y: float, sigma: float) -> np.ndarray:
    rows, cols = np.mgrid[0:height, 0:width]
    one = 250 * np.exp(-((cols - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(one.round().astype(np.uint8)[..., None], 3, axis=2)


def middle(image: np.ndarray) -> np.ndarray:
    weight = image[..., 0].astype(float)
    rows, cols = np.indices(weight.shape)
    return np.array([(cols * weight).sum(), (rows * weight).sum()]) / weight.sum()


def turned(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    a, b = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    return np.array([[a, -b, shift[0]], [b, a, shift[1]]])


def through(matrix: np.ndarray, points: Any) -> np.ndarray:
    return np.asarray(points, float) @ matrix[:, :2].T + matrix[:, 2]


# prepare: geometry


@pytest.mark.parametrize("seed", range(8))
def test_similarity_is_the_least_squares_solution(seed):
    source, target = np.random.default_rng(seed).normal(0, 50, (2, 5, 2))
    x, y = source.T
    rows = np.block(
        [
            [x[:, None], -y[:, None], np.ones((5, 1)), np.zeros((5, 1))],
            [y[:, None], x[:, None], np.zeros((5, 1)), np.ones((5, 1))],
        ]
    )
    a, b, tx, ty = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(similarity(source, target), [[a, -b, tx], [b, a, ty]], atol=1e-9)


@pytest.mark.parametrize(
    ("scale", "degrees"), list(itertools.product([1e-3, 0.4, 1, 30], [-170, -30, 0, 90]))
)
def test_similarity_recovers_a_known_motion(scale, degrees):
    known = turned(scale, degrees, (-300, 12))
    points = RANDOM.normal(100, 40, (5, 2))
    np.testing.assert_allclose(similarity(points, through(known, points)), known, atol=1e-8)


def test_similarity_of_points_that_coincide_only_shifts():
    np.testing.assert_allclose(
        similarity(np.full((5, 2), 7.0), np.full((5, 2), 9.0)), [[1, 0, 2], [0, 1, 2]]
    )


@pytest.mark.parametrize("scale", [0.3, 1, 2.6, 4.3])
@pytest.mark.parametrize("degrees", [-40, 0, 25])
def test_each_point_lands_on_the_template(scale, degrees):
    points = through(turned(112 * scale, degrees, (250 * scale, 180 * scale)), TEMPLATE)
    height, width = (np.ceil(points.max(axis=0))[::-1] + 60 * scale).astype(int)
    for point, (x, y) in zip(points, TEMPLATE, strict=True):
        crop = prepare(blob(height, width, *point, 5 * scale), boxed(points), ALIGNED)
        np.testing.assert_allclose(middle(crop), (x * 112 - 0.5, y * 112 - 0.5), atol=0.06)


@pytest.mark.parametrize(
    ("scale", "degrees", "shift"),
    [(1, 0, (3.4, 5)), (0.6, 15, (0, 0)), (1.7, -25, (0.5, 0)), (2.5, 60, (0, 0))],
)
def test_turning_scaling_and_shifting_the_picture_leaves_the_crop_as_it_was(scale, degrees, shift):
    picture = cv2.GaussianBlur(demo.portrait(), (0, 0), 2.5)
    matrix = turned(scale, degrees, shift)
    corners = through(matrix, [(0, 0), (511, 0), (0, 511), (511, 511)])
    matrix[:, 2] -= corners.min(axis=0)
    size = tuple(int(v) for v in np.ceil(np.ptp(corners, axis=0)) + 1)
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC)
    before = prepare(picture, boxed(FACE_POINTS), ALIGNED).astype(int)
    after = prepare(moved, boxed(through(matrix, FACE_POINTS)), ALIGNED).astype(int)
    assert np.abs(after - before).mean() < 1.0
    assert np.abs(after - before).max() < 16


@pytest.mark.parametrize("halve", [False, True])
@pytest.mark.parametrize("scale", [0.6, 0.49, 0.34, 0.2, 0.11, 0.05])
def test_shrinking_does_not_drift(scale, halve):
    at = np.array([56.3, 50.9]) / scale
    side = int(130 / scale)
    matrix = np.array([[scale, 0, 3.3], [0, scale, -2.1]])
    crop = warp(blob(side, side, *at, 8 / scale), matrix, pixels(), halve=halve)
    np.testing.assert_allclose(middle(crop), at * scale + (3.3, -2.1), atol=0.03)


@pytest.mark.parametrize("factor", [2, 3, 5, 9])
def test_shrinking_averages_as_an_area_resize_does(factor):
    side = 112 * factor
    picture = RANDOM.integers(0, 256, (side, side, 3), np.uint8)
    expected = picture.reshape(112, factor, 112, factor, 3).mean(axis=(1, 3))
    found = prepare(picture, face((0, 0, side, side)), pixels()).astype(float)
    # Exactly a half is still sampled, between the pixels, which is the same average.
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    "make",
    [prepare, lambda image, _, how: prepare_crop(image, how)],
    ids=["prepare", "prepare_crop"],
)
def test_a_checkerboard_shrinks_to_grey_and_not_to_a_pattern(make):
    board = np.repeat(
        (np.indices((1000, 1000)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2
    )
    smooth = make(board, face((0, 0, 1000, 1000)), pixels())
    rough = make(board, face((0, 0, 1000, 1000)), pixels(resize="linear"))
    assert smooth.std() < 6
    assert rough.std() > 40


@pytest.mark.parametrize("shape", [(1000, 50), (50, 1000), (1000, 112), (112, 1000)])
def test_a_long_crop_is_averaged_along_its_long_side(shape):
    stripes = np.indices(shape)[np.argmax(shape)] % 2 * 255
    crop = prepare_crop(np.repeat(stripes.astype(np.uint8)[..., None], 3, axis=2), pixels())
    assert crop.shape == (112, 112, 3)
    assert crop.std() < 15


def test_a_crop_of_the_right_size_is_left_alone():
    crop = RANDOM.integers(0, 256, (112, 112, 3), np.uint8)
    assert np.array_equal(prepare_crop(crop, pixels()), crop)
    assert np.array_equal(prepare(crop, face((0, 0, 112, 112)), pixels()), crop)


@pytest.mark.parametrize("margin", [0, 0.1, 0.5, 1])
@pytest.mark.parametrize("box", [(50, 60, 40, 40), (10.5, 20, 33, 70), (-30, 90, 80, 21)])
def test_a_box_is_centred_with_its_margin_around_the_longer_side(box, margin):
    x, y, w, h = box
    matrix = crop_matrix(face(box), pixels(margin=margin))
    # Edges of boxes lie between pixels, half a pixel before their centres.
    left, top, right, bottom = (
        through(matrix, [(x - 0.5, y - 0.5), (x + w - 0.5, y + h - 0.5)]).ravel() + 0.5
    )
    assert left + right == pytest.approx(112)
    assert top + bottom == pytest.approx(112)
    assert max(right - left, bottom - top) == pytest.approx(112 / (1 + 2 * margin))


@pytest.mark.parametrize(
    "box",
    [
        (-100, -100, 50, 50),
        (1e6, 5, 30, 30),
        (-5000, -5000, 10000, 10000),
        (3, 3, 0, 0),
        (0, 0, 1e9, 1e9),
    ],
)
@pytest.mark.parametrize("shape", [(40, 60), (1, 1), (1, 500), (500, 1)])
def test_beyond_the_frame_its_edge_goes_on(box, shape):
    crop = prepare(np.full((*shape, 3), 77, np.uint8), face(box), pixels())
    assert crop.shape == (112, 112, 3)
    assert (crop == 77).all()


def test_the_edge_that_goes_on_is_the_nearest():
    halves = np.repeat(
        np.array([10, 200], np.uint8)[None, [0] * 50 + [1] * 50, None], 100, axis=0
    ).repeat(3, axis=2)
    assert (prepare(halves, face((-80, 0, 60, 60)), pixels()) == 10).all()
    assert (prepare(halves, face((120, 0, 60, 60)), pixels()) == 200).all()


# prepare: what the network is given


@pytest.mark.parametrize(
    ("colour", "weights"),
    [("rgb", np.eye(3)), ("bgr", np.eye(3)[::-1]), ("grey", np.array([[0.299, 0.587, 0.114]]))],
    ids=["rgb", "bgr", "grey"],
)
def test_normalise_is_weights_then_mean_then_std(colour, weights):
    crops = RANDOM.integers(0, 256, (3, 16, 16, 3), np.uint8)
    mean, std = (100.0, 110.5, 120.0)[: len(weights)], (50.0, 60.0, 7.5)[: len(weights)]
    found = normalise(list(crops), pixels(size=16, colour=colour, mean=mean, std=std))
    assert found.dtype == np.float32
    assert found.shape == (3, len(weights), 16, 16)
    assert found.flags["C_CONTIGUOUS"]
    for n, c, y, x in itertools.product(range(3), range(len(weights)), range(16), range(16)):
        value = (float(weights[c] @ crops[n, y, x]) - mean[c]) / std[c]
        assert found[n, c, y, x] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"size": 8}, "size"),
        ({"size": 4096}, "size"),
        ({"colour": "hsv"}, "colour"),
        ({"margin": -0.1}, "margin"),
        ({"margin": 1.5}, "margin"),
        ({"mean": (0, 0)}, "mean"),
        ({"std": (1, 1, 0)}, "std"),
        ({"std": (1, 1, -1)}, "std"),
        ({"mean": (0, 0, float("nan"))}, "mean"),
        ({"std": (1, 1, float("inf"))}, "std"),
        ({"colour": "grey"}, "grey"),
        ({"alignment": "similarity5"}, "template"),
        ({"template": TEMPLATE}, "template"),
        ({"template": TEMPLATE[:4]}, "template"),
        ({"resize": "cubic"}, "resize"),
        ({"alingment": "box"}, "alingment"),
    ],
)
def test_pixels_that_make_no_sense_are_refused_by_name(changes, key):
    with pytest.raises(ValidationError, match=key):
        pixels(**changes)


def test_pixels_come_back_from_json_as_they_were():
    assert Pixels.model_validate_json(ALIGNED.model_dump_json()) == ALIGNED


# detect: exact geometry, with a network that sees bright squares


def squares(luma: np.ndarray) -> np.ndarray:
    """A hand-made network of the detector's layout.

    Every bright patch is a face, its corners and middle are the points.
    """
    count, _, height, width = luma.shape
    corners = anchor_points(height, width)
    grid = np.zeros((count, len(corners), 15), np.float32)
    for row, picture in zip(grid, luma, strict=True):
        for x, y, w, h, _ in cv2.connectedComponentsWithStats((picture[0] > 128).astype(np.uint8))[
            2
        ][1:]:
            cell = int(y + h / 2) // 8 * (width // 8) + int(x + w / 2) // 8
            points = np.array(
                [(x, y), (x + w, y), (x + w / 2, y + h / 2), (x, y + h), (x + w, y + h)]
            )
            parts = [
                [1.0],
                ((x + w / 2, y + h / 2) - corners[cell, :2]) / 8,
                np.log([w / 8, h / 8]),
                ((points - corners[cell, :2]) / 8).ravel(),
            ]
            row[cell] = np.concatenate(parts)
    return grid


SQUARES = Detector(squares, least=0.5, keep=0.5, overlap=0.4, side=640, window=128)


def patches(shape: tuple[int, int], *boxes: Sequence[float]) -> np.ndarray:
    image = np.zeros((*shape, 3), np.uint8)
    for x, y, w, h in boxes:
        image[max(int(y), 0) : int(y + h), max(int(x), 0) : int(x + w)] = 255
    return image


def test_cells_are_row_by_row_at_each_stride():
    expected = [[x, y, s] for s in STRIDES for y in range(0, 64, s) for x in range(0, 96, s)]
    assert anchor_points(64, 96).tolist() == expected


def test_decode_is_what_the_layout_says():
    grid, corners = RANDOM.normal(0, 1, (84, 15)).astype(np.float32), anchor_points(64, 64)
    expected = []
    for row, (x, y, s) in zip(grid, corners, strict=True):
        if row[0] >= 0.3:
            w, h = np.exp(row[3]) * s, np.exp(row[4]) * s
            points = [value * s + (x, y)[i % 2] for i, value in enumerate(row[5:])]
            expected.append([x + row[1] * s - w / 2, y + row[2] * s - h / 2, w, h, *points, row[0]])
    assert len(expected) > 10
    np.testing.assert_allclose(decode(grid, corners, 0.3), expected, rtol=1e-4, atol=1e-3)


def candidates(*found: tuple[float, float, float, float]) -> Detector:
    """A detector whose network answers a 64x64 frame with squares, and anything else with none.

    Each square is its score, x and y of its middle, and its side.
    """
    grid = np.zeros((1, len(anchor_points(64, 64)), 15), np.float32)
    for i, (score, x, y, side) in enumerate(found):
        at = anchor_points(64, 64)[i, :2]
        grid[0, i, :5] = score, (x - at[0]) / 8, (y - at[1]) / 8, np.log(side / 8), np.log(side / 8)
    none = np.zeros((1, len(anchor_points(32, 32)), 15), np.float32)
    return Detector(
        lambda luma: grid if luma.shape[2] == 64 else none,
        least=0.5,
        keep=0.5,
        overlap=0.4,
        side=640,
        window=64,
    )


def test_of_boxes_that_overlap_the_surest_stays_and_the_surest_comes_first():
    found = candidates(
        (0.6, 20, 20, 16), (0.9, 22, 21, 16), (0.7, 50, 50, 16), (0.4, 10, 50, 16)
    ).find(np.zeros((64, 64, 3), np.uint8))
    assert [round(one.confidence, 2) for one in found] == [0.9, 0.7]
    # The weaker view of the first face votes on its place with the square of its score.
    np.testing.assert_allclose(
        found[0].box[:2], (0.36 * np.array([12, 12]) + 0.81 * np.array([14, 13])) / 1.17, rtol=1e-5
    )
    assert found[1].box[:2] == (42, 42)


def test_boxes_that_overlap_little_both_stay():
    found = candidates((0.9, 20, 20, 16), (0.8, 29, 20, 16)).find(np.zeros((64, 64, 3), np.uint8))
    assert overlap(found[0].box, found[1].box) < 0.4
    assert len(found) == 2


def test_the_least_score_counts_and_less_does_not():
    assert len(candidates((0.5, 20, 20, 16)).find(np.zeros((64, 64, 3), np.uint8))) == 1
    assert candidates((0.4999, 20, 20, 16)).find(np.zeros((64, 64, 3), np.uint8)) == []


@pytest.mark.parametrize(
    "shape",
    [(360, 640), (640, 360), (1080, 1920), (1920, 1080), (97, 101), (33, 641), (2000, 2000)],
)
def test_find_answers_in_frame_pixels(shape):
    unit = min(shape) / 32
    box = (shape[1] * 0.6, shape[0] * 0.2, 9 * unit, 12 * unit)
    (found,) = SQUARES.find(patches(shape, box))
    within = 2 * max(1.0, max(shape) / 640)
    np.testing.assert_allclose(found.box, box, atol=within)
    x, y, w, h = found.box
    np.testing.assert_allclose(
        found.points,
        [(x, y), (x + w, y), (x + w / 2, y + h / 2), (x, y + h), (x + w, y + h)],
        atol=0.01,
    )


@pytest.mark.parametrize("side", [20, 64, 150, 333])
@pytest.mark.parametrize(("across", "down"), list(itertools.product([0, 0.5, 1], [0, 0.5, 1])))
def test_follow_sees_a_face_at_the_frame_s_border_where_it_is(side, across, down):
    shape = (700, 900)
    # A third of the face is outside at the borders; what is left of it is what can be found.
    x, y = (
        round(across * (900 - side / 3) - (1 - across) * side / 3),
        round(down * (700 - side / 3) - (1 - down) * side / 3),
    )
    (found,) = SQUARES.follow(
        patches(shape, (x, y, side, side)), [(x + side * 0.1, y - side * 0.1, side, side)]
    )
    assert found is not None
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, 900), min(y + side, 700)
    np.testing.assert_allclose(
        found.box, (left, top, right - left, bottom - top), atol=max(1.0, 2.5 * side / 64)
    )


def test_follow_takes_the_face_nearest_to_the_middle_of_where_it_looks():
    frame = patches((300, 300), (100, 100, 40, 40), (150, 100, 25, 40))
    found = SQUARES.follow(frame, [(98, 100, 40, 40), (152, 100, 25, 40), (10, 250, 30, 30)])
    assert [one and round(one.box[0], -1) for one in found] == [100, 150, None]


@pytest.mark.parametrize("box", [(100, 100, 0, 0), (100, 100, 40, 0), (100, 100, 0, 40)])
def test_follow_finds_nothing_near_a_box_without_area(box):
    assert SQUARES.follow(patches((300, 300), (95, 95, 20, 20)), [box]) == [None]


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_face_in_a_turned_window_is_where_it_is(turn):
    box = (100, 80, 30, 40)
    (found,) = SQUARES.follow(patches((300, 300), box), [(96, 84, 30, 40)], [turn])
    assert found is not None
    np.testing.assert_allclose(found.box, box, atol=2)
    # The corners as they would be named if the face stood upright.
    x, y, w, h = found.box
    corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
    expected = np.roll(corners, turn // 90, axis=0)
    np.testing.assert_allclose(found.points[[0, 1, 4, 3]], expected, atol=1e-6)


@pytest.mark.parametrize("turn", [20, 45, 160, 300])
def test_a_window_may_be_turned_by_any_angle(turn):
    box = (120, 90, 36, 36)
    (found,) = SQUARES.follow(patches((300, 300), box), [(116, 94, 40, 40)], [turn])
    assert found is not None
    x, y, w, h = found.box
    np.testing.assert_allclose((x + w / 2, y + h / 2), (138, 108), atol=1.5)


@pytest.mark.parametrize("turns", [(0,), (90,), (180,), (270,), (0, 90, 180, 270)])
@pytest.mark.parametrize("shape", [(360, 640), (700, 300)])
def test_a_turned_search_answers_in_pixels_of_the_frame(shape, turns):
    box = (shape[1] * 0.6, shape[0] * 0.2, 40, 60)
    (found,) = SQUARES.find(patches(shape, box), turns=turns)
    np.testing.assert_allclose(found.box, box, atol=2)


def test_the_search_follows_the_frame():
    def scale(longer: int, min_face: float | None = None) -> float:
        return SQUARES.scale_for(np.zeros((9, longer, 3), np.uint8), min_face)

    sides = [round(scale(longer) * longer) for longer in (500, 640, 1280, 1920, 3840, 8000)]
    assert sides == [500, 640, 640, 640, 1280, 1280]
    # A face of that width is as wide in the searched picture as the network needs.
    assert scale(3840, 48) * 48 == pytest.approx(32)
    assert scale(3840, 2000) == scale(3840)
    assert scale(640, 10) == 1
    assert scale(8000, 20) * 8000 == pytest.approx(3840)


def test_follow_of_nobody_asks_nothing():
    def never(_: np.ndarray) -> np.ndarray:
        raise AssertionError("the network was run")

    assert (
        Detector(never, least=0.5, keep=0.4, overlap=0.4, side=640, window=128).follow(
            np.zeros((9, 9, 3), np.uint8), []
        )
        == []
    )


# detect: the embedded network on a real face


@cache
def detector() -> Detector:
    return load_detector(engine="onnxruntime")


@cache
def head() -> np.ndarray:
    """The portrait around its face, so that little else is in the picture."""
    return demo.portrait()[20:220, 120:300]


HEAD_BOX = (FACE_BOX[0] - 120, FACE_BOX[1] - 20, *FACE_BOX[2:])
HEAD_POINTS = FACE_POINTS - (120, 20)


def pasted(
    shape: tuple[int, int],
    *places: tuple[float, float],
    scale: float = 1.0,
    what: np.ndarray | None = None,
) -> np.ndarray:
    """Heads on grey with their upper left corner at `places`, cut off at the frame's edge."""
    frame = np.full((*shape, 3), 110, np.uint8)
    piece = head() if what is None else what
    piece = cv2.resize(
        piece,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    for x, y in places:
        matrix = np.array([[1, 0, x], [0, 1, y]], float)
        cv2.warpAffine(piece, matrix, shape[::-1], frame, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    return frame


def scaled(
    box: Sequence[float], scale: float, place: tuple[float, float] = (0, 0)
) -> tuple[float, float, float, float]:
    x, y, w, h = (value * scale for value in box)
    return x + place[0], y + place[1], w, h


def off(found: Face, points: np.ndarray, box: Sequence[float]) -> float:
    """Mean distance of the five points, in fractions of the face's width."""
    return float(np.hypot(*(found.points - points).T).mean() / box[2])


def test_the_portrait_s_surest_face_is_its_face():
    best = detector().find(demo.portrait())[0]
    assert best.confidence > 0.9
    assert overlap(best.box, FACE_BOX) > 0.75
    assert off(best, FACE_POINTS, FACE_BOX) < 0.06


@pytest.mark.parametrize(
    ("shape", "scale"),
    [
        *itertools.product([(360, 640), (640, 360), (480, 480)], [0.5, 0.8, 1, 1.6]),
        ((720, 1280), 1.2),
        ((2160, 3840), 3),
    ],
)
def test_one_head_is_one_face_in_frames_of_any_shape(shape, scale):
    place = (20, 30)
    (found,) = detector().find(pasted(shape, place, scale=scale))
    expected = scaled(HEAD_BOX, scale, place)
    assert overlap(found.box, expected) > 0.65
    assert off(found, HEAD_POINTS * scale + place, expected) < 0.1


def test_six_faces_on_a_large_screen_are_all_found():
    scale = 130 / HEAD_BOX[2]
    places = [(40 + 620 * number, 150 + 250 * number) for number in range(6)]
    faces = Tracker(detector()).update(pasted((2160, 3840), *places, scale=scale), 0.0)
    assert len(faces) == 6
    for face, place in zip(faces, places, strict=True):
        assert overlap(face.box, scaled(HEAD_BOX, scale, place)) > 0.65


def test_a_closer_look_finds_a_face_far_away():
    scale, place = 36 / HEAD_BOX[2], (1500, 300)
    frame = pasted((1080, 1920), place, scale=scale)
    (face,) = Tracker(detector(), min_face=30).update(frame, 0.0)
    assert overlap(face.box, scaled(HEAD_BOX, scale, place)) > 0.5


def test_a_face_in_the_dark_is_found():
    frame = pasted((360, 640), (200, 60))
    (light,) = detector().find(frame)
    dark = frame // 5
    (found,) = detector().find(dark)
    assert overlap(found.box, light.box) > 0.8
    (followed,) = detector().follow(dark, [light.box])
    assert followed is not None
    assert overlap(followed.box, light.box) > 0.8


@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 2, 4])
def test_follow_agrees_with_the_truth_from_wherever_it_starts(scale):
    frame = cv2.resize(
        demo.portrait(),
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    expected = scaled(FACE_BOX, scale)
    for across, down, larger in [
        (0, 0, 1),
        (0.25, 0, 1),
        (-0.25, 0.1, 1),
        (0, 0.25, 1.2),
        (0.1, -0.25, 0.8),
    ]:
        x, y, w, h = expected
        start = (x + across * w, y + down * h, w * larger, h * larger)
        (found,) = detector().follow(frame, [start])
        assert found is not None
        assert overlap(found.box, expected) > 0.65
        assert off(found, FACE_POINTS * scale, expected) < 0.1


def test_following_a_still_face_settles_and_does_not_wander():
    box, seen = FACE_BOX, []
    for _ in range(20):
        (found,) = detector().follow(demo.portrait(), [box])
        assert found is not None
        box = found.box
        seen.append(box)
    assert min(overlap(a, b) for a, b in itertools.pairwise(seen[5:])) > 0.75
    assert overlap(box, FACE_BOX) > 0.75


def cut_off(side: str, cut: float) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The portrait without that share of its face on that side, and where the face's box is."""
    x, y, w, h = (round(v) for v in FACE_BOX)
    left, top, right, bottom = 0, 0, 512, 512
    if side == "left":
        left = round(x + cut * w)
    elif side == "right":
        right = round(x + w - cut * w)
    elif side == "top":
        top = round(y + cut * h)
    else:
        bottom = round(y + h - cut * h)
    part = np.ascontiguousarray(demo.portrait()[top:bottom, left:right])
    return part, (x - left, y - top, w, h)


@pytest.mark.parametrize(("cut", "least"), [(0.15, 4), (0.3, 3)])
def test_a_face_partly_outside_the_frame_is_still_followed(cut, least):
    # Where three tenths are outside, it may be lost at one side of four.
    seen = 0
    for side in ("left", "right", "top", "bottom"):
        part, expected = cut_off(side, cut)
        (found,) = detector().follow(part, [expected])
        seen += found is not None and overlap(found.box, expected) > 0.4
    assert seen >= least


def test_many_faces_followed_together_are_the_same_as_one_by_one():
    boxes = [
        (FACE_BOX[0] + dx, FACE_BOX[1] + dy, 92 * s, 111 * s)
        for dx, dy, s in RANDOM.normal((0, 0, 1), (15, 15, 0.1), (16, 3))
    ]
    boxes.append((400.0, 400.0, 5.0, 5.0))
    together = detector().follow(demo.portrait(), boxes)
    assert sum(one is not None for one in together) >= 16
    for box, found in zip(boxes, together, strict=True):
        (alone,) = detector().follow(demo.portrait(), [box])
        assert (alone is None) == (found is None)
        if alone and found:
            np.testing.assert_allclose(alone.box, found.box, atol=0.05)
            np.testing.assert_allclose(alone.points, found.points, atol=0.05)


def nothing(kind: str, shape: tuple[int, int]) -> np.ndarray:
    random = np.random.default_rng(3)
    if kind == "noise":
        return random.integers(0, 256, (*shape, 3), np.uint8)
    if kind == "clouds":
        rough = random.integers(0, 256, (7, 9, 3), np.uint8)
        return cv2.resize(rough, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.full((*shape, 3), {"black": 0, "grey": 128, "white": 255}[kind], np.uint8)


TINY = [(1, 1), (3, 5), (5, 3), (1, 5000), (5000, 1), (31, 33)]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        *itertools.product(
            ["noise", "clouds", "black", "grey", "white"], [(360, 640), (1000, 500)]
        ),
        *itertools.product(["black", "white"], TINY),
    ],
)
def test_nothing_is_found_where_nobody_is(kind, shape):
    image = nothing(kind, shape)
    assert detector().find(image) == []
    assert detector().follow(image, [(0, 0, *shape[::-1]), (-900, 4, 3, 3), (0, 0, 0, 0)]) == [
        None,
        None,
        None,
    ]


@pytest.mark.skipif(
    not MEDIA.is_dir(), reason="../shared/media is not here: no group photo to look at"
)
def test_people_of_a_group_photo_are_all_found():
    (frame,) = open_source(MEDIA / "multi_face.jpg").frames(0.0)
    assert frame.pixels is not None
    found = detector().find(frame.pixels)
    assert len(found) >= 5
    assert all(overlap(a.box, b.box) < 0.4 for a, b in itertools.combinations(found, 2))
    followed = detector().follow(frame.pixels, [one.box for one in found])
    same = [
        one is not None and overlap(one.box, before.box) > 0.5
        for one, before in zip(followed, found, strict=True)
    ]
    assert np.mean(same) >= 0.8


# track


def film(
    seconds: float, draw: Callable[[float], np.ndarray], rate: float = RATE
) -> list[tuple[float, np.ndarray]]:
    return [(i / rate, draw(i / rate)) for i in range(round(seconds * rate))]


def tracks(
    frames: Sequence[tuple[float, np.ndarray]], finder: Detector, interval_s: float = 0.0
) -> list[list[Face]]:
    tracker = Tracker(finder)
    return [tracker.update(image, time_s) for time_s, image in frames]


def ids(looks: Sequence[Sequence[Face]]) -> list[list[int | None]]:
    return [[one.track for one in faces] for faces in looks]


def heads(
    *paths: Callable[[float], tuple[float, float] | None], scale: float = 0.6
) -> Callable[[float], np.ndarray]:
    def draw(time_s: float) -> np.ndarray:
        places = [path(time_s) for path in paths]
        return pasted((360, 640), *[place for place in places if place], scale=scale)

    return draw


def boxes(*paths: Callable[[float], tuple[float, float] | None]) -> Callable[[float], np.ndarray]:
    def draw(time_s: float) -> np.ndarray:
        places = [path(time_s) for path in paths]
        return patches(
            (360, 640), *[(x, y, 60, 60) for x, y in (place for place in places if place)]
        )

    return draw


WORLDS = pytest.mark.parametrize(
    ("draw", "finder"), [(heads, detector), (boxes, lambda: SQUARES)], ids=["heads", "squares"]
)


@WORLDS
@pytest.mark.parametrize("speed", [0, 150, 400])
def test_a_face_that_moves_keeps_its_number(draw, finder, speed):
    looks = tracks(film(1, draw(lambda t: (20 + speed * t, 60 + 80 * np.sin(3 * t)))), finder())
    assert ids(looks) == [[0]] * 25
    moved = np.array([faces[0].box[0] for faces in looks])
    assert moved[-1] - moved[0] == pytest.approx(speed * 24 / 25, abs=12)


@WORLDS
def test_two_side_by_side_keep_theirs_and_the_older_comes_first(draw, finder):
    looks = tracks(
        film(1.2, draw(lambda t: (120 + 10 * t, 100), lambda t: (260, 100) if t > 0.3 else None)),
        finder(),
    )
    assert {tuple(row) for row in ids(looks)} == {(0,), (0, 1)}
    assert all(a.box[0] < b.box[0] for a, b in (faces for faces in looks if len(faces) == 2))
    assert ids(looks)[-1] == [0, 1]


@WORLDS
def test_two_who_pass_each_other_at_a_distance_keep_their_numbers(draw, finder):
    looks = tracks(
        film(1, draw(lambda t: (60 + 400 * t, 10), lambda t: (460 - 400 * t, 190))), finder()
    )
    assert all(sorted(row) == [0, 1] for row in ids(looks))
    first = [next(one.box for one in faces if one.track == 0) for faces in (looks[0], looks[-1])]
    assert (first[0][1] < 130) == (first[1][1] < 130)


@pytest.mark.parametrize("seconds", [0.8, 1.0, 1.25, 2.0])
def test_who_passes_in_front_of_another_keeps_the_number_and_the_other_gets_no_one_else_s(seconds):
    # The second head is drawn over the first; both at one height, so for a while only one can be
    # seen.
    speed = 400 / seconds
    looks = tracks(
        film(seconds, heads(lambda t: (60 + speed * t, 90), lambda t: (460 - speed * t, 90))),
        detector(),
    )
    behind, front = sorted(looks[0], key=lambda one: one.box[0])
    last = sorted(looks[-1], key=lambda one: one.box[0])
    assert len(last) == 2
    assert last[0].track == front.track
    assert last[1].track == behind.track or last[1].track > 1


@WORLDS
def test_who_leaves_does_not_take_the_neighbour_s_number(draw, finder):
    leaves = 0.5
    looks = tracks(
        film(1.5, draw(lambda t: (150, 100) if t < leaves else None, lambda t: (225, 100))),
        finder(),
    )
    left = {one.track for faces in looks[:10] for one in faces if one.box[0] < 215}
    right = {one.track for faces in looks[:10] for one in faces if one.box[0] > 215}
    assert len(left) == len(right) == 1
    assert ids(looks)[13:] == [list(right)] * len(looks[13:])


@WORLDS
@pytest.mark.parametrize(("away", "same"), [(0.1, True), (0.3, True), (1.0, False)])
def test_who_comes_back_soon_is_the_same_and_who_comes_back_late_is_not(draw, finder, away, same):
    gone = (0.5, 0.5 + away)
    looks = tracks(
        film(gone[1] + 0.5, draw(lambda t: None if gone[0] <= t < gone[1] else (200, 80))), finder()
    )
    rows = ids(looks)
    assert rows[0] == [0]
    assert rows[-1] == [0 if same else 1]
    absent = [i / RATE for i, row in enumerate(rows) if not row]
    assert min(absent) >= gone[0] - 1e-9
    assert max(absent) < gone[1]
    assert (away < GAP_S) == same


@WORLDS
def test_who_walks_in_is_noticed_in_time(draw, finder):
    for enters in (0.3, 0.41, 0.52):
        looks = tracks(
            film(
                1.2,
                draw(
                    lambda t: (60, 100),
                    lambda t, enters=enters: (400, 100) if t >= enters else None,
                ),
            ),
            finder(),
        )
        noticed = next(i / RATE for i, faces in enumerate(looks) if len(faces) == 2)
        assert enters <= noticed <= enters + SEARCH_S + 1 / RATE


def test_an_empty_room_is_searched_at_every_frame():
    looks = tracks(film(0.6, boxes(lambda t: (300, 100) if t >= 0.2 else None)), SQUARES)
    assert ids(looks) == [[]] * 5 + [[0]] * 10


def test_a_cut_to_another_picture_starts_new_numbers_that_were_never_used():
    one, other = cv2.resize(demo.portrait(), (360, 360)), pasted((360, 360), (90, 60))
    looks = tracks([(i / RATE, one if (i // 8) % 2 == 0 else other) for i in range(40)], detector())
    seen = [
        {number for row in ids(looks[start : start + 8]) for number in row}
        for start in range(0, 40, 8)
    ]
    assert all(seen)
    assert all(not a & b for a, b in itertools.combinations(seen, 2))
    assert all(max(a) < min(b) for a, b in itertools.pairwise(seen))


def test_a_change_of_frame_size_is_a_cut():
    looks = tracks(
        [
            (0.0, patches((360, 640), (100, 100, 60, 60))),
            (0.04, patches((640, 360), (100, 100, 60, 60))),
        ],
        SQUARES,
    )
    assert ids(looks) == [[0], [1]]


@WORLDS
@pytest.mark.parametrize("interval_s", [0.2, 1.0, 5.0])
def test_frames_left_out_on_purpose_do_not_break_a_track(draw, finder, interval_s):
    frames = film(
        8 * interval_s,
        draw(lambda t: (200 + 15 * np.sin(t), 80), lambda t: (420, 90)),
        1 / interval_s,
    )
    looks = tracks(frames, finder(), interval_s)
    assert [sorted(row) for row in ids(looks)] == [[0, 1]] * 8
    assert len({faces[0].box[0] > 330 for faces in looks}) == 1


def test_the_same_film_gives_the_same_tracks():
    frames = film(
        0.8,
        heads(lambda t: (20 + 300 * t, 60), lambda t: (380 - 100 * t, 150) if t > 0.2 else None),
    )
    first, second = (tracks(frames, detector()) for _ in range(2))
    assert ids(first) == ids(second)
    assert [one.box for faces in first for one in faces] == [
        one.box for faces in second for one in faces
    ]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_numbers_are_unique_in_a_frame_in_order_and_never_come_back_late(seed):
    random = np.random.default_rng(seed)
    start, speed = random.uniform((0, 0), (560, 280), (4, 2)), random.uniform(-500, 500, (4, 2))
    on = random.uniform(0, 1.5, (4, 2))

    def path(i: int) -> Callable[[float], tuple[float, float] | None]:
        return lambda t: (
            None
            if on[i].min() <= t < on[i].max()
            else tuple((start[i] + speed[i] * t) % (560, 280))
        )

    frames = film(2, boxes(*[path(i) for i in range(4)]))
    last: dict[int | None, float] = {}
    highest = -1
    for (time_s, _), row in zip(frames, ids(tracks(frames, SQUARES)), strict=True):
        assert row == sorted(set(row))
        for number in row:
            assert number in last or number > highest
            assert time_s - last.get(number, time_s) <= GAP_S + 1e-9
            last[number] = time_s
        highest = max([highest, *row])


@pytest.mark.skipif(
    not MEDIA.is_dir(), reason="../shared/media is not here: no clip to follow a face through"
)
def test_one_face_in_a_real_clip_is_one_track():
    frames = [
        (frame.time_s, frame.pixels)
        for frame in open_source(MEDIA / "one_face_640x360.mp4").frames(0.0)
        if frame.pixels is not None
    ][:150]
    rows = ids(tracks(frames, detector()))
    assert sum(0 in row for row in rows) >= 0.95 * len(rows)
    assert sum(len(row) == 1 for row in rows) >= 0.9 * len(rows)


def test_overlap_is_symmetric_between_zero_and_one():
    for a, b in RANDOM.uniform(1, 50, (50, 2, 4)):
        both = overlap(tuple(a), tuple(b))
        assert 0 <= both < 1
        assert both == overlap(tuple(b), tuple(a))
        assert overlap(tuple(a), tuple(a)) == pytest.approx(1)
