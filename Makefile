# Set-up, the demo, the tests and the checks. `make help` lists the targets.

# Without bytecode every torch process starts tens of seconds later; some machines forbid it.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
ARGS ?=
# A process per core; tests of one file share its fixtures.
SIDE_BY_SIDE := --numprocesses=logical --dist=loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-slurm drills ui lint types imports definitions check lock peer \
	clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make both environments, or do nothing when they are up to date
	@sh environments/setup.sh

demo: setup  ## take the recipe "demo" from raw text to an evaluated, souped model
	@$(BIN)/olmo run demo

test: setup  ## run the tests but the slow ones; make test ARGS="-k checkpoint" runs some of them
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-all: setup  ## run the slow tests too, as every change must pass them
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not gpu and not slurm and not browser and not drill and not postgres" $(ARGS)

test-slurm: setup  ## the cluster tests, on a Slurm of three nodes brought up for them
	@$(BIN)/python -m pytest -m "slurm and not drill" tests/slurm $(ARGS)

drills: setup  ## every drill on that Slurm, with full counts, and the table of what was seen
	@$(BIN)/python -m pytest -m slurm tests/slurm $(ARGS)

ui: setup  ## open the Dagster UI over the same results
	@$(BIN)/olmo ui

lint: setup  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup  ## types, by pyright
	@$(BIN)/pyright --warnings

imports: setup  ## import-linter: who may import whom
	@$(BIN)/lint-imports

definitions: setup  ## load and validate the Dagster definitions
	@OLMO_SHOW=all DAGSTER_DISABLE_TELEMETRY=yes $(BIN)/dagster definitions validate -w workspace.yaml

check: lint types imports definitions  ## all of lint, types, imports, definitions

lock: setup  ## resolve the locked versions anew
	@$(BIN)/python -m environments.lock $(ARGS)

peer:  ## make the environment of ai2-olmo-core, which benchmarks compare with
	@sh environments/setup.sh peer

clean:  ## remove environments and caches; results stay
	@rm -rf .venv .venv-dolma .venv-peer .build .ruff_cache .pytest_cache .import_linter_cache ./*.egg-info
	@find . -path ./runs -prune -o -name __pycache__ -prune -exec rm -rf {} +
