"""The simulator as other people's Modbus clients see it: pymodbus and mbpoll."""

import os
import re
import signal
import socket
import struct
import subprocess
import time

from pymodbus.client import ModbusSerialClient, ModbusTcpClient

import flux

STATUS, TARGET, SOURCE, SOE, BLOCKS = 2000, 2008, 2010, 2026, 2028


class Simulator(flux.Program):
    """A running fluxbridge-sim with everything it said before "ready"."""

    def __init__(self, path, *arguments):
        super().__init__("fluxbridge-sim", [flux.program("fluxbridge-sim"), "-c", path, *arguments],
                         stdout=subprocess.PIPE)
        self.said = []
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if self.said[-1] == "ready":
                return
        code = self.wait_end()
        raise flux.Timeout("fluxbridge-sim ended with %d: %s" % (code, self.log()))

    def wait_end(self, timeout_s=None):
        self.process.stdout.close()
        return super().wait_end(timeout_s)


class SimulatorTest(flux.Test):
    def configure(self, bess=(), meters=()):
        path = os.path.join(self.directory, "simulator.cfg")
        groups = {"bess": list(bess), "meters": list(meters)}
        devices = {name: group for name, group in groups.items() if group}
        with open(path, "w") as file:
            file.write('site = "demo";\nunknown_elsewhere = 1;\ndevices = %s;\n'
                       % flux.libconfig(devices))
        return path

    def start(self, path, *arguments):
        simulator = Simulator(path, *arguments)
        self.addCleanup(simulator.stop)
        return simulator

    def connect(self, place):
        client = ModbusTcpClient(place.host, port=place.port, timeout=5)
        self.assertTrue(client.connect(), "no connection to %s:%d" % (place.host, place.port))
        self.addCleanup(client.close)
        return client

    def read(self, client, address, count=1, slave=1):
        response = client.read_holding_registers(address, count=count, slave=slave)
        self.assertFalse(response.isError(), response)
        return response.registers

    def read_float(self, client, address, slave):
        words = self.read(client, address, 2, slave)
        return struct.unpack(">f", struct.pack(">HH", *words))[0]

    def read_until(self, read, good, what):
        """Reads the device again and again until what it says is good."""
        end = time.monotonic() + flux.DEADLINE_S
        while True:
            value = read()
            if good(value):
                return value
            if time.monotonic() > end:
                self.fail("%s: still %s" % (what, value))

    def check_exception(self, response, code):
        self.assertTrue(response.isError(), response)
        self.assertEqual(getattr(response, "exception_code", None), code, response)

    def mbpoll(self, place, *arguments, good=True):
        """One run of mbpoll with PDU addresses: {address: value} of what it printed."""
        command = ["mbpoll", "-0", "-1", "-m", "tcp", "-p", str(place.port), *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=flux.DEADLINE_S,
                              check=False)
        failed = done.returncode != 0 or "failed" in done.stdout
        self.assertEqual(not failed, good, done.stdout)
        return dict(re.findall(r"^\[(\d+)\]:\s+(\S+)", done.stdout, re.MULTILINE)) or done.stdout


class Pymodbus(SimulatorTest):
    def rig(self, *arguments, control=None):
        self.where = self.place()
        self.start(self.configure([flux.battery(self.where, control=control)]), *arguments)
        self.client = self.connect(self.where)

    def test_documented_block(self):
        self.rig()
        self.client.write_register(TARGET, 0, slave=1)
        self.assertEqual(self.read(self.client, STATUS, 10), [1] + [0] * 9)
        whole = self.read(self.client, STATUS, BLOCKS - STATUS + 1)
        self.assertEqual(whole[BLOCKS - STATUS], 5)
        self.assertTrue(40 <= whole[SOE - STATUS] <= 70, whole)

    def test_setpoint_moves_the_energy(self):
        self.rig("--speed", "200")
        start = self.read(self.client, SOE)[0]
        response = self.client.write_register(TARGET, 250, slave=1)
        self.assertFalse(response.isError(), response)
        self.assertEqual(self.read(self.client, TARGET), [250])
        soe = lambda: self.read(self.client, SOE)[0]
        low = self.read_until(soe, lambda now: now < start - 1, "SOE while discharging")
        response = self.client.write_register(TARGET, 0x10000 - 250, slave=1)
        self.assertFalse(response.isError(), response)
        self.read_until(soe, lambda now: now > low + 1, "SOE while charging")

    def test_empty_battery_is_not_ready(self):
        self.rig("--speed", "20000", control={"ready_status": [4, 0]})
        self.assertEqual(self.read(self.client, STATUS), [4])
        self.client.write_register(TARGET, 250, slave=1)
        block = lambda: self.read(self.client, STATUS, SOE - STATUS + 1)
        # The last half percent reads 0 already, so the status is what to wait for.
        empty = self.read_until(block, lambda now: now[0] != 4, "registers while emptying")
        self.assertEqual((empty[0], empty[-1]), (1, 0))
        self.client.write_register(TARGET, 0, slave=1)
        self.read_until(block, lambda now: now[0] == 4, "status after the setpoint 0")

    def test_sign_of_the_register(self):
        self.rig("--speed", "200", control={"positive_is": "charge"})
        start = self.read(self.client, SOE)[0]
        self.client.write_register(TARGET, 250, slave=1)
        self.read_until(lambda: self.read(self.client, SOE)[0], lambda now: now > start + 1,
                        "SOE while charging")

    def test_write_several(self):
        self.rig()
        response = self.client.write_registers(TARGET, [77], slave=1)
        self.assertFalse(response.isError(), response)
        self.assertFalse(self.client.write_registers(SOURCE, [3], slave=1).isError())
        self.assertEqual(self.read(self.client, TARGET, 3), [77, 0, 3])

    def test_exceptions(self):
        self.rig()
        client = self.client
        self.check_exception(client.read_holding_registers(STATUS - 1, count=1, slave=1), 2)
        self.check_exception(client.read_holding_registers(BLOCKS, count=2, slave=1), 2)
        self.check_exception(client.read_input_registers(STATUS, count=1, slave=1), 2)
        self.check_exception(client.read_coils(0, count=1, slave=1), 2)
        self.check_exception(client.write_register(SOE, 50, slave=1), 2)
        self.check_exception(client.write_registers(TARGET, [1, 2, 3], slave=1), 2)
        self.check_exception(client.write_coil(0, True, slave=1), 2)
        self.check_exception(client.read_exception_status(slave=1), 1)
        self.check_exception(client.read_holding_registers(STATUS, count=1, slave=9), 0x0B)
        self.assertEqual(self.read(client, TARGET, 3), [0, 0, 0])


class Site(SimulatorTest):
    """Several devices of one configuration."""

    def test_one_port_for_several_units(self):
        shared, own = self.place(), self.place()
        simulator = self.start(self.configure(
            [flux.battery(shared)],
            [flux.meter(shared), flux.meter(own, "PV-Meter", "acuvim2-vendor", 1)]), "--seed", "7")
        self.assertEqual(simulator.said, [
            "serving Site-BESS-01 powerpack at 127.0.0.1:%d unit 1" % shared.port,
            "serving Grid-Meter acuvim2 at 127.0.0.1:%d unit 2" % shared.port,
            "serving PV-Meter acuvim2-vendor at 127.0.0.1:%d unit 1" % own.port,
            "ready"])
        client, pv = self.connect(shared), self.connect(own)
        self.assertAlmostEqual(self.read_float(client, 0x0000, 2), 230, delta=10)
        self.assertAlmostEqual(self.read_float(pv, 0x4000, 1), 50, delta=0.1)
        self.assertGreater(self.read_float(pv, 0x4022, 1), 10e3)  # W: it is noon
        high, low = self.read(pv, 0x4048, 2)
        self.assertGreater((high << 16 | low) / 10, 1000)  # kWh

    def test_grid_meter_sees_the_battery(self):
        place = self.place()
        self.start(self.configure([flux.battery(place)], [flux.meter(place)]))
        client = self.connect(place)
        grid_kw = lambda: self.read_float(client, 0x0040, 2)
        before = grid_kw()
        client.write_register(TARGET, 200, slave=1)
        self.read_until(grid_kw, lambda now: now < before - 150, "grid power in kW")

    def test_only(self):
        places = [self.place(), self.place(), self.place()]
        path = self.configure([flux.battery(place, "pack-%d" % i)
                               for i, place in enumerate(places)])
        simulator = self.start(path, "--only", "pack-0", "--only", "pack-2")
        self.assertEqual([line.split()[1] for line in simulator.said[:-1]], ["pack-0", "pack-2"])
        self.read(self.connect(places[2]), STATUS)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((places[1].host, places[1].port))
        other = self.start(path, "--only", "pack-1")
        client = self.connect(places[1])
        self.read(client, STATUS)
        other.stop()
        again = self.start(path, "--only", "pack-1")  # at once, on the same port
        self.read(self.connect(places[1]), STATUS)
        again.signal(signal.SIGINT)
        self.assertEqual(again.wait_end(), 0)

    def test_serial_line(self):
        line = self.serial_line()
        meter = flux.meter(None, "PV-Meter", "acuvim2-vendor", 3, modbus={
            "serial": line.theirs, "baud": 19200, "parity": "none"})
        simulator = self.start(self.configure(meters=[meter]))
        self.assertIn("serving PV-Meter acuvim2-vendor at %s unit 3" % line.theirs, simulator.said)
        client = ModbusSerialClient(line.ours, baudrate=19200, timeout=5)
        self.assertTrue(client.connect())
        self.addCleanup(client.close)
        self.assertAlmostEqual(self.read_float(client, 0x4000, 3), 50, delta=0.1)
        self.assertEqual(len(self.read(client, 0x4000, 0x5A, 3)), 0x5A)
        self.check_exception(client.read_holding_registers(0x3FFF, count=1, slave=3), 2)
        self.check_exception(client.read_exception_status(slave=3), 1)


class Mbpoll(SimulatorTest):
    def rig(self):
        self.where = self.place()
        self.start(self.configure([flux.battery(self.where)]))

    def test_reads_and_writes(self):
        self.rig()
        self.mbpoll(self.where, "-r", "2008", "-a", "1", "127.0.0.1", "50")
        self.assertEqual(self.mbpoll(self.where, "-r", "2008", "-c", "3", "127.0.0.1"),
                         {"2008": "50", "2009": "0", "2010": "0"})
        soe = self.mbpoll(self.where, "-r", "2026", "127.0.0.1")["2026"]
        self.assertTrue(40 <= int(soe) <= 70, soe)

    def test_exceptions(self):
        self.rig()
        self.assertIn("Illegal data address",
                      self.mbpoll(self.where, "-r", "1999", "127.0.0.1", good=False))
        self.assertIn("Illegal data address",
                      self.mbpoll(self.where, "-r", "2026", "127.0.0.1", "50", good=False))
        self.assertIn("Target device failed to respond",
                      self.mbpoll(self.where, "-a", "5", "-r", "2000", "127.0.0.1", good=False))


class CommandLine(SimulatorTest):
    def check(self, code, *arguments):
        """Runs it to its end; what it said on stdout and stderr."""
        done = subprocess.run([flux.program("fluxbridge-sim"), *arguments],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=flux.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, code, done)
        self.assertNotRegex(done.stderr, flux.SANITIZER_REPORT)
        return done.stdout, done.stderr

    def test_help_and_version(self):
        out, err = self.check(0, "--help")
        self.assertTrue(out.startswith("Usage: fluxbridge-sim -c FILE"), out)
        for option in ("--only", "--seed", "--speed", "--help", "--version"):
            self.assertIn(option, out)
        self.assertEqual(err, "")
        self.assertRegex(self.check(0, "--version")[0], r"^fluxbridge-sim \d+\.\d+\.\d+\n$")

    def test_misuse(self):
        path = self.configure([flux.battery(self.place())])
        for arguments, word in (
                ([], "-c FILE"),
                (["-c"], "requires an argument"),
                (["-x"], "invalid option"),
                (["-c", path, "more"], "more"),
                (["-c", path, "--speed", "0"], "--speed"),
                (["-c", path, "--speed", "nan"], "--speed"),
                (["-c", path, "--seed", "1.5"], "--seed"),
                (["-c", path, "--seed", "-1"], "--seed"),
                (["-c", path, "--only", "nobody"], "nobody")):
            out, err = self.check(2, *arguments)
            self.assertIn(word, err)
            self.assertEqual(out, "")

    def test_bad_configuration(self):
        self.assertIn("/nowhere.cfg", self.check(2, "-c", "/nowhere.cfg")[1])
        path = os.path.join(self.directory, "bad.cfg")
        for text, place in (('site = "demo";\n', ":"), ("devices = {\n bess = 3\n", ":"),
                            ('devices: {\n meters = ( { name = "x"; } );\n};\n', ":2: ")):
            with open(path, "w") as file:
                file.write(text)
            self.assertIn(path + place, self.check(2, "-c", path)[1])

    def test_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            place = self.place()
            place.port = taken.getsockname()[1]
            path = self.configure([flux.battery(place)])
            out, err = self.check(1, "-c", path)
            self.assertEqual(out, "")
            self.assertIn("127.0.0.1:%d: Address already in use" % place.port, err)

    def test_address_of_another_machine(self):
        place = self.place()
        place.host = "192.0.2.7"
        err = self.check(1, "-c", self.configure([flux.battery(place)]))[1]
        self.assertIn("192.0.2.7:%d: not an address of this machine: see --listen" % place.port, err)


if __name__ == "__main__":
    flux.main()
