# Everything a stranger types. State of the demo lives in .flexergy (or FLEXERGY_HOME).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint bench soak docs clean install lock

install: $(STAMP)

$(STAMP): requirements.lock requirements-bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Flexergy needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install -q --require-hashes -r requirements-bootstrap.lock
	$(BIN)/uv pip sync -q --no-build --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# make demo          the whole platform with a simulated plant, until Ctrl-C
# make demo ONCE=1   the chain once, summary as text; JSON=1 for JSON
demo: install
	@$(BIN)/flexergy up --demo $(if $(ONCE),--once) $(if $(JSON),--json)

test: install
	$(BIN)/python -m pytest -n auto --maxprocesses 4

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m benchmarks

soak: install
	$(BIN)/python -m pytest -m soak --timeout 0
	$(BIN)/python -m pytest -m "hypothesis and not soak" --hypothesis-profile new --timeout 0

docs: install
	$(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) .flexergy .peers build dist *.egg-info .pytest_cache .ruff_cache .hypothesis tests/report

lock: install
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	  --no-emit-index-url --no-header -o requirements.lock -q
