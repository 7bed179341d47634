# Tongshi: every command of the project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
export UV_PYTHON_DOWNLOADS := never
export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD := 1

NATIVE_SOURCES := $(shell find native/src -name '*.rs' 2>/dev/null) native/Cargo.toml native/Cargo.lock native/build.rs
CONSOLE_SOURCES := $(shell find console -type f -not -path '*/node_modules/*' 2>/dev/null)

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: .venv/.installed .venv/.native src/tongshi/web/static/index.html ## make .venv with tongshi in it, engine and console built

.venv/.prerequisites: scripts/prerequisites.sh
	@scripts/prerequisites.sh
	@mkdir -p .venv && touch $@

.venv/.installed: .venv/.prerequisites $(wildcard requirements/*.txt)
	@echo "==> Python environment (.venv)"
	@test -x $(PY) || python3.11 -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@.venv/bin/uv pip install --quiet --python $(PY) --require-hashes \
		-r requirements/core.txt -r requirements/media.txt -r requirements/parquet.txt -r requirements/dev.txt
	@touch $@

.venv/.native: .venv/.installed $(NATIVE_SOURCES) pyproject.toml
	@echo "==> media engine (Rust, about a minute the first time)"
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/uv pip install --quiet --python $(PY) --no-build-isolation --no-deps --editable .
	@touch $@

src/tongshi/web/static/index.html: .venv/.prerequisites $(CONSOLE_SOURCES)
	@echo "==> console (npm, Vite)"
	@cd console && npm ci --silent --no-audit --no-fund && npm run --silent build
	@touch $@

.PHONY: demo
demo: setup ## a city, two districts, a department and twelve cameras on loopback; Ctrl-C ends it
	@exec .venv/bin/tongshi demo

.PHONY: test
test: setup ## every test, on SQLite and PostgreSQL, with a browser when there is one
	@scripts/test.sh

.PHONY: test-interop
test-interop: setup ## other people's SIP software against ours (SIPp, baresip, from Debian)
	@scripts/interop.sh

.PHONY: check
check: .venv/.native ## format, lint and types, Python, Rust and console
	@.venv/bin/ruff format --check src tests
	@.venv/bin/ruff check src tests
	@.venv/bin/mypy
	@cd native && cargo fmt --check && cargo clippy --quiet --all-targets -- -D warnings
	@cd console && npm run --silent check

.PHONY: bench
bench: setup ## measure, each figure beside its raw baseline
	@.venv/bin/tongshi bench media
	@.venv/bin/tongshi bench sip
	@.venv/bin/tongshi bench exchange
	@.venv/bin/tongshi bench files
	@.venv/bin/tongshi bench query

.PHONY: docs
docs: setup ## write the OpenAPI document and the glossary's tables into docs/
	@.venv/bin/tongshi openapi > docs/openapi.json
	@echo "docs/openapi.json"

.PHONY: lock
lock: ## resolve requirements/*.in again (hashes, no addresses)
	@scripts/lock.sh

.PHONY: clean
clean: ## remove everything that was built
	@rm -rf .venv native/target native/fuzz/target console/node_modules src/tongshi/web/static var .pytest_cache .mypy_cache .ruff_cache
	@find src -name '*.so' -delete
