"""The modules have one total order, and #include lines only ever look back.

A module may include its own header and those of modules before it. So nothing
goes in circles, every module can be understood and tested with what stands
before it, and "what would I drag in?" has a short answer. Exits non-zero with
one line per offence.
"""

import os
import re
import sys

ORDER = """
devices/lines/fault
devices/registers/point
devices/registers/codec
devices/registers/plausible
devices/registers/cfg_value
devices/registers/cfg_lexer
devices/registers/cfg_hint
devices/registers/cfg
devices/registers/sunspec
devices/registers/profile
devices/lines/claim
devices/registers/place
devices/registers/device
devices/lines/link
devices/registers/plan
devices/registers/bustime
devices/registers/scan
devices/lines/frame
devices/lines/step
devices/lines/dial
devices/lines/tls
devices/lines/serial
devices/lines/channel
devices/lines/line
devices/lines/link_new
devices/simulator/plant
devices/simulator/image
devices/simulator/rtu
devices/simulator/server
devices/simulator/main
bridge/base/clock
bridge/base/log
bridge/base/guard
bridge/base/owner
bridge/cli/terminal
bridge/cli/table
bridge/cli/types
bridge/base/notify
bridge/base/backoff
bridge/base/ring
bridge/model/reason
bridge/model/command
bridge/model/outcome
bridge/model/sample
bridge/model/health
bridge/model/lease
bridge/site/conf
bridge/wire/json_text
bridge/wire/topic
bridge/wire/command_json
bridge/wire/outcome_json
bridge/wire/sample_json
bridge/wire/sparkplug
bridge/wire/status_json
bridge/store/database
bridge/store/state
bridge/store/layouts
bridge/store/queue
bridge/store/outbox
bridge/store/scans
bridge/store/spool
bridge/store/spooler
bridge/battery/admit
bridge/battery/own
bridge/battery/interlock
bridge/battery/intent
bridge/battery/deadman
bridge/battery/fallback
bridge/battery/remembered
bridge/battery/unsettled
bridge/battery/sequence
bridge/battery/battery
bridge/telemetry/due
bridge/telemetry/on_change
bridge/telemetry/energy
bridge/telemetry/latest
bridge/commands/mailbox
bridge/commands/inbox
bridge/commands/audit_file
bridge/commands/recent
bridge/commands/audit
bridge/commands/answered
bridge/commands/answers
bridge/publish/births
bridge/publish/ha_units
bridge/publish/ha_document
bridge/mqtt/limits
bridge/mqtt/flights
bridge/mqtt/address
bridge/mqtt/credentials
bridge/mqtt/mqtt
bridge/mqtt/cause
bridge/mqtt/lookup
bridge/mqtt/session
bridge/mqtt/sessions
bridge/mqtt/arrival
bridge/publish/documents
bridge/publish/announce
bridge/publish/edge
bridge/publish/publisher
bridge/ops/view
bridge/ops/metrics
bridge/ops/page_text
bridge/ops/page
bridge/ops/events
bridge/ops/request
bridge/ops/http_library
bridge/ops/streams
bridge/ops/posts
bridge/ops/http
bridge/telemetry/polled
bridge/telemetry/poller
bridge/commands/subscriber
bridge/supervisor
bridge/cli/address_range
bridge/cli/reading
bridge/cli/recognise
bridge/cli/survey
bridge/cli/found_json
bridge/cli/power_check
bridge/cli/broker
bridge/cli/check_files
bridge/cli/check_devices
bridge/cli/check_broker
bridge/cli/verdict
bridge/cli/simulated
bridge/cli/cli
bridge/main
""".split()

# Libraries that one file, or one room, alone may know.
SOLE_USERS = {
    "modbus.h": "devices/lines/serial.c",
    "MQTTAsync.h": "bridge/mqtt/mqtt.c",
    "libconfig.h": "devices/registers/cfg.c",
    "sqlite3.h": "bridge/store/",
    "microhttpd.h": "bridge/ops/",
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def module_of(path):
    """The module that a file belongs to. The subcommands, a file each, are one: cli; and
    so are the parts of the spool."""
    path = re.sub(r"^(bridge/store/spool)_(file|renew)\b", r"\1", path)
    return re.sub(r"^bridge/cli/(check|forget|points|read|scan|write)$", "bridge/cli/cli",
                  os.path.splitext(path)[0])


def sources(root):
    for top in ("devices", "bridge"):
        for directory, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(directory, name), root)


def offences(path, text):
    """What is wrong with the includes of one file, in words."""
    module = module_of(path)
    if module not in ORDER:
        yield "the module has no place in the order (tests/include_order.py)"
        return
    place = ORDER.index(module)
    for match in INCLUDE.finditer(text):
        quote, header = match.groups()
        base = os.path.basename(header)
        if not path.startswith(SOLE_USERS.get(base, path)):
            yield "only %s may include <%s>" % (SOLE_USERS[base], base)
        if quote == "<":
            continue
        included = module_of(header)
        if included not in ORDER:
            yield 'includes "%s": not a module by its path from the top' % header
        elif ORDER.index(included) > place:
            yield 'includes "%s", which comes after it' % header


def check(files):
    """All offences in (path, text) pairs."""
    return ["%s: %s" % (path, what) for path, text in files for what in offences(path, text)]


def can_fail():
    """The check itself, checked: each kind of offence is seen."""
    bad = [
        ("devices/registers/point.c", '#include "bridge/base/log.h"\n'),
        ("devices/registers/point.c", '#include "devices/registers/codec.h"\n'),
        ("devices/lines/dial.c", "#include <modbus.h>\n"),
        ("bridge/wire/topic.c", "# include <MQTTAsync.h>\n"),
        ("bridge/wire/topic.c", '#include "topic.h"\n'),
        ("bridge/wire/topic.c", "#include <sqlite3.h>\n"),
        ("bridge/stray.c", "\n"),
    ]
    good = [
        ("bridge/wire/topic.c", '#include "bridge/wire/topic.h"\n#include "devices/lines/fault.h"\n'),
        ("devices/lines/serial.c", "#include <modbus.h>\n"),
    ]
    return all(check([one]) for one in bad) and not check(good)


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    files = []
    for path in sources(root):
        with open(os.path.join(root, path)) as file:
            files.append((path, file.read()))
    found = check(files)
    missing = [m for m in ORDER if not any(module_of(p) == m for p, _ in files)]
    found += ["%s: in the order, but there is no such file" % module for module in missing]
    for line in found:
        print(line)
    if not can_fail():
        print("the check itself lets an offence through")
    return bool(found) or not can_fail()


if __name__ == "__main__":
    sys.exit(main())
