# Needs only Python >= 3.11, make and the Python package index. Everything is installed into .venv, nothing elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench clean help

help:
	@echo "make demo   set up, analyse a real face clip, leave demo/clip.csv and demo/clip.overlay.mp4"
	@echo "make test   set up everything, check, and run the tests"
	@echo "make check  ruff, mypy --strict on src, and the test of the rooms"
	@echo "make clean  remove what the above made"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.done: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo]"
	@touch $@

$(VENV)/test.done: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo,openvino,recipe,sr,test]"
	@touch $@

demo: $(VENV)/demo.done
	$(BIN)/mien demo --out demo
	@echo "Open demo/clip.csv and demo/clip.overlay.mp4"

check: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_project.py

# A process for each file: OpenVINO, ONNX Runtime and torch bring thread pools of their own, and one process that has used all
# three and then forks loaders has crashed. No command of mien uses them so. JOBS of them at a time, each on one thread.
JOBS ?= 2
test: check
	@ls -d tests/test_*.py src | OMP_NUM_THREADS=1 xargs -P $(JOBS) -I% sh -c \
		'out=$$($(BIN)/python -m pytest -q % -p no:cacheprovider 2>&1) && echo "% $$(echo "$$out" | tail -1)" || { echo "$$out"; exit 255; }'

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache
