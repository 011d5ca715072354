#include "bridge/commands/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/commands/audit_file.h"
#include "bridge/commands/audit_formers.h"

enum {
    HELD_MAX = 1 << 20, /* bytes of records in memory; beyond that a line is lost */
    AT_ONCE = 256       /* lines in one write */
};

/* No errno: the file was not opened yet. */
enum { NOT_YET = -1 };

/* What is known of the file is good for so long; and so long is waited to know it. */
#define FRESH_NS  (100 * CLOCK_NS_PER_MS)
#define ANSWER_NS (20 * CLOCK_NS_PER_MS)

/* A copy of an entry, all its texts in one block. */
struct audit_record {
    struct audit_record *next;
    size_t size;
    int64_t put_ns;
    bool tried;   /* to write its line */
    bool written; /* that is on disk */
    bool published;
    struct outcome *outcome;  /* until it is published; NULL = nobody is told */
    struct audit_entry entry; /* its line ends with a newline */
    char texts[];
};

struct audit {
    struct outbox *outbox;
    struct state *state;        /* NULL: nothing of it is waited for */
    struct recent *recent;      /* NULL: nobody looks on */
    struct last_outcomes *last; /* likewise */
    char *path;                 /* the writer's own; "" = no file */
    pthread_t writer, teller;
    atomic_bool outbox_full; /* as last told */
    atomic_int status; /* errno of the last attempt, ENOSPC for little room, NOT_YET; 0 = good */
    _Atomic int64_t busy_ns; /* since when the writer has been at the disk; 0 = it is not */
    int file;                /* -1 = not open; the writer's own */

    pthread_mutex_t mutex;                                      /* for all that follows */
    void (*told)(void *context, const struct outcome *outcome); /* NULL = nobody is */
    void *context;
    pthread_cond_t called; /* the writer is wanted */
    pthread_cond_t looked; /* it has been at the file, or has ended */
    pthread_cond_t waits;  /* there is a record for the teller to watch */
    /* In the order they came: those that are not yet on disk, or not yet told. */
    struct audit_record *first, **end;
    bool has_file;     /* there is a log, or will be in a moment */
    size_t held;       /* bytes of these */
    uint64_t lost;     /* lines since the file was last good */
    char *next;        /* the path that the writer is to take over; NULL = none */
    int64_t looked_ns; /* when the writer last was at the file */
    bool wanted;       /* somebody asks how the file is */
    /* Earlier runs' lines: how often they were asked for, and up to which they were read, all
     * of them from files that are good. */
    unsigned reads_asked, reads_done;
    bool knew;     /* where they were, when they were read */
    char *earlier; /* these; NULL = none to be taken */
    bool reopen, stopping, ended;
    bool closing;   /* the teller ends */
    bool abandoned; /* audit_stop() waits for the writer no longer: it is the last one here */
    bool watching;  /* the teller knows of a record */
};

/* ---- telling ---- */

static bool publish_to(struct audit *audit, const struct audit_entry *entry, const char *topic,
                       const char *payload, size_t correlation_size)
{
    return outbox_put_outcome(audit->outbox, topic, entry->correlation, correlation_size, payload,
                              strlen(payload));
}

/* The payload of an outcome whose line is not on disk; NULL when out of memory. */
static char *mark_unaudited(const char *payload)
{
    const size_t length = strlen(payload);
    char *marked = NULL;
    if (length >= 2 && payload[length - 1] == '}' &&
        asprintf(&marked, "%.*s,\"audited\":false}", (int)(length - 1), payload) < 0)
        marked = NULL;
    return marked;
}

/* Locked. `outcome`: of the entry, to be told; NULL = it is not. */
static void publish(struct audit *audit, const struct audit_entry *entry, struct outcome *outcome,
                    bool audited)
{
    char *marked = audited ? NULL : mark_unaudited(entry->payload);
    const char *payload = marked != NULL ? marked : entry->payload;
    bool full = !publish_to(audit, entry, entry->topic, payload, 0);
    if (entry->response_topic != NULL)
        full = !publish_to(audit, entry, entry->response_topic, payload, entry->correlation_size) ||
               full;
    recent_put(audit->recent, entry->ticket, payload);
    if (entry->is_last && audit->last != NULL)
        last_outcomes_put(audit->last, entry->device, payload, entry->takeover);
    free(marked);
    if (outcome != NULL && audit->told != NULL) {
        outcome->unaudited = !audited;
        audit->told(audit->context, outcome);
    }
    if (!atomic_exchange(&audit->outbox_full, full) && full)
        log_warning("the queue of outcomes is full: the oldest are dropped");
}

/* Says what has changed since `before`. */
static void tell(const struct audit *audit, int before, int now, uint64_t lost)
{
    if (now > 0 && now != before) {
        errno = now;
        log_error("the audit log cannot be written: %m: %s; setpoints other than zero are "
                  "refused until then file=%s",
                  audit_file_remedy(now), audit->path);
    } else if (now == 0 && (before > 0 || lost > 0)) {
        log_info("the audit log is written again file=%s lost=%" PRIu64, audit->path, lost);
    }
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

static struct audit_record *record_new(const struct audit_entry *entry, struct outcome *outcome)
{
    const char *response = entry->response_topic ? entry->response_topic : "";
    size_t line = strlen(entry->line), topic = strlen(entry->topic);
    size_t payload = strlen(entry->payload), answer = strlen(response);
    size_t terminators = strlen("\n") + 5;
    size_t size = sizeof(struct audit_record) + line + topic + payload + answer +
                  entry->correlation_size + terminators;
    struct audit_record *record = malloc(size);
    if (!record)
        return NULL;
    char *at = record->texts;
    *record = (struct audit_record){.size = size, .put_ns = clock_mono_ns(), .outcome = outcome};
    record->entry = *entry; /* its texts are copied below */
    record->entry.outcome = NULL;
    record->entry.line = stow(&at, entry->line, line, "\n");
    record->entry.topic = stow(&at, entry->topic, topic, "");
    record->entry.payload = stow(&at, entry->payload, payload, "");
    record->entry.response_topic = stow(&at, response, answer, "");
    record->entry.correlation = stow(&at, entry->correlation, entry->correlation_size, "");
    if (!entry->response_topic)
        record->entry.response_topic = NULL;
    return record;
}

/* Locked. */
static struct audit_record *first_unpublished(const struct audit *audit)
{
    struct audit_record *record = audit->first;
    while (record != NULL && record->published)
        record = record->next;
    return record;
}

/* Locked. Whether a line is not on disk, and whether one was not even tried. */
static bool has_unwritten(const struct audit *audit, bool *untried)
{
    bool unwritten = false;
    *untried = false;
    for (const struct audit_record *record = audit->first; record; record = record->next) {
        unwritten = unwritten || !record->written;
        *untried = *untried || !record->tried;
    }
    return unwritten;
}

/* Whether all that is to be on disk with it is, or is refused by the disk. */
static bool is_ready(const struct audit *audit, const struct audit_record *record)
{
    return record->tried && (audit->state == NULL || record->entry.kept_mark == 0 ||
                             state_is_settled(audit->state, record->entry.kept_mark));
}

/* Locked. */
static void publish_record(struct audit *audit, struct audit_record *record)
{
    publish(audit, &record->entry, record->outcome, record->written);
    free(record->outcome);
    record->outcome = NULL;
    record->published = true;
}

/* Locked. Publishes in the order they came, up to one whose time has not come, and is
 * done with those whose lines are on disk. Without patience none waits. */
static void settle(struct audit *audit, bool patient)
{
    struct audit_record **at = &audit->first, *record;
    bool ready = true;
    while ((record = *at) != NULL) {
        ready = ready && (record->published || !patient || is_ready(audit, record));
        if (ready && !record->published)
            publish_record(audit, record);
        if (!record->published || !record->written) {
            at = &record->next;
            continue;
        }
        *at = record->next;
        audit->held -= record->size;
        free(record);
    }
    audit->end = at;
    pthread_cond_broadcast(&audit->looked);
}

static void audit_free(struct audit *audit)
{
    for (struct audit_record *record = audit->first, *next; record; record = next) {
        next = record->next;
        free(record->outcome);
        free(record);
    }
    if (audit->file >= 0)
        close(audit->file);
    pthread_cond_destroy(&audit->called);
    pthread_cond_destroy(&audit->looked);
    pthread_cond_destroy(&audit->waits);
    pthread_mutex_destroy(&audit->mutex);
    free(audit->earlier);
    free(audit->path);
    free(audit->next);
    free(audit);
}

/* Locked. */
static const char *path_of(const struct audit *audit)
{
    return audit->next != NULL ? audit->next : audit->path;
}

/* Locked. Whether where earlier runs' lines may be is known by now, and was not. */
static bool knows_more(const struct audit *audit)
{
    return !audit->knew && audit->state != NULL && state_is_loaded(audit->state);
}

/* ---- the writer ---- */

/* Locked. The records whose lines are next; how many. */
static int gather(const struct audit *audit, struct audit_record *records[AT_ONCE],
                  struct iovec lines[AT_ONCE])
{
    int n = 0;
    for (struct audit_record *record = audit->first; record && n < AT_ONCE; record = record->next) {
        if (record->written)
            continue;
        char *line = record->texts;
        lines[n] = (struct iovec){.iov_base = line, .iov_len = strlen(line)};
        records[n++] = record;
    }
    return n;
}

/* At the disk. */
static int write_lines(struct audit *audit, bool anew, const struct iovec *lines, int n)
{
    int error = 0;
    if (anew || audit->file < 0 || !audit_file_is_linked(audit->file)) {
        if (audit->file >= 0)
            close(audit->file);
        error = audit_file_open(audit->path, &audit->file);
    }
    return error != 0 || n == 0 ? error : audit_file_write(audit->file, lines, n);
}

/* Locked. Takes over the path that it was told. A log that ends does so when its last line is
 * on disk, or has `failed` once more: what is left then is as with no log. */
static void take_over_next(struct audit *audit, bool failed)
{
    bool untried;
    if (audit->next == NULL ||
        (audit->next[0] == '\0' && !failed && has_unwritten(audit, &untried)))
        return;
    free(audit->path);
    audit->path = audit->next;
    audit->next = NULL;
    if (audit->path[0] != '\0')
        return;
    if (has_unwritten(audit, &untried))
        log_error("the audit log ends before all of its lines were written");
    for (struct audit_record *record = audit->first; record != NULL; record = record->next)
        record->tried = record->written = true;
    audit->status = 0;
    audit->lost = 0;
    settle(audit, true);
}

/* Locked, but for while it is at the disk. False when nobody waits for it any more. */
static bool end_visit(struct audit *audit)
{
    audit->busy_ns = 0;
    audit->looked_ns = clock_mono_ns();
    audit->wanted = audit->wanted || audit->next != NULL;
    pthread_cond_broadcast(&audit->looked);
    return !audit->abandoned;
}

/* Likewise. There is no log; there may have been one. */
static bool visit_nothing(struct audit *audit)
{
    const int file = audit->file;
    audit->reopen = audit->wanted = false;
    audit->reads_done = audit->reads_asked;
    audit->file = -1;
    if (file >= 0) {
        audit->busy_ns = clock_mono_ns();
        pthread_mutex_unlock(&audit->mutex);
        close(file);
        pthread_mutex_lock(&audit->mutex);
    }
    return end_visit(audit);
}

/* Likewise. */
static bool visit_file(struct audit *audit)
{
    struct iovec lines[AT_ONCE];
    struct audit_record *records[AT_ONCE];
    const int n = gather(audit, records, lines), before = audit->status;
    const bool anew = audit->reopen || before != 0;
    const unsigned asked = audit->reads_asked += knows_more(audit);
    const bool reads = asked != audit->reads_done;
    char formers[AUDIT_FORMERS_SIZE] = "", *earlier = NULL;
    audit->reopen = audit->wanted = false;
    if (reads) {
        audit->knew = audit->state == NULL || state_is_loaded(audit->state);
        audit_formers_get(audit->state, formers);
    }
    audit->busy_ns = clock_mono_ns();
    pthread_mutex_unlock(&audit->mutex);
    int error = reads ? audit_formers_read(formers, audit->path, &earlier) : 0;
    if (error == 0)
        error = write_lines(audit, anew, lines, n);
    const int status = error != 0 ? error : audit_file_has_room(audit->file) ? 0 : ENOSPC;
    pthread_mutex_lock(&audit->mutex);
    if (earlier != NULL) {
        free(audit->earlier);
        audit->earlier = earlier;
    }
    if (audit->abandoned)
        return false;
    if (error == 0)
        audit->reads_done = asked;
    const uint64_t lost = audit->lost;
    audit->status = status;
    if (status == 0)
        audit->lost = 0;
    for (int i = 0; i < n; i++) {
        records[i]->tried = true;
        records[i]->written = error == 0;
    }
    settle(audit, true);
    if (first_unpublished(audit) != NULL)
        pthread_cond_signal(&audit->waits);
    if (status != before || lost > 0) {
        pthread_mutex_unlock(&audit->mutex);
        tell(audit, before, status, lost);
        pthread_mutex_lock(&audit->mutex);
    }
    if (error != 0)
        take_over_next(audit, true);
    return end_visit(audit);
}

/* Likewise. */
static bool visit(struct audit *audit)
{
    take_over_next(audit, false);
    return audit->path[0] != '\0' ? visit_file(audit) : visit_nothing(audit);
}

static void *audit_run(void *argument)
{
    struct audit *audit = argument;
    int64_t retry_ns = 0;
    bool stopping = false, here = true;
    pthread_mutex_lock(&audit->mutex);
    while (!stopping && here) {
        bool untried;
        const bool left = has_unwritten(audit, &untried);
        /* What failed is tried again each second, or when there is more. */
        if (!audit->stopping && !audit->reopen && !audit->wanted && !untried &&
            !(left && clock_mono_ns() >= retry_ns)) {
            clock_cond_wait(&audit->called, &audit->mutex, left ? retry_ns : CLOCK_NEVER);
            continue;
        }
        stopping = audit->stopping;
        here = visit(audit);
        retry_ns = here && has_unwritten(audit, &untried) ? clock_mono_ns() + CLOCK_NS_PER_S : 0;
    }
    const bool abandoned = audit->abandoned;
    audit->ended = true;
    pthread_cond_broadcast(&audit->looked);
    pthread_mutex_unlock(&audit->mutex);
    if (abandoned)
        audit_free(audit);
    return NULL;
}

/* ---- the teller: outcomes do not wait for a disk that hangs ---- */

/* Locked, but for the wait. */
static void wait_for_state(struct audit *audit, uint64_t mark, int64_t until_ns)
{
    pthread_mutex_unlock(&audit->mutex);
    state_settle(audit->state, mark, until_ns);
    pthread_mutex_lock(&audit->mutex);
}

static void *teller_run(void *argument)
{
    struct audit *audit = argument;
    pthread_mutex_lock(&audit->mutex);
    while (!audit->closing) {
        struct audit_record *record = first_unpublished(audit);
        const int64_t due_ns = record ? record->put_ns + AUDIT_PATIENCE_NS : CLOCK_NEVER;
        const bool early = clock_mono_ns() < due_ns;
        audit->watching = record != NULL;
        if (record == NULL || (early && !record->tried)) {
            clock_cond_wait(&audit->waits, &audit->mutex, due_ns);
        } else if (early && !is_ready(audit, record)) {
            wait_for_state(audit, record->entry.kept_mark, due_ns);
        } else {
            publish_record(audit, record);
            settle(audit, true);
        }
    }
    pthread_mutex_unlock(&audit->mutex);
    return NULL;
}

/* ---- where it is, and where it was ---- */

bool audit_move(struct audit *audit, const char *path)
{
    char *next = strdup(path);
    if (next == NULL)
        return false;
    pthread_mutex_lock(&audit->mutex);
    if (*path_of(audit) != '\0') {
        audit_formers_add(audit->state, path_of(audit));
    } else {
        audit->status = NOT_YET;
        audit->reads_asked++;
    }
    free(audit->next);
    audit->next = next;
    audit->has_file = *path != '\0';
    audit->reopen = true;
    audit->looked_ns = 0; /* what is known is of the other file */
    pthread_cond_signal(&audit->called);
    pthread_mutex_unlock(&audit->mutex);
    return true;
}

/* ---- everybody's side ---- */

static void stop_writer(struct audit *audit)
{
    pthread_mutex_lock(&audit->mutex);
    audit->stopping = true;
    pthread_cond_signal(&audit->called);
    pthread_mutex_unlock(&audit->mutex);
    pthread_join(audit->writer, NULL);
}

/* All that are needed, or none. */
static bool start_threads(struct audit *audit)
{
    if (pthread_create(&audit->writer, NULL, audit_run, audit) != 0)
        return false;
    const bool has_teller = pthread_create(&audit->teller, NULL, teller_run, audit) == 0;
    if (!has_teller)
        stop_writer(audit);
    return has_teller;
}

static bool is_silent(const struct audit *audit)
{
    const int64_t busy_ns = audit->busy_ns;
    return busy_ns != 0 && clock_mono_ns() - busy_ns >= AUDIT_SILENCE_NS;
}

/* For the writer's next visit, while its disk answers. */
static void wait_read(struct audit *audit)
{
    pthread_mutex_lock(&audit->mutex);
    const int64_t until_ns = clock_mono_ns() + AUDIT_SILENCE_NS;
    while ((audit->wanted || audit->busy_ns != 0) && !is_silent(audit) &&
           clock_mono_ns() < until_ns)
        clock_cond_wait(&audit->looked, &audit->mutex, until_ns);
    pthread_mutex_unlock(&audit->mutex);
}

struct audit *audit_start(const char *path, struct outbox *outbox, struct state *state)
{
    struct audit *audit = calloc(1, sizeof *audit);
    if (!audit)
        return NULL;
    audit->outbox = outbox;
    audit->state = state;
    audit->path = strdup(path);
    audit->has_file = *path != '\0';
    audit->reads_asked = audit->wanted = audit->has_file;
    audit->status = audit->has_file ? NOT_YET : 0;
    audit->busy_ns = audit->has_file ? clock_mono_ns() : 0;
    audit->end = &audit->first;
    audit->file = -1;
    pthread_mutex_init(&audit->mutex, NULL);
    clock_cond_init(&audit->called);
    clock_cond_init(&audit->looked);
    clock_cond_init(&audit->waits);
    if (audit->path && start_threads(audit)) {
        wait_read(audit); /* so that the first command finds the truth */
        return audit;
    }
    audit_free(audit);
    return NULL;
}

void audit_show(struct audit *audit, struct recent *recent, struct last_outcomes *last)
{
    audit->recent = recent;
    audit->last = last;
}

/* Locked. Gives the disk its time, and ends the teller. */
static void wait_for_end(struct audit *audit)
{
    const int64_t end_ns = clock_mono_ns() + AUDIT_PATIENCE_NS;
    audit->stopping = true;
    pthread_cond_signal(&audit->called);
    while ((!audit->ended || first_unpublished(audit) != NULL) && clock_mono_ns() < end_ns)
        clock_cond_wait(&audit->looked, &audit->mutex, end_ns);
    audit->closing = true;
    pthread_cond_signal(&audit->waits);
}

/* Leaves it all to a writer that is still at the disk; false when it has ended. */
static bool abandon(struct audit *audit)
{
    pthread_mutex_lock(&audit->mutex);
    audit->abandoned = !audit->ended;
    const bool abandoned = audit->abandoned;
    if (abandoned)
        pthread_detach(audit->writer);
    pthread_mutex_unlock(&audit->mutex);
    return abandoned;
}

void audit_stop(struct audit *audit)
{
    if (!audit)
        return;
    bool untried;
    pthread_mutex_lock(&audit->mutex);
    wait_for_end(audit);
    const bool left = has_unwritten(audit, &untried);
    settle(audit, false);
    if (left)
        log_error("the last outcomes are not in the audit log file=%s", path_of(audit));
    pthread_mutex_unlock(&audit->mutex);
    pthread_join(audit->teller, NULL);
    if (abandon(audit))
        return;
    pthread_join(audit->writer, NULL);
    audit_free(audit);
}

/* Locked. Lets the writer have a look, unless it is at the disk. */
static void ask(struct audit *audit)
{
    const int64_t looked_ns = audit->looked_ns, now_ns = clock_mono_ns();
    if (audit->busy_ns != 0 || now_ns - looked_ns < FRESH_NS)
        return;
    audit->wanted = true;
    pthread_cond_signal(&audit->called);
    while (audit->looked_ns == looked_ns && clock_mono_ns() < now_ns + ANSWER_NS)
        clock_cond_wait(&audit->looked, &audit->mutex, now_ns + ANSWER_NS);
}

bool audit_available(struct audit *audit)
{
    const bool answers = audit->state == NULL || !state_is_silent(audit->state);
    bool good = true;
    pthread_mutex_lock(&audit->mutex);
    if (audit->has_file) {
        ask(audit);
        const bool reads = audit->reads_asked != audit->reads_done || knows_more(audit);
        good = audit->status == 0 && !is_silent(audit) && audit->held < HELD_MAX / 2 && !reads;
    }
    pthread_mutex_unlock(&audit->mutex);
    return good && answers;
}

bool audit_take_earlier(struct audit *audit, char **lines)
{
    pthread_mutex_lock(&audit->mutex);
    *lines = audit->earlier;
    audit->earlier = NULL;
    const bool all = audit->reads_asked == audit->reads_done;
    pthread_mutex_unlock(&audit->mutex);
    return all;
}

void audit_read_earlier(struct audit *audit)
{
    pthread_mutex_lock(&audit->mutex);
    if (audit->has_file) {
        audit->reads_asked++;
        audit->wanted = true;
        pthread_cond_signal(&audit->called);
    }
    pthread_mutex_unlock(&audit->mutex);
    wait_read(audit);
}

bool audit_was_available(const struct audit *audit)
{
    return audit->status == 0 && !is_silent(audit) &&
           (audit->state == NULL || !state_is_silent(audit->state));
}

/* Locked. Takes the record over. */
static void append(struct audit *audit, struct audit_record *record)
{
    record->tried = record->written = !audit->has_file;
    audit->held += record->size;
    *audit->end = record;
    audit->end = &record->next;
    if (record->written)
        settle(audit, true);
    pthread_cond_signal(&audit->called);
    if (!audit->watching)
        pthread_cond_signal(&audit->waits);
}

/* What is to be told of it, copied; NULL = nothing, or out of memory. */
static struct outcome *copy_outcome(const struct audit *audit, const struct audit_entry *entry)
{
    struct outcome *copy =
        audit->told != NULL && entry->outcome != NULL ? malloc(sizeof *copy) : NULL;
    if (copy != NULL)
        *copy = *entry->outcome;
    return copy;
}

void audit_put(struct audit *audit, const struct audit_entry *entry)
{
    pthread_mutex_lock(&audit->mutex);
    struct outcome *outcome = copy_outcome(audit, entry);
    struct audit_record *record = record_new(entry, outcome);
    const bool taken = record && audit->held + record->size <= HELD_MAX;
    if (!taken && audit->has_file && audit->lost++ == 0)
        log_error("the audit log loses lines file=%s", path_of(audit));
    if (taken)
        append(audit, record);
    else
        publish(audit, entry, outcome, !audit->has_file);
    pthread_mutex_unlock(&audit->mutex);
    if (!taken) {
        free(outcome);
        free(record);
    }
}

void audit_tell(struct audit *audit, void (*told)(void *context, const struct outcome *outcome),
                void *context)
{
    pthread_mutex_lock(&audit->mutex);
    audit->told = told;
    audit->context = context;
    pthread_mutex_unlock(&audit->mutex);
}

void audit_reopen(struct audit *audit)
{
    pthread_mutex_lock(&audit->mutex);
    audit->reopen = true;
    pthread_cond_signal(&audit->called);
    pthread_mutex_unlock(&audit->mutex);
}

int64_t audit_promise_ns(const struct audit *audit)
{
    const int64_t busy_ns = audit->busy_ns;
    return busy_ns != 0 ? busy_ns : CLOCK_NEVER;
}
