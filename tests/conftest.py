"""A real face for every test: the public-domain portrait that the demo uses, as a picture and as a short film."""

from pathlib import Path

import pytest
from PIL import Image

from mien.demo import film, portrait

ROOT = Path(__file__).parents[1]


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
