# Every command people and CI use. Python wheels only: no Docker, no root, no compiler.
PYTHON ?= python3
BIN = .venv/bin
DATA ?= .cloudmetrics
ARGS ?=
RUNTIME_DONE = .venv/.runtime-installed
DEV_DONE = .venv/.dev-installed
BENCH_DONE = .venv/.bench-installed
NODE_DONE = tests/clients/node_modules/.installed
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: help install up services test quick faults bench check schema lock
help: ## show these lines
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 20

install: $(RUNTIME_DONE) ## install what running needs into .venv

up: $(RUNTIME_DONE) ## start everything of the embedded size (ARGS="--port 8001", DATA=folder)
	@$(BIN)/python -m cloudmetrics up --data "$(DATA)" $(ARGS)

services: $(RUNTIME_DONE) ## start Apache Kafka, fetch TimescaleDB, for trying the larger sizes
	@$(BIN)/python -m cloudmetrics services --data "$(DATA)" $(ARGS)

test: $(DEV_DONE) $(BENCH_DONE) $(NODE_DONE) ## install and run all tests, on real servers
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile $(ARGS)

quick: $(DEV_DONE) $(BENCH_DONE) ## the fast tests, under a minute
	@$(BIN)/python -m pytest -q -m "not slow" $(ARGS)

faults: $(DEV_DONE) ## strike a running installation with every fault, ten times each: over an hour (ARGS="--runs 1 --resume")
	@$(BIN)/python -m tests.faults --out .faults $(ARGS)

check: $(DEV_DONE) $(BENCH_DONE) $(NODE_DONE) ## lint, types, import contract, drift of the schema's text, breaking changes of it
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m schema.build | diff -u schema/schema.graphql - || { echo 'schema/schema.graphql is not current: run make schema'; exit 1; }
	@$(BIN)/python -m schema reference --check
	@cd tests/clients && node_modules/.bin/graphql-inspector diff ../../schema/released.graphql ../../schema/schema.graphql --rule ./declared.cjs > .schema-diff 2>&1 \
	  || { cat .schema-diff; echo 'The schema breaks clients of the last release: undo it, or declare each change in CHANGELOG.md under Unreleased, as - Breaking: Type.field why'; exit 1; }
	@$(BIN)/python -m pytest -q tests/architecture

bench: $(DEV_DONE) $(BENCH_DONE) $(NODE_DONE) ## ours beside peers and limits, on this machine (ARGS="I1 P1 --rounds 7")
	@$(BIN)/python -m bench $(ARGS)

schema: $(RUNTIME_DONE) ## print the GraphQL schema into schema/schema.graphql, and the reference into docs/api/
	@$(BIN)/python -m schema.build > schema/schema.graphql
	@$(BIN)/python -m schema reference

lock: $(DEV_DONE) ## resolve the dependencies of pyproject.toml anew into locks/
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile -q pyproject.toml --group embedded --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -o locks/runtime.txt
	@$(BIN)/uv pip compile -q pyproject.toml --group embedded --group dev -c locks/runtime.txt --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -o locks/dev.txt
	@$(BIN)/uv pip compile -q pyproject.toml --group embedded --group dev --group bench -c locks/dev.txt --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -o locks/bench.txt

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "CloudMetrics needs Python 3.11 to 3.13; say which with: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv .venv || { echo 'This Python cannot make a venv: install its venv package (Debian: python3-venv).'; rm -rf .venv; exit 1; }

$(RUNTIME_DONE): locks/runtime.txt | .venv/bin/python
	@echo 'installing (about half a minute) ...'
	@$(PIP) -r locks/runtime.txt
	@touch $@

$(DEV_DONE): locks/dev.txt | .venv/bin/python
	@echo 'installing the tests'\'' packages ...'
	@$(PIP) -r locks/dev.txt
	@touch $@

$(BENCH_DONE): locks/bench.txt $(DEV_DONE)
	@echo 'installing what the benchmarks compare with ...'
	@$(PIP) -r locks/bench.txt
	@touch $@

$(NODE_DONE): tests/clients/package-lock.json
	@echo 'installing the stock JavaScript clients ...'
	@cd tests/clients && npm ci --silent --no-audit --no-fund
	@touch $@
