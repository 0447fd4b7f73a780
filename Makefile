# Two commands for a newcomer: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := .venv-bench

.PHONY: demo test check install soak bench bench-ladder bench-train clean

demo: $(READY)            ## text -> tokens -> ladder -> law -> forecast -> plan -> page  (FAST=1: under 3 minutes)
	$(BIN)/isoflop demo $(if $(FAST),--fast)

test: check               ## every check and every test

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile  # one thread a worker: threads of two workers fight

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

soak: $(READY)            ## long proofs: kill, signal and starve a run of disk at random moments; kill a ladder; stop a compiled one
	$(BIN)/python benchmarks/soak_checkpoint.py --kills 100 --signals 40 --full-disks 20
	$(BIN)/python benchmarks/soak_compiled.py
	$(BIN)/python benchmarks/soak_ladder.py --kills 10

bench: $(READY)           ## speed of the data room; memory against torch's tracker; BENCH_DATA=folder of published runs adds the coverage of forecasts
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/tokenizer.py
	$(BIN)/python benchmarks/count_memory.py  # ../shared/data/plan behind it adds published peaks
	$(if $(BENCH_DATA),$(BIN)/python benchmarks/law_coverage.py $(BENCH_DATA))

bench-ladder: $(READY)    ## what a sweep of 100 short runs costs besides training; two workers beside one process with two threads
	$(BIN)/python benchmarks/ladder_scheduling.py

bench-train: $(READY) $(PEERS)/.ready  ## speed of training beside nanoGPT's shape, litgpt, transformers, HF Trainer  (QUICK=1: under 4 minutes)
	$(BIN)/python benchmarks/train.py --peers-python $(PEERS)/bin/python $(if $(QUICK),--quick)

$(PEERS)/.ready: benchmarks/requirements-train.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-train.txt
	@touch $@

clean:
	rm -rf $(VENV) $(PEERS) runs
