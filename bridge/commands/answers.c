#include "bridge/commands/answers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/commands/answered.h"

struct answers {
    const struct conf *conf;
    struct audit *audit;
    struct health *health;
    bool caught_up;              /* with the audit log of earlier runs */
    bool *fresh;                 /* by device; those that it is read for */
    struct answered *answered[]; /* per device; NULL for those that take no commands */
};

/* The audit log of earlier runs, read from its beginning. */
struct replay {
    struct answers *answers;
    size_t n, room;
    char **later; /* lines of a time that is still to come */
};

/* An outcome of an earlier run, as if it were of that age. */
static void add(struct answers *answers, const char *device, const char *id, const char *payload,
                int64_t age_ms)
{
    int index = answers_find_device(answers, device);
    if (index >= 0 && answers->answered[index] != NULL && answers->fresh[index] &&
        age_ms < INT64_MAX / CLOCK_NS_PER_MS)
        (void)answered_add(answers->answered[index], id, payload,
                           clock_mono_ns() - age_ms * CLOCK_NS_PER_MS);
}

/* Those that came before a line of this age are no younger than it. */
static void add_later(struct replay *replay, int64_t age_ms)
{
    char device[COMMAND_NAME_MAX + 1];
    char id[COMMAND_ID_MAX + 1];
    int64_t ts_ms;
    char *payload;
    for (size_t i = 0; i < replay->n; i++) {
        if (outcome_json_parse_audit(replay->later[i], device, id, &ts_ms, &payload)) {
            add(replay->answers, device, id, payload, age_ms);
            free(payload);
        }
        free(replay->later[i]);
    }
    replay->n = 0;
}

/* False when out of memory. */
static bool keep_for_later(struct replay *replay, const char *line)
{
    if (replay->n == replay->room) {
        const size_t room = 2 * replay->room + 16;
        char **grown = realloc(replay->later, room * sizeof(*grown));
        if (grown == NULL)
            return false;
        replay->later = grown;
        replay->room = room;
    }
    char *copy = strdup(line);
    if (copy != NULL)
        replay->later[replay->n++] = copy;
    return copy != NULL;
}

/* A line of a time that is still to come, or never was, was written before the clock was set
 * back: how old it is, the next line that has been tells, or else nobody. */
static void take_line(struct replay *replay, const char *line)
{
    char device[COMMAND_NAME_MAX + 1];
    char id[COMMAND_ID_MAX + 1];
    int64_t ts_ms;
    char *payload;
    if (!outcome_json_parse_audit(line, device, id, &ts_ms, &payload))
        return;
    int64_t age_ms = ts_ms >= 0 ? clock_utc_ms() - ts_ms : -1;
    if (age_ms >= 0 || !keep_for_later(replay, line)) {
        age_ms = age_ms > 0 ? age_ms : 0;
        add_later(replay, age_ms);
        add(replay->answers, device, id, payload, age_ms);
    }
    free(payload);
}

static void take_lines(struct answers *answers, char *lines)
{
    struct replay replay = {.answers = answers};
    for (const char *line; (line = strsep(&lines, "\n")) != NULL;)
        take_line(&replay, line);
    add_later(&replay, 0);
    free(replay.later);
}

/* What was answered since is younger, and is not to give way to what is read. Without memory for
 * that it stands in front of it. */
static void take_in_order(struct answers *answers, char *lines)
{
    const unsigned n = answers->conf->devices.n_devices;
    struct answered **since = calloc(n + 1, sizeof(struct answered *)); /* there may be none */
    for (unsigned i = 0; since != NULL && i < n; i++) {
        struct answered *begun =
            answers->fresh[i] && answers->answered[i] != NULL ? answered_new() : NULL;
        if (begun == NULL)
            continue;
        since[i] = answers->answered[i];
        answers->answered[i] = begun;
    }
    take_lines(answers, lines);
    for (unsigned i = 0; since != NULL && i < n; i++)
        if (since[i] != NULL)
            answered_join(answers->answered[i], since[i]);
    free(since);
}

void answers_catch_up(struct answers *answers)
{
    char *lines;
    const bool all = audit_take_earlier(answers->audit, &lines);
    if (lines != NULL)
        take_in_order(answers, lines);
    free(lines);
    answers->caught_up = all;
}

struct answers *answers_new(const struct conf *conf, struct audit *audit, struct health *health)
{
    const struct device_list *list = &conf->devices;
    struct answers *answers =
        calloc(1, sizeof(*answers) + list->n_devices * sizeof(struct answered *));
    if (answers == NULL)
        return NULL;
    answers->conf = conf;
    answers->audit = audit;
    answers->health = health;
    answers->fresh = calloc(list->n_devices, sizeof(*answers->fresh));
    bool good = answers->fresh != NULL;
    for (unsigned i = 0; good && i < list->n_devices; i++) {
        answers->fresh[i] = device_takes_commands(&list->devices[i]);
        if (answers->fresh[i])
            good = (answers->answered[i] = answered_new()) != NULL;
    }
    if (!good) {
        answers_free(answers);
        return NULL;
    }
    answers_catch_up(answers);
    return answers;
}

void answers_free(struct answers *answers)
{
    if (answers == NULL)
        return;
    for (unsigned i = 0; i < answers->conf->devices.n_devices; i++)
        answered_free(answers->answered[i]);
    free(answers->fresh);
    free(answers);
}

bool answers_renew(struct answers *answers, const bool *others, bool another_log)
{
    const struct device_list *list = &answers->conf->devices;
    bool good = true, any = another_log;
    answers_catch_up(answers);
    for (unsigned i = 0; good && i < list->n_devices; i++) {
        struct answered **answered = &answers->answered[i];
        if (others[i]) {
            answered_free(*answered);
            *answered = NULL;
        }
        const bool begins = *answered == NULL && device_takes_commands(&list->devices[i]);
        answers->fresh[i] = begins || another_log || (answers->fresh[i] && !answers->caught_up);
        any = any || begins;
        if (begins)
            good = (*answered = answered_new()) != NULL;
    }
    if (any)
        audit_read_earlier(answers->audit);
    answers_catch_up(answers);
    return good;
}

int answers_find_device(const struct answers *answers, const char *name)
{
    const struct device_list *list = &answers->conf->devices;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (device_is_there(&list->devices[i]) && strcmp(list->devices[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

const char *answers_first(const struct answers *answers, int device, const char *id)
{
    if (device < 0 || answers->answered[device] == NULL)
        return NULL;
    return answered_find(answers->answered[device], id);
}

bool answers_crowded(const struct answers *answers, int device, int64_t now_ns)
{
    return device >= 0 && answers->answered[device] != NULL &&
           answered_full(answers->answered[device], now_ns);
}

/* Hands finished texts to the audit log, which publishes them; `outcome` NULL: of one that
 * was told before. */
static void hand_on(struct answers *answers, const struct command *command,
                    const struct outcome *outcome, const char *payload, const char *line)
{
    const int device = answers_find_device(answers, command->device_name);
    const struct return_address *address = &command->address;
    char topic[TOPIC_MAX + 1];
    if (payload == NULL || line == NULL) {
        log_error("out of memory for an outcome device=%s", command->device_name);
        return;
    }
    if (!topic_make(topic, answers->conf, command->device_name, "result")) {
        log_warning("no result topic: the device's name is too long");
        return;
    }
    bool elsewhere = topic_may_answer(answers->conf, address->response_topic);
    struct audit_entry entry = {
        .ticket = address->ticket,
        .is_last = outcome != NULL && device >= 0 && answers->answered[device] != NULL,
        .line = line,
        .topic = topic,
        .payload = payload,
        .response_topic = elsewhere ? address->response_topic : NULL,
        .correlation = address->correlation,
        .correlation_size = address->correlation_size,
        .is_idle = outcome == NULL || outcome->kind == OUTCOME_REFUSED,
        .kept_mark = outcome != NULL ? outcome->kept_mark : 0,
        .outcome = outcome,
    };
    if (entry.is_last) {
        entry.device = (unsigned)device;
        entry.takeover = takeover_by(&answers->conf->devices.devices[device], outcome);
    }
    audit_put(answers->audit, &entry);
}

/* Each command and what came of it is one line. What could not be read is "null" there, too:
 * a value of 0 would be a stop. */
static void log_outcome(const struct outcome *outcome)
{
    const struct command *command = &outcome->command;
    const char *why = outcome_why(outcome);
    char number[32] = "null";
    if (command->offers) {
        if (command->revision >= 0)
            (void)snprintf(number, sizeof number, "%lld", (long long)command->revision);
        log_info("schedule device=%s revision=%s outcome=%s%s%s id=\"%s\" source=\"%s\"",
                 command->device_name, number, outcome_word(outcome->kind),
                 why[0] != '\0' ? " reason=" : "", why, command->id, command->source);
        return;
    }
    if (command->has_value)
        (void)snprintf(number, sizeof number, "%.15g", command->value);
    log_info("command device=%s point=%s value=%s outcome=%s%s%s%s id=\"%s\" source=\"%s\"",
             command->device_name, command->point_name, number, outcome_word(outcome->kind),
             why[0] != '\0' ? " reason=" : "", why, outcome->correction ? " correction=true" : "",
             command->id, command->source);
}

/* A repetition of a command still under way, and one that was malformed, are
 * refused, but are not what their id is remembered by. Nor is a schedule: it has its
 * revision, and its id may be the same again. */
static bool is_remembered(const struct outcome *outcome)
{
    return !outcome->correction && outcome->command.id[0] != '\0' && !outcome->command.offers &&
           !(outcome->kind == OUTCOME_REFUSED &&
             (outcome->reason == REASON_DUPLICATE || outcome->reason == REASON_MALFORMED));
}

void answers_send(struct answers *answers, const struct outcome *outcome)
{
    const struct command *command = &outcome->command;
    char *payload = outcome_json(outcome);
    char *line = outcome_json_audit(outcome);
    const int device = answers_find_device(answers, command->device_name);
    struct answered *answered = device >= 0 ? answers->answered[device] : NULL;

    if (!outcome->correction || outcome->kind == OUTCOME_LOST)
        health_count(&answers->health->outcomes[outcome->kind]);
    if (outcome->kind == OUTCOME_REFUSED)
        health_count(&answers->health->refusals[outcome->reason]);
    if (answered != NULL && payload != NULL && is_remembered(outcome) &&
        !answered_add(answered, command->id, payload, outcome->done_ns))
        log_error("out of memory to remember a command device=%s", command->device_name);
    log_outcome(outcome);
    hand_on(answers, command, outcome, payload, line);
    free(payload);
    free(line);
}

void answers_repeat(struct answers *answers, const struct command *command, const char *first)
{
    char told[OUTCOME_JSON_TOLD_MAX + 1];
    char *payload = outcome_json_repeat(first, told);
    health_count(&answers->health->refusals[REASON_DUPLICATE]);
    log_info("command device=%s point=%s %s duplicate=true id=\"%s\" source=\"%s\"",
             command->device_name, command->point_name, told, command->id, command->source);
    hand_on(answers, command, NULL, payload, payload);
    free(payload);
}
