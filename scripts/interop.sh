#!/usr/bin/env bash
# Other people's SIP software against ours, on loopback. Brings it from Debian when it may (root), else the tests that need it
# are skipped aloud.
set -eu
cd "$(dirname "$0")/.."

. scripts/bring.sh
bring sip-tester 'command -v sipp'
bring baresip-core 'command -v baresip'
bring sipsak 'command -v sipsak'

exec .venv/bin/python -m pytest -m interop tests/interop "$@"
