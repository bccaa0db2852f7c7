"""The command line and batches: what people type, and what they get when the input is bad."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from mien.bundles.store import bundles
from mien.cli import app
from mien.demo import portrait

RUN = CliRunner()


def mien(*args) -> tuple[int, str]:
    """Exit code and all that was printed."""
    result = RUN.invoke(app, [str(arg) for arg in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("words", [(), ("bundles",), ("data",), ("submit",)])
def test_without_a_word_the_help_is_shown_as_lines(words):
    _, said = mien(*words)
    assert "\\n" not in said
    assert any("Commands" in line for line in said.splitlines()[2:])


def nothing_half_written(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if ".part" in path.name]


def test_one_clip_gives_a_table_a_dictionary_and_an_overlay(clip, tmp_path):
    code, said = mien(
        "analyze",
        clip,
        "--out",
        tmp_path,
        "--overlay",
        "--format",
        "csv,parquet,jsonl",
        "--smooth",
        0.2,
    )
    assert code == 0, said
    assert {path.name for path in tmp_path.iterdir()} == {
        "clip.csv",
        "clip.parquet",
        "clip.jsonl",
        "clip.dictionary.json",
        "clip.overlay.mp4",
    }
    page = json.loads((tmp_path / "clip.dictionary.json").read_text())
    assert [column["name"] for column in page["columns"]] == list(
        pd.read_csv(tmp_path / "clip.csv")
    )
    assert page["bundle"]["name"] == "mien-s"
    assert len(page["bundle"]["sha256"]) == 64
    assert page["options"]["smoothing"]["fwhm_s"] == 0.2
    assert {column["name"]: column["fwhm_s"] for column in page["columns"]}.items() >= {
        "AU12": 0.2,
        "AU45": None,
        "AU12_raw": None,
    }.items()
    assert page["rows"]["ok"] + page["rows"]["doubtful"] > 80
    with av.open(str(tmp_path / "clip.overlay.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 150
    assert "150 frames" in said
    assert "1 done" in said


def test_photos_of_a_folder_share_one_table_and_a_bad_one_does_not_stop_the_others(photo, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("b.jpg", "a 1.jpg", "лицо.jpg"):
        shutil.copy(photo, folder / name)
    (folder / "c.jpg").write_bytes(photo.read_bytes()[:2000])
    (folder / "notes.txt").touch()
    code, said = mien("analyze", folder, "--out", tmp_path / "out")
    assert code == 1
    assert "c.jpg" in said
    assert said.splitlines()[-1].endswith("not read: 1 .txt")
    table = pd.read_csv(tmp_path / "out" / "in.csv")
    assert [Path(name).name for name in table["source"]] == [
        "a 1.jpg",
        "b.jpg",
        "c.jpg",
        "лицо.jpg",
    ]
    assert table["status"].tolist() == ["ok", "ok", "unreadable", "ok"]
    record = json.loads((tmp_path / "out" / "mien-run.json").read_text())
    assert record["left_out"] == {".txt": 1}
    assert record["counts"] == {"done": 1, "skipped": 0, "left": 0, "failed": 0}
    assert "c.jpg" in record["jobs"][0]["problems"][0]


def test_a_second_run_skips_what_is_done_and_redoes_what_changed(clip, tmp_path):
    mine = shutil.copy(clip, tmp_path / "mine.mp4")
    assert mien("analyze", mine, "--out", tmp_path / "out")[0] == 0
    first = (tmp_path / "out" / "mine.csv").read_bytes()
    code, said = mien("analyze", mine, "--out", tmp_path / "out")
    assert code == 0
    assert "done before" in said
    assert "done before" not in mien("analyze", mine, "--out", tmp_path / "out", "--every", 0.5)[1]
    assert (tmp_path / "out" / "mine.csv").read_bytes() != first
    (tmp_path / "out" / "mine.csv").unlink()
    assert "done before" not in mien("analyze", mine, "--out", tmp_path / "out")[1]
    assert (tmp_path / "out" / "mine.csv").read_bytes() == first


def sound_only(path: Path) -> None:
    with wave.open(str(path.with_suffix(".wav")), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    with av.open(str(path.with_suffix(".wav"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("aac", rate=8000)
        for frame in source.decode(audio=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def garbage_in_the_middle(clip: Path, path: Path) -> None:
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)


# What is put in the folder, and a word of what must be said about it.
BAD = {
    "missing": (None, "not-there.mp4"),
    "text": (lambda p, clip: p.write_text("hello\n" * 100), "bad.mp4"),
    "empty": (lambda p, clip: p.touch(), "bad.mp4"),
    "sound": (lambda p, clip: sound_only(p), "bad.mp4"),
    "truncated": (
        lambda p, clip: p.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2]),
        "bad.mp4",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_input_gets_one_line_and_the_others_go_on(kind, clip, tmp_path):
    make, name = BAD[kind]
    if make:
        make(tmp_path / name, clip)
    code, said = mien("analyze", tmp_path / name, clip, "--out", tmp_path / "out", "--every", 0.5)
    assert code == 1
    complaints = [line for line in said.splitlines() if line.startswith("mien: ")]
    assert len(complaints) == 1
    assert name in complaints[0]
    assert "Traceback" not in said
    assert (tmp_path / "out" / "clip.csv").exists()
    assert not list((tmp_path / "out").glob("bad*"))
    assert nothing_half_written(tmp_path)


def test_damage_in_the_middle_is_reported_and_every_frame_keeps_its_row(clip, tmp_path):
    garbage_in_the_middle(clip, tmp_path / "hurt.mp4")
    code, said = mien("analyze", tmp_path / "hurt.mp4", "--out", tmp_path / "out")
    assert code == 1
    assert "hurt.mp4" in said
    table = pd.read_csv(tmp_path / "out" / "hurt.csv")
    assert table["frame"].nunique() == 150
    assert (table["status"] == "unreadable").sum() >= 1
    assert (table["status"] == "ok").sum() >= 5


@pytest.mark.parametrize(
    ("size", "words"), [((1, 1), "1 done"), ((11_000, 10_000), "read at half size")]
)
def test_tiny_and_huge_pictures(size, words, tmp_path):
    Image.new("L", size).save(tmp_path / "odd.png")
    code, said = mien("analyze", tmp_path / "odd.png", "--out", tmp_path / "out")
    assert words in said.lower()
    assert code == 0


def test_an_empty_folder_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    code, said = mien("analyze", tmp_path / "empty", "--out", tmp_path / "out")
    assert code == 1
    assert "empty" in said


def test_a_folder_that_cannot_be_written(clip, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, said = mien("analyze", clip, "--out", tmp_path / "file" / "out")
    assert code == 1
    assert said.startswith("mien: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--bundle", "mien-z"], "mien-s"),
        (["--format", "xls"], "xlsx"),
        (["--engine", "onnx"], "onnxruntime"),
        (["--faces", "many"], "largest"),
        (["--faces", "0"], "faces"),
        (["--every", "-1"], "every"),
        (["--smooth", "-1"], "seconds"),
        (["--bundle", "mien-face"], "cannot read affect"),
        (["--detector", "mien-s"], "cannot find faces"),
        (["--detector", "yunett"], "yunet"),
    ],
)
def test_wrong_usage_is_told_in_one_line(args, words, clip, tmp_path):
    code, said = mien("analyze", clip, "--out", tmp_path, *args)
    assert code == (1 if "cannot" in words else 2)
    assert words in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_tampered_bundle_is_refused(clip, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(bundles()["mien-s"], folder)
    network = bytearray((folder / "model.onnx").read_bytes())
    network[len(network) // 2] ^= 1
    (folder / "model.onnx").write_bytes(network)
    code, said = mien("analyze", clip, "--out", tmp_path / "out", "--bundle", folder)
    assert code == 1
    assert "sha256" in said
    assert mien("bundles", "verify", folder)[0] == 1


def test_a_full_disk_leaves_nothing_behind(clip, tmp_path):
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command = [sys.executable, "-m", "mien", "analyze", str(clip), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=small_files
    )
    assert done.returncode == 1
    assert "clip.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_stopping_in_the_middle_leaves_nothing_half_written(clip, tmp_path):
    long = tmp_path / "long.mp4"
    with av.open(str(long), "w") as target, av.open(str(clip)) as source:
        out = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        length = packets[0].duration * len(packets)
        data = [(bytes(p), p.pts, p.dts, p.is_keyframe, p.time_base) for p in packets]
        for i in range(30):
            for content, pts, dts, key, base in data:
                packet = av.Packet(content)
                packet.pts, packet.dts, packet.time_base, packet.stream = (
                    pts + i * length,
                    dts + i * length,
                    base,
                    out,
                )
                packet.is_keyframe = key
                target.mux(packet)
    command = [
        sys.executable,
        "-m",
        "mien",
        "analyze",
        str(clip),
        str(long),
        "--out",
        str(tmp_path / "out"),
        "--overlay",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob(".long*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped" in said
    assert "Traceback" not in said
    assert (tmp_path / "out" / "clip.csv").exists()
    assert not list((tmp_path / "out").glob("*long*"))


def test_demo_leaves_a_table_and_a_video(tmp_path):
    code, said = mien("demo", "--out", tmp_path / "demo")
    assert code == 0, said
    table = pd.read_csv(tmp_path / "demo" / "clip.csv")
    assert (table["expression"] == "happiness").mean() > 0.5
    assert (tmp_path / "demo" / "clip.overlay.mp4").stat().st_size > 10_000


def test_the_demo_s_photo_is_the_public_one_and_asks_for_nothing_that_is_not_installed_with_mien():
    astronaut = pytest.importorskip("skimage.data").astronaut

    assert np.array_equal(portrait(), astronaut())
    code = (
        "import sys; sys.modules['skimage'] = None\n"
        "from mien.demo import portrait; print(portrait().shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(512, 512, 3)\n"), done.stderr


def test_doctor_finds_nothing_broken():
    code, said = mien("doctor")
    assert code == 0
    for word in ("python", "onnxruntime", "bundle mien-s", "bundle mien-face", "verified", "h264"):
        assert word in said


@pytest.mark.parametrize("name", list(bundles()))
def test_bundles_can_be_listed_shown_and_verified(name):
    assert name in mien("bundles", "list")[1]
    code, card = mien("bundles", "show", name)
    assert code == 0
    for heading in ("Scores", "Where it fails", "Must not be used for", "Data it has seen"):
        assert heading in card
    assert mien("bundles", "verify", name) == (0, f"{name}: verified\n")


def test_an_unknown_bundle_names_the_nearest():
    code, said = mien("bundles", "show", "mein-s")
    assert code == 2
    assert "mien-s" in said


def test_help_says_what_it_must_not_be_used_for():
    code, said = mien("--help")
    assert code == 0
    assert "5(1)(f)" in said
    assert mien("--version")[1].startswith("mien ")


def test_no_face_is_left_on_disk_unless_asked_for(clip, tmp_path):
    before = set(os.listdir(Path.cwd()))
    assert mien("analyze", clip, "--out", tmp_path, "--every", 0.5)[0] == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".json"}
    assert set(os.listdir(Path.cwd())) == before


def test_overlays_of_an_earlier_run_are_no_inputs(clip, photo, tmp_path):
    for path in (clip, photo):
        shutil.copy(path, tmp_path / path.name)
    (tmp_path / "sub").mkdir()
    shutil.copy(clip, tmp_path / "sub" / "clip.mp4")
    assert mien("analyze", tmp_path, "--out", tmp_path, "--overlay", "--every", 0.5)[0] == 0
    before = {path.name for path in tmp_path.iterdir()}
    code, said = mien("analyze", tmp_path, "--out", tmp_path, "--overlay", "--every", 0.5)
    assert code == 0
    assert said.count("done before") == 3
    assert {path.name for path in tmp_path.iterdir()} == before


def test_new_options_take_the_old_files_along(clip, tmp_path):
    assert mien("analyze", clip, "--out", tmp_path, "--every", 0.5, "--overlay")[0] == 0
    assert mien("analyze", clip, "--out", tmp_path, "--every", 0.5, "--format", "parquet")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"clip.parquet", "clip.dictionary.json"}


def test_damage_is_told_again_when_the_work_is_skipped(clip, tmp_path):
    garbage_in_the_middle(clip, tmp_path / "hurt.mp4")
    first, second = (
        mien("analyze", tmp_path / "hurt.mp4", "--out", tmp_path / "out") for _ in range(2)
    )
    assert first[0] == second[0] == 1
    assert "done before" in second[1]
    assert "could not be decoded" in second[1]


def test_a_result_never_replaces_an_input(clip, tmp_path):
    for name in ("x.mp4", "x.overlay.mp4"):
        shutil.copy(clip, tmp_path / name)
    code, said = mien(
        "analyze",
        tmp_path / "x.overlay.mp4",
        tmp_path / "x.mp4",
        "--out",
        tmp_path,
        "--overlay",
        "--every",
        1,
    )
    assert (tmp_path / "x.overlay.mp4").read_bytes() == clip.read_bytes()
    assert code == 1
    assert "replace" in said


def test_names_with_colons_are_printed_as_they_are():
    assert ":x:" in mien("analyze", "not:x:there.mp4", "--out", "unused")[1]


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGHUP"])
def test_being_ended_leaves_no_face_behind(signal_name, shared, tmp_path):
    clip = shared / "media" / "one_face_640x360.mp4"
    command = [
        sys.executable,
        "-m",
        "mien",
        "analyze",
        str(clip),
        "--out",
        str(tmp_path / "out"),
        "--overlay",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "out").glob(".*overlay*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, signal_name))
    process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, signal_name)
    assert not list((tmp_path / "out").iterdir())


def test_nothing_reaches_for_the_network(photo, tmp_path):
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit(f"reached for the network: {args}")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
import mien
from mien.bundles.engines import available
for engine in available():
    assert len(mien.analyze(sys.argv[1], engine=engine).table) == 1
"""
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(photo)],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    assert not [path for path in home.rglob("*") if path.is_file()]


# the training half


@pytest.fixture
def settings_file(tiny_settings, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_settings)
    return path


def test_from_settings_to_a_bundle_that_reads_a_photo(settings_file, photo, tmp_path):
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    code, said = mien("train", settings_file, "--out", run)
    assert code == 0, said
    assert [line.partition(":")[0] for line in said.splitlines() if line.startswith("epoch")] == [
        "epoch 0",
        "epoch 1",
    ]
    assert "loss" in said
    assert "nothing is left to do" in mien("train", settings_file, "--out", run)[1]
    code, said = mien("export", run, "--out", bundle, "--features")
    assert code == 0, said
    assert "MB" in said
    assert mien("bundles", "verify", bundle)[0] == 0
    code, said = mien("analyze", photo, "--out", tmp_path / "out", "--bundle", bundle)
    assert code == 0, said
    assert pd.read_csv(tmp_path / "out" / "eileen.csv")["AU12"].between(0, 1).all()
    code, said = mien("features", bundle, "--data", settings_file, "--out", tmp_path / "cache")
    assert code == 0, said
    assert "of 240 faces" in said
    assert "features: {bundle:" in said


def test_evaluate_prints_markdown_and_leaves_a_report(tiny_run, settings_file, tmp_path):
    code, said = mien(
        "evaluate",
        tiny_run.folder,
        "--data",
        settings_file,
        "--by",
        "subject",
        "--protocol",
        "abaw2022.mtl",
        "--out",
        tmp_path / "report",
    )
    assert code == 0, said
    assert said.startswith("# tiny on drawn faces, val")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "evaluation.md",
        "evaluation.json",
        "evaluation.png",
    }
    text = (tmp_path / "report" / "evaluation.md").read_text()
    assert text in said
    for words in ("By subject", "abaw2022.mtl", "macro-F1"):
        assert words in text
    code, said = mien("evaluate", tiny_run.folder, tiny_run.folder, "--data", settings_file)
    assert code == 0
    assert "± 0.000" in said


def test_show_prints_every_default_or_a_file_to_start_from(settings_file, tmp_path):
    code, said = mien("train", settings_file, "--show")
    assert code == 0
    shown = yaml.safe_load(said)
    assert shown["fit"]["epochs"] == 2
    assert shown["optim"]["weight_decay"] == 0
    assert shown["card"]["licence"] == "not stated"
    code, said = mien("train", "--show")
    assert code == 0
    assert "# passes over the training split" in said
    (tmp_path / "mine.yaml").write_text(said)
    assert mien("train", tmp_path / "mine.yaml", "--show")[0] == 0


def test_ctrl_c_says_how_to_go_on_and_the_run_does(tiny_settings, tmp_path):
    path, run = tmp_path / "long.yaml", tmp_path / "run"
    path.write_text(tiny_settings.replace("epochs: 2", "epochs: 8"))
    command = [sys.executable, "-m", "mien", "train", str(path), "--out", str(run)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (run / "curve.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 130
    assert f"to resume: mien train {path} --out {run}" in said
    assert "finished" not in json.loads((run / "run.json").read_text())
    code, said = mien("train", path, "--out", run)
    assert code == 0
    assert "resuming after step" in said
    assert "epoch 0:" not in said
    assert pd.read_csv(run / "curve.csv")["epoch"].tolist() == list(range(8))
    path.write_text(tiny_settings.replace("lr: 0.003", "lr: 0.004"))
    code, said = mien("train", path, "--out", run)
    assert code == 1
    assert "optim.lr was 0.003, now 0.004" in said


@pytest.mark.parametrize(
    "case",
    [
        (["train"], 2, "--show"),
        (["train", "{s}"], 2, "--out"),
        (["train", "{t}/none.yaml", "--out", "{t}/r"], 1, "none.yaml"),
        (["train", "{t}/epoch.yaml", "--out", "{t}/r"], 1, "fit.epoch"),
        (["train", "{t}/gone.yaml", "--out", "{t}/r"], 1, "nowhere"),
        (["train", "{t}/epoch.yaml", "--show"], 1, "epoch.yaml"),
        (["train", "{s}", "--out", "{s}/r"], 1, "tiny.yaml"),
        (["export", "{t}", "--out", "{t}/b"], 1, "settings.yaml"),
        (["export", "{r}", "--out", "{t}"], 1, "no part of a bundle"),
        (["export", "{r}", "--out", "{t}/b", "--bits", "4"], 2, "8 or 16"),
        (["evaluate", "{t}", "--data", "{s}"], 2, "card.json"),
        (["evaluate", "mein-s", "--data", "{s}"], 2, "mien-s"),
        (["evaluate", "{r}", "--data", "{s}", "--split", "test"], 1, "split test"),
        (["evaluate", "{r}", "--data", "{s}", "--by", "age"], 1, "age"),
        (["evaluate", "{r}", "--data", "{s}", "--protocol", "abaw"], 2, "abaw20"),
        (["evaluate", "{r}", "--data", "{t}/epoch.yaml"], 1, "fit.epoch"),
        (["evaluate", "{r}", "--data", "{s}", "--out", "{s}/r"], 1, "tiny.yaml"),
        (["evaluate", "mien-face", "--data", "{s}"], 1, "cannot read affect"),
        (["features", "mien-face", "--data", "{s}", "--out", "{t}/c"], 1, "cannot read affect"),
        (["features", "{t}", "--data", "{s}", "--out", "{t}/c"], 2, "card.json"),
    ],
)
def test_training_says_what_is_wrong_in_one_line(case, settings_file, tiny_run, tmp_path):
    args, code, words = case
    text = settings_file.read_text()
    (tmp_path / "epoch.yaml").write_text(text.replace("epochs", "epoch"))
    (tmp_path / "gone.yaml").write_text(
        text.replace(
            "{set: drawn, count: 240, seed: 0, size: 48}", "{set: portraits, folder: nowhere}"
        )
    )
    before = sorted(tmp_path.iterdir())
    found, said = mien(
        *(arg.format(s=settings_file, t=tmp_path, r=tiny_run.folder) for arg in args)
    )
    complaints = [line for line in said.splitlines() if line.startswith("mien: ")]
    assert (found, len(complaints)) == (code, 1), said
    assert words in complaints[0]
    assert "Traceback" not in said
    assert [path for path in sorted(tmp_path.iterdir()) if path not in before] in (
        [],
        [tmp_path / "r"],
    )


def test_without_torch_the_extra_is_named(settings_file, tmp_path):
    code = "import sys; sys.modules['torch'] = None; from mien.cli import app; app(sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        code,
        "train",
        str(settings_file),
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "mien[train]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# Refuses every import of what the extra `train` brings and the extra `evaluate` does not.
REFUSE_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm", "lightning_fabric"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
"""


def without_torch(code, *args):
    command = [sys.executable, "-c", REFUSE_TORCH + code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_bundles_are_evaluated_without_torch(tmp_path):
    settings = tmp_path / "drawn.yaml"
    settings.write_text(
        "name: drawn\ndata: [{set: drawn, count: 40, seed: 0, size: 96}]\ntasks: [va]\n"
    )
    done = without_torch(
        "from mien.cli import app; app(sys.argv[1:])",
        *("evaluate", "mien-xs", "--data", settings, "--out", tmp_path / "report"),
    )
    assert done.returncode == 0, done.stderr
    assert "mien-xs" in done.stdout
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "evaluation.md",
        "evaluation.json",
        "evaluation.png",
    }


def test_judging_loads_no_torch():
    code = "import mien.train.evaluate_models; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_run_cannot_be_evaluated_without_torch(settings_file, tiny_run):
    done = without_torch(
        "from mien.cli import app; app(sys.argv[1:])",
        *("evaluate", tiny_run.folder, "--data", settings_file),
    )
    assert done.returncode == 2
    assert "(torch)" in done.stderr
    assert "mien[train]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_evaluation_names_its_extra():
    code = "import sys; sys.modules['yaml'] = None; from mien.cli import app; app(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "mien-xs", "--data", "absent.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "mien[evaluate]" in done.stderr


@pytest.mark.parametrize("option", ["--bundle", "--detector"])
def test_a_wrong_bundle_is_wrong_usage_by_name_and_by_folder(option, tmp_path):
    for wrong in ("mien-q", str(tmp_path), str(tmp_path / "nowhere")):
        done = RUN.invoke(app, ["analyze", "a.png", "--out", str(tmp_path / "out"), option, wrong])
        assert done.exit_code == 2, wrong
        assert "did you mean" in done.output
