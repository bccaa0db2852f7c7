"""Tables: the same rows in every format, in a fixed order of columns, complete or not at all."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from itertools import chain, count

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import mien
from mien import files
from mien.errors import LabelMismatchError, OutputError, UnknownNameError
from mien.files import AtomicFile, Transaction
from mien.outputs import tables
from mien.outputs.dictionary import write_dictionary
from mien.outputs.tables import FORMATS, TableWriter, columns, finished_rows, frame_of
from mien.records import STATUSES, Face, Reading, Status
from mien.tasks import COMPOUND_SCORES, LANDMARK_FAMILY, QUALITY_FAMILIES, TASKS, Task
from mien.temporal.readings import Smoothing

ALL = (TASKS["au.abaw12"], COMPOUND_SCORES, TASKS["va"], TASKS["expr.abaw8"])
SMOOTH = Smoothing(0.1)
PLAIN = "source,frame,time_s,status,face,box_x,box_y,box_w,box_h,confidence"
SCORES = (
    "expression,expr_neutral,expr_anger,expr_disgust,expr_fear,expr_happiness,expr_sadness,"
    "expr_surprise,expr_other,valence,arousal,"
    "AU01,AU02,AU04,AU06,AU07,AU10,AU12,AU15,AU23,AU24,AU25,AU26,ce_fearfully_surprised,"
    "ce_happily_surprised,ce_sadly_surprised,"
    "ce_disgustedly_surprised,ce_angrily_surprised,ce_sadly_fearful,ce_sadly_angry"
)
READERS = {
    "csv": pd.read_csv,
    "parquet": pd.read_parquet,
    "jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
}


def scores(rng):
    return {
        "expr": rng.dirichlet(np.ones(8)).astype("f4"),
        "va": rng.uniform(-1, 1, 2).astype("f4"),
        "au": rng.random(12, dtype="f4"),
        "ce": rng.random(7, dtype="f4"),
    }


def rows(number, seed=0, source='odd, "näme".mp4'):
    """Readings with every status, tracked and not, with and without raw scores."""
    rng = np.random.default_rng(seed)
    for n in range(number):
        status = (Status.ok, Status.no_face, Status.gap, Status.unreadable, Status.ok)[n % 5]
        if status in (Status.no_face, Status.unreadable):
            yield Reading(source, n, n / 30, status, None, {}, {})
        else:
            face = Face(
                tuple(rng.uniform(-9, 900, 4)),
                np.zeros((5, 2)),
                float(rng.random()),
                n if n % 3 else None,
            )
            yield Reading(
                source, n, n / 30, status, face, scores(rng), scores(rng) if n % 2 else {}
            )


def write(stem, readings, formats=FORMATS, smoothing=SMOOTH):
    with TableWriter(stem, formats, columns(ALL, smoothing)) as writer:
        writer.write(readings)


@pytest.mark.parametrize("smoothing", [None, Smoothing(0.1)])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_back_the_frame(tmp_path, name, smoothing):
    readings, table = list(rows(57)), columns(ALL, smoothing)
    expected = frame_of(readings, table)
    write(tmp_path / "t", iter(readings), [name], smoothing)
    found = READERS[name](tmp_path / f"t.{name}").astype(
        {c.name: c.dtype for c in table if c.dtype != "str"}
    )
    exact = name == "parquet"
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=0 if exact else 0.00501)
    narrow = [c.name for c in table if c.dtype.startswith("float") and c.unit != "pixels"]
    pd.testing.assert_frame_equal(
        found[narrow], expected[narrow], rtol=0, atol=0 if exact else 6e-6
    )


@pytest.mark.parametrize("name", FORMATS)
def test_no_rows_is_a_table_too(tmp_path, name):
    write(tmp_path / "t", [], [name])
    assert len(READERS[name](tmp_path / f"t.{name}")) == 0


def test_parquet_needs_no_help_with_dtypes(tmp_path):
    readings = list(rows(20))
    write(tmp_path / "t", readings, ["parquet"])
    found = pd.read_parquet(tmp_path / "t.parquet")
    assert list(found.dtypes) == list(frame_of(readings, columns(ALL, Smoothing(0.1))).dtypes)


def test_text_has_the_type_that_pandas_gives_text(tmp_path):
    readings = list(rows(20))
    write(tmp_path / "t", readings, ["parquet"])
    for frame in (frame_of(readings, columns(ALL)), pd.read_parquet(tmp_path / "t.parquet")):
        assert frame["expression"].dtype == frame["source"].dtype == pd.Series(["text"]).dtype
        runs = (frame["expression"] != frame["expression"].shift()).cumsum()
        assert runs.iloc[0] == 1
        assert runs.is_monotonic_increasing


def test_header_and_cells(tmp_path):
    face = Face((1.005, -2.5, 30, 40.126), np.zeros((5, 2)), 0.91, 3)
    va = {"va": np.array([0.123456, -1], "f4")}
    readings = [
        Reading("a.mp4", 7, 1 / 3, Status.ok, face, va, {}),
        Reading("a.mp4", 8, 0.5, Status.no_face, None, {}, {}),
    ]
    with TableWriter(tmp_path / "t", ["csv"], columns([TASKS["va"]])) as writer:
        writer.write(readings)
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        f"{PLAIN},valence,arousal",
        "a.mp4,7,0.333333,ok,3,1.00,-2.50,30.00,40.13,0.91000,0.12346,-1.00000",
        "a.mp4,8,0.500000,no_face,,,,,,,,",
    ]


@pytest.mark.parametrize("smoothing", [None, Smoothing(0.1)])
def test_order_of_columns(smoothing):
    raw = "," + ",".join(f"{name}_raw" for name in SCORES.split(","))
    assert ",".join(c.name for c in columns(ALL, smoothing)) == f"{PLAIN},{SCORES}" + (
        raw if smoothing else ""
    )


def test_json_is_valid_and_complete(tmp_path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    write(tmp_path / "t", rows(10), ["jsonl"])
    names = [c.name for c in columns(ALL, Smoothing(0.1))]
    for line in (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines():
        assert list(json.loads(line, parse_constant=refuse)) == names


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_missing(value):
    va = {"va": np.array([value, 0.5], "f4")}
    face = Face((0, 0, 1, 1), np.zeros((5, 2)), 1.0)
    frame = frame_of([Reading("a", 0, 0.0, Status.ok, face, va, {})], columns([TASKS["va"]]))
    assert frame[["valence", "arousal"]].isna().to_numpy().tolist() == [[True, False]]


def test_expression_is_the_highest():
    frame = frame_of(rows(30), columns(ALL, Smoothing(0.1)))
    for suffix in ("", "_raw"):
        seen = frame[frame[f"expression{suffix}"].notna()]
        each = seen[[f"expr_{name}{suffix}" for name in TASKS["expr.abaw8"].names]]
        assert ("expr_" + seen[f"expression{suffix}"] + suffix).tolist() == each.idxmax(
            axis=1
        ).tolist()
    assert frame.loc[frame["status"] == "no_face", "expression"].isna().all()


def test_names_that_are_not_text_can_be_written(tmp_path):
    write(tmp_path / "t", rows(3, source=b"caf\xe9.mp4".decode("utf-8", "surrogateescape")))
    assert pd.read_csv(tmp_path / "t.csv")["source"].tolist() == ["caf?.mp4"] * 3


def test_wrong_number_of_scores():
    face = Face((0, 0, 1, 1), np.zeros((5, 2)), 1.0)
    bad = Reading("a", 0, 0.0, Status.ok, face, {"expr": np.zeros(7)}, {})
    with pytest.raises(LabelMismatchError, match=r"expr\.abaw8 has 8 names, a reading holds 7"):
        frame_of([bad], columns(ALL))


def test_tasks_that_make_no_table():
    with pytest.raises(LabelMismatchError, match="one task per family"):
        columns([TASKS["expr.abaw8"], TASKS["expr.lsd6"]])
    with pytest.raises(UnknownNameError, match="no task family named 'gaze'"):
        columns([Task("gaze.two", ("x", "y"), "scalar")])


def test_columns_are_frozen():
    with pytest.raises(FrozenInstanceError):
        columns(ALL)[0].name = "x"


def test_unknown_format(tmp_path):
    with pytest.raises(UnknownNameError, match="no format named 'cvs'; did you mean csv"):
        TableWriter(tmp_path / "t", ["cvs"], columns(ALL))


@pytest.mark.parametrize("name", FORMATS)
def test_rows_leave_memory_before_the_end(tmp_path, name, monkeypatch):
    monkeypatch.setattr(tables, "GROUP", 100)
    sizes = []
    with TableWriter(tmp_path / "clip.v2", [name], columns(ALL)) as writer:
        (part,) = tmp_path.glob(f".clip.v2.{name}.*.part")
        for n in range(5):
            writer.write(rows(400, seed=n))
            sizes.append(part.stat().st_size)
    assert sizes == sorted(set(sizes))
    assert sizes[0] > 0
    assert [p.name for p in tmp_path.iterdir()] == [f"clip.v2.{name}"]
    assert len(READERS[name](tmp_path / f"clip.v2.{name}")) == 2000


def test_parquet_has_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "GROUP", 100)
    write(tmp_path / "t", rows(250), ["parquet"])
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_leaves_what_was_there(tmp_path, error, monkeypatch):
    monkeypatch.setattr(tables, "GROUP", 10)
    (tmp_path / "t.csv").write_text("older")

    def interrupted():
        yield from rows(35)
        assert len(list(tmp_path.iterdir())) == 1 + len(FORMATS)
        raise error

    with pytest.raises(error):
        write(tmp_path / "t", interrupted())
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "older"


def test_all_formats_appear_together(tmp_path, monkeypatch):
    keep, calls = AtomicFile.keep, count()

    def fails_at_last(self):
        if next(calls) == len(FORMATS) - 1:
            raise OutputError("no")
        keep(self)

    monkeypatch.setattr(AtomicFile, "keep", fails_at_last)
    with pytest.raises(OutputError):
        write(tmp_path / "t", rows(5))
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from mien.files import AtomicFile\n"
        "aside = AtomicFile(Path(sys.argv[1])); aside.begin(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other.overlay.mp4")], check=False)
    living = AtomicFile(tmp_path / "u.csv").part
    living.touch()
    (left,) = tmp_path.glob(".other*.part")
    files._cleaned.discard(str(tmp_path))
    write(tmp_path / "t", rows(5), ["csv"])
    assert not left.exists()
    assert living.exists()
    living.unlink()
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("fails_at", range(6))
def test_files_appear_together_or_what_was_there_stays(tmp_path, monkeypatch, fails_at):
    for name in ("a", "b", "page", "gone"):
        (tmp_path / name).write_text(f"older {name}")
    calls = count()

    def fails(real):
        def call(*args):
            if next(calls) == fails_at:
                raise OSError(28, "No space left on device")
            real(*args)

        return call

    monkeypatch.setattr(files.os, "rename", fails(os.rename))
    monkeypatch.setattr(files.os, "replace", fails(os.replace))
    with Transaction() as several:
        for name in ("a", "b", "page"):
            several.write(tmp_path / name, b"new")
        with pytest.raises(OutputError, match="free some space"):
            several.commit([tmp_path / "gone"])
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        name: f"older {name}" for name in ("a", "b", "page", "gone")
    }


def test_the_last_file_is_never_there_without_the_others(tmp_path, monkeypatch):
    for name in ("a", "b", "page"):
        (tmp_path / name).write_text("older")
    seen = []
    replace, rename = os.replace, os.rename

    def look(real):
        def call(*args):
            real(*args)
            texts = {
                name: (tmp_path / name).read_text()
                for name in ("a", "b", "page")
                if (tmp_path / name).exists()
            }
            seen.append(texts)

        return call

    monkeypatch.setattr(files.os, "replace", look(replace))
    monkeypatch.setattr(files.os, "rename", look(rename))
    with Transaction() as several:
        for name in ("a", "b", "page"):
            several.write(tmp_path / name, b"new")
        several.commit()
    assert len(seen) == 6
    for texts in seen:
        assert "page" not in texts or texts == dict.fromkeys(("a", "b", "page"), texts["page"])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("spans", [[(0, 7)], [(0, 1), (3, 2), (6, 1)], [(2, 5)]])
def test_rows_of_a_finished_table_stand_in_another_as_they_were(tmp_path, monkeypatch, name, spans):
    monkeypatch.setattr(tables, "GROUP", 4)
    source = 'a\n"b",c.jpg'
    parts = [[reading] for reading in rows(7, source=source)]
    write(tmp_path / "old", chain(*parts), [name])
    kept = {n for first, number in spans for n in range(first, first + number)}
    whole = finished_rows(tmp_path / "old", [name])
    with TableWriter(tmp_path / "new", [name], columns(ALL, SMOOTH)) as writer:
        for n, part in enumerate(parts):
            if n in kept:
                writer.copy(whole, n, 1)
            else:
                writer.write(part)
    assert (tmp_path / "new").with_suffix(f".{name}").read_bytes() == (
        tmp_path / "old"
    ).with_suffix(f".{name}").read_bytes()
    facts = writer.facts()[f"new.{name}"]
    assert facts["rows"] == 7
    assert facts["sha256"] == hashlib.sha256((tmp_path / f"new.{name}").read_bytes()).hexdigest()


def test_folders_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.csv").mkdir()
    (tmp_path / "taken.csv" / "x").write_text("")
    for stem, step in (
        ("none/t", "create the folder first"),
        ("file/t", "choose another folder"),
        ("taken", "choose another name"),
    ):
        with pytest.raises(
            OutputError, match=rf"^{tmp_path / stem}\.csv: cannot be written \(.+\); .*{step}$"
        ):
            write(tmp_path / stem, rows(5), ["csv"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.csv"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="choose a folder you may write to"):
        write(tmp_path / "t", rows(5))


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from mien.errors import OutputError
from test_tables import rows, write

resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    write(Path(sys.argv[1]), rows(9000), [sys.argv[3]])
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_leaves_nothing(tmp_path, name):
    pytest.importorskip("resource", reason="file size limits are a Unix matter")
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        FULL_DISK,
        str(tmp_path / "t"),
        os.path.dirname(__file__),
        name,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.count("\n") == 1
    assert f"t.{name}: cannot be written (File too large); choose a folder" in ended.stdout
    assert not ended.stderr
    assert not list(tmp_path.iterdir())


def test_dictionary(tmp_path):
    table = columns(ALL, Smoothing(0.1))
    facts = {
        "source": "a.mp4",
        "bundle": {"name": "mien-s", "sha256": "0" * 64},
        "options": {"smoothing": 0.3},
    }
    write_dictionary(tmp_path / "t.dictionary.json", table, facts)
    page = json.loads((tmp_path / "t.dictionary.json").read_text())
    assert page["mien"] == mien.__version__
    assert {key: page[key] for key in facts} == facts
    assert [entry["name"] for entry in page["columns"]] == [c.name for c in table]
    assert all(
        set(entry) == {"name", "dtype", "unit", "range", "task", "fwhm_s", "meaning"}
        for entry in page["columns"]
    )
    entries = {entry["name"]: entry for entry in page["columns"]}
    assert (entries["valence"]["range"], entries["box_w"]["range"], entries["box_x"]["range"]) == (
        [-1.0, 1.0],
        [0, None],
        None,
    )
    assert "inner brow raiser" in entries["AU01"]["meaning"]
    assert "not a FACS intensity" in entries["AU01"]["meaning"]
    compound = entries["ce_fearfully_surprised"]
    assert (compound["unit"], compound["range"]) == ("score", [0.0, 0.5])
    assert "both fear and surprise" in compound["meaning"]
    assert "Not a probability" in compound["meaning"]
    assert entries["expr_anger_raw"]["meaning"].endswith("Before smoothing.")
    assert entries["expr_anger_raw"]["fwhm_s"] is None
    assert entries["expr_anger"]["fwhm_s"] == 0.2355
    assert entries["expr_anger"]["meaning"].endswith(
        "Smoothed over time, 0.2355 s wide at half maximum, except in doubtful rows."
    )
    assert [p.name for p in tmp_path.iterdir()] == ["t.dictionary.json"]


def test_every_status_has_a_meaning():
    assert list(STATUSES) == list(Status)


def test_every_column_has_a_meaning():
    for task in TASKS.values():
        if task.family in QUALITY_FAMILIES:
            made = columns([], quality=[task])
        elif task.family == LANDMARK_FAMILY:
            made = columns([], landmarks=True)
        else:
            made = columns([task], Smoothing(0.1))
        assert all(c.meaning.endswith(".") for c in made)


def test_blinks_are_said_to_be_unsmoothed():
    blink = Task("au.two", ("AU12", "AU45"), "any_of")
    by_name = {c.name: c for c in columns([blink], Smoothing(0.1))}
    assert by_name["AU45"].meaning.endswith("Not smoothed.")
    assert (by_name["AU45"].fwhm_s, by_name["AU12"].fwhm_s) == (None, 0.2355)


def test_learned_compounds_are_probabilities():
    (first, *_) = [c for c in columns([TASKS["ce.abaw7"]]) if c.name.startswith("ce_")]
    assert (first.unit, first.high) == ("probability", 1.0)
    assert "sum to 1" in first.meaning
