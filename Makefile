# Everything needs Python 3.11 or newer with its venv module, and make; the rest is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help up down reset status test bench bench-peers faults lint format types proto check lock clean

help: ## list every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/.run ## start a control plane in the background and get yourself a certificate
	@$(BIN)/keyreeve up

down: ## stop it; nothing is lost
	@test ! -x $(BIN)/keyreeve || $(BIN)/keyreeve down

status: $(VENV)/.run ## say what runs, where, and who you are
	@$(BIN)/keyreeve status

reset: ## stop it and delete it with all its keys (asks, unless FORCE=1)
	@test ! -x $(BIN)/keyreeve || $(BIN)/keyreeve reset

# Faults wait for half of their time, for disks and for processes that start.
FAULTS_AT_ONCE ?= $(shell echo $$(($$(nproc) * 2)))

test: $(VENV)/.dev ## run all tests but the faults, on SQLite and PostgreSQL
	@$(BIN)/python -m pytest -n auto $(ARGS)

faults: $(VENV)/.dev ## kill, freeze, load and tamper: 20 kills on each database (KILLS=1: what CI does)
	@$(if $(filter 1,$(KILLS)),,KEYREEVE_KILLS=$(or $(KILLS),20)) $(BIN)/python -m pytest -n $(FAULTS_AT_ONCE) \
		-m "faults$(if $(filter 1,$(KILLS)), and not thorough)" $(ARGS)

bench: $(VENV)/.dev ## measure the signing path on SQLite and PostgreSQL (ARGS="--duration 10 --runs 5 --compare cfssl")
	@PATH="$(CURDIR)/.bench/bin:$$PATH" $(BIN)/python -m keyreeve_bench.standard $(ARGS)

bench-peers: ## build cfssl and step-ca into .bench/bin, to be compared with (needs Go)
	@GOBIN="$(CURDIR)/.bench/bin" GOTOOLCHAIN=local go install github.com/cloudflare/cfssl/cmd/cfssl@v1.6.5
	@GOBIN="$(CURDIR)/.bench/bin" GOTOOLCHAIN=local CGO_ENABLED=0 go install github.com/smallstep/certificates/cmd/step-ca@v0.30.2

lint: $(VENV)/.dev ## check style, and the rules between rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: $(VENV)/.dev ## check types
	@$(BIN)/mypy sdk services bench

proto: $(VENV)/.dev ## generate the stubs and the blocking client anew
	@tools/generate-stubs
	@$(BIN)/python tools/generate-blocking

check: $(VENV)/.dev ## check everything but the tests: lint, types, contract, generated files, documents, migrations
	@tools/check

lock: ## choose the newest releases of all dependencies and lock them with their hashes
	@PYTHON=$(PYTHON) tools/lock

clean: ## remove the environment and caches (not .keyreeve)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# The stamps hold what is installed: a changed lock or pyproject.toml installs again, anything else does not.
$(VENV)/.run: requirements/run.txt pyproject.toml
	@PYTHON=$(PYTHON) tools/install run

$(VENV)/.dev: requirements/dev.txt pyproject.toml
	@PYTHON=$(PYTHON) tools/install dev
