# make demo   set up .venv and run both main jobs on simulated data: detect events live in EEG; segment a stack
# make test   set up .venv and run all tests
# make check  lint, format, types, tests: before each commit
# make bench  the figures of docs/BENCHMARKS.md (leave the machine alone meanwhile)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check bench clean

demo: $(VENV)/run.stamp
	$(BIN)/streamdetect demo
	$(BIN)/segment demo

# Two processes: half of the time of the tests is spent waiting for live streams. The viewer of the napari plugin by
# itself: a process that draws it must not load TensorFlow.
NAPARI := tests/segment/napari
define run_tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore=$(NAPARI)
	$(BIN)/python -m pytest $(NAPARI)
endef

test: $(VENV)/dev.stamp
	$(run_tests)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(run_tests)

bench: $(VENV)/run.stamp
	$(BIN)/streamdetect bench --literal
	$(BIN)/segment bench

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'streamdetect needs Python 3.11 or newer: try  make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[train,xdf,segment-train]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/run.stamp

clean:
	rm -rf $(VENV) demo segment-demo build dist
