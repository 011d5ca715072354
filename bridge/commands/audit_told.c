#include "bridge/commands/audit_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

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

void audit_publish(struct audit *audit, const struct audit_entry *entry, struct outcome *outcome,
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

struct audit_record *audit_first_unpublished(const struct audit *audit)
{
    struct audit_record *record = audit->first;
    while (record != NULL && record->published)
        record = record->next;
    return record;
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
    audit_publish(audit, &record->entry, record->outcome, record->written);
    free(record->outcome);
    record->outcome = NULL;
    record->published = true;
}

void audit_settle(struct audit *audit, bool patient)
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

/* ---- the teller: outcomes do not wait for a disk that hangs ---- */

/* Locked, but for the wait. */
static void wait_for_state(struct audit *audit, uint64_t mark, int64_t until_ns)
{
    pthread_mutex_unlock(&audit->mutex);
    state_settle(audit->state, mark, until_ns);
    pthread_mutex_lock(&audit->mutex);
}

void *audit_teller_run(void *argument)
{
    struct audit *audit = argument;
    pthread_mutex_lock(&audit->mutex);
    while (!audit->closing) {
        struct audit_record *record = audit_first_unpublished(audit);
        const int64_t due_ns = record ? record->put_ns + AUDIT_PATIENCE_NS : CLOCK_NEVER;
        const bool early = clock_awake_ns() < due_ns;
        audit->watching = record != NULL;
        if (record == NULL || (early && !record->tried)) {
            clock_cond_wait_awake(&audit->waits, &audit->mutex, due_ns);
        } else if (early && !is_ready(audit, record)) {
            wait_for_state(audit, record->entry.kept_mark, due_ns);
        } else {
            publish_record(audit, record);
            audit_settle(audit, true);
        }
    }
    pthread_mutex_unlock(&audit->mutex);
    return NULL;
}
