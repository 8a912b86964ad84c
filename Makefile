# Everything runs in a virtual environment in $(VENV), made on first use; `make help` lists the targets.
# Override on the command line, for example: make test PYTHON=python3.12 VENV=.venv-3.12

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
# Processes that share the tests; compiling is most of the work, and it uses one core at a time.
TEST_WORKERS ?= 2
# Compiled programs, for all processes of the tests; later runs find them again (see tests/conftest.py).
TEST_PROGRAMS ?= $(HOME)/.cache/vigmm-tests
DEMO_RUN ?= runs/china
BENCH_CACHE ?= $(HOME)/.cache/vigmm-bench
BENCH_ARGS ?= --cache $(BENCH_CACHE)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
# What an installed environment depends on: the stamp is older than these when it must be redone.
PINS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo install test test-slow lint format types docs notebooks bench bench-full constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "vigmm needs Python 3.11 to 3.13, and '$(PYTHON)' is not one of them:" \
	       "name one, as in 'make PYTHON=python3.12 ...'." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-demo: $(PINS) | $(BIN)/python
	$(PIP) --editable '.[demo]'
	@touch $@

# `dev` contains `demo`, `bench` and `docs`, so their stamps are renewed with it.
$(VENV)/.stamp-dev: $(PINS) | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.stamp-demo $(VENV)/.stamp-bench $(VENV)/.stamp-docs

$(VENV)/.stamp-docs: $(PINS) | $(BIN)/python
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.stamp-bench: $(PINS) | $(BIN)/python
	$(PIP) --editable '.[bench]'
	@touch $@

demo: $(VENV)/.stamp-demo ## cluster the pixels of a photograph and name the report
	$(BIN)/vigmm fit configs/china.yaml --set output.folder=$(DEMO_RUN) --overwrite
	$(BIN)/vigmm report $(DEMO_RUN)
	@echo
	@echo "The run folder is $(DEMO_RUN): the model, the assignments, pictures and a summary are in it."
	@echo "Look at the report: $(DEMO_RUN)/report.html"

install: $(VENV)/.stamp-dev ## install the package and every tool for working on it

test test-slow: export VIGMM_TEST_PROGRAMS = $(TEST_PROGRAMS)

test: install ## run the tests, but not the slow ones
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m 'not slow' $(PYTEST_ARGS)

# Apart: a process can map only so many compiled programs (see tests/conftest.py), and contracts compile the most.
# By tests and not by files: half of the contracts are one file, and workers find each other's programs.
# The order is that of tests/conftest.py: what takes longest first.
test-slow: install ## run the slow tests only
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m 'slow and contract' $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder -m 'slow and not contract' \
	  $(PYTEST_ARGS)

lint: install ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install ## put the code into the format that `make lint` checks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## check types with mypy --strict
	$(BIN)/mypy

# Warnings are errors (mkdocs.yml). The variable is for Material's advertisement of its successor.
docs: $(VENV)/.stamp-docs ## build the documentation site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "Open site/index.html; for the search: $(BIN)/python -m http.server --directory site"

notebooks: $(VENV)/.stamp-docs ## run the notebooks of the documentation and keep what they show
	$(BIN)/python -m nbconvert --to notebook --execute --inplace docs/notebooks/*.ipynb

# Peers run in environments of their own, which are made on first use (several minutes, 3 GB) and kept in
# BENCH_CACHE.
bench: $(VENV)/.stamp-bench ## compare with peers on two cases, and time the kernel (15 minutes)
	$(BIN)/python -m benchmarks --brief $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.kernel --quick --cache $(BENCH_CACHE)

bench-full: $(VENV)/.stamp-bench ## compare with peers on all cases, with repeats (many hours)
	$(BIN)/python -m benchmarks --full $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.kernel --cache $(BENCH_CACHE)

# Resolved for all Python versions at once; without index addresses, so that it works wherever pip does.
constraints: $(BIN)/python ## renew constraints.txt from pyproject.toml
	$(BIN)/python -m pip --disable-pip-version-check --quiet install uv
	{ echo '# Exact versions for Python 3.11 to 3.13, to be read by pip install --constraint.'; \
	  echo '# Made from pyproject.toml by make constraints; do not edit.'; \
	  $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras \
	    --no-emit-index-url --no-annotate --no-header --quiet; } > constraints.new
	mv constraints.new constraints.txt

clean: ## remove caches and build leftovers, but neither environments nor runs
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
