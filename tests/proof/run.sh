#!/bin/sh
# Proves the rules of bridge/battery, and looks for undefined behaviour in what reads
# registers and commands, with CBMC: for every sequence of events, state and input within
# the bounds that each harness states at its top.
#
#   tests/proof/run.sh                all harnesses, as Debian 13's CBMC sees them
#   tests/proof/run.sh stop codec     some of them
#   tests/proof/run.sh --mutants      each line of mutants.txt put into a copy of the code:
#                                     its harness must fail, or it proves nothing
#
# Needs root or sudo: at the first run it makes a Debian 13 in a directory outside of this
# tree (600 MB, with debootstrap), where CBMC is not what the machine itself has.
set -u
cd "$(dirname "$0")/../.." || exit 1
cache=${XDG_CACHE_HOME:-/var/cache}/fluxbridge-proof
root=$cache/trixie
as_root=
[ "$(id -u)" -eq 0 ] || as_root=sudo
started=$(date +%s)
failed=0

# Built under another name first, so that one which was cut short is no root.
make_root() {
    [ -e "$root" ] && return
    command -v debootstrap >/dev/null ||
        $as_root apt-get install -q -y --no-install-recommends debootstrap || return
    $as_root rm -rf "$root.new" &&
        $as_root mkdir -p "$cache" &&
        $as_root debootstrap --variant=minbase --include=cbmc,gcc,libc6-dev \
            trixie "$root.new" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >/dev/null &&
        $as_root mv "$root.new" "$root"
}

# The sources, in a directory of this run's own within the root.
copy() {
    $as_root rm -rf "$root/$work" &&
        $as_root mkdir -p "$root/$work" &&
        tar cf - bridge devices tests/proof | $as_root tar xf - --no-same-owner -C "$root/$work"
}

# cbmc HARNESS ARGUMENT...
cbmc() {
    source=$1
    shift
    # shellcheck disable=SC2016 # "$@" is the inner shell's
    $as_root chroot "$root" sh -c 'cd "$1" && shift && timeout "${PROVE_TIMEOUT:-1200}" cbmc "$@"' sh "/$work" \
        "tests/proof/$source.c" tests/proof/library.c -I. -D_GNU_SOURCE --unwinding-assertions "$@"
}

# What each harness consists of.
check() {
    registers="devices/registers/codec.c devices/registers/point.c"
    # shellcheck disable=SC2086 # lists of words are meant
    case $1 in
    stop)
        cbmc stop bridge/battery/intent.c bridge/battery/deadman.c bridge/battery/fallback.c \
            --unwind 9
        ;;
    interlock)
        cbmc interlock bridge/battery/interlock.c devices/registers/plausible.c $registers \
            --unwind 9
        ;;
    schedule)
        cbmc schedule bridge/battery/schedule.c bridge/model/reason.c --unwind 4 --slice-formula
        ;;
    adoption)
        cbmc schedule bridge/battery/schedule.c bridge/model/reason.c --unwind 4 --slice-formula \
            -DEVENTS=1
        ;;
    admit) cbmc admit devices/registers/point.c --unwind 9 ;;
    codec) cbmc codec $registers --unwind 21 ;;
    encode) cbmc codec $registers --unwind 21 -DENCODE=POINT_INT16 -DSCALE=-1 ;;
    command) cbmc command -Itests/proof/include --unwind 11 --slice-formula ;;
    *)
        echo "no such harness: $1" >&2
        return 2
        ;;
    esac
}

# A harness holds when nothing in it fails but what is there to be reached; that must.
prove() {
    log=$logs/$1
    check "$1" >"$log" 2>&1
    if grep -E ': (FAILURE|ERROR|UNKNOWN)$|[Ee]rror|ERROR' "$log" | grep -v 'reach: .*: FAILURE$'; then
        return 1
    fi
    if grep -E 'reach: .*: SUCCESS$' "$log"; then
        echo "is not reachable: the harness assumes too much"
        return 1
    fi
    grep -qE 'reach: .*: FAILURE$' "$log" || {
        tail -n 3 "$log"
        return 1
    }
}

say() {
    printf '%s: %s (%d s)\n' "$1" "$2" $(($(date +%s) - started))
}

logs=$(mktemp -d) || exit 1
work=proof.$$
trap '$as_root rm -rf "${root:?}/$work"; rm -rf "$logs"' EXIT
trap 'exit 1' HUP INT TERM
make_root || {
    echo "there is no Debian 13 to prove in: $root"
    exit 1
}
others="stop adoption interlock admit codec encode command"

if [ "${1-}" = --mutants ]; then
    while IFS='|' read -r harness file change; do
        case $harness in '' | '#'*) continue ;; esac
        copy || exit 1
        $as_root sed -i "$change" "$root/$work/$file"
        if $as_root cmp -s "$file" "$root/$work/$file"; then
            say "$harness" "CHANGES NOTHING: $file $change"
            failed=1
        elif found=$(prove "$harness"); then
            say "$harness" "NOT FOUND: $file $change"
            failed=1
        else
            say "$harness" "$(echo "$found" | sed -n '1s/^\[.*\] line [0-9]* //p'): $change"
        fi
    done <tests/proof/mutants.txt
    exit $failed
fi

# One after the other.
prove_each() {
    for harness; do
        if prove "$harness"; then
            say "$harness" proved
        else
            say "$harness" "NOT PROVED"
            failed=1
        fi
    done
    return $failed
}

copy || exit 1
[ $# -gt 0 ] || {
    prove_each schedule & # the longest, beside all others
    # shellcheck disable=SC2086 # a list of words is meant
    set -- $others
}
prove_each "$@"
[ -z "${!-}" ] || wait $! || failed=1
exit $failed
