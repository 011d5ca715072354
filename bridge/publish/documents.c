#include "bridge/publish/documents.h"

#include <pthread.h>
#include <stdlib.h>

#include "bridge/base/clock.h"

enum { PAUSE_DOUBLINGS = 6, WRONG_DOUBLINGS = 9 };

enum { SETTLED, CALLED, IN_FLIGHT };

/* There are some for each value of each device. */
struct document {
    int64_t due_ns;
    int64_t again_ns; /* due then, when called again */
    int64_t wrong_ns; /* when to call it for that */
    int64_t sent_ns;
    uint64_t sent, delivered; /* hashes; 0 = never */
    uint8_t state;
    uint8_t n_later;
    uint8_t n_wrong; /* how often it was put right, at most WRONG_DOUBLINGS */
    bool again;      /* called while in flight */
    bool wrong;      /* what was seen last is not what was sent last */
};

struct documents {
    pthread_mutex_t mutex;
    int64_t next_ns;  /* before then none is due */
    unsigned looked;  /* of those with lower numbers, of thousands, none is due */
    int64_t below_ns; /* until then */
    int64_t wrong_ns; /* before then none is to be put right */
    unsigned end;     /* above all numbers in use */
    unsigned most;
    struct document list[];
};

struct documents *documents_new(unsigned most)
{
    struct documents *documents = calloc(1, sizeof(*documents) + most * sizeof(struct document));
    if (documents == NULL)
        return NULL;
    pthread_mutex_init(&documents->mutex, NULL);
    documents->next_ns = documents->below_ns = documents->wrong_ns = CLOCK_NEVER;
    documents->most = most;
    return documents;
}

void documents_free(struct documents *documents)
{
    if (documents == NULL)
        return;
    pthread_mutex_destroy(&documents->mutex);
    free(documents);
}

static void sooner(int64_t *a_ns, int64_t b_ns)
{
    if (b_ns < *a_ns)
        *a_ns = b_ns;
}

/* Under the lock, as all of these. */
static void set_called(struct documents *documents, struct document *document)
{
    document->state = CALLED;
    sooner(&documents->next_ns, document->due_ns);
    if (document < &documents->list[documents->looked])
        sooner(&documents->below_ns, document->due_ns);
}

static void call(struct documents *documents, struct document *document, int64_t due_ns)
{
    if (document->state == IN_FLIGHT) {
        document->again_ns =
            document->again && document->again_ns < due_ns ? document->again_ns : due_ns;
        document->again = true;
        return;
    }
    if (document->state == SETTLED || due_ns < document->due_ns)
        document->due_ns = due_ns;
    set_called(documents, document);
}

void documents_call(struct documents *documents, unsigned number, int64_t due_ns)
{
    pthread_mutex_lock(&documents->mutex);
    if (number >= documents->end)
        documents->end = number + 1;
    call(documents, &documents->list[number], due_ns);
    pthread_mutex_unlock(&documents->mutex);
}

void documents_reset(struct documents *documents, unsigned first, unsigned end)
{
    pthread_mutex_lock(&documents->mutex);
    for (unsigned i = first; i < end && i < documents->end; i++) {
        struct document *document = &documents->list[i];
        document->state = SETTLED;
        document->again = document->wrong = false;
        document->n_later = 0;
        document->delivered = 0;
    }
    pthread_mutex_unlock(&documents->mutex);
}

bool documents_take(struct documents *documents, int64_t now_ns, unsigned *number)
{
    bool found = false;
    pthread_mutex_lock(&documents->mutex);
    const bool any = now_ns >= documents->next_ns;
    if (any && now_ns >= documents->below_ns) {
        documents->looked = 0;
        documents->below_ns = CLOCK_NEVER;
    }
    while (any && !found && documents->looked < documents->end) {
        struct document *document = &documents->list[documents->looked++];
        found = document->state == CALLED && document->due_ns <= now_ns;
        if (found) {
            document->state = IN_FLIGHT;
            *number = documents->looked - 1;
        } else if (document->state == CALLED) {
            sooner(&documents->below_ns, document->due_ns);
        }
    }
    if (any && !found) { /* all have been looked at */
        documents->next_ns = documents->below_ns;
        documents->looked = 0;
        documents->below_ns = CLOCK_NEVER;
    }
    pthread_mutex_unlock(&documents->mutex);
    return found;
}

static void land(struct documents *documents, struct document *document)
{
    document->state = SETTLED;
    if (document->again)
        call(documents, document, document->again_ns);
    document->again = false;
}

void documents_return(struct documents *documents, unsigned number)
{
    struct document *document = &documents->list[number];
    pthread_mutex_lock(&documents->mutex);
    document->again = false;
    set_called(documents, document);
    pthread_mutex_unlock(&documents->mutex);
}

void documents_sent(struct documents *documents, unsigned number, uint64_t hash)
{
    pthread_mutex_lock(&documents->mutex);
    documents->list[number].sent = hash;
    documents->list[number].sent_ns = clock_mono_ns();
    pthread_mutex_unlock(&documents->mutex);
}

void documents_drop(struct documents *documents, unsigned number)
{
    pthread_mutex_lock(&documents->mutex);
    land(documents, &documents->list[number]);
    pthread_mutex_unlock(&documents->mutex);
}

void documents_ack(struct documents *documents, unsigned number, enum mqtt_fate fate,
                   int64_t now_ns)
{
    struct document *document = &documents->list[number];
    pthread_mutex_lock(&documents->mutex);
    if (document->state != IN_FLIGHT)
        goto done;
    land(documents, document);
    if (fate == MQTT_DELIVERED) {
        document->delivered = document->sent;
        document->n_later = 0;
    } else if (fate == MQTT_LATER) {
        unsigned doublings =
            document->n_later < PAUSE_DOUBLINGS ? document->n_later++ : PAUSE_DOUBLINGS;
        call(documents, document, now_ns + (CLOCK_NS_PER_S << doublings));
    }
done:
    pthread_mutex_unlock(&documents->mutex);
}

/* When it may be sent again; one that was left alone for twice that long is as new. */
static int64_t again_ns(struct document *document, bool large, int64_t now_ns)
{
    const int64_t pause_ns = DOCUMENTS_AGAIN_NS << document->n_wrong;
    if (!large || now_ns - document->sent_ns > 2 * pause_ns)
        document->n_wrong = 0;
    return document->sent_ns + (DOCUMENTS_AGAIN_NS << document->n_wrong);
}

bool documents_seen(struct documents *documents, unsigned number, uint64_t hash, bool large,
                    int64_t now_ns)
{
    struct document *document = &documents->list[number];
    pthread_mutex_lock(&documents->mutex);
    /* What has not been sent in this session will be. */
    bool wrong = document->delivered != 0 && hash != document->sent;
    if (wrong && !document->wrong) {
        const int64_t not_before_ns = again_ns(document, large, now_ns);
        document->wrong_ns = now_ns + DOCUMENTS_WRONG_NS;
        if (document->wrong_ns < not_before_ns)
            document->wrong_ns = not_before_ns;
        sooner(&documents->wrong_ns, document->wrong_ns);
    }
    document->wrong = wrong;
    pthread_mutex_unlock(&documents->mutex);
    return wrong;
}

bool documents_next_wrong(struct documents *documents, int64_t now_ns, unsigned *number)
{
    bool found = false;
    int64_t next_ns = CLOCK_NEVER;
    pthread_mutex_lock(&documents->mutex);
    if (now_ns < documents->wrong_ns)
        goto done;
    for (unsigned i = 0; i < documents->end; i++) {
        struct document *document = &documents->list[i];
        if (!document->wrong)
            continue;
        if (!found && document->wrong_ns <= now_ns) {
            document->wrong = false;
            if (document->n_wrong < WRONG_DOUBLINGS)
                document->n_wrong++;
            call(documents, document, now_ns);
            *number = i;
            found = true;
        } else {
            sooner(&next_ns, document->wrong_ns);
        }
    }
    documents->wrong_ns = next_ns;
done:
    pthread_mutex_unlock(&documents->mutex);
    return found;
}

int64_t documents_due_ns(struct documents *documents)
{
    pthread_mutex_lock(&documents->mutex);
    int64_t due_ns = documents->next_ns;
    sooner(&due_ns, documents->wrong_ns);
    pthread_mutex_unlock(&documents->mutex);
    return due_ns;
}

bool documents_is_settled(struct documents *documents, unsigned number)
{
    const struct document *document = &documents->list[number];
    pthread_mutex_lock(&documents->mutex);
    bool settled = document->state == SETTLED && document->delivered != 0 &&
                   document->delivered == document->sent;
    pthread_mutex_unlock(&documents->mutex);
    return settled;
}
