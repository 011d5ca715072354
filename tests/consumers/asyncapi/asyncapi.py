"""etc/asyncapi.yaml: good in npm's @asyncapi/parser, and by ajv what the bridge really publishes.

    asyncapi.py BUILD_DIR [unittest arguments]      ../run.sh installs and runs it

NODE_PATH says where the two are.
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "integration"))

import flux  # noqa: E402
import topics_md  # noqa: E402
from schedule import SYNCHRONISED, entry, schedule  # noqa: E402

DOCUMENT = os.path.join(flux.source_dir(), "etc", "asyncapi.yaml")


def check(messages):
    """What is wrong with the document or with these [(topic, text)], and how many each channel
    has had."""
    lines = "".join(json.dumps({"topic": topic, "text": text}) + "\n" for topic, text in messages)
    done = subprocess.run(["node", os.path.join(HERE, "check.cjs"), DOCUMENT], input=lines,
                          text=True, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    return answer["complaints"], answer["counts"]


class AsyncApi(topics_md.Reality):
    def messages(self):
        """All that is published where topics.md is compared with reality, and what needs more."""
        published = [(m.topic, m.text) for m in self.scenario()]
        broker = self.broker()
        server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        mqtt = self.client(broker)
        unsynchronised = os.path.join(self.directory, "unsynchronised")
        os.mkdir(os.path.join(self.directory, "other"))
        self.bridge(flux.config(broker, [flux.battery(server)], [flux.meter(server)],
                                audit={"path": os.path.join(self.directory, "other", "audit.jsonl")}),
                    {**self.preload(SYNCHRONISED), "CLOCK_UNSYNCHRONISED": unsynchronised})
        mqtt.wait_text("Site-BESS-01/status", "online")
        for revision, entries in ((1, [entry(-5, 3600, 20), entry(7200, 7300, 5)]), (2, [])):
            since = mqtt.mark()
            mqtt.publish("Site-BESS-01/schedule/set",
                         schedule(revision, *entries, source="dispatch-a"))
            mqtt.wait("Site-BESS-01/result", lambda m: m.json["outcome"] == "accepted",
                      since=since)
            mqtt.wait("Site-BESS-01/schedule", lambda m, state=("running", "cancelled")[revision - 1]:
                      m.json["state"] == state, since=since)
        broker.stop()
        n = server.units[2].requests
        server.wait(lambda: server.units[2].requests > n + 8)
        broker.start()
        later = self.client(broker)
        later.wait("Grid-Meter/backfill")
        published += [(m.topic, m.text) for client in (mqtt, later) for m in client.messages]
        return [(topic, text) for topic, text in published if text != "fifty"]  # malformed on purpose

    def test_all(self):
        complaints, counts = check(self.messages())
        self.assertEqual(complaints, [])
        self.assertEqual([channel for channel, n in counts.items() if n == 0], [])

    def test_it_can_fail(self):
        for topic, text in (("flux/demo/Grid-Meter/status", "away"),
                            ("flux/demo/Grid-Meter/control", '{"lease":null,"last":null}'),
                            ("flux/demo/B/result", '{"id":1}'), ("flux/demo/nothing", "{}"),
                            ("flux/demo/B/set/target_power", '{"id":"a","value":1,"ttl_s":5}'),
                            ("flux/demo/B/set/target_power", '{"id":"a","value":1,"more":5}')):
            with self.subTest(topic):
                self.assertEqual(len(check([(topic, text)])[0]), 1)

    test_with_home_assistant = test_with_a_held_battery = None  # of topics.md alone


if __name__ == "__main__":
    flux.main()
