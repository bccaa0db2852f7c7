"""A detector's answers turn with the picture, and occluders are drawn over faces alone."""

import numpy as np
import pytest

from mien.faces.detect import anchor_points, decode, merge
from mien.train.builtin.detection.disturbed import hide_parts, rotation, turn_answers, turn_picture

SIDE = 320
# x, y, width, height, then five points, px.
FACE = np.array([100, 90, 80, 100, 120, 130, 160, 128, 141, 150, 125, 170, 158, 169], float)


def answers_with(face):
    """Every cell whose middle lies in the face names the face; all others see nothing."""
    anchors = anchor_points(SIDE, SIDE).astype(float)
    corners, stride = anchors[:, :2], anchors[:, 2:]
    x, y, width, height = face[:4]
    grid = np.zeros((len(anchors), 15))
    grid[:, 1:3] = ((x + width / 2, y + height / 2) - corners) / stride
    grid[:, 3:5] = np.log((width, height) / stride)
    grid[:, 5:] = (face[4:] - np.tile(corners, 5)) / stride
    middle = np.abs(corners + stride / 2 - (x + width / 2, y + height / 2))
    grid[:, 0] = (middle < (width / 4, height / 4)).all(axis=1)
    return grid.astype(np.float32)


@pytest.mark.parametrize("degrees", [-75, -20, 0, 45, 90])
def test_answers_turn_with_the_picture(degrees):
    matrix = rotation(SIDE, degrees)
    grid = turn_answers(answers_with(FACE), SIDE, matrix)
    [turned] = merge(decode(grid, anchor_points(SIDE, SIDE), 0.5), 0.4)
    points = FACE[4:].reshape(5, 2) @ matrix[:, :2].T + matrix[:, 2]
    assert turned[4:14].reshape(5, 2) == pytest.approx(points, abs=0.5)
    centre = FACE[:2] + FACE[2:4] / 2
    expected = centre @ matrix[:, :2].T + matrix[:, 2]
    assert turned[:2] + turned[2:4] / 2 == pytest.approx(expected, abs=0.5)
    # A quarter turn swaps the sides of the box.
    if degrees == 90:
        assert turned[2:4] == pytest.approx(FACE[[3, 2]], abs=0.5)


def test_what_comes_from_beyond_the_picture_sees_no_face():
    grid = np.zeros((len(anchor_points(SIDE, SIDE)), 15), np.float32)
    grid[:, 0] = 1
    turned = turn_answers(grid, SIDE, rotation(SIDE, 45))
    finest = turned[: (SIDE // 8) ** 2, 0].reshape(SIDE // 8, -1)
    assert finest[0, 0] == finest[-1, -1] == finest[0, -1] == 0
    assert finest[SIDE // 16, SIDE // 16] == 1


def test_a_turned_picture_moves_a_spot_to_where_its_answer_goes():
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[58:63, 198:203] = 255
    matrix = rotation(SIDE, 30)
    turned = turn_picture(picture, matrix, np.random.default_rng(2)).astype(float)
    expected = matrix[:, :2] @ (200, 60) + matrix[:, 2]
    x, y = np.rint(expected).astype(int)
    assert turned[y, x] == 255


def test_occluders_stay_near_faces():
    picture = np.full((SIDE, SIDE), 90, np.uint8)
    face = np.append(FACE, 0.9)
    assert (hide_parts(picture, [face], 0.0, np.random.default_rng(0)) == picture).all()
    hidden = hide_parts(picture, [face], 1.0, np.random.default_rng(0))
    assert (picture == 90).all()
    changed = np.argwhere(hidden != 90)
    assert len(changed)
    assert changed.min() >= 10
    assert changed[:, 0].max() <= 270
    assert changed[:, 1].max() <= 260
