#include "bridge/publish/node_post.h"

#include <stdio.h>
#include <stdlib.h>

#include "bridge/base/clock.h"

#define BDSEQ     "bdSeq"
#define STATE_KEY "sparkplug/bdseq"
#define KEEP_NS   CLOCK_NS_PER_S

enum { BDSEQ_END = 256, SEQ_END = 256, WITHOUT_SEQ = -1 };

const char *node_post_name(const struct conf *conf)
{
    return conf->sparkplug.node[0] != '\0' ? conf->sparkplug.node : conf->site;
}

bool node_post_topic(const struct conf *conf, const char *type, const char *device,
                     char topic[TOPIC_MAX + 1])
{
    int length =
        snprintf(topic, TOPIC_MAX + 1, NODE_NAMESPACE "/%s/%s/%s%s%s", conf->sparkplug.group, type,
                 node_post_name(conf), device != NULL ? "/" : "", device != NULL ? device : "");
    return length > 0 && length <= TOPIC_MAX;
}

/* ---- bdSeq and the Will ---- */

static struct sparkplug_metric bdseq_metric(const struct node_post *post,
                                            struct sparkplug_value *value)
{
    *value = (struct sparkplug_value){.integer = post->bdseq};
    return (struct sparkplug_metric){
        .name = BDSEQ,
        .ts_ms = clock_utc_ms(),
        .type = SPARKPLUG_INT64,
        .value = value,
        .quality = SPARKPLUG_NO_QUALITY,
    };
}

static void make_will(struct node_post *post)
{
    char text[8];
    struct sparkplug_value value;
    size_t size;
    post->bdseq = (post->bdseq + 1) % BDSEQ_END;
    (void)snprintf(text, sizeof(text), "%u", post->bdseq);
    if (post->state != NULL && state_put(post->state, STATE_KEY, text))
        post->mark = state_mark(post->state);
    post->patience_ns = clock_awake_ns() + KEEP_NS;
    const struct sparkplug_metric metric = bdseq_metric(post, &value);
    void *bytes = sparkplug_encode(metric.ts_ms, WITHOUT_SEQ, &metric, 1, &size);
    if (bytes != NULL)
        mqtt_set_will(post->mqtt, bytes, size, false);
    free(bytes);
}

void node_post_begin(struct node_post *post, const struct conf *conf, struct state *state,
                     struct mqtt *mqtt, uint32_t seed)
{
    char text[8];
    *post = (struct node_post){.conf = conf, .state = state, .mqtt = mqtt, .bdseq = BDSEQ_END - 1};
    if (state != NULL && state_get(state, STATE_KEY, text, sizeof(text)))
        post->bdseq = (unsigned)strtoul(text, NULL, 10) % BDSEQ_END;
    else if (state != NULL && !state_is_loaded(state))
        post->bdseq = seed % BDSEQ_END;
    make_will(post);
}

void node_post_end(struct node_post *post, bool anew)
{
    free(post->letter.bytes);
    post->letter.bytes = NULL;
    if (anew)
        make_will(post);
}

bool node_post_may_connect(const struct node_post *post, int64_t awake_ns)
{
    return post->state == NULL || awake_ns >= post->patience_ns ||
           state_is_kept(post->state, post->mark);
}

/* ---- sending ---- */

/* Tries to send what the session did not take. */
static bool is_through(struct node_post *post)
{
    struct node_letter *letter = &post->letter;
    const struct mqtt_message message = {.topic = letter->topic,
                                         .payload = letter->bytes,
                                         .payload_size = letter->size,
                                         .qos = 0,
                                         .plain = true};
    if (letter->bytes != NULL && mqtt_publish(post->mqtt, &message, letter->ticket)) {
        free(letter->bytes);
        letter->bytes = NULL;
    }
    return letter->bytes == NULL;
}

bool node_post_has_room(struct node_post *post, unsigned n)
{
    if (is_through(post) && mqtt_room(post->mqtt) >= n)
        return true;
    atomic_store(&post->crowded, true);
    return is_through(post) && mqtt_room(post->mqtt) >= n; /* a place may just have been left */
}

static bool send(struct node_post *post, const char *type, const char *device, int seq,
                 const struct sparkplug_metric *metrics, unsigned n, uint64_t ticket)
{
    struct node_letter *letter = &post->letter;
    if (!node_post_has_room(post, 1))
        return false;
    letter->ticket = ticket;
    if (node_post_topic(post->conf, type, device, letter->topic))
        letter->bytes = sparkplug_encode(clock_utc_ms(), seq, metrics, n, &letter->size);
    (void)is_through(post);
    return true;
}

bool node_post_send(struct node_post *post, const char *type, const char *device,
                    const struct sparkplug_metric *metrics, unsigned n, uint64_t ticket)
{
    if (!send(post, type, device, (int)post->seq, metrics, n, ticket))
        return false;
    post->seq = (post->seq + 1) % SEQ_END;
    return true;
}

bool node_post_birth(struct node_post *post)
{
    struct sparkplug_value values[2] = {{.is_null = false}};
    struct sparkplug_metric metrics[2] = {bdseq_metric(post, &values[0])};
    metrics[1] = (struct sparkplug_metric){
        .name = NODE_REBIRTH,
        .ts_ms = metrics[0].ts_ms,
        .type = SPARKPLUG_BOOLEAN,
        .value = &values[1],
        .quality = SPARKPLUG_NO_QUALITY,
    };
    post->seq = 0;
    return node_post_send(post, "NBIRTH", NULL, metrics, 2, 0);
}

bool node_post_death(struct node_post *post)
{
    struct sparkplug_value value;
    const struct sparkplug_metric metric = bdseq_metric(post, &value);
    return send(post, "NDEATH", NULL, WITHOUT_SEQ, &metric, 1, 0);
}
