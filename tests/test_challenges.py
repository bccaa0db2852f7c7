"""Protocols, submission formats and tasks go by the year and by the edition of their challenge."""

import pandas as pd
import pytest

from mien.data.submissions.formats import FORMATS, format_named
from mien.errors import UnknownNameError
from mien.evaluation.judge import headline, judge
from mien.protocols import PROTOCOLS, protocol_named
from mien.tasks import EDITIONS, TASKS, challenge_key, task, year_of

# As the challenges' own pages count them.
HELD = {2: 2021, 3: 2022, 4: 2022, 5: 2023, 6: 2024, 7: 2024, 8: 2025, 10: 2026, 11: 2026}


def test_the_years_of_the_editions():
    assert {number: edition.year for number, edition in EDITIONS.items()} == HELD
    for number, year in HELD.items():
        assert year_of(f"abaw{number}") == year_of(f"abaw{year}") == year


@pytest.mark.parametrize(
    "name", ["abaw", "abaw9", "abaw2020", "abaw 7", "abaw+7", "abaw²", "7", "abaw99999"]
)
def test_what_is_no_edition_has_no_year(name):
    assert year_of(name) is None


@pytest.mark.parametrize("known", [PROTOCOLS, FORMATS], ids=["protocols", "formats"])
def test_every_key_has_the_name_of_an_edition(known):
    """Every key by year is reached by at least one edition of that year, and no name leads to another year."""
    reached = set()
    for number, edition in EDITIONS.items():
        for track in edition.tracks:
            key = f"abaw{HELD[number]}.{track}"
            if key in known:
                assert challenge_key("protocol", f"abaw{number}.{track}", known) == key
                reached.add(key)
    assert reached == set(known)


def test_a_key_by_year_stays_what_it_is():
    assert all(protocol_named(name) is PROTOCOLS[name] for name in PROTOCOLS)
    assert all(format_named(name) is FORMATS[name] for name in FORMATS)
    assert all(task(key) is TASKS[key] for key in TASKS)


def test_two_editions_of_a_year_share_the_track_that_both_had():
    assert protocol_named("abaw3.mtl") is protocol_named("abaw4.mtl") is PROTOCOLS["abaw2022.mtl"]
    assert format_named("abaw6.ce") is format_named("abaw7.ce") is FORMATS["abaw2024.ce"]


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("abaw4", ["abaw4.lsd", "abaw4.mtl"]),
        ("abaw4.expr", ["abaw4.lsd", "abaw4.mtl"]),
        ("abaw7", ["abaw7.ce", "abaw7.mtl"]),
        ("abaw2022", [f"abaw2022.{track}" for track in ("au", "expr", "lsd", "mtl", "va")]),
        ("abaw2021.mtl", [f"abaw2021.{track}" for track in ("au", "expr", "va")]),
    ],
)
def test_a_name_that_is_not_enough_is_answered_with_the_choices(name, choices):
    with pytest.raises(UnknownNameError) as caught:
        protocol_named(name)
    line = str(caught.value)
    assert f"has {', '.join(choices)})" in line
    assert "\n" not in line


def test_a_name_of_no_challenge_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"did you mean abaw2024\.mtl\?"):
        protocol_named("abav2024.mtl")


def test_tasks_by_year_are_those_of_the_years_protocols():
    """By another road: the task that the formula of that year counts."""
    for name, protocol in PROTOCOLS.items():
        challenge = name.partition(".")[0]
        for term in protocol.terms:
            family = term.task.partition(".")[0]
            # The synthetic-data track has a label set of its own, beside that year's.
            if family != "va" and not name.endswith(".lsd"):
                assert task(f"{family}.{challenge}").key == term.task
    assert task("ah.abaw2025") is TASKS["ah.abaw8"]
    assert task("emi.abaw8") is TASKS["emi.abaw6"]


@pytest.mark.parametrize("key", ["expr.abaw4", "ce.abaw2021", "emi.abaw7", "expr.abaw2020"])
def test_a_task_of_no_challenge_is_refused(key):
    with pytest.raises(UnknownNameError, match="no task named"):
        task(key)


def test_a_recipe_by_edition_is_the_recipe_by_year():
    pytest.importorskip("torch")
    from mien.recipes.schema import read_recipe

    by_year = read_recipe("hse-abaw7-mtl")
    changes = {"protocol": "abaw7.mtl", "steps.submit_blend_tuned.format": "abaw7.mtl"}
    assert read_recipe("hse-abaw7-mtl", changes) == by_year
    assert by_year.protocol == by_year.steps["submit_blend_tuned"].format == "abaw2024.mtl"


def test_settings_take_tasks_by_year(tmp_path):
    pytest.importorskip("torch")
    from mien.train.settings.training import read_settings

    path = tmp_path / "settings.yaml"
    text = "name: tiny\ndata: [{{set: drawn, count: 40, seed: 0, size: 32}}]\ntasks: [expr.{}, au.{}]\n"
    path.write_text(text.format("abaw2022", "abaw2022"))
    tasks = read_settings(path).named_tasks()
    path.write_text(text.format("abaw8", "abaw12"))
    assert tasks == read_settings(path).named_tasks() == (TASKS["expr.abaw8"], TASKS["au.abaw12"])


def test_an_evaluation_reports_a_protocol_by_its_year():
    table = pd.DataFrame({"valence": [0.1, 0.5, -0.5], "arousal": [0.2, 0.4, 0.6]})
    scores = {"va": table.to_numpy()}
    evaluation = judge([TASKS["va"]], scores, table, protocols=["abaw5.va"], rounds=0)
    assert set(evaluation.protocols) == {"abaw2023.va"}
    assert evaluation.protocols["abaw2023.va"].value == pytest.approx(1, abs=1e-12)
    assert headline([TASKS["va"]], scores, table, "abaw5.va") == pytest.approx(1, abs=1e-12)
