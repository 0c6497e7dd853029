# Everything there is to do with the project. `make demo` is the place to start.

# The first of these for which the pinned packages have wheels; name another with `make demo PYTHON=python3.12`.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11 python3.10
SUITABLE_PYTHON = $(or $(shell for python in $(PYTHON); do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$python && break; \
	done),$(error Python 3.10 to 3.14 is needed, there is none among $(PYTHON). Debian/Ubuntu: sudo apt install python3; Fedora: sudo dnf install python3.14; macOS: brew install python@3.14))
VENV := .venv/bin
CACHE := $(or $(VELIB_CACHE_DIR),$(HOME)/.cache/velib-projet)

.PHONY: help setup setup-dev demo run exercise test check bench chaos cluster-demo soak clean

help:
	@echo 'make demo   the whole pipeline on a simulated feed'
	@echo 'make run    the whole pipeline on the live feed'
	@echo 'make setup  install what the others need: .venv, Spark'\''s Kafka connector, Kafka'
	@echo 'make exercise 1   test your answer to the first of the ten exercises'
	@echo 'make test   unit and integration tests'
	@echo 'make check  ruff and mypy'
	@echo 'make bench  this pipeline and the alternatives; over two hours (QUICK=1: three minutes)'
	@echo 'make chaos  break everything at random for five minutes, and compare every total (MINUTES=30 SEED=7 NODES=3)'
	@echo 'make cluster-demo   three nodes of Kafka, a Spark cluster, all killed: are the totals right?'
	@echo 'make soak   two days of snapshots in half an hour: does anything grow?'
	@echo 'make clean  remove what make made, and the records of the Kafka on this machine'

setup:
	@$(SUITABLE_PYTHON) -m local.setup

setup-dev:
	@$(SUITABLE_PYTHON) -m local.setup --dev

demo: setup
	@exec $(VENV)/python -m local.demo

run: setup
	@exec $(VENV)/python -m local.demo --live

exercise: setup
	@$(VENV)/python -m exercises.run $(filter-out exercise,$(MAKECMDGOALS)) $(if $(SOLUTION),--solution)

# In `make exercise 3` the number is a target, too: it has nothing to do.
$(if $(filter exercise,$(MAKECMDGOALS)),$(eval $(filter-out exercise,$(MAKECMDGOALS)):;@:))

test: setup-dev
	@$(VENV)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup-dev
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

bench: setup-dev
	@$(VENV)/python -m bench.run $(if $(QUICK),--quick)

chaos: setup-dev
	@$(VENV)/python -m tests.chaos.run $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(NODES),--nodes $(NODES))

cluster-demo: setup-dev
	@$(VENV)/python -m tests.chaos.cluster

soak: setup-dev
	@$(VENV)/python -m tests.chaos.soak

clean:
	rm -rf .venv .velib .pytest_cache .mypy_cache .ruff_cache .hypothesis "$(CACHE)"/kafka-* "$(CACHE)"/spark-kafka-*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
