"""The page in a real browser: Debian's chromium, told what to do by npm's playwright-core,
and looked at by axe-core.

    page.py BUILD_DIR [unittest arguments]      tests/consumers/run.sh installs and runs it

CHROMIUM and NODE_PATH say where the two are. Pictures go to BUILD_DIR/page/.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

import flux  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TOKEN = "correct-horse-battery"
MANY = 500


class Browser:
    """Does one thing after the other; see browser.cjs."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["node", os.path.join(HERE, "browser.cjs"), os.environ.get("CHROMIUM", "chromium")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = json.loads(self.process.stdout.readline())["version"]

    def do(self, verb, **more):
        self.process.stdin.write(json.dumps({"do": verb, **more}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the browser has gone"}
        if "error" in answer:
            raise AssertionError("%s %s: %s" % (verb, more, answer["error"]))
        return answer["value"]

    def run(self, script):
        return self.do("run", script=script)

    def wait(self, script, timeout_s=None):
        deadline_s = flux.DEADLINE_S if timeout_s is None else timeout_s * flux.PATIENCE
        self.do("wait", script=script, ms=deadline_s * 1000)

    def text(self, where):
        return self.run("document.querySelector(%s)?.innerText ?? ''" % json.dumps(where))

    def pids(self):
        """The processes that make and draw the page: those that render, and the one that draws."""
        parents, ours = {}, []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % pid) as file:
                    parents[int(pid)] = int(file.read().rsplit(")", 1)[1].split()[1])
                with open("/proc/%s/cmdline" % pid, "rb") as file:
                    if re.search(b"--type=(renderer|gpu-process)", file.read()):
                        ours.append(int(pid))
            except OSError:
                continue  # it has just ended

        def is_ours(pid):
            while pid in parents and pid != self.process.pid:
                pid = parents[pid]
            return pid == self.process.pid

        return list(filter(is_ours, ours))

    def close(self):
        self.process.stdin.close()
        self.process.wait(flux.DEADLINE_S)
        self.process.stdout.close()


class Page(flux.Test):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.pictures = os.path.join(flux.build_dir, "page")
        os.makedirs(cls.pictures, exist_ok=True)

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def rig(self, token=True, deadman=True):
        self.server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit(power_kw=8.25),
                                   3: flux.battery_unit(soe=77, target=-20)})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        http = {"listen": "127.0.0.1:%d" % self.place().port}
        if token:
            http["token_file"] = os.path.join(self.directory, "token")
            with open(http["token_file"], "w") as file:
                file.write(TOKEN + "\n")
        control = {"deadman": {"timeout": "60s", "value": 0.0}} if deadman else {}
        self.config = flux.config(
            self.mosquitto,
            [flux.battery(self.server, control=control),
             flux.battery(self.server, name="Site-BESS-02", address=3, control=control)],
            [flux.meter(self.server)], http=http)
        self.flux = self.bridge(self.config)
        for name in ("Site-BESS-01", "Site-BESS-02", "Grid-Meter"):
            self.mqtt.wait_text(name + "/status", "online")
        self.url = "http://%s/" % http["listen"]

    def open(self, **more):
        self.browser.do("open", url=self.url, **more)
        self.browser.wait("document.body.classList.contains('ready')")

    def assert_clean(self):
        """No error on the console, no other host asked, and nothing that axe finds."""
        found = self.browser.do("errors")
        self.assertEqual(found["said"], [])
        self.assertEqual(found["hosts"], [self.url.split("/")[2]])
        self.assertEqual(self.browser.do("axe"), [])

    def shoot(self, name):
        self.browser.do("shot", path=os.path.join(self.pictures, name + ".png"))

    def row(self, device, part):
        return "li[data-device=%s] %s" % (device, part)

    def shows(self, device, point, value):
        """True once the device's row shows this very value."""
        where = self.row(device, ".chips [data-point=%s]" % point)
        self.browser.wait("document.querySelector(%s)?.dataset.value === %s"
                          % (json.dumps(where), json.dumps(str(value))))

    def set(self, value, token=TOKEN, button="#ask-send"):
        """Sets the battery's power in the dialog; what it answers."""
        self.browser.do("click", where="article[data-device=Site-BESS-01] button")
        self.browser.do("fill", where="#ask-value", text=value)
        self.browser.do("fill", where="#ask-token", text=token)
        self.browser.do("click", where=button)
        self.browser.wait("document.querySelector('#ask-answer').className !== ''")
        answer = self.browser.text("#ask-answer")
        self.browser.do("click", where="#ask-close")
        return answer

    # ---- what is shown ----

    def test_values_are_those_of_mqtt(self):
        self.rig()
        self.open()
        self.server.units[1].registers[2026] = 61
        self.server.units[2].registers.update(flux.registers(0, flux.float_words(228.25)))
        for device in ("Site-BESS-01", "Site-BESS-02", "Grid-Meter"):
            changed = {"Site-BESS-01": ("soe", 61), "Grid-Meter": ("voltage_l1_n", 228.25)}
            point, value = changed.get(device, ("soe", 77))
            sample = self.mqtt.wait(device + "/state",
                                    lambda m: m.json["data"].get(point) == value).json
            for name, expected in sample["data"].items():
                if not name.endswith("_code"):
                    self.shows(device, name, expected)
        self.browser.wait("document.querySelector('article[data-device=Site-BESS-01] .big')"
                          ".innerText.startsWith('61')")
        self.assertIn("8250 W", self.browser.text(self.row("Grid-Meter", ".chips")).replace(
            "\u00a0", " "))
        self.assertIn("8.25 kW", self.browser.text("#flow").replace("\u00a0", " "))
        self.browser.wait("document.querySelector('#fact-broker').innerText === 'connected'")
        self.assert_clean()

    def test_units_of_the_device_itself(self):
        """A unit that the site has changed is the one that is shown."""
        self.rig()
        self.flux.stop()
        text = self.config.replace('"acuvim2"',
                                   '"acuvim2"; points = ( { name = "current_l1"; unit = "kA"; } )')
        self.flux = self.bridge(text)
        self.flux.wait_log("device online device=Grid-Meter")
        self.open()
        self.shows("Grid-Meter", "current_l1", 12.25)
        self.assertIn("12.25\u00a0kA", self.browser.text(self.row("Grid-Meter", ".chips")))

    def test_an_offline_device_within_one_poll(self):
        self.rig()
        self.open()
        self.shows("Grid-Meter", "voltage_l1_n", 230.5)
        since = self.mqtt.mark()
        del self.server.units[2]
        self.mqtt.wait_text("Grid-Meter/status", "offline", since=since)
        self.browser.wait("document.querySelector(%s).innerText === 'offline'"
                          % json.dumps(self.row("Grid-Meter", ".status")), 1)
        self.browser.wait("document.querySelector(%s).innerText.includes('gateway target')"
                          % json.dumps(self.row("Grid-Meter", ".chips")), 1)
        self.assertIn("2 of 3 online", self.browser.text("#fact-devices"))
        self.browser.do("click", where="#troubled")
        self.assertEqual(self.browser.run(
            "[...document.querySelectorAll('.devices > li:not([hidden]) b')].map(e => e.innerText)"
        ), ["Grid-Meter"])
        self.assert_clean()
        self.shoot("offline")

    def test_errors_have_their_words(self):
        self.rig()
        del self.server.units[1].registers[2026]
        self.mqtt.wait("Site-BESS-01/state", lambda m: m.json["data"]["soe"] is None)
        self.open()
        self.browser.wait("document.querySelector('article[data-device=Site-BESS-01] .errors')"
                          ".innerText === 'illegal address: soe'")
        self.assertEqual(self.browser.text("article[data-device=Site-BESS-01] .status"), "partly")
        self.assert_clean()
        self.shoot("partly")

    def test_the_broker_is_away(self):
        self.rig()
        self.open()
        self.browser.wait("document.querySelector('#fact-broker').innerText === 'connected'")
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker")
        self.open()
        self.browser.wait("document.querySelector('#fact-broker').innerText === 'not reachable'")
        self.browser.wait("/samples/.test(document.querySelector('#fact-spool').innerText)")
        self.assert_clean()
        self.shoot("broker")

    def test_a_bridge_that_hangs(self):
        """Its connection stays and says nothing: values are called old, and then it is given up."""
        self.rig()
        self.open()
        self.shows("Grid-Meter", "voltage_l1_n", 230.5)
        self.flux.signal(signal.SIGSTOP)
        self.addCleanup(self.flux.signal, signal.SIGCONT)
        for where in (self.row("Grid-Meter", ".status"), "article.stale .status"):
            self.browser.wait("document.querySelector(%s)?.innerText === 'old values'"
                              % json.dumps(where), 60)
        self.assertEqual(self.browser.do("axe"), [])
        self.shoot("stale")
        self.browser.wait("document.querySelector('#banner').innerText"
                          ".includes('No connection to the bridge')", 60)
        self.server.units[1].registers[2026] = 33
        self.flux.signal(signal.SIGCONT)
        self.browser.wait("document.querySelector('#banner').hidden")
        self.shows("Site-BESS-01", "soe", 33)
        self.browser.wait("document.querySelector(%s).innerText === 'online'"
                          % json.dumps(self.row("Grid-Meter", ".status")))

    def test_only_devices_without_power(self):
        """Empty states are said, not left blank."""
        self.server = self.modbus({1: flux.battery_unit()})
        self.mosquitto = self.broker()
        listen = "127.0.0.1:%d" % self.place().port
        self.url = "http://%s/" % listen
        self.flux = self.bridge(flux.config(
            self.mosquitto, [], [flux.meter(self.server, address=9)], http={"listen": listen}))
        self.flux.wait_log("device offline")
        self.open()
        self.assertIn("No command", self.browser.text("#outcomes"))
        self.assertEqual(self.browser.text(self.row("Grid-Meter", ".age")), "never")
        self.assert_clean()
        self.shoot("empty")

    # ---- commands ----

    def test_a_setpoint_shows_its_outcome(self):
        self.rig()
        self.open()
        self.assertRegex(self.set("-25"), "Confirmed: reads back \u221225\u00a0kW")
        self.assertEqual(self.server.units[1].registers[2008], 0x10000 - 25)
        outcome = self.mqtt.wait("Site-BESS-01/result").json
        self.assertEqual((outcome["value"], outcome["source"]), (-25, "page"))
        self.browser.wait("document.querySelector('#outcomes li').innerText.includes('confirmed')")
        self.shows("Site-BESS-01", "target_power", -25)
        self.browser.wait("/^[0-9]+.s$/.test(document.querySelector("
                          "'article[data-device=Site-BESS-01] dl div:nth-child(3) dd').innerText)")
        self.assert_clean()

    def test_a_refused_one_shows_why(self):
        self.rig()
        self.open()
        self.server.units[1].registers[2026] = 9
        answer = self.set("10")
        self.assertIn("refused: soe low: SOE 9 % is below soe_min 10 %", answer)
        self.browser.wait("/refused[^]*soe low/.test(document.querySelector('#outcomes li')"
                          ".innerText)")
        self.assertEqual(self.set("ten").split(",")[0], "A number is wanted")
        self.assertIn("not the token", self.set("10", token="wrong"))
        self.assertEqual(self.server.n_writes(), 0)

    def test_stop(self):
        self.rig()
        self.mqtt.ask(50, "d-1")
        self.open()
        self.assertIn("Confirmed: reads back 0", self.set("", button="#ask-stop"))
        self.assertEqual(self.server.units[1].registers[2008], 0)

    def test_a_command_of_somebody_else(self):
        self.rig()
        self.open()
        self.mqtt.ask(9999, "d-7")
        self.browser.wait("document.querySelector('#outcomes li')?.dataset.id === 'd-7'")
        self.assertIn("above the maximum", self.browser.text("#outcomes li"))

    def test_read_only(self):
        self.rig(token=False)
        self.open()
        self.assertIs(self.browser.run("document.querySelector('.battery button').disabled"), True)
        self.assert_clean()

    def tab_to(self, where):
        """Tab after Tab; of each stop it is to be seen that it is there."""
        for _ in range(30):
            self.browser.do("press", key="Tab")
            is_there, is_seen, what = self.browser.run(
                "((e) => [e.matches(%s), getComputedStyle(e).outlineStyle !== 'none', "
                "e.outerHTML.slice(0, 99)])(document.activeElement)" % json.dumps(where))
            self.assertTrue(is_seen, what)
            if is_there:
                return
        self.fail("no way to " + where)

    def test_by_keyboard(self):
        self.rig()
        self.open()
        self.tab_to("a.skip")
        self.browser.do("press", key="Enter")
        self.assertEqual(self.browser.run("document.activeElement.id"), "devices")
        self.open()
        self.tab_to("article[data-device=Site-BESS-01] button")
        self.browser.do("press", key="Enter")
        self.assertEqual(self.browser.run("document.activeElement.id"), "ask-value")
        self.browser.do("fill", where="#ask-token", text=TOKEN)
        self.browser.do("fill", where="#ask-value", text="12")
        self.browser.do("press", key="Enter")
        self.browser.wait("document.querySelector('#ask-answer').className === 'good'")
        self.shoot("dialog")
        self.browser.do("press", key="Escape")
        self.assertIs(self.browser.run("document.querySelector('dialog').open"), False)
        self.tab_to(self.row("Grid-Meter", "summary"))
        self.browser.do("press", key="Enter")
        self.browser.wait("document.querySelector('.values').innerText.includes('energy import')")
        self.assert_clean()

    # ---- it stays open ----

    def test_over_a_restart(self):
        self.rig()
        self.open()
        self.flux.stop()
        # What it had asked before the end may still be answered, and shows for a moment.
        self.browser.wait("document.querySelector('#banner').innerText"
                          ".includes('No connection to the bridge')")
        self.assertEqual(self.browser.do("axe"), [])
        self.shoot("lost")
        self.server.units[1].registers[2026] = 33
        self.flux = self.bridge(self.config)
        self.browser.wait("document.querySelector('#banner').hidden", 30)
        self.shows("Site-BESS-01", "soe", 33)
        self.mqtt.ask(15, "after")
        self.browser.wait("document.querySelector('#outcomes li')?.dataset.id === 'after'")

    def test_one_page_too_many(self):
        """It asks for the state instead."""
        self.rig()
        for _ in range(8):
            stream = urllib.request.urlopen(self.url + "api/events")
            self.addCleanup(stream.close)
        self.browser.do("open", url=self.url)
        self.browser.wait("document.querySelector('#fact-page').innerText.includes('asks every')")
        self.server.units[1].registers[2026] = 44
        self.shows("Site-BESS-01", "soe", 44)

    def test_pictures(self):
        self.rig()
        self.mqtt.ask(40, "d-1", fields={"source": "dispatch-a"})
        self.mqtt.ask(999, "d-2", fields={"source": "dispatch-a"})
        for width, height in ((360, 740), (1440, 900)):
            for dark in (False, True):
                self.open(width=width, height=height, dark=dark)
                self.shows("Site-BESS-01", "target_power", 40)
                self.assertLessEqual(
                    self.browser.run("document.documentElement.scrollWidth"), width)
                self.assert_clean()
                self.shoot("%d-%s" % (width, "dark" if dark else "light"))

    # ---- a large site ----

    def test_many_devices(self):
        places = [self.place() for _ in range(3)]
        mosquitto = self.broker()
        listen = "127.0.0.1:%d" % self.place().port
        self.url = "http://%s/" % listen
        batteries = [flux.battery(places[0], name="BESS-%03d" % i, address=i + 1, poll="1s")
                     for i in range(20)]
        meters = [flux.meter(places[i % 3], name="Meter-%03d" % i, address=40 + i // 3, poll="1s")
                  for i in range(MANY - len(batteries))]
        text = flux.config(mosquitto, batteries, meters, http={"listen": listen})
        self.simulator(text)
        bridge = self.bridge(text)
        flux.wait_on(bridge.changed, lambda: sum("device online" in line for line in bridge.lines)
                     == MANY, 60, "all devices")
        self.browser.do("open", url="about:blank")
        bridge_alone, blank = self.cpu_shares([bridge.process.pid], self.browser.pids())
        self.open()
        paint = self.browser.run(
            "performance.getEntriesByName('first-contentful-paint')[0].startTime")
        shown = self.browser.run("window.performance.now()")
        self.browser.wait("document.querySelectorAll('.devices > li .value').length > 20")
        with_page, page = self.cpu_shares([bridge.process.pid], self.browser.pids())
        print("\n%d devices: first paint after %d ms, all there after %d ms; of a core the browser "
              "takes %.1f %% to make and draw the page (%.1f %% for an empty one), the bridge "
              "%.1f %% with all that it does (%.1f %% without a page)"
              % (MANY, paint, shown, page, blank, with_page, bridge_alone))
        # What a machine has besides makes both dearer.
        self.assertLess(page, with_page)
        self.browser.do("fill", where="#find", text="meter-17")
        self.assertEqual(self.browser.text("#found"), "10 of %d" % MANY)
        self.browser.do("fill", where="#find", text="")
        self.shoot("500")
        self.assert_clean()

    def cpu_shares(self, *groups):
        """Of a core, in percent, for each group of processes: over 10 s by the page's clock,
        once what a browser does at each beginning is over."""
        self.browser.wait("performance.now() > 10000")
        before, begun = [self.cpu_s(pids) for pids in groups], time.monotonic()
        self.browser.run("new Promise((done) => { setTimeout(done, 10000); })")
        passed_s = time.monotonic() - begun
        return [100 * (self.cpu_s(pids) - was) / passed_s for pids, was in zip(groups, before)]

    @staticmethod
    def cpu_s(pids):
        total = 0
        for pid in pids:
            with open("/proc/%d/stat" % pid) as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    flux.main()
