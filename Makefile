.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
SERVICE ?= execution
N ?= 1000
JOBS ?= 2
export LITELLM_LOCAL_MODEL_COST_MAP := True
export AGNO_TELEMETRY := false
export UV_PYTHON_DOWNLOADS := never
INSTALLED := .venv/.installed

.PHONY: help install proto format lint breaking fresh gate test demo up bench drill migrate check clean

help: ## Print this.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): uv.lock pyproject.toml
	@echo "installing into .venv (once)"
	@uv=$$(PYTHON=$(PYTHON) tools/uv.sh) && sync="$$uv sync --frozen --quiet --compile-bytecode --python $(PYTHON)" && \
	{ $$sync || { echo "trying again with this system's certificates" && $$sync --system-certs; }; }
	@touch $@

install: $(INSTALLED) ## Make the virtual environment from the lock.

demo: $(INSTALLED) ## Start the suite, create an agent, stream a run of it, stop.
	@$(BIN)/dynamic-agents demo

up: $(INSTALLED) ## Start the suite on embedded defaults; Ctrl-C stops it.
	@$(BIN)/dynamic-agents up

test: $(INSTALLED) ## Run the tests; those that need PostgreSQL or Go only where they are (see tests/conftest.py).
	$(BIN)/pytest -q -n $(JOBS) --dist loadfile --cov --cov-report=term:skip-covered

check: $(INSTALLED) lint breaking fresh gate ## Lint, types, import rules, contracts, fresh gen/, counts. Needs Go.

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	tools/fetch-proto.sh
	$(BIN)/buf format -d --exit-code proto
	$(BIN)/buf lint

breaking: $(INSTALLED) ## Compare the contracts with main's (or BASE=<revision>).
	tools/breaking.sh $(BASE)

fresh: $(INSTALLED) ## Check that gen/ is what proto/ says.
	tools/generate.sh .cache/gen
	diff -r -x __pycache__ gen/python .cache/gen/python
	diff -r gen/go/dynamicagents .cache/gen/go/dynamicagents

proto: $(INSTALLED) ## Write gen/ from proto/. Needs Go.
	tools/generate.sh

format: $(INSTALLED) ## Format Python and contracts.
	$(BIN)/ruff check --fix -q .
	$(BIN)/ruff format .
	$(BIN)/buf format -w proto

bench: $(INSTALLED) ## Measure against baselines: make bench ONLY=execution QUICK=1; figures go to .cache/bench.json and .md.
	$(BIN)/python -m bench --save .cache/bench.json $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

gate: $(INSTALLED) ## Count what the hot paths do; UPDATE=1 writes bench/gate/budgets.toml.
	@$(BIN)/python -m bench gate $(if $(UPDATE),--update)

drill: $(INSTALLED) ## Kill Execution mid-run until N=1000 runs were hit. Needs DYNAMIC_AGENTS_TEST_POSTGRES.
	DYNAMIC_AGENTS_TEST_KILLS=$(N) $(BIN)/pytest -q tests/suite/test_kill_drill.py

migrate: $(INSTALLED) ## Bring the configured databases to this version's schema.
	$(BIN)/dynamic-agents migrate

clean: ## Remove what the other targets made.
	rm -rf .venv .cache .dynamic-agents .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
