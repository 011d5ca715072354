"""What is retained of each device's control: its lease, who decides, and the last outcome."""

import time

import flux
from flux import RESULT

CONTROL = "Site-BESS-01/control"


class Control(flux.BatteryTest):
    def control(self, predicate, since=0):
        message = self.mqtt.wait(CONTROL, lambda m: m.payload and predicate(m.json), since=since)
        self.assertEqual((message.retain, message.qos), (1, 1))
        return message.json

    def test_a_lease(self):
        self.rig(control={"deadman": {"timeout": "1h", "value": 0.0}})
        self.assertEqual(self.control(lambda c: True),
                         {"lease": None, "taken_over": False, "last": None})
        before_ms = time.time() * 1000
        outcome = self.mqtt.ask(50, "first")
        control = self.control(lambda c: c["last"] and c["lease"])
        self.assertEqual(control["last"], outcome)
        self.assertEqual(control["lease"]["value"], 50)
        self.assertGreater(control["lease"]["until"], before_ms + 3600 * 1000 - 1000)
        self.assertLess(control["lease"]["until"], time.time() * 1000 + 3600 * 1000 + 1000)
        # The lease was one of the first; one that is refused makes none, and is told.
        since = self.mqtt.mark()
        self.mqtt.ask(999, "high")
        control = self.control(lambda c: c["last"]["id"] == "high", since)
        self.assertEqual(control["last"]["reason"], "out_of_range")
        self.assertEqual(control["lease"]["value"], 50)
        self.mqtt.ask(0, "stop")
        self.control(lambda c: c["lease"] is None and c["last"]["id"] == "stop", since)

    def test_without_a_deadman(self):
        self.rig()
        self.mqtt.ask(50, "first")
        control = self.control(lambda c: c["last"])
        self.assertIsNone(control["lease"])
        self.assertEqual(self.mqtt.on("Grid-Meter/control"), [])

    def test_taken_over(self):
        """On from the deadman's write until a newer command was accepted, over restarts."""
        self.rig(control={"deadman": {"timeout": flux.patient(1), "value": 0.0}})
        self.mqtt.ask(50, "first")
        control = self.control(lambda c: c["taken_over"])
        self.assertEqual((control["last"]["source"], control["last"]["outcome"]),
                         ("deadman", "confirmed"))
        since = self.mqtt.mark()
        self.mqtt.ask(999, "high")
        self.assertTrue(self.control(lambda c: c["last"]["id"] == "high", since)["taken_over"])
        while not self.is_kept('taken-over {"id":"fence-'):
            self.fence()  # a file tells nobody: looked at after one answer and another
        for end in ("stop", "kill"):
            getattr(self.flux, end)()
            since = self.mqtt.mark()
            self.start()
            control = self.control(lambda c: True, since)
            self.assertTrue(control["taken_over"])
            self.assertRegex(control["last"]["id"], "^fence-")
        self.mqtt.ask(0, "mine")
        self.assertFalse(self.control(lambda c: c["last"]["id"] == "mine", since)["taken_over"])

    def test_an_answer_once_more_is_no_news(self):
        self.rig()
        self.mqtt.ask(50, "first")
        self.mqtt.ask(60, "second")
        self.control(lambda c: c["last"] and c["last"]["id"] == "second")
        since = self.mqtt.mark()
        self.mqtt.command(50, "first")
        self.mqtt.wait(RESULT, lambda m: m.json.get("duplicate"), since=since)
        self.mqtt.ask(70, "third")
        self.control(lambda c: c["last"]["id"] == "third", since)
        self.assertEqual([m.json["last"]["id"] for m in self.mqtt.on(CONTROL, since)], ["third"])

    def test_what_somebody_else_has_put_there_is_put_right(self):
        self.rig()
        outcome = self.mqtt.ask(50, "first")
        self.control(lambda c: c["last"])
        since = self.mqtt.mark()
        self.mqtt.publish(CONTROL, '{"lease":null,"taken_over":true,"last":null}', retain=True)
        self.control(lambda c: c["taken_over"], since)
        self.control(lambda c: c["last"] == outcome and not c["taken_over"], since)

    def test_a_lease_that_is_renewed_is_told_once_a_second(self):
        self.rig(control={"deadman": {"timeout": "1h", "value": 0.0}})
        for n in range(20):
            self.mqtt.ask(50 + n, "n-%d" % n)
        self.control(lambda c: c["last"] and c["last"]["id"] == "n-19")
        times = [m.time for m in self.mqtt.on(CONTROL)]
        # The first at once; one may come late and be followed closely by the next.
        self.assertLessEqual(len(times), 3 + (times[-1] - times[0]))


if __name__ == "__main__":
    flux.main()
