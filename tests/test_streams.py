"""Standard streams that are closed, full or of another code page never end the work."""

import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import mien
from mien import progress
from mien.cli import app
from mien.progress import LogLines, NotebookBar, bar_for, shown

RUN = [sys.executable, "-m", "mien"]
full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.fixture(scope="module")
def photos(photo, tmp_path_factory):
    """Three folders with a photo each, so three tables."""
    root = tmp_path_factory.mktemp("many")
    for name in ("anna", "ben", "cleo"):
        (root / name).mkdir()
        shutil.copy(photo, root / name / "p.jpg")
    return root


def tables(folder: Path) -> list[str]:
    found = sorted(folder.rglob("*.csv"))
    assert all(len(pd.read_csv(path)) == 1 for path in found)
    assert len(list(folder.rglob("*.dictionary.json"))) == len(found)
    return [path.name for path in found]


@full_disk
def test_a_full_standard_output_does_not_end_a_batch(photos, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*RUN, "analyze", photos, "--out", tmp_path],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert len(tables(tmp_path)) == 3
    assert done.returncode == 1
    assert (
        done.stderr == "mien: standard output cannot be written (No space left on device); "
        "the work continues without it\n"
    )


@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_who_leaves_does_not_end_a_batch(photos, tmp_path, lines):
    command = [*RUN, "analyze", str(photos), "--out", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert len(tables(tmp_path)) == 3


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_from_the_start_do_no_harm(photos, tmp_path, closed):
    script = f'"{sys.executable}" -m mien analyze "{photos}" --out "{tmp_path}" {closed}'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(tables(tmp_path)) == 3


@full_disk
def test_a_full_standard_error_does_not_end_a_batch(photos, tmp_path):
    inputs = [str(photos), str(tmp_path / "missing.mp4")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*RUN, "analyze", *inputs, "--out", tmp_path / "out"],
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )
    assert done.returncode == 1
    assert len(tables(tmp_path / "out")) == 3


@full_disk
@pytest.mark.parametrize(
    "args",
    [["--help"], ["bundles", "list"], ["bundles", "show", "mien-s"], ["analyze", "--nonsense"]],
)
def test_no_command_ends_in_a_traceback_on_a_full_disk(args):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*RUN, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_name_that_the_console_lacks_does_not_end_a_batch(photo, tmp_path, encoding):
    for name in ("録画", "naïve", "plain"):
        (tmp_path / "in" / name).mkdir(parents=True)
        shutil.copy(photo, tmp_path / "in" / name / "p.jpg")
    (tmp_path / "in" / "壊.jpg").write_bytes(b"nothing")
    command = [*RUN, "analyze", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 1  # for the one that is broken
    assert len(tables(tmp_path / "out")) >= 3
    said = done.stdout.decode(encoding)
    assert "plain" in said
    assert ("録画" if encoding == "utf-8" else r"\u9332\u753b") in said
    assert b"Traceback" not in done.stderr


# --- told to stop ---

STOPPED_WHILE_LOADING = """
import os, signal, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.{signal})

sys.meta_path.insert(0, Stop())
sys.argv = ["mien", "analyze", "nothing.mp4", "--out", "out"]
from mien.__main__ import main
main()
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("module", ["typer", "numpy", "pyarrow", "cv2", "mien.cli.run"])
def test_stopping_while_the_commands_are_loaded_is_one_sentence(module, number, tmp_path):
    code = STOPPED_WHILE_LOADING.format(module=module, signal=number)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    code = 128 + getattr(signal, number)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "mien: stopped\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_at_work_is_one_sentence(clip, tmp_path, number):
    code = (
        "import os, signal, sys\n"
        "from mien import batch\n"
        f"batch.Progress.plan = lambda self, todo: os.kill(os.getpid(), {int(number)})\n"
        f"sys.argv = ['mien', 'analyze', {str(clip)!r}, '--out', 'out']\n"
        "from mien.cli import run\n"
        "run.ReadingBar.plan = batch.Progress.plan\n"
        "from mien.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 128 + number
    assert (
        done.stderr == "mien: stopped; nothing half-written is left, and finished inputs are kept\n"
    )
    assert not list(tmp_path.rglob("clip*"))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_nohup_outlives_the_terminal(photos, tmp_path):
    code = (
        "import os, signal, sys\n"
        "from mien.cli import run\n"
        "run.ReadingBar.plan = lambda self, todo: os.kill(os.getpid(), signal.SIGHUP)\n"
        f"sys.argv = ['mien', 'analyze', {str(photos / 'anna')!r}, '--out', {str(tmp_path)!r}]\n"
        "from mien.__main__ import main\n"
        "main()\n"
    )
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(ignoring, capture_output=True, text=True, check=False)
    assert len(tables(tmp_path)) == 1, done.stderr


# --- progress ---


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_has_a_line_a_minute_and_none_for_short_work(capsys):
    clock = Clock()
    lines = LogLines(clock=clock)
    for second in range(0, 200):
        clock.now = float(second)
        if second == 0:
            lines.begin("a\x1b[2J.mp4 (1/3)")
        lines.advance(f"{30 * second} frames", second / 400)
    lines.end()
    lines.begin("short")
    clock.now += 59
    lines.advance("1 frame", None)
    lines.end()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"mien: a\\x1b[2J.mp4 (1/3): {share}, {frames} frames"
        for share, frames in (("15%", 1800), ("30%", 3600), ("45%", 5400))
    ]


def test_a_batch_in_a_log_says_how_far_it_is(clip, tmp_path, monkeypatch):
    quiet = CliRunner().invoke(
        app, ["analyze", str(clip), "--out", str(tmp_path / "a"), "--every", "0.5"]
    )
    assert quiet.stderr == ""
    monkeypatch.setattr(progress.LogLines.__init__, "__defaults__", (0.0, progress.time.monotonic))
    told = CliRunner().invoke(
        app, ["analyze", str(clip), "--out", str(tmp_path / "b"), "--every", "0.5"]
    )
    assert told.exit_code == 0
    assert told.stderr.startswith("mien: clip (1/1): ")
    assert "12 frames" in told.stderr


def test_a_function_hears_how_far_it_is(clip, face, photo):
    heard: list[tuple[int, float | None]] = []
    mien.analyze(clip, every=0.5, progress=lambda *told: heard.append(told)).table  # noqa: B018
    assert [frames for frames, _ in heard] == list(range(1, 13))
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert shares[0] < 0.05
    assert 0.85 < shares[-1] <= 1
    heard.clear()
    list(
        mien.analyze(
            [photo, clip], every=3.0, stream=True, progress=lambda *told: heard.append(told)
        )
    )
    assert heard[0] == (1, 0.5)
    heard.clear()
    list(
        mien.analyze(
            iter([face]), stream=True, live=True, progress=lambda *told: heard.append(told)
        )
    )
    assert heard == [(1, None)]


def test_progress_prints_nothing_unless_asked_and_nothing_for_short_work(face, capfd):
    for wanted in (False, True):
        mien.analyze(face, progress=wanted).table  # noqa: B018
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook's kernel looks like to a library; what it is given to show is kept."""
    displayed = []

    class Handle:
        def update(self, data, raw):
            assert raw
            displayed.append(data)

    def display(data, raw, display_id):
        assert raw
        assert display_id
        displayed.append(data)
        return Handle()

    shell = type("ZMQInteractiveShell", (), {})()
    package = types.ModuleType("IPython")
    package.get_ipython = lambda: shell
    module = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return displayed


def test_a_notebook_gets_a_bar_of_its_own(notebook, capfd):
    with shown("<b>clip.mp4", True) as tell:
        tell(10, 0.25)
        tell(40, 1.0)
    assert isinstance(bar_for(), NotebookBar)
    assert "&lt;b&gt;clip.mp4" in notebook[0]["text/html"]
    assert "<progress max='1' value='1.000'>" in notebook[-2]["text/html"]
    assert "100%, 40 frames" in notebook[-2]["text/plain"]
    assert notebook[-1] == {"text/plain": "", "text/html": ""}
    assert capfd.readouterr() == ("", "")
