#include "bridge/commands/audit_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bridge/base/owner.h"
#include "bridge/store/spool.h"

enum { ROOM_MIN = 64 << 10 }; /* bytes the file system must have for setpoints to be accepted */

/* How every line begins (bridge/wire/outcome_json.h). */
static const char BEGINNING[] = "{\"id\":";

/* ---- writing ---- */

static int append(int file, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(file, bytes, size);
        if (written < 0 && errno != EINTR)
            return errno;
        if (written > 0) {
            bytes += written;
            size -= (size_t)written;
        }
    }
    return 0;
}

static int sync_file(int file)
{
    /* EINVAL: a pipe or a device, which has no disk to wait for. */
    return fdatasync(file) == 0 || errno == EINVAL ? 0 : errno;
}

/* A new file's name is on disk only with its directory. */
static int sync_directory(const char *path)
{
    char *copy = strdup(path);
    int directory = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int error = directory < 0 || fsync(directory) != 0 ? errno : 0;
    if (directory >= 0)
        close(directory);
    free(copy);
    return error;
}

/* Whether it holds nothing yet, or begins as an audit log does; or with zeros, which
 * a file system can leave after a power cut. */
static bool is_ours(int file)
{
    static const char zeros[sizeof(BEGINNING) - 1];
    char head[sizeof(BEGINNING) - 1];
    const ssize_t got = pread(file, head, sizeof(head), 0);
    return got >= 0 &&
           (memcmp(head, BEGINNING, (size_t)got) == 0 || memcmp(head, zeros, (size_t)got) == 0);
}

/* Makes the opened file ready for whole lines. */
static int prepare(int file, const char *path)
{
    struct stat status;
    char last = '\n';
    if (fstat(file, &status) != 0)
        return errno;
    /* Only writing shows whether a device or a pipe takes anything. */
    if (!S_ISREG(status.st_mode))
        return append(file, "\n", 1);
    if (status.st_size == 0)
        return sync_directory(path);
    if (!is_ours(file))
        return EEXIST;
    /* A crash can leave half a line; it must not spoil the next. */
    if (pread(file, &last, 1, status.st_size - 1) < 0)
        return errno;
    return last == '\n' ? 0 : append(file, "\n", 1);
}

int audit_file_open(const char *path, int *file)
{
    *file =
        owner_open(path, O_RDWR | O_APPEND | O_NONBLOCK | O_NOCTTY, S_IRUSR | S_IWUSR | S_IRGRP);
    int error = *file < 0 ? errno : prepare(*file, path);
    if (error != 0 && *file >= 0) {
        close(*file);
        *file = -1;
    }
    return error;
}

bool audit_file_is_foreign(const char *path)
{
    struct stat status;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const bool foreign =
        file >= 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode) && !is_ours(file);
    if (file >= 0)
        close(file);
    return foreign;
}

bool audit_file_is_linked(int file)
{
    struct stat status;
    return fstat(file, &status) == 0 && status.st_nlink > 0;
}

int audit_file_write(int file, const struct iovec *lines, int n)
{
    struct stat before;
    int error = fstat(file, &before) == 0 ? 0 : errno;
    for (int i = 0; i < n && !error; i++)
        error = append(file, lines[i].iov_base, lines[i].iov_len);
    if (!error)
        error = sync_file(file);
    if (error && ftruncate(file, before.st_size) != 0) {
        /* Half a line may stay: prepare() ends it when the file is opened for
         * the next attempt. */
    }
    return error;
}

/* How many bytes are free. */
static uint64_t room_of(int file)
{
    struct statvfs status;
    if (fstatvfs(file, &status) != 0)
        return 0;
    return status.f_blocks == 0 ? UINT64_MAX : (uint64_t)status.f_bavail * status.f_frsize;
}

bool audit_file_has_room(int file)
{
    return room_of(file) >= ROOM_MIN;
}

bool audit_file_is_tight(int file, const char *spool, int64_t most)
{
    struct stat ours, theirs;
    if (spool[0] == '\0' || fstat(file, &ours) != 0 || stat(spool, &theirs) != 0 ||
        ours.st_dev != theirs.st_dev)
        return false;
    const int64_t wanted = most > theirs.st_size ? most - theirs.st_size : 0;
    return room_of(file) < (uint64_t)wanted + SPOOL_RESERVE_BYTES;
}

const char *audit_file_remedy(int error)
{
    switch (error) {
    case EEXIST:
        return "it holds something else: name another path, or move it away; it was left as it is";
    case ENOENT:
    case ENOTDIR:
        return "make its directory";
    case EACCES:
    case EPERM:
    case EROFS:
        return "let the user that runs fluxbridge write there";
    case ENOSPC:
    case EDQUOT:
        return "make room";
    case EMFILE:
    case ENFILE:
        return "allow it more open files (LimitNOFILE= of its unit)";
    default:
        return "check the disk and the path";
    }
}

/* ---- the files of earlier runs ---- */

/* Number 2 * i is what was rotated of paths[i], number 2 * i + 1 the file itself. */
static const char *name_of(const char *const *paths, unsigned number, char name[PATH_MAX])
{
    const int length =
        snprintf(name, PATH_MAX, "%s%s", paths[number / 2], number % 2 == 0 ? ".1" : "");
    return length < PATH_MAX ? name : "";
}

/* How many bytes at its end are looked at: as many as those that are younger leave. A device
 * or a pipe holds nothing of an earlier run, and may have no end. */
static size_t take_share(const char *name, size_t *left)
{
    struct stat status;
    size_t share = 0;
    if (stat(name, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0)
        share = (size_t)status.st_size < *left ? (size_t)status.st_size : *left;
    *left -= share;
    return share;
}

/* Puts the end of a file there, with a newline behind it; how many bytes that are. A line cut
 * in two is no JSON and goes unheeded. A file that cannot be opened for want of what may be
 * had again in a moment is not thought to hold nothing: then with `*error`. */
static size_t read_end(const char *name, size_t share, char *bytes, int *error)
{
    struct stat status;
    size_t size = 0;
    ssize_t got = 1;
    const int file = share > 0 ? open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    if (share > 0 && file < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        *error = errno;
    if (file < 0)
        return 0;
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode)) {
        off_t at = status.st_size > (off_t)share ? status.st_size - (off_t)share : 0;
        while (size < share && got > 0) {
            got = pread(file, bytes + size, share - size, at + (off_t)size);
            size += got > 0 ? (size_t)got : 0;
        }
    }
    close(file);
    /* What a power cut has left unwritten. */
    for (size_t i = 0; i < size; i++)
        if (bytes[i] == '\0')
            bytes[i] = '\n';
    if (size > 0 && bytes[size - 1] != '\n')
        bytes[size++] = '\n';
    return size;
}

int audit_file_read(const char *const *paths, unsigned n, char **lines)
{
    char name[PATH_MAX];
    size_t shares[2 * AUDIT_FILE_PATHS_MAX], left = AUDIT_FILE_REPLAY_MAX, size = 0;
    int error = 0;
    *lines = NULL;
    for (unsigned i = 2 * n; i-- > 0;)
        shares[i] = take_share(name_of(paths, i, name), &left);
    if (left == AUDIT_FILE_REPLAY_MAX)
        return 0;
    char *bytes = malloc(AUDIT_FILE_REPLAY_MAX - left + 2 * n + 1);
    if (bytes == NULL)
        return ENOMEM;
    for (unsigned i = 0; i < 2 * n && error == 0; i++)
        size += read_end(name_of(paths, i, name), shares[i], bytes + size, &error);
    bytes[size] = '\0';
    if (error == 0)
        *lines = bytes;
    else
        free(bytes);
    return error;
}
