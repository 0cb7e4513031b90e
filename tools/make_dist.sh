#!/bin/sh
# Write the sdist and the wheel into a folder (default: dist). The wheel is made from the sdist, to show that the sdist
# has all that a build needs.
set -eu
cd "$(dirname "$0")/.."
out=${1:-dist}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

.venv/bin/python -c 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])' "$work" \
    >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation \
    --wheel-dir "$work" "$work"/*.tar.gz
mkdir -p "$out"
mv "$work"/*.tar.gz "$work"/*.whl "$out"
