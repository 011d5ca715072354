#!/bin/sh
# What no one here wrote, as users run it with fluxbridge: installs it and runs the
# tests against it.
#
#   tests/consumers/run.sh [BUILD_DIR] [--without NAME]...
#
# BUILD_DIR (build/plain unless given) holds the built programs. Names:
#
#   chromium   the page in Debian's chromium, with npm's playwright-core and axe-core
#   sparkplug  a Sparkplug host on npm's mqtt and sparkplug-payload, beside a node on npm's
#              sparkplug-client
#   protoc     Debian's protoc on every kind of Sparkplug payload
#   tahu       Eclipse Tahu's decoder, from Maven, on every kind of Sparkplug payload
#   jsmodbus   a battery on npm's jsmodbus
#   asyncapi   npm's @asyncapi/parser and ajv on etc/asyncapi.yaml and on what the bridge publishes
#   postgresql Debian's, filled as etc/historian.md says, and the queries of the dashboard in etc/
#   grafana    npm's @grafana/schema on the dashboard in etc/
#   node-red   npm's, with the flow of etc/
#   telegraf   from its Go module, with etc/telegraf.conf, before Debian's VictoriaMetrics
#   prometheus Debian's, with the configuration and the alerts of etc/
#   home-assistant  the newest Home Assistant of PyPI that runs on the Python of Debian sid,
#              in a root that home-assistant/root.sh makes once
#
# What cannot be had here fails by its name, unless it is left out. Pictures of the
# page are kept in BUILD_DIR/page.
set -u
cd "$(dirname "$0")/../.." || exit 1
names="chromium sparkplug protoc tahu jsmodbus asyncapi prometheus postgresql grafana node-red telegraf home-assistant"
build=build/plain
without=
while [ $# -gt 0 ]; do
    case $1 in
    --without)
        [ $# -gt 1 ] || {
            echo "$0: --without wants a name" >&2
            exit 2
        }
        case " $names " in
        *" $2 "*) ;;
        *)
            echo "$0: there is no $2 here; the names are: $names" >&2
            exit 2
            ;;
        esac
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

# install PACKAGE...: Debian's.
install() {
    echo "Installing with apt-get: $*"
    $as_root apt-get update -q >/dev/null &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
            --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >/dev/null
}

# need COMMAND PACKAGE...: installs Debian's packages unless the command is there.
need() {
    command=$1
    shift
    command -v "$command" >/dev/null || install "$@" && command -v "$command" >/dev/null
}

# need_module NAME PACKAGE...: likewise a module of Debian's Python.
need_module() {
    module=$1
    shift
    /usr/bin/python3 -c "import $module" 2>/dev/null || install "$@"
}

# from_npm FROM TO: what the lock file in FROM names, and nothing else.
from_npm() {
    need node nodejs && need npm npm && mkdir -p "$2" &&
        cp "$1/package.json" "$1/package-lock.json" "$2" &&
        npm ci --prefix "$2" --ignore-scripts --no-audit --no-fund
}

test_chromium() {
    need chromium chromium fonts-dejavu-core && from_npm tests/consumers "$modules" &&
        CHROMIUM=$(command -v chromium) NODE_PATH=$modules/node_modules \
            /usr/bin/python3 -B tests/consumers/page.py "$build"
}

# hosts NAME: the Sparkplug node before one of them.
hosts() {
    /usr/bin/python3 -B tests/consumers/sparkplug/hosts.py "$build" "$1"
}

test_sparkplug() {
    from_npm tests/consumers/sparkplug "$modules/sparkplug" &&
        NODE_PATH=$modules/sparkplug/node_modules hosts npm
}

test_protoc() {
    need protoc protobuf-compiler && hosts protoc
}

test_tahu() {
    need javac default-jdk-headless && need mvn maven &&
        mvn -q -B -f tests/consumers/sparkplug/pom.xml dependency:copy-dependencies \
            -DoutputDirectory="$modules/tahu" &&
        CLASSPATH=$(printf '%s:' "$modules"/tahu/*.jar) hosts tahu
}

test_jsmodbus() {
    from_npm tests/consumers/modbus "$modules/modbus" &&
        NODE_PATH=$modules/modbus/node_modules \
            /usr/bin/python3 -B tests/consumers/modbus/jsmodbus.py "$build"
}

test_asyncapi() {
    from_npm tests/consumers/asyncapi "$modules/asyncapi" &&
        NODE_PATH=$modules/asyncapi/node_modules \
            /usr/bin/python3 -B tests/consumers/asyncapi/asyncapi.py "$build"
}

test_prometheus() {
    need promtool prometheus && /usr/bin/python3 -B tests/consumers/prometheus.py "$build"
}

# historians NAME: one of them, as its recipe says.
historians() {
    need mosquitto_sub mosquitto-clients &&
        /usr/bin/python3 -B tests/consumers/historians/historians.py "$build" "$1"
}

test_postgresql() {
    { ls /usr/lib/postgresql/*/bin/initdb || install postgresql; } >/dev/null 2>&1 &&
        historians postgresql
}

test_grafana() {
    from_npm tests/consumers/grafana "$modules/grafana" &&
        tests/consumers/grafana/check.sh "$modules/grafana"
}

test_node_red() {
    need_module websocket python3-websocket &&
        from_npm tests/consumers/node-red "$modules/node-red" &&
        /usr/bin/python3 -B tests/consumers/node-red/node_red.py "$build" "$modules/node-red"
}

test_telegraf() {
    need victoria-metrics victoria-metrics && need go golang-go &&
        tests/consumers/historians/telegraf.sh "$modules/telegraf" &&
        TELEGRAF=$modules/telegraf/telegraf historians telegraf
}

test_home_assistant() {
    need debootstrap debootstrap && need_module websocket python3-websocket &&
        root=$(tests/consumers/home-assistant/root.sh) &&
        $as_root env FLUXBRIDGE_TEST_PATIENCE="${FLUXBRIDGE_TEST_PATIENCE-1}" /usr/bin/python3 -B \
            tests/consumers/home-assistant/home_assistant.py "$build" "$root"
}

for name in $names; do
    case $without in
    *" $name "*)
        echo "== $name: left out"
        continue
        ;;
    esac
    echo "== $name"
    "test_$(echo "$name" | tr - _)" || failed="$failed $name"
done
[ -z "$failed" ] || {
    echo "FAILED:$failed"
    exit 1
}
