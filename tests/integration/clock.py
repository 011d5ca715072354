"""The machine's clock is set: samples bear the new time, and nothing else minds."""

import os
import re
import time

import flux
from mqtt_faults import Relay

DEVICE = "Grid-Meter"
HOUR_MS = 3600 * 1000


class Clock(flux.Test):
    def set_wrong_by(self, seconds):
        flux.write_whole(self.wrong_by, seconds)

    def wait_sample(self, since, wrong_by_ms):
        """The first sample of that clock."""
        def of_that_clock(message):
            by_ms = message.json["ts"] - time.time() * 1000
            return abs(by_ms - wrong_by_ms) < HOUR_MS / 2

        return self.mqtt.wait(DEVICE + "/state", of_that_clock, since=since)

    def test_forth_and_back(self):
        self.wrong_by = os.path.join(self.directory, "wrong-by")
        server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        broker = self.broker()
        relay = Relay(broker.port)
        self.addCleanup(relay.place.close)
        self.addCleanup(relay.cut)
        self.mqtt = self.client(broker)
        bess = flux.battery(server, control={"deadman": {"timeout": "60s", "value": 0.0}})
        self.flux = self.bridge(flux.config(relay, [bess], [flux.meter(server)]),
                                {**self.preload(flux.SET_CLOCK), "CLOCK_WRONG_BY": self.wrong_by})
        first = self.wait_sample(0, 0).json
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.assertEqual(self.mqtt.ask(50, "c-1")["outcome"], "confirmed")
        for hours, by_hours in ((2, 2), (-1, -3)):
            since, known = self.mqtt.mark(), len(self.flux.lines)
            self.set_wrong_by(3600 * hours)
            self.wait_sample(since, hours * HOUR_MS)
            line = self.flux.wait_log("the clock has jumped", since=known)
            by_ms = int(re.search(r"by_ms=(-?\d+)", line)[1])
            self.assertLess(abs(by_ms - by_hours * HOUR_MS), HOUR_MS / 2)
        last = self.mqtt.wait_count(DEVICE + "/state", 3, since=self.mqtt.mark())[-1].json
        since = self.mqtt.mark()
        relay.cut()
        relay.restore()  # a session begins with its health
        health = self.mqtt.wait("bridge/health", since=since).json
        self.assertEqual(health["clock_jumps"], 2)
        self.assertTrue(0 <= health["uptime_s"] < 3600, health)
        self.assertEqual(health["samples_bad"], 0)
        # By the schedule: a sample for each tick, but for those that a busy machine misses.
        left_out = (last["ts"] + HOUR_MS - first["ts"]) / 200 - (last["seq"] - first["seq"])
        self.assertGreater(left_out, -1)
        self.assertLess(left_out, health["missed_ticks"] + 1)
        # The lease of a minute did not run out within hours that were none.
        self.assertEqual([w.values for w in server.units[1].writes], [[50]])

    def test_a_suspended_machine(self):
        """A lease ends by the time that has passed, though the kernel's waits stood still."""
        slept = os.path.join(self.directory, "slept")
        server = self.modbus({1: flux.battery_unit()})
        broker = self.broker()
        self.mqtt = self.client(broker)
        bess = flux.battery(server, poll="1h",
                            control={"deadman": {"timeout": "2h", "value": 0.0}})
        self.bridge(flux.config(broker, [bess]),
                    {**self.preload(flux.SET_CLOCK), "CLOCK_SLEPT": slept})
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.assertEqual(self.mqtt.ask(50, "s-1")["outcome"], "confirmed")
        flux.write_whole(slept, 3 * 3600)
        outcome = self.mqtt.wait("Site-BESS-01/result",
                                 lambda m: m.json.get("source") == "deadman").json
        self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", 0))

    def test_nobody_is_silent_while_the_machine_sleeps(self):
        """Neither a broker that has not yet acknowledged what it was sent, nor a thread."""
        slept = os.path.join(self.directory, "slept")
        server = self.modbus({2: flux.meter_unit()})
        broker = self.broker()
        self.mqtt = self.client(broker)
        self.flux = self.bridge(flux.config(broker, [], [flux.meter(server)]),
                                {**self.preload(flux.SET_CLOCK), "CLOCK_SLEPT": slept})
        self.mqtt.wait_text(DEVICE + "/status", "online")
        broker.freeze()
        n = server.units[2].requests
        server.wait(lambda: server.units[2].requests >= n + 20)
        flux.write_whole(slept, 3 * 3600)
        self.flux.wait_log("the clock has jumped")  # whoever looks has seen it
        n = server.units[2].requests
        server.wait(lambda: server.units[2].requests >= n + 20)
        broker.thaw()
        self.mqtt.wait_count(DEVICE + "/state", 3, since=self.mqtt.mark())
        self.assertNotRegex(self.flux.log(), "stopped moving|no session|no acknowledgement")


if __name__ == "__main__":
    flux.main()
