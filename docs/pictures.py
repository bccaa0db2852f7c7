"""Make the pictures of the how-to guides from the demo's clip, into docs/images.

    python docs/pictures.py [STUDY]

Everything is drawn from the public-domain portrait that comes with mien, and the report from scores
that are made up. With STUDY, the folder that bench/study.py was given, only the pictures of the drawn
study are made. Run it again when the overlay, the report or the embedded networks change, and look at
the result.
"""

import base64
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import chdir
from itertools import product
from pathlib import Path

import av
import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

import mien
from mien.demo import film, portrait
from mien.outputs.columns import columns
from mien.outputs.dictionary import write_dictionary
from mien.outputs.tables import TableWriter
from mien.records import Face, Reading, Status
from mien.report.pages import report

Image = NDArray[np.uint8]

IMAGES = Path(__file__).parent / "images"
BLUE, GREY = "#0072B2", "#8A8A8A"


def frames_of(path: Path, seconds: list[float]) -> list[Image]:
    """The frames (H, W, 3) shown at these times, in ascending order."""
    pictures: list[Image] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if len(pictures) < len(seconds) and frame.time >= seconds[len(pictures)] - 1e-6:
                pictures.append(frame.to_ndarray(format="rgb24"))
    return pictures


def write(name: str, picture: Image) -> None:
    """Save a picture among the images of the documentation."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(IMAGES / name), bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(IMAGES / name)


def analyze(folder: Path, *arguments: str) -> None:
    """Run `mien analyze` into a folder."""
    command = [sys.executable, "-m", "mien", "analyze", *arguments, "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603


def draw_faces(folder: Path, clip: Path) -> None:
    """A strip of four frames: a face, nobody, the face again under a new number."""
    analyze(folder, str(clip), "--overlay")
    strip = frames_of(folder / "clip.overlay.mp4", [0.5, 2.4, 3.6, 5.5])
    write("faces.jpg", np.hstack([cv2.resize(frame, (480, 270)) for frame in strip]))


def draw_rotation(folder: Path, clip: Path) -> None:
    """An upside-down film beside the overlay that `--rotate auto` makes of it."""
    turned = folder / "turned.mp4"
    with av.open(str(clip)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for frame in source.decode(video=0):
            upside_down = np.ascontiguousarray(frame.to_ndarray(format="rgb24")[::-1, ::-1])
            target.mux(stream.encode(av.VideoFrame.from_ndarray(upside_down, format="rgb24")))
        target.mux(stream.encode())
    analyze(folder, str(turned), "--overlay", "--rotate", "auto")
    before = frames_of(turned, [1.0])[0]
    after = frames_of(folder / "turned.overlay.mp4", [1.0])[0]
    write("rotate.jpg", np.hstack([before, after]))


def draw_portrait(folder: Path) -> None:
    """The annotated portrait."""
    photo = folder / "portrait.png"
    cv2.imwrite(str(photo), cv2.cvtColor(portrait(), cv2.COLOR_RGB2BGR))
    analyze(folder, str(photo), "--overlay")
    (overlay,) = folder.glob("portrait*overlay*")
    write("portrait.jpg", cv2.cvtColor(cv2.imread(str(overlay)), cv2.COLOR_BGR2RGB))


def draw_landmarks(folder: Path) -> None:
    """The portrait's landmarks in its overlay, and with their numbers."""
    photo = folder / "landmarks.png"
    cv2.imwrite(str(photo), cv2.cvtColor(portrait(), cv2.COLOR_RGB2BGR))
    analyze(folder, str(photo), "--overlay", "--landmarks")
    (path,) = folder.glob("landmarks*overlay*")
    overlay = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    (row,) = mien.analyze(portrait(), landmarks=True).table.to_dict("records")
    x, y, side = row["box_x"], row["box_y"], 1.35 * max(row["box_w"], row["box_h"])
    left, top = x + (row["box_w"] - side) / 2, y + (row["box_h"] - side) / 2
    scale = overlay.shape[0] / side
    matrix = np.array([[scale, 0, -scale * left], [0, scale, -scale * top]])
    size = (overlay.shape[0], overlay.shape[0])
    face = cv2.warpAffine(portrait(), matrix, size, flags=cv2.INTER_CUBIC)
    face = np.asarray(face * 0.55, np.uint8)
    for number in range(68):
        point = np.array([row[f"landmark_{number}_x"], row[f"landmark_{number}_y"], 1.0])
        at = np.rint(matrix @ point).astype(int)
        cv2.circle(face, at.tolist(), 2, (86, 180, 233), -1, cv2.LINE_AA)
        label = (int(at[0]) + 3, int(at[1]) - 3)
        cv2.putText(face, str(number), label, 0, 0.32, (255, 255, 255), 1, cv2.LINE_AA)
    write("landmarks.jpg", np.hstack([overlay, face]))


def draw_smoothing(clip: Path) -> None:
    """Action unit 25 as it was read and smoothed, over the frames in which the face is in view."""
    table: pd.DataFrame = mien.analyze(clip, smoothing=0.15).table
    face = table[table["face"] == 0].set_index("time_s")
    mpl.rcParams["font.size"] = 11
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(face.index, face["AU25_raw"], color=GREY, linewidth=1, label="AU25_raw, as read")
    axes.plot(face.index, face["AU25"], color=BLUE, linewidth=2, label="AU25, --smooth 0.15")
    axes.set(xlabel="time (s)", ylabel="activation", ylim=(0, 1))
    axes.legend(frameon=False, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGES / "smoothing.png", dpi=120)
    print(IMAGES / "smoothing.png")


def made_up(folder: Path) -> Path:
    """A table of 40 seconds of two people who do not exist, in which something happens."""
    rng = np.random.default_rng(8)
    tasks = mien.load("mien-s").tasks
    table = columns(tasks)
    walks = []
    for _ in range(2):
        slow = gaussian_filter1d(rng.normal(size=(1000, 40)), 20, axis=0)
        walks.append(slow / slow.std(axis=0))
    readings = []
    for frame, face in product(range(1000), range(2)):
        walk = walks[face][frame]
        absent = face == 1 and 300 <= frame < 400
        if absent:
            continue
        expr = np.exp(2.2 * walk[:8] + np.eye(8)[0] * 2.5)
        units = 1 / (1 + np.exp(2.6 - 2 * walk[10:26]))
        units[-1] = 0.1 + 0.8 * ((frame + 40 * face) % 97 < 5)
        scores = {"expr": expr / expr.sum(), "va": np.tanh(0.4 * walk[8:10]), "au": units}
        sure = 0.5 if face == 0 and 600 <= frame < 650 else 0.9
        box = Face((100.0, 50.0, 90.0, 110.0), np.zeros((5, 2)), sure, face)
        status = Status.ok
        readings.append(Reading("interview.mp4", frame, frame / 25, status, box, scores, {}))
    with TableWriter(folder / "interview", ["csv"], table) as writer:
        writer.write(readings)
    facts = {"options": {}, "sources": [{"name": "interview.mp4"}], "tables": writer.facts()}
    write_dictionary(folder / "interview.dictionary.json", table, facts)
    return folder / "interview.csv"


def draw_report(folder: Path) -> None:
    """The upper part of a page of `mien report`, as Chromium shows it."""
    (page,) = report(made_up(folder)).pages
    screenshot(page, "report.png", (1180, 1180))


def screenshot(page: Path, name: str, size: tuple[int, int]) -> None:
    """The upper part of a page, as Chromium shows it in a window of that size, 1000 px wide."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print(f"{name} needs Chromium")
        return
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / name
        flags = ["--headless", "--hide-scrollbars", "--no-sandbox", "--virtual-time-budget=9000"]
        window = f"--window-size={size[0]},{size[1]}"
        command = [browser, *flags, window, f"--screenshot={picture}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        shown = cv2.imread(str(picture))
    small = cv2.resize(shown, (1000, round(1000 * size[1] / size[0])), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(IMAGES / name), small, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(IMAGES / name)


def draw_study(folder: Path) -> None:
    """The films of the drawn study, its pages, and the figure of its notebook."""
    films = folder / "films"
    shots = [
        ("sub-01_ses-25fps_task-jokes", 0.5),
        ("sub-01_ses-25fps_task-jokes", 1.6),
        ("sub-05_ses-25fps_task-jokes", 1.9),
        ("sub-03_ses-30fps_task-jokes", 3.3),
        ("sub-04_ses-15fps_task-jokes", 3.3),
        ("sub-02_ses-25fps_task-jokes", 3.3),
    ]
    tiles = []
    for name, second in shots:
        (frame,) = frames_of(films / f"{name}.mp4", [second])
        tiles.append(cv2.resize(frame, (320, 180), interpolation=cv2.INTER_AREA))
    write("study-films.jpg", np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])]))
    # Named from its own folder, so that pictures show no path of this machine.
    with chdir(folder):
        pages = {page.stem: page.resolve() for page in report(Path("out")).pages}
    page = pages["sub-03_ses-30fps_task-jokes.report"]
    screenshot(page, "study-recording.png", (1180, 1000))
    screenshot(pages["report"], "study-report.png", (1180, 1500))
    notebook = IMAGES.parents[1] / "examples" / "notebooks" / "study.ipynb"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    (figure,) = [
        output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})
    ]
    (IMAGES / "study-epochs.png").write_bytes(base64.b64decode(figure))
    print(IMAGES / "study-epochs.png")


def main() -> None:
    """Draw them all, or those of the study."""
    if len(sys.argv) > 1:
        draw_study(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = film(folder / "clip.mp4")
        draw_faces(folder, clip)
        draw_rotation(folder, clip)
        draw_portrait(folder)
        draw_landmarks(folder)
        draw_smoothing(clip)
        draw_report(folder)


if __name__ == "__main__":
    main()
