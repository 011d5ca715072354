"""topics.md against reality.

Every example there has the shape of a message that the running bridge
publishes on that topic, and every member of such a message stands in an
example. The tables list exactly the topics and words that there are.
"""

import json
import os
import re
import time

import flux

PAGE = os.path.join(flux.source_dir(), "topics.md")
EXAMPLE = re.compile(r"^```(json|text) (example\S*) (\S+)\n(.*?)^```$", re.M | re.S)
RESULT = "Site-BESS-01/result"
NAMED = {"refused_by_reason", "errors", "schedules",  # their members are called as the case is
         "last"}  # is an outcome, as that has its own examples


def read(*path):
    with open(os.path.join(flux.source_dir(), *path), encoding="utf-8") as file:
        return file.read()


def examples(kind, mark="example"):
    """(topic, text) of every example with this mark."""
    return [(topic, text.strip()) for k, m, topic, text in EXAMPLE.findall(read("topics.md"))
            if (k, m) == (kind, mark)]


def shape(value):
    """Names and types, and no values."""
    if isinstance(value, dict):
        return {key: "any names" if key in NAMED else shape(inner)
                for key, inner in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(inner), sort_keys=True) for inner in value})
    if isinstance(value, bool):
        return "boolean"
    return {int: "number", float: "number", str: "text", type(None): "null"}[type(value)]


def members(value, path=""):
    """The dotted paths of all members."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield path + key
            if key not in NAMED:
                yield from members(inner, path + key + ".")
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner, path + "[].")


def table(heading):
    """The first column's `words` of the table after a heading."""
    section = read("topics.md").split("# %s\n" % heading)[1].split("\n#")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.M)


def words(source, prefix):
    """The words of a C table, in its order."""
    return re.findall(r'\[%s_\w+\] = "(\w+)"' % prefix, read(*source.split("/")))


class Words(flux.Test):
    def test_reasons(self):
        self.assertEqual(table("Reasons"),
                         [w for w in words("bridge/model/reason.c", "REASON") if w != "none"])

    def test_outcomes(self):
        self.assertEqual(table("Outcomes"), words("bridge/model/reason.c", "OUTCOME"))

    def test_errors(self):
        self.assertEqual(table("Errors of values"),
                         [w for w in words("devices/lines/fault.c", "FAULT") if w != "ok"])

    def test_asyncapi(self):
        """The same words, in the same order, are those of etc/asyncapi.yaml."""
        enums = [re.findall(r"\w+", text)
                 for text in re.findall(r"enum: \[([^\]]*)\]", read("etc", "asyncapi.yaml"))]
        for heading in ("Reasons", "Outcomes", "Errors of values"):
            self.assertIn(table(heading), enums)

    def test_health(self):
        """Every counter of the example is explained."""
        (text,) = [text for topic, text in examples("json") if topic.endswith("/health")]
        explained = set(re.findall(r"`(\w+)`", read("topics.md").split("| member | counts |")[1]
                                   .split("\n\n")[0]))
        self.assertEqual(explained, set(json.loads(text)) - {"ts", "uptime_s"})


class Reality(flux.Test):
    def scenario(self):
        """Makes the bridge publish everything that the page has an example of."""
        unit, meter = flux.battery_unit(), flux.meter_unit()
        server = self.modbus({1: unit, 2: meter})
        broker = self.broker()
        mqtt = self.client(broker)
        modbus = {"timeout": flux.patient(0.3)}
        bridge = self.bridge(flux.config(
            broker, [flux.battery(server, modbus=modbus, control={
                "on_exit": "fallback", "deadman": {"timeout": "1h", "value": 0.0}})],
            [flux.meter(server, modbus=modbus)],
            audit={"path": os.path.join(self.directory, "audit.jsonl")}))
        mqtt.wait_text("bridge/status", "online")
        mqtt.wait("Site-BESS-01/state")
        mqtt.wait("Grid-Meter/state")

        self.follow_schedule(mqtt)
        (command,) = [json.loads(t) for topic, t in examples("json") if "/set/" in topic]
        command["issued_at"] = int(time.time() * 1000)
        mqtt.publish("Site-BESS-01/set/target_power", command)
        self.assertEqual(mqtt.outcome(command["id"])["outcome"], "confirmed")
        mqtt.wait("Site-BESS-01/control", lambda m: m.json["last"] and m.json["lease"])
        mqtt.publish("Site-BESS-01/set/target_power", command)
        mqtt.wait(RESULT, lambda m: m.json.get("duplicate"))
        mqtt.publish("Site-BESS-01/set/target_power", "fifty")
        mqtt.wait(RESULT, lambda m: m.json["id"] is None)
        unit.registers[2026] = 5
        self.assertEqual(mqtt.ask(20, "low")["reason"], "soe_low")
        unit.registers[2026] = 54
        unit.read_exceptions[2026] = 2
        mqtt.wait("Site-BESS-01/state",
                  lambda m: m.json.get("errors") == {"soe": "illegal_address"})
        unit.read_exceptions.clear()

        unit.dies_on_write = True
        outcome = mqtt.ask(60, "lost", fields={"source": "dispatch-a"})
        self.assertEqual(outcome["outcome"], "unknown")
        mqtt.wait("Site-BESS-01/status", lambda m: m.text == "offline")
        unit.dies_on_write = unit.silent = False
        mqtt.wait(RESULT, lambda m: m.json.get("correction"))
        meter.silent = True
        mqtt.wait("Grid-Meter/state", lambda m: m.json["quality"] == "bad")
        mqtt.wait("bridge/health", lambda m: m.json["commands"]["received"] > 0, timeout_s=25)
        bridge.stop()
        mqtt.wait(RESULT, lambda m: m.json.get("source") == "exit")
        mqtt.wait_text("bridge/status", "offline")
        return mqtt.messages

    def follow_schedule(self, mqtt):
        """One whose first entry covers now; a live setpoint goes before it then."""
        ((_, text),) = [e for e in examples("json") if e[0].endswith("/schedule/set")]
        schedule, now = json.loads(text), int(time.time() * 1000)
        ahead = now - schedule["entries"][0]["start"]
        for name in ("issued_at", "valid_until"):
            schedule[name] += ahead
        for entry in schedule["entries"]:
            entry["start"] += ahead
            entry["end"] += ahead
        mqtt.publish("Site-BESS-01/schedule/set", schedule)
        mqtt.wait("Site-BESS-01/schedule", lambda m: m.json["state"] == "running")

    def test_all(self):
        messages = self.scenario()
        published = {}
        for message in messages:
            published.setdefault(message.topic, []).append(message)

        for topic, text in examples("text"):
            self.assertIn(text, [m.text for m in published[topic]], topic)

        documented = {}
        for topic, text in examples("json"):
            if "/set" in topic:
                continue
            example = json.loads(text)
            documented.setdefault(topic.split("/")[-1], set()).update(members(example))
            with self.subTest(topic, example=text[:60]):
                self.assertIn(shape(example), [shape(m.json) for m in published[topic]])

        for topic, of_topic in published.items():
            leaf = topic.split("/")[-1]
            if leaf in documented:
                seen = set().union(*(members(m.json) for m in of_topic))
                self.assertLessEqual(seen, documented[leaf], "not in any example of " + topic)

        self.check_table(published)

    def test_with_home_assistant(self):
        server = self.modbus({1: flux.battery_unit()})
        broker = self.broker()
        mqtt = self.client(broker)
        announced = self.client(broker, subscribe=("/homeassistant/#",))
        self.bridge(flux.config(broker, [flux.battery(server)], home_assistant={"enabled": True},
                                spool={"path": os.path.join(self.directory, "spool.db")}))
        ((topic, text),) = examples("json", "example-with-home-assistant")
        wanted = shape(json.loads(text))
        mqtt.wait("/" + topic, lambda m: shape(m.json) == wanted)
        for node in ("bridge", "id-Site-BESS-01"):
            message = announced.wait("/homeassistant/device/fluxbridge-demo-%s/config" % node)
            self.assertEqual((message.retain, message.qos), (1, 1))

    def check_table(self, published):
        """The table of topics: all of them, with the right retain flag and QoS."""
        section = read("topics.md").split("| topic | payload |")[1].split("\n\n")[0]
        rows = {topic: (retained, qos) for topic, retained, qos in re.findall(
            r"^\| `<base>/([^`]+)` \|.*\| (.+?) \| (.+?) \|$", section, re.M)}
        for topic, of_topic in published.items():
            topic = re.sub(r"^flux/demo/(Site-BESS-01|Grid-Meter)/", "<device>/", topic)
            topic = re.sub(r"^flux/demo/", "", topic).replace("/set/target_power", "/set/<point>")
            with self.subTest(topic):
                retained, qos = rows[topic]
                wanted = {"yes": {1}, "with MQTT 5": {1}, "no": {0}, "must not be": {0}}[retained]
                self.assertEqual({int(m.retain) for m in of_topic}, wanted)
                self.assertEqual({m.qos for m in of_topic}, {1 if qos == "`mqtt.qos`" else int(qos)})
        unseen = set(rows) - {"<device>/backfill"}  # for that the broker must go away: mqtt_faults
        for topic in published:
            topic = re.sub(r"^flux/demo/(Site-BESS-01|Grid-Meter)/", "<device>/", topic)
            unseen -= {re.sub(r"^flux/demo/", "", topic).replace("target_power", "<point>")}
        self.assertEqual(unseen, set())


if __name__ == "__main__":
    flux.main()
