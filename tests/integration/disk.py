"""A disk that hangs: no call to it returns. It holds up no stop, no outcome and no
sample, the bridge says so, and goes on by itself when it answers again."""

import json
import os
import queue
import socket
import threading
import urllib.error
import urllib.request

import flux

HANG = r"""
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

/* As long as there is a file of that name. */
static void hang(void)
{
    while (getenv("DISK_HANGS") != NULL && access(getenv("DISK_HANGS"), F_OK) == 0)
        usleep(10000);
}
"""

SOURCE = HANG + r"""
#include <stdio.h>
#include <string.h>

/* Or one file alone. */
static int is_meant(int fd)
{
    char link[64], path[512] = "";
    const char *name = getenv("DISK_HANGS_ON");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return name == NULL || (readlink(link, path, sizeof path - 1) > 0 && strstr(path, name) != NULL);
}

int fdatasync(int fd)
{
    if (is_meant(fd))
        hang();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int fsync(int fd)
{
    if (is_meant(fd))
        hang();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""


class Hanging(flux.Test):
    def rig(self, env=None):
        self.server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.switch = os.path.join(self.directory, "hangs")
        self.audit = os.path.join(self.directory, "audit.jsonl")
        self.port = self.place().port
        self.flux = self.bridge(
            flux.config(self.mosquitto, [flux.battery(self.server)], [flux.meter(self.server)],
                        audit={"path": self.audit},
                        spool={"path": os.path.join(self.directory, "spool.db")},
                        http={"listen": "127.0.0.1:%d" % self.port}),
            {**self.preload(SOURCE), "DISK_HANGS": self.switch, **(env or {})})
        self.mqtt.wait_text("Site-BESS-01/status", "online")

    def health(self):
        try:
            return urllib.request.urlopen("http://127.0.0.1:%d/healthz" % self.port).status
        except urllib.error.HTTPError as error:
            return error.code

    def wait_health(self, status):
        """Looked at with each message: it is a moment behind the log."""
        flux.wait_on(self.mqtt.changed, lambda: self.health() == status, None,
                     "/healthz to say %d" % status)

    def test_commands(self):
        self.rig()
        outcome = self.mqtt.ask(50, "before")
        self.assertEqual((outcome["outcome"], outcome.get("audited")), ("confirmed", None))
        open(self.switch, "w").close()
        outcome = self.mqtt.ask(60, "meanwhile")
        self.assertEqual((outcome["outcome"], outcome["audited"]), ("confirmed", False))
        self.flux.wait_log("error: the thread of the audit log has stopped moving")
        self.wait_health(503)
        outcome = self.mqtt.ask(70, "refused")
        self.assertEqual((outcome["reason"], outcome["audited"]), ("audit_unavailable", False))
        outcome = self.mqtt.ask(0, "stop")
        self.assertEqual((outcome["outcome"], outcome["audited"]), ("confirmed", False))
        self.assertEqual(self.server.units[1].registers[2008], 0)
        for device in ("Site-BESS-01", "Grid-Meter"):
            self.mqtt.wait_count(device + "/state", 3, since=self.mqtt.mark())

        os.unlink(self.switch)
        self.flux.wait_log("info: the thread of the audit log moves again")
        outcome = self.mqtt.ask(10, "after")
        self.assertEqual((outcome["outcome"], outcome.get("audited")), ("confirmed", None))
        self.wait_health(200)
        with open(self.audit) as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual([line["id"] for line in lines],
                         ["before", "meanwhile", "refused", "stop", "after"])

    def test_systemd_is_told_and_does_not_end_it(self):
        """A new start would find the same disk, and know less."""
        path = os.path.join(self.directory, "notify")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(path)
        words = queue.Queue()

        def listen():
            for word in iter(lambda: listener.recv(200), b"end"):
                words.put(word)

        listening = threading.Thread(target=listen)
        listening.start()
        self.addCleanup(listening.join)
        self.addCleanup(listener.sendto, b"end", path)
        self.rig({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})

        def wait_word(word):
            while words.get(timeout=flux.DEADLINE_S) != word:
                pass

        open(self.switch, "w").close()
        self.mqtt.command(50, "meanwhile")
        wait_word(b"STATUS=The disk does not answer: of setpoints only stops are written")
        for _ in range(5):
            wait_word(b"WATCHDOG=1")
        self.wait_health(503)
        self.mqtt.wait("bridge/health", lambda m: m.json["disk"] == "silent")
        since = self.mqtt.mark()
        os.unlink(self.switch)
        wait_word(b"STATUS=")
        self.wait_health(200)
        self.mqtt.wait("bridge/health", lambda m: m.json["disk"] == "good", since=since)

    def test_the_spool_s_alone(self):
        self.rig({"DISK_HANGS_ON": "/spool.db"})
        open(self.switch, "w").close()
        self.mosquitto.stop()
        self.flux.wait_log("the spooler has stopped moving", 60)
        self.mosquitto.start()
        self.wait_health(503)
        os.unlink(self.switch)
        self.flux.wait_log("the spooler moves again")
        self.wait_health(200)

    def test_the_end_does_not_wait(self):
        """It is orderly, and the outcome of the last command is told."""
        self.rig()
        open(self.switch, "w").close()
        self.mqtt.command(0, "last")
        self.flux.wait_log(r"command .* id=\"last\"")
        self.flux.signal(15)
        outcome = self.mqtt.wait("Site-BESS-01/result", lambda m: m.json["id"] == "last").json
        self.assertIs(outcome["audited"], False)
        self.mqtt.wait_text("bridge/status", "offline")
        os.unlink(self.switch)
        self.assertEqual(self.flux.wait_end(), 0)


if __name__ == "__main__":
    flux.main()
