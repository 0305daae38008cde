# Everything happens inside this folder; only the data cache lies outside (MPDVAE_DATA, else the user's cache folder).

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-cache-dir --quiet install --constraint constraints.txt
SOURCES := mpdvae tests benchmarks

export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help reproduce test test-slow lint check docs bench clean

help:
	@echo "make reproduce   train VAE, VLAE and MAE on MNIST and write a report (about 15 minutes)"
	@echo "make test        the test suite (about 5 minutes)"
	@echo "make test-slow   what takes longer: clusters, killed processes, browsers, files from strangers"
	@echo "make check       lint, types and tests: run it before you commit"
	@echo "make docs        the documentation as a site, in site/"
	@echo "make bench       how fast it is, against plain methods (about 15 minutes)"
	@echo "make clean       remove .venv and caches; runs are kept"

reproduce: .venv/base
	$(BIN)/mpdvae reproduce

test: .venv/test
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow"

test-slow: .venv/test
	$(BIN)/python -m pytest --numprocesses 2 -m slow

lint: .venv/test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/basedpyright

check: lint test

docs: .venv/test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: .venv/base
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "mpdvae needs Python 3.11 or newer; try: make PYTHON=python3.12"'
	$(PYTHON) -m venv .venv

# torch first and pinned, so that nothing else pulls a larger build in.
.venv/base: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing into .venv (once; a few minutes)"
	@$(PIP) torch
	@$(PIP) --editable .
	@touch $@

.venv/test: .venv/base
	@$(PIP) --editable '.[test,test-browser,lint,docs,ray,dask,tune,hub,export,track,explore]'
	@touch $@
