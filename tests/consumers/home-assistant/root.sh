#!/bin/sh
# Makes a Debian sid with the newest Home Assistant that PyPI has for its Python, once, in a
# directory outside of this tree, and prints where. Needs root or sudo, debootstrap, 2 GB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-/var/cache}/fluxbridge-home-assistant
root=$cache/sid
as_root=
[ "$(id -u)" -eq 0 ] || as_root=sudo
[ ! -e "$root" ] || {
    echo "$root"
    exit
}

# in_root COMMAND...
in_root() {
    $as_root chroot "$root.new" env -i PATH=/opt/ha/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LANG=C.UTF-8 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$@"
}

# Built under another name first, so that one which was cut short is no root.
{
    $as_root rm -rf "$root.new"
    $as_root mkdir -p "$root.new"
    $as_root debootstrap --variant=minbase \
        --include=python3,python3-venv,python3-dev,g++,ca-certificates,libturbojpeg0 \
        sid "$root.new" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    for file in resolv.conf hosts ssl/certs/ca-certificates.crt; do
        $as_root cp -L "/etc/$file" "$root.new/etc/$file"
    done
    $as_root cp "$here/requirements.py" "$root.new/root/"
    in_root python3 -m venv /opt/ha
    in_root pip install --no-input uv
    # Its constraints are in the package itself.
    in_root pip download --no-input --no-deps -d /root/package homeassistant
    in_root sh -c 'python3 -m zipfile -e /root/package/homeassistant-*.whl /root/package'
    constraints=/root/package/homeassistant/package_constraints.txt
    in_root sh -c 'uv pip install --python /opt/ha/bin/python -c "$1" /root/package/*.whl' sh "$constraints"
    in_root sh -c 'python3 /root/requirements.py >/root/requirements.txt'
    in_root uv pip install --python /opt/ha/bin/python -c "$constraints" -r /root/requirements.txt
    $as_root rm -rf "$root.new/root/package" "$root.new/root/.cache" "$root.new/var/cache/apt"
    $as_root mv "$root.new" "$root"
} >&2
echo "$root"
