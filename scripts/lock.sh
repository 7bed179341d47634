#!/usr/bin/env bash
# Resolve requirements/*.in into hashed lock files that record no download addresses.
set -eu
cd "$(dirname "$0")/.."
lock() { .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header "$@"; }
lock requirements/bootstrap.in -o requirements/bootstrap.txt
lock requirements/core.in -o requirements/core.txt
lock -c requirements/core.txt requirements/media.in -o requirements/media.txt
lock -c requirements/core.txt requirements/parquet.in -o requirements/parquet.txt
lock -c requirements/core.txt -c requirements/media.txt requirements/dev.in -o requirements/dev.txt
