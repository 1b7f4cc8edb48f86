# `make demo` and `make test` set up what they use: a virtual environment in .venv, from Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

.PHONY: demo test lint bench clean

demo: .venv/demo.stamp
	$(BIN)/duologue demo --out $(DEMO)

test: .venv/dev.stamp lint
	$(BIN)/pytest -n 2

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev.stamp
	for module in hop turn interrupt sessions memory imports resample virtual; do $(BIN)/python -m benchmarks.$$module --json; done

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Duologue needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/demo.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/demo.stamp

clean:
	rm -rf .venv $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis
