#!/bin/sh
# Make .venv with exactly the packages in requirements.lock, and the project itself (editable). It needs no root.
# Each failure ends with one sentence that says what to do.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "keycast: $1" >&2
    exit 1
}

for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 ""; do
    [ -n "$python" ] || fail "needs Python 3.11 or newer: install it (Debian: sudo apt install python3 python3-venv), or name it with PYTHON=..."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
done

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "this Python cannot make virtual environments: sudo apt install python3-venv"
    echo "keycast: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

echo "keycast: installing what requirements.lock names"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock ||
    fail "some packages could not be installed: see above; with a network connection, run the same command again"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
left_over=$(.venv/bin/python -m pip list --disable-pip-version-check --exclude-editable --exclude pip --format freeze |
    grep -vixFf requirements.lock | sed 's/==.*//') || true
[ -z "$left_over" ] || .venv/bin/python -m pip uninstall --quiet --disable-pip-version-check --yes $left_over
ln -sfn "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" .venv/micropython-stubs
touch .venv/complete
