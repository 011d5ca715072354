#include "bridge/commands/answered.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/wire/outcome_json.h"

enum { BUCKETS = 4096 };

/* In two lists at once: by age, and by the hash of its id. */
struct answered_entry {
    struct answered_entry *younger;
    struct answered_entry *same_bucket;
    int64_t done_ns;
    const char *payload; /* behind the id in `text`, or what took its place */
    char *later;         /* that; NULL = nothing did */
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

static void free_entry(struct answered_entry *entry)
{
    free(entry->later);
    free(entry);
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
    free_entry(entry);
}

void answered_free(struct answered *answered)
{
    if (answered == NULL)
        return;
    while (answered->oldest != NULL)
        forget_oldest(answered);
    free(answered);
}

static struct answered_entry *find(const struct answered *answered, const char *id)
{
    struct answered_entry *at = answered->buckets[bucket_of(id)];
    while (at != NULL && strcmp(at->text, id) != 0)
        at = at->same_bucket;
    return at;
}

const char *answered_find(const struct answered *answered, const char *id)
{
    const struct answered_entry *entry = find(answered, id);
    return entry != NULL ? entry->payload : NULL;
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

/* Takes it over, and forgets what is old. */
static void append(struct answered *answered, struct answered_entry *entry)
{
    struct answered_entry **bucket = &answered->buckets[bucket_of(entry->text)];
    entry->same_bucket = *bucket;
    entry->younger = NULL;
    *bucket = entry;
    if (answered->youngest != NULL)
        answered->youngest->younger = entry;
    else
        answered->oldest = entry;
    answered->youngest = entry;
    answered->count++;
    const int64_t now_ns = entry->done_ns;
    while (answered->count > ANSWERED_LAST && answered->oldest != NULL &&
           (answered->count > ANSWERED_MOST || !is_young(answered->oldest, now_ns)))
        forget_oldest(answered);
}

/* Once more an outcome of an id that is known: the first stays, unless it was not what came
 * of the command. False when out of memory. */
static bool add_again(struct answered_entry *known, const char *payload)
{
    if (!outcome_json_is_aside(known->payload) || outcome_json_is_aside(payload))
        return true;
    char *copy = strdup(payload);
    if (copy == NULL)
        return false;
    free(known->later);
    known->payload = known->later = copy;
    return true;
}

void answered_join(struct answered *answered, struct answered *later)
{
    for (struct answered_entry *entry = later->oldest, *next; entry != NULL; entry = next) {
        struct answered_entry *known = find(answered, entry->text);
        next = entry->younger;
        if (known == NULL) {
            append(answered, entry);
            continue;
        }
        if (known->done_ns < entry->done_ns)
            known->done_ns = entry->done_ns;
        (void)add_again(known, entry->payload);
        free_entry(entry);
    }
    free(later);
}

bool answered_add(struct answered *answered, const char *id, const char *payload, int64_t done_ns)
{
    struct answered_entry *known = find(answered, id);
    if (known != NULL)
        return add_again(known, payload);
    size_t id_size = strlen(id) + 1;
    size_t payload_size = strlen(payload) + 1;
    struct answered_entry *entry = malloc(sizeof(*entry) + id_size + payload_size);
    if (entry == NULL)
        return false;
    *entry = (struct answered_entry){.done_ns = done_ns, .payload = entry->text + id_size};
    memcpy(entry->text, id, id_size);
    memcpy(entry->text + id_size, payload, payload_size);
    append(answered, entry);
    return true;
}
