# Everything happens inside this folder: .venv, .cache and build. No root, no network once they are filled.

BIN := .venv/bin
CPYTHON_PACKAGES := private_store message_plane http_door gateway_agent key_servers keycast tools
# The tests on all processors; at the end failures, the slowest, why tests are skipped, and the names of those that failed.
TOLD := --durations=10 -rsfE
ARGS ?=

.PHONY: help deb deb-test demo test test-all check-fast check cpython-types board-types bench radio-bench radio-test fuzz conformance vm vm-test home-assistant dist manifest lock clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: vm ## re-key a house of 8 virtual boards and watch it (ARGS="--boards 20 --loss 0.2")
	@$(BIN)/keycast demo $(ARGS)

test: check ## style, types and all tests but the long ones, on all processors; tells why tests are skipped and which are slow
	@$(BIN)/python -m pytest --shards $(TOLD) --without-long $(ARGS)

test-all: check ## the same with the long tests: each page typed, each variant, each cut; what CI runs
	@$(BIN)/python -m pytest --shards $(TOLD) $(ARGS)

check-fast: check ## style, types and the tests without servers and boards, in a few minutes
	@$(BIN)/python -m pytest --shards --per-processor 2 $(TOLD) --without-long --ignore tests/portable/test_on_vm.py tests/unit tests/property tests/portable $(ARGS)

check: vm ## style and types, without the tests
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(MAKE) --no-print-directory --jobs 2 cpython-types board-types

cpython-types:
	@$(BIN)/mypy --no-error-summary $(CPYTHON_PACKAGES)

board-types:
	@$(BIN)/basedpyright --level error

bench: vm ## measure, beside peers in the same run; writes build/bench.json
	@$(BIN)/python -m tools.bench $(ARGS)

radio-bench: vm ## deliver keys from real BlueZ in a virtual machine, and print how long that takes (IMAGE=trixie)
	@$(BIN)/python -m tools.radio_bench measure --image $(or $(IMAGE),bookworm) $(ARGS)

radio-test: vm ## test the gateway on real BlueZ and a real access point in virtual machines (IMAGE=trixie for one)
	@$(BIN)/python -m tools.radio_bench test $(addprefix --image ,$(IMAGE)) $(ARGS)

fuzz: .venv/complete ## throw octets at every parser (ARGS="coap --seconds 300" for one)
	@$(BIN)/python -m tests.fuzz $(or $(ARGS),all --seconds 10)

conformance: vm ## run the tests and print each requirement with its result; writes build/conformance.json
	@$(BIN)/python -m tools.conformance $(ARGS)

vm-test: vm ## run the portable tests in another MicroPython (VM=sid/amd64, or VM=/path/of/micropython)
	@KEYCAST_MICROPYTHON=$(VM) $(BIN)/python -m pytest -q tests/portable/test_on_vm.py $(ARGS)

vm: .venv/complete ## find or fetch the MicroPython VM
	@$(BIN)/python -m keycast.micropython_vm

home-assistant: vm ## test the gateway with Home Assistant itself, which is installed in .cache (Python 3.13, 820 MB)
	@KEYCAST_HOME_ASSISTANT=$$(tools/make_home_assistant.sh) $(BIN)/python -m pytest -q -rs tests/home_assistant $(ARGS)

dist: .venv/complete ## build the sdist and the wheel in dist/
	@tools/make_dist.sh

deb: .venv/complete ## build the Debian package in build/deb/, for this release of Debian and this architecture
	@tools/make_deb.sh

deb-test: .venv/complete ## install, run, upgrade, remove and purge it in a fresh Debian (root; ARGS="--before COMMIT")
	@$(BIN)/python -m tests.deb_package $(ARGS)

manifest: .venv/complete ## write micropython/manifest.py anew from what board.py imports
	@$(BIN)/python -m tools.board_manifest

.venv/complete: requirements.lock pyproject.toml setup.py tools/make_venv.sh
	@tools/make_venv.sh

lock: ## resolve pyproject.toml anew into requirements.lock (needs the network)
	@tools/make_lock.sh

clean: ## remove everything that was made here
	rm -rf .venv .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
