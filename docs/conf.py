"""Settings of Sphinx; `make docs` builds the pages into build/docs without a network."""

from mien import __version__

project = "mien"
author = "mien contributors"
copyright = "mien contributors"  # Sphinx wants this name
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]
html_theme = "furo"
html_title = f"mien {release}"
html_static_path: list[str] = []

# Headings get anchors as on GitHub, so that links into a page work in both places.
myst_heading_anchors = 4

# A single backtick in a docstring is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# Torch would be imported only for its types; the pages need none of it.
autodoc_mock_imports: list[str] = []
napoleon_google_docstring = True
napoleon_numpy_docstring = False
