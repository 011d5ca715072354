"""The package in a whole Debian: what systemd makes of it, a reboot and a power cut.

    system.py IMAGE_DIR PACKAGE [unittest arguments]      run.sh makes the image and runs this

All tests have one machine. Each begins with a package that is not installed, and a broker
without memory.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
import unittest

import machine

import flux

CONFIG = "/etc/fluxbridge/fluxbridge.cfg"
AUDIT = "/var/lib/fluxbridge/audit.jsonl"
TARGET = "Site-BESS-01/set/target_power"
BROKER = types.SimpleNamespace(host="127.0.0.1", port=1883)
DEVICES = types.SimpleNamespace(host="127.0.0.1", port=1502)

# Everything that is there and the accounts, but what is no package's to clean up.
SNAPSHOT = r"""cd / && {
    find . -xdev \( -path ./var/lib/dpkg -o -path ./var/log -o -path ./var/cache -o -path ./tmp \
        -o -path ./var/tmp -o -path ./root -o -path ./var/lib/systemd -o -path ./var/lib/mosquitto \) \
        -prune -o -print
    find /run/fluxbridge /run/systemd/system /run/credentials 2>/dev/null | grep -i fluxbridge
    cut -d: -f1 /etc/passwd; cut -d: -f1 /etc/group; cut -d' ' -f1 /var/lib/logrotate/status
    systemctl list-units --all --plain --no-legend 'fluxbridge*'
} | LC_ALL=C sort"""

HTTP = {"listen": "127.0.0.1:9464", "token_file": "/etc/fluxbridge/token"}

# A setpoint as a page sends it.
POST = """import urllib.request as r
print(r.urlopen(r.Request("http://127.0.0.1:9464/api/devices/Site-BESS-01/set/target_power",
b"{\\"id\\":\\"p\\",\\"value\\":50,\\"source\\":\\"test\\"}", {"Content-Type":
"application/json", "Authorization": "Bearer a token of some length"})).read().decode())"""

SIMULATOR = """[Unit]
Description=The devices
[Service]
ExecStart=/usr/bin/fluxbridge-sim -c /etc/devices.cfg
[Install]
WantedBy=multi-user.target
"""


def site(control=None, host=DEVICES, name="demo", state="/var/lib/fluxbridge", **more):
    return flux.config(
        BROKER, [flux.battery(host, poll="1s", control=control)], [flux.meter(host, poll="1s")],
        **{"site": name, "log": {"level": "info"}, "audit": {"path": state + "/audit.jsonl"},
           "spool": {"path": state + "/spool.db"}, **more})


class System(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="fluxbridge-system-")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        repacked = os.path.join(cls.directory, "old")
        cls.files = {"new.deb": package, "old.deb": repacked + ".deb"}
        # A package like the one tested, of an earlier release.
        subprocess.run(["dpkg-deb", "-R", package, repacked], check=True)
        subprocess.run(["sed", "-i", "s/^Version: .*/&~old/", repacked + "/DEBIAN/control"],
                       check=True)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", repacked, repacked + ".deb"],
                       check=True, stdout=subprocess.DEVNULL)
        cls.machine = machine.Machine(image, cls.directory)
        cls.addClassCleanup(cls.machine.close)
        cls.machine.start(cls.files)
        cls.machine.run("mkdir /files && tar -xf /dev/vdb -C /files")
        cls.machine.run("systemctl is-system-running --wait", machine.BOOT_S)

    def setUp(self):
        self.run_in = self.machine.run
        self.addCleanup(self.machine.end_all)
        self.run_in("dpkg -P fluxbridge; systemctl disable --now -q simulator; systemctl stop "
                    "mosquitto; rm -f /var/lib/mosquitto/* /etc/systemd/system/simulator.service "
                    "/etc/devices.cfg; systemctl unmask -q mosquitto && systemctl daemon-reload && "
                    "systemctl reset-failed && systemctl start mosquitto")

    def install(self, text=None, file="new.deb"):
        self.run_in("dpkg -i /files/" + file)
        self.machine.write("/etc/systemd/system/simulator.service", SIMULATOR)
        self.machine.write("/etc/devices.cfg", site())
        self.machine.write(CONFIG, text or site())
        self.run_in("systemctl daemon-reload && systemctl enable --now -q simulator")
        self.look()

    def look(self):
        """At the topics and the journal, from here on."""
        self.journal = self.follow_journal()
        self.mqtt = self.machine.follow(
            "stdbuf -oL mosquitto_sub -h 127.0.0.1 -d -V 5 -c -x 3600 -i watch -q 1 -t 'flux/#' "
            "-F %j", machine.Topics)
        self.mqtt.wait("Subscribed")

    def follow_journal(self):
        """What the units say, and systemd of them, from here on."""
        cursor = self.run_in("journalctl -n 1 -o cat --show-cursor | sed -n 's/^-- cursor: //p'")
        return self.machine.follow("journalctl -f -n all -o cat --after-cursor='%s' -u fluxbridge "
                                   "-u 'fluxbridge@*'" % cursor)

    def start(self):
        self.run_in("systemctl start fluxbridge")
        self.online()

    def online(self, since=0):
        for topic in ("bridge", "Site-BESS-01", "Grid-Meter"):
            self.mqtt.wait_message(topic + "/status", lambda text: text == "online", since)

    def show(self, what, unit="fluxbridge"):
        return self.run_in("systemctl show --value -p %s %s" % (what, unit))

    def ask(self, value, id, topic="flux/demo/" + TARGET):
        """Its outcome."""
        since = self.mqtt.mark()
        self.run_in("mosquitto_pub -h 127.0.0.1 -V 5 -q 1 -t %s -m '%s'"
                    % (topic, json.dumps({"id": id, "value": value, "source": "test"})))
        return self.mqtt.wait_json("result", lambda m: m["id"] == id, since)

    def confirm(self, value, id, **more):
        outcome = self.ask(value, id, **more)
        self.assertEqual(outcome["outcome"], "confirmed", outcome)

    def again(self, value, id):
        """It has been answered, be it by an earlier run, and is only told once more."""
        outcome = self.ask(1 - value, id)
        self.assertEqual((outcome.get("duplicate"), outcome["value"]), (True, value), outcome)

    def target(self):
        """What the battery holds, asked by somebody else."""
        text = self.run_in("fluxbridge read --json -c /etc/devices.cfg Site-BESS-01 target_power")
        return json.loads(text)["data"]["target_power"]

    def now(self):
        """The run of the bridge, told by a sample that is new."""
        return self.mqtt.wait_json("Grid-Meter/state", since=self.mqtt.mark())["run"]

    def came(self, run):
        """What came of the meter's samples of a run."""
        return {m["seq"] for kind in ("state", "backfill")
                for m in self.mqtt.all("Grid-Meter/" + kind) if m["run"] == run}

    def delivered(self):
        """Nothing waits any more; the run that says so."""
        run = self.now()  # from here on nothing comes that the broker has retained
        self.mqtt.wait_json("bridge/health", lambda m: m["spool_depth"] == 0, self.mqtt.mark())
        return run

    def gather(self, n):
        """The broker is away until `n` samples of the meter have waited for it; what was
        before is on the disk."""
        self.run_in("systemctl stop mosquitto && sync")
        events = self.machine.follow("python3 -u -c 'import urllib.request\nfor line in "
                                     "urllib.request.urlopen(\"http://127.0.0.1:9464/api/events\"): "
                                     "print(line.decode().rstrip())'")
        for _ in range(n):
            events.wait('"device":"Grid-Meter"', events.mark())
        events.end()

    # ---- what is installed ----

    def test_install_and_purge(self):
        before = self.run_in(SNAPSHOT)
        journal = self.follow_journal()
        self.run_in("dpkg -i /files/new.deb")
        # Nothing runs before a site has said what it has.
        self.assertEqual(self.run_in("systemctl is-enabled fluxbridge"), "enabled")
        self.assertEqual(self.machine.ends("systemctl is-active fluxbridge"), (3, "inactive"))
        self.assertEqual(self.machine.ends("pgrep fluxbridge"), (1, ""))
        self.assertEqual(self.run_in("systemctl --failed --no-legend"), "")
        journal.wait("fluxbridge.cfg")  # the condition that is not met
        # Then as README.Debian says it.
        self.install()
        recipe = [line[4:] for line in self.run_in(
            "zcat -f /usr/share/doc/fluxbridge/README.Debian*").splitlines() if line.startswith("    ")]
        self.assertEqual(recipe[1], "editor " + CONFIG)
        self.run_in(recipe[0])
        self.machine.write(CONFIG, site())
        for command in recipe[2:4]:
            self.run_in(command)
        self.online()
        self.assertEqual(self.show("ActiveState"), "active")
        self.run_in("systemctl status --no-pager fluxbridge")
        self.check_confinement()
        for line in ("fluxbridge", "Started"):
            self.journal.wait(line)
        # What a site of its own leaves, too.
        self.run_in("mkdir -p /etc/systemd/system/fluxbridge.service.d && "
                    "echo '[Service]' >/etc/systemd/system/fluxbridge.service.d/own.conf && "
                    "systemctl stop simulator && systemctl disable -q simulator && "
                    "rm /etc/systemd/system/simulator.service /etc/devices.cfg && dpkg -P fluxbridge")
        self.assertEqual(self.machine.ends("pgrep fluxbridge"), (1, ""))
        self.assertEqual(self.run_in(SNAPSHOT).splitlines(), before.splitlines())

    def check_confinement(self):
        pid = self.show("MainPID")
        self.assertEqual(self.show("Type"), "notify")
        self.assertEqual(self.show("MemoryMax"), str(256 * 1024 * 1024))
        self.assertEqual(self.run_in("cat /sys/fs/cgroup$(systemctl show --value -p ControlGroup "
                                     "fluxbridge)/memory.max"), str(256 * 1024 * 1024))
        self.assertEqual(self.run_in("stat -c '%%U %%G' /proc/%s" % pid), "fluxbridge fluxbridge")
        status = dict(line.split(":", 1) for line in
                      self.run_in("cat /proc/%s/status" % pid).splitlines())
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        self.assertEqual(status["Seccomp"].strip(), "2")
        exposure = self.run_in("systemd-analyze --no-pager security --threshold=17 fluxbridge")
        self.assertRegex(exposure.splitlines()[-1], r"exposure level for fluxbridge.service: 1\.[0-7] OK")
        # In its own view of the files, even root writes nowhere but to its state.
        inside = "nsenter -t %s -m " % pid
        self.run_in(inside + "touch /var/lib/fluxbridge/try && rm /var/lib/fluxbridge/try")
        for place in ("/etc/fluxbridge", "/usr", "/var/lib"):
            code, why = self.machine.ends(inside + "touch %s/try" % place)
            self.assertEqual((code, "Read-only file system" in why), (1, True), why)

    # ---- what systemd does about a daemon that fails ----

    def test_watchdog(self):
        self.install(site(control={"deadman": {"timeout": "5s", "value": 0.0}}))
        self.start()
        self.confirm(50, "a")
        pid, since, messages = self.show("MainPID"), self.journal.mark(), self.mqtt.mark()
        self.run_in("kill -STOP " + pid)
        self.journal.wait("Watchdog timeout", since)
        self.journal.wait("Scheduled restart", since)
        # The battery was left with a lease that has run out meanwhile.
        outcome = self.mqtt.wait_json("result", lambda m: m.get("source") == "deadman", messages)
        self.assertEqual((outcome["value"], outcome["outcome"]), (0, "confirmed"))
        self.assertEqual(self.target(), 0)
        self.assertNotEqual(self.show("MainPID"), pid)
        self.assertEqual(self.show("NRestarts"), "1")
        self.assertEqual(self.run_in("find / -xdev -name 'core*' -newer %s -size +0 -path '*flux*'"
                                     % CONFIG), "")

    def test_kill(self):
        self.install(site(control={"deadman": {"timeout": "1h", "value": 0.0}}))
        self.start()
        self.confirm(50, "a")
        pid, since, messages = self.show("MainPID"), self.journal.mark(), self.mqtt.mark()
        self.run_in("kill -KILL " + pid)
        self.journal.wait("status=9/KILL", since)
        self.mqtt.wait_message("bridge/status", lambda text: text == "offline", messages)  # its Will
        self.online(messages)
        self.again(50, "a")
        self.assertEqual((self.target(), self.show("NRestarts")), (50, "1"))

    def test_wrong_configuration(self):
        self.install("site = 5;\n")
        self.assertEqual(self.machine.ends("systemctl start fluxbridge")[0], 1)
        self.journal.wait("status=2/INVALIDARGUMENT")
        self.journal.wait("fluxbridge.cfg:1")
        self.assertEqual(self.show("ActiveState"), "failed")
        self.assertEqual(self.show("NRestarts"), "0")
        self.machine.write(CONFIG, site())
        self.start()

    def test_missing_ca(self):
        self.install(site(mqtt={"url": "mqtts://127.0.0.1:8883", "tls": {
            "ca_file": "/etc/fluxbridge/ca.pem"}}))
        self.run_in("systemctl start fluxbridge")  # ready, without a session
        self.journal.wait("ca_file.*waited for")
        self.journal.wait("no session with the broker")
        self.assertEqual(self.show("ActiveState"), "active")
        self.assertEqual(self.show("NRestarts"), "0")

    def test_reload(self):
        self.install()
        self.start()
        pid, since = self.show("MainPID"), self.journal.mark()
        self.machine.write(CONFIG, site(control={"max_kw": 30.0}))
        self.run_in("systemctl reload fluxbridge")
        self.journal.wait("reloaded level", since)
        outcome = self.ask(50, "a")
        self.assertEqual((outcome["outcome"], outcome["reason"]), ("refused", "out_of_range"))
        self.confirm(20, "b")
        since = self.journal.mark()
        self.machine.write(CONFIG, "site = 5;\n")
        self.run_in("systemctl reload fluxbridge")
        self.journal.wait("the configuration is not taken over", since)
        self.confirm(25, "c")
        self.assertEqual((self.show("MainPID"), self.show("ActiveState")), (pid, "active"))

    def test_stop(self):
        self.install(site(control={"on_exit": "fallback"}))
        self.start()
        self.confirm(50, "a")
        self.assertEqual(self.target(), 50)
        since = self.mqtt.mark()
        self.run_in("systemctl stop fluxbridge")
        outcome = self.mqtt.wait_json("result", lambda m: m.get("source") == "exit", since)
        self.assertEqual((outcome["value"], outcome["outcome"]), (0, "confirmed"))
        self.assertEqual(self.target(), 0)
        self.assertEqual((self.show("Result"), self.show("ExecMainStatus")), ("success", "0"))
        for topic in ("bridge", "Site-BESS-01", "Grid-Meter"):
            self.assertEqual(self.run_in("mosquitto_sub -h 127.0.0.1 -V 5 --retained-only -C 1 "
                                         "-t flux/demo/%s/status" % topic), "offline")

    def test_sites_of_a_machine(self):
        self.install()
        self.run_in("systemctl disable -q fluxbridge")
        messages = self.mqtt.mark()
        self.machine.write("/etc/fluxbridge/north.cfg",
                           site(name="north", state="/var/lib/fluxbridge/north"))
        self.run_in("systemctl enable --now -q fluxbridge@north")
        self.online(messages)
        self.confirm(50, "a", topic="flux/north/" + TARGET)
        self.assertEqual(self.run_in("stat -c '%U %a' /var/lib/fluxbridge/north"), "fluxbridge 750")
        # Both at one battery: the claim is with the first.
        self.run_in("systemctl start fluxbridge")
        self.journal.wait("is held by another.*site north")
        self.assertEqual(self.ask(60, "b")["reason"], "not_owner")
        self.assertEqual(self.target(), 50)
        # Log rotation finds both, and each goes on in a new file.
        for name in ("audit.jsonl", "north/audit.jsonl"):
            self.run_in("test -s /var/lib/fluxbridge/" + name)
        self.run_in("logrotate -f /etc/logrotate.d/fluxbridge")
        self.confirm(51, "c", topic="flux/north/" + TARGET)
        self.ask(61, "d")
        for name, gone, here in (("audit.jsonl", "b", "d"), ("north/audit.jsonl", "a", "c")):
            self.assertEqual(self.ids("/var/lib/fluxbridge/%s.1" % name), [gone])
            self.assertEqual(self.ids("/var/lib/fluxbridge/" + name), [here])
        # An upgrade restarts the sites, a removal stops them.
        pids = self.show("MainPID"), self.show("MainPID", "fluxbridge@north")
        messages = self.mqtt.mark()
        self.run_in("dpkg -i /files/new.deb")
        self.online(messages)
        self.assertFalse(set(pids) & {self.show("MainPID"), self.show("MainPID", "fluxbridge@north")})
        self.run_in("dpkg -P fluxbridge")
        self.assertEqual(self.machine.ends("pgrep -x fluxbridge"), (1, ""))
        self.assertEqual(self.machine.ends("ls /var/lib/fluxbridge /etc/systemd/system/"
                                           "multi-user.target.wants/fluxbridge@north.service")[0], 2)

    def ids(self, path):
        return [json.loads(line)["id"] for line in self.run_in("cat " + path).splitlines()]

    # ---- what must survive ----

    def test_upgrade(self):
        self.install(site(http={"listen": HTTP["listen"]}), "old.deb")
        self.start()
        self.confirm(50, "a")
        run = self.now()
        self.gather(5)
        before = self.came(run)
        self.run_in("dpkg -i /files/new.deb")
        self.assertEqual(self.show("ActiveState"), "active")
        messages = self.mqtt.mark()
        self.run_in("systemctl start mosquitto")
        self.online(messages)
        self.assertNotEqual(self.delivered(), run)
        came = self.came(run)
        self.assertGreaterEqual(len(came - before), 5)
        self.assertEqual(sorted(came), list(range(1, max(came) + 1)))
        self.again(50, "a")

    def test_reboot(self):
        self.install(site(http={"listen": HTTP["listen"]},
                          control={"deadman": {"timeout": "1h", "value": 0.0}}))
        self.start()
        self.confirm(50, "a")
        run = self.now()
        self.gather(5)
        before = self.came(run)
        self.run_in("systemctl mask -q mosquitto")
        self.machine.reboot()
        self.back(run, before, 5)
        self.again(50, "a")

    def test_power_cut(self):
        self.install(site(http=HTTP, control={"deadman": {"timeout": "5s", "value": 0.0}}))
        self.machine.write("/etc/fluxbridge/token", "a token of some length")
        self.run_in("chgrp fluxbridge /etc/fluxbridge/token && chmod 640 /etc/fluxbridge/token")
        self.start()
        run = self.now()
        self.run_in("systemctl mask -q mosquitto")
        self.gather(10)
        before = self.came(run)
        # What was answered is on the disk, and so is its lease.
        answer = self.run_in("python3 -c '%s'" % POST)
        self.machine.cut_power()
        self.assertEqual(json.loads(answer)["outcome"], "confirmed", answer)
        self.machine.start(self.files)
        self.back(run, before, 9)  # the last second may be missing
        outcome = self.mqtt.wait_json("result", lambda m: m.get("source") == "deadman")
        self.assertEqual((outcome["value"], outcome["outcome"]), (0, "confirmed"))
        self.again(50, "p")
        self.assertEqual(self.ids(AUDIT)[0], "p")

    def back(self, run, before, least):
        """The machine has booted without a broker, which now comes: of the old run `least`
        samples are there that were not before, and none between is missing."""
        self.run_in("systemctl start fluxbridge")  # it is on its way
        self.run_in("systemctl unmask -q mosquitto && systemctl start mosquitto")
        self.look()
        self.online()
        self.assertNotEqual(self.delivered(), run)
        self.assertEqual(self.show("NRestarts"), "0")
        late = self.came(run)
        self.assertGreaterEqual(len(late - before), least)
        self.assertEqual(sorted(late | before), list(range(1, max(late) + 1)))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: %s IMAGE_DIR PACKAGE [unittest arguments]" % sys.argv[0])
    image, package = os.path.abspath(sys.argv.pop(1)), os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
