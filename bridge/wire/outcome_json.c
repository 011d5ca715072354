#include "bridge/wire/outcome_json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/wire/json_text.h"

/* The moments of a command are measured on the monotonic clock from its arrival. */
static int64_t utc_at(const struct command *command, int64_t mono_ns)
{
    return command->utc_ms + (mono_ns - command->mono_ns) / CLOCK_NS_PER_MS;
}

static void set(json_t *root, const char *key, json_t *value)
{
    json_object_set_new(root, key, value);
}

/* Why, in one word and in a sentence. */
static void put_reason(json_t *root, const struct outcome *outcome)
{
    const bool refused = outcome->kind == OUTCOME_REFUSED;
    const char *detail = outcome->detail;
    if (outcome_why(outcome)[0] != '\0')
        set(root, "reason", json_string(outcome_why(outcome)));
    if (detail[0] == '\0' && refused)
        detail = reason_hint(outcome->reason);
    if (detail[0] != '\0')
        set(root, "detail", json_text_or_null(detail));
}

static json_t *outcome_object(const struct outcome *outcome)
{
    const struct command *command = &outcome->command;
    const double latency_ms =
        (double)(outcome->done_ns - command->mono_ns) / (double)CLOCK_NS_PER_MS;
    json_t *root = json_object();
    set(root, "id", command->id[0] != '\0' ? json_string(command->id) : json_null());
    set(root, "device", json_text_or_null(command->device_name));
    set(root, "point", json_text_or_null(command->point_name));
    set(root, "value", command->has_value ? json_text_number(command->value) : json_null());
    set(root, "outcome", json_string(outcome_word(outcome->kind)));
    put_reason(root, outcome);
    if (command->offers && command->revision >= 0)
        set(root, "revision", json_integer(command->revision));
    if (outcome->has_readback)
        set(root, "readback", json_text_number(outcome->readback));
    set(root, "ts", json_integer(utc_at(command, outcome->done_ns)));
    set(root, "latency_ms", json_real(round(latency_ms * 1e3) / 1e3));
    if (command->source[0] != '\0')
        set(root, "source", json_text_or_null(command->source));
    if (outcome->correction)
        set(root, "correction", json_true());
    return root;
}

char *outcome_json(const struct outcome *outcome)
{
    return json_text_dump(outcome_object(outcome));
}

/* Whoever it says that it is. */
static const char *author_word(enum command_author author)
{
    static const char *const words[] = {[AUTHOR_DISPATCHER] = "dispatcher",
                                        [AUTHOR_TOOL] = "tool",
                                        [AUTHOR_DEADMAN] = "deadman",
                                        [AUTHOR_EXIT] = "exit",
                                        [AUTHOR_SCHEDULE] = "schedule"};
    return words[author];
}

char *outcome_json_audit(const struct outcome *outcome)
{
    const struct command *command = &outcome->command;
    json_t *root = outcome_object(outcome);
    json_t *words = json_array();
    for (unsigned i = 0; i < outcome->n_words; i++)
        json_array_append_new(words, json_integer(outcome->words[i]));
    set(root, "author", json_string(author_word(command->author)));
    set(root, "received", json_integer(command->utc_ms));
    if (outcome->judged_ns != 0)
        set(root, "judged", json_integer(utc_at(command, outcome->judged_ns)));
    if (outcome->written_ns != 0)
        set(root, "written", json_integer(utc_at(command, outcome->written_ns)));
    set(root, "registers", words);
    if (command->user_source[0] != '\0')
        set(root, "user_source", json_text_or_null(command->user_source));
    if (command->user_traceparent[0] != '\0')
        set(root, "traceparent", json_text_or_null(command->user_traceparent));
    return json_text_dump(root);
}

char *outcome_json_repeat(const char *payload, char told[OUTCOME_JSON_TOLD_MAX + 1])
{
    json_t *root = json_loads(payload, 0, NULL);
    const char *word = json_string_value(json_object_get(root, "outcome"));
    const json_t *value = json_object_get(root, "value");
    char number[32] = "null";
    if (json_is_number(value))
        (void)snprintf(number, sizeof number, "%.15g", json_number_value(value));
    (void)snprintf(told, OUTCOME_JSON_TOLD_MAX + 1, "value=%s outcome=%s", number,
                   word != NULL ? word : "");
    if (root != NULL)
        json_object_set_new(root, "duplicate", json_true());
    return json_text_dump(root);
}

bool outcome_json_is_aside(const char *payload)
{
    json_t *root = json_loads(payload, 0, NULL);
    const char *outcome = json_string_value(json_object_get(root, "outcome"));
    const char *reason = json_string_value(json_object_get(root, "reason"));
    bool aside = false;
    for (enum reason i = REASON_RETAINED; outcome != NULL && reason != NULL && i < REASON_DUPLICATE;
         i++)
        aside = aside || strcmp(reason, reason_word(i)) == 0;
    aside = aside && strcmp(outcome, outcome_word(OUTCOME_REFUSED)) == 0;
    json_decref(root);
    return aside;
}

bool outcome_json_parse_audit(const char *line, char device[COMMAND_NAME_MAX + 1],
                              char id[COMMAND_ID_MAX + 1], int64_t *ts_ms, char **payload)
{
    static const char *const trace[] = {"author",    "received",    "judged",     "written",
                                        "registers", "user_source", "traceparent"};
    json_t *root = json_loads(line, 0, NULL);
    const char *of = json_string_value(json_object_get(root, "device"));
    const char *name = json_string_value(json_object_get(root, "id"));
    const json_t *ts = json_object_get(root, "ts");
    const char *reason = json_string_value(json_object_get(root, "reason"));
    bool passing = reason != NULL && (strcmp(reason, reason_word(REASON_MALFORMED)) == 0 ||
                                      strcmp(reason, reason_word(REASON_DUPLICATE)) == 0);
    bool good = of != NULL && strlen(of) <= COMMAND_NAME_MAX && name != NULL &&
                strlen(name) <= COMMAND_ID_MAX && json_is_integer(ts) && !passing &&
                json_object_get(root, "duplicate") == NULL &&
                json_object_get(root, "correction") == NULL &&
                json_object_get(root, "revision") == NULL; /* a schedule has no other */
    if (!good) {
        json_decref(root);
        return false;
    }
    memcpy(device, of, strlen(of) + 1);
    memcpy(id, name, strlen(name) + 1);
    *ts_ms = json_integer_value(ts);
    for (size_t i = 0; i < sizeof(trace) / sizeof(*trace); i++)
        json_object_del(root, trace[i]);
    *payload = json_text_dump(root);
    return *payload != NULL;
}
