# Two commands a newcomer needs: `make demo` and `make test`. Each does its own set-up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test lint soak gpu bench demo-bundle study clean
.DEFAULT_GOAL := demo

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("her2d needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) -e '.[dev]'
	touch $@

demo: $(VENV)/.base
	$(BIN)/her2d demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

soak: $(VENV)/.dev
	$(BIN)/pytest -m soak -s

gpu: $(VENV)/.dev
	$(BIN)/pytest -m gpu

bench: $(VENV)/.dev
	$(BIN)/pytest -m benchmark -s

demo-bundle: $(VENV)/.dev
	$(BIN)/python -m her2d.training.demo_bundle

# The paper's whole procedure at full size: make study COHORT=cohort.csv OUTPUT=engines/ours
STUDY ?= study
study: $(VENV)/.dev
	$(BIN)/her2d prepare $(COHORT) --study $(STUDY) $(PREPARE)
	$(BIN)/her2d train all --study $(STUDY)
	$(BIN)/her2d evaluate --study $(STUDY)
	$(BIN)/her2d bundle build $(OUTPUT) --study $(STUDY)

clean:
	rm -rf $(VENV) demo build *.egg-info
