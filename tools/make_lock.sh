#!/bin/sh
# Write requirements.lock: the versions that pip now resolves from pyproject.toml with all extras, one on each line.
# Run it with the oldest Python that is supported, so that packages that only old Pythons need are in it, too.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'setuptools>=77'
"$work/venv/bin/python" -c '
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
groups = [project["dependencies"], *project["optional-dependencies"].values()]
print(*[requirement for group in groups for requirement in group], sep="\n")
' >"$work/wanted"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$work/wanted"
{
    echo "# Written by \`make lock\` from pyproject.toml. Valid for Python 3.11 to 3.13 on x86-64 and aarch64."
    "$work/venv/bin/python" -m pip freeze --all --exclude pip
} >"$work/requirements.lock"
mv "$work/requirements.lock" requirements.lock
