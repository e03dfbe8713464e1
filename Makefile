# Every command of the README, by bin/parity, which sets up what it needs. (make exits 2 for whatever
# fails; bin/parity has the exact codes: 0 agree, 1 differ or not judged, 2 could not run.)

PARITY = bin/parity

# $(call given,VARIABLE,--option): the option, where the variable has a value.
given = $(if $($(1)),$(2) '$($(1))')
MAP = $(call given,MAP_FILE,--map-file)
OUT = $(call given,OUTPUT,--output)
PLAN = $(call given,SEED,--seed) $(call given,ITERATIONS,--iterations) \
       $(call given,MINIBATCH,--minibatch-size) $(MAP)
# A run that goes on keeps its own values.
TWIN = $(if $(RESUME),$(PLAN),--seed '$(or $(SEED),0)' --iterations '$(or $(ITERATIONS),20)' \
       --minibatch-size '$(or $(MINIBATCH),4)' $(MAP))
AGAIN_THERE = $(if $(RESUME),--resume) $(if $(OVERWRITE),--overwrite)
# PORT of the command line alone: in an environment it is many another program's.
ADAPTER = $(if $(findstring command,$(origin PORT)),$(call given,PORT,--port))
ifneq ($(ADAPTER),)
ifneq ($(MAKECMDGOALS),parity)
$(error PORT is for make parity alone, which judges that port: leave it out of make $(MAKECMDGOALS))
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-torch data parity horizon defects false-alarms golden test lint twin \
        twin-cntk train train-cntk article bench docs clean distclean

help: ## this list
	@echo 'make TARGET [VARIABLE=value ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables:'
	@awk '/^#: / { sub(/^#: /, "  "); print }' Makefile

#: SEED=0          of the weights, the latents and the order of the images
#: ITERATIONS=20   of twin and twin-cntk; for the others their own default
#: MINIBATCH=4     images in a minibatch, of twin and twin-cntk; for the others their own default
#: MAP_FILE=...    map file of your own images (default: data/train_dcgan_map.txt, drawn faces)
#: OUTPUT=...      folder that the result goes to (default: under runs/)
#: PORT=...        of parity: the port to judge, an adapter (docs/judge-your-port.md) or a folder
#: RESUME=1        twin, train and their CNTK go on with the run in their folder
#: OVERWRITE=1     they delete the run in their folder, and begin anew
#: AGAIN=1         golden records those that are there once more: each has to come out as it is
#: ACCELERATOR=... cpu or cuda (default: cuda where an NVIDIA driver answers)
#: CNTK_PYTHON=... the Python 3.6 for CNTK (default: looked for); none: do without CNTK
#: PORT_PYTHON=... the Python 3.11 to 3.14 for the port (default: looked for)

setup: ## both environments: .venv-cntk (real CNTK 2.7) and .venv-torch
	@$(PARITY) setup

setup-torch: ## only .venv-torch
	@$(PARITY) setup-torch

data: ## the drawn faces, in data/
	@$(PARITY) data

parity: ## real CNTK and the port do one plan and are compared
	$(PARITY) run $(ADAPTER) $(PLAN) $(OUT)

horizon: ## the iteration at which the two part, against how CNTK parts from itself
	$(PARITY) horizon $(PLAN) $(OUT)

defects: ## plants known defects in the port: each has to be found
	$(PARITY) defects $(MAP) $(OUT)

false-alarms: ## compares what has to agree: nothing may be found
	$(PARITY) false-alarms $(MAP) $(OUT)

golden: ## real CNTK does a table of plans: what is missing of it, as certificates in golden/
	$(PARITY) golden $(MAP) $(if $(AGAIN),--again)

twin: ## the port trains alone; needs no CNTK and no Python 3.6
	$(PARITY) train $(TWIN) --output-dir '$(or $(OUTPUT),runs/twin)' $(AGAIN_THERE)

twin-cntk: ## the same training by real CNTK
	$(PARITY) train-cntk $(TWIN) --output-dir '$(or $(OUTPUT),runs/twin-cntk)' $(AGAIN_THERE)

train: ## the article's run, 50,000 iterations, by the port
	$(PARITY) train $(PLAN) $(call given,OUTPUT,--output-dir) $(AGAIN_THERE)

train-cntk: ## the article's run by real CNTK
	$(PARITY) train-cntk $(PLAN) $(call given,OUTPUT,--output-dir) $(AGAIN_THERE)

article: ## one page that follows the article, CNTK's run and the port's beside it
	$(PARITY) article $(PLAN) $(OUT)

test: lint ## lint and every test, real CNTK included
	$(PARITY) test

lint: ## ruff and mypy
	$(PARITY) lint

bench: ## every benchmark, against real CNTK where it is compared; runs/bench.json
	$(PARITY) bench --output '$(or $(OUTPUT),runs/bench.json)'

docs: ## the tables in docs/ that are made from measurements on real CNTK
	$(PARITY) docs

clean: ## removes results and caches: runs/, build/ and the tools' caches
	rm -rf runs build .pytest_cache .ruff_cache .mypy_cache
	find . -name '.venv-*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## removes the environments and the data too
	rm -rf .venv-cntk .venv-torch .set_up.lock data
