#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make the virtual environment DIR with a Python of 3.11 or later, and install LOCKFILE and this checkout into it.
#   make-venv.sh DIR LOCKFILE
# Does nothing when that has been done since either file changed. Root on Debian or EL: installs a missing Python.
set -eu
dir=$1 lock=$2
top=$(cd "$(dirname "$0")/.." && pwd)
stamp=$dir/.installed-$(basename "$lock")

say() { printf '%s\n' "$*" >&2; }

usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 && usable "$name"; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

install_python() {
    [ "$(id -u)" = 0 ] || return 1
    if command -v apt-get >/dev/null 2>&1; then
        say "installing python3-venv (apt-get) ..."
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-venv >/dev/null
    elif command -v dnf >/dev/null 2>&1; then
        say "installing python3.12 (dnf) ..."
        dnf install -y -q python3.12 python3.12-pip >/dev/null
    else
        return 1
    fi
}

if [ -e "$stamp" ] && [ "$stamp" -nt "$lock" ] && [ "$stamp" -nt "$top/pyproject.toml" ]; then
    exit 0
fi
if ! python=$(find_python); then
    if ! install_python || ! python=$(find_python); then
        say "refloat needs Python 3.11 or later with the venv module, and none was found."
        say "Debian, Ubuntu: apt-get install python3 python3-venv;  EL 9: dnf install python3.12 python3.12-pip"
        say "or name one: make PYTHON=/path/to/python3.12 ..."
        exit 1
    fi
fi
say "making $dir with $("$python" --version) ..."
[ -x "$dir/bin/python" ] && usable "$dir/bin/python" || { rm -rf "$dir"; "$python" -m venv "$dir"; }
say "installing what $(basename "$lock") names from PyPI ..."
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$lock"
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable "$top"
: >"$stamp"
