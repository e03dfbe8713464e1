# Every command of the README. Each target sets up what it needs; what is there is left alone.

PYTHON ?= python3
TORCH = .venv-torch/bin/python
# CNTK's programs are run as files: the package has to be found from there.
CNTK = PYTHONPATH="$(CURDIR)" .venv-cntk/bin/python
SET_UP = $(PYTHON) environment/set_up.py
DATA = $(TORCH) -m datasets.drawn_faces --output data

# What the caller keeps on Python's path belongs in neither environment.
unexport PYTHONPATH PYTHONHOME

# $(call given,VARIABLE,--option): the option, where the variable has a value.
given = $(if $($(1)),$(2) '$($(1))')
PLAN = $(call given,SEED,--seed) $(call given,ITERATIONS,--iterations) \
       $(call given,MINIBATCH,--minibatch-size) $(call given,MAP_FILE,--map-file)
RUN = $(call given,MAP_FILE,--map-file) $(call given,OUTPUT,--output)
TWIN = --seed '$(or $(SEED),0)' --iterations '$(or $(ITERATIONS),20)' \
       --minibatch-size '$(or $(MINIBATCH),4)' $(call given,MAP_FILE,--map-file)

.DEFAULT_GOAL := help
.PHONY: help setup setup-torch data parity horizon defects false-alarms test lint twin twin-cntk \
        bench docs clean distclean

help: ## this list
	@echo 'make TARGET [VARIABLE=value ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables:'
	@awk '/^#: / { sub(/^#: /, "  "); print }' Makefile

#: SEED=0          of the weights, the latents and the order of the images
#: ITERATIONS=20   of twin and twin-cntk; for parity and horizon their own default
#: MINIBATCH=4     images in a minibatch, of twin and twin-cntk; for parity its own default
#: MAP_FILE=...    map file of your own images (default: data/train_dcgan_map.txt, drawn faces)
#: OUTPUT=...      folder that the result goes to (default: under runs/)
#: ACCELERATOR=... cpu or cuda (default: cuda where an NVIDIA driver answers)
#: CNTK_PYTHON=... the Python 3.6 for CNTK (default: looked for)
#: PORT_PYTHON=... the Python 3.11 to 3.14 for the port (default: looked for)

setup: ## both environments: .venv-cntk (real CNTK 2.7) and .venv-torch
	@$(SET_UP) all

setup-torch: ## only .venv-torch
	@$(SET_UP) torch

data: setup-torch ## the drawn faces, in data/
	@$(DATA)

twin: data ## the port trains alone; needs no CNTK and no Python 3.6
	$(TORCH) -m torch_port.train $(TWIN) --output-dir '$(or $(OUTPUT),runs/twin)'

twin-cntk: setup data ## the same training by real CNTK
	$(CNTK) cntk_impl/dcgan_training.py $(TWIN) --output-dir '$(or $(OUTPUT),runs/twin-cntk)'

test: setup data lint ## lint and every test, real CNTK included
	$(TORCH) -m pytest

lint: setup-torch ## ruff and mypy
	$(TORCH) -m ruff check .
	$(TORCH) -m mypy

bench: setup data ## every benchmark, against real CNTK where it is compared; runs/bench.json
	$(TORCH) -m benchmarks --output '$(or $(OUTPUT),runs/bench.json)'

docs: setup data ## the tables in docs/ that are made from measurements on real CNTK
	$(TORCH) -m parity docs

clean: ## removes results and caches: runs/, build/ and the tools' caches
	rm -rf runs build .pytest_cache .ruff_cache .mypy_cache
	find . -name '.venv-*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## removes the environments and the data too
	rm -rf .venv-cntk .venv-torch .set_up.lock data

# The comparisons. They exit 0 when both implementations agree, 1 when they differ, 2 when the
# set-up or the command is at fault; so do these targets, and that takes a detour. GNU make exits 2
# for every recipe that fails, whatever the recipe's own status. It exits 1 only under --question,
# "there would be something to do", where it runs nothing but '+' lines. So a comparison that is the
# only goal runs under --question, on a '+' line that notes its status; the line that is read after
# it is empty if the status was 0, something to do if it was 1, and make's own error otherwise.
# Next to other goals, and under -n, they are ordinary recipes, and make exits 2 for both.

COMPARISONS = parity horizon defects false-alarms
COMPARE = $(TORCH) -m parity $(COMMAND)

parity: ## real CNTK and the port do one plan and are compared: exits 0 (agree), 1 (differ), 2 (error)
parity: COMMAND = run $(PLAN) $(call given,OUTPUT,--output)
horizon: ## the iteration at which the two part, against how CNTK parts from itself
horizon: COMMAND = horizon $(RUN) $(call given,ITERATIONS,--iterations) $(call given,SEED,--seed)
defects: ## plants known defects in the port: each has to be found
defects: COMMAND = defects $(RUN)
false-alarms: ## compares what has to agree: nothing may be found
false-alarms: COMMAND = false-alarms $(RUN)

ONLY_GOAL = $(and $(filter 1,$(words $(MAKECMDGOALS))),$(filter $(COMPARISONS),$(MAKECMDGOALS)))
DRY_RUN = $(findstring n,$(filter-out --%,$(firstword -$(MAKEFLAGS))))

ifeq ($(and $(ONLY_GOAL),$(if $(DRY_RUN),,yes)),)
$(COMPARISONS): setup data
	$(COMPARE)
else
MAKEFLAGS += --question
STATUS := $(shell mktemp)
outcome = $(if $(filter 0,$(1)),,$(if $(filter 1,$(1)),false,$(error $(MAKECMDGOALS) exits $(1))))
.PHONY: compared
compared:
	+@{ $(SET_UP) all && $(DATA); } || { echo 2 > $(STATUS); exit; }; \
	$(COMPARE); echo $$? > $(STATUS)
$(ONLY_GOAL): compared
	$(call outcome,$(shell cat $(STATUS); rm -f $(STATUS)))
endif
