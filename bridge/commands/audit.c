#include "bridge/commands/audit_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

/* Of what is_idle, while there is little room: a day of them is 30 MiB, and each day logrotate
 * may rotate. */
#define IDLE_NS CLOCK_NS_PER_S

enum { HELD_MAX = 1 << 20 /* bytes of records in memory; beyond that a line is lost */ };

/* What is known of the file is good for so long; and so long is waited to know it. */
#define FRESH_NS  (100 * CLOCK_NS_PER_MS)
#define ANSWER_NS (20 * CLOCK_NS_PER_MS)

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
    *record = (struct audit_record){.size = size, .put_ns = clock_awake_ns(), .outcome = outcome};
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
static const char *path_of(const struct audit *audit)
{
    return audit->next != NULL ? audit->next : audit->path;
}

/* ---- where it is, and where it was ---- */

bool audit_move(struct audit *audit, const char *path)
{
    char *next = strdup(path);
    if (next == NULL)
        return false;
    pthread_mutex_lock(&audit->mutex);
    if (*path_of(audit) == '\0') {
        audit->status = AUDIT_NOT_YET;
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
    if (pthread_create(&audit->writer, NULL, audit_writer_run, audit) != 0)
        return false;
    const bool has_teller = pthread_create(&audit->teller, NULL, audit_teller_run, audit) == 0;
    if (!has_teller)
        stop_writer(audit);
    return has_teller;
}

static bool is_silent(const struct audit *audit)
{
    const int64_t busy_ns = audit->busy_ns;
    return busy_ns != 0 && clock_awake_ns() - busy_ns >= AUDIT_SILENCE_NS;
}

/* For the writer's next visit, while its disk answers. */
static void wait_read(struct audit *audit)
{
    pthread_mutex_lock(&audit->mutex);
    const int64_t until_ns = clock_awake_ns() + AUDIT_SILENCE_NS;
    while ((audit->wanted || audit->busy_ns != 0) && !is_silent(audit) &&
           clock_awake_ns() < until_ns)
        clock_cond_wait_awake(&audit->looked, &audit->mutex, until_ns);
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
    audit->status = audit->has_file ? AUDIT_NOT_YET : 0;
    audit->busy_ns = audit->has_file ? clock_awake_ns() : 0;
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
    const int64_t end_ns = clock_awake_ns() + AUDIT_PATIENCE_NS;
    audit->stopping = true;
    pthread_cond_signal(&audit->called);
    while ((!audit->ended || audit_first_unpublished(audit) != NULL) && clock_awake_ns() < end_ns)
        clock_cond_wait_awake(&audit->looked, &audit->mutex, end_ns);
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
    const bool left = audit_has_unwritten(audit, &untried);
    audit_settle(audit, false);
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
    const int64_t looked_ns = audit->looked_ns, now_ns = clock_awake_ns();
    if (audit->busy_ns != 0 || now_ns - looked_ns < FRESH_NS)
        return;
    audit->wanted = true;
    pthread_cond_signal(&audit->called);
    while (audit->looked_ns == looked_ns && clock_awake_ns() < now_ns + ANSWER_NS)
        clock_cond_wait_awake(&audit->looked, &audit->mutex, now_ns + ANSWER_NS);
}

bool audit_available(struct audit *audit)
{
    const bool answers = audit->state == NULL || !state_is_silent(audit->state);
    bool good = true;
    pthread_mutex_lock(&audit->mutex);
    if (audit->has_file) {
        ask(audit);
        const bool reads = audit->reads_asked != audit->reads_done || audit_knows_more(audit);
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
        audit_settle(audit, true);
    pthread_cond_signal(&audit->called);
    if (!audit->watching)
        pthread_cond_signal(&audit->waits);
}

/* Locked. Whether it goes without a line, so that there is room for what counts. */
static bool is_left_out(struct audit *audit, const struct audit_entry *entry)
{
    const int64_t now_ns = clock_awake_ns();
    if (!audit->has_file || !audit->tight || !entry->is_idle)
        return false;
    const bool left_out = now_ns < audit->idle_ns;
    if (left_out)
        audit->left_out++;
    else
        audit->idle_ns = now_ns + IDLE_NS;
    return left_out;
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
    const bool left_out = is_left_out(audit, entry);
    struct audit_record *record = left_out ? NULL : record_new(entry, outcome);
    const bool taken = record && audit->held + record->size <= HELD_MAX;
    if (!taken && !left_out && audit->has_file && audit->lost++ == 0)
        log_error("the audit log loses lines file=%s", path_of(audit));
    if (taken)
        append(audit, record);
    else
        audit_publish(audit, entry, outcome, !audit->has_file);
    pthread_mutex_unlock(&audit->mutex);
    if (!taken) {
        free(outcome);
        free(record);
    }
}

void audit_spare(struct audit *audit, const char *spool, int64_t most)
{
    pthread_mutex_lock(&audit->mutex);
    (void)snprintf(audit->spool, sizeof(audit->spool), "%s", spool);
    audit->spool_most = most;
    pthread_mutex_unlock(&audit->mutex);
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
