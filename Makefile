# Everything a user runs. `make` alone explains.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CAPTURE ?= synthetic
SEED ?= 0
ARGS ?=
BENCH ?= runs/bench
CHECK ?=
QUICK ?=

.DEFAULT_GOAL := help
.PHONY: help setup train reproduce results-check test bench lint format clean

help: ## Show this help
	@echo "dkp: dense keypoints from unlabelled multiview images"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo
	@echo "  CAPTURE=synthetic|dog|board|person|PATH  SEED=N  ARGS='further options'  for make train"
	@echo "  QUICK=1 (one seed of three methods, into runs/quick)  ARGS='--only ...'  for make reproduce"
	@echo "  BENCH=FOLDER  CHECK=1                                                    for make bench"
	@echo "  PYTHON=python3.12  VENV=.venv                                            for the environment"

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dkp needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.ready ## Make the virtual environment with the tested versions

train: $(VENV)/.ready ## Source capture -> teacher -> adapted on unlabelled views -> table and figure
	$(BIN)/dkp train --capture $(CAPTURE) --seed $(SEED) $(ARGS)

reproduce: $(VENV)/.ready ## Run every method and ablation into docs/results; goes on where it stopped
	$(BIN)/dkp study run full $(if $(QUICK),--cut quick --results runs/quick,--results docs/results) $(ARGS)

results-check: $(VENV)/.ready ## Run one cell of docs/results again and compare
	$(BIN)/dkp study check full $(ARGS)

test: $(VENV)/.ready ## Run the tests
	$(BIN)/python -m pytest $(ARGS)

bench: $(VENV)/.ready ## Measure speed into BENCH; CHECK=1 compares with the committed ratios
	$(BIN)/dkp bench --json $(BENCH)/bench.json --plots $(BENCH) $(if $(CHECK),--check docs/results/speed/bench.json) $(ARGS)

lint: $(VENV)/.ready ## Ruff (lint and format) and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and caches (runs/ and captures/ stay)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
