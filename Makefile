# All commands for developers. `make setup` needs only python3; the rest runs inside .venv.

VENV := .venv
BIN := $(VENV)/bin
# uv has its own environment, because `uv sync` removes packages that are not in the lock file.
UV := $(VENV)/bootstrap/bin/uv
# Prefer the distribution's interpreter: it is built with profile-guided optimization and runs the server about 20 %
# faster than one without (docs/adr/0051-optimized-python-interpreter.md).
PYTHON ?= $(shell for each in /usr/bin/python3 python3; do \
	"$$each" -c 'import sqlite3, ssl, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo "$$each" && break; done)
IMAGE ?=
SIGNING_KEY ?=
# Tests start hundreds of processes, which take half the time with cached bytecode.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup packages check format reference docs test e2e full screenshots conformance fuzz soak game-day demo bench audit release clean

help: ## Show this list
	@if [ -t 1 ]; then bold=$$(printf '\033[1m'); plain=$$(printf '\033[0m'); fi; \
	awk -F ':.*## ' -v b="$$bold" -v p="$$plain" \
		'/^[a-z0-9-]+:.*## / { printf "  %smake %-11s%s %s\n", b, $$1, p, $$2 }' $(MAKEFILE_LIST)

$(UV):
	$(or $(PYTHON),$(error there is no Python of version 3.11 or later)) -m venv --without-pip $(VENV)
	@echo "Installing the packages of uv.lock in $(VENV)"
	python3 -m venv $(VENV)/bootstrap
	$(VENV)/bootstrap/bin/pip install --quiet 'uv>=0.9'

# Go and Node.js are large: only the targets that need them install them, and `make setup` then keeps them.
QUIET := --quiet
SYNC = $(UV) sync --locked $(QUIET) --python $(BIN)/python

setup: $(UV) ## Create .venv with all packages of uv.lock
	@$(SYNC) $(if $(wildcard $(BIN)/go),--group tools)

check: setup ## Lint, formatting, types, import contracts, lock file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(UV) lock --check --quiet
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m tools.audit

audit: setup ## Known vulnerabilities of all locked packages; asks the OSV database
	$(BIN)/python -m tools.audit
	$(UV) audit --locked

release: setup ## Build wheel, source archive, chart, image and bill of materials in dist/; SIGNING_KEY=FILE signs them
	@$(BIN)/python -m tools.versions $(if $(SIGNING_KEY),--dated) >/dev/null
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(UV) build --quiet --clear --no-build-logs \
		--build-constraints tools/build-constraints.txt --require-hashes
	$(BIN)/python -m tools.sbom >dist/crisper.cdx.json
	version=$$($(BIN)/python -m tools.versions) && BIN=$(BIN) sh tools/release.sh "$$version" $(SIGNING_KEY)

reference: setup ## Generate docs/reference/ from the code
	$(BIN)/python -m docs.generate

docs: setup ## Build the documentation site in build/docs; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: setup ## Format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

packages: setup
	@.ci/packages
	@$(SYNC) --group tools
	@$(BIN)/python -m tests.support.built_programs >/dev/null

test: setup packages ## Unit, contract and integration tests
	$(BIN)/pytest -m "not e2e and not full" -n 3 --dist loadfile $(ARGS)

e2e: setup packages ## Real Docker, containerd, Podman and skopeo against a real server (root)
	$(BIN)/pytest -m "e2e and not full" tests/e2e -n 2 --dist loadfile $(ARGS)

full: setup packages ## Tests that are too slow for continuous integration (root)
	@.ci/packages debootstrap etcd-server
	$(BIN)/pytest -m full --timeout=3600 $(ARGS)

screenshots: setup packages ## Update the pictures of the portal in docs/screenshots/
	@.ci/packages pngquant
	$(BIN)/python -m tools.portal_screenshots

conformance: setup packages ## The OCI's own suite, read-only; writes docs/conformance.txt
	$(BIN)/python -m tests.conformance

fuzz: setup ## Fuzz the container format for 20 seconds; SECONDS=600 for longer
	$(BIN)/python -m tests.fuzz.container -max_total_time=$(or $(SECONDS),20) -verbosity=0 -print_final_stats=1

soak: setup ## Long tests: 100 rounds of collection during imports and pulls, 200 kills during writes
	$(BIN)/python -m tools.collection_soak $(or $(ROUNDS),100)
	CRISPER_TEST_KILLS=$(or $(KILLS),200) $(BIN)/pytest -q --timeout=1800 tests/integration/storage/test_crashes.py

game-day: setup packages ## Kill a random part every 10 s for 30 minutes; SECONDS=300, CLIENTS=64, SEED=1 (root)
	$(BIN)/python -m tools.game_day --seconds $(or $(SECONDS),1800) --clients $(or $(CLIENTS),64) --seed $(or $(SEED),1)

demo: QUIET :=
demo: setup ## Import, mint, pull and refusals in one minute; IMAGE=docker.io/library/alpine:3 imports that image
	@$(BIN)/python deploy/demo.py $(IMAGE) $(if $(LOGIN),--login $(LOGIN)) $(if $(INSECURE),--insecure) $(if $(KEEP),--keep)

bench: setup packages ## Measure everything beside peers (an hour); writes bench/results/, docs/performance.md, README
	@.ci/packages wrk
	$(BIN)/python -m bench.pull --tls
	$(BIN)/python -m bench.offload
	$(BIN)/python -m bench.manifests
	$(BIN)/python -m bench.whole_pull
	$(BIN)/python -m bench.import_vs_skopeo
	$(BIN)/python -m bench.pull_while_compressing
	$(BIN)/python -m bench.redemptions --outstanding 1000000
	$(BIN)/python -m bench.storage
	$(BIN)/python -m bench.slow_clients
	$(BIN)/python -m bench.rolling_restart
	$(BIN)/python -m bench.soak
	$(BIN)/python -m bench.import_serve_memory
	$(BIN)/python -m bench.fleet
	$(BIN)/python -m bench.readme

clean: ## Remove .venv, caches and build output
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
