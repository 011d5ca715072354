"""Nobody gives the bridge what it asks for: memory, descriptors, somebody who takes its log.

It may end, with a word and a code that lets systemd start it again; or it goes on with what
it has, and is whole by itself when there is enough again. What it may not do is to write what
nobody asked for, to say what is not so, or to stand still.
"""

import http.client
import json
import os
import random
import resource
import signal
import socket
import subprocess
import time

import flux
from preloaded import OPENS, REAL

DEVICES = ("Site-BESS-01", "Grid-Meter")
POINTS = {"Site-BESS-01": {"status", "status_code", "target_power", "command_source", "soe",
                           "available_blocks"},
          "Grid-Meter": {"voltage_l1_n", "current_l1", "active_power_total", "energy_import"}}
STATE = "/state"


class Rig(flux.Test):
    """A bridge with all that has a file, a socket or a thread of its own."""

    def rig(self, env=None, **more):
        self.unit = flux.battery_unit()
        self.server = self.modbus({1: self.unit})
        self.meters = self.modbus({2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.port = self.place().port
        self.audit = os.path.join(self.directory, "audit.jsonl")
        self.text = flux.config(
            self.mosquitto, [flux.battery(self.server)], [flux.meter(self.meters)],
            audit={"path": self.audit}, spool={"path": os.path.join(self.directory, "spool.db")},
            home_assistant={"enabled": True}, http={"listen": "127.0.0.1:%d" % self.port}, **more)

    def start(self, env=None):
        since = self.mqtt.mark()
        self.flux = self.bridge(self.text, env)
        self.wait_whole(since)

    def wait_whole(self, since, timeout_s=None):
        """Each device is online, and samples of it come from then on."""
        for device in DEVICES:
            flux.wait_on(self.mqtt.changed,
                         lambda d=device: [m.text for m in self.mqtt.on(d + "/status")][-1:] ==
                         ["online"], timeout_s,
                         lambda d=device: "%s to be online:\n%s" % (d, self.flux.log()))
            self.mqtt.wait(device + STATE, lambda m: m.payload and m.json["quality"] == "good",
                           timeout_s, since)

    def samples(self, since=0):
        """device -> seq -> body, state and backfill."""
        found = {device: {} for device in DEVICES}
        for device in DEVICES:
            for kind in (STATE, "/backfill"):
                for message in self.mqtt.on(device + kind, since):
                    if message.payload:
                        found[device][message.json["seq"]] = message.json
        return found

    def ask_health(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=flux.DEADLINE_S)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):  # it has ended, or had no memory
            return None
        finally:
            connection.close()

    def setpoints(self):
        with self.server.changed:
            return [w.values[0] for w in self.unit.writes if w.address == 2008]


class Log(Rig):
    """Who reads its log stops doing so, or has never begun."""

    def check_stuck(self, ours, theirs, env):
        """`theirs` becomes its stderr; not one byte more fits into it."""
        theirs.setblocking(False)
        try:
            while theirs.send(b"."):
                pass
        except BlockingIOError:
            pass
        theirs.setblocking(True)
        self.rig()
        path = os.path.join(self.directory, "stuck.cfg")
        with open(path, "w") as file:
            file.write(self.text)
        program = subprocess.Popen([flux.program("fluxbridge"), "run", "-c", path],
                                   env=dict(os.environ, **env), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=theirs)
        theirs.close()
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)
        self.wait_whole(0)
        self.assertEqual(self.mqtt.ask(50, "c-1")["outcome"], "confirmed")
        self.server.stop()  # there is something to say
        self.mqtt.wait_text("Site-BESS-01/status", "offline")
        self.server.start()
        self.mosquitto.stop()
        self.mosquitto.start()
        self.wait_whole(self.mqtt.mark(), 60)
        self.assertEqual(self.ask_health(), 200)
        program.send_signal(signal.SIGTERM)
        self.assertEqual(program.wait(flux.DEADLINE_S), 0)
        self.mqtt.wait_text("bridge/status", "offline")
        said = b""
        while data := ours.recv(1 << 16):
            said += data
        ours.close()
        return said.lstrip(b".").decode()

    def test_somebody_who_does_not_read(self):
        ours, theirs = socket.socketpair()
        said = self.check_stuck(ours, theirs, {})
        self.assertEqual(said, "")

    def test_a_journal_that_is_stuck(self):
        ours, theirs = socket.socketpair()
        status = os.fstat(theirs.fileno())
        said = self.check_stuck(
            ours, theirs, {"JOURNAL_STREAM": "%d:%d" % (status.st_dev, status.st_ino)})
        self.assertEqual(said, "")


class Descriptors(Rig):
    def limit(self, most):
        """From now on there are so many; those that it has it keeps."""
        resource.prlimit(self.flux.process.pid, resource.RLIMIT_NOFILE, (most, self.hard))

    def take(self):
        """Not one is to be had, and one that is given back is gone. poll() takes no more
        sockets than there may be descriptors, and the bridge has two at a time."""
        pid = self.flux.process.pid
        self.hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        self.limit(4)

    def test_all_used_up(self):
        path = os.path.join(self.directory, "notify")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.settimeout(flux.DEADLINE_S)
        self.addCleanup(listener.close)
        listener.bind(path)
        self.rig()
        self.start({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
        self.assertEqual(self.mqtt.ask(50, "before")["outcome"], "confirmed")
        self.take()
        # What is open stays so.
        outcome = self.mqtt.ask(60, "meanwhile")
        self.assertEqual((outcome["outcome"], outcome.get("audited")), ("confirmed", None))
        waiting = socket.create_connection(("127.0.0.1", self.port))  # nobody takes it
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        self.addCleanup(waiting.close)

        # A device that is lost stays lost, and that is said.
        since = self.mqtt.mark()
        self.server.stop()
        self.server.start()
        self.mqtt.wait_text("Site-BESS-01/status", "offline", since=since)
        sample = self.mqtt.wait("Site-BESS-01" + STATE, lambda m: m.json["quality"] == "bad",
                                since=since).json
        self.assertEqual(set(sample["errors"].values()), {"connection"})
        self.assertEqual(self.mqtt.ask(70, "refused")["reason"], "device_offline")
        self.assertEqual(self.mqtt.ask(0, "stop")["outcome"], "unknown")
        self.mqtt.wait_count("Grid-Meter" + STATE, 3, since=self.mqtt.mark())
        # So does the broker; systemd hears that it is alive.
        self.mosquitto.stop()
        self.mosquitto.start()
        self.flux.wait_log("no session with the broker: .*Too many open files")
        n = self.meters.units[2].requests
        self.meters.wait(lambda: self.meters.units[2].requests >= n + 40)
        while listener.recv(100) != b"READY=1":
            pass
        listener.setblocking(False)
        try:
            while listener.recv(100):  # what has come so far
                pass
        except BlockingIOError:
            pass
        listener.settimeout(flux.DEADLINE_S)
        for _ in range(3):
            self.assertEqual(listener.recv(100), b"WATCHDOG=1")
        since = self.mqtt.mark()
        self.limit(self.hard)
        # All is well by itself, and nothing is missing.
        self.wait_whole(since, 100)
        self.server.wait(lambda: self.setpoints()[-1] == 0)
        self.assertEqual(self.setpoints()[:2], [50, 60])
        self.assertEqual(set(self.setpoints()[2:]), {0})
        self.assertEqual(self.mqtt.ask(10, "after")["outcome"], "confirmed")
        answer = waiting.recv(1 << 16)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        self.assertEqual(self.ask_health(), 200)
        last = {device: self.mqtt.wait_count(device + STATE, 3, since=self.mqtt.mark())[-1].json
                for device in DEVICES}
        for device in DEVICES:
            wanted = set(range(1, last[device]["seq"] + 1))
            flux.wait_on(self.mqtt.changed,
                         lambda: wanted <= set(self.samples()[device]), 60,
                         lambda: "%s: %s" % (device, sorted(wanted - set(self.samples()[device]))))
        with open(self.audit) as file:
            ids = [json.loads(line)["id"] for line in file]
        self.assertEqual([i for i in ids if i in ("before", "meanwhile", "refused", "after")],
                         ["before", "meanwhile", "refused", "after"])
        health = self.mqtt.wait("bridge/health", since=self.mqtt.mark()).json
        self.assertEqual((health["drops"], health["set_aside"]), (0, 0))

    def test_none_of_the_first_three(self):
        """Started without stdin, stdout and stderr: nothing else gets their numbers. A battery
        with that of stderr would be sent what is logged."""
        self.rig()
        since = self.mqtt.mark()
        self.flux = flux.Bridge(self.text, self.directory, before=(
            "sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-'))
        self.addCleanup(self.flux.stop)
        self.wait_whole(since)
        for number in range(3):
            self.assertEqual(os.readlink("/proc/%d/fd/%d" % (self.flux.process.pid, number)), "/")
        self.assertEqual(self.mqtt.ask(50, "c-1")["outcome"], "confirmed")
        self.assertEqual(self.setpoints(), [50])

    def test_none_for_the_configuration(self):
        """Of the whole machine: that may be better at the next start, for which code 1 is."""
        self.rig()
        path = os.path.join(self.directory, "none.cfg")
        with open(path, "w") as file:
            file.write(self.text)
        done = subprocess.run(
            [flux.program("fluxbridge"), "run", "-c", path],
            env=dict(os.environ, **self.preload(NONE_LEFT)), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            timeout=4 * flux.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("none.cfg:1: ", done.stderr)
        self.assertIn("Too many open files in system", done.stderr)

    def test_few_at_the_start(self):
        """It ends with a word, and not as if the configuration were wrong; or has enough."""
        self.rig()
        path = os.path.join(self.directory, "few.cfg")
        with open(path, "w") as file:
            file.write(self.text)
        env = self.preload(ENDS_WHEN_UP)
        most, code, ends = 4, 1, 0
        while code:
            done = subprocess.run(
                [flux.program("fluxbridge"), "run", "-c", path], env=dict(os.environ, **env),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, timeout=4 * flux.DEADLINE_S, check=False,
                preexec_fn=lambda n=most: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)))
            code = done.returncode
            with self.subTest(descriptors=most):
                self.assertIn(code, (0, 1), done.stderr)
                if code:
                    self.assertRegex(done.stderr, "open files|descriptors|cannot|too large|shared")
                    ends += 1
            most += 1
        print("descriptors: %d are enough" % (most - 1))
        self.assertGreater(ends, 5)
        self.assertEqual(self.setpoints(), [])


# No descriptor for a configuration.
NONE_LEFT = r"""
#include <errno.h>
#include <string.h>
#include <sys/types.h>

static int opened(const char *name, const char *path, int flags, mode_t mode);
""" + OPENS + REAL + r"""
static int opened(const char *name, const char *path, int flags, mode_t mode)
{
    const size_t size = strlen(path);
    if (size < 4 || strcmp(path + size - 4, ".cfg") != 0)
        return REAL(int, name, const char *, int, mode_t)(path, flags, mode);
    errno = ENFILE;
    return -1;
}
"""

# Once it is up, the program waits for signals; it gets one.
ENDS_WHEN_UP = r"""
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    kill(getpid(), SIGTERM);
    return (int)syscall(SYS_rt_sigtimedwait, set, info, timeout, (size_t)8);
}
"""

# From SIGUSR2 to SIGALRM one allocation of so many fails, by chance and the seed.
FAILS = r"""
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

static atomic_ulong calls;
static atomic_long one_of; /* 0 = none fails */
static long wanted, seed;

static void turn(int number)
{
    atomic_store(&one_of, number == SIGUSR2 ? wanted : 0);
}

__attribute__((constructor)) static void begin(void)
{
    wanted = atol(getenv("FAIL_ONE_OF"));
    seed = atol(getenv("FAIL_SEED"));
    signal(SIGALRM, turn);
    signal(SIGUSR2, turn);
}

static int fails(void)
{
    const long n = atomic_load(&one_of);
    if (n == 0)
        return 0;
    unsigned long x = (atomic_fetch_add(&calls, 1) + 1) * 0x9e3779b97f4a7c15UL + (unsigned long)seed;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9UL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebUL;
    if ((x ^ (x >> 31)) % (unsigned long)n != 0)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { return fails() ? NULL : __libc_realloc(old, size); }
"""

OUTCOME = {"id", "device", "point", "value", "outcome", "ts", "latency_ms"}
HEALTH = {"ts", "uptime_s", "samples", "drops", "commands", "schedules", "last_error", "log_lost"}


# No thread but the first gets another one, as long as there is that file.
NO_THREADS = r"""
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
""" + REAL + r"""
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    if (gettid() != getpid() && access(getenv("NO_THREADS"), F_OK) == 0)
        return EAGAIN;
    return REAL(int, "pthread_create", pthread_t *, const pthread_attr_t *, void *(*)(void *),
                void *)(thread, attributes, run, argument);
}
"""


class Threads(Rig):
    def test_none_for_the_session(self):
        """All have begun but those of the MQTT library: it is told, and tried again."""
        none_left = os.path.join(self.directory, "none-left")
        with open(none_left, "w"):
            pass
        self.rig()
        self.flux = self.bridge(self.text, {**self.preload(NO_THREADS), "NO_THREADS": none_left})
        self.flux.wait_log("no session with the broker: no thread for it can be had url=")
        os.remove(none_left)
        self.wait_whole(0)
        self.assertEqual(self.mqtt.ask(50, "c-1")["outcome"], "confirmed")


class Memory(Rig):
    """Each time another seed; what fails is named with it. FLUXBRIDGE_SEED: that one alone."""

    RUNS = 12

    @classmethod
    def setUpClass(cls):
        flux.skip_with_allocator_of_its_own()

    def test_refused_while_it_runs(self):
        self.rig()
        self.asked = {}
        ended = 0
        one = os.environ.get("FLUXBRIDGE_SEED")
        first = random.randrange(1 << 30)
        for seed in [int(one)] if one else range(first, first + self.RUNS):
            with self.subTest(seed=seed):
                try:
                    ended += self.run_one(seed)
                finally:
                    if self.flux.process.poll() is None:
                        self.flux.kill()
        self.judge()
        print("seeds from %d: it ended %d times of %d" % (first, ended, self.RUNS))

    def run_one(self, seed):
        """Whether it ended."""
        rng = random.Random(seed)
        one_of = rng.choice((20, 100, 500, 2000))
        self.start({**self.preload(FAILS), "FAIL_ONE_OF": str(one_of), "FAIL_SEED": str(seed)})
        self.flux.signal(signal.SIGUSR2)
        for n in range(12):
            id, value = "m-%d-%d" % (seed, n), rng.choice((0, rng.randint(-200, 200)))
            self.asked[id] = value
            self.mqtt.command(value, id)
            if n == 6:
                self.mosquitto.stop()
                self.mosquitto.start()
                self.mqtt.client.reconnect()
        n = self.meters.units[2].requests
        self.await_end(lambda: self.meters.units[2].requests >= n + 20)
        self.flux.signal(signal.SIGALRM)
        since = self.mqtt.mark()
        # What a library could not keep for want of memory it may still miss later on.
        self.await_end(lambda: self.is_whole(since), 100)
        ended = self.flux.process.poll() is not None
        if ended:
            self.assertEqual(self.flux.wait_end(), 1, self.flux.log())
            self.assertRegex(self.flux.log(), "out of memory")
            self.start()
            self.asked["g-%d" % seed] = 5
            self.assertEqual(self.mqtt.ask(5, "g-%d" % seed)["outcome"], "confirmed")
            self.assertEqual(self.ask_health(), 200)
        self.flux.stop(expect=0 if ended else None)
        self.assertIn(self.flux.process.returncode, (0, 1), self.flux.log())
        return ended

    def is_whole(self, since):
        return self.ask_health() == 200 and all(
            [m.text for m in self.mqtt.on(device + "/status")][-1:] == ["online"] and
            any(m.payload and m.json["quality"] == "good"
                for m in self.mqtt.on(device + STATE, since)) for device in DEVICES)

    def await_end(self, otherwise, timeout_s=None):
        """Of the program, or until so much has happened; looked at with each poll of the
        meter, or soon after the last."""
        end = time.monotonic() + (flux.DEADLINE_S if timeout_s is None
                                  else timeout_s * flux.PATIENCE)
        while self.flux.process.poll() is None and not otherwise():
            if time.monotonic() > end:
                raise flux.Timeout("neither the end nor what it should do:\n" + self.flux.log())
            with self.meters.changed:
                self.meters.changed.wait(0.1)

    def judge(self):
        """What was said is whole, and what was written was asked for, once at most."""
        for message in self.mqtt.messages:
            kind = message.topic.split("/")[-1]
            if not message.payload or kind in ("set", "target_power", "status"):
                continue
            if kind == "result":
                missing = OUTCOME - set(message.json)
                if message.json["outcome"] == "refused":
                    missing = {"id", "outcome", "reason", "ts"} - set(message.json)
                    self.assertNotEqual(message.json["reason"], "malformed", message.json)
            elif kind in ("state", "backfill"):
                device = message.topic.split("/")[-2]
                missing = ({"ts", "run", "seq", "quality", "data"} - set(message.json)) | (
                    POINTS[device] - set(message.json["data"]))
            elif kind == "health":
                missing = HEALTH - set(message.json)
            else:
                self.assertIsInstance(message.json, dict)
                missing = set()
            self.assertFalse(missing, message)
        # A file that could not be read for want of memory is not a damaged one.
        self.assertEqual([name for name in os.listdir(self.directory) if "damaged" in name], [])
        asked = [value & 0xFFFF for value in self.asked.values() if value]
        for value in self.setpoints():
            if value:
                self.assertIn(value, asked)
                asked.remove(value)
        confirmed = [m.json for m in self.mqtt.on("Site-BESS-01/result")
                     if m.json["outcome"] == "confirmed"]
        for outcome in confirmed:
            self.assertEqual(outcome["value"], self.asked.get(outcome["id"], 0), outcome)
            self.assertIn(int(outcome["value"]) & 0xFFFF, self.setpoints())


if __name__ == "__main__":
    flux.main()
