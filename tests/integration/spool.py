"""Samples on disk: they outlive a kill, a full disk and a damaged file; a disk that
cannot be used is said at the start."""

import glob
import json
import os
import re
import shutil
import sqlite3
import urllib.request

import flux
import preloaded
from mqtt_faults import Relay

DEVICES = ("Site-BESS-01", "Grid-Meter")
BACKLOG_S = 100  # for thousands of samples, through a relay that is a test's
SOURCE = preloaded.REAL + r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The disk refuses what is written to the spool. */
static int refuses(int fd)
{
    char link[64], path[4096];
    if (getenv("DISK_REFUSES") == NULL || access(getenv("DISK_REFUSES"), F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = '\0';
    return strstr(path, "/spool.db") != NULL;
}

/* A letter in a file for each write to the log of the spool and each sync of it. */
static void note(int fd, const char *letter)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = '\0';
    if (strstr(path, "/spool.db-wal") == NULL || getenv("DISK_NOTES") == NULL)
        return;
    int notes = open(getenv("DISK_NOTES"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (write(notes, letter, 1) != 1)
        abort();
    close(notes);
}

int fdatasync(int fd)
{
    note(fd, "s");
    return REAL(int, "fdatasync", int)(fd);
}

int fsync(int fd)
{
    note(fd, "s");
    return REAL(int, "fsync", int)(fd);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    note(fd, "w");
    if (!refuses(fd))
        return REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, data, size, at);
    errno = ENOSPC;
    return -1;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return pwrite(fd, data, size, at);
}

/* It says that it is full. */
int statvfs(const char *path, struct statvfs *disk)
{
    int result = REAL(int, "statvfs", const char *, struct statvfs *)(path, disk);
    if (getenv("DISK_FULL") != NULL && access(getenv("DISK_FULL"), F_OK) == 0)
        disk->f_bavail = 0;
    return result;
}

int statvfs64(const char *path, struct statvfs64 *disk)
{
    return statvfs(path, (struct statvfs *)disk);
}
"""


class Swallowing(Relay):
    """One that can swallow what is sent to the broker, as a frozen one's machine does."""

    swallows = False

    def _hand_on(self, end, data):
        if not (self.swallows and end.getpeername() == self.target):
            super()._hand_on(end, data)


class Test(flux.Test):
    def rig(self, env=None, max_size="64MiB", **mqtt):
        self.units = [flux.battery_unit(), flux.meter_unit()]
        self.servers = [self.modbus({i + 1: unit}) for i, unit in enumerate(self.units)]
        self.mosquitto = self.broker("max_queued_messages 0\n")  # or it drops what the test gets
        self.relay = Swallowing(self.mosquitto.port)
        self.addCleanup(self.relay.place.close)
        self.addCleanup(self.relay.cut)
        self.mqtt = self.client(self.mosquitto)
        self.path = os.path.join(self.directory, "spool.db")
        self.port = self.place().port
        self.env = env
        self.text = flux.config(
            self.relay, [flux.battery(self.servers[0], poll="100ms")],
            [flux.meter(self.servers[1], poll="100ms")], mqtt={"device_wills": False, **mqtt},
            spool={"path": self.path, "max_size": max_size},
            http={"listen": "127.0.0.1:%d" % self.port})

    def start(self):
        self.flux = self.bridge(self.text, self.env)

    def wait_up(self):
        for device in DEVICES:
            self.mqtt.wait(device + "/state")

    def poll(self, scans):
        """So many scans of the battery, each of two requests at least."""
        unit = self.units[0]
        self.servers[0].wait(lambda n=unit.requests: unit.requests >= n + 2 * scans)

    def metric(self, name):
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % self.port) as answer:
            return int(re.search(r"^fluxbridge_%s (\d+)$" % re.escape(name),
                                 answer.read().decode(), re.MULTILINE)[1])

    def wait_metric(self, name, value):
        """Looked at whenever there is a new sample."""
        flux.wait_on(self.mqtt.changed, lambda: self.metric(name) == value, BACKLOG_S,
                     lambda: "%s %d, it is %d" % (name, value, self.metric(name)))

    def told(self, device, run, leaves=("state", "backfill"), since=0):
        """The numbers of a run's samples, in the order they came. Each is looked into once:
        thousands are waited for."""
        self.heard = getattr(self, "heard", {})
        rows = self.heard.setdefault(self.mqtt, [])
        for message in self.mqtt.messages[len(rows):]:
            place = message.topic.split("/")[2:]
            is_sample = place[-1] in ("state", "backfill")
            sample = message.json if is_sample else {"run": None, "seq": None}
            rows.append((*place, sample["run"], sample["seq"]))
        wanted = [(device, leaf, run) for leaf in leaves]
        return [row[-1] for row in rows[since:] if row[:3] in wanted]

    def wait_whole(self, since, missing=0, once_since=0):
        """The live flow is back, and no number is missing before it (from `missing` on)."""
        for device in DEVICES:
            live = self.mqtt.wait(device + "/state", since=since).json
            wanted = set(range(missing + 1, live["seq"] + 1))
            flux.wait_on(self.mqtt.changed,
                         lambda d=device, w=wanted: w <= set(self.told(d, live["run"])), BACKLOG_S,
                         lambda d=device, w=wanted: "%s %s" % (
                             d, sorted(w - set(self.told(d, live["run"])))))
            backfill = self.told(device, live["run"], ["backfill"], once_since)
            self.assertEqual(backfill, sorted(set(backfill)), device)

    def lose_broker(self):
        """It is away for a while."""
        line = self.flux.mark()
        self.relay.cut()
        self.flux.wait_log("no session with the broker", since=line)
        self.poll(8)
        since = self.mqtt.mark()
        self.relay.restore()
        return since

    def run_id(self):
        return re.search(r"is up .* run=(\w+)", self.flux.log())[1]

    def fill(self, samples):
        """What an earlier run has left."""
        file = sqlite3.connect(self.path)
        file.execute("CREATE TABLE sample (id INTEGER PRIMARY KEY AUTOINCREMENT,"
                     " device TEXT NOT NULL, payload BLOB NOT NULL)")
        file.executemany("INSERT INTO sample (device, payload) VALUES (?, ?)", (
            ("Grid-Meter", json.dumps({"ts": n, "run": "earlier", "seq": n,
                                       "padding": "p" * 350}).encode())
            for n in range(1, samples + 1)))
        file.commit()
        file.close()


class Kill(Test):
    def kill_while(self, broker_is_lost):
        """What was taken a second before that is delivered by the next run."""
        self.rig()
        self.start()
        self.wait_up()
        broker_is_lost()
        self.poll(5)
        taken, run = self.metric("samples_total"), self.run_id()
        self.poll(int(15 * flux.PATIENCE))
        self.flux.kill()
        self.relay.cut()
        self.relay.restore()
        self.start()
        self.flux.wait_log("the spool holds samples of an earlier run")

        def count():
            return sum(len(set(self.told(device, run))) for device in DEVICES)

        flux.wait_on(self.mqtt.changed, lambda: count() >= taken, None,
                     lambda: "%d samples; there are %d" % (taken, count()))
        for device in DEVICES:
            numbers = sorted(set(self.told(device, run)))
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)), device)

    def test_while_the_broker_is_away(self):
        self.kill_while(lambda: self.relay.cut())

    def test_while_the_broker_does_not_answer(self):
        self.kill_while(lambda: self.relay.hold())


class Unacknowledged(Test):
    def test_a_frozen_broker_costs_nothing(self):
        """At QoS 0 nobody says what has arrived: what was sent before the loss comes again."""
        self.rig(qos=0, keepalive="2s")
        self.start()
        self.wait_up()
        line = self.flux.mark()
        self.relay.swallows = True
        self.flux.wait_log("no session with the broker", since=line)
        since = self.mqtt.mark()
        self.relay.cut()
        self.relay.swallows = False
        self.relay.restore()
        # With such a keepalive a busy machine may have lost the session before.
        self.wait_whole(since, once_since=since)
        self.assertEqual(self.metric("samples_dropped_total"), 0)


class Power(Test):
    def test_a_cut_finds_every_transaction_synced(self):
        """Each burst of writes to the log ends with a sync."""
        notes = os.path.join(self.directory, "notes")
        self.rig({**self.preload(SOURCE), "DISK_NOTES": notes})
        self.start()
        self.wait_up()
        self.relay.cut()
        self.flux.wait_log("no session with the broker")
        self.poll(8)
        self.assertTrue(os.path.exists(notes))

        def bursts():
            with open(notes) as file:
                return file.read().split("s")

        before = len(bursts())
        self.poll(20)  # two seconds of samples, of which some go to disk every half second
        self.assertGreater(len(bursts()), before + 3)
        # A transaction is a few pages: none has gone on without being synced.
        self.assertLess(max(map(len, bursts())), 60)


class Backlog(Test):
    def test_it_delays_neither_commands_nor_live_samples(self):
        """All of them, and the first health, arrive while it is sent."""
        self.rig()
        self.fill(40000)
        self.mqtt = self.client(self.mosquitto, subscribe=[
            "+/state", "+/status", "+/result", "bridge/health"])
        self.start()
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.wait_up()
        self.mqtt.wait("bridge/health", lambda m: m.json["spool_depth"] > 0)
        self.assertEqual(self.mqtt.ask(50, "c-1")["outcome"], "confirmed")
        for device in DEVICES:
            self.mqtt.wait_count(device + "/state", 3, since=self.mqtt.mark())
        self.assertGreater(self.metric("spool_depth"), 1000)


class Full(Test):
    def rig_disk(self, how):
        self.switch = {name: os.path.join(self.directory, name)
                       for name in ("DISK_REFUSES", "DISK_FULL")}
        self.rig({**self.preload(SOURCE), **self.switch})
        self.how = how
        self.start()
        self.wait_up()

    def lose_disk_and_broker(self):
        """Some samples are on disk then, and some can go nowhere."""
        line = self.flux.mark()
        self.relay.cut()
        self.flux.wait_log("no session with the broker", since=line)
        self.poll(8)
        open(self.switch[self.how], "w").close()
        self.flux.wait_log("error: the spool cannot be used, samples stay in memory .* "
                           "why=\"database or disk is full\"")
        self.poll(10)

    def disk_recovers(self):
        os.unlink(self.switch[self.how])
        self.flux.wait_log("the spool works again")

    def check_said_once(self):
        self.assertEqual(self.flux.log().count("the spool cannot be used"), 1)
        self.assertEqual(self.flux.log().count("the spool works again"), 1)
        self.assertEqual(self.flux.log().count("error: "), 1, self.flux.log())
        self.assertEqual(self.metric("samples_dropped_total"), 0)

    def test_one_that_is_full_and_recovers_before_the_broker(self):
        self.rig_disk("DISK_FULL")
        self.lose_disk_and_broker()
        self.disk_recovers()
        self.poll(8)
        since = self.mqtt.mark()
        self.relay.restore()
        self.wait_whole(since)
        self.check_said_once()

    def test_one_that_takes_no_byte_and_recovers_after_the_broker(self):
        """What is delivered cannot be removed from disk then; it is not sent twice, though."""
        self.rig_disk("DISK_REFUSES")
        self.lose_disk_and_broker()
        since = self.mqtt.mark()
        self.relay.restore()
        self.wait_whole(since)
        since = self.lose_broker()
        self.wait_whole(since)
        self.relay.cut()
        self.poll(8)
        self.disk_recovers()
        since = self.mqtt.mark()
        self.relay.restore()
        self.wait_whole(since)
        self.check_said_once()
        self.wait_metric("spool_depth", 0)
        self.flux.kill()
        self.start()
        self.flux.wait_log("connected to the broker")
        self.assertNotIn("an earlier run", self.flux.log())

    def test_more_than_fits_gives_way_and_is_counted(self):
        self.rig(max_size="1MiB")
        self.fill(6000)
        self.start()
        self.wait_up()
        self.wait_metric("spool_depth", 0)
        dropped = self.metric("samples_dropped_total")
        self.assertGreater(dropped, 1000)
        self.assertEqual(self.metric('device_samples_dropped_total{device="Grid-Meter"}'), dropped)
        self.relay.cut()
        self.relay.restore()  # a session begins with its health
        health = self.mqtt.wait("bridge/health", lambda m: m.json["drops"] == dropped).json
        self.assertEqual(health["drops_by_device"], {"Grid-Meter": dropped})
        flux.wait_on(self.mqtt.changed, lambda: 6000 in self.told("Grid-Meter", "earlier"), BACKLOG_S,
                     "the last sample")
        self.assertEqual(self.told("Grid-Meter", "earlier"), list(range(dropped + 1, 6001)))


class Damage(Test):
    def kept(self):
        """What was set aside."""
        return [path for path in glob.glob(self.path + ".damaged-*")
                if not path.endswith(("-wal", "-shm"))]

    def test_at_the_start(self):
        self.rig()
        self.fill(100)
        with open(self.path, "r+b") as file:
            file.seek(20000)
            file.write(b"damage" * 2000)
        self.start()
        line = self.flux.wait_log("the spool is damaged: it was set aside and a new one begun")
        with open(re.search(r"kept_as=(\S+)", line)[1], "rb") as file:
            self.assertIn(b"damage" * 2000, file.read())
        saved, lost = re.search(r"saved=(\d+) lost=(\d+)",
                                self.flux.wait_log("a new spool was begun")).groups()
        self.assertEqual(int(saved) + int(lost), 100)
        self.assertIn(int(lost), range(10, 90))
        self.assertEqual(len(self.kept()), 1)
        self.wait_up()
        self.wait_whole(self.lose_broker())
        self.wait_metric("spool_depth", 0)
        self.assertEqual(len(set(self.told("Grid-Meter", "earlier"))), int(saved))
        self.assertEqual(self.metric("samples_dropped_total"), int(lost))
        self.assertEqual(len(self.kept()), 1)

    def test_while_it_runs(self):
        """It is seen when the broker is back and the samples are read."""
        self.rig()
        self.fill(6000)  # more than SQLite keeps in memory
        self.relay.cut()
        self.start()
        self.flux.wait_log("the spool holds samples of an earlier run samples=6000")
        self.flux.wait_log("no session with the broker")
        with open(self.path, "r+b") as file:
            file.seek(20000)
            file.write(b"damage" * 2000)
        self.relay.restore()
        self.flux.wait_log(r"error: the spool fails path=\S+ samples=\d+ "
                           "why=\"database disk image is malformed\"")
        self.flux.wait_log("the spool is damaged: it was set aside and a new one begun")
        self.assertEqual(len(self.kept()), 1)
        self.wait_up()
        self.wait_whole(self.lose_broker())
        self.wait_metric("spool_depth", 0)
        lost = self.metric("samples_dropped_total")
        self.assertIn(lost, range(1, 500))
        # One that was on its way when it was lost on disk is not.
        self.assertGreaterEqual(len(set(self.told("Grid-Meter", "earlier"))), 6000 - lost)
        self.assertEqual(len(self.kept()), 1)
        self.assertEqual(self.flux.log().count("error: the spool "), 2, self.flux.log())


class Start(Test):
    def refuse(self, path, why, before=()):
        self.text = self.text.replace(self.path, path)
        bridge = flux.Bridge(self.text, self.directory, before=before)
        self.assertEqual(bridge.wait_end(), 1, bridge.log())
        self.assertRegex(bridge.log(), "error: cannot open the spool %s: %s" % (path, why))
        self.assertEqual(sum(server.connections for server in self.servers), 0)
        self.path = path

    def late(self, directory, come, before=()):
        """The bridge is up without it, and what waits is stored when it has come."""
        self.text = self.text.replace(self.path, os.path.join(directory, "spool.db"))
        self.flux = flux.Bridge(self.text, self.directory, before=before)
        self.addCleanup(self.flux.stop)
        self.flux.wait_log("error: cannot open the spool %s/spool.db: .*: its directory must exist "
                           "and be writable; samples stay in memory until then" % directory)
        self.wait_up()
        come()
        self.flux.wait_log("info: the spool works again path=%s/spool.db" % directory)
        self.wait_whole(self.lose_broker())
        self.wait_metric("spool_depth", 0)
        self.assertEqual(self.metric("samples_dropped_total"), 0)
        self.assertGreater(os.path.getsize(os.path.join(directory, "spool.db")), 0)

    def test_a_directory_that_comes_late(self):
        """Such as a disk that is mounted when the network is up."""
        self.rig()
        directory = os.path.join(self.directory, "late")
        self.late(directory, lambda: os.mkdir(directory))

    def test_a_directory_that_may_not_be_written(self):
        """Until it may."""
        self.rig()
        closed = os.path.join(self.directory, "closed")
        os.mkdir(closed, 0o555)
        # Permissions are nothing to root, but for one who has given up that right.
        before = [shutil.which("setpriv"), "--bounding-set", "-dac_override"]
        self.late(closed, lambda: os.chmod(closed, 0o755), before if os.geteuid() == 0 else [])

    def test_one_that_another_program_has_locked(self):
        """Such as an administrator's who looks at it: it is waited for, and nothing is lost."""
        self.rig()
        self.fill(3)
        other = sqlite3.connect(self.path)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        self.start()
        self.flux.wait_log("error: cannot open the spool %s: another program uses it: end that "
                           "program, or name another path; samples stay in memory until then" %
                           self.path)
        self.wait_up()
        since = self.mqtt.mark()
        self.relay.cut()
        self.flux.wait_log("no session with the broker")
        self.poll(8)
        other.rollback()
        other.close()
        self.flux.wait_log("info: the spool holds samples of an earlier run samples=3")
        self.flux.wait_log("info: the spool works again")
        self.relay.restore()
        self.wait_whole(since)
        flux.wait_on(self.mqtt.changed, lambda: len(self.told("Grid-Meter", "earlier")) == 3,
                     BACKLOG_S, "the samples of the earlier run")
        self.assertEqual(self.metric("samples_dropped_total"), 0)
        self.assertEqual(self.flux.log().count("cannot open the spool"), 1)

    def test_one_that_another_bridge_uses(self):
        self.rig()
        self.start()
        self.wait_up()
        directory = os.path.join(self.directory, "other")
        os.mkdir(directory)
        bridge = flux.Bridge(self.text, directory)
        self.assertEqual(bridge.wait_end(), 1, bridge.log())
        self.assertIn("error: cannot open the spool %s: another program uses it" % self.path,
                      bridge.log())

    def test_one_that_only_the_note_knows(self):
        """Nothing in it says whose it is; `check` and `run` both know it by its note."""
        self.rig()
        self.start()
        self.wait_up()
        self.flux.stop()
        with open(self.path, "r+b") as file:
            file.write(b"\xa5" * (1 << 17))
        for left in glob.glob(self.path + "-*"):
            os.unlink(left)
        code, _, said = self.run_tool("check", "-c", self.flux.config)
        self.assertEqual((code, "is no spool" in said), (0, False), said)
        self.start()
        self.flux.wait_log("the spool is damaged: it was set aside and a new one begun")

    def test_somebody_else_s(self):
        """A database or a text: it is left as it is, and nothing is made beside it."""
        self.rig()
        other = sqlite3.connect(self.path)
        other.execute("CREATE TABLE other (id INTEGER)")
        other.close()
        text = os.path.join(self.directory, "notes.txt")
        with open(text, "w") as file:
            file.write("mine")
        for path in (self.path, text):
            with open(path, "rb") as file:
                before = file.read(), glob.glob(path + "*")
            self.refuse(path, "it is another program's file: name another path, or move the file "
                        "away; it was left as it is")
            with open(path, "rb") as file:
                self.assertEqual((file.read(), glob.glob(path + "*")), before)


if __name__ == "__main__":
    flux.main()
