"""Tables come back as they were written, from every format, and no text in them is a formula."""

import csv
import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

import mien
from mien.batch import run
from mien.errors import TableError, UnknownNameError
from mien.outputs.cells import harmless, quoted, restored
from mien.outputs.columns import columns
from mien.outputs.dictionary import write_dictionary
from mien.outputs.tables import FORMATS, TableWriter, frame_of
from mien.records import Face, Reading, Status
from mien.tasks import COMPOUND_SCORES, TASKS, Task
from mien.temporal.readings import Smoothing

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "＝1",
    "'",
    "''=1",
    "'=1",
    "a;=1",
    "a\t-1",
    'x"=1',
    "=HYPERLINK(\"a\";'b')",
]
PLAIN_TEXTS = [
    "clip.mp4",
    "a-b+c@d=e.mp4",
    "it's.mp4",
    "ünï 録.mp4",
    "a,b.mp4",
    'a "b".mp4',
    "NA",
    "null",
    "nan",
    "1.5",
    "two\nlines",
    " a ",
]
RISKY = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")
ODD_NAMES = ("=1+1", "-so", "100 %s", 'a "b"', "x, y", "'tis", "@home", "ordinary")


def readings(number=40, names=8, sources=("clip.mp4",)):
    """Rows with and without faces, scores, numbers and raw scores, from several sources."""
    rng = np.random.default_rng(0)
    for n in range(number):
        source = sources[n % len(sources)]
        if n % 5 == 1:
            yield Reading(source, n, n / 30, Status.no_face, None, {}, {})
            continue
        face = Face(
            tuple(rng.uniform(-9, 900, 4)), np.zeros((5, 2)), float(rng.random()), n % 4 or None
        )
        both = [
            {
                "expr": rng.dirichlet(np.ones(names)),
                "va": rng.uniform(-1, 1, 2),
                "au": rng.random(12),
                "ce": rng.random(7) / 2,
            }
            for _ in "ab"
        ]
        yield Reading(source, n, n / 30, Status.ok, face, both[0], both[1])


def write(folder, rows, table, formats=FORMATS, counts=None):
    rows = list(rows)
    with TableWriter(folder / "t", formats, table) as writer:
        writer.write(rows)
    facts = {"files": [f"t.{name}" for name in formats], "problems": []} | (
        {"rows": counts} if counts else {}
    )
    write_dictionary(folder / "t.dictionary.json", table, facts)
    return frame_of(rows, table)


TABLES = {
    "plain": columns([]),
    "all": columns([TASKS["expr.ferplus8"], TASKS["va"], TASKS["au.abaw12"], COMPOUND_SCORES]),
    "smoothed": columns([TASKS["expr.ferplus8"], TASKS["va"]], Smoothing(0.1)),
    "odd class names": columns(
        [Task("expr.odd", ODD_NAMES, "one_of"), TASKS["va"]], Smoothing(0.1)
    ),
}


@pytest.mark.parametrize("rows", [0, 1, 1500])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_table_comes_back(tmp_path, suffix, table, rows):
    expected = write(tmp_path, readings(rows, sources=[*FORMULAS, *PLAIN_TEXTS]), table, [suffix])
    found = mien.read_table(tmp_path / f"t.{suffix}")
    assert list(found.dtypes) == list(expected.dtypes)
    assert found.isna().equals(expected.isna())
    texts = [c.name for c in table if c.dtype == "str"]
    pd.testing.assert_frame_equal(found[texts], expected[texts])
    pd.testing.assert_frame_equal(
        found, expected, rtol=0, atol=0 if suffix == "parquet" else 0.00501
    )
    assert found.attrs["dictionary"] == json.loads((tmp_path / "t.dictionary.json").read_text())


def test_types_and_attributes(clip, tmp_path):
    analysis = mien.analyze(clip, smoothing=0.15, every=0.12)
    for suffix in FORMATS:
        found = mien.read_table(analysis.save(tmp_path / f"{suffix}.{suffix}"))
        pd.testing.assert_frame_equal(found, analysis.table, rtol=0, atol=0.00501)
        assert (found["expression"] != found["expression"].shift()).cumsum().iloc[-1] > 1
        assert found.attrs["dictionary"]["options"]["smoothing"]["fwhm_s"] == 0.15


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN_TEXTS, ""])
def test_what_is_made_harmless_is_restored(text):
    assert restored(harmless(text)) == text
    assert not RISKY.match(harmless(text))
    assert (
        next(csv.reader([quoted(text)], strict=True), [""]) == [harmless(text)]
        or "\n" in text
        or "\r" in text
    )


def test_any_text_is_restored():
    rng = np.random.default_rng(1)
    letters = list("=+-@'\t\r\n; ,\"a＝")
    for _ in range(3_000):
        text = "".join(rng.choice(letters, rng.integers(0, 7)))
        assert restored(harmless(text)) == text
        for cell in re.split(
            r"[;\t\r\n]", harmless(text)
        ):  # wherever a spreadsheet may think that a cell begins
            assert not re.match(r"\s*[=+\-@＝]", cell)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_of_a_csv_file_is_a_formula(tmp_path, separator):
    table = columns([Task("expr.odd", ODD_NAMES, "one_of")], Smoothing(0.1))
    au = columns([Task("au.odd", ODD_NAMES, "any_of")])
    write(tmp_path, readings(sources=FORMULAS), table, ["csv"])
    (tmp_path / "au").mkdir()
    write(tmp_path / "au", [], au, ["csv"])
    for path in (tmp_path / "t.csv", tmp_path / "au" / "t.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file, delimiter=separator):
                for cell in row:
                    assert not RISKY.match(cell) or re.fullmatch(r"-[\d.]+", cell), cell
    assert list(mien.read_table(tmp_path / "au" / "t.csv"))[-8:] == list(ODD_NAMES)


def holding(content):
    """Put something else into the dictionary."""
    return lambda page, path: page.write_bytes(content)


def with_(old, new):
    """Change the table's text, once."""
    return lambda page, path: path.write_text(path.read_text().replace(old, new, 1))


UNKNOWN_TYPE = b'{"mien": "9", "columns": [{"name": "x", "dtype": "complex"}]}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda page, path: page.unlink(),
            r"t\.csv: its dictionary t\.dictionary\.json is not beside it; bring both",
        ),
        (holding(b"{"), r"t\.dictionary\.json: cannot be read"),
        (holding(b"\xff\xfe"), r"t\.dictionary\.json: cannot be read"),
        (holding(b"[" * 100_000), r"t\.dictionary\.json: cannot be read"),
        (holding(b"[]"), "is no data dictionary of mien's"),
        (holding(UNKNOWN_TYPE), r"columns\.0: 'x' of type 'complex'"),
        (holding(b'{"mien": "9", "columns": [7]}'), r"columns\.0: None of type None"),
        (lambda page, path: path.unlink(), r"t\.csv: no such table"),
        (with_("valence", "pleasure"), "column 'pleasure' is in one of them only"),
        (with_("valence,arousal", "arousal,valence"), "columns are in another order"),
        (with_(",ok,", ",ok,x"), "cannot be read"),
        (with_("clip.mp4,", "clip.mp4,,"), "cannot be read"),
        (
            lambda page, path: path.write_text("".join(path.read_text().splitlines(True)[:-1])),
            "has 39 rows, its dictionary counts 40",
        ),
        (lambda page, path: path.write_text(""), "cannot be read"),
        (
            lambda page, path: path.write_bytes(b"\xff" + path.read_bytes()),
            "is in one of them only|cannot be read",
        ),
    ],
)
def test_what_does_not_belong_together_is_told(tmp_path, change, message):
    write(tmp_path, readings(), columns([TASKS["va"]]), ["csv"], counts={"ok": 32, "no_face": 8})
    change(tmp_path / "t.dictionary.json", tmp_path / "t.csv")
    with pytest.raises(TableError, match=message) as caught:
        mien.read_table(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_tables_that_were_cut_off_are_told(tmp_path, suffix, keep):
    write(tmp_path, readings(), columns([TASKS["va"]]), [suffix], counts={"ok": 40})
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(TableError, match=r"cannot be read|has \d+ rows"):
        mien.read_table(path)


def test_a_table_that_was_changed_since_is_told_and_one_that_was_renamed_is_read(face, tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), face[..., ::-1])
    run([tmp_path / "one.png"], tmp_path / "out", formats=["csv", "parquet"])
    assert len(mien.read_table(tmp_path / "out" / "one.csv")) == 1
    for name in ("one.csv", "one.parquet", "one.dictionary.json"):
        (tmp_path / "out" / name).rename(tmp_path / "out" / name.replace("one", "two"))
    assert len(mien.read_table(tmp_path / "out" / "two.parquet")) == 1
    path = tmp_path / "out" / "two.csv"
    path.write_text(path.read_text().replace(",happiness,", ",surprise,", 1))
    with pytest.raises(TableError, match="was changed or cut off since it was written"):
        mien.read_table(path)


def test_other_files_are_no_tables(tmp_path):
    (tmp_path / "t.csv").touch()
    for name, what in (
        ("t.dictionary.json", "a data dictionary"),
        ("t.overlay.mp4", "an overlay"),
        ("t.overlay.jpg", "an overlay"),
    ):
        with pytest.raises(TableError, match=f"{name}: is {what}, no table; give .*t.csv"):
            mien.read_table(tmp_path / name)
        with pytest.raises(
            TableError,
            match=f"is {what}, no table; "
            "give the .csv, .jsonl, .parquet file that was written with it",
        ):
            mien.read_table(tmp_path / f"other{name}")
    with pytest.raises(UnknownNameError, match="no format named 'xlsx'"):
        mien.read_table(tmp_path / "t.xlsx")
    with pytest.raises(TableError, match="is a folder; name one table in it"):
        mien.read_table(tmp_path)


def test_folders_whose_names_look_like_columns(tmp_path):
    folder = tmp_path / "subject=3"
    folder.mkdir()
    expected = write(folder, readings(), columns([TASKS["va"]]))
    for suffix in FORMATS:
        assert list(mien.read_table(folder / f"t.{suffix}")) == list(expected)


def test_dictionaries_of_earlier_versions_are_read(tmp_path):
    write(tmp_path, readings(), columns([TASKS["va"]]), ["csv"])
    page = tmp_path / "t.dictionary.json"
    page.write_text(page.read_text().replace('"dtype": "str"', '"dtype": "string"'))
    assert mien.read_table(tmp_path / "t.csv")["source"].dtype == pd.Series(["text"]).dtype
