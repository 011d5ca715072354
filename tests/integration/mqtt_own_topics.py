"""What the bridge keeps retained: put right, damped, and cleared when it is no more."""

import datetime
import os
import re
import sqlite3
import time

import flux
from hostile_broker import HostileBroker

BATTERY, METER = "Site-BESS-01", "Grid-Meter"


class OwnTopics(flux.Test):
    def rig(self, **more):
        self.battery = flux.battery_unit()
        self.server = self.modbus({1: self.battery, 2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.start(**more)

    def start(self, meters=(METER,), mqtt=None, **more):
        self.flux = self.bridge(flux.config(
            self.mosquitto, [flux.battery(self.server)],
            [flux.meter(self.server, name=name) for name in meters], mqtt=mqtt, **more))

    def wait_up(self, since=0, devices=(BATTERY, METER)):
        self.mqtt.wait_text("bridge/status", "online", since=since)
        for device in devices:
            self.mqtt.wait_text(device + "/status", "online", since=since)

    # ---- put right ----

    def test_a_late_will_is_put_right(self):
        self.rig()
        self.wait_up()
        for topic in ("bridge/status", METER + "/status", BATTERY + "/status"):
            since = self.mqtt.mark()
            self.mqtt.publish(topic, "offline", retain=True)
            self.mqtt.wait_text(topic, "offline", since=since)
            self.assertTrue(self.mqtt.wait_text(topic, "online", 5, since=since).retain)
        self.flux.wait_log("somebody else has changed a topic of ours: it is put right "
                           "topic=flux/demo/bridge/status")

    def test_a_will_of_its_own_is_nobody_else_s(self):
        """A broker that is stopped sends the devices' Wills to the bridge while it can. When
        that would be put right, nobody is there."""
        slept = os.path.join(self.directory, "slept")
        self.server = self.modbus({1: flux.battery_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.flux = self.bridge(flux.config(self.mosquitto, [flux.battery(self.server)]),
                                {**self.preload(flux.SET_CLOCK), "CLOCK_SLEPT": slept})
        self.wait_up(devices=(BATTERY,))
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker")
        flux.write_whole(slept, 60)
        self.mosquitto.start()
        self.flux.wait_log("the broker is back")
        self.assertNotIn("somebody else", self.flux.log())

    def test_without_device_wills_and_with_3_1_1(self):
        self.rig(mqtt={"device_wills": False, "version": 4})
        self.wait_up()
        for topic in ("bridge/status", METER + "/status"):
            since = self.mqtt.mark()
            self.mqtt.publish(topic, "offline", retain=True)
            self.mqtt.wait_text(topic, "offline", since=since)
            self.mqtt.wait_text(topic, "online", 5, since=since)

    def test_info_that_was_emptied(self):
        self.rig()
        self.wait_up()
        for topic in ("bridge/info", METER + "/info"):
            self.mqtt.wait(topic)
            since = self.mqtt.mark()
            self.mqtt.publish(topic, "", retain=True)
            self.mqtt.wait(topic, lambda m: m.payload, 5, since=since)

    def test_a_state_that_somebody_else_wrote(self):
        """The last sample is there again, however slowly the device is polled."""
        self.rig_slow()
        sample = self.mqtt.wait(METER + "/state")
        copy = sample.payload.replace(b'"data":{', b'"data":{"forged":1,')
        for payload in ("", "nonsense", copy):
            since = self.mqtt.mark()
            self.mqtt.publish(METER + "/state", payload, retain=True)
            again = self.mqtt.wait(METER + "/state", lambda m: m.payload == sample.payload,
                                   since=since)
            self.assertTrue(again.retain)
            self.assertIn("MessageExpiryInterval", str(again.properties))
        self.flux.wait_log("somebody else has changed a topic of ours: it is put right "
                           "topic=flux/demo/%s/state" % METER)

    def test_discovery_documents(self):
        """Under whatever prefix, and not those of others."""
        for version, prefix in ((5, "homeassistant"), (4, "ha/site")):
            with self.subTest(version):
                self.rig(mqtt={"version": version},
                         home_assistant={"enabled": True, "prefix": prefix})
                observer = self.client(self.mosquitto, subscribe=("/%s/#" % prefix,))
                self.wait_up()
                self.put_right(observer, "/%s/device/fluxbridge-demo-" % prefix)
                self.flux.stop()

    def put_right(self, observer, base):
        for name, payload in (("bridge", ""), ("id-" + METER, "nonsense")):
            topic = base + name + "/config"
            document = observer.wait(topic).payload
            since = observer.mark()
            observer.publish(topic, payload, retain=True)
            again = observer.wait(topic, lambda m, d=document: m.payload == d, 5, since=since)
            self.assertTrue(again.retain)
        since = observer.mark()
        observer.publish(base + "other/config", "{}", retain=True)
        observer.publish(base + "bridge/config", "", retain=True)
        observer.wait(base + "bridge/config", lambda m: m.payload, since=since)
        self.assertEqual(len(observer.on(base + "other/config", since=since)), 1)
        self.flux.wait_log("somebody else has changed a topic of ours: it is put right topic=" +
                           base[1:] + "bridge/config")

    def rig_slow(self):
        self.battery = flux.battery_unit()
        self.server = self.modbus({1: self.battery, 2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.flux = self.bridge(flux.config(
            self.mosquitto, [], [flux.meter(self.server, name=METER, poll="1h")]))
        self.mqtt.wait_text("bridge/status", "online")

    def test_what_is_right_is_left_alone(self):
        self.rig()
        self.wait_up()
        since = self.mqtt.mark()
        self.mqtt.publish(METER + "/status", "online", retain=True)
        self.mqtt.wait_count(METER + "/state", 25, since=since)
        self.assertEqual(len(self.mqtt.on(METER + "/status", since=since)), 1)
        self.assertNotIn("somebody else", self.flux.log())

    def test_what_lay_there_before(self):
        """A busy broker of 3.1.1 brings it when there is something newer."""
        health, status = "flux/demo/bridge/health", "flux/demo/%s/status" % METER
        broker = HostileBroker()
        self.addCleanup(broker.close)
        self.server = self.modbus({2: flux.meter_unit()})
        self.flux = self.bridge(flux.config(broker, [], [flux.meter(self.server, name=METER)],
                                            mqtt={"version": 4, "device_wills": False}))
        broker.wait(lambda: broker.on(health) and broker.on("flux/demo/%s/state" % METER))
        session = broker.bridges()[0]
        session.deliver(health, "{}", retained=True)
        for _ in range(2):  # the second time at least 2 s after the first
            n = len(broker.on(status))
            session.deliver(status, "offline")
            broker.wait(lambda n=n: broker.on(status)[n:])
        self.flux.wait_log("topic=" + status)
        self.assertNotIn("topic=" + health, self.flux.log())

    # ---- damped ----

    def test_a_device_that_flaps(self):
        self.rig()
        self.wait_up()
        self.mqtt.wait_count(BATTERY + "/state", 10)  # its online is no news any more
        since = self.mqtt.mark()
        broken = {address: 4 for address in self.battery.registers}
        begun = time.monotonic()
        for faults in [broken, {}] * 8:
            with self.server.changed:
                self.battery.read_exceptions = faults
            self.server.wait(lambda n=self.battery.requests: self.battery.requests >= n + 6)
        quick = time.monotonic() - begun < 10  # sixteen changes: on a slow machine each is said
        self.mqtt.wait_text(BATTERY + "/status", "offline", since=since)
        self.mqtt.wait_count(BATTERY + "/status", 3, since=since)
        self.assert_once_a_second([m.time for m in self.mqtt.on(BATTERY + "/status", since=since)])
        # The log, too; with the count of those that it has left out.
        said = [line for line in self.flux.log().splitlines()
                if re.search("device (offline|online again) .*" + BATTERY, line)]
        if quick:
            self.assertRegex("\n".join(said), r" changes=\d+")
        self.assert_once_a_second([datetime.datetime.fromisoformat(line.split("Z ")[0]).timestamp()
                                   for line in said])

    def assert_once_a_second(self, times):
        """One may come late, and be followed closely by the next."""
        self.assertLessEqual(len(times), 2 + times[-1] - times[0], times)

    # ---- cleared ----

    def test_what_is_gone_is_cleared(self):
        """By what was remembered on disk, without a bridge/info to tell."""
        spool = {"path": os.path.join(self.directory, "spool.db")}
        assistant = {"enabled": True}
        self.rig(spool=spool, home_assistant=assistant)
        self.wait_up()
        self.mqtt.wait(METER + "/info")
        config = "homeassistant/device/fluxbridge-demo-%s/config"
        documents = ("id-" + BATTERY, "id-New-Meter", "bridge")
        watch = self.client(self.mosquitto, subscribe=("/homeassistant/#",))
        for document in ("id-" + BATTERY, "id-" + METER, "bridge"):
            watch.wait("/" + config % document)
        self.flux.stop()
        self.mqtt.publish("bridge/info", "", retain=True)
        since, watched = self.mqtt.mark(), watch.mark()
        self.start(meters=("New-Meter",), spool=spool, home_assistant=assistant)
        self.wait_up(since, (BATTERY, "New-Meter"))
        for leaf in ("status", "info", "state"):
            self.mqtt.wait("%s/%s" % (METER, leaf), lambda m: not m.payload, since=since)
        watch.wait("/" + config % ("id-" + METER), lambda m: not m.payload, since=watched)
        watch.wait("/" + config % "id-New-Meter", lambda m: m.payload, since=watched)
        self.assertEqual([m for m in self.mqtt.on(BATTERY + "/info", since=since)
                          if not m.payload], [])
        # Without Home Assistant, nothing of it is left.
        self.flux.stop()
        watched = watch.mark()
        self.start(meters=("New-Meter",), spool=spool)
        for document in documents:
            watch.wait("/" + config % document, lambda m: not m.payload, since=watched)
        # Once: the next start has nothing to clear.
        self.flux.stop()
        watched, since = watch.mark(), self.mqtt.mark()
        self.start(meters=("New-Meter",), spool=spool)
        self.wait_up(since, (BATTERY, "New-Meter"))
        self.mqtt.wait_count(BATTERY + "/state", 5, since=since)
        self.assertEqual(watch.messages[watched:], [])

    def test_what_is_gone_is_cleared_when_it_is_known(self):
        """Where what earlier runs have announced can be read only later."""
        spool = {"path": os.path.join(self.directory, "spool.db")}
        self.rig(spool=spool)
        self.wait_up()
        self.mqtt.wait(METER + "/info")
        self.mqtt.wait(METER + "/state")
        self.flux.stop()
        self.mqtt.publish("bridge/info", "", retain=True)
        since = self.mqtt.mark()
        other = sqlite3.connect(os.path.join(self.directory, "state-demo.db"))
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        self.start(meters=(), spool=spool)
        self.wait_up(since, (BATTERY,))
        self.mqtt.wait_count(BATTERY + "/state", 5, since=since)
        self.assertEqual(self.mqtt.on(METER + "/info", since=since), [])
        other.rollback()
        other.close()
        self.flux.wait_log("info: the state file is used again")
        for leaf in ("status", "info", "state"):
            self.mqtt.wait("%s/%s" % (METER, leaf), lambda m: not m.payload, since=since)
        self.assertEqual([m for m in self.mqtt.on(BATTERY + "/info", since=since)
                          if not m.payload], [])

    def test_a_former_site_is_cleared(self):
        state = {"path": os.path.join(self.directory, "spool.db")}
        self.rig(spool=state)
        self.wait_up()
        old = self.client(self.mosquitto, base="flux")
        health = old.wait("demo/bridge/health")
        self.assertTrue(health.payload)
        self.flux.stop()
        since = old.mark()
        self.flux = self.bridge(self.flux.text.replace("mqtt = {", 'mqtt = {\n  prefix = "plant";'))
        for topic in ("bridge/health", "bridge/info", "bridge/status", METER + "/info",
                      BATTERY + "/status", BATTERY + "/state"):
            old.wait("demo/" + topic, lambda m: not m.payload, since=since)


if __name__ == "__main__":
    flux.main()
