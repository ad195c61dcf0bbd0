PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run install test test-slow lint screenshots benchmark

run: install
	@echo "Starting; the page comes first, and shows how far the base model is"
	$(BIN)/python app.py serve

install: .venv/installed

.venv/installed: requirements.txt
	@echo "Installing into .venv (about 2 GB; a minute or a few)"
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(PIP) -r requirements-dev.txt
	touch $@

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -m "not slow"

# What takes longer: fetching the base from nothing, two processes at once.
test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

# From a running app (`make run` in another terminal).
screenshots: .venv/installed-dev
	$(BIN)/python docs/screenshots/take.py

benchmark: install
	$(BIN)/python benchmarks/panes.py
