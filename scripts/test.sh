#!/usr/bin/env bash
# Every test. Brings what a clean Debian machine lacks when it may (root), else the test that needs it is skipped aloud.
set -eu
cd "$(dirname "$0")/.."

. scripts/bring.sh
bring postgresql-15 'ls /usr/lib/postgresql/*/bin/postgres'
bring chromium 'command -v chromium'
bring fonts-noto-cjk 'fc-list :lang=zh | grep -q .'

echo "==> media engine (cargo test)"
(cd native && cargo test --quiet --release && cargo build --quiet --release --example containers)

echo "==> console (vitest)"
(cd console && npm run --silent test)

echo "==> pytest, on SQLite and PostgreSQL"
# In the order of folders: the whole platforms first, and at the end small files that keep both workers busy.
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
