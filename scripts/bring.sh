# Sourced: brings a Debian package when root may, else says aloud what is missing.
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
