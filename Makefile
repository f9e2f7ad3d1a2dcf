# The project's one set of commands. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
SEEDS ?= 10000

.DEFAULT_GOAL := help
.PHONY: help setup infra run test check lint types contracts tidy tests kills simulate bench lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv with everything the project needs

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cannot set up: $(PYTHON) is older than 3.11; run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

infra: setup ## fetch real Kafka, S3 and fault proxy into a cache outside the repository
	@$(BIN)/python -m tests.servers fetch

run: setup ## start the pipeline on synthetic traffic and watch alerts arrive (Ctrl-C drains)
	@$(BIN)/sda-supervisor demo topology.yaml

test: setup check ## set up, then everything `make check` runs

check: lint types contracts tidy tests ## lint, types, contracts, house rules, tests

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

tidy: setup
	$(BIN)/pytest -q tests/repo

tests: setup
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal --ignore=tests/repo -m "not slow"

kills: setup ## the slow tests: one kill per run, in every gap of every operator
	$(BIN)/pytest -q -n $(JOBS) -m slow tests

simulate: setup ## run SEEDS=10000 deterministic schedules of the whole chain under faults
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS)

bench: setup ## measure throughput, latency, pauses, restarts; writes build/bench.json
	@$(BIN)/python -m tests.bench

lock: ## pin what is installed now (after changing dependencies)
	$(BIN)/python -m pip freeze --exclude-editable --all | grep -v '^pip==' > requirements.lock

clean: ## remove the environment and the demo's state
	rm -rf $(VENV) build run
