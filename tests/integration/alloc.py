"""A failed allocation, at any point of start-up, ends in a clear message.

A preloaded library fails the n-th allocation of the process and that one only;
n runs from 1 until the program gets by with fewer. Whatever happens, the program
must not crash, must not hang, and must not fail without a word.
"""

import os
import subprocess

import flux

SOURCE = r"""
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

static atomic_long calls;
static long fatal = -1;

/* The environment is there before the first constructor runs. */
static int fails(void)
{
    long call = atomic_fetch_add(&calls, 1) + 1;
    if (fatal < 0) {
        const char *text = getenv("FAIL_ALLOCATION");
        fatal = text ? atol(text) : 0;
    }
    if (call != fatal)
        return 0;
    int told = open(getenv("FAIL_TOLD"), O_WRONLY | O_CREAT, 0600);
    close(told);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { return fails() ? NULL : __libc_realloc(old, size); }

/* Once it is up, the program waits for signals; it gets one. Told by the test, a
 * busy machine would let it live, and allocate, for any length of time. */
int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    kill(getpid(), SIGTERM);
    return (int)syscall(SYS_rt_sigtimedwait, set, info, timeout, (size_t)8);
}
"""


class Alloc(flux.Test):
    @classmethod
    def setUpClass(cls):
        flux.skip_with_allocator_of_its_own()

    def setUp(self):
        super().setUp()
        self.preload = os.path.join(self.directory, "fail.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", self.preload],
                       input=SOURCE, text=True, check=True)
        self.told = os.path.join(self.directory, "told")
        nowhere = self.place()
        self.config = os.path.join(self.directory, "site.cfg")
        text = flux.config(
            nowhere, bess=[flux.battery(nowhere)], meters=[flux.meter(nowhere)],
            spool={"path": os.path.join(self.directory, "spool.db")},
            audit={"path": os.path.join(self.directory, "audit.jsonl")},
            home_assistant={"enabled": True})
        with open(self.config, "w") as file:
            file.write(text)

    def run_to_its_end(self, verb, n):
        """One run with the n-th allocation failing: (exit code, what it said)."""
        if os.path.exists(self.told):
            os.unlink(self.told)
        environment = {"LD_PRELOAD": self.preload, "FAIL_ALLOCATION": str(n),
                       "FAIL_TOLD": self.told}
        try:
            done = subprocess.run([flux.program("fluxbridge"), verb, "-c", self.config],
                                  env=dict(os.environ, **environment), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=flux.DEADLINE_S, check=False)
        except subprocess.TimeoutExpired as late:
            raise flux.Timeout("allocation %d: hangs: %s" % (n, late.stdout)) from None
        return done.returncode, done.stdout

    def judge(self, verb, n, code, said):
        with self.subTest(allocation=n):
            # Nothing is wrong with what it was given, which is what 2 would say.
            self.assertIn(code, (0, 1), "allocation %d: %s" % (n, said))
            if verb == "check" and not code:  # nor is any of it left out
                self.assertEqual(said, self.good)
            if code:
                self.assertTrue(said.strip(), "allocation %d: not a word" % n)
            # What could not be read for want of memory is not damaged.
            self.assertEqual([name for name in os.listdir(self.directory) if "damaged" in name],
                             [], "allocation %d: %s" % (n, said))

    def fail_each(self, verb, first=1):
        n = first
        self.good = self.run_to_its_end("check", 0)[1]
        while True:
            code, said = self.run_to_its_end(verb, n)
            if not os.path.exists(self.told):
                self.assertEqual(code, 0, said)
                return n - 1
            self.judge(verb, n, code, said)
            n += 1

    def test_check_and_start(self):
        """Both read the configuration with the same allocations; what `run` does
        after that comes on top."""
        count = self.fail_each("check")
        total = self.fail_each("run", max(1, count - 20))
        print("allocations: check %d, run %d" % (count, total))
        self.assertGreater(count, 100)
        self.assertGreater(total, count)


if __name__ == "__main__":
    flux.main()
