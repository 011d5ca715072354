#include "bridge/commands/answers.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/log.h"
#include "bridge/commands/answered.h"

struct answers {
    const struct conf *conf;
    struct audit *audit;
    struct health *health;
    struct answered *answered[]; /* per device; NULL for those that take no commands */
};

/* A line of the audit log: an outcome of an earlier run. */
static void remember(void *context, const char *line)
{
    struct answers *reply = context;
    char device[COMMAND_NAME_MAX + 1];
    char id[COMMAND_ID_MAX + 1];
    int64_t ts_ms;
    char *payload;
    if (!outcome_json_parse_audit(line, device, id, &ts_ms, &payload))
        return;
    int index = answers_find_device(reply, device);
    if (index >= 0 && reply->answered[index] != NULL)
        (void)answered_add(reply->answered[index], id, payload, ts_ms);
    free(payload);
}

struct answers *answers_new(const struct conf *conf, struct audit *audit, struct health *health)
{
    const struct device_list *list = &conf->devices;
    struct answers *reply = calloc(1, sizeof(*reply) + list->n_devices * sizeof(struct answered *));
    if (reply == NULL)
        return NULL;
    reply->conf = conf;
    reply->audit = audit;
    reply->health = health;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (!list->devices[i].controllable)
            continue;
        reply->answered[i] = answered_new();
        if (reply->answered[i] == NULL) {
            answers_free(reply);
            return NULL;
        }
    }
    audit_replay(conf->audit_path, remember, reply);
    return reply;
}

void answers_free(struct answers *reply)
{
    if (reply == NULL)
        return;
    for (unsigned i = 0; i < reply->conf->devices.n_devices; i++)
        answered_free(reply->answered[i]);
    free(reply);
}

int answers_find_device(const struct answers *reply, const char *name)
{
    const struct device_list *list = &reply->conf->devices;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (strcmp(list->devices[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

const char *answers_first(const struct answers *reply, int device, const char *id)
{
    if (device < 0 || reply->answered[device] == NULL)
        return NULL;
    return answered_find(reply->answered[device], id);
}

bool answers_crowded(const struct answers *reply, int device, int64_t utc_ms)
{
    return device >= 0 && reply->answered[device] != NULL &&
           answered_full(reply->answered[device], utc_ms);
}

/* Hands finished texts to the audit log, which publishes them. */
static void hand_on(struct answers *reply, const char *node, const char *payload, const char *line,
                    const struct reply_address *address)
{
    char topic[TOPIC_MAX + 1];
    if (payload == NULL || line == NULL) {
        log_error("out of memory for an outcome device=%s", node);
        return;
    }
    if (!topic_make(topic, reply->conf, node, "result")) {
        log_warning("no result topic: the device's name is too long");
        return;
    }
    bool elsewhere = address->response_topic[0] != '\0' &&
                     topic_may_answer(reply->conf, address->response_topic);
    struct audit_entry entry = {
        .line = line,
        .topic = topic,
        .payload = payload,
        .response_topic = elsewhere ? address->response_topic : NULL,
        .correlation = address->correlation,
        .correlation_size = address->correlation_size,
    };
    audit_put(reply->audit, &entry);
}

void answers_send(struct answers *reply, const char *node, const struct outcome *outcome,
                  const struct wire_trace *trace, const struct reply_address *address)
{
    char *payload = outcome_json(outcome);
    char *line = outcome_json_audit(outcome, trace);
    const int device = answers_find_device(reply, node);
    struct answered *answered = device >= 0 ? reply->answered[device] : NULL;

    if (!outcome->correction)
        health_count(&reply->health->outcomes[outcome->kind]);
    if (outcome->kind == OUTCOME_REFUSED)
        health_count(&reply->health->refusals[outcome->reason]);
    /* A repetition of a command still under way is refused, but its id is to
     * be remembered by the command's own outcome. */
    bool repeats = outcome->kind == OUTCOME_REFUSED && outcome->reason == REASON_DUPLICATE;
    if (answered != NULL && outcome->has_id && payload != NULL && !repeats &&
        !answered_add(answered, outcome->id, payload, outcome->ts_ms))
        log_error("out of memory to remember a command device=%s", node);
    hand_on(reply, node, payload, line, address);
    free(payload);
    free(line);
}

void answers_repeat(struct answers *reply, const char *node, const char *first,
                    const struct reply_address *address)
{
    char *payload = outcome_json_repeat(first);
    health_count(&reply->health->refusals[REASON_DUPLICATE]);
    hand_on(reply, node, payload, payload, address);
    free(payload);
}
