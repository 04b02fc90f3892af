# Everything a developer runs. `make setup` needs python3 alone; the rest runs inside .venv.

VENV := .venv
BIN := $(VENV)/bin
# uv lives apart from the project's packages, so that `uv sync` may remove whatever is not in the lock.
UV := $(VENV)/bootstrap/bin/uv
# The distribution's interpreter where it will do: built with profiles, it runs the server a fifth faster than
# one that was built without (docs/adr/0183-an-optimized-interpreter.md).
PYTHON ?= $(shell for each in /usr/bin/python3 python3; do \
	"$$each" -c 'import sqlite3, ssl, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo "$$each" && break; done)
IMAGE ?=

.DEFAULT_GOAL := help
.PHONY: help setup packages check format reference docs test e2e screenshots conformance fuzz soak demo bench clean

help: ## Show this list
	@if [ -t 1 ]; then bold=$$(printf '\033[1m'); plain=$$(printf '\033[0m'); fi; \
	awk -F ':.*## ' -v b="$$bold" -v p="$$plain" \
		'/^[a-z0-9-]+:.*## / { printf "  %smake %-11s%s %s\n", b, $$1, p, $$2 }' $(MAKEFILE_LIST)

$(UV):
	$(or $(PYTHON),$(error there is no Python of version 3.11 or later)) -m venv --without-pip $(VENV)
	python3 -m venv $(VENV)/bootstrap
	$(VENV)/bootstrap/bin/pip install --quiet 'uv>=0.9'

# Go and Node.js are large: they come with the first target that drives programs built with them, and stay.
SYNC = $(UV) sync --locked --quiet --python $(BIN)/python

setup: $(UV) ## Make .venv with the packages that uv.lock names
	@$(SYNC) $(if $(wildcard $(BIN)/go),--group tools)

check: setup ## Lint, formatting, types, import contracts, lock file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(UV) lock --check --quiet
	$(BIN)/python -m docs.generate --check

reference: setup ## Write docs/reference/ from the code
	$(BIN)/python -m docs.generate

docs: setup ## The documentation as a site, in build/docs; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: setup ## Rewrite the code as the formatter and the safe fixes want it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

packages: setup
	@.ci/packages
	@$(SYNC) --group tools
	@$(BIN)/python -m tests.support.built_programs >/dev/null

test: setup packages ## Unit, contract and integration tests
	$(BIN)/pytest -m "not e2e" -n 3 --dist loadfile $(ARGS)

e2e: setup packages ## Real Docker, containerd, Podman and skopeo against a real server (root)
	$(BIN)/pytest -m e2e tests/e2e $(ARGS)

screenshots: setup packages ## Pictures of the portal's pages, into docs/screenshots/
	@.ci/packages pngquant
	$(BIN)/python -m tools.portal_screenshots

conformance: setup packages ## The OCI's own suite, read-only; writes docs/conformance.txt
	$(BIN)/python -m tests.conformance

fuzz: setup ## Twenty seconds of made-up containers; SECONDS=600 for longer
	$(BIN)/python -m tests.fuzz.container -max_total_time=$(or $(SECONDS),20) -verbosity=0 -print_final_stats=1

soak: setup ## Long suites: 100 rounds of collection among imports and pulls, 200 kills during writes
	$(BIN)/python -m tools.collection_soak $(or $(ROUNDS),100)
	CRISPER_TEST_KILLS=$(or $(KILLS),200) $(BIN)/pytest -q --timeout=1800 tests/unit/storage/test_crashes.py

demo: setup ## The whole journey in one minute; IMAGE=docker.io/library/alpine:3 imports that one
	@$(BIN)/python deploy/demo.py $(IMAGE)

bench: setup packages ## All of docs/performance.md, beside peers, an hour; writes bench/results/ and README's tables
	@.ci/packages wrk
	$(BIN)/python -m bench.pull --tls
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
	$(BIN)/python -m bench.readme

clean: ## Remove .venv, caches and build output
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
