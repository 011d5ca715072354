"""Modbus RTU: a pymodbus server behind a pair of pseudo terminals."""

import os

import flux
from flux import Write


def is_good(message):
    return message.json["quality"] == "good"


class Rtu(flux.Test):
    def rig(self, units, bess=(), meters=()):
        self.line = self.serial_line()
        self.server = self.modbus(units, serial=self.line.ours)
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.flux = self.bridge(flux.config(self.mosquitto, bess, meters))

    def serial(self, **more):
        return {"serial": os.path.join(self.directory, "tty-bridge"), "baud": 9600,
                "parity": "none", "data_bits": 8, "stop_bits": 1, "timeout": flux.patient(0.4), **more}

    def test_several_units_on_one_line(self):
        self.rig({1: flux.battery_unit(soe=61), 2: flux.meter_unit(voltage=231.5),
                  3: flux.meter_unit(voltage=400.0)},
                 [flux.battery(None, modbus=self.serial())],
                 [flux.meter(None, modbus=self.serial()),
                  flux.meter(None, "PV-Meter", address=3, modbus=self.serial())])
        self.assertEqual(self.mqtt.wait("Site-BESS-01/state", is_good).json["data"]["soe"], 61)
        for device, volt in (("Grid-Meter", 231.5), ("PV-Meter", 400)):
            data = self.mqtt.wait(device + "/state", is_good).json["data"]
            self.assertEqual(data["voltage_l1_n"], volt)

    def test_command(self):
        unit = flux.battery_unit()
        self.rig({1: unit}, [flux.battery(None, modbus=self.serial())])
        self.mqtt.wait_text("bridge/status", "online")
        outcome = self.mqtt.ask(-70, "c1")
        self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", -70))
        self.assertEqual(unit.writes, [Write(6, 2008, [0x10000 - 70])])

    def test_a_dead_unit_starves_no_neighbour(self):
        self.rig({1: flux.battery_unit(), 2: flux.meter_unit()},
                 [flux.battery(None, poll="500ms", modbus=self.serial())],
                 [flux.meter(None, poll="500ms", modbus=self.serial()),
                  flux.meter(None, "Dead-Meter", address=9, poll="500ms",
                             modbus=self.serial())])
        bad = self.mqtt.wait("Dead-Meter/state").json
        self.assertEqual(bad["quality"], "bad")
        self.assertEqual(set(bad["errors"].values()), {"timeout"})
        for count in range(11, 16):  # on a busy machine one may miss its own 400 ms
            samples = self.mqtt.wait_count("Site-BESS-01/state", count)
            times = [m.json["ts"] for m in samples if is_good(m)]
            if len(times) >= 11:
                break
        self.assertGreaterEqual(len(times), 11)
        # 10 periods of 500 ms; asked each time the dead unit would make 13 s of them.
        self.assertLess(times[10] - times[0], 10000 * max(1, flux.PATIENCE))
        self.mqtt.wait("Grid-Meter/state", is_good)
        self.assertNotIn("online", [m.text for m in self.mqtt.on("Dead-Meter/status")])

    def test_unit_comes_back(self):
        self.rig({1: flux.battery_unit()}, [flux.battery(None, modbus=self.serial())])
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        since = self.mqtt.mark()
        self.server.units[1].silent = True
        self.mqtt.wait_text("Site-BESS-01/status", "offline", since=since)
        since = self.mqtt.mark()
        self.server.units[1].silent = False
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=since)
        self.mqtt.wait("Site-BESS-01/state", is_good, since=since)


if __name__ == "__main__":
    flux.main()
