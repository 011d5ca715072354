"""A stop always wins: whatever comes before, after or beside it, zero is written."""

import os
import signal

import flux
from flux import RESULT, TARGET, Write

SLOW_S = 0.8  # of a device that takes its time for each transaction


class Stop(flux.BatteryTest):
    def held(self, *commands, **rig):
        """A rig at 50 kW with a request under way and these commands in the bridge."""
        self.rig(poll="1h", **rig)
        self.assertEqual(self.mqtt.ask(50, "first")["outcome"], "confirmed")
        self.server.hold(lambda: self.mqtt.command(60, "under-way"))
        for value, id in commands:
            self.mqtt.command(value, id)
        self.fence()

    # ---- it goes first ----

    def test_a_waiting_stop_is_replaced_by_nothing(self):
        """A newer setpoint that is then refused leaves the battery at zero."""
        self.rig()
        self.assertEqual(self.mqtt.ask(50, "first")["outcome"], "confirmed")
        self.server.hold()
        self.mqtt.command(0, "stop")
        self.mqtt.command(70, "newer")
        self.fence()
        self.unit.registers[2026] = 5
        self.server.release()
        self.check(self.mqtt.outcome("newer"), "refused", "soe_low")
        self.check(self.mqtt.outcome("stop"), "confirmed", readback=0)
        self.assertEqual(self.written(), [50, 0])

    def test_what_is_accepted_after_it_is_written_after_it(self):
        self.held((0, "stop"), (70, "newer"))
        self.server.release()
        self.check(self.mqtt.outcome("newer"), "confirmed", readback=70)
        self.check(self.mqtt.outcome("stop"), "confirmed", readback=0)
        self.check(self.mqtt.outcome("under-way"), "superseded")
        self.assertEqual(self.written(), [50, 0, 70])

    def test_it_ends_a_sequence_in_its_middle(self):
        """command_source is written already; the setpoint never is."""
        self.rig(control={"command_source": 3}, poll="1h")
        self.unit.delay_s = SLOW_S
        self.mqtt.command(60, "c-1")
        self.server.wait(lambda: Write(6, 2010, [3]) in self.unit.writes)
        self.mqtt.command(0, "stop")
        self.check(self.mqtt.outcome("stop"), "confirmed", readback=0)
        self.check(self.mqtt.outcome("c-1"), "superseded")
        self.assertEqual(self.written(), [0])

    def test_it_does_not_wait_for_a_read_back(self):
        self.rig(poll="1h")
        self.unit.delay_s = SLOW_S
        self.mqtt.command(60, "c-1")
        self.server.wait(lambda: self.written())
        reads = len(self.unit.reads)
        self.mqtt.command(0, "stop")
        self.server.wait(lambda: 0 in self.written())
        self.assertLessEqual(len(self.unit.reads), reads + 1)
        self.check(self.mqtt.outcome("stop"), "confirmed", readback=0)
        self.assertEqual(self.mqtt.outcome("c-1")["outcome"], "unknown")
        settled = self.mqtt.wait(RESULT, lambda m: m.json["id"] == "c-1"
                                 and m.json.get("correction")).json
        self.check(settled, "superseded")
        self.assertEqual(self.written(), [60, 0])

    def test_a_short_life_is_judged_at_its_arrival_only(self):
        """A second of life, behind a transaction that takes longer."""
        self.rig(poll="1h")
        self.unit.delay_s = 1.5
        reads = len(self.unit.reads)
        self.mqtt.command(100, "c-1")
        self.server.wait(lambda: len(self.unit.reads) > reads)
        self.mqtt.command(0, "stop", fields={"issued_at": flux.utc_ms(), "ttl_s": 1})
        self.check(self.mqtt.outcome("stop"), "confirmed", readback=0)
        self.check(self.mqtt.outcome("c-1"), "superseded")
        self.assertEqual(self.written(), [0])

    def test_many_stops_are_one_write(self):
        ids = ["stop-%d" % i for i in range(5)]
        self.held(*[(0, id) for id in ids])
        self.server.release()
        for id in ids:
            self.check(self.mqtt.outcome(id), "confirmed", readback=0)
        self.assertEqual(self.written(), [50, 0])

    def test_many_stops_and_setpoints_end_as_the_last_says(self):
        """More than can wait: each has its one outcome, and the last is what holds."""
        commands = [(0 if i % 2 else 20 + i, "m-%d" % i) for i in range(60)]
        self.held(*commands)
        self.server.release()
        self.check(self.mqtt.outcome("m-59"), "confirmed", readback=0)
        self.assertEqual(self.written()[-1], 0)
        for value, id in commands:
            self.mqtt.outcome(id)
        answered = [m.json["id"] for m in self.mqtt.on(RESULT) if "correction" not in m.json]
        self.assertEqual(len(answered), len(set(answered)))

    # ---- beside neighbours that do not answer ----

    def beside_silence(self, line=None):
        """The requests to neighbours between a stop's publication and its write."""
        silent = [flux.meter_unit() for _ in range(3)]
        for unit in silent:
            unit.silent = True
        timeout = flux.patient(0.5)
        modbus = {"timeout": timeout, "retry_count": 3, **(line or {})}
        self.rig(modbus=modbus, units={8 + i: unit for i, unit in enumerate(silent)},
                 meters=[lambda server, i=i: flux.meter(
                     server, "Silent-%d" % i, address=8 + i, poll="500ms", modbus=modbus)
                     for i in range(len(silent))])
        self.assertEqual(self.mqtt.ask(50, "first")["outcome"], "confirmed")

        def asked():
            return sum(unit.requests for unit in silent)

        for n in range(3):
            before = asked()
            self.server.wait(lambda: asked() > before)  # one is under way, for 0.5 s
            begun, writes = asked(), len(self.unit.writes)
            self.mqtt.command(0, "stop-%d" % n)
            self.server.wait(lambda: len(self.unit.writes) > writes)
            # The one under way, and at most one that began before the stop arrived.
            self.assertLessEqual(asked() - begun, 1)
            self.check(self.mqtt.outcome("stop-%d" % n), "confirmed", readback=0)
            self.check(self.mqtt.ask(50, "again-%d" % n), "confirmed")

    def test_beside_silent_units_of_a_gateway(self):
        self.beside_silence()

    def test_beside_silent_units_of_a_serial_line(self):
        self.line = self.serial_line()
        self.beside_silence({"serial": self.line.theirs, "baud": 9600, "parity": "none",
                             "data_bits": 8, "stop_bits": 1})

    def modbus(self, units, serial=None):
        line = getattr(self, "line", None)
        return super().modbus(units, line.ours if line else serial)

    # ---- it is kept until it is confirmed ----

    def settled(self, id, since=0):
        return self.mqtt.wait(RESULT, lambda m: m.json["id"] == id and m.json.get("correction"),
                              since=since).json

    def test_it_is_tried_until_it_is_confirmed(self):
        """Whatever went wrong: said at once, tried each second, and put right."""
        self.rig(modbus={"timeout": flux.patient(0.3)})

        def ignored():
            self.unit.ignore_writes = True

        def refused():
            self.unit.write_exceptions[TARGET] = 4

        def silent():
            self.unit.silent = True

        for trouble, kind, reason in ((ignored, "mismatch", None), (silent, "unknown", None),
                                      (refused, "failed", "device_failure")):
            with self.subTest(kind):
                id = "stop-" + kind
                self.check(self.mqtt.ask(50, "go-" + kind), "confirmed")
                trouble()
                self.mqtt.command(0, id)
                self.check(self.mqtt.outcome(id), kind, reason)
                tried = len(self.written())
                self.server.wait(lambda: len(self.written()) >= tried + 2)
                self.assertEqual(set(self.written()[tried - 1:]), {0})
                self.unit.ignore_writes = self.unit.silent = False
                self.unit.write_exceptions.clear()
                self.check(self.settled(id), "confirmed", readback=0)
        corrected = [m.json["id"] for m in self.mqtt.on(RESULT) if m.json.get("correction")]
        self.assertEqual(len(corrected), len(set(corrected)))

    def test_a_device_that_cannot_be_reached_is_told_when_it_can(self):
        self.rig()
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.server.stop()
        self.check(self.mqtt.ask(0, "stop"), "unknown")
        self.assertIn("connect", self.mqtt.outcome("stop")["detail"])
        self.server.start()
        self.check(self.settled("stop"), "confirmed", readback=0)
        self.assertEqual(self.written(), [50, 0])

    def test_it_survives_a_restart(self):
        """Also one that nobody could prepare for."""
        for ended in ("stop", "kill"):
            with self.subTest(ended):
                self.rig()
                self.check(self.mqtt.ask(50, "first"), "confirmed")
                self.unit.write_exceptions[TARGET] = 6
                self.mqtt.command(0, "stop", fields={"source": "dispatch-a"})
                self.check(self.mqtt.outcome("stop"), "failed", "busy")
                self.assertTrue(self.is_kept("stop\tstop\t"))  # before it was told
                getattr(self.flux, ended)()
                self.unit.write_exceptions.clear()
                since = self.mqtt.mark()
                self.start()
                self.check(self.settled("stop", since), "confirmed", readback=0,
                           source="dispatch-a")
                self.assertEqual(self.unit.registers[TARGET], 0)
                # And no more: the next run owes nothing.
                self.flux.stop()
                writes = len(self.unit.writes)
                self.start()
                self.check(self.mqtt.ask(40, "next"), "confirmed")
                self.assertEqual(len(self.unit.writes), writes + 1)
                self.doCleanups()
                self.setUp()

    def test_a_disk_that_comes_late_knows_it_still(self):
        """And which commands were answered: it is mounted after the start."""
        self.rig()
        self.flux.stop()
        disk = os.path.join(self.directory, "disk")
        os.mkdir(disk)
        self.text = self.text.replace(self.audit, os.path.join(disk, "audit.jsonl"))
        self.start()
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.unit.write_exceptions[TARGET] = 6
        self.check(self.mqtt.ask(0, "stop"), "failed", "busy")
        self.flux.kill()
        self.unit.write_exceptions.clear()
        self.unit.registers[TARGET] = 50
        os.rename(disk, disk + "-away")
        since = self.mqtt.mark()
        self.start()
        self.mqtt.wait_count("Site-BESS-01/state", 3, since=since)
        self.assertEqual(self.unit.registers[TARGET], 50)
        os.rename(disk + "-away", disk)
        self.check(self.settled("stop", since), "confirmed", readback=0)
        self.assertEqual(self.unit.registers[TARGET], 0)
        self.flux.wait_log("info: the audit log is written again")
        writes = len(self.unit.writes)
        self.mqtt.command(50, "first")
        again = self.mqtt.wait(RESULT, lambda m: m.json["id"] == "first", since=since).json
        self.assertTrue(again.get("duplicate"), again)
        self.assertEqual(len(self.unit.writes), writes)

    def test_a_newer_setpoint_ends_the_trying(self):
        """One that is refused does not. Neither waits for its turn for ever."""
        self.rig()
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.unit.ignore_writes = True
        self.check(self.mqtt.ask(0, "stop"), "mismatch", readback=50)
        self.unit.registers[2026] = 5
        self.check(self.mqtt.ask(70, "refused"), "refused", "soe_low")
        tried = self.written().count(0)
        self.server.wait(lambda: self.written().count(0) > tried)
        self.unit.registers[2026] = 54

        def take_all_but_zero(request, values, write=self.unit._write):
            self.unit.ignore_writes = values == [0]
            return write(request, values)

        self.unit._write = take_all_but_zero
        # The zero that is owed may come first; but not after what is newer.
        self.check(self.mqtt.ask(70, "newer"), "confirmed", readback=70)
        states = len(self.mqtt.on("Site-BESS-01/state"))
        self.mqtt.wait_count("Site-BESS-01/state", states + 8)  # longer than a second
        self.assertEqual(self.written()[-1], 70)

    # ---- nothing decided before it is written after it ----

    def test_the_deadman_writes_nothing_after_it(self):
        self.clocked(control={"deadman": {"timeout": "2h", "value": 20.0}})
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.server.hold(lambda: self.sleep(2.1))  # the deadman reads the state for its 20 kW
        self.mqtt.command(0, "stop")
        self.fence()
        self.server.release()
        self.check(self.mqtt.outcome("stop"), "confirmed", readback=0)
        self.check(self.mqtt.ask(0, "fence"), "confirmed")
        self.assertEqual(set(self.written()), {50, 0})

    def test_after_it_there_is_no_lease(self):
        self.rig(control={"deadman": {"timeout": "500ms", "value": 20.0}})
        self.check(self.mqtt.ask(0, "stop"), "confirmed")
        self.mqtt.wait_count("Site-BESS-01/state", 10)
        self.flux.stop()
        self.start()
        states = len(self.mqtt.on("Site-BESS-01/state"))
        self.mqtt.wait_count("Site-BESS-01/state", states + 6)
        self.assertEqual(self.written(), [0])

    def test_a_newer_setpoint_ends_the_deadman(self):
        """One that cannot be confirmed does not keep commands waiting."""
        self.rig(control={"deadman": {"timeout": flux.patient(1), "value": 0.0}})

        def take_all_but_zero(request, values, write=self.unit._write):
            self.unit.ignore_writes = values == [0]
            return write(request, values)

        self.unit._write = take_all_but_zero
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.check(self.own("deadman"), "mismatch", readback=50)
        self.check(self.mqtt.ask(70, "newer"), "confirmed", readback=70)

    def test_what_waits_is_known_while_a_device_does_not_answer(self):
        self.rig(modbus={"timeout": "1m"})
        self.server.hold()
        self.mqtt.command(60, "c-1")
        self.mqtt.command(0, "stop")
        self.check(self.mqtt.outcome("c-1"), "superseded")
        self.server.release()
        self.check(self.mqtt.outcome("stop"), "confirmed", readback=0)
        self.assertEqual(self.written(), [0])

    def test_on_exit_writes_zero_after_it(self):
        self.rig(control={"on_exit": "fallback", "deadman": {"timeout": "1h", "value": 20.0}})
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.check(self.mqtt.ask(0, "stop"), "confirmed")
        self.flux.stop()
        self.check(self.own("exit"), "confirmed", value=0)
        self.assertEqual(self.written(), [50, 0, 0])

    # ---- at the end of the bridge ----

    def test_on_exit_of_a_slow_device_ends_at_zero(self):
        """The fallback is forbidden, and each transaction takes its time."""
        self.rig(control={"on_exit": "fallback", "deadman": {"timeout": "1h", "value": 20.0}},
                 poll="1h")
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.unit.registers[2000] = 9  # not ready any more
        self.unit.delay_s = SLOW_S
        self.flux.signal(signal.SIGTERM)
        self.assertEqual(self.flux.wait_end(), 0)
        self.assertEqual(self.written(), [50, 0])
        exits = [m.json for m in self.mqtt.on(RESULT) if m.json.get("source") == "exit"]
        self.check(exits[-1], "confirmed", value=0, readback=0)

    def test_one_that_waits_at_the_end_is_written(self):
        self.held((0, "stop"))
        self.flux.signal(signal.SIGTERM)
        self.flux.wait_log("stopping")
        self.server.release()
        self.assertEqual(self.flux.wait_end(), 0)
        self.check(self.mqtt.outcome("stop"), "confirmed", readback=0)
        self.assertEqual(self.written(), [50, 0])


if __name__ == "__main__":
    flux.main()
