"""What makes dispatch trustworthy: repeated ids, leases, exits, full disks."""

import os
import resource

import flux
from flux import RESULT, TARGET, Write


class Dispatch(flux.BatteryTest):
    # ---- repeated ids ----

    def test_a_repeated_id_gets_its_first_outcome(self):
        self.rig()
        first = self.mqtt.ask(50, "r-1")
        since = self.mqtt.mark()
        self.mqtt.command(70, "r-1")
        self.assertEqual(self.mqtt.outcome("r-1", since=since), {**first, "duplicate": True})
        self.assertEqual(self.unit.writes, [Write(6, TARGET, [50])])
        self.assertEqual(len(self.lines()), 2)

    def test_a_refused_id_stays_refused(self):
        self.rig()
        first = self.mqtt.ask(999, "r-2")
        since = self.mqtt.mark()
        self.mqtt.command(50, "r-2")
        self.assertEqual(self.mqtt.outcome("r-2", since=since), {**first, "duplicate": True})
        self.assertEqual(self.unit.writes, [])

    def test_ids_are_remembered_across_restarts_and_rotation(self):
        self.rig()
        first = self.mqtt.ask(50, "r-3")
        for rotated in (False, True):
            self.flux.stop()
            if rotated:
                os.rename(self.audit, self.audit + ".1")
            self.start()
            since = self.mqtt.mark()
            self.mqtt.command(70, "r-3")
            self.assertEqual(self.mqtt.outcome("r-3", since=since), {**first, "duplicate": True})
        self.assertEqual(self.unit.writes, [Write(6, TARGET, [50])])

    def test_ids_are_remembered_after_a_kill(self):
        self.rig()
        first = self.mqtt.ask(50, "r-4")
        self.flux.kill()
        self.start()
        since = self.mqtt.mark()
        self.mqtt.command(50, "r-4")
        self.assertEqual(self.mqtt.outcome("r-4", since=since), {**first, "duplicate": True})
        self.assertEqual(self.unit.writes, [Write(6, TARGET, [50])])

    def test_an_id_under_way_is_refused_and_not_written_twice(self):
        self.rig()
        self.server.hold()
        self.mqtt.command(50, "r-5")
        self.mqtt.command(50, "r-5")
        twin = self.mqtt.outcome("r-5")
        self.assertEqual((twin["outcome"], twin["reason"]), ("refused", "duplicate"))
        since = self.mqtt.mark()
        self.server.release()
        self.assertEqual(self.mqtt.outcome("r-5", since=since)["outcome"], "confirmed")
        since = self.mqtt.mark()
        self.mqtt.command(50, "r-5")
        self.assertEqual(self.mqtt.outcome("r-5", since=since)["outcome"], "confirmed")
        self.assertEqual(self.unit.writes, [Write(6, TARGET, [50])])

    # ---- the deadman ----

    def test_silence_ends_the_lease(self):
        self.rig(control={"deadman": {"timeout": flux.patient(1), "value": 5.0}})
        self.mqtt.ask(50, "l-1")
        outcome = self.own("deadman")
        self.assertEqual((outcome["outcome"], outcome["value"], outcome["readback"]),
                         ("confirmed", 5, 5))
        self.assertEqual(self.unit.writes, [Write(6, TARGET, [50]), Write(6, TARGET, [5])])
        self.assertIn("deadman", [line.get("source") for line in self.lines()])

    def test_fresh_setpoints_renew_it_and_refused_ones_do_not(self):
        self.rig(control={"deadman": {"timeout": flux.patient(2), "value": 0.0}})
        self.mqtt.ask(50, "l-2")
        # Refused commands come in all the time: the lease ends all the same.
        since, n = self.mqtt.mark(), 0
        while not any(m.json.get("source") == "deadman" for m in self.mqtt.on(RESULT, since)):
            self.assertEqual(self.mqtt.ask(999, "l-3-%d" % n)["outcome"], "refused")
            n += 1
        self.assertGreater(n, 1)
        self.assertEqual(self.unit.writes[-1], Write(6, TARGET, [0]))

    def test_a_lost_broker_ends_it_too(self):
        self.rig(control={"deadman": {"timeout": "1s", "value": 0.0}})
        self.mqtt.ask(50, "l-4")
        self.mosquitto.stop()
        self.server.wait(lambda: Write(6, TARGET, [0]) in self.unit.writes)
        self.mosquitto.start()
        self.assertEqual(self.own("deadman")["outcome"], "confirmed")  # told when it can be

    def test_an_orphan_of_an_earlier_run_is_found(self):
        self.rig(control={"deadman": {"timeout": "1s", "value": 0.0}}, target=-70)
        outcome = self.own("deadman")
        self.assertEqual((outcome["outcome"], outcome["value"]), ("confirmed", 0))
        self.assertEqual(self.unit.writes, [Write(6, TARGET, [0])])

    def test_a_battery_at_its_fallback_needs_no_lease(self):
        self.rig(control={"deadman": {"timeout": "500ms", "value": 0.0}}, target=0)
        self.mqtt.ask(50, "l-5")
        self.mqtt.ask(0, "l-6")
        since = self.mqtt.mark()  # between the two the lease may have ended
        fence = self.mqtt.ask(0, "l-7")  # three timeouts' worth of polls later
        self.mqtt.wait_count("Site-BESS-01/state", len(self.mqtt.on("Site-BESS-01/state")) + 8)
        self.assertEqual(fence["outcome"], "confirmed")
        self.assertEqual([m for m in self.mqtt.on(RESULT, since)
                          if m.json.get("source") == "deadman"], [])

    def test_a_fallback_that_is_not_allowed_becomes_zero(self):
        self.rig(control={"deadman": {"timeout": flux.patient(1), "value": 20.0}})
        self.with_the_write(lambda: self.unit.registers.update({2000: 9}))  # not ready any more
        self.mqtt.ask(50, "l-8")
        self.server.wait(lambda: Write(6, TARGET, [0]) in self.unit.writes)
        self.assertNotIn(Write(6, TARGET, [20]), self.unit.writes)

    def test_it_tries_until_it_is_confirmed(self):
        self.rig(control={"deadman": {"timeout": flux.patient(1), "value": 0.0}})
        self.with_the_write(lambda: self.unit.write_exceptions.update({TARGET: 6}))
        self.mqtt.ask(50, "l-9")
        failed = self.own("deadman")
        self.assertEqual((failed["outcome"], failed["reason"]), ("failed", "busy"))
        self.mqtt.wait("bridge/health", lambda m: m.json["deadman_firing"] == 1)
        since = self.mqtt.mark()
        self.unit.write_exceptions.clear()
        confirmed = self.mqtt.wait(RESULT, lambda m: m.json.get("source") == "deadman" and
                                   m.json["outcome"] == "confirmed").json
        self.assertNotEqual(confirmed["id"], failed["id"])
        self.mqtt.wait("bridge/health", lambda m: m.json["deadman_firing"] == 0, since=since)

    # ---- the end of the bridge ----

    def test_on_exit_fallback(self):
        self.rig(control={"on_exit": "fallback"})
        self.mqtt.ask(50, "e-1")
        self.flux.stop()
        outcome = self.own("exit")
        self.assertEqual((outcome["outcome"], outcome["value"]), ("confirmed", 0))
        self.assertEqual(self.unit.writes, [Write(6, TARGET, [50]), Write(6, TARGET, [0])])

    def test_on_exit_hold(self):
        self.rig()
        self.mqtt.ask(50, "e-2")
        self.flux.stop()
        self.assertEqual(self.unit.writes, [Write(6, TARGET, [50])])

    # ---- outcomes and the broker ----

    def test_an_outcome_survives_the_loss_of_the_broker(self):
        self.rig()
        self.server.hold()
        self.mqtt.command(50, "b-1")
        self.mqtt.ask(999, "b-2")  # in order: the bridge has the first one too
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker")
        self.server.release()
        self.server.wait(lambda: self.unit.writes)
        since = self.mqtt.mark()
        self.mosquitto.start()
        outcome = self.mqtt.outcome("b-1", since=since)
        self.assertEqual(outcome["outcome"], "confirmed")
        self.assertEqual(self.unit.writes, [Write(6, TARGET, [50])])

    # ---- the audit log's disk ----

    def test_a_full_disk_refuses_all_but_zero(self):
        self.rig()
        self.mqtt.ask(50, "a-1")
        size = os.path.getsize(self.audit)
        pid = self.flux.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        # Not yet known to be full: its line cannot be written, but it is told.
        self.assertEqual(self.mqtt.ask(40, "a-2")["outcome"], "confirmed")
        self.flux.wait_log("audit")
        refused = self.mqtt.ask(30, "a-3")
        self.assertEqual((refused["outcome"], refused["reason"]), ("refused", "audit_unavailable"))
        self.assertEqual(self.mqtt.ask(0, "a-4")["outcome"], "confirmed")
        self.assertEqual([w.values for w in self.unit.writes], [[50], [40], [0]])
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        n = 0
        while self.mqtt.ask(20, "a-5-%d" % n)["outcome"] != "confirmed":
            n += 1
        ids = [line["id"] for line in self.lines()]
        for id in ("a-1", "a-2", "a-3", "a-4", "a-5-%d" % n):
            self.assertEqual(ids.count(id), 1, ids)  # what was held is there too


if __name__ == "__main__":
    flux.main()
