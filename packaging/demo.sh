#!/bin/bash
# Shows fluxbridge at work on one machine, with a simulated battery, a simulated
# grid meter and a simulated PV meter. Installs what is missing (Debian 12 or 13),
# builds, and then shows live samples, a Sparkplug birth and data decoded, a setpoint
# with its outcome and the battery following it, and a meter that goes offline and
# comes back.
#
#   packaging/demo.sh          stays until Ctrl-C, so that you can play with it
#   packaging/demo.sh --once   half a minute; exits 0 only if every step was seen
#
# Everything listens on 127.0.0.1 only, on ports found free, and ends with the
# script. Nothing is left behind but the build tree build/demo.
set -u
cd "$(dirname "$0")/.." || exit 1

once=no
case "${1-}" in
"") ;;
--once) once=yes ;;
*)
    echo "usage: $0 [--once]" >&2
    exit 2
    ;;
esac

base=flux/demo
started=() # process ids of what this script started, each at its own index
directory=

cleanup() {
    trap - EXIT INT TERM
    for pid in "${started[@]}"; do
        stop "$pid"
    done
    [ -n "$directory" ] && rm -rf "$directory"
}
# An id leaves the list with its process: later it may be somebody else's.
stop() {
    kill "$1" 2>/dev/null
    wait "$1" 2>/dev/null
    unset "started[$1]"
}

trap cleanup EXIT
trap 'exit 0' INT TERM

die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

say() {
    printf '\n== %s\n' "$*"
}

seen() {
    printf '   seen: %s\n' "$*"
}

# A port that nobody listens on, below those that the system hands out.
free_port() {
    local port
    while :; do
        port=$((RANDOM % 20000 + 10000))
        [[ " ${ports-} " == *" $port "* ]] && continue
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    ports="${ports-} $port"
    free=$port
}

# start NAME PATTERN COMMAND...: runs it in the background and returns when a
# line of its output matches. The output goes to NAME.log; `pid` is its id.
start() {
    local name=$1 pattern=$2 output line
    shift 2
    exec {output}< <(exec "$@" 2>&1)
    pid=$!
    started[pid]=$pid
    while IFS= read -r -t 10 -u "$output" line; do
        printf '%s\n' "$line" >>"$directory/$name.log"
        if [[ $line =~ $pattern ]]; then
            cat <&"$output" >>"$directory/$name.log" &
            exec {output}<&-
            return 0
        fi
    done
    cat "$directory/$name.log" >&2
    die "$name does not start"
}

# await PATTERN WHAT: shows the messages as they arrive until one matches (10 s
# at most); `line` is that message, as "topic payload".
await() {
    local deadline=$((SECONDS + 10))
    while [ $SECONDS -lt $deadline ] && IFS= read -r -t 10 -u "$messages" line; do
        if [ ${#line} -gt 220 ]; then
            printf '   %.219s…\n' "$line"
        else
            printf '   %s\n' "$line"
        fi
        [[ $line =~ $1 ]] && return 0
    done
    die "waited in vain for $2"
}

# member NAME: a number out of the message in `line`.
member() {
    [[ $line =~ \"$1\":(-?[0-9.]+) ]] && printf '%s' "${BASH_REMATCH[1]}"
}

# await_sparkplug TYPE DEVICE: the next such message that is no history, by protoc and the
# schema, a line for each of its first metrics.
await_sparkplug() {
    local deadline=$((SECONDS + 10)) topic hex text
    while [ $SECONDS -lt $deadline ] && IFS=' ' read -r -t 10 -u "$sparkplug" topic hex; do
        [ "$topic" = "spBv1.0/flux/$1/demo/$2" ] || continue
        text=$(printf '%b' "$(sed 's/../\\x&/g' <<<"$hex")" |
            protoc --decode=sparkplug.Payload -Ibridge/wire sparkplug.proto) ||
            die "protoc cannot decode it"
        [[ $text == *is_historical* ]] && continue
        printf '   %s, %d bytes:\n' "$topic" $((${#hex} / 2))
        awk '/^metrics/ { text = "" }
             /^  [a-z_]+: / && !/timestamp/ { text = text "  " $1 " " $2 }
             /^}/ && n++ < 6 { print "     metric" text }
             END { if (n > 6) print "     … and " n - 6 " more" }' <<<"$text"
        return
    done
    die "waited in vain for $1 of $2"
}

simulate() {
    local log=simulator-$1 only=()
    for device in "$@"; do
        only+=(--only "$device")
    done
    start "$log" '^ready$' build/demo/fluxbridge-sim -c "$directory/demo.cfg" "${only[@]}"
}

publish() {
    mosquitto_pub -h 127.0.0.1 -p "$mqtt_port" -q 1 -t "$base/$1" -m "$2" ||
        die "cannot publish"
}

say "Packages and build"
packaging/install-deps.sh demo || exit 1
cmake -S . -B build/demo -G Ninja -DCMAKE_BUILD_TYPE=Release -DFLUXBRIDGE_TESTS=OFF >/dev/null &&
    ninja -C build/demo --quiet || exit 1
PATH=$PATH:/usr/sbin
SECONDS=0

directory=$(mktemp -d)
free_port && mqtt_port=$free
free_port && bess_port=$free
free_port && grid_port=$free
free_port && pv_port=$free
free_port && http_port=$free
echo demo >"$directory/token"
cat >"$directory/mosquitto.conf" <<END
listener $mqtt_port 127.0.0.1
allow_anonymous true
persistence false
END
# Short timeouts and one attempt each, so that an outage shows within seconds.
modbus='host = "127.0.0.1"; timeout = "500ms"; retry_count = 1'
cat >"$directory/demo.cfg" <<END
site = "demo";
mqtt: { url = "mqtt://127.0.0.1:$mqtt_port"; };
audit: { path = "$directory/audit.jsonl"; };
http: { listen = "127.0.0.1:$http_port"; token_file = "$directory/token"; };
sparkplug: { enabled = true; };
devices: {
  bess = ( {
    id = "demo-bess"; name = "Site-BESS-01"; type = "powerpack"; poll = "1s";
    modbus: { $modbus; port = $bess_port; address = 1; };
    control: {
      ready_status = [ 1 ];
      min_kw = -250; max_kw = 250;
      positive_is = "discharge";
    };
  } );
  meters = (
    { id = "demo-grid"; name = "Grid-Meter"; type = "acuvim2"; poll = "1s";
      modbus: { $modbus; port = $grid_port; address = 2; }; },
    { id = "demo-pv"; name = "PV-Meter"; type = "acuvim2-vendor"; poll = "1s";
      modbus: { $modbus; port = $pv_port; address = 3; }; }
  );
};
END

say "A broker, the simulated devices and the bridge"
start mosquitto ' running$' mosquitto -c "$directory/mosquitto.conf"
seen "mosquitto on 127.0.0.1:$mqtt_port"
exec {messages}< <(exec mosquitto_sub -V 5 -h 127.0.0.1 -p "$mqtt_port" -v -t "$base/+/state" \
    -t "$base/+/status" -t "$base/+/result")
started[$!]=$!
exec {sparkplug}< <(exec mosquitto_sub -V 5 -h 127.0.0.1 -p "$mqtt_port" -F '%t %x' -t 'spBv1.0/#')
started[$!]=$!
simulate Site-BESS-01 Grid-Meter
seen "a battery on Modbus 127.0.0.1:$bess_port, a grid meter on 127.0.0.1:$grid_port"
simulate PV-Meter
pv=$pid
seen "a PV meter on Modbus 127.0.0.1:$pv_port"
start fluxbridge 'fluxbridge is up' build/demo/fluxbridge run -c "$directory/demo.cfg"
seen "fluxbridge"

say "Live samples, one a second from each device"
for device in PV-Meter Site-BESS-01 Grid-Meter; do
    await "^$base/$device/state .*\"quality\":\"good\"" "a sample of $device"
    seen "a good sample of $device, number $(member seq) of this run"
done
before_w=$(member active_power_total)

say "The same for a SCADA host, by Sparkplug: a birth, then what changes, by alias"
await_sparkplug DBIRTH Site-BESS-01
await_sparkplug DDATA PV-Meter
seen "a birth with names and datatypes, and data with aliases alone"

say "A setpoint: discharge with 50 kW"
command="{\"id\":\"demo-1\",\"value\":50,\"issued_at\":$(date +%s%3N),\"ttl_s\":5,\"source\":\"demo\"}"
echo "   publishing to $base/Site-BESS-01/set/target_power: $command"
publish Site-BESS-01/set/target_power "$command"
await "^$base/Site-BESS-01/result .*\"id\":\"demo-1\"" "the outcome"
[[ $line == *'"outcome":"confirmed"'* ]] || die "the setpoint was not confirmed"
seen "written and read back: confirmed after $(member latency_ms) ms"
await "^$base/Site-BESS-01/state .*\"target_power\":50[,}]" "the setpoint in the battery's samples"
seen "the battery's samples show target_power 50 kW"
follows=no
while [ $follows = no ]; do
    await "^$base/Grid-Meter/state .*\"quality\":\"good\"" "the grid meter following the battery"
    after_w=$(member active_power_total)
    awk "BEGIN { exit !($before_w - $after_w > 30000) }" && follows=yes
    [ $SECONDS -lt 25 ] || die "the battery does not follow: $before_w W before, $after_w W after"
done
seen "the battery follows: power drawn from the grid was $before_w W and is $after_w W now"

say "A setpoint beyond the limits"
publish Site-BESS-01/set/target_power '{"id":"demo-2","value":400}'
await "^$base/Site-BESS-01/result .*\"id\":\"demo-2\"" "the refusal"
[[ $line == *'"reason":"out_of_range"'* ]] || die "it was not refused as out_of_range"
seen "refused, and nothing was written"

say "The PV meter is switched off, and on again"
stop "$pv"
await "^$base/PV-Meter/status offline" "PV-Meter going offline"
seen "PV-Meter offline"
simulate PV-Meter
await "^$base/PV-Meter/status online" "PV-Meter coming back"
seen "PV-Meter online"

say "Every step was seen, in $SECONDS s"
[ $once = yes ] && exit 0
cat <<END

fluxbridge goes on running; Ctrl-C ends everything. The site in a browser, where the
token "demo" lets you set the battery's power:

    http://127.0.0.1:$http_port/

In another terminal:

  everything that is published (topics.md describes it; spBv1.0/# is Sparkplug):
    mosquitto_sub -V 5 -h 127.0.0.1 -p $mqtt_port -v -t '$base/#'

  charge the battery with 80 kW:
    mosquitto_pub -h 127.0.0.1 -p $mqtt_port -q 1 -t $base/Site-BESS-01/set/target_power \\
      -m '{"id":"'\$(date +%s%N)'","value":-80,"source":"me"}'

  stop it:
    mosquitto_pub -h 127.0.0.1 -p $mqtt_port -q 1 -t $base/Site-BESS-01/set/target_power \\
      -m '{"id":"'\$(date +%s%N)'","value":0}'
END
while IFS= read -r -u "$messages" line; do :; done
die "the broker has ended"
