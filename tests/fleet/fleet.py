"""Many bridges at one broker that is restarted.

    tests/fleet/fleet.py BUILD_DIR [--sites N] [--spread SECONDS] [--down SECONDS] [--poll MS]
                             [--bridge PROGRAM]

Every site is a bridge process of its own with a battery and two meters, device Wills, and a
spool in memory; the devices are tests/bench/fleet. Reads configuration by a template, as
etc/fleet.md has it. Prints how long it takes until 99 % of all sessions are there again,
the most CONNECTs that came within a second, and whether every sample arrived: live or as
backfill, each of every device, without a gap in its numbers. Exits 1 when one is missing.

No part of ctest: its figures are for a machine that does nothing else; README.md has them. With
--bridge the sites run the fluxbridge of an older release, for comparison.
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
from sites import PER_SITE, Devices, Sites, rest  # noqa: E402


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
        self.devices = Devices(options.build_dir, options.sites)
        bridge = options.bridge or os.path.join(options.build_dir, "fluxbridge")
        self.sites = Sites(self.directory, bridge, plain=options.bridge is not None)
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
        self.sites.start(self.devices, self.options.sites, lambda i: {
            "broker": "127.0.0.1:%d" % self.port, "version": 5,
            "poll": "%dms" % self.options.poll, "spread": "%gs" % self.options.spread})

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
        bad = self.sites.stop()
        self.stop_broker()
        self.devices.close()
        shutil.rmtree(self.directory)
        return bad


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
            fleet.sites.memory_mib() / options.sites))
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir", type=os.path.abspath)
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--spread", type=float, default=5)
    parser.add_argument("--down", type=float, default=10)
    parser.add_argument("--poll", type=int, default=2000)
    parser.add_argument("--bridge", type=os.path.abspath, help="of an older release")
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
