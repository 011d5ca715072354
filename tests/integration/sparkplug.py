"""Sparkplug B 3.0: the site as a host sees it.

Each test names the assertions of the specification (eclipse-sparkplug/sparkplug, 3.0.0) that
it holds the bridge to, without the prefix tck-id-. The payloads are taken apart here by the
specification's field numbers, not by the bridge's schema.
"""

import json
import struct

import flux

NODE = "/spBv1.0/flux/%s/demo"
BESS = NODE + "/Site-BESS-01"
METER = NODE + "/Grid-Meter"
INT64, DOUBLE, BOOLEAN, STRING = 4, 10, 11, 12


# ---- protobuf, by hand -----------------------------------------------------------------------


def varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return number, at


def fields(data):
    """(number, value) in order; a length-delimited value as bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif kind == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        yield key >> 3, value


def properties(data):
    keys, values = [], []
    for number, value in fields(data):
        if number == 1:
            keys.append(value.decode())
        else:
            body = dict(fields(value))
            text = body.get(8)
            values.append((body[1], body[3] if text is None else text.decode()))
    assert len(keys) == len(values)
    return dict(zip(keys, values))


class Metric:
    def __init__(self, data):
        body = dict(fields(data))
        self.name = body[1].decode() if 1 in body else None
        self.alias, self.timestamp, self.datatype = body.get(2), body.get(3), body.get(4)
        self.historical, self.is_null = bool(body.get(5)), bool(body.get(7))
        self.properties = properties(body[9]) if 9 in body else {}
        self.value = None
        self.fields = [n for n in body if n >= 10]
        for number in self.fields:
            value = body[number]
            if number == 11 and value >= 1 << 63:
                value -= 1 << 64
            self.value = value.decode() if number == 15 else bool(value) if number == 14 else value


class Payload:
    def __init__(self, data):
        rows = list(fields(data))
        body = dict(rows)
        self.timestamp, self.seq = body.get(1), body.get(3)
        self.metrics = [Metric(value) for number, value in rows if number == 2]

    def __getitem__(self, name):
        return {metric.name: metric for metric in self.metrics}[name]

    def by_alias(self):
        return {metric.alias: metric for metric in self.metrics}


def number(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def block(field, data):
    return number(field << 3 | 2) + number(len(data)) + data


def command(*metrics, timestamp=None):
    """A command's payload; a metric is a dictionary of name or alias, and a value."""
    out = number(1 << 3) + number(flux.utc_ms())
    for metric in metrics:
        body = b""
        if "name" in metric:
            body += block(1, metric["name"].encode())
        if "alias" in metric:
            body += number(2 << 3) + number(metric["alias"])
        body += number(3 << 3) + number(timestamp or flux.utc_ms())
        value = metric["value"]
        if isinstance(value, bool):
            body += number(14 << 3) + number(int(value))
        elif isinstance(value, float):
            body += number(13 << 3 | 1) + struct.pack("<d", value)
        elif isinstance(value, int):
            body += number(11 << 3) + number(value % (1 << 64))
        else:
            body += block(15, value.encode())
        out += block(2, body)
    return out


REBIRTH = command({"name": "Node Control/Rebirth", "value": True})


class Sparkplug(flux.Test):
    def rig(self, **sparkplug):
        self.unit, self.meter = flux.battery_unit(), flux.meter_unit()
        self.server = self.modbus({1: self.unit})
        elsewhere = self.modbus({2: self.meter})
        self.mosquitto = self.broker()
        self.host = self.client(self.mosquitto, subscribe=("/spBv1.0/#", "#"))
        self.text = flux.config(self.mosquitto, [flux.battery(self.server)],
                                [flux.meter(elsewhere)],
                                sparkplug={"enabled": True, **sparkplug},
                                audit={"path": self.directory + "/audit.jsonl"})
        self.flux = self.bridge(self.text)

    def payload(self, topic, kind, since=0, predicate=None, history=False):
        """The first one for which `predicate` holds; history is asked for apart."""
        def is_meant(message):
            payload = Payload(message.payload)
            if any(m.historical for m in payload.metrics) != history:
                return False
            return predicate is None or predicate(payload)
        return Payload(self.host.wait(topic % kind, is_meant, since=since).payload)

    def births(self, since=0):
        return (self.payload(NODE, "NBIRTH", since), self.payload(BESS, "DBIRTH", since),
                self.payload(METER, "DBIRTH", since))

    def said(self, since=0):
        """Everything of the node's own, in order: (topic without the namespace, payload)."""
        with self.host.changed:
            own = [m for m in self.host.messages[since:] if m.topic.startswith("spBv1.0/flux/")
                   and m.topic.split("/")[2] in ("NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH",
                                                 "DDATA")]
        return [(m, Payload(m.payload)) for m in own]

    def test_births(self):
        """topic-structure, topic-structure-namespace-a, principles-birth-certificates-order,
        payloads-dbirth-order, topics-nbirth-mqtt, topics-dbirth-mqtt, topics-nbirth-seq-num,
        payloads-sequence-num-incrementing, topics-nbirth-metrics, topics-dbirth-metrics,
        topics-nbirth-rebirth-metric, operational-behavior-data-commands-rebirth-name-aliases,
        payloads-alias-uniqueness, payloads-name-birth-data-requirement,
        payloads-metric-datatype-req, payloads-propertyset-quality-value-value"""
        self.rig()
        node, bess, meter = self.births()
        self.assertEqual(node.seq, 0)
        self.assertEqual((node["bdSeq"].datatype, node["bdSeq"].value), (INT64, 0))
        self.assertIsNone(node["bdSeq"].alias)
        rebirth = node["Node Control/Rebirth"]
        self.assertEqual((rebirth.datatype, rebirth.value, rebirth.alias), (BOOLEAN, False, None))
        said = self.said()
        kinds = [tuple(m.topic.split("/")[2::2]) for m, _ in said]
        self.assertEqual(kinds[0], ("NBIRTH",))
        for device in ("Site-BESS-01", "Grid-Meter"):
            own = [kind for kind, *of in kinds if of == [device]]
            self.assertEqual(own[0], "DBIRTH")
            self.assertEqual(own.count("DBIRTH"), 1)
        self.assertEqual([p.seq for _, p in said], [i % 256 for i in range(len(said))])
        for message, payload in said:
            self.assertEqual((message.qos, message.retain), (0, False))
            self.assertIsNotNone(payload.timestamp)
            for metric in payload.metrics:
                self.assertIsNotNone(metric.timestamp, metric.name)
        aliases = [m.alias for p in (bess, meter) for m in p.metrics]
        self.assertEqual(len(aliases), len(set(aliases)))
        self.assertNotIn(None, aliases)
        self.assertEqual((bess["status"].datatype, bess["status"].value), (STRING, "ready"))
        self.assertEqual((bess["status_code"].datatype, bess["status_code"].value), (INT64, 1))
        self.assertEqual((bess["soe"].datatype, bess["soe"].value), (DOUBLE, 54.0))
        self.assertEqual((bess["available_blocks"].datatype, bess["available_blocks"].value),
                         (INT64, 4))
        self.assertEqual(bess["soe"].properties, {"Quality": (3, 192), "engUnit": (STRING, "%")})
        self.assertEqual((meter["voltage_l1_n"].datatype, meter["voltage_l1_n"].value),
                         (DOUBLE, 230.5))
        self.assertTrue(bess["Command/target_power/Id"].is_null)
        for payload in (node, bess, meter):
            for metric in payload.metrics:
                self.assertIn(metric.datatype, (INT64, DOUBLE, BOOLEAN, STRING), metric.name)

    def test_data_is_told_by_exception(self):
        """operational-behavior-data-publish-dbirth-change, principles-rbe-recommended,
        payloads-alias-data-cmd-requirement, payloads-metric-datatype-not-req, topics-ddata-mqtt"""
        self.rig()
        _, bess, _ = self.births()
        since = self.host.mark()
        self.unit.registers[2026] = 53
        data = self.payload(BESS, "DDATA", since)
        self.assertEqual([m.alias for m in data.metrics], [bess["soe"].alias])
        metric = data.metrics[0]
        self.assertEqual((metric.value, metric.name, metric.datatype), (53.0, None, None))

    def test_a_value_that_is_not_read_is_null_and_bad(self):
        """topics-dbirth-metrics, payloads-propertyset-quality-value-type"""
        self.rig()
        _, bess, _ = self.births()
        since = self.host.mark()
        self.unit.read_exceptions[2026] = 4
        data = self.payload(BESS, "DDATA", since)
        metric = data.by_alias()[bess["soe"].alias]
        self.assertEqual((metric.is_null, metric.value), (True, None))
        self.assertEqual(metric.properties["Quality"], (3, 0))
        since = self.host.mark()
        self.unit.read_exceptions.clear()
        metric = self.payload(BESS, "DDATA", since).by_alias()[bess["soe"].alias]
        self.assertEqual((metric.value, metric.properties["Quality"]), (54.0, (3, 192)))

    def test_a_device_that_is_lost_dies_and_is_born_again(self):
        """operational-behavior-device-ddeath, topics-ddeath-seq-num, topics-ddeath-mqtt"""
        self.rig()
        _, bess, _ = self.births()
        since = self.host.mark()
        self.unit.silent = True
        dead = self.payload(BESS, "DDEATH", since)
        self.assertIsNotNone(dead.seq)
        self.unit.silent = False
        again = self.payload(BESS, "DBIRTH", since)
        self.assertEqual({m.name: m.alias for m in again.metrics},
                         {m.name: m.alias for m in bess.metrics})

    def test_the_will_is_the_death_of_this_birth(self):
        """message-flow-edge-node-birth-publish-will-message, -topic, -payload, -payload-bdSeq,
        topics-ndeath-payload, topics-ndeath-seq, topics-nbirth-bdseq-matching,
        topics-nbirth-bdseq-increment"""
        self.rig()
        self.births()
        self.host.wait_text("bridge/status", "online")
        for bdseq in (0, 1, 2):
            since = self.host.mark()
            self.flux.kill()
            death = self.payload(NODE, "NDEATH", since)
            self.assertIsNone(death.seq)
            self.assertEqual([(m.name, m.value) for m in death.metrics], [("bdSeq", bdseq)])
            self.flux = self.bridge(self.text)
            self.assertEqual(self.births(since)[0]["bdSeq"].value, bdseq + 1)

    def test_a_clean_end_says_death_first(self):
        """operational-behavior-edge-node-intentional-disconnect-ndeath"""
        self.rig()
        self.births()
        self.flux.stop()
        death = self.payload(NODE, "NDEATH")
        self.assertEqual([(m.name, m.value) for m in death.metrics], [("bdSeq", 0)])

    def test_rebirths_are_the_same_births_and_not_too_many(self):
        """operational-behavior-data-commands-rebirth-action-1, -2, -3, payloads-ncmd-seq"""
        self.rig()
        node, bess, _ = self.births()
        since = self.host.mark()
        for _ in range(30):
            self.host.publish(NODE % "NCMD", REBIRTH, qos=0)
        again = self.births(since)
        self.assertEqual(again[0].seq, 0)
        self.assertEqual(again[0]["bdSeq"].value, node["bdSeq"].value)
        self.assertEqual([(m.name, m.alias, m.datatype) for m in again[1].metrics],
                         [(m.name, m.alias, m.datatype) for m in bess.metrics])
        self.host.publish(NODE % "NCMD", command({"name": "Node Control/Reboot", "value": True}))
        self.flux.wait_log("a node command is refused")
        self.assertEqual(len(self.host.on(NODE % "NBIRTH", since)), 1)
        self.assertEqual(self.host.on(NODE % "NDEATH"), [])

    def test_a_command_and_its_outcome(self):
        """message-flow-device-dcmd-subscribe, topics-dcmd-mqtt, payloads-dcmd-seq"""
        self.rig()
        _, bess, meter = self.births()
        self.host.wait_text("bridge/status", "online")
        since = self.host.mark()
        names = {m.alias: m.name for m in bess.metrics}
        self.host.publish(BESS % "DCMD",
                          command({"alias": bess["target_power"].alias, "value": 50.0}), qos=0)
        outcome = bess["Command/target_power/Outcome"].alias
        told = self.payload(BESS, "DDATA", since, lambda p: outcome in p.by_alias())
        values = {names[m.alias]: m.value for m in told.metrics}
        self.assertEqual(values["Command/target_power/Outcome"], "confirmed")
        self.assertEqual(values["Command/target_power/Requested"], 50.0)
        self.assertEqual(values["Command/target_power/Readback"], 50.0)
        self.assertEqual(values["Command/target_power/Count"], 1)
        self.assertEqual(self.unit.registers[2008], 50)
        json_side = self.host.wait("Site-BESS-01/result", since=since).json
        self.assertEqual((json_side["source"], json_side["value"]), ("sparkplug", 50))
        self.assertEqual(json_side["id"], values["Command/target_power/Id"])
        self.payload(BESS, "DDATA", since,
                     lambda p: getattr(p.by_alias().get(bess["target_power"].alias), "value", None)
                     == 50.0)
        # By name, as an integer, and refused.
        self.host.publish(BESS % "DCMD", command({"name": "target_power", "value": 999}), qos=0)
        refused = self.payload(BESS, "DDATA", since,
                               lambda p: getattr(p.by_alias().get(outcome), "value", None)
                               == "refused")
        reason = {names[m.alias]: m.value for m in refused.metrics}["Command/target_power/Reason"]
        self.assertEqual(reason, "out_of_range")

    def test_a_metric_that_may_not_be_written_is_answered(self):
        self.rig()
        _, bess, _ = self.births()
        self.host.wait_text("bridge/status", "online")
        since = self.host.mark()
        self.host.publish(BESS % "DCMD", command({"name": "soe", "value": 3.0}), qos=0)
        born = self.payload(BESS, "DBIRTH", since)
        alias = born["Command/soe/Reason"].alias
        told = self.payload(BESS, "DDATA", since, lambda p: alias in p.by_alias())
        self.assertEqual(told.by_alias()[alias].value, "not_writable")
        self.assertEqual({m.name: m.alias for m in bess.metrics}.items() -
                         {m.name: m.alias for m in born.metrics}.items(), set())

    def test_what_was_missed_comes_as_history(self):
        """payloads-sequence-num-always-included; nothing but births before births"""
        self.rig()
        births = self.births()
        self.host.wait_text("bridge/status", "online")
        self.mosquitto.stop()
        self.flux.wait_log("sparkplug: the session is lost")
        for soe in (40, 41, 42):
            self.unit.registers[2026] = soe
            before = len(self.unit.reads)
            self.server.wait(lambda b=before: len(self.unit.reads) > b + 16)
        since = self.host.mark()
        self.mosquitto.start()
        node, bess, _ = self.births(since)
        self.assertEqual(node["bdSeq"].value, 1)
        self.assertEqual(bess["soe"].value, 42.0)
        alias = bess["soe"].alias
        self.assertEqual(alias, births[1]["soe"].alias)
        seen = []

        def whole(payload):
            history = [m for m in payload.metrics if m.alias == alias and m.historical]
            seen.extend((m.timestamp, m.value) for m in history)
            return {40.0, 41.0, 42.0} <= {value for _, value in seen}
        self.payload(BESS, "DDATA", since, whole, history=True)
        times = [at for at, _ in sorted(set(seen))]
        self.assertEqual(times, sorted(times))
        for message, payload in self.said(since):
            kinds = {m.historical for m in payload.metrics}
            self.assertLessEqual(len(kinds), 1, message.topic)

    def test_births_wait_for_the_primary_host(self):
        """message-flow-edge-node-birth-publish-phid-wait, -id, -online, -timestamp,
        message-flow-edge-node-birth-publish-phid-offline,
        operational-behavior-edge-node-termination-host-offline, -reconnect, -timestamp"""
        self.rig(primary_host="scada")
        self.host.wait_text("Site-BESS-01/status", "online")

        def state(online, ms):
            self.host.publish("/spBv1.0/STATE/scada",
                              json.dumps({"online": online, "timestamp": ms}), retain=True)
        self.assertEqual(self.said(), [])
        state(True, 1000)
        self.births()
        state(False, 999)  # older than the last word
        since = self.host.mark()
        self.unit.registers[2026] = 33
        self.payload(BESS, "DDATA", since)
        self.assertEqual(self.host.on(NODE % "NDEATH"), [])
        state(False, 2000)
        self.assertEqual(self.payload(NODE, "NDEATH", since)["bdSeq"].value, 0)
        since = self.host.mark()
        state(True, 3000)
        self.assertEqual(self.births(since)[0]["bdSeq"].value, 1)
        self.host.publish("/STATE/scada", "ONLINE")
        self.flux.wait_log("as version 2.2 does")


if __name__ == "__main__":
    flux.main()
