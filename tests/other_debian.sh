#!/bin/bash
# The same on the other Debian: on 12 all of this on 13, elsewhere on 12.
#
#   tests/other_debian.sh [SUITE]
#
# In a root of its own, made with debootstrap below build/: build with warnings as
# errors, unit tests and a part of the integration tests, the demonstration, `ninja install` as a service,
# and the Debian package from its installation to its purge. Needs root.
set -eu
cd "$(dirname "$0")/.."

# shellcheck source=/dev/null
suite=${1-$(. /etc/os-release && [ "${VERSION_ID-}" = 12 ] && echo trixie || echo bookworm)}
root=$PWD/build/other/$suite
started=$SECONDS

step() {
    printf '\n== %s (%d s)\n' "$suite: $*" $((SECONDS - started))
}

# in_root COMMAND...: with /proc and /dev, which go with the namespace.
in_root() {
    # shellcheck disable=SC2016 # the inner shell's
    unshare --mount --fork sh -c 'root=$1; shift
        mount --bind /proc "$root/proc" && mount --rbind /dev "$root/dev" &&
        exec chroot "$root" env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
            FLUXBRIDGE_TEST_PATIENCE="${FLUXBRIDGE_TEST_PATIENCE-1}" "$@"' sh "$root" "$@"
}

step "a root"
command -v debootstrap >/dev/null || {
    apt-get update -q
    apt-get install -q -y --no-install-recommends debootstrap
}
rm -rf "$root"
mkdir -p "$root"
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    grep -oE 'https?://[^ ]+/debian/?( |$)' | head -1)
mirror=${mirror:-http://deb.debian.org/debian}
debootstrap --variant=minbase "$suite" "$root" "${mirror% }" >"$root.log" 2>&1 || {
    cat "$root.log"
    exit 1
}
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -r /etc/apt/apt.conf.d "$root/etc/apt/"
mkdir "$root/src"
tar -c --exclude=./build --exclude=./.git . | tar -x -C "$root/src"

step "packages"
in_root /src/packaging/install-deps.sh tests >"$root.log" 2>&1 || {
    cat "$root.log"
    exit 1
}

step "build"
in_root sh -c 'cd /src && cmake -S . -B build/plain -G Ninja -DFLUXBRIDGE_WERROR=ON >/dev/null &&
    ninja -C build/plain --quiet'

# Every unit test, and of the integration tests those that meet each library of the other
# Debian: the rest looks for what does not depend on it.
step "tests"
in_root ctest --test-dir /src/build/plain -j$((4 * $(nproc))) --output-on-failure --no-tests=error \
    -R '^(unit\..*|integration\.(cli|commands|dispatch|discovery|lines|metrics|mqtt_faults|presence|presence_many|samples|sparkplug|stop))$'

step "the demonstration"
in_root /src/packaging/demo.sh --once

step "ninja install"
in_root apt-get install -q -y --no-install-recommends systemd logrotate adduser lsb-release >/dev/null
in_root sh -eu -c '
    cmake --install /src/build/plain >/dev/null
    cp /src/build/plain/install_manifest.txt /tmp/installed
    [ "$(stat -c "%U:%G %a" /var/lib/fluxbridge)" = "fluxbridge:fluxbridge 750" ]
    [ -d /etc/fluxbridge ]
    logrotate --debug /etc/logrotate.d/fluxbridge
    systemd-analyze --man=no verify /usr/local/lib/systemd/system/fluxbridge.service
    grep -q "^ExecStart=/usr/local/bin/fluxbridge run" /usr/local/lib/systemd/system/fluxbridge.service
    cp /src/etc/small-site.cfg /etc/fluxbridge/fluxbridge.cfg
    cd /
    setpriv --reuid=fluxbridge --regid=fluxbridge --init-groups \
        fluxbridge check -c /etc/fluxbridge/fluxbridge.cfg
    # Another prefix: the programs find their files, and systemd the unit.
    DESTDIR=/tmp/elsewhere cmake --install /src/build/plain --prefix /opt/flux >/dev/null
    grep -q "^ExecStart=/opt/flux/bin/fluxbridge run" \
        /tmp/elsewhere/etc/systemd/system/fluxbridge.service
    mv /tmp/elsewhere/opt/flux /opt/flux
    rm -r /usr/local/share/fluxbridge
    /opt/flux/bin/fluxbridge points powerpack
    rm -r /opt/flux /etc/fluxbridge /var/lib/fluxbridge
    xargs rm -f </tmp/installed
    userdel fluxbridge
    ! command -v fluxbridge
' >"$root.log" 2>&1 || {
    cat "$root.log"
    exit 1
}

step "the package"
in_root sh -eu -c '
    cd /src
    packaging/build-deb.sh
    apt-get install -q -y --no-install-recommends ./build/deb/*/fluxbridge_*.deb
    fluxbridge --version
    fluxbridge points powerpack
    fluxbridge check -c /usr/share/doc/fluxbridge/examples/small-site.cfg
    systemd-analyze --man=no verify fluxbridge.service
    apt-get purge -q -y fluxbridge
    [ ! -e /etc/fluxbridge ] && [ ! -e /var/lib/fluxbridge ] && ! getent passwd fluxbridge
' >"$root.log" 2>&1 || {
    cat "$root.log"
    exit 1
}
rm -rf "$root"
step "everything is as it should be"
