"""The command line: what it prints, where, and how it exits."""

import json
import os
import re
import signal
import types

import flux

COMMANDS = ("run", "check", "read", "write", "forget", "schedule", "points", "scan")


class Test(flux.Test):
    def file(self, text, name="site.cfg"):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(text)
        return path


class Text(Test):
    """Commands that end at once."""

    def test_help(self):
        for option in ("--help", "-h"):
            code, out, err = self.run_tool(option)
            self.assertEqual((code, err), (0, ""))
            for command in COMMANDS:
                self.assertRegex(out, r"(?m)^  %s +" % command)

    def test_help_of_commands(self):
        for command in COMMANDS:
            for option in ("--help", "-h"):
                code, out, err = self.run_tool(command, option)
                self.assertEqual((code, err), (0, ""))
                self.assertTrue(out.startswith("Usage: fluxbridge %s " % command), out)

    def test_version(self):
        for arguments in (["--version"], ["-V"], *([command, "--version"] for command in COMMANDS)):
            code, out, err = self.run_tool(*arguments)
            self.assertEqual((code, err), (0, ""))
            self.assertRegex(out, r"\Afluxbridge \d+\.\d+\.\d+\n\Z")

    def test_wrong_usage(self):
        for arguments, complaint in (
                ([], "no command given"),
                (["publish"], "unknown command 'publish'"),
                (["--quiet"], "unknown option '--quiet'"),
                (["check"], "no configuration given"),
                (["check", "-c"], "a value is missing after '-c'"),
                (["check", "--config"], "a value is missing after '--config'"),
                (["check", "-x", "-c", "x"], "unknown option '-x'"),
                (["check", "-xc", "x"], "unknown option '-x'"),
                (["check", "--strict", "-c", "x"], "unknown option '--strict'"),
                (["check", "-c", "x", "y"], "one argument too many: 'y'"),
                (["run"], "no configuration given"),
                (["run", "-c", "x", "y"], "one argument too many: 'y'"),
                (["points"], "an argument is missing"),
                (["points", "-c", "x", "y"], "unknown option '-c'"),
                (["points", "powerpack", "acuvim2"], "one argument too many: 'acuvim2'")):
            with self.subTest(arguments=arguments):
                code, out, err = self.run_tool(*arguments)
                self.assertEqual((code, out), (2, ""))
                known = arguments[:1] if arguments[:1] and arguments[0] in COMMANDS else []
                name = " ".join(["fluxbridge", *known])
                self.assertEqual(err, "%s: %s: see %s --help\n" % (name, complaint, name))

    def test_arguments_only(self):
        """Behind "--" all are arguments; a value may begin with a dash."""
        plain = self.run_tool("points", "powerpack")
        for arguments in (["--", "powerpack"], ["powerpack", "--"]):
            self.assertEqual(self.run_tool("points", *arguments), plain)
        for arguments, complaint in ((["points", "--"], "an argument is missing"),
                                     (["points", "--", "powerpack", "--json"],
                                      "one argument too many: '--json'"),
                                     (["points", "--", "a", "--"], "one argument too many: '--'"),
                                     (["read", "--", "a", "b"], "no configuration given")):
            code, out, err = self.run_tool(*arguments)
            self.assertEqual((code, out), (2, ""))
            self.assertEqual(err, "fluxbridge %s: %s: see fluxbridge %s --help\n"
                             % (arguments[0], complaint, arguments[0]))

    def test_points(self):
        code, out, err = self.run_tool("points", "powerpack")
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        self.assertEqual([line.split() for line in lines[1:6]], [
            "status 2000 0x07D0 holding uint16 abcd - 1 r - - 1 - code_N".split(),
            "target_power 2008 0x07D8 holding int16 abcd kW 1 rw - 06 1 - -".split(),
            "command_source 2010 0x07DA holding uint16 abcd - 1 rw - 06 1 - -".split(),
            "soe 2026 0x07EA holding uint16 abcd % 1 r - - 1 <0 >100 -".split(),
            "available_blocks 2028 0x07EC holding uint16 abcd - 1 r - - 1 - -".split()])
        for heading, cell in (("HEX", "0x07D0"), ("TYPE", "uint16"), ("LABELS", "code_N")):
            self.assertEqual(lines[0].index(heading), lines[1].rindex(cell))

    def test_points_of_a_type_of_ones_own(self):
        directory = os.path.join(self.directory, "profiles")
        os.mkdir(directory)
        self.file("""
                manufacturer = "M"; model = "M";
                points = (
                  { name = "warm"; address = 10; function = 4; type = "int16"; unit = "\u00b0C";
                    scale = 0.1; offset = -40; },
                  { name = "mode"; address = 11; type = "uint16"; bits = [ 4, 3 ]; },
                  { name = "door"; address = 11; type = "bool"; bits = [ 15, 1 ]; },
                  { name = "on"; address = 3; function = 1; type = "bool"; },
                  { name = "limit"; address = 12; type = "uint16"; unit = "kW"; access = "rw";
                    min = 5; max = 7.5; scale = 0.5; write_function = 16; every = 4; },
                  { name = "volts"; address = 13; type = "int32"; word_order = "cdab"; low = 0;
                    high = 500; scale_register = "volts_scale"; sentinels = [ 0x80000000 ]; },
                  { name = "volts_scale"; address = 15; type = "int16"; },
                  { name = "serial"; address = 20; type = "string"; registers = 8; },
                  { name = "high"; address = 28; type = "int8"; byte = "high"; counter = true; },
                  { name = "state"; address = 29; type = "uint16"; sunspec_model = 103;
                    labels = ( { value = 0; label = "off"; }, { value = 1; label = "on"; } ); } );
                max_registers = 60; unreadable = ( { first = 40; last = 49; } );
            """, "profiles/mine.cfg")
        os.environ["FLUXBRIDGE_PROFILES"] = directory
        self.addCleanup(os.environ.pop, "FLUXBRIDGE_PROFILES")
        code, out, err = self.run_tool("points", "mine")
        self.assertEqual((code, err), (0, ""))
        *lines, empty, reading = out.splitlines()
        self.assertEqual([re.split(r" {2,}", line) for line in lines], [
            re.split(r" {2,}", line) for line in [
                "NAME  ADDRESS  HEX  TABLE  TYPE  ORDER  UNIT  SCALE  ACCESS  LIMITS  WRITE  EVERY"
                "  NOT BELIEVED  LABELS",
                "warm  10  0x000A  input  int16  abcd  \u00b0C  0.1-40  r  -  -  1  -  -",
                "mode  11  0x000B  holding  uint16[4..6]  abcd  -  1  r  -  -  1  -  -",
                "door  11  0x000B  holding  bool[15]  abcd  -  1  r  -  -  1  -  -",
                "on  3  0x0003  coil  bool  -  -  1  r  -  -  1  -  -",
                "limit  12  0x000C  holding  uint16  abcd  kW  0.5  rw  5..7.5  16  4  -  -",
                "volts  13  0x000D  holding  int32  cdab  -  1*10^volts_scale  r  -  -  1"
                "  <0 >500 0x80000000  -",
                "volts_scale  15  0x000F  holding  int16  abcd  -  1  r  -  -  1  -  -",
                "serial  20  0x0014  holding  string[8]  abcd  -  -  r  -  -  1  -  -",
                "high  28  0x001C  holding  int8[high]  abcd  -  1  r  -  -  1  falling  -",
                "state  29  0x001D  model 103  uint16  abcd  -  1  r  -  -  1  -  0=off 1=on"]])
        self.assertEqual(len({line.index("  0x") for line in lines[1:]}), 1)
        self.assertEqual((empty, reading), (
            "", "M by M: at most 60 registers a read, gaps of up to 60 are read along, but for "
            "holding 40..49"))
        # The file itself says the same, wherever it is.
        for name in (os.path.join(directory, "mine.cfg"),
                     os.path.relpath(os.path.join(directory, "mine.cfg"))):
            self.assertEqual(self.run_tool("points", name), (0, out, ""))
        code, out, err = self.run_tool("points", "absent.cfg")
        self.assertEqual((code, out), (2, ""))
        self.assertEqual(err, "absent.cfg:1: cannot read absent.cfg: No such file or directory\n")

    def test_points_as_json(self):
        code, out, err = self.run_tool("points", "--json", "powerpack")
        self.assertEqual((code, err, out.count("\n")), (0, "", 1))
        told = json.loads(out)
        self.assertEqual((told["type"], len(told["points"])), ("powerpack", 5))
        self.assertEqual(told["points"][1], {
            "name": "target_power", "address": 2008, "table": "holding", "type": "int16",
            "registers": 1, "order": "abcd", "unit": "kW", "scale": 1, "access": "rw",
            "write_function": 6, "every": 1})
        path = self.file("""
            manufacturer = "M"; model = "M";
            points = (
              { name = "sf"; address = 1; type = "int16"; },
              { name = "warm"; address = 10; function = 4; type = "int16"; unit = "K"; scale = 0.1;
                offset = -40; low = -20.5; high = 80; sentinels = [ -32768 ]; },
              { name = "power"; address = 2; type = "int16"; scale_register = "sf"; },
              { name = "mode"; address = 11; type = "uint16"; bits = [ 4, 3 ];
                labels = ( { value = 1; label = "on"; } ); },
              { name = "limit"; address = 12; type = "uint16"; access = "rw"; min = 0; max = 7;
                every = 5; } );
            """, "mine.cfg")
        code, out, err = self.run_tool("points", "-j", path)
        self.assertEqual((code, err), (0, ""))
        row = {"table": "holding", "registers": 1, "order": "abcd", "scale": 1, "access": "r",
               "every": 1}
        self.assertEqual(json.loads(out)["points"][1:], [
            {**row, "name": "warm", "address": 10, "table": "input", "type": "int16", "unit": "K",
             "scale": 0.1, "offset": -40, "low": -20.5, "high": 80, "sentinels": ["0x8000"]},
            {**row, "name": "power", "address": 2, "type": "int16", "scale_register": "sf"},
            {**row, "name": "mode", "address": 11, "type": "uint16", "bits": [4, 3],
             "labels": [{"value": 1, "label": "on"}]},
            {**row, "name": "limit", "address": 12, "type": "uint16", "access": "rw",
             "write_function": 6, "min": 0, "max": 7, "every": 5}])

    def test_points_of_no_type(self):
        for name in ("powerpak", "../powerpack", ""):
            code, out, err = self.run_tool("points", name)
            self.assertEqual((code, out), (2, ""))
            self.assertEqual(err.count("\n"), 1)
            self.assertTrue(err.startswith("fluxbridge points: there is no type '%s': " % name))
            for known in ("powerpack", "acuvim2", "acuvim2-vendor"):
                self.assertRegex(err, r" %s[,\n]" % known)

    def test_output_that_cannot_be_written(self):
        for name, *arguments in (("fluxbridge", "points", "powerpack"), ("fluxbridge", "--help"),
                                 ("fluxbridge-sim", "--help"), ("fluxbridge-sim", "--version")):
            with self.subTest(name, arguments=arguments), open("/dev/full", "w") as full:
                end = flux.subprocess.run([flux.program(name), *arguments],
                                          stdout=full, stderr=flux.subprocess.PIPE, check=False)
                self.assertEqual((end.returncode, end.stderr),
                                 (1, b"%s: cannot write the output\n" % name.encode()))

    def test_the_simulator_alike(self):
        def simulator(argument):
            done = flux.subprocess.run([flux.program("fluxbridge-sim"), argument], text=True,
                                       capture_output=True, check=False)
            return done.returncode, done.stdout, done.stderr

        self.assertEqual(simulator("-h"), simulator("--help"))
        self.assertEqual(simulator("-V"), simulator("--version"))
        code, out, err = simulator("--nonsense")
        self.assertEqual((code, out), (2, ""))
        self.assertRegex(err, r"'--nonsense'\nTry 'fluxbridge-sim --help'\.\n\Z")

    def test_check_of_the_example(self):
        path = os.path.join(flux.source_dir(), "etc", "fluxbridge.cfg")
        with open(path) as file:
            text = file.read()
        # A serial device that there is everywhere.
        text = text.replace("/var/lib/fluxbridge", self.directory).replace("/dev/ttyUSB0",
                                                                           "/dev/null")
        path = self.file(text)
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual((code, out, err), (0, path + ": good: 3 devices on 3 links\n", ""))

    def test_check(self):
        nowhere = types.SimpleNamespace(host="127.0.0.1", port=1)
        path = self.file(flux.config(nowhere, meters=[flux.meter(nowhere)]))
        code, out, err = self.run_tool("check", "--config", path)
        self.assertEqual((code, out, err), (0, path + ": good: 1 device on 1 link\n", ""))

        path = self.file(flux.config(nowhere, bess=[flux.battery(nowhere)],
                                     meters=[flux.meter(nowhere)]))
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual((code, err), (0, ""))
        warning, summary = out.splitlines()
        self.assertRegex(warning, r"\A%s:\d+: warning: commands are not logged" % path)
        self.assertEqual(summary, path + ": good: 2 devices on 1 link")

    def test_check_prints_every_problem(self):
        path = self.file('site = "a b";\nmqtt: { };\ndevices: { };\nextra = 1;\n')
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual((code, err), (2, ""))
        lines = out.splitlines()
        self.assertEqual(len(lines), 4)
        for line in lines:
            self.assertRegex(line, r"\A%s:[1-4]: ." % path)

    def test_no_configuration(self):
        path = os.path.join(self.directory, "none.cfg")
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual((code, err), (2, ""))
        self.assertEqual(out, "%s:1: cannot read %s: No such file or directory\n" % (path, path))

    def test_run_starts_nothing_with_problems(self):
        audit = os.path.join(self.directory, "audit.jsonl")
        path = self.file('site = "s";\naudit: { path = "%s"; };\nmqtt: { };\n' % audit)
        code, out, err = self.run_tool("run", "-c", path)
        self.assertEqual((code, out), (2, ""))
        self.assertEqual(err.splitlines(), [path + ":1: missing key 'devices'",
                                            path + ":3: missing key 'url'"])
        self.assertFalse(os.path.exists(audit))


class Signals(Test):
    """The running daemon and its signals."""

    def start(self):
        self.audit = os.path.join(self.directory, "audit.jsonl")
        self.server = self.modbus({1: flux.battery_unit()})
        self.mosquitto = self.broker()
        self.flux = self.bridge(self.text("debug", audit={"path": self.audit}))
        self.started = self.flux.wait_log(r"fluxbridge is up ")

    def text(self, level, **more):
        return flux.config(self.mosquitto, [flux.battery(self.server)],
                           more.pop("meters", ()), log={"level": level}, **more)

    def rewrite(self, text):
        """Changes the configuration of the running daemon, and tells it."""
        os.replace(self.file(text), self.flux.config)
        self.flux.signal(signal.SIGHUP)

    def test_start_and_stop(self):
        for number, name in ((signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")):
            self.start()
            self.assertRegex(
                self.started, r"info: fluxbridge is up version=\d+\.\d+\.\d+ site=demo devices=1 "
                r"links=1 run=[0-9a-f]{8}$")
            self.flux.signal(number)
            self.assertEqual(self.flux.wait_end(), 0)
            self.assertRegex(self.flux.log(), r"info: stopping signal=%s\n" % name)

    def test_each_start_is_a_new_run(self):
        runs = set()
        for _ in range(2):
            self.start()
            runs.add(self.started.split("run=")[1])
            self.flux.stop()
        self.assertEqual(len(runs), 2)

    def test_hangup_takes_over_the_log_level(self):
        self.start()
        self.rewrite(self.text("info", audit={"path": self.audit}))
        self.flux.wait_log(r"info: reloaded level=info$")
        # A warning is told before the quiet level is taken over.
        self.rewrite(self.text("warning", audit={"path": self.audit},
                               meters=[flux.meter(self.server, address=1)]))
        self.flux.wait_log(r"warning: .*/fluxbridge.cfg:\d+: warning: device .* same link and")
        self.rewrite(self.text("loud"))
        self.flux.wait_log(r"warning: .*/fluxbridge.cfg:\d+: level must be ")
        self.flux.wait_log(r"warning: the configuration is not taken over problems=1$")
        self.flux.stop()
        self.assertEqual(self.flux.log().count("reloaded"), 1)
        self.assertNotIn("stopping", self.flux.log())

    def test_hangup_opens_the_audit_log_anew(self):
        self.start()
        client = self.client(self.mosquitto)
        client.wait_text("Site-BESS-01/status", "online")
        self.assertEqual(client.ask(5.0, "before")["outcome"], "confirmed")
        os.rename(self.audit, self.audit + ".1")
        self.flux.signal(signal.SIGHUP)
        self.flux.wait_log(r"reloaded level=debug$")
        self.assertEqual(client.ask(6.0, "after")["outcome"], "confirmed")
        with open(self.audit + ".1") as file:
            self.assertRegex(file.read(), r'\A\{"id":"before",.*\}\n\Z')
        with open(self.audit) as file:
            self.assertRegex(file.read(), r'\A\{"id":"after",.*\}\n\Z')


if __name__ == "__main__":
    flux.main()
