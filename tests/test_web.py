"""The reader for browsers gives a network the same pixels, and reads its answers the same way."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mien.bundles.card import Pixels
from mien.bundles.store import load, load_detector
from mien.faces.prepare import normalise, prepare, prepare_crop
from mien.records import Face

NODE = shutil.which("node")
READER = Path(__file__).parents[1] / "examples" / "web" / "mien.mjs"
PREPARE = """
import fs from "node:fs";
import { prepare } from "%s";
const [file, width, height, points, pixels] = process.argv.slice(1);
const picture = { data: new Uint8ClampedArray(fs.readFileSync(file)), width: +width, height: +height };
fs.writeFileSync(file, prepare({ picture, points: JSON.parse(points) ?? undefined }, JSON.parse(pixels)));
"""
DECODE = """
import { decode } from "%s";
const [raw, task, heat] = process.argv.slice(1).map((text) => JSON.parse(text));
console.log(JSON.stringify(decode(raw, task, heat)));
"""

pytestmark = pytest.mark.skipif(
    NODE is None, reason="Node is not here, which runs the reader for browsers"
)


def node(script, *args):
    command = [
        str(NODE),
        "--input-type=module",
        "-e",
        script % READER.as_uri(),
        "--",
        *map(str, args),
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def in_node(picture, points, pixels, spare):
    file = spare / "picture"
    file.write_bytes(np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]).tobytes())
    height, width = picture.shape[:2]
    node(
        PREPARE,
        file,
        width,
        height,
        json.dumps(None if points is None else points.tolist()),
        pixels.model_dump_json(),
    )
    return np.frombuffer(file.read_bytes(), np.float32).reshape(
        pixels.channels, pixels.size, pixels.size
    )


@pytest.mark.parametrize("size", [32, 80, 224])
@pytest.mark.parametrize("colour", ["grey", "rgb", "bgr"])
def test_aligned_faces_are_the_same(face, tmp_path, size, colour):
    own = load().card.pixels
    (found, *_) = load_detector().find(face)
    channels = 1 if colour == "grey" else 3
    pixels = Pixels(
        size=size,
        colour=colour,
        alignment="similarity5",
        template=own.template,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    theirs = in_node(face, found.points, pixels, tmp_path)
    ours = normalise([prepare(face, Face(found.box, found.points, 1.0), pixels)], pixels)[0]
    assert np.abs(theirs - ours).max() <= 4  # OpenCV rounds where a pixel lies to a 32nd
    assert np.abs(theirs - ours).mean() < 0.2


@pytest.mark.parametrize("shape", [(48, 48), (200, 150), (40, 100), (80, 80), (100, 40)])
@pytest.mark.parametrize("resize", ["area", "linear"])
def test_whole_pictures_are_the_same(face, tmp_path, shape, resize):
    picture = np.ascontiguousarray(face[60 : 60 + shape[0], 180 : 180 + shape[1]])
    pixels = Pixels(size=80, colour="grey", alignment="box", mean=(0.0,), std=(1.0,), resize=resize)
    ours = normalise([prepare_crop(picture, pixels)], pixels)[0]
    assert np.abs(in_node(picture, None, pixels, tmp_path) - ours).max() <= 1.01


@pytest.mark.parametrize("number", range(3))
def test_answers_are_read_the_same_way(number):
    spec = load().card.tasks[number]
    raw = np.random.default_rng(number).normal(size=(1, len(spec.names))) * 2
    found = json.loads(node(DECODE, json.dumps(raw[0].tolist()), spec.model_dump_json(), 0.8))
    assert list(found) == list(spec.names)
    np.testing.assert_allclose(list(found.values()), spec.task.decode(raw / 0.8)[0], atol=1e-9)
