"""How fast pictures are super-resolved, with one worker and with two, and how the result compares with bicubic interpolation.

    python bench/superres.py [--pictures 12] [--out bench/results/superres.json]

Pictures: parts of the public-domain portrait that scikit-image carries, of 48 and of 112 px, through a whole `superresolve` to
disk; starting the processes is told apart. Quality: its face reduced to 48 px (once also saved as JPEG of quality 60) is enlarged
twice and compared with the face at 96 px: PSNR in dB, and the energy of its Laplacian over the real one's (1 is as sharp as
real). A network that invents detail loses PSNR and gains sharpness. Also: what quality 95 costs in PSNR and saves in bytes.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mien.data.superres import Ncnn, superresolve, upscaler
from mien.demo import portrait

FACE = (slice(20, 260), slice(110, 350))


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def rate(size: int, count: int, workers: int) -> dict[str, float]:
    """Pictures a second once the processes run, and the seconds until the first picture."""
    rng = np.random.default_rng(0)
    whole, first = portrait(), 0.0
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "in"
        root.mkdir()
        for i in range(count):
            y, x = rng.integers(0, 512 - size, 2)
            Image.fromarray(whole[y : y + size, x : x + size]).save(root / f"{i}.png")

        def hear(done: int, total: int) -> None:
            nonlocal first
            if done == workers:  # every process has its network by now
                first = time.perf_counter()

        started = time.perf_counter()
        superresolve(root, Path(scratch) / "out", workers=workers, progress=hear)
        ended = time.perf_counter()
    return {
        "pictures a second": round((count - workers) / (ended - first), 2),
        "seconds to start": round(first - started, 1),
    }


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return round(
        float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))), 2
    )


def sharpness(image: np.ndarray, real: np.ndarray) -> float:
    energy = [float((cv2.Laplacian(one, cv2.CV_32F) ** 2).mean()) for one in (image, real)]
    return round(energy[0] / energy[1], 2)


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def saved(image: np.ndarray, quality: int) -> tuple[np.ndarray, int]:
    content = BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality, subsampling=0)
    return np.array(Image.open(content)), len(content.getvalue())


def quality() -> dict[str, object]:
    upscale = upscaler(Ncnn(), 2)
    real = reduced(portrait()[FACE], 96)
    clean = reduced(portrait()[FACE], 48)
    found: dict[str, object] = {}
    for name, small in (("clean", clean), ("JPEG 60", saved(clean, 60)[0])):
        ways = {
            "real-esrgan": upscale(small),
            "bicubic": cv2.resize(small, (96, 96), interpolation=cv2.INTER_CUBIC),
        }
        found[name] = {
            way: {"psnr": psnr(image, real), "sharpness": sharpness(image, real)}
            for way, image in ways.items()
        }
        found[name]["real-esrgan, reduced again, against its input: psnr"] = psnr(
            reduced(ways["real-esrgan"], 48), small
        )
    up = upscale(clean)
    kept, size = saved(up, 95)
    png = BytesIO()
    Image.fromarray(up).save(png, "PNG")
    found["JPEG 95 against PNG"] = {
        "psnr": psnr(kept, up),
        "bytes": round(size / len(png.getvalue()), 2),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "superres.json"
    )
    args = parser.parse_args()
    cv2.setNumThreads(1)
    result = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "ncnn": version("ncnn")},
        "speed, one thread a worker": {
            f"{size} px": {
                f"{workers} worker{'s' * (workers > 1)}": rate(size, args.pictures, workers)
                for workers in (1, 2)
            }
            for size in (48, 112)
        },
        "quality, one face of 48 px": quality(),
    }
    print(json.dumps(result, indent=2))
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
