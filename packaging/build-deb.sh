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
if ! dpkg-checkbuilddeps -a "$arch" ||
    [ "$arch" != "$(dpkg --print-architecture)" ] && ! dpkg-query -W "crossbuild-essential-$arch" >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get build-dep -q -y --no-install-recommends \
        --host-architecture "$arch" ./
fi
dpkg-buildpackage -b -us -uc --host-arch "$arch"
rm -rf "$directory/source"
ls "$directory"/*.deb
