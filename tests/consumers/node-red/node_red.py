"""Node-RED with the flow of etc/node-red-flow.json: its buttons are pressed, its debug sidebar read.

    node_red.py BUILD_DIR MODULES [unittest arguments]      ../run.sh installs and runs it

MODULES is where npm has put node-red.
"""

import json
import os
import sys
import threading
import urllib.request

import websocket  # Debian's python3-websocket

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "integration"))

import flux  # noqa: E402


class NodeRed(flux.Test):
    def rig(self):
        self.battery = flux.battery_unit()
        self.server = self.modbus({1: self.battery, 2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.bridge(flux.config(self.mosquitto, [flux.battery(self.server)],
                                [flux.meter(self.server)]))
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.mqtt.wait_text("Grid-Meter/status", "online")

    def start_node_red(self):
        """With the flow as it is, but for the broker's port."""
        place = self.place()
        with open(os.path.join(flux.source_dir(), "etc", "node-red-flow.json")) as file:
            text = file.read().replace('"1883"', '"%d"' % self.mosquitto.port)
        with open(os.path.join(self.directory, "flows.json"), "w") as file:
            file.write(text)
        settings = os.path.join(self.directory, "settings.js")
        with open(settings, "w") as file:
            file.write('module.exports = {uiHost: "127.0.0.1", flowFile: "flows.json",'
                       ' telemetry: {enabled: false}, externalModules: {autoInstall: false}};')
        self.url = "127.0.0.1:%d" % place.port
        red = flux.Program("Node-RED", ["sh", "-c", 'exec node "$0" "$@" >&2', os.path.join(
            modules, "node_modules", "node-red", "red.js"), "-s", settings, "-u", self.directory,
            "-p", str(place.port)])
        self.addCleanup(red.stop, expect=None)
        red.wait_log("Started flows", 60)
        red.wait_log(r"Connected to broker", 60)
        self.changed, self.shown = threading.Condition(), []
        self.socket = websocket.create_connection("ws://%s/comms" % self.url)
        self.addCleanup(self.socket.close)
        self.socket.send(json.dumps({"subscribe": "debug"}))
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        """What the debug sidebar shows."""
        while True:
            try:
                messages = json.loads(self.socket.recv())
            except (OSError, ValueError, websocket.WebSocketException):
                return
            with self.changed:
                for message in messages if isinstance(messages, list) else [messages]:
                    data = message.get("data")
                    if message.get("topic") == "debug" and data.get("format") == "Object":
                        self.shown.append((data["name"], json.loads(data["msg"])))
                self.changed.notify_all()

    def wait_shown(self, name, predicate):
        return flux.wait_on(
            self.changed,
            lambda: next((p for n, p in self.shown if n == name and predicate(p)), None), 30,
            lambda: "%s; shown is %s" % (name, self.shown[-5:]))

    def press(self, node):
        urllib.request.urlopen(urllib.request.Request(
            "http://%s/inject/%s" % (self.url, node), method="POST")).read()

    def test_flow(self):
        self.rig()
        self.start_node_red()
        self.wait_shown("values", lambda v: v["device"] == "Site-BESS-01" and v["soe"] == 54)
        self.wait_shown("values", lambda v: v["device"] == "Grid-Meter"
                        and v["voltage_l1_n"] == 230.5)
        with self.server.changed:
            self.battery.read_exceptions[2026] = 2
        self.wait_shown("values", lambda v: v["device"] == "Site-BESS-01" and "soe" not in v)
        with self.server.changed:
            self.battery.read_exceptions.clear()
        self.press("flux-25")
        outcome = self.wait_shown("outcome", lambda o: o["value"] == 25)
        self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", 25))
        self.press("flux-stop")
        self.assertEqual(self.wait_shown("outcome", lambda o: o["value"] == 0)["outcome"],
                         "confirmed")
        with self.server.changed:
            values = [w.values[0] for w in self.battery.writes if w.address == 2008]
        self.assertEqual(values, [25, 0])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: %s BUILD_DIR MODULES [unittest arguments]" % sys.argv[0])
    modules = os.path.abspath(sys.argv.pop(2))
    flux.main()
