"""Many bridges at one broker that is restarted.

    tests/fleet/fleet.py BUILD_DIR [--sites N] [--spread SECONDS] [--down SECONDS] [--poll MS]

Every site is a bridge process of its own with a battery and two meters, device Wills, and a
spool in memory; the devices are tests/bench/fleet. Reads configuration by a template, as
etc/fleet.md has it. Prints how long it takes until 99 % of all sessions are there again,
the most CONNECTs that came within a second, and whether every sample arrived: live or as
backfill, each of every device, without a gap in its numbers. Exits 1 when one is missing.

No part of ctest: its figures are for a machine that does nothing else. A site takes 1.6 MiB.
Two cores, with the broker and this program on them, have carried 1000 sites (4000 sessions)
polled every 10 s: after a broker was away for 10 s 99 % were back after 32 s and all after
63 s with --spread 5, 572 CONNECTs within the worst second; after 55 s with --spread 60, 359.
"""

import argparse
import collections
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                                "integration"))
import paho.mqtt.client as mqtt  # noqa: E402
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402

import flux  # noqa: E402

TEMPLATE = """
site = "@site@";
mqtt: { url = "mqtt://127.0.0.1:@broker@"; reconnect_spread = "@spread@"; };
log: { level = "warning"; };
devices: {
  bess = ( { id = "b-@site@"; name = "Battery"; type = "powerpack"; poll = "@poll@";
             modbus: { host = "127.0.0.1"; port = @port1@; address = 1; timeout = "5s"; }; } );
  meters = ( { id = "m-@site@"; name = "Grid"; type = "powerpack"; poll = "@poll@";
               modbus: { host = "127.0.0.1"; port = @port2@; address = 1; timeout = "5s"; }; },
             { id = "n-@site@"; name = "PV"; type = "powerpack"; poll = "@poll@";
               modbus: { host = "127.0.0.1"; port = @port3@; address = 1; timeout = "5s"; }; } );
};
"""
PER_SITE = 4  # statuses, and sessions: the bridge's and its three devices'


class Watcher:
    """Sees every status and every sample; what it misses while it is away is kept for it."""

    def __init__(self, port):
        self.changed = threading.Condition()
        self.status, self.seqs = {}, collections.defaultdict(set)
        self.client = flux.mqtt_client("fleet-watcher", protocol=mqtt.MQTTv5)
        self.client.on_message = self._take
        self.client.on_connect = lambda client, *more: client.subscribe(
            [("flux/+/+/status", 1), ("flux/+/+/state", 1), ("flux/+/+/backfill", 1)])
        self.client.reconnect_delay_set(min_delay=1, max_delay=1)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self.client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self.client.loop_start()

    def _take(self, client, userdata, message):
        _, site, device, leaf = message.topic.split("/")
        with self.changed:
            if leaf == "status":
                self.status[site, device] = message.payload
            elif message.payload:
                seq = int(re.search(rb'"seq":(\d+)', message.payload).group(1))
                self.seqs[site, device].add(seq)
            self.changed.notify_all()

    def online(self):
        return sum(status == b"online" for status in self.status.values())

    def wait_online(self, count, timeout_s):
        flux.wait_on(self.changed, lambda: self.online() >= count, timeout_s,
                     lambda: "%d online, there are %d" % (count, self.online()))

    def missing(self):
        """Of all devices together: numbers between the first and the last that did not come."""
        with self.changed:
            return sum(max(seqs) - min(seqs) + 1 - len(seqs) for seqs in self.seqs.values())


class Fleet:
    def __init__(self, options):
        self.options = options
        self.directory = tempfile.mkdtemp(prefix="fluxbridge-fleet-")
        self.programs = []
        self.devices = subprocess.Popen(
            [os.path.join(options.build_dir, "tests", "bench", "fleet"),
             str(3 * options.sites), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        ports = re.findall(rb"\d+", self.devices.stdout.readline())
        self.ports = [int(port) for port in ports]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log = os.path.join(self.directory, "mosquitto.log")
        self.broker = None
        self.start_broker()

    def start_broker(self):
        path = os.path.join(self.directory, "mosquitto.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write("listener %d 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
                       "log_dest file %s\npersistence true\npersistence_location %s/\n"
                       "max_queued_messages 0\nmax_queued_bytes 0\n%s"
                       % (self.port, self.log, self.directory,
                          "user root\n" if os.getuid() == 0 else ""))
        self.broker = subprocess.Popen([shutil.which("mosquitto") or "/usr/sbin/mosquitto",
                                        "-c", path], stderr=subprocess.DEVNULL)
        self.wait_listening()

    def wait_listening(self):
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                rest(0.01)

    def stop_broker(self):
        self.broker.send_signal(signal.SIGTERM)
        self.broker.wait()

    def start_bridges(self):
        with open(os.path.join(self.directory, "fleet.inc"), "w", encoding="utf-8") as file:
            file.write(TEMPLATE)
        errors = open(os.path.join(self.directory, "bridges.log"), "ab")
        for i in range(self.options.sites):
            path = os.path.join(self.directory, "site%d.cfg" % i)
            values = {"site": "s%d" % i, "broker": self.port, "poll": "%dms" % self.options.poll,
                      "spread": "%gs" % self.options.spread}
            values.update(("port%d" % (k + 1), self.ports[3 * i + k]) for k in range(3))
            with open(path, "w", encoding="utf-8") as file:
                file.writelines('@let %s = "%s"\n' % value for value in values.items())
                file.write('@include "fleet.inc"\n')
            self.programs.append(subprocess.Popen(
                [os.path.join(self.options.build_dir, "fluxbridge"), "run", "-c", path],
                stderr=errors, stdin=subprocess.DEVNULL))
        errors.close()

    def sessions(self, start):
        """(second, client id) of all that connected, from that byte of the log on."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            file.seek(start)
            found = re.findall(r"^(\d+): New client connected from \S+ as (fluxbridge-\S+)",
                               file.read(), re.M)
        return [(int(second), client) for second, client in found]

    def wait_sessions(self, start, count, timeout_s):
        end = time.monotonic() + timeout_s
        while len({client for _, client in self.sessions(start)}) < count:
            if time.monotonic() > end:
                raise flux.Timeout("%d of %d sessions are back" % (
                    len({client for _, client in self.sessions(start)}), count))
            rest(0.1)  # a file tells nobody

    def close(self):
        for program in self.programs:
            program.send_signal(signal.SIGTERM)
        bad = sum(program.wait() != 0 for program in self.programs)
        self.stop_broker()
        self.devices.kill()
        self.devices.wait()
        shutil.rmtree(self.directory)
        return bad


def memory_mib(pids):
    total = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as file:
            total += int(re.search(r"Pss:\s+(\d+)", file.read()).group(1))
    return total / 1024


def run(options):
    fleet = Fleet(options)
    all_of_them = PER_SITE * options.sites
    try:
        watcher = Watcher(fleet.port)
        begun = time.monotonic()
        fleet.start_bridges()
        watcher.wait_online(all_of_them, 300)
        print("sites %d, statuses %d, online after %.1f s, %.1f MiB a site" % (
            options.sites, all_of_them, time.monotonic() - begun,
            memory_mib(p.pid for p in fleet.programs) / options.sites))
        fleet.stop_broker()
        ended = time.monotonic()
        rest(options.down - (time.monotonic() - ended))
        start = os.path.getsize(fleet.log)
        back = time.monotonic()
        fleet.start_broker()
        fleet.wait_sessions(start, int(0.99 * all_of_them), 600)
        at_99 = time.monotonic() - back
        fleet.wait_sessions(start, all_of_them, 600)
        at_all = time.monotonic() - back
        flux.wait_on(watcher.changed, lambda: watcher.missing() == 0, 300,
                     lambda: "%d samples" % watcher.missing())
        complete = time.monotonic() - back
        connects = collections.Counter(second for second, _ in fleet.sessions(start))
        print("broker away %.0f s, spread %g s: 99 %% back after %.1f s, all after %.1f s, every "
              "sample there after %.1f s" % (options.down, options.spread, at_99, at_all, complete))
        print("CONNECTs: %d, at most %d within a second" % (sum(connects.values()),
                                                            max(connects.values())))
        with watcher.changed:
            print("samples %d, missing 0" % sum(len(seqs) for seqs in watcher.seqs.values()))
        watcher.client.disconnect()
        watcher.client.loop_stop()
    finally:
        bad = fleet.close()
    print("bridges that did not end in order: %d" % bad)
    return bad == 0


def rest(seconds):
    threading.Event().wait(max(0, seconds))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir", type=os.path.abspath)
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--spread", type=float, default=5)
    parser.add_argument("--down", type=float, default=10)
    parser.add_argument("--poll", type=int, default=2000)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options = parser.parse_args()
    try:
        good = run(options)
    except flux.Timeout as timeout:
        print("FAILED: %s" % timeout)
        good = False
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
