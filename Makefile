# `make demo` and `make test` do all the set-up on a fresh machine with Python (3.11 to 3.13) and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow test-minimums benchmark clean

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/trila demo demo

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --doctest-modules --pyargs trila
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow -n 2 --dist loadfile

# The fast tests with the oldest versions that pyproject.toml allows.
test-minimums:
	$(PYTHON) -m venv $(VENV)-minimums
	$(VENV)-minimums/bin/python -m pip install --quiet --upgrade pip
	$(PYTHON) tests/minimums.py > $(VENV)-minimums/constraints.txt
	$(VENV)-minimums/bin/python -m pip install --quiet -e '.[test]' -c $(VENV)-minimums/constraints.txt
	$(VENV)-minimums/bin/pytest

benchmark: $(INSTALLED)
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/limits.py
	$(BIN)/python benchmarks/accounting.py
	$(BIN)/python benchmarks/incremental.py

clean:
	rm -rf $(VENV) $(VENV)-minimums build dist demo
