# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Every target is complete on a fresh machine: it makes what it needs first, and only once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON_OF_VENV := .venv/bin/python
# colcon links the files into ./install, so it must run again when one is added, moved or removed.
FILES := $(shell find vla_driver launch config models data/sample_bag -type f -not -name '*.pyc' -not -path '*/graphs/*' -not -name '.graphs.lock' 2>/dev/null | LC_ALL=C sort | cksum | cut -d' ' -f1)
# The wheels that .venv gets where no ROS 2 is sourced.  Another choice than the last exchanges them, and builds anew.
ROS ?=
DISTRIBUTION := $(or $(ROS),jazzy)
ifeq ($(filter jazzy kilted,$(DISTRIBUTION)),)
$(error ROS=$(ROS); there are wheels for ROS=jazzy (the default) and ROS=kilted)
endif
ENVIRONMENT := .stamps/environment-$(DISTRIBUTION)
BUILD := .stamps/build-$(DISTRIBUTION)-$(FILES)
INTERFACES := .stamps/interfaces-$(DISTRIBUTION)
# The graphs of the shipped models are of these weights, by this exporter.
EXPORTED := models/*/model.safetensors models/*/*/model.safetensors vla_driver/model/export/{graph,graphs,cuts,experts,following,export,joining,manifest,sample}.py
GRAPHS := .stamps/graphs-$(shell cat $(EXPORTED) 2>/dev/null | cksum | cut -d' ' -f1)

# Arguments for pytest, e.g.  make test ARGS='test/geometry -x'
ARGS ?=

.PHONY: help
help: ## show this list
	@echo 'usage: make TARGET [ROS=kilted]'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | column -t -s '|'
	@echo 'ROS=kilted: with the wheels of ROS 2 Kilted instead of Jazzy, where none is sourced'

.PHONY: setup
setup: $(ENVIRONMENT) $(INTERFACES) $(BUILD) $(GRAPHS) ## make .venv (with ROS 2, unless one is sourced), build messages and nodes
	@echo 'ready: .venv/bin/vla_driver --help'

$(ENVIRONMENT): requirements.txt requirements-ros.txt requirements-ros-kilted.txt scripts/make_venv.sh \
		scripts/relocate_ros_wheels.py scripts/install_gl.sh
	@mkdir -p .stamps && rm -f .stamps/environment* .stamps/build-* .stamps/interfaces-*
	@ROS='$(ROS)' scripts/make_venv.sh
	@scripts/install_gl.sh
	@touch $@

$(INTERFACES): $(ENVIRONMENT) $(wildcard interfaces/*/*) $(wildcard interfaces/*/msg/*) scripts/build_interfaces.sh \
		scripts/ros_env.sh
	@scripts/build_interfaces.sh
	@rm -f .stamps/interfaces-* && touch $@

$(BUILD): $(ENVIRONMENT) $(wildcard msg/*.msg) CMakeLists.txt package.xml setup.cfg setup.py pyproject.toml \
		scripts/colcon_build.sh scripts/ros_env.sh scripts/node_executable.in
	@scripts/colcon_build.sh
	@rm -f .stamps/build-* && touch $@

$(GRAPHS): | $(ENVIRONMENT) $(BUILD)
	@for model in nano-blind nano; do $(PYTHON_OF_VENV) -m vla_driver.cli export $$model; done
	@rm -f .stamps/graphs-* && touch $@

.PHONY: demo
demo: setup ## replay the sample bag through the nodes; results in out/demo
	@.venv/bin/vla_driver demo --all-parts --out out/demo

.PHONY: test
test: setup ## run the tests (ARGS='...' goes to pytest)
	@scripts/run_tests.sh $(ARGS)

.PHONY: docs
docs: setup ## write what is made from the code: docs/reference, config/driver.yaml
	@$(PYTHON_OF_VENV) -m vla_driver.settings.nodes.parameter_file config/driver.yaml
	@$(PYTHON_OF_VENV) scripts/make_docs.py


.PHONY: lint
lint: setup ## check style (ruff) and types (mypy)
	@$(PYTHON_OF_VENV) -m ruff check .
	@$(PYTHON_OF_VENV) -m ruff format --check .
	@$(PYTHON_OF_VENV) -m mypy

.PHONY: format
format: setup ## rewrite the code in the project's style (ruff)
	@$(PYTHON_OF_VENV) -m ruff check --fix .
	@$(PYTHON_OF_VENV) -m ruff format .

.PHONY: clean
clean: ## remove what was built (.venv and out/ stay)
	@rm -rf build install log .stamps/build-* .mypy_cache .pytest_cache .ruff_cache
	@find vla_driver test launch scripts -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove .venv and out/ as well
	@rm -rf .venv .stamps out
