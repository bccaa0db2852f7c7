"""Commands that are killed outright at a random moment and run again: the second run must end as if nothing had been."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from campaign.verdicts import Verdict, broken, environment, mien, run
from mien.demo import film, portrait

LIMIT_S: Final = 300.0
Digest = dict[str, str]

SETTINGS: Final = """
name: tiny
data: [{set: drawn, count: 120, seed: 0, size: 48}]
tasks: [expr.abaw8, va]
pixels: {size: 32, colour: grey, alignment: box, mean: [127.0], std: [128.0]}
network: {backbone: test_efficientnet}
optim: {lr: 0.003}
fit: {epochs: 4, batch: 16, accelerator: cpu, workers: 0}
"""
RECIPE: Final = """
name: small
title: Heads on features of drawn faces
paper: "Nobody (2000), Nothing"
data:
  faces: {set: lsd, get: "from nobody"}
protocol: abaw2022.lsd
seeds: [0]
steps:
  features: {do: features, data: faces, bundle: mien-xs}
  heads:
    do: heads
    features: features
    data: faces
    runs:
      - {tasks: [expr.lsd6], parts: features, fit: {epochs: 2, batch: 32, keep: last}}
rows:
  - {name: "heads on features", of: heads}
"""


@dataclass(frozen=True)
class Command:
    """What is killed: a command of mien that is given in a folder of its own, with relative paths, so that tables can be compared.

    setting_up: makes its input in that folder. digest: what it left there, to compare.
    """

    name: str
    setting_up: Callable[[Path], None]
    arguments: tuple[str, ...]
    digest: Callable[[Path], Digest]

    @property
    def line(self) -> list[str]:
        return mien(*self.arguments)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _files(folder: Path, *ignored: str) -> Digest:
    """Every file with the hash of its content; of those that hold times of their own only that they are there."""
    return {
        path.relative_to(folder).as_posix(): "there"
        if path.name.endswith(ignored)
        else _sha(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _recordings(folder: Path) -> None:
    film(folder / "in" / "clip.mp4")
    for number, size in enumerate((512, 384, 256)):
        Image.fromarray(portrait()).resize((size, size)).save(folder / "in" / f"photo-{number}.jpg")


def _tables(folder: Path) -> Digest:
    return _files(folder / "out", ".json", ".overlay.mp4", ".overlay.jpg")


def _settings(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(SETTINGS)


def _weights(folder: Path) -> Digest:
    """The weights of the best epoch, tensor by tensor, and the names of all files."""
    import torch

    state: dict[str, Any] = torch.load(
        folder / "run" / "best.pt", weights_only=True, map_location="cpu"
    )["net"]
    tensors = {name: _sha(tensor.numpy().tobytes()) for name, tensor in sorted(state.items())}
    return tensors | dict.fromkeys(_files(folder / "run"), "there")


def _labelled_pictures(folder: Path) -> None:
    face = Image.fromarray(portrait())
    for number in range(48):
        path = folder / "faces" / ("happiness" if number % 2 else "neutral") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        face.rotate(number).resize((64, 64)).save(path)
    data = "[{set: folder, root: faces, split: train}]"
    (folder / "tiny.yaml").write_text(
        SETTINGS.replace("[{set: drawn, count: 120, seed: 0, size: 48}]", data)
    )


def _arrays(folder: Path) -> Digest:
    found: Digest = {}
    for path in sorted((folder / "cache").rglob("*")):
        if path.suffix == ".npy":
            found[path.name] = _sha(np.load(path, allow_pickle=False).tobytes())
        elif path.is_file():
            found[path.name] = "there"
    return found


def _recipe(folder: Path) -> None:
    (folder / "small.yaml").write_text(RECIPE)


def _report(folder: Path) -> Digest:
    rows = json.loads((folder / "out" / "small.json").read_text())["rows"]
    return {"rows": json.dumps(rows, sort_keys=True)} | {
        name: "there"
        for name in _files(folder / "out")
        if Path(name).name.startswith((".", "small"))
    }


def _small_pictures(folder: Path) -> None:
    (folder / "in").mkdir()
    face = Image.fromarray(portrait())
    for number in range(4):
        face.rotate(number).resize((20, 20)).save(folder / "in" / f"{number}.png")


def _pictures(folder: Path) -> Digest:
    return {
        name: what
        for name, what in _files(folder / "out", ".sqlite", ".sqlite3", ".db").items()
        if "journal" not in name
    }


def _entry(folder: Path) -> None:
    from zoo_server import affect_network

    content, commit = affect_network(), "0" * 40
    (folder / "mirror").mkdir()
    (folder / "mirror" / "net.onnx").write_bytes(content)
    tasks = [
        {"key": "va", "names": ["valence", "arousal"], "kind": "scalar", "low": -1.0, "high": 1.0, "supervised_by": "chance",
         "columns": [8, 9]},
    ]  # fmt: skip
    pixels = {
        "size": 32, "colour": "rgb", "alignment": "box", "template": None, "margin": 0.0, "mean": [127.5] * 3,
        "std": [127.5] * 3, "resize": "area",
    }  # fmt: skip
    file = {
        "name": "net.onnx", "role": "network", "url": f"https://example.org/{commit}/net.onnx", "most": len(content) + 1000,
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    page = {
        "index": 1, "name": "tiny", "summary": "A tiny network.", "files": [file], "commit": commit, "code_licence": "MIT",
        "licence": "CC0-1.0", "trained_on": [{"data": "noise", "used_for": "training", "terms": "free"}],
        "network": {"reads": "crops", "pixels": pixels, "outputs": tasks}, "architectures": [],
        "published": [{"metric": "va CCC", "value": 0.5, "data": "nothing", "protocol": "a guess", "source": "nowhere"}],
        "limits": ["it is random"],
    }  # fmt: skip
    (folder / "tiny.json").write_text(json.dumps(page))


def _home(folder: Path) -> Digest:
    bundles = folder / "home" / "bundles"
    return {
        path.name: _sha((path / "model.onnx").read_bytes())
        for path in sorted(bundles.iterdir())
        if path.is_dir()
    }


COMMANDS: Final = (
    Command("analyze", _recordings, ("analyze", "in", "--out", "out", "--overlay"), _tables),
    Command("train", _settings, ("train", "tiny.yaml", "--out", "run"), _weights),
    Command(
        "features",
        _labelled_pictures,
        ("features", "mien-xs", "--data", "tiny.yaml", "--out", "cache"),
        _arrays,
    ),
    Command(
        "reproduce",
        _recipe,
        ("reproduce", "small.yaml", "--standin", "--size", "60", "--out", "out"),
        _report,
    ),
    Command(
        "superres", _small_pictures, ("data", "superres", "in", "out", "--workers", "1"), _pictures
    ),
    Command("pull", _entry, ("bundles", "pull", "tiny.json", "--from", "mirror"), _home),
)


def _env(at: Path) -> dict[str, str]:
    return environment(MIEN_HOME=str(at / "home"))


def _killed(command: list[str], after_s: float, env: dict[str, str], cwd: Path) -> None:
    """Start it and kill it with all its children."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, cwd=cwd,
        start_new_session=True,
    ) as process:  # fmt: skip
        time.sleep(after_s)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def campaign(folder: Path, command: Command, count: int, first_seed: int = 0) -> Iterator[Verdict]:
    """Kill the command `count` times, each in a folder of its own, and run it again."""

    def prepare(name: str) -> Path:
        at = folder / f"{command.name}-{name}"
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir(parents=True)
        command.setting_up(at)
        return at

    undisturbed = prepare("undisturbed")
    started = time.monotonic()
    code, said = run(command.line, LIMIT_S, _env(undisturbed), undisturbed)
    took_s = time.monotonic() - started
    if code != 0:
        yield Verdict(f"{command.name}, undisturbed", "wrong", f"exit {code}: {said[-300:]}")
        return
    expected = command.digest(undisturbed)
    for number in range(first_seed, first_seed + count):
        after_s = random.Random(number).uniform(0.02, 1.0) * took_s  # noqa: S311
        case = f"{command.name}, killed after {after_s:.2f} of {took_s:.2f} s"
        at = prepare(str(number))
        _killed(command.line, after_s, _env(at), at)
        code, said = run(command.line, LIMIT_S, _env(at), at)
        yield _judge(case, code, said, expected, lambda at=at: command.digest(at))  # type: ignore[misc]
        shutil.rmtree(at, ignore_errors=True)


def _judge(
    case: str, code: int | None, said: str, expected: Digest, digest: Callable[[], Digest]
) -> Verdict:
    if ended := broken(case, code, said):
        return ended
    if code != 0:
        return Verdict(case, "wrong", f"exit {code}: {said[-300:]}")
    got = digest()
    if extra := sorted(got.keys() - expected.keys()):
        return Verdict(case, "leftover", ", ".join(extra)[:300])
    if missing := sorted(expected.keys() - got.keys()):
        return Verdict(case, "lost", ", ".join(missing)[:300])
    if other := [name for name in expected if expected[name] != got[name]]:
        return Verdict(case, "wrong", f"other content: {', '.join(other)[:300]}")
    return Verdict(case, "right")
