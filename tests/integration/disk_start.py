"""A start on a disk that hangs before anything of it was read: the bridge polls, publishes
and takes stops, and what the disk has is taken over when it answers."""

import os
import signal
import urllib.error
import urllib.request

import flux
from disk import SOURCE
from flux import RESULT, TARGET

# Nothing in that directory can be looked at.
LOOKS = r"""
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static void hang_at(const char *path)
{
    if (getenv("DISK") != NULL && strncmp(path, getenv("DISK"), strlen(getenv("DISK"))) == 0)
        hang();
}

#define OPENS(name)                                                                         \
    int name(const char *path, int flags, ...)                                              \
    {                                                                                       \
        va_list rest;                                                                       \
        va_start(rest, flags);                                                              \
        const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                     \
        va_end(rest);                                                                       \
        hang_at(path);                                                                      \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define LOOKS(name, type)                                                                   \
    int name(const char *path, type argument)                                               \
    {                                                                                       \
        hang_at(path);                                                                      \
        return ((int (*)(const char *, type))dlsym(RTLD_NEXT, #name))(path, argument);      \
    }
LOOKS(access, int)
LOOKS(stat, struct stat *)
LOOKS(stat64, struct stat64 *)
LOOKS(lstat, struct stat *)
LOOKS(lstat64, struct stat64 *)
LOOKS(statvfs, struct statvfs *)
LOOKS(statvfs64, struct statvfs64 *)
LOOKS(mkdir, mode_t)

FILE *fopen(const char *path, const char *mode)
{
    hang_at(path);
    return ((FILE * (*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen"))(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    hang_at(path);
    return ((FILE * (*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen64"))(path, mode);
}
"""
NOTHING = SOURCE + LOOKS


class Start(flux.BatteryTest):
    def rig(self, **more):
        self.switch = os.path.join(self.directory, "hangs")
        self.disk = os.path.join(self.directory, "disk")
        os.mkdir(self.disk)
        self.port = self.place().port
        env = {**self.preload(NOTHING), "DISK_HANGS": self.switch, "DISK": self.disk}
        super().rig(env=env, spool={"path": os.path.join(self.disk, "spool.db")},
                    http={"listen": "127.0.0.1:%d" % self.port},
                    audit=os.path.join(self.disk, "audit.jsonl"), **more)

    def health(self):
        try:
            return urllib.request.urlopen("http://127.0.0.1:%d/healthz" % self.port).status
        except urllib.error.HTTPError as error:
            return error.code

    def hang_and_start(self):
        open(self.switch, "w").close()
        self.since = self.mqtt.mark()
        self.start()
        self.mqtt.wait_count("Site-BESS-01/state", 3, since=self.since)

    def refused(self, id):
        outcome = self.mqtt.ask(60, id)
        self.check(outcome, "refused", "audit_unavailable", audited=False)

    def go_on(self):
        os.unlink(self.switch)
        self.flux.wait_log("info: the thread of the audit log moves again")

    def test_stops_only(self):
        """And nothing is lost of what is taken meanwhile; what was before is known after."""
        self.rig()
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.flux.kill()
        self.unit.registers[TARGET] = 50
        self.hang_and_start()
        self.flux.wait_log("error: the thread of the audit log has stopped moving")
        self.flux.wait_log("error: the thread of the state file has stopped moving")
        self.assertEqual(self.health(), 503)
        self.mqtt.wait("bridge/health", lambda m: m.json["disk"] == "silent", since=self.since)
        self.refused("meanwhile")
        self.check(self.mqtt.ask(0, "stop"), "confirmed", audited=False, readback=0)
        self.assertEqual(self.unit.registers[TARGET], 0)

        self.go_on()
        self.check(self.mqtt.ask(10, "after"), "confirmed", audited=None)
        self.assertEqual(self.health(), 200)
        self.assertEqual([line["id"] for line in self.lines()],
                         ["first", "meanwhile", "stop", "after"])
        writes = len(self.unit.writes)
        self.mqtt.command(50, "first")
        again = self.mqtt.outcome("first", since=self.since)
        self.assertTrue(again.get("duplicate"), again)
        self.assertEqual(len(self.unit.writes), writes)

    def test_samples_are_spooled_after(self):
        """Those of an earlier run are sent, and none of this one is missing."""
        self.rig()
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker")
        requests = self.unit.requests
        self.server.wait(lambda: self.unit.requests > requests + 10)
        self.flux.stop()
        self.mosquitto.start()
        self.hang_and_start()
        self.go_on()
        self.mqtt.wait("Site-BESS-01/backfill", lambda m: True, since=self.since)
        live = self.mqtt.wait("Site-BESS-01/state", since=self.mqtt.mark()).json
        told = {m.json["seq"] for m in self.mqtt.messages
                if m.topic.endswith(("/state", "/backfill")) and m.json["run"] == live["run"]}
        self.assertEqual(told, set(range(1, live["seq"] + 1)))

    def test_a_remembered_stop(self):
        self.rig()
        self.check(self.mqtt.ask(50, "first"), "confirmed")
        self.unit.write_exceptions[TARGET] = 6
        self.check(self.mqtt.ask(0, "stop"), "failed", "busy")
        self.flux.kill()
        self.unit.write_exceptions.clear()
        self.unit.registers[TARGET] = 50
        self.hang_and_start()
        self.refused("meanwhile")
        self.assertEqual(self.unit.registers[TARGET], 50)
        self.go_on()
        settled = self.mqtt.wait(RESULT, lambda m: m.json["id"] == "stop" and
                                 m.json.get("correction"), since=self.since).json
        self.check(settled, "confirmed", readback=0)
        self.assertEqual(self.unit.registers[TARGET], 0)

    def test_a_schedule(self):
        """It goes on, and one that is older is not taken in between."""
        self.rig()
        now = flux.utc_ms()
        offer = {"id": "day", "revision": 7, "valid_until": now + 3600000,
                 "entries": [{"start": now - 1000, "end": now + 3600000, "value": 50}]}
        self.mqtt.publish("Site-BESS-01/schedule/set", offer)
        self.server.wait(lambda: self.written() == [50])
        self.mqtt.wait("Site-BESS-01/schedule", lambda m: m.json["state"] == "running" and
                       m.json["current"])
        self.flux.kill()
        self.unit.registers[TARGET] = 20
        self.hang_and_start()
        self.mqtt.publish("Site-BESS-01/schedule/set", {**offer, "revision": 6})
        outcome = self.mqtt.wait(RESULT, lambda m: m.json["point"] == "schedule",
                                 since=self.since).json
        self.check(outcome, "refused", "audit_unavailable")
        self.assertEqual(self.written(), [50])
        self.go_on()
        stands = self.mqtt.wait("Site-BESS-01/schedule", lambda m: m.json["state"] == "running",
                                since=self.since).json
        self.assertEqual(stands["revision"], 7)

    def test_a_hangup_meanwhile(self):
        """Is refused, and holds up neither samples nor stops; the next one is taken over."""
        self.rig()
        self.flux.stop()
        self.hang_and_start()
        other = flux.battery(self.server, "Site-BESS-02", address=2)
        self.server.units[2] = flux.battery_unit()
        text = flux.config(self.mosquitto, [flux.battery(self.server), other],
                           audit={"path": self.audit},
                           spool={"path": os.path.join(self.disk, "spool.db")},
                           http={"listen": "127.0.0.1:%d" % self.port})
        flux.write_whole(self.flux.config, text)
        self.flux.signal(signal.SIGHUP)
        self.flux.wait_log("warning: the configuration is not taken over: the disk of the spool "
                           "does not answer")
        self.check(self.mqtt.ask(0, "stop"), "confirmed", audited=False)
        self.mqtt.wait_count("Site-BESS-01/state", 3, since=self.mqtt.mark())
        self.go_on()
        self.flux.signal(signal.SIGHUP)
        self.flux.wait_log("info: reloaded")
        self.mqtt.wait_text("Site-BESS-02/status", "online")


if __name__ == "__main__":
    flux.main()
