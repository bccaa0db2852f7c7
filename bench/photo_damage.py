"""Damaged photos and animations: how many are refused, told to be damaged, or read in silence although they look different.

    python bench/photo_damage.py --count 400 --out bench/results/photo_damage.json

A real portrait is written in each format and damaged by seed: a bit or byte turned, 64 bytes zeroed or replaced, the file cut
off, 8 bytes taken out. A mutant is silent when nothing is said and a picture differs from the whole one by more than 1 of 255
on average. PNG, APNG and deflated TIFF carry checksums. The others do not: there, most wrong bits are other valid pictures.
"""

import argparse
import io
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mien.demo import portrait
from mien.errors import SourceError
from mien.sources import open_source

Maker = Callable[[np.ndarray], bytes]
KINDS = ("bit", "byte", "zeros", "garbage", "cut", "hole")
VISIBLE = 1.0


def photo(kind: str, **options: object) -> Maker:
    def make(face: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(face[50:290, 100:420]).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


def film(kind: str, **options: object) -> Maker:
    def make(face: np.ndarray) -> bytes:
        first, *rest = (Image.fromarray(face[y : y + 120, 150:310]) for y in (60, 70, 80, 90))
        buffer = io.BytesIO()
        first.save(buffer, kind, save_all=True, append_images=rest, duration=100, **options)
        return buffer.getvalue()

    return make


def heic(face: np.ndarray) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(face[50:290, 100:420])).save(buffer, quality=80)
    return buffer.getvalue()


FORMS: dict[str, Maker] = {
    "jpeg": photo("JPEG", quality=90),
    "jpeg 4:4:4": photo("JPEG", quality=95, subsampling=0),
    "jpeg progressive": photo("JPEG", quality=90, progressive=True),
    "png": photo("PNG"),
    "apng": film("PNG"),
    "tiff deflate": photo("TIFF", compression="tiff_adobe_deflate"),
    "bmp": photo("BMP"),
    "gif": photo("GIF"),
    "gif film": film("GIF"),
    "webp": photo("WEBP", quality=80),
    "webp film": film("WEBP", quality=80),
    "avif": photo("AVIF", quality=80),
    "heic": heic,
}


def mutant(whole: bytes, kind: str, chance: random.Random) -> bytes:
    data = bytearray(whole)
    at = chance.randrange(len(data) // 50, len(data) - 70)
    if kind == "bit":
        data[at] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        data[at] ^= chance.randrange(1, 256)
    elif kind == "zeros":
        data[at : at + 64] = bytes(64)
    elif kind == "garbage":
        data[at : at + 64] = chance.randbytes(64)
    elif kind == "cut":
        del data[at:]
    else:
        del data[at : at + 8]
    return bytes(data)


def read(data: bytes) -> tuple[list[np.ndarray | None], str | None]:
    source = open_source(data)
    return [frame.pixels for frame in source.frames()], source.problem


def verdict(data: bytes, expected: list[np.ndarray]) -> str:
    """``refused``, ``told``, ``same``, or ``silent``: nothing said, and yet it looks different."""
    try:
        frames, problem = read(data)
    except SourceError as error:
        problem, frames = str(error), None
    assert problem is None or "\n" not in problem
    if frames is None:
        return "refused"
    if problem is not None:
        return "told"
    pairs = list(zip(frames, expected, strict=False))
    if len(frames) != len(expected) or any(got.shape != wanted.shape for got, wanted in pairs):
        return "silent"
    most = max(float(np.abs(got.astype(int) - wanted).mean()) for got, wanted in pairs)
    return "silent" if most > VISIBLE else "same"


def campaign(
    form: str, face: np.ndarray, count: int, seed: int
) -> tuple[Counter[str], Counter[str]]:
    """Verdicts over `count` mutants of a format, and the kinds of damage of the silent ones."""
    whole = FORMS[form](face)
    expected, problem = read(whole)
    assert problem is None
    chance = random.Random(f"{form} {seed}")  # noqa: S311
    verdicts, silent = Counter[str](), Counter[str]()
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        result = verdict(mutant(whole, kind, chance), expected)
        verdicts[result] += 1
        if result == "silent":
            silent[kind] += 1
    return verdicts, silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="mutants of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    face, results = portrait(), {}
    print(
        f"{'format':18} refused   told   same silent  told or refused of those that look different"
    )
    for form in FORMS:
        verdicts, silent = campaign(form, face, args.count, args.seed)
        seen = verdicts["refused"] + verdicts["told"]
        share = seen / max(seen + verdicts["silent"], 1)
        print(
            f"{form:18}",
            *(f"{verdicts[name]:6}" for name in ("refused", "told", "same", "silent")),
            f" {share:.3f} {dict(silent)}",
        )
        results[form] = {**verdicts, "share": round(share, 3), "silent_by_kind": silent}
    if args.out:
        args.out.write_text(
            json.dumps({"count": args.count, "seed": args.seed, "formats": results}, indent=1)
            + "\n"
        )


if __name__ == "__main__":
    main()
