# Two commands on a fresh machine: 'make demo' and 'make test'. 'make help' lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CPU_INDEX := https://download.pytorch.org/whl/cpu
# Where torch comes from: an index address, or 'default' for the one pip is set up with.
TORCH_INDEX ?= $(CPU_INDEX)
CONFIG ?= jobs/configs/demo.yaml
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
TEST_WORKERS ?= 2
CLUSTER_TESTS ?= tests

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.PHONY: demo
demo: $(STAMP) ## install, then simulate, train, find, classify and report at demo scale
	$(BIN)/python jobs/pipeline.py --config $(CONFIG)

# Beside other Ray clusters of the machine: only the head it starts is stopped.
.PHONY: cluster-demo
cluster-demo: $(STAMP) ## start a Ray head with a token, submit the demo to it, follow it, stop it
	$(BIN)/python scripts/cluster_demo.py --config $(CONFIG)

.PHONY: real
real: $(STAMP) ## the same chain on real photons above 50 GeV (needs the LAT files)
	$(BIN)/python jobs/pipeline.py --config jobs/configs/real_2fhl.yaml

.PHONY: test
test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_WORKERS) --dist loadgroup -m "not slow and not cluster"

.PHONY: test-cluster
test-cluster: $(STAMP) ## run the tests that start clusters and servers, and break them
	OMP_NUM_THREADS=1 $(BIN)/pytest -m cluster $(CLUSTER_TESTS)

.PHONY: lint
lint: $(STAMP) ## style, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p geminga
	$(BIN)/lint-imports

.PHONY: venv
venv: $(STAMP) ## make the environment in .venv

# One environment serves runs, tests and checks. torch goes first and without its dependencies, so
# that its own index is asked for nothing else.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "geminga needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
	    "name another: make venv PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make environments; install the module:" \
	    "apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if [ "$(TORCH_INDEX)" = default ]; then \
	  $(PIP) --no-deps torch; \
	elif [ "$(TORCH_INDEX)" = "$(CPU_INDEX)" ]; then \
	  $(PIP) --no-deps --retries 0 --timeout 10 --index-url $(CPU_INDEX) torch || { \
	    echo "No torch at $(CPU_INDEX): taking it from pip's own index instead."; \
	    $(PIP) --no-deps torch; }; \
	else \
	  $(PIP) --no-deps --index-url $(TORCH_INDEX) torch; \
	fi
	$(PIP) --editable '.[dev]'
	@touch $@

.PHONY: clean
clean: ## remove caches and build products; results in out/ and .venv stay
	rm -rf build dist platform/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find platform jobs tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
