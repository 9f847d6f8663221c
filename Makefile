# Every target does its own set-up, once. A bare machine needs Python 3.11 or later, make and git,
# and Go where Temporal's own download is out of reach.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
UV_VERSION := 0.13.9
BIN := .venv/bin
READY := .venv/ready
BENCH_READY := .venv/ready-bench
SOURCES := $(wildcard trading workflows activities workers tests bench docs)
PACKAGES := $(wildcard trading workflows activities workers tests bench)

# The tests wait more than they compute: a file goes to whichever process is free.
SHARED_OUT := --numprocesses=auto --maxprocesses=4 --dist=loadfile
# On a busy machine of the CI a failed test has one more try; it is listed as rerun, to be mended.
# Python 3.11 itself may fail where pytest parses the source for a failure's report (SystemError in
# ast.parse), which would end the run without a word on what failed: native tracebacks parse nothing.
SHARED_OUT += $(if $(CI),--reruns=1 --rerun-show-tracebacks -raR --tb=native)

# Arguments for the program behind a target, as in `make test ARGS="-k cancel"`.
ARGS ?=

# What `make chaos` does: so many orders in so many minutes, planned by the seed, on this store.
ORDERS ?= 200
SEED ?= 1
MINUTES ?= 1
STORE ?= sqlite

.PHONY: help demo up test test-fast conformance chaos lint format bench clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## Start everything, trade on the sandbox exchange, show what happened, stop
	@$(BIN)/oms demo $(ARGS)

up: $(READY) ## Start everything and leave it running until Ctrl-C
	@$(BIN)/oms up $(ARGS)

test: $(READY) ## Run all tests and measure their coverage (with ARGS: the chosen ones only)
	@echo "== tests: SQLite, PostgreSQL and Temporal are real; this takes minutes"
	@$(BIN)/pytest $(if $(ARGS),$(ARGS),$(SHARED_OUT) --durations=25 --cov --cov-report=term)

test-fast: $(READY) ## Run the tests of the pure domain only; takes seconds
	@$(BIN)/pytest tests/oms -m "not temporal" $(ARGS)

conformance: $(READY) ## Run the cards a connector must pass and keep their record: EXCHANGE=binance
	@[ -n "$(EXCHANGE)" ] || { echo "EXCHANGE is missing, as in: make conformance EXCHANGE=binance" >&2; exit 1; }
	@OMS_CONFORMANCE="$(EXCHANGE)" $(BIN)/pytest tests/conformance $(ARGS)

chaos: $(READY) ## Trade while everything breaks, then compare all books: ORDERS= SEED= MINUTES= STORE=
	@$(BIN)/python -W ignore -m tests.chaos.harness --orders $(ORDERS) --seed $(SEED) \
	  --minutes $(MINUTES) --store $(STORE) $(ARGS)

lint: $(READY) ## Check the format (Ruff), the rules (Ruff) and the types (mypy)
	@echo "== format";  $(BIN)/ruff format --check $(SOURCES)
	@echo "== rules";   $(BIN)/ruff check $(SOURCES)
	@echo "== types";   $(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	@$(BIN)/mypy docs/examples

format: $(READY) ## Format the code and mend what Ruff can mend
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

bench: $(BENCH_READY) ## Measure throughput and latency on this machine
	@$(BIN)/python -m bench $(ARGS)

clean: ## Remove the environment and what runs have left behind
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock Makefile
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or later is needed and was not found." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version)." >&2; exit 1; }
	@echo "== set-up: a Python environment in .venv, from uv.lock"
	@[ -x $(BIN)/pip ] || "$(PYTHON)" -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv sync --frozen --inexact
	@touch $@

$(BENCH_READY): $(READY)
	@echo "== set-up: what the benchmark compares with"
	@$(BIN)/uv sync --frozen --inexact --group bench
	@touch $@
