"""/metrics and /healthz, read as any monitoring would."""

import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request

import flux


class Http(flux.Test):
    def rig(self):
        self.server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.port = self.place().port
        self.flux = self.bridge(flux.config(
            self.mosquitto, [flux.battery(self.server)], [flux.meter(self.server)],
            http={"listen": f"127.0.0.1:{self.port}"}))
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.mqtt.wait_text("Grid-Meter/status", "online")

    def get(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read().decode()

    def values(self):
        """Every sample line, as Prometheus would parse it."""
        status, kind, text = self.get("/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(kind.startswith("text/plain; version=0.0.4"))
        values, described = {}, set()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                described.add(line.split()[2])
            if line.startswith("#"):
                continue
            match = re.fullmatch(r'([a-z_]+)((?:\{(?:[a-z]+="[^"]*",?)+\})?) ([0-9.e+-]+)', line)
            self.assertTrue(match, line)
            name, labels, value = match.groups()
            self.assertNotIn((name, labels), values, line)
            self.assertTrue({name, re.sub("_(bucket|sum|count)$", "", name)} & described, line)
            values[name, labels] = float(value)
        return values

    def test_each_is_documented(self):
        """The table of topics.md has every metric that there is, with its labels, and no other."""
        self.rig()
        with open(os.path.join(flux.source_dir(), "topics.md"), encoding="utf-8") as file:
            section = file.read().split("### Metrics\n")[1].split("\n## ")[0]
        described = {}
        for names, labels in re.findall(r"^\| (`[^|]+) \|([^|]*)\|", section, re.M):
            for name in re.findall("`([a-z_]+)`", names):
                described[name] = set(re.findall("`([a-z_]+)`", labels))
        seen = {}
        for name, labels in self.values():
            name = re.sub("^fluxbridge_|_(bucket|sum|count)$", "", name)
            seen.setdefault(name, set()).update(re.findall('([a-z_]+)="', labels))
        text = self.get("/metrics")[2]
        declared = set(re.findall("^# TYPE fluxbridge_([a-z_]+) ", text, re.M))
        self.assertEqual(set(described), declared)
        for name, labels in seen.items():
            self.assertLessEqual(labels, described[name], name)

    def test_metrics_count_what_happens(self):
        self.rig()
        self.assertEqual(self.mqtt.ask(20, "m-1")["outcome"], "confirmed")
        self.assertEqual(self.mqtt.ask(9999, "m-2")["reason"], "out_of_range")
        values = self.values()
        self.assertEqual(values["fluxbridge_mqtt_up", ""], 1)
        self.assertEqual(values["fluxbridge_set_aside_total", ""], 0)
        self.assertEqual(values["fluxbridge_outcomes_total", '{outcome="confirmed"}'], 1)
        self.assertEqual(values["fluxbridge_refusals_total", '{reason="out_of_range"}'], 1)
        for device in ("Site-BESS-01", "Grid-Meter"):
            label = '{device="%s"}' % device
            self.assertGreaterEqual(values["fluxbridge_polls_total", label], 1)
            self.assertGreaterEqual(values["fluxbridge_scan_seconds_count", label], 1)
            self.assertIn(("fluxbridge_last_good_age_seconds", label), values)
            self.assertEqual(values["fluxbridge_scan_seconds_bucket",
                                    '{device="%s",le="+Inf"}' % device],
                             values["fluxbridge_scan_seconds_count", label])

    def test_errors_have_their_words(self):
        self.rig()
        since = self.mqtt.mark()
        self.server.stop()
        self.mqtt.wait_text("Grid-Meter/status", "offline", since=since)
        values = self.values()
        label = '{device="Grid-Meter",error="connection"}'
        self.assertGreaterEqual(values["fluxbridge_point_errors_total", label], 4)
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker")
        self.assertEqual(self.values()["fluxbridge_mqtt_up", ""], 0)

    def test_health_and_the_rest(self):
        self.rig()
        self.assertEqual(self.get("/healthz")[0], 200)
        self.assertTrue(self.get("/healthz")[2].startswith("ok\n"))
        self.assertEqual(self.get("/nothing")[0], 404)
        self.assertEqual(self.get("/metrics", "POST")[0], 405)
        self.flux.stop()

    def test_who_never_answered(self):
        self.server = self.modbus({1: flux.battery_unit()})  # no meter
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.port = self.place().port
        audit = os.path.join(self.directory, "audit", "audit.jsonl")
        self.flux = self.bridge(flux.config(
            self.mosquitto, [flux.battery(self.server)], [flux.meter(self.server)],
            audit={"path": audit}, http={"listen": f"127.0.0.1:{self.port}"}))
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        values = self.values()
        battery, meter = '{device="Site-BESS-01"}', '{device="Grid-Meter"}'
        self.assertEqual(values["fluxbridge_up", battery], 1)
        self.assertEqual(values["fluxbridge_up", meter], 0)
        self.assertEqual(values["fluxbridge_answered", battery], 1)
        self.assertEqual(values["fluxbridge_answered", meter], 0)
        self.assertEqual(values["fluxbridge_audit_up", ""], 0)  # there is no such directory
        age = "fluxbridge_last_good_age_seconds"
        self.assertGreater(values[age, meter], values[age, battery])
        self.assertGreater(self.values()[age, meter], values[age, meter])
        os.mkdir(os.path.dirname(audit))
        self.flux.signal(signal.SIGHUP)
        self.flux.wait_log("the audit log is written again")
        self.assertEqual(self.values()["fluxbridge_audit_up", ""], 1)

    def test_nobody_is_kept_waiting(self):
        """Connections without a whole request are hung up, the oldest first."""
        self.rig()
        halves = (b"", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        holders = []
        for i in range(100):
            holder = socket.create_connection(("127.0.0.1", self.port), flux.DEADLINE_S)
            self.addCleanup(holder.close)
            holder.sendall(halves[i % 3])
            holders.append(holder)
        begun = time.monotonic()
        self.assertEqual(self.get("/healthz")[0], 200)
        self.assertIn(("fluxbridge_mqtt_up", ""), self.values())
        self.assertLess(time.monotonic() - begun, 5 * flux.PATIENCE)  # timeouts take 10 s
        for holder in holders[:-32]:
            self.assertEqual(holder.recv(1), b"")
        holders[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"[len(halves[99 % 3]):])
        self.assertTrue(holders[-1].recv(100).startswith(b"HTTP/1.1 200 "))

    def test_a_taken_port_is_waited_for(self):
        """It is said, and nothing else waits."""
        self.rig()
        second = self.bridge(flux.config(
            self.mosquitto, [], [flux.meter(self.server)], site="other",
            http={"listen": f"127.0.0.1:{self.port}"}))
        second.wait_log('error: http cannot listen, it is tried again listen=127.0.0.1:%d '
                        'why="Address already in use"' % self.port)
        mqtt = self.client(self.mosquitto, base="flux/other")
        mqtt.wait_text("bridge/status", "online")
        mqtt.wait_text("Grid-Meter/status", "online")
        self.flux.stop()
        second.wait_log("http listens listen=127.0.0.1:%d" % self.port)
        self.assertEqual(self.get("/healthz")[0], 200)

    def test_a_port_that_stays_taken(self):
        """Who waits for it ends as quickly as anybody."""
        self.rig()
        second = self.bridge(flux.config(
            self.mosquitto, [], [flux.meter(self.server)], site="other",
            http={"listen": f"127.0.0.1:{self.port}"}))
        second.wait_log("fluxbridge is up")
        second.stop()


if __name__ == "__main__":
    flux.main()
