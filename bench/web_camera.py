"""The demo page in Chromium, with a film for a camera; called by bench/web.py --camera.

Chromium has no window and one core. The film is turned into the raw video that Chromium takes for a camera, at 30 frames a second, and repeats.
Beside frames a second, which other work on the machine takes from, stand milliseconds of a core per frame: of all of the page's process,
networks, pixels, camera and drawing. 1000 divided by them is the rate on a core that is idle otherwise.
"""

import functools
import http.server
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from playwright.sync_api import CDPSession, Page, sync_playwright

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "build" / "docs" / "demo"
CHROMIUM = "/usr/bin/chromium"
WARM_S = 10.0
MEASURED_S = 30.0
FILM_FRAMES = 150
# As most cameras; films are often slower than what is to be measured.
RATE = 30
# Under load, loading the page alone may take minutes.
PATIENCE_MS = 500_000


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, served on this computer alone."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def write_y4m(film: Path, to: Path) -> None:
    """Write a film as raw video of `RATE` frames a second."""
    with av.open(str(film)) as container, to.open("wb") as out:
        for number, frame in enumerate(container.decode(video=0)):
            if number == FILM_FRAMES:
                break
            if not number:
                size = f"W{frame.width} H{frame.height} F{RATE}:1"
                out.write(f"YUV4MPEG2 {size} Ip A1:1 C420jpeg\n".encode())
            out.write(b"FRAME\n" + frame.to_ndarray(format="yuv420p").tobytes())


def busy_s(session: CDPSession) -> float:
    """Seconds of a core that pages' processes have taken."""
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(float(one["cpuTime"]) for one in processes if one["type"] == "renderer")


def status(page: Page) -> tuple[float, int]:
    """Frames a second, and milliseconds from pixels to readings, as the page says."""
    text = page.inner_text("#status")
    found = re.search(r"Camera: ([\d.]+) frames/s, (\d+) ms", text)
    if found is None:
        raise SystemExit(f"the page says: {text}")
    return float(found[1]), int(found[2])


def on_camera(film: Path, bundle: str) -> dict[str, Any]:
    """Rates of the demo page with and without judging readings."""
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as spare, served(PAGE) as address:
        raw = Path(spare) / "film.y4m"
        write_y4m(film, raw)
        os.sched_setaffinity(0, {min(cores)})  # Chromium inherits it
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(
                    executable_path=CHROMIUM,
                    args=[
                        "--use-fake-ui-for-media-stream",
                        "--use-fake-device-for-media-stream",
                        f"--use-file-for-fake-video-capture={raw}",
                    ],
                )
                session = browser.new_browser_cdp_session()
                results: dict[str, Any] = {"camera, frames a second": RATE}
                for judged in (False, True):
                    page = browser.new_page()
                    page.set_default_timeout(PATIENCE_MS)
                    page.goto(address)
                    page.select_option("#bundle", bundle)
                    page.select_option("#device", "wasm")
                    page.set_checked("#quality", judged)
                    name = "with mien-quality" if judged else "alone"
                    results[name] = measured(page, session)
                    page.close()
                browser.close()
        finally:
            os.sched_setaffinity(0, cores)
    return results


def measured(page: Page, session: CDPSession) -> dict[str, float]:
    """Start the camera, wait until all is compiled, and count for a while."""
    page.locator("#status").filter(has_text="Ready").wait_for()
    page.click("#camera")
    page.locator("#status").filter(has_text="frames/s").wait_for()
    page.wait_for_timeout(1000 * WARM_S)
    before, frames = busy_s(session), rows(page)
    page.wait_for_timeout(1000 * MEASURED_S)
    read = rows(page) - frames
    spent = busy_s(session) - before
    shown, ms = status(page)
    return {
        "frames a second": round(read / MEASURED_S, 1),
        "the page's own figure": shown,
        "ms from pixels to readings": ms,
        "core ms a frame": round(1000 * spent / max(read, 1), 1),
        "load": round(os.getloadavg()[0], 1),
    }


def rows(page: Page) -> int:
    """Frames that were read so far."""
    return int(page.get_attribute("#stage", "data-frames") or 0)
