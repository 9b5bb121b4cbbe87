# `make` lists the targets. Each one that needs the environment makes it (.venv) by itself.

PYTHON ?= python3
APP ?= breast_cancer
BIN := .venv/bin
CLIENTS := tests/clients/.venv
CLOUD := tests/cloud/.packages
PROMTOOL := tests/prometheus/.bin
EXTRAS := dvc dvc-gs gcs
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3
INSTALL = { $(APT) update && $(APT) install -y --no-install-recommends $(1) >/dev/null; } || \
	{ echo "install $(1) first: it could not be installed here"; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help setup up test test-clients test-cloud test-browser test-prometheus dashboard test-compose test-faults test-slow lint check lock lock-image clean bench-serving bench-swaps bench-log bench-log-reading bench-monitoring

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Greenroom needs Python 3.11 or later, and $(PYTHON) is older; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "making .venv from requirements.lock (once; about a minute)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: .venv/ready ## Make the environment, .venv

up: setup ## Run an app on this machine: make up [APP=credit_risk]
	@exec $(BIN)/greenroom up apps/$(APP)

TESTS ?=

test: setup ## Run the tests (under six minutes): make test TESTS=tests/test_gate.py
	$(BIN)/python -m pytest $(TESTS)

# Their libraries do not install beside Greenroom's, so they have an environment of their own.
$(CLIENTS)/ready: tests/clients/requirements.lock
	@echo "making $(CLIENTS) from $< (once; about a minute)"
	@$(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Laid over .venv, as an image that asks for these extras has them.
$(CLOUD)/ready: .venv/ready $(EXTRAS:%=deploy/extras/%.lock) tests/cloud/requirements.lock
	@echo "installing DVC, Google's libraries and an emulator into $(CLOUD) (once; a minute)"
	@rm -rf $(CLOUD)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes \
		--target $(CLOUD) $(patsubst %,-r %,$(filter %.lock,$^))
	@touch $@

test-slow: setup ## Run the tests that take real processes through tens of seconds
	$(BIN)/python -m pytest -m slow $(or $(TESTS),tests)

FAULTS_SECONDS ?= 120
FAULTS_SEED ?= 0

test-faults: setup ## Kill processes under load: FAULTS_SECONDS=120 FAULTS_SEED=(that of a run)
	FAULTS_SECONDS=$(FAULTS_SECONDS) FAULTS_SEED=$(FAULTS_SEED) $(BIN)/python -m pytest -m faults -rfEsP tests/faults

test-clients: setup $(CLIENTS)/ready ## Run Triton's and KServe's clients against a served model
	$(CLIENTS)/bin/python -m pytest -c tests/clients/pytest.ini $(or $(TESTS),tests/clients)

# The warnings of Google's libraries are not ours.
test-cloud: setup $(CLOUD)/ready ## Run what needs DVC, and gs:// against an emulator
	PYTHONPATH=$(CURDIR)/$(CLOUD) PATH=$(CURDIR)/$(CLOUD)/bin:$$PATH \
		$(BIN)/python -m pytest -m cloud -W ignore $(or $(TESTS),tests/cloud)

test-browser: setup ## Open the documentation pages in Chromium (installed where there is apt)
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
		$(call INSTALL,chromium)
	$(BIN)/python -m pytest -m browser tests/test_docs_pages.py

# Out of Debian's package, which is not installed: its service would begin to listen on 9090.
$(PROMTOOL)/promtool:
	@mkdir -p $(PROMTOOL)
	@command -v promtool >/dev/null && ln -sf "$$(command -v promtool)" $@ || \
		{ echo "fetching promtool from Debian's package of Prometheus (once; half a minute)"; \
		cd $(PROMTOOL) && { $(APT) download prometheus 2>/dev/null || \
			{ $(APT) update && $(APT) download prometheus; }; } && \
		dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/promtool && \
		rm prometheus_*.deb; } || \
		{ echo "install promtool (Prometheus) first: it could not be fetched here"; exit 1; }

test-prometheus: setup $(PROMTOOL)/promtool ## Check Prometheus' rules with promtool (fetched where there is apt)
	PATH=$(CURDIR)/$(PROMTOOL):$$PATH $(BIN)/python -m pytest -m prometheus $(or $(TESTS),tests/prometheus)

dashboard: setup ## Write Grafana's dashboard anew
	$(BIN)/python deploy/grafana/dashboard.py

# The verification script of an app's document calls curl and jq.
test-compose: setup ## Bring up each app's containers (skipped where there is no Docker)
	@[ ! -x ../shared/docker/engine ] || ../shared/docker/engine || ../shared/docker/engine || \
		echo "no Docker engine could be started here: the tests say that they are skipped"
	@{ command -v curl && command -v jq; } >/dev/null || \
		$(call INSTALL,curl jq)
	$(BIN)/python -m pytest -m compose -rfEs $(or $(TESTS),tests/compose)

lint: setup ## Check style, types and the layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test test-slow test-faults test-clients test-cloud test-browser test-prometheus test-compose ## Everything that CI runs

ROUNDS ?= 5
SECONDS ?= 5
SWAPS ?= 500
ROWS ?= 100000000
BENCH ?=

bench-serving: setup ## Measure against other servers: ROUNDS=5 SECONDS=5 BENCH="--models forest"
	$(BIN)/python -m benchmarks.serving --rounds $(ROUNDS) --seconds $(SECONDS) $(BENCH)

bench-swaps: setup ## Swap versions under load and count what fails: SWAPS=500
	$(BIN)/python -m benchmarks.swaps --swaps $(SWAPS) $(BENCH)

LOG_ROUNDS ?= 20

bench-log: setup ## Measure with the prediction log and without, in turn: LOG_ROUNDS=20 SECONDS=5
	$(BIN)/python -m benchmarks.log --rounds $(LOG_ROUNDS) --seconds $(SECONDS) $(BENCH)

bench-log-reading: setup ## Read a day of a prediction log of 100 million rows: ROWS=100000000
	$(BIN)/python -m benchmarks.log_reading --rows $(ROWS) $(BENCH)

bench-monitoring: setup ## Drift over windows of up to ten million rows, beside Evidently
	$(BIN)/python -m benchmarks.monitoring $(BENCH)

lock: ## Pin the dependencies anew (needs uv)
	$(PIN) pyproject.toml --group dev --upgrade -o requirements.lock
	$(PIN) tests/clients/requirements.in --upgrade -o tests/clients/requirements.lock
	$(MAKE) lock-image UPGRADE=--upgrade

PIN := uv pip compile --universal --generate-hashes --no-header --no-annotate --python-version 3.11
LEFT_OUT = $$(sed -nE 's/^([A-Za-z0-9._-]+)==.*/--no-emit-package \1/p' $(1) | sort -u)

lock-image: ## Take from requirements.lock what an image needs (needs uv)
	$(PIN) pyproject.toml --extra postgres --extra basic-auth -c requirements.lock -o deploy/requirements.lock
	printf 'hatchling\nuv\n' | $(PIN) - -c requirements.lock -o deploy/build.lock
	for extra in $(EXTRAS); do \
		$(PIN) pyproject.toml --extra $$extra -c requirements.lock $(UPGRADE) \
			$(call LEFT_OUT,deploy/requirements.lock) -o deploy/extras/$$extra.lock || exit 1; done
	$(PIN) tests/cloud/requirements.in -c requirements.lock $(UPGRADE) \
		$(call LEFT_OUT,requirements.lock) -o tests/cloud/requirements.lock

clean: ## Remove the environment and what the tools left
	rm -rf .venv $(CLIENTS) $(CLOUD) $(PROMTOOL) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
