#!/bin/bash
# Fuzzes on from where the last run has ended, or tells how far the corpora reach.
#
#     tests/fuzz/run.sh [-s SECONDS] [-j N] [NAME ...]    each fuzzer so long (600), N at a time (1)
#     tests/fuzz/run.sh -c [NAME ...]                     lines that are reached, of what each is for
#
# NAME is codec, command, ...; without one all of them. What is new is kept below
# build/fuzz-kept (FLUXBRIDGE_FUZZ_KEPT), one directory each, with the processor time that
# each has had in all, which on a busy machine is less than it has run; the next run begins
# with that and with tests/fuzz/corpus. Ends with 1 when something was found: the input is
# in build/fuzz-kept/found.
set -eu
cd "$(dirname "$0")/../.."
kept=${FLUXBRIDGE_FUZZ_KEPT:-build/fuzz-kept}
seconds=600
at_once=1
coverage=
while getopts cj:s: option; do
    case $option in
        c) coverage=1 ;;
        j) at_once=$OPTARG ;;
        s) seconds=$OPTARG ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -eq 0 ]; then
    set -- $(cd tests/fuzz && ls fuzz_*.c | sed 's/fuzz_\(.*\)\.c/\1/')
fi

# What each is for.
sources() {
    case $1 in
        codec) echo devices/registers/codec.c ;;
        command) echo bridge/wire/command_json.c bridge/battery/admit.c bridge/wire/outcome_json.c ;;
        conf) echo devices/registers/cfg.c devices/registers/cfg_lexer.c bridge/site/conf.c \
            devices/registers/device_list.c devices/registers/device_control.c \
            devices/registers/device_drive.c devices/registers/device_points.c \
            devices/registers/place.c ;;
        frame) echo devices/lines/frame.c ;;
        profile) echo devices/registers/profile.c devices/registers/row.c devices/registers/plan.c \
            devices/registers/drive_read.c devices/registers/drive_list.c ;;
        schedule) echo bridge/wire/schedule_json.c bridge/battery/schedule.c ;;
        sieve) echo bridge/mqtt/sieve_packet.c ;;
        sparkplug) echo bridge/wire/sparkplug.c ;;
        spool) echo bridge/store/layouts.c bridge/store/database.c bridge/store/spool_file.c \
            bridge/store/spool_renew.c bridge/store/spool.c ;;
    esac
}

build() { # directory, options of CMake
    directory=$1
    shift
    cmake -S . -B "$directory" -G Ninja -DCMAKE_C_COMPILER=clang -DFLUXBRIDGE_FUZZ=ON "$@" >/dev/null
    ninja -C "$directory" --quiet
}

fuzz() {
    mkdir -p "$kept/$1" "$kept/found"
    before=$(cat "$kept/$1.seconds" 2>/dev/null || echo 0)
    status=0
    TIMEFORMAT=%U
    { time nice -n 19 build/fuzz/tests/fuzz_"$1" -max_total_time="$seconds" -timeout=60 \
        -verbosity=0 -print_final_stats=1 -artifact_prefix="$kept/found/$1-" "$kept/$1" \
        "tests/fuzz/corpus/fuzz_$1" 2>"$kept/$1.log" >&2 || status=$?; } 2>"$kept/$1.time"
    [ $status -ne 72 ] || status=0 # interrupted
    [ $status -eq 0 ] && echo $((before + $(sed 's/[.,].*//' "$kept/$1.time"))) >"$kept/$1.seconds"
    printf '%-10s %8s runs, %5s inputs kept, %6s s in all: %s\n' "$1" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$kept/$1.log")" \
        "$(find "$kept/$1" -type f | wc -l)" "$(cat "$kept/$1.seconds" 2>/dev/null || echo 0)" \
        "$([ $status -eq 0 ] && echo nothing found || echo "FOUND, see $kept/$1.log")"
    return $status
}

cover() {
    set -- "$1" build/fuzz-cover/tests/fuzz_"$1"
    LLVM_PROFILE_FILE=build/fuzz-cover/$1.profraw "$2" -runs=0 -verbosity=0 \
        "tests/fuzz/corpus/fuzz_$1" $([ ! -d "$kept/$1" ] || echo "$kept/$1") 2>/dev/null >&2
    llvm-profdata merge -o "build/fuzz-cover/$1.profdata" "build/fuzz-cover/$1.profraw"
    for source in $(sources "$1"); do
        # The line of the one file: lines, missed lines and their part are the eighth on.
        llvm-cov report "$2" -instr-profile="build/fuzz-cover/$1.profdata" "$source" |
            awk -v name="$1" -v source="$source" '/^TOTAL/ {
                printf "%-10s %-36s %5d lines, %s\n", name, source, $8, $10 }'
    done
}

status=0
if [ -n "$coverage" ]; then
    build build/fuzz-cover -DCMAKE_BUILD_TYPE=Debug \
        -DCMAKE_C_FLAGS="-fprofile-instr-generate -fcoverage-mapping"
    for name; do cover "$name"; done
else
    build build/fuzz -DFLUXBRIDGE_SANITIZE=fuzzer-no-link,address,undefined
    export kept seconds
    export -f fuzz
    printf '%s\n' "$@" | xargs -P "$at_once" -n 1 bash -c 'fuzz "$1"' fuzz || status=1
fi
exit $status
