"""Samples: what stands in the registers is what arrives over MQTT."""

import math
import time

import flux

# The maker's map of the Acuvim II, as PDU addresses: written down here a second
# time on purpose, independent of the program's own profile.
VENDOR_FLOATS = {
    "frequency": 0x4000, "voltage_l1_n": 0x4002, "voltage_l2_n": 0x4004, "voltage_l3_n": 0x4006,
    "voltage_ln_avg": 0x4008, "voltage_l1_l2": 0x400A, "voltage_l2_l3": 0x400C,
    "voltage_l3_l1": 0x400E, "voltage_ll_avg": 0x4010, "current_l1": 0x4012,
    "current_l2": 0x4014, "current_l3": 0x4016, "current_avg": 0x4018, "current_n": 0x401A,
    "active_power_l1": 0x401C, "active_power_l2": 0x401E, "active_power_l3": 0x4020,
    "active_power_total": 0x4022, "reactive_power_l1": 0x4024, "reactive_power_l2": 0x4026,
    "reactive_power_l3": 0x4028, "reactive_power_total": 0x402A, "apparent_power_l1": 0x402C,
    "apparent_power_l2": 0x402E, "apparent_power_l3": 0x4030, "apparent_power_total": 0x4032,
    "power_factor_l1": 0x4034, "power_factor_l2": 0x4036, "power_factor_l3": 0x4038,
    "power_factor_total": 0x403A,
}
VENDOR_TENTHS = {
    "energy_import": 0x4048, "energy_export": 0x404A, "reactive_energy_import": 0x404C,
    "reactive_energy_export": 0x404E, "energy_net": 0x4052, "apparent_energy": 0x4058,
}


def is_good(message):
    return message.json["quality"] == "good"


class Samples(flux.Test):
    def rig(self, units, bess=(), meters=(), **more):
        """Broker, Modbus server, client and bridge; bess and meters make their
        device of the server."""
        self.server = self.modbus(units)
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.flux = self.bridge(flux.config(
            self.mosquitto, [make(self.server) for make in bess],
            [make(self.server) for make in meters], **more))

    def test_powerpack(self):
        self.rig({1: flux.battery_unit(status=1, target=-120, source=5, soe=54, blocks=4)},
                 bess=[flux.battery])
        before = time.time() * 1000
        first, second, third = self.mqtt.wait_count("Site-BESS-01/state", 3)[:3]
        self.assertEqual(first.json["data"], {
            "status": "ready", "status_code": 1, "target_power": -120, "command_source": 5,
            "soe": 54, "available_blocks": 4})
        self.assertEqual(set(first.json), {"ts", "run", "seq", "quality", "data"})
        number = first.json["seq"]
        self.assertEqual([m.json["seq"] for m in (second, third)], [number + 1, number + 2])
        self.assertEqual({m.json["quality"] for m in (first, second, third)}, {"good"})
        self.assertRegex(first.json["run"], r"^[0-9a-f]{8}$")
        self.assertEqual(first.json["run"], third.json["run"])
        self.assertLess(first.json["ts"], second.json["ts"])
        self.assertLess(abs(first.json["ts"] - before), 60000)
        self.assertTrue(first.retain)
        self.assertEqual(first.properties.MessageExpiryInterval, 1)  # 3 * 200 ms, rounded up
        self.assertEqual(self.mqtt.wait_text("Site-BESS-01/status", "online").retain, 1)

    def test_status_label(self):
        control = {"status_labels": [{"value": 4, "label": "standby"}]}
        self.rig({1: flux.battery_unit(status=4)},
                 bess=[lambda s: flux.battery(s, control=control)])
        data = self.mqtt.wait("Site-BESS-01/state").json["data"]
        self.assertEqual((data["status"], data["status_code"]), ("standby", 4))
        self.server.units[1].registers[2000] = 9
        self.mqtt.wait("Site-BESS-01/state", lambda m: m.json["data"]["status"] == "code_9")

    def test_sign(self):
        control = {"positive_is": "charge"}
        self.rig({1: flux.battery_unit(target=75)},
                 bess=[lambda s: flux.battery(s, control=control)])
        data = self.mqtt.wait("Site-BESS-01/state").json["data"]
        self.assertEqual(data["target_power"], -75)

    def test_acuvim2(self):
        self.rig({2: flux.meter_unit(voltage=230.5, current=12.25, power_kw=-1.5, energy=1000.25)},
                 meters=[flux.meter])
        sample = self.mqtt.wait("Grid-Meter/state").json
        self.assertEqual(sample["quality"], "good")
        self.assertEqual(sample["data"], {"voltage_l1_n": 230.5, "current_l1": 12.25,
                                          "active_power_total": -1500, "energy_import": 1000.25})

    def test_acuvim2_vendor(self):
        words, wanted = {}, {}
        for i, (name, address) in enumerate(VENDOR_FLOATS.items()):
            wanted[name] = (-1) ** i * (i + 0.25)
            words.update(flux.registers(address, flux.float_words(wanted[name])))
        for i, (name, address) in enumerate(VENDOR_TENTHS.items()):
            raw = 0x0A9D4089 + i  # the manual's own example: 17807783.3 kWh
            wanted[name] = raw / 10
            words.update(flux.registers(address, flux.long_words(raw)))
        self.rig({2: flux.Unit(words)},
                 meters=[lambda s: flux.meter(s, "PV-Meter", "acuvim2-vendor")])
        data = self.mqtt.wait("PV-Meter/state", is_good).json["data"]
        self.assertEqual(set(data), set(wanted))
        for name, value in wanted.items():
            self.assertAlmostEqual(data[name], value, 6, name)
        self.assertEqual(data["energy_import"], 17807783.3)

    def test_not_finite(self):
        unit = flux.meter_unit()
        unit.registers.update(flux.registers(0x0010, flux.float_words(math.nan)))
        unit.registers.update(flux.registers(0x0040, flux.float_words(-math.inf)))
        self.rig({2: unit}, meters=[flux.meter])
        sample = self.mqtt.wait("Grid-Meter/state").json
        self.assertEqual(sample["quality"], "partial")
        self.assertIsNone(sample["data"]["current_l1"])
        self.assertIsNone(sample["data"]["active_power_total"])
        self.assertEqual(sample["data"]["voltage_l1_n"], 230.5)
        self.assertEqual(sample["errors"], {"current_l1": "not_finite",
                                            "active_power_total": "not_finite"})

    def test_refused_register_stands_alone(self):
        unit = flux.Unit(dict.fromkeys(range(1990, 2040), 0))  # nothing is missing in between
        unit.registers.update(flux.battery_unit(soe=54).registers)
        unit.read_exceptions[2026] = 2
        self.rig({1: unit}, bess=[flux.battery])
        sample = self.mqtt.wait("Site-BESS-01/state").json
        self.assertEqual(sample["quality"], "partial")
        self.assertIsNone(sample["data"]["soe"])
        self.assertEqual(sample["errors"], {"soe": "illegal_address"})
        self.assertEqual(sample["data"]["available_blocks"], 4)
        self.assertEqual(sample["data"]["status"], "ready")
        # The register becomes readable again, and is read again.
        del unit.read_exceptions[2026]
        self.assertEqual(self.mqtt.wait("Site-BESS-01/state", is_good).json["data"]["soe"], 54)

    def test_exceptions_by_their_words(self):
        self.rig({1: flux.battery_unit()}, bess=[flux.battery])
        self.mqtt.wait("Site-BESS-01/state", is_good)
        words = {1: "illegal_function", 2: "illegal_address", 3: "illegal_value",
                 4: "device_failure", 6: "busy", 0x0A: "gateway_path", 0x0B: "gateway_target"}
        for code, word in words.items():
            with self.subTest(word):
                since = self.mqtt.mark()
                self.server.units[1].read_exceptions = dict.fromkeys(range(2000, 2030), code)
                sample = self.mqtt.wait("Site-BESS-01/state",
                                        lambda m: m.json["quality"] == "bad", since=since).json
                self.assertEqual(set(sample["data"].values()), {None})
                self.assertEqual(set(sample["errors"].values()), {word})
                self.server.units[1].read_exceptions = {}
                self.mqtt.wait("Site-BESS-01/state", is_good, since=since)

    def test_server_dies_and_returns(self):
        self.rig({1: flux.battery_unit()}, bess=[flux.battery])
        self.mqtt.wait("Site-BESS-01/state", is_good)
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        since = self.mqtt.mark()
        self.server.stop()
        self.mqtt.wait_text("Site-BESS-01/status", "offline", since=since)
        bad = self.mqtt.wait("Site-BESS-01/state", lambda m: m.json["quality"] == "bad",
                             since=since).json
        self.assertEqual(set(bad["data"].values()), {None})
        self.assertEqual(set(bad["errors"].values()), {"connection"})
        since = self.mqtt.mark()
        self.server.start()
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=since)
        self.mqtt.wait("Site-BESS-01/state", is_good, since=since)
        self.check_numbers("Site-BESS-01")

    def check_numbers(self, device):
        """Every sample has arrived once. Those taken before the first connection to
        the broker come as backfill."""
        def complete():
            live = [m.json["seq"] for m in self.mqtt.on(device + "/state")]
            late = [m.json["seq"] for m in self.mqtt.on(device + "/backfill")]
            return late + live == list(range(1, len(late + live) + 1))

        flux.wait_on(self.mqtt.changed, complete, None, "every sample once")

    def test_silent_device(self):
        modbus = {"timeout": flux.patient(0.2)}
        self.rig({1: flux.battery_unit()}, bess=[lambda s: flux.battery(s, modbus=modbus)])
        self.mqtt.wait("Site-BESS-01/state", is_good)
        since = self.mqtt.mark()
        self.server.units[1].silent = True
        bad = self.mqtt.wait("Site-BESS-01/state", lambda m: m.json["quality"] == "bad",
                             since=since).json
        self.assertEqual(set(bad["errors"].values()), {"timeout"})
        self.mqtt.wait_text("Site-BESS-01/status", "offline", since=since)
        since = self.mqtt.mark()
        self.server.units[1].silent = False
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=since)

    def test_retries_as_documented(self):
        """Read, and on failure again after 1 s: no sample is lost for one failed read."""
        modbus = {"timeout": flux.patient(0.2), "retry_count": 2}
        self.rig({1: flux.battery_unit()}, bess=[lambda s: flux.battery(s, modbus=modbus)])
        self.mqtt.wait("Site-BESS-01/state", is_good)
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        unit = self.server.units[1]
        since = self.mqtt.mark()
        with self.server.changed:
            unit.silent = True
            before = unit.requests
        self.server.wait(lambda: unit.requests > before)
        unit.silent = False

        def pauses_ms():
            times = [m.json["ts"] for m in self.mqtt.on("Site-BESS-01/state")]
            return [after - before for before, after in zip(times, times[1:])]

        # The documented pause, behind a timeout and what is left of the period.
        flux.wait_on(self.mqtt.changed, lambda: max(pauses_ms(), default=0) >= 1200, None,
                     lambda: "a pause of 1 s: %s" % pauses_ms())
        self.assertEqual({m.json["quality"] for m in self.mqtt.on("Site-BESS-01/state")}, {"good"})
        self.assertEqual(self.mqtt.on("Site-BESS-01/status", since), [])

    def test_a_silent_link_slows_no_other(self):
        dead = self.modbus({2: flux.meter_unit()})
        dead.units[2].silent = True
        self.rig({1: flux.battery_unit()}, bess=[flux.battery],
                 meters=[lambda s: flux.meter(dead, poll="200ms", modbus={"timeout": "5s"})])
        dead.wait(lambda: dead.units[2].requests)
        samples = self.mqtt.wait_count("Site-BESS-01/state", 11)
        self.assertEqual(self.mqtt.on("Grid-Meter/state"), [])  # still waiting for its answer
        times = [m.json["ts"] for m in samples]
        # 10 periods of 200 ms; were they waited for the other one, 5 s more.
        self.assertLess(times[10] - times[0], 5000 * max(1, flux.PATIENCE))

    def test_several_devices_on_one_link(self):
        self.rig({1: flux.battery_unit(), 2: flux.meter_unit(), 3: flux.meter_unit(energy=7.0)},
                 bess=[flux.battery],
                 meters=[flux.meter, lambda s: flux.meter(s, "PV-Meter", address=3)])
        for device in ("Site-BESS-01", "Grid-Meter", "PV-Meter"):
            self.mqtt.wait(device + "/state", is_good)
        self.assertEqual(self.mqtt.wait("PV-Meter/state").json["data"]["energy_import"], 7)
        self.assertEqual(self.server.connections, 1)

    def test_missing_unit_behind_a_gateway(self):
        self.rig({1: flux.battery_unit()}, bess=[flux.battery], meters=[flux.meter])
        bad = self.mqtt.wait("Grid-Meter/state").json
        self.assertEqual(bad["quality"], "bad")
        self.assertEqual(set(bad["errors"].values()), {"gateway_target"})
        self.mqtt.wait_count("Site-BESS-01/state", 5)
        self.assertEqual(self.server.connections, 1)  # the gateway lives: its link stays up
        self.assertEqual([m.text for m in self.mqtt.on("Grid-Meter/status")
                          if m.text != "offline"], [])

    def test_override_of_scale_and_unit(self):
        points = [{"name": "energy_import", "scale": 1000, "unit": "Wh"}]
        self.rig({2: flux.meter_unit(energy=3.0)},
                 meters=[lambda s: flux.meter(s, points=points)])
        self.assertEqual(self.mqtt.wait("Grid-Meter/state").json["data"]["energy_import"], 3000)
        info = self.mqtt.wait("Grid-Meter/info").json
        units = {p["name"]: p["unit"] for p in info["points"]}
        self.assertEqual(units["energy_import"], "Wh")

    # ---- values that cannot be ----

    def test_a_value_out_of_its_range_and_a_sentinel_are_null(self):
        points = [{"name": "soe", "low": 0, "high": 100, "sentinels": [0xFFFF]},
                  {"name": "available_blocks", "sentinels": [0x8000]}]
        self.rig({1: flux.battery_unit(soe=54)},
                 bess=[lambda s: flux.battery(s, points=points)])
        unit = self.server.units[1]
        self.mqtt.wait("Site-BESS-01/state", is_good)
        for register, content, name in ((2026, 101, "soe"), (2026, 0xFFFF, "soe"),
                                        (2028, 0x8000, "available_blocks")):
            before, unit.registers[register] = unit.registers[register], content
            sample = self.mqtt.wait("Site-BESS-01/state", lambda m: not is_good(m),
                                    since=self.mqtt.mark()).json
            self.assertIsNone(sample["data"][name])
            self.assertEqual(sample["errors"], {name: "implausible"})
            self.assertEqual(sample["quality"], "partial")
            unit.registers[register] = before
            self.mqtt.wait("Site-BESS-01/state", is_good, since=self.mqtt.mark())

    def test_a_counter_that_dips_is_held_back_and_one_that_was_reset_is_not(self):
        self.rig({2: flux.meter_unit(energy=1000.0)}, meters=[lambda s: flux.meter(
            s, points=[{"name": "energy_import", "counter": True}])])
        unit = self.server.units[2]

        def set_energy(value):
            unit.registers.update(flux.registers(0x0100, flux.float_words(value)))

        def wait_energy(value):
            return self.mqtt.wait("Grid-Meter/state",
                                  lambda m: m.json["data"]["energy_import"] == value)

        def read_once(request, read=unit._read):
            """In one scan: the third would have believed it."""
            answer = read(request)
            if request.address == 0x0100:
                unit._read = read
                set_energy(1001)
            return answer

        wait_energy(1000)
        with self.server.changed:
            set_energy(5)
            unit._read = read_once
        dip = self.mqtt.wait("Grid-Meter/state", lambda m: not is_good(m)).json
        self.assertEqual(dip["errors"], {"energy_import": "implausible"})
        wait_energy(1001)
        set_energy(7)
        wait_energy(7)
        seen = [m.json["data"]["energy_import"] for m in self.mqtt.on("Grid-Meter/state")]
        self.assertNotIn(5, seen)
        first = seen.index(7)
        self.assertEqual(seen[first - 3:first], [1001, None, None])

    # ---- on change ----

    def test_on_change_with_a_deadband(self):
        """Only what has moved enough is published; no number is left out."""
        self.rig({2: flux.meter_unit(voltage=230.0)}, meters=[lambda s: flux.meter(
            s, poll="50ms", longest_silence="1h",
            points=[{"name": "voltage_l1_n", "deadband": 2.0}])])
        unit = self.server.units[2]

        def told():
            return [(m.json["seq"], m.json["data"]["voltage_l1_n"])
                    for leaf in ("backfill", "state") for m in self.mqtt.on("Grid-Meter/" + leaf)]

        def wait_told(count):
            flux.wait_on(self.mqtt.changed, lambda: len(told()) >= count, None,
                         lambda: "%d samples: %s" % (count, told()))

        wait_told(1)

        def poll(scans):
            self.server.wait(lambda n=len(unit.reads): len(unit.reads) >= n + 4 * scans)

        def set_voltage(value):
            unit.registers.update(flux.registers(0x0000, flux.float_words(value)))

        poll(5)
        set_voltage(231.5)
        poll(5)
        set_voltage(233.0)
        wait_told(2)
        poll(5)
        self.assertEqual(told(), [(1, 230), (2, 233)])

    def test_the_longest_silence(self):
        self.rig({2: flux.meter_unit()},
                 meters=[lambda s: flux.meter(s, poll="50ms", longest_silence="500ms")])
        first, second = [m.json for m in self.mqtt.wait_count("Grid-Meter/state", 3)[1:3]]
        self.assertGreaterEqual(second["ts"] - first["ts"], 450)

    def test_version_4(self):
        self.rig({1: flux.battery_unit()}, bess=[flux.battery], mqtt={"version": 4})
        sample = self.mqtt.wait("Site-BESS-01/state", is_good)
        self.assertFalse(sample.retain)  # 3.1.1 has no expiry: an old value would stay for ever


if __name__ == "__main__":
    flux.main()
