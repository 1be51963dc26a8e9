#!/bin/sh
# Print the path of the first Python that works: find_python.sh VERSIONS MODULES [CANDIDATE]
# VERSIONS ("3.11 3.12") are tried in this order, after the Python behind .venv; a Python must have
# all MODULES. With CANDIDATE nothing else is tried. Where none works, print what was found to
# standard error and exit with 1.
# Every candidate is run before it is chosen: pyenv's shims are on PATH for Pythons that are not
# switched on, and a Python may lack the modules that an environment needs.
set -eu
versions=$1 modules=$2 only=${3:-}

check='
import sys
version = "%d.%d.%d" % sys.version_info[:3]
if "%d.%d" % sys.version_info[:2] not in sys.argv[1].split():
    sys.exit("is Python " + version)
missing = []
for name in sys.argv[2].split():
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
if missing:
    sys.exit("is Python %s without %s" % (version, ", ".join(missing)))
# The Python itself, not the environment that it was started from.
print(getattr(sys, "_base_executable", sys.executable))
'

if [ -n "$only" ]; then
    set -- "$only"
else
    set -- .venv/bin/python
    for version in $versions; do
        set -- "$@" "python$version" "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version".*/bin/python
    done
    set -- "$@" python3 python
fi
found=''
for python in "$@"; do
    path=$(command -v "$python" 2>/dev/null) || {
        [ -z "$only" ] || found="
  $only: not there"
        continue
    }
    if answer=$("$path" -c "$check" "$versions" "$modules" 2>&1); then
        printf '%s\n' "$answer" | tail -n 1
        exit
    fi
    found="$found
  $path: $(printf '%s\n' "$answer" | head -n 1)"
done
printf '%s\n' "${found:-
  none at all}" | tail -n +2 >&2
exit 1
