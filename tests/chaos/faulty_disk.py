"""A disk below the daemon's files that is full, read-only or hanging when it is told to be."""

import os
import subprocess
import time

import preloaded

KINDS = ("full", "read-only", "hanging")

SOURCE = preloaded.REAL + r"""
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The first letter of the fault, 0 for none. */
static char fault(void)
{
    char letter = 0;
    const char *path = getenv("DISK_FAULT");
    int file = path != NULL ? REAL(int, "open", const char *, int)(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        if (read(file, &letter, 1) != 1)
            letter = 0;
        close(file);
    }
    return letter;
}

static int is_on_it(const char *path)
{
    const char *const names[] = {"/spool.db", "/state-", "/audit.jsonl"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strstr(path, names[i]) != NULL)
            return 1;
    return 0;
}

/* What a write to it fails with, 0 for nothing. */
static int refusal(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = '\0';
    if (!is_on_it(path))
        return 0;
    const char letter = fault();
    return letter == 'f' ? ENOSPC : letter == 'r' ? EROFS : 0;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    const int error = refusal(fd);
    if (error == 0)
        return REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, data, size, at);
    errno = error;
    return -1;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return pwrite(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    const int error = refusal(fd);
    if (error == 0)
        return REAL(ssize_t, "writev", int, const struct iovec *, int)(fd, parts, n);
    errno = error;
    return -1;
}

static int opened(const char *name, const char *path, int flags, mode_t mode)
{
    if ((flags & O_ACCMODE) == O_RDONLY || !is_on_it(path) || fault() != 'r')
        return REAL(int, name, const char *, int, mode_t)(path, flags, mode);
    errno = EROFS;
    return -1;
}

""" + preloaded.OPENS + r"""
static void hang(void)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    while (fault() == 'h')
        nanosleep(&pause, NULL);
}

int fdatasync(int fd)
{
    hang();
    return REAL(int, "fdatasync", int)(fd);
}

int fsync(int fd)
{
    hang();
    return REAL(int, "fsync", int)(fd);
}
"""


class FaultyDisk:
    kinds = KINDS

    def __init__(self, directory):
        self.directory = directory
        self.switch = os.path.join(directory, "disk-fault")
        self.environment = {"DISK_FAULT": self.switch}
        self.times = []  # (kind, begin, end) of each fault; the last one's end may be None

    @property
    def kind(self):
        """Of the fault that is there now, or None."""
        return self.times[-1][0] if self.times and self.times[-1][2] is None else None

    def break_down(self, kind):
        self.heal()
        self.begin(kind)
        self.times.append((kind, time.time(), None))

    def begin(self, kind):
        with open(self.switch + ".new", "w") as file:
            file.write(kind)
        os.rename(self.switch + ".new", self.switch)

    def heal(self):
        if self.kind:
            self.end(self.kind)
            self.times[-1] = (*self.times[-1][:2], time.time())

    def end(self, kind):
        os.unlink(self.switch)

    def ailed(self, begin, end):
        """Whether there was a fault between these moments."""
        return any(since <= end and (until is None or until >= begin)
                   for _, since, until in self.times)

    def sound_since(self, moment, patience):
        """The moment, or when the fault began that what was to be stored until then met:
        it ended less than `patience` before."""
        for _, begin, end in reversed(self.times):
            if begin < moment and (end is None or end + patience > moment):
                moment = begin
        return moment


class SmallDisk(FaultyDisk):
    """One of some MiB, for the daemon's files alone, that others fill as well: to the last
    byte, or almost. Needs root."""

    kinds = KINDS + ("filled", "filled")

    def __init__(self, directory, mebibytes, chances):
        super().__init__(directory)
        self.directory = os.path.join(directory, "disk")
        self.random = chances
        os.mkdir(self.directory)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm" % mebibytes, "none",
                        self.directory], check=True)
        self.ballast = os.path.join(self.directory, "ballast")

    def begin(self, kind):
        if kind != "filled":
            return super().begin(kind)
        with open(self.ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
            file.truncate(max(0, file.tell() - 4096 * self.random.randint(0, 12)))

    def end(self, kind):
        if kind != "filled":
            return super().end(kind)
        os.unlink(self.ballast)

    def close(self):
        subprocess.run(["umount", "-l", self.directory], check=True)
