"""What the bridge says of itself and of its devices: status, info, health."""

import signal
import time

import flux


class Liveness(flux.Test):
    def rig(self, mqtt=None, meters=True, **more):
        self.server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.flux = self.bridge(flux.config(
            self.mosquitto, [flux.battery(self.server)],
            [flux.meter(self.server)] if meters else [], mqtt=mqtt, **more))
        self.mqtt.wait_text("bridge/status", "online")
        for device in ("Site-BESS-01", "Grid-Meter")[:2 if meters else 1]:
            self.mqtt.wait_text(device + "/status", "online")

    def test_status(self):
        self.rig()
        for topic in ("bridge/status", "Site-BESS-01/status", "Grid-Meter/status"):
            message = self.mqtt.wait_text(topic, "online")
            self.assertEqual((message.retain, message.qos), (1, 1), topic)

    def test_orderly_end(self):
        self.rig()
        since = self.mqtt.mark()
        self.flux.stop()
        for topic in ("bridge/status", "Site-BESS-01/status", "Grid-Meter/status"):
            self.assertTrue(self.mqtt.wait_text(topic, "offline", since=since).retain, topic)

    def test_sigint_ends_in_order_too(self):
        self.rig()
        self.flux.signal(signal.SIGINT)
        self.assertEqual(self.flux.wait_end(), 0)
        self.mqtt.wait_text("bridge/status", "offline")

    def test_sudden_death(self):
        """The Wills: with device_wills the devices' topics are true even then."""
        self.rig()
        since = self.mqtt.mark()
        self.flux.kill()
        for topic in ("bridge/status", "Site-BESS-01/status", "Grid-Meter/status"):
            self.assertTrue(self.mqtt.wait_text(topic, "offline", since=since).retain, topic)

    def test_sudden_death_without_device_wills(self):
        self.rig(mqtt={"device_wills": False})
        since = self.mqtt.mark()
        self.flux.kill()
        self.mqtt.wait_text("bridge/status", "offline", since=since)
        # A later client sees why availability must look at both topics.
        late = self.client(self.mosquitto)
        late.wait_text("bridge/status", "offline")
        late.wait_text("Grid-Meter/status", "online")

    def test_version_4(self):
        self.rig(mqtt={"version": 4})
        since = self.mqtt.mark()
        self.flux.kill()
        self.mqtt.wait_text("bridge/status", "offline", since=since)
        self.mqtt.wait_text("Site-BESS-01/status", "offline", since=since)

    def test_bridge_info(self):
        self.rig()
        message = self.mqtt.wait("bridge/info")
        self.assertEqual((message.retain, message.qos), (1, 1))
        info = message.json
        self.assertEqual(info["devices"], ["Site-BESS-01", "Grid-Meter"])
        self.assertRegex(info["version"], r"^\d+\.\d+\.\d+$")
        self.assertLess(abs(info["started"] - time.time() * 1000), 60000 * max(1, flux.PATIENCE))
        self.assertEqual(info["run"], self.mqtt.wait("Grid-Meter/state").json["run"])

    def test_device_info(self):
        self.rig()
        message = self.mqtt.wait("Site-BESS-01/info")
        self.assertEqual((message.retain, message.qos), (1, 1))
        info = message.json
        self.assertEqual((info["id"], info["name"], info["type"]),
                         ("id-Site-BESS-01", "Site-BESS-01", "powerpack"))
        points = {p["name"]: p for p in info["points"]}
        self.assertEqual(set(points), {"status", "target_power", "command_source", "soe",
                                       "available_blocks"})
        target = points["target_power"]
        self.assertEqual((target["unit"], target["type"], target["access"], target["min"],
                          target["max"]), ("kW", "int16", "rw", -250, 250))
        self.assertEqual(points["soe"]["access"], "r")

    def test_health(self):
        self.rig()
        self.assertEqual(self.mqtt.ask(50, "c1")["outcome"], "confirmed")
        self.assertEqual(self.mqtt.ask(999, "c2")["reason"], "out_of_range")
        message = self.mqtt.wait(
            "bridge/health", lambda m: m.json["commands"]["received"] == 2, timeout_s=25)
        self.assertEqual((message.retain, message.qos), (1, 0))
        health = message.json
        self.assertGreater(health["samples"], 0)
        self.assertGreater(health["publishes"], 0)
        self.assertEqual((health["drops"], health["spool_depth"], health["reconnects"]), (0, 0, 0))
        self.assertEqual((health["commands"]["confirmed"], health["commands"]["refused"]), (1, 1))
        self.assertEqual(health["commands"]["refused_by_reason"], {"out_of_range": 1})

    def test_everything_retained_is_said_again_to_an_empty_broker(self):
        self.rig(meters=False)
        since, line = self.mqtt.mark(), self.flux.mark()
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker", since=line)
        self.mosquitto.start()  # it remembers nothing
        for topic in ("bridge/info", "Site-BESS-01/info"):
            self.mqtt.wait(topic, since=since)
        for topic in ("bridge/status", "Site-BESS-01/status"):
            self.mqtt.wait_text(topic, "online", since=since)

    def test_a_run_of_its_own(self):
        self.rig(meters=False)
        first = self.mqtt.wait("Site-BESS-01/state").json
        self.flux.stop()
        since = self.mqtt.mark()
        self.flux = self.bridge(self.flux.text)
        second = self.mqtt.wait("Site-BESS-01/state", since=since).json
        self.assertNotEqual(first["run"], second["run"])


if __name__ == "__main__":
    flux.main()
