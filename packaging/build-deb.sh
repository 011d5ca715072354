#!/bin/sh
# Builds the Debian package for ARCH (amd64, arm64, …; default: this machine's):
#
#   packaging/build-deb.sh [ARCH]     leaves build/deb/ARCH/fluxbridge_VERSION_ARCH.deb
#
# For another architecture it cross-builds; that one must be known to dpkg, as by
# `dpkg --add-architecture arm64 && apt-get update`. What is missing for the build
# is installed with apt-get, for which it must be run as root.
set -eu
cd "$(dirname "$0")/.."

arch=${1-$(dpkg --print-architecture)}
directory=$PWD/build/deb/$arch
rm -rf "$directory"
mkdir -p "$directory/source"

# The debian directory stands at the top only where packages are built.
tar -c --exclude=./build --exclude=./.git . | tar -x -C "$directory/source"
cd "$directory/source"
cp -r packaging/debian .

export DEB_BUILD_OPTIONS="nocheck noautodbgsym"
export DEBIAN_FRONTEND=noninteractive
dpkg-checkbuilddeps -a "$arch" 2>/dev/null ||
    apt-get build-dep -q -y --no-install-recommends --host-architecture "$arch" ./
if [ "$arch" != "$(dpkg --print-architecture)" ] &&
    ! command -v "$(dpkg-architecture -a "$arch" -q DEB_HOST_GNU_TYPE)-gcc" >/dev/null; then
    apt-get install -q -y --no-install-recommends "crossbuild-essential-$arch"
fi
dpkg-buildpackage -b -us -uc --host-arch "$arch"
rm -rf "$directory/source"
ls "$directory"/*.deb
