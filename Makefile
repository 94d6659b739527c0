# Five words: install, format, check, test, demo; nightly for the long tests, gpu-check on a machine with a GPU.
# Each installs what it needs into .venv, once. Use an environment of your own with `make test PYTHON=path/to/python`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
READERS ?= .venv-readers
STRATA_TEST_DATA ?= $(abspath ../shared/data)
export STRATA_TEST_DATA
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Else setuptools warns about every editable installation.
$(VENV)/.ready-demo $(VENV)/.ready-dev: export PYTHONWARNINGS = ignore::UserWarning

# A Python given on the command line is taken as it is, Strata not installed in it; ours is made and filled first.
ifeq ($(origin PYTHON),command line)
export PYTHONPATH := $(CURDIR)
DEMO_READY :=
DEV_READY :=
else
PYTHON := $(VENV)/bin/python
DEMO_READY := $(VENV)/.ready-demo
DEV_READY := $(VENV)/.ready-dev
endif

# Wheels only, so that installing runs no code of other projects; of pip's talk, the large downloads are shown.
PIP := $(VENV)/bin/python -m pip
PIP_INSTALL := $(PIP) install --progress-bar off --only-binary :all: --no-build-isolation -c constraints.txt
SHOW := awk '/Downloading .*(MB|GB)/ {sub(/.*\//, "", $$2); split($$2, w, "-"); print "    " w[1], w[2], $$3, $$4; fflush()}'

.PHONY: help install format check test test-here test-ray nightly readers demo gpu-check

help:
	@echo "make install     .venv with everything, tests included"
	@echo "make demo        a small made-up corpus through every stage, on this machine's CPU"
	@echo "make test        all tests but the long ones"
	@echo "make nightly     the long ones: random moments, repeated runs on Ray and S3"
	@echo "make check       format, lint, types, imports between floors"
	@echo "make format      rewrite the code in the project's format"
	@echo "make gpu-check   compare this machine's GPU with its CPU"

install: $(DEV_READY)

format: $(DEV_READY)
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

check: $(DEV_READY)
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()" --no-logo

# At once: one process with all that needs Ray, which starts a dozen of its own and often waits, and two with the rest.
test: $(DEV_READY) readers
	@$(MAKE) --no-print-directory --keep-going -j2 test-here test-ray

test-here:
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "not ray and not nightly"

test-ray:
	@echo "==> Tests on Ray run beside the others; what they print is shown when they end"
	@log=$$(mktemp); status=0; $(PYTHON) -m pytest -m "ray and not nightly" > $$log 2>&1 || status=$$?; \
	    echo "==> Tests on Ray:"; cat $$log; rm $$log; exit $$status

nightly: $(DEV_READY)
	$(PYTHON) -m pytest -m nightly

# Readers of exports that do not fit beside our own pins: 73 MB, 10 s, once.
readers: $(READERS)/.ready

$(READERS)/.ready: tests/export/readers/requirements.txt $(DEV_READY)
	@$(PYTHON) tests/export/readers/build.py $(READERS)
	@touch $@

demo: $(DEMO_READY)
	@echo "==> 1 of 5: speak a small corpus with espeak-ng into demo/corpus"
	$(PYTHON) jobs/synthesize_corpus.py --output demo/corpus --runner ray
	@echo "==> 2 of 5: manifest, features, codebooks and tokens into demo/run, on a local Ray as on a cluster"
	$(PYTHON) jobs/run_pipeline.py --preset jobs/presets/demo.toml --runner ray
	@echo "==> 3 of 5: the tokens as data for language models, into demo/export"
	$(PYTHON) jobs/export_tokens.py --tokens demo/run/tokens --manifest demo/run/manifest --deduplicate \
	    --valid-fraction 0.2 --split-by-speaker --output demo/export --runner ray
	@echo "==> 4 of 5: the same tokens without Ray, in one process, into demo/here; the bytes must be the same"
	$(PYTHON) jobs/tokenize_corpus.py --manifest demo/run/manifest --encoder encoder-small --num-clusters 100 \
	    --codebooks demo/run/codebooks --output demo/here --runner here
	$(PYTHON) jobs/verify_dataset.py --dataset demo/run/tokens --compare demo/here
	@echo "==> 5 of 5: four utterances spoken again from their tokens by vocoder-small, into demo/listen"
	$(PYTHON) jobs/tokenize_corpus.py --manifest demo/run/manifest --encoder encoder-small --num-clusters 500 \
	    --codebooks encoder-small --output demo/shipped_tokens --runner here
	$(PYTHON) jobs/evaluate.py --vocoder vocoder-small --tokens demo/shipped_tokens --manifest demo/run/manifest \
	    --num-utterances 4 --examples 4 --judges stft log_mel mcd --output demo/listen
	@echo "==> Done. demo/run/tokens is a Parquet dataset; demo/run/tokenizer loads with Tokenizer.from_pretrained;"
	@echo "    demo/export/megatron and parquet open in trainers, demo/export/README.md says what is in them."
	@echo "    Open demo/listen/index.html in a browser to hear them."
	@echo "    Run make demo again: nothing is computed twice. Start afresh: rm -r demo"

gpu-check: $(DEMO_READY)
	$(PYTHON) jobs/check_gpu.py

$(VENV)/bin/python:
	@for name in python3.11 python3.12 python3.13 python3; do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "==> $(VENV) with $$("$$name" --version)"; \
	        "$$name" -m venv $(VENV) || { rm -rf $(VENV); \
	            echo "error: $$name cannot make a venv; on Debian and Ubuntu: apt install $$name-venv" >&2; exit 1; }; \
	        exit 0; \
	    fi; \
	done; \
	echo "error: Strata needs Python 3.11 or newer; none of python3.11, python3.12, python3.13, python3 is" >&2; exit 1

$(VENV)/.ready-pip: constraints.txt | $(VENV)/bin/python
	@$(PIP) install -q --progress-bar off -c constraints.txt -U pip setuptools
	@touch $@

$(VENV)/.ready-demo: pyproject.toml $(VENV)/.ready-pip
	@echo "==> Installing Strata into $(VENV), once: 2.3 GB on disk, 100 s on 2 cores; much more where torch brings CUDA"
	@$(PIP_INSTALL) -e ".[cpu,demo,plots]" | $(SHOW)
	@touch $@

$(VENV)/.ready-dev: pyproject.toml $(VENV)/.ready-pip
	@echo "==> Installing Strata and its tests into $(VENV), once: 2.5 GB on disk, 100 s on 2 cores; much more where torch brings CUDA"
	@$(PIP_INSTALL) -e ".[cpu,demo,dev]" | $(SHOW)
	@$(PIP_INSTALL) --no-deps resemblyzer | $(SHOW)
	@touch $@ $(VENV)/.ready-demo
