"""Make the pictures of the whole way through mien app, from a film to a report, into docs/images.

    python docs/app_pictures.py

The film is the demo's, of a public-domain portrait. Needs Chromium, playwright and the extra `app`. Run it again
when the pages change, and look at the result.
"""

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from mien.demo import film

IMAGES = Path(__file__).parent / "images"
# Of one portrait, so the means of this study say nothing.
FILMS = {
    "anna_jokes": 6.0,
    "anna_rest": 4.0,
    "ben_jokes": 3.0,
    "ben_rest": 2.5,
    "cleo_jokes": 5.0,
    "cleo_rest": 3.5,
}
WIDTH, HEIGHT = 1280, 800
# Machines that do much besides are slow.
TIMEOUT_MS = 300_000


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """`mien app` with a workspace in a folder that is its home; its address."""
    command = [sys.executable, "-m", "mien", "app", str(folder / "work"), "--no-browser"]
    environment = {**os.environ, "HOME": str(folder)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
    with process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)


def save(page: Page, name: str) -> None:
    """Save what the page shows, with few colours, which keeps it small."""
    page.wait_for_timeout(1000)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = IMAGES / f"app-{name}.png"
    small = picture.resize((960, 600), Image.Resampling.LANCZOS)
    # The film has many colours and the page few, which it must not lose to those.
    small.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=8).save(path, optimize=True)
    print(path)


def analyse(page: Page, films: list[Path]) -> None:
    """Choose films, and have them read."""
    page.set_input_files("input[type=file]", films)
    page.get_by_role("button", name=f"Analyse {len(films)} items").click()
    page.locator(".job.running .progress").wait_for()
    save(page, "analyse")
    page.locator(".job.done").wait_for()
    page.locator("[data-recording]").first.wait_for()


def watch(page: Page) -> None:
    """Name the person, exclude a span, give another a code."""
    page.locator("[data-recording] a", has_text="anna_jokes").first.click()
    page.locator(".block").first.wait_for()
    while page.locator("video").evaluate("video => video.readyState") < 2:
        page.wait_for_timeout(200)
    for keys, text in (
        (("n",), "Anna"),
        (
            ("Home", "Shift+ArrowRight", "o", "i", "End", "o", "x"),
            "covers her face",
        ),
        (("Home", "i", *["ArrowRight"] * 30, "o", "c"), "hears the joke"),
    ):
        for key in keys:
            page.keyboard.press(key)
        page.locator("dialog input").fill(text)
        page.keyboard.press("Enter")
        page.locator("dialog").wait_for(state="detached")
        page.wait_for_timeout(2000)
    page.get_by_role("button", name="Spans").click()
    save(page, "watch")
    page.get_by_role("button", name="Now", exact=True).click()
    page.emulate_media(color_scheme="dark")
    save(page, "watch-dark")
    page.emulate_media(color_scheme="light")


def study(page: Page, base: str) -> None:
    """Make a study of the recordings, and compute it."""
    page.goto(f"{base}#/study")
    page.get_by_role("button", name="New study").click()
    page.get_by_label("Name of the study").fill("Jokes")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("button", name="Compute").click()
    page.locator(".dots").wait_for()
    page.get_by_label("Measure").select_option("usable_share")
    save(page, "study")


def main() -> None:
    """Go the whole way, and save a picture at each step."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with TemporaryDirectory() as temporary, sync_playwright() as driver:
        folder = Path(temporary)
        films = [film(folder / f"{name}.mp4", seconds=seconds) for name, seconds in FILMS.items()]
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        with served(folder) as address:
            page = browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"
            )
            page.set_default_timeout(TIMEOUT_MS)
            page.goto(address)
            base = page.url.split("#")[0]
            analyse(page, films)
            watch(page)
            study(page, base)
            report = page.get_by_role("link", name="Report").get_attribute("href")
            page.goto(base.rstrip("/") + str(report))
            save(page, "report")
            page.goto(f"{base}#/networks")
            page.locator(".network").first.wait_for()
            save(page, "networks")
        browser.close()


if __name__ == "__main__":
    main()
