"""The probability below which an expression is not named: what is chosen, what it costs, and what the card says of it."""

import shutil

import numpy as np
import pytest

from mien.bundles.card_parts import Score
from mien.bundles.store import embedded, load, open_bundle
from mien.errors import DataError
from mien.train.bundle.label_threshold import (
    choose_threshold,
    coverage_and_precision,
    named_labels,
    with_threshold,
)
from mien.train.settings.training import read_settings


def faces(seed: int, count: int = 2000):
    """Calibrated probabilities: each label is right as often as its probability says."""
    rng = np.random.default_rng(seed)
    probability = rng.uniform(0.2, 1.0, count)
    return probability, rng.random(count) < probability


@pytest.mark.parametrize("precision", [0.7, 0.8, 0.9])
def test_the_threshold_is_the_lowest_that_is_precise_enough(precision):
    probability, is_right = faces(0)
    chosen = choose_threshold(probability, is_right, precision)
    named = is_right[probability >= chosen]
    assert named.mean() >= precision
    for lower in np.arange(1, round(100 * chosen)) / 100:
        assert is_right[probability >= lower].mean() < precision
    # Of calibrated probabilities, uniform up to 1, the mean above t is (1 + t) / 2.
    assert chosen == pytest.approx(2 * precision - 1, abs=0.06)


def test_a_higher_precision_names_fewer_faces():
    probability, is_right = faces(1)
    shares = []
    for precision in (0.7, 0.8, 0.9):
        chosen = choose_threshold(probability, is_right, precision)
        shares.append(coverage_and_precision(probability, is_right, chosen)[0])
    assert shares[0] > shares[1] > shares[2] > 0


def test_what_cannot_be_chosen_is_refused():
    probability, is_right = faces(2)
    with pytest.raises(DataError, match="no threshold is needed"):
        choose_threshold(probability, is_right, 0.3)
    with pytest.raises(DataError, match=r"0\.99 of the labels right"):
        choose_threshold(probability, np.random.default_rng(0).random(2000) < 0.5, 0.99)


def test_the_card_holds_the_threshold_and_its_price_once():
    card = open_bundle("mien-s").card
    probability, is_right = faces(3)
    once = with_threshold(card, 0.5, probability, is_right, "faces")
    twice = with_threshold(once, 0.7, probability, is_right, "faces")
    assert (once.uncertain_below, twice.uncertain_below) == (0.5, 0.7)
    # In place of those of the card's own threshold.
    assert card.uncertain_below is not None
    assert len(once.scores) == len(twice.scores) == len(card.scores)
    coverage, precision = coverage_and_precision(probability, is_right, 0.7)
    added: list[Score] = list(twice.scores[-2:])
    assert [score.value for score in added] == [round(coverage, 4), round(precision, 4)]


def test_labels_of_validation_faces_are_read(tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(embedded()["mien-s"], folder)
    path = tmp_path / "drawn.yaml"
    data = "{set: drawn, count: 12, seed: 3, size: 96, split: val}"
    path.write_text(f"name: drawn\ntasks: [expr.abaw7]\ndata:\n  - {data}\n")
    probability, is_right = named_labels(load(folder), read_settings(path))
    assert len(probability) == len(is_right) == 12
    assert ((probability > 0) & (probability <= 1)).all()
