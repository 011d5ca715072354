#!/bin/sh
# What no one here wrote, as users run it with fluxbridge: installs it and runs the
# tests against it.
#
#   tests/consumers/run.sh [BUILD_DIR] [--without NAME]...
#
# BUILD_DIR (build/plain unless given) holds the built programs. Names:
#
#   chromium   the page in Debian's chromium, with npm's playwright-core and axe-core
#
# What cannot be had here fails by its name, unless it is left out. Pictures of the
# page are kept in BUILD_DIR/page.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=build/plain
without=
while [ $# -gt 0 ]; do
    case $1 in
    --without)
        [ $# -gt 1 ] || {
            echo "$0: --without wants a name" >&2
            exit 2
        }
        [ "$2" = chromium ] || {
            echo "$0: there is no $2 here; the names are: chromium" >&2
            exit 2
        }
        without="$without $2 "
        shift
        ;;
    -*)
        echo "usage: $0 [BUILD_DIR] [--without NAME]..." >&2
        exit 2
        ;;
    *) build=$1 ;;
    esac
    shift
done
[ -x "$build/fluxbridge" ] || {
    echo "$0: $build holds no fluxbridge: build it first, or name the directory" >&2
    exit 2
}
build=$(cd "$build" && pwd)
modules=$build/consumers
as_root=
[ "$(id -u)" -eq 0 ] || as_root=sudo
failed=

# need COMMAND PACKAGE...: installs Debian's packages unless the command is there.
need() {
    command=$1
    shift
    command -v "$command" >/dev/null && return
    echo "Installing with apt-get: $*"
    $as_root apt-get update -q >/dev/null &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
            --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >/dev/null &&
        command -v "$command" >/dev/null
}

# What the lock file names, and nothing else.
from_npm() {
    mkdir -p "$modules" && cp tests/consumers/package.json tests/consumers/package-lock.json \
        "$modules" && npm ci --prefix "$modules" --ignore-scripts --no-audit --no-fund
}

test_chromium() {
    need node nodejs && need npm npm && need chromium chromium fonts-dejavu-core && from_npm &&
        CHROMIUM=$(command -v chromium) NODE_PATH=$modules/node_modules \
            /usr/bin/python3 -B tests/consumers/page.py "$build"
}

for name in chromium; do
    case $without in
    *" $name "*)
        echo "== $name: left out"
        continue
        ;;
    esac
    echo "== $name"
    "test_$name" || failed="$failed $name"
done
[ -z "$failed" ] || {
    echo "FAILED:$failed"
    exit 1
}
