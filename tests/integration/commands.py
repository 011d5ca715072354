"""Commands: every outcome and refusal, against a server that counts its writes.

"Refused" is worth nothing if a write went out all the same: every test that
expects a refusal looks at the server's list of writes.
"""

import json
import os
import signal

import flux
from flux import RESULT, Write, utc_ms


def finite(text):
    number = float(text)
    if number - number != 0:
        raise ValueError(text)
    return number


def readable_id(payload):
    """The id of what is JSON, whatever else is wrong with it."""
    try:
        text = payload.decode() if isinstance(payload, bytes) else payload
        id = json.loads(text, parse_float=finite, parse_constant=finite)["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    good = isinstance(id, str) and 1 <= len(id) <= 64 and id.isprintable()
    return id if good else None


class Commands(flux.Test):
    def rig(self, control=None, unit=None, modbus=None, meters=(), **more):
        self.unit = unit or flux.battery_unit()
        self.server = self.modbus({1: self.unit, 2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        bess = [flux.battery(self.server, control=control, modbus=modbus)]
        self.flux = self.bridge(flux.config(
            self.mosquitto, bess, [make(self.server) for make in meters], **more))
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.mqtt.wait_text("bridge/status", "online")

    def refused(self, outcome, reason):
        self.assertEqual((outcome["outcome"], outcome.get("reason")), ("refused", reason), outcome)
        self.assertNotIn("readback", outcome)
        self.assertTrue(outcome.get("detail"), outcome)  # for whoever has to act on it

    def check_unwritten(self):
        self.assertEqual(self.unit.writes, [])

    def check_one_outcome_each(self, since=0):
        """A last command is the fence: what was sent before it has had its answer."""
        fence = self.mqtt.ask(0, "fence-%d" % self.mqtt.mark())
        self.assertEqual(fence["outcome"], "confirmed", fence)
        ids = [m.json["id"] for m in self.mqtt.on(RESULT, since) if m.json["id"]]
        self.assertEqual(len(ids), len(set(ids)), ids)

    # ---- written ----

    def test_each_is_a_line_in_the_log(self):
        """At its usual level, and none is two."""
        self.rig(log={"level": "info"})
        for value, id in ((50, "good"), (1234567, "high"), ("50", "text")):
            self.mqtt.ask(value, id)
        since = self.mqtt.mark()
        self.mqtt.command(60, "good")  # is answered with what came of the first
        self.mqtt.wait(RESULT, lambda m: m.json.get("duplicate"), since=since)
        self.mqtt.ask(0, "stop")
        self.mqtt.publish("Site-BESS-01/schedule/set", "{}")
        self.flux.wait_log("info: schedule device=Site-BESS-01 revision=null outcome=refused "
                           "reason=malformed ")
        self.flux.wait_log('info: command .*id="stop"')
        self.assertEqual([line.partition(" info: command ")[2] for line in self.flux.log().split("\n")
                          if " info: command " in line], [
            "device=Site-BESS-01 point=target_power value=%s outcome=%s id=\"%s\" source=\"\""
            % what for what in (("50", "confirmed", "good"),
                                ("1234567", "refused reason=out_of_range", "high"),
                                ("null", "refused reason=malformed", "text"),  # 0 is a stop
                                ("50", "confirmed duplicate=true", "good"),
                                ("0", "confirmed", "stop"))])

    def test_confirmed(self):
        self.rig()
        outcome = self.mqtt.ask(50.0, "d-7f3a", fields={
            "issued_at": utc_ms(), "ttl_s": 60, "source": "dispatch-a"})
        latency_ms, ts = outcome.pop("latency_ms"), outcome.pop("ts")
        self.assertEqual(outcome, {
            "id": "d-7f3a", "device": "Site-BESS-01", "point": "target_power", "value": 50,
            "outcome": "confirmed", "readback": 50, "source": "dispatch-a"})
        self.assertGreater(latency_ms, 0)
        self.assertLess(abs(ts - utc_ms()), 60000)
        self.assertEqual(self.unit.writes, [Write(6, 2008, [50])])  # FC 06, once
        message = self.mqtt.on(RESULT)[0]
        self.assertFalse(message.retain)
        self.assertEqual(message.qos, 1)
        self.check_one_outcome_each()

    def test_charge_is_a_negative_register(self):
        self.rig()
        self.assertEqual(self.mqtt.ask(-50, "c1")["readback"], -50)
        self.assertEqual(self.unit.writes, [Write(6, 2008, [0x10000 - 50])])

    def test_sign_of_the_register(self):
        self.rig(control={"positive_is": "charge"})
        self.assertEqual(self.mqtt.ask(-50, "c1")["readback"], -50)
        self.assertEqual(self.unit.writes, [Write(6, 2008, [50])])
        self.mqtt.wait("Site-BESS-01/state", lambda m: m.json["data"]["target_power"] == -50)

    def test_state_is_read_for_this_command(self):
        """Reads come first, the write after, the read-back last."""
        self.rig()
        self.server.hold()  # the poll under way; the next transactions are the command's
        n_reads = len(self.unit.reads)
        self.mqtt.command(50, "c1")
        self.unit.registers[2026] = 5  # changed after the last poll read it
        self.server.release()
        self.refused(self.mqtt.outcome("c1"), "soe_low")
        self.check_unwritten()
        self.assertGreater(len(self.unit.reads), n_reads)

    def test_another_writable_point(self):
        self.rig()
        self.assertEqual(self.mqtt.ask(5, "c1", point="command_source")["outcome"], "confirmed")
        self.assertEqual(self.unit.writes, [Write(6, 2010, [5])])

    def test_command_source_goes_before(self):
        self.rig(control={"command_source": 3})
        self.assertEqual(self.mqtt.ask(50, "c1")["outcome"], "confirmed")
        self.assertEqual(self.unit.writes, [Write(6, 2010, [3]), Write(6, 2008, [50])])

    def test_response_topic(self):
        self.rig()
        answers = self.client(self.mosquitto, subscribe=("/answers/#",))
        self.mqtt.command(50, "c1", response_topic="answers/here", correlation=b"\x00\xff42")
        answer = answers.wait("/answers/here")
        self.assertEqual(answer.json, self.mqtt.outcome("c1"))
        self.assertEqual(answer.properties.CorrelationData, b"\x00\xff42")
        self.mqtt.command(999, "c2", response_topic="answers/here", correlation=b"2")
        refusal = answers.wait("/answers/here", lambda m: m.json["id"] == "c2")
        self.refused(refusal.json, "out_of_range")

    def test_bare_number(self):
        self.rig(control={"allow_bare": True})
        self.mqtt.publish("Site-BESS-01/set/target_power", "25")
        outcome = self.mqtt.wait(RESULT).json
        self.assertEqual((outcome["id"], outcome["value"], outcome["outcome"]),
                         (None, 25, "confirmed"))

    def test_bare_number_is_off_by_default(self):
        self.rig()
        self.mqtt.publish("Site-BESS-01/set/target_power", "25")
        self.refused(self.mqtt.wait(RESULT).json, "malformed")
        self.check_unwritten()

    # ---- written, and then ----

    def test_mismatch(self):
        self.rig(unit=flux.battery_unit(target=7))
        self.unit.ignore_writes = True
        outcome = self.mqtt.ask(50, "c1")
        self.assertEqual((outcome["outcome"], outcome["readback"]), ("mismatch", 7))
        self.assertEqual(self.unit.writes, [Write(6, 2008, [50])])

    def test_failed(self):
        self.rig()
        for code, word in ((1, "illegal_function"), (2, "illegal_address"), (3, "illegal_value"),
                           (4, "device_failure"), (6, "busy")):
            with self.subTest(word):
                self.unit.write_exceptions[2008] = code
                self.unit.writes.clear()
                outcome = self.mqtt.ask(50, "c-" + word)
                self.assertEqual((outcome["outcome"], outcome["reason"]), ("failed", word))
                self.assertEqual(self.unit.writes, [Write(6, 2008, [50])])
        self.unit.write_exceptions.clear()
        self.check_one_outcome_each()

    def test_unknown(self):
        self.rig(modbus={"timeout": flux.patient(0.3)})
        self.unit.dies_on_write = True
        outcome = self.mqtt.ask(50, "c1")
        self.assertEqual(outcome["outcome"], "unknown", outcome)
        self.assertNotIn("readback", outcome)
        self.assertTrue(outcome.get("detail"), outcome)  # for whoever has to act on it
        self.assertEqual(self.unit.writes, [Write(6, 2008, [50])])  # and never again
        # The device comes back: a later poll settles it.
        since = self.mqtt.mark()
        self.unit.dies_on_write = self.unit.silent = False
        settled = self.mqtt.outcome("c1", since=since)
        self.assertEqual((settled["outcome"], settled["correction"], settled["readback"]),
                         ("confirmed", True, 50))
        self.assertEqual(self.unit.writes, [Write(6, 2008, [50])])

    def test_lost_reply_is_settled_by_reading_back(self):
        self.rig(modbus={"timeout": flux.patient(0.3)})

        def lose_the_reply(request, values, answer=self.unit._write):
            answer(request, values)
            return None

        self.unit._write = lose_the_reply
        outcome = self.mqtt.ask(50, "c1")
        self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", 50))
        self.assertEqual(self.unit.writes, [Write(6, 2008, [50])])

    def test_superseded(self):
        self.rig()
        self.server.hold()
        self.mqtt.command(10, "old")
        self.mqtt.command(20, "new")
        old = self.mqtt.outcome("old")
        self.assertEqual(old["outcome"], "superseded", old)
        self.assertNotIn("readback", old)
        self.server.release()
        self.assertEqual(self.mqtt.outcome("new")["outcome"], "confirmed")
        self.assertEqual(self.unit.writes, [Write(6, 2008, [20])])
        self.check_one_outcome_each()

    # ---- refused, in the order of the checks ----

    def test_retained(self):
        self.rig()
        self.mqtt.command(50, "r1", retain=True)
        self.refused(self.mqtt.outcome("r1"), "retained")
        self.check_unwritten()

    def test_nothing_from_before_the_start(self):
        mosquitto = self.broker()
        client = self.client(mosquitto)
        client.command(50, "old-retained", retain=True)
        client.command(50, "old")
        unit = flux.battery_unit()
        server = self.modbus({1: unit})
        self.bridge(flux.config(mosquitto, [flux.battery(server)]))
        client.wait_text("bridge/status", "online")
        self.assertEqual(client.ask(20, "live")["outcome"], "confirmed")
        self.assertEqual(unit.writes, [Write(6, 2008, [20])])
        self.assertEqual([m.json["id"] for m in client.on(RESULT)], ["live"])

    def test_nothing_from_while_away(self):
        """A command published while the bridge is not connected is not kept for it."""
        self.rig()
        self.flux.stop()
        self.mqtt.command(50, "away")
        since = self.mqtt.mark()
        self.flux = self.bridge(self.flux.text)
        self.mqtt.wait_text("bridge/status", "online", since=since)
        self.assertEqual(self.mqtt.ask(20, "live")["outcome"], "confirmed")
        self.assertEqual(self.unit.writes, [Write(6, 2008, [20])])
        self.assertEqual([m.json["id"] for m in self.mqtt.on(RESULT)], ["live"])

    def test_too_large(self):
        self.rig()
        payload = {"id": "big", "value": 50, "source": "x" * 64}
        text = json.dumps(payload)
        exact = text[:-1] + " " * (4096 - len(text)) + "}"
        self.mqtt.publish("Site-BESS-01/set/target_power", exact)
        self.assertEqual(self.mqtt.outcome("big")["outcome"], "confirmed")
        self.unit.writes.clear()
        since = self.mqtt.mark()
        self.mqtt.publish("Site-BESS-01/set/target_power", exact.replace("big", "biG") + " ")
        outcome = self.mqtt.wait(RESULT, since=since).json
        self.refused(outcome, "too_large")
        self.assertIsNone(outcome["value"])
        self.check_unwritten()

    def test_malformed(self):
        good = {"id": "g", "value": 50}
        garbage = [
            "", " ", "null", "true", "50", '"50"', "[]", "[50]", "{}", "{", "}", "nan",
            '{"id":"g"}', '{"value":50}', '{"id":"","value":50}', '{"id":7,"value":50}',
            '{"id":null,"value":50}', '{"id":"g","value":"50"}', '{"id":"g","value":null}',
            '{"id":"g","value":true}', '{"id":"g","value":[50]}', '{"id":"g","value":NaN}',
            '{"id":"g","value":Infinity}', '{"id":"g","value":1e999}', '{"id":"g","value":0x32}',
            '{"id":"g","value":50,"value":60}', '{"id":"g","value":50}x', '{"id":"g","value":50,}',
            '{"id":"g","value":50}{"id":"h","value":50}', "{'id':'g','value':50}",
            '{"ID":"g","value":50}', '{"id":"g","value":50,"unit":"kW"}',
            '{"id":"%s","value":50}' % ("i" * 65), '{"id":"a\\u0000b","value":50}',
            '{"id":"a\\nb","value":50}', '{"id":"g","value":50,"ttl_s":5}',
            '{"id":"g","value":50,"issued_at":%d}' % utc_ms(),
            json.dumps({**good, "issued_at": utc_ms(), "ttl_s": 0}),
            json.dumps({**good, "issued_at": utc_ms(), "ttl_s": -1}),
            json.dumps({**good, "issued_at": utc_ms(), "ttl_s": "5"}),
            json.dumps({**good, "issued_at": str(utc_ms()), "ttl_s": 5}),
            json.dumps({**good, "issued_at": -1, "ttl_s": 5}),
            json.dumps({**good, "source": ""}), json.dumps({**good, "source": 7}),
            json.dumps({**good, "source": "s" * 65}), json.dumps({**good, "source": "a\tb"}),
            b"\x00", b"\xff\xfe", b'{"id":"\xff","value":50}', b'{"id":"\xc0\xaf","value":50}',
            b'{"id":"g","value":50}\x00', b"\x00" * 4096, b"[" * 4096, b'{"a":' * 800,
        ]
        self.rig()
        for payload in garbage:
            self.mqtt.publish("Site-BESS-01/set/target_power", payload)
        outcomes = [m.json for m in self.mqtt.wait_count(RESULT, len(garbage))]
        for payload, outcome in zip(garbage, outcomes):
            with self.subTest(payload[:60]):
                self.refused(outcome, "malformed")
                self.assertEqual(outcome["id"], readable_id(payload))
                self.assertIsNone(outcome["value"])
                self.assertTrue(outcome["detail"])
        self.check_unwritten()
        self.check_one_outcome_each(since=self.mqtt.mark())
        self.assertEqual(len(self.mqtt.on(RESULT)), len(garbage) + 1)

    def test_a_malformed_command_may_be_corrected(self):
        """It is no id's outcome."""
        self.rig()
        self.mqtt.publish("Site-BESS-01/set/target_power", '{"id":"m1","value":50,"unit":"kW"}')
        self.refused(self.mqtt.outcome("m1"), "malformed")
        since = self.mqtt.mark()
        self.mqtt.command(50, "m1")
        outcome = self.mqtt.outcome("m1", since=since)
        self.assertEqual(outcome["outcome"], "confirmed", outcome)
        self.assertEqual(self.unit.writes, [Write(6, 2008, [50])])

    def test_unknown_device_and_point(self):
        self.rig()
        self.refused(self.mqtt.ask(50, "u1", device="Nobody"), "unknown_device")
        self.refused(self.mqtt.ask(50, "u2", point="nonsense"), "unknown_point")
        self.refused(self.mqtt.ask(50, "u3", point="target_power/x"), "unknown_point")
        # Names are case-sensitive, as topics are.
        self.refused(self.mqtt.ask(50, "u4", device="site-bess-01"), "unknown_device")
        self.check_unwritten()

    def test_not_writable(self):
        self.rig(meters=[flux.meter])
        self.refused(self.mqtt.ask(50, "n1", point="soe"), "not_writable")
        self.refused(self.mqtt.ask(50, "n2", device="Grid-Meter", point="current_l1"),
                     "not_writable")
        self.check_unwritten()

    def test_read_only_battery(self):
        self.rig(control=False)
        self.refused(self.mqtt.ask(50, "n1"), "not_writable")
        self.check_unwritten()

    def test_future_dated(self):
        self.rig()
        fields = {"issued_at": utc_ms() + 60000, "ttl_s": 100}
        self.refused(self.mqtt.ask(50, "f1", fields=fields), "future_dated")
        self.check_unwritten()
        fields = {"issued_at": utc_ms() + 1000, "ttl_s": 100}  # within max_clock_skew
        self.assertEqual(self.mqtt.ask(50, "f2", fields=fields)["outcome"], "confirmed")

    def test_expired(self):
        self.rig()
        fields = {"issued_at": utc_ms() - 60000, "ttl_s": 59}
        self.refused(self.mqtt.ask(50, "e1", fields=fields), "expired")
        self.check_unwritten()
        fields = {"issued_at": utc_ms() - 60000, "ttl_s": 600}
        self.assertEqual(self.mqtt.ask(50, "e2", fields=fields)["outcome"], "confirmed")

    def test_seconds_are_told_as_such(self):
        self.rig()
        fields = {"issued_at": utc_ms() // 1000, "ttl_s": 60}
        outcome = self.mqtt.ask(50, "s1", fields=fields)
        self.refused(outcome, "expired")
        self.assertEqual(outcome["detail"], "issued_at %d looks like seconds: "
                                            "milliseconds are wanted" % fields["issued_at"])
        self.check_unwritten()

    def test_expired_just_before_the_write(self):
        self.rig()
        self.unit.delay_s = 0.4  # each answer; the state takes at least one of them
        self.refused(self.mqtt.ask(50, "e1", fields={"issued_at": utc_ms(), "ttl_s": 0.3}),
                     "expired")
        self.check_unwritten()

    def test_ttl_of_the_configuration(self):
        self.rig(control={"ttl": "300ms"})
        self.unit.delay_s = 0.4
        self.refused(self.mqtt.ask(50, "e1"), "expired")
        self.check_unwritten()

    def test_shutting_down(self):
        self.rig(control={"on_exit": "fallback"})
        self.server.hold()  # the fallback is written last of all: keeps the bridge from ending
        self.flux.signal(signal.SIGTERM)
        self.flux.wait_log("stopping")
        for i in range(3):  # the first may come before it has begun to stop: zero harms nobody
            self.mqtt.command(0 if i == 0 else 50, "s%d" % i)
        self.refused(self.mqtt.outcome("s2"), "shutting_down")
        self.server.release()
        self.mqtt.wait_text("bridge/status", "offline")
        self.assertEqual(self.flux.wait_end(), 0)
        exits = [m.json for m in self.mqtt.on(RESULT) if m.json.get("source") == "exit"]
        self.assertEqual([(e["value"], e["outcome"]) for e in exits], [(0, "confirmed")])
        self.assertEqual([w for w in self.unit.writes if w.values != [0]], [])

    def test_audit_unavailable(self):
        path = os.path.join(self.directory, "not-there", "audit.jsonl")
        self.rig(audit={"path": path})
        self.refused(self.mqtt.ask(50, "a1"), "audit_unavailable")
        self.check_unwritten()
        self.assertEqual(self.mqtt.ask(0, "a2")["outcome"], "confirmed")  # can always be stopped

    def test_full_disk(self):
        self.rig(audit={"path": "/dev/full"})
        self.refused(self.mqtt.ask(50, "a1"), "audit_unavailable")
        self.check_unwritten()
        self.assertEqual(self.mqtt.ask(0, "a2")["outcome"], "confirmed")

    def test_rate_limited(self):
        self.rig(control={"min_interval": "1h"})
        self.assertEqual(self.mqtt.ask(50, "r1")["outcome"], "confirmed")
        self.refused(self.mqtt.ask(60, "r2"), "rate_limited")
        self.assertEqual(self.mqtt.ask(0, "r3")["outcome"], "confirmed")
        self.assertEqual([w.values for w in self.unit.writes], [[50], [0]])

    def test_out_of_range(self):
        self.rig(control={"min_kw": -100, "max_kw": 200})
        for value in (201, -101, 1e9, -1e9, 1e300):
            self.refused(self.mqtt.ask(value, "o%g" % value), "out_of_range")
        self.check_unwritten()  # refused, never clamped
        for value in (200, -100):
            self.assertEqual(self.mqtt.ask(value, "i%d" % value)["outcome"], "confirmed")

    def test_off_step(self):
        self.rig()
        self.refused(self.mqtt.ask(50.5, "o1"), "off_step")
        self.check_unwritten()
        self.assertEqual(self.mqtt.ask(50.0, "o2")["outcome"], "confirmed")

    def test_device_offline(self):
        self.rig()
        self.server.stop()
        self.refused(self.mqtt.ask(50, "d1"), "device_offline")
        self.server.start()
        self.assertEqual(self.mqtt.ask(50, "d2")["outcome"], "confirmed")
        self.assertEqual(self.unit.writes, [Write(6, 2008, [50])])

    def test_state_that_cannot_be_read(self):
        self.rig()
        self.unit.read_exceptions[2026] = 4
        refusal = self.mqtt.ask(50, "d1")
        self.refused(refusal, "state_unknown")
        self.assertEqual(refusal["detail"], "soe could not be read: device_failure")
        self.check_unwritten()
        self.assertEqual(self.mqtt.ask(0, "d2")["outcome"], "confirmed")

    def test_not_ready(self):
        self.rig(control={"ready_status": [1, 3]}, unit=flux.battery_unit(status=2))
        self.refused(self.mqtt.ask(50, "n1"), "not_ready")
        self.check_unwritten()
        self.assertEqual(self.mqtt.ask(0, "n2")["outcome"], "confirmed")
        self.unit.registers[2000] = 3
        self.assertEqual(self.mqtt.ask(50, "n3")["outcome"], "confirmed")

    def test_soe(self):
        """At soe_min and below no discharge, at soe_max and above no charge."""
        self.rig()
        cases = [(9, 50, "soe_low"), (10, 50, "soe_low"), (11, 50, None), (10, -50, None),
                 (90, -50, "soe_high"), (91, -50, "soe_high"), (89, -50, None), (90, 50, None),
                 (0, 0, None), (100, 0, None)]
        for soe, value, reason in cases:
            with self.subTest(soe=soe, value=value):
                self.unit.registers[2026] = soe
                self.unit.writes.clear()
                outcome = self.mqtt.ask(value, "s%d/%d" % (soe, value))
                if reason:
                    self.refused(outcome, reason)
                    self.assertIn("SOE", outcome["detail"])
                    self.check_unwritten()
                else:
                    self.assertEqual(outcome["outcome"], "confirmed", outcome)

    def test_blocks(self):
        self.rig(control={"kw_per_block": 50}, unit=flux.battery_unit(blocks=2))
        self.refused(self.mqtt.ask(101, "b1"), "blocks")
        self.check_unwritten()
        self.assertEqual(self.mqtt.ask(-100, "b2")["outcome"], "confirmed")

    def test_step_too_large(self):
        self.rig(control={"max_step_kw": 30}, unit=flux.battery_unit(target=20))
        self.refused(self.mqtt.ask(51, "s1"), "step_too_large")
        self.check_unwritten()
        self.assertEqual(self.mqtt.ask(50, "s2")["outcome"], "confirmed")
        self.assertEqual(self.mqtt.ask(0, "s3")["outcome"], "confirmed")

    def test_order_of_the_checks(self):
        """One command that breaks many rules is refused for the first of them."""
        self.rig(unit=flux.battery_unit(status=9, soe=5), control={"min_interval": "1h"})
        late = {"issued_at": utc_ms() - 60000, "ttl_s": 1}
        self.refused(self.mqtt.ask(999.5, "o1", device="Nobody", fields=late), "unknown_device")
        self.refused(self.mqtt.ask(999.5, "o2", point="nonsense", fields=late), "unknown_point")
        self.refused(self.mqtt.ask(999.5, "o3", point="soe", fields=late), "not_writable")
        self.refused(self.mqtt.ask(999.5, "o4", fields=late), "expired")
        self.refused(self.mqtt.ask(999.5, "o5"), "out_of_range")
        self.refused(self.mqtt.ask(99.5, "o6"), "off_step")
        self.refused(self.mqtt.ask(99, "o7"), "not_ready")
        self.check_unwritten()

    # ---- many ----

    def test_a_flood_has_one_outcome_each(self):
        self.rig()
        ids = ["f%d" % i for i in range(200)]
        for i, id in enumerate(ids):
            self.mqtt.command(1 + i % 100, id)
        answered = {}
        for message in self.mqtt.wait_count(RESULT, len(ids)):
            self.assertNotIn(message.json["id"], answered)
            answered[message.json["id"]] = message.json
        self.assertEqual(set(answered), set(ids))
        self.assertEqual({o["outcome"] for o in answered.values()} - {"superseded"},
                         {"confirmed"})
        confirmed = [o for o in answered.values() if o["outcome"] == "confirmed"]
        self.assertEqual(len(self.unit.writes), len(confirmed))
        self.assertEqual(answered[ids[-1]]["outcome"], "confirmed")  # the newest wins

    def test_audit_has_every_outcome(self):
        path = os.path.join(self.directory, "audit.jsonl")
        self.rig(audit={"path": path})
        self.mqtt.ask(50, "w1", fields={"source": "dispatch-a"})
        self.mqtt.ask(999, "w2")
        self.mqtt.publish("Site-BESS-01/set/target_power", "garbage")
        self.mqtt.wait_count(RESULT, 3)
        with open(path) as file:  # on disk before they were published
            lines = [json.loads(line) for line in file]
        published = [m.json for m in self.mqtt.on(RESULT)]
        self.assertEqual(len(lines), 3)
        for line, outcome in zip(lines, published):
            self.assertEqual({key: line[key] for key in outcome}, outcome)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o640)


if __name__ == "__main__":
    flux.main()
