#!/bin/bash
# Makes a container image of the Debian package, for podman or docker:
#
#   packaging/container.sh [ARCH]    leaves build/container/fluxbridge-VERSION-ARCH.tar
#
# An OCI archive with one layer: a Debian of what the package needs, the package, and
# no shell history, package lists or documentation. It runs as the user fluxbridge
# (999:999), needs no capability, and writes to /var/lib/fluxbridge alone:
#
#   podman load -i build/container/fluxbridge-VERSION-ARCH.tar
#   podman run -d --name fluxbridge --read-only --cap-drop=all --memory=256m \
#       --security-opt=no-new-privileges -v /etc/fluxbridge:/etc/fluxbridge:ro \
#       -v fluxbridge:/var/lib/fluxbridge fluxbridge:VERSION
#
# and just so with docker. A serial line: --device=/dev/ttyUSB0 --group-add=dialout.
# Reload with `podman kill --signal=HUP fluxbridge`. Ends in order within
# --stop-timeout, which must be longer than what the devices' timeouts need.
#
# Needs root, and mmdebstrap, which it installs. With ROOT=DIRECTORY in the
# environment the file system is left there as well.
set -eu
cd "$(dirname "$0")/.."

arch=${1-$(dpkg --print-architecture)}
deb=$(echo "$PWD/build/deb/$arch"/fluxbridge_*_"$arch".deb)
[ -e "$deb" ] || packaging/build-deb.sh "$arch"
deb=$(echo "$PWD/build/deb/$arch"/fluxbridge_*_"$arch".deb)
version=$(dpkg-deb -f "$deb" Version)
command -v mmdebstrap >/dev/null || {
    apt-get update -q
    apt-get install -q -y --no-install-recommends mmdebstrap
}

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
    [ ! -s $file ] || sources+=("$file")
done
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

# The user first, with a number that stays: volumes know numbers alone.
# shellcheck disable=SC2016 # mmdebstrap's shell knows $1
mmdebstrap --quiet --variant=apt --mode=root --architectures="$arch" \
    --include=ca-certificates,systemd-standalone-sysusers,systemd-standalone-tmpfiles \
    --customize-hook='chroot "$1" groupadd --system --gid 999 fluxbridge' \
    --customize-hook='chroot "$1" useradd --system --uid 999 --gid 999 \
        --home-dir /var/lib/fluxbridge --no-create-home --shell /usr/sbin/nologin fluxbridge' \
    --customize-hook="copy-in $deb /tmp" \
    --customize-hook='chroot "$1" sh -c "apt-get install -q -y --no-install-recommends \
        /tmp/*.deb libmicrohttpd12* && rm /tmp/*.deb"' \
    --customize-hook='install -d -o 999 -g 999 -m 750 "$1/var/lib/fluxbridge"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$directory/root" "${sources[@]}" >/dev/null

mkdir -p build/container
tar -C "$directory/root" --numeric-owner --sort=name -cf "$directory/layer.tar" \
    --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' .
/usr/bin/python3 -B packaging/oci.py "$directory/layer.tar" "$arch" "$version" \
    "build/container/fluxbridge-$version-$arch.tar"
if [ -n "${ROOT-}" ]; then
    mv "$directory/root" "$ROOT"
fi
ls -l "build/container/fluxbridge-$version-$arch.tar"
