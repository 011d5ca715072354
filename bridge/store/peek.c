#include "bridge/store/peek.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The log begins with a header whose numbers change whenever it is begun anew (SQLite,
 * "WAL Header Format"). Until then all that was moved from it into the file is in it as
 * well: a copy of the file and then of the same log is whole. */
enum { LOG_HEAD = 32, ATTEMPTS = 20 };

static bool fail(char why[PEEK_WHY_MAX], const char *what, const char *path)
{
    (void)snprintf(why, PEEK_WHY_MAX, "%s %s: %s", what, path, strerror(errno));
    return false;
}

/* Who reads a pipe may wait for ever, and some devices have no end. */
static int open_plain(const char *path)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0 || (fstat(file, &status) == 0 && S_ISREG(status.st_mode)))
        return file;
    close(file);
    errno = EINVAL;
    return -1;
}

/* A file that is not there is an empty one. */
static bool copy(const char *from, const char *to, char why[PEEK_WHY_MAX])
{
    char buffer[1 << 16];
    ssize_t n = 0;
    int in = open_plain(from);
    if (in < 0 && errno != ENOENT)
        return fail(why, "cannot read", from);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    bool good = out >= 0;
    while (good && in >= 0 && (n = read(in, buffer, sizeof(buffer))) > 0)
        good = write(out, buffer, (size_t)n) == n;
    if (!good || n < 0)
        (void)fail(why, good ? "cannot read" : "cannot write", good ? from : to);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return good && n >= 0;
}

static void read_head(const char *path, char head[LOG_HEAD])
{
    memset(head, 0, LOG_HEAD);
    int file = open_plain(path);
    if (file >= 0 && read(file, head, LOG_HEAD) != LOG_HEAD)
        memset(head, 0, LOG_HEAD);
    if (file >= 0)
        close(file);
}

static enum peek look(const char *path, const char *key, char *text, size_t size,
                      char why[PEEK_WHY_MAX])
{
    sqlite3 *file = NULL;
    sqlite3_stmt *statement = NULL;
    enum peek found = PEEK_NOTHING;
    int result = sqlite3_open_v2(path, &file, SQLITE_OPEN_READWRITE, NULL);
    if (result == SQLITE_OK)
        result =
            sqlite3_prepare_v2(file, "SELECT text FROM state WHERE key = ?1", -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    const char *it = result == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (it != NULL && strlen(it) < size) {
        strcpy(text, it);
        found = PEEK_FOUND;
    } else if (result != SQLITE_ROW && result != SQLITE_DONE) {
        (void)snprintf(why, PEEK_WHY_MAX, "the state file cannot be read: %s",
                       sqlite3_errstr(result));
        found = PEEK_FAILED;
    }
    sqlite3_finalize(statement);
    sqlite3_close(file);
    return found;
}

static enum peek peek_into(const char *directory, const char *path, const char *key, char *text,
                           size_t size, char why[PEEK_WHY_MAX])
{
    char log[PATH_MAX], copied[PATH_MAX], copied_log[PATH_MAX];
    char before[LOG_HEAD], after[LOG_HEAD];
    enum peek found = PEEK_FAILED;
    (void)snprintf(log, sizeof(log), "%s-wal", path);
    (void)snprintf(copied, sizeof(copied), "%s/state", directory);
    (void)snprintf(copied_log, sizeof(copied_log), "%s/state-wal", directory);
    (void)snprintf(why, PEEK_WHY_MAX, "the state file changes all the time");
    for (int i = 0; i < ATTEMPTS; i++) {
        read_head(log, before);
        if (!copy(path, copied, why) || !copy(log, copied_log, why))
            break;
        read_head(log, after);
        if (memcmp(before, after, LOG_HEAD) != 0)
            continue;
        found = look(copied, key, text, size, why);
        break;
    }
    static const char *const parts[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        (void)snprintf(copied, sizeof(copied), "%s/state%s", directory, parts[i]);
        (void)unlink(copied);
    }
    return found;
}

enum peek peek_text(const char *path, const char *key, char *text, size_t size,
                    char why[PEEK_WHY_MAX])
{
    char directory[] = "/tmp/fluxbridge-XXXXXX";
    struct stat status;
    if (stat(path, &status) != 0) {
        if (errno == ENOENT)
            return PEEK_NOTHING;
        (void)fail(why, "cannot read", path);
        return PEEK_FAILED;
    }
    if (!S_ISREG(status.st_mode)) {
        (void)snprintf(why, PEEK_WHY_MAX, "%s is no plain file", path);
        return PEEK_FAILED;
    }
    if (mkdtemp(directory) == NULL) {
        (void)fail(why, "cannot make a directory for a copy, like", directory);
        return PEEK_FAILED;
    }
    const enum peek found = peek_into(directory, path, key, text, size, why);
    (void)rmdir(directory);
    return found;
}
