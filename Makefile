PYTHON ?= python3
PY     := .venv/bin/python
STAMP  := .venv/.stamp
RUN    := $(PY) -m scripts
PYTEST := $(PY) -m pytest
SOAK   ?= 20

.DEFAULT_GOAL := help
.PHONY: help setup up down reset clean test soak matrix rows lint format lock node

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Install the locked tools into .venv (the other targets do it when needed)

# uv comes from the lock too, so nothing is installed whose hash is not committed. `uv pip sync`
# removes what the lock does not name, the project included: it is installed again afterwards.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@awk '/^uv==/ {p=1} p {print} p && !/\\$$/ {exit}' requirements.lock > .venv/uv.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt
	@.venv/bin/uv pip sync --quiet --python $(PY) --require-hashes requirements.lock
	@.venv/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation -e .
	@touch $@

up: $(STAMP)  ## Start the local server, migrate, verify, and print the addresses
	@$(RUN) up

down: $(STAMP)  ## Stop the local server; its data stays
	@$(RUN) down

reset: $(STAMP)  ## Empty the local database and migrate it again
	@$(RUN) reset

clean: $(STAMP)  ## Stop the local server and remove its data
	@$(RUN) clean

test: $(STAMP)  ## Run the tests (about 5 minutes); lists what it skipped and why
	@$(PYTEST) -m "not soak" -n 2 --dist loadscope

soak: $(STAMP)  ## Run the long tests; SOAK=N sets the counts
	@SOAK=$(SOAK) $(PYTEST) -m soak -n 2 --dist loadscope

matrix: $(STAMP) node  ## Run the schema's tests on PostgreSQL 16, 17 and 18
	@for version in 16 17 18; do \
	    echo "PostgreSQL $$version"; \
	    $(PYTEST) -q -m "matrix and not soak" --postgres $$version || exit 1; \
	done

rows: $(STAMP)  ## Print the requirement table: row, tests, passed or not built yet
	@$(PYTEST) -q -m "not soak" --rows

lint: $(STAMP)  ## Check format, types, SQL, workflows, generated files and secrets
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@$(PY) -m scripts.review.squawk
	@.venv/bin/actionlint .github/workflows/*.yml
	@.venv/bin/zizmor --quiet --offline --persona=pedantic .github/workflows
	@$(RUN) seal --check
	@git ls-files -z | xargs -0 .venv/bin/detect-secrets-hook

format: $(STAMP)  ## Format the Python code
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

lock: $(STAMP)  ## Renew requirements.lock
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --upgrade --group dev pyproject.toml -o requirements.lock

node: tests/node/node_modules/.stamp

tests/node/node_modules/.stamp: tests/node/package-lock.json
	@cd tests/node && npm ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@
