"""mien beside other packages that read faces in film: frames a second, processor time, memory.

    python bench/peers.py CLIP --venv mediapipe=VENV --venv fer=VENV … [--rounds 5] [--weights FOLDER] [--out bench/results/peers.json]

Run it with mien's own Python (with [train], which makes the networks below). Each peer lives in a virtual environment of its own:

    python3.11 -m venv VENV && VENV/bin/pip install …
    mediapipe       mediapipe==0.10.21
    fer             tensorflow-cpu "opencv-contrib-python<5" pandas requests matplotlib "moviepy<2" ffmpeg-python "setuptools<80",
                    then --no-deps fer==25.10.3 (with all that it names come PyTorch and CUDA, which it does not use by default)
    emotiefflib     emotiefflib==1.1.1 onnxruntime "opencv-python<5"
    hsemotion-onnx  hsemotion-onnx==0.3.1 onnxruntime "opencv-python<5", or into the environment before

Every reader does what its package documents for film, with the package's own defaults for threads, from the file to the last
frame's results in memory; mien finds, follows, reads and judges all faces, as `mien analyze` does. MediaPipe gives landmarks alone:
no expression, no action unit. EmotiEffLib and HSEmotion take faces that somebody else has found; here OpenCV's cascade
finds them, the lightest detector that needs no download, and the one that `fer` has by default.

Nothing is downloaded: a peer that tries is left out, and the result says what it wanted. Networks that EmotiEffLib and HSEmotion
would download are made here (once, where --weights FOLDER keeps them): the same architecture with random weights, which cost the
same time. What those read is therefore noise; only the time counts. Packages whose detectors would be downloaded as well are
not measured (`left out` in the result): with a random detector they would read other faces, or none.

Each round starts a process per reader, in turns. It reads the first 24 frames to warm up, then the whole clip, which is measured: user
CPU seconds, seconds, frames in which a face was found. Start and loading are not counted. Figures are medians over the rounds; ratios
are medians of the ratios within each round. User CPU seconds hardly depend on what else the machine does; frames a second do,
so the load average stands beside them. Memory is the peak of the process, Python and libraries included.
"""

import argparse
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

# What only one reader needs is imported by it: each runs in an environment of its own.

WARM_FRAMES = 24
# Reads a film up to a frame (None: all of it); returns frames read, and those in which a face was found.
Read = Callable[[str, int | None], tuple[int, int]]
# Of those whose weights are made here: file names of one network that both packages know, and EmotiEffLib's smallest.
EFFICIENT, MOBILE = "enet_b0_8_best_vgaf", "mbf_va_mtl"


# The readers: each returns a function that reads one film


def bgr_frames(clip: str, limit: int | None) -> Iterator[Any]:
    """Frames by OpenCV, as all of these packages read film in their documentation."""
    import cv2

    capture = cv2.VideoCapture(clip)
    while True:
        is_read, frame = capture.read()
        if not is_read or limit == 0:
            return
        limit = None if limit is None else limit - 1
        yield frame


def each_frame(look: Callable[[Any], bool]) -> Read:
    """A reader of a package that takes a frame (BGR) at a time and says whether a face is in it."""

    def read(clip: str, limit: int | None) -> tuple[int, int]:
        found = [look(frame) for frame in bgr_frames(clip, limit)]
        return len(found), sum(found)

    return read


def decoding() -> Read:
    """The least that any reader needs: PyAV's plain loop with each frame turned into an RGB array."""
    import av

    def read(clip: str, limit: int | None) -> tuple[int, int]:
        with av.open(clip) as container:
            frames = 0
            for frame in islice(container.decode(video=0), limit):
                frame.to_ndarray(format="rgb24")
                frames += 1
        return frames, 0

    return read


def of_mien(quality: str = "mien-quality") -> Read:
    import mien

    def read(clip: str, limit: int | None) -> tuple[int, int]:
        faces: dict[int, bool] = {}
        for reading in mien.analyze(clip, quality=quality, stream=True):
            if limit is not None and reading.frame >= limit:
                break
            faces[reading.frame] = reading.face is not None
        return len(faces), sum(faces.values())

    return read


def of_mediapipe(refine: bool) -> Read:
    import cv2
    import mediapipe

    def read(clip: str, limit: int | None) -> tuple[int, int]:
        with mediapipe.solutions.face_mesh.FaceMesh(
            static_image_mode=False, max_num_faces=1, refine_landmarks=refine
        ) as mesh:

            def look(frame: Any) -> bool:
                found = mesh.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
                return bool(found.multi_face_landmarks)

            return each_frame(look)(clip, limit)

    return read


def of_fer() -> Read:
    from fer.fer import FER

    model = FER()
    return each_frame(lambda frame: bool(model.detect_emotions(frame)))


def cascade_crops() -> Callable[[Any], list[Any]]:
    """Faces (RGB) of a frame (BGR), by OpenCV's cascade with the settings of `fer`."""
    import cv2

    path = f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(path)

    def crops(frame: Any) -> list[Any]:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        boxes = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(50, 50))
        faces = [frame[y : y + h, x : x + w] for x, y, w, h in boxes]
        return [cv2.cvtColor(face, cv2.COLOR_BGR2RGB) for face in faces]

    return crops


def of_emotiefflib(network: str) -> Read:
    from emotiefflib.facial_analysis import EmotiEffLibRecognizer

    model = EmotiEffLibRecognizer(engine="onnx", model_name=network)
    crops = cascade_crops()

    def look(frame: Any) -> bool:
        faces = crops(frame)
        if faces:
            model.predict_emotions(faces, logits=False)
        return bool(faces)

    return each_frame(look)


def of_hsemotion() -> Read:
    from hsemotion_onnx.facial_emotions import HSEmotionRecognizer

    model = HSEmotionRecognizer(model_name=EFFICIENT)
    crops = cascade_crops()

    def look(frame: Any) -> bool:
        faces = crops(frame)
        if faces:
            model.predict_multi_emotions(faces, logits=False)
        return bool(faces)

    return each_frame(look)


# By name: the environment it runs in, the distribution whose version is told, what it gives, and the reader.
READERS: dict[str, tuple[str, str, str, Callable[[], Read]]] = {
    "mien": ("mien", "mien", "expression, valence, arousal, action units, quality", of_mien),
    "mien, without quality": (
        "mien", "mien", "expression, valence, arousal, action units", lambda: of_mien("none"),
    ),
    "MediaPipe face mesh": ("mediapipe", "mediapipe", "468 landmarks", lambda: of_mediapipe(False)),
    "MediaPipe face mesh, irises": (
        "mediapipe", "mediapipe", "478 landmarks", lambda: of_mediapipe(True),
    ),
    "fer": ("fer", "fer", "expression", of_fer),
    "EmotiEffLib, MobileFaceNet": (
        "emotiefflib", "emotiefflib", "expression, valence, arousal; weights random",
        lambda: of_emotiefflib(MOBILE),
    ),
    "EmotiEffLib, EfficientNet-B0": (
        "emotiefflib", "emotiefflib", "expression; weights random",
        lambda: of_emotiefflib(EFFICIENT),
    ),
    "HSEmotion, EfficientNet-B0": (
        "hsemotion-onnx", "hsemotion-onnx", "expression; weights random", of_hsemotion,
    ),
    "decoding to RGB alone": ("mien", "av", "nothing: the least that any needs", decoding),
}  # fmt: skip


# Peers that cannot be measured without their weights.
NO_WEIGHTS = {
    "DeepFace 0.0.103": "the package holds no weights, and fetches its networks when first used",
    "Py-Feat 2.1.5": "the package holds no weights, and fetches its detector and networks when used",
}


# A process that reads


def refuse_downloads(event: str, _arguments: object) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise PermissionError("it wanted the network, and nothing is downloaded here")


def peak_mb() -> float:
    """Peak resident memory of this process, MB."""
    # What getrusage says includes the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(name: str, clip: str) -> dict[str, Any]:
    """Read a clip, and say what that took; runs in the reader's environment."""
    _, distribution, _, open_reader = READERS[name]
    sys.addaudithook(refuse_downloads)
    try:
        read = open_reader()
        read(clip, WARM_FRAMES)
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        frames, with_face = read(clip, None)
    except (Exception, SystemExit) as error:  # packages raise types of their own
        return {"left out": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "version": importlib.metadata.version(distribution),
        "frames": frames,
        "with_face": with_face,
        "user_s": after.ru_utime - before.ru_utime,
        "system_s": after.ru_stime - before.ru_stime,
        "seconds": seconds,
        "peak_mb": peak_mb(),
    }


# The process that asks them


def make_weights(home: Path) -> None:
    """Put networks with random weights where EmotiEffLib and HSEmotion look for theirs."""
    folders = [home / ".emotiefflib", home / ".hsemotion"]
    if all((folder / f"{MOBILE}.onnx").exists() for folder in folders):
        return
    from compat import made, pictures

    from mien import zoo

    entries = zoo.entries().values()
    files = {file.name: one for one in entries if (file := one.file("network"))}
    for name in (EFFICIENT, MOBILE):
        content = made(files[f"{name}.onnx"], pictures())
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.onnx").write_bytes(content)


def environment(home: Path) -> dict[str, str]:
    """What a reader's process sees: a home folder of its own, and no leave to download."""
    hushed = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3"}
    return {**os.environ, "HOME": str(home), **hushed}


def ask(name: str, python: str, clip: Path, home: Path) -> dict[str, Any]:
    """One reader's figures, from a process of its own."""
    command = [python, __file__, str(clip), "--read", name]
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment(home)
    )
    try:
        return json.loads(ended.stdout)
    except ValueError:
        last = (ended.stderr.strip().splitlines() or ["no word"])[-1]
        return {"left out": f"its process ended with {ended.returncode}: {last}"}


def summed_up(rounds: list[dict[str, Any]], ours: list[dict[str, Any]], rate: float) -> dict:
    """Medians over the rounds of one reader, and their ratios to mien's of the same round."""

    def median(value: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(map(value, rounds))

    first = rounds[0]
    film_minutes = first["frames"] / rate / 60
    cost = [one["user_s"] / own["user_s"] for one, own in zip(rounds, ours, strict=True)]
    return {
        "version": first["version"],
        "frames": first["frames"],
        "frames with a face": first["with_face"],
        "fps": round(median(lambda one: one["frames"] / one["seconds"]), 1),
        "frames per user CPU s": round(median(lambda one: one["frames"] / one["user_s"]), 1),
        "user CPU s per minute of film": round(median(lambda one: one["user_s"]) / film_minutes, 2),
        "system CPU s per minute of film": round(
            median(lambda one: one["system_s"]) / film_minutes, 2
        ),
        "peak MB": round(median(lambda one: one["peak_mb"])),
        "user CPU, times mien's": round(statistics.median(cost), 2),
        "lowest and highest": [round(min(cost), 2), round(max(cost), 2)],
    }


def frame_rate(clip: Path) -> float:
    import av

    with av.open(str(clip)) as container:
        rate = container.streams.video[0].average_rate
    assert rate is not None
    return float(rate)


def compare(clip: Path, pythons: dict[str, str], rounds: int, weights: Path) -> dict[str, Any]:
    """All readers in turns."""
    left_out = dict(NO_WEIGHTS)
    for name, (environment_name, *_) in READERS.items():
        if environment_name not in pythons:
            left_out[name] = "no environment given"
    figures: dict[str, list[dict[str, Any]]] = {}
    loads = []
    if {"emotiefflib", "hsemotion-onnx"} & set(pythons):
        make_weights(weights)
    for i in range(rounds):
        loads.append(round(os.getloadavg()[0], 1))
        for name in READERS:
            if name in left_out:
                continue
            one = ask(name, pythons[READERS[name][0]], clip, weights)
            if "left out" in one:
                left_out[name] = one["left out"]
                figures.pop(name, None)
            else:
                figures.setdefault(name, []).append(one)
            print(f"round {i + 1}, {name}: {json.dumps(one)}", file=sys.stderr, flush=True)
    if "mien" in left_out:
        raise SystemExit(f"mien itself could not read {clip}: {left_out['mien']}")
    ours, rate = figures["mien"], frame_rate(clip)
    return {
        "machine": {"cores": os.cpu_count(), "load average": loads},
        "rounds": rounds,
        "clip": clip.name,
        "readers": {
            name: {"gives": READERS[name][2], **summed_up(one, ours, rate)}
            for name, one in figures.items()
        },
        "left out": left_out,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument(
        "--venv", action="append", default=[], metavar="PEER=FOLDER", help="may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path, help="keeps the made networks")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", choices=READERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        # Some packages print what they do.
        with redirect_stdout(sys.stderr):
            found = measure(args.read, str(args.clip))
        print(json.dumps(found))
        return
    pythons = {"mien": sys.executable}
    for given in args.venv:
        peer, _, folder = given.partition("=")
        if peer not in {reader[0] for reader in READERS.values()} or not folder:
            parser.error(f"--venv {given}: give PEER=FOLDER as in the text above")
        pythons[peer] = str(Path(folder).absolute() / "bin" / "python")
    with tempfile.TemporaryDirectory() as scratch:
        weights = (args.weights or Path(scratch)).absolute()
        result = compare(args.clip.absolute(), pythons, args.rounds, weights)
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
