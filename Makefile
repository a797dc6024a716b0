# Two commands on a fresh machine: `make demo` and `make test`. Everything goes into .venv, from the lock files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: browser help setup setup-dev litellm demo serve test test-parts test-learning test-scenarios terraform terraform-schema terraform-online check rehearse bench lock clean

help:
	@echo "make demo   five pretend clouds, a surge, and the gateway in front of them (no keys, no services)"
	@echo "make serve  the gateway with CONFIG=policies/minimal.yaml (or yours)"
	@echo "make litellm  what 'driver: litellm' needs, for clouds of other dialects (335 MB)"
	@echo "make test   everything that proves it: checks, unit, property and end-to-end tests"
	@echo "make terraform  the Terraform modules alone; terraform-schema, terraform-online: see terraform/README.md"
	@echo "make check  ruff, mypy --strict, layers, sizes"
	@echo "make bench  cost per answer and per event against nginx (needs nginx, wrk, gcc, bc)"

$(VENV)/.run: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	$(PIP) install --no-build-isolation --no-deps -e .
	$(BIN)/python -m compileall -q gateway
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(PIP) install --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

setup: $(VENV)/.run

setup-dev: $(VENV)/.dev

litellm: setup
	$(PIP) install --require-hashes --no-deps -r requirements-litellm.lock

demo: setup
	@$(BIN)/spillgate demo $(ARGS)

CONFIG ?= policies/minimal.yaml
serve: setup
	@$(BIN)/spillgate serve $(CONFIG) $(ARGS)

# The modules, read by ourselves and, where it is installed, run by Terraform on providers that know only their schema.
terraform: setup-dev
	$(BIN)/python -m pytest tests/terraform

# What packages generated from the providers say of them, written to tests/terraform/schemas (ARGS=--check: compared only).
terraform-schema: setup-dev
	mkdir -p $(VENV)/schema/k8s
	$(PIP) install --no-deps --upgrade --target $(VENV)/schema pulumi-alicloud==4.0.0 tencentcloud_iac_pulumi==0.2.3
	cd $(VENV)/schema/k8s && npm pack --silent @cdktf/provider-kubernetes@12.1.1 && tar -xzf cdktf-provider-kubernetes-12.1.1.tgz
	$(BIN)/python -m tests.terraform.extract $(VENV)/schema $(ARGS)

# The same modules with the real providers, downloaded from the Terraform registry. Makes nothing, needs no account.
terraform-online:
	@for module in terraform/*/main.tf terraform/examples/*/main.tf; do \
		folder=$$(dirname $$module); echo "== $$folder"; \
		(cd $$folder && terraform init -backend=false -input=false -no-color > /dev/null && terraform validate -no-color && \
			if [ -d tests ]; then terraform test -no-color; fi) || exit 1; \
	done

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/house

# Tests in real time on a machine that others use too get a second try, which the summary names.
REAL := -rsR --reruns 1

# What computes runs side by side; what measures time against real processes runs alone.
test: check browser
	$(MAKE) --no-print-directory -j2 --output-sync=target test-parts test-learning test-scenarios terraform
	$(BIN)/python -m pytest $(REAL) tests/deploy tests/e2e tests/console
	$(BIN)/python -m pytest $(REAL) tests/chaos

test-parts:
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest tests/core tests/policy tests/wire tests/upstream
	$(BIN)/python -m coverage report --include='gateway/core/*,gateway/policy/*,gateway/wire/*' --fail-under=100
	$(BIN)/python -m pytest tests/pipeline tests/contracts tests/clouds tests/sim tests/cli tests/store tests/edge tests/telemetry

LEARNING := tests/scenarios/test_unknown_limits.py tests/scenarios/test_lessons.py
test-learning:
	$(BIN)/python -m pytest -s $(LEARNING)

test-scenarios:
	$(BIN)/python -m pytest -s tests/scenarios $(LEARNING:%=--ignore=%)

# The console is tested in a real browser: one on the PATH, or Debian's, which root may install.
browser:
	@command -v chromium > /dev/null || command -v google-chrome > /dev/null || \
		{ test "$$(id -u)" = 0 && apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium > /dev/null; } || \
		{ echo "the console's tests need Chromium on the PATH (on Debian: apt-get install chromium)"; exit 1; }

# The image's steps, without an engine. hadolint and the compose schema are in tests/deploy.
rehearse:
	deploy/rehearse

MEASURE ?= ../shared/bench/measure
bench: setup
	@MEASURE=$(MEASURE) tests/bench/run

# litellm has shipped a credential stealer once: a version is taken when it has been public for a week.
lock: setup-dev
	$(PIP) install uv
	$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		pyproject.toml --group build -o requirements.lock
	$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--exclude-newer-package "litellm=7 days" pyproject.toml --extra litellm --group build -c requirements.lock -o requirements-litellm.lock
	$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		pyproject.toml --extra litellm --group dev -c requirements-litellm.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
