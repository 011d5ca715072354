#!/bin/sh
# From a bare clone on Debian 12 or 13 to every test run:
#
#   tests/run.sh         installs missing packages, checks the format, builds with warnings
#                        as errors, and runs every test under AddressSanitizer with UBSan,
#                        the fuzz corpora too, and last of all in the plain build, whose
#                        summary is the last thing printed
#   tests/run.sh --deep  what takes longer: clang-tidy, cppcheck, and every test under
#                        ThreadSanitizer
#
# A step that fails does not stop the others. Exits 0 only when every step was
# good. Build trees and logs are below build/.
set -u
cd "$(dirname "$0")/.." || exit 1
started=$(date +%s)
failed=

# step NAME COMMAND...: runs it, remembers when it fails.
step() {
    name=$1
    shift
    printf '\n== %s (%d s)\n' "$name" $(($(date +%s) - started))
    "$@" || {
        echo "-- FAILED: $name"
        failed="$failed
  $name"
    }
}

# build DIRECTORY COMPILER CMAKE_OPTION...
build() {
    directory=build/$1
    compiler=$2
    shift 2
    cmake -S . -B "$directory" -G Ninja -DCMAKE_C_COMPILER="$compiler" \
        -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DFLUXBRIDGE_WERROR=ON "$@" >/dev/null &&
        ninja -C "$directory" --quiet
}

# run_tests DIRECTORY [JOBS_PER_CORE]: most of them wait most of the time.
run_tests() {
    ctest --test-dir "build/$1" -j$((${2-4} * $(nproc))) --output-on-failure --no-tests=error
}

# build_and_test JOBS_PER_CORE, and as build. What was not built is not tested: one failure,
# told once.
build_and_test() {
    jobs=$1
    shift
    build "$@" && run_tests "$1" "$jobs"
}

tidy() {
    find bridge devices -name '*.c' -print0 |
        xargs -0 -P2 -n4 clang-tidy --quiet --warnings-as-errors='*' -p build/tsan
}

step "packages" packaging/install-deps.sh tests
if [ "${1-}" = --deep ]; then
    step "TSan" build_and_test 3 tsan clang -DFLUXBRIDGE_SANITIZE=thread
    step "clang-tidy" tidy # as TSan's build was made
    step "cppcheck" cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 -I. -j2 \
        --enable=warning,performance,portability -D_GNU_SOURCE bridge devices
    [ -z "$failed" ] || printf '\nFAILED:%s\n' "$failed"
    [ -z "$failed" ]
    exit
fi
step "format" sh -c 'find bridge devices tests -name "*.[ch]" -print0 |
    xargs -0 clang-format --dry-run -Werror'
step "gcc build" build plain gcc
# The sanitized builds are clang's: gcc's UBSan makes conversions of its own and warns of them.
step "ASan and UBSan" build_and_test 4 asan clang -DFLUXBRIDGE_SANITIZE=address,undefined
if [ -n "$failed" ]; then
    printf '\nFAILED so far:%s\n' "$failed"
fi
printf '\n== tests (%d s)\n' $(($(date +%s) - started))
run_tests plain && [ -z "$failed" ] # here deadlines are as short as they are meant
