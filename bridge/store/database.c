#include "bridge/store/database.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/guard.h"
#include "bridge/base/owner.h"

/* ---- its memory ---- */

/* A file that could not be read for want of it would be taken for a damaged one. */
static sqlite3_mem_methods usual;

static void *allocate(int size)
{
    void *memory = usual.xMalloc(size);
    guard_memory(memory);
    return memory;
}

static void *grow(void *old, int size)
{
    void *memory = usual.xRealloc(old, size);
    guard_memory(memory);
    return memory;
}

static void set_up(void)
{
    sqlite3_mem_methods ours;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &usual) != SQLITE_OK)
        return; /* somebody has used the library before */
    ours = usual;
    ours.xMalloc = allocate;
    ours.xRealloc = grow;
    (void)sqlite3_config(SQLITE_CONFIG_MALLOC, &ours);
}

/* ---- whose file it is ---- */

/* The one number that a pragma gives, or a failure below zero. */
static int64_t pragma(sqlite3 *file, const char *text, int *result)
{
    sqlite3_stmt *statement = NULL;
    int64_t number = 0;
    *result = sqlite3_prepare_v2(file, text, -1, &statement, NULL);
    if (*result == SQLITE_OK && (*result = sqlite3_step(statement)) == SQLITE_ROW) {
        number = sqlite3_column_int64(statement, 0);
        *result = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return number;
}

/* But for spaces. */
static bool is_same(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += strspn(a, " ");
        b += strspn(b, " ");
        if (*a != *b || *a == '\0')
            return *a == *b;
    }
}

/* How many tables and the like it has that SQLite does not make itself, and
 * whether the last of them is the one of the first release. */
static int look_at_tables(sqlite3 *file, const struct database_kind *kind, unsigned *n, bool *first)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(
        file, "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        -1, &statement, NULL);
    *n = 0;
    *first = false;
    while (result == SQLITE_OK && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(statement, 0);
        const char *text = (const char *)sqlite3_column_text(statement, 1);
        *first = kind->first_table != NULL && name != NULL && text != NULL &&
                 strcmp(name, kind->first_table) == 0 && is_same(text, kind->first_text);
        *n += 1;
        result = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

/* A file system that lost power can leave a file of the right length and
 * nothing in it. Nobody else's data is nothing but zeros. */
static bool is_blank(const char *path)
{
    char head[512];
    static const char blank[sizeof(head)];
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    ssize_t got = file >= 0 ? read(file, head, sizeof(head)) : -1;
    if (file >= 0)
        close(file);
    return got > 0 && memcmp(head, blank, (size_t)got) == 0;
}

/* Whether a part of the file has a text that nobody else writes. */
static bool has_trace(const char *path, const char *trace)
{
    const size_t size = strlen(trace);
    char part[1 << 16];
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    const ssize_t got = file >= 0 ? read(file, part, sizeof(part)) : -1;
    if (file >= 0)
        close(file);
    return got > 0 && memmem(part, (size_t)got, trace, size) != NULL;
}

/* What its header says by itself, where SQLite does not get as far. */
static bool has_mark(const char *path, const struct database_kind *kind)
{
    enum { AT = 68, HEAD = AT + 4 };
    unsigned char head[HEAD];
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    const ssize_t got = file >= 0 ? read(file, head, HEAD) : -1;
    if (file >= 0)
        close(file);
    return got == HEAD &&
           ((uint32_t)head[AT] << 24 | (uint32_t)head[AT + 1] << 16 | (uint32_t)head[AT + 2] << 8 |
            head[AT + 3]) == (uint32_t)kind->application;
}

/* Whether a file that was looked at with this result can only be judged together with its
 * log: all that it has is still there, or a power cut came as its pages were being taken
 * over from there, and any of them are missing. */
static bool is_in_log(const char *path, const char *log, const struct database_kind *kind,
                      int result, int version)
{
    struct stat status;
    if (stat(log, &status) != 0 || status.st_size == 0)
        return false;
    if (result == SQLITE_OK)
        return version < 0;
    return (result == SQLITE_CORRUPT || result == SQLITE_NOTADB) &&
           (has_mark(path, kind) || (is_blank(path) && has_trace(log, kind->trace)));
}

/* Whether the power was cut as the file was made: its first page is still to come, and
 * beside it is what SQLite takes that back with. */
static bool is_half_made(const char *path)
{
    char journal[4096];
    struct stat status;
    (void)snprintf(journal, sizeof(journal), "%s-journal", path);
    return is_blank(path) && stat(journal, &status) == 0 && status.st_size > 0;
}

/* A file that cannot be read as a database: damaged, if anything says that it is ours. */
static int judge_unreadable(const char *path, const char *log, const struct database_kind *kind)
{
    return is_blank(path) || has_trace(path, kind->trace) || has_trace(log, kind->trace)
               ? SQLITE_CORRUPT
               : DATABASE_UNKNOWN;
}

/* Opens a file to be looked at, without its log: nothing is made beside it, and
 * nothing waits. */
static int open_untouched(const char *path, sqlite3 **file)
{
    char name[3 * 4096 + 32] = "file:";
    char *at = name + strlen(name);
    for (; *path != '\0' && at < name + sizeof(name) - 32; path++) {
        if (strchr("?#%", *path) != NULL)
            at += sprintf(at, "%%%02x", (unsigned char)*path);
        else
            *at++ = *path;
    }
    strcpy(at, "?immutable=1");
    return sqlite3_open_v2(name, file, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL);
}

/* Reads its marks and tables. `*version` is -1 when there are none, 0 for the
 * first release's. */
static int look(sqlite3 *file, const struct database_kind *kind, int *version)
{
    unsigned n_tables = 0;
    bool first = false;
    int result;
    const int64_t application = pragma(file, "PRAGMA application_id", &result);
    const int64_t number = result == SQLITE_OK ? pragma(file, "PRAGMA user_version", &result) : 0;
    *version = -1;
    if (result != SQLITE_OK)
        return result;
    if (application == kind->application) {
        *version = (int)number;
        return number < 1 || number > kind->version ? DATABASE_NEWER : SQLITE_OK;
    }
    if (application != 0)
        return DATABASE_FOREIGN;
    result = look_at_tables(file, kind, &n_tables, &first);
    if (result != SQLITE_OK) /* damaged, and its header does not say that it is ours */
        return result == SQLITE_CORRUPT ? SQLITE_NOTADB : result;
    if (n_tables == 0)
        return SQLITE_OK;
    *version = 0;
    return n_tables == 1 && first && number == 0 ? SQLITE_OK : DATABASE_FOREIGN;
}

/* SQLite would wait for whoever writes into a pipe. */
static bool is_blocked(const char *path)
{
    static const char *const parts[] = {"-wal", "-journal"};
    char name[4096];
    struct stat status;
    bool blocked = false;
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        (void)snprintf(name, sizeof(name), "%s%s", path, parts[i]);
        blocked = blocked || !owner_follows(name) ||
                  (stat(name, &status) == 0 && !S_ISREG(status.st_mode));
    }
    return blocked;
}

/* Looks at a file without changing it. */
static int identify(const char *path, const struct database_kind *kind, int *version)
{
    char log[4096];
    struct stat status;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    sqlite3 *file = NULL;
    *version = -1;
    (void)pthread_once(&once, set_up);
    if (is_blocked(path))
        return DATABASE_BLOCKED;
    if (!owner_follows(path))
        return DATABASE_LINK;
    if (stat(path, &status) != 0)
        return errno == ENOENT ? SQLITE_OK : SQLITE_CANTOPEN;
    if (!S_ISREG(status.st_mode))
        return DATABASE_FOREIGN;
    if (status.st_size == 0)
        return SQLITE_OK;
    int result = open_untouched(path, &file);
    if (result == SQLITE_OK)
        result = look(file, kind, version);
    sqlite3_close(file);
    (void)snprintf(log, sizeof(log), "%s-wal", path);
    if (is_in_log(path, log, kind, result, *version)) {
        result = sqlite3_open_v2(path, &file, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
        if (result == SQLITE_OK)
            result = look(file, kind, version);
        sqlite3_close(file);
    }
    if (result == SQLITE_NOTADB && is_half_made(path))
        return SQLITE_OK;
    return result == SQLITE_NOTADB ? judge_unreadable(path, log, kind) : result;
}

int database_look(const char *path, const struct database_kind *kind)
{
    int version;
    return identify(path, kind, &version);
}

bool database_is_refused(int result)
{
    return result == DATABASE_FOREIGN || result == DATABASE_UNKNOWN || result == DATABASE_NEWER;
}

/* ---- opening ---- */

static int run(sqlite3 *file, const char *text)
{
    return sqlite3_exec(file, text, NULL, NULL, NULL);
}

/* The mark and the tables come together or not at all. Looks again: the file may
 * have come into its place only now. */
static int make(sqlite3 *file, const struct database_kind *kind)
{
    char mark[96];
    int version;
    const int looked = look(file, kind, &version);
    if (looked == SQLITE_NOTADB)
        return DATABASE_UNKNOWN;
    if (looked != SQLITE_OK || version == kind->version)
        return looked;
    (void)snprintf(mark, sizeof(mark), "PRAGMA application_id = %d; PRAGMA user_version = %d;",
                   kind->application, kind->version);
    int result = run(file, "BEGIN IMMEDIATE");
    if (result == SQLITE_OK)
        result = run(file, version == 0 ? kind->upgrade : kind->schema);
    if (result == SQLITE_OK)
        result = run(file, mark);
    if (result == SQLITE_OK)
        result = run(file, "COMMIT");
    /* So that the file itself says whose it is, and not its log alone. */
    if (result == SQLITE_OK)
        result = run(file, "PRAGMA wal_checkpoint(TRUNCATE)");
    return result;
}

int database_open(const char *path, const struct database_kind *kind, sqlite3 **file)
{
    int version;
    *file = NULL;
    int result = identify(path, kind, &version);
    if (result != SQLITE_OK)
        return result;
    owner_make(path, S_IRUSR | S_IWUSR | S_IRGRP); /* its log follows it */
    result = sqlite3_open_v2(
        path, file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_db_config(*file, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    if (result == SQLITE_OK)
        result = run(*file, "PRAGMA locking_mode = EXCLUSIVE;"
                            "PRAGMA journal_mode = WAL;"
                            "PRAGMA synchronous = FULL;"
                            "PRAGMA journal_size_limit = 1048576;"
                            "PRAGMA wal_autocheckpoint = 256;"
                            "PRAGMA cache_size = -512;");
    if (result == SQLITE_OK)
        result = make(*file, kind);
    if (result != SQLITE_OK) {
        sqlite3_close(*file);
        *file = NULL;
    }
    return result;
}

/* A row of the answer is one that was put. */
static int look_for_rows(sqlite3 *file, const struct database_kind *kind)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(file, kind->used, -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return result == SQLITE_ROW ? DATABASE_USED : result == SQLITE_DONE ? SQLITE_OK : result;
}

int database_try(const char *path, const struct database_kind *kind)
{
    sqlite3 *file = NULL;
    const bool there = access(path, F_OK) == 0;
    int result = database_open(path, kind, &file);
    if (result == SQLITE_OK)
        result = look_for_rows(file, kind);
    database_close(file);
    if (!there)
        database_remove(path);
    return result;
}

void database_remove(const char *path)
{
    static const char *const parts[] = {"-wal", "-shm", ""};
    char name[4096];
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        (void)snprintf(name, sizeof(name), "%s%s", path, parts[i]);
        (void)unlink(name);
    }
}

int database_open_damaged(const char *path, const struct database_kind *kind, sqlite3 **file)
{
    int result = sqlite3_open_v2(path, file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK)
        result = run(*file, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA writable_schema = ON;");
    int failed = SQLITE_OK;
    if (result == SQLITE_OK && kind->upgrade != NULL &&
        pragma(*file, "PRAGMA user_version", &failed) == 0)
        (void)run(*file, kind->upgrade);
    if (result != SQLITE_OK) {
        sqlite3_close(*file);
        *file = NULL;
    }
    return result;
}

void database_close(sqlite3 *file)
{
    int keep_log = 1;
    if (file != NULL && database_has_moved(file))
        (void)sqlite3_file_control(file, "main", SQLITE_FCNTL_PERSIST_WAL, &keep_log);
    sqlite3_close(file);
}

bool database_has_moved(sqlite3 *file)
{
    int moved = 0;
    (void)sqlite3_file_control(file, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    return moved != 0;
}

/* The first word of what is known of a process, which everybody may read. */
static bool name_process(const char *pid, char name[32])
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%s/comm", pid);
    FILE *file = fopen(path, "re");
    const bool good = file != NULL && fgets(name, 32, file) != NULL;
    if (file != NULL)
        (void)fclose(file);
    return good;
}

/* SQLite's locks are such ones; we have none there, which closing it would give up. */
bool database_is_ours_already(const char *path)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char pid[16], name[32], own[32];
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    const bool held =
        file >= 0 && fcntl(file, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0;
    if (file >= 0)
        close(file);
    (void)snprintf(pid, sizeof(pid), "%ld", (long)lock.l_pid);
    return held && name_process(pid, name) && name_process("self", own) && strcmp(name, own) == 0;
}

bool database_is_damage(int failure)
{
    return failure == SQLITE_CORRUPT || failure == SQLITE_NOTADB || failure == SQLITE_ERROR ||
           failure == SQLITE_MISMATCH || failure == SQLITE_CONSTRAINT || failure == DATABASE_MOVED;
}

bool database_set_aside(const char *path, char kept_as[4096])
{
    static const char *const parts[] = {"-wal", "-shm", ""};
    char from[4096], to[4096];
    (void)snprintf(kept_as, 4096, "%s.damaged-%lld", path, (long long)clock_utc_ms());
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        (void)snprintf(from, sizeof(from), "%s%s", path, parts[i]);
        (void)snprintf(to, sizeof(to), "%s%s", kept_as, parts[i]);
        if (rename(from, to) != 0 && errno != ENOENT)
            return false;
    }
    return true;
}

/* ---- telling ---- */

const char *database_error(int failure)
{
    switch (failure) {
    case DATABASE_FOREIGN:
    case DATABASE_UNKNOWN:
        return "it is another program's file";
    case DATABASE_NEWER:
        return "a newer release has written it";
    case DATABASE_MOVED:
        return "it was removed or renamed";
    case DATABASE_USED:
        return "it holds what an earlier run has kept";
    case DATABASE_BLOCKED:
        return "what has the name of its log is no file";
    case DATABASE_LINK:
        return "it is a symbolic link, and this is root";
    case SQLITE_BUSY:
        return "another program uses it";
    default:
        return sqlite3_errstr(failure);
    }
}

const char *database_remedy(int failure)
{
    switch (failure) {
    case DATABASE_FOREIGN:
    case DATABASE_UNKNOWN:
        return "name another path, or move the file away; it was left as it is";
    case DATABASE_NEWER:
        return "install that release again, or move the file away; it was left as it is";
    case DATABASE_USED:
        return "name another path, move the file away, or restart the bridge: that takes it over";
    case DATABASE_BLOCKED:
        return "move away what has its name with -wal or -journal behind it";
    case DATABASE_LINK:
        return "name the file that it leads to, or run as the service's user";
    case SQLITE_BUSY:
        return "end that program, or name another path";
    case SQLITE_FULL:
        return "make room on the disk";
    default:
        return "its directory must exist and be writable";
    }
}
