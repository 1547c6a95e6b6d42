# Two commands matter: `make demo` sets up and runs the main job on the embedded models, `make test` sets up and runs all tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv does not read pip's settings: hand it the index that pip was told to use, if any.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

.PHONY: setup demo scale-demo test lint types floors check lock clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirements requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/colonnade eval preset:single preset:self-consistency preset:best-of-n preset:verify-then-fuse \
		preset:critic-rank-fuse preset:mixture-of-agents --task arithmetic --items 60 --plot demo-output/accuracy-cost.svg
	$(BIN)/colonnade graph preset:critic-rank-fuse --out demo-output/critic-rank-fuse.svg

# Needs PostgreSQL and Redis as services: COLONNADE_DATABASE_URL and COLONNADE_REDIS_URL, else those of this machine.
scale-demo: setup
	$(BIN)/python scripts/scale_demo.py --json

test: setup
	rm -f .coverage .coverage.*
	$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report= --cov-fail-under=0
	$(BIN)/coverage report --fail-under=90

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

floors: setup
	$(BIN)/lint-imports

check: lint types floors

# The lock names packages, versions and hashes, and no index: it installs from whichever index the machine uses.
lock:
	$(BIN)/uv pip compile pyproject.toml --extra dev --generate-hashes --no-header --quiet --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml docker/build.in --extra parquet --extra scale --extra search --generate-hashes \
		--constraint requirements.lock --no-annotate --no-header --quiet --output-file docker/requirements.lock

clean:
	rm -rf $(VENV) demo-output .colonnade
