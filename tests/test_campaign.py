"""A small slice of the campaign of faults; `bench/faults.py` runs all of it."""

import pytest
from campaign import hostile, kills, media
from campaign.verdicts import collect, mien, run


def wrong(name, verdicts):
    return [
        f"{verdict.kind}: {verdict.case}: {verdict.detail}"
        for verdict in collect(name, verdicts).failures()
    ]


def test_the_same_seed_makes_the_same_damage():
    first, again = (list(media.mutants(12, 40)) for _ in range(2))
    assert first == again
    whole = media.seeds()
    assert (
        sum(content != whole[suffix] for _, suffix, content in first) >= 10
    )  # zeros may fall on zeros


def test_damaged_media_are_read_refused_or_told(tmp_path):
    assert wrong("media", media.campaign(tmp_path, 42)) == []


@pytest.mark.parametrize(
    "command",
    [one for one in kills.COMMANDS if one.name in ("analyze", "pull")],
    ids=lambda one: one.name,
)
def test_a_killed_command_ends_as_if_nothing_had_been(command, tmp_path):
    assert wrong(command.name, kills.campaign(tmp_path, command, 2, first_seed=1)) == []


def test_a_verdict_tells_a_crash_from_a_refusal(tmp_path):
    """The campaign itself: what it calls right and wrong."""
    (tmp_path / "x.yaml").write_text(hostile.SETTINGS["a key twice"])
    code, said = run(mien("train", tmp_path / "x.yaml", "--out", tmp_path / "run"))
    assert hostile.refused("a key twice", code, said).kind == "right"
    assert hostile.refused("", 1, "Traceback (most recent call last)").kind == "crash"
    assert hostile.refused("", -11, "").kind == "crash"
    assert hostile.refused("", None, "").kind == "hang"
    assert hostile.refused("", 0, "done").kind == "wrong"
    assert hostile.refused("", 1, "mien: \x1b[2J: no such file").kind == "wrong"
