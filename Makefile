# SPDX-License-Identifier: Apache-2.0
# make demo    the main job on embedded defaults: a wave over a simulated cluster, in your terminal
# make test    everything that can be tested on this machine; as root on Debian with the lab of real Slurm nodes
# make help    all targets

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?=
LAB_NODES ?= 4
ARGS ?=
MINUTES ?= 10
PACKAGE_PYTHON ?= $(firstword $(wildcard /usr/bin/python3.12 /usr/bin/python3.13 /usr/bin/python3.11 /usr/bin/python3))
SECONDS ?= 60
SEED ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format unit lab lab-down lab-test fuzz audit kubernetes-check broker-test crash crash-lab soak lab-transcript docs docs-check html pictures bench-nhc bench-agent bench-events bench-cycle bench-broker bench-permits completions lock clean venv venv-dev deb rpm lint-packages

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

venv:
	@PYTHON="$(PYTHON)" packaging/make-venv.sh $(VENV) requirements.lock

venv-dev:
	@PYTHON="$(PYTHON)" packaging/make-venv.sh $(VENV) requirements-dev.lock

demo: venv ## a rolling reboot of 24 simulated nodes, live (ARGS=--json for scripts)
	@$(BIN)/refloat demo $(ARGS)

test: venv-dev ## lint, types, imports, unit, scenario, crash and contract tests; the lab when root on Debian
	@$(BIN)/python tests/run.py

check: venv-dev ## format, lint, types, import contracts, generated docs: fast
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

unit: venv-dev ## the tests that need no lab
	$(BIN)/pytest

format: venv-dev ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-nhc: venv-dev ## what a health pass costs, beside NHC's (root; NHC_DIR= for its source)
	$(BIN)/python tests/bench/nhc.py $(ARGS)

bench-agent: venv-dev ## from a kernel event to the drain, idle cost, frozen filesystems (root; ARGS=--trials=20)
	$(BIN)/python tests/bench/agent.py $(ARGS)
	$(BIN)/python tests/bench/frozen.py
	$(BIN)/python tests/bench/prolog.py
	$(BIN)/python tests/bench/storms.py
	$(BIN)/python tests/bench/kernel_log.py

bench-events: venv-dev ## from a fault on a node to the drain in real Slurm (root on Debian)
	$(BIN)/python tests/bench/labevents.py $(ARGS)

bench-cycle: venv-dev ## out of service for a reboot: a script in the health check, and refloat (root on Debian)
	$(BIN)/python tests/bench/cycle.py $(ARGS)

bench-broker: venv-dev ## nodes at the shipped mosquitto: until all are in by their certificates (ARGS=10000)
	PYTHONPATH=tests $(BIN)/python tests/bench/broker.py $(ARGS)

bench-permits: venv-dev ## what it costs to answer thousands of permits in one turn
	$(BIN)/python tests/bench/permits.py

bench-scale: venv-dev ## thousands of agents on one coordinator and a real mosquitto (ARGS=--sizes=100,1000)
	$(BIN)/python tests/bench/scale.py $(ARGS)

docs/scale.svg: build/bench/scale.json
	$(BIN)/python tests/bench/scalereport.py

lab: venv-dev ## bring up real Slurm, MQTT, InfluxDB and rebooting nodes, and leave them up (LAB_NODES, LAB_RELEASE)
	@$(BIN)/python tests/lab/lab.py up $(LAB_NODES)

lab-test: venv-dev ## the tests on the lab
	$(BIN)/pytest -m lab tests/lab

fuzz: venv-dev ## read what nobody would write: hypothesis, then atheris for SECONDS each where PyPI has it
	REFLOAT_FUZZ_EXAMPLES=2000 REFLOAT_FUZZ_KB=16 $(BIN)/pytest -q --timeout=1200 tests/fuzz
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet "atheris>=3" || \
		{ echo "atheris cannot be installed here: hypothesis was all"; exit 0; }
	@if $(BIN)/python -c "import atheris" 2>/dev/null; then $(BIN)/python tests/fuzz/atheris_run.py $(SECONDS); fi

audit: venv-dev ## known vulnerabilities of what is pinned, as PyPI tells them; fails where it does not (ARGS="-s osv" asks another)
	@$(BIN)/python -c "import pip_audit" 2>/dev/null || $(BIN)/python -m pip install --quiet pip-audit
	@for lock in requirements.lock packaging/runtime.lock packaging/backends.lock; do \
		$(BIN)/python -m pip_audit --strict --requirement $$lock --no-deps --disable-pip $(ARGS) || exit 1; done

kubernetes-check: venv-dev ## the manifests by the schemas of Kubernetes itself (needs kubectl; 22 MB from PyPI)
	@$(BIN)/python -c "import kubernetes_validate" 2>/dev/null || $(BIN)/python -m pip install --quiet kubernetes-validate || \
		{ echo "kubernetes-validate cannot be installed here: the unit tests are all"; exit 0; }
	@if $(BIN)/python -c "import kubernetes_validate" 2>/dev/null; then \
		mkdir -p build && kubectl kustomize packaging/kubernetes >build/kubernetes.yaml && \
		$(BIN)/kubernetes-validate --strict --version 1.31 build/kubernetes.yaml; fi

broker-test: venv-dev ## the tests of access list, certificates and docs/broker.md, on a real mosquitto
	$(BIN)/pytest -m broker tests/broker

crash: venv-dev ## every kill point, and every pair, of the simulated crash campaign; longer random stories (minutes)
	REFLOAT_CRASH=all $(BIN)/pytest tests/crash

crash-lab: venv-dev ## kill the real agent, and cut the real node's power, at every boundary of a cycle (root on Debian)
	REFLOAT_CRASH=all $(BIN)/pytest -s -m lab tests/lab/test_crash_lab.py

soak: venv-dev ## random triggers, jobs, kills and outages in the lab, with the promises watched (MINUTES, SEED)
	$(BIN)/python tests/lab/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

lab-transcript: venv-dev ## write docs/lab-transcript.md: one cycle on real Slurm, second by second
	@mkdir -p build
	$(BIN)/python tests/lab/transcript.py >build/lab-transcript.md && mv build/lab-transcript.md docs/lab-transcript.md

lab-down: venv-dev ## remove every trace of the lab but its cached images
	@$(BIN)/python tests/lab/lab.py down

docs: venv-dev ## write the generated parts of docs/
	$(BIN)/python docs/generate.py

html: venv-dev ## docs/ as a site in build/html; fails where a link is broken
	$(BIN)/mkdocs build --quiet --strict

pictures: venv-dev ## make docs/pictures anew: a wave in the terminal, and a simulated one as a plot (a minute)
	$(BIN)/python docs/pictures.py

deb: ## build/deb: packages for this release of Debian (PACKAGE_PYTHON; PYSLURM=PATH); see docs/packages.md
	$(PACKAGE_PYTHON) packaging/make_deb.py --python $(PACKAGE_PYTHON) --out build/deb $(PYSLURM:%=--pyslurm %) $(ARGS)

rpm: ## build/rpm: packages for this release of EL, or for machines with this Python (PACKAGE_PYTHON; PYSLURM=PATH)
	$(PACKAGE_PYTHON) packaging/make_rpm.py --python $(PACKAGE_PYTHON) --out build/rpm $(PYSLURM:%=--pyslurm %) $(ARGS)

lint-packages: ## lintian over build/deb, rpmlint over build/rpm: nothing to say, or a reason in packaging/
	@packaging/lint.sh build/deb build/rpm

completions: venv-dev ## write packaging/completions/: what bash, zsh and fish read to complete the refloat command
	$(BIN)/python -m refloat_cli.completions packaging/completions

lock: venv-dev ## pin the newest versions of all dependencies
	$(BIN)/pip-compile --quiet --upgrade --no-header --no-emit-index-url --no-emit-find-links --strip-extras \
		--extra demo --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --no-header --no-emit-index-url --no-emit-find-links --strip-extras \
		--extra demo --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(BIN)/pip-compile --quiet --no-header --no-emit-index-url --no-emit-find-links --strip-extras --generate-hashes \
		--extra journal --extra gpu --constraint requirements.lock --output-file packaging/runtime.lock pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --no-header --no-emit-index-url --no-emit-find-links --strip-extras --generate-hashes \
		--allow-unsafe --output-file packaging/backends.lock packaging/backends.in

clean: ## remove what was built here
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
