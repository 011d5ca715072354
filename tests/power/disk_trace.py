"""What a program does to the files of one directory, recorded; and the disks that a power cut
at any point of it may leave behind.

A library that is loaded before all others (SOURCE) writes each operation down, with its data
and when it began and ended. From that, Disks makes images: what was fsynced is there; of what
was written after that any of the sectors, those of the last write too; of names that were
made, changed or removed after the directory's last fsync some. What lies beyond all that was
written in a file that grew reads as zeros.
"""

import collections
import os
import struct

import preloaded

SOURCE = preloaded.REAL + r"""
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FDS = 4096 };

struct header {
    uint64_t inode, offset;
    int64_t began_ns, ended_ns;
    uint32_t size;
    char kind;
    char pad[3];
};

static struct { uint64_t inode; int appends; } files[FDS]; /* 0 = not one of ours */

static int64_t now(void)
{
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* One operation at a time; between two of them the program can be killed. */
static int64_t enter(void)
{
    struct stat status;
    pthread_mutex_lock(&mutex);
    if (syscall(SYS_newfstatat, AT_FDCWD, getenv("DISK_TRACE_END"), &status, 0) == 0)
        syscall(SYS_kill, getpid(), SIGKILL);
    return now();
}

static void leave(void)
{
    pthread_mutex_unlock(&mutex);
}

static void note(char kind, uint64_t inode, uint64_t offset, int64_t began, const void *data,
                 size_t size)
{
    static int log = -1;
    const int kept = errno;
    struct header head = {.inode = inode, .offset = offset, .began_ns = began, .ended_ns = now(),
                          .size = (uint32_t)size, .kind = kind};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)data, size}};
    if (log < 0)
        log = (int)syscall(SYS_openat, AT_FDCWD, getenv("DISK_TRACE"),
                           O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (syscall(SYS_writev, log, parts, 2) != (long)(sizeof head + size))
        abort();
    errno = kept;
}

/* The name below the directory, or NULL. */
static const char *ours(const char *path)
{
    const char *directory = getenv("DISK_TRACED");
    const size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && path[length] == '/' ? path + length + 1 : NULL;
}

static uint64_t inode_of(int fd)
{
    return fd >= 0 && fd < FDS ? files[fd].inode : 0;
}

static int opened(const char *real, const char *path, int flags, mode_t mode)
{
    struct stat before, status;
    const char *name = ours(path);
    if (name == NULL) {
        const int fd = REAL(int, real, const char *, int, ...)(path, flags, mode);
        if (fd >= 0 && fd < FDS)
            files[fd].inode = strcmp(path, getenv("DISK_TRACED")) == 0;
        return fd;
    }
    const int64_t began = enter();
    const int was_there = stat(path, &before) == 0;
    const int fd = REAL(int, real, const char *, int, ...)(path, flags, mode);
    if (fd >= 0 && fd < FDS && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        files[fd].inode = status.st_ino;
        files[fd].appends = (flags & O_APPEND) != 0;
        if (!was_there)
            note('c', status.st_ino, 0, began, name, strlen(name));
        else if ((flags & O_TRUNC) != 0)
            note('t', status.st_ino, 0, began, "", 0);
    }
    leave();
    return fd;
}

""" + preloaded.OPENS + r"""
int close(int fd)
{
    if (fd >= 0 && fd < FDS)
        files[fd].inode = 0;
    return REAL(int, "close", int)(fd);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t) =
        REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (inode_of(fd) == 0)
        return real(fd, data, size, at);
    const int64_t began = enter();
    const ssize_t done = real(fd, data, size, at);
    if (done > 0)
        note('w', inode_of(fd), (uint64_t)at, began, data, (size_t)done);
    leave();
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return pwrite(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) = REAL(ssize_t, "write", int, const void *, size_t);
    if (inode_of(fd) == 0)
        return real(fd, data, size);
    const int64_t began = enter();
    const off_t at = lseek(fd, 0, files[fd].appends ? SEEK_END : SEEK_CUR);
    const ssize_t done = real(fd, data, size);
    if (done > 0)
        note('w', inode_of(fd), (uint64_t)at, began, data, (size_t)done);
    leave();
    return done;
}

int ftruncate(int fd, off_t size)
{
    int (*real)(int, off_t) = REAL(int, "ftruncate", int, off_t);
    if (inode_of(fd) == 0)
        return real(fd, size);
    const int64_t began = enter();
    const int result = real(fd, size);
    if (result == 0)
        note('t', inode_of(fd), (uint64_t)size, began, "", 0);
    leave();
    return result;
}

int ftruncate64(int fd, off64_t size)
{
    return ftruncate(fd, size);
}

static int synced(const char *name, int fd)
{
    int (*real)(int) = REAL(int, name, int);
    if (inode_of(fd) == 0)
        return real(fd);
    const int64_t began = enter();
    const int result = real(fd);
    if (result == 0)
        note('s', inode_of(fd), 0, began, "", 0);
    leave();
    return result;
}

int fsync(int fd)
{
    return synced("fsync", fd);
}

int fdatasync(int fd)
{
    return synced("fdatasync", fd);
}

int rename(const char *from, const char *to)
{
    char names[8192];
    const int64_t began = enter();
    const int result = REAL(int, "rename", const char *, const char *)(from, to);
    if (result == 0 && ours(from) != NULL && ours(to) != NULL) {
        const int n = snprintf(names, sizeof names, "%s/%s", ours(from), ours(to));
        note('r', 0, 0, began, names, (size_t)n);
    }
    leave();
    return result;
}

int unlink(const char *path)
{
    const int64_t began = enter();
    const int result = REAL(int, "unlink", const char *)(path);
    if (result == 0 && ours(path) != NULL)
        note('u', 0, 0, began, ours(path), strlen(ours(path)));
    leave();
    return result;
}
"""

DIRECTORY = 1  # its number among the inodes
HEADER = struct.Struct("<QQqqIc3x")
Operation = collections.namedtuple("Operation", "inode offset began ended kind data")


def environment(trace, directory):
    return {"DISK_TRACE": trace, "DISK_TRACED": directory, "DISK_TRACE_END": trace + ".end"}


def kill_between_operations(program, trace, stir):
    """At its next one, which `stir` brings about: each that was done is recorded."""
    with open(trace + ".end", "w"):
        with program.changed:
            while not program.ended:
                stir()
                program.changed.wait(0.2)
        program.wait_end()
    os.unlink(trace + ".end")


def operations(trace):
    """In the order in which they ended; times in seconds of UTC."""
    with open(trace, "rb") as file:
        data = file.read()
    found, at = [], 0
    while at + HEADER.size <= len(data):
        inode, offset, began, ended, size, kind = HEADER.unpack_from(data, at)
        at += HEADER.size
        found.append(Operation(inode, offset, began / 1e9, ended / 1e9, kind.decode(),
                               data[at:at + size]))
        at += size
    return found


def rare(found):
    """The numbers of those that are no plain writing of a log: what is done to a database
    itself, to a length or a name, and what comes right after that."""
    names, numbers = {}, set()
    for i, operation in enumerate(found):
        if operation.kind == "c":
            names[operation.inode] = operation.data.decode()
        if operation.kind not in "ws" or operation.kind == "w" and names[operation.inode][-3:] == ".db":
            numbers |= {i, i + 1}
    return sorted(numbers - {len(found)})


class File:
    def __init__(self):
        self.safe = bytearray()
        self.pending = []

    def sync(self):
        for operation in self.pending:
            change(self.safe, operation, lambda: True, 1 << 30)
        self.pending = []

    def after_cut(self, keeps, sector):
        left = bytearray(self.safe)
        for operation in self.pending:
            change(left, operation, keeps, sector)
        return bytes(left)


def change(data, operation, keeps, sector):
    """One operation, in those of its sectors of which `keeps` says yes."""
    if operation.kind == "t":
        if keeps():
            size = operation.offset
            data[size:] = bytes(max(0, size - len(data)))
        return
    at, end = operation.offset, operation.offset + len(operation.data)
    while at < end:
        edge = min(end, (at // sector + 1) * sector)
        if keeps():
            if len(data) < at:
                data.extend(bytes(at - len(data)))
            data[at:edge] = operation.data[at - operation.offset:edge - operation.offset]
        at = edge


class Disks:
    """The directory, which was empty at first, operation by operation; and what a cut leaves of
    it: {name: bytes}."""

    def __init__(self):
        self.files = {}  # the latest of each inode: they are used again
        self.names, self.safe_names = {}, {}
        self.pending = []  # (name, file or None)

    def run(self, operation):
        kind, inode = operation.kind, operation.inode
        if kind in "wt":
            self.files[inode].pending.append(operation)
        elif kind == "s" and inode == DIRECTORY:
            self.safe_names, self.pending = dict(self.names), []
        elif kind == "s":
            self.files[inode].sync()
        elif kind == "c":
            self.files[inode] = File()
            self._name(operation.data.decode(), self.files[inode])
        elif kind == "u":
            self._name(operation.data.decode(), None)
        else:
            source, target = operation.data.decode().split("/")
            self._name(target, self.names[source])
            self._name(source, None)

    def _name(self, name, file):
        self.pending.append((name, file))
        put(self.names, name, file)

    def whole(self):
        """As it is while the power is on."""
        return {name: file.after_cut(lambda: True, 1 << 30) for name, file in self.names.items()}

    def after_cut(self, chances, last):
        """`last` is the operation under way."""
        sector = chances.choice((512, 4096))
        odds = chances.choice((0.0, 0.5, 0.9, 1.0))
        names = dict(self.safe_names)
        for name, file in self.pending[:chances.randint(0, len(self.pending))]:
            put(names, name, file)
        torn = last.kind in "wt" and self.files[last.inode]
        if torn:
            torn.pending.append(last)
        left = {name: file.after_cut(lambda: chances.random() < odds, sector)
                for name, file in names.items()}
        if torn:
            torn.pending.pop()
        return left


def put(names, name, file):
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file


def write_image(directory, image):
    os.mkdir(directory)
    for name, data in image.items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(data)
