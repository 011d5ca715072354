"""The bridge and a battery on libmodbus' own server: TCP, and RTU on a serial line."""

import os
import signal
import subprocess

import flux

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libmodbus_server.c")


class Server(flux.Program):
    """A program that says "ready", and "ADDRESS=WORD" for what it is written."""

    def __init__(self, name, *command):
        super().__init__(name, command, stdout=subprocess.PIPE)
        if self.said() != "ready":
            raise flux.Timeout("%s did not start: %s" % (name, self.log()))

    def said(self):
        return self.process.stdout.readline().strip()

    def stop(self, expect=-signal.SIGTERM):
        super().stop(expect)
        self.process.stdout.close()


class ServedBattery(flux.Test):
    def assert_commanded(self, server, place, modbus):
        """Values come, and setpoints arrive: `server` says what it was written."""
        self.addCleanup(server.stop)
        mosquitto = self.broker()
        mqtt = self.client(mosquitto)
        self.bridge(flux.config(mosquitto, bess=[flux.battery(place, modbus=modbus)]))
        mqtt.wait("Site-BESS-01/state",
                  lambda m: m.json["quality"] == "good" and m.json["data"]["soe"] == 61)
        mqtt.wait_text("bridge/status", "online")
        for i, kw in enumerate((-50, 120, 0)):
            outcome = mqtt.ask(kw, "c%d" % i)
            self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", kw))
            self.assertEqual(server.said(), "2008=%d" % (kw & 0xFFFF))


class Libmodbus(ServedBattery):
    def setUp(self):
        super().setUp()
        self.program = os.path.join(self.directory, "libmodbus_server")
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libmodbus"], check=True,
                               capture_output=True, text=True).stdout.split()
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", SOURCE,
                        "-o", self.program, *flags], check=True)

    def test_tcp(self):
        place = self.place()
        self.assert_commanded(Server("libmodbus", self.program, "tcp", str(place.port)), place, {})

    def test_rtu_on_a_serial_line(self):
        line = self.serial_line()
        self.assert_commanded(Server("libmodbus", self.program, "rtu", line.ours), None,
                              {"serial": line.theirs})


if __name__ == "__main__":
    flux.main()
