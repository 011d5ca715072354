"""Devices of every type: served as their golden files hold them, and told apart."""

import json
import os
import re

import flux
import sim_clients
import pymodbus_server

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "unit", "golden")
MODEL_WORDS = {1: 66, 103: 50, 203: 105}  # as SunSpec's models have them
SUNS = [0x5375, 0x6E53]
BATTERIES = {"powerpack", "powerpack-direct", "sungrow-sh", "victron-ess"}


def golden_unit(name, base=40000):
    """A unit that holds the registers of a golden file."""
    registers, models = {}, {1: [1, 66] + [0] * 66}
    with open(os.path.join(GOLDEN, name + ".golden")) as file:
        for line in file:
            found = re.match(r"(?:(input|model (\d+)) )?([0-9A-F]{4}): (.*)", line)
            if not found:
                continue
            address, words = int(found[3], 16), [int(word, 16) for word in found[4].split()]
            if found[2]:
                number = int(found[2])
                model = models.setdefault(
                    number, [number, MODEL_WORDS[number]] + [0] * MODEL_WORDS[number])
                model[address:address + len(words)] = words
            else:
                registers.update(flux.registers(address, words))
    if len(models) > 1:
        chain = SUNS + [word for _, model in sorted(models.items()) for word in model]
        registers.update(flux.registers(base, chain + [0xFFFF, 0]))
    return flux.Unit(registers)


class Scan(flux.Test):
    def scan(self, *arguments):
        """(exit code, {unit: type}, the block for the configuration)"""
        code, out, err = self.run_tool("scan", *arguments)
        self.assertEqual(err, "")
        table, _, block = out.partition("\n\n")
        rows = [line.split() for line in table.splitlines()[1:]]
        return code, {int(row[2]): row[3] for row in rows}, block

    def test_each_is_recognised(self):
        names = sorted(file[:-len(".golden")] for file in os.listdir(GOLDEN)
                       if file.endswith(".golden"))
        units = {unit: golden_unit(name) for unit, name in enumerate(names, 1)}
        server = self.modbus(units)
        code, found, _ = self.scan("127.0.0.1", "-p", str(server.port),
                                   "-u", "1-%u" % len(names))
        self.assertEqual((code, found), (0, dict(enumerate(names, 1))))
        for unit in units.values():
            self.assertEqual(unit.writes, [])

    def test_where_sunspec_may_begin(self):
        units = {1: golden_unit("sunspec-inverter", 0), 2: golden_unit("sunspec-inverter", 50000)}
        server = self.modbus(units)
        _, found, _ = self.scan("127.0.0.1", "-p", str(server.port), "-u", "1-2")
        self.assertEqual(found, {1: "sunspec-inverter", 2: "sunspec-inverter"})

    def test_a_serial_line(self):
        line = self.serial_line()
        units = {3: golden_unit("sdm72"), 4: golden_unit("em24")}
        self.modbus(units, serial=line.ours)
        code, found, block = self.scan("--serial", line.theirs, "-u", "2-4",
                                       "--baud", "9600", "--parity", "none")
        self.assertEqual((code, found), (0, {3: "sdm72", 4: "em24"}))
        for unit in (3, 4):
            self.assertIn('modbus: { serial = "%s"; address = %u; baud = 9600; parity = "none"; };'
                          % (line.theirs, unit), block)
        path = os.path.join(self.directory, "found.cfg")
        with open(path, "w") as file:
            file.write('site = "s"; mqtt: { url = "mqtt://127.0.0.1"; };\n'
                       'audit: { path = "%s/audit.jsonl"; };\n' % self.directory + block)
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual((code, err), (0, ""))
        self.assertIn(": good: 2 devices on 1 link\n", out)

    def test_wrong_usage(self):
        for arguments, complaint in (
                (["127.0.0.1", "--serial", "/dev/null"], "--serial"),
                (["--serial", "/dev/null", "--baud", "9601"], "9601"),
                (["--serial", "/dev/null", "--parity", "mark"], "mark"),
                (["--serial", "/dev/null", "-p", "502"], "-p"),
                (["127.0.0.1", "--baud", "9600"], "--baud")):
            code, out, err = self.run_tool("scan", *arguments)
            self.assertEqual((code, out), (2, ""), arguments)
            self.assertIn(complaint, err.splitlines()[0])

    def test_a_line_that_is_not_there(self):
        path = os.path.join(self.directory, "ttyUSB9")
        code, out, err = self.run_tool("scan", "--serial", path)
        self.assertEqual((code, out), (1, ""))
        self.assertRegex(err, r"^fluxbridge scan: .*ttyUSB9.*No such file")
        code, out, err = self.run_tool("scan", "--json", "--serial", path)
        self.assertEqual((code, json.loads(out)), (1, {"whole": False, "found": []}))


class Simulated(flux.Test):
    def test_each_is_read(self):
        """What the simulator holds for a type is what the type reads."""
        names = sorted(file[:-len(".golden")] for file in os.listdir(GOLDEN)
                       if file.endswith(".golden"))
        place = self.place()
        path = os.path.join(self.directory, "site.cfg")
        with open(path, "w") as file:
            file.write(flux.config(
                place, **{group: [flux.meter(place, "M-" + name, name, unit)
                                  for unit, name in enumerate(names, 1)
                                  if (name in BATTERIES) == (group == "bess")]
                          for group in ("bess", "meters")}))
        self.addCleanup(sim_clients.Simulator(path).stop)
        for name in names:
            code, out, err = self.run_tool("read", "-c", path, "M-" + name, "--json")
            sample = json.loads(out)
            self.assertEqual((code, err, sample["quality"]), (0, "", "good"), sample)
            voltage = [value for key, value in sample["data"].items()
                       if key.startswith("voltage_l1_n")]
            for value in voltage:
                self.assertTrue(200 < value < 260, (name, value))

    def test_kinds_of_rows(self):
        with open(os.path.join(self.directory, "mine.cfg"), "w") as file:
            file.write("""manufacturer = "Maker"; model = "Model 1"; points = (
                { name = "manufacturer"; address = 0; type = "string"; registers = 4; },
                { name = "name"; address = 4; type = "string"; registers = 4;
                  word_order = "badc"; },
                { name = "voltage"; address = 2; type = "int16"; unit = "V"; sunspec_model = 7;
                  scale_register = "scale"; },
                { name = "scale"; address = 3; type = "int16"; sunspec_model = 7; },
                { name = "high"; address = 20; type = "uint8"; byte = "high"; unit = "V"; },
                { name = "low"; address = 20; type = "uint8"; byte = "low"; unit = "%"; },
                { name = "three"; address = 22; type = "uint24"; unit = "W"; },
                { name = "factor"; address = 29; type = "4q_fp_pf"; },
                { name = "digits"; address = 24; type = "bcd32"; unit = "W"; },
                { name = "modulo"; address = 26; type = "m10k48"; unit = "W"; } );""")
        os.environ["FLUXBRIDGE_PROFILES"] = self.directory
        self.addCleanup(os.environ.pop, "FLUXBRIDGE_PROFILES")
        place = self.place()
        path = os.path.join(self.directory, "site.cfg")
        with open(path, "w") as file:
            file.write(flux.config(place, meters=[flux.meter(place, "Dev", "mine")]))
        self.addCleanup(sim_clients.Simulator(path).stop)
        data = json.loads(self.run_tool("read", "-c", path, "Dev", "--json")[1])["data"]
        self.assertEqual((data["manufacturer"], data["name"], data["scale"]),
                         ("Maker", "Model 1", -1))
        for key, low, high in (("voltage", 200, 260), ("high", 200, 255), ("low", 1, 100),
                               ("factor", -1, 1), ("three", 1, 1e6), ("digits", 1, 1e6), ("modulo", 1, 1e6)):
            self.assertTrue(low <= data[key] <= high, (key, data))


class Documents(flux.Test):
    def test_each_type_is_named(self):
        directory = os.path.join(flux.source_dir(), "devices", "profiles")
        types = {file[:-4] for file in os.listdir(directory) if file.endswith(".cfg")}
        with open(os.path.join(flux.source_dir(), "README.md")) as file:
            table = file.read().partition("Types that come with it:")[2].partition("\n\nBut")[0]
        named = re.findall(r"`([a-z0-9-]+)`", " ".join(
            line.split("|")[1] for line in table.splitlines() if line.startswith("| `")))
        self.assertEqual(sorted(named), sorted(types))
        with open(os.path.join(flux.source_dir(), "packaging", "man", "fluxbridge.conf.5")) as file:
            text = file.read().partition("\\fBtype\\fR (text, required)")[2].partition("\nor ")[0]
        self.assertEqual(sorted(re.findall(r"(?m)^\.BR? (\S+)", text.replace("\\-", "-"))),
                         sorted(types))


class Plc(flux.Unit):
    """A unit that also has coils, which it takes by function 05 and 15."""

    def __init__(self, registers, coils):
        super().__init__(registers)
        self.coils = dict(coils)

    def answer(self, request):
        if request.function_code == 1:
            self.requests += 1
            span = range(request.address, request.address + request.count)
            if any(address not in self.coils for address in span):
                return pymodbus_server.exception(request, 2)
            return pymodbus_server.read_coils_answer([self.coils[address] for address in span])
        if request.function_code == 5:
            self.requests += 1
            self.writes.append(flux.Write(5, request.address, [request.value]))
            self.coils[request.address] = request.value
            return pymodbus_server.write_coil_answer(request)
        return super().answer(request)


class Bridge(flux.Test):
    def start(self, unit, rows, **device):
        with open(os.path.join(self.directory, "mine.cfg"), "w") as file:
            file.write('manufacturer = "M"; model = "1"; function = 3;\npoints = (%s);\n'
                       % ",\n".join("{ %s }" % row for row in rows))
        os.environ["FLUXBRIDGE_PROFILES"] = self.directory
        self.addCleanup(os.environ.pop, "FLUXBRIDGE_PROFILES")
        self.server = self.modbus({2: unit})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.audit = os.path.join(self.directory, "audit.jsonl")
        self.flux = self.bridge(flux.config(
            self.mosquitto, meters=[flux.meter(self.server, "Dev", "mine", **device)],
            audit={"path": self.audit}))

    def state(self, predicate=None, since=0):
        return self.mqtt.wait("Dev/state", predicate and (lambda m: predicate(m.json)),
                              since=since).json

    def test_values(self):
        unit = flux.Unit({
            0: 0x4142, 1: 0x4300,  # "ABC"
            10: 0x0123, 11: 0x4567,  # BCD
            20: 2305, 21: 0xFFFF,  # 10^-1
            30: 0x12FE,  # two bytes
            40: 1234, 41: 5678,  # modulo 10000
            50: 0xFFFF, 51: 0xFFFF, 52: 0xFFFF,
            60: 7, 61: 20,  # 10^20 is no scale
            70: 0xBF86, 71: 0x6666})  # -1.05: the quadrant below -0.95's
        self.start(unit, [
            'name = "name"; address = 0; type = "string"; registers = 2',
            'name = "count"; address = 10; type = "bcd32"; unit = "kWh"',
            'name = "voltage"; address = 20; type = "int16"; unit = "V"; '
            'scale_register = "voltage_scale"',
            'name = "voltage_scale"; address = 21; type = "int16"',
            'name = "upper"; address = 30; type = "int8"; byte = "high"',
            'name = "lower"; address = 30; type = "int8"; byte = "low"',
            'name = "energy"; address = 40; type = "m10k32"; unit = "kWh"',
            'name = "debt"; address = 50; type = "int48"',
            'name = "current"; address = 60; type = "uint16"; unit = "A"; '
            'scale_register = "current_scale"',
            'name = "current_scale"; address = 61; type = "int16"',
            'name = "power_factor"; address = 70; type = "4q_fp_pf"'])
        state = self.state()
        self.assertEqual(state["data"], {
            "name": "ABC", "count": 1234567, "voltage": 230.5, "voltage_scale": -1, "upper": 0x12,
            "lower": -2, "energy": 12345678, "debt": -1, "current": None, "current_scale": 20,
            "power_factor": -0.95})
        self.assertEqual(state["errors"], {"current": "implausible"})
        # The scale counts in the scan it was read in.
        with self.server.changed:
            unit.registers.update({20: 23, 21: 1, 61: 0})
        self.state(lambda s: s["data"]["voltage"] == 230 and s["data"]["current"] == 7)
        with self.server.changed:
            unit.read_exceptions[21] = 2
        state = self.state(lambda s: s["data"]["voltage_scale"] is None)
        self.assertEqual((state["quality"], state["data"]["voltage"]), ("partial", None))
        self.assertEqual(state["data"]["count"], 1234567)

    def test_a_register_that_is_refused_hides_no_other(self):
        registers = {address: address for address in range(8) if address != 5}
        self.start(flux.Unit(registers), [
            'name = "r%u"; address = %u; type = "uint16"' % (a, a) for a in range(8)])
        state = self.state(lambda s: s["data"]["r7"] == 7 and s["data"]["r4"] == 4)
        self.assertEqual((state["quality"], state["errors"]),
                         ("partial", {"r5": "illegal_address"}))
        self.assertEqual([v for v in state["data"].values()], [0, 1, 2, 3, 4, None, 6, 7])
        self.flux.wait_log(r"holding register 5 \(r5\): illegal_address .*device=Dev")
        self.mqtt.wait_text("Dev/status", "online")
        # It is not asked for in every scan from now on, and told of once.
        mark = self.mqtt.mark()
        self.mqtt.wait_count("Dev/state", 3, since=mark)
        self.assertNotIn("offline", [m.text for m in self.mqtt.on("Dev/status", mark)])
        self.assertEqual(len(re.findall(r"illegal_address .*device=Dev", self.flux.log())), 1)

    def test_silence_on_a_hole(self):
        class Mute(flux.Unit):
            """Answers no read that crosses the registers it does not have."""

            def _read(self, request):
                span = range(request.address, request.address + request.count)
                if any(address not in self.registers for address in span):
                    self.reads.append((request.function_code, request.address, request.count))
                    return None
                return super()._read(request)

        unit = Mute({0: 1, 1: 2, 4: 5})
        self.start(unit, ['name = "a"; address = 0; type = "uint16"',
                          'name = "b"; address = 1; type = "uint16"',
                          'name = "c"; address = 4; type = "uint16"'],
                   modbus={"timeout": flux.patient(0.2),
                           "retry_count": 2})
        state = self.state(lambda s: s["quality"] == "good")
        self.assertEqual(state["data"], {"a": 1, "b": 2, "c": 5})
        self.flux.wait_log(r"max_gap.*device=Dev")

    def test_any_device_takes_commands(self):
        unit = Plc({3: 40, 7: 0}, {0: False, 1: False})
        self.start(unit, [
            'name = "limit"; address = 3; type = "uint16"; access = "rw"; min = 0; max = 100; '
            'unit = "%"; write_function = 16',
            'name = "other"; address = 7; type = "uint16"; access = "rw"; min = 0; max = 9',
            'name = "relay"; address = 0; type = "bool"; function = 1; access = "rw"',
            'name = "heater"; address = 1; type = "bool"; function = 1; access = "rw"'],
                   writable=["limit", "relay"])
        self.mqtt.wait_text("Dev/status", "online")
        self.mqtt.wait_text("bridge/status", "online")

        def ask(value, id, point):
            return self.mqtt.ask(value, id, device="Dev", point=point)

        outcome = ask(60, "c1", "limit")
        self.assertEqual(outcome["outcome"], "confirmed", outcome)
        self.assertEqual(ask(1, "c2", "relay")["outcome"], "confirmed")
        self.assertEqual(ask(101, "c3", "limit")["reason"], "out_of_range")
        self.assertEqual(ask(5, "c4", "other")["reason"], "not_writable")
        self.assertEqual(ask(1, "c5", "heater")["reason"], "not_writable")
        self.assertEqual([tuple(write) for write in unit.writes],
                         [(16, 3, [60]), (5, 0, [True])])
        self.state(lambda s: s["data"]["limit"] == 60 and s["data"]["relay"] is True)


if __name__ == "__main__":
    flux.main()
