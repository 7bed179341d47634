#!/usr/bin/env bash
# Every test. Brings what a clean Debian machine lacks when it may (root), else the test that needs it is skipped aloud.
set -eu
cd "$(dirname "$0")/.."

bring() { # package, probe
  eval "$2" >/dev/null 2>&1 && return 0
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "NOTE: $1 is not installed and cannot be installed here; tests that need it are skipped" >&2
    return 0
  fi
  echo "==> installing $1 (Debian)"
  [ -e /tmp/.tongshi-apt-updated ] || { apt-get update -qq && touch /tmp/.tongshi-apt-updated; } || true
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null \
    || echo "NOTE: installing $1 failed; tests that need it are skipped" >&2
}
bring postgresql-15 'ls /usr/lib/postgresql/*/bin/postgres'
bring chromium 'command -v chromium'
bring fonts-noto-cjk 'fc-list :lang=zh | grep -q .'

echo "==> media engine (cargo test)"
(cd native && cargo test --quiet --release && cargo build --quiet --release --example containers)

echo "==> console (vitest)"
(cd console && npm run --silent test)

echo "==> pytest, on SQLite and PostgreSQL"
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"
