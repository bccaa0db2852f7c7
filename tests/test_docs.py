"""Pages made from the code are up to date, and what the documents point to is there."""

import importlib.util
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from mien import __version__
from mien.recipes.schema import read_recipe

spec = importlib.util.spec_from_file_location("make_docs", ROOT / "docs" / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "reference" / "cards").glob("*.md"),
    ]
)


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("reference/columns.md", make.columns_page),
        ("reference/bundles.md", make.bundles_page),
        ("explanation/comparison.md", make.comparison_page),
        ("explanation/study-truth.md", make.study_page),
    ],
)
def test_made_pages_are_up_to_date(name, page):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == page(), "run python docs/make.py"


def test_every_bundle_has_its_page():
    pages = {
        path.stem: path.read_text(encoding="utf-8")
        for path in (ROOT / "docs" / "reference" / "cards").iterdir()
    }
    assert pages == {name: make.card_page(name) for name in make.known_bundles()}, (
        "run python docs/make.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_documents_compiles(page):
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        compile(code, page.name, "exec")


@pytest.mark.parametrize(
    ("page", "section"),
    [
        ("python.md", "Read from memory"),
        ("python.md", "Read many pictures"),
        ("python.md", "Show progress"),
        ("python.md", "Read many inputs"),
        ("live.md", "Read a camera"),
    ],
)
def test_python_in_the_how_tos_runs(page, section, clip, photo, tmp_path):
    """The last example of the section, as a script of its own."""
    text = (ROOT / "docs" / "howto" / page).read_text(encoding="utf-8")
    sections = re.split(r"^#+ ", text, flags=re.MULTILINE)
    (part,) = [part for part in sections if part.startswith(section)]
    (tmp_path / "recordings").mkdir()
    for path in (tmp_path / "clip.mp4", tmp_path / "recordings" / "clip.mp4"):
        shutil.copy(clip, path)
    shutil.copy(photo, tmp_path / "photo.jpg")
    (tmp_path / "script.py").write_text(
        re.findall(r"```python\n(.*?)```", part, re.DOTALL)[-1], encoding="utf-8"
    )
    command = [sys.executable, "-W", "error", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_the_recipe_in_the_docs_reads(tmp_path):
    text = (ROOT / "docs" / "howto" / "recipes.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.S)[1])
    recipe = read_recipe(tmp_path / "mine.yaml", small=True)
    assert (recipe.options["epochs"], len(recipe.steps)) == (1, 5)


def test_citation_and_changelog_are_of_this_release():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    headings = re.findall(
        r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert headings[0] == "Unreleased"
    assert f"{__version__} - {citation['date-released']}" in headings
