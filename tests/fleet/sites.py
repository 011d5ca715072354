"""The sites of a fleet: a bridge process each, with a battery and two meters.

The devices are tests/bench/fleet. Configuration by a template, as etc/fleet.md has it; for a
release from before there were templates and mqtt.reconnect_spread (`plain`) each file is
written out whole, without the latter.
"""

import json
import os
import re
import signal
import subprocess
import threading

TEMPLATE = """
site = "@site@";
mqtt: { url = "mqtt://@broker@"; version = @version@;
        reconnect_spread = "@spread@"; };
log: { level = "warning"; };
audit: { path = "@directory@/audit-@site@.jsonl"; };
devices: {
  bess = ( { id = "b-@site@"; name = "Battery"; type = "powerpack"; poll = "@poll@";
             modbus: { host = "127.0.0.1"; port = @port1@; address = 1; timeout = "5s"; };
             control: { ready_status = [ 1 ]; min_kw = 0.0; max_kw = 30000.0;
                        positive_is = "discharge"; }; } );
  meters = ( { id = "m-@site@"; name = "Grid"; type = "powerpack"; poll = "@poll@";
               modbus: { host = "127.0.0.1"; port = @port2@; address = 1; timeout = "5s"; }; },
             { id = "n-@site@"; name = "PV"; type = "powerpack"; poll = "@poll@";
               modbus: { host = "127.0.0.1"; port = @port3@; address = 1; timeout = "5s"; }; } );
};
"""
DEVICES = ("Battery", "Grid", "PV")
PER_SITE = 4  # statuses, and sessions: the bridge's and its three devices'
TARGET = 2008  # a battery's setpoint


def rest(seconds):
    threading.Event().wait(max(0, seconds))


class Devices:
    """The simulator: three devices a site, numbered 3 × site, + 1, + 2."""

    def __init__(self, build_dir, sites):
        self.process = subprocess.Popen(
            [os.path.join(build_dir, "tests", "bench", "fleet"), str(3 * sites), "0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ports = [int(port) for port in re.findall(rb"\d+", self.process.stdout.readline())]

    def writes(self):
        """(site, value) of every setpoint that was written to a battery, in their order."""
        self.process.stdin.write(b"report 0\n")
        self.process.stdin.flush()
        report = json.loads(self.process.stdout.readline())
        return [(device // 3, value) for _, device, address, value in report["writes"]
                if address == TARGET]

    def close(self):
        self.process.kill()
        self.process.wait()


class Sites:
    def __init__(self, directory, bridge, plain=False):
        self.directory, self.bridge, self.plain = directory, bridge, plain
        self.programs = []
        with open(os.path.join(directory, "fleet.inc"), "w", encoding="utf-8") as file:
            file.write(TEMPLATE)

    def start(self, devices, count, values):
        """`values` of a site's number: what its template has at each @name@."""
        with open(os.path.join(self.directory, "bridges.log"), "ab") as errors:
            for i in range(count):
                path = self._write(i, {"site": "s%d" % i, "directory": self.directory,
                                       **{"port%d" % (k + 1): devices.ports[3 * i + k]
                                          for k in range(3)}, **values(i)})
                self.programs.append(subprocess.Popen(
                    [self.bridge, "run", "-c", path], stderr=errors, stdin=subprocess.DEVNULL))

    def ended(self):
        """How many have ended by themselves, such as for their configuration."""
        return sum(program.poll() is not None for program in self.programs)

    def _write(self, i, values):
        path = os.path.join(self.directory, "site%d.cfg" % i)
        with open(path, "w", encoding="utf-8") as file:
            if self.plain:
                old = TEMPLATE.replace('reconnect_spread = "@spread@";', "")
                file.write(re.sub("@(.*?)@", lambda name: str(values[name[1]]), old))
            else:
                file.writelines('@let %s = "%s"\n' % value for value in values.items())
                file.write('@include "fleet.inc"\n')
        return path

    def stop(self):
        """How many did not end in order."""
        for program in self.programs:
            program.send_signal(signal.SIGTERM)
        return sum(program.wait() != 0 for program in self.programs)

    def memory_mib(self):
        total = 0
        for program in self.programs:
            with open("/proc/%d/smaps_rollup" % program.pid, encoding="ascii") as file:
                total += int(re.search(r"Pss:\s+(\d+)", file.read()).group(1))
        return total / 1024
