"""A bridge that is reloaded: what the tests of reloads share."""

import os
import signal

import flux

METER = "Grid-Meter"
PATIENT = {"timeout": "20s"}  # nothing is silent here: a connection is kept


class Rig(flux.Test):
    """A battery with a link of its own, two meters that share a gateway, and another."""

    environment = None

    def rig(self, **more):
        self.units = {1: flux.battery_unit(), 2: flux.meter_unit(), 3: flux.meter_unit(),
                      4: flux.meter_unit()}
        self.bess = self.modbus({1: self.units[1]})
        self.gateway = self.modbus({2: self.units[2], 3: self.units[3]})
        self.lone = self.modbus({4: self.units[4], 5: flux.battery_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto, subscribe=("#", "/homeassistant/#", "/ha/#"))
        self.audit = os.path.join(self.directory, "audit.jsonl")
        self.groups = {"audit": {"path": self.audit}, "home_assistant": {"enabled": True}, **more}
        self.devices = {
            "bess": [flux.battery(self.bess, modbus=PATIENT)],
            "meters": [flux.meter(self.gateway, modbus=PATIENT),
                       flux.meter(self.gateway, "Load", address=3, modbus=PATIENT),
                       flux.meter(self.lone, "PV", address=4, modbus=PATIENT)]}
        self.flux = self.bridge(self.text(), self.environment)
        for name in ("Site-BESS-01", METER, "Load", "PV"):
            self.mqtt.wait_text(name + "/status", "online")
        self.mqtt.wait_text("bridge/status", "online")

    def text(self):
        return flux.config(self.mosquitto, self.devices["bess"], self.devices["meters"],
                           **self.groups)

    def reload(self, text=None, answer=r"info: reloaded level=debug$"):
        flux.write_whole(self.flux.config, self.text() if text is None else text)
        self.since = self.mqtt.mark()
        since = self.flux.mark()
        self.flux.signal(signal.SIGHUP)
        return self.flux.wait_log(answer, since=since)

    def samples(self, name):
        """(run, seq) of all live samples, in order."""
        return [(m.json["run"], m.json["seq"]) for m in self.mqtt.on(name + "/state")
                if m.payload]

    def next_sample(self, name):
        """The first that was taken after now."""
        since = self.mqtt.mark()
        self.mqtt.wait_count(name + "/state", 2, since=since)

    def assert_goes_on(self, *names):
        """No sample is missing or twice, and it is one run."""
        for name in names:
            self.next_sample(name)
            samples = self.samples(name)
            self.assertEqual(len({run for run, _ in samples}), 1)
            self.assertEqual([seq for _, seq in samples],
                             list(range(samples[0][1], samples[0][1] + len(samples))), name)

    def assert_same_sessions(self, *names):
        """Nobody said that it is offline."""
        for name in names:
            self.assertEqual(self.mqtt.on(name + "/status", self.since), [], name)
