"""The real Home Assistant: what it makes of the discovery documents, and what people do with it.

    home_assistant.py BUILD_DIR ROOT [unittest arguments]      ../run.sh installs and runs it

ROOT is the Debian that root.sh has made. One Home Assistant serves all tests; each has a site of
its own. Asked over REST and WebSocket, as its own front end does.
"""

import http.client
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import urllib.parse

import websocket  # Debian's python3-websocket

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "integration"))

import flux  # noqa: E402

START_S = 120  # until it answers, on a busy machine
CONFIGURATION = """
homeassistant:
  unit_system: metric
  time_zone: UTC
http:
  server_host: 127.0.0.1
  server_port: %d
logger:
  default: warning
energy:
history:
config:
"""
IN_ROOT = """
mount --bind /proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --bind "$1" "$0/mnt" &&
exec chroot "$0" env -i PATH=/opt/ha/bin:/usr/bin:/bin HOME=/mnt LANG=C.UTF-8 \
    /opt/ha/bin/hass --config /mnt --skip-pip
"""


class HomeAssistant:
    """Ends and starts again in the same place; knows every entity's state as it changes."""

    def __init__(self, root):
        self.root = root
        self.directory = tempfile.mkdtemp(prefix="fluxbridge-home-assistant-")
        self.place = flux.Place()
        self.client_id = "http://127.0.0.1:%d/" % self.place.port
        self.token = self.socket = None
        self.changed = threading.Condition()
        self.answers, self.states, self.n = {}, {}, 0
        with open(os.path.join(self.directory, "configuration.yaml"), "w") as file:
            file.write(CONFIGURATION % self.place.port)

    def start(self):
        self.program = flux.Program("Home Assistant", [
            "unshare", "--mount", "sh", "-c", IN_ROOT, self.root, self.directory])
        if self.token is None:
            self.wait_http()
            self.log_in()
        else:
            self.wait_http("/api/config", lambda answer: answer["state"] == "RUNNING")
        self.listen()

    def stop(self):
        """In order, so that it keeps what it knows. It gives its parts 20 + 30 + 30 s for that."""
        self.hang_up()
        self.program.signal(signal.SIGTERM)
        self.program.wait_end(120)

    def hang_up(self):
        self.socket.close()
        self.reader.join()

    def close(self):
        self.hang_up()
        self.program.kill()
        self.place.close()
        shutil.rmtree(self.directory)

    # ---- REST ----

    def request(self, method, path, body=None, form=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=60)
        headers = {"Authorization": "Bearer " + self.token} if self.token else {}
        if body is not None:
            headers["Content-Type"] = ("application/x-www-form-urlencoded" if form
                                       else "application/json")
            body = urllib.parse.urlencode(body) if form else json.dumps(body)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status not in (200, 201):
            raise AssertionError("%s %s: %d %s" % (method, path, response.status, text[:2000]))
        return json.loads(text)

    def wait_http(self, path="/manifest.json", predicate=lambda answer: True):
        """It tells nobody when it is there: asked again and again."""
        def is_there():
            if self.program.ended:
                raise AssertionError("Home Assistant has ended:\n" + self.program.log())
            try:
                return predicate(self.request("GET", path))
            except (OSError, http.client.HTTPException, AssertionError):
                return False

        condition = threading.Condition()
        end = flux.time.monotonic() + START_S * flux.PATIENCE
        with condition:
            while not is_there():
                if flux.time.monotonic() > end:
                    raise AssertionError("Home Assistant does not come up:\n" + self.program.log())
                condition.wait(0.2)

    def log_in(self):
        """As the one who sets it up does in the browser."""
        code = self.request("POST", "/api/onboarding/users", {
            "client_id": self.client_id, "name": "Owner", "username": "owner",
            "password": "correct-horse-battery", "language": "en"})["auth_code"]
        self.token = self.request("POST", "/auth/token", {
            "grant_type": "authorization_code", "client_id": self.client_id, "code": code},
            form=True)["access_token"]
        self.wait_http("/api/config", lambda answer: answer["state"] == "RUNNING")

    def filled(self, schema):
        """A form as it comes up: what has to be there is as it is shown, or the first choice."""
        answer = {}
        for field in schema:
            if field.get("type") == "expandable":
                answer[field["name"]] = self.filled(field["schema"])
            elif field.get("required"):
                value = field.get("default", field.get("description", {}).get("suggested_value"))
                choice = field.get("selector", {}).get("select")
                answer[field["name"]] = choice["options"][0] if choice and value is None else value
        return answer

    def add_mqtt(self, broker):
        flow = self.request("POST", "/api/config/config_entries/flow", {"handler": "mqtt"})
        while flow["type"] != "create_entry":
            if flow["type"] == "menu":
                answer = {"next_step_id": "broker"}
            else:
                answer = self.filled(flow["data_schema"])
                answer.update({"broker": broker.host, "port": broker.port})
            flow = self.request("POST", "/api/config/config_entries/flow/" + flow["flow_id"],
                                answer)
            if flow.get("errors"):
                raise AssertionError(flow)

    def call(self, service, entity, **data):
        domain, name = service.split(".")
        self.request("POST", "/api/services/%s/%s" % (domain, name),
                     {"entity_id": entity, **data})

    # ---- WebSocket ----

    def listen(self):
        self.socket = websocket.create_connection(
            "ws://127.0.0.1:%d/api/websocket" % self.place.port, timeout=None)
        assert json.loads(self.socket.recv())["type"] == "auth_required"
        self.socket.send(json.dumps({"type": "auth", "access_token": self.token}))
        assert json.loads(self.socket.recv())["type"] == "auth_ok"
        self.states = {}
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.ask("subscribe_events", event_type="state_changed")
        for state in self.ask("get_states"):
            with self.changed:
                self.states.setdefault(state["entity_id"], state)

    def read(self):
        while True:
            try:
                text = self.socket.recv()
            except (OSError, websocket.WebSocketException):
                return
            if not text:
                return
            message = json.loads(text)
            with self.changed:
                if message["type"] == "event":
                    data = message["event"]["data"]
                    self.states[data["entity_id"]] = data["new_state"]
                else:
                    self.answers[message["id"]] = message
                self.changed.notify_all()

    def ask(self, type, **more):
        self.n += 1
        number = self.n
        self.socket.send(json.dumps({"id": number, "type": type, **more}))
        answer = flux.wait_on(self.changed, lambda: self.answers.get(number), 60,
                              "an answer to " + type)
        if not answer["success"]:
            raise AssertionError("%s: %s" % (type, answer["error"]))
        return answer["result"]

    def wait(self, entity, predicate=lambda state: True, timeout_s=30):
        """Its state when it is as wanted; a text stands for the state itself."""
        def look():
            state = self.states.get(entity)
            if state is None:
                return None
            good = state["state"] == predicate if isinstance(predicate, str) else predicate(state)
            return state if good else None
        return flux.wait_on(self.changed, look, timeout_s,
                            lambda: "%s; it is %s" % (entity, self.states.get(entity)))

    def wait_gone(self, entity):
        flux.wait_on(self.changed, lambda: self.states.get(entity) is None, 30,
                     entity + " to disappear")

    def entities(self, site):
        """All of a site by their ids, as the registry has them."""
        return {entry["entity_id"]: entry for entry in self.ask("config/entity_registry/list")
                if entry["unique_id"].startswith("fluxbridge-%s-" % site)}

    def device(self, entry):
        (device,) = [d for d in self.ask("config/device_registry/list")
                     if d["id"] == entry["device_id"]]
        return device


class Reality(flux.Test):
    @classmethod
    def setUpClass(cls):
        cls.broker_directory = tempfile.mkdtemp(prefix="fluxbridge-test-")
        cls.mosquitto = flux.Broker(cls.broker_directory)
        cls.home = HomeAssistant(root)
        try:
            cls.home.start()
            cls.home.add_mqtt(cls.mosquitto)
            print("Home Assistant", cls.home.ask("get_config")["version"])
        except BaseException:
            print(cls.home.program.log())
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        if cls.home.socket is None:
            cls.home.program.kill()
        else:
            cls.home.close()
        cls.mosquitto.close()
        shutil.rmtree(cls.broker_directory)

    def setUp(self):
        super().setUp()
        self.addCleanup(self.check_log, self.home.program, self.home.program.mark())

    def check_log(self, program, since):
        """It complains of nothing but that the broker is away."""
        with program.changed:
            lines = program.lines[since:]
        self.assertEqual([line for line in lines
                          if re.search("(WARNING|ERROR).*(mqtt|energy|template)", line)
                          and not re.search("paho[.]mqtt|[Dd]isconnected|[Cc]onnect", line)], [])

    # ---- a site ----

    def rig(self, site, **control):
        self.site = site
        self.battery = flux.battery_unit()
        self.meter = flux.meter_unit()
        self.vendor = flux.Unit({
            **flux.registers(0x4000, flux.float_words(50.01)),
            **{0x4002 + i: 0 for i in range(0x46)},
            **flux.registers(0x4048, flux.long_words(123456)),
            **flux.registers(0x404A, flux.long_words(789)),
            **{address: 0 for address in range(0x404C, 0x405A)}})
        self.server = self.modbus({1: self.battery, 2: self.meter, 3: self.vendor})
        self.control = {"status_labels": [{"value": 1, "label": "ready"}],
                        "deadman": {"timeout": "1h", "value": 0.0}, **control}
        self.start()

    def start(self, battery="Site-BESS-01", meter=True):
        bess = {**flux.battery(self.server, control=self.control), "name": battery}
        meters = [flux.meter(self.server)] if meter else []
        meters.append(flux.meter(self.server, "PV-Meter", "acuvim2-vendor", 3))
        text = flux.config(self.mosquitto, [bess], meters, home_assistant={"enabled": True},
                           audit={"path": os.path.join(self.directory, "audit.jsonl")})
        self.flux = self.bridge(text.replace('site = "demo"', 'site = "%s"' % self.site))

    def of(self, platform, name, device="site_bess_01"):
        return "%s.%s_%s_%s" % (platform, self.site, device, name)

    def state(self, platform, name, predicate=lambda state: state["state"] not in
              ("unknown", "unavailable"), device="site_bess_01"):
        return self.home.wait(self.of(platform, name, device), predicate)

    def wait_up(self):
        for device in ("site_bess_01", "grid_meter", "pv_meter"):
            self.state("binary_sensor", "connectivity", "on", device)
        self.state("sensor", "soe", "54")

    # ---- tests ----

    def test_every_entity(self):
        """Each that a document names is there, with its class, unit and value."""
        self.rig("every")
        self.wait_up()
        mqtt = self.client(self.mosquitto, subscribe=("/homeassistant/device/+/config",))
        for node in ("bridge", "id-Site-BESS-01", "id-Grid-Meter", "id-PV-Meter"):
            document = mqtt.wait("/homeassistant/device/fluxbridge-every-%s/config" % node).json
            for key, component in document["components"].items():
                with self.subTest(node, component=key):
                    state = self.home.wait(component["default_entity_id"],
                                           lambda s: s["state"] != "unavailable")
                    attributes = state["attributes"]
                    for of_document, of_state in (
                            ("device_class", "device_class"), ("state_class", "state_class"),
                            ("unit_of_measurement", "unit_of_measurement"), ("min", "min"),
                            ("max", "max"), ("step", "step"), ("options", "options")):
                        self.assertEqual(attributes.get(of_state), component.get(of_document),
                                         of_document)
                    self.assertTrue(attributes["friendly_name"].endswith(component["name"]))
        entities = self.home.entities("every")
        self.assertEqual(len(entities), len({e["unique_id"] for e in entities.values()}))
        for platform, name, value, device in (
                ("sensor", "soe", "54", "site_bess_01"), ("sensor", "status", "ready", "site_bess_01"),
                ("sensor", "status_code", "1", "site_bess_01"),
                ("number", "target_power", "0", "site_bess_01"),
                ("sensor", "last_outcome", "unknown", "site_bess_01"),
                ("binary_sensor", "deadman_took_over", "off", "site_bess_01"),
                ("sensor", "lease_end", "unknown", "site_bess_01"),
                ("sensor", "energy_charged_integrated", "0", "site_bess_01"),
                ("sensor", "voltage_l1_n", "230.5", "grid_meter"),
                ("sensor", "active_power_total", "1500", "grid_meter"),
                ("sensor", "energy_import", "12345.6", "pv_meter"),
                ("sensor", "energy_export", "78.9", "pv_meter")):
            with self.subTest(name):
                shown = self.state(platform, name, lambda s: s["state"] != "unavailable", device)
                try:
                    self.assertAlmostEqual(float(shown["state"]), float(value), 3)
                except ValueError:
                    self.assertEqual(shown["state"], value)

    def test_energy_dashboard(self):
        self.rig("energy")
        self.wait_up()
        statistic = {name: self.of("sensor", name, device) for name, device in (
            ("energy_import", "pv_meter"), ("energy_export", "pv_meter"),
            ("energy_charged_integrated", "site_bess_01"),
            ("energy_discharged_integrated", "site_bess_01"))}
        for entity in statistic.values():
            self.home.wait(entity, lambda s: s["state"] not in ("unknown", "unavailable"))
        self.home.ask("energy/save_prefs", device_consumption=[], energy_sources=[
            {"type": "grid", "stat_energy_from": statistic["energy_import"],
             "stat_energy_to": statistic["energy_export"], "stat_cost": None,
             "stat_compensation": None, "entity_energy_price": None, "number_energy_price": None,
             "entity_energy_price_export": None, "number_energy_price_export": None,
             "cost_adjustment_day": 0.0},
            {"type": "battery", "stat_energy_from": statistic["energy_discharged_integrated"],
             "stat_energy_to": statistic["energy_charged_integrated"]}])
        issues = self.home.ask("energy/validate")
        self.assertEqual([issue for source in issues["energy_sources"] for issue in source
                          if issue["type"] != "statistics_not_defined"], [], issues)
        listed = {row["statistic_id"]: row for row in
                  self.home.ask("recorder/list_statistic_ids", statistic_type="sum")}
        for entity in statistic.values():
            self.assertEqual((listed[entity]["unit_class"], listed[entity]["has_sum"],
                              listed[entity]["statistics_unit_of_measurement"]),
                             ("energy", True, "kWh"))

    def test_a_setpoint_and_a_stop(self):
        self.rig("commands")
        self.wait_up()
        number = self.of("number", "target_power")
        self.home.call("number.set_value", number, value=40)
        self.server.wait(lambda: self.battery.registers[2008] == 40)
        self.home.wait(number, lambda s: float_of(s) == 40)
        outcome = self.state("sensor", "last_outcome", "confirmed")["attributes"]
        self.assertEqual((outcome["value"], outcome["readback"], outcome["source"]),
                         (40, 40, "home-assistant"))
        self.state("sensor", "last_reason", "none")
        self.assertEqual(self.state("sensor", "lease_end")["attributes"]["device_class"],
                         "timestamp")
        # A refused one tells why.
        with self.server.changed:
            self.battery.registers[2026] = 5
        self.home.call("number.set_value", number, value=50)
        self.state("sensor", "last_reason", "soe_low")
        self.assertEqual(self.state("sensor", "last_outcome", "refused")["attributes"]["detail"],
                         "SOE 5 % is below soe_min 10 %")
        # The button stops it all the same.
        self.home.call("button.press", self.of("button", "stop"))
        self.server.wait(lambda: self.battery.registers[2008] == 0)
        self.state("sensor", "last_outcome", "confirmed")
        self.state("sensor", "lease_end", "unknown")
        with self.server.changed:
            values = [w.values[0] for w in self.battery.writes if w.address == 2008]
        self.assertEqual(values, [40, 0])

    def test_the_deadman(self):
        self.rig("deadman", deadman={"timeout": flux.patient(3), "value": 0.0})
        self.wait_up()
        self.home.call("number.set_value", self.of("number", "target_power"), value=40)
        self.state("binary_sensor", "deadman_took_over", "on")
        self.home.call("button.press", self.of("button", "stop"))
        self.state("binary_sensor", "deadman_took_over", "off")

    def test_three_deaths(self):
        self.rig("deaths")
        self.wait_up()
        everything = [self.of("sensor", "soe"), self.of("number", "target_power"),
                      self.of("button", "stop"), self.of("sensor", "last_outcome")]
        # The device.
        with self.server.changed:
            self.battery.silent = True
        self.state("binary_sensor", "connectivity", "off")
        for entity in everything:
            self.home.wait(entity, "unavailable")
        self.state("sensor", "voltage_l1_n", device="grid_meter")
        with self.server.changed:
            self.battery.silent = False
        self.wait_up()
        # The bridge.
        self.flux.kill()
        for entity in (*everything, self.of("binary_sensor", "connectivity"),
                       self.of("sensor", "voltage_l1_n", "grid_meter")):
            self.home.wait(entity, "unavailable")
        self.home.wait("binary_sensor.deaths_bridge_connectivity", "off")
        self.start()
        self.wait_up()
        # The broker.
        self.mosquitto.stop()
        for entity in (*everything, "binary_sensor.deaths_bridge_connectivity"):
            self.home.wait(entity, "unavailable")
        self.mosquitto.start()
        self.wait_up()

    def test_it_restarts(self):
        self.rig("restart")
        self.wait_up()
        self.home.call("number.set_value", self.of("number", "target_power"), value=40)
        lease = self.state("sensor", "lease_end")["state"]
        before = {key: entry["unique_id"] for key, entry in self.home.entities("restart").items()}
        self.home.stop()
        self.home.start()
        self.wait_up()
        self.home.wait(self.of("number", "target_power"), lambda s: float_of(s) == 40)
        self.state("sensor", "last_outcome", "confirmed")
        self.state("sensor", "lease_end", lease)
        self.assertEqual({key: entry["unique_id"]
                          for key, entry in self.home.entities("restart").items()}, before)

    def test_a_renamed_device(self):
        self.rig("renamed")
        self.wait_up()
        before = self.home.entities("renamed")
        self.flux.stop()
        self.start(battery="East-Battery")
        with self.server.changed:
            self.battery.registers[2026] = 55
        self.state("sensor", "soe", "55")
        after = self.home.entities("renamed")
        self.assertEqual({k: e["unique_id"] for k, e in after.items()},
                         {k: e["unique_id"] for k, e in before.items()})
        entry = after[self.of("sensor", "soe")]
        self.assertEqual(entry["id"], before[self.of("sensor", "soe")]["id"])
        self.assertEqual(self.home.device(entry)["name"], "East-Battery")
        self.home.call("number.set_value", self.of("number", "target_power"), value=40)
        self.state("sensor", "last_outcome", "confirmed")

    def test_documents_of_an_earlier_release(self):
        """Entities by the device's name are replaced, and keep their ids."""
        self.rig("former")
        self.wait_up()
        mqtt = self.client(self.mosquitto, base="flux/former",
                           subscribe=("/homeassistant/device/+/config", "/info"))
        new = "homeassistant/device/fluxbridge-former-id-%s/config"
        old = "homeassistant/device/fluxbridge-former-%s/config"
        names = ("Site-BESS-01", "Grid-Meter", "PV-Meter")
        documents = {name: mqtt.wait("/" + new % name).text for name in names}
        before = set(self.home.entities("former"))
        self.flux.stop()
        os.remove(os.path.join(self.directory, "state-former.db"))
        for name in names:  # as it was with the earlier release
            mqtt.publish("/" + new % name, "", retain=True)
        self.home.wait_gone(self.of("sensor", "soe"))
        self.home.wait_gone(self.of("sensor", "energy_export", "pv_meter"))
        for name in names:
            mqtt.publish("/" + old % name, documents[name].replace("-id-" + name, "-" + name),
                         retain=True)
        mqtt.publish("bridge/info", {"version": "0.1.0", "site": "former", "run": "5f3a9c1e",
                                     "started": 1763791190000, "devices": list(names)},
                     retain=True)
        self.home.wait(self.of("sensor", "soe"))
        self.home.wait(self.of("sensor", "energy_export", "pv_meter"))
        self.start()
        self.wait_up()
        self.assertEqual(set(self.home.entities("former")), before)
        self.assertNotIn("-Site-BESS-01-", {e["unique_id"].replace("-id-", "-is-")
                                            for e in self.home.entities("former").values()})

    def test_what_is_gone_disappears(self):
        self.rig("gone")
        self.wait_up()
        entity = self.of("sensor", "voltage_l1_n", "grid_meter")
        self.flux.stop()
        self.start(meter=False)
        self.home.wait_gone(entity)
        self.state("sensor", "soe", "54")
        self.assertEqual([key for key in self.home.entities("gone") if "grid_meter" in key], [])


def float_of(state):
    try:
        return float(state["state"])
    except ValueError:
        return None


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: %s BUILD_DIR ROOT [unittest arguments]" % sys.argv[0])
    root = os.path.abspath(sys.argv.pop(2))
    flux.main()
