# The project's one set of commands. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
SEEDS ?= 10000
ROUNDS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup infra run run-kafka test check lint types contracts tidy servers tests test-kafka test-s3 kills simulate faults bench lock clean

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv with everything the project needs

# Compiled here, or every operator would compile itself at each of its starts where Python is told
# not to write bytecode.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cannot set up: $(PYTHON) is older than 3.11; run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q operators sda_pipeline supervisor
	@touch $(READY)

infra: setup ## fetch real Kafka, S3 and fault proxy, once, into a cache outside the repository
	@$(BIN)/python -m tests.servers fetch

# The same before all tests: outside CI what cannot be had is named, and its tests skip.
servers: setup
	@$(BIN)/python -m tests.servers fetch --optional

run: setup ## start the pipeline on synthetic traffic and watch alerts arrive (Ctrl-C drains)
	@$(BIN)/sda-supervisor demo topology.yaml

run-kafka: infra ## the same on a real Kafka and a real S3 store of this machine
	@$(BIN)/python -m tests.servers run --directory run-kafka/servers --topic sda.obs.radar \
	  --topic sda.obs.optical --topic sda.obs.isl -- $(BIN)/python -m tests.servers.kafka_demo run-kafka

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

tests: setup servers
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal --ignore=tests/repo -m "not slow"

test-kafka: infra ## the tests on a real Apache Kafka
	$(BIN)/pytest -q -m kafka tests

test-s3: infra ## the tests on a real S3 server
	$(BIN)/pytest -q -m s3 tests

kills: setup servers ## the slow tests: one kill per run, in every gap of every operator
	$(BIN)/pytest -q -n $(JOBS) -m slow tests

simulate: setup ## run SEEDS=10000 deterministic schedules of the whole chain under faults
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS)

faults: setup ## inject every class of fault under traffic; a table of what each cost
	@$(BIN)/python -m tests.faults --rounds $(ROUNDS)

bench: setup ## measure throughput, latency, pauses, restarts; writes build/bench.json
	@$(BIN)/python -m tests.bench

lock: ## pin what is installed now (after changing dependencies)
	$(BIN)/python -m pip freeze --exclude-editable --all | grep -v '^pip==' > requirements.lock

clean: ## remove the environment and the demo's state
	rm -rf $(VENV) build run run-kafka
