"""bench/groups.py and bench/robustness.py: what is compared between groups and strengths, on tables whose answers are known."""

import importlib.util
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT


def script(name):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "bench" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def groups():
    # Its sister is imported by name, as where it is run.
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        return script("groups")
    finally:
        sys.path.remove(str(ROOT / "bench"))


def table(smiling, wrong_smiles, wrong_rest, group):
    """200 people of a group, of whom so many smile; every fifth, tenth, … of them is misread."""
    rows = []
    for number in range(200):
        label = ("neutral", "sadness")[number % 2] if number >= smiling else "happiness"
        every = wrong_smiles if label == "happiness" else wrong_rest
        row = {"subject": f"{group}{number}", "label": label, "group": group}
        row |= {"agreement": number // 2 % every > 0, "valence error": 0.1}
        rows.append(row | {"found": True, "found in the dark": True, "found small": True})
    return pd.DataFrame(rows).assign(doubtful=False)


def test_groups_that_smile_more_are_not_better_for_it(groups):
    # Smiles are always read, all else four times in five, in both groups alike.
    faces = pd.concat([table(160, 10**6, 5, "a"), table(40, 10**6, 5, "b")], ignore_index=True)
    raw = faces.groupby("group")["agreement"].mean()
    assert raw["a"] > raw["b"] + 0.1
    compared = groups.compare(faces, faces["group"])
    gap, low, high = compared["gaps"]["agreement"]["gap"]
    assert gap < 0.02
    assert low < 0 < high


def test_a_gap_is_found_with_its_direction(groups):
    faces = pd.concat([table(100, 20, 20, "a"), table(100, 2, 2, "b")], ignore_index=True)
    faces["valence error"] = np.where(faces["group"] == "a", 0.3, 0.1)
    compared = groups.compare(faces, faces["group"])
    agreement, error = compared["gaps"]["agreement"], compared["gaps"]["valence error"]
    assert (agreement["best"], agreement["worst"]) == ("a", "b")
    assert agreement["gap"][0] == pytest.approx(0.45, abs=0.03)
    assert agreement["gap"][1] > 0.3
    assert (error["best"], error["worst"], error["gap"][0]) == ("b", "a", 0.2)


def test_small_groups_are_left_out(groups):
    faces = table(100, 5, 5, "a")
    group = pd.Series(np.where(np.arange(200) < groups.LEAST_FACES - 1, "few", "many"))
    assert groups.compare(faces, group) == {"groups": {}, "gaps": {}}


def test_skin_is_measured_at_the_cheeks(groups):
    points = np.array([[70.0, 80], [130, 80], [100, 110], [75, 140], [125, 140]])
    angles = []
    for colour in ((240, 205, 185), (190, 140, 110), (90, 60, 45)):
        image = np.zeros((200, 200, 3), np.uint8)
        # Nothing but the cheeks has a colour.
        for x in (70, 130):
            cv2.circle(image, (x, 110), 18, colour, -1)
        lightness, chroma, angle = groups.cheeks(image, points)
        red, green, blue = (np.array(colour) / 255).tolist()
        assert 0 < lightness < 100
        assert red > green > blue
        assert chroma > groups.LEAST_CHROMA
        angles.append(angle)
    assert angles[0] > angles[1] > angles[2]
    grey = np.full((200, 200, 3), 120, np.uint8)
    assert groups.cheeks(grey, points)[1] < groups.LEAST_CHROMA


def test_strength_is_how_much_of_the_picture_is_changed():
    robustness = script("robustness")
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 255, (32, 32)).astype(np.uint8)
    noise = rng.normal(0, 1, (32, 32))
    rows = [("", clean)]
    for scale in (10, 40, 160):
        rows.append(("noise", np.clip(clean + scale * noise, 0, 255).astype(np.uint8)))
    rows.append(("bright", np.full_like(clean, 255)))
    images = [cv2.imencode(".png", picture)[1].tobytes() for _, picture in rows]
    kinds = [kind for kind, _ in rows]
    changes = robustness.changes(pd.DataFrame({"kind": kinds, "image": images}))
    assert changes[0] == pytest.approx(0, abs=1e-9)
    assert (np.diff(changes) > 0).all()
    assert changes[-1] == 1
