# Everything happens inside this folder; only the data cache lies outside (MPDVAE_DATA, else the user's cache folder).

PYTHON ?= python3
BIN := .venv/bin
INSTALL := -m pip --disable-pip-version-check --no-cache-dir --quiet install
PIP := $(BIN)/python $(INSTALL) --constraint constraints.txt
SOURCES := mpdvae tests benchmarks docs/site

export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help reproduce test test-slow test-oldest lint check docs bench bench-step bench-gpu ship clean

help:
	@echo "make reproduce   train VAE, VLAE and MAE on MNIST and write a report (about 26 minutes)"
	@echo "make test        the test suite (about 4 minutes)"
	@echo "make test-slow   what takes longer: clusters, killed processes, browsers, files from strangers"
	@echo "make test-oldest the oldest versions of all libraries but torch that are supported (about 5 minutes)"
	@echo "make check       lint, types and tests: run it before you commit"
	@echo "make docs        the documentation as a site, in site/"
	@echo "make bench       how fast it is, against plain methods (about 25 minutes)"
	@echo "make bench-step  how fast a training step is in each precision, uncompiled and compiled (about 3 minutes)"
	@echo "make bench-gpu   correctness and speed on a GPU (8 minutes)"
	@echo "make ship        pack a finished run as a model of the package: make ship RUN=DIR NAME=mae-mnist"
	@echo "make clean       remove environments and caches; runs are kept"

reproduce: .venv/base
	$(BIN)/mpdvae reproduce

# Shapes and types are checked as the mathematics is tested, and in the slow part. The checks take two thirds as long again,
# which the tests of whole runs do without.
CHECKED := $(addprefix tests/,distributions networks models measures objectives test_vae.py test_divergence.py)
UNCHECKED := -o addopts="--strict-markers --strict-config -ra"

test: .venv/test
	@status=0; \
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow" $(CHECKED) || status=1; \
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow" $(UNCHECKED) $(addprefix --ignore ,$(CHECKED)) || status=1; \
	exit $$status

test-slow: .venv/test
	$(BIN)/python -m pytest --numprocesses 2 -m slow

# What touches those libraries; the rest of the suite is about what is ours alone. Shapes and types are not checked as the
# tests run: the oldest versions of the two libraries that do it do not agree.
OLDEST_TOUCHED := commands/test_cli.py commands/test_completion.py commands/test_help.py commands/test_kind_options.py \
    data/test_data_download.py data/test_data_formats.py data/test_data_own.py data/test_data_protocols.py data/test_pictures.py \
    distributions/test_distributions.py evaluation/test_image_grids.py experiments/test_experiment.py \
    measures/test_density.py measures/test_intervals.py measures/test_random_subsets.py measures/test_representation.py \
    objectives/test_kl_weights.py objectives/test_terms.py report/test_report_pages.py runs/test_run_folder.py \
    sharing/test_pretrained.py sharing/test_released_import.py test_package.py test_vae.py workflows/test_estimator.py
OLDEST := $(addprefix tests/,$(OLDEST_TOUCHED))

test-oldest: .venv-oldest/test
	.venv-oldest/bin/python -m pytest --numprocesses 2 -m "not slow" $(UNCHECKED) $(OLDEST)

lint: .venv/test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/basedpyright

check: lint test

docs: .venv/test
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --conf-dir docs/site docs site
	@echo "site/index.html"

bench: .venv/base
	$(BIN)/python -m benchmarks speed

RECIPE ?= mae-mnist-minutes

bench-step: .venv/base
	$(BIN)/python -m benchmarks step $(RECIPE)

# The comparison with the CPU uses the tests' tables, which import pytest.
bench-gpu: .venv/base
	@$(PIP) pytest
	$(BIN)/python -m benchmarks gpu --page docs/performance.md

# Needs the data set of the run. WEIGHTS=--float16 halves the size and measures the run again.
ship: .venv/base
	$(BIN)/python -m mpdvae.workflows.packing $(RUN) $(NAME) $(WEIGHTS)

clean:
	rm -rf .venv .venv-oldest .pytest_cache .ruff_cache .hypothesis *.egg-info

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
	@$(PIP) --editable '.[test,test-browser,test-launch,lint,docs,ray,dask,tune,hub,export,track,explore]'
	@touch $@

.venv-oldest/test: pyproject.toml constraints-oldest.txt
	@echo "installing the oldest versions into .venv-oldest (once; a few minutes)"
	@$(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python $(INSTALL) --constraint constraints-oldest.txt torch
	@.venv-oldest/bin/python $(INSTALL) --constraint constraints-oldest.txt --editable '.[test]'
	@touch $@
