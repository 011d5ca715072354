"""Everything an integration test needs around the real programs.

    class Samples(flux.Test):
        def test_value(self):
            server = self.modbus({1: flux.Unit({2000: 1, 2026: 54})})
            broker = self.broker()
            client = self.client(broker)
            self.bridge(flux.config(broker, bess=[flux.battery(server)]))
            state = client.wait("Site-BESS-01/state")

    if __name__ == "__main__":
        flux.main()

A test script is started as `script.py BUILD_DIR`. What a test starts is stopped
when it ends, and stopping is a check of its own: a program that does not end
with 0 or whose stderr holds a sanitizer's report fails the test.

Nothing here sleeps. Everything that waits waits for an event, with a deadline
that is there only to end a failing test; FLUXBRIDGE_TEST_PATIENCE multiplies
all deadlines (slow machines, sanitizers).
"""

import asyncio
import collections
import ctypes
import glob
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

import pymodbus_server

PATIENCE = float(os.environ.get("FLUXBRIDGE_TEST_PATIENCE", "1"))
DEADLINE_S = 25.0 * PATIENCE  # less than the 30 s after which much gives up by itself
SANITIZER_REPORT = re.compile(r"(ERROR|WARNING): \w*Sanitizer|runtime error:")

RESULT = "Site-BESS-01/result"  # of battery()
TARGET = 2008  # its setpoint
HOUR_S = 3600
build_dir = None  # set by main()


def utc_ms():
    return int(time.time() * 1000)


def patient(seconds):
    """A duration for the configuration that somebody slow must keep to, too."""
    return "%gs" % (seconds * PATIENCE)


class Timeout(AssertionError):
    """What was waited for did not happen."""


def wait_on(condition, predicate, timeout_s, what):
    """The first true result of `predicate`, looked at on every notification.
    `condition` must not be held. `timeout_s` None: the usual deadline."""
    end = time.monotonic() + (DEADLINE_S if timeout_s is None else timeout_s * PATIENCE)
    with condition:
        while True:
            found = predicate()
            if found:
                return found
            left = end - time.monotonic()
            if left <= 0:
                raise Timeout("waited in vain for " + (what() if callable(what) else what))
            condition.wait(left)


def skip_with_allocator_of_its_own():
    """Nobody can refuse memory to a program that a sanitizer is in."""
    with open(program("fluxbridge"), "rb") as file:
        image = file.read()
    if b"__asan_init" in image or b"__tsan_init" in image:
        raise unittest.SkipTest("a sanitizer has an allocator of its own")


class Place:
    """A port of our own. It is bound, but not listened on: a server (which sets
    SO_REUSEADDR) can listen there, and another after that one has gone, nobody
    else gets it, and while nobody listens, connections are refused."""

    def __init__(self):
        self.host = "127.0.0.1"
        self._hold = socket.socket()
        self._hold.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._hold.bind((self.host, 0))
        self.port = self._hold.getsockname()[1]

    def close(self):
        self._hold.close()


# ---- Modbus server -----------------------------------------------------------------------


def float_words(value):
    """float32, high word first."""
    return list(struct.unpack(">HH", struct.pack(">f", value)))


def long_words(value):
    """32-bit integer, high word first."""
    return [value >> 16 & 0xFFFF, value & 0xFFFF]


def registers(start, words):
    return {start + i: word for i, word in enumerate(words)}


Write = collections.namedtuple("Write", "function address values")


class Unit:
    """One Modbus unit: a sparse map of registers and its ways to misbehave.

    Addresses that are not in `registers` answer with exception 02. All fields
    may be changed by the test at any time.
    """

    def __init__(self, registers):
        self.registers = dict(registers)
        self.read_exceptions = {}  # address -> exception code
        self.write_exceptions = {}
        self.silent = False  # takes requests, never answers
        self.ignore_writes = False  # acknowledges writes and keeps the old value
        self.dies_on_write = False  # stores the first write, then is silent
        self.delay_s = 0.0  # before each answer
        self.requests = 0
        self.reads = []  # (function, address, count)
        self.writes = []

    def answer(self, request):
        """The response to one request, or None for silence."""
        self.requests += 1
        if request.function_code in (3, 4):
            return self._read(request)
        if request.function_code == 6:
            return self._write(request, [request.value])
        if request.function_code == 16:
            return self._write(request, list(request.values))
        return pymodbus_server.exception(request, 1)

    def _refusal(self, request, span, exceptions):
        for address in span:
            if address in exceptions:
                return pymodbus_server.exception(request, exceptions[address])
        if any(address not in self.registers for address in span):
            return pymodbus_server.exception(request, 2)
        return None

    def _read(self, request):
        self.reads.append((request.function_code, request.address, request.count))
        span = range(request.address, request.address + request.count)
        if self.silent:
            return None
        refusal = self._refusal(request, span, self.read_exceptions)
        if refusal:
            return refusal
        words = [self.registers[address] for address in span]
        return pymodbus_server.read_answer(request, words)

    def _write(self, request, values):
        self.writes.append(Write(request.function_code, request.address, values))
        if self.silent:
            return None
        span = range(request.address, request.address + len(values))
        refusal = self._refusal(request, span, self.write_exceptions)
        if refusal:
            return refusal
        if not self.ignore_writes:
            self.registers.update(zip(span, values))
        if self.dies_on_write:
            self.silent = True
            return None
        return pymodbus_server.write_answer(request)


class Modbus:
    """A pymodbus server in a thread of its own: TCP, or RTU on a serial line; or another
    `kind`, as pymodbus_server takes it.

    `units` maps unit ids to Unit. A unit that is not there is answered with
    gateway_target (0B) on TCP, and with silence on a serial line.
    """

    def __init__(self, units, serial=None, **kind):
        self.units = units
        self.serial = serial
        self._kind = kind
        self.changed = threading.Condition()
        self.place = Place()
        self.host, self.port = self.place.host, self.place.port
        self.connections = 0
        self._held = None  # answers waiting for release(), None = not holding
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._start())

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)

    async def _start(self):
        self.server = pymodbus_server.Server(self)
        if self.serial:
            await self.server.listen_on_line(self.serial, **self._kind)
        else:
            await self.server.listen((self.host, self.port), **self._kind)

    def stop(self):
        """Ends the server and every connection; start() takes the port again."""
        if self._thread.is_alive() and self.server:
            self._call(self.server.stop())
            self.server = None

    def start(self):
        self._call(self._start())

    def close(self):
        self.release()
        self.stop()
        self._call(self._drain())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self.place.close()

    async def _drain(self):
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def handle(self, request, send):
        """One request from a handler, in the loop's thread."""
        with self.changed:
            unit = self.units.get(request.unit_id)
            if unit:
                response = unit.answer(request)
            elif self.serial:
                response = None
            else:
                response = pymodbus_server.exception(request, 0x0B)
            self.changed.notify_all()
            if not response:
                return
            if self._held is not None:
                self._held.append((send, response))
                return
        if unit and unit.delay_s:
            self.loop.call_later(unit.delay_s, send, response)
        else:
            send(response)

    def hold(self, cause=None):
        """From now on answers wait; returns when one request is waiting for its own,
        which `cause` may bring about."""
        with self.changed:
            self._held = []
        if cause:
            cause()
        self.wait(lambda: self._held, what="a request to hold")

    def release(self):
        with self.changed:
            held, self._held = self._held or [], None
        for send, response in held:
            self.loop.call_soon_threadsafe(send, response)

    def wait(self, predicate, timeout_s=None, what="the Modbus server"):
        return wait_on(self.changed, predicate, timeout_s, what)

    def n_writes(self):
        with self.changed:
            return sum(len(unit.writes) for unit in self.units.values())


class SerialLine:
    """A pair of pseudo terminals joined by socat: `ours` for the test's server,
    `theirs` for the bridge."""

    def __init__(self, directory):
        self.ours = os.path.join(directory, "tty-server")
        self.theirs = os.path.join(directory, "tty-bridge")
        self.program = Program("socat", ["socat", "-d", "-d"] + [
            "pty,raw,echo=0,link=" + end for end in (self.ours, self.theirs)])
        self.program.wait_log("starting data transfer loop")

    def close(self):
        self.program.stop(expect=None)


# ---- programs ----------------------------------------------------------------------------


_libc = ctypes.CDLL(None)


def _die_with_parent():
    """A test that is killed leaves nothing behind."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Program:
    """A child process with its stderr collected line by line."""

    def __init__(self, name, command, env=None, stdout=subprocess.DEVNULL,
                 stdin=subprocess.DEVNULL):
        self.name = name
        self.changed = threading.Condition()
        self.lines = []
        self.ended = False
        self.process = subprocess.Popen(
            command, env=dict(os.environ, **(env or {})), stdin=stdin,
            stdout=stdout, stderr=subprocess.PIPE, text=True, errors="replace",
            preexec_fn=_die_with_parent)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def log(self):
        with self.changed:
            return "\n".join(self.lines)

    def mark(self):
        """Number of lines so far, for `since`."""
        with self.changed:
            return len(self.lines)

    def wait_log(self, pattern, timeout_s=None, since=0):
        """The first line that `pattern` is found in, from line number `since` on."""

        def look():
            for line in self.lines[since:]:
                if re.search(pattern, line):
                    return line
            if self.ended:
                raise Timeout("%s ended without saying %r:\n%s"
                              % (self.name, pattern, "\n".join(self.lines)))
            return None

        return wait_on(self.changed, look, timeout_s,
                       lambda: "%r from %s:\n%s" % (pattern, self.name, "\n".join(self.lines)))

    def signal(self, number):
        self.process.send_signal(number)

    def wait_end(self, timeout_s=None):
        try:
            code = self.process.wait(DEADLINE_S if timeout_s is None else timeout_s * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Timeout("%s does not end:\n%s" % (self.name, self.log())) from None
        self._reader.join()
        self.process.stderr.close()
        return code

    def stop(self, expect=0):
        """Ends it in order and checks how it ended; `expect` None: any way will do.
        Nothing happens when it was stopped before."""
        if self.process.returncode is not None:
            return
        self.signal(signal.SIGTERM)
        try:
            code = self.wait_end()
        except Timeout:
            self.process.kill()
            self.wait_end()
            raise
        log = self.log()
        if expect is not None and code != expect:
            raise AssertionError("%s ended with %d:\n%s" % (self.name, code, log))
        if SANITIZER_REPORT.search(log):
            raise AssertionError("%s: a sanitizer complains:\n%s" % (self.name, log))

    def kill(self):
        self.process.kill()
        self.wait_end()


class Broker:
    """A mosquitto of our own; stop() and start() keep its port."""

    def __init__(self, directory, settings=""):
        self.place = Place()
        self.host, self.port = self.place.host, self.place.port
        self.config = os.path.join(directory, "mosquitto-%d.conf" % self.port)
        with open(self.config, "w") as file:
            file.write("listener %d 127.0.0.1\npersistence false\nlog_dest stderr\n"
                       "set_tcp_nodelay true\n" % self.port)
            if "allow_anonymous" not in settings:
                file.write("allow_anonymous true\n")
            file.write(settings)
        self.start()

    def start(self):
        self.program = Program("mosquitto", [_mosquitto(), "-c", self.config])
        try:
            self.program.wait_log(r"mosquitto version \S+ running")
        except Timeout:
            self.program.stop(expect=None)
            raise

    def stop(self):
        self.program.stop(expect=None)

    def freeze(self):
        self.program.signal(signal.SIGSTOP)

    def thaw(self):
        self.program.signal(signal.SIGCONT)

    def close(self):
        if self.program.process.returncode is None:
            self.thaw()
        self.stop()
        self.place.close()


def _mosquitto():
    return shutil.which("mosquitto") or "/usr/sbin/mosquitto"


class Bridge(Program):
    def __init__(self, text, directory, env=None, before=()):
        self.text = text
        self.config = os.path.join(directory, "fluxbridge.cfg")
        with open(self.config, "w") as file:
            file.write(text)
        super().__init__("fluxbridge", [*before, program("fluxbridge"), "run", "-c", self.config],
                         env)


def program(name):
    return os.path.join(build_dir, name)


def source_dir():
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


# ---- MQTT client -------------------------------------------------------------------------


class Message(collections.namedtuple("Message", "topic payload retain qos properties time")):
    @property
    def json(self):
        return json.loads(self.payload)

    @property
    def text(self):
        return self.payload.decode()


def mqtt_client(*arguments, **more):
    """paho's client, with the callbacks of 1.x also in 2.x (Debian 13)."""
    if hasattr(mqtt, "CallbackAPIVersion"):
        return mqtt.Client(mqtt.CallbackAPIVersion.VERSION1, *arguments, **more)
    return mqtt.Client(*arguments, **more)


class Client:
    """An MQTT 5 client that records every message below `flux/`, in order.

    Topics are given without the `flux/demo/` in front unless they begin with
    a slash, which stands for the topic as it is.
    """

    def __init__(self, broker, base="flux/demo", subscribe=("#",), version=mqtt.MQTTv5):
        self.base = base
        self.messages = []
        self.changed = threading.Condition()
        self.ready = 0
        self._subscribe = subscribe
        self.client = mqtt_client(protocol=version)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.on_publish = self._on_publish
        self._published = set()
        self.client.reconnect_delay_set(min_delay=1, max_delay=1)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        wait_on(self.changed, lambda: self.ready, None, "the test's own subscription")

    def topic(self, topic):
        return topic[1:] if topic.startswith("/") else "%s/%s" % (self.base, topic)

    def _on_connect(self, client, userdata, flags, code, properties=None):
        if self.client._protocol == mqtt.MQTTv5:
            options = SubscribeOptions(qos=1, retainAsPublished=True)
            client.subscribe([(self.topic(t), options) for t in self._subscribe])
        else:
            client.subscribe([(self.topic(t), 1) for t in self._subscribe])

    def _on_subscribe(self, *args):
        with self.changed:
            self.ready += 1
            self.changed.notify_all()

    def _on_publish(self, client, userdata, mid):
        with self.changed:
            self._published.add(mid)
            self.changed.notify_all()

    def _on_message(self, client, userdata, message):
        with self.changed:
            self.messages.append(Message(message.topic, message.payload, message.retain,
                                         message.qos, getattr(message, "properties", None),
                                         time.monotonic()))
            self.changed.notify_all()

    def mark(self):
        """Number of messages so far, for `since`."""
        with self.changed:
            return len(self.messages)

    def on(self, topic, since=0):
        """All messages on a topic so far."""
        topic = self.topic(topic)
        with self.changed:
            return [m for m in self.messages[since:] if m.topic == topic]

    def wait(self, topic, predicate=None, timeout_s=None, since=0):
        """The first message on `topic` from number `since` on for which
        `predicate` (of the Message) holds."""
        full = self.topic(topic)

        def look():
            for message in self.messages[since:]:
                if message.topic == full and (predicate is None or predicate(message)):
                    return message
            return None

        def seen():
            on_topic = [m.payload[:300] for m in self.messages[since:] if m.topic == full]
            return "%s; seen there: %s; topics seen: %s" % (
                full, on_topic[-5:], sorted({m.topic for m in self.messages}))

        return wait_on(self.changed, look, timeout_s, seen)

    def wait_text(self, topic, text, timeout_s=None, since=0):
        return self.wait(topic, lambda m: m.text == text, timeout_s, since)

    def wait_count(self, topic, count, timeout_s=None, since=0):
        wait_on(self.changed, lambda: len(self.on(topic, since)) >= count, timeout_s,
                "%d messages on %s" % (count, topic))
        return self.on(topic, since)

    def publish(self, topic, payload, qos=1, retain=False, properties=None):
        """Returns when the broker has it."""
        if not isinstance(payload, (str, bytes)):
            payload = json.dumps(payload)
        info = self.client.publish(self.topic(topic), payload, qos, retain, properties=properties)
        if qos:
            wait_on(self.changed, lambda: info.mid in self._published, None,
                    "the acknowledgement of a publish")

    def command(self, value, id, device="Site-BESS-01", point="target_power", fields=None,
                retain=False, response_topic=None, correlation=None):
        """Publishes a setpoint without waiting for its outcome."""
        body = {"id": id, "value": value}
        body.update(fields or {})
        properties = None
        if response_topic:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = response_topic
            if correlation is not None:
                properties.CorrelationData = correlation
        self.publish("%s/set/%s" % (device, point), body, retain=retain, properties=properties)

    def outcome(self, id, device="Site-BESS-01", since=0, timeout_s=None):
        """The outcome of one command, as a dictionary."""
        return self.wait(device + "/result", lambda m: m.json["id"] == id, timeout_s,
                         since).json

    def ask(self, value, id, **more):
        """Publishes a setpoint and returns its outcome."""
        device = more.get("device", "Site-BESS-01")
        self.command(value, id, **more)
        return self.outcome(id, device)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


# ---- configuration -----------------------------------------------------------------------


def libconfig(value, indent=0):
    """A Python value in libconfig's notation."""
    pad = "  " * indent
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        rows = ["%s  %s = %s;\n" % (pad, k, libconfig(v, indent + 1)) for k, v in value.items()]
        return "{\n%s%s}" % ("".join(rows), pad)
    inner = ", ".join(libconfig(v, indent) for v in value)
    return ("( %s )" if not value or isinstance(value[0], dict) else "[ %s ]") % inner


def config(broker, bess=(), meters=(), mqtt=None, **more):
    """The text of a whole configuration; `more` are further groups."""
    devices = {}
    if bess:
        devices["bess"] = list(bess)
    if meters:
        devices["meters"] = list(meters)
    whole = {"site": "demo", "mqtt": {"url": "mqtt://127.0.0.1:%d" % broker.port,
                                      "reconnect_spread": "0s", **(mqtt or {})},
             "devices": devices, "log": {"level": "debug"}, **more}
    return "".join("%s = %s;\n" % (k, libconfig(v)) for k, v in whole.items())


def _modbus(server, address, **more):
    where = {"serial": more.pop("serial")} if "serial" in more else {
        "host": server.host, "port": server.port}
    return {**where, "address": address, "timeout": "2s", "retry_count": 1, **more}


def battery(server, name="Site-BESS-01", address=1, poll="200ms", modbus=None, control=None,
            **more):
    """A controllable battery; `control` None gives usual limits, False a read-only one."""
    device = {"id": "id-" + name, "name": name, "type": "powerpack", "poll": poll,
              "modbus": _modbus(server, address, **(modbus or {})), **more}
    if control is not False:
        device["control"] = {"ready_status": [1], "min_kw": -250.0, "max_kw": 250.0,
                             "positive_is": "discharge", **(control or {})}
    return device


def meter(server, name="Grid-Meter", type="acuvim2", address=2, poll="200ms", modbus=None,
          **more):
    return {"id": "id-" + name, "name": name, "type": type, "poll": poll,
            "modbus": _modbus(server, address, **(modbus or {})), **more}


def battery_unit(status=1, target=0, source=0, soe=54, blocks=4):
    """A PowerPack that has its documented registers and no others."""
    return Unit({2000: status, 2008: target & 0xFFFF, 2010: source, 2026: soe, 2028: blocks})


def meter_unit(voltage=230.5, current=12.25, power_kw=1.5, energy=1000.0):
    """An Acuvim II with the four documented registers and no others."""
    return Unit({**registers(0x0000, float_words(voltage)),
                 **registers(0x0010, float_words(current)),
                 **registers(0x0040, float_words(power_kw)),
                 **registers(0x0100, float_words(energy))})


# ---- the test case -----------------------------------------------------------------------


class Test(unittest.TestCase):
    """Starts things and stops them, the last started first."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="fluxbridge-test-")
        self.addCleanup(shutil.rmtree, self.directory)

    def place(self):
        place = Place()
        self.addCleanup(place.close)
        return place

    def modbus(self, units, serial=None, **kind):
        server = Modbus(units, serial, **kind)
        self.addCleanup(server.close)
        return server

    def serial_line(self):
        line = SerialLine(self.directory)
        self.addCleanup(line.close)
        return line

    def broker(self, settings=""):
        broker = Broker(self.directory, settings)
        self.addCleanup(broker.close)
        return broker

    def client(self, broker, **more):
        client = Client(broker, **more)
        self.addCleanup(client.close)
        return client

    def bridge(self, text, env=None):
        bridge = Bridge(text, self.directory, env)
        self.addCleanup(bridge.stop)
        return bridge

    def preload(self, source):
        """A library made of C, to be loaded before all others: its environment."""
        path = os.path.join(self.directory, "preload.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-D_GNU_SOURCE", "-", "-o", path],
                       input=source, text=True, check=True)
        return {"LD_PRELOAD": path}

    def simulator(self, text, *arguments):
        path = os.path.join(self.directory, "simulator.cfg")
        with open(path, "w") as file:
            file.write(text)
        simulator = Program("fluxbridge-sim",
                            [program("fluxbridge-sim"), "-c", path, *arguments])
        self.addCleanup(simulator.stop)
        return simulator

    def run_tool(self, *arguments):
        """`fluxbridge ARGUMENTS` to its end: (exit code, stdout, stderr)."""
        done = subprocess.run([program("fluxbridge"), *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=4 * DEADLINE_S, check=False)
        self.assertNotRegex(done.stderr, SANITIZER_REPORT)
        return done.returncode, done.stdout, done.stderr


# A library to be loaded before all others (Test.preload): the machine's clocks.
SET_CLOCK = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* UTC is wrong by as many seconds as one file says; the machine was suspended
 * for as many as another says. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv(clock == CLOCK_REALTIME ? "CLOCK_WRONG_BY" : "CLOCK_SLEPT");
    char text[32] = "";
    if ((clock != CLOCK_REALTIME && clock != CLOCK_BOOTTIME) || path == NULL)
        return result;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) > 0)
            now->tv_sec += atol(text);
        close(fd);
    }
    return result;
}
"""


def write_whole(path, what):
    """For somebody who may read it at any moment."""
    with open(path + ".new", "w") as file:
        file.write(str(what))
    os.rename(path + ".new", path)


class BatteryTest(Test):
    """One battery, which holds `target`, behind a bridge with an audit log."""

    def rig(self, control=None, target=0, modbus=None, units=None, poll="200ms", points=None,
            env=None, meters=(), audit=None, **more):
        self.unit = battery_unit(target=target)
        self.server = self.modbus({1: self.unit, **(units or {})})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.audit = audit or os.path.join(self.directory, "audit.jsonl")
        overrides = {"points": points} if points else {}
        self.text = config(
            self.mosquitto,
            [battery(self.server, control=control, modbus=modbus, poll=poll, **overrides)],
            [make(self.server) for make in meters], audit={"path": self.audit}, **more)
        self.env = env
        self.start()

    def start(self):
        since = self.mqtt.mark()
        self.flux = self.bridge(self.text, self.env)
        self.mqtt.wait_text("Site-BESS-01/status", "online", since=since)
        self.mqtt.wait_text("bridge/status", "online", since=since)

    def clocked(self, **rig):
        """A rig without polls, whose clocks the test sets: what the machine has slept, and UTC."""
        self.slept = os.path.join(self.directory, "slept")
        self.wrong_by = os.path.join(self.directory, "wrong-by")
        self.rig(poll="1h", env={**self.preload(SET_CLOCK), "CLOCK_SLEPT": self.slept,
                                 "CLOCK_WRONG_BY": self.wrong_by}, **rig)

    def sleep(self, hours):
        write_whole(self.slept, int(hours * HOUR_S))

    def lines(self):
        """Of the audit log."""
        with open(self.audit) as file:
            return [json.loads(line) for line in file]

    def is_kept(self, text):
        """Whether the file for the next run has it; the running one has it locked."""
        for path in glob.glob(os.path.join(self.directory, "state-demo.db*")):
            with open(path, "rb") as file:
                if text.encode() in file.read():
                    return True
        return False

    def with_the_write(self, happens):
        """With the next write that the device gets: before the lease it begins can end."""
        def write_first(request, values, write=self.unit._write):
            self.unit._write = write
            answer = write(request, values)
            happens()
            return answer

        self.unit._write = write_first

    def fence(self):
        """What was sent before has been taken up when this returns."""
        self.n_fences = getattr(self, "n_fences", 0) + 1
        refused = self.mqtt.ask(999, "fence-%d" % self.n_fences)
        self.assertEqual((refused["outcome"], refused["reason"]), ("refused", "out_of_range"))

    def own(self, source, since=0):
        """The outcome of a write of the bridge's own."""
        return self.mqtt.wait(RESULT, lambda m: m.json.get("source") == source, since=since).json

    def written(self):
        """The setpoints that were written, as they are in the register."""
        with self.server.changed:
            return [w.values[0] for w in self.unit.writes if w.address == TARGET]

    def check(self, outcome, kind, reason=None, **more):
        self.assertEqual((outcome["outcome"], outcome.get("reason")), (kind, reason), outcome)
        self.assertEqual({key: outcome.get(key) for key in more}, more, outcome)


def main():
    global build_dir
    if len(sys.argv) < 2:
        sys.exit("usage: %s BUILD_DIR [unittest arguments]" % sys.argv[0])
    build_dir = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
