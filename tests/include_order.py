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
devices/fault
devices/point
devices/codec
devices/plausible
devices/cfg
devices/profile
devices/device
devices/claim
devices/link
devices/plan
devices/bustime
devices/scan
devices/link_tcp
devices/link_modbus
devices/link_new
devices/simulator/plant
devices/simulator/image
devices/simulator/rtu
devices/simulator/server
devices/simulator/main
bridge/clock
bridge/log
bridge/guard
bridge/table
bridge/types
bridge/notify
bridge/conf
bridge/schedule
bridge/backoff
bridge/change
bridge/energy
bridge/reason
bridge/command
bridge/control
bridge/ring
bridge/queue
bridge/mailbox
bridge/inbox
bridge/outbox
bridge/spool
bridge/health
bridge/wire
bridge/spooler
bridge/audit
bridge/deadman
bridge/recall
bridge/reply
bridge/orders
bridge/quantity
bridge/discovery
bridge/mqtt
bridge/probe
bridge/session
bridge/sessions
bridge/arrival
bridge/herald
bridge/publisher
bridge/http
bridge/unit
bridge/poller
bridge/subscriber
bridge/supervisor
bridge/range
bridge/reading
bridge/guess
bridge/survey
bridge/ratio
bridge/tool
bridge/main
""".split()

# Libraries that exactly one file may know.
SOLE_USERS = {
    "modbus.h": "devices/link_modbus.c",
    "MQTTAsync.h": "bridge/mqtt.c",
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def module_of(path):
    """The module that a file belongs to; a large one may have several: tool_read.c
    and tool_write.c are parts of tool."""
    return re.sub(r"^(bridge/tool)_\w+$", r"\1", os.path.splitext(path)[0])


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
        if SOLE_USERS.get(base, path) != path:
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
        ("devices/point.c", '#include "bridge/log.h"\n'),
        ("devices/point.c", '#include "devices/codec.h"\n'),
        ("devices/link_tcp.c", "#include <modbus.h>\n"),
        ("bridge/wire.c", "# include <MQTTAsync.h>\n"),
        ("bridge/wire.c", '#include "wire.h"\n'),
        ("bridge/stray.c", "\n"),
    ]
    good = [
        ("bridge/wire.c", '#include "bridge/wire.h"\n#include "devices/fault.h"\n'),
        ("devices/link_modbus.c", "#include <modbus.h>\n"),
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
