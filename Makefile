# Two commands a newcomer needs: `make demo` and `make test`. Each does its own set-up. Before a merge,
# `make slow` as well; `.ci/run` runs both.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test slow lint docs soak gpu bench peers demo-bundle study clean
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
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

# Three workers for two cores, because tests wait for daemons, shares and clusters for a third of their time;
# one that is idle takes over tests from another. A test that hangs for forty minutes fails:
# pytest names it and prints what each thread was doing, and its worker is replaced once. One thread for
# torch in each worker: with more threads than cores, most of their time is spent waiting for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal --max-worker-restart 1 --durations 15 \
    -o faulthandler_timeout=2400 -o faulthandler_exit_on_timeout=true

# Lint, types and layers, then every test that is quick: a few minutes on two cores.
test: lint
	$(PYTEST)

# The tests marked `slow`: faults, browsers, Prometheus, TensorRT builds, the simulated GPU, training,
# packaging. Those that need a Debian package which is not installed are skipped.
slow: $(VENV)/.dev
	$(PYTEST) -m 'slow and not gpu and not soak and not benchmark'

# The documentation site, in site/. Strict: a broken link or a page that no menu names fails (with --quiet
# MkDocs would count no warnings).
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

soak: $(VENV)/.dev
	$(BIN)/pytest -m soak -s
	SOAK_LOCKED_S=60 $(BIN)/pytest -m slow tests/faults/test_storage.py -k locked

gpu: $(VENV)/.dev
	$(BIN)/pytest -m gpu

bench: $(VENV)/.dev
	$(BIN)/python -m tools.benchmark
	$(BIN)/pytest -m benchmark -s tests/performance

# her2d beside other programs, which are installed in an environment of their own (7 GB), never with her2d.
# On an idle machine: make peers, and make peers PEERS='--size full --repeats 3'
PEERS ?=
PEERS_VENV := .venv-peers
PEERS_PIP := $(PEERS_VENV)/bin/python -m pip install --disable-pip-version-check -q --no-cache-dir --no-deps
$(PEERS_VENV)/.installed: tools/peers/requirements.txt tools/peers/requirements-wsinfer.txt
	test -x $(PEERS_VENV)/bin/python || $(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_PIP) -r tools/peers/requirements.txt
	$(PEERS_PIP) --upgrade --target $(PEERS_VENV)/wsinfer -r tools/peers/requirements-wsinfer.txt
	touch $@

peers: $(VENV)/.dev $(PEERS_VENV)/.installed
	$(BIN)/python -m tools.peers $(PEERS)

# glibc gives large tensors' memory back at once, and a fifth of training on a CPU went into having it
# zeroed again.
demo-bundle study: export GLIBC_TUNABLES = glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592

demo-bundle: $(VENV)/.dev
	$(BIN)/python -m her2d.research.demo_bundle

include packaging/install.mk packaging/deb.mk

# The paper's whole procedure at full size: make study COHORT=cohort.csv OUTPUT=engines/ours
# RECIPE=recipe.toml and SET="segmenter.batch=16 classifier.batch=32" change the paper's recipe.
STUDY ?= study
HOW = $(if $(RECIPE),--recipe $(RECIPE)) $(foreach value,$(SET),--set $(value))
study: $(VENV)/.dev
	$(BIN)/her2d train check $(HOW)
	$(BIN)/her2d prepare $(COHORT) --study $(STUDY) $(PREPARE)
	$(BIN)/her2d train all --study $(STUDY) $(HOW)
	$(BIN)/her2d evaluate --study $(STUDY)
	$(BIN)/her2d bundle build $(OUTPUT) --study $(STUDY)

clean:
	rm -rf $(VENV) demo build site *.egg-info
