"""What is drawn over faces hides what it is said to hide, turns with the face, and leaves the rest."""

import cv2
import numpy as np
import pytest

from mien.data.drawn.occluders import OCCLUDERS, REGIONS, cover_regions, occlude

# Eyes 60 px apart, upright, in the middle of the picture.
POINTS = np.array([(90, 100), (150, 100), (120, 132), (97, 164), (143, 164)], float)
SIDE = 240


def picture():
    return np.random.default_rng(0).integers(60, 200, (SIDE, SIDE, 3), dtype=np.uint8)


def turned(degrees):
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (POINTS - SIDE / 2) @ matrix.T + SIDE / 2


@pytest.mark.parametrize("kind", OCCLUDERS)
def test_a_kind_changes_what_it_covers_and_nothing_else(kind):
    image = picture()
    before = image.copy()
    hidden, alpha = occlude(image, POINTS, kind, np.random.default_rng(3))
    assert (image == before).all()
    assert hidden.shape == image.shape
    assert hidden.dtype == np.uint8
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    assert alpha.max() > 0.05
    assert (hidden[alpha == 0] == image[alpha == 0]).all()
    again, _ = occlude(image, POINTS, kind, np.random.default_rng(3))
    assert (again == hidden).all()


@pytest.mark.parametrize(
    ("kind", "covered", "free"),
    [
        ("mask", ["nose", "mouth"], ["left_eye", "right_eye", "brows"]),
        ("scarf", ["mouth"], ["left_eye", "right_eye", "brows"]),
        ("sunglasses", ["left_eye", "right_eye"], ["mouth"]),
        ("glasses", [], ["mouth", "nose"]),
        ("microphone", [], ["left_eye", "right_eye", "brows"]),
        ("hat", [], ["mouth", "nose"]),
    ],
)
def test_parts_of_the_face_are_covered_as_the_kind_says(kind, covered, free):
    shares = []
    for seed in range(10):
        _, alpha = occlude(picture(), POINTS, kind, np.random.default_rng(seed))
        shares.append(cover_regions(alpha, POINTS))
    for name in covered:
        assert np.mean([share[name] for share in shares]) > 0.6, name
    for name in free:
        assert np.mean([share[name] for share in shares]) < 0.1, name


@pytest.mark.parametrize("kind", ["mask", "sunglasses", "hand", "half"])
@pytest.mark.parametrize("degrees", [-70, 35, 180])
def test_an_occluder_turns_with_the_face(kind, degrees):
    plain = np.full((SIDE, SIDE, 3), 128, np.uint8)
    upright, turned_too = (
        cover_regions(occlude(plain, points, kind, np.random.default_rng(1))[1], points)
        for points in (POINTS, turned(degrees))
    )
    # What lies beyond the picture, and edges on other pixels, make small differences.
    for name in REGIONS:
        assert upright[name] == pytest.approx(turned_too[name], abs=0.06)


def test_the_cover_of_a_part_is_the_covered_share_of_its_ellipse():
    assert set(cover_regions(np.zeros((SIDE, SIDE), np.float32), POINTS).values()) == {0.0}
    assert set(cover_regions(np.ones((SIDE, SIDE), np.float32), POINTS).values()) == {1.0}
    right_half = np.zeros((SIDE, SIDE), np.float32)
    right_half[:, 120:] = 1
    shares = cover_regions(right_half, POINTS)
    assert shares["left_eye"] == 0
    assert shares["right_eye"] == 1
    for name in ("brows", "nose", "mouth"):
        assert shares[name] == pytest.approx(0.5, abs=0.05)


def test_a_part_beyond_the_picture_is_covered():
    shares = cover_regions(np.zeros((SIDE, SIDE), np.float32), POINTS - (0, 125))
    assert shares["left_eye"] == shares["right_eye"] == shares["brows"] == 1
    assert shares["mouth"] == 0


def test_a_face_of_one_pixel_is_no_error():
    points = np.full((5, 2), 7.0)
    for kind in OCCLUDERS:
        hidden, _ = occlude(cv2.resize(picture(), (16, 16)), points, kind, np.random.default_rng(0))
        assert hidden.shape == (16, 16, 3)
