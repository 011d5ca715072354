"""A thread that stands still: the log and health name it, and systemd ends the bridge; but not
for one that waits for nothing but a disk, for a new start would find the same disk."""

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request

import flux
from preloaded import REAL

# What a thread calls, and no other does, does not return as long as there is a file.
SOURCE = REAL + r"""
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static void hang(const char *name)
{
    while (getenv(name) != NULL && access(getenv(name), F_OK) == 0)
        usleep(10000);
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    hang("HTTP_HANGS");
    return REAL(int, "accept4", int, struct sockaddr *, socklen_t *, int)(fd, address, size, flags);
}

struct mosquitto;
int mosquitto_loop_misc(struct mosquitto *handle)
{
    hang("PRESENCE_HANGS");
    return REAL(int, "mosquitto_loop_misc", struct mosquitto *)(handle);
}

void MQTTAsync_destroy(void **handle)
{
    hang("FAREWELL_HANGS");
    REAL(void, "MQTTAsync_destroy", void **)(handle);
}

int MQTTAsync_sendMessage(void *handle, const char *topic, const void *message, void *options)
{
    hang("PUBLISHER_HANGS");
    return REAL(int, "MQTTAsync_sendMessage", void *, const char *, const void *, void *)(
        handle, topic, message, options);
}

void *json_loadb(const char *text, size_t size, size_t flags, void *error)
{
    hang("SUBSCRIBER_HANGS");
    return REAL(void *, "json_loadb", const char *, size_t, size_t, void *)(text, size, flags,
                                                                            error);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    if (size == 12) /* a request to read registers */
        hang("POLLER_HANGS");
    return REAL(ssize_t, "send", int, const void *, size_t, int)(fd, bytes, size, flags);
}

static void hang_at_disk(int fd)
{
    static const char *const files[][2] = {{"/spool.db", "SPOOLER_HANGS"},
                                           {"/state-demo.db", "STATE_HANGS"},
                                           {"/audit.jsonl", "AUDIT_HANGS"}};
    char link[40], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) <= 0)
        return;
    for (int i = 0; i < 3; i++)
        if (strstr(path, files[i][0]) != NULL)
            hang(files[i][1]);
}

int fdatasync(int fd)
{
    hang_at_disk(fd);
    return REAL(int, "fdatasync", int)(fd);
}

int fsync(int fd)
{
    hang_at_disk(fd);
    return REAL(int, "fsync", int)(fd);
}
"""
PERIOD_US = 400000


class Watchdog(flux.Test):
    def rig(self, name):
        """`name` of what is to hang: see hang()."""
        path = os.path.join(self.directory, "notify")
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.settimeout(flux.DEADLINE_S)
        self.addCleanup(self.systemd.close)
        self.systemd.bind(path)
        self.switch = os.path.join(self.directory, "hangs")
        self.port = self.place().port
        self.server = self.modbus({2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.flux = self.bridge(
            self.text("Grid-Meter"),
            {**self.preload(SOURCE), name: self.switch, "NOTIFY_SOCKET": path,
             "WATCHDOG_USEC": str(PERIOD_US)})
        self.addCleanup(lambda: os.path.exists(self.switch) and os.unlink(self.switch))
        self.mqtt.wait_text("Grid-Meter/status", "online")
        self.wait_fed()

    def text(self, name):
        return flux.config(self.mosquitto, [], [flux.meter(self.server, name)],
                           spool={"path": os.path.join(self.directory, "spool.db")},
                           audit={"path": os.path.join(self.directory, "audit.jsonl")},
                           http={"listen": "127.0.0.1:%d" % self.port})

    def health(self):
        try:
            return urllib.request.urlopen("http://127.0.0.1:%d/healthz" % self.port,
                                          timeout=flux.DEADLINE_S).status
        except urllib.error.HTTPError as error:
            return error.code

    def wait_health(self, status):
        """It is a moment behind the log."""
        end = time.monotonic() + flux.DEADLINE_S
        while self.health() != status:
            self.assertLess(time.monotonic(), end, "/healthz is not %d" % status)

    def ask_state(self):
        with urllib.request.urlopen("http://127.0.0.1:%d/api/state" % self.port,
                                    timeout=flux.DEADLINE_S) as answer:
            return json.load(answer)

    def last_error(self):
        return self.ask_state()["health"]["last_error"]

    def wait_fed(self):
        while self.systemd.recv(100) != b"WATCHDOG=1":
            pass

    def taken(self):
        """What has come from the bridge so far."""
        words = []
        self.systemd.setblocking(False)
        try:
            while True:
                words.append(self.systemd.recv(100))
        except BlockingIOError:
            pass
        self.systemd.settimeout(flux.DEADLINE_S)
        return words

    def go_on(self):
        """For several periods, by the polls, which go on."""
        n = self.server.units[2].requests
        self.server.wait(lambda: self.server.units[2].requests >= n + 40)

    def check_starves(self, words, last_error=None, go_on=None):
        """The thread stands still; then it does not. `last_error` asks health."""
        self.flux.wait_log("error: the %s has stopped moving" % words)
        self.taken()
        (go_on or self.go_on)()
        self.assertNotIn(b"WATCHDOG=1", self.taken())
        self.assertEqual((last_error or self.last_error)(), "the %s has stopped moving" % words)
        os.unlink(self.switch)
        self.flux.wait_log("info: the %s moves again" % words)
        self.wait_fed()
        self.wait_health(200)

    def test_http(self):
        self.rig("HTTP_HANGS")
        open(self.switch, "w").close()
        with socket.create_connection(("127.0.0.1", self.port)):  # there is something to do
            self.check_starves("thread of http", lambda: self.mqtt.wait(
                "bridge/health", lambda m: m.json["last_error"]).json["last_error"])

    def test_presence(self):
        self.rig("PRESENCE_HANGS")
        open(self.switch, "w").close()
        self.flux.wait_log("error: the thread of the devices' sessions has stopped moving")
        self.wait_health(503)
        # Not by MQTT: whoever has a word for a device's session waits for that thread.
        self.check_starves("thread of the devices' sessions")

    def test_publisher(self):
        self.rig("PUBLISHER_HANGS")
        open(self.switch, "w").close()
        # It may be kept for a minute, as by a slow name server.
        self.flux.wait_log("error: the publisher has stopped moving", 150)
        self.check_starves("publisher")

    def test_subscriber(self):
        self.rig("SUBSCRIBER_HANGS")
        open(self.switch, "w").close()
        self.mqtt.command(1, "s-1", device="Grid-Meter", point="frequency")
        self.check_starves("subscriber")

    def test_poller(self):
        self.rig("POLLER_HANGS")
        open(self.switch, "w").close()
        self.flux.wait_log("error: the poller of")
        since = self.mqtt.mark()
        self.check_starves("poller of 127.0.0.1:%d" % self.server.port, go_on=lambda:
                           self.mqtt.wait_count("bridge/health", 2, 60, since=since))

    def check_fed_on(self, words):
        """It waits for its disk; then it does not."""
        self.flux.wait_log("error: the %s has stopped moving" % words)
        self.taken()
        self.wait_health(503)
        for _ in range(5):
            self.wait_fed()
        self.mosquitto.thaw()
        self.mqtt.wait("bridge/health", lambda m: m.json["disk"] == "silent")
        since = self.mqtt.mark()
        os.unlink(self.switch)
        self.flux.wait_log("info: the %s moves again" % words)
        self.wait_health(200)
        self.mqtt.wait("bridge/health", lambda m: m.json["disk"] == "good", since=since)

    def test_reload_that_ends_the_sessions(self):
        """The broker, or the library, takes its time over the farewell."""
        self.rig("FAREWELL_HANGS")
        open(self.switch, "w").close()
        flux.write_whole(self.flux.config, self.text("Grid-Meter").replace('"demo"', '"other"'))
        since, mark = self.mqtt.mark(), self.flux.mark()
        self.flux.signal(signal.SIGHUP)
        self.mqtt.wait_text("bridge/status", "offline", since=since)
        self.taken()
        for _ in range(5):
            self.wait_fed()
        os.unlink(self.switch)
        self.flux.wait_log("info: reloaded", since=mark)

    def test_spooler(self):
        self.rig("SPOOLER_HANGS")
        open(self.switch, "w").close()
        self.mosquitto.freeze()  # what is taken now waits, and goes to disk
        self.check_fed_on("spooler")

    def test_state(self):
        self.rig("STATE_HANGS")
        open(self.switch, "w").close()
        self.mosquitto.freeze()  # and so is noted
        self.check_fed_on("thread of the state file")

    def test_audit(self):
        self.rig("AUDIT_HANGS")
        open(self.switch, "w").close()
        self.mqtt.command(1, "a-1", device="Grid-Meter", point="frequency")
        self.check_fed_on("thread of the audit log")

    def test_a_reload_that_waits(self):
        """Main has no time for its watch then, and systemd none for its reasons."""
        self.rig("SPOOLER_HANGS")
        open(self.switch, "w").close()
        self.mosquitto.freeze()
        self.flux.wait_log("error: the spooler has stopped moving")
        flux.write_whole(self.flux.config, self.text("Load"))
        self.flux.signal(signal.SIGHUP)
        self.taken()
        self.flux.wait_log("the configuration is not taken over: the disk of the spool does not")
        # Before and behind it there may be one each, in 5 s 25 others.
        self.assertGreater(self.taken().count(b"WATCHDOG=1"), 3)


if __name__ == "__main__":
    flux.main()
