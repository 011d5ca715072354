#!/bin/bash
# Tests the package in a whole Debian that qemu boots, with systemd as its first process:
#
#   tests/system/run.sh                                Debian 12, the package of packaging/build-deb.sh
#   tests/system/run.sh --suite trixie --deb FILE      another Debian, and a package built there
#   tests/system/run.sh System.test_watchdog           some of it
#
# Needs root. At the first run it makes the machine's disk below /var/cache (or
# XDG_CACHE_HOME; 800 MB), which is kept for as long as what it consists of stays the same.
# The machine has no network. Without a KVM that works qemu computes it all: some minutes.
set -eu
cd "$(dirname "$0")/../.."
suite=bookworm
deb=
while [ $# -gt 0 ]; do
    case $1 in
    --suite) suite=$2 ;;
    --deb) deb=$2 ;;
    -*)
        echo "usage: $0 [--suite SUITE] [--deb FILE] [TEST]..." >&2
        exit 2
        ;;
    *) break ;;
    esac
    shift 2
done

missing=
for package in qemu-system-x86 mmdebstrap e2fsprogs python3-paho-mqtt python3-pymodbus; do
    dpkg-query -W -f '${db:Status-Status}\n' $package 2>/dev/null | grep -q '^installed' ||
        missing="$missing $package"
done
if [ -n "$missing" ]; then
    apt-get update -q
    # shellcheck disable=SC2086 # a list of words is meant
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi
if [ -z "$deb" ]; then
    log=$(mktemp)
    packaging/build-deb.sh amd64 >"$log" 2>&1 || {
        cat "$log"
        exit 1
    }
    rm "$log"
    deb=$(echo build/deb/amd64/*.deb)
fi

# What the disk holds beside the agent: what the package needs comes first, so that all that
# is new later is the package's own.
packages=systemd,systemd-sysv,udev,kmod,procps,linux-image-cloud-amd64,mosquitto
packages=$packages,mosquitto-clients,python3
needs="$(dpkg-deb -f "$deb" Depends), $(dpkg-deb -f "$deb" Recommends)"
masked="apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
    e2scrub_reap.service logrotate.timer systemd-logind.service getty@tty1.service serial-getty@ttyS0.service"
key=$(echo "$suite $packages $needs $masked" | cat - tests/system/agent.* | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-/var/cache}/fluxbridge-system
image=$cache/$suite-$key

# Under another name first, so that one which was cut short is none.
make_image() {
    local root=$image.new/tree
    rm -rf "$image.new" &&
        mkdir -p "$image.new" &&
        # shellcheck disable=SC2016 # the hook's shell sets them
        unshare --mount mmdebstrap --quiet --variant=minbase --mode=root --include="$packages" \
            --customize-hook='chroot "$1" apt-get satisfy -q -y --no-install-recommends "$NEEDS"' \
            "$suite" "$root" >"$image.new/log" 2>&1 &&
        cp tests/system/agent.py "$root/usr/local/sbin" &&
        cp tests/system/agent.service "$root/etc/systemd/system" &&
        ln -s ../agent.service "$root/etc/systemd/system/multi-user.target.wants" &&
        # shellcheck disable=SC2086 # a list of words is meant
        systemctl --root="$root" mask --quiet $masked &&
        echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id" &&
        echo machine >"$root/etc/hostname" &&
        mkdir -p "$root/var/log/journal" &&
        cp "$root"/boot/vmlinuz-* "$image.new/vmlinuz" &&
        cp "$root"/boot/initrd.img-* "$image.new/initrd" &&
        mke2fs -q -F -t ext4 -d "$root" "$image.new/root.ext4" 2G >/dev/null &&
        rm -rf --one-file-system "$root" &&
        mv "$image.new" "$image"
}

if [ ! -d "$image" ]; then
    echo "Making the machine's disk: $image"
    rm -rf "$cache/$suite"-*
    NEEDS=$needs make_image || {
        cat "$image.new/log"
        exit 1
    }
fi

# A KVM that is there need not work: with one that does the kernel speaks within a second.
speaks() {
    [ "$(timeout 20 qemu-system-x86_64 -nodefaults -machine q35 -accel kvm -cpu max -m 256 \
        -display none -nic none -kernel "$image/vmlinuz" -append "console=ttyS0 earlyprintk=serial" \
        -serial stdio 2>/dev/null </dev/null | head -c 1 | wc -c)" -eq 1 ]
}
accel=tcg
[ ! -w /dev/kvm ] || ! speaks || accel=kvm
echo "The machine runs with $accel"
FLUXBRIDGE_SYSTEM_ACCEL=$accel exec /usr/bin/python3 -B tests/system/system.py "$image" "$deb" "$@"
