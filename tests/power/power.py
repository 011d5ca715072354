"""Power cuts: what was told before one is not contradicted after it.

    power.py BUILD_DIR [--lives N] [--cuts N] [--seed S] [--workers N]

The bridge runs for a while with all that it keeps on disk: a spool that fills while the broker
is away, outcomes, leases, stops that are owed, schedules, Sparkplug's bdSeq, energy counters;
it is ended and killed meanwhile. What it does to its files is recorded (disk_trace.py), and what it
tells, with the time. Then for each cut a disk is made as the power may have left it at some
moment of that, and the bridge is started on it. It must start, take all files for its own, none
for damaged, and:

  samples   all that the broker did not have and that the disk had had some seconds for come as
            backfill, each as it would have been told without the cut
  outcomes  of each that was told there is a line in the audit log; the id is not carried out
            again; no command is, that was under way
  leases    end when they would have
  stops     that were owed are written, and those that were told of are corrected
  schedules are of the revision that was accepted, or a later one, and what is written is its value
  bdSeq     goes on; the energy counters do not fall

A cut between two operations loses any sectors of what was not fsynced, and of the operation
under way, and names that were not. The times of what was told are those at which a client got
it: what is asked for is never more than was promised.
"""

import argparse
import bisect
import collections
import json
import logging
import multiprocessing
import os
import random
import shutil
import sys
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ("integration", "chaos"):
    sys.path.insert(0, os.path.join(HERE, "..", folder))
sys.dont_write_bytecode = True

import chaos  # noqa: E402
import disk_trace  # noqa: E402
import flux  # noqa: E402
import preloaded  # noqa: E402
import schedule  # noqa: E402
import sparkplug_wire as wire  # noqa: E402

P = flux.PATIENCE
LEASED, OWED, DAY, METER = "Leased", "Owed", "Day", "Meter"
LEASE_S = 36000
STORED_S = 2 * P  # a sample that the disk has had so long for is there
OWED_MAX = 8  # stops that are remembered
BOOT_ID = r"""
#include <stdio.h>
#include <string.h>

/* After a power cut the machine has been started anew. */
FILE *fopen(const char *path, const char *mode)
{
    static char id[] = "00000000-0000-0000-0000-000000000001\n";
    return strcmp(path, "/proc/sys/kernel/random/boot_id") == 0
               ? fmemopen(id, strlen(id), "r")
               : REAL(FILE *, "fopen", const char *, const char *)(path, mode);
}
"""
SIZED = ("samples", "audited", "leases", "owed", "schedules", "bdseq", "energy")  # of claims
options = None


class Watcher(chaos.HostObserver):
    """Hears JSON and Sparkplug's births; says STATE."""

    topics = ("flux/demo/#", "spBv1.0/+/NBIRTH/#")

    def __init__(self, broker):
        self.births = []  # (time, bdSeq)
        super().__init__(broker)

    def _on_message(self, client, userdata, message):
        with self.changed:
            if message.topic.startswith("spBv1.0"):
                self.births.append((time.time(), wire.Payload(message.payload)["bdSeq"].value))
            else:
                self.messages.append((time.time(), message.topic[len("flux/demo/"):],
                                      message.payload))
            self.changed.notify_all()

    def bodies(self, ending, since=0):
        """(time, what is before that in the topic, body)"""
        with self.changed:
            return [(at, topic[:-len(ending)], json.loads(payload))
                    for at, topic, payload in self.messages[since:]
                    if topic.endswith(ending) and payload]

    def tell(self, topic, body):
        self.client.publish("flux/demo/" + topic, json.dumps(body), qos=0)


class Site(flux.Test):
    """Broker, devices, and a bridge whose files are in `self.disk`."""

    def rig(self):
        self.disk = os.path.join(self.directory, "disk")
        os.mkdir(self.disk)
        self.mosquitto = self.broker()
        self.gate = chaos.Gate(self.mosquitto.port)
        self.addCleanup(self.gate.close)
        self.watcher = Watcher(self.mosquitto)
        self.addCleanup(self.watcher.close)
        self.gate.is_open = True
        self.units = {LEASED: flux.battery_unit(), OWED: flux.battery_unit(), DAY: flux.battery_unit(),
                      METER: flux.meter_unit()}
        self.server = self.modbus({i + 1: unit for i, unit in enumerate(self.units.values())})
        control = {"deadman": {"timeout": "%ds" % LEASE_S, "value": 0}}
        self.text = flux.config(
            self.gate, [flux.battery(self.server, name, 1 + i, poll="100ms", control=control)
                        for i, name in enumerate((LEASED, OWED, DAY))],
            [flux.meter(self.server, METER, address=4, poll="50ms")],
            mqtt={"device_wills": False}, home_assistant={"enabled": True},
            sparkplug={"enabled": True, "primary_host": "scada"},
            spool={"path": os.path.join(self.disk, "spool.db")},
            audit={"path": os.path.join(self.disk, "audit.jsonl")}, log={"level": "info"})

    def held(self, name):
        with self.server.changed:
            return flux_signed(self.units[name].registers[flux.TARGET])


def flux_signed(word):
    return word - 0x10000 if word > 0x7FFF else word


class Life(Site):
    """One that is recorded."""

    def live(self, seed):
        self.rig()
        self.random = random.Random(seed)
        self.trace = os.path.join(self.directory, "trace")
        self.environment = {**self.preload(disk_trace.SOURCE + schedule.SYNCHRONISED),
                            "CLOCK_UNSYNCHRONISED": "/nowhere",
                            **disk_trace.environment(self.trace, self.disk)}
        self.obeys = []  # [from, to]: when the battery whose stops are owed takes them
        self.units[OWED].registers[flux.TARGET] = 77
        self.units[OWED].ignore_writes = True
        self.revision = self.number = 0
        self.begin()
        for end in (self.kill, self.end, self.kill)[:options.runs]:
            for i in range(options.turns):
                self.turn(away=i % 2 == 1)
            end()
            self.begin()
        self.drain()
        self.check_recorder()
        return Story(self)

    def begin(self):
        since = len(self.watcher.messages)
        self.flux = self.bridge(self.text, self.environment)
        self.flux.wait_log("fluxbridge is up")
        flux.wait_on(self.watcher.changed, lambda: len({
            device for _, device, body in self.watcher.bodies("/state", since)
            if body["quality"] == "good"}) == 4, None, "live samples")

    def kill(self):
        disk_trace.kill_between_operations(self.flux, self.trace, self.command)

    def end(self):
        self.flux.stop()

    def turn(self, away):
        """One thing of each kind, in any order; the broker is there, or away."""
        if away:
            self.gate.is_open = False
            self.gate.cut()
        steps = [self.command, self.command, self.stop, self.plan, self.reborn, self.obey]
        self.random.shuffle(steps)
        for step in steps:
            step()
            threading.Event().wait(self.random.uniform(0, 0.3))
        threading.Event().wait(self.random.uniform(3, 6) if away else self.random.uniform(1, 2))
        if away:
            self.gate.is_open = True
            self.flux.signal(chaos.signal.SIGHUP)

    def command(self):
        self.number += 1
        self.watcher.tell(LEASED + "/set/target_power",
                          {"id": "c-%d" % self.number, "value": self.number % 200 + 1})

    def stop(self):
        self.number += 1
        self.watcher.tell(OWED + "/set/target_power", {"id": "s-%d" % self.number, "value": 0})

    def plan(self):
        self.revision += 1
        now = flux.utc_ms()
        self.watcher.tell(DAY + "/schedule/set", {
            "id": "day", "revision": self.revision, "valid_until": now + 86400000,
            "entries": [{"start": now, "end": now + 86000000, "value": self.revision % 200 + 1}]})

    def reborn(self):
        if self.random.random() < 0.5:
            self.watcher.state(False)
            self.watcher.state(True)

    def obey(self):
        """The battery takes its stops for a moment; else it keeps what it had."""
        unit = self.units[OWED]
        with self.server.changed:
            if unit.ignore_writes and self.random.random() < 0.2:
                unit.ignore_writes = False
                self.obeys.append([time.time(), float("inf")])
            elif not unit.ignore_writes:
                self.obeys[-1][1] = time.time()
                unit.ignore_writes = True
                unit.registers[flux.TARGET] = 77

    def drain(self):
        """So that as much as possible of what there was is told."""
        threading.Event().wait(1)
        self.kill()

    def check_recorder(self):
        disks = disk_trace.Disks()
        for operation in disk_trace.operations(self.trace):
            disks.run(operation)
        for name, data in disks.whole().items():
            with open(os.path.join(self.disk, name), "rb") as file:
                self.assertTrue(file.read() == data, "not all that was done to %s is recorded" % name)
        self.assertEqual(sorted(disks.whole()), sorted(os.listdir(self.disk)))


class Story:
    """What one life has told, and did to its disk."""

    def __init__(self, life):
        self.operations = disk_trace.operations(life.trace)
        self.begins = [operation.began for operation in self.operations]
        watcher = life.watcher
        self.samples = {}  # (device, run, seq) -> (when it was first told, body)
        for ending in ("/state", "/backfill"):
            for at, device, body in watcher.bodies(ending):
                key = (device, body["run"], body["seq"])
                if at < self.samples.get(key, (float("inf"),))[0]:
                    self.samples[key] = (at, body)
        self.ended = dict(self._ends())  # like self.samples -> when its scan had
        self.outcomes = [(at, body) for at, _, body in watcher.bodies("/result")]
        # Also of a write whose outcome was never told, since the bridge was killed before.
        # None of these is longer than a lease may be.
        self.leases = [(at, body["lease"]["until"]) for at, device, body in watcher.bodies("/control")
                       if device == LEASED and body["lease"] and
                       body["lease"]["until"] <= (at + LEASE_S) * 1000]
        self.births = watcher.births
        self.obeys = life.obeys

    def _ends(self):
        """By the `ts` of the device's next one, which begins after that: a scan whose requests are
        refused, or between which a command is carried out, may take longer than a second."""
        keys = sorted(self.samples)
        for key, after in zip(keys, keys[1:]):
            if key[:2] == after[:2]:
                yield key, self.samples[after][1]["ts"] / 1000

    def stored(self, at):
        """Since when the disk was free for STORED_S in all: it has what had been taken by then.
        What comes while it takes long over an operation waits for that."""
        left, free_to = STORED_S, at
        for operation in reversed(self.operations[:bisect.bisect(self.begins, at)]):
            free_s = max(0.0, free_to - operation.ended)
            if free_s >= left:
                break
            left -= free_s
            free_to = operation.began
        return free_to - left

    def told(self, at):
        return [body for when, body in self.outcomes if when < at]

    def energy(self, at):
        """device -> what its counters had shown."""
        found = {}
        for (device, _, _), (when, body) in self.samples.items():
            if when < at and "energy_discharged_integrated" in body["data"]:
                value = body["data"]["energy_discharged_integrated"] or 0
                found[device] = max(value, found.get(device, 0))
        return found

    def owed(self, at):
        """Ids of the stops that were told of and that the battery has not taken since."""
        stops = [(when, body["id"]) for when, body in self.outcomes
                 if when < at and body["device"] == OWED and body["outcome"] in ("mismatch", "unknown")]
        asked = [body["id"] for when, body in self.outcomes if body["device"] == OWED and
                 not body.get("correction")]
        last = [id for id in asked if number(id) <= max((number(i) for _, i in stops), default=0)]
        return [id for when, id in stops if id in last[-OWED_MAX + 3:] and
                not any(begin < at and end > when for begin, end in self.obeys)]

    def told_kinds(self, index):
        claims = self.claims(self.operations[index].began)
        return sum(bool(claims[name]) for name in SIZED)

    def claims(self, at):
        told, stored = self.told(at), self.stored(at)
        fresh = [b for b in told if not b.get("duplicate") and b.get("audited", True)]
        leased = [b for b in fresh if b["device"] == LEASED and b["outcome"] == "confirmed"]
        later = [body["ts"] + LEASE_S * 1000 for when, body in self.outcomes
                 if body["device"] == LEASED and body["outcome"] == "confirmed" and
                 (when >= at or body is leased[-1])] if leased else []
        shown = [until for when, until in self.leases if when < at][-1:] + [
            until for when, until in self.leases if when >= at] if leased else []
        return {
            "at": at,
            "samples": {key: body for key, (when, body) in self.samples.items()
                        if when > at + 1.0 and self.ended.get(key, at) < stored},
            "audited": [(b["device"], b["id"], b["outcome"]) for b in fresh],
            "leases": later + shown,
            "answered": leased[-1] if leased else None,
            "owed": self.owed(at),
            "schedules": [b["revision"] for b in fresh if b["outcome"] == "accepted"],
            "bdseq": [b for when, b in self.births if when < at][-1:],
            "births": sum(when >= at for when, _ in self.births),
            "energy": self.energy(at)}


def number(id):
    return int(id.split("-")[1]) if id and id[:2] in ("c-", "s-") else 0


class After(Site):
    """Starts on what cuts have left."""

    def prepare(self, story):
        self.rig()
        self.story = story
        self.environment = {**self.preload(preloaded.REAL + BOOT_ID + schedule.SYNCHRONISED),
                            "CLOCK_UNSYNCHRONISED": "/nowhere"}

    def start_on(self, image, claims):
        """The problems."""
        shutil.rmtree(self.disk)
        disk_trace.write_image(self.disk, image)
        for unit in self.units.values():
            unit.writes = []
        self.units[LEASED].registers[flux.TARGET] = 55
        self.units[OWED].registers[flux.TARGET] = 77
        self.units[DAY].registers[flux.TARGET] = 0
        self.problems = []
        self.since, self.first_birth = len(self.watcher.messages), len(self.watcher.births)
        self.flux = self.bridge(self.text, self.environment)
        try:
            self.flux.wait_log("fluxbridge is up")
            if claims["answered"]:
                self.wait(self.is_heard, "that commands are heard")
                self.watcher.tell(LEASED + "/set/target_power",
                                  {"id": claims["answered"]["id"], "value": 199})
            self.check(claims)
        except flux.Timeout as failure:
            self.problems.append(str(failure))
        self.flux.process.kill()
        self.flux.wait_end()
        self.check_log()
        del self.watcher.messages[:], self.watcher.births[:]
        return self.problems

    def is_heard(self):
        return (LEASED + "/status", b"online") in [
            message[1:] for message in self.watcher.messages[self.since:]]

    def seen(self, ending):
        return self.watcher.bodies(ending, self.since)

    def wait(self, predicate, what):
        flux.wait_on(self.watcher.changed, predicate, 30, what)

    def must(self, good, text, *arguments):
        if not good:
            self.problems.append(text % arguments)

    def check(self, claims):
        self.wait(lambda: {device for _, device, _ in self.seen("/state")} == set(self.units),
                  "live samples")
        self.wait(lambda: self.watcher.births[self.first_birth:], "a birth")
        self.check_samples(claims["samples"], claims["at"])
        self.check_stops(claims["owed"])
        self.check_schedule(max(claims["schedules"], default=0))
        self.check_lease(claims)
        self.check_audit(claims)
        for last in claims["bdseq"]:
            step = (self.watcher.births[self.first_birth][1] - last) % 256
            self.must(1 <= step <= claims["births"] + 4, "bdSeq %d comes after %d",
                      self.watcher.births[self.first_birth][1], last)
        for device, before in claims["energy"].items():
            for _, name, body in self.seen("/state"):
                after = body["data"].get("energy_discharged_integrated")
                self.must(name != device or after is None or after >= before,
                          "the energy of %s falls from %s to %s", device, before, after)

    def check_samples(self, wanted, at):
        def missing():
            found = {(device, body["run"], body["seq"]) for _, device, body in self.seen("/backfill")}
            return [key for key in wanted if key not in found]
        try:
            self.wait(lambda: not missing(), "")
        except flux.Timeout:
            self.problems.append("samples are lost: %s" % [
                "%s %s %d, taken %.3f s before, told %.3f s after it" % (
                    *key, at - wanted[key]["ts"] / 1000, self.story.samples[key][0] - at)
                for key in missing()[:5]])
        for _, device, body in self.seen("/backfill"):
            known = self.story.samples.get((device, body["run"], body["seq"]))
            if known:
                self.must(known[1] == body, "%s says %s, not %s", device, body, known[1])

    def check_stops(self, owed):
        def corrected():
            return {body["id"] for _, _, body in self.seen("/result")
                    if body.get("correction") and body["outcome"] == "confirmed"}
        try:
            self.wait(lambda: set(owed) <= corrected(), "")
        except flux.Timeout:
            self.problems.append("stops are forgotten: %s" % sorted(set(owed) - corrected()))
        self.must(not owed or self.held(OWED) == 0, "the battery is not stopped")
        self.must(not any(flux_signed(w.values[0]) for w in self.units[OWED].writes),
                  "a battery that was stopped was told %s", self.units[OWED].writes)

    def check_schedule(self, revision):
        last = [body for _, device, body in self.seen(DAY + "/schedule")][-1:]
        found = last[0]["revision"] or 0 if last else 0
        self.must(found >= revision, "schedule %s was accepted, and is %s", revision, last)
        values = {flux_signed(w.values[0]) for w in self.units[DAY].writes}
        self.must(values <= ({found % 200 + 1} if found else {0}),
                  "schedule %d has written %s", found, values)

    def check_lease(self, claims):
        def leases():
            return [body["lease"] for _, _, body in self.seen(LEASED + "/control")]
        if claims["leases"]:
            self.wait(lambda: any(leases()), lambda: "the lease, which is %s" % leases())
            self.must(any(abs(leases()[-1]["until"] - until) < 1500 for until in claims["leases"]),
                      "the lease is %s, not until %s", leases()[-1], claims["leases"][:3])

    def check_audit(self, claims):
        if claims["answered"]:
            self.wait(lambda: any(body["id"] == claims["answered"]["id"] and
                                  not body.get("correction")
                                  for _, _, body in self.seen("/result")), "an answer")
            again = next(body for _, _, body in self.seen("/result")
                         if body["id"] == claims["answered"]["id"])
            self.must(again == {**claims["answered"], "duplicate": True},
                      "%s was answered with %s", claims["answered"], again)
        self.must(not self.units[LEASED].writes, "what nobody has asked for was written: %s",
                  self.units[LEASED].writes)
        lines = set()
        with open(os.path.join(self.disk, "audit.jsonl"), "rb") as file:
            for line in file.read().split(b"\n"):
                try:
                    body = json.loads(line.strip(b"\0"))
                    lines.add((body["device"], body["id"], body["outcome"]))
                except (ValueError, KeyError):
                    pass
        for key in claims["audited"]:
            self.must(key in lines, "%s was told and is not in the audit log", key)

    def check_log(self):
        for line in self.flux.lines:
            if flux.SANITIZER_REPORT.search(line) or " error: " in line or "damaged" in line:
                self.problems.append("it said: " + line)


def work(arguments):
    """One worker's cuts through one story."""
    story, cuts, seed = arguments
    after = After("start_on")
    after.setUp()
    found, asked = [], collections.Counter()
    try:
        after.prepare(story)
        disks, done = disk_trace.Disks(), 0
        for n, index in enumerate(sorted(cuts)):
            while done < index:
                disks.run(story.operations[done])
                done += 1
            chances = random.Random("%s %s %s" % (seed, index, n))
            image = disks.after_cut(chances, story.operations[index])
            claims = story.claims(story.operations[index].began)
            asked.update({name: len(claims[name]) for name in SIZED})
            problems = after.start_on(image, claims)
            if problems:
                found.append((index, problems, after.flux.log()[-3000:]))
                if options.keep:
                    disk_trace.write_image(os.path.join(options.keep, "%s-%d-%d" % (seed, index, n)),
                                           image)
    finally:
        after.doCleanups()
    return found, asked


class Power(unittest.TestCase):
    def test_cuts(self):
        failed, asked = 0, collections.Counter()
        for seed in range(options.seed, options.seed + options.lives):
            story = self.story(seed)
            cuts = self.cuts(story, random.Random(seed))
            parts = [(story, cuts[i::options.workers], seed) for i in range(options.workers)]
            with multiprocessing.Pool(options.workers) as pool:
                done = pool.map(work, parts)
            found = [one for part, _ in done for one in part]
            failed += len(found)
            for _, claims in done:
                asked += claims
            print("seed %d: %d cuts in %d operations %s, failed %d" % (
                seed, len(cuts), len(story.operations),
                dict(collections.Counter(o.kind for o in story.operations)), len(found)), flush=True)
            for index, problems, log in found[:3]:
                print("cut before operation %d: %s\n%s" % (index, "\n  ".join(problems), log),
                      flush=True)
        print("asked for, in all cuts: %s" % dict(asked), flush=True)
        self.assertTrue(not failed, "%d cuts" % failed)
        # One life may be too short for some of it to have become a promise.
        wanted = SIZED if options.lives > 1 else ("audited", "bdseq")
        self.assertEqual([name for name in wanted if not asked[name]], [])

    def story(self, seed):
        life = Life("live")
        life.setUp()
        try:
            return life.live(seed)
        finally:
            life.doCleanups()

    def cuts(self, story, chances):
        """Half of them where it matters most, and one when much had been told."""
        places = disk_trace.rare(story.operations)
        half = [chances.choice(places) for _ in range(options.cuts // 2)]
        rest = [chances.randrange(len(story.operations)) for _ in range(options.cuts)]
        return half + sorted(rest, key=story.told_kinds)[options.cuts // 2:]


def main():
    global options
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir")
    parser.add_argument("--cuts", type=int, default=30, help="in each life")
    parser.add_argument("--lives", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3, help="of the bridge before the last, in a life")
    parser.add_argument("--turns", type=int, default=4, help="of things to do in each of them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", help="where to leave the disks of cuts that failed")
    options = parser.parse_args()
    flux.build_dir = os.path.abspath(options.build_dir)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # peers that are gone are the point
    unittest.main(argv=sys.argv[:1], verbosity=2)


if __name__ == "__main__":
    main()
