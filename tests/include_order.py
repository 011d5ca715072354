"""Rooms and modules have one total order, and #include lines only ever look back.

A module may include its own header and those of modules before it. So nothing
goes in circles, every module can be understood and tested with what stands
before it, and "what would I drag in?" has a short answer. Exits non-zero with
one line per offence.
"""

import os
import re
import sys

# The rooms, each of which stands on those above it, and in each its modules likewise.
ROOMS = {
    "devices/lines":
        "endpoint fault claim link bustime frame step dial tls serial channel line link_new",
    "devices/registers":
        "point codec plausible cfg_value cfg_values cfg_lexer cfg_hint cfg sunspec drive row profile place device "
        "device_points device_drive device_control device_list plan bus_share scan",
    "devices/simulator": "plant image watchdog rtu server main",
    "bridge/base": "clock log halt guard owner notify backoff ring",
    "bridge/model": "reason control_state command outcome sample health lease timetable",
    "bridge/site": "conf change",
    "bridge/wire": "json_text topic command_json schedule_json outcome_json sample_json sparkplug status_json",
    "bridge/store": "database state peek layouts queue outbox scans spool spooler",
    "bridge/battery":
        "admit own interlock intent deadman fallback remembered unsettled schedule scheduled "
        "trust script driver written scripted sequence battery",
    "bridge/commands":
        "mailbox inbox audit_file audit_formers recent last_outcomes audit answered answers subscriber",
    "bridge/telemetry": "agenda due on_change energy latest polled poller",
    "bridge/mqtt": "limits flights address certificate broker_tls credentials nap sieve mqtt cause lookup presence session sessions arrival",
    "bridge/publish":
        "node_metrics births node_post node_answers node_history node_flow primary_host "
        "node_commands ha_units ha_page ha_commands ha_document retained gone documents announce edge refusals hearing publisher",
    "bridge/ops": "view metrics page_text page events request http_library streams posts http",
    "bridge/cli":
        "terminal table types address_range reading recognise survey found_json power_check "
        "broker check_files check_devices check_broker verdict simulated cli",
    "bridge/run": "parts scout reload supervisor",
    "bridge": "main",
}
ORDER = [room + "/" + module for room, modules in ROOMS.items() for module in modules.split()]

# Libraries that one file, or one room, alone may know.
SOLE_USERS = {
    "modbus.h": "devices/lines/serial.c",
    "MQTTAsync.h": "bridge/mqtt/mqtt",
    "mosquitto.h": "bridge/mqtt/presence",
    "libconfig.h": "devices/registers/cfg.c",
    "sqlite3.h": "bridge/store/",
    "microhttpd.h": "bridge/ops/",
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


# Modules of several files, and how the names of the others end: the files of one may include
# each other, and its place in the order is that of all of them.
PARTS = {
    "bridge/battery/battery": "hold inside schedule told turns work",
    "bridge/battery/driver": "beat inside",
    "bridge/commands/audit": "inside told writer",
    "bridge/mqtt/mqtt": "connect end inside paho subscribe words",
    "bridge/mqtt/presence": "end inside wait",
    "bridge/mqtt/sieve": "packet",
    "bridge/publish/announce": "arrived inside send",
    "bridge/run/reload": "disks exchange inside",
    "bridge/store/outbox": "devices flight inside spool",
    "bridge/store/spool": "file inside note renew",
    "bridge/store/spooler": "inside moves",
    "bridge/store/state": "file inside memory move",
    "bridge/telemetry/poller": "commands inside units",
    "devices/registers/drive": "inside list read",
    "devices/registers/plan": "inside learned",
}


def module_of(path):
    """The module that a file belongs to. The subcommands, a file each, are one: cli."""
    path = os.path.splitext(path)[0]
    for module, endings in PARTS.items():
        if path in [module + "_" + ending for ending in endings.split()]:
            return module
    return re.sub(r"^bridge/cli/(check|forget|points|read|scan|schedule|write)$", "bridge/cli/cli", path)


def sources():
    """(path from the top, text) of every source of the programs."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for top in ("devices", "bridge"):
        for directory, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    path = os.path.join(directory, name)
                    with open(path, encoding="utf-8") as file:
                        yield os.path.relpath(path, root), file.read()


def report(found, check_is_good):
    """Prints what was found; the exit code."""
    for line in found:
        print(line)
    if not check_is_good:
        print("the check itself lets an offence through")
    return bool(found) or not check_is_good


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
    files = list(sources())
    missing = [m for m in ORDER if not any(module_of(p) == m for p, _ in files)]
    return report(check(files) + ["%s: in the order, but there is no such file" % module
                                  for module in missing], can_fail())


if __name__ == "__main__":
    sys.exit(main())
