# Two commands for a newcomer: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test check install soak bench clean

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

soak: $(READY)            ## long proofs: kill, signal and starve a training run of disk at random moments; stop a compiled one
	$(BIN)/python benchmarks/soak_checkpoint.py --kills 100 --signals 40 --full-disks 20
	$(BIN)/python benchmarks/soak_compiled.py

bench: $(READY)           ## speed of the data room; memory against torch's tracker; BENCH_DATA=folder of published runs adds the coverage of forecasts
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/count_memory.py  # ../shared/data/plan behind it adds published peaks
	$(if $(BENCH_DATA),$(BIN)/python benchmarks/law_coverage.py $(BENCH_DATA))

clean:
	rm -rf $(VENV) runs
