#include "bridge/commands/answered.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096 };

/* In two lists at once: by age, and by the hash of its id. */
struct answered_entry {
    struct answered_entry *younger;
    struct answered_entry *same_bucket;
    int64_t done_ns;
    const char *payload; /* behind the id in `text` */
    char text[];
};

struct answered {
    unsigned count;
    struct answered_entry *oldest;
    struct answered_entry *youngest;
    struct answered_entry *buckets[BUCKETS];
};

/* FNV-1a (draft-eastlake-fnv): ids are short and come from the site itself. */
static unsigned bucket_of(const char *id)
{
    uint32_t hash = 2166136261U;
    for (; *id != '\0'; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619U;
    return hash % BUCKETS;
}

struct answered *answered_new(void)
{
    return calloc(1, sizeof(struct answered));
}

static void forget_oldest(struct answered *answered)
{
    struct answered_entry *entry = answered->oldest;
    if (entry == NULL)
        return;
    struct answered_entry **at = &answered->buckets[bucket_of(entry->text)];
    while (*at != NULL && *at != entry)
        at = &(*at)->same_bucket;
    *at = entry->same_bucket;
    answered->oldest = entry->younger;
    if (answered->oldest == NULL)
        answered->youngest = NULL;
    answered->count--;
    free(entry);
}

void answered_free(struct answered *answered)
{
    if (answered == NULL)
        return;
    while (answered->oldest != NULL)
        forget_oldest(answered);
    free(answered);
}

const char *answered_find(const struct answered *answered, const char *id)
{
    for (const struct answered_entry *at = answered->buckets[bucket_of(id)]; at != NULL;
         at = at->same_bucket) {
        if (strcmp(at->text, id) == 0)
            return at->payload;
    }
    return NULL;
}

static bool is_young(const struct answered_entry *entry, int64_t now_ns)
{
    return now_ns - entry->done_ns <= ANSWERED_NS;
}

bool answered_full(const struct answered *answered, int64_t now_ns)
{
    return answered->count >= ANSWERED_MOST && answered->oldest != NULL &&
           is_young(answered->oldest, now_ns);
}

bool answered_add(struct answered *answered, const char *id, const char *payload, int64_t done_ns)
{
    if (answered_find(answered, id) != NULL)
        return true;
    size_t id_size = strlen(id) + 1;
    size_t payload_size = strlen(payload) + 1;
    struct answered_entry *entry = malloc(sizeof(*entry) + id_size + payload_size);
    if (entry == NULL)
        return false;
    struct answered_entry **bucket = &answered->buckets[bucket_of(id)];
    *entry = (struct answered_entry){
        .same_bucket = *bucket,
        .done_ns = done_ns,
        .payload = entry->text + id_size,
    };
    memcpy(entry->text, id, id_size);
    memcpy(entry->text + id_size, payload, payload_size);
    *bucket = entry;
    if (answered->youngest != NULL)
        answered->youngest->younger = entry;
    else
        answered->oldest = entry;
    answered->youngest = entry;
    answered->count++;
    while (answered->count > ANSWERED_LAST && answered->oldest != NULL &&
           (answered->count > ANSWERED_MOST || !is_young(answered->oldest, done_ns)))
        forget_oldest(answered);
    return true;
}
