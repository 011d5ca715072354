"""The real daemon under a random sequence of faults, watched from outside.

    chaos.py BUILD_DIR [--seconds N] [--seed S]
    chaos.py BUILD_DIR --control [--steps N] [--seed S]
    chaos.py BUILD_DIR --sparkplug [--seconds N] [--seed S]
    chaos.py BUILD_DIR --everything [--seconds N] [--seed S] [--logs DIRECTORY]

Everything around the daemon breaks: the broker is killed, frozen and cut off,
the daemon itself is killed, the devices (hostile.py) lie in every way they can,
the disk (faulty_disk.py) is full, read-only or hangs. Mostly three of them at once.
An observer at the broker records what arrives, the devices record what they
held and what was written to them, and in the end both are compared:

  samples     no gap in `seq` over state and backfill, but for what a killed
              daemon had taken within its last second, or since its disk took
              nothing; none twice but around a reconnect; backfill oldest first
  values      every one was held by its register when the sample was taken
  commands    one outcome each, and no register written twice for one
  resources   memory, descriptors and threads are back where they were, and the
              daemon has slept most of the time

Between the broker and the daemon stands a gate that opens only when the
observer has its subscription: what the broker accepts, the observer gets. It can
swallow what either says to the other, so that messages are in flight when the
connection breaks. Each fault comes once, then any at random. A run with the same
seed injects the same faults, at times that the machine decides.

With --control it is the control path alone, far deeper: the models of a battery
(unit/test_model.c, unit/test_model_driver.c) over seed after seed, 1,000,000 steps unless
said otherwise, and the real threads (unit/test_model_threads.c) over as many seeds. What
fails is said with its seed; FLUXBRIDGE_SEED=… FLUXBRIDGE_TRACE=1 tells its story.

With --sparkplug it is the Sparkplug node, before a host (sparkplug_chaos.py). With
--everything it is all that the daemon can do, on a small disk, for hours (everything.py).
"""

import argparse
import asyncio
import bisect
import collections
import functools
import json
import logging
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
sys.dont_write_bytecode = True

import faulty_disk  # noqa: E402
import flux  # noqa: E402
import hostile  # noqa: E402

P = flux.PATIENCE
POLL_S = 0.2 * P
TIMEOUT_S = 0.5 * P
SCAN_S = 4 * TIMEOUT_S + 1.0  # the longest scan: a meter's four requests, and a reconnect
SPOOL_S = 1.0 * P  # on disk a second after it was taken
BATTERIES = ["Battery-1", "Battery-2"]
METERS = ["Meter-1", "Meter-2"]
options = None


PUBLISH, PUBACK = 3, 4
# What is said of a disk that fails, and nothing of one that has lost anything.
DISK_WORDS = re.compile("error: (the thread of the (state file|audit log)|the spooler) has stopped "
                        "moving|error: (the spool cannot be used|cannot open the spool)")


class Packets:
    """Cuts a stream into the packets of MQTT."""

    def __init__(self):
        self.data = b""

    def feed(self, data):
        self.data += data
        while (size := self._size()) and size <= len(self.data):
            packet, self.data = self.data[:size], self.data[size:]
            yield packet

    def _size(self):
        """Of the first packet; None when even that is not there."""
        length = 0
        for i, byte in enumerate(self.data[1:5]):
            length |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return 2 + i + length
        return None


class Gate:
    """A TCP forwarder that can be shut, whose connections can be cut, and that can
    swallow packets of one kind after so many of them."""

    def __init__(self, port):
        self.to_port = port
        self.is_open = False
        self.left = {}  # kind of packet -> how many of them still pass
        self.swallowed = 0
        self.backfill = []  # (connection, topic, ts) of each that was sent
        self.changed = threading.Condition()
        self.writers = set()
        self.accepted = 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._call(self._start())
        self.port = self.server.sockets[0].getsockname()[1]

    def _call(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(flux.DEADLINE_S)

    async def _start(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _accept(self, reader, writer):
        if not self.is_open:
            writer.transport.abort()
            return
        self.accepted += 1
        number = self.accepted
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        with self.changed:
            self.writers |= pair
            self.changed.notify_all()
        try:
            await asyncio.wait([self.loop.create_task(
                                    self._pump(reader, far_writer, PUBLISH, number)),
                                self.loop.create_task(self._pump(far_reader, writer, PUBACK))],
                               return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.writers -= pair
            for end in pair:
                end.close()

    async def _pump(self, reader, writer, kind, number=None):
        packets = Packets()
        try:
            while data := await reader.read(65536):
                for packet in packets.feed(data):
                    if kind == PUBLISH and packet[0] >> 4 == PUBLISH:
                        self._note(number, packet)
                    if packet[0] >> 4 != kind or self._passes(kind):
                        writer.write(packet)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass

    def _note(self, number, packet):
        found = re.search(rb"/([\w-]+)/backfill.{3}\{\"ts\":(\d+),", packet, re.DOTALL)
        if found:
            self.backfill.append((number, found[1].decode(), int(found[2])))

    def _passes(self, kind):
        if kind not in self.left:
            return True
        self.left[kind] -= 1
        if self.left[kind] >= 0:
            return True
        with self.changed:
            self.swallowed += 1
            self.changed.notify_all()
        return False

    def cut(self):
        """Ends all connections; on new ones everything passes again."""
        async def abort():
            for writer in list(self.writers):
                writer.transport.abort()
            self.left.clear()
        self._call(abort())

    def close(self):
        async def stop():
            self.server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
        self._call(stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


Seen = collections.namedtuple("Seen", "time leaf body")


class Observer(flux.Client):
    """At QoS 0: a broker that is killed still sends what it has put on the wire."""

    def _on_connect(self, client, userdata, flags, code, properties=None):
        client.subscribe(self.topic("#"), options=flux.SubscribeOptions(qos=0, retainHandling=2))

    def _on_message(self, client, userdata, message):
        with self.changed:
            self.messages.append((time.time(), message.topic, message.payload))
            self.changed.notify_all()


class HostObserver(Observer):
    """Hears Sparkplug's topics as well, and says STATE."""

    topics = ()

    def _on_connect(self, client, userdata, flags, code, properties=None):
        options = flux.SubscribeOptions(qos=0, retainHandling=2)
        client.subscribe([(topic, options) for topic in self.topics])

    def _on_subscribe(self, *arguments):
        self.state(True)
        super()._on_subscribe(*arguments)

    def state(self, online):
        self.client.publish("spBv1.0/STATE/scada", retain=True, qos=1, payload=json.dumps(
            {"online": online, "timestamp": flux.utc_ms()}))


class Chaos(flux.Test):
    batteries = BATTERIES
    sessions = 1 + len(BATTERIES) + len(METERS)  # the bridge's, and those of the devices
    observer_class = Observer

    def setUp(self):
        super().setUp()
        self.random = random.Random(options.seed)
        self.injected = collections.Counter()
        self.faults = []  # when a session may have been broken
        self.kills = []  # (time, run) of the daemon
        self.problems = []
        self.commands = []  # (id, device, value)
        self.wrong = 0
        self.said = collections.Counter()  # of the disk

    def rig(self):
        self.mosquitto = self.broker()
        self.gate = Gate(self.mosquitto.port)
        self.addCleanup(self.gate.close)
        self.observer = self.observer_class(self.mosquitto)
        self.addCleanup(self.observer.close)
        self.gate.is_open = True
        self.units, self.servers = {}, []
        for name in BATTERIES:
            self.serve({1: name}, [hostile.Unit(hostile.battery_registers, hostile.BATTERY_VALUES,
                                                writable=[2008])])
        self.serve({2: "Meter-1", 3: "Meter-2"},
                   [hostile.Unit(hostile.meter_registers, hostile.METER_VALUES) for _ in METERS])
        self.disk = self.make_disk()
        self.text = self.configuration()
        self.environment = {**self.preload(faulty_disk.SOURCE), **self.disk.environment}
        self.flux = self.bridge(self.text, self.environment)
        self.addCleanup(lambda: self.flux.stop(expect=None))
        self.addCleanup(self.disk.heal)
        self.wait_live()

    def serve(self, names, units):
        """A server of its own: unit id -> the device's name."""
        self.units.update(zip(names.values(), units))
        server = hostile.Server(dict(zip(names, units)), TIMEOUT_S,
                                options.seed + len(self.servers))
        self.addCleanup(server.close)
        self.servers.append(server)
        return server

    def make_disk(self):
        return faulty_disk.FaultyDisk(self.directory)

    def configuration(self, bess=(), control=None, **more):
        """Of the whole; `bess` are further batteries, `control` is of the usual ones."""
        link = {"timeout": "%dms" % (TIMEOUT_S * 1000), "retry_count": 1}
        poll = "%dms" % (POLL_S * 1000)
        usual = [flux.battery(self.servers[i], BATTERIES[i], poll=poll, modbus=link,
                              control={"ttl": "10s", **(control or {})}) for i in range(2)]
        meters = [flux.meter(self.servers[2], name, address=2 + i, poll=poll, modbus=link)
                  for i, name in enumerate(METERS)]
        return flux.config(
            self.gate, bess=usual + list(bess), meters=meters, mqtt={"keepalive": "%ds" % (3 * P)},
            spool={"path": os.path.join(self.disk.directory, "spool.db")},
            audit={"path": os.path.join(self.disk.directory, "audit.jsonl")},
            log={"level": "info"}, **more)

    # ---- waiting: by an event, or for a while in which faults work ----

    def last_for(self, seconds):
        """Lets that much time pass: it is the faults' time, not a wait for something."""
        threading.Event().wait(seconds * P)

    def wait_live(self, timeout_s=60):
        """Every device is seen at `state`, good, after now."""
        since = time.time()

        def all_good():
            good = set()
            for at, topic, payload in reversed(self.observer.messages):
                if at < since:
                    break
                if topic.endswith("/state") and b'"quality":"good"' in payload:
                    good.add(topic)
            return len(good) == len(self.units)

        flux.wait_on(self.observer.changed, all_good, timeout_s,
                     lambda: "good samples of every device\n" + self.flux.log()[-3000:])

    # ---- faults ----

    def broker_killed(self):
        self.gate.is_open = False
        ready = self.observer.ready
        self.mosquitto.program.kill()
        self.last_for(self.random.choice([0, 0.3, 1, 3]))
        self.mosquitto.start()
        flux.wait_on(self.observer.changed, lambda: self.observer.ready > ready, None,
                     "the observer's subscription")
        self.gate.is_open = True

    def broker_frozen(self):
        self.mosquitto.freeze()
        self.last_for(self.random.choice([0.3, 1, 2, 6]))
        self.mosquitto.thaw()

    def broker_frozen_and_killed(self):
        """What was sent to it meanwhile is gone with it."""
        self.mosquitto.freeze()
        self.last_for(self.random.choice([0.3, 1]))
        self.broker_killed()

    def broken_in_the_backlog(self, kind):
        """So many packets pass while the backlog is sent, then the connection breaks."""
        self.gate.is_open = False
        self.gate.cut()
        self.last_for(self.random.choice([1.5, 3]))
        before = self.gate.swallowed
        self.gate.left = {kind: self.random.randint(0, 30)}
        self.gate.is_open = True
        self.flux.signal(signal.SIGHUP)  # a broker that is back is tried at once
        flux.wait_on(self.gate.changed, lambda: self.gate.swallowed > before, None,
                     lambda: "something to swallow\n" + self.flux.log()[-3000:])
        self.last_for(self.random.choice([0, 0.1, 0.5]))
        self.gate.cut()

    def acknowledgements_swallowed(self):
        self.broken_in_the_backlog(PUBACK)

    def messages_swallowed(self):
        self.broken_in_the_backlog(PUBLISH)

    def sessions_cut(self):
        self.gate.cut()

    def broker_out_of_reach(self):
        self.gate.is_open = False
        self.gate.cut()
        self.last_for(self.random.choice([0.5, 2]))
        self.gate.is_open = True

    def sessions_cut_twice(self):
        self.gate.cut()
        self.last_for(self.random.uniform(0.1, 1.2))
        self.gate.cut()

    def daemon_killed(self):
        self.kills.append(time.time())
        self.flux.process.kill()
        self.flux.wait_end()
        self.check_log()
        self.last_for(self.random.choice([0, 0.5]))
        if self.disk.kind == "hanging":
            self.disk.heal()  # a start waits for it with everything
        self.flux = self.bridge(self.text, self.environment)
        self.flux.wait_log("fluxbridge is up")  # a SIGHUP before that would end it

    def daemon_reloads(self):
        self.flux.signal(signal.SIGHUP)

    def devices_lie(self):
        server = self.random.choice(self.servers)
        server.odds = self.random.choice([0.05, 0.2, 0.6, 1.0])
        some = self.random.randint(1, len(hostile.FAULTS))
        server.faults = self.random.sample(hostile.FAULTS, some)

    def devices_behave(self):
        for server in self.servers:
            server.odds = 0.0

    def unit_dies(self):
        self.servers[2].dead_units ^= {3}

    def disk_breaks_down(self):
        self.disk.break_down(self.random.choice(self.disk.kinds))

    def disk_recovers(self):
        self.disk.heal()

    FAULTS = [broker_killed, broker_frozen, broker_frozen_and_killed, sessions_cut,
              sessions_cut_twice, broker_out_of_reach, acknowledgements_swallowed,
              messages_swallowed, daemon_killed, daemon_killed, daemon_reloads]
    LIES = [devices_lie, devices_lie, devices_lie, devices_behave, unit_dies]

    DISK = [disk_breaks_down, disk_breaks_down, disk_recovers]

    def command(self):
        """At QoS 0: the observer's library shall not send it again by itself."""
        number = len(self.commands)
        value = number % 500 - 250 or 250
        device = self.random.choice(self.batteries)
        id = "c-%d" % number
        self.commands.append((id, device, value))
        self.observer.client.publish(self.observer.topic(device + "/set/target_power"),
                                     json.dumps({"id": id, "value": value}), qos=0)
        return id, device

    def storm(self):
        """Once each, and then at random. A daemon that is killed finds on disk what it
        had lost from memory: the last two end without a kill."""
        end = time.monotonic() + options.seconds * P
        each = list(dict.fromkeys(self.FAULTS))
        self.random.shuffle(each)
        while each or time.monotonic() < end:
            self.inject(self.random.choice(self.LIES))
            self.inject(self.random.choice(self.DISK))
            self.inject(each.pop() if each else self.random.choice(self.FAULTS))
            self.last_for(self.random.uniform(0.05, 0.3))
            if self.random.random() < 0.7:
                self.flux.signal(signal.SIGHUP)  # a broker that is back is tried at once
            for _ in range(self.random.randint(1, 4)):
                self.command()
                self.last_for(self.random.uniform(0.05, 0.7))
        self.devices_behave()
        self.disk.heal()
        self.inject(Chaos.messages_swallowed)
        self.inject(Chaos.acknowledgements_swallowed)

    def inject(self, action):
        self.injected[action.__name__] += 1
        self.faults.append(time.time())
        action(self)
        self.faults.append(time.time())

    # ---- calm ----

    def heal(self):
        self.devices_behave()
        self.servers[2].dead_units.clear()
        for attempts in range(20, 0, -1):
            # A broker that is back is tried at once; but not by who does not yet know that
            # he has lost it, and his pause can be a minute.
            self.flux.signal(signal.SIGHUP)
            try:
                self.wait_live(3)
                break
            except flux.Timeout:
                if attempts == 1:
                    raise
        since = len(self.observer.messages)
        self.calm_commands = [self.command() for _ in range(3)]

        def calm():
            return any(topic.endswith("/bridge/health")
                       and json.loads(payload)["spool_depth"] == 0
                       for _, topic, payload in self.observer.messages[since:])

        try:
            flux.wait_on(self.observer.changed, calm, 60, "")
        except flux.Timeout:
            self.problem("the spool does not become empty")
        late = flux.Client(self.mosquitto, subscribe=("+/status",))
        try:
            for node in ["bridge", *self.units]:
                late.wait_text(node + "/status", "online")
        finally:
            late.close()

    def resources(self):
        """With the sessions of the bridge and of each device up: they follow one another."""
        flux.wait_on(self.gate.changed, lambda: len(self.gate.writers) == 2 * self.sessions, 60,
                     "%d sessions" % self.sessions)
        pid = self.flux.process.pid
        with open("/proc/%d/status" % pid) as file:
            status = file.read()
        with open("/proc/%d/stat" % pid) as file:
            fields = file.read().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        used = (int(fields[11]) + int(fields[12])) / ticks
        lived = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / ticks
        return {"processor": "%.1f of %.0f s" % (used, lived), "busy": used / lived,
                "descriptors": len(os.listdir("/proc/%d/fd" % pid)),
                "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
                "kilobytes": int(re.search(r"VmRSS:\s+(\d+)", status)[1])}

    def resources_after(self, before):
        """Looked at with each message until what is on its way, a connection or a file, is over."""
        looks = []

        def same():
            looks.append(self.resources())
            return all(before[what] == looks[-1][what] for what in ("descriptors", "threads"))

        try:
            flux.wait_on(self.observer.changed, same, 60, "")
        except flux.Timeout:
            pass  # the last word is the check's
        return looks[-1]

    def left_on_disk(self):
        file = sqlite3.connect(os.path.join(self.disk.directory, "spool.db"))
        rows = file.execute("SELECT device, payload FROM sample").fetchall()
        file.close()
        return rows

    # ---- judgement ----

    def problem(self, text, *arguments):
        self.problems.append(text % arguments)

    def collect(self):
        """Samples per (device, run), outcomes per id, from what the observer has seen."""
        self.samples = collections.defaultdict(lambda: collections.defaultdict(list))
        self.outcomes = collections.defaultdict(list)
        for at, topic, payload in self.observer.messages:
            _, _, device, leaf = topic.split("/", 3)
            if leaf in ("state", "backfill"):
                body = json.loads(payload)
                self.samples[device, body["run"]][body["seq"]].append(Seen(at, leaf, body))
            elif leaf == "result":
                body = json.loads(payload)
                self.outcomes[body["id"]].append(Seen(at, leaf, body))
        for device, payload in self.left_on_disk():
            body = json.loads(payload)
            self.samples[device, body["run"]][body["seq"]].append(
                Seen(time.time(), "disk", body))

    def check_gaps(self, runs):
        for (device, run), seen in self.samples.items():
            killed = runs.get(run)
            before = 0.0
            numbers = sorted(seen)
            for number in range(1, numbers[-1] + 1):
                if number in seen:
                    before = seen[number][0].body["ts"] / 1000
                elif not killed or before < self.stored_until(killed):
                    self.problem("%s run=%s seq=%d is missing, %s after the one of %.3f",
                                 device, run, number,
                                 "killed %.3f" % killed if killed else "not killed", before)
            if killed and before < self.stored_until(killed):
                self.problem("%s run=%s ends at %.3f, long before the kill of %.3f", device, run,
                             before, killed)

    def stored_until(self, killed):
        """What was taken before then was on disk when it was killed."""
        return self.disk.sound_since(killed, 2 * P) - SPOOL_S - SCAN_S - POLL_S

    def runs(self):
        """run -> when it was killed, or None."""
        first = {}
        for (_, run), seen in self.samples.items():
            at = min(s.body["ts"] for list_ in seen.values() for s in list_)
            first[run] = min(first.get(run, at), at)
        return {run: min((k for k in self.kills if k * 1000 >= at), default=None)
                for run, at in first.items()}

    def check_duplicates(self):
        faults = sorted(self.faults)
        count = 0
        for (device, run), seen in self.samples.items():
            for number, all_ in seen.items():
                if any(s.body != all_[0].body for s in all_):
                    self.problem("%s run=%s seq=%d has two faces", device, run, number)
                count += len(all_) - 1
                for one, two in zip(all_, all_[1:]):
                    i = bisect.bisect(faults, two.time)
                    if one.leaf != "disk" and two.leaf != "disk" and (
                            i == 0 or faults[i - 1] < one.time - 10 * P - 5):
                        self.problem("%s run=%s seq=%d came twice, without a reconnect: %s",
                                     device, run, number, all_)
        return count

    def check_order(self):
        last = {}
        if not self.gate.backfill:
            self.problem("no backfill was seen")
        for number, device, ts in self.gate.backfill:
            if ts < last.get((number, device), 0):
                self.problem("%s: backfill of %d after %s in one connection", device, ts,
                             last[number, device])
            last[number, device] = ts

    def check_values(self):
        taken = 0
        for (device, _), seen in self.samples.items():
            for all_ in seen.values():
                taken += 1
                self.check_sample(device, all_[0].body)
        return taken

    def check_sample(self, device, body):
        start = body["ts"] / 1000 - 0.002
        slots = range(hostile.slot_at(start), hostile.slot_at(start + SCAN_S) + 1)
        for name, value in body.get("data", {}).items():
            if value is not None and self.was_held(device, name, value, slots, start) is False:
                self.wrong += 1
                self.problem("%s ts=%s: %s was never %s then: %s", device, body["ts"], name,
                             value, body)

    def was_held(self, device, name, value, slots, start):
        """None: nobody knows."""
        table = self.units[device].values
        if name in table:
            return any(table[name](slot) == value for slot in slots)
        if name == "target_power":
            return self.held_target(device, value, start, start + SCAN_S)
        if name in ("status_code", "command_source"):
            return value == (name == "status_code")
        return None

    def held_target(self, device, value, start, end):
        writes = self.units[device].held[2008]
        for write, after in zip(writes, writes[1:] + [None]):
            word = write.value - 0x10000 if write.value > 0x7FFF else write.value
            if word == value and write.time <= end and (after is None or after.time >= start):
                return True
        return False

    def audit_lines(self):
        with open(os.path.join(self.disk.directory, "audit.jsonl")) as file:
            return [json.loads(line) for line in file if line.endswith("\n")]

    @functools.cached_property
    def live(self):
        return sorted(at for at, topic, _ in self.observer.messages if topic.endswith("/state"))

    def died_with(self, at):
        """Whether the daemon was killed before the broker had heard more of it: an outcome of
        then is in its audit log alone."""
        killed = min((k for k in self.kills if k >= at), default=float("inf"))
        if self.disk.ailed(at - 6 * P, at + 6 * P):
            at += 6 * P  # it may have waited for the disk that long
        i = bisect.bisect(self.live, at + 1.0 * P)
        return killed != float("inf") and not (i < len(self.live) and
                                               self.live[i] < killed - 0.5 * P)

    def check_commands(self):
        lines = self.audit_lines()
        audited = collections.Counter(line["id"] for line in lines if not line.get("correction"))
        for id, device, value in self.commands:
            bodies = {json.dumps(s.body, sort_keys=True): s for s in self.outcomes[id]
                      if not s.body.get("correction")}
            if len(bodies) > 1 or audited[id] > 1:
                self.problem("%s has more than one outcome: %s", id, sorted(bodies))
        for line in lines:
            if line.get("correction") or self.outcomes.get(line["id"]):
                continue
            if not self.died_with(line["ts"] / 1000):
                self.problem("the outcome of %s never came: %s", line["id"], line)
        for id, _ in self.calm_commands:
            if [s.body["outcome"] for s in self.outcomes[id]] not in (["confirmed"],
                                                                      ["superseded"]):
                self.problem("%s, in a calm: %s", id, self.outcomes[id])

    def check_writes(self):
        """None was written twice for one command."""
        for device in BATTERIES:
            asked = collections.Counter(v & 0xFFFF for _, d, v in self.commands if d == device)
            written = collections.Counter(w.value for w in self.units[device].writes)
            for value, count in written.items():
                if count > asked[value]:
                    self.problem("%s: %d was asked for %d times and written %d times", device,
                                 value, asked[value], count)

    def check_log(self):
        for line in self.flux.lines:
            if self.disk.times and (said := DISK_WORDS.search(line)):
                self.said[said[0].removeprefix("error: ")] += 1
                continue
            if "stopped moving" in line or "spool" in line and "error" in line or \
                    flux.SANITIZER_REPORT.search(line):
                self.problem("the daemon said: %s", line)

    def check_resources(self, before, after):
        for what in ("descriptors", "threads"):
            # A link that is just being opened anew has none.
            if after[what] > before[what] or (what == "threads" and after[what] < before[what]):
                self.problem("%s: %d before, %d after", what, before[what], after[what])
        if P == 1 and after["busy"] > 0.2:
            self.problem("it is busy for %s", after["processor"])
        if P == 1 and after["kilobytes"] > before["kilobytes"] + 20 * 1024:
            self.problem("memory: %d KiB before, %d after", before["kilobytes"],
                         after["kilobytes"])

    def drops(self):
        return sum(json.loads(payload)["drops"]
                   for _, topic, payload in self.observer.messages
                   if topic.endswith("/bridge/health"))

    def test_chaos(self):
        self.rig()
        before = self.resources()
        self.storm()
        self.heal()
        after = self.resources_after(before)
        self.flux.stop()
        self.check_log()
        self.collect()
        runs = self.runs()
        self.check_gaps(runs)
        duplicates = self.check_duplicates()
        self.check_order()
        taken = self.check_values()
        self.check_commands()
        self.check_writes()
        self.check_resources(before, after)
        if self.drops():
            self.problem("samples were dropped: %d", self.drops())
        lies = collections.Counter()
        for server in self.servers:
            lies.update(server.injected)
        outcomes = collections.Counter(
            s.body["outcome"] for list_ in self.outcomes.values() for s in list_)
        print("seed               %d\nfaults injected    %d %s\nlies of devices    %d %s\n"
              "runs               %d, killed %d\nsamples taken      %d\nsamples delivered  %d, "
              "%d of them twice\nwrong values       %d\ncommands           %d %s\n"
              "said of the disk   %s\n"
              "resources          %s -> %s" % (
                  options.seed, sum(self.injected.values()), dict(self.injected),
                  sum(lies.values()), dict(lies), len(runs), len(self.kills), taken,
                  taken + duplicates, duplicates, self.wrong, len(self.commands), dict(outcomes),
                  dict(self.said),
                  {k: v for k, v in before.items() if k != "busy"}, {
                      k: v for k, v in after.items() if k != "busy"}), flush=True)
        self.assertFalse(self.problems, "%d problems, seed %d:\n%s" % (
            len(self.problems), options.seed, "\n".join(self.problems[:40])))


STEPS_PER_SEED = 100000
BURSTS_PER_SEED = 1000


def run_model(name, seed, variable, length):
    """One program of the unit tests over one seed. Whether it was good."""
    environment = dict(os.environ, FLUXBRIDGE_SEED=str(seed), **{variable: str(length)})
    ran = subprocess.run(["timeout", str(600 * P), os.path.join(options.build_dir, "tests", name)],
                         env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
    if ran.returncode != 0:
        print("%s failed with %s=%d FLUXBRIDGE_SEED=%d\n%s" % (name, variable, length, seed,
                                                              ran.stdout), flush=True)
    return ran.returncode == 0


def control():
    """The control path over many seeds; the exit code."""
    seeds = range(options.seed, options.seed + -(-options.steps // STEPS_PER_SEED))
    failed = [seed for seed in seeds
              if not run_model("test_model", seed, "FLUXBRIDGE_STEPS", STEPS_PER_SEED) or
              not run_model("test_model_driver", seed, "FLUXBRIDGE_STEPS", STEPS_PER_SEED) or
              not run_model("test_model_threads", seed, "FLUXBRIDGE_BURSTS", BURSTS_PER_SEED)]
    print("seeds %d to %d: %d steps of the model, %d bursts through the threads, failed: %s" % (
        seeds[0], seeds[-1], len(seeds) * STEPS_PER_SEED, len(seeds) * BURSTS_PER_SEED,
        failed or "none"), flush=True)
    return 1 if failed else 0


def main():
    global options
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--control", action="store_true", help="the control path alone")
    parser.add_argument("--sparkplug", action="store_true", help="the Sparkplug node")
    parser.add_argument("--everything", action="store_true", help="all that it can do; needs root")
    parser.add_argument("--logs", help="where to leave what the daemon said")
    parser.add_argument("--steps", type=int, default=1000000, help="with --control, over all seeds")
    options = parser.parse_args()
    flux.build_dir = os.path.abspath(options.build_dir)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # peers that are gone are the point
    if options.logs:
        os.makedirs(options.logs, exist_ok=True)
    print("seed %d" % options.seed, flush=True)
    if options.control:
        sys.exit(control())
    module = "__main__"
    if options.sparkplug or options.everything:
        module = "sparkplug_chaos" if options.sparkplug else "everything"
        sys.modules["chaos"] = sys.modules["__main__"]
    unittest.main(module, argv=sys.argv[:1], verbosity=2)


if __name__ == "__main__":
    main()
