# Every target is one or two lines; `make setup` is the only one that touches the network.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt
GROUP ?= dev
# The CPU build of the pinned torch, where pip finds one; `make setup TORCH=torch` takes the build that pip prefers.
TORCH ?= $(shell sed -n 's/^torch==.*/&+cpu/p' deploy/constraints.txt)
EVENTS ?=
ITEMS ?=
BASE ?= HEAD~1
DATA ?= online-retail
DIR ?= ../shared/data
MINUTES ?=
ABLATE ?=
SCENARIOS ?=
LONG ?=

.PHONY: setup protos check format test test-faults test-mutations test-spark demo serve build bench quality load swap clean

setup: $(VENV)/.done-$(GROUP)

$(VENV)/.done-$(GROUP): pyproject.toml deploy/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) pip
ifneq ($(filter offline test dev,$(GROUP)),)
	@echo "setup: downloading $(TORCH) and what it needs; this takes a while"
	@$(PIP) "$(TORCH)" 2>/dev/null || echo "setup: pip found no $(TORCH) and takes the default build. On Linux that downloads 2.7 GB" \
	    "with CUDA; the README says how to name an index that has the CPU build"
endif
	$(PIP) --group $(GROUP) --editable .
	touch $@

protos: setup
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. --grpc_python_out=. protos/terrace/v1/*.proto

check: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" BASE="$(BASE)" bash .ci/check

format: setup
	$(BIN)/ruff format . && $(BIN)/ruff check --fix . && $(BIN)/buf format -w protos

test: setup
	$(BIN)/python -m pytest -n 2 -m "not slow and not spark" --ignore tests/faults
	$(BIN)/python -m tests.faults -m "not faults_long"

test-faults: setup
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m tests.faults -o faulthandler_timeout=1800

test-mutations: setup
	$(BIN)/python -m tests.mutations

test-spark: setup
	$(PIP) --group spark
	$(BIN)/python -m pytest -m spark

demo: setup
	$(BIN)/terrace demo $(if $(EVENTS),--events $(EVENTS)) $(if $(ITEMS),--items $(ITEMS))

serve: setup
	$(BIN)/terrace demo --serve $(if $(EVENTS),--events $(EVENTS)) $(if $(ITEMS),--items $(ITEMS))

build: setup
	$(BIN)/terrace build --events $(EVENTS) $(if $(ITEMS),--items $(ITEMS)) --bundles build/bundles

bench: setup
	$(BIN)/python -m loadtests.bench --out build/bench.json

quality: setup
	OMP_NUM_THREADS=1 $(BIN)/terrace quality $(DATA) --dir $(DIR) --out build/quality --checkpoints build/quality/checkpoints $(if $(MINUTES),--train-minutes $(MINUTES)) $(if $(ABLATE),--ablate)

load: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m loadtests.load --short $(SCENARIOS)

swap: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m loadtests.swap $(if $(LONG),--long) --out build/swap.json

clean:
	rm -rf build $(VENV)
