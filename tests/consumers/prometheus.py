"""Debian's Prometheus before the bridge, with the rules of etc/fluxbridge-alerts.yml.

    prometheus.py BUILD_DIR [unittest arguments]      run.sh installs and runs it
"""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))

import disk  # noqa: E402
import flux  # noqa: E402
import schedule  # noqa: E402

ETC = os.path.join(flux.source_dir(), "etc")


class Prometheus(flux.Test):
    def rig(self):
        self.battery = flux.battery_unit()
        self.dead = flux.Unit({})
        self.dead.silent = True
        self.server = self.modbus({2: flux.meter_unit(), 9: self.dead})
        self.line = self.modbus({1: self.battery})  # its own: a zero is tried each second
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.place_of_bridge, self.place_of_prometheus = self.place(), self.place()
        self.hangs, self.unsynchronised = (os.path.join(self.directory, name)
                                           for name in ("hangs", "unsynchronised"))
        self.flux = self.bridge(flux.config(
            self.mosquitto,
            [flux.battery(self.line, control={"deadman": {"timeout": flux.patient(2),
                                                            "value": 0.0}})],
            [flux.meter(self.server), flux.meter(self.server, "Dead", address=9)],
            http={"listen": "127.0.0.1:%d" % self.place_of_bridge.port},
            audit={"path": os.path.join(self.directory, "audit.jsonl")}),
            {**self.preload(disk.SOURCE + schedule.SYNCHRONISED), "DISK_HANGS": self.hangs,
             "CLOCK_UNSYNCHRONISED": self.unsynchronised})
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.mqtt.wait_text("Grid-Meter/status", "online")

    def text(self):
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics"
                                    % self.place_of_bridge.port) as answer:
            return answer.read().decode()

    def start_prometheus(self):
        """With the files as they are, but for the place and for how often it looks."""
        for name in ("prometheus.yml", "fluxbridge-alerts.yml"):
            with open(os.path.join(ETC, name)) as file:
                text = file.read()
            text = text.replace("127.0.0.1:9464", "127.0.0.1:%d" % self.place_of_bridge.port)
            text = text.replace("_interval: 15s", "_interval: 1s")
            text = re.sub("for: [0-9]+[ms]", "for: 0s", text)
            with open(os.path.join(self.directory, name), "w") as file:
                file.write(text)
        program = flux.Program("prometheus", [
            "prometheus", "--config.file", os.path.join(self.directory, "prometheus.yml"),
            "--storage.tsdb.path", os.path.join(self.directory, "tsdb"),
            "--web.listen-address", "127.0.0.1:%d" % self.place_of_prometheus.port,
            "--log.level", "info"])
        self.addCleanup(program.stop, expect=None)
        program.wait_log("Server is ready to receive web requests")

    def ask(self, path, **query):
        url = "http://127.0.0.1:%d/api/v1/%s?%s" % (self.place_of_prometheus.port, path,
                                                    urllib.parse.urlencode(query))
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)["data"]

    def firing(self):
        return {(a["labels"]["alertname"], a["labels"].get("device", ""))
                for a in self.ask("alerts")["alerts"] if a["state"] == "firing"}

    def wait_firing(self, *wanted):
        """Exactly these. It tells nobody: asked after each scan of a device."""
        end = flux.time.monotonic() + 30 * flux.PATIENCE
        while self.firing() != set(wanted):
            self.assertLess(flux.time.monotonic(), end,
                            "%s are firing and not %s" % (self.firing(), set(wanted)))
            since = self.mqtt.mark()
            self.mqtt.wait("Grid-Meter/state", since=since)

    # ---- tests ----

    def test_metrics(self):
        """promtool finds nothing to complain of, and each metric has a meaning to Prometheus."""
        self.rig()
        self.mqtt.ask(999, "high")
        text = self.text()
        done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                              capture_output=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.start_prometheus()
        end = flux.time.monotonic() + 30 * flux.PATIENCE
        names = set(re.findall("^# TYPE (fluxbridge_[a-z_]+) (?!histogram)", text, re.M))
        with_values = {name for name in names if re.search("^%s[ {]" % name, text, re.M)}
        while not with_values <= set(self.ask("label/__name__/values")):
            self.assertLess(flux.time.monotonic(), end, "never scraped")
            self.mqtt.wait("Grid-Meter/state", since=self.mqtt.mark())

    def test_rules(self):
        for tool, name in (("rules", "fluxbridge-alerts.yml"), ("config", "prometheus.yml")):
            subprocess.run(["promtool", "check", tool, os.path.join(ETC, name)], check=True,
                           stdout=subprocess.DEVNULL)

    def test_alerts(self):
        self.rig()
        self.start_prometheus()
        never = ("FluxbridgeDeviceNeverAnswered", "Dead")
        self.wait_firing(never)
        # The clock.
        open(self.unsynchronised, "w").close()
        self.wait_firing(never, ("FluxbridgeClock", ""))
        os.unlink(self.unsynchronised)
        self.wait_firing(never)
        # A lease runs out while nobody hears the fallback.
        self.assertEqual(self.mqtt.ask(50, "first")["outcome"], "confirmed")
        with self.line.changed:
            self.battery.silent = True
        self.wait_firing(never, ("FluxbridgeDeadmanFiring", ""),
                         ("FluxbridgeDeviceOffline", "Site-BESS-01"))
        with self.line.changed:
            self.battery.silent = False
        self.wait_firing(never)
        # The audit log's disk.
        open(self.hangs, "w").close()
        self.mqtt.command(0, "stop")
        self.wait_firing(never, ("FluxbridgeAuditLost", ""))
        os.unlink(self.hangs)
        self.wait_firing(never)
        # The device that was silent from the beginning answers.
        with self.server.changed:
            self.dead.silent = False
            self.dead.registers.update(flux.meter_unit().registers)
        self.wait_firing()


if __name__ == "__main__":
    for name in ("prometheus", "promtool"):
        if shutil.which(name) is None:
            sys.exit("%s is not installed" % name)
    flux.main()
