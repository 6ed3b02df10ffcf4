# Needs GNU make and Python 3.11 or later with its venv module; everything else is installed into .venv.
#   make demo [SIZE=full|quick] [OUT=dir] [FLAGS=...]   the ARIA study on the CPU; leaves OUT/report.html
#   make test [PYTEST_FLAGS="-n 2"]                     the CPU test suite, in two processes
#   make lint, make format, make clean

PYTHON ?= python3
EXTRAS ?= demo,dev
SIZE ?= full
FLAGS ?=
PYTEST_FLAGS ?= -n 2

BIN := .venv/bin
comma := ,
STAMP := .venv/.installed-$(subst $(comma),-,$(EXTRAS))
CODE := $(wildcard qomni_jax data_pipelines experiments tpu_scripts)

GIN_full := experiments/configs/aria_demo.gin
GIN_quick := experiments/configs/aria_quick.gin
OUT_full := out/demo
OUT_quick := out/quick
OUT ?= $(OUT_$(SIZE))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test lint format clean

help:
	@sed -n '2,4s/^# *//p' Makefile

venv: $(STAMP)

$(STAMP): setup.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: PYTHON=$(PYTHON) was not found; accepted: Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); accepted: Python 3.11 or later, as in make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: $(PYTHON) has no venv module; install it (Debian and Ubuntu: the package python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' -c constraints.txt
	@touch $@

demo: $(STAMP)
	$(if $(GIN_$(SIZE)),,$(error SIZE=$(SIZE) is not known; accepted: full, quick))
	$(BIN)/python -m experiments.aria_ablation --gin_file=$(GIN_$(SIZE)) --workdir=$(OUT) $(FLAGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(STAMP)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy $(CODE)
	$(BIN)/shellcheck -x .ci/run tpu_scripts/*.sh

format: $(STAMP)
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean:
	rm -rf .venv out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
