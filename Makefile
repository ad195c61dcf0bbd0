PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run install test test-slow test-vllm lint check-deploy screenshots benchmark benchmark-serving benchmark-llama benchmark-training benchmark-measuring report

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

# Two at a time; those of the page in Chromium after them, alone: beside others it is too slow for its own time-outs.
test: lint
	$(BIN)/python -m pytest -m "not slow and not vllm" --numprocesses 2 --ignore tests/browser
	$(BIN)/python -m pytest -m "not slow and not vllm" tests/browser

# What takes longer: fetching the base from nothing, two processes at once.
test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

# vLLM in an environment of its own (3.5 GB): its CPU build brings parts made for CUDA, which break its import.
.venv-vllm/installed: requirements-vllm.txt
	@echo "Installing vLLM into .venv-vllm (3.5 GB)"
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-vllm.txt
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

test-vllm: .venv/installed-dev .venv-vllm/installed
	$(BIN)/python -m pytest -m vllm tests/vllm

# llama.cpp in an environment of its own: it has no wheels, and is compiled.
.venv-llama/installed: requirements-llama.txt
	@echo "Compiling llama.cpp into .venv-llama (minutes; wants a C++ compiler)"
	$(PYTHON) -m venv .venv-llama
	.venv-llama/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-llama.txt
	touch $@

check-deploy: .venv-vllm/installed
	.venv-vllm/bin/python deploy/check.py

# From a running app (`make run` in another terminal).
screenshots: .venv/installed-dev
	$(BIN)/python docs/screenshots/take.py

benchmark: install
	$(BIN)/python benchmarks/panes.py

benchmark-serving: install .venv-vllm/installed
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/agreement.py

benchmark-llama: install .venv-llama/installed
	$(BIN)/python benchmarks/llama.py

benchmark-training: install
	$(BIN)/python benchmarks/training.py

benchmark-measuring: install
	$(BIN)/python benchmarks/measuring.py

# The shipped support domain through all four families; again it goes on where it was. About $0.10 an hour is what two
# cores are rented for.
report: install
	$(BIN)/python app.py measure support --mode base --mode persona:support-desk --mode adapter:support \
		--mode adapter:support+persona:support-desk --machine-hour-price 0.10 --alone 40 --out measured/support \
		$(if $(wildcard measured/support/plan.json),--resume)
