# `make demo`, `make talk` and `make test` set up what they use: a virtual environment in .venv, from Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
PORT ?= 8000
JS := tests/web/js

.PHONY: demo talk test lint docs bench chaos js litellm clean

demo: .venv/demo.stamp
	$(BIN)/duologue demo --out $(DEMO)

# Calls from a browser, with the demo's agents. Another port: make talk PORT=8001.
talk: .venv/demo.stamp
	$(BIN)/duologue serve duologue.cli.web_demo:make_session --port $(PORT)

test: .venv/dev.stamp $(JS)/node_modules/.package-lock.json .venv/litellm.stamp lint
	$(BIN)/pytest -n 2

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation's site, in artifacts/site. A warning fails the build.
docs: .venv/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: .venv/dev.stamp
	for module in hop turn interrupt sessions memory imports resample virtual native models cascade handoff tools correction trace telemetry webrtc websocket; do $(BIN)/python -m benchmarks.$$module --json; done

# Half an hour: calls under random faults, hostile inputs, and SIGTERM with calls of all kinds.
chaos: .venv/dev.stamp
	for module in chaos fuzz sigterm killed; do $(BIN)/python -m benchmarks.$$module --json || exit 1; done

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

# The JavaScript clients that tests call with: OpenAI's and Pipecat's. Node.js comes with the development extra.
js: $(JS)/node_modules/.package-lock.json

$(JS)/node_modules/.package-lock.json: $(JS)/package-lock.json | .venv/dev.stamp
	cd $(JS) && PATH="$(abspath $(BIN)):$$PATH" npm ci --silent --no-audit --no-fund
	@touch $@

# LiteLLM's proxy, which a test starts, in an environment of its own: its dependencies are not ours. They are pinned.
litellm: .venv/litellm.stamp

.venv/litellm.stamp: tests/services/remote/litellm.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/litellm
	.venv/litellm/bin/python -m pip install --quiet --no-deps --no-compile --requirement $<
	@touch $@

clean:
	rm -rf .venv $(JS)/node_modules $(DEMO) artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis
