#include "bridge/publish/gone.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/mqtt/limits.h"
#include "bridge/publish/ha_document.h"

enum { INFO_MAX = 1 << 16 };

static const char remembered[] = "announced/"; /* and a hash: a topic has that as its text */

struct gone {
    const struct conf *conf;
    struct retained *retained;
    struct state *state;
    bool is_remembered; /* what this run announces */
    bool is_recalled;   /* what earlier ones have */
    unsigned n_parted;  /* that may be gone with the configuration to come */
    char **parted;
    pthread_mutex_t mutex; /* guards what follows */
    char *info;            /* a bridge/info of an earlier run, not yet looked at */
    unsigned n;
    char *topics[RETAINED_GONE_MAX]; /* "" = it is there again */
    bool is_cleared[RETAINED_GONE_MAX];
};

/* ---- the list ---- */

unsigned gone_count(struct gone *gone)
{
    pthread_mutex_lock(&gone->mutex);
    const unsigned n = gone->n;
    pthread_mutex_unlock(&gone->mutex);
    return n;
}

bool gone_topic(struct gone *gone, unsigned index, char topic[TOPIC_MAX + 1])
{
    pthread_mutex_lock(&gone->mutex);
    snprintf(topic, TOPIC_MAX + 1, "%s", gone->topics[index]);
    pthread_mutex_unlock(&gone->mutex);
    return topic[0] != '\0';
}

/* Once. */
static void add(struct gone *gone, const char *topic)
{
    pthread_mutex_lock(&gone->mutex);
    unsigned i = 0;
    while (i < gone->n && strcmp(gone->topics[i], topic) != 0)
        i++;
    if (i == gone->n && i < RETAINED_GONE_MAX && (gone->topics[i] = strdup(topic)) != NULL)
        gone->n++;
    pthread_mutex_unlock(&gone->mutex);
}

/* ---- what is remembered ---- */

static void remember(struct gone *gone, const char *topic, bool is_there)
{
    char key[sizeof(remembered) + 16];
    snprintf(key, sizeof(key), "%s%016llx", remembered,
             (unsigned long long)limits_hash(topic, strlen(topic)));
    if (gone->state != NULL)
        state_put(gone->state, key, is_there ? topic : NULL);
}

void gone_part(struct gone *gone, unsigned number)
{
    char topic[TOPIC_MAX + 1];
    if (!retained_own_topic(gone->retained, number, topic))
        return;
    char **more = realloc(gone->parted, (gone->n_parted + 1) * sizeof(*more));
    if (more == NULL)
        return;
    gone->parted = more;
    if ((more[gone->n_parted] = strdup(topic)) != NULL)
        gone->n_parted++;
}

void gone_renew(struct gone *gone, unsigned number)
{
    char topic[TOPIC_MAX + 1];
    if (!retained_own_topic(gone->retained, number, topic))
        return;
    pthread_mutex_lock(&gone->mutex);
    for (unsigned i = 0; i < gone->n; i++)
        if (strcmp(gone->topics[i], topic) == 0)
            gone->topics[i][0] = '\0';
    pthread_mutex_unlock(&gone->mutex);
    remember(gone, topic, true);
}

static bool has_will(const char *topic)
{
    const char *leaf = strrchr(topic, '/');
    return leaf != NULL && strcmp(leaf, "/status") == 0;
}

bool gone_cleared(struct gone *gone, unsigned index)
{
    char topic[TOPIC_MAX + 1];
    if (!gone_topic(gone, index, topic))
        return false;
    remember(gone, topic, false);
    pthread_mutex_lock(&gone->mutex);
    const bool is_first = !gone->is_cleared[index];
    gone->is_cleared[index] = true;
    pthread_mutex_unlock(&gone->mutex);
    return is_first && has_will(topic);
}

void gone_remember_all(struct gone *gone)
{
    char topic[TOPIC_MAX + 1];
    const bool states = gone->conf->mqtt.version >= 5;
    if (gone->is_remembered)
        return;
    for (unsigned number = 0; number < retained_count(gone->retained); number++)
        if ((states || retained_kind(gone->retained, number) != RETAINED_STATE) &&
            retained_own_topic(gone->retained, number, topic))
            remember(gone, topic, true);
    gone->is_remembered = true;
}

/* ---- what earlier runs have left ---- */

/* A topic that an earlier run has announced, or an earlier configuration. */
static void look_at_former(struct gone *gone, const char *topic)
{
    if (retained_find(gone->retained, topic) < 0)
        add(gone, topic);
}

void gone_renewed(struct gone *gone)
{
    while (gone->n_parted > 0) {
        char *topic = gone->parted[--gone->n_parted];
        look_at_former(gone, topic);
        free(topic);
    }
    free(gone->parted);
    gone->parted = NULL;
}

static void look_at_remembered(void *context, const char *key, const char *text)
{
    struct gone *gone = context;
    (void)key;
    /* What the file says must not become a wildcard, nor somebody else's topic. */
    if (text[0] != '\0' && text[0] != '$' && strpbrk(text, "+#") == NULL &&
        strlen(text) <= TOPIC_MAX)
        look_at_former(gone, text);
}

bool gone_recall(struct gone *gone)
{
    if (gone->is_recalled || gone->state == NULL || !state_is_loaded(gone->state))
        return false;
    gone->is_recalled = true;
    state_each(gone->state, remembered, look_at_remembered, gone);
    return true;
}

/* What was announced of a device of this name and id. That of one which is still there
 * was announced otherwise only by a release that went by names. */
static void look_at_device(struct gone *gone, const char *name, const char *id)
{
    static const char *const leaves[] = {"status", "info", "state", "control", "schedule"};
    const struct conf *conf = gone->conf;
    char topic[TOPIC_MAX + 1];
    const bool left =
        topic_make(topic, conf, name, "status") && retained_find(gone->retained, topic) < 0;
    for (size_t i = 0; left && i < sizeof(leaves) / sizeof(leaves[0]); i++)
        if (topic_make(topic, conf, name, leaves[i]))
            look_at_former(gone, topic);
    if (!left && !conf->ha_enabled)
        return;
    if (id[0] != '\0' ? ha_document_topic_device(topic, conf, id)
                      : ha_document_topic_by_name(topic, conf, name))
        look_at_former(gone, topic);
}

/* The bridge/info of an earlier run names its devices: where no state file does. */
bool gone_look_at_info(struct gone *gone)
{
    char name[DEVICE_NAME_MAX + 1], id[DEVICE_ID_MAX + 1];
    unsigned index = 0;
    const unsigned n = gone_count(gone);
    pthread_mutex_lock(&gone->mutex);
    char *info = gone->info;
    gone->info = NULL;
    pthread_mutex_unlock(&gone->mutex);
    while (info != NULL && ha_document_next_former(info, &index, name, id))
        look_at_device(gone, name, id);
    free(info);
    return gone_count(gone) > n;
}

void gone_keep_info(struct gone *gone, const struct mqtt_arrival *arrival)
{
    char *copy =
        arrival->payload_size <= INFO_MAX ? strndup(arrival->payload, arrival->payload_size) : NULL;
    pthread_mutex_lock(&gone->mutex);
    if (gone->info == NULL) {
        gone->info = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&gone->mutex);
    free(copy);
}

/* ---- beginning and end ---- */

struct gone *gone_new(const struct conf *conf, struct retained *retained, struct state *state)
{
    struct gone *gone = calloc(1, sizeof(*gone));
    if (gone == NULL)
        return NULL;
    gone->conf = conf;
    gone->retained = retained;
    gone->state = state;
    pthread_mutex_init(&gone->mutex, NULL);
    (void)gone_recall(gone);
    return gone;
}

void gone_free(struct gone *gone)
{
    if (gone == NULL)
        return;
    for (unsigned i = 0; i < gone->n; i++)
        free(gone->topics[i]);
    for (unsigned i = 0; i < gone->n_parted; i++)
        free(gone->parted[i]);
    free(gone->parted);
    free(gone->info);
    pthread_mutex_destroy(&gone->mutex);
    free(gone);
}
