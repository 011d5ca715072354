"""The bridge and a battery on npm's jsmodbus: values, setpoints, and what it reads back.

    NODE_PATH=... /usr/bin/python3 -B tests/consumers/modbus/jsmodbus.py BUILD_DIR
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "integration"))

import flux  # noqa: E402
from libmodbus import Server, ServedBattery  # noqa: E402


class Jsmodbus(ServedBattery):
    def assert_serves(self, framing):
        place = self.place()
        server = Server("jsmodbus", "node", os.path.join(HERE, "server.cjs"), framing,
                        str(place.port))
        self.assert_commanded(server, place, {"framing": framing})

    def test_tcp(self):
        self.assert_serves("tcp")

    def test_rtu_over_tcp(self):
        self.assert_serves("rtu")


if __name__ == "__main__":
    flux.main()
