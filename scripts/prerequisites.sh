#!/usr/bin/env bash
# Name what is missing on this machine, with the Debian package that brings it.
set -u
missing=0
need() { # command, package, why
  command -v "$1" >/dev/null 2>&1 && return
  echo "missing: $1 ($3); Debian: apt-get install $2" >&2
  missing=1
}
need python3.11 "python3.11 python3.11-venv" "Python 3.11"
need cc build-essential "C compiler and linker"
need cargo "cargo (or rustup for Rust 1.85 or newer)" "media engine"
need node "nodejs (20 or newer)" "console"
need npm npm "console"
if command -v node >/dev/null 2>&1; then
  major=$(node --version | sed -E 's/^v([0-9]+).*/\1/')
  [ "$major" -ge 20 ] || { echo "missing: Node.js 20 or newer, found $(node --version)" >&2; missing=1; }
fi
if command -v python3.11 >/dev/null 2>&1; then
  python3.11 -c 'import venv, ensurepip' 2>/dev/null || { echo "missing: Python's venv; Debian: apt-get install python3.11-venv" >&2; missing=1; }
fi
if [ "$missing" -ne 0 ]; then
  echo "Install what is named above and run make again." >&2
  exit 1
fi
