#include "bridge/commands/answered.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096 };

/* In two lists at once: by age, and by the hash of its id. */
struct entry {
    struct entry *younger;
    struct entry *same_bucket;
    int64_t utc_ms;
    const char *payload; /* behind the id in `text` */
    char text[];
};

struct recall {
    unsigned count;
    struct entry *oldest;
    struct entry *youngest;
    struct entry *buckets[BUCKETS];
};

/* FNV-1a (draft-eastlake-fnv): ids are short and come from the site itself. */
static unsigned bucket_of(const char *id)
{
    uint32_t hash = 2166136261U;
    for (; *id != '\0'; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619U;
    return hash % BUCKETS;
}

struct recall *recall_new(void)
{
    return calloc(1, sizeof(struct recall));
}

static void forget_oldest(struct recall *recall)
{
    struct entry *entry = recall->oldest;
    if (entry == NULL)
        return;
    struct entry **at = &recall->buckets[bucket_of(entry->text)];
    while (*at != NULL && *at != entry)
        at = &(*at)->same_bucket;
    *at = entry->same_bucket;
    recall->oldest = entry->younger;
    if (recall->oldest == NULL)
        recall->youngest = NULL;
    recall->count--;
    free(entry);
}

void recall_free(struct recall *recall)
{
    if (recall == NULL)
        return;
    while (recall->oldest != NULL)
        forget_oldest(recall);
    free(recall);
}

const char *recall_find(const struct recall *recall, const char *id)
{
    for (const struct entry *at = recall->buckets[bucket_of(id)]; at != NULL;
         at = at->same_bucket) {
        if (strcmp(at->text, id) == 0)
            return at->payload;
    }
    return NULL;
}

static bool is_young(const struct entry *entry, int64_t utc_ms)
{
    return utc_ms - entry->utc_ms <= RECALL_MS;
}

bool recall_full(const struct recall *recall, int64_t utc_ms)
{
    return recall->count >= RECALL_MOST && recall->oldest != NULL &&
           is_young(recall->oldest, utc_ms);
}

bool recall_add(struct recall *recall, const char *id, const char *payload, int64_t utc_ms)
{
    if (recall_find(recall, id) != NULL)
        return true;
    size_t id_size = strlen(id) + 1;
    size_t payload_size = strlen(payload) + 1;
    struct entry *entry = malloc(sizeof(*entry) + id_size + payload_size);
    if (entry == NULL)
        return false;
    struct entry **bucket = &recall->buckets[bucket_of(id)];
    *entry = (struct entry){
        .same_bucket = *bucket,
        .utc_ms = utc_ms,
        .payload = entry->text + id_size,
    };
    memcpy(entry->text, id, id_size);
    memcpy(entry->text + id_size, payload, payload_size);
    *bucket = entry;
    if (recall->youngest != NULL)
        recall->youngest->younger = entry;
    else
        recall->oldest = entry;
    recall->youngest = entry;
    recall->count++;
    while (recall->count > RECALL_LAST && recall->oldest != NULL &&
           (recall->count > RECALL_MOST || !is_young(recall->oldest, utc_ms)))
        forget_oldest(recall);
    return true;
}
