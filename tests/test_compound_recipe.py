"""The compound-expression recipe from videos to its report: without labels, as the real data come, and with them."""

import json

import numpy as np
import pytest

from mien.bundles.card import read_card
from mien.data.frame_lists import read_list
from mien.data.standins.make import make_standin
from mien.data.submissions.check import check
from mien.errors import DataError
from mien.recipes.reproduce import reproduce

QUICK = {"epochs": 1, "steps.six.runs.0.fit.batch": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return {
        "cexpr": make_standin("c-expr-db", root / "cexpr", size=200),
        "affwild2": make_standin("aff-wild2", root / "affwild2", size=150),
    }


def test_the_recipe_runs_without_labels_and_then_only_judges_with_them(data, tmp_path):
    notes: list[str] = []
    found = reproduce("hse-abaw7-ce", data, tmp_path, changes=QUICK, note=notes.append)
    assert all(set(line.measures) == {"kl"} for line in found.rows)
    assert found.standin
    official = read_list(data["cexpr"] / "CER.txt")
    (sent,) = (tmp_path / "submissions").glob("*.txt")
    assert check(sent, "abaw2024.ce", official) == []
    told = json.loads((tmp_path / "hse-abaw7-ce.json").read_text())  # NaN and infinity are no JSON
    assert len(told["rows"]) == len(found.rows)

    notes.clear()
    labels = str(data["cexpr"] / "standin-labels" / "CER.txt")
    judged = reproduce(
        "hse-abaw7-ce", data, tmp_path, changes=QUICK | {"labels": labels}, note=notes.append
    )
    assert all(0 <= line.measures["score"][0] <= 1 for line in judged.rows)
    assert all("ce" not in line.measures for line in judged.rows)  # it is the score
    for line, before in zip(judged.rows, found.rows, strict=True):
        np.testing.assert_allclose(line.measures["kl"][0], before.measures["kl"][0])
    done = {note.split(", ")[1].split(":")[0] for note in notes if note.endswith("done before")}
    assert {"faces", "six_features", "six", "six_bundle", "six_faces"} <= done


NAMED_ALIKE = """
name: named-alike
title: Steps with the names that a system would give its own
paper: none
data:
  cexpr: {set: c-expr-db, get: "nowhere"}
protocol: abaw2024.ce
steps:
  faces: {do: faces, data: cexpr, bundle: mien-xs}
  mien_xs: {do: compounds, of: faces, data: cexpr}
  expressions: {do: compounds, of: faces, data: cexpr, window: 4}
  export: {do: system, of: expressions, name: named-alike}
rows:
  - {name: smoothed, of: expressions}
departures: [all]
"""


def test_names_of_a_systems_own_steps_do_not_clash_with_the_recipes(data, tmp_path):
    """The step that makes the system fails if its scores differ from those of the recipe's step."""
    (tmp_path / "alike.yaml").write_text(NAMED_ALIKE)
    cexpr = {"cexpr": data["cexpr"]}
    reproduce(tmp_path / "alike.yaml", cexpr, tmp_path / "out")
    card = read_card(tmp_path / "out/bundles/named-alike/card.json")
    assert list(card.members) == ["mien_xs_2"]
    assert list(card.steps) == ["expressions_2", "expressions"]
    assert card.steps["expressions"].of == "expressions_2"

    long_name = NAMED_ALIKE.replace("expressions", "e" * 81)
    (tmp_path / "long.yaml").write_text(long_name)
    with pytest.raises(DataError, match="should have at most 80 characters"):
        reproduce(tmp_path / "long.yaml", cexpr, tmp_path / "long")
    assert not (tmp_path / "long").exists()
