"""Dozens of devices with sessions of their own, which carry their Wills."""

import flux

MANY = 40


class PresenceMany(flux.Test):
    def rig(self, mqtt=None):
        self.server = self.modbus({1: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.names = ["Meter-%d" % i for i in range(MANY)]
        self.flux = self.bridge(flux.config(
            self.mosquitto, meters=[flux.meter(self.server, name=name, address=1, poll="2s")
                                    for name in self.names], mqtt=mqtt))
        self.wait_all("online")

    def wait_all(self, text, since=0):
        for name in self.names:
            self.assertTrue(self.mqtt.wait_text(name + "/status", text, 60, since).retain)

    def test_sudden_death(self):
        self.rig()
        since = self.mqtt.mark()
        self.flux.kill()
        self.wait_all("offline", since)

    def test_sudden_death_3_1_1(self):
        self.rig({"version": 4})
        since = self.mqtt.mark()
        self.flux.kill()
        self.wait_all("offline", since)

    def test_an_end_in_order(self):
        self.rig()
        since = self.mqtt.mark()
        self.flux.stop()
        self.wait_all("offline", since)

    def test_a_broker_that_starts_anew(self):
        self.rig()
        since = self.mqtt.mark()
        self.mosquitto.stop()
        self.mosquitto.start()
        self.wait_all("online", since)
        self.assertNotIn("no MQTT session for", self.flux.log())


if __name__ == "__main__":
    flux.main()
