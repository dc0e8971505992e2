# Two commands on a fresh machine: `make demo` and `make test`. Each sets up all that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# They start hundreds of processes, and each would compile this package anew.
demo test test-real bench: export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-real clients lint bench clean

demo: $(VENV)/.demo
	@$(BIN)/trueline demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not real and not soak" $(ARGS)

test-real: $(VENV)/.dev
	$(BIN)/python -m pytest -m "real or soak" $(ARGS)

# What other projects' clients need, in an environment of their own: tests marked real prove the protocols with them.
clients: .venv-clients/.ready

.venv-clients/.ready: tests/serving/clients.txt
	@$(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/pip install --quiet --no-deps --requirement tests/serving/clients.txt
	@touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python bench/run.py $(ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .venv-clients .mypy_cache .ruff_cache .pytest_cache .hypothesis
