"""The examples in etc/, run: only hosts, ports and paths are other ones."""

import json
import os
import re
import shutil
import subprocess
import time
import tomllib

import paho.mqtt.client as mqtt

import flux
from mqtt_faults import Certificates


def example(name):
    with open(os.path.join(flux.source_dir(), "etc", name), encoding="utf-8") as file:
        return file.read()


class User(flux.Client):
    """A client with a name, which records what it gets, by whole topics."""

    def __init__(self, broker, name, subscribe):
        self.name = name
        super().__init__(broker, subscribe=["/" + topic for topic in subscribe])

    def _on_connect(self, client, userdata, flags, code, properties=None):
        assert code == 0, "%s: %s" % (self.name, code)
        super()._on_connect(client, userdata, flags, code, properties)

    def publish_all(self, topics, payload):
        """To each topic; returns when the broker has judged all of them."""
        numbers = {self.client.publish(topic, payload, 1).mid for topic in topics}
        flux.wait_on(self.changed, lambda: numbers <= self._published, None, "acknowledgements")

    @staticmethod
    def make(broker, name, subscribe=("#",)):
        """flux.Client connects when it is made, so its library must know the name before."""
        plain = mqtt.Client

        def named(*arguments, **more):
            client = plain(*arguments, **more)
            client.username_pw_set(name, "secret")
            return client

        mqtt.Client = named
        try:
            return User(broker, name, subscribe)
        finally:
            mqtt.Client = plain


class Examples(flux.Test):
    def adapt(self, text, url=None):
        """The text with hosts, ports and serial lines of this test. self.lines: what stands
        for each serial line at the simulator's end."""
        self.lines = {}
        where = r'host = "([^"]+)";(?:\s+port = (\d+);)?'
        places = sorted(set(re.findall(where, text)))
        ports = {place: self.place().port for place in places}
        text = re.sub(where, lambda match: 'host = "127.0.0.1"; port = %d;' % (
            ports[match.groups(default="")]), text)
        for serial in sorted(set(re.findall(r'serial = "([^"]+)"', text))):
            line = self.serial_line()
            text = text.replace(serial, line.theirs)
            self.lines[line.theirs] = line.ours
        text = text.replace("/var/lib/fluxbridge", self.directory)
        text = text.replace("/etc/fluxbridge", self.directory)
        return re.sub('url = "[^"]+"', 'url = "%s"' % url, text) if url else text

    def run_site(self, text):
        """Simulator and bridge of an adapted configuration."""
        devices = text
        for theirs, ours in self.lines.items():
            devices = devices.replace(theirs, ours)
        self.sim = self.simulator(devices)
        self.flux = self.bridge(text)

    def rig(self, name):
        self.mosquitto = self.broker()
        text = self.adapt(example(name), "mqtt://127.0.0.1:%d" % self.mosquitto.port)
        site = re.search('site = "([^"]+)"', text).group(1)
        self.mqtt = self.client(self.mosquitto, base="flux/" + site)
        return text

    def wait_good(self, *devices):
        self.mqtt.wait_text("bridge/status", "online")
        for device in devices:
            self.mqtt.wait(device + "/state", lambda m: m.json["quality"] == "good")

    def check(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual((code, err), (0, ""), out + err)
        self.assertRegex(out, r"\A.*: good: .*\n\Z")  # and no warning

    # ---- sites ----

    def test_complete(self):
        text = self.rig("fluxbridge.cfg")
        self.check("site.cfg", text)
        self.run_site(text)
        self.wait_good("Site-BESS-01", "Grid-Meter", "PV-Meter")
        self.assertEqual(self.mqtt.ask(50, "e-1")["outcome"], "confirmed")

    def test_small_site(self):
        text = self.rig("small-site.cfg")
        self.check("site.cfg", text)
        self.run_site(text)
        self.wait_good("Battery", "Grid")
        self.assertEqual(self.mqtt.ask(-20, "e-1", device="Battery")["outcome"], "confirmed")

    def test_direct_site(self):
        text = self.rig("direct-site.cfg")
        self.check("direct-site.cfg", text)
        self.run_site(text)
        self.wait_good("Pack", "Hybrid")
        for device, value in (("Pack", -80), ("Hybrid", 4.5)):
            self.assertEqual(self.mqtt.ask(value, "up-" + device, device=device)["outcome"],
                             "confirmed")
        self.mqtt.wait("bridge/health",
                       lambda m: m.json["control"] == {"Pack": "held", "Hybrid": "held"},
                       timeout_s=30)
        for device in ("Pack", "Hybrid"):
            self.assertEqual(self.mqtt.ask(0, "stop-" + device, device=device)["outcome"],
                             "confirmed")
        self.mqtt.wait("bridge/health",
                       lambda m: m.json["control"] == {"Pack": "held", "Hybrid": "idle"},
                       timeout_s=30)

    def test_fleet_site(self):
        """Three small files and a template make a site; the others would differ in those."""
        os.mkdir(os.path.join(self.directory, "fleet-north.d"))
        for name in ("fleet-site.inc", "fleet-north.cfg", "fleet-north.d/10-grid.cfg",
                     "fleet-north.d/20-pv.cfg"):
            text = example(name).replace("/var/lib/fluxbridge", self.directory)
            text = text.replace("/etc/fluxbridge", self.directory)
            with open(os.path.join(self.directory, name), "w", encoding="utf-8") as file:
                file.write(text)
        with open(os.path.join(self.directory, "password"), "w", encoding="utf-8") as file:
            file.write("secret\n")
        os.chmod(file.name, 0o600)
        path = os.path.join(self.directory, "fleet-north.cfg")
        code, out, err = self.run_tool("check", "-c", path, "--json")
        said = json.loads(out)
        self.assertEqual((code, err, said["problems"], said["warnings"]), (0, "", [], []))
        self.assertEqual((said["site"], said["devices"], said["links"]), ("north", 3, 3))
        # What is wrong in a file of the site is named there.
        with open(os.path.join(self.directory, "fleet-north.d/30-x.cfg"), "w") as file:
            file.write("{ id = \"x\"; name = \"X\"; type = \"@kind@\"; },\n")
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual((code, out), (2, "%s/fleet-north.d/30-x.cfg:1: @kind@ is not set: "
                                          "say @let kind = \"...\" before it (included at "
                                          "%s/fleet-site.inc:32)\n"
                                          % (self.directory, self.directory)))

    def test_fleet_bridge(self):
        """A mosquitto at the site and one at the centre, as etc/fleet.md has it."""
        centre = self.broker()
        text = example("fleet-bridge.conf").replace("flux/north", "flux/demo")
        text = text.replace("centre.example.org:1883", "127.0.0.1:%d" % centre.port)
        text = text.replace("/var/lib/mosquitto", self.directory)
        text = re.sub("listener .*\n", "", text)
        if os.getuid() == 0:
            text = "user root\n" + text
        site = self.broker(text)
        client = self.client(centre, subscribe=("#", "/homeassistant/status"))
        server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        self.bridge(flux.config(site, [flux.battery(server)], [flux.meter(server)],
                                mqtt={"version": 4}))  # or what waits at the site expires
        client.wait_text("Site-BESS-01/status", "online")
        self.assertEqual(client.ask(5.0, "from-the-centre")["outcome"], "confirmed")
        # What comes down does not go up again, for ever.
        client.publish("/homeassistant/status", "online")
        here = self.client(site, subscribe=("#", "/homeassistant/status"))
        client.publish("/homeassistant/status", "online")
        here.wait("/homeassistant/status")
        client.wait_count("Grid-Meter/state", 3, since=client.mark())
        self.assertLessEqual(len(client.on("/homeassistant/status")), 2)
        since = client.mark()
        first = client.wait("Grid-Meter/state", since=since).json["seq"]
        # The line to the centre is cut: the site goes on, and what waits comes afterwards.
        centre.stop()
        self.assertEqual(here.ask(6.0, "at-the-site")["outcome"], "confirmed")
        last = here.wait_count("Grid-Meter/state", 10)[-1].json["seq"]
        centre.start()
        client.wait("Grid-Meter/state", lambda m: m.json["seq"] == last, 60)
        seqs = [m.json["seq"] for m in client.on("Grid-Meter/state", since)]
        self.assertLessEqual(set(range(first, last + 1)), set(seqs))
        client.wait("Site-BESS-01/result", lambda m: m.json["id"] == "at-the-site")
        late = self.client(centre)
        self.assertEqual(late.wait("bridge/info").json["site"], "demo")  # it is retained there

    def test_fleet_rights(self):
        """The rights by pattern in etc/fleet.md: all that a bridge needs, and none of others'."""
        rights = re.search(r"```\n(pattern .*?)```", example("fleet.md"), re.S)[1]
        names = ("demo", "other", "test")
        users = os.path.join(self.directory, "users")
        with open(users, "w", encoding="utf-8") as file:
            file.writelines("%s:secret\n" % name for name in names)
        subprocess.run(["mosquitto_passwd", "-U", users], check=True, capture_output=True)
        rules = os.path.join(self.directory, "acl")
        with open(rules, "w", encoding="utf-8") as file:
            file.write(rights + "user test\ntopic readwrite #\n")
        self.mosquitto = self.broker(
            "allow_anonymous false\npassword_file %s\nacl_file %s\n%s"
            % (users, rules, "user root\n" if os.getuid() == 0 else ""))
        password = os.path.join(self.directory, "password")
        with open(password, "w", encoding="utf-8") as file:
            file.write("secret\n")
        os.chmod(password, 0o600)
        watch = self.user("test")
        server = self.modbus({1: flux.battery_unit()})
        bridge = self.bridge(flux.config(
            self.mosquitto, [flux.battery(server)],
            mqtt={"username": "demo", "password_file": password},
            home_assistant={"enabled": True}))
        for topic in ("bridge/status", "bridge/info", "Site-BESS-01/status", "Site-BESS-01/info",
                      "Site-BESS-01/state"):
            watch.wait("/flux/demo/" + topic)
        watch.wait_text("/flux/demo/Site-BESS-01/status", "online")
        watch.publish("/flux/demo/Site-BESS-01/set/target_power", {"id": "r", "value": 5.0})
        watch.wait("/flux/demo/Site-BESS-01/result", lambda m: m.json["outcome"] == "confirmed")
        flux.wait_on(watch.changed, lambda: len(self.documents(watch, 0)) == 2, None, "discovery")
        since = watch.mark()
        watch.publish("/homeassistant/status", "online")
        flux.wait_on(watch.changed, lambda: self.documents(watch, since), None, "discovery again")
        self.assertNotIn("refuses a topic", bridge.log())
        # Another site's bridge, or whoever has its password.
        rival = self.user("other", ("flux/demo/#",))
        since = watch.mark()
        rival.publish_all(["flux/demo/Site-BESS-01/set/target_power", "flux/demo/bridge/status",
                           "flux/demo/Site-BESS-01/state", "flux/other/bridge/status"], "x")
        watch.wait("/flux/other/bridge/status", since=since)
        self.assertFalse([m for m in watch.messages[since:] if m.payload == b"x" and
                          m.topic != "flux/other/bridge/status"])
        self.assertEqual(rival.messages, [])

    @staticmethod
    def documents(watch, since):
        return [m for m in watch.messages[since:]
                if re.match("homeassistant/device/.*/config$", m.topic)]

    def test_fleet_shared_subscriptions(self):
        """Two historians divide the samples: each comes to one of them."""
        mosquitto = self.broker()
        pair = [self.client(mosquitto, subscribe=("/$share/historian/flux/+/+/state",))
                for _ in range(2)]
        whole = self.client(mosquitto, subscribe=("/flux/+/+/state",))
        server = self.modbus({2: flux.meter_unit()})
        self.bridge(flux.config(mosquitto, meters=[flux.meter(server)]))
        last = whole.wait_count("Grid-Meter/state", 20)[-1].json["seq"]
        for client in (whole, *pair):
            flux.wait_on(client.changed, lambda c=client: c.on("Grid-Meter/state"), None, "a share")

        def shares():
            return [{m.json["seq"] for m in client.on("Grid-Meter/state")} for client in pair]

        flux.wait_on(whole.changed, lambda: set(range(1, last)) <= set.union(*shares()), None,
                     "all samples at one of the two")
        self.assertEqual(set.intersection(*shares()), set())

    def test_large_site(self):
        with open(os.path.join(self.directory, "mqtt-password"), "w", encoding="utf-8") as file:
            file.write("secret\n")
        os.chmod(file.name, 0o600)
        # Checked as two files; run as one text, so that the hosts of both are adapted alike.
        include = '  @include "large-site-meters.inc"\n'
        whole = example("large-site.cfg")
        self.assertIn(include, whole)
        text = self.rig("large-site.cfg")
        meters = example("large-site-meters.inc")
        with open(os.path.join(self.directory, "large-site-meters.inc"), "w",
                  encoding="utf-8") as file:
            file.write(meters.replace("/dev/ttyS1", "/dev/null"))
        self.check("large-site.cfg", text)
        text = self.adapt(whole.replace(include, meters),
                          "mqtt://127.0.0.1:%d" % self.mosquitto.port)
        self.run_site(text)
        self.wait_good("North-1", "North-2", "South-1", "Grid-A", "Grid-B", "Cranes", "PV-1", "PV-2")
        outcome = self.mqtt.ask(100, "e-1", device="North-2")
        self.assertEqual(outcome["outcome"], "confirmed")
        outcome = self.mqtt.ask(100, "e-2", device="South-1")  # only read
        self.assertEqual(outcome["reason"], "not_writable")

    def test_gateway_site(self):
        text = self.rig("gateway-site.cfg")
        self.check("site.cfg", text)
        self.assertEqual(len(set(re.findall(r"port = (\d+)", text))), 1)
        self.run_site(text)
        self.wait_good("Main", "Lathes", "Ovens", "Roof-PV")

    def test_gateway_site_with_a_meter_switched_off(self):
        text = self.rig("gateway-site.cfg")
        devices = ["Main", "Lathes", "Roof-PV"]
        self.sim = self.simulator(text, *[word for name in devices for word in ("--only", name)])
        self.flux = self.bridge(text)
        self.wait_good(*devices)
        bad = self.mqtt.wait("Ovens/state").json
        self.assertEqual(set(bad["errors"].values()), {"gateway_target"})

    # ---- the broker's side ----

    def start_broker(self, names):
        """mosquitto.conf and mosquitto.acl with these users; sets plain and tls."""
        self.authority = Certificates(self.directory, "site")
        certificate, key = self.authority.sign("broker", "IP:127.0.0.1")
        users = os.path.join(self.directory, "fluxbridge.passwd")
        with open(users, "w", encoding="utf-8") as file:
            file.writelines("%s:secret\n" % name for name in names)
        subprocess.run(["mosquitto_passwd", "-U", users], check=True, capture_output=True)
        with open(os.path.join(self.directory, "fluxbridge.acl"), "w", encoding="utf-8") as file:
            file.write(example("mosquitto.acl") + "\nuser test\ntopic readwrite #\n")
        plain, tls = self.place().port, self.place().port
        text = example("mosquitto.conf")
        for old, new in (("listener 1883 ", "listener %d " % plain),
                         ("listener 8883", "listener %d 127.0.0.1" % tls),
                         ("/etc/mosquitto/certs/ca.pem", self.authority.ca),
                         ("/etc/mosquitto/certs/broker.pem", certificate),
                         ("/etc/mosquitto/certs/broker.key", key),
                         ("/etc/mosquitto", self.directory)):
            self.assertIn(old, text)
            text = text.replace(old, new)
        path = os.path.join(self.directory, "mosquitto.conf")
        with open(path, "w", encoding="utf-8") as file:
            # Started by root, mosquitto would become a user who cannot read our files.
            file.write(text + "user root\nlog_dest stderr\n")
        self.mosquitto = flux.Program("mosquitto", [
            shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", path])
        self.addCleanup(self.mosquitto.stop, expect=None)
        self.mosquitto.wait_log(r"mosquitto version \S+ running")
        self.mosquitto.host, self.mosquitto.port = "127.0.0.1", plain
        return tls

    def user(self, name, subscribe=("#",)):
        user = User.make(self.mosquitto, name, subscribe)
        self.addCleanup(user.close)
        return user

    # What a Sparkplug node may say, and hear; the node is the site.
    NODE = ["spBv1.0/flux/NBIRTH/harbour", "spBv1.0/flux/NDEATH/harbour",
            "spBv1.0/flux/DBIRTH/harbour/Quay-BESS", "spBv1.0/flux/DDATA/harbour/Quay-BESS",
            "spBv1.0/flux/DDEATH/harbour/Quay-BESS", "flux/harbour/bridge/sparkplug"]
    NODE_HEARS = ["spBv1.0/flux/NCMD/harbour", "spBv1.0/flux/DCMD/harbour/Quay-BESS",
                  "spBv1.0/STATE/scada", "STATE/scada"]
    TOPICS = NODE + NODE_HEARS + ["spBv1.0/flux/NBIRTH/quarry"] + [base + rest for base in ("flux/harbour/", "flux/quarry/") for rest in (
        "bridge/status", "bridge/info", "bridge/health", "Quay-BESS/status", "Quay-BESS/info",
        "Quay-BESS/state", "Quay-BESS/backfill", "Quay-BESS/result",
        "Quay-BESS/set/target_power", "Quay-BESS/set/command_source",
        "Quay-BESS/schedule", "Quay-BESS/schedule/set")
    ] + ["reply/harbour/7", "reply/quarry/7", "flux/elsewhere/Meter/state", "homeassistant/status", "homeassistant/device/x/config",
         "other/topic"]

    @staticmethod
    def of_site(site, *what):
        return {topic for topic in Examples.TOPICS
                if topic.startswith("flux/%s/" % site) and re.search("(%s)" % "|".join(what), topic)}

    @classmethod
    def rules(cls):
        """What each user may write, and read: all of it, so that what is not here is a no."""
        home = {"homeassistant/status", "homeassistant/device/x/config"}
        rules = {"historian": (set(), {topic for topic in cls.TOPICS if topic.startswith("flux/")}),
                 "home-assistant": ({"homeassistant/status",
                                     "flux/harbour/Quay-BESS/set/target_power"},
                                    cls.of_site("harbour", "") | home)}
        for site in ("harbour", "quarry"):
            rules["dispatch-" + site] = (cls.of_site(site, "/set/", "/schedule/set"),
                                          cls.of_site(site, "") | {"reply/%s/7" % site})
            rules["bridge-" + site] = (
                cls.of_site(site, "status$", "info$", "state$", "health$", "backfill$",
                            "result$", "schedule$") | {"reply/%s/7" % site, "homeassistant/device/x/config"},
                cls.of_site(site, "/set/", "/schedule", "status$", "state$", "info$",
                            "bridge/health") | home)
        rules["bridge-harbour"][0].update(cls.NODE)
        rules["bridge-harbour"][1].update(cls.NODE_HEARS)
        return rules

    def test_acl(self):
        rules = self.rules()
        self.start_broker([*rules, "test"])
        test = self.user("test")
        for name, (writes, reads) in rules.items():
            with self.subTest(name=name):
                user = self.user(name)
                mark = test.mark()
                user.publish_all(self.TOPICS, name)
                # What comes after all of them says that none is still on its way.
                test.publish("/end/of/writes", name)
                test.wait("/end/of/writes", since=mark)
                written = {m.topic for m in test.messages[mark:] if m.text == name}
                self.assertEqual(written - {"end/of/writes"}, writes)

                mark = user.mark()
                last = sorted(reads)[0]
                test.publish_all(self.TOPICS, "from test")
                test.publish("/" + last, "last from test")
                user.wait_text("/" + last, "last from test", since=mark)
                self.assertEqual({m.topic for m in user.messages[mark:]
                                  if m.text == "from test"}, reads)

    def test_nobody_is_anonymous(self):
        self.start_broker(["test"])
        for name, password in ((None, None), ("historian", "guessed"), ("nobody", "secret")):
            answers = []
            client = flux.mqtt_client(protocol=mqtt.MQTTv5)
            if name:
                client.username_pw_set(name, password)
            client.on_connect = lambda c, data, flags, code, properties: answers.append(code)
            client.connect("127.0.0.1", self.mosquitto.port)
            deadline = time.monotonic() + flux.DEADLINE_S
            while not answers and time.monotonic() < deadline:
                client.loop(1)
            self.assertEqual([str(code) for code in answers], ["Not authorized"], name)

    def test_tls_site(self):
        tls = self.start_broker(["dispatch-harbour", "dispatch-quarry"])
        certificate, key = self.authority.sign("bridge-harbour", "DNS:bridge-harbour")
        for source, name in ((self.authority.ca, "ca.pem"), (certificate, "harbour.pem"),
                             (key, "harbour.key")):
            shutil.copy(source, os.path.join(self.directory, name))
        text = self.adapt(example("tls-site.cfg"), "mqtts://127.0.0.1:%d" % tls)
        self.check("site.cfg", text)
        dispatch = self.user("dispatch-harbour", ["flux/harbour/#", "reply/harbour/#"])
        self.run_site(text)
        dispatch.base = "flux/harbour"
        self.mqtt = dispatch
        self.wait_good("Quay-BESS")
        dispatch.wait("bridge/health")
        # Not his site: the broker takes it and drops it.
        self.user("dispatch-quarry").command(10, "q-1", device="/flux/harbour/Quay-BESS")
        dispatch.command(30, "h-1", device="Quay-BESS", response_topic="reply/harbour/7")
        self.assertEqual(dispatch.wait("/reply/harbour/7").json["outcome"], "confirmed")
        self.assertEqual([m.json["id"] for m in dispatch.on("Quay-BESS/result")], ["h-1"])
        self.flux.stop()
        self.assertNotIn("refuses", self.flux.log())

    # ---- Telegraf ----

    def inputs(self):
        return {plugin.get("name_override") or plugin["json_v2"][0]["measurement_name"]: plugin
                for plugin in tomllib.loads(example("telegraf.conf"))["inputs"]["mqtt_consumer"]}

    def row(self, plugin, message):
        """What Telegraf makes of a message: (tags, fields), by the rules of the plugin
        mqtt_consumer and of the parser json_v2."""
        tags, fields = {}, {}
        for parsing in plugin["topic_parsing"]:
            if mqtt.topic_matches_sub(parsing["topic"], message.topic):
                levels = message.topic.split("/")
                names = parsing["tags"].split("/")
                self.assertEqual(len(names), len(levels))
                tags.update((n, v) for n, v in zip(names, levels) if n != "_")
        if plugin["data_format"] == "value":
            return tags, {"value": message.text}
        (parser,) = plugin["json_v2"]
        self.assertEqual(parser["timestamp_format"], "unix_ms")
        self.assertAlmostEqual(message.json[parser["timestamp_path"]] / 1e3, time.time(), delta=60)
        for kind, into in (("tag", tags), ("field", fields)):
            for entry in parser.get(kind, ()):
                if entry["path"] in message.json or not entry.get("optional"):
                    into[entry["path"]] = message.json[entry["path"]]
        for entry in parser.get("object", ()):
            self.assertTrue(entry["disable_prepend_keys"])
            fields.update((k, v) for k, v in message.json[entry["path"]].items() if v is not None)
        return tags, fields

    def test_telegraf(self):
        text = self.rig("fluxbridge.cfg")
        inputs = self.inputs()
        topics = [topic for plugin in inputs.values() for topic in plugin["topics"]]
        telegraf = self.client(self.mosquitto, subscribe=["/" + topic for topic in topics])
        self.run_site(text)
        self.wait_good("Site-BESS-01")
        self.mqtt.ask(50, "e-1")
        self.mqtt.command("wrong", "e-2")
        sample = telegraf.wait("Site-BESS-01/state", lambda m: m.json["quality"] == "good")
        tags, fields = self.row(inputs["flux"], sample)
        self.assertEqual(tags, {"site": "demo", "device": "Site-BESS-01"})
        self.assertEqual(set(fields), {"quality", "run", "seq", "status", "status_code", "soe",
                                       "target_power", "command_source", "available_blocks"})
        # A backfilled sample makes the same row.
        self.assertEqual(self.row(inputs["flux"], sample._replace(
            topic=sample.topic.replace("/state", "/backfill"))), (tags, fields))
        outcome = telegraf.wait("Site-BESS-01/result", lambda m: m.json["id"] == "e-1")
        tags, fields = self.row(inputs["flux_result"], outcome)
        self.assertEqual(tags, {"site": "demo", "device": "Site-BESS-01", "outcome": "confirmed"})
        self.assertEqual((fields["value"], fields["readback"]), (50, 50))
        refused = telegraf.wait("Site-BESS-01/result", lambda m: m.json["id"] != "e-1")
        tags, fields = self.row(inputs["flux_result"], refused)
        self.assertEqual((tags["outcome"], fields["reason"]), ("refused", "malformed"))
        status = telegraf.wait_text("Site-BESS-01/status", "online")
        self.assertEqual(self.row(inputs["flux_status"], status),
                         ({"site": "demo", "device": "Site-BESS-01"}, {"value": "online"}))
        telegraf.wait_text("bridge/status", "online")
        # Nothing else is asked for: no commands, no documents.
        self.assertEqual({m.topic.split("/")[3] for m in telegraf.messages},
                         {"state", "result", "status"})

    def test_historian_page(self):
        page = example("historian.md")
        for name, plugin in self.inputs().items():
            self.assertIn("`%s`" % name, page)
            for topic in plugin["topics"]:
                self.assertIn("`%s`" % topic, page)


if __name__ == "__main__":
    flux.main()
