"""Settings and recipes that mean harm, or that slipped: one line that names the file and the key, soon, and never a traceback."""

import random
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mien.cli import app
from mien.data.sets.class_folders import load_folder
from mien.data.sets.label_file import load_file
from mien.data.standins.faces import read_faces
from mien.documents.patterns import bounded_pattern
from mien.documents.yaml import parse_yaml, read_yaml
from mien.errors import DataError, MienError
from mien.recipes.names import recipes
from mien.recipes.schema import read_recipe
from mien.tasks import TASKS
from mien.train.settings.template import template
from mien.train.settings.training import read_settings, write_settings

SETTINGS = """name: tiny
data: [{set: drawn, count: 240, seed: 0, size: 48}]
tasks: [va]
fit: {epochs: 2, batch: 16}
"""


def settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def bomb(levels: int = 12) -> str:
    return "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, levels)
    )


def test_the_sound_ones_are_read(tmp_path):
    assert read_settings(settings(tmp_path, SETTINGS)).fit.epochs == 2
    assert parse_yaml(template(), "template", "") == yaml.safe_load(template())


@pytest.mark.parametrize("name", recipes())
def test_the_reader_reads_what_pyyaml_reads(name):
    import mien.recipes

    path = Path(mien.recipes.__file__).parent / "library" / f"{name}.yaml"
    assert read_yaml(path, "") == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1:30", {"a": "1:30"}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("a: 190:20:30.15", {"a": "190:20:30.15"}),
        ("a: [0x1f, 0b11, 017, 1_000, -3, +4]", {"a": [31, 3, 15, 1000, -3, 4]}),
        ("a: [1.5, -.5, 1.0e+3, 2.e-1]", {"a": [1.5, -0.5, 1000.0, 0.2]}),
        (
            "a: [yes, no, on, off, true, ~, null, =]",
            {"a": [True, False, True, False, True, None, None, "="]},
        ),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("a: &x [1]\nb: [*x, *x]", {"a": [1], "b": [[1], [1]]}),
        ("\ufeffa: café", {"a": "café"}),
        ("", None),
    ],
)
def test_what_yaml_says(text, found, tmp_path):
    assert read_yaml(settings(tmp_path, text), "") == found


WRONG = {
    "a key twice": (SETTINGS + "fit: {epochs: 3}\n", r"fit: given twice, first on line 4; keep one \(line 5\)"),
    "a key twice below": (SETTINGS.replace("batch: 16", "epochs: 3"), r"fit\.epochs: given twice, first on line 4; keep one \(line 4\)"),
    "a key twice in a list": (SETTINGS.replace("seed: 0", "count: 9"), r"data\.0\.count: given twice"),
    "lists without end": (SETTINGS + "card: " + "[" * 2000 + "]" * 2000, r"card\.0\..*: lists and sections in one another"),
    "sections without end": ("".join(" " * i + "a:\n" for i in range(500)), "lists and sections in one another"),
    "deep by aliases": ("".join(f"a{i}: &a{i} {'[' * 20}{f'*a{i - 1}' if i else 1}{']' * 20}\n" for i in range(9)), "a3.*in one another"),
    "a bomb of aliases": (bomb(), "a4: more than 20000 values"),
    "a bomb in data": (bomb() + "name: x\ndata: *a11\n", "more than 20000 values"),
    "a bomb of merges": (
        "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)),
        "more than 20000 values",
    ),
    "a list in itself": ("name: tiny\ndata: &d [*d]\n", r"data\.0: \*d stands for what it is in itself"),
    "a section in itself": ("name: tiny\nfit: &f {watch: *f}\n", r"fit\.watch: \*f stands for what it is in itself"),
    "many values": ("data: [" + "1," * 30_000 + "]", "data: more than 20000 values"),
    "a large file": ("# " + "x" * 300_000, "bytes, more than it can have"),
    "digits": (SETTINGS.replace("epochs: 2", "epochs: " + "9" * 5000), r"fit\.epochs: a number of 5000 digits"),
    "digits after the point": (SETTINGS.replace("epochs: 2", "epochs: 0." + "9" * 5000), r"fit\.epochs: a number of 5002 digits"),
    "a null": (SETTINGS.replace("name: tiny", 'name: "a\\0b"'), "name: a text with a control character in it"),
    "a null as it is": (SETTINGS.replace("name: tiny", "name: a\0b"), "not YAML"),
    "an escape in a key": (SETTINGS + '"\\e[2J": 1\n', "control character"),
    "a list for a key": (SETTINGS + "? [a]\n: 1\n", "a key that is a list"),
    "an object": (SETTINGS + "card: !!python/object/apply:os.system [ls]\n", "not YAML.*constructor"),
    "a word for a number": (SETTINGS.replace("epochs: 2", "epochs: !!int two"), r"fit\.epochs: no int: two"),
    "a date by tag": (SETTINGS + "card: !!timestamp 2026-01-01\n", "timestamp"),
    "Latin-1": (SETTINGS + "# caf\udce9\n", "no text in UTF-8"),
    "two documents": (SETTINGS + "---\na: 1\n", "not YAML.*another document"),
    "minutes": (SETTINGS.replace("epochs: 2", "epochs: 1:30"), r"fit\.epochs: .*integer"),
    "a date": (SETTINGS.replace("epochs: 2", "epochs: 2026-01-01"), r"fit\.epochs: .*integer"),
    "too many at once": (SETTINGS.replace("batch: 16", "batch: 1000000000000"), r"fit\.batch: .*less than or equal to 65536"),
    "too many workers": (SETTINGS.replace("batch: 16", "workers: 100000"), r"fit\.workers: .*less than or equal to 256"),
    "too long": (SETTINGS.replace("epochs: 2", "epochs: 1000000000"), r"fit\.epochs: .*less than or equal to 100000"),
    "infinity": (SETTINGS.replace("batch: 16", "save_minutes: .inf"), r"fit\.save_minutes"),
    "nobody's home": (SETTINGS + "teachers: [~nosuchuser_/x]\n", r"teachers\.0: ~nosuchuser_/x: no home folder of that user is known"),
    "nobody's start": (SETTINGS + "network: {start: ~nosuchuser_/x.pt}\n", r"network\.start: ~nosuchuser_/x\.pt: no home folder"),
    "a key of the terminal's": (SETTINGS + '"\\x9b2J": 1\n', r"\\x9b2J: Extra inputs"),
    "nobody's data": (
        SETTINGS.replace("data: [", "data: [{set: portraits, folder: ~nosuchuser_/x}, "),
        r"data\.0\.folder: ~nosuchuser_/x: no home folder of that user",
    ),
    "nobody's data in a mix": (
        "name: tiny\ndata: [{set: mix, of: [{set: portraits, folder: ~nosuchuser_/x}]}]\ntasks: [va]\n",
        r"data\.0\.of\.0\.folder: ~nosuchuser_/x: no home folder",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_settings_are_one_line_with_file_and_key(kind, tmp_path):
    text, why = WRONG[kind]
    path = settings(tmp_path, text)
    with pytest.raises(DataError, match=why) as caught:
        read_settings(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind, (text, _) in WRONG.items()
        if not text.startswith(SETTINGS[:12]) or "twice" in kind
    ],
)
def test_recipes_are_read_by_the_same_reader(kind, tmp_path):
    text, why = WRONG[kind]
    path = settings(tmp_path, text)
    with pytest.raises(DataError, match=why) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", WRONG)
def test_the_command_line_says_it_in_one_line(kind, tmp_path):
    path = settings(tmp_path, WRONG[kind][0])
    result = CliRunner().invoke(app, ["train", str(path), "--show"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output


@pytest.mark.parametrize(
    "value", ["[" * 2000, "{a: 1, a: 2}", "&x [*x]", "9" * 5000, '"\\0"', "!!int x"], ids=range(6)
)
def test_a_change_on_the_command_line_is_read_by_it_too(value):
    result = CliRunner().invoke(
        app, ["reproduce", recipes()[0], "--show", "--set", f"seeds={value}"]
    )
    assert result.exit_code == 2
    assert result.output.startswith("mien: --set seeds: ")
    assert result.output.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device without end")
def test_what_is_no_file_is_not_read(tmp_path):
    (tmp_path / "a.yaml").symlink_to("/dev/zero")
    for read in (read_settings, read_recipe):
        with pytest.raises(DataError, match=r"a\.yaml: no regular file"):
            read(tmp_path / "a.yaml")


def test_random_changes_end_in_settings_or_in_one_line(tmp_path):
    chance, pieces = (
        random.Random(8),  # noqa: S311
        [
            "&a ",
            "*a",
            "[",
            "]",
            "{",
            "}",
            ": ",
            "- ",
            "\n",
            "!!",
            "<<: *a",
            "? ",
            "'",
            '"',
            "|",
            "%",
            "~",
            "\t",
            "\0",
            "#",
        ],
    )
    began = time.monotonic()
    for _ in range(400):
        text = list(SETTINGS)
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(text))
            text[place : place + chance.randint(0, 3)] = chance.choice(pieces)
        path = settings(tmp_path, "".join(text))
        try:
            read_settings(path)
        except MienError as error:
            assert str(error).isprintable(), text  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert time.monotonic() - began < 120


# regular expressions


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("(a+)+b", "repeats what repeats"),
        ("((a*)*)*b", "repeats what repeats"),
        ("(?:a|aa)+(b)", "repeats what repeats"),
        ("(?P<x>[ab]+){9}c", "repeats what repeats"),
        ("((?:a?){30}a{30}b)", "repeats what repeats"),
        ("(" + "a?" * 40 + ")" + "b", "repeats what repeats"),
        ("(?=((a+)+))b", "repeats what repeats"),
        ("(?:([]a]+)[)]?)+b", "repeats what repeats"),
        ("(.*)(.*)(.*)(.*)(.*)x", "more than four"),
        (".{0,99}.{0,99}.{0,99}.{0,99}(.{0,99})x", "more than four"),
        ("(" + "a" * 300 + ")", "302 letters"),
        ("(x){99999999999}", "no regular expression"),
        ("(" * 150, "no regular expression"),
        ("(", "no regular expression"),
        ("abc", "has no group"),
    ],
)
def test_an_expression_that_could_take_for_ever_is_refused(expression, why, tmp_path):
    place = tmp_path / "train" / "happiness"
    place.mkdir(parents=True)
    (place / ("a" * 60 + ".png")).write_bytes(b"")
    with pytest.raises(DataError, match=f"subject: .*{why}"):
        load_folder(tmp_path, TASKS["expr.ferplus8"], subject=expression)


@pytest.mark.parametrize(
    "expression",
    [
        r"(\w+)_\d+",
        r"(?<=_)([a-z]+)-?x*",
        r"_(s\d{1,3})(?:_|$)",
        r"(\d)\1",
        r"^(?P<who>s[0-9]+)-.*\.png$",
        r"sub-(\d{2,3})",
        r"([^_]+)_",
        r"(a|b)\.png",
        r"([()*+|]+)",
    ],
)
def test_a_plain_expression_is_taken(expression):
    assert bounded_pattern(expression, "subject").pattern == expression


def test_what_is_taken_ends_soon_on_a_long_name():
    pattern = bounded_pattern("(a*)a*a*b", "subject")
    began = time.process_time()
    assert pattern.search("a" * 255) is None
    assert time.process_time() - began < 20


# tables of labels


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_of_200_000_columns_is_refused_at_once(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_text(("," if suffix == "csv" else "\t").join(f"c{i}" for i in range(200_000)) + "\n")
    began = time.monotonic()
    with pytest.raises(DataError, match=rf"a\.{suffix}: (200000 columns|.*a line of more than)"):
        load_file(path, [TASKS["va"]])
    assert time.monotonic() - began < 10
    path.write_text("x" * 5_000_000)
    with pytest.raises(DataError, match="a line of more than"):
        load_file(path, [TASKS["va"]])


@pytest.mark.parametrize("version", ["2", "0", "true", "one", "[1]"])
def test_settings_of_another_schema_are_refused(version, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(template().replace("settings: 1", f"settings: {version}"))
    with pytest.raises(DataError, match=r"mine.yaml: settings: .* install a newer mien"):
        read_settings(path)


def test_missing_files_are_told_with_the_command_that_prints_one(tmp_path):
    path = tmp_path / "gone.yaml"
    with pytest.raises(
        DataError, match=r"gone\.yaml: No such file.*; .*`mien train --show` prints"
    ):
        read_settings(path)
    with pytest.raises(DataError, match=r"gone\.yaml: No such file.*`mien reproduce NAME --show`"):
        read_recipe(path)
    with pytest.raises(
        DataError, match=r"gone\.yaml: No such file.*`data`, as `mien train --show`"
    ):
        read_faces(path)


def test_settings_without_a_schema_are_of_the_first(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(template())
    given = read_settings(path)
    path.write_text(template().replace("settings: 1", ""))
    assert read_settings(path) == given
    assert write_settings(given).startswith("settings: 1\n")


def test_recipes_of_another_schema_are_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: 2\nname: mine\n")
    with pytest.raises(DataError, match=r"mine.yaml: recipe: 2 is a version"):
        read_recipe(path)
