"""A site at a desk: its own configuration, and simulated devices in place of the real."""

import json
import os
import signal
import subprocess
import types

import flux

# As sites have them; 192.0.2.0/24 is nobody's (RFC 5737).
BESS = types.SimpleNamespace(host="192.0.2.7", port=502)
GATEWAY = types.SimpleNamespace(host="192.0.2.8", port=502)


class Desk(flux.Test):

    def setUp(self):
        super().setUp()
        self.path = self.site(types.SimpleNamespace(port=1883))  # a broker that nobody asks

    def site(self, broker):
        battery = flux.battery(BESS, modbus={"timeout": "1s"})
        gateway = {"framing": "rtu", "timeout": "1s"}
        meters = [flux.meter(GATEWAY, "Grid-Meter", address=2, modbus=dict(gateway)),
                  flux.meter(GATEWAY, "House", address=3, modbus=dict(gateway)),
                  flux.meter(None, "PV-Meter", "acuvim2-vendor", 1, modbus={
                      "serial": "/dev/ttyUSB7", "baud": 19200}, poll="1s")]
        return self.file("site.cfg", flux.config(
            broker, [battery], meters,
            audit={"path": os.path.join(self.directory, "audit.jsonl")}))

    def rig(self):
        self.mosquitto = self.broker()
        self.path = self.site(self.mosquitto)
        self.mqtt = self.client(self.mosquitto)

    def file(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def simulate(self, *arguments):
        """What the simulator prints until it is ready."""
        simulator = subprocess.Popen(
            [flux.program("fluxbridge-sim"), "-c", self.path, *arguments],
            stdout=subprocess.PIPE, text=True)
        self.addCleanup(simulator.stdout.close)
        self.addCleanup(simulator.wait, flux.DEADLINE_S)
        self.addCleanup(simulator.terminate)
        said = []
        while not said or said[-1] not in ("ready\n", ""):
            said.append(simulator.stdout.readline())
        return "".join(said)

    def run_sim(self, places):
        bridge = flux.Program("fluxbridge", [flux.program("fluxbridge"), "run", "-c", self.path,
                                             "--sim", places])
        self.addCleanup(bridge.stop)
        return bridge

    def test_a_site(self):
        self.rig()
        said = self.simulate("--listen", "127.0.0.1")
        where = dict(line.split(" at ") for line in said.splitlines()[:-1])
        hosts = [text.split(" ")[0] for text in where.values()]
        self.assertEqual(hosts[1], hosts[2])  # one gateway, one link
        self.assertEqual(len(set(hosts)), 3)
        places = self.file("places", said)
        bridge = self.run_sim(places)
        bridge.wait_log("every device is simulated")
        for device in ("Site-BESS-01", "Grid-Meter", "House", "PV-Meter"):
            self.mqtt.wait(device + "/state", lambda m: m.json["quality"] == "good")
        self.assertEqual(self.mqtt.ask(20, "d-1")["outcome"], "confirmed")
        bridge.stop()
        code, out, err = self.run_tool("read", "-c", self.path, "-s", places, "-j", "PV-Meter")
        self.assertEqual((code, err, json.loads(out)["quality"]), (0, "", "good"))
        code, out, err = self.run_tool("write", "-c", self.path, "--sim", places, "Site-BESS-01",
                                       "target_power", "0")
        self.assertEqual((code, json.loads(out)["outcome"]), (0, "confirmed"))

    def test_a_pipe(self):
        """fluxbridge-sim --listen 127.0.0.1 | fluxbridge run --sim -"""
        self.rig()
        simulator = subprocess.Popen(
            [flux.program("fluxbridge-sim"), "-c", self.path, "--listen", "127.0.0.1"],
            stdout=subprocess.PIPE)
        bridge = subprocess.Popen([flux.program("fluxbridge"), "run", "-c", self.path, "--sim",
                                   "-"], stdin=simulator.stdout, stderr=subprocess.DEVNULL)
        simulator.stdout.close()
        try:
            self.mqtt.wait_text("PV-Meter/status", "online")
        finally:
            bridge.send_signal(signal.SIGTERM)
            simulator.terminate()
            self.assertEqual((bridge.wait(flux.DEADLINE_S), simulator.wait(flux.DEADLINE_S)),
                             (0, 0))

    def refused(self, places, *complaints):
        code, out, err = self.run_tool("run", "-c", self.path, "--sim", places)
        self.assertEqual((code, out), (2, ""))
        self.assertEqual(err.splitlines(), ["fluxbridge run: --sim %s: %s" % (places, complaint)
                                            for complaint in complaints])

    def test_no_real_device_among_them(self):
        said = self.simulate("--listen", "127.0.0.1", "--only", "House", "--only", "PV-Meter")
        self.refused(self.file("places", said), "device 'Site-BESS-01' is not simulated",
                     "device 'Grid-Meter' is not simulated")

    def test_what_no_simulator_prints(self):
        nonsense = "this is not what fluxbridge-sim --listen prints when it is ready"
        self.refused(os.path.join(self.directory, "none"), "No such file or directory")
        good = "serving Site-BESS-01 powerpack at 127.0.0.1:1502 unit 1\n"
        for text in ("", good, good.replace("1502", "0") + "ready\n",
                     good.replace("1502", "65536") + "ready\n", good.replace(":", " ") + "ready\n",
                     "unit 1 at\nready\n", "serving unit 1 at 1:1\nready\n"):
            with self.subTest(text=text):
                self.refused(self.file("places", text), nonsense)


if __name__ == "__main__":
    flux.main()
