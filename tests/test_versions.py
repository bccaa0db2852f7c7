"""Former networks that came with mien stay by name and version; thresholds of presence are chosen."""

import numpy as np
import pytest
from typer.testing import CliRunner

from mien.analysis.reader import Reader
from mien.bundles.readme import readme
from mien.bundles.store import bundle_folder, embedded, open_bundle
from mien.cli import app
from mien.data.blendshapes import AU_BLENDSHAPES
from mien.errors import UnknownNameError
from mien.metrics import f1
from mien.train.bundle.finish import LEAST_PRESENT, choose_presence


@pytest.mark.parametrize("name", embedded())
def test_folders_are_named_by_name_or_by_name_and_version(name):
    card = open_bundle(name).card
    base, _, number = name.partition("@")
    assert card.name == base
    assert card.version is not None
    if number:
        assert int(number) == card.version < open_bundle(base).card.version
    assert (embedded()[name] / "README.md").read_text(encoding="utf-8") == readme(card)


def test_without_a_version_the_newest_is_taken():
    newest = open_bundle("mien-face").card.version
    assert bundle_folder(f"mien-face@{newest}") == bundle_folder("mien-face")
    former = open_bundle("mien-face@1").card
    assert (former.name, former.version) == ("mien-face", 1)
    assert former.sha256 != open_bundle("mien-face").card.sha256


@pytest.mark.parametrize("name", ["mien-face@99", "mien-face@0", "mien-face@x", "mien-face@01"])
def test_an_unknown_version_names_those_there_are(name):
    with pytest.raises(UnknownNameError, match=r"no version named 'mien-face@.*mien-face@"):
        open_bundle(name)
    with pytest.raises(UnknownNameError, match="no bundle named 'mien-z@1'"):
        open_bundle("mien-z@1")


def test_dictionaries_and_the_list_say_which_version():
    with Reader(detector="mien-face@1", quality="none") as reader:
        facts = reader.facts()
    assert (facts["faces"]["name"], facts["faces"]["version"]) == ("mien-face", 1)
    assert facts["bundle"]["version"] == open_bundle("mien-s").card.version
    listed = CliRunner().invoke(app, ["bundles", "list"]).output
    rows = [line.split("\t") for line in listed.splitlines()]
    assert {row[0]: row[1] for row in rows}["mien-face@1"] == "with mien, version 1"


def made_up_units(count=2000):
    """A teacher's activations, and those of a network that gives four fifths of them."""
    random = np.random.default_rng(0)
    taught = random.uniform(0, 1, (count, len(AU_BLENDSHAPES.names)))
    scores = np.clip(0.8 * taught + random.normal(0, 0.03, taught.shape), 0, 1)
    return scores, taught, np.arange(count, dtype=float)


def test_a_unit_is_present_from_where_its_teacher_says_so():
    scores, taught, people = made_up_units()
    presence = choose_presence(scores, taught, people)
    assert set(presence.thresholds) == set(AU_BLENDSHAPES.names)
    assert list(presence.thresholds.values()) == pytest.approx([0.4] * 16)
    assert not presence.without
    for unit, score in enumerate(presence.scores):
        best = f1((scores[:, unit] >= 0.4).astype(float), (taught[:, unit] >= 0.5).astype(float))
        assert score.value == pytest.approx(best, abs=1e-4)
        assert score.low < score.value < score.high


def test_units_that_are_seldom_or_unsurely_present_have_no_threshold():
    scores, taught, people = made_up_units()
    random = np.random.default_rng(1)
    taught[:, 0] = 0.2
    taught[: LEAST_PRESENT - 1, 0] = 0.9
    taught[:, 1] = np.where(random.uniform(size=len(taught)) < 0.1, 0.9, 0.1)
    presence = choose_presence(scores, taught, people)
    assert presence.without == AU_BLENDSHAPES.names[:2]
