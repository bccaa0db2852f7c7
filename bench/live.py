"""How late live readings are, with a synthetic camera that paints its clock into the picture.

    python bench/live.py [--seconds 20] [--out bench/results/live.json]

The camera makes 30 pictures a second, whether anybody takes them or not: a portrait that moves, and in the top left corner the time of
``time.monotonic()`` in microseconds, a block of 4 by 4 pixels per bit. The clock is read back from the pixels of every frame. A lag is the
time from that clock to the moment at which the caller has the reading; in frames of 1/30 s. Beside it stands what `mien live` itself counts.
Frames are left out while another is read. The machine's load average and the priority of the process stand with the figures: on a busy
machine lags say little. Processor time does: it is that of the thread that reads, from one frame to the next.

With `pylsl`, streams go through an outlet to an inlet of the same process: the delay from the push to the pull, and the clock offset that LSL
measures, which is its own error, since both sides have one clock.
"""

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import mien
from mien.demo import portrait
from mien.realtime.moments import number_columns
from mien.sources import Source

RATE = 30
BITS = 56
BLOCK = 4


def paint_clock(picture: NDArray[np.uint8], time_s: float) -> None:
    """Paint a time into the top left corner, the lowest bit first."""
    microseconds = round(time_s * 1e6)
    bits = np.array([microseconds >> bit & 1 for bit in range(BITS)], np.uint8)
    picture[:BLOCK, : BITS * BLOCK] = 255 * np.repeat(bits, BLOCK)[None, :, None]


def painted_clock(picture: NDArray[np.uint8]) -> float:
    """The time that was painted into a picture, s."""
    blocks = picture[:BLOCK, : BITS * BLOCK].mean(axis=(0, 2)).reshape(BITS, BLOCK).mean(axis=1)
    return sum(int(block > 127) << bit for bit, block in enumerate(blocks)) / 1e6


class PaintedCamera(Source):
    """A camera whose pictures show when they were made."""

    kind = "camera"
    live = newest = True

    def __init__(self, size: tuple[int, int], faces: int, seconds: float) -> None:
        super().__init__(f"painted {size[0]}x{size[1]}")
        width, height = size
        self.size = size
        self.count = round(seconds * RATE)
        self.clocks: dict[int, float] = {}
        side = min(height, width // faces) * 3 // 4
        face = cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_AREA)
        self.scene = np.full((height, width + 16, 3), 90, np.uint8)
        for number in range(faces):
            x, y = number * width // faces + 16, (height - side) // 2
            self.scene[y : y + side, x : x + side] = face[:, : self.scene.shape[1] - x]

    def shown(self, number: int, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture, of which the clock is read as it is handed over."""
        self.clocks[number] = painted_clock(picture)
        return picture

    def _timed_reads(self) -> Iterator[tuple[float, Callable[[], NDArray[np.uint8]]]]:
        start = time.monotonic()
        for number in range(self.count):
            time.sleep(max(start + number / RATE - time.monotonic(), 0))
            now = time.monotonic()
            if self.started_s is None:
                self.started_s = now
            # The head sways by a pixel a frame.
            shift = 8 - abs(number % 32 - 16) // 2
            picture = self.scene[:, shift : shift + self.size[0]].copy()
            paint_clock(picture, now)
            yield now - self.started_s, partial(self.shown, number, picture)


def measure(size: tuple[int, int], shown: int, seconds: float, **named: Any) -> dict[str, Any]:
    camera = PaintedCamera(size, shown, seconds)
    read: list[tuple[int, float]] = []
    session = mien.live(camera, **named)
    processor = [time.thread_time()]
    for reading in session:
        if not reading.remaining:
            read.append((reading.frame, time.monotonic()))
            processor.append(time.thread_time())
    lags = np.array([at - camera.clocks[frame] for frame, at in read])
    # Networks run faster once they have run before.
    lags = lags[RATE // 2 :]
    p50, p99 = np.percentile(lags, [50, 99])
    busy = 1000 * np.percentile(np.diff(processor)[RATE // 2 :], [50, 99])
    return {
        "frames made": camera.count,
        "frames read": len(read),
        "left out": session.summary.dropped,
        "lag ms, p50": round(1000 * p50, 2),
        "lag ms, p99": round(1000 * p99, 2),
        "lag frames, p50": round(RATE * p50, 3),
        "lag frames, p99": round(RATE * p99, 3),
        "counted by mien live, ms, p50 and p99": [
            round(1000 * session.summary.lag_p50_s, 2),
            round(1000 * session.summary.lag_p99_s, 2),
        ],
        "processor ms a frame, p50 and p99": busy.round(2).tolist(),
        "load average": round(os.getloadavg()[0], 2),
    }


def lsl_delays(count: int = 200) -> dict[str, Any]:
    """How long samples take from outlet to inlet, and what LSL takes the offset of one clock to itself for."""
    import pylsl

    from mien.realtime.lsl import keep_local

    keep_local()
    columns = mien.Reader().columns(live=True)
    width = len(number_columns(columns))
    info = pylsl.StreamInfo(
        "bench", "Affect", width, pylsl.IRREGULAR_RATE, pylsl.cf_float32, "bench"
    )
    outlet = pylsl.StreamOutlet(info)
    (found,) = pylsl.resolve_byprop("name", "bench", timeout=5)
    inlet = pylsl.StreamInlet(found)
    inlet.open_stream(5)
    delays, offsets = [], []
    for _ in range(count):
        outlet.push_sample([0.0] * width, pylsl.local_clock())
        _, stamp = inlet.pull_sample(timeout=5)
        delays.append(1000 * (pylsl.local_clock() - stamp))
        offsets.append(1000 * inlet.time_correction(5))
        time.sleep(1 / RATE)
    inlet.close_stream()
    return {
        "channels": width,
        "delay ms, p50 and p99": np.percentile(delays, [50, 99]).round(3).tolist(),
        "clock offset ms, lowest and highest": [round(min(offsets), 4), round(max(offsets), 4)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    seconds = arguments.seconds
    outputs: dict[str, Any] = {"lines": io.StringIO(), "baseline": 2.0, "smoothing": 0.15}
    # First, because it asks LSL to stay on this computer.
    lsl = lsl_delays()
    results: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "niceness": os.nice(0),
        "frames a second": RATE,
    }
    results["640x480, one face"] = measure((640, 480), 1, seconds)
    results["1280x720, one face"] = measure((1280, 720), 1, seconds)
    results["1280x720, two faces"] = measure((1280, 720), 2, seconds)
    with tempfile.TemporaryDirectory() as folder:
        outputs |= {"websocket": 0, "osc": "127.0.0.1:9", "lsl": "bench", "faces": "largest"}
        results["640x480, one face, every output, baseline, smoothed, recorded"] = measure(
            (640, 480), 1, seconds, out=Path(folder) / "table.csv", record=True, **outputs
        )
    results["LSL, outlet to inlet"] = lsl
    text = json.dumps(results, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
