"""A schedule kept on site: accepted once it is on disk, carried out with or without a
broker, and nothing of it outside of its time."""

import json
import os
import sqlite3

import flux
from disk import SOURCE as HANG
from flux import RESULT, TARGET, utc_ms

SET = "Site-BESS-01/schedule/set"
STANDS = "Site-BESS-01/schedule"
HOUR_MS = 3600 * 1000

# A library to be loaded before all others: what the kernel says of the clock.
SYNCHRONISED = r"""
#include <stdlib.h>
#include <sys/timex.h>
#include <unistd.h>

/* UTC is synchronised unless there is a file of that name. */
int adjtimex(struct timex *kernel)
{
    kernel->status = access(getenv("CLOCK_UNSYNCHRONISED"), F_OK) == 0 ? STA_UNSYNC : STA_PLL;
    return 0;
}
"""


def entry(start_s, end_s, value, now=None):
    """Seconds from now."""
    now = utc_ms() if now is None else now
    return {"start": now + int(start_s * 1000), "end": now + int(end_s * 1000), "value": value}


def schedule(revision, *entries, **more):
    return {"id": "day", "revision": revision, "valid_until": utc_ms() + 24 * HOUR_MS,
            "entries": list(entries), **more}


class ScheduleTest(flux.BatteryTest):
    def offer(self, revision, *entries, **more):
        """Publishes one and returns its outcome."""
        since = self.mqtt.mark()
        self.mqtt.publish(SET, schedule(revision, *entries, **more))
        return self.answer(since)

    def answer(self, since):
        return self.mqtt.wait(RESULT, lambda m: m.json["point"] == "schedule", since=since).json

    def accepted(self, revision, *entries, **more):
        outcome = self.offer(revision, *entries, **more)
        self.check(outcome, "accepted", revision=revision, id="day", value=None)
        return outcome

    def entry_outcome(self, kind="confirmed", reason=None, since=0):
        return self.mqtt.wait(
            RESULT, lambda m: m.json.get("source") == "schedule:day" and
            (m.json["outcome"], m.json.get("reason")) == (kind, reason), since=since).json

    def stands(self, state, since=0):
        return self.mqtt.wait(STANDS, lambda m: m.json["state"] == state, since=since).json


class Schedule(ScheduleTest):
    # ---- accepted, and carried out ----

    def test_accepted_and_carried_out(self):
        self.rig()
        now = utc_ms()
        accepted = self.accepted(7, entry(-1, 3600, 50, now), entry(3600, 7200, -30, now),
                                 source="desk")
        self.assertEqual(accepted["source"], "desk")
        outcome = self.entry_outcome()
        self.check(outcome, "confirmed", value=50, readback=50, point="target_power")
        self.assertEqual(self.written(), [50])
        stands = self.stands("running")
        self.assertEqual((stands["revision"], stands["current"]["value"], stands["next"]["value"]),
                         (7, 50, -30))
        self.assertTrue(self.mqtt.on(STANDS)[-1].retain)
        self.assertEqual([(line["point"], line["outcome"]) for line in self.lines()],
                         [("schedule", "accepted"), ("target_power", "confirmed")])
        self.mqtt.wait("bridge/health", lambda m: m.json["schedules"] == {"Site-BESS-01": 7},
                       timeout_s=25)
        # Over: what is left of it goes to zero.
        since = self.mqtt.mark()
        self.accepted(8)
        self.server.wait(lambda: self.written() == [50, 0])
        self.stands("cancelled", since)

    def test_an_entry_begins_and_ends_by_itself(self):
        self.rig()
        now = utc_ms()
        self.accepted(1, entry(1, 3, 50, now), entry(3, 5, -30, now))
        self.server.wait(lambda: self.written() == [50, -30 & 0xFFFF, 0], timeout_s=20)
        times = [m.json["ts"] - now for m in self.mqtt.wait_count(RESULT, 4) if
                 m.json["point"] != "schedule"]
        for at, start_s in zip(times, (1, 3, 5)):
            self.assertGreaterEqual(at, 1000 * start_s)
        self.stands("ended")

    def test_a_thousand_entries_in_60_kib(self):
        self.rig()
        now = utc_ms()
        whole = schedule(1, *[entry(60 * i, 60 * i + 60, 1 + i % 100, now) for i in range(1000)])
        text = json.dumps(whole, separators=(",", ":"))
        self.assertLess(len(text), 61440)
        since = self.mqtt.mark()
        self.mqtt.publish(SET, text + " " * (61440 - len(text)))
        self.check(self.answer(since), "accepted")
        self.entry_outcome()
        self.assertEqual(self.written(), [1])
        since = self.mqtt.mark()
        self.mqtt.publish(SET, text + " " * (61441 - len(text)))
        self.check(self.answer(since), "refused", "too_large", id=None)

    def test_the_example(self):
        """etc/day-ahead.json, of today."""
        self.rig()
        with open(os.path.join(flux.source_dir(), "etc", "day-ahead.json")) as file:
            example = json.load(file)
        ahead = utc_ms() - example["entries"][0]["start"]
        example["valid_until"] += ahead
        for each in example["entries"]:
            each["start"] += ahead
            each["end"] += ahead
        since = self.mqtt.mark()
        self.mqtt.publish(SET, example)
        self.check(self.answer(since), "accepted", id="day-ahead")
        self.server.wait(lambda: self.written() == [-50 & 0xFFFF])

    # ---- refused ----

    def test_every_refusal(self):
        """Each leaves the one before in force, and nothing is written for it."""
        self.rig(control={"max_clock_skew": "2s"}, units={2: flux.meter_unit()},
                 meters=[flux.meter])
        self.accepted(5, entry(3600, 7200, 50))
        hour = entry(3600, 7200, 10)
        cases = [
            ("malformed", schedule(6, hour, note="?")),
            ("malformed", schedule(6, dict(hour, kw=1))),
            ("malformed", schedule(6, dict(hour, end=hour["start"]))),
            ("malformed", schedule(6, entry(7200, 9000, 1), hour)),
            ("malformed", schedule("6")),
            ("malformed", "schedule"),
            ("overlap", schedule(6, hour, entry(7100, 9000, 1))),
            ("too_large", schedule(6, hour, entry(8 * 86400, 8 * 86400 + 1, 1))),
            ("future_dated", schedule(6, hour, issued_at=utc_ms() + HOUR_MS)),
            ("expired", schedule(6, hour, valid_until=utc_ms() - 1)),
            ("expired", schedule(6, hour, valid_until=utc_ms() // 1000)),
            ("out_of_range", schedule(6, hour, entry(7200, 9000, 251))),
            ("off_step", schedule(6, dict(hour, value=10.5))),
            ("stale_revision", schedule(5, hour)),
            ("stale_revision", schedule(4)),
        ]
        for reason, payload in cases:
            with self.subTest(reason, payload=str(payload)[:80]):
                since = self.mqtt.mark()
                self.mqtt.publish(SET, payload)
                outcome = self.answer(since)
                self.check(outcome, "refused", reason)
                self.assertTrue(outcome["detail"])
        for device, reason in (("nobody", "unknown_device"), ("Grid-Meter", "not_writable")):
            self.mqtt.publish(device + "/schedule/set", schedule(6, hour))
            self.check(self.mqtt.wait(device + "/result").json, "refused", reason)
        since = self.mqtt.mark()
        self.mqtt.publish(SET, schedule(6, hour), retain=True)
        self.check(self.answer(since), "refused", "retained")
        self.mqtt.publish(SET, "", retain=True)
        self.assertEqual(self.stands("waiting")["revision"], 5)
        self.assertEqual(self.mqtt.on(STANDS)[-1].json["next"]["value"], 50)
        self.assertEqual(self.unit.writes, [])

    def test_a_response_topic(self):
        self.rig()
        self.reply = self.client(self.mosquitto, subscribe=("/reply/#",))
        properties = flux.Properties(flux.PacketTypes.PUBLISH)
        properties.ResponseTopic = "reply/here"
        self.mqtt.publish(SET, schedule(1, entry(60, 120, 5)), properties=properties)
        self.check(self.reply.wait("/reply/here").json, "accepted", revision=1)

    # ---- live commands ----

    def test_a_live_setpoint_goes_before_it_for_its_lease(self):
        self.rig(control={"deadman": {"timeout": flux.patient(1), "value": -20.0}})
        self.accepted(1, entry(-1, 3600, 50))
        self.entry_outcome()
        since = self.mqtt.mark()
        self.check(self.mqtt.ask(70, "live"), "confirmed")
        self.stands("live", since)
        self.entry_outcome(since=since)
        self.assertEqual(self.written(), [50, 70, 50])
        # The entry is its own lease.
        self.mqtt.wait_count("Site-BESS-01/state", 12, since=self.mqtt.mark())
        self.assertEqual(self.written(), [50, 70, 50])

    def test_a_live_stop_ends_it_across_restarts(self):
        self.rig()
        self.accepted(3, entry(-1, 3600, 50))
        self.entry_outcome()
        since = self.mqtt.mark()
        self.check(self.mqtt.ask(0, "stop"), "confirmed")
        self.stands("stopped", since)
        for end in ("stop", "kill"):
            getattr(self.flux, end)()
            since = self.mqtt.mark()
            self.start()
            self.stands("stopped", since)
            self.fence()
        self.assertEqual(self.written(), [50, 0])
        self.check(self.offer(3, entry(-1, 3600, 60)), "refused", "stale_revision")
        self.accepted(4, entry(-1, 3600, 60))
        self.server.wait(lambda: self.written() == [50, 0, 60])

    def test_refused_by_the_battery_and_told_once(self):
        self.rig()
        self.unit.registers[2026] = 9  # SOE
        self.accepted(1, entry(-1, 3600, 50))
        self.entry_outcome("refused", "soe_low")
        stands = self.mqtt.wait(STANDS, lambda m: m.json["reason"] == "soe_low").json
        self.assertEqual(stands["state"], "pending")
        self.assertEqual(self.written(), [])

    # ---- restarts ----

    def test_killed_right_after_it_is_accepted(self):
        self.rig()
        self.unit.registers[2000] = 9  # not ready: nothing is written in this run
        self.accepted(1, entry(-1, 3600, 50))
        self.flux.kill()
        self.unit.registers[2000] = 1
        self.start()
        self.entry_outcome()
        self.assertEqual(self.written(), [50])
        self.check(self.offer(1), "refused", "stale_revision")

    def test_after_a_restart_the_entry_that_covers_now_and_nothing_that_is_over(self):
        self.rig()
        now = utc_ms()
        self.accepted(1, entry(-1, 3600, 50, now), entry(3600, 7200, -30, now))
        self.entry_outcome()
        for end in ("stop", "kill"):
            getattr(self.flux, end)()
            since = self.mqtt.mark()
            self.start()
            self.entry_outcome(since=since)
        self.assertEqual(self.written(), [50, 50, 50])
        self.flux.stop()
        self.wrong_by = os.path.join(self.directory, "wrong-by")
        flux.write_whole(self.wrong_by, 3 * 3600)
        self.env = {**self.preload(flux.SET_CLOCK), "CLOCK_WRONG_BY": self.wrong_by}
        since = self.mqtt.mark()
        self.start()
        self.stands("ended", since)
        self.server.wait(lambda: self.written() == [50, 50, 50, 0])

    # ---- without a broker, and without a disk ----

    def test_without_a_broker(self):
        self.rig()
        now = utc_ms()
        self.accepted(1, entry(2, 4, 50, now))
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker")
        self.server.wait(lambda: self.written() == [50, 0], timeout_s=20)
        since = self.mqtt.mark()
        self.mosquitto.start()
        self.entry_outcome()  # on a slow machine the broker was there when it began
        self.stands("ended", since)

    def test_a_disk_that_hangs_accepts_nothing(self):
        switch = os.path.join(self.directory, "hangs")
        self.rig(env={**self.preload(HANG), "DISK_HANGS": switch})
        self.accepted(1, entry(3600, 7200, 50))
        open(switch, "w").close()
        outcome = self.offer(2, entry(-1, 3600, 60))
        self.check(outcome, "refused", "not_stored", audited=False)
        self.check(self.mqtt.ask(0, "stop"), "confirmed")
        self.assertEqual(self.written(), [0])
        # Killed as by a watchdog: what was refused is not found in force.
        self.flux.kill()
        os.unlink(switch)
        since = self.mqtt.mark()
        self.start()
        stands = self.mqtt.wait(STANDS, lambda m: m.json["revision"] is not None, since=since).json
        self.assertEqual(stands["revision"], 1)
        self.fence()
        self.assertEqual(self.written(), [0])
        self.accepted(2, entry(-1, 3600, 60))

    def test_a_state_file_that_another_program_has_locked(self):
        """What is in force is not known until it can be read: no other is accepted."""
        self.rig()
        self.accepted(7, entry(3600, 7200, 50))
        self.flux.stop()
        other = sqlite3.connect(os.path.join(self.directory, "state-demo.db"))
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        since = self.mqtt.mark()
        self.start()
        self.flux.wait_log("error: the state file cannot be used, .*: another program uses it: "
                           "end that program")
        for revision in (6, 8):
            self.check(self.offer(revision, entry(-1, 3600, 60)), "refused", "not_stored",
                       detail="what an earlier run has kept cannot be read yet: see the bridge's log")
        self.fence()
        self.assertEqual(self.written(), [])
        other.rollback()
        other.close()
        self.flux.wait_log("info: the state file is used again")
        self.mqtt.wait(STANDS, lambda m: m.json["revision"] == 7, since=since)
        self.check(self.offer(6, entry(-1, 3600, 60)), "refused", "stale_revision")
        self.accepted(8, entry(3600, 7200, 60))

    def test_a_state_file_that_was_changed_by_hand(self):
        self.rig()
        self.accepted(1, entry(-1, 3600, 50))
        self.entry_outcome()
        self.flux.stop()
        path = os.path.join(self.directory, "state-demo.db")
        file = sqlite3.connect(path)
        with file:
            file.execute("UPDATE state SET text = substr(text, 1, 200) WHERE key LIKE 'schedule/%'")
        file.close()
        since = self.mqtt.mark()
        self.start()
        self.flux.wait_log("the schedule of the run before cannot be read")
        self.assertEqual(self.stands("none", since)["revision"], None)
        self.fence()
        self.assertEqual(self.written(), [50])

    # ---- fluxbridge schedule ----

    def shown(self, *arguments):
        code, out, err = self.run_tool("schedule", "-c", self.flux.config, "Site-BESS-01",
                                       *arguments)
        self.assertEqual((code, err), (0, ""))
        return out

    def test_shown_while_the_bridge_runs(self):
        self.rig()
        self.assertEqual(self.shown(), "Site-BESS-01 has no schedule\n")
        now = utc_ms()
        self.accepted(7, entry(-1, 3600, 50, now), entry(3600, 7200, -30, now), source="desk")
        self.entry_outcome()
        self.stands("running")
        text = self.shown()
        for line in (r"^schedule: day, revision 7, by desk, valid until \d{4}-\d\d-\d\d ",
                     r"^state:    running$", r"^in force: 50 kW from .*Z to .*Z$",
                     r"^next:     -30 kW from ", r"^held:     50 kW$", r"^now:      50 kW is held"):
            self.assertRegex(text, "(?m)" + line)
        self.unit.registers[2026] = 9
        self.assertRegex(self.shown(), "(?m)^now:      50 kW would be refused: soe_low: SOE 9 %")
        shown = json.loads(self.shown("--json"))
        self.assertEqual(shown["now"]["reason"], "soe_low")
        told = self.mqtt.on(STANDS)[-1].json
        self.assertEqual({key: shown[key] for key in told}, told)
        self.assertEqual(self.written(), [50])
        self.assertEqual(self.run_tool("schedule", self.flux.config, "Site-BESS-01")[0], 0)
        self.check(self.mqtt.ask(0, "stop"), "confirmed")
        text = self.shown()
        self.assertRegex(text, "(?m)^state:    stopped$")
        self.assertRegex(text, "(?m)^now:      nothing is to be written$")

    def test_shown_when_the_bridge_does_not_run(self):
        self.rig(control={"deadman": {"timeout": "10m", "value": 0.0}})
        self.accepted(1, entry(-1, 3600, 50))
        self.entry_outcome()
        self.check(self.mqtt.ask(70, "live"), "confirmed")
        self.flux.stop()
        text = self.shown()
        self.assertRegex(text, "(?m)^state:    live$")
        self.assertRegex(text, "(?m)^now:      nothing is to be written$")
        code, _, err = self.run_tool("schedule", self.flux.config, "Nobody")
        self.assertEqual(code, 2)
        self.assertIn("there is no device 'Nobody'", err)

    # ---- what is gone ----

    def test_cleared_with_its_device(self):
        self.rig()
        self.accepted(1, entry(-1, 3600, 50))
        self.stands("running")
        self.flux.stop()
        since = self.mqtt.mark()
        self.text = self.text.replace("Site-BESS-01", "Site-BESS-02")
        self.flux = self.bridge(self.text)
        self.mqtt.wait(STANDS, lambda m: m.payload == b"", since=since)

    def test_put_right_when_somebody_changes_it(self):
        self.rig()
        self.accepted(1, entry(-1, 3600, 50))
        self.stands("running")
        since = self.mqtt.mark()
        self.mqtt.publish(STANDS, '{"state":"another"}', retain=True)
        self.stands("running", since)


class Clock(ScheduleTest):
    def clocked(self, **rig):
        self.slept, self.unsynchronised = (
            os.path.join(self.directory, name) for name in ("slept", "unsynchronised"))
        self.rig(env={**self.preload(flux.SET_CLOCK + SYNCHRONISED), "CLOCK_SLEPT": self.slept,
                      "CLOCK_UNSYNCHRONISED": self.unsynchronised}, **rig)

    def clock(self, word, since=0):
        self.mqtt.wait("bridge/health", lambda m: m.json["clock"] == word, since=since,
                       timeout_s=25)

    def test_unsynchronised_for_an_hour(self):
        self.clocked()
        self.accepted(1, entry(-1, 12 * 3600, 50))
        self.entry_outcome()
        self.clock("synchronised")
        open(self.unsynchronised, "w").close()
        self.clock("unsynchronised")
        self.assertEqual(self.written(), [50])
        since = self.mqtt.mark()
        flux.write_whole(self.slept, 3600 + 60)
        self.server.wait(lambda: self.written() == [50, 0])
        self.stands("clock_unsynchronised", since)
        self.flux.wait_log("warning: the kernel has not called the clock synchronised for an hour")
        self.check(self.offer(2, entry(-1, 3600, 60)), "refused", "clock_unsynchronised")
        # A restart within the boot gives it no new hour.
        self.flux.stop()
        since = self.mqtt.mark()
        self.start()
        self.stands("clock_unsynchronised", since)
        self.fence()
        self.assertEqual(set(self.written()[2:]), {0})  # what it may hold ends once more
        since = self.mqtt.mark()
        os.unlink(self.unsynchronised)
        self.entry_outcome(since=since)
        self.assertEqual(self.written()[-1], 50)
        self.flux.wait_log("info: the clock is synchronised")


if __name__ == "__main__":
    flux.main()
