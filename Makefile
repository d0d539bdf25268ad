# The project's commands. `make help` lists them.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
N ?= 3
# Most tests wait rather than compute, so that two cores have enough to do with this many of them at a time.
TEST_WORKERS ?= 3

.PHONY: help dev check lint types test molecule sanity lab bench build docs clean

help: ## List these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

dev: $(VENV)/.ugro-dev ## Set up .venv with everything for development

$(VENV)/.ugro-dev: pyproject.toml requirements/constraints.txt bin/setup-venv bin/dev-collection
	bin/setup-venv train dev
	touch $@

lint: dev ## ruff, yamllint, ansible-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline

types: dev ## mypy --strict on ugro_py
	$(BIN)/mypy

check: lint types ## All linters and types

test: dev ## All tests: unit, contract, integration on the lab where it can run
	$(BIN)/pytest -n $(TEST_WORKERS)

molecule: dev ## Every role against real hosts (root on Linux)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python molecule/run_all.py

sanity: dev ## ansible-test sanity on a real copy of the collection
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/sanity/run

lab: dev ## Boot N real systemd hosts to play with: make lab N=3 (root on Linux)
	$(BIN)/python -m tests.lab up $(N)

bench: dev ## Measure on the lab; writes benchmarks/out/results.json
	$(BIN)/python -m benchmarks

build: dev ## Wheel, sdist and collection tarball into dist/
	$(BIN)/pyproject-build --outdir dist
	$(BIN)/ansible-galaxy collection build --force --output-path dist

docs: dev ## Regenerate the reference pages of docs/ from the code
	$(BIN)/python -m docs.generate

clean: ## Remove what builds and tests made here (not .venv)
	rm -rf dist build benchmarks/out .pytest_cache .mypy_cache .ruff_cache
