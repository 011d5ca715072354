#!/bin/sh
# check.sh MODULES: whether etc/grafana-dashboard.json is a dashboard by the types of npm's
# @grafana/schema, and that one that is none is told apart. MODULES has that and typescript.
set -eu
dashboard=$(cd "$(dirname "$0")/../../.." && pwd)/etc/grafana-dashboard.json
cd "$1"

# is_dashboard FILTER: the dashboard as sed's FILTER makes it.
is_dashboard() {
    {
        echo "import type { Dashboard } from '@grafana/schema';"
        echo "export const dashboard: Dashboard ="
        sed "$1" "$dashboard"
    } >dashboard.ts
    node_modules/.bin/tsc --noEmit --strict --skipLibCheck --module nodenext \
        --moduleResolution nodenext dashboard.ts
}

is_dashboard ""
for fault in 's/"type": "timeseries"/"type": 5/' 's/"schemaVersion"/"schemaVersions"/' 's/"w": 12/"w": "12"/'; do
    ! is_dashboard "$fault" >/dev/null || {
        echo "$0: nothing is wrong with it after $fault" >&2
        exit 1
    }
done
echo "etc/grafana-dashboard.json is a dashboard"
