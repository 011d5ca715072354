/* audit_bed: an audit log on a disk under the test's control, in a scratch directory. */
#ifndef TESTS_UNIT_AUDIT_BED_H
#define TESTS_UNIT_AUDIT_BED_H

#include "bridge/commands/audit.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "bridge/base/clock.h"
#include "tests/unit/given.h"
#include "tests/unit/logged.h"
#include "tests/unit/slept.h"

static const char path[] = "audit.jsonl";

/* ---- a disk under the test's control, in place of libc's calls ---- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool held;       /* a sync waits */
    bool waiting;    /* one does */
    bool state_held; /* likewise of the state file, which counts in nothing else */
    bool full;       /* as statvfs() sees it */
    bool roomy;      /* likewise: there is more than enough */
    int error;       /* of every sync */
    unsigned syncs;  /* so far */
} disk = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static struct outbox *outbox;
static struct outbox_item item;

static inline bool is_state(int file)
{
    char link[40], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t n = readlink(link, name, sizeof name - 1);
    name[n > 0 ? n : 0] = '\0';
    return strstr(name, "/state.db") != NULL;
}

int fdatasync(int file)
{
    pthread_mutex_lock(&disk.mutex);
    if (is_state(file)) {
        while (disk.state_held)
            pthread_cond_wait(&disk.cond, &disk.mutex);
        pthread_mutex_unlock(&disk.mutex);
        return 0;
    }
    disk.syncs++;
    disk.waiting = true;
    pthread_cond_broadcast(&disk.cond);
    while (disk.held)
        pthread_cond_wait(&disk.cond, &disk.mutex);
    disk.waiting = false;
    pthread_cond_broadcast(&disk.cond);
    int error = disk.error;
    pthread_mutex_unlock(&disk.mutex);
    errno = error;
    return error ? -1 : (int)syscall(SYS_fdatasync, file);
}

int fstatvfs(int file, struct statvfs *status)
{
    (void)file;
    *status = (struct statvfs){.f_frsize = 1024, .f_blocks = 1000, .f_bavail = 64};
    pthread_mutex_lock(&disk.mutex);
    status->f_bavail -= disk.full;
    status->f_bavail += disk.roomy ? 1 << 20 : 0;
    pthread_mutex_unlock(&disk.mutex);
    return 0;
}

#define SET(member, value)                                                                         \
    do {                                                                                           \
        pthread_mutex_lock(&disk.mutex);                                                           \
        disk.member = (value);                                                                     \
        pthread_cond_broadcast(&disk.cond);                                                        \
        pthread_mutex_unlock(&disk.mutex);                                                         \
    } while (0)

static inline void wait_for_sync(void)
{
    pthread_mutex_lock(&disk.mutex);
    while (!disk.waiting)
        pthread_cond_wait(&disk.cond, &disk.mutex);
    pthread_mutex_unlock(&disk.mutex);
}

/* ---- a scratch directory, an outbox, and stderr as a pipe, for each test ---- */

static struct logged logged;

static inline int set_up(void **state)
{
    if (given_directory(state) != 0 || !logged_begin(&logged))
        return -1;
    outbox = outbox_new(1, 4096, 4 << 20);
    outbox_resumed(outbox, 0);
    pthread_mutex_lock(&disk.mutex);
    disk.held = disk.waiting = disk.full = disk.roomy = disk.state_held = false;
    disk.error = 0;
    disk.syncs = 0;
    pthread_mutex_unlock(&disk.mutex);
    return outbox ? 0 : -1;
}

static inline int tear_down(void **state)
{
    logged_free(&logged);
    outbox_free(outbox);
    return remove_directory(state);
}

static inline void assert_logged(const char *first, const char *second)
{
    assert_true(logged_find(&logged, first, second));
}

/* A short line that the audit log takes for one of its own. */
static inline const char *line_of(const char *name)
{
    static char line[100];
    snprintf(line, sizeof line, "{\"id\":\"%s\"}", name);
    return line;
}

static inline void put(struct audit *audit, const char *name)
{
    const char *line = line_of(name);
    audit_put(audit, &(struct audit_entry){.line = line, .topic = "result", .payload = line});
}

/* Waits for the next outcome that is told. */
static inline void assert_told(const char *topic, const char *payload)
{
    while (!outbox_take(outbox, 0, OUTBOX_BACKFILL, &item))
        outbox_wait(outbox, CLOCK_NEVER);
    assert_string_equal(item.topic, topic);
    assert_int_equal(item.payload_size, strlen(payload));
    assert_memory_equal(item.payload, payload, strlen(payload));
    outbox_ack(outbox, item.ticket, OUTBOX_DELIVERED);
}

/* Its line was on disk before. */
static inline void assert_audited(const char *name)
{
    assert_told("result", line_of(name));
}

static inline void put_audited(struct audit *audit, const char *name)
{
    put(audit, name);
    assert_audited(name);
}

static inline void assert_unaudited(const char *name)
{
    char payload[100];
    snprintf(payload, sizeof payload, "{\"id\":\"%s\",\"audited\":false}", name);
    assert_told("result", payload);
}

static inline void assert_file(const char *name, const char *expected)
{
    char text[4096];
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, expected);
}

#define LINE(name) "{\"id\":\"" name "\"}\n"

/* What was known a moment ago is not asked again at once. */
static inline void wait_until_available(struct audit *audit, bool available)
{
    while (audit_available(audit) != available)
        clock_pause(5 * CLOCK_NS_PER_MS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
