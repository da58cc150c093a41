# Every task of the project; `make` alone lists them. All of them run in .venv, built from requirements.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A file's tests stay together, for they share servers.
WORKERS := --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-all soak lint types bench docs proto lock

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP)  ## build .venv with everything, from the lock file

demo: setup  ## start a server with a market that ticks
	$(BIN)/flightsql-server serve --demo

serve: setup  ## start a server on ./flightsql-data
	$(BIN)/flightsql-server serve

test: setup lint types  ## run the test suite
	$(BIN)/python -m pytest -m "not slow" $(WORKERS)

test-all: setup  ## run the long and heavy tests
	FULL=1 $(BIN)/python -m pytest -m "slow or scaled" $(WORKERS)

soak: setup  ## run under load for ten minutes and watch memory
	$(BIN)/python benchmarks/soak.py

lint: setup  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## check types
	$(BIN)/mypy

bench: setup  ## measure against DuckDB in process and a bare Flight server
	$(BIN)/python benchmarks/run.py

docs: setup  ## write the generated reference pages and dashboards anew
	$(BIN)/python -m tests.reference_pages
	$(BIN)/python grafana/dashboards.py

proto: setup  ## write the generated protocol code anew
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. \
		flightsql_server/protocol/flight.proto flightsql_server/protocol/flight_sql.proto

lock: setup  ## resolve the versions of requirements.lock anew (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
		--extra dev --output-file requirements.lock pyproject.toml
