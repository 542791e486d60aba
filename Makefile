# Each target sets up what it needs in .venv of this clone; a second run starts at once.
# PYTHON chooses the interpreter (>= 3.11), ARGS goes to the program that a target runs:
#   make test ARGS="-k sink -x"      make demo ARGS="--act tickets"      make PYTHON=python3.12 test

PYTHON  ?= python3
ARGS    ?=
WORKERS ?= 4

BIN    := .venv/bin
CODE    = $(wildcard src tests tools examples benchmarks)

# The tests of the four blocks, and of what stands on them but for the command line.
COVERING = $(addprefix tests/,streaming rmap pool tasks hub health doctor tour)

# Images for containers often set this; then each of the many processes that are started would compile all files anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow chaos check docs bench coverage mutants public-names changelog clean python

help: ## this list
	@echo "pulsewire - run one of:"
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: python ## watch users sign up: all four blocks at work, two processes and Redis killed midway
	@$(PYTHON) tools/environment.py demo
	@$(BIN)/pulsewire demo $(ARGS)

test: python ## the tests, all but those marked slow; below ten minutes on two cores
	@$(PYTHON) tools/environment.py test
	@$(BIN)/python tools/run_tests.py $(WORKERS) $(ARGS)

test-slow: python ## the long tests: many tries of every kind of bad weather
	@$(PYTHON) tools/environment.py test
	@$(BIN)/python -m pytest -m slow $(ARGS)

chaos: python ## the fault suite in full, for hours, or some of it: make chaos ARGS="--fault F1 --tries 20"
	@$(PYTHON) tools/environment.py test
	@$(BIN)/python -m tools.chaos $(ARGS)

check: python ## lint, format, strict types, import floors, changelog fragments
	@$(PYTHON) tools/environment.py check
	@echo "ruff check";          $(BIN)/ruff check --quiet --output-format concise .
	@echo "ruff format --check"; $(BIN)/ruff format --check --quiet --output-format concise . \
	  || { echo "not formatted as above: run '$(BIN)/ruff format'"; exit 1; }
	@echo "mypy --strict";       $(BIN)/mypy --strict --no-error-summary $(CODE)
	@echo "import floors";       $(BIN)/lint-imports --no-cache --no-logo > .cache/floors.txt 2>&1 \
	  || { cat .cache/floors.txt; exit 1; }
	@echo "changelog fragments"; $(BIN)/towncrier build --draft --version next > .cache/changes.txt 2>&1 \
	  || { cat .cache/changes.txt; exit 1; }
	@echo "All checks passed."

docs: python ## the documentation site, strictly, into docs/_build
	@$(PYTHON) tools/environment.py docs
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --jobs 2 -b html docs docs/_build
	@echo "The site is docs/_build/index.html"

bench: python ## the benchmarks, on an optimised Python where there is one
	@$(PYTHON) tools/environment.py bench --at .venv-bench --optimised
	@.venv-bench/bin/python -m benchmarks $(ARGS)

coverage: python ## which branches of the four blocks no test has taken; fails below 95%
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { \
	  echo "Coverage needs Python 3.12 or newer: 3.11 tells a tracer nothing of what follows a cancellation, see" >&2; \
	  echo "docs/decisions/0017-coverage-from-3.12-on.md. Name one: make coverage PYTHON=/path/to/python3.13" >&2; exit 1; }
	@$(PYTHON) tools/environment.py coverage --at .venv-coverage
	@.venv-coverage/bin/python -m coverage erase
	@.venv-coverage/bin/python -m coverage run tools/run_tests.py $(WORKERS) $(COVERING) $(ARGS); failed=$$?; \
	  .venv-coverage/bin/python -m coverage combine --quiet && \
	  .venv-coverage/bin/python -m coverage report && \
	  .venv-coverage/bin/python -m coverage json --quiet && \
	  .venv-coverage/bin/python tools/branch_coverage.py .cache/branches.json && exit $$failed

mutants: python ## small faults put into the pure rooms: how many do the tests notice
	@$(PYTHON) tools/environment.py test
	@$(BIN)/python -m tools.mutants $(ARGS)

public-names: python ## write the list of public names anew, for a review to see
	@$(PYTHON) tools/environment.py test
	@$(BIN)/python tools/public_names.py > .cache/public_names.txt
	@mv .cache/public_names.txt tests/contract/public_names.txt
	@git --no-pager diff --stat -- tests/contract/public_names.txt

clean: ## remove all that the targets made
	@rm -rf .venv .venv-bench .venv-coverage .cache .hypothesis docs/_build build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first thing that a newcomer may lack, said in words.
python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "pulsewire needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
