# The verbs of the project; CI uses the same ones. Everything runs in .venv, which is made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install demo test test-cores lint format bench soak docs clean

help:
	@echo "make demo     run the main job: a server, a JSON-RPC service and SIP requests, drawn as ladders"
	@echo "make test     run the tests (those that need SIPp or Kamailio are skipped where it is not installed)"
	@echo "make test-cores  only the tests of the protocol cores, without event loop or sockets"
	@echo "make lint     ruff and mypy"
	@echo "make bench    the benchmarks, beside Kamailio and the Python peers where they are installed"
	@echo "make soak     20 minutes of mixed load and faults at random, and whether anything is lost or left"
	@echo "make docs     write the generated pages, and build the documentation into site/"
	@echo "make install  only set up .venv"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sipwright needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/sipwright demo

test: install
	$(BIN)/python -m pytest

# The cores have neither event loop nor sockets; what their tests do takes less than two seconds, and pytest as much again.
CORES := tests/test_netstring.py tests/test_timerqueue.py tests/sip tests/transaction tests/lang \
	$(wildcard $(addprefix tests/jsonrpc/test_,addresses.py binding.py convert.py deadlines.py dispatch.py lenient.py limits.py messages.py outcome.py \
	peer.py resulttext.py service.py template.py turns.py typed.py))

test-cores: install
	$(BIN)/python -m pytest -q -m "not scenario" $(CORES)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

bench: $(VENV)/.installed-bench
	-$(BIN)/python benchmarks/transactions.py
	-$(BIN)/python benchmarks/transactions.py --suspended 100000
	-$(BIN)/python benchmarks/workers.py
	-$(BIN)/python benchmarks/rpc.py
	-$(BIN)/python benchmarks/rpc.py --in-flight 100000
	-$(BIN)/python benchmarks/shared_tables.py

soak: install
	-$(BIN)/python benchmarks/soak.py

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
