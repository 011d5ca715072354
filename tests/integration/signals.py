"""A signal at any step of the start and of the end.

A library loaded before all others counts what the program asks of it, and sends the signal
with the n-th time. The steps of a start and of an end are counted first; then n is chosen at
random among them, by a seed that is told.
"""

import os
import random
import signal

import flux
from preloaded import REAL

SOURCE = REAL + r"""
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_long steps, before_up;
static atomic_bool is_begun, is_up, is_sent;
static long at_start, at_end;
static int number;

static long number_of(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void)
{
    at_start = number_of("SIGNAL_AT_START");
    at_end = number_of("SIGNAL_AT_END");
    number = (int)number_of("SIGNAL_NUMBER");
    signal(SIGINT, SIG_DFL); /* what runs in a shell's background ignores it */
}

__attribute__((destructor)) static void end(void)
{
    char text[64];
    int size = snprintf(text, sizeof text, "%ld %ld", atomic_load(&before_up), atomic_load(&steps));
    int file = open(getenv("SIGNAL_STEPS"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    (void)!write(file, text, (size_t)size);
}

/* The first that the program does is to keep SIGHUP; before that is what a sanitizer has to do. */
static int has_begun(void)
{
    unsigned long blocked = 0;
    if (!atomic_load(&is_begun) &&
        syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked, sizeof blocked) == 0)
        atomic_store(&is_begun, (blocked >> (SIGHUP - 1) & 1) != 0);
    return atomic_load(&is_begun);
}

static void step(void)
{
    const int error = errno;
    if (has_begun() && atomic_fetch_add(&steps, 1) + 1 == (atomic_load(&is_up) ? at_end : at_start))
        is_sent = kill(getpid(), number) == 0;
    errno = error;
}

int close(int fd)
{
    step();
    return REAL(int, "close", int)(fd);
}

ssize_t read(int fd, void *to, size_t size)
{
    step();
    return REAL(ssize_t, "read", int, void *, size_t)(fd, to, size);
}

ssize_t write(int fd, const void *from, size_t size)
{
    step();
    return REAL(ssize_t, "write", int, const void *, size_t)(fd, from, size);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    int result = REAL(int, "pthread_mutex_unlock", pthread_mutex_t *)(mutex);
    step();
    return result;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    step();
    return (int)syscall(SYS_clock_gettime, clock, now);
}

/* When it is up and the test says so it is told to end, unless it has been, and the counting
 * begins anew. */
int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    if (!atomic_load(&is_up)) {
        while (access(getenv("SIGNAL_END"), F_OK) != 0)
            usleep(5000);
        atomic_store(&before_up, atomic_exchange(&steps, 0));
        atomic_store(&is_up, 1);
        if (!atomic_load(&is_sent) || number == SIGHUP)
            kill(getpid(), SIGTERM);
    }
    return (int)syscall(SYS_rt_sigtimedwait, set, info, timeout, (size_t)8);
}
"""

KILLED = (0, -signal.SIGTERM, -signal.SIGINT)


class Signals(flux.Test):
    SAMPLES = 15

    def setUp(self):
        super().setUp()
        self.server = self.modbus({1: flux.battery_unit(target=50)})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.steps = os.path.join(self.directory, "steps")
        self.end = os.path.join(self.directory, "end")
        self.env = {**self.preload(SOURCE), "SIGNAL_STEPS": self.steps, "SIGNAL_END": self.end}
        self.text = flux.config(
            self.mosquitto, [flux.battery(self.server, control={"on_exit": "fallback", "deadman": {
                "timeout": "1h", "value": 0}})],
            audit={"path": os.path.join(self.directory, "audit.jsonl")},
            spool={"path": os.path.join(self.directory, "spool.db")},
            http={"listen": "127.0.0.1:%d" % self.place().port})
        seed = random.randrange(1 << 30)
        self.random = random.Random(seed)
        print("seed=%d" % seed)

    def run_to_its_end(self, at_once=False, **at):
        """(exit code, its log); `at`: as the library takes it."""
        since = self.mqtt.mark()
        if os.path.exists(self.end):
            os.unlink(self.end)
        self.server.units[1].registers[2008] = 50
        program = flux.Bridge(self.text, self.directory,
                              {**self.env, **{name: str(value) for name, value in at.items()}})
        self.addCleanup(program.stop, expect=None)
        if not at_once:
            self.mqtt.wait_text("Site-BESS-01/status", "online", since=since)
            self.mqtt.wait_text("bridge/status", "online", since=since)
        open(self.end, "w").close()
        code = program.wait_end()
        self.assertNotRegex(program.log(), flux.SANITIZER_REPORT)
        return code, program.log()

    def counted(self):
        with open(self.steps) as file:
            return [int(word) for word in file.read().split()]

    def check(self, code, log, allowed):
        self.assertIn(code, allowed, log)
        self.assertNotIn("error", log)
        if code == 0:
            self.assertRegex(log, "info: stopped run=")
        for write in self.server.units[1].writes:  # its fallback alone
            self.assertEqual((write.address, write.values), (2008, [0]))

    def test_each_step_of_the_start(self):
        """SIGHUP is kept until it is up; who is told to end does, and nothing is half done
        that the next start would find."""
        code, log = self.run_to_its_end(at_once=True)
        self.check(code, log, (0,))
        most = self.counted()[0]
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            # Before its threads there are few steps, and those that count most.
            for at in sorted({int(most ** self.random.random()) for _ in range(self.SAMPLES)}):
                with self.subTest(number=number, at=at, of=most):
                    code, log = self.run_to_its_end(
                        at_once=True, SIGNAL_AT_START=at, SIGNAL_NUMBER=int(number))
                    self.check(code, log, (0,) if number == signal.SIGHUP else KILLED)
                    if code:  # before there was anything to end
                        self.assertEqual(log, "")
        code, log = self.run_to_its_end()
        self.check(code, log, (0,))

    def test_each_step_of_the_end(self):
        """SIGHUP changes nothing; a second SIGTERM ends it at once, whatever it is at."""
        code, log = self.run_to_its_end()
        self.check(code, log, (0,))
        self.assertEqual(self.server.units[1].registers[2008], 0)
        most = self.counted()[1]
        for number in (signal.SIGHUP, signal.SIGTERM):
            for at in sorted(self.random.sample(range(1, most), self.SAMPLES)):
                with self.subTest(number=number, at=at, of=most):
                    since = self.mqtt.mark()
                    code, log = self.run_to_its_end(SIGNAL_AT_END=at, SIGNAL_NUMBER=int(number))
                    self.check(code, log, (0,) if number == signal.SIGHUP else KILLED)
                    self.mqtt.wait_text("bridge/status", "offline", since=since)
                    self.mqtt.wait_text("Site-BESS-01/status", "offline", since=since)
                    if code == 0:
                        self.assertEqual(self.server.units[1].registers[2008], 0)
        code, log = self.run_to_its_end()
        self.check(code, log, (0,))


if __name__ == "__main__":
    flux.main()
