# Every target sets up first; that is one quiet line where it is done already. Paths stay relative: the folder's name may hold spaces.
PYTHON := .venv/bin/python
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-teachers format api check test test-full

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */  make \1|/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup:  ## environment and packages (the same as: bash setup.sh)
	@bash setup.sh

demo: setup  ## a small run from data to report, on CPU
	.venv/bin/kvdistill demo

demo-teachers: setup  ## two unlike teachers and one student, from data to report, on CPU
	.venv/bin/kvdistill demo-teachers

format: setup  ## write the code in the house's form
	$(PYTHON) -m ruff check --fix-only --quiet .
	$(PYTHON) -m ruff format .

api: setup  ## write docs/api.md from the docstrings
	$(PYTHON) scripts/api_page.py

check: setup  ## the static part: form, lint, types, walls
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pyright
	.venv/bin/lint-imports

test: check  ## check, then every test
	@bash scripts/install_test_packages.sh
	$(PYTHON) -m pytest -n $(WORKERS) --maxprocesses=8 $(COVERAGE)

test-full: export KVDISTILL_REPEATS = large
test-full: COVERAGE = --cov --cov-fail-under=90
test-full: test  ## the same with every case and large repeat counts; 90 % of the package has to run
