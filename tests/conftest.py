"""A real face for every test: the public-domain portrait that the demo uses, as a picture and as a short film."""

import os
from pathlib import Path

import pytest
from PIL import Image

from mien.demo import film, portrait

ROOT = Path(__file__).parents[1]
# What somebody has pulled on this machine must not decide a test; nor can a test leave anything there.
os.environ["MIEN_HOME"] = f"{os.devnull}/mien"


@pytest.fixture(scope="session")
def face():
    """RGB uint8 (512, 512, 3), one face in the upper middle."""
    return portrait()


@pytest.fixture(scope="session")
def photo(tmp_path_factory, face):
    path = tmp_path_factory.mktemp("photo") / "eileen.jpg"
    Image.fromarray(face).save(path, quality=92)
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """150 frames at 25 frames/s; the camera looks away for nearly two seconds."""
    return film(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="session")
def shared():
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the real media in {folder.name}/ beside the checkout")
    return folder


@pytest.fixture(scope="session")
def tiny_settings():
    """The text of settings that train in a second: a tiny network on drawn faces, expressions, valence and arousal, action units."""
    # An environment without training, such as that of `make test-lowest`, tests the rest.
    pytest.importorskip("torch", reason="training needs torch")
    return """
name: tiny
data: [{set: drawn, count: 240, seed: 0, size: 48}]
tasks: [expr.abaw8, va, au.abaw12]
pixels:
  {size: 32, colour: grey, alignment: similarity5, mean: [127.0], std: [128.0],
   template: [[0.32, 0.38], [0.68, 0.38], [0.5, 0.61], [0.35, 0.77], [0.65, 0.77]]}
network: {backbone: test_efficientnet}
optim: {lr: 0.003}
fit: {epochs: 2, batch: 16, accelerator: cpu, workers: 0}
"""


@pytest.fixture(scope="session")
def tiny_run(tiny_settings, tmp_path_factory):
    """A finished run of those settings."""
    from mien.train.loop import fit
    from mien.train.settings.training import read_settings

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(tiny_settings)
    return fit(read_settings(folder / "tiny.yaml"), folder / "run")


@pytest.fixture(scope="module")
def one_thread():
    """Results on several threads may differ in the last bit, and some are compared to it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
