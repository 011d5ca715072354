"""The Sparkplug node before hosts, and decoders, that nobody here wrote.

    hosts.py BUILD_DIR npm|protoc|tahu      tests/consumers/run.sh installs them and runs it

npm     a host on npm's mqtt and sparkplug-payload (host.cjs), which npm's sparkplug-client
        proves as a second node; NODE_PATH says where they are
protoc  protoc --decode_raw on every kind of payload
tahu    Eclipse Tahu's decoder on every kind of payload; CLASSPATH says where it is
"""

import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "integration"))
sys.dont_write_bytecode = True

import flux  # noqa: E402
import sparkplug_wire as wire  # noqa: E402
from sparkplug import BESS, METER, NODE, Rig  # noqa: E402


class Node(flux.Program):
    """A program of node's that says JSON on stderr and takes it on stdin."""

    def __init__(self, script, *arguments):
        super().__init__(script, ["node", os.path.join(HERE, script), *map(str, arguments)],
                         stdin=subprocess.PIPE)
        self.stdin = self.process.stdin

    def tell(self, what):
        self.stdin.write((what if isinstance(what, str) else json.dumps(what)) + "\n")
        self.stdin.flush()

    def said(self, since=0):
        with self.changed:
            return [json.loads(line) for line in self.lines[since:] if line.startswith("{")]

    def wait(self, predicate, what, since=0):
        def look():
            return next((m for m in self.said(since) if predicate(m)), None)
        return flux.wait_on(self.changed, look, None,
                            lambda: "%s; said: %s" % (what, self.log()[-4000:]))

    def heard(self, kind, device=None, since=0, predicate=lambda metrics: True):
        """The metrics by name of the first such message; history is left out."""
        def is_meant(said):
            if (said.get("type"), said.get("device")) != (kind, device):
                return False
            return not any(m.get("isHistorical") for m in said["metrics"]) and predicate(
                {m["name"]: m for m in said["metrics"]})
        found = self.wait(is_meant, "%s of %s" % (kind, device), since)
        return {m["name"]: m for m in found["metrics"]}

    def close(self):
        self.stdin.close()
        self.wait_end()


def quality(metric):
    return metric["properties"]["Quality"]["value"]


class Npm(Rig):
    def begin(self, **sparkplug):
        self.rig(**sparkplug)
        self.scada = Node("host.cjs", self.mosquitto.port,
                          *([sparkplug["primary_host"]] if sparkplug else []))
        self.addCleanup(self.scada.close)
        self.scada.wait(lambda said: said.get("ready"), "the host")

    def no_objections(self):
        self.assertEqual([said for said in self.scada.said() if "objection" in said], [])

    def ask_birth(self):
        """The host comes later than the node: it asks."""
        since = self.scada.mark()
        self.scada.tell({"type": "NCMD", "node": "demo", "metrics": [
            {"name": "Node Control/Rebirth", "type": "Boolean", "value": True}]})
        self.scada.heard("NBIRTH", since=since)
        return (self.scada.heard("DBIRTH", "Site-BESS-01", since),
                self.scada.heard("DBIRTH", "Grid-Meter", since))

    def test_a_primary_host_sees_every_register(self):
        self.begin(primary_host="scada")
        node = self.scada.heard("NBIRTH")
        self.assertEqual(node["bdSeq"]["value"], 0)
        bess = self.scada.heard("DBIRTH", "Site-BESS-01")
        meter = self.scada.heard("DBIRTH", "Grid-Meter")
        self.assertEqual({name: bess[name]["value"] for name in (
            "status", "status_code", "soe", "target_power", "command_source",
            "available_blocks")}, {"status": "ready", "status_code": 1, "soe": 54,
                                   "target_power": 0, "command_source": 0,
                                   "available_blocks": 4})
        self.assertEqual((meter["voltage_l1_n"]["value"], meter["active_power_total"]["value"]),
                         (230.5, 1500))
        self.assertEqual((bess["soe"]["properties"]["engUnit"]["value"], quality(bess["soe"])),
                         ("%", 192))
        since = self.scada.mark()
        self.unit.registers[2026] = 12
        self.assertEqual(list(self.scada.heard("DDATA", "Site-BESS-01", since)), ["soe"])
        self.unit.read_exceptions[2026] = 4
        null = self.scada.heard("DDATA", "Site-BESS-01", since,
                                lambda m: "soe" in m and m["soe"]["value"] is None)
        self.assertEqual(quality(null["soe"]), 0)
        self.unit.silent = True
        self.scada.wait(lambda said: said.get("type") == "DDEATH", "DDEATH", since)
        self.no_objections()

    def test_a_command_from_the_host(self):
        self.begin(primary_host="scada")
        self.listening()
        self.scada.heard("DBIRTH", "Site-BESS-01")
        for value, outcome, reason in ((50, "confirmed", None), (999, "refused", "out_of_range")):
            since = self.scada.mark()
            self.scada.tell({"type": "DCMD", "node": "demo", "device": "Site-BESS-01", "metrics": [
                {"name": "target_power", "type": "Double", "value": value}]})
            told = self.scada.heard("DDATA", "Site-BESS-01", since,
                                    lambda m: "Command/target_power/Outcome" in m)
            self.assertEqual([told["Command/target_power/" + part]["value"] for part in (
                "Outcome", "Reason", "Requested")], [outcome, reason, value])
        self.no_objections()

    def test_a_host_that_comes_later_asks_for_the_births(self):
        self.begin()
        self.births()
        bess, meter = self.ask_birth()
        self.assertEqual((bess["soe"]["value"], meter["voltage_l1_n"]["value"]), (54, 230.5))

    def test_what_was_missed_is_history(self):
        self.begin(primary_host="scada")
        self.births()
        self.host.wait_text("bridge/status", "online")
        self.mosquitto.stop()
        self.flux.wait_log("sparkplug: the session is lost")
        self.unit.registers[2026] = 41
        before = len(self.unit.reads)
        self.server.wait(lambda: len(self.unit.reads) > before + 16)
        since = self.scada.mark()
        self.mosquitto.start()
        self.scada.wait(lambda said: any(
            m.get("isHistorical") and m["name"] == "soe" and m["value"] == 41
            for m in said.get("metrics", [])), "history", since)
        self.no_objections()

    def test_the_host_knows_another_node(self):
        """And so is a host, and no mirror of this one."""
        self.begin()
        other = Node("node.cjs", self.mosquitto.port)
        self.addCleanup(other.close)
        birth = self.scada.heard("DBIRTH", "Pump")
        self.assertEqual((birth["level"]["value"], birth["level"]["type"]), (1.5, "Double"))
        since = self.scada.mark()
        other.tell("2.5")
        data = self.scada.heard("DDATA", "Pump", since)
        self.assertEqual(data["level"]["value"], 2.5)


class Kinds(Rig):
    """One payload of every kind, as it went over the wire, in order."""

    def kinds(self):
        self.rig()
        self.listening()
        _, bess, _ = self.births()
        since = self.host.mark()
        self.dcmd({"name": "target_power", "value": 50.0})
        self.answer(bess, "target_power", since)
        self.unit.read_exceptions[2026] = 4
        self.value(bess, "soe", None, since)
        self.unit.silent = True
        self.payload(BESS, "DDEATH", since)
        since = self.host.mark()
        self.host.publish(NODE % "NCMD", wire.command({"name": "Node Control/Rebirth",
                                                       "value": True}), qos=0)
        self.payload(METER, "DDATA", since, history=True)
        self.flux.stop()
        self.payload(NODE, "NDEATH")
        with self.host.changed:
            messages = [m for m in self.host.messages if m.topic.startswith("spBv1.0/flux/")]
        kinds = {m.topic.split("/")[2] for m in messages}
        self.assertEqual(kinds, {"NBIRTH", "NDEATH", "NCMD", "DBIRTH", "DDATA", "DDEATH", "DCMD"})
        return messages


class Protoc(Kinds):
    def decode(self, payload):
        done = subprocess.run(["protoc", "--decode_raw"], input=payload, capture_output=True,
                              timeout=flux.DEADLINE_S, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode()

    def test_every_kind(self):
        for message in self.kinds():
            text, payload = self.decode(message.payload), wire.Payload(message.payload)
            fields = [int(n) for n in re.findall(r"^(\d+)", text, re.M)]
            self.assertLessEqual(set(fields), {1, 2, 3}, text)
            self.assertEqual(fields.count(2), len(payload.metrics), text)
            self.assertEqual(re.findall(r"^3: (\d+)", text, re.M),
                             [] if payload.seq is None else [str(payload.seq)])
            # It shows a text as a message where its bytes could be one.
            names = re.findall(r'^  1: "(.*)"', text, re.M)
            own = [m.name for m in payload.metrics if m.name]
            self.assertLessEqual(set(names), set(own))
            self.assertGreaterEqual(len(names), len(own) // 2)


class Tahu(Kinds):
    def test_every_kind(self):
        messages = self.kinds()
        done = subprocess.run(
            ["java", os.path.join(HERE, "Decode.java")], text=True, capture_output=True,
            input="".join(m.payload.hex() + "\n" for m in messages),
            timeout=10 * flux.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        told = done.stdout.split("\n\n")[:-1]
        self.assertEqual(len(told), len(messages), done.stderr)
        for message, text in zip(messages, told):
            self.compare(wire.Payload(message.payload), text.strip("\n").split("\n"))

    def compare(self, payload, lines):
        self.assertEqual(lines[0], "seq=%s time=%d" % (
            "null" if payload.seq is None else payload.seq, payload.timestamp))
        self.assertEqual(len(lines) - 1, len(payload.metrics))
        for metric, line in zip(payload.metrics, lines[1:]):
            name, alias, kind, value, timestamp, historical, null, properties = line.split("\t")
            self.assertEqual((name, alias, int(timestamp)),
                             (metric.name or "", str(metric.alias or ""), metric.timestamp))
            self.assertEqual(null == "true", metric.is_null, line)
            self.assertEqual(historical == "true", metric.historical, line)
            self.assertEqual(set(properties.split()), {
                "%s=%s" % (k, v) for k, (_, v) in metric.properties.items()})
            self.assertEqual(value, self.java(kind, metric), line)

    @staticmethod
    def java(kind, metric):
        """How Java prints it, as far as our values go."""
        if metric.value is None:
            return "null"
        return str(metric.value).lower() if kind == "Boolean" else str(metric.value)


def main():
    names = {"npm": Npm, "protoc": Protoc, "tahu": Tahu}
    if len(sys.argv) < 3 or sys.argv[2] not in names:
        sys.exit("usage: %s BUILD_DIR npm|protoc|tahu [unittest arguments]" % sys.argv[0])
    chosen = names[sys.argv.pop(2)].__name__
    if len(sys.argv) == 2:
        sys.argv.append(chosen)
    flux.main()


if __name__ == "__main__":
    main()
