"""Batches that cannot mix people up: names, who writes what, what is read again, and what stays when things go wrong."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import unicodedata
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pytest
from noise import film, photo
from PIL import Image

import mien
from mien import batch
from mien.analysis.reader import Reader
from mien.batch import writing
from mien.batch.names import key_of, plan, portable
from mien.errors import OutputError
from mien.files import process_token
from mien.outputs import claims
from mien.outputs.claims import Claim, ClaimedError, sweep
from mien.outputs.recorded import fingerprint

ONE = lru_cache(Reader)  # bundles are loaded once for all tests


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batch, "Reader", ONE)


def run(inputs, out, **options):
    given = inputs if isinstance(inputs, list) else [inputs]
    return batch.run(given, out, **options)


def states(outcomes) -> dict[str, str]:
    return {outcome.job.name: outcome.state for outcome in outcomes}


def names(*inputs, out=None) -> list[str]:
    return sorted(job.name for job in plan(list(inputs), out).jobs)


def tables(folder: Path) -> dict[str, bytes]:
    kinds = (".csv", ".parquet", ".jsonl")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in kinds
    }


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def page_of(table: Path) -> dict:
    return json.loads(table.with_suffix(".dictionary.json").read_text())


# names


def test_the_tree_below_the_named_folder_is_mirrored(tmp_path):
    study = tmp_path / "study"
    film(study / "sub-01" / "video.mp4")
    film(study / "sub-02" / "ses 1" / "video.mp4", 1)
    film(study / "intro.mp4", 2)
    for name in ("sub-01/b.png", "sub-01/a.png", "sub-02/only.png", "root.png"):
        photo(study / name)
    expected = ["intro", "study", "sub-01", "sub-01/video", "sub-02", "sub-02/ses 1/video"]
    assert names(study) == expected
    outcomes = run(study, tmp_path / "out")
    assert states(outcomes) == dict.fromkeys(expected, "done")
    for name in expected:
        assert (tmp_path / "out" / f"{name}.csv").is_file()
        assert (
            page_of(tmp_path / "out" / f"{name}.csv")["tables"][f"{Path(name).name}.csv"]["rows"]
            >= 1
        )


def test_what_is_named_itself_has_its_own_name(tmp_path):
    one, two = photo(tmp_path / "p" / "one.png"), photo(tmp_path / "p" / "two.png", 1)
    clip = film(tmp_path / "deep" / "er" / "clip.mp4")
    assert names(clip) == ["clip"]
    assert names(one) == ["one"]
    assert names(one, two) == [
        "p"
    ]  # several photos of one folder are its table, whoever lists them
    assert names(tmp_path / "p") == names(f"{tmp_path}/p/*.png") == ["p"]
    assert names(f"{tmp_path}/deep/*/clip.mp4") == ["er/clip"]
    assert names("camera:0", clip) == ["camera0", "clip"]


def test_a_name_does_not_depend_on_neighbours(tmp_path):
    study, seen = tmp_path / "study", {}
    for number, place in enumerate(
        ("sub-01/video.mp4", "sub-02/video.mp4", "sub-02/other.mp4", "video.mp4")
    ):
        film(study / place, number)
        now = {job.inputs[0]: job.name for job in plan([study]).jobs}
        assert seen.items() <= now.items()
        seen = now


def test_films_below_a_root_are_named_as_if_it_were_given(tmp_path):
    study = tmp_path / "study"
    places = ("sub-01/rest.mp4", "sub-02/film.mp4", "intro.mp4")
    films = [film(study / place, number) for number, place in enumerate(places)]
    outside = film(tmp_path / "elsewhere" / "more.mp4", 3)
    named = {job.inputs[0]: job.name for job in plan([*films, outside], root=study).jobs}
    assert named == {
        **{job.inputs[0]: job.name for job in plan([study]).jobs},
        str(outside): "more",
    }


def test_a_name_is_kept_when_a_neighbour_would_take_it(tmp_path):
    study, out = tmp_path / "study", tmp_path / "out"
    film(study / "a.mp4")
    assert states(run(study, out)) == {"a": "done"}
    film(study / "a.mov", 1)  # sorts before it
    photo(study / "a" / "x.png")
    assert states(run(study, out)) == {"a": "skipped", "a.mov": "done", "a.photos": "done"}
    assert states(run(study, out)) == dict.fromkeys(("a", "a.mov", "a.photos"), "skipped")


def test_folders_named_together_are_kept_apart(tmp_path):
    for number, name in enumerate(("p1", "p2")):
        film(tmp_path / name / "c.mp4", number)
        photo(tmp_path / name / "x.png", number)
    assert names(tmp_path / "p1", tmp_path / "p2") == ["p1", "p1/c", "p2", "p2/c"]
    out = tmp_path / "out"
    first = run(tmp_path / "p1", out)
    assert states(first) == {"c": "done", "p1": "done"}
    before = tables(out)
    assert states(run(tmp_path / "p2", out)) == {"p2/c": "done", "p2": "done"}
    assert before.items() <= tables(out).items()
    again = run([tmp_path / "p1", tmp_path / "p2"], out)
    assert states(again) == {"c": "skipped", "p1": "skipped", "p2/c": "skipped", "p2": "skipped"}


def test_equal_names_from_anywhere_never_collide(tmp_path):
    places = [
        "a/b_c.mp4",
        "x/b_c.mp4",
        "a_b/c.mp4",
        "y/C.mp4",
        "solo.mp4",
        "x/y/b_c.mp4",
        "z/x/b_c.mp4",
        "z/x/b_c.mov",
    ]
    for number, place in enumerate(places):
        film(tmp_path / place, number)
    jobs = plan([*(tmp_path / place for place in places), f"{tmp_path}/a/../solo.mp4"]).jobs
    assert len(jobs) == len(places)
    assert len({key_of(job.name) for job in jobs}) == len(places)
    plain = {place.rpartition(".")[0] for place in places}
    assert {job.name for job in jobs} == plain | {"z/x/b_c.mp4"}  # beside b_c.mov
    for job in jobs:
        assert not Path(job.name).is_absolute()
        assert not [part for part in job.name.split("/") if part.startswith(".")]


def test_files_of_one_name_that_are_named_together_are_mirrored(tmp_path):
    study, out = tmp_path / "study", tmp_path / "out"
    first = film(study / "sub-01" / "ses-1" / "video.mp4")
    second = film(study / "sub-02" / "ses-1" / "video.mp4", 1)
    intro = film(study / "intro.mp4", 2)
    both = ["sub-01/ses-1/video", "sub-02/ses-1/video"]
    for order in ([first, second, intro], [intro, second, first]):
        assert names(*order) == ["intro", *both]
    assert names(f"{study}/sub-01/ses-1/*.mp4", second) == both
    assert names(first) == ["video"]  # there is nothing to tell it from
    assert states(run([second, first], out)) == dict.fromkeys(both, "done")
    for path, name in zip((first, second), both, strict=True):
        assert states(run(path, out)) == {name: "skipped"}


def test_files_of_one_name_keep_what_an_earlier_run_called_them(tmp_path):
    first, second, out = (
        film(tmp_path / "p1" / "c.mp4"),
        film(tmp_path / "p2" / "c.mp4", 1),
        tmp_path / "out",
    )
    assert states(run(second, out)) == {"c": "done"}
    assert states(run([first, second], out)) == {"p1/c": "done", "c": "skipped"}


def test_a_twin_of_a_twin_is_kept_apart(tmp_path):
    for number in range(4):  # all called x/c, two of them of the same content
        film(tmp_path / str(number) / "x" / "c.mp4", min(number, 2))
    inputs = [tmp_path / str(number) / "x" / "c.mp4" for number in range(4)]
    outcomes = run(inputs, tmp_path / "out")
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
    for path, outcome in zip(inputs, outcomes, strict=True):
        assert str(path) in outcome.files[0].read_text()
    assert [outcome.state for outcome in run(inputs, tmp_path / "out")] == ["skipped"] * 4


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("con", "con_"), ("LPT1.x", "LPT1_.x"), ("console", "console"), ("a. .", "a___"), ("a:b?", "a_b_"), (".hid", "_hid"), ("..", "__"),
        ("a\x1b[1mb", "a_[1mb"), (unicodedata.normalize("NFD", "é"), "é"), ("лицо 1", "лицо 1"), ("a\udcffb", "a_b"), ("\x7f", "_"),
    ],
)  # fmt: skip
def test_names_fit_every_file_system(given, becomes):
    assert portable(given) == becomes


@pytest.mark.parametrize("letter", ["x", "é", "録"])
def test_long_names_are_shortened_and_stay_apart(letter, tmp_path):
    longest = letter * (250 // len(letter.encode()))
    one, other = portable(longest), portable(longest[:-1] + "_")
    assert one != other
    assert len(one.encode()) <= 160


def test_a_long_name_is_read(tmp_path):
    for stem in ("n" * 241, "録" * 80):
        film(tmp_path / "in" / f"{stem}.mp4")
    film(tmp_path / "in" / "short.mp4", 1)
    outcomes = run(tmp_path / "in", tmp_path / "out", overlay=True)
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert not hidden(tmp_path)


def test_names_that_differ_in_case_or_form_alone_are_kept_apart(tmp_path):
    for number, name in enumerate(("Clip", "clip", "é", unicodedata.normalize("NFD", "é"))):
        film(tmp_path / "in" / f"{name}.mp4", number)
    assert len({key_of(name) for name in names(tmp_path / "in")}) == 4
    out = tmp_path / "out"
    run(tmp_path / "in" / "Clip.mp4", out)
    assert states(run(tmp_path / "in" / "clip.mp4", out)) == {"clip.mp4": "done"}


# which input a table belongs to


def test_tables_of_other_people_are_never_replaced(tmp_path):
    """The same name, byte size and time of change, one after the other."""
    out = tmp_path / "out"
    for person in ("p1", "p2"):
        film(tmp_path / person / "c1.mp4", int(person[1]))
    sizes = [(tmp_path / person / "c1.mp4").stat().st_size for person in ("p1", "p2")]
    for person, size in zip(("p1", "p2"), sizes, strict=True):
        path = tmp_path / person / "c1.mp4"
        path.write_bytes(path.read_bytes() + bytes(max(sizes) - size))
        os.utime(path, (1e9, 1e9))
        assert [outcome.state for outcome in run(path, out)] == ["done"]
    assert {
        person
        for text in tables(out).values()
        for person in ("p1", "p2")
        if f"/{person}/".encode() in text
    } == {"p1", "p2"}
    assert all(
        sum(f"/{person}/".encode() in text for person in ("p1", "p2")) == 1
        for text in tables(out).values()
    )


@pytest.mark.parametrize("same_size_and_time", [False, True])
def test_another_recording_at_the_same_place_is_refused(tmp_path, same_size_and_time):
    clip, out = film(tmp_path / "00001.mp4"), tmp_path / "out"
    run(clip, out)
    before, data = tables(out), bytearray(clip.read_bytes())
    when = clip.stat().st_mtime_ns
    if same_size_and_time:
        data[data.index(b"mdat") + 40] ^= 1
    clip.write_bytes(data if same_size_and_time else film(tmp_path / "other.mp4", 9).read_bytes())
    os.utime(clip, ns=(when, when))
    (outcome,) = run(clip, out)
    assert outcome.state == "failed"
    assert "another input" in outcome.problems[0]
    assert "move it" in outcome.problems[0]
    assert tables(out) == before


def test_a_moved_study_is_not_read_again(tmp_path):
    film(tmp_path / "here" / "study" / "s" / "v.mp4")
    photo(tmp_path / "here" / "study" / "s" / "p.png")
    run(tmp_path / "here" / "study", tmp_path / "out")
    (tmp_path / "here").rename(tmp_path / "there")
    assert states(run(tmp_path / "there" / "study", tmp_path / "out"))["s/v"] == "skipped"


def test_other_photos_in_a_folder_of_the_same_place_are_refused(tmp_path):
    folder, out = tmp_path / "DCIM", tmp_path / "out"
    photo(folder / "1.png", 1)
    photo(folder / "2.png", 2)
    run(folder, out)
    before = tables(out)
    photo(folder / "1.png", 3)
    photo(folder / "2.png", 4)
    (outcome,) = run(folder, out)
    assert outcome.state == "failed"
    assert "another input" in outcome.problems[0]
    assert tables(out) == before


def test_cameras_get_a_new_table_each_time(tmp_path, monkeypatch):
    from mien.sources import open_source

    still = photo(tmp_path / "x.png")
    monkeypatch.setattr(Reader, "open", lambda self, name: open_source(str(still)))
    for expected in ("camera0", "camera0~2", "camera0~3"):
        assert states(run("camera:0", tmp_path / "out")) == {expected: "done"}


def test_tables_of_the_first_layout_are_explained_and_not_mixed(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    clip = film(tmp_path / "study" / "s" / "video.mp4")
    old = {
        "mien": "0.1.0",
        "sources": [
            {"name": str(clip), "bytes": clip.stat().st_size, "modified": clip.stat().st_mtime}
        ],
    }
    old |= {"files": ["s_video.mp4.csv"], "problems": []}
    (out / "s_video.mp4.dictionary.json").write_text(json.dumps(old))
    (out / "s_video.mp4.csv").write_text("source\n")
    with pytest.raises(OutputError, match=r"s_video\.mp4.*choose another folder"):
        run(tmp_path / "study", out)
    assert {path.name for path in out.iterdir()} == {
        "s_video.mp4.dictionary.json",
        "s_video.mp4.csv",
    }


def test_a_table_of_the_first_layout_with_the_same_name_is_replaced(tmp_path):
    out, clip = tmp_path / "out", film(tmp_path / "clip.mp4")
    out.mkdir()
    old = {
        "mien": "0.1.0",
        "sources": [
            {"name": str(clip), "bytes": clip.stat().st_size, "modified": clip.stat().st_mtime}
        ],
    }
    (out / "clip.dictionary.json").write_text(
        json.dumps(old | {"files": ["clip.csv", "clip.parquet"], "problems": []})
    )
    (out / "clip.csv").write_text("source\n")
    (out / "clip.parquet").write_text("old")
    assert states(run(clip, out)) == {"clip": "done"}
    assert {path.name for path in out.iterdir()} == {"clip.csv", "clip.dictionary.json"}


def test_a_file_that_no_dictionary_explains_is_not_replaced(tmp_path):
    out, clip = tmp_path / "out", film(tmp_path / "clip.mp4")
    out.mkdir()
    (out / "clip.csv").write_text("my own notes")
    (outcome,) = run(clip, out)
    assert outcome.state == "failed"
    assert "no dictionary" in outcome.problems[0]
    assert (out / "clip.csv").read_text() == "my own notes"
    assert not hidden(out)


@pytest.mark.parametrize("size", [0, 1000, 17 << 20])
def test_a_fingerprint_sees_content(tmp_path, size):
    (tmp_path / "a").write_bytes(bytes(size))
    first = fingerprint(tmp_path / "a")
    (tmp_path / "b").write_bytes(bytes(size) + b"\0")
    assert fingerprint(tmp_path / "b") != first
    for place in (0, size // 15 * 15, size - 1) if size else ():
        data = bytearray(size)
        data[place] = 1
        (tmp_path / "c").write_bytes(data)
        if size <= 16 << 20 or place != size // 15 * 15:
            assert fingerprint(tmp_path / "c") != first


# photos of a folder


@pytest.fixture
def opened(monkeypatch):
    """Names of the inputs that are opened, in order."""
    calls = []
    real = Reader.open

    def spy(self, name, *rest, **more):
        calls.append(Path(str(name)).name)
        return real(self, name, *rest, **more)

    monkeypatch.setattr(Reader, "open", spy)
    return calls


@pytest.mark.parametrize("overlay", [False, True])
def test_a_further_photo_does_not_cost_the_others(tmp_path, opened, overlay):
    folder, formats = tmp_path / "p", ["csv", "jsonl", "parquet"]
    for number in range(6):
        photo(folder / f"{number}.png", number)
    run(folder, tmp_path / "out", formats=formats, overlay=overlay)
    assert len(opened) == 6
    photo(folder / "2b.png", 99)
    os.utime(folder / "4.png")  # touched, and the same
    opened.clear()
    (outcome,) = run(folder, tmp_path / "out", formats=formats, overlay=overlay)
    assert opened == ["2b.png"]
    assert (outcome.frames, sum(outcome.rows.values())) == (7, 7)
    run(folder, tmp_path / "fresh", formats=formats, overlay=overlay)
    assert tables(tmp_path / "out") == tables(tmp_path / "fresh")
    assert len(tables(tmp_path / "out")) == 3
    old, new = page_of(tmp_path / "out" / "p.csv"), page_of(tmp_path / "fresh" / "p.csv")
    assert old == new
    assert names(folder, out=tmp_path / "out") == ["p"]
    assert len(list((tmp_path / "out" / "p").glob("*.overlay.jpg")) if overlay else range(7)) == 7


def test_changed_and_damaged_photos_are_read_again(tmp_path, opened):
    folder = tmp_path / "p"
    for number in range(5):
        photo(folder / f"{number}.png", number)
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:-2000])
    run(folder, tmp_path / "out")
    opened.clear()
    photo(folder / "1.png", 77)
    run(folder, tmp_path / "out")
    assert opened == ["1.png", "3.png"]
    assert states(run(folder, tmp_path / "out")) == {"p": "skipped"}


def test_naming_a_few_photos_keeps_the_rows_of_the_others(tmp_path, opened):
    paths = [photo(tmp_path / "p" / f"{number}.png", number) for number in range(5)]
    run(tmp_path / "p", tmp_path / "out")
    before = tables(tmp_path / "out")
    opened.clear()
    assert states(run(paths[1:3], tmp_path / "out")) == {"p": "skipped"}
    paths.append(photo(tmp_path / "p" / "9.png", 9))
    assert states(run(paths[4:], tmp_path / "out")) == {"p": "done"}
    assert opened == ["9.png"]
    assert tables(tmp_path / "out")["p.csv"].startswith(before["p.csv"])


def test_being_killed_costs_few_of_many_photos(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(writing, "PHOTOS", 3)
    folder, formats = tmp_path / "p", ["csv", "parquet"]
    for number in range(10):
        photo(folder / f"{number}.png", number)
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:-2000])
    real = Reader.read

    def stop_at(name):
        def read(self, source):
            if source.name.endswith(name):
                raise KeyboardInterrupt
            return real(self, source)

        return read

    monkeypatch.setattr(Reader, "read", stop_at("7.png"))
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", formats=formats, overlay=True)
    page = page_of(tmp_path / "out" / "p.csv")
    assert page["tables"]["p.csv"]["rows"] == len(page["sources"]) == 6
    assert page["notes"] == [f"{folder}: 6 of 10 photos; run this again for the rest"]
    monkeypatch.setattr(Reader, "read", real)
    opened.clear()
    (outcome,) = run(folder, tmp_path / "out", formats=formats, overlay=True)
    assert opened == ["1.png", "6.png", "7.png", "8.png", "9.png"]  # the damaged one once more
    assert (outcome.frames, len(outcome.problems), outcome.notes) == (10, 1, [])
    monkeypatch.setattr(writing, "PHOTOS", 500)
    run(folder, tmp_path / "fresh", formats=formats, overlay=True)
    assert tables(tmp_path / "out") == tables(tmp_path / "fresh")
    assert page_of(tmp_path / "out" / "p.csv") == page_of(tmp_path / "fresh" / "p.csv")
    assert states(run(folder, tmp_path / "out", formats=formats, overlay=True)) == {"p": "skipped"}


def test_other_options_read_all_photos_again(tmp_path, opened):
    for number in range(3):
        photo(tmp_path / "p" / f"{number}.png", number)
    run(tmp_path / "p", tmp_path / "out")
    opened.clear()
    run(tmp_path / "p", tmp_path / "out", formats=["parquet"])
    assert len(opened) == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "p.parquet",
        "p.dictionary.json",
    }


def test_a_lying_suffix_does_not_lose_the_photos(tmp_path):
    folder = tmp_path / "p"
    photo(folder / "a.png")
    photo(folder / "named.mp4", 1)
    shutil.copy(film(tmp_path / "x.mp4"), folder / "named.jpg")
    outcomes = run(folder, tmp_path / "out", overlay=True)
    assert {outcome.state for outcome in outcomes} == {"done"}
    text = b"".join(tables(tmp_path / "out").values())
    assert all(name in text for name in (b"a.png", b"named.mp4", b"named.jpg"))
    assert len(list((tmp_path / "out").rglob("*.overlay.*"))) == 3


# what was done before


@pytest.mark.parametrize("harm", ["cut", "one byte", "gone", "overlay gone"])
def test_a_table_that_was_harmed_is_read_again(tmp_path, harm):
    clip, out = film(tmp_path / "clip.mp4"), tmp_path / "out"
    run(clip, out, overlay=True)
    table = out / "clip.csv"
    before = table.read_bytes()
    data = bytearray(before)
    data[-3] ^= 1
    if harm == "cut":
        table.write_bytes(before[: len(before) // 2])
    elif harm == "one byte":
        table.write_bytes(data)
    else:
        (table if harm == "gone" else out / "clip.overlay.mp4").unlink()
    assert states(run(clip, out, overlay=True)) == {"clip": "done"}
    assert table.read_bytes() == before
    assert states(run(clip, out, overlay=True)) == {"clip": "skipped"}


WRONG = [
    None,
    7,
    "text",
    [],
    {},
    [7],
    ["x"],
    [{}],
    [{"name": 3}],
    {"clip.csv": 3},
    True,
    -1.5,
    [None],
]


@pytest.mark.parametrize(
    "key",
    [
        "mien",
        "sources",
        "files",
        "tables",
        "problems",
        "notes",
        "media",
        "formats",
        "folder",
        "dictionary",
        "rows",
    ],
)
def test_a_dictionary_with_wrong_types_costs_its_own_table_at_most(tmp_path, key):
    clip, other, out = (
        film(tmp_path / "clip.mp4"),
        film(tmp_path / "other.mp4", 1),
        tmp_path / "out",
    )
    run(clip, out)
    page, before = page_of(out / "clip.csv"), (out / "clip.csv").read_bytes()
    for value in WRONG:
        (out / "clip.dictionary.json").write_text(json.dumps(page | {key: value}))
        (out / "clip.csv").write_bytes(before)
        outcomes = run([clip, other], out, overlay=False)
        assert outcomes[1].state in ("done", "skipped")
        assert outcomes[0].state in ("done", "skipped", "failed")
        assert outcomes[0].state != "failed" or len(outcomes[0].problems) == 1
        assert (out / "clip.csv").read_bytes() == before
        if key == "sources":
            assert outcomes[0].state == "failed"
            assert "clip.dictionary.json" in outcomes[0].problems[0]


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "text",
        "binary",
        "deep",
        "list",
        "folder",
        "full folder",
        "pipe",
        "link to nowhere",
        "huge number",
    ],
)
def test_a_dictionary_that_is_none_costs_its_own_table_at_most(tmp_path, kind):
    clip, other, out = (
        film(tmp_path / "clip.mp4"),
        film(tmp_path / "other.mp4", 1),
        tmp_path / "out",
    )
    out.mkdir()
    page = out / "clip.dictionary.json"
    texts = {
        "empty": b"",
        "text": b"hello",
        "binary": bytes(range(256)),
        "deep": b"[" * 100_000,
        "list": b"[]",
    }
    texts["huge number"] = b'{"sources": [{"name": "x", "bytes": ' + b"9" * 5000 + b"}]}"
    if kind in texts:
        page.write_bytes(texts[kind])
    elif kind == "pipe":
        os.mkfifo(page)
    elif kind == "link to nowhere":
        page.symlink_to("nowhere")
    else:
        page.mkdir()
        if kind == "full folder":
            (page / "x").touch()
    failed, done = run([clip, other], out)
    assert (failed.state, done.state) == ("failed", "done")
    assert len(failed.problems) == 1
    assert "clip.dictionary.json" in failed.problems[0]
    assert "\n" not in failed.problems[0]
    assert not hidden(out)


def test_a_dictionary_that_cannot_be_moved_costs_its_own_table_at_most(tmp_path, monkeypatch):
    clip, other, out = (
        film(tmp_path / "clip.mp4"),
        film(tmp_path / "other.mp4", 1),
        tmp_path / "out",
    )
    run(clip, out)
    before, real = {path.name: path.read_bytes() for path in out.iterdir()}, os.rename

    def immutable(old, new):
        if Path(old).name == "clip.dictionary.json":
            raise PermissionError(1, "Operation not permitted", str(old))
        real(old, new)

    monkeypatch.setattr(os, "rename", immutable)
    failed, done = run([clip, other], out, formats=["csv", "parquet"])
    assert (failed.state, done.state) == ("failed", "done")
    assert "Operation not permitted" in failed.problems[0]
    assert before.items() <= {path.name: path.read_bytes() for path in out.iterdir()}.items()
    assert not hidden(out)


@pytest.mark.parametrize(
    "error", [MemoryError(), pa.lib.ArrowMemoryError("malloc of size 64 failed")]
)
def test_too_little_memory_is_said_and_the_rest_goes_on(tmp_path, monkeypatch, error):
    clips, real = (
        [film(tmp_path / name, number) for number, name in enumerate(("a.mp4", "b.mp4"))],
        Reader.read,
    )

    def read(self, source):
        if source.name.endswith("a.mp4"):
            raise error
        return real(self, source)

    monkeypatch.setattr(Reader, "read", read)
    failed, done = run(clips, tmp_path / "out")
    assert (failed.state, done.state) == ("failed", "done")
    assert "memory" in failed.problems[0]
    assert not (tmp_path / "out" / "a.csv").exists()


def test_an_input_that_changes_meanwhile_gives_no_table(tmp_path, monkeypatch):
    clip, real = film(tmp_path / "a.mp4"), Reader.read

    def read(self, source):
        with clip.open("ab") as file:
            file.write(b"more")
        return real(self, source)

    monkeypatch.setattr(Reader, "read", read)
    (outcome,) = run(clip, tmp_path / "out")
    assert outcome.state == "failed"
    assert "changed while it was read" in outcome.problems[0]
    assert not list((tmp_path / "out").iterdir())


def test_empty_folders_of_failed_inputs_do_not_stay(tmp_path):
    (tmp_path / "in" / "s").mkdir(parents=True)
    (tmp_path / "in" / "s" / "bad.mp4").write_text("no film")
    assert [outcome.state for outcome in run(tmp_path / "in", tmp_path / "out")] == ["failed"]
    assert not list((tmp_path / "out").iterdir())


# several runs at once


@contextmanager
def another(stem: Path, source: str):
    """A process that holds the claim of a table; its number."""
    code = (
        "import sys, time; from pathlib import Path; from mien.outputs.claims import Claim\n"
        "with Claim(Path(sys.argv[1]), sys.argv[2]): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(stem), source], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.kill()


def test_a_table_that_another_run_writes_is_left_to_it(tmp_path):
    clip, other, out = (
        film(tmp_path / "clip.mp4"),
        film(tmp_path / "other.mp4", 1),
        tmp_path / "out",
    )
    out.mkdir()
    with another(out / "clip", str(clip)) as number:
        left, done = run([clip, other], out)
    assert (left.state, done.state) == ("left", "done")
    assert f"process {number}, since 20" in left.left_to
    assert not left.problems
    assert not (out / "clip.csv").exists()
    assert json.loads((out / "mien-run.json").read_text())["counts"]["left"] == 1
    assert [outcome.state for outcome in run([clip, other], out)] == ["done", "skipped"]
    assert not hidden(out)


def test_a_name_that_another_run_writes_for_another_input_is_not_shared(tmp_path):
    mine, theirs, out = (
        film(tmp_path / "p1" / "c.mp4"),
        film(tmp_path / "p2" / "c.mp4", 1),
        tmp_path / "out",
    )
    out.mkdir()
    with another(out / "c", str(theirs)):
        assert states(run(mine, out)) == {"p1/c": "done"}
    assert states(run([mine, theirs], out)) == {"p1/c": "skipped", "p2/c": "done"}


def test_a_stopped_run_loses_its_claim_after_a_while(tmp_path, monkeypatch):
    out = tmp_path
    claim = Claim(out / "c", "/x/c.mp4")
    monkeypatch.setattr(claims, "BEAT_S", 3600)
    with claim:
        with (
            pytest.raises(ClaimedError, match=f"process {os.getpid()}"),
            Claim(out / "c", "/x/c.mp4"),
        ):
            pass
        long_ago = time.time() - claims.STALE_S - 1
        os.utime(out / ".c.claim", (long_ago, long_ago))
        with Claim(out / "c", "/y/c.mp4") as second:
            second.check()
            with pytest.raises(ClaimedError, match="taken over"):
                claim.check()
    assert not hidden(out)


def test_a_living_claim_shows_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_S", 0.05)
    with Claim(tmp_path / "c", "x"):
        os.utime(tmp_path / ".c.claim", (1, 1))
        deadline = time.monotonic() + 20
        while (tmp_path / ".c.claim").stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / ".c.claim").stat().st_mtime > time.time() - 100


def test_a_claim_of_another_machine_counts_until_it_is_old(tmp_path):
    holder = claims.Holder("00000000-1-1", "elsewhere", "2026-01-01 10:00:00+0000", "/x")
    path = tmp_path / ".c.claim"
    path.write_bytes(claims.holder_bytes(holder))
    with (
        pytest.raises(ClaimedError, match="elsewhere, process 1, since 2026"),
        Claim(tmp_path / "c", "/x"),
    ):
        pass
    os.utime(path, (1, 1))
    with Claim(tmp_path / "c", "/x"):
        pass
    assert not hidden(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"token": 3}', b"\xff" * 50, b"[" * 99_999]
)
def test_a_claim_without_sense_counts_until_it_is_old(tmp_path, content):
    path = tmp_path / ".c.claim"
    path.write_bytes(content)
    with pytest.raises(ClaimedError), Claim(tmp_path / "c", "/x"):
        pass
    os.utime(path, (1, 1))
    with Claim(tmp_path / "c", "/x"):
        pass


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_claim_that_cannot_be_written_is_not_left_behind(nth, tmp_path, monkeypatch):
    """On a disk that is full from the nth time on that a claim is put in place."""
    times, replace = [], os.replace

    def full(source, target):
        times.append(target)
        if len(times) >= nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    def work():
        with Claim(tmp_path / "a", "/x/a.mp4") as claim:
            claim.announce([tmp_path / "a.csv"])
            claim.announce([tmp_path / "b.csv"])

    monkeypatch.setattr(claims.os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        work()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_lost_its_claim_puts_nothing_in_place(tmp_path, monkeypatch):
    clip, out, real = film(tmp_path / "c.mp4"), tmp_path / "out", Reader.read

    def read(self, source):
        content = claims.parsed_holder((out / ".c.claim").read_bytes())
        stranger = claims.Holder("00000000-1-1", "elsewhere", content.since, content.source)
        (out / ".c.claim").write_bytes(claims.holder_bytes(stranger))
        return real(self, source)

    monkeypatch.setattr(Reader, "read", read)
    (outcome,) = run(clip, out)
    assert outcome.state == "left"
    assert "elsewhere" in outcome.left_to
    assert not list(out.glob("c.*"))


DIES = """
import os, signal, sys
from pathlib import Path
from mien import batch, files
real, left = (os.replace, int(sys.argv[3]))
def replace(old, new):
    global left
    if not str(new).endswith(".claim"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    real(old, new)
files.os.replace = replace
batch.run([sys.argv[1]], sys.argv[2], formats=["csv", "jsonl"], overlay=True)
"""


@pytest.mark.parametrize("placed", range(4))
def test_killed_while_files_are_put_in_place(tmp_path, placed):
    """Between any two of the renames: what is there without its dictionary is not taken for a table, nor for somebody else's."""
    clip, out = film(tmp_path / "c.mp4"), tmp_path / "out"
    run(clip, tmp_path / "fresh", formats=["csv", "jsonl"], overlay=True)
    died = subprocess.run(
        [sys.executable, "-c", DIES, str(clip), str(out), str(placed)],
        check=False,
        capture_output=True,
    )
    assert died.returncode == -9, died.stderr
    assert not (out / "c.dictionary.json").exists()
    assert len([path for path in out.iterdir() if not path.name.startswith(".")]) == placed
    assert states(run(clip, out, formats=["csv", "jsonl"], overlay=True)) == {"c": "done"}
    assert tables(out) == tables(tmp_path / "fresh")
    assert {path.name for path in out.iterdir()} == {
        path.name for path in (tmp_path / "fresh").iterdir()
    }


def test_sweeping_leaves_what_is_alive(tmp_path):
    living, gone = process_token(), "00000000-1-1"
    dead = f"{living.split('-')[0]}-{2**22 + 7}-1"
    for token in (living, dead, gone):
        (tmp_path / f".c.overlay.mp4.{token}-3.part").write_text("face")
    (tmp_path / ".x.claim").write_bytes(
        claims.holder_bytes(claims.Holder(gone, "elsewhere", "", ""))
    )
    (tmp_path / ".mine.part").touch()
    os.utime(tmp_path / f".c.overlay.mp4.{gone}-3.part", (1, 1))
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f".c.overlay.mp4.{living}-3.part", f".c.overlay.mp4.{gone}-3.part", ".x.claim", ".mine.part",
    }  # fmt: skip
    os.utime(tmp_path / ".x.claim", (1, 1))
    sweep(tmp_path)
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f".c.overlay.mp4.{living}-3.part",
        ".mine.part",
    }


# the command line, from outside


def command(*args, **more) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "mien", *map(str, args)]
    return subprocess.run(words, capture_output=True, check=False, timeout=120, **more)


def test_exit_codes_tell_what_is_left_to_another_run(tmp_path):
    clip, out = film(tmp_path / "clip.mp4"), tmp_path / "out"
    out.mkdir()
    with another(out / "clip", str(clip)) as number:
        done = command("analyze", clip, "--out", out)
    said = done.stdout.decode()
    assert done.returncode == 3
    assert f"being written by {os.uname().nodename}, process {number}, since" in said.replace(
        "\n", " "
    )
    assert said.splitlines()[-1] == "1 left to another run"
    assert not done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_names_the_console_cannot_show_do_not_end_the_batch(tmp_path, encoding):
    for number, name in enumerate(("лицо.mp4", "録画.mp4", "plain.mp4")):
        film(tmp_path / "in" / name, number)
    (tmp_path / "in" / "плохо.mp4").write_text("no film")
    done = command(
        "analyze",
        tmp_path / "in",
        "--out",
        tmp_path / "out",
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"3 done, 1 failed" in done.stdout
    assert set(tables(tmp_path / "out")) == {"лицо.csv", "録画.csv", "plain.csv"}


@pytest.mark.parametrize("most_bytes", [6000, 300])
def test_a_full_disk_at_the_last_file_leaves_none(tmp_path, most_bytes):
    """The table fits, its dictionary does not; and nothing fits."""
    import resource
    import signal

    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    clip = film(tmp_path / "clip.mp4")
    done = command("analyze", clip, "--out", tmp_path / "out", preexec_fn=small_files)
    assert done.returncode == 1
    assert done.stderr.count(b"cannot be written") == 1
    assert b"Traceback" not in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_too_little_memory_is_one_line_that_says_so(tmp_path):
    import resource

    clip = film(tmp_path / "clip.mp4")
    code = """
import resource, sys
from mien import batch
from mien.analysis.reader import Reader
reader = Reader.read
def read(self, source):
    held = bytearray(64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return reader(self, source)
Reader.read = read
(outcome,) = batch.run([sys.argv[1]], sys.argv[2])
print(outcome.state, *outcome.problems)
"""
    assert resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", code, str(clip), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("failed")
    assert "not enough memory" in done.stdout


def test_several_processes_on_one_folder_mix_lose_and_double_nothing(tmp_path):
    """A small part of `bench/races.py`."""
    for person in range(3):
        for stem in range(3):
            film(tmp_path / "in" / f"p{person}" / f"c{stem}.mp4", 10 * person + stem)
    folders = sorted((tmp_path / "in").iterdir())
    out = tmp_path / "out"
    words = [
        [sys.executable, "-m", "mien", "analyze", *map(str, given), "--out", str(out)]
        for given in (folders[:2], folders[1:], folders[::-1])
    ]
    running = [
        subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for each in words
    ]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode in (0, 3), said
    sources = {}
    for name, text in tables(out).items():
        (source,) = {line.split(",")[0] for line in text.decode().splitlines()[1:]}
        assert page_of(out / name)["sources"][0]["path"] == source
        sources.setdefault(source, []).append(name)
    assert sorted(sources) == sorted(str(path) for path in (tmp_path / "in").rglob("*.mp4"))
    assert all(len(where) == 1 for where in sources.values())
    assert not hidden(out)


@pytest.mark.parametrize("after_s", [0.4, 0.8, 1.1])
def test_a_killed_run_is_gone_on_from(tmp_path, after_s):
    """A small part of `bench/races.py`."""
    for number in range(4):
        film(tmp_path / "in" / f"s{number}" / "v.mp4", number, frames=12)
        photo(tmp_path / "in" / "photos" / f"{number}.png", number)
    args = ["analyze", tmp_path / "in", "--overlay", "--format", "csv,parquet", "--out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mien", *map(str, args), str(tmp_path / "out")],
        stdout=subprocess.DEVNULL,
    )
    time.sleep(after_s)
    process.kill()
    process.wait()
    outcomes = run(tmp_path / "in", tmp_path / "out", overlay=True, formats=["csv", "parquet"])
    assert {outcome.state for outcome in outcomes} <= {"done", "skipped"}
    run(tmp_path / "in", tmp_path / "fresh", overlay=True, formats=["csv", "parquet"])
    assert tables(tmp_path / "out") == tables(tmp_path / "fresh")
    every = [
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*"))
        for name in ("out", "fresh")
    ]
    assert every[0] == every[1]


# saving from Python


def test_saving_says_what_a_batch_says(tmp_path):
    clip = film(tmp_path / "clip.mp4")
    path = mien.analyze(clip).save(tmp_path / "t.csv")
    page = page_of(path)
    assert page["tables"] == {
        "t.csv": {
            "rows": 2,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    }
    assert page["sources"][0]["fingerprint"] == fingerprint(clip)
    run(clip, tmp_path / "out")
    assert set(page) <= set(page_of(tmp_path / "out" / "clip.csv"))


def test_saving_leaves_what_was_there_when_the_dictionary_cannot_be_written(tmp_path):
    clip = film(tmp_path / "clip.mp4")
    (tmp_path / "t.dictionary.json").mkdir()
    with pytest.raises(OutputError, match=r"t\.dictionary\.json"):
        mien.analyze(clip).save(tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()
    assert not hidden(tmp_path)


def test_saving_where_another_process_saves_is_refused(tmp_path):
    clip = film(tmp_path / "clip.mp4")
    analysis = mien.analyze(clip)
    with (
        another(tmp_path / "t", str(clip)) as number,
        pytest.raises(OutputError, match=f"process {number}"),
    ):
        analysis.save(tmp_path / "t.csv")


def test_a_heic_photo_is_read_once_its_decoder_is_installed(tmp_path, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heic")
    folder = tmp_path / "p"
    folder.mkdir()
    picture = Image.new("RGB", (64, 64), "grey")
    pillow_heif.from_pillow(picture).save(folder / "a.heic")
    picture.save(folder / "b.jpg")

    def states() -> tuple[str, int]:
        outcome = batch.run([folder], tmp_path / "out")[0]
        return outcome.state, len(outcome.problems)

    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "pillow_heif", None)
        assert states() == ("done", 1)
        assert states() == ("skipped", 1)
    assert states() == ("done", 0)
    assert states() == ("skipped", 0)
