# Everything from a fresh machine with Python >= 3.11 and make: `make demo`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORE ?= demo-store

.PHONY: demo test test-fast test-faults lint clean

$(VENV)/demo-installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/test-installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test,lint]"
	touch $@

# The main job, on data that need no download: a sweep on local Ray, then its report.
demo: $(VENV)/demo-installed
	$(BIN)/recsweep launch quickstart --store $(STORE)
	$(BIN)/recsweep best --store $(STORE)
	$(BIN)/recsweep report --store $(STORE)

test: $(VENV)/test-installed
	$(BIN)/python -m pytest -m "not slow" -n 2 --durations=25
	$(BIN)/python -m pytest -m slow --ignore=tests/faults

# Kills workers, nodes, drivers and heads, fills disks: ten minutes and more, on a machine with nothing else to do.
test-faults: $(VENV)/test-installed
	$(BIN)/python -m pytest tests/faults

# Without real Ray, real browsers and long computations.
test-fast: $(VENV)/test-installed
	$(BIN)/python -m pytest -m "not slow" -n 2 --durations=25

lint: $(VENV)/test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo-store reports
