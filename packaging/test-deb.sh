#!/bin/bash
# Builds the packages for amd64 and arm64 and tests them:
#
#   lintian has nothing to say; units are sound and their exposure is 1.7 at most
#   in a fresh Debian: install, upgrade, remove, purge; configuration that was
#   changed or added stays until the purge, and the purge leaves nothing
#   the installed programs find their files and the daemon starts as its user
#   files that root makes are the service's
#   the arm64 daemon, programs and unit tests run under qemu-user
#   the container starts with a root that is read-only, as a user who is not root
#
# Needs root: it installs what is missing (arm64 libraries beside the machine's
# own, too) and makes a root directory, with the sources that apt has here.
set -eu
cd "$(dirname "$0")/.."
unset LC_ALL LANGUAGE
export LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive

# Mounts are of a namespace of its own, and gone when this ends, however it does.
[ -n "${FLUXBRIDGE_UNSHARED-}" ] || FLUXBRIDGE_UNSHARED=1 exec unshare --mount \
    packaging/test-deb.sh "$@"

directory=$(mktemp -d)
root=$directory/root
trap 'umount "$root/proc" 2>/dev/null; rm -rf --one-file-system "$directory"' EXIT
started=$SECONDS

step() {
    printf '\n== %s (%d s)\n' "$*" $((SECONDS - started))
}

die() {
    printf 'test-deb: %s\n' "$*" >&2
    exit 1
}

# expect WHAT COMMAND...: it succeeds.
expect() {
    local what=$1
    shift
    "$@" || die "not so: $what"
}

# refuse WHAT COMMAND...: it fails.
refuse() {
    local what=$1
    shift
    ! "$@" || die "not so: $what"
}

# site DIRECTORY: a configuration that keeps its files there.
site() {
    cat <<END
site = "test";
mqtt: { url = "mqtt://127.0.0.1:9"; };
audit: { path = "$1/audit.jsonl"; };
spool: { path = "$1/spool.db"; };
devices: {
  bess = ( { id = "b"; name = "Battery"; type = "powerpack"; poll = "1s";
    modbus: { host = "127.0.0.1"; port = 9; address = 1; };
    control: { ready_status = [ 1 ]; min_kw = -1; max_kw = 1; positive_is = "discharge"; }; } );
  meters = ( { id = "m"; name = "Meter"; type = "${2-acuvim2}"; poll = "1s";
    modbus: { host = "127.0.0.1"; port = 9; address = 2; }; } );
};
END
}

# starts COMMAND...: a daemon that says READY=1 to whoever started it, as under systemd,
# and ends in order.
starts() {
    python3 - "$@" <<'END'
import os, signal, socket, subprocess, sys
ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ear.bind(b"\0fluxbridge-test-%d" % os.getpid())
ear.settimeout(60)
daemon = subprocess.Popen(sys.argv[1:],
                          env={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin", "WATCHDOG_USEC": "1000000",
                               "FLUXBRIDGE_PROFILES": os.environ.get("FLUXBRIDGE_PROFILES", ""),
                               "NOTIFY_SOCKET": "@fluxbridge-test-%d" % os.getpid()})
try:
    for word in (b"READY=1", b"WATCHDOG=1"):
        while word not in ear.recv(4096):
            pass
    daemon.send_signal(signal.SIGTERM)
    sys.exit(daemon.wait(60))
finally:
    daemon.kill()
END
}

step "tools and packages"
missing=
for package in dpkg-dev fakeroot lintian mmdebstrap qemu-user systemd python3; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -q '^installed' ||
        missing="$missing $package"
done
dpkg --print-foreign-architectures | grep -qx arm64 || dpkg --add-architecture arm64
dpkg-query -W -f '${db:Status-Status}\n' libcmocka-dev:arm64 2>/dev/null | grep -q '^installed' ||
    missing="$missing libcmocka-dev:arm64"
if [ -n "$missing" ]; then
    apt-get update -q
    # shellcheck disable=SC2086 # a list of words is meant
    apt-get install -q -y --no-install-recommends $missing
fi
for arch in amd64 arm64; do
    packaging/build-deb.sh $arch >"$directory/build.log" 2>&1 || {
        cat "$directory/build.log"
        die "the package for $arch cannot be built"
    }
done
deb=$(echo build/deb/amd64/*.deb)
deb_arm64=$(echo build/deb/arm64/*.deb)

step "lintian"
for file in "$deb" "$deb_arm64"; do
    # An init script beside the unit is no longer asked for.
    expect "lintian is content with $file" lintian --allow-root --pedantic --display-info \
        --suppress-tags package-supports-alternative-init-but-no-init.d-script \
        --fail-on error,warning,info,pedantic "$file"
done

step "arm64"
dpkg-deb -x "$deb_arm64" "$directory/arm64"
file=$directory/arm64/usr/bin/fluxbridge
version=$(sed -n 's/^project(fluxbridge VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
expect "the programs know their version" \
    [ "$(qemu-aarch64 "$file" --version)" = "fluxbridge $version" ]
expect "and the package has the same" [ "$(dpkg-deb -f "$deb" Version)" = "$version" ]
export FLUXBRIDGE_PROFILES=$directory/arm64/usr/share/fluxbridge/profiles
for type in "$FLUXBRIDGE_PROFILES"/*.cfg; do
    expect "points of $type" qemu-aarch64 "$file" points "$(basename "$type" .cfg)" >/dev/null
done
site >"$directory/arm64.cfg" "$directory"
expect "check" qemu-aarch64 "$file" check -c "$directory/arm64.cfg"
expect "the daemon starts, is ready and ends" \
    starts qemu-aarch64 "$file" run -c "$directory/arm64.cfg"
unset FLUXBRIDGE_PROFILES
export PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig
cmake -S . -B build/arm64 -G Ninja -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_LIBRARY_ARCHITECTURE=aarch64-linux-gnu \
    -DCMAKE_CROSSCOMPILING_EMULATOR=/usr/bin/qemu-aarch64 >/dev/null
unset PKG_CONFIG_LIBDIR
ninja -C build/arm64 --quiet
# What is looked for here is the processor; an emulator's time is not to be relied on,
# and that these tests keep to theirs is seen elsewhere.
FLUXBRIDGE_TEST_PATIENCE=5 ctest --test-dir build/arm64 -j2 -R '^unit\.' --output-on-failure \
    --no-tests=error

step "a fresh Debian"
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
    [ ! -s $file ] || sources+=("$file")
done
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mmdebstrap --quiet --variant=minbase --mode=root --include=systemd \
    "$suite" "$root" "${sources[@]}"
# What the package needs comes first, so that all else that is new is its own.
mount --bind /proc "$root/proc" # systemd-tmpfiles does nothing without
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -r /etc/apt/apt.conf.d "$root/etc/apt/"
chroot "$root" apt-get update -q
for field in Depends Recommends; do
    chroot "$root" apt-get satisfy -q -y --no-install-recommends "$(dpkg-deb -f "$deb" $field)"
done

# A systemctl that notes what it is asked for, as if systemd were running, and
# does itself what concerns files only.
mv "$root/bin/systemctl" "$root/bin/systemctl.real"
cat >"$root/bin/systemctl" <<'END'
#!/bin/sh
echo "$*" >>/tmp/asked
case $* in
*preset*) exec systemctl.real "$@" ;;
*is-enabled*) echo enabled ;;
esac
END
chmod +x "$root/bin/systemctl"
mkdir -p "$root/run/systemd/system"

asked() {
    grep -q -- "$1" "$root/tmp/asked"
}

# A package like the one tested, with another version and another conffile.
dpkg-deb -R "$deb" "$directory/old"
sed -i "s/^Version: .*/Version: $version~old/" "$directory/old/DEBIAN/control"
sed -i 's/monthly/weekly/' "$directory/old/etc/logrotate.d/fluxbridge"
dpkg-deb -b "$directory/old" "$root/tmp/old.deb" >/dev/null
cp "$deb" "$root/tmp/new.deb"

dpkg_in() {
    : >"$root/tmp/asked"
    chroot "$root" dpkg "$@"
}

# Every path and the accounts, but what dpkg and its tools keep for themselves.
snapshot() {
    (
        cd "$root"
        find . -path ./var/lib/dpkg -prune -o -path ./var/log -prune -o -path ./var/cache -prune -o \
            -path ./tmp -prune -o -path ./proc -prune -o -print
        grep -v "^logrotate state" var/lib/logrotate/status | cut -d" " -f1
        cat etc/passwd etc/group
    ) | sort
}

step "install"
chroot "$root" logrotate /etc/logrotate.conf # its status file is there before
snapshot >"$directory/before"
dpkg_in -i /tmp/new.deb
for path in usr/bin/fluxbridge usr/bin/fluxbridge-sim lib/systemd/system/fluxbridge.service \
    lib/systemd/system/fluxbridge@.service usr/share/man/man1/fluxbridge.1.gz \
    usr/share/man/man1/fluxbridge-sim.1.gz usr/share/man/man5/fluxbridge.conf.5.gz \
    usr/share/doc/fluxbridge/topics.md \
    usr/share/doc/fluxbridge/examples/fluxbridge.cfg etc/logrotate.d/fluxbridge; do
    expect "$path is there" [ -s "$root/$path" ]
done
for program in fluxbridge fluxbridge-sim; do
    expect "bash can complete $program" \
        [ -s "$root/usr/share/bash-completion/completions/$program.bash" ]
done
expect "the service is enabled" \
    [ -L "$root/etc/systemd/system/multi-user.target.wants/fluxbridge.service" ]
expect "the user is there" grep -q '^fluxbridge:.*/usr/sbin/nologin$' "$root/etc/passwd"
expect "zsh and fish as well" [ -s "$root/usr/share/zsh/vendor-completions/_fluxbridge" -a \
    -s "$root/usr/share/fish/vendor_completions.d/fluxbridge.fish" ]
expect "no configuration comes with it" [ -z "$(ls -A "$root/etc/fluxbridge")" ]
expect "the service's directory is the service's" \
    [ "$(chroot "$root" stat -c '%U:%G %a' /var/lib/fluxbridge)" = "fluxbridge:fluxbridge 750" ]
for type in "$root"/usr/share/fluxbridge/profiles/*.cfg; do
    expect "points of $type" chroot "$root" fluxbridge points "$(basename "$type" .cfg)" >/dev/null
done
expect "the example is good" chroot --userspec=fluxbridge "$root" \
    fluxbridge check -c /usr/share/doc/fluxbridge/examples/small-site.cfg
expect "the library that is loaded later is there" \
    chroot "$root" sh -c 'ldconfig -p | grep -q libmicrohttpd.so.12'

step "units"
for unit in fluxbridge.service fluxbridge@site.service; do
    expect "$unit is sound" systemd-analyze --man=no --root="$root" verify "$unit"
    # 0.2 of it is the question whether the clock is synchronised, which schedules go by.
    systemd-analyze --no-pager --offline=true --root="$root" --threshold=17 security "$unit" \
        >"$directory/security" || {
        grep -v '✓' "$directory/security"
        die "the exposure of $unit is too high"
    }
    tail -1 "$directory/security"
done

step "the daemon"
mkdir "$root/etc/fluxbridge/profiles"
cp "$root/usr/share/fluxbridge/profiles/acuvim2.cfg" "$root/etc/fluxbridge/profiles/own.cfg"
site >"$root/etc/fluxbridge/fluxbridge.cfg" /var/lib/fluxbridge own
# Once as root, as it happens: the service must be able to open what that leaves.
refuse "nobody is there" chroot "$root" \
    fluxbridge write -c /etc/fluxbridge/fluxbridge.cfg Battery target_power 0 >"$directory/said" 2>&1
expect "whoever writes as root is told" \
    grep -q 'this is root: .*audit.jsonl is given to fluxbridge' "$directory/said"
expect "the daemon starts as root, too" \
    starts chroot "$root" fluxbridge run -c /etc/fluxbridge/fluxbridge.cfg >"$directory/said" 2>&1
expect "whoever runs it as root is told" \
    grep -q 'this is root: .*spool.db is given to fluxbridge' "$directory/said"
expect "root leaves nothing that is root's" \
    [ -z "$(find "$root/var/lib/fluxbridge" -user root)" ]
expect "the daemon starts as its user, is ready and ends" \
    starts chroot --userspec=fluxbridge "$root" fluxbridge run -c /etc/fluxbridge/fluxbridge.cfg
expect "its audit log is there" [ -f "$root/var/lib/fluxbridge/audit.jsonl" ]

step "log rotation"
for line in one two three; do
    echo $line | chroot --userspec=fluxbridge "$root" tee -a /var/lib/fluxbridge/audit.jsonl >/dev/null
    chroot "$root" logrotate -f /etc/logrotate.d/fluxbridge
done
expect "the last log stays plain" [ "$(cat "$root/var/lib/fluxbridge/audit.jsonl.1")" = three ]
expect "older ones are compressed" \
    [ "$(zcat "$root/var/lib/fluxbridge/audit.jsonl.3.gz" | tail -1)" = one ]
expect "the daemon is told" asked 'kill --kill-whom=main --signal=HUP fluxbridge.service'

step "upgrade"
echo "# changed by the site" >>"$root/etc/logrotate.d/fluxbridge"
dpkg_in --force-confdef --force-confold -i /tmp/old.deb # a downgrade is an upgrade as well
expect "the service is restarted" asked 'restart fluxbridge.service'
expect "so are those of other sites" asked 'try-restart fluxbridge@\*.service'
expect "a changed conffile stays" grep -q 'changed by the site' "$root/etc/logrotate.d/fluxbridge"
expect "the new one lies beside it" grep -q weekly "$root/etc/logrotate.d/fluxbridge.dpkg-dist"
mv "$root/etc/logrotate.d/fluxbridge.dpkg-dist" "$root/etc/logrotate.d/fluxbridge"
dpkg_in -i /tmp/new.deb
expect "an unchanged conffile is renewed" grep -q monthly "$root/etc/logrotate.d/fluxbridge"
expect "the configuration is there" [ -f "$root/etc/fluxbridge/fluxbridge.cfg" ]
expect "the audit log is there" [ -f "$root/var/lib/fluxbridge/audit.jsonl.1" ]

step "remove"
dpkg_in -r fluxbridge
expect "the service is stopped" asked 'stop fluxbridge.service'
expect "so are those of other sites" asked 'stop fluxbridge@\*.service'
refuse "the program is still there" [ -e "$root/usr/bin/fluxbridge" ]
for path in etc/fluxbridge/fluxbridge.cfg etc/fluxbridge/profiles/own.cfg etc/logrotate.d/fluxbridge \
    var/lib/fluxbridge/audit.jsonl.1; do
    expect "$path stays" [ -f "$root/$path" ]
done

step "purge"
# What a site of its own adds, and what is set up for it.
mkdir -p "$root/var/lib/fluxbridge/north" "$root/etc/systemd/system/fluxbridge.service.d" \
    "$root/etc/systemd/system/fluxbridge@north.service.d"
site >"$root/etc/fluxbridge/north.cfg" /var/lib/fluxbridge/north
touch "$root/var/lib/fluxbridge/north/audit.jsonl" \
    "$root/etc/systemd/system/fluxbridge.service.d/override.conf" \
    "$root/etc/systemd/system/fluxbridge@north.service.d/override.conf"
ln -s /lib/systemd/system/fluxbridge@.service \
    "$root/etc/systemd/system/multi-user.target.wants/fluxbridge@north.service"
mkdir -p "$root/run/fluxbridge" # as the units leave it
touch "$root/run/fluxbridge/192.168.1.100:502-unit-1.claim"
dpkg_in -P fluxbridge
snapshot >"$directory/after"
diff "$directory/before" "$directory/after" || die "the purge leaves something, or takes too much"

step "the container"
ROOT=$directory/container packaging/container.sh >"$directory/container.log" 2>&1 || {
    cat "$directory/container.log"
    die "the image cannot be made"
}
container=$directory/container
expect "its archive is an image" python3 - build/container/fluxbridge-*-"$(dpkg --print-architecture)".tar <<'END'
import hashlib, json, sys, tarfile
archive = tarfile.open(sys.argv[1])
def blob(descriptor):
    data = archive.extractfile("blobs/sha256/" + descriptor["digest"][7:]).read()
    assert len(data) == descriptor["size"]
    assert hashlib.sha256(data).hexdigest() == descriptor["digest"][7:]
    return data
assert json.load(archive.extractfile("oci-layout"))["imageLayoutVersion"] == "1.0.0"
manifest = json.loads(blob(json.load(archive.extractfile("index.json"))["manifests"][0]))
config = json.loads(blob(manifest["config"]))
assert config["config"]["User"] == "fluxbridge"
assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(blob(manifest["layers"][0])).hexdigest()]
END
mkdir "$directory/volume"
site >"$directory/volume.cfg" /var/lib/fluxbridge
mv "$directory/volume.cfg" "$container/etc/fluxbridge/fluxbridge.cfg"
chown 999:999 "$directory/volume"
# As a container runtime has it: the root read-only, the volume not, no root.
expect "the daemon starts, is ready and ends" starts unshare --mount sh -c '
    mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" &&
    mount --bind "$2" "$1/var/lib/fluxbridge" && mount --bind /proc "$1/proc" &&
    exec chroot --userspec=fluxbridge "$1" /usr/bin/fluxbridge run -c /etc/fluxbridge/fluxbridge.cfg' \
    sh "$container" "$directory/volume"
expect "its audit log is in the volume" [ -f "$directory/volume/audit.jsonl" ]

step "everything is as it should be"
