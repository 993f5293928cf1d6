# `make demo` and `make test` need nothing but Python 3.10 or newer and make; everything goes into .venv.
#   make install  demo  test  check  bench  triton  testbed-demo  clean
# Another Python: make test PYTHON=python3.12     Options for pip: make install PIP_FLAGS=...

PYTHON ?= python3
PIP_FLAGS ?=
PYTEST_FLAGS ?= --numprocesses auto --dist loadfile

VENV := .venv
BIN := $(VENV)/bin
CARBONPILOT := $(BIN)/carbonpilot
INSTALLED := $(VENV)/.installed

# The test bed's Triton server. Another Python than the one above: make triton TRITON_PYTHON=python3.12
TRITON := .triton
TRITON_PYTHON ?= $(PYTHON)
TRITON_INSTALLED := $(TRITON)/.installed

TESTBED_DEMO := runs/testbed-demo
DEMO := runs/demo
DEMO_STEPS ?= 65536
DEMO_EPISODES ?= 100

# One thread each: the tests and the demo run their own processes side by side.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench triton testbed-demo clean

help:
	@echo "make install   set everything up in $(VENV)"
	@echo "make demo      train an agent on the flagship site, benchmark it, write report and plots (3 minutes)"
	@echo "make test      run all tests"
	@echo "make check     lint, format, types, import arrows"
	@echo "make bench     measure speed"
	@echo "make triton    set up the real Triton server of the test bed in $(TRITON) (400 MB)"
	@echo "make testbed-demo  measure, train, run and verify on a real Triton server behind a lossy link (root)"
	@echo "make clean     remove $(VENV), $(TRITON) and caches; keeps runs/"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "CarbonPilot needs Python 3.10 or newer, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[train,dev]'
	@touch $@

demo: install
	@rm -rf $(DEMO)
	@echo "1 of 3: a risk head, learned from what every placement would have come to, and a price on it"
	$(CARBONPILOT) risk train metro --settings configs/train/risk-quick.yaml --seed 0 --out $(DEMO)/demo-head
	@echo
	@echo "2 of 3: an agent over the head, taught with hindsight, then reinforcement learning (PPO)"
	$(CARBONPILOT) train metro --algo ppo --risk $(DEMO)/demo-head --settings configs/train/ppo-risk-taught-quick.yaml \
	  --steps $(DEMO_STEPS) --seed 0 --out $(DEMO)/demo-agent
	@echo
	@echo "3 of 3: agent and head against rules and hindsight, on tapes that nothing was learned from"
	$(CARBONPILOT) benchmark metro --policy $(DEMO)/demo-agent --policy $(DEMO)/demo-head --episodes $(DEMO_EPISODES) \
	  --seed 0 --json $(DEMO)/benchmark.json --html $(DEMO)/report.html --plots $(DEMO)/plots
	@echo
	@echo "Report: $(DEMO)/report.html    Plots: $(DEMO)/plots"
	@echo "Energy and CO2 of the training itself: $(DEMO)/demo-agent/emissions.json, $(DEMO)/demo-head/price.json"
	@echo "Training curves: $(BIN)/tensorboard --logdir $(DEMO)/demo-agent/tb"

test: install
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_imports.py

bench: install
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script; done

triton: $(TRITON_INSTALLED)

$(TRITON_INSTALLED): constraints-triton.txt
	@$(TRITON_PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { \
	  echo "The Triton server needs Python 3.10 to 3.12, and $(TRITON_PYTHON) is: $$($(TRITON_PYTHON) --version 2>&1)."; \
	  echo "Name another one: make triton TRITON_PYTHON=python3.12"; exit 1; }
	rm -rf $(TRITON)
	$(TRITON_PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install --disable-pip-version-check $(PIP_FLAGS) --no-deps -r constraints-triton.txt
	@touch $@

testbed-demo: install triton
	@rm -rf $(TESTBED_DEMO)
	@benchmarks/testbed_demo.sh $(CURDIR)/$(CARBONPILOT) $(CURDIR)/$(TESTBED_DEMO)

clean:
	rm -rf $(VENV) $(TRITON) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
