"""The pages of mien app: the built files belong to their sources, and Chromium goes the whole way from a film to a report."""

import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "packages" / "app"
STATIC = ROOT / "src" / "mien" / "app" / "static"
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
