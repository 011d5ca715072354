"""The broker's name takes as long to resolve as it likes.

The MQTT library resolves under its process-wide lock, so the thread that
publishes may be held up; Modbus, the setpoints' leases and the disk may not. A
preloaded getaddrinfo() tells the test that it was asked for the broker's name,
and answers when it is let.
"""

import fcntl
import os
import re
import signal
import urllib.request

import flux

DEVICES = ("Site-BESS-01", "Grid-Meter")
SOURCE = r"""
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
            RTLD_NEXT, "getaddrinfo");
    if (name && strcmp(name, "broker.test") == 0) {
        char byte = '?';
        int asked = open(getenv("DNS_ASKED"), O_RDWR | O_CLOEXEC);
        int answer = open(getenv("DNS_ANSWER"), O_RDONLY | O_CLOEXEC);
        if (write(asked, &byte, 1) != 1 || read(answer, &byte, 1) < 0)
            abort();
        close(asked);
        close(answer);
        name = "127.0.0.1";
    }
    return real(name, service, hints, result);
}
"""


class Resolver:
    """Who asks for the broker's name waits until it is answered."""

    def __init__(self, directory):
        self.env = {}
        self.ends = {}
        for name in ("DNS_ASKED", "DNS_ANSWER"):
            path = os.path.join(directory, name)
            os.mkfifo(path)
            self.env[name] = path
            self.ends[name] = os.open(path, os.O_RDWR)

    def wait_asked(self):
        os.read(self.ends["DNS_ASKED"], 1)

    def answer(self):
        """Those who wait, and all that ask later."""
        os.write(self.ends["DNS_ANSWER"], b"." * 4096)

    def fall_silent(self):
        """From now on nobody is answered."""
        for end in self.ends.values():
            flags = fcntl.fcntl(end, fcntl.F_GETFL)
            fcntl.fcntl(end, fcntl.F_SETFL, flags | os.O_NONBLOCK)
            try:
                while os.read(end, 4096):
                    pass
            except BlockingIOError:
                pass
            fcntl.fcntl(end, fcntl.F_SETFL, flags)

    def close(self):
        self.answer()
        for end in self.ends.values():
            os.close(end)


class SlowDns(flux.Test):
    def rig(self, control=None):
        self.resolver = Resolver(self.directory)
        self.env = {**self.preload(SOURCE), **self.resolver.env}
        self.addCleanup(self.resolver.close)
        self.battery, self.grid = flux.battery_unit(), flux.meter_unit()
        self.servers = [self.modbus({1: self.battery}), self.modbus({2: self.grid})]
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.port = self.place().port
        text = flux.config(
            self.mosquitto, [flux.battery(self.servers[0], poll="100ms", control=control)],
            [flux.meter(self.servers[1], poll="100ms")],
            mqtt={"url": "mqtt://broker.test:%d" % self.mosquitto.port, "keepalive": "1s"},
            spool={"path": os.path.join(self.directory, "spool.db")},
            http={"listen": "127.0.0.1:%d" % self.port})
        self.flux = self.bridge(text, self.env)
        self.addCleanup(self.resolver.answer)  # it ends all the same

    def page(self, path):
        with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.port, path)) as answer:
            return answer.read().decode()

    def polls_go_on(self):
        """Both links; and what they read goes to the disk."""
        for server, unit in zip(self.servers, (self.battery, self.grid)):
            server.wait(lambda u=unit, n=unit.requests: u.requests >= n + 20)
        wal = os.path.join(self.directory, "spool.db-wal")
        size = os.path.getsize(wal)
        self.servers[0].wait(lambda: os.path.getsize(wal) != size, what="a sample on disk")
        self.assertIn("ok", self.page("/healthz"))

    def check_whole(self, device, since):
        """No number is missing, and no value."""
        def told():
            return {m.json["seq"]: m.json for leaf in ("state", "backfill")
                    for m in self.mqtt.on("%s/%s" % (device, leaf))}

        def is_whole():
            live = self.mqtt.on(device + "/state", since=since)
            return live and set(range(1, live[-1].json["seq"])) <= set(told())

        flux.wait_on(self.mqtt.changed, is_whole, None, lambda: "all of %s" % sorted(told()))
        samples = told()
        self.assertEqual({s["quality"] for s in samples.values()}, {"good"})

    def test_at_the_start(self):
        self.rig()
        self.resolver.wait_asked()
        self.polls_go_on()
        self.resolver.answer()
        self.mqtt.wait_text("bridge/status", "online")
        for device in DEVICES:
            self.check_whole(device, 0)

    def test_at_a_reconnect(self):
        """The lease runs out meanwhile, and the fallback is written."""
        self.rig(control={"deadman": {"timeout": "2s", "value": 0.0}})
        self.resolver.answer()
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.assertEqual(self.mqtt.ask(50, "c-1")["outcome"], "confirmed")
        self.mqtt.wait("Grid-Meter/state")
        self.resolver.fall_silent()
        since, ready = self.mqtt.mark(), self.mqtt.ready
        self.mosquitto.stop()
        self.resolver.wait_asked()
        self.polls_go_on()
        self.servers[0].wait(lambda: self.battery.registers[2008] == 0, what="the fallback")
        self.mosquitto.start()
        flux.wait_on(self.mqtt.changed, lambda: self.mqtt.ready > ready, None,
                     "the test's own subscription")
        self.resolver.answer()
        self.mqtt.wait_text("bridge/status", "online", since=since)
        for device in DEVICES:
            self.check_whole(device, since)
        deadman = self.mqtt.wait("Site-BESS-01/result",
                                 lambda m: m.json.get("source") == "deadman").json
        self.assertEqual(deadman["outcome"], "confirmed")

    def test_a_stop_meanwhile(self):
        """It waits for the library, and the disk for both."""
        self.rig()
        self.resolver.wait_asked()
        self.polls_go_on()
        taken = int(re.search(r"samples_total (\d+)", self.page("/metrics"))[1])
        self.flux.signal(signal.SIGTERM)
        self.flux.wait_log("stopping")
        self.resolver.answer()
        self.assertEqual(self.flux.wait_end(), 0)
        run = re.search(r"is up .* run=(\w+)", self.flux.log())[1]
        self.flux = self.bridge(self.flux.text, self.env)
        self.flux.wait_log("is up")

        def old():
            """Some may have been sent before it had ended."""
            return [sorted({m.json["seq"] for leaf in ("state", "backfill")
                            for m in self.mqtt.on("%s/%s" % (device, leaf))
                            if m.json["run"] == run}) for device in DEVICES]

        flux.wait_on(self.mqtt.changed, lambda: sum(map(len, old())) >= taken, None,
                     lambda: "%d samples in %s" % (taken, old()))
        for numbers in old():
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)))


if __name__ == "__main__":
    flux.main()
