"""All that the daemon can do, under faults for hours (chaos.py --everything; needs root).

What chaos.py does, and beside its two batteries one whose keepalive has to be kept going;
leases, schedules, Sparkplug before a host, Home Assistant, somebody who reads the page and
its events, commands from all sides, and a disk of a few MiB that others fill, on which the
audit log is rotated. The daemon is killed seldom enough to grow old. Now and then everything
is healed and must be whole again: each device live, the spool empty, a setpoint confirmed,
and zero on every battery when its lease is over. In the end, beside what chaos.py looks at:

  writes      each setpoint belongs to one command, within its life, or to an entry of a
              schedule that is in force; nothing from before a confirmed stop comes after it;
              no keepalive for a lease that is over, or for what another run has written
  page        its samples and outcomes are those of MQTT, its values were held
  Sparkplug   the host never objects, its values were held
  energy      the counters never fall, whatever ended the daemon
"""

import collections
import http.client
import json
import os
import shutil
import threading
import time

import chaos
import faulty_disk
import flux
import hostile
import page
import schedule
import sparkplug_wire as wire

P = chaos.P
DIRECT = "Battery-3"
MODE, ACTIVE, POWER, BEAT = 1000, 1001, 1020, 1022
TTL_S = 4 * P
LEASE_S = 6 * P
SLACK_S = 3 * P + chaos.SCAN_S  # from when a write is due until a device has it, at most
# The battery with a keepalive is read in more requests than a meter, any of which may be in vain.
chaos.SCAN_S = 16 * chaos.TIMEOUT_S + 1.0
SCHEDULED_KW = range(301, 400)  # live setpoints are smaller
TOKEN = "an-hour-of-chaos"
CHECKPOINT_S = 180
NODE = "spBv1.0/flux/%s/demo"


class Witness(chaos.Observer):
    """Everything that is said in JSON, and a Sparkplug host."""

    def __init__(self, broker):
        self.picture = wire.Host()
        self.told = collections.deque(maxlen=12)
        super().__init__(broker)

    def _on_connect(self, client, userdata, flags, code, properties=None):
        options = flux.SubscribeOptions(qos=0, retainHandling=2)
        client.subscribe([(topic, options) for topic in ("flux/demo/#", "spBv1.0/flux/#")])

    def _on_subscribe(self, *arguments):
        self.client.publish("spBv1.0/STATE/scada", retain=True, qos=1, payload=json.dumps(
            {"online": True, "timestamp": flux.utc_ms()}))
        super()._on_subscribe(*arguments)

    def _on_message(self, client, userdata, message):
        parts = message.topic.split("/")
        if parts[0] == "flux":
            if parts[2:] != ["bridge", "sparkplug"]:
                super()._on_message(client, userdata, message)
        elif parts[2] in wire.KINDS:
            with self.changed:
                self.hear(parts[2], parts[4] if len(parts) > 4 else None,
                          wire.Payload(message.payload))
                self.changed.notify_all()

    def hear(self, kind, device, payload):
        """With the last words before an objection, and when it was."""
        self.told.append((kind, device, payload.seq, len(payload.metrics)))
        before = len(self.picture.objections)
        self.picture.hear(kind, device, payload)
        for i in range(before, len(self.picture.objections)):
            self.picture.objections[i] += " at %.3f after %s, with %s" % (
                time.time(), list(self.told),
                [(m.alias, m.name, m.value, m.historical) for m in payload.metrics][:12])


class Visitor:
    """Reads the page's events and its state all the time, and comes again when it is sent away."""

    def __init__(self, port):
        self.port = port
        self.events, self.states = [], []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._again, args=(visit,), daemon=True)
                        for visit in (self._listen, self._look)]
        for thread in self.threads:
            thread.start()

    def _again(self, visit):
        while not self.ended.is_set():
            try:
                visit()
            except (OSError, http.client.HTTPException, ValueError):
                self.ended.wait(0.2)

    def _listen(self):
        stream = page.Stream(self.port)
        try:
            while not self.ended.is_set() and not stream.ended:
                with stream.changed:
                    stream.changed.wait(0.5)
                    new, stream.events = stream.events, []
                self.events += [event for event in new if event[0] in ("sample", "outcome")]
        finally:
            stream.close()

    def _look(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5 * P)
        try:
            connection.request("GET", "/api/state")
            self.states += json.loads(connection.getresponse().read())["devices"]
        finally:
            connection.close()
        self.ended.wait(0.5)

    def close(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()


class Everything(chaos.Chaos):
    batteries = chaos.BATTERIES + [DIRECT]
    sessions = 1 + len(batteries) + len(chaos.METERS) + 1
    observer_class = Witness

    def setUp(self):
        super().setUp()
        self.issued = {}  # id of a command, or number of one that has none -> (from, to, way)
        self.entries = collections.defaultdict(list)  # device -> (value, from, to)
        self.revision = int(time.time())
        # At each checkpoint (process, resources with the most descriptors, with the least).
        self.started = []
        self.visits = ([], [])
        self.rotated = 0
        self.posts = []
        self.port = self.place().port
        self.checkpoint_at = time.monotonic() + CHECKPOINT_S * P

    # ---- the rig ----

    def make_disk(self):
        unit = hostile.Unit(hostile.direct_registers, hostile.DIRECT_VALUES,
                            writable=range(MODE, 1028))
        self.direct = self.serve({1: DIRECT}, [unit])
        disk = faulty_disk.SmallDisk(self.directory, 3, self.random)
        self.addCleanup(disk.close)
        return disk

    def configuration(self):
        token = os.path.join(self.directory, "token")
        with open(token, "w") as file:
            file.write(TOKEN)
        control = {"min_kw": -400.0, "max_kw": 400.0, "ttl": "%gs" % TTL_S,
                   "deadman": {"timeout": "%gs" % LEASE_S, "value": 0}}
        direct = {
            "id": "direct", "name": DIRECT, "type": "powerpack-direct",
            "poll": "%dms" % (chaos.POLL_S * 1000), "control": control,
            "modbus": {"host": self.direct.host, "port": self.direct.port, "address": 1,
                       "timeout": "%dms" % (chaos.TIMEOUT_S * 1000), "retry_count": 1}}
        return super().configuration(
            bess=[direct], control=control, sparkplug={"enabled": True, "primary_host": "scada"},
            home_assistant={"enabled": True},
            http={"listen": "127.0.0.1:%d" % self.port, "token_file": token})

    def rig(self):
        """Not before the spool has been used, and with it all that it opens."""
        super().rig()
        self.inject(chaos.Chaos.broker_out_of_reach)
        self.heal()

    def preload(self, source):
        return super().preload(source + schedule.SYNCHRONISED)

    def bridge(self, text, env=None):
        return super().bridge(text, {**env, "CLOCK_UNSYNCHRONISED": "/nowhere"})

    def wait_live(self, timeout_s=60):
        if not hasattr(self, "visitor"):
            self.visitor = Visitor(self.port)
        super().wait_live(timeout_s)

    def resources(self):
        """Without the visitor, whose connections come and go: when the daemon has closed them."""
        self.leave()
        flux.wait_on(self.observer.changed, lambda: not self.is_visited(), 60,
                     "the end of the page's connections")
        found = super().resources()
        self.visitor = Visitor(self.port)
        return found

    def is_visited(self):
        """Whether the daemon has a connection of its page open, be it one that is over."""
        with open("/proc/net/tcp") as file:
            rows = [line.split() for line in list(file)[1:]]
        return any(int(row[1].split(":")[1], 16) == self.port and row[3] in ("01", "08")
                   for row in rows)

    def leave(self):
        self.visitor.close()
        self.visits[0].extend(self.visitor.events)
        self.visits[1].extend(self.visitor.states)

    # ---- faults ----

    def daemon_killed(self):
        self.keep_log()
        super().daemon_killed()

    def audit_rotated(self):
        """As logrotate does it; what lies aside is taken off the small disk the next time."""
        path = os.path.join(self.disk.directory, "audit.jsonl")
        if os.path.exists(path + ".1"):
            shutil.move(path + ".1", os.path.join(self.directory, "audit-%d" % self.rotated))
            self.rotated += 1
        if os.path.exists(path):
            os.rename(path, path + ".1")
        self.flux.signal(chaos.signal.SIGHUP)

    def schedules_come(self):
        """From now on, for some seconds; between two entries there may be a gap."""
        device = self.random.choice(self.batteries)
        self.revision += 1
        at, entries = time.time() + self.random.uniform(0, 1.5) * P, []
        for _ in range(self.random.randint(0, 3)):
            end = at + self.random.uniform(1, 6) * P
            value = self.random.choice(SCHEDULED_KW) * self.random.choice((1, -1))
            entries.append((value, at, end))
            at = end + self.random.choice((0, 2)) * P
        body = {"id": "hour", "revision": self.revision, "valid_until": int(at * 1000) + 5000,
                "entries": [{"start": int(a * 1000), "end": int(b * 1000), "value": value}
                            for value, a, b in entries]}
        self.entries[device] += entries
        self.observer.client.publish(self.observer.topic(device + "/schedule/set"),
                                     json.dumps(body), qos=0)

    BROKER = [f for f in dict.fromkeys(chaos.Chaos.FAULTS) if f is not chaos.Chaos.daemon_killed]
    FAULTS = 4 * (BROKER + [audit_rotated, schedules_come, schedules_come]) + [daemon_killed]

    # ---- commands ----

    def command(self, calm=False):
        """From MQTT, some of them twice; from the page's API; and from the Sparkplug host."""
        number = len(self.commands)
        value = 0 if number % 12 == 11 and not calm else number % 500 - 250 or 250
        device = self.random.choice(self.batteries)
        way = "json" if calm else self.random.choice(("json", "json", "twice", "post", "sparkplug"))
        id, now = "c-%d" % number, time.time()
        self.commands.append((id, device, value))
        self.issued[id] = (now, now + TTL_S, way)
        body = json.dumps({"id": id, "value": value, "issued_at": int(now * 1000), "ttl_s": TTL_S})
        if way == "sparkplug":
            self.observer.client.publish(
                NODE % "DCMD" + "/" + device, qos=0, payload=wire.command(
                    {"name": "target_power", "value": float(value)}, timestamp=int(now * 1000)))
        elif way == "post":
            self.posts.append(threading.Thread(target=self.post, args=(device, body), daemon=True))
            self.posts[-1].start()
        else:
            for _ in range(2 if way == "twice" else 1):
                self.observer.client.publish(
                    self.observer.topic(device + "/set/target_power"), body, qos=0)
        return id, device

    def post(self, device, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40 * P)
        try:
            connection.request("POST", "/api/devices/%s/set/target_power" % device, body, {
                "Content-Type": "application/json", "Authorization": "Bearer " + TOKEN})
            answer = json.loads(connection.getresponse().read())
            if "outcome" in answer:
                self.visits[0].append(("outcome", answer))
        except (OSError, http.client.HTTPException, ValueError):
            pass  # the daemon was killed meanwhile
        finally:
            connection.close()

    # ---- calm ----

    def last_for(self, seconds):
        super().last_for(seconds)
        if time.monotonic() > self.checkpoint_at and not self.healing:
            self.checkpoint()

    healing = True  # no checkpoint in the middle of a fault

    def inject(self, action):
        self.healing = True
        super().inject(action)
        self.healing = False

    def checkpoint(self):
        self.healing = True
        self.disk.heal()
        self.heal()
        # One more or less is on its way at a single look; what is lost stays.
        looks = sorted((self.resources() for _ in range(3)), key=lambda look: look["descriptors"])
        found = looks[-1]
        self.started.append((self.flux.process.pid, found, looks[0]))
        print("%s %d faults, %d commands, %d problems, %s" % (
            time.strftime("%H:%M:%S"), sum(self.injected.values()), len(self.commands),
            len(self.problems), found), flush=True)
        self.checkpoint_at = time.monotonic() + CHECKPOINT_S * P
        self.healing = False

    def heal(self):
        usual, self.command = self.command, lambda: type(self).command(self, calm=True)
        calm = getattr(self, "calm_commands", [])
        try:
            super().heal()
        finally:
            self.command = usual
        self.calm_commands += calm
        since = len(self.observer.messages)
        for device in self.batteries:
            self.wait_zero(device, since)

    def wait_zero(self, device, since):
        """No lease lasts longer, nor does any schedule."""
        def zero():
            return any(topic.endswith(device + "/state") and
                       json.loads(payload)["data"]["target_power"] == 0
                       for _, topic, payload in self.observer.messages[since:])
        try:
            flux.wait_on(self.observer.changed, zero, 60, "")
        except flux.Timeout:
            self.problem("%s is not at zero long after its lease", device)

    def keep_log(self):
        if chaos.options.logs:
            with open(os.path.join(chaos.options.logs, "%d.log" % self.flux.process.pid),
                      "w") as file:
                file.write(self.flux.log())

    # ---- judgement ----

    def audit_lines(self):
        path = os.path.join(self.disk.directory, "audit.jsonl")
        files = [os.path.join(self.directory, "audit-%d" % i) for i in range(self.rotated)]
        files += [name for name in (path + ".1", path) if os.path.exists(name)]
        lines = []
        for name in files:
            with open(name) as file:
                lines += [json.loads(line) for line in file if line.endswith("\n")]
        return [line for line in lines if not is_repetition(line)]

    def collect(self):
        self.keep_log()
        self.leave()
        for thread in self.posts:
            thread.join()
        super().collect()
        for id, list_ in self.outcomes.items():
            self.outcomes[id] = [s for s in list_ if not is_repetition(s.body)]

    def check_commands(self):
        super().check_commands()
        own = collections.defaultdict(set)  # each device counts the bridge's own
        for list_ in self.outcomes.values():
            for body in [s.body for s in list_]:
                if not body.get("correction"):
                    own[body["device"], body["id"], body.get("revision")].add(json.dumps(body, sort_keys=True))
        for key, first in own.items():
            if len(first) > 1:
                self.problem("%s has more than one outcome: %s", key, sorted(first))

    def setpoints(self, device):
        """(time, kW) of each that was written."""
        writes = self.units[device].writes
        if device != DIRECT:
            return [(w.time, signed(w.value, 16)) for w in writes if w.address == 2008]
        return [(high.time, signed(high.value << 16 | low.value, 32) / 1000)
                for high, low in zip(writes, writes[1:])
                if (high.address, low.address) == (POWER, POWER + 1)]

    def was_held(self, device, name, value, slots, start):
        if device == DIRECT and name == "command_source":
            return value == "code_0"
        return super().was_held(device, name, value, slots, start)

    def held_target(self, device, value, start, end):
        if device != DIRECT:
            return super().held_target(device, value, start, end)
        writes = [(0.0, 0)] + self.setpoints(device)
        return any(kw == value and at <= end and (after is None or after[0] >= start)
                   for (at, kw), after in zip(writes, writes[1:] + [None]))

    def check_writes(self):
        for device in self.batteries:
            open_ = [(*self.issued[id], value, id) for id, d, value in self.commands
                     if d == device and value]
            written = {}  # id -> when
            for at, kw in self.setpoints(device):
                mine = [c for c in open_ if c[3] == kw and c[0] <= at <= c[1] + SLACK_S]
                if mine:
                    open_.remove(mine[0])
                    written[mine[0][4]] = at
                elif kw and not any(value == kw and begin - 0.05 <= at <= end + SLACK_S
                                    for value, begin, end in self.entries[device]):
                    self.problem("%s: %s was written at %.3f for nothing", device, kw, at)
            self.check_stops(device, written)
        self.check_beats()

    def check_stops(self, device, written):
        """Of what came on one topic, and so in its order."""
        stops = [(self.issued[id][0], s.body["ts"] / 1000) for id, d, value in self.commands
                 if d == device and value == 0 and self.issued[id][2] in ("json", "twice")
                 for s in self.outcomes[id] if s.body["outcome"] == "confirmed"]
        for id, at in written.items():
            asked, _, way = self.issued[id]
            if way in ("json", "twice") and any(
                    asked < stop and done < at for stop, done in stops):
                self.problem("%s: %s was written after a later stop was confirmed", device, id)

    def check_beats(self):
        """What is not zero is kept going within its lease, by the run that has written it."""
        kills = sorted(self.kills)
        at, kw, last = 0.0, 0, None
        for write, after in zip(*(lambda w: (w, w[1:] + [None]))(self.units[DIRECT].writes)):
            if write.address == POWER + 1:
                at, kw = write.time, signed(last.value << 16 | write.value, 32) / 1000
            if write.address == BEAT and kw and after and after.address != POWER and \
                    last.address != ACTIVE:
                live = abs(kw) < SCHEDULED_KW[0]
                until = at + LEASE_S if live else max(
                    (end for value, _, end in self.entries[DIRECT] if value == kw), default=0)
                if write.time > until + SLACK_S:
                    self.problem("%s kW of %.3f are kept going at %.3f", kw, at, write.time)
                if any(at < kill < write.time for kill in kills):
                    self.problem("%s kW of another run are kept going at %.3f", kw, write.time)
            last = write
        for address in {w.address for w in self.units[DIRECT].writes} - set(range(1000, 1028)):
            self.problem("register %d was written", address)

    def check_values(self):
        taken = super().check_values()
        self.check_page()
        self.check_host()
        self.check_energy()
        return taken

    def check_page(self):
        states = [(d["name"], d["state"]) for d in self.visits[1] if d["state"]]
        for device, body in [(b.pop("device"), b) for name, b in self.visits[0]
                             if name == "sample"] + states:
            body.pop("device", None)
            self.check_sample(device, body)
            told = self.samples[device, body["run"]].get(body["seq"])
            if told and told[0].body != body:
                self.problem("the page tells another sample: %s, not %s", body, told[0].body)
        for body in [b for name, b in self.visits[0] if name == "outcome"]:
            # Deadmen of several batteries may have the same id.
            told = [s.body for s in self.outcomes[body["id"]]
                    if s.body["device"] == body["device"]]
            if (told and not is_repetition(body) and body not in told and
                    not self.died_with(body["ts"] / 1000)):
                self.problem("the page tells another outcome: %s, not %s", body, told)

    def check_host(self):
        for objection in self.observer.picture.objections:
            self.problem("the host objects: %s", objection)
        for (device, name), rows in self.observer.picture.history.items():
            for ts, value in rows if name in self.units[device].values else []:
                start = ts / 1000 - 0.002
                slots = range(hostile.slot_at(start), hostile.slot_at(start + chaos.SCAN_S) + 1)
                if value is not None and not self.was_held(device, name, value, slots, start):
                    self.wrong += 1
                    self.problem("Sparkplug: %s of %s was never %s at %s", name, device, value, ts)

    def check_energy(self):
        counters = collections.defaultdict(list)
        for (device, _), seen in self.samples.items():
            for body in [all_[0].body for all_ in seen.values()]:
                for name, value in body.get("data", {}).items():
                    if name.endswith("_integrated") and value is not None:
                        counters[device, name].append((body["ts"], value))
        if len(counters) != 2 * len(self.batteries):
            self.problem("energy is counted of %s", sorted(counters))
        for key, rows in counters.items():
            rows.sort(key=lambda row: row[0])
            for before, after in zip(rows, rows[1:]):
                if after[1] < before[1]:
                    self.problem("%s falls from %s to %s", key, before, after)

    def check_resources(self, before, after):
        super().check_resources(before, after)
        for (pid, most, _), (other, _, least) in zip(self.started, self.started[1:]):
            if pid == other:
                super().check_resources(most, least)
        print("page               %d events, %d states\nSparkplug          %d values told\n"
              "audit log          rotated %d times" % (
                  len(self.visits[0]), len(self.visits[1]),
                  sum(map(len, self.observer.picture.history.values())), self.rotated))


def signed(value, bits):
    return value - (1 << bits) if value >> bits - 1 else value


def is_repetition(body):
    return bool(body.get("duplicate")) or body.get("reason") == "duplicate"
