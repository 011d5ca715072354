"""Home Assistant: every document keeps its rules, every template renders what it should.

The rules are in discovery_schema.json, taken from Home Assistant's own documentation (named
there), independent of the program's tables. Templates are rendered by jinja2, in which Home
Assistant renders them, in the same kind of sandbox.
"""

import copy
import datetime
import json
import math
import os
import re
import sqlite3

import jinja2.sandbox

import flux

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "discovery_schema.json"),
          encoding="utf-8") as schema_file:
    RULES = json.load(schema_file)

BRIDGE = "/homeassistant/device/fluxbridge-demo-bridge/config"
BESS = "/homeassistant/device/fluxbridge-demo-id-Site-BESS-01/config"
METER = "/homeassistant/device/fluxbridge-demo-id-Grid-Meter/config"
VENDOR = "/homeassistant/device/fluxbridge-demo-id-PV-Meter/config"


# ---- the rules -------------------------------------------------------------------------------


def loads(text):
    """JSON in which no key comes twice."""
    def unique(pairs):
        names = [name for name, _ in pairs]
        if len(names) != len(set(names)):
            raise ValueError("doubled key in %s" % names)
        return dict(pairs)
    return json.loads(text, object_pairs_hook=unique)


def closed(where, group, required, allowed):
    for key in required:
        if key not in group:
            yield "%s: %s is missing" % (where, key)
    for key in group:
        if key not in required and key not in allowed:
            yield "%s: %s is unknown" % (where, key)


def is_topic(text):
    return isinstance(text, str) and 0 < len(text) < 65536 and not re.search("[+#\0]", text)


def is_number(value):
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value))


def is_count(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_availability(where, group):
    if "availability_topic" in group and "availability" in group:
        yield where + ": availability is given twice"
    if group.get("availability_mode", "latest") not in RULES["availability"]["modes"]:
        yield where + ": availability_mode"
    entries = group.get("availability", [])
    if not isinstance(entries, list):
        yield where + ": availability is no list"
        return
    for entry in entries:
        yield from closed(where + ".availability", entry, RULES["availability"]["required"],
                          RULES["availability"]["allowed"])
        if not is_topic(entry.get("topic")):
            yield where + ": availability topic"


def check_sensor(where, c):
    kind, unit, state = (c.get(k) for k in ("device_class", "unit_of_measurement", "state_class"))
    if kind is not None and kind not in RULES["state_classes"]:
        yield "%s: device class %s" % (where, kind)
        return
    if kind in RULES["units"] and unit not in RULES["units"][kind]:
        yield "%s: %s is not measured in %s" % (where, kind, unit)
    states = RULES["all_state_classes"] if kind is None else RULES["state_classes"][kind]
    if state is not None and state not in states:
        yield "%s: %s cannot be %s" % (where, kind, state)
    if kind in RULES["not_numeric"] and (unit is not None or state is not None
                                         or "suggested_display_precision" in c):
        yield "%s: %s is no number" % (where, kind)
    options = c.get("options")
    if (kind == "enum") != (options is not None):
        yield where + ": enum and options go together"
    if options is not None and (not isinstance(options, list) or not options
                                or not all(isinstance(o, str) and o for o in options)
                                or len(options) != len(set(options))):
        yield where + ": options"
    if "last_reset_value_template" in c and state != "total":
        yield where + ": last_reset without total"
    if "suggested_display_precision" in c and not is_count(c["suggested_display_precision"], 0):
        yield where + ": precision"


def check_number(where, c):
    low, high, step = c.get("min", 0), c.get("max", 100), c.get("step", 1)
    if not (is_number(low) and is_number(high) and low < high):
        yield "%s: min %s and max %s" % (where, low, high)
    if not (is_number(step) and step >= RULES["number"]["least_step"]):
        yield "%s: step %s" % (where, step)
    if c.get("mode", "auto") not in RULES["number"]["modes"]:
        yield where + ": mode"
    kind, unit = c.get("device_class"), c.get("unit_of_measurement")
    if kind is not None and unit not in RULES["units"].get(kind, []):
        yield "%s: %s in %s" % (where, kind, unit)
    if not is_topic(c.get("command_topic")):
        yield where + ": command_topic"


def check_binary_sensor(where, c):
    if c.get("device_class") not in [None, *RULES["binary_sensor_classes"]]:
        yield where + ": device class"
    if c.get("payload_on", "ON") == c.get("payload_off", "OFF"):
        yield where + ": on is off"


def check_button(where, c):
    if c.get("device_class") not in [None, "identify", "restart", "update"]:
        yield where + ": device class"
    if not is_topic(c.get("command_topic")):
        yield where + ": command_topic"


CHECKS = {"sensor": check_sensor, "number": check_number, "binary_sensor": check_binary_sensor,
          "button": check_button}


def merged(root, component):
    """A component with what it inherits from the root."""
    shared = {k: v for k, v in root.items() if k in RULES["root"]["shared"]}
    return {**shared, **component}


def check_component(where, root, component):
    platform = component.get("platform")
    if platform not in CHECKS:
        yield "%s: platform %s" % (where, platform)
        return
    rules = RULES["platforms"][platform]
    own = {k: v for k, v in component.items() if k != "platform"}
    yield from closed(where, own, [], rules["required"] + rules["optional"])
    c = merged(root, component)
    for key in rules["required"]:
        if key not in c:
            yield "%s: %s is missing" % (where, key)
    if not re.match(RULES["id"], c.get("unique_id") or ""):
        yield where + ": unique_id"
    entity = c.get("default_entity_id")
    if entity is not None and not (re.match(RULES["entity_id"], entity)
                                   and entity.startswith(platform + ".")):
        yield "%s: default_entity_id %s" % (where, entity)
    if c.get("entity_category") not in [None, *RULES["entity_categories"][platform]]:
        yield where + ": entity_category"
    if "state_topic" in c and not is_topic(c["state_topic"]):
        yield where + ": state_topic"
    if "expire_after" in c and not is_count(c["expire_after"], 1):
        yield where + ": expire_after"
    for key, value in c.items():
        if key.endswith("_template"):
            try:
                ENVIRONMENT.from_string(value)
            except jinja2.TemplateError as error:
                yield "%s: %s: %s" % (where, key, error)
    yield from check_availability(where, c)
    yield from CHECKS[platform](where, c)


def check_document(topic, root):
    """What is wrong with one document, in words."""
    match = re.match(RULES["topic"], topic)
    if not match:
        yield "topic " + topic
        return
    where = match.group("id")
    yield from closed(where, root, RULES["root"]["required"], RULES["root"]["shared"])
    device, components = root.get("device", {}), root.get("components", {})
    yield from closed(where + ".device", device, [], RULES["device"]["allowed"])
    if not any(device.get(key) for key in RULES["device"]["one_of"]):
        yield where + ": the device has no identity"
    for identifier in device.get("identifiers", []):
        if not re.match(RULES["id"], identifier):
            yield "%s: identifier %s" % (where, identifier)
    if device.get("via_device") in device.get("identifiers", []):
        yield where + ": via_device is the device itself"
    yield from closed(where + ".origin", root.get("origin", {}), RULES["origin"]["required"],
                      RULES["origin"]["allowed"])
    if not components:
        yield where + ": no components"
    for key, component in components.items():
        yield from check_component(where + "." + key, root, component)


def check_house(documents):
    """What is wrong with [(topic, root)] in the order of their arrival."""
    announced, unique = set(), set()
    for topic, root in documents:
        yield from check_document(topic, root)
        device = root.get("device", {})
        via = device.get("via_device")
        if via is not None and via not in announced:
            yield "%s: %s is not announced before it" % (topic, via)
        announced.update(device.get("identifiers", []))
        for component in root.get("components", {}).values():
            identity = (component.get("platform"), component.get("unique_id"))
            if identity in unique:
                yield "%s: %s is there twice" % (topic, identity)
            unique.add(identity)


# ---- templates -------------------------------------------------------------------------------


ENVIRONMENT = jinja2.sandbox.ImmutableSandboxedEnvironment()
# What Home Assistant adds to jinja2.
ENVIRONMENT.filters["as_datetime"] = lambda s: datetime.datetime.fromtimestamp(
    s, datetime.timezone.utc)
ENVIRONMENT.tests["mapping"] = lambda value: isinstance(value, dict)
ENVIRONMENT.globals["now"] = lambda: datetime.datetime.now(datetime.timezone.utc)


def render_value(component, payload, state="unknown"):
    template = component.get("value_template", "{{ value }}")
    return ENVIRONMENT.from_string(template).render(
        value=payload, value_json=json.loads(payload), this={"state": state}).strip()


def render_command(component, value):
    return ENVIRONMENT.from_string(component["command_template"]).render(value=value)


# ---- tests -----------------------------------------------------------------------------------


class Discovery(flux.Test):
    def setUp(self):
        super().setUp()
        self.server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto, subscribe=("/#",))

    def start(self, bess=None, meters=(), disk=True, **more):
        battery = flux.battery(self.server, control=bess)
        more.setdefault("home_assistant", {"enabled": True})
        if disk:
            more.setdefault("audit", {"path": os.path.join(self.directory, "audit.jsonl")})
        return self.bridge(flux.config(self.mosquitto, [battery], meters, **more))

    def start_house(self, **more):
        labels = [{"value": 0, "label": "standby"}, {"value": 1, "label": "ready"}]
        return self.start({"status_labels": labels},
                          [flux.meter(self.server),
                           flux.meter(self.server, "PV-Meter", "acuvim2-vendor", 3)], **more)

    def document(self, topic, since=0):
        return loads(self.mqtt.wait(topic, lambda m: m.payload, since=since).payload)

    def house(self, since=0):
        """Every document that was published, in order."""
        with self.mqtt.changed:
            return [(m.topic, loads(m.payload)) for m in self.mqtt.messages[since:]
                    if m.topic.startswith("homeassistant/device/") and m.payload]

    def state(self, device="Site-BESS-01", predicate=None, since=0):
        return self.mqtt.wait(device + "/state", predicate, since=since)

    # -- documents --

    def test_rules(self):
        self.start_house()
        last = self.mqtt.wait(VENDOR)
        self.assertEqual((last.retain, last.qos), (1, 1))
        house = self.house()
        self.assertEqual([topic for topic, _ in house],
                         [t[1:] for t in (BRIDGE, BESS, METER, VENDOR)])
        self.assertEqual(list(check_house(house)), [])

    def test_odd_types(self):
        """Whatever a site's own type holds, its document is good."""
        units = ("", "V", "kV", "mV", "A", "mA", "W", "kW", "MW", "var", "kvar", "VA", "kVA", "Hz",
                 "Wh", "kWh", "MWh", "varh", "kvarh", "VAh", "kVAh", "%", "°C", "K", "m³/h", "KW")
        types = ("int16", "uint32", "float32")
        rows = ['{ name = "x%d"; address = %d; type = "%s"; unit = "%s"; access = "%s"; %s }'
                % (i, 4 * i, types[i % 3], unit, ("r", "rw")[i % 2],
                   "scale = 0.1; counter = true;" if i % 5 else "every = 3;")
                for i, unit in enumerate(units)]
        rows += ['{ name = "items"; address = 900; type = "uint16"; enumerated = true; }',
                 '{ name = "phase"; address = 901; type = "int16"; enumerated = true; every = 2;'
                 '  labels = ( { value = -1; label = "it\'s \\"off\\""; } ); }',
                 '{ name = "fan"; address = 902; type = "bool"; bits = [ 3, 1 ]; }',
                 '{ name = "soe"; address = 903; type = "float32"; unit = "%"; }',
                 '{ name = "power_factor"; address = 905; type = "int16"; scale = 0.001; }',
                 '{ name = "serial_number"; address = 906; type = "string"; registers = 8; }']
        with open(os.path.join(self.directory, "odd.cfg"), "w", encoding="utf-8") as file:
            file.write('manufacturer = "Odd"; model = "1";\npoints = (%s);\n' % ",\n".join(rows))
        os.environ["FLUXBRIDGE_PROFILES"] = self.directory
        self.addCleanup(os.environ.pop, "FLUXBRIDGE_PROFILES")
        self.start(meters=[flux.meter(self.server, "-_Odd--9_", "odd")])
        topic = "/homeassistant/device/fluxbridge-demo-id--_Odd--9_/config"
        document = self.document(topic)
        self.assertEqual(list(check_house(self.house())), [])
        self.assertEqual(len(document["components"]), len(rows) + 2 + 1)

    def test_rules_can_fail(self):
        """The check itself, checked: one thing wrong is one thing found, or more."""
        self.start_house()
        self.mqtt.wait(VENDOR)
        good = self.house()
        number = ("components", "set-target_power")
        soe, status = ("components", "soe"), ("components", "status")
        wrongs = [
            (("~",), "flux/demo"), (("device", "area"), "x"), (("origin", "url"), "x"),
            (("origin",), {}), (("device", "identifiers"), []), (("components",), {}),
            (("device", "identifiers"), ["a b"]),
            (("device", "via_device"), "fluxbridge-demo-id-Site-BESS-01"),
            (("device", "via_device"), "fluxbridge-demo-nobody"),
            (("availability",), [{"topic": "a/+"}]), (("availability",), [{"topics": "a"}]),
            (("availability_mode",), "every"), (("availability_topic",), "a"),
            (soe + ("platform",), None), (soe + ("unique_id",), None),
            (soe + ("unique_id",), "a.b"), (soe + ("object_id",), "soe"),
            (soe + ("unit_of_measurement",), "kWh"), (soe + ("device_class",), "charge"),
            (soe + ("state_class",), "total"), (soe + ("expire_after",), 0),
            (soe + ("entity_category",), "config"), (soe + ("options",), ["a"]),
            (soe + ("default_entity_id",), "sensor.Soe"), (soe + ("default_entity_id",), "soe"),
            (soe + ("value_template",), "{{ value_json."),
            (soe + ("suggested_display_precision",), -1),
            (soe + ("unique_id",), "fluxbridge-demo-id-Site-BESS-01-status"),
            (status + ("options",), []), (status + ("unit_of_measurement",), "kW"),
            (status + ("state_class",), "measurement"),
            (number + ("min",), 250), (number + ("step",), 0), (number + ("mode",), "slide"),
            (number + ("command_topic",), "a/#"), (number + ("expire_after",), 3),
            (number + ("unit_of_measurement",), "kWh"),
        ]
        for path, value in wrongs:
            with self.subTest(path=path, value=value):
                bad = copy.deepcopy(good)
                group = bad[1][1]
                for key in path[:-1]:
                    group = group[key]
                group[path[-1]] = value
                self.assertNotEqual(list(check_house(bad)), [])
        self.assertNotEqual(list(check_house(good[::-1])), [])  # the bridge last

    def test_availability(self):
        """The connectivity of a device while the bridge is; all else while both are."""
        self.start_house()
        self.mqtt.wait(VENDOR)
        bridge = {"topic": "flux/demo/bridge/status"}
        for topic, root in self.house():
            for key, component in root["components"].items():
                with self.subTest(topic=topic, component=key):
                    c = merged(root, component)
                    both = [bridge, {"topic": "flux/demo/%s/status" % root["device"]["name"]}]
                    if topic == BRIDGE[1:]:
                        expected = [] if c.get("device_class") == "connectivity" else [bridge]
                    else:
                        expected = [bridge] if c.get("device_class") == "connectivity" else both
                        self.assertEqual(c["availability_mode"], "all")
                    self.assertEqual(c.get("availability", []), expected)
        self.assertTrue(self.mqtt.wait_text("bridge/status", "online").retain)
        self.assertTrue(self.mqtt.wait_text("Site-BESS-01/status", "online").retain)

    # -- what entities show --

    def test_states(self):
        self.start_house()
        root = self.document(BESS)["components"]
        payload = self.state().payload
        shown = {key: render_value(c, payload) for key, c in root.items()
                 if c.get("state_topic") is None and "value_template" in c}
        self.assertEqual(shown, {
            "status": "ready", "status_code": "1", "target_power": "0", "command_source": "0",
            "soe": "54", "available_blocks": "4", "set-target_power": "0",
            "energy_charged_integrated": "0", "energy_discharged_integrated": "0"})
        self.assertIn(shown["status"], root["status"]["options"])
        link = root["device-connectivity"]
        online = self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.assertEqual((link["state_topic"], link["payload_on"], link["payload_off"]),
                         (online.topic, "online", "offline"))

        # A code without a label, a power beyond the limits: unknown, and not the last one.
        unit = self.server.units[1]
        with self.server.changed:
            unit.registers.update({2000: 9, 2008: 251})
        # A scan is several requests: one may have begun before.
        payload = self.state(predicate=lambda m: (
            m.json["data"]["target_power"], m.json["data"]["status_code"]) == (251, 9)).payload
        self.assertEqual(render_value(root["status"], payload), "None")
        self.assertEqual(render_value(root["status_code"], payload), "9")
        self.assertEqual(render_value(root["set-target_power"], payload), "None")
        self.assertEqual(render_value(root["target_power"], payload), "251")

        # What cannot be read is unknown.
        with self.server.changed:
            unit.read_exceptions = dict.fromkeys((2000, 2008, 2026), 4)
        payload = self.state(predicate=lambda m: {None} == {
            m.json["data"][name] for name in ("status_code", "soe", "target_power")}).payload
        for key in ("status", "status_code", "soe", "target_power", "set-target_power"):
            self.assertEqual(render_value(root[key], payload), "None", key)

    def test_slow_poll_class(self):
        """A value that is not in a sample stays as it is."""
        with open(os.path.join(self.directory, "slow.cfg"), "w", encoding="utf-8") as file:
            file.write('manufacturer = "S"; model = "1"; points = ('
                       '{ name = "fast"; address = 0; type = "uint16"; },'
                       '{ name = "level"; address = 1; type = "uint16"; every = 3; },'
                       '{ name = "mode"; address = 2; type = "uint16"; enumerated = true;'
                       '  every = 3; labels = ( { value = 5; label = "on"; } ); });')
        os.environ["FLUXBRIDGE_PROFILES"] = self.directory
        self.addCleanup(os.environ.pop, "FLUXBRIDGE_PROFILES")
        self.server.units[4] = flux.Unit({0: 1, 1: 2, 2: 5})
        self.start(meters=[flux.meter(self.server, "Slow", "slow", 4)])
        root = self.document("/homeassistant/device/fluxbridge-demo-id-Slow/config")["components"]
        with_it = self.state("Slow", lambda m: "level" in m.json["data"]).payload
        without = self.state("Slow", lambda m: "level" not in m.json["data"]).payload
        self.assertEqual(render_value(root["level"], with_it), "2")
        self.assertEqual(render_value(root["level"], without), "")  # ignored by a sensor
        self.assertEqual(render_value(root["mode"], with_it), "on")
        self.assertEqual(render_value(root["mode"], without, "on"), "on")
        self.assertEqual(render_value(root["mode"], without, "unavailable"), "None")
        self.assertEqual(render_value(root["fast"], without), "1")

    def test_bridge_diagnostics(self):
        self.start_house()
        root = self.document(BRIDGE)
        health = self.mqtt.wait("bridge/health")
        shown = {key: render_value(c, health.payload) for key, c in root["components"].items()
                 if key != "device-connectivity"}
        self.assertEqual(set(shown), {"samples", "drops", "spool_depth", "reconnects",
                                      "missed_ticks"})
        for key, text in shown.items():
            self.assertEqual(text, str(health.json[key]))
            self.assertEqual(root["components"][key]["entity_category"], "diagnostic")
        self.assertEqual(root["state_topic"], health.topic)

    # -- the setpoint --

    def test_setpoint(self):
        ttl_s = 2.5 * flux.PATIENCE
        self.start({"ttl": flux.patient(2.5)})
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        number = self.document(BESS)["components"]["set-target_power"]
        self.assertEqual((number["min"], number["max"], number["step"]), (-250, 250, 1))
        ids = set()
        for value in (-75, 40, 0):
            command = loads(render_command(number, value))
            self.assertEqual(set(command), {"id", "value", "issued_at", "ttl_s", "source"})
            self.assertEqual((command["ttl_s"], command["source"]), (ttl_s, "home-assistant"))
            ids.add(command["id"])
            self.mqtt.publish("/" + number["command_topic"], render_command(number, value))
            outcome = self.mqtt.wait("Site-BESS-01/result",
                                     lambda m, v=value: m.json["value"] == v).json
            self.assertEqual((outcome["outcome"], outcome["source"]),
                             ("confirmed", "home-assistant"))
            self.state(predicate=lambda m, v=value: render_value(number, m.payload) == str(v))
        ids.update(loads(render_command(number, 1))["id"] for _ in range(50))
        self.assertGreater(len(ids), 45)  # also within one millisecond

    def test_stop(self):
        """The button publishes a whole command, too: a stop."""
        self.start()
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.mqtt.ask(50, "first")
        button = self.document(BESS)["components"]["command-stop"]
        payload = render_command(button, button["payload_press"])
        self.assertEqual(set(loads(payload)), {"id", "value", "issued_at", "ttl_s", "source"})
        self.mqtt.publish("/" + button["command_topic"], payload)
        outcome = self.mqtt.wait("Site-BESS-01/result", lambda m: m.json["value"] == 0).json
        self.assertEqual((outcome["outcome"], outcome["source"], outcome["readback"]),
                         ("confirmed", "home-assistant", 0))

    def test_outcomes(self):
        """The last command's, its reason, the lease's end and the deadman."""
        self.start({"deadman": {"timeout": "1h", "value": 0.0}})
        root = self.document(BESS)["components"]
        control = root["command-outcome"]["state_topic"]
        keys = ("command-outcome", "command-reason", "deadman-took-over", "lease-end")
        self.assertEqual({root[key]["state_topic"] for key in keys}, {control})

        def shown(predicate):
            payload = self.mqtt.wait("/" + control, lambda m: predicate(m.json)).payload
            attributes = ENVIRONMENT.from_string(root[keys[0]]["json_attributes_template"]).render(
                value_json=json.loads(payload))
            return [render_value(root[key], payload) for key in keys], json.loads(attributes)

        self.assertEqual(shown(lambda c: True), (["None", "None", "OFF", "None"], {}))
        self.assertEqual(ENVIRONMENT.from_string(root[keys[0]]["json_attributes_template"]).render(),
                         "{}")  # of the empty message that clears the topic
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        outcome = self.mqtt.ask(50, "first")
        (word, reason, taken_over, end), attributes = shown(lambda c: c["last"] and c["lease"])
        self.assertEqual((word, reason, taken_over, attributes),
                         ("confirmed", "none", "OFF", outcome))
        self.assertGreater(datetime.datetime.fromisoformat(end),
                           datetime.datetime.now(datetime.timezone.utc))
        self.mqtt.ask(999, "high")
        words = shown(lambda c: c["last"] and c["last"]["id"] == "high")[0]
        self.assertEqual(words[:2], ["refused", "out_of_range"])
        self.assertIn("refused", root["command-outcome"]["options"])

    def test_schedule(self):
        """The entry in force and the next change; all else of it as attributes."""
        self.start()
        root = self.document(BESS)["components"]
        entry, following = root["schedule-entry"], root["schedule-next"]
        topic = "/" + entry["state_topic"]
        self.assertEqual(following["state_topic"], entry["state_topic"])

        def shown(payload):
            return render_value(entry, payload), render_value(following, payload)

        self.assertEqual(shown(self.mqtt.wait(topic).payload), ("None", "None"))
        now = flux.utc_ms()
        self.mqtt.publish("Site-BESS-01/schedule/set", {
            "id": "day", "revision": 1, "valid_until": now + 7200000,
            "entries": [{"start": now, "end": now + 3600000, "value": 50}]})
        payload = self.mqtt.wait(topic, lambda m: m.json["state"] == "running").payload
        value, at = shown(payload)
        self.assertEqual(float(value), 50)
        self.assertEqual(round(datetime.datetime.fromisoformat(at).timestamp() * 1000),
                         now + 3600000)
        attributes = ENVIRONMENT.from_string(entry["json_attributes_template"])
        self.assertEqual(json.loads(attributes.render(value_json=json.loads(payload))),
                         json.loads(payload))
        self.assertEqual(attributes.render(), "{}")  # of the empty message that clears it

    def test_a_renamed_device(self):
        """It stays what it is: the same document, in which its name and topics are others."""
        for disk in (True, False):
            with self.subTest(disk=disk):
                first = self.start(meters=[flux.meter(self.server)], disk=disk)
                before = self.document(METER)
                self.mqtt.wait("bridge/info")
                first.stop()
                since = self.mqtt.mark()
                renamed = {**flux.meter(self.server), "name": "New-Meter"}
                self.start(meters=[renamed], disk=disk)
                after = self.document(METER, since)
                self.assertEqual(after["device"]["name"], "New-Meter")
                self.assertEqual(after["device"]["identifiers"], before["device"]["identifiers"])
                self.assertEqual(*[{key: c["unique_id"] for key, c in root["components"].items()}
                                   for root in (before, after)])
                self.assertIn("New-Meter/state", after["state_topic"])
                for leaf in ("status", "info", "state"):
                    self.mqtt.wait("Grid-Meter/" + leaf, lambda m: not m.payload, since=since)
                self.assertEqual([m for m in self.mqtt.on(METER, since) if not m.payload], [])
                self.doCleanups()
                self.setUp()

    def test_documents_of_an_earlier_release(self):
        """They went by the device's name, and are cleared before there are new ones."""
        old = "/homeassistant/device/fluxbridge-demo-%s/config"
        for name in ("Site-BESS-01", "Gone"):
            self.mqtt.publish(old % name, "{}", retain=True)
        self.mqtt.publish("bridge/info", {"version": "0.1.0", "site": "demo", "run": "5f3a9c1e",
                                          "started": 1763791190000,
                                          "devices": ["Site-BESS-01", "Gone"]}, retain=True)
        self.mqtt.wait("bridge/info")
        since = self.mqtt.mark()
        self.start()
        self.document(BESS, since)
        with self.mqtt.changed:
            seen = [(m.topic, bool(m.payload)) for m in self.mqtt.messages[since:]
                    if m.topic.startswith("homeassistant/device/")]
        self.assertEqual(sorted(seen[:2]), sorted(((old % name)[1:], False)
                                                  for name in ("Site-BESS-01", "Gone")))
        self.assertEqual([(topic, True) for topic in (BRIDGE[1:], BESS[1:])], seen[2:])

    def test_read_only_battery(self):
        self.bridge(flux.config(self.mosquitto, [flux.battery(self.server, control=False)],
                                home_assistant={"enabled": True}))
        components = self.document(BESS)["components"]
        self.assertNotIn("set-target_power", components)
        self.assertEqual(components["target_power"]["platform"], "sensor")
        self.assertNotIn("options", components["status"])  # nobody has named its values
        self.assertEqual(list(check_house(self.house())), [])

    # -- when --

    def test_home_assistant_starts(self):
        self.start_house(home_assistant={"enabled": True, "prefix": "ha/main"})
        last = "/ha/main/device/fluxbridge-demo-id-PV-Meter/config"
        self.mqtt.wait(last)
        since = self.mqtt.mark()
        self.mqtt.publish("/homeassistant/status", "offline")
        self.mqtt.publish("/homeassistant/status", "online")
        self.mqtt.wait(last, since=since)
        topics = [m.topic for m in self.mqtt.messages[since:] if m.topic.startswith("ha/main/")]
        self.assertEqual(topics, ["ha/main/device/fluxbridge-demo-%s/config" % name for name in
                                  ("bridge", "id-Site-BESS-01", "id-Grid-Meter", "id-PV-Meter")])

    def test_broker_returns(self):
        self.start_house()
        self.mqtt.wait(VENDOR)
        self.mosquitto.stop()  # and keeps nothing
        self.mosquitto.start()
        later = self.client(self.mosquitto, subscribe=("/homeassistant/#",))
        for topic in (BRIDGE, BESS, METER, VENDOR):
            later.wait(topic)

    def test_a_broker_that_takes_one_at_a_time(self):
        """The documents follow one another, and wait for nothing else to happen."""
        self.mosquitto = self.broker("max_inflight_messages 1\n")
        self.mqtt = self.client(self.mosquitto, subscribe=("/#",))
        meters = [flux.meter(self.server, "Meter-%d" % i, poll="1h") for i in range(120)]
        self.bridge(flux.config(self.mosquitto, [], meters, home_assistant={"enabled": True},
                                audit={"path": os.path.join(self.directory, "audit.jsonl")}))
        self.mqtt.wait("/homeassistant/device/fluxbridge-demo-id-Meter-119/config")
        # There is one every 10 s: did each document wait for the next, there would be 120.
        self.assertLess(len(self.mqtt.on("bridge/health")), 12)

    def removed(self, **more):
        self.mqtt.publish("/homeassistant/device/fluxbridge-demo-Foreign/config", "{}", retain=True)
        first = self.start_house(**more)
        self.mqtt.wait(VENDOR)
        self.mqtt.wait("bridge/info")
        first.stop()
        since = self.mqtt.mark()
        self.start(meters=[flux.meter(self.server)], **more)
        self.assertEqual(self.mqtt.wait(VENDOR, since=since).payload, b"")
        self.mqtt.wait(METER, since=since)
        later = self.client(self.mosquitto, subscribe=("/homeassistant/#",))
        for topic in (BRIDGE, BESS, METER, "/homeassistant/device/fluxbridge-demo-Foreign/config"):
            self.assertTrue(later.wait(topic).payload, topic)
        self.assertEqual(later.on(VENDOR), [])

    def test_removed_device(self):
        self.removed()

    def test_removed_device_version_4(self):
        self.removed(mqtt={"version": 4})

    def test_off_unless_enabled(self):
        self.start_house(home_assistant={"enabled": False})
        self.mqtt.publish("/homeassistant/status", "online")
        self.mqtt.wait("bridge/health")
        data = self.state().json["data"]
        self.mqtt.wait_count("Site-BESS-01/state", 5)
        self.assertEqual(self.house(), [])
        self.assertEqual([key for key in data if "integrated" in key], [])
        self.assertEqual([f for f in os.listdir(self.directory) if "energy" in f], [])

    # -- energy --

    def energy(self, predicate, since=0):
        key = "energy_discharged_integrated"
        message = self.state(predicate=lambda m: predicate(m.json["data"][key]), since=since)
        return message.json["data"][key]

    def test_energy_outlives_a_crash(self):
        self.server.units[1].registers[2008] = 200
        first = self.start()
        self.assertEqual(self.document(BESS)["components"]["energy_discharged_integrated"]
                         ["state_class"], "total_increasing")
        shown = self.energy(lambda kwh: kwh > 0)
        first.kill()
        since = self.mqtt.mark()
        second = self.start()
        again = self.energy(lambda kwh: True, since)
        self.assertGreaterEqual(again, shown)
        shown = self.energy(lambda kwh: kwh > again, since)
        second.stop()
        file = sqlite3.connect(os.path.join(self.directory, "state-demo.db"))
        text, = file.execute("SELECT text FROM state WHERE key = 'energy/id-Site-BESS-01'").fetchone()
        file.close()
        kept = int(text.split()[1]) / 1e9
        self.assertGreater(kept, shown)  # the rest of the minute was written at the end
        since = self.mqtt.mark()
        self.start()
        self.assertAlmostEqual(self.energy(lambda kwh: True, since), kept, 5)


if __name__ == "__main__":
    flux.main()
