"""How fast the spool drains, by hand:  drain.py BUILD_DIR [--samples N]

Fills a spool with samples of 50 devices as an outage leaves them, starts broker,
subscriber and daemon, and prints samples per second from the first backfill to
the last, the processor time of each program, and the daemon's memory.
"""

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
sys.dont_write_bytecode = True

import flux  # noqa: E402

DEVICES = 50
options = None


def usage(pid):
    """(seconds of processor time, most KiB of memory)"""
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rpartition(")")[2].split()
    with open("/proc/%d/status" % pid) as file:
        peak = re.search(r"VmHWM:\s+(\d+)", file.read())
    ticks = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / ticks, int(peak[1])


class Drain(flux.Test):
    def fill(self, path):
        start_ms = int(time.time() * 1000) - options.samples // DEVICES * 1000
        file = sqlite3.connect(path)
        file.execute("CREATE TABLE sample (id INTEGER PRIMARY KEY AUTOINCREMENT,"
                     " device TEXT NOT NULL, payload BLOB NOT NULL)")
        rows = (("Meter-%d" % (i % DEVICES), json.dumps({
            "ts": start_ms + i // DEVICES * 1000, "run": "5f3a9c1e", "seq": i // DEVICES + 1,
            "quality": "good", "data": {"voltage_l1_n": 230.5, "current_l1": 12.25,
                                        "active_power_total": 1500, "energy_import": i}}).encode())
            for i in range(options.samples))
        file.executemany("INSERT INTO sample (device, payload) VALUES (?, ?)", rows)
        file.commit()
        file.close()

    def test_drain(self):
        path = os.path.join(self.directory, "spool.db")
        self.fill(path)
        broker = self.broker()
        nobody = self.place()
        text = flux.config(
            broker, meters=[flux.meter(nobody, "Meter-%d" % i, address=i + 1, poll="1s")
                            for i in range(DEVICES)],
            mqtt={"device_wills": False}, spool={"path": path}, log={"level": "info"},
            audit={"path": os.path.join(self.directory, "audit.jsonl")})
        listener = subprocess.Popen(
            ["mosquitto_sub", "-p", str(broker.port), "-t", "flux/demo/+/backfill", "-q", "0",
             "-F", "x", "-C", str(options.samples)], stdout=subprocess.PIPE)
        self.addCleanup(listener.wait)
        self.addCleanup(listener.stdout.close)
        self.addCleanup(listener.kill)
        broker.program.wait_log("New client connected")
        bridge = self.bridge(text)
        bridge.wait_log("fluxbridge is up")
        os.read(listener.stdout.fileno(), 1)
        began = time.monotonic()
        cpu = [usage(p.process.pid)[0] for p in (bridge, broker.program)]
        flat = usage(bridge.process.pid)[1]
        while os.read(listener.stdout.fileno(), 65536):
            pass
        took = time.monotonic() - began
        cpu = [usage(p.process.pid)[0] - was
               for p, was in zip((bridge, broker.program), cpu)]
        print("\nsamples            %d of %d devices, in %.2f s\nsamples/s          %.0f\n"
              "processor          daemon %.2f s, broker %.2f s\n"
              "memory of daemon   %d KiB at first, at most %d KiB" % (
                  options.samples, DEVICES, took, options.samples / took, *cpu, flat,
                  usage(bridge.process.pid)[1]), flush=True)


def main():
    global options
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir")
    parser.add_argument("--samples", type=int, default=100_000)
    options = parser.parse_args()
    sys.argv[1:] = [options.build_dir]
    flux.main()


if __name__ == "__main__":
    main()
