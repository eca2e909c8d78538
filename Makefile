# The one command surface: people, the README and CI call these and nothing else.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
CLUSTER := $(PYTHON) -m cluster
WITH_CLUSTER = eval "$$($(CLUSTER) env)" &&

.PHONY: help
help: ## List the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# What everything stands on

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Shoal needs Python 3.11 or newer: set PYTHON=..." >&2; exit 1; }
	@echo "--- Installing Shoal and its development tools into .venv" >&2
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[operator]' --group dev
	touch $@

.PHONY: install
install: .venv/installed ## Install Shoal and its development tools into .venv.

# Checks

.PHONY: check
check: install ## Lint, types, layers, and whether generated files are up to date.
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config pyproject.toml
	$(BIN)/python -m shoal.crdgen --check
	$(BIN)/python -m shoal.blocking_gen --check

.PHONY: format
format: install ## Format the code, and mend what can be mended.
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

.PHONY: generate
generate: install ## Write the CRDs and the synchronous API anew.
	$(BIN)/python -m shoal.crdgen
	$(BIN)/python -m shoal.blocking_gen

# The cluster

.PHONY: cluster-up
cluster-up: ## Bring up a cluster to try and to test on (or find the one that is there).
	$(CLUSTER) up

.PHONY: cluster-down
cluster-down: ## Stop the embedded cluster and leave nothing of it.
	$(CLUSTER) down

.PHONY: cluster-status
cluster-status: ## Tell how the cluster is.
	@$(CLUSTER) status

.PHONY: cluster-env
cluster-env: ## Print the variables that a shell needs: eval "$(make -s cluster-env)".
	@$(CLUSTER) env

.PHONY: operator-image
operator-image: install cluster-up ## Build the operator's image and load it into the cluster.
	operator/build_image.sh

.PHONY: deploy
deploy: operator-image ## Install or upgrade the chart in the cluster, with MinIO to try out.
	$(WITH_CLUSTER) operator/deploy.sh

.PHONY: undeploy
undeploy: ## Uninstall the chart.
	$(WITH_CLUSTER) helm uninstall shoal --namespace shoal-system --wait

# What the README begins with

.PHONY: demo
demo: install ## Run the demo: a map over the source files of Python's standard library.
	examples/demo/run.sh

.PHONY: test
test: install check deploy ## Run every test; brings up all that they need.
	$(WITH_CLUSTER) $(BIN)/pytest --numprocesses 2

.PHONY: test-unit
test-unit: install ## Run the tests that need no cluster.
	$(BIN)/pytest tests/unit tests/chart

# More

.PHONY: bench
bench: install deploy ## Measure, and print the figures beside the goals.
	$(WITH_CLUSTER) $(BIN)/python benchmarks/run.py

SECONDS ?= 300
SOAK ?=

.PHONY: soak
soak: install deploy ## Random faults against a stream of maps: SECONDS=1200, SOAK="--seed 7".
	$(WITH_CLUSTER) $(BIN)/python benchmarks/soak.py --seconds $(SECONDS) $(SOAK)

.PHONY: faults
faults: install deploy ## Let the operator die at every await that it has; takes a quarter of an hour.
	$(WITH_CLUSTER) PYTHONPATH=tests $(BIN)/python -m faults.sweep

.PHONY: wheel
wheel: install ## Build the wheel into dist/.
	$(BIN)/uv build --wheel --quiet
