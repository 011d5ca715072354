"""A schedule of a battery that a keepalive holds: the keepalive belongs to the entry."""

import driver
import flux
from flux import RESULT, utc_ms
from schedule import SET, entry, schedule


class Held(driver.DirectTest):
    def offer(self, *entries, **more):
        since = self.mqtt.mark()
        self.mqtt.publish(SET, schedule(1, *entries, **more))
        outcome = self.mqtt.wait(RESULT, lambda m: m.json["point"] == "schedule", since=since).json
        self.assertEqual(outcome["outcome"], "accepted")

    def runs_at(self, power):
        self.server.wait(lambda: self.unit.power() == power, timeout_s=20)

    def test_an_entry_is_held_beyond_the_deadman(self):
        self.rig(control={"deadman": {"timeout": "1s", "value": 0.0}})
        self.offer(entry(-1, 3600, 50))
        self.runs_at(50000)
        self.wait_beats(5)
        self.assertEqual(self.unit.power(), 50000)
        self.assertEqual(self.unit.expired, 0)
        # Killed: the battery ends it, and the next run takes it over again.
        self.flux.kill()
        self.server.wait(lambda: self.unit.expired == 1, timeout_s=30)
        self.start()
        self.runs_at(50000)

    def test_release(self):
        for default in (0, "release"):
            with self.subTest(default):
                self.rig()
                now = utc_ms()
                self.offer(entry(-1, 3, 50, now), default=default)
                self.runs_at(50000)
                self.runs_at(0)
                since = self.mqtt.mark()
                self.wait_control("idle" if default else "held", since)
                self.assertEqual(self.unit.registers[driver.MODE], 0 if default else 1)
                self.doCleanups()
                self.setUp()

    def test_one_that_the_battery_leaves(self):
        """Lost once, and not taken over again by a restart; the next entry is."""
        self.rig()
        now = utc_ms()
        self.offer(entry(-1, 12, 50, now), entry(12, 3600, -30, now))
        self.runs_at(50000)
        self.mqtt.wait(RESULT, lambda m: m.json["outcome"] == "confirmed")  # it is read back
        with self.server.changed:
            self.unit.registers[driver.MODE] = 0
            self.unit.runs = False
        lost = self.mqtt.wait(RESULT, lambda m: m.json["outcome"] == "lost").json
        self.assertEqual(lost["source"], "schedule:day")
        self.flux.stop()
        mark = self.mark()
        self.start()
        self.runs_at(-30000)
        self.assertEqual({driver.signed(values[:2]) for address, values in self.writes(mark)
                          if address == driver.POWER}, {-30000})


if __name__ == "__main__":
    flux.main()
