# Two commands on a fresh machine with Python >= 3.10: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.PHONY: demo test lint format docs clean help

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[metrics]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test]'
	$(PIP) --no-deps scanpy # one of its files is a data set; what it imports is not needed
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## Install, train on the digits that ship with scikit-learn, sample by class.
	@$(BIN)/python scripts/demo.py

test: $(VENV)/.installed-test ## Install the test extras and run the suite.
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 40 --cov --cov-report=term --cov-fail-under=90

lint: $(VENV)/.installed-dev ## Check format, lint, types and the import layers.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## Format and fix what can be fixed.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-dev ## Build the documentation site into docs/_build.
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

clean: ## Remove what the other targets made, but no run.
	rm -rf $(VENV) docs/_build .pytest_cache .ruff_cache .coverage*
