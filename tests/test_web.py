"""The package for browsers reads as mien does in Python, and its demo page works, also without a network."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import mien
from mien.bundles.store import load, load_detector
from mien.faces.prepare import Pixels, normalise, prepare, prepare_crop
from mien.outputs.columns import columns
from mien.records import Face
from mien.sources.opening import open_source

WEB = ROOT / "packages" / "web"
NODE = shutil.which("node")
CHROMIUM = Path("/usr/bin/chromium")
# Detectors of two engines differ by rounding, and a pixel of a crop may round the other way.
POINT_PX = 0.01
needs_node = pytest.mark.skipif(
    NODE is None or not (WEB / "node_modules").is_dir(),
    reason="needs Node and the packages that `make web` installs",
)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The package built in place, and the folder of the demo page."""
    folder = tmp_path_factory.mktemp("web") / "demo"
    subprocess.run([str(NODE), str(WEB / "build.mjs"), "--demo", str(folder)], check=True)
    return folder


def node(script, *args):
    """Run a script that may import anything of the package; what it prints is JSON."""
    command = [str(NODE), "--input-type=module", "-e", script, "--", *map(str, args)]
    done = subprocess.run(command, cwd=WEB, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def write_picture(picture, path):
    path.write_bytes(np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]).tobytes())
    return {"file": str(path), "width": picture.shape[1], "height": picture.shape[0]}


PICTURE = """
import fs from "node:fs";
const load = ({ file, width, height }) => ({ data: new Uint8ClampedArray(fs.readFileSync(file)), width, height });
"""
PREPARE = (
    PICTURE
    + """
import { normalise, prepare, prepareCrop } from "./dist/prepare.js";
const [picture, points, pixels, out] = process.argv.slice(1, 5).map((text, i) => i < 3 ? JSON.parse(text) : text);
const frame = { ...load(picture), channels: 4 };
const crop = points ? prepare(frame, { box: [0, 0, 1, 1], points, confidence: 1 }, pixels) : prepareCrop(frame, pixels);
const input = new Float32Array((pixels.colour === "grey" ? 1 : 3) * pixels.size ** 2);
normalise(crop, pixels, input);
fs.writeFileSync(out, new Uint8Array(input.buffer));
console.log("true");
"""
)
READ = (
    PICTURE
    + """
import { Reader, Table } from "./dist/index.js";
const [bundle, frames] = [process.argv[1], JSON.parse(process.argv[2])];
const reader = await Reader.open({ bundle, device: "wasm" });
const table = new Table("clip.mp4", reader.columns);
const readings = [];
for (const [i, frame] of frames.entries()) {
  const read = await reader.read(load(frame), frame.time ?? undefined);
  table.add(i, frame.time ?? 0, read);
  readings.push(read);
}
console.log(JSON.stringify({ readings, csv: table.csv(), columns: reader.columns }));
await reader.close();
"""
)


def in_node(picture, points, pixels, folder):
    described = write_picture(picture, folder / "picture")
    node(
        PREPARE, json.dumps(described), json.dumps(points), pixels.model_dump_json(), folder / "in"
    )
    numbers = np.frombuffer((folder / "in").read_bytes(), np.float32)
    return numbers.reshape(pixels.channels, pixels.size, pixels.size)


@needs_node
@pytest.mark.parametrize(("size", "colour"), [(32, "rgb"), (80, "grey"), (224, "bgr")])
def test_aligned_faces_are_the_same(demo, face, tmp_path, size, colour):
    (found, *_) = load_detector().find(face)
    channels = 1 if colour == "grey" else 3
    pixels = Pixels(
        size=size,
        colour=colour,
        alignment="similarity5",
        template=load().card.pixels.template,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    theirs = in_node(face, found.points.tolist(), pixels, tmp_path)
    ours = normalise([prepare(face, Face(found.box, found.points, 1.0), pixels)], pixels)[0]
    # Other processors may add in another order; then single pixels round the other way.
    assert np.abs(theirs - ours).max() <= 1.01
    assert np.mean(np.abs(theirs - ours) > 1e-3) < 1e-3


@needs_node
@pytest.mark.parametrize(
    ("shape", "resize"), [((48, 48), "area"), ((200, 150), "area"), ((40, 100), "linear")]
)
def test_whole_pictures_are_the_same(demo, face, tmp_path, shape, resize):
    picture = np.ascontiguousarray(face[60 : 60 + shape[0], 180 : 180 + shape[1]])
    pixels = Pixels(size=80, colour="grey", alignment="box", mean=(0.0,), std=(1.0,), resize=resize)
    ours = normalise([prepare_crop(picture, pixels)], pixels)[0]
    assert np.abs(in_node(picture, None, pixels, tmp_path) - ours).max() <= 1.01


SCORE = (
    PICTURE
    + """
import { Reader } from "./dist/index.js";
const [bundle, picture, points] = [process.argv[1], ...process.argv.slice(2, 4).map((text) => JSON.parse(text))];
const reader = await Reader.open({ bundle, quality: "none", device: "wasm" });
console.log(JSON.stringify(await reader.score([{ picture: load(picture), points }])));
"""
)


@needs_node
@pytest.mark.parametrize("bundle", ["mien-xs", "mien-s"])
def test_the_same_crops_read_the_same(demo, face, tmp_path, bundle):
    model = load(bundle, "onnxruntime")
    (found, *_) = load_detector().find(face)
    described = write_picture(face, tmp_path / "picture")
    points = json.dumps(found.points.tolist())
    (theirs,) = node(SCORE, bundle, json.dumps(described), points)
    ours = model.score([face], found.points[None])
    for family, scores in ours.items():
        assert np.abs(np.array(theirs[family]) - scores[0]).max() <= model.card.tolerance


def frames_of(clip, count, folder):
    """The first frames of a film as Python decodes them, for Node."""
    described = []
    for frame in islice(open_source(str(clip)).frames(), count):
        picture = write_picture(frame.pixels, folder / f"{frame.index}.rgba")
        described.append({**picture, "time": frame.time_s})
    return described


@needs_node
def test_the_same_frames_read_the_same(demo, clip, tmp_path):
    described = frames_of(clip, 12, tmp_path)
    read = node(READ, "mien-xs", json.dumps(described))
    table = mien.analyze(clip, bundle="mien-xs", points=True).table
    tolerance = load("mien-xs").card.tolerance
    apart = []
    for index, readings in enumerate(read["readings"]):
        rows = table[table["frame"] == index]
        assert [reading["face"] for reading in readings] == rows["face"].tolist()
        for reading, (_, row) in zip(readings, rows.iterrows(), strict=True):
            assert (reading["status"], reading["expression"]) == (row["status"], row["expression"])
            box = row[["box_x", "box_y", "box_w", "box_h"]].to_numpy(float)
            assert np.abs(np.array(reading["box"]) - box).max() < POINT_PX
            apart += [abs(score - row[name]) for name, score in reading["scores"].items()]
    # A crop whose points differ in the fifth digit may have a pixel that rounds the other way.
    assert np.median(apart) <= tolerance
    assert np.mean(np.array(apart) <= tolerance) > 0.7
    assert max(apart) < 0.05


@needs_node
def test_its_table_is_one_of_ours(demo, face, tmp_path):
    described = [
        {**write_picture(face, tmp_path / "face"), "time": 0.0},
        {**write_picture(np.zeros_like(face), tmp_path / "dark"), "time": 9.0},
    ]
    read = node(READ, "mien-xs", json.dumps(described))
    model, judge = load("mien-xs"), load("mien-quality")
    assert read["columns"] == [column.name for column in columns(model.tasks, quality=judge.tasks)]
    (tmp_path / "clip.csv").write_text(read["csv"], encoding="utf-8")
    table = pd.read_csv(tmp_path / "clip.csv")
    assert table["status"].tolist() == ["ok", "no_face"]
    assert table["time_s"].tolist() == [0.0, 9.0]
    assert table["valence"].notna().tolist() == [True, False]


@needs_node
def test_its_cells_are_never_formulas(demo):
    script = """
    import { Table } from "./dist/index.js";
    const names = ["=1+1", "a;@b", '"', " x", "plain"];
    const lines = names.map((name) => {
      const table = new Table(name, ["source", "frame"]);
      table.add(0, 0, []);
      return table.csv().split("\\n")[1];
    });
    console.log(JSON.stringify(lines));
    """
    assert node(script) == ["'=1+1,0", '"a;\'@b",0', '"""",0', '" x",0', "plain,0"]


@needs_node
def test_what_is_wrong_is_told(demo, face, tmp_path):
    shutil.copytree(WEB / "dist" / "bundles" / "mien-xs", tmp_path / "altered")
    network = tmp_path / "altered" / "model.onnx"
    network.write_bytes(network.read_bytes()[:-1])
    described = json.dumps(write_picture(face, tmp_path / "picture"))
    script = (
        PICTURE
        + """
    import { pathToFileURL } from "node:url";
    import { Reader } from "./dist/index.js";
    const told = async (action) => action().then(() => "nothing", (error) => `${error.name}: ${error.message}`);
    const picture = load(JSON.parse(process.argv[1]));
    const reader = await Reader.open({ quality: "none", device: "wasm" });
    await reader.read(picture, 5);
    console.log(JSON.stringify([
      await told(() => Reader.open({ bundle: pathToFileURL(process.argv[2]) })),
      await told(() => Reader.open({ bundle: "mien-xxs" })),
      await told(() => Reader.open({ bundle: "mien-quality" })),
      await told(() => Reader.open({ detector: "mien-xs" })),
      await told(() => Reader.open({ faces: 0 })),
      await told(() => reader.read(picture, 4)),
      await told(() => reader.read({ data: new Uint8Array(8), width: 4, height: 4 })),
      await told(() => Promise.all([reader.read(picture, 6), reader.read(picture, 7)])),
      await told(() => reader.score([{ picture, points: [[1, 2]] }])),
    ]));
    """
    )
    told = node(script, described, tmp_path / "altered")
    parts = ["altered or incomplete", "cannot load", "name it as quality", "finds no faces"]
    parts += [
        "faces must be",
        "comes before",
        "needs 64 numbers",
        "still being read",
        "five points",
    ]
    assert len(told) == len(parts)
    for message, part in zip(told, parts, strict=True):
        assert message.startswith("MienError: ")
        assert part in message
        assert "\n" not in message


@contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", server
        server.shutdown()


def wait_for_status(page, pattern):
    page.locator("#status").filter(has_text=re.compile(pattern)).wait_for()


@needs_node
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_the_page_reads_and_works_without_a_network(demo, photo, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    (tmp_path / "notes.mp4").write_bytes(b"no film")
    with served(demo) as (address, server), playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM))
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(240_000)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.locator("#offline").filter(has_text="without a network").wait_for()
        server.shutdown()
        context.set_offline(True)
        page.reload()
        wait_for_status(page, "Ready")
        page.set_input_files("#file", str(photo))
        wait_for_status(page, "eileen.jpg: 1 frame, 1 face")
        assert page.locator(".face .score").count() > 5
        with page.expect_download() as download:
            page.click("#csv")
        download.value.save_as(tmp_path / "photo.csv")
        page.set_input_files("#file", str(tmp_path / "notes.mp4"))
        wait_for_status(page, "cannot decode notes.mp4")
        page.click("#camera")
        wait_for_status(page, "camera")
        browser.close()
    assert not problems
    row = pd.read_csv(tmp_path / "photo.csv").iloc[0]
    ours = mien.analyze(photo, bundle="mien-xs").table.iloc[0]
    # JPEG decoders and scaled pixels of browsers differ by a little.
    assert row["expression"] == ours["expression"]
    assert abs(row["valence"] - ours["valence"]) < 0.1


def test_the_package_is_of_this_version_and_names_no_registry():
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    assert (package["name"], package["version"]) == ("mien", mien.__version__)
    lock = (WEB / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock


def test_the_page_may_load_nothing_from_elsewhere():
    page = (WEB / "demo" / "index.html").read_text(encoding="utf-8")
    assert "default-src 'self'" in page
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
