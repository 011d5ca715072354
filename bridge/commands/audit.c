#include "bridge/commands/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/base/owner.h"

enum {
    HELD_MAX = 1 << 20,   /* bytes of records in memory; beyond that a line is lost */
    ROOM_MIN = 64 << 10,  /* bytes the file system must have for setpoints to be accepted */
    REPLAY_MAX = 16 << 20 /* bytes of an earlier run's file that are looked at */
};

/* A copy of an entry, all its texts in one block. */
struct record {
    struct record *next;
    size_t size;
    bool published;
    struct audit_entry entry; /* its line ends with a newline */
    char texts[];
};

struct audit {
    struct outbox *outbox;
    char *path; /* "" = no file and no thread */
    pthread_t thread;
    atomic_bool outbox_full; /* as last told */

    pthread_mutex_t mutex; /* for all that follows */
    pthread_cond_t cond;
    struct record *first, **end; /* put, and not yet taken by the thread */
    size_t held;                 /* bytes of all records, those taken included */
    uint64_t lost;               /* lines since the file was last good */
    int file;                    /* -1 = not open; like error, set by the thread alone */
    int error;                   /* errno of the last attempt; 0 = good */
    atomic_int told;             /* the errno last logged; 0 = good */
    bool wanted;                 /* somebody asked while it was not good */
    bool reopen;
    bool stopping;
};

/* ---- the file ---- */

/* These return 0 or an errno. */
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
    /* A crash can leave half a line; it must not spoil the next. */
    if (pread(file, &last, 1, status.st_size - 1) < 0)
        return errno;
    return last == '\n' ? 0 : append(file, "\n", 1);
}

static int open_file(struct audit *audit)
{
    int file = owner_open(audit->path, O_RDWR | O_APPEND | O_NONBLOCK | O_NOCTTY,
                          S_IRUSR | S_IWUSR | S_IRGRP);
    int error = file < 0 ? errno : prepare(file, audit->path);
    pthread_mutex_lock(&audit->mutex);
    int old = audit->file;
    audit->file = file;
    audit->error = error;
    pthread_mutex_unlock(&audit->mutex);
    if (old >= 0)
        close(old);
    return error;
}

/* Whether the file still has a name: lines in a deleted one are lost. */
static bool is_linked(int file)
{
    struct stat status;
    return fstat(file, &status) == 0 && status.st_nlink > 0;
}

/* All lines of the batch, or none. */
static int commit(int file, const struct record *batch)
{
    struct stat before;
    int error = fstat(file, &before) == 0 ? 0 : errno;
    for (const struct record *record = batch; record && !error; record = record->next)
        error = append(file, record->entry.line, strlen(record->entry.line));
    if (!error)
        error = sync_file(file);
    if (error && ftruncate(file, before.st_size) != 0) {
        /* Half a line may stay: prepare() ends it when the file is opened for
         * the next attempt. */
    }
    return error;
}

/* Some file systems do not count blocks; those have room. */
static bool has_room(int file)
{
    struct statvfs status;
    return fstatvfs(file, &status) == 0 &&
           (status.f_blocks == 0 || (uint64_t)status.f_bavail * status.f_frsize >= ROOM_MIN);
}

/* ---- telling ---- */

static const char *remedy(int error)
{
    switch (error) {
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
    default:
        return "check the disk and the path";
    }
}

/* Mutex held. Logs what has changed since it was last called. */
static void tell(struct audit *audit, int error)
{
    if (error && error != audit->told) {
        errno = error;
        log_error("the audit log cannot be written: %m: %s; setpoints other than zero are "
                  "refused until then file=%s",
                  remedy(error), audit->path);
    } else if (!error && (audit->told || audit->lost)) {
        log_info("the audit log is written again file=%s lost=%" PRIu64, audit->path, audit->lost);
        audit->lost = 0;
    }
    audit->told = error;
}

static void publish_to(struct audit *audit, const struct audit_entry *entry, const char *topic,
                       const void *correlation, size_t correlation_size)
{
    bool full = !outbox_put_outcome(audit->outbox, topic, correlation, correlation_size,
                                    entry->payload, strlen(entry->payload));
    if (!atomic_exchange(&audit->outbox_full, full) && full)
        log_warning("the queue of outcomes is full: the oldest are dropped");
}

static void publish(struct audit *audit, const struct audit_entry *entry)
{
    publish_to(audit, entry, entry->topic, NULL, 0);
    if (entry->response_topic)
        publish_to(audit, entry, entry->response_topic, entry->correlation,
                   entry->correlation_size);
}

/* ---- records ---- */

static void *stow(char **at, const void *bytes, size_t size, const char *end)
{
    char *start = *at;
    if (size > 0)
        memcpy(start, bytes, size);
    strcpy(start + size, end);
    *at = start + size + strlen(end) + 1;
    return start;
}

static struct record *record_new(const struct audit_entry *entry)
{
    const char *response = entry->response_topic ? entry->response_topic : "";
    size_t line = strlen(entry->line), topic = strlen(entry->topic);
    size_t payload = strlen(entry->payload), answer = strlen(response);
    size_t terminators = strlen("\n") + 5;
    size_t size = sizeof(struct record) + line + topic + payload + answer +
                  entry->correlation_size + terminators;
    struct record *record = malloc(size);
    if (!record)
        return NULL;
    char *at = record->texts;
    record->next = NULL;
    record->size = size;
    record->published = false;
    record->entry.line = stow(&at, entry->line, line, "\n");
    record->entry.topic = stow(&at, entry->topic, topic, "");
    record->entry.payload = stow(&at, entry->payload, payload, "");
    record->entry.response_topic = stow(&at, response, answer, "");
    record->entry.correlation = stow(&at, entry->correlation, entry->correlation_size, "");
    record->entry.correlation_size = entry->correlation_size;
    if (!entry->response_topic)
        record->entry.response_topic = NULL;
    return record;
}

/* Publishes what is not yet; frees the batch when its lines are on disk.
 * Returns what is left of it. */
static struct record *settle(struct audit *audit, struct record *batch, bool good)
{
    size_t freed = 0;
    for (struct record *record = batch, *next; record; record = next) {
        next = record->next;
        if (!record->published)
            publish(audit, &record->entry);
        record->published = true;
        if (good) {
            freed += record->size;
            free(record);
        }
    }
    pthread_mutex_lock(&audit->mutex);
    audit->held -= freed;
    pthread_mutex_unlock(&audit->mutex);
    return good ? NULL : batch;
}

/* ---- the thread ---- */

/* Moves all that was put to the end of the batch. */
static void take(struct audit *audit, struct record **batch)
{
    while (*batch)
        batch = &(*batch)->next;
    *batch = audit->first;
    audit->first = NULL;
    audit->end = &audit->first;
}

static void *audit_run(void *argument)
{
    struct audit *audit = argument;
    struct record *batch = NULL; /* taken, and not yet on disk */
    int64_t retry_ns = 0;
    bool stopping = false;
    while (!stopping) {
        pthread_mutex_lock(&audit->mutex);
        while (!audit->first && !audit->stopping && !audit->reopen &&
               !((batch || audit->wanted) && clock_mono_ns() >= retry_ns))
            clock_cond_wait(&audit->cond, &audit->mutex,
                            batch || audit->wanted ? retry_ns : CLOCK_NEVER);
        take(audit, &batch);
        stopping = audit->stopping;
        bool anew = audit->reopen || audit->error || !is_linked(audit->file);
        audit->reopen = audit->wanted = false;
        pthread_mutex_unlock(&audit->mutex);

        int error = anew ? open_file(audit) : 0;
        if (!error)
            error = commit(audit->file, batch);
        retry_ns = clock_mono_ns() + CLOCK_NS_PER_S;
        pthread_mutex_lock(&audit->mutex);
        audit->error = error;
        tell(audit, error ? error : has_room(audit->file) ? 0 : ENOSPC);
        pthread_mutex_unlock(&audit->mutex);
        batch = settle(audit, batch, !error);
    }
    if (batch) {
        log_error("the last outcomes are not in the audit log file=%s", audit->path);
        settle(audit, batch, true);
    }
    return NULL;
}

static void audit_free(struct audit *audit)
{
    if (audit->file >= 0)
        close(audit->file);
    pthread_cond_destroy(&audit->cond);
    pthread_mutex_destroy(&audit->mutex);
    free(audit->path);
    free(audit);
}

struct audit *audit_start(const char *path, struct outbox *outbox)
{
    struct audit *audit = calloc(1, sizeof *audit);
    if (!audit)
        return NULL;
    audit->outbox = outbox;
    audit->path = strdup(path);
    audit->end = &audit->first;
    audit->file = -1;
    pthread_mutex_init(&audit->mutex, NULL);
    clock_cond_init(&audit->cond);
    bool good = audit->path;
    if (good && *path) {
        /* Here and not in the thread, so that the first command finds the truth. */
        tell(audit, open_file(audit));
        good = pthread_create(&audit->thread, NULL, audit_run, audit) == 0;
    }
    if (good)
        return audit;
    audit_free(audit);
    return NULL;
}

void audit_stop(struct audit *audit)
{
    if (!audit)
        return;
    if (*audit->path) {
        pthread_mutex_lock(&audit->mutex);
        audit->stopping = true;
        pthread_cond_signal(&audit->cond);
        pthread_mutex_unlock(&audit->mutex);
        pthread_join(audit->thread, NULL);
    }
    audit_free(audit);
}

bool audit_available(struct audit *audit)
{
    if (!*audit->path)
        return true;
    pthread_mutex_lock(&audit->mutex);
    bool good = !audit->error;
    if (good) {
        good = has_room(audit->file);
        if (good != !audit->told)
            tell(audit, good ? 0 : ENOSPC);
    } else {
        audit->wanted = true;
        pthread_cond_signal(&audit->cond);
    }
    /* A disk that hangs fails nothing, but lines pile up. */
    good = good && audit->held < HELD_MAX / 2;
    pthread_mutex_unlock(&audit->mutex);
    return good;
}

bool audit_was_available(const struct audit *audit)
{
    return audit->told == 0;
}

void audit_put(struct audit *audit, const struct audit_entry *entry)
{
    struct record *record = *audit->path ? record_new(entry) : NULL;
    pthread_mutex_lock(&audit->mutex);
    bool taken = record && audit->held + record->size <= HELD_MAX;
    if (taken) {
        audit->held += record->size;
        *audit->end = record;
        audit->end = &record->next;
        pthread_cond_signal(&audit->cond);
    } else if (*audit->path && audit->lost++ == 0) {
        log_error("the audit log loses lines file=%s", audit->path);
    }
    pthread_mutex_unlock(&audit->mutex);
    if (!taken) {
        publish(audit, entry);
        free(record);
    }
}

void audit_reopen(struct audit *audit)
{
    pthread_mutex_lock(&audit->mutex);
    audit->reopen = true;
    pthread_cond_signal(&audit->cond);
    pthread_mutex_unlock(&audit->mutex);
}

/* ---- the file of an earlier run ---- */

static void replay_file(const char *path, void (*line)(void *context, const char *text),
                        void *context)
{
    char *text = NULL;
    size_t size = 0;
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0)
        return;
    /* A device or a pipe holds nothing of an earlier run, and may have no end. */
    bool regular = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    FILE *file = regular ? fdopen(descriptor, "r") : NULL;
    if (file == NULL) {
        close(descriptor);
        return;
    }
    /* A line cut in two by the seek is no JSON and goes unheeded. */
    if (fseek(file, -REPLAY_MAX, SEEK_END) != 0)
        rewind(file);
    while (getline(&text, &size, file) > 0)
        line(context, text);
    free(text);
    (void)fclose(file);
}

void audit_replay(const char *path, void (*line)(void *context, const char *text), void *context)
{
    char rotated[PATH_MAX];
    if (path[0] == '\0')
        return;
    if (snprintf(rotated, sizeof(rotated), "%s.1", path) < (int)sizeof(rotated))
        replay_file(rotated, line, context);
    replay_file(path, line, context);
}
