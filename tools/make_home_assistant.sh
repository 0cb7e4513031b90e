#!/bin/sh
# Make .cache/home_assistant with Home Assistant in the release that the tests were written for, which needs a Python of
# its own, and print that Python. Its first start installs more: about 820 MB in all.
set -eu
cd "$(dirname "$0")/.."

RELEASE=2025.4.4
folder=.cache/home_assistant
if [ ! -e "$folder/complete" ]; then
    for python in "${PYTHON_3_13:-python3.13}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13.*/bin/python3.13 ""; do
        [ -n "$python" ] || { echo "keycast: Home Assistant $RELEASE needs Python 3.13: name one with PYTHON_3_13=..." >&2; exit 1; }
        "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
    done
    echo "keycast: installing Home Assistant $RELEASE with $("$python" --version), in minutes" >&2
    "$python" -m venv --clear "$folder"
    pip="$folder/bin/python -m pip install --quiet --disable-pip-version-check"
    $pip --no-deps "homeassistant==$RELEASE" >&2
    # In the releases that it was made with: pip would look for those that fit to what is newest today, for very long.
    site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    $pip --constraint "$site/homeassistant/package_constraints.txt" "homeassistant==$RELEASE" >&2
    touch "$folder/complete"
fi
echo "$PWD/$folder/bin/python"
