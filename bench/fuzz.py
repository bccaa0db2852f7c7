"""Throw changed cards, pickles, settings and recordings at what reads them; nothing but a `MienError` may come out.

    python bench/fuzz.py --seconds 60 [--only card|pickle|settings|container]

With atheris installed (`pip install atheris`), its coverage of mien's own code chooses the changes; without it they are random,
from a seed. `--plain` asks for these. Each reader gets the same share of the time. An input that brings out anything else, or
that takes longer than `LIMIT_S` seconds, is written beside the working folder as fuzz-READER-HASH and ends that reader's share
with exit code 1; `--file FILE --only READER` reads such a file again.
"""

import argparse
import hashlib
import io
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import av
import numpy as np
from PIL import Image

from mien.bundles.card import parse_card
from mien.bundles.store import embedded
from mien.errors import MienError
from mien.recipes.names import recipes
from mien.sources.opening import open_source
from mien.zoo.pickles import read_pt, tensors

LIMIT_S: Final = 20.0
MOST_FRAMES: Final = 20
WORDS: Final = {
    "card": [
        b'"name": ',
        b'{"',
        b"[[",
        b"]",
        b"null",
        b"1e999",
        b"-0",
        b"99999999999999999999",
        b'"\\u0000"',
        b"NaN",
        b"\xff",
    ],
    "settings": [
        b"&a ",
        b"*a",
        b"<<: *a",
        b"[",
        b"]",
        b"{",
        b"}",
        b": ",
        b"- ",
        b"\n",
        b"!!int ",
        b"? ",
        b"'",
        b"|",
        b"~",
        b".nan",
        b"\0",
    ],
    "pickle": [
        b"cos\nsystem\n",
        b"R",
        b"(",
        b"}",
        b"t",
        b"o",
        b"b",
        b"\x94",
        b"h\x00",
        b"Q",
        b"u",
        b"s",
        b"I99999999\n",
        b"\x8a\x08",
    ],
    "container": [
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"moov",
        b"mdat",
        b"\xff\xd9",
        b"IDAT",
        b"\x80\0\0\0",
        b"\x7f\xff\xff\xff",
    ],
}


FOLDER: Final = Path(tempfile.mkdtemp(prefix="fuzz-"))
"""Of files that are read by name; removed in the end."""
OLDER: Final = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20"  # how weights of before torch 1.6 begin


def card(content: bytes) -> None:
    """A card."""
    parse_card(content, "card.json")


def settings(content: bytes) -> None:
    """As settings of a run and as a recipe; needs torch, as both do."""
    from mien.recipes.schema import read_recipe
    from mien.train.settings.training import read_settings

    refused: MienError | None = None
    path = FOLDER / "settings.yaml"
    path.write_bytes(content)
    for reads in (read_settings, read_recipe):
        try:
            reads(path)
        except MienError as error:
            refused = error
    if refused is not None:
        raise refused


def pickle(content: bytes) -> None:
    """A file of weights, or a program that becomes the heart of one."""
    path = FOLDER / "weights.pt"
    if content[:2] == b"PK" or content.startswith(OLDER):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", content)
            archive.writestr("weights/data/0", bytes(24))
            archive.writestr("weights/data/1", bytes(12))
    tensors(read_pt(path))


def container(content: bytes) -> None:
    """A picture or a recording, its first frames."""
    for _ in itertools.islice(open_source(content).frames(), MOST_FRAMES):
        pass


READERS: Final[dict[str, Callable[[bytes], None]]] = {
    "card": card,
    "pickle": pickle,
    "settings": settings,
    "container": container,
}


def seeds(reader: str) -> list[bytes]:
    """Sound inputs that changes start from."""
    return {"card": _cards, "pickle": _pickles, "settings": _settings, "container": _containers}[
        reader
    ]()


def _cards() -> list[bytes]:
    return [(folder / "card.json").read_bytes() for folder in embedded().values()]


def _settings() -> list[bytes]:
    import mien.recipes

    library = Path(mien.recipes.__file__).parent / "library"
    own = b"name: tiny\ndata: [{set: drawn, count: 60, seed: 0, size: 48}]\ntasks: [va]\nfit: {epochs: 1, batch: 16}\n"
    own += b"a: &a {x: 1}\nb: {<<: *a, y: [1.5, yes, ~, 1:30, 2026-01-01]}\n"
    return [own, *((library / f"{name}.yaml").read_bytes() for name in recipes())]


def _pickles() -> list[bytes]:
    """What other programs write, whole files and the programs in them: written here, and read by no unpickler."""
    import pickle as maker

    import torch

    trees: list[object] = [
        {"a": [1, 2.5, "x", None, True, b"y"], "b": {"c": (1, 2)}},
        [{1}, frozenset({1}), 10**30, -1],
    ]
    found = [maker.dumps(tree, protocol) for tree in trees for protocol in range(6)]
    for new in (True, False):
        out = io.BytesIO()
        torch.save(
            {"w": torch.zeros(2, 3), "b": torch.zeros(3)}, out, _use_new_zipfile_serialization=new
        )
        found.append(out.getvalue())
        if new:
            with zipfile.ZipFile(out) as archive:
                found += [
                    archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")
                ]
    return found


def _containers() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    picture, found = Image.fromarray(pixels), []
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"):
        out = io.BytesIO()
        more = (
            {"save_all": True, "append_images": [picture.rotate(180)]}
            if kind in ("GIF", "WEBP", "TIFF", "PNG")
            else {}
        )
        picture.save(out, kind, **more)
        found.append(out.getvalue())
    for kind, codec in (
        ("mp4", "mpeg4"),
        ("matroska", "mpeg4"),
        ("avi", "mjpeg"),
        ("mpegts", "mpeg2video"),
        ("flv", "flv1"),
    ):
        out = io.BytesIO()
        with av.open(out, "w", format=kind) as film:
            stream = film.add_stream(codec, rate=25)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for _ in range(8):
                film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            film.mux(stream.encode(None))
        found.append(out.getvalue())
    return found


def changed(content: bytes, reader: str, chance: random.Random) -> bytes:
    """An input with one to six changes: bytes turned, words put in, parts cut out, doubled or cut off."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        place, way = chance.randrange(len(made) + 1), chance.randrange(6)
        length = min(chance.choice((1, 2, 8, 64, 1024)), len(made) - place)
        if way == 0 and place < len(made):
            made[place] = chance.randrange(256)
        elif way == 1:
            made[place:place] = chance.choice(WORDS[reader])
        elif way == 2:
            made[place : place + length] = b""
        elif way == 3:
            made[place:place] = made[place : place + length] * chance.choice((1, 2, 50))
        elif way == 4:
            word = chance.choice(WORDS[reader])
            made[place : place + len(word)] = word
        elif chance.random() < 0.2:
            del made[place:]
    return bytes(made)


def read(reader: str, content: bytes) -> str:
    """How reading ended: ``read``, or the name of the `MienError`; anything else is raised, after the input was kept."""
    started = time.monotonic()
    try:
        READERS[reader](content)
        ended = "read"
    except MienError as error:
        if not str(error).isprintable():
            _keep(reader, content)
            raise AssertionError(f"a message that is not one line: {str(error)!r}") from error
        ended = type(error).__name__
    except BaseException:
        _keep(reader, content)
        raise
    if (took := time.monotonic() - started) > LIMIT_S:
        _keep(reader, content)
        raise AssertionError(f"{took:.0f} s for {len(content)} bytes")
    return ended


def _keep(reader: str, content: bytes) -> None:
    path = Path(f"fuzz-{reader}-{hashlib.sha256(content).hexdigest()[:12]}")
    path.write_bytes(content)
    print(
        f"{path}: {len(content)} bytes; python bench/fuzz.py --only {reader} --file {path}",
        file=sys.stderr,
    )


def plain(reader: str, seconds: float, seed: int) -> None:
    """Random changes for so long."""
    chance, sound, ends = random.Random(seed), seeds(reader), Counter[str]()  # noqa: S311
    for content in sound:
        ends[read(reader, content)] += 1
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ends[read(reader, changed(chance.choice(sound), reader, chance))] += 1
    print(
        json.dumps(
            {
                "reader": reader,
                "by": "random changes",
                "seed": seed,
                "inputs": ends.total(),
                "ends": dict(ends),
            }
        ),
        flush=True,
    )


def by_coverage(reader: str, seconds: float, seed: int) -> None:
    """Atheris' changes for so long; the process ends with it."""
    import atheris

    # What was imported already is not watched unless told so; libraries of compiled code never are.
    for name in [name for name in sys.modules if name.startswith("mien.")]:
        _watch(atheris, sys.modules[name])
    with tempfile.TemporaryDirectory() as corpus:
        for number, content in enumerate(seeds(reader)):
            (Path(corpus) / str(number)).write_bytes(content)
        words = [
            sys.argv[0],
            corpus,
            f"-max_total_time={seconds:.0f}",
            f"-seed={seed + 1}",
            "-rss_limit_mb=4096",
            "-max_len=65536",
        ]
        atheris.Setup(
            [*words, f"-timeout={LIMIT_S:.0f}", "-print_final_stats=1", "-verbosity=0"],
            lambda content: read(reader, content),
        )
        atheris.Fuzz()


def _watch(atheris: Any, module: ModuleType) -> None:
    for value in list(vars(module).values()):
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            atheris.instrument_func(value)
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for method in vars(value).values():
                if isinstance(method, FunctionType):
                    atheris.instrument_func(method)


def main() -> None:
    """Each reader in a process of its own, so that one that dies ends none but itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=READERS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--plain", action="store_true", help="random changes, also where atheris is installed"
    )
    parser.add_argument("--file", type=Path, help="read this one input")
    asked = parser.parse_args()
    if asked.file:
        print(read(asked.only, asked.file.read_bytes()))
        return
    if asked.only:
        (plain if asked.plain or not _has_atheris() else by_coverage)(
            asked.only, asked.seconds, asked.seed
        )
        return
    failed = []
    for reader in READERS:
        words = [
            sys.executable,
            __file__,
            "--only",
            reader,
            "--seconds",
            str(asked.seconds / len(READERS)),
            "--seed",
            str(asked.seed),
        ]
        code = subprocess.run(
            [*words, *(["--plain"] if asked.plain else [])], check=False
        ).returncode
        failed += [reader] if code else []
    sys.exit(f"something else came out of: {', '.join(failed)}" if failed else 0)


def _has_atheris() -> bool:
    import importlib.util

    return importlib.util.find_spec("atheris") is not None


if __name__ == "__main__":
    try:
        main()
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
