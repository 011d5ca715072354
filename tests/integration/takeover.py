"""What a reload takes over of names and files: another site, spool or audit log, and that it
does what `fluxbridge check` says."""

import json
import os
import re
import signal
import sqlite3

import paho.mqtt.client as mqtt

import flux
from disk import HANG
from disk_start import LOOKS
from flux import RESULT
from reload_rig import METER, Rig

PATH = r"""
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

static int is_of(int fd, const char *name)
{
    char link[40], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 && strstr(path, name) != NULL;
}
"""

# A state file does not come to the disk.
STATE_SYNC = PATH + r"""
int fdatasync(int fd)
{
    if (is_of(fd, "/state-"))
        hang();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""

# That of another directory does not take what is kept: it can be tried, though.
STATE_THERE = PATH + r"""
#define WRITES(name)                                                                        \
    ssize_t name(int fd, const void *from, size_t size, off_t at)                           \
    {                                                                                       \
        if (is_of(fd, "/there/state-") && memmem(from, size, "audit/formers", 13) != NULL)        \
            hang();                                                                         \
        return ((ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, #name))(    \
            fd, from, size, at);                                                            \
    }
WRITES(pwrite)
WRITES(pwrite64)
"""

NAMES = ("Site-BESS-01", METER, "Load", "PV")


class Takeover(Rig):
    def beside(self, *path):
        return os.path.join(self.directory, *path)

    def wait_file(self, path, there=True):
        flux.wait_on(self.mqtt.changed, lambda: os.path.exists(path) == there, None,
                     lambda: "%s: there is %s" % (path, os.listdir(self.directory)))

    def reload_until_taken(self):
        """What an earlier one has begun is to end first."""
        answer = ""
        while "info: reloaded" not in answer:
            answer = self.reload(answer="info: reloaded level=debug$|not taken over: ")

    def sequence(self, name, *clients):
        """Each number that came, live or late, at any of these."""
        return {m.json["seq"] for client in clients for leaf in ("/state", "/backfill")
                for m in client.on(name + leaf) if m.payload}

    def assert_whole(self, *clients, late=False):
        """Nothing is missing; `late`: from the first on that came late, for what a broker had
        that ended may not have come to us."""
        for name in NAMES:
            # The last one may stand before an earlier one that is on its way.
            def whole():
                first = min(m.json["seq"] for client in clients
                            for leaf in ("/state",) * (not late) + ("/backfill",)
                            for m in client.on(name + leaf) if m.payload)
                seen = {seq for seq in self.sequence(name, *clients) if seq >= first}
                return seen == set(range(first, max(seen) + 1))
            flux.wait_on(clients[-1].changed, whole, None,
                         lambda: "%s: %s" % (name, sorted(self.sequence(name, *clients))))

    # ---- another site ----

    def rename(self):
        self.groups["site"] = "other"
        other = self.client(self.mosquitto, base="flux/other",
                            subscribe=("#", "/homeassistant/#"))
        return other

    def test_another_site(self):
        """The devices do not notice: no connection, no write, no number; a lease goes on, and is
        known to the next run as well."""
        self.rig(spool={"path": self.beside("spool.db")})
        control = self.devices["bess"][0]["control"]
        control["deadman"] = {"timeout": "1h", "value": 0.0}
        self.reload()
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(50.0, "held")["outcome"], "confirmed")
        lease = self.mqtt.wait("Site-BESS-01/control", lambda m: m.payload and
                               (m.json["lease"] or {}).get("value") == 50.0).json["lease"]
        connections = [self.bess.connections, self.gateway.connections, self.lone.connections]
        writes = self.bess.n_writes()
        other = self.rename()
        self.reload()
        for name in ("bridge", *NAMES):
            other.wait_text(name + "/status", "online")
            for leaf in ("status", "info"):
                self.mqtt.wait_text("%s/%s" % (name, leaf), "", since=self.since)
        self.mqtt.wait_text("bridge/health", "", since=self.since)
        for name in NAMES:
            for leaf in ("state",) + ("control",) * (name == NAMES[0]):
                self.mqtt.wait_text("%s/%s" % (name, leaf), "", since=self.since)
            self.mqtt.wait_text("/homeassistant/device/fluxbridge-demo-id-%s/config" % name, "",
                                since=self.since)
            other.wait("/homeassistant/device/fluxbridge-other-id-%s/config" % name,
                       lambda m: m.payload)
        self.assertEqual(other.wait("bridge/info", lambda m: m.payload).json["site"], "other")
        again = other.wait("Site-BESS-01/control", lambda m: m.payload and m.json["lease"])
        self.assertEqual(again.json["lease"]["value"], lease["value"])
        self.assertAlmostEqual(again.json["lease"]["until"], lease["until"], delta=1000)
        self.assertTrue(other.ask(50.0, "held").get("duplicate"))
        self.assertEqual(self.bess.n_writes(), writes)
        self.assertEqual(other.ask(40.0, "after")["outcome"], "confirmed")
        self.assert_whole(self.mqtt, other)
        self.assertEqual([self.bess.connections, self.gateway.connections,
                          self.lone.connections], connections)
        flux.write_whole(self.beside("old.cfg"), self.text().replace('"other"', '"demo"'))
        code, out, _ = self.run_tool("write", "-c", self.beside("old.cfg"), "Site-BESS-01",
                                     "target_power", "30")
        self.assertEqual((code, json.loads(out)["detail"]),
                         (1, "held by fluxbridge of site other, process %d" % self.flux.process.pid))
        self.wait_file(self.beside("state-demo.db"), False)

        self.flux.kill()
        since = other.mark()
        self.flux = self.bridge(self.text())
        other.wait("Site-BESS-01/control", lambda m: m.payload and
                   (m.json["lease"] or {}).get("value") == 40.0, since=since)
        since = other.mark()
        other.command(40.0, "after")
        self.assertTrue(other.outcome("after", since=since).get("duplicate"))

    def test_another_site_while_the_broker_is_away(self):
        """What waits is told under the name that the bridge has when it is told."""
        self.rig(spool={"path": self.beside("spool.db")})
        self.next_sample("PV")
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker")
        with self.lone.changed:
            reads = len(self.units[4].reads)
        self.lone.wait(lambda: len(self.units[4].reads) > reads + 8)
        self.groups["site"] = "other"
        self.reload()
        self.mosquitto.start()
        other = self.client(self.mosquitto, base="flux/other")
        for name in NAMES:
            other.wait_text(name + "/status", "online")
            other.wait(name + "/backfill")
        self.assert_whole(self.mqtt, other, late=True)
        self.assertEqual(self.mqtt.on("PV/backfill", self.since), [])
        self.assertEqual(other.ask(5.0, "there")["outcome"], "confirmed")

    def test_a_command_that_arrives_as_the_site_changes(self):
        """What was sent under the old name is answered, once; nothing is written twice."""
        self.rig()
        other = self.rename()
        self.bess.hold(lambda: self.mqtt.command(60.0, "slow"))
        self.reload(answer="info: reload: site is changed: ")
        self.bess.release()
        self.flux.wait_log("info: reloaded level=debug$", since=0)
        other.wait_text("Site-BESS-01/status", "online")
        self.assertEqual(other.ask(60.0, "fence")["outcome"], "confirmed")
        told = [m.json for client in (self.mqtt, other) for m in client.on(RESULT)
                if m.payload and m.json["id"] == "slow"]
        self.assertEqual([outcome["outcome"] for outcome in told], ["confirmed"])

    # ---- another spool ----

    def fill_spool(self):
        """The broker is away, and some of what was taken since is on disk."""
        self.next_sample("PV")
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker")
        with self.lone.changed:
            reads = len(self.units[4].reads)
        self.lone.wait(lambda: len(self.units[4].reads) > reads + 20)

    def test_another_spool(self):
        """What waits goes with it, and so do leases; the old place is free."""
        os.mkdir(self.beside("there"))
        self.rig(spool={"path": self.beside("spool.db")})
        self.fill_spool()
        self.groups["spool"] = {"path": self.beside("there", "spool.db")}
        self.reload(answer="info: the spool was moved path=.*/there/spool.db saved=[1-9][0-9]* lost=0")
        self.wait_file(self.beside("spool.db"), False)
        self.wait_file(self.beside("state-demo.db"), False)
        self.wait_file(self.beside("there", "state-demo.db"))
        self.mosquitto.start()
        for name in NAMES:
            self.mqtt.wait(name + "/backfill")
            self.mqtt.wait(name + "/state", since=self.since)
        self.assert_whole(self.mqtt, late=True)
        self.assertEqual(json.loads(self.mqtt.wait("bridge/health", since=self.since).payload)
                         ["drops"], 0)
        # And back: what it was before is nobody's now.
        self.groups["spool"] = {"path": self.beside("spool.db")}
        self.reload()
        self.wait_file(self.beside("there", "spool.db"), False)
        self.next_sample("PV")
        self.assert_whole(self.mqtt, late=True)

    def drops(self):
        return json.loads(self.mqtt.wait("bridge/health", since=self.mqtt.mark()).payload)["drops"]

    def test_a_spool_comes_and_goes(self):
        """What waits in memory goes to it as it comes; what waits in it is sent before it goes."""
        spool, state = self.beside("spool.db"), self.beside("state-demo.db")
        os.mkdir(self.beside("log"))
        self.rig(audit={"path": self.beside("log", "audit.jsonl")})
        self.fill_spool()
        self.groups["spool"] = {"path": spool}
        self.reload(answer="info: reload: spool is on: what waits is kept in the file$")
        self.wait_file(state)
        self.wait_file(self.beside("log", "state-demo.db"), False)
        with self.lone.changed:
            reads = len(self.units[4].reads)
        self.lone.wait(lambda: len(self.units[4].reads) > reads + 20)
        self.groups.pop("spool")
        self.reload_until_taken()
        self.flux.wait_log("warning: the spool goes once what waits in it is sent path=.*/spool.db "
                           "samples=[1-9][0-9]*$")
        self.wait_file(state, False)
        self.assertTrue(os.path.exists(spool))
        self.mosquitto.start()
        self.wait_file(spool, False)
        self.flux.wait_log("info: the spool has gone: it was empty path=.*/spool.db$")
        for name in NAMES:
            self.mqtt.wait(name + "/backfill")
            self.mqtt.wait(name + "/state", since=self.since)
        self.assert_whole(self.mqtt, late=True)
        self.assertEqual(self.drops(), 0)
        # And again.
        self.groups["spool"] = {"path": spool}
        self.reload_until_taken()
        self.wait_file(spool)
        self.fill_spool()
        self.mosquitto.start()
        self.assert_whole(self.mqtt, late=True)
        self.assertEqual(self.drops(), 0)

    def test_a_spool_goes_and_the_bridge_ends(self):
        """The next run sends what is still in it, though it has none itself."""
        spool = self.beside("spool.db")
        os.mkdir(self.beside("log"))
        self.rig(spool={"path": spool}, audit={"path": self.beside("log", "audit.jsonl")})
        self.fill_spool()
        self.groups.pop("spool")
        self.reload(answer="warning: the spool goes once what waits in it is sent")
        self.wait_file(self.beside("log", "state-demo.db"))
        self.flux.stop()
        left = self.flux.wait_log("warning: samples stay in the file of the spool that was to go, ")
        n = int(re.search(" samples=([1-9][0-9]*)$", left).group(1))
        self.mosquitto.start()
        later = self.client(self.mosquitto)
        self.flux = self.bridge(self.text())
        self.wait_file(spool, False)
        self.flux.wait_log("info: the spool has gone: it was empty path=.*/spool.db$")
        late = {(name, m.json["run"], m.json["seq"]) for name in NAMES
                for m in later.on(name + "/backfill")}
        self.assertEqual(len(late), n)

    def test_what_cannot_be_used_changes_nothing(self):
        """Whoever's file it is, it stays as it is; and so does everything else."""
        self.rig(spool={"path": self.beside("spool.db")})
        os.mkdir(self.beside("there"))
        flux.write_whole(self.beside("theirs"), "mine")
        with sqlite3.connect(self.beside("there", "state-demo.db")) as file:
            file.execute("CREATE TABLE t (x)")
        here = sorted(os.listdir(self.directory))
        good = self.groups
        for groups, why in (
                ({"spool": {"path": self.beside("theirs")}},
                 "spool.path cannot be used: it is another program's file: .*/theirs"),
                ({"spool": {"path": self.beside("there", "spool.db")}},
                 "the state file, .*it is another program's file: .*/there/state-demo.db"),
                ({"spool": {"path": self.beside("nowhere", "spool.db")}},
                 "spool.path cannot be used: .*its directory must exist"),
                ({"audit": {"path": self.beside("theirs")}}, "audit.path cannot be written: ")):
            self.groups = {**good, **groups, "site": "demo"}
            self.devices["meters"][1]["poll"] = "100ms"
            self.reload(answer="the configuration is not taken over: " + why)
            self.assertEqual(sorted(os.listdir(self.directory)), here)
        self.assertEqual(os.listdir(self.beside("there")), ["state-demo.db"])
        with open(self.beside("theirs")) as file:
            self.assertEqual(file.read(), "mine")
        self.assertEqual(self.mqtt.ask(5.0, "still")["outcome"], "confirmed")
        self.assert_goes_on(*NAMES)
        self.assert_same_sessions("bridge", *NAMES)
        # Nor what an earlier run of that site has kept.
        with sqlite3.connect(self.beside("spool.db.old")) as file:
            file.execute("CREATE TABLE t (x)")
        self.groups = good
        self.devices["meters"][1]["poll"] = "200ms"
        self.reload()
        self.assert_goes_on(*NAMES)

    # ---- an audit log that comes and goes ----

    def ids(self, path):
        with open(path) as file:
            return [json.loads(line)["id"] for line in file]

    def test_an_audit_log_comes_and_goes(self):
        """With it comes and goes the file of what must survive a restart: no id is forgotten."""
        self.rig()
        state = self.beside("state-demo.db")
        self.assertEqual(self.mqtt.ask(10.0, "one")["outcome"], "confirmed")
        audit = self.groups.pop("audit")
        self.reload(answer="info: reload: audit is off: ")
        self.wait_file(state, False)
        outcome = self.mqtt.ask(20.0, "two")
        self.assertEqual((outcome["outcome"], outcome.get("audited")), ("confirmed", None), outcome)
        self.groups["audit"] = audit
        self.reload(answer="info: reload: audit is on: ")
        self.wait_file(state)
        outcome = self.mqtt.ask(30.0, "three")
        self.assertEqual((outcome["outcome"], outcome.get("audited")), ("confirmed", None), outcome)
        self.assertEqual(self.ids(self.audit), ["one", "three"])
        for name in ("one", "two", "three"):
            since = self.mqtt.mark()
            self.mqtt.command(40.0, name)
            self.assertTrue(self.mqtt.outcome(name, since=since).get("duplicate"), name)
        self.assert_goes_on(*NAMES)
        self.assert_same_sessions("bridge", *NAMES)

    def test_an_audit_log_of_another_run(self):
        """No id that is in it is carried out again, whatever this run has answered meanwhile."""
        self.rig()
        self.assertEqual(self.mqtt.ask(10.0, "one")["outcome"], "confirmed")
        with open(self.audit) as file:
            line = file.read()
        other = self.beside("other.jsonl")
        with open(other, "w") as file:
            file.write(line.replace('"id":"one"', '"id":"theirs"'))
        self.groups.pop("audit")
        self.reload(answer="info: reload: audit is off: ")
        self.assertEqual(self.mqtt.ask(20.0, "two")["outcome"], "confirmed")
        self.groups["audit"] = {"path": other}
        self.reload(answer="info: reload: audit is on: ")
        for name in ("theirs", "one", "two"):
            since = self.mqtt.mark()
            self.mqtt.command(40.0, name)
            self.assertTrue(self.mqtt.outcome(name, since=since).get("duplicate"), name)
        self.assertEqual(self.units[1].registers[flux.TARGET], 20)

    def test_a_disk_that_does_not_answer(self):
        """A new one holds neither the log that works nor whoever watches over it all."""
        self.switch = self.beside("hangs")
        disk = self.beside("disk")
        os.mkdir(disk)
        self.environment = {**self.preload(HANG + LOOKS), "DISK_HANGS": self.switch, "DISK": disk}
        self.rig()
        open(self.switch, "w").close()
        self.addCleanup(lambda: os.path.exists(self.switch) and os.unlink(self.switch))
        here = self.groups["audit"]
        self.groups["audit"] = {"path": os.path.join(disk, "audit.jsonl")}
        self.reload(answer="not taken over: the disk of the files that it names does not answer")
        outcome = self.mqtt.ask(30.0, "still")
        self.assertEqual((outcome["outcome"], outcome.get("audited")), ("confirmed", None), outcome)
        self.reload(answer="not taken over: the disk that an earlier reload asked does not answer")
        self.groups["audit"] = here
        os.unlink(self.switch)
        self.reload()
        self.groups["audit"] = {"path": os.path.join(disk, "audit.jsonl")}
        self.reload_until_taken()  # the first one comes back
        self.assertEqual(self.mqtt.ask(35.0, "there")["outcome"], "confirmed")
        self.assertEqual(self.ids(os.path.join(disk, "audit.jsonl")), ["there"])

    # ---- killed at any moment ----

    def hang_state(self, source):
        """As long as there is a file `switch` some of what is written to a state file hangs."""
        self.switch = self.beside("hangs")
        self.environment = {**self.preload(HANG + source), "DISK_HANGS": self.switch}

    def let_go(self):
        if os.path.exists(self.switch):
            os.unlink(self.switch)

    def assert_duplicate(self, name):
        since = self.mqtt.mark()
        self.mqtt.command(40.0, name)
        self.assertTrue(self.mqtt.outcome(name, since=since).get("duplicate"), name)

    def test_a_kill_as_the_log_has_moved(self):
        """However little of the state has come to the disk since: no id is executed again."""
        self.hang_state(STATE_SYNC)
        self.rig()
        self.assertEqual(self.mqtt.ask(10.0, "one")["outcome"], "confirmed")
        open(self.switch, "w").close()
        self.addCleanup(self.let_go)
        self.groups["audit"] = {"path": self.beside("second.jsonl")}
        self.reload()
        self.flux.kill()
        self.let_go()
        since = self.mqtt.mark()
        self.flux = self.bridge(self.text(), self.environment)
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=since)
        self.assert_duplicate("one")
        # Nor when the log is another one without a reload.
        self.assertEqual(self.mqtt.ask(20.0, "two")["outcome"], "confirmed")
        self.flux.kill()
        self.groups["audit"] = {"path": self.beside("third.jsonl")}
        since = self.mqtt.mark()
        self.flux = self.bridge(self.text(), self.environment)
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=since)
        self.assert_duplicate("one")
        self.assert_duplicate("two")
        self.assertEqual([w.values for w in self.units[1].writes], [[10], [20]])

    def test_what_a_kill_would_cost_is_not_taken_over(self):
        """Before where the spool was is on disk nothing moves."""
        self.hang_state(STATE_SYNC)
        self.rig(spool={"path": self.beside("spool.db")})
        open(self.switch, "w").close()
        self.addCleanup(self.let_go)
        self.groups["spool"] = {"path": self.beside("second.db")}
        self.reload(answer="not taken over: the disk of the state file does not take it")
        self.assertTrue(os.path.exists(self.beside("spool.db")))
        self.assertFalse(os.path.exists(self.beside("second.db")))
        self.next_sample("PV")
        self.let_go()
        self.reload_until_taken()
        self.wait_file(self.beside("second.db"))
        self.wait_file(self.beside("spool.db"), False)
        self.assert_goes_on(*NAMES)

    def test_a_state_that_does_not_come_where_it_is_to_go(self):
        """Nothing is taken over, nobody is kept from a stop, and it comes back to where it was."""
        self.hang_state(STATE_THERE)
        os.mkdir(self.beside("there"))
        self.rig(spool={"path": self.beside("spool.db")})
        self.assertEqual(self.mqtt.ask(10.0, "one")["outcome"], "confirmed")
        open(self.switch, "w").close()
        self.addCleanup(self.let_go)
        self.groups["spool"] = {"path": self.beside("there", "spool.db")}
        self.reload(answer="not taken over: the disk of the state file does not take it")
        self.assertEqual(self.mqtt.ask(0.0, "stop")["outcome"], "confirmed")
        self.let_go()
        self.wait_file(self.beside("there", "state-demo.db"), False)
        self.wait_file(self.beside("state-demo.db"))
        self.assert_goes_on(*NAMES)
        self.reload_until_taken()
        self.wait_file(self.beside("there", "state-demo.db"))
        self.wait_file(self.beside("state-demo.db"), False)
        self.assert_duplicate("one")

    # ---- what was said is what is done ----

    def compare(self, change, restarts=(), sessions=False):
        """`check --against` says what the reload then says and does; `restarts` are the devices
        that begin anew."""
        old = self.beside("old.cfg")
        flux.write_whole(old, self.text())
        change()
        flux.write_whole(self.beside("new.cfg"), self.text())
        code, out, err = self.run_tool("check", "-c", self.beside("new.cfg"), "-a", old)
        self.assertEqual((code, err), (0, ""))
        foretold = [line for line in out.splitlines() if line.startswith("reload: ")]
        self.assertNotEqual(foretold, [])
        since = len(self.flux.log())
        self.reload()
        told = [line[line.index("reload: "):] for line in self.flux.log()[since:].splitlines()
                if ": reload: " in line]
        self.assertEqual(told, foretold)
        # A message that is on its way to us is here before what is asked now is answered.
        self.mqtt.ask(1.0, "fence", device="nobody", point="x")
        for name in NAMES:
            if name in restarts or sessions:
                self.mqtt.wait_text(name + "/status", "online", since=self.since)
            else:
                self.assertEqual(self.mqtt.on(name + "/status", self.since), [], (name, told))
        self.assertEqual(any("offline" == m.text for m in
                             self.mqtt.on("bridge/status", self.since)), sessions, told)

    def test_check_says_what_a_reload_does(self):
        self.rig(spool={"path": self.beside("spool.db")})
        os.mkdir(self.beside("there"))
        meters, groups = self.devices["meters"], self.groups
        self.compare(lambda: meters[1].update(poll="100ms"), restarts=["Load"])
        self.compare(lambda: meters[2].update(longest_silence="10m"), restarts=["PV"])
        self.compare(lambda: self.devices["bess"][0]["control"].update(max_kw=200.0),
                     restarts=["Site-BESS-01"])
        self.compare(lambda: meters.append(flux.meter(self.lone, "New", address=4)))
        self.compare(meters.pop)
        self.compare(lambda: self.devices["bess"].append(
            flux.battery(self.lone, "Second", address=5)), restarts=["PV"])
        self.compare(lambda: groups.update(home_assistant={"enabled": False}))
        self.compare(lambda: groups.update(sparkplug={"enabled": True}))
        self.compare(lambda: groups.update(sparkplug={"enabled": False}))
        self.compare(lambda: groups.update(
            http={"listen": "127.0.0.1:%d" % self.place().port}))
        self.compare(lambda: groups.update(audit={"path": self.beside("second.jsonl")}))
        self.compare(lambda: groups.pop("audit"))
        self.compare(lambda: groups.update(audit={"path": self.audit}))
        self.compare(lambda: groups["spool"].update(max_size="1MiB"))
        self.compare(lambda: groups["spool"].update(path=self.beside("there", "spool.db")))
        self.compare(lambda: groups.update(mqtt={"url": "mqtt://127.0.0.1:%d" % self.mosquitto.port,
                                                 "reconnect_spread": "0s", "keepalive": "20s"}),
                     sessions=True)
        self.compare(lambda: groups.pop("spool"))

    # ---- one after the other ----

    def end_session(self):
        """Another client has the bridge's id for a moment."""
        since = self.flux.mark()
        rival = flux.mqtt_client("fluxbridge-demo", protocol=mqtt.MQTTv5)
        rival.connect(self.mosquitto.host, self.mosquitto.port)
        rival.loop_start()
        self.flux.wait_log("no session with the broker", since=since)
        rival.disconnect()
        rival.loop_stop()
        self.flux.wait_log("the broker is back", since=since)

    def test_a_storm(self):
        """Reloads, commands and sessions that are lost: no command is written or answered
        twice or not at all, a lease that nobody touches goes on, and no sample is missing."""
        self.rig(spool={"path": self.beside("spool.db")})
        control = self.devices["bess"][0]["control"]
        control["deadman"] = {"timeout": "1h", "value": 0.0}
        self.reload()
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=self.since)
        values = [float(10 + i) for i in range(12)]
        writes = self.bess.n_writes()
        spools = [self.beside("spool.db"), self.beside("second.db")]
        audits = [self.audit, self.beside("second.jsonl")]
        text = self.text()
        for i, value in enumerate(values):
            self.devices["meters"][1]["poll"] = "%dms" % (100 + 10 * (i % 3))
            self.groups["spool"] = {"path": spools[i % 2], "max_size": "%dMiB" % (1 + i % 2)}
            self.groups["audit"] = {"path": audits[i // 2 % 2]}
            before, text = text, self.text()
            for each in (text, before, text):
                flux.write_whole(self.flux.config, each)
                self.flux.signal(signal.SIGHUP)
                self.mqtt.command(value, "storm-%d" % i)
            self.mqtt.wait(RESULT, lambda m, i=i: m.json["id"] == "storm-%d" % i and
                           m.json["outcome"] == "confirmed")
            if i % 4 == 3:
                self.end_session()
        self.reload(text)
        self.assertEqual(self.mqtt.ask(99.0, "last")["outcome"], "confirmed")
        first = [m.json["id"] for m in self.mqtt.on(RESULT)
                 if m.json["outcome"] == "confirmed" and not m.json.get("duplicate")]
        self.assertEqual(sorted(set(first)), sorted(set(first + ["storm-%d" % i
                                                                 for i in range(len(values))])))
        written = [w for w in self.units[1].writes]
        self.assertEqual(self.bess.n_writes(), writes + len(values) + 1, written)
        self.assert_whole(self.mqtt)


if __name__ == "__main__":
    flux.main()
