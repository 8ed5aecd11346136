# `make` lists what there is. What a target needs is set up on the first run, and again only when it has changed:
# the stamp files in .venv say what is done.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml $(wildcard Cargo.lock)

export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
export VIRTUAL_ENV := $(abspath $(VENV))
export PYO3_PYTHON := $(abspath $(PYTHON))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/built ## Run the demo page on port 5000 (PORT=8000 for another)
	@PORT=$(or $(PORT),5000) $(PYTHON) examples/demo/app.py

.PHONY: test
test: lint test-rust test-python ## Run every check and every test

.PHONY: bench
bench: $(VENV)/built ## Run the benchmarks (QUICK=1 for a short run)
	$(PYTHON) -m benchmarks $(if $(QUICK),--quick)

.PHONY: lint
lint: $(VENV)/built ## Check format, style and types
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy --strict
	$(PYTHON) -m mypy.stubtest hypern._hypern $(addprefix --allowlist ,$(wildcard tests/stubtest-allowlist.txt))

.PHONY: test-rust
test-rust: $(VENV)/rust ## Run the tests of the Rust core
	cargo test --locked -p hypern-core

.PHONY: test-python
test-python: $(VENV)/built $(VENV)/browser $(VENV)/eventsource ## Run the tests of the Python package, with their coverage
	$(PYTHON) -m coverage run -m pytest
	$(PYTHON) -m coverage report

.PHONY: format
format: $(VENV)/requirements $(VENV)/rust ## Format the code and mend what can be mended
	cargo fmt --all
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

.PHONY: build
build: $(VENV)/built ## Build the extension module into .venv

.PHONY: lock
lock: $(VENV)/requirements ## Pin the newest versions of what development needs
	$(PYTHON) -m pip install --quiet uv
	$(PYTHON) -m uv pip compile pyproject.toml --group dev --extra testing --universal --python-version 3.10 \
		--upgrade --no-annotate --no-header --quiet --output-file requirements-dev.txt

.PHONY: clean
clean: ## Remove everything that was built or installed here
	rm -rf $(VENV) target tests/eventsource/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find python tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	rm -f python/hypern/_hypern.*.so

# ---- What the targets above stand on ----

$(VENV)/created:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed" >&2; exit 1; }
	python3 -c 'import ensurepip' 2>/dev/null || scripts/install-packages python3-venv
	python3 -m venv --clear $(VENV)
	touch $@

$(VENV)/requirements: requirements-dev.txt $(VENV)/created
	# maturin has pip install the dependency groups, which it can since 25.1.
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

$(VENV)/rust: $(VENV)/created
	command -v cc >/dev/null || scripts/install-packages gcc libc6-dev
	scripts/install-rust
	touch $@

# An optimized build, for the demo, the tests and the benchmarks alike: so there is one to wait for.
$(VENV)/built: $(RUST_SOURCES) pyproject.toml $(VENV)/requirements $(VENV)/rust
	$(PYTHON) -m maturin develop --release --locked
	touch $@

$(VENV)/browser: $(VENV)/created
	command -v chromium >/dev/null || scripts/install-packages chromium
	command -v chromedriver >/dev/null || scripts/install-packages chromium-driver
	touch $@

# The EventSource client of npm: a second opinion on what a browser makes of our streams. Its version 3 is the last that
# runs on Debian 12's Node.js.
$(VENV)/eventsource: tests/eventsource/package-lock.json $(VENV)/created
	command -v node >/dev/null || scripts/install-packages nodejs
	command -v npm >/dev/null || scripts/install-packages npm
	npm ci --prefix tests/eventsource --no-audit --no-fund --loglevel=error
	touch $@
