"""The bridge and a battery on npm's jsmodbus: values, setpoints, and what it reads back.

    NODE_PATH=... /usr/bin/python3 -B tests/consumers/modbus/jsmodbus.py BUILD_DIR
"""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "integration"))

import flux  # noqa: E402


class Server(flux.Program):
    def __init__(self, framing, place):
        super().__init__("jsmodbus", ["node", os.path.join(HERE, "server.cjs"), framing,
                                      str(place.port)], stdout=subprocess.PIPE)
        if self.said() != "ready":
            raise flux.Timeout("jsmodbus did not start: " + self.log())

    def stop(self, expect=None):
        super().stop(expect)
        self.process.stdout.close()

    def said(self):
        return self.process.stdout.readline().strip()


class Jsmodbus(flux.Test):
    def assert_serves(self, framing):
        place = self.place()
        server = Server(framing, place)
        self.addCleanup(server.stop)
        mosquitto = self.broker()
        mqtt = self.client(mosquitto)
        self.bridge(flux.config(mosquitto, bess=[flux.battery(place, modbus={"framing": framing})]))
        mqtt.wait("Site-BESS-01/state",
                  lambda m: m.json["quality"] == "good" and m.json["data"]["soe"] == 61)
        mqtt.wait_text("bridge/status", "online")
        for i, kw in enumerate((-50, 120, 0)):
            outcome = mqtt.ask(kw, "c%d" % i)
            self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", kw))
            self.assertEqual(server.said(), "2008=%d" % (kw & 0xFFFF))

    def test_tcp(self):
        self.assert_serves("tcp")

    def test_rtu_over_tcp(self):
        self.assert_serves("rtu")


if __name__ == "__main__":
    flux.main()
