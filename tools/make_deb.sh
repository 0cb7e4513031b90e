#!/bin/sh
# Build the Debian package for this release of Debian and this architecture in build/deb/ (Debian's debhelper,
# dh-virtualenv and lintian). It fetches the packages of Python in requirements.lock as pip is configured here.
set -eu
cd "$(dirname "$0")/.."
for each in dpkg-buildpackage dh_virtualenv lintian; do
    command -v "$each" >/dev/null || {
        echo "keycast: $each is missing: sudo apt install debhelper dh-virtualenv dpkg-dev lintian python3-dev python3-venv" >&2
        exit 1
    }
done
version=${VERSION:-$(.venv/bin/python -c 'from importlib.metadata import version; print(version("keycast"))')}
release=$(. /etc/os-release && echo "${ID}${VERSION_ID}")
out=build/deb
work=$out/source/keycast-$version
rm -rf "$work"
mkdir -p "$work"
git ls-files -z | xargs -0 cp --parents -t "$work"
cp -r packaging/debian "$work/debian"
.venv/bin/python -m tools.deb_requirements >"$work/requirements.txt"
.venv/bin/python -m tools.man_page >"$work/debian/keycast.1"
_KEYCAST_COMPLETE=source_bash .venv/bin/keycast >"$work/debian/keycast.bash"
date=$(git log -1 --format=%cD 2>/dev/null || date -R)
cat >"$work/debian/changelog" <<END
keycast ($version~$release) unstable; urgency=medium

  * See CHANGELOG.md of this version.

 -- keycast maintainers <keycast@example.org>  $date
END
# debhelper gives the build a home of its own, without a person's settings of pip.
for each in index-url extra-index-url find-links constraint cert; do
    found=$(.venv/bin/python -m pip config get "global.$each" 2>/dev/null) || continue
    export "PIP_$(echo "$each" | tr a-z- A-Z_)=$found"
done
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR="${PIP_CACHE_DIR:-$PWD/.cache/pip}"
unset VIRTUAL_ENV PYTHONPATH
(cd "$work" && PATH="/usr/sbin:/usr/bin:/sbin:/bin" dpkg-buildpackage --no-sign --build=binary --no-check-builddeps) >"$out/log" 2>&1 || {
    tail -n 40 "$out/log" >&2
    exit 1
}
mv "$out"/source/keycast_"$version"* "$out"
rm -rf "$out/source"
lintian --fail-on error --suppress-tags bad-distribution-in-changes-file "$out"/keycast_"$version"*.changes
ls "$out"/keycast_"$version"*.deb
