#!/bin/sh
# Set up with a Python that works, the oldest version that is there, or with $PYTHON if that is set.
set -eu
cd "$(dirname "$0")/.."

versions='3.11 3.12 3.13 3.14'
modules='ctypes ensurepip sqlite3 ssl venv zlib'
# On success the path is all that is printed, on failure what was found.
if found=$(sh environments/find_python.sh "$versions" "$modules" "${PYTHON:-}" 2>&1); then
    exec "$found" -m environments.setup "$@"
fi
cat >&2 <<MESSAGE
set-up failed: no Python 3.11 to 3.14 that works was found. Found:
$found
  Install one (Debian, Ubuntu: python3 and python3-venv), or name one:
  make setup PYTHON=/path/to/python3.13
MESSAGE
exit 1
