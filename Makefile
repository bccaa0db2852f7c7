# Needs only Python >= 3.11, make and the Python package index. Everything is installed into .venv, nothing elsewhere.
# The versions are those of constraints.txt, with which all tests last passed; LATEST=1 takes the newest that pyproject.toml
# permits instead, into an environment of its own.
PYTHON ?= python3
JOBS ?= 2
ifdef LATEST
VENV := .venv-latest
else
VENV := .venv
CONSTRAINTS := constraints.txt
endif
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

.PHONY: app web demo test test-lowest check docs lock clean help

help:
	@echo "make demo          set up, analyse a real face clip, leave demo/clip.csv and demo/clip.overlay.mp4"
	@echo "make test          set up everything, check, and run all tests"
	@echo "make test LATEST=1 the same with the newest versions that pyproject.toml permits"
	@echo "make test-lowest   the inference half's tests with the lowest versions that pyproject.toml permits"
	@echo "make check         ruff, mypy --strict on src, and tests/test_project.py"
	@echo "make docs          the documentation as a website, in build/docs; needs no network once set up"
	@echo "make web           the npm package in packages/web/dist and its demo page in build/docs/demo; needs node 20"
	@echo "make app           the pages of mien app, tested and built into src/mien/app/static; needs node 20"
	@echo "make lock          test with the newest versions; if all pass, write them to constraints.txt"
	@echo "make clean         remove what the above made"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.done: $(BIN)/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e .
	@touch $@

$(VENV)/test.done: $(BIN)/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e ".[heic,openvino,recipe,sr,test]"
	@touch $@

demo: $(VENV)/demo.done
	$(BIN)/mien demo --out demo
	@echo "Open demo/clip.csv and demo/clip.overlay.mp4"

check: $(VENV)/test.done
	$(BIN)/python tests/run_all.py --jobs $(JOBS) ruff mypy test_project

docs: $(VENV)/test.done
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@if command -v npm > /dev/null; then $(MAKE) web; else echo "npm is not here (Node 20): the demo page is left out"; fi
	@echo "Open build/docs/index.html"

app:
	cd packages/app && npm ci --no-fund --no-audit && npm test && npm run build

web:
	cd packages/web && npm ci --no-fund --no-audit --ignore-scripts && npm run check && npm run build -- --demo ../../build/docs/demo

test: $(VENV)/test.done
	$(BIN)/python tests/run_all.py --jobs $(JOBS)

# uv finds the lowest versions, which pip cannot; it is installed into that environment alone. Deprecation warnings are ignored: old
# versions raise them about newer versions of their own requirements, which mien cannot change.
LOWEST := .venv-lowest
LOWEST_TESTS ?= tests/test_cli.py tests/test_sources.py tests/test_bundles.py tests/test_tables.py

test-lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(LOWEST) $(LOWEST)/bin/uv pip install --quiet --resolution lowest-direct -e ".[heic,openvino]" "pyyaml>=6" pytest==8.3.0
	@echo "The lowest versions that pyproject.toml permits, without the extra train:"
	VIRTUAL_ENV=$(LOWEST) $(LOWEST)/bin/uv pip list
	$(LOWEST)/bin/mien analyze --help > $(LOWEST)/help.txt
	for file in $(LOWEST_TESTS); do $(LOWEST)/bin/python -m pytest -q -p no:cacheprovider -W ignore::DeprecationWarning -W ignore::FutureWarning $$file || exit 1; done

lock:
	$(MAKE) test demo LATEST=1
	( echo "# The versions all tests last passed with: $$(.venv-latest/bin/python -V), $$(uname -sm). Made by: make lock"; \
	  .venv-latest/bin/python -m pip freeze --exclude-editable ) > constraints.txt.part
	mv constraints.txt.part constraints.txt

clean:
	rm -rf .venv .venv-latest .venv-lowest demo build dist .pytest_cache .mypy_cache .ruff_cache
