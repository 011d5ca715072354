"""A PowerPack's direct interface, written from what is known of it and not from the
bridge's own simulator: the battery stops by itself when its heartbeat stays away."""

import itertools
import json
import os
import signal
import subprocess
import time
import urllib.request

from pymodbus.client import ModbusTcpClient

import flux
import topics_md

MODE, ACTIVE, POWER, BEAT, TIMEOUT, RAMP_UP, RAMP_DOWN = 1000, 1001, 1020, 1022, 1023, 1024, 1026
DEVICE = "Site-BESS-01"
RESULT = DEVICE + "/result"
WORDS = (0xAA55, 0x55AA)


def signed(words):
    """int32, high word first."""
    return int.from_bytes(bytes().join(w.to_bytes(2, "big") for w in words), "big", signed=True)


class Direct(flux.Unit):
    """The site controller. A heartbeat counts when it is the complement of the last; when none
    has counted for `timeout` seconds the battery does nothing any more before mode 1 is
    written anew. It takes function 16 alone."""

    def __init__(self):
        super().__init__({
            **flux.registers(139, [3, 0xD090, 3, 0xD090]), **flux.registers(145, [7, 0xA120]),
            **flux.registers(200, [2, 0, 0]), 203: 0, 204: 0,
            **flux.registers(205, [7, 0x5300, 3, 0xF480]), 218: 5,
            MODE: 0, ACTIVE: 0, POWER: 0, POWER + 1: 0, BEAT: 0, TIMEOUT: 60,
            **flux.registers(RAMP_UP, [0, 0, 0, 0])})
        self.timer = None
        self.server = None
        self.runs = False  # it does what POWER says
        self.expired = 0  # how often it has stopped by itself
        self.beats = []

    def power(self):
        return signed([self.registers[POWER], self.registers[POWER + 1]]) if self.runs else 0

    def _expire(self):
        with self.server.changed:
            if self.runs:
                self.runs = False
                self.expired += 1
            self.server.changed.notify_all()

    def _beat(self, word):
        if self.beats and word != self.beats[-1] ^ 0xFFFF:
            return
        self.beats.append(word)
        self._wind()

    def _wind(self):
        if self.timer:
            self.timer.cancel()
        self.timer = self.server.loop.call_later(self.registers[TIMEOUT], self._expire)

    def _write(self, request, values):
        if request.function_code != 16:
            return flux.pymodbus_server.exception(request, 1)
        answer = super()._write(request, values)
        span = range(request.address, request.address + len(values))
        if BEAT in span and not self.silent:
            self._beat(self.registers[BEAT])
        if MODE in span:
            self.runs = self.registers[MODE] == 1 and not self.silent
            self._wind()
        return answer


class DirectTest(flux.Test):
    def rig(self, control=None, modbus=None, meters=(), units=None, **more):
        self.unit = Direct()
        self.server = self.modbus({1: self.unit, **(units or {})})
        self.unit.server = self.server
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.battery = {
            "id": "b1", "name": DEVICE, "type": "powerpack-direct", "poll": "200ms",
            "modbus": {"host": self.server.host, "port": self.server.port, "address": 1,
                       "timeout": "5s", **(modbus or {})},
            "control": {"min_kw": -250.0, "max_kw": 250.0, **(control or {})}}
        self.text = flux.config(
            self.mosquitto, [self.battery], [make(self.server) for make in meters],
            audit={"path": os.path.join(self.directory, "audit.jsonl")}, **more)
        self.start()

    def start(self):
        since = self.mqtt.mark()
        self.flux = self.bridge(self.text)
        self.mqtt.wait_text(DEVICE + "/status", "online", since=since)
        self.mqtt.wait_text("bridge/status", "online", since=since)

    def mark(self):
        with self.server.changed:
            return len(self.unit.writes)

    def writes(self, since=0):
        with self.server.changed:
            writes = self.unit.writes[since:]
        self.assertEqual({w.function for w in writes} - {16}, set())
        return [(w.address, w.values) for w in writes]

    def but_beats(self, since=0):
        return [w for w in self.writes(since) if w[0] != BEAT]

    def wait_control(self, state, since=0):
        self.mqtt.wait("bridge/health", lambda m: m.json["control"] == {DEVICE: state},
                       timeout_s=30, since=since)

    def wait_beats(self, n):
        """So many more have counted."""
        with self.server.changed:
            end = len(self.unit.beats) + n
        self.server.wait(lambda: len(self.unit.beats) >= end, what="%d beats" % n)


class Driver(DirectTest):
    def test_what_is_written(self):
        self.rig()
        sample = self.mqtt.wait(DEVICE + "/state").json["data"]
        self.assertEqual((sample["soe"], sample["target_power"], sample["mode"]), (54, 0, "code_0"))
        outcome = self.mqtt.ask(-50.25, "a")
        self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", -50.25))
        # Ramps and always_active once, then heartbeat, power, timeout, and the mode last.
        self.assertEqual(self.writes()[:7], [
            (RAMP_UP, [1, 0x86A0]), (RAMP_DOWN, [1, 0x86A0]), (ACTIVE, [1]), (BEAT, [0xAA55]),
            (POWER, [0xFFFF, 0x3BB6]), (TIMEOUT, [10]), (MODE, [1])])
        self.assertEqual(self.unit.power(), -50250)
        self.mqtt.wait(DEVICE + "/state", lambda m: m.json["data"]["target_power"] == -50.25)
        since = self.mark()
        self.assertEqual(self.mqtt.ask(12, "b")["outcome"], "confirmed")
        self.assertEqual(self.but_beats(since), [(POWER, [0, 12000])])
        self.wait_beats(4)
        # Every one is the complement of the one before: none is lost on the device.
        # One whose answer came too late is sent again as it was.
        sent = [values[0] for address, values in self.writes() if address == BEAT]
        beats = [word for word, _ in itertools.groupby(sent)]
        self.assertEqual(beats, [WORDS[i % 2] for i in range(len(beats))])
        self.assertLess(len(sent), 2 * len(beats))
        self.assertEqual(self.but_beats(since), [(POWER, [0, 12000])])
        self.wait_control("held")
        self.assertEqual(self.unit.expired, 0)

    def test_people_see_it(self):
        port = self.place().port
        self.rig(home_assistant={"enabled": True}, http={"listen": "127.0.0.1:%d" % port})
        self.mqtt.ask(5, "a")
        with urllib.request.urlopen("http://127.0.0.1:%d/api/state" % port) as answer:
            (device,) = json.load(answer)["devices"]
        self.assertEqual(device["control"], "held")
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % port) as answer:
            metrics = answer.read().decode()
        self.assertIn('fluxbridge_control_state{device="%s",state="held"} 1\n' % DEVICE, metrics)
        self.assertIn('fluxbridge_control_state{device="%s",state="lost"} 0\n' % DEVICE, metrics)
        everything = flux.Client(self.mosquitto, base="homeassistant")
        self.addCleanup(everything.close)
        document = everything.wait("device/fluxbridge-demo-b1/config").json
        sensor = document["components"]["control-state"]
        self.assertEqual(sensor["options"], ["idle", "engaging", "held", "lost", "releasing"])
        self.assertEqual(sensor["state_topic"], "flux/demo/bridge/health")
        self.assertEqual(document["components"]["set-target_power"]["max"], 250)

    def test_killed(self):
        """Nobody is there any more: the battery's own timeout ends it."""
        self.rig(modbus={"device_timeout": "3s"})
        self.assertEqual(self.mqtt.ask(50, "a")["outcome"], "confirmed")
        self.assertEqual((self.unit.power(), self.unit.registers[TIMEOUT]), (50000, 3))
        self.wait_beats(2)
        self.assertEqual(self.unit.expired, 0)
        self.flux.kill()
        self.server.wait(lambda: self.unit.expired == 1, what="the battery to stop")
        self.assertEqual(self.unit.power(), 0)
        # The next run neither goes on with it nor takes it over.
        since = self.mark()
        self.start()
        count = len(self.mqtt.on(DEVICE + "/state"))
        self.mqtt.wait_count(DEVICE + "/state", count + 5)
        self.assertEqual(self.writes(since), [])

    def test_a_silent_neighbour(self):
        """Its timeout is longer than the battery's own."""
        meter = flux.meter_unit()
        self.rig(modbus={"device_timeout": "3s"}, units={2: meter}, meters=(
            lambda server: flux.meter(server, modbus={"timeout": "5s"}),))
        self.mqtt.wait("Grid-Meter/state")
        self.assertEqual(self.mqtt.ask(50, "a")["outcome"], "confirmed")
        with self.server.changed:
            meter.silent = True
            asked = meter.requests
        self.server.wait(lambda: meter.requests >= asked + 2, what="the silent meter to be asked")
        self.wait_beats(3)
        self.assertEqual((self.unit.expired, self.unit.power()), (0, 50000))

    def test_lost(self):
        self.rig(control={"deadman": {"timeout": "60s"}})
        self.mqtt.command(12.5, "a", fields={"source": "dispatch-a"})
        self.assertEqual(self.mqtt.outcome("a")["outcome"], "confirmed")
        with self.server.changed:
            self.unit.registers[MODE] = 0  # a hand at the device
        lost = self.mqtt.wait(RESULT, lambda m: m.json["outcome"] == "lost").json
        self.assertEqual((lost["id"], lost["detail"]), ("a", "mode reads 0, not 1"))
        ((topic, text),) = topics_md.examples("json", "example-with-a-held-battery")
        self.assertEqual(topics_md.shape(lost), topics_md.shape(json.loads(text)))
        since = self.mark()
        self.wait_control("lost")
        self.assertEqual(self.writes(since), [])
        self.assertEqual(len([m for m in self.mqtt.on(RESULT) if m.json["id"] == "a"]), 2)
        # A repetition of its id is answered as before; a newer one takes the battery over.
        self.mqtt.command(12.5, "a", fields={"source": "dispatch-a"})
        again = self.mqtt.wait(RESULT, lambda m: m.json.get("duplicate")).json
        self.assertEqual(again["outcome"], "confirmed")
        self.assertEqual(self.writes(since), [])
        self.assertEqual(self.mqtt.ask(12.5, "b")["outcome"], "confirmed")
        self.assertEqual([address for address, _ in self.but_beats(since)],
                         [RAMP_UP, RAMP_DOWN, ACTIVE, POWER, TIMEOUT, MODE])
        self.wait_control("held")

    def test_half_done(self):
        self.rig()
        with self.server.changed:
            self.unit.write_exceptions[TIMEOUT] = 3
        outcome = self.mqtt.ask(50, "a")
        self.assertEqual((outcome["outcome"], outcome["reason"], outcome["detail"]),
                         ("failed", "illegal_value",
                          "engage, step 6 of 7, timeout_s = 10: illegal_value"))
        self.server.wait(lambda: self.unit.writes[-1].address == MODE, what="the release")
        self.assertEqual(self.writes()[-3:], [(TIMEOUT, [10]), (POWER, [0, 0]), (MODE, [0])])
        self.wait_control("idle")

    def test_a_stop(self):
        """Held at zero, since it would go back to a plan of its own; or released."""
        for idle in ("hold", "release"):
            with self.subTest(idle):
                self.rig(control={"idle": idle})
                self.mqtt.ask(50, "a")
                self.assertEqual(self.mqtt.ask(0, "stop")["outcome"], "confirmed")
                self.assertEqual(self.unit.power(), 0)
                if idle == "hold":
                    self.wait_beats(2)
                    self.assertEqual((self.unit.runs, self.unit.expired), (True, 0))
                else:
                    self.server.wait(lambda: self.unit.writes[-1] == (16, MODE, [0]))
                    self.wait_control("idle")
                self.flux.stop()

    def test_at_the_end(self):
        self.rig(control={"on_exit": "fallback", "idle": "release"})
        self.mqtt.ask(50, "a")
        since = self.mark()
        self.flux.stop()
        self.assertEqual(self.but_beats(since)[-3:], [(POWER, [0, 0]), (POWER, [0, 0]), (MODE, [0])])

    def test_the_lease(self):
        self.rig(control={"deadman": {"timeout": "2s"}})
        self.mqtt.ask(50, "a")
        outcome = self.mqtt.wait(RESULT, lambda m: m.json.get("source") == "deadman").json
        self.assertEqual((outcome["outcome"], self.unit.power()), ("confirmed", 0))
        self.wait_beats(2)
        self.assertTrue(self.unit.runs)

    def test_a_schedule(self):
        """An entry is its own lease; and by its default the battery is let go."""
        self.rig(control={"deadman": {"timeout": "1s"}}, modbus={"device_timeout": "3s"})
        now = flux.utc_ms()
        self.mqtt.publish(DEVICE + "/schedule/set", {
            "id": "day", "revision": 1, "valid_until": now + 3600000, "default": "release",
            "entries": [{"start": now - 1000, "end": now + 10000, "value": 12}]})
        outcome = self.mqtt.wait(RESULT, lambda m: m.json.get("source") == "schedule:day").json
        self.assertEqual((outcome["outcome"], self.unit.power()), ("confirmed", 12000))
        self.wait_beats(4)
        self.assertEqual((self.unit.expired, self.unit.power()), (0, 12000))
        self.server.wait(lambda: self.unit.writes[-1] == (16, MODE, [0]), what="the release")
        self.assertEqual(self.unit.expired, 0)
        self.wait_control("idle")

    def test_the_tool(self):
        """Nobody keeps up what it wrote, and it says so."""
        self.rig(modbus={"device_timeout": "3s"})
        self.flux.stop()
        path = os.path.join(self.directory, "tool.cfg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.text)
        code, out, err = self.run_tool("write", "-c", path, DEVICE, "target_power", "50")
        self.assertEqual((code, json.loads(out)["outcome"]), (0, "confirmed"))
        self.assertIn("nobody keeps this up from now on: %s goes back to its own by its "
                      "device_timeout, 3 s" % DEVICE, err)
        self.assertIn((POWER, [0, 50000]), self.writes())
        self.server.wait(lambda: self.unit.expired == 1, what="the battery to stop")
        since = self.mark()
        code, out, err = self.run_tool("write", "-c", path, DEVICE, "target_power", "50",
                                       "--dry-run")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("target_power = 50, function 16, address 1020, registers 0x0000 0xC350", out)
        told = json.loads(self.run_tool("write", "-c", path, DEVICE, "target_power", "50",
                                        "--dry-run", "--json")[1])
        self.assertIn({"point": "target_power", "function": 16, "address": 1020,
                       "registers": [0, 50000]}, told["writes"])
        self.assertEqual(told["writes"][-1]["point"], "mode")
        code, _, err = self.run_tool("write", "-c", path, DEVICE, "mode", "1")
        self.assertEqual((code, self.writes(since)), (1, []))

    def test_the_tool_that_nobody_listens_to(self):
        """Whoever has gone does not cut it off: what was written is on record."""
        self.rig(modbus={"device_timeout": "3s"})
        self.flux.stop()
        path = os.path.join(self.directory, "tool.cfg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.text)
        ours, theirs = os.pipe()
        os.close(ours)
        tool = subprocess.run([flux.program("fluxbridge"), "write", "-c", path, DEVICE,
                               "target_power", "50"], stdin=subprocess.DEVNULL, stdout=theirs,
                              stderr=theirs, timeout=4 * flux.DEADLINE_S, check=False)
        os.close(theirs)
        self.assertEqual(tool.returncode, 1)  # that it could not say so
        with open(os.path.join(self.directory, "audit.jsonl")) as file:
            outcome = json.loads(file.readlines()[-1])
        self.assertEqual((outcome["source"], outcome["outcome"]), ("fluxbridge-write", "confirmed"))

    def test_nothing_else_is_written(self):
        """What belongs to the type's way cannot be written behind its back."""
        self.rig()
        for point in ("mode", "timeout_s", "heartbeat", "ramp_up"):
            self.mqtt.command(1, "x-" + point, point=point)
            self.assertEqual(self.mqtt.outcome("x-" + point)["reason"], "not_writable")
        self.assertEqual(self.writes(), [])


class Simulated(flux.Test):
    """fluxbridge-sim serves the types with their timeouts."""

    def rig(self, type, control):
        self.place_of_it = self.place()
        device = {"id": "b1", "name": DEVICE, "type": type, "poll": "100ms",
                  "modbus": {"host": self.place_of_it.host, "port": self.place_of_it.port,
                             "address": 1, "timeout": "2s"}, "control": control}
        if type == "powerpack-direct":
            device["modbus"]["device_timeout"] = "3s"
        broker = self.broker()
        self.mqtt = self.client(broker)
        text = flux.config(broker, [device],
                           audit={"path": os.path.join(self.directory, "audit.jsonl")})
        self.simulator(text)
        self.flux = self.bridge(text)
        self.mqtt.wait_text(DEVICE + "/status", "online")
        self.text = text

    def test_each_type(self):
        for type, power in (("powerpack-direct", 12.5), ("sungrow-sh", -4.5), ("victron-ess", 2.5)):
            with self.subTest(type):
                self.rig(type, {"min_kw": -20.0, "max_kw": 20.0, "idle": "release",
                                "deadman": {"timeout": "60s"}})
                outcome = self.mqtt.ask(power, "a-" + type)
                self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", power))
                self.mqtt.wait(DEVICE + "/state",
                               lambda m: m.json["data"]["target_power"] == power)
                # A keepalive holds it up for longer than the battery would wait.
                self.mqtt.wait("bridge/health", lambda m: m.json["control"] == {DEVICE: "held"})
                self.assertEqual(self.mqtt.ask(0, "b-" + type)["outcome"], "confirmed")
                self.mqtt.wait("bridge/health", lambda m: m.json["control"] == {DEVICE: "idle"},
                               timeout_s=30)
                self.flux.stop()

    def test_a_missed_heartbeat(self):
        """The bridge is frozen: the battery stops by itself, and is lost when it goes on."""
        self.rig("powerpack-direct", {"min_kw": -20.0, "max_kw": 20.0})
        self.assertEqual(self.mqtt.ask(12.5, "a")["outcome"], "confirmed")
        self.flux.signal(signal.SIGSTOP)
        client = ModbusTcpClient(self.place_of_it.host, port=self.place_of_it.port, timeout=5)
        self.assertTrue(client.connect())
        self.addCleanup(client.close)
        end = time.monotonic() + flux.DEADLINE_S
        while client.read_holding_registers(MODE, count=1, slave=1).registers != [0]:
            self.assertLess(time.monotonic(), end, "the battery does not stop")
        self.flux.signal(signal.SIGCONT)
        lost = self.mqtt.wait(RESULT, lambda m: m.json["outcome"] == "lost").json
        self.assertEqual(lost["id"], "a")
        self.assertEqual(client.read_holding_registers(MODE, count=1, slave=1).registers, [0])


if __name__ == "__main__":
    flux.main()
