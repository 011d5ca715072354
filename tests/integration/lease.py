"""Leases and the fallback: nothing but a fresh setpoint makes one longer."""

import flux
from flux import RESULT, TARGET


class Lease(flux.BatteryTest):
    def leased(self):
        self.clocked(control={"deadman": {"timeout": "2h", "value": 0.0}},
                     modbus={"timeout": flux.patient(0.3)})
        self.check(self.mqtt.ask(50, "first"), "confirmed")

    def ended(self, since=0):
        """The lease has."""
        self.check(self.own("deadman", since), "confirmed", value=0, readback=0)

    def test_a_restart_makes_it_no_longer(self):
        for end in ("stop", "kill"):
            with self.subTest(end):
                self.leased()
                self.assertTrue(self.is_kept("lease\t"))  # before the outcome was told
                getattr(self.flux, end)()
                self.sleep(2.1)
                self.start()
                self.ended()
                self.doCleanups()
                self.setUp()

    def test_a_restart_within_it_makes_it_no_longer(self):
        self.leased()
        self.sleep(1.5)
        self.flux.stop()
        self.start()
        self.fence()
        self.assertEqual(self.written(), [50])
        self.sleep(2.1)
        self.ended()

    def test_a_correction_makes_it_no_longer(self):
        self.leased()
        self.sleep(1.5)
        self.unit.dies_on_write = True
        self.check(self.mqtt.ask(60, "c-1"), "unknown")
        self.unit.dies_on_write = self.unit.silent = False
        self.sleep(1.6)
        self.unit.registers[2026] = 5  # what looks at the register is refused itself
        self.check(self.mqtt.ask(70, "c-2"), "refused", "soe_low")
        corrected = self.mqtt.wait(RESULT, lambda m: m.json.get("correction")).json
        self.check(corrected, "confirmed", id="c-1", readback=60)
        self.sleep(2.1)
        self.ended()

    def test_a_repetition_makes_it_no_longer(self):
        self.leased()
        self.sleep(1.5)
        since = self.mqtt.mark()
        self.mqtt.command(50, "first")
        self.assertTrue(self.mqtt.outcome("first", since=since)["duplicate"])
        self.sleep(2.1)
        self.ended()

    def test_a_fresh_setpoint_does(self):
        self.leased()
        self.sleep(1.5)
        self.check(self.mqtt.ask(50, "second"), "confirmed")
        self.sleep(2.1)
        self.check(self.mqtt.ask(50, "third"), "confirmed")
        self.assertEqual(self.written(), [50, 50, 50])

    def test_zero_when_the_rules_of_the_fallback_cannot_be_read(self):
        """SOE answers with exception 2: the fallback may never be allowed again."""
        self.rig(control={"deadman": {"timeout": flux.patient(1), "value": 20.0}})
        self.with_the_write(lambda: self.unit.read_exceptions.update({2026: 2}))
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.server.wait(lambda: 0 in self.written(), what="zero")
        self.assertEqual(self.written(), [50, 0])

    def test_a_newer_setpoint_is_not_written_over(self):
        """What the deadman decided on a slow device is out of date when a command comes."""
        self.clocked(control={"deadman": {"timeout": "2h", "value": 20.0}})
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.server.hold(lambda: self.sleep(2.1))  # the deadman asks for the state
        self.mqtt.command(60, "newer")
        self.fence()
        self.server.release()
        self.check(self.mqtt.outcome("newer"), "confirmed", readback=60)
        self.assertEqual(self.unit.registers[TARGET], 60)
        self.assertEqual(self.written()[-1], 60)

    def test_a_clock_that_is_set_back_limits_no_rate(self):
        self.clocked(control={"min_interval": "1h"})
        self.check(self.mqtt.ask(50, "r-1"), "confirmed")
        flux.write_whole(self.wrong_by, -5 * flux.HOUR_S)
        self.check(self.mqtt.ask(60, "r-2"), "refused", "rate_limited")
        self.sleep(1.1)
        self.check(self.mqtt.ask(60, "r-3"), "confirmed")
        self.assertEqual(self.written(), [50, 60])

    # ---- beside neighbours ----

    def test_a_dead_battery_leaves_its_neighbours_their_time(self):
        """Neither its deadman nor a stop that it does not take."""
        for stop in (False, True):
            with self.subTest(stop=stop):
                self.rig(control={"deadman": {"timeout": "1s", "value": 0.0}},
                         modbus={"timeout": flux.patient(0.5)}, poll="500ms",
                         units={2: flux.meter_unit()},
                         meters=[lambda server: flux.meter(server, poll="500ms",
                                                           modbus={"timeout": flux.patient(0.5)})])
                self.check(self.mqtt.ask(50, "first"), "confirmed")
                self.unit.silent = True
                if stop:
                    self.check(self.mqtt.ask(0, "stop"), "unknown")
                else:
                    self.check(self.own("deadman"), "unknown")
                since = self.mqtt.mark()
                times = [m.json["ts"] for m in self.mqtt.wait_count(
                    "Grid-Meter/state", 21, since=since)
                    if m.json["quality"] == "good"]
                # 20 periods of 500 ms; a sixth of the time is not theirs, or one wait.
                self.assertEqual(len(times), 21)
                self.assertLess(times[20] - times[0], 10000 * 1.25 * max(1, flux.PATIENCE))
                # And it was tried; again only once its rest is over, which is longer there.
                self.assertGreater(self.written().count(0), 1 if flux.PATIENCE == 1 else 0)
                self.doCleanups()
                self.setUp()


if __name__ == "__main__":
    flux.main()
