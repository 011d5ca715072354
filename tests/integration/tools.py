"""The commands for the engineer on site: read, write, scan and check."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading

import flux
import sim_clients
from mqtt_faults import Certificates

NOWHERE = type("", (), {"host": "127.0.0.1", "port": 1883})  # a broker that nobody asks


class Terminal:
    """A pseudo terminal that collects what a program prints to it."""

    def __init__(self):
        self.ours, self.theirs = pty.openpty()
        self.text = ""
        self.changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while True:
            try:
                got = os.read(self.ours, 4096)
            except OSError:  # the last one to print has left
                return
            with self.changed:
                self.text += got.decode()
                self.changed.notify_all()

    def wait(self, text):
        flux.wait_on(self.changed, lambda: text in self.text, None,
                     lambda: "%r on the terminal, which shows %r" % (text, self.text))

    def close(self):
        """All that was printed. Nobody may be printing any more."""
        os.close(self.theirs)
        self._reader.join()
        os.close(self.ours)
        return self.text


class Test(flux.Test):
    def site(self, bess=(), meters=(), broker=NOWHERE, **more):
        """The path of a configuration."""
        path = os.path.join(self.directory, "site.cfg")
        with open(path, "w") as file:
            file.write(flux.config(broker, bess, meters, audit={
                "path": os.path.join(self.directory, "audit.jsonl")}, **more))
        return path

    def tool(self, *arguments, **more):
        """A program that goes on: (it, its stdout)."""
        program = flux.Program("fluxbridge", [flux.program("fluxbridge"), *arguments],
                               stdout=more.pop("stdout", subprocess.PIPE), **more)
        self.addCleanup(program.stop, expect=None)
        if program.process.stdout:
            self.addCleanup(program.process.stdout.close)
        return program

    def profile(self, name, text):
        """A device type of a site's own."""
        directory = os.path.join(self.directory, "profiles")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, name + ".cfg"), "w") as file:
            file.write(text)
        os.environ["FLUXBRIDGE_PROFILES"] = directory
        self.addCleanup(os.environ.pop, "FLUXBRIDGE_PROFILES", None)


class Read(Test):
    def setUp(self):
        super().setUp()
        self.unit = flux.battery_unit(status=1, target=-50, soe=54)
        self.server = self.modbus({1: self.unit, 2: flux.meter_unit()})
        self.path = self.site([flux.battery(self.server)], [flux.meter(self.server)])

    def read(self, *arguments):
        return self.run_tool("read", "-c", self.path, *arguments)

    def test_table(self):
        self.assertEqual(self.read("Site-BESS-01"), (0, (
            "POINT                 VALUE  UNIT\n"
            "status            ready (1)\n"
            "target_power            -50  kW\n"
            "command_source            0\n"
            "soe                      54  %\n"
            "available_blocks          4\n"), ""))
        self.assertEqual(self.read("Grid-Meter")[1].split()[3:], (
            "voltage_l1_n 230.5 V current_l1 12.25 A active_power_total 1500 W "
            "energy_import 1000 kWh").split())

    def test_some_points(self):
        self.assertEqual(self.read("Site-BESS-01", "soe", "status")[:2], (0, (
            "POINT       VALUE  UNIT\n"
            "status  ready (1)\n"
            "soe            54  %\n")))
        self.assertEqual(self.unit.reads[0], (3, 2000, 27))

    def test_one_register_is_one_read(self):
        self.assertEqual(self.read("Site-BESS-01", "soe")[0], 0)
        self.assertEqual(self.unit.reads, [(3, 2026, 1)])

    def test_nothing_is_written(self):
        self.read("Site-BESS-01", "--raw")
        self.read("Grid-Meter", "--json")
        self.assertEqual(self.server.n_writes(), 0)

    def test_raw(self):
        code, out, _ = self.read("Site-BESS-01", "target_power", "--raw")
        self.assertEqual(code, 0)
        self.assertEqual([line.split() for line in out.splitlines()], [
            "POINT VALUE UNIT TABLE ADDRESS HEX REGISTERS".split(),
            "target_power -50 kW holding 2008 0x07D8 FFCE".split()])
        _, out, _ = self.read("Grid-Meter", "voltage_l1_n", "-r")
        self.assertTrue(out.endswith("holding        0  0x0000  4366 8000\n"), out)

    def test_json(self):
        code, out, err = self.read("--json", "Site-BESS-01", "soe", "status")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(out.count("\n"), 1)
        sample = json.loads(out)
        self.assertIsInstance(sample.pop("ts"), int)
        self.assertEqual(sample, {"device": "Site-BESS-01", "quality": "good",
                                  "data": {"status": "ready", "status_code": 1, "soe": 54}})

    def test_json_says_what_the_bridge_says(self):
        broker = self.broker()
        client = self.client(broker)
        self.bridge(flux.config(broker, [flux.battery(self.server)], [flux.meter(self.server)]))
        for device in ("Site-BESS-01", "Grid-Meter"):
            published = client.wait(device + "/state").json
            sample = json.loads(self.read("-j", device)[1])
            for key in ("data", "quality"):
                self.assertEqual(sample[key], published[key])

    def test_what_has_no_value(self):
        del self.unit.registers[2028]
        self.unit.registers[2026] = 0xFFFF  # no percentage
        code, out, err = self.read("Site-BESS-01", "--raw", "soe", "available_blocks")
        self.assertEqual((code, err), (1, ""))  # not one value
        self.assertEqual([line.split() for line in out.splitlines()[1:]], [
            "soe implausible % holding 2026 0x07EA FFFF".split(),
            "available_blocks illegal_address holding 2028 0x07EC -".split()])
        code, out, _ = self.read("Site-BESS-01", "--json", "--raw")
        sample = json.loads(out)
        self.assertEqual((code, sample["quality"]), (0, "partial"))
        self.assertEqual(sample["errors"], {"soe": "implausible",
                                            "available_blocks": "illegal_address"})
        self.assertEqual(sample["raw"]["soe"], {"table": "holding", "address": 2026,
                                                "registers": [0xFFFF]})
        self.assertNotIn("available_blocks", sample["raw"])

    def test_nobody_there(self):
        self.server.units.clear()
        code, out, err = self.read("Site-BESS-01")
        self.assertEqual((code, out), (1, ""))
        self.assertRegex(err, r"\Afluxbridge read: Site-BESS-01: .*gateway_target\n\Z")
        self.server.stop()
        code, out, err = self.read("Site-BESS-01")
        self.assertEqual((code, out), (1, ""))
        self.assertEqual(err, "fluxbridge read: Site-BESS-01: connect 127.0.0.1:%d: "
                              "Connection refused\n" % self.server.port)
        code, out, _ = self.read("Site-BESS-01", "--json")
        self.assertEqual((code, json.loads(out)["quality"]), (1, "bad"))

    def test_wrong_names(self):
        code, out, err = self.read("Site-BESS-02")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("there are Site-BESS-01, Grid-Meter\n", err)
        code, out, err = self.read("Grid-Meter", "soe")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("type 'acuvim2' has no point 'soe': it has voltage_l1_n, ", err)
        code, out, err = self.read("Grid-Meter", "--watch", "0")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("0.01 to 86400 seconds", err)

    def test_watch_into_a_pipe(self):
        for arguments in (["--watch", "0.01"], ["--watch=0.01"], ["-w0.01"], ["-w"]):
            for number in (signal.SIGINT, signal.SIGTERM):
                tool = self.tool("read", "-c", self.path, "Site-BESS-01", "soe", "-j", *arguments)
                for _ in range(2):
                    self.assertEqual(json.loads(tool.process.stdout.readline())["data"],
                                     {"soe": 54})
                tool.signal(number)
                self.assertEqual(tool.wait_end(), 0)
        tool = self.tool("read", "-c", self.path, "Site-BESS-01", "soe", "-w", "0.01")
        lines = [tool.process.stdout.readline() for _ in range(5)]
        self.assertRegex(lines[0], r"\ASite-BESS-01 at \d\d:\d\d:\d\d, every 0\.01 s\n\Z")
        self.assertEqual(lines[1:4], ["POINT  VALUE  UNIT\n", "soe       54  %\n", "\n"])
        self.assertTrue(lines[4].startswith("Site-BESS-01 at "))

    def test_watch_goes_on_through_an_outage(self):
        tool = self.tool("read", "-c", self.path, "Site-BESS-01", "soe", "-jw0.05")

        def until(quality):
            while json.loads(tool.process.stdout.readline())["quality"] != quality:
                pass

        until("good")
        self.server.stop()
        until("bad")
        self.server.start()
        until("good")

    def test_watch_on_a_terminal(self):
        terminal = Terminal()
        tool = self.tool("read", "-c", self.path, "Site-BESS-01", "-w0.05",
                         stdout=terminal.theirs, env={"TERM": "xterm", "NO_COLOR": ""})
        terminal.wait("\033[1mPOINT")
        terminal.wait("  54  ")
        self.unit.registers[2026] = 200
        terminal.wait("\033[31msoe")
        self.unit.registers[2026] = 66
        terminal.wait("  66  ")
        tool.signal(signal.SIGINT)
        self.assertEqual(tool.wait_end(), 0)
        screens = terminal.close().split("\033[H\033[J")
        self.assertEqual(screens[0], "")
        self.assertGreater(len(screens), 2)
        self.assertEqual(screens[1].count("\n"), 7)

    def test_colours_only_where_they_are_wanted(self):
        self.unit.registers[2026] = 0xFFFF
        for env, coloured in (({"TERM": "xterm", "NO_COLOR": ""}, True),
                              ({"TERM": "xterm", "NO_COLOR": "1"}, False),
                              ({"TERM": "dumb", "NO_COLOR": ""}, False)):
            terminal = Terminal()
            tool = self.tool("read", "-c", self.path, "Site-BESS-01", stdout=terminal.theirs,
                             env=env)
            self.assertEqual(tool.wait_end(), 0)
            text = terminal.close()
            self.assertIn("implausible", text)
            self.assertEqual("\033[" in text, coloured, (env, text))


class Write(Test):
    def setUp(self):
        super().setUp()
        self.unit = flux.battery_unit()
        self.server = self.modbus({1: self.unit})
        self.path = self.site([flux.battery(self.server)])

    def write(self, *arguments):
        return self.run_tool("write", "-c", self.path, "Site-BESS-01", *arguments)

    def test_confirmed(self):
        code, out, err = self.write("target_power", "-50")
        self.assertEqual((code, err), (0, ""))
        outcome = json.loads(out)
        self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", -50))
        self.assertEqual(self.unit.writes, [flux.Write(6, 2008, [0x10000 - 50])])
        with open(os.path.join(self.directory, "audit.jsonl")) as file:
            self.assertEqual(json.loads(file.readline())["id"], outcome["id"])

    def test_refused(self):
        for value, reason in (("251", "out_of_range"), ("0.5", "off_step")):
            code, out, _ = self.write("target_power", value)
            self.assertEqual((code, json.loads(out)["reason"]), (1, reason))
        self.unit.registers[2026] = 5
        code, out, _ = self.write("target_power", "50", "--dry-run")
        self.assertEqual((code, json.loads(out)["reason"]), (1, "soe_low"))
        self.assertEqual(self.unit.writes, [])

    def test_a_signal_does_not_cut_it_off(self):
        """What may be written already is told, and on record."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number.name):
                tool = None

                def begin():
                    nonlocal tool
                    tool = subprocess.Popen(
                        [flux.program("fluxbridge"), "write", "-c", self.path, "Site-BESS-01",
                         "target_power", "50"], stdout=subprocess.PIPE, text=True)

                self.server.hold(begin)
                self.addCleanup(tool.stdout.close)
                tool.send_signal(number)
                self.server.release()
                out = tool.communicate(timeout=flux.DEADLINE_S)[0]
                self.assertEqual(tool.returncode, 0)
                with open(os.path.join(self.directory, "audit.jsonl")) as file:
                    self.assertEqual(json.loads(file.readlines()[-1])["id"], json.loads(out)["id"])

    def test_dry_run(self):
        code, out, err = self.write("--dry-run", "target_power", "50")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(out, "would write to Site-BESS-01 unit 1: target_power = 50 kW, "
                              "function 06, address 2008, registers 0x0032\n")
        code, out, err = self.write("--dry-run", "--json", "target_power", "-50")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(json.loads(out), {
            "dry_run": True, "device": "Site-BESS-01", "point": "target_power", "value": -50,
            "writes": [{"point": "target_power", "function": 6, "address": 2008,
                        "registers": [0x10000 - 50]}]})
        self.assertEqual(self.unit.writes, [])
        self.assertNotEqual(self.unit.reads, [])

    def test_json(self):
        code, out, err = self.write("target_power", "50", "--json")
        self.assertEqual((code, err, json.loads(out)["outcome"]), (0, "", "confirmed"))

    def test_no_number(self):
        for value in ("fifty", "", "50kW", "nan", "0x10"):
            code, out, err = self.write("target_power", value)
            self.assertEqual((code, out), (2, ""))
            self.assertIn("'%s' is not a number" % value, err)


class Scan(Test):
    def scan(self, *arguments):
        """(exit code, rows of the table, the block for the configuration, stderr)"""
        code, out, err = self.run_tool("scan", *arguments)
        table, _, block = out.partition("\n\n")
        return code, [line.split() for line in table.splitlines()[1:]], block, err

    def check(self, block):
        path = os.path.join(self.directory, "found.cfg")
        with open(path, "w") as file:
            file.write('site = "s"; mqtt: { url = "mqtt://127.0.0.1"; };\n'
                       'audit: { path = "%s/audit.jsonl"; };\n' % self.directory + block)
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual((code, err), (0, ""), out)
        return out

    def test_devices_behind_a_gateway(self):
        units = {1: flux.battery_unit(), 2: flux.meter_unit(), 4: flux.Unit({7: 7})}
        server = self.modbus(units)
        port = str(server.port)
        code, rows, block, err = self.scan("127.0.0.1", "-p", port, "-u", "1-5")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(rows, [["127.0.0.1", port, "1", "powerpack", "5", "of", "5"],
                                ["127.0.0.1", port, "2", "acuvim2", "4", "of", "4"],
                                ["127.0.0.1", port, "4", "unknown"]])
        self.assertRegex(block, r'host = "127.0.0.1"; port = %s; address = 1;' % port)
        self.assertNotIn("address = 4;", block)
        # Nothing but reads, one connection, and no other unit.
        self.assertEqual(server.connections, 1)
        for unit in units.values():
            self.assertEqual(unit.writes, [])
            self.assertEqual(unit.requests, len(unit.reads))
            self.assertLessEqual({function for function, _, _ in unit.reads}, {3, 4})
        # The block is a configuration, also once control is filled in.
        self.assertIn(": good: 2 devices on 1 link\n", self.check(block))
        self.assertRegex(block, r"(?m)^ +// control: \{$")
        filled = re.sub(r"(?m)^( +)// (?=control|  ready|  min|  positive|\};)", r"\1", block)
        filled = filled.replace("[ ]", "[ 1 ]").replace("min_kw = ;", "min_kw = -9;")
        self.check(filled.replace("max_kw = ;", "max_kw = 9;"))

    def test_json(self):
        server = self.modbus({1: flux.battery_unit(), 4: flux.Unit({7: 7})})
        code, out, err = self.run_tool("scan", "127.0.0.1", "-p", str(server.port), "-u", "1-5",
                                       "--json")
        self.assertEqual((code, err, out.count("\n")), (0, "", 1))
        where = {"host": "127.0.0.1", "port": server.port}
        self.assertEqual(json.loads(out), {"whole": True, "found": [
            {**where, "unit": 1, "type": "powerpack", "good": 5, "of": 5},
            {**where, "unit": 4, "type": None}]})
        nobody = str(self.place().port)
        code, out, _ = self.run_tool("scan", "127.0.0.1", "-p", nobody, "-j")
        self.assertEqual((code, json.loads(out)), (1, {"whole": True, "found": []}))

    def test_simulated_devices(self):
        place = self.place()
        path = self.site([flux.battery(place)], [
            flux.meter(place, "Grid-Meter", "acuvim2"),
            flux.meter(place, "PV-Meter", "acuvim2-vendor", 7)])
        simulator = sim_clients.Simulator(path)
        self.addCleanup(simulator.stop)
        code, rows, block, _ = self.scan("127.0.0.1", "-p", str(place.port), "-u", "1-9")
        self.assertEqual(code, 0)
        self.assertEqual([row[2:] for row in rows], [["1", "powerpack", "5", "of", "5"],
                                                     ["2", "acuvim2", "4", "of", "4"],
                                                     ["7", "acuvim2-vendor", "36", "of", "36"]])
        self.assertIn(": good: 3 devices on 1 link\n", self.check(block))
        for device in ("Site-BESS-01", "Grid-Meter", "PV-Meter"):
            code, out, err = self.run_tool("read", "-c", path, device, "--json")
            self.assertEqual((code, err, json.loads(out)["quality"]), (0, "", "good"))

    def test_a_device_that_answers_by_any_unit(self):
        unit = flux.meter_unit()
        server = self.modbus({1: unit, 255: unit})
        code, rows, block, _ = self.scan("127.0.0.1/32", "-p", str(server.port))
        self.assertEqual(code, 0)
        self.assertEqual([row[2:4] for row in rows], [["1", "acuvim2"], ["255", "acuvim2"]])
        self.assertEqual(re.findall(r"address = (\d+);", block), ["1"])

        server = self.modbus({255: unit})
        _, rows, block, _ = self.scan("127.0.0.1", "--ports", str(server.port))
        self.assertEqual(re.findall(r"address = (\d+);", block), ["255"])

    def test_no_address_outside_of_the_range(self):
        """127.0.0.6/31 is .6 and .7."""
        listeners = []
        for last in range(5, 9):
            listener = socket.socket()
            self.addCleanup(listener.close)
            listener.bind(("127.0.0.%d" % last, listeners[0].getsockname()[1] if listeners else 0))
            listener.listen()
            listener.setblocking(False)
            listeners.append(listener)
        port = str(listeners[0].getsockname()[1])
        code, rows, block, _ = self.scan("127.0.0.6/31", "-p", port, "-u", "1")
        self.assertEqual((code, block), (0, ""))
        self.assertEqual([row[:3] for row in rows], [["127.0.0.6", port, "-"],
                                                     ["127.0.0.7", port, "-"]])
        for listener, inside in zip(listeners, (False, True, True, False)):
            if inside:
                listener.accept()[0].close()
            else:
                self.assertRaises(BlockingIOError, listener.accept)

    def test_several_ports(self):
        servers = [self.modbus({1: flux.battery_unit()}) for _ in range(2)]
        ports = sorted(server.port for server in servers)
        code, rows, block, _ = self.scan("127.0.0.1/31", "-u1",
                                         "-p", ",".join(str(port) for port in ports))
        self.assertEqual(code, 0)
        self.assertEqual([(row[0], int(row[1])) for row in rows],
                         [("127.0.0.1", port) for port in ports])
        self.assertEqual(re.findall(r'name = "(.*)"', block), ["Battery-1", "Battery-2"])

    def test_most_registers_are_enough(self):
        unit = flux.battery_unit()
        del unit.registers[2028]
        server = self.modbus({1: unit})
        self.assertEqual(self.scan("127.0.0.1", "-p", str(server.port), "-u", "1")[1][0][3:],
                         ["powerpack", "4", "of", "5"])
        del unit.registers[2010]
        self.assertEqual(self.scan("127.0.0.1", "-p", str(server.port), "-u", "1")[1][0][3:],
                         ["unknown"])

    def test_a_device_that_has_every_register(self):
        """All zeros are nobody's values."""
        class Zeros(dict):
            def __contains__(self, address):
                return True

            def __missing__(self, address):
                return 0

        unit = flux.Unit({})
        unit.registers = Zeros()
        server = self.modbus({1: unit})
        arguments = ("127.0.0.1", "-p", str(server.port), "-u", "1")
        self.assertEqual(self.scan(*arguments)[1][0][3:], ["unknown"])
        unit.registers.update(flux.meter_unit().registers)
        self.assertEqual(self.scan(*arguments)[1][0][3], "acuvim2")

    def test_a_type_of_ones_own(self):
        self.profile("mine", """
            manufacturer = "M"; model = "M"; function = 4;
            points = ( { name = "warm"; address = 10; type = "int16"; unit = "V"; },
                       { name = "on"; address = 3; function = 1; type = "bool"; } );""")
        self.profile("broken", "points = ( );")
        unit = flux.Unit({0: 0, 10: 21})
        server = self.modbus({1: unit})
        code, rows, _, err = self.scan("127.0.0.1", "-p", str(server.port), "-u", "1")
        self.assertEqual((code, rows[0][3:]), (0, ["mine", "1", "of", "1"]))
        self.assertIn("broken.cfg:1: ", err)
        self.assertEqual(unit.requests, len(unit.reads))  # the coil was not asked for

    def test_nobody(self):
        port = str(self.place().port)
        self.assertEqual(self.run_tool("scan", "127.0.0.1/30", "-p", port), (
            1, "", "fluxbridge scan: nobody in 127.0.0.1/30 takes connections\n"))

    def test_no_modbus(self):
        """Something that talks, but not Modbus."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def talk():
            try:
                while True:
                    with listener.accept()[0] as connection:
                        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            except OSError:
                pass

        threading.Thread(target=talk, daemon=True).start()
        code, rows, block, _ = self.scan("127.0.0.1", "-p", str(listener.getsockname()[1]))
        listener.shutdown(socket.SHUT_RDWR)
        self.assertEqual((code, rows[0][2], block), (0, "-", ""))

    def test_wrong_usage(self):
        for arguments, complaint in (
                (["10.0.0.0/8"], "'10.0.0.0/8' has more than 65536 addresses"),
                (["example.org"], "'example.org' is no IPv4 address"),
                (["127.0.0.1", "-p", "0"], "-p '0': wanted are "),
                (["127.0.0.1", "-p", "65536"], "-p '65536': wanted are "),
                (["127.0.0.1", "-u", "0-3"], "-u '0-3': wanted are "),
                (["127.0.0.1", "-u", "256"], "-u '256': wanted are ")):
            code, out, err = self.run_tool("scan", *arguments)
            self.assertEqual((code, out), (2, ""))
            self.assertTrue(err.startswith("fluxbridge scan: " + complaint), err)

    def test_progress_on_a_terminal_and_ctrl_c(self):
        """The unit that is silent holds up the end until the signal comes."""
        battery, silent = flux.battery_unit(), flux.Unit({})
        silent.silent = True
        server = self.modbus({1: battery, **{unit: silent for unit in range(2, 256)}})
        terminal = Terminal()
        tool = subprocess.Popen(
            [flux.program("fluxbridge"), "scan", "127.0.0.1/31", "-p", str(server.port),
             "-u", "1-255"], stdout=subprocess.PIPE, stderr=terminal.theirs, text=True,
            env={**os.environ, "TERM": "xterm"})
        self.addCleanup(tool.stdout.close)
        terminal.wait("] 1 of 2, 1 found")  # 127.0.0.0 takes no connections
        server.wait(lambda: silent.requests)
        tool.send_signal(signal.SIGINT)
        out = tool.communicate(timeout=flux.DEADLINE_S)[0]
        self.assertEqual(tool.returncode, 1)
        self.assertIn("powerpack", out)
        text = terminal.close()
        self.assertRegex(text, r"\r\[#{15}\.{15}\] 1 of 2, 1 found")
        self.assertTrue(text.endswith("\r\033[K" "fluxbridge scan: ended before all of "
                                      "127.0.0.1/31 was looked at\r\n"), text)


class Check(Test):
    def check(self, path, *arguments):
        code, out, err = self.run_tool("check", "-c", path, *arguments)
        self.assertEqual(err, "")
        return code, out.splitlines()

    def line_of(self, path, text, after=""):
        """Number of the first line with `text`, behind that with `after`."""
        with open(path) as file:
            whole = file.read()
        return 1 + whole.count("\n", 0, whole.index(text, whole.index(after)))

    def test_two_devices_on_one_unit(self):
        path = self.site(meters=[flux.meter(NOWHERE, "A"), flux.meter(NOWHERE, "B")])
        code, lines = self.check(path)
        self.assertEqual((code, len(lines)), (0, 2))
        self.assertEqual(lines[0], "%s:%d: warning: device 'A' has the same link and address 2"
                         % (path, self.line_of(path, "modbus", '"B"')))

    def test_a_secret_that_all_may_read(self):
        secret = os.path.join(self.directory, "secret")
        with open(secret, "w") as file:
            file.write("secret\n")
        for key, site in (("password_file", {"mqtt": {"username": "u", "password_file": secret}}),
                          ("token_file", {"http": {"listen": "127.0.0.1:9464",
                                                   "token_file": secret}})):
            with self.subTest(key):
                path = self.site(meters=[flux.meter(NOWHERE)], **site)
                os.chmod(secret, 0o640)
                self.assertEqual(self.check(path), (0, [path + ": good: 1 device on 1 link"]))
                os.chmod(secret, 0o644)
                code, lines = self.check(path)
                self.assertEqual(code, 0)
                self.assertEqual(lines[0], "%s:%d: warning: %s can be read by every user of this "
                                 "machine: chmod o-r it" % (path, self.line_of(path, key), secret))

    def test_polls_that_a_serial_line_is_too_slow_for(self):
        def site(poll):
            line = {"serial": "/dev/null", "baud": 9600}
            return self.site(meters=[
                flux.meter(NOWHERE, name, "acuvim2-vendor", address, poll, line)
                for name, address in (("A", 1), ("B", 2))])

        path = site("200ms")
        code, lines = self.check(path)
        self.assertEqual((code, len(lines)), (0, 2))
        # 76 registers and 18 in two reads, or 90 in one: about 200 ms for each meter.
        found = re.fullmatch(r"(.*): warning: the polls on /dev/null take (\d+) % of the time "
                             r"there is, by its baud rate: poll less often", lines[0])
        self.assertEqual(found.group(1), "%s:%d" % (path, self.line_of(path, "modbus")))
        self.assertTrue(180 <= int(found.group(2)) <= 240, lines[0])
        self.assertEqual(self.check(site("1s")), (0, [path + ": good: 2 devices on 1 link"]))

    # ---- what is around it ----

    def told(self, path, text, message, after="", code=1):
        """That there is this one problem, at the line of `text`."""
        line = self.line_of(path, text, after)
        self.assertEqual(self.check(path), (code, ["%s:%d: %s" % (path, line, message)]))

    def test_files_that_cannot_be_made(self):
        nowhere = os.path.join(self.directory, "none")
        missing = (nowhere + ": No such file or directory: make this directory, writable for the "
                             "user who runs the bridge")
        meters = [flux.meter(NOWHERE)]
        path = self.site(meters=meters, spool={"path": nowhere + "/spool.db"})
        self.told(path, "path", missing, "spool")
        os.mkdir(nowhere)
        self.assertEqual(self.check(path)[0], 0)
        path = self.site(meters=meters, spool={"path": nowhere})
        self.told(path, "path", nowhere + " is a directory: a file in it is wanted", "spool")
        os.rmdir(nowhere)
        with open(nowhere, "w"):
            pass
        path = self.site(meters=meters, spool={"path": nowhere + "/spool.db"})
        self.told(path, "path", nowhere + " is no directory", "spool")
        os.remove(nowhere)
        path = os.path.join(self.directory, "site.cfg")
        with open(path, "w") as file:
            file.write(flux.config(NOWHERE, meters=meters, audit={"path": nowhere + "/a.jsonl"}))
        self.told(path, "path", missing, "audit")

    def test_files_that_are_missing(self):
        """All at once, and each once; the configuration itself is right."""
        nowhere = os.path.join(self.directory, "none")
        path = self.site(
            meters=[flux.meter(NOWHERE)], spool={"path": nowhere + "/spool.db"},
            http={"listen": "127.0.0.1:9464", "token_file": nowhere + "/token"},
            mqtt={"url": "mqtts://127.0.0.1", "username": "u", "password_file": nowhere + "/word",
                  "tls": {"ca_file": nowhere + "/ca"}})
        code, lines = self.check(path)
        self.assertEqual((code, len(lines)), (1, 4), lines)
        for key, name in (("password_file", "word"), ("ca_file", "ca"), ("token_file", "token")):
            self.assertIn("%s:%d: %s: %s/%s: No such file or directory" % (
                path, self.line_of(path, key), key, nowhere, name), lines)
        with open(path, "a", encoding="utf-8") as file:
            file.write("nonsense = 1;\n")
        code, lines = self.check(path)
        self.assertEqual((code, len(lines)), (2, 4), lines)

    def test_files_of_somebody_else(self):
        meters = [flux.meter(NOWHERE)]
        notes = os.path.join(self.directory, "notes.txt")
        with open(notes, "w") as file:
            file.write("mine")
        path = self.site(meters=meters, spool={"path": notes})
        self.told(path, "path", notes + " is no spool of this release: it is another program's "
                  "file: name another path, or move it away", "spool")
        pipe = os.path.join(self.directory, "pipe")
        os.mkfifo(pipe)
        path = self.site(meters=meters, spool={"path": pipe})
        self.told(path, "path", pipe + " is no spool of this release: it is another program's "
                  "file: name another path, or move it away", "spool")
        os.unlink(pipe)
        state = os.path.join(self.directory, "state-demo.db")
        with open(state, "w") as file:
            file.write("mine")
        self.told(path, "site", state + " is no state file of this release: it is another "
                  "program's file: move it away")
        os.unlink(state)
        path = os.path.join(self.directory, "site.cfg")
        with open(path, "w") as file:
            file.write(flux.config(NOWHERE, meters=meters, audit={"path": notes}))
        self.told(path, "path", notes + " is no audit log: name another path, or move it away",
                  "audit")
        with open(notes) as file:
            self.assertEqual(file.read(), "mine")

    def test_a_serial_device_that_is_not_there(self):
        device = os.path.join(self.directory, "ttyUSB0")
        path = self.site(meters=[flux.meter(NOWHERE, name, address=address, poll="1s",
                                            modbus={"serial": device})
                                 for name, address in (("A", 1), ("B", 2))])
        self.told(path, "serial", device + ": No such file or directory: is the adapter plugged "
                                           "in?")  # once for the line
        with open(device, "w"):
            pass
        self.told(path, "serial", device + " is no serial device")

    def test_two_names_of_one_serial_line(self):
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        device, link = os.ttyname(theirs), os.path.join(self.directory, "by-id")
        os.symlink(device, link)
        path = self.site(meters=[flux.meter(NOWHERE, name, address=address, poll="1s",
                                            modbus={"serial": line})
                                 for name, address, line in (("A", 1, device), ("B", 2, link),
                                                             ("C", 3, device))])
        self.told(path, 'serial = "%s"' % link, "%s is the line of device 'A', %s: a line has to "
                  "have one name" % (link, device))

    def test_certificates_and_keys(self):
        authority = Certificates(self.directory, "one")
        cert, key = authority.sign("bridge", "IP:127.0.0.1", days=400)
        other, other_key = authority.sign("other", "IP:127.0.0.1", days=400)
        empty = os.path.join(self.directory, "empty.pem")
        with open(empty, "w") as file:
            file.write("no certificate\n")
        for path in (key, other_key, empty):
            os.chmod(path, 0o600)
        locked = os.path.join(self.directory, "locked.key")
        subprocess.run(["openssl", "ec", "-aes256", "-passout", "pass:word", "-in", key, "-out",
                        locked], check=True, capture_output=True)
        where = {"url": "mqtts://127.0.0.1:8883"}

        def site(**tls):
            return self.site(meters=[flux.meter(NOWHERE)], mqtt={**where, "tls": tls})

        self.assertEqual(self.check(site(cert_file=cert, key_file=key))[1][1:], [])
        self.told(site(ca_file=empty), "ca_file", "ca_file: %s holds no certificates as PEM" % empty)
        self.told(site(cert_file=empty, key_file=key), "cert_file",
                  "cert_file: %s holds no certificate as PEM" % empty)
        self.told(site(cert_file=cert, key_file=other_key), "key_file",
                  "key_file: %s is not the key of cert_file" % other_key)
        for path in (empty, locked):
            self.told(site(cert_file=cert, key_file=path), "key_file",
                      "key_file: %s holds no key as PEM without a passphrase" % path)
        os.chmod(key, 0o644)
        code, lines = self.check(site(cert_file=cert, key_file=key))
        self.assertEqual((code, len(lines)), (0, 2))
        self.assertIn("can be read by every user", lines[0])

    def test_certificates_that_end(self):
        authority = Certificates(self.directory, "one", days=2)
        path = self.site(meters=[flux.meter(NOWHERE)],
                         mqtt={"url": "mqtts://127.0.0.1", "tls": {"ca_file": authority.ca}})
        code, lines = self.check(path)
        self.assertEqual((code, len(lines)), (0, 2))
        self.assertRegex(lines[0], r":%d: warning: ca_file: a certificate ends in [12] days"
                         % self.line_of(path, "ca_file"))
        ended, key = authority.sign("late", "IP:127.0.0.1", days=-1)
        os.chmod(key, 0o600)
        path = self.site(meters=[flux.meter(NOWHERE)],
                         mqtt={"url": "mqtts://127.0.0.1",
                               "tls": {"cert_file": ended, "key_file": key}})
        self.told(path, "cert_file", "cert_file: a certificate has ended 1 days ago")

    def test_json(self):
        path = self.site(meters=[flux.meter(NOWHERE, "A"), flux.meter(NOWHERE, "B")],
                         spool={"path": self.directory})
        code, lines = self.check(path, "--json")
        self.assertEqual((code, len(lines)), (1, 1))
        told = json.loads(lines[0])
        self.assertEqual({key: told[key] for key in ("file", "good", "site", "devices", "links")},
                         {"file": path, "good": False, "site": "demo", "devices": 2, "links": 1})
        self.assertEqual(told["problems"], [
            {"file": path, "line": self.line_of(path, "path", "spool"),
             "message": self.directory + " is a directory: a file in it is wanted"}])
        self.assertEqual([entry["message"] for entry in told["warnings"]],
                         ["device 'A' has the same link and address 2"])
        with open(path, "a") as file:
            file.write("nonsense = 1;\n")
        code, lines = self.check(path, "-j")
        told = json.loads(lines[0])
        self.assertEqual((code, told["good"]), (2, False))
        self.assertEqual(told["problems"][0]["message"], "unknown key 'nonsense'")
        good = json.loads(self.check(self.site(meters=[flux.meter(NOWHERE)]), "-j")[1][0])
        self.assertEqual((good["good"], good["problems"], good["warnings"]), (True, [], []))

    def test_colours_on_a_terminal(self):
        path = self.site(meters=[flux.meter(NOWHERE, "A"), flux.meter(NOWHERE, "B")])
        terminal = Terminal()
        tool = self.tool("check", "-c", path, stdout=terminal.theirs,
                         env={"TERM": "xterm", "NO_COLOR": ""})
        self.assertEqual(tool.wait_end(), 0)
        text = terminal.close()
        self.assertIn("\033[33m%s:" % path, text)
        self.assertIn(": \033[32mgood\033[0m: 2 devices", text)

    def test_nothing_but_text_on_a_dumb_terminal(self):
        path = self.site(meters=[flux.meter(NOWHERE)])
        for arguments in (("check", "-c", path), ("check", "--online", "-c", path),
                          ("forget", "-c", path), ("scan", "127.0.0.1", "-p", "1")):
            terminal = Terminal()
            subprocess.run([flux.program("fluxbridge"), *arguments], stdout=terminal.theirs,
                           stderr=terminal.theirs, env={**os.environ, "TERM": "dumb"},
                           timeout=4 * flux.DEADLINE_S, check=False)
            text = terminal.close()
            self.assertNotEqual(text, "")
            self.assertNotRegex(text, "\033|\r(?!\n)", arguments)

    # ---- what the devices say ----

    def online(self, bess=(), meters=()):
        """A site whose broker is there."""
        if not hasattr(self, "mosquitto"):
            self.mosquitto = self.broker()
        for device in (*bess, *meters):
            if device["poll"] == "200ms":  # too often for a busy machine, which is a warning
                device["poll"] = "10s"
        return self.site(bess, meters, self.mosquitto)

    def test_online_points_that_are_refused(self):
        unit = flux.battery_unit()
        del unit.registers[2028], unit.registers[2026]
        server = self.modbus({1: unit})
        path = self.online([flux.battery(server)])
        code, lines = self.check(path, "--online")
        self.assertEqual((code, lines), (1, [
            "%s:%d: device 'Site-BESS-01' refuses 2 of 5 points: soe (illegal_address), "
            "available_blocks (illegal_address): is it a powerpack?"
            % (path, self.line_of(path, "modbus"))]))

    def test_online_values_that_cannot_be(self):
        unit = flux.battery_unit(soe=0xFFFF)
        server = self.modbus({1: unit})
        path = self.online([flux.battery(server)])
        code, lines = self.check(path, "--online")
        self.assertEqual((code, len(lines)), (0, 2))
        self.assertIn(": warning: device 'Site-BESS-01' says what cannot be: soe (implausible)",
                      lines[0])

    def test_online_good(self):
        server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        path = self.online([flux.battery(server)], [flux.meter(server)])
        self.assertEqual(self.check(path, "--online"),
                         (0, [path + ": good: 2 devices on 1 link"]))
        self.assertEqual(server.n_writes(), 0)

    def test_online_nobody_there(self):
        server = self.modbus({1: flux.battery_unit()})
        path = self.online([flux.battery(server)], [flux.meter(server)])
        self.assertEqual(self.check(path)[0], 0)
        code, lines = self.check(path, "--online")
        self.assertEqual((code, len(lines)), (1, 1))
        self.assertRegex(lines[0], r"\A%s:%d: device 'Grid-Meter' does not answer: .*gateway_target"
                         % (path, self.line_of(path, "modbus", "Grid-Meter")))

    def test_online_power_out_of_proportion(self):
        for power_kw, times in ((8471.0, "1e\\+03"), (0.0085, "0.001")):
            server = self.modbus({2: flux.meter_unit(230.5, 12.25, power_kw)})
            path = self.online(meters=[flux.meter(server)])
            code, lines = self.check(path, "-o")
            self.assertEqual((code, len(lines)), (0, 2))
            self.assertRegex(lines[0], r"\A%s:%d: warning: active_power_total of 'Grid-Meter' is "
                             r"%s times voltage x current: wrong scale or unit\?\Z"
                             % (path, self.line_of(path, "modbus"), times))
            scaled = self.online(meters=[flux.meter(server, points=[
                {"name": "active_power_total", "scale": 1 if power_kw > 1 else 1000000}])])
            self.assertEqual(self.check(scaled, "-o")[0], 0)
            self.assertEqual(len(self.check(scaled, "-o")[1]), 1)

    def test_online_polls_that_a_device_is_too_slow_for(self):
        unit = flux.battery_unit()
        unit.delay_s = 0.05
        server = self.modbus({1: unit})
        path = self.online([flux.battery(server, poll="10ms")])
        code, lines = self.check(path, "--online")
        self.assertEqual((code, len(lines)), (0, 2))
        self.assertRegex(lines[0], r":%d: warning: the polls on 127\.0\.0\.1 take \d{3,} %% of the "
                         r"time there is, as measured: " % self.line_of(path, "modbus"))


if __name__ == "__main__":
    flux.main()
