"""Outside eyes: the tools people have at hand see what we say they see.

mbpoll reads and writes the simulator; mosquitto_sub and mosquitto_pub see the
samples and command the battery.
"""

import json
import re
import shutil
import subprocess

import flux


def tool(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=flux.DEADLINE_S, check=False)
    if done.returncode:
        raise AssertionError("%s: %d\n%s%s" % (command, done.returncode, done.stdout, done.stderr))
    return done.stdout


class Outside(flux.Test):
    def setUp(self):
        super().setUp()
        for needed in ("mbpoll", "mosquitto_sub", "mosquitto_pub"):
            self.assertTrue(shutil.which(needed), needed + " is not installed")
        self.mosquitto = self.broker()
        self.simulated = self.place()
        self.text = flux.config(
            self.mosquitto, [flux.battery(self.simulated, modbus={"timeout": "5s"})])
        self.simulator(self.text)
        self.mqtt = self.client(self.mosquitto)

    def mbpoll(self, address, *values):
        """-0: addresses as they stand in the frame; without it mbpoll counts from 1."""
        out = tool("mbpoll", "-0", "-1", "-m", "tcp", "-a", "1", "-t", "4", "-r",
                   str(address), "-p", str(self.simulated.port), self.simulated.host, *values)
        found = re.search(r"^\[%d\]:\s+(\d+)" % address, out, re.M)
        return found and (int(found.group(1)) + 0x8000) % 0x10000 - 0x8000

    def test_all(self):
        self.bridge(self.text)
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        sample = json.loads(tool(
            "mosquitto_sub", "-V", "5", "-h", self.mosquitto.host, "-p", str(self.mosquitto.port),
            "-t", "flux/demo/Site-BESS-01/state", "-C", "1", "-W", "20"))
        self.assertAlmostEqual(sample["data"]["soe"], self.mbpoll(2026), delta=1)
        self.assertEqual(self.mbpoll(2000), 1)  # the first of ready_status

        tool("mosquitto_pub", "-h", self.mosquitto.host, "-p", str(self.mosquitto.port), "-q", "1",
             "-t", "flux/demo/Site-BESS-01/set/target_power", "-m", '{"id":"o1","value":-40}')
        self.assertEqual(self.mqtt.outcome("o1")["outcome"], "confirmed")
        self.assertEqual(self.mbpoll(2008), -40)

        self.mbpoll(2008, "25")  # somebody else writes: the next sample says so
        self.mqtt.wait("Site-BESS-01/state", lambda m: m.json["data"]["target_power"] == 25)


if __name__ == "__main__":
    flux.main()
