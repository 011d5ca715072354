"""The commands that talk to the broker: check --online, and forget."""

import json
import os
import signal
import subprocess

import flux
from mqtt_faults import Certificates


class Asking(flux.Test):
    def site(self, broker, **more):
        path = os.path.join(self.directory, "site.cfg")
        with open(path, "w", encoding="utf-8") as file:
            # Seldom: that a busy machine cannot poll so often would be a warning.
            file.write(flux.config(
                broker, [flux.battery(self.server, poll="5s")],
                [flux.meter(self.server, poll="5s")],
                audit={"path": os.path.join(self.directory, "audit.jsonl")}, **more))
        return path

    def setUp(self):
        super().setUp()
        self.server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})

    def retained(self, broker):
        """Topics and texts that a new subscriber gets."""
        client = flux.Client(broker, base="", subscribe=("/#",))
        client.publish("/the/end", "here")
        client.wait_text("/the/end", "here")
        client.close()
        return {m.topic: m.text for m in client.messages if m.retain and m.text}


class Check(Asking):
    def check(self, path, *arguments):
        code, out, err = self.run_tool("check", "--online", "-c", path, *arguments)
        self.assertEqual(err, "")
        return code, out.splitlines()

    def secured(self, acl):
        """A broker with one user of the bridge, and what he may do."""
        passwords, rules = (os.path.join(self.directory, name) for name in ("users", "acl"))
        subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "bridge", "secret"], check=True)
        with open(rules, "w", encoding="utf-8") as file:
            file.write("user bridge\n%s\n" % acl)
        return self.broker("user root\nallow_anonymous false\npassword_file %s\nacl_file %s\n"
                           % (passwords, rules))

    def login(self, password):
        path = os.path.join(self.directory, "password")
        with open(path, "w", encoding="utf-8") as file:
            file.write(password + "\n")
        os.chmod(path, 0o600)
        return {"username": "bridge", "password_file": path}

    def test_good(self):
        broker = self.broker()
        path = self.site(broker)
        self.assertEqual(self.check(path), (0, [path + ": good: 2 devices on 1 link"]))
        self.assertEqual(self.retained(broker), {"flux/demo/%s/status" % node: "offline" for node in
                                                 ("bridge", "Site-BESS-01", "Grid-Meter")})

    def test_nobody_there(self):
        nobody = self.place()
        path = self.site(nobody)
        code, lines = self.check(path)
        self.assertEqual((code, len(lines)), (1, 1))
        self.assertRegex(lines[0], r"\A%s:\d+: no session with the broker: cannot connect: "
                                   r"Connection refused\Z" % path)

    def test_login(self):
        broker = self.secured("topic readwrite #")
        self.assertEqual(self.check(self.site(broker, mqtt=self.login("secret")))[0], 0)
        code, lines = self.check(self.site(broker, mqtt=self.login("guessed")))
        self.assertEqual((code, len(lines)), (1, 1))
        self.assertRegex(lines[0], r"no session with the broker: the broker refuses the login: ")

    def test_tls(self):
        site, other = (Certificates(self.directory, name) for name in ("site", "other"))
        for authority, subject, complaint in (
                (site, "IP:127.0.0.1", None), (other, "IP:127.0.0.1", "unable to get local issuer"),
                (site, "DNS:elsewhere.example", "IP address mismatch")):
            with self.subTest(authority=authority.name, subject=subject):
                server = site.sign("server", subject)
                broker = self.broker("user root\ncertfile %s\nkeyfile %s\n" % server)
                path = self.site(broker, mqtt={"url": "mqtts://127.0.0.1:%d" % broker.port,
                                               "tls": {"ca_file": authority.ca}})
                code, lines = self.check(path)
                self.assertEqual((code, len(lines)), (1 if complaint else 0, 1), lines)
                self.assertRegex(lines[0], "no session with the broker: certificate verify failed: "
                                 + complaint if complaint else ": good: 2 devices")

    def test_rights(self):
        flux_alone = "topic readwrite flux/#\ntopic read homeassistant/#"
        for acl, complaint in (
                (flux_alone, "does not take messages for "
                             "homeassistant/device/fluxbridge-demo-check/config: not authorized"),
                (flux_alone + "\ntopic write homeassistant/device/+/config", ": good: 2 devices"),
                ("topic read flux/#", "no session as fluxbridge-demo with a Will on "
                                      "flux/demo/bridge/status|does not take messages for "
                                      "flux/demo/bridge/status: not authorized"),
                ("topic write flux/#\ntopic read flux/demo/+/set/+",
                 "grants the subscription to flux/demo/bridge/status and delivers nothing: has "
                 "the user the right to read it"),
                ("topic readwrite flux/demo/bridge/#\ntopic read flux/#",
                 "does not take messages for flux/demo/Site-BESS-01/status: not authorized")):
            with self.subTest(acl=acl):
                broker = self.secured(acl)
                code, lines = self.check(self.site(broker, mqtt=self.login("secret"),
                                                   home_assistant={"enabled": True}))
                self.assertEqual(code, 0 if "good" in complaint else 1, lines)
                self.assertRegex(lines[0], complaint)

    def test_a_bridge_in_session_is_not_disturbed(self):
        broker = self.broker()
        client = self.client(broker)
        bridge = self.bridge(flux.config(broker, [flux.battery(self.server)],
                                         [flux.meter(self.server)]))
        client.wait_text("bridge/status", "online")
        client.wait_text("Grid-Meter/status", "online")
        since, mark = client.mark(), bridge.mark()
        code, lines = self.check(self.site(broker))
        self.assertEqual((code, len(lines)), (0, 2))
        self.assertIn(": warning: a bridge of this site is in session", lines[0])
        client.wait_count("Grid-Meter/state", 2, since=since)
        self.assertEqual(client.on("bridge/status", since), [])
        self.assertNotIn("no session", "\n".join(bridge.lines[mark:]))


class Forget(Asking):
    def test_all(self):
        broker = self.broker()
        client = self.client(broker)
        others = {"flux/other/Old/status": "online", "homeassistant/device/theirs/config": "{}"}
        for topic, text in others.items():
            client.publish("/" + topic, text, retain=True)
        path = self.site(broker, home_assistant={"enabled": True})
        old = {"flux/demo/Old/status": "offline", "flux/demo/Old/info": "{}",
               "flux/demo/Old/set/target_power": "50",
               "homeassistant/device/old/config": json.dumps(
                   {"availability": [{"topic": "flux/demo/bridge/status"},
                                     {"topic": "flux/demo/Old/status"}]})}
        for topic, text in old.items():
            client.publish("/" + topic, text, retain=True)
        with open(path, encoding="utf-8") as file:
            bridge = self.bridge(file.read())
        client.wait_text("Site-BESS-01/status", "online")
        client.wait_text("Grid-Meter/status", "online")
        client.wait("bridge/health")

        # The bridge runs: what it does not have goes, what it has does not.
        code, out, err = self.run_tool("forget", "-c", path, "Grid-Meter")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("a bridge is in session that has Grid-Meter", err)
        # Nor what is its own: without its status the next one would clear the whole site.
        code, out, err = self.run_tool("forget", "-c", path, "bridge")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("a bridge is in session that has bridge", err)
        code, out, err = self.run_tool("forget", "-j", "-c", path, "bridge")
        self.assertEqual((code, json.loads(out)),
                         (1, {"good": False, "dry_run": False, "topics": []}))
        code, out, err = self.run_tool("forget", "-c", path, "--dry-run")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(set(out.splitlines()), {"would clear " + topic for topic in old})
        self.assertLessEqual(set(old), set(self.retained(broker)))
        code, out, err = self.run_tool("forget", "-c", path, "--dry-run", "--json")
        self.assertEqual((code, err), (0, ""))
        told = json.loads(out)
        self.assertEqual((told["good"], told["dry_run"], set(told["topics"])),
                         (True, True, set(old)))
        code, out, err = self.run_tool("forget", "-c", path)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(set(out.splitlines()), {"cleared " + topic for topic in old})
        left = self.retained(broker)
        self.assertEqual(set(old) & set(left), set())
        self.assertLessEqual({"flux/demo/bridge/status", "flux/demo/Grid-Meter/status"}, set(left))
        self.assertEqual(self.run_tool("forget", "-c", path, "Old")[:2],
                         (0, "the broker retains nothing of that\n"))
        self.assertEqual(json.loads(self.run_tool("forget", "-j", "-c", path, "Old")[1]),
                         {"good": True, "dry_run": False, "topics": []})

        # It does not run: one device, and then all of the site, and nobody else's.
        bridge.stop()
        code, out, err = self.run_tool("forget", "-c", path, "Grid-Meter")
        self.assertEqual((code, err), (0, ""))
        left = self.retained(broker)
        self.assertEqual([t for t, text in left.items() if "Grid-Meter/" in t + text
                          and not t.startswith("flux/demo/bridge/")], [])
        self.assertIn("flux/demo/Site-BESS-01/status", left)
        code, out, err = self.run_tool("forget", "-c", path)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(self.retained(broker), others)

    def test_no_broker(self):
        nobody = self.place()
        code, out, err = self.run_tool("forget", "-c", self.site(nobody))
        self.assertEqual((code, out), (1, ""))
        self.assertRegex(err, r"\Afluxbridge forget: no session with the broker: cannot connect: ")
        code, out, err = self.run_tool("forget", "-n", "-j", "-c", self.site(nobody))
        self.assertEqual((code, json.loads(out)),
                         (1, {"good": False, "dry_run": True, "topics": []}))

    def test_what_is_no_name(self):
        """Such as a variable of a script that is empty."""
        path = self.site(self.place())
        for name in ("", "#", "Grid-Meter/state"):
            with self.subTest(name=name):
                self.assertEqual(
                    self.run_tool("forget", "-c", path, name),
                    (2, "", "fluxbridge forget: '%s' is no name of a device\n" % name))

    def test_what_may_not_be_cleared(self):
        rules = os.path.join(self.directory, "acl")
        with open(rules, "w", encoding="utf-8") as file:
            file.write("topic read #\ntopic write flux/demo/Old/status\n")
        broker = self.broker("user root\nacl_file %s\n" % rules)
        client = self.client(broker)
        client.publish("Old/status", "offline", retain=True)
        with open(rules, "w", encoding="utf-8") as file:
            file.write("topic read #\n")
        broker.program.signal(signal.SIGHUP)
        broker.program.wait_log("Reloading config")
        code, out, err = self.run_tool("forget", "-c", self.site(broker))
        self.assertEqual((code, out), (1, ""))
        self.assertIn("fluxbridge forget: flux/demo/Old/status: not authorized", err)
        code, out, err = self.run_tool("forget", "-c", self.site(broker), "--json")
        self.assertEqual((code, json.loads(out)),
                         (1, {"good": False, "dry_run": False, "topics": []}))


if __name__ == "__main__":
    flux.main()
