#!/usr/bin/python3
"""Measures the bridge against the least that could do its work.

    tests/bench/run.py BUILD_DIR [--small] [--runs N] [--only SCENARIO,...]

Starts a broker, a fleet of simulated devices, a measuring subscriber and, one
after the other, the bridge and the reference programs; prints one table of
medians over three runs and writes BUILD_DIR/bench.txt and BUILD_DIR/bench.svg.
README.md says what each figure is. --small goes through the same motions in a
few seconds with figures that mean nothing: it tests the benchmark. --only takes the
scenarios of these names alone (poll, crowd, fastest, ...: what it says as it goes), and
their rows.

Nothing is judged here: the exit code is 0 when everything could be measured.
"""

import argparse
import contextlib
import json
import os
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import plot

PATIENCE_S = 60  # for anything that must happen, however busy the machine
VALUES = 20  # per sample: the registers of a bench device

FULL = {"runs": 3, "period_ms": 1000, "settle_s": 1, "window_s": 10, "long_s": 60,
        "announce_s": 0.025, "session_s": 0.05,  # what the bridge takes for each device
        "sizes": (10, 100, 500), "many": 1000, "crowd": 5000, "commands": 500, "slow_commands": 60,
        "tracers": True}
SMALL = {"runs": 1, "period_ms": 100, "settle_s": 0, "window_s": 0.3, "long_s": 0.3,
         "announce_s": 0, "session_s": 0,
         "sizes": (4,), "many": 6, "crowd": 8, "commands": 5, "slow_commands": 2, "tracers": False}


SLOW_MS = 50  # of a stop's transaction under way
SILENT_UNIT = 200  # of the fleet


class Failure(Exception):
    """Something did not do its part; there is no figure."""


# ---- processes -----------------------------------------------------------------------------


class Process:
    """A program of ours: told what to do by lines, answering by lines of JSON."""

    def __init__(self, directory, arguments, tracer=(), environment=None, merge=False):
        self.name = os.path.basename(arguments[0])
        self.errors = tempfile.NamedTemporaryFile("w+", dir=directory, prefix=self.name + "-",
                                                  suffix=".log")
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            [*tracer, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else self.errors, env={**os.environ, **(environment or {})})
        self.pid = self.process.pid
        self.rest = b""

    def fail(self, what):
        with open(self.errors.name) as log:
            raise Failure("%s %s\n%s" % (self.name, what, log.read()[-3000:]))

    def answer(self, depends_on=None):
        """The next line it says; it will never come when `depends_on` has ended."""
        end_s = time.monotonic() + PATIENCE_S
        out = self.process.stdout.fileno()
        while b"\n" not in self.rest:
            if not select.select([out], [], [], 0.2)[0]:
                if depends_on and depends_on.process.poll() is not None:
                    depends_on.fail("has ended with %s" % depends_on.process.returncode)
                if time.monotonic() > end_s:
                    (depends_on or self).fail("does not do its part")
                continue
            got = os.read(out, 1 << 20)
            if not got:
                self.fail("has ended")
            self.rest += got
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def tell(self, order):
        self.process.stdin.write(order.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, order, depends_on=None):
        self.tell(order)
        return self.answer(depends_on)

    def run_for(self, seconds):
        """Lets a window of measurement pass; nothing may end in it."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        self.fail("has ended with %s" % self.process.returncode)

    def stop(self, number=signal.SIGTERM):
        """Seconds it took to end."""
        begun_s = time.monotonic()
        if self.process.returncode is None:
            self.process.send_signal(number)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                self.fail("does not end")
        took_s = time.monotonic() - begun_s
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self.errors.close()
        return took_s

    # What the kernel counts for it.

    def cpu_s(self):
        """User and system time of all its threads, those that ended included, from the
        process's CPU clock: to the nanosecond, where /proc counts ticks of 10 ms."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def _threads(self, field):
        total = 0
        for thread in os.listdir("/proc/%d/task" % self.pid):
            with contextlib.suppress(FileNotFoundError):
                with open("/proc/%d/task/%s/status" % (self.pid, thread)) as status:
                    total += int(re.search(field + r":\s*(\d+)", status.read()).group(1))
        return total

    def wakeups(self):
        return self._threads("voluntary_ctxt_switches")

    def has(self, what):
        """How many: "task" are threads, "fd" descriptors."""
        return len(os.listdir("/proc/%d/%s" % (self.pid, what)))

    def resident_mib(self):
        with open("/proc/%d/status" % self.pid) as status:
            return int(re.search(r"VmRSS:\s*(\d+)", status.read()).group(1)) / 1024


class Bench:
    """One set-up: a broker, a fleet and a sink, and what is measured between them."""

    def __init__(self, size, stack, devices, delay_ms=0):
        self.build_dir = size["build_dir"]
        self.period_ms = size["period_ms"]
        self.settle_s = size["settle_s"]
        self.stack = stack
        self.directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fluxbench-"))
        self.broker_port = self._start_broker()
        self.fleet = self.start([self.tool("fleet"), str(devices), str(delay_ms)])
        self.ports = self.fleet.answer()["ports"]
        self.sink = self.start([self.tool("sink"), str(self.broker_port), str(devices)])
        self.sink.answer()

    def tool(self, name):
        return os.path.join(self.build_dir, "tests", "bench", name)

    def start(self, arguments, **more):
        process = Process(self.directory, arguments, **more)
        self.stack.callback(process.stop)
        return process

    def _start_broker(self):
        for _ in range(10):
            with socket.socket() as probe:  # another may take the port before the broker does
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            path = os.path.join(self.directory, "mosquitto.conf")
            with open(path, "w") as file:
                # Without Nagle in the broker, a delay is the program's own.
                file.write("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\n"
                           "set_tcp_nodelay true\nlog_dest stderr\nconnection_messages false\n"
                           % port)
            broker = self.start(["/usr/sbin/mosquitto", "-c", path], merge=True)
            for line in iter(broker.process.stdout.readline, b""):
                if b" running" in line:
                    return port
        raise Failure("the broker does not start")

    # ---- the programs under test

    def start_bridge(self, devices, batteries=0, qos=0, wills=False, profile="bench",
                     poll_ms=None, one_link=False, silent_ms=None, sparkplug=False, tracer=()):
        """The first `batteries` devices are PowerPacks. With `one_link` all are units of the
        fleet's first; with `silent_ms` all but its first answer nothing, and are waited for
        so long."""
        files = {key: os.path.join(self.directory, key)
                 for key in ("bridge.cfg", "audit.jsonl", "spool.db")}
        poll = "%dms" % (poll_ms or self.period_ms)
        bess, meters = [], []
        for i in range(devices):
            where = (self.ports[0], i + 1) if one_link else (self.ports[i], 1)
            timeout = "5s"
            if silent_ms:
                where, timeout = (self.ports[0], SILENT_UNIT if i else 1), "%dms" % silent_ms
            text = ('{ id = "id-%d"; name = "d%d"; type = "%s"; poll = "%s"; modbus: { host = '
                    '"127.0.0.1"; port = %d; address = %d; timeout = "%s"; };%s }')
            if i < batteries:
                control = (' control: { ready_status = [ 1 ]; min_kw = -250; max_kw = 250; '
                           'positive_is = "discharge"; };')
                bess.append(text % (i, i, "powerpack", poll, *where, timeout, control))
            else:
                meters.append(text % (i, i, profile, poll, *where, timeout, ""))
        groups = ["%s = ( %s );" % (name, ",\n".join(rows))
                  for name, rows in (("bess", bess), ("meters", meters)) if rows]
        with open(files["bridge.cfg"], "w") as file:
            file.write('site = "bench";\n'
                       'mqtt: { url = "mqtt://127.0.0.1:%d"; qos = %d; device_wills = %s; };\n'
                       'spool: { path = "%s"; };\naudit: { path = "%s"; };\n'
                       'log: { level = "warning"; };\nsparkplug: { enabled = %s; };\n'
                       'devices: {\n%s\n};\n'
                       % (self.broker_port, qos, "true" if wills else "false",
                          files["spool.db"], files["audit.jsonl"],
                          "true" if sparkplug else "false", "\n".join(groups)))
        write_profiles(self.directory)
        return self.start([os.path.join(self.build_dir, "fluxbridge"), "run", "-c",
                           files["bridge.cfg"]],
                          tracer=tracer, environment={"FLUXBRIDGE_PROFILES": self.directory})

    def start_bare(self, devices, qos=0, tracer=(), tool="bare_poll"):
        return self.start([self.tool(tool), str(self.broker_port), str(qos),
                           str(self.period_ms), *map(str, self.ports[:devices])],
                          tracer=tracer)

    # ---- measuring

    def window(self, program, seconds):
        """What happens in a window of this length, once every device has been heard of."""
        heard = self.sink.ask("await", program)
        program.run_for(self.settle_s)  # what connecting left behind
        self.fleet.ask("mark")
        self.sink.ask("mark")
        cpu_s, wakeups, begun_s = program.cpu_s(), program.wakeups(), time.monotonic()
        program.run_for(seconds)
        took_s = time.monotonic() - begun_s
        cpu_s, wakeups = program.cpu_s() - cpu_s, program.wakeups() - wakeups
        seen, reads = self.sink.ask("report"), self.fleet.ask("report %d" % (self.period_ms * 1000))
        if seen["samples"] == 0:
            program.fail("publishes nothing")
        return {
            "cpu_ms": cpu_s * 1e6 / (VALUES * seen["samples"]),
            "cpu_polls_ms": cpu_s * 1e6 / seen["samples"],
            "core_percent": cpu_s * 100 / took_s,
            "values_s": VALUES * seen["samples"] / took_s,
            "wakeups_s": wakeups / took_s,
            "wakeups_sample": wakeups / seen["samples"],
            "resident_mib": program.resident_mib(),
            "latency_p50_ms": seen["latency_us"].get("p50", 0) / 1e3,
            "latency_p99_ms": seen["latency_us"].get("p99", 0) / 1e3,
            "latency_max_ms": seen["latency_us"].get("max", 0) / 1e3,
            "gaps": seen["gaps"],
            "bytes": seen["bytes"] / seen["samples"],
            "sparkplug_bytes": seen["sparkplug_bytes"] / seen["samples"],
            "lost_ticks": reads["lost_ticks"],
            "late_p99_ms": reads["late_us"]["p99"] / 1e3,
            "reads_s": reads["reads"] / (reads["window_us"] / 1e6),
            "first_ms": heard["first_us"] / 1e3 - program.started_s * 1e3,
            "all_ms": heard["last_us"] / 1e3 - program.started_s * 1e3,
        }

    def commands(self, program, count, interval_us, outcomes, order="command"):
        """Milliseconds from PUBLISH to the write and, with `outcomes`, to the outcome. The
        order is `command`, or `stop`: each is a zero then."""
        self.fleet.ask("mark")
        sent = self.sink.ask("%s d0 %d %d %d" % (order, count, interval_us, outcomes), program)
        # On a machine that stalls, a command may be superseded by the next before it is written.
        written = sent["confirmed"] if outcomes else count
        self.fleet.ask("await %d" % written, program)
        writes = self.fleet.ask("report 0")["writes"]
        values = [0 if order == "stop" else i % 400 - 200 + (i % 400 >= 200)
                  for i in range(count)]
        latencies, at = [], 0
        for arrived_us, _, _, value in writes:
            if value not in values[at:]:
                raise Failure("written is not what was commanded")
            at = values.index(value, at) + 1
            latencies.append(arrived_us - sent["sent_us"][at - 1])
        if not writes:
            raise Failure("none of %d commands was confirmed" % count)
        figures = distribution("write", latencies)
        if outcomes:
            figures.update(distribution("outcome", [o - s for o, s in
                                                    zip(sent["outcome_us"], sent["sent_us"])]))
        return figures


def distribution(name, values_us):
    values = sorted(values_us)
    return {"%s_%s_ms" % (name, key): values[int(len(values) * part)] / 1e3
            for key, part in (("p50", 0.5), ("p99", 0.99), ("max", 1 - 1e-9))}


def write_profiles(directory):
    """`bench`: twenty registers in one read. `apart`: 250 reads of one register."""
    row = '{ name = "%s%d"; address = %d; type = "uint16"; }'
    rows = {"bench": [row % ("tr"[i >= 3], i, i) for i in range(VALUES)],
            "apart": [row % ("r", i, i * 100) for i in range(1, 251)]}
    for name, lines in rows.items():
        with open(os.path.join(directory, name + ".cfg"), "w") as file:
            file.write('manufacturer = "bench"; model = "%s"; max_gap = 50;\npoints = (\n%s\n);\n'
                       % (name, ",\n".join(lines)))


# ---- scenarios: each returns {(scenario, program): figures} -------------------------------


def polling(size, devices, qos, program, seconds):
    with contextlib.ExitStack() as stack:
        bench = Bench(size, stack, devices)
        if program in ("bare", "client"):
            running = bench.start_bare(devices, qos, tool="bare_poll" if program == "bare"
                                       else "bare_client")
        else:
            # Documents, and sessions of devices, go out one after the other.
            bench.settle_s += devices * size["session_s" if program == "wills"
                                             else "announce_s"]
            running = bench.start_bridge(devices, qos=qos, wills=program == "wills",
                                         sparkplug=program == "sparkplug")
        figures = bench.window(running, seconds)
        figures["stop_ms"] = running.stop() * 1e3
        return figures


def crowd(size, devices, count):
    """Thousands of links in one bridge, and among them a battery that is told to stop."""
    with contextlib.ExitStack() as stack:
        bench = Bench(size, stack, devices)
        bench.settle_s += devices * size["announce_s"] / 2
        running = bench.start_bridge(devices, batteries=1)
        figures = bench.window(running, size["window_s"])
        figures["link_kib"] = figures["resident_mib"] * 1024 / devices
        figures["threads"], figures["descriptors"] = running.has("task"), running.has("fd")
        figures.update(bench.commands(running, count, 10000 * SLOW_MS, 1, "stop"))
        figures["stop_ms"] = running.stop() * 1e3
        return figures


def commanding(size, load, count, program):
    with contextlib.ExitStack() as stack:
        bench = Bench(size, stack, 1 + load)
        if program == "bare":
            running = bench.start([bench.tool("bare_command"), str(bench.broker_port),
                                   str(bench.ports[0]), "d0"])
            if load:
                bench.sink.ask("await", bench.start_bare(1 + load))
            running.answer()
        else:
            running = bench.start_bridge(1 + load, batteries=1)
            bench.sink.ask("await", running)
        return bench.commands(running, count, 12000, int(program != "bare"))


def commanding_slowly(size, count):
    """The device takes 50 ms for every answer."""
    with contextlib.ExitStack() as stack:
        bench = Bench(size, stack, 1, delay_ms=50)
        running = bench.start_bridge(1, batteries=1)
        bench.sink.ask("await", running)
        return bench.commands(running, count, 500000, 1)


def stopping(size, count, silent):
    """Stops: where each answer takes SLOW_MS, or beside a unit that is waited for so long."""
    with contextlib.ExitStack() as stack:
        bench = Bench(size, stack, 2 if silent else 1, delay_ms=0 if silent else SLOW_MS)
        running = bench.start_bridge(2 if silent else 1, batteries=1, poll_ms=4 * SLOW_MS,
                                     silent_ms=SLOW_MS if silent else None)
        bench.sink.ask("await", running)
        figures = bench.commands(running, count, 10000 * SLOW_MS, 1, "stop")
        return {"longer_%s" % key: value - SLOW_MS for key, value in figures.items()}


def reading(size, program, seconds):
    """One link without pause: its devices ask for more than it can give."""
    with contextlib.ExitStack() as stack:
        bench = Bench(size, stack, 1)
        if program == "bare":
            running = bench.start([bench.tool("bare_read"), str(bench.ports[0])])
        else:
            running = bench.start_bridge(8, profile="apart", poll_ms=10, one_link=True)
            bench.sink.ask("await", running)
        running.run_for(0.5)
        bench.fleet.ask("mark")
        cpu_s = running.cpu_s()
        running.run_for(seconds)
        cpu_s = running.cpu_s() - cpu_s
        report = bench.fleet.ask("report 0")
        return {"reads_s": report["reads"] / (report["window_us"] / 1e6),
                "cpu_us": cpu_s * 1e6 / report["reads"]}


def system_calls(size, devices, program, seconds):
    """Per sample, counted by strace in a run of its own."""
    with contextlib.ExitStack() as stack:
        bench = Bench(size, stack, devices)
        running = bench.start_bare(devices) if program == "bare" else bench.start_bridge(
            devices, wills=program == "wills")
        bench.sink.ask("await", running)
        counts = os.path.join(bench.directory, "strace")
        running.run_for(1)
        tracer = bench.start(["strace", "-c", "-f", "-o", counts, "-p", str(running.pid)])
        bench.sink.ask("mark")
        running.run_for(seconds)
        samples = bench.sink.ask("report")["samples"]
        tracer.stop(signal.SIGINT)
        with open(counts) as file:
            total = re.search(r"^100\.00\s+\S+\s+\d+\s+(\d+)", file.read(), re.M)
        return {"calls": int(total.group(1)) / samples}


def instructions(size, devices, program, seconds):
    """Of user space per sample, counted by callgrind: the difference between a longer and
    a shorter run, so that start and end count for nothing."""
    counted = []
    for length_s in (seconds, 3 * seconds):
        with contextlib.ExitStack() as stack:
            bench = Bench(size, stack, devices)
            out = os.path.join(bench.directory, "callgrind.out")
            tracer = ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out]
            running = bench.start_bare(devices, tracer=tracer) if program == "bare" else (
                bench.start_bridge(devices, wills=program == "wills", tracer=tracer))
            bench.sink.ask("await", running)
            running.run_for(length_s)
            samples = bench.sink.ask("report")["samples"]
            running.stop()
            with open(out) as file:
                counted.append((int(re.search(r"^(?:totals|summary): (\d+)", file.read(), re.M)
                                    .group(1)), samples))
    return {"instructions": (counted[1][0] - counted[0][0]) / (counted[1][1] - counted[0][1])}


def out_of_step(size):
    """How long a line without numbers is out of step after a missing answer, in timeouts of
    its device: the longest of every framing and mishap, by the test's own clock."""
    out = subprocess.run([os.path.join(size["build_dir"], "tests", "test_line_back")],
                         check=True, capture_output=True, text=True)
    return {"back_timeouts": float(re.search(r"back after at most ([\d.]+)", out.stdout).group(1))}


def binary_kib(build_dir):
    with tempfile.TemporaryDirectory() as directory:
        stripped = os.path.join(directory, "fluxbridge")
        subprocess.run(["strip", "-o", stripped, os.path.join(build_dir, "fluxbridge")], check=True)
        return os.path.getsize(stripped) / 1024


def run_once(size):
    """All figures of one run."""
    found = {}

    def measure(key, function, *arguments):
        if size["only"] and key[0] not in size["only"]:
            return
        begun_s = time.monotonic()
        found[key] = function(size, *arguments)
        print("  %-40s %5.1f s" % (" ".join(map(str, key)), time.monotonic() - begun_s),
              file=sys.stderr)

    largest, middle = size["sizes"][-1], size["sizes"][len(size["sizes"]) // 2]
    for qos in (0, 1):
        for devices in size["sizes"]:
            for program in ("bare", "client", "bridge", "wills"):
                measure(("poll", devices, qos, program), polling, devices, qos, program,
                        size["window_s"])
    for qos in (0, 1):
        measure(("poll", middle, qos, "sparkplug"), polling, middle, qos, "sparkplug",
                size["window_s"])
    measure(("long", "bridge"), polling, largest, 0, "bridge", size["long_s"])
    measure(("many", "bridge"), polling, size["many"], 0, "bridge", size["window_s"])
    measure(("crowd", "bridge"), crowd, size["crowd"], size["slow_commands"])
    measure(("few", "bare"), polling, 3, 0, "bare", size["window_s"])
    measure(("few", "bridge"), polling, 3, 1, "wills", size["window_s"])
    often = {**size, "period_ms": min(size["period_ms"], 100)}
    for program in ("bare", "bridge"):
        measure(("one", program), lambda _, which: polling(often, 1, 0, which, size["window_s"]),
                program)
    fastest = {**size, "period_ms": 1}
    for program in ("bare", "bridge"):
        measure(("fastest", program), lambda _, which: polling(
            fastest, 1, 0, which, size["window_s"]), program)
    measure(("step", "bridge"), out_of_step)
    for load in (0, middle):
        for program in ("bare", "bridge"):
            measure(("command", "loaded" if load else "idle", program), commanding, load,
                    size["commands"], program)
    measure(("slow", "bridge"), commanding_slowly, size["slow_commands"])
    for silent in (False, True):
        measure(("stop", "silent" if silent else "idle"), stopping, size["slow_commands"], silent)
    for program in ("bare", "bridge"):
        measure(("read", program), reading, program, size["window_s"] / 2)
    if size["tracers"]:
        for program in ("bare", "bridge", "wills"):
            measure(("calls", program), system_calls, middle, program, 5)
            measure(("instructions", program), instructions, middle, program, 5)
    return found


# ---- the table -----------------------------------------------------------------------------


class Table:
    def __init__(self, runs):
        self.runs = runs
        self.rows = []

    def add(self, what, unit, key, figure, reference=None, goal=None, at_least=False,
            absolute=None, reference_figure=None):
        """`goal` for the ratio to the reference, `absolute` for the figure itself."""
        if key not in self.runs[0]:  # --small and --only leave some out
            return
        if reference not in self.runs[0]:
            reference = goal = None
        values = [run[key][figure] for run in self.runs]
        value, other, ratio = statistics.median(values), None, None
        if reference:
            others = [run[reference][reference_figure or figure] for run in self.runs]
            other = statistics.median(others)
            ratio = statistics.median(v / o if o else float("inf")
                                      for v, o in zip(values, others))
        wanted = ""
        if goal is not None:
            wanted = "%s %.3g x" % ("≥" if at_least else "≤", goal)
            good = ratio >= goal if at_least else ratio <= goal
        if absolute is not None:
            wanted = "≤ %g" % absolute
            good = value <= absolute
        self.rows.append((
            what, unit, number(value), "" if other is None else number(other),
            "" if ratio is None else "%.2f" % ratio, wanted,
            "" if not wanted else "yes" if good else "no"))

    def text(self):
        head = ("figure", "unit", "bridge", "reference", "ratio", "goal", "met")
        rows = [head, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["| " + " | ".join(
            cell.ljust(width) if i in (0, 1, 5, 6) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))) + " |" for row in rows]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join(lines)


def number(value):
    return "%.0f" % value if abs(value) >= 1000 else "%.3g" % value


def add_crowd(table, devices, fewer):
    """Beside `fewer` links where that is fair: the libraries of the bare loop can have no
    more than a thousand."""
    key, beside = ("crowd", "bridge"), ("poll", fewer, 0, "bridge")
    words = "%d links: " % devices
    table.add(words + "start to first sample of all", "ms", key, "all_ms")
    table.add(words + "ticks lost", "", key, "lost_ticks", absolute=0)
    table.add(words + "samples lost", "", key, "gaps", absolute=0)
    table.add(words + "values a second", "1/s", key, "values_s")
    table.add(words + "CPU per 1000 values, to that of %d" % fewer, "ms", key, "cpu_ms", beside,
              1.2)
    table.add(words + "start jitter p99", "ms", key, "late_p99_ms", beside)
    table.add(words + "response to arrival, p50", "ms", key, "latency_p50_ms", beside)
    table.add(words + "response to arrival, p99", "ms", key, "latency_p99_ms", beside)
    table.add(words + "resident memory", "MiB", key, "resident_mib", beside)
    table.add(words + "resident memory a link", "KiB", key, "link_kib")
    table.add(words + "threads", "", key, "threads")
    table.add(words + "descriptors", "", key, "descriptors")
    for part in ("p50", "max"):
        table.add(words + "stop to register write, %s" % part, "ms", key, "write_%s_ms" % part)
    table.add(words + "clean stop", "ms", key, "stop_ms")


def add_fastest(table):
    words, key, bare = "one device each ms: ", ("fastest", "bridge"), ("fastest", "bare")
    table.add(words + "ticks lost", "", key, "lost_ticks", bare)
    table.add(words + "samples lost", "", key, "gaps", absolute=0)
    table.add(words + "start jitter p99", "ms", key, "late_p99_ms", bare)
    table.add(words + "response to arrival, p50", "ms", key, "latency_p50_ms", bare)
    table.add(words + "response to arrival, p99", "ms", key, "latency_p99_ms", bare)
    table.add(words + "CPU per 1000 polls of 20 registers", "ms", key, "cpu_polls_ms", bare)


def make_table(runs, size, binary):
    table = Table(runs)
    smallest, largest = size["sizes"][0], size["sizes"][-1]
    middle = size["sizes"][len(size["sizes"]) // 2]
    for program, goal, words in (("bridge", 1.3, ""), ("wills", 1.6, ", device Wills")):
        for devices in sorted({middle, largest}):
            for qos in (0, 1):
                table.add("CPU per 1000 values, %d links, QoS %d%s" % (devices, qos, words), "ms",
                          ("poll", devices, qos, program), "cpu_ms",
                          ("poll", devices, qos, "bare"), goal)
    table.add("CPU per 1000 polls of 20 registers, one device", "ms", ("one", "bridge"),
              "cpu_polls_ms", ("one", "bare"))
    for part in ("p50", "p99"):
        table.add("response to arrival of 20 registers, one device, %s" % part, "ms",
                  ("one", "bridge"), "latency_%s_ms" % part, ("one", "bare"))
    table.add("line out of step: back after", "timeouts", ("step", "bridge"), "back_timeouts",
              absolute=2)
    for devices in sorted({middle, largest}):
        for qos in (0, 1):
            table.add("CPU per 1000 values, %d links, QoS %d, beside MQTTClient" % (devices, qos),
                      "ms", ("poll", devices, qos, "bridge"), "cpu_ms",
                      ("poll", devices, qos, "client"), 1.3)
    table.add("CPU per value: %d links over %d" % (largest, smallest), "ms",
              ("poll", largest, 0, "bridge"), "cpu_ms", ("poll", smallest, 0, "bridge"), 1.2)
    for qos in (0, 1):
        table.add("CPU per 1000 values, %d links, QoS %d, Sparkplug beside JSON, to JSON alone" % (
            middle, qos), "ms", ("poll", middle, qos, "sparkplug"), "cpu_ms",
            ("poll", middle, qos, "bridge"), 1.6)
    table.add("bytes per sample, Sparkplug, to JSON's", "", ("poll", middle, 0, "sparkplug"),
              "sparkplug_bytes", ("poll", middle, 0, "sparkplug"), 0.5, reference_figure="bytes")
    table.add("resident memory, 3 devices, with Wills", "MiB", ("few", "bridge"), "resident_mib",
              ("few", "bare"), absolute=8)
    table.add("resident memory, %d links" % largest, "MiB", ("poll", largest, 0, "bridge"),
              "resident_mib", ("poll", largest, 0, "bare"), absolute=16)
    table.add("resident memory, %d links, device Wills" % largest, "MiB",
              ("poll", largest, 0, "wills"), "resident_mib", ("poll", largest, 0, "bare"))
    for part in ("p50", "p99"):
        for program, words in (("bridge", ""), ("wills", ", device Wills")):
            table.add("response to arrival, %d links, %s%s" % (middle, part, words), "ms",
                      ("poll", middle, 0, program), "latency_%s_ms" % part,
                      ("poll", middle, 0, "bare"), 1.5)
    for part in ("p50", "p99"):
        table.add("response to arrival, %d links, QoS 1, %s" % (middle, part), "ms",
                  ("poll", middle, 1, "bridge"), "latency_%s_ms" % part,
                  ("poll", middle, 1, "bare"), 1.5)
    table.add("ticks lost, %d links, %d s" % (largest, size["long_s"]), "", ("long", "bridge"),
              "lost_ticks", absolute=0)
    table.add("samples lost, %d links, %d s" % (largest, size["long_s"]), "", ("long", "bridge"),
              "gaps", absolute=0)
    table.add("start jitter p99, %d links" % largest, "ms", ("long", "bridge"), "late_p99_ms",
              ("poll", largest, 0, "bare"), absolute=5)
    table.add("start to first sample of all of %d links" % size["many"], "ms", ("many", "bridge"),
              "all_ms", absolute=5000)
    table.add("ticks lost, %d links" % size["many"], "", ("many", "bridge"), "lost_ticks",
              absolute=0)
    table.add("values a second, %d links" % largest, "1/s", ("long", "bridge"), "values_s")
    table.add("their share of a core", "%", ("long", "bridge"), "core_percent")
    add_crowd(table, size["crowd"], largest)
    add_fastest(table)
    table.add("one link without pause", "reads/s", ("read", "bridge"), "reads_s",
              ("read", "bare"), 0.8, at_least=True)
    for load in ("idle", "loaded"):
        words = "idle" if load == "idle" else "%d links" % middle
        for part, goal in (("p50", 2.5), ("p99", 2.5), ("max", None)):
            table.add("PUBLISH to register write, %s, %s" % (words, part), "ms",
                      ("command", load, "bridge"), "write_%s_ms" % part,
                      ("command", load, "bare"), goal)
    for part in ("p50", "p99", "max"):
        table.add("PUBLISH to outcome, %d links, %s" % (middle, part), "ms",
                  ("command", "loaded", "bridge"), "outcome_%s_ms" % part,
                  ("command", "loaded", "bare"), reference_figure="write_%s_ms" % part)
    table.add("PUBLISH to outcome, device takes 50 ms, p99", "ms", ("slow", "bridge"),
              "outcome_p99_ms", absolute=300)
    for load, words in (("idle", "slow device"), ("silent", "silent neighbour")):
        for part in ("p50", "max"):
            table.add("stop to register write over %d ms, %s, %s" % (SLOW_MS, words, part), "ms",
                      ("stop", load), "longer_write_%s_ms" % part,
                      absolute=2 if part == "max" else None)
    table.add("start to first sample, %d links" % middle, "ms", ("poll", middle, 0, "bridge"),
              "first_ms", ("poll", middle, 0, "bare"), absolute=200)
    table.add("start to first sample, %d links, device Wills" % middle, "ms",
              ("poll", middle, 0, "wills"), "first_ms", ("poll", middle, 0, "bare"), absolute=200)
    table.add("clean stop, %d links" % middle, "ms", ("poll", middle, 0, "bridge"), "stop_ms",
              absolute=500)
    table.add("clean stop, %d links, device Wills" % middle, "ms", ("poll", middle, 0, "wills"),
              "stop_ms", absolute=500)
    table.add("wake-ups, 3 devices, with Wills", "1/s", ("few", "bridge"), "wakeups_s",
              ("few", "bare"), absolute=30)
    table.add("wake-ups per sample, %d links" % middle, "", ("poll", middle, 0, "bridge"),
              "wakeups_sample", ("poll", middle, 0, "bare"))
    for program, words in (("bridge", ""), ("wills", ", device Wills")):
        table.add("system calls per sample, %d links%s" % (middle, words), "",
                  ("calls", program), "calls", ("calls", "bare"))
        table.add("instructions per sample, %d links%s" % (middle, words), "",
                  ("instructions", program), "instructions", ("instructions", "bare"))
    table.rows.append(("binary, stripped", "KiB", number(binary), "", "", "≤ 400",
                       "yes" if binary <= 400 else "no"))
    return table.text()


def make_figure(runs, size):
    charts = []
    for title, unit, figure in (("CPU per 1000 values", "ms", "cpu_ms"),
                                ("resident memory", "MiB", "resident_mib"),
                                ("response to arrival, p99", "ms", "latency_p99_ms")):
        charts.append((title, unit, [
            (name, [(devices, statistics.median(run["poll", devices, 0, program][figure]
                                                for run in runs)) for devices in size["sizes"]])
            for name, program in (("bare loop", "bare"), ("fluxbridge", "bridge"),
                                  ("fluxbridge, device Wills", "wills"))]))
    return plot.figure(charts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir", type=os.path.abspath)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--only", type=lambda names: names.split(","), default=[])
    options = parser.parse_args()
    build_dir = options.build_dir
    size = {**(SMALL if options.small else FULL), "build_dir": build_dir, "only": options.only}
    size["runs"] = options.runs or size["runs"]
    runs = []
    for i in range(size["runs"]):
        print("run %d of %d" % (i + 1, size["runs"]), file=sys.stderr)
        runs.append(run_once(size))
    table = make_table(runs, size, binary_kib(build_dir))
    print(table)
    texts = [("bench.txt", table + "\n")]
    if not size["only"]:
        texts.append(("bench.svg", make_figure(runs, size)))
    for name, text in texts:
        with open(os.path.join(build_dir, name), "w") as file:
            file.write(text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("run.py: ended"))  # and end all others
    try:
        main()
    except Failure as failure:
        sys.exit("run.py: %s" % failure)
