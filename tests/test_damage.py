"""Damaged pictures: what is known of the face changes with the picture, and with nothing else."""

import numpy as np
import pytest

from mien.data.drawn.damage import FAMILIES, KINDS, damage, intact
from mien.data.drawn.occluders import REGIONS

POINTS = np.array([(90, 100), (150, 100), (120, 132), (97, 164), (143, 164)], float)
SIDE = 240
MOVING = ("roll", "upside_down", "squeeze", "cut", "small")


def picture(value=None):
    if value is not None:
        return np.full((SIDE, SIDE, 3), value, np.uint8)
    return np.random.default_rng(0).integers(60, 200, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_repeats_and_the_picture_stays(kind):
    image = picture()
    clean = intact(image, POINTS)
    first, second = (damage(clean, [kind], np.random.default_rng(5)) for _ in range(2))
    assert (image == picture()).all()
    assert (first.image == second.image).all()
    assert first.image.dtype == np.uint8
    assert (first.points == second.points).all()
    assert np.isfinite(first.points).all()
    assert set(first.covered) == set(REGIONS)
    assert all(0 <= share <= 1 for share in first.covered.values())
    assert first.image.shape != image.shape or (first.image != image).any()
    if kind not in MOVING:
        assert (first.points == POINTS).all()
        assert first.roll == 0


@pytest.mark.parametrize("kind", MOVING)
def test_points_move_with_the_picture(kind):
    for seed in range(5):
        for index, (x, y) in enumerate(POINTS.astype(int)):
            image = picture(0)
            image[y - 3 : y + 4, x - 3 : x + 4] = 255
            shown = damage(intact(image, POINTS), [kind], np.random.default_rng(seed))
            height, width = shown.image.shape[:2]
            inside = (shown.points[index] >= 2) & (shown.points[index] < (width - 2, height - 2))
            light = shown.image[..., 0].astype(float)
            if not inside.all() or light.sum() == 0:
                continue
            rows, columns = np.mgrid[0:height, 0:width]
            centre = np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()
            # A spot of few pixels is not found better than this.
            assert centre == pytest.approx(shown.points[index], abs=1.0)


@pytest.mark.parametrize("kind", ["roll", "upside_down"])
def test_the_turn_is_that_of_the_line_between_the_eyes(kind):
    for seed in range(6):
        shown = damage(intact(picture(), POINTS), [kind], np.random.default_rng(seed))
        across = shown.points[1] - shown.points[0]
        angle = np.degrees(np.arctan2(across[1], across[0]))
        assert (angle - shown.roll + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)


def test_what_is_cut_off_counts_as_covered():
    covered = np.zeros(len(REGIONS))
    for seed in range(20):
        shown = damage(intact(picture(), POINTS), ["cut"], np.random.default_rng(seed))
        height, width = shown.image.shape[:2]
        for eye, point in (("left_eye", shown.points[0]), ("right_eye", shown.points[1])):
            outside = (point < -12).any() or (point > (width + 11, height + 11)).any()
            assert not outside or shown.covered[eye] > 0.5
        covered += list(shown.covered.values())
    assert (covered > 0).any()


def test_damage_is_done_in_the_order_of_the_world():
    clean = intact(picture(), POINTS)
    one, other = (
        damage(clean, kinds, np.random.default_rng(2))
        for kinds in (["jpeg", "mask"], ["mask", "jpeg"])
    )
    assert (one.image == other.image).all()
    assert one.covered["mouth"] > 0.5


def test_every_kind_is_in_one_family():
    assert sorted(kind for kinds in FAMILIES.values() for kind in kinds) == sorted(KINDS)
