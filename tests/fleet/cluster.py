"""Many bridges at a cluster of three brokers whose nodes end and whose cables are pulled.

    tests/fleet/cluster.py BUILD_DIR rabbitmq|nats [SCENARIO ...] [--sites N] [--down SECONDS]

A historian counts every sample, a dispatcher sends setpoints all the time. After each scenario
it prints how long until 99 % of the sites are back, and the most CONNECTs within a second; at
the end what has become of the samples and commands. Exits 1 when a sample is missing, a
setpoint was written twice, or a command has no outcome or two. README.md has what came of it.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                                "integration"))
import flux  # noqa: E402
from nodes import NODES, PORT, Nats, Network, Rabbit, cluster_name, enter  # noqa: E402
from people import Dispatcher, Historian, judge  # noqa: E402
from sites import Devices, Sites, rest  # noqa: E402
from wire import Wire  # noqa: E402

PATIENCE_S = 600


def restart_all(rig):
    rig.cluster.stop()
    rig.away()
    rig.cluster.start()
    rig.healed()
    rig.cluster.wait()


def kill_all(rig):
    rig.cluster.kill(*NODES)
    rig.away()
    rig.cluster.start()
    rig.healed()
    rig.cluster.wait()


def kill_one(rig):
    rig.cluster.kill(1)
    rig.back()
    rig.cluster.start(1)
    rig.cluster.wait(1)


def kill_two(rig):
    rig.cluster.kill(1, 2)
    rig.away()
    rig.cluster.start(1, 2)
    rig.healed()
    rig.cluster.wait(1, 2)


def cut_front(rig):
    """Between the sites and a node; the cluster is whole."""
    rig.network.pull("front", 2)
    rig.back()
    rig.network.plug("front", 2)


def cut_back(rig):
    """Between a node and the others; the sites reach all three."""
    rig.network.pull("back", 3)
    rig.back()
    rig.network.plug("back", 3)
    rig.cluster.wait(3)


def cut_all(rig):
    """Between the sites and all nodes."""
    for node in NODES:
        rig.network.pull("front", node)
    rig.away()
    for node in NODES:
        rig.network.plug("front", node)
    rig.healed()


SCENARIOS = {scenario.__name__: scenario for scenario in (
    restart_all, kill_one, kill_two, cut_front, cut_back, cut_all, kill_all)}


class Rig:
    def __init__(self, options):
        self.options = options
        self.directory = tempfile.mkdtemp(prefix="fluxbridge-fleet-")
        self.network = Network(self.directory)
        self.cluster = {"rabbitmq": Rabbit, "nats": Nats}[options.broker](self.directory)
        self.devices = Devices(options.build_dir, options.sites)
        self.sites = Sites(self.directory, os.path.join(options.build_dir, "fluxbridge"))
        self.wire = Wire()
        self.historian = self.dispatcher = self.since = None

    def start(self):
        begun = time.monotonic()
        self.cluster.found()
        print("%s: three nodes after %.0f s" % (self.cluster.NAME, time.monotonic() - begun))
        self.historian = Historian()
        if not self.historian.seat.seated.wait(PATIENCE_S):
            raise flux.Timeout("no historian")
        self.historian.mark()
        begun = time.monotonic()
        self.sites.start(self.devices, self.options.sites, lambda i: {
            "broker": "%s:%d" % (cluster_name(i % 3), PORT), "version": 4,
            "poll": "%dms" % self.options.poll, "spread": "%gs" % self.options.spread})
        rest(3)
        if self.sites.ended():
            raise flux.Timeout("%d bridges have ended: see bridges.log" % self.sites.ended())
        self.historian.wait_back(self.options.sites, PATIENCE_S)
        print("%d sites, all there after %.0f s, %.1f MiB each" % (
            self.options.sites, time.monotonic() - begun,
            self.sites.memory_mib() / self.options.sites), flush=True)
        self.dispatcher = Dispatcher(self.historian, self.options.sites, self.options.command)

    def run(self, name):
        self.historian.mark()
        self.since = began = time.monotonic()
        self.from_fault = True
        SCENARIOS[name](self)
        self.back()
        n, most, refused = self.wire.since(began)
        flux.wait_on(self.historian.changed, lambda: not self.historian.missing(), PATIENCE_S,
                     lambda: "samples: %s" % self.words_of_missing())
        print("  %-11s 99 %% back %5.1f s, all %5.1f s after %s; CONNECTs %d, refused %d, at "
              "most %d a second; every sample there %.1f s after the fault" % (
                  name, self.at_99 - self.since, self.at_all - self.since,
                  "the fault" if self.from_fault else "the end of it", n, refused, most,
                  time.monotonic() - began), flush=True)

    def away(self):
        rest(self.options.down)

    def healed(self):
        """The trouble is over: from now on it counts."""
        self.historian.mark()
        self.since = time.monotonic()
        self.from_fault = False

    def back(self):
        """Waits until the sites are back."""
        self.at_99 = self.historian.wait_back(int(0.99 * self.options.sites), PATIENCE_S)
        self.at_all = self.historian.wait_back(self.options.sites, PATIENCE_S)

    def words_of_missing(self):
        missing = self.historian.missing()
        return "%d of %d, such as %s" % (sum(missing.values()), self.historian.count(),
                                         sorted(missing.items())[:5])

    def verdict(self):
        self.dispatcher.finish(PATIENCE_S)
        with self.historian.changed:
            wrong, ends = judge(self.dispatcher.sent, self.historian.outcomes,
                                self.devices.writes())
        print("samples %d, lost %d; commands %d (sent %d times), wrong %d: %s" % (
            self.historian.count(), sum(self.historian.missing().values()),
            len(self.dispatcher.sent), self.dispatcher.n_sent, len(wrong),
            ", ".join("%s%s %d" % (end, " (%s)" % reason if reason else "", n)
                      for (end, reason), n in sorted(ends.items(), key=str))))
        for line in wrong[:20]:
            print("  " + line)
        return not wrong and not self.historian.missing()

    def close(self, keep):
        bad = self.sites.stop()
        print("bridges that did not end in order: %d" % bad)
        if self.historian is not None:
            self.historian.seat.close()
        self.cluster.kill(*self.cluster.processes)
        self.devices.close()
        if keep:
            print("kept: %s" % self.directory)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
        return bad == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir", type=os.path.abspath)
    parser.add_argument("broker", choices=("rabbitmq", "nats"))
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], default=[])
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--spread", type=float, default=5)
    parser.add_argument("--down", type=float, default=10)
    parser.add_argument("--poll", type=int, default=2000)
    parser.add_argument("--command", type=float, default=5, help="seconds between two of a site")
    parser.add_argument("--keep", action="store_true", help="the directory with all logs")
    options = parser.parse_args()
    enter()
    sys.stdout.reconfigure(line_buffering=True)
    rig = Rig(options)
    good = False
    try:
        rig.start()
        for name in options.scenarios or SCENARIOS:
            rig.run(name)
        good = rig.verdict()
    except (flux.Timeout, TimeoutError) as timeout:
        print("FAILED: %s" % timeout)
    finally:
        good = rig.close(options.keep or not good) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
