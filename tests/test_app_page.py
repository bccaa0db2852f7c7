"""The pages of mien app: the built files belong to their sources, and Chromium goes the whole way from a film to a report."""

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from mien.demo import film

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "packages" / "app"
STATIC = ROOT / "src" / "mien" / "app" / "static"
# Machines that do much besides are slow, and no test here measures speed.
TIMEOUT_MS = 180_000
BUILT_FROM = json.loads((STATIC / "built-from.json").read_text())


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_files():
    roots = ("build.mjs", "package.json", "package-lock.json", "tsconfig.json", "public", "src")
    paths = [path for root in roots for path in [PACKAGE / root, *(PACKAGE / root).rglob("*")]]
    return {path.relative_to(PACKAGE).as_posix() for path in paths if path.is_file()}


def test_built_files_belong_to_their_sources():
    """If this fails: make app, and commit what it built."""
    assert set(BUILT_FROM["sources"]) == source_files()
    assert {name: sha256(PACKAGE / name) for name in BUILT_FROM["sources"]} == BUILT_FROM["sources"]
    assert {name: sha256(STATIC / name) for name in BUILT_FROM["built"]} == BUILT_FROM["built"]
    assert {path.name for path in STATIC.iterdir()} == {*BUILT_FROM["built"], "built-from.json"}


def test_pages_are_small():
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 400_000


@pytest.mark.parametrize("name", ["app.js", "app.css", "index.html"])
def test_nothing_comes_from_elsewhere(name):
    text = (STATIC / name).read_text()
    # The name spaces of XML are names, not addresses; licences say where their works are from.
    text = re.sub(r"http://www\.w3\.org/[\w/]+|/\*!?.*?\*/", "", text, flags=re.DOTALL)
    assert not re.search(r"(?:https?:)?//[a-z][\w-]*\.[a-z]{2,}", text)


def test_text_never_becomes_html():
    for path in (PACKAGE / "src").rglob("*.ts*"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(",
            path.read_text(),
            re.IGNORECASE,
        ), path.name


def test_the_lock_file_names_exact_versions_and_no_host():
    lock = (PACKAGE / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    wanted = json.loads((PACKAGE / "package.json").read_text())["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())


def test_words_are_in_one_file():
    """Text between tags is a word that whoever translates the pages would miss."""
    pattern = re.compile(r">[ \t]*[A-Za-z]{3,}[^<>{}=;()]*</")
    for path in (PACKAGE / "src").rglob("*.tsx"):
        assert not pattern.search(path.read_text()), path.name


# --- the whole way, in Chromium ---


@contextmanager
def served(workspace, home):
    """`mien app` in a process of its own; its address with the token."""
    command = [sys.executable, "-m", "mien", "app", str(workspace), "--no-browser"]
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium")
    pytest.importorskip("fastapi", reason="needs mien[app]")
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", *camera])
        yield browser
        browser.close()


@contextmanager
def opened(chromium, address, width=1280, scheme="light"):
    """A page in which nothing may go wrong unnoticed."""
    page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(TIMEOUT_MS)
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: message.type == "error" and problems.append(message.text))
    page.goto(address)
    yield page
    assert problems == []
    page.close()


@pytest.fixture(scope="module")
def read(chromium, tmp_path_factory):
    """A workspace in which a film was read, dropped on the page, with a name that would be HTML."""
    folder = tmp_path_factory.mktemp("app")
    workspace, home = folder / "work", folder / "home"
    home.mkdir()
    clip = film(folder / "clip.mp4", seconds=2.0).read_bytes()
    with served(workspace, home) as address, opened(chromium, address) as page:
        assert "token" not in page.url
        page.get_by_text("No recordings yet").wait_for()
        drop(page, "<img src=x onerror=alert(1)>.mp4", clip)
        page.get_by_role("button", name="Analyse 1 item").click()
        page.locator(".job.done").wait_for()
        page.locator("[data-recording]").wait_for()
    return workspace, home


@pytest.fixture(scope="module")
def address(read):
    """The address of an app that has read a film, for tests that leave it as it was."""
    with served(*read) as address:
        yield address


def drop(page, name, content):
    """Drop a file on the page as a hand does."""
    script = """([name, text]) => {
      const transfer = new DataTransfer();
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type: "video/mp4" }));
      return transfer;
    }"""
    transfer = page.evaluate_handle(script, [name, base64.b64encode(content).decode()])
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})


def name_face(page, name):
    page.keyboard.press("n")
    page.locator("dialog input").fill(name)
    page.keyboard.press("Enter")


def exclude_span(page, why):
    """From where the film stands on."""
    for key in ("i", "Shift+ArrowRight", "o", "x"):
        page.keyboard.press(key)
    page.locator("dialog input").fill(why)
    page.keyboard.press("Enter")


def watch(page):
    """Open the only recording, and wait until its film can be seen."""
    page.locator("[data-recording] a").first.click()
    page.locator(".block").first.wait_for()
    page.wait_for_timeout(100)
    ready = time.monotonic() + TIMEOUT_MS / 1000
    while page.locator("video").evaluate("video => video.readyState") < 2:
        assert time.monotonic() < ready
        page.wait_for_timeout(100)


def clock_of(page):
    """Where in the film the page is, seconds."""
    minutes, seconds = page.locator(".clock").inner_text().split(" ")[0].split(":")
    return 60 * int(minutes) + float(seconds)


def test_from_a_film_to_edits_that_survive_a_restart(chromium, read):
    with served(*read) as address, opened(chromium, address) as page:
        watch(page)
        # Text of files stays text.
        assert page.locator("main img").count() == 0
        # A click in a timeline goes there; keys step and leap.
        over = page.locator(".block .u-over").first
        box = over.bounding_box()
        over.click(position={"x": box["width"] / 2, "y": 20})
        assert clock_of(page) == pytest.approx(1.0, abs=0.06)
        page.keyboard.press("ArrowRight")
        assert clock_of(page) == pytest.approx(1.04, abs=0.06)
        page.keyboard.press("Home")
        assert clock_of(page) == pytest.approx(0.0, abs=0.05)
        # What is drawn over the film is there.
        drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
        overlay = page.locator("canvas.overlay")
        ready = time.monotonic() + TIMEOUT_MS / 1000
        while not overlay.evaluate(drawn):
            assert time.monotonic() < ready
            page.wait_for_timeout(100)
        # A name, with a mark of HTML in it.
        name_face(page, "Anna <b>")
        page.locator(".block .person", has_text="Anna <b>").wait_for()
        # A span, excluded.
        exclude_span(page, "looks away")
        page.get_by_role("button", name="Spans").click()
        page.locator(".marks li", has_text="looks away").wait_for()
        # A code on all of it, taken back by undo.
        page.keyboard.press("Home")
        page.keyboard.press("i")
        page.keyboard.press("End")
        page.keyboard.press("o")
        page.keyboard.press("c")
        page.locator("dialog input").fill("laughs")
        page.keyboard.press("Enter")
        code = page.locator(".marks li b", has_text="laughs")
        code.wait_for()
        page.keyboard.press("Control+z")
        code.wait_for(state="detached")
        # An export, which can be downloaded.
        page.get_by_role("button", name="Export").click()
        page.get_by_role("button", name="CSV", exact=True).click()
        with page.expect_download() as download:
            page.locator(".download").first.click()
        assert download.value.path().stat().st_size > 1000
        report = page.get_by_role("link", name="Report").get_attribute("href")
        answer = page.request.get(page.url.split("#")[0].rstrip("/") + report)
        assert answer.ok
        assert "Anna &lt;b&gt;" in answer.text()
    with served(*read) as address, opened(chromium, address) as page:
        watch(page)
        page.locator(".block .person", has_text="Anna <b>").wait_for()
        page.get_by_role("button", name="Spans").click()
        page.locator(".marks li", has_text="looks away").wait_for()
        assert page.locator(".marks li b", has_text="laughs").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (820, "dark")])
def test_every_page_can_be_used_by_everybody(chromium, address, width, scheme):
    """axe-core finds nothing against WCAG AA, and no page is wider than its window."""
    axe = PACKAGE / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.is_file():
        pytest.skip("needs axe-core: npm ci in packages/app")
    rules = "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
    with opened(chromium, address, width, scheme) as page:
        page.locator("[data-recording]").wait_for()
        base = page.url.split("#")[0]
        found = {}
        for name in ("analyse", "live", "networks", "study", "watch"):
            page.goto(f"{base}#/{name}")
            page.locator("main h1").wait_for()
            page.wait_for_timeout(300)
            page.evaluate(axe.read_text())
            found[name] = [rule["id"] for rule in page.evaluate(rules)["violations"]]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        watch(page)
        for tab in ("People", "Now", "Spans"):
            page.locator(".segmented button", has_text=tab).click()
            page.wait_for_timeout(200)
            found[tab] = [rule["id"] for rule in page.evaluate(rules)["violations"]]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not any(found.values()), found


def test_a_recording_that_is_gone_is_told(chromium, address):
    with opened(chromium, address) as page:
        page.locator("[data-recording]").wait_for()
        # What the browser itself writes of a 404 is no fault of the page.
        page.route(
            "**/api/recordings/0000000000000000",
            lambda route: route.fulfill(status=200, body='{"a'),
        )
        page.goto(page.url.split("#")[0] + "#/watch/0000000000000000")
        page.get_by_role("alert").wait_for()
        page.get_by_role("link", name="Other recordings").click()
        page.locator("[data-recording]").wait_for()


def test_tabs_share_the_connection_for_events(chromium, address):
    """Browsers open six connections to one server, over all tabs: an eighth tab must load all the same."""
    context = chromium.new_context()
    tabs = [context.new_page() for _ in range(8)]
    for number, tab in enumerate(tabs):
        tab.goto(address if number == 0 else address.partition("?")[0], timeout=TIMEOUT_MS)
        tab.locator("main h1").first.wait_for(timeout=TIMEOUT_MS)
    context.close()


def test_an_edit_that_another_tab_forestalls_is_refused_and_its_mark_stays(chromium, address):
    context = chromium.new_context()
    context.set_default_timeout(TIMEOUT_MS)
    late, quick = context.new_page(), context.new_page()
    late.goto(address)
    watch(late)
    quick.goto(address.partition("?")[0])
    watch(quick)
    name_face(quick, "Quick")
    quick.locator(".block .person", has_text="Quick").wait_for()
    late.get_by_role("button", name="Spans").click()
    exclude_span(late, "late")
    late.locator(".toast.problem", has_text="another page").wait_for()
    # What the other tab did is shown, and the span can be excluded now.
    late.locator(".block .person", has_text="Quick").wait_for()
    late.keyboard.press("x")
    late.locator("dialog input").fill("late")
    late.keyboard.press("Enter")
    late.locator(".marks li", has_text="late").wait_for()
    # An undo of the tab that does not know of it takes nothing away.
    quick.keyboard.press("Control+z")
    quick.locator(".toast.problem", has_text="another page").wait_for()
    late.keyboard.press("Control+z")
    late.locator(".marks li", has_text="late").wait_for(state="detached")
    late.keyboard.press("Control+z")
    late.locator(".block .person", has_text="Quick").wait_for(state="detached")
    context.close()


def test_a_camera_that_is_given_after_the_page_was_left_is_turned_off(chromium, address):
    slow = """() => {
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      window.given = [];
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        await new Promise((resolve) => setTimeout(resolve, 500));
        const stream = await ask(wanted);
        window.given.push(...stream.getTracks());
        return stream;
      };
    }"""
    with opened(chromium, address) as page:
        page.evaluate(slow)
        page.goto(page.url.split("#")[0] + "#/live")
        page.get_by_role("button", name="Start").click()
        page.get_by_role("link", name="Analyse").click()
        is_off = "given.length > 0 && given.every((track) => track.readyState === 'ended')"
        ready = time.monotonic() + TIMEOUT_MS / 1000
        while not page.evaluate(is_off):
            assert time.monotonic() < ready
            page.wait_for_timeout(100)
