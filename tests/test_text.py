"""What others wrote is shown and never obeyed: names of files, keys, errors, in every command."""

import io
import sys
import unicodedata

import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.cli.bars import Bar
from mien.cli.terminal import err
from mien.text import printable

EVIL = "\x1b]0;mine\x07\x1b[2J\u202egpj\r\n\x9b31m\u2028\udcff"
SHOWN = "\\x1b]0;mine\\x07\\x1b[2J\\u202egpj\\r\\n\\x9b31m\\u2028\\udcff"


def harmless(said: str) -> bool:
    """No control or turning character in it but the line breaks of mien's own."""
    formats = {
        letter for letter in said if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
    } - {"\n"}
    return not formats and not set(said) & {
        chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
    }


def test_what_commands_a_terminal_is_written_out():
    assert printable(EVIL) == SHOWN
    assert printable("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


@pytest.mark.parametrize(
    "code",
    [
        *range(0x20),
        0x7F,
        *range(0x80, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0xD800,
        0xDFFF,
    ],
)
def test_every_such_character(code):
    assert harmless(printable(chr(code)))
    assert len(printable(chr(code))) > 1


@pytest.mark.parametrize(
    "text",
    ["лицо 01.jpg", "می\u200cخواهم", "👩\u200d🔬 café", "a\u00a0b", "[red]x[/red]", "C:\\x1b"],
)
def test_letters_of_every_language_stay(text):
    assert printable(text) == text == printable(text, lines=True)


@pytest.mark.parametrize(
    "words",
    [
        ("analyze", "{e}", "--out", "{t}"),
        ("analyze", "a.jpg", "--out", "{t}", "--format", "{e}"),
        ("analyze", "a.jpg", "--out", "{t}", "--bundle", "{e}"),
        ("analyze", "a.jpg", "--out", "{t}", "--faces", "{e}"),
        ("analyze", "--{e}", "--out", "{t}"),
        ("analyze", "a.jpg", "--out", "{t}", "--every", "{e}"),
        ("{e}",),
        ("bundles", "{e}"),
        ("bundles", "show", "{e}"),
        ("bundles", "verify", "{e}"),
        ("bundles", "add", "{e}"),
        ("bundles", "remove", "{e}"),
        ("bundles", "pack", "{e}", "--out", "{t}/x"),
        ("bundles", "pull", "{e}"),
        ("submit", "check", "{e}", "{e}"),
        ("train", "{e}.yaml", "--out", "{t}/run"),
        ("reproduce", "{e}", "--show"),
        ("reproduce", "x", "--set", "{e}"),
    ],
    ids=" ".join,
)
def test_every_command_tells_of_a_hostile_name_without_obeying_it(words, tmp_path):
    result = CliRunner().invoke(app, [word.format(e=EVIL, t=tmp_path) for word in words])
    assert result.exit_code in (1, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.output
    assert harmless(result.output), repr(result.output)


def test_markup_and_escapes_in_what_a_bar_shows(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("mien.cli.bars.err", type(err)(file=shown, force_terminal=True, width=200))
    bar = Bar()
    bar(f"[bold]{EVIL}[/nothing]", 1, 2)
    bar._bar._rich.refresh()
    bar.close()
    assert "[bold]\\x1b]0;mine" in shown.getvalue().replace("\n", "")
    assert "\x1b]0" not in shown.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_job_with_a_hostile_name_is_done_and_told_on_one_line(photo, tmp_path):
    hostile = tmp_path / "a\x1b]0;mine\x07\nb.jpg"
    hostile.write_bytes(photo.read_bytes())
    (tmp_path / "c\x1b[2J.jpg").write_bytes(b"nothing")
    result = CliRunner().invoke(app, ["analyze", str(tmp_path), "--out", str(tmp_path / "out")])
    assert harmless(result.output)
    assert "c\\x1b[2J.jpg" in result.output
