# Requires Linux, make, and Python 3.11 or newer with its venv module; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: image chart-e2e help up down reset status test attacks faults-membership bench bench-vault bench-verbs bench-baselines faults faults-timed interop servers fuzz golden-update lint format types proto check lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/.run ## start a control plane in the background and issue yourself an admin certificate
	@$(BIN)/keyreeve up

down: ## stop the control plane; its data is kept
	@test ! -x $(BIN)/keyreeve || $(BIN)/keyreeve down

status: $(VENV)/.run ## show what runs, where, and your identity
	@$(BIN)/keyreeve status || [ $$? -le 3 ]  # what it prints says it all; make would add a line of its own

reset: ## stop the control plane and delete it with all its keys (asks, unless FORCE=1)
	@test ! -x $(BIN)/keyreeve || $(BIN)/keyreeve reset || [ $$? -eq 130 ]  # 130: the question was not answered with yes

# Tests wait half of their time for disks and process starts.
AT_ONCE ?= $(shell echo $$(($$(nproc) * 2)))

test: $(VENV)/.dev ## run all tests except the faults, on SQLite and PostgreSQL (ARGS="-k name")
	@$(BIN)/python -m pytest -n $(AT_ONCE) --dist worksteal $(ARGS)

faults faults-timed: KILLED = $(if $(filter 1,$(KILLS)),,KEYREEVE_KILLS=$(or $(KILLS),20))
faults faults-timed: SHORT = $(if $(filter 1,$(KILLS)), and not thorough)
faults: $(VENV)/.dev ## run the fault tests, 20 kills on each database (KILLS=1: the short form that CI runs)
	@$(KILLED) $(BIN)/python -m pytest -n $(AT_ONCE) --dist worksteal -m "faults and not timed$(SHORT)" $(ARGS)

faults-timed: $(VENV)/.dev ## run the fault tests that have limits of time, one at a time (KILLS=1: the short form that CI runs)
	@$(KILLED) $(BIN)/python -m pytest -m "faults and timed$(SHORT)" $(ARGS)

faults-membership: $(VENV)/.dev ## kill every process at every failpoint of membership's changes, on both databases
	@KEYREEVE_KILLS=$(or $(KILLS),1) KEYREEVE_ROTATION_EXAMPLES=200 KEYREEVE_CHANGES=50 KEYREEVE_AGENTS=10 \
		$(BIN)/python -m pytest -n $(AT_ONCE) -m "faults or slow" tests/integration/membership \
		tests/e2e/test_kills_during_changes.py tests/e2e/test_agents_at_random.py $(ARGS)

attacks: $(VENV)/.dev ## run the attacks in their long form and print a table (ATTACK_SECONDS=8)
	@KEYREEVE_ATTACK_TABLE=1 KEYREEVE_ATTACK_SECONDS=$(or $(ATTACK_SECONDS),8) $(BIN)/python -m pytest -p no:randomly -q \
		-m "faults or not faults" $(or $(ARGS),tests/attacks)

bench: $(VENV)/.dev ## measure the signing path (ARGS="--duration 10 --runs 5 --compare cfssl")
	@PATH="$(CURDIR)/.bench/bin:$$PATH" $(BIN)/python -m keyreeve_bench.standard $(ARGS)

bench-vault: $(VENV)/.dev ## measure a filled vault (ARGS="--entries 1000000 --database postgresql --duration 10")
	@$(BIN)/python -m keyreeve_bench.vault $(ARGS)

bench-verbs: $(VENV)/.dev ## measure what legacy verbs cost over their RPCs (ARGS="--times 100")
	@$(BIN)/python -m keyreeve_bench.verbs $(ARGS)

bench-baselines: ## build cfssl and step-ca into .bench/bin for --compare (needs Go)
	@GOBIN="$(CURDIR)/.bench/bin" GOTOOLCHAIN=local go install github.com/cloudflare/cfssl/cmd/cfssl@v1.6.5
	@GOBIN="$(CURDIR)/.bench/bin" GOTOOLCHAIN=local CGO_ENABLED=0 go install github.com/smallstep/certificates/cmd/step-ca@v0.30.2

interop: $(VENV)/.dev ## run clients of other implementations against this server, and write docs/interoperability.md (needs npm and Maven)
	@tools/interop all

servers: $(VENV)/.dev ## run real servers and clients with the product's files, and write docs/servers.md
	@KEYREEVE_WRITE_TABLES=1 $(BIN)/python -m pytest -q -p no:randomly -m faults tests/e2e/programs $(ARGS)

golden-update: $(VENV)/.dev ## play the transcripts of the legacy commands, store what happens, and show the difference
	@KEYREEVE_UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/unit/gateway/test_golden_transcripts.py; git diff --stat -p tests/golden

fuzz: $(VENV)/.dev ## send random frames to this server's HTTP/2, a million connections (INPUTS=1000000 SEED=1 ENGINE=ngh2)
	@PYTHONPATH=tests $(BIN)/python -m support.http2_fuzzer --inputs $(or $(INPUTS),1000000) --seed $(or $(SEED),1) --engine $(or $(ENGINE),ngh2)

image: ## build the container image with buildah, podman or docker (IMAGE=name:tag)
	@tools/image build $(IMAGE)

chart-e2e: $(VENV)/.dev ## install the chart on the cluster of KUBECONFIG, test it, and remove it (ARGS="--set image.tag=1")
	@$(BIN)/python tools/chart-e2e $(ARGS)

lint: $(VENV)/.dev ## check style and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: $(VENV)/.dev ## check types
	@$(BIN)/mypy sdk services agent gateway bench

proto: $(VENV)/.dev ## regenerate the stubs and the blocking client
	@tools/generate-stubs
	@$(BIN)/python tools/generate-blocking

check: $(VENV)/.dev ## run all checks except the tests: lint, types, contract, generated files, words
	@tools/check

lock: ## update all dependencies and lock them with hashes
	@PYTHON=$(PYTHON) tools/lock

clean: ## remove .venv and caches (not .keyreeve)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# The stamps record the last installation: only a changed lock or pyproject.toml installs again.
$(VENV)/.run: requirements/run.txt pyproject.toml
	@PYTHON=$(PYTHON) tools/install run

$(VENV)/.dev: requirements/dev.txt pyproject.toml
	@PYTHON=$(PYTHON) tools/install dev
