"""SIGHUP takes over a whole configuration: all of it or nothing, and what it does not
change goes on as if nothing had been."""

import hashlib
import json
import os
import urllib.request

import flux
from flux import RESULT
from preloaded import REAL
from reload_rig import METER, Rig

# There is the file $NOTED once core dumps are forbidden.
LIMITS = REAL + r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    if (resource == RLIMIT_CORE && limit->rlim_max == 0)
        close(open(getenv("NOTED"), O_CREAT | O_WRONLY, 0600));
    return REAL(int, "setrlimit", __rlimit_resource_t, const struct rlimit *)(resource, limit);
}
"""


class Reload(Rig):
    def test_a_device_comes_and_goes(self):
        self.rig()
        connections = [self.bess.connections, self.gateway.connections]
        added = flux.meter(self.lone, "New", address=4)
        self.devices["meters"].append(added)
        self.reload()
        self.mqtt.wait_text("New/status", "online", since=self.since)
        self.mqtt.wait("New/info", lambda m: m.json["name"] == "New", since=self.since)
        self.mqtt.wait("/homeassistant/device/fluxbridge-demo-id-New/config", lambda m: m.payload != b"",
                       since=self.since)
        self.assertEqual(self.mqtt.wait("bridge/info", since=self.since).json["devices"],
                         ["Site-BESS-01", METER, "Load", "PV", "New"])
        self.next_sample("New")
        self.assertEqual(self.samples("New")[0][1], 1)
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV", "New")
        self.assert_same_sessions("bridge", "Site-BESS-01", METER, "Load", "PV")

        self.devices["meters"].remove(added)
        self.reload()
        for topic in ("New/status", "New/info", "New/state",
                      "/homeassistant/device/fluxbridge-demo-id-New/config"):
            self.mqtt.wait_text(topic, "", since=self.since)
        self.assertEqual(self.mqtt.wait("bridge/info", since=self.since).json["devices"],
                         ["Site-BESS-01", METER, "Load", "PV"])
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")
        self.assertEqual(self.mqtt.ask(1, "late", device="New", point="x")["reason"], "unknown_device")
        retained = self.client(self.mosquitto)
        retained.wait("bridge/info")
        self.assertEqual([m.topic for m in retained.messages if "/New/" in m.topic], [])

        # It goes on where it was: a number is never given twice in a run.
        last = self.samples("New")[-1][1]
        self.devices["meters"].append(added)
        self.reload()
        self.mqtt.wait_text("New/status", "online", since=self.since)
        self.next_sample("New")
        first = self.mqtt.on("New/state", self.since)
        first = [m.json["seq"] for m in first if m.payload]
        self.assertEqual(first[0], last + 1)
        self.assertEqual([self.bess.connections, self.gateway.connections], connections)


    def test_a_changed_device_begins_anew_and_its_neighbour_does_not(self):
        """Both are behind one gateway, on one connection."""
        self.rig()
        connections = self.gateway.connections
        self.devices["meters"][1]["poll"] = "100ms"
        self.reload()
        self.mqtt.wait_text("Load/status", "online", since=self.since)
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")
        self.assert_same_sessions("bridge", "Site-BESS-01", METER, "PV")
        self.assertEqual(self.gateway.connections, connections)

    def test_a_changed_device_that_is_being_asked(self):
        """Its answer comes first: hanging up would cost its neighbour the connection."""
        self.rig()
        connections = self.gateway.connections
        held = False
        while not held:  # until it is this one that waits
            with self.gateway.changed:
                asked = len(self.units[3].reads)
                self.gateway.hold()
                held = len(self.units[3].reads) > asked
            if not held:
                self.gateway.release()
        self.devices["meters"][1]["poll"] = "100ms"
        self.reload(answer="info: reload: device Load is changed: ")
        self.gateway.release()
        self.flux.wait_log("info: reloaded level=debug$")
        self.mqtt.wait_text("Load/status", "online", since=self.since)
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")
        self.assert_same_sessions("bridge", "Site-BESS-01", METER, "PV")
        self.assertEqual(self.gateway.connections, connections)

    def test_a_lease_and_a_command_under_way(self):
        """The battery is not touched: what it holds it holds, and for as long."""
        self.rig()
        self.devices["bess"][0]["control"]["deadman"] = {"timeout": flux.patient(3), "value": 0.0}
        self.devices["bess"][0]["control"]["on_exit"] = "fallback"
        self.devices["bess"][0]["modbus"]["timeout"] = "1m"  # a reload is quicker
        self.reload()
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(50.0, "held")["outcome"], "confirmed")
        del self.devices["meters"][2]
        self.bess.hold(lambda: self.mqtt.command(60.0, "slow"))
        writes = self.bess.n_writes()
        self.reload()
        self.assertEqual(self.mqtt.ask(60.0, "slow")["reason"], "duplicate")  # not forgotten
        self.bess.release()
        self.assertEqual(self.mqtt.outcome("slow", since=self.since)["reason"], "duplicate")
        self.mqtt.wait(RESULT, lambda m: m.json["id"] == "slow" and
                       m.json["outcome"] == "confirmed")
        self.assertEqual(self.bess.n_writes(), writes + 1)
        self.assertEqual(self.mqtt.wait(RESULT, lambda m: m.json.get("source") == "deadman")
                         .json["outcome"], "confirmed")
        self.assert_goes_on("Site-BESS-01")

    def test_a_battery_that_is_removed_is_left_as_on_exit_says(self):
        self.rig()
        control = self.devices["bess"][0]["control"]
        control["deadman"] = {"timeout": "60s", "value": 10.0}
        control["on_exit"] = "fallback"
        self.reload()
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(50.0, "held")["outcome"], "confirmed")
        self.devices["bess"] = []
        self.reload()
        own = self.mqtt.wait(RESULT, lambda m: m.json["id"] != "held", since=self.since).json
        self.assertEqual((own["value"], own["outcome"]), (10.0, "confirmed"))
        with self.bess.changed:
            self.assertEqual(self.units[1].registers[flux.TARGET], 10)
        self.mqtt.wait_text("Site-BESS-01/status", "", since=self.since)
        self.assertEqual(self.mqtt.ask(1.0, "late")["reason"], "unknown_device")
        self.assert_goes_on(METER, "Load", "PV")

    def test_a_battery_that_is_commanded_no_more(self):
        """Nobody is to read for ever what its lease and its schedule were then."""
        self.rig()
        for leaf in ("control", "schedule"):
            self.mqtt.wait("Site-BESS-01/" + leaf, lambda m: m.payload)
        control = self.devices["bess"][0].pop("control")
        self.reload()
        for leaf in ("control", "schedule"):
            self.mqtt.wait_text("Site-BESS-01/" + leaf, "", since=self.since)
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(1.0, "late")["reason"], "not_writable")
        self.devices["bess"][0]["control"] = control
        self.reload()
        for leaf in ("control", "schedule"):
            self.mqtt.wait("Site-BESS-01/" + leaf, lambda m: m.payload, since=self.since)
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(5.0, "again")["outcome"], "confirmed")

    def test_another_id(self):
        """The document of the former one is cleared, but for one that another device has now."""
        self.rig()
        grid, load = self.devices["meters"][:2]
        topic = "/homeassistant/device/fluxbridge-demo-%s/config"
        for meter in (grid, load):
            self.mqtt.wait(topic % meter["id"], lambda m: m.payload)
        former, grid["id"] = grid["id"], "other"
        self.reload()
        self.mqtt.wait(topic % former, lambda m: not m.payload, since=self.since)
        self.mqtt.wait(topic % "other", lambda m: m.payload, since=self.since)
        grid["id"], load["id"], load["name"] = load["id"], grid["id"], "Lord"
        self.reload()
        for meter in (grid, load):
            self.mqtt.wait(topic % meter["id"], lambda m: '"%s"' % meter["name"] in m.text,
                           since=self.since)
        self.mqtt.wait_text("Load/status", "", since=self.since)  # comes after documents
        for meter in (grid, load):
            self.assertTrue(all(m.payload for m in self.mqtt.on(topic % meter["id"], self.since)))

    def test_limits_that_change_while_a_lease_runs(self):
        """The device is changed: `hold` leaves it as it is, and its lease goes on."""
        self.rig()
        control = self.devices["bess"][0]["control"]
        control["deadman"] = {"timeout": flux.patient(4), "value": 0.0}
        self.reload()
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(50.0, "held")["outcome"], "confirmed")
        control["max_kw"] = 40.0
        self.reload()
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(50.0, "more")["reason"], "out_of_range")
        self.mqtt.command(50.0, "held")
        self.mqtt.wait(RESULT, lambda m: m.json["id"] == "held" and m.json.get("duplicate"))
        with self.bess.changed:
            self.assertEqual(self.units[1].registers[flux.TARGET], 50)
        self.assertEqual(self.mqtt.wait(RESULT, lambda m: m.json.get("source") == "deadman")
                         .json["outcome"], "confirmed")

    def test_a_stop_while_its_battery_begins_anew(self):
        """It is carried out, as soon as that can be: nobody has to send it again."""
        self.rig()
        bess = self.devices["bess"][0]
        bess["poll"] = "10m"  # what is asked is asked for a command
        self.reload()
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(50.0, "held")["outcome"], "confirmed")
        self.bess.hold(lambda: self.mqtt.command(60.0, "slow"))
        bess["control"]["max_kw"] = 100.0
        self.reload(answer="info: reload: device Site-BESS-01 is changed")
        self.mqtt.command(0, "stop")
        self.assertEqual(self.mqtt.ask(10.0, "late")["reason"], "shutting_down")
        self.bess.release()
        self.mqtt.wait(RESULT, lambda m: m.json["id"] == "stop" and
                       m.json["outcome"] == "confirmed")
        self.assertNotIn("refused", [m.json["outcome"] for m in self.mqtt.on(RESULT)
                                     if m.json["id"] == "stop"])
        with self.bess.changed:
            self.assertEqual(self.units[1].registers[flux.TARGET], 0)

    def test_what_is_bad_changes_nothing(self):
        self.rig()
        self.devices["meters"][0]["poll"] = "1s"
        self.devices["meters"][1]["type"] = "no-such-type"
        self.reload(answer="the configuration is not taken over problems=1")
        self.flux.wait_log("fluxbridge.cfg:[0-9]+: no profile for type 'no-such-type'")
        self.reload("site = ", answer="the configuration is not taken over")
        self.reload('@include "/"\n', answer="the configuration is not taken over")
        self.devices["meters"][1]["type"] = "acuvim2"
        many = [flux.meter(self.lone, "M%d" % i, address=10 + i) for i in range(100)]
        self.devices["meters"] += many
        self.reload(answer="the configuration is not taken over: needs a restart: there are [0-9]+ "
                           "devices more than this run has room for")
        del self.devices["meters"][-len(many):]
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")
        self.assertEqual(self.mqtt.on(METER + "/status", self.since), [])
        self.reload()  # now it is good: this alone is changed
        self.mqtt.wait_text(METER + "/status", "online", since=self.since)

    def with_mqtt(self, **mqtt):
        return flux.config(self.mosquitto, self.devices["bess"], self.devices["meters"],
                           **{**self.groups, "mqtt": mqtt})

    def test_a_login_that_cannot_be(self):
        """Is refused: the sessions that there are would end, and none would begin."""
        self.rig()
        password, junk = (os.path.join(self.directory, name) for name in ("password", "junk"))
        flux.write_whole(junk, "no certificate")
        login = {"username": "demo", "password_file": password}
        self.reload(self.with_mqtt(**login),
                    answer="the configuration is not taken over: password_file: No such file or "
                           "directory file=%s$" % password)
        self.reload(self.with_mqtt(url="mqtts://127.0.0.1:1", tls={"ca_file": junk}),
                    answer="the configuration is not taken over: ca_file: ")
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")
        self.assert_same_sessions("bridge", "Site-BESS-01", METER, "Load", "PV")
        flux.write_whole(password, "secret")
        os.chmod(password, 0o600)
        self.reload(self.with_mqtt(**login))
        self.mqtt.wait_text("bridge/status", "online", since=self.since)

    def test_a_page_that_cannot_be(self):
        """Is refused: what is served would be so no more."""
        port = self.place().port
        self.rig(http={"listen": "127.0.0.1:%d" % port})
        self.devices["meters"][0]["poll"] = "1s"
        for listen, why in (("127.0.0.1:%d" % self.mosquitto.port, "Address already in use"),
                            ("192.0.2.1:%d" % port, "Cannot assign requested address")):
            self.groups["http"] = {"listen": listen}
            self.reload(answer="the configuration is not taken over: http cannot listen: %s "
                               "listen=%s$" % (why, listen))
            urllib.request.urlopen("http://127.0.0.1:%d/healthz" % port).close()
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")
        self.assertEqual(self.mqtt.on(METER + "/status", self.since), [])
        self.groups["http"] = {"listen": "127.0.0.2:%d" % port}
        self.reload()
        urllib.request.urlopen("http://127.0.0.2:%d/healthz" % port).close()

    def test_a_device_whose_certificates_are_missing(self):
        """Is refused: what it has now would be left, and no connection be made."""
        path = os.path.join(self.directory, "ca.pem")
        self.rig()
        self.devices["meters"][2]["modbus"]["tls"] = {"ca_file": path}
        self.reload(answer="the configuration is not taken over: device PV: %s: No such file or "
                           "directory$" % path)
        self.assert_goes_on("PV")
        self.assert_same_sessions("PV")

    def test_home_assistant_goes_and_comes(self):
        """With another prefix too: what it was told is cleared, and nothing else is touched."""
        self.rig()
        documents = ["homeassistant/device/fluxbridge-demo-id-%s/config" % name
                     for name in ("Site-BESS-01", METER)]
        for topic in documents:
            self.mqtt.wait("/" + topic, lambda m: m.payload)
        counters = self.mqtt.wait("Site-BESS-01/state").json["data"]
        self.assertIn("energy_charged_integrated", counters)

        self.groups["home_assistant"] = {"enabled": False}
        self.reload()
        for topic in documents:
            self.mqtt.wait("/" + topic, lambda m: not m.payload, since=self.since)
        self.mqtt.wait("Site-BESS-01/state", lambda m: "energy_charged_integrated" not in m.json["data"],
                       since=self.since)

        self.groups["home_assistant"] = {"enabled": True, "prefix": "ha"}
        self.reload()
        for topic in documents:
            self.mqtt.wait("/" + topic.replace("homeassistant", "ha"), lambda m: m.payload)
        self.mqtt.wait("Site-BESS-01/state", lambda m: "energy_charged_integrated" in m.json["data"],
                       since=self.since)

        self.groups["home_assistant"] = {"enabled": True}
        self.reload()
        for topic in documents:
            self.mqtt.wait("/" + topic.replace("homeassistant", "ha"), lambda m: not m.payload,
                           since=self.since)
            self.mqtt.wait("/" + topic, lambda m: m.payload, since=self.since)
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")
        self.assert_same_sessions("bridge", "Site-BESS-01", METER, "Load", "PV")

    def test_the_checksum_is_that_of_the_files(self):
        """Includes in their places; a comment alone changes it, and nothing else."""
        self.rig()
        part = os.path.join(self.directory, "part.cfg")
        flux.write_whole(part, 'log = { level = "debug"; };')
        level = 'log = {\n  level = "debug";\n};'
        text = self.text()
        self.assertIn(level, text)
        before, after = text.split(level)
        self.reload(before + '@include "part.cfg"' + after)
        whole = hashlib.sha256((before + 'log = { level = "debug"; };' + after).encode())
        self.mqtt.wait("bridge/info", lambda m: m.json["config_sha256"] == whole.hexdigest(),
                       since=self.since)
        self.reload("# checked\n" + text)
        whole = hashlib.sha256(("# checked\n" + text).encode())
        self.mqtt.wait("bridge/info", lambda m: m.json["config_sha256"] == whole.hexdigest(),
                       since=self.since)
        _, out, _ = self.run_tool("check", "-c", self.flux.config, "--json")
        self.assertEqual(json.loads(out)["config_sha256"], whole.hexdigest())
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")
        self.assert_same_sessions("bridge", "Site-BESS-01", METER, "Load", "PV")

    def test_a_secret_that_comes(self):
        """From then on there is no core dump of the bridge, whoever it is a secret of."""
        noted, token = (os.path.join(self.directory, name) for name in ("noted", "token"))
        flux.write_whole(token, "a-token-that-is-long-enough-to-be-one")
        os.chmod(token, 0o600)
        self.environment = {**self.preload(LIMITS), "NOTED": noted}
        self.rig(http={"listen": "127.0.0.1:%d" % self.place().port, "page": True})
        self.assertFalse(os.path.exists(noted))
        self.groups["http"]["token_file"] = token
        self.reload()
        self.assertTrue(os.path.exists(noted))

    def test_check_says_what_a_reload_would_do(self):
        self.rig()
        old = os.path.join(self.directory, "old.cfg")
        flux.write_whole(old, self.text())
        self.devices["meters"][0]["poll"] = "1s"
        self.devices["meters"][1]["name"] = "Lord"
        self.groups["spool"] = {"path": self.audit + ".db"}
        self.groups["log"] = {"level": "info"}
        flux.write_whole(self.flux.config, self.text())
        code, out, err = self.run_tool("check", "-c", self.flux.config, "--against", old)
        self.assertEqual((code, err), (0, ""))
        said = [line for line in out.splitlines() if line.startswith("reload: ")]
        self.assertEqual(said, [
            "reload: spool is on: what waits is kept in the file", "reload: log is changed",
            "reload: device Grid-Meter is changed: on_exit is carried out, and it begins anew",
            "reload: device Load is removed: on_exit is carried out, and its topics are cleared",
            "reload: device Lord is added"])
        code, out, err = self.run_tool("check", "-c", old, "-a", old, "--json")
        self.assertEqual((code, json.loads(out)["reload"]), (0, []))
        code, out, err = self.run_tool("check", "-c", old, "-a", "/nowhere")
        self.assertEqual(code, 1)
        self.assertIn("reload: what it would do is not known", out)

    def test_another_prefix(self):
        """The sessions end and begin; what was retained under the old one is cleared."""
        self.rig()
        other = self.client(self.mosquitto, base="other/demo")
        text = flux.config(self.mosquitto, self.devices["bess"], self.devices["meters"],
                           mqtt={"prefix": "other"}, **self.groups)
        self.reload(text)
        for name in ("bridge", "Site-BESS-01", METER, "Load", "PV"):
            other.wait_text(name + "/status", "online")
            self.mqtt.wait_text(name + "/status", "", since=self.since)
        self.assertEqual(other.ask(5.0, "there")["outcome"], "confirmed")
        live = self.samples(METER)
        there = [m.json["seq"] for m in other.on(METER + "/state")] + \
                [m.json["seq"] for m in other.on(METER + "/backfill")]
        self.assertTrue(set(range(live[-1][1] + 1, max(there) + 1)) <= set(there), there)

    def test_a_late_will_under_the_former_prefix(self):
        """The broker sends it when it has long been cleared."""
        self.rig(mqtt={"keepalive": "5s"})
        self.reload(flux.config(self.mosquitto, self.devices["bess"], self.devices["meters"],
                                **{**self.groups, "mqtt": {"keepalive": "5s", "prefix": "other"}}))
        self.mqtt.wait_text(METER + "/status", "", since=self.since)
        since = self.mqtt.mark()
        self.mqtt.publish(METER + "/status", "offline", retain=True)
        self.mqtt.wait_text(METER + "/status", "", since=since)

    def test_a_meter_that_takes_commands_gets_a_thread_of_its_own(self):
        """And a link that is no more ends its poller; one that comes begins one."""
        self.rig()
        self.devices["bess"].append(flux.battery(self.lone, "Second", address=5))
        self.reload()
        self.flux.wait_log("info: reload: device PV gets a thread of its own: it begins anew")
        self.mqtt.wait_text("Second/status", "online", since=self.since)
        self.mqtt.wait_text("PV/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(7.0, "second", device="Second")["outcome"], "confirmed")
        self.devices["bess"] = [flux.battery(self.lone, "Third", address=5)]
        self.reload()
        self.mqtt.wait_text("Second/status", "", since=self.since)
        self.mqtt.wait_text("Third/status", "online", since=self.since)
        self.assertEqual(self.mqtt.ask(8.0, "third", device="Third")["outcome"], "confirmed")
        self.assertEqual(self.mqtt.ask(8.0, "gone", device="Second")["reason"], "unknown_device")
        self.assert_goes_on(METER, "Load", "PV")

    def test_while_the_broker_is_away(self):
        """What was sampled before and after is all there when it is back."""
        self.rig(spool={"path": os.path.join(self.directory, "spool.db")})
        self.next_sample("PV")
        last = self.samples("PV")[-1][1]
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker")
        removed = self.devices["meters"].pop()
        self.devices["meters"][0]["poll"] = "100ms"
        with self.lone.changed:
            reads = len(self.units[4].reads)
        self.lone.wait(lambda: len(self.units[4].reads) > reads + 8)  # two scans at least
        self.reload()
        self.devices["meters"].append({**removed, "name": "Other", "id": "other"})
        self.reload()
        self.mosquitto.start()
        self.mqtt.wait_text("Other/status", "online", since=self.since)
        self.mqtt.wait("PV/backfill", lambda m: m.json["seq"] == last + 1)
        self.mqtt.wait(METER + "/state", since=self.since)
        for name in (METER, "Load"):
            live = {m.json["seq"] for m in self.mqtt.on(name + "/state", self.since) if m.payload}
            self.mqtt.wait(name + "/backfill", lambda m: m.json["seq"] + 1 in live)
            late = [m.json["seq"] for m in self.mqtt.on(name + "/backfill")]
            # From the first that the broker had not acknowledged before it went.
            first, last = min(late), max(live)
            self.assertEqual(set(range(first, last + 1)) - live - set(late), set(), name)

    def test_sparkplug_and_the_page(self):
        """The node is born anew with the device; the page has it at once."""
        place = self.place()
        self.rig(sparkplug={"enabled": True}, http={"listen": "127.0.0.1:%d" % place.port})
        host = self.client(self.mosquitto, subscribe=("/spBv1.0/#",))
        stream = urllib.request.urlopen("http://127.0.0.1:%d/api/events" % place.port,
                                        timeout=flux.DEADLINE_S)
        self.addCleanup(stream.close)
        self.devices["meters"].append(flux.meter(self.lone, "New", address=4))
        self.reload()
        host.wait("/spBv1.0/flux/NBIRTH/demo")
        host.wait("/spBv1.0/flux/DBIRTH/demo/New")
        for line in stream:  # one that was opened before
            if b'"device":"New"' in line:
                break
        with urllib.request.urlopen("http://127.0.0.1:%d/api/state" % place.port) as answer:
            names = [device["name"] for device in json.load(answer)["devices"]]
        self.assertEqual(names, ["Site-BESS-01", METER, "Load", "PV", "New"])
        # Another port: the page is there, and nothing else has noticed.
        other = self.place()
        self.groups["http"] = {"listen": "127.0.0.1:%d" % other.port}
        self.reload()
        urllib.request.urlopen("http://127.0.0.1:%d/healthz" % other.port).close()
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV", "New")

    def set_voltage(self, volts):
        self.units[2].registers.update(flux.registers(0, flux.float_words(volts)))

    def test_the_sparkplug_node_comes_is_renamed_and_goes(self):
        """Each time its own session alone ends and begins; JSON and the devices do not notice."""
        self.rig()
        host = self.client(self.mosquitto, subscribe=("/spBv1.0/#",))
        self.devices["meters"][2]["longest_silence"] = "1h"  # it has nothing new to say
        self.reload()
        self.mqtt.wait("PV/state", lambda m: m.payload, since=self.since)
        self.mqtt.wait_text("PV/status", "online", since=self.since)
        self.groups["sparkplug"] = {"enabled": True}
        self.reload(answer="info: reload: sparkplug is on: the node is born$")
        host.wait("/spBv1.0/flux/NBIRTH/demo")
        for name in ("Site-BESS-01", METER, "Load", "PV"):
            host.wait("/spBv1.0/flux/DBIRTH/demo/" + name)
        self.set_voltage(231.0)  # what is constant is not told again
        host.wait("/spBv1.0/flux/DDATA/demo/" + METER)
        self.assertEqual(self.mqtt.ask(20.0, "told")["outcome"], "confirmed")
        host.wait("/spBv1.0/flux/DDATA/demo/Site-BESS-01", lambda m: b"told" in m.payload)

        # Under its old name it dies before it is born under the new one.
        since = host.mark()
        self.groups["sparkplug"] = {"enabled": True, "group": "plant", "node": "site-7"}
        self.reload(answer="info: reload: sparkplug is changed: the node dies, and is born anew$")
        for name in (METER, "PV"):
            host.wait("/spBv1.0/plant/DBIRTH/site-7/" + name, since=since)
        topics = [m.topic for m in host.messages[since:]]
        self.assertLess(topics.index("spBv1.0/flux/NDEATH/demo"),
                        topics.index("spBv1.0/plant/NBIRTH/site-7"))
        self.set_voltage(232.0)
        host.wait("/spBv1.0/plant/DDATA/site-7/" + METER, since=since)

        since = host.mark()
        del self.groups["sparkplug"]
        self.reload(answer="info: reload: sparkplug is off: the node dies$")
        host.wait("/spBv1.0/plant/NDEATH/site-7", since=since)
        dead = host.mark()
        self.assert_goes_on("Site-BESS-01", METER, "Load")
        self.assert_same_sessions("bridge", "Site-BESS-01", METER, "Load", "PV")
        self.assertLessEqual({m.topic for m in host.messages[dead:]},
                             {"spBv1.0/plant/NDEATH/site-7"})  # its Will
        self.assertEqual(self.mqtt.ask(10.0, "after")["outcome"], "confirmed")

    def assert_answered_before(self, *names):
        for name in names:
            since = self.mqtt.mark()
            self.mqtt.command(40.0, name)
            self.assertTrue(self.mqtt.outcome(name, since=since).get("duplicate"), name)

    def test_another_audit_log(self):
        """What follows is in the new file, and no id is forgotten: not even by the next run."""
        self.rig()
        self.assertEqual(self.mqtt.ask(20.0, "before")["outcome"], "confirmed")
        flux.write_whole(os.path.join(self.directory, "theirs"), "mine")
        self.groups["audit"] = {"path": os.path.join(self.directory, "theirs")}
        self.reload(answer="the configuration is not taken over: audit.path cannot be written: ")
        self.assertEqual(self.mqtt.ask(25.0, "still")["outcome"], "confirmed")
        other = os.path.join(self.directory, "other.jsonl")
        self.groups["audit"] = {"path": other}
        self.reload(answer="info: reload: audit is changed: what follows is written to the new file$")
        self.flux.wait_log("info: reloaded level=debug$")  # it is said before it is done
        self.assertEqual(self.mqtt.ask(30.0, "after")["outcome"], "confirmed")
        writes = self.bess.n_writes()

        def ids(path):
            with open(path) as file:
                return [json.loads(line)["id"] for line in file]

        self.assertEqual((ids(self.audit), ids(other)), (["before", "still"], ["after"]))
        self.assert_answered_before("before", "still", "after")
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")
        self.assert_same_sessions("bridge", "Site-BESS-01", METER, "Load", "PV")

        self.flux.stop()
        since = self.mqtt.mark()
        self.flux = self.bridge(self.text())
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=since)
        self.assert_answered_before("before", "after")
        self.assertEqual(self.bess.n_writes(), writes)

    def test_many_reloads_leave_nothing_behind(self):
        self.rig(http={"listen": "127.0.0.1:%d" % self.place().port})
        extra = flux.meter(self.lone, "Extra", address=4)

        def count():
            base = "/proc/%d/" % self.flux.process.pid
            return len(os.listdir(base + "fd")), len(os.listdir(base + "task"))

        for _ in range(3):
            self.devices["meters"].append(extra)
            self.reload()
            self.mqtt.wait_text("Extra/status", "online", since=self.since)
            before = count()
            self.devices["meters"].remove(extra)
            self.reload()
            self.mqtt.wait_text("Extra/status", "", since=self.since)
        self.devices["meters"].append(extra)
        self.reload()
        self.mqtt.wait_text("Extra/status", "online", since=self.since)
        flux.wait_on(self.mqtt.changed,
                     lambda: all(now <= then for now, then in zip(count(), before)), None,
                     lambda: "descriptors and threads %s, now %s" % (before, count()))
        self.assert_goes_on("Site-BESS-01", METER, "Load", "PV")


if __name__ == "__main__":
    flux.main()
