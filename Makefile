# The one task runner. `make` alone lists what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
SUITES := $(BIN)/python -m tests.suites $(LOOK)
# About half the time: they need no Temporal, or no Docker, so they run beside those that need both, unless ARGS narrows.
BESIDE := $(if $(ARGS),,--beside tests/conformance --beside tests/unit --beside tests/workflows --beside tests/replay)
CODE := hibernaut workflows activities workers deploy tests benchmarks examples

.PHONY: help setup venv sandbox gvisor demo test test-slow chaos chaos-ci check lint format types layers up down status bench bench-security bench-snapshots bench-weeks lock wheel clean

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make this machine ready: virtual environment, Docker daemon, sandbox image (quick when done)
	@deploy/setup/run

venv:
	@deploy/setup/run venv

sandbox: ## the images of templates: the default one, and those of deploy/sandbox that ARGS names (ARGS="python node")
	@deploy/setup/run docker sandbox $(addprefix template:,$(ARGS))

gvisor: ## gVisor's runsc for this machine, and what Docker needs to be told to offer it
	@deploy/setup/run gvisor

demo: setup ## an agent at work whose computer is destroyed twice; needs no API key
	@$(BIN)/python -m examples.demo

up: setup ## start the development stack and stay; Ctrl-C stops it (ARGS=--detach returns at once)
	@$(BIN)/python -m workers.devstack up $(ARGS)

down: venv ## stop the development stack; its state stays
	@$(BIN)/python -m workers.devstack down

status: venv ## what of the development stack runs
	@$(BIN)/python -m workers.devstack status

test: setup ## the tests but the slow ones (ARGS="-k name" narrows)
	@$(SUITES) $(BESIDE) -- $(ARGS)

test-slow: setup ## the slow tests
	@$(SUITES) $(BESIDE) -- -m slow --timeout 900 $(ARGS)

chaos: setup ## break everything that can break, three times each, and a long random run (CHAOS_SEED, CHAOS_STEPS)
	@CHAOS_RUNS=$${CHAOS_RUNS:-3} CHAOS_STEPS=$${CHAOS_STEPS:-100} $(SUITES) --in tests/chaos -- -m chaos $(ARGS)

chaos-ci: setup ## the same in short: each fault once, a random run of 20 steps
	@$(SUITES) --in tests/chaos -- -m chaos $(ARGS)

check: lint types layers test ## what must pass before a change lands: lint, types, layers, test

lint: venv ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: venv ## mend what ruff can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: venv ## pyright, strict
	@$(BIN)/pyright

layers: venv ## import-linter: who may import whom
	@$(BIN)/lint-imports --no-cache

bench: setup ## the benchmarks; results in benchmarks/results (ARGS=steps or another name runs that one)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-snapshots: setup ## snapshots, ours beside restic, borg, docker commit and others (12 minutes; ARGS=--quick tries it)
	@deploy/setup/run peers
	@$(BIN)/python -m benchmarks.bench_snapshots $(ARGS)

bench-security: setup ## attacks tried and stopped, overhead beside plain Docker, the proxy (15 minutes; ARGS=--quick tries it)
	@$(BIN)/python -m benchmarks.bench_security $(ARGS)

bench-weeks: setup ## 10,000 steps in 60 days, sleep, wakes, a day's schedule (12 minutes; ARGS=--quick tries it)
	@$(BIN)/python -m benchmarks.bench_weeks $(ARGS)

lock: venv ## write requirements/lock.txt and peers.txt anew (ARGS=--upgrade takes newer releases)
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	    --custom-compile-command "make lock" --extra cli --extra mcp --extra codec --group worker --group stack --group demo --group dev \
	    --output-file requirements/lock.txt $(ARGS) pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	    --custom-compile-command "make lock" --output-file requirements/peers.txt $(ARGS) benchmarks/peers/requirements.in
	@deploy/setup/run venv

wheel: venv ## build the SDK's wheel into dist/
	@$(BIN)/python -m build --wheel --no-isolation

clean: ## remove build results and tool caches; the environment, images and state stay
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find $(CODE) -type d -name __pycache__ -prune -exec rm -rf {} +
