"""The Sparkplug node under faults (chaos.py --sparkplug), watched by a primary host.

Each fault comes once, then any at random. After each, the registers are held still for as
long as it takes: then the host's picture of every metric is what the registers hold. What the
devices gave while they moved, each scan another value, came to the host live or as history,
but for what a daemon that was killed had not had acknowledged; and in JSON no sample is
missing. The host never objects: nothing before its birth, no gap in `seq`, no alias unknown.
"""

import collections
import json
import os
import random
import signal
import threading
import time

import chaos
import flux
import hostile
import sparkplug_wire as wire

NODE = "spBv1.0/flux/%s/demo"
REBIRTH = wire.command({"name": "Node Control/Rebirth", "value": True})
LOST_S = 2.0 + chaos.SCAN_S  # of a daemon that is killed: a mark each second, and its answer
HURRIED_MS = 50  # between two scans: the registers change each 10 ms, and are read a little later


class Scada(chaos.HostObserver):
    """A host and a reader of JSON in one: says its STATE, keeps its picture."""

    topics = ("flux/demo/#", "spBv1.0/flux/#")

    def __init__(self, broker):
        self.picture = wire.Host()
        self.samples = collections.defaultdict(dict)  # (device, run) -> seq -> ts
        self.bad = set()  # of which nothing is told but a death
        self.births = 0
        super().__init__(broker, subscribe=("#",))

    def restart(self):
        """What it knew is gone, and it has not been there for a moment. Not under the lock: the
        client's own, which its callbacks hold, is taken in publish()."""
        self.state(False)
        with self.changed:
            self.picture.restart()
        self.state(True)

    def _on_message(self, client, userdata, message):
        with self.changed:
            parts = message.topic.split("/")
            if parts[0] == "spBv1.0" and parts[2] in wire.KINDS:
                self.births += parts[2] == "NBIRTH"
                self.picture.hear(parts[2], parts[4] if len(parts) > 4 else None,
                                  wire.Payload(message.payload))
            elif parts[-1] in ("state", "backfill") and message.payload:  # else it is cleared
                body = json.loads(message.payload)
                self.samples[parts[2], body["run"]][body["seq"]] = body["ts"]
                if body["quality"] == "bad":
                    self.bad.add(body["ts"])
            self.changed.notify_all()


class SparkplugChaos(flux.Test):
    def setUp(self):
        super().setUp()
        self.random = random.Random(chaos.options.seed)
        self.injected = collections.Counter()
        self.still = []  # (from, to, slot): when the registers were held still
        self.held_slot = None
        self.kills = []
        self.gone = []  # when a device was given up as the daemon ran
        self.names = {"Battery-1": "Battery-1", "Meter-1": "Meter-1", "Meter-2": "Meter-2"}
        self.objections = []

    # ---- the rig ----

    def registers(self, function):
        return lambda slot: function(slot if self.held_slot is None else self.held_slot)

    def rig(self):
        self.mosquitto = self.broker()
        self.gate = chaos.Gate(self.mosquitto.port)
        self.addCleanup(self.gate.close)
        self.scada = Scada(self.mosquitto)
        self.addCleanup(self.scada.close)
        self.gate.is_open = True
        self.battery = hostile.Unit(self.registers(hostile.battery_registers), writable=[2008])
        meters = [hostile.Unit(self.registers(hostile.meter_registers)) for _ in range(2)]
        self.servers = [hostile.Server({1: self.battery}, chaos.TIMEOUT_S, chaos.options.seed),
                        hostile.Server({2: meters[0], 3: meters[1]}, chaos.TIMEOUT_S, 1)]
        for server in self.servers:
            self.addCleanup(server.close)
        self.start()
        self.settle()

    def text(self):
        link = {"timeout": "%dms" % (chaos.TIMEOUT_S * 1000), "retry_count": 1}
        more = {"poll": "%dms" % (chaos.POLL_S * 1000), "modbus": link}
        return flux.config(
            self.gate, bess=[flux.battery(self.servers[0], self.names["Battery-1"], **more)],
            meters=[flux.meter(self.servers[1], self.names["Meter-%d" % i], address=1 + i, **more)
                    for i in (1, 2)],
            mqtt={"keepalive": "%ds" % (3 * chaos.P)},
            sparkplug={"enabled": True, "primary_host": "scada"},
            spool={"path": os.path.join(self.directory, "spool.db")},
            audit={"path": os.path.join(self.directory, "audit.jsonl")}, log={"level": "info"})

    def start(self):
        self.flux = self.bridge(self.text())
        self.flux.wait_log("fluxbridge is up")

    def moves(self, seconds):
        """Lets the registers move for that long: it is no wait for something."""
        threading.Event().wait(seconds * chaos.P)

    # ---- what is expected ----

    def expected(self):
        """device -> metric -> value, of the registers as they are held still."""
        slot = self.held_slot
        battery = {name: float(of(slot)) for name, of in hostile.BATTERY_VALUES.items()}
        held = self.battery.held[2008][-1].value
        battery.update(status="ready", status_code=1, command_source=0,
                       target_power=float(held - 0x10000 if held > 0x7FFF else held))
        meter = {name: float(of(slot)) for name, of in hostile.METER_VALUES.items()}
        return {self.names["Battery-1"]: battery, self.names["Meter-1"]: meter,
                self.names["Meter-2"]: meter}

    def pictured(self):
        return {device: {name: value for name, (value, quality, _) in metrics.items()
                         if not name.startswith("Command/") and quality == 192}
                for device, metrics in self.scada.picture.devices.items()}

    def missing(self):
        """Samples that the host has seen in JSON and not in Sparkplug."""
        found = []
        seen = collections.defaultdict(set)
        for (device, _), rows in self.scada.picture.history.items():
            seen[device].update(ts for ts, _ in rows)
        for (device, run), samples in self.scada.samples.items():
            times = sorted(samples.values())
            # A scan that was late and the one behind it may find the registers as they were.
            hurried = {b for a, b in zip(times, times[1:]) if b - a < HURRIED_MS}
            found += [(device, run, ts) for ts in times
                      if ts not in seen[device] | hurried and ts not in self.scada.bad
                      and not self.is_excused(ts / 1000)]
        return found

    def is_excused(self, at):
        """Held still, nothing changes, and nothing is told; a daemon that is killed takes
        along what was not acknowledged, and what a device gave last that is given up is told
        in JSON alone."""
        return any(begin <= at <= end for begin, end, _ in self.still) or any(
            kill - LOST_S <= at <= kill for kill in self.kills) or any(
            begin <= at <= end for begin, end in self.gone)

    def settle(self):
        """The registers stand still until the host's picture is that of them, and nothing is
        missing any more."""
        begin = time.time()
        self.held_slot = hostile.slot_at(begin)
        self.still.append((begin, float("inf"), self.held_slot))
        flux.wait_on(self.scada.changed, lambda: self.pictured() == self.expected(), 60,
                     lambda: "the picture of the registers: %s, expected %s\n%s" % (
                         self.pictured(), self.expected(), self.flux.log()[-3000:]))
        flux.wait_on(self.scada.changed, lambda: not self.missing(), 60,
                     lambda: "what is missing at the host: %s, objections %s, still %s\n%s" % (
                         self.missing()[:20], self.scada.picture.objections, self.still[-1],
                         self.flux.log()[-3000:]))
        self.still[-1] = (begin, time.time(), self.held_slot)
        self.held_slot = None

    # ---- faults ----

    def broker_restarts(self, pause_s):
        ready = self.scada.ready
        self.mosquitto.program.kill()
        self.moves(pause_s)
        self.mosquitto.start()
        flux.wait_on(self.scada.changed, lambda: self.scada.ready > ready, None,
                     "the host's subscription")
        self.gate.is_open = True
        self.flux.signal(signal.SIGHUP)  # a broker that is back is tried at once

    def broker_killed_in_the_middle_of_history(self):
        self.gate.is_open = False
        self.gate.cut()
        self.moves(3)
        told = sum(map(len, self.scada.picture.told_late.values()))
        self.gate.is_open = True
        self.flux.signal(signal.SIGHUP)
        flux.wait_on(self.scada.changed,
                     lambda: sum(map(len, self.scada.picture.told_late.values())) > told, 60,
                     lambda: "history\n" + self.flux.log()[-3000:])
        self.gate.is_open = False
        self.broker_restarts(self.random.choice([0, 1]))

    def broker_killed(self):
        self.gate.is_open = False
        self.broker_restarts(self.random.choice([0, 1, 2]))

    def session_cut(self):
        self.gate.cut()

    def marks_swallowed(self):
        """What the broker has is not known to the node, and is told again."""
        self.gate.left = {chaos.PUBACK: 0}
        self.moves(2)
        self.gate.cut()

    def host_restarts(self):
        self.scada.restart()

    def daemon_killed(self):
        self.kills.append(time.time())
        self.flux.process.kill()
        self.flux.wait_end()
        self.moves(self.random.choice([0, 1]))
        self.start()

    def device_renamed(self):
        self.rename()
        self.flux.stop()
        self.start()

    def device_renamed_as_it_runs(self):
        self.rename()
        begin, since = time.time(), self.flux.mark()
        flux.write_whole(self.flux.config, self.text())
        self.flux.signal(signal.SIGHUP)
        self.flux.wait_log("reload: ", since=since)
        self.gone.append((begin - 2 * chaos.POLL_S, time.time()))

    def rename(self):
        self.names["Meter-2"] = "Meter-2" if self.names["Meter-2"] != "Meter-2" else "Feeder"

    def thirty_rebirths(self):
        with self.scada.changed:
            births = self.scada.births
        for _ in range(30):
            self.scada.client.publish(NODE % "NCMD", REBIRTH, qos=0)
        flux.wait_on(self.scada.changed, lambda: self.scada.births > births, 20, "a rebirth")
        self.moves(1)
        self.assertLessEqual(self.scada.births, births + 1)

    def unit_dies(self):
        self.servers[1].dead_units.add(3)
        flux.wait_on(self.scada.changed, lambda: self.names["Meter-2"] not in
                     self.scada.picture.devices, 60, "DDEATH")
        self.servers[1].dead_units.clear()

    def setpoint(self):
        self.scada.client.publish(NODE % "DCMD" + "/" + self.names["Battery-1"], qos=0, payload=(
            wire.command({"name": "target_power",
                          "value": float(self.random.randint(-250, 250))})))

    FAULTS = [broker_killed_in_the_middle_of_history, broker_killed, session_cut, marks_swallowed,
              host_restarts, daemon_killed, device_renamed, device_renamed_as_it_runs, thirty_rebirths,
              unit_dies, setpoint]

    # ---- judgement ----

    def check_json(self):
        """No gap in `seq`, but for the last of a run that was killed."""
        for (device, run), samples in self.scada.samples.items():
            last = max(samples)
            gone = [seq for seq in range(1, last) if seq not in samples]
            before = [samples[max(s for s in samples if s < seq)] / 1000 if seq > min(samples)
                      else min(samples.values()) / 1000 for seq in gone]
            self.assertEqual([(device, run, seq) for seq, at in zip(gone, before)
                              if not any(k - LOST_S <= at <= k for k in self.kills)], [])

    def check_values(self):
        """Each was held by its register when the sample was taken."""
        tables = {"Battery": hostile.BATTERY_VALUES, "Meter": hostile.METER_VALUES,
                  "Feeder": hostile.METER_VALUES}
        count = 0
        for (device, name), rows in self.scada.picture.history.items():
            function = tables[device.split("-")[0]].get(name)
            for ts, value in rows if function else []:
                count += 1
                start = ts / 1000 - 0.002
                slots = list(range(hostile.slot_at(start),
                                   hostile.slot_at(start + chaos.SCAN_S) + 1))
                slots += [slot for begin, end, slot in self.still
                          if begin <= start + chaos.SCAN_S and end >= start]
                if value is not None and not any(function(slot) == value for slot in slots):
                    self.fail("%s of %s was never %s at %s" % (name, device, value, ts))
        return count

    def check_order(self):
        """History comes oldest first, of each metric, from birth to birth."""
        for key, batches in self.scada.picture.told_late.items():
            for batch in batches:
                times = [ts for ts, _ in batch]
                self.assertEqual(times, sorted(times), key)

    def test_chaos(self):
        self.rig()
        end = time.monotonic() + chaos.options.seconds * chaos.P
        each = list(self.FAULTS)
        self.random.shuffle(each)
        while each or time.monotonic() < end:
            fault = each.pop() if each else self.random.choice(self.FAULTS)
            self.moves(self.random.uniform(0.3, 1.5))
            self.injected[fault.__name__] += 1
            print("%.1f %s" % (time.time(), fault.__name__), flush=True)
            fault(self)
            self.moves(self.random.uniform(0, 1))
            self.settle()
        self.flux.stop()
        self.assertEqual(self.scada.picture.objections, [])
        self.check_json()
        self.check_order()
        count = self.check_values()
        print("seed %d, faults injected %d %s, values told %d, samples in JSON %d" % (
            chaos.options.seed, sum(self.injected.values()), dict(self.injected), count,
            sum(map(len, self.scada.samples.values()))), flush=True)
