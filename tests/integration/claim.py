"""One claim a device: of several programs on a machine one writes, and who that is is said."""

import json
import os

import flux
from flux import RESULT
from preloaded import OPENS, REAL

# No descriptor for the directory of claims.
SHORT = r"""
#include <errno.h>
#include <string.h>
#include <sys/types.h>

static int opened(const char *name, const char *path, int flags, mode_t mode);
""" + OPENS + REAL + r"""
static int opened(const char *name, const char *path, int flags, mode_t mode)
{
    if (strcmp(path, "/run/fluxbridge") != 0)
        return REAL(int, name, const char *, int, mode_t)(path, flags, mode);
    errno = EMFILE;
    return -1;
}
"""

HELD = r"^held by fluxbridge of site %s, process \d+$"


class Claim(flux.BatteryTest):
    def other(self, host=None, control=None):
        """A second daemon, of another site, for the same battery; and its client."""
        client = self.client(self.mosquitto, base="flux/other")
        bess = flux.battery(self.server, control=control, modbus={"host": host or "127.0.0.1"})
        directory = os.path.join(self.directory, "other")
        os.mkdir(directory)
        text = flux.config(self.mosquitto, [bess],
                           audit={"path": os.path.join(directory, "audit.jsonl")})
        bridge = flux.Bridge(text.replace('site = "demo"', 'site = "other"'), directory)
        self.addCleanup(bridge.stop)
        client.wait_text("Site-BESS-01/status", "online")
        client.wait_text("bridge/status", "online")
        return bridge, client

    def not_owner(self, outcome, holder="demo"):
        self.check(outcome, "refused", "not_owner")
        self.assertRegex(outcome["detail"], HELD % holder)

    def test_the_tool_is_refused_while_the_daemon_runs(self):
        self.rig()
        path = os.path.join(self.directory, "tool.cfg")
        with open(path, "w") as file:
            file.write(self.text)
        write = ("write", "-c", path, "Site-BESS-01", "target_power")
        code, out, _ = self.run_tool(*write, "50")
        self.assertEqual(code, 1)
        self.not_owner(json.loads(out))
        self.assertEqual(self.written(), [])
        code, out, _ = self.run_tool(*write, "0")  # a battery can always be told to stop
        self.assertEqual((code, json.loads(out)["outcome"]), (0, "confirmed"))
        self.flux.stop()
        code, out, _ = self.run_tool(*write, "-30")
        self.assertEqual((code, json.loads(out)["outcome"]), (0, "confirmed"))
        self.assertEqual(self.written(), [0, 0x10000 - 30])
        self.assertEqual(self.lines()[-1]["source"], "fluxbridge-write")

    def test_a_second_daemon_is_refused_by_whatever_name(self):
        """127.0.0.1 and localhost are one device."""
        self.rig()
        bridge, client = self.other(host="localhost")
        line = bridge.wait_log("the device is held by another")
        self.assertIn("fluxbridge of site demo, process %d" % self.flux.process.pid, line)
        self.not_owner(client.ask(50, "t-1"))
        self.check(self.mqtt.ask(40, "t-2"), "confirmed")
        self.check(client.ask(0, "t-3"), "confirmed")  # it can always be told to stop
        self.flux.stop()
        self.check(client.ask(30, "t-4"), "confirmed")
        self.assertEqual(self.written(), [40, 0, 30])

    def test_only_its_holder_has_a_deadman(self):
        self.rig()
        _, client = self.other(host="localhost", control={
            "deadman": {"timeout": "500ms", "value": 0.0}, "on_exit": "fallback"})
        self.check(self.mqtt.ask(50, "t-1"), "confirmed")
        since = client.mark()
        client.wait(  # it sees the setpoint that is not its own
            "Site-BESS-01/state", lambda m: m.json["data"]["target_power"] == 50)
        client.wait_count("Site-BESS-01/state", 8, since=since)  # three of its timeouts
        self.assertEqual(self.written(), [50])
        self.assertEqual([m for m in client.on(RESULT)], [])

    def test_only_its_holder_writes_at_its_end(self):
        self.rig()
        bridge, client = self.other(control={"on_exit": "fallback"})
        self.check(self.mqtt.ask(50, "t-1"), "confirmed")
        bridge.stop()
        self.assertEqual(self.written(), [50])
        self.assertEqual([m for m in client.on(RESULT)], [])

    def test_a_claim_is_taken_in_one_place_only(self):
        """For want of a descriptor nobody looks for another one, where nobody else is."""
        self.rig()
        client = self.client(self.mosquitto, base="flux/other")
        directory = os.path.join(self.directory, "other")
        os.mkdir(directory)
        text = flux.config(self.mosquitto, [flux.battery(self.server)])
        bridge = flux.Bridge(text.replace('site = "demo"', 'site = "other"'), directory,
                             self.preload(SHORT))
        self.addCleanup(bridge.stop)
        client.wait_text("Site-BESS-01/status", "online")
        client.wait_text("bridge/status", "online")
        outcome = client.ask(50, "t-1")
        self.check(outcome, "refused", "not_owner")
        self.assertRegex(outcome["detail"], "no claim can be taken.*: Too many open files$")
        self.assertEqual(self.written(), [])

    def test_units_behind_one_address_are_devices_of_their_own(self):
        second = flux.battery_unit()
        self.rig(units={2: second})
        directory = os.path.join(self.directory, "other")
        os.mkdir(directory)
        client = self.client(self.mosquitto, base="flux/other")
        text = flux.config(self.mosquitto, [flux.battery(self.server, address=2)])
        bridge = flux.Bridge(text.replace('site = "demo"', 'site = "other"'), directory)
        self.addCleanup(bridge.stop)
        client.wait_text("Site-BESS-01/status", "online")
        client.wait_text("bridge/status", "online")
        self.check(self.mqtt.ask(50, "t-1"), "confirmed")
        self.check(client.ask(60, "t-2"), "confirmed")
        self.assertEqual((self.written(), [w.values for w in second.writes]), ([50], [[60]]))


if __name__ == "__main__":
    flux.main()
