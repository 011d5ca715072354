"""The recipes of etc/historian.md, run as they are written: nothing is lost while the broker is
away, and nothing is there twice.

    historians.py BUILD_DIR NAME [unittest arguments]      ../run.sh installs and runs it

NAME is postgresql or telegraf. TELEGRAF names that program.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "integration"))

import flux  # noqa: E402

ETC = os.path.join(flux.source_dir(), "etc")


def recipes(kind, name):
    with open(os.path.join(ETC, "historian.md"), encoding="utf-8") as file:
        return re.findall(r"^```%s %s\n(.*?)^```$" % (kind, name), file.read(), re.M | re.S)


class Way:
    """From the bridge to the broker, which can be cut while others stay in session."""

    def __init__(self, broker):
        self.broker, self.open, self.pairs = broker, True, []
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                near, _ = self.door.accept()
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            far = socket.create_connection((self.broker.host, self.broker.port))
            self.pairs += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(a, b), daemon=True).start()

    def carry(self, a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for end in (a, b):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        self.open = False
        for end in self.pairs:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def mend(self):
        self.open = True

    def close(self):
        self.cut()
        self.door.close()
        for end in self.pairs:
            end.close()


class Site(flux.Test):
    """A bridge with a spool before a broker that goes away."""

    def rig(self, settings=""):
        self.server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        kept = os.path.join(self.directory, "mosquitto")  # so that sessions outlive it
        os.mkdir(kept)
        os.chmod(self.directory, 0o755)
        if os.geteuid() == 0:
            shutil.chown(kept, "mosquitto")
        self.mosquitto = self.broker(
            "persistence true\npersistence_location %s/\n%s" % (kept, settings))
        self.mqtt = self.client(self.mosquitto)

    def start_bridge(self, broker=None):
        self.flux = self.bridge(flux.config(
            broker or self.mosquitto, [flux.battery(self.server, poll="1s")],
            [flux.meter(self.server, poll="1s")],  # whose states the broker keeps for 3 s
            spool={"path": os.path.join(self.directory, "spool.db")}))
        self.mqtt.wait_text("Site-BESS-01/status", "online")

    def outage(self):
        """The broker is away for some scans; returns when what was taken meanwhile has come."""
        meter = self.server.units[2]
        self.mosquitto.stop()
        n = meter.requests
        self.server.wait(lambda: meter.requests >= n + 16)
        self.mosquitto.start()
        self.watch = self.client(self.mosquitto)
        self.watch.wait("Grid-Meter/backfill")
        self.watch.wait("bridge/health", lambda m: m.json["spool_depth"] == 0
                        and m.json["reconnects"] == 1)

    def last_seq(self, device):
        message = self.watch.wait(device + "/state", since=self.watch.mark())
        return message.json["run"], message.json["seq"]

    def until(self, look, what):
        """A database tells nobody: asked after each sample."""
        end = time.monotonic() + 30 * flux.PATIENCE
        while not look():
            self.assertLess(time.monotonic(), end, what() if callable(what) else what)
            self.watch.wait("Grid-Meter/state", since=self.watch.mark())


class PostgreSQL(Site):
    def start_postgresql(self):
        """Not as root, which it refuses."""
        tools = sorted(os.listdir("/usr/lib/postgresql"))[-1]
        self.tools = "/usr/lib/postgresql/%s/bin/" % tools
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.place_of_it = self.place()
        data = os.path.join(self.directory, "postgresql")
        os.mkdir(data)
        if self.user:
            shutil.chown(data, "postgres")
        subprocess.run([*self.user, self.tools + "initdb", "-A", "trust", "-D", data + "/data"],
                       check=True, stdout=subprocess.DEVNULL, cwd="/")
        program = flux.Program("postgresql", [
            *self.user, self.tools + "postgres", "-D", data + "/data", "-k", "", "-h", "127.0.0.1",
            "-p", str(self.place_of_it.port), "-c", "fsync=off"])
        self.addCleanup(program.stop, expect=None)
        program.wait_log("database system is ready to accept connections")
        self.env = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(self.place_of_it.port),
                    "PGUSER": "postgres" if self.user else os.environ.get("USER", "postgres")}
        subprocess.run(["createdb", "flux"], env=self.env, check=True)

    def start_recipe(self):
        (recipe,) = recipes("sh", "postgresql")
        recipe = recipe.replace("-p 1883", "-p %d" % self.mosquitto.port)
        self.recipe = flux.Program("the recipe", ["setsid", "sh", "-c", recipe], self.env)
        self.addCleanup(self.end_recipe)

    def end_recipe(self):
        if self.recipe.process.returncode is None:
            os.killpg(self.recipe.process.pid, signal.SIGTERM)
            self.recipe.wait_end()

    def sql(self, text):
        done = subprocess.run(["psql", "-d", "flux", "-A", "-t", "-F", "\t", "-c", text], env=self.env,
                              text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [line.split("\t") for line in done.stdout.splitlines()]

    def test_recipe(self):
        self.rig()
        self.start_postgresql()
        os.chdir(ETC)
        self.start_recipe()
        self.mosquitto_has("historian-postgresql")
        self.start_bridge()
        self.mqtt.ask(50, "first")
        self.outage()
        self.watch.ask(60, "second")
        for device in ("Site-BESS-01", "Grid-Meter"):
            run, last = self.last_seq(device)
            count = ("SELECT count(*), min(seq), max(seq) FROM flux_sample WHERE device = '%s' "
                     "AND run = '%s' AND seq <= %d" % (device, run, last))
            whole = [[str(last), "1", str(last)]]
            self.until(lambda: self.sql(count) == whole,
                       lambda: "%s: %s of %d are there" % (device, self.sql(count), last))
        # Again: what is retained comes once more, and a backfill whose acknowledgement was lost.
        self.end_recipe()
        before = self.sql("SELECT count(*) FROM flux_sample WHERE seq <= %d" % last)
        self.start_recipe()
        twice = self.watch.on("Grid-Meter/backfill")[0]
        self.watch.publish("Grid-Meter/backfill", twice.payload)
        since = self.watch.mark()
        self.watch.ask(70, "third")
        self.until(lambda: self.sql("SELECT id FROM flux_outcome WHERE id = 'third'"), "no third")
        self.assertEqual(self.sql("SELECT count(*) FROM flux_sample WHERE seq <= %d" % last), before)
        self.assertGreaterEqual(len(self.watch.messages), since)
        self.assertEqual(self.sql("SELECT id, value, outcome FROM flux_outcome ORDER BY ts"),
                         [["first", "50", "confirmed"], ["second", "60", "confirmed"],
                          ["third", "70", "confirmed"]])
        for query in recipes("sql", "postgresql"):
            with self.subTest(query=query[:60]):
                self.assertTrue(self.sql(query))
        self.check_dashboard()

    def mosquitto_has(self, client):
        self.mosquitto.program.wait_log("as %s " % client)

    def check_dashboard(self):
        """Each query of the dashboard has an answer; Grafana's macros are what they stand for."""
        with open(os.path.join(ETC, "grafana-dashboard.json")) as file:
            dashboard = json.load(file)
        queries = [target["rawSql"] for panel in dashboard["panels"]
                   for target in panel.get("targets", [])]
        queries += [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
        self.assertGreater(len(queries), 4)
        for query in queries:
            query = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 > now() - interval '1 day'", query)
            query = query.replace("$site", "demo")
            with self.subTest(query=query):
                self.assertTrue(self.sql(query))


class Telegraf(Site):
    def start_telegraf(self):
        """Into a VictoriaMetrics, as the recipe says."""
        self.metrics, data = self.place(), os.path.join(self.directory, "victoria")
        victoria = flux.Program("victoria-metrics", [
            "victoria-metrics", "-storageDataPath", data, "-httpListenAddr",
            "127.0.0.1:%d" % self.metrics.port, "-dedup.minScrapeInterval=1ms",
            "-search.latencyOffset=0s"])
        self.addCleanup(victoria.stop, expect=None)
        victoria.wait_log("started VictoriaMetrics")
        with open(os.path.join(ETC, "telegraf.conf")) as file:
            text = file.read()
        (output,) = recipes("toml", "victoriametrics")
        text = (text.replace("127.0.0.1:1883", "127.0.0.1:%d" % self.mosquitto.port)
                + output.replace(":8428", ":%d" % self.metrics.port)
                + '[agent]\n  flush_interval = "500ms"\n  omit_hostname = true\n')
        path = os.path.join(self.directory, "telegraf.conf")
        with open(path, "w") as file:
            file.write(text)
        self.telegraf = flux.Program("telegraf", [os.environ["TELEGRAF"], "--config", path])
        self.addCleanup(self.telegraf.stop, expect=None)

    def says_thrice(self, what, since=0):
        """Once of each of its sessions."""
        flux.wait_on(self.telegraf.changed, lambda: sum(
            what in line for line in self.telegraf.lines[since:]) >= 3, 60, lambda: "%r from %s" % (
                what, "\n".join(self.telegraf.lines)))

    def export(self, match):
        host = "http://127.0.0.1:%d" % self.metrics.port
        urllib.request.urlopen(host + "/internal/force_flush").read()
        url = "%s/api/v1/export?%s" % (
            host, urllib.parse.urlencode({"match[]": match, "reduce_mem_usage": 0}))
        with urllib.request.urlopen(url) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def seqs(self):
        rows = self.export('flux_seq{site="demo",device="Grid-Meter"}')
        return sorted(int(v) for row in rows for v in row["values"])

    def test_recipe(self):
        self.rig()
        self.start_telegraf()
        self.says_thrice("Connected")
        self.watch = self.mqtt
        way = Way(self.mosquitto)
        self.addCleanup(way.close)
        self.start_bridge(way)
        self.mqtt.ask(50, "first")
        meter = self.server.units[2]
        way.cut()
        n = meter.requests
        self.server.wait(lambda: meter.requests >= n + 16)
        way.mend()
        self.mqtt.wait("Grid-Meter/backfill")
        self.mqtt.wait("bridge/health", lambda m: m.json["spool_depth"] == 0
                       and m.json["reconnects"] == 1)
        run, last = self.last_seq("Grid-Meter")
        twice = self.watch.on("Grid-Meter/backfill")[0]
        self.watch.publish("Grid-Meter/backfill", twice.payload)
        self.until(lambda: [v for v in self.seqs() if v <= last] == list(range(1, last + 1)),
                   lambda: "%s and not 1 to %d, each once\n%s" % (
                       self.seqs(), last, self.telegraf.log()))
        (row,) = self.export('flux_voltage_l1_n{device="Grid-Meter"}')
        self.assertEqual(set(row["values"]), {230.5})
        self.assertIn(twice.json["ts"], row["timestamps"])
        self.until(lambda: self.export('flux_result_value{outcome="confirmed",'
                                       'device="Site-BESS-01"}'), "no outcome")

    def test_outages(self):
        """After each way in which a broker goes, Telegraf takes all that comes then. It may
        start before the broker, too."""
        self.rig("max_inflight_messages 4\n")
        self.mosquitto.stop()
        self.start_telegraf()
        self.telegraf.wait_log("connection refused", 60)
        self.mosquitto.start()
        self.says_thrice("Connected")
        self.mqtt = self.client(self.mosquitto)
        self.start_bridge()
        meter = self.server.units[2]
        for number, end in enumerate(("stop", "kill", "freeze", "stop")):
            with self.subTest(end=end, number=number):
                since = self.telegraf.mark()
                if end == "freeze":
                    self.mosquitto.freeze()
                    self.says_thrice("pingresp not received", since)
                    self.mosquitto.thaw()
                else:
                    (self.mosquitto.stop if end == "stop" else self.mosquitto.program.kill)()
                    self.says_thrice("connection lost", since)
                    n = meter.requests  # long enough that it fails to connect
                    self.server.wait(lambda: meter.requests >= n + 16)
                    self.mosquitto.start()
                self.says_thrice("Connected", since)
                self.watch = self.client(self.mosquitto)
                # More than a broker sends to one who acknowledges none.
                run, first = self.last_seq("Grid-Meter")
                for _ in range(6):
                    self.watch.wait("Grid-Meter/state", since=self.watch.mark())
                run, last = self.last_seq("Grid-Meter")
                whole = list(range(first, last + 1))
                self.until(lambda: [v for v in self.seqs() if first <= v <= last] == whole,
                           lambda: "%s and not %d to %d\n%s" % (
                               self.seqs(), first, last, self.telegraf.log()))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: %s BUILD_DIR NAME [unittest arguments]" % sys.argv[0])
    name = {"postgresql": "PostgreSQL", "telegraf": "Telegraf"}[sys.argv.pop(2)]
    if len(sys.argv) == 2:
        sys.argv.append(name)
    flux.main()
