#!/bin/sh
# Set up with a Python 3.11 or 3.12 that works, 3.11 if both do, or with $PYTHON if that is set.
# Every candidate is run before it is chosen: pyenv's shims stand on PATH for Pythons that are
# not switched on, and a Python may lack the modules that an environment needs.
set -eu
cd "$(dirname "$0")/.."

check='
import sys
version = "%d.%d.%d" % sys.version_info[:3]
if sys.version_info[:2] not in ((3, 11), (3, 12)):
    sys.exit("is Python " + version)
missing = []
for name in ("ctypes", "ensurepip", "sqlite3", "ssl", "venv", "zlib"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
if missing:
    sys.exit("is Python %s without %s" % (version, ", ".join(missing)))
'

pyenv="${PYENV_ROOT:-${HOME:-}/.pyenv}/versions"
found=''
for python in ${PYTHON:-.venv/bin/python python3.11 python3.12 python3 python \
    "$pyenv"/3.11.*/bin/python "$pyenv"/3.12.*/bin/python}; do
    path=$(command -v "$python" 2>/dev/null) || continue
    if problem=$("$path" -c "$check" 2>&1); then
        exec "$path" -m environments.setup "$@"
    fi
    found="$found
  $path: $(printf '%s\n' "$problem" | head -n 1)"
done

cat >&2 <<MESSAGE
set-up failed: no Python 3.11 or 3.12 that works was found. Found:${found:-
  none at all}
  Install one (Debian, Ubuntu: python3.11 and python3.11-venv), or name one:
  make setup PYTHON=/path/to/python3.11
MESSAGE
exit 1
