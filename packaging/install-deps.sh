#!/bin/sh
# Installs the packages of Debian 12 or 13 that are needed and not yet there.
#
#   install-deps.sh demo    to build the programs and show them at work
#   install-deps.sh tests   that, and everything tests/run.sh asks for
#
# Says what it installs; does nothing at all when everything is there. Needs
# root, or sudo, only when there is something to install.
set -eu

demo="build-essential cmake ninja-build pkg-config libmodbus-dev libpaho-mqtt-dev
    libmosquitto-dev libconfig-dev libjansson-dev libssl-dev libsqlite3-dev libmicrohttpd-dev
    libprotobuf-c-dev protobuf-c-compiler zlib1g-dev protobuf-compiler mosquitto mosquitto-clients"
tests="clang clang-tidy clang-format cppcheck libclang-rt-dev libcmocka-dev
    mbpoll openssl socat groff fish zsh python3 python3-jinja2 python3-paho-mqtt
    python3-pymodbus python3-serial python3-serial-asyncio"
# shellcheck source=/dev/null
case $(. /etc/os-release && echo "$ID ${VERSION_ID-}") in
"debian 12") tests="$tests libfuzzer-14-dev" ;;
"debian 13") tests="$tests libfuzzer-19-dev" ;;
esac

case "${1-}" in
demo) wanted=$demo ;;
tests) wanted="$demo $tests" ;;
*)
    echo "usage: $0 demo|tests" >&2
    exit 2
    ;;
esac

# A library for another architecture, as a cross-build leaves it, is not the one.
native=$(dpkg --print-architecture)
missing=
for package in $wanted; do
    dpkg-query -W -f '${db:Status-Status} ${Architecture}\n' "$package" 2>/dev/null |
        grep -q -x -e "installed $native" -e 'installed all' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "These packages are missing; install them as root:$missing" >&2
        exit 1
    }
    as_root=sudo
fi
echo "Installing with apt-get:$missing"
$as_root apt-get update -q
# --no-install-recommends keeps a desktop machine's services away.
# shellcheck disable=SC2086 # a list of words is meant
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 $missing
