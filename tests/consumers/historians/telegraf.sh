#!/bin/sh
# Builds Telegraf with what etc/telegraf.conf and the test want of it, once, into a directory.
set -eu
version=v1.39.0
into=$1
[ "$(cat "$into/version" 2>/dev/null)" != $version ] || exit 0
mkdir -p "$into"
cd "$into"
go mod download "github.com/influxdata/telegraf@$version"
dir=$(go list -m -f "{{.Dir}}" "github.com/influxdata/telegraf@$version")
cp "$dir/go.mod" "$dir/go.sum" .
chmod u+w go.mod go.sum
cd "$dir"
go build -modfile="$into/go.mod" -o "$into/telegraf" -tags \
    custom,inputs.mqtt_consumer,outputs.influxdb,parsers.json_v2,parsers.value,serializers.influx \
    ./cmd/telegraf
echo $version >"$into/version"
