"""Outcomes: each command has its own, the same for ever, and none of them stops the flow."""

import os
import signal

import flux
from flux import RESULT, TARGET, Write


class Outcomes(flux.BatteryTest):
    def again(self, id, value=50):
        """The outcome of a repetition."""
        since = self.mqtt.mark()
        self.mqtt.command(value, id)
        return self.mqtt.outcome(id, since=since)

    def restart(self):
        self.flux.stop()
        self.start()

    def corrected(self, id):
        return self.mqtt.wait(RESULT, lambda m: m.json["id"] == id and m.json.get("correction")).json

    def unknown(self, id, value=50):
        """A command whose reply is lost, and the device back at once, with no poll."""
        self.unit.dies_on_write = True
        outcome = self.mqtt.ask(value, id)
        self.check(outcome, "unknown")
        self.unit.dies_on_write = self.unit.silent = False
        return outcome

    def quick(self, **more):
        self.rig(poll="1h", modbus={"timeout": flux.patient(0.3)}, **more)

    # ---- the same for ever ----

    def test_after_a_restart_an_id_has_its_first_outcome(self):
        """Not the last line of the audit log that names it."""
        self.rig(modbus={"timeout": flux.patient(0.3)})
        first = self.unknown("c-1")
        self.corrected("c-1")
        self.assertEqual(self.again("c-1"), {**first, "duplicate": True})
        self.restart()
        self.assertEqual(self.again("c-1"), {**first, "duplicate": True})
        self.restart()
        self.assertEqual(self.again("c-1"), {**first, "duplicate": True})
        self.assertEqual(self.written(), [50])

    def test_after_a_restart_an_id_that_was_a_duplicate_first_is_known(self):
        self.rig()
        self.server.hold()
        self.mqtt.command(50, "c-1")
        self.mqtt.command(50, "c-1")
        self.check(self.mqtt.outcome("c-1"), "refused", "duplicate")
        since = self.mqtt.mark()
        self.server.release()
        first = self.mqtt.outcome("c-1", since=since)
        self.check(first, "confirmed")
        self.restart()
        self.assertEqual(self.again("c-1"), {**first, "duplicate": True})
        self.assertEqual(self.written(), [50])

    def test_after_a_restart_what_was_malformed_is_nobodys_outcome(self):
        self.rig()
        self.mqtt.publish("Site-BESS-01/set/target_power", '{"id":"c-1","value":"50"}')
        self.check(self.mqtt.outcome("c-1"), "refused", "malformed")
        self.restart()
        self.check(self.again("c-1"), "confirmed", duplicate=None)

    def test_one_id_at_two_devices_is_two_commands(self):
        self.unit, second = flux.battery_unit(), flux.battery_unit()
        self.server = self.modbus({1: self.unit, 2: second})
        broker = self.broker()
        self.mqtt = self.client(broker)
        self.bridge(flux.config(broker, [
            flux.battery(self.server), flux.battery(self.server, "Site-BESS-02", address=2)]))
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.mqtt.wait_text("Site-BESS-02/status", "online")
        self.mqtt.wait_text("bridge/status", "online")
        self.check(self.mqtt.ask(50, "c-1"), "confirmed")
        self.check(self.mqtt.ask(60, "c-1", device="Site-BESS-02"), "confirmed", value=60)
        self.assertEqual(self.written() + [w.values[0] for w in second.writes], [50, 60])

    # ---- corrections ----

    def test_a_correction_comes_before_the_next_command(self):
        """Which does not wait for a poll, either."""
        self.quick()
        self.unknown("c-1")
        self.check(self.mqtt.ask(60, "c-2"), "confirmed", readback=60)
        self.check(self.corrected("c-1"), "confirmed", readback=50)
        ids = [m.json["id"] for m in self.mqtt.on(RESULT)]
        self.assertEqual(ids, ["c-1", "c-1", "c-2"])

    def test_a_correction_when_a_stop_follows(self):
        """A stop looks at nothing first: what was there, nobody will know."""
        self.quick()
        self.unknown("c-1")
        self.check(self.mqtt.ask(0, "stop"), "confirmed")
        self.check(self.corrected("c-1"), "superseded")
        self.assertEqual(self.written(), [50, 0])

    # ---- refused, and failed ----

    def test_refused_says_that_no_register_was_written(self):
        """The state turns when command_source is written."""
        for address, value, reason in ((2026, 5, "soe_low"), (2000, 9, "not_ready"),
                                       (2026, None, "state_unknown")):
            with self.subTest(reason):
                self.rig(poll="1h", control={"command_source": 3})

                def turn(request, values, write=self.unit._write):
                    if value is None:
                        del self.unit.registers[address]
                    else:
                        self.unit.registers[address] = value
                    return write(request, values)

                self.unit._write = turn
                outcome = self.mqtt.ask(50, "c-1")
                self.check(outcome, "failed", reason)
                self.assertTrue(outcome["detail"])
                self.assertEqual(self.unit.writes, [Write(6, 2010, [3])])
                self.doCleanups()
                self.setUp()

    def test_what_is_not_believed_allows_nothing(self):
        """A count of blocks that means "not available" is not 65535 blocks."""
        cases = (({"name": "available_blocks", "sentinels": [65535]}, 2028, 65535),
                 ({"name": "soe", "high": 100}, 2026, 101),
                 ({"name": "soe", "low": 20}, 2026, 19),
                 ({"name": "target_power", "sentinels": [32767]}, TARGET, 32767))
        for point, address, raw in cases:
            with self.subTest(**point):
                self.rig(control={"kw_per_block": 50, "max_step_kw": 250}, points=[point],
                         poll="1h")
                self.check(self.mqtt.ask(50, "c-1"), "confirmed")
                self.unit.registers[address] = raw
                outcome = self.mqtt.ask(60, "c-2")
                self.check(outcome, "refused", "state_unknown")
                self.assertEqual(outcome["detail"],
                                 point["name"] + " could not be read: implausible")
                self.assertEqual(self.written(), [50])
                self.check(self.mqtt.ask(0, "c-3"), "confirmed")
                self.doCleanups()
                self.setUp()

    # ---- one each ----

    def test_every_command_has_one_at_the_end(self):
        """Under way, waiting, and at two points."""
        self.rig(poll="1h", modbus={"timeout": "10s"})
        self.server.hold(lambda: self.mqtt.command(50, "under-way"))
        self.mqtt.command(60, "waits")
        self.mqtt.command(5, "source", point="command_source")
        self.fence()
        self.flux.signal(signal.SIGTERM)
        self.flux.wait_log("stopping")
        self.mqtt.command(70, "late")
        self.mqtt.outcome("late")
        self.server.release()
        self.assertEqual(self.flux.wait_end(), 0)
        self.mqtt.wait_text("bridge/status", "offline")
        outcomes = [m.json for m in self.mqtt.on(RESULT)]
        self.assertEqual(sorted(o["id"] for o in outcomes if o["id"][:5] != "fence"),
                         ["late", "source", "under-way", "waits"])
        for outcome in outcomes:
            if outcome["outcome"] == "refused":
                self.assertIn(outcome["reason"], ("shutting_down", "out_of_range"))
        confirmed = [o["value"] for o in outcomes if o["outcome"] == "confirmed"]
        self.assertEqual(sorted(w.values[0] for w in self.unit.writes), sorted(confirmed))
        # On disk as well, so that a repetition is known.
        self.assertEqual(sorted(line["id"] for line in self.lines()),
                         sorted(o["id"] for o in outcomes))

    # ---- Response Topics ----

    def test_a_response_topic_stops_nothing(self):
        self.rig()
        everything = self.client(self.mosquitto, subscribe=("/#",))
        topics = ["/".join(["a"] * 201), "/".join(["a"] * 33), "flux", "flux/demo/x",
                  "flux/other/Site-BESS-01/set/target_power", "homeassistant",
                  "homeassistant/device/x/config", "spBv1.0", "spBv1.0/group/NCMD/node",
                  "$", "$SYS/x", "$share/group/x", "a" * 513, "#", "a/#", "+", "a/+/b"]
        for n, topic in enumerate(topics):
            with self.subTest(topic[:60]):
                self.mqtt.command(10 + n, "c-%d" % n, response_topic=topic)
                self.check(self.mqtt.outcome("c-%d" % n), "confirmed")
        good = ["/".join(["a"] * 32), "a" * 512, "fluxes/x", "homeassistants", "spBv1.00/x"]
        for n, topic in enumerate(good):
            with self.subTest(topic[:60]):
                self.mqtt.command(50 + n, "g-%d" % n, response_topic=topic)
                answer = everything.wait("/" + topic).json
                self.check(answer, "confirmed", id="g-%d" % n)
        answered = [m.topic for m in everything.messages if b'"outcome"' in m.payload
                    and m.topic != "flux/demo/Site-BESS-01/control"]  # has it, once a second
        self.assertEqual(set(answered) - set(good), {"flux/demo/" + RESULT})
        self.assertNotIn("no session with the broker", self.flux.log())
        self.flux.stop()
        since = self.mqtt.mark()
        self.start()  # nothing is left over that could stop the next run
        self.check(self.mqtt.ask(70, "next"), "confirmed")
        self.assertEqual([m.json["id"] for m in self.mqtt.on(RESULT, since)], ["next"])

    # ---- what the configuration must not say ----

    def test_two_devices_of_one_id_are_refused(self):
        """Leases and stops are remembered by it."""
        place = self.place()
        path = os.path.join(self.directory, "twins.cfg")
        twins = [flux.battery(place), flux.battery(place, "Site-BESS-02", address=2)]
        twins[1]["id"] = twins[0]["id"].upper()
        with open(path, "w") as file:
            file.write(flux.config(place, twins))
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual(code, 2)
        self.assertIn(twins[1]["id"], out + err)


if __name__ == "__main__":
    flux.main()
